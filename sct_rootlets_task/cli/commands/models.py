"""``sct_rootlets models``: what is installed, where, and whether it is intact."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sct_rootlets_task.cli.arguments import path_argument
from sct_rootlets_task.cli.console import flush_result, show
from sct_rootlets_task.errors import ModelNotInstalledError

if TYPE_CHECKING:
    from sct_rootlets_task.models.resolve import InstalledModel, Listed

NAME = "models"
HELP = "List the models, say where one is, or check that its files are intact."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    commands = parser.add_subparsers(metavar="{list,path,verify}", dest="command", required=True)
    for name, text in (
        ("list", "List every model of every task, and what is installed."),
        ("path", "Print the folder of an installed model."),
        (
            "verify",
            "Check an installed model's files against their recorded checksums, and that it can "
            "be run.",
        ),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument(
            "-model-dir", type=path_argument, metavar="FOLDER", help="Folder of the models."
        )
        if name != "list":
            command.add_argument("-task", default="rootlets", metavar="TASK", help="Task.")
            command.add_argument("-model", metavar="TAG", help="Release; default: the task's.")


def run(arguments: argparse.Namespace) -> int:
    """Run one of the three commands."""
    actions = {"list": _list, "path": _path, "verify": _verify}
    code = actions[arguments.command](arguments)
    flush_result()
    return code


def _list(arguments: argparse.Namespace) -> int:
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import list_models
    from sct_rootlets_task.registry import TASKS

    root = model_root(arguments.model_dir)
    print(f"Folder of the models: {root}\n")
    for row in list_models(TASKS, root):
        default = " (default)" if row.release.tag == row.task.default else ""
        print(f"{row.task.name}  {row.release.tag}{default}: {_state(row)}")
    return 0


def _state(row: Listed) -> str:
    from sct_rootlets_task.io.untrusted import printable

    model = row.model
    if model is None:
        return f"closed. {row.closed}" if row.closed else "not installed"
    if model.builtin:
        return "built in"
    if not model.urls:
        return f"installed, of unknown origin (no source.json): {printable(model.path)}"
    origin = f", custom, from {' '.join(map(printable, model.urls))}" if model.custom else ""
    return f"installed{origin}"


def _path(arguments: argparse.Namespace) -> int:
    print(_installed(arguments).path)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from sct_rootlets_task.io.untrusted import printable
    from sct_rootlets_task.models.resolve import verify_model
    from sct_rootlets_task.registry import TASKS

    model = _installed(arguments)
    if model.builtin:
        print(
            f"Model {model.name} is part of the package; 'pip check' and pip's RECORD vouch for it."
        )
        return 0
    problems = verify_model(TASKS.find(arguments.task), model)
    for problem in problems:
        show(problem)
    if not problems:
        print(f"Model {model.name} is intact: {printable(model.path)}")
    return 1 if problems else 0


def _installed(arguments: argparse.Namespace) -> InstalledModel:
    """Return the model the user means; nothing is installed for it."""
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import find_complete
    from sct_rootlets_task.registry import TASKS

    task = TASKS.find(arguments.task)
    release = task.release(arguments.model)
    root = model_root(arguments.model_dir)
    model = find_complete(task, release, root)
    if model is None:
        raise ModelNotInstalledError(
            f"Model {release.tag} is not installed in {root}. Install it with: "
            f"sct_deepseg {task.name} -install"
        )
    return model
