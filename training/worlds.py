"""Volumes whose canal levels are known, from which training patches of the locator are cut.

A *world* is an image with, for each voxel, the class the locator should give it: 0 outside the
spinal canal, 1 above C2, 2 (C2) to 9 (T1), 10 below T1, and :data:`UNKNOWN` where nobody can tell.
Three kinds are made: the PAM50 template, real images with a cord mask and two vertebral landmarks,
and the package's own synthetic sample. A *negative* is an image without any cervical level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

VOXEL_MM = 1.5
ABOVE, BELOW, UNKNOWN = 1, 10, 255
PAM50_BORDERS = (975, 944.5, 904.5, 874, 842.5, 810.5, 778, 743.5, 700)
"""Slices of PAM50 (0.5 mm) between above | C2 | C3 … T1 | below: the gaps between its rootlets."""
PAM50_C2, PAM50_T2 = 923.0, 669.5
"""Slices of PAM50 at the landmarks of the vertebrae C2 and T2."""
CANAL_RADIUS_MM = 8.0


@dataclass(frozen=True, eq=False)
class World:
    """An image and its classes.

    Parameters
    ----------
    image : ndarray of float32, shape (z, y, x)
        Intensities at 1.5 mm, axes upwards, forwards and to the right; 1 is bright.
    classes : ndarray of uint8, shape (z, y, x)
        See the module.
    negative : bool
        Whether no cervical level is in the image; then only that is known.
    """

    image: np.ndarray
    classes: np.ndarray
    negative: bool = False


def classes_of_slices(slices: np.ndarray) -> np.ndarray:
    """Return the class of the canal at slices of PAM50 (float array, any shape)."""
    return ABOVE + np.sum(slices[..., None] < np.array(PAM50_BORDERS), axis=-1)


def pam50(data: Path) -> World:
    """Return the template: its T2 average, and cord and CSF as the canal."""
    import nibabel as nib
    from nibabel.processing import resample_from_to

    canal = sum(_canonical(data / "pam50" / f"PAM50_{part}.nii.gz") for part in ("cord", "csf"))
    reference = nib.as_closest_canonical(nib.load(data / "pam50" / "PAM50_cord.nii.gz"))
    small = nib.as_closest_canonical(nib.load(data / "pam50_small" / "PAM50_small_t2.nii.gz"))
    t2 = resample_from_to(small, reference, order=1).get_fdata(dtype=np.float32)
    every = (slice(None, None, 3), slice(None, None, 3), slice(300, 990, 3))
    slices = np.arange(300, 990, 3, dtype=float)
    classes = classes_of_slices(slices)[None, None] * (canal[every] > 0.5)
    return World(_scaled(t2[every]), _zyx(classes.astype(np.uint8)))


def real(data: Path, subject: str) -> World:
    """Return a real image; levels by arc length between the landmarks of vertebrae C2 and T2."""
    from scipy.spatial import cKDTree

    stem = data / "t2w" / f"sub-{subject}_T2w"
    image = _canonical(stem.with_name(f"{stem.name}.nii.gz"))
    cord = _canonical(stem.with_name(f"{stem.name}_label-SC_mask.nii.gz")) > 0
    marks = _canonical(stem.with_name(f"{stem.name}_landmarks-C2T2.nii.gz"))
    line = _centre_line(cord)
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    arc = np.concatenate([[0], np.cumsum(steps)])
    c2, t2 = (
        arc[np.linalg.norm((line - np.argwhere(marks == value)[0])[:, 1:], axis=1).argmin()]
        for value in (2, 9)
    )
    slices = PAM50_T2 + (arc - t2) / (c2 - t2) * (PAM50_C2 - PAM50_T2)
    grid = [np.arange(0, size, VOXEL_MM) for size in image.shape]
    places = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
    distance, nearest = cKDTree(line).query(places.reshape(-1, 3), workers=2)
    classes = np.where(distance < CANAL_RADIUS_MM, classes_of_slices(slices[nearest]), 0)
    beyond = (nearest == 0) | (nearest == len(line) - 1)
    classes = np.where(beyond, UNKNOWN, classes).reshape(places.shape[:3])
    return World(_at_training_size(image), _zyx(classes.astype(np.uint8)))


def synthetic(seed: int) -> World:
    """Return the package's synthetic sample; borders halfway between neighbouring rootlets."""
    from scipy.ndimage import distance_transform_edt

    from sct_rootlets_task.sample import make_sample

    sample = make_sample(seed)
    ends = [np.flatnonzero((sample.levels == level).any(axis=(0, 1))) for level in range(2, 10)]
    between = [(u[0] + lower[-1]) / 2 for u, lower in pairwise(ends)]
    borders = np.array([ends[0][-1] + 2, *between, ends[-1][0] - 2])
    slices = np.arange(sample.data.shape[2])
    classes = ABOVE + np.sum(slices[:, None] < borders, axis=1)
    canal = distance_transform_edt(~sample.cord) < 4.5
    at = tuple(np.arange(0, size, VOXEL_MM).astype(int) for size in sample.data.shape)
    small = (classes[None, None] * canal)[np.ix_(*at)]
    return World(_at_training_size(sample.data.astype(np.float32)), _zyx(small.astype(np.uint8)))


def negative(path: Path) -> World:
    """Return an image of another part of the spine."""
    import nibabel as nib
    from nibabel.processing import resample_to_output

    image = nib.as_closest_canonical(nib.load(path))
    small = resample_to_output(image, (VOXEL_MM,) * 3, order=1).get_fdata(dtype=np.float32)
    return World(_scaled(small), np.full(small.shape[::-1], UNKNOWN, np.uint8), negative=True)


def _centre_line(cord: np.ndarray) -> np.ndarray:
    """Return points (x, y, z) every 0.25 voxel along the cord, 10 mm beyond the mask too."""
    from scipy.ndimage import gaussian_filter1d

    present = np.flatnonzero(cord.any(axis=(0, 1)))
    middle = np.array([np.argwhere(cord[:, :, z]).mean(axis=0) for z in present])
    middle = gaussian_filter1d(middle, 4, axis=0)
    z = np.arange(present[0] - 10, present[-1] + 10, 0.25)
    columns = [_extended(z, present, middle[:, axis]) for axis in (0, 1)]
    return np.stack([*columns, z], axis=1)


def _extended(z: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate, and go on straight beyond both ends."""
    first, last = (
        np.polyfit(known[part], values[part], 1) for part in (slice(12), slice(-12, None))
    )
    inside = np.interp(z, known, values)
    below, above = z < known[0], z > known[-1]
    return np.where(below, np.polyval(first, z), np.where(above, np.polyval(last, z), inside))


def _at_training_size(image: np.ndarray) -> np.ndarray:
    """Return an image of 1 mm voxels as an array (z, y, x) at the training voxel size."""
    from scipy.ndimage import map_coordinates

    grid = np.meshgrid(*[np.arange(0, n, VOXEL_MM) for n in image.shape], indexing="ij")
    return _scaled(map_coordinates(image, grid, order=1, mode="nearest"))


def _canonical(path: Path) -> Any:
    import nibabel as nib

    return nib.as_closest_canonical(nib.load(path)).get_fdata(dtype=np.float32)


def _scaled(image: np.ndarray) -> np.ndarray:
    top = np.percentile(image, 99.5)
    return _zyx(np.clip(image / top, 0, 1.3).astype(np.float32))


def _zyx(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(2, 1, 0))


def all_worlds(data: Path, subjects: tuple[str, ...], seeds: range) -> list[World]:
    """Return every world: the template, the subjects, the synthetic ones and the negative."""
    makers: list[Callable[[], World]] = [lambda: pam50(data)]
    makers += [lambda subject=subject: real(data, subject) for subject in subjects]
    makers += [lambda seed=seed: synthetic(seed) for seed in seeds]
    makers.append(lambda: negative(data / "other" / "lumbar_T2w.nii.gz"))
    return [make() for make in makers]
