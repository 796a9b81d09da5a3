"""Which images have a result already, for ``-skip-existing``."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sct_rootlets_task.io.ownership import is_ours, sidecar_of
from sct_rootlets_task.io.untrusted import is_file, missing_content, open_regular

if TYPE_CHECKING:
    from sct_rootlets_task.io.outputs import Job

logger = logging.getLogger(__name__)

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 20


class Existing(NamedTuple):
    """Level maps of a command that are there already.

    Parameters
    ----------
    damaged : set of Path
        Those that end before their end, without anybody else's sidecar. They can be made anew.
    done : set of Path
        Those that are complete, and those that are not of this package and kept.
    """

    damaged: set[Path]
    done: set[Path]


def sort_by_result(jobs: Sequence[Job], task: str) -> Existing:
    """Return which level maps are there, and log what is kept.

    One is complete if the checksum in its sidecar is that of its file, and the sidecar names the
    same image and task. One of another image or task counts as missing. One that can be read and
    does not fit its sidecar was edited, or comes from elsewhere.

    Parameters
    ----------
    jobs : sequence of Job
        The images and the files to write.
    task : str
        Task that is to be run.
    """
    found = Existing(set(), set())
    for job in jobs:
        if _is_done(job, task):
            found.done.add(job.output)
        elif _is_leftover(job.output):
            found.damaged.add(job.output)
    return found


def _is_done(job: Job, task: str) -> bool:
    """Tell whether there is a level map that is complete or kept, and log which."""
    from sct_rootlets_task.qc.stored import read_sidecar

    if os.path.lexists(job.output) and (why := missing_content(job.output)):
        logger.warning("%s: the result %s is there and kept (%s).", job.image, job.output, why)
        return True
    if not is_file(job.output) or _is_leftover(job.output):
        return False
    record = read_sidecar(job.output)
    if record.get("Output") and is_ours(job.output):
        if _is_of(record, job.image, task):
            logger.info("%s: the result %s is there; skipped.", job.image, job.output)
        return _is_of(record, job.image, task)
    logger.warning(
        "%s: the level map %s was edited, or comes from another program. It is kept, and the image "
        "is skipped.",
        job.image,
        job.output,
    )
    return True


def _is_of(record: dict[str, Any], image: Path, task: str) -> bool:
    """Tell whether a sidecar is of a result of this image and task."""
    return record.get("Sources") == [image.name] and record.get("Task") == task


def _is_leftover(path: Path) -> bool:
    """Tell whether a file is empty or compressed and cut short, as a killed program leaves it.

    Beside one of our sidecars, or without any.
    """
    sidecar = sidecar_of(path)
    if os.path.lexists(sidecar) and not is_ours(sidecar):
        return False
    try:
        with open_regular(path) as stream:
            start = stream.read(len(_GZIP))
            stream.seek(0)
            with gzip.GzipFile(fileobj=stream) as content:
                while start == _GZIP and content.read(_CHUNK):
                    pass
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return True
    except OSError:
        return False
    return not start
