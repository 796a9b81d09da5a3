"""Finding, verifying and listing the models on this machine."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from model_zips import TRAINER, make_release, make_task, model_zip, write_model, write_zip
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.install import install
from sct_rootlets_task.store import (
    InstalledModel,
    find_installed,
    find_trainer_folder,
    list_models,
    read_source,
    verify,
)
from sct_rootlets_task.tasks import BUNDLED, ROOTLETS, STARTER, TASKS

URL = "https://models.invalid/m.zip"
SLOT = "model_fake_r1"
RELEASE = make_release("r1", URL)
TASK = make_task(RELEASE)


def _source(folder: Path, **content: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "source.json").write_text(json.dumps(content))


@pytest.fixture
def installed(tmp_path: Path) -> InstalledModel:
    release = make_release("r1", str(write_zip(tmp_path / "m.zip", model_zip())))
    return install(make_task(release), release, tmp_path)


def test_nothing_is_found_in_a_root_that_does_not_exist(tmp_path: Path) -> None:
    assert find_installed(TASK, RELEASE, tmp_path / "none") is None
    assert list(tmp_path.iterdir()) == []


def test_a_built_in_release_is_always_there(tmp_path: Path) -> None:
    model = find_installed(ROOTLETS, STARTER, tmp_path)
    assert model is not None
    assert (model.name, model.builtin, model.custom) == ("starter", True, False)
    assert model.path.parent == BUNDLED / "starter"


def test_a_model_without_a_record_works_and_its_origin_is_unknown(tmp_path: Path) -> None:
    trainer = write_model(tmp_path / SLOT)
    assert find_installed(TASK, RELEASE, tmp_path) == InstalledModel(trainer, RELEASE, "r1")


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", "7", '{"model_urls": 3}', '{"files": [1]}'])
def test_a_record_that_cannot_be_read_is_no_record(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = write_model(tmp_path / SLOT)
    (tmp_path / SLOT / "source.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        model = find_installed(TASK, RELEASE, tmp_path)
    assert model == InstalledModel(trainer, RELEASE, "r1")
    assert "where the model came from is unknown" in caplog.text


@pytest.mark.parametrize(
    ("urls", "expected"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ({"x": ["a"], "y": "b"}, ("a", "b")), (None, ())],
)
def test_the_urls_of_a_record_come_in_each_form_of_sct(
    urls: object, expected: tuple[str, ...], tmp_path: Path
) -> None:
    _source(tmp_path, model_urls=urls)
    source = read_source(tmp_path)
    assert source is not None
    assert source.urls == expected


@pytest.mark.parametrize("custom", [False, True])
def test_a_model_that_sct_installed_is_found_by_its_url(custom: bool, tmp_path: Path) -> None:
    trainer = write_model(tmp_path / "model_fake")
    _source(tmp_path / "model_fake", model_name="model_fake", model_urls=URL, custom=custom)
    found = find_installed(TASK, RELEASE, tmp_path)
    assert found == InstalledModel(trainer, RELEASE, "r1", (URL,))
    other = make_release("r2", "https://models.invalid/other.zip")
    assert find_installed(TASK, other, tmp_path) is None


def test_the_releases_own_folder_comes_before_that_of_sct(tmp_path: Path) -> None:
    write_model(tmp_path / "model_fake")
    _source(tmp_path / "model_fake", model_urls=URL, custom=False)
    own = write_model(tmp_path / SLOT)
    found = find_installed(TASK, RELEASE, tmp_path)
    assert found is not None
    assert found.path == own


def test_an_unknown_model_in_the_folder_of_sct_is_not_taken(tmp_path: Path) -> None:
    write_model(tmp_path / "model_fake")
    assert find_installed(TASK, RELEASE, tmp_path) is None


@pytest.mark.parametrize("lost", ["plans.json", "dataset.json", "fold_all/checkpoint_final.pth"])
def test_an_incomplete_model_is_not_found(lost: str, tmp_path: Path) -> None:
    (write_model(tmp_path / SLOT) / lost).unlink()
    assert find_installed(TASK, RELEASE, tmp_path) is None


def test_a_model_that_lost_a_recorded_file_is_not_found(tmp_path: Path) -> None:
    write_model(tmp_path / SLOT)
    _source(tmp_path / SLOT, files={f"{TRAINER}/fold_1/checkpoint_final.pth": "0" * 64})
    assert find_installed(TASK, RELEASE, tmp_path) is None


def test_a_model_moved_aside_by_a_killed_swap_is_found(tmp_path: Path) -> None:
    aside = tmp_path / ".installing" / SLOT
    write_model(aside / "trash-1")
    write_model(aside / "incoming-1")
    assert find_installed(TASK, RELEASE, tmp_path) is None
    trainer = write_model(aside / "previous-1")
    found = find_installed(TASK, RELEASE, tmp_path)
    assert found is not None
    assert found.path == trainer


def test_a_swap_that_ends_while_one_looks_yields_the_new_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / ".installing" / SLOT / "previous-1"
    write_model(aside)

    def swap_ends(_: float) -> None:
        write_model(tmp_path / SLOT)

    monkeypatch.setattr("sct_rootlets_task.store.time.sleep", swap_ends)
    found = find_installed(TASK, RELEASE, tmp_path)
    assert found is not None
    assert found.path == tmp_path / SLOT / TRAINER


def test_the_trainer_folder_is_found_from_itself_and_from_its_parent(tmp_path: Path) -> None:
    trainer = write_model(tmp_path / "m")
    assert find_trainer_folder(trainer) == trainer
    assert find_trainer_folder(tmp_path / "m") == trainer


def test_two_trainer_folders_are_one_too_many(tmp_path: Path) -> None:
    write_model(tmp_path).rename(tmp_path / "nnUNetTrainer_other")
    write_model(tmp_path)
    with pytest.raises(ModelError, match=f"found {TRAINER}, nnUNetTrainer_other"):
        find_trainer_folder(tmp_path)


def test_what_is_missing_in_a_folder_is_named(tmp_path: Path) -> None:
    trainer = write_model(tmp_path)
    (trainer / "dataset.json").unlink()
    (trainer / "fold_all" / "checkpoint_final.pth").unlink()
    with pytest.raises(ModelError, match=r"no dataset\.json and no fold_\*/checkpoint_final\.pth"):
        find_trainer_folder(tmp_path)
    with pytest.raises(ModelError, match="found none"):
        find_trainer_folder(tmp_path / "nowhere")


def test_an_intact_model_has_no_problems(installed: InstalledModel) -> None:
    assert verify(installed.path) == []
    assert verify(installed.path.parent) == []


def test_every_altered_lost_or_added_file_is_a_problem(installed: InstalledModel) -> None:
    plans, weights = installed.path / "plans.json", installed.path / "fold_all/checkpoint_final.pth"
    plans.write_text("{}")
    weights.unlink()
    (installed.path / "fold_0").mkdir()
    (installed.path / "fold_0" / "checkpoint_final.pth").write_text("other")
    problems = sorted(verify(installed.path.parent))
    assert [problem.split(": ")[0] for problem in problems] == [
        str(installed.path / "fold_0" / "checkpoint_final.pth"),
        str(weights),
        str(plans),
    ]
    assert "not in the archive" in problems[0]
    assert "missing" in problems[1]
    assert "expected SHA-256" in problems[2]


def test_one_flipped_bit_is_found(installed: InstalledModel) -> None:
    weights = installed.path / "fold_all" / "checkpoint_final.pth"
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    assert len(verify(installed.path)) == 1


def test_models_without_checksums_are_said_to_be_unverifiable(tmp_path: Path) -> None:
    folder = tmp_path / "model_fake"
    trainer = write_model(folder)
    assert "cannot be verified" in verify(trainer)[0]
    _source(folder, model_name="model_fake", model_urls=URL, custom=False)
    assert "cannot be verified" in verify(folder)[0]
    assert "cannot be verified" in verify(BUNDLED / "starter")[0]


def test_all_releases_of_all_tasks_are_listed(tmp_path: Path) -> None:
    write_model(tmp_path / "model_seg_spinal_rootlets_nnunet_r20240129")
    rows = list_models(TASKS, tmp_path)
    assert [(row.task.name, row.release.tag) for row in rows] == [
        (task.name, tag) for task in TASKS.values() for tag in task.tags
    ]
    there = {row.release.tag for row in rows if row.model}
    assert there == {"starter", "r20240129"}
