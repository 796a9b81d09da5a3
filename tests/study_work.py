"""Items for tests of the runners, and what works on them in another process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sct_rootlets_task.errors import ImageError, ModelError
from sct_rootlets_task.study.outcome import DONE, Outcome

logger = logging.getLogger("sct_rootlets_task.tests")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "SCT_ROOTLETS_THREADS")


@dataclass(frozen=True)
class Note:
    """An item whose result is a file in a folder; `how` says what happens on the way."""

    name: str
    folder: Path
    how: str = ""

    @property
    def output(self) -> Path:
        return self.folder / f"{self.name}.txt"

    @property
    def begun(self) -> Path:
        return self.folder / f"{self.name}.begun"


@dataclass(frozen=True)
class Prepare:
    """The setup of a worker; it leaves a trace of each time that it was called."""

    folder: Path
    how: str = ""
    found: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> Callable[[Note], Outcome]:
        with (self.folder / "prepared").open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "fail":
            raise ModelError("The model is gone. Fetch it.")
        if self.how == "fault":
            raise KeyError("x")
        return work


def work(note: Note) -> Outcome:
    with note.begun.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    tries = len(note.begun.read_text().splitlines())
    if note.how == "die" or (note.how == "die twice" and tries < 3):
        os.kill(os.getpid(), signal.SIGKILL)
    if note.how == "exit":
        os._exit(3)
    if note.how == "fail":
        raise ImageError("The image is empty. Check it.")
    if note.how == "memory":
        raise MemoryError
    if note.how == "unsendable":
        return Outcome(note.name, DONE, details={"x": lambda: None})
    if note.how == "streams":
        for number in range(3):
            os.fstat(number)
    if note.how == "log":
        logger.warning("odd %s", "voxels")
        logger.debug("many words")
    if note.how.startswith("sleep"):
        time.sleep(float(note.how.removeprefix("sleep")))
    temporary = note.output.with_suffix(f".{os.getpid()}")
    temporary.write_text(f"result of {note.name}\n" * 1000)
    temporary.replace(note.output)
    found = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    numpy_was_loaded = "numpy" in sys.modules
    return Outcome(
        note.name, DONE, details={**found, "numpy": numpy_was_loaded, "pid": os.getpid()}
    )


def notes(folder: Path, *hows: str) -> list[Note]:
    return [Note(f"sub-{number:02d}", folder, how) for number, how in enumerate(hows, 1)]


def prepared(folder: Path) -> list[int]:
    """Return the processes that were prepared."""
    return [int(line) for line in (folder / "prepared").read_text().split()]


def marked(mark: str) -> list[int]:
    """Return the processes that have a text in their environment, but for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = mark.encode() in (process / "environ").read_bytes()
            is_dead = (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if is_marked and not is_dead and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def wait_until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.01)
