"""Whether a file that is in the way was written by this package, and may be replaced.

Everything the package writes can be told by its content: a label map by its sidecar or its header,
JSON by who it says made it, a picture by a text in it, tables by their first row.
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

from sct_rootlets_task import __version__
from sct_rootlets_task.images import EXTENSIONS, stem
from sct_rootlets_task.levels import level_name

NAME = "sct_rootlets_task"
"""What JSON and pictures of this package name as the software that made them."""

HEADER_MARKS = (b"sct_rootlets", b"value=level (C1=1)")
"""One of these stands in ``descrip`` of every image that this package writes."""

_SCT, _TASKS = "spinalcordtoolbox:", frozenset({"rootlets", "seg_spinal_rootlets_t2w"})
_HEADER_BYTES = 540
_PNG = b"\x89PNG"
_PICTURE_BYTES = 1 << 12
_TEXT_BYTES = 1 << 22


def generated_by(command: str, urls: Collection[str] = ()) -> list[dict[str, object]]:
    """Return the entry ``GeneratedBy`` of JSON, as SCT writes it.

    Parameters
    ----------
    command : str
        The command, folders left out.
    urls : collection of str
        Where the model came from.
    """
    return [
        {
            "Name": f"{NAME}: {command}",
            "Version": __version__,
            "CodeURL": f"pkg:pypi/sct-rootlets-task@{__version__}",
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
        For a table: the columns it would have, with ``<origin>`` for a part that varies.
    """
    try:
        if path.name.lower().endswith(EXTENSIONS):
            return _is_our_image(path)
        if columns:
            return _has_columns(path, columns)
        start = _start_of(path, _PICTURE_BYTES)
        if start.startswith(_PNG):
            return NAME.encode() in start
        return _is_our_json(path) if start.startswith(b"{") else _is_color_table(path)
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return False


def sidecar_of(image: Path) -> Path:
    """Return the JSON file beside an image."""
    return image.parent / f"{stem(image)}.json"


def _is_our_image(path: Path) -> bool:
    with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as stream:
        header = stream.read(_HEADER_BYTES)
    if any(mark in header for mark in HEADER_MARKS):
        return True
    sidecar = sidecar_of(path)
    return sidecar.is_file() and _is_our_json(sidecar)


def _is_our_json(path: Path) -> bool:
    content = json.loads(_start_of(path, _TEXT_BYTES))
    makers = content.get("GeneratedBy") if isinstance(content, dict) else None
    return any(_is_our_entry(maker) for maker in (makers if isinstance(makers, list) else ()))


def _is_our_entry(maker: Any) -> bool:
    words = str(maker.get("Name")).split() if isinstance(maker, Mapping) else []
    if not words or words[0] not in (f"{NAME}:", _SCT):
        return False
    return words[0] != _SCT or bool(_TASKS.intersection(words[1:]))


def _has_columns(path: Path, columns: Collection[str]) -> bool:
    with path.open(newline="", encoding="utf-8") as stream:
        first = next(csv.reader([stream.readline(_PICTURE_BYTES)]), [])
    pattern = re.compile(r"(distance_from_).*(_(start|end|midpoint))")
    return bool(first) and [pattern.sub(r"\1<origin>\2", name) for name in first] == list(columns)


def _is_color_table(path: Path) -> bool:
    """Return whether each row of a text is a value and the name of its level."""
    rows = [line.split() for line in _start_of(path, _TEXT_BYTES).decode("ascii").splitlines()]
    colored = [row for row in rows if row and row[0] != "0"]
    return bool(colored) and all(
        row[0].isdecimal() and any(level_name(int(row[0])) == word.strip('"') for word in row[1:])
        for row in colored
    )


def _start_of(path: Path, size: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(size)
