"""One item tried: whatever is wrong with it becomes an outcome, never the end of a run."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from sct_rootlets_task.errors import OutOfMemoryError, is_out_of_memory
from sct_rootlets_task.io.untrusted import reason_of
from sct_rootlets_task.study.outcome import FAILED, SET_ASIDE, Outcome

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""An item whose worker died so often is set aside."""


class Named(Protocol):
    """What a runner knows of an item. It must pickle, too."""

    @property
    def name(self) -> str:
        """Name of the item in messages, logs and tables."""


Work = Callable[[Any], Outcome]
"""Works on one item."""
Setup = Callable[[], Work]
"""Is called once in each worker process and returns what works on an item. It must pickle."""


def attempt(work: Work, item: Named) -> Outcome:
    """Work on an item; an error that `work` let through is a failed outcome.

    Parameters
    ----------
    work : callable
        Works on one item.
    item : Item
        The item.
    """
    start = time.perf_counter()
    try:
        return work(item)
    except Exception as error:
        logger.debug("While working on %s:", item.name, exc_info=True)
        shown = OutOfMemoryError() if is_out_of_memory(error) else error
        seconds = time.perf_counter() - start
        return Outcome(item.name, FAILED, type(shown).__name__, reason_of(shown), seconds)


def counted(outcome: Outcome, deaths: int) -> Outcome:
    """Return an outcome that says how many attempts it took, if it was not the first."""
    if not deaths:
        return outcome
    return replace(outcome, details={**outcome.details, "attempts": deaths + 1})


def set_aside(item: Named, deaths: int, how: str = "") -> Outcome:
    """Return the outcome of an item whose worker died too often.

    Parameters
    ----------
    item : Item
        The item.
    deaths : int
        How often its worker died.
    how : str
        How it ended the last time, in words.
    """
    text = (
        f"Its worker process died {deaths} times{f' ({how})' if how else ''}; most often memory "
        "is short. Use fewer workers or give them more memory, then run with --retry-failed."
    )
    return Outcome(item.name, SET_ASIDE, "WorkerDied", text, details={"attempts": deaths})
