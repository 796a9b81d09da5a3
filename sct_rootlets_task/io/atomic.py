"""Writing results so that nothing is ever half written, and nothing else is touched.

A result is written under a random hidden name in its folder and moved into place when complete.
Files that belong together are all written before the first is moved. What a killed run has left
goes with the next run that writes into the folder.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError, RootletsError
from sct_rootlets_task.io.locks import try_lock
from sct_rootlets_task.io.untrusted import open_regular

_TEMPORARY = re.compile(r"\.sct_rootlets-[0-9a-f]{16}(\.[^/]{0,15})?")
_SETTLED_S = 2.0
"""An unlocked temporary file is nobody's only after this time: another job may be about to lock."""
_ABANDONED_S = 24 * 60 * 60.0
"""Age after which a temporary file is removed where the disk knows no locks."""
_TURN_S = 10.0
"""Longest wait for another job that is moving files in the same folder."""
_CHUNK = 1 << 20
_FORMULA = (*"=+-@＝＋－＠", "\t", "\r", "\n")
"""What a cell begins with that a spreadsheet would run as a formula."""


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Give a temporary name to write one file to, see :func:`atomic_outputs`."""
    with atomic_outputs(path) as (temporary,):
        yield temporary


@contextlib.contextmanager
def atomic_outputs(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Write files that belong together: all are complete before the first is moved into place.

    Parameters
    ----------
    *paths : Path
        Final names, in the order in which they are moved. Put the file by which others know that
        the result is there at the end. Folders are made if needed.

    Yields
    ------
    tuple of Path
        Names of empty files to write to, in the same folders and with the same extensions.

    Raises
    ------
    OutputError
        If a folder or a file cannot be written; then all of the old files are in place.
    """
    with contextlib.ExitStack() as stack:
        try:
            temporaries = tuple(stack.enter_context(_temporary(path)) for path in paths)
            yield temporaries
            for temporary in temporaries:
                _flush_to_disk(temporary)
            with _turn(paths[-1].parent):
                _move_all(temporaries, paths)
        except RootletsError:
            raise
        except OSError as error:
            raise OutputError(
                f"Cannot write {paths[-1]}: {error.strerror or error}. Choose another output with "
                "-o, or free space and check permissions."
            ) from error
    for folder in {path.parent for path in paths}:
        clear_abandoned(folder)


def clear_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed runs have left in a folder; errors are ignored."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                is_one = _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
                if is_one and _is_abandoned(Path(entry.path)):
                    Path(entry.path).unlink()


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, readable by people."""
    with atomic_output(path) as temporary:
        temporary.write_bytes(json_bytes(content))


def json_bytes(content: Any) -> bytes:
    r"""Return JSON as UTF-8, whatever bytes a file name in it was made of.

    Examples
    --------
    >>> json_bytes({"name": "Andr\udce9"})
    b'{\n    "name": "Andr\\udce9"\n}\n'
    """
    text = json.dumps(content, indent=4, ensure_ascii=False)
    # A byte that is no UTF-8 is a lone surrogate in a name; its escape is valid JSON.
    return f"{text}\n".encode("utf-8", "backslashreplace")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits.

    Raises
    ------
    OSError
        If it cannot be read, or is no ordinary file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as a CSV file atomically, see :func:`csv_text`."""
    with atomic_output(path) as temporary:
        temporary.write_bytes(csv_text(rows, columns).encode("utf-8", "backslashreplace"))


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    r"""Return rows as the text of a CSV file.

    Missing values are left empty. A text that a spreadsheet would run as a formula gets an
    apostrophe in front; numbers stay numbers.

    Examples
    --------
    >>> csv_text([{"name": "=1+1", "mm": -2.5}], ["name", "mm"])
    "name,mm\r\n'=1+1,-2.5\r\n"
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(columns))
    writer.writeheader()
    for row in rows:
        writer.writerow({column: _cell(value) for column, value in row.items()})
    return stream.getvalue()


def _cell(value: Any) -> Any:
    starts = (value, value.lstrip()) if isinstance(value, str) else ()
    return f"'{value}" if any(start.startswith(_FORMULA) for start in starts) else value


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Give the name of a new empty file of this process alone; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".sct_rootlets-{secrets.token_hex(8)}{_ending(path)}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        # Held as long as the file is in use: a file that can be locked is nobody's any more.
        try_lock(descriptor)
        if os.name == "nt":  # there an open file cannot be moved
            os.close(descriptor)
            descriptor = -1
        yield temporary
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _ending(path: Path) -> str:
    """Return the extensions by which writers know the format, when they are short ones."""
    ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:])
    return ending if len(os.fsencode(ending)) <= 16 else ""


def _is_abandoned(temporary: Path) -> bool:
    """Tell whether a temporary file belongs to no running process."""
    descriptor = os.open(temporary, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        locked = try_lock(descriptor)
        age = abs(time.time() - os.fstat(descriptor).st_mtime)
        return locked is not False and age > (_SETTLED_S if locked else _ABANDONED_S)
    finally:
        os.close(descriptor)


def _flush_to_disk(path: Path) -> None:
    """Make sure that a file outlives a power cut before it takes the place of another."""
    with contextlib.suppress(OSError), path.open("rb+") as stream:
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Move files in a folder one job at a time, so that two jobs do not mix what belongs together.

    Where folders cannot be locked, or another job takes too long, nobody waits.
    """
    descriptor = -1
    try:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            until = time.monotonic() + _TURN_S
            while try_lock(descriptor) is False and time.monotonic() < until:
                time.sleep(0.01)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _move_all(temporaries: Sequence[Path], paths: Sequence[Path]) -> None:
    """Move complete files into place; if one cannot be moved, the old ones come back."""
    if len(paths) == 1:
        temporaries[0].replace(paths[0])
        return
    moved: list[tuple[Path, Path | None]] = []
    with contextlib.ExitStack() as stack:
        try:
            for temporary, path in zip(temporaries, paths, strict=True):
                moved.append((path, _backup(path, stack)))
                temporary.replace(path)
        except BaseException:  # Ctrl-C and SIGTERM too
            for path, backup in reversed(moved):
                if backup is None:
                    path.unlink(missing_ok=True)
                else:
                    backup.replace(path)
            raise


def _backup(path: Path, stack: contextlib.ExitStack) -> Path | None:
    """Return a second name of an existing file for the time of the stack."""
    if not os.path.lexists(path):
        return None
    backup = stack.enter_context(_temporary(path))
    backup.unlink()
    try:
        os.link(path, backup, follow_symlinks=False)
    except (OSError, NotImplementedError):  # not every disk knows hard links
        shutil.copy2(path, backup, follow_symlinks=False)
    return backup
