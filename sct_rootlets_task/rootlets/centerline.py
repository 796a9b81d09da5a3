"""The centerline of the spinal cord: distances along it, and the cord's own axes across it.

All positions along the cord are *arc lengths* in mm, counted from the cranial end of what the line
was fitted to and growing caudally. Fits are done in world mm, so orientation and voxel size of the
image do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.label_values import inside_mask
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import require_same_grid, to_world
from sct_rootlets_task.rootlets.spline import smooth_spline

STEP_MM = 0.5
"""Spacing of the samples of a centerline."""

EXTENSION_MM = 80.0
"""How far a line goes on straight beyond the cord or the rootlets it was fitted to."""

_CORD_WAVE_MM = 40.0
_ROOTLETS_WAVE_MM = 120.0
_AXES_WINDOW_MM = 15.0
_UPRIGHT_PULL = 0.015
_BIN_MM = 2.0
_SAMPLE = 20_000
_SPREAD = np.sqrt([2.0, 3.0, 5.0])
"""Irrational slopes: the fractions of the points' products with them are evenly spread."""


@dataclass(frozen=True, eq=False)
class Centerline:
    """A smooth curve along the cord, sampled evenly from head to tail.

    Parameters
    ----------
    points : ndarray of float, shape (n, 3)
        World points in mm, :data:`STEP_MM` apart.
    tangents, rights, anteriors : ndarray of float, shape (n, 3)
        Unit vectors at each point: caudal, and the cord's own right and anterior directions.
    first : float
        Arc length of the first point in mm; negative, as the line extends beyond the cord.
    length : float
        Arc length of the caudal end of what the line was fitted to; its cranial end is at 0.
    source : {"cord", "rootlets"}
        What the line was fitted to.
    """

    points: np.ndarray
    tangents: np.ndarray
    rights: np.ndarray
    anteriors: np.ndarray
    first: float
    length: float
    source: str

    __repr__ = short_repr

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return where world points lie, in the coordinates of the cord.

        Parameters
        ----------
        points : ndarray of float, shape (n, 3)
            World points in mm.

        Returns
        -------
        ndarray of float, shape (n, 3)
            Arc length (caudal is larger), distance to the right and distance to the front of the
            centerline, in mm.
        """
        from scipy.spatial import cKDTree

        nearest = cKDTree(self.points).query(points)[1] if len(points) else np.zeros(0, int)
        offset = points - self.points[nearest]
        along = _dot(offset, self.tangents[nearest])
        arc = self.first + STEP_MM * nearest + along
        across = (_dot(offset, self.rights[nearest]), _dot(offset, self.anteriors[nearest]))
        return np.stack((arc, *across), axis=1)

    def at(self, arcs: np.ndarray | float) -> np.ndarray:
        """Return the world points of arc lengths.

        Parameters
        ----------
        arcs : ndarray of float, shape (n,), or float
            Arc lengths in mm.

        Returns
        -------
        ndarray of float, shape (n, 3)
        """
        position = np.atleast_1d((np.asarray(arcs, dtype=float) - self.first) / STEP_MM)
        grid = np.arange(len(self.points))
        return np.stack([np.interp(position, grid, axis) for axis in self.points.T], axis=1)

    def tangent(self, arc: float) -> np.ndarray:
        """Return the caudal unit vector, shape (3,), at an arc length in mm."""
        nearest = round((arc - self.first) / STEP_MM)
        return self.tangents[int(np.clip(nearest, 0, len(self.tangents) - 1))]


def fit_centerline(
    labels: np.ndarray, affine: np.ndarray, *, cord: np.ndarray | None = None
) -> Centerline:
    """Fit the centerline to the cord mask, or to the rootlets when there is none.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm, of both arrays.
    cord : ndarray, shape (i, j, k), optional
        Cord mask; above 0.5 is cord.

    Raises
    ------
    ImageError
        If the mask lies on another grid, or there is nothing to fit.
    """
    if cord is None:
        return line_through_rootlets(to_world(voxels_of(labels), affine))
    require_same_grid(labels, affine, other=cord)
    return line_through_cord(to_world(voxels_of(inside_mask(cord)), affine))


def line_through_cord(points: np.ndarray) -> Centerline:
    """Fit the centerline of a cord mask.

    The mask is cut into 2 mm pieces across the current line, and a smooth spline joins the middles
    of the pieces; waves shorter than about 40 mm are smoothed away. Three rounds, each with cuts
    across the line of the one before.

    Parameters
    ----------
    points : ndarray of float, shape (n, 3)
        World points of the cord's voxels in mm.

    Raises
    ------
    ImageError
        If the mask is too short to have a direction.
    """
    _require_points(points, "cord mask")
    body = _main_body(_thinned(points))
    along = body @ principal_axis(body)
    for _ in range(3):
        curve = _smooth_curve(*_middles(body, along), _CORD_WAVE_MM)
        line = _sampled(curve, source="cord")
        along = line.project(body)[:, 0]
    return _with_cord_axes(_trimmed(line, line.project(points)[:, 0]), body)


def line_through_rootlets(points: np.ndarray) -> Centerline:
    """Estimate the centerline of the cord from the rootlets on its two sides.

    The line runs midway between a stiff curve through the rootlets of each side, so that a bundle
    missing on one side does not pull it over. With rootlets on one side only, it runs through them.

    Parameters
    ----------
    points : ndarray of float, shape (n, 3)
        World points of the rootlet voxels in mm.

    Raises
    ------
    ImageError
        If there are fewer than two points.
    """
    _require_points(points, "segmentation")
    points = _thinned(points)
    along = points @ principal_axis(points)
    curve = _smooth_curve(*_middles(points, along), _ROOTLETS_WAVE_MM)
    line = _sampled(curve, source="rootlets")
    for _ in range(3):
        where = line.project(points)
        curve, across = _midway(points, where)
        line = _sampled(curve, source="rootlets", across=across)
    return _trimmed(line, line.project(points)[:, 0])


def _require_points(points: np.ndarray, name: str) -> None:
    if len(points) < 2:
        raise ImageError(
            f"Expected a {name} of two voxels or more, found {len(points)} voxels. Check that this "
            "is the right file."
        )


def _thinned(points: np.ndarray) -> np.ndarray:
    """Return some of the points of large sets, evenly from everywhere, to save time.

    Whether a point is taken depends on its place alone, so a few voxels more or less in a mask do
    not change the choice of others.
    """
    return points[(points @ _SPREAD) % 1 <= _SAMPLE / len(points)]


def _dot(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", first, second)


def principal_axis(points: np.ndarray) -> np.ndarray:
    """Return the long axis of the points, pointing down; the body's axis if there is none."""
    centered = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(centered.T @ centered)
    axis = vectors[:, 2] * -np.sign(vectors[2, 2] or 1)
    # A short stack of rootlets is wider than it is high: its long axis runs from side to side.
    clear = values[2] > 3 * values[1] and abs(axis[2]) > 0.6
    return axis if clear else np.array([0.0, 0.0, -1.0])


def _main_body(points: np.ndarray) -> np.ndarray:
    """Leave out what lies far to the side of the cord: spilt voxels of a segmentation."""
    axis = principal_axis(points)
    along = points @ axis
    middles, weights = _middles(points, along)
    if len(middles) < 3:
        return points
    line = _sampled(_smooth_curve(middles, weights, 2 * _CORD_WAVE_MM), source="cord")
    distance = np.linalg.norm(line.project(points)[:, 1:], axis=1)
    return points[distance <= 4 * np.median(distance) + 1]


def _middles(points: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of each 2 mm piece, head to tail, and how far each is to be trusted."""
    number = np.floor((along - along.min()) / _BIN_MM).astype(int)
    count = np.bincount(number)
    used = count > 0
    sums = np.stack([np.bincount(number, weights=axis) for axis in points.T], axis=1)
    # Pieces cut off slantwise at the ends of the mask hold few voxels, and lie to one side.
    trust = np.clip(count[used] / np.median(count[used]), 0, 1) ** 2
    return sums[used] / count[used, None], trust


def _smooth_curve(middles: np.ndarray, weights: np.ndarray, wave_mm: float) -> np.ndarray:
    """Return samples, shape (n, 3), of a robust smoothing spline through ordered points."""
    if len(middles) == 1:
        return np.array([middles[0] + [0, 0, _BIN_MM], middles[0] - [0, 0, _BIN_MM]])
    chord = np.r_[0, np.cumsum(np.linalg.norm(np.diff(middles, axis=0), axis=1))]
    fine = np.linspace(0, chord[-1], max(2, int(chord[-1] / STEP_MM) + 1))
    return smooth_spline(chord, middles, weights, wave_mm=wave_mm, wanted=fine)


def _sampled(curve: np.ndarray, *, source: str, across: np.ndarray | None = None) -> Centerline:
    """Return a line of even steps through a curve, extended straight at both ends."""
    steps = np.linalg.norm(np.diff(curve, axis=0), axis=1)
    kept = np.r_[True, steps > 1e-9]
    curve, steps = curve[kept], steps[steps > 1e-9]
    arc = np.r_[0, np.cumsum(steps)]
    even = np.arange(0, arc[-1] + STEP_MM / 2, STEP_MM)
    points = np.stack([np.interp(even, arc, axis) for axis in curve.T], axis=1)
    if len(points) < 2:
        points = curve[[0, -1]]
    end = min(len(points) - 1, 10)
    ahead = _unit(points[:1] - points[end : end + 1])
    behind = _unit(points[-1:] - points[-1 - end : len(points) - end])
    reach = np.arange(STEP_MM, EXTENSION_MM + STEP_MM / 2, STEP_MM)[:, None]
    points = np.concatenate((points[0] + reach[::-1] * ahead, points, points[-1] + reach * behind))
    tangents = _unit(np.gradient(points, axis=0))
    wanted = np.array([[1.0, 0.0, 0.0]]) if across is None else across
    rights = _unit(wanted - tangents * (tangents @ wanted.T).reshape(-1, 1))
    anteriors = np.cross(rights, tangents)
    first = -float(reach[-1, 0])
    return Centerline(points, tangents, rights, anteriors, first, float(arc[-1]), source)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _trimmed(line: Centerline, along: np.ndarray) -> Centerline:
    """Count arc lengths from the cranial end of the given positions along the line."""
    top, bottom = float(along.min()), float(along.max())
    return replace(line, first=line.first - top, length=bottom - top)


def _with_cord_axes(line: Centerline, points: np.ndarray) -> Centerline:
    """Turn right and anterior to the principal axes of the cord's cross-section.

    The cord is wider than deep, so the long axis of its section runs from left to right. Twice the
    angle of that axis is averaged over neighboring sections, together with a slight pull toward
    the body's own right, which decides where the section is round.
    """
    from scipy.ndimage import gaussian_filter1d

    arc, right, anterior = line.project(points).T
    number = np.clip(((arc - line.first) / STEP_MM).astype(int), 0, len(line.points) - 1)

    def total(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(number, weights=values, minlength=len(line.points))
        return gaussian_filter1d(sums, _AXES_WINDOW_MM / STEP_MM, mode="constant")

    power = np.maximum(total(right**2 + anterior**2), 1e-9)
    cosine = total(right**2 - anterior**2) / power + _UPRIGHT_PULL
    angle = 0.5 * np.arctan2(total(2 * right * anterior) / power, cosine)
    # Beyond the mask the axes go on as they are at its end.
    within = np.clip(np.arange(len(angle)), number.min(), number.max())
    angle = angle[within, None]
    rights = line.rights * np.cos(angle) + line.anteriors * np.sin(angle)
    anteriors = line.anteriors * np.cos(angle) - line.rights * np.sin(angle)
    return replace(line, rights=rights, anteriors=anteriors)


def _midway(points: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the curve midway between the two sides, and the mean direction from left to right."""
    arc, right = where[:, 0], where[:, 1]
    wanted = np.arange(arc.min(), arc.max() + STEP_MM, STEP_MM)
    if min(np.count_nonzero(right < 0), np.count_nonzero(right >= 0)) < 2:
        return _smooth_curve(*_middles(points, arc), _ROOTLETS_WAVE_MM), None
    left, other = (_side_curve(points[m], arc[m], wanted) for m in (right < 0, right >= 0))
    return (left + other) / 2, _unit((other - left).mean(axis=0, keepdims=True))


def _side_curve(points: np.ndarray, arc: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return a stiff curve through the rootlets of one side at the wanted arc lengths."""
    middles, weights = _middles(np.c_[arc, points], arc)
    return smooth_spline(
        middles[:, 0], middles[:, 1:], weights, wave_mm=_ROOTLETS_WAVE_MM, wanted=wanted
    )
