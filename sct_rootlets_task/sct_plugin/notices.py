"""Warnings that are given once a day: a study starts SCT hundreds of times."""

from __future__ import annotations

import contextlib
import hashlib
import time

_DAY_S = 24 * 60 * 60


def is_due(text: str) -> bool:
    """Return whether a warning has not been given today, and note that it is given now.

    The note is an empty file in the cache folder. Without such a folder, every warning is due.

    Parameters
    ----------
    text : str
        The warning; another one has a day of its own.
    """
    from sct_rootlets_task.errors import RootletsError
    from sct_rootlets_task.io.paths import cache_root

    root = None
    with contextlib.suppress(RootletsError):
        root = cache_root()
    if root is None:
        return True
    note = root / "notices" / hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    with contextlib.suppress(OSError):
        if abs(time.time() - note.stat().st_mtime) < _DAY_S:
            return False
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.touch()
    return True
