"""PMJ and discs are looked at before they are believed: moved, swapped, doubled, cut short."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sct_rootlets_task import api
from sct_rootlets_task.analysis.check import Report, check, opinions
from sct_rootlets_task.analysis.flags import CODES
from sct_rootlets_task.analysis.relabel import levels_from_discs, shift_levels
from sct_rootlets_task.analysis.spinal_levels import spinal_levels
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.landmarks import (
    Landmarks,
    disc_points,
    landmarks_from_images,
    pmj_point,
)
from sct_rootlets_task.levels.located_canal import LocatedLevels
from sct_rootlets_task.registry import ROOTLETS
from test_check import pmj
from test_relabel import ANY, discs, located, phantom
from tools.phantom import make_phantom, typical_bundles

LANDMARK = "landmark"
AXES = {"left": (-1.0, 0, 0), "right": (1.0, 0, 0), "front": (0, 1.0, 0), "back": (0, -1.0, 0)}


def report_of(shift: int = 0, *, with_cord: bool = True, **landmarks: Any) -> Report:
    labels = shift_levels(phantom().labels, shift, task=ROOTLETS)
    cord = phantom().cord if with_cord else None
    return check(
        labels, phantom().affine, landmarks=Landmarks(cord=cord, **landmarks), task=ROOTLETS
    )


def codes(report: Report) -> set[str]:
    return {flag.code for flag in report.flags} & {LANDMARK, "shift"}


@pytest.mark.parametrize("with_cord", [True, False])
@pytest.mark.parametrize("moved", [(0, 0, 0), (8, 0, 0), (0, 12, 0), (0, 0, 5), (-6, -8, -4)])
def test_a_right_pmj_and_right_discs_raise_no_doubt(
    moved: tuple[float, float, float], with_cord: bool
) -> None:
    near = {number: point + np.array([moved[0], moved[1], 0]) for number, point in discs().items()}
    report = report_of(pmj=pmj() + np.array(moved), discs=near, with_cord=with_cord)
    assert codes(report) == set()
    assert {(one.source, one.shift) for one in report.shifts} == {("PMJ", 0), ("discs", 0)}


BELOW = [25.0, 50.0, 90.0, 150.0]


@pytest.mark.parametrize("down", BELOW)
@pytest.mark.parametrize("with_cord", [True, False])
def test_a_pmj_below_the_first_level_is_refused_and_never_a_reason_to_renumber(
    down: float, with_cord: bool
) -> None:
    point = pmj() - [0, 0, 36 - 16 + down]
    with pytest.raises(ImageError, match=r"PMJ above C2, found it \d+ mm below"):
        report_of(pmj=point, with_cord=with_cord)
    with pytest.raises(ImageError, match="PMJ above C2"):
        spinal_levels(
            phantom().labels,
            phantom().affine,
            landmarks=Landmarks(cord=phantom().cord if with_cord else None, pmj=point),
            task=ROOTLETS,
        )


@pytest.mark.parametrize("direction", AXES)
@pytest.mark.parametrize("far", [90.0, 200.0])
def test_a_pmj_far_off_the_axis_is_refused(direction: str, far: float) -> None:
    with pytest.raises(ImageError, match=r"PMJ (within|above).*found it"):
        report_of(pmj=pmj() + far * np.array(AXES[direction]))


def test_a_pmj_far_above_is_refused() -> None:
    with pytest.raises(ImageError, match=r"found it 2\d+ mm above"):
        report_of(pmj=pmj() + np.array([0, 0, 220]))


@pytest.mark.parametrize(
    "moved", [(0, 0, 90), (0, 0, 120), (0, 0, -30), (40, 0, 0), (-40, 0, 0), (0, 50, 0)]
)
def test_an_implausible_pmj_is_flagged_and_has_no_say(moved: tuple[float, float, float]) -> None:
    for shift in (0, 1):
        report = report_of(shift, pmj=pmj() + np.array(moved))
        assert codes(report) == {LANDMARK}
        assert report.shifts == ()
    flag = next(flag for flag in report.flags if flag.code == LANDMARK)
    assert flag.source == "PMJ"
    assert flag.severity == "warning"
    assert "expected" in flag.text
    assert LANDMARK in CODES


@pytest.mark.parametrize("moved", [(0, 0, 90), (0, 0, -30), (40, 0, 0)])
def test_levels_with_an_implausible_pmj_say_so_in_the_table_and_as_a_warning(
    moved: tuple[float, float, float],
) -> None:
    found = spinal_levels(
        phantom().labels,
        phantom().affine,
        landmarks=Landmarks(cord=phantom().cord, pmj=pmj() + np.array(moved)),
        task=ROOTLETS,
    )
    assert any("PMJ" in warning for warning in found.warnings)
    assert all(LANDMARK in str(row["flags"]).split() for row in found.rows)


def test_levels_with_right_landmarks_have_no_warnings() -> None:
    found = spinal_levels(
        phantom().labels,
        phantom().affine,
        landmarks=Landmarks(cord=phantom().cord, pmj=pmj()),
        task=ROOTLETS,
    )
    assert found.warnings == ()
    assert {row["flags"] for row in found.rows} == {""}


def test_levels_that_the_pmj_says_are_shifted_say_so() -> None:
    labels = shift_levels(phantom().labels, 1, task=ROOTLETS)
    found = spinal_levels(
        labels,
        phantom().affine,
        landmarks=Landmarks(cord=phantom().cord, pmj=pmj()),
        task=ROOTLETS,
    )
    assert any("-shift -1" in warning for warning in found.warnings)


@pytest.mark.parametrize("level", [2, 5, 9])
def test_one_level_is_no_reason_to_renumber(level: int) -> None:
    labels = np.where(phantom().labels == level, level - 1, 0).astype(np.uint8)
    references = Landmarks(cord=phantom().cord, pmj=pmj(), discs=discs(), located=located())
    report = check(labels, phantom().affine, landmarks=references, task=ROOTLETS)
    assert report.shifts == ()


def test_no_advice_puts_levels_above_c1() -> None:
    far = pmj() - [0, 0, 17]
    report = report_of(pmj=far)
    assert all(one.shift >= -1 for one in report.shifts)


def test_references_that_disagree_advise_no_command() -> None:
    report = report_of(1, pmj=pmj(), located=shift_levels(located(), 1, task=ROOTLETS))
    assert {one.shift for one in report.shifts} == {-1, 0}
    texts = [flag.text for flag in report.flags if flag.code == "shift"]
    assert texts
    assert all("look before renumbering" in text for text in texts)
    assert not any("relabel" in text for text in texts)


def cut(first: int, last: int) -> dict[int, np.ndarray]:
    return {number: point for number, point in discs().items() if first <= number <= last}


@pytest.mark.parametrize(
    ("first", "last"), [(1, 3), (2, 4), (3, 9), (4, 6), (6, 9), (7, 9), (8, 9)]
)
@pytest.mark.parametrize("with_cord", [True, False])
def test_right_discs_of_a_part_never_change_right_levels(
    first: int, last: int, with_cord: bool
) -> None:
    labels, affine = phantom().labels, phantom().affine
    cord = phantom().cord if with_cord else None
    some = cut(first, last)
    assert codes(report_of(discs=some, with_cord=with_cord)) == set()
    assert (levels_from_discs(labels, affine, discs=some, cord=cord, task=ROOTLETS) == labels).all()


@pytest.mark.parametrize("shift", [-2, -1, 1])
@pytest.mark.parametrize(("first", "last"), [(1, 4), (4, 7), (7, 9)])
def test_right_discs_of_a_part_restore_all_levels(
    shift: int, first: int, last: int, caplog: pytest.LogCaptureFixture
) -> None:
    shifted = shift_levels(phantom().labels, shift, task=ANY)
    with caplog.at_level(logging.WARNING):
        result = levels_from_discs(
            shifted, phantom().affine, discs=cut(first, last), cord=phantom().cord, task=ROOTLETS
        )
    assert (result[shifted > 0] == phantom().labels[shifted > 0]).all()
    assert "numbered by counting" in caplog.text


def test_discs_below_all_levels_have_no_opinion_and_renumber_nothing() -> None:
    below = {n: phantom().curve[-1] + [0, 10, -20.0 * (n - 9)] for n in range(10, 16)}
    report = report_of(1, discs=below)
    assert report.shifts == ()
    assert codes(report) == {LANDMARK}
    with pytest.raises(ImageError, match="found none near C2–T1"):
        levels_from_discs(phantom().labels, phantom().affine, discs=below, task=ROOTLETS)


def test_one_level_within_reach_renumbers_nothing() -> None:
    below = {n: discs()[8] - [0, 0, 18.0 * (n - 8)] for n in range(8, 14)}
    upper = np.where(phantom().labels == 9, 0, phantom().labels).astype(np.uint8)
    kept = levels_from_discs(
        upper, phantom().affine, discs=below, cord=phantom().cord, task=ROOTLETS
    )
    assert (kept == upper).all()
    with pytest.raises(ImageError, match="at least 2 levels"):
        levels_from_discs(
            shift_levels(upper, -1, task=ROOTLETS),
            phantom().affine,
            discs=below,
            cord=phantom().cord,
            task=ROOTLETS,
        )


def test_a_gap_in_the_numbers_is_filled_as_the_template_has_it() -> None:
    some = {number: discs()[number] for number in (2, 5, 9)}
    labels = phantom().labels
    assert codes(report_of(discs=some)) == set()
    assert (levels_from_discs(labels, phantom().affine, discs=some, task=ROOTLETS) == labels).all()


Points = dict[int, np.ndarray]


def swapped(points: Points, one: int) -> Points:
    return {**points, one: points[one + 1], one + 1: points[one]}


def mirrored(points: Points) -> Points:
    last = max(points) + min(points)
    return {number: points[last - number] for number in points}


def on_one_spot(points: Points, one: int) -> Points:
    return {**points, **{n: points[one] + [n - one, 0, 0.2 * (one - n)] for n in (one - 1, one)}}


def skipped(points: Points, one: int) -> Points:
    """Leave a disc out and number on, as a click that was forgotten does."""
    return {n - (n > one): point for n, point in points.items() if n != one}


def doubled(points: Points, one: int) -> Points:
    """Number one disc too far from there on."""
    return {n + (n > one): point for n, point in points.items()}


def moved(points: Points, by: tuple[float, float, float]) -> Points:
    return {number: point + np.array(by) for number, point in points.items()}


CANNOT_BE: dict[str, Points] = {
    "upside down": mirrored(discs()),
    **{f"{n} and {n + 1} swapped": swapped(discs(), n) for n in (2, 5, 8)},
    **{f"{n - 1} and {n} on one spot": on_one_spot(discs(), n) for n in (3, 6, 9)},
    **{f"{n} left out": skipped(discs(), n) for n in (3, 4)},
    "5 far off": {**discs(), 5: discs()[5] + [0, 40, 0]},
    "far in front": moved(discs(), (0, 120, 0)),
    "far to the side": moved(discs(), (90, 0, 0)),
}


@pytest.mark.parametrize("what", CANNOT_BE)
def test_discs_that_cannot_be_are_refused(what: str) -> None:
    named = Landmarks(files={"discs": "these.nii.gz"}).files
    with pytest.raises(ImageError, match=r"[Dd]isc.*these\.nii\.gz"):
        report_of(discs=CANNOT_BE[what], files=named)
    with pytest.raises(ImageError, match=r"[Dd]isc"):
        levels_from_discs(phantom().labels, phantom().affine, discs=CANNOT_BE[what], task=ROOTLETS)


IMPLAUSIBLE: dict[str, Points] = {
    **{f"{n} counted twice": doubled(discs(), n) for n in (2, 4, 6)},
    "to the side": moved(discs(), (30, 0, 0)),
    "in front": moved(discs(), (0, 38, 0)),
    "behind": moved(discs(), (0, -32, 0)),
    "6 left out": skipped(discs(), 6),
    "5 off": {**discs(), 5: discs()[5] + [0, 0, 8.5]},
}


@pytest.mark.parametrize("what", IMPLAUSIBLE)
def test_implausible_discs_are_flagged_have_no_say_and_renumber_nothing(what: str) -> None:
    for shift in (0, -1):
        report = report_of(shift, discs=IMPLAUSIBLE[what])
        assert LANDMARK in codes(report)
        assert report.shifts == ()
    with pytest.raises(ImageError, match="or renumber by a shift"):
        levels_from_discs(
            phantom().labels, phantom().affine, discs=IMPLAUSIBLE[what], task=ROOTLETS
        )


@pytest.mark.parametrize("down", [-120.0, 100.0])
def test_discs_of_another_place_are_no_reason_to_renumber(down: float) -> None:
    report = report_of(discs=moved(discs(), (0, 0, down)))
    assert codes(report) == {LANDMARK}


@pytest.mark.parametrize("offset", [-0.5, 0.5])
def test_levels_halfway_between_two_numbers_are_warned_of(
    offset: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        levels_from_discs(phantom().labels, phantom().affine, discs=discs(offset), task=ROOTLETS)
    assert "neighboring numbers fit nearly as well" in caplog.text


def _image(array: np.ndarray) -> Any:
    import nibabel as nib

    return nib.Nifti1Image(array, phantom().affine)


def _located_as(array: np.ndarray) -> api.LocatedCanal:
    return api.LocatedCanal(_image(array), LocatedLevels(array.astype(np.uint8)))


@pytest.mark.parametrize("value", [31, 77, 200, 3.5, -4])
def test_levels_of_the_canal_that_are_none_are_refused(value: float) -> None:
    wrong = located().astype(float)
    wrong[wrong == 5] = value
    with pytest.raises(ImageError, match="locator's levels"):
        report_of(located=wrong)
    with pytest.raises(ImageError, match="locator's levels"):
        api.relabel(_image(phantom().labels), locator=_located_as(wrong))


def test_the_locator_has_no_say_about_levels_beyond_the_canal() -> None:
    labels = phantom().labels
    upper = np.where(located() > 5, 0, located())
    report = report_of(located=upper)
    assert [one.shift for one in report.shifts] == [0]
    assert report.shifts[0].offset == pytest.approx(0, abs=0.1)
    alone = np.where(located() == 2, 2, 0)
    assert (
        check(labels, phantom().affine, landmarks=Landmarks(located=alone), task=ROOTLETS).shifts
        == ()
    )


def test_values_that_are_no_level_do_not_count_against_the_locator() -> None:
    labels = phantom().labels.copy()
    labels[labels == 9] = 77
    report = check(labels, phantom().affine, landmarks=Landmarks(located=located()), task=ROOTLETS)
    assert [one.shift for one in report.shifts] == [0]


def test_other_levels_than_the_cervical_ones_are_not_judged_by_cervical_priors() -> None:
    labels = np.where(phantom().labels > 0, phantom().labels + 18, 0).astype(np.uint8)
    references = Landmarks(cord=phantom().cord, pmj=pmj(), discs=discs())
    lumbar = replace(ROOTLETS, levels=tuple(range(20, 28)), priors=None)
    report = check(labels, phantom().affine, task=lumbar, landmarks=references)
    assert codes(report) == set()
    assert {flag.code for flag in report.flags} == {"no_priors"}
    assert {flag.source for flag in report.flags} == {"the task", "PMJ", "discs"}
    assert report.shifts == ()
    assert opinions(report, references) == ()


@pytest.mark.parametrize("scale", [0.8, 0.9, 1.15])
def test_small_and_large_subjects_raise_no_doubt(scale: float) -> None:
    bundles = typical_bundles(spacing_mm=15 * scale, height_mm=9 * scale, first_mm=16 * scale)
    one = make_phantom(bundles, voxel_mm=(1, 1, 1))
    coordinates = [CERVICAL.disc_coordinate(level) for level in range(1, 12)]
    arcs = scale * np.interp(range(1, 10), coordinates, 16 + 15.0 * np.arange(-1, 10))
    own = {n: one.curve[0] + [0, 10, -arc] for n, arc in zip(range(1, 10), arcs, strict=True)}
    above = one.curve[0] + [0, 0, scale * (CERVICAL.midpoint_below_pmj(2) - 16)]
    references = Landmarks(cord=one.cord, pmj=above, discs=own)
    report = check(one.labels, one.affine, landmarks=references, task=ROOTLETS)
    assert codes(report) == set()
    assert len(report.shifts) == 2


SMALL = "pam50_small/PAM50_small_"


@pytest.mark.data
@pytest.mark.parametrize("with_cord", [True, False])
def test_the_landmarks_of_the_small_template_raise_no_doubt(
    shared_data: Path, with_cord: bool
) -> None:
    import nibabel as nib

    rootlets, cord, mark, labels = (
        nib.load(shared_data / f"{SMALL}{name}.nii.gz")
        for name in ("rootlets", "cord", "t2_pmj_manual", "label_disc")
    )
    report = api.check(rootlets, cord=cord if with_cord else None, pmj=mark, discs=labels)
    assert codes(report) == set()
    assert {flag.code for flag in report.flags} <= {"height", "level_missing"}
    assert [one.shift for one in report.shifts] == [0, 0]


@pytest.mark.data
@pytest.mark.parametrize("first", range(2, 9))
def test_discs_of_the_template_from_any_one_down_change_no_level(
    shared_data: Path, first: int
) -> None:
    import nibabel as nib

    rootlets, cord, image = (
        nib.load(shared_data / f"{SMALL}{name}.nii.gz")
        for name in ("rootlets", "cord", "label_disc")
    )
    discs_image = np.round(np.asarray(image.dataobj))
    some = nib.Nifti1Image(
        np.where(discs_image >= first, discs_image, 0).astype(np.uint8), image.affine
    )
    result = api.relabel(rootlets, discs=some, cord=cord).labels
    assert np.array_equal(result.dataobj, rootlets.dataobj)
    assert "shift" not in codes(api.check(rootlets, discs=some, cord=cord))


@pytest.mark.data
def test_all_landmarks_of_the_template_in_one_file_serve_as_pmj_and_as_discs(
    shared_data: Path,
) -> None:
    import nibabel as nib

    mark, labels = (
        nib.load(shared_data / f"{SMALL}{name}.nii.gz") for name in ("t2_pmj_manual", "label_disc")
    )
    both = np.maximum(np.asarray(mark.dataobj), np.round(np.asarray(labels.dataobj)))
    at = np.argwhere(np.asarray(mark.dataobj))[0]
    both[tuple(np.add(at, (0, 0, 4)))] = 49
    assert pmj_point(both, mark.affine) == pytest.approx(
        pmj_point(np.asarray(mark.dataobj), mark.affine)
    )
    alone = disc_points(np.asarray(labels.dataobj), labels.affine)
    together = disc_points(both, labels.affine)
    assert {n: p.tolist() for n, p in together.items()} == {n: p.tolist() for n, p in alone.items()}


def test_messages_name_the_file_that_an_image_was_read_from(tmp_path: Path) -> None:
    import nibabel as nib

    labels = nib.Nifti1Image(phantom().labels, phantom().affine)
    path = tmp_path / "groove.nii.gz"
    mark = np.zeros((5, 5, 5), np.uint8)
    mark[2, 2, 2] = 49
    nib.save(nib.Nifti1Image(mark, np.eye(4)), path)
    with pytest.raises(ImageError, match=r"groove\.nii\.gz"):
        landmarks_from_images(labels, pmj=nib.load(path))
    assert asdict(Landmarks(files={"pmj": "x"}))["files"] == {"pmj": "x"}


@pytest.mark.parametrize("value", [1, 5, 9])
def test_a_mask_is_no_map_of_the_levels_of_the_canal(value: int) -> None:
    mask = phantom().cord.astype(np.uint8) * value
    with pytest.raises(ImageError, match="Expected levels of at most"):
        check(phantom().labels, phantom().affine, landmarks=Landmarks(located=mask), task=ROOTLETS)
    with pytest.raises(ImageError, match="Expected levels of at most"):
        api.relabel(_image(phantom().labels), locator=_located_as(mask))


def test_levels_counted_from_the_feet_are_no_levels_of_the_canal() -> None:
    upside_down = np.where(located() > 0, 11 - located(), 0).astype(np.uint8)
    with pytest.raises(ImageError, match="Expected level 2 above level 3"):
        check(
            phantom().labels,
            phantom().affine,
            landmarks=Landmarks(located=upside_down),
            task=ROOTLETS,
        )


@pytest.mark.parametrize("down", [12.0, 16.0])
def test_no_command_is_advised_that_would_make_a_level_the_task_does_not_have(down: float) -> None:
    report = report_of(pmj=pmj() - np.array([0, 0, down]))
    texts = [flag.text for flag in report.flags if flag.code in ("shift", LANDMARK)]
    assert texts, "the levels look one too high"
    assert not any("sct_rootlets relabel" in text for text in texts)


@pytest.mark.parametrize("moved", [-11.0, -9.0, 9.0, 10.0])
def test_discs_half_a_level_off_are_doubted_by_the_check_too(moved: float) -> None:
    off = {number: point + np.array([0, 0, moved]) for number, point in discs().items()}
    report = report_of(discs=off)
    assert [flag.text for flag in report.flags if flag.code == LANDMARK]
