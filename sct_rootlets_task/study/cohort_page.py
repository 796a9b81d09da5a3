"""What the cohort page of the QC report shows: figures whose dots link to images, and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.level_names import name_levels, value_name
from sct_rootlets_task.qc.pages import COHORT, write_cohort
from sct_rootlets_task.qc.report import entry_addresses
from sct_rootlets_task.study.cohort import Image
from sct_rootlets_task.study.figures import Drawing
from sct_rootlets_task.study.statistics import FEWEST, Distribution

_MOST_ROWS = 500

Address = Callable[[Image], str]


def write_page(
    report: Path,
    images: Sequence[Image],
    *,
    found: Sequence[Distribution],
    drawings: Mapping[str, Sequence[Drawing]],
    out_dir: Path,
    methods: str,
) -> Path:
    """Write the cohort page.

    Parameters
    ----------
    report : Path
        Folder of the QC report.
    images, found : sequence of Image, sequence of Distribution
        What came of each image, and how the measures are distributed.
    drawings : mapping of str to sequence of Drawing
        Figures by the heading they stand under.
    out_dir : Path
        Folder of results.
    methods : str
        The methods paragraph.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    address = _addresses(report, out_dir)
    groups = [
        {"title": title, "note": "", "figures": [_figure(one, address) for one in some]}
        for title, some in drawings.items()
        if some
    ]
    tables = [_outliers(found, address), _missing(images, address), _failed(images)]
    page = report / COHORT
    write_cohort(page, tally=_tally(images), groups=groups, tables=tables, methods=methods)
    return page


def _addresses(report: Path, out_dir: Path) -> Address:
    """Return what tells where the page of an image is, relative to the report; by its level map."""
    known = {labels: there for (_, labels), there in entry_addresses(report).items()}
    root = out_dir.resolve()

    def address(image: Image) -> str:
        return known.get(str(root / image.level_map), "")

    return address


def _tally(images: Sequence[Image]) -> str:
    done = [image for image in images if image.is_done]
    subjects = len({image.subject for image in done})
    rest = len(images) - len(done)
    failed = f", {rest} failed" if rest else ""
    return f"{len(done)} images of {subjects} subjects{failed}"


def _figure(one: Drawing, address: Address) -> dict[str, str]:
    note = "Only outliers are links here, since there are too many dots." if one.is_dense else ""
    svg = one.linked_svg(lambda value: address(value.image))
    return {"title": one.title, "svg": svg, "note": note}


def _outliers(found: Iterable[Distribution], address: Address) -> dict[str, Any]:
    values = [(one, value) for one in found for value in one.values if value.is_outlier]
    values.sort(key=lambda pair: -abs(pair[1].z))
    rows = [
        _row(
            value.image,
            address,
            value_name(value.level),
            one.measure.title,
            f"{value.value:g} {one.measure.unit}",
            f"{value.z:+.1f}",
        )
        for one, value in values
    ]
    note = (
        "Values whose robust z is beyond 3.5, the farthest first. Images of one contrast are "
        f"compared, and {FEWEST} are needed."
    )
    return _table("Outliers", ("Image", "Level", "Measure", "Value", "Robust z"), rows, note)


def _missing(images: Iterable[Image], address: Address) -> dict[str, Any]:
    rows = [_row(image, address, name_levels(image.missing)) for image in images if image.missing]
    note = "Levels of the task without rootlets. The field of view may end before them."
    return _table("Missing levels", ("Image", "Levels"), rows, note)


def _failed(images: Iterable[Image]) -> dict[str, Any]:
    rows = [
        {"address": "", "cells": [image.label, image.source, image.error, image.status]}
        for image in images
        if not image.is_done
    ]
    note = "failures.tsv has the errors in words." if rows else ""
    return _table("Failed", ("Image", "File", "Error", "Status"), rows, note)


def _row(image: Image, address: Address, *cells: str) -> dict[str, Any]:
    return {"address": address(image), "cells": [image.label, *cells]}


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], note: str
) -> dict[str, Any]:
    left = len(rows) - _MOST_ROWS
    more = f" The first {_MOST_ROWS} of {len(rows)} are shown; the tables have all." * (left > 0)
    count = f" ({len(rows)})" if rows else ""
    shown = rows[:_MOST_ROWS]
    return {"title": f"{title}{count}", "columns": columns, "rows": shown, "note": note + more}
