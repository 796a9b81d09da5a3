"""One process at a time, also on disks that refuse file locks, and never an hour of waiting."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from model_zips import make_release, make_task, model_zip, write_zip
from sct_rootlets_task.errors import InstallError
from sct_rootlets_task.io import locks
from sct_rootlets_task.io.atomic import atomic_outputs
from sct_rootlets_task.io.locks import held
from sct_rootlets_task.models.install import install

REFUSALS = ("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP", "EINVAL", "EIO", "EPERM", "ESTALE")


@pytest.fixture(params=REFUSALS)
def refused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every file lock fail, as some network disks do."""
    number = getattr(errno, request.param)

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.usefixtures("refused")
def test_without_locks_a_model_is_installed_at_once_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    archive = write_zip(tmp_path / "m.zip", model_zip())
    release = make_release("r1", str(archive))
    start = time.monotonic()
    model = install(make_task(release), release, tmp_path / "root")
    assert time.monotonic() - start < 30
    assert (model.path / "plans.json").is_file()
    assert "knows no file locks" in caplog.text
    assert not list((tmp_path / "root").rglob(f"*{locks._MARKER}"))


@pytest.mark.usefixtures("refused")
def test_without_locks_results_are_written(tmp_path: Path) -> None:
    paths = tmp_path / "a.json", tmp_path / "a.nii.gz"
    with atomic_outputs(*paths) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    assert [path.read_text() for path in paths] == ["new", "new"]


@pytest.mark.usefixtures("refused")
def test_without_locks_one_process_still_keeps_others_away(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with held(path, wait_s=0, mode=0o664):
        for wait_s in (0, 0.3):
            with pytest.raises(TimeoutError), held(path, wait_s=wait_s, mode=0o664):
                pass
    with held(path, wait_s=0, mode=0o664):
        pass


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("age_s", [0.0, 3600.0, -3600.0])
def test_a_marker_of_a_killed_process_is_not_waited_for_without_end(
    age_s: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    marker = tmp_path / f"lock{locks._MARKER}"
    marker.touch()
    os.utime(marker, (time.time() - age_s,) * 2)
    if not age_s:
        monkeypatch.setattr(locks, "ABANDONED_S", 0.3)
    with held(tmp_path / "lock", wait_s=3600, mode=0o664):
        assert marker.exists()
    assert ("killed process" in caplog.text) == (not age_s)


@pytest.mark.parametrize("wait_s", [0.0, 0.3])
def test_where_there_are_locks_they_are_used_without_a_word(
    wait_s: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lock"
    with (
        caplog.at_level(logging.DEBUG, "sct_rootlets_task"),
        held(path, wait_s=0, mode=0o664),
        pytest.raises(TimeoutError),
        held(path, wait_s=wait_s, mode=0o664),
    ):
        pass
    assert not caplog.records
    assert [one.name for one in tmp_path.iterdir()] == ["lock"]


def test_a_folder_that_may_not_be_written_is_no_disk_without_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"[Nn]ot a directory"):
        locks.knows_locks(tmp_path / "file" / "lock")
    release = make_release("r1", "/none.zip")
    with pytest.raises(InstallError):
        install(make_task(release), release, tmp_path / "file")


def test_what_a_killed_process_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / f"lock{locks._PROBE}0123").touch()
    with held(tmp_path / "lock", wait_s=0, mode=0o664):
        assert [one.name for one in tmp_path.iterdir()] == ["lock"]
