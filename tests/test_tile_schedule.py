"""Tiles lie and weigh as nnU-Net's do, and those that matter are found."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.inference.resampling import Resize, linear_taps
from sct_rootlets_task.inference.sliding_window import _inside_tile, _margins, classes_on_grid
from sct_rootlets_task.inference.tile_schedule import (
    CONTRADICTION,
    ROUNDING,
    Schedule,
    TileGrid,
    gaussian,
)

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


def test_the_share_of_a_tile_is_its_column() -> None:
    grid = TileGrid(*GRIDS[0])
    points = np.random.default_rng(1).integers(0, grid.shape, (50, 3))
    shares = grid.shares(points)
    for tile in range(len(grid.tiles())):
        assert grid.share_of(tile, points) == pytest.approx(shares[:, tile], abs=1e-7)


def _run(grid: TileGrid, voxels: np.ndarray, margin: float) -> list[int]:
    """Return the tiles a schedule asks for when all voxels seen have the same margin."""
    schedule, chosen = Schedule(grid, voxels), list[int]()
    while (tile := schedule.next_tile()) is not None:
        chosen.append(tile)
        rows = np.flatnonzero(grid.share_of(tile, voxels))
        schedule.record(tile, rows, np.full(len(rows), margin, np.float32))
    return chosen


@pytest.mark.parametrize("margin", [0.05, 1.0, CONTRADICTION / 2, 2 * CONTRADICTION])
def test_the_tiles_left_out_cannot_change_a_label(margin: float) -> None:
    grid = TileGrid((160, 64, 32), (32, 32, 16))
    voxels = np.argwhere(np.ones((20, 10, 8), bool)) + np.array([30, 20, 10])
    chosen = _run(grid, voxels, margin)
    assert len(set(chosen)) == len(chosen)
    missing = 1 - grid.shares(voxels)[:, chosen].sum(axis=1)
    assert np.all(missing * CONTRADICTION < max(margin, ROUNDING) + 1e-3)


def test_no_tile_is_run_for_what_rounding_decides() -> None:
    grid = TileGrid((160, 64, 32), (32, 32, 16))
    voxels = np.argwhere(np.ones((20, 10, 8), bool)) + np.array([30, 20, 10])
    chosen = _run(grid, voxels, margin=0.0)
    missing = 1 - grid.shares(voxels)[:, chosen].sum(axis=1)
    assert 1e-4 < missing.max() <= ROUNDING / CONTRADICTION + 1e-6


def test_the_clearer_the_voxels_the_fewer_the_tiles() -> None:
    grid = TileGrid((160, 64, 32), (32, 32, 16))
    voxels = np.argwhere(np.ones((20, 10, 8), bool)) + np.array([30, 20, 10])
    counts = [len(_run(grid, voxels, margin)) for margin in (0.0, 1.0, 5.0, 9.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] < len(grid.tiles()) / 2


def test_without_doubt_anywhere_one_tile_is_enough() -> None:
    grid = TileGrid(*GRIDS[0])
    schedule = Schedule(grid, np.array([[20, 15, 10]]))
    tile = schedule.next_tile()
    assert tile is not None
    assert grid.share_of(tile, schedule.voxels)[0] < 1, "others are missing there"
    schedule.record(tile, np.array([0]), np.array([2 * CONTRADICTION], np.float32))
    assert schedule.next_tile() is None


def test_without_voxels_no_tile_is_run() -> None:
    assert Schedule(TileGrid(*GRIDS[0]), np.zeros((0, 3), int)).next_tile() is None


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_margin_is_the_best_less_the_second_best(classes: int) -> None:
    values = np.random.default_rng(0).standard_normal((classes, 500)).astype(np.float32)
    ordered = np.sort(values, axis=0)
    np.testing.assert_array_equal(_margins(values), ordered[-1] - ordered[-2])


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 2, 5), (24, 18, 12)])
def test_voxels_in_a_tile_are_found_with_their_places(start: tuple[int, int, int]) -> None:
    shape, patch = GRIDS[0]
    voxels = np.argwhere(np.random.default_rng(0).random(shape) < 0.1)
    rows, places = _inside_tile(voxels, start, patch)
    inside = voxels - start
    wanted = np.all((inside >= 0) & (inside < patch), axis=1)
    assert rows.tolist() == np.flatnonzero(wanted).tolist()
    assert places.tolist() == np.ravel_multi_index(tuple(inside[wanted].T), patch).tolist()


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


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.0, 5.0, 20.0])
def test_the_tiles_that_are_left_are_none_only_at_the_end(seed: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    grid = TileGrid((60, 40, 30), (16, 12, 8))
    voxels = np.unique(rng.integers(0, grid.shape, (300, 3)), axis=0)
    schedule, run = Schedule(grid, voxels), 0
    touching = int((grid.shares(voxels).sum(axis=0) > 0).sum())
    assert 0 < schedule.tiles_left() <= touching
    while (tile := schedule.next_tile()) is not None:
        left = schedule.tiles_left()
        assert 0 < left <= touching - run
        rows = np.flatnonzero(grid.share_of(tile, voxels) > 0)
        schedule.record(tile, rows, np.full(len(rows), margin, np.float32))
        run += 1
    assert schedule.tiles_left() == 0
