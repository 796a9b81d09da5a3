"""The benchmark of convolutions: the middle tile of an image, and whole processes in turns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks import convolutions
from benchmarks.convolutions import (
    compare_processes,
    differences,
    middle_tile,
    print_processes,
)
from benchmarks.speed import Runs
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.openvino_engine import saves_products
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


def test_processes_take_turns_and_the_first_round_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ways = []

    def measure(words: Sequence[str], runs: Runs, environment: Mapping[str, str]) -> None:
        ways.append(words[3])
        runs.wall.append(100.0 if len(ways) <= 2 else 20.0 if words[3] == "with" else 30.0)
        runs.cpu.append(40.0)
        assert "cache" in environment["SCT_ROOTLETS_CACHE"]

    monkeypatch.setattr(convolutions, "measure", measure)
    print_processes(compare_processes(tmp_path, tmp_path / "image.nii.gz", 2, 1))
    assert ways == ["without", "with"] * 3
    assert "| with | 20.0 | 1.50 | 40.0 | 1.00 |" in capsys.readouterr().out


def test_the_child_runs_without_when_told_to() -> None:
    script = convolutions.PROCESS.replace("main())", "openvino_engine.saves_products('f32'))")
    codes = {
        way: subprocess.run([sys.executable, "-c", script, way], check=False).returncode
        for way in ("with", "without")
    }
    assert codes == {"with": saves_products("f32"), "without": 0}
