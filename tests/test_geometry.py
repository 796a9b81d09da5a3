"""Rules of the helpers on voxels in world mm."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.rootlets.geometry import (
    require_same_grid,
    slice_axis,
    slice_numbers,
    voxel_volume,
)

AFFINE = np.diag([-1.0, 2.0, 0.5, 1.0])


def test_voxel_volume_is_the_size_whatever_the_handedness() -> None:
    assert voxel_volume(AFFINE) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("affine", "axis", "upwards"),
    [
        (np.diag([1.0, 1, 1, 1]), 2, True),
        (np.diag([1.0, 1, -1, 1]), 2, False),
        (np.array([[0, 0, 1.0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]), 1, True),
    ],
)
def test_slice_axis_is_the_one_nearest_to_inferior_superior(
    affine: np.ndarray, axis: int, upwards: bool
) -> None:
    assert slice_axis(affine) == (axis, upwards)


def test_slices_count_from_the_inferior_end_in_either_storage_order() -> None:
    voxels = np.array([[0, 0, 1]])
    assert slice_numbers(voxels, np.eye(4), (4, 4, 10)).tolist() == [1]
    assert slice_numbers(voxels, np.diag([1.0, 1, -1, 1]), (4, 4, 10)).tolist() == [8]


def test_same_grid_passes() -> None:
    labels = np.zeros((3, 4, 5))
    require_same_grid(labels, AFFINE, other=labels, other_affine=AFFINE)


@pytest.mark.parametrize(
    ("other", "affine", "message"),
    [
        (np.zeros((3, 4, 6)), None, r"\(3, 4, 6\)"),
        (np.zeros((3, 4, 5)), AFFINE + np.eye(4, k=3), "apart"),
    ],
)
def test_another_grid_is_refused_with_the_way_out(
    other: np.ndarray, affine: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        require_same_grid(np.zeros((3, 4, 5)), AFFINE, other=other, other_affine=affine)
    assert "Resample" in str(caught.value)


def test_a_level_map_has_three_dimensions() -> None:
    with pytest.raises(ImageError, match="three dimensions"):
        require_same_grid(np.zeros((3, 4)), AFFINE, other=np.zeros((3, 4)))
