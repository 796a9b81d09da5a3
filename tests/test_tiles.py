"""Tiles lie and weigh as nnU-Net's do, and those that matter are found."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.network.resampling import Resize, linear_taps
from sct_rootlets_task.network.tiled import SMALLEST_SHARE, choose_tiles, classes_on_grid
from sct_rootlets_task.network.tiles import TileGrid, gaussian

GRIDS = [((40, 30, 20), (16, 12, 8)), ((17, 12, 9), (16, 12, 8)), ((16, 12, 8), (16, 12, 8))]


@pytest.mark.network
@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_tiles_start_where_nnunets_do(shape: tuple[int, ...], patch: tuple[int, ...]) -> None:
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    grid = TileGrid(shape, patch)
    assert [grid.starts(axis) for axis in range(3)] == compute_steps_for_sliding_window(
        shape, patch, 0.5
    )


@pytest.mark.network
@pytest.mark.parametrize("patch", [(16, 12, 8), (31, 20, 9), (96, 64, 64)])
def test_weights_are_nnunets(patch: tuple[int, ...]) -> None:
    import torch
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    expected = compute_gaussian(patch, value_scaling_factor=10, device=torch.device("cpu"))
    ours, theirs = gaussian(patch), expected.numpy()
    assert ours.dtype == np.float16
    # The last bit of a half may differ, where a value lies between two.
    assert np.max(np.abs(ours.view(np.int16) - theirs.view(np.int16))) <= 1


@pytest.mark.parametrize(("shape", "patch"), GRIDS)
def test_shares_add_up_and_follow_the_weights(
    shape: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    grid = TileGrid(shape, patch)
    points = np.random.default_rng(0).uniform(0, np.array(shape) - 1, (50, 3))
    shares = grid.shares(points)
    assert shares.sum(axis=1) == pytest.approx(np.ones(50), abs=1e-5)
    weights = gaussian(patch).astype(float)
    for point, row in zip(np.round(points).astype(int), shares, strict=True):
        here = np.zeros(len(row))
        for number, tile in enumerate(grid.tiles()):
            inside = point - tile
            if np.all(inside >= 0) and np.all(inside < patch):
                here[number] = weights[tuple(inside)]
        if here.max() > 1e-3:  # below, nnU-Net lifts weights that half precision cannot hold
            assert row == pytest.approx(here / here.sum(), abs=0.02)


def test_everywhere_means_all_tiles() -> None:
    grid = TileGrid(*GRIDS[0])
    assert choose_tiles(grid, None) == grid.tiles()


def test_only_tiles_with_a_share_near_the_places_are_chosen_in_order() -> None:
    grid = TileGrid((160, 64, 32), (32, 32, 16))
    near = np.array([[20.0, 16.0, 8.0], [24.0, 20.0, 8.0]])
    chosen = choose_tiles(grid, near)
    assert 0 < len(chosen) < len(grid.tiles()) / 4
    assert chosen == [tile for tile in grid.tiles() if tile in set(chosen)]
    left_out = [i for i, tile in enumerate(grid.tiles()) if tile not in set(chosen)]
    assert grid.shares(near)[:, left_out].max() < SMALLEST_SHARE


@pytest.mark.parametrize(
    "export",
    [
        Resize((9, 8, 7), (15, 6, 7), 1),
        Resize((9, 8, 7), (20, 8, 7), 1, coarse_axis=0),
        Resize((9, 8, 7), (9, 8, 7), 1),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_labels_on_the_grid_equal_those_of_full_interpolation(export: Resize, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((4, *export.old_shape)).astype(np.float16)
    logits[0] += np.float16(1.5)
    full = logits.astype(np.float32)
    for axis in range(3):
        lower, upper, share = linear_taps(export, axis)
        along = np.expand_dims(share, [a for a in range(4) if a != axis + 1])
        full = np.take(full, lower, axis + 1) * (1 - along) + np.take(full, upper, axis + 1) * along
    box = [slice(0, n) for n in export.old_shape]
    labels = classes_on_grid(logits, box, export)
    assert np.mean(labels == full.astype(np.float16).argmax(axis=0)) > 0.999
    assert len(np.unique(labels)) == 4


def test_logits_of_a_part_label_the_voxels_that_touch_it_and_no_others() -> None:
    logits = np.zeros((2, 2, 2, 2), np.float16)
    logits[1] = 1
    export = Resize((8, 8, 8), (16, 16, 16), 1)
    labels = classes_on_grid(logits, [slice(3, 5)] * 3, export)
    assert labels[5:11, 5:11, 5:11].all()
    assert labels.sum() == 6**3
