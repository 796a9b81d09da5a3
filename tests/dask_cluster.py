"""A real dask cluster on this machine: scheduler and workers are processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from distributed import Client

from study_work import wait_until


class Cluster:
    """A scheduler in a folder, and workers that are added to it."""

    def __init__(self, folder: Path, allowed_failures: int) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._setting = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures)}
        self._start("scheduler", "--no-dashboard", "--port=0", f"--scheduler-file={self.file}")
        wait_until(lambda: self.file.exists() and self.file.read_text().endswith("}"))

    @property
    def address(self) -> str:
        return str(json.loads(self.file.read_text())["address"])

    def add_workers(self, count: int, threads: int, *first_on_path: Path) -> None:
        """Start worker processes, each of which is replaced when it dies."""
        options = ["--no-dashboard", "--memory-limit=0", f"--local-directory={self.folder}"]
        numbers = [f"--nworkers={count}", f"--nthreads={threads}"]
        where = f"--scheduler-file={self.file}"
        self._start("worker", where, *options, *numbers, first_on_path=first_on_path)
        # A worker that died at once would take its nanny with it.
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(client.nthreads()) + count, timeout=60)

    def _start(self, what: str, *options: str, first_on_path: Sequence[Path] = ()) -> None:
        path = os.pathsep.join([*map(str, first_on_path), *sys.path])
        with (self.folder / f"{what}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", what, "--host=127.0.0.1", *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, **self._setting, "PYTHONPATH": path},
            )
        self._processes.append(process)

    def kill(self) -> None:
        """End all processes, also those that the workers' nannies have started."""
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def cluster_in(folder: Path, *, allowed_failures: int = 3) -> Iterator[Cluster]:
    """Give a scheduler; `allowed_failures` is how many deaths dask itself grants a task."""
    cluster = Cluster(folder, allowed_failures)
    try:
        yield cluster
    finally:
        cluster.kill()
