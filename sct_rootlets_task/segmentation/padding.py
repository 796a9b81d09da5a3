"""Padding: borders of one value that resampling and cropping tools add to an image.

Zeros are not searched for. nnU-Net takes them for the outside, so they do no harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

FACE_SHARE = 0.1
"""Share of a face of the image that a value has to cover to count as padding."""
EXTREME = 0.05
"""Padding this near to the darkest or brightest tissue looks like it, as a share of the range."""
FAR = 0.15
"""Padding this far beyond the range of tissue has a blurred edge, which is padding as well."""
RINGING = 0.03
"""Spline interpolation makes padding ring, by this share of the step to the image."""
BLUR_VOXELS = 4
"""It rings by more within this distance of the image."""
MIN_VOXELS = 1000
"""With fewer voxels that are not padding, tissue cannot be known, and no padding is reported."""
MIXED_SHARE = 0.1
"""Share of the voxels next to padding that are mixed with it where an image was interpolated."""


@dataclass(frozen=True, eq=False)
class Padding:
    """The padding of an image.

    Parameters
    ----------
    values : tuple of float
        Values of the padding, in ascending order.
    box : tuple of slice
        Smallest box (i, j, k) that holds all other voxels.
    outside : ndarray of bool, shape (i, j, k)
        Padding that looks neither like the darkest nor like the brightest tissue, with its
        blurred edge.
    bright : bool
        Whether the box holds padding that looks like the brightest tissue. It may be a background,
        and is not part of `outside`.
    """

    values: tuple[float, ...]
    box: tuple[slice, ...]
    outside: np.ndarray
    bright: bool = False

    @property
    def doubts(self) -> tuple[str, ...]:
        """What may still mislead a network that is shown no padding."""
        if not self.bright:
            return ()
        return (
            "a border of the image is of one bright value; it may be padding or a background, and "
            "was left. Look at the levels, or set it to 0.",
        )


def find_padding(data: np.ndarray) -> Padding | None:
    """Return the padding of an image, None if there is none.

    Padding is a region of one value other than 0 that fills at least :data:`FACE_SHARE` of a face;
    noise does not. A region as dark as the darkest tissue may be a background. It counts only where
    whole slices of it can be cut off.

    Parameters
    ----------
    data : ndarray of float32, shape (i, j, k)
        Finite intensities.
    """
    areas = _areas(data)
    if not areas:
        return None
    tissue = _Tissue.of(data[_well_inside(areas)])
    covered = _zeros_of_full_faces(data)
    outside, bright = np.zeros_like(covered), np.zeros_like(covered)
    for area in areas:
        region = _extent(data, area, tissue)
        covered |= region
        if tissue.is_bright(area.value):
            bright |= region
        elif not tissue.is_dark(area.value):
            outside |= region
    if covered.size - np.count_nonzero(covered) < MIN_VOXELS:
        return None
    box = _bounding_box(~covered)
    found = Padding(tuple(a.value for a in areas), box, outside, bool(bright[box].any()))
    whole = all(part == slice(0, n) for part, n in zip(box, data.shape, strict=True))
    return None if whole and not (outside.any() or found.bright) else found


@dataclass(frozen=True, eq=False)
class _Area:
    """Where an image may be padded with a value.

    Parameters
    ----------
    value : float
        The value.
    exact, loose : ndarray of bool, shape (i, j, k)
        Voxels of exactly, and of about, this value that are connected with a solid part of a face.
    """

    value: float
    exact: np.ndarray
    loose: np.ndarray


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

    def distance(self, value: float) -> float:
        """Return how far beyond the dark or light end a value is, as a share of the range."""
        beyond = max(self.dark - value, value - self.light, 0.0)
        return beyond / max(self.light - self.dark, 1e-9)

    def is_dark(self, value: float) -> bool:
        return abs(value - self.dark) <= EXTREME * (self.light - self.dark)

    def is_bright(self, value: float) -> bool:
        near = abs(value - self.light) <= EXTREME * (self.light - self.dark)
        return near and not self.is_dark(value)

    def is_mixed(self, value: float, data: np.ndarray) -> np.ndarray:
        """Return which voxels lie between tissue and a value far from it."""
        if value < self.dark:
            end = max(self.low, (value + self.dark) / 2)
            return np.asarray(data < end - EXTREME * (end - value))
        end = min(self.high, (value + self.light) / 2)
        return np.asarray(data > end + EXTREME * (value - end))


def _areas(data: np.ndarray) -> list[_Area]:
    """Return where an image may be padded, in ascending order of the values."""
    values = _solid_values(data)
    others = data[~np.isin(data, values)] if values else data[:0]
    areas: list[_Area] = []
    for value in values if others.size else ():
        step = float(np.abs(np.percentile(others, (10, 90)) - value).max())
        if any(abs(value - area.value) <= RINGING * step for area in areas):
            continue
        with np.errstate(over="ignore"):  # two values at the ends of float32 are infinitely apart
            loose = _region(np.abs(data - value) <= RINGING * step)
        if any(face.mean() >= FACE_SHARE for face in _faces(loose)):
            areas.append(_Area(value, _region(data == value), loose))
    return sorted(areas, key=lambda area: area.value)


def _solid_values(data: np.ndarray) -> list[float]:
    """Return the values other than 0 that fill a part of a face, the most frequent one first."""
    found: Counter[float] = Counter()
    for face in _faces(data):
        solid = _solid(face)
        values, counts = np.unique(face[solid & (face != 0)], return_counts=True)
        large = counts >= FACE_SHARE / 2 * face.size
        found.update(dict(zip(values[large].tolist(), counts[large].tolist(), strict=True)))
    return [value for value, _ in found.most_common()]


def _faces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield views of the six faces of an array, each of shape (n, m)."""
    for axis in range(3):
        for end in (0, -1):
            yield np.moveaxis(array, axis, 0)[end]


def _solid(face: np.ndarray) -> np.ndarray:
    """Return which voxels of a face have the value of all of their neighbors in it."""
    from scipy.ndimage import maximum_filter, minimum_filter

    return np.asarray(minimum_filter(face, 3) == maximum_filter(face, 3))


def _region(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of a mask that are connected with a solid part of a face."""
    from scipy.ndimage import label

    pieces, count = label(mask)
    kept = np.zeros(count + 1, dtype=bool)
    for face, numbers in zip(_faces(mask), _faces(pieces), strict=True):
        kept[numbers[face & _solid(face)]] = True
    return kept[pieces]


def _well_inside(areas: Sequence[_Area]) -> np.ndarray:
    """Return voxels that are not padding, nor mixed with it where there are such."""
    from scipy.ndimage import binary_dilation

    padding = np.logical_or.reduce([area.loose for area in areas])
    for mask in (binary_dilation(padding, iterations=BLUR_VOXELS), padding):
        if not mask.all():
            return np.asarray(~mask)
    return ~np.logical_or.reduce([area.exact for area in areas])


def _extent(data: np.ndarray, area: _Area, tissue: _Tissue) -> np.ndarray:
    """Return the voxels of an area: exactly its value, or far from tissue what it blurred into."""
    from scipy.ndimage import binary_dilation

    if tissue.distance(area.value) <= FAR:
        return area.exact
    mixed = tissue.is_mixed(area.value, data)
    region = binary_dilation(area.loose, iterations=BLUR_VOXELS, mask=area.loose | mixed)
    next_to_it = binary_dilation(area.loose) & ~area.loose
    if mixed[next_to_it].mean() > MIXED_SHARE:
        region = binary_dilation(region)  # mixed as well, though its values do not tell
    return np.asarray(region)


def _zeros_of_full_faces(data: np.ndarray) -> np.ndarray:
    """Return the zeros that are connected with a face of zeros."""
    if all(face.any() for face in _faces(data)):
        return np.zeros(data.shape, dtype=bool)
    return _region(data == 0)


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box that holds all voxels of a mask."""
    box = []
    for axis in range(3):
        present = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(present[0]), int(present[-1]) + 1))
    return tuple(box)
