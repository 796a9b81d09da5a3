"""Small synthetic volumes of any orientation and voxel size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def affine_of(axcodes: str, zooms: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Return the affine of a grid whose axes go to `axcodes` (nibabel's letters)."""
    from nibabel.orientations import axcodes2ornt

    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(axcodes2ornt(axcodes)):
        affine[int(world), axis] = sign * zooms[axis]
    affine[:3, 3] = (-7.5, 11.0, 3.25)
    return affine


def smooth_noise(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Return positive, spatially smooth intensities (float32)."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).standard_normal(tuple(shape))
    smooth = gaussian_filter(noise, 1.5)
    return ((smooth - smooth.min()) * 1000).astype(np.float32)


def write_image(
    path: Path,
    data: np.ndarray | None = None,
    *,
    axcodes: str = "RAS",
    zooms: Sequence[float] = (1.0, 1.0, 1.0),
    header: Any = None,
) -> Path:
    """Write a NIfTI image with equal sform and qform (code 1) and return its path."""
    import nibabel as nib

    data = smooth_noise((30, 26, 34)) if data is None else data
    image = nib.Nifti1Image(data, affine_of(axcodes, zooms), header)
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path
