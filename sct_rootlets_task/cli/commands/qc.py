"""``sct_rootlets qc``: put an existing segmentation into a quality-control report."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sct_rootlets_task.cli.arguments import path_argument

_TASK = "rootlets"

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
        "-dataset", metavar="STR", help="Name of the dataset. Default: taken from the image's path."
    )
    parser.add_argument(
        "-subject", metavar="STR", help="Name of the subject. Default: taken from the image's path."
    )
    parser.add_argument(
        "-qc-seg",
        type=path_argument,
        metavar="MASK",
        help=(
            "Mask on the image's grid, such as the cord; the views are centered on it. Of a soft "
            "mask, values above 0.5 count."
        ),
    )
    parser.add_argument(
        "-task",
        default=_TASK,
        metavar="TASK",
        help="Task whose levels are expected by the check on the page. Default: rootlets.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Add the entry."""
    from dataclasses import asdict

    from sct_rootlets_task.cli.image_files import read_labels, tell_if_empty
    from sct_rootlets_task.qc.entry import Details
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.pages import require_jinja
    from sct_rootlets_task.qc.render import require_pillow
    from sct_rootlets_task.qc.report import INDEX, add_entry
    from sct_rootlets_task.qc.stored import shown
    from sct_rootlets_task.registry import TASKS
    from sct_rootlets_task.segmentation.sidecar import check_map

    require_pillow()
    require_jinja()
    report, path = Path(arguments.o), Path(arguments.s)
    require_report_folder(report)
    image, task = read_labels(arguments.s), TASKS.find(arguments.task)
    tell_if_empty(arguments.s, image.dataobj, "its page shows the image alone.")
    found = check_map(path, image, task=task)
    details = Details(
        dataset=arguments.dataset,
        subject=arguments.subject,
        command=_command(arguments),
        expected=task.levels,
        around=Path(arguments.qc_seg) if arguments.qc_seg else None,
        flags=[asdict(flag) for flag in found.flags],
        levels=[asdict(level) for level in found.levels],
    )
    page = add_entry(report, Path(arguments.i), path, details)
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
        "-task": arguments.task if arguments.task != _TASK else None,
    }
    words = [word for name, value in options.items() if value for word in (name, value)]
    return shlex.join(["sct_rootlets", NAME, *words])
