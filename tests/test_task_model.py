"""A model that cannot be run takes no place; one that can with torch does where nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saved
import small_model
import tiny_model
from model_zips import (
    LABELS,
    LAYOUTS,
    TRAINER,
    make_release,
    make_task,
    model_files,
    model_zip,
    pack,
    small_plans,
    weights_of,
    write_zip,
)
from sct_rootlets_task.cli.sct_rootlets import main as sct_rootlets
from sct_rootlets_task.errors import ArchiveError, MissingDependencyError
from sct_rootlets_task.inference import torch_engine
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.models.install import install, install_zip
from sct_rootlets_task.models.installed import InstalledModel, find_installed, verify
from sct_rootlets_task.models.resolve import verify_model
from sct_rootlets_task.models.task_model import dry_build, read_task_model
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.sct_plugin import installation
from sct_rootlets_task.sct_plugin.task_tables import Entry

TASK = make_task(make_release("r1"))
RELEASE = TASK.release()
SLOT = "model_fake_r1"
Files = dict[str, bytes]


def _dataset(files: Files, **changes: Any) -> Files:
    return files | {"dataset.json": _changed(files["dataset.json"], changes)}


def _changed(data: bytes, changes: dict[str, Any]) -> bytes:
    changed = {**json.loads(data), **changes}
    return json.dumps({key: value for key, value in changed.items() if value is not None}).encode()


def _plans(files: Files, **changes: Any) -> Files:
    """Change the one configuration of the plans."""
    plans = json.loads(files["plans.json"])
    plans["configurations"]["3d_fullres"] |= changes
    return files | {"plans.json": json.dumps(plans).encode()}


def _weights(files: Files, **changes: Any) -> Files:
    configuration = small_plans()["configurations"]["3d_fullres"]
    content = {"network_weights": small_model.weights(configuration, 2), **changes}
    data = saved.packed(saved.members(small_model.checkpoint(**content)))
    return files | {"fold_all/checkpoint_final.pth": data}


def _folds(**last: bytes) -> Files:
    """Return two folds that are done and a third one that is not."""
    return model_files("new", folds=["fold_0", "fold_1"]) | {
        f"fold_2/{name.replace('__', '.')}": data for name, data in last.items()
    }


NEW = model_files("new")
NAN = small_model.weights(small_plans()["configurations"]["3d_fullres"], 2)
NAN = {name: np.where(array > 0, np.nan, array).astype(np.float32) for name, array in NAN.items()}
USELESS: dict[str, tuple[Files, str]] = {
    "two channels": (_dataset(NEW, channel_names={"0": "T1w", "1": "T2w"}), "one input channel"),
    "two modalities": (
        _dataset(NEW, channel_names=None, modality={"0": "T1w", "1": "T2w"}),
        "one input channel",
    ),
    "regions": (_dataset(NEW, labels={"background": 0, "all": [1, 2], "lvl2": 1}), "Region-based"),
    "cascade": (_plans(NEW, previous_stage="3d_lowres"), "second stage of a cascade"),
    "another task": (model_files("new", labels={"background": 0, "tumor": 1}), "'tumor'"),
    "levels of another task": (
        model_files("new", labels={"background": 0, "L2": 1}),
        "belongs to another task",
    ),
    "a level twice": (
        model_files("new", labels={"background": 0, "lvl2": 1, "C2": 2}),
        "one class a level",
    ),
    "more classes than outputs": (
        _dataset(NEW, labels={**LABELS, "lvl3": 2}),
        "do not fit the network",
    ),
    "fewer classes than outputs": (
        _dataset(model_files("new", labels={**LABELS, "lvl3": 2}), labels=LABELS),
        "do not fit the network",
    ),
    "ignore is not last": (
        _dataset(NEW, labels={"background": 0, "ignore": 1, "lvl2": 2}),
        "labels",
    ),
    "fold without a file": (_folds(**{"": b""}), "in every fold"),
    "fold with a log": (_folds(training_log__txt=b"epoch 3"), "in every fold"),
    "fold with the latest epoch": (
        _folds(checkpoint_latest__pth=NEW["fold_all/checkpoint_final.pth"]),
        "in every fold",
    ),
    "fold with its best epoch only": (
        _folds(checkpoint_best__pth=NEW["fold_all/checkpoint_final.pth"]),
        "in every fold",
    ),
    "fold that broke off": (_folds(checkpoint_final__pth=b"PK\3\4"), "cannot be read"),
    "weights of text": (NEW | {"fold_all/checkpoint_final.pth": b"weights"}, "cannot be read"),
    "weights that are none": (_weights(NEW, network_weights={"a": np.zeros(2, np.float32)}), "fit"),
    "weights not numbers": (_weights(NEW, network_weights=NAN), "not all finite"),
    "weights of another configuration": (
        _weights(NEW, init_args={"configuration": "3d_lowres"}),
        "3d_lowres",
    ),
    "a wider network": (
        _plans(NEW, **tiny_model.plans()["configurations"]["3d_fullres"]),
        "do not fit the network",
    ),
    "patch that cannot be halved": (_plans(NEW, patch_size=[3, 4, 4]), "patch_size"),
    "foreign code": (_plans(NEW, preprocessor_name="MyPreprocessor"), "preprocessor_name"),
    "no orientation": (_dataset(NEW, image_orientation="XYZ"), "orientation"),
    "no configuration": (NEW | {"plans.json": b'{"configurations": {}}'}, "configurations"),
}  # fmt: skip


def _zip(path: Path, files: Files, prefix: str = f"{TRAINER}/") -> str:
    return str(write_zip(path, pack({f"{prefix}{name}": data for name, data in files.items()})))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a model root with a model that works."""
    archive = write_zip(tmp_path / "old.zip", model_zip("old"))
    install(TASK, RELEASE, tmp_path / "root", urls=[str(archive)])
    return tmp_path / "root"


def _found(root: Path) -> str | None:
    model = find_installed(TASK, RELEASE, root)
    if model is None:
        return None
    assert verify_model(TASK, model) == []
    return weights_of(model.path)


@pytest.mark.parametrize(("files", "reason"), USELESS.values(), ids=USELESS)
def test_a_model_that_cannot_be_run_leaves_the_one_that_works(
    files: Files, reason: str, old: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match=reason) as error:
        install(TASK, RELEASE, old, urls=[_zip(tmp_path / "new.zip", files)])
    text = str(error.value)
    assert text.startswith("The model was not installed, because it cannot be run here: ")
    assert "incoming-" not in text, "the folder is gone"
    assert "nstall the model again" not in text
    assert _found(old) == "old"
    assert [path.name for path in (old / ".installing" / SLOT).iterdir()] == ["lock"]


@pytest.mark.parametrize(("files", "reason"), USELESS.values(), ids=USELESS)
def test_a_model_that_cannot_be_run_is_not_installed_at_all(
    files: Files, reason: str, tmp_path: Path
) -> None:
    archive = Path(_zip(tmp_path / "new.zip", files))
    with pytest.raises(ArchiveError, match=reason):
        install_zip(TASK, archive, tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".installing"]


@pytest.mark.parametrize(("files", "reason"), USELESS.values(), ids=USELESS)
def test_verify_says_why_a_model_that_is_there_cannot_be_run(
    files: Files,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = Path(_zip(tmp_path / "new.zip", files))
    monkeypatch.setattr("sct_rootlets_task.models.install.dry_build", lambda *arguments: None)
    task = TASKS["rootlets"]
    model = install(task, task.release(), tmp_path / "root", urls=[str(archive)])
    assert verify(model.path) == [], "the files are those of the archive"
    assert sct_rootlets(["models", "verify", "-model-dir", str(tmp_path / "root")]) == 1
    shown = capsys.readouterr()
    assert "the model cannot be run" in shown.err
    assert "is intact" not in shown.out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_that_can_be_run_is_installed(layout: str, old: Path, tmp_path: Path) -> None:
    files = model_files("new", folds=["fold_0", "fold_3"])
    install(TASK, RELEASE, old, urls=[_zip(tmp_path / "new.zip", files, LAYOUTS[layout])])
    model = find_installed(TASK, RELEASE, old)
    assert model is not None
    assert verify_model(TASK, model) == []


@pytest.mark.parametrize("order", [("ignore",), ("lvl3", "ignore"), ("lvl3", "lvl4", "ignore")])
def test_ignore_is_no_class(order: tuple[str, ...], tmp_path: Path) -> None:
    labels = {**LABELS, **{name: 2 + number for number, name in enumerate(order)}}
    archive = _zip(tmp_path / "new.zip", model_files("new", labels=labels))
    model = install(TASK, RELEASE, tmp_path / "root", urls=[archive])
    known = read_task_model(TASK, RELEASE, model.path)
    assert "ignore" not in known.folder.classes
    assert known.levels == {number: number + 1 for number in range(1, len(labels) - 1)}


def _unusual(files: Files) -> Files:
    """Return the model with an activation that is only built by torch."""
    plans = json.loads(files["plans.json"])
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network |= {"nonlin": "torch.nn.ReLU"}
    return files | {"plans.json": json.dumps(plans).encode()}


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingDependencyError("Install them with: pip install 'sct-rootlets-task[torch]'")

    monkeypatch.setattr(torch_engine, "import_torch", missing)


@pytest.mark.usefixtures("no_torch")
def test_without_torch_an_unusual_model_takes_no_other_s_place(old: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="pip install") as error:
        install(TASK, RELEASE, old, urls=[_zip(tmp_path / "new.zip", _unusual(NEW))])
    assert "cannot be run here" in str(error.value)
    assert _found(old) == "old"


@pytest.mark.usefixtures("no_torch")
def test_without_torch_an_unusual_model_fills_an_empty_place_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = _zip(tmp_path / "new.zip", _unusual(NEW))
    model = install(TASK, RELEASE, tmp_path / "root", urls=[archive])
    assert "cannot be run yet" in caplog.text
    assert "pip install" in caplog.text
    assert any("pip install" in problem for problem in verify_model(TASK, model))
    caplog.clear()
    install(TASK, RELEASE, tmp_path / "root", urls=[archive])
    assert "cannot be run yet" in caplog.text, "what was there could not be run either"


@pytest.mark.usefixtures("no_torch")
def test_without_torch_a_broken_unusual_model_is_refused(tmp_path: Path) -> None:
    files = _unusual(_dataset(NEW, labels={**LABELS, "lvl3": 2}))
    with pytest.raises(ArchiveError, match="do not fit the network"):
        install(TASK, RELEASE, tmp_path / "root", urls=[_zip(tmp_path / "new.zip", files)])


def test_with_torch_an_unusual_model_is_built_and_installed(old: Path, tmp_path: Path) -> None:
    install(TASK, RELEASE, old, urls=[_zip(tmp_path / "new.zip", _unusual(NEW))])
    assert _found(old) == "new"


def test_the_built_in_models_pass(tmp_path: Path) -> None:
    for task in TASKS.values():
        release = task.release("starter")
        model = find_installed(task, release, tmp_path)
        assert isinstance(model, InstalledModel)
        dry_build(task, release, model.path)


def _by_sct(folder: Path, files: Files, prefix: str) -> Callable[[], None]:
    def install_model() -> None:
        for name, data in files.items():
            path = folder / f"{prefix}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not name.endswith("/"):
                path.write_bytes(data)
        (folder / "source.json").write_text('{"model_urls": "https://models.invalid/m.zip"}')

    return install_model


@pytest.mark.parametrize("prefix", [f"{TRAINER}/", ""])
@pytest.mark.parametrize("custom", ["zip", "SCT"])
@pytest.mark.parametrize("kind", ["two channels", "fold with a log", "another task"])
def test_inside_sct_a_model_that_cannot_be_run_leaves_the_one_that_works(
    kind: str, custom: str, prefix: str, tmp_path: Path
) -> None:
    files, reason = USELESS[kind]
    entry, folder = Entry("fake", "model_fake", TASK, RELEASE), tmp_path / "data" / "model_fake"
    installation.install(entry, folder, [], _by_sct(folder, model_files("old"), f"{TRAINER}/"))
    urls = [_zip(tmp_path / "new.zip", files, prefix)] if custom == "zip" else []
    with pytest.raises(ArchiveError, match=reason) as error:
        installation.install(entry, folder, urls, _by_sct(folder, files, prefix))
    assert "cannot be run here" in str(error.value)
    assert weights_of(folder / TRAINER) == "old"


@pytest.mark.parametrize("engine", ["openvino", "nnunet"])
def test_a_model_with_ignore_gives_the_labels_of_the_same_model_without(
    engine: str, tmp_path: Path
) -> None:
    classes = small_model.LABELS
    volume = np.random.default_rng(0).normal(100, 30, (26, 18, 17)).astype(np.float32)
    found = []
    for name, labels in (("plain", classes), ("ignore", {**classes, "ignore": len(classes)})):
        trainer = small_model.write(tmp_path / name, dataset=small_model.dataset(labels))
        dry_build(TASK, None, trainer)
        folder = read_task_model(TASK, None, trainer).folder
        network = load_network(folder, Options(engine=engine, device="cpu"))
        found.append(network.predict(volume, (0.9, 1.0, 1.1)))
    assert np.array_equal(*found)
    assert set(np.unique(found[0])) <= set(classes.values())
