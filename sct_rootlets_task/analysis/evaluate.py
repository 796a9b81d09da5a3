"""How far a level map agrees with a reference: overlap, volumes, surfaces, places.

The surface of a mask is its voxels with one of the six neighbors outside. Distances run from the
middle of a voxel to that of the nearest one in the other surface, as in MedPy 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.rootlets.centerline import Centerline, line_through_rootlets
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import (
    level_map,
    require_labels,
    require_same_grid,
    to_world,
    voxel_volume,
)

ALL, MEAN = "all", "mean"
_ENDS = (2, 98)
_HD_PERCENT = 95


@dataclass(frozen=True)
class Agreement:
    """Agreement of one level, of all rootlets without regard to level, or the mean over levels.

    Parameters
    ----------
    level : str
        Name of the level; ``all`` for all rootlets as one structure; ``mean`` for the mean over the
        levels of the reference, in which a level that was not found counts as a Dice of 0 and is
        left out of the distances.
    dice : float
        Dice coefficient, 0 to 1; nan if neither has the level.
    volume_mm3, reference_mm3 : float
    volume_difference_percent : float
        (volume − reference) / reference; nan without reference.
    hd95_mm, surface_distance_mm : float
        95th percentile of the symmetric surface distances, and their mean; nan if either is empty.
    midpoint_error_mm : float
        Distance of the midpoints along the centerline of the reference's rootlets, positive if
        the level lies too far down. A midpoint is halfway between the 2nd and the 98th percentile
        of its voxels' arc lengths.
    detection : str
        ``both``, ``missed`` (only in the reference), ``extra`` (only in the result) or ``neither``.
    """

    level: str
    dice: float
    volume_mm3: float
    reference_mm3: float
    volume_difference_percent: float
    hd95_mm: float
    surface_distance_mm: float
    midpoint_error_mm: float
    detection: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; figures that do not exist are None."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


COLUMNS: Mapping[str, str] = {
    "level": "Name of the level; all: all rootlets as one structure; mean: mean over the levels.",
    "dice": "Dice coefficient, 0 to 1.",
    "volume_mm3": "Volume of the level map's rootlets in mm³.",
    "reference_mm3": "Volume of the reference in mm³.",
    "volume_difference_percent": "(volume − reference) / reference, in percent.",
    "hd95_mm": "95th percentile of the symmetric distances of the surfaces, in mm.",
    "surface_distance_mm": "Mean of the symmetric distances of the surfaces, in mm.",
    "midpoint_error_mm": (
        "Distance of the level's midpoints along the cord in mm, positive if it lies too far down."
    ),
    "detection": (
        "both, missed (only in the reference), extra or neither. In the row mean: "
        "missed if any level is, else both."
    ),
}
"""Columns of the table of agreement."""


def compare(
    labels: np.ndarray, reference: np.ndarray, affine: np.ndarray, *, name: str = "the reference"
) -> tuple[Agreement, ...]:
    """Compare a level map with a reference.

    Parameters
    ----------
    labels, reference : ndarray of int, shape (i, j, k)
        Level maps; 0 is background.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm, of both.
    name : str
        What messages call the reference.

    Returns
    -------
    tuple of Agreement
        One for each level in either map, then ``all`` and ``mean``.

    Raises
    ------
    ImageError
        If the maps differ in shape, or the reference is empty.
    """
    if labels.shape != reference.shape:
        raise ImageError(
            f"Expected two maps of one grid, found the shapes {labels.shape} and "
            f"{reference.shape}. Resample one onto the grid of the other."
        )
    require_labels(reference, name)
    box = _box((labels > 0) | (reference > 0))
    labels, reference = labels[box], reference[box]
    corner = affine.copy()
    corner[:3, 3] = affine[:3] @ [*(part.start for part in box), 1]
    line = line_through_rootlets(to_world(voxels_of(reference), corner))
    values = sorted((set(np.unique(labels)) | set(np.unique(reference))) - {0})
    levels = [
        _agreement(value_name(int(value)), labels == value, reference == value, corner, line)
        for value in values
    ]
    return (*levels, _agreement(ALL, labels > 0, reference > 0, corner), _mean(levels))


def compare_images(image: Any, reference: Any) -> tuple[Agreement, ...]:
    """Compare two level maps given as nibabel images.

    See :func:`sct_rootlets_task.analysis.evaluate.compare`.
    """
    labels, other = level_map(image), level_map(reference)
    other = require_same_grid(
        labels, image.affine, other=other, other_affine=reference.affine, name="reference"
    )
    file = reference.get_filename()
    name = f"reference {file}" if file else "reference"
    return compare(labels, other, image.affine, name=f"the {name}")


def _agreement(
    name: str,
    found: np.ndarray,
    wanted: np.ndarray,
    affine: np.ndarray,
    line: Centerline | None = None,
) -> Agreement:
    """Compare two masks; along a line, where there is one, their midpoints too."""
    voxel, spacing = voxel_volume(affine), np.linalg.norm(affine[:3, :3], axis=0)
    volume, reference = float(found.sum() * voxel), float(wanted.sum() * voxel)
    dice = hd95 = surface = change = error = math.nan
    if volume or reference:
        dice = float(2 * np.count_nonzero(found & wanted) / (found.sum() + wanted.sum()))
    if reference:
        change = 100 * (volume - reference) / reference
    if volume and reference:
        both = _surface_distances(found, wanted, spacing)
        hd95, surface = float(np.percentile(both, _HD_PERCENT)), float(both.mean())
        if line:
            middle = [_midpoint(mask, line, affine) for mask in (found, wanted)]
            error = float(middle[0] - middle[1])
    detections = {(True, True): "both", (False, True): "missed", (True, False): "extra"}
    detection = detections.get((volume > 0, reference > 0), "neither")
    return Agreement(name, dice, volume, reference, change, hd95, surface, error, detection)


def _midpoint(mask: np.ndarray, line: Centerline, affine: np.ndarray) -> float:
    arcs = line.project(to_world(voxels_of(mask), affine))[:, 0]
    return float(np.percentile(arcs, _ENDS).mean())


def _surface_distances(
    first: np.ndarray, second: np.ndarray, spacing: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Return how far each surface voxel of two masks lies from the other's surface, in mm."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    one, other = (mask & ~binary_erosion(mask) for mask in (first, second))
    to_one, to_other = (distance_transform_edt(~edge, sampling=spacing) for edge in (one, other))
    return np.concatenate((to_other[one], to_one[other]))


def _mean(levels: Sequence[Agreement]) -> Agreement:
    """Return the mean over the levels of the reference; errors of midpoints without their sign."""
    wanted = [item for item in levels if item.detection in ("both", "missed")]
    both = [item for item in wanted if item.detection == "both"]

    def mean(items: Sequence[Agreement], name: str) -> float:
        figures = [abs(getattr(item, name)) for item in items]
        return float(np.mean(figures)) if figures else math.nan

    sizes = ("dice", "volume_mm3", "reference_mm3", "volume_difference_percent")
    distances = ("hd95_mm", "surface_distance_mm", "midpoint_error_mm")
    figures = {name: mean(wanted, name) for name in sizes}
    figures |= {name: mean(both, name) for name in distances}
    detection = "both" if len(both) == len(wanted) else "missed"
    return Agreement(level=MEAN, detection=detection, **figures)


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the part of an array that holds a mask, a voxel wider."""
    where = voxels_of(mask)
    low, high = np.maximum(where.min(axis=0) - 1, 0), where.max(axis=0) + 2
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
