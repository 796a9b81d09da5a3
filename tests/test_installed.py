"""Finding, verifying and listing the models on this machine."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from model_zips import (
    TRAINER,
    deep_folder,
    make_release,
    make_task,
    model_zip,
    write_model,
    write_zip,
)
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference.trainer_folder import find_trainer_folder
from sct_rootlets_task.models.install import install
from sct_rootlets_task.models.installed import (
    InstalledModel,
    find_installed,
    hash_file,
    hash_files,
    list_models,
    read_source,
    verify,
)
from sct_rootlets_task.registry import ROOTLETS, STARTER, TASKS
from sct_rootlets_task.tasks import BUNDLED

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


WRONG: dict[str, object] = {
    "release a list": {"release": ["r1"]},
    "release a number": {"release": 1},
    "sha256 a number": {"sha256": 7},
    "sha256 a table": {"sha256": {}},
    "custom a text": {"custom": "false"},
    "custom a number": {"custom": 1},
    "urls a number": {"model_urls": 3},
    "urls true": {"model_urls": [True]},
    "urls too deep": {"model_urls": [[[[["a"]]]]]},
    "files a list": {"files": [1]},
    "files a text": {"files": "plans.json"},
    "a checksum a number": {"files": {"plans.json": 0}},
    "a file absolute": {"files": {"/etc/passwd": "0" * 64}},
    "a file above": {"files": {"../x": "0" * 64}},
    "a file above, later": {"files": {"a/../../x": "0" * 64}},
    "a file with a drive": {"files": {"C:x": "0" * 64}},
    "a file with backslashes": {"files": {"..\\x": "0" * 64}},
    "a file with a zero byte": {"files": {"a\0": "0" * 64}},
    "a file with an escape": {"files": {"\x1b[2J": "0" * 64}},
    "a file without a name": {"files": {"": "0" * 64}},
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_record_with_a_wrong_field_is_no_record_and_the_model_still_works(
    content: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = write_model(tmp_path / SLOT)
    _source(tmp_path / SLOT, **content)
    model = find_installed(TASK, RELEASE, tmp_path)
    assert model == InstalledModel(trainer, RELEASE, "r1")
    assert "where the model came from is unknown" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert "cannot be verified" in verify(trainer)[0]


@pytest.mark.parametrize(
    "data",
    [
        b'{"model_urls": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"a":' * 100_000,
        b"\xff\xfe{}",
        b'{"release": ' + b"1" * 10_000 + b"}",
        b" " * (9 << 20) + b"{}",
        b'{"release": "\\ud800", "custom": 0.5}',
    ],
    ids=["deep urls", "deep", "no UTF-8", "a long number", "long", "half a character"],
)
def test_a_record_that_no_parser_likes_is_no_record(
    data: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(tmp_path / SLOT)
    (tmp_path / SLOT / "source.json").write_bytes(data)
    assert read_source(tmp_path / SLOT) is None
    assert "where the model came from is unknown" in caplog.text
    assert find_installed(TASK, RELEASE, tmp_path) is not None


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_a_record_that_is_no_file_is_no_record(kind: str, tmp_path: Path) -> None:
    write_model(tmp_path / SLOT)
    path = tmp_path / SLOT / "source.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    assert find_installed(TASK, RELEASE, tmp_path) is not None


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_no_file_but_an_ordinary_one_is_hashed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(OSError, match=r"folder|ordinary"):
        hash_file(path)


def test_a_recorded_file_that_became_a_pipe_is_missing(installed: InstalledModel) -> None:
    plans = installed.path / "plans.json"
    plans.unlink()
    os.mkfifo(plans)
    assert any("plans.json" in problem for problem in verify(installed.path))


@pytest.mark.parametrize("depth", [10, 1200])
def test_no_folder_is_too_deep_to_be_looked_through(depth: int, tmp_path: Path) -> None:
    with deep_folder(tmp_path / "m", depth):
        (tmp_path / "m" / "file").write_text("")
        assert list(hash_files(tmp_path / "m")) == ["file"]


def test_a_record_in_the_trainer_folder_does_not_hide_that_of_the_installer(
    installed: InstalledModel,
) -> None:
    """An installation of before left such a file of the archive there."""
    _source(installed.path, files={"other": "0" * 64}, custom=True)
    (problem,) = verify(installed.path)
    assert problem == f"{installed.path / 'source.json'}: this file was not in the archive."
    assert verify(installed.path.parent) == [problem]


def test_a_record_beside_the_folds_speaks_of_them(tmp_path: Path) -> None:
    trainer = write_model(tmp_path / "m")
    _source(trainer, files=hash_files(trainer), model_urls=URL)
    assert verify(trainer) == []
    (trainer / "plans.json").write_text("{}")
    assert len(verify(trainer)) == 1


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

    monkeypatch.setattr("sct_rootlets_task.models.installed.time.sleep", swap_ends)
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


@pytest.mark.parametrize("lost", ["plans.json", "fold_all/checkpoint_final.pth", "source.json"])
def test_a_folder_s_name_is_shown_without_control_characters(
    lost: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "\u202egpj\x1b[2J"
    trainer = write_model(folder)
    if lost == "source.json":
        (folder / lost).write_text("{")
        read_source(folder)
        assert verify(folder)[0].isprintable()
        assert all(record.getMessage().isprintable() for record in caplog.records)
        assert caplog.records
        return
    (trainer / lost).unlink()
    with pytest.raises(ModelError) as raised:
        find_trainer_folder(folder)
    assert str(raised.value).isprintable()
