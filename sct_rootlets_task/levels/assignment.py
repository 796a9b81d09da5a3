"""Levels for a model that finds rootlets but not their levels.

The locator network says, for each voxel of the spinal canal, beside which spinal level it lies. A
rootlet bundle then takes the level of the canal next to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.level_names import level_from_class_name
from sct_rootlets_task.levels.boundary_refinement import between_rootlets
from sct_rootlets_task.levels.canal import LevelIntervals, fit_level_intervals
from sct_rootlets_task.levels.corrections import follow_bundles
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.rootlets.centerline import Centerline
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume

ABOVE, BELOW = "above", "below"
CELL_MM = 4.0
"""Grain of the search region, well below the width of a tile's weights."""
OVERHANG_MM = 5.0
"""How far a bundle may reach beyond the border of its level, if nearly all of it lies beside it."""
CANAL_MM = 25.0
"""No part of the spinal canal is farther from its centerline."""
APART_MM = 25.0
"""Two pieces of one canal, found with a gap, are not farther apart."""
APART_LEVELS = 0.5
"""Levels by which rootlets and vertebrae may differ without a word."""
SURE_NATS = 1.5
"""Levels are certain when any other way to tell them is so much less likely: 1 to 4.5."""
SURE_MM = 120.0
"""Length of canal from which its levels can be told well enough to say nothing."""
LEAST_AREA_MM2 = 60.0
"""Mean cross-section below which what was found is no canal; the dural sac has some 200 mm²."""
_SPECK_MM3 = 100.0


COLUMNS: Mapping[str, str] = {
    "level": "Name of the level.",
    "start_mm": "Its caudal end: arc length in mm from the cranial end of the located canal.",
    "end_mm": "Its cranial end, likewise.",
    "confidence": "Share of the level's voxels, 0 to 1, in which the network saw this very level.",
}
"""Columns of the table of located levels."""

LINE_COLUMNS: Mapping[str, str] = {
    "x_mm": "Right in world mm (RAS+).",
    "y_mm": "Forwards in world mm.",
    "z_mm": "Upwards in world mm.",
    "arc_mm": "Arc length in mm from the cranial end of the located canal.",
    "level": "Name of the level there; empty above the first and below the last one.",
}
"""Columns of the table of the centerline, one row a mm."""


@dataclass(frozen=True)
class LocatedLevel:
    """A level of the canal.

    Parameters
    ----------
    level : int
    start, end : float
        Arc lengths in mm along the centerline, from the cranial end of the located canal.
    confidence : float
        Share of its voxels, 0 to 1, in which the network saw this very level.
    """

    level: int
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, eq=False)
class LocatedLevels:
    """The spinal levels of the canal.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel of the canal; 0 outside of it, above the first and below the last level.
    levels : tuple of LocatedLevel
        From head to tail.
    line : Centerline or None
        Centerline of the canal; None if none was found.
    warnings : tuple of str
        Why the levels may be wrong.
    """

    labels: np.ndarray
    levels: tuple[LocatedLevel, ...] = ()
    line: Centerline | None = None
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class AssignedLevels:
    """The levels that rootlets are told to have.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel, 0 for background.
    warnings : tuple of str
        Why the levels may be wrong.
    """

    labels: np.ndarray
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Canal:
    """The canal as a locator sees it, and where along it each class begins and ends.

    Parameters
    ----------
    classes : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    field : LevelIntervals or None
        The classes along the centerline; None if no canal was found.
    """

    classes: np.ndarray
    field: LevelIntervals | None

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why levels told from it may be wrong."""
        length = self.field.length_mm if self.field else SURE_MM
        if length >= SURE_MM:
            return ()
        return (
            f"only {length:.0f} mm of the spinal canal are in view; from less than {SURE_MM:.0f} "
            "mm, levels may be told one too high or too low. Compare them with the discs: "
            "'sct_rootlets check -i SEG -discs DISCS'.",
        )


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


def class_order(classes: Mapping[str, int]) -> list[int]:
    """Return the classes of a locator from head to tail: above, the levels, below."""
    levels = canal_levels(classes)
    inner = sorted((index for index, level in levels.items() if level), key=levels.__getitem__)
    outer = [[index for name, index in classes.items() if name == end] for end in (ABOVE, BELOW)]
    return [*outer[0], *inner, *outer[1]]


def one_canal(canal: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the canal without what cannot be part of it.

    Kept is the largest connected piece, and others that continue it up or down: not beside a piece
    that was kept, and within :data:`APART_MM` of one. Nothing is kept if the largest piece is
    thinner than a canal is.

    Parameters
    ----------
    canal : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.

    Returns
    -------
    ndarray of uint8, shape (i, j, k)
    """
    from scipy.spatial import cKDTree

    result = np.zeros_like(canal)
    inside = voxels_of(canal)
    own = connected(inside)
    volumes = np.bincount(own) * voxel_volume(affine)
    step = float(np.abs(affine[2, :3]).max())
    kept: list[np.ndarray] = []
    for number in np.argsort(-volumes):
        voxels = inside[own == number]
        points = to_world(voxels, affine)
        height = np.ptp(points[:, 2]) + step
        if not kept and volumes[number] / height < LEAST_AREA_MM2:
            break
        if kept and (volumes[number] < _SPECK_MM3 or _is_beside(points, kept)):
            continue
        if kept and cKDTree(np.concatenate(kept)).query(points)[0].min() > APART_MM:
            continue
        kept.append(points)
        result[tuple(voxels.T)] = canal[tuple(voxels.T)]
    return result


def _is_beside(points: np.ndarray, kept: list[np.ndarray]) -> bool:
    """Tell whether half of a piece or more is at the height of another one."""
    heights = points[:, 2]
    spans = [(other[:, 2].min(), other[:, 2].max()) for other in kept]
    return any(np.mean((heights >= low) & (heights <= high)) >= 0.5 for low, high in spans)


def level_field(
    canal: np.ndarray, affine: np.ndarray, classes: Mapping[str, int]
) -> LevelIntervals | None:
    """Return where along the canal each class begins and ends, None where there is no canal.

    Parameters
    ----------
    canal : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.
    classes : mapping of str to int
        Class names of the locator.
    """
    ranks = np.full(256, -1, dtype=np.int16)
    order = class_order(classes)
    ranks[order] = np.arange(len(order))
    if np.count_nonzero(canal) < 2:
        return None
    return fit_level_intervals(ranks[canal], affine)


def fit_canal(found: np.ndarray, affine: np.ndarray, classes: Mapping[str, int]) -> Canal:
    """Return the canal with its classes in order from head to tail.

    Single voxels that are off take the class of their stretch of the canal; what is not part of
    :func:`one_canal`, or far from its line, is left out.

    Parameters
    ----------
    found : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.
    classes : mapping of str to int
        Class names of the locator.
    """
    found = one_canal(found, affine)
    field = level_field(found, affine, classes)
    return Canal(_as_fitted(found, affine, classes, field), field)


def _as_fitted(
    canal: np.ndarray, affine: np.ndarray, classes: Mapping[str, int], field: LevelIntervals | None
) -> np.ndarray:
    """Return the canal with the classes of its fitted stretches."""
    result = np.zeros_like(canal)
    if field is None:
        return result
    voxels = voxels_of(canal)
    where = field.line.project(to_world(voxels, affine))
    near = np.linalg.norm(where[:, 1:], axis=1) <= CANAL_MM
    order = np.array(class_order(classes))
    result[tuple(voxels[near].T)] = order[field.rank_at(where[near, 0])]
    return result


def located_levels(
    found: np.ndarray, affine: np.ndarray, classes: Mapping[str, int]
) -> LocatedLevels:
    """Return the levels that a locator's classes stand for, put in order.

    Parameters are those of :func:`fit_canal`.
    """
    canal = fit_canal(found, affine, classes)
    of_class = canal_levels(classes)
    table = np.zeros(256, dtype=np.uint8)
    table[list(of_class)] = list(of_class.values())
    labels = table[canal.classes]
    if canal.field is None:
        return LocatedLevels(labels)
    levels = table[class_order(classes)]
    runs = [
        LocatedLevel(int(levels[run.rank]), run.start, run.end, run.agreement)
        for run in canal.field.spans
        if levels[run.rank]
    ]
    return LocatedLevels(labels, tuple(runs), canal.field.line, canal.doubts if runs else ())


def levels_beside_canal(
    rootlets: np.ndarray,
    canal: Canal,
    affine: np.ndarray,
    *,
    classes: Mapping[str, int],
    source: ByLocator,
    expected: Iterable[int],
) -> AssignedLevels:
    """Give each rootlet voxel the level of the canal it lies beside.

    The first level ends where rootlets of C1 may begin (``source.first_share``). Then the borders
    between levels move, together, into gaps between rootlets, see
    :func:`~sct_rootlets_task.levels.boundary_refinement.between_rootlets`. Voxels farther from the
    canal than ``source.reach_mm`` and components smaller than ``source.min_volume_mm3`` are
    dropped. A component of which at least the share ``source.majority`` lies beside one level takes
    that level, except for what reaches too far into another one, where two bundles touch:
    :data:`OVERHANG_MM` where all of it lies beside one level, less the larger the rest is, and
    nothing at the majority. In any other component each voxel keeps its own, so little changes
    where a component just has the majority or just not. Rootlets beside the canal above the first
    or below the last level are dropped. At last pieces between two bundles join the nearer one, see
    :func:`~sct_rootlets_task.levels.corrections.follow_bundles`.

    A warning says so where little of the canal is in view, where another place of the borders is
    not much less likely (:data:`SURE_NATS`), and where levels are far from those located
    (:func:`disagreement`).

    Parameters
    ----------
    rootlets : ndarray of bool, shape (i, j, k)
        Rootlet voxels.
    canal : Canal
        What :func:`fit_canal` gives, on the same grid.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm, for both arrays.
    classes : mapping of str to int
        Class names of the locator.
    source : ByLocator
        Reach, smallest component, majority, how far borders move, where the first level ends.
    expected : iterable of int
        Levels the task may put out.

    Raises
    ------
    LevelSourceError
        If the arrays differ in shape.
    """
    from scipy.spatial import cKDTree

    if rootlets.shape != canal.classes.shape:
        raise LevelSourceError(
            f"Expected one grid, found {rootlets.shape} and {canal.classes.shape}."
        )
    result = np.zeros(rootlets.shape, dtype=np.uint8)
    candidates = voxels_of(rootlets)
    if canal.field is None or not len(candidates):
        return AssignedLevels(result)
    tree = cKDTree(to_world(voxels_of(canal.classes), affine))
    distance, _ = tree.query(to_world(candidates, affine), distance_upper_bound=source.reach_mm)
    voxels = candidates[np.isfinite(distance)]
    order = class_order(classes)
    of_rank = _level_of_class(classes, expected)[order]
    arcs = canal.field.line.project(to_world(voxels, affine))[:, 0]
    field = canal.field.first_cut_to(source.first_share)
    of_class = canal_levels(classes)
    last = max(rank for rank, index in enumerate(order) if of_class[index])
    placed = between_rootlets(field, arcs, shift_mm=source.shift_mm, last=last)
    own = connected(voxels)
    ranks = _vote(own, arcs, placed.field, source.majority)
    levels = np.where(_is_large(own, affine, source.min_volume_mm3), of_rank[ranks], 0)
    result[tuple(voxels.T)] = levels
    labels = follow_bundles(result, affine)
    if not labels.any():
        return AssignedLevels(labels)
    differing = disagreement(labels, canal, affine, classes=classes)
    return AssignedLevels(labels, (*canal.doubts, *_ambiguity(placed.margin), *differing))


def _ambiguity(margin: float) -> tuple[str, ...]:
    """Say so where other levels may be right as well."""
    if margin >= SURE_NATS:
        return ()
    return (
        "levels one higher or lower, all of them or half, may be right as well (odds of 1 "
        f"to {np.exp(margin):.1f}). Compare them with the discs: 'sct_rootlets check -i SEG "
        "-discs DISCS'.",
    )


def disagreement(
    labels: np.ndarray, canal: Canal, affine: np.ndarray, *, classes: Mapping[str, int]
) -> tuple[str, ...]:
    """Say so where levels follow the rootlets against the vertebrae, from which levels are located.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Levels of rootlets.
    canal : Canal
        The canal beside them, on the same grid.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm, for both.
    classes : mapping of str to int
        Class names of the locator.

    Returns
    -------
    tuple of str
        Why the levels may be wrong; none where the mean difference is below :data:`APART_LEVELS`.
    """
    voxels = voxels_of(labels)
    if canal.field is None or not len(voxels):
        return ()
    of_class = canal_levels(classes)
    rank_of = np.zeros(256)
    for rank, index in enumerate(class_order(classes)):
        rank_of[of_class[index]] = rank
    located = canal.field.rank_at(canal.field.line.project(to_world(voxels, affine))[:, 0])
    apart = abs(float(np.mean(rank_of[labels[tuple(voxels.T)]] - located)))
    if apart < APART_LEVELS:
        return ()
    return (
        f"by the rootlets, levels are {apart:.1f} of a level off from where the vertebrae have "
        "them; the rootlets were followed. Compare them with the discs: 'sct_rootlets check "
        "-i SEG -discs DISCS'.",
    )


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
    ndarray of bool, shape (i, j, k)
        Voxels in reach; a little generous, since cells of about :data:`CELL_MM` are kept whole.
        None of them when the locator finds none of the levels.
    """
    from scipy.ndimage import distance_transform_edt

    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    counts = np.maximum(np.round(CELL_MM / sizes), 1).astype(int)
    cells = _merged(canal > 0, counts)
    core = _merged(_level_of_class(classes, expected)[canal] > 0, counts)
    if not core.any():
        return np.zeros(canal.shape, dtype=bool)
    steps = counts * sizes
    cells &= distance_transform_edt(~core, sampling=steps) <= margin_mm
    near = distance_transform_edt(~cells, sampling=steps) <= reach_mm + np.linalg.norm(steps) / 2
    for axis, count in enumerate(counts):
        near = np.repeat(near, count, axis=axis)
    return np.asarray(near[tuple(map(slice, canal.shape))])


def _merged(mask: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which cells of so many voxels an axis hold a voxel of a mask."""
    short = [(0, -size % count) for size, count in zip(mask.shape, counts, strict=True)]
    i, j, k = (size // count for size, count in zip(np.pad(mask, short).shape, counts, strict=True))
    blocks = np.pad(mask, short).reshape(i, counts[0], j, counts[1], k, counts[2])
    return np.asarray(blocks.any(axis=(1, 3, 5)))


def _vote(
    components: np.ndarray, arcs: np.ndarray, field: LevelIntervals, majority: float
) -> np.ndarray:
    """Return the rank of each voxel from its place and its component (all of shape (n,))."""
    own = field.rank_at(arcs)
    counts = np.zeros((components.max(initial=0) + 1, max(run.rank for run in field.spans) + 1))
    np.add.at(counts, (components, own), 1)
    winner = counts.argmax(axis=1)
    share = counts.max(axis=1) / np.maximum(counts.sum(axis=1), 1)
    decided = share >= majority
    reach = OVERHANG_MM * np.clip((share - majority) / max(1 - majority, 1e-9), 0, 1)
    starts, ends = np.full(counts.shape[1], np.inf), np.full(counts.shape[1], -np.inf)
    for run in field.spans:
        starts[run.rank], ends[run.rank] = run.start, run.end
    wanted = winner[components]
    beyond = np.where(own < wanted, starts[wanted] - arcs, arcs - ends[wanted])
    joins = decided[components] & (beyond <= reach[components])
    return np.where(joins, wanted, own)


def _is_large(components: np.ndarray, affine: np.ndarray, min_volume_mm3: float) -> np.ndarray:
    """Return which voxels belong to a component of at least a volume (both shape (n,))."""
    volumes = np.bincount(components) * voxel_volume(affine)
    # The tolerance is for voxel volumes computed from float32 affines.
    return (volumes >= min_volume_mm3 * (1 - 1e-5))[components]


def _level_of_class(classes: Mapping[str, int], expected: Iterable[int]) -> np.ndarray:
    allowed = set(expected)
    table = np.zeros(256, dtype=np.uint8)
    for index, level in canal_levels(classes).items():
        table[index] = level if level in allowed else 0
    return table
