"""Every error the package raises on purpose.

Each class derives from :class:`RootletsError` and from the builtin a caller would expect, so that
both ``except RootletsError`` and ``except ValueError`` work. A message says what was expected, what
was found and what to do next, in two sentences at most.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence

_SHORT = re.compile(
    r"bad_alloc|out of memory|(not enough|insufficient) memory|alloc\w* [^.]{0,40}memory"
    r"|memory allocation|failed to allocate|cannot allocate|can't allocate|failed to map segment"
    r"|can't start new thread|resource temporarily unavailable",
    re.IGNORECASE,
)
DONE, FAILED, WRONG, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

EXIT_CODES: Mapping[int, str] = {
    DONE: (
        "All went well. An image without rootlets is no failure: its sidecar says so under "
        "Warnings."
    ),
    FAILED: (
        "A run failed, or one of several images did; the others are done, and the summary names "
        "those that failed. Also: check -strict found a warning, or models verify a changed file "
        "or a model that cannot be run."
    ),
    WRONG: "The command was put together wrongly; nothing was run.",
    INTERRUPTED: "Stopped from the keyboard (Ctrl-C).",
    TERMINATED: "Stopped by the system, by a cluster for example (SIGTERM).",
}
"""What the commands end with, for the documentation."""


class RootletsError(Exception):
    """Base class of all errors of the package; `exit_code` is what the command line ends with."""

    exit_code = FAILED


class UsageError(RootletsError, ValueError):
    """The command or call was put together wrongly; nothing was run."""

    exit_code = WRONG


class InputTypeError(UsageError, TypeError):
    """An argument is of a kind that cannot be used, such as an array in the place of an image."""


class ImageError(RootletsError, ValueError):
    """An input image cannot be segmented: wrong dimensions, no signal, not NIfTI, and the like."""


class DatasetError(RootletsError, ValueError):
    """A data set is not valid BIDS."""


class OutputError(RootletsError, OSError):
    """A result could not be written."""


class NotShownError(OutputError):
    """A level map is complete, but its picture or QC entry could not be made; see the cause."""

    def __init__(self, output: object) -> None:
        super().__init__(f"The level map {output} is complete; what shows it is not.")


class EngineError(RootletsError, RuntimeError):
    """What runs the network does not work on this machine."""


class OutOfMemoryError(RootletsError, MemoryError):
    """The memory does not suffice."""

    def __init__(self, text: str = "") -> None:
        super().__init__(
            text
            or "There is not enough memory for this. Close other programs, use -threads 1, or give "
            "the job more memory."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is short: libraries have many words for it."""
    if isinstance(error, MemoryError | RootletsError):
        return not isinstance(error, RootletsError)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    named = isinstance(error, RuntimeError | ImportError | SystemError | OSError)
    return named and bool(_SHORT.search(str(error)))


class TaskDefinitionError(RootletsError, ValueError):
    """An entry of the task registry is wrong."""


class LevelSourceError(RootletsError, ValueError):
    """A model's classes cannot be turned into spinal levels."""


class ModelError(RootletsError, ValueError):
    """A model folder is incomplete, damaged or of a kind that cannot be run."""


class ModelNotInstalledError(ModelError, FileNotFoundError):
    """The requested model is not on this machine."""


class ClosedModelError(ModelError, PermissionError):
    """A model, or the folder of the models, is there and may not be read by this user."""


class InstallError(RootletsError, OSError):
    """A model could not be installed; whatever was installed before is untouched."""


class DownloadError(InstallError):
    """No mirror delivered the archive; `reasons` has a line for each."""

    def __init__(self, text: str, reasons: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.reasons = tuple(reasons)


class ArchiveError(InstallError):
    """An archive is damaged, unsafe to unpack, or holds no nnU-Net model."""


class MissingDependencyError(RootletsError, ImportError):
    """An optional package is needed for what was asked."""
