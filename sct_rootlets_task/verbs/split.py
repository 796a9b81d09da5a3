"""``sct_rootlets split``: left and right, dorsal and ventral rootlets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

NAME = "split"
HELP = "Split a segmentation into left and right, dorsal and ventral rootlets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("-i", required=True, metavar="SEG", help="Level map.")
    parser.add_argument("-s", required=True, metavar="CORD", help="Cord mask on the same grid.")
    parser.add_argument(
        "-o", required=True, metavar="PREFIX", help="Start of the names of the four files."
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the four parts."""
    from sct_rootlets_task.analysis.split import split_image
    from sct_rootlets_task.verbs.files import read_image, read_labels, write_labels

    parts = split_image(read_labels(arguments.i), read_image(arguments.s))
    for name, part in parts.items():
        path = Path(f"{arguments.o}_{name}.nii.gz")
        write_labels(np.asarray(part.dataobj), arguments.i, path, f"{name} rootlets")
    return 0
