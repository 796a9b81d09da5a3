"""The sliding window: where the tiles lie, how they are weighted, and which of them matter.

nnU-Net covers the whole image with half-overlapping tiles and averages their logits with Gaussian
weights. Rootlets lie close to the spinal canal, so most tiles cannot change a label. The share that
a tile has in the average of a voxel is known beforehand; :class:`Schedule` runs the tiles with a
noticeable share in places where rootlets can be, and leaves out the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

STEP = 0.5
_SIGMA = 1 / 8
_PEAK = 10.0
_SMALLEST_HALF = 2.0**-24

Tile = tuple[int, int, int]
"""Start of a tile (z, y, x) in voxels of the padded grid."""


@dataclass(frozen=True)
class TileGrid:
    """All tiles of an image, as nnU-Net lays them.

    Parameters
    ----------
    shape : tuple of int
        Size (z, y, x) of the (padded) image, at least the patch along each axis.
    patch : tuple of int
        Size of a tile.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]

    def starts(self, axis: int) -> list[int]:
        """Return where the tiles start along an axis."""
        free = self.shape[axis] - self.patch[axis]
        intervals = int(np.ceil(free / (self.patch[axis] * STEP)))
        step = free / intervals if intervals else 0.0
        return [int(np.round(step * number)) for number in range(intervals + 1)]

    def tiles(self) -> list[Tile]:
        """Return all tiles, in nnU-Net's order."""
        z, y, x = (self.starts(axis) for axis in range(3))
        return list(product(z, y, x))

    def shares(self, points: np.ndarray) -> np.ndarray:
        """Return the share that each tile has in the average at some points.

        Parameters
        ----------
        points : ndarray of float, shape (n, 3)
            Places (z, y, x) in voxels.

        Returns
        -------
        ndarray of float32, shape (n, number of tiles)
            Rows add up to 1.
        """
        per_axis = []
        for axis in range(3):
            bump = _bump(self.patch[axis])
            places = np.clip(np.round(points[:, axis]).astype(int), 0, self.shape[axis] - 1)
            inside = places[:, None] - np.array(self.starts(axis))[None]
            hit = (inside >= 0) & (inside < self.patch[axis])
            weights = np.where(hit, bump[np.clip(inside, 0, self.patch[axis] - 1)], 0)
            per_axis.append((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
        z, y, x = per_axis
        shares = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
        return shares.reshape(len(points), -1)


def gaussian(patch: Sequence[int]) -> np.ndarray:
    """Return nnU-Net's weights of a tile's voxels, shape `patch`, float16, at most 10."""
    z, y, x = (_bump(size) for size in patch)
    weights = z[:, None, None] * y[None, :, None] * x[None, None, :]
    weights *= _PEAK / weights.max()
    half = weights.astype(np.float16)
    smallest = half[half > 0].min()
    return np.where(half == 0, smallest, half)


def _bump(size: int) -> np.ndarray:
    """Return the weights along one axis (float64, shape (size,))."""
    from scipy.ndimage import gaussian_filter1d

    impulse = np.zeros(size)
    impulse[size // 2] = 1
    return np.maximum(gaussian_filter1d(impulse, size * _SIGMA, mode="constant"), _SMALLEST_HALF)
