"""Points and regions of label images: which voxels carry which value, and where one point is meant.

People click points, tools write small blobs, and resampling makes soft edges of both. What can be
read in one way only is read; the rest is refused.
"""

from __future__ import annotations

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.label_values import tolerance
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import to_world

SPOT_RADIUS_MM = 20.0
"""No voxel of a point's label lies farther from its middle: disc segmentations are the largest."""

_LEAST_SHARE, _MOST = 0.1, 0.5


def label_voxels(
    labels: np.ndarray, name: str, *, step: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the labeled voxels of an image of whole numbers, and their values.

    Values are rounded, see :func:`sct_rootlets_task.io.label_values.tolerance`.

    Parameters
    ----------
    labels : ndarray, shape (i, j, k)
        Any type; NaN and infinity count as 0.
    name : str
        What the image is, for messages.
    step : float
        Distance of two neighboring values in its file.

    Returns
    -------
    indices : ndarray of int, shape (n, 3)
        Voxels that are not 0.
    values : ndarray of int, shape (n,)
        Their values.

    Raises
    ------
    ImageError
        If the image is not 3-D, or a value is negative or no whole number.
    """
    if labels.ndim != 3:
        raise ImageError(f"Expected {name} of three dimensions, found {labels.ndim}.")
    away = tolerance(step)
    # What rounding made of 0 is left out first: it may be nearly all voxels.
    indices = voxels_of((labels > away) | (labels < -away))
    found = labels[tuple(indices.T)].astype(float)
    indices, found = indices[np.isfinite(found)], found[np.isfinite(found)]
    whole = np.round(found)
    wrong = found[(np.abs(found - whole) > away) | (whole < 0)]
    if wrong.size:
        raise ImageError(
            f"Expected whole numbers in {name}, found {wrong[0]:g}. Give labels, not a heat map; "
            "resample them with nearest-neighbor interpolation."
        )
    return indices[whole > 0], whole[whole > 0].astype(int)


def one_point(indices: np.ndarray, affine: np.ndarray, *, apart_mm: float, what: str) -> np.ndarray:
    """Return the world point, shape (3,), that the voxels of one label mean.

    Of pieces next to each other the mean is taken; pieces of less than a tenth of the voxels are
    left out, unless most are such.

    Parameters
    ----------
    indices : ndarray of int, shape (n, 3)
        Voxels of the label; at least one.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    apart_mm : float
        How far apart the middles of separate pieces may lie (at least two voxels).
    what : str
        What is labeled, for messages.

    Raises
    ------
    ImageError
        If the pieces lie farther apart, or are too large for a point.
    """
    piece = connected(indices)
    counts = np.bincount(piece)
    kept = counts[piece] >= _LEAST_SHARE * len(piece)
    if kept.mean() < _MOST:
        kept[:] = True
    points, piece = to_world(indices[kept], affine), piece[kept]
    sums = [np.bincount(piece, weights=axis, minlength=len(counts)) for axis in points.T]
    middles = (np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None])[np.unique(piece)]
    apart = float(np.linalg.norm(np.ptp(middles, axis=0)))
    if apart > max(apart_mm, 2 * np.linalg.norm(affine[:3, :3], axis=0).max()):
        raise ImageError(
            f"Expected one spot for {what}, found {len(middles)} up to {apart:.0f} mm apart. "
            "Remove the wrong ones from the file."
        )
    middle: np.ndarray = points.mean(axis=0)
    radius = float(np.linalg.norm(points - middle, axis=1).max())
    if radius > SPOT_RADIUS_MM + apart_mm:
        raise ImageError(
            f"Expected a point for {what}, found a region of {2 * radius:.0f} mm. Check that the "
            "right file was given."
        )
    return middle
