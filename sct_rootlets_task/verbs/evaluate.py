"""``sct_rootlets evaluate``: compare a segmentation with a reference."""

from __future__ import annotations

import argparse
from pathlib import Path

NAME = "evaluate"
HELP = "Compare a segmentation with a reference: Dice, volumes, surface distances, midpoints."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("-i", required=True, metavar="SEG", help="Level map to judge.")
    parser.add_argument("-gt", required=True, metavar="REF", help="Reference on the same grid.")
    parser.add_argument("-o", metavar="JSON", help="Also write the figures as JSON.")
    parser.add_argument("-csv", metavar="CSV", help="Also write the figures as a table.")


def run(arguments: argparse.Namespace) -> int:
    """Print the figures, a line a level."""
    from sct_rootlets_task.analysis.agreement import COLUMNS, compare_images
    from sct_rootlets_task.files import write_csv, write_json
    from sct_rootlets_task.verbs.files import read_labels

    found = compare_images(read_labels(arguments.i), read_labels(arguments.gt))
    rows = [item.to_dict() for item in found]
    print(f"{'level':>5}  Dice  volume  HD95 mm  surface mm  midpoint mm  found")
    for row in rows:
        print(
            f"{row['level']:>5}  {_figure(row['dice'], 2):>4}"
            f"  {_figure(row['volume_difference_percent'], 0):>5}%"
            f"  {_figure(row['hd95_mm'], 1):>7}  {_figure(row['surface_distance_mm'], 2):>10}"
            f"  {_figure(row['midpoint_error_mm'], 1):>11}  {row['detection']}"
        )
    if arguments.o:
        write_json(Path(arguments.o), {"segmentation": arguments.i, "reference": arguments.gt,
                                       "levels": rows})  # fmt: skip
    if arguments.csv:
        write_csv(Path(arguments.csv), rows, list(COLUMNS))
    return 0


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
