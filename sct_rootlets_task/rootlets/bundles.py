"""Rootlet bundles: connected pieces of a segmentation with their level, side and place on the cord.

A *bundle* is a 26-connected component of labeled voxels on one side of the cord. Where bundles of
neighboring levels touch, their component is cut across the cord where the levels change; voxels
of another level strewn through a bundle do not cut it, they are its *minority*.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from itertools import repeat
from typing import Any

import numpy as np

from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.rootlets.centerline import Centerline, fit_centerline
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import to_world, voxel_volume
from sct_rootlets_task.rootlets.viterbi import cheapest_path

LEFT, RIGHT = "left", "right"
DORSAL, VENTRAL, UNSURE = "dorsal", "ventral", "unsure"

ROOT_SLOPE = 0.6
"""How far forward (mm) a root runs for each mm outwards: between PAM50's dorsal roots, which start
beside the cord and run outwards and forwards, and its ventral ones."""

CORD_HALF_WIDTH_MM = 5.5
"""Half of PAM50's mean cord width between C2 and T1 (10–12 mm)."""

ROOT_BORDER_MM = 0.4
"""Border between dorsal and ventral in :func:`anterior_offset`: PAM50's dorsal bundles have means
of −3.1 to −0.7 mm there, its ventral ones 0.5 to 3.3 mm."""

_TIP_STEPS = 1.5
_RUN_MM = 1.0
_BORDER_MM = 2.0
_CUT_COST = 0.1
_BOTH_SIDES = 0.1
_CLUSTERS_APART_MM = 2.0
_ROOTS_APART_MM = 3.0


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
    lateral, anterior : float
        Mean distance to the side and to the front of the centerline, mm.
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
    lateral: float
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
    root_heights : ndarray of float, shape (n,)
        :func:`anterior_offset` of each voxel, levelled between the two sides, in mm.
    border : float or None
        Root height that parts dorsal from ventral; None if it cannot be told.
    """

    items: tuple[Bundle, ...]
    voxels: np.ndarray
    values: np.ndarray
    owner: np.ndarray
    where: np.ndarray
    line: Centerline
    affine: np.ndarray
    shape: tuple[int, ...]
    root_heights: np.ndarray
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
    piece = _cut_by_side(connected(voxels), where[:, 1])
    owner = _cut_by_level(piece, values, where[:, 0])
    order = np.argsort(owner, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []
    for number, members in enumerate(groups):
        owner[members] = number
    heights = _levelled(anterior_offset(where[:, 1], where[:, 2]), where[:, 1])
    border = _root_border(heights, groups, line)
    items = [
        _bundle(
            number,
            voxels[members],
            values=values[members],
            where=where[members],
            affine=affine,
            line=line,
        )
        for number, members in enumerate(groups)
    ]
    items = _with_parts(items, [float(heights[members].mean()) for members in groups], border)
    return Bundles(
        items=tuple(items),
        voxels=voxels,
        values=values,
        owner=owner,
        where=where,
        line=line,
        affine=affine,
        shape=labels.shape,
        root_heights=heights,
        border=border,
    )


def anterior_offset(right: np.ndarray, anterior: np.ndarray) -> np.ndarray:
    """Return how far in front of an average root's course points lie, in mm.

    Roots run outwards and forwards from the cord, the dorsal ones so far that they end in front of
    its center. Measured from a line of that slope instead of from the center, dorsal (negative)
    and ventral (positive) stay apart along their whole course.

    Parameters
    ----------
    right, anterior : ndarray of float, shape (n,)
        Distance to the right and to the front of the centerline in mm.
    """
    return anterior - ROOT_SLOPE * (np.abs(right) - CORD_HALF_WIDTH_MM)


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


def to_dataframe(bundles: Bundles) -> Any:
    """Return a pandas data frame with one row a bundle; ``start`` is its caudal end, as in tables.

    Raises
    ------
    MissingDependencyError
        If pandas is not installed.
    """
    rows = [
        {
            **asdict(bundle),
            "start": bundle.end,
            "end": bundle.start,
            "midpoint": bundle.midpoint,
            "height": bundle.height,
            "purity": bundle.purity,
        }
        for bundle in bundles.items
    ]
    return table(rows)


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
        lateral=float(np.abs(where[:, 1]).mean()),
        anterior=float(where[:, 2].mean()),
        reach=float(np.hypot(where[:, 1], where[:, 2]).max()),
    )


def _levelled(heights: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return root heights after a slight turn that makes the two sides alike.

    The long axis of a nearly round section is known to some 10°, which lifts one side and lowers
    the other; the medians of the two sides (mostly dorsal roots, the larger ones) tell the rest.
    """
    on_right = right > 0
    if on_right.all() or not on_right.any():
        return heights
    tilt = (np.median(heights[on_right]) - np.median(heights[~on_right])) / 2
    return heights - np.where(on_right, tilt, -tilt)


def _with_parts(items: list[Bundle], heights: list[float], border: float | None) -> list[Bundle]:
    """Say of each bundle whether it is dorsal or ventral.

    Of two bundles of one level and side on the same side of the border, but far apart, the one near
    the border belongs to the other root.
    """
    if border is None:
        return items
    parts = [VENTRAL if height > border else DORSAL for height in heights]
    groups: dict[tuple[int, str], list[int]] = {}
    for item in items:
        groups.setdefault((item.level, item.side), []).append(item.number)
    for members in groups.values():
        members.sort(key=lambda number: heights[number])
        first, last = members[0], members[-1]
        if parts[first] == parts[last] and heights[last] - heights[first] > _ROOTS_APART_MM:
            middle = (heights[first] + heights[last]) / 2
            for number in members:
                parts[number] = VENTRAL if heights[number] > middle else DORSAL
    return [replace(item, part=part) for item, part in zip(items, parts, strict=True)]


def _cut_by_side(component: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Part components that reach over to the other side of the cord."""
    if not len(component):
        return component
    count = np.bincount(component)
    on_right = np.bincount(component, weights=right > 0) / np.maximum(count, 1)
    # A few voxels across the middle are the fit's inaccuracy, not a bundle of the other side.
    both = (on_right >= _BOTH_SIDES) & (on_right <= 1 - _BOTH_SIDES)
    return component * 2 + (both[component] & (right > 0))


def _cut_by_level(piece: np.ndarray, values: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Part pieces in which one level follows upon another along the cord."""
    owner = piece * 256
    order = np.argsort(piece, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(piece[order])) + 1):
        if len(members) and np.ptp(values[members]):
            owner[members] += _runs(values[members], arcs[members])
    return owner


def _runs(values: np.ndarray, arcs: np.ndarray) -> np.ndarray:
    """Return the level of the run each voxel lies in.

    Slices of 1 mm along the cord get levels that never decrease, so that as few voxels as possible
    disagree; a change of level costs as much as a tenth of the piece disagreeing.
    """
    levels, which = np.unique(values, return_inverse=True)
    number = np.floor((arcs - arcs.min()) / _RUN_MM).astype(int)
    counts = np.zeros((number.max() + 1, len(levels)))
    np.add.at(counts, (number, which.ravel()), 1)
    disagree = counts.sum(axis=1, keepdims=True) - counts
    change = _CUT_COST * len(values)
    rank = np.arange(len(levels))
    step = np.where(rank[:, None] > rank, np.inf, change * (rank[:, None] != rank))
    _, best = cheapest_path(disagree, repeat(step))
    found = levels[best][number]
    # The border between two bundles need not run along a slice: near it, voxels choose their run.
    for border in np.flatnonzero(np.diff(best)) + 1:
        near = np.abs(arcs - arcs.min() - border * _RUN_MM) <= _BORDER_MM
        either = np.isin(values, levels[best[[border - 1, border]]])
        found = np.where(near & either, values, found)
    return found


def _root_border(heights: np.ndarray, groups: list[np.ndarray], line: Centerline) -> float | None:
    """Return the root height that parts dorsal from ventral bundles, None if it cannot be told.

    Two clusters of bundles clearly apart give the border themselves. Else the border of PAM50 holds
    if the line is the cord's; one fitted to rootlets lies in the middle of whatever is there.
    """
    fixed = ROOT_BORDER_MM if line.source == "cord" else None
    if len(groups) < 4:
        return fixed
    means = np.array([heights[members].mean() for members in groups])
    sizes = np.sqrt([len(members) for members in groups])
    low, high = float(np.quantile(means, 0.1)), float(np.quantile(means, 0.9))
    for _ in range(20):
        upper = means > (low + high) / 2
        if upper.all() or not upper.any():
            return fixed
        low, high = (float(np.average(means[m], weights=sizes[m])) for m in (~upper, upper))
    spread = np.sqrt(np.average((means - np.where(upper, high, low)) ** 2, weights=sizes))
    return (low + high) / 2 if high - low > max(_CLUSTERS_APART_MM, 3 * spread) else fixed
