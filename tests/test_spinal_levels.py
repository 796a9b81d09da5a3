"""Rules of the spinal levels: true to the phantom, without gaps, honest about what is missing."""

from __future__ import annotations

import csv
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task.analysis import spinal_levels as spinal_levels_module
from sct_rootlets_task.analysis.check import check
from sct_rootlets_task.analysis.spinal_levels import (
    METHODS,
    Span,
    SpinalLevels,
    spans_of,
    spinal_levels,
    spinal_levels_image,
)
from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.levels.landmarks import Landmarks
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.geometry import slice_axis, to_world, voxel_volume
from tools.phantom import (
    CORD_HALF_DEPTH_MM,
    CORD_HALF_WIDTH_MM,
    Phantom,
    PhantomBundle,
    make_phantom,
    typical_bundles,
)

ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "AP", "IS"))
    for letters in itertools.product(*axes)
]
VOXELS = ((1.0, 0.5, 0.5), (0.5, 1.0, 0.5), (0.6, 0.6, 1.2))
BENDS = (0.0, 1 / 150, 1 / 80)
LEVELS = (5, 6, 7)
COLUMNS = [
    "spinal_level",
    "fname",
    "slice_start",
    "slice_end",
    "distance_from_pmj_start",
    "distance_from_pmj_end",
    "height",
    "distance_from_pmj_midpoint",
    "distance_origin",
    "distance_start",
    "distance_end",
    "distance_midpoint",
    "level_height",
    "rootlets_height",
    "area_perpendicular_to_cord",
    "volume",
    "cord_area",
    "left_volume",
    "right_volume",
    "dorsal_volume",
    "ventral_volume",
    "method",
    "flags",
]


@functools.cache
def phantom(voxel_mm: tuple[float, float, float] = (1, 1, 1), bend: float = 1 / 100) -> Phantom:
    return make_phantom(typical_bundles(LEVELS), voxel_mm=voxel_mm, bend_per_mm=bend)


def levels_of(one: Phantom, method: str = "caudal", **options: float) -> SpinalLevels:
    """Measure from the cord's true top, so that distances are the phantom's arc lengths."""
    return spinal_levels(
        one.labels,
        one.affine,
        landmarks=Landmarks(cord=one.cord, pmj=one.curve[0]),
        method=method,
        **options,
        task=ROOTLETS,
    )


@pytest.mark.parametrize("bend", BENDS)
@pytest.mark.parametrize("voxel_mm", VOXELS)
@pytest.mark.parametrize("method", METHODS)
def test_levels_begin_and_end_where_the_phantom_says(
    method: str, voxel_mm: tuple[float, float, float], bend: float
) -> None:
    one = phantom(voxel_mm, bend)
    truth = [Span(level, *one.extent(level)) for level in LEVELS]
    voxel = max(voxel_mm[2], 0.5)
    for row, span in zip(levels_of(one, method).rows, spans_of(truth, method), strict=True):
        assert row["spinal_level"] == span.level
        assert row["distance_from_pmj_end"] == pytest.approx(span.start, abs=voxel)
        assert row["distance_from_pmj_start"] == pytest.approx(span.end, abs=voxel)
        middle = (span.start + span.end) / 2
        assert row["distance_from_pmj_midpoint"] == pytest.approx(middle, abs=voxel)
        assert row["height"] == pytest.approx(span.height, abs=voxel)


@pytest.mark.parametrize("method", ["caudal", "midpoint"])
def test_no_gap_and_no_overlap_in_the_covered_range_in_all_48_orientations(method: str) -> None:
    wanted = None
    for orientation in ORIENTATIONS:
        one = phantom().oriented(orientation)
        found = levels_of(one, method)
        for upper, lower in itertools.pairwise(found.spans):
            assert upper.end == lower.start
        for upper, lower in itertools.pairwise(found.rows):
            assert upper["slice_start"] == lower["slice_end"] + 1
        assert found.labels is not None
        points = to_world(np.argwhere((one.cord > 0) & (found.labels == 0)), one.affine)
        arcs = np.abs(points[:, None] - one.curve[::10]).sum(axis=2).argmin(axis=1)
        inside = (arcs > found.rows[0]["distance_from_pmj_end"] + 2) & (
            arcs < found.rows[-1]["distance_from_pmj_start"] - 2
        )
        assert not inside.any()
        numbers = [row["distance_from_pmj_start"] for row in found.rows]
        wanted = numbers if wanted is None else wanted
        assert numbers == pytest.approx(wanted, abs=0.1)


def test_the_published_method_leaves_gaps() -> None:
    found = levels_of(phantom(), "rootlets")
    assert all(lower.start > upper.end for upper, lower in itertools.pairwise(found.spans))


def test_only_the_cord_is_colored_and_by_levels_only() -> None:
    found = levels_of(phantom())
    assert found.labels is not None
    assert found.labels.dtype == np.uint8
    assert not found.labels[phantom().cord == 0].any()
    assert set(np.unique(found.labels)) == {0, *LEVELS}


def test_cord_area_is_that_of_the_section_also_where_the_cord_is_oblique() -> None:
    one = phantom((0.6, 0.6, 1.2), 1 / 80)
    true_area = np.pi * CORD_HALF_WIDTH_MM * CORD_HALF_DEPTH_MM
    for row in levels_of(one).rows:
        assert row["cord_area"] == pytest.approx(true_area, rel=0.05)


def test_volumes_add_up_to_the_rootlets() -> None:
    one = phantom()
    for row in levels_of(one).rows:
        volume = np.count_nonzero(one.labels == row["spinal_level"]) * voxel_volume(one.affine)
        assert row["volume"] == pytest.approx(volume)
        assert row["left_volume"] + row["right_volume"] == pytest.approx(volume)
        assert row["dorsal_volume"] + row["ventral_volume"] == pytest.approx(volume)


@pytest.mark.parametrize("orientation", ["LPI", "LPS", "SRA"])
def test_slices_count_from_below_and_hold_the_level(orientation: str) -> None:
    one = phantom().oriented(orientation)
    found = levels_of(one)
    axis, upwards = slice_axis(one.affine)
    assert found.labels is not None
    for row in found.rows:
        slices = np.argwhere(found.labels == row["spinal_level"])[:, axis]
        slices = slices if upwards else one.labels.shape[axis] - 1 - slices
        middle = (row["slice_start"] + row["slice_end"]) / 2
        assert slices.mean() == pytest.approx(middle, abs=1.5)
        assert row["slice_start"] < row["slice_end"]


def test_columns_are_those_in_use_and_ours_after_them(tmp_path: Path) -> None:
    found = levels_of(phantom())
    found.write_csv(tmp_path / "levels.csv")
    with (tmp_path / "levels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert list(spinal_levels_module.COLUMNS) == COLUMNS
    assert [int(row["spinal_level"]) for row in rows] == list(LEVELS)
    assert float(rows[0]["distance_from_pmj_start"]) > float(rows[0]["distance_from_pmj_end"])


def test_the_origin_of_distances_is_a_column_and_the_columns_are_always_the_same() -> None:
    one = phantom()
    below = np.where(one.labels == 5, 0, one.labels).astype(np.uint8)
    tables = {
        "pmj": levels_of(one),
        "cord_mask_top": spinal_levels(
            one.labels, one.affine, landmarks=Landmarks(cord=one.cord), task=ROOTLETS
        ),
        "C5": spinal_levels(one.labels, one.affine, task=ROOTLETS),
        "C6": spinal_levels(below, one.affine, task=ROOTLETS),
    }
    for origin, found in tables.items():
        assert found.origin == origin
        for row in found.rows:
            assert list(row) == COLUMNS
            assert row["distance_origin"] == origin
            assert row["distance_start"] > row["distance_midpoint"] > row["distance_end"]
            from_pmj = [row[f"distance_from_pmj_{name}"] for name in ("start", "end", "midpoint")]
            distances = [row[f"distance_{name}"] for name in ("start", "end", "midpoint")]
            assert from_pmj == (distances if origin == "pmj" else ["", "", ""])
    top = tables["cord_mask_top"].rows[0]["distance_end"]
    assert top == pytest.approx(one.extent(5)[0], abs=1)
    assert tables["C5"].rows[0]["distance_end"] == tables["C6"].rows[0]["distance_end"] == 0
    assert tables["C5"].labels is None
    assert tables["C5"].rows[0]["cord_area"] == ""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_cord", [True, False])
def test_each_height_says_whose_it_is(method: str, with_cord: bool) -> None:
    one = phantom((1, 1, 1), 1 / 150)
    cord = one.cord if with_cord else None
    report = check(one.labels, one.affine, landmarks=Landmarks(cord=cord), task=ROOTLETS)
    checked = {summary.level: summary for summary in report.levels}
    for row in spinal_levels(
        one.labels, one.affine, landmarks=Landmarks(cord=cord), method=method, task=ROOTLETS
    ).rows:
        summary = checked[row["spinal_level"]]
        assert row["rootlets_height"] == round(summary.height, 3)
        assert row["height"] == row["level_height"]
        assert row["height"] == pytest.approx(row["distance_start"] - row["distance_end"], abs=2e-3)
        assert summary.start - summary.end == pytest.approx(summary.height)
        assert row["cord_area"] == row["area_perpendicular_to_cord"]


def test_without_a_cord_heights_stay_near_the_truth() -> None:
    one = phantom((1, 1, 1), 1 / 150)
    found = spinal_levels(one.labels, one.affine, method="rootlets", task=ROOTLETS)
    for row in found.rows:
        start, end = one.extent(row["spinal_level"])
        assert row["height"] == pytest.approx(end - start, abs=1.2)


@pytest.mark.parametrize("method", ["caudal", "midpoint"])
def test_a_missing_level_is_interpolated_and_flagged_so(method: str) -> None:
    one = phantom()
    labels = np.where(one.labels == 6, 0, one.labels).astype(np.uint8)
    found = spinal_levels(
        labels,
        one.affine,
        landmarks=Landmarks(cord=one.cord, pmj=one.curve[0]),
        method=method,
        task=ROOTLETS,
    )
    row = found.rows[1]
    assert [r["spinal_level"] for r in found.rows] == list(LEVELS)
    assert "interpolated" in row["flags"]
    assert row["volume"] == 0
    full = levels_of(one, method).rows[1]
    assert row["distance_from_pmj_start"] == pytest.approx(full["distance_from_pmj_start"], abs=2)


def test_the_published_method_does_not_interpolate() -> None:
    one = phantom()
    labels = np.where(one.labels == 6, 0, one.labels).astype(np.uint8)
    found = spinal_levels(
        labels, one.affine, landmarks=Landmarks(cord=one.cord), method="rootlets", task=ROOTLETS
    )
    assert [row["spinal_level"] for row in found.rows] == [5, 7]


def test_rootlets_far_from_the_cord_count_only_when_there_are_no_others() -> None:
    one = phantom()
    assert all("not_near_cord" in row["flags"] for row in levels_of(one, reach_mm=0.1).rows)
    assert not any("not_near_cord" in row["flags"] for row in levels_of(one).rows)


def test_rootlets_running_down_beside_the_cord_do_not_lengthen_their_level() -> None:
    bundles = (*typical_bundles((5, 6)), PhantomBundle(5, "left", "dorsal", 20.0, 29.0))
    one = make_phantom(bundles, voxel_mm=(0.8, 0.8, 0.8))
    labels = one.labels.copy()
    distance = np.abs(to_world(np.indices(labels.shape).reshape(3, -1).T, one.affine)[:, 0])
    far = distance.reshape(labels.shape) > 9
    low = np.argwhere(labels == 6)[:, 2].max()
    drop = np.zeros_like(labels)
    drop[:, :, low : low + 5] = np.where(far, labels, 0)[:, :, low + 8 : low + 13]
    whole = np.where(labels == 0, drop, labels).astype(np.uint8)
    near = spinal_levels(
        whole,
        one.affine,
        landmarks=Landmarks(cord=one.cord, pmj=one.curve[0]),
        reach_mm=2.5,
        task=ROOTLETS,
    )
    assert near.rows[0]["distance_from_pmj_start"] == pytest.approx(
        levels_of(one, reach_mm=2.5).rows[0]["distance_from_pmj_start"], abs=0.5
    )


def test_specks_do_not_lengthen_a_level() -> None:
    one = phantom()
    labels = one.labels.copy()
    labels[0, 0, 5] = labels[-1, -1, 5] = 5
    found = spinal_levels(
        labels, one.affine, landmarks=Landmarks(cord=one.cord, pmj=one.curve[0]), task=ROOTLETS
    )
    wanted = [row["height"] for row in levels_of(one).rows]
    assert [row["height"] for row in found.rows] == pytest.approx(wanted, abs=0.2)


SPANS = st.lists(st.tuples(st.floats(0, 100), st.floats(0.5, 20)), min_size=1, max_size=8).map(
    lambda pairs: [Span(2 + n, start, start + height) for n, (start, height) in enumerate(pairs)]
)


@given(SPANS, st.sampled_from(["caudal", "midpoint"]))
def test_spans_never_leave_a_gap_or_overlap_even_out_of_order(
    rootlets: list[Span], method: str
) -> None:
    spans = spans_of(rootlets, method)
    assert [span.level for span in spans] == [span.level for span in rootlets]
    assert all(upper.end == lower.start for upper, lower in itertools.pairwise(spans))
    assert all(span.height >= 0 for span in spans)


@given(SPANS)
def test_spans_of_the_published_method_never_overlap_their_neighbors_once_in_order(
    rootlets: list[Span],
) -> None:
    ordered = sorted(rootlets, key=lambda span: span.start)
    ordered = [Span(2 + n, s.start, max(s.end, s.start)) for n, s in enumerate(ordered)]
    for upper, lower in itertools.pairwise(spans_of(ordered, "rootlets")):
        assert upper.start <= upper.end
        assert lower.start <= lower.end


def test_levels_out_of_order_are_flagged_with_no_negative_height() -> None:
    spans = spans_of([Span(5, 30.0, 40.0), Span(6, 10.0, 20.0)], "caudal")
    assert all("out_of_order" in span.flags for span in spans)
    assert min(span.height for span in spans) >= 0


def test_an_unknown_method_is_a_usage_error() -> None:
    one = phantom()
    with pytest.raises(UsageError, match="caudal, midpoint, rootlets"):
        spinal_levels(one.labels, one.affine, method="voxels", task=ROOTLETS)


def test_no_rootlets_and_a_cord_elsewhere_are_refused() -> None:
    one = phantom()
    with pytest.raises(ImageError, match="on the grid of the level map"):
        spinal_levels(
            one.labels, one.affine, landmarks=Landmarks(cord=one.cord[:-1]), task=ROOTLETS
        )
    with pytest.raises(ImageError, match="found 0 voxels"):
        spinal_levels(one.labels, one.affine, landmarks=Landmarks(cord=0 * one.cord), task=ROOTLETS)
    with pytest.raises(ImageError, match="rootlets"):
        spinal_levels(0 * one.labels, one.affine, landmarks=Landmarks(cord=one.cord), task=ROOTLETS)


def test_images_go_in_and_come_out_on_their_grid() -> None:
    import nibabel as nib

    one = phantom().oriented("PSR")
    image = nib.Nifti1Image(one.labels, one.affine)
    found, colored = spinal_levels_image(
        image, cord=nib.Nifti1Image(one.cord, one.affine), task=ROOTLETS
    )
    assert colored.affine == pytest.approx(one.affine)
    assert (np.asarray(colored.dataobj) == found.labels).all()
    shifted = nib.Nifti1Image(one.cord, one.affine + np.eye(4, k=3))
    with pytest.raises(ImageError, match="apart"):
        spinal_levels_image(image, cord=shifted, task=ROOTLETS)


def test_the_table_is_a_data_frame() -> None:
    pytest.importorskip("pandas")
    assert list(levels_of(phantom()).to_dataframe().columns) == COLUMNS


@pytest.mark.data
def test_pam50_levels_overlap_those_of_frostell(shared_data: Path) -> None:
    import nibabel as nib

    folder = shared_data / "pam50"
    image, cord, other = (
        nib.load(folder / f"PAM50_{name}.nii.gz") for name in ("rootlets", "cord", "spinal_levels")
    )
    found, _ = spinal_levels_image(image, cord=cord, task=ROOTLETS)
    assert found.labels is not None
    published = np.where(np.asarray(cord.dataobj) > 0, np.asarray(other.dataobj), 0)
    for row in found.rows:
        mine, theirs = (a == row["spinal_level"] for a in (found.labels, published))
        dice = 2 * np.count_nonzero(mine & theirs) / (mine.sum() + theirs.sum())
        assert dice > 0.75
        assert row["flags"] == ""


@pytest.mark.parametrize("with_cord", ["whole", "short", "none"])
@pytest.mark.parametrize("with_pmj", [True, False])
def test_data_frames_hold_numbers_also_where_some_cannot_be_known(
    with_cord: str, with_pmj: bool, tmp_path: Path
) -> None:
    pandas = pytest.importorskip("pandas")
    one = phantom()
    cord = one.cord.copy()
    if with_cord == "short":
        axis, _ = slice_axis(one.affine)
        cord = np.where(np.arange(cord.shape[axis]) < cord.shape[axis] // 2, cord, 0)
    found = spinal_levels(
        one.labels,
        one.affine,
        landmarks=Landmarks(
            cord=None if with_cord == "none" else cord, pmj=one.curve[0] if with_pmj else None
        ),
        task=ROOTLETS,
    )
    frame = found.to_dataframe()
    texts = ("fname", "distance_origin", "method", "flags")
    numbers = [name for name in COLUMNS if name not in texts]
    for name in numbers:
        assert pandas.api.types.is_numeric_dtype(frame[name]), name
    found.write_csv(str(tmp_path / "new.csv"))
    written = pandas.read_csv(tmp_path / "new.csv")
    assert frame[numbers].isna().equals(written[numbers].isna())
