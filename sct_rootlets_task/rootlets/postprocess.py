"""Post-processing of level maps, level by level.

Two kinds of functions share this module. *Hooks* run by default, in the order the task registry
lists them; a hook is a pure function of the signature :data:`Hook`. *Options* run when the user
asks for them (``-fill-holes``, ``-remove-small``). What needs to know of rootlet bundles, further
hooks and the option ``-largest``, is in ``sct_rootlets_task.levels.corrections``. None of them
ever invents a level: a voxel keeps its level, loses it, or (in a hole) takes the level around it.

Components are 26-connected: rootlets are thin and often touch only at a corner.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.rootlets.components import connected, voxels_of

SPECK_MM3 = 1.5
"""Volume below which a component is a speck: between one and two voxels of a 1 mm image."""


class LevelPriors(Protocol):
    """What a hook may ask of a task's anatomical priors."""

    def spacing(self, upper: int, lower: int) -> tuple[float, float]:
        """Return the distance between the midpoints of two levels, and its SD, in mm."""

    def height_range(self, level: int) -> tuple[float, float]:
        """Return the usual heights of a level in mm."""


@dataclass(frozen=True, eq=False)
class HookContext:
    """What a hook may know besides the labels.

    Parameters
    ----------
    affine : ndarray of float, shape (4, 4)
        Voxel index to world (RAS+) coordinates in mm.
    levels : tuple of int
        Levels the task may put out.
    level_weight : float
        How many times as much as those of a network that tells levels voxel by voxel the labels
        count against what is usual.
    priors : LevelPriors, optional
        Where the task's levels usually lie, as far as that is known.
    """

    affine: np.ndarray
    levels: tuple[int, ...]
    level_weight: float = 1.0
    priors: LevelPriors | None = None

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))


Hook = Callable[[np.ndarray, HookContext], np.ndarray]
"""``hook(labels, context) -> labels``: uint8 level maps of one shape; the input is not modified."""


def remove_specks(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Remove isolated specks, which would drag the center of mass of their level.

    A speck is a component of labeled voxels, of whatever levels, smaller than
    :data:`SPECK_MM3`. Touching levels count as one component, so a thin level between two others
    is safe.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Grid of the level map.

    Returns
    -------
    ndarray of uint8, same shape
    """
    voxels = voxels_of(labels)
    return _without(labels, voxels, _sizes(voxels) * context.voxel_mm3 < SPECK_MM3)


def fill_holes(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Fill the background enclosed by one level with that level.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Not used; part of the common signature.

    Returns
    -------
    ndarray of uint8, same shape
        No labeled voxel is changed.
    """
    from scipy.ndimage import binary_fill_holes

    filled = labels.copy()
    for level in np.unique(labels[labels != 0]):
        filled[binary_fill_holes(labels == level) & (filled == 0)] = level
    return filled


@dataclass(frozen=True)
class MinimalSize:
    """Smallest component to keep.

    Parameters
    ----------
    values : tuple of float
        One size for all levels, or one for each expected level in ascending order.
    unit : {"mm3", "vox"}
        Unit of the sizes.
    """

    values: tuple[float, ...]
    unit: str


def parse_minimal_size(words: Sequence[str], levels: Sequence[int]) -> MinimalSize:
    """Read the argument of ``-remove-small``.

    Parameters
    ----------
    words : sequence of str
        ``["5vox"]``, ``["1.5mm3"]``, or one size a level with the unit on the last
        (``["10", "20", …, "10vox"]``).
    levels : sequence of int
        Levels of the task.

    Raises
    ------
    UsageError
        If a word is no size, the units differ or the number of sizes does not fit.

    Examples
    --------
    >>> parse_minimal_size(["1.5mm3"], range(20, 28))
    MinimalSize(values=(1.5,), unit='mm3')
    """
    values, units = [], set()
    for word in words:
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(mm3|vox)?", word)
        if not match:
            raise UsageError(
                f"-remove-small expects sizes such as '1mm3', '5vox' or '10 20 10vox', found "
                f"{word!r}."
            )
        values.append(float(match[1]))
        units.update({match[2]} - {None})
    if len(units) != 1 or not words[-1].endswith(("mm3", "vox")):
        raise UsageError(
            f"-remove-small expects one unit, mm3 or vox, on the last size, found "
            f"{' '.join(words)!r}."
        )
    if len(values) not in (1, len(levels)):
        raise UsageError(
            f"-remove-small expects one size, or one for each of the {len(levels)} levels, found "
            f"{len(values)}."
        )
    return MinimalSize(tuple(values), units.pop())


def remove_small(labels: np.ndarray, context: HookContext, size: MinimalSize) -> np.ndarray:
    """Remove the components of each level that are smaller than a size.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    context : HookContext
        Grid and levels of the level map.
    size : MinimalSize
        Smallest size to keep; a component of exactly this size is kept.

    Returns
    -------
    ndarray of uint8, same shape
    """
    values = size.values * (len(context.levels) if len(size.values) == 1 else 1)
    unit_size = context.voxel_mm3 if size.unit == "mm3" else 1.0
    kept = labels.copy()
    for level, minimum in zip(context.levels, values, strict=True):
        voxels = voxels_of(labels == level)
        # Voxel volumes from float32 affines: 8 voxels of 0.5 mm must count as 1 mm³.
        kept = _without(kept, voxels, _sizes(voxels) * unit_size < minimum * (1 - 1e-5))
    return kept


def _sizes(voxels: np.ndarray) -> np.ndarray:
    """Return the number of voxels of the component of each voxel (n, 3), shape (n,)."""
    own = connected(voxels)
    return np.bincount(own)[own] if len(own) else own


def _without(labels: np.ndarray, voxels: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Return labels without some of their voxels (n, 3): those that are `lost` (bool, (n,))."""
    kept = labels.copy()
    kept[tuple(voxels[lost].T)] = 0
    return kept
