"""Model folders are read as they are, and refused when they cannot be run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_model
from sct_rootlets_task.errors import ModelError, OutOfMemoryError, UsageError
from sct_rootlets_task.inference.failures import fitting
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.torch_engine import NNUNetNetwork, choose_device


def _folder(
    parent: Path, folds: tuple[str, ...] = ("all",), name: str = tiny_model.TRAINER
) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(tiny_model.plans()))
    (folder / "dataset.json").write_text(json.dumps(tiny_model.dataset()))
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        (folder / f"fold_{fold}" / "checkpoint_final.pth").write_bytes(b"")
    return folder


def _edit(folder: Path, name: str, **changes: Any) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))


def test_everything_is_read_from_the_folder(tmp_path: Path) -> None:
    folder = read_model_folder(_folder(tmp_path))
    assert folder.orientation == "RPI"
    assert folder.configuration_name == "3d_fullres"
    assert folder.classes["lvl9"] == 9
    assert [path.parent.name for path in folder.checkpoints] == ["fold_all"]


@pytest.mark.parametrize(
    ("folds", "used"),
    [
        (("all",), ["fold_all"]),
        (("0", "1", "10", "2"), ["fold_0", "fold_1", "fold_2", "fold_10"]),
        (("all", "0"), ["fold_all"]),
    ],
)
def test_fold_all_stands_alone_and_numbered_folds_are_all_used(
    tmp_path: Path, folds: tuple[str, ...], used: list[str]
) -> None:
    folder = read_model_folder(_folder(tmp_path, folds))
    assert [path.parent.name for path in folder.checkpoints] == used


def test_the_final_checkpoint_comes_before_the_best(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "fold_all" / "checkpoint_best.pth").write_bytes(b"")
    assert read_model_folder(folder).checkpoints[0].name == "checkpoint_final.pth"
    (folder / "fold_all" / "checkpoint_final.pth").unlink()
    assert read_model_folder(folder).checkpoints[0].name == "checkpoint_best.pth"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "plans.json").unlink(), "no readable plans.json"),
        (lambda f: (f / "dataset.json").write_text("{"), "no readable dataset.json"),
        (lambda f: (f / "dataset.json").write_text("[]"), "JSON object"),
        (lambda f: _edit(f, "dataset.json", labels={"background": 0, "a": [1, 2]}), "Region"),
        (lambda f: _edit(f, "dataset.json", channel_names={"0": "a", "1": "b"}), "one input"),
        (lambda f: _edit(f, "plans.json", configurations={}), "one configuration"),
        (lambda f: (f / "fold_all" / "checkpoint_final.pth").unlink(), "none"),
    ],
)
def test_a_folder_that_cannot_be_run_is_refused(tmp_path: Path, spoil: Any, words: str) -> None:
    folder = _folder(tmp_path)
    spoil(folder)
    with pytest.raises(ModelError, match=words):
        read_model_folder(folder)


def test_a_fold_without_weights_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path, ("0", "1"))
    (folder / "fold_1" / "checkpoint_final.pth").unlink()
    with pytest.raises(ModelError, match="every fold"):
        read_model_folder(folder)


def test_an_unknown_device_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cuda, mps"):
        choose_device("tpu")


def test_a_device_that_is_not_there_is_refused_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="-device cuda"):
        choose_device("cuda")
    assert choose_device("cpu") == "cpu"


@pytest.mark.network
@pytest.mark.parametrize(
    "change",
    [
        {"network_class_name": "os.system"},
        {"arch_kwargs": {**tiny_model.architecture()["arch_kwargs"], "nonlin": "os.system"}},
    ],
)
def test_plans_that_name_foreign_code_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tiny_model.write_model(tmp_path)
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["architecture"].update(change)
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ModelError, match="could run"):
        NNUNetNetwork(read_model_folder(folder))


@pytest.mark.network
def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = tiny_model.write_model(tmp_path)
    plans = json.loads((folder / "plans.json").read_text())
    kwargs = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kwargs["features_per_stage"] = [4, 8, 16]
    (folder / "plans.json").write_text(json.dumps(plans))
    with pytest.raises(ModelError, match="do not fit"):
        NNUNetNetwork(read_model_folder(folder))


@pytest.mark.network
def test_a_trainer_class_beside_the_model_is_never_executed(tmp_path: Path) -> None:
    folder = tiny_model.write_model(tmp_path)
    (folder / "trainer_class.py").write_text("raise SystemExit('executed')")
    network = NNUNetNetwork(read_model_folder(folder))
    assert network.predict(np.ones((8, 8, 8), np.float32), (1, 1, 1)).shape == (8, 8, 8)


@pytest.mark.network
def test_an_image_smaller_than_the_patch_is_segmented(tmp_path: Path) -> None:
    network = NNUNetNetwork(read_model_folder(tiny_model.write_model(tmp_path)))
    volume = np.random.default_rng(0).random((5, 4, 6)).astype(np.float32)
    assert network.predict(volume, (1.0, 1.0, 1.0)).shape == (5, 4, 6)


@pytest.mark.network
def test_each_fold_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model.write_model(tmp_path, folds=("0", "1", "2"))
    network = NNUNetNetwork(read_model_folder(folder))
    predictor, runs = network._predictor, []
    original = predictor.predict_sliding_window_return_logits
    monkeypatch.setattr(
        predictor,
        "predict_sliding_window_return_logits",
        lambda data: runs.append(1) or original(data),
    )
    network.predict(np.random.default_rng(0).random((8, 8, 8)).astype(np.float32), (1, 1, 1))
    assert len(runs) == 3


ENGINES = ("openvino", "torch", "nnunet")
CUBE = np.random.default_rng(0).normal(100, 20, (20, 24, 28)).astype(np.float32)


def _labels(folder: ModelFolder, engine: str, volume: np.ndarray = CUBE) -> np.ndarray:
    network = load_network(folder, Options(engine=engine, device="cpu"))
    return network.predict(volume, (0.9, 1.0, 1.1))


@pytest.mark.parametrize(
    "spacing", [[100.0, 100.0, 100.0], [100.0, 1.0, 1.0], [0.9, 1.0, 60.0], [40.0, 48.0, 60.0]]
)
@pytest.mark.parametrize("cropped", [False, True])
def test_every_engine_takes_one_voxel_at_least(
    spacing: list[float], cropped: bool, tmp_path: Path
) -> None:
    path = tiny_model.write_model(tmp_path)
    (path / "plans.json").write_text(json.dumps(tiny_model.plans(spacing=spacing)))
    volume = CUBE.copy()
    if cropped:
        volume[:8] = 0
        volume[..., 5:] = 0
    folder = read_model_folder(path)
    found = {engine: _labels(folder, engine, volume) for engine in ENGINES}
    assert found["nnunet"].shape == CUBE.shape
    for engine in ENGINES:
        assert np.mean(found[engine] == found["openvino"]) > 0.999, engine


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("patch", [[10, 16, 16], [24, 16, 18], [9, 9, 9]])
def test_shapes_that_do_not_go_together_are_one_error(
    engine: str, patch: list[int], tmp_path: Path
) -> None:
    folder = read_model_folder(tiny_model.write_model(tmp_path))
    wrong = replace(folder, configuration={**folder.configuration, "patch_size": patch})
    with pytest.raises(ModelError, match="cannot be built or run"):
        _labels(wrong, engine)


def test_too_little_memory_is_not_blamed_on_the_model(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="-device cpu"), fitting(tmp_path):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_background_in_capitals_gives_the_same_labels(engine: str, tmp_path: Path) -> None:
    path = tiny_model.write_model(tmp_path)
    wanted = _labels(read_model_folder(path), engine)
    dataset = json.loads((path / "dataset.json").read_text().replace("background", "Background"))
    (path / "dataset.json").write_text(json.dumps(dataset))
    assert np.array_equal(_labels(read_model_folder(path), engine), wanted)
