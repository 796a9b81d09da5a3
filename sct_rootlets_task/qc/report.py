"""A report: a folder of entries and the index over them, safe under many jobs at once.

Layout of the folder: ``index.html``, ``static/`` (styles, scripts), ``entries/<id>/`` (one image
each), ``report.json`` (identity of the report) and ``.lock``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError, RootletsError
from sct_rootlets_task.io.atomic import write_json
from sct_rootlets_task.io.locks import held
from sct_rootlets_task.qc import pages
from sct_rootlets_task.qc.entry import Details, identity, write_data, write_entry
from sct_rootlets_task.qc.folder import (
    ENTRIES,
    LOCK,
    RECORD,
    STATIC,
    has_history,
    identity_of,
    record_of,
    require_report_folder,
)
from sct_rootlets_task.qc.naming import entry_name
from sct_rootlets_task.qc.render import require_pillow
from sct_rootlets_task.qc.stored import UnreadableEntry, load_entry, shown

logger = logging.getLogger(__name__)

INDEX = pages.PAGE
"""File of a report's folder that lists its images."""

_NEW, _OLD = ".new-", ".old-"
_NAMED = 5
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
        If a file cannot be read, the grids differ or a mask is empty.
    UsageError
        If the folder holds files of another program under the names of a report.
    OutputError
        If the report cannot be written.
    MissingDependencyError
        If Jinja2 or Pillow is not installed.
    """
    require_pillow()
    pages.require_jinja()
    require_report_folder(report)
    details = details or Details()
    with _errors_of(report), _aside(report, identity(image, segmentation, details)) as folder:
        entry = write_entry(folder, image, segmentation, details)
        with _lock(report):
            _tidy(report / ENTRIES)
            report_id = _identify(report)
            place = _take_in(report, folder, entry, report_id)
            _rebuild(report, report_id)
    return place / pages.PAGE


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
    UsageError
        If the folder holds files of another program under the names of a report.
    OutputError
        If the report cannot be written.
    MissingDependencyError
        If Jinja2 is not installed.
    """
    pages.require_jinja()
    require_report_folder(report)
    with _errors_of(report):
        (report / ENTRIES).mkdir(parents=True, exist_ok=True)
        with _lock(report):
            _tidy(report / ENTRIES)
            return _rebuild(report, _identify(report))


@contextlib.contextmanager
def _errors_of(report: Path) -> Iterator[None]:
    """Turn whatever goes wrong into an error of the package; the report is as it was."""
    try:
        yield
    except RootletsError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write the QC report {shown(report)}: {error.strerror or error}. Choose "
            "another folder, or free space and check permissions."
        ) from error
    except UnreadableEntry as error:
        raise OutputError(
            f"No QC page can be made of this image: {shown(error)}. Correct what was given with it."
        ) from error
    except Exception as error:
        raise OutputError(
            f"The QC page could not be made ({type(error).__name__}: {shown(error)}). Please "
            "report this with the command, the shape and the orientation of the image."
        ) from error


@contextlib.contextmanager
def _aside(report: Path, name: str) -> Iterator[Path]:
    """Give a folder beside the entries that is gone afterwards, unless it was moved."""
    folder = report / ENTRIES / f"{_NEW}{name}.{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(report: Path) -> Iterator[None]:
    path = report / LOCK
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path, wait_s=_PATIENCE_S, mode=_lock_mode(path)))
        except TimeoutError as error:
            raise OutputError(
                f"Another job has kept the QC report {shown(report)} locked for {_PATIENCE_S:.0f} "
                "s. If none is running, remove its .lock file and try again."
            ) from error
        except (OSError, NotImplementedError) as error:
            raise _no_lock(path, error) from error
        yield


def _lock_mode(path: Path) -> int:
    """Make the lock file, with the rights that the user's umask leaves, and return them."""
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        mode = path.lstat().st_mode
    except OSError as error:
        raise _no_lock(path, error) from error
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"Expected an ordinary file, found a link or a folder: {shown(path)}. Remove it, or "
            "choose another folder for the QC report."
        )
    return stat.S_IMODE(mode) | stat.S_IRUSR | stat.S_IWUSR


def _no_lock(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or error
    return OutputError(
        f"The QC report cannot be locked with {shown(path)}: {reason}. Give the group the right to "
        "write this file, or choose a folder on another disk."
    )


def _take_in(report: Path, folder: Path, entry: Mapping[str, Any], report_id: str) -> Path:
    """Give a new entry its name and move it into the report; the caller holds the lock."""
    name = entry_name(report / ENTRIES, entry)
    data = write_data(folder, entry, name=name, report=report_id)
    pages.write_entry_pages(folder, data)
    place = report / ENTRIES / name
    _move_in(folder, place)
    return place


def _move_in(folder: Path, place: Path) -> None:
    """Replace an entry; a job that dies between the two steps leaves the old one to be restored."""
    old = place.with_name(f"{_OLD}{place.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    folder.rename(place)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _identify(report: Path) -> str:
    """Return the identity of the report, a new one only where none can be found."""
    known = identity_of(report)
    if known is None and has_history(report):
        logger.warning(
            "%s: the report's identity is lost, so browsers will not show the ratings they keep "
            "of it. Load a CSV of the ratings into the report, or put back its %s from a backup.",
            shown(report),
            RECORD,
        )
    return known or uuid.uuid4().hex


def _rebuild(report: Path, report_id: str) -> Path:
    """Make the index from what lies there; the caller holds the lock."""
    entries, unreadable = _entries(report)
    record = {"report": report_id, "pages": pages.fingerprint()}
    known = record_of(report)
    if known.get("pages") != record["pages"] or not (report / STATIC).is_dir():
        pages.write_static(report / STATIC)
        unreadable |= _write_pages(report, entries)
    if known != record:
        write_json(report / RECORD, record)
    listed = [entry for entry in entries if entry["id"] not in unreadable]
    listed.sort(key=lambda e: (e["dataset"], e["subject"], e["image"], e["image_path"]))
    unreadable = pages.write_index(report / INDEX, listed, report_id, unreadable)
    if unreadable:
        _warn_of(report, unreadable)
    return report / INDEX


def _entries(report: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return the entries, and the folders that are none with the reason."""
    entries: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for folder in sorted((report / ENTRIES).iterdir()):
        if folder.name.startswith("."):
            continue
        try:
            entries.append(load_entry(folder))
        except UnreadableEntry as error:
            unreadable[shown(folder.name)] = shown(error)
    return entries, unreadable


def _write_pages(report: Path, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Make the pages of all entries anew and return those of which none can be made."""
    failed = {}
    for entry in entries:
        folder = report / ENTRIES / entry["id"]
        try:
            pages.write_entry_pages(folder, entry)
        except UnreadableEntry as error:
            failed[entry["id"]] = shown(error)
        except OutputError as error:
            logger.warning("The page of another version is kept: %s", error)
    return failed


def _warn_of(report: Path, unreadable: Mapping[str, str]) -> None:
    named = [f"{name} ({reason})" for name, reason in list(unreadable.items())[:_NAMED]]
    more = len(unreadable) - len(named)
    logger.warning(
        "%s: what cannot be read is no entry, is left as it is and not listed: %s%s. Run these "
        "images again, with a newer version of this package if one made them.",
        shown(report / ENTRIES),
        ", ".join(named),
        f" and {more} more" if more else "",
    )


def _tidy(entries: Path) -> None:
    """Restore what a job that died had moved away, and remove what such jobs left behind."""
    for folder in entries.glob(f"{_OLD}*"):
        place = entries / folder.name.removeprefix(_OLD).rpartition(".")[0]
        if os.path.lexists(place):
            _remove(folder)
        else:
            with contextlib.suppress(OSError):
                folder.rename(place)
    for folder in entries.glob(f"{_NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _ABANDONED_S:
                _remove(folder)
