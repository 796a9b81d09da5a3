"""An image with its levels, turned upright and with the cord found: what every picture is made of.

Arrays have the axes right, anterior, superior (nibabel's RAS, SCT's LPI), whatever the file's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import InputImage, load_image, load_labels
from sct_rootlets_task.io.label_values import inside_mask
from sct_rootlets_task.io.orientation import Reorientation, on_grid
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.rootlets.slice_centers import mask_center, rootlets_center

MARGIN_MM = 18.0
"""How far beyond the outermost levels the pictures reach along the cord."""

_NEAR_MM = 16.0
_SAMPLE = 4_000_000


@dataclass(frozen=True, eq=False)
class Scene:
    """An image, its level map and where the cord runs.

    Parameters
    ----------
    image : ndarray of float32, shape (x, y, z)
        Intensities; axes right, anterior, superior.
    labels : ndarray of uint8, same shape
        Level of each voxel.
    affine : ndarray of float, shape (4, 4)
        Index of these arrays to world mm.
    spacing : tuple of float
        Voxel sizes in mm along the three axes.
    center : ndarray of float, shape (z, 2)
        Index (x, y) of the cord's center in each axial slice.
    located : bool
        Whether the center was found; otherwise it is the middle of the image.
    region : slice
        Axial slices to show.
    reach : float
        Half the side of an axial view in mm.
    window : tuple of (float, float)
        Intensities shown black and white.
    source : InputImage
        The image as read.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, ...]
    center: np.ndarray
    located: bool
    region: slice
    reach: float
    window: tuple[float, float]
    source: InputImage

    @cached_property
    def counts(self) -> np.ndarray:
        """Voxels of each label value in each axial slice, shape (256, z); those of 0 left out."""
        here = np.flatnonzero(self.labels)
        slices = self.labels.shape[2]
        places = self.labels.ravel()[here].astype(np.intp) * slices + here % slices
        return np.bincount(places, minlength=256 * slices).reshape(256, slices)

    @property
    def levels(self) -> tuple[int, ...]:
        """Label values present, ascending."""
        return tuple(int(value) for value in np.flatnonzero(self.counts.any(axis=1)))

    def slices_of(self, level: int) -> np.ndarray:
        """Return the axial slices that have voxels of a level, ascending."""
        return np.flatnonzero(self.counts[level])

    def shade(self, plane: np.ndarray) -> np.ndarray:
        """Return intensities between black (0) and white (1)."""
        low, high = self.window
        return np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1)


def label_name(value: int) -> str:
    """Return a level's name, or the bare value for one that is no level.

    Examples
    --------
    >>> label_name(9), label_name(50)
    ('T1', '50')
    """
    return value_name(value).removeprefix("value ")


def load_scene(image: Path, segmentation: Path, around: Path | None = None) -> Scene:
    """Read an image and its level map, and find the cord.

    Parameters
    ----------
    image : Path
        NIfTI image.
    segmentation : Path
        Level map on the grid of the image; it may be empty.
    around : Path, optional
        Mask on the same grid, see :func:`load_mask`, that the views are centered on and made wide
        enough for. Without it they are centered between the levels.

    Raises
    ------
    ImageError
        If a file cannot be read, the grids differ or the mask is empty.
    """
    source = load_image(image, constant=True)
    voxels, affine = _upright(source)
    labels = np.ascontiguousarray(_on_grid(load_labels(segmentation), source), dtype=np.uint8)
    mask = labels != 0
    if around is not None:
        mask = _on_grid(load_mask(around), source)
    spacing = Reorientation.to_sct(source.affine, "LPI").forward_spacing(source.spacing)
    located = bool(mask.any())
    if not located:
        center = np.tile([(n - 1) / 2 for n in mask.shape[:2]], (mask.shape[2], 1))
    elif around is not None:
        center = mask_center(mask)
    else:
        center = rootlets_center(mask, spacing)
    region = _region(labels if labels.any() else mask, spacing[2])
    return Scene(
        image=voxels,
        labels=labels,
        affine=affine,
        spacing=spacing,
        center=center,
        located=located,
        region=region,
        reach=_reach(mask if around is not None else None, center, spacing),
        window=_window(voxels, center[region].mean(axis=0), spacing, region if located else None),
        source=source,
    )


def load_mask(path: Path) -> InputImage:
    """Read a mask, one of probabilities too.

    Parameters
    ----------
    path : Path
        NIfTI file of one 3-D volume; what lies above 0.5 is inside.

    Returns
    -------
    InputImage
        Its data are bool.

    Raises
    ------
    ImageError
        If it cannot be read or nothing is inside.
    """
    image = load_image(path, constant=True)
    inside = inside_mask(image.data)
    if not inside.any():
        highest = float(image.data.max())
        raise ImageError(
            f"The mask {path} has no voxel inside: expected 1, or more than 0.5 in a soft mask, "
            f"found no value above {highest:g}. Give a mask of the cord or canal, or none."
        )
    return replace(image, data=inside)


def require_mask(mask: Path, *images: Path) -> None:
    """Find out, before anything is run, whether views can be centered on a mask.

    Parameters
    ----------
    mask : Path
        The mask (``-qc-seg``).
    *images : Path
        Images whose grid it has to share; one that cannot be read is left to its own run.

    Raises
    ------
    ImageError
        If the mask cannot be read, is empty or lies on another grid.
    """
    given = load_mask(mask)
    for path in images:
        try:
            image = load_image(path, constant=True)
        except ImageError:
            continue
        _on_grid(given, image)


def _upright(image: InputImage) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and affine with the axes right, anterior, superior."""
    way = Reorientation.to_sct(image.affine, "LPI")
    return way.forward(image.data), way.forward_affine(image.affine, image.data.shape)


def _on_grid(labels: InputImage, image: InputImage) -> np.ndarray:
    """Return a label map or mask upright, after making sure that it lies on the image's grid."""
    voxels = on_grid(
        labels.data,
        labels.affine,
        shape=image.data.shape,
        target=image.affine,
        expected=f"one grid for {image.path} and {labels.path}",
        advice="Give one that was made on this very image.",
    )
    return Reorientation.to_sct(image.affine, "LPI").forward(voxels)


def _region(mask: np.ndarray, spacing: float) -> slice:
    """Return the slices with labels and a margin, or all."""
    present = np.flatnonzero(mask.any(axis=(0, 1)))
    if not len(present):
        return slice(0, mask.shape[2])
    margin = max(1, round(MARGIN_MM / spacing))
    return slice(
        max(0, int(present[0]) - margin), min(mask.shape[2], int(present[-1]) + margin + 1)
    )


def _reach(mask: np.ndarray | None, center: np.ndarray, spacing: tuple[float, ...]) -> float:
    """Return half the side of an axial view: around the canal, or around all of a given mask."""
    if mask is None or not mask.any():
        return _NEAR_MM
    x, y, z = np.nonzero(mask)
    far = np.abs(np.stack([x, y], axis=1) - center[z]) * spacing[:2]
    return float(max(_NEAR_MM, far.max() + 2))


def _window(
    voxels: np.ndarray, center: np.ndarray, spacing: tuple[float, ...], rows: slice | None
) -> tuple[float, float]:
    """Return black and white: white is the brightest tissue around the cord (CSF on T2w)."""
    sample = voxels.ravel()[:: max(1, voxels.size // _SAMPLE)].astype(np.float64)
    low, high = (float(value) for value in np.percentile(sample, (1, 99.5)))
    if rows is not None:
        reach = [max(1, round(_NEAR_MM / size)) for size in spacing[:2]]
        x, y = center.round().astype(int)
        near = voxels[
            max(0, x - reach[0]) : x + reach[0] + 1, max(0, y - reach[1]) : y + reach[1] + 1, rows
        ]
        high = float(np.percentile(near.astype(np.float64), 99.7))
    if high <= low:
        low, high = float(voxels.min()), float(voxels.max())
    # One value everywhere is shown black.
    return low, high if high > low else low + (abs(low) or 1.0)
