"""Worker processes: each item gets one outcome, whatever happens to its process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sct_rootlets_task.errors import EngineError, ModelError
from sct_rootlets_task.study.attempt import Named
from sct_rootlets_task.study.outcome import DONE, FAILED, SET_ASIDE, Outcome
from sct_rootlets_task.study.pool import run_in_pool
from study_work import Note, Prepare, marked, notes, prepared, wait_until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")
DRIVER = Path(__file__).with_name("study_driver.py")


def run(folder: Path, *hows: str, workers: int = 1, threads: int = 1) -> dict[str, Outcome]:
    outcomes = run_in_pool(notes(folder, *hows), Prepare(folder), workers=workers, threads=threads)
    return {outcome.name: outcome for outcome in outcomes}


def test_whatever_happens_each_item_gets_an_outcome_and_the_others_go_on(tmp_path: Path) -> None:
    hows = ["", "die", "fail", "die twice", "memory", "unsendable", "exit", ""]
    found = run(tmp_path, *hows, workers=2)
    assert [found[f"sub-{number:02d}"].status for number in range(1, 9)] == [
        *(DONE, SET_ASIDE, FAILED, DONE, FAILED, FAILED, SET_ASIDE, DONE)
    ]
    kinds = [found[f"sub-{number:02d}"].kind for number in (2, 3, 5, 7)]
    assert kinds == ["WorkerDied", "ImageError", "OutOfMemoryError", "WorkerDied"]
    assert found["sub-03"].error == "The image is empty. Check it."
    assert "3 times (signal 9)" in found["sub-02"].error
    assert "exit code 3" in found["sub-07"].error
    assert found["sub-04"].details["attempts"] == 3
    deaths = 3 + 2 + 3
    assert len(prepared(tmp_path)) <= 2 + deaths


def test_a_worker_prepares_once_and_knows_its_threads_before_numpy(tmp_path: Path) -> None:
    found = run(tmp_path, "", "", "", threads=3)
    assert len(prepared(tmp_path)) == 1
    assert {outcome.details["pid"] for outcome in found.values()} == set(prepared(tmp_path))
    for outcome in found.values():
        assert outcome.details["OMP_NUM_THREADS"] == outcome.details["SCT_ROOTLETS_THREADS"] == "3"
        assert not outcome.details["numpy"]
    assert os.environ.get("SCT_ROOTLETS_THREADS") is None


def test_no_item_no_worker(tmp_path: Path) -> None:
    assert not run(tmp_path, workers=2)
    assert not (tmp_path / "prepared").exists()


def test_items_are_taken_when_a_worker_is_free(tmp_path: Path) -> None:
    taken: list[str] = []
    begun: list[str] = []

    def endless() -> Iterator[Named]:
        for number in range(10_000):
            taken.append(str(number))
            yield Note(str(number), tmp_path)

    outcomes = run_in_pool(
        endless(),
        Prepare(tmp_path),
        workers=2,
        threads=1,
        on_start=lambda item: begun.append(item.name),
    )
    with closing(outcomes):
        for number, _ in enumerate(outcomes, 1):
            assert len(taken) <= number + 2
            if number == 20:
                break
    assert len(set(begun)) == len(begun) >= 20
    wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in prepared(tmp_path)))


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("fail", ModelError, "The model is gone. Fetch it."),
        ("fault", EngineError, "could not prepare: KeyError"),
        ("die", EngineError, r"before they have begun \(signal 9\)"),
    ],
)
def test_a_setup_that_fails_ends_the_run(
    tmp_path: Path, how: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        list(run_in_pool(notes(tmp_path, ""), Prepare(tmp_path, how), workers=1, threads=1))


def test_the_log_of_a_worker_comes_here_with_the_name_of_its_item(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "sct_rootlets_task")
    run(tmp_path, "log")
    assert caplog.messages == ["sub-01: odd voxels"]


class Driver:
    """The command in a process group of its own, known by a mark in the environment."""

    def __init__(self, folder: Path, *hows: str, workers: int = 2) -> None:
        self.mark = f"STUDY_TEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, DRIVER, folder, str(workers), *hows],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, name: value, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def workers(self) -> list[int]:
        return [process for process in marked(self.mark) if process != self.process.pid]

    def end(self) -> tuple[int, str]:
        """Return the exit code and what was printed, when nothing of it runs any more."""
        _, text = self.process.communicate(timeout=60)
        wait_until(lambda: not marked(self.mark))
        return self.process.returncode, text


@pytest.mark.parametrize(
    ("number", "to_group", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGKILL, False, -signal.SIGKILL),
    ],
)
def test_when_the_driver_is_stopped_its_workers_end_and_what_is_done_stays(
    tmp_path: Path, number: signal.Signals, to_group: bool, code: int
) -> None:
    driver = Driver(tmp_path, "", "", "sleep600", "sleep600")
    wait_until(lambda: all(note.begun.exists() for note in notes(tmp_path, *[""] * 4)))
    (os.killpg if to_group else os.kill)(driver.process.pid, number)
    start = time.monotonic()
    found, text = driver.end()
    assert (found, text) == (code, "driver: interrupted\n" if code == 130 else "")
    assert time.monotonic() - start < 20
    assert [note.output.exists() for note in notes(tmp_path, *[""] * 4)] == [
        *[True] * 2,
        False,
        False,
    ]


def test_ctrl_c_while_workers_start_prints_no_traceback(tmp_path: Path) -> None:
    driver = Driver(tmp_path, "sleep600")
    wait_until(driver.workers)
    os.killpg(driver.process.pid, signal.SIGINT)
    assert driver.end() == (130, "driver: interrupted\n")


def test_workers_of_a_command_without_streams_have_some(tmp_path: Path) -> None:
    command = ["sh", "-c", 'exec "$@" <&- 2>&-', "-", sys.executable, DRIVER, tmp_path, "1"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.check_output([*command, "streams"], env=environ, text=True, timeout=60)
    assert printed == "sub-01 done\n"


def kill_some(driver: Driver, whom: str, chance: random.Random) -> None:
    """Kill a worker, the driver, or all of them at once."""
    workers = driver.workers()
    chosen = {
        "worker": chance.sample(workers, min(1, len(workers))),
        "driver": [driver.process.pid],
        "all": [*workers, driver.process.pid],
    }
    for process in chosen[whom]:
        os.kill(process, signal.SIGKILL)


def test_kills_at_any_moment_change_nothing_in_the_end(tmp_path: Path) -> None:
    chance = random.Random(30)
    hows = ["sleep0.3"] * 6
    for whom in ("driver", "worker", "all"):
        for note in notes(tmp_path, *hows)[2:]:
            note.output.unlink(missing_ok=True)
        driver = Driver(tmp_path, *hows)
        time.sleep(chance.uniform(0.05, 0.55))
        kill_some(driver, whom, chance)
        assert driver.end()[0] == (0 if whom == "worker" else -signal.SIGKILL)
    assert Driver(tmp_path, *hows).end() == (0, "")
    for note in notes(tmp_path, *hows):
        assert note.output.read_text() == f"result of {note.name}\n" * 1000
