"""Rootlet bundles: connected pieces of a segmentation with their level, side and place on the cord.

A *bundle* is a 26-connected component of labeled voxels on one side of the cord. Where bundles of
neighboring levels touch, their component is cut across the cord where the levels change; voxels
of another level strewn through a bundle do not cut it, they are its *minority*.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.rootlets.centerline import Centerline, fit_centerline
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume
from sct_rootlets_task.rootlets.pieces import find_pieces
from sct_rootlets_task.rootlets.roots import (
    ROOT_BORDER_MM,
    anterior_offset,
    are_ventral,
    find_border,
    level_offsets,
)

LEFT, RIGHT = "left", "right"
DORSAL, VENTRAL, UNSURE = "dorsal", "ventral", "unsure"

_TIP_STEPS = 1.5


@dataclass(frozen=True)
class Bundle:
    """One rootlet bundle.

    Parameters
    ----------
    number : int
        Position in :attr:`Bundles.items`.
    level : int
        Spinal level of most of its voxels.
    votes : tuple of (int, int)
        Each level present and its number of voxels, most frequent first.
    side : {"left", "right"}
        Side of the cord.
    part : {"dorsal", "ventral", "unsure"}
        Root it belongs to.
    start, end : float
        Cranial and caudal end along the centerline, arc length in mm.
    volume : float
        mm³.
    anterior : float
        Mean distance to the front of the centerline, mm.
    reach : float
        Largest distance of a voxel from the centerline, mm.
    """

    number: int
    level: int
    votes: tuple[tuple[int, int], ...]
    side: str
    part: str
    start: float
    end: float
    volume: float
    anterior: float
    reach: float

    @property
    def midpoint(self) -> float:
        """Middle between the two ends, arc length in mm."""
        return (self.start + self.end) / 2

    @property
    def height(self) -> float:
        """Length along the centerline in mm."""
        return self.end - self.start

    @property
    def purity(self) -> float:
        """Share of the voxels that carry the bundle's level."""
        return self.votes[0][1] / sum(count for _, count in self.votes)

    @property
    def name(self) -> str:
        """For messages: level, side and root."""
        part = "" if self.part == UNSURE else f" {self.part}"
        return f"{value_name(self.level)} {self.side}{part}"


@dataclass(frozen=True, eq=False)
class Bundles:
    """All bundles of a segmentation with their voxels.

    Parameters
    ----------
    items : tuple of Bundle
        The bundles, in no particular order.
    voxels : ndarray of int, shape (n, 3)
        Indices of the labeled voxels.
    values : ndarray of uint8, shape (n,)
        Their labels.
    owner : ndarray of int, shape (n,)
        Number of the bundle each belongs to.
    where : ndarray of float, shape (n, 3)
        Arc length, distance to the right and to the front of the centerline, mm.
    line : Centerline
        The centerline that was used.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    shape : tuple of int
        Shape of the image.
    anterior_offsets : ndarray of float, shape (n,)
        :func:`~sct_rootlets_task.rootlets.roots.anterior_offset` of each voxel, the same on both
        sides in the median, in mm.
    border : float or None
        Offset between dorsal and ventral in mm; None if it cannot be known.
    """

    items: tuple[Bundle, ...]
    voxels: np.ndarray
    values: np.ndarray
    owner: np.ndarray
    where: np.ndarray
    line: Centerline
    affine: np.ndarray
    shape: tuple[int, ...]
    anterior_offsets: np.ndarray
    border: float | None

    def paint(self, levels: Iterable[int]) -> np.ndarray:
        """Return a level map in which each bundle has the given level (0: removed).

        Parameters
        ----------
        levels : iterable of int
            One level for each of :attr:`items`, in their order.
        """
        labels = np.zeros(self.shape, dtype=np.uint8)
        table = np.asarray(list(levels), dtype=np.uint8)
        if len(self.voxels):
            labels[tuple(self.voxels.T)] = table[self.owner]
        return labels


def find_bundles(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    cord: np.ndarray | None = None,
    line: Centerline | None = None,
) -> Bundles:
    """Find the rootlet bundles of a segmentation.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    cord : ndarray, shape (i, j, k), optional
        Cord mask, from which the centerline is fitted; without it the rootlets are used.
    line : Centerline, optional
        Centerline to use instead of fitting one.

    Raises
    ------
    ImageError
        If the arrays differ in shape, or there is nothing to fit a centerline to.
    """
    line = line or fit_centerline(labels, affine, cord=cord)
    voxels = voxels_of(labels)
    values = labels[tuple(voxels.T)].astype(np.uint8)
    where = line.project(to_world(voxels, affine))
    owner = find_pieces(voxels, values, where)
    sizes = np.bincount(owner)
    members = np.split(np.argsort(owner, kind="stable"), np.cumsum(sizes))[:-1]
    offsets = level_offsets(anterior_offset(where[:, 1], where[:, 2]), where[:, 1])
    items = [
        _bundle(n, voxels[one], values=values[one], where=where[one], affine=affine, line=line)
        for n, one in enumerate(members)
    ]
    means = np.array([offsets[one].mean() for one in members])
    border = find_border(means, sizes, fixed=ROOT_BORDER_MM if line.source == "cord" else None)
    if border is not None:
        ventral = are_ventral(means, [(item.level, item.side) for item in items], border)
        items = [
            replace(item, part=VENTRAL if front else DORSAL)
            for item, front in zip(items, ventral, strict=True)
        ]
    return Bundles(
        items=tuple(items),
        voxels=voxels,
        values=values,
        owner=owner,
        where=where,
        line=line,
        affine=affine,
        shape=labels.shape,
        anterior_offsets=offsets,
        border=border,
    )


def extent(
    indices: np.ndarray, arcs: np.ndarray, *, affine: np.ndarray, line: Centerline
) -> tuple[float, float]:
    """Return the cranial and caudal end of a set of voxels along the centerline.

    The true end lies beyond the outermost voxel center. On a grid along the cord it lies half a
    voxel beyond on average. On a grid at a slant to it, neighboring voxel columns come to
    different distances of the end, and the outermost voxel center comes the closer the more their
    arc lengths differ within a slice: with steps of h along a column and differences of p < h
    within a slice, (h - p)² / 2h on average for an end that is cut straight across the cord.

    Parameters
    ----------
    indices : ndarray of int, shape (n, 3)
        Voxels.
    arcs : ndarray of float, shape (n,)
        Their arc lengths in mm.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    line : Centerline
        The centerline.

    Returns
    -------
    start, end : float
        Arc lengths in mm.
    """
    ends = []
    for sign in (-1.0, 1.0):
        position = sign * arcs
        outermost = float(position.max())
        steps = np.abs(line.tangent(sign * outermost) @ affine[:3, :3])
        column = int(steps.argmax())
        if not steps[column]:  # a line of no length, through voxels side by side
            ends.append(sign * outermost)
            continue
        tip = indices[position > outermost - _TIP_STEPS * steps[column]]
        spread = float(np.delete(np.ptp(tip, axis=0) * steps, column).sum())
        beyond = max(steps[column] - spread, 0.0) ** 2 / (2 * steps[column])
        ends.append(float(sign * (outermost + beyond)))
    return ends[0], ends[1]


def table(rows: list[dict[str, Any]], columns: list[str] | None = None) -> Any:
    """Return rows as a pandas data frame.

    Parameters
    ----------
    rows : list of dict
        One dict a row, with the columns as keys.
    columns : list of str, optional
        The columns, for a table that may have no row.

    Raises
    ------
    MissingDependencyError
        If pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        raise MissingDependencyError(
            "A table as a data frame needs pandas, which is not installed. Run 'pip install "
            "pandas', or use the rows themselves."
        ) from error
    return pandas.DataFrame(rows, columns=columns)


def _bundle(
    number: int,
    voxels: np.ndarray,
    *,
    values: np.ndarray,
    where: np.ndarray,
    affine: np.ndarray,
    line: Centerline,
) -> Bundle:
    levels, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    start, end = extent(voxels, where[:, 0], affine=affine, line=line)
    return Bundle(
        number=number,
        level=int(levels[order[0]]),
        votes=tuple((int(levels[i]), int(counts[i])) for i in order),
        side=RIGHT if where[:, 1].mean() > 0 else LEFT,
        part=UNSURE,
        start=start,
        end=end,
        volume=len(voxels) * voxel_volume(affine),
        anterior=float(where[:, 2].mean()),
        reach=float(np.hypot(where[:, 1], where[:, 2]).max()),
    )
