"""``sct_rootlets sct``: switch the plugin inside Spinal Cord Toolbox on or off."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sct_rootlets_task.errors import DONE, FAILED

if TYPE_CHECKING:
    from sct_rootlets_task.hosts.sct_seams import Toolbox

NAME = "sct"
HELP = "Run the rootlets tasks inside Spinal Cord Toolbox: switch this on or off, or look at it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    commands = parser.add_subparsers(
        metavar="{enable,disable,status}", dest="command", required=True
    )
    for name, text in (
        ("enable", "Let SCT's own sct_deepseg run our tasks, in this environment."),
        ("disable", "Take that back; SCT is then as it was."),
        (
            "status",
            "Say whether it is on, which SCT there is, and whether that looks as expected. Ends "
            "with 0 when our tasks are active in SCT, else with 1.",
        ),
    ):
        commands.add_parser(name, help=text, description=text, allow_abbrev=False)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the three commands."""
    return {"enable": _enable, "disable": _disable, "status": _status}[arguments.command]()


def _enable() -> int:
    from sct_rootlets_task.hosts.sct_pth import enable

    print(f"Written: {enable()}")
    return _status()


def _disable() -> int:
    from sct_rootlets_task.hosts.sct_pth import disable

    removed = disable()
    for path in removed:
        print(f"Removed: {path}")
    if not removed:
        print("It was not enabled in this environment.")
    return DONE


def _status() -> int:
    from sct_rootlets_task.hosts.sct_pth import enabled_in, works
    from sct_rootlets_task.hosts.sct_seams import check_seams, find_toolbox

    print(f"Environment: {sys.prefix}")
    files = enabled_in()
    print(f"Enabled: {'yes, by ' + ', '.join(map(str, files)) if files else 'no'}")
    toolbox = find_toolbox()
    if toolbox is None:
        print(f"Spinal Cord Toolbox: none in this environment.{_where_else()}")
        return FAILED
    _describe(toolbox)
    problems = check_seams(toolbox.package)
    for problem in problems:
        print(f"Differs from what is expected: {problem}")
    if problems:
        print("Our tasks stay out of this SCT; it runs as it is.")
    else:
        print("SCT looks as expected.")
    is_active = bool(files) and not problems and works()
    print(f"Active inside SCT: {'yes' if is_active else 'no'}")
    return DONE if is_active else FAILED


def _describe(toolbox: Toolbox) -> None:
    from sct_rootlets_task.hosts.sct_seams import TESTED_VERSIONS

    tested = ", ".join(TESTED_VERSIONS)
    known = "" if toolbox.version in TESTED_VERSIONS else f" (tested: {tested})"
    print(f"Spinal Cord Toolbox: {toolbox.version}{known} in {toolbox.package}")
    if toolbox.version in TESTED_VERSIONS:
        print("This version was tested.")


def _where_else() -> str:
    """Return a hint at SCT's own environment, which is where this must be done."""
    from pathlib import Path

    from sct_rootlets_task import environment

    folder = environment.read(environment.SCT_DIR)
    python = Path(folder, "python", "envs", "venv_sct", "bin", "python")
    if not folder or not python.is_file():
        return ""
    return f" SCT's own is that of {python}: install and enable this package there."
