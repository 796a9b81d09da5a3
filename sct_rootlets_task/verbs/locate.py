"""``sct_rootlets locate``: the spinal levels of the canal, without any rootlets."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

NAME = "locate"
HELP = "Find the spinal canal and its levels with the built-in locator (about 3 mm, one second)."

COLUMNS: Mapping[str, str] = {
    "level": "Name of the level.",
    "start_mm": "Its cranial end, mm along the canal from the canal's top.",
    "end_mm": "Its caudal end.",
    "confidence": "Share of the canal's voxels there that the locator gave this level, 0 to 1.",
}
"""Columns of the table of located levels."""

LINE_COLUMNS: Mapping[str, str] = {
    "x_mm": "To the right, in the image's world coordinates (RAS+).",
    "y_mm": "To the front.",
    "z_mm": "Upwards.",
    "arc_mm": "Distance along the centre line from the canal's top, one row a mm.",
    "level": "Name of the level there; empty above and below the levels found.",
}
"""Columns of the table of the canal's centre line."""


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
    save_labels(found.labels, image, out, "spinal levels of the canal")
    print(f"Created file: {out}")
    if arguments.csv:
        write_csv(Path(arguments.csv), rows, list(COLUMNS))
    if arguments.line:
        write_csv(Path(arguments.line), _line(found), list(LINE_COLUMNS))
    return 0


def _line(found: object) -> list[dict[str, object]]:
    """Return a row for each mm of the centre line, from head to tail."""
    import numpy as np

    from sct_rootlets_task.levels import level_name
    from sct_rootlets_task.locator import LocatedLevels

    if not isinstance(found, LocatedLevels) or found.line is None:
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
