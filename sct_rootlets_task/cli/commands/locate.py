"""``sct_rootlets locate``: the spinal levels of the canal, without any rootlets."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sct_rootlets_task.cli.arguments import add_overwrite, path_argument
from sct_rootlets_task.cli.console import show

if TYPE_CHECKING:
    from sct_rootlets_task.levels.assignment import LocatedLevels

NAME = "locate"
HELP = "Find the spinal canal and its levels with the built-in locator, without rootlets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "-i", required=True, type=path_argument, metavar="IMAGE", help="Image of the neck."
    )
    parser.add_argument(
        "-o",
        type=path_argument,
        metavar="LEVELS",
        help="Label map of the canal's levels (default: beside the image, ending in _levels).",
    )
    parser.add_argument(
        "-csv", type=path_argument, metavar="CSV", help="Also write a table, one level a row."
    )
    parser.add_argument(
        "-line",
        type=path_argument,
        metavar="CSV",
        help="Also write the centerline: world mm, arc length, level.",
    )
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the label map and print the table."""
    from sct_rootlets_task.cli.image_files import check_outputs, write_labels
    from sct_rootlets_task.io.images import load_image
    from sct_rootlets_task.io.outputs import plan_outputs
    from sct_rootlets_task.levels.assignment import COLUMNS, LINE_COLUMNS
    from sct_rootlets_task.segmentation.segmenter import locate

    path = Path(arguments.i)
    job = plan_outputs([path], arguments.o, "_levels", overwrite=arguments.overwrite)[0]
    arguments.o = str(job.output)
    columns = {"csv": list(COLUMNS), "line": list(LINE_COLUMNS)}
    check_outputs(arguments, ["o", *columns], columns)
    image = load_image(path)
    found = locate(image)
    _tell(found)
    for warning in (*image.warnings, *found.warnings):
        show(f"WARNING: {path}: {warning}")
    write_labels(
        {job.output: found.labels},
        image,
        description="spinal levels of the canal by sct_rootlets",
        arguments=arguments,
        warnings=found.warnings,
        tables=_tables(found, arguments, columns),
    )
    return 0


def _tell(found: LocatedLevels) -> None:
    for row in _rows(found):
        print(
            f"{row['level']}: {row['end_mm']} to {row['start_mm']} mm from the top of the canal, "
            f"confidence {row['confidence']}"
        )
    if not found.levels:
        print("No level was found in this image.")


def _tables(
    found: LocatedLevels, arguments: argparse.Namespace, columns: Mapping[str, Sequence[str]]
) -> dict[Path, str]:
    """Return the texts of the tables that are asked for, by their files."""
    from sct_rootlets_task.io.atomic import csv_text

    rows = {"csv": _rows, "line": _line}
    return {
        Path(path): csv_text(rows[name](found), names)
        for name, names in columns.items()
        if (path := getattr(arguments, name))
    }


def _rows(found: LocatedLevels) -> list[dict[str, object]]:
    """Return a row for each level, from head to tail."""
    from sct_rootlets_task.level_names import level_name

    return [
        {
            "level": level_name(level.level),
            "start_mm": round(level.end, 1),
            "end_mm": round(level.start, 1),
            "confidence": round(level.confidence, 2),
        }
        for level in found.levels
    ]


def _line(found: LocatedLevels) -> list[dict[str, object]]:
    """Return a row for each mm of the centerline, from head to tail."""
    import numpy as np

    from sct_rootlets_task.level_names import level_name

    if found.line is None:
        return []
    rows = []
    for arc in np.arange(0, found.line.length + 1):
        level = [item.level for item in found.levels if item.start <= arc < item.end]
        x, y, z = found.line.at(float(arc))[0]
        rows.append(
            {
                "x_mm": round(float(x), 2),
                "y_mm": round(float(y), 2),
                "z_mm": round(float(z), 2),
                "arc_mm": float(arc),
                "level": level_name(level[0]) if level else "",
            }
        )
    return rows
