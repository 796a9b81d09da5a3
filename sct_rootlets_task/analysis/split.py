"""Left and right, dorsal and ventral: the four bundles of each level apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.label_values import count_levels
from sct_rootlets_task.level_names import name_levels, value_name
from sct_rootlets_task.levels.cord_mask import levels_out_of_reach, read_cord
from sct_rootlets_task.levels.landmarks import landmarks_from_images
from sct_rootlets_task.rootlets.bundles import DORSAL, LEFT, RIGHT, VENTRAL, find_bundles
from sct_rootlets_task.rootlets.geometry import level_map, like, require_labels

PARTS = tuple(f"{side}_{part}" for side in (LEFT, RIGHT) for part in (DORSAL, VENTRAL))
"""Names of the parts, in the order of :func:`split`."""

COLUMNS: Mapping[str, str] = {
    "side": "left or right.",
    "root": "dorsal or ventral.",
    "voxels": "Voxels of the level's rootlets on this side and of this root; 0 if there are none.",
    "volume_mm3": "Their volume in mm³.",
}
"""Columns of the table of parts, after those that tell the image and the level."""

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


def part_rows(parts: Mapping[str, np.ndarray], voxel_mm3: float) -> list[dict[str, Any]]:
    """Return the size of each level in each part, by level and part.

    Parameters
    ----------
    parts : mapping of str to ndarray of int, shape (i, j, k)
        Level map of each part, as :func:`split` returns them.
    voxel_mm3 : float
        Volume of a voxel in mm³.

    Returns
    -------
    list of dict
        By the columns of :data:`COLUMNS`, with ``level`` and ``level_name``.
    """
    counts = {name: count_levels(part) for name, part in parts.items()}
    rows = []
    for level in sorted(set().union(*counts.values())):
        for name, found in counts.items():
            side, root = name.split("_")
            voxels = found.get(level, 0)
            row = {"level": level, "level_name": value_name(level), "side": side, "root": root}
            rows.append({**row, "voxels": voxels, "volume_mm3": round(voxels * voxel_mm3, 3)})
    return rows
