"""What the machine offers a job, and keeping within it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError

MOST_THREADS = 1024
"""More threads than this are taken for a slip."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
    "nnUNet_def_n_proc",
)
_CGROUP_QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"), None),
    (
        Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ),
)


def available_cores(environ: Mapping[str, str] | None = None) -> int:
    """Return how many cores this job may use.

    The smallest of: cores of the machine, the process's CPU affinity, the CPU quota of its cgroup
    (containers), and ``SLURM_CPUS_PER_TASK``.
    """
    limits = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(len(os.sched_getaffinity(0)))
    quota = _cgroup_cores()
    if quota:
        limits.append(quota)
    slurm = environment.read_count(environment.SLURM_CORES, environ)
    return min([*limits, slurm] if slurm else limits)


def default_threads(environ: Mapping[str, str] | None = None) -> int:
    """Return how many CPU threads to use when no option says so.

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


def _cgroup_cores() -> int | None:
    for quota_file, period_file in _CGROUP_QUOTAS:
        try:
            words = quota_file.read_text().split()
            words += period_file.read_text().split() if period_file else []
        except OSError:
            continue
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            return max(1, round(int(words[0]) / int(words[1])))
    return None


def limit_threads(threads: int) -> None:
    """Keep every pool of worker threads in this process to a number of threads.

    Call it before numerical libraries are imported where you can: most read the variables it sets
    once, when they are loaded. torch is told also when it is loaded already, as it is inside SCT.
    """
    for name in _THREAD_VARIABLES:
        os.environ[name] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


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
