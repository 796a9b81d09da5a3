"""Indices and components of voxels are those that numpy and scipy give for whole volumes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.ndimage import label

from sct_rootlets_task.rootlets.components import connected, voxels_of

LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda mask: np.repeat(mask, 2, axis=1)[:, ::2],
    "backwards": lambda mask: np.ascontiguousarray(mask[::-1])[::-1],
    "turned": lambda mask: np.ascontiguousarray(mask.transpose(1, 0, 2)).transpose(1, 0, 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_voxels_are_those_of_argwhere(layout: str, dtype: type, share: float) -> None:
    drawn = np.random.default_rng(3).random((7, 9, 5))
    mask = LAYOUTS[layout]((np.where(drawn < share, 1 + 5 * drawn, 0)).astype(dtype))
    found = voxels_of(mask)
    assert found.shape == (np.count_nonzero(mask), 3)
    assert np.array_equal(found, np.argwhere(mask))


def test_components_are_those_of_the_volume() -> None:
    mask = np.random.default_rng(4).random((12, 11, 10)) < 0.06
    voxels = np.argwhere(mask)
    wanted, n = label(mask, structure=np.ones((3, 3, 3)))
    assert n > 5
    assert np.array_equal(connected(voxels), wanted[tuple(voxels.T)] - 1)


def test_components_touch_at_corners() -> None:
    assert connected(np.array([[0, 0, 0], [1, 1, 1], [5, 5, 5]])).tolist() == [0, 0, 1]
    assert connected(np.zeros((0, 3), int)).tolist() == []
