"""Work on this machine: worker processes that prepare once and take one item after the other.

The pools of the standard library cannot tell which item a dead process was working on. So each
worker is a process with a pipe of its own, and has one item at a time.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from sct_rootlets_task import environment
from sct_rootlets_task.errors import TERMINATED, EngineError, RootletsError
from sct_rootlets_task.runtime import announced_threads
from sct_rootlets_task.study.attempt import ATTEMPTS, Named, Setup, attempt, counted, set_aside
from sct_rootlets_task.study.outcome import FAILED, Outcome

_PACKAGE = "sct_rootlets_task"
_STOP_S = 5.0
"""Time for a worker to remove its temporary files when it is told to stop."""
_READY, _LOG, _OUTCOME, _UNFIT = "ready", "log", "outcome", "unfit"
"""What a worker tells: it is prepared, a record of its log, a result, why it cannot prepare."""


def run_in_pool(
    items: Iterable[Named],
    setup: Setup,
    *,
    workers: int,
    threads: int,
    attempts: int = ATTEMPTS,
    on_start: Callable[[Named], object] | None = None,
) -> Generator[Outcome, None, None]:
    """Work on items in processes of this machine; yields outcomes as they come.

    A worker that dies, because memory is short for example, is replaced and its item tried again.
    An item whose worker died too often is set aside. All workers end with the iterator: use
    :func:`contextlib.closing` where it may be left early. They also end when this process is
    killed.

    Processes are started by the method *spawn*, which imports the main module again. So a script
    that calls this needs ``if __name__ == "__main__":`` around what it does.

    Parameters
    ----------
    items : iterable of Item
        Items, taken one by one as workers become free. No item: no worker is started.
    setup : callable
        Is called once in each worker and returns what works on an item.
    workers, threads : int
        Worker processes, and CPU threads of each. Libraries in a worker are told by their
        variables, and ``SCT_ROOTLETS_THREADS`` is set.
    attempts : int
        How many deaths of its worker an item is granted.
    on_start : callable, optional
        Is told of each item that is begun, and of each that is tried again.

    Yields
    ------
    Outcome
        One for each item, in the order in which they are finished.

    Raises
    ------
    RootletsError
        What `setup` raised in a worker.
    EngineError
        If workers die before they are prepared.
    """
    waiting = iter(items)
    slots = [_Slot(setup, threads, attempts, on_start or _nothing) for _ in range(workers)]
    try:
        busy = [slot for slot in slots if slot.take(waiting)]
        while busy:
            ready = connection.wait([pipe for slot in busy for pipe in slot.sources])
            for slot in [one for one in busy if not set(one.sources).isdisjoint(ready)]:
                outcome = slot.listen()
                if outcome is None:
                    continue
                # The next item is handed out first: whoever gets the outcome may take its time.
                if not slot.take(waiting):
                    busy.remove(slot)
                yield outcome
    finally:
        _stop(slots)


def _nothing(_item: Named) -> None:
    """Tell nobody."""


class _Slot:
    """The place of one worker: the process that fills it now, and its item."""

    def __init__(
        self, setup: Setup, threads: int, attempts: int, on_start: Callable[[Named], object]
    ) -> None:
        self._setup, self._threads, self._attempts = setup, threads, attempts
        self._on_start = on_start
        self._item: Named | None = None
        self._deaths = self._false_starts = 0
        self._is_ready = False
        self._pipe: Connection | None = None
        self.process: multiprocessing.process.BaseProcess | None = None

    @property
    def sources(self) -> tuple[Any, ...]:
        """What :func:`multiprocessing.connection.wait` waits for: a message, or the end."""
        assert self.process is not None
        return self._pipe, self.process.sentinel

    @property
    def is_busy(self) -> bool:
        """Whether there is an item."""
        return self._item is not None

    def take(self, waiting: Iterator[Named]) -> bool:
        """Take the next item, if there is one, and have it worked on."""
        self._item, self._deaths = next(waiting, None), 0
        if self._item is None:
            self._send(None)
            return False
        if self.process is None:
            self._start()
        elif self._is_ready:
            self._hand_over()
        return True

    def listen(self) -> Outcome | None:
        """Hear the worker; returns the outcome of the item when there is one."""
        assert self._pipe is not None
        try:
            if self._pipe.poll():
                return self._understand(*self._pipe.recv())
            if self.process is not None and self.process.is_alive():
                return None
        except (EOFError, OSError):
            pass
        return self._bury()

    def _understand(self, kind: str, content: Any) -> Outcome | None:
        assert self._item is not None
        if kind == _OUTCOME:
            return counted(content, self._deaths)
        if kind == _UNFIT:
            raise content
        if kind == _LOG:
            logging.getLogger(content.name).handle(content)
        if kind == _READY:
            self._is_ready, self._false_starts = True, 0
            self._hand_over()
        return None

    def _hand_over(self) -> None:
        assert self._item is not None
        self._on_start(self._item)
        self._send(self._item)

    def _send(self, item: Named | None) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its end is heard of
                self._pipe.send(item)

    def _bury(self) -> Outcome | None:
        """Replace a worker that died, unless it died too often for this item."""
        assert self.process is not None
        assert self._pipe is not None
        assert self._item is not None
        self.process.join()
        how = _ending(self.process.exitcode)
        self._pipe.close()
        began, self.process, self._pipe = self._is_ready, None, None
        if began:
            self._deaths += 1
            if self._deaths >= self._attempts:
                return set_aside(self._item, self._deaths, how)
        else:
            self._false_starts += 1
            if self._false_starts >= self._attempts:
                raise EngineError(
                    f"Worker processes end before they have begun ({how}). See what they printed "
                    'above; a script of your own needs if __name__ == "__main__": around its calls.'
                )
        self._start()
        return None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        level = logging.getLogger(_PACKAGE).getEffectiveLevel()
        self._is_ready = False
        process = context.Process(target=_serve, args=(theirs, self._setup, level), daemon=True)
        with _announced(self._threads), _deaf_to_keyboard():
            process.start()
            self.process = process
        theirs.close()


@contextlib.contextmanager
def _announced(threads: int) -> Iterator[None]:
    """Set what a new process is to find in its environment."""
    before = {name: value for name, value in os.environ.items() if name == environment.THREADS}
    with announced_threads(threads):
        os.environ.update({environment.THREADS: str(threads)})
        try:
            yield
        finally:
            os.environ.pop(environment.THREADS)
            os.environ.update(before)


@contextlib.contextmanager
def _deaf_to_keyboard() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, not even while they import; here it waits."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # else it starts on the way, and unblocks SIGINT again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is not None and code < 0:
        return f"signal {-code}"
    return f"exit code {code}"


def _stop(slots: list[_Slot]) -> None:
    """End all workers; those that have nothing more to do are ending by themselves."""
    for slot in slots:
        if slot.process is not None and slot.is_busy:
            slot.process.terminate()
    for process in filter(None, (slot.process for slot in slots)):
        process.join(_STOP_S)
        process.kill()
        process.join()
        process.close()


def _serve(pipe: Connection, setup: Setup, level: int) -> None:
    """Be a worker: prepare, then work on each item that comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    teller = _Teller(pipe, level)
    try:
        work = setup()
    except Exception as error:
        teller.tell(_UNFIT, _sendable(error))
        return
    teller.tell(_READY)
    with contextlib.suppress(EOFError):
        while (item := pipe.recv()) is not None:
            teller.item = item.name
            teller.tell(_OUTCOME, attempt(work, item))


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however it ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(TERMINATED)


def _sendable(error: Exception) -> RootletsError:
    """Return an error that surely arrives; a fault keeps its name."""
    if isinstance(error, RootletsError):
        return error
    return EngineError(f"A worker could not prepare: {type(error).__name__}: {error}")


class _Teller(logging.handlers.QueueHandler):
    """Sends to the driver what a worker has to say, its log too."""

    def __init__(self, pipe: Connection, level: int) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self._pipe, self._turn = pipe, threading.Lock()
        self.item = ""
        logger = logging.getLogger(_PACKAGE)
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(level)

    def tell(self, kind: str, content: Any = None) -> None:
        """Send a message; an outcome that cannot be sent is a failed one."""
        try:
            self._send(kind, content)
        except OSError:  # the driver is gone, and this process is about to be
            os._exit(TERMINATED)
        except Exception as error:
            text = f"Its outcome cannot be sent: {error}"
            self._send(_OUTCOME, Outcome(self.item, FAILED, type(error).__name__, text))

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record of the log, with the item's name."""
        if self.item and not str(record.msg).startswith(self.item):
            record.msg = f"{self.item}: {record.msg}"
        with contextlib.suppress(OSError):  # the driver is gone
            self._send(_LOG, record)

    def _send(self, kind: str, content: Any) -> None:
        with self._turn:
            self._pipe.send((kind, content))
