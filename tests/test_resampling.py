"""Resampling equals nnU-Net's, of which it is a faster form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, zoom

from sct_rootlets_task.inference.resampling import (
    Resize,
    averaged,
    axis_matrix,
    coarse_axis,
    linear_taps,
    new_shape,
    resample_nearest,
    resize_image,
)
from volumes import smooth_noise

SHAPES = [
    ((9, 7, 8), (14, 11, 5)),
    ((12, 5, 6), (4, 9, 6)),
    ((3, 4, 5), (6, 8, 10)),
    ((90, 5, 6), (113, 4, 7)),
    ((5, 90, 6), (4, 71, 8)),
    ((6, 5, 90), (7, 6, 113)),
]


@pytest.mark.parametrize(("old", "new"), SHAPES)
@pytest.mark.parametrize("order", [1, 3])
def test_resizing_equals_the_spline_zoom_in_three_dimensions(
    old: tuple[int, ...], new: tuple[int, ...], order: int
) -> None:
    image = smooth_noise(old)
    factors = [n / o for n, o in zip(new, old, strict=True)]
    whole = zoom(image.astype(float), factors, order=order, mode="nearest", grid_mode=True)
    expected = np.clip(whole, image.min(), image.max())
    assert resize_image(image, Resize(old, new, order)) == pytest.approx(expected, abs=1e-2)


@pytest.mark.network
@pytest.mark.parametrize(("old", "new"), SHAPES)
@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_resizing_equals_nnunet(
    old: tuple[int, ...], new: tuple[int, ...], axis: int | None
) -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg

    image = smooth_noise(old)
    expected = resample_data_or_seg(
        image[None], new, axis=axis, order=3, do_separate_z=axis is not None
    )[0]
    result = resize_image(image, Resize(old, new, 3, axis))
    assert result == pytest.approx(expected, rel=1e-5, abs=1e-2)
    assert result.dtype == np.float32


@pytest.mark.parametrize("new", [113, 71])
def test_weights_left_out_of_a_long_axis_are_below_single_precision(new: int) -> None:
    matrix = axis_matrix(90, new, 3)
    whole = zoom(np.eye(90), (1, new / 90), order=3, mode="nearest", grid_mode=True).T
    assert np.abs(matrix - whole).max() < np.finfo(np.float32).eps
    assert np.count_nonzero(matrix, axis=1).max() < 40


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_linear_taps_interpolate_as_the_zoom_does(
    old: tuple[int, ...], new: tuple[int, ...]
) -> None:
    for axis in range(3):
        values = np.random.default_rng(axis).random(old[axis])
        lower, upper, share = linear_taps(Resize(old, new, 1), axis)
        factor = new[axis] / old[axis]
        expected = zoom(values, factor, order=1, mode="nearest", grid_mode=True)
        assert values[lower] * (1 - share) + values[upper] * share == pytest.approx(expected)


def test_the_coarse_axis_takes_the_nearest_slice() -> None:
    resize = Resize((5, 4, 4), (8, 4, 4), 1, coarse_axis=0)
    lower, upper, share = linear_taps(resize, 0)
    places = 5 / 8 * (np.arange(8) + 0.5) - 0.5
    expected = map_coordinates(np.arange(5), [places], order=0, mode="nearest")
    assert lower.tolist() == expected.tolist()
    assert np.array_equal(lower, upper)
    assert not share.any()


@pytest.mark.parametrize(
    ("spacing", "wanted", "force", "axis"),
    [
        ((1.0, 1.0, 1.0), (0.7, 0.7, 0.7), None, None),
        ((3.9, 0.7, 0.8), (0.7, 0.7, 0.7), None, 0),
        ((0.7, 0.8, 3.9), (0.7, 0.7, 0.7), None, 2),
        ((0.7, 0.7, 0.7), (0.7, 2.8, 0.7), None, 1),
        ((0.24, 1.25, 1.25), (0.7, 0.7, 0.7), None, None),
        ((3.9, 0.7, 0.8), (0.7, 0.7, 0.7), False, None),
        ((1.0, 0.9, 0.8), (0.7, 0.7, 0.7), True, 0),
        ((1.0, 1.0, 1.0), (0.7, 0.7, 0.7), True, None),
    ],
)
def test_marked_anisotropy_sets_the_coarse_axis_apart(
    spacing: tuple[float, ...], wanted: tuple[float, ...], force: bool | None, axis: int | None
) -> None:
    assert coarse_axis(spacing, wanted, force) == axis


@pytest.mark.network
@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 0.5, 1.3), (2.5, 0.7, 0.7)])
def test_the_new_shape_is_nnunets(spacing: tuple[float, ...]) -> None:
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    for shape in ((384, 225, 52), (57, 31, 9)):
        expected = compute_new_shape(shape, spacing, (0.70652, 0.7, 0.8)).tolist()
        assert list(new_shape(shape, spacing, (0.70652, 0.7, 0.8))) == expected


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 0.5), (0.7, 1.0, 1.3), (0.8, 2.0, 0.4)])
def test_averaging_keeps_the_space_and_the_mean_and_leaves_large_voxels(
    spacing: tuple[float, ...],
) -> None:
    volume = smooth_noise((30, 24, 18))
    result, sizes = averaged(volume, spacing, 1.5)
    assert np.multiply(result.shape, sizes) == pytest.approx(np.multiply(volume.shape, spacing))
    assert result.mean() == pytest.approx(volume.mean(), rel=1e-4, abs=1e-4)
    for axis, size in enumerate(spacing):
        assert (result.shape[axis] == volume.shape[axis]) == (size >= 1.5)


def test_averaging_by_a_whole_number_takes_the_mean_of_blocks() -> None:
    volume = smooth_noise((6, 9, 12))
    result, sizes = averaged(volume, (0.5, 0.5, 0.5), 1.5)
    blocks = volume.reshape(2, 3, 3, 3, 4, 3).mean(axis=(1, 3, 5))
    assert result == pytest.approx(blocks, abs=1e-4)
    assert sizes == (1.5, 1.5, 1.5)


def test_spreading_undoes_what_averaging_did_to_the_grid() -> None:
    blocks = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    assert (
        resample_nearest(blocks, (6, 4, 2)) == np.kron(blocks, np.ones((3, 2, 1), np.uint8))
    ).all()
    assert resample_nearest(blocks, (2, 2, 2)) is blocks
