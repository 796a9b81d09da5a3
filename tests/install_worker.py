"""Installations in processes of their own, which can be killed at a chosen point.

Run as a script it is a *worker*: it imports the installer once, then forks a child for each job
read from stdin (a line of JSON), so that a job starts at once. :class:`Worker` drives it.

A child can be told to kill itself with SIGKILL right before its n-th change of the file system in
a *phase* of the installation. Since SIGKILL runs no handler, this equals a kill from outside that
arrives at that instant, and unlike one it always hits.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

PHASES = ("fetch", "unpack", "swap", "clean")


def phase_of(text: str, slot: str) -> str:
    """Return which phase of the installation a change of these paths belongs to."""
    if "trash-" in text:
        return "clean"
    if "previous-" in text or text.endswith(f"/{slot}"):
        return "swap"
    if ".zip" in text:
        return "fetch"
    return "unpack" if "incoming-" in text else "prepare"


class Worker:
    """Drives one worker process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def start(self, root: Path, **job: Any) -> int:
        """Start a job and return the process id of its child."""
        assert self._process.stdin is not None
        print(json.dumps({"root": str(root), **job}), file=self._process.stdin, flush=True)
        (word, pid) = next(self.events())
        assert word == "pid"
        return int(pid)

    def events(self) -> Iterator[tuple[str, str]]:
        """Yield what the child reports, up to its end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, text = line.rstrip("\n").partition(" ")
            yield word, text
            if word == "exit":
                return

    def finish(self) -> dict[str, list[str]]:
        """Wait for the child's end and return all its reports by kind."""
        reports: dict[str, list[str]] = {}
        for word, text in self.events():
            reports.setdefault(word, []).append(text)
        return reports

    def run(self, root: Path, **job: Any) -> dict[str, list[str]]:
        self.start(root, **job)
        return self.finish()


def _report(word: str, text: object = "") -> None:
    os.write(1, f"{word} {text}\n".replace("\n", " ").rstrip().encode() + b"\n")


class _LogToReports(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _report("log", record.getMessage())


def _watch(job: dict[str, Any], slot: str) -> None:
    """Report every change of the file system in the root, and die before a chosen one."""
    root, kill = job["root"], job.get("kill")
    done: Counter[str] = Counter()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            return
        paths = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
        # rmtree works relative to an open folder and names only the last part.
        inside = [path for path in paths if path.startswith(root) or not Path(path).is_absolute()]
        if not inside:
            return
        phase = phase_of(" ".join(inside), slot) if inside[0].startswith(root) else "clean"
        done[phase] += 1
        _report("step", f"{phase} {event} {' '.join(inside)}")
        if kill == [phase, done[phase]]:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _child(job: dict[str, Any]) -> None:
    from model_zips import make_release, make_task
    from sct_rootlets_task.models.download import RetryPolicy
    from sct_rootlets_task.models.install import install
    from sct_rootlets_task.models.installed import slot_name

    release = make_release("r1", job["official"])
    task = make_task(release)
    logger = logging.getLogger("sct_rootlets_task")
    logger.addHandler(_LogToReports())
    if job.get("largest_file"):
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
    if job.get("watch"):
        _watch(job, slot_name(task, release))
    retry = RetryPolicy(attempts=2, pause=0.01, connect=5, stall=5, lock=job.get("lock", 60))
    try:
        model = install(task, release, Path(job["root"]), urls=job.get("urls"), retry=retry)
    except Exception as error:
        _report("error", f"{type(error).__name__}: {error}")
    else:
        _report("done", model.path)


def _serve_jobs() -> None:
    # Loaded once here, so that a forked child starts at once.
    for name in ("filelock", "requests", "tqdm", "model_zips", "sct_rootlets_task.models.install"):
        import_module(name)
    from sct_rootlets_task.inference.openvino_import import import_openvino

    import_openvino()

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _report("pid", os.getpid())
            _child(json.loads(line))
            os._exit(0)
        _report("exit", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    _serve_jobs()
