"""The borders between levels, moved from where they are located into the gaps between rootlets.

Where levels lie against the vertebrae differs between people, and a locator may be off. Rootlets
show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from operator import itemgetter

import numpy as np

from sct_rootlets_task.levels.canal import LevelIntervals, binned
from sct_rootlets_task.rootlets.viterbi import cheapest_path

ANOTHER_WAY = 0.5
"""Mean difference, in levels, from which the rootlets of a level count as assigned differently."""
LONGEST_MM = 17.0
"""Rootlets of one level reach over no more of the cord, a tenth of them left out. The number, like
the costs below, was chosen on synthetic cases: ``training/choices.py``."""

_STEP_MM = 0.1
_MOVE_STEP_MM = 0.2
_DENSITY_MM = 1.5
_GAP_WEIGHT = 2.0
_COMMON_MM, _ALONE_SD_MM, _NEIGHBOR_SD_MM = 8.0, 9.0, 3.0
"""How far borders move: all of them (scale times the root of 3), one, one against the next."""
_COMMON_STEP_MM = 2.0
_EMPTY_COST, _LAST_EMPTY_COST = 2.4, 0.8
"""For a level without rootlets, and for the last one, many of whose are too faint to be found."""
_BEYOND_COST = 2.4
"""For half a level's rootlets, or more, below the last level."""
_HALF_A_LEVEL = 0.5
"""So many rootlets, in those of a mean level, are enough for a level not to count as empty."""
_LONG_COST, _TOO_LONG_MM = 2.4, 5.0
"""For a level whose rootlets reach so much farther than :data:`LONGEST_MM`, or more."""
_TAIL = 0.05


@dataclass(frozen=True, eq=False)
class Placement:
    """Levels whose borders lie between rootlets.

    Parameters
    ----------
    field : LevelIntervals
        The levels along the canal.
    margin : float
        How much more the best other way would cost, in nats. Another way assigns the rootlets of at
        least half the levels differently, by :data:`ANOTHER_WAY` of a level in the mean. All levels
        count alike, however few rootlets they show. 0 for as good a way, infinite without any.
    """

    field: LevelIntervals
    margin: float = np.inf


def between_rootlets(
    field: LevelIntervals, arcs: np.ndarray, *, shift_mm: float, last: int
) -> Placement:
    """Move the borders into the gaps between rootlets, all of them together.

    The borders that together cost least are taken (Viterbi); costs are about negative
    log-likelihoods.

    - A locator is off by about the same at neighboring levels. So all borders move by a common
      distance: Student's t distribution, 3 degrees of freedom, scale 4.6 mm. Each moves by some
      more or less (standard deviation 9 mm), and otherwise than its neighbor (3 mm).
    - A border costs the density of rootlets where it lies, relative to the mean density.
    - A level wholly in view has rootlets, though those of the last one are faint, and few are seen
      beyond it. This mends what is located a whole level too high: the upper end shows no
      rootlets, the lower end too many. It counts in full where every level shows rootlets, and not
      at all where half of them or fewer do.
    - The rootlets of one level reach over no more than :data:`LONGEST_MM`, so it cannot have those
      of two.
    - Rootlets above the first level cost nothing: those of C1 may be seen there.

    Rootlets that no border can reach do not count, unless they are those of a first or last level
    whose own end is out of view. So it does not matter how far rootlets were looked for.

    Parameters
    ----------
    field : LevelIntervals
        Where the levels are located.
    arcs : ndarray of float, shape (n,)
        Arc lengths of the rootlets' voxels in mm.
    shift_mm : float
        No border moves farther.
    last : int
        Rank of the last level; that of the first is 1, and 0 is what lies above.
    """
    borders = field.borders
    if not len(borders):
        return Placement(field)
    ranks = np.array([span.rank for span in field.spans])
    above, below = (shift_mm + LONGEST_MM * (1 <= ranks[end] <= last) for end in (0, -1))
    arcs = arcs[(arcs >= borders[0] - above) & (arcs <= borders[-1] + below)]
    if not len(arcs):
        return Placement(field)
    moves = np.arange(-shift_mm, shift_mm + _MOVE_STEP_MM / 2, _MOVE_STEP_MM)
    rootlets = _Rootlets.of(arcs, ranks, last)
    ways = sorted(_ways(rootlets, borders, ranks, moves, last), key=itemgetter(0))
    moved = [np.maximum.accumulate(borders + move) for _, move in ways]
    assigned = [ranks[np.searchsorted(places, rootlets.arcs, side="right")] for places in moved]
    another = [
        cost - ways[0][0]
        for (cost, _), levels in zip(ways, assigned, strict=True)
        if _differ(assigned[0], levels)
    ]
    return Placement(field.with_borders(moved[0]), min(another, default=np.inf))


def _differ(some: np.ndarray, others: np.ndarray) -> bool:
    """Say whether the rootlets of half the levels get other ranks, int, shape (n,).

    What lies above the first level or below the last counts as a level where it has rootlets.
    """
    apart = [abs(np.mean(others[some == rank] - rank)) for rank in np.unique(some)]
    return bool(np.mean(np.array(apart) >= ANOTHER_WAY) >= 0.5)


@dataclass(frozen=True, eq=False)
class _Rootlets:
    """Rootlets along the canal.

    Parameters
    ----------
    arcs : ndarray of float, shape (n,)
        Arc lengths of their voxels in mm, ascending.
    levels : int
        Number of levels in view.
    """

    arcs: np.ndarray
    levels: int

    @classmethod
    def of(cls, arcs: np.ndarray, ranks: np.ndarray, last: int) -> _Rootlets:
        return cls(np.sort(arcs), max(int(np.count_nonzero((ranks >= 1) & (ranks <= last))), 1))

    def above(self, places: np.ndarray) -> np.ndarray:
        """Return the number of rootlet voxels above places."""
        return np.searchsorted(self.arcs, places)

    def filled(self, voxels: np.ndarray) -> np.ndarray:
        """Return how far so many voxels make a level (0 to 1): half of a mean one's are enough."""
        return np.clip(voxels * self.levels / len(self.arcs) / _HALF_A_LEVEL, 0, 1)

    def excess(self, first: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Return how far voxels number `first` to `end` - 1 are too long for a level (0 to 1)."""
        tail = _TAIL * (end - first)
        bounds = np.ceil(first + tail).astype(int), np.floor(end - 1 - tail).astype(int)
        start, stop = (self.arcs[np.clip(n, 0, len(self.arcs) - 1)] for n in bounds)
        return np.clip((stop - start - LONGEST_MM) / _TOO_LONG_MM, 0, 1)

    def density(self, places: np.ndarray) -> np.ndarray:
        """Return the density of rootlets at places, 1 for the mean over their extent."""
        arcs = self.arcs
        low, high = arcs[0] - 5 * _DENSITY_MM, arcs[-1] + 5 * _DENSITY_MM
        knots = np.arange(low, high + _STEP_MM, _STEP_MM)
        counts = binned((arcs - low) / _STEP_MM, len(knots))
        reach = np.arange(-5 * _DENSITY_MM, 5 * _DENSITY_MM + _STEP_MM / 2, _STEP_MM)
        kernel = np.exp(-0.5 * (reach / _DENSITY_MM) ** 2)
        smooth = np.convolve(counts, kernel / kernel.sum(), mode="same")
        mean = len(arcs) * _STEP_MM / max(np.ptp(arcs), _STEP_MM)
        return np.interp(places, knots, smooth / mean, left=0, right=0)

    def completeness(self, borders: np.ndarray) -> float:
        """Return 1 where rootlets lie beside every located level, 0 where beside half or fewer."""
        counts = np.bincount(np.searchsorted(borders, self.arcs), minlength=len(borders) + 1)
        shares = np.sort(self.filled(counts))[::-1]
        return float(np.clip(2 * shares[: self.levels].mean() - 1, 0, 1))


def _ways(
    rootlets: _Rootlets, borders: np.ndarray, ranks: np.ndarray, moves: np.ndarray, last: int
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield, for each common move, the least cost and by how much each border moves (mm)."""
    places = borders[:, None] + moves[None]
    above, everything = rootlets.above(places), len(rootlets.arcs)
    sure = rootlets.completeness(borders)
    costs = _GAP_WEIGHT * rootlets.density(places)
    if ranks[0] > 0:
        costs[0] += _LONG_COST * rootlets.excess(np.zeros_like(above[0]), above[0])
    if ranks[-1] > last:
        costs[-1] += sure * _BEYOND_COST * rootlets.filled(everything - above[-1])
    else:
        below = np.full_like(above[-1], everything)
        costs[-1] += _LONG_COST * rootlets.excess(above[-1], below)
    apart = (moves[:, None] - moves[None]) ** 2 / (2 * _NEIGHBOR_SD_MM**2)
    links = []
    for rank, (upper, lower) in zip(ranks[1:-1], pairwise(above), strict=True):
        empty = sure * (_LAST_EMPTY_COST if rank == last else _EMPTY_COST)
        first, end = np.broadcast_arrays(upper[:, None], lower[None])
        link = apart + empty * (1 - rootlets.filled(end - first))
        links.append(link + _LONG_COST * rootlets.excess(first, end))
    for common in np.arange(moves[0], moves[-1] + _COMMON_STEP_MM / 2, _COMMON_STEP_MM):
        alone = costs + (moves - common) ** 2 / (2 * _ALONE_SD_MM**2)
        cost, path = cheapest_path(alone, links)
        yield cost + 2 * float(np.log1p((common / _COMMON_MM) ** 2)), moves[path]
