"""The PAM50 template as fields that can be carried into other images.

PAM50: De Leener et al. 2018 (doi:10.1016/j.neuroimage.2017.10.041). Arrays here have the axes
(z, y, x): upwards, forwards, to the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VOXEL_MM = 0.5
C1, FIRST_LEVEL = 1, 2
"""Level of rootlets that are painted but not to be found, and the first to be found."""
ABOVE, BELOW, UNKNOWN = 1, 10, 255
"""Classes of the canal above C2 and below T1; and the mark of unknown voxels."""
BORDERS = (975, 944.5, 904.5, 874, 842.5, 810.5, 778, 743.5, 700)
"""Slices between above | C2 | C3 … T1 | below: the middles of the gaps between the rootlets."""
VERTEBRA_C2, VERTEBRA_T2 = 923.0, 669.5
"""Slices at the landmarks of these vertebrae."""
C1_ABOVE_C2 = 18
"""Slices by which C2's rootlets are raised to stand for those of C1, which the template does not
have: from 951–966 to 969–984, its spinal level C1 being 970–984."""
DISCS = (908, 871, 834, 801, 770, 736, 693, 647)
"""Slices of the discs C2/C3 to T2/T3."""
TISSUES = ("cord", "csf", "gm", "rootlets")


@dataclass(frozen=True, eq=False)
class Template:
    """PAM50.

    Parameters
    ----------
    image : ndarray of float32, shape (z, y, x)
        T2-weighted average; 1 is bright.
    tissues : ndarray of float32, shape (4, z, y, x)
        Share of each of :data:`TISSUES`, 0 to 1.
    levels : ndarray of uint8, shape (z, y, x)
        Level of the rootlets, 2 to 9; 1 for copies of C2's that stand for those of C1.
    """

    image: np.ndarray
    tissues: np.ndarray
    levels: np.ndarray

    def line(self, *names: str) -> np.ndarray:
        """Return the middle (y, x) of some tissues in each slice, shape (z, 2), in voxels."""
        chosen = self.tissues[[TISSUES.index(name) for name in names]].sum(axis=0)
        return middles(chosen)


def classes_of_slices(slices: np.ndarray) -> np.ndarray:
    """Return the class of the canal at slices of PAM50 (float array of any shape)."""
    return ABOVE + np.sum(slices[..., None] < np.array(BORDERS), axis=-1)


def load_template(data: Path) -> Template:
    """Read the template; `data` holds the folders ``pam50`` and ``pam50_small``."""
    import nibabel as nib
    from nibabel.processing import resample_from_to

    parts = {name: canonical(data / "pam50" / f"PAM50_{name}.nii.gz") for name in TISSUES}
    small = nib.as_closest_canonical(nib.load(data / "pam50_small" / "PAM50_small_t2.nii.gz"))
    image = resample_from_to(small, parts["cord"], order=1)
    levels = to_zyx(parts["rootlets"].get_fdata(dtype=np.float32)).astype(np.uint8)
    levels = with_c1(levels)
    fields = [to_zyx(parts[name].get_fdata(dtype=np.float32)) for name in TISSUES]
    fields[-1] = (levels > 0).astype(np.float32)
    return Template(
        scaled(to_zyx(image.get_fdata(dtype=np.float32))), np.clip(np.stack(fields), 0, 1), levels
    )


def with_c1(levels: np.ndarray) -> np.ndarray:
    """Return the levels of rootlets (z, y, x) with copies of C2's, as C1, above them."""
    raised = np.roll(levels == FIRST_LEVEL, C1_ABOVE_C2, axis=0)
    raised[:C1_ABOVE_C2] = False
    return np.where(raised & (levels == 0), np.uint8(C1), levels)


def middles(field: np.ndarray) -> np.ndarray:
    """Return the smoothed center of mass (y, x) of each slice, interpolated where it is empty."""
    from scipy.ndimage import gaussian_filter1d

    mass = field.sum(axis=(1, 2))
    present = np.flatnonzero(mass > 0.02 * mass.max())
    columns = []
    for axis in (1, 2):
        places = np.arange(field.shape[axis])
        center = (field.sum(axis=3 - axis) @ places)[present] / mass[present]
        columns.append(np.interp(np.arange(len(mass)), present, center))
    return gaussian_filter1d(np.stack(columns, axis=1), 5, axis=0)


def canonical(path: Path) -> Any:
    """Return an image with the axes right, forwards, up."""
    import nibabel as nib

    return nib.as_closest_canonical(nib.load(path))


def to_zyx(array: np.ndarray) -> np.ndarray:
    """Return an array (x, y, z) with the axes (z, y, x)."""
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def scaled(image: np.ndarray) -> np.ndarray:
    """Return intensities with the 99.5th percentile at 1, between 0 and 1.3."""
    return np.clip(image / np.percentile(image, 99.5), 0, 1.3).astype(np.float32)
