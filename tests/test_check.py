"""Each flag of the plausibility report comes when it should, and only then."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sct_rootlets_task.analysis.check import Report, check
from sct_rootlets_task.analysis.flags import CODES
from sct_rootlets_task.analysis.measured import measure
from sct_rootlets_task.analysis.relabel import shift_levels
from sct_rootlets_task.analysis.single_checks import _check_height
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.landmarks import Landmarks, disc_points, pmj_point
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.components import connected
from sct_rootlets_task.rootlets.geometry import level_map
from tools.phantom import Phantom, PhantomBundle, make_phantom, typical_bundles

LEVELS = tuple(range(2, 10))


@functools.cache
def phantom() -> Phantom:
    return make_phantom(voxel_mm=(1, 1, 1), bend_per_mm=1 / 150)


def check_of(labels: np.ndarray, **references: Any) -> Report:
    known = Landmarks(cord=phantom().cord, **references)
    return check(labels, phantom().affine, landmarks=known, task=ROOTLETS)


def codes(report: Report) -> set[str]:
    return {flag.code for flag in report.flags}


@pytest.mark.parametrize("with_cord", [True, False])
def test_intact_labels_have_no_flags(with_cord: bool) -> None:
    references = Landmarks(cord=phantom().cord if with_cord else None)
    report = check(phantom().labels, phantom().affine, landmarks=references, task=ROOTLETS)
    assert report.flags == ()
    assert [level.level for level in report.levels] == list(LEVELS)
    assert report.line == ("cord" if with_cord else "rootlets")


def test_levels_are_measured_as_they_were_made() -> None:
    report = check_of(phantom().labels)
    for summary in report.levels:
        start, end = phantom().extent(summary.level)
        assert summary.height == pytest.approx(end - start, abs=1)
        assert summary.left_volume == pytest.approx(summary.right_volume, rel=0.4)
        assert summary.volume == pytest.approx(summary.dorsal_volume + summary.ventral_volume)
        assert summary.bundles == 4
    assert report.levels[0].spacing == pytest.approx(15, abs=1)
    assert report.levels[-1].spacing is None


def test_an_empty_segmentation_is_one_flag() -> None:
    report = check(np.zeros((5, 5, 5), np.uint8), np.eye(4), task=ROOTLETS)
    assert codes(report) == {"empty"}
    assert report.levels == ()


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_that_is_missing_in_view_is_flagged(level: int) -> None:
    labels = np.where(phantom().labels == level, 0, phantom().labels).astype(np.uint8)
    report = check_of(labels)
    assert [flag.level for flag in report.flags if flag.code == "level_missing"] == [level]
    assert codes(report) == {"level_missing"}


def test_a_level_missing_above_the_rootlets_is_said_to_lie_above_them() -> None:
    labels = np.where(phantom().labels == 2, 0, phantom().labels).astype(np.uint8)
    padded = np.pad(labels, ((0, 0), (0, 0), (0, 20)))
    (flag,) = [
        f for f in check(padded, phantom().affine, task=ROOTLETS).flags if f.code == "level_missing"
    ]
    assert flag.level == 2
    assert "mm above the first rootlets" in flag.text


def test_a_level_beyond_the_image_is_not_missing() -> None:
    labels = phantom().labels
    first = np.argwhere(labels == 3)[:, 2].min()
    cut = labels[:, :, : first - 2]
    affine = phantom().affine
    report = check(
        cut, affine, landmarks=Landmarks(cord=phantom().cord[:, :, : first - 2]), task=ROOTLETS
    )
    assert [level.level for level in report.levels] == list(range(4, 10))
    assert "level_missing" not in codes(report)


def test_a_level_at_the_edge_of_the_image_is_noted_not_warned_of() -> None:
    labels = phantom().labels
    middle = int(np.median(np.argwhere(labels == 4)[:, 2]))
    report = check(labels[:, :, : middle + 1], phantom().affine, task=ROOTLETS)
    cut = [flag for flag in report.flags if flag.code == "fov_cut"]
    assert [(flag.level, flag.severity) for flag in cut] == [(4, "note")]
    assert "upper edge" in cut[0].text


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_missing_side_is_flagged_with_its_name(side: str) -> None:
    bundles = [b for b in typical_bundles() if not (b.level == 5 and b.side == side)]
    one = make_phantom(bundles, voxel_mm=(1, 1, 1))
    report = check(one.labels, one.affine, landmarks=Landmarks(cord=one.cord), task=ROOTLETS)
    flags = [flag for flag in report.flags if flag.code == "side_missing"]
    assert [(flag.level, flag.side, flag.value) for flag in flags] == [(5, side, 0.0)]


def made(*extra: PhantomBundle, without: tuple[int, ...] = ()) -> Report:
    bundles = [b for b in typical_bundles() if b.level not in without]
    one = make_phantom([*bundles, *extra], voxel_mm=(1, 1, 1))
    return check(one.labels, one.affine, landmarks=Landmarks(cord=one.cord), task=ROOTLETS)


def pairs(level: int, start: float, end: float) -> list[PhantomBundle]:
    return [
        PhantomBundle(level, side, part, start, end)
        for side in ("left", "right")
        for part in ("dorsal", "ventral")
    ]


def test_a_level_too_high_is_flagged_with_value_and_range() -> None:
    report = made(*pairs(2, 2.0, 18.0), without=(2,))
    flag = next(flag for flag in report.flags if flag.code == "height")
    assert flag.level == 2
    assert flag.value == pytest.approx(16, abs=1)
    assert flag.expected[1] == pytest.approx(10.9)
    assert flag.unit == "mm"
    assert "267 scans" in flag.source


@pytest.mark.parametrize(("height", "flags"), [(10.94, 0), (10.96, 1)])
def test_no_length_is_flagged_that_reads_as_within_its_range(height: float, flags: int) -> None:
    one = measure(phantom().labels, phantom().affine, ROOTLETS, Landmarks(cord=phantom().cord))
    level = replace(one.summaries[0], height=height)  # C2: up to 10.9 mm
    assert len(list(_check_height(one, level))) == flags


def test_levels_too_far_apart_are_flagged() -> None:
    report = made(*pairs(9, 127.0, 136.0), without=(9,))
    flag = next(flag for flag in report.flags if flag.code == "spacing")
    assert flag.level == 8
    assert flag.value == pytest.approx(25.5, abs=1)
    assert flag.expected == pytest.approx((7.9, 21.1))


def test_overlapping_levels_are_flagged() -> None:
    extra = [PhantomBundle(2, "left", "dorsal", 11.0, 21.0)]
    extra += [PhantomBundle(3, "left", "ventral", 18.0, 32.0)]
    report = made(*extra, without=(2, 3))
    flag = next(flag for flag in report.flags if flag.code == "overlap")
    assert flag.level == 2
    assert flag.value == pytest.approx(-3, abs=1)


def test_a_level_of_few_voxels_is_flagged() -> None:
    small = [PhantomBundle(5, side, "ventral", 60.0, 61.5) for side in ("left", "right")]
    report = made(*small, without=(5,))
    assert ("volume", 5) in {(flag.code, flag.level) for flag in report.flags}


def test_bundles_beyond_the_last_level_are_flagged() -> None:
    extra = [PhantomBundle(9, side, "dorsal", 131.0, 140.0) for side in ("left", "right")]
    report = made(*extra)
    flags = [flag for flag in report.flags if flag.code == "beyond_last_level"]
    assert {flag.side for flag in flags} == {"left", "right"}


def test_a_wrong_bundle_is_flagged_with_the_level_that_fits() -> None:
    labels = phantom().labels.copy()
    labels[(labels == 6) & (np.indices(labels.shape)[0] < labels.shape[0] // 2)] = 8
    report = check_of(labels)
    flags = [flag for flag in report.flags if flag.code == "level_order"]
    assert {(flag.level, flag.expected[0], flag.side) for flag in flags} == {(8, 6.0, "left")}


def test_a_mixed_bundle_is_flagged_with_its_share() -> None:
    labels = phantom().labels.copy()
    voxels = np.argwhere((labels == 6) & (np.indices(labels.shape)[0] < labels.shape[0] // 2))
    labels[tuple(voxels[::4].T)] = 7
    flags = [flag for flag in check_of(labels).flags if flag.code == "mixed_bundle"]
    assert all(flag.level == 6 and flag.value == pytest.approx(0.25, abs=0.1) for flag in flags)
    assert flags


def test_specks_strays_and_far_pieces_are_told_apart() -> None:
    labels = phantom().labels.copy()
    labels[0, 0, 50] = 4
    labels[0, 0:2, 80:82] = 4
    found = {flag.code: flag.severity for flag in check_of(labels).flags}
    assert found["speck"] == "note"
    assert found["stray"] == "warning"
    assert found["far_from_cord"] == "warning"


def test_a_small_piece_beside_a_bundle_of_its_root_is_noted() -> None:
    labels = phantom().labels.copy()
    voxels = np.argwhere(labels)
    number = connected(voxels)
    one = voxels[number == number[labels[tuple(voxels.T)] == 6][0]]
    top = one[one[:, 2] >= one[:, 2].max() - 2]
    labels[tuple(top.T)] = 0
    labels[tuple(top[top[:, 2] == top[:, 2].max()][:3].T)] = 6
    report = check_of(labels)
    assert "fragment" in codes(report)
    assert all(flag.severity == "note" for flag in report.flags if flag.code == "fragment")


def test_values_that_are_no_level_of_the_task_are_flagged() -> None:
    labels = np.where(phantom().labels == 9, 77, phantom().labels).astype(np.uint8)
    report = check_of(labels)
    flag = next(flag for flag in report.flags if flag.code == "unexpected_value")
    assert flag.value == 77
    assert "have the value 77, which is none of the levels C2–T1" in flag.text


def pmj() -> np.ndarray:
    """Return the PMJ that fits the phantom: its C2 lies at 16 mm."""
    curve = phantom().curve
    up = (curve[0] - curve[20]) / np.linalg.norm(curve[0] - curve[20])
    return curve[0] + up * (CERVICAL.midpoint_below_pmj(2) - 16)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_shift_of_all_levels_is_flagged_by_the_pmj_with_the_way_back(shift: int) -> None:
    report = check_of(shift_levels(phantom().labels, shift, task=ROOTLETS), pmj=pmj())
    flags = [flag for flag in report.flags if flag.code == "shift"]
    assert [s.shift for s in report.shifts] == [-shift]
    assert len(flags) == abs(shift)
    if shift:
        assert f"-shift {-shift}" in flags[0].text
        assert flags[0].source == "PMJ"


def test_a_shift_is_flagged_by_the_locator() -> None:
    from sct_rootlets_task.analysis.spinal_levels import spinal_levels

    located = spinal_levels(
        phantom().labels,
        phantom().affine,
        landmarks=Landmarks(cord=phantom().cord),
        method="midpoint",
        task=ROOTLETS,
    ).labels
    report = check_of(shift_levels(phantom().labels, 1, task=ROOTLETS), located=located)
    assert [(s.source, s.shift) for s in report.shifts] == [("locator", -1)]
    assert "shift" in codes(report)
    assert codes(check_of(phantom().labels, located=located)) == set()


def test_every_code_is_described_and_every_report_is_json() -> None:
    labels = phantom().labels.copy()
    labels[0, 0, 50] = 77
    report = check_of(labels, pmj=pmj())
    assert codes(report) <= set(CODES)
    content = json.loads(json.dumps(report.to_dict()))
    assert set(content) == {"CentreLineFrom", "Flags", "Levels", "Shifts"}
    assert content["Flags"][0]["code"] == report.flags[0].code


def test_the_table_names_the_flags_of_each_level() -> None:
    pytest.importorskip("pandas")
    frame = made(*pairs(2, 2.0, 18.0), without=(2,)).to_dataframe()
    assert "height" in frame.set_index("level").loc[2, "flags"]


def test_labels_outside_the_priors_are_measured_without_the_fit() -> None:
    labels = np.where(phantom().labels > 0, phantom().labels + 18, 0).astype(np.uint8)
    lumbar = replace(ROOTLETS, name="lumbar", levels=tuple(range(20, 28)), priors=None)
    report = check(labels, phantom().affine, task=lumbar)
    assert len(report.levels) == 8
    assert codes(report) == {"no_priors"}
    assert [flag.severity for flag in report.flags] == ["note"]
    assert "task lumbar" in report.flags[0].text


@pytest.mark.parametrize("name", ["cord", "located"])
def test_another_grid_is_refused(name: str) -> None:
    references = Landmarks(**{name: np.ones((3, 3, 3), np.uint8)})
    with pytest.raises(ImageError, match="on the grid of the level map"):
        check(phantom().labels, phantom().affine, landmarks=references, task=ROOTLETS)


@pytest.mark.data
def test_pam50_has_no_flags_and_no_shift(shared_data: Path) -> None:
    import nibabel as nib

    folder = shared_data / "pam50"
    image = nib.load(folder / "PAM50_rootlets.nii.gz")
    discs = nib.load(folder / "PAM50_label_disc.nii.gz")
    cord = np.asarray(nib.load(folder / "PAM50_cord.nii.gz").dataobj)
    references = Landmarks(cord=cord, discs=disc_points(np.asarray(discs.dataobj), discs.affine))
    report = check(level_map(image), image.affine, task=ROOTLETS, landmarks=references)
    assert report.flags == ()
    assert [shift.shift for shift in report.shifts] == [0]


@pytest.mark.data
def test_pam50_extents_are_the_published_ones(shared_data: Path) -> None:
    import nibabel as nib

    folder = shared_data / "pam50"
    image = nib.load(folder / "PAM50_rootlets.nii.gz")
    cord = np.asarray(nib.load(folder / "PAM50_cord.nii.gz").dataobj)
    report = check(level_map(image), image.affine, task=ROOTLETS, landmarks=Landmarks(cord=cord))
    heights = [level.height for level in report.levels]
    assert heights == pytest.approx([8, 15.5, 11, 9.5, 9.5, 11.5, 13.5, 13], abs=0.15)


@pytest.mark.data
def test_small_pam50_agrees_with_its_pmj(shared_data: Path) -> None:
    import nibabel as nib

    folder = shared_data / "pam50_small"
    image = nib.load(folder / "PAM50_small_rootlets.nii.gz")
    cord = np.asarray(nib.load(folder / "PAM50_small_cord.nii.gz").dataobj)
    mark = nib.load(folder / "PAM50_small_t2_pmj_manual.nii.gz")
    point = pmj_point(np.asarray(mark.dataobj), mark.affine)
    report = check(
        level_map(image), image.affine, task=ROOTLETS, landmarks=Landmarks(cord=cord, pmj=point)
    )
    assert [shift.shift for shift in report.shifts] == [0]
    assert {flag.level for flag in report.flags if flag.code == "level_missing"} == {9}
