"""``sct_rootlets evaluate``: compare a segmentation with a reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_overwrite, add_path
from sct_rootlets_task.cli.console import flush_result
from sct_rootlets_task.cli.outputs import check_outputs, made_by

NAME = "evaluate"
HELP = "Compare a level map with a reference: Dice, volumes, surface distances, midpoints."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "SEG", "Level map to evaluate.", required=True)
    add_path(parser, "-gt", "REF", "Reference: a level map on the same grid.", required=True)
    add_path(parser, "-o", "JSON", "Also write the figures as JSON.")
    add_path(parser, "-csv", "CSV", "Also write the figures as a table.")
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the figures, a line a level."""
    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.evaluate import COLUMNS
    from sct_rootlets_task.io.atomic import write_csv, write_json

    check_outputs(arguments, o=(), csv=list(COLUMNS))
    rows = api.evaluate(arguments.i, arguments.gt).rows
    print(f"{'level':>5}  Dice  volume  HD95 mm  surface mm  midpoint mm  found")
    for row in rows:
        print(
            f"{row['level']:>5}  {_figure(row['dice'], 2):>4}"
            f"  {_figure(row['volume_difference_percent'], 0):>5}%"
            f"  {_figure(row['hd95_mm'], 1):>7}  {_figure(row['surface_distance_mm'], 2):>10}"
            f"  {_figure(row['midpoint_error_mm'], 1):>11}  {row['detection']}"
        )
    if arguments.o:
        names = {"segmentation": arguments.i, "reference": arguments.gt}
        content = {"GeneratedBy": made_by(arguments), **names, "levels": rows}
        write_json(Path(arguments.o), content)
    if arguments.csv:
        write_csv(Path(arguments.csv), rows, list(COLUMNS))
    flush_result()
    return 0


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
