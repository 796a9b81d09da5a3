"""The spinal levels of the canal: one border between two neighbours, along the centre line.

A locator gives each voxel of the canal a class on its own, so a few of them are off. Levels follow
each other from head to tail, which leaves only where each ends; that is fitted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter

import numpy as np

from sct_rootlets_task.analysis.centreline import CentreLine, line_through_cord
from sct_rootlets_task.analysis.geometry import to_world
from sct_rootlets_task.voxels import voxels_of

BIN_MM = 1.0

_FARTHEST = 3
_SOFT_MM = 1.0
"""Length of canal one level off at which a place counts 1/e of the best one."""
_STEP_MM = 0.1
_MOVE_STEP_MM = 0.2
_DENSITY_MM = 1.5
_GAP_WEIGHT = 2.0
_COMMON_MM, _ALONE_SD_MM, _NEIGHBOUR_SD_MM = 8.0, 9.0, 3.0
"""How far borders move: all of them (scale times the root of 3), one, one against the next."""
_COMMON_STEP_MM = 2.0
_EMPTY_COST, _LAST_EMPTY_COST = 2.4, 0.8
"""For a level without rootlets, and for the last one, many of whose are too faint to be found."""
_BEYOND_COST = 2.4
"""For half a level's rootlets, or more, below the last level."""
_HALF_A_LEVEL = 0.5
"""So many rootlets, in those of a mean level, are enough for a level not to count as empty."""


@dataclass(frozen=True)
class Run:
    """A stretch of the canal.

    Parameters
    ----------
    rank : int
        Place in the order of the classes from head to tail, from 0.
    start, end : float
        Arc lengths in mm from the cranial end of the canal.
    agreement : float
        Share of its voxels that were of this class before the fit: how sure it is.
    """

    rank: int
    start: float
    end: float
    agreement: float


@dataclass(frozen=True, eq=False)
class LevelField:
    """The levels of the canal along its centre line.

    Parameters
    ----------
    line : CentreLine
        Centre line of the canal.
    runs : tuple of Run
        Stretches from head to tail without gaps, in the order of the classes.
    """

    line: CentreLine
    runs: tuple[Run, ...]

    @property
    def length_mm(self) -> float:
        """Length of the canal in view."""
        return self.runs[-1].end - self.runs[0].start

    def rank_at(self, arcs: np.ndarray) -> np.ndarray:
        """Return the rank (int, shape (n,)) at arc lengths in mm (float, shape (n,)).

        Beyond the ends of the canal the first and the last stretch go on.
        """
        ranks = np.array([run.rank for run in self.runs])
        return ranks[np.searchsorted(self._borders(), arcs, side="right")]

    def first_cut_to(self, share: float) -> LevelField:
        """Leave to the first level only a share of its length, at its lower end.

        The rest goes to the stretch above the levels. Nothing changes unless that stretch, the
        first level and what follows are all there: otherwise the level may be in view in part.

        Parameters
        ----------
        share : float
            0 to 1.
        """
        if len(self.runs) < 3 or [run.rank for run in self.runs[:2]] != [0, 1]:
            return self
        above, first, *others = self.runs
        border = first.end - share * (first.end - first.start)
        return replace(
            self, runs=(replace(above, end=border), replace(first, start=border), *others)
        )

    def between_rootlets(self, arcs: np.ndarray, shift_mm: float, last: int) -> LevelField:
        """Move the borders into the gaps between rootlets, all of them together.

        The borders that together cost least are taken (dynamic programmes), costs being about
        negative log-likelihoods. Where levels lie against the vertebrae differs between people, and
        what is located may be off, but for neighbouring levels by about the same: all of them move
        by a common distance, of Student's t distribution with 3 degrees of freedom and a scale of
        4.6 mm; each by some more or less, with a standard deviation of 9 mm; and by another
        distance than its neighbour, with one of 3 mm. A border costs the density of rootlets where
        it lies, relative to the mean density.

        A level all of which is in view has rootlets, though those of the last one are faint, and
        few are seen beyond it: so what is located a whole level too high is mended, where the upper
        end shows no rootlets and the lower end too many. That counts in full where every level
        shows rootlets, and nothing where half of them or fewer do. Rootlets above the first level
        cost nothing, since those of C1 may be seen there.

        Rootlets that no border can reach do not count, so it does not matter how far above and
        below rootlets were looked for.

        Parameters
        ----------
        arcs : ndarray of float, shape (n,)
            Arc lengths of the rootlets' voxels in mm.
        shift_mm : float
            No border moves farther.
        last : int
            Rank of the last level; that of the first is 1, and 0 is what lies above.
        """
        borders = self._borders()
        if not len(borders):
            return self
        arcs = arcs[(arcs >= borders[0] - shift_mm) & (arcs <= borders[-1] + shift_mm)]
        if not len(arcs):
            return self
        moves = np.arange(-shift_mm, shift_mm + _MOVE_STEP_MM / 2, _MOVE_STEP_MM)
        places = borders[:, None] + moves[None]
        ranks = np.array([run.rank for run in self.runs])
        # Rootlets above each place, in those of a mean level.
        in_view = max(int(np.count_nonzero((ranks >= 1) & (ranks <= last))), 1)
        above = np.searchsorted(np.sort(arcs), places) * in_view / len(arcs)
        sure = _completeness(arcs, borders, in_view)
        costs = _GAP_WEIGHT * _density(places, arcs)
        if ranks[-1] > last:
            costs[-1] += sure * _BEYOND_COST * _filled(in_view - above[-1])
        empty = sure * np.where(ranks[1:-1] == last, _LAST_EMPTY_COST, _EMPTY_COST)
        moved = borders + moves[_cheapest(costs, moves, above, empty)]
        starts = np.maximum.accumulate([self.runs[0].start, *moved])
        ends = [*starts[1:], max(self.runs[-1].end, starts[-1])]
        runs = [
            replace(run, start=float(a), end=float(b))
            for run, a, b in zip(self.runs, starts, ends, strict=True)
        ]
        return replace(self, runs=tuple(runs))

    def _borders(self) -> np.ndarray:
        return np.array([run.start for run in self.runs[1:]])


def fit_level_field(ranks: np.ndarray, affine: np.ndarray) -> LevelField:
    """Fit the borders between the levels of a located canal.

    The classes of the voxels are counted in pieces of 1 mm along the centre line; of all ways to
    go through the classes in their order, some of which may be left out, the one is taken whose
    classes differ least from the voxels' own (dynamic programme; a difference counts up to three
    levels). A border then lies at the mean of all its places between its neighbours, each weighted
    by exp(−the mm of canal that are more levels off than with the best place): a few voxels of
    another class, which rounding decides, move it by a few hundredths of a mm, not by a piece.

    Parameters
    ----------
    ranks : ndarray of int, shape (i, j, k)
        Place of each voxel's class in their order from head to tail, from 0; −1 outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.

    Raises
    ------
    ImageError
        If fewer than two voxels are in the canal.
    """
    inside = voxels_of(ranks >= 0)
    points = to_world(inside, affine)
    line = line_through_cord(points)
    arcs = line.project(points)[:, 0]
    own = ranks[tuple(inside.T)]
    pieces = (arcs - arcs.min()) / BIN_MM
    size, classes = int(pieces.max()) + 1, np.arange(own.max() + 1)
    counts = np.stack([_binned(pieces[own == rank] - 0.5, size) for rank in classes], axis=1)
    costs = counts @ np.minimum(np.abs(classes[:, None] - classes[None]), _FARTHEST)
    fitted = _in_order(costs)
    edges = np.flatnonzero(np.r_[True, np.diff(fitted) != 0, True])
    softened = _softened(edges, fitted, costs * (BIN_MM / _SOFT_MM / counts.sum(axis=1).mean()))
    borders = arcs.min() + BIN_MM * softened
    runs = []
    for (a, b), (start, end) in zip(pairwise(edges), pairwise(borders), strict=True):
        total, same = counts[a:b].sum(), counts[a:b, fitted[a]].sum()
        runs.append(Run(int(fitted[a]), float(start), float(end), float(same / max(total, 1))))
    return LevelField(line, tuple(runs))


def _binned(places: np.ndarray, size: int) -> np.ndarray:
    """Return how many places are at 0, 1, … (float, shape (size,)), each shared by the two next.

    Unlike those of a histogram, these counts change little when the places do.
    """
    places = np.clip(places, 0, size - 1)
    lower = np.floor(places).astype(int)
    share = places - lower
    counts = np.bincount(lower, 1 - share, size) + np.bincount(lower + 1, share, size + 1)[:size]
    return np.asarray(counts)


def _softened(edges: np.ndarray, fitted: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return the ends of the stretches with the inner ones at their mean places.

    Parameters
    ----------
    edges : ndarray of int, shape (stretches + 1,)
        Where stretches of pieces begin, and the number of pieces.
    fitted : ndarray of int, shape (n,)
        Class of each piece.
    costs : ndarray of float, shape (n, classes)
        What each class costs there.
    """
    result = edges.astype(float)
    for number in range(1, len(edges) - 1):
        start, border, end = edges[number - 1 : number + 2]
        around = costs[start:end, [fitted[start], fitted[border]]]
        cost = np.cumsum(around[:, 0] - around[:, 1])[:-1]
        weights = np.exp(cost.min() - cost)
        result[number] = start + 1 + weights @ np.arange(len(cost)) / weights.sum()
    return np.maximum.accumulate(result)


def _in_order(costs: np.ndarray) -> np.ndarray:
    """Return the class of each piece (shape (n,)) from its costs (shape (n, classes))."""
    classes = np.arange(costs.shape[1])
    best = np.zeros(len(classes))
    came_from = np.zeros(costs.shape, dtype=int)
    for number, cost in enumerate(costs):
        lowest = np.minimum.accumulate(best)
        came_from[number] = np.maximum.accumulate(np.where(best == lowest, classes, 0))
        best = lowest + cost
    path = np.empty(len(costs), dtype=int)
    state = int(best.argmin())
    for number in range(len(costs) - 1, -1, -1):
        path[number] = state
        state = int(came_from[number, state])
    return path


def _density(places: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Return the density of rootlets at places (any shape), 1 for the mean over their extent."""
    low, high = arcs.min() - 5 * _DENSITY_MM, arcs.max() + 5 * _DENSITY_MM
    knots = np.arange(low, high + _STEP_MM, _STEP_MM)
    counts = _binned((arcs - low) / _STEP_MM, len(knots))
    reach = np.arange(-5 * _DENSITY_MM, 5 * _DENSITY_MM + _STEP_MM / 2, _STEP_MM)
    kernel = np.exp(-0.5 * (reach / _DENSITY_MM) ** 2)
    smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
    mean = len(arcs) * _STEP_MM / max(np.ptp(arcs), _STEP_MM)
    return np.interp(places, knots, smooth / mean, left=0, right=0)


def _filled(rootlets: np.ndarray) -> np.ndarray:
    """Return how far rootlets, in those of a mean level, make a level (0 to 1): half are enough."""
    return np.asarray(np.clip(rootlets / _HALF_A_LEVEL, 0, 1))


def _completeness(arcs: np.ndarray, borders: np.ndarray, levels: int) -> float:
    """Return 1 where rootlets are found beside every level in view, 0 where beside half or fewer.

    Parameters
    ----------
    arcs : ndarray of float, shape (n,)
        Arc lengths of the rootlets' voxels in mm.
    borders : ndarray of float, shape (borders,)
        Where the levels are located, in mm.
    levels : int
        Number of levels in view.
    """
    counts = np.bincount(np.searchsorted(borders, arcs), minlength=len(borders) + 1)
    shares = np.sort(_filled(counts * levels / len(arcs)))[::-1]
    return float(np.clip(2 * shares[:levels].mean() - 1, 0, 1))


def _cheapest(
    costs: np.ndarray, moves: np.ndarray, above: np.ndarray, empty: np.ndarray
) -> np.ndarray:
    """Return the move of each border (index, shape (borders,)) of the least total cost.

    Parameters
    ----------
    costs : ndarray of float, shape (borders, moves)
        What each border costs at each of its places.
    moves : ndarray of float, shape (moves,)
        In mm.
    above : ndarray of float, shape (borders, moves)
        Rootlets above each place, in those of a mean level.
    empty : ndarray of float, shape (borders - 1,)
        Cost of no rootlets between a border and the next.
    """
    apart = (moves[:, None] - moves[None]) ** 2 / (2 * _NEIGHBOUR_SD_MM**2)
    links = [
        apart + price * (1 - _filled(lower[None] - upper[:, None]))
        for price, (upper, lower) in zip(empty, pairwise(above), strict=True)
    ]
    paths = []
    for common in np.arange(moves[0], moves[-1] + _COMMON_STEP_MM / 2, _COMMON_STEP_MM):
        alone = costs + (moves - common) ** 2 / (2 * _ALONE_SD_MM**2)
        cost, path = _path(alone, links)
        paths.append((cost + 2 * np.log1p((common / _COMMON_MM) ** 2), path))
    return min(paths, key=itemgetter(0))[1]


def _path(costs: np.ndarray, links: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """Return the least cost of a path through places, and its places (index, shape (steps,)).

    Parameters
    ----------
    costs : ndarray of float, shape (steps, places)
        What each place costs at each step.
    links : sequence of ndarray of float, shape (places, places)
        What it costs to go from one place to another, between each step and the next.
    """
    total, came_from = costs[0], []
    for cost, link in zip(costs[1:], links, strict=True):
        ways = total[:, None] + link
        came_from.append(ways.argmin(axis=0))
        total = ways.min(axis=0) + cost
    path = [int(total.argmin())]
    for table in reversed(came_from):
        path.append(int(table[path[-1]]))
    return float(total.min()), np.array(path[::-1])
