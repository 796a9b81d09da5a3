"""The unit of a header, and whether sizes in mm are those of a scan of a body."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.orientation import by

VOXEL_MM = (0.05, 15.0)
"""Smallest and largest voxel size: scans of specimens at 9.4 T, and thick slices."""

FIELD_OF_VIEW_MM = 3000.0
"""Longest side of an image: a whole body with room to spare."""

VOLUME_MM3 = 2e9
"""Largest volume of an image: whole bodies are scanned within half of it."""

FARTHEST_MM = 1e6
"""Farthest an image may lie from the origin; beyond, single precision loses tenths of a mm."""

_UNITS = {1: ("meters", 1000.0), 3: ("microns", 0.001)}
_UNIT_BITS = 0x07
_FLATTEST = 1e-3
_ROUNDING = 1e-3


def mm_per_unit(
    affine: np.ndarray, shape: Sequence[int], unit: int, path: Path
) -> tuple[float, tuple[str, ...]]:
    """Return how many mm the unit of an affine has, and what a user should know about it.

    Parameters
    ----------
    affine : ndarray of float, shape (4, 4)
        Voxel index to world, in the unit of the header.
    shape : sequence of int
        Voxels along each axis; the first three count.
    unit : int
        The header's ``xyzt_units``: 1 for meters, 2 for mm, 3 for microns, else not known.
    path : Path
        The file, for messages.

    Returns
    -------
    factor : float
        1000, 1 or 0.001. An unknown unit is mm, as for nibabel and SCT. Where the unit makes no
        body and mm does, the values are mm: a usual fault of writers.
    warnings : tuple of str

    Raises
    ------
    ImageError
        If the affine is not usable, or neither reading makes a body.
    """
    with np.errstate(all="ignore"):
        _check_affine(affine, path)
    name, factor = _UNITS.get(unit & _UNIT_BITS, ("mm", 1.0))
    wrong = _implausible(affine * factor, shape)
    if wrong is None and factor == 1:
        return factor, ()
    if wrong is None:
        return factor, (f"the header is in {name}; sizes and places are converted to mm.",)
    if factor != 1 and _implausible(affine, shape) is None:
        return 1.0, (f"the header says {name}, which makes {wrong}; its values are taken as mm.",)
    raise ImageError(
        f"Expected voxels of {VOXEL_MM[0]} to {VOXEL_MM[1]:g} mm and an image not larger than a "
        f"body, found {wrong} in {path} (unit of the header: {name}). Correct its voxel sizes, "
        "sform, qform and xyzt_units."
    )


def to_mm(affine: np.ndarray, factor: float) -> np.ndarray:
    """Return an affine (shape (4, 4)) in mm; its unit has `factor` of them."""
    if factor == 1:
        return np.asarray(affine)
    converted = np.array(affine, dtype=float)
    # Headers have single precision: 0.001 m becomes 1 mm and not 1.00000005 mm.
    converted[:3] = (converted[:3] * factor).astype(np.float32)
    return converted


def unit_of(header: Any) -> int:
    """Return ``xyzt_units`` of a header; 0 for a format that has none."""
    try:
        return int(header["xyzt_units"])
    except (KeyError, ValueError, TypeError, IndexError):
        return 0


def _check_affine(affine: Any, path: Path) -> None:
    matrix = np.full((4, 4), np.nan) if affine is None else np.asarray(affine, dtype=float)
    columns = matrix[:3, :3]
    sizes = np.linalg.norm(columns, axis=0)
    # Numbers so large or small that their products are none are caught by the first two.
    fine = np.isfinite(sizes).all() and np.isfinite(matrix).all() and (sizes > 1e-30).all()
    if not fine or abs(np.linalg.det(columns / sizes)) < _FLATTEST:
        raise ImageError(
            f"The orientation matrix of {path} is not usable ({matrix[:3].tolist()}). Repair its "
            "sform or qform first."
        )


def _implausible(affine: np.ndarray, shape: Sequence[int]) -> str | None:
    """Return what no scan of a body has; None for a plausible one."""
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    sides = sizes * np.array([*shape[:3], 1, 1, 1][:3], dtype=float)
    least, most = VOXEL_MM[0] * (1 - _ROUNDING), VOXEL_MM[1] * (1 + _ROUNDING)
    if sizes.min() < least or sizes.max() > most:
        return f"voxels of {by(sizes)} mm"
    if sides.max() > FIELD_OF_VIEW_MM or float(np.prod(sides)) > VOLUME_MM3:
        return f"an image of {by(sides)} mm"
    if np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        return f"an origin at {affine[:3, 3].tolist()} mm"
    return None
