"""nnU-Net's default resampling, axis by axis.

nnU-Net resizes with scikit-image, that is with :func:`scipy.ndimage.zoom` in grid mode. Spline
interpolation is linear and separable. One small matrix per axis gives the same result many times
faster. A voxel depends on some thirty of the axis, so the matrix is applied in bands. Of markedly
anisotropic voxels nnU-Net takes the nearest slice along the coarse axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ANISOTROPY = 3.0
"""Ratio of voxel sizes above which the coarse axis is treated apart (nnU-Net's ANISO_THRESHOLD)."""
NEGLIGIBLE = 1e-9
"""Weights of a spline that single precision does not show in a sum; they fall by 0.27 a voxel."""
_BAND = 32
"""Voxels of the result that are computed at once."""


@dataclass(frozen=True)
class Resize:
    """How to resize a grid.

    Parameters
    ----------
    old_shape, new_shape : tuple of int
        Sizes (z, y, x) before and after.
    order : int
        Spline order, 1 or 3.
    coarse_axis : int, optional
        Axis along which the nearest slice is taken instead.
    """

    old_shape: tuple[int, ...]
    new_shape: tuple[int, ...]
    order: int
    coarse_axis: int | None = None

    def order_of(self, axis: int) -> int:
        """Return the spline order along an axis."""
        return 0 if axis == self.coarse_axis else self.order


def new_shape(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> tuple[int, ...]:
    """Return the size of a grid after a change of voxel size (nnU-Net's rounding, at least 1)."""
    return tuple(
        max(1, round(old / new * size))
        for old, new, size in zip(spacing, new_spacing, shape, strict=True)
    )


def coarse_axis(
    spacing: Sequence[float], new_spacing: Sequence[float], force: bool | None = None
) -> int | None:
    """Return the axis that is resampled by nearest slice, if any.

    Voxel sizes are in mm. `force` is the plans' ``force_separate_z``; None decides by anisotropy.
    """
    if force is False:
        return None
    candidates = [spacing] if force else [spacing, new_spacing]
    for sizes in candidates:
        largest = max(sizes)
        if force or largest / min(sizes) > ANISOTROPY:
            axes = [axis for axis, size in enumerate(sizes) if largest / size == 1]
            return axes[0] if len(axes) == 1 else None
    return None


def resize_image(array: np.ndarray, resize: Resize) -> np.ndarray:
    """Return an image (float32, shape (z, y, x)) on the new grid.

    It stays within the range of the old intensities: of the image, or of each slice when a coarse
    axis is treated apart.
    """
    if resize.old_shape == resize.new_shape:
        return array
    slices = resize.coarse_axis
    within = None if slices is None else tuple(axis for axis in range(3) if axis != slices)
    low, high = array.min(axis=within, keepdims=True), array.max(axis=within, keepdims=True)
    for axis in range(3):
        if axis != slices:
            matrix = axis_matrix(resize.old_shape[axis], resize.new_shape[axis], resize.order)
            array = _along(array, axis, matrix)
    array = np.clip(array, low, high)
    if slices is not None:
        array = np.take(array, nearest_indices(resize, slices), axis=slices)
    return np.ascontiguousarray(array)


@lru_cache(maxsize=16)  # images of a data set are often of one size
def axis_matrix(old: int, new: int, order: int) -> np.ndarray:
    """Return the interpolation along one axis as a matrix, shape (new size, old size), float32."""
    from scipy.ndimage import zoom

    if old == new:
        return np.eye(old, dtype=np.float32)
    # The response to a unit impulse at each place is a column; rows of impulses are independent.
    columns = [
        zoom(impulse, new / old, order=order, mode="nearest", grid_mode=True)
        for impulse in np.eye(old)
    ]
    matrix = np.stack(columns, axis=1)
    matrix[np.abs(matrix) < NEGLIGIBLE] = 0
    return matrix.astype(np.float32)


def averaged(
    volume: np.ndarray, spacing: Sequence[float], min_voxel_mm: float
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Return a volume with its small voxels averaged to larger ones.

    Parameters
    ----------
    volume : ndarray of float32, shape (z, y, x)
        Intensities.
    spacing : sequence of float
        Voxel sizes (z, y, x) in mm.
    min_voxel_mm : float
        About how large voxels become along the axes where they are smaller.

    Returns
    -------
    volume : ndarray of float32, shape (z, y, x)
        Mean intensities of the larger voxels, which fill the same space.
    spacing : tuple of float
        Their sizes in mm.
    """
    sizes = []
    for axis, (size, old) in enumerate(zip(spacing, volume.shape, strict=True)):
        new = max(round(old * size / min_voxel_mm), 1) if size < min_voxel_mm else old
        if new < old:
            volume = _along(volume, axis, means_matrix(old, new))
        sizes.append(size * old / new)
    return np.ascontiguousarray(volume, dtype=np.float32), tuple(sizes)


def resample_nearest(classes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return classes (z, y, x) on a grid of another shape that fills the same space."""
    if classes.shape == tuple(shape):
        return classes
    places = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(classes.shape, shape, strict=True)
    ]
    return classes[np.ix_(*places)]


def means_matrix(old: int, new: int) -> np.ndarray:
    """Return the matrix (new, old), float32, that averages evenly cut pieces of an axis."""
    edges = np.linspace(0, old, new + 1)
    voxels = np.arange(old)
    overlap = np.minimum(edges[1:, None], voxels + 1) - np.maximum(edges[:-1, None], voxels)
    weights = np.clip(overlap, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def nearest_indices(resize: Resize, axis: int) -> np.ndarray:
    """Return which old slice each new one takes (int, shape (new size,))."""
    from scipy.ndimage import map_coordinates

    old, new = resize.old_shape[axis], resize.new_shape[axis]
    places = old / new * (np.arange(new) + 0.5) - 0.5
    return map_coordinates(np.arange(old), [places], order=0, mode="nearest").astype(int)


def linear_taps(resize: Resize, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two old places each new one is interpolated from, and the weight of the second.

    All are of shape (new size,): two of int, one of float32. The first place has the rest.
    """
    old, new = resize.old_shape[axis], resize.new_shape[axis]
    if resize.order_of(axis) == 0:
        nearest = nearest_indices(resize, axis)
        return nearest, nearest, np.zeros(new, dtype=np.float32)
    places = np.clip(old / new * (np.arange(new) + 0.5) - 0.5, 0, old - 1)
    lower = np.minimum(np.floor(places).astype(int), max(old - 2, 0))
    upper = np.minimum(lower + 1, old - 1)
    return lower, upper, (places - lower).astype(np.float32)


def _along(array: np.ndarray, axis: int, matrix: np.ndarray) -> np.ndarray:
    """Multiply a matrix whose rows have few neighboring non-zeros with an array along one axis."""
    shape = list(array.shape)
    shape[axis] = len(matrix)
    result = np.empty(shape, dtype=np.float32)
    for start in range(0, len(matrix), _BAND):
        rows = matrix[start : start + _BAND]
        present = np.flatnonzero(rows.any(axis=0))
        columns = slice(int(present[0]), int(present[-1]) + 1)
        rows, here = rows[:, columns], slice(start, start + len(rows))
        if axis == 0:
            part = array[columns]
            product = rows @ part.reshape(len(part), -1)
            result[here] = product.reshape(-1, *array.shape[1:])
        elif axis == 1:
            np.matmul(rows, array[:, columns], out=result[:, here])
        else:
            np.matmul(array[..., columns], rows.T, out=result[..., here])
    return result
