"""Renumbering levels on request: by a shift, an anchor, a table, the discs or the locator.

A renumbered level that the task does not have is removed, and the log says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import ImageError, LevelSourceError, UsageError
from sct_rootlets_task.io.label_values import relabel
from sct_rootlets_task.level_names import (
    LAST_LEVEL,
    level_from_class_name,
    name_levels,
    value_name,
)
from sct_rootlets_task.levels.anatomical_priors import AnatomicalPriors
from sct_rootlets_task.levels.cord_mask import line_for
from sct_rootlets_task.levels.landmark_checks import check_disc_offset, check_discs
from sct_rootlets_task.levels.landmarks import (
    FEWEST_LEVELS,
    MOST_SHIFT,
    Landmarks,
    disc_coordinates,
    located_level,
    require_levels,
)
from sct_rootlets_task.levels.level_fit import VOTE_COST, LevelFit, fit_levels
from sct_rootlets_task.rootlets.bundles import Bundles, find_bundles
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import (
    require_labels,
    require_same_grid,
    slice_numbers,
    to_world,
)
from sct_rootlets_task.tasks import Task

logger = logging.getLogger(__name__)

_BEYOND_COST = 1.0
_MOST_AGREE, _AGREES_WITHIN = 0.75, 0.6
_ONE_LEVEL = 0.5
_NEEDED = {
    "discs": "where its levels lie between the discs",
    "locator": "the usual heights and spacing of its levels",
}
_DISC_OFFSETS = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)
_OFFSET_STEP = 0.2


def parse_level(text: str) -> int:
    """Read a level as a number or a name.

    Raises
    ------
    UsageError
        If it is neither.

    Examples
    --------
    >>> parse_level("5"), parse_level("C5"), parse_level("T1")
    (5, 5, 9)
    """
    word = text.strip()
    if re.fullmatch(r"\d{1,3}", word) and 0 <= int(word) <= LAST_LEVEL:
        return int(word)
    try:
        return level_from_class_name(word)
    except LevelSourceError as error:
        raise UsageError(f"Expected a level such as 5, C5 or T1, found {text!r}.") from error


def parse_anchor(text: str) -> tuple[int, int]:
    """Read the argument of ``-anchor``: a level and a slice counted from the inferior end.

    Raises
    ------
    UsageError
        If it is not of the form LEVEL:Z.

    Examples
    --------
    >>> parse_anchor("C5:120")
    (5, 120)
    """
    match = re.fullmatch(r"\s*([^:]+):\s*(\d{1,9})\s*", text)
    if not match:
        raise UsageError(f"Expected LEVEL:Z, for example C5:120, found {text!r}.")
    return parse_level(match[1]), int(match[2])


def parse_map(text: str) -> dict[int, int]:
    """Read the argument of ``-map``; 0 removes a level.

    Raises
    ------
    UsageError
        If it is not of the form OLD:NEW,OLD:NEW, or names a level twice.

    Examples
    --------
    >>> parse_map("3:4,C4:C5")
    {3: 4, 4: 5}
    """
    mapping: dict[int, int] = {}
    for pair in text.split(","):
        old, colon, new = pair.partition(":")
        if not colon:
            raise UsageError(f"Expected OLD:NEW,OLD:NEW, for example 3:4,4:5, found {text!r}.")
        if parse_level(old) in mapping:
            raise UsageError(
                f"Expected each old level once, found {old.strip()} twice in {text!r}."
            )
        mapping[parse_level(old)] = parse_level(new)
    return mapping


def map_levels(labels: np.ndarray, mapping: Mapping[int, int], *, task: Task) -> np.ndarray:
    """Renumber levels by a table; what it does not name stays.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    mapping : mapping of int to int
        Old level → new level (0 removes it).
    task : Task
        Task of the map, whose levels the result may hold.

    Returns
    -------
    ndarray of uint8, same shape

    Raises
    ------
    ImageError
        If no level would be left within the levels.

    Examples
    --------
    >>> from sct_rootlets_task.registry import ROOTLETS
    >>> map_levels(np.array([[[0, 3, 4, 5]]]), {3: 4, 4: 3}, task=ROOTLETS).ravel().tolist()
    [0, 4, 3, 5]
    """
    levels = task.levels
    present = [int(value) for value in np.unique(labels) if value]
    table = {value: mapping.get(value, value) for value in present}
    lost = {old: new for old, new in table.items() if new not in levels and old in mapping and new}
    if lost:
        names = ", ".join(f"{value_name(old)} → {value_name(new)}" for old, new in lost.items())
        if all(new == 0 or old in lost for old, new in table.items()):
            raise ImageError(
                f"Expected levels within {name_levels(levels)} after renumbering, found none of "
                f"them: {names}. Give another shift or table."
            )
        logger.warning("Removed, as they are outside %s: %s.", name_levels(levels), names)
    return relabel(labels, {old: 0 if old in lost else new for old, new in table.items()})


def shift_levels(labels: np.ndarray, shift: int, *, task: Task) -> np.ndarray:
    """Add a number to all levels; see :func:`map_levels`.

    Examples
    --------
    >>> from sct_rootlets_task.registry import ROOTLETS
    >>> shift_levels(np.array([[[0, 3, 9]]]), 1, task=ROOTLETS).ravel().tolist()
    [0, 4, 0]
    """
    present = [int(value) for value in np.unique(labels) if value]
    above = [old for old in present if old + shift < 1]
    if above:
        logger.warning(
            "Removed, as they would lie above C1: %s.", ", ".join(map(value_name, above))
        )
    return map_levels(labels, {old: max(old + shift, 0) for old in present}, task=task)


def anchor_levels(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    level: int,
    slice_number: int,
    task: Task,
) -> np.ndarray:
    """Shift all levels so that the one at a slice gets the given number.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    level : int
        The level it ought to be.
    slice_number : int
        Axial slice, counted from the inferior end as in the CSV's ``slice_start``.
    task : Task
        Task of the map, whose levels the result may hold.

    Raises
    ------
    ImageError
        If no level lies in that slice, or several equally do.
    """
    require_labels(labels, least=1)
    voxels = voxels_of(labels)
    slices = slice_numbers(voxels, affine, labels.shape)
    values = labels[tuple(voxels.T)]
    here, counts = np.unique(values[slices == slice_number], return_counts=True)
    if not len(here) or (counts == counts.max()).sum() > 1:
        found = "none" if not len(here) else " and ".join(value_name(int(v)) for v in here)
        extents = ", ".join(
            f"{value_name(int(v))} {slices[values == v].min()}–{slices[values == v].max()}"
            for v in np.unique(values)
        )
        raise ImageError(
            f"Expected one level in slice {slice_number}, found {found}. The slices are: {extents}."
        )
    return shift_levels(labels, level - int(here[counts.argmax()]), task=task)


@dataclass(frozen=True)
class Change:
    """What became of the voxels of one level.

    Parameters
    ----------
    before, after : int
        Level in the old and the new map; after is 0 where voxels were removed.
    voxels : int
        How many.
    """

    before: int
    after: int
    voxels: int

    def __str__(self) -> str:
        fate = f"becomes {value_name(self.after)}" if self.after else "is removed"
        return f"{value_name(self.before)} {fate}"


def changes(before: np.ndarray, after: np.ndarray) -> list[Change]:
    """Return what a renumbering changed, by level before and after.

    Parameters
    ----------
    before, after : ndarray of uint8, shape (i, j, k)
        Old and new level map.

    Examples
    --------
    >>> [str(one) for one in changes(np.array([[[3, 3, 9]]]), np.array([[[4, 4, 0]]]))]
    ['C3 becomes C4', 'T1 is removed']
    """
    changed = (before > 0) & (before != after)
    pairs, counts = np.unique(
        np.stack((before[changed], after[changed])), axis=1, return_counts=True
    )
    return [Change(int(a), int(b), int(n)) for (a, b), n in zip(pairs.T, counts, strict=True)]


def require_priors(task: Task, way: str) -> AnatomicalPriors:
    """Return the priors that a way to find the levels needs.

    Parameters
    ----------
    task : Task
        Task of the map.
    way : {"discs", "locator"}
        What the levels are to be found by.

    Raises
    ------
    UsageError
        If the task does not tell them.
    """
    priors = task.priors
    if priors is None or (way == "discs" and not priors.disc_coordinates):
        raise UsageError(
            f"The task {task.name} does not tell {_NEEDED[way]}, so that no level can be found by "
            "it. Renumber with -shift, -anchor or -map."
        )
    return priors


def levels_from_discs(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    discs: Mapping[int, np.ndarray],
    task: Task,
    cord: np.ndarray | None = None,
    files: Mapping[str, str] | None = None,
) -> np.ndarray:
    """Give each bundle the level that its place between the intervertebral discs speaks for.

    The levels in the segmentation are not used within the reach of the discs. Bundles farther out
    follow by counting: their numbers are changed as most of the others are. All bundles are fitted
    together, with an offset common to the subject, see
    :func:`sct_rootlets_task.levels.level_fit.fit_levels`.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    discs : mapping of int to ndarray of float, shape (3,)
        World points, see :func:`sct_rootlets_task.levels.landmarks.disc_points`.
    task : Task
        Task of the map, whose levels the result may hold.
    cord : ndarray, shape (i, j, k), optional
        Cord mask.
    files : mapping of str to str, optional
        Files of ``discs`` and ``cord``, for messages.

    Raises
    ------
    UsageError
        If the task does not tell where its levels lie between the discs.
    ImageError
        If the discs are out of order, at impossible distances, far from the cord, or beside too
        few levels; or if the cord mask is none or reaches no level.
    """
    priors = require_priors(task, "discs")
    known = Landmarks(cord=cord, discs=discs, files=files or {})
    require_labels(labels, f"the {known.name('labels')}")
    line, doubts = line_for(labels, affine, cord=cord, name=known.name("cord"))
    bundles = find_bundles(labels, affine, line=line)
    ends = (min(b.start for b in bundles.items), max(b.end for b in bundles.items))
    for doubt in check_discs(line, discs, ends=ends, name=known.name("discs")):
        raise ImageError(f"{doubt.text} Correct the {known.name('discs')}, or renumber by a shift.")
    midpoints = np.array([bundle.midpoint for bundle in bundles.items])
    found = disc_coordinates(line, discs, arcs=midpoints)
    _require_discs_beside(bundles, found, priors, known.name("discs"))
    best, offset = _best_disc_fit(bundles, found, task.levels, priors)
    for doubt in (*doubts, *check_disc_offset(offset, step=_OFFSET_STEP)):
        logger.warning(doubt.text)
    return bundles.paint(best.levels)


def _require_discs_beside(
    bundles: Bundles, found: np.ndarray, priors: AnatomicalPriors, name: str
) -> None:
    """Refuse to renumber by a single level, and say which levels the discs do not reach."""
    reached = np.isfinite(found)
    if reached.all():
        return
    own = np.array([priors.disc_coordinate(bundle.level) for bundle in bundles.items])
    agree = reached.any() and (np.abs(found - own)[reached] < _AGREES_WITHIN).all()
    beyond = sorted({bundles.items[n].level for n in np.flatnonzero(~reached)})
    if not agree and (not reached.any() or np.ptp(found[reached]) < _ONE_LEVEL):
        raise ImageError(
            f"Expected discs beside at least {FEWEST_LEVELS} levels of rootlets, found none near "
            f"{name_levels(beyond)} ({name}). Label the discs beside the rootlets too."
        )
    logger.warning(
        "The discs do not reach these rootlets, which are numbered by counting: %s.",
        name_levels(beyond),
    )


def _best_disc_fit(
    bundles: Bundles, found: np.ndarray, levels: Sequence[int], priors: AnatomicalPriors
) -> tuple[LevelFit, float]:
    """Return the fit of all bundles to places between the discs, and the offset of these."""
    around = [levels[0] - 1, *levels, levels[-1] + 1]
    above, *wanted, below = (priors.disc_coordinate(level) for level in around)
    counted = _counted_evidence(bundles, found, levels, priors)
    fits = []
    for offset in _DISC_OFFSETS:
        place = found[:, None] - offset
        inside = ((place - wanted) / priors.disc_own_sd) ** 2 / 2
        outside = ((place - (above, below)) / priors.disc_own_sd) ** 2 / 2
        beyond = outside.min(axis=1) + _BEYOND_COST
        evidence = np.column_stack((inside, beyond))
        evidence = np.where(np.isfinite(evidence), evidence, counted)
        fit = fit_levels(bundles.items, levels, priors=priors, evidence=evidence)
        fits.append((fit.total + (offset / priors.disc_shared_sd) ** 2 / 2, fit, offset))
    _, best, offset = min(fits, key=lambda one: one[0])
    return best, offset


def _counted_evidence(
    bundles: Bundles, found: np.ndarray, levels: Sequence[int], priors: AnatomicalPriors
) -> np.ndarray:
    """Return the cost of each level for bundles beyond the discs, whose numbers follow the others.

    Where the others do not agree on a shift, only order and distance count.
    """
    evidence = np.zeros((len(found), len(levels) + 1))
    own = np.array([bundle.level for bundle in bundles.items])
    reached = np.isfinite(found)
    sizes = np.array([bundle.volume for bundle in bundles.items])[reached]
    apart = {}
    for shift in range(-MOST_SHIFT, MOST_SHIFT + 1):
        wanted = [priors.disc_coordinate(level + shift) for level in own[reached]]
        apart[shift] = np.abs(found[reached] - wanted)
    shift = min(apart, key=lambda one: float(np.average(apart[one], weights=sizes)))
    if np.average(apart[shift] < _AGREES_WITHIN, weights=sizes) < _MOST_AGREE:
        return evidence
    evidence[:] = VOTE_COST
    for row, level in zip(evidence, own + shift, strict=True):
        row[list(levels).index(level) if level in levels else -1] = 0.0
    return evidence


def levels_from_located(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    located: np.ndarray,
    task: Task,
) -> np.ndarray:
    """Give each bundle the level of the canal beside it, as the locator sees it.

    The levels in the segmentation are not used. All bundles are fitted together, see
    :func:`sct_rootlets_task.levels.level_fit.fit_levels`.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    located : ndarray of uint8, shape (i, j, k)
        Spinal level of each voxel of the canal, 0 elsewhere.
    task : Task
        Task of the map, whose levels the result may hold.

    Raises
    ------
    UsageError
        If the task has no priors.
    ImageError
        If the arrays differ in shape, or the locator found no canal or something else than levels.
    """
    priors = require_priors(task, "locator")
    require_labels(labels)
    require_same_grid(labels, affine, other=located, name="locator's levels")
    require_levels(located, affine, "the locator's levels")
    if not located.any():
        raise ImageError(
            "Expected the locator's levels of the canal, found none. Look whether the image shows "
            f"the levels {task.level_names}."
        )
    bundles = find_bundles(labels, affine)
    evidence = _located_evidence(bundles, located, task.levels)
    fit = fit_levels(bundles.items, task.levels, priors=priors, evidence=evidence)
    return bundles.paint(fit.levels)


def _located_evidence(bundles: Bundles, located: np.ndarray, levels: Sequence[int]) -> np.ndarray:
    """Return the cost of each level for each bundle by the canal beside it."""
    beside = located_level(located, bundles.affine, points=to_world(bundles.voxels, bundles.affine))
    votes = np.zeros((len(bundles.items), 256))
    np.add.at(votes, (bundles.owner, beside), 1)
    counts = np.column_stack((votes[:, list(levels)], votes[:, 0]))
    return VOTE_COST * (1 - counts / np.maximum(counts.max(axis=1, keepdims=True), 1))
