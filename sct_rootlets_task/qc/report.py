"""A report: a folder of entries and the index over them, safe under many jobs at once.

Layout of the folder: ``index.html``, ``static/`` (styles, scripts), ``entries/<id>/`` (one image
each), ``report.json`` (identity of the report) and ``.lock``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.files import write_json
from sct_rootlets_task.qc import pages
from sct_rootlets_task.qc.entry import DATA, SCHEMA, Details, identity, write_entry
from sct_rootlets_task.qc.render import require_pillow

logger = logging.getLogger(__name__)

INDEX = pages.PAGE
"""File of a report's folder that lists its images."""

_ENTRIES, _NEW, _OLD = "entries", ".new-", ".old-"
_PATIENCE_S = 300.0
_ABANDONED_S = 24 * 3600.0


def add_entry(
    report: Path, image: Path, segmentation: Path, details: Details | None = None
) -> Path:
    """Put an image with its segmentation into a report, in place of an earlier run's entry.

    Any number of processes may do so at once: an entry is made aside and moved into place when it
    is complete, and the index is made anew from all entries under a lock.

    Parameters
    ----------
    report : Path
        Folder of the report; made if it does not exist.
    image : Path
        NIfTI image.
    segmentation : Path
        Level map on the grid of the image; it may be empty.
    details : Details, optional
        Names, command, model, flags and measures to show.

    Returns
    -------
    Path
        Page of the image. The list of all images is ``report / "index.html"``.

    Raises
    ------
    ImageError
        If a file cannot be read or the grids differ.
    OutputError
        If the report cannot be written.
    MissingDependencyError
        If Jinja2 or Pillow is not installed.
    """
    require_pillow()
    pages.require_jinja()
    details = details or Details()
    name = identity(image, segmentation, details)
    with _errors_of(report), _aside(report, name) as folder:
        entry = write_entry(folder, image, segmentation, details)
        pages.write_entry_pages(folder, entry)
        with _lock(report):
            _move_in(folder, report / _ENTRIES / name)
            _rebuild(report)
    return report / _ENTRIES / name / pages.PAGE


def rebuild(report: Path) -> Path:
    """Make the index anew, for example after an entry's folder was removed by hand.

    Parameters
    ----------
    report : Path
        Folder of the report.

    Returns
    -------
    Path
        The index.

    Raises
    ------
    OutputError
        If the report cannot be written.
    MissingDependencyError
        If Jinja2 is not installed.
    """
    pages.require_jinja()
    with _errors_of(report):
        (report / _ENTRIES).mkdir(parents=True, exist_ok=True)
        with _lock(report):
            return _rebuild(report)


@contextlib.contextmanager
def _errors_of(report: Path) -> Iterator[None]:
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write the QC report {report}: {error.strerror or error}. Choose another "
            "folder, or free space and check permissions."
        ) from error


@contextlib.contextmanager
def _aside(report: Path, name: str) -> Iterator[Path]:
    """Give a folder beside the entries that is gone afterwards, unless it was moved."""
    folder = report / _ENTRIES / f"{_NEW}{name}.{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(report: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        with FileLock(report / ".lock", timeout=_PATIENCE_S):
            yield
    except Timeout as error:
        raise OutputError(
            f"Another job has kept the QC report {report} locked for {_PATIENCE_S:.0f} s. If none "
            "is running, remove its .lock file and try again."
        ) from error


def _move_in(folder: Path, place: Path) -> None:
    """Replace an entry; a job that dies between the two steps leaves the old one to be restored."""
    old = place.with_name(f"{_OLD}{place.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    folder.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _rebuild(report: Path) -> Path:
    """Make the index from what lies there; the caller holds the lock."""
    _tidy(report / _ENTRIES)
    record = _read(report / "report.json") or {}
    current = pages.fingerprint()
    entries = [entry for _, entry in _entries(report)]
    if record.get("pages") != current:
        pages.write_static(report / "static")
        for folder, entry in _entries(report):
            pages.write_entry_pages(folder, entry)
        record = {"report": record.get("report") or uuid.uuid4().hex, "pages": current}
        write_json(report / "report.json", record)
    entries.sort(key=lambda entry: (entry["dataset"], entry["subject"], entry["image"]))
    pages.write_index(report / INDEX, entries, record["report"])
    return report / INDEX


def _entries(report: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder in sorted((report / _ENTRIES).iterdir()):
        if folder.name.startswith("."):
            continue
        entry = _read(folder / DATA)
        if entry is not None and (entry.get("id"), entry.get("schema")) == (folder.name, SCHEMA):
            yield folder, entry
        else:
            logger.warning("%s is no entry of the report and is left out of its index", folder)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _tidy(entries: Path) -> None:
    """Restore what a job that died had moved away, and remove what such jobs left behind."""
    for folder in entries.glob(f"{_OLD}*"):
        place = entries / folder.name.removeprefix(_OLD).rpartition(".")[0]
        if place.exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.rename(place)
    for folder in entries.glob(f"{_NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
