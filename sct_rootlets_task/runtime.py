"""What the machine offers a job, and keeping within it.

How many CPU threads are used is decided here for the commands, inside SCT and from Python:

1. the option ``-threads``, or the argument of the same name;
2. ``SCT_ROOTLETS_THREADS``;
3. the smallest of what the job was given, see :func:`available_cores`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError

logger = logging.getLogger(__name__)

MOST_THREADS = 1024
"""More threads than this are taken for a slip."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "nnUNet_def_n_proc",
)
_GROUPS = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_CPU_ROOTS = (".", "unified", "cpu", "cpu,cpuacct")
"""Where below it quotas are kept: in version 2, in both versions side by side, in version 1."""
_MEMORY_ROOTS = (".", "unified", "memory")
_MEMORY_FILES = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
_MEMINFO = Path("/proc/meminfo")


def available_cores(environ: Mapping[str, str] | None = None) -> int:
    """Return how many cores this job may use.

    The smallest of: cores of the machine, the CPU affinity of the process, the CPU quota of its
    cgroups (containers), and the variables that schedulers set (``environment.CORES``). A variable
    that holds no whole number of at least 1 does not count.
    """
    limits = [os.cpu_count() or 1]
    if hasattr(os, "process_cpu_count"):  # Python 3.13; people can set it
        limits.append(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    for name in environment.CORES:
        given = environment.read_count(name, environ)
        if given is not None:
            limits.append(given)
        elif found := environment.read(name, environ):
            logger.info("%s is not followed: %.40r is no whole number from 1 on.", name, found)
    return min([*limits, *_quotas()])


def default_threads(environ: Mapping[str, str] | None = None) -> int:
    """Return how many CPU threads to use when nobody says so in the call.

    That is ``SCT_ROOTLETS_THREADS`` where it is set, else all the cores this job may use.

    Raises
    ------
    UsageError
        If the variable is no number from 1 to :data:`MOST_THREADS`.
    """
    wanted = environment.read(environment.THREADS, environ)
    if not wanted:
        return available_cores(environ)
    threads = environment.read_count(environment.THREADS, environ)
    if threads is None or threads > MOST_THREADS:
        raise UsageError(
            f"{environment.THREADS} expects a number of at least 1 and at most {MOST_THREADS}, "
            f"found {wanted[:40]!r}."
        )
    return threads


def chosen_threads(wanted: int | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Return how many CPU threads to use: those wanted, else :func:`default_threads`.

    Raises
    ------
    UsageError
        If it is no number from 1 to :data:`MOST_THREADS`.
    """
    if wanted is None:
        return default_threads(environ)
    is_number = isinstance(wanted, Integral) and not isinstance(wanted, bool)
    if not is_number or not 1 <= wanted <= MOST_THREADS:
        raise UsageError(
            f"threads expects a whole number from 1 to {MOST_THREADS}, found {wanted!r:.40}. Leave "
            "it out to use the cores that the job may use."
        )
    return int(wanted)


def _quotas() -> list[int]:
    """Return the CPU quotas of the cgroups of this process, in whole cores, those that are set."""
    found = []
    for folder in _groups(_CPU_ROOTS):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and all(word.isascii() and word.isdecimal() for word in words):
            quota, period = map(int, words)
            found += [max(1, quota // period)] if period else []
    return found


def _groups(roots: Sequence[str]) -> list[Path]:
    """Return the folders of the cgroups of this process, and of those above: all of them count."""
    try:
        lines = _GROUPS.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = {line.split(":", 2)[-1].strip("/") for line in lines} | {""}
    inside = {part for name in names for part in (Path(name), *Path(name).parents)}
    return [_CGROUPS / root / part for root in roots for part in sorted(inside)]


def available_memory_mb() -> float | None:
    """Return how much memory this job may still use; None where the system does not say.

    That is what the machine can give without swapping, within the limits of the job's cgroups.
    """
    found = [_meminfo("MemAvailable")]
    for folder in _groups(_MEMORY_ROOTS):
        for most, used in _MEMORY_FILES:
            numbers = [*_words(folder / most)[:1], *_words(folder / used)[:1]]
            if len(numbers) == 2 and all(word.isascii() and word.isdecimal() for word in numbers):
                found.append((int(numbers[0]) - int(numbers[1])) / 1e6)
    known = [one for one in found if one is not None]
    return max(0.0, min(known)) if known else None


def _meminfo(name: str) -> float | None:
    words = _words(_MEMINFO)
    if f"{name}:" not in words:
        return None
    return int(words[words.index(f"{name}:") + 1]) * 1024 / 1e6


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").split()
    except (OSError, ValueError):  # not there, closed, or no name of a file
        return []


@contextlib.contextmanager
def announced_threads(threads: int) -> Iterator[None]:
    """Tell libraries by their variables how many CPU threads to make.

    For a process of one's own, before numpy is imported: most libraries read the variables once,
    when they are loaded.
    """
    before = {name: value for name, value in os.environ.items() if name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name in _THREAD_VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(before)


class _Counted:
    """A setting of the process that several threads change at the same time.

    The first who comes notes what was set, the last who goes restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._noted: Any = None

    @contextlib.contextmanager
    def noted(self, look: Callable[[], Any], restore: Callable[[Any], object]) -> Iterator[Any]:
        """Note what `look` returns, if nobody has, and call `restore` with it after the last."""
        with self._lock:
            if not self._users:
                self._noted = look()
            self._users += 1
        try:
            yield self._noted
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    restore(self._noted)


class _Pools:
    """Worker threads of libraries in one process."""

    def __init__(self) -> None:
        self.blas = _Counted()
        self.torch = _Counted()
        self.torch_was_used = False


_POOLS: dict[int, _Pools] = {}
"""By process: a fork copies this module with what its threads were doing, locks included."""


def _pools() -> _Pools:
    return _POOLS.setdefault(os.getpid(), _Pools())


@contextlib.contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Keep numpy's and scipy's linear algebra to a number of CPU threads for a while.

    Without the package threadpoolctl nothing happens. Of several threads at once, the first one's
    number holds for all.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with _pools().blas.noted(lambda: threadpool_limits(threads, "blas"), _restore_blas):
        yield


def _restore_blas(limits: Any) -> None:
    """Undo limits of linear algebra, also those that another thread has set.

    Newer releases of threadpoolctl silently ignore all threads but the one that limited OpenBLAS.
    Here the thread that comes last restores, and nobody may be kept out afterwards.
    """
    from threadpoolctl import OpenBLASController

    release = getattr(OpenBLASController, "clear_controlling_thread", lambda **_: None)
    release(force=True)
    limits.restore_original_limits()
    release(force=True)


@contextlib.contextmanager
def limited_torch(torch: Any, threads: int) -> Iterator[None]:
    """Keep the package ``torch`` to a number of CPU threads for a while.

    Threads that torch has made do not survive a fork, and torch would wait for them for ever: in a
    process forked after torch was used here, the only thread does all.
    """
    pools = _pools()
    if any(other.torch_was_used for other in _POOLS.values() if other is not pools):
        _tell_of_fork(os.getpid())
        threads = 1
    else:
        pools.torch_was_used = True
    with pools.torch.noted(torch.get_num_threads, lambda _: None) as before:
        # torch keeps the number for each thread that calls it.
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@functools.cache
def _tell_of_fork(_process: int) -> None:
    """Say once in each process why it is slow."""
    logger.warning(
        "torch was used before this process was forked, so that it runs on one thread here. Start "
        "processes with the method 'spawn' to have more."
    )


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can be asked to (glibc).

    Reading and compiling a network leaves many small holes, which the library would keep.
    """
    if sys.platform != "linux":
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
