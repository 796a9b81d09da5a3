"""Dorsal or ventral: which root a bundle belongs to, from its place beside the cord."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

ROOT_SLOPE = 0.6
"""How far forward (mm) a root runs for each mm outwards: between PAM50's dorsal roots, which start
beside the cord and run outwards and forwards, and its ventral ones."""

CORD_HALF_WIDTH_MM = 5.5
"""Half of PAM50's mean cord width between C2 and T1 (10–12 mm)."""

ROOT_BORDER_MM = 0.4
"""Border between dorsal and ventral in :func:`anterior_offset`. Means of PAM50's dorsal bundles are
−3.1 to −0.7 mm, those of its ventral ones 0.5 to 3.3 mm."""

_CLUSTERS_APART_MM = 2.0
_ROOTS_APART_MM = 3.0


def anterior_offset(right: np.ndarray, anterior: np.ndarray) -> np.ndarray:
    """Return how far in front of an average root's course points lie, in mm.

    Roots run outwards and forwards from the cord, the dorsal ones so far that they end in front of
    its center. Measured from a line of that slope instead of from the center, dorsal (negative)
    and ventral (positive) stay apart along their whole course.

    Parameters
    ----------
    right, anterior : ndarray of float, shape (n,)
        Distance to the right and to the front of the centerline in mm.
    """
    return anterior - ROOT_SLOPE * (np.abs(right) - CORD_HALF_WIDTH_MM)


def level_offsets(offsets: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return offsets after a slight turn that makes the two sides alike.

    The long axis of a nearly round section is known to some 10°, which lifts one side and lowers
    the other. The medians of the two sides (mostly dorsal roots, the larger ones) show by how much.

    Parameters
    ----------
    offsets, right : ndarray of float, shape (n,)
        :func:`anterior_offset` and distance to the right of each voxel, in mm.
    """
    on_right = right > 0
    if on_right.all() or not on_right.any():
        return offsets
    tilt = (np.median(offsets[on_right]) - np.median(offsets[~on_right])) / 2
    return offsets - np.where(on_right, tilt, -tilt)


def find_border(means: np.ndarray, sizes: np.ndarray, *, fixed: float | None) -> float | None:
    """Return the offset that separates dorsal from ventral bundles.

    Two clusters of bundles clearly apart give it themselves; else it is `fixed`.

    Parameters
    ----------
    means : ndarray of float, shape (n,)
        Mean offset of each bundle in mm.
    sizes : ndarray of int, shape (n,)
        Voxels of each bundle.
    fixed : float or None
        :data:`ROOT_BORDER_MM` for the centerline of a cord. One fitted to rootlets lies in the
        middle of whatever is there, so there is none.
    """
    if len(means) < 4:
        return fixed
    weights = np.sqrt(sizes)
    low, high = float(np.quantile(means, 0.1)), float(np.quantile(means, 0.9))
    for _ in range(20):
        upper = means > (low + high) / 2
        if upper.all() or not upper.any():
            return fixed
        low, high = (float(np.average(means[m], weights=weights[m])) for m in (~upper, upper))
    spread = np.sqrt(np.average((means - np.where(upper, high, low)) ** 2, weights=weights))
    return (low + high) / 2 if high - low > max(_CLUSTERS_APART_MM, 3 * spread) else fixed


def are_ventral(means: np.ndarray, places: Sequence[Hashable], border: float) -> list[bool]:
    """Say of each bundle whether it is ventral.

    Of two bundles in one place on the same side of the border, but far apart, the one near the
    border belongs to the other root.

    Parameters
    ----------
    means : ndarray of float, shape (n,)
        Mean offset of each bundle in mm.
    places : sequence
        Level and side of each bundle.
    border : float
        See :func:`find_border`.
    """
    ventral = [bool(mean > border) for mean in means]
    groups: dict[Hashable, list[int]] = {}
    for number, place in enumerate(places):
        groups.setdefault(place, []).append(number)
    for members in groups.values():
        first, last = (choose(members, key=means.__getitem__) for choose in (min, max))
        apart = means[last] - means[first] > _ROOTS_APART_MM
        if apart and ventral[first] == ventral[last]:
            for number in members:
                ventral[number] = bool(means[number] > (means[first] + means[last]) / 2)
    return ventral
