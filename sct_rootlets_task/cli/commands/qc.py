"""``sct_rootlets qc``: put an existing segmentation into a quality-control report."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_path, add_task

NAME = "qc"
HELP = "Add a level map, manual or not, to a quality-control report for the browser."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "IMAGE", "Image of the level map.", required=True)
    add_path(parser, "-s", "SEG", "Level map on the image's grid.", required=True)
    add_path(parser, "-o", "DIR", "Folder of the report; it may hold other images.", required=True)
    for name in ("dataset", "subject"):
        text = f"Name of the {name} in the report. Default: from the image's path."
        parser.add_argument(f"-{name}", metavar="STR", help=text)
    add_path(
        parser,
        "-qc-seg",
        "MASK",
        "Mask on the image's grid, such as the cord, to center the views on. Of a soft mask, "
        "values above 0.5 count.",
    )
    add_task(parser)


def run(arguments: argparse.Namespace) -> int:
    """Add the entry."""
    from sct_rootlets_task import api
    from sct_rootlets_task.qc.report import INDEX
    from sct_rootlets_task.qc.stored import shown

    page = api.qc(
        arguments.i,
        arguments.s,
        output=arguments.o,
        dataset=arguments.dataset,
        subject=arguments.subject,
        qc_seg=arguments.qc_seg,
        task=arguments.task,
    )
    print(f"Created file: {shown(page)}")
    print(f"To see all images of the report, open:\n{shown(Path(arguments.o) / INDEX)}")
    return 0
