"""``sct_rootlets levels``: spinal levels along the cord, from rootlets."""

from __future__ import annotations

import argparse

from sct_rootlets_task.cli.arguments import add_label_map, add_overwrite, add_path, add_task
from sct_rootlets_task.cli.outputs import check_outputs, write_outputs
from sct_rootlets_task.errors import UsageError

NAME = "levels"
HELP = "Divide the cord into spinal levels by its rootlets: a level map of the cord and a table."

_ORIGINS = {"pmj": "the PMJ", "cord_mask_top": "the top of the cord mask"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "SEG", "Level map of the rootlets.", required=True)
    add_path(parser, "-s", "CORD", "Cord mask on the grid of the level map. Needed for -o.")
    add_path(
        parser,
        "-pmj",
        "PMJ",
        "Label image of the pontomedullary junction (PMJ). Distances are counted from it.",
    )
    add_path(parser, "-csv", "CSV", "Table to write: one row for each level.")
    add_label_map(parser, "Level map of the cord to write. Needs -s.")
    add_task(parser)
    add_overwrite(parser)
    parser.add_argument(
        "-method",
        choices=("caudal", "midpoint", "rootlets"),
        default="caudal",
        help="Where levels begin and end. caudal: from the caudal end of one level's rootlets to "
        "that of the next. midpoint: halfway between neighbors. rootlets: only where rootlets are, "
        "with gaps. Default: caudal.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the map and the table."""
    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.spinal_levels import COLUMNS
    from sct_rootlets_task.io.atomic import csv_text

    if arguments.o and not arguments.s:
        raise UsageError("-o writes the levels on the cord and needs its mask. Give -s CORD too.")
    if not (arguments.o or arguments.csv):
        raise UsageError("Expected something to write. Give -o OUT, -csv CSV or both.")
    check_outputs(arguments, o=(), csv=list(COLUMNS))
    found, labels = api.spinal_levels(
        arguments.i,
        cord=arguments.s,
        pmj=arguments.pmj,
        method=arguments.method,
        task=arguments.task,
    )
    if not arguments.s:
        print("No cord mask was given: the centerline is estimated from the rootlets.")
    write_outputs(
        arguments,
        {arguments.o: labels} if arguments.o else {},
        tables={arguments.csv: csv_text(found.rows, list(COLUMNS))} if arguments.csv else {},
        Warnings=list(found.warnings),
    )
    first = f"the cranial end of the rootlets of {found.origin}"
    print(f"Distances are counted from {_ORIGINS.get(found.origin, first)}.")
    return 0
