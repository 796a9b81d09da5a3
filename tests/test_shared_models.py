"""Models that others installed: open to all readers, and said to be closed where they are."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_zips import TRAINER, make_release, make_task, model_zip, write_model, write_zip
from rights import unprivileged
from sct_rootlets_task.cli.sct_rootlets import main as sct_rootlets
from sct_rootlets_task.errors import ClosedModelError, ModelError
from sct_rootlets_task.io.untrusted import closed_part, owner_of
from sct_rootlets_task.models.install import install, install_zip
from sct_rootlets_task.models.installed import find_installed, verify
from sct_rootlets_task.models.resolve import list_models, resolve
from sct_rootlets_task.registry import STARTER, TASKS
from sct_rootlets_task.sct_plugin import installation
from sct_rootlets_task.sct_plugin.task_tables import Entry

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes")

TASK = make_task(make_release("r1"), fallback=STARTER)
RELEASE = TASK.release()
SLOT = "model_fake_r1"
UMASKS = (0o077, 0o027, 0o022, 0o002, 0o000)


@contextmanager
def _umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _modes(folder: Path) -> tuple[set[int], set[int]]:
    """Return the modes of the folders and of the files."""
    paths = [folder, *folder.rglob("*")]
    return {_mode(p) for p in paths if p.is_dir()}, {_mode(p) for p in paths if p.is_file()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "m.zip", model_zip())


@pytest.fixture
def lab() -> Iterator[Path]:
    """Give a folder that every user may enter, unlike that of the tests."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("umask", UMASKS, ids="{:03o}".format)
@pytest.mark.parametrize("how", ["release", "zip", "SCT"])
def test_a_model_can_be_read_by_all_and_changed_by_its_owner_alone(
    how: str, umask: int, archive: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    with _umask(umask):
        if how == "release":
            install(TASK, RELEASE, root, urls=[str(archive)])
        elif how == "zip":
            install_zip(TASK, archive, root)
        else:
            entry = Entry("fake", "model_fake", TASK, RELEASE)
            installation.install(entry, root / "model_fake", [str(archive)], lambda: None)
    (model,) = (path for path in root.iterdir() if path.name != ".installing")
    assert _modes(model) == ({0o755}, {0o644})
    assert _mode(root) & 0o055 == 0o055


@pytest.mark.parametrize("umask", UMASKS, ids="{:03o}".format)
@pytest.mark.parametrize("word", ["0", "no", "off", "False"])
def test_the_umask_decides_where_the_user_wants_it(
    word: str, umask: int, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_SHARED", word)
    with _umask(umask):
        install(TASK, RELEASE, tmp_path / "root", urls=[str(archive)])
    assert _modes(tmp_path / "root" / SLOT) == ({0o777 & ~umask}, {0o666 & ~umask})
    assert _mode(tmp_path / "root") == 0o777 & ~umask


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o770, 0o2775])
def test_what_is_there_already_keeps_its_mode(mode: int, archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "home" / "root"
    root.mkdir(parents=True)
    for folder in (root, root.parent):
        folder.chmod(mode)
    with _umask(0o077):
        install(TASK, RELEASE, root, urls=[str(archive)])
    assert [_mode(root), _mode(root.parent)] == [mode, mode]
    folders, files = _modes(root / SLOT)
    assert (folders, files) == ({0o755 | mode & stat.S_ISGID}, {0o644})


def test_folders_made_above_the_root_may_be_entered_and_not_looked_into(
    archive: Path, tmp_path: Path
) -> None:
    with _umask(0o077):
        install(TASK, RELEASE, tmp_path / "a" / "b" / "root", urls=[str(archive)])
    assert [_mode(tmp_path / "a"), _mode(tmp_path / "a" / "b")] == [0o711, 0o711]


def test_a_model_installed_under_a_closed_umask_is_found_by_another_user(
    archive: Path, lab: Path
) -> None:
    with _umask(0o077):
        install(TASK, RELEASE, lab / "opt" / "root", urls=[str(archive)])
    with unprivileged():
        model = resolve(TASK, "r1", lab / "opt" / "root").model
        assert verify(model.path) == []
    assert model.path.parent.name == SLOT


INSIDE = {
    "model folder": (SLOT, 0),
    "model folder that may be entered": (SLOT, 0o311),
    "model folder that may be listed": (SLOT, 0o444),
    "trainer folder": (f"{SLOT}/{TRAINER}", 0),
    "plans": (f"{SLOT}/{TRAINER}/plans.json", 0),
    "dataset": (f"{SLOT}/{TRAINER}/dataset.json", 0),
    "fold": (f"{SLOT}/{TRAINER}/fold_all", 0),
    "checkpoint": (f"{SLOT}/{TRAINER}/fold_all/checkpoint_final.pth", 0),
}
ABOVE = {"root": ("", 0), "parent of the root": ("..", 0)}


@pytest.fixture
def closed(request: pytest.FixtureRequest, lab: Path) -> Path:
    """Return a model root in which a part is closed, named by the parameter."""
    place, mode = {**INSIDE, **ABOVE}[request.param]
    root = lab / "opt" / "root"
    write_model(root / SLOT)
    (root / place).chmod(mode)
    return root


@pytest.mark.parametrize("closed", [*INSIDE, *ABOVE], indirect=True)
@pytest.mark.parametrize("offline", [True, False])
def test_the_starter_never_stands_in_for_a_model_that_may_not_be_read(
    closed: Path, offline: bool
) -> None:
    with unprivileged(), pytest.raises(ClosedModelError) as error:
        resolve(TASK, None, closed, offline=offline)
    assert isinstance(error.value, PermissionError)
    text, owner = str(error.value), owner_of(closed.parent.parent.stat())
    assert f"belongs to {owner}" in text
    assert "chmod " in text
    assert "-model-dir or SCT_ROOTLETS_MODELS" in text


@pytest.mark.parametrize("closed", [*INSIDE, *ABOVE], indirect=True)
def test_the_starter_itself_needs_no_model_root(closed: Path) -> None:
    with unprivileged():
        assert resolve(TASK, "starter", closed).model.builtin


@pytest.mark.parametrize("closed", INSIDE, indirect=True)
def test_a_closed_model_is_said_to_be_there(closed: Path) -> None:
    with unprivileged(), pytest.raises(ClosedModelError, match="is there, but may not be read"):
        find_installed(TASK, RELEASE, closed)


@pytest.mark.parametrize("closed", [*INSIDE, *ABOVE], indirect=True)
@pytest.mark.parametrize("part", [SLOT, f"{SLOT}/{TRAINER}"])
def test_a_folder_of_the_user_s_choice_that_may_not_be_read_is_said_so(
    part: str, closed: Path
) -> None:
    (closed / SLOT).chmod(_mode(closed / SLOT) & ~0o111)  # may not even be entered
    with unprivileged(), pytest.raises(ModelError, match=r"belongs to .* mode"):
        resolve(TASK, closed / part, closed)


def test_an_archive_that_may_not_be_read_is_said_so(archive: Path, lab: Path) -> None:
    mine = lab / "mine.zip"
    shutil.copy(archive, mine)
    mine.chmod(0)
    with unprivileged(), pytest.raises(ClosedModelError, match="is there, but may not be read"):
        resolve(TASK, mine, lab / "root")


@pytest.mark.parametrize("closed", [*INSIDE, *ABOVE], indirect=True)
def test_installing_does_not_pass_over_a_closed_model(closed: Path) -> None:
    with unprivileged(), pytest.raises(ClosedModelError):
        install(TASK, RELEASE, closed)


@pytest.mark.parametrize("closed", [*INSIDE, *ABOVE], indirect=True)
def test_the_list_names_what_is_closed(closed: Path) -> None:
    with unprivileged():
        (row, starter) = list_models({"fake": TASK}, closed)
    assert row.model is None
    assert "belongs to" in str(row.closed)
    assert starter.closed is None


@pytest.mark.parametrize("mode", [0, 0o311, 0o444])
@pytest.mark.parametrize("command", ["list", "path", "verify"])
def test_the_commands_say_that_a_model_is_closed(
    command: str, mode: int, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slot = lab / f"{TASKS['rootlets'].model_name}_r20250318"
    write_model(slot)
    slot.chmod(mode)
    with unprivileged():
        code = sct_rootlets(["models", command, "-model-dir", str(lab)])
    shown = "".join(capsys.readouterr())
    assert "is there, but may not be read" in shown
    assert "not installed" not in shown.split("starter")[0]
    assert "Traceback" not in shown
    assert code == (0 if command == "list" else 1)


def test_a_closed_model_of_sct_is_said_to_be_there(lab: Path) -> None:
    write_model(lab / "model_fake")
    (lab / "model_fake" / "source.json").write_text(f'{{"model_urls": "{RELEASE.urls[0]}"}}')
    (lab / "model_fake").chmod(0)
    with unprivileged(), pytest.raises(ClosedModelError, match="model_fake is there"):
        find_installed(TASK, RELEASE, lab)


def test_a_model_of_sct_that_may_be_read_serves_where_the_other_is_closed(lab: Path) -> None:
    write_model(lab / SLOT)
    (lab / SLOT).chmod(0)
    trainer = write_model(lab / "model_fake")
    (lab / "model_fake" / "source.json").write_text(f'{{"model_urls": "{RELEASE.urls[0]}"}}')
    with unprivileged():
        found = find_installed(TASK, RELEASE, lab)
    assert found is not None
    assert found.path == trainer


def test_the_owner_of_a_closed_model_is_told_how_to_open_it(lab: Path) -> None:
    write_model(lab / SLOT)
    if os.geteuid() == 0:
        for path in (lab, *lab.rglob("*")):
            os.chown(path, 65534, 65534)
    (lab / SLOT).chmod(0)
    with unprivileged(), pytest.raises(ClosedModelError, match=r"mode 000\. Open it with 'chmod"):
        find_installed(TASK, RELEASE, lab)


def test_a_recorded_file_in_a_closed_folder_is_not_called_missing(archive: Path, lab: Path) -> None:
    extra = {f"{TRAINER}/notes/a.txt": b"a"}
    write_zip(archive, model_zip(extra=extra))
    model = install(TASK, RELEASE, lab, urls=[str(archive)])
    (model.path / "notes").chmod(0)
    with unprivileged():
        assert any("cannot be read" in problem for problem in verify(model.path))
        with pytest.raises(ClosedModelError):
            find_installed(TASK, RELEASE, lab)


def test_nothing_is_closed_on_the_way_to_a_file_that_is_open_or_missing(lab: Path) -> None:
    (lab / "a").mkdir()
    (lab / "a").chmod(0o711)
    (lab / "a" / "file").write_text("x")
    with unprivileged():
        assert closed_part(lab / "a" / "file") is None
        assert closed_part(lab / "a" / "none" / "file") is None
        assert closed_part(lab / "a") == (lab / "a" if os.geteuid() != lab.stat().st_uid else None)
