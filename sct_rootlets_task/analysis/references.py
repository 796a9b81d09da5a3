"""What is known of a subject besides the rootlets, and the shift of levels it speaks for.

Networks label levels by counting, and may count from a wrong start: then all levels are off by one,
in good order among themselves. Only something independent tells: the pontomedullary junction (PMJ),
intervertebral discs, or the locator's map of the canal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.anatomy import (
    DISC_OWN_SD,
    DISC_SHARED_SD,
    disc_coordinate,
    midpoint_below_pmj,
)
from sct_rootlets_task.analysis.centreline import CentreLine
from sct_rootlets_task.analysis.geometry import require_same_grid, to_world
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.voxels import voxels_of

_PMJ_SCALE_SD = 0.055
_PMJ_SHARED_SD_MM = 1.5
_PMJ_OWN_SD_MM = 1.5
_LOCATED_SHARED_SD = 0.2
_LOCATED_OWN_SD = 0.25
_SHIFTS = (-3, -2, -1, 0, 1, 2, 3)
_NEAR_CANAL_MM = 15.0
_LAST_DISC = 20
_TOUCHING_VOXELS = 1.1


@dataclass(frozen=True, eq=False)
class References:
    """Independent knowledge about one subject; every part is optional.

    Parameters
    ----------
    cord : ndarray, shape (i, j, k), optional
        Cord mask on the grid of the segmentation; above 0.5 is cord.
    pmj : ndarray of float, shape (3,), optional
        World point of the pontomedullary junction in mm.
    discs : mapping of int to ndarray of float, shape (3,), optional
        World point of each intervertebral disc in mm, by SCT's label: 3 is disc C2/C3, 8 is C7/T1.
    located : ndarray of uint8, shape (i, j, k), optional
        Spinal level of each voxel of the canal by the locator, on the grid of the segmentation; 0
        where there is none.
    """

    cord: np.ndarray | None = None
    pmj: np.ndarray | None = None
    discs: Mapping[int, np.ndarray] | None = None
    located: np.ndarray | None = None


@dataclass(frozen=True)
class Shift:
    """What an independent reference says about the numbering of the levels.

    Parameters
    ----------
    source : str
        ``PMJ``, ``discs`` or ``locator``.
    shift : int
        Number to add to all levels that fits best; 0 when they are right.
    advantage : float
        How much better it fits than no shift, in nats.
    offset : float
        Mean distance of the levels from where the reference expects them, in levels; positive when
        the labels are too high.
    """

    source: str
    shift: int
    advantage: float
    offset: float


def pmj_point(label: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the world point, shape (3,), of a PMJ label image.

    Parameters
    ----------
    label : ndarray, shape (i, j, k)
        Image that is not 0 at the PMJ (SCT's value is 50); of several voxels the mean is taken.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm; need not be the segmentation's.

    Raises
    ------
    ImageError
        If the image is empty.
    """
    points = to_world(voxels_of(label), affine)
    if not len(points):
        raise ImageError("Expected a label at the PMJ, found an empty image. Check the file.")
    return points.mean(axis=0)


def disc_points(labels: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Return the world point of each disc of a label image (SCT's numbers).

    Parameters
    ----------
    labels : ndarray of int, shape (i, j, k)
        One value a disc, of whose voxels the mean is taken; or vertebral levels along the cord, one
        following upon the other, as ``sct_label_vertebrae`` colours the cord: there, disc n lies
        where level n − 1 touches level n. Values that are no disc of the cervical or thoracic spine
        (PMJ and the like, 21 and above) are left out.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm; need not be the segmentation's.

    Raises
    ------
    ImageError
        If there are fewer than two discs.
    """
    indices = voxels_of(labels)
    values = np.round(labels[tuple(indices.T)]).astype(int)
    known = (values >= 1) & (values <= _LAST_DISC)
    indices, values = indices[known], values[known]
    borders = _borders(indices, values)
    points = to_world(indices, affine)
    found = {int(v): points[values == v].mean(axis=0) for v in np.unique(values)}
    if len(borders) > len(found) / 2:
        found = {disc: to_world(voxels, affine).mean(axis=0) for disc, voxels in borders.items()}
    if len(found) < 2:
        raise ImageError(
            f"Expected the labels of at least two intervertebral discs, found {sorted(found)}. "
            "Give disc labels as sct_label_vertebrae writes them."
        )
    return found


def _borders(indices: np.ndarray, values: np.ndarray) -> dict[int, np.ndarray]:
    """Return, for each value that touches the one below, the voxels of the two that touch."""
    from scipy.spatial import cKDTree

    borders = {}
    for upper, lower in pairwise(np.unique(values)):
        first, second = indices[values == upper], indices[values == lower]
        near = cKDTree(second).query(first, distance_upper_bound=_TOUCHING_VOXELS)
        touching = np.isfinite(near[0])
        if lower == upper + 1 and touching.any():
            borders[int(lower)] = (first[touching] + second[near[1][touching]]) / 2
    return borders


def references_from_images(
    image: Any, *, cord: Any = None, pmj: Any = None, discs: Any = None, located: Any = None
) -> References:
    """Return the references of nibabel images.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The segmentation.
    cord, located : nibabel.Nifti1Image, optional
        Cord mask and locator's levels, on the grid of the segmentation.
    pmj, discs : nibabel.Nifti1Image, optional
        PMJ label and disc labels, on any grid of the same world.

    Raises
    ------
    ImageError
        If an image lies on another grid, or holds no label.
    """
    labels = np.asarray(image.dataobj)
    arrays = {}
    for name, other in (("cord mask", cord), ("locator's levels", located)):
        if other is not None:
            arrays[name] = np.asarray(other.dataobj)
            require_same_grid(
                labels, image.affine, other=arrays[name], other_affine=other.affine, name=name
            )
    return References(
        cord=arrays.get("cord mask"),
        pmj=None if pmj is None else pmj_point(np.asarray(pmj.dataobj), pmj.affine),
        discs=None if discs is None else disc_points(np.asarray(discs.dataobj), discs.affine),
        located=arrays.get("locator's levels"),
    )


def pmj_arc(line: CentreLine, pmj: np.ndarray) -> float:
    """Return the arc length of the PMJ in mm.

    Beside the line its nearest point counts; above the cranial end of what the line was fitted to,
    the straight distance from there.
    """
    arc = float(line.project(pmj[None])[0, 0])
    return arc if arc >= 0 else -float(np.linalg.norm(pmj - line.at(0.0)[0]))


def disc_coordinates(
    line: CentreLine, discs: Mapping[int, np.ndarray], *, arcs: np.ndarray
) -> np.ndarray:
    """Return where arc lengths lie between the discs.

    Parameters
    ----------
    line : CentreLine
        Centre line of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        Discs as :func:`disc_points` gives them.
    arcs : ndarray of float, shape (n,)
        Arc lengths in mm.

    Returns
    -------
    ndarray of float, shape (n,)
        2.5 is halfway between discs 2 and 3; beyond the outermost discs the nearest interval goes
        on.
    """
    numbers = np.array(sorted(discs))
    places = line.project(np.array([discs[number] for number in numbers]))[:, 0]
    order = np.argsort(places)
    numbers, places = numbers[order], places[order]
    inside = np.interp(arcs, places, numbers)
    first = (numbers[1] - numbers[0]) / max(places[1] - places[0], 1e-6)
    last = (numbers[-1] - numbers[-2]) / max(places[-1] - places[-2], 1e-6)
    above, below = np.minimum(arcs - places[0], 0), np.maximum(arcs - places[-1], 0)
    return inside + above * first + below * last


def located_level(located: np.ndarray, affine: np.ndarray, *, points: np.ndarray) -> np.ndarray:
    """Return the locator's level beside each world point; 0 farther than 15 mm from the canal.

    Parameters
    ----------
    located : ndarray of uint8, shape (i, j, k)
        Level of each voxel of the canal.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    points : ndarray of float, shape (n, 3)
        World points in mm.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    from scipy.spatial import cKDTree

    canal = voxels_of(located)
    if not len(canal):
        return np.zeros(len(points), dtype=int)
    distance, nearest = cKDTree(to_world(canal, affine)).query(points)
    levels = located[tuple(canal[nearest].T)].astype(int)
    return np.where(distance <= _NEAR_CANAL_MM, levels, 0)


def shift_from_pmj(midpoints: Mapping[int, float], distance_from: float) -> Shift:
    """Return the shift that the distances of the levels from the PMJ speak for.

    Model: a subject's distances are Cadotte's means times a common scale (SD 5.5 %), plus a common
    and an own error (SD 1.5 mm each); this reproduces the published SDs of 3.0 mm at C3 to 8.0 mm
    at T1.

    Parameters
    ----------
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
    distance_from : float
        Arc length of the PMJ in mm.
    """
    levels = sorted(midpoints)
    found = np.array([midpoints[level] for level in levels]) - distance_from
    costs = []
    for shift in _SHIFTS:
        expected = np.array([midpoint_below_pmj(level + shift) for level in levels])
        shared = np.outer(expected, expected) * _PMJ_SCALE_SD**2 + _PMJ_SHARED_SD_MM**2
        costs.append(_gaussian_cost(found - expected, shared, _PMJ_OWN_SD_MM))
    own = np.array([midpoint_below_pmj(level) for level in levels])
    offset = -float(np.mean(found - own)) / 15.0
    return _best_shift("PMJ", costs, offset)


def shift_from_discs(
    midpoints: Mapping[int, float], line: CentreLine, *, discs: Mapping[int, np.ndarray]
) -> Shift:
    """Return the shift that the places of the levels between the discs speak for.

    Parameters
    ----------
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
    line : CentreLine
        Centre line of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        Discs as :func:`disc_points` gives them.
    """
    levels = sorted(midpoints)
    found = disc_coordinates(line, discs, arcs=np.array([midpoints[level] for level in levels]))
    costs, residuals = [], []
    for shift in _SHIFTS:
        residual = found - np.array([disc_coordinate(level + shift) for level in levels])
        residuals.append(residual)
        shared = np.full((len(levels),) * 2, DISC_SHARED_SD**2)
        costs.append(_gaussian_cost(residual, shared, DISC_OWN_SD))
    return _best_shift("discs", costs, -float(np.mean(residuals[_SHIFTS.index(0)])))


def shift_from_located(differences: np.ndarray) -> Shift | None:
    """Return the shift that the locator speaks for; None where it sees no canal.

    Parameters
    ----------
    differences : ndarray of float, shape (n,)
        For each level of the segmentation, the mean level of the locator beside it minus the label.
    """
    if not len(differences):
        return None
    shared = np.full((len(differences),) * 2, _LOCATED_SHARED_SD**2)
    costs = [_gaussian_cost(differences - shift, shared, _LOCATED_OWN_SD) for shift in _SHIFTS]
    return _best_shift("locator", costs, -float(np.mean(differences)))


def _gaussian_cost(residual: np.ndarray, shared: np.ndarray, own_sd: float) -> float:
    """Return the negative log-likelihood of residuals with shared and own errors, in nats."""
    covariance = shared + np.eye(len(residual)) * own_sd**2
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(residual @ np.linalg.solve(covariance, residual) + log_determinant) / 2


def _best_shift(source: str, costs: list[float], offset: float) -> Shift:
    best = int(np.argmin(costs))
    return Shift(source, _SHIFTS[best], costs[_SHIFTS.index(0)] - costs[best], offset)
