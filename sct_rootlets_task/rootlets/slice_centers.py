"""The center of the cord in each axial slice, for pictures.

A :class:`~sct_rootlets_task.rootlets.centerline.Centerline` measures lengths along the cord and is
stiff. Pictures need a center in slices far beyond the rootlets too, and of maps with hardly any
rootlets: slices with rootlets on both sides count alone, and the line leans no more than a neck.
"""

from __future__ import annotations

import numpy as np

from sct_rootlets_task.rootlets.spline import smooth_spline

_BOTH_SIDES_MM, _SIDE_SHARE = 8.0, 0.25
# Chosen on three people and PAM50, whose cord masks show where the center is.
_WAVE_MM = 60.0
_END_MM = 5.0
# The neck bends forwards and backwards more than to the sides.
_LEAN = (0.3, 1.0)


def mask_center(mask: np.ndarray) -> np.ndarray:
    """Return the center of mass of each slice, in empty ones that of the slices around.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Mask with a voxel inside.

    Returns
    -------
    ndarray of float, shape (z, 2)
        Index (x, y) in each slice.
    """
    area = mask.sum(axis=(0, 1))
    present = np.flatnonzero(area)
    sums = [np.arange(mask.shape[axis]) @ mask.sum(axis=1 - axis) for axis in (0, 1)]
    slices = np.arange(mask.shape[2])
    means = [np.interp(slices, present, total[present] / area[present]) for total in sums]
    return np.stack(means, axis=1)


def rootlets_center(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return a smooth line between the left and the right rootlets, straight beyond them.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Rootlets, at least one voxel; axes right, anterior, superior.
    spacing : tuple of float
        Voxel sizes in mm.

    Returns
    -------
    ndarray of float, shape (z, 2)
        Index (x, y) in each slice, within the image.
    """
    x, y, z = np.nonzero(mask)
    order = np.argsort(z, kind="stable")
    present, first = np.unique(z[order], return_index=True)
    groups = np.split(order, first[1:])
    middles = np.array([_between_sides(x[group], spacing[0]) for group in groups])
    both = np.isfinite(middles)
    if not both.any():
        both, middles = ~both, np.array([x[group].mean() for group in groups])
    ahead = np.array([y[group].mean() for group in groups])
    heights = spacing[2] * np.arange(mask.shape[2])
    across = _line(heights[present[both]], spacing[0] * middles[both], heights, _LEAN[0])
    along = _line(heights[present], spacing[1] * ahead, heights, _LEAN[1])
    center = np.stack((across, along), axis=1) / spacing[:2]
    return np.clip(center, 0, np.array(mask.shape[:2]) - 1)


def _between_sides(x: np.ndarray, size: float) -> float:
    """Return the place between two groups of voxels far enough apart, else NaN."""
    left = x < (x.min() + x.max()) / 2
    share = left.mean()
    if np.ptp(x) * size < _BOTH_SIDES_MM or min(share, 1 - share) < _SIDE_SHARE:
        return np.nan
    return float(x[left].mean() + x[~left].mean()) / 2


def _line(known: np.ndarray, values: np.ndarray, heights: np.ndarray, lean: float) -> np.ndarray:
    """Return a smooth line at all heights; beyond the known ones it leans no more than said."""
    first, last = known[0], known[-1]
    end = min(_END_MM, last - first)
    inside = np.clip(heights, first, last)
    wanted = np.r_[inside, first, first + end, last - end, last]
    weights = np.ones(len(known))
    line = smooth_spline(known, values[:, None], weights, wave_mm=_WAVE_MM, wanted=wanted)[:, 0]
    lowest, low, high, highest = line[-4:]
    slopes = np.where(heights < first, low - lowest, highest - high) / (end or 1)
    return line[:-4] + np.clip(slopes, -lean, lean) * (heights - inside)
