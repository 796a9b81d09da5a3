"""``sct_rootlets levels``: spinal levels along the cord, from rootlets."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task.cli.arguments import add_overwrite, add_path, add_task, label_map_argument
from sct_rootlets_task.cli.many import Batch, add_files, add_level_maps, gather
from sct_rootlets_task.cli.outputs import check_outputs, write_outputs
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.level_names import value_name

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.spinal_levels import SpinalLevels

NAME = "levels"
HELP = "Divide the cord into spinal levels by its rootlets: a level map of the cord and a table."

_ORIGINS = {"pmj": "the PMJ", "cord_mask_top": "the top of the cord mask"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_level_maps(parser, "-i", "Level map of the rootlets.", "-s and -pmj")
    add_files(parser, "-s", "CORD", "Cord mask on the grid of the level map. Needed for -o.")
    add_files(
        parser,
        "-pmj",
        "PMJ",
        "Label image of the pontomedullary junction (PMJ). Distances are counted from it.",
    )
    add_path(parser, "-csv", "TABLE", "Table to write (.csv or .tsv): one row for each level.")
    add_path(
        parser,
        "-o",
        "OUT",
        "Level map of the cord to write; a folder for several. Needs -s.",
    )
    add_task(parser)
    add_overwrite(parser)
    parser.add_argument(
        "-method",
        choices=("caudal", "midpoint", "rootlets"),
        default="caudal",
        help="Where levels begin and end. caudal: from the caudal end of one level's rootlets to "
        "that of the next. midpoint: halfway between neighbors. rootlets: only where rootlets are, "
        "with gaps. Default: caudal.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the map and the table."""
    from sct_rootlets_task.analysis.spinal_levels import COLUMNS, UNITS

    if arguments.o and not arguments.s:
        raise UsageError("-o writes the levels on the cord and needs its mask. Give -s CORD too.")
    if not (arguments.o or arguments.csv):
        raise UsageError("Expected something to write. Give -o OUT, -csv CSV or both.")
    batch = gather(arguments, "s", "pmj")
    _name_maps(batch)
    columns = batch.columns(COLUMNS, without=["spinal_level", "fname"])
    check_outputs(arguments, described=batch.described, o=(), csv=list(columns))
    if not arguments.s:
        print("No cord mask was given: the centerline is estimated from the rootlets.")
    found = list(batch.each(_divide))
    if not batch.is_one:
        rows = [{**one.names, **row} for one, levels in found for row in _rows(levels)]
        batch.write_table(rows, columns, units=UNITS)
    _print_origins([levels.origin for _, levels in found])
    return batch.finish()


def _name_maps(batch: Batch) -> None:
    """Give each level map of the cord its file; without one, there is none."""
    if not batch.arguments.o:
        return
    if batch.is_one:
        try:
            name = label_map_argument(batch.arguments.o)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"argument -o: {error}") from error
        batch.name_outputs(lambda one: [name])
    else:
        batch.name_outputs(lambda one: [batch.in_folder(one, "_levels")])


def _divide(arguments: argparse.Namespace) -> SpinalLevels:
    """Find the levels of one level map, and write what is of it alone."""
    from sct_rootlets_task import api
    from sct_rootlets_task.analysis.spinal_levels import COLUMNS
    from sct_rootlets_task.io.tables import table_text

    found, labels = api.spinal_levels(
        arguments.i,
        cord=arguments.s,
        pmj=arguments.pmj,
        method=arguments.method,
        task=arguments.task,
    )
    maps, table = dict.fromkeys(arguments.o or (), labels), arguments.csv
    tables = {table: table_text(Path(table), found.rows, COLUMNS)} if table else {}
    if maps or tables:  # of several, the table is written at the end
        write_outputs(arguments, maps, tables=tables, Warnings=list(found.warnings))
    # The voxels are written, and many of them would fill the memory.
    return replace(found, labels=None)


def _rows(levels: SpinalLevels) -> Iterator[dict[str, Any]]:
    """Yield the rows of one level map under the names of the table of several."""
    for row in levels.rows:
        level = row["spinal_level"]
        yield {**row, "level": level, "level_name": value_name(level)}


def _print_origins(origins: Sequence[str]) -> None:
    """Say what distances are counted from, and where they cannot be compared."""
    for origin, count in Counter(origins).items():
        first = f"the cranial end of the rootlets of {origin}"
        of = f" in {count} of {len(origins)} level maps" if len(origins) > 1 else ""
        print(f"Distances are counted from {_ORIGINS.get(origin, first)}{of}.")
    if len(set(origins)) > 1:
        print("Compare distances only between rows of the same distance_origin.")
