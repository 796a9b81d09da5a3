"""The sliding window: where the tiles lie, how they are weighted, and which of them matter.

nnU-Net covers the whole image with half-overlapping tiles and averages their logits with Gaussian
weights. Rootlets lie close to the spinal canal, so most tiles cannot change a label.
:class:`Schedule` tells which tile to run next, and when no other can matter, from two things: the
share that each tile has in the average of a voxel, and how clearly the voxel belongs to its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

STEP = 0.5
CONTRADICTION = 11.0
"""Largest difference (logits) assumed between a missing tile and the average of the others."""
ROUNDING = 0.02
"""Error (logits) of nnU-Net's sums in half precision; smaller changes do not matter."""
_SAMPLE = 4096
_FORECAST_SAMPLE = 512
_HALF = np.float32(0.5)
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
        """Return the share that each tile has in the average at points (n, 3), in voxels (z, y, x).

        The shape is (n, number of tiles), of float32; rows add up to 1.
        """
        places = np.clip(np.round(points).astype(int), 0, np.array(self.shape) - 1)
        z, y, x = (self._tables[axis][places[:, axis]] for axis in range(3))
        shares = z[:, :, None, None] * y[:, None, :, None] * x[:, None, None, :]
        return shares.reshape(len(points), -1)

    def share_of(self, tile: int, points: np.ndarray) -> np.ndarray:
        """Return the share (float32, shape (n,)) of one tile at voxels (n, 3) of the grid."""
        numbers = np.unravel_index(tile, [len(self.starts(axis)) for axis in range(3)])
        z, y, x = (
            self._tables[axis][points[:, axis], number] for axis, number in enumerate(numbers)
        )
        return z * y * x

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """Share of each place along an axis, (size, starts), for each axis."""
        tables = []
        for axis in range(3):
            bump = _bump(self.patch[axis])
            inside = np.arange(self.shape[axis])[:, None] - np.array(self.starts(axis))[None]
            hit = (inside >= 0) & (inside < self.patch[axis])
            weights = np.where(hit, bump[np.clip(inside, 0, self.patch[axis] - 1)], 0)
            tables.append((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))
        return tables


class Schedule:
    """The order in which tiles are run, until no other can change a label.

    A voxel is settled when the tiles still missing there would have to contradict the average of
    the others by more than :data:`CONTRADICTION` to give it another class, or when even that could
    move the average by no more than :data:`ROUNDING`. The next tile is always the one with the
    largest share at the voxels that are not settled.

    Parameters
    ----------
    grid : TileGrid
        All tiles.
    voxels : ndarray of int, shape (n, 3)
        Voxels (z, y, x) of the grid that can get a label.
    """

    def __init__(self, grid: TileGrid, voxels: np.ndarray) -> None:
        self.grid = grid
        self.voxels = voxels
        self._seen = np.zeros(len(voxels), dtype=np.float32)
        self._unsettled = np.ones(len(voxels), dtype=bool)
        self._left = np.ones(len(grid.tiles()), dtype=bool)

    @property
    def doubt(self) -> np.ndarray:
        """Logits by which tiles not run yet can change the average of each voxel, shape (n,)."""
        return (1 - self._seen) * CONTRADICTION

    def next_tile(self) -> int | None:
        """Return the number of the tile to run next, None when all voxels are settled."""
        unsettled = np.flatnonzero(self._unsettled)
        if not len(unsettled):
            return None
        some = unsettled[:: -(-len(unsettled) // _SAMPLE)]
        shares = self.grid.shares(self.voxels[some]).sum(axis=0)
        shares[~self._left] = -1
        return int(shares.argmax())

    def tiles_left(self) -> int:
        """Return about how many tiles are still to be run; 0 when all voxels are settled.

        A voxel is taken to be settled by half of its average, as most are.
        """
        unsettled = np.flatnonzero(self._unsettled)
        if not len(unsettled):
            return 0
        some = unsettled[:: -(-len(unsettled) // _FORECAST_SAMPLE)]
        shares = self.grid.shares(self.voxels[some])
        shares[:, ~self._left] = 0
        seen = self._seen[some]
        enough, count = np.maximum(np.nextafter(seen, np.float32(2)), _HALF), 0
        while (gains := shares[seen < enough].sum(axis=0)).any():
            tile = gains.argmax()
            seen = seen + shares[:, tile]
            shares[:, tile] = 0
            count += 1
        return max(count, 1)

    def record(self, tile: int, rows: np.ndarray, margins: np.ndarray) -> None:
        """Note that a tile was run.

        Parameters
        ----------
        tile : int
            Its number.
        rows : ndarray of int, shape (n,)
            Numbers of the voxels that lie in it.
        margins : ndarray of float32, shape (n,)
            Their best logit less the second best, averaged over all tiles run so far.
        """
        self._left[tile] = False
        self._seen[rows] += self.grid.share_of(tile, self.voxels[rows])
        doubt = (1 - self._seen[rows]) * CONTRADICTION
        self._unsettled[rows] = (margins <= doubt) & (doubt > ROUNDING)


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
