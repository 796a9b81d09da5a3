"""How many workers a machine gets, and how much memory there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sct_rootlets_task import runtime
from sct_rootlets_task.study.options import Resources
from sct_rootlets_task.study.resources import WORKER_MB, choose_workers

PLENTY = 1e6


@pytest.mark.parametrize(
    ("asked", "cores", "memory", "items", "expected"),
    [
        (Resources(), 8, PLENTY, 100, (8, 1)),
        (Resources(), 8, 3.5 * WORKER_MB, 100, (3, 2)),
        (Resources(), 8, WORKER_MB / 2, 100, (1, 8)),
        (Resources(), 8, PLENTY, 2, (2, 4)),
        (Resources(), 8, PLENTY, 0, (1, 8)),
        (Resources(workers=3), 8, WORKER_MB, 1, (3, 2)),
        (Resources(threads=4), 8, PLENTY, 100, (2, 4)),
        (Resources(threads=16), 8, PLENTY, 100, (1, 16)),
        (Resources(workers=5, threads=2), 1, PLENTY, 100, (5, 2)),
        (Resources(memory_mb=2 * WORKER_MB), 8, PLENTY, 100, (2, 4)),
    ],
)
def test_workers_and_threads(
    asked: Resources, cores: int, memory: float, items: int, expected: tuple[int, int]
) -> None:
    assert choose_workers(asked, items=items, cores=cores, memory_mb=memory) == expected


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GB free, without limits."""
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "groups").write_text("0::/job\n")
    monkeypatch.setattr(runtime, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(runtime, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(runtime, "_CGROUPS", tmp_path / "cgroup")
    return tmp_path


def limit(machine: Path, folder: str, **files: str) -> None:
    place = machine / "cgroup" / folder
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name.replace("__", ".")).write_text(text)


def test_what_the_machine_has_free_counts(machine: Path) -> None:
    assert runtime.available_memory_mb() == pytest.approx(8192)


def test_the_limit_of_a_job_counts(machine: Path) -> None:
    limit(machine, "job", memory__max="4000000000\n", memory__current="1000000000\n")
    assert runtime.available_memory_mb() == pytest.approx(3000)


def test_the_limit_of_an_older_kernel_counts(machine: Path) -> None:
    limit(machine, "memory/job", memory__limit_in_bytes="2000000000",
          memory__usage_in_bytes="500000000")  # fmt: skip
    assert runtime.available_memory_mb() == pytest.approx(1500)


def test_no_limit_is_none(machine: Path) -> None:
    limit(machine, "job", memory__max="max\n", memory__current="1000000000\n")
    assert runtime.available_memory_mb() == pytest.approx(8192)


def test_more_used_than_allowed_is_none_left(machine: Path) -> None:
    limit(machine, "job", memory__max="1000\n", memory__current="2000\n")
    assert runtime.available_memory_mb() == 0


def test_a_system_that_does_not_say_is_no_error(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert runtime.available_memory_mb() is None
    assert choose_workers(Resources(), items=9, cores=4)[0] == 4
