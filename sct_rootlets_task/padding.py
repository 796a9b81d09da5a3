"""Borders of one value, which padding and resampling tools leave around what a scanner saw.

Zeros are not looked for: nnU-Net's recipe takes slices of zeros for the outside, and a background
of zeros is as common as it is harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FACE_SHARE = 0.1
"""Share of a face of the image that a value has to cover to count as padding."""
EXTREME = 0.05
"""Distance from the darkest or brightest tissue that counts as near it, as a share of the range."""
_BLUR_VOXELS = 4
"""Interpolation mixes padding with the image over no more voxels than this."""


@dataclass(frozen=True, eq=False)
class Padding:
    """What of an image is padding.

    Parameters
    ----------
    values : tuple of float
        Values of the padding, in ascending order.
    box : tuple of slice
        Smallest box (i, j, k) that holds all the rest.
    outside : ndarray of bool, shape (i, j, k)
        Padding that does not look like the darkest or brightest tissue. Interpolated voxels next
        to it belong to it where their value tells.
    bright : bool
        Whether there is padding inside the box that looks like the brightest tissue. It may be a
        background, and is not part of `outside`.
    """

    values: tuple[float, ...]
    box: tuple[slice, ...]
    outside: np.ndarray
    bright: bool = False


def find_padding(data: np.ndarray) -> Padding | None:
    """Return what of an image is padding; None if nothing is.

    Padding is a region of one value other than 0 that fills at least :data:`FACE_SHARE` of a face,
    as noise does not.

    Parameters
    ----------
    data : ndarray of float32, shape (i, j, k)
        Finite intensities.
    """
    regions = {value: _region(data, value) for value in sorted(_solid_values(data))}
    regions = {value: region for value, region in regions.items() if _covers_a_face(region)}
    if not regions:
        return None
    padding = np.logical_or.reduce(list(regions.values()))
    rest = _well_inside(padding)
    if not rest.any():
        return None
    tissue = _Tissue.of(data[rest])
    outside = np.zeros(data.shape, dtype=bool)
    for value, region in regions.items():
        if not (tissue.is_dark(value) or tissue.is_bright(value)):
            outside |= _with_blur(data, region, value, tissue)
    covered = padding | outside | _zero_faces(data)
    if covered.all():
        return None
    box = _bounding_box(~covered)
    left = (padding & ~outside)[box]
    bright = any(tissue.is_bright(v) and (left & regions[v][box]).any() for v in regions)
    return Padding(tuple(regions), box, outside, bright)


@dataclass(frozen=True)
class _Tissue:
    """Intensities that are not padding.

    Parameters
    ----------
    low, dark, light, high : float
        Their lowest value, their 0.5th and 99.5th percentile, and their highest value.
    """

    low: float
    dark: float
    light: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> _Tissue:
        low, dark, light, high = np.percentile(values, (0, 0.5, 99.5, 100))
        return cls(float(low), float(dark), float(light), float(high))

    @property
    def near(self) -> float:
        return EXTREME * (self.light - self.dark)

    def is_dark(self, value: float) -> bool:
        return abs(value - self.dark) <= self.near

    def is_bright(self, value: float) -> bool:
        return abs(value - self.light) <= self.near and not self.is_dark(value)

    def blurred_with(self, value: float, data: np.ndarray) -> np.ndarray:
        """Return which voxels lie between tissue and a value out of its range."""
        if value < self.dark:
            return data < max(self.low, (value + self.dark) / 2)
        if value > self.light:
            return data > min(self.high, (value + self.light) / 2)
        return np.zeros(data.shape, dtype=bool)


def _faces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield views of the six faces of an array, each of shape (n, m)."""
    for axis in range(3):
        for end in (0, -1):
            yield np.moveaxis(array, axis, 0)[end]


def _solid_values(data: np.ndarray) -> set[float]:
    """Return the values other than 0 that fill a part of a face of an image."""
    found: set[float] = set()
    for face in _faces(data):
        values, counts = np.unique(face[_solid(face) & (face != 0)], return_counts=True)
        found |= set(values[counts >= FACE_SHARE / 2 * face.size].tolist())
    return found


def _solid(face: np.ndarray) -> np.ndarray:
    """Return which voxels of a face have the value of all of their neighbors in it."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return np.asarray(minimum_filter(face, 3) == maximum_filter(face, 3))


def _region(data: np.ndarray, value: float) -> np.ndarray:
    """Return the voxels of a value that are connected with solid ones on a face."""
    from scipy.ndimage import label

    pieces, count = label(data == value)
    solid = np.zeros(count + 1, dtype=bool)
    for face, numbers in zip(_faces(data), _faces(pieces), strict=True):
        solid[numbers[_solid(face)]] = True
    solid[0] = False
    return solid[pieces]


def _covers_a_face(region: np.ndarray) -> bool:
    return any(face.mean() >= FACE_SHARE for face in _faces(region))


def _well_inside(padding: np.ndarray) -> np.ndarray:
    """Return voxels that are no padding, and not blurred with it where there are such."""
    from scipy.ndimage import binary_dilation

    clear = ~binary_dilation(padding, iterations=_BLUR_VOXELS)
    return np.asarray(clear if clear.any() else ~padding)


def _with_blur(data: np.ndarray, region: np.ndarray, value: float, tissue: _Tissue) -> np.ndarray:
    """Return a region with the voxels next to it that are interpolated between it and tissue."""
    from scipy.ndimage import binary_dilation

    mask = region | tissue.blurred_with(value, data)
    return np.asarray(binary_dilation(region, iterations=_BLUR_VOXELS, mask=mask))


def _zero_faces(data: np.ndarray) -> np.ndarray:
    """Return the zeros that are connected with a face of zeros."""
    if not any((face == 0).all() for face in _faces(data)):
        return np.zeros(data.shape, dtype=bool)
    return _region(data, 0.0)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box that holds all voxels of a mask."""
    box = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(present[0]), int(present[-1]) + 1))
    return tuple(box)
