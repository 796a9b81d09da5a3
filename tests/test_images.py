"""Every kind of input is either read rightly or refused with a message that helps."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.errors import ImageError, OutputError
from sct_rootlets_task.io.images import (
    check_image,
    labels_image,
    load_image,
    load_labels,
    stem,
)
from sct_rootlets_task.io.results import write_results
from volumes import affine_of, smooth_noise, write_image

Maker = Callable[[Path], Path]
SHAPE = (6, 5, 7)


def _data(dtype: str = "f4") -> np.ndarray:
    return smooth_noise(SHAPE).astype(dtype)


def _write(folder: Path, data: np.ndarray, name: str = "image.nii.gz") -> Path:
    return write_image(folder / name, data)


def _rgb(folder: Path) -> Path:
    colors = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colors, np.eye(4)), folder / "rgb.nii")
    return folder / "rgb.nii"


def _truncated(folder: Path) -> Path:
    path = _write(folder, _data())
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _truncated_plain(folder: Path) -> Path:
    path = _write(folder, _data(), "image.nii")
    path.write_bytes(path.read_bytes()[:-200])
    return path


def _not_gzip(folder: Path) -> Path:
    path = folder / "text.nii.gz"
    path.write_text("no image")
    return path


def _gzip_of_text(folder: Path) -> Path:
    path = folder / "text.nii.gz"
    path.write_bytes(gzip.compress(b"no image" * 100))
    return path


def _other_format(folder: Path) -> Path:
    nib.save(nib.MGHImage(_data(), np.eye(4)), folder / "image.mgz")
    return folder / "image.mgz"


def _bad_affine(folder: Path) -> Path:
    image = nib.Nifti1Image(_data(), None)
    image.header.set_sform(np.zeros((4, 4)), 1)
    nib.save(image, folder / "image.nii.gz")
    return folder / "image.nii.gz"


def _empty_axis(folder: Path) -> Path:
    return _write(folder, np.zeros((4, 0, 5), "f4"))


BAD: dict[str, tuple[Maker, str]] = {
    "missing": (lambda folder: folder / "nothing.nii.gz", "no image"),
    "2-D": (lambda f: _write(f, _data()[:, :, 0]), "single slice"),
    "one slice": (lambda f: _write(f, _data()[:, :, :1]), "single slice"),
    "4-D": (lambda f: _write(f, np.stack([_data()] * 3, -1)), "sct_maths -mean t.*split"),
    "5-D": (lambda f: _write(f, _data()[..., None, None] * np.ones((1, 1, 1, 1, 3), "f4")), "3-D"),
    "no voxels": (_empty_axis, "with voxels"),
    "constant": (lambda f: _write(f, np.full(SHAPE, 7, "i2")), "one value 7"),
    "all zero": (lambda f: _write(f, np.zeros(SHAPE, "i2")), "one value 0"),
    "all NaN": (lambda f: _write(f, np.full(SHAPE, np.nan, "f4")), "only NaN"),
    "complex": (lambda f: _write(f, _data("c8")), "complex"),
    "RGB": (_rgb, "color"),
    "truncated gzip": (_truncated, "damaged, cut short"),
    "truncated": (_truncated_plain, "damaged, cut short"),
    "not gzip": (_not_gzip, "damaged, cut short"),
    "gzip of text": (_gzip_of_text, "damaged, cut short"),
    "another format": (_other_format, "mri_convert"),
    "no orientation matrix": (_bad_affine, "sform or qform"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_image_that_cannot_be_segmented_is_refused_with_the_way_out(
    tmp_path: Path, kind: str
) -> None:
    make, words = BAD[kind]
    path = make(tmp_path)
    with pytest.raises(ImageError, match=words) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_integer_and_float_images_are_read(tmp_path: Path, dtype: str, name: str) -> None:
    data = (_data() / _data().max() * 200).astype(dtype)
    image = load_image(_write(tmp_path, data, name))
    assert image.data.dtype == np.float32
    assert np.array_equal(image.data, data.astype(np.float32))


def test_not_a_number_in_a_label_map_is_background_with_a_warning(tmp_path: Path) -> None:
    values = np.zeros(SHAPE, np.float32)
    values[1, 1], values[2, 2] = 5, np.nan
    image = load_labels(write_image(tmp_path / "nan.nii.gz", values))
    assert set(np.unique(image.data)) == {0, 5}
    [warning] = image.warnings
    assert warning == f"{SHAPE[2]} voxels are not a number (NaN); they are taken as background."


def test_scaled_integers_are_scaled(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(0.5, 10)
    path = write_image(tmp_path / "scaled.nii.gz", _data() / 100 + 10, header=header)
    stored = nib.load(path)
    assert stored.get_data_dtype() == np.int16
    assert load_image(path).data == pytest.approx(np.asarray(stored.dataobj), rel=1e-6)


def test_one_volume_in_four_dimensions_is_taken(tmp_path: Path) -> None:
    assert load_image(_write(tmp_path, _data()[..., None])).data.shape == SHAPE


def test_voxels_that_are_not_finite_become_zero_and_are_reported(tmp_path: Path) -> None:
    data = _data()
    data[0, 0, :3] = (np.nan, np.inf, -np.inf)
    image = load_image(_write(tmp_path, data))
    assert image.data[0, 0, :3].tolist() == [0, 0, 0]
    assert "3 voxels are not finite" in image.warnings[0]


def _with_forms(folder: Path, sform_code: int, qform_code: int, shift: float) -> Path:
    image = nib.Nifti1Image(_data(), affine_of("RAS"))
    moved = image.affine.copy()
    moved[0, 3] += shift
    image.set_qform(moved, qform_code)
    image.set_sform(image.affine, sform_code)
    nib.save(image, folder / "forms.nii.gz")
    return folder / "forms.nii.gz"


@pytest.mark.parametrize(
    ("codes", "shift", "words"),
    [
        ((1, 1), 0.0, None),
        ((1, 1), 0.2, None),
        ((1, 1), 3.0, "disagree by up to 3.0 mm; the sform is used"),
        ((1, 0), 3.0, None),
        ((0, 1), 3.0, None),
        ((0, 0), 0.0, "neither sform nor qform"),
    ],
)
def test_doubtful_orientation_is_reported_and_says_which_is_used(
    tmp_path: Path, codes: tuple[int, int], shift: float, words: str | None
) -> None:
    warnings = load_image(_with_forms(tmp_path, *codes, shift)).warnings
    assert (words is None and not warnings) or words in warnings[0]


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (1, 0), (0, 3), (4, 4)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_the_output_has_the_grid_of_the_input_bit_for_bit(
    tmp_path: Path, codes: tuple[int, int], kind: type
) -> None:
    source = kind(_data("i2"), affine_of("PSR", (0.7, 0.8, 1.3)))
    source.set_qform(source.affine, codes[1])
    source.set_sform(source.affine, codes[0])
    source.header.set_xyzt_units("mm", "sec")
    source.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"someone's name"))
    nib.save(source, tmp_path / "in.nii.gz")
    image = load_image(tmp_path / "in.nii.gz")
    labels = np.zeros(SHAPE, np.uint8)
    labels[2, 3, 4] = 9
    nib.save(labels_image(labels, image, "levels"), tmp_path / "out.nii.gz")
    written = nib.load(tmp_path / "out.nii.gz")
    before, after = nib.load(tmp_path / "in.nii.gz").header, written.header
    for key in (
        "sform_code",
        "qform_code",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "quatern_c",
        "quatern_d",
        "qoffset_x",
        "qoffset_y",
        "qoffset_z",
        "xyzt_units",
    ):
        assert np.array_equal(before[key], after[key]), key
    assert np.array_equal(before["pixdim"][:4], after["pixdim"][:4])
    assert type(written) is kind
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(written.dataobj), labels)
    assert float(after["cal_max"]) == 9
    assert not after.extensions, "the input's extensions may hold personal data"


def test_a_scaled_input_does_not_scale_the_labels(tmp_path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_slope_inter(0.01, 5)
    image = load_image(write_image(tmp_path / "in.nii.gz", _data() / 1000 + 5, header=header))
    labels = np.full(SHAPE, 3, np.uint8)
    nib.save(labels_image(labels, image, "x"), tmp_path / "out.nii")
    assert np.array_equal(np.asarray(nib.load(tmp_path / "out.nii").dataobj), labels)


def test_a_failed_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = load_image(_write(tmp_path, _data()))
    target = tmp_path / "results" / "out.nii.gz"
    target.parent.mkdir()
    target.write_bytes(b"the old result")

    def full_disk(_image: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nib, "save", full_disk)
    with pytest.raises(OutputError, match="No space left"):
        write_results({target: labels_image(np.zeros(SHAPE, np.uint8), image, "x")}, {}, texts={})
    assert target.read_bytes() == b"the old result"
    assert [path.name for path in target.parent.iterdir()] == ["out.nii.gz"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.full(SHAPE, 0.5, "f4"), "0.5"),
        (np.full(SHAPE, 300, "i2"), "300"),
        (np.full(SHAPE, -1, "i2"), "-1"),
        (np.full(SHAPE, np.nan, "f4"), "nan"),
        (np.full(SHAPE, np.inf, "f4"), "inf"),
        (np.resize([0, 1, -np.inf], SHAPE).astype("f8"), "-inf"),
        (np.full(SHAPE, 1e300, "f8"), "inf"),
        (np.resize([0, 1, 2.01], SHAPE).astype("f4"), "2.01"),
    ],
)
def test_an_image_given_as_a_label_map_is_refused(
    tmp_path: Path, data: np.ndarray, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        load_labels(_write(tmp_path, data))


@pytest.mark.parametrize("codes", [(1, 1), (2, 0), (0, 3)])
@pytest.mark.parametrize("stored", [False, True])
def test_an_image_in_memory_keeps_its_grid_and_unit(
    tmp_path: Path, codes: tuple[int, int], stored: bool
) -> None:
    affine = affine_of("PSR", (0.7e-3, 0.8e-3, 1.3e-3))
    source = nib.Nifti1Image(_data(), affine)
    source.set_qform(affine, codes[1])
    source.set_sform(affine, codes[0])
    source.header.set_xyzt_units("meter")
    if stored:
        nib.save(source, tmp_path / "in.nii.gz")
        source = nib.load(tmp_path / "in.nii.gz")
    image = check_image(source, Path("memory"))
    assert image.spacing == (0.7, 0.8, 1.3)
    written = labels_image(np.ones(SHAPE, np.uint8), image, "x")
    assert np.array_equal(written.affine, source.affine)
    for name in ("sform_code", "qform_code", "srow_x", "quatern_b", "pixdim", "xyzt_units"):
        assert np.array_equal(written.header[name], source.header[name]), name


def test_an_image_of_another_format_in_memory_is_taken() -> None:
    source = nib.MGHImage(_data("f4"), affine_of("PSR"))
    image = check_image(source, Path("memory"))
    assert np.array_equal(labels_image(np.ones(SHAPE, np.uint8), image, "x").affine, source.affine)


def test_an_empty_label_map_is_read(tmp_path: Path) -> None:
    assert not load_labels(_write(tmp_path, np.zeros(SHAPE, "u1"))).data.any()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.nii", "a"), ("a.b.nii.gz", "a.b"), ("A.NII.GZ", "A"), ("folder.nii/a", "a")],
)
def test_the_stem_is_the_name_without_the_image_extension(name: str, expected: str) -> None:
    assert stem(Path(name)) == expected


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "PSR", "IRA"])
def test_orientation_and_spacing_follow_the_affine(tmp_path: Path, axcodes: str) -> None:
    path = write_image(tmp_path / "a.nii.gz", _data(), axcodes=axcodes, zooms=(0.7, 0.8, 3.3))
    image = load_image(path)
    opposite = str.maketrans("LRPAIS", "RLAPSI")
    assert image.orientation == axcodes.translate(opposite)
    assert image.spacing == (0.7, 0.8, 3.3)
