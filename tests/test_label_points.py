"""Rules of reading points from label images: one way only, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.levels.label_points import label_voxels, one_point
from sct_rootlets_task.levels.landmarks import disc_points, pmj_point

PMJ_AT = (6, 6, 30)
Mark = tuple[float, tuple[int, int, int]]
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def marked(*marks: Mark) -> np.ndarray:
    label = np.zeros((13, 13, 40))
    for value, place in marks:
        label[place] = value
    return label


OTHERS: dict[str, list[Mark]] = {
    "groove": [(49, (6, 10, 30))],
    "conus": [(60, (6, 6, 1))],
    "other": [(99, (0, 0, 0))],
    "discs": [(disc, (6, 6, 28 - 3 * disc)) for disc in range(1, 9)],
    "all": [(49, (6, 10, 30)), (60, (6, 6, 0)), (99, (1, 1, 1)), (3, (6, 6, 12))],
    "NaN": [(np.nan, (0, 0, 0))],
    "infinity": [(np.inf, (0, 0, 0))],
}


@pytest.mark.parametrize("others", OTHERS)
@pytest.mark.parametrize("scale", [1.0, 1.00001])
def test_the_pmj_is_the_value_50_whatever_else_the_file_holds(others: str, scale: float) -> None:
    label = marked((50, PMJ_AT), *OTHERS[others]) * scale
    assert pmj_point(label, AFFINE) == pytest.approx([6, 6, 60])


@pytest.mark.parametrize("value", [1, 30, 51, 255])
def test_a_single_spot_of_another_value_is_taken_for_the_pmj(value: float) -> None:
    assert pmj_point(marked((value, PMJ_AT)), AFFINE) == pytest.approx([6, 6, 60])


@pytest.mark.parametrize("value", [2, 3, 8, 20, 21, 49, 60, 99])
def test_a_single_spot_that_stands_for_something_else_is_no_pmj(value: float) -> None:
    with pytest.raises(ImageError, match=rf"value 50 at the PMJ.*found {value}"):
        pmj_point(marked((value, PMJ_AT)), AFFINE)


REFUSED_PMJ: dict[str, tuple[list[Mark], str]] = {
    "two values": ([(30, PMJ_AT), (31, (6, 7, 30))], "found 30, 31"),
    "1 and 49": ([(1, PMJ_AT), (49, (6, 10, 30))], "49 is the groove"),
    "two clicks": ([(50, PMJ_AT), (50, (6, 6, 20))], "found 2 up to 20 mm apart"),
    "two spots of 1": ([(1, PMJ_AT), (1, (6, 6, 20))], "found 2 up to 20 mm apart"),
    "a heat map": ([(50, PMJ_AT), (31.2, (7, 6, 30))], "found 31.2.*not a heat map"),
    "a probability": ([(0.8, PMJ_AT)], "found 0.8"),
    "a negative value": ([(-50, PMJ_AT)], "found -50"),
    "nothing": ([], "empty"),
    "NaN alone": ([(np.nan, PMJ_AT)], "empty"),
}


@pytest.mark.parametrize("what", REFUSED_PMJ)
def test_what_is_no_single_pmj_is_refused_with_its_name(what: str) -> None:
    marks, message = REFUSED_PMJ[what]
    with pytest.raises(ImageError, match=message) as refused:
        pmj_point(marked(*marks), AFFINE, name="the PMJ label one.nii.gz")
    assert "one.nii.gz" in str(refused.value)


@pytest.mark.parametrize("apart", [(1, 0, 0), (2, 1, 0), (0, 0, 2)])
def test_of_clicks_a_few_mm_apart_the_mean_is_taken(apart: tuple[int, int, int]) -> None:
    second = tuple(np.add(PMJ_AT, apart))
    label = marked((50, PMJ_AT), (50, second))
    expected = AFFINE[:3, :3] @ (np.array(PMJ_AT) + np.array(apart) / 2)
    assert pmj_point(label, AFFINE) == pytest.approx(expected)


def test_a_region_and_an_image_are_no_point() -> None:
    with pytest.raises(ImageError, match="found a region"):
        pmj_point(np.full((13, 13, 40), 50), AFFINE)
    noise = np.random.default_rng(0).integers(0, 60, (30, 30, 40))
    with pytest.raises(ImageError, match="apart"):
        pmj_point(noise, AFFINE)


@pytest.mark.parametrize("seed", range(5))
def test_a_disc_at_two_far_spots_is_refused_and_a_stray_voxel_beside_a_blob_is_not(
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    disc = int(generator.integers(3, 9))
    marks = [(number, (6, 6, 38 - 4 * number)) for number in range(2, 9)]
    far = (int(generator.integers(0, 4)), 0, int(generator.integers(0, 40)))
    labels = marked(*marks)
    labels[5:8, 5:8, 37 - 4 * disc : 40 - 4 * disc] = disc
    wanted = disc_points(labels, AFFINE)[disc]
    labels[far] = disc
    assert disc_points(labels, AFFINE)[disc] == pytest.approx(wanted)
    twice = marked(*marks)
    twice[6, 6, 0 if disc < 6 else 39] = disc
    with pytest.raises(ImageError, match=f"disc {disc} in"):
        disc_points(twice, AFFINE)


@pytest.mark.parametrize("noise", [0.3, 0.02, -1.5])
def test_labels_that_are_no_whole_numbers_are_refused(noise: float) -> None:
    labels = marked((3, (6, 6, 20)), (4, (6, 6, 12)))
    with pytest.raises(ImageError, match="whole numbers"):
        disc_points(np.where(labels > 0, labels * 0 + noise, 0), AFFINE)


def test_four_dimensions_are_refused() -> None:
    with pytest.raises(ImageError, match="three dimensions"):
        label_voxels(np.zeros((2, 2, 2, 2)), "labels")


def test_one_point_of_many_specks_is_refused_not_divided_by_nothing() -> None:
    voxels = np.array([(x, y, z) for x in (0, 4, 8) for y in (0, 4) for z in range(0, 60, 4)])
    with pytest.raises(ImageError, match="apart"):
        one_point(voxels, np.eye(4), apart_mm=6.0, what="a speck")
