"""``sct_rootlets picture``: one picture of a segmentation over its image."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "picture"
HELP = "Draw a segmentation over its image into one PNG: coronal and sagittal views, axial slices."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("-i", required=True, metavar="IMAGE", help="Image.")
    parser.add_argument("-s", required=True, metavar="SEG", help="Level map on the image's grid.")
    parser.add_argument("-o", required=True, metavar="PNG", help="Picture to write.")


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture."""
    from sct_rootlets_task.picture import draw

    path = draw(Path(arguments.i), Path(arguments.s), Path(arguments.o))
    print(f"Created file: {path}")
    return 0
