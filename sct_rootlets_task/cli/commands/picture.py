"""``sct_rootlets picture``: one picture of a segmentation over its image."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_overwrite, path_argument

NAME = "picture"
HELP = "Draw a segmentation over its image into one PNG: coronal and sagittal views, axial slices."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    for name, kind, text in (
        ("-i", "IMAGE", "Image."),
        ("-s", "SEG", "Level map on the image's grid."),
        ("-o", "PNG", "Picture to write."),
    ):
        parser.add_argument(name, required=True, type=path_argument, metavar=kind, help=text)
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture."""
    from sct_rootlets_task.cli.image_files import check_outputs, tell_if_empty
    from sct_rootlets_task.io.images import load_labels
    from sct_rootlets_task.qc.preview import draw
    from sct_rootlets_task.qc.render import require_pillow

    require_pillow()
    check_outputs(arguments, ["o"])
    path = draw(Path(arguments.i), Path(arguments.s), Path(arguments.o))
    labels = load_labels(Path(arguments.s)).data
    tell_if_empty(arguments.s, labels, "the picture shows the image alone.")
    print(f"Created file: {path}")
    return 0
