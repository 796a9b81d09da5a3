"""The global fit: which level each bundle most likely has, given where all of them lie.

Bundles, in the order of their midpoints along the cord, are parted into groups, one group a level,
levels growing downwards. Among all such partings a dynamic program finds the one of least cost:
distance of a bundle's level from the network's (or from other evidence), distance of a bundle from
its group, height of a group, distance between neighboring groups, levels left out. Costs are in
nats (negative log-likelihoods up to a constant). The same program run from both ends tells for
each bundle what any other level would have cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.rootlets.bundles import Bundle
from sct_rootlets_task.rootlets.postprocess import LevelPriors

VOTE_COST = 3.0
"""For a whole bundle to have another level than the network says: odds of 1 to 20."""

FAR_VOTE = 1.4
"""Networks confuse neighboring levels first; two levels and more away costs this much more."""

REMOVAL_COST = 5.0
"""For a whole bundle to be no rootlet of the task's levels at all: odds of 1 to 150."""

POSITION_SD_MM = 2.0
"""Spread of the midpoints of a level's bundles (PAM50: within 2 mm of their mean)."""

MISSING_COST = 1.0
"""For each level left out between two groups."""

MARGIN = 2.0
"""A level is certain when another one costs this much more: odds of 1 to 7. For a small piece,
whose costs all count for less, the margin is smaller in proportion."""

_LARGEST_PROBLEM = 64
_GROUP_SPAN_MM = 24.0
_SPACING_CAP = 8.0
_HEIGHT_SD_MM = 1.5
_TYPICAL_HEIGHT_MM = 10.0
_EXTRA = 2


@dataclass(frozen=True, eq=False)
class LevelFit:
    """Result of the global fit.

    Parameters
    ----------
    levels : tuple of int
        For each bundle the level that fits best; 0 where it lies beyond the task's levels. The
        smallest bundles of very fragmented segmentations do not take part and keep theirs.
    costs : ndarray of float, shape (bundles, levels + 1)
        What each level (columns in ascending order; last: beyond the task's levels) would cost more
        than the best solution; infinite where it is impossible.
    weights : ndarray of float, shape (bundles,)
        How much each bundle counted.
    total : float
        Cost of the best solution.
    """

    levels: tuple[int, ...]
    costs: np.ndarray
    weights: np.ndarray
    total: float


def vote_costs(bundles: Sequence[Bundle], levels: Sequence[int]) -> np.ndarray:
    """Return what it costs to give each bundle each level against the network's labels.

    Parameters
    ----------
    bundles : sequence of Bundle
        The bundles.
    levels : sequence of int
        Levels of the task, ascending.

    Returns
    -------
    ndarray of float, shape (bundles, levels + 1)
        In nats for a bundle of full weight; last column: no rootlet of these levels.
    """
    costs = np.empty((len(bundles), len(levels) + 1))
    for row, bundle in zip(costs, bundles, strict=True):
        votes = dict(bundle.votes)
        most = votes[bundle.level]
        for column, level in enumerate(levels):
            against = 1 - votes.get(level, 0) / most
            row[column] = against * (FAR_VOTE if abs(level - bundle.level) > 1 else 1.0)
        row[-1] = REMOVAL_COST / VOTE_COST if bundle.level in levels else 0.0
    return VOTE_COST * costs


def fit_levels(
    bundles: Sequence[Bundle],
    levels: Sequence[int],
    *,
    priors: LevelPriors,
    evidence: np.ndarray | None = None,
) -> LevelFit:
    """Find the levels of all bundles together.

    Parameters
    ----------
    bundles : sequence of Bundle
        The bundles.
    levels : sequence of int
        Levels of the task, ascending.
    priors : LevelPriors
        Where they usually lie.
    evidence : ndarray of float, shape (bundles, levels + 1), optional
        Cost of each level for each bundle; :func:`vote_costs` by default.
    """
    evidence = vote_costs(bundles, levels) if evidence is None else evidence
    order = sorted(range(len(bundles)), key=lambda n: -bundles[n].volume)[:_LARGEST_PROBLEM]
    order.sort(key=lambda n: bundles[n].midpoint)
    chosen = [bundle.level for bundle in bundles]
    extra = np.full((len(bundles), len(levels) + 1), np.inf)
    total = 0.0
    weights = np.zeros(len(bundles))
    if order:
        taking_part = [bundles[n] for n in order]
        weights[order] = bundle_weights(taking_part)
        problem = _Problem.of(taking_part, evidence[order], levels, priors)
        costs = problem.solve()
        total = float(costs.min())
        possible = np.isfinite(costs)
        extra[order] = np.subtract(costs, total, out=np.full(costs.shape, np.inf), where=possible)
        for number in order:
            column = int(extra[number].argmin())
            chosen[number] = levels[column] if column < len(levels) else 0
    return LevelFit(tuple(chosen), extra, weights, total)


def bundle_weights(bundles: Sequence[Bundle]) -> np.ndarray:
    """Return how much each bundle counts: 1, or less for those under half the median volume."""
    volumes = np.array([bundle.volume for bundle in bundles])
    return np.clip(volumes / (0.5 * np.median(volumes)), 0.25, 1.0)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Groups of neighboring bundles, and the costs of giving them levels.

    Columns of all cost tables are: one level above the task's, the task's levels, and two below.
    """

    first: np.ndarray
    last: np.ndarray
    middle: np.ndarray
    unary: np.ndarray
    spacing_mean: np.ndarray
    spacing_sd: np.ndarray
    skipped: np.ndarray
    bundles: int

    @classmethod
    def of(
        cls,
        bundles: Sequence[Bundle],
        evidence: np.ndarray,
        levels: Sequence[int],
        priors: LevelPriors,
    ) -> _Problem:
        columns = [levels[0] - 1, *levels, *(levels[-1] + n for n in range(1, _EXTRA + 1))]
        weights = bundle_weights(bundles)
        per_level = np.column_stack([evidence[:, -1], evidence[:, :-1]] + [evidence[:, -1]] * 2)
        summed = np.concatenate(
            (np.zeros((1, len(columns))), np.cumsum(per_level * weights[:, None], axis=0))
        )
        midpoints = np.array([bundle.midpoint for bundle in bundles])
        first, last = np.nonzero(np.triu(midpoints - midpoints[:, None] <= _GROUP_SPAN_MM))
        middle, scatter = _scatter(bundles, weights, first, last)
        unary = summed[last + 1] - summed[first] + scatter[:, None]
        highest = np.array([priors.height_range(level)[1] for level in columns])
        unary += _excess_height(bundles, first, last, highest)
        means, sds = _spacing_table(columns, priors)
        rank = np.arange(len(columns))
        skipped = MISSING_COST * np.maximum(rank - rank[:, None] - 1, 0.0)
        # What lies beyond the task's levels is only known by the level next to it being there too.
        skipped[:, -_EXTRA:] = np.where(rank[:, None] == rank[-_EXTRA:] - 1, 0, np.inf)
        skipped[0] = np.where(rank == 1, 0, np.inf)
        skipped[rank[:, None] >= rank] = np.inf
        return cls(first, last, middle, unary, means, sds, skipped, len(bundles))

    def solve(self) -> np.ndarray:
        """Return the least cost of everything for each level of each bundle."""
        down = self._sweep(forwards=True)
        up = self._sweep(forwards=False)
        through = down + up - self.unary
        costs = np.full((self.bundles, through.shape[1]), np.inf)
        for first, last, cost in zip(self.first, self.last, through, strict=True):
            costs[first : last + 1] = np.minimum(costs[first : last + 1], cost)
        beyond = np.minimum(costs[:, 0], costs[:, -_EXTRA:].min(axis=1))
        return np.column_stack((costs[:, 1:-_EXTRA], beyond))

    def _sweep(self, *, forwards: bool) -> np.ndarray:
        """Return the least cost of everything up to (or from) each group, at each level."""
        total = self.unary.copy()
        starts, ends = (self.first, self.last) if forwards else (self.last, self.first)
        edge = 0 if forwards else self.bundles - 1
        for group in np.argsort(starts if forwards else -starts, kind="stable"):
            # A chain may only begin with the outermost bundle, and not beyond the task's levels.
            if starts[group] == edge:
                total[group, slice(-_EXTRA, None) if forwards else 0] = np.inf
                continue
            before = np.flatnonzero(ends == starts[group] + (-1 if forwards else 1))
            gap = np.abs(self.middle[group] - self.middle[before])[:, None, None]
            z = (gap - self.spacing_mean) / self.spacing_sd
            link = np.minimum(z**2 / 2, _SPACING_CAP) + self.skipped
            if forwards:
                best = (total[before][:, :, None] + link).min(axis=(0, 1))
            else:
                best = (total[before][:, None, :] + link).min(axis=(0, 2))
            total[group] += best
        return total


def _scatter(
    bundles: Sequence[Bundle], weights: np.ndarray, first: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each group and the cost of its bundles' distances from there.

    A short piece of a bundle may lie anywhere within a level's height at no cost.
    """
    midpoints = np.array([bundle.midpoint for bundle in bundles])
    heights = np.array([bundle.height for bundle in bundles])
    slack = np.clip((_TYPICAL_HEIGHT_MM - heights) / 2, 0, None)
    middles, costs = np.empty(len(first)), np.empty(len(first))
    for number, (i, j) in enumerate(zip(first, last + 1, strict=True)):
        middles[number] = np.average(midpoints[i:j], weights=weights[i:j])
        away = np.maximum(np.abs(midpoints[i:j] - middles[number]) - slack[i:j], 0)
        costs[number] = (weights[i:j] * (away / POSITION_SD_MM) ** 2 / 2).sum()
    return middles, costs


def _excess_height(
    bundles: Sequence[Bundle], first: np.ndarray, last: np.ndarray, highest: np.ndarray
) -> np.ndarray:
    """Return the cost of groups higher than each level is seen, shape (groups, columns)."""
    starts = np.array([bundle.start for bundle in bundles])
    ends = np.array([bundle.end for bundle in bundles])
    heights = np.array(
        [ends[i : j + 1].max() - starts[i : j + 1].min() for i, j in zip(first, last, strict=True)]
    )
    return np.maximum(heights[:, None] - highest, 0) ** 2 / (2 * _HEIGHT_SD_MM**2)


def _spacing_table(columns: Sequence[int], priors: LevelPriors) -> tuple[np.ndarray, np.ndarray]:
    means, sds = np.zeros((len(columns),) * 2), np.ones((len(columns),) * 2)
    for i, upper in enumerate(columns):
        for j, lower in enumerate(columns):
            if j > i:
                means[i, j], sds[i, j] = priors.spacing(upper, lower)
    return means, sds
