"""Work on a dask cluster, whoever has started it: Slurm, Kubernetes or a person.

The cluster's own count of deaths blames items that had only been queued, and how many it allows is
a setting of the cluster. So each attempt leaves a mark in a file on the shared disk.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pickle
import secrets
import shutil
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sct_rootlets_task import environment
from sct_rootlets_task.errors import (
    EngineError,
    MissingDependencyError,
    OutputError,
    RootletsError,
    UsageError,
)
from sct_rootlets_task.io.untrusted import is_file, printable, reason_of
from sct_rootlets_task.study.attempt import (
    ATTEMPTS,
    Named,
    Setup,
    Work,
    attempt,
    counted,
    set_aside,
)
from sct_rootlets_task.study.outcome import Outcome

logger = logging.getLogger(__name__)

CONNECT_S = 30.0
"""Time for the scheduler to answer."""
PATIENCE_S = 60.0
"""After so long without a result it is looked whether the cluster has workers at all."""
_LEAST_WINDOW = 32
"""So many items are submitted at least: an adaptive cluster grows by what waits."""
_PREPARING = threading.Lock()
_SUSPECTS = threading.Lock()


def run_on_cluster(
    items: Iterable[Named],
    setup: Setup,
    address: str,
    *,
    work_dir: Path,
    seen: Sequence[Path] = (),
    attempts: int = ATTEMPTS,
) -> Generator[Outcome, None, None]:
    """Work on items on a dask cluster; yields outcomes as they come.

    All threads of a worker process share what `setup` returned. Where ``SCT_ROOTLETS_THREADS`` is
    not set on a worker, it is set to the number of its threads. Use :func:`contextlib.closing`
    where the iterator may be left early: what has not begun is taken back then.

    Parameters
    ----------
    items : iterable of Item
        Items, taken one by one. At most two a thread of the cluster, or 32, are submitted.
    setup : callable
        Is called once in each worker process and returns what works on an item.
    address : str
        Address of the scheduler, such as ``tcp://host:8786``, or its scheduler file.
    work_dir : Path
        Folder on a disk that all workers see, for marks that are removed in the end.
    seen : sequence of Path
        Further files and folders that all workers must see.
    attempts : int
        How many deaths of its worker an item is granted.

    Yields
    ------
    Outcome
        One for each item, in the order in which they are finished.

    Raises
    ------
    MissingDependencyError
        If the package distributed is missing.
    UsageError
        If no scheduler answers, or its workers lack this package or the shared disk.
    OutputError
        If nothing can be written to `work_dir`.
    EngineError
        If the connection is lost, or a worker cannot run what it is sent.
    RootletsError
        What `setup` raised on a worker.
    """
    with _marks(work_dir) as marks, _connected(address) as client:
        paths = tuple(path.resolve() for path in (marks, *seen))
        order = _Order(pickle.dumps(setup), environment.VERSION, paths, attempts)
        _require_fit(client, order)
        yield from _Submissions(client, order).run(enumerate(items))
        client.run(_release, on_error="ignore")


@dataclass(frozen=True)
class _Order:
    """What is sent with each item; the first of the paths is the folder of marks."""

    setup: bytes
    version: str
    paths: tuple[Path, ...]
    attempts: int

    def deaths(self, number: int) -> int:
        """Return how often an item was begun and not ended."""
        try:
            return len((self.paths[0] / str(number)).read_bytes())
        except FileNotFoundError:
            return 0

    @contextlib.contextmanager
    def marked(self, number: int) -> Iterator[None]:
        """Mark an item for as long as it is worked on; a mark that stays is a death."""
        path, deaths = self.paths[0] / str(number), self.deaths(number)
        # Written again and closed, since a network disk gets what is written when it is closed.
        path.write_bytes(b"." * (deaths + 1))
        try:
            yield
        finally:
            path.write_bytes(b"." * deaths)

    def forget(self, number: int) -> None:
        """Remove the marks of an item."""
        with contextlib.suppress(OSError):
            (self.paths[0] / str(number)).unlink()


@dataclass
class _Submissions:
    """The items that are on the cluster now."""

    client: Any
    order: _Order
    pending: dict[Any, tuple[int, Named]] = field(default_factory=dict)

    def run(self, waiting: Iterator[tuple[int, Named]]) -> Iterator[Outcome]:
        """Submit items and yield their outcomes."""
        try:
            self._fill(waiting)
            while self.pending:
                for future in self._finished():
                    outcome = self._outcome(future, *self.pending.pop(future))
                    self._fill(waiting)
                    if outcome is not None:
                        yield outcome
        finally:
            with contextlib.suppress(Exception):
                self.client.cancel(list(self.pending))

    def _fill(self, waiting: Iterator[tuple[int, Named]]) -> None:
        """Submit as many items as keep all threads busy; workers come and go."""
        window = max(2 * sum(_threads(self.client).values()), _LEAST_WINDOW)
        while len(self.pending) < window and (next_one := next(waiting, None)) is not None:
            self._submit(*next_one)

    def _submit(self, number: int, item: Named) -> None:
        key = f"sct_rootlets-{secrets.token_hex(8)}"
        call = pickle.dumps(_Call(_attend, (self.order, number, item)))
        future = self.client.submit(pickle.loads, call, key=key, pure=False)
        self.pending[future] = number, item

    def _finished(self) -> Iterable[Any]:
        """Wait for results; returns the futures that are done."""
        from distributed import TimeoutError as TooLong
        from distributed import wait

        while True:
            try:
                with self.client.as_current():
                    return wait(list(self.pending), PATIENCE_S, "FIRST_COMPLETED").done
            except TooLong:
                if not _threads(self.client):
                    logger.warning("The cluster has no workers; waiting for some.")
            except Exception as error:
                raise _lost(error) from error

    def _outcome(self, future: Any, number: int, item: Named) -> Outcome | None:
        """Return the outcome of an item; None where it is not there yet."""
        from distributed import KilledWorker

        if future.status in ("lost", "pending"):  # the worker died before it handed the result over
            self.pending[future] = number, item
            return None
        try:
            outcome: Outcome = future.result()
        except KilledWorker:
            deaths = self.order.deaths(number)
            if deaths < self.order.attempts:
                self._submit(number, item)
                return None
            outcome = set_aside(item, deaths)
        except RootletsError:
            raise
        except Exception as error:
            raise (_lost(error) if future.cancelled() else _unfit(error)) from error
        self.order.forget(number)
        return outcome


@dataclass(frozen=True)
class _Call:
    """A call whose pickle, when it is loaded, is done and gives the result.

    So it can be sent as bytes: a worker that lacks this package says so. It would die of a function
    that it cannot load.
    """

    function: Callable[..., object]
    arguments: tuple[object, ...]

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def _attend(order: _Order, number: int, item: Named) -> Outcome:
    """Work on an item, on a worker.

    All items that a process works on are blamed for its death. Those that were blamed before are
    worked on one at a time, so that the guilty one does not have the others set aside.
    """
    problem = _problem(order.version, order.paths)
    if problem:
        raise UsageError(problem)
    with _SUSPECTS if order.deaths(number) else contextlib.nullcontext():
        deaths = order.deaths(number)
        if deaths >= order.attempts:
            return set_aside(item, deaths)
        with order.marked(number):
            with _PREPARING:
                work = _prepared(order)
            return counted(attempt(work, item), deaths)


@functools.lru_cache(maxsize=2)
def _prepared(order: _Order) -> Work:
    """Return what works on items in this process, for the run that an order belongs to."""
    from distributed import get_worker

    os.environ.setdefault(environment.THREADS, str(get_worker().state.nthreads))
    work: Work = pickle.loads(order.setup)()
    return work


def _release() -> None:
    """Give back what was prepared, on a worker; a run that still needs it prepares again."""
    _prepared.cache_clear()


def _problem(version: str, paths: Sequence[Path]) -> str:
    """Return what is wrong with the process this runs in, on a worker; empty if nothing is."""
    if version != environment.VERSION:
        return (
            f"A worker of the cluster has version {environment.VERSION} of sct_rootlets_task, here "
            f"it is {version}. Install the same version everywhere, and restart the workers."
        )
    for path in paths:
        if not path.exists():
            return (
                f"A worker of the cluster does not see {printable(path)}. Data set and results "
                "must be on a disk that has the same path on all workers."
            )
    return ""


def _require_fit(client: Any, order: _Order) -> None:
    """Make sure that the workers there are now can do the work; later ones look for themselves."""
    call = pickle.dumps(_Call(_problem, (order.version, order.paths)))
    found = client.run(pickle.loads, call, on_error="return")
    for answer in found.values():
        if isinstance(answer, ImportError | AttributeError):
            raise _unfit(answer)
        if isinstance(answer, str) and answer:
            raise UsageError(answer)
    if not found:
        logger.info("The cluster has no workers yet; the run begins with the first.")


def _threads(client: Any) -> dict[str, int]:
    """Return the threads of each worker there is now."""
    try:
        return client.nthreads()
    except Exception as error:
        raise _lost(error) from error


def _unfit(error: BaseException) -> Exception:
    """Return the error of a worker that cannot run what it is sent."""
    if isinstance(error, ImportError | AttributeError):
        return UsageError(
            f"A worker of the cluster lacks sct_rootlets_task {environment.VERSION} "
            f"({reason_of(error)}). Install it into the environment of scheduler and workers."
        )
    return EngineError(
        f"The cluster could not run an item ({type(error).__name__}: {reason_of(error)}). See the "
        "log of its workers, then run the same command again."
    )


def _lost(reason: object) -> EngineError:
    said = reason_of(reason) if isinstance(reason, BaseException) else printable(reason)
    return EngineError(
        f"The cluster is gone ({said}). What is finished is kept: start a cluster, and run the "
        "same command again."
    )


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Give a client of the scheduler."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependencyError(
            "--scheduler needs the package distributed. Install it with: "
            'pip install "sct-rootlets-task[cluster]"'
        ) from error
    place = {"scheduler_file" if is_file(Path(address)) else "address": address}
    try:
        client = Client(**place, timeout=CONNECT_S, set_as_default=False)
    except Exception as error:  # of many kinds, for an address of a wrong form
        raise UsageError(
            f"No dask scheduler answers at {printable(address)} ({reason_of(error)}). Start one, "
            "and give its address (tcp://host:8786) or its scheduler file."
        ) from error
    try:
        yield client
    finally:
        with contextlib.suppress(Exception):
            client.close()


@contextlib.contextmanager
def _marks(work_dir: Path) -> Iterator[Path]:
    """Give a new folder for the marks of attempts, and remove it afterwards."""
    folder = work_dir / f"attempts-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write to {work_dir}: {reason_of(error)}. Choose another folder with -w."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
