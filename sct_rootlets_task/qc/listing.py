"""The list of a report: a script to which each new entry appends a line of its own.

A page on disk may not read other files, but it may run scripts. So the rows of the list come in
``list.js``, and adding one costs the same however many there are. Of two rows of one entry the
later counts. A row is a comment until its entry is in place: then one byte, the end of a line,
turns it into code. So a job that dies at any moment leaves a list that the page can run.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from sct_rootlets_task.io.atomic import atomic_output
from sct_rootlets_task.io.untrusted import open_regular
from sct_rootlets_task.qc.stored import NAME, path_of, plain

ROWS = "list.js"
"""File of a report's folder with a row for each entry."""

_HEAD = re.compile(rb"QC\.head\((\d+), (.*)\);\n")
_ROW = re.compile(rb"QC\.row\((\{.*\})\);\n")
_PENDING, _MARK = b"// ", b"//"
_SLACK = 1 << 18
_TAIL = 1 << 14


def row_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the list shows of an entry and searches in.

    Parameters
    ----------
    entry : mapping
        Content of its data file, checked.

    Returns
    -------
    dict
        The names, paths and times as texts; ``found`` and ``missing`` levels as numbers; ``flags``
        as triples of code, place and whether it is a warning.
    """
    names = ("id", "stamp", "dataset", "subject", "image", "segmentation", "model", "made")
    row = {name: entry[name] for name in names}
    for kind in ("image", "segmentation"):
        row[f"{kind}_path"] = entry[f"{kind}_path"]
        place = plain(path_of(entry, kind))
        if place != entry[f"{kind}_path"]:
            row[f"{kind}_place"] = place
    for name in ("found", "missing"):
        row[name] = [level["level"] for level in entry[name]]
    row["flags"] = [[f["code"], f["level"], f["severity"] == "warning"] for f in entry["flags"]]
    for name in ("session", "corrected"):
        if entry.get(name):
            row[name] = entry[name]
    return row


def places_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return where the image and the level map of a row lie, their folders resolved."""
    image, segmentation = (
        str(row.get(f"{kind}_place", row[f"{kind}_path"])) for kind in ("image", "segmentation")
    )
    return image, segmentation


def write_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], unreadable: Mapping[str, str]
) -> None:
    """Write a list anew.

    Parameters
    ----------
    path : Path
        The file.
    rows : iterable of mapping
        Rows of :func:`row_of`.
    unreadable : mapping of str to str
        Folders that are no entries, with the reason.
    """
    body = b"".join(_line(row) for row in rows)
    head = f"QC.head({len(body)}, {json.dumps(unreadable)});\n".encode("ascii")
    with atomic_output(path) as temporary:
        temporary.write_bytes(head + body)


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a list by the entries' names, of each entry the last one.

    Raises
    ------
    OSError
        If the list cannot be read.
    """
    rows = {}
    with open_regular(path) as stream:
        for line in stream:
            row = _row_in(line)
            if row:
                rows[row["id"]] = row
    return rows


def is_list(path: Path) -> bool:
    """Tell whether a file is the list of a report."""
    try:
        with open_regular(path) as stream:
            return bool(_HEAD.fullmatch(stream.readline()))
    except OSError:
        return False


def is_writable(path: Path) -> bool:
    """Tell whether a line can be appended to a list; a link is never written through."""
    return is_list(path) and not path.is_symlink() and os.access(path, os.W_OK)


def mend(path: Path, is_in_place: Callable[[Mapping[str, Any]], bool]) -> None:
    """Put right what a job that died left of its row; the caller holds the report's lock.

    Parameters
    ----------
    path : Path
        The list.
    is_in_place : callable
        Tells of a row that does not count yet whether its entry is in place. Then it counts.
    """
    with _opened(path) as stream:
        start, line = _last_line(stream)
        if not line.endswith(b"\n"):
            stream.truncate(start)
            return
        row = _row_in(line.removeprefix(_PENDING)) if line.startswith(_PENDING) else None
        if row and is_in_place(row):
            _count(stream, start)


@contextlib.contextmanager
def adding(path: Path, row: Mapping[str, Any]) -> Iterator[None]:
    """Append a row that counts once the body is through; the caller holds the report's lock.

    Parameters
    ----------
    path : Path
        The list, mended.
    row : mapping
        The row.
    """
    with _opened(path) as stream:
        start = stream.seek(0, os.SEEK_END)
        stream.write(_PENDING + _line(row))
        stream.flush()
        yield
        _count(stream, start)


def is_bloated(path: Path) -> bool:
    """Tell whether more was appended to a list than it had when it was written."""
    size, _ = _head_of(path)
    return path.stat().st_size > 2 * size + _SLACK


def compact(path: Path, is_there: Callable[[str], bool]) -> None:
    """Write a list anew without the rows that no longer count, and those of entries removed."""
    _, unreadable = _head_of(path)
    rows = {name: row for name, row in read_rows(path).items() if is_there(name)}
    still = {name: reason for name, reason in unreadable.items() if name not in rows}
    write_rows(path, rows.values(), still)


def _head_of(path: Path) -> tuple[int, dict[str, str]]:
    """Return bytes of all rows when the list was written, and the folders that are no entries."""
    with open_regular(path) as stream:
        head = _HEAD.fullmatch(stream.readline())
    return (int(head[1]), json.loads(head[2])) if head else (0, {})


def _line(row: Mapping[str, Any]) -> bytes:
    return f"QC.row({json.dumps(row, separators=(',', ':'))});\n".encode("ascii")


def _row_in(line: bytes) -> dict[str, Any] | None:
    found = _ROW.fullmatch(line)
    try:
        row = json.loads(found[1]) if found else {}
    except (ValueError, RecursionError):
        return None
    return row if NAME.fullmatch(str(row.get("id"))) else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    flags = os.O_RDWR
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    with os.fdopen(os.open(path, flags), "r+b") as stream:
        yield stream


def _count(stream: BinaryIO, start: int) -> None:
    """End the comment that a row was."""
    stream.seek(start + len(_MARK))
    stream.write(b"\n")
    stream.flush()


def _last_line(stream: BinaryIO) -> tuple[int, bytes]:
    """Return where the last line begins, and the line."""
    size = stream.seek(0, os.SEEK_END)
    reach = _TAIL
    while True:
        start = stream.seek(max(0, size - reach))
        text = stream.read()
        end = text.rfind(b"\n", 0, max(0, len(text) - 1))
        if end >= 0 or start == 0:
            return start + end + 1, text[end + 1 :]
        reach *= 4
