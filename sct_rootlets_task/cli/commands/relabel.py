"""``sct_rootlets relabel``: give the levels of a segmentation other numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task.cli.arguments import (
    add_overwrite,
    label_map_argument,
    path_argument,
    whole_number,
)

if TYPE_CHECKING:
    from sct_rootlets_task.tasks import Task

NAME = "relabel"
HELP = "Renumber the levels of a segmentation, for example one that is off by one level."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "-i", required=True, type=path_argument, metavar="SEG", help="Level map to renumber."
    )
    parser.add_argument(
        "-o", required=True, type=label_map_argument, metavar="OUT", help="Level map to write."
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument(
        "-shift",
        type=whole_number(-30, 30),
        metavar="N",
        help="Add N to every level: -1 makes C3 C2.",
    )
    how.add_argument(
        "-anchor",
        metavar="LEVEL:Z",
        help="Shift all levels so that the one at slice Z is LEVEL. Slices are counted from 0, "
        "from the inferior end.",
    )
    how.add_argument(
        "-map",
        metavar="OLD:NEW,…",
        help="Replace levels by a table, such as C7:C8,C8:C7; 0 removes a level.",
    )
    how.add_argument(
        "-discs",
        type=path_argument,
        metavar="DISCS",
        help="Take the levels from labels of the discs, or of vertebral levels along the cord "
        "(SCT's numbers).",
    )
    how.add_argument(
        "-locator",
        type=path_argument,
        metavar="IMAGE",
        help="Take the levels that the built-in locator network sees in this image.",
    )
    parser.add_argument(
        "-s",
        type=path_argument,
        metavar="CORD",
        help="Cord mask on the same grid; used with -discs.",
    )
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the renumbered level map."""
    from sct_rootlets_task.analysis.relabel import changes
    from sct_rootlets_task.cli.image_files import (
        check_outputs,
        read_labels,
        write_labels,
    )
    from sct_rootlets_task.io.images import load_labels
    from sct_rootlets_task.rootlets.geometry import require_labels

    check_outputs(arguments, ["o"])
    image = read_labels(arguments.i)
    labels = np.asarray(image.dataobj)
    require_labels(labels, f"the level map {arguments.i}", least=1)
    renumbered = _renumber(labels, image, arguments)
    steps = {str(change): change.voxels for change in changes(labels, renumbered)}
    write_labels(
        {Path(arguments.o): renumbered},
        load_labels(Path(arguments.i)),
        description="relabeled by sct_rootlets",
        arguments=arguments,
        steps=steps,
    )
    for change, voxels in steps.items():
        print(f"{change}: {voxels} voxel(s)")
    if not steps:
        print("No level changed.")
    return 0


def _renumber(labels: np.ndarray, image: Any, arguments: argparse.Namespace) -> np.ndarray:
    from sct_rootlets_task.analysis import relabel
    from sct_rootlets_task.cli.image_files import read_image
    from sct_rootlets_task.levels.landmarks import references_from_images
    from sct_rootlets_task.registry import TASKS

    task = TASKS.of_map(np.unique(labels))
    if arguments.shift is not None:
        return relabel.shift_levels(labels, arguments.shift, task=task)
    if arguments.anchor:
        level, number = relabel.parse_anchor(arguments.anchor)
        return relabel.anchor_levels(
            labels, image.affine, level=level, slice_number=number, task=task
        )
    if arguments.map:
        return relabel.map_levels(labels, relabel.parse_map(arguments.map), task=task)
    if arguments.discs:
        known = references_from_images(
            image, discs=read_image(arguments.discs), cord=read_image(arguments.s)
        )
        return relabel.levels_from_discs(
            labels,
            image.affine,
            discs=known.discs or {},
            task=task,
            cord=known.cord,
            files=known.files,
        )
    return _from_locator(labels, image, arguments.locator, task)


def _from_locator(labels: np.ndarray, image: Any, path: str, task: Task) -> np.ndarray:
    from sct_rootlets_task.analysis.relabel import levels_from_located
    from sct_rootlets_task.cli.image_files import read_located
    from sct_rootlets_task.levels.landmarks import references_from_images
    from sct_rootlets_task.rootlets.geometry import require_labels

    require_labels(labels, f"the level map {image.get_filename()}")
    known = references_from_images(image, located=read_located(path, onto=image))
    located = np.asarray(known.located)
    return levels_from_located(labels, image.affine, located=located, task=task)
