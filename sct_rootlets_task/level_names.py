"""Spinal levels: their numbers, their names and their colors.

A spinal level is one number counted from C1 downwards, the convention of the PAM50 template and of
``sct_deepseg rootlets``: C1–C8 are 1–8, T1–T12 are 9–20, L1–L5 are 21–25 and S1–S5 are 26–30.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from sct_rootlets_task.errors import LevelSourceError

LAST_LEVEL = 30
"""S5."""

_REGIONS = (("C", 8), ("T", 12), ("L", 5), ("S", 5))
_FIRST = {"C": 1, "T": 9, "L": 21, "S": 26}
_NUMBERED_CLASS = re.compile(r"(?:lvl|level)[ _-]?(\d{1,3})", re.IGNORECASE)
_NAMED_CLASS = re.compile(r"([CTLS])(\d{1,3})", re.IGNORECASE)

# Found by a search for colors far apart (CIEDE2000): any eight in a row, neighbors most, and all
# from gray anatomy, as seen with normal vision and with each color deficiency. Black text can be
# read on each. `python -m benchmarks.color_distances` prints the smallest distances.
_CYCLE = (
    (0, 191, 255),
    (255, 168, 98),
    (118, 126, 255),
    (0, 255, 180),
    (158, 140, 0),
    (255, 35, 185),
    (55, 157, 106),
    (254, 239, 0),
    (0, 215, 244),
    (229, 110, 112),
    (135, 126, 200),
    (195, 255, 151),
    (255, 82, 0),
    (255, 130, 206),
    (55, 185, 137),
    (251, 203, 10),
)


def level_name(level: int) -> str:
    """Return the anatomical name of a spinal level.

    Parameters
    ----------
    level : int
        Spinal level, 1 (C1) to 30 (S5).

    Raises
    ------
    LevelSourceError
        If there is no such level.

    Examples
    --------
    >>> [level_name(level) for level in (2, 8, 9)]
    ['C2', 'C8', 'T1']
    """
    if not 1 <= level <= LAST_LEVEL:
        raise LevelSourceError(
            f"A spinal level is a number from 1 (C1) to {LAST_LEVEL} (S5), not {level}."
        )
    region = max((r for r, _ in _REGIONS if _FIRST[r] <= level), key=lambda r: _FIRST[r])
    return f"{region}{level - _FIRST[region] + 1}"


def value_name(level: int) -> str:
    """Return the name of a level, or the number itself when it is no spinal level.

    Examples
    --------
    >>> value_name(9), value_name(77)
    ('T1', 'value 77')
    """
    return level_name(level) if 1 <= level <= LAST_LEVEL else f"value {level}"


def level_from_class_name(name: str) -> int:
    """Return the spinal level that a class of a ``dataset.json`` is named after.

    Parameters
    ----------
    name : str
        ``lvl3``, ``level_3``, ``C3``, ``T1`` and the like; case does not matter.

    Raises
    ------
    LevelSourceError
        If the name tells no level.

    Examples
    --------
    >>> level_from_class_name("lvl3"), level_from_class_name("T1")
    (3, 9)
    """
    numbered = _NUMBERED_CLASS.fullmatch(name.strip())
    if numbered and 1 <= int(numbered[1]) <= LAST_LEVEL:
        return int(numbered[1])
    named = _NAMED_CLASS.fullmatch(name.strip())
    if named:
        region, number = named[1].upper(), int(named[2])
        if 1 <= number <= dict(_REGIONS)[region]:
            return _FIRST[region] + number - 1
    raise LevelSourceError(
        f"Expected a class named after a spinal level ('lvl3', 'C3', 'T1'), found {name!r}. "
        "Use a model of this task, or write a task with a class → level map (docs/add_task.md)."
    )


def name_levels(levels: Collection[int], name: Callable[[int], str] = value_name) -> str:
    """Return levels for a message: a range where they follow each other, else a list.

    Parameters
    ----------
    levels : collection of int
        The levels.
    name : callable
        What to write of a level.

    Examples
    --------
    >>> name_levels([20, 21, 22]), name_levels([20, 21, 22], str), name_levels([3, 77])
    ('T12–L2', '20–22', 'C3, value 77')
    """
    ordered = sorted(levels)
    if len(ordered) > 1 and len(ordered) == ordered[-1] - ordered[0] + 1:
        return f"{name(ordered[0])}–{name(ordered[-1])}"
    return ", ".join(map(name, ordered))


def level_color(level: int) -> tuple[int, int, int]:
    """Return the color of a level as red, green, blue (0–255).

    Levels that are less than sixteen apart have different colors; any eight in a row, colors far
    apart. C2 to T1 have those that are farthest apart.

    Examples
    --------
    >>> level_color(2)
    (0, 191, 255)
    """
    return _CYCLE[(level - 2) % len(_CYCLE)]
