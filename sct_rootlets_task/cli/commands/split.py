"""``sct_rootlets split``: left and right, dorsal and ventral rootlets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sct_rootlets_task.cli.arguments import add_overwrite, add_path, add_task
from sct_rootlets_task.cli.many import LEADING, add_files, add_level_maps, gather
from sct_rootlets_task.cli.outputs import check_outputs, write_outputs

NAME = "split"
HELP = "Split level maps into left and right, dorsal and ventral rootlets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_level_maps(parser, "-i", "Level map to split.", "-s")
    add_files(parser, "-s", "CORD", "Cord mask on the grid of the level map.", required=True)
    add_path(
        parser,
        "-o",
        "PREFIX",
        "Start of the names of the four files: PREFIX_left_dorsal.nii.gz and so on. For several "
        "level maps a folder; each file is named after its level map.",
        required=True,
    )
    add_path(
        parser,
        "-csv",
        "TABLE",
        "Also write a table (.csv or .tsv): one row for each level, side and root.",
    )
    add_task(parser, checked=True)
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the four parts of each level map, and the table."""
    from sct_rootlets_task.analysis.split import COLUMNS, PARTS

    batch = gather(arguments, "s")
    prefix = arguments.o
    if batch.is_one:
        batch.name_outputs(lambda one: [f"{prefix}_{name}.nii.gz" for name in PARTS])
    else:
        batch.name_outputs(lambda one: [batch.in_folder(one, f"_{name}") for name in PARTS])
    columns = {**LEADING, **COLUMNS}
    check_outputs(arguments, described="csv", o=(), csv=list(columns))
    found = list(batch.each(_split))
    batch.write_table([{**one.names, **row} for one, rows in found for row in rows], columns)
    return batch.finish()


def _split(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Write the parts of one level map and return the rows of the table."""
    import numpy as np

    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.split import PARTS, part_rows
    from sct_rootlets_task.io.images import check_labels
    from sct_rootlets_task.rootlets.geometry import voxel_volume

    parts = api.split(arguments.i, arguments.s, task=arguments.task)
    write_outputs(
        arguments, {file: parts[name] for name, file in zip(PARTS, arguments.o, strict=True)}
    )
    # A file may be in other units than mm.
    in_mm = check_labels(parts[PARTS[0]], Path(arguments.i))
    arrays = {name: np.asarray(image.dataobj) for name, image in parts.items()}
    return part_rows(arrays, voxel_volume(in_mm.affine))
