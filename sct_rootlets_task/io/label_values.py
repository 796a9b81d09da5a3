"""What values of label files and masks mean, one rule for all of them.

Labels are whole numbers. Files that scale integers hold them but for rounding, and so do copies of
such files. A mask may be one of probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

WHOLE_TOLERANCE = 0.009
"""Distance from a whole number that is rounding in any file.

A copy of a scaled file as floats keeps its rounding, but not its scale.
"""

_ROUNDING = 1e-4
_HALF = 0.5
_WIDE_STEP = 0.45
_MOST = 0.49


def tolerance(step: float) -> float:
    """Return how far from a whole number a label may lie.

    Parameters
    ----------
    step : float
        Distance of two neighboring values in the file, its ``scl_slope``; 0 where it is not known.

    Returns
    -------
    float
        The step; half of it where two whole numbers would else be as near. Steps of 1 and more
        need no rounding.
    """
    if step >= 1:
        return WHOLE_TOLERANCE
    rounding = step if step < _WIDE_STEP else step / 2
    return min(max(rounding + _ROUNDING, WHOLE_TOLERANCE), _MOST)


def step_of(image: Any) -> float:
    """Return the distance of two neighboring values of a nibabel image.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        An image whose voxels nibabel has yet to read, or one whose ``extra`` tells the step.

    Returns
    -------
    float
        0 where it is not known.
    """
    stored = image.dataobj
    if hasattr(stored, "slope") and image.get_data_dtype().kind in "iu":
        return abs(float(stored.slope))
    return float((getattr(image, "extra", None) or {}).get("step", 0.0))


def inside_mask(mask: np.ndarray) -> np.ndarray:
    """Return which voxels of a mask are inside: those above 0.5.

    Parameters
    ----------
    mask : ndarray
        Numbers or probabilities of any shape; not-a-number is outside.

    Returns
    -------
    ndarray of bool, same shape
    """
    return mask > _HALF


def relabel(labels: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Replace each value of a label array according to a table.

    All values are read before any is written, so ``{2: 3, 3: 2}`` swaps. Values that the table
    does not name become 0.

    Parameters
    ----------
    labels : ndarray of int, any shape
        Label array; not modified.
    mapping : mapping of int to int
        Old value → new value, both 0–255.

    Returns
    -------
    ndarray of uint8, same shape

    Examples
    --------
    >>> relabel(np.array([0, 2, 3, 7]), {2: 3, 3: 2}).tolist()
    [0, 3, 2, 0]
    """
    table = np.zeros(256, dtype=np.uint8)
    for old, new in mapping.items():
        table[old] = new
    table[0] = mapping.get(0, 0)
    return table[labels]


def count_levels(labels: np.ndarray) -> dict[int, int]:
    """Return the number of voxels of each level present in a label array (0 left out)."""
    values, counts = np.unique(labels[labels != 0], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}
