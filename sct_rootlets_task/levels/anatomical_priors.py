"""What is known about where the cervical spinal levels lie, with the source of each number.

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

MIDPOINT_BELOW_PMJ_MM = {
    3: (54.1, 3.0),
    4: (70.0, 3.9),
    5: (86.5, 4.6),
    6: (101.0, 5.0),
    7: (115.5, 5.2),
    8: (129.2, 6.4),
    9: (143.7, 8.0),
}
"""Mean and SD of each level's midpoint below the PMJ along the cord, in mm (Cadotte 2015)."""

HEIGHT_CADOTTE_MM = {3: 11.7, 4: 9.7, 5: 9.7, 6: 9.2, 7: 8.8, 8: 9.0, 9: 9.2}
"""Mean height of each level in mm (Cadotte 2015)."""

HEIGHT_PREDICTED_MM = {2: (6.7, 1.4), 3: (9.5, 1.5), 4: (7.6, 1.5), 5: (6.9, 1.3), 6: (7.5, 1.5)}
"""Mean and SD of the height of segmented rootlets in mm (267 scans)."""

HEIGHT_PAM50_MM = {2: 8.0, 3: 15.5, 4: 11.0, 5: 9.5, 6: 9.5, 7: 11.5, 8: 13.5, 9: 13.0}
"""Inferior–superior extent of the template's rootlets in mm (PAM50)."""

DISC_COORDINATE = {2: 1.6, 3: 2.5, 4: 3.5, 5: 4.3, 6: 5.2, 7: 6.3, 8: 7.3, 9: 8.2}
"""Place of each level's midpoint between disc labels (PAM50): 2.5 is halfway from label 2 (disc
C1/C2) to label 3 (disc C2/C3)."""

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

PMJ_SCALE_SD, PMJ_SHARED_SD_MM, PMJ_OWN_SD_MM = 0.055, 1.5, 1.5
"""Spread of distances from the PMJ: a scale common to a subject, a common and an own error in mm.
They reproduce the published SDs of 3.0 mm at C3 to 8.0 mm at T1."""

DISC_SHARED_SD, DISC_OWN_SD = 0.3, 0.25
"""Spread of :data:`DISC_COORDINATE` in a subject as a whole and level by level. No publication at
hand gives it; assumed."""

SPACING_SD_MM = 2.2
"""Spread of the distance between neighboring midpoints. The range seen by Cadotte 2015 (10.0 to
18.8 mm in 84 distances, ±2.4 SD) gives 1.8 mm; the rest allows for incomplete segmentations."""

_SPACING_C2_C3_MM = (16.0, 3.0)
_SPACING_BELOW_MM = (15.0, 3.0)
_HEIGHT_SD_MM = 1.5


def has_priors(levels: tuple[int, ...]) -> bool:
    """Say whether all levels are cervical ones that the numbers of this module cover."""
    return bool(levels) and levels[0] >= 2 and levels[-1] <= 9


def spacing(upper: int, lower: int) -> tuple[float, float]:
    """Return the expected distance between the midpoints of two levels, and its SD, in mm.

    C3 to T1: differences of Cadotte's midpoints. C2 to C3 (PAM50: 17.7 mm) and below T1 there is
    no publication at hand; a wider spread is assumed.

    Parameters
    ----------
    upper, lower : int
        Spinal levels, the upper one first.

    Examples
    --------
    >>> spacing(7, 8)
    (13.7, 2.2)
    """
    means, variances = [], []
    for level in range(upper, lower):
        if level in MIDPOINT_BELOW_PMJ_MM and level + 1 in MIDPOINT_BELOW_PMJ_MM:
            below, above = MIDPOINT_BELOW_PMJ_MM[level + 1][0], MIDPOINT_BELOW_PMJ_MM[level][0]
            mean, sd = below - above, SPACING_SD_MM
        else:
            mean, sd = _SPACING_C2_C3_MM if level <= 2 else _SPACING_BELOW_MM
        means.append(mean)
        variances.append(sd**2)
    return round(sum(means), 3), round(sum(variances) ** 0.5, 3)


def height_range(level: int) -> tuple[float, float]:
    """Return the heights in mm between which a level's rootlets are nothing out of the ordinary.

    From mean − 3 SD to mean + 3 SD, over the sources that know the level: the 267 scans, Cadotte
    2015 (with the SD of the 267 scans), and PAM50 ± 1 mm. Segmentations are shorter than anatomy,
    the template, an average of many subjects, longer.

    Raises
    ------
    KeyError
        If the level is none of C2 to T1.
    """
    lows, highs = [HEIGHT_PAM50_MM[level] - 1], [HEIGHT_PAM50_MM[level] + 1]
    if level in HEIGHT_PREDICTED_MM:
        mean, sd = HEIGHT_PREDICTED_MM[level]
        lows.append(mean - 3 * sd)
        highs.append(mean + 3 * sd)
    if level in HEIGHT_CADOTTE_MM:
        # Segmented heights were 1.7–2.8 mm below Cadotte's where both are known.
        lows.append(HEIGHT_CADOTTE_MM[level] - 2.5 - 3 * _HEIGHT_SD_MM)
        highs.append(HEIGHT_CADOTTE_MM[level] + 3 * _HEIGHT_SD_MM)
    return round(min(lows), 1), round(max(highs), 1)


def midpoint_below_pmj(level: int) -> float:
    """Return the expected distance of a level's midpoint below the PMJ in mm.

    C2, which Cadotte 2015 leaves out, and levels beyond T1 are extrapolated by :func:`spacing`.
    """
    if level in MIDPOINT_BELOW_PMJ_MM:
        return MIDPOINT_BELOW_PMJ_MM[level][0]
    if level < 3:
        return MIDPOINT_BELOW_PMJ_MM[3][0] - spacing(level, 3)[0]
    return MIDPOINT_BELOW_PMJ_MM[9][0] + spacing(9, level)[0]


def pmj_distance_range(level: int, shift: int) -> tuple[float, float]:
    """Return the distances of a level below the PMJ that a wrong number could explain, in mm.

    Parameters
    ----------
    level : int
        Level by its label.
    shift : int
        Largest number by which labels may be off, either way; no level lies above C1.
    """
    nearest = midpoint_below_pmj(max(level - shift, 1))
    farthest = midpoint_below_pmj(level + shift)
    low = nearest * (1 - 3 * PMJ_SCALE_SD) - 3 * PMJ_SHARED_SD_MM
    high = farthest * (1 + 3 * PMJ_SCALE_SD) + 3 * PMJ_SHARED_SD_MM
    return round(low, 1), round(high, 1)


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


def disc_coordinate(level: int) -> float:
    """Return :data:`DISC_COORDINATE` of a level, extrapolated by one disc a level beyond C2–T1."""
    nearest = min(max(level, 2), 9)
    return DISC_COORDINATE[nearest] + level - nearest
