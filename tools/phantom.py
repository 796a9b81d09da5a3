"""Phantoms of the cervical cord and its rootlets with known truth, to test measurements on.

A phantom is a label map, not an image. Its cord is of elliptic section, along a curve of known arc
length. Each level has four bundles of rootlets: left and right, dorsal and ventral. The start and
end of each are known. The voxel grid has any orientation, voxel size and obliqueness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.io.orientation import axcodes_from_sct
from sct_rootlets_task.rootlets.geometry import to_world

CORD_HALF_WIDTH_MM = 6.0
CORD_HALF_DEPTH_MM = 4.0

_CURVE_STEP_MM = 0.1
_MARGIN_MM = 12.0
_HALF_FIELD_MM = 14.0
_FINE_MM = 1.2
_PARTS = {
    "dorsal": ((6.8, -2.0), (9.5, 0.5), 0.9),
    "ventral": ((5.6, 4.4), (8.0, 5.4), 0.8),
}
"""Ends (lateral, anterior) of each bundle's section in mm, and its half thickness: as in PAM50."""


@dataclass(frozen=True)
class PhantomBundle:
    """Truth about one bundle.

    Parameters
    ----------
    level : int
        Spinal level.
    side : {"left", "right"}
        Side of the body.
    part : {"dorsal", "ventral"}
        Root.
    start, end : float
        Cranial and caudal end, arc length in mm.
    """

    level: int
    side: str
    part: str
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom and its truth.

    Parameters
    ----------
    labels, cord : ndarray of uint8, shape (i, j, k)
        Level map and cord mask.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    bundles : tuple of PhantomBundle
        Truth; arc length 0 is the cranial end of the cord.
    curve : ndarray of float, shape (n, 3)
        World points of the true centerline in mm, 0.1 mm apart, from arc length 0 caudally.
    """

    labels: np.ndarray
    cord: np.ndarray
    affine: np.ndarray
    bundles: tuple[PhantomBundle, ...]
    curve: np.ndarray

    def extent(self, level: int) -> tuple[float, float]:
        """Return the true cranial and caudal end of a level's rootlets, arc length in mm."""
        mine = [bundle for bundle in self.bundles if bundle.level == level]
        return min(b.start for b in mine), max(b.end for b in mine)

    def oriented(self, orientation: str) -> Phantom:
        """Return the same phantom with its voxel axes permuted and flipped.

        Parameters
        ----------
        orientation : str
            Three letters in SCT's convention, for example ``LPI``.
        """
        from nibabel.orientations import (
            apply_orientation,
            axcodes2ornt,
            inv_ornt_aff,
            io_orientation,
            ornt_transform,
        )

        target = axcodes2ornt(axcodes_from_sct(orientation))
        change = ornt_transform(io_orientation(self.affine), target)
        return Phantom(
            apply_orientation(self.labels, change),
            apply_orientation(self.cord, change),
            self.affine @ inv_ornt_aff(change, self.labels.shape),
            self.bundles,
            self.curve,
        )


def typical_bundles(
    levels: Sequence[int] = tuple(range(2, 10)),
    *,
    spacing_mm: float = 15.0,
    height_mm: float = 9.0,
    first_mm: float = 16.0,
    spread_mm: float = 1.0,
    seed: int = 0,
) -> tuple[PhantomBundle, ...]:
    """Return four bundles a level with regular spacing, each end moved a little at random.

    Parameters
    ----------
    levels : sequence of int
        Spinal levels from top to bottom.
    spacing_mm : float
        Distance between the middles of neighboring levels.
    height_mm : float
        Height of a bundle.
    first_mm : float
        Arc length of the middle of the first level.
    spread_mm : float
        Ends are moved by up to this much.
    seed : int
        Of the random generator.
    """
    generator = np.random.default_rng(seed)
    bundles = []
    for number, level in enumerate(levels):
        middle = first_mm + number * spacing_mm
        for side in ("left", "right"):
            for part in _PARTS:
                up, down = (height_mm / 2 + generator.uniform(-spread_mm, spread_mm, 2)).tolist()
                bundles.append(PhantomBundle(level, side, part, middle - up, middle + down))
    return tuple(bundles)


def make_phantom(
    bundles: Sequence[PhantomBundle] | None = None,
    *,
    voxel_mm: tuple[float, float, float] = (0.8, 0.8, 0.8),
    bend_per_mm: float = 0.0,
    oblique_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    phase: tuple[float, float, float] = (0.25, 0.6, 0.4),
    turn_degrees: float = 0.0,
) -> Phantom:
    """Make a phantom in SCT's orientation LPI (nibabel's RAS).

    Parameters
    ----------
    bundles : sequence of PhantomBundle, optional
        What to draw; :func:`typical_bundles` by default.
    voxel_mm : tuple of float
        Voxel size from left to right, back to front, bottom to top.
    bend_per_mm : float
        Curvature of the cord in the sagittal plane: 1 / radius, positive for lordosis.
    oblique_degrees : tuple of float
        Rotation of the voxel grid about the world's x, y and z axes.
    phase : tuple of float
        Shift of the grid in voxels: where voxel centers fall relative to the anatomy.
    turn_degrees : float
        Rotation of the cord's right and front about its own axis.
    """
    drawn = tuple(typical_bundles() if bundles is None else bundles)
    length = max(bundle.end for bundle in drawn) + _MARGIN_MM
    curve, angles = _curve(length, bend_per_mm)
    axes = _rotation(oblique_degrees) * np.asarray(voxel_mm)
    affine, shape = _grid(curve, axes, np.asarray(phase))
    where, indices = _cord_coordinates(curve, angles, affine, shape, np.deg2rad(turn_degrees))
    labels, cord = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    arc, right, anterior = where.T
    inside = (right / CORD_HALF_WIDTH_MM) ** 2 + (anterior / CORD_HALF_DEPTH_MM) ** 2 <= 1
    cord[tuple(indices[inside & (arc >= 0) & (arc <= length)].T)] = 1
    for bundle in drawn:
        labels[tuple(indices[_inside_bundle(bundle, where)].T)] = bundle.level
    return Phantom(labels, cord, affine, drawn, curve)


def _curve(length: float, bend: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a circular arc (upright in its middle) and its tilt in radians."""
    arc = np.arange(0, length + _CURVE_STEP_MM / 2, _CURVE_STEP_MM)
    tilt = bend * (arc - length / 2)
    middle = bend * (arc[:-1] + _CURVE_STEP_MM / 2 - length / 2)
    steps = _CURVE_STEP_MM * np.stack((0 * middle, -np.sin(middle), -np.cos(middle)), axis=1)
    return np.concatenate((np.zeros((1, 3)), np.cumsum(steps, axis=0))), tilt


def _rotation(degrees: Sequence[float]) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()


def _grid(
    curve: np.ndarray, axes: np.ndarray, phase: np.ndarray
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the affine and shape of a grid of the given voxel axes that holds the anatomy."""
    in_voxels = curve @ np.linalg.inv(axes).T
    margin = _HALF_FIELD_MM / np.linalg.norm(axes, axis=0)
    low = np.floor(in_voxels.min(axis=0) - margin) + phase
    size = np.ceil(in_voxels.max(axis=0) + margin - low).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = axes @ low
    return affine, (int(size[0]), int(size[1]), int(size[2]))


def _cord_coordinates(
    curve: np.ndarray,
    tilt: np.ndarray,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    turn: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (arc, right, anterior) of the voxels near the curve, and their indices."""
    from scipy.spatial import cKDTree

    coarse = curve[:: round(_FINE_MM / _CURVE_STEP_MM)]
    indices = np.indices(shape).reshape(3, -1).T
    points = to_world(indices, affine)
    distance, _ = cKDTree(coarse).query(points, distance_upper_bound=_HALF_FIELD_MM - 1)
    near = np.isfinite(distance)
    indices, points = indices[near], points[near]
    nearest = cKDTree(curve).query(points)[1]
    offset, angle = points - curve[nearest], tilt[nearest]
    along = -np.sin(angle) * offset[:, 1] - np.cos(angle) * offset[:, 2]
    forward = np.cos(angle) * offset[:, 1] - np.sin(angle) * offset[:, 2]
    right = offset[:, 0] * np.cos(turn) + forward * np.sin(turn)
    anterior = forward * np.cos(turn) - offset[:, 0] * np.sin(turn)
    return np.stack((nearest * _CURVE_STEP_MM + along, right, anterior), axis=1), indices


def _inside_bundle(bundle: PhantomBundle, where: np.ndarray) -> np.ndarray:
    """Say which points lie within a bundle: a flat strip from beside the cord outwards."""
    arc, right, anterior = where.T
    medial, lateral, thickness = _PARTS[bundle.part]
    section = np.stack((right if bundle.side == "right" else -right, anterior), axis=1)
    start, direction = np.array(medial), np.subtract(lateral, medial)
    share = np.clip((section - start) @ direction / (direction @ direction), 0, 1)
    apart = np.linalg.norm(section - start - share[:, None] * direction, axis=1)
    return (arc >= bundle.start) & (arc <= bundle.end) & (apart <= thickness)
