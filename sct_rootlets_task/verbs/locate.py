"""``sct_rootlets locate``: the spinal levels of the canal, without any rootlets."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sct_rootlets_task.locator import LocatedLevels

NAME = "locate"
HELP = "Find the spinal canal and its levels with the built-in locator, without rootlets."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("-i", required=True, metavar="IMAGE", help="Image of the neck.")
    parser.add_argument(
        "-o",
        metavar="LEVELS",
        help="Label map of the canal's levels (default: beside the image, ending in _levels).",
    )
    parser.add_argument("-csv", metavar="CSV", help="Also write a table, one level a row.")
    parser.add_argument(
        "-line", metavar="CSV", help="Also write the centre line: world mm, arc length, level."
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the label map and print the table."""
    from sct_rootlets_task.files import write_csv
    from sct_rootlets_task.images import load_image, save_labels
    from sct_rootlets_task.levels import level_name
    from sct_rootlets_task.locator import COLUMNS, LINE_COLUMNS
    from sct_rootlets_task.outputs import plan_outputs
    from sct_rootlets_task.pipeline import locate

    path = Path(arguments.i)
    out = plan_outputs([path], arguments.o, "_levels")[0].output
    image = load_image(path)
    found = locate(image)
    rows = [
        {
            "level": level_name(level.level),
            "start_mm": round(level.start, 1),
            "end_mm": round(level.end, 1),
            "confidence": round(level.confidence, 2),
        }
        for level in found.levels
    ]
    for row in rows:
        print(
            f"{row['level']}: {row['start_mm']} to {row['end_mm']} mm from the top of the canal, "
            f"confidence {row['confidence']}"
        )
    if not rows:
        print("No level was found in this image.")
    for warning in (*image.warnings, *found.warnings):
        print(f"WARNING: {path}: {warning}", file=sys.stderr)
    save_labels(found.labels, image, out, "spinal levels of the canal")
    print(f"Created file: {out}")
    if arguments.csv:
        write_csv(Path(arguments.csv), rows, list(COLUMNS))
    if arguments.line:
        write_csv(Path(arguments.line), _line(found), list(LINE_COLUMNS))
    return 0


def _line(found: LocatedLevels) -> list[dict[str, object]]:
    """Return a row for each mm of the centre line, from head to tail."""
    import numpy as np

    from sct_rootlets_task.levels import level_name

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
