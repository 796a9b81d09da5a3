"""Pages made from the code: tasks, model card, command line, files, flags, codes, variables."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sct_rootlets_task.level_names import level_name
from sct_rootlets_task.levels.sources import ByLocator, ByMap, LevelSource
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.tasks import Release, Task
from tools.architecture import to_markdown as rooms_to_markdown
from tools.model_card import bullets, escape, hook_name, link, load_card, render_card, table


def write_pages(folder: Path) -> None:
    """Write all generated pages.

    Parameters
    ----------
    folder : Path
        Folder for the pages; made if it does not exist.
    """
    pages = {
        "tasks.md": tasks_to_markdown(TASKS),
        "model_card.md": render_card(load_card()),
        "command_line.md": command_line_to_markdown(TASKS),
        "files.md": files_to_markdown(),
        "flags.md": flags_to_markdown(),
        "environment.md": environment_to_markdown(),
        "rooms.md": rooms_to_markdown(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def tasks_to_markdown(tasks: Mapping[str, Task]) -> str:
    """Return the page of all tasks and their models.

    Parameters
    ----------
    tasks : mapping of str to Task
        Registry to describe.
    """
    parts = ["# Tasks and models", "Made from the task registry."]
    for task in tasks.values():
        parts += [
            f"## {escape(task.name)}",
            escape(task.description),
            escape(task.long_description),
            table(["Field", "Value"], _task_rows(task).items()),
            "### Post-processing done by default",
            bullets(f"{escape(hook_name(hook))}: {_summary(hook)}" for hook in task.hooks)
            or "None.",
        ]
        for release in task.releases:
            parts += [
                f"### Model {escape(release.tag)}",
                escape(release.description),
                table(["Field", "Value"], _release_rows(task, release).items()),
            ]
    return "\n\n".join(parts) + "\n"


def _task_rows(task: Task) -> dict[str, str]:
    levels = ", ".join(f"{level} = {level_name(level)}" for level in task.levels)
    rows = {
        "Levels": f"{task.level_names} ({levels})",
        "Contrasts": ", ".join(task.contrasts),
        "Default model": task.default,
        "Stand-in without a network": task.fallback or "none",
        "Name of the model in SCT": task.model_name,
        "Orientation where the model names none": f"{task.orientation} (SCT's letters)",
        "Ending of the default output name": f"{task.suffix}.nii.gz",
        "Layout of the quality-control page": task.qc_style,
        "Group in the list of tasks": task.group,
    }
    if task.legacy_of:
        rows["Kept for old scripts; replaced by"] = task.legacy_of
    return {field: escape(value) for field, value in rows.items()} | {
        "Project": link(task.url, task.url)
    }


def _release_rows(task: Task, release: Release) -> dict[str, str]:
    archive = ", ".join(link(url.rsplit("/", 1)[-1], url) for url in release.urls)
    checksum = {"SHA-256 of the archive": escape(release.sha256 or "not known")}
    return {
        "Archive": archive or "none: ships inside the package",
        **(checksum if archive else {}),
        "Folder of the model": escape(release.trainer_folder),
        "Source of the levels": escape(_level_source(task.levels_of(release))),
        "Citation": escape(release.citation),
    }


def _level_source(source: LevelSource) -> str:
    if isinstance(source, ByMap):
        pairs = ", ".join(f"{index} → {level_name(level)}" for index, level in source.pairs)
        return f"a table of classes and levels: {pairs}"
    if isinstance(source, ByLocator):
        return (
            f"the built-in network {source.locator!r}: rootlets within {source.reach_mm:g} mm of "
            "the located canal take the level of the canal beside them; components under "
            f"{source.min_volume_mm3:g} mm³ are dropped"
        )
    return "the names of the model's classes"


def _summary(function: object) -> str:
    lines = (getattr(function, "__doc__", None) or "not described").strip().splitlines()
    return escape(lines[0])


def parser_to_markdown(parser: argparse.ArgumentParser, level: int = 2) -> str:
    """Return the reference of a command, with all its sub-commands.

    Parameters
    ----------
    parser : ArgumentParser
        Any parser; arguments whose help is suppressed are left out.
    level : int
        Level of the command's heading.
    """
    raw = issubclass(parser.formatter_class, argparse.RawDescriptionHelpFormatter)
    parts = [f"{'#' * level} {escape(parser.prog)}"]
    parts += _text(parser.description, parser, raw=raw)
    parts.append(_fence(parser.format_usage().strip()))
    commands: list[argparse.ArgumentParser] = []
    for group in parser._action_groups:
        shown = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
        options = [a for a in shown if not isinstance(a, argparse._SubParsersAction)]
        for action in shown:
            if isinstance(action, argparse._SubParsersAction):
                commands += dict.fromkeys(action.choices.values())
        if options:
            parts.append(f"**{escape(group.title or 'arguments')}**")
            parts += _text(group.description, parser, raw=raw)
            parts.append(bullets(_argument(action, parser) for action in options))
    parts += _text(parser.epilog, parser, raw=raw)
    parts += [parser_to_markdown(command, level + 1) for command in commands]
    return "\n\n".join(parts)


def _argument(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    values = " ".join(_values(action))
    names = [" ".join(filter(None, (name, values))) for name in action.option_strings] or [values]
    heading = ", ".join(_code(name) for name in names)
    settings = vars(action) | {"prog": parser.prog}
    if action.choices is not None:
        settings["choices"] = ", ".join(map(str, action.choices))
    text = escape((action.help or "") % settings)
    notes = []
    if action.choices is not None and action.metavar is not None:
        notes.append("One of " + ", ".join(_code(str(choice)) for choice in action.choices) + ".")
    if action.required and action.option_strings:
        notes.append("Required.")
    if action.nargs != 0 and action.default not in (None, argparse.SUPPRESS):
        notes.append(f"Default: {_code(str(action.default))}.")
    return " ".join(filter(None, (f"{heading}:", text, *notes)))


def _values(action: argparse.Action) -> Iterator[str]:
    """Yield the words that stand for an argument's values."""
    if action.nargs == 0:
        return
    plain = action.dest.upper() if action.option_strings else action.dest
    if action.choices is not None:
        plain = "{" + ",".join(map(str, action.choices)) + "}"
    names = action.metavar or plain
    several = names if isinstance(names, tuple) else (names,)
    first, last = several[0], several[-1]
    if action.nargs == "?":
        yield f"[{first}]"
    elif action.nargs == "*":
        yield f"[{first} …]"
    elif action.nargs == "+":
        yield f"{first} [{last} …]"
    elif isinstance(action.nargs, int):
        yield from several if len(several) > 1 else several * action.nargs
    else:
        yield "…" if action.nargs in (argparse.REMAINDER, argparse.PARSER) else first


def _text(text: str | None, parser: argparse.ArgumentParser, *, raw: bool) -> list[str]:
    """Return a description as one block; laid-out text keeps its lines."""
    if not text:
        return []
    filled = text % {"prog": parser.prog} if "%(prog)" in text else text
    return [_fence(filled.strip("\n"))] if raw and "\n" in filled else [escape(filled)]


def _fence(text: str) -> str:
    marks = "`" * max(3, _longest_run(text) + 1)
    return f"{marks}text\n{text}\n{marks}"


def _code(text: str) -> str:
    marks = "`" * (_longest_run(text) + 1)
    # A space on both sides is dropped again; it keeps a backtick at the edge apart from the marks.
    space = " " if "`" in text else ""
    return f"{marks}{space}{text}{space}{marks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def command_line_to_markdown(tasks: Mapping[str, Task]) -> str:
    """Return the page of all commands.

    Parameters
    ----------
    tasks : mapping of str to Task
        Registry the parsers are made for.
    """
    from sct_rootlets_task.cli.grammar import legacy_parser, modern_parser
    from sct_rootlets_task.cli.sct_rootlets import build_parser

    parts = [
        "# Command line",
        "Made from the parsers of the commands.",
        "## The form of SCT 7",
        parser_to_markdown(modern_parser(tasks), 3),
        "## The form of SCT 6",
        parser_to_markdown(legacy_parser(tasks), 3),
        "## Commands of this package",
        parser_to_markdown(build_parser(), 3),
    ]
    return "\n\n".join(parts) + "\n"


def files_to_markdown() -> str:
    """Return the page of everything that is written: files, sidecar keys, columns of tables."""
    from sct_rootlets_task.analysis import evaluate
    from sct_rootlets_task.analysis.spinal_levels import COLUMNS
    from sct_rootlets_task.io.outputs import FILES, SIDECAR
    from sct_rootlets_task.levels import located_canal
    from sct_rootlets_task.qc.pages import RATINGS

    parts = [
        "# Files and their contents",
        "## Files",
        "Written under names that follow from those of the images. Files that a command names "
        "itself (`-o`, `-csv` and the like) stand with its options, see [](command_line.md).",
        _described("File", FILES),
        "## Keys of the sidecar",
        "The JSON file beside a level map. A dot leads into a key's own keys. "
        "`sct_rootlets check -o` writes what is under `Plausibility` alone.",
        _described("Key", SIDECAR),
        "## Columns of the table of levels",
        "The CSV file of `sct_rootlets levels -csv`: one row for each spinal level. `start` is "
        "caudal and `end` cranial, here and in every other table and JSON file.",
        "![The three methods, and what the columns measure](../images/methods.png)",
        _described("Column", COLUMNS),
        "## Columns of the located levels",
        "The CSV file of `sct_rootlets locate -csv`: one row for each level of the canal.",
        _described("Column", located_canal.COLUMNS),
        "## Columns of the centerline",
        "The CSV file of `sct_rootlets locate -line`: one row for each mm of the canal.",
        _described("Column", located_canal.LINE_COLUMNS),
        "## Columns of the agreement",
        "The CSV file of `sct_rootlets evaluate -csv`: one row for each level.",
        _described("Column", evaluate.COLUMNS),
        "## Columns of the ratings",
        "The CSV file that the QC report saves: one row for each image.",
        _described("Column", RATINGS),
    ]
    return "\n\n".join(parts) + "\n"


def flags_to_markdown() -> str:
    """Return the page of the codes of the plausibility check."""
    from sct_rootlets_task.analysis.flags import CODES

    parts = [
        "# Flags of the check",
        "What `sct_rootlets check`, the sidecar and the QC report may remark on. Each flag comes "
        "with what was found, what is expected, where the expectation comes from, and where to "
        "look: the voxel, by its index in the level map from 0, and the same point in world mm "
        "(right, anterior, superior). FSLeyes shows both as they stand here; ITK-SNAP counts "
        "voxels from 1. What concerns all levels has no place.",
        _described("Code", CODES),
    ]
    return "\n\n".join(parts) + "\n"


def environment_to_markdown() -> str:
    """Return the page of exit codes and environment variables."""
    from sct_rootlets_task.environment import VARIABLES
    from sct_rootlets_task.errors import EXIT_CODES

    parts = [
        "# Exit codes and environment variables",
        "## Exit codes",
        "The same for `sct_deepseg` and `sct_rootlets`.",
        _described("Code", {str(code): text for code, text in EXIT_CODES.items()}),
        "## Environment variables",
        _described("Variable", VARIABLES),
    ]
    return "\n\n".join(parts) + "\n"


def _described(what: str, entries: Mapping[str, str]) -> str:
    """Return a table of names and what they mean."""
    rows = ([_code(name), escape(text)] for name, text in entries.items())
    return table([what, "Meaning"], rows)
