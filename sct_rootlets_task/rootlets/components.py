"""Labeled voxels by their indices, and their connected components.

Rootlets are a few thousand voxels among millions, so an array of indices is much smaller than the
volume, and faster to work on.
"""

from __future__ import annotations

import numpy as np


def voxels_of(mask: np.ndarray) -> np.ndarray:
    """Return the indices of the voxels that are not zero, as :func:`numpy.argwhere` does.

    A flat search is many times faster than numpy's search in several dimensions, and images from
    nibabel are searched in the order in which they lie in memory.

    Parameters
    ----------
    mask : ndarray, shape (i, j, k)
        Any type; usually a mask or a level map.

    Returns
    -------
    ndarray of int, shape (n, 3)
        Rows in ascending order.
    """
    inside = mask if mask.dtype == bool else mask != 0
    if inside.flags.f_contiguous and not inside.flags.c_contiguous:
        turned = np.unravel_index(np.flatnonzero(inside.T), inside.shape[::-1])
        places = np.sort(np.ravel_multi_index(turned[::-1], inside.shape))
    else:
        places = np.flatnonzero(inside)
    return np.stack(np.unravel_index(places, inside.shape), axis=1)


def connected(voxels: np.ndarray) -> np.ndarray:
    """Return the number, from 0, of the 26-connected component that each voxel belongs to.

    Corners connect, since rootlets are thin and often touch at a corner alone.

    Parameters
    ----------
    voxels : ndarray of int, shape (n, 3)
        Voxel indices, each voxel once.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    from scipy.ndimage import label

    if not len(voxels):
        return np.zeros(0, dtype=int)
    low = voxels.min(axis=0)
    box = np.zeros(np.ptp(voxels, axis=0) + 1, dtype=bool)
    box[tuple((voxels - low).T)] = True
    components, _ = label(box, structure=np.ones((3, 3, 3)))
    return np.asarray(components[tuple((voxels - low).T)].astype(int) - 1)
