"""A report: a folder of entries and the list of them, safe under many jobs at once.

Layout of the folder: ``index.html``, ``list.js`` (a row for each entry), ``static/`` (styles,
scripts), ``entries/<id>/`` (one image each), ``report.json`` (identity of the report), ``.alike``
(entries that share their names) and ``.lock``. ``cohort.html``, if somebody writes it, is linked.
"""

from __future__ import annotations

import contextlib
import functools
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
from sct_rootlets_task.qc import listing, pages
from sct_rootlets_task.qc.entry import Details, identity, write_data, write_entry
from sct_rootlets_task.qc.folder import (
    ENTRIES,
    LOCK,
    RECORD,
    STATIC,
    has_history,
    identity_of,
    is_identity,
    record_of,
    require_report_folder,
)
from sct_rootlets_task.qc.naming import entry_name, keep_alike, tell_of
from sct_rootlets_task.qc.render import require_pillow
from sct_rootlets_task.qc.stored import UnreadableEntry, load_entry, plain, shown

logger = logging.getLogger(__name__)

INDEX = pages.PAGE
"""File of a report's folder that lists its images."""

_NEW, _OLD = ".new-", ".old-"
_NAMED = 5
_PATIENCE_S, _POLL_S = 300.0, 0.02
_ABANDONED_S = 24 * 3600.0


def add_entry(
    report: Path, image: Path, segmentation: Path, details: Details | None = None
) -> Path:
    """Put an image with its segmentation into a report, in place of an earlier run's entry.

    Any number of processes may do so at once. An entry is made aside. Then, under a lock that is
    held for milliseconds, it is moved into place and its row is appended to the list. This costs
    the same however many entries there are, and nothing is left to do when all are added. Only a
    report of another version is made anew first.

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
    entries = report / ENTRIES
    with _errors_of(report), _aside(report, identity(image, segmentation, details)) as folder:
        entry = write_entry(folder, image, segmentation, details)
        # Both may be others under the lock; but then a few files are written once more.
        data = _write(folder, entry, entry_name(entries, entry), identity_of(report) or "")
        with _lock(report):
            report_id = _ready(report)
            name = entry_name(entries, entry)
            if (data["id"], data["report"]) != (name, report_id):
                data = _write(folder, data, name, report_id)
            tell_of(entries, entry, name)
            _take_in(report, folder, data)
    return entries / name / pages.PAGE


def rebuild(report: Path) -> Path:
    """Make the list anew from the entries that are there.

    It is needed after an entry's folder was removed, damaged or put there by hand, and after a
    ``cohort.html`` was written or removed. What cannot be read is named in the list and logged.

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
            return _rebuild(report)


def entry_addresses(report: Path) -> dict[tuple[str, str], str]:
    """Return where the pages of a report's images are, to link to them from another page.

    Parameters
    ----------
    report : Path
        Folder of the report.

    Returns
    -------
    dict of (str, str) to str
        By :func:`address_key` of image and level map, an address relative to the report's folder,
        such as ``index.html#sub-01-0123456789ab``. It is empty where there is no report.
    """
    try:
        rows = listing.read_rows(report / listing.ROWS)
    except OSError:
        return {}
    return {listing.places_of(row): f"{INDEX}#{name}" for name, row in rows.items()}


def address_key(image: Path, segmentation: Path) -> tuple[str, str]:
    """Return under what :func:`entry_addresses` has the page of an image and its level map."""
    image_path, segmentation_path = (
        plain(str(path.parent.resolve() / path.name)) for path in (image, segmentation)
    )
    return image_path, segmentation_path


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
        _remove(folder)


@contextlib.contextmanager
def _lock(report: Path) -> Iterator[None]:
    path = report / LOCK
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(
                held(path, wait_s=_PATIENCE_S, poll_s=_POLL_S, mode=_lock_mode(path))
            )
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


def _write(folder: Path, entry: Mapping[str, Any], name: str, report_id: str) -> dict[str, Any]:
    data = write_data(folder, entry, name=name, report=report_id)
    pages.write_entry_pages(folder, data)
    return data


def _ready(report: Path) -> str:
    """Make or renew what all entries share, if need be, and return the report's identity."""
    record = record_of(report)
    if _is_current(report, record):
        listing.mend(report / listing.ROWS, functools.partial(_is_in_place, report))
    else:
        _rebuild(report)
        record = record_of(report)
    return str(record["report"])


def _is_current(report: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether this version made pages and list of a report; links are made anew as files."""
    index = report / INDEX
    return (
        record == _record(report, record.get("report"))
        and is_identity(record["report"])
        and (report / STATIC).is_dir()
        and not index.is_symlink()
        and index.is_file()
        and index.stat().st_size > 0
        and listing.is_writable(report / listing.ROWS)
    )


def _record(report: Path, report_id: Any) -> dict[str, Any]:
    cohort = (report / pages.COHORT).is_file()
    return {"report": report_id, "pages": pages.fingerprint(), "cohort": cohort}


def _take_in(report: Path, folder: Path, data: Mapping[str, Any]) -> None:
    """Move a new entry into the report and list it; the caller holds the lock."""
    rows, place = report / listing.ROWS, report / ENTRIES / data["id"]
    replaces = os.path.lexists(place)
    keep_alike(report / ENTRIES, place.name)
    with listing.adding(rows, listing.row_of(data)):
        _move_in(folder, place)
    if replaces and listing.is_bloated(rows):
        listing.compact(rows, lambda name: os.path.lexists(report / ENTRIES / name))


def _is_in_place(report: Path, row: Mapping[str, Any]) -> bool:
    """Tell whether the entry of a row is there; restore what a job that died had moved away."""
    place = report / ENTRIES / row["id"]
    _restore(_old(place), place)
    try:
        return listing.row_of(load_entry(place)) == row
    except UnreadableEntry:
        return False


def _old(place: Path) -> Path:
    return place.with_name(f"{_OLD}{place.name}.0")


def _move_in(folder: Path, place: Path) -> None:
    """Put a new entry in place; an old one takes its folder, which is removed without the lock."""
    old = _old(place)
    _restore(old, place)
    with contextlib.suppress(FileNotFoundError):
        place.rename(old)
    try:
        folder.rename(place)
    except OSError:
        _restore(old, place)
        raise
    with contextlib.suppress(OSError):
        old.rename(folder)


def _restore(old: Path, place: Path) -> None:
    """Move an old entry back where no new one came, else remove it."""
    if os.path.lexists(place):
        _remove(old)
    else:
        with contextlib.suppress(OSError):
            old.rename(place)


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


def _rebuild(report: Path) -> Path:
    """Make list and index from what lies there; the caller holds the lock."""
    _tidy(report / ENTRIES)
    report_id = _identify(report)
    entries, unreadable = _entries(report)
    record, known = _record(report, report_id), record_of(report)
    if known.get("pages") != record["pages"] or not (report / STATIC).is_dir():
        pages.write_static(report / STATIC)
        unreadable |= _write_pages(report, entries)
    listed = [entry for entry in entries if entry["id"] not in unreadable]
    listed.sort(key=lambda e: (e["dataset"], e["subject"], e["image"], e["image_path"]))
    for entry in listed:
        keep_alike(report / ENTRIES, entry["id"])
    listing.write_rows(report / listing.ROWS, map(listing.row_of, listed), unreadable)
    pages.write_index(report / INDEX, report_id, cohort=record["cohort"])
    if known != record:
        write_json(report / RECORD, record)
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
        _restore(folder, entries / folder.name.removeprefix(_OLD).rpartition(".")[0])
    for folder in entries.glob(f"{_NEW}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.lstat().st_mtime > _ABANDONED_S:
                _remove(folder)
