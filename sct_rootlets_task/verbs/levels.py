"""``sct_rootlets levels``: spinal levels along the cord, from rootlets."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "levels"
HELP = "Spinal levels without gaps from rootlets: a level map of the cord, and a table."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("-i", required=True, metavar="SEG", help="Level map of the rootlets.")
    parser.add_argument("-s", metavar="CORD", help="Cord mask on the same grid.")
    parser.add_argument("-pmj", metavar="PMJ", help="Label image of the pontomedullary junction.")
    parser.add_argument("-o", metavar="OUT", help="Level map of the cord to write; needs -s.")
    parser.add_argument("-csv", metavar="CSV", help="Table to write.")
    parser.add_argument(
        "-method",
        choices=("caudal", "midpoint", "rootlets"),
        default="caudal",
        help="caudal: from the caudal end of one level's rootlets to that of the next; midpoint: "
        "halfway between neighbours; rootlets: only where rootlets are, with gaps.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the map and the table."""
    from sct_rootlets_task.analysis.spinal_levels import spinal_levels_image
    from sct_rootlets_task.errors import UsageError
    from sct_rootlets_task.verbs.files import read_image, read_labels, write_labels

    if arguments.o and not arguments.s:
        raise UsageError("-o writes the levels on the cord and needs its mask. Give -s CORD too.")
    if not (arguments.o or arguments.csv):
        raise UsageError("Expected something to write. Give -o OUT, -csv CSV or both.")
    found, _ = spinal_levels_image(
        read_labels(arguments.i),
        cord=read_image(arguments.s),
        pmj=read_image(arguments.pmj),
        method=arguments.method,
        fname=Path(arguments.i).name,
    )
    if not arguments.s:
        print("No cord mask was given: the centre line is estimated from the rootlets.")
    if arguments.csv:
        found.write_csv(Path(arguments.csv))
        print(f"Created file: {arguments.csv}")
    if arguments.o and found.labels is not None:
        description = f"spinal levels ({found.method}) by sct_rootlets"
        write_labels(found.labels, arguments.i, Path(arguments.o), description)
    print(f"Distances are counted from: {found.origin}")
    return 0
