"""Rules of renumbering levels."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task.analysis.relabel import (
    anchor_levels,
    levels_from_discs,
    levels_from_located,
    map_levels,
    parse_anchor,
    parse_level,
    parse_map,
    shift_levels,
)
from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.landmarks import Landmarks
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.geometry import slice_numbers
from tools.phantom import Phantom, make_phantom

LEVELS = tuple(range(2, 10))
ANY = replace(ROOTLETS, levels=tuple(range(1, 31)), priors=None)
ROW = np.arange(2, 10, dtype=np.uint8).reshape(8, 1, 1)


@functools.cache
def phantom() -> Phantom:
    return make_phantom(voxel_mm=(1, 1, 1), bend_per_mm=1 / 150)


@pytest.mark.parametrize(
    ("mapping", "wanted"),
    [
        ({3: 4, 4: 3}, [2, 4, 3, 5, 6, 7, 8, 9]),
        ({9: 0}, [2, 3, 4, 5, 6, 7, 8, 0]),
        ({2: 3}, [3, 3, 4, 5, 6, 7, 8, 9]),
        ({9: 10}, [2, 3, 4, 5, 6, 7, 8, 0]),
        ({}, [2, 3, 4, 5, 6, 7, 8, 9]),
        ({40: 3}, [2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_a_table_renames_what_it_names_all_at_once(
    mapping: dict[int, int], wanted: list[int]
) -> None:
    assert map_levels(ROW, mapping, task=ROOTLETS).ravel().tolist() == wanted


def test_a_table_that_leaves_no_level_is_refused_also_where_it_removes_some_on_purpose() -> None:
    with pytest.raises(ImageError, match="T1 → T2"):
        map_levels(np.array([[[0, 3, 9]]]), {3: 0, 9: 10}, task=ROOTLETS)


@pytest.mark.parametrize(
    ("shift", "wanted"),
    [
        (1, [3, 4, 5, 6, 7, 8, 9, 0]),
        (-2, [0, 0, 2, 3, 4, 5, 6, 7]),
        (0, [2, 3, 4, 5, 6, 7, 8, 9]),
        (-40, [0] * 8),
    ],
)
def test_a_shift_drops_what_leaves_the_levels(shift: int, wanted: list[int]) -> None:
    assert shift_levels(ROW, shift, task=ROOTLETS).ravel().tolist() == wanted


def test_dropped_levels_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        shift_levels(ROW, 1, task=ROOTLETS)
        shift_levels(ROW, -2, task=ROOTLETS)
    assert "T1 → T2" in caplog.text
    assert "above C1: C2." in caplog.text


@given(st.integers(-3, 3), st.lists(st.integers(5, 6), min_size=1, max_size=20))
def test_a_shift_and_back_changes_nothing_that_stays_within_the_levels(
    shift: int, values: list[int]
) -> None:
    labels = np.array(values, np.uint8).reshape(-1, 1, 1)
    assert (
        shift_levels(shift_levels(labels, shift, task=ROOTLETS), -shift, task=ROOTLETS) == labels
    ).all()


@pytest.mark.parametrize("orientation", ["LPI", "LPS", "PSR"])
def test_an_anchor_counts_slices_from_below_in_any_orientation(orientation: str) -> None:
    turned = phantom().oriented(orientation)
    voxels = np.argwhere(turned.labels == 6)
    middle = int(np.median(slice_numbers(voxels, turned.affine, turned.labels.shape)))
    result = anchor_levels(
        turned.labels, turned.affine, level=5, slice_number=middle, task=ROOTLETS
    )
    assert (result == shift_levels(turned.labels, -1, task=ROOTLETS)).all()


def test_an_anchor_beside_all_levels_is_refused_with_their_slices() -> None:
    with pytest.raises(ImageError, match=r"slice 0, found none.*C2 \d+–\d+.*T1 \d+–\d+"):
        anchor_levels(phantom().labels, phantom().affine, level=5, slice_number=0, task=ROOTLETS)


def test_an_anchor_between_two_equal_levels_is_refused() -> None:
    labels = np.zeros((4, 1, 4), np.uint8)
    labels[0, 0, 1], labels[2, 0, 1] = 4, 5
    with pytest.raises(ImageError, match="C4 and C5"):
        anchor_levels(labels, np.eye(4), level=5, slice_number=1, task=ROOTLETS)


@pytest.mark.parametrize("text", ["C5", "C5:", "5:x", "Q5:3", ":3", ""])
def test_a_malformed_anchor_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="Expected"):
        parse_anchor(text)


@pytest.mark.parametrize("text", ["3", "3:4,", "3:4,3:5", "a:b", "", "3:31"])
def test_a_malformed_map_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="Expected"):
        parse_map(text)


def test_levels_are_read_as_numbers_or_names() -> None:
    assert [parse_level(word) for word in ("0", "C2", " t1 ", "lvl4")] == [0, 2, 9, 4]


def discs(offset: float = 0.0) -> dict[int, np.ndarray]:
    """Discs that fit the phantom's regular levels, a little lower or higher."""
    coordinates = [CERVICAL.disc_coordinate(level) + offset for level in range(1, 12)]
    arcs = np.interp(np.arange(1, 10), coordinates, 16 + 15.0 * np.arange(-1, 10))
    curve = phantom().curve
    places = np.clip(np.round(arcs * 10).astype(int), 0, len(curve) - 1)
    return {n: curve[p] + [0, 10, 0] for n, p in zip(range(1, 10), places, strict=True)}


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("offset", [-0.2, 0.2])
def test_discs_restore_shifted_levels(shift: int, offset: float) -> None:
    shifted = shift_levels(phantom().labels, shift, task=ANY)
    cord = phantom().cord
    result = levels_from_discs(
        shifted, phantom().affine, discs=discs(offset), cord=cord, task=ROOTLETS
    )
    assert (result[shifted > 0] == phantom().labels[shifted > 0]).all()


def located() -> np.ndarray:
    """Return the cord colored by the nearest level's number, as a locator would."""
    from sct_rootlets_task.analysis.spinal_levels import spinal_levels

    found = spinal_levels(
        phantom().labels,
        phantom().affine,
        landmarks=Landmarks(cord=phantom().cord),
        method="midpoint",
        task=ROOTLETS,
    )
    assert found.labels is not None
    return found.labels


def test_the_locator_restores_levels_however_wrong_they_are() -> None:
    generator = np.random.default_rng(0)
    table = {level: int(generator.choice(LEVELS)) for level in LEVELS}
    wrong = map_levels(phantom().labels, table, task=ROOTLETS)
    result = levels_from_located(wrong, phantom().affine, located=located(), task=ROOTLETS)
    assert (result == phantom().labels).all()


def test_a_locator_that_found_nothing_or_lies_elsewhere_is_refused() -> None:
    labels = phantom().labels
    with pytest.raises(ImageError, match="found none"):
        levels_from_located(labels, phantom().affine, located=np.zeros_like(labels), task=ROOTLETS)
    with pytest.raises(ImageError, match="on the grid"):
        levels_from_located(
            labels, phantom().affine, located=np.ones((3, 3, 3), np.uint8), task=ROOTLETS
        )
