"""Views of a scene as two layers of one size: the image in gray, the levels above it.

Every view is in the radiological convention: right (or anterior) on the left of the picture,
anterior (or superior) at its top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc.scene import Scene, label_name

TILES = 7
"""Axial slices shown of each level, at most."""

TILE_PX = 160
_WHOLE_MM = 70.0
_PIXEL_MM = 0.22
_MAX_PX = 900
# What is shown beside the cord: left and right, behind and ahead (with the vertebral bodies).
_BESIDE_MM = ((20.0, 20.0), (17.0, 30.0))
_SMOOTH_UP_TO_MM = 2.0
_PAD_MM = 3.0
_EDGE_PX = 2
# Known to the pages' script, too.
_SCALES_MM = (1, 2, 5, 10, 20, 50, 100, 200)
_SCALE_SHARE = 0.35


@dataclass(frozen=True, eq=False)
class Layers:
    """One view.

    Parameters
    ----------
    gray : ndarray of uint8, shape (rows, columns)
        The image.
    labels : ndarray of uint8, same shape
        Level of each pixel, 0 for none.
    pixel_mm : float
        Side of a pixel in mm.
    """

    gray: np.ndarray
    labels: np.ndarray
    pixel_mm: float


@dataclass(frozen=True)
class Row:
    """Axial slices of one level, or of the place where levels are missing.

    Parameters
    ----------
    levels : tuple of int
        The label value, or all that are missing there; empty in an image without levels.
    slices : tuple of int
        Axial slices, from top to bottom of the body, counted from the inferior end.
    found : bool
        Whether the level is there.
    """

    levels: tuple[int, ...]
    slices: tuple[int, ...]
    found: bool

    @property
    def name(self) -> str:
        """Name of the level, or of the first and the last one missing."""
        return "–".join(dict.fromkeys(label_name(v) for v in (*self.levels[:1], *self.levels[-1:])))


@dataclass(frozen=True)
class _Frame:
    """The part of a plane to show: its center (index), half its size (mm), the pixel size (mm)."""

    center: tuple[float, float]
    half: tuple[float, float]
    pixel: float

    @property
    def size(self) -> tuple[int, int]:
        columns, rows = (max(1, round(2 * half / self.pixel)) for half in self.half)
        return columns, rows


def axial_rows(scene: Scene, expected: Sequence[int] = ()) -> tuple[Row, ...]:
    """Choose the axial slices that show each level, and each level that is missing.

    Parameters
    ----------
    scene : Scene
        The image.
    expected : sequence of int
        Levels there should be; those missing between two levels found get a row as well.

    Returns
    -------
    tuple of Row
        By level; one row of evenly spread slices when there is no level at all.
    """
    levels = scene.levels
    if not levels:
        z = np.linspace(scene.region.start, scene.region.stop - 1, 4 * TILES)
        slices = np.unique(z.round().astype(int))[::-1]
        parts = np.array_split(slices, math.ceil(len(slices) / TILES))
        return tuple(Row((), tuple(map(int, part)), found=False) for part in parts)
    rows = [Row((level,), _slices_of(scene, level), found=True) for level in levels]
    for above, below in pairwise(levels):
        missing = tuple(v for v in expected if above < v < below)
        if missing:
            rows.append(Row(missing, _slices_between(scene, above, below), found=False))
    return tuple(sorted(rows, key=lambda row: row.levels))


def _slices_of(scene: Scene, level: int) -> tuple[int, ...]:
    present = scene.slices_of(level)
    first, last = int(present[0]), int(present[-1])
    if last - first + 1 < TILES:
        pad = max(1, round(_PAD_MM / scene.spacing[2]))
        while last - first + 1 < TILES and pad:
            first, last, pad = first - 1, last + 1, pad - 1
    return _spread(scene, first, last)


def _slices_between(scene: Scene, above: int, below: int) -> tuple[int, ...]:
    """Return slices from the middle of a level to the middle of the next one found."""
    ends = [int(np.median(scene.slices_of(level))) for level in (above, below)]
    return _spread(scene, min(ends), max(ends))


def _spread(scene: Scene, first: int, last: int) -> tuple[int, ...]:
    first, last = max(0, first), min(scene.image.shape[2] - 1, last)
    chosen = np.linspace(last, first, min(TILES, last - first + 1))
    return tuple(dict.fromkeys(int(z) for z in chosen.round()))


def mosaic(scene: Scene, rows: Sequence[Row]) -> Layers:
    """Draw the axial slices of all rows below one another, centered on the cord."""
    columns = max(len(row.slices) for row in rows)
    blank = np.zeros((TILE_PX, TILE_PX), np.uint8)
    lines = []
    for row in rows:
        tiles = [axial(scene, z, TILE_PX) for z in row.slices]
        tiles += [replace(tiles[0], gray=blank, labels=blank)] * (columns - len(tiles))
        lines.append(
            [np.concatenate([getattr(t, n) for t in tiles], 1) for n in ("gray", "labels")]
        )
    gray, labels = (np.concatenate(layer, axis=0) for layer in zip(*lines, strict=True))
    for layer in (gray, labels):
        for pixel in range(_EDGE_PX):
            layer[pixel::TILE_PX], layer[:, TILE_PX - 1 - pixel :: TILE_PX] = 0, 0
    return Layers(gray, labels, tiles[0].pixel_mm)


def axial(scene: Scene, z: int, size: int) -> Layers:
    """Draw one axial slice around the cord, or the whole slice when the cord was not found.

    Parameters
    ----------
    scene : Scene
        The image.
    z : int
        Axial slice.
    size : int
        Side of the picture in pixels.
    """
    half = scene.reach
    if not scene.located:
        sides = [n * s for n, s in zip(scene.image.shape[:2], scene.spacing[:2], strict=True)]
        half = min(max(sides) / 2, _WHOLE_MM)
    x, y = scene.center[z]
    frame = _Frame((float(x), float(y)), (half, half), 2 * half / size)
    return _view(scene, scene.image[:, :, z], scene.labels[:, :, z], (0, 1), frame)


def coronal(scene: Scene) -> Layers:
    """Draw the coronal plane that follows the cord, with all levels projected onto it."""
    plane = _along_cord(scene.image, scene.center[:, 1], axis=1)
    return _lengthwise(scene, plane, axis=0)


def sagittal(scene: Scene) -> Layers:
    """Draw the sagittal plane that follows the cord, with all levels projected onto it."""
    plane = _along_cord(scene.image, scene.center[:, 0], axis=0)
    return _lengthwise(scene, plane, axis=1)


def _along_cord(image: np.ndarray, center: np.ndarray, axis: int) -> np.ndarray:
    """Return the plane (in-plane axis, z) at a position that changes from slice to slice."""
    last = image.shape[axis] - 1
    low = np.clip(np.floor(center).astype(int), 0, last)
    high, share = np.clip(low + 1, 0, last), np.clip(center - low, 0, 1)
    slices = np.arange(image.shape[2])
    planes = [
        image[low, :, slices] if axis == 0 else image[:, low, slices].T,
        image[high, :, slices] if axis == 0 else image[:, high, slices].T,
    ]
    return ((1 - share)[:, None] * planes[0] + share[:, None] * planes[1]).T


def _lengthwise(scene: Scene, plane: np.ndarray, axis: int) -> Layers:
    """Draw a plane (axis, z) around the cord with the projection of the levels."""
    region, size = scene.region, scene.spacing[axis]
    low, high = -0.5, plane.shape[0] - 0.5
    if scene.located:
        line = scene.center[region, axis]
        behind, ahead = (max(part, scene.reach) / size for part in _BESIDE_MM[axis])
        low, high = max(low, line.min() - behind), min(high, line.max() + ahead)
    half = (high - low) / 2 * size, (region.stop - region.start) / 2 * scene.spacing[2]
    center = (low + high) / 2, (region.start + region.stop - 1) / 2
    frame = _Frame(center, half, max(_PIXEL_MM, 2 * max(half) / _MAX_PX))
    return _view(scene, plane, scene.labels.max(axis=1 - axis), (axis, 2), frame)


def _view(
    scene: Scene, plane: np.ndarray, labels: np.ndarray, axes: tuple[int, int], frame: _Frame
) -> Layers:
    """Cut the frame out of a plane whose two axes both ascend."""
    pillow = require_pillow()
    spacing = scene.spacing[axes[0]], scene.spacing[axes[1]]
    shade = _cut(scene.shade(plane).astype(np.float32), spacing, frame, pillow.Resampling.BICUBIC)
    gray = np.clip(shade * 255, 0, 255).round().astype(np.uint8)
    return Layers(gray, _cut(labels, spacing, frame, pillow.Resampling.NEAREST), frame.pixel)


def _cut(
    plane: np.ndarray, spacing: tuple[float, float], frame: _Frame, resampling: Any
) -> np.ndarray:
    """Return the frame as a picture, black outside the image.

    Thick voxels keep their edges: a blend over several millimeters would show what is not there.
    """
    pillow = require_pillow()
    center = list(frame.center)
    sizes = list(spacing)
    for axis in (0, 1):
        if spacing[axis] > _SMOOTH_UP_TO_MM:
            times = math.ceil(spacing[axis] / frame.pixel)
            plane = np.repeat(plane, times, axis=axis)
            center[axis] = (center[axis] + 0.5) * times - 0.5
            sizes[axis] /= times
    picture = plane[::-1, ::-1].T
    middle = [n - (c + 0.5) for n, c in zip(plane.shape, center, strict=True)]
    half = [h / size for h, size in zip(frame.half, sizes, strict=True)]
    pads = [
        (max(0, math.ceil(h - m)) + 1, max(0, math.ceil(m + h - n)) + 1)
        for m, h, n in zip(middle, half, plane.shape, strict=True)
    ]
    picture = np.pad(picture, (pads[1], pads[0]))
    x, y = (m + pad[0] for m, pad in zip(middle, pads, strict=True))
    box = (x - half[0], y - half[1], x + half[0], y + half[1])
    return np.asarray(pillow.fromarray(picture).resize(frame.size, resampling, box=box))


def scale_mm(width_mm: float) -> int:
    """Return the length of a scale bar: the longest round one of at most 35 % of a width, or 0.

    Examples
    --------
    >>> scale_mm(32), scale_mm(150), scale_mm(1)
    (10, 50, 0)
    """
    return max((mm for mm in _SCALES_MM if mm <= width_mm * _SCALE_SHARE), default=0)


def blend(layers: Layers, opacity: float = 0.8) -> np.ndarray:
    """Return a view in color, uint8, shape (rows, columns, 3).

    Parameters
    ----------
    layers : Layers
        The view.
    opacity : float
        Of the levels, 0 to 1.
    """
    colors = np.array(_palette()).reshape(256, 3)[layers.labels].astype(np.float32)
    cover = (layers.labels != 0)[:, :, None] * opacity
    return (layers.gray[:, :, None] * (1 - cover) + colors * cover).round().astype(np.uint8)


def gray_picture(layers: Layers) -> Any:
    """Return the image layer as a Pillow image."""
    return require_pillow().fromarray(layers.gray)


def label_picture(layers: Layers) -> Any:
    """Return the levels as a Pillow image with a palette and a transparent background."""
    picture = require_pillow().fromarray(layers.labels).convert("P")
    picture.putpalette(_palette())
    picture.info["transparency"] = 0
    return picture


def _palette() -> list[int]:
    return [0, 0, 0, *(part for value in range(1, 256) for part in level_color(value))]


def require_pillow() -> Any:
    """Return Pillow's ``Image`` module.

    Raises
    ------
    MissingDependencyError
        If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError(
            "Pictures need Pillow, which is not installed. Install it with: "
            "pip install 'sct-rootlets-task[qc]'"
        ) from error
    return Image
