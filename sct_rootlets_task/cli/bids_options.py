"""The options of ``sct_rootlets bids``, as BIDS Apps have them, and what they ask for.

Each option is one row of :data:`OPTIONS`. The parser, the config file, the descriptor of the
container and the documentation are made from these rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sct_rootlets_task.cli import grammar
from sct_rootlets_task.cli.arguments import path_argument, whole_number
from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.io.untrusted import printable
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.runtime import MOST_THREADS
from sct_rootlets_task.study.options import NAMINGS, Processing, Resources, Selection, Study

PARTICIPANT, GROUP = "participant", "group"
LEVELS: Mapping[str, str] = {
    PARTICIPANT: "segment each image",
    GROUP: "write the table, the figures and the page of all results",
}
"""Levels of analysis, with what each does."""

_MOST_PROCESSES = 4096
_MOST_MEMORY_MB = 1 << 30


@dataclass(frozen=True)
class Option:
    """One option.

    Parameters
    ----------
    names : tuple of str
        The option and its short form.
    group : str
        Heading in the help.
    arguments : mapping
        Keyword arguments of ``argparse``'s ``add_argument``.
    """

    names: tuple[str, ...]
    group: str
    arguments: Mapping[str, Any]


def part_argument(text: str) -> tuple[int, int]:
    """Return the number of a part and how many parts there are, from ``K/N``.

    Raises
    ------
    argparse.ArgumentTypeError
        If there is no such part.

    Examples
    --------
    >>> part_argument("3/60")
    (3, 60)
    """
    number, _, count = text.partition("/")
    is_number = all(
        word.isascii() and word.isdecimal() and len(word) < 10 for word in (number, count)
    )
    if is_number and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise argparse.ArgumentTypeError(
        f"expected K/N with K from 1 to N, such as 3/60, found {printable(text, 40)!r}"
    )


def _option(names: str, group: str, **arguments: Any) -> Option:
    return Option(tuple(names.split()), group, arguments)


def _switch(name: str, group: str, text: str) -> Option:
    return _option(name, group, action="store_true", help=text)


def _file(name: str, group: str, text: str) -> Option:
    return _option(name, group, type=path_argument, metavar="FILE", help=text)


def _folder(names: str, group: str, text: str) -> Option:
    return _option(names, group, type=path_argument, metavar="FOLDER", help=text)


def _words(name: str, group: str, metavar: str, text: str) -> Option:
    return _option(name, group, nargs="+", metavar=metavar, help=text)


def _as_deepseg(name: str, group: str) -> Option:
    """Return an option that ``sct_deepseg`` has, too, with one hyphen."""
    (row,) = (row for row in grammar.OPTIONS if name[1:] in row.names)
    return Option((name,), group, row.arguments)


_WHICH = "which images"
_HOW = "how each image is worked on"
_WHO = "who does the work"
_RUN = "what this run does"
_AFTER = f"the level {GROUP}"

OPTIONS: tuple[Option, ...] = (
    _words("--participant-label", _WHICH, "LABEL", "Only these subjects, with or without sub-."),
    _words("--session-label", _WHICH, "LABEL", "Only these sessions, with or without ses-."),
    _words(
        "--contrast",
        _WHICH,
        "CONTRAST",
        "Only these contrasts, such as T2w or UNIT1. Default: all that the task knows.",
    ),
    _file(
        "--bids-filter-file",
        _WHICH,
        'JSON file with the values that entities may have, such as {"T2w": {"acquisition": '
        '"sag"}}.',
    ),
    _file(
        "--only",
        _WHICH,
        "Only the images in this list: qc_fail.yml or the ratings that the QC report saved, or "
        "failures.tsv.",
    ),
    _option(
        "--part",
        _WHICH,
        type=part_argument,
        metavar="K/N",
        help="Only part K of N, for the jobs of an array. All images of a subject are in one part.",
    ),
    _switch(
        "--skip-bids-validation", _WHICH, "Do not ask the BIDS validator, where it is installed."
    ),
    _option("--task", _HOW, choices=tuple(TASKS), help="Task to run. Default: rootlets."),
    _as_deepseg("--model", _HOW),
    _as_deepseg("--model-dir", _HOW),
    _switch(
        "--largest",
        _HOW,
        "Keep at most four bundles of each level, the largest dorsal and ventral one on each side.",
    ),
    _switch("--fill-holes", _HOW, "Fill background that is enclosed by one level with that level."),
    _as_deepseg("--remove-small", _HOW),
    _as_deepseg("--raw", _HOW),
    _option(
        "--method",
        _HOW,
        choices=("caudal", "midpoint", "rootlets"),
        help="Where spinal levels begin and end, as of sct_rootlets levels. Default: caudal.",
    ),
    _as_deepseg("--test-time-aug", _HOW),
    _as_deepseg("--tiles", _HOW),
    _as_deepseg("--engine", _HOW),
    _as_deepseg("--device", _HOW),
    _as_deepseg("--precision", _HOW),
    _option(
        "--no-qc",
        _HOW,
        action="store_false",
        dest="qc",
        help="Make no QC report. Default: each image gets an entry.",
    ),
    _option(
        "--naming",
        _HOW,
        choices=NAMINGS,
        help="Names of the level maps. bids: valid BIDS, …_seg-rootlets_dseg. neuropoly: as some "
        "laboratories write them, …_label-rootlets_dseg. Default: bids.",
    ),
    _option(
        "--n-procs",
        _WHO,
        type=whole_number(1, _MOST_PROCESSES),
        metavar="N",
        help="Processes that work at the same time. Default: as many as cores and memory allow.",
    ),
    _option(
        "--n-threads",
        _WHO,
        type=whole_number(1, MOST_THREADS),
        metavar="N",
        help="CPU threads of each process. Default: the cores are shared out.",
    ),
    _option(
        "--mem-mb",
        _WHO,
        type=whole_number(1, _MOST_MEMORY_MB),
        metavar="MB",
        help="Memory for all processes together. Default: what is free.",
    ),
    _option(
        "--scheduler",
        _WHO,
        metavar="ADDRESS",
        help="Let a dask cluster do the work. ADDRESS is that of its scheduler, such as "
        "tcp://host:8786, or its scheduler file. --n-procs and --mem-mb do not count then.",
    ),
    _folder(
        "-w --work-dir",
        _WHO,
        "Folder of what only the next run needs. Default: the folder work in OUT_DIR.",
    ),
    _switch("--dry-run", _RUN, "Say what would be done with each image and why. Write nothing."),
    _switch("--retry-failed", _RUN, "Try images again that failed before."),
    _switch("--force", _RUN, "Do all work again, even where nothing has changed."),
    _folder(
        "--corrected",
        _RUN,
        "Folder of level maps that were corrected by hand. Default: the folder corrected in "
        "OUT_DIR.",
    ),
    _file(
        "--config",
        _RUN,
        "TOML file with any of the long options, such as n-procs = 4. The command line wins.",
    ),
    _option(
        "--version",
        _RUN,
        action="version",
        version=VERSION,
        help="Show the version and stop.",
    ),
    _option(
        "--ratings",
        _AFTER,
        nargs="+",
        type=path_argument,
        metavar="CSV",
        help="Ratings that the QC report saved, of one rater or several.",
    ),
)
"""All options but ``-v`` and ``-h``."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add all arguments. An option that is not given leaves no trace in the result.

    Parameters
    ----------
    parser : ArgumentParser
        Parser of the command.
    """
    parser.add_argument(
        "bids_dir", type=path_argument, metavar="BIDS_DIR", help="The BIDS data set."
    )
    parser.add_argument(
        "out_dir", type=path_argument, metavar="OUT_DIR", help="Folder of the results."
    )
    parser.add_argument(
        "levels",
        nargs="+",
        choices=tuple(LEVELS),
        metavar=f"{{{','.join(LEVELS)}}}",
        help=" ".join(f"{level}: {what}." for level, what in LEVELS.items()),
    )
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add(groups[option.group], option)
    _accept_underscores(parser)


def _add(group: Any, option: Option) -> None:
    """Add an option; a switch gets its opposite, which undoes what a config file asks for."""
    action = group.add_argument(*option.names, **{**option.arguments, "default": argparse.SUPPRESS})
    opposite = {"store_true": "store_false", "store_false": "store_true"}
    name, kind = option.names[-1], option.arguments.get("action")
    if kind in opposite:
        negated = f"--{name[5:]}" if name.startswith("--no-") else f"--no-{name[2:]}"
        group.add_argument(
            negated,
            action=opposite[kind],
            dest=action.dest,
            default=argparse.SUPPRESS,
            help=argparse.SUPPRESS,
        )


def _accept_underscores(parser: argparse.ArgumentParser) -> None:
    """Let long options be written as BIDS Apps had them first, such as ``--participant_label``."""
    for name, action in list(parser._option_string_actions.items()):
        if name.startswith("--"):
            parser._option_string_actions.setdefault(f"--{name[2:].replace('-', '_')}", action)


def study_of(asked: Mapping[str, Any], command: Sequence[str]) -> Study:
    """Return the study that options ask for.

    Parameters
    ----------
    asked : mapping of str to object
        Options by their names in Python; those that were not given are absent.
    command : sequence of str
        Words of the command, for the provenance.

    Raises
    ------
    UsageError
        If the filter file cannot be understood.
    """
    given = {**asked, "remove_small": tuple(asked.get("remove_small", ()))}
    out_dir = Path(asked["out_dir"]).absolute()
    return Study(
        bids_dir=Path(asked["bids_dir"]).absolute(),
        out_dir=out_dir,
        work_dir=_path(asked, "work_dir") or out_dir / "work",
        selection=_selection(asked),
        processing=Processing(
            **{f.name: given[f.name] for f in fields(Processing) if f.name in given}
        ),
        resources=Resources(
            workers=asked.get("n_procs"),
            threads=asked.get("n_threads"),
            memory_mb=asked.get("mem_mb"),
            scheduler=asked.get("scheduler"),
        ),
        naming=asked.get("naming", NAMINGS[0]),
        corrected=_path(asked, "corrected"),
        retry_failed=asked.get("retry_failed", False),
        force=asked.get("force", False),
        command=tuple(command),
    )


def _selection(asked: Mapping[str, Any]) -> Selection:
    from sct_rootlets_task.study.selection import read_filters

    filters = _path(asked, "bids_filter_file")
    return Selection(
        subjects=tuple(one.removeprefix("sub-") for one in asked.get("participant_label", ())),
        sessions=tuple(one.removeprefix("ses-") for one in asked.get("session_label", ())),
        contrasts=tuple(asked.get("contrast", ())),
        filters=read_filters(filters) if filters else {},
        only=_path(asked, "only"),
        part=asked.get("part"),
    )


def _path(asked: Mapping[str, Any], name: str) -> Path | None:
    """Return a path that does not depend on the working folder: workers may have another one."""
    return Path(asked[name]).absolute() if name in asked else None
