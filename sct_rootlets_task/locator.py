"""Levels for a model that finds rootlets but not their levels.

The locator network says, for each voxel of the spinal canal, beside which spinal level it lies. A
rootlet bundle then takes the level of the canal next to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.levels import ByLocator, level_from_class_name

ABOVE, BELOW = "above", "below"
CELL_MM = 4.0
"""Grain of the search region, well below the width of a tile's weights."""


def canal_levels(classes: Mapping[str, int]) -> dict[int, int]:
    """Return which level each class of a locator stands for.

    Parameters
    ----------
    classes : mapping of str to int
        ``labels`` of the locator's ``dataset.json``: ``above``, level names, ``below``.

    Returns
    -------
    dict of int to int
        Class index → level; ``above`` and ``below`` map to 0.
    """
    return {
        index: 0 if name in (ABOVE, BELOW) else level_from_class_name(name)
        for name, index in classes.items()
        if index != 0
    }


def levels_beside_canal(
    rootlets: np.ndarray,
    canal: np.ndarray,
    affine: np.ndarray,
    *,
    classes: Mapping[str, int],
    source: ByLocator,
    expected: Iterable[int],
) -> np.ndarray:
    """Give each rootlet voxel the level of the canal it lies beside.

    Voxels farther from the canal than ``source.reach_mm`` and components smaller than
    ``source.min_volume_mm3`` are dropped. A component whose voxels agree in their nearest canal
    level by at least ``source.majority`` takes that level as a whole; in any other each voxel keeps
    its own. Rootlets beside the canal above the first or below the last level are dropped.

    Parameters
    ----------
    rootlets : ndarray of bool, shape (i, j, k)
        Rootlet voxels.
    canal : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm, for both arrays.
    classes : mapping of str to int
        Class names of the locator.
    source : ByLocator
        Reach, smallest component and majority.
    expected : iterable of int
        Levels the task may put out.

    Returns
    -------
    ndarray of uint8, shape (i, j, k)
        Level of each voxel, 0 for background.

    Raises
    ------
    LevelSourceError
        If the arrays differ in shape.
    """
    from scipy.ndimage import label
    from scipy.spatial import cKDTree

    if rootlets.shape != canal.shape:
        raise LevelSourceError(f"Expected one grid, found {rootlets.shape} and {canal.shape}.")
    result = np.zeros(rootlets.shape, dtype=np.uint8)
    inside = np.argwhere(canal)
    candidates = np.argwhere(rootlets)
    if not len(inside) or not len(candidates):
        return result
    tree = cKDTree(_world(inside, affine))
    _, nearest = tree.query(_world(candidates, affine), distance_upper_bound=source.reach_mm)
    near = nearest < len(inside)
    voxels = candidates[near]
    votes = _level_of_class(classes, expected)[canal[tuple(inside[nearest[near]].T)]]
    kept = np.zeros(rootlets.shape, dtype=bool)
    kept[tuple(voxels.T)] = True
    components, _ = label(kept, structure=np.ones((3, 3, 3)))
    result[tuple(voxels.T)] = _vote(components[tuple(voxels.T)], votes, affine, source)
    return result


def search_region(
    canal: np.ndarray,
    affine: np.ndarray,
    *,
    classes: Mapping[str, int],
    expected: Iterable[int],
    reach_mm: float,
    margin_mm: float = 25.0,
) -> np.ndarray:
    """Return where rootlets of the expected levels can be.

    Parameters
    ----------
    canal : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.
    classes : mapping of str to int
        Class names of the locator.
    expected : iterable of int
        Levels of the task.
    reach_mm : float
        How far from the canal a rootlet can be.
    margin_mm : float
        How far above and below the levels' part of the canal to look.

    Returns
    -------
    ndarray of float, shape (n, 3)
        Centres, in voxels, of cells of :data:`CELL_MM` that cover the region; empty when the
        locator finds none of the levels.
    """
    from scipy.spatial import cKDTree

    inside = np.argwhere(canal)
    levels = _level_of_class(classes, expected)[canal[tuple(inside.T)]]
    cells = np.unique(np.floor(_world(inside, affine) / CELL_MM), axis=0)
    core = np.unique(np.floor(_world(inside[levels > 0], affine) / CELL_MM), axis=0)
    if not len(core):
        return np.empty((0, 3))
    distance, _ = cKDTree(core).query(cells, distance_upper_bound=margin_mm / CELL_MM)
    cells = cells[np.isfinite(distance)]
    steps = np.arange(-np.ceil(reach_mm / CELL_MM), np.ceil(reach_mm / CELL_MM) + 1)
    ball = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    ball = ball[np.linalg.norm(ball, axis=1) <= reach_mm / CELL_MM + 1]
    around = np.unique((cells[:, None] + ball[None]).reshape(-1, 3), axis=0)
    centres = (around + 0.5) * CELL_MM
    voxels = (centres - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    within = np.all((voxels > -1) & (voxels < canal.shape), axis=1)
    return np.clip(voxels[within], 0, np.array(canal.shape) - 1)


def _vote(
    components: np.ndarray, votes: np.ndarray, affine: np.ndarray, source: ByLocator
) -> np.ndarray:
    """Return the level of each voxel from the votes within its component (both shape (n,))."""
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    counts = np.zeros((components.max(initial=0) + 1, 256), dtype=np.int64)
    np.add.at(counts, (components, votes), 1)
    size = counts.sum(axis=1)
    winner = counts.argmax(axis=1)
    decided = counts.max(axis=1) >= source.majority * size
    levels = np.where(decided[components], winner[components], votes)
    # The tolerance is for voxel volumes computed from float32 affines.
    too_small = size * voxel_mm3 < source.min_volume_mm3 * (1 - 1e-5)
    return np.where(too_small[components], 0, levels).astype(np.uint8)


def _level_of_class(classes: Mapping[str, int], expected: Iterable[int]) -> np.ndarray:
    allowed = set(expected)
    table = np.zeros(256, dtype=np.uint8)
    for index, level in canal_levels(classes).items():
        table[index] = level if level in allowed else 0
    return table


def _world(indices: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return indices @ affine[:3, :3].T + affine[:3, 3]
