"""Tell whether a file that is in the way was written by this package, and may be replaced.

A label map is known by the checksum in its sidecar, JSON by who it says made it, a picture by a
text in it, and a table by its first row.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.io.atomic import hash_file
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.level_names import level_name

NAME = "sct_rootlets_task"
"""What JSON and pictures of this package name as the software that made them."""

SAMPLE_MARK = b"synthetic T2w neck by sct_rootlets"
"""Stands in ``descrip`` of the synthetic sample, which has no sidecar."""

_OURS, _SCT = f"{NAME}:", "spinalcordtoolbox:"
_TASKS = frozenset({"rootlets", "seg_spinal_rootlets_t2w"})
_COLOR_ROWS = tuple(
    re.compile(row)
    for row in (
        r"(\d+)(?: [01]\.\d{5}){3} (\w+)",
        r' *(\d+)(?: +\d+){6} +"([\w ]+)"',
        r"(\d+) (\w+)(?: \d+){4}",
    )
)
"""Rows of color tables for FSLeyes, ITK-SNAP and 3D Slicer: the value and the name of a level."""
_HEADER_BYTES = 540
_PNG = b"\x89PNG"
_PICTURE_BYTES = 1 << 12
_TEXT_BYTES = 1 << 22


def generated_by(command: str, urls: Collection[str] = ()) -> list[dict[str, object]]:
    """Return the entry ``GeneratedBy`` of JSON, as SCT writes it; `urls` are those of the model."""
    return [
        {
            "Name": f"{NAME}: {command}",
            "Version": VERSION,
            "CodeURL": f"pkg:pypi/sct-rootlets-task@{VERSION}",
            "ModelURL": list(urls),
        }
    ]


def shortened(program: str, arguments: Sequence[str]) -> str:
    """Return a command with its paths shortened, as SCT does: folders may name people."""
    return " ".join([program, *(Path(word).name if "/" in word else word for word in arguments)])


def is_ours(path: Path, columns: Collection[str] = ()) -> bool:
    """Return whether a file was written by this package, or is SCT's result of the same task.

    Parameters
    ----------
    path : Path
        An existing file.
    columns : collection of str
        For a table: the columns it would have.
    """
    try:
        if path.name.lower().endswith(EXTENSIONS):
            return _is_our_image(path)
        if columns:
            return _has_columns(path, columns)
        start = _start_of(path, _PICTURE_BYTES)
        if start.startswith(_PNG):
            return NAME.encode() in start
        if start.startswith(b"{"):
            return _is_made_by(_record(path), _OURS, _SCT)
        return _is_color_table(path)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return False


def is_result(image: Path) -> bool:
    """Return whether an image is a level map of this package or of SCT's task, edited or not.

    Its sidecar tells. So the synthetic sample, which has none, is not one.
    """
    try:
        record = _record(sidecar_of(image)) if sidecar_of(image).is_file() else {}
        output = record.get("Output")
        if not isinstance(output, Mapping):
            return _is_made_by(record, _SCT)
        is_named = output.get("Name") == image.name and _is_made_by(record, _OURS, _SCT)
        return is_named or _is_our_image(image)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return False


def sidecar_of(image: Path) -> Path:
    """Return the JSON file beside an image."""
    return image.parent / f"{stem(image)}.json"


def _is_our_image(path: Path) -> bool:
    """Tell by the checksum in the sidecar: a map that was edited by hand is not ours any more.

    SCT's sidecars have no checksum, and the synthetic sample has no sidecar.
    """
    record = _record(sidecar_of(path)) if sidecar_of(path).is_file() else {}
    output = record.get("Output")
    if isinstance(output, Mapping):
        return output.get("SHA256") == hash_file(path)
    if _is_made_by(record, _SCT):
        return True
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as stream:
        header = stream.read(_HEADER_BYTES)
    return SAMPLE_MARK in header


def _record(path: Path) -> Mapping[str, Any]:
    content = json.loads(_start_of(path, _TEXT_BYTES))
    return content if isinstance(content, dict) else {}


def _is_made_by(record: Mapping[str, Any], *names: str) -> bool:
    """Tell whether a record says that it was made by our task of one of these programs."""
    makers = record.get("GeneratedBy")
    entries = makers if isinstance(makers, list) else ()
    return any(_is_our_entry(entry, names) for entry in entries)


def _is_our_entry(maker: Any, names: Collection[str]) -> bool:
    words = str(maker.get("Name")).split() if isinstance(maker, Mapping) else []
    if not words or words[0] not in names:
        return False
    return words[0] != _SCT or bool(_TASKS.intersection(words[1:]))


def _has_columns(path: Path, columns: Collection[str]) -> bool:
    between = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(newline="", encoding="utf-8") as stream:
        first = next(csv.reader([stream.readline(_PICTURE_BYTES)], delimiter=between), [])
    return first == list(columns)


def _is_color_table(path: Path) -> bool:
    """Return whether each row of a text gives a color to the name of a level, in one format."""
    lines = _start_of(path, _TEXT_BYTES).decode("ascii").splitlines()
    for pattern in _COLOR_ROWS:
        rows = [match.groups() for line in lines if (match := pattern.fullmatch(line))]
        levels = [(int(value), name) for value, name in rows if int(value)]
        if rows and len(rows) == len(lines):
            return bool(levels) and all(level_name(value) == name for value, name in levels)
    return False


def _start_of(path: Path, size: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(size)
