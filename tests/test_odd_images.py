"""Images that are odd but honest: axes of one voxel, few huge values, other formats, folders."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task
from fake_network import Loader
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import (
    check_image,
    check_labels,
    labels_image,
    load_image,
    load_labels,
)
from sct_rootlets_task.io.nifti import one_volume
from test_relabel import phantom
from tiny_model import write_model
from volumes import affine_of, smooth_noise, write_image

SHAPE = (12, 10, 14)


def with_dim(path: Path, data: np.ndarray, dim: tuple[int, ...]) -> Path:
    """Write an uncompressed image whose header has other dimensions."""
    content = bytearray(nib.Nifti1Image(data, affine_of("RPI", (0.7, 0.8, 1.3))).to_bytes())
    struct.pack_into(f"<{len(dim)}h", content, 40, *dim)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("behind", [(0,), (1,), (0, 0), (1, 0), (0, 1), (0, 0, 0, 0), (1, 1, 0, 1)])
@pytest.mark.parametrize("load", [load_image, load_labels])
def test_no_volume_and_one_volume_are_one(tmp_path: Path, load: object, behind: tuple) -> None:
    data = np.round(smooth_noise(SHAPE) % 9)
    path = with_dim(tmp_path / "a.nii", data, (3 + len(behind), *SHAPE, *behind))
    image = load(path)
    assert np.array_equal(image.data, data)
    assert any("no volume" in text for text in image.warnings) == (0 in behind)
    assert labels_image(np.ones(SHAPE, np.uint8), image, "x").shape == SHAPE


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 1)])
def test_first_axes_of_one_voxel_are_left_out_with_a_warning(
    tmp_path: Path, ahead: int, behind: int, codes: tuple[int, int]
) -> None:
    data = smooth_noise(SHAPE)
    affine = affine_of("PIR", (0.7, 0.8, 1.3))
    image = nib.Nifti1Image(data.reshape((1,) * ahead + SHAPE + (1,) * behind), affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    nib.save(image, tmp_path / "a.nii.gz")
    for found in (load_image(tmp_path / "a.nii.gz"), check_image(image, Path("memory.nii.gz"))):
        assert np.array_equal(found.data, data)
        assert found.affine == pytest.approx(affine, abs=1e-5)
        assert found.spacing == pytest.approx((0.7, 0.8, 1.3))
        assert "first axis has one voxel" in " ".join(found.warnings)
        written = labels_image(np.ones(SHAPE, np.uint8), found, "x")
        assert written.shape == SHAPE
        assert written.affine == pytest.approx(affine, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, *SHAPE), (*SHAPE, 1), (1, 1, *SHAPE, 1)])
def test_the_functions_take_level_maps_with_axes_of_one_voxel(shape: tuple[int, ...]) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 4, 2:6], labels[3, 4, 8:12] = 3, 2
    given = nib.Nifti1Image(labels.reshape(shape), np.eye(4))
    found = sct_rootlets_task.relabel(given, shift=1).labels
    assert np.array_equal(found.dataobj, np.where(labels > 0, labels + 1, 0))


def test_single_slices_over_time_are_no_volume(tmp_path: Path) -> None:
    image = nib.Nifti1Image(smooth_noise((1, *SHAPE)), np.eye(4))
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = 2.5
    nib.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(ImageError, match=r"single slices over time.*remove its first axis"):
        load_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize(
    "shape", [(1, 5, 6), (5, 1, 6, 7), (1, 5, 6, 7, 3), (5, 6, 7, 2), (1, 1, 5, 6), (2, 1, 5, 6, 7)]
)
def test_no_other_shape_becomes_a_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(smooth_noise(shape), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ImageError, match=r"a\.nii\.gz"):
        load_image(tmp_path / "a.nii.gz")
    assert one_volume(shape) == shape or 1 in one_volume(shape)


def test_a_voxel_size_of_0_that_the_qform_needs_is_in_the_sidecar(tmp_path: Path) -> None:
    data = smooth_noise((30, 26, 34))
    image = nib.Nifti1Image(data, None)
    image.set_qform(np.diag([1, 1, 1, 1]), 1)
    content = bytearray(image.to_bytes())
    struct.pack_into("<f", content, 88, 0.0)
    (tmp_path / "a.nii").write_bytes(content)
    model = write_model(tmp_path / "model")
    words = ["rootlets", "-model", str(model), "-i", str(tmp_path / "a.nii")]
    assert sct_deepseg.main([*words, "-o", str(tmp_path / "o.nii.gz")], load=Loader()) == 0
    warnings = json.loads((tmp_path / "o.json").read_text())["Warnings"]
    assert any("pixdim" in text for text in warnings)


@pytest.mark.parametrize("count", [1, 5, 20])
@pytest.mark.parametrize("value", [1e6, 1e9, -1e9, 1e12])
@pytest.mark.parametrize("seed", range(2))
def test_few_huge_voxels_do_not_hide_the_others(
    tmp_path: Path, count: int, value: float, seed: int
) -> None:
    plain = smooth_noise((30, 26, 34), seed)
    places = np.random.default_rng(seed).choice(plain.size, count, replace=False)
    data = plain.copy()
    data.ravel()[places] = value
    image = load_image(write_image(tmp_path / "a.nii.gz", data))
    [warning] = image.warnings
    assert warning.startswith(f"{count} voxels lie far beyond all others")
    others = np.delete(image.data.ravel(), places)
    assert np.array_equal(others, np.delete(plain.ravel(), places))
    assert image.data.std() == pytest.approx(plain.std(), rel=0.05)


def test_a_huge_voxel_on_a_high_offset_is_found_as_well(tmp_path: Path) -> None:
    data = smooth_noise((30, 26, 34)) % 7 + 1000
    data[3, 4, 5] = 3000
    [warning] = load_image(write_image(tmp_path / "a.nii.gz", data)).warnings
    assert warning.startswith("1 voxels lie far beyond all others, up to 3e+03")


@pytest.mark.data
def test_real_images_stay_as_they_are(shared_data: Path) -> None:
    files = [*shared_data.glob("t2w/*_T2w.nii.gz"), *shared_data.glob("other/*.nii.gz")]
    assert len(files) >= 8
    for file in files:
        image = load_image(file)
        assert not [text for text in image.warnings if "far beyond" in text]
        assert np.array_equal(image.data, np.asarray(nib.load(file).dataobj, np.float32)), file


ORDINARY = {
    "noise": lambda noise: noise,
    "bright spots": lambda noise: np.where(noise > np.quantile(noise, 0.999), noise * 5, noise),
    "mostly dark": lambda noise: np.where(noise > np.quantile(noise, 0.99), noise, 0),
    "few voxels on nothing": lambda noise: np.where(noise > np.quantile(noise, 0.9995), 9, 0),
    "one voxel on nothing": lambda noise: np.where(noise == noise.max(), 1e9, 0),
    "a bright part": lambda noise: np.where(noise > np.quantile(noise, 0.98), 1e9, noise),
    "large numbers": lambda noise: noise * 1e7,
    "below 0": lambda noise: noise - 5000,
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_all_other_intensities_stay_as_they_are(tmp_path: Path, kind: str) -> None:
    data = ORDINARY[kind](smooth_noise((30, 26, 34))).astype(np.float32)
    image = load_image(write_image(tmp_path / "a.nii.gz", data))
    assert np.array_equal(image.data, data)
    assert not image.warnings


@pytest.mark.data
def test_the_real_images_stay_as_they_are(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*/*T[12]w.nii.gz")):
        expected = np.asarray(nib.load(path).dataobj).astype(np.float32)
        assert np.array_equal(load_image(path).data, expected), path


def test_a_mask_keeps_its_few_voxels(tmp_path: Path) -> None:
    data = np.zeros((30, 26, 34), np.float32)
    data[3, 4, 5], data[6, 7, 8] = 1e6, 1
    path = write_image(tmp_path / "a.nii.gz", data)
    assert np.array_equal(load_image(path, constant=True).data, data)


@pytest.mark.parametrize("scale", [1e-9, 1e-12, 1e-20])
def test_intensities_too_near_to_each_other_are_warned_of(tmp_path: Path, scale: float) -> None:
    data = (smooth_noise(SHAPE) / 1000).astype(np.float32) * np.float32(scale)
    image = load_image(write_image(tmp_path / "a.nii.gz", data))
    assert "Multiply them" in image.warnings[0]
    assert np.array_equal(image.data, data)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.hdr", "fslchfiletype"),
        ("a.img", "fslchfiletype"),
        ("a.img.gz", "nib-convert"),
        ("a.mgz", "mri_convert"),
        ("a.MGH", "nib-convert"),
        ("a.nrrd", "3D Slicer"),
        ("a.mnc", "mnc2nii"),
    ],
)
def test_other_formats_are_sent_to_the_program_that_converts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    (tmp_path / name).write_bytes(b"x" * 400)
    assert main(["locate", "-i", str(tmp_path / name), "-o", str(tmp_path / "o.nii.gz")]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "dcm2niix" not in said
    (tmp_path / "b.dcm").write_bytes(b"x" * 400)
    with pytest.raises(ImageError, match="dcm2niix"):
        load_image(tmp_path / "b.dcm")


@pytest.mark.parametrize("name", ["series", "a.nii.gz"])
def test_a_folder_is_called_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    seg, folder = tmp_path / "seg.nii.gz", tmp_path / name
    nib.save(nib.Nifti1Image(phantom().labels, phantom().affine), seg)
    folder.mkdir()
    model, output = str(write_model(tmp_path / "model")), str(tmp_path / "o.nii.gz")
    words = ["rootlets", "-model", model, "-o", output]
    for run, arguments in (
        (sct_deepseg.main, [*words, "-i", str(folder)]),
        (
            sct_deepseg.main,
            [*words, "-i", str(seg), "-qc", f"{tmp_path}/qc", "-qc-seg", str(folder)],
        ),
        (main, ["check", "-i", str(seg), "-s", str(folder)]),
        (main, ["levels", "-i", str(seg), "-pmj", str(folder), "-csv", f"{tmp_path}/o.csv"]),
        (main, ["locate", "-i", str(folder), "-o", output]),
        (main, ["qc", "-i", str(folder), "-s", str(seg), "-o", f"{tmp_path}/qc"]),
    ):
        assert run(arguments) in (1, 2)
        said = capsys.readouterr().err
        assert f"found a folder: {folder}. Give the NIfTI file in it" in said, arguments
        assert "does not exist" not in said
    assert main(["check", "-i", str(folder)]) == 2  # may be a folder, of level maps
    assert f"{folder}" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["seg", "seg.mgz", "seg.dcm", "seg.nii.gz"])
def test_a_file_that_is_not_there_is_said_so_whatever_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="There is no image"):
        load_image(tmp_path / name)


@pytest.mark.parametrize("factor", [1e20, 1e35, 1e300, np.nan, np.inf])
def test_values_that_are_too_large_on_a_background_of_zeros_are_said_so(
    tmp_path: Path, factor: float
) -> None:
    values = np.zeros((8, 9, 10))
    values[2:6] = factor
    with pytest.raises(ImageError, match=r"found one value \(0\) and 360 voxels of NaN, Inf"):
        load_image(write_image(tmp_path / "a.nii.gz", values))


@pytest.mark.parametrize("count", [1, 7])
def test_labels_that_are_no_number_are_counted_in_files_and_in_memory(
    tmp_path: Path, count: int
) -> None:
    values = np.full((8, 9, 10), 3, np.float32)
    values.reshape(-1)[:count] = np.nan
    path = write_image(tmp_path / "a.nii.gz", values)
    for found in (load_labels(path), check_labels(nib.load(path), path)):
        assert found.warnings == (
            f"{count} voxels are not a number (NaN); they are taken as background.",
        )
