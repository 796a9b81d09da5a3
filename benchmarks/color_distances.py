"""How far apart the colors of levels are, for normal vision and with a color deficiency.

    python -m benchmarks.color_distances

Distances are CIEDE2000 (Sharma et al. 2005, https://doi.org/10.1002/col.20070): about 1 can just be
seen, 10 is told at a glance. Dichromats' vision is simulated after Machado et al. 2009
(https://doi.org/10.1109/TVCG.2009.113) at full severity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np

from sct_rootlets_task.level_names import level_color, level_name

LEVELS = range(2, 10)
"""Levels of the task ``rootlets``, C2 to T1."""

LONGEST = range(1, 31)
"""All spinal levels, of which any eight in a row are compared."""

VISIONS: Mapping[str, np.ndarray] = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
"""Matrix (3, 3) of each kind of vision, applied to linear red, green and blue."""

_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_EPSILON, _KAPPA = 216 / 24389, 24389 / 27
_GRAYS = tuple((value,) * 3 for value in range(0, 256, 5))

Color = Sequence[int]


def linear(color: Color) -> np.ndarray:
    """Return the linear parts of an sRGB color (0–255), shape (3,), 0 to 1."""
    part = np.asarray(color, float) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def luminance(color: Color) -> float:
    """Return the relative luminance of an sRGB color, 0 (black) to 1 (white)."""
    return float(_TO_XYZ[1] @ linear(color))


def contrast(first: Color, second: Color) -> float:
    """Return the contrast of two colors after WCAG 2, 1 to 21.

    Examples
    --------
    >>> round(contrast((0, 0, 0), (255, 255, 255)))
    21
    """
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def lab(color: Color, vision: str = "normal") -> np.ndarray:
    """Return CIELAB coordinates (D65) of a color as seen, shape (3,): L, a, b.

    Parameters
    ----------
    color : sequence of int
        sRGB, 0–255.
    vision : str
        One of :data:`VISIONS`.
    """
    seen = np.clip(VISIONS[vision] @ linear(color), 0, 1)
    x, y, z = (_TO_XYZ @ seen) / _TO_XYZ.sum(axis=1)
    fx, fy, fz = (v ** (1 / 3) if v > _EPSILON else (_KAPPA * v + 16) / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def ciede2000(first: np.ndarray, second: np.ndarray) -> float:
    """Return the CIEDE2000 distance of two colors in CIELAB, each of shape (3,)."""
    (l1, c1, h1), (l2, c2, h2) = _with_hue(first, second)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    apart = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    hue = h1 + apart / 2 if c1 * c2 else h1 + h2
    texture = 1 - sum(
        share * np.cos(np.radians(times * hue + turn))
        for share, times, turn in ((0.17, 1, -30), (-0.24, 2, 0), (-0.32, 3, 6), (0.2, 4, -63))
    )
    off = (lightness - 50) ** 2
    by_lightness = (l2 - l1) / (1 + 0.015 * off / np.sqrt(20 + off))
    by_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    by_hue = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(apart / 2)) / (1 + 0.015 * chroma * texture)
    turn = 60 * np.exp(-((((hue % 360) - 275) / 25) ** 2))
    both = -2 * _saturation(chroma) * np.sin(np.radians(turn)) * by_chroma * by_hue
    return float(np.sqrt(by_lightness**2 + by_chroma**2 + by_hue**2 + both))


def _saturation(chroma: float) -> float:
    return float(np.sqrt(chroma**7 / (chroma**7 + 25**7)))


def _with_hue(*colors: np.ndarray) -> list[tuple[float, float, float]]:
    """Return lightness, chroma and hue (degrees) of two colors, corrected for weak chroma."""
    mean = float(np.mean([np.hypot(a, b) for _, a, b in colors]))
    stretch = 1 + 0.5 * (1 - _saturation(mean))
    return [
        (light, np.hypot(a * stretch, b), np.degrees(np.arctan2(b, a * stretch)) % 360)
        for light, a, b in colors
    ]


def distance(first: Color, second: Color, vision: str = "normal") -> float:
    """Return the CIEDE2000 distance of two sRGB colors as seen with a kind of vision."""
    return ciede2000(lab(first, vision), lab(second, vision))


def smallest(levels: Iterable[int], vision: str, *, window: int | None = None) -> float:
    """Return the smallest distance of the colors of two levels.

    Parameters
    ----------
    levels : iterable of int
        Levels, ascending.
    vision : str
        One of :data:`VISIONS`.
    window : int, optional
        Compare only levels of which so many in a row hold both; 2 for neighbors. By default all.
    """
    listed = list(levels)
    reach = len(listed) if window is None else window
    pairs = (pair for pair in combinations(listed, 2) if pair[1] - pair[0] < reach)
    return min(distance(level_color(a), level_color(b), vision) for a, b in pairs)


def from_gray(levels: Iterable[int], vision: str) -> float:
    """Return the smallest distance of a level's color from any gray."""
    return min(distance(level_color(v), gray, vision) for v in levels for gray in _GRAYS)


def report(levels: Sequence[int] = LEVELS) -> str:
    """Return the smallest distances as a table, and that of each two neighbors."""
    lines = [f"{'CIEDE2000, smallest':24}{'all':>8}{'neighbors':>12}{'any gray':>10}{'any 8':>8}"]
    for vision in VISIONS:
        row = smallest(levels, vision), smallest(levels, vision, window=2)
        rest = from_gray(levels, vision), smallest(LONGEST, vision, window=8)
        lines.append(f"{vision:24}{row[0]:8.1f}{row[1]:12.1f}{rest[0]:10.1f}{rest[1]:8.1f}")
    for a, b in pairwise(levels):
        apart = min(distance(level_color(a), level_color(b), vision) for vision in VISIONS)
        lines.append(f"{level_name(a)}/{level_name(b)}, worst vision {apart:6.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(report())
