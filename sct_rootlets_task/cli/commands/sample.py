"""``sct_rootlets sample``: a synthetic volume to try the tools on."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_overwrite, path_argument
from sct_rootlets_task.errors import UsageError

NAME = "sample"
HELP = "Write a synthetic T2w image of a neck, to try the commands on."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("output", type=path_argument, metavar="OUT.nii.gz", help="File to write.")
    parser.add_argument(
        "-cord",
        type=path_argument,
        metavar="CORD",
        help="Also write its cord mask to this file.",
    )
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the sample."""
    from sct_rootlets_task.io.images import EXTENSIONS
    from sct_rootlets_task.io.outputs import Output, check_outputs
    from sct_rootlets_task.io.sample import write_sample

    for name in filter(None, (arguments.output, arguments.cord)):
        if not name.lower().endswith(EXTENSIONS):
            raise UsageError(
                f"Expected an output ending in {' or '.join(EXTENSIONS)}, found {name}."
            )
    cord = Path(arguments.cord) if arguments.cord else None
    outputs = [
        Output(Path(arguments.output), "OUT.nii.gz"),
        *([Output(cord, "-cord")] if cord else []),
    ]
    check_outputs(outputs, [], overwrite=arguments.overwrite)
    write_sample(Path(arguments.output), cord)
    for output in outputs:
        print(f"Created file: {output.path}")
    print(f"Segment it with:\nsct_deepseg rootlets -i {arguments.output}")
    return 0
