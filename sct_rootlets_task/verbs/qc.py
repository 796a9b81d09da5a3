"""``sct_rootlets qc``: put an existing segmentation into a quality-control report."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sct_rootlets_task.arguments import path_argument

NAME = "qc"
HELP = "Add any segmentation, a manual one too, to a QC report that opens in a browser from disk."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    for name, kind, text in (
        ("-i", "IMAGE", "Image."),
        ("-s", "SEG", "Level map on the image's grid."),
        ("-o", "DIR", "Folder of the report; it may hold other images."),
    ):
        parser.add_argument(name, required=True, type=path_argument, metavar=kind, help=text)
    parser.add_argument(
        "-dataset", metavar="STR", help="Dataset to show; by default the image's path tells."
    )
    parser.add_argument(
        "-subject", metavar="STR", help="Subject to show; by default the image's path tells."
    )
    parser.add_argument(
        "-qc-seg",
        type=path_argument,
        metavar="MASK",
        help=(
            "Mask on the image's grid, such as the cord, that the views are centred on. Of a soft "
            "mask, what lies above 0.5 is taken."
        ),
    )


def run(arguments: argparse.Namespace) -> int:
    """Add the entry."""
    from sct_rootlets_task.qc.checked import add_checked_entry
    from sct_rootlets_task.qc.entry import Details
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.report import INDEX
    from sct_rootlets_task.qc.stored import shown

    report = Path(arguments.o)
    require_report_folder(report)
    details = Details(
        dataset=arguments.dataset,
        subject=arguments.subject,
        command=_command(arguments),
        around=Path(arguments.qc_seg) if arguments.qc_seg else None,
    )
    page = add_checked_entry(report, Path(arguments.i), Path(arguments.s), details)
    print(f"Created file: {shown(page)}")
    print(f"To see all images of the report, open:\n{shown(report / INDEX)}")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """Return the command as it could be typed again."""
    options = {
        "-i": arguments.i,
        "-s": arguments.s,
        "-o": arguments.o,
        "-dataset": arguments.dataset,
        "-subject": arguments.subject,
        "-qc-seg": arguments.qc_seg,
    }
    words = [word for name, value in options.items() if value for word in (name, value)]
    return shlex.join(["sct_rootlets", NAME, *words])
