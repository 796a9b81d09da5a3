"""One picture of a level map over its image, for a quick look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError, MissingDependencyError
from sct_rootlets_task.files import atomic_output
from sct_rootlets_task.images import InputImage, load_image, load_labels
from sct_rootlets_task.levels import level_name
from sct_rootlets_task.luts import level_colour
from sct_rootlets_task.orientation import Reorientation

_AXIAL_RADIUS_MM = 16.0
_MARGIN_MM = 15.0
_INK, _PAPER = "#e8e8e8", "#111111"


@dataclass(frozen=True, eq=False)
class _Scene:
    """Image and labels with axes (right, anterior, superior) and voxel sizes in mm."""

    image: np.ndarray
    labels: np.ndarray
    spacing: tuple[float, ...]

    def centre_per_slice(self) -> np.ndarray:
        """Return (x, y) of the rootlets' centre for each axial slice, shape (slices, 2)."""
        found = np.argwhere(self.labels)
        slices = np.arange(self.labels.shape[2])
        if not len(found):
            middle = [(n - 1) / 2 for n in self.labels.shape[:2]]
            return np.tile(middle, (len(slices), 1))
        present = np.unique(found[:, 2])
        means = np.array([found[found[:, 2] == z, :2].mean(axis=0) for z in present])
        degree = min(3, len(present) - 1)
        fits = [np.polyfit(present, means[:, axis], degree) for axis in (0, 1)]
        inside = np.clip(slices, present[0], present[-1])
        return np.stack([np.polyval(fit, inside) for fit in fits], axis=1)

    def extent(self) -> slice:
        """Return the axial slices to show: those with labels and a margin, or all."""
        present = np.flatnonzero(self.labels.any(axis=(0, 1)))
        if not len(present):
            return slice(0, self.labels.shape[2])
        margin = round(_MARGIN_MM / self.spacing[2])
        return slice(max(0, present[0] - margin), present[-1] + margin + 1)


def draw(image: Path, segmentation: Path, output: Path) -> Path:
    """Draw a level map over its image: coronal, sagittal, and one axial slice a level.

    Parameters
    ----------
    image : Path
        NIfTI image.
    segmentation : Path
        Level map on the same grid.
    output : Path
        PNG to write.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    ImageError
        If the two files are not on one grid.
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "Pictures need matplotlib, which is not installed. Install it with: "
            "pip install 'sct-rootlets-task[picture]'"
        ) from error
    scene = _scene(load_image(image), load_labels(segmentation))
    figure = Figure(figsize=(11, 5), facecolor=_PAPER, dpi=110)
    grid = figure.add_gridspec(
        2,
        6,
        width_ratios=(1.5, 1.5, 1, 1, 1, 1),
        left=0.01,
        right=0.99,
        top=0.88,
        bottom=0.02,
        wspace=0.03,
        hspace=0.15,
    )
    _draw_coronal(figure.add_subplot(grid[:, 0]), scene)
    _draw_sagittal(figure.add_subplot(grid[:, 1]), scene)
    levels = [int(level) for level in np.unique(scene.labels) if level]
    for number, level in enumerate(levels[:8]):
        _draw_axial(figure.add_subplot(grid[number // 4, 2 + number % 4]), scene, level)
    figure.suptitle(segmentation.name, color=_INK, fontsize=11)
    with atomic_output(output) as temporary:
        figure.savefig(temporary, format="png", facecolor=_PAPER)
    return output


def _scene(image: InputImage, labels: InputImage) -> _Scene:
    if image.data.shape != labels.data.shape or not np.allclose(
        image.affine, labels.affine, atol=1e-3
    ):
        raise ImageError(
            f"Expected one grid, found {image.data.shape} in {image.path} and {labels.data.shape} "
            f"(or another affine) in {labels.path}. Give the segmentation of this very image."
        )
    way = Reorientation.to_sct(image.affine, "LPI")
    values = way.forward(labels.data).astype(np.uint8)
    scene = _Scene(way.forward(image.data), values, way.forward_spacing(image.spacing))
    return _Scene(_scaled(scene), values, scene.spacing)


def _scaled(scene: _Scene) -> np.ndarray:
    """Return the intensities with the brightest tissue around the cord (CSF on T2w) at 1."""
    rows = scene.extent()
    x, y = scene.centre_per_slice()[rows].mean(axis=0).astype(int)
    reach = [round(_AXIAL_RADIUS_MM / size) for size in scene.spacing[:2]]
    near = scene.image[
        max(0, x - reach[0]) : x + reach[0] + 1, max(0, y - reach[1]) : y + reach[1] + 1, rows
    ]
    low, high = np.percentile(scene.image, 1), np.percentile(near, 99.7)
    return np.clip((scene.image - low) / max(high - low, 1e-6), 0, 1)


def _colours(labels: np.ndarray) -> np.ndarray:
    """Return labels as colours with transparency, shape labels.shape + (4,), 0–1."""
    table = np.zeros((256, 4))
    for level in np.unique(labels[labels != 0]):
        table[level] = (*(value / 255 for value in level_colour(int(level))), 0.85)
    return table[labels]


def _draw_coronal(axes: Any, scene: _Scene) -> None:
    """Show the plane that follows the cord, with all labels projected onto it."""
    centre = scene.centre_per_slice()[:, 1].round().astype(int)
    slices = np.arange(scene.labels.shape[2])
    plane = scene.image[:, np.clip(centre, 0, scene.image.shape[1] - 1), slices]
    _show(axes, scene, plane, scene.labels.max(axis=1), (0, "coronal", "R", "L"))


def _draw_sagittal(axes: Any, scene: _Scene) -> None:
    x = round(float(np.median(scene.centre_per_slice()[:, 0])))
    plane = scene.image[min(max(x, 0), scene.image.shape[0] - 1)]
    _show(axes, scene, plane, scene.labels.max(axis=0), (1, "sagittal", "A", "P"))


def _show(
    axes: Any, scene: _Scene, plane: np.ndarray, labels: np.ndarray, view: tuple[int, str, str, str]
) -> None:
    """Show a plane of shape (in-plane axis, slices), superior up, R or A on the left."""
    axis, title, left, right = view
    rows = scene.extent()
    aspect = scene.spacing[2] / scene.spacing[axis]
    centre = scene.centre_per_slice()[rows, axis].mean()
    reach = 0.5 * (rows.stop - rows.start) * scene.spacing[2] / scene.spacing[axis] * 0.40
    for layer, options in ((plane, {"cmap": "gray", "vmin": 0, "vmax": 1}), (_colours(labels), {})):
        shown = np.swapaxes(layer[:, rows], 0, 1)
        axes.imshow(shown, origin="lower", aspect=aspect, interpolation="nearest", **options)
    # Radiological convention: the patient's right (and front) is on the left of the picture.
    axes.set_xlim(centre + reach, centre - reach)
    for position, letter in ((0.03, left), (0.93, right)):
        axes.text(position, 0.01, letter, color=_INK, fontsize=8, transform=axes.transAxes)
    axes.set_title(title, color=_INK, fontsize=9)
    axes.axis("off")


def _draw_axial(axes: Any, scene: _Scene, level: int) -> None:
    """Show the slice with most voxels of a level, around the cord."""
    z = int((scene.labels == level).sum(axis=(0, 1)).argmax())
    x, y = scene.centre_per_slice()[z]
    radius = [_AXIAL_RADIUS_MM / size for size in scene.spacing[:2]]
    aspect = scene.spacing[1] / scene.spacing[0]
    axes.imshow(scene.image[:, :, z].T, origin="lower", cmap="gray", vmin=0, vmax=1, aspect=aspect)
    axes.imshow(
        np.swapaxes(_colours(scene.labels[:, :, z]), 0, 1),
        origin="lower",
        aspect=aspect,
        interpolation="nearest",
    )
    axes.set_xlim(x + radius[0], x - radius[0])
    axes.set_ylim(y - radius[1], y + radius[1])
    colour = [value / 255 for value in level_colour(level)]
    axes.set_title(level_name(level), color=colour, fontsize=10, fontweight="bold")
    axes.axis("off")
