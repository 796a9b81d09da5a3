"""The benchmark of one tile looks at the middle of an image, and where labels are in doubt."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.convolutions import differences, middle_tile
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED


def test_differences_are_told_at_most_and_where_a_label_is_in_doubt() -> None:
    reference = np.array([[5.0, 0.0, 0.0], [0.0, 0.5, 5.0]]).reshape(2, 3, 1, 1)
    logits = reference.copy()
    logits[0, 0], logits[1, 1] = 5.4, 0.7
    most, mean = differences(logits, reference)
    assert (most, mean) == pytest.approx((0.4, 0.1)), "one of the middle voxel's two is off by 0.2"
    assert differences(logits[:, :1], reference[:, :1]) == (pytest.approx(0.4), None)


def test_the_middle_tile_of_an_image_holds_what_is_in_its_middle(tmp_path: Path) -> None:
    folder = read_model_folder(next((BUNDLED / "starter").glob("nnUNetTrainer*")))
    shape = np.array([100, 90, 200])
    data = np.random.default_rng(0).uniform(1, 2, shape).astype(np.float32)
    data[tuple(shape // 2)] = 50
    nib.save(nib.Nifti1Image(data, np.diag([0.8, 0.8, 0.8, 1])), tmp_path / "i.nii.gz")
    tile = middle_tile(folder, tmp_path / "i.nii.gz")
    assert list(tile.shape) == folder.configuration["patch_size"]
    brightest = np.unravel_index(tile.argmax(), tile.shape)
    assert np.abs(np.array(brightest) - np.array(tile.shape) / 2).max() <= 1
