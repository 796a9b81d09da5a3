"""The canal is one, and its levels are in order from head to tail."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.levels.located_canal import (
    canal_levels,
    fit_canal,
    located_levels,
    one_canal,
)
from straight_canal import CLASSES, DEEP, SHAPE, straight_canal
from volumes import affine_of


def test_above_and_below_are_no_levels() -> None:
    assert canal_levels(CLASSES) == {1: 0, **{i: i for i in range(2, 10)}, 10: 0}


def test_single_voxels_of_a_wrong_class_do_not_break_the_order() -> None:
    field = straight_canal(DEEP)
    rng = np.random.default_rng(0)
    wrong = (rng.random(SHAPE) < 0.2) & (field > 0)
    field[wrong] = rng.integers(1, 11, wrong.sum())
    cleaned = fit_canal(field, affine_of("RAS"), CLASSES).classes
    assert np.mean(cleaned[field > 0] == straight_canal(DEEP)[field > 0]) > 0.95


def test_located_levels_run_from_head_to_tail_without_gaps() -> None:
    upright = located_levels(fit_canal(straight_canal(DEEP), affine_of("RAS"), CLASSES))
    assert [level.level for level in upright.levels] == [2, 3, 4]
    assert [level.end for level in upright.levels[:-1]] == [
        level.start for level in upright.levels[1:]
    ]
    assert all(level.confidence > 0.9 for level in upright.levels)


@pytest.mark.parametrize(("slices_mm", "short"), [(1.0, True), (4.0, False)])
def test_levels_of_a_short_canal_come_with_a_warning(slices_mm: float, short: bool) -> None:
    affine = affine_of("RAS") @ np.diag([1.0, 1.0, slices_mm, 1.0])
    found = located_levels(fit_canal(straight_canal(DEEP), affine, CLASSES))
    assert found.levels
    assert found.line is not None
    assert len(found.warnings) == short
    assert all(abs(int(text.split()[1]) - found.line.length) <= 2 for text in found.warnings)


def test_what_lies_beside_the_canal_or_far_from_it_is_no_part_of_it() -> None:
    field = np.zeros((60, 60, 160), np.uint8)
    field[20:30, 20:30, 20:80] = 5
    expected = field.copy()
    expected[20:30, 22:30, 95:110] = 4  # goes on after a gap
    field[:] = expected
    field[45:53, 20:30, 30:50] = 6  # beside it, like a windpipe
    field[20:30, 20:30, 145:155] = 3  # too far up
    field[20, 20, 84] = 5  # a speck
    for axcodes in ("RAS", "LPI"):
        affine = affine_of(axcodes)
        flips = tuple(slice(None, None, -1 if axcodes == "LPI" else 1) for _ in range(3))
        assert np.array_equal(one_canal(field[flips], affine), expected[flips])


def test_what_is_thinner_than_a_canal_is_none() -> None:
    field = np.zeros((30, 30, 60), np.uint8)
    field[10:16, 10:16, 5:50] = 5
    assert not one_canal(field, affine_of("RAS")).any()
    assert not one_canal(np.zeros_like(field), affine_of("RAS")).any()
    assert located_levels(fit_canal(field, affine_of("RAS"), CLASSES)).line is None
