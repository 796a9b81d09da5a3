"""Options of a command from a TOML file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import MissingDependencyError, UsageError
from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of

_LARGEST = 1 << 20
_SWITCHES = (argparse._StoreTrueAction, argparse._StoreFalseAction)


def read_config(path: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    """Return the options of a file by their names in Python, checked as on the command line.

    Parameters
    ----------
    path : Path
        TOML file. Its keys are long options with or without ``--``, with hyphens or underscores.
    parser : ArgumentParser
        Parser that has these options.

    Raises
    ------
    UsageError
        If the file cannot be read, or a key or a value is none of the parser's.
    MissingDependencyError
        If Python is older than 3.11 and ``tomli`` is not installed.
    """
    options = configurable(parser)
    found: dict[str, Any] = {}
    for key, value in _read(path).items():
        where = f"--config {printable(path)}: {printable(key)}"
        option = options.get(key.removeprefix("--").replace("_", "-"))
        if option is None:
            shown = (name for name, one in options.items() if one.help != argparse.SUPPRESS)
            raise UsageError(f"{where} is no option. Use one of {', '.join(sorted(shown))}.")
        if option.dest in found:
            raise UsageError(f"{where} says again what another line says. Keep one of them.")
        try:
            found[option.dest] = _value(option, value)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"{where}: {error}. Correct it.") from None
    return found


def configurable(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return the options that a file may hold, by their long names without the hyphens.

    Parameters
    ----------
    parser : ArgumentParser
        Parser of a command.
    """
    kinds = (argparse._StoreAction, *_SWITCHES)
    return {
        name.removeprefix("--"): action
        for action in parser._actions
        for name in action.option_strings
        if isinstance(action, kinds) and name.startswith("--") and action.dest != "config"
    }


def _read(path: Path) -> Mapping[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        try:
            import tomli as tomllib
        except ImportError as error:
            raise MissingDependencyError(
                "--config needs the package tomli in Python 3.10. Install it with pip install "
                "tomli."
            ) from error
    try:
        with open_regular(path) as stream:
            return tomllib.loads(stream.read(_LARGEST).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"--config {printable(path)} cannot be read as TOML ({reason_of(error)}). Correct it."
        ) from None


def _value(option: argparse.Action, value: object) -> Any:
    """Return a value as the parser would: of a switch, a list or a single word."""
    if isinstance(option, _SWITCHES):
        if not isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"expected true or false, found {_shown(value)}")
        return value == option.const
    if option.nargs != "+":
        return _word(option, value)
    words = value if isinstance(value, list) else [value]
    if not words:
        raise argparse.ArgumentTypeError("expected at least one value, found none")
    return [_word(option, word) for word in words]


def _word(option: argparse.Action, value: object) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise argparse.ArgumentTypeError(f"expected a text or a number, found {_shown(value)}")
    read: Any = option.type or str
    word = read(str(value))
    if option.choices is not None and word not in option.choices:
        known = ", ".join(map(str, option.choices))
        raise argparse.ArgumentTypeError(f"expected one of {known}, found {_shown(value)}")
    return word


def _shown(value: object) -> str:
    return printable(repr(value), 60)
