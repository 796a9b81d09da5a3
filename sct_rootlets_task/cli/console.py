"""Where both command lines begin and end: streams that never fail, a sentence for each error.

This module imports nothing heavy. A command that is stopped while it still loads ends in order too.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import (
    FAILED,
    INTERRUPTED,
    TERMINATED,
    OutOfMemoryError,
    OutputError,
    RootletsError,
    is_out_of_memory,
)
from sct_rootlets_task.io.untrusted import printable

_LONGEST = 2_000
_VERBOSITY = re.compile(r"-v(=?[0-9 ]+)?")


def sct_deepseg() -> int:
    """Run the command ``sct_deepseg``; returns its exit code."""
    return start("sct_deepseg", "sct_rootlets_task.cli.sct_deepseg")


def sct_rootlets() -> int:
    """Run the command ``sct_rootlets``; returns its exit code."""
    return start("sct_rootlets", "sct_rootlets_task.cli.sct_rootlets")


def start(program: str, module: str) -> int:
    """Import the module of a command and run it.

    Parameters
    ----------
    program : str
        Name of the command, for messages.
    module : str
        Module whose ``main()`` is the command.

    Returns
    -------
    int
        Exit code.
    """

    def body() -> int:
        from importlib import import_module

        return int(import_module(module).main())

    with forgiving_streams():
        return run_command(program, sys.argv[1:], body)


def run_command(program: str, arguments: Sequence[str], body: Callable[[], int]) -> int:
    """Run a command; turn whatever ends it into an exit code and, for an error, one sentence.

    Parameters
    ----------
    program : str
        Name of the command.
    arguments : sequence of str
        Its arguments, for messages.
    body : callable
        Does the work and returns the exit code.

    Returns
    -------
    int
        What `body` returned; else 1 or 2 after an error, 130 after Ctrl-C.
    """
    try:
        return body()
    except SystemExit as stop:  # argparse ends this way, for -h as for errors
        return _code_of(stop)
    except KeyboardInterrupt:
        show(f"{program}: interrupted")
        return INTERRUPTED
    except Exception as error:
        if _was_interrupted(error):
            show(f"{program}: interrupted")
            return INTERRUPTED
        if _wants_traceback(arguments) and not is_foreseen(error):
            import traceback

            show(traceback.format_exc())
        show(f"{program}: error: {explain(error, shlex.join([program, *arguments]))}")
        return error.exit_code if isinstance(error, RootletsError) else FAILED


def _was_interrupted(error: BaseException | None) -> bool:
    """Say whether Ctrl-C is behind an error: some libraries turn it into one of their own."""
    if error is None:
        return False
    if isinstance(error, KeyboardInterrupt):
        return True
    return _was_interrupted(error.__cause__ or error.__context__)


def explain(error: Exception, doing: str) -> str:
    """Return what to tell a user about an error.

    Parameters
    ----------
    error : Exception
        The text of the package's own errors is returned, one of the system's becomes a sentence.
        Any other is a fault of the package: the text says how to report it.
    doing : str
        What was being done, for a fault.
    """
    if isinstance(error, RootletsError):
        return str(error)
    if is_out_of_memory(error):
        return str(OutOfMemoryError())
    if isinstance(error, OSError) and is_foreseen(error):
        return _of_the_system(error)
    kind = type(error).__name__
    return (
        f"{kind}: {error} (while running: {doing}). This is a fault of sct_rootlets_task "
        f"{VERSION}: please report it with what the same command prints with -v 2."
    )


def is_foreseen(error: Exception) -> bool:
    """Say whether an error is one of the package's own or the system's, and no fault."""
    of_the_system = isinstance(error, OSError) and bool(error.strerror)
    return isinstance(error, RootletsError) or is_out_of_memory(error) or of_the_system


def _of_the_system(error: OSError) -> str:
    """Return an error of the system as a sentence, with what to do."""
    names = " → ".join(str(name) for name in (error.filename, error.filename2) if name)
    if error.errno == errno.ENOENT and not names:
        return "The working folder is not there any more. Change to another folder."
    ways = {
        errno.ENOENT: "Check the path",
        errno.ENAMETOOLONG: "Choose a shorter name",
        errno.ENOSPC: "Free space on the disk",
        errno.EACCES: "Check the permissions",
    }
    way = ways.get(error.errno or 0, "Check the disk, and try again")
    return f"{error.strerror}{f': {names}' if names else ''}. {way}."


def show(text: str) -> None:
    """Print a line on stderr, if that is possible."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(harmless(text), file=sys.stderr)


def harmless(text: str) -> str:
    r"""Return a message without anything that controls a terminal; lines stay apart.

    Examples
    --------
    >>> print(harmless("a\x1b[31mb\nc"))
    a\x1b[31mb
    c
    """
    return "\n".join(printable(line, _LONGEST) for line in text.split("\n"))


def flush_result() -> None:
    """Make sure that printed results have arrived.

    Raises
    ------
    OutputError
        If they were lost, for example on a full disk. A reader that went away is no error.
    """
    sys.stdout.flush()
    lost = getattr(sys.stdout, "lost", None)
    if lost is not None and lost.errno != errno.EPIPE:
        raise OutputError(
            f"What was printed could not be written ({lost.strerror}). Free space, or send it "
            "elsewhere."
        )


@contextlib.contextmanager
def forgiving_streams() -> Iterator[None]:
    """Give the process a stdout and a stderr that never raise, and let SIGTERM clean up.

    Closed standard streams are opened on the null device. Otherwise a file opened later gets their
    number, and what libraries print lands in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Worker processes need it, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = _ForgivingStream.over(sys.stdout, 1)
    sys.stderr = _ForgivingStream.over(sys.stderr, 2)
    with contextlib.suppress(ValueError, OSError):  # only the main thread may
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


class _ForgivingStream(io.TextIOWrapper):
    """Text stream that notes a failure instead of raising it, and drops what follows."""

    lost: OSError | None = None

    @classmethod
    def over(cls, stream: TextIO | None, number: int) -> _ForgivingStream:
        """Return a stream in the place of another one, or of a descriptor if there is none."""
        if not isinstance(stream, io.TextIOWrapper):
            raw = open(number, "wb", closefd=False)  # noqa: SIM115 – the stream owns it
            return cls(raw, encoding="utf-8", errors="backslashreplace")
        encoding, by_line = stream.encoding, stream.line_buffering
        unbuffered = stream.write_through  # PYTHONUNBUFFERED
        return cls(
            stream.detach(),
            encoding=encoding,
            errors="backslashreplace",
            line_buffering=by_line or number == 2,
            write_through=unbuffered,
        )

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Flush what is buffered, or drop it."""
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send what is still buffered, and all that follows, to the null device."""
        self.lost = self.lost or error
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        super().flush()


def _code_of(stop: SystemExit) -> int:
    """Return the exit code of what ``sys.exit`` was given; a text is an error to print."""
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    show(str(stop.code))
    return FAILED


def _wants_traceback(arguments: Sequence[str]) -> bool:
    """Say whether the last ``-v`` is 2, in any spelling that the parsers take."""
    values = [
        after if word == "-v" else word.removeprefix("-v").removeprefix("=")
        for word, after in itertools.pairwise([*arguments, ""])
        if _VERBOSITY.fullmatch(word)
    ]
    return bool(values) and values[-1].strip().lstrip("0") == "2"
