"""Taking turns with other processes, also on network disks that refuse every file lock.

There a marker file that only one process can make stands for the lock. A killed process leaves its
marker behind, so that markers are not waited for without end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sct_rootlets_task.io.untrusted import printable

logger = logging.getLogger(__name__)

ABANDONED_S = 600.0
"""A marker that outlasts this time belongs to a killed process: installing takes minutes."""
_MARKER = ".held"
_PROBE = ".probe-"


@contextlib.contextmanager
def held(
    path: Path, *, wait_s: float, mode: int, meanwhile: str = "", poll_s: float = 0.2
) -> Iterator[None]:
    """Hold a lock that one process at a time can have.

    Parameters
    ----------
    path : Path
        File that is locked; it stays. Its folder exists.
    wait_s : float
        Seconds to wait for another process.
    mode : int
        Permissions of the file.
    meanwhile : str
        What to log before waiting.
    poll_s : float
        Seconds between two tries.

    Raises
    ------
    TimeoutError
        If another process keeps it for longer.
    OSError
        If the file cannot be made.
    """
    from filelock import FileLock

    lockable = knows_locks(path)
    lock = FileLock(str(path), mode=mode) if lockable else _marker(path, mode)
    try:
        lock.acquire(timeout=0)
    except TimeoutError:
        if not wait_s:
            raise
        if meanwhile:
            logger.warning("%s", meanwhile)
        _wait(lock, wait_s, breaks=not lockable, poll_s=poll_s)
    try:
        for probe in path.parent.glob(f"{path.name}{_PROBE}*"):  # of a process killed meanwhile
            probe.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file without waiting; None where the disk, or the system, knows no locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return None
    return True


def knows_locks(path: Path) -> bool:
    """Tell whether files beside a file can be locked.

    Raises
    ------
    OSError
        If no file can be made there.
    """
    if os.name == "nt":  # all of its disks know locks, by another function
        return True
    probe = path.with_name(f"{path.name}{_PROBE}{secrets.token_hex(8)}")
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        return try_lock(descriptor) is not None
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def _marker(path: Path, mode: int) -> Any:
    from filelock import SoftFileLock

    logger.warning(
        "The disk of %s knows no file locks. The file %s keeps other processes away meanwhile.",
        printable(path.parent),
        path.name + _MARKER,
    )
    marker = path.with_name(path.name + _MARKER)
    with contextlib.suppress(OSError):
        if abs(time.time() - marker.lstat().st_mtime) > ABANDONED_S:
            marker.unlink()
    return SoftFileLock(str(marker), mode=mode)


def _wait(lock: Any, wait_s: float, *, breaks: bool, poll_s: float) -> None:
    """Wait for a lock; a marker is taken over in the end."""
    try:
        lock.acquire(timeout=min(wait_s, ABANDONED_S) if breaks else wait_s, poll_interval=poll_s)
    except TimeoutError:
        if not breaks or wait_s < ABANDONED_S:
            raise
        logger.warning("A killed process has left %s; it is removed.", printable(lock.lock_file))
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.acquire(timeout=1)
