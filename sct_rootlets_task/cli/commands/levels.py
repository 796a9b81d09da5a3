"""``sct_rootlets levels``: spinal levels along the cord, from rootlets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sct_rootlets_task.cli.arguments import (
    add_overwrite,
    label_map_argument,
    path_argument,
)
from sct_rootlets_task.cli.console import show

NAME = "levels"
HELP = "Spinal levels without gaps from rootlets: a level map of the cord, and a table."

_ORIGINS = {"pmj": "the PMJ", "cord_mask_top": "the top of the cord mask"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    for name, kind, text in (
        ("-i", "SEG", "Level map of the rootlets."),
        ("-s", "CORD", "Cord mask on the same grid; needed for -o."),
        ("-pmj", "PMJ", "Label image of the pontomedullary junction."),
        ("-csv", "CSV", "Table to write, one row a level."),
    ):
        required = name == "-i"
        parser.add_argument(name, required=required, type=path_argument, metavar=kind, help=text)
    parser.add_argument(
        "-o",
        type=label_map_argument,
        metavar="OUT",
        help="Level map of the cord to write; needs -s.",
    )
    add_overwrite(parser)
    parser.add_argument(
        "-method",
        choices=("caudal", "midpoint", "rootlets"),
        default="caudal",
        help="caudal: from the caudal end of one level's rootlets to that of the next; midpoint: "
        "halfway between neighbors; rootlets: only where rootlets are, with gaps.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the map and the table."""
    from sct_rootlets_task.analysis.spinal_levels import COLUMNS, spinal_levels_image
    from sct_rootlets_task.cli.image_files import (
        check_outputs,
        read_image,
        read_labels,
        write_labels,
    )
    from sct_rootlets_task.errors import UsageError
    from sct_rootlets_task.io.atomic import csv_text
    from sct_rootlets_task.io.images import load_labels
    from sct_rootlets_task.registry import TASKS

    if arguments.o and not arguments.s:
        raise UsageError("-o writes the levels on the cord and needs its mask. Give -s CORD too.")
    if not (arguments.o or arguments.csv):
        raise UsageError("Expected something to write. Give -o OUT, -csv CSV or both.")
    check_outputs(arguments, ["o", "csv"], {"csv": list(COLUMNS)})
    image = read_labels(arguments.i)
    found, _ = spinal_levels_image(
        image,
        task=TASKS.of_map(np.unique(image.dataobj)),
        cord=read_image(arguments.s),
        pmj=read_image(arguments.pmj),
        method=arguments.method,
        fname=Path(arguments.i).name,
    )
    for warning in found.warnings:
        show(f"WARNING: {warning}")
    if not arguments.s:
        print("No cord mask was given: the centerline is estimated from the rootlets.")
    table, labels = csv_text(found.rows, list(COLUMNS)), found.labels
    write_labels(
        {Path(arguments.o): labels} if arguments.o and labels is not None else {},
        load_labels(Path(arguments.i)),
        description=f"spinal levels ({found.method}) by sct_rootlets",
        arguments=arguments,
        warnings=found.warnings,
        tables={Path(arguments.csv): table} if arguments.csv else {},
    )
    first = f"the cranial end of the rootlets of {found.origin}"
    print(f"Distances are counted from {_ORIGINS.get(found.origin, first)}.")
    return 0
