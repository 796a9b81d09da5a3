"""Rules of the rootlet bundles."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sct_rootlets_task.analysis.level_summary import summarize
from sct_rootlets_task.errors import ImageError, MissingDependencyError
from sct_rootlets_task.rootlets.bundles import extent, find_bundles, table
from sct_rootlets_task.rootlets.centerline import fit_centerline
from sct_rootlets_task.rootlets.roots import anterior_offset
from tools.phantom import PhantomBundle, make_phantom, typical_bundles

ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "AP", "IS"))
    for letters in itertools.product(*axes)
]
VOXELS = ((1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.6, 0.6, 1.2))
BENDS = (0.0, 1 / 150, 1 / 80)
LEVELS = tuple(range(5, 8))


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("voxel_mm", VOXELS)
def test_ends_midpoints_and_heights_are_the_true_ones_in_all_48_orientations(
    voxel_mm: tuple[float, float, float], bend: float
) -> None:
    phantom = make_phantom(typical_bundles(LEVELS), voxel_mm=voxel_mm, bend_per_mm=bend)
    voxel = max(voxel_mm[2], 0.5)
    heights = []
    for orientation in ORIENTATIONS:
        turned = phantom.oriented(orientation)
        bundles = find_bundles(turned.labels, turned.affine, cord=turned.cord)
        truth = bundles.line.project(phantom.curve)[:, 0]
        for found in summarize(bundles.items):
            ends = np.array(phantom.extent(found.level))
            start, end = np.interp(ends, np.arange(len(truth)) * 0.1, truth)
            assert found.end == pytest.approx(start, abs=voxel)
            assert found.start == pytest.approx(end, abs=voxel)
            assert found.midpoint == pytest.approx((start + end) / 2, abs=voxel)
            assert found.height == pytest.approx(np.ptp(ends), abs=voxel)
            heights.append(found.height - np.ptp(ends))
    assert np.mean(np.abs(heights)) < 0.5


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("oblique", [(0, 0, 0), (15, -10, 8)])
def test_extents_are_without_bias_wherever_voxels_fall(
    bend: float, oblique: tuple[float, float, float]
) -> None:
    errors = []
    for phase in np.linspace(0, 0.9, 7):
        phantom = make_phantom(
            typical_bundles((5, 6), spread_mm=0.7),
            voxel_mm=(0.8, 0.8, 0.8),
            bend_per_mm=bend,
            oblique_degrees=oblique,
            phase=(phase, phase, phase),
        )
        bundles = find_bundles(phantom.labels, phantom.affine, cord=phantom.cord)
        truth = {(b.level, b.side, b.part): b for b in phantom.bundles}
        for bundle in bundles.items:
            true = truth[bundle.level, bundle.side, bundle.part]
            errors.append(bundle.height - (true.end - true.start))
    assert abs(np.mean(errors)) < 0.25


def height_errors(
    slice_mm: float, *, bend: float = 0.0, oblique: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Return the errors of the levels' heights in mm, wherever slices fall along the cord."""
    errors: list[float] = []
    for seed, phase in enumerate(np.arange(0.05, 1, 0.1)):
        phantom = make_phantom(
            typical_bundles((5, 6), seed=seed),
            voxel_mm=(0.6, 0.6, slice_mm),
            bend_per_mm=bend,
            oblique_degrees=oblique,
            phase=(0.3, phase, phase),
        )
        bundles = find_bundles(phantom.labels, phantom.affine, cord=phantom.cord)
        errors += [
            found.height - float(np.ptp(phantom.extent(found.level)))
            for found in summarize(bundles.items)
        ]
    return np.array(errors)


@pytest.mark.parametrize("slice_mm", [0.5, 0.8, 1.2])
@pytest.mark.parametrize(
    ("bend", "oblique"),
    [(0.0, (0.0, 0.0, 0.0)), (1 / 80, (0.0, 0.0, 0.0)), (0.0, (20.0, 8.0, 0.0))],
)
def test_heights_are_within_a_slice_and_right_on_average(
    slice_mm: float, bend: float, oblique: tuple[float, float, float]
) -> None:
    errors = height_errors(slice_mm, bend=bend, oblique=oblique)
    assert np.abs(errors).max() <= max(slice_mm, 0.5)
    assert abs(errors.mean()) < 0.15 * slice_mm
    assert errors.std() < 1.1 * slice_mm / np.sqrt(6)


def test_heights_almost_two_slices_apart_can_give_one_label_map() -> None:
    def drawn(longer: float) -> np.ndarray:
        ends = (20.39 - longer / 2, 31.21 + longer / 2)  # slices lie at 20.4 and 31.2 mm
        bundle = PhantomBundle(6, "left", "dorsal", *ends)
        return make_phantom(
            (bundle, PhantomBundle(9, "left", "dorsal", 50, 52)),
            voxel_mm=(0.8, 0.8, 1.2),
            phase=(0.0, 0.0, 0.0),
        ).labels

    grown = [np.array_equal(drawn(0), drawn(longer)) for longer in (2.3, 2.5)]
    assert grown == [True, False]


def test_a_block_on_a_grid_along_the_cord_reaches_to_its_voxels_outer_faces() -> None:
    phantom = make_phantom(typical_bundles(LEVELS), voxel_mm=(0.8, 0.8, 0.8))
    line = fit_centerline(phantom.labels, phantom.affine, cord=phantom.cord)
    voxels = np.array([[18, 18, k] for k in range(40, 50)])
    arcs = np.arange(10) * 0.8
    assert extent(voxels, arcs, affine=phantom.affine, line=line) == pytest.approx(
        (-0.4, 7.6), abs=0.02
    )


@pytest.mark.parametrize("turn", [0.0, 20.0])
@pytest.mark.parametrize("orientation", ["RPI", "PSR", "SLA"])
def test_level_side_and_root_of_every_bundle_are_the_true_ones(
    turn: float, orientation: str
) -> None:
    phantom = make_phantom(bend_per_mm=1 / 100, turn_degrees=turn).oriented(orientation)
    bundles = find_bundles(phantom.labels, phantom.affine, cord=phantom.cord)
    found = sorted((b.level, b.side, b.part) for b in bundles.items)
    assert found == sorted((b.level, b.side, b.part) for b in phantom.bundles)


def test_without_a_cord_the_two_roots_are_told_from_each_other() -> None:
    phantom = make_phantom()
    bundles = find_bundles(phantom.labels, phantom.affine)
    found = sorted((b.level, b.side, b.part) for b in bundles.items)
    assert found == sorted((b.level, b.side, b.part) for b in phantom.bundles)


def test_without_a_cord_one_kind_of_root_alone_is_of_unsure_kind() -> None:
    only = [b for b in typical_bundles() if b.part == "dorsal"]
    phantom = make_phantom(only)
    bundles = find_bundles(phantom.labels, phantom.affine)
    assert {b.part for b in bundles.items} == {"unsure"}
    assert {b.name for b in bundles.items if b.level == 9} == {"T1 left", "T1 right"}


def test_of_two_bundles_close_to_the_border_the_one_in_front_is_ventral() -> None:
    phantom = make_phantom()
    labels = phantom.labels.copy()
    bundles = find_bundles(labels, phantom.affine, cord=phantom.cord)
    by_name = {b.name: b for b in bundles.items}
    assert by_name["C4 left dorsal"].anterior < by_name["C4 left ventral"].anterior


def touching() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bundles = (
        *typical_bundles((4, 7, 8)),
        PhantomBundle(5, "left", "dorsal", 26.0, 35.0),
        PhantomBundle(6, "left", "dorsal", 35.0, 44.0),
    )
    bundles = tuple(b for b in bundles if not (b.level == 7 and b.side == "left"))
    phantom = make_phantom(bundles)
    return phantom.labels, phantom.affine, phantom.cord


def test_touching_bundles_of_neighboring_levels_stay_two() -> None:
    labels, affine, cord = touching()
    bundles = find_bundles(labels, affine, cord=cord)
    five, six = (b for b in bundles.items if b.level in (5, 6))
    assert {five.level, six.level} == {5, 6}
    assert five.purity == six.purity == 1
    assert abs(min(five.end, six.end) - max(five.start, six.start)) < 1.0


def test_voxels_strewn_through_a_bundle_do_not_cut_it() -> None:
    phantom = make_phantom(typical_bundles(LEVELS))
    labels = phantom.labels.copy()
    voxels = np.argwhere(labels == 6)
    chosen = np.random.default_rng(0).permutation(len(voxels))[: len(voxels) // 3]
    labels[tuple(voxels[chosen].T)] = 7
    bundles = find_bundles(labels, phantom.affine, cord=phantom.cord)
    assert len(bundles.items) == len(phantom.bundles)
    mixed = [b for b in bundles.items if b.purity < 1]
    assert {b.level for b in mixed} == {6}
    assert {b.votes[1][0] for b in mixed} == {7}


def test_a_piece_across_the_middle_is_parted_into_two_sides() -> None:
    phantom = make_phantom(typical_bundles(LEVELS))
    labels = phantom.labels.copy()
    middle = labels.shape[0] // 2
    k = int(np.argwhere(labels == 6)[:, 2].mean())
    labels[middle - 9 : middle + 9, 2:4, k] = 6
    bundles = find_bundles(labels, phantom.affine, cord=phantom.cord)
    bridge = [b for b in bundles.items if b.height < 2]
    assert {b.side for b in bridge} == {"left", "right"}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_painting_pure_bundles_gives_the_labels_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.zeros((12, 12, 40), np.uint8)
    for _ in range(6):
        i, j, k = generator.integers(0, (9, 9, 36))
        labels[i : i + 3, j : j + 3, k : k + 4] = generator.integers(2, 10)
    bundles = find_bundles(labels, np.eye(4))
    painted = bundles.paint(b.level for b in bundles.items)
    assert ((painted > 0) == (labels > 0)).all()
    pure = [b.number for b in bundles.items if b.purity == 1]
    where = tuple(bundles.voxels[np.isin(bundles.owner, pure)].T)
    assert (painted[where] == labels[where]).all()


def test_the_anterior_offset_is_the_same_on_both_sides() -> None:
    offsets = anterior_offset(np.array([7.0, -7.0]), np.array([1.0, 1.0]))
    assert offsets[0] == offsets[1]


def test_a_cord_mask_on_another_grid_is_refused() -> None:
    with pytest.raises(ImageError, match="on the grid"):
        find_bundles(np.ones((4, 4, 4), np.uint8), np.eye(4), cord=np.ones((4, 4, 5)))


def test_a_table_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingDependencyError, match="pip install pandas"):
        table([])


def test_a_line_without_rootlets_has_no_bundles() -> None:
    phantom = make_phantom(typical_bundles((5,)), voxel_mm=(1, 1, 1))
    line = fit_centerline(phantom.labels, phantom.affine)
    empty = np.zeros_like(phantom.labels)
    bundles = find_bundles(empty, phantom.affine, line=line)
    assert (bundles.items, bundles.border) == ((), None)
    assert not bundles.paint([]).any()
