"""The tools from Python do what the commands do."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task
from sct_rootlets_task import check, relabel, segment, spinal_levels, split
from sct_rootlets_task.analysis.phantom import make_phantom, typical_bundles
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


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = sct_rootlets_task.nonsense
