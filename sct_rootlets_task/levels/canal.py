"""The spinal levels of the canal: one border between two neighbors, along the centerline.

A locator gives each voxel of the canal a class on its own, so a few of them are off. Levels follow
each other from head to tail, which leaves only where each ends; that is fitted here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, repeat

import numpy as np

from sct_rootlets_task.rootlets.centerline import Centerline, line_through_cord
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import to_world
from sct_rootlets_task.rootlets.viterbi import cheapest_path

BIN_MM = 1.0

_FARTHEST = 3
_SOFT_MM = 1.0
"""Length of canal one level off at which a place counts 1/e of the best one."""


@dataclass(frozen=True)
class LevelSpan:
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
class LevelIntervals:
    """The levels of the canal along its centerline.

    Parameters
    ----------
    line : Centerline
        Centerline of the canal.
    spans : tuple of LevelSpan
        Stretches from head to tail without gaps, in the order of the classes.
    """

    line: Centerline
    spans: tuple[LevelSpan, ...]

    @property
    def length_mm(self) -> float:
        """Length of the canal in view."""
        return self.spans[-1].end - self.spans[0].start

    def rank_at(self, arcs: np.ndarray) -> np.ndarray:
        """Return the rank (int, shape (n,)) at arc lengths in mm (float, shape (n,)).

        Beyond the ends of the canal the first and the last stretch go on.
        """
        ranks = np.array([span.rank for span in self.spans])
        return ranks[np.searchsorted(self.borders, arcs, side="right")]

    def first_cut_to(self, share: float) -> LevelIntervals:
        """Leave to the first level only a share of its length, at its lower end.

        The rest goes to the stretch above the levels. Nothing changes unless that stretch, the
        first level and what follows are all there: otherwise the level may be in view in part.

        Parameters
        ----------
        share : float
            0 to 1.
        """
        if len(self.spans) < 3 or [span.rank for span in self.spans[:2]] != [0, 1]:
            return self
        above, first, *others = self.spans
        border = first.end - share * (first.end - first.start)
        return replace(
            self, spans=(replace(above, end=border), replace(first, start=border), *others)
        )

    @property
    def borders(self) -> np.ndarray:
        """Arc lengths in mm where a stretch ends and the next begins, shape (spans - 1,)."""
        return np.array([span.start for span in self.spans[1:]])

    def with_borders(self, borders: np.ndarray) -> LevelIntervals:
        """Return the same stretches between other borders, of which none lies above the one before.

        Parameters
        ----------
        borders : ndarray of float, shape (spans - 1,)
            Arc lengths in mm.
        """
        starts = np.maximum.accumulate([self.spans[0].start, *borders])
        ends = [*starts[1:], max(self.spans[-1].end, starts[-1])]
        spans = [
            replace(span, start=float(a), end=float(b))
            for span, a, b in zip(self.spans, starts, ends, strict=True)
        ]
        return replace(self, spans=tuple(spans))


def fit_level_intervals(ranks: np.ndarray, affine: np.ndarray) -> LevelIntervals:
    """Fit the borders between the levels of a located canal.

    The classes of the voxels are counted in pieces of 1 mm along the centerline; of all ways to
    go through the classes in their order, some of which may be left out, the one is taken whose
    classes differ least from the voxels' own (dynamic program; a difference counts up to three
    levels). A border then lies at the mean of all its places between its neighbors, each weighted
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
    counts = np.stack([binned(pieces[own == rank] - 0.5, size) for rank in classes], axis=1)
    costs = counts @ np.minimum(np.abs(classes[:, None] - classes[None]), _FARTHEST)
    downwards = np.where(classes[:, None] <= classes, 0, np.inf)
    _, fitted = cheapest_path(costs, repeat(downwards), late=True)
    edges = np.flatnonzero(np.r_[True, np.diff(fitted) != 0, True])
    softened = _softened(edges, fitted, costs * (BIN_MM / _SOFT_MM / counts.sum(axis=1).mean()))
    borders = arcs.min() + BIN_MM * softened
    spans = []
    for (a, b), (start, end) in zip(pairwise(edges), pairwise(borders), strict=True):
        total, same = counts[a:b].sum(), counts[a:b, fitted[a]].sum()
        spans.append(
            LevelSpan(int(fitted[a]), float(start), float(end), float(same / max(total, 1)))
        )
    return LevelIntervals(line, tuple(spans))


def binned(places: np.ndarray, size: int) -> np.ndarray:
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
