"""Rootlets take the level of the canal beside them."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.levels.assignment import (
    OVERHANG_MM,
    Canal,
    canal_levels,
    disagreement,
    fit_canal,
    level_field,
    levels_beside_canal,
    located_levels,
    one_canal,
    search_region,
)
from sct_rootlets_task.levels.sources import ByLocator
from volumes import affine_of

CLASSES = {
    "background": 0,
    "above": 1,
    **{name: i for i, name in enumerate(["C2", "C3", "C4", "C5", "C6", "C7", "C8", "T1"], 2)},
    "below": 10,
}
SHAPE = (40, 20, 60)
DEEP = slice(3, 17)


def canal(depth: slice = slice(8, 12)) -> np.ndarray:
    """Return a straight canal along z: above, C2, C3, C4, below, 12 mm each."""
    field = np.zeros(SHAPE, np.uint8)
    for number, code in enumerate((10, 4, 3, 2, 1)):
        field[17:23, depth, 12 * number : 12 * (number + 1)] = code
    return field


def fitted(field: np.ndarray, axcodes: str = "RAS") -> Canal:
    """Return the canal of a field, however thin."""
    return Canal(field, level_field(field, affine_of(axcodes), CLASSES))


def assign(rootlets: np.ndarray, axcodes: str = "RAS", **source: float) -> np.ndarray:
    return levels_beside_canal(
        rootlets,
        fitted(canal(), axcodes),
        affine_of(axcodes),
        classes=CLASSES,
        source=ByLocator(**source),
        expected=range(2, 10),
    ).labels


def bundle(z: slice, x: int = 14) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[x, 10, z] = True
    return mask


def test_above_and_below_are_no_levels() -> None:
    assert canal_levels(CLASSES) == {1: 0, **{i: i for i in range(2, 10)}, 10: 0}


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
        disagreement(part, fitted(canal()), affine_of("RAS"), classes=CLASSES)
        for part in (labels, np.where(labels > 0, labels + 1, 0).astype(np.uint8))
    )
    assert agreed == ()
    assert "1.0 of a level" in differing[0]
    assert "-discs" in differing[0]
    assert disagreement(0 * labels, fitted(canal()), affine_of("RAS"), classes=CLASSES) == ()


def test_levels_that_might_as_well_be_others_come_with_a_warning() -> None:
    def warnings(rows: list[slice]) -> tuple[str, ...]:
        rootlets = np.logical_or.reduce([bundle(row) for row in rows])
        return levels_beside_canal(
            rootlets,
            fitted(canal()),
            affine_of("RAS"),
            classes=CLASSES,
            source=ByLocator(),
            expected=range(2, 10),
        ).warnings

    clear, doubtful = [slice(39, 45), slice(27, 33), slice(15, 21)], [slice(33, 39), slice(21, 27)]
    certain, uncertain = (
        [text for text in warnings(rows) if "may be right as well" in text]
        for rows in (clear, doubtful)
    )
    assert not certain
    assert len(uncertain) == 1
    assert "-discs" in uncertain[0]


def test_single_voxels_of_a_wrong_class_do_not_break_the_order() -> None:
    field = canal(DEEP)
    rng = np.random.default_rng(0)
    wrong = (rng.random(SHAPE) < 0.2) & (field > 0)
    field[wrong] = rng.integers(1, 11, wrong.sum())
    cleaned = fit_canal(field, affine_of("RAS"), CLASSES).classes
    assert np.mean(cleaned[field > 0] == canal(DEEP)[field > 0]) > 0.95


def test_located_levels_run_from_head_to_tail_without_gaps() -> None:
    upright = located_levels(canal(DEEP), affine_of("RAS"), CLASSES)
    assert [level.level for level in upright.levels] == [2, 3, 4]
    assert [level.end for level in upright.levels[:-1]] == [
        level.start for level in upright.levels[1:]
    ]
    assert all(level.confidence > 0.9 for level in upright.levels)


@pytest.mark.parametrize(("slices_mm", "short"), [(1.0, True), (4.0, False)])
def test_levels_of_a_short_canal_come_with_a_warning(slices_mm: float, short: bool) -> None:
    affine = affine_of("RAS") @ np.diag([1.0, 1.0, slices_mm, 1.0])
    found = located_levels(canal(DEEP), affine, CLASSES)
    assert found.levels
    assert found.line is not None
    assert len(found.warnings) == short
    assert all(abs(int(text.split()[1]) - found.line.length) <= 2 for text in found.warnings)


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
    result = levels_beside_canal(
        rootlets,
        fitted(canal()),
        affine_of("RAS"),
        classes=CLASSES,
        source=ByLocator(),
        expected=(2, 4),
    )
    assert not result.labels.any()


@pytest.mark.parametrize("empty", ["canal", "rootlets"])
def test_nothing_located_or_nothing_found_gives_an_empty_map(empty: str) -> None:
    rootlets = bundle(slice(26, 34)) & (empty != "rootlets")
    field = canal() * (empty != "canal")
    result = levels_beside_canal(
        rootlets,
        fitted(field.astype(np.uint8)),
        affine_of("RAS"),
        classes=CLASSES,
        source=ByLocator(),
        expected=range(2, 10),
    )
    assert not result.labels.any()


def test_two_grids_are_refused() -> None:
    with pytest.raises(LevelSourceError, match="one grid"):
        levels_beside_canal(
            np.zeros((2, 2, 2), bool),
            fitted(canal()),
            affine_of("RAS"),
            classes=CLASSES,
            source=ByLocator(),
            expected=range(2, 10),
        )


@pytest.mark.parametrize("seed", range(20))
def test_a_canal_of_a_few_scattered_voxels_breaks_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field, n = np.zeros((12, 10, 14), np.uint8), int(rng.integers(1, 9))
    field[tuple(rng.integers(0, size, n) for size in field.shape)] = rng.integers(1, 11, n)
    rootlets = rng.random(field.shape) < 0.05
    affine = np.diag([*rng.choice([0.5, 1.0, 7.5], 3), 1.0])
    canal = Canal(field, level_field(field, affine, CLASSES))
    found = levels_beside_canal(
        rootlets, canal, affine, classes=CLASSES, source=ByLocator(), expected=range(2, 10)
    ).labels
    assert not found[~rootlets].any()
    located = located_levels(field, affine, CLASSES)
    assert set(np.unique(located.labels)) - {0} <= {level.level for level in located.levels}


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0), (6.0, 1.0, 1.0)])
def test_the_search_region_holds_all_in_reach_and_little_more(
    sizes: tuple[float, float, float],
) -> None:
    shape = tuple(int(100 / size) for size in sizes)
    affine = np.diag([*sizes, 1.0])
    mm = np.stack(np.indices(shape), axis=-1) * sizes
    beside = np.linalg.norm(mm[..., :2] - 50, axis=-1)
    canal = np.zeros(shape, np.uint8)
    canal[(beside < 6) & (mm[..., 2] < 40)] = 1
    canal[(beside < 6) & (mm[..., 2] >= 40)] = 2
    near = search_region(
        canal, affine, classes={"below": 1, "C4": 2}, expected=[4], reach_mm=10, margin_mm=12
    )
    assert near.shape == shape
    assert near[(beside < 15) & (mm[..., 2] > 30)].all()
    assert not near[beside > 16 + 2 * np.linalg.norm(np.maximum(sizes, 4))].any()
    assert not near[mm[..., 2] < 40 - 12 - 10 - 2 * 4 - 4].any()


def test_nothing_located_means_nowhere_to_search() -> None:
    nowhere = np.zeros((8, 8, 8), np.uint8)
    region = search_region(nowhere, np.eye(4), classes={"C4": 1}, expected=[4], reach_mm=10)
    assert not region.any()


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
    assert located_levels(field, affine_of("RAS"), CLASSES).line is None
