"""The phantom's truth has to be true: everything along the cord is measured against it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume
from tools.phantom import (
    CORD_HALF_DEPTH_MM,
    CORD_HALF_WIDTH_MM,
    PhantomBundle,
    make_phantom,
    typical_bundles,
)

FEW = typical_bundles(range(5, 7))


def test_the_curve_is_as_long_as_its_arc_says() -> None:
    phantom = make_phantom(FEW, voxel_mm=(2, 2, 2), bend_per_mm=1 / 60)
    steps = np.linalg.norm(np.diff(phantom.curve, axis=0), axis=1)
    assert steps == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize("bend", [0.0, 1 / 80, -1 / 80])
def test_the_bend_of_the_curve_is_the_given_one(bend: float) -> None:
    curve = make_phantom(FEW, voxel_mm=(2, 2, 2), bend_per_mm=bend).curve
    first, middle, last = curve[0], curve[len(curve) // 2], curve[-1]
    sides = [np.linalg.norm(a - b) for a, b in ((first, middle), (middle, last), (first, last))]
    area = np.linalg.norm(np.cross(middle - first, last - first)) / 2
    assert 4 * area / np.prod(sides) == pytest.approx(abs(bend), rel=1e-2, abs=1e-6)


def test_a_bundle_lies_between_its_ends_on_its_side_of_a_straight_cord() -> None:
    bundle = PhantomBundle(7, "left", "dorsal", 10.0, 20.0)
    phantom = make_phantom((bundle,), voxel_mm=(0.5, 0.5, 0.5))
    points = to_world(np.argwhere(phantom.labels == 7), phantom.affine)
    assert -20.0 <= points[:, 2].min() < -19.5
    assert -10.5 < points[:, 2].max() <= -10.0
    assert points[:, 0].max() < -CORD_HALF_WIDTH_MM + 0.5


def test_cord_volume_is_that_of_an_elliptic_cylinder() -> None:
    phantom = make_phantom(FEW, voxel_mm=(0.5, 0.5, 0.5), bend_per_mm=1 / 80)
    volume = phantom.cord.sum() * voxel_volume(phantom.affine)
    length = (len(phantom.curve) - 1) * 0.1
    assert volume == pytest.approx(
        np.pi * CORD_HALF_WIDTH_MM * CORD_HALF_DEPTH_MM * length, rel=0.01
    )


def test_reorienting_moves_no_voxel_in_the_world() -> None:
    phantom = make_phantom(FEW, voxel_mm=(1, 2, 1.5), oblique_degrees=(10, -5, 8))
    wanted = _sorted_world(phantom.labels, phantom.affine)
    orientations = [
        "".join(letters)
        for axes in itertools.permutations(("LR", "AP", "IS"))
        for letters in itertools.product(*axes)
    ]
    for orientation in orientations:
        turned = phantom.oriented(orientation)
        assert _sorted_world(turned.labels, turned.affine) == pytest.approx(wanted, abs=1e-6)
    assert len(orientations) == 48


def _sorted_world(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    points = np.round(to_world(np.argwhere(labels), affine), 6)
    return points[np.lexsort(points.T)]


def test_the_same_seed_gives_the_same_bundles_and_another_gives_others() -> None:
    assert typical_bundles(seed=3) == typical_bundles(seed=3)
    assert typical_bundles(seed=3) != typical_bundles(seed=4)


def test_the_extent_of_a_level_is_that_of_all_its_bundles() -> None:
    bundles = (
        PhantomBundle(4, "left", "dorsal", 10.0, 20.0),
        PhantomBundle(4, "right", "ventral", 8.0, 15.0),
    )
    assert make_phantom(bundles, voxel_mm=(2, 2, 2)).extent(4) == (8.0, 20.0)
