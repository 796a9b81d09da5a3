"""A straight spinal canal along z, as a locator sees it, for tests."""

from __future__ import annotations

import numpy as np

from sct_rootlets_task.levels.located_canal import Canal, fit_intervals
from volumes import affine_of

CLASSES = {
    "background": 0,
    "above": 1,
    **{name: i for i, name in enumerate(["C2", "C3", "C4", "C5", "C6", "C7", "C8", "T1"], 2)},
    "below": 10,
}
SHAPE = (40, 20, 60)
DEEP = slice(3, 17)


def straight_canal(depth: slice = slice(8, 12)) -> np.ndarray:
    """Return a straight canal along z: above, C2, C3, C4, below, 12 mm each."""
    classes = np.zeros(SHAPE, np.uint8)
    for number, code in enumerate((10, 4, 3, 2, 1)):
        classes[17:23, depth, 12 * number : 12 * (number + 1)] = code
    return classes


def as_found(classes: np.ndarray, affine: np.ndarray | None = None) -> Canal:
    """Return the canal of some classes as they are, however thin it is."""
    affine = affine_of("RAS") if affine is None else affine
    return Canal(classes, affine, CLASSES, fit_intervals(classes, affine, CLASSES))
