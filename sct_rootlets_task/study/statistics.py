"""How the levels of a cohort are distributed, and which values stand out.

The robust z of a value is its distance from the median over 1.4826 times the median absolute
deviation (MAD), which for normal data is the standard deviation. Values beyond 3.5 are outliers
(Iglewicz and Hoaglin, 1993).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.study.cohort import Image

OUTLIER_Z = 3.5
"""Robust z from which a value is an outlier."""

FEWEST = 8
"""Fewer values have no outliers: their median and MAD say too little."""

_MAD_SCALE = 1.4826


@dataclass(frozen=True)
class Measure:
    """A column of the tables that can be compared between images.

    Parameters
    ----------
    column, title, unit : str
        Name of the column, what it is in words, and its unit.
    has_origin : bool
        Whether it is a distance, which depends on what it is counted from.
    """

    column: str
    title: str
    unit: str
    has_origin: bool = False


MEASURES = (
    Measure("distance_midpoint", "Distance of the level", "mm", has_origin=True),
    Measure("level_height", "Height of the level", "mm"),
    Measure("rootlets_height", "Height of the rootlets", "mm"),
    Measure("area_perpendicular_to_cord", "Cross-section of the cord", "mm²"),
    Measure("volume", "Volume of the rootlets", "mm³"),
    Measure("left_volume", "Volume of the rootlets on the left", "mm³"),
    Measure("right_volume", "Volume of the rootlets on the right", "mm³"),
    Measure("dorsal_volume", "Volume of the dorsal rootlets", "mm³"),
    Measure("ventral_volume", "Volume of the ventral rootlets", "mm³"),
)


@dataclass(frozen=True)
class Value:
    """One value of a measure.

    Parameters
    ----------
    image : Image
        Where it was measured.
    level : int
        Spinal level.
    value : float
        In the unit of the measure.
    z : float
        Robust z among the values of the same contrast, level and origin; NaN where there are too
        few, or half of them are the same.
    """

    image: Image
    level: int
    value: float
    z: float = math.nan

    @property
    def is_outlier(self) -> bool:
        """Whether it stands out."""
        return abs(self.z) > OUTLIER_Z


@dataclass(frozen=True)
class Distribution:
    """All values of a measure that can be compared.

    Parameters
    ----------
    measure : Measure
        What was measured.
    contrast, origin : str
        Contrast, and what a distance is counted from; empty for no distance.
    values : tuple of Value
        By level, then in the order of the images.
    """

    measure: Measure
    contrast: str
    origin: str
    values: tuple[Value, ...]

    @property
    def by_level(self) -> dict[int, tuple[Value, ...]]:
        """The values of each level, from the uppermost down."""
        levels = sorted({one.level for one in self.values})
        return {level: tuple(one for one in self.values if one.level == level) for level in levels}


def distributions(images: Iterable[Image]) -> tuple[Distribution, ...]:
    """Return how each measure is distributed, for each contrast and origin of distances.

    Parameters
    ----------
    images : iterable of Image
        What came of each image. Values that a person would not use are left in.
    """
    found: dict[tuple[int, str, str], list[Value]] = defaultdict(list)
    for image in images:
        for row in image.rows:
            level = _number(row.get("spinal_level"))
            for index, measure in enumerate(MEASURES):
                value = _number(row.get(measure.column))
                if math.isfinite(value) and math.isfinite(level):
                    origin = str(row.get("distance_origin")) if measure.has_origin else ""
                    key = index, image.contrast, origin
                    found[key].append(Value(image, int(level), value))
    return tuple(
        Distribution(MEASURES[index], contrast, origin, _with_z(found[index, contrast, origin]))
        for index, contrast, origin in sorted(found)
    )


def robust_z(values: np.ndarray) -> np.ndarray:
    """Return how far each value is from the median, in robust standard deviations.

    Parameters
    ----------
    values : ndarray of float, shape (n,)
        Finite values.

    Returns
    -------
    ndarray of float, shape (n,)
        NaN where there are fewer than :data:`FEWEST` values, or the MAD is 0.

    Examples
    --------
    >>> robust_z(np.array([1.0, 2.0, 3.0])).tolist()
    [nan, nan, nan]
    """
    distances = values - np.median(values)
    mad = np.median(np.abs(distances))
    if len(values) < FEWEST or not mad:
        return np.full(len(values), np.nan)
    scores: np.ndarray = distances / (_MAD_SCALE * mad)
    return scores


def _with_z(values: Sequence[Value]) -> tuple[Value, ...]:
    scored = []
    for level in sorted({one.level for one in values}):
        same = [one for one in values if one.level == level]
        scores = robust_z(np.array([one.value for one in same]))
        scored += [
            Value(one.image, level, one.value, float(z))
            for one, z in zip(same, scores, strict=True)
        ]
    return tuple(scored)


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


SUMMARY: Mapping[str, str] = {
    "contrast": "Contrast of the images.",
    "level": "The level: 1 = C1 … 9 = T1 … 21 = L1 … 30 = S5.",
    "level_name": "Name of the level.",
    "measure": "Column of group_levels.tsv.",
    "unit": "Unit of the figures.",
    "distance_origin": "What a distance is counted from.",
    "n": "Number of images.",
    "median": "Median.",
    "mad": "Median absolute deviation from the median, not scaled.",
    "q1": "First quartile.",
    "q3": "Third quartile.",
    "lowest": "Smallest value.",
    "highest": "Largest value.",
}
"""Columns of ``group_summary.tsv``."""

OUTLIERS: Mapping[str, str] = {
    "subject": "Subject.",
    "session": "Session.",
    "contrast": "Contrast of the image.",
    "image": "The image, as a path inside the data set.",
    "level": "The level: 1 = C1 … 9 = T1 … 21 = L1 … 30 = S5.",
    "level_name": "Name of the level.",
    "measure": "Column of group_levels.tsv.",
    "distance_origin": "What a distance is counted from.",
    "value": "The value.",
    "unit": "Its unit.",
    "median": "Median of all images of the same contrast and level.",
    "robust_z": (
        "(value - median) / (1.4826 MAD); rows have more than 3.5. At least 8 images are needed."
    ),
}
"""Columns of ``group_outliers.tsv``."""


def summary_rows(found: Iterable[Distribution]) -> Iterator[dict[str, Any]]:
    """Yield a row for each measure, contrast, origin and level.

    Parameters
    ----------
    found : iterable of Distribution
        How the measures are distributed.
    """
    for one in found:
        for level, values in one.by_level.items():
            numbers = np.array([value.value for value in values])
            median = np.median(numbers)
            q1, q3 = np.percentile(numbers, (25, 75))
            figures = {
                "median": median,
                "mad": np.median(np.abs(numbers - median)),
                "q1": q1,
                "q3": q3,
                "lowest": numbers.min(),
                "highest": numbers.max(),
            }
            yield {
                **_of(one, level),
                "n": len(numbers),
                **{name: round(float(figure), 3) for name, figure in figures.items()},
            }


def outlier_rows(found: Iterable[Distribution]) -> Iterator[dict[str, Any]]:
    """Yield a row for each value that stands out, see :data:`OUTLIERS`.

    Parameters
    ----------
    found : iterable of Distribution
        How the measures are distributed.
    """
    for one in found:
        for level, values in one.by_level.items():
            median = float(np.median([value.value for value in values]))
            for value in values:
                if value.is_outlier:
                    yield {
                        **_of(one, level),
                        "subject": value.image.subject,
                        "session": value.image.session,
                        "image": value.image.source,
                        "value": value.value,
                        "median": round(median, 3),
                        "robust_z": round(value.z, 2),
                    }


def _of(one: Distribution, level: int) -> dict[str, Any]:
    return {
        "contrast": one.contrast,
        "level": level,
        "level_name": value_name(level),
        "measure": one.measure.column,
        "unit": one.measure.unit,
        "distance_origin": one.origin,
    }


def missing_levels(images: Iterable[Image]) -> dict[int, list[Image]]:
    """Return the images in which a level of the task was not found, by level.

    Parameters
    ----------
    images : iterable of Image
        What came of each image.
    """
    found: dict[int, list[Image]] = defaultdict(list)
    for image in images:
        for level in image.missing:
            found[level].append(image)
    return dict(sorted(found.items()))


def flag_counts(images: Iterable[Image]) -> dict[str, int]:
    """Return in how many images there is each kind of flag, the most frequent first.

    Parameters
    ----------
    images : iterable of Image
        What came of each image.
    """
    kinds = (kind for image in images for kind in {str(flag.get("code")) for flag in image.flags})
    return _by_frequency(Counter(kinds))


def failure_counts(images: Iterable[Image]) -> dict[str, int]:
    """Return how many images failed for each kind of error, the most frequent first.

    Parameters
    ----------
    images : iterable of Image
        What came of each image.
    """
    return _by_frequency(Counter(image.error for image in images if not image.is_done))


def _by_frequency(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
