"""The grammar of ``sct_deepseg``: the form of SCT 7 and the one of SCT 6.

Each option is one row of :data:`OPTIONS`, which says in which forms it exists. Parsers, help, and
the error for an option of the other form are made from these rows and from the task registry.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from sct_rootlets_task.cli.arguments import (
    OVERWRITE,
    VERBOSITY,
    CommandParser,
    path_argument,
    whole_number,
)
from sct_rootlets_task.environment import CORES
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.runtime import MOST_THREADS
from sct_rootlets_task.tasks import Task

MODERN, LEGACY = "modern", "legacy"
BOTH = (MODERN, LEGACY)
_LOOKS_LIKE_OPTION = re.compile(r"--?[A-Za-z]")
_FORM = {
    MODERN: "the form 'sct_deepseg TASK …' (SCT 7)",
    LEGACY: "the form 'sct_deepseg -task TASK …' (SCT 6)",
}
NOTHING_ASKED = {
    MODERN: (
        "You must specify either a task name + '-install', a task name + an image ('-i'), or "
        "'-task-details'."
    ),
    LEGACY: "You must specify either '-list-tasks', '-install-task', or both '-i' + '-task'.",
}


@dataclass(frozen=True)
class Option:
    """One option of the command line.

    Parameters
    ----------
    names : tuple of str
        The option and its aliases.
    group : str
        Heading in the help.
    forms : tuple of str
        Forms of the command line that have it.
    arguments : mapping
        Keyword arguments of ``argparse``'s ``add_argument``.
    """

    names: tuple[str, ...]
    group: str
    forms: tuple[str, ...]
    arguments: Mapping[str, Any]


def _option(names: str, group: str, *, forms: tuple[str, ...] = BOTH, **arguments: Any) -> Option:
    return Option(tuple(names.split()), group, forms, arguments)


_IO, _INSTALL, _PARAMETERS = "INPUT/OUTPUT", "MODEL", "PARAMETERS"
_QC, _MISC = "QUALITY CONTROL", "MISC"
_SWITCH: dict[str, Any] = {"type": int, "choices": (0, 1), "default": 0}
_PATH: dict[str, Any] = {"type": path_argument, "metavar": "PATH"}
_FOLDER: dict[str, Any] = {"type": path_argument, "metavar": "FOLDER"}
_FILE: dict[str, Any] = {"type": path_argument, "metavar": "FILE"}

OPTIONS: tuple[Option, ...] = (
    _option(
        "-i",
        _IO,
        nargs="+",
        **_FILE,
        help="Image(s) to segment: 3-D, .nii or .nii.gz, any orientation. With several, the model "
        "is loaded only once.",
    ),
    _option(
        "-o",
        _IO,
        **_PATH,
        help="Output file. It is a folder if several images are given, if it exists as one, or if "
        "it ends in '/'. Default: beside each image, its name plus the "
        "task's ending, such as _rootlets.",
    ),
    _option(
        "-c",
        _IO,
        forms=(LEGACY,),
        nargs="+",
        metavar="CONTRAST",
        help="Contrast of the image. It is checked and changes nothing: a model takes all its "
        "contrasts.",
    ),
    _option("-task", _IO, forms=(LEGACY,), metavar="TASK", help="Task to run."),
    _option("-overwrite", _IO, **OVERWRITE),
    _option(
        "-skip-existing",
        _IO,
        **_SWITCH,
        help="1: leave out images whose result is there, whatever options it was made with. To "
        "these nothing is added: no entry in the QC report, no picture, no color table. A result "
        "that was edited by hand is kept, and a warning names it. Default: 0.",
    ),
    _option(
        "-lut",
        _IO,
        nargs="+",
        choices=("fsleyes", "itksnap", "slicer"),
        metavar="{fsleyes,itksnap,slicer}",
        help="Also write a color table of the levels for these viewers, beside each output.",
    ),
    _option(
        "-install",
        _INSTALL,
        forms=(MODERN,),
        action="store_true",
        help="Install the task's model. An older one is replaced when the new one is complete.",
    ),
    _option(
        "-install-task -install",
        _INSTALL,
        forms=(LEGACY,),
        nargs="+",
        metavar="TASK",
        help="Install the models of these tasks.",
    ),
    _option(
        "-list-tasks",
        _INSTALL,
        forms=(LEGACY,),
        action="store_true",
        help="List the tasks and stop.",
    ),
    _option(
        "-custom-url",
        _INSTALL,
        nargs="+",
        metavar="URL",
        help="With -install: take the model from here instead. https:// and file:// addresses are "
        "tried in turn. The path of a zip file works without a network.",
    ),
    _option(
        "-model",
        _INSTALL,
        metavar="{TAG,starter,FOLDER,ZIP}",
        help="Model to run: a release such as r20250318, 'starter' (built in, needs no network), a "
        "model folder or a zip file. Default: the task's published release.",
    ),
    _option(
        "-model-dir",
        _INSTALL,
        **_FOLDER,
        help="Folder of the installed models. Default: $SCT_ROOTLETS_MODELS, else the user's data "
        "folder.",
    ),
    _option(
        "-largest",
        _PARAMETERS,
        **_SWITCH,
        help="1: keep at most four bundles of each level, the largest dorsal and ventral one on "
        "each side. Default: 0.",
    ),
    _option(
        "-fill-holes",
        _PARAMETERS,
        **_SWITCH,
        help="1: fill background that is enclosed by one level with that level. Default: 0.",
    ),
    _option(
        "-remove-small",
        _PARAMETERS,
        nargs="+",
        metavar="SIZE",
        help="Remove pieces of a level that are smaller than this. One size for all levels "
        "(1.5mm3, 5vox), or one for each level, uppermost first, with the unit on the last (10 20 "
        "… 10vox).",
    ),
    _option(
        "-raw",
        _PARAMETERS,
        action="store_true",
        help="Write the labels as the network finds them, without the corrections that are made by "
        "default. SCT_ROOTLETS_RAW=1 does the same.",
    ),
    _option("-thr", _PARAMETERS, metavar="FLOAT", help=argparse.SUPPRESS),
    _option(
        "-test-time-aug",
        _PARAMETERS,
        forms=(MODERN,),
        action="store_true",
        help="Average the predictions of mirrored copies of the image. Several times slower.",
    ),
    _option(
        "-device",
        _PARAMETERS,
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="Where the network runs. auto: $SCT_ROOTLETS_DEVICE, else a GPU if torch can use one, "
        "else the CPU.",
    ),
    _option(
        "-engine",
        _PARAMETERS,
        choices=("auto", "openvino", "torch", "nnunet"),
        default="auto",
        help="What runs the network: openvino, torch, or nnunet (unchanged nnU-Net). auto: "
        "$SCT_ROOTLETS_ENGINE, else openvino on a CPU and torch on a GPU.",
    ),
    _option(
        "-precision",
        _PARAMETERS,
        choices=("auto", "f32", "bf16"),
        default="auto",
        help="Arithmetic of the network. bf16 is faster on CPUs that have it. A few voxels at the "
        "edge of rootlets may differ. auto: $SCT_ROOTLETS_PRECISION, else f32.",
    ),
    _option(
        "-tiles",
        _PARAMETERS,
        choices=("auto", "all"),
        help="auto: run the network only near the spinal canal, as the built-in locator finds it. "
        "all: run it everywhere, as nnU-Net does. Default: $SCT_ROOTLETS_TILES, else auto.",
    ),
    _option(
        "-threads",
        _PARAMETERS,
        type=whole_number(1, MOST_THREADS),
        metavar="N",
        help="CPU threads to use. Default: $SCT_ROOTLETS_THREADS, else the smallest of CPU "
        f"affinity, container quota and {', '.join(f'${name}' for name in CORES)}.",
    ),
    _option(
        "-qc",
        _QC,
        **_FOLDER,
        help="Add the result to the quality-control report in this folder.",
    ),
    _option("-qc-dataset", _QC, metavar="STR", help="Name of the dataset in the report."),
    _option("-qc-subject", _QC, metavar="STR", help="Name of the subject in the report."),
    _option(
        "-qc-seg",
        _QC,
        forms=(MODERN,),
        **_FILE,
        help="Mask on the image's grid, such as the cord, to center the report's views on.",
    ),
    _option(
        "-preview",
        _QC,
        type=path_argument,
        metavar="PNG",
        help="Also draw the result over its image: coronal and sagittal views, and a slice of each "
        "level. It is a folder if several images are given.",
    ),
    _option("-qc-plane", _QC, choices=("Axial", "Sagittal"), help=argparse.SUPPRESS),
    _option(
        "-r",
        _MISC,
        **{**_SWITCH, "default": 1},
        help="Accepted for scripts written for SCT. It changes nothing: no temporary files are "
        "left.",
    ),
    _option("-v", _MISC, **VERBOSITY),
    _option("-h --help", _MISC, action="help", help="Show this help and stop."),
)


class Parser(CommandParser):
    """Argument parser that ends like SCT's, with the usage and the error on stderr and code 2.

    Parameters
    ----------
    form : {"modern", "legacy"}, optional
        Form whose options this parser has; None for the top level of the modern one.
    **kwargs
        Arguments of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, *, form: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**{**kwargs, "add_help": False, "allow_abbrev": False})
        self.form = form

    def error(self, message: str) -> NoReturn:
        """Say what is wrong after the usage line and end with exit code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"\n{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; refuse options of the other form and options that are not spelled out.

        argparse alone would take ``-c`` for the beginning of ``-custom-url``.
        """
        for word in args or () if self.form else ():
            name = word.split("=")[0]
            if _LOOKS_LIKE_OPTION.match(name) and name not in self._option_string_actions:
                self.error(_explain_unknown(name, self.form or MODERN))
        return super().parse_known_args(args, namespace)


def _explain_unknown(name: str, form: str) -> str:
    for option in OPTIONS:
        if name in option.names and form not in option.forms:
            return f"{name} belongs to {_FORM[option.forms[0]]}, not to {_FORM[form]}."
    return f"unrecognized arguments: {name}"


def _add_options(parser: argparse.ArgumentParser, form: str) -> None:
    groups: dict[str, Any] = {}
    for option in OPTIONS:
        if form not in option.forms:
            continue
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        groups[option.group].add_argument(*option.names, **option.arguments)


def modern_parser(tasks: Mapping[str, Task] = TASKS) -> Parser:
    """Return the parser of SCT 7's form, ``sct_deepseg TASK …``."""
    parser = Parser(
        prog="sct_deepseg",
        usage="sct_deepseg TASK …",
        description=(
            "Segment an anatomical structure with a deep learning model.\n\n"
            "Examples:\n"
            "  sct_deepseg rootlets -h\n"
            "  sct_deepseg rootlets -install\n"
            "  sct_deepseg rootlets -i sub-01_T2w.nii.gz"
        ),
        epilog=(
            f"{list_tasks(tasks)}\n\nThe form of SCT 6 works too: sct_deepseg -task TASK -i FILE "
            "[-o FILE], sct_deepseg -install-task TASK, sct_deepseg -list-tasks."
        ),
    )
    group = parser.add_argument_group("OPTIONS")
    group.add_argument(
        "-task-details", action="store_true", help="Describe every task and its models, and stop."
    )
    group.add_argument("-h", "--help", action="help", help="Show this help and stop.")
    commands = parser.add_subparsers(
        metavar="TASK",
        dest="task",
        parser_class=Parser,
        help="Task to run; 'sct_deepseg TASK -h' shows its options.",
    )
    for task in tasks.values():
        command = commands.add_parser(
            task.name,
            prog=f"sct_deepseg {task.name}",
            description=_paragraphs(task),
            form=MODERN,
        )
        _add_options(command, MODERN)
    return parser


def legacy_parser(tasks: Mapping[str, Task] = TASKS) -> Parser:
    """Return the parser of SCT 6's form, ``sct_deepseg -task TASK …``."""
    parser = Parser(
        prog="sct_deepseg",
        form=LEGACY,
        usage=(
            "sct_deepseg -task TASK -i FILE [FILE …] [-o PATH] [options]\n"
            "       sct_deepseg -install-task TASK\n"
            "       sct_deepseg -list-tasks"
        ),
        epilog=list_tasks(tasks),
    )
    _add_options(parser, LEGACY)
    return parser


def list_tasks(tasks: Mapping[str, Task]) -> str:
    """Return the tasks by group, a line each."""
    lines = []
    for group in dict.fromkeys(task.group for task in tasks.values()):
        lines.append(f"{group}:")
        members = [task for task in tasks.values() if task.group == group]
        width = max(len(task.name) for task in members)
        lines += [f"  {task.name:<{width}}  {task.description}" for task in members]
    return "\n".join(lines)


def task_details(tasks: Mapping[str, Task]) -> str:
    """Return everything the registry says about each task and its models."""
    blocks = []
    for task in tasks.values():
        releases = "\n".join(
            _wrap(f"{r.tag}{' (default)' if r.tag == task.default else ''}: {r.description}", 4)
            for r in task.releases
        )
        replaced = f"\n  Replaced by: {task.legacy_of}" if task.legacy_of else ""
        citation = _wrap(task.release().citation, 4)
        blocks.append(
            f"{task.name}: {task.description}\n\n{_wrap(task.long_description, 2)}\n\n"
            f"  Levels: {task.level_names}\n  Contrasts: {', '.join(task.contrasts)}{replaced}\n"
            f"  Models:\n{releases}\n  Reference:\n{citation}\n  Project: {task.url}"
        )
    return "\n\n".join(blocks)


def _paragraphs(task: Task) -> str:
    models = "\n".join(_wrap(f"{r.tag}: {r.description}", 2) for r in task.releases)
    return (
        f"{task.description}\n\n{_wrap(task.long_description)}\n\n"
        f"Contrasts: {', '.join(task.contrasts)}. Levels: {task.level_names}.\n"
        f"Models (default {task.default}):\n{models}\n\n"
        f"Reference:\n{_wrap(task.release().citation, 2)}\nProject: {task.url}"
    )


def _wrap(text: str, indent: int = 0) -> str:
    return textwrap.indent(textwrap.fill(text, 88 - indent), " " * indent)
