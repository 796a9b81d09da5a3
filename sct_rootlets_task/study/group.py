"""The group level: one table of all images, statistics, figures, the cohort page, the methods."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import DatasetError, OutputError, UsageError
from sct_rootlets_task.io.atomic import atomic_output, json_bytes
from sct_rootlets_task.io.ownership import generated_by, is_ours
from sct_rootlets_task.io.tables import describe_columns, tsv_text
from sct_rootlets_task.io.untrusted import printable, reason_of
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.study.cohort import COLUMNS, Image, read_cohort, table_rows
from sct_rootlets_task.study.figures import (
    Drawing,
    draw_counts,
    draw_distribution,
    require_matplotlib,
)
from sct_rootlets_task.study.methods import methods_text
from sct_rootlets_task.study.statistics import (
    OUTLIERS,
    SUMMARY,
    Distribution,
    distributions,
    failure_counts,
    flag_counts,
    missing_levels,
    outlier_rows,
    summary_rows,
)

logger = logging.getLogger(__name__)

COMMAND = "sct_rootlets bids group"
CITATION = "logs/CITATION.md"
LEVELS, SUMMARIES = "group_levels.tsv", "group_summary.tsv"
STANDING_OUT = "group_outliers.tsv"
_TABLES: Mapping[str, Mapping[str, str]] = {
    LEVELS: COLUMNS,
    SUMMARIES: SUMMARY,
    STANDING_OUT: OUTLIERS,
}
_FIGURES, _REPORT = "figures", "qc"
_COUNTS, _MOST_BARS = "What to look at", 30


@dataclass(frozen=True)
class GroupResult:
    """What the group level has written.

    Parameters
    ----------
    paths : tuple of Path
        All files.
    images, failed : int
        Images in the table, and those of them that failed.
    outliers : int
        Values that stand out.
    page : Path
        The cohort page.
    """

    paths: tuple[Path, ...]
    images: int
    failed: int
    outliers: int
    page: Path


def run_group(out_dir: Path, *, ratings: Sequence[Path] = ()) -> GroupResult:
    """Put the results of all images of a study together.

    Parameters
    ----------
    out_dir : Path
        Folder of results of the participant level.
    ratings : sequence of Path
        CSV files saved by the QC report.

    Raises
    ------
    MissingDependencyError
        If matplotlib or Jinja2 is not installed.
    DatasetError
        If there are no results.
    UsageError
        If a file of ratings cannot be read.
    OutputError
        If a file cannot be written, or one of another program would be replaced.
    """
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.pages import require_jinja
    from sct_rootlets_task.qc.report import rebuild
    from sct_rootlets_task.study.cohort_page import write_page

    require_matplotlib()
    require_jinja()
    require_report_folder(out_dir / _REPORT)
    for name, columns in _TABLES.items():
        _require_ours(out_dir / name, columns)
    images = _read(out_dir, ratings)
    found = distributions(images)
    outliers = list(outlier_rows(found))
    drawings = _draw(images, found)
    methods = methods_text(out_dir, images)
    paths = [
        *_write_table(out_dir, LEVELS, table_rows(images)),
        *_write_table(out_dir, SUMMARIES, summary_rows(found)),
        *_write_table(out_dir, STANDING_OUT, outliers),
        *_write_figures(out_dir / _FIGURES, drawings),
        _write(out_dir / CITATION, methods.encode()),
        write_page(
            out_dir / _REPORT,
            images,
            found=found,
            drawings=drawings,
            out_dir=out_dir,
            methods=methods,
        ),
    ]
    rebuild(out_dir / _REPORT)
    failed = sum(not image.is_done for image in images)
    return GroupResult(tuple(paths), len(images), failed, len(outliers), paths[-1])


def _read(out_dir: Path, ratings: Sequence[Path]) -> tuple[Image, ...]:
    try:
        images = read_cohort(out_dir, ratings)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"A file of ratings cannot be read: {reason_of(error)}. Give CSV files that the QC "
            "report has saved."
        ) from error
    if not images:
        raise DatasetError(
            f"Expected results of the participant level in {printable(out_dir)}, found none. Run "
            "the participant level first."
        )
    return images


def _draw(images: Sequence[Image], found: Iterable[Distribution]) -> dict[str, list[Drawing]]:
    """Return the figures by the heading they stand under."""
    drawings: dict[str, list[Drawing]] = {}
    lacking = {value_name(level): len(some) for level, some in missing_levels(images).items()}
    counts = {
        "missing_levels": ("Images in which a level is missing", lacking),
        "flags": ("Images by kind of flag", flag_counts(images)),
        "failures": ("Failed images by kind of error", failure_counts(images)),
    }
    drawings[_COUNTS] = [
        draw_counts(name, title, dict(list(bars.items())[:_MOST_BARS]))
        for name, (title, bars) in counts.items()
        if bars
    ]
    for one in found:
        drawings.setdefault(one.contrast, []).append(draw_distribution(one))
    return drawings


def _write_table(out_dir: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> tuple[Path, ...]:
    """Write a table and the JSON that describes its columns."""
    path, columns = out_dir / name, _TABLES[name]
    described = path.with_suffix(".json")
    content = {"GeneratedBy": generated_by(COMMAND), **describe_columns(columns)}
    text = tsv_text(list(rows), list(columns))
    return (
        _write(described, json_bytes(content)),
        _write(path, text.encode("utf-8", "backslashreplace")),
    )


def _write_figures(folder: Path, drawings: Mapping[str, Iterable[Drawing]]) -> Iterable[Path]:
    for one in (one for some in drawings.values() for one in some):
        name = printable(one.name).replace("/", "_")
        yield _write(folder / f"{name}.png", one.png())
        yield _write(folder / f"{name}.svg", one.svg().encode())


def _write(path: Path, content: bytes) -> Path:
    with atomic_output(path) as temporary:
        temporary.write_bytes(content)
    return path


def _require_ours(table: Path, columns: Mapping[str, str]) -> None:
    """Refuse to replace a table, or its JSON, of another program."""
    described = table.with_suffix(".json")
    known = is_ours(described)
    foreign = [] if known or not described.exists() else [described]
    if table.exists() and not known and _header(table) != list(columns):
        foreign.append(table)
    for path in foreign:
        raise OutputError(
            f"The file {printable(path)} was not written by this package, and is kept. Move it "
            "away, then run the group level again."
        )


def _header(table: Path) -> list[str]:
    with table.open(encoding="utf-8", errors="replace") as stream:
        return stream.readline().rstrip("\n").split("\t")
