"""Remembering for a while that a model could not be fetched.

On a cluster, hundreds of jobs would each wait for a network that is not there. A note in the
installer's folder tells the next jobs, and goes out of date by itself.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from sct_rootlets_task.io.untrusted import open_regular, printable

VALID_S = 15 * 60.0
"""Time after which a run tries again; ``-install`` tries at once."""
_NOTE = "unreachable"
_MOST_BYTES = 2000


def remember(work: Path, reason: str) -> None:
    """Note that nothing could be fetched.

    Parameters
    ----------
    work : Path
        The installer's folder of the model. Where it is missing or closed, nothing is noted.
    reason : str
        What went wrong, in one line.
    """
    with contextlib.suppress(OSError):
        (work / _NOTE).unlink(missing_ok=True)
        with (work / _NOTE).open("xb") as out:  # never through a link
            out.write(reason.encode("utf-8", "backslashreplace")[:_MOST_BYTES])


def recall(work: Path) -> str | None:
    """Return why nothing could be fetched a short while ago; None if nothing is known.

    Parameters
    ----------
    work : Path
        The installer's folder of the model.
    """
    try:
        with open_regular(work / _NOTE, follow=False) as stream:
            age = time.time() - (work / _NOTE).stat().st_mtime
            reason = stream.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    if not 0 <= age < VALID_S:
        return None
    passed, left = round(age / 60), round((VALID_S - age) / 60)
    return f"{printable(reason, 400)} ({passed} min ago; it is tried again in {left} min)"
