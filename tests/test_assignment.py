"""Rootlets take the level of the canal beside them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.levels.assignment import (
    OVERHANG_MM,
    AssignedLevels,
    assign_levels,
    disagreement,
)
from sct_rootlets_task.levels.located_canal import fit_canal, located_levels
from sct_rootlets_task.levels.sources import ByLocator
from straight_canal import CLASSES, SHAPE, as_found, straight_canal


def assigned(
    rootlets: np.ndarray,
    canal: np.ndarray | None = None,
    *,
    expected: Iterable[int] = range(2, 10),
    **source: float,
) -> AssignedLevels:
    found = as_found(straight_canal() if canal is None else canal)
    return assign_levels(rootlets, found, source=ByLocator(**source), expected=expected)


def assign(rootlets: np.ndarray, **source: float) -> np.ndarray:
    return assigned(rootlets, **source).labels


def bundle(z: slice, x: int = 14) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[x, 10, z] = True
    return mask


@pytest.mark.parametrize(("start", "level"), [(38, 2), (26, 3), (14, 4)])
def test_a_bundle_takes_the_level_beside_it(start: int, level: int) -> None:
    rootlets = bundle(slice(start, start + 8))
    assert set(np.unique(assign(rootlets)[rootlets])) == {level}


@pytest.mark.parametrize(("share", "kept"), [(1.0, 6), (0.5, 0)])
def test_what_may_be_rootlets_of_c1_is_dropped(share: float, kept: int) -> None:
    rootlets = bundle(slice(36, 41)) | bundle(slice(42, 48), x=25)  # C2 lies beside 36 to 47
    found = assign(rootlets, first_share=share, shift_mm=0.0)
    assert np.count_nonzero(found[25] == 2) == kept
    assert np.count_nonzero(found[14] == 2) == 5


@pytest.mark.parametrize("start", [50, 2])
def test_rootlets_beside_the_canal_above_or_below_are_dropped(start: int) -> None:
    assert not assign(bundle(slice(start, start + 8))).any()


def test_a_bundle_across_a_border_stays_whole_when_most_of_it_agrees() -> None:
    rootlets = bundle(slice(28, 38))  # eight voxels beside C3, two beside C2
    assert set(np.unique(assign(rootlets)[rootlets])) == {3}


def test_a_bundle_without_a_majority_is_cut_at_the_border() -> None:
    rootlets = bundle(slice(24, 48)) | bundle(slice(14, 22), x=25)  # C2 and C3 in one; C4
    result = assign(rootlets)
    assert set(result[14, 10, 25:34]) == {3}
    assert set(result[14, 10, 39:47]) == {2}


def test_a_border_moves_into_the_gap_beside_a_bundle_instead_of_through_it() -> None:
    rootlets = bundle(slice(34, 44)) | bundle(slice(22, 31))  # the border is at 36
    result = assign(rootlets)
    assert set(result[14, 10, 34:44]) == {2}
    assert set(result[14, 10, 22:31]) == {3}


def test_two_bundles_that_touch_are_cut_apart_farther_over_the_more_of_it_is_one() -> None:
    cuts = []
    for times in range(7):  # as much of C3 as of C4, and so many times more
        rootlets = bundle(slice(25, 36)) | bundle(slice(14, 25))
        rootlets[13, 10 - times // 2 : 10 - times // 2 + times, 25:36] = True
        column = assign(rootlets)[14, 10, 14:36].astype(int)
        assert (column[0], column[-1]) == (4, 3)
        (cut,) = 14 + np.flatnonzero(np.diff(column))
        cuts.append(int(cut))
    steps = -np.diff(cuts)
    assert cuts[0] == 24
    assert steps.min() >= 0
    assert steps.max() <= 3, "no jump by the whole reach where it becomes a majority"
    assert 4 <= steps.sum() <= OVERHANG_MM + 2


def test_levels_that_follow_the_rootlets_far_from_the_vertebrae_come_with_a_warning() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    for level, z in ((2, 42), (3, 30), (4, 18)):  # in the middle of what is located
        labels[14, 10, z - 2 : z + 2] = level
    agreed, differing = (
        disagreement(part, as_found(straight_canal()))
        for part in (labels, np.where(labels > 0, labels + 1, 0).astype(np.uint8))
    )
    assert agreed == ()
    assert "1.0 of a level" in differing[0]
    assert "-discs" in differing[0]
    assert disagreement(0 * labels, as_found(straight_canal())) == ()


def test_levels_that_might_as_well_be_others_come_with_a_warning() -> None:
    def warnings(rows: list[slice]) -> tuple[str, ...]:
        rootlets = np.logical_or.reduce([bundle(row) for row in rows])
        return assigned(rootlets).warnings

    clear, doubtful = [slice(39, 45), slice(27, 33), slice(15, 21)], [slice(33, 39), slice(21, 27)]
    certain, uncertain = (
        [text for text in warnings(rows) if "may be right as well" in text]
        for rows in (clear, doubtful)
    )
    assert not certain
    assert len(uncertain) == 1
    assert "-discs" in uncertain[0]


def test_voxels_out_of_reach_are_dropped() -> None:
    far = bundle(slice(26, 34), x=2)
    assert not assign(far).any()
    assert assign(far, reach_mm=20.0).any()


@pytest.mark.parametrize(("length", "kept"), [(3, False), (4, True)])
def test_components_below_the_smallest_volume_are_dropped(length: int, kept: bool) -> None:
    assert assign(bundle(slice(26, 26 + length))).any() == kept


def test_no_level_is_given_where_there_is_no_rootlet() -> None:
    rootlets = bundle(slice(26, 34)) | bundle(slice(40, 46), x=25)
    assert not assign(rootlets)[~rootlets].any()


def test_levels_outside_the_task_are_dropped() -> None:
    rootlets = bundle(slice(26, 34))
    assert not assigned(rootlets, expected=(2, 4)).labels.any()


@pytest.mark.parametrize("empty", ["canal", "rootlets"])
def test_nothing_located_or_nothing_found_gives_an_empty_map(empty: str) -> None:
    rootlets = bundle(slice(26, 34)) & (empty != "rootlets")
    canal = straight_canal() * np.uint8(empty != "canal")
    assert not assigned(rootlets, canal).labels.any()


def test_two_grids_are_refused() -> None:
    with pytest.raises(LevelSourceError, match="one grid"):
        assigned(np.zeros((2, 2, 2), bool))


@pytest.mark.parametrize("seed", range(20))
def test_a_canal_of_a_few_scattered_voxels_breaks_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field, n = np.zeros((12, 10, 14), np.uint8), int(rng.integers(1, 9))
    field[tuple(rng.integers(0, size, n) for size in field.shape)] = rng.integers(1, 11, n)
    rootlets = rng.random(field.shape) < 0.05
    affine = np.diag([*rng.choice([0.5, 1.0, 7.5], 3), 1.0])
    canal = as_found(field, affine)
    found = assign_levels(rootlets, canal, source=ByLocator(), expected=range(2, 10)).labels
    assert not found[~rootlets].any()
    located = located_levels(fit_canal(field, affine, CLASSES))
    assert set(np.unique(located.labels)) - {0} <= {level.level for level in located.levels}
