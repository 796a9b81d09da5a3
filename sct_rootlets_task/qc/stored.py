"""The data file of an entry: what is written to it, and what must hold before a page is made of it.

A report lies in a folder that many people write to. Whatever is read from there may be damaged, of
another version, or planted.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import numpy as np

from sct_rootlets_task.io.ownership import sidecar_of
from sct_rootlets_task.io.untrusted import printable

DATA = "entry.json"
"""File of an entry with everything its pages are made from."""

SCHEMA = 1
"""Number of the layout of that file."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,90}")
"""What the folder of an entry is called."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_BYTES = 16_000_000
_LONGEST_REASON, _LONGEST_NAME, _LONGEST_TEXT = 300, 2_000, 500_000
_LONGEST_SHOWN = 1_000
_MOST_ITEMS = 10_000
_LARGEST = 1e12
_LARGEST_LABEL = 255

Check = Callable[[Any, str], None]


class UnreadableEntry(ValueError):
    """An entry of which no page can be made; `newer` if a later version of the package made it."""

    def __init__(self, reason: str, *, newer: bool = False) -> None:
        super().__init__(reason[:_LONGEST_REASON])
        self.newer = newer


def shown(text: object) -> str:
    """Return a path or a name of which a terminal or log shows every character."""
    return printable(text, _LONGEST_SHOWN)


def plain(value: Any) -> Any:
    """Return a value as JSON and the pages take it.

    Numbers of numpy become Python's, numbers that are not finite None, bytes of a file name that
    are no text a replacement character; very long texts are cut.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        text = _SURROGATE.sub("\ufffd", value)
        return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def short(text: str) -> str:
    """Return a name that fits into the list of a report, cut if it is very long."""
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"


def place_of(path: Path) -> str:
    """Return where a file lies, in ASCII whatever its name; a link to a file is a place too.

    Examples
    --------
    >>> place_of(Path("/data/sub-é/t2.nii.gz"))
    '/data/sub-%C3%A9/t2.nii.gz'
    """
    return quote(os.fsencode(path.parent.resolve() / path.name), safe="/")


def path_of(entry: Mapping[str, Any], kind: str) -> str | None:
    """Return where the ``image`` or the ``segmentation`` of an entry lay, of a damaged one None."""
    place, path = entry.get(f"{kind}_place"), entry.get(f"{kind}_path")
    if isinstance(place, str) and place.isascii():
        return os.fsdecode(unquote_to_bytes(place))
    return path if isinstance(path, str) else None


def read_record(path: Path) -> Any:
    """Read a JSON file of a report.

    Raises
    ------
    UnreadableEntry
        If it is missing, no ordinary file, too large or no JSON.
    """
    try:
        return json.loads(read_bytes(path, _MOST_BYTES).decode("utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UnreadableEntry(f"{path.name} cannot be read ({reason})") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableEntry(f"{path.name} is damaged") from error


def read_sidecar(segmentation: Path) -> dict[str, Any]:
    """Return what is written beside a segmentation about how it was made, if anything is."""
    try:
        content = read_record(sidecar_of(segmentation))
    except UnreadableEntry:
        return {}
    return content if isinstance(content, dict) else {}


def model_of(sidecar: Mapping[str, Any]) -> str:
    """Return the name of the model that a sidecar names, or an empty text."""
    model = sidecar.get("Model")
    return str(model.get("Name") or "") if isinstance(model, dict) else ""


def read_bytes(path: Path, most: int) -> bytes:
    """Return what an ordinary file holds.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Bytes it may have.

    Raises
    ------
    OSError
        If it cannot be read, is no ordinary file or is larger.
    """
    # A FIFO under this name must not keep the job waiting.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("no ordinary file")
        if found.st_size > most:
            raise OSError(f"larger than {most} bytes")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            return stream.read(most)
    finally:
        os.close(handle)


def load_entry(folder: Path) -> dict[str, Any]:
    """Read the data of an entry that a page can be made of.

    Parameters
    ----------
    folder : Path
        Folder of the entry.

    Raises
    ------
    UnreadableEntry
        With the reason, for everything else.
    """
    if not NAME.fullmatch(folder.name):
        raise UnreadableEntry("its name is not that of an entry")
    if folder.is_symlink() or not folder.is_dir():
        raise UnreadableEntry("it is a link or a file, not a folder")
    content = read_record(folder / DATA)
    check_entry(content)
    if content["id"] != folder.name:
        raise UnreadableEntry("its data are those of another entry")
    return dict(content)


def check_entry(content: Any) -> None:
    """Refuse data that the pages and their scripts cannot show.

    Raises
    ------
    UnreadableEntry
        Naming the field.
    """
    schema: Any = content.get("schema") if isinstance(content, dict) else None
    if _is_whole(schema) and schema != SCHEMA and 0 <= schema <= _MOST_ITEMS:
        raise UnreadableEntry(
            f"version {schema} of its layout is unknown, {SCHEMA} was expected",
            newer=schema > SCHEMA,
        )
    _ENTRY(content, DATA)
    for name, check in _LATER.items():
        if name in content:
            check(content[name], f"{DATA}: {name}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _expect(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise UnreadableEntry(f"{where} is not {what}")


def _text(longest: int) -> Check:
    def check(value: Any, where: str) -> None:
        _expect(isinstance(value, str) and len(value) <= longest, where, "a text of usual length")
        _expect(not _SURROGATE.search(value), where, "valid text")

    return check


def _whole(low: float, high: float) -> Check:
    def check(value: Any, where: str) -> None:
        within = _is_whole(value) and low <= value <= high
        _expect(within, where, f"a whole number from {low:g} to {high:g}")

    return check


def _number(value: Any, where: str) -> None:
    a_number = _is_whole(value) or isinstance(value, float)
    # NaN and infinity fail the comparison.
    _expect(a_number and abs(value) <= _LARGEST, where, "a finite number")


def _yes_or_no(value: Any, where: str) -> None:
    _expect(isinstance(value, bool), where, "true or false")


def _one_of(*known: str) -> Check:
    def check(value: Any, where: str) -> None:
        _expect(isinstance(value, str) and value in known, where, f"one of {list(known)}")

    return check


def _items(check_item: Check, least: int = 0, most: int = _MOST_ITEMS) -> Check:
    def check(value: Any, where: str) -> None:
        right = isinstance(value, list) and least <= len(value) <= most
        _expect(right, where, f"a list of {least} to {most} items")
        for number, item in enumerate(value):
            check_item(item, f"{where}[{number}]")

    return check


def _fields(checks: Mapping[str, Check]) -> Check:
    def check(value: Any, where: str) -> None:
        _expect(isinstance(value, dict), where, "a set of fields")
        for name, check_field in checks.items():
            _expect(name in value, f"{where}: {name}", "there")
            check_field(value[name], f"{where}: {name}")

    return check


def _level_row(value: Any, where: str) -> None:
    """Check a row of the level table; columns measured elsewhere may have any name."""
    _LEVEL(value, where)
    for name, cell in value.items():
        if name == "slices":
            _TWO_SLICES(cell, f"{where}: {name}")
        elif isinstance(cell, str):
            _NAME(cell, f"{where}: {name}")
        elif cell is not None and not isinstance(cell, bool):
            _number(cell, f"{where}: {name}")


def _row(value: Any, where: str) -> None:
    """Check a row of axial slices; that of a level found says which."""
    _ROW(value, where)
    _expect(not value["found"] or bool(value["levels"]), f"{where}: levels", "a list with a level")


def _named(check: Check, names: Iterable[str]) -> dict[str, Check]:
    return dict.fromkeys(names, check)


_NAME, _TEXT = _text(_LONGEST_NAME), _text(_LONGEST_TEXT)
_VIEWS = ("axial", "coronal", "sagittal")
_LABEL, _INDEX = _whole(1, _LARGEST_LABEL), _whole(-_LARGEST, _LARGEST)
_SIZE = _whole(1, _LARGEST)
_TWO_SLICES = _items(_INDEX, 2, 2)
_LEVEL = _fields({"level": _LABEL, "name": _NAME})
_TILE = _fields({"slice": _INDEX, "mm": _items(_number, 3, 3)})
_ROW = _fields(
    {
        "levels": _items(_LABEL),
        "name": _NAME,
        "found": _yes_or_no,
        "tiles": _items(_TILE, 1),
    }
)
_FLAG = _fields(
    {
        **_named(_NAME, ("code", "level", "side", "value", "expected")),
        **_named(_TEXT, ("source", "text")),
        "severity": _one_of("warning", "note"),
    }
)
_LATER: Mapping[str, Check] = {
    "pixel_mm": _fields(_named(_number, _VIEWS)),
    "session": _NAME,
    "corrected": _yes_or_no,
}
"""Fields that entries of the first versions lack."""
_ENTRY = _fields(
    {
        "schema": _whole(SCHEMA, SCHEMA),
        **_named(_NAME, ("id", "stamp", "dataset", "subject", "image", "segmentation")),
        **_named(_NAME, ("model", "made", "version", "orientation")),
        **_named(_TEXT, ("image_path", "segmentation_path", "around", "command")),
        "shape": _items(_SIZE, 3, 3),
        "voxel_mm": _items(_number, 3, 3),
        "notices": _items(_TEXT),
        "found": _items(_LEVEL),
        "missing": _items(_LEVEL),
        "levels": _items(_level_row),
        "flags": _items(_FLAG),
        "rows": _items(_row, 1),
        "pictures": _fields(_named(_items(_SIZE, 2, 2), _VIEWS)),
        "volume": _fields(
            {
                "offset": _items(_INDEX, 3, 3),
                "step": _items(_SIZE, 3, 3),
                "whole": _yes_or_no,
            }
        ),
    }
)
