"""How many worker processes a machine can have, and how many threads each."""

from __future__ import annotations

from sct_rootlets_task.runtime import available_cores, available_memory_mb
from sct_rootlets_task.study.options import Resources

WORKER_MB = 2000
"""Memory of a worker, with room to spare: `python -m benchmarks.study` prints what one takes with
the built-in model, and the published model's size is about a GB more."""


def choose_workers(
    resources: Resources, *, items: int, cores: int | None = None, memory_mb: float | None = None
) -> tuple[int, int]:
    """Return how many worker processes there are to be, and how many threads each gets.

    One thread a worker gives the most images an hour: some steps of an image use one thread only.
    So there is a worker for each core that memory allows, and the cores that are left over become
    threads.

    Parameters
    ----------
    resources : Resources
        What the user asks for.
    items : int
        How many images there are at most; no more workers are of use.
    cores : int, optional
        Cores of this job; those that it may use by default.
    memory_mb : float, optional
        Free memory; what is free by default.

    Returns
    -------
    workers, threads : int
        At least one each.

    Examples
    --------
    >>> choose_workers(Resources(), items=100, cores=16, memory_mb=16_000)
    (8, 2)
    >>> choose_workers(Resources(threads=4), items=100, cores=16, memory_mb=64_000)
    (4, 4)
    """
    cores = cores or available_cores()
    memory = resources.memory_mb or memory_mb or available_memory_mb()
    by_memory = max(1, int(memory / WORKER_MB)) if memory else cores
    by_cores = max(1, cores // (resources.threads or 1))
    workers = resources.workers or min(by_cores, by_memory, max(1, items))
    return workers, resources.threads or max(1, cores // workers)
