"""What came of an item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DONE, UNCHANGED, FAILED, SET_ASIDE = "done", "unchanged", "failed", "set aside"
"""Worked on; nothing had to be done; an error; its worker died too often."""


@dataclass(frozen=True)
class Outcome:
    """What came of an item.

    Parameters
    ----------
    name : str
        Name of the item.
    status : {"done", "unchanged", "failed", "set aside"}
        What came of it.
    kind : str
        Name of the error's class, such as ``ImageError``; empty without an error.
    error : str
        The error in words.
    seconds : float
        Wall time.
    details : mapping
        For the log: stages that were run and their seconds, warnings, process, host.
    """

    name: str
    status: str
    kind: str = ""
    error: str = ""
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)
