"""``sct_rootlets relabel``: give the levels of a segmentation other numbers."""

from __future__ import annotations

import argparse

from sct_rootlets_task.cli.arguments import (
    add_label_map,
    add_overwrite,
    add_path,
    add_task,
    whole_number,
)
from sct_rootlets_task.cli.outputs import check_outputs, write_outputs

NAME = "relabel"
HELP = "Renumber the levels of a level map, for example if all are one too high."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_path(parser, "-i", "SEG", "Level map to renumber.", required=True)
    add_label_map(parser, "Level map to write.", required=True)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "-shift",
        type=whole_number(-30, 30),
        metavar="N",
        help="Add N to every level: -1 turns C3 into C2.",
    )
    how.add_argument(
        "-anchor",
        metavar="LEVEL:Z",
        help="Shift all levels so that the one in slice Z becomes LEVEL. Slices are counted from "
        "0, from the inferior end.",
    )
    how.add_argument(
        "-map",
        metavar="OLD:NEW,…",
        help="Replace levels by a table, such as C7:C8,C8:C7. 0 removes a level.",
    )
    add_path(
        how,
        "-discs",
        "DISCS",
        "Take the levels from labels of the discs, or of vertebral levels along the cord, with "
        "SCT's numbers.",
    )
    add_path(
        how, "-locator", "IMAGE", "Take the levels that the built-in locator sees in this image."
    )
    add_path(
        parser,
        "-s",
        "CORD",
        "Cord mask on the grid of the level map. With it, -discs is more exact.",
    )
    add_task(parser)
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the renumbered level map."""
    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.relabel import parse_anchor, parse_map

    check_outputs(arguments, o=())
    found = api.relabel(
        arguments.i,
        None if arguments.map is None else parse_map(arguments.map),
        shift=arguments.shift,
        anchor=None if arguments.anchor is None else parse_anchor(arguments.anchor),
        discs=arguments.discs,
        locator=arguments.locator,
        cord=arguments.s,
        task=arguments.task,
    )
    steps = [{"Name": str(one), "VoxelsChanged": one.voxels} for one in found.changes]
    write_outputs(arguments, {arguments.o: found.labels}, PostProcessing=steps)
    for change in found.changes:
        print(f"{change}: {change.voxels} voxel(s)")
    if not found.changes:
        print("No level changed.")
    return 0
