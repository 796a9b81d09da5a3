"""``sct_rootlets split``: left and right, dorsal and ventral rootlets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sct_rootlets_task.cli.arguments import add_overwrite, path_argument

NAME = "split"
HELP = "Split a segmentation into left and right, dorsal and ventral rootlets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    for name, kind, text in (
        ("-i", "SEG", "Level map."),
        ("-s", "CORD", "Cord mask on the same grid."),
        ("-o", "PREFIX", "Start of the names of the four files."),
    ):
        parser.add_argument(name, required=True, type=path_argument, metavar=kind, help=text)
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the four parts."""
    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.split import PARTS
    from sct_rootlets_task.cli.image_files import write_labels
    from sct_rootlets_task.io.images import load_labels
    from sct_rootlets_task.io.outputs import Output, check_outputs
    from sct_rootlets_task.io.ownership import sidecar_of

    paths = {name: Path(f"{arguments.o}_{name}.nii.gz") for name in PARTS}
    outputs = [Output(one) for path in paths.values() for one in (path, sidecar_of(path))]
    inputs = [Path(arguments.i), Path(arguments.s)]
    check_outputs(outputs, inputs, overwrite=arguments.overwrite)
    parts = api.split(arguments.i, arguments.s)
    write_labels(
        {path: np.asarray(parts[name].dataobj) for name, path in paths.items()},
        load_labels(inputs[0]),
        description="rootlets of one side and root by sct_rootlets",
        arguments=arguments,
    )
    return 0
