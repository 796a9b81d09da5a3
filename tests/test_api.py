"""The tools from Python do what the commands do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task
from sct_rootlets_task import check, relabel, segment, spinal_levels, split
from sct_rootlets_task.analysis.anatomy import disc_coordinate
from sct_rootlets_task.analysis.geometry import to_world
from sct_rootlets_task.analysis.phantom import make_phantom, typical_bundles
from sct_rootlets_task.analysis.plausibility import Report
from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.network.loading import Options
from sct_rootlets_task.pipeline import Settings
from tiny_model import write_model
from volumes import write_image


@pytest.fixture(scope="module")
def images() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a phantom's level map and its cord mask."""
    phantom = make_phantom(typical_bundles())
    labels = nib.Nifti1Image(phantom.labels, phantom.affine)
    return labels, nib.Nifti1Image(phantom.cord.astype(np.uint8), phantom.affine)


@pytest.mark.network
def test_an_image_file_is_segmented(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.nii.gz", axcodes="PSR")
    folder = write_model(tmp_path / "model")
    settings = Settings(Options(engine="openvino", device="cpu"), tiles="all", raw=True)
    labels, found = segment(path, model=str(folder), settings=settings)
    assert np.array_equal(np.asarray(labels.dataobj), found.labels)
    assert np.array_equal(labels.affine, nib.load(path).affine)
    assert labels.header["sform_code"] == 1


def test_a_missing_level_is_warned_of_and_a_present_one_is_not(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    assert not any(flag.level == 5 for flag in check(labels, cord=cord).warnings)
    without_c5 = relabel(labels, {5: 0})
    assert any(flag.level == 5 for flag in check(without_c5, cord=cord).warnings)


def test_relabelling_swaps_levels(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    labels, _ = images
    swapped = np.asarray(relabel(labels, {3: 4, 4: 3}).dataobj)
    before = np.asarray(labels.dataobj)
    assert np.array_equal(swapped == 3, before == 4)
    assert np.array_equal(swapped == 4, before == 3)


def test_spinal_levels_colour_the_cord(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    labels, cord = images
    found, coloured = spinal_levels(labels, cord=cord)
    assert [row["spinal_level"] for row in found.rows] == list(range(2, 10))
    values = np.asarray(coloured.dataobj)
    assert not values[np.asarray(cord.dataobj) == 0].any()


def test_the_parts_add_up(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    labels, cord = images
    parts = split(labels, cord)
    total = sum(np.asarray(part.dataobj).astype(int) for part in parts.values())
    assert np.array_equal(total, np.asarray(labels.dataobj))


def test_arrays_with_their_affine_do_as_well_as_images(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    voxels, mask = np.asarray(labels.dataobj), np.asarray(cord.dataobj)
    affine = labels.affine
    assert check(voxels, affine=affine, cord=mask).flags == check(labels, cord=cord).flags
    found, coloured = spinal_levels(voxels, affine=affine, cord=mask)
    wanted, image = spinal_levels(labels, cord=cord)
    assert found.rows == wanted.rows
    assert np.array_equal(coloured.dataobj, image.dataobj)
    assert coloured.get_data_dtype() == np.uint8
    parts, others = split(voxels, mask, affine=affine), split(labels, cord)
    assert all(np.array_equal(parts[name].dataobj, others[name].dataobj) for name in others)
    assert np.array_equal(relabel(voxels, {2: 0}, affine=affine).affine, affine)


def test_an_array_without_affine_is_a_usage_error(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    voxels = np.asarray(images[0].dataobj)
    with pytest.raises(UsageError, match=r"Give affine="):
        check(voxels)
    with pytest.raises(UsageError, match=r"shape \(3, 3\)"):
        check(voxels, affine=np.eye(3))


@pytest.mark.parametrize("values", [0.5, 300, -1])
def test_what_is_no_level_map_is_refused_and_not_rounded(values: float) -> None:
    voxels = np.zeros((4, 4, 4))
    voxels[1:3] = values
    for tool in (check, lambda v, affine: relabel(v, {2: 3}, affine=affine), spinal_levels):
        with pytest.raises(ImageError, match="whole numbers"):
            tool(voxels, affine=np.eye(4))


def test_levels_are_renumbered_in_each_of_the_five_ways(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    values = np.asarray(labels.dataobj)
    canal = spinal_levels(labels, cord=cord, method="midpoint")[1]
    shifted = relabel(labels, shift=-1)
    back = np.where(np.asarray(shifted.dataobj) > 0, values, 0)
    slices = np.argwhere(np.asarray(shifted.dataobj) == 4)[:, 2]
    ways: list[dict[str, Any]] = [
        {"mapping": {level - 1: level for level in range(3, 10)}},
        {"shift": 1},
        {"anchor": (5, int(np.median(slices)))},
        {"located": canal},
        {"located": np.asarray(canal.dataobj)},
    ]
    for way in ways:
        assert np.array_equal(relabel(shifted, **way).dataobj, back)
    from_discs = relabel(shifted, discs=vertebrae(canal), cord=cord)
    assert np.array_equal(from_discs.dataobj, back)
    for wrong in ({}, {"shift": 1, "mapping": {2: 3}}):
        with pytest.raises(UsageError, match="Expected one of"):
            relabel(labels, **wrong)


def vertebrae(canal: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return vertebral levels along the cord that fit its spinal levels, of 15 mm each."""
    levels = np.asarray(canal.dataobj)
    voxels = np.argwhere(levels)
    height = (canal.affine @ [*np.argwhere(levels == 5).mean(axis=0), 1])[2]
    above = (to_world(voxels, canal.affine)[:, 2] - height) / 15
    coordinate = disc_coordinate(5) - above
    found = np.zeros_like(levels)
    found[tuple(voxels.T)] = np.floor(coordinate)
    return nib.Nifti1Image(found, canal.affine)


def test_a_shift_is_found_by_the_levels_of_the_canal(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    _, canal = spinal_levels(labels, cord=cord, method="midpoint")
    report = check(relabel(labels, shift=1), cord=cord, located=canal)
    assert [(shift.source, shift.shift) for shift in report.shifts] == [("locator", -1)]


def test_tables_are_data_frames(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    pytest.importorskip("pandas")
    labels, cord = images
    whole, part = check(labels, cord=cord), check(relabel(labels, {5: 0}), cord=cord)
    assert whole.to_dataframe()["level"].tolist() == list(range(2, 10))
    none = Report((), (), (), "none").flags_dataframe()
    flags = part.flags_dataframe()
    assert len(none) == 0
    assert list(flags.columns) == list(none.columns)
    assert flags.set_index("code").loc["level_missing", "level"] == 5
    assert {"value", "expected", "source", "text"} <= set(flags.columns)


@pytest.mark.network
def test_an_image_in_memory_is_segmented_as_its_file_is(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.nii.gz", axcodes="PSR")
    folder = str(write_model(tmp_path / "model"))
    settings = Settings(Options(engine="openvino", device="cpu"), tiles="all", raw=True)
    wanted, _ = segment(path, model=folder, settings=settings)
    image = nib.load(path)
    found, _ = segment(image, model=folder, settings=settings)
    voxels = np.asarray(image.dataobj)
    again, _ = segment(voxels, affine=image.affine, model=folder, settings=settings)
    assert np.array_equal(found.dataobj, wanted.dataobj)
    assert np.array_equal(again.dataobj, wanted.dataobj)
    assert np.array_equal(again.affine, image.affine)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sct_rootlets_task.nonsense


def _in_unit(image: Any, unit: str, factor: float) -> Any:
    affine = image.affine.copy()
    affine[:3] *= factor
    other = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    other.set_qform(affine, 1)
    other.header.set_xyzt_units(unit)
    return other


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("meter", 1.0)])
def test_images_in_another_unit_give_the_same_and_come_back_in_their_unit(
    images: tuple[Any, Any], unit: str, factor: float
) -> None:
    labels, cord = (_in_unit(image, unit, factor) for image in images)
    plain, _ = spinal_levels(images[0], cord=images[1])
    found, colored = spinal_levels(labels, cord=cord)
    mixed, _ = spinal_levels(labels, cord=images[1])
    for spans in (found.spans, mixed.spans):
        for one, other in zip(spans, plain.spans, strict=True):
            assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=0.1)
    for made in (colored, relabel(labels, shift=0), *split(labels, cord).values()):
        assert np.array_equal(made.affine, labels.affine)
        assert made.header.get_xyzt_units()[0] == unit
    report, expected = check(labels, cord=cord), check(images[0], cord=images[1])
    assert [flag.code for flag in report.flags] == [flag.code for flag in expected.flags]


@pytest.mark.parametrize("bad", [np.diag([0.0, 1, 1, 1]), np.full((4, 4), np.nan), np.eye(4) * 99])
def test_an_affine_that_makes_no_body_is_refused(images: tuple[Any, Any], bad: np.ndarray) -> None:
    voxels = np.asarray(images[0].dataobj)
    with pytest.raises(ImageError, match=r"voxels of|not usable"):
        check(voxels, affine=bad)
    with pytest.raises(ImageError, match=r"voxels of|not usable"):
        segment(voxels.astype(np.float32), affine=bad, model="starter")


def test_a_nibabel_image_of_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match="cut short"):
        segment(nib.load(path), model="starter")
    with pytest.raises(ImageError, match="cut short"):
        check(nib.load(path))
