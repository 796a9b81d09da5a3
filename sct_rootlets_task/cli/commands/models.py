"""``sct_rootlets models``: what is installed, where, and whether it is intact."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sct_rootlets_task.cli.arguments import add_path
from sct_rootlets_task.cli.console import flush_result, show

if TYPE_CHECKING:
    from sct_rootlets_task.api import InstalledRelease

NAME = "models"
HELP = "List the models, show where one is, or check that its files are intact."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    commands = parser.add_subparsers(metavar="{list,path,verify}", dest="command", required=True)
    for name, text in (
        ("list", "List every model of every task, and what is installed."),
        ("path", "Print the folder of an installed model."),
        (
            "verify",
            "Compare an installed model's files with their recorded checksums, and check that it "
            "can be run.",
        ),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_path(
            command,
            "-model-dir",
            "FOLDER",
            "Folder of the installed models. Default: $SCT_ROOTLETS_MODELS, else the user's data "
            "folder.",
        )
        if name != "list":
            command.add_argument(
                "-task", default="rootlets", metavar="TASK", help="Task. Default: rootlets."
            )
            command.add_argument(
                "-model",
                metavar="TAG",
                help="Release, such as r20250318. Default: the one that the task runs.",
            )


def run(arguments: argparse.Namespace) -> int:
    """Run one of the three commands."""
    actions = {"list": _list, "path": _path, "verify": _verify}
    code = actions[arguments.command](arguments)
    flush_result()
    return code


def _list(arguments: argparse.Namespace) -> int:
    from sct_rootlets_task import api
    from sct_rootlets_task.io.paths import model_root

    print(f"Folder of the models: {model_root(arguments.model_dir)}\n")
    for row in api.list_models(arguments.model_dir):
        print(f"{row.task}  {row.model}{' (default)' if row.default else ''}: {row.state}")
    return 0


def _path(arguments: argparse.Namespace) -> int:
    print(_find(arguments).path)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from sct_rootlets_task.io.untrusted import printable

    found = _find(arguments)
    if found.state == "built in":
        print(
            f"Model {found.model} is part of the package; 'pip check' and pip's RECORD vouch for "
            "it."
        )
        return 0
    problems = found.verify()
    for problem in problems:
        show(problem)
    if not problems:
        print(f"Model {found.model} is intact: {printable(found.path)}")
    return 1 if problems else 0


def _find(arguments: argparse.Namespace) -> InstalledRelease:
    from sct_rootlets_task import api

    return api.find_model(arguments.task, arguments.model, model_dir=arguments.model_dir)
