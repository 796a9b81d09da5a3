"""Orientation of image axes, and the way to a model's orientation and back.

SCT names where each axis comes *from*, nibabel where it goes *to*: SCT's ``LPI`` is nibabel's
``RAS``. Model folders and SCT's command line use SCT's letters, so they are the ones read here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import ImageError, ModelError

_SAME_GRID_MM = 0.1
_SAME_ANGLE_DEGREES = 0.1
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "I": "S", "S": "I"}


def axcodes_from_sct(orientation: str) -> tuple[str, str, str]:
    """Return nibabel's axis codes for an orientation in SCT's letters.

    Parameters
    ----------
    orientation : str
        Three letters, one of each pair L/R, A/P, I/S, in SCT's "from" convention.

    Raises
    ------
    ModelError
        If the letters are no orientation.

    Examples
    --------
    >>> axcodes_from_sct("LPI")
    ('R', 'A', 'S')
    """
    codes = tuple(_OPPOSITE.get(letter, "") for letter in orientation)
    if {frozenset((c, _OPPOSITE.get(c, ""))) for c in codes} != {
        frozenset("LR"),
        frozenset("AP"),
        frozenset("IS"),
    } or len(codes) != 3:
        raise ModelError(
            f"Expected an orientation such as 'LPI' or 'RPI', found {orientation!r}. "
            "Correct 'image_orientation' in the model's dataset.json."
        )
    return codes[0], codes[1], codes[2]


@dataclass(frozen=True, eq=False)
class Reorientation:
    """Transposition and flips from an image's voxel axes to a model's, and back.

    Parameters
    ----------
    transform : ndarray of float, shape (3, 2)
        For each axis of the image: the axis of the model it becomes, and +1 or −1 for a flip
        (nibabel's orientation transform).
    """

    transform: np.ndarray

    @classmethod
    def onto(cls, affine: np.ndarray, target: np.ndarray) -> Reorientation:
        """Return the way from one grid to another (both voxel index to RAS+ mm).

        Axes go to the nearest axes of the other grid, not of the world: for a grid that slants by
        45°, rounding would choose these.
        """
        from nibabel.orientations import io_orientation

        return cls(io_orientation(np.linalg.solve(target, affine)))

    @classmethod
    def to_sct(cls, affine: np.ndarray, orientation: str) -> Reorientation:
        """Return the way from a grid (voxel index to RAS+ mm) to SCT's letters of orientation."""
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        target = axcodes2ornt(axcodes_from_sct(orientation))
        return cls(ornt_transform(io_orientation(affine), target))

    def forward(self, array: np.ndarray) -> np.ndarray:
        """Return a view of a 3-D array with the model's axes."""
        from nibabel.orientations import apply_orientation

        return apply_orientation(array, self.transform)

    def backward(self, array: np.ndarray) -> np.ndarray:
        """Return a view of a 3-D array of the model's axes with the image's axes."""
        axes = self.transform[:, 0].astype(int)
        flips = self.transform[:, 1]
        back = np.transpose(array, axes)
        return back[tuple(slice(None, None, int(flip)) for flip in flips)]

    def forward_affine(self, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return the affine of :meth:`forward` of an array with this affine and shape."""
        from nibabel.orientations import inv_ornt_aff

        return np.asarray(affine @ inv_ornt_aff(self.transform, shape))

    def forward_spacing(self, spacing: tuple[float, ...]) -> tuple[float, ...]:
        """Return voxel sizes in mm in the order of the model's axes."""
        order = np.argsort(self.transform[:, 0])
        return tuple(float(spacing[axis]) for axis in order)


def on_grid(
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    shape: tuple[int, ...],
    target: np.ndarray,
    expected: str,
    advice: str,
) -> np.ndarray:
    """Return an array with the axes of another grid that has the same voxels.

    Axes are only put into another order and turned round, so each value stays where it is. Voxels
    may lie up to 0.1 mm apart: headers are rounded.

    Parameters
    ----------
    voxels : ndarray, shape (i, j, k)
        The array.
    affine : ndarray of float, shape (4, 4)
        Its affine, voxel index to RAS+ mm.
    shape : tuple of int
        Shape of the grid.
    target : ndarray of float, shape (4, 4)
        Affine of the grid.
    expected, advice : str
        What was expected, and what to do else, for the message.

    Returns
    -------
    ndarray of the given shape
        The array itself, or a view of it.

    Raises
    ------
    ImageError
        If shape, voxel sizes, directions or places differ.
    """
    if voxels.ndim == 3:
        way = Reorientation.onto(affine, target)
        affine, voxels = way.forward_affine(affine, voxels.shape), way.forward(voxels)
    difference = _difference(voxels.shape, affine, shape=shape, target=target)
    if difference:
        raise ImageError(f"Expected {expected}, found {difference}. {advice}")
    return voxels


def _difference(
    found: tuple[int, ...], affine: np.ndarray, *, shape: tuple[int, ...], target: np.ndarray
) -> str:
    """Return how two grids differ, an empty text where they do not."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape])).reshape(len(shape), -1)
    if found == shape:
        offsets = (affine - target)[:3, :3] @ corners + (affine - target)[:3, 3:]
        apart = float(np.linalg.norm(offsets, axis=0).max())
        if apart <= _SAME_GRID_MM:
            return ""
    differences = [] if found == shape else [f"the shape {found} instead of {shape}"]
    sizes, wanted = (np.linalg.norm(one[:3, :3], axis=0) for one in (affine, target))
    if np.abs((sizes - wanted) * shape).max() > _SAME_GRID_MM:
        differences.append(f"voxels of {by(sizes)} mm instead of {by(wanted)} mm")
    between = np.clip((affine[:3, :3] / sizes * (target[:3, :3] / wanted)).sum(axis=0), -1, 1)
    degrees = float(np.degrees(np.arccos(between)).max())
    if degrees > _SAME_ANGLE_DEGREES:
        differences.append(f"axes at an angle of {degrees:.1f}°")
    if found == shape:
        differences.append(f"voxels up to {apart:.1f} mm apart")
    return " and ".join(differences)


def by(sizes: np.ndarray) -> str:
    """Return sizes for a message.

    Examples
    --------
    >>> by(np.array([0.5, 1.0, 3.0]))
    '0.5 × 1 × 3'
    """
    return " × ".join(f"{size:.4g}" for size in sizes)


def obliqueness(affine: np.ndarray) -> float:
    """Return the largest angle between a voxel axis and the world axis it is assigned to.

    Parameters
    ----------
    affine : ndarray of float, shape (4, 4)
        Voxel index to RAS+ mm; axes may be at any angle to each other.

    Returns
    -------
    float
        Degrees; 0 where the grid runs along the world's axes, whatever its orientation.

    Examples
    --------
    >>> obliqueness(np.diag([-1.0, 1.0, 3.0, 1.0]))
    0.0
    """
    from nibabel.orientations import io_orientation

    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    nearest = io_orientation(affine)[:, 0].astype(int)
    along = np.abs(axes[nearest, range(3)])
    across = np.sqrt(np.clip(1 - along**2, 0, None))
    return float(np.degrees(np.arctan2(across, along)).max())
