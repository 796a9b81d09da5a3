"""From the user's choice to a model."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopback import Loopback, status, whole
from model_zips import (
    TRAINER,
    make_release,
    make_task,
    model_files,
    model_zip,
    pack,
    weights_of,
    write_model,
    write_zip,
)
from sct_rootlets_task.errors import (
    ArchiveError,
    DownloadError,
    InstallError,
    ModelError,
    ModelNotInstalledError,
    UsageError,
)
from sct_rootlets_task.models import resolve as module
from sct_rootlets_task.models.resolve import list_models, resolve
from sct_rootlets_task.registry import STARTER
from sct_rootlets_task.tasks import Release, Task

SLOT = "model_fake_r1"


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback() as loopback:
        yield loopback


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def _task(*urls: str, fallback: Release | None = STARTER) -> Task:
    return make_task(make_release("r1", *urls), make_release("r2", "/none.zip"), fallback=fallback)


def test_a_missing_default_model_is_installed_first(
    server: Loopback, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = _task(server.serve("m.zip", whole(model_zip())))
    with caplog.at_level(logging.INFO):
        resolved = resolve(task, None, root)
    assert (resolved.model.name, resolved.notice) == ("r1", None)
    assert "Model r1 is not installed. Installing it now..." in caplog.text
    assert resolve(task, None, root) == resolved
    assert server.count("m.zip") == 1


def test_an_installed_model_is_used_without_a_look_at_the_network(
    server: Loopback, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task(server.serve("m.zip", whole(model_zip())))
    resolve(task, None, root)
    server.requests.clear()
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    assert resolve(task, None, root).model.name == "r1"
    assert resolve(task, "r1", root, offline=True).model.name == "r1"
    assert server.requests == []


def test_without_the_published_model_the_starter_stands_in_loudly(
    server: Loopback, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.serve("m.zip", status(404))
    with caplog.at_level(logging.WARNING):
        resolved = resolve(_task(url), None, root)
    assert (resolved.model.name, resolved.model.builtin) == ("starter", True)
    assert resolved.notice is not None
    for text in ("NOT the published model r1", "'sct_deepseg fake -install'", "-custom-url"):
        assert text in resolved.notice
    assert f"{url}: HTTP 404" in caplog.text


def test_offline_the_starter_stands_in_without_an_attempt(
    server: Loopback, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task(server.serve("m.zip", whole(model_zip())))
    assert resolve(task, None, root, offline=True).model.name == "starter"
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    assert resolve(task, None, root).model.name == "starter"
    assert server.requests == []
    assert not root.exists()


def test_a_release_asked_for_by_name_has_no_stand_in(
    server: Loopback, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task(server.serve("m.zip", status(404)))
    with pytest.raises(DownloadError, match="HTTP 404"):
        resolve(task, "r1", root)
    with pytest.raises(ModelNotInstalledError, match="-install"):
        resolve(task, "r1", root, offline=True)
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    with pytest.raises(DownloadError, match="SCT_ROOTLETS_OFFLINE is set"):
        resolve(task, "r1", root)


def test_a_task_without_a_stand_in_reports_the_failed_download(
    server: Loopback, root: Path
) -> None:
    with pytest.raises(DownloadError, match="HTTP 404"):
        resolve(_task(server.serve("m.zip", status(404)), fallback=None), None, root)


def test_only_a_failed_download_calls_the_stand_in(
    server: Loopback, root: Path, tmp_path: Path
) -> None:
    evil = server.serve("m.zip", whole(pack({"../evil": b""})))
    with pytest.raises(ArchiveError):
        resolve(_task(evil), None, root)
    (tmp_path / "file").write_text("")
    good = server.serve("good.zip", whole(model_zip()))
    with pytest.raises(InstallError, match="-model-dir"):
        resolve(_task(good), None, tmp_path / "file")


def test_the_starter_is_never_used_without_a_notice(root: Path) -> None:
    resolved = resolve(_task(), "starter", root)
    assert resolved.model.name == "starter"
    assert resolved.notice is not None
    assert "NOT the published model r1" in resolved.notice


def test_a_built_in_default_needs_no_notice(root: Path) -> None:
    resolved = resolve(make_task(STARTER), None, root)
    assert (resolved.model.builtin, resolved.notice) == (True, None)


def test_a_custom_model_in_the_place_of_a_release_is_used_and_said_so(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = _task()
    mine = str(write_zip(tmp_path / "mine.zip", model_zip("mine")))
    module.install(task, task.release(), root, urls=[mine])
    with caplog.at_level(logging.WARNING):
        resolved = resolve(task, None, root)
    assert (resolved.model.name, weights_of(resolved.model.path)) == ("custom", "mine")
    assert f"Using a custom model from {mine}" in caplog.text


@pytest.mark.parametrize("inside", [False, True], ids=["parent", "trainer folder"])
def test_a_folder_of_the_users_own_is_used_where_it_is(
    inside: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = write_model(tmp_path / "mine")
    choice = trainer if inside else trainer.parent
    model = resolve(_task(), choice, root).model
    assert (model.path, model.name, model.release) == (trainer, "mine", None)
    monkeypatch.chdir(tmp_path)
    assert resolve(_task(), str(choice.relative_to(tmp_path)), root).model == model
    assert not root.exists()


def test_a_folder_that_is_a_known_release_is_recognized(server: Loopback, root: Path) -> None:
    task = _task(server.serve("m.zip", whole(model_zip())))
    installed = resolve(task, "r1", root).model
    for choice in (installed.path, installed.path.parent):
        assert resolve(task, choice, root).model == installed


def test_a_custom_model_chosen_by_folder_is_no_release(root: Path, tmp_path: Path) -> None:
    urls = [str(write_zip(tmp_path / "m.zip", model_zip()))]
    task = _task(*urls)
    installed = module.install(task, task.release(), root, urls=urls)
    model = resolve(task, installed.path, root).model
    assert (model.release, model.name, model.custom) == (None, SLOT, True)
    assert model.sha256 == installed.sha256


def test_a_folder_without_a_complete_model_is_an_error(root: Path, tmp_path: Path) -> None:
    (write_model(tmp_path / "m") / "plans.json").unlink()
    with pytest.raises(ModelError, match=r"plans\.json"):
        resolve(_task(), tmp_path / "m", root)


def test_a_zip_of_the_users_own_is_unpacked_once_into_the_root(root: Path, tmp_path: Path) -> None:
    zip_path = write_zip(tmp_path / "mine.zip", model_zip("mine", layout="bare"))
    first = resolve(_task(), zip_path, root).model
    assert (first.name, first.custom, first.release) == ("custom", True, None)
    assert weights_of(first.path) == "mine"
    assert first.path.parent.parent == root
    assert resolve(_task(), str(zip_path), root).model == first
    assert module.find_installed(_task(), _task().release(), root) is None


@pytest.mark.parametrize("choice", ["r3", "nowhere/model.zip", "R1"])
def test_an_unknown_choice_names_the_tags(choice: str, root: Path) -> None:
    with pytest.raises(UsageError, match="r1, r2, starter") as caught:
        resolve(_task(), choice, root)
    assert choice in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_no_zip_is_an_unknown_choice(root: Path, tmp_path: Path) -> None:
    other = write_zip(tmp_path / "checkpoint_final.pth", b"weights")
    with pytest.raises(UsageError, match="checkpoint_final"):
        resolve(_task(), other, root)


def test_a_tag_comes_before_a_folder_of_the_same_name(
    server: Loopback, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "r1", "folder")
    monkeypatch.chdir(tmp_path)
    task = _task(server.serve("m.zip", whole(model_zip("release"))))
    assert weights_of(resolve(task, "r1", root).model.path) == "release"
    assert weights_of(resolve(task, "./r1", root).model.path) == "folder"


def test_a_model_that_sct_installed_is_used_where_it_is(root: Path) -> None:
    task = _task("https://models.invalid/m.zip")
    folder = root / "model_fake"
    trainer = write_model(folder)
    (folder / "source.json").write_text(
        json.dumps({"model_name": "model_fake", "model_urls": task.release().urls[0]})
    )
    model = resolve(task, None, root).model
    assert (model.path, model.name, model.custom) == (trainer, "r1", False)
    assert sorted(path.name for path in root.iterdir()) == ["model_fake"]


def test_files_of_the_archive_stay_as_they_are(server: Loopback, root: Path) -> None:
    model = resolve(_task(server.serve("m.zip", whole(model_zip()))), None, root).model
    assert model.path.name == TRAINER
    for name, data in model_files().items():
        assert (model.path / name).read_bytes() == data


@pytest.mark.parametrize(
    "url",
    [
        f"http://{'a' * 64}.invalid/m.zip",
        "http://[::1/m.zip",
        "http://[::zz]/m.zip",
        "http://127.0.0.1:99999999/m.zip",
        "http://127.0.0.1:x/m.zip",
        "http://\x00/",
        "http://a..b/m.zip",
        "http://127.0.0.1:1\r\nX: y/",
        "file:///%00",
        "~nobody-of-this-name/m.zip",
        "x" * 5000,
    ],
)
def test_the_starter_stands_in_for_any_address_that_cannot_be_used(
    url: str, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resolved = resolve(_task(url), None, root)
    assert resolved.model.name == "starter"
    assert all(line.isprintable() for r in caplog.records for line in r.getMessage().split("\n"))


def test_the_network_s_error_is_one_line_once(
    server: Loopback, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = server.serve("m.zip", status(503))
    with caplog.at_level(logging.INFO):
        notice = resolve(_task(url, url, url), None, root).notice
    lines = [line for record in caplog.records for line in record.getMessage().split("\n")]
    assert len([line for line in lines if "HTTP 503" in line]) == 1
    assert notice is not None
    assert "HTTP 503" not in notice


def test_many_runs_without_a_network_try_it_once(
    server: Loopback, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = _task(server.serve("m.zip", status(404), whole(model_zip())))
    for _ in range(5):
        caplog.clear()
        assert resolve(task, None, root).model.name == "starter"
        assert "HTTP 404" in caplog.text
    assert server.count("m.zip") == 1
    assert "tried again in 15 min" in caplog.text


@pytest.mark.parametrize("how", ["install", "later", "offline before"])
def test_a_failed_attempt_is_forgotten_in_time(
    how: str, server: Loopback, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task(server.serve("m.zip", whole(model_zip())))
    note = root / ".installing" / SLOT / "unreachable"
    if how == "offline before":
        with monkeypatch.context() as context:
            context.setenv("SCT_ROOTLETS_OFFLINE", "1")
            assert resolve(task, None, root).model.name == "starter"
    else:
        note.parent.mkdir(parents=True)
        note.write_text("no connection")
        assert resolve(task, None, root).model.name == "starter"
        if how == "install":
            module.install(task, task.release(), root)
        else:
            hour_ago = note.stat().st_mtime - 3600
            os.utime(note, (hour_ago, hour_ago))
    assert resolve(task, None, root).model.name == "r1"


@pytest.mark.parametrize("content", [b"", b"\xff\x1b[2J", b"x" * 100_000, None])
def test_a_note_of_a_failed_attempt_is_believed_with_care(
    content: bytes | None, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    note = root / ".installing" / SLOT / "unreachable"
    note.parent.mkdir(parents=True)
    os.mkfifo(note) if content is None else note.write_bytes(content)
    assert resolve(_task("http://[::1/m.zip"), None, root).model.name == "starter"
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 1000


RECORDS: dict[str, bytes | None] = {"none": None, "damaged": b"{", "of nothing": b"[]"}


@pytest.mark.parametrize("why", ["offline", "not found", "closed", "damaged"])
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_complete_model_without_a_record_stands_in_before_the_starter(
    why: str,
    record: bytes | None,
    server: Loopback,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = write_model(root / "model_fake")
    if record is not None:
        (root / "model_fake" / "source.json").write_bytes(record)
    answer = whole(b"no zip") if why == "damaged" else status(404)
    task = _task(server.serve("m.zip", answer))
    if why == "offline":
        monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    if why == "closed":
        (root / ".installing").write_text("in the way")
    resolved = resolve(task, None, root)
    assert resolved.model.path == trainer
    assert resolved.notice is not None
    assert "origin is unknown" in resolved.notice


def test_online_the_published_model_comes_before_one_without_a_record(
    server: Loopback, root: Path
) -> None:
    write_model(root / "model_fake")
    task = _task(server.serve("m.zip", whole(model_zip())))
    assert resolve(task, None, root).model.name == "r1"


def test_a_release_folder_without_a_record_is_used_with_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = write_model(root / SLOT)
    assert resolve(_task("http://[::1/m.zip"), None, root).model.path == trainer
    assert "came from is unknown" in caplog.text


def test_the_list_shows_a_model_without_a_record_for_the_default_only(root: Path) -> None:
    trainer = write_model(root / "model_fake")
    first, second, *_ = module.list_models({"fake": _task("/none.zip")}, root)
    assert first.model is not None
    assert first.model.path == trainer
    assert second.model is None


@pytest.mark.parametrize(
    "choice",
    ["/dev/zero", "/dev/full", "/dev/stdin", "~nobody-of-this-name/m.zip", "a\0b", "x" * 5000, ""],
)
def test_a_choice_that_is_no_model_is_a_usage_error(choice: str, root: Path) -> None:
    with pytest.raises(UsageError):
        resolve(_task(), choice or "./no", root)


def test_a_pipe_is_not_waited_for(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.zip")
    with pytest.raises(UsageError, match=r"m\.zip"):
        resolve(_task(), tmp_path / "m.zip", root)


def test_a_choice_is_shown_without_steering_the_terminal(root: Path) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(_task(), "\x1b[2J\u202e.zip", root)
    assert str(caught.value).isprintable()


def _writable_by_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | stat.S_IWOTH)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
@pytest.mark.parametrize("which", ["root", "slot", "trainer", "fold", "plans", "weights"])
def test_a_model_that_all_may_change_is_used_with_one_warning(
    which: str, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = str(write_zip(tmp_path / "m.zip", model_zip()))
    task = _task(url)
    trainer = resolve(task, None, root).model.path
    assert "may change" not in caplog.text
    fold = trainer / "fold_all"
    path = {
        "root": root, "slot": trainer.parent, "trainer": trainer, "fold": fold,
        "plans": trainer / "plans.json", "weights": fold / "checkpoint_final.pth",
    }[which]  # fmt: skip
    _writable_by_all(path)
    assert resolve(task, None, root).model.path == trainer
    (warning,) = [r.getMessage() for r in caplog.records if "may change" in r.getMessage()]
    assert f"{path} can be written by all" in warning
    top = path if path in (root, trainer.parent, trainer) else trainer
    assert f"'chmod -R o-w {top}'" in warning


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_a_model_of_a_group_is_used_without_a_warning(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = _task(str(write_zip(tmp_path / "m.zip", model_zip())))
    trainer = resolve(task, None, root).model.path
    for path in (root, trainer.parent, trainer, trainer / "plans.json"):
        path.chmod(path.stat().st_mode | stat.S_IWGRP)
    caplog.clear()
    assert resolve(task, None, root).model.path == trainer
    assert caplog.text == ""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_a_folder_of_ones_own_that_all_may_change_is_warned_of(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = write_model(tmp_path / "mine")
    root.mkdir()
    _writable_by_all(root)
    resolve(_task(), trainer, root)
    assert caplog.text == "", "the model does not lie in the root"
    _writable_by_all(trainer)
    resolve(_task(), trainer, root)
    assert f"{trainer} can be written by all" in caplog.text


def _no_weights(trainer: Path) -> None:
    (trainer / "fold_all" / "checkpoint_final.pth").unlink()


def _no_plans(trainer: Path) -> None:
    (trainer / "plans.json").unlink()


def _no_trainer(trainer: Path) -> None:
    trainer.rename(trainer.with_name("backup"))


def _a_pointer(trainer: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (trainer / "fold_all" / "checkpoint_final.pth").write_text(text)


@pytest.mark.parametrize("slot", [SLOT, "model_fake"])
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_no_weights, "no fold_"),
        (_no_plans, "no plans.json|found none"),
        (_no_trainer, "found none"),
        (_a_pointer, "git lfs pull"),
    ],
)
def test_it_is_said_why_a_model_that_is_there_is_not_used_where_the_built_in_one_stands_in(
    harm: Callable[[Path], None],
    said: str,
    slot: str,
    root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    harm(write_model(root / slot))
    assert resolve(_task("http://[::1/m.zip"), None, root).model.builtin
    (told,) = [r.getMessage() for r in caplog.records if "is not used" in r.getMessage()]
    assert re.search(said, told)
    assert slot in told


def test_an_empty_model_root_is_no_incomplete_model(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / SLOT).mkdir(parents=True)
    assert resolve(_task("http://[::1/m.zip"), None, root).model.builtin
    assert "is not used" not in caplog.text


def test_a_record_that_cannot_be_read_is_told_of_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_model(root / "model_fake")
    (root / "model_fake" / "source.json").write_text("{")
    task = _task("http://[::1/m.zip")
    list_models({"fake": task}, root)
    resolve(task, None, root)
    assert caplog.text.count("Cannot read") == 1
