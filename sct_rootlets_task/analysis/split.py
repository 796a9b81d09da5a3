"""Left and right, dorsal and ventral: the four bundles of each level apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.level_names import name_levels
from sct_rootlets_task.levels.cord_mask import levels_out_of_reach, read_cord
from sct_rootlets_task.levels.landmarks import landmarks_from_images
from sct_rootlets_task.rootlets.bundles import DORSAL, LEFT, RIGHT, VENTRAL, find_bundles
from sct_rootlets_task.rootlets.geometry import level_map, like, require_labels

PARTS = tuple(f"{side}_{part}" for side in (LEFT, RIGHT) for part in (DORSAL, VENTRAL))
"""Names of the parts, in the order of :func:`split`."""

_MERGED_SHARE = 0.15
_CLEAR_MM = 0.75


def split(
    labels: np.ndarray, affine: np.ndarray, *, cord: np.ndarray, name: str = "cord mask"
) -> dict[str, np.ndarray]:
    """Split a segmentation into left and right, dorsal and ventral rootlets.

    Sides and roots are told by the cord's own axes: its centerline and the long axis of its
    section, so a turned or bent cord makes no difference. A connected piece stays whole unless it
    reaches well into both halves, or into both roots; then it is cut voxel by voxel.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm, of both arrays.
    cord : ndarray, shape (i, j, k)
        Cord mask; above 0.5 is cord.
    name : str
        What messages call the mask.

    Returns
    -------
    dict of str to ndarray of uint8, shape (i, j, k)
        A level map for each of :data:`PARTS`. They do not overlap, and their sum is the input.

    Raises
    ------
    ImageError
        If there are no rootlets, or the cord mask is none, lies on another grid, or does not reach
        all levels.
    """
    require_labels(labels)
    parts = {part: np.zeros(labels.shape, dtype=np.uint8) for part in PARTS}
    known = read_cord(cord, labels, affine, name=name)
    bundles = find_bundles(labels, affine, line=known.line)
    missing = levels_out_of_reach(bundles, known)
    if missing:
        raise ImageError(
            f"Expected the {name} beside all rootlets, found none beside {name_levels(missing)}. "
            "Give a mask of this image that reaches them, or remove these levels first."
        )
    # With a cord mask there always is a border, see find_bundles.
    border = bundles.border or 0.0
    for bundle in bundles.items:
        members = np.flatnonzero(bundles.owner == bundle.number)
        ventral: np.ndarray = np.full(len(members), bundle.part == VENTRAL)
        above = bundles.anterior_offsets[members] - border
        if min((above > _CLEAR_MM).mean(), (above < -_CLEAR_MM).mean()) > _MERGED_SHARE:
            ventral = above > 0
        for root, mask in ((VENTRAL, ventral), (DORSAL, ~ventral)):
            chosen = members[mask]
            where = tuple(bundles.voxels[chosen].T)
            parts[f"{bundle.side}_{root}"][where] = bundles.values[chosen]
    return parts


def split_image(image: Any, cord: Any) -> dict[str, Any]:
    """Split a nibabel image; see ``split``.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Level map.
    cord : nibabel.Nifti1Image
        Cord mask on the same grid.

    Returns
    -------
    dict of str to nibabel.Nifti1Image

    Raises
    ------
    ImageError
        If the two images lie on different grids.
    """
    labels = level_map(image)
    known = landmarks_from_images(image, cord=cord)
    require_labels(labels, f"the {known.name('labels')}")
    mask = np.asarray(known.cord)
    parts = split(labels, image.affine, cord=mask, name=known.name("cord"))
    return {name: like(image, part) for name, part in parts.items()}
