"""What the parsers of both command lines share: kinds of arguments, and options."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sct_rootlets_task.cli.console import harmless
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.images import EXTENSIONS
from sct_rootlets_task.io.paths import expand_user
from sct_rootlets_task.io.untrusted import is_folder

_OTHER_ENDINGS = (".csv", ".tsv", ".json", ".png", ".jpg", ".txt", ".lut", ".gz", ".mgz", ".nrrd")
VERBOSITIES = (logging.WARNING, logging.INFO, logging.DEBUG)
"""What ``-v`` 0, 1 and 2 let through."""


class CommandParser(argparse.ArgumentParser):
    """Argument parser whose messages cannot control a terminal, whatever the arguments hold."""

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(harmless(message), file)


def path_argument(text: str) -> str:
    """Return a path as the user means it: ``~`` is expanded and a final slash is kept.

    Raises
    ------
    argparse.ArgumentTypeError
        If it can be no path.
    """
    try:
        path = str(expand_user(text))
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return f"{path}/" if text.endswith(("/", "\\")) and path != "/" else path


def label_map_argument(text: str) -> str:
    """Return the name of a label map to write, with ``.nii.gz`` if it has no ending.

    Raises
    ------
    argparse.ArgumentTypeError
        If it can be no path, or names a folder or a file of another kind.
    """
    path = path_argument(text)
    if path.lower().endswith(EXTENSIONS):
        return path
    if is_folder(Path(path)):
        raise argparse.ArgumentTypeError(
            f"expected the name of a file to write, found a folder: {path}"
        )
    if path.lower().endswith(("/", *_OTHER_ENDINGS)):
        raise argparse.ArgumentTypeError(
            f"expected the name of a level map ({' or '.join(EXTENSIONS)}), found {path}"
        )
    return f"{path}{EXTENSIONS[0]}"


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a reader of whole numbers within limits, for ``type=`` of an argument.

    Examples
    --------
    >>> whole_number(1, 8)("5")
    5
    """

    def read(text: str) -> int:
        word = text.strip()
        is_short = len(word) <= len(str(max(abs(lowest), abs(highest)))) + 1
        digits = word.removeprefix("-")
        is_whole = is_short and digits.isascii() and digits.isdecimal()
        if is_whole and lowest <= int(word) <= highest:
            return int(word)
        found = text if len(text) <= 40 else f"{text[:40]}…"
        raise argparse.ArgumentTypeError(
            f"expected a whole number from {lowest} to {highest}, found {found!r}"
        )

    return read


def add_path(
    parser: argparse._ActionsContainer,
    option: str,
    metavar: str,
    text: str,
    *,
    required: bool = False,
) -> None:
    """Add an option that takes a path."""
    parser.add_argument(option, required=required, type=path_argument, metavar=metavar, help=text)


def add_label_map(parser: argparse.ArgumentParser, text: str, *, required: bool = False) -> None:
    """Add the option ``-o`` for a label map to write."""
    parser.add_argument("-o", required=required, type=label_map_argument, metavar="OUT", help=text)


def add_task(parser: argparse.ArgumentParser, *, checked: bool = False) -> None:
    """Add the option ``-task`` of commands that read a level map.

    Parameters
    ----------
    parser : ArgumentParser
        Parser of the command.
    checked : bool
        Whether the task only tells which levels the map should hold.
    """
    from sct_rootlets_task.registry import TASKS

    tasks = ", ".join(f"{task.name} ({task.level_names})" for task in TASKS.values())
    then = "Default: the one that the sidecar names, else the one whose levels are in the map."
    if checked:
        then = "A warning names levels in the map that it does not have."
    parser.add_argument("-task", metavar="TASK", help=f"Task of the level map: {tasks}. {then}")


def add_overwrite(parser: argparse._ActionsContainer) -> None:
    """Add the option ``-overwrite``."""
    parser.add_argument("-overwrite", **OVERWRITE)


OVERWRITE: dict[str, Any] = {
    "type": int,
    "choices": (0, 1),
    "default": None,
    "help": (
        "1: replace any existing file. 0: replace none. Default: replace only files that this "
        "package wrote. Inputs are never replaced."
    ),
}
"""Keyword arguments of the option ``-overwrite``."""


VERBOSITY: dict[str, Any] = {
    "type": whole_number(0, len(VERBOSITIES) - 1),
    "metavar": "{0,1,2}",
    "default": 1,
    "help": "What to print: 0 warnings and errors, 1 progress too, 2 details too. Default: 1.",
}
"""Keyword arguments of the option ``-v``."""


def start_logging(verbosity: int) -> None:
    """Send the package's log to stderr.

    Parameters
    ----------
    verbosity : {0, 1, 2}
        Argument of ``-v``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("%(levelname)s: %(message)s"))
    logger = logging.getLogger("sct_rootlets_task")
    logger.handlers = [handler]
    logger.setLevel(VERBOSITIES[verbosity])


class _PrintableFormatter(logging.Formatter):
    """Formatter of records that may quote foreign names."""

    def format(self, record: logging.LogRecord) -> str:
        return harmless(super().format(record))
