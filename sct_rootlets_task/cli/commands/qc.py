"""``sct_rootlets qc``: put existing segmentations into a quality-control report."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_path, add_task
from sct_rootlets_task.cli.many import add_files, add_level_maps, gather
from sct_rootlets_task.errors import UsageError

NAME = "qc"
HELP = "Add level maps, manual or not, to a quality-control report for the browser."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_files(parser, "-i", "IMAGE", "Image of the level map.", required=True)
    add_level_maps(parser, "-s", "Level map on the image's grid.", "-i and -qc-seg")
    add_path(parser, "-o", "DIR", "Folder of the report; it may hold other images.", required=True)
    for name in ("dataset", "subject"):
        text = f"Name of the {name} in the report. Default: from the image's path."
        parser.add_argument(f"-{name}", metavar="STR", help=text)
    add_files(
        parser,
        "-qc-seg",
        "MASK",
        "Mask on the image's grid, such as the cord, to center the views on. Of a soft mask, "
        "values above 0.5 count.",
    )
    add_task(parser)


def run(arguments: argparse.Namespace) -> int:
    """Add the entries."""
    from sct_rootlets_task.qc.report import INDEX
    from sct_rootlets_task.qc.stored import shown
    from sct_rootlets_task.segmentation.files import Request

    batch = gather(arguments, "i", "qc_seg", lead="s")
    if arguments.subject and not batch.is_one:
        raise UsageError(
            "Expected one level map with -subject, found several. Leave -subject out: each image's "
            "path tells its subject."
        )
    # What is missing for all of them is an error of the command, not of each image.
    Request(qc=Path(arguments.o)).require_all(())
    pages = [page for _, page in batch.each(_add)]
    for page in pages:
        print(f"Created file: {shown(page)}")
    if pages:
        print(f"To see all images of the report, open:\n{shown(Path(arguments.o) / INDEX)}")
    return batch.finish()


def _add(arguments: argparse.Namespace) -> Path:
    from sct_rootlets_task import api

    return api.qc(
        arguments.i,
        arguments.s,
        output=arguments.o,
        dataset=arguments.dataset,
        subject=arguments.subject,
        qc_seg=arguments.qc_seg,
        task=arguments.task,
    )
