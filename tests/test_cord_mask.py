"""A cord mask is looked at before anything is measured along it: cut, moved, mirrored, swapped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from sct_rootlets_task import api
from sct_rootlets_task.analysis.check import Report, check
from sct_rootlets_task.analysis.flags import CODES
from sct_rootlets_task.analysis.relabel import levels_from_discs
from sct_rootlets_task.analysis.spinal_levels import SpinalLevels, spinal_levels
from sct_rootlets_task.analysis.split import split
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.level_names import name_levels
from sct_rootlets_task.levels.cord_mask import (
    levels_aside,
    levels_out_of_reach,
    line_for,
    read_cord,
)
from sct_rootlets_task.levels.landmarks import Landmarks
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.bundles import find_bundles
from test_landmarks import SMALL
from test_relabel import discs, located, phantom

DEPENDENT = (
    "slice_start",
    "slice_end",
    "distance_start",
    "distance_end",
    "distance_midpoint",
    "height",
    "cord_area",
    "left_volume",
    "dorsal_volume",
)
PAD = 40


def report_of(cord: np.ndarray, labels: np.ndarray | None = None) -> Report:
    labels = phantom().labels if labels is None else labels
    return check(labels, phantom().affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)


def levels_of(cord: np.ndarray, pmj: np.ndarray | None = None, **options: Any) -> SpinalLevels:
    return spinal_levels(
        phantom().labels,
        phantom().affine,
        landmarks=Landmarks(cord=cord, pmj=pmj),
        **options,
        task=ROOTLETS,
    )


def kept(low: float, high: float) -> np.ndarray:
    """Return the cord between two shares of its height, from below."""
    cord = phantom().cord.copy()
    size = cord.shape[2]
    cord[:, :, : round(low * size)] = 0
    cord[:, :, round(high * size) :] = 0
    return cord


def wide(array: np.ndarray) -> np.ndarray:
    return np.pad(array, ((PAD, PAD), (PAD, PAD), (0, 0)))


def wide_affine() -> np.ndarray:
    affine = phantom().affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [PAD, PAD, 0]
    return affine


CUTS = [(0.0, 0.45), (0.0, 0.7), (0.5, 1.0), (0.25, 1.0), (0.3, 0.65), (0.0, 0.9)]


@pytest.mark.parametrize(("low", "high"), CUTS)
@pytest.mark.parametrize("method", ["caudal", "midpoint", "rootlets"])
def test_what_the_mask_does_not_reach_stays_empty_and_the_rest_is_as_ever(
    low: float, high: float, method: str
) -> None:
    cord = kept(low, high)
    found, whole = levels_of(cord, method=method), levels_of(phantom().cord, method=method)
    assert found.labels is not None
    assert not found.labels[cord == 0].any()
    empty = [row for row in found.rows if "not_covered" in str(row["flags"]).split()]
    assert len(empty) < len(found.rows)
    no_area = [row for row in found.rows if "area_unknown" in str(row["flags"]).split()]
    assert bool(empty or no_area) == bool(found.warnings)
    for row, true in zip(found.rows, whole.rows, strict=True):
        assert row["volume"] == true["volume"]
        if row in empty:
            assert {row[column] for column in DEPENDENT} == {""}
            continue
        assert row["height"] == pytest.approx(true["height"], abs=0.6)
        assert row["slice_start"] == pytest.approx(true["slice_start"], abs=1)
        assert row["distance_end"] > -11
        assert (row["cord_area"] == "") == (row in no_area)
        assert row in no_area or row["cord_area"] == pytest.approx(75, rel=0.15)


@pytest.mark.parametrize(("low", "high"), CUTS)
def test_the_check_flags_levels_the_mask_does_not_reach_and_nothing_else(
    low: float, high: float
) -> None:
    report = report_of(kept(low, high))
    assert {flag.code for flag in report.flags} <= {"not_covered"}
    assert report.line == ("rootlets" if report.flags else "cord")
    assert [level.level for level in report.levels] == list(range(2, 10))
    assert "not_covered" in CODES


def test_most_levels_out_of_reach_are_named_from_above_or_below() -> None:
    lower, upper = levels_of(kept(0.0, 0.45)), levels_of(kept(0.5, 1.0))
    assert "does not reach C2–C" in lower.warnings[0]
    assert "–T1: slices" in upper.warnings[0]


def test_a_hole_in_the_mask_leaves_its_levels_empty_and_those_below_right() -> None:
    cord = phantom().cord.copy()
    cord[:, :, 60:95] = 0
    found, whole = levels_of(cord), levels_of(phantom().cord)
    empty = [row["spinal_level"] for row in found.rows if row["height"] == ""]
    assert empty
    assert set(empty) <= {5, 6, 7}
    for row, true in zip(found.rows, whole.rows, strict=True):
        if row["height"] != "":
            assert row["height"] == pytest.approx(true["height"], abs=0.6)
            assert row["distance_start"] == pytest.approx(true["distance_start"], abs=0.6)


def cut_straight(cut: int) -> np.ndarray:
    cord = phantom().cord.copy()
    cord[:, :, phantom().cord.shape[2] - cut :] = 0
    return cord


def cut_at_a_slant(cut: int) -> np.ndarray:
    """Return the cord without what lies above a plane that is tilted by 30°."""
    _, j, k = np.indices(phantom().cord.shape)
    plane = phantom().cord.shape[2] - cut + (j - j.max() / 2) * np.tan(np.pi / 6)
    return np.where(k < plane, phantom().cord, 0)


def tapered(cut: int) -> np.ndarray:
    """Return the cord that thins to a few voxels over 8 mm at its top."""
    cord = cut_straight(cut)
    x, y = np.argwhere(phantom().cord)[:, :2].mean(axis=0).round().astype(int)
    top = phantom().cord.shape[2] - cut
    core = np.zeros_like(cord)
    core[x - 1 : x + 2, y - 1 : y + 2] = 1
    cord[:, :, top - 8 :] *= core[:, :, top - 8 :]
    return cord


@pytest.mark.parametrize("method", ["caudal", "midpoint", "rootlets"])
@pytest.mark.parametrize("end", [cut_straight, cut_at_a_slant, tapered])
def test_an_area_is_that_of_the_cord_or_empty_with_the_reason(
    end: Callable[[int], np.ndarray], method: str
) -> None:
    """Hold at whatever place the mask ends, with both outcomes among them."""
    areas = []
    for cut in range(2, 34, 4):
        found = levels_of(end(cut), method=method)
        for row in found.rows:
            flags = str(row["flags"]).split()
            assert (row["cord_area"] == "") == bool({"area_unknown", "not_covered"} & set(flags))
            if "area_unknown" in flags:
                assert any(text.startswith("C") and "area" in text for text in found.warnings)
        areas.append(found.rows[0]["cord_area"])
    assert "" in areas
    assert {area for area in areas if area != ""}
    assert all(area == "" or area == pytest.approx(75, rel=0.12) for area in areas)


def test_a_narrow_piece_within_a_mask_is_measured_as_it_is() -> None:
    from scipy.ndimage import binary_erosion

    cord = phantom().cord.copy()
    thin = binary_erosion(cord, iterations=2)
    cord[:, :, 60:80] = thin[:, :, 60:80]
    found = levels_of(cord)
    assert all(row["cord_area"] for row in found.rows)
    assert min(row["cord_area"] for row in found.rows) < 50


NOT_A_CORD: dict[str, Callable[[], np.ndarray]] = {
    "nothing": lambda: np.zeros_like(phantom().cord),
    "below the threshold": lambda: phantom().cord * np.float32(0.4),
    "not a number": lambda: np.where(phantom().cord > 0, np.nan, 0.0),
    "five voxels": lambda: strewn(5, 1),
    "twelve voxels here and there": lambda: strewn(12, 900),
    "a thin slab": lambda: kept(0.5, 0.53),
    "the rootlets": lambda: phantom().labels,
    "all rootlets as 1": lambda: (phantom().labels > 0).astype(np.uint8),
    "the rootlets of one side": lambda: one_side(),
    "the fluid around": lambda: around(3) & (phantom().cord == 0),
    "everything": lambda: np.ones_like(phantom().cord),
}


def strewn(count: int, step: int) -> np.ndarray:
    cord = np.zeros_like(phantom().cord)
    voxels = np.argwhere(phantom().cord)[: count * step : step]
    cord[tuple(voxels.T)] = 1
    return cord


def one_side() -> np.ndarray:
    labels = phantom().labels.copy()
    labels[: len(labels) // 2] = 0
    return labels


def around(voxels: int) -> np.ndarray:
    return binary_dilation(phantom().cord, iterations=voxels)


@pytest.mark.parametrize("what", NOT_A_CORD)
def test_what_is_no_cord_mask_is_refused_by_name_wherever_it_is_used(what: str) -> None:
    cord, affine, labels = NOT_A_CORD[what](), phantom().affine, phantom().labels
    references = Landmarks(cord=cord, files={"cord": "this.nii.gz"})
    with pytest.raises(ImageError, match=r"this\.nii\.gz"):
        check(labels, affine, landmarks=references, task=ROOTLETS)
    with pytest.raises(ImageError, match="cord mask"):
        levels_of(cord)
    with pytest.raises(ImageError, match="cord mask"):
        split(labels, affine, cord=cord)
    with pytest.raises(ImageError, match="cord mask"):
        levels_from_discs(labels, affine, discs=discs(), cord=cord, task=ROOTLETS)


ALSO_A_CORD: dict[str, Callable[[], np.ndarray]] = {
    "0 and 255": lambda: phantom().cord * 255,
    "levels along the cord": lambda: located(),
    "the canal": lambda: around(3).astype(np.uint8),
    "a thin cord": lambda: thin(),
    "mirrored": lambda: phantom().cord[::-1],
    "a probability": lambda: phantom().cord * np.float32(0.9),
    "a stray voxel": lambda: with_stray(),
}


def thin() -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return binary_erosion(phantom().cord, iterations=2, border_value=1)


def with_stray() -> np.ndarray:
    cord = phantom().cord.copy()
    cord[1, 1, 70] = 1
    return cord


@pytest.mark.parametrize("what", ALSO_A_CORD)
def test_other_masks_of_the_cord_raise_no_doubt(what: str) -> None:
    cord = ALSO_A_CORD[what]()
    assert report_of(cord).flags == ()
    found = levels_of(cord)
    assert found.warnings == ()
    assert all(row["height"] for row in found.rows)


@pytest.mark.parametrize("moved", [(25, 0), (-30, 0), (0, 25), (0, -28), (20, 20)])
def test_a_mask_elsewhere_is_refused_by_every_tool(moved: tuple[int, int]) -> None:
    cord = np.roll(wide(phantom().cord), moved, axis=(0, 1))
    labels, affine = wide(phantom().labels), wide_affine()
    with pytest.raises(ImageError, match="beside none of them"):
        check(labels, affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)
    with pytest.raises(ImageError, match="beside none of them"):
        spinal_levels(labels, affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)
    with pytest.raises(ImageError, match="found none beside C2–T1"):
        split(labels, affine, cord=cord)


@pytest.mark.parametrize("below", [30, 60, 120])
def test_a_mask_below_all_levels_is_refused(below: int) -> None:
    pad = ((0, 0), (0, 0), (150, 0))
    labels = np.pad(phantom().labels, pad)
    affine = phantom().affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [0, 0, 150]
    first = np.argwhere(labels)[:, 2].min()
    cord = np.zeros_like(labels)
    middle = np.argwhere(phantom().cord)[:, :2].mean(axis=0).round().astype(int)
    x, y = middle
    cord[x - 5 : x + 6, y - 3 : y + 4, first - below - 25 : first - below] = 1
    with pytest.raises(ImageError, match="beside none of them"):
        check(labels, affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)
    with pytest.raises(ImageError, match="beside none of them"):
        spinal_levels(labels, affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)


@pytest.mark.parametrize("moved", [(0, 9), (0, -8)])
def test_a_mask_somewhat_aside_is_flagged_and_the_check_does_not_measure_along_it(
    moved: tuple[int, int],
) -> None:
    cord = np.roll(wide(phantom().cord), moved, axis=(0, 1))
    labels, affine = wide(phantom().labels), wide_affine()
    report = check(labels, affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)
    assert {flag.code for flag in report.flags} == {"landmark"}
    assert report.line == "rootlets"
    found = spinal_levels(labels, affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)
    assert "beside the middle of the rootlets" in found.warnings[0]
    assert all("landmark" in str(row["flags"]).split() for row in found.rows)


@pytest.mark.parametrize("labels", ["cord", "levels"])
def test_a_cord_in_the_place_of_the_rootlets_is_refused(labels: str) -> None:
    given = phantom().cord.astype(np.uint8) if labels == "cord" else located()
    for cord in (phantom().cord, phantom().labels):
        with pytest.raises(ImageError, match="cord"):
            report_of(cord, given)
        with pytest.raises(ImageError, match="cord"):
            spinal_levels(given, phantom().affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.5, 1.0)])
def test_the_split_is_refused_where_the_mask_tells_no_sides(low: float, high: float) -> None:
    with pytest.raises(ImageError, match=r"found none beside (C2–|C\d–T1)"):
        split(phantom().labels, phantom().affine, cord=kept(low, high))


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.5), (0.5, 1.0)])
def test_discs_restore_levels_also_with_a_mask_of_a_part(low: float, high: float) -> None:
    labels = phantom().labels
    result = levels_from_discs(
        labels, phantom().affine, discs=discs(), cord=kept(low, high), task=ROOTLETS
    )
    assert (result == labels).all()


def test_a_centerline_instead_of_a_mask_is_flagged_for_its_section() -> None:
    cord = np.zeros_like(phantom().cord)
    inverse = np.linalg.inv(phantom().affine)
    curve = phantom().curve[::5]
    voxels = np.round(curve @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    cord[tuple(voxels.T)] = 1
    report = report_of(cord)
    assert {flag.code for flag in report.flags} == {"landmark"}
    assert "mean section" in report.flags[0].text


def test_a_mask_far_below_the_pmj_is_said_to_make_distances_straight() -> None:
    from test_check import pmj

    found = levels_of(kept(0.0, 0.5), pmj=pmj())
    assert any("below the PMJ" in warning for warning in found.warnings)
    assert not any("below the PMJ" in w for w in levels_of(phantom().cord, pmj=pmj()).warnings)


def test_the_line_is_the_cords_only_where_it_runs_beside_all_levels() -> None:
    labels, affine = phantom().labels, phantom().affine
    assert line_for(labels, affine, cord=phantom().cord)[0].source == "cord"
    assert line_for(labels, affine, cord=None)[0].source == "rootlets"
    line, doubts = line_for(labels, affine, cord=kept(0.0, 0.5))
    assert line.source == "rootlets"
    assert [doubt.level for doubt in doubts] == list(range(2, 2 + len(doubts)))


def test_levels_are_named_as_a_range_or_a_list() -> None:
    assert [name_levels(one) for one in ([5], [2, 3, 4], [2, 4], [8, 9])] == [
        "C5",
        "C2–C4",
        "C2, C4",
        "C8–T1",
    ]


@pytest.mark.data
@pytest.mark.parametrize("name", ["pam50/PAM50_", SMALL])
def test_the_cord_of_the_templates_raises_no_doubt(shared_data: Path, name: str) -> None:
    import nibabel as nib

    rootlets, image = (
        nib.load(shared_data / f"{name}{what}.nii.gz") for what in ("rootlets", "cord")
    )
    labels, cord = (np.asarray(one.dataobj) for one in (rootlets, image))
    mask = read_cord(cord, labels, rootlets.affine, name="cord mask")
    bundles = find_bundles(labels, rootlets.affine, line=mask.line)
    assert levels_out_of_reach(bundles, mask) == []
    assert levels_aside(bundles) < 2
    found, _ = api.spinal_levels(rootlets, cord=image)
    # The mask of the small template begins below the rootlets of C2.
    short = "the cord mask covers too little of them, or they have no length"
    expected = ["no rootlets near the cord mask", short]
    expected = [f"C2: {text}" for text in expected] if name == SMALL else []
    assert [warning.split(";")[0] for warning in found.warnings] == expected


@pytest.mark.data
@pytest.mark.parametrize("top", [60, 120, 215, 225])
def test_a_mask_of_the_lower_cord_of_the_template_gives_no_distance_out_of_its_reach(
    shared_data: Path, top: int
) -> None:
    import nibabel as nib

    rootlets, image = (
        nib.load(shared_data / f"{SMALL}{what}.nii.gz") for what in ("rootlets", "cord")
    )
    cord = (np.asarray(image.dataobj) > 0.5).astype(np.uint8)
    cord[:, :, top:] = 0
    mask = nib.Nifti1Image(cord, image.affine)
    if top < 180:
        for tool in (api.check, api.spinal_levels):
            with pytest.raises(ImageError, match="beside none of them"):
                tool(rootlets, cord=mask)
        return
    found, colored = api.spinal_levels(rootlets, cord=mask)
    distances = [row["distance_end"] for row in found.rows]
    assert "" in distances
    assert min(value for value in distances if value != "") >= -11
    assert not np.asarray(colored.dataobj)[cord == 0].any()


@pytest.mark.data
def test_the_rootlets_of_the_template_are_no_cord(shared_data: Path) -> None:
    import nibabel as nib

    rootlets = nib.load(shared_data / "pam50/PAM50_rootlets.nii.gz")
    with pytest.raises(ImageError, match="PAM50_rootlets"):
        api.check(rootlets, cord=rootlets)
