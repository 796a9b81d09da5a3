"""Hooks that make the levels of a segmentation consistent, bundle by bundle.

Each hook is a pure function of the signature :data:`~sct_rootlets_task.rootlets.postprocess.Hook`.
None invents a rootlet: a voxel keeps its level, takes that of its bundle, or is removed. What is
not decided is left as the network said; :mod:`sct_rootlets_task.analysis.check` reports it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sct_rootlets_task.levels.level_fit import MARGIN, fit_levels, vote_costs
from sct_rootlets_task.rootlets.bundles import UNSURE, Bundle, Bundles, find_bundles
from sct_rootlets_task.rootlets.centerline import line_through_rootlets
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume
from sct_rootlets_task.rootlets.postprocess import SPECK_MM3, Hook, HookContext, LevelPriors

STRAY_MM3 = 6.0
"""Volume below which a piece that lies where no rootlets run is removed. The smallest bundle of
PAM50 has 4.9 mm³, so size alone does not decide."""

STRAY_SHARE = 0.25
"""A stray piece has less than this share of the volume of the piece that a typical voxel
belongs to."""

STRAY_ACROSS_MM = 2.0
STRAY_ALONG_MM = 3.0
"""How far from all larger bundles, across and along the cord, a stray piece lies."""

FOLLOWING_MM = 3.0
"""A piece that follows a bundle is not farther from it along the cord."""

NEARER_MM = 3.0
"""So much nearer must another level's bundle be than the piece's own level's."""

LARGEST_BUNDLE_MM3 = 1000.0
"""A piece of this volume is no bundle, whatever network drew it, so the level of most of its voxels
says nothing of the others. All 32 bundles of PAM50 have 1016 mm³ together, the largest one 90 mm³
(126 mm³ in the template's 1 mm version)."""

_LEAST_SHARE = 0.5
_NEIGHBORHOOD_MM = 20.0
_FEWEST_PIECES = 4
_LEAST_MARGIN = 0.5
_MOST_ROUNDS = 8


def unify_bundles(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Give all voxels of a bundle the level of most of them.

    A bundle is a connected component on one side of the cord; where two bundles of neighboring
    levels touch, each keeps its own level. What is no bundle, see ``is_sure``, is left as it is.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Grid and levels of the level map.

    Returns
    -------
    ndarray of uint8, same shape
    """
    if np.count_nonzero(labels) < 2:
        return labels.copy()
    bundles = find_bundles(labels, context.affine)
    return _painted(bundles, [bundle.level for bundle in bundles.items])


def is_sure(bundle: Bundle) -> bool:
    """Tell whether a piece is a bundle whose voxels may be given one level.

    It must be smaller than :data:`LARGEST_BUNDLE_MM3`, and more than half of its voxels must agree:
    where they do not, no level has a majority.

    Parameters
    ----------
    bundle : Bundle
        A piece as ``find_bundles`` finds it.
    """
    return bundle.volume < LARGEST_BUNDLE_MM3 and bundle.purity > 0.5


def undecided(labels: np.ndarray, affine: np.ndarray) -> tuple[int, int]:
    """Return how many pieces of several levels the hooks left as they are, and their voxels.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map after the hooks.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    """
    if np.count_nonzero(labels) < 2:
        return 0, 0
    pieces = find_bundles(labels, affine).items
    left = [piece for piece in pieces if len(piece.votes) > 1 and not is_sure(piece)]
    return len(left), sum(count for piece in left for _, count in piece.votes)


def _painted(bundles: Bundles, levels: Sequence[int]) -> np.ndarray:
    """Return a level map in which each sure bundle has its level, and the rest its own voxels'."""
    painted = bundles.paint(levels)
    unsure = np.array([not is_sure(bundle) for bundle in bundles.items], dtype=bool)
    left = unsure[bundles.owner]
    painted[tuple(bundles.voxels[left].T)] = bundles.values[left]
    return painted


def follow_bundles(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Give pieces that follow a bundle of the level above or below that bundle's level.

    A level's rootlets leave the cord closely one after the other, on either side, dorsal and
    ventral; the gap to the next level is wider. For levels that were told from the place along the
    cord alone, a piece between two bundles therefore belongs to the nearer one: it takes the level
    of a bundle of the same side and root that is at most :data:`FOLLOWING_MM` away and
    :data:`NEARER_MM` nearer than those of its own level, of which there must be one. Bundles of
    less than half of its volume have no say.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.

    Returns
    -------
    ndarray of uint8, same shape
    """
    for _ in range(_MOST_ROUNDS):
        if np.count_nonzero(labels) < 2:
            break
        bundles = find_bundles(labels, affine)
        levels = [_followed_level(bundle, bundles.items) for bundle in bundles.items]
        if levels == [bundle.level for bundle in bundles.items]:
            break
        labels = bundles.paint(levels)
    return labels.copy()


def _followed_level(bundle: Bundle, others: Sequence[Bundle]) -> int:
    """Return the level of the bundle that one follows, its own if it follows none."""
    gaps: dict[int, float] = {}
    for other in others:
        beside = (other.side, other.part) == (bundle.side, bundle.part) and other is not bundle
        if beside and other.volume >= _LEAST_SHARE * bundle.volume:
            gap = max(other.start - bundle.end, bundle.start - other.end, 0.0)
            gaps[other.level] = min(gap, gaps.get(other.level, np.inf))
    own = gaps.get(bundle.level)
    if own is None:
        return bundle.level
    for level in (bundle.level - 1, bundle.level + 1):
        gap = gaps.get(level, np.inf)
        if gap <= FOLLOWING_MM and gap + NEARER_MM <= own:
            return level
    return bundle.level


def keep_largest(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Keep the four main bundles of each level: the largest dorsal and ventral one on each side.

    Where the roots cannot be told apart, the two largest bundles of a side are kept. A bundle
    belongs to the level of most of its voxels and is kept or removed as a whole. Since removing
    voxels can move the centerline, this is repeated until nothing changes.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Grid and levels of the level map.

    Returns
    -------
    ndarray of uint8, same shape
    """
    kept = _main_bundles(labels, context)
    while not np.array_equal(kept, labels):
        kept, labels = _main_bundles(kept, context), kept
    return kept


def _main_bundles(labels: np.ndarray, context: HookContext) -> np.ndarray:
    if np.count_nonzero(labels) < 2:
        return labels.copy()
    bundles = find_bundles(labels, context.affine)
    places: dict[tuple[int, str, str], int] = {}
    chosen = [0] * len(bundles.items)
    for bundle in sorted(bundles.items, key=lambda bundle: -bundle.volume):
        place = (bundle.level, bundle.side, bundle.part)
        places[place] = places.get(place, 0) + 1
        if places[place] <= (2 if bundle.part == UNSURE else 1):
            chosen[bundle.number] = bundle.level
    return np.where(bundles.paint(chosen) > 0, labels, 0).astype(labels.dtype)


def remove_strays(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Remove small pieces that lie where no rootlets run.

    A piece (connected component, of whatever levels) is stray when it is smaller than
    :data:`STRAY_MM3` and than :data:`STRAY_SHARE` of the typical piece, and lies farther than
    :data:`STRAY_ACROSS_MM` from where the larger pieces around run beside the cord (both sides
    laid upon each other), or farther than :data:`STRAY_ALONG_MM` above or below all of them.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Grid and levels of the level map.

    Returns
    -------
    ndarray of uint8, same shape
    """
    kept = labels.copy()
    for _ in range(_MOST_ROUNDS):
        stray = stray_voxels(kept, context.affine)
        if not len(stray[0]):
            break
        kept[stray] = 0
    return kept


def stray_voxels(labels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the indices of the voxels :func:`remove_strays` removes.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.

    Returns
    -------
    tuple of three ndarrays of int, shape (n,)
        As :func:`numpy.nonzero` gives them.
    """
    voxels = voxels_of(labels)
    piece = connected(voxels)
    volumes = np.bincount(piece) * voxel_volume(affine)
    # The median over voxels: a hundred specks must not make a speck the typical piece.
    typical = np.median(volumes[piece]) if len(piece) else 0.0
    small = (volumes < STRAY_MM3) & (volumes < STRAY_SHARE * typical)
    if not small.any() or np.count_nonzero(~small) < _FEWEST_PIECES:
        return tuple(voxels[:0].T)
    points = to_world(voxels, affine)
    where = line_through_rootlets(points[~small[piece]]).project(points)
    stray = np.zeros(len(volumes), dtype=bool)
    main = where[~small[piece]]
    for number in np.flatnonzero(small):
        stray[number] = _is_stray(where[piece == number], main)
    return tuple(voxels[stray[piece]].T)


def sound_bundles(
    bundles: Bundles, labels: np.ndarray
) -> tuple[tuple[Bundle, ...], tuple[Bundle, ...]]:
    """Return the bundles that count for measures, and the strays; specks are in neither.

    Parameters
    ----------
    bundles : Bundles
        All bundles of the labels.
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    """
    stray = np.zeros(labels.shape, dtype=bool)
    stray[stray_voxels(labels, bundles.affine)] = True
    at_stray = np.bincount(
        bundles.owner, weights=stray[tuple(bundles.voxels.T)], minlength=len(bundles.items)
    )
    counted = tuple(
        bundle
        for bundle in bundles.items
        if not at_stray[bundle.number] and bundle.volume >= SPECK_MM3
    )
    return counted, tuple(bundles.items[number] for number in np.flatnonzero(at_stray))


def order_levels(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Resolve bundles out of order or far from their level by a global fit.

    :func:`~sct_rootlets_task.levels.level_fit.fit_levels` finds the levels that agree best with
    the network's labels and with the anatomy. A bundle is changed only where its own level would
    cost at least ``MARGIN`` of that module more; a bundle beyond the task's levels is removed under
    the same condition. All voxels of a bundle get its level; what is no bundle, see ``is_sure``,
    is left as it is.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Grid and levels of the level map.

    Returns
    -------
    ndarray of uint8, same shape
        Unchanged for tasks without priors, for a single level, and for fewer than four bundles.
    """
    result = labels.copy()
    # What one round settles may settle what it left open.
    for _ in range(_MOST_ROUNDS):
        before = result
        result = _ordered(before, context)
        if np.array_equal(before, result):
            break
    return result


def _ordered(labels: np.ndarray, context: HookContext) -> np.ndarray:
    if context.priors is None or len(np.unique(labels)) < 3:
        return labels
    bundles = find_bundles(labels, context.affine)
    if len(bundles.items) < _FEWEST_PIECES:
        return labels
    decided = decide_levels(
        bundles, context.levels, priors=context.priors, level_weight=context.level_weight
    )
    return _painted(bundles, decided)


def decide_levels(
    bundles: Bundles, levels: tuple[int, ...], *, priors: LevelPriors, level_weight: float = 1.0
) -> tuple[int, ...]:
    """Return the level of each bundle after the certain changes of the global fit (0: removed).

    Parameters
    ----------
    bundles : Bundles
        The bundles.
    levels : tuple of int
        Levels of the task, ascending.
    priors : LevelPriors
        Where the levels usually lie.
    level_weight : float
        How many times as much as usual another level than its own costs a bundle.
    """
    votes = vote_costs(bundles.items, levels)
    votes *= level_weight
    fit = fit_levels(bundles.items, levels, priors=priors, evidence=votes)
    decided = []
    for bundle in bundles.items:
        column = levels.index(bundle.level) if bundle.level in levels else len(levels)
        costs = fit.costs[bundle.number]
        margin = MARGIN * max(fit.weights[bundle.number], _LEAST_MARGIN)
        certain = np.isfinite(costs).any() and costs[column] >= margin
        decided.append(fit.levels[bundle.number] if certain else bundle.level)
    return tuple(decided)


UNIFYING: frozenset[Hook] = frozenset({unify_bundles, order_levels})
"""Hooks that give all voxels of a bundle one level."""


def _is_stray(piece: np.ndarray, main: np.ndarray) -> bool:
    """Say whether a piece lies away from the larger ones; both as (arc, right, anterior) rows."""
    from scipy.spatial import cKDTree

    arc = piece[:, 0].mean()
    along = np.abs(main[:, 0] - arc)
    if along.min() > STRAY_ALONG_MM:
        return True
    near = main[along <= _NEIGHBORHOOD_MM]
    section = np.column_stack((np.abs(near[:, 1]), near[:, 2]))
    place = np.column_stack((np.abs(piece[:, 1]), piece[:, 2])).mean(axis=0)
    return bool(cKDTree(section).query(place)[0] > STRAY_ACROSS_MM)
