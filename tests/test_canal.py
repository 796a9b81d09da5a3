"""The levels of the canal follow each other from head to tail."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.levels.canal import fit_level_intervals
from volumes import affine_of

SHAPE = (16, 16, 120)
BORDERS = (90, 60, 30)


def ranks() -> np.ndarray:
    """Return a straight canal along z of four stretches of 30 mm, the first one on top."""
    field = np.full(SHAPE, -1)
    z = np.arange(SHAPE[2])
    field[4:12, 4:12] = np.sum(z[:, None] < np.array(BORDERS), axis=1)
    return field


@pytest.mark.parametrize("axcodes", ["RAS", "LPS"])
def test_borders_are_found_where_the_classes_change(axcodes: str) -> None:
    field = (
        fit_level_intervals(ranks(), affine_of(axcodes))
        if axcodes == "RAS"
        else fit_level_intervals(ranks()[::-1, ::-1], affine_of(axcodes))
    )
    assert [span.rank for span in field.spans] == [0, 1, 2, 3]
    assert np.allclose(field.borders, [29.5, 59.5, 89.5], atol=0.1)  # of voxels' middles


def test_a_level_that_is_not_there_is_left_out() -> None:
    values = ranks()
    values[values == 2] = 1
    assert [span.rank for span in fit_level_intervals(values, affine_of("RAS")).spans] == [0, 1, 3]


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_wrong_voxels_move_no_border_and_lower_the_agreement(share: float) -> None:
    values, rng = ranks(), np.random.default_rng(0)
    wrong = (values >= 0) & (rng.random(SHAPE) < share)
    values[wrong] = rng.integers(0, 4, wrong.sum())
    field = fit_level_intervals(values, affine_of("RAS"))
    assert np.allclose(field.borders, [30, 60, 90], atol=2)
    assert all(span.agreement == pytest.approx(1 - 0.75 * share, abs=0.08) for span in field.spans)


@pytest.mark.parametrize("count", [40, 150, 240])
def test_a_few_voxels_fewer_hardly_move_a_border(count: int) -> None:
    x, y, z = np.indices((24, 40, 220))
    inside = (x - 12) ** 2 + (y - 12 - ((z - 110) / 28) ** 2) ** 2 < 9**2  # bent
    place = (220 - z) / 24 + np.random.default_rng(0).normal(0, 0.4, inside.shape)
    values = np.where(inside, np.clip(place.astype(int), 0, 8), -1)
    affine = affine_of("RAS", (0.6, 0.6, 0.6))
    before = fit_level_intervals(values, affine)
    top = np.argwhere(inside & (z == z.max()))
    values[tuple(top[np.argsort(top[:, 1])][:count].T)] = -1
    after = fit_level_intervals(values, affine)
    for old, new in zip(before.spans[1:], after.spans[1:], strict=True):
        moved = before.line.at(old.start) - after.line.at(new.start)
        assert np.linalg.norm(moved) < 0.04


@pytest.mark.parametrize(("share", "border"), [(1.0, 29.5), (0.8, 35.5), (0.5, 44.5)])
def test_the_first_level_keeps_the_lower_share_of_its_length(share: float, border: float) -> None:
    field = fit_level_intervals(ranks(), affine_of("RAS"))
    cut = field.first_cut_to(share)
    assert cut.borders == pytest.approx([border, 59.5, 89.5], abs=0.1)
    assert cut.spans[0].end == cut.spans[1].start
    assert cut.spans[2:] == field.spans[2:]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_first_level_that_may_be_cut_off_keeps_its_length(missing: int) -> None:
    values = ranks()
    values[values == missing] = -1 if missing == 0 else 0
    field = fit_level_intervals(values, affine_of("RAS"))
    assert field.first_cut_to(0.5) == field


def test_ranks_beyond_the_ends_are_those_of_the_ends() -> None:
    field = fit_level_intervals(ranks(), affine_of("RAS"))
    assert field.rank_at(np.array([-50.0, 15.0, 300.0])).tolist() == [0, 0, 3]


def test_an_empty_canal_is_refused() -> None:
    with pytest.raises(ImageError):
        fit_level_intervals(np.full(SHAPE, -1), affine_of("RAS"))
