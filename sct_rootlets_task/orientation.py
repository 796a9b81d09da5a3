"""Orientation of image axes, and the way to a model's orientation and back.

SCT names where each axis comes *from*, nibabel where it goes *to*: SCT's ``LPI`` is nibabel's
``RAS``. Model folders and SCT's command line use SCT's letters, so they are the ones read here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import ModelError

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
    def to_sct(cls, affine: np.ndarray, orientation: str) -> Reorientation:
        """Return the way from the grid of `affine` to an orientation in SCT's letters.

        Parameters
        ----------
        affine : ndarray of float, shape (4, 4)
            Voxel index to RAS+ mm.
        orientation : str
            Target, in SCT's letters.
        """
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

    def forward_spacing(self, spacing: tuple[float, ...]) -> tuple[float, ...]:
        """Return voxel sizes in mm in the order of the model's axes."""
        order = np.argsort(self.transform[:, 0])
        return tuple(float(spacing[axis]) for axis in order)


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
