"""A smooth curve through scattered points: what every line along the cord is fitted with."""

from __future__ import annotations

import numpy as np

_KNOT_MM = 5.0
_SHORT_MM = 4.0
_ROUNDS = 4


def smooth_spline(
    positions: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    *,
    wave_mm: float,
    wanted: np.ndarray,
) -> np.ndarray:
    """Return a penalized cubic spline of values, on which outliers count little.

    Data over more than a third of `wave_mm` get a third-order penalty, so that constant curvature
    is not flattened. Shorter data get a straight line, very short ones a constant. Outside the data
    the curve goes on as the polynomial that the penalty leaves free.

    Parameters
    ----------
    positions : ndarray of float, shape (n,)
        Where the values are, ascending, in mm.
    values : ndarray of float, shape (n, d)
        In mm.
    weights : ndarray of float, shape (n,)
        How far each value is to be trusted, 0 to 1.
    wave_mm : float
        Waves of this length are halved, shorter ones are smoothed away.
    wanted : ndarray of float, shape (m,)
        Where the spline is wanted; the first and last lie farthest out. In mm.

    Returns
    -------
    ndarray of float, shape (m, d)
    """
    from scipy.interpolate import BSpline

    low, high = min(positions[0], wanted[0]), max(positions[-1], wanted[-1])
    pieces = max(1, int(np.ceil((high - low) / _KNOT_MM)))
    knot_mm = max((high - low) / pieces, 1e-3)
    knots = low + knot_mm * np.arange(-3, pieces + 4)
    basis = BSpline.design_matrix(positions, knots, 3, extrapolate=True).toarray()
    span = np.ptp(positions)
    order = 1 + int(span > _SHORT_MM) + int(span > wave_mm / 3)
    roughness = np.diff(np.eye(basis.shape[1]), n=order, axis=0)
    stiffness = _stiffness(wave_mm, knot_mm, len(positions) / max(span, _SHORT_MM / 2), order)
    robust = np.ones(len(positions))
    for _ in range(_ROUNDS):
        weighted = basis * (weights * robust)[:, None]
        normal = basis.T @ weighted + stiffness * roughness.T @ roughness
        coefficients = np.linalg.lstsq(normal, weighted.T @ values, rcond=1e-13)[0]
        residual = np.linalg.norm(values - basis @ coefficients, axis=1)
        scale = max(4.7 * float(np.median(residual)), 1.0)
        robust = np.clip(1 - (residual / scale) ** 2, 0.01, 1) ** 2
    return BSpline.design_matrix(wanted, knots, 3, extrapolate=True) @ coefficients


def _stiffness(wave_mm: float, knot_mm: float, density: float, order: int) -> float:
    """Return the weight of squared differences that halves waves of the given length.

    A penalty α∫(f⁽ᵐ⁾)² passes a wave number k by 1 / (1 + α k²ᵐ / density); differences of the
    coefficients of knots h apart stand for the derivative times hᵐ.
    """
    return density * (wave_mm / (2 * np.pi)) ** (2 * order) / knot_mm ** (2 * order - 1)
