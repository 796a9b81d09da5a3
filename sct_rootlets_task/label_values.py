"""What values of label files and masks mean, one rule for all of them.

Labels are whole numbers. Files that scale integers hold them but for rounding, and so do copies of
such files. A mask may be one of probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NEAR = 0.009
"""Values this near to a whole number are that number in any file: a copy of a scaled file as floats
keeps its rounding, but not its scale."""

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
        return NEAR
    near = step if step < _WIDE_STEP else step / 2
    return min(max(near + _ROUNDING, NEAR), _MOST)


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
