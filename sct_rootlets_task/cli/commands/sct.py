"""``sct_rootlets sct``: switch the plugin inside Spinal Cord Toolbox on or off."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sct_rootlets_task.errors import DONE, FAILED

if TYPE_CHECKING:
    from sct_rootlets_task.sct_plugin.compatibility import Toolbox

NAME = "sct"
HELP = (
    "Run the rootlets tasks inside Spinal Cord Toolbox (SCT): switch this on or off, or check it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    commands = parser.add_subparsers(
        metavar="{enable,disable,status}", dest="command", required=True
    )
    for name, text in (
        (
            "enable",
            "Let SCT's own sct_deepseg, in this environment, run the tasks of this package.",
        ),
        ("disable", "Undo 'sct enable': SCT is then as it was."),
        (
            "status",
            "Show whether our tasks run inside SCT, which SCT there is, and whether it looks as "
            "expected. The exit code is 0 if they run, else 1.",
        ),
    ):
        commands.add_parser(name, help=text, description=text, allow_abbrev=False)


def run(arguments: argparse.Namespace) -> int:
    """Run one of the three commands."""
    return {"enable": _enable, "disable": _disable, "status": _status}[arguments.command]()


def _enable() -> int:
    from sct_rootlets_task.sct_plugin.activation import enable
    from sct_rootlets_task.sct_plugin.compatibility import find_toolbox
    from sct_rootlets_task.sct_plugin.launchers import give_back, put_launcher

    print(f"Written: {enable()}")
    toolbox = find_toolbox()
    if toolbox is not None:
        launcher = put_launcher(toolbox)
        if launcher:
            print(f"Written: {launcher}")
        for script in give_back(toolbox):
            print(f"Given back to SCT: {script}")
    return _status()


def _disable() -> int:
    from sct_rootlets_task.sct_plugin.activation import disable
    from sct_rootlets_task.sct_plugin.compatibility import find_toolbox
    from sct_rootlets_task.sct_plugin.launchers import give_back, remove_launcher

    removed = list(disable())
    if not removed:
        print("It was not enabled in this environment.")
    toolbox = find_toolbox()
    launcher = remove_launcher(toolbox) if toolbox else None
    for path in [*removed, *([launcher] if launcher else [])]:
        print(f"Removed: {path}")
    for script in give_back(toolbox) if toolbox else ():
        print(f"Given back to SCT: {script}")
    return DONE


def _status() -> int:
    from sct_rootlets_task.sct_plugin.activation import enabled_in, is_current, works
    from sct_rootlets_task.sct_plugin.compatibility import check_seams, find_toolbox

    print(f"Environment: {sys.prefix}")
    files = enabled_in()
    current = any(is_current(path) for path in files)
    print(f"Enabled: {_enabled(files, current)}")
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
    is_active = current and not problems and works()
    print(f"Active inside SCT: {'yes' if is_active else 'no'}")
    _describe_commands(toolbox)
    return DONE if is_active else FAILED


def _enabled(files: Sequence[Path], current: bool) -> str:
    names = ", ".join(map(str, files))
    if current:
        return f"yes, by {names}"
    if not files:
        return "no"
    return f"no: {names} is of an earlier installation; '{_command()} sct enable' writes it anew"


def _command() -> str:
    from sct_rootlets_task.sct_plugin.advice import command_line

    return command_line("sct_rootlets")


def _describe(toolbox: Toolbox) -> None:
    from sct_rootlets_task.sct_plugin.compatibility import TESTED_VERSIONS

    tested = ", ".join(TESTED_VERSIONS)
    known = "" if toolbox.version in TESTED_VERSIONS else f" (tested: {tested})"
    print(f"Spinal Cord Toolbox: {toolbox.version}{known} in {toolbox.package}")
    if toolbox.version in TESTED_VERSIONS:
        print("This version was tested.")


def _describe_commands(toolbox: Toolbox) -> None:
    """Say how the other tools are called here, and what SCT's installer does."""
    print(f"Tools around the rootlets: {_command()} --help")
    if Path(sys.prefix).is_relative_to(toolbox.package.parent):
        print(
            "SCT's installer, when it runs again, makes this environment anew without this "
            "package: install and enable it again then."
        )


def _where_else() -> str:
    """Return a hint at SCT's own environment, which is where this must be done."""
    from sct_rootlets_task import environment

    folder = environment.read(environment.SCT_DIR)
    python = Path(folder, "python", "envs", "venv_sct", "bin", "python")
    if not folder or not python.is_file():
        return ""
    return (
        f" SCT's own is another; there, run: {python} -m pip install /path/to/sct_rootlets_task && "
        f"{python} -m sct_rootlets_task.cli.sct_rootlets sct enable"
    )
