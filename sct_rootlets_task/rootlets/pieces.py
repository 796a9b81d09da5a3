"""Pieces of labeled voxels that are one bundle each: components, cut by side and by level."""

from __future__ import annotations

from itertools import repeat

import numpy as np

from sct_rootlets_task.rootlets.components import connected
from sct_rootlets_task.rootlets.viterbi import cheapest_path

_STEP_MM = 1.0
_BORDER_MM = 2.0
_CUT_COST = 0.1
_BOTH_SIDES = 0.1


def find_pieces(voxels: np.ndarray, values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Return the number, from 0, of the piece that each voxel belongs to.

    Parameters
    ----------
    voxels : ndarray of int, shape (n, 3)
        Indices of labeled voxels.
    values : ndarray of uint8, shape (n,)
        Their levels.
    where : ndarray of float, shape (n, 3)
        Their arc lengths, and distances to the right and to the front of the centerline, in mm.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    sides = _cut_by_side(connected(voxels), where[:, 1])
    levels = _cut_by_level(sides, values, where[:, 0])
    return np.unique(levels, return_inverse=True)[1].reshape(-1)


def _cut_by_side(component: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number the halves of components that reach over to the other side of the cord."""
    if not len(component):
        return component
    count = np.bincount(component)
    on_right = np.bincount(component, weights=right > 0) / np.maximum(count, 1)
    # A few voxels across the middle are the fit's inaccuracy, not a bundle of the other side.
    both = (on_right >= _BOTH_SIDES) & (on_right <= 1 - _BOTH_SIDES)
    return component * 2 + (both[component] & (right > 0))


def _cut_by_level(piece: np.ndarray, values: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Number the parts of pieces in which one level follows another along the cord."""
    owner = piece * 256
    order = np.argsort(piece, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1):
        if len(members) and np.ptp(values[members]):
            owner[members] += _level_along(values[members], arcs[members])
    return owner


def _level_along(values: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Return the level of the stretch of cord that each voxel lies in.

    Slices of 1 mm along the cord get levels that never decrease, so that as few voxels as possible
    disagree; a change of level costs as much as a tenth of the piece disagreeing.
    """
    levels, which = np.unique(values, return_inverse=True)
    number = np.floor((arcs - arcs.min()) / _STEP_MM).astype(int)
    counts = np.zeros((number.max() + 1, len(levels)))
    np.add.at(counts, (number, which.ravel()), 1)
    disagree = counts.sum(axis=1, keepdims=True) - counts
    rank = np.arange(len(levels))
    change = _CUT_COST * len(values) * (rank[:, None] != rank)
    downwards = np.where(rank[:, None] > rank, np.inf, change)
    _, best = cheapest_path(disagree, repeat(downwards))
    found = levels[best][number]
    # The border between two bundles need not run along a slice: near it, voxels keep their level.
    for border in np.flatnonzero(np.diff(best)) + 1:
        near = np.abs(arcs - arcs.min() - border * _STEP_MM) <= _BORDER_MM
        either = np.isin(values, levels[best[[border - 1, border]]])
        found = np.where(near & either, values, found)
    return found
