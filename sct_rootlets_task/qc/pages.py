"""The pages of a report, filled from templates that escape everything they are given."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task import __version__
from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.files import atomic_output
from sct_rootlets_task.luts import level_colour
from sct_rootlets_task.qc.measures import columns_of
from sct_rootlets_task.qc.scene import label_name

PAGE, SHEET = "index.html", "entry.js"

RATINGS: Mapping[str, str] = {
    "id": "Name of the image's folder in the report.",
    "dataset": "Data set.",
    "subject": "Subject.",
    "image": "Name of the image.",
    "segmentation": "Name of the segmentation.",
    "rating": "pass, artefact, fail, or empty.",
    "notes": "The note.",
    "rated_at": "When it was rated.",
    "rated_run": "this, or earlier when another segmentation has replaced the one rated.",
    "levels": "Levels found.",
    "missing": "Levels expected and not found.",
    "flags": "Codes of the check's flags.",
    "model": "Model that made the segmentation.",
    "stamp": "Checksum of the segmentation that was rated.",
}
"""Columns of the CSV file in which the browser saves the ratings."""

_HERE = Path(__file__).parent
_STATIC, _TEMPLATES = _HERE / "static", _HERE / "templates"


def fingerprint() -> str:
    """Return a checksum of templates and scripts, to know a report made by another version."""
    digest = hashlib.sha256(__version__.encode())
    for path in sorted([*_STATIC.iterdir(), *_TEMPLATES.glob("*.html")]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_static(folder: Path) -> None:
    """Copy styles and scripts into a report's folder, with the colours of the levels."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in _STATIC.iterdir():
        with atomic_output(folder / source.name) as temporary:
            shutil.copyfile(source, temporary)
    colours = {value: level_colour(value) for value in range(1, 256)}
    rules = "".join(
        f".lv-{v} {{ --level: rgb({r} {g} {b}); }}\n" for v, (r, g, b) in colours.items()
    )
    names = {v: {"name": label_name(v), "colour": colour} for v, colour in colours.items()}
    for name, text in (("levels.css", rules), ("levels.js", f"QC.levels({json.dumps(names)});\n")):
        with atomic_output(folder / name) as temporary:
            temporary.write_text(text, encoding="ascii")


def write_index(path: Path, entries: Sequence[Mapping[str, Any]], report: str) -> None:
    """Write the page that lists all entries and shows one at a time.

    Parameters
    ----------
    path : Path
        File to write.
    entries : sequence of mapping
        Content of the entries' data files, in the order of the list.
    report : str
        Identity of the report, under which the browser keeps its ratings.
    """
    levels = sorted({level["level"] for entry in entries for level in entry["found"]})
    span = range(levels[0], levels[-1] + 1) if levels else range(0)
    page = _template("index.html").render(
        entries=entries,
        report=report,
        columns=list(RATINGS),
        version=__version__,
        legend=[(level, label_name(level)) for level in span],
    )
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def write_entry_pages(folder: Path, entry: Mapping[str, Any]) -> None:
    """Write the page of one image, as a script for the index, and an address to open it by.

    A page on disk may not read other files, but it may run scripts: so the markup comes in one.
    """
    markup = _template("entry.html").render(entry=entry, columns=columns_of(entry["levels"]))
    script = f"QC.entry({json.dumps(entry['id'])}, {json.dumps(markup)});\n"
    page = _template("forward.html").render(entry=entry)
    for name, text in ((SHEET, script), (PAGE, page)):
        with atomic_output(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


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
