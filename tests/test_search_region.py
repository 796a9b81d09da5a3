"""Networks are run where rootlets can be."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.levels.located_canal import Canal
from sct_rootlets_task.segmentation.search_region import search_region


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0), (6.0, 1.0, 1.0)])
def test_the_search_region_holds_all_in_reach_and_little_more(
    sizes: tuple[float, float, float],
) -> None:
    shape = tuple(int(100 / size) for size in sizes)
    affine = np.diag([*sizes, 1.0])
    mm = np.stack(np.indices(shape), axis=-1) * sizes
    beside = np.linalg.norm(mm[..., :2] - 50, axis=-1)
    classes = np.zeros(shape, np.uint8)
    classes[(beside < 6) & (mm[..., 2] < 40)] = 1
    classes[(beside < 6) & (mm[..., 2] >= 40)] = 2
    canal = Canal(classes, affine, {"below": 1, "C4": 2}, None)
    region = search_region(canal, [4], reach_mm=10, margin_mm=12)
    assert region.shape == shape
    assert region[(beside < 15) & (mm[..., 2] > 30)].all()
    assert not region[beside > 16 + 2 * np.linalg.norm(np.maximum(sizes, 4))].any()
    assert not region[mm[..., 2] < 40 - 12 - 10 - 2 * 4 - 4].any()


def test_nothing_located_means_nowhere_to_search() -> None:
    nowhere = np.zeros((8, 8, 8), np.uint8)
    canal = Canal(nowhere, np.eye(4), {"C4": 1}, None)
    assert not search_region(canal, [4], reach_mm=10).any()
