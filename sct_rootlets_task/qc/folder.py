"""The folder of a report: whether it is one of ours, and which report it is.

Nothing here writes, so that all of it can be asked before anything is run.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError, UsageError
from sct_rootlets_task.qc import pages
from sct_rootlets_task.qc.listing import ROWS, is_list
from sct_rootlets_task.qc.stored import (
    DATA,
    NAME,
    UnreadableEntry,
    load_entry,
    read_bytes,
    read_record,
    shown,
)

RECORD = "report.json"
"""File with the identity of a report, under which browsers keep ratings."""

ENTRIES, STATIC, LOCK = "entries", "static", ".lock"

_ADVICE = "Choose another folder for the QC report, or check permissions."
_IDENTITY = re.compile(r"[A-Za-z0-9-]{1,64}")
_MARK = re.compile(rb'<meta name="generator" content="sct_rootlets_task ')
_IN_INDEX = re.compile(rb'<body data-report="([A-Za-z0-9-]{1,64})"')
_MOST_BYTES = 1 << 26
_OF_SCT = ("_assets", "_json/qc_*.json", "qc_results.json")


def require_report_folder(report: Path) -> None:
    """Find out, before anything is run, whether a folder can hold a report.

    Parameters
    ----------
    report : Path
        Folder of the report; it may be missing, or hold a report of this package and other files.

    Raises
    ------
    OutputError
        If it is no folder or cannot be written to.
    UsageError
        If something that is not of this package has a name the report needs.
    """
    if not _is_writable_folder(report):
        return
    try:
        # A job that is making the report right now may be between two of its steps.
        found = _foreign(report) and _foreign(report)
    except OSError as error:
        raise OutputError(
            f"Cannot read the QC report {shown(report)}: {error}. {_ADVICE}"
        ) from error
    if found:
        raise UsageError(found)


def _is_writable_folder(report: Path) -> bool:
    """Tell whether the folder is there; refuse what can never become or be a report."""
    try:
        is_there = stat.S_ISDIR(report.stat().st_mode)
    except FileNotFoundError:
        return _can_be_made(report)
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot use the folder {shown(report)}: {error}. {_ADVICE}") from error
    if not is_there:
        raise OutputError(f"Expected a folder, found the file {shown(report)}. {_ADVICE}")
    _require_right(report)
    _require_right(report / ENTRIES)
    lock = report / LOCK
    if lock.is_file() and not os.access(lock, os.R_OK | os.W_OK):
        raise OutputError(
            f"You may not write {shown(lock)}, by which jobs take turns. Ask its owner to "
            "let your group write it (chmod g+rw), or choose another folder for the QC report."
        )
    return True


def _can_be_made(report: Path) -> bool:
    if report.is_symlink():
        raise OutputError(f"{shown(report)} is a link to nowhere. {_ADVICE}")
    above = next(parent for parent in report.absolute().parents if parent.exists())
    if not above.is_dir():
        raise OutputError(f"Expected a folder, found the file {shown(above)}. {_ADVICE}")
    _require_right(above)
    return False


def _require_right(folder: Path) -> None:
    if folder.is_dir() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise OutputError(f"You may not read and write in the folder {shown(folder)}. {_ADVICE}")


def _foreign(report: Path) -> str:
    """Return what stands in the way of a report, as a sentence with the way out, or nothing."""
    ours = is_ours(report)
    for name in (pages.PAGE, ROWS, RECORD, LOCK, STATIC, ENTRIES):
        path = report / name
        wrong = _wrong_kind(path) or (not ours and _is_foreign(path))
        if name == pages.PAGE and path.is_file() and path.stat().st_size:
            wrong = wrong or not _is_our_index(path)
        if wrong:
            kind = "Spinal Cord Toolbox's QC report" if _is_of_sct(report) else "another program"
            return (
                f"{shown(path)} is not of a QC report of this package but of {kind}, and is kept. "
                "Choose another folder for the report, or move it away."
            )
    if not ours and _is_of_sct(report):
        return (
            f"{shown(report)} holds a QC report of Spinal Cord Toolbox, which is kept. Choose "
            "another folder for this report."
        )
    return ""


def _wrong_kind(path: Path) -> bool:
    """Tell whether something of another kind, or a link that would be written through, is there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if path.name in (STATIC, ENTRIES):
        return not stat.S_ISDIR(mode)
    if path.name == LOCK:
        return not stat.S_ISREG(mode)
    # A file that is a link is replaced, never written through: data sets under git-annex have such.
    return not path.is_file() and not stat.S_ISLNK(mode)


def _is_foreign(path: Path) -> bool:
    """Tell whether something has one of our names in a folder that is not known as a report."""
    if not os.path.lexists(path):
        return False
    if path.name == LOCK:
        return path.stat().st_size > 0
    if path.name == ROWS:
        return not is_list(path)
    if path.name == STATIC:
        return not pages.is_static(path)
    if path.name == ENTRIES:
        return any(not _may_be_entry(folder) for folder in _visible(path))
    return True


def _may_be_entry(folder: Path) -> bool:
    return bool(NAME.fullmatch(folder.name)) and os.path.lexists(folder / DATA)


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


def _is_of_sct(report: Path) -> bool:
    return any(next(report.glob(pattern), None) for pattern in _OF_SCT)


def is_ours(report: Path) -> bool:
    """Tell whether a folder holds a report of this package, of whatever version."""
    keys, own = set(record_of(report)) - {"cohort"}, {"report", "pages"}
    if _is_our_index(report / pages.PAGE) or keys >= own or (keys and keys <= own):
        return True
    return next(_readable(report), None) is not None


def has_history(report: Path) -> bool:
    """Tell whether images were added to a report before."""
    if os.path.lexists(report / pages.PAGE) or os.path.lexists(report / RECORD):
        return True
    return next(_visible(report / ENTRIES), None) is not None


def identity_of(report: Path) -> str | None:
    """Return the identity of a report: from its record, its index or its entries.

    Parameters
    ----------
    report : Path
        Folder of the report.

    Returns
    -------
    str or None
        None where it stands nowhere.
    """
    known = record_of(report).get("report")
    if is_identity(known):
        return str(known)
    found = _IN_INDEX.search(_read(report / pages.PAGE))
    if found:
        return found[1].decode("ascii")
    counts = Counter(entry.get("report") for entry in _readable(report))
    named = [(count, name) for name, count in counts.items() if is_identity(name)]
    return max(named)[1] if named else None


def is_identity(value: object) -> bool:
    """Tell whether something can be the identity of a report."""
    return isinstance(value, str) and bool(_IDENTITY.fullmatch(value))


def record_of(report: Path) -> dict[str, Any]:
    """Return identity and version of the pages of a report; nothing where that is damaged."""
    try:
        content = read_record(report / RECORD)
    except UnreadableEntry:
        return {}
    return content if isinstance(content, dict) else {}


def _is_our_index(path: Path) -> bool:
    text = _read(path)
    return bool(_MARK.search(text) and _IN_INDEX.search(text))


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, _MOST_BYTES)
    except OSError:
        return b""


def _readable(report: Path) -> Iterator[dict[str, Any]]:
    try:
        folders = list(_visible(report / ENTRIES))
    except OSError:
        return
    for folder in folders:
        try:
            yield load_entry(folder)
        except UnreadableEntry:
            continue
