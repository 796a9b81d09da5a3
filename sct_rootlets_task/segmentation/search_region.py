"""Where rootlets can be: the region beside the located canal that the network has to see."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from sct_rootlets_task.levels.located_canal import Canal

CELL_MM = 4.0
"""Size of the cells of the region, well below the width of a tile's weights."""
MARGIN_MM = 25.0
"""How far above and below the levels' part of the canal the region reaches."""


def search_region(
    canal: Canal, expected: Collection[int], *, reach_mm: float, margin_mm: float = MARGIN_MM
) -> np.ndarray:
    """Return where rootlets of the expected levels can be.

    Parameters
    ----------
    canal : Canal
        The canal as the locator sees it.
    expected : collection of int
        Levels of the task.
    reach_mm : float
        How far from the canal a rootlet can be.
    margin_mm : float
        How far above and below the levels' part of the canal to look.

    Returns
    -------
    ndarray of bool, shape (i, j, k)
        Voxels in reach; a little generous, since cells of about :data:`CELL_MM` are kept whole.
        None of them when the locator finds none of the levels.
    """
    from scipy.ndimage import distance_transform_edt

    sizes = np.linalg.norm(canal.affine[:3, :3], axis=0)
    counts = np.maximum(np.round(CELL_MM / sizes), 1).astype(int)
    cells = _merged(canal.classes > 0, counts)
    core = _merged(np.isin(canal.labels, [*expected]), counts)
    if not core.any():
        return np.zeros(canal.classes.shape, dtype=bool)
    steps = counts * sizes
    cells &= distance_transform_edt(~core, sampling=steps) <= margin_mm
    reached = distance_transform_edt(~cells, sampling=steps) <= reach_mm + np.linalg.norm(steps) / 2
    for axis, count in enumerate(counts):
        reached = np.repeat(reached, count, axis=axis)
    return np.asarray(reached[tuple(map(slice, canal.classes.shape))])


def _merged(mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which cells of so many voxels an axis hold a voxel of a mask."""
    short = [(0, -size % count) for size, count in zip(mask.shape, counts, strict=True)]
    padded = np.pad(mask, short)
    i, j, k = (size // count for size, count in zip(padded.shape, counts, strict=True))
    blocks = padded.reshape(i, counts[0], j, counts[1], k, counts[2])
    return np.asarray(blocks.any(axis=(1, 3, 5)))
