"""``sct_rootlets check``: whether a level map is plausible."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_overwrite, add_path, add_task
from sct_rootlets_task.cli.console import flush_result
from sct_rootlets_task.cli.outputs import check_outputs, made_by

NAME = "check"
HELP = "Check a level map: levels that are missing, swapped, shifted, too close or too small."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "SEG", "Level map to check.", required=True)
    add_path(parser, "-s", "CORD", "Cord mask on the grid of the level map.")
    add_path(
        parser,
        "-pmj",
        "PMJ",
        "Label image of the pontomedullary junction (PMJ), between pons and medulla.",
    )
    add_path(
        parser,
        "-discs",
        "DISCS",
        "Label image of the discs, or of vertebral levels along the cord, with SCT's numbers.",
    )
    add_path(
        parser,
        "-locator",
        "IMAGE",
        "Image of the level map. The built-in locator finds the levels in it, to compare with.",
    )
    add_task(parser)
    add_path(parser, "-o", "JSON", "Also write the report as JSON.")
    add_overwrite(parser)
    parser.add_argument(
        "-strict", action="store_true", help="End with exit code 1 if there is a warning, not 0."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report."""
    from sct_rootlets_task import api
    from sct_rootlets_task.io.atomic import write_json

    check_outputs(arguments, o=())
    report = api.check(
        arguments.i,
        cord=arguments.s,
        pmj=arguments.pmj,
        discs=arguments.discs,
        locator=arguments.locator,
        task=arguments.task,
    )
    for flag in report.flags:
        print(f"{flag.severity}: {flag.text}")
    if not report.flags:
        print("Nothing out of the ordinary.")
    for opinion in report.opinions:
        print(opinion)
    if arguments.o:
        write_json(Path(arguments.o), {"GeneratedBy": made_by(arguments), **report.to_dict()})
    flush_result()
    return 1 if arguments.strict and report.warnings else 0
