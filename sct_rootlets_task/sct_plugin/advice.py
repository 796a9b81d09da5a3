"""Advice of messages, changed so that it works inside SCT.

Messages of this package name the options of its own command. SCT's command lacks most of them;
environment variables stand for them. SCT's installer puts neither its ``pip`` nor, sometimes, our
command on the ``PATH``.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys

_VARIABLES = {
    "engine": "SCT_ROOTLETS_ENGINE",
    "device": "SCT_ROOTLETS_DEVICE",
    "precision": "SCT_ROOTLETS_PRECISION",
    "threads": "SCT_ROOTLETS_THREADS",
    "tiles": "SCT_ROOTLETS_TILES",
}
_VALUES = "auto|all|cpu|cuda|mps|openvino|torch|nnunet|f32|bf16|[0-9]+"
_NAMES = "|".join(_VARIABLES)
_OPTION = re.compile(rf"(?<![\w-])-({_NAMES})(?: ({_VALUES})(?!\w))?(?![\w-])")
_TWICE = re.compile(r"(SCT_ROOTLETS_\w+) or \1\b")
_RAW = re.compile(r"(?<![\w-])-raw(?: \(SCT_ROOTLETS_RAW=1\))?(?![\w-])")
_ELSEWHERE = re.compile(
    r"(?:, or name another folder of models)? with -model-dir(?: FOLDER)? or (?:the variable )?"
    "SCT_ROOTLETS_MODELS"
)
_STOCK_NNUNET = "'sct-rootlets-task[torch]'"


def command_line(program: str) -> str:
    """Return how a command of this package is called where ``PATH`` may not lead to it.

    Parameters
    ----------
    program : {"sct_rootlets", "pip"}
        What to run.
    """
    if program == "pip":
        return f"{shlex.quote(sys.executable)} -m pip"
    if shutil.which(program):
        return program
    return f"{shlex.quote(sys.executable)} -m sct_rootlets_task.cli.sct_rootlets"


def as_in_sct(text: str) -> str:
    """Return a message with options and commands that work inside SCT.

    Parameters
    ----------
    text : str
        A message of this package.

    Examples
    --------
    >>> as_in_sct("Use -device cpu or -engine torch.")
    'Use SCT_ROOTLETS_DEVICE=cpu or SCT_ROOTLETS_ENGINE=torch.'
    >>> as_in_sct("Correct -engine or SCT_ROOTLETS_ENGINE.")
    'Correct SCT_ROOTLETS_ENGINE.'
    """
    text = _OPTION.sub(_as_variable, text)
    text = _RAW.sub("SCT_ROOTLETS_RAW=1", _TWICE.sub(r"\1", text))
    # The stock nnU-Net would overwrite the fork that SCT runs on.
    text = _ELSEWHERE.sub("", text).replace(_STOCK_NNUNET, "nnunetv2-neuropoly")
    text = re.sub(r"(?<![\w/.-])pip install", f"{command_line('pip')} install", text)
    return re.sub(r"(?<![\w/.-])sct_rootlets(?= )", command_line("sct_rootlets"), text)


def _as_variable(found: re.Match[str]) -> str:
    value = f"={found[2]}" if found[2] else ""
    return f"{_VARIABLES[found[1]]}{value}"
