"""The pages of a report, filled from templates that escape everything they are given."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.io.atomic import atomic_output
from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc.measures import columns_of
from sct_rootlets_task.qc.scene import label_name
from sct_rootlets_task.qc.stored import UnreadableEntry, path_of, plain

PAGE, SHEET = "index.html", "entry.js"

RATINGS: Mapping[str, str] = {
    "id": "Name of the image's folder in the report.",
    "dataset": "Data set.",
    "subject": "Subject.",
    "image": "Name of the image.",
    "segmentation": "Name of the level map.",
    "rating": "pass, artifact, fail, or empty.",
    "notes": "The note.",
    "rated_at": "When it was rated.",
    "rated_run": "this, or earlier when another level map has replaced the one rated.",
    "levels": "Levels found.",
    "missing": "Levels expected and not found.",
    "flags": "Codes of the check's flags.",
    "model": "Model that made the level map.",
    "stamp": "Checksum of the level map that was rated.",
}
"""Columns of the CSV file in which the browser saves the ratings."""

_HERE = Path(__file__).parent
_STATIC, _TEMPLATES = _HERE / "static", _HERE / "templates"


def fingerprint() -> str:
    """Return a checksum of templates and scripts, to know a report made by another version."""
    digest = hashlib.sha256(VERSION.encode())
    for path in sorted([*_STATIC.iterdir(), *_TEMPLATES.glob("*.html")]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_static(folder: Path) -> None:
    """Write styles and scripts into a report's folder, with the colors of the levels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _static_files():
        with atomic_output(folder / name) as temporary:
            temporary.write_bytes(content)


def is_static(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what :func:`write_static` writes."""
    own = dict(_static_files())
    there = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return all(path.is_file() and path.read_bytes() == own.get(path.name) for path in there)


def _static_files() -> Iterator[tuple[str, bytes]]:
    for source in _STATIC.iterdir():
        yield source.name, source.read_bytes()
    colors = {value: level_color(value) for value in range(1, 256)}
    rules = "".join(
        f".lv-{v} {{ --level: rgb({r} {g} {b}); }}\n" for v, (r, g, b) in colors.items()
    )
    names = {v: {"name": label_name(v), "color": color} for v, color in colors.items()}
    yield "levels.css", rules.encode("ascii")
    yield "levels.js", f"QC.levels({json.dumps(names)});\n".encode("ascii")


def write_index(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    report: str,
    unreadable: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write the page that lists all entries and shows one at a time.

    Parameters
    ----------
    path : Path
        File to write.
    entries : sequence of mapping
        Content of the entries' data files, in the order of the list.
    report : str
        Identity of the report, under which the browser keeps its ratings.
    unreadable : mapping of str to str, optional
        Folders that no page can be made of, with the reason.

    Returns
    -------
    dict of str to str
        All that are not listed: `unreadable`, and entries of which no row could be made.
    """
    rows, left_out = [], dict(unreadable or {})
    files = _file_names(entries)
    for entry, file in zip(entries, files, strict=True):
        try:
            rows.append(_render("row.html", entry=entry, file=file))
        except UnreadableEntry as error:
            left_out[str(entry.get("id"))] = str(error)
    page = _render(
        "index.html",
        rows=rows,
        report=report,
        columns=list(RATINGS),
        version=VERSION,
        unreadable=left_out,
    )
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return left_out


def _file_names(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the images' names, with as much of the paths as tells those of one name apart."""
    alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for entry in entries:
        alike.setdefault((entry["dataset"], entry["subject"], entry["image"]), []).append(entry)
    names = {}
    for group in alike.values():
        images, maps = (
            _apart([plain(path_of(entry, kind)) for entry in group])
            for kind in ("image", "segmentation")
        )
        for entry, image, labels in zip(group, images, maps, strict=True):
            names[entry["id"]] = image if image or not labels else f"{entry['image']} · {labels}"
    return [names[entry["id"]] or entry["image"] for entry in entries]


def _apart(paths: Sequence[str]) -> list[str]:
    """Return the paths without the folders that all of them share, or nothing where all are one."""
    if len(set(paths)) == 1:
        return [""] * len(paths)
    parts = [path.split("/") for path in paths]
    same = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))
    shared = len(list(same))
    return ["/".join(part[shared:]) for part in parts]


def write_entry_pages(folder: Path, entry: Mapping[str, Any]) -> None:
    """Write the page of one image, as a script for the index, and an address to open it by.

    A page on disk may not read other files, but it may run scripts: so the markup comes in one.

    Raises
    ------
    UnreadableEntry
        If no page can be made of the entry.
    """
    markup = _render("entry.html", entry=entry, columns_of=columns_of)
    script = f"QC.entry({json.dumps(entry['id'])}, {json.dumps(markup)});\n"
    page = _render("forward.html", entry=entry)
    for name, text in ((SHEET, script), (PAGE, page)):
        with atomic_output(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _render(name: str, **values: Any) -> str:
    """Fill a template; what goes wrong there is the fault of what it was given."""
    template = _template(name)
    try:
        return str(template.render(**values))
    except Exception as error:
        raise UnreadableEntry(f"no page can be made of it ({error})") from error


def require_jinja() -> Any:
    """Return the module ``jinja2``.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependencyError(
            "The QC report needs Jinja2, which is not installed. Install it with: "
            "pip install 'sct-rootlets-task[qc]'"
        ) from error
    return jinja2


@functools.cache
def _template(name: str) -> Any:
    jinja2 = require_jinja()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
