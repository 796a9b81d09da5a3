"""Spinal levels from rootlets: where each level of the cord begins and ends, without gaps.

All lengths are arc lengths in mm along the cord's centerline. The rootlets of a level count where
they enter the cord: within :data:`REACH_MM` of it. Between the cranial end of the first level and
the caudal end of the last, the methods are

``caudal``
    A level reaches from the caudal end of the rootlets of the level above to that of its own.
``midpoint``
    Levels meet halfway between the midpoints of their rootlets.
``rootlets``
    A level reaches from the cranial to the caudal end of its own rootlets, with gaps between
    levels (the published method); where two overlap, they meet in the middle.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.check import Report, check
from sct_rootlets_task.analysis.flags import LANDMARK, NOT_COVERED
from sct_rootlets_task.analysis.level_summary import summarize
from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.io.label_values import inside_mask
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.level_names import LAST_LEVEL, name_levels, value_name
from sct_rootlets_task.levels.anatomical_priors import AnatomicalPriors
from sct_rootlets_task.levels.cord_mask import (
    COVER_MM,
    CordMask,
    levels_out_of_reach,
    read_cord,
    require_reach,
)
from sct_rootlets_task.levels.corrections import sound_bundles
from sct_rootlets_task.levels.landmarks import Landmarks, landmarks_from_images, pmj_arc
from sct_rootlets_task.rootlets.bundles import (
    DORSAL,
    LEFT,
    RIGHT,
    VENTRAL,
    Bundle,
    Bundles,
    extent,
    find_bundles,
    table,
)
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import (
    level_map,
    like,
    require_labels,
    slice_axis,
    to_world,
    voxel_volume,
)
from sct_rootlets_task.rootlets.roots import CORD_HALF_WIDTH_MM
from sct_rootlets_task.tasks import Task

CAUDAL, MIDPOINT, ROOTLETS = "caudal", "midpoint", "rootlets"
METHODS = (CAUDAL, MIDPOINT, ROOTLETS)

REACH_MM = 4.0
"""Rootlets within this distance of the cord mask make its levels; farther out they run downwards.
The published method dilates the mask by 2 or 3 voxels, some 2 mm, which would leave 2 mm of C2 in
PAM50, whose rootlets are drawn from 1.4 mm off the cord; at 4 mm every level of PAM50 keeps its
height to within 1 mm."""

INTERPOLATED, OUT_OF_ORDER, FAR = "interpolated", "out_of_order", "not_near_cord"
AREA_UNKNOWN = "area_unknown"

PMJ, CORD_MASK_TOP = "pmj", "cord_mask_top"
"""What distances are counted from; without PMJ and cord mask, from the first level found."""

COLUMNS: Mapping[str, str] = {
    "spinal_level": "The level: 1 = C1 … 9 = T1 … 21 = L1 … 30 = S5.",
    "fname": "Name of the level map.",
    "slice_start": (
        "Lowest axial slice of the level, counted from the inferior end; empty, like all that the "
        "cord mask tells, where the level is not_covered by it."
    ),
    "slice_end": "Highest axial slice of the level.",
    "distance_from_pmj_start": (
        "Distance of the level's caudal end from the PMJ in mm along the cord; empty without a PMJ."
    ),
    "distance_from_pmj_end": "Distance of the level's cranial end from the PMJ, likewise.",
    "height": "The same as level_height, under the name of the published tables.",
    "distance_from_pmj_midpoint": "Distance of the level's middle from the PMJ, likewise.",
    "distance_origin": (
        "What the next three columns are counted from: pmj; else cord_mask_top, the top of the "
        "cord mask; else the name of the first level found, such as C2, whose cranial end it is."
    ),
    "distance_start": "Distance of the level's caudal end from the origin in mm along the cord.",
    "distance_end": "Distance of the level's cranial end, likewise.",
    "distance_midpoint": "Distance of the level's middle, likewise.",
    "level_height": "Length of the spinal level in mm along the cord, as the method draws it.",
    "rootlets_height": (
        "Length of the piece of cord beside all rootlets of the level in mm along the cord: the "
        "height in the check and on the QC page. Empty where there are none."
    ),
    "area_perpendicular_to_cord": (
        "Mean cross-section of the cord within the level in mm², cut at right angles to the cord; "
        "empty with the flag area_unknown."
    ),
    "volume": "Volume of the level's rootlets in mm³.",
    "cord_area": "The same as area_perpendicular_to_cord, under its older name.",
    "left_volume": "Volume of the rootlets on the left in mm³.",
    "right_volume": "Volume of the rootlets on the right in mm³.",
    "dorsal_volume": "Volume of the dorsal rootlets in mm³; 0 where the roots cannot be told.",
    "ventral_volume": "Volume of the ventral rootlets in mm³; 0 where the roots cannot be told.",
    "method": "How the boundaries were drawn: caudal, midpoint or rootlets.",
    "flags": (
        "Codes of the check's flags on the level, and of its own: interpolated (a level without "
        "rootlets), out_of_order, not_near_cord, not_covered, area_unknown (the cord mask "
        "covers less than nine tenths of the level, or it has no length); "
        "landmark and shift stand at every level."
    ),
}
"""Columns of the table of levels, in order and always all of them, so that tables can be joined."""

UNITS: Mapping[str, str] = {
    **{
        name: "mm"
        for name in COLUMNS
        if "height" in name or (name.startswith("distance_") and name != "distance_origin")
    },
    **dict.fromkeys(("area_perpendicular_to_cord", "cord_area"), "mm^2"),
    **{name: "mm^3" for name in COLUMNS if name.endswith("volume")},
}
"""Units of the columns that have any, as BIDS writes them."""

_TEXT_COLUMNS = ("fname", "distance_origin", "method", "flags")
_FEWEST_NEAR = 0.05
_LEAST_COVER = 0.9
_GAP_TO_PMJ_MM = 70.0
_MOVED_MM = 0.25


@dataclass(frozen=True)
class Span:
    """One level along the cord; arc lengths in mm, ``start`` at its cranial end."""

    level: int
    start: float
    end: float
    flags: tuple[str, ...] = ()

    @property
    def height(self) -> float:
        """Length along the cord in mm."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class SpinalLevels:
    """Result of :func:`spinal_levels`.

    Parameters
    ----------
    rows : tuple of dict
        One a level, from top to bottom, by the columns of :data:`COLUMNS`.
    labels : ndarray of uint8, shape (i, j, k), or None
        The cord colored by level; None without a cord mask.
    spans : tuple of Span
        The levels as arc lengths.
    origin : str
        What distances are counted from: ``pmj``, ``cord_mask_top`` or the name of the first level
        found.
    method : str
        One of :data:`METHODS`.
    warnings : tuple of str
        What is doubtful about the landmarks, which levels the cord mask does not reach, and what
        stays empty for what reason.
    """

    rows: tuple[dict[str, Any], ...]
    labels: np.ndarray | None
    spans: tuple[Span, ...]
    origin: str
    method: str
    warnings: tuple[str, ...] = ()

    __repr__ = short_repr

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas data frame; numbers that cannot be known are NaN.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        rows = [
            {
                column: np.nan if value == "" and column not in _TEXT_COLUMNS else value
                for column, value in row.items()
            }
            for row in self.rows
        ]
        return table(rows)

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as a CSV file; fields that cannot be known stay empty.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        from sct_rootlets_task.io.atomic import write_csv

        write_csv(Path(path), self.rows, list(COLUMNS))


def spinal_levels(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    task: Task,
    landmarks: Landmarks | None = None,
    method: str = CAUDAL,
    reach_mm: float = REACH_MM,
    fname: str = "",
) -> SpinalLevels:
    """Find the spinal levels of the cord from its rootlets.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map of the rootlets.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm, of labels and cord.
    task : Task
        Task of the map.
    landmarks : Landmarks, optional
        Cord mask and PMJ. Without a cord mask the centerline is estimated from the rootlets, all of
        a level's rootlets count, and there is no colored cord.
    method : {"caudal", "midpoint", "rootlets"}
        See the module's description.
    reach_mm : float
        Largest distance from the cord of the rootlets that count.
    fname : str
        Name for the column of that name.

    Raises
    ------
    UsageError
        If there is no such method.
    ImageError
        If there are no rootlets, the cord mask is none, lies on another grid or reaches no level,
        or the PMJ cannot be one.
    """
    if method not in METHODS:
        raise UsageError(f"Expected one of the methods {', '.join(METHODS)}, found {method!r}.")
    landmarks = landmarks or Landmarks()
    require_labels(labels, f"the {landmarks.name('labels')}")
    cord, name = landmarks.cord, landmarks.name("cord")
    mask = None if cord is None else read_cord(cord, labels, affine, name=name)
    bundles = find_bundles(labels, affine, line=mask.line if mask else None)
    sound = _level_bundles(bundles, labels)
    near, beyond = _near_cord(bundles, cord, reach_mm), _beyond_cord(bundles, mask, reach_mm)
    rootlets = [
        _rootlet_span(bundles, [b for b in sound if b.level == level], near=near, beyond=beyond)
        for level in sorted({bundle.level for bundle in sound})
    ]
    report = check(labels, affine, task=task, landmarks=landmarks)
    aside = levels_out_of_reach(bundles, mask, beyond_too=False) if mask else []
    spans = _with_cover(spans_of(rootlets, method, task.priors), mask, aside, name)
    drawn = [span for span in spans if span.level not in aside]
    colored = None if cord is None else _color(cord, bundles, drawn)
    spans = _with_area(spans, mask)
    origin, zero = _origin(bundles, cord, landmarks.pmj, rootlets[0])
    heights = {s.level: round(s.height, 3) for s in (*summarize(sound), *report.levels)}
    rows = []
    for span in spans:
        row = {
            "spinal_level": span.level,
            "fname": fname,
            **_places(span, bundles, origin, zero),
            "rootlets_height": heights.get(span.level, ""),
            **_sizes(span, [b for b in sound if b.level == span.level], colored, affine),
            "method": method,
            "flags": " ".join([*_codes(report, span), *span.flags]),
        }
        rows.append(_only_known({column: row[column] for column in COLUMNS}, span))
    warnings = (
        *_warnings(report, spans, mask, zero if origin == PMJ else None),
        *_remarks(spans),
    )
    return SpinalLevels(tuple(rows), colored, tuple(spans), origin, method, warnings)


def spinal_levels_image(
    image: Any,
    *,
    task: Task,
    cord: Any = None,
    pmj: Any = None,
    method: str = CAUDAL,
    fname: str = "",
) -> tuple[SpinalLevels, Any]:
    """Find the spinal levels of nibabel images; see ``spinal_levels``.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Level map of the rootlets.
    task : Task
        Task of the map.
    cord, pmj : nibabel.Nifti1Image, optional
        Cord mask (same grid) and PMJ label (any grid).
    method : {"caudal", "midpoint", "rootlets"}
        See the module's description.
    fname : str
        Name of the segmentation, for the column of that name.

    Returns
    -------
    SpinalLevels
        The table.
    nibabel.Nifti1Image or None
        The cord colored by level; None without a cord mask.

    Raises
    ------
    ImageError
        As ``spinal_levels`` does, and if an image is empty or the PMJ lies at several spots.
    """
    found = spinal_levels(
        level_map(image),
        image.affine,
        task=task,
        landmarks=landmarks_from_images(image, cord=cord, pmj=pmj),
        method=method,
        fname=fname,
    )
    return found, None if found.labels is None else like(image, found.labels)


def spans_of(
    rootlets: Sequence[Span], method: str, priors: AnatomicalPriors | None = None
) -> list[Span]:
    """Return where the levels begin and end, from where their rootlets do.

    Parameters
    ----------
    rootlets : sequence of Span
        Extent of each level's rootlets, levels ascending.
    method : {"caudal", "midpoint", "rootlets"}
        See the module's description.
    priors : AnatomicalPriors, optional
        Those of the task; without, levels count as equally far apart.

    Returns
    -------
    list of Span
        For ``caudal`` and ``midpoint`` with every level between the first and the last: one without
        rootlets is interpolated by the expected spacing and flagged so. Where rootlets are out of
        order the borders are averaged until they are in order, and the levels flagged.

    Examples
    --------
    >>> [s.end for s in spans_of([Span(5, 10.0, 19.0), Span(6, 25.0, 34.0)], "midpoint")]
    [22.0, 34.0]
    """
    if method == ROOTLETS:
        return _without_overlap(rootlets)
    filled = _with_missing(rootlets, priors)
    if method == CAUDAL:
        inner = [span.end for span in filled[:-1]]
    else:
        middles = [(span.start + span.end) / 2 for span in filled]
        inner = [(upper + lower) / 2 for upper, lower in pairwise(middles)]
    borders = np.array([filled[0].start, *inner, filled[-1].end])
    ordered = _ascending(borders)
    moved = np.abs(borders - ordered) > _MOVED_MM
    return [
        Span(
            span.level,
            float(start),
            float(end),
            (*span.flags, OUT_OF_ORDER) if moved[n] or moved[n + 1] else span.flags,
        )
        for n, (span, (start, end)) in enumerate(zip(filled, pairwise(ordered), strict=True))
    ]


def _without_overlap(rootlets: Sequence[Span]) -> list[Span]:
    spans = list(rootlets)
    for n, (upper, lower) in enumerate(pairwise(rootlets)):
        if upper.end > lower.start:
            border = (upper.end + lower.start) / 2
            spans[n] = replace(spans[n], end=max(border, spans[n].start))
            spans[n + 1] = replace(lower, start=min(border, lower.end))
    return spans


def _with_missing(rootlets: Sequence[Span], priors: AnatomicalPriors | None) -> list[Span]:
    """Put interpolated levels between levels that do not follow upon each other."""
    filled = [rootlets[0]]
    for upper, lower in pairwise(rootlets):
        for level in range(upper.level + 1, lower.level):
            share = (level - upper.level) / (lower.level - upper.level)
            if priors and priors.cover(upper.level, lower.level):
                between = priors.spacing(upper.level, lower.level)[0]
                share = priors.spacing(upper.level, level)[0] / between
            start = upper.start + share * (lower.start - upper.start)
            end = upper.end + share * (lower.end - upper.end)
            filled.append(Span(level, start, end, (INTERPOLATED,)))
        filled.append(lower)
    return filled


def _ascending(values: np.ndarray) -> np.ndarray:
    """Return the ascending values nearest to the given ones (pool adjacent violators)."""
    pools: list[list[float]] = []
    for value in values:
        pools.append([float(value)])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return np.concatenate([[np.mean(pool)] * len(pool) for pool in pools])


def _with_cover(
    spans: Sequence[Span], mask: CordMask | None, aside: Sequence[int], name: str
) -> list[Span]:
    """Flag the levels that the cord mask does not reach."""
    if mask is None:
        return list(spans)
    covered = []
    for span in spans:
        places = np.linspace(span.start, span.end, max(2, int(span.height)))
        beyond = mask.distance(places).max() > COVER_MM
        out = beyond or span.level in aside
        covered.append(replace(span, flags=(*span.flags, NOT_COVERED)) if out else span)
    missing = [span.level for span in covered if NOT_COVERED in span.flags]
    require_reach([span.level for span in spans], missing, name=name)
    return covered


def _with_area(spans: Sequence[Span], mask: CordMask | None) -> list[Span]:
    """Flag the levels that the cord mask covers too little of to tell their section."""
    return [
        replace(span, flags=(*span.flags, AREA_UNKNOWN))
        if mask and NOT_COVERED not in span.flags and not _is_covered(span, mask)
        else span
        for span in spans
    ]


def _is_covered(span: Span, mask: CordMask) -> bool:
    return span.height > 0 and mask.full_share(span.start, span.end) >= _LEAST_COVER


def _only_known(row: dict[str, Any], span: Span) -> dict[str, Any]:
    """Leave empty what the cord mask tells, where it does not reach."""
    empty: set[str] = set()
    if AREA_UNKNOWN in span.flags:
        empty = {"cord_area", "area_perpendicular_to_cord"}
    if NOT_COVERED in span.flags:
        kept = {"spinal_level", "fname", "distance_origin", "rootlets_height", "volume"}
        empty = set(row) - kept - {"method", "flags"}
    return {column: "" if column in empty else value for column, value in row.items()}


def _codes(report: Report, span: Span) -> list[str]:
    """Return the codes of the check's flags on a level, and of those on all of them."""
    every = {flag.code for flag in report.flags if flag.code in (LANDMARK, "shift")}
    mine = {flag.code for flag in report.flags if flag.level == span.level} - {NOT_COVERED}
    return sorted(every if INTERPOLATED in span.flags else every | mine)


def _remarks(spans: Sequence[Span]) -> Iterator[str]:
    """Say which levels were not measured where their rootlets enter the cord."""
    texts = {
        INTERPOLATED: "no rootlets; where they lie is interpolated.",
        FAR: "no rootlets near the cord mask; where they lie is told by those farther away.",
        AREA_UNKNOWN: (
            "the cord mask covers too little of them, or they have no length; the area of the cord "
            "stays empty."
        ),
    }
    for flag, text in texts.items():
        names = ", ".join(value_name(span.level) for span in spans if flag in span.flags)
        if names:
            yield f"{names}: {text}"


def _warnings(
    report: Report, spans: Sequence[Span], mask: CordMask | None, pmj: float | None
) -> tuple[str, ...]:
    texts = [flag.text for flag in report.flags if flag.code in (LANDMARK, "shift")]
    missing = [span.level for span in spans if NOT_COVERED in span.flags]
    if missing:
        texts.append(
            f"The cord mask does not reach {name_levels(missing)}: slices, distances, heights and "
            "areas stay empty there."
        )
    if mask and pmj is not None and -pmj > _GAP_TO_PMJ_MM:
        texts.append(
            f"The cord mask begins {-pmj:.0f} mm below the PMJ; distances from the PMJ take the "
            "way between as straight."
        )
    return tuple(texts)


def _level_bundles(bundles: Bundles, labels: np.ndarray) -> Sequence[Bundle]:
    """Return the bundles that count; all of them if there are only specks."""
    real = [bundle for bundle in bundles.items if 1 <= bundle.level <= LAST_LEVEL]
    if not real:
        raise ImageError(
            "Expected rootlets labeled by spinal level, found none. Check that the right "
            "segmentation was given."
        )
    return [b for b in sound_bundles(bundles, labels)[0] if b.level <= LAST_LEVEL] or real


def _near_cord(bundles: Bundles, cord: np.ndarray | None, reach_mm: float) -> np.ndarray:
    """Say of each rootlet voxel whether it lies within reach of the cord (all do without one)."""
    from scipy.spatial import cKDTree

    if cord is None:
        return np.ones(len(bundles.voxels), dtype=bool)
    points = to_world(bundles.voxels, bundles.affine)
    tree = cKDTree(to_world(voxels_of(inside_mask(cord)), bundles.affine))
    return np.isfinite(tree.query(points, distance_upper_bound=reach_mm)[0])


def _beyond_cord(bundles: Bundles, mask: CordMask | None, reach_mm: float) -> np.ndarray:
    """Say of each rootlet voxel whether it runs where the mask has ended, as near as to a cord."""
    if mask is None:
        return np.zeros(len(bundles.voxels), dtype=bool)
    arc, right, front = bundles.where.T
    ended = mask.distance(arc) > max(mask.step_mm, 1.0)
    return ended & (np.hypot(right, front) <= reach_mm + CORD_HALF_WIDTH_MM)


def _rootlet_span(
    bundles: Bundles, mine: Sequence[Bundle], *, near: np.ndarray, beyond: np.ndarray
) -> Span:
    """Return the extent of one level's rootlets near the cord, of all if hardly any are.

    A level that reaches beyond the end of the mask does not end with it.
    """
    members = [bundles.owner == bundle.number for bundle in mine]
    total = sum(np.count_nonzero(mask) for mask in members)
    enough = sum(np.count_nonzero(mask & near) for mask in members) >= _FEWEST_NEAR * total
    near = near | beyond
    touching = [mask & near for mask in members if (mask & near).any()]
    ends = [
        extent(
            bundles.voxels[mask],
            bundles.where[mask, 0],
            affine=bundles.affine,
            line=bundles.line,
        )
        for mask in (touching if enough else members)
    ]
    flags = () if enough else (FAR,)
    return Span(mine[0].level, min(e[0] for e in ends), max(e[1] for e in ends), flags)


def _color(cord: np.ndarray, bundles: Bundles, spans: Sequence[Span]) -> np.ndarray:
    """Return the cord colored by level."""
    colored = np.zeros(cord.shape, dtype=np.uint8)
    voxels = voxels_of(inside_mask(cord))
    arcs = bundles.line.project(to_world(voxels, bundles.affine))[:, 0]
    for span in spans:
        inside = (arcs >= span.start) & (arcs < span.end)
        colored[tuple(voxels[inside].T)] = span.level
    return colored


def _origin(
    bundles: Bundles, cord: np.ndarray | None, pmj: np.ndarray | None, first: Span
) -> tuple[str, float]:
    """Return what distances are counted from, and its arc length."""
    if pmj is not None:
        return PMJ, pmj_arc(bundles.line, pmj)
    if cord is not None:
        return CORD_MASK_TOP, 0.0
    return value_name(first.level), first.start


def _places(span: Span, bundles: Bundles, origin: str, zero: float) -> dict[str, Any]:
    """Return slices and distances; ``start`` is the caudal end, as in the published tables."""
    lowest, highest = _slices(span, bundles)
    places = {"start": span.end, "end": span.start, "midpoint": (span.start + span.end) / 2}
    distances = {name: round(arc - zero, 3) for name, arc in places.items()}
    below_pmj = distances if origin == PMJ else dict.fromkeys(distances, "")
    height = round(span.height, 3)
    return {
        "slice_start": lowest,
        "slice_end": highest,
        **{f"distance_from_pmj_{name}": value for name, value in below_pmj.items()},
        "distance_origin": origin,
        **{f"distance_{name}": value for name, value in distances.items()},
        "height": height,
        "level_height": height,
    }


def _slices(span: Span, bundles: Bundles) -> tuple[int, int]:
    """Return the axial slices the centerline crosses within a level, from the inferior end."""
    axis, upwards = slice_axis(bundles.affine)
    points = bundles.line.at(np.array([span.start, span.end]))
    inverse = np.linalg.inv(bundles.affine)
    along = points @ inverse[axis, :3] + inverse[axis, 3]
    last = bundles.shape[axis] - 1
    low, high = sorted(along if upwards else last - along)
    # A slice belongs to the level in which its center lies.
    first, final = int(np.ceil(low)), int(np.ceil(high)) - 1
    if final < first:
        first = final = round((low + high) / 2)
    return int(np.clip(first, 0, last)), int(np.clip(final, 0, last))


def _sizes(
    span: Span, mine: Sequence[Bundle], colored: np.ndarray | None, affine: np.ndarray
) -> dict[str, Any]:
    """Return the rootlets' volumes (mm³) and the cord's mean cross-section (mm²)."""
    area: float | str = ""
    if colored is not None and span.height > 0:
        cord_mm3 = np.count_nonzero(colored == span.level) * voxel_volume(affine)
        area = round(float(cord_mm3 / span.height), 2)
    return {
        "volume": round(sum(b.volume for b in mine), 3),
        "area_perpendicular_to_cord": area,
        "cord_area": area,
        "left_volume": round(sum(b.volume for b in mine if b.side == LEFT), 3),
        "right_volume": round(sum(b.volume for b in mine if b.side == RIGHT), 3),
        "dorsal_volume": round(sum(b.volume for b in mine if b.part == DORSAL), 3),
        "ventral_volume": round(sum(b.volume for b in mine if b.part == VENTRAL), 3),
    }
