"""The view of an image for the built-in networks: without padding, along the world axes.

The built-in networks learned from such images. A model that names levels never sees a view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.orientation import obliqueness
from sct_rootlets_task.segmentation.padding import Padding

OBLIQUE_DEGREES = 15.0
"""Angle between voxel axes and world axes beyond which an image is resampled for them."""
MIN_VOXEL_MM = 0.75
"""Voxels of a resampled image are not smaller; the built-in networks use 0.8 mm and more."""
MAX_VOXELS = 40_000_000
"""A resampled image has larger voxels where it would have more than this many."""
_DARK_PERCENT = 0.5


@dataclass(frozen=True, eq=False)
class View:
    """An image as the networks see it, and the ways between the two grids.

    Parameters
    ----------
    image : InputImage
        What the networks see.
    from_source : callable
        Takes a mask (bool) of the source image to the grid of `image`.
    to_source : callable
        Takes classes (uint8) on the grid of `image` to that of the source image; 0 outside of it.
    """

    image: InputImage
    from_source: Callable[[np.ndarray], np.ndarray]
    to_source: Callable[[np.ndarray], np.ndarray]


def view_of(image: InputImage, padding: Padding | None) -> View:
    """Return the view of an image: resampled if its grid is oblique, else only cropped.

    Parameters
    ----------
    image : InputImage
        A checked 3-D image.
    padding : Padding or None
        What :func:`~sct_rootlets_task.segmentation.padding.find_padding` finds in it.
    """
    oblique = obliqueness(image.affine) > OBLIQUE_DEGREES
    return (along_world_axes if oblique else without_padding)(image, padding)


def without_padding(image: InputImage, padding: Padding | None) -> View:
    """Return an image without its padding: slices of it are cut off, and the rest is darkened.

    Parameters are those of :func:`view_of`. Without padding the view is of the image itself.
    """
    if padding is None:
        return View(image, lambda mask: mask, lambda classes: classes)
    box, shape = padding.box, image.data.shape
    seen = _darkened(np.where(padding.outside, np.float32(np.nan), image.data)[box])

    def to_source(classes: np.ndarray) -> np.ndarray:
        whole = np.zeros(shape, dtype=classes.dtype)
        whole[box] = classes
        return whole

    part = replace(image, data=seen, affine=image.affine @ _corner(box))
    return View(part, lambda mask: mask[box], to_source)


def along_world_axes(image: InputImage, padding: Padding | None) -> View:
    """Return an image resampled to axes that run right, forwards and upwards.

    Its voxels are cubes. Their side is the smallest one of the image's voxels, within
    :data:`MIN_VOXEL_MM` and :data:`MAX_VOXELS`. What lies outside the image, or is padding, is
    darkened. Classes come back by nearest neighbor. Parameters are those of :func:`view_of`.
    """
    data, source = image.data, image.affine
    if padding is not None:
        data = np.where(padding.outside, np.float32(np.nan), data)[padding.box]
        source = source @ _corner(padding.box)
    affine, shape = _world_grid(source, np.isfinite(data))
    matrix = np.linalg.inv(source) @ affine
    # The repeated edge lets voxels be seen in full, not only up to their middle.
    seen = _resampled(np.pad(data, 1, mode="edge"), matrix, shape, order=1, outside=np.nan)
    seen[~_within(matrix, shape, data.shape)] = np.nan
    way = np.linalg.inv(affine) @ image.affine

    def to_source(classes: np.ndarray) -> np.ndarray:
        return _resampled(np.pad(classes, 1), way, image.data.shape, order=0)

    def from_source(mask: np.ndarray) -> np.ndarray:
        grown = np.pad(mask.astype(np.uint8), 1)
        return _resampled(grown, np.linalg.inv(way), shape, order=0).astype(bool)

    return View(replace(image, data=_darkened(seen), affine=affine), from_source, to_source)


def _resampled(
    grown: np.ndarray,
    matrix: np.ndarray,
    shape: tuple[int, ...],
    *,
    order: int,
    outside: float = 0,
) -> np.ndarray:
    """Return an array on another grid.

    Parameters
    ----------
    grown : ndarray
        The array, padded by one voxel on each side. SciPy fills what lies beyond the outermost
        voxel centers, also where rounding puts a point there.
    matrix : ndarray of float, shape (4, 4)
        Voxel index of the other grid to that of the array.
    shape : tuple of int
        Shape of the other grid.
    order : int
        Order of the interpolation, 0 or 1.
    outside : float
        Value outside the array.
    """
    from scipy.ndimage import affine_transform

    result = affine_transform(
        grown, matrix[:3, :3], matrix[:3, 3] + 1, output_shape=shape, order=order, cval=outside
    )
    return np.asarray(result)


def _corner(box: tuple[slice, ...]) -> np.ndarray:
    """Return voxel index in a box of a grid to voxel index of the grid, shape (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, 3] = [part.start for part in box]
    return matrix


def _world_grid(affine: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return affine and shape of the grid along world axes that encloses some voxels.

    Parameters
    ----------
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.
    seen : ndarray of bool, shape (i, j, k)
        The voxels.
    """
    low, high = np.array([_ends(row, seen) for row in affine[:3]]).T
    finest = np.linalg.norm(affine[:3, :3], axis=0).min()
    size = max(finest, MIN_VOXEL_MM, np.cbrt(np.prod(high - low) / MAX_VOXELS))
    result = np.diag([size, size, size, 1.0])
    result[:3, 3] = low + size / 2
    return result, tuple(int(n) for n in np.maximum(np.ceil((high - low) / size), 1))


def _ends(row: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Return where voxels begin and end along a world axis, in mm; `row` is the affine's."""
    half = np.abs(row[:3]).sum() / 2
    place = _linear(row, seen.shape)
    low, high = place.min(where=seen, initial=np.inf), place.max(where=seen, initial=-np.inf)
    return float(low) - half, float(high) + half


def _linear(row: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``a i + b j + c k + constant`` of each voxel, as float32.

    Parameters
    ----------
    row : ndarray of float, shape (4,)
        ``a, b, c, constant``.
    shape : tuple of int
        Shape of the grid.
    """
    a, b, c, constant = row.astype(np.float32)
    i, j, k = (np.arange(n, dtype=np.float32) for n in shape)
    return np.asarray((a * i)[:, None, None] + (b * j)[:, None] + (c * k + constant))


def _within(matrix: np.ndarray, shape: tuple[int, ...], source: tuple[int, ...]) -> np.ndarray:
    """Return which voxels of a grid have their center in a voxel of the source grid.

    Parameters
    ----------
    matrix : ndarray of float, shape (4, 4)
        Voxel index of the grid to that of the source.
    shape, source : tuple of int
        Shapes of both grids.
    """
    result = np.ones(shape, dtype=bool)
    for row, size in zip(matrix[:3], source, strict=True):
        place = _linear(row, shape)
        result &= (place >= -0.5) & (place <= size - 0.5)
    return result


def _darkened(data: np.ndarray) -> np.ndarray:
    """Return intensities with NaN replaced by the darkest of the others, outliers aside."""
    seen = np.isfinite(data)
    if seen.all():
        return np.ascontiguousarray(data)
    dark = np.percentile(data[seen], _DARK_PERCENT)
    return np.where(seen, data, np.float32(dark))
