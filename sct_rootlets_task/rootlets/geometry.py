"""Voxels in world millimeters: what every measure along the cord is built on.

Arrays of voxel indices have the shape (n, 3) with the image's own axes (i, j, k); world points have
the shape (n, 3) with the axes right, anterior, superior (RAS+) in mm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.orientation import on_grid

_IN_MEMORY = Path("the image in memory")


def to_world(indices: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the world points of voxel indices.

    Parameters
    ----------
    indices : ndarray, shape (n, 3)
        Voxel indices (i, j, k).
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.

    Returns
    -------
    ndarray of float, shape (n, 3)
        Right, anterior, superior in mm.
    """
    return indices @ affine[:3, :3].T + affine[:3, 3]


def voxel_volume(affine: np.ndarray) -> float:
    """Return the volume of a voxel in mm³."""
    return float(abs(np.linalg.det(affine[:3, :3])))


def slice_axis(affine: np.ndarray) -> tuple[int, bool]:
    """Return the axis of the slices that cut the body from bottom to top.

    Parameters
    ----------
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.

    Returns
    -------
    axis : int
        Array axis nearest to inferior–superior.
    upwards : bool
        Whether its index grows toward the head.

    Examples
    --------
    >>> slice_axis(np.diag([1.0, 1.0, -2.0, 1.0]))
    (2, False)
    """
    from nibabel.orientations import io_orientation

    orientation = io_orientation(affine)
    axis = int(np.flatnonzero(orientation[:, 0] == 2)[0])
    return axis, bool(orientation[axis, 1] > 0)


def slice_numbers(indices: np.ndarray, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the axial slice of each voxel, counted from the inferior end (SCT's RPI order).

    Parameters
    ----------
    indices : ndarray of int, shape (n, 3)
        Voxel indices.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    shape : tuple of int
        Shape of the image.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    axis, upwards = slice_axis(affine)
    return indices[:, axis] if upwards else shape[axis] - 1 - indices[:, axis]


def require_labels(labels: np.ndarray, name: str = "the level map", *, least: int = 2) -> None:
    """Refuse a level map that holds nothing to work on.

    Parameters
    ----------
    labels : ndarray, shape (i, j, k)
        Level map.
    name : str
        What messages call it.
    least : int
        Labeled voxels that are needed: one to renumber, two for a line.

    Raises
    ------
    ImageError
        If it holds fewer.
    """
    found = np.count_nonzero(labels)
    if found < least:
        what = "a single labeled voxel" if found else "no labeled voxel"
        raise ImageError(
            f"Expected rootlets in {name}, found {what}. Look whether the image shows the task's "
            "levels, and whether this is the right file."
        )


def require_same_grid(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    other: np.ndarray,
    other_affine: np.ndarray | None = None,
    name: str = "cord mask",
) -> np.ndarray:
    """Return an array on the grid of a level map; refuse one that lies on another grid.

    Parameters
    ----------
    labels : ndarray, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Its affine.
    other : ndarray
        The array that has to fit. With an affine, its axes may have another order and direction.
    other_affine : ndarray of float, shape (4, 4), optional
        Its affine; that of the level map when not given.
    name : str
        What the other array is, for the message.

    Returns
    -------
    ndarray, shape (i, j, k)
        The other array, with the axes of the level map.

    Raises
    ------
    ImageError
        If the level map is not 3-D, the shapes differ, or a corner voxel lies more than 0.1 mm
        apart.
    """
    if labels.ndim != 3:
        raise ImageError(f"Expected a level map of three dimensions, found {labels.ndim}.")
    return on_grid(
        other,
        affine if other_affine is None else other_affine,
        shape=labels.shape,
        target=affine,
        expected=f"the {name} on the grid of the level map",
        advice=(
            "Resample it to the level map with nearest-neighbor interpolation "
            "(sct_register_multimodal -identity 1 -x nn) first."
        ),
    )


def level_map(image: Any) -> np.ndarray:
    """Return the voxels of a nibabel image that has to be a level map.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Whole numbers from 0 to 255, of three dimensions.

    Returns
    -------
    ndarray of uint8, shape (i, j, k)

    Raises
    ------
    ImageError
        If the image holds something else.
    """
    from sct_rootlets_task.io.images import whole_numbers
    from sct_rootlets_task.io.label_values import step_of
    from sct_rootlets_task.io.nifti import reading

    with reading(_IN_MEMORY):
        values = np.asarray(image.dataobj)
    if values.ndim != 3:
        raise ImageError(f"Expected a level map of three dimensions, found {values.ndim}.")
    if values.dtype.kind not in "biuf":
        raise ImageError(f"Expected whole numbers in a level map, found {values.dtype}.")
    return whole_numbers(values, "a level map", step=step_of(image)).astype(np.uint8)


def like(image: Any, labels: np.ndarray) -> Any:
    """Return a nibabel image of labels on the grid of another, with no text of its header.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The image whose grid it is.
    labels : ndarray of uint8, shape (i, j, k)
        Label map.
    """
    from sct_rootlets_task.io.images import labels_like

    return labels_like(labels, image.affine, image.header)
