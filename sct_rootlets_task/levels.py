"""Spinal levels: their names and numbers, and the step from a network's classes to levels.

A spinal level is one number counted from C1 downwards, the convention of the PAM50 template and of
``sct_deepseg rootlets``: C1–C8 are 1–8, T1–T12 are 9–20, L1–L5 are 21–25 and S1–S5 are 26–30.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import LevelSourceError

_REGIONS = (("C", 8), ("T", 12), ("L", 5), ("S", 5))
_FIRST = {"C": 1, "T": 9, "L": 21, "S": 26}
_LAST_LEVEL = 30
_NUMBERED_CLASS = re.compile(r"(?:lvl|level)[ _-]?(\d{1,3})", re.IGNORECASE)
_NAMED_CLASS = re.compile(r"([CTLS])(\d{1,3})", re.IGNORECASE)


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
    if not 1 <= level <= _LAST_LEVEL:
        raise LevelSourceError(
            f"A spinal level is a number from 1 (C1) to {_LAST_LEVEL} (S5), not {level}."
        )
    region = max((r for r, _ in _REGIONS if _FIRST[r] <= level), key=lambda r: _FIRST[r])
    return f"{region}{level - _FIRST[region] + 1}"


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
    if numbered and 1 <= int(numbered[1]) <= _LAST_LEVEL:
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


def level_range(levels: Iterable[int]) -> str:
    """Return a short name for a run of levels.

    Examples
    --------
    >>> level_range(range(2, 10))
    'C2–T1'
    """
    ordered = sorted(levels)
    first, last = level_name(ordered[0]), level_name(ordered[-1])
    return first if first == last else f"{first}–{last}"


@dataclass(frozen=True)
class ByName:
    """The classes of the model are named after the levels (``lvl2``, ``C2``, ``T1``)."""


@dataclass(frozen=True)
class ByMap:
    """The classes are matched to levels by a table.

    Parameters
    ----------
    pairs : tuple of (int, int)
        Class index in the network's output and the spinal level it stands for.
    """

    pairs: tuple[tuple[int, int], ...]


LOCATOR_GRAIN_MM = 1.5
"""Voxel size of the images that the built-in locator learnt from."""


@dataclass(frozen=True)
class ByLocator:
    """The model knows rootlets but no levels; each bundle takes the level of the canal beside it.

    Parameters
    ----------
    locator : str
        Name of the built-in locator network, or the path of a folder that holds another one.
    grain_mm : float or None
        Voxel size to which images are averaged for the locator, that of the images it learnt from;
        None leaves them as they are.
    continued_mm : float
        How far the image is continued past its first and last slice along the body for the model,
        not for the locator: rootlets at the end of the field of view are found more surely.
    reach_mm : float
        Rootlet voxels farther from the located canal than this are no rootlets.
    min_volume_mm3 : float
        Connected components smaller than this are dropped.
    majority : float
        A component takes one level as a whole when at least this share of its voxels agree;
        otherwise each voxel takes the level nearest to it.
    shift_mm : float
        How far a border may move to lie between two levels' rootlets instead of in the midst of
        them: a little more than a level, by which what is located may be off.
    first_share : float
        Share of what the locator calls the first level that its rootlets may fill, from below,
        where the canal above it is in view: the rest may hold those of C1. By default that of the
        spinal level C2 of the PAM50 template (z 944.5 to 969.5) in the locator's (to 975).
    level_weight : float
        How many times as much as usual it costs the global fit to change a level: levels told from
        the place along the cord are in order.
    """

    locator: str = "locator"
    grain_mm: float | None = LOCATOR_GRAIN_MM
    continued_mm: float = 16.0
    reach_mm: float = 12.0
    min_volume_mm3: float = 4.0
    majority: float = 0.7
    shift_mm: float = 20.0
    first_share: float = 0.82
    level_weight: float = 3.0


LevelSource = ByName | ByMap | ByLocator


def class_levels(
    source: ByName | ByMap, classes: Mapping[str, int], expected: Iterable[int]
) -> dict[int, int]:
    """Return which spinal level each class of a model stands for.

    Parameters
    ----------
    source : ByName or ByMap
        How the model tells its levels.
    classes : mapping of str to int
        ``labels`` of the model's ``dataset.json``; class 0 is the background.
    expected : iterable of int
        Levels the task may put out.

    Returns
    -------
    dict of int to int
        Class index → level. Classes whose level is not expected map to 0 (background), so that no
        value outside the task's levels can ever be written.

    Raises
    ------
    LevelSourceError
        If a class has no level, two classes share one, or none of the levels is expected.
    """
    if isinstance(source, ByMap):
        levels = dict(source.pairs)
        unknown = set(classes.values()) - {0} - set(levels)
        if unknown:
            raise LevelSourceError(
                f"The class → level map covers {sorted(levels)}, but the model also has the "
                f"classes {sorted(unknown)}. Extend the map."
            )
    else:
        levels = {i: level_from_class_name(name) for name, i in classes.items() if i != 0}
    if len(set(levels.values())) < len(levels):
        raise LevelSourceError(f"Expected one class a level, found {levels}. Check dataset.json.")
    allowed = set(expected)
    if not allowed & set(levels.values()):
        raise LevelSourceError(
            f"Expected a model of the levels {level_range(allowed)}, found the classes "
            f"{sorted(classes)}. This model belongs to another task."
        )
    return {i: level if level in allowed else 0 for i, level in levels.items()}


def relabel(labels: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Replace each value of a label array according to a table.

    All values are read before any is written, so ``{2: 3, 3: 2}`` swaps. Values that the table
    does not name become 0.

    Parameters
    ----------
    labels : ndarray of int, any shape
        Label array; not modified.
    mapping : mapping of int to int
        Old value → new value, both 0–255.

    Returns
    -------
    ndarray of uint8, same shape

    Examples
    --------
    >>> relabel(np.array([0, 2, 3, 7]), {2: 3, 3: 2}).tolist()
    [0, 3, 2, 0]
    """
    table = np.zeros(256, dtype=np.uint8)
    for old, new in mapping.items():
        table[old] = new
    table[0] = mapping.get(0, 0)
    return table[labels]


def count_levels(labels: np.ndarray) -> dict[int, int]:
    """Return the number of voxels of each level present in a label array (0 left out)."""
    values, counts = np.unique(labels[labels != 0], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
