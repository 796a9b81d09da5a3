"""``sct_rootlets picture``: one picture of a segmentation over its image."""

from __future__ import annotations

import argparse

from sct_rootlets_task.cli.arguments import add_overwrite, add_path, add_task
from sct_rootlets_task.cli.outputs import check_outputs

NAME = "picture"
HELP = "Draw a level map over its image into one PNG: coronal and sagittal views, axial slices."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "IMAGE", "Image of the level map.", required=True)
    add_path(parser, "-s", "SEG", "Level map on the image's grid.", required=True)
    add_path(parser, "-o", "PNG", "Picture to write.", required=True)
    add_task(parser, checked=True)
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture."""
    from sct_rootlets_task import api

    check_outputs(arguments, o=())
    # What may be replaced has just been checked.
    path = api.picture(
        arguments.i, arguments.s, output=arguments.o, overwrite=1, task=arguments.task
    )
    print(f"Created file: {path}")
    return 0
