"""What the commands of ``sct_rootlets`` write: checked before anything is read, then written."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

_INPUTS = ("i", "s", "gt", "pmj", "discs", "locator", "qc_seg")
"""Options of all commands that name a file to read."""


def check_outputs(
    arguments: argparse.Namespace, *, described: str = "", **outputs: Collection[str]
) -> None:
    """Make sure that what a command will write replaces nothing that it must not.

    Parameters
    ----------
    arguments : Namespace
        Arguments of the command.
    described : str
        Option of a table that gets a JSON file beside it, see :func:`described_in`.
    **outputs : collection of str
        Options that name a file, or a list of files, to write. The value has the columns of a
        table, by which an older one is known; it is empty for other files.

    Raises
    ------
    UsageError, OutputError
        As :func:`sct_rootlets_task.io.outputs.check_outputs` does.
    """
    from sct_rootlets_task.io import outputs as io
    from sct_rootlets_task.io.images import EXTENSIONS
    from sct_rootlets_task.io.ownership import sidecar_of

    found = []
    for name, columns in outputs.items():
        given = getattr(arguments, name)
        for path in _each(given):
            found.append(io.Output(Path(path), f"-{name}", columns))
            if path.lower().endswith(EXTENSIONS):
                found.append(io.Output(sidecar_of(Path(path)), f"-{name}"))
            if name == described:
                found.append(io.Output(described_in(path), f"-{name}"))
    inputs = [Path(path) for name in _INPUTS for path in _each(getattr(arguments, name, None))]
    io.check_outputs(found, inputs, overwrite=arguments.overwrite)


def described_in(table: str | Path) -> Path:
    """Return the JSON file beside a table of several level maps."""
    return Path(table).with_suffix(".json")


def _each(given: str | Sequence[str | None] | None) -> list[str]:
    """Return the paths that an option was given; None stands for none."""
    several = [given] if given is None or isinstance(given, str) else given
    return [path for path in several if path]


def write_outputs(
    arguments: argparse.Namespace,
    images: Mapping[str, Any],
    *,
    tables: Mapping[str, str] | None = None,
    **record: object,
) -> None:
    """Write label maps with their sidecars, and tables: all or nothing; and say so.

    Parameters
    ----------
    arguments : Namespace
        Arguments of the command; ``-i`` is what the maps were made of.
    images : mapping of str to nibabel.Nifti1Image
        Label maps by the files to write.
    tables : mapping of str to str, optional
        Texts of further files.
    **record : object
        Further keys of the sidecars.

    Raises
    ------
    OutputError
        If a file cannot be written; then all files are as they were.
    """
    from sct_rootlets_task.io.results import write_results

    sidecar = {
        "GeneratedBy": made_by(arguments),
        "Sources": [Path(arguments.i).name],
        "Warnings": [],
        **record,
    }
    texts = {Path(path): text for path, text in (tables or {}).items()}
    labels = {Path(path): image for path, image in images.items()}
    write_results(labels, sidecar, texts=texts)
    for path in (*texts, *labels):
        print(f"Created file: {path}")


def made_by(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Return what the JSON files of a command say about their making."""
    from sct_rootlets_task.io.ownership import generated_by, shortened

    return generated_by(shortened("sct_rootlets", arguments.words))
