"""Where models lie."""

from __future__ import annotations

import pwd
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import platformdirs
import pytest

from rights import unprivileged
from sct_rootlets_task.errors import ModelError, UsageError
from sct_rootlets_task.io.paths import cache_root, expand_user, model_root
from sct_rootlets_task.models.resolve import list_models, resolve
from sct_rootlets_task.registry import TASKS


def test_override_beats_the_variable(tmp_path: Path) -> None:
    environ = {"SCT_ROOTLETS_MODELS": str(tmp_path / "variable")}
    assert model_root(tmp_path / "given", environ) == tmp_path / "given"
    assert model_root(str(tmp_path / "given"), environ) == tmp_path / "given"


def test_variable_beats_the_users_data_folder(tmp_path: Path) -> None:
    assert model_root(None, {"SCT_ROOTLETS_MODELS": str(tmp_path)}) == tmp_path


@pytest.mark.parametrize("unset", [{}, {"SCT_ROOTLETS_MODELS": " "}])
def test_the_users_own_folder_is_the_last_resort(unset: dict[str, str]) -> None:
    data = platformdirs.user_data_path("sct_rootlets_task", appauthor=False)
    assert model_root("", unset) == data / "models"


def test_the_process_environment_is_read_when_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_MODELS", str(tmp_path / "a"))
    assert model_root() == tmp_path / "a"


def test_home_is_expanded_and_relative_paths_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert model_root("~/m") == tmp_path / "m"
    assert model_root("m") == tmp_path / "m"


def test_asking_creates_no_folder(tmp_path: Path) -> None:
    model_root(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_where_the_variable_says() -> None:
    assert cache_root({"SCT_ROOTLETS_CACHE": "/scratch/me"}) == Path("/scratch/me")
    assert cache_root({"SCT_ROOTLETS_CACHE": "off"}) is None
    own = cache_root({})
    assert own is not None
    assert own.name == "sct_rootlets_task"


@pytest.fixture
def closed_home() -> Iterator[Path]:
    """Give a folder that only the one who runs the tests may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0)
    yield folder
    folder.chmod(0o755)
    folder.rmdir()


def _nobody(_: object) -> NoReturn:
    raise KeyError("uid not found")


@pytest.mark.skipif(sys.platform == "win32", reason="homes are told by a service")
@pytest.mark.parametrize("home", [None, "", "/", "/dev/null", "/nonexistent", "~", "relative"])
def test_the_built_in_model_needs_no_home(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", _nobody)
    monkeypatch.setattr(pwd, "getpwnam", _nobody)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "SCT_ROOTLETS_MODELS", "SCT_ROOTLETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    root = model_root()
    cache_root()
    for row in list_models(TASKS, root):
        assert (row.model is None) == (row.release.bundled is None)
        assert row.closed is None
    assert resolve(TASKS["rootlets"], None, root, offline=True).model.builtin
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no modes")
def test_the_closed_home_of_another_user_is_no_home(
    closed_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_DATA_HOME", "SCT_ROOTLETS_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(closed_home))
    # The tests may run as a plain user, whose own folder it is then.
    monkeypatch.setattr("sct_rootlets_task.io.paths.is_mine", lambda info: False)
    with unprivileged():
        assert resolve(TASKS["rootlets"], None, model_root(), offline=True).model.builtin


@pytest.mark.parametrize("name", ["~nobody-of-this-name/m", "~/m", "~nobody-of-this-name", "~"])
@pytest.mark.parametrize("known", [True, False])
def test_no_tilde_ends_in_a_fault(name: str, known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not known:
        monkeypatch.setattr(pwd, "getpwuid", _nobody)
        monkeypatch.delenv("HOME", raising=False)
    assert expand_user(name).is_absolute()
    assert model_root(name).is_absolute()
    assert model_root(None, {"SCT_ROOTLETS_MODELS": name}).is_absolute()
    folder = cache_root({"SCT_ROOTLETS_CACHE": name})
    assert folder is not None
    assert folder.is_absolute()
    with pytest.raises((UsageError, ModelError)):
        resolve(TASKS["rootlets"], name, model_root("/dev/null/models"))
