"""Generated files, most of them damaged: each is read rightly or refused with a sentence.

A longer run: ``SCT_ROOTLETS_FUZZ=100 python -m pytest tests/test_fuzz_nifti.py``.
"""

from __future__ import annotations

import gzip
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fuzz_nifti import cases, sound
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import InputImage, labels_image, load_image, load_labels
from volumes import write_image

ROUNDS = int(os.environ.get("SCT_ROOTLETS_FUZZ", "1"))
MOST_MEMORY = 2**24
READERS: dict[str, Callable[[Path], InputImage]] = {"image": load_image, "labels": load_labels}


def _content(stored: bytes) -> bytes:
    """Return what a file holds; an error of gzip where ``gzip -t`` finds one."""
    return gzip.decompress(stored) if stored[:2] == b"\x1f\x8b" else stored


def _values(content: bytes) -> np.ndarray:
    """Return the values of a file, read with nothing but numpy and the header's numbers."""
    one = content[344:347] in (b"n+1", b"ni1")
    kind = nib.Nifti1Header if one else nib.Nifti2Header
    header = kind(content[: kind.sizeof_hdr], check=False)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    count, offset = int(np.prod(shape)), int(header["vox_offset"])
    stored = np.frombuffer(content, dtype, count, offset).reshape(shape, order="F")
    slope, inter = header.get_slope_inter()
    scaled = stored if slope is None else stored * np.float64(slope) + np.float64(inter)
    return scaled.astype(np.float32)


def _affine(content: bytes) -> np.ndarray | None:
    """Return the affine as nibabel has it; None for a file that nibabel refuses."""
    kind = nib.Nifti1Image if content[344:347] in (b"n+1", b"ni1") else nib.Nifti2Image
    try:
        return kind.from_bytes(content).affine
    except Exception:
        return None


def _check_read(stored: bytes, reader: str, image: InputImage) -> None:
    content = _content(stored)
    affine = _affine(content)
    if affine is not None:
        np.testing.assert_allclose(image.affine[:3], affine[:3] * image.unit_mm, rtol=1e-6)
    with np.errstate(all="ignore"):
        values = _values(content).reshape(image.data.shape, order="F")
        usable = np.abs(values) <= 1e12
    if reader == "labels":
        assert np.array_equal(image.data, np.round(np.where(np.isnan(values), 0, values)))
    else:
        np.testing.assert_allclose(image.data, np.where(usable, values, 0), rtol=1e-6)
    sizes = np.linalg.norm(image.affine[:3, :3], axis=0)
    assert ((sizes > 0.049) & (sizes < 15.1)).all()
    assert len(image.orientation) == 3
    assert np.allclose(image.spacing, sizes, rtol=2e-3)


def _check_written(image: InputImage) -> None:
    """A label map for the image can be written, and read by nibabel with all its matrices."""
    written = labels_image(np.zeros(image.data.shape, np.uint8), image, "x")
    again = type(written).from_bytes(written.to_bytes())
    np.testing.assert_allclose(again.affine[:3] * image.unit_mm, image.affine[:3], rtol=1e-5)
    again.get_qform(coded=True)


def _attempt(path: Path, reader: str) -> tuple[InputImage | str, int]:
    """Return what a reader makes of a file, or its refusal, and the most memory it took."""
    tracemalloc.start()
    try:
        return READERS[reader](path), tracemalloc.get_traced_memory()[1]
    except ImageError as error:
        return str(error), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("reader", READERS)
def test_each_generated_file_is_read_rightly_or_refused(tmp_path: Path, reader: str) -> None:
    load_image(write_image(tmp_path / "first.nii"))  # what is imported takes memory once
    outcomes = {"read": 0, "refused": 0}
    for name, stored in cases(seed=len(reader), rounds=ROUNDS):
        path = tmp_path / name
        path.write_bytes(stored)
        found, memory = _attempt(path, reader)
        path.unlink()
        assert memory < MOST_MEMORY, name
        if isinstance(found, str):
            assert name in found
            outcomes["refused"] += 1
        else:
            _check_read(stored, reader, found)
            _check_written(found)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100


@pytest.mark.parametrize("version", [1, 2])
def test_a_sound_file_is_read_as_nibabel_reads_it(tmp_path: Path, version: int) -> None:
    chance = random.Random(version)
    for number in range(40):
        path = tmp_path / f"{number}.nii"
        path.write_bytes(sound(chance, version))
        reference = nib.load(path)
        if reference.get_data_dtype().kind == "c":
            with pytest.raises(ImageError, match="complex"):
                load_image(path)
            continue
        image = load_image(path)
        expected = np.asarray(reference.dataobj).astype(np.float32)
        assert np.array_equal(image.data, expected.reshape(image.data.shape))
        assert np.array_equal(image.affine, reference.affine)
