"""A job takes the cores it was given, and no more."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sct_rootlets_task import runtime
from sct_rootlets_task.environment import CORES
from sct_rootlets_task.errors import UsageError


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend to be on 64 cores, all of them allowed, and return the (empty) folder of cgroups."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)
    monkeypatch.setattr(runtime, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(runtime, "_GROUPS", tmp_path / "groups")
    return tmp_path / "cgroup"


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("value", "cores"), [("8", 8), (" 8 ", 8), ("128", 64), ("008", 8)])
@pytest.mark.parametrize("name", CORES)
def test_what_a_scheduler_gave_is_not_exceeded(name: str, value: str, cores: int) -> None:
    assert runtime.available_cores({name: value}) == cores


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "value",
    ["²", "٣", "0", "-1", "+4", ",4", "4;2", "4(x3)", "2.5", "x", "1e1", "", " ", "9" * 5000],
)
@pytest.mark.parametrize("name", CORES)
def test_a_variable_that_holds_no_count_is_not_followed(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sct_rootlets_task")
    assert runtime.available_cores({name: value}) == 64
    assert [name in line and len(line) < 120 for line in caplog.messages] == [True] * bool(
        value.strip()
    )


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("value", ["4,2", "4, 2", "4 ,2,1", "4,"])
def test_the_first_of_openmp_s_numbers_counts_and_no_other_variable_is_a_list(value: str) -> None:
    assert runtime.available_cores({"OMP_NUM_THREADS": value}) == 4
    assert runtime.available_cores({"NSLOTS": value}) == 64


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_of_what_a_job_was_given_counts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = rng.permutation(list(CORES))[: rng.integers(1, len(CORES) + 1)]
    environ = {name: str(rng.integers(1, 100)) for name in names}
    expected = min(64, *map(int, environ.values()))
    assert runtime.available_cores(environ) == expected
    assert runtime.chosen_threads(None, environ) == expected
    own = {**environ, "SCT_ROOTLETS_THREADS": "70"}
    assert runtime.chosen_threads(None, own) == 70
    assert runtime.chosen_threads(90, own) == 90


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("wanted", [0, -1, 1025, 10**400, True, 2.0, "2", float("nan"), np.nan])
def test_an_argument_that_is_no_number_of_threads_is_refused(wanted: Any) -> None:
    with pytest.raises(UsageError, match="whole number from 1 to 1024, found"):
        runtime.chosen_threads(wanted)


@pytest.mark.usefixtures("machine")
def test_whole_numbers_of_numpy_are_numbers_of_threads() -> None:
    assert runtime.chosen_threads(np.int16(3)) == 3  # type: ignore[arg-type]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("asked", ["sched_getaffinity", "process_cpu_count"])
def test_what_the_process_is_allowed_counts(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {3, 5} if asked == "sched_getaffinity" else 2
    monkeypatch.setattr(os, asked, lambda *_: answer, raising=False)
    assert runtime.available_cores({}) == 2


QUOTAS = [
    ({"cpu.max": "400000 100000"}, 4),
    ({"cpu.max": "50000 100000"}, 1),
    ({"cpu.max": "390000 100000"}, 3),
    ({"cpu.max": "max 100000"}, 64),
    ({"cpu.max": "400000"}, 64),
    ({"cpu.max": "400000 0"}, 64),
    ({"cpu.max": ""}, 64),
    ({"cpu.max": "² 100000"}, 64),
    ({"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"}, 3),
    ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, 64),
    ({"cpu.cfs_quota_us": "300000"}, 64),
]


@pytest.mark.parametrize("inside", ["", "docker/abc", "system.slice/slurm/job_7"])
@pytest.mark.parametrize("root", ["", "unified", "cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("files", "cores"), QUOTAS)
def test_the_quota_of_a_group_or_one_above_counts(
    machine: Path, files: dict[str, str], cores: int, root: str, inside: str
) -> None:
    folder = machine / root / inside
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")
    machine.with_name("groups").write_text(f"4:cpu,cpuacct:/{inside}/step_0\n0::/{inside}/step_0\n")
    assert runtime.available_cores({}) == cores


@pytest.mark.parametrize("groups", ["", "0::/\n", "rubbish", "\x00\xff::\n", f"0::/{'a' * 5000}\n"])
def test_groups_that_cannot_be_read_are_no_limit(machine: Path, groups: str) -> None:
    machine.with_name("groups").write_text(groups, encoding="latin-1")
    assert runtime.available_cores({}) == 64


@pytest.mark.parametrize("before", [None, "99", ""])
def test_variables_of_libraries_are_set_and_restored(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in runtime._THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        if before is not None:
            monkeypatch.setenv(name, before)
    with runtime.announced_threads(3):
        assert {os.environ[name] for name in runtime._THREAD_VARIABLES} == {"3"}
    assert {os.environ.get(name) for name in runtime._THREAD_VARIABLES} == {before}


class Torch:
    """What is asked of torch: a number of threads for each thread that calls it."""

    def __init__(self) -> None:
        self.own = threading.local()

    def get_num_threads(self) -> int:
        return int(getattr(self.own, "number", 64))

    def set_num_threads(self, number: int) -> None:
        self.own.number = number


def test_torch_is_limited_and_restored_also_after_an_error() -> None:
    torch, inside = Torch(), []

    def run() -> None:
        with runtime.limited_torch(torch, 3):
            inside.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        run()
    assert inside == [3]
    assert torch.get_num_threads() == 64


def blas_threads() -> set[int]:
    from threadpoolctl import threadpool_info

    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.network
def test_numbers_of_threads_are_as_before_when_limits_of_two_threads_overlap() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    torch_before = torch.get_num_threads()
    torch.set_num_threads(2)
    inside, second_left = threading.Event(), threading.Event()

    def second() -> None:
        with runtime.limited_threads(1), runtime.limited_torch(torch, 1):
            inside.set()
            second_left.wait(20)

    other = threading.Thread(target=second)
    # Pools that are of one thread already, as on one core, would show nothing.
    with threadpool_limits(2, "blas"):
        try:
            with runtime.limited_threads(1), runtime.limited_torch(torch, 1):
                other.start()
                assert inside.wait(20)
                assert blas_threads() == {1}
            assert blas_threads() == {1}
            second_left.set()
            other.join()
            assert (blas_threads(), torch.get_num_threads()) == ({2}, 2)
        finally:
            second_left.set()
            torch.set_num_threads(torch_before)


@pytest.mark.network
def test_other_threads_can_set_limits_of_their_own_afterwards() -> None:
    from threadpoolctl import threadpool_limits

    def limit() -> set[int]:
        with threadpool_limits(3, "blas"):
            return blas_threads()

    with runtime.limited_threads(1):
        pass
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(limit).result(20) == {3}


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
