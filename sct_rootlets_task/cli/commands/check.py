"""``sct_rootlets check``: whether a level map is plausible."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_overwrite, path_argument
from sct_rootlets_task.cli.console import flush_result

NAME = "check"
HELP = "Check the levels of a segmentation: missing, swapped, shifted, too close, too small."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "-i",
        required=True,
        type=path_argument,
        metavar="SEG",
        help="Level map to check, such as a result of sct_deepseg rootlets.",
    )
    parser.add_argument(
        "-s", type=path_argument, metavar="CORD", help="Cord mask on the same grid."
    )
    parser.add_argument(
        "-pmj",
        type=path_argument,
        metavar="PMJ",
        help="Label image of the pontomedullary junction.",
    )
    parser.add_argument(
        "-discs",
        type=path_argument,
        metavar="DISCS",
        help="Label image of the discs, or of vertebral levels along the cord (SCT's numbers).",
    )
    parser.add_argument(
        "-locator",
        type=path_argument,
        metavar="IMAGE",
        help="Image: the built-in locator network says if the numbering agrees with it.",
    )
    parser.add_argument(
        "-task",
        default="rootlets",
        metavar="TASK",
        help="Task whose levels are expected. Default: rootlets.",
    )
    parser.add_argument(
        "-o", type=path_argument, metavar="JSON", help="Also write the report as JSON."
    )
    add_overwrite(parser)
    parser.add_argument(
        "-strict", action="store_true", help="End with exit code 1 when there is a warning."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from sct_rootlets_task.analysis.check import opinions
    from sct_rootlets_task.cli.image_files import (
        check_outputs,
        made_by,
        read_image,
        read_labels,
        read_located,
    )
    from sct_rootlets_task.io.atomic import write_json
    from sct_rootlets_task.levels.landmarks import references_from_images
    from sct_rootlets_task.registry import TASKS
    from sct_rootlets_task.segmentation.sidecar import check_map

    check_outputs(arguments, ["o"])
    image = read_labels(arguments.i)
    located = read_located(arguments.locator) if arguments.locator else None
    references = references_from_images(
        image,
        cord=read_image(arguments.s),
        pmj=read_image(arguments.pmj),
        discs=read_image(arguments.discs),
        located=located,
    )
    task = TASKS.find(arguments.task)
    report = check_map(Path(arguments.i), image, task=task, references=references)
    for flag in report.flags:
        print(f"{flag.severity}: {flag.text}")
    if not report.flags:
        print("Nothing out of the ordinary.")
    for opinion in opinions(report, references):
        print(opinion)
    if arguments.o:
        write_json(Path(arguments.o), {"GeneratedBy": made_by(arguments), **report.to_dict()})
    flush_result()
    return 1 if arguments.strict and report.warnings else 0
