"""The spinal levels of the canal: one border between two neighbours, along the centre line.

A locator gives each voxel of the canal a class on its own, so a few of them are off. Levels follow
each other from head to tail, which leaves only where each ends; that is fitted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from sct_rootlets_task.analysis.centreline import CentreLine, line_through_cord
from sct_rootlets_task.analysis.geometry import to_world

BIN_MM = 1.0
SHIFT_MM = 4.0
"""How far a border may move to lie between two levels' rootlets instead of in the midst of them."""

_FARTHEST = 3
_DENSITY_MM = 1.0
_PULL = 0.02
_STEP_MM = 0.5
_AROUND_MM = 12.0


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

    def rank_at(self, arcs: np.ndarray) -> np.ndarray:
        """Return the rank (int, shape (n,)) at arc lengths in mm (float, shape (n,)).

        Beyond the ends of the canal the first and the last stretch go on.
        """
        ranks = np.array([run.rank for run in self.runs])
        return ranks[np.searchsorted(self._borders(), arcs, side="right")]

    def between_rootlets(self, arcs: np.ndarray, *, ranks: Sequence[int]) -> LevelField:
        """Move borders into the gaps between rootlets.

        Parameters
        ----------
        arcs : ndarray of float, shape (n,)
            Arc lengths of the rootlets' voxels in mm.
        ranks : sequence of int
            Ranks that have rootlets; only borders between two of these move.

        Returns
        -------
        LevelField
            Each border lies where the density of rootlets along the line, plus a penalty that
            grows with the square of the distance, is lowest within :data:`SHIFT_MM`.
        """
        moved = [
            _into_gap(lower.start, arcs) if {upper.rank, lower.rank} <= set(ranks) else lower.start
            for upper, lower in pairwise(self.runs)
        ]
        ends = np.maximum.accumulate([self.runs[0].start, *moved, self.runs[-1].end])
        runs = [
            replace(run, start=float(a), end=float(b))
            for run, (a, b) in zip(self.runs, pairwise(ends), strict=True)
        ]
        return replace(self, runs=tuple(runs))

    def _borders(self) -> np.ndarray:
        return np.array([run.start for run in self.runs[1:]])


def fit_level_field(ranks: np.ndarray, affine: np.ndarray) -> LevelField:
    """Fit the borders between the levels of a located canal.

    The classes of the voxels are counted in pieces of 1 mm along the centre line; of all ways to
    go through the classes in their order, some of which may be left out, the one is taken whose
    classes differ least from the voxels' own (dynamic programme; a difference counts up to three
    levels).

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
    inside = np.argwhere(ranks >= 0)
    points = to_world(inside, affine)
    line = line_through_cord(points)
    arcs = line.project(points)[:, 0]
    own = ranks[tuple(inside.T)]
    piece = np.floor((arcs - arcs.min()) / BIN_MM).astype(int)
    counts = np.zeros((piece.max() + 1, own.max() + 1))
    np.add.at(counts, (piece, own), 1)
    fitted = _in_order(counts)
    starts = np.flatnonzero(np.r_[True, np.diff(fitted) != 0])
    ends = np.r_[starts[1:], len(fitted)]
    runs = []
    for a, b in zip(starts, ends, strict=True):
        total, same = counts[a:b].sum(), counts[a:b, fitted[a]].sum()
        start, end = arcs.min() + BIN_MM * np.array([a, b])
        runs.append(Run(int(fitted[a]), float(start), float(end), float(same / max(total, 1))))
    return LevelField(line, tuple(runs))


def _in_order(counts: np.ndarray) -> np.ndarray:
    """Return the class of each piece (shape (n,)) from the counts (shape (n, classes))."""
    classes = np.arange(counts.shape[1])
    apart = np.minimum(np.abs(classes[:, None] - classes[None]), _FARTHEST)
    costs = counts @ apart
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


def _into_gap(border: float, arcs: np.ndarray) -> float:
    """Return the place near a border with the fewest rootlets."""
    near = arcs[np.abs(arcs - border) < _AROUND_MM]
    if not len(near):
        return float(border)
    places = border + np.arange(-SHIFT_MM, SHIFT_MM + _STEP_MM / 2, _STEP_MM)
    offsets = (places[:, None] - near[None]) / _DENSITY_MM
    density = np.exp(-0.5 * offsets**2).sum(axis=1)
    typical = len(near) * np.sqrt(2 * np.pi) * _DENSITY_MM / (2 * _AROUND_MM)
    return float(places[np.argmin(density / typical + _PULL * (places - border) ** 2)])
