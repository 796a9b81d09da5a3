"""Damaged, oversized and oddly written NIfTI files, in every reader and every command."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import shlex
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task
from fake_network import Loader
from model_zips import write_model
from sct_rootlets_task.cli import sct_deepseg, sct_rootlets
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import InputImage, labels_image, load_image, load_labels
from sct_rootlets_task.io.physical_size import mm_per_unit
from volumes import affine_of, smooth_noise, write_image

SHAPE = (6, 5, 7)
READERS: tuple[Callable[[Path], InputImage], ...] = (load_image, load_labels)


def _plain(dtype: str = "u1") -> bytes:
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 9
    return nib.Nifti1Image(values.astype(dtype), affine_of("RPI")).to_bytes()


PLAIN = _plain()
PACKED = gzip.compress(PLAIN, 1)


def _write(folder: Path, content: bytes, name: str = "file.nii.gz") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def _flipped(bit: int) -> bytes:
    content = bytearray(PACKED)
    content[bit // 8] ^= 1 << bit % 8
    return bytes(content)


def _rotten() -> bytes:
    """Return other voxels under the checksum of the right ones."""
    return gzip.compress(PLAIN[:-1] + b"\1", 1)[:-8] + PACKED[-8:]


def _members(*places: int) -> bytes:
    ends = [0, *places, len(PLAIN)]
    return b"".join(gzip.compress(PLAIN[a:b]) for a, b in itertools.pairwise(ends))


DAMAGED = {
    "checksum": PACKED[:-8] + b"abcd" + PACKED[-4:],
    "length": PACKED[:-4] + b"abcd",
    "rotten voxels": _rotten(),
    "garbage behind": PACKED + b"garbage",
    "garbage behind zeros": PACKED + bytes(512) + b"x",
    "half a magic behind": PACKED + b"\x1f",
    "the magic of a member behind": PACKED + b"\x1f\x8b",
    "last member cut": _members(200)[:-3],
    "last of many members rotten": _members(40, 400)[:-8] + bytes(8),
    "an empty member without its end": PACKED + gzip.compress(b"")[:-1],
    "reserved flags": PACKED[:3] + b"\xe0" + PACKED[4:],
    "header checksum": PACKED[:3] + b"\2" + PACKED[4:10] + b"\0\0" + PACKED[10:],
    **{f"cut by {n}": PACKED[:-n] for n in (1, 2, 4, 7, 8, 9, 50, len(PACKED) - 2)},
}
"""What ``gzip -t`` refuses (exit code not 0)."""

SOUND = {
    "members": _members(1, 347, 352, 500),
    "an empty member": PACKED + gzip.compress(b""),
    "many empty members": PACKED + gzip.compress(b"") * 5000,
    "zeros behind": PACKED + bytes(512),
    "many zeros behind": PACKED + bytes(100_000),
    "not compressed inside": gzip.compress(PLAIN, 0),
    "a name inside": PACKED[:3] + b"\x08" + PACKED[4:10] + b"name.nii\0" + PACKED[10:],
    "more than declared": gzip.compress(PLAIN + bytes(1000)),
}
"""What ``gzip -t`` takes."""


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_compressed_file_that_gzip_refuses_is_refused(
    tmp_path: Path, damage: str, read: Callable[[Path], InputImage]
) -> None:
    with pytest.raises(ImageError, match="damaged, cut short"):
        read(_write(tmp_path, DAMAGED[damage]))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("form", SOUND)
def test_a_compressed_file_that_gzip_takes_is_read(
    tmp_path: Path, form: str, read: Callable[[Path], InputImage]
) -> None:
    expected = np.asarray(nib.Nifti1Image.from_bytes(PLAIN).dataobj)
    image = read(_write(tmp_path, SOUND[form]))
    assert np.array_equal(image.data, expected)
    assert ("zeros follow" in str(image.warnings)) == ("zeros" in form)


def test_any_flipped_bit_is_found_or_changes_nothing(tmp_path: Path) -> None:
    expected = np.asarray(nib.Nifti1Image.from_bytes(PLAIN).dataobj)
    bits = random.Random(0).sample(range(16, len(PACKED) * 8), 300)
    refused = 0
    for bit in bits:
        path = _write(tmp_path, _flipped(bit))
        try:
            assert np.array_equal(load_image(path).data, expected), bit
        except ImageError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("size", [0, 1, 347, 348, 351, 352, 353, len(PLAIN) - 1])
@pytest.mark.parametrize("read", READERS)
def test_an_uncompressed_file_shorter_than_declared_is_refused(
    tmp_path: Path, size: int, read: Callable[[Path], InputImage]
) -> None:
    with pytest.raises(ImageError, match="damaged, cut short"):
        read(_write(tmp_path, PLAIN[:size], "file.nii"))


@pytest.mark.parametrize(("name", "content"), [("a.nii", PACKED), ("a.nii.gz", PLAIN)])
def test_the_content_and_not_the_name_tells_whether_a_file_is_compressed(
    tmp_path: Path, name: str, content: bytes
) -> None:
    image = load_image(_write(tmp_path, content, name))
    assert image.data.shape == SHAPE
    assert "against its name" in image.warnings[0]


COMMANDS = (
    "check -i BAD",
    "check -i seg.nii.gz -s BAD",
    "check -i seg.nii.gz -pmj BAD",
    "check -i seg.nii.gz -discs BAD",
    "check -i seg.nii.gz -locator BAD",
    "levels -i BAD -csv new.csv",
    "levels -i seg.nii.gz -s BAD -csv new.csv",
    "levels -i seg.nii.gz -pmj BAD -csv new.csv",
    "relabel -i BAD -shift 1 -o new.nii.gz",
    "relabel -i seg.nii.gz -discs BAD -o new.nii.gz",
    "relabel -i seg.nii.gz -locator BAD -o new.nii.gz",
    "split -i BAD -s seg.nii.gz -o new",
    "split -i seg.nii.gz -s BAD -o new",
    "locate -i BAD -o new.nii.gz",
    "evaluate -i BAD -gt seg.nii.gz",
    "evaluate -i seg.nii.gz -gt BAD",
    "qc -i BAD -s seg.nii.gz -o report",
    "qc -i seg.nii.gz -s BAD -o report",
    "qc -i seg.nii.gz -s seg.nii.gz -qc-seg BAD -o report",
    "picture -i BAD -s seg.nii.gz -o new.png",
    "picture -i seg.nii.gz -s BAD -o new.png",
)


def _header(**fields: object) -> bytes:
    """Return a file with other numbers in some fields of its header."""
    image = nib.Nifti1Image.from_bytes(PLAIN)
    header = nib.Nifti1Header(PLAIN[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    assert image.shape == SHAPE
    return header.binaryblock + PLAIN[348:]


NO_SFORM = {"sform_code": 0, "qform_code": 1}
HEADERS = {
    "intercept NaN": {"scl_slope": 1, "scl_inter": np.nan},
    "intercept infinite": {"scl_slope": 2, "scl_inter": np.inf},
    "bits": {"datatype": 1, "bitpix": 1},
    "unknown type": {"datatype": 9999},
    "no type": {"datatype": 0},
    "complex": {"datatype": 32, "bitpix": 64, "dim": [3, 6, 5, 1, 1, 1, 1, 1]},
    "no dimensions": {"dim": [0] * 8},
    "eight dimensions": {"dim": [8] * 8},
    "negative number of dimensions": {"dim": [-3, 6, 5, 7, 1, 1, 1, 1]},
    "negative size": {"dim": [3, 6, -5, 7, 1, 1, 1, 1]},
    "two negative sizes": {"dim": [3, -6, -5, 7, 1, 1, 1, 1]},
    "all sizes negative": {"dim": [3, -6, -5, -7, 1, 1, 1, 1]},
    "freesurfer vector": {"dim": [3, -1, 1, 1, 1, 1, 1, 1], "glmin": 9},
    "freesurfer vector of no length": {"dim": [3, -1, 1, 1, 1, 1, 1, 1], "glmin": 0},
    "voxels inside the header": {"vox_offset": 348},
    "voxels at the start": {"vox_offset": 0},
    "voxels before the start": {"vox_offset": -1e9},
    "voxels beyond the end": {"vox_offset": 1e9},
    "voxels at NaN": {"vox_offset": np.nan},
    "voxels at infinity": {"vox_offset": np.inf},
    "no magic": {"magic": b"xyz"},
    "sform NaN": {"srow_x": [np.nan] * 4},
    "sform infinite": {"srow_y": [1, np.inf, 0, 0]},
    "sform zero": {"srow_z": [0, 0, 0, 0]},
    "sform flat": {"srow_x": [1, 0, 0, 0], "srow_y": [1, 1e-7, 0, 0]},
    "sform far off": {"srow_x": [-1, 0, 0, 1e30]},
    "sform huge": {"srow_x": [-3e38, 0, 0, 1]},
    "qform NaN": {**NO_SFORM, "quatern_b": np.nan},
    "qform too long": {**NO_SFORM, "quatern_b": 0.9, "quatern_c": 0.9},
    "qform elsewhere": {**NO_SFORM, "qoffset_z": np.nan},
    "qform of NaN voxels": {**NO_SFORM, "pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]},
    "qform of infinite voxels": {**NO_SFORM, "pixdim": [1, 1, np.inf, 1, 1, 1, 1, 1]},
}


def test_each_command_refuses_a_damaged_file_in_any_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path, PACKED, "seg.nii.gz")
    for content in (DAMAGED["checksum"], _header(**HEADERS["intercept NaN"])):
        bad = _write(tmp_path, content, "bad.nii.gz").name
        for command in COMMANDS:
            assert sct_rootlets.main(shlex.split(command.replace("BAD", bad))) == 1, command
            assert "damaged, cut short" in capsys.readouterr().err, command
    assert not list(tmp_path.glob("new*"))


def test_sct_deepseg_and_the_functions_refuse_a_damaged_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model(tmp_path / "model")
    bad = _write(tmp_path, DAMAGED["checksum"])
    words = ["rootlets", "-model", str(model), "-i", str(bad), "-o", str(tmp_path / "o.nii.gz")]
    assert sct_deepseg.main(words, load=Loader()) == 1
    assert "damaged, cut short" in capsys.readouterr().err
    with pytest.raises(ImageError, match="damaged, cut short"):
        sct_rootlets_task.locate(bad)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("fault", HEADERS)
def test_a_header_that_makes_no_image_is_refused_with_the_name_of_the_file(
    tmp_path: Path, fault: str, read: Callable[[Path], InputImage]
) -> None:
    path = _write(tmp_path, _header(**HEADERS[fault]), "file.nii")
    with pytest.raises(ImageError) as caught:
        read(path)
    assert str(path) in str(caught.value)


UNNEEDED = {
    "quaternion a hair too long": ({"qform_code": 1, "quatern_b": 1 + 2.3e-7}, "is longer than 1"),
    "quaternion too long": ({"qform_code": 1, "quatern_b": 1.0005}, "is longer than 1"),
    "quaternion much too long": ({"qform_code": 1, "quatern_b": 7}, "left out"),
    "quaternion NaN": ({"qform_code": 2, "quatern_c": np.nan}, "left out"),
    "qform elsewhere": ({"qform_code": 2, "qoffset_x": np.inf}, "left out"),
    "voxel size NaN": ({"pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]}, "that of the sform is used"),
    "voxel size 0": ({"pixdim": [1, 1, 1, 0, 1, 1, 1, 1]}, "that of the sform is used"),
    "voxel size negative": ({"pixdim": [1, 1, -2, 1, 1, 1, 1, 1]}, "that of the sform is used"),
    "unknown qform code": ({"qform_code": 77}, "qform_code 77 not valid"),
    "size of the header": ({"sizeof_hdr": 1}, "sizeof_hdr should be 348"),
    "voxel size 0 of a qform": (
        {**NO_SFORM, "pixdim": [1, 1, 1, 0, 1, 1, 1, 1]},
        "setting 0 dims to 1",
    ),
}


@pytest.mark.parametrize("fault", UNNEEDED)
def test_a_broken_field_that_nothing_needs_is_a_warning(tmp_path: Path, fault: str) -> None:
    fields, words = UNNEEDED[fault]
    image = load_image(_write(tmp_path, _header(**fields), "file.nii"))
    assert words in image.warnings[0]
    nib.save(labels_image(np.ones(SHAPE, np.uint8), image, "x"), tmp_path / "out.nii")
    written = nib.load(tmp_path / "out.nii")
    assert np.array_equal(written.affine, image.affine)
    assert np.isfinite(written.get_qform()).all()


@pytest.mark.parametrize("excess", [4.5e-7, 1e-3])
def test_a_qform_a_hair_too_long_is_taken_where_there_is_no_sform(
    tmp_path: Path, excess: float
) -> None:
    path = _write(tmp_path, _header(**NO_SFORM, quatern_b=0, quatern_d=1 + excess / 2), "file.nii")
    image = load_image(path)
    assert "is longer than 1" in image.warnings[0]
    np.testing.assert_allclose(image.affine[:3, :3], np.diag([-1, -1, 1]), atol=1e-6)


@pytest.mark.parametrize("size", [0, 7, 8, -16, 10**6, 2**31 - 1])
def test_a_broken_extension_is_passed_over(tmp_path: Path, size: int) -> None:
    extension = b"\1\0\0\0" + struct.pack("<2i", size, 6) + b"x" * 40
    content = bytearray(PLAIN[:348] + extension + bytes(12) + PLAIN[352:])
    struct.pack_into("<f", content, 108, len(content) - len(PLAIN[352:]))
    expected = np.asarray(nib.Nifti1Image.from_bytes(PLAIN).dataobj)
    assert np.array_equal(load_image(_write(tmp_path, bytes(content))).data, expected)


@pytest.mark.parametrize("make", ["folder", "pipe", "loop", "nul", "long", "under a file"])
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, make: str) -> None:
    path = tmp_path / "a.nii.gz"
    if make == "folder":
        path.mkdir()
    elif make == "pipe":
        os.mkfifo(path)
    elif make == "loop":
        path.symlink_to(path)
    elif make == "under a file":
        path.write_bytes(PACKED)
        path = path / "b.nii.gz"
    else:
        path = tmp_path / {"nul": "a\0b.nii.gz", "long": "a" * 5000 + ".nii.gz"}[make]
    for read in READERS:
        with pytest.raises(ImageError):
            read(path)


@pytest.mark.parametrize("values", [1e300, np.float64(2**62), 1e30])
def test_values_too_large_to_reckon_with_are_no_signal(tmp_path: Path, values: float) -> None:
    data = smooth_noise(SHAPE).astype("f8")
    data[0, 0, 0] = values
    image = load_image(write_image(tmp_path / "a.nii.gz", data))
    assert image.data[0, 0, 0] == 0
    assert "1 voxels are not finite (NaN or Inf) or beyond 1e+12" in image.warnings[0]
    with pytest.raises(ImageError, match="values beyond"):
        load_image(write_image(tmp_path / "b.nii.gz", np.full(SHAPE, values, "f8")))


UNITS = {"meter": 1e-3, "mm": 1.0, "micron": 1e3, "unknown": 1.0}


def _in_unit(folder: Path, unit: str, factor: float, *, labels: bool = False) -> Path:
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 9 if labels else smooth_noise(SHAPE)
    affine = affine_of("PSR", (0.7, 0.8, 3.3))
    affine[:3] *= factor
    image = nib.Nifti1Image(values.astype("f4"), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, folder / f"{unit}-{factor}.nii.gz")
    return folder / f"{unit}-{factor}.nii.gz"


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(
    ("unit", "factor", "words"),
    [
        ("mm", 1.0, None),
        ("unknown", 1.0, None),
        ("meter", 1e-3, "in meters; sizes and places are converted"),
        ("micron", 1e3, "in microns; sizes and places are converted"),
        ("meter", 1.0, "says meters, which makes voxels of 700 × 800 × 3300 mm"),
        ("micron", 1.0, "says microns, which makes voxels of 0.0007 ×"),
    ],
)
def test_sizes_are_in_mm_whatever_the_unit_of_the_header(
    tmp_path: Path, unit: str, factor: float, words: str | None, labels: bool
) -> None:
    reader = load_labels if labels else load_image
    path = _in_unit(tmp_path, unit, factor, labels=labels)
    image = reader(path)
    expected = affine_of("PSR", (0.7, 0.8, 3.3))
    np.testing.assert_allclose(image.affine, expected, rtol=1e-6)
    assert image.spacing == (0.7, 0.8, 3.3)
    assert (not image.warnings) if words is None else (words in image.warnings[0])
    nib.save(labels_image(np.ones(SHAPE, np.uint8), image, "x"), tmp_path / "out.nii.gz")
    before, after = nib.load(path).header, nib.load(tmp_path / "out.nii.gz").header
    for name in ("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units", "qoffset_x", "quatern_b"):
        assert np.array_equal(before[name], after[name]), name
    assert np.array_equal(nib.load(tmp_path / "out.nii.gz").affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("mm", factor) for factor in (0.0, 1e-3, 1e-2, 30.0, 1e3, 1e6)),
        *(("unknown", factor) for factor in (1e-3, 1e3)),
        *(("meter", factor) for factor in (1e-6, 1e-5, 20.0, 1e3)),
        *(("micron", factor) for factor in (1e-3, 20.0, 1e6)),
    ],
)
def test_sizes_that_no_body_has_are_refused_with_what_was_found(
    tmp_path: Path, unit: str, factor: float
) -> None:
    path = _in_unit(tmp_path, "mm", 1.0)
    raw = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(raw[:348])
    for name in ("srow_x", "srow_y", "srow_z"):
        header[name] = header[name] * factor
    header.set_xyzt_units(unit)
    content = header.binaryblock + raw[348:]
    for read in READERS:
        with pytest.raises(ImageError, match=r"voxels of|not usable") as caught:
            read(_write(tmp_path, content))
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "sizes", "plausible"),
    [
        ((320, 256, 19), (0.69, 0.69, 7.5), True),
        ((141, 141, 991), (0.5, 0.5, 0.5), True),
        ((400, 400, 900), (0.05, 0.05, 0.05), True),
        ((400, 400, 900), (0.08, 0.08, 0.1), True),
        ((512, 512, 20), (0.4, 0.4, 15.0), True),
        ((42, 76, 77), (1, 1, 1), True),
        ((6, 5, 2), (1, 1, 1), True),
        ((500, 400, 400), (1, 1, 5), True),
        ((512, 512, 10), (0.4, 0.4, 20.0), False),
        ((512, 512, 512), (0.04, 0.04, 0.04), False),
        ((201, 20, 20), (15, 15, 15), False),
        ((1000, 1000, 200), (2.9, 2.9, 15), False),
        ((4000, 20, 20), (1, 1, 1), False),
    ],
)
def test_what_scanners_make_is_plausible_and_what_exceeds_a_body_is_not(
    shape: tuple[int, ...], sizes: tuple[float, ...], plausible: bool
) -> None:
    affine = np.diag([*sizes, 1.0])
    if plausible:
        assert mm_per_unit(affine, shape, 2, Path("a.nii")) == (1.0, ())
    else:
        with pytest.raises(ImageError, match=r"voxels of|an image of"):
            mm_per_unit(affine, shape, 2, Path("a.nii"))


def _declaring(shape: tuple[int, ...], content: bytes = b"", *, datatype: int = 2) -> bytes:
    dimensions = [len(shape), *shape, *[1] * (7 - len(shape))]
    header = _header(dim=dimensions, datatype=datatype)[:352]
    return header + content


HUGE = {
    "a small gzip of 1000³ voxels": gzip.compress(_declaring((1000,) * 3) + bytes(600_000)),
    "1000³ voxels": _declaring((1000,) * 3, bytes(1000)),
    "32767³ voxels": _declaring((32767,) * 3, bytes(1000)),
    "more than the ratio of deflate allows": gzip.compress(_declaring((300, 200, 100), bytes(99))),
    "a gzip that goes on and on": gzip.compress(_declaring((9, 9, 9), bytes(20_000_000))),
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", HUGE)
def test_what_a_file_cannot_hold_takes_no_memory(
    tmp_path: Path, kind: str, read: Callable[[Path], InputImage]
) -> None:
    path = _write(tmp_path, HUGE[kind], "file.nii.gz" if "gzip" in kind else "file.nii")
    read(_write(tmp_path, PACKED, "first.nii.gz"))
    tracemalloc.start()
    try:
        with pytest.raises(ImageError) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


def test_huge_declarations_stay_within_little_address_space(tmp_path: Path) -> None:
    paths = [_write(tmp_path, content, f"{n}.nii.gz") for n, content in enumerate(HUGE.values())]
    script = """
import resource, sys
from pathlib import Path
import nibabel, nibabel.volumeutils
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import load_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26,) * 2)
for name in sys.argv[1:]:
    try:
        load_image(Path(name))
    except ImageError as error:
        assert "memory" not in str(error), error
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["refused"] * len(HUGE), done.stderr


def test_too_many_voxels_are_refused_with_the_limit(tmp_path: Path) -> None:
    content = _declaring((1024, 1024, 1024))
    with (tmp_path / "big.nii").open("wb") as file:
        file.write(content)
        file.truncate(2**30 + 352)
    with pytest.raises(ImageError, match=r"at most 537 million voxels, found 1074 million.*Crop"):
        load_image(tmp_path / "big.nii")


@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("values", [(0, 2, 9), (0, 3, 8, 12), (0, 2, 30)])
def test_labels_written_with_a_scale_are_the_whole_numbers_they_stand_for(
    tmp_path: Path, dtype: type, values: tuple[int, ...]
) -> None:
    labels = np.resize(values, SHAPE).astype(float)
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    path = tmp_path / "scaled.nii.gz"
    nib.save(nib.Nifti1Image(labels, affine_of("RPI"), header), path)
    assert not np.array_equal(np.asarray(nib.load(path).dataobj), labels)
    assert np.array_equal(load_labels(path).data, labels)


def test_not_a_number_is_background_in_a_label_map(tmp_path: Path) -> None:
    labels = np.resize((0, 3, 4), SHAPE).astype(np.float32)
    path = write_image(tmp_path / "a.nii.gz", np.where(labels == 0, np.nan, labels))
    assert np.array_equal(load_labels(path).data, labels)
