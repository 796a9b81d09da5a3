"""``sct_rootlets split``: left and right, dorsal and ventral rootlets."""

from __future__ import annotations

import argparse

from sct_rootlets_task.cli.arguments import add_overwrite, add_path, add_task
from sct_rootlets_task.cli.outputs import check_outputs, write_outputs

NAME = "split"
HELP = "Split a level map into left and right, dorsal and ventral rootlets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "SEG", "Level map to split.", required=True)
    add_path(parser, "-s", "CORD", "Cord mask on the grid of the level map.", required=True)
    add_path(
        parser,
        "-o",
        "PREFIX",
        "Start of the names of the four files: PREFIX_left_dorsal.nii.gz and so on.",
        required=True,
    )
    add_task(parser, checked=True)
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the four parts."""
    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.split import PARTS

    files = {name: f"{arguments.o}_{name}.nii.gz" for name in PARTS}
    arguments.o = list(files.values())
    check_outputs(arguments, o=())
    parts = api.split(arguments.i, arguments.s, task=arguments.task)
    write_outputs(arguments, {file: parts[name] for name, file in files.items()})
    return 0
