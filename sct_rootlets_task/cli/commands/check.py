"""``sct_rootlets check``: whether level maps are plausible."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sct_rootlets_task.cli.arguments import add_overwrite, add_path, add_task
from sct_rootlets_task.cli.console import flush_result
from sct_rootlets_task.cli.many import (
    LEADING,
    Batch,
    LevelMap,
    add_files,
    add_level_maps,
    gather,
)
from sct_rootlets_task.cli.outputs import check_outputs, made_by

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.check import Report

NAME = "check"
HELP = "Check level maps: levels that are missing, swapped, shifted, too close or too small."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_level_maps(parser, "-i", "Level map to check.", "-s, -pmj, -discs and -locator")
    add_files(parser, "-s", "CORD", "Cord mask on the grid of the level map.")
    add_files(
        parser,
        "-pmj",
        "PMJ",
        "Label image of the pontomedullary junction (PMJ), between pons and medulla.",
    )
    add_files(
        parser,
        "-discs",
        "DISCS",
        "Label image of the discs, or of vertebral levels along the cord, with SCT's numbers.",
    )
    add_files(
        parser,
        "-locator",
        "IMAGE",
        "Image of the level map. The built-in locator finds the levels in it, to compare with.",
    )
    add_task(parser)
    add_path(parser, "-o", "JSON", "Also write the report as JSON.")
    add_path(parser, "-csv", "TABLE", "Also write the flags as a table (.csv or .tsv), a row each.")
    add_overwrite(parser)
    parser.add_argument(
        "-strict", action="store_true", help="End with exit code 1 if there is a warning, not 0."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report, of several level maps a line each."""
    from sct_rootlets_task.analysis.flags import COLUMNS

    batch = gather(arguments, "s", "pmj", "discs", "locator")
    columns = {**LEADING, **COLUMNS}
    check_outputs(arguments, described="csv", o=(), csv=list(columns))
    reports = []
    for one, report in batch.each(_check):
        if batch.is_one:
            _print(report)
        else:
            batch.print_line(one, report.summary)
        reports.append((one, report))
    _write(batch, reports, columns)
    doubtful = sum(bool(report.warnings) for _, report in reports)
    if not batch.is_one:
        print(f"{doubtful} of {len(reports)} level map(s) have warnings.")
    flush_result()
    return batch.finish() or int(arguments.strict and doubtful > 0)


def _check(arguments: argparse.Namespace) -> Report:
    from sct_rootlets_task import api

    return api.check(
        arguments.i,
        cord=arguments.s,
        pmj=arguments.pmj,
        discs=arguments.discs,
        locator=arguments.locator,
        task=arguments.task,
    )


def _print(report: Report) -> None:
    for flag in report.flags:
        print(f"{flag.severity}: {flag.text}")
    if not report.flags:
        print("Nothing out of the ordinary.")
    for opinion in report.opinions:
        print(opinion)


def _write(
    batch: Batch, reports: Sequence[tuple[LevelMap, Report]], columns: dict[str, str]
) -> None:
    from sct_rootlets_task.analysis.flags import table_row
    from sct_rootlets_task.io.atomic import write_json

    arguments, texts = batch.arguments, {}
    if arguments.o and batch.is_one:
        content = reports[0][1].to_dict()
        write_json(Path(arguments.o), {"GeneratedBy": made_by(arguments), **content})
    elif arguments.o:
        contents = [{**one.names, **report.to_dict()} for one, report in reports]
        texts[arguments.o] = batch.json_text(LevelMaps=contents)
    rows = [{**one.names, **table_row(flag)} for one, report in reports for flag in report.flags]
    batch.write_table(rows, columns, texts=texts)
