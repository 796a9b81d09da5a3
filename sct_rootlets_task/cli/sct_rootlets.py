"""The ``sct_rootlets`` command: what this package offers besides ``sct_deepseg``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence

from sct_rootlets_task.cli import console
from sct_rootlets_task.cli.arguments import VERBOSITY, CommandParser, start_logging
from sct_rootlets_task.cli.commands import (
    bids,
    check,
    evaluate,
    levels,
    locate,
    models,
    picture,
    qc,
    relabel,
    sample,
    sct,
    split,
)
from sct_rootlets_task.environment import VERSION

_RESULTS = "Results and names of written files are always printed."
COMMANDS = (bids, check, levels, relabel, split, locate, evaluate, qc, picture, models, sample, sct)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``sct_rootlets``, one sub-command for each module of ``commands``."""
    parser = CommandParser(
        prog="sct_rootlets",
        description=(
            "Tools for spinal nerve rootlets. To segment an image: sct_deepseg rootlets -i FILE. "
            "To segment a BIDS data set: sct_rootlets bids"
        ),
        allow_abbrev=False,
    )
    parser.add_argument("-version", "--version", action="version", version=VERSION)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command_name", required=True)
    for module in COMMANDS:
        command = commands.add_parser(
            module.NAME, help=module.HELP, description=module.HELP, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
        for leaf in _leaves(command):
            leaf.add_argument("-v", **{**VERBOSITY, "help": f"{VERBOSITY['help']} {_RESULTS}"})
    return parser


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers that have no sub-commands of their own."""
    inner = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for commands in inner:
        yield from commands.values()


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``sct_rootlets``.

    Returns
    -------
    int
        0 when all went well, 1 when a run failed, 2 for a wrong command.
    """
    words = list(sys.argv[1:] if argv is None else argv)

    def body() -> int:
        arguments = build_parser().parse_args(words)
        arguments.words = words
        start_logging(arguments.v)
        return int(arguments.run(arguments))

    return console.run_command("sct_rootlets", words, body)


if __name__ == "__main__":
    sys.exit(console.sct_rootlets())
