"""Tables as texts: the ending of a file's name tells their form."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.io.atomic import atomic_output, csv_text
from sct_rootlets_task.io.untrusted import printable

_LONGEST = 10_000


def table_text(path: Path, rows: Sequence[Mapping[str, Any]], columns: Collection[str]) -> str:
    """Return rows as the text of a table: TSV, as BIDS has it, for ``….tsv``, else CSV.

    Parameters
    ----------
    path : Path
        File that the text is for.
    rows : sequence of mapping
        One for each row; keys that are no columns are left out.
    columns : collection of str
        Columns in their order.
    """
    names = list(columns)
    own = [{name: row.get(name) for name in names} for row in rows]
    return tsv_text(own, names) if is_tsv(path) else csv_text(own, names)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Collection[str]) -> None:
    """Write rows as a table atomically, see :func:`table_text`."""
    with atomic_output(path) as temporary:
        temporary.write_bytes(table_text(path, rows, columns).encode("utf-8", "backslashreplace"))


def is_tsv(path: Path) -> bool:
    """Tell whether a file is to hold tab-separated values."""
    return path.suffix.lower() == ".tsv"


def tsv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    r"""Return rows as the text of a TSV file of BIDS: ``n/a`` is missing, tabs are escaped.

    Examples
    --------
    >>> tsv_text([{"file": "a\tb", "mm": None}], ["file", "mm"])
    'file\tmm\na\\tb\tn/a\n'
    """
    lines = [[_cell(row.get(column)) for column in columns] for row in rows]
    return "".join("\t".join(line) + "\n" for line in [list(columns), *lines])


def _cell(value: Any) -> str:
    return "n/a" if value is None or value == "" else printable(value, _LONGEST)


def describe_columns(
    columns: Mapping[str, str], units: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """Return what stands of a table's columns in the JSON file beside it.

    Parameters
    ----------
    columns : mapping of str to str
        Meaning of each column.
    units : mapping of str to str, optional
        Units of columns that have any.
    """
    known = units or {}
    return {
        name: {"Description": text, **({"Units": known[name]} if name in known else {})}
        for name, text in columns.items()
    }
