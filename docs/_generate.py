"""Pages made from the code: tasks, model card, command line, files, flags, codes, rooms."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sct_rootlets_task.level_names import level_name
from sct_rootlets_task.levels.sources import ByLocator, ByMap, LevelSource
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.tasks import Release, Task
from tools.architecture import ROOMS, imports, modules, room
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
        "bids_app.md": bids_app_to_markdown(),
        "flags.md": flags_to_markdown(),
        "environment.md": environment_to_markdown(),
        "rooms.md": rooms_to_markdown(),
        "rooms.svg": rooms_to_svg(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def rooms_to_svg() -> str:
    """Return a picture of the rooms; an arrow leads from a room to one that it imports from.

    A room stands one row above the highest room that it imports from. An arrow is left out where
    others lead the same way.
    """
    below = _imported_rooms()
    reach: dict[str, set[str]] = {}
    row: dict[str, int] = {}
    for name in ROOMS:  # from the lowest room to the highest
        reach[name] = below[name].union(*(reach[other] for other in below[name]))
        row[name] = 1 + max((row[other] for other in below[name]), default=-1)
    place = {}
    for number in range(max(row.values()) + 1):
        names = [name for name in ROOMS if row[name] == number]
        for position, name in enumerate(names):
            x = 320 + 230 * (position - (len(names) - 1) / 2)
            place[name] = (x, 40 + 64 * (max(row.values()) - number))
    arrows = [
        (place[name], place[other])
        for name, others in below.items()
        for other in others - set().union(*(reach[one] for one in others))
    ]
    height = 80 + 64 * max(row.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 {height}" width="640" '
        'font-family="sans-serif" font-size="15" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#777"/></marker></defs>',
        f'<rect width="640" height="{height}" rx="8" fill="#fff"/>',
    ]
    for (x1, y1), (x2, y2) in sorted(arrows):
        line = f'x1="{x1}" y1="{y1 + 17}" x2="{x2}" y2="{y2 - 18}"'
        parts.append(f'<line {line} stroke="#777" marker-end="url(#tip)"/>')
    for name, (x, y) in place.items():
        box = f'x="{x - 75}" y="{y - 17}" width="150" height="34" rx="6"'
        parts.append(
            f"<g><title>{ROOMS[name]}</title>"
            f'<rect {box} fill="#e8f1fb" stroke="#35618e"/>'
            f'<text x="{x}" y="{y + 5}" fill="#123">{name}</text></g>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _imported_rooms() -> dict[str, set[str]]:
    """Return the other rooms that each room imports from."""
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module, path in modules().items():
        if module:  # the package itself only names what it imports when that is used
            others = {room(other) for other in imports(path) if other}
            found[room(module)] |= others - {room(module)}
    return found


def tasks_to_markdown(tasks: Mapping[str, Task]) -> str:
    """Return the page of all tasks and their models.

    Parameters
    ----------
    tasks : mapping of str to Task
        Registry to describe.
    """
    parts = [
        "# Tasks and models",
        "What each task segments, which models it can run, and where they come from. This page is "
        "made from the registry.",
    ]
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
    told = "Default:" in text
    if action.nargs != 0 and not told and action.default not in (None, argparse.SUPPRESS):
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
        "Every option of every command, as `-h` shows it. This page is made from the parsers.",
        "## sct_deepseg in the form of SCT 7",
        parser_to_markdown(modern_parser(tasks), 3),
        "## sct_deepseg in the form of SCT 6",
        parser_to_markdown(legacy_parser(tasks), 3),
        "## sct_rootlets",
        parser_to_markdown(build_parser(), 3),
    ]
    return "\n\n".join(parts) + "\n"


def files_to_markdown() -> str:
    """Return the page of everything that is written: files, sidecar keys, columns of tables."""
    from sct_rootlets_task.analysis import evaluate, flags, split
    from sct_rootlets_task.analysis.spinal_levels import COLUMNS
    from sct_rootlets_task.cli.many import LEADING
    from sct_rootlets_task.io.outputs import FILES, SIDECAR
    from sct_rootlets_task.levels import located_canal
    from sct_rootlets_task.qc.pages import RATINGS

    parts = [
        "# Files and their contents",
        "What each file, key and column means. [](../outputs.md) says how files are written.",
        "## Files",
        "These names follow from those of the images. A file that you name yourself (`-o`, `-csv` "
        "and the like) stands with its option, see [](command_line.md).",
        _described("File", FILES),
        "## Keys of the sidecar",
        "The JSON file beside a level map. A dot leads into a key's own keys: `Output.Name` is "
        "`Name` inside `Output`. `sct_rootlets check -o` writes only what is under `Plausibility`.",
        _described("Key", SIDECAR),
        "## First columns of tables of many level maps",
        "Tables of several level maps begin with these columns. The others follow, but those that "
        "say the same. A JSON file of the same name says what each means, and its unit.",
        _described("Column", LEADING),
        "## Columns of the table of levels",
        "The CSV file of `sct_rootlets levels -csv`: one row for each spinal level. In every table "
        "and JSON file `start` is the caudal end and `end` the cranial one.",
        "![The three methods, and what the columns measure](../images/methods.png)",
        _described("Column", COLUMNS),
        "## Columns of the table of flags",
        "The table of `sct_rootlets check -csv`, after the first columns: one row for each flag.",
        _described("Column", flags.COLUMNS),
        "## Columns of the table of parts",
        "The table of `sct_rootlets split -csv`, after the first columns: one row for each level, "
        "side and root.",
        _described("Column", split.COLUMNS),
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
        "The CSV file that the QC report saves: a row for each image, or for each of its raters.",
        _described("Column", RATINGS),
    ]
    return "\n\n".join(parts) + "\n"


def bids_app_to_markdown() -> str:
    """Return the page about data sets: which images are taken, names, records, tables."""
    from sct_rootlets_task.registry import ROOTLETS
    from sct_rootlets_task.study import cohort, journal, statistics
    from sct_rootlets_task.study.contrasts import contrasts_of
    from sct_rootlets_task.study.landmarks import FOLDERS, OF_BIDS, OF_LABORATORIES
    from sct_rootlets_task.study.measuring import TABLE

    contrasts = ", ".join(f"`{name}`" for name in contrasts_of(ROOTLETS))
    rows = [
        [
            kind,
            ", ".join(f"`<image>{end}`" for end in OF_LABORATORIES[kind]),
            ", ".join(f"`<entities>_space-orig_{end.format('')}`" for end in OF_BIDS[kind]),
        ]
        for kind in OF_LABORATORIES
    ]
    parts = [
        "# The BIDS App",
        "What `sct_rootlets bids` reads and writes. [](../study.md) shows how to use it, and "
        "[](command_line.md) lists its options.",
        "## Images",
        "Images are looked for in the folders `anat` of the data set, as `.nii` or `.nii.gz`. The "
        f"task `rootlets` takes the contrasts {contrasts}. `INV1` and `INV2` are the inversions "
        "of MP2RAGE (`inv-1_MP2RAGE`, `inv-2_MP2RAGE`); the suffixes `INV1` and `INV2` are taken "
        "too. Phases, real and imaginary parts are left out. So are images in `.bidsignore`.",
        "`--bids-filter-file` takes the form of fMRIPrep: contrast, then entity, then the value, "
        "or a list of values. `null` stands for an entity that must be absent.",
        "`--only` takes a list: `qc_fail.yml` or the ratings that the QC report saved, or "
        "`failures.tsv`. Of ratings, the images rated fail or artifact are taken.",
        "The data set is validated first where the command `bids-validator-deno` is installed.",
        "## Masks and landmarks of others",
        "They are looked for in `derivatives/*/` of the data set, for the same image. The first "
        "name that is there counts. The folders "
        f"{' and '.join(f'`{name}`' for name in FOLDERS)} come before others. The sidecar names "
        "those that were used, under `Sources`.",
        table(["For", "Names of laboratories", "Names of BIDS"], rows),
        "## Names of results",
        "A T2w gives `sub-01_space-orig_seg-rootlets_dseg.nii.gz`. Other contrasts add `desc-`: "
        "`sub-01_space-orig_seg-rootlets_desc-UNIT1_dseg.nii.gz`. Entities such as `ses`, `acq` "
        "and `run` are kept. `--naming neuropoly` gives `<image>_label-rootlets_dseg.nii.gz`, "
        "which is not valid BIDS.",
        "## Records",
        "`<name>_record.json` stands beside each level map. It has the checksums of the image, of "
        "landmarks, model and options, and of what was written. A stage is done again when what "
        "it depends on has changed: `network` (levels before post-processing, kept in the work "
        "folder), `labels` (the level map), `levels` (spinal levels) and `qc`. Size and time of a "
        "file are compared first: a file that has kept both counts as unchanged.",
        "Results, but not records and logs, are the same bytes whoever made them.",
        "## Columns of the table of an image",
        "`<name>_levels.tsv`: one row for each spinal level. `n/a` is not known.",
        _described("Column", TABLE),
        "## Columns of failures.tsv",
        _described("Column", journal.COLUMNS),
        "## Columns of group_levels.tsv",
        "One row for each level of each image; an image without levels has one row.",
        _described("Column", cohort.COLUMNS),
        "## Columns of group_summary.tsv",
        _described("Column", statistics.SUMMARY),
        "## Columns of group_outliers.tsv",
        _described("Column", statistics.OUTLIERS),
        "## The log",
        "Each run writes `logs/<time>_<id>.jsonl`, one JSON object a line. `event` is `start` "
        "(command, version, model), `image` (what came of one, its seconds by stage, why it was "
        "worked on, its process and host) or `end` (counts).",
    ]
    return "\n\n".join(parts) + "\n"


def flags_to_markdown() -> str:
    """Return the page of the codes of the plausibility check."""
    from sct_rootlets_task.analysis.flags import CODES

    parts = [
        "# Flags of the check",
        "What `sct_rootlets check`, the sidecar and the QC report may remark on. "
        "[](../checking.md) explains how they know.",
        "Each flag says what was found, what is expected, the source of the expectation, and where "
        "to look. The place is given twice: as the index of a voxel in the level map, counted from "
        "0, and in world mm (right, anterior, superior). FSLeyes shows both in this way. ITK-SNAP "
        "counts voxels from 1. A flag that concerns all levels has no place.",
        _described("Code", CODES),
    ]
    return "\n\n".join(parts) + "\n"


def environment_to_markdown() -> str:
    """Return the page of exit codes and environment variables."""
    from sct_rootlets_task.environment import VARIABLES
    from sct_rootlets_task.errors import EXIT_CODES

    parts = [
        "# Exit codes and environment variables",
        "What a command ends with, and which variables change what it does.",
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
