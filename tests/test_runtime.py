"""A job takes the cores it was given, and no more."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from sct_rootlets_task import runtime
from sct_rootlets_task.errors import UsageError


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend to be on 64 cores, all of them allowed."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    monkeypatch.setattr(runtime, "_CGROUP_QUOTAS", ())


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("environ", "cores"),
    [
        ({}, 64),
        ({"SLURM_CPUS_PER_TASK": "8"}, 8),
        ({"SLURM_CPUS_PER_TASK": "x"}, 64),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),
    ],
)
def test_slurm_says_how_many(environ: dict[str, str], cores: int) -> None:
    assert runtime.available_cores(environ) == cores


@pytest.mark.usefixtures("machine")
def test_affinity_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 5}, raising=False)
    assert runtime.available_cores({}) == 2


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [
        ("400000 100000", None, 4),
        ("50000 100000", None, 1),
        ("max 100000", None, 64),
        ("300000", "100000", 3),
        ("-1", "100000", 64),
    ],
)
def test_the_quota_of_a_container_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quota: str,
    period: str | None,
    cores: int,
) -> None:
    (tmp_path / "quota").write_text(quota + "\n")
    (tmp_path / "period").write_text(f"{period}\n")
    files = ((tmp_path / "quota", tmp_path / "period" if period else None),)
    monkeypatch.setattr(runtime, "_CGROUP_QUOTAS", files)
    assert runtime.available_cores({}) == cores


def test_a_limit_reaches_every_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in runtime._THREAD_VARIABLES:
        monkeypatch.setenv(name, "99")
    runtime.limit_threads(3)
    assert {os.environ[name] for name in runtime._THREAD_VARIABLES} == {"3"}


def test_a_limit_reaches_a_torch_that_is_loaded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    torch = types.SimpleNamespace(set_num_threads=told.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    for name in runtime._THREAD_VARIABLES:
        monkeypatch.setenv(name, "99")
    runtime.limit_threads(3)
    assert told == [3]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("value", "threads"), [("", 64), (" 3 ", 3), ("128", 128)])
def test_a_variable_says_how_many_threads(value: str, threads: int) -> None:
    assert runtime.default_threads({"SCT_ROOTLETS_THREADS": value}) == threads


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²", "٣", "1025", "9" * 5000])
def test_a_variable_that_is_no_number_of_threads_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"at least 1 and at most 1024, found '{value[:40]}'"):
        runtime.default_threads({"SCT_ROOTLETS_THREADS": value})


@pytest.mark.parametrize(("system", "asked"), [("linux", [0]), ("darwin", []), ("win32", [])])
def test_memory_is_given_back_where_the_c_library_can(
    system: str, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    library = type("Library", (), {"malloc_trim": staticmethod(calls.append)})
    monkeypatch.setattr("ctypes.CDLL", lambda _: library)
    monkeypatch.setattr(runtime.sys, "platform", system)
    runtime.give_back_memory()
    assert calls == asked
