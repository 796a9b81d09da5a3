"""The arguments of SCT's ``sct_deepseg``: both forms accepted, outputs checked before the run.

SCT 6 and SCT 7 have different command lines, and each rejects the form of the other. Both notice
only after the network has run that a result cannot be saved. For our tasks, both problems are
solved when SCT parses the arguments.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError, RootletsError, UsageError
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.nifti import open_nifti
from sct_rootlets_task.io.outputs import Output, check_outputs, place
from sct_rootlets_task.io.ownership import sidecar_of
from sct_rootlets_task.io.paths import expand_user
from sct_rootlets_task.io.untrusted import is_file, is_folder
from sct_rootlets_task.sct_plugin.advice import as_in_sct
from sct_rootlets_task.sct_plugin.results import Names, Results, absolute
from sct_rootlets_task.sct_plugin.task_tables import Entry

_TASK, _INSTALLS, _LIST = "-task", ("-install-task", "-install"), "-list-tasks"
_TOP_LEVEL = {"-h", "--help", "-task-details"}


def take_arguments(shell: Any, entries: Sequence[Entry], results: Results) -> None:
    """Make SCT's parser of ``sct_deepseg`` accept both forms of our tasks and check their outputs.

    Parameters
    ----------
    shell : module
        ``spinalcordtoolbox.utils.shell``.
    entries : sequence of Entry
        What we run.
    results : Results
        Where a folder for several results is noted.
    """
    parser_class = shell.SCTArgumentParser
    by_sct = parser_class.parse_args
    names = {entry.name for entry in entries}

    @functools.wraps(by_sct)
    def parse_args(self: Any, args: Any = None, namespace: Any = None) -> Any:
        form = _form_of(self, names)
        if form is None:
            return by_sct(self, args, namespace)
        given = list(sys.argv[1:] if args is None else args)
        words = as_modern(given, names) if form == "7" else as_legacy(given, names)
        is_ours = bool(names & {*words})
        if is_ours:
            _forgive_streams()
        parsed = _parsed(functools.partial(by_sct, self, words, namespace), is_ours)
        _settle(parsed, entries, results)
        return parsed

    parser_class.parse_args = parse_args


def _form_of(parser: Any, names: Collection[str]) -> str | None:
    """Return which form a parser of ``sct_deepseg`` has, None for one of another command."""
    for action in parser._actions:
        if action.choices and not set(names).isdisjoint(action.choices):
            return "6" if action.option_strings else "7"
    return None


def as_modern(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a command of SCT 6's form in that of SCT 7, where it names one of our tasks.

    Parameters
    ----------
    words : sequence of str
        The command.
    names : collection of str
        Our tasks.

    Raises
    ------
    SystemExit
        With code 2, if several tasks are named.

    Examples
    --------
    >>> as_modern(["-i", "a.nii.gz", "-task", "rootlets"], {"rootlets"})
    ['rootlets', '-i', 'a.nii.gz']
    >>> as_modern(["-install-task", "rootlets"], {"rootlets"})
    ['rootlets', '-install']
    """
    given = list(words)
    if not given or not given[0].startswith("-") or _TOP_LEVEL & {*given}:
        return given
    options = _options(given)
    if any(option == _LIST for option, _ in options):
        return ["-task-details"]
    named = [name for option, values in options if option in (_TASK, *_INSTALLS) for name in values]
    if not any(name in names for name in named):
        return given
    if len(named) > 1:
        _stop(UsageError(f"Expected one task, found {', '.join(named)}. Give one command a task."))
    kept = [(o, v) for o, v in options if o not in (_TASK, *_INSTALLS, "-c")]
    install = ["-install"] if any(option in _INSTALLS for option, _ in options) else []
    return [named[0], *install, *_flat(kept)]


def as_legacy(words: Sequence[str], names: Collection[str]) -> list[str]:
    """Return a command of SCT 7's form in that of SCT 6, where it names one of our tasks.

    Parameters are those of :func:`as_modern`.

    Examples
    --------
    >>> as_legacy(["rootlets", "-i", "a.nii.gz"], {"rootlets"})
    ['-task', 'rootlets', '-i', 'a.nii.gz']
    >>> as_legacy(["rootlets", "-install"], {"rootlets"})
    ['-install-task', 'rootlets']
    """
    given = list(words)
    if not given or given[0] not in names:
        return given
    rest = given[1:]
    if _INSTALLS[1] in rest:
        rest.remove(_INSTALLS[1])
        return [_INSTALLS[0], given[0], *rest]
    return [_TASK, given[0], *rest]


def _options(words: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Return each option with the words that follow it."""
    options: list[tuple[str, list[str]]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if word[:1] == "-" and word[1:2].isalpha():
            options.append((name, [value] if equals else []))
        elif options:
            options[-1][1].append(word)
    return options


def _flat(options: Iterable[tuple[str, list[str]]]) -> list[str]:
    return [word for option, values in options for word in (option, *values)]


def _forgive_streams() -> None:
    """Print letters that the locale lacks as escapes, instead of ending with an error."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # not a text stream, closed
            if stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _parsed(parse: Any, is_ours: bool) -> Any:
    """Parse; SCT makes the QC folder meanwhile, and if it cannot, the error is one sentence."""
    try:
        return parse()
    except OSError as error:
        if not is_ours:
            raise
        _stop(
            OutputError(
                f"Cannot make the folder {error.filename} ({error.strerror}). Choose another "
                "place with -qc."
            )
        )


def _settle(parsed: Any, entries: Sequence[Entry], results: Results) -> None:
    """Set the output of a command of ours, or stop the command if it cannot be written."""
    task = getattr(parsed, "task", None)
    name = task[0] if isinstance(task, list) and len(task) == 1 else task
    entry = next((entry for entry in entries if entry.name == name), None)
    if entry is None or not parsed.i or getattr(parsed, "install", None):
        return
    if len(parsed.i) > 1 and getattr(parsed, "c", "") is None:
        # SCT 6 asks for contrasts with several images, and does nothing with them.
        parsed.c = ["t2"] * len(parsed.i)
    try:
        images = absolute(parsed.i)
        results.folder, results.is_named = None, parsed.o is not None
        if parsed.o is not None:
            parsed.o, results.folder = _output(parsed.o, images, entry.task.suffix)
        names = Names(images, entry.task.suffix, folder=results.folder)
        _require_places(parsed.o, images, entry.task.suffix, names)
        _require_report(getattr(parsed, "qc", None), getattr(parsed, "qc_seg", None))
    except RootletsError as error:
        _stop(error)


def _output(wanted: str, images: Sequence[Path], suffix: str) -> tuple[str, Path | None]:
    """Return the file that ``-o`` stands for, and the folder if it is one for several images.

    Of several results the first gets the task's suffix, as in SCT. SCT itself would insert it
    before anything that looks like an ending, even in the name of a folder.
    """
    given = str(expand_user(wanted))
    given += "/" if wanted.endswith(("/", "\\")) and not given.endswith("/") else ""
    is_file = given.lower().endswith(EXTENSIONS) and not is_folder(Path(given))
    alone = is_file or len(images) == 1
    name = f"{stem(images[0])}{suffix}"
    path = str(place("-o", given, name=name, endings=EXTENSIONS, alone=alone))
    ending = next(ending for ending in EXTENSIONS if path.lower().endswith(ending))
    # SCT knows endings by small letters alone.
    path = path[: -len(ending)] + (suffix if is_file and len(images) > 1 else "") + ending
    return path, None if alone else absolute([path])[0].parent


def _require_places(output: str | None, images: Sequence[Path], suffix: str, names: Names) -> None:
    """Find out where SCT and we would save, and raise an error if that is impossible."""
    wanted = images[0].parent / f"{stem(images[0])}{suffix}{EXTENSIONS[0]}"
    if output is not None:
        [wanted] = absolute([output])
    places = [names.place(wanted, image) for image in dict.fromkeys(images)]
    outputs = [Output(path) for label in places for path in (label, sidecar_of(label))]
    check_outputs(outputs, images, overwrite=1)


def _require_report(folder: str | None, mask: str | None) -> None:
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"Cannot write into the folder {folder}. Choose another place with -qc, or ask for "
            "the right to write there."
        )
    if folder is None or mask is None:
        return
    if not is_file(Path(mask)):
        raise UsageError(f"This file does not exist: {mask}. Check the argument of -qc-seg.")
    with open_nifti(Path(mask)):
        pass


def _stop(error: RootletsError) -> Any:
    """End the command as SCT's parser does, without its page of help."""
    print(f"sct_deepseg: error: {as_in_sct(str(error))}", file=sys.stderr)
    raise SystemExit(error.exit_code) from error
