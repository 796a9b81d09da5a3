"""What is known of a subject besides the rootlets, and the shift of levels it speaks for.

Networks label levels by counting, and may count from a wrong start: then all levels are off by one,
in good order among themselves. Only something independent tells: the pontomedullary junction (PMJ),
intervertebral discs, or the locator's map of the canal. None of them speaks beyond its reach.

SCT keeps the landmarks of a subject in one file: 1 to 21 are discs, 49 is the pontomedullary
groove, 50 the PMJ, 60 the conus, 99 anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import whole_numbers
from sct_rootlets_task.io.label_values import step_of
from sct_rootlets_task.level_names import LAST_LEVEL
from sct_rootlets_task.levels.anatomical_priors import (
    DISC_SPACING_MM,
    LAST_DISC,
    AnatomicalPriors,
)
from sct_rootlets_task.levels.label_points import label_voxels, one_point
from sct_rootlets_task.rootlets.centerline import Centerline, principal_axis
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import require_same_grid, to_world

FEWEST_LEVELS = 2
"""So many levels within its reach does a reference need to have a say in the numbering."""

MOST_SHIFT = 3
"""Levels are thought to be off by no more than this."""

DISC_REACH = 1.1
"""How far beyond the outermost discs places are told, in intervals between discs."""

PMJ, GROOVE = 50, 49
"""Values of the pontomedullary junction and of the groove in front of it in SCT's label files."""

_LOCATED_SHARED_SD = 0.2
_LOCATED_OWN_SD = 0.25
_SHIFTS = tuple(range(-MOST_SHIFT, MOST_SHIFT + 1))
_NEAR_CANAL_MM, _BEYOND_CANAL_MM = 15.0, 5.0
_PMJ_APART_MM, _DISC_APART_MM = 6.0, 10.0
_NOT_PMJ = (*range(2, LAST_DISC + 2), GROOVE, 60, 99)
# The longest spinal level of PAM50, T6, is 26 mm high; nobody's is nearly twice that.
_LONGEST_LEVEL_MM = 45.0
_TOUCHING_VOXELS = 1.1
_NO_LOCATOR = "The locator cannot read this image; go on without it."
_OTHER = "Give a file with the label, or none."
_Points = TypeVar("_Points")
_NAMES = {
    "cord": "cord mask",
    "pmj": "PMJ label",
    "discs": "disc labels",
    "located": "locator's levels",
    "labels": "level map",
}


@dataclass(frozen=True, eq=False)
class Landmarks:
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
    files : mapping of str to str
        Path of the file of each part, by the part's name here, as far as it is known; ``labels`` is
        that of the segmentation.
    """

    cord: np.ndarray | None = None
    pmj: np.ndarray | None = None
    discs: Mapping[int, np.ndarray] | None = None
    located: np.ndarray | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def name(self, part: str) -> str:
        """Return what messages call a part: with its file, where that is known."""
        file = self.files.get(part)
        return _NAMES[part] + (f" {file}" if file else "")


@dataclass(frozen=True)
class Doubt:
    """Something about a landmark that is implausible, though not impossible.

    Parameters
    ----------
    landmark : str
        ``PMJ``, ``discs`` or ``cord mask``.
    text : str
        What is implausible, in a sentence.
    value : float
        What was found.
    expected : tuple of (float or None, float or None)
        Lowest and highest expected value; None where there is no limit.
    unit : str
        Of value and range.
    level : int or None
        Spinal level concerned; None for the landmark as a whole.
    point : tuple of (float, float, float) or None
        Where to look, in world mm; None where that is nowhere in particular.
    """

    landmark: str
    text: str
    value: float
    expected: tuple[float | None, float | None]
    unit: str
    level: int | None = None
    point: tuple[float, float, float] | None = None


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


def world_point(where: Iterable[float], *, digits: int | None = None) -> tuple[float, float, float]:
    """Return the three numbers of a world point as plain ones, rounded if asked for."""
    # Adding 0 makes no difference but to a negative zero.
    plain = (float(value) for value in where)
    x, y, z = plain if digits is None else (round(value, digits) + 0.0 for value in plain)
    return x, y, z


def pmj_point(
    label: np.ndarray, affine: np.ndarray, *, name: str = "PMJ label", step: float = 0.0
) -> np.ndarray:
    """Return the world point, shape (3,), of a PMJ label image.

    Parameters
    ----------
    label : ndarray, shape (i, j, k)
        Image with the value 50 at the PMJ, and maybe other landmarks of SCT's numbers elsewhere. An
        image with one labeled spot may have another value there, unless it stands for something
        else. Of several voxels next to each other the mean is taken.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm; need not be the segmentation's.
    name : str
        What messages call the image.
    step : float
        Distance of two neighboring values in its file.

    Raises
    ------
    ImageError
        If there is no such label, or it lies at several spots.
    """
    indices, values = label_voxels(label, name, step=step)
    if not len(indices):
        raise ImageError(f"Expected a label at the PMJ, found none: {name} is empty. {_OTHER}")
    found = np.unique(values)
    if PMJ in found:
        indices = indices[values == PMJ]
    elif len(found) > 1 or int(found[0]) in _NOT_PMJ:
        named = ", ".join(map(str, found[:10]))
        groove = f" ({GROOVE} is the groove in front of it)" if GROOVE in found else ""
        raise ImageError(
            f"Expected the value {PMJ} at the PMJ in {name}, found {named}{groove}. Label the PMJ "
            f"with {PMJ}, as sct_detect_pmj does."
        )
    return one_point(indices, affine, apart_mm=_PMJ_APART_MM, what=f"the PMJ in {name}")


def disc_points(
    labels: np.ndarray, affine: np.ndarray, *, name: str = "disc labels", step: float = 0.0
) -> dict[int, np.ndarray]:
    """Return the world point of each disc of a label image (SCT's numbers).

    Parameters
    ----------
    labels : ndarray of int, shape (i, j, k)
        One value a disc, of whose voxels the mean is taken; or vertebral levels along the cord, one
        following upon the other, as ``sct_label_vertebrae`` colors the cord: there, disc n lies
        where level n − 1 touches level n. Values that are no disc of the cervical or thoracic spine
        (PMJ and the like, 21 and above) are left out.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm; need not be the segmentation's.
    name : str
        What messages call the image.
    step : float
        Distance of two neighboring values in its file.

    Raises
    ------
    ImageError
        If there are fewer than two discs, or one lies at several spots.
    """
    indices, values = label_voxels(labels, name, step=step)
    if not len(indices):
        raise ImageError(f"Expected labels of discs, found none: {name} are empty. {_OTHER}")
    labeled = sorted({int(value) for value in values})
    indices, values = indices[values <= LAST_DISC], values[values <= LAST_DISC]
    numbers = [int(number) for number in np.unique(values)]
    borders = _borders(indices, values)
    if len(borders) > len(numbers) / 2:
        found = {disc: to_world(voxels, affine).mean(axis=0) for disc, voxels in borders.items()}
    else:
        found = {
            number: one_point(
                indices[values == number],
                affine,
                apart_mm=_DISC_APART_MM,
                what=f"disc {number} in {name}",
            )
            for number in numbers
        }
    if len(found) < 2:
        raise ImageError(
            f"Expected at least two intervertebral discs (labels 1 to {LAST_DISC}) in {name}, "
            f"found {labeled}. Give disc labels as sct_label_vertebrae writes them."
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


def landmarks_from_images(
    image: Any, *, cord: Any = None, pmj: Any = None, discs: Any = None, located: Any = None
) -> Landmarks:
    """Return the landmarks of nibabel images.

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
    given = {"cord": cord, "pmj": pmj, "discs": discs, "located": located}
    named = {"labels": image, **given}
    files = {part: other.get_filename() for part, other in named.items() if other is not None}
    known = Landmarks(files={part: str(file) for part, file in files.items() if file})
    arrays = {}
    for part in ("cord", "located"):
        other = given[part]
        if other is not None:
            arrays[part] = require_same_grid(
                labels,
                image.affine,
                other=np.asarray(other.dataobj),
                other_affine=other.affine,
                name=known.name(part),
            )
    if located is not None:
        name, step = f"the {known.name('located')}", step_of(located)
        arrays["located"] = whole_numbers(arrays["located"], name, step=step).astype(np.uint8)
    return replace(
        known,
        cord=arrays.get("cord"),
        located=arrays.get("located"),
        pmj=None if pmj is None else _read(pmj_point, pmj, known.name("pmj")),
        discs=None if discs is None else _read(disc_points, discs, known.name("discs")),
    )


def _read(points: Callable[..., _Points], image: Any, name: str) -> _Points:
    """Return what a reader of points makes of a nibabel image."""
    voxels = np.asarray(image.dataobj)
    return points(voxels, image.affine, name=f"the {name}", step=step_of(image))


def require_levels(located: np.ndarray, affine: np.ndarray, name: str) -> None:
    """Refuse an array that does not hold spinal levels, from head to tail.

    Parameters
    ----------
    located : ndarray, shape (i, j, k)
        Spinal level of each voxel of the canal, 0 elsewhere.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    name : str
        What messages call it.

    Raises
    ------
    ImageError
        If a value is none of the whole numbers from 0 to 30, one level is longer than any, or
        levels do not follow each other downwards.
    """
    indices, values = label_voxels(located, name)
    if len(indices) and values.max() > LAST_LEVEL:
        raise ImageError(
            f"Expected spinal levels from 1 to {LAST_LEVEL} in {name}, found {values.max()}. "
            "Give the levels of the canal, as 'sct_rootlets locate' writes them."
        )
    heights = to_world(indices, affine)[:, 2]
    found = {int(value): heights[values == value] for value in np.unique(values)}
    longest = max(found, key=lambda level: np.ptp(found[level]), default=0)
    if found and np.ptp(found[longest]) > _LONGEST_LEVEL_MM:
        raise ImageError(
            f"Expected levels of at most {_LONGEST_LEVEL_MM:.0f} mm in {name}, found the value "
            f"{longest} over {np.ptp(found[longest]):.0f} mm. {_NO_LOCATOR}"
        )
    for upper, lower in pairwise(found):
        if found[upper].mean() <= found[lower].mean():
            raise ImageError(
                f"Expected level {upper} above level {lower} in {name}, found it below. "
                f"{_NO_LOCATOR}"
            )


def pmj_arc(line: Centerline, pmj: np.ndarray) -> float:
    """Return the arc length of the PMJ in mm.

    Beside the line its nearest point counts; above the cranial end of what the line was fitted to,
    the straight distance from there.
    """
    arc = float(line.project(pmj[None])[0, 0])
    return arc if arc >= 0 else -float(np.linalg.norm(pmj - line.at(0.0)[0]))


def disc_coordinates(
    line: Centerline, discs: Mapping[int, np.ndarray], *, arcs: np.ndarray
) -> np.ndarray:
    """Return where arc lengths lie between the discs.

    Parameters
    ----------
    line : Centerline
        Centerline of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        Discs as :func:`disc_points` gives them.
    arcs : ndarray of float, shape (n,)
        Arc lengths in mm.

    Returns
    -------
    ndarray of float, shape (n,)
        2.5 is halfway between discs 2 and 3. Where a disc is not labeled, it is put where the
        template's spacing has it. Beyond the outermost discs the nearest interval goes on for
        :data:`DISC_REACH` intervals; farther out it is NaN.
    """
    numbers = np.array(sorted(discs))
    places = line.project(np.array([discs[number] for number in numbers]))[:, 0]
    order = np.argsort(places)
    numbers, places = numbers[order], places[order]
    every = np.arange(numbers.min(), numbers.max() + 1)
    steps = [DISC_SPACING_MM.get(int(number), 1.0) for number in every[:-1]]
    expected = np.r_[0.0, np.cumsum(steps)]
    every_place = np.interp(expected, expected[numbers - numbers.min()], places)
    inside = np.interp(arcs, every_place, every)
    first, last = (
        max(float(ends[1] - ends[0]), 1e-6) for ends in (every_place[:2], every_place[-2:])
    )
    above = np.minimum(arcs - places[0], 0) / first
    below = np.maximum(arcs - places[-1], 0) / last
    return np.where(np.maximum(-above, below) <= DISC_REACH, inside + above + below, np.nan)


def located_level(located: np.ndarray, affine: np.ndarray, *, points: np.ndarray) -> np.ndarray:
    """Return the locator's level beside each world point; 0 where there is no canal beside it.

    That is farther than 15 mm from the canal, or more than 5 mm above or below its ends.

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
    inside = to_world(canal, affine)
    distance, nearest = cKDTree(inside).query(points)
    beyond = np.abs((points - inside[nearest]) @ principal_axis(inside))
    levels = located[tuple(canal[nearest].T)].astype(int)
    return np.where((distance <= _NEAR_CANAL_MM) & (beyond <= _BEYOND_CANAL_MM), levels, 0)


def shift_from_pmj(
    midpoints: Mapping[int, float], distance_from: float, *, priors: AnatomicalPriors
) -> Shift:
    """Return the shift that the distances of the levels from the PMJ speak for.

    Model: a subject's distances are the published means times a common scale, plus a common and an
    own error; see :class:`~sct_rootlets_task.levels.anatomical_priors.AnatomicalPriors`.

    Parameters
    ----------
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
    distance_from : float
        Arc length of the PMJ in mm.
    priors : AnatomicalPriors
        Those of the task, with distances from the PMJ.
    """
    levels = sorted(midpoints)
    found = np.array([midpoints[level] for level in levels]) - distance_from
    costs = {}
    for shift in _shifts(levels[0]):
        expected = np.array([priors.midpoint_below_pmj(level + shift) for level in levels])
        scaled = np.outer(expected, expected) * priors.pmj_scale_sd**2
        shared = scaled + priors.pmj_shared_sd_mm**2
        costs[shift] = _gaussian_cost(found - expected, shared, priors.pmj_own_sd_mm)
    own = np.array([priors.midpoint_below_pmj(level) for level in levels])
    offset = -float(np.mean(found - own)) / priors.typical_spacing_mm[0]
    return _best_shift("PMJ", costs, offset)


def shift_from_discs(
    midpoints: Mapping[int, float],
    line: Centerline,
    *,
    discs: Mapping[int, np.ndarray],
    priors: AnatomicalPriors,
) -> Shift | None:
    """Return the shift that the places of the levels between the discs speak for.

    Levels beyond the reach of the discs have no say; None where fewer than two are within it.

    Parameters
    ----------
    midpoints : mapping of int to float
        Arc length of each level's midpoint in mm.
    line : Centerline
        Centerline of the cord.
    discs : mapping of int to ndarray of float, shape (3,)
        Discs as :func:`disc_points` gives them.
    priors : AnatomicalPriors
        Those of the task, with places between the discs.
    """
    levels = sorted(midpoints)
    found = disc_coordinates(line, discs, arcs=np.array([midpoints[level] for level in levels]))
    levels = [level for level, place in zip(levels, found, strict=True) if np.isfinite(place)]
    found = found[np.isfinite(found)]
    if len(levels) < FEWEST_LEVELS:
        return None
    costs, residuals = {}, {}
    for shift in _shifts(levels[0]):
        residual = found - np.array([priors.disc_coordinate(level + shift) for level in levels])
        residuals[shift] = residual
        shared = np.full((len(levels),) * 2, priors.disc_shared_sd**2)
        costs[shift] = _gaussian_cost(residual, shared, priors.disc_own_sd)
    return _best_shift("discs", costs, -float(np.mean(residuals[0])))


def shift_from_located(differences: np.ndarray, *, first: int = MOST_SHIFT + 1) -> Shift | None:
    """Return the shift that the locator speaks for; None where it sees fewer than two levels.

    Parameters
    ----------
    differences : ndarray of float, shape (n,)
        For each level of the segmentation, the mean level of the locator beside it minus the label.
    first : int
        The uppermost of these levels; no shift may put it above C1.
    """
    if len(differences) < FEWEST_LEVELS:
        return None
    shared = np.full((len(differences),) * 2, _LOCATED_SHARED_SD**2)
    costs = {
        shift: _gaussian_cost(differences - shift, shared, _LOCATED_OWN_SD)
        for shift in _shifts(first)
    }
    return _best_shift("locator", costs, -float(np.mean(differences)))


def _shifts(first: int) -> list[int]:
    """Return the shifts that do not put the uppermost level above C1."""
    return [shift for shift in _SHIFTS if shift == 0 or first + shift >= 1]


def _gaussian_cost(residual: np.ndarray, shared: np.ndarray, own_sd: float) -> float:
    """Return the negative log-likelihood of residuals with shared and own errors, in nats."""
    covariance = shared + np.eye(len(residual)) * own_sd**2
    _, log_determinant = np.linalg.slogdet(covariance)
    return float(residual @ np.linalg.solve(covariance, residual) + log_determinant) / 2


def _best_shift(source: str, costs: Mapping[int, float], offset: float) -> Shift:
    best = min(costs, key=lambda shift: costs[shift])
    return Shift(source, best, costs[0] - costs[best], offset)
