"""The pages of a report, filled from templates that escape everything they are given."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.io.atomic import atomic_output
from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc.measures import columns_of
from sct_rootlets_task.qc.scene import label_name
from sct_rootlets_task.qc.stored import UnreadableEntry

PAGE, SHEET = "index.html", "entry.js"
COHORT = "cohort.html"
"""Page of a report's folder about all of its images together, where there is one."""

RATINGS: Mapping[str, str] = {
    "id": "Name of the image's folder in the report.",
    "dataset": "Data set.",
    "subject": "Subject.",
    "session": "Session, empty where there is none.",
    "image": "Name of the image.",
    "segmentation": "Name of the level map.",
    "rating": "pass, artifact, fail, or empty.",
    "notes": "The note.",
    "rater": "Who rated it, as this person named himself or herself; it may be empty.",
    "rated_at": "When it was rated. Of several rows of one image, the latest counts.",
    "rated_run": "this, or earlier when another level map has replaced the one rated.",
    "levels": "Levels found.",
    "missing": "Levels expected and not found.",
    "flags": "Codes of the check's flags.",
    "model": "Model that made the level map.",
    "stamp": "Checksum of the level map that was rated.",
    "corrected": "yes where a person has corrected the level map.",
    "image_path": "Path of the image.",
    "segmentation_path": "Path of the level map.",
}
"""Columns of the CSV file in which the browser saves the ratings."""

_HERE = Path(__file__).parent
_STATIC, _TEMPLATES = _HERE / "static", _HERE / "templates"


@functools.cache
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


def write_index(path: Path, report: str, *, cohort: bool = False) -> None:
    """Write the page that lists all entries and shows one at a time; it is small, and has no rows.

    Parameters
    ----------
    path : Path
        File to write.
    report : str
        Identity of the report, under which the browser keeps its ratings.
    cohort : bool
        Whether the report has a page about all of its images together.
    """
    columns = list(RATINGS)
    page = _render("index.html", report=report, columns=columns, version=VERSION, cohort=cohort)
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def write_cohort(path: Path, **content: Any) -> None:
    """Write the page about all images of a report together.

    Parameters
    ----------
    path : Path
        File to write, in the report's folder.
    **content : object
        What ``templates/cohort.html`` shows: `tally`, `groups` of figures, `tables`, `methods`.
        SVG of figures is taken as it is; everything else is escaped.

    Raises
    ------
    OutputError
        If it cannot be written.
    MissingDependencyError
        If Jinja2 is not installed.
    """
    page = _render("cohort.html", version=VERSION, **content)
    with atomic_output(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


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
