"""The ``sct_rootlets`` command: what this package offers beyond ``sct_deepseg``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sct_rootlets_task import __version__
from sct_rootlets_task.errors import INTERRUPTED, RootletsError
from sct_rootlets_task.verbs import (
    check,
    evaluate,
    levels,
    locate,
    models,
    picture,
    qc,
    relabel,
    sample,
    split,
)

VERBS = (check, levels, relabel, split, locate, evaluate, qc, picture, models, sample)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of ``sct_rootlets``, a sub-command a verb."""
    parser = argparse.ArgumentParser(
        prog="sct_rootlets",
        description=(
            "Tools around the rootlets task. To segment images use: sct_deepseg rootlets -i FILE"
        ),
        allow_abbrev=False,
    )
    parser.add_argument("-version", "--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="VERB", dest="verb", required=True)
    for verb in VERBS:
        command = commands.add_parser(
            verb.NAME,
            help=verb.HELP,
            description=verb.HELP,
            allow_abbrev=False,
        )
        verb.add_arguments(command)
        command.set_defaults(run=verb.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``sct_rootlets``.

    Returns
    -------
    int
        0 when all went well, 1 when a run failed, 2 for a wrong command.
    """
    try:
        arguments = build_parser().parse_args(argv)
        return int(arguments.run(arguments))
    except SystemExit as stop:  # argparse ends this way, for -h as for errors
        return int(stop.code or 0)
    except RootletsError as error:
        print(f"sct_rootlets: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("sct_rootlets: interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
