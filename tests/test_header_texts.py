"""No text of an image's header goes into what is made from the image."""

from __future__ import annotations

import base64
import gzip
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task
from fake_network import Loader
from model_zips import write_model
from sct_rootlets_task.cli import sct_deepseg, sct_rootlets
from sct_rootlets_task.io.images import labels_image, load_image, load_labels
from sct_rootlets_task.levels.located_canal import LocatedLevels
from sct_rootlets_task.rootlets.geometry import like
from sct_rootlets_task.segmentation import locator
from test_relabel import phantom

SECRET = b"KILROY"
GRID = (
    *("dim", "pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "dim_info"),
)
NEEDED = {
    *GRID,
    *("sizeof_hdr", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "magic"),
    "eol_check",
}
KINDS = (nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair, nib.Nifti2Pair)


def _text(size: int) -> bytes:
    return (SECRET * (size // len(SECRET) + 1))[:size]


def _telling(header: Any, *, unused: tuple[str, ...] = ()) -> None:
    """Write a text into each field of a header that does not say where voxels lie."""
    structure = header.structarr
    for name in structure.dtype.names:
        if name in NEEDED and name not in unused:
            continue
        field = structure.dtype.fields[name][0]
        text = np.frombuffer(_text(field.itemsize), np.uint8)
        header[name] = text.view(field.base)[0] if not field.shape else text.view(field.base)
    steps = np.frombuffer(_text(4 * structure["pixdim"].itemsize), structure["pixdim"].dtype)
    header["pixdim"][5:8] = steps[:3]
    header["dim"][4:] = 1


def _image(kind: type = nib.Nifti1Image, labels: np.ndarray | None = None) -> Any:
    image = kind(phantom().labels if labels is None else labels, phantom().affine)
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    _telling(image.header)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", _text(100)))
    return image


def _stored(folder: Path, name: str, image: Any) -> Path:
    nib.save(image, folder / name)
    content = (folder / name).read_bytes()
    assert content.count(SECRET[:4]) > 10, "the source has texts"
    return folder / name


def _tells(content: bytes) -> bool:
    return any(part in content for part in (SECRET[:4], SECRET[1:5], SECRET[2:], b"YKIL", b"OYKI"))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("read", [load_image, load_labels])
def test_a_label_map_has_the_grid_of_its_image_and_none_of_its_texts(
    tmp_path: Path, kind: type, read: Callable[[Path], Any]
) -> None:
    path = _stored(tmp_path, "a.nii", _image(kind))
    written = labels_image(phantom().labels, read(path), "levels")
    content = written.to_bytes()
    assert not _tells(content)
    after = kind.from_bytes(content).header
    before = nib.load(path).header
    for name in GRID:
        limit = 5 if name == "pixdim" else None
        assert np.array_equal(before[name][:limit] if limit else before[name],
                              after[name][:limit] if limit else after[name]), name  # fmt: skip
    assert after["descrip"] == b"levels"


@pytest.mark.parametrize("kind", KINDS)
def test_the_functions_give_label_maps_without_texts(kind: type) -> None:
    image = _image(kind)
    cord = nib.Nifti1Image(phantom().cord.astype(np.uint8), phantom().affine)
    made = [
        like(image, phantom().labels),
        sct_rootlets_task.relabel(image, shift=0).labels,
        sct_rootlets_task.spinal_levels(image, cord=cord)[1],
        *sct_rootlets_task.split(image, cord).values(),
    ]
    for labels in made:
        assert not _tells(labels.to_bytes())
        assert np.array_equal(labels.affine, image.affine)
        assert labels.header["sform_code"] == labels.header["qform_code"] == 1
        assert isinstance(labels.header, nib.Nifti2Header) == (kind in KINDS[1::2])
        assert isinstance(labels, nib.Nifti1Image)


@pytest.mark.parametrize("code", ["sform_code", "qform_code"])
def test_an_unused_matrix_that_is_a_text_is_not_copied(tmp_path: Path, code: str) -> None:
    image = _image()
    image.header[code] = 0
    fields = {
        "sform_code": ("srow_x", "srow_y", "srow_z"),
        "qform_code": ("quatern_b", "quatern_c", "quatern_d", "qoffset_x"),
    }
    _telling(image.header, unused=fields[code])
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + bytes(4) + bytes(phantom().labels.ravel("F")))
    content = bytearray(path.read_bytes())
    content[108:112] = np.float32(352).tobytes()
    path.write_bytes(content)
    labels = labels_image(phantom().labels, load_labels(path), "x")
    assert not _tells(labels.to_bytes())
    np.testing.assert_allclose(labels.affine, phantom().affine, atol=1e-4)


def _outputs(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("new*") if path.is_file()]


def _unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


COMMANDS = (
    "relabel -i seg.nii.gz -shift 0 -o new.nii.gz",
    "relabel -i seg.nii.gz -map 2:0 -o new.nii",
    "levels -i seg.nii.gz -s cord.nii.gz -o new.nii.gz -csv new.csv",
    "split -i seg.nii.gz -s cord.nii.gz -o new",
    "locate -i image.nii.gz -o new.nii.gz",
    "check -i seg.nii.gz -s cord.nii.gz -o new.json",
    "picture -i image.nii.gz -s seg.nii.gz -o new.png",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_a_text_of_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locator, "locate", lambda image: LocatedLevels(phantom().labels))
    noise = (phantom().labels + 10 * phantom().cord + 1).astype(np.uint8)
    for name, values in {
        "seg": phantom().labels,
        "cord": phantom().cord.astype(np.uint8),
        "image": noise,
    }.items():
        nib.save(_image(labels=values), f"{name}.nii.gz")
    assert sct_rootlets.main(shlex.split(command)) == 0
    assert _outputs(tmp_path)
    assert [path.name for path in _outputs(tmp_path) if _tells(_unpacked(path))] == []


def test_the_viewer_of_a_report_holds_no_text_of_a_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = (phantom().labels + 10 * phantom().cord + 1).astype(np.uint8)
    nib.save(_image(labels=noise), "image.nii.gz")
    nib.save(_image(), "seg.nii.gz")
    assert sct_rootlets.main(shlex.split("qc -i image.nii.gz -s seg.nii.gz -o report")) == 0
    scripts = [path.read_text() for path in Path("report").rglob("*.js")]
    volumes = [text for text in scripts if text.startswith("QC.volume(")]
    assert volumes
    for text in volumes:
        content = json.loads("{" + text.partition("{")[2].rpartition("}")[0] + "}")
        for packed in content.values():
            assert not _tells(gzip.decompress(base64.b64decode(packed)))


def test_sct_deepseg_writes_no_text_of_a_header(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    noise = (phantom().labels + 10 * phantom().cord + 1).astype(np.uint8)
    nib.save(_image(labels=noise), tmp_path / "image.nii.gz")
    out = tmp_path / "new.nii.gz"
    words = ["rootlets", "-model", str(model), "-raw", "-tiles", "all"]
    code = sct_deepseg.main(
        [*words, "-i", str(tmp_path / "image.nii.gz"), "-o", str(out)], load=Loader()
    )
    assert code == 0
    assert not [path.name for path in _outputs(tmp_path) if _tells(_unpacked(path))]
