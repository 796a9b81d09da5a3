"""What the built-in networks are shown of an image: no padding, and axes that do not slant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sct_rootlets_task.images import InputImage
from sct_rootlets_task.orientation import obliqueness
from sct_rootlets_task.padding import Padding

OBLIQUE_DEGREES = 15.0
"""Angle between voxel axes and world axes beyond which an image is resampled for them."""
MIN_VOXEL_MM = 0.75
"""Voxels of a resampled image are not smaller; the built-in networks use 0.8 mm and more."""
MAX_VOXELS = 40_000_000
"""A resampled image has larger voxels where it would have more than this many."""
_DARK_PERCENT = 0.5


@dataclass(frozen=True, eq=False)
class View:
    """An image as a network is shown it, and the ways between the two grids.

    Parameters
    ----------
    image : InputImage
        What the network is shown.
    from_source : callable
        Takes a mask (bool) of the source image to the grid of `image`.
    to_source : callable
        Takes classes (uint8) on the grid of `image` to that of the source image; 0 where the
        network was shown nothing.
    """

    image: InputImage
    from_source: Callable[[np.ndarray], np.ndarray]
    to_source: Callable[[np.ndarray], np.ndarray]


def view_of(image: InputImage, padding: Padding | None) -> View:
    """Return what the built-in networks are shown of an image.

    Parameters
    ----------
    image : InputImage
        A checked 3-D image.
    padding : Padding or None
        What :func:`~sct_rootlets_task.padding.find_padding` finds in it.
    """
    oblique = obliqueness(image.affine) > OBLIQUE_DEGREES
    return (along_world_axes if oblique else without_padding)(image, padding)


def without_padding(image: InputImage, padding: Padding | None) -> View:
    """Return an image without its padding: slices of it cut off, the rest as dark as can be.

    Parameters
    ----------
    image : InputImage
        A checked 3-D image.
    padding : Padding or None
        What :func:`~sct_rootlets_task.padding.find_padding` finds in it. Without any, the view is
        of the image itself.
    """
    if padding is None:
        return View(image, lambda mask: mask, lambda classes: classes)
    box, shape = padding.box, image.data.shape
    corner = np.eye(4)
    corner[:3, 3] = [part.start for part in box]
    seen = _darkened(np.where(padding.outside, np.float32(np.nan), image.data)[box])

    def to_source(classes: np.ndarray) -> np.ndarray:
        whole = np.zeros(shape, dtype=classes.dtype)
        whole[box] = classes
        return whole

    part = replace(image, data=seen, affine=image.affine @ corner)
    return View(part, lambda mask: mask[box], to_source)


def along_world_axes(image: InputImage, padding: Padding | None) -> View:
    """Return an image resampled to axes that run right, forwards and upwards.

    Its voxels are as small as the smallest side of those of the image, within
    :data:`MIN_VOXEL_MM` and :data:`MAX_VOXELS`. What lies outside the image, or is padding, is as
    dark as can be. Classes come back by nearest neighbor.

    Parameters
    ----------
    image : InputImage
        A checked 3-D image.
    padding : Padding or None
        What :func:`~sct_rootlets_task.padding.find_padding` finds in it.
    """
    from scipy.ndimage import affine_transform

    data, source = image.data, image.affine
    if padding is not None:
        data = np.where(padding.outside, np.float32(np.nan), data)[padding.box]
        source = without_padding(image, padding).image.affine
    affine, shape = _world_grid(source, data.shape)
    matrix = np.linalg.inv(source) @ affine
    # The repeated edge lets voxels be seen in full, not only up to their middle.
    seen = affine_transform(
        np.pad(data, 1, mode="edge"),
        matrix[:3, :3],
        matrix[:3, 3] + 1,
        output_shape=shape,
        order=1,
        cval=np.nan,
    )
    seen[~_within(matrix, shape, data.shape)] = np.nan
    way = np.linalg.inv(affine) @ image.affine

    def moved(array: np.ndarray, way: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        values = array.astype(np.uint8)
        result = affine_transform(values, way[:3, :3], way[:3, 3], output_shape=shape, order=0)
        return np.asarray(result.astype(array.dtype))

    return View(
        replace(image, data=_darkened(seen), affine=affine),
        lambda mask: moved(mask, np.linalg.inv(way), shape),
        lambda classes: moved(classes, way, image.data.shape),
    )


def _world_grid(affine: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return affine and shape of the grid along world axes that encloses another grid."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape])).reshape(3, -1)
    points = affine[:3, :3] @ corners + affine[:3, 3:]
    low, sides = points.min(axis=1), np.ptp(points, axis=1)
    finest = np.linalg.norm(affine[:3, :3], axis=0).min()
    size = max(finest, MIN_VOXEL_MM, np.cbrt(np.prod(sides) / MAX_VOXELS))
    result = np.diag([size, size, size, 1.0])
    result[:3, 3] = low + size / 2
    return result, tuple(int(n) for n in np.maximum(np.ceil(sides / size), 1))


def _within(matrix: np.ndarray, shape: tuple[int, ...], source: tuple[int, ...]) -> np.ndarray:
    """Return which voxels of a grid have their middle in a voxel of the source grid.

    Parameters
    ----------
    matrix : ndarray of float, shape (4, 4)
        Voxel index of the grid to that of the source.
    shape, source : tuple of int
        Shapes of both grids.
    """
    i, j, k = np.ogrid[tuple(slice(n) for n in shape)]
    result = np.ones(shape, dtype=bool)
    for row, size in zip(matrix[:3].astype(np.float32), source, strict=True):
        place = row[0] * i + row[1] * j + (row[2] * k + row[3])
        result &= (place >= -0.5) & (place <= size - 0.5)
    return result


def _darkened(data: np.ndarray) -> np.ndarray:
    """Return intensities with NaN replaced by what the darkest tissue shows."""
    seen = np.isfinite(data)
    if seen.all():
        return np.ascontiguousarray(data)
    dark = np.percentile(data[seen], _DARK_PERCENT)
    return np.where(seen, data, np.float32(dark))
