"""Borders between levels lie in the gaps between rootlets, and it is known how surely."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sct_rootlets_task.levels import boundary_refinement
from sct_rootlets_task.levels.boundary_refinement import between_rootlets
from sct_rootlets_task.levels.canal import LevelIntervals, LevelSpan
from sct_rootlets_task.rootlets.centerline import line_through_cord

LINE = line_through_cord(np.stack([*np.zeros((2, 121)), np.arange(121.0)], axis=1))
LAST = 2
"""Rank of the last level: of four stretches, the first and the fourth lie above and below."""


def four_stretches() -> LevelIntervals:
    """Return four stretches of 30 mm."""
    spans = tuple(LevelSpan(rank, 30.0 * rank, 30.0 * (rank + 1), 1.0) for rank in range(4))
    return LevelIntervals(LINE, spans)


def moved_by(field: LevelIntervals, arcs: np.ndarray, shift_mm: float = 10.0) -> LevelIntervals:
    return between_rootlets(field, arcs, shift_mm=shift_mm, last=LAST).field


def test_a_border_moves_into_the_gap_between_rootlets() -> None:
    field = four_stretches()
    arcs = np.concatenate([np.linspace(35, 63, 300), np.linspace(69, 88, 200)])
    moved = moved_by(field, arcs)
    assert 63 < moved.spans[2].start < 69


@pytest.mark.parametrize("shift", [-7.0, 7.0])
def test_borders_move_together_when_all_rootlets_lie_lower_or_higher(shift: float) -> None:
    field = four_stretches()
    middles = np.array([15, 45, 75, 105]) + shift
    arcs = np.concatenate([np.linspace(m - 10, m + 10, 200) for m in middles])
    moved = moved_by(field, arcs).borders
    for border, wanted in zip(moved, (30, 60, 90), strict=True):
        assert abs(border - wanted - shift) < 5
    ranks_of = moved_by(field, arcs).rank_at(arcs).reshape(4, 200)
    assert all((row == number).all() for number, row in enumerate(ranks_of))


@pytest.mark.parametrize("shift_mm", [0.0, 4.0, 10.0])
def test_no_border_moves_farther_than_allowed(shift_mm: float) -> None:
    field = four_stretches()
    moved = moved_by(field, np.linspace(20, 100, 900), shift_mm).borders
    assert max(abs(moved - field.borders)) <= shift_mm + 1e-9


def test_a_border_without_rootlets_around_stays() -> None:
    field = four_stretches()
    moved = moved_by(field, np.array([21.0, 99.0]))
    assert moved.borders == pytest.approx(field.borders, abs=1)


def test_rootlets_that_no_border_can_reach_do_not_matter() -> None:
    field = four_stretches()
    near = np.concatenate([np.linspace(35, 63, 300), np.linspace(69, 88, 200)])
    far = np.concatenate([np.linspace(0, 15, 300), np.linspace(105, 300, 400)])
    moved = moved_by(field, near).borders
    assert moved_by(field, np.concatenate([near, far])).borders.tolist() == moved.tolist()
    assert moved_by(field, far) == field


SPACING, EIGHT = 15.0, 8
"""Length of each of eight levels in mm; the first begins at 30 mm."""


def neck(off: float | np.ndarray) -> LevelIntervals:
    """Return eight levels with canal above and below, located so far (mm) below their place."""
    boundary_refinement = 30 + SPACING * np.arange(EIGHT + 1) + off
    edges = [0.0, *boundary_refinement, 200.0]
    spans = tuple(LevelSpan(rank, edges[rank], edges[rank + 1], 1.0) for rank in range(EIGHT + 2))
    return LevelIntervals(LINE, spans)


def bundles(sizes: list[int]) -> np.ndarray:
    """Return rootlets of so many voxels beside level after level, 10 mm long each."""
    middles = 30 + SPACING * (np.arange(len(sizes)) + 0.5)
    return np.concatenate([m + np.linspace(-5, 5, n) for m, n in zip(middles, sizes, strict=True)])


def told(field: LevelIntervals, sizes: list[int]) -> list[int]:
    """Return the rank of each bundle after the borders have moved."""
    arcs = bundles(sizes)
    ranks = between_rootlets(field, arcs, shift_mm=20.0, last=EIGHT).field.rank_at(arcs)
    return [int(np.median(part)) for part in np.split(ranks, np.cumsum(sizes)[:-1]) if len(part)]


@pytest.mark.parametrize("off", [-15.0, -7.0, 0.0, 7.0])
def test_levels_located_off_are_mended_where_every_level_shows_rootlets(
    off: float,
) -> None:
    assert told(neck(off), [100, 200, 120, 110, 130, 150, 140, 60]) == [*range(1, EIGHT + 1)]


@pytest.mark.parametrize(
    "sizes",
    [
        [0, 200, 120, 110, 130, 150, 140, 60],
        [100, 200, 120, 110, 130, 150, 140, 0],
        [0, 200, 120, 110, 130, 150, 0, 0],
        [0, 0, 0, 0, 0, 150, 0, 0],
        [100, 200, 0, 110, 130, 0, 140, 60],
    ],
)
def test_a_level_without_rootlets_does_not_take_those_of_its_neighbor(sizes: list[int]) -> None:
    expected = [rank for rank, size in enumerate(sizes, 1) if size]
    for off in (-4.0, 0.0, 4.0):
        assert told(neck(off), sizes) == expected


def test_rootlets_of_c1_make_no_level_of_theirs() -> None:
    arcs = bundles([100, 200, 120, 110, 130, 150, 140, 30])
    of_c1 = np.linspace(17, 25, 60)
    for off in (-4.0, 0.0, 4.0):
        everything = np.concatenate([arcs, of_c1])
        placed = between_rootlets(neck(off), everything, shift_mm=20.0, last=EIGHT)
        assert set(placed.field.rank_at(of_c1)) == {0}


OF_C1 = np.linspace(18, 27, 60)


def test_the_rootlets_of_two_levels_are_not_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    arcs = np.concatenate([OF_C1, bundles([100, 150, 120, 110, 130, 150, 140, 60])])
    field = neck(np.r_[np.full(EIGHT, -9.0), 5.0])  # a long last level, room for two

    def levels_of_t1() -> set[int]:
        placed = between_rootlets(field, arcs, shift_mm=20.0, last=EIGHT)
        return set(placed.field.rank_at(arcs[-200:]))

    assert levels_of_t1() == {EIGHT - 1, EIGHT}
    monkeypatch.setattr(boundary_refinement, "_LONG_COST", 0.0)
    assert levels_of_t1() == {EIGHT}, "what it is for"


def test_a_first_level_without_an_end_in_view_has_no_rootlets_of_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges = [40.0, 73.0, 88.0, 103.0, 118.0, 125.0]  # the first one holds two bundles
    spans = tuple(LevelSpan(rank, a, b, 1.0) for rank, (a, b) in enumerate(pairwise(edges), 3))
    arcs = bundles([0, 100, 100, 100, 100, 100])
    middles = np.mean(arcs.reshape(5, -1), axis=1)

    def ranks() -> list[int]:
        placed = between_rootlets(LevelIntervals(LINE, spans), arcs, shift_mm=20.0, last=EIGHT)
        return [int(rank) for rank in placed.field.rank_at(middles)]

    assert ranks() == [3, 4, 5, 6, 7]
    monkeypatch.setattr(boundary_refinement, "_LONG_COST", 0.0)
    assert ranks() == [3, 3, 4, 5, 6], "what it is for"


def test_the_farther_off_levels_are_located_the_less_certain_they_are() -> None:
    arcs = bundles([100, 200, 120, 110, 130, 150, 140, 100])
    margins = [
        between_rootlets(neck(off), arcs, shift_mm=20.0, last=EIGHT).margin for off in (0, 3, 6, 9)
    ]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > 3
    assert margins[-1] < 0.5


def test_rootlets_without_gaps_leave_less_certain() -> None:
    gaps, none = bundles([100] * EIGHT), np.linspace(32, 148, 100 * EIGHT)
    sure, unsure = (
        between_rootlets(neck(0.0), arcs, shift_mm=20.0, last=EIGHT).margin for arcs in (gaps, none)
    )
    assert sure > unsure


def test_a_level_of_few_rootlets_counts_as_much_as_any_other() -> None:
    sizes = [200, 200, *[20] * 6]
    lower = np.arange(sum(sizes)) >= 400
    arcs = bundles(sizes) + 9 * lower  # by more than half a level: one more or one less
    assert between_rootlets(neck(0.0), arcs, shift_mm=20.0, last=EIGHT).margin < 1
    assert between_rootlets(neck(0.0), arcs[~lower], shift_mm=20.0, last=EIGHT).margin > 2


def test_without_a_choice_all_is_certain() -> None:
    field = four_stretches()
    assert between_rootlets(field, np.array([]), shift_mm=10, last=LAST).margin == np.inf
    assert between_rootlets(field, np.array([45.0]), shift_mm=0, last=LAST).margin == np.inf
