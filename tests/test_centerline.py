"""Rules of the centerline."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.rootlets.centerline import fit_centerline, line_through_cord
from sct_rootlets_task.rootlets.geometry import to_world
from tools.phantom import Phantom, make_phantom, typical_bundles

BENDS = (0.0, 1 / 150, 1 / 80, -1 / 80)
VOXELS = ((0.8, 0.8, 0.8), (1.0, 0.5, 0.5), (0.5, 0.5, 2.0))
FOUR = typical_bundles(range(4, 8))


def along_truth(phantom: Phantom, line_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the error of arc lengths (up to a common shift) and the distance from the truth."""
    truth = np.arange(len(phantom.curve)) * 0.1
    inner = (truth > 6) & (truth < truth[-1] - 6)
    error = (line_of[:, 0] - truth)[inner]
    return error - np.median(error), np.hypot(line_of[:, 1], line_of[:, 2])[inner]


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("voxel_mm", VOXELS)
@pytest.mark.parametrize("oblique", [(0, 0, 0), (12, -8, 10)])
def test_a_cord_mask_gives_the_true_line_and_arc_length(
    bend: float, voxel_mm: tuple[float, float, float], oblique: tuple[float, float, float]
) -> None:
    phantom = make_phantom(FOUR, voxel_mm=voxel_mm, bend_per_mm=bend, oblique_degrees=oblique)
    line = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord)
    error, distance = along_truth(phantom, line.project(phantom.curve))
    assert np.abs(error).max() < 0.2
    assert distance.max() < 0.3
    assert line.length == pytest.approx(0.1 * len(phantom.curve), abs=1.5 * max(voxel_mm))


def test_orientation_of_the_voxel_axes_makes_no_difference() -> None:
    phantom = make_phantom(FOUR, voxel_mm=(1, 0.8, 1.2), bend_per_mm=1 / 80)
    wanted = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord).project(
        phantom.curve[::50]
    )
    for orientation in ("RAI", "PSR", "ILA", "SPL", "LPS"):
        turned = phantom.oriented(orientation)
        found = fit_centerline(turned.labels, turned.affine, cord=turned.cord)
        assert found.project(phantom.curve[::50]) == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("bend", [0.0, 1 / 150])
def test_without_a_cord_the_line_runs_midway_between_the_sides(bend: float) -> None:
    phantom = make_phantom(bend_per_mm=bend)
    line = fit_centerline(phantom.labels, phantom.affine)
    where = line.project(phantom.curve)
    error, _ = along_truth(phantom, where)
    assert line.source == "rootlets"
    assert np.abs(error).max() < 1.0
    assert np.abs(where[160:-200, 1]).max() < 0.5


def test_bundles_missing_on_one_side_do_not_pull_the_line_over() -> None:
    bundles = [b for b in typical_bundles() if not (b.side == "left" and b.level in (5, 6))]
    phantom = make_phantom(bundles, bend_per_mm=1 / 150)
    line = fit_centerline(phantom.labels, phantom.affine)
    assert np.abs(line.project(phantom.curve)[160:-200, 1]).max() < 0.7


@pytest.mark.parametrize("turn", [-25.0, 0.0, 25.0])
def test_right_and_front_follow_a_turned_cord(turn: float) -> None:
    phantom = make_phantom(FOUR, turn_degrees=turn)
    line = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord)
    middle = line.rights[len(line.rights) // 2]
    assert np.rad2deg(np.arctan2(middle[1], middle[0])) == pytest.approx(turn, abs=3)
    assert np.cross(line.rights[0], line.tangents[0]) == pytest.approx(line.anteriors[0])


def test_a_round_cord_keeps_the_right_of_the_body() -> None:
    grid = np.indices((25, 25, 40)).reshape(3, -1).T
    inside = np.hypot(grid[:, 0] - 12, grid[:, 1] - 12) < 5
    line = line_through_cord(grid[inside].astype(float))
    assert line.rights[:, 0].min() > 0.98


def test_spilt_voxels_beside_the_cord_do_not_move_the_line() -> None:
    phantom = make_phantom(FOUR)
    spilt = phantom.cord.copy()
    spilt[-4:, 3:8, 30:50] = 1
    clean = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord)
    where = fit_centerline(phantom.labels, phantom.affine, cord=spilt).project(phantom.curve)
    wanted = clean.project(phantom.curve)
    assert np.abs(where[100:-100, 1:] - wanted[100:-100, 1:]).max() < 0.5


def test_positions_and_points_are_inverse_on_the_line() -> None:
    phantom = make_phantom(FOUR, bend_per_mm=1 / 80)
    line = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord)
    arcs = np.linspace(-20, line.length + 20, 30)
    where = line.project(line.at(arcs))
    assert where[:, 0] == pytest.approx(arcs, abs=0.05)
    assert where[:, 1:] == pytest.approx(0, abs=0.05)


def test_arc_length_grows_downwards_and_begins_at_the_top() -> None:
    phantom = make_phantom(FOUR)
    line = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord)
    voxels = to_world(np.argwhere(phantom.cord), phantom.affine)
    assert line.project(voxels)[:, 0].min() == pytest.approx(0, abs=0.1)
    assert line.tangent(10.0)[2] < -0.99


def test_one_level_on_one_side_still_gives_a_line_along_the_body() -> None:
    bundles = [b for b in typical_bundles((5,)) if b.side == "left"]
    phantom = make_phantom(bundles)
    line = fit_centerline(phantom.labels, phantom.affine)
    assert line.tangent(0.0)[2] < -0.9


@pytest.mark.parametrize("count", [0, 1])
def test_too_little_to_fit_is_refused(count: int) -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, :count] = 5
    with pytest.raises(ImageError, match=f"found {count} voxels"):
        fit_centerline(labels, np.eye(4))


def test_a_cord_mask_on_another_grid_is_refused() -> None:
    with pytest.raises(ImageError, match="on the grid of the level map"):
        fit_centerline(np.ones((5, 5, 5), np.uint8), np.eye(4), cord=np.ones((5, 5, 6)))
