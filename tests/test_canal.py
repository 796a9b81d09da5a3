"""The levels of the canal follow each other from head to tail."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.analysis.canal import LevelField, Run, fit_level_field
from sct_rootlets_task.errors import ImageError
from volumes import affine_of

SHAPE = (16, 16, 120)
BORDERS = (90, 60, 30)
LAST = 2
"""Rank of the last level: of four stretches, the first and the fourth lie above and below."""


def ranks() -> np.ndarray:
    """Return a straight canal along z of four stretches of 30 mm, the first one on top."""
    field = np.full(SHAPE, -1)
    z = np.arange(SHAPE[2])
    field[4:12, 4:12] = np.sum(z[:, None] < np.array(BORDERS), axis=1)
    return field


def borders_of(field: LevelField) -> list[float]:
    return [run.start for run in field.runs[1:]]


@pytest.mark.parametrize("axcodes", ["RAS", "LPS"])
def test_borders_are_found_where_the_classes_change(axcodes: str) -> None:
    field = (
        fit_level_field(ranks(), affine_of(axcodes))
        if axcodes == "RAS"
        else fit_level_field(ranks()[::-1, ::-1], affine_of(axcodes))
    )
    assert [run.rank for run in field.runs] == [0, 1, 2, 3]
    assert np.allclose(borders_of(field), [29.5, 59.5, 89.5], atol=0.1)  # of voxels' middles


def test_a_level_that_is_not_there_is_left_out() -> None:
    values = ranks()
    values[values == 2] = 1
    assert [run.rank for run in fit_level_field(values, affine_of("RAS")).runs] == [0, 1, 3]


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_wrong_voxels_move_no_border_and_lower_the_agreement(share: float) -> None:
    values, rng = ranks(), np.random.default_rng(0)
    wrong = (values >= 0) & (rng.random(SHAPE) < share)
    values[wrong] = rng.integers(0, 4, wrong.sum())
    field = fit_level_field(values, affine_of("RAS"))
    assert np.allclose(borders_of(field), [30, 60, 90], atol=2)
    assert all(run.agreement == pytest.approx(1 - 0.75 * share, abs=0.08) for run in field.runs)


@pytest.mark.parametrize("count", [40, 150, 240])
def test_a_few_voxels_fewer_hardly_move_a_border(count: int) -> None:
    x, y, z = np.indices((24, 40, 220))
    inside = (x - 12) ** 2 + (y - 12 - ((z - 110) / 28) ** 2) ** 2 < 9**2  # bent
    place = (220 - z) / 24 + np.random.default_rng(0).normal(0, 0.4, inside.shape)
    values = np.where(inside, np.clip(place.astype(int), 0, 8), -1)
    affine = affine_of("RAS", (0.6, 0.6, 0.6))
    before = fit_level_field(values, affine)
    top = np.argwhere(inside & (z == z.max()))
    values[tuple(top[np.argsort(top[:, 1])][:count].T)] = -1
    after = fit_level_field(values, affine)
    for old, new in zip(before.runs[1:], after.runs[1:], strict=True):
        moved = before.line.at(old.start) - after.line.at(new.start)
        assert np.linalg.norm(moved) < 0.04


@pytest.mark.parametrize(("share", "border"), [(1.0, 29.5), (0.8, 35.5), (0.5, 44.5)])
def test_the_first_level_keeps_the_lower_share_of_its_length(share: float, border: float) -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    cut = field.first_cut_to(share)
    assert borders_of(cut) == pytest.approx([border, 59.5, 89.5], abs=0.1)
    assert cut.runs[0].end == cut.runs[1].start
    assert cut.runs[2:] == field.runs[2:]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_first_level_that_may_be_cut_off_keeps_its_length(missing: int) -> None:
    values = ranks()
    values[values == missing] = -1 if missing == 0 else 0
    field = fit_level_field(values, affine_of("RAS"))
    assert field.first_cut_to(0.5) == field


def test_ranks_beyond_the_ends_are_those_of_the_ends() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    assert field.rank_at(np.array([-50.0, 15.0, 300.0])).tolist() == [0, 0, 3]


def test_a_border_moves_into_the_gap_between_rootlets() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    arcs = np.concatenate([np.linspace(35, 63, 300), np.linspace(69, 88, 200)])
    moved = field.between_rootlets(arcs, 10.0, LAST)
    assert 63 < moved.runs[2].start < 69


@pytest.mark.parametrize("shift", [-7.0, 7.0])
def test_borders_move_together_when_all_rootlets_lie_lower_or_higher(shift: float) -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    middles = np.array([15, 45, 75, 105]) + shift
    arcs = np.concatenate([np.linspace(m - 10, m + 10, 200) for m in middles])
    moved = borders_of(field.between_rootlets(arcs, 10.0, LAST))
    for border, wanted in zip(moved, (30, 60, 90), strict=True):
        assert abs(border - wanted - shift) < 5
    ranks_of = field.between_rootlets(arcs, 10.0, LAST).rank_at(arcs).reshape(4, 200)
    assert all((row == number).all() for number, row in enumerate(ranks_of))


@pytest.mark.parametrize("shift_mm", [0.0, 4.0, 10.0])
def test_no_border_moves_farther_than_allowed(shift_mm: float) -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    moved = borders_of(field.between_rootlets(np.linspace(20, 100, 900), shift_mm, LAST))
    assert max(abs(np.array(moved) - borders_of(field))) <= shift_mm


def test_a_border_without_rootlets_around_stays() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    moved = field.between_rootlets(np.array([21.0, 99.0]), 10.0, LAST)
    assert borders_of(moved) == pytest.approx(borders_of(field), abs=1)


def test_rootlets_that_no_border_can_reach_do_not_matter() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    near = np.concatenate([np.linspace(35, 63, 300), np.linspace(69, 88, 200)])
    far = np.concatenate([np.linspace(0, 15, 300), np.linspace(105, 300, 400)])
    moved = field.between_rootlets(near, 10.0, LAST)
    assert borders_of(
        field.between_rootlets(np.concatenate([near, far]), 10.0, LAST)
    ) == borders_of(moved)
    assert borders_of(field.between_rootlets(far, 10.0, LAST)) == borders_of(field)


SPACING, EIGHT = 15.0, 8
"""Length of each of eight levels in mm; the first begins at 30 mm."""


def neck(off: float) -> LevelField:
    """Return eight levels with canal above and below, located so far (mm) below their place."""
    borders = 30 + SPACING * np.arange(EIGHT + 1) + off
    edges = [0.0, *borders, 200.0]
    runs = tuple(Run(rank, edges[rank], edges[rank + 1], 1.0) for rank in range(EIGHT + 2))
    return LevelField(fit_level_field(ranks(), affine_of("RAS")).line, runs)


def bundles(sizes: list[int]) -> np.ndarray:
    """Return rootlets of so many voxels beside level after level, 10 mm long each."""
    middles = 30 + SPACING * (np.arange(len(sizes)) + 0.5)
    return np.concatenate([m + np.linspace(-5, 5, n) for m, n in zip(middles, sizes, strict=True)])


def told(field: LevelField, sizes: list[int]) -> list[int]:
    """Return the rank of each bundle after the borders have moved."""
    arcs = bundles(sizes)
    ranks = field.between_rootlets(arcs, 20.0, EIGHT).rank_at(arcs)
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
def test_a_level_without_rootlets_does_not_take_those_of_its_neighbour(sizes: list[int]) -> None:
    expected = [rank for rank, size in enumerate(sizes, 1) if size]
    for off in (-4.0, 0.0, 4.0):
        assert told(neck(off), sizes) == expected


def test_rootlets_of_c1_make_no_level_of_theirs() -> None:
    arcs = bundles([100, 200, 120, 110, 130, 150, 140, 30])
    of_c1 = np.linspace(17, 25, 60)
    for off in (-4.0, 0.0, 4.0):
        field = neck(off).between_rootlets(np.concatenate([arcs, of_c1]), 20.0, EIGHT)
        assert set(field.rank_at(of_c1)) == {0}


def test_an_empty_canal_is_refused() -> None:
    with pytest.raises(ImageError):
        fit_level_field(np.full(SHAPE, -1), affine_of("RAS"))
