"""Where models lie."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from sct_rootlets_task.paths import cache_root, model_root


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
