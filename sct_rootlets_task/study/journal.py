"""What a run leaves to read: a log of JSON lines, the table of failures, lines about progress."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.io.locks import held
from sct_rootlets_task.io.progress import LINE_S, remaining
from sct_rootlets_task.io.tables import write_table
from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.outcome import FAILED, SET_ASIDE, Outcome
from sct_rootlets_task.study.records import IMAGE, read_record

logger = logging.getLogger(__name__)

LOGS, FAILURES = "logs", "failures.tsv"
COLUMNS: Mapping[str, str] = {
    "subject": "Subject.",
    "session": "Session.",
    "contrast": "Contrast of the image.",
    "image": "The image, as a path inside the data set.",
    "status": "failed, or set aside: its worker process died too often.",
    "kind": "Kind of the error.",
    "error": "The error in words.",
    "when": "When it was tried last.",
    "record": "Record of the image, as a path inside the folder of results.",
}
"""Columns of ``failures.tsv``."""

_LOCK = ".failures.lock"
_WAIT_S = 60.0
_LARGEST = 1 << 26


class Journal:
    """The log of one run, and its progress.

    Parameters
    ----------
    out_dir : Path
        Folder of results; the log is ``logs/<time>_<id>.jsonl`` in it.
    total : int
        How many images there are.

    Raises
    ------
    OutputError
        If the log cannot be written.

    Notes
    -----
    Each line is an object with ``event`` and ``time``: ``start`` with the command and versions,
    ``image`` with what came of one, ``end`` with the counts. A line is written whole, at once.
    """

    def __init__(self, out_dir: Path, total: int) -> None:
        self.counts: Counter[str] = Counter()
        self._total, self._worked = total, 0
        self._start = self._told = time.monotonic()
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self.path = out_dir / LOGS / f"{stamp}_{secrets.token_hex(4)}.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream: IO[bytes] = self.path.open("xb", buffering=0)
        except OSError as error:
            raise OutputError(
                f"The log {printable(self.path)} cannot be written ({reason_of(error)}). Check the "
                "permissions of OUT_DIR."
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        stopped = {"stopped": kind.__name__} if kind else {}
        seconds = round(time.monotonic() - self._start, 1)
        self.write("end", counts=dict(self.counts), seconds=seconds, **stopped)
        self._stream.close()

    def write(self, event: str, **content: Any) -> None:
        """Write a line; a full disk does not end the run.

        Parameters
        ----------
        event : str
            What happened.
        **content : object
            Plain values.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"event": event, "time": now, **content}, default=str)
        with contextlib.suppress(OSError):
            self._stream.write(f"{line}\n".encode("utf-8", "backslashreplace"))

    def begin(self, command: Iterable[str], **content: Any) -> None:
        """Write what is run.

        Parameters
        ----------
        command : iterable of str
            Words of the command.
        **content : object
            What else is to be known.
        """
        self.write("start", command=list(command), version=VERSION, process=os.getpid(), **content)

    def skip(self, status: str) -> None:
        """Count an image for which nothing is to be done."""
        self.counts[status] += 1

    def add(self, item: Item, outcome: Outcome) -> None:
        """Write what came of an image, and tell about progress.

        Parameters
        ----------
        item, outcome : Item, Outcome
            The image, and what came of it.
        """
        self.counts[outcome.status] += 1
        self._worked += 1
        told = {"kind": outcome.kind, "error": outcome.error} if outcome.error else {}
        self.write(
            "image",
            name=outcome.name,
            image=item.source,
            status=outcome.status,
            seconds=outcome.seconds,
            **told,
            **outcome.details,
        )
        if outcome.error:
            logger.error("%s: %s", printable(item.source), outcome.error)
        self._tell()

    def _tell(self) -> None:
        """Log how far the run is, now and then."""
        now, seen = time.monotonic(), sum(self.counts.values())
        if now - self._told < LINE_S and seen < self._total:
            return
        self._told = now
        skipped = seen - self._worked
        left = remaining(now - self._start, self._worked, self._total - skipped)
        bad = self.counts[FAILED] + self.counts[SET_ASIDE]
        failed = f", {bad} failed" if bad else ""
        rest = f", about {left} left" if left and seen < self._total else ""
        logger.info("%d of %d images%s%s", seen, self._total, failed, rest)


def write_failures(out_dir: Path, items: Iterable[Item], failed: Iterable[Item]) -> Path | None:
    """Bring the table of failures up to date: those of this run, and of others that still hold.

    Parameters
    ----------
    out_dir : Path
        Folder of results.
    items : iterable of Item
        All images of this run: what the table says of them is replaced.
    failed : iterable of Item
        Those of them that failed, in this run or before.

    Returns
    -------
    Path or None
        The table, where it has a row. It stays with its header alone where it was there before.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    table = out_dir / FAILURES
    now = {item.record: item for item in failed}
    own = {item.record for item in items}
    try:
        with held(out_dir / _LOCK, wait_s=_WAIT_S, mode=0o666):
            before = {out_dir / row["record"] for row in _rows(table)} - own
            rows = [row for path in sorted(before | set(now)) if (row := _row(out_dir, path))]
            if not rows and not table.exists():
                return None
            write_table(table, rows, COLUMNS)
    except OSError as error:
        raise OutputError(
            f"The table of failures {printable(table)} cannot be written ({reason_of(error)}). "
            "Check the permissions of OUT_DIR."
        ) from error
    return table if rows else None


def _rows(table: Path) -> Iterator[Mapping[str, str]]:
    """Yield the rows of an earlier table; what is no such table has none."""
    try:
        with open_regular(table) as stream:
            lines = stream.read(_LARGEST).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    yield from (row for row in rows if row.get("record") not in (None, "n/a"))


def _row(out_dir: Path, path: Path) -> dict[str, str] | None:
    """Return the row of an image that failed, from its record; None where it did not."""
    record = read_record(path)
    if record is None or record.status not in (FAILED, SET_ASIDE):
        return None
    return {
        "subject": record.subject,
        "session": record.session,
        "contrast": record.contrast,
        "image": record.inputs[IMAGE].path,
        "status": record.status,
        "kind": record.kind,
        "error": record.error,
        "when": record.when,
        "record": path.relative_to(out_dir).as_posix(),
    }
