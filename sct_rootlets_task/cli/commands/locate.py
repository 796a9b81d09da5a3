"""``sct_rootlets locate``: the spinal levels of the canal, without any rootlets."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_overwrite, add_path
from sct_rootlets_task.cli.outputs import check_outputs, write_outputs

NAME = "locate"
HELP = "Find the spinal canal and its levels with the built-in locator. No rootlets are needed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "IMAGE", "Image of the neck.", required=True)
    add_path(
        parser,
        "-o",
        "LEVELS",
        "Level map of the canal to write. Default: beside the image, its name plus _levels.",
    )
    add_path(parser, "-csv", "CSV", "Also write a table: one row for each level.")
    add_path(
        parser,
        "-line",
        "CSV",
        "Also write the centerline as a table: world mm, arc length in mm, level.",
    )
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the label map and print the table."""
    from sct_rootlets_task import api
    from sct_rootlets_task.io.atomic import csv_text
    from sct_rootlets_task.io.outputs import plan_outputs
    from sct_rootlets_task.levels.located_canal import COLUMNS, LINE_COLUMNS

    path = Path(arguments.i)
    job = plan_outputs([path], arguments.o, "_levels", overwrite=arguments.overwrite)[0]
    arguments.o = str(job.output)
    check_outputs(arguments, o=(), csv=list(COLUMNS), line=list(LINE_COLUMNS))
    found = api.locate(arguments.i)
    for row in found.rows:
        print(
            f"{row['level']}: {row['end_mm']} to {row['start_mm']} mm from the top of the canal, "
            f"confidence {row['confidence']}"
        )
    if not found.rows:
        print("No level was found in this image.")
    tables = {}
    if arguments.csv:
        tables[arguments.csv] = csv_text(found.rows, list(COLUMNS))
    if arguments.line:
        tables[arguments.line] = csv_text(found.line_rows, list(LINE_COLUMNS))
    warnings = list(found.details.warnings)
    write_outputs(arguments, {arguments.o: found.labels}, tables=tables, Warnings=warnings)
    return 0
