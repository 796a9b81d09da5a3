"""``sct_rootlets qc``: put an existing segmentation into a quality-control report."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.plausibility import Report

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
    from dataclasses import asdict

    from sct_rootlets_task.qc.entry import Details
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.report import INDEX, add_entry
    from sct_rootlets_task.qc.stored import shown

    report = Path(arguments.o)
    require_report_folder(report)
    plausibility = _check(arguments.s)
    details = Details(
        dataset=arguments.dataset,
        subject=arguments.subject,
        command=_command(arguments),
        around=Path(arguments.qc_seg) if arguments.qc_seg else None,
        flags=[asdict(flag) for flag in plausibility.flags] if plausibility else (),
        levels=[asdict(level) for level in plausibility.levels] if plausibility else (),
    )
    page = add_entry(report, Path(arguments.i), Path(arguments.s), details)
    print(f"Created file: {shown(page)}")
    print(f"To see all images of the report, open:\n{shown(report / INDEX)}")
    return 0


def _check(path: str) -> Report | None:
    """Return how plausible the levels are, where all of them are known to the check."""
    import numpy as np

    from sct_rootlets_task.analysis.plausibility import check_image
    from sct_rootlets_task.analysis.shifting import CERVICAL
    from sct_rootlets_task.verbs.files import read_labels

    image = read_labels(path)
    values = set(np.unique(np.asarray(image.dataobj))) - {0}
    return check_image(image) if values and values <= set(CERVICAL) else None


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
