"""``sct_rootlets qc``: put existing segmentations into a quality-control report."""

from __future__ import annotations

import argparse
from pathlib import Path

from sct_rootlets_task.cli.arguments import add_path, add_task
from sct_rootlets_task.cli.many import add_files, add_level_maps, gather
from sct_rootlets_task.errors import UsageError

NAME = "qc"
HELP = "Add level maps, manual or not, to a quality-control report for the browser."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_files(parser, "-i", "IMAGE", "Image of the level map.")
    add_level_maps(parser, "-s", "Level map on the image's grid.", "-i and -qc-seg", required=False)
    add_path(parser, "-o", "DIR", "Folder of the report; it may hold other images.", required=True)
    for name in ("dataset", "subject"):
        text = f"Name of the {name} in the report. Default: from the image's path."
        parser.add_argument(f"-{name}", metavar="STR", help=text)
    add_files(
        parser,
        "-qc-seg",
        "MASK",
        "Mask on the image's grid, such as the cord, to center the views on. Of a soft mask, "
        "values above 0.5 count.",
    )
    parser.add_argument(
        "-rebuild",
        action="store_true",
        help="Only make the list of the report anew, without -i and -s. It is needed after entries "
        "were removed or changed by hand.",
    )
    add_task(parser)


def run(arguments: argparse.Namespace) -> int:
    """Add the entries, or only make the list anew."""
    from sct_rootlets_task.qc.report import INDEX
    from sct_rootlets_task.qc.stored import shown
    from sct_rootlets_task.segmentation.files import Request

    if arguments.rebuild == bool(arguments.i and arguments.s):
        raise UsageError(
            "Expected an image and its level map, or -rebuild alone. Give -i and -s, or -rebuild."
        )
    if arguments.rebuild:
        return _rebuild(Path(arguments.o))
    batch = gather(arguments, "i", "qc_seg", lead="s")
    if arguments.subject and not batch.is_one:
        raise UsageError(
            "Expected one level map with -subject, found several. Leave -subject out: each image's "
            "path tells its subject."
        )
    # What is missing for all of them is an error of the command, not of each image.
    Request(qc=Path(arguments.o)).require_all(())
    pages = [page for _, page in batch.each(_add)]
    for page in pages:
        print(f"Created file: {shown(page)}")
    if pages:
        print(f"To see all images of the report, open:\n{shown(Path(arguments.o) / INDEX)}")
    return batch.finish()


def _add(arguments: argparse.Namespace) -> Path:
    from sct_rootlets_task import api

    return api.qc(
        arguments.i,
        arguments.s,
        output=arguments.o,
        dataset=arguments.dataset,
        subject=arguments.subject,
        qc_seg=arguments.qc_seg,
        task=arguments.task,
    )


def _rebuild(report: Path) -> int:
    from sct_rootlets_task.qc.folder import is_ours
    from sct_rootlets_task.qc.report import rebuild
    from sct_rootlets_task.qc.stored import shown

    if not is_ours(report):
        raise UsageError(
            f"Expected the folder of a QC report, found none in {shown(report)}. Check -o."
        )
    print(f"Created file: {shown(rebuild(report))}")
    return 0
