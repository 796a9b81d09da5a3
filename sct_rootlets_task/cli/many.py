"""Commands on one level map or on many: which files belong together, a run of each, one table."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from sct_rootlets_task.cli.arguments import path_argument
from sct_rootlets_task.cli.console import explain, is_foreseen, show
from sct_rootlets_task.cli.outputs import described_in, made_by
from sct_rootlets_task.errors import DONE, FAILED, ImageError, UsageError
from sct_rootlets_task.io.bids_names import subject_and_session
from sct_rootlets_task.io.progress import remaining
from sct_rootlets_task.io.untrusted import is_folder, printable
from sct_rootlets_task.registry import TASKS

logger = logging.getLogger("sct_rootlets_task")

LEADING: Mapping[str, str] = {
    "subject": "Subject, such as sub-01, from the level map's folder or name.",
    "session": "Session, such as ses-1, likewise.",
    "file": "The level map.",
    "level": "The level: 1 = C1 … 9 = T1 … 21 = L1 … 30 = S5.",
    "level_name": "Name of the level, such as C5.",
}
"""First columns of each table of several level maps."""

_PAIRS, _LONGEST = 3, 1000
_T = TypeVar("_T")
_R = TypeVar("_R")


def add_files(
    parser: argparse.ArgumentParser,
    option: str,
    metavar: str,
    text: str,
    *,
    required: bool = False,
) -> None:
    """Add an option for a file, or one for each level map."""
    parser.add_argument(
        option, nargs="+", required=required, type=path_argument, metavar=metavar, help=text
    )


def add_level_maps(
    parser: argparse.ArgumentParser,
    option: str,
    text: str,
    others: str,
    *,
    required: bool = True,
) -> None:
    """Add the option for level maps; `others` names the options of the files that go with them."""
    also = (
        f" With several, give {others} as many files in the same order, or one name with "
        "{folder}, {image}, {subject} or {session} in it, in quotes."
    )
    add_files(
        parser,
        option,
        "SEG",
        f"{text} Several may be given, or a folder (a data set) to look for them."
        f"{also if others else ''}",
        required=required,
    )


def each(
    things: Sequence[_T],
    work: Callable[[_T], _R],
    failed: list[_T],
    *,
    file: Callable[[_T], Path],
    reason: Callable[[_T, Exception], str],
) -> Iterator[tuple[_T, _R]]:
    """Do the work on each of several images; one that fails does not stop the others.

    Parameters
    ----------
    things : sequence
        What there is to do.
    work : callable
        Takes one of them.
    failed : list
        Those that fail are added to it, and an error line says why.
    file : callable
        Returns the file of one, for progress.
    reason : callable
        Returns the error line.

    Yields
    ------
    tuple
        One of the things, and what came of it.
    """
    start = time.perf_counter()
    for number, thing in enumerate(things):
        if len(things) > 1:
            left = remaining(time.perf_counter() - start, number, len(things))
            rest = f", about {left} left" if left else ""
            logger.info("Image %d of %d%s: %s", number + 1, len(things), rest, file(thing))
        try:
            result = work(thing)
        except Exception as error:  # whatever is wrong with one image, the others go on
            logger.debug("While working on %s:", file(thing), exc_info=not is_foreseen(error))
            failed.append(thing)
            show(reason(thing, error))
        else:
            yield thing, result


def show_failed(failed: Sequence[Path], count: int) -> None:
    """Name the images that failed, where there were several."""
    if failed and count > 1:
        names = "\n".join(f"  {path}" for path in failed)
        show(f"\nFailed: {len(failed)} of {count} images:\n{names}")


@dataclass(frozen=True)
class LevelMap:
    """One of the level maps of a command.

    Parameters
    ----------
    path : Path
        Its file.
    arguments : Namespace
        Arguments of the command for this level map alone.
    problem : str
        Why a file that goes with it cannot be told; empty if all is well.
    """

    path: Path
    arguments: argparse.Namespace
    problem: str = ""

    @property
    def names(self) -> dict[str, str]:
        """What the first columns of a table say of all its rows."""
        subject, session = subject_and_session(self.path)
        return {"subject": subject, "session": session, "file": str(self.path)}


@dataclass
class Batch:
    """The level maps of a command.

    Parameters
    ----------
    arguments : Namespace
        Arguments of the command; each option of a file has a list of them.
    maps : tuple of LevelMap
        The level maps, in the order given.
    is_one : bool
        Whether one file was given, and no folder.
    failed : list of LevelMap
        Those that failed.
    """

    arguments: argparse.Namespace
    maps: tuple[LevelMap, ...]
    is_one: bool
    failed: list[LevelMap] = field(default_factory=list)

    def each(self, work: Callable[[argparse.Namespace], _R]) -> Iterator[tuple[LevelMap, _R]]:
        """Do the work on each level map; of several, those that fail are left out.

        Parameters
        ----------
        work : callable
            Takes the arguments of a command on one level map.
        """
        if self.is_one:
            yield self.maps[0], work(self.maps[0].arguments)
            return

        def run(one: LevelMap) -> _R:
            if one.problem:
                raise ImageError(one.problem)
            return work(one.arguments)

        def reason(one: LevelMap, error: Exception) -> str:
            text = explain(error, f"{self.arguments.command_name} of {one.path}")
            named = text if str(one.path) in text else f"{one.path}: {text}"
            return f"sct_rootlets: error: {named}"

        yield from each(self.maps, run, self.failed, file=lambda one: one.path, reason=reason)

    @property
    def described(self) -> str:
        """Option of the table that gets a JSON file beside it, if any."""
        return "" if self.is_one else "csv"

    def columns(self, own: Mapping[str, str], *, without: Sequence[str] = ()) -> dict[str, str]:
        """Return the columns of the table ``-csv``, with their meaning.

        Parameters
        ----------
        own : mapping of str to str
            Columns of the command on one level map.
        without : sequence of str
            Those that the leading columns of the table of several stand for.
        """
        if self.is_one:
            return dict(own)
        return {**LEADING, **{name: text for name, text in own.items() if name not in without}}

    def in_folder(self, one: LevelMap, ending: str) -> str:
        """Return a file to write of one of several level maps, in the folder ``-o``."""
        from sct_rootlets_task.io.images import EXTENSIONS, stem
        from sct_rootlets_task.io.outputs import place

        name = f"{stem(one.path)}{ending}"
        return str(place("-o", self.arguments.o, name=name, endings=EXTENSIONS, alone=False))

    def name_outputs(self, files: Callable[[LevelMap], Sequence[str]]) -> None:
        """Give each level map its own files to write, in the place of ``-o``.

        Parameters
        ----------
        files : callable
            Returns those of one level map.

        Raises
        ------
        UsageError
            If two level maps would be written to one file.
        """
        taken: dict[str, Path] = {}
        for one in self.maps:
            one.arguments.o = list(files(one))
            for name in one.arguments.o:
                other = taken.setdefault(name, one.path)
                if other != one.path:
                    raise UsageError(
                        f"{other} and {one.path} would both be written to {name}. Run them apart, "
                        "each with an -o of its own."
                    )
        self.arguments.o = list(taken)

    def write_table(
        self,
        rows: Sequence[Mapping[str, Any]],
        columns: Mapping[str, str],
        *,
        units: Mapping[str, str] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        """Write the table ``-csv``, the JSON file beside it, and further texts; and say so.

        Parameters
        ----------
        rows : sequence of mapping
            Rows of the table.
        columns, units : mapping of str to str
            Meaning of the columns, and units of those that have any.
        texts : mapping of str to str, optional
            Further texts by their files.
        """
        from sct_rootlets_task.io.results import write_results
        from sct_rootlets_task.io.tables import describe_columns, table_text

        files = {Path(name): text for name, text in (texts or {}).items()}
        if self.arguments.csv:
            path = Path(self.arguments.csv)
            files[path] = table_text(path, rows, columns)
            files[described_in(path)] = self.json_text(Columns=describe_columns(columns, units))
        if files:
            write_results({}, {}, texts=files)
        for path in files:
            print(f"Created file: {path}")

    def json_text(self, **content: object) -> str:
        """Return the text of a JSON file about all level maps."""
        from sct_rootlets_task.io.atomic import json_bytes

        failed = dict.fromkeys(str(one.path) for one in self.failed)
        given = [str(one.path) for one in self.maps]
        record = {
            "GeneratedBy": made_by(self.arguments),
            "Sources": [path for path in given if path not in failed],
            "Failed": list(failed),
        }
        return json_bytes({**record, **content}).decode()

    def print_line(self, one: LevelMap, text: str) -> None:
        """Print what was found in one of several level maps."""
        print(f"{printable(one.path, _LONGEST)}: {text}")

    def finish(self) -> int:
        """Name the level maps that failed and return the exit code."""
        show_failed([one.path for one in self.failed], len(self.maps))
        return FAILED if self.failed else DONE


def gather(arguments: argparse.Namespace, *others: str, lead: str = "i") -> Batch:
    """Return the level maps of a command, each with the files that go with it.

    Parameters
    ----------
    arguments : Namespace
        Arguments of the command.
    *others : str
        Options of files that go with a level map, without the hyphen.
    lead : str
        Option of the level maps.

    Raises
    ------
    UsageError
        If a folder holds no level maps, or files do not fit the level maps in number or subject.
    """
    from sct_rootlets_task.io.outputs import each_once

    if getattr(arguments, "task", None):
        TASKS.find(arguments.task)
    given = getattr(arguments, lead)
    maps = _level_maps(given)
    is_one = len(given) == 1 and not is_folder(Path(given[0]))
    names = given if is_one else map(str, maps)
    files = {lead: [(name, "") for name in names]}
    for option in others:
        if getattr(arguments, option) is not None:
            files[option] = _files(arguments, option, maps, lead)
    once, again = each_once(maps)
    for path in again:
        logger.warning("%s was given more than once; it is used once.", path)
    found: dict[Path, LevelMap] = {}
    for number, path in enumerate(maps):
        own = {option: several[number] for option, several in files.items()}
        found.setdefault(path, _alone(arguments, path, own, is_one=is_one))
    for option, several in files.items():
        setattr(arguments, option, [name for name, _ in several])
    return Batch(arguments, tuple(found[path] for path in once), is_one)


def _level_maps(given: Sequence[str]) -> list[Path]:
    from sct_rootlets_task.io.level_maps import find_level_maps

    found: list[Path] = []
    for path in map(Path, given):
        found += find_level_maps(path) if is_folder(path) else [path]
    return found


def _files(
    arguments: argparse.Namespace, option: str, maps: Sequence[Path], lead: str
) -> list[tuple[str, str]]:
    """Return for each level map the file of an option, or why it cannot be told."""
    from sct_rootlets_task.io.level_maps import is_pattern

    given = getattr(arguments, option)
    if len(given) == 1 and is_pattern(given[0]):
        files = [_by_pattern(given[0], one) for one in maps]
        if not any(name for name, _ in files):
            raise UsageError(files[0][1])
        return files
    if len(given) != len(maps):
        pairs = zip(maps[:_PAIRS], given[:_PAIRS], strict=False)
        named = "; ".join(f"{file} with {one}" for one, file in pairs)
        raise UsageError(
            f"Expected as many files for {_option(option)} as level maps, found {len(given)} and "
            f"{len(maps)}: {named} and so on. Give them in the same order, or one name with "
            "{subject} or another placeholder."
        )
    for one, file in zip(maps, given, strict=True):
        if len(maps) > 1:
            _require_one_subject(one, Path(file), option)
    return [(file, "") for file in given]


def _by_pattern(pattern: str, level_map: Path) -> tuple[str, str]:
    from sct_rootlets_task.io.level_maps import file_by_pattern

    try:
        return str(file_by_pattern(pattern, level_map)), ""
    except ImageError as error:
        return "", str(error)


def _require_one_subject(level_map: Path, file: Path, option: str) -> None:
    pairs = zip(subject_and_session(level_map), subject_and_session(file), strict=True)
    if any(one and other and one != other for one, other in pairs):
        raise UsageError(
            f"Expected files of one subject and session, found {_option(option)} {file} with "
            f"{level_map}. Give the files in the same order, one for each level map."
        )


def _alone(
    arguments: argparse.Namespace,
    path: Path,
    files: Mapping[str, tuple[str, str]],
    *,
    is_one: bool,
) -> LevelMap:
    """Return a level map with the arguments of a command on it alone."""
    own = copy(arguments)
    for option, (name, _) in files.items():
        setattr(own, option, name)
    if not is_one:
        own.csv = None  # there is one table for all
        named = {_option(dest): name for dest, (name, _) in files.items()}
        own.words = _words(named, arguments)
    problems = [problem for _, problem in files.values() if problem]
    return LevelMap(path, own, problems[0] if problems else "")


def _option(dest: str) -> str:
    return f"-{dest.replace('_', '-')}"


def _words(files: Mapping[str, str], arguments: argparse.Namespace) -> list[str]:
    """Return the words of a command with one file for each of some options."""
    words, left = list[str](), list(arguments.words)
    while left:
        word = left.pop(0)
        option = word.partition("=")[0]
        if option not in files:
            words.append(word)
            continue
        del left[: len(list(takewhile(lambda one: not one.startswith("-"), left)))]
        words += [option, files[option]]
    return words
