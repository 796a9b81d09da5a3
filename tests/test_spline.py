"""Rules of the smooth curves that lines along the cord are fitted with."""

from __future__ import annotations

import numpy as np
import pytest

from sct_rootlets_task.rootlets.spline import smooth_spline

PLACES = np.arange(0.0, 100.0, 2.0)
EVERYWHERE = np.linspace(0.0, 98.0, 300)


def smoothed(values: np.ndarray, wave_mm: float = 60.0, places: np.ndarray = PLACES) -> np.ndarray:
    ones = np.ones(len(places))
    return smooth_spline(places, values[:, None], ones, wave_mm=wave_mm, wanted=EVERYWHERE)[:, 0]


def test_constant_curvature_is_kept_and_an_outlier_passed_over() -> None:
    values = 0.002 * PLACES**2
    values[20] += 15.0
    np.testing.assert_allclose(smoothed(values), 0.002 * EVERYWHERE**2, atol=0.2)


@pytest.mark.parametrize(("length", "least", "most"), [(20.0, 0.0, 0.1), (300.0, 0.95, 1.05)])
def test_short_waves_are_smoothed_away_and_long_ones_kept(
    length: float, least: float, most: float
) -> None:
    middle = abs(EVERYWHERE - 49) < 25  # away from the ends, which are held on one side only
    wave = np.sin(2 * np.pi * PLACES / length)
    same = np.sin(2 * np.pi * EVERYWHERE / length)
    kept = np.polyfit(same[middle], smoothed(wave)[middle], 1)[0]
    assert least <= kept <= most


@pytest.mark.parametrize("count", [1, 2])
def test_a_few_values_close_together_make_a_constant(count: int) -> None:
    places = np.arange(count, dtype=float)
    np.testing.assert_allclose(smoothed(np.full(count, 3.0), places=places), 3.0, atol=1e-6)
