"""Whether a cord mask is one, whether it is that of the rootlets, and which levels it reaches.

A centerline goes on straight beyond the mask it was fitted to. For some mm that is as good as the
cord; farther out nothing measured along it means anything, and a mask of another place in the image
(or of another subject) means nothing at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.label_values import inside_mask
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.levels.landmarks import Doubt, world_point
from sct_rootlets_task.rootlets.bundles import Bundles, find_bundles
from sct_rootlets_task.rootlets.centerline import Centerline, fit_centerline
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import require_same_grid, to_world, voxel_volume

COVER_MM = 10.0
"""So far beyond a mask its line is as good as the cord. A cord bent to a radius of 80 mm has left
its tangent by 0.6 mm there."""

BESIDE_MM = 12.0
"""The middle of a level's rootlets, even of those of one side, lies no farther from the cord."""

CENTERED_MM = 5.0
"""Rootlets of both sides have their middle within this distance of the cord (PAM50: 1.7 mm)."""

SECTION_MM2 = (10.0, 400.0)
"""Mean section of a cord mask; the cord has 40–90 mm², the whole canal some 250 mm²."""

_LARGEST_SECTION_MM2 = 800.0
_SHORTEST_MM = 8.0
_BIN_MM = 2.0
_HOLLOW_MM = 2.0
_HALF = 0.5
_MIDDLE_MM, _MIDDLE_SHARE = 2.0, 0.08
_BEYOND_SHARE = 0.2
_BOTH_SIDES_MM = 10.0
_TAPER_MM, _TAPER_STEP_MM, _FULL_SHARE = (2.0, 20.0), 0.25, 0.6


@dataclass(frozen=True, eq=False)
class CordMask:
    """A cord mask along the centerline that was fitted to it.

    Parameters
    ----------
    line : Centerline
        The centerline.
    arcs : ndarray of float, shape (n,)
        Arc lengths of the mask's voxels in mm, ascending.
    step_mm : float
        How far apart neighboring voxels lie along the cord at most.
    """

    line: Centerline
    arcs: np.ndarray
    step_mm: float

    def distance(self, arcs: np.ndarray) -> np.ndarray:
        """Return how far arc lengths, shape (n,), lie from the mask along the line, in mm."""
        right = np.clip(np.searchsorted(self.arcs, arcs), 0, len(self.arcs) - 1)
        left = np.maximum(right - 1, 0)
        return np.minimum(np.abs(self.arcs[right] - arcs), np.abs(self.arcs[left] - arcs))

    @cached_property
    def whole(self) -> tuple[float, float]:
        """Arc lengths between which the mask has its full section: it may taper off at its ends."""
        return self._full_from(self.arcs), -self._full_from(-self.arcs[::-1])

    def _full_from(self, arcs: np.ndarray) -> float:
        """Return the first place whose section is not much smaller than that of the next ones."""
        near = max(2 * self.step_mm, _TAPER_MM[0])
        places = np.arange(arcs[0], min(arcs[0] + _TAPER_MM[1], arcs[-1]), _TAPER_STEP_MM)
        counts = np.searchsorted(arcs, np.stack((places, places + near, places + 4 * near)))
        here, beyond = np.diff(counts, axis=0) / np.array([[1], [3]])
        full = np.flatnonzero(here >= _FULL_SHARE * beyond)
        return float(places[full[0]]) if len(full) else float(arcs[0])

    def share(self, start: float, end: float) -> float:
        """Return the share of a piece of the line, between two arc lengths, that is in the mask."""
        return float(self._holds(_places(start, end)).mean())

    def full_share(self, start: float, end: float) -> float:
        """Return the share of a piece that is in the mask where that has its full section."""
        places = _places(start, end)
        inside = (places >= self.whole[0]) & (places <= self.whole[1])
        return float((inside & self._holds(places)).mean())

    def _holds(self, places: np.ndarray) -> np.ndarray:
        return np.asarray(self.distance(places) <= max(self.step_mm / 2, 1.0))


def _places(start: float, end: float) -> np.ndarray:
    """Return arc lengths close to each other between two."""
    return np.linspace(start, end, max(2, int(4 * (end - start))))


def read_cord(cord: np.ndarray, labels: np.ndarray, affine: np.ndarray, *, name: str) -> CordMask:
    """Return a cord mask along its centerline.

    Parameters
    ----------
    cord : ndarray, shape (i, j, k)
        Cord mask; above 0.5 is cord.
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm, of both arrays.
    name : str
        What messages call the mask.

    Raises
    ------
    ImageError
        If the mask lies on another grid, or is none of the cord: empty, too short or too large,
        hollow, or made of the rootlets; or if the level map is the cord instead.
    """
    require_same_grid(labels, affine, other=cord, name=name)
    voxels = voxels_of(inside_mask(cord))
    if not len(voxels):
        raise ImageError(
            f"The {name} is empty: expected 1, or more than 0.5 in a soft mask, found 0 voxels of "
            "such a value. Check that the right file was given."
        )
    if len(voxels) < 2:
        raise ImageError(
            f"Expected a {name} to fit the centerline to, found one voxel. Check that the right "
            "file was given."
        )
    line = fit_centerline(labels, affine, cord=cord)
    where = line.project(to_world(voxels, affine))
    step = float(np.linalg.norm(affine[:3, :3], axis=0).max())
    mask = CordMask(line, np.sort(where[:, 0]), step)
    _require_shape(where, step, voxel_volume(affine), name)
    if (labels[tuple(voxels.T)] > 0).mean() > _HALF:
        raise ImageError(
            f"Expected the cord, found the rootlets themselves in the {name}. Give the cord's mask."
        )
    rootlets = voxels_of(labels)
    across = line.project(to_world(rootlets, affine))[:, 1:]
    middle = np.linalg.norm(across, axis=1) < _MIDDLE_MM
    if len(middle) and (middle & inside_mask(cord[tuple(rootlets.T)])).mean() > _MIDDLE_SHARE:
        raise ImageError(
            f"Expected rootlets beside the {name}, found labels in the middle of it. Check that "
            "both belong to one image, and that neither stands in the other's place."
        )
    return mask


def _require_shape(where: np.ndarray, step: float, voxel_mm3: float, name: str) -> None:
    """Refuse what has not the shape of a cord: its voxels as (arc, right, front) rows."""
    width = max(_BIN_MM, step)
    number = np.floor((where[:, 0] - where[:, 0].min()) / width).astype(int)
    pieces = np.unique(number)
    length = len(pieces) * width
    advice = "Check that the right file was given."
    if np.ptp(where[:, 0]) < _SHORTEST_MM or length < _SHORTEST_MM:
        raise ImageError(
            f"Expected a {name} at least {_SHORTEST_MM:.0f} mm long, found {len(where)} voxels "
            f"over {min(length, float(np.ptp(where[:, 0]))):.0f} mm. {advice}"
        )
    section = len(where) * voxel_mm3 / length
    if section < SECTION_MM2[0] and length < _HALF * np.ptp(where[:, 0]):
        raise ImageError(
            f"Expected a {name} without large gaps, found {len(where)} voxels strewn over "
            f"{np.ptp(where[:, 0]):.0f} mm. {advice}"
        )
    if section > _LARGEST_SECTION_MM2:
        raise ImageError(
            f"Expected a section of some 70 mm² in the {name}, found {section:.0f} mm². {advice}"
        )
    nearest = np.full(number.max() + 1, np.inf)
    np.minimum.at(nearest, number, np.hypot(where[:, 1], where[:, 2]))
    if (nearest[pieces] > max(_HOLLOW_MM, 0.75 * step)).mean() > _HALF:
        raise ImageError(
            f"Expected a solid cord in the {name}, found something hollow, such as rootlets or the "
            f"fluid around the cord. {advice}"
        )


def section_doubts(cord: np.ndarray, mask: CordMask, affine: np.ndarray) -> tuple[Doubt, ...]:
    """Say so where a mask is much thinner or thicker than a cord.

    Parameters
    ----------
    cord : ndarray, shape (i, j, k)
        Cord mask; above 0.5 is cord.
    mask : CordMask
        The same along its line.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    """
    length = mask.share(mask.arcs[0], mask.arcs[-1]) * float(np.ptp(mask.arcs)) + mask.step_mm
    section = np.count_nonzero(inside_mask(cord)) * voxel_volume(affine) / length
    low, high = SECTION_MM2
    if low <= section <= high:
        return ()
    text = (
        f"The cord mask has a mean section of {section:.1f} mm²; {low:.0f}–{high:.0f} mm² are "
        "expected."
    )
    point = world_point(mask.line.at(float(np.median(mask.arcs)))[0])
    return (Doubt("cord mask", text, section, SECTION_MM2, "mm²", point=point),)


def levels_out_of_reach(bundles: Bundles, mask: CordMask, *, beyond_too: bool = True) -> list[int]:
    """Return the levels beside whose rootlets there is no mask, ascending.

    A level is within reach when four fifths of its rootlets lie at most :data:`COVER_MM` beyond the
    mask, and their middle at most :data:`BESIDE_MM` from its line. Where that is too far for most
    levels, none is.

    Parameters
    ----------
    bundles : Bundles
        Bundles found with the mask's line.
    mask : CordMask
        The mask.
    beyond_too : bool
        Whether levels beyond the ends of the mask count, or only those beside which it is too far.
    """
    levels = [int(level) for level in np.unique(bundles.values)]
    beyond = mask.distance(bundles.where[:, 0]) > COVER_MM
    aside, ended = [], []
    for level in levels:
        members = bundles.values == level
        if np.linalg.norm(bundles.where[members, 1:].mean(axis=0)) > BESIDE_MM:
            aside.append(level)
        elif beyond[members].mean() > _BEYOND_SHARE:
            ended.append(level)
    # Another cord may cross this one: a mask beside few levels is beside none.
    if len(aside) > len(levels) / 2:
        return levels
    return sorted([*aside, *ended]) if beyond_too else aside


def levels_aside(bundles: Bundles) -> float:
    """Return how far the cord's line runs from the middle between the rootlets, in mm.

    The median over the levels with rootlets on both sides; 0 where there are none such.

    Parameters
    ----------
    bundles : Bundles
        Bundles found with the mask's line.
    """
    found = []
    for level in np.unique(bundles.values):
        across = bundles.where[bundles.values == level, 1:]
        ends = np.quantile(across, (0.1, 0.9), axis=0)
        if ends[1, 0] - ends[0, 0] > _BOTH_SIDES_MM:
            found.append(float(np.linalg.norm(ends.mean(axis=0))))
    return float(np.median(found)) if found else 0.0


def require_reach(levels: Sequence[int], missing: Sequence[int], *, name: str) -> None:
    """Refuse a cord mask that reaches none of the levels.

    Parameters
    ----------
    levels : sequence of int
        Levels found.
    missing : sequence of int
        Those of them out of its reach.
    name : str
        What messages call the mask.

    Raises
    ------
    ImageError
        If all levels are out of reach.
    """
    if missing and len(missing) == len(levels):
        raise ImageError(
            f"Expected the {name} beside the rootlets, found it beside none of them. Check that it "
            "belongs to this image and reaches the levels."
        )


def line_for(
    labels: np.ndarray, affine: np.ndarray, *, cord: np.ndarray | None, name: str = "cord mask"
) -> tuple[Centerline, tuple[Doubt, ...]]:
    """Return the centerline to measure all levels along.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    cord : ndarray, shape (i, j, k), optional
        Cord mask.
    name : str
        What messages call the mask.

    Returns
    -------
    Centerline
        That of the mask where it runs beside all levels, else the one estimated from the rootlets.
    tuple of Doubt
        What is wrong with the mask.

    Raises
    ------
    ImageError
        If the mask is none of the cord, or reaches no level.
    """
    if cord is None:
        return fit_centerline(labels, affine), ()
    mask = read_cord(cord, labels, affine, name=name)
    bundles = find_bundles(labels, affine, line=mask.line)
    missing = levels_out_of_reach(bundles, mask)
    require_reach(np.unique(bundles.values).tolist(), missing, name=name)
    doubts = [*section_doubts(cord, mask, affine), *_place_doubts(bundles, missing)]
    if not missing and levels_aside(bundles) <= CENTERED_MM:
        return mask.line, tuple(doubts)
    return fit_centerline(labels, affine), tuple(doubts)


def _place_doubts(bundles: Bundles, missing: Sequence[int]) -> list[Doubt]:
    text = "The cord mask does not reach the rootlets of {}; the centerline is estimated."
    doubts = [
        Doubt("cord mask", text.format(value_name(level)), 0.0, (1.0, None), "levels", level)
        for level in missing
    ]
    aside = levels_aside(bundles)
    if aside > CENTERED_MM:
        point = world_point(bundles.line.at(float(np.median(bundles.where[:, 0])))[0])
        limit = f"up to {CENTERED_MM:.0f} mm are expected"
        text = f"The cord mask lies {aside:.0f} mm beside the middle of the rootlets; {limit}."
        doubts.append(Doubt("cord mask", text, aside, (None, CENTERED_MM), "mm", point=point))
    return doubts
