"""Run many damaged inputs: each must load, or end in an error of the package, soon."""

from __future__ import annotations

import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from typing import TypeVar

from sct_rootlets_task.errors import RootletsError

SECONDS = 5.0
"""Processor time of a case."""
MEMORY_BYTES = 2**29
"""What all cases together may take more than the first one."""

T = TypeVar("T")


def run(cases: Iterable[tuple[str, T]], load: Callable[[T], object]) -> int:
    """Return 1 if a case ended in another error, took long, or took much memory.

    It is meant for a process of its own, so that a crash of the interpreter is noticed.
    """
    failed, counts = 0, {"loaded": 0, "refused": 0}
    before = _peak_bytes()
    for name, content in cases:
        print(name, file=sys.stderr, flush=True)
        start = time.process_time()
        try:
            load(content)
            counts["loaded"] += 1
        except RootletsError:
            counts["refused"] += 1
        except BaseException:  # what nobody foresaw is what is looked for
            failed += 1
            print(f"FAILED {name}: {traceback.format_exc()}")
        if time.process_time() - start > SECONDS:
            failed += 1
            print(f"FAILED {name}: took {time.process_time() - start:.1f} s")
    if _peak_bytes() - before > MEMORY_BYTES:
        failed += 1
        print(f"FAILED: memory grew from {before >> 20} to {_peak_bytes() >> 20} MiB")
    print(f"{counts['loaded']} loaded, {counts['refused']} refused, {failed} failed")
    return int(failed > 0)


def _peak_bytes() -> int:
    """Return the most memory this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
