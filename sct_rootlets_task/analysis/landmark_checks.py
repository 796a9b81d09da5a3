"""Whether the PMJ and the discs can be what they are called: order, spacing, distance to the levels.

What cannot be is refused; what is merely implausible is returned as doubts, and a landmark in doubt
has no say in the numbering of the levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from sct_rootlets_task.analysis.anatomy import (
    LAST_CERVICAL_DISC,
    describe,
    disc_coordinate,
    disc_spacing_range,
    pmj_distance_range,
)
from sct_rootlets_task.analysis.centreline import CentreLine
from sct_rootlets_task.analysis.references import (
    FEWEST_LEVELS,
    MOST_SHIFT,
    Doubt,
    Shift,
    disc_coordinates,
    pmj_arc,
)
from sct_rootlets_task.errors import ImageError

FARTHEST_MM = 60.0
"""Off the cord's line no PMJ and no disc lies farther than this; three quarters of its distance
above or below the levels where that is more, as the line goes on straight."""

PMJ_ASIDE_MM, PMJ_LATERAL_MM = 30.0, 15.0
"""Usual is a PMJ up to some 15 mm in front of the line, since the brainstem leans forwards."""

DISC_ASIDE_MM, DISC_LATERAL_MM, DISC_BEHIND_MM = 35.0, 20.0, 10.0
"""Discs are labeled on the cord or up to some 25 mm in front of it, never behind it."""

PMJ_TOO_FAR_MM = 100.0
"""So far beyond all that a wrong number could explain, a point is no PMJ of this subject."""

_STEEPEST = 0.75
_IMPOSSIBLE_SHORT, _IMPOSSIBLE_LONG = 0.6, 1.25
_UNEVEN = (0.62, 1.6)
_NEAR_MM = 40.0
_WORST_FIT = 0.75
_HALF_A_LEVEL = 0.4


def check_pmj(
    line: CentreLine, pmj: np.ndarray, *, midpoints: Mapping[int, float], name: str
) -> tuple[Doubt, ...]:
    """Check a PMJ against the levels of the cervical cord.

    Parameters
    ----------
    line : CentreLine
        Centre line of the cord.
    pmj : ndarray of float, shape (3,)
        World point in mm.
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
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
            f"Expected the PMJ above {describe(first)}, found it {-below:.0f} mm below ({name}). "
            "Check that it is the PMJ of this image, and that its value is 50."
        )
    _, right, front = line.project(pmj[None])[0]
    _require_near(float(np.hypot(right, front)), below, what="the PMJ", name=name)
    low, high = pmj_distance_range(first, MOST_SHIFT)
    if below > high + PMJ_TOO_FAR_MM:
        raise ImageError(
            f"Expected the PMJ {low:.0f}–{high:.0f} mm above {describe(first)}, found it "
            f"{below:.0f} mm above ({name}). Check that it belongs to this image."
        )
    return tuple(_pmj_doubts(first, below=below, right=abs(right), front=front))


def _pmj_doubts(first: int, *, below: float, right: float, front: float) -> list[Doubt]:
    doubts = []
    low, high = pmj_distance_range(first, MOST_SHIFT)
    if not low <= below <= high:
        text = (
            f"The PMJ lies {below:.0f} mm above {describe(first)}, which no numbering explains; "
            f"{low:.0f}–{high:.0f} mm are expected."
        )
        doubts.append(Doubt("PMJ", text, below, (low, high), "mm"))
    for found, least, finding in (
        (right, PMJ_LATERAL_MM, "to the side of"),
        (abs(front), PMJ_ASIDE_MM, "in front of" if front > 0 else "behind"),
    ):
        most = max(least, below / 2)
        if found > most:
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
    line: CentreLine, discs: Mapping[int, np.ndarray], *, ends: tuple[float, float], name: str
) -> tuple[Doubt, ...]:
    """Check the order and spacing of discs, and their distance from the cord.

    Parameters
    ----------
    line : CentreLine
        Centre line of the cord.
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
    doubts = _spacing_doubts(numbers, [discs[number] for number in numbers], name)
    for number, (arc, right, front) in zip(numbers, where, strict=True):
        beyond = max(ends[0] - arc, arc - ends[1], 0.0)
        if beyond <= _NEAR_MM:
            what = f"disc {number}"
            _require_near(float(np.hypot(right, front)), beyond, what=what, name=name)
            doubts += _place_doubts(number, abs(right), front)
    return tuple(doubts)


def _spacing_doubts(numbers: Sequence[int], points: Sequence[np.ndarray], name: str) -> list[Doubt]:
    doubts = []
    apart = [float(np.linalg.norm(lower - upper)) for upper, lower in pairwise(points)]
    cervical = [
        gap / (lower - upper)
        for gap, (upper, lower) in zip(apart, pairwise(numbers), strict=True)
        if lower <= LAST_CERVICAL_DISC
    ]
    typical = float(np.median(cervical)) if len(cervical) > 2 else None
    for gap, (upper, lower) in zip(apart, pairwise(numbers), strict=True):
        low, high = disc_spacing_range(upper, lower)
        pair = f"Discs {upper} and {lower}"
        if not _IMPOSSIBLE_SHORT * low <= gap <= _IMPOSSIBLE_LONG * high:
            raise ImageError(
                f"{pair} are {gap:.0f} mm apart, where {low:.0f}–{high:.0f} mm are expected "
                f"({name}). Correct their numbers or places."
            )
        if typical and lower <= LAST_CERVICAL_DISC:
            low = max(low, _UNEVEN[0] * typical * (lower - upper))
            high = min(high, _UNEVEN[1] * typical * (lower - upper))
        if not low <= gap <= high:
            text = f"{pair} are {gap:.0f} mm apart; {low:.0f}–{high:.0f} mm are expected."
            doubts.append(Doubt("discs", text, gap, (low, high), "mm"))
    return doubts


def _place_doubts(number: int, lateral: float, front: float) -> list[Doubt]:
    doubts = []
    for found, most, finding in (
        (lateral, DISC_LATERAL_MM, "to the side of"),
        (front, DISC_ASIDE_MM, "in front of"),
        (-front, DISC_BEHIND_MM, "behind"),
    ):
        if found > most:
            text = (
                f"Disc {number} lies {found:.0f} mm {finding} the cord's line; up to {most:.0f} mm "
                "are expected."
            )
            doubts.append(Doubt("discs", text, float(found), (None, most), "mm"))
    return doubts


def check_disc_fit(
    line: CentreLine,
    discs: Mapping[int, np.ndarray],
    *,
    midpoints: Mapping[int, float],
    shift: Shift | None,
) -> tuple[Doubt, ...]:
    """Check whether the levels lie between the discs as they do in others.

    Parameters
    ----------
    line : CentreLine
        Centre line of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        World points in mm, by SCT's label.
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
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
    wanted = np.array([disc_coordinate(level + shift.shift) for level in levels])
    worst = float(np.sqrt(np.nanmean((found - wanted) ** 2)))
    if worst <= _WORST_FIT:
        return ()
    text = (
        f"No numbering of the levels fits the discs: they are off by {worst:.1f} levels at best. "
        "Look whether the discs belong to this image."
    )
    return (Doubt("discs", text, worst, (None, _WORST_FIT), "levels"),)


def check_disc_offset(offset: float) -> tuple[Doubt, ...]:
    """Check how far all levels lie off the place that the discs speak for.

    Parameters
    ----------
    offset : float
        In discs; positive when the rootlets lie too low.
    """
    if abs(offset) < _HALF_A_LEVEL:
        return ()
    text = (
        f"All levels lie {abs(offset):.1f} of a level {'below' if offset > 0 else 'above'} where "
        "the discs have them, so that the neighboring numbers fit nearly as well."
    )
    return (Doubt("discs", text, offset, (-_HALF_A_LEVEL, _HALF_A_LEVEL), "levels"),)
