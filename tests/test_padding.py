"""Borders of one value are told from what a scanner saw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform, gaussian_filter, rotate
from scipy.stats import rankdata

from sct_rootlets_task.segmentation.padding import find_padding
from volumes import smooth_noise

SHAPE = (26, 22, 30)
Widths = tuple[tuple[int, int], ...]
ALL_SIDES: Widths = ((6, 6), (5, 7), (3, 4))
LIMITS = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
FAR_VALUES = (-32768.0, -1000.0, -300.0, 4095.0, 65535.0)


def tissue(seed: int = 0) -> np.ndarray:
    """Return smooth intensities, all from 1 to 1000 as often."""
    margin = 6  # where filters see the end of the noise, it is stronger
    smooth = smooth_noise([n + 2 * margin for n in SHAPE], seed)[(slice(margin, -margin),) * 3]
    return (1 + 999 * rankdata(smooth).reshape(SHAPE) / smooth.size).astype(np.float32)


def white(low: float, high: float) -> np.ndarray:
    """Return noise that takes all intensities of a range as often."""
    return np.random.default_rng(0).uniform(low, high, SHAPE).astype(np.float32)


def inner(widths: Widths, shape: tuple[int, ...] = SHAPE) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for (a, _), n in zip(widths, shape, strict=True))


def padded(data: np.ndarray, widths: Widths, value: object) -> np.ndarray:
    return np.pad(data, widths, constant_values=value)


@pytest.mark.parametrize(
    "value",
    [
        *FAR_VALUES,
        float(np.finfo(np.float32).min),
        float(np.finfo(np.float32).max),
        -1.0,
        1.0,
        7.0,
        400.0,
        999.0,
        0.5,
    ],
)
@pytest.mark.parametrize(
    "widths",
    [
        ALL_SIDES,
        ((0, 0), (9, 0), (0, 0)),
        ((0, 1), (0, 0), (0, 0)),
        ((1, 1), (1, 1), (1, 1)),
        ((0, 0), (0, 0), (40, 0)),
    ],
    ids=["all", "one side", "one slice", "a slice all around", "more than the image"],
)
def test_a_border_of_any_value_is_cut_off(value: float, widths: Widths) -> None:
    found = find_padding(padded(tissue(), widths, value))
    assert found is not None
    assert found.values == (np.float32(value),)
    assert found.box == inner(widths)
    assert found.outside[found.box].mean() < 1e-3


@settings(max_examples=40, deadline=None)
@given(
    value=st.floats(-(2**15), 2**16, width=32).filter(bool),
    widths=st.tuples(*[st.tuples(st.integers(0, 5), st.integers(0, 5))] * 3),
    seed=st.integers(0, 3),
)
def test_the_box_is_the_image_whatever_the_padding(value: float, widths: Widths, seed: int) -> None:
    found = find_padding(padded(tissue(seed), widths, value))
    if not any(map(any, widths)):
        assert found is None
    else:
        assert found is not None
        assert found.box == inner(widths)


@pytest.mark.parametrize(
    "pair", [(-1000, 4095), (0, -1000), (4095, 0), (-1, 400), (2, 3000), LIMITS]
)
def test_sides_may_have_different_values(pair: tuple[float, float]) -> None:
    found = find_padding(padded(tissue(), ALL_SIDES, (pair, pair[::-1], pair)))
    assert found is not None
    assert found.values == tuple(sorted(set(pair) - {0}))
    assert found.box == inner(ALL_SIDES)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("value", [-1000.0, 4095.0, -8000.0])
@pytest.mark.parametrize("shift", [(0.4, 0.3, 0.5), (0.7, 0.0, 0.2)])
def test_what_interpolation_makes_of_the_border_is_cut_off_too(
    order: int, dtype: type, value: float, shift: tuple[float, ...]
) -> None:
    widths = ((12, 12), (12, 12), (12, 12))
    moved = affine_transform(
        padded(tissue(), widths, value), np.eye(3), shift, order=order, mode="nearest"
    )
    found = find_padding(np.round(moved).astype(dtype).astype(np.float32))
    assert found is not None
    for part, expected in zip(found.box, inner(widths), strict=True):
        assert expected.start - 1 <= part.start <= expected.start + 1
        assert expected.stop - 2 <= part.stop <= expected.stop


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("reshape", [True, False])
@pytest.mark.parametrize("degrees", [8, 25, 45])
@pytest.mark.parametrize("value", [*FAR_VALUES, 400.0])
def test_the_corners_beside_a_turned_image_are_outside(
    value: float, degrees: float, reshape: bool, order: int
) -> None:
    def turned(data: np.ndarray, cval: float, order: int) -> np.ndarray:
        return rotate(data, degrees, (1, 2), reshape=reshape, order=order, cval=cval)

    found = find_padding(turned(tissue(), value, order))
    inside = turned(np.ones(SHAPE, np.float32), 0, 1)
    assert found is not None
    assert not found.bright
    assert found.outside[inside == 0].mean() > 0.97
    assert found.outside[inside > 0.99].mean() < 0.01


def background(value: float, noise: float = 0.0) -> np.ndarray:
    """Return a body that fills the middle of the image, in a background of one value."""
    data = tissue() + 20
    i, j, _ = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    body = (i / 14) ** 2 + (j / 9) ** 2 < 1
    grain = np.round(np.abs(np.random.default_rng(1).normal(0, noise, SHAPE)))
    return np.where(body, data, value + grain).astype(np.float32)


@pytest.mark.parametrize(
    "data",
    [
        tissue(),
        np.round(tissue()),
        background(0),
        np.pad(background(0), 5),
        background(0, noise=0.4),
        background(1, noise=0.7),
        rotate(tissue(), 20, (1, 2), order=1, cval=0),
        gaussian_filter(tissue(), 3),
        -background(0),
        background(0) * np.float32(1e-6),
    ],
    ids=[
        "no background",
        "whole numbers",
        "noise-free zeros",
        "slices of zeros",
        "mostly zeros",
        "dark noise",
        "turned, filled with zeros",
        "smooth",
        "negative, on zeros",
        "tiny values",
    ],
)
def test_images_without_padding_are_left_alone(data: np.ndarray) -> None:
    assert find_padding(data.astype(np.float32)) is None


def test_a_dark_background_is_no_padding_where_it_fills_no_slice() -> None:
    data = rotate(white(5, 1000), 30, (1, 2), reshape=False, order=0, cval=5)
    assert find_padding(data) is None


def test_saturated_tissue_at_the_border_is_no_padding() -> None:
    data = tissue()
    data[:6, :6, :4] = 4095
    assert find_padding(data) is None


def test_corners_as_bright_as_tissue_are_left_and_reported() -> None:
    data = rotate(white(0, 1000), 30, (1, 2), reshape=False, order=0, cval=1000)
    found = find_padding(data)
    assert found is not None
    assert found.bright
    assert not found.outside.any()


@pytest.mark.parametrize("value", [0.0, 3.0, -1000.0])
def test_an_image_of_nothing_but_padding_is_left_alone(value: float) -> None:
    data = np.full(SHAPE, value, np.float32)
    assert find_padding(data) is None
    data[:, :, :15] = value + 7
    assert find_padding(data) is None


def test_a_few_voxels_in_one_value_are_not_padded() -> None:
    data = np.full(SHAPE, 100, np.float32)
    data[5:10, 5:10, 5:10] = tissue()[:5, :5, :5]
    assert find_padding(data) is None
