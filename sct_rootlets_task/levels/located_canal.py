"""The spinal canal as the locator network sees it, put in order from head to tail.

The locator gives each voxel of the canal a class: a spinal level, or a place above or below them.
Here the voxels become one canal with one interval along its centerline for each class.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.level_names import level_from_class_name
from sct_rootlets_task.levels.canal import LevelIntervals, fit_level_intervals
from sct_rootlets_task.rootlets.centerline import Centerline
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume

ABOVE, BELOW = "above", "below"
"""Classes of a locator for the canal above the first level and below the last."""
CANAL_MM = 25.0
"""No part of the spinal canal is farther from its centerline."""
APART_MM = 25.0
"""Two pieces of one canal, found with a gap, are not farther apart."""
SURE_MM = 120.0
"""Length of canal from which its levels are found surely enough to warn of nothing."""
LEAST_AREA_MM2 = 60.0
"""Mean cross-section below which what was found is no canal; the dural sac has some 200 mm²."""
_SPECK_MM3 = 100.0

COLUMNS: Mapping[str, str] = {
    "level": "Name of the level.",
    "start_mm": "Its caudal end: arc length in mm from the cranial end of the located canal.",
    "end_mm": "Its cranial end, likewise.",
    "confidence": "Share of the level's voxels, 0 to 1, in which the network saw this very level.",
}
"""Columns of the table of located levels."""

LINE_COLUMNS: Mapping[str, str] = {
    "x_mm": "Right in world mm (RAS+).",
    "y_mm": "Forwards in world mm.",
    "z_mm": "Upwards in world mm.",
    "arc_mm": "Arc length in mm from the cranial end of the located canal.",
    "level": "Name of the level there; empty above the first and below the last one.",
}
"""Columns of the table of the centerline, one row a mm."""


@dataclass(frozen=True)
class LocatedLevel:
    """A level of the canal.

    Parameters
    ----------
    level : int
        Number of the level.
    start, end : float
        Arc lengths in mm along the centerline, from the cranial end of the located canal.
    confidence : float
        Share of its voxels, 0 to 1, in which the network saw this very level.
    """

    level: int
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, eq=False)
class LocatedLevels:
    """The spinal levels of the canal.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel of the canal; 0 outside of it, above the first and below the last level.
    levels : tuple of LocatedLevel
        From head to tail.
    line : Centerline or None
        Centerline of the canal; None if none was found.
    warnings : tuple of str
        Why the levels may be wrong.
    """

    labels: np.ndarray
    levels: tuple[LocatedLevel, ...] = ()
    line: Centerline | None = None
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class Canal:
    """The canal, and where along it each class begins and ends.

    Parameters
    ----------
    classes : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.
    names : mapping of str to int
        Names of the classes: ``labels`` of the locator's ``dataset.json``.
    intervals : LevelIntervals or None
        The classes along the centerline, each by its rank from head to tail; None if no canal was
        found.
    """

    classes: np.ndarray
    affine: np.ndarray
    names: Mapping[str, int]
    intervals: LevelIntervals | None

    @property
    def labels(self) -> np.ndarray:
        """Level of each voxel (uint8, shape (i, j, k)), 0 where there is none."""
        return _level_table(self.names)[self.classes]

    @property
    def ranked_levels(self) -> np.ndarray:
        """Level of each rank (uint8, shape (classes,)): 0 for what is above or below the levels."""
        return _level_table(self.names)[class_order(self.names)]

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why levels taken from it may be wrong."""
        length = self.intervals.length_mm if self.intervals else SURE_MM
        if length >= SURE_MM:
            return ()
        return (
            f"only {length:.0f} mm of the spinal canal are in view; from less than {SURE_MM:.0f} "
            "mm, levels may be told one too high or too low. Compare them with the discs: "
            "'sct_rootlets check -i SEG -discs DISCS'.",
        )

    def levels_in_view(self, expected: Collection[int], least_mm3: float) -> list[int]:
        """Return those of some levels of which so many mm³ of the canal, or more, were found."""
        volumes = np.bincount(self.labels.ravel(), minlength=256) * voxel_volume(self.affine)
        return [level for level in expected if volumes[level] >= least_mm3]


def canal_levels(names: Mapping[str, int]) -> dict[int, int]:
    """Return the level of each class of a locator by its index; 0 for ``above`` and ``below``."""
    return {
        index: 0 if name in (ABOVE, BELOW) else level_from_class_name(name)
        for name, index in names.items()
        if index != 0
    }


def class_order(names: Mapping[str, int]) -> list[int]:
    """Return the classes of a locator from head to tail: above, the levels, below."""
    levels = canal_levels(names)
    inner = sorted((index for index, level in levels.items() if level), key=levels.__getitem__)
    outer = [[index for name, index in names.items() if name == end] for end in (ABOVE, BELOW)]
    return [*outer[0], *inner, *outer[1]]


def _level_table(names: Mapping[str, int]) -> np.ndarray:
    """Return the level of each class as a table (uint8, shape (256,))."""
    table = np.zeros(256, dtype=np.uint8)
    for index, level in canal_levels(names).items():
        table[index] = level
    return table


def fit_canal(found: np.ndarray, affine: np.ndarray, names: Mapping[str, int]) -> Canal:
    """Return the canal with its classes in order from head to tail.

    Single voxels that are off take the class of their part of the canal. What is not part of
    :func:`one_canal`, or far from its line, is left out.

    Parameters
    ----------
    found : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.
    names : mapping of str to int
        Names of the locator's classes.
    """
    found = one_canal(found, affine)
    intervals = fit_intervals(found, affine, names)
    classes = np.zeros_like(found)
    if intervals is not None:
        voxels = voxels_of(found)
        where = intervals.line.project(to_world(voxels, affine))
        inside = np.linalg.norm(where[:, 1:], axis=1) <= CANAL_MM
        order = np.array(class_order(names))
        classes[tuple(voxels[inside].T)] = order[intervals.rank_at(where[inside, 0])]
    return Canal(classes, affine, names, intervals)


def fit_intervals(
    found: np.ndarray, affine: np.ndarray, names: Mapping[str, int]
) -> LevelIntervals | None:
    """Return where along the canal each class begins and ends, None where there is no canal.

    Parameters are those of :func:`fit_canal`.
    """
    if np.count_nonzero(found) < 2:
        return None
    order = class_order(names)
    ranks = np.full(256, -1, dtype=np.int16)
    ranks[order] = np.arange(len(order))
    return fit_level_intervals(ranks[found], affine)


def one_canal(found: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the canal without what cannot be part of it.

    Kept is the largest connected piece, and others that continue it up or down: not beside a piece
    that was kept, and within :data:`APART_MM` of one. Nothing is kept if the largest piece is
    thinner than a canal is.

    Parameters
    ----------
    found : ndarray of uint8, shape (i, j, k)
        Class of the locator at each voxel; 0 is outside the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm.

    Returns
    -------
    ndarray of uint8, shape (i, j, k)
    """
    from scipy.spatial import cKDTree

    result = np.zeros_like(found)
    inside = voxels_of(found)
    own = connected(inside)
    volumes = np.bincount(own) * voxel_volume(affine)
    step = float(np.abs(affine[2, :3]).max())
    kept: list[np.ndarray] = []
    for number in np.argsort(-volumes):
        voxels = inside[own == number]
        points = to_world(voxels, affine)
        height = np.ptp(points[:, 2]) + step
        if not kept and volumes[number] / height < LEAST_AREA_MM2:
            break
        if kept and (volumes[number] < _SPECK_MM3 or _is_beside(points, kept)):
            continue
        if kept and cKDTree(np.concatenate(kept)).query(points)[0].min() > APART_MM:
            continue
        kept.append(points)
        result[tuple(voxels.T)] = found[tuple(voxels.T)]
    return result


def _is_beside(points: np.ndarray, kept: list[np.ndarray]) -> bool:
    """Return whether half of a piece or more is at the height of another one."""
    heights = points[:, 2]
    spans = [(other[:, 2].min(), other[:, 2].max()) for other in kept]
    return any(np.mean((heights >= low) & (heights <= high)) >= 0.5 for low, high in spans)


def located_levels(canal: Canal) -> LocatedLevels:
    """Return the levels of a canal, as :func:`~sct_rootlets_task.api.locate` gives them."""
    if canal.intervals is None:
        return LocatedLevels(canal.labels)
    levels = canal.ranked_levels
    found = tuple(
        LocatedLevel(int(levels[one.rank]), one.start, one.end, one.agreement)
        for one in canal.intervals.spans
        if levels[one.rank]
    )
    return LocatedLevels(canal.labels, found, canal.intervals.line, canal.doubts if found else ())
