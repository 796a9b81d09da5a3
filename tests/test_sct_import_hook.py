"""The import hook: it acts once on the one module it waits for, and can break nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from sct_rootlets_task.sct_plugin import import_hook


@pytest.fixture(autouse=True)
def _own_finders(monkeypatch: pytest.MonkeyPatch) -> None:
    finders = [f for f in sys.meta_path if not isinstance(f, import_hook.Watcher)]
    monkeypatch.setattr(sys, "meta_path", finders)


@pytest.fixture
def module_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "hooked_module.py"
    sys.modules.pop("hooked_module", None)


def load() -> ModuleType:
    importlib.invalidate_caches()
    return importlib.import_module("hooked_module")


def fail(_module: ModuleType) -> None:
    raise RuntimeError("our mistake")


def test_the_action_sees_the_complete_module(module_file: Path) -> None:
    module_file.write_text("FIRST = 1\nLAST = 2\n")
    seen: list[int] = []
    import_hook.when_imported("hooked_module", lambda module: seen.append(module.LAST))
    assert seen == []
    assert load().FIRST == 1
    assert seen == [2]


def test_a_module_that_is_there_is_acted_on_at_once(module_file: Path) -> None:
    module_file.write_text("X = 1\n")
    module = load()
    seen: list[ModuleType] = []
    import_hook.when_imported("hooked_module", seen.append)
    assert seen == [module]


def test_it_acts_once_and_keeps_the_module_s_own_loader(module_file: Path) -> None:
    module_file.write_text("X = 1\n")
    seen: list[ModuleType] = []
    import_hook.when_imported("hooked_module", seen.append)
    module = load()
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    importlib.reload(module)
    assert len(seen) == 1


def test_there_is_one_watcher_however_often_it_is_installed() -> None:
    import_hook.install()
    import_hook.install()
    assert sum(isinstance(finder, import_hook.Watcher) for finder in sys.meta_path) == 1


def test_an_error_of_ours_is_one_warning_and_the_module_lives(
    module_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module_file.write_text("X = 1\n")
    import_hook.when_imported("hooked_module", fail)
    assert load().X == 1
    import_hook.when_imported("hooked_module", fail)
    error = capsys.readouterr().err
    assert error.count("WARNING") == 1
    assert "our mistake" in error


def test_an_error_of_the_module_stays_the_module_s(
    module_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module_file.write_text("raise LookupError('its own')\n")
    seen: list[ModuleType] = []
    import_hook.when_imported("hooked_module", seen.append)
    with pytest.raises(LookupError, match="its own"):
        load()
    assert seen == []
    assert capsys.readouterr().err == ""


def test_a_module_that_is_missing_is_missing_as_ever() -> None:
    import_hook.when_imported("hooked_module_that_is_nowhere", fail)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hooked_module_that_is_nowhere")


class ClosedLoader:
    """A loader that takes no attributes."""

    __slots__ = ()

    def create_module(self, _spec: object) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.X = 1  # type: ignore[attr-defined]


class ClosedFinder:
    def find_spec(self, name: str, *_rest: object) -> importlib.machinery.ModuleSpec | None:
        known = name == "hooked_module"
        return importlib.machinery.ModuleSpec(name, ClosedLoader()) if known else None  # type: ignore[arg-type]


@pytest.mark.usefixtures("module_file")
def test_a_loader_that_cannot_be_wrapped_loads_without_us(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sys.meta_path.append(ClosedFinder())  # type: ignore[arg-type]
    action: Callable[[ModuleType], object] = fail
    import_hook.when_imported("hooked_module", action)
    assert load().X == 1
    assert "not active inside SCT" in capsys.readouterr().err


def test_without_a_standard_error_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    import_hook.Watcher().warn("nobody hears this")


TABLES = "hooked_module_of_tables"
BOTH = {"hooked_module.py": f"import {TABLES}\nLAST = 2\n", f"{TABLES}.py": "X = 1\n"}


@pytest.fixture
def two_modules(module_file: Path) -> Iterator[None]:
    for name, text in BOTH.items():
        module_file.with_name(name).write_text(text)
    yield
    sys.modules.pop(TABLES, None)


@pytest.mark.usefixtures("two_modules")
def test_a_module_that_is_half_loaded_is_acted_on_when_it_is_complete() -> None:
    seen: list[int] = []
    act = lambda module: seen.append(module.LAST)  # noqa: E731
    import_hook.when_imported(TABLES, lambda _: import_hook.when_imported("hooked_module", act))
    import_hook.watcher().actions["hooked_module"] = []
    assert not import_hook.is_half_loaded("hooked_module")
    assert load().LAST == 2
    assert seen == [2]


@pytest.mark.usefixtures("two_modules")
def test_a_half_loaded_module_that_nobody_waits_for_is_known_as_such() -> None:
    found: list[bool] = []
    import_hook.when_imported(
        TABLES, lambda _: found.append(import_hook.is_half_loaded("hooked_module"))
    )
    load()
    assert found == [True]
    assert not import_hook.is_half_loaded("hooked_module")


def test_sct_s_inference_is_waited_for_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, import_hook.INFERENCE, raising=False)
    import_hook.install()
    assert import_hook.INFERENCE in import_hook.watcher().actions
