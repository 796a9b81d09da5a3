"""``sct_rootlets evaluate``: compare segmentations with references."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task.cli.arguments import add_overwrite, add_path
from sct_rootlets_task.cli.console import flush_result
from sct_rootlets_task.cli.many import Batch, LevelMap, add_files, add_level_maps, gather
from sct_rootlets_task.cli.outputs import check_outputs, made_by
from sct_rootlets_task.level_names import value_name

if TYPE_CHECKING:
    from sct_rootlets_task.api import Evaluation

NAME = "evaluate"
HELP = "Compare level maps with references: Dice, volumes, surface distances, midpoints."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_level_maps(parser, "-i", "Level map to evaluate.", "-gt")
    add_files(parser, "-gt", "REF", "Reference: a level map on the same grid.", required=True)
    add_path(parser, "-o", "JSON", "Also write the figures as JSON.")
    add_path(parser, "-csv", "TABLE", "Also write the figures as a table (.csv or .tsv).")
    add_overwrite(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the figures, a line a level; of several level maps a line each."""
    from sct_rootlets_task.analysis.evaluate import COLUMNS

    batch = gather(arguments, "gt")
    columns = batch.columns(COLUMNS, without=["level"])
    check_outputs(arguments, described=batch.described, o=(), csv=list(columns))
    found = []
    for one, agreement in batch.each(_evaluate):
        if batch.is_one:
            _print(agreement.rows)
        else:
            batch.print_line(one, _summary(agreement.rows))
        found.append((one, agreement.rows))
    if batch.is_one:
        _write_one(*found[0])
    else:
        _write_all(batch, found, columns)
    flush_result()
    return batch.finish()


def _evaluate(arguments: argparse.Namespace) -> Evaluation:
    from sct_rootlets_task import api

    return api.evaluate(arguments.i, arguments.gt)


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"{'level':>5}  Dice  volume  HD95 mm  surface mm  midpoint mm  found")
    for row in rows:
        print(
            f"{row['level']:>5}  {_figure(row['dice'], 2):>4}"
            f"  {_figure(row['volume_difference_percent'], 0):>5}%"
            f"  {_figure(row['hd95_mm'], 1):>7}  {_figure(row['surface_distance_mm'], 2):>10}"
            f"  {_figure(row['midpoint_error_mm'], 1):>11}  {row['detection']}"
        )


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the row of means in a line, and how many levels of the reference were found."""
    *levels, _, mean = rows
    found = [row["detection"] for row in levels]
    wanted = found.count("both") + found.count("missed")
    return (
        f"mean Dice {_figure(mean['dice'], 2)}, midpoints {_figure(mean['midpoint_error_mm'], 1)} "
        f"mm off, {found.count('both')} of {wanted} levels found, {found.count('extra')} extra"
    )


def _write_one(one: LevelMap, rows: Sequence[Mapping[str, Any]]) -> None:
    from sct_rootlets_task.analysis.evaluate import COLUMNS
    from sct_rootlets_task.io.atomic import write_json
    from sct_rootlets_task.io.tables import write_table

    arguments = one.arguments
    if arguments.o:
        names = {"segmentation": arguments.i, "reference": arguments.gt}
        content = {"GeneratedBy": made_by(arguments), **names, "levels": rows}
        write_json(Path(arguments.o), content)
    if arguments.csv:
        write_table(Path(arguments.csv), rows, COLUMNS)


def _write_all(
    batch: Batch,
    found: Sequence[tuple[LevelMap, Sequence[Mapping[str, Any]]]],
    columns: Mapping[str, str],
) -> None:
    numbers = {value_name(value): value for value in range(1, 256)}
    rows = [
        {**one.names, **row, "level": numbers.get(row["level"]), "level_name": row["level"]}
        for one, rows_of_one in found
        for row in rows_of_one
    ]
    contents = [
        {**one.names, "reference": one.arguments.gt, "levels": rows_of_one}
        for one, rows_of_one in found
    ]
    name = batch.arguments.o
    texts = {name: batch.json_text(LevelMaps=contents)} if name else {}
    batch.write_table(rows, columns, texts=texts)


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
