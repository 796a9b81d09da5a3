"""Whether PMJ and discs can be what they are called: order, spacing, distance to the levels.

What cannot be is refused; what is merely implausible is returned as doubts, and a landmark in doubt
has no say in the numbering of the levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.levels.anatomical_priors import (
    LAST_CERVICAL_DISC,
    AnatomicalPriors,
    disc_spacing_range,
)
from sct_rootlets_task.levels.landmarks import (
    FEWEST_LEVELS,
    MOST_SHIFT,
    Doubt,
    Shift,
    disc_coordinates,
    pmj_arc,
    world_point,
)
from sct_rootlets_task.rootlets.centerline import Centerline

FARTHEST_MM = 60.0
"""Off the cord's line no PMJ and no disc lies farther than this; three quarters of its distance
above or below the levels where that is more, as the line goes on straight."""

PMJ_ASIDE_MM, PMJ_LATERAL_MM = 30.0, 15.0
"""Usual is a PMJ up to some 15 mm in front of the line, since the brainstem leans forwards."""

DISC_ASIDE_MM, DISC_LATERAL_MM, DISC_BEHIND_MM = 35.0, 20.0, 10.0
"""Discs are labeled on the cord or up to some 25 mm in front of it, never behind it."""

PMJ_TOO_FAR_MM = 100.0
"""So far beyond all that a wrong number could explain, a point is no PMJ of this subject."""

HALFWAY = 0.5
"""So many levels off, the neighboring number fits as well. Nearer to its place, a level's own
number fits better."""

_STEEPEST = 0.75
_IMPOSSIBLE_SHORT, _IMPOSSIBLE_LONG = 0.6, 1.25
_UNEVEN = (0.62, 1.6)
_NEAR_MM = 40.0
_WORST_FIT = 0.75


def check_pmj(
    line: Centerline,
    pmj: np.ndarray,
    *,
    midpoints: Mapping[int, float],
    priors: AnatomicalPriors | None,
    name: str,
) -> tuple[Doubt, ...]:
    """Check a PMJ against the levels of a map.

    Parameters
    ----------
    line : Centerline
        Centerline of the cord.
    pmj : ndarray of float, shape (3,)
        World point in mm.
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
    priors : AnatomicalPriors or None
        Those of the task. Without distances from the PMJ, only its direction is checked.
    name : str
        What messages call the label.

    Returns
    -------
    tuple of Doubt

    Raises
    ------
    ImageError
        If it does not lie above all levels, or so far away that it cannot be this subject's PMJ.
    """
    if not midpoints:
        return ()
    first = min(midpoints, key=lambda level: midpoints[level])
    below = midpoints[first] - pmj_arc(line, pmj)
    if below <= 0:
        raise ImageError(
            f"Expected the PMJ above {value_name(first)}, found it {-below:.0f} mm below ({name}). "
            "Check that it is the PMJ of this image, and that its value is 50."
        )
    arc, right, front = line.project(pmj[None])[0]
    along = midpoints[first] - float(arc)
    _require_near(float(np.hypot(right, front)), along, what="the PMJ", name=name)
    doubts = _pmj_direction_doubts(along=along, right=abs(right), front=front)
    if priors and priors.midpoint_below_pmj_mm:
        usual = priors.pmj_distance_range(first, MOST_SHIFT)
        doubts = [*_pmj_distance_doubts(value_name(first), below, usual, name), *doubts]
    return tuple(replace(doubt, point=world_point(pmj)) for doubt in doubts)


def _pmj_distance_doubts(
    level: str, below: float, usual: tuple[float, float], name: str
) -> list[Doubt]:
    low, high = usual
    if below > high + PMJ_TOO_FAR_MM:
        raise ImageError(
            f"Expected the PMJ {low:.0f}–{high:.0f} mm above {level}, found it {below:.0f} mm "
            f"above ({name}). Check that it belongs to this image."
        )
    if low <= below <= high:
        return []
    text = (
        f"The PMJ lies {below:.0f} mm above {level}, which no numbering explains; "
        f"{low:.0f}–{high:.0f} mm are expected."
    )
    return [Doubt("PMJ", text, below, usual, "mm")]


def _pmj_direction_doubts(*, along: float, right: float, front: float) -> list[Doubt]:
    doubts = []
    for found, most, finding in (
        (right, max(PMJ_LATERAL_MM, along / 3), "to the side of"),
        (abs(front), max(PMJ_ASIDE_MM, along / 2), "in front of" if front > 0 else "behind"),
    ):
        if round(found) > round(most):
            text = (
                f"The PMJ lies {found:.0f} mm {finding} the cord's line; up to {most:.0f} mm are "
                "expected."
            )
            doubts.append(Doubt("PMJ", text, found, (None, most), "mm"))
    return doubts


def _require_near(aside: float, along: float, *, what: str, name: str) -> None:
    most = max(FARTHEST_MM, _STEEPEST * along)
    if aside > most:
        raise ImageError(
            f"Expected {what} within {most:.0f} mm of the cord's line, found it {aside:.0f} mm "
            f"off ({name}). Check that it belongs to this image."
        )


def check_discs(
    line: Centerline, discs: Mapping[int, np.ndarray], *, ends: tuple[float, float], name: str
) -> tuple[Doubt, ...]:
    """Check the order and spacing of discs, and their distance from the cord.

    Parameters
    ----------
    line : Centerline
        Centerline of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        World points in mm, by SCT's label.
    ends : tuple of (float, float)
        Cranial and caudal end of the rootlets, arc lengths in mm.
    name : str
        What messages call the labels.

    Returns
    -------
    tuple of Doubt

    Raises
    ------
    ImageError
        If the discs are out of order, at impossible distances, or far from the cord.
    """
    numbers = sorted(discs)
    where = line.project(np.array([discs[number] for number in numbers]))
    for (upper, lower), step in zip(pairwise(numbers), np.diff(where[:, 0]), strict=True):
        if step <= 0:
            raise ImageError(
                f"Expected disc {upper} above disc {lower}, found them the other way round "
                f"({name}). Correct their numbers."
            )
    _require_spacing(discs, name)
    beyond = np.maximum(ends[0] - where[:, 0], where[:, 0] - ends[1]).clip(min=0)
    near = beyond <= _NEAR_MM
    aside = np.linalg.norm(where[:, 1:], axis=1)
    for number in np.flatnonzero(near):
        what = f"disc {numbers[number]}"
        _require_near(float(aside[number]), float(beyond[number]), what=what, name=name)
    beside = [number for number, one in zip(numbers, near, strict=True) if one]
    return (*_spacing_doubts(discs, beside), *_place_doubts(discs, beside, where[near]))


def _gaps(discs: Mapping[int, np.ndarray]) -> Iterator[tuple[int, int, float]]:
    """Return each disc, the next one labeled, and their distance in mm."""
    for upper, lower in pairwise(sorted(discs)):
        yield upper, lower, float(np.linalg.norm(discs[lower] - discs[upper]))


def _require_spacing(discs: Mapping[int, np.ndarray], name: str) -> None:
    for upper, lower, gap in _gaps(discs):
        low, high = disc_spacing_range(upper, lower)
        if not _IMPOSSIBLE_SHORT * low <= gap <= _IMPOSSIBLE_LONG * high:
            raise ImageError(
                f"Expected discs {upper} and {lower} {low:.0f}–{high:.0f} mm apart, found "
                f"{gap:.0f} mm ({name}). Correct their numbers or places."
            )


def _spacing_doubts(discs: Mapping[int, np.ndarray], beside: Sequence[int]) -> list[Doubt]:
    """Compare distances with the usual ones, and with the subject's own between cervical discs."""
    doubts = []
    cervical = [gap / (n - m) for m, n, gap in _gaps(discs) if n <= LAST_CERVICAL_DISC]
    typical = float(np.median(cervical)) if len(cervical) > 2 else None
    for upper, lower, gap in _gaps(discs):
        low, high = disc_spacing_range(upper, lower)
        if typical and lower <= LAST_CERVICAL_DISC:
            low = max(low, _UNEVEN[0] * typical * (lower - upper))
            high = min(high, _UNEVEN[1] * typical * (lower - upper))
        if not low <= gap <= high and (upper in beside or lower in beside):
            text = (
                f"Discs {upper} and {lower} are {gap:.0f} mm apart; {low:.0f}–{high:.0f} mm are "
                "expected."
            )
            middle = world_point((discs[upper] + discs[lower]) / 2)
            doubts.append(Doubt("discs", text, gap, (low, high), "mm", point=middle))
    return doubts


def _place_doubts(
    discs: Mapping[int, np.ndarray], numbers: Sequence[int], where: np.ndarray
) -> list[Doubt]:
    """Name the disc that lies farthest from where discs are labeled, on each side."""
    doubts = []
    for found, most, finding in (
        (np.abs(where[:, 1]), DISC_LATERAL_MM, "to the side of"),
        (where[:, 2], DISC_ASIDE_MM, "in front of"),
        (-where[:, 2], DISC_BEHIND_MM, "behind"),
    ):
        if round(found.max(initial=0.0)) > most:
            worst, number = float(found.max()), numbers[int(found.argmax())]
            text = (
                f"Disc {number} lies {worst:.0f} mm {finding} the cord's line; up to {most:.0f} mm "
                "are expected."
            )
            point = world_point(discs[number])
            doubts.append(Doubt("discs", text, worst, (None, most), "mm", point=point))
    return doubts


def check_disc_fit(
    line: Centerline,
    discs: Mapping[int, np.ndarray],
    *,
    midpoints: Mapping[int, float],
    priors: AnatomicalPriors,
    shift: Shift | None,
) -> tuple[Doubt, ...]:
    """Check whether the levels lie between the discs as they do in others.

    Parameters
    ----------
    line : Centerline
        Centerline of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        World points in mm, by SCT's label.
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
    priors : AnatomicalPriors
        Those of the task, with places between the discs.
    shift : Shift or None
        What the discs say; None where too few levels are within their reach.
    """
    if shift is None:
        numbers = f"{min(discs)}–{max(discs)}"
        text = (
            f"The discs {numbers} lie beside fewer than {FEWEST_LEVELS} of the levels found, and "
            "have no say in the numbering."
        )
        return (Doubt("discs", text, 0.0, (FEWEST_LEVELS, None), "levels"),)
    levels = sorted(midpoints)
    found = disc_coordinates(line, discs, arcs=np.array([midpoints[level] for level in levels]))
    wanted = np.array([priors.disc_coordinate(level + shift.shift) for level in levels])
    worst = float(np.sqrt(np.nanmean((found - wanted) ** 2)))
    if worst <= _WORST_FIT:
        return ()
    text = (
        f"No numbering of the levels fits the discs: they are off by {worst:.1f} levels at best. "
        "Look whether the discs belong to this image."
    )
    return (Doubt("discs", text, worst, (None, _WORST_FIT), "levels"),)


def check_disc_offset(offset: float, *, step: float = 0.0) -> tuple[Doubt, ...]:
    """Check how far all levels lie off the place that the discs speak for.

    Parameters
    ----------
    offset : float
        In discs; positive when the rootlets lie too low.
    step : float
        Distance of the offsets that were tried, where only some were.
    """
    if abs(offset) + step / 2 < HALFWAY:
        return ()
    text = (
        f"All levels lie {abs(offset):.1f} of a level {'below' if offset > 0 else 'above'} where "
        "the discs have them, so that the neighboring numbers fit nearly as well."
    )
    return (Doubt("discs", text, offset, (-HALFWAY, HALFWAY), "levels"),)
