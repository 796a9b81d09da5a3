"""The levels of the canal follow each other from head to tail."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.analysis.canal import SHIFT_MM, LevelField, fit_level_field
from sct_rootlets_task.errors import ImageError
from volumes import affine_of

SHAPE = (16, 16, 120)
BORDERS = (90, 60, 30)


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
    assert np.allclose(borders_of(field), [30, 60, 90], atol=1.5)


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


def test_ranks_beyond_the_ends_are_those_of_the_ends() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    assert field.rank_at(np.array([-50.0, 15.0, 300.0])).tolist() == [0, 0, 3]


def test_a_border_moves_into_the_gap_between_rootlets() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    arcs = np.concatenate([np.linspace(35, 63, 300), np.linspace(69, 88, 200)])
    moved = field.between_rootlets(arcs)
    assert 63 < moved.runs[2].start < 69


@pytest.mark.parametrize("shift", [-7.0, 7.0])
def test_borders_move_together_when_all_rootlets_lie_lower_or_higher(shift: float) -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    middles = np.array([15, 45, 75, 105]) + shift
    arcs = np.concatenate([np.linspace(m - 10, m + 10, 200) for m in middles])
    moved = borders_of(field.between_rootlets(arcs))
    for border, wanted in zip(moved, (30, 60, 90), strict=True):
        assert abs(border - wanted - shift) < 5
    ranks_of = field.between_rootlets(arcs).rank_at(arcs).reshape(4, 200)
    assert all((row == number).all() for number, row in enumerate(ranks_of))


def test_no_border_moves_farther_than_allowed() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    moved = borders_of(field.between_rootlets(np.linspace(20, 100, 900)))
    assert max(abs(np.array(moved) - borders_of(field))) <= SHIFT_MM


def test_a_border_without_rootlets_around_stays() -> None:
    field = fit_level_field(ranks(), affine_of("RAS"))
    moved = field.between_rootlets(np.array([5.0, 115.0]))
    assert borders_of(moved) == pytest.approx(borders_of(field), abs=1)


def test_an_empty_canal_is_refused() -> None:
    with pytest.raises(ImageError):
        fit_level_field(np.full(SHAPE, -1), affine_of("RAS"))
