"""Post-processing never invents a level and treats each level by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.orientation import Reorientation
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.corrections import keep_largest
from sct_rootlets_task.rootlets.postprocess import (
    HookContext,
    MinimalSize,
    fill_holes,
    parse_minimal_size,
    remove_small,
    remove_specks,
)
from volumes import affine_of

LEVELS = tuple(range(2, 10))
LABELS = arrays(np.uint8, (7, 6, 8), elements=st.sampled_from([0, 0, 0, 0, 2, 3, 9]))
AFFINES = st.sampled_from([affine_of("RAS"), affine_of("PSR"), affine_of("LPI", (0.5, 0.7, 2.0))])
STEPS: dict[str, Callable[[np.ndarray, HookContext], np.ndarray]] = {
    "remove_specks": remove_specks,
    "keep_largest": keep_largest,
    "fill_holes": fill_holes,
    "remove_small": lambda labels, context: remove_small(labels, context, MinimalSize((3,), "vox")),
}


def context(axcodes: str = "RAS", zooms: tuple[float, ...] = (1.0, 1.0, 1.0)) -> HookContext:
    return HookContext(affine_of(axcodes, zooms), LEVELS, priors=CERVICAL)


@pytest.mark.parametrize("name", STEPS)
@settings(max_examples=40, deadline=None)
@given(labels=LABELS, affine=AFFINES)
def test_every_step_is_idempotent_and_keeps_levels_in_place(
    name: str, labels: np.ndarray, affine: np.ndarray
) -> None:
    grid, before = HookContext(affine, LEVELS, priors=CERVICAL), labels.copy()
    once = STEPS[name](labels, grid)
    assert np.array_equal(labels, before), "the input must not be modified"
    assert once.shape == labels.shape
    assert once.dtype == np.uint8
    assert np.array_equal(STEPS[name](once, grid), once)
    kept = (once > 0) & (labels > 0)
    assert np.array_equal(once[kept], labels[kept])
    assert set(np.unique(once)) <= set(np.unique(labels)) | {0}


@settings(max_examples=40, deadline=None)
@given(labels=LABELS)
def test_filling_holes_only_adds_and_removing_only_removes(labels: np.ndarray) -> None:
    assert np.all((fill_holes(labels, context()) > 0) >= (labels > 0))
    for name in ("remove_specks", "keep_largest", "remove_small"):
        assert np.all((STEPS[name](labels, context()) > 0) <= (labels > 0))


@pytest.mark.parametrize("name", STEPS)
def test_an_empty_map_stays_empty(name: str) -> None:
    empty = np.zeros((4, 5, 6), np.uint8)
    assert not STEPS[name](empty, context()).any()


@pytest.mark.parametrize(
    ("zoom", "voxels", "kept"), [(1.0, 1, False), (1.0, 2, True), (0.5, 11, False), (0.5, 12, True)]
)
def test_a_speck_is_judged_by_volume_not_by_voxels(zoom: float, voxels: int, kept: bool) -> None:
    labels = np.zeros((20, 3, 3), np.uint8)
    labels[:voxels, 1, 1] = 4
    grid = context(zooms=(zoom, zoom, zoom))
    assert remove_specks(labels, grid).any() == kept


def test_a_thin_level_between_two_others_is_no_speck() -> None:
    labels = np.zeros((3, 3, 9), np.uint8)
    labels[1, 1, :4], labels[1, 1, 4], labels[1, 1, 5:] = 3, 4, 5
    assert np.array_equal(remove_specks(labels, context()), labels)


def four_bundles(levels: tuple[int, ...] = (3, 4)) -> np.ndarray:
    """Return two levels of four bundles each, left/right and ventral/dorsal of a center."""
    labels = np.zeros((21, 21, 20), np.uint8)
    for number, level in enumerate(levels):
        for x in (5, 15):
            for y in (5, 15):
                labels[x, y, 10 * number + 1 : 10 * number + 8] = level
    return labels


@pytest.mark.parametrize("axcodes", ["RAS", "PSR", "LPI"])
def test_keeping_the_largest_keeps_all_four_bundles_of_every_level(axcodes: str) -> None:
    grid = context(axcodes)
    labels = Reorientation.to_sct(grid.affine, "LPI").backward(four_bundles())
    assert np.array_equal(keep_largest(labels, grid), labels)


def test_keeping_the_largest_removes_the_smaller_of_two_in_a_quadrant() -> None:
    labels = four_bundles()
    labels[2, 2, 3:5] = 3
    kept = keep_largest(labels, context())
    assert not kept[2, 2].any()
    assert np.array_equal(kept, four_bundles())


def test_bundles_that_touch_across_the_cord_are_two() -> None:
    labels = four_bundles()
    labels[5:16, 15, 4] = 3
    labels[2, 2, 3:5] = 3
    kept = keep_largest(labels, context())
    assert np.array_equal(kept > 0, (labels > 0) & (np.arange(21) != 2)[:, None, None])


def test_where_roots_cannot_be_told_two_bundles_a_side_are_kept() -> None:
    labels = np.zeros((30, 9, 40), np.uint8)
    for x in (10, 19):
        for number, z in enumerate((1, 14, 27)):
            labels[x, 4, z : z + 4 + number] = 4
    expected = labels.copy()
    expected[..., :14] = 0
    assert np.array_equal(keep_largest(labels, context()), expected)


def test_a_bundle_with_a_voxel_of_another_level_is_kept_whole() -> None:
    labels = four_bundles()
    labels[5, 5, 4] = 4
    assert np.array_equal(keep_largest(labels, context()), labels)


def test_a_hole_is_filled_by_the_level_around_it_and_no_label_is_overwritten() -> None:
    labels = np.zeros((7, 7, 7), np.uint8)
    labels[1:6, 1:6, 1:6] = 5
    labels[3, 3, 3] = 0
    labels[2, 2, 2] = 6
    filled = fill_holes(labels, context())
    assert filled[3, 3, 3] == 5
    assert filled[2, 2, 2] == 6


@pytest.mark.parametrize(
    ("size", "zoom", "kept"),
    [
        (MinimalSize((5,), "vox"), 1.0, {2, 3}),
        (MinimalSize((6,), "vox"), 1.0, {3}),
        (MinimalSize((5,), "mm3"), 1.0, {2, 3}),
        (MinimalSize((5,), "mm3"), 0.5, set()),
        (MinimalSize((0.625,), "mm3"), 0.5, {2, 3}),
        (MinimalSize((9, 1, 1, 1, 1, 1, 1, 1), "vox"), 1.0, {3}),
        (MinimalSize((1, 9, 1, 1, 1, 1, 1, 1), "vox"), 1.0, {2}),
    ],
)
def test_small_components_are_removed_level_by_level(
    size: MinimalSize, zoom: float, kept: set[int]
) -> None:
    labels = np.zeros((12, 3, 3), np.uint8)
    labels[:5, 1, 1], labels[5:12, 1, 1] = 2, 3
    result = remove_small(labels, context(zooms=(zoom, zoom, zoom)), size)
    assert set(np.unique(result)) - {0} == kept


@pytest.mark.parametrize(
    ("words", "values", "unit"),
    [
        (["5vox"], (5,), "vox"),
        (["1.5mm3"], (1.5,), "mm3"),
        ([".5mm3"], (0.5,), "mm3"),
        (["1", "2", "3", "4", "5", "6", "7", "8vox"], (1, 2, 3, 4, 5, 6, 7, 8), "vox"),
        (["1vox"] * 8, (1,) * 8, "vox"),
    ],
)
def test_sizes_are_read_with_their_unit(
    words: list[str], values: tuple[float, ...], unit: str
) -> None:
    assert parse_minimal_size(words, LEVELS) == MinimalSize(values, unit)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["5foo"], "5foo"),
        (["-5vox"], "-5vox"),
        (["5"], "one unit"),
        (["1vox", "2mm3"], "one unit"),
        (["1vox", "2"], "one unit"),
        (["1", "2vox"], "8 levels"),
        ([""], "sizes such as"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(words: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        parse_minimal_size(words, LEVELS)
