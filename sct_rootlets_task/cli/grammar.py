"""The grammar of ``sct_deepseg``: the form of SCT 7 and the one of SCT 6.2–6.5.

Every option is one row of :data:`OPTIONS`, which says in which form it exists; parsers, help and
the error for an option of the other form are made from these rows and from the task registry.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    hidden : bool
        Parsed, but not shown.
    """

    names: tuple[str, ...]
    group: str
    forms: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    hidden: bool = False


def _option(
    names: str, group: str, help_text: str, *, forms: tuple[str, ...] = BOTH, **arguments: Any
) -> Option:
    return Option(tuple(names.split()), group, forms, {"help": help_text, **arguments})


def _switch(names: str, group: str, help_text: str, *, default: int = 0) -> Option:
    return _option(names, group, help_text, type=int, choices=(0, 1), default=default)


_IO, _INSTALL, _PARAMETERS = "INPUT/OUTPUT", "MODEL", "PARAMETERS"
_QC, _MISC = "QUALITY CONTROL", "MISC"

OPTIONS: tuple[Option, ...] = (
    _option(
        "-i",
        _IO,
        "Image(s) to segment, .nii or .nii.gz, 3-D, any orientation. The model is loaded once for "
        "all of them.",
        nargs="+",
        metavar="FILE",
        type=path_argument,
    ),
    _option(
        "-o",
        _IO,
        "Output file; a folder when several images are given, or when it exists as a folder or "
        "ends in '/'. Default: beside each image, its name plus the task's suffix.",
        metavar="PATH",
        type=path_argument,
    ),
    _option(
        "-c",
        _IO,
        "Contrast of the image. The models take any of their contrasts; the value is only checked "
        "against them.",
        forms=(LEGACY,),
        nargs="+",
        metavar="CONTRAST",
    ),
    _option(
        "-task",
        _IO,
        "Task to run.",
        forms=(LEGACY,),
        metavar="TASK",
    ),
    Option(("-overwrite",), _IO, BOTH, OVERWRITE),
    _option(
        "-lut",
        _IO,
        "Also write a color table of the levels for these viewers, beside each output.",
        nargs="+",
        choices=("fsleyes", "itksnap", "slicer"),
        metavar="{fsleyes,itksnap,slicer}",
    ),
    _option(
        "-install",
        _INSTALL,
        "Install the model of the task. A working model stays until its successor is complete.",
        forms=(MODERN,),
        action="store_true",
    ),
    _option(
        "-install-task -install",
        _INSTALL,
        "Install the model(s) of one or more tasks.",
        forms=(LEGACY,),
        nargs="+",
        metavar="TASK",
    ),
    _option(
        "-list-tasks",
        _INSTALL,
        "List the tasks and stop.",
        forms=(LEGACY,),
        action="store_true",
    ),
    _option(
        "-custom-url",
        _INSTALL,
        "With -install: take the model from these mirrors instead; https://, file:// or the path "
        "of a zip file, so that a computer without internet can install too.",
        nargs="+",
        metavar="URL",
    ),
    _option(
        "-model",
        _INSTALL,
        "Model to run: a release tag, 'starter' (built in, works offline), a model folder or a zip "
        "file. Default: the task's published release.",
        metavar="{TAG,starter,FOLDER,ZIP}",
    ),
    _option(
        "-model-dir",
        _INSTALL,
        "Folder in which models are installed and looked for. Default: $SCT_ROOTLETS_MODELS, else "
        "the user's data folder.",
        metavar="FOLDER",
        type=path_argument,
    ),
    _switch(
        "-largest",
        _PARAMETERS,
        "1: of each level keep at most four bundles, the largest dorsal and ventral one on each "
        "side.",
    ),
    _switch(
        "-fill-holes", _PARAMETERS, "1: fill the background enclosed by one level with that level."
    ),
    _option(
        "-remove-small",
        _PARAMETERS,
        "Remove the components of each level smaller than this: one size for all levels (1.5mm3, "
        "5vox), or one a level in ascending order with the unit on the last (10 20 … 10vox).",
        nargs="+",
        metavar="SIZE",
    ),
    _option(
        "-raw",
        _PARAMETERS,
        "Write the network's own labels: levels are assigned, no other default post-processing is "
        "done. The variable SCT_ROOTLETS_RAW=1 asks for it too.",
        action="store_true",
    ),
    Option(("-thr",), _PARAMETERS, BOTH, {"metavar": "FLOAT"}, hidden=True),
    _option(
        "-test-time-aug",
        _PARAMETERS,
        "Average the predictions of mirrored copies of the image; several times slower.",
        forms=(MODERN,),
        action="store_true",
    ),
    _option(
        "-device",
        _PARAMETERS,
        "Where the network runs; auto looks at $SCT_ROOTLETS_DEVICE, then takes a GPU if torch can "
        "use one.",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
    ),
    _option(
        "-engine",
        _PARAMETERS,
        "What runs the network: OpenVINO (the default on a CPU), torch (the default on a GPU), or "
        "stock nnU-Net, the reference. auto also looks at $SCT_ROOTLETS_ENGINE.",
        choices=("auto", "openvino", "torch", "nnunet"),
        default="auto",
    ),
    _option(
        "-precision",
        _PARAMETERS,
        "Arithmetic of the network: f32, or bf16 (faster on CPUs that have it; a few voxels at "
        "the borders of rootlets may differ). auto looks at $SCT_ROOTLETS_PRECISION, else f32.",
        choices=("auto", "f32", "bf16"),
        default="auto",
    ),
    _option(
        "-tiles",
        _PARAMETERS,
        "auto: run the network only where the built-in locator finds the spinal canal of the "
        "task's levels; all: everywhere, as nnU-Net does. Default: $SCT_ROOTLETS_TILES, else auto.",
        choices=("auto", "all"),
    ),
    _option(
        "-threads",
        _PARAMETERS,
        "CPU threads to use. Default: $SCT_ROOTLETS_THREADS, else the smallest of what the job was "
        f"given: CPU affinity, container quota, {', '.join(f'${name}' for name in CORES)}.",
        type=whole_number(1, MOST_THREADS),
        metavar="N",
    ),
    _option(
        "-qc",
        _QC,
        "Folder of the quality-control report to add to.",
        metavar="FOLDER",
        type=path_argument,
    ),
    _option("-qc-dataset", _QC, "Name of the data set, for the report.", metavar="STR"),
    _option("-qc-subject", _QC, "Name of the subject, for the report.", metavar="STR"),
    _option(
        "-qc-seg",
        _QC,
        "Segmentation (for example a dilated cord) that the report's pictures are cropped to.",
        forms=(MODERN,),
        metavar="FILE",
        type=path_argument,
    ),
    _option(
        "-preview",
        _QC,
        "Also draw a picture of the result over its image: coronal and sagittal views and a slice "
        "of each level; a folder when several images are given.",
        metavar="PNG",
        type=path_argument,
    ),
    Option(("-qc-plane",), _QC, BOTH, {"choices": ("Axial", "Sagittal")}, hidden=True),
    _option(
        "-r",
        _MISC,
        "For scripts written for SCT; it changes nothing, since no temporary files are left.",
        type=int,
        choices=(0, 1),
        default=1,
    ),
    Option(("-v",), _MISC, BOTH, VERBOSITY),
    _option("-h --help", _MISC, "Show this help and stop.", action="help"),
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
        import sys

        self.print_usage(sys.stderr)
        self.exit(2, f"\n{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and refuse options that are not spelled out or that only the other form has.

        argparse would take ``-c`` for the beginning of ``-custom-url``.
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
        arguments = dict(option.arguments)
        if option.hidden:
            arguments["help"] = argparse.SUPPRESS
        groups[option.group].add_argument(*option.names, **arguments)


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
