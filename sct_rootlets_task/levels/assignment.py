"""Levels for a model that finds rootlets but not their levels.

The locator network gives each voxel of the spinal canal the spinal level that it lies beside. A
rootlet bundle takes the level of the canal next to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.levels.boundary_refinement import between_rootlets
from sct_rootlets_task.levels.canal import LevelIntervals
from sct_rootlets_task.levels.corrections import follow_bundles
from sct_rootlets_task.levels.located_canal import Canal
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume

OVERHANG_MM = 5.0
"""How far a bundle may reach beyond the border of its level, if nearly all of it lies beside it."""
APART_LEVELS = 0.5
"""Largest rootlet-vertebra difference (in levels) that raises no warning."""
SURE_NATS = 1.5
"""Levels are certain when any other assignment is so much less likely: 1 to 4.5."""


@dataclass(frozen=True, eq=False)
class AssignedLevels:
    """Levels of rootlets.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel, 0 for background.
    warnings : tuple of str
        Why the levels may be wrong.
    """

    labels: np.ndarray
    warnings: tuple[str, ...] = ()


def assign_levels(
    rootlets: np.ndarray, canal: Canal, *, source: ByLocator, expected: Iterable[int]
) -> AssignedLevels:
    """Give each rootlet voxel the level of the canal it lies beside.

    The steps, in this order:

    1. The first level ends where rootlets of C1 may begin (``source.first_share``).
    2. Voxels farther from the canal than ``source.reach_mm`` are dropped.
    3. The borders between levels move, together, into gaps between rootlets, see
       :func:`~sct_rootlets_task.levels.boundary_refinement.between_rootlets`.
    4. Each component votes. With a share of ``source.majority`` or more beside one level it takes
       that level. What reaches too far into another level keeps its own, as there two bundles
       touch. The reach is :data:`OVERHANG_MM` where all voxels agree and falls to 0 at the
       majority. In any other component each voxel keeps its own level.
    5. Components smaller than ``source.min_volume_mm3``, and rootlets beside the canal above the
       first or below the last level, are dropped.
    6. Pieces between two bundles join the nearer one, see
       :func:`~sct_rootlets_task.levels.corrections.follow_bundles`.

    A warning is given where little of the canal is in view, where another place of the borders is
    not much less likely (:data:`SURE_NATS`), and where levels are far from those located
    (:func:`disagreement`).

    Parameters
    ----------
    rootlets : ndarray of bool, shape (i, j, k)
        Rootlet voxels.
    canal : Canal
        The canal on the same grid.
    source : ByLocator
        Reach, smallest component, majority, how far borders move, where the first level ends.
    expected : iterable of int
        Levels the task may put out.

    Raises
    ------
    LevelSourceError
        If the grids differ in shape.
    """
    from scipy.spatial import cKDTree

    if rootlets.shape != canal.classes.shape:
        raise LevelSourceError(
            f"Expected one grid, found {rootlets.shape} and {canal.classes.shape}."
        )
    affine, labels = canal.affine, np.zeros(rootlets.shape, dtype=np.uint8)
    candidates = voxels_of(rootlets)
    if canal.intervals is None or not len(candidates):
        return AssignedLevels(labels)
    tree = cKDTree(to_world(voxels_of(canal.classes), affine))
    distance, _ = tree.query(to_world(candidates, affine), distance_upper_bound=source.reach_mm)
    voxels = candidates[np.isfinite(distance)]
    levels = canal.ranked_levels
    last = int(np.flatnonzero(levels)[-1])
    arcs = canal.intervals.line.project(to_world(voxels, affine))[:, 0]
    located = canal.intervals.first_cut_to(source.first_share)
    placed = between_rootlets(located, arcs, shift_mm=source.shift_mm, last=last)
    own = connected(voxels)
    ranks = _vote(own, arcs, placed.field, source.majority)
    kept = _is_large(own, affine, source.min_volume_mm3) & np.isin(levels[ranks], [*expected])
    labels[tuple(voxels.T)] = np.where(kept, levels[ranks], 0)
    labels = follow_bundles(labels, affine)
    if not labels.any():
        return AssignedLevels(labels)
    doubts = (*canal.doubts, *_ambiguity(placed.margin), *disagreement(labels, canal))
    return AssignedLevels(labels, doubts)


def _ambiguity(margin: float) -> tuple[str, ...]:
    """Return a warning where other levels may be right as well."""
    if margin >= SURE_NATS:
        return ()
    return (
        "levels one higher or lower, all of them or half, may be right as well (odds of 1 "
        f"to {np.exp(margin):.1f}). Compare them with the discs: 'sct_rootlets check -i SEG "
        "-discs DISCS'.",
    )


def disagreement(labels: np.ndarray, canal: Canal) -> tuple[str, ...]:
    """Return a warning where rootlets and vertebrae disagree; levels then follow the rootlets.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Levels of rootlets.
    canal : Canal
        The canal beside them, on the same grid. Its levels are located by the vertebrae.

    Returns
    -------
    tuple of str
        Empty where the mean difference is below :data:`APART_LEVELS`.
    """
    voxels = voxels_of(labels)
    if canal.intervals is None or not len(voxels):
        return ()
    rank_of = np.zeros(256)
    rank_of[canal.ranked_levels] = np.arange(len(canal.ranked_levels))
    arcs = canal.intervals.line.project(to_world(voxels, canal.affine))[:, 0]
    located = canal.intervals.rank_at(arcs)
    apart = abs(float(np.mean(rank_of[labels[tuple(voxels.T)]] - located)))
    if apart < APART_LEVELS:
        return ()
    return (
        f"by the rootlets, levels are {apart:.1f} of a level off from where the vertebrae have "
        "them; the rootlets were followed. Compare them with the discs: 'sct_rootlets check "
        "-i SEG -discs DISCS'.",
    )


def _vote(
    components: np.ndarray, arcs: np.ndarray, intervals: LevelIntervals, majority: float
) -> np.ndarray:
    """Return the rank of each voxel from its place and its component (all of shape (n,))."""
    own = intervals.rank_at(arcs)
    ranks = max(one.rank for one in intervals.spans) + 1
    counts = np.zeros((components.max(initial=0) + 1, ranks))
    np.add.at(counts, (components, own), 1)
    winner = counts.argmax(axis=1)
    share = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    reach = OVERHANG_MM * np.clip((share - majority) / max(1 - majority, 1e-9), 0, 1)
    starts, ends = np.full(ranks, np.inf), np.full(ranks, -np.inf)
    for one in intervals.spans:
        starts[one.rank], ends[one.rank] = one.start, one.end
    wanted = winner[components]
    beyond = np.where(own < wanted, starts[wanted] - arcs, arcs - ends[wanted])
    joins = (share >= majority)[components] & (beyond <= reach[components])
    return np.where(joins, wanted, own)


def _is_large(components: np.ndarray, affine: np.ndarray, min_volume_mm3: float) -> np.ndarray:
    """Return which voxels belong to a component of at least a volume (both shape (n,))."""
    volumes = np.bincount(components) * voxel_volume(affine)
    # The tolerance is for voxel volumes computed from float32 affines.
    return (volumes >= min_volume_mm3 * (1 - 1e-5))[components]
