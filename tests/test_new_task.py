"""A new task is one entry of the registry: help, install, inference and output follow from it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from model_zips import TRAINER, model_zip
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.levels.sources import ByMap
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.postprocess import HookContext
from sct_rootlets_task.tasks import Release, Task, TaskRegistry
from volumes import write_image


def drop_the_last_level(labels: np.ndarray, context: HookContext) -> np.ndarray:
    return np.where(labels == context.levels[-1], 0, labels).astype(np.uint8)


LUMBAR = Task(
    name="lumbar_rootlets",
    description="Lumbar rootlets of a test",
    long_description="Segments the lumbar rootlets of a test.",
    url="https://example.org/lumbar",
    model_name="model_lumbar",
    releases=(Release("r1", "First lumbar model.", ("https://example.invalid/lumbar.zip",)),),
    default="r1",
    contrasts=("t2",),
    level_source=ByMap(tuple((i, 19 + i) for i in range(1, 9))),
    levels=tuple(range(20, 28)),
    hooks=(drop_the_last_level,),
    suffix="_lumbar",
    group="Lumbar",
)
REGISTRY = TaskRegistry([ROOTLETS, LUMBAR])


def run(*words: object) -> int:
    return sct_deepseg.main([str(word) for word in words], tasks=REGISTRY, load=Loader())


def archive(folder: Path) -> Path:
    labels = {"background": 0, **{f"root{i}": i for i in range(1, 9)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}}
    extra = {f"{TRAINER}/dataset.json": json.dumps(dataset).encode()}
    path = folder / "lumbar.zip"
    path.write_bytes(model_zip(extra=extra, labels=labels))
    return path


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-h",), "lumbar_rootlets"),
        (("-list-tasks",), "Lumbar rootlets of a test"),
        (("-task-details",), "First lumbar model."),
        (("lumbar_rootlets", "-h"), "T12–S2"),
    ],
)
def test_help_shows_it(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    assert run(*words) == 0
    assert text in capsys.readouterr().out


def test_it_installs_and_runs_and_writes_its_own_levels(tmp_path: Path) -> None:
    assert run("lumbar_rootlets", "-install", "-custom-url", archive(tmp_path)) == 0
    data = np.full((9, 8, 24), 100, np.int16)
    for level in range(1, 9):
        data[2:4, 2:4, 2 * level : 2 * level + 2] = level
    image = write_image(tmp_path / "a.nii.gz", data)
    assert run("lumbar_rootlets", "-i", image) == 0
    labels = np.asarray(nib.load(tmp_path / "a_lumbar.nii.gz").dataobj)
    assert set(np.unique(labels)) == {0, *range(20, 27)}, "the hook drops the last level"
    sidecar = json.loads((tmp_path / "a_lumbar.json").read_text())
    assert sidecar["Task"] == "lumbar_rootlets"
    assert sidecar["Model"]["Custom"] is True
    assert sidecar["PostProcessing"][-1] == {"Name": "drop_the_last_level", "VoxelsChanged": 8}
    assert list(sidecar["LevelVoxels"])[:2] == ["T12", "L1"]


def test_the_legacy_form_knows_it_too(tmp_path: Path) -> None:
    assert run("-install-task", "lumbar_rootlets", "-custom-url", archive(tmp_path)) == 0
    data = np.full((9, 8, 24), 100, np.int16)
    data[2:4, 2:4, 4:6] = 3
    image = write_image(tmp_path / "a.nii.gz", data)
    assert run("-task", "lumbar_rootlets", "-i", image, "-o", tmp_path / "o.nii.gz") == 0
    assert set(np.unique(np.asarray(nib.load(tmp_path / "o.nii.gz").dataobj))) == {0, 22}
