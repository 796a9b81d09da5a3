"""How far a long step is: a bar on a terminal; elsewhere, in a log file say, a line now and then.

All progress of the package is shown by this module, on stderr. It uses neither colors nor anything
but ASCII, and no more width than the terminal has.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from types import TracebackType
from typing import TextIO

from sct_rootlets_task import environment
from sct_rootlets_task.untrusted import printable

LINE_S = 30.0
"""Seconds between two lines where there is no terminal; what is quicker gets none."""
_REDRAW_S = 0.1
_BAR = 24
_COLUMNS = 80
_LONGEST_NAME = 40


class Progress:
    """Shows how far a step is, from entering the context to leaving it.

    Parameters
    ----------
    what : str
        Name of the step.
    total : float, optional
        How much there is to do; None where nobody knows.
    unit : str
        Unit to show behind the numbers.
    scale : float
        How many make one of the unit.
    shown : bool
        False: nothing is shown.
    """

    def __init__(
        self,
        what: str,
        total: float | None = None,
        *,
        unit: str = "",
        scale: float = 1,
        shown: bool = True,
    ) -> None:
        self.shown = shown and sys.stderr is not None
        self._what = printable(what, _LONGEST_NAME)
        self._unit, self._scale = unit, scale
        self._done, self._total = 0.0, total
        self._stream: TextIO = sys.stderr
        self._bar = self.shown and is_terminal(self._stream)
        self._start = self._last = time.monotonic()
        self._width = 0

    def __enter__(self) -> Progress:
        if self._bar:
            self._draw()
        return self

    def update(self, done: float, total: float | None = None) -> None:
        """Show that so much is done.

        Parameters
        ----------
        done : float
            What is done since the beginning.
        total : float, optional
            How much there is to do, if that changed.
        """
        self._done, self._total = done, self._total if total is None else total
        now = time.monotonic()
        if self.shown and now - self._last >= (_REDRAW_S if self._bar else LINE_S):
            self._last = now
            self._draw()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar or self._width:
            self._draw()
        if self._bar:
            self._write("\n")

    def _draw(self) -> None:
        """Draw the bar over itself, or write a line."""
        if not self._bar:
            text = self._text()
            self._width = len(text)
            self._write(f"{text}\n")
            return
        room = columns_of(self._stream) - 1  # a full line would wrap
        text = self._text(room)[:room]
        self._write(f"\r{text.ljust(min(self._width, room))}")
        self._width = len(text)

    def _text(self, room: int = 0) -> str:
        """Return the line, with a bar where there is room for one."""
        end = self._time()
        if not self._total:
            return f"{self._what}: {self._amount(self._done)}{self._unit_text()}{end}"
        share = min(self._done / self._total, 1.0)
        counts = f"{self._amount(self._done)} of {self._amount(self._total)}{self._unit_text()}"
        filled = "#" * int(share * _BAR)
        plain = f"{self._what}: {share:4.0%} ({counts}){end}"
        barred = f"{self._what}: {share:4.0%} [{filled.ljust(_BAR, '.')}] {counts}{end}"
        return barred if len(barred) <= room else plain

    def _time(self) -> str:
        """Return how long it took, or how long it will."""
        passed = time.monotonic() - self._start
        if self._total and self._done >= self._total:
            return f" in {duration(passed)}"
        left = remaining(passed, self._done, self._total)
        return f", about {left} left" if left else ""

    def _amount(self, value: float) -> str:
        return f"{value / self._scale:.{0 if self._scale == 1 else 1}f}"

    def _unit_text(self) -> str:
        return f" {self._unit}" if self._unit else ""

    def _write(self, text: str) -> None:
        """Write to the stream; one that is closed or full is left alone."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def remaining(passed: float, done: float, total: float | None) -> str:
    """Return about how long the rest takes, empty where nothing tells.

    Parameters
    ----------
    passed : float
        Seconds since the beginning.
    done : float
        What was done in them.
    total : float, optional
        How much there is to do.

    Examples
    --------
    >>> remaining(60, 2, 12)
    '5 min'
    """
    return duration(passed / done * (total - done)) if done and total else ""


def duration(seconds: float) -> str:
    """Return a time in words, to two digits or so.

    Examples
    --------
    >>> duration(7.4), duration(400), duration(9000)
    ('7 s', '7 min', '2.5 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal on which a line can be written over."""
    try:
        return stream.isatty() and environment.read(environment.TERMINAL) != "dumb"
    except ValueError:  # closed
        return False


def columns_of(stream: TextIO) -> int:
    """Return the width of a terminal in characters; of one that does not say, 80."""
    told = environment.read_count(environment.COLUMNS)
    with contextlib.suppress(OSError, ValueError):
        return told or os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    return _COLUMNS
