"""Progress on stderr: a bar on a terminal; elsewhere, in a log file say, a line now and then."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from types import TracebackType
from typing import Any

from sct_rootlets_task import environment
from sct_rootlets_task.io.untrusted import printable

LINE_S = 30.0
"""Seconds between two lines where there is no terminal; what is quicker gets none."""
_LONGEST_NAME = 40
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]"
"""tqdm's own has a rate as well, and loses half of it on 40 columns."""


class Progress:
    """Shows how far a step is, from entering the context to leaving it.

    Parameters
    ----------
    what : str
        Name of the step.
    total : float, optional
        How much there is to do; None where nobody knows.
    unit : str
        What is counted; B for bytes, which are shown in thousands or millions.
    shown : bool
        False: nothing is shown.
    """

    def __init__(
        self, what: str, total: float | None = None, *, unit: str = "tile", shown: bool = True
    ) -> None:
        self.shown = shown and sys.stderr is not None
        self._what, self._done, self._total = printable(what, _LONGEST_NAME), 0.0, total
        self._unit: dict[str, Any] = {"unit": unit, "unit_scale": unit == "B"}
        self._start = self._last = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.shown and _is_terminal(sys.stderr):
            from tqdm import tqdm

            self._bar = tqdm(
                desc=self._what,
                total=self._total,
                file=sys.stderr,
                ascii=".#",
                bar_format=_BAR if self._total else None,
                ncols=_columns(),
                nrows=20,  # of a terminal that says 0, as some do, tqdm would draw nothing
                miniters=0,  # with the default, a slow step after quick ones is drawn late
                position=0,  # else, a second bar would move the cursor by escape sequences
                **self._unit,
            )
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
        if self._bar is not None:
            self._bar.total, self._bar.ncols = self._total, _columns()
            self._bar.update(done - self._bar.n)
        elif self.shown and time.monotonic() - self._last >= LINE_S:
            self._write_line()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._last > self._start:
            self._write_line()

    def _write_line(self) -> None:
        from tqdm import tqdm

        self._last = time.monotonic()
        passed = self._last - self._start
        line = tqdm.format_meter(
            self._done, self._total or 0, passed, ncols=0, prefix=self._what, **self._unit
        )
        with contextlib.suppress(OSError, ValueError):  # closed or full
            print(line, file=sys.stderr, flush=True)


def remaining(passed: float, done: float, total: float) -> str:
    """Return about how long the rest takes, empty where nothing tells.

    Parameters
    ----------
    passed : float
        Seconds since the beginning.
    done : float
        What was done in them.
    total : float
        How much there is to do.

    Examples
    --------
    >>> remaining(60, 2, 12)
    '05:00'
    """
    from tqdm import tqdm

    return tqdm.format_interval(passed / done * (total - done)) if done else ""


def _is_terminal(stream: Any) -> bool:
    """Tell whether a stream is a terminal on which a line can be written over."""
    try:
        return stream.isatty() and environment.read(environment.TERMINAL) != "dumb"
    except ValueError:  # closed
        return False


def _columns() -> int:
    """Return how long a line may be; 79 where a terminal does not say."""
    columns = environment.read_count(environment.COLUMNS)
    with contextlib.suppress(OSError, ValueError):
        columns = columns or os.get_terminal_size(sys.stderr.fileno()).columns
    return max(1, (columns or 80) - 1)  # a full line would wrap
