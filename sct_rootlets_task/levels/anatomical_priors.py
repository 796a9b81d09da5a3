"""What is known of where spinal levels lie, with the source of each number.

A task names its :class:`AnatomicalPriors` in its entry of the registry; :data:`CERVICAL` are those
of C2 to T1. What is known of the discs between the vertebrae holds for every task.

Sources
-------
Cadotte 2015
    14 healthy adults: midpoint of each level below the pontomedullary junction (PMJ), mean ± SD,
    and mean height, C3 to T1. Midpoints of neighbors were 10.0–18.8 mm apart.
267 scans
    Heights of rootlet segmentations predicted on 267 scans, mean ± SD, C2 to C6.
PAM50
    The template's rootlets, measured along its cord with this package: heights, the spacing of C2
    and C3, the distances of its disc labels, and where the midpoints fall between these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DISC_SPACING_MM = {
    1: 23.0,
    2: 15.5,
    3: 18.5,
    4: 18.5,
    5: 16.5,
    6: 15.5,
    7: 17.0,
    8: 21.5,
    9: 23.0,
    10: 23.0,
    11: 24.5,
    12: 25.5,
    13: 25.5,
    14: 26.5,
    15: 27.0,
    16: 26.5,
    17: 29.0,
    18: 31.5,
    19: 31.5,
}
"""Distance from each disc label to the next along the cord in mm (PAM50)."""

DISC_SPACING_RANGE_MM = ((10.0, 24.0), (10.0, 38.0))
"""Distances of neighboring discs that raise no doubt: cervical (down to C7/T1), and thoracic.
Usual are 12–20 mm and up to some 30 mm; children's are smaller. No publication at hand; assumed."""

LAST_CERVICAL_DISC, LAST_DISC = 8, 20
"""SCT's labels of disc C7/T1 and of the last disc of :data:`DISC_SPACING_MM`."""

_HEIGHT_SD_MM = 1.5


@dataclass(frozen=True, eq=False)
class AnatomicalPriors:
    """Where the levels of a task lie and how long they are; tables are keyed by level.

    Heights are needed for every level of the task. Without distances from the PMJ, or places
    between the discs, a task's levels are not compared with these landmarks.

    Parameters
    ----------
    source : str
        Publication of midpoints and spacing, for reports.
    template : str
        Template that tells what the publication leaves out, for reports.
    height_source : str
        All sources of the heights, for reports.
    template_height_mm : mapping of int to float
        Length of the template's rootlets along the cord, for every level.
    published_height_mm : mapping of int to float
        Mean height of levels in publications.
    segmented_height_mm : mapping of int to tuple of (float, float)
        Mean and SD of the height of segmented rootlets.
    midpoint_below_pmj_mm : mapping of int to tuple of (float, float)
        Mean and SD of the distance of midpoints below the PMJ along the cord, for levels that
        follow each other.
    spacing_mm : mapping of int to tuple of (float, float)
        Distance from a level's midpoint to the next, and its SD, where the midpoints do not tell.
    disc_coordinates : mapping of int to float
        Place of each level's midpoint between disc labels: 2.5 is halfway from label 2 (disc C1/C2)
        to label 3 (disc C2/C3).
    typical_spacing_mm : tuple of (float, float)
        Distance between neighbors, and its SD, where no table tells. Assumed for levels below T1.
    spacing_sd_mm : float
        Spread of the distances that the midpoints tell. The range seen by Cadotte 2015 (10.0 to
        18.8 mm in 84 distances, ±2.4 SD) gives 1.8 mm; the rest is for incomplete segmentations.
    pmj_scale_sd, pmj_shared_sd_mm, pmj_own_sd_mm : float
        Spread of distances from the PMJ: a scale common to a subject, a common and an own error.
        They reproduce the SDs of Cadotte 2015, 3.0 mm at C3 to 8.0 mm at T1.
    disc_shared_sd, disc_own_sd : float
        Spread of the places between discs in a subject as a whole, and level by level. No
        publication at hand gives it; assumed.
    """

    source: str
    template: str
    height_source: str
    template_height_mm: Mapping[int, float]
    published_height_mm: Mapping[int, float] = field(default_factory=dict)
    segmented_height_mm: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    midpoint_below_pmj_mm: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    spacing_mm: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    disc_coordinates: Mapping[int, float] = field(default_factory=dict)
    typical_spacing_mm: tuple[float, float] = (15.0, 3.0)
    spacing_sd_mm: float = 2.2
    pmj_scale_sd: float = 0.055
    pmj_shared_sd_mm: float = 1.5
    pmj_own_sd_mm: float = 1.5
    disc_shared_sd: float = 0.3
    disc_own_sd: float = 0.25

    def cover(self, *levels: int) -> bool:
        """Say whether the levels are among those that the tables are about."""
        return set(levels) <= set(self.template_height_mm)

    def spacing(self, upper: int, lower: int) -> tuple[float, float]:
        """Return the expected distance between the midpoints of two levels, and its SD, in mm.

        Parameters
        ----------
        upper, lower : int
            Spinal levels, the upper one first.

        Examples
        --------
        >>> CERVICAL.spacing(7, 8)
        (13.7, 2.2)
        """
        parts = [self._spacing_below(level) for level in range(upper, lower)]
        mean = sum(mean for mean, _ in parts)
        return round(mean, 3), round(sum(sd**2 for _, sd in parts) ** 0.5, 3)

    def _spacing_below(self, level: int) -> tuple[float, float]:
        midpoints = self.midpoint_below_pmj_mm
        if level in midpoints and level + 1 in midpoints:
            return midpoints[level + 1][0] - midpoints[level][0], self.spacing_sd_mm
        return self.spacing_mm.get(level, self.typical_spacing_mm)

    def spacing_source(self, upper: int) -> str:
        """Return where the distance from a level to the next comes from."""
        return self.source if upper in self.midpoint_below_pmj_mm else self.template

    def height_range(self, level: int) -> tuple[float, float]:
        """Return the heights in mm between which a level's rootlets are nothing unusual.

        From mean − 3 SD to mean + 3 SD, over the sources that know the level. Published heights
        take the SD of segmented ones; the template, an average of many subjects, is ± 1 mm. A
        level beyond the tables counts as the nearest in them.
        """
        table = self.template_height_mm
        level = min(max(level, min(table)), max(table))
        lows, highs = [table[level] - 1], [table[level] + 1]
        if level in self.segmented_height_mm:
            mean, sd = self.segmented_height_mm[level]
            lows.append(mean - 3 * sd)
            highs.append(mean + 3 * sd)
        if level in self.published_height_mm:
            # Segmented heights were 1.7–2.8 mm below Cadotte's where both are known.
            lows.append(self.published_height_mm[level] - 2.5 - 3 * _HEIGHT_SD_MM)
            highs.append(self.published_height_mm[level] + 3 * _HEIGHT_SD_MM)
        return round(min(lows), 1), round(max(highs), 1)

    def midpoint_below_pmj(self, level: int) -> float:
        """Return the expected distance of a level's midpoint below the PMJ in mm.

        Levels beyond the table are extrapolated by :meth:`spacing`.
        """
        table = self.midpoint_below_pmj_mm
        if level in table:
            return table[level][0]
        first, last = min(table), max(table)
        if level < first:
            return table[first][0] - self.spacing(level, first)[0]
        return table[last][0] + self.spacing(last, level)[0]

    def pmj_distance_range(self, level: int, shift: int) -> tuple[float, float]:
        """Return the distances of a level below the PMJ that a wrong number could explain, in mm.

        Parameters
        ----------
        level : int
            Level by its label.
        shift : int
            Largest number by which labels may be off, either way; no level lies above C1.
        """
        nearest = self.midpoint_below_pmj(max(level - shift, 1))
        farthest = self.midpoint_below_pmj(level + shift)
        low = nearest * (1 - 3 * self.pmj_scale_sd) - 3 * self.pmj_shared_sd_mm
        high = farthest * (1 + 3 * self.pmj_scale_sd) + 3 * self.pmj_shared_sd_mm
        return round(low, 1), round(high, 1)

    def disc_coordinate(self, level: int) -> float:
        """Return a level's place between the discs; beyond the table, one disc a level."""
        table = self.disc_coordinates
        nearest = min(max(level, min(table)), max(table))
        return table[nearest] + level - nearest


def disc_spacing_range(upper: int, lower: int) -> tuple[float, float]:
    """Return the distances of two discs in mm that raise no doubt.

    Parameters
    ----------
    upper, lower : int
        SCT's disc labels, the upper one first.

    Examples
    --------
    >>> disc_spacing_range(7, 9)
    (20.0, 62.0)
    """
    ranges = [DISC_SPACING_RANGE_MM[disc >= LAST_CERVICAL_DISC] for disc in range(upper, lower)]
    return sum(low for low, _ in ranges), sum(high for _, high in ranges)


CERVICAL = AnatomicalPriors(
    source="Cadotte 2015",
    template="PAM50",
    height_source="267 scans, Cadotte 2015, PAM50",
    template_height_mm={2: 8.0, 3: 15.5, 4: 11.0, 5: 9.5, 6: 9.5, 7: 11.5, 8: 13.5, 9: 13.0},
    published_height_mm={3: 11.7, 4: 9.7, 5: 9.7, 6: 9.2, 7: 8.8, 8: 9.0, 9: 9.2},
    segmented_height_mm={2: (6.7, 1.4), 3: (9.5, 1.5), 4: (7.6, 1.5), 5: (6.9, 1.3), 6: (7.5, 1.5)},
    midpoint_below_pmj_mm={
        3: (54.1, 3.0),
        4: (70.0, 3.9),
        5: (86.5, 4.6),
        6: (101.0, 5.0),
        7: (115.5, 5.2),
        8: (129.2, 6.4),
        9: (143.7, 8.0),
    },
    # PAM50 has 17.7 mm from C2 to C3; a wider spread is assumed.
    spacing_mm={1: (16.0, 3.0), 2: (16.0, 3.0)},
    disc_coordinates={2: 1.6, 3: 2.5, 4: 3.5, 5: 4.3, 6: 5.2, 7: 6.3, 8: 7.3, 9: 8.2},
)
"""Priors of C2 to T1: Cadotte 2015, 267 scans and PAM50."""
