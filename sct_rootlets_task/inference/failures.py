"""Errors of OpenVINO, torch and nnU-Net, turned into one sentence that says what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from sct_rootlets_task.errors import (
    EngineError,
    ModelError,
    OutOfMemoryError,
    RootletsError,
    is_out_of_memory,
)
from sct_rootlets_task.io.untrusted import printable, reason_of

_TRACE = ("Exception from ", "Check '")
_ON_A_GPU = re.compile(r"cuda|cudnn|cublas|\bmps\b|\bmetal\b|\bhip\b|\bgpu\b", re.IGNORECASE)
_OF_THE_MACHINE = re.compile(
    r"not supported on this|isn't supported on|not registered|cannot load library|plugins?\.xml"
    r"|no available devices|\bavx|\bsse4?|unsupported (cpu|instruction)|illegal instruction",
    re.IGNORECASE,
)


@contextlib.contextmanager
def fitting(model: Path | None = None) -> Iterator[None]:
    """Turn whatever goes wrong in building or running a network into one sentence.

    Parameters
    ----------
    model : Path, optional
        The model's folder, for messages; None while none is loaded.

    Raises
    ------
    OutOfMemoryError
        If there is too little memory, which is not the model's fault.
    EngineError
        If the engine does not run on this machine, or its device failed.
    ModelError
        If shapes of the network's parts, its patch or its weights do not go together.
    """
    try:
        yield
    except RootletsError:
        raise
    except (RuntimeError, ValueError, IndexError, MemoryError, AssertionError) as error:
        raise _translated(error, model) from error


def _translated(error: Exception, model: Path | None) -> RootletsError:
    text, reason = str(error), short_reason(error)
    on_a_gpu = _ON_A_GPU.search(text) is not None
    if is_out_of_memory(error):
        advice = "Use -device cpu, or free the GPU's memory." if on_a_gpu else ""
        return OutOfMemoryError(advice and f"There is not enough memory on the GPU. {advice}")
    if on_a_gpu:
        return EngineError(f"The GPU failed ({reason}). Use -device cpu, or another GPU.")
    if _OF_THE_MACHINE.search(text) or model is None:
        return EngineError(
            f"OpenVINO does not run on this computer ({reason}). Install the package openvino "
            "again, or use -engine torch, which needs torch."
        )
    return ModelError(
        f"The network of the model {printable(model)} cannot be built or run ({reason}). Install "
        "the model again, with the plans.json it was trained with."
    )


def broken_logits(model: Path) -> ModelError:
    """Return the error for a network whose logits are infinite, no numbers, or beyond float16."""
    return ModelError(
        f"The logits of the network in {printable(model)} are too large for half precision, or no "
        "numbers: the model is broken. Train it again, or use another one."
    )


def short_reason(error: BaseException) -> str:
    """Return the line of an error that says most: OpenVINO's last one, of others the first.

    Parameters
    ----------
    error : exception
        OpenVINO's begin with the lines of its code that the error went through.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return reason_of(error)
    return printable(lines[-1] if lines[0].startswith(_TRACE) else lines[0]).rstrip(".")
