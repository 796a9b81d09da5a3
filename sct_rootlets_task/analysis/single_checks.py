"""The single checks: each looks at what was measured of a level map, and yields flags.

:mod:`sct_rootlets_task.analysis.check` runs all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from sct_rootlets_task.analysis.flags import (
    LANDMARK,
    NO_PRIORS,
    NOT_COVERED,
    Flag,
    Place,
    at_point,
    at_voxel,
    middle_voxel,
)
from sct_rootlets_task.analysis.level_summary import LevelSummary
from sct_rootlets_task.analysis.measured import Measured
from sct_rootlets_task.analysis.numbering import SHIFT_ADVANTAGE, relabel_command, too_far
from sct_rootlets_task.level_names import LAST_LEVEL, level_name, name_levels, value_name
from sct_rootlets_task.levels.anatomical_priors import AnatomicalPriors
from sct_rootlets_task.levels.corrections import STRAY_MM3
from sct_rootlets_task.levels.landmarks import Doubt
from sct_rootlets_task.levels.level_fit import MARGIN
from sct_rootlets_task.rootlets.bundles import LEFT, RIGHT, Bundle
from sct_rootlets_task.rootlets.components import connected
from sct_rootlets_task.rootlets.geometry import slice_axis
from sct_rootlets_task.rootlets.postprocess import SPECK_MM3

REACH_MM = 16.0
"""Rootlets farther than this from the centerline are far from the cord. PAM50's reach 12.9 mm."""

SMALL_SHARE = 0.1
"""A level, or one side of it, is small below this share of the median level (the other side)."""

OVERLAP_MM = 0.5
"""Neighboring levels overlap when their extents do by more than this. Cadotte 2015 saw gaps of
1.5–10 mm."""

IMPURE_SHARE = 0.02
"""A bundle is mixed when more than this share of it carries another level."""

SPACING_SDS = 3.0
"""Spacings within this many SD of the mean are expected."""

_FOV_MM = 8.0


def _check_values(measured: Measured) -> Iterator[Flag]:
    limits = (float(measured.task.levels[0]), float(measured.task.levels[-1]))
    for value, count in zip(*np.unique(measured.bundles.values, return_counts=True), strict=True):
        if value not in measured.task.levels:
            called = f" ({level_name(value)})" if value <= LAST_LEVEL else ""
            yield measured.flag(
                "unexpected_value",
                float(value),
                expected=limits,
                level=int(value),
                at=_largest_piece(measured, int(value)),
                holders="1 voxel has" if count == 1 else f"{count} voxels have",
                called=called,
            )


def _largest_piece(measured: Measured, value: int) -> Place:
    """Return the middle of the largest piece of a value that may be strewn."""
    voxels = measured.bundles.voxels[measured.bundles.values == value]
    piece = connected(voxels)
    largest = voxels[piece == np.bincount(piece).argmax()]
    return at_voxel(middle_voxel(largest, measured.affine), measured.affine)


def _check_purity(measured: Measured) -> Iterator[Flag]:
    for bundle in measured.bundles.items:
        minority = 1 - bundle.purity
        if minority > IMPURE_SHARE:
            mine = measured.bundles.owner == bundle.number
            yield measured.bundle_flag(
                "mixed_bundle",
                bundle,
                value=minority,
                expected=(0, IMPURE_SHARE),
                at=measured.middle_of(mine & (measured.bundles.values != bundle.level)),
                percent=100 * minority,
                others=", ".join(value_name(level) for level, _ in bundle.votes[1:]),
            )


def _check_reach(measured: Measured) -> Iterator[Flag]:
    for bundle in measured.bundles.items:
        if bundle.reach > REACH_MM:
            mine = np.flatnonzero(measured.bundles.owner == bundle.number)
            farthest = mine[np.hypot(*measured.bundles.where[mine, 1:].T).argmax()]
            place = at_voxel(measured.bundles.voxels[farthest], measured.affine)
            yield measured.bundle_flag(
                "far_from_cord", bundle, value=bundle.reach, expected=(0, REACH_MM), at=place
            )


def _check_small_pieces(measured: Measured) -> Iterator[Flag]:
    """Name what is too small to be a bundle: specks, strays and fragments."""
    specks = (b for b in measured.bundles.items if b.volume < SPECK_MM3)
    kinds: tuple[tuple[str, Iterable[Bundle], float], ...] = (
        ("speck", specks, SPECK_MM3),
        ("stray", measured.strays, STRAY_MM3),
        ("fragment", _fragments(measured.counted), STRAY_MM3),
    )
    for code, bundles, least in kinds:
        for bundle in bundles:
            yield measured.bundle_flag(code, bundle, value=bundle.volume, expected=(least, None))


def _fragments(bundles: Sequence[Bundle]) -> Iterator[Bundle]:
    """Return the small pieces of roots of which a larger piece is there too."""
    largest: dict[tuple[int, str, str], float] = {}
    for bundle in bundles:
        key = (bundle.level, bundle.side, bundle.part)
        largest[key] = max(largest.get(key, 0.0), bundle.volume)
    for bundle in bundles:
        main = largest[bundle.level, bundle.side, bundle.part]
        if bundle.volume < STRAY_MM3 and bundle.volume < main:
            yield bundle


def _check_order(measured: Measured) -> Iterator[Flag]:
    """Compare the level of each bundle with that of the global fit."""
    if measured.fit is None:
        return
    for number, bundle in enumerate(measured.counted):
        costs, level = measured.fit.costs[number], measured.fit.levels[number]
        if not np.isfinite(costs).any():
            continue
        column = measured.task.levels.index(bundle.level)
        rival = float(np.delete(costs, column).min())
        if level == bundle.level and rival >= MARGIN * measured.fit.weights[number]:
            continue
        cost = rival if level == bundle.level else float(costs[column])
        yield _order_flag(bundle, level, cost, measured)


def _order_flag(bundle: Bundle, level: int, cost: float, measured: Measured) -> Flag:
    if level == bundle.level:
        return measured.bundle_flag("ambiguous_level", bundle, value=cost, expected=(MARGIN, None))
    if level == 0:
        return measured.bundle_flag(
            "beyond_last_level", bundle, value=cost, expected=(None, MARGIN)
        )
    return measured.bundle_flag(
        "level_order",
        bundle,
        value=bundle.level,
        expected=(float(level), float(level)),
        fitting=value_name(level),
    )


def _check_missing(measured: Measured) -> Iterator[Flag]:
    present = {summary.level: summary for summary in measured.summaries}
    priors = measured.task.priors
    for level in measured.task.levels if present else ():
        if level in present:
            continue
        between = min(present) < level < max(present)
        arc = _expected_midpoint(level, present, priors) if priors else None
        if between or (arc is not None and _in_view(measured, arc)):
            place = None if arc is None else measured.along(arc)
            yield measured.flag(
                "level_missing",
                0.0,
                expected=(1.0, None),
                level=level,
                at=place,
                where=_between(level, present) if arc is None else _near(arc),
            )


def _between(level: int, present: Collection[int]) -> str:
    above, below = max(n for n in present if n < level), min(n for n in present if n > level)
    return f" between {level_name(above)} and {level_name(below)}"


def _near(place: float) -> str:
    """Say where an arc length is, which is negative above what the line was fitted to."""
    where = "along the cord" if place >= 0 else "above the first rootlets"
    return f" about {abs(place):.0f} mm {where}"


def _expected_midpoint(
    level: int, present: Mapping[int, LevelSummary], priors: AnatomicalPriors
) -> float:
    """Return where a missing level is expected, from the levels around it."""
    above = max((other for other in present if other < level), default=None)
    below = min((other for other in present if other > level), default=None)
    if above is not None and below is not None:
        share = priors.spacing(above, level)[0] / priors.spacing(above, below)[0]
        return present[above].midpoint + share * (present[below].midpoint - present[above].midpoint)
    if above is not None:
        return present[above].midpoint + priors.spacing(above, level)[0]
    below = min(present)
    return present[below].midpoint - priors.spacing(level, below)[0]


def _in_view(measured: Measured, place: float) -> bool:
    """Say whether a whole level around an arc length lies in the image (and beside the cord)."""
    if measured.line.source == "cord" and not 0 <= place <= measured.line.length:
        return False
    ends = measured.line.at(np.array([place - _FOV_MM, place + _FOV_MM]))
    voxels = (ends - measured.affine[:3, 3]) @ np.linalg.inv(measured.affine[:3, :3]).T
    return bool(((voxels >= 0) & (voxels <= np.array(measured.labels.shape) - 1)).all())


def _check_levels(measured: Measured) -> Iterator[Flag]:
    if not measured.summaries:
        return
    typical = float(np.median([summary.volume for summary in measured.summaries]))
    for summary in measured.summaries:
        yield from _check_sides(measured, summary)
        level, volume, least = summary.level, summary.volume, SMALL_SHARE * typical
        if volume < least:
            place = measured.of_level(level)
            yield measured.flag(
                "volume", volume, expected=(least, None), level=level, at=place, typical=typical
            )
        yield from _check_height(measured, summary)


def _check_sides(measured: Measured, summary: LevelSummary) -> Iterator[Flag]:
    volumes = {LEFT: summary.left_volume, RIGHT: summary.right_volume}
    side = min(volumes, key=lambda one: volumes[one])
    other = max(volumes.values())
    if volumes[side] < SMALL_SHARE * other:
        yield measured.flag(
            "side_missing",
            volumes[side],
            expected=(SMALL_SHARE * other, None),
            level=summary.level,
            side=side,
            at=_place_of_side(measured, summary, side),
            found="no rootlets" if volumes[side] == 0 else f"only {volumes[side]:.0f} mm³",
            other=other,
        )


def _place_of_side(measured: Measured, summary: LevelSummary, side: str) -> Place:
    """Return where the few rootlets of a side are, or the cord where there are none."""
    mine = [b.number for b in measured.counted if (b.level, b.side) == (summary.level, side)]
    if not mine:
        return measured.along(summary.midpoint)
    return measured.middle_of(np.isin(measured.bundles.owner, mine))


def _check_height(measured: Measured, summary: LevelSummary) -> Iterator[Flag]:
    priors = measured.task.priors
    if priors is None:
        return
    limits = priors.height_range(summary.level)
    if _is_outside(summary.height, *limits):
        yield measured.flag(
            "height",
            summary.height,
            expected=limits,
            level=summary.level,
            at=measured.of_level(summary.level),
            published=priors.height_source,
        )


def _is_outside(value: float, low: float, high: float) -> bool:
    """Tell whether a length lies outside a range, all to the tenth of a mm that texts show."""
    return not round(low, 1) <= round(value, 1) <= round(high, 1)


def _check_neighbors(measured: Measured) -> Iterator[Flag]:
    priors = measured.task.priors
    for upper, lower in pairwise(measured.summaries):
        if upper.spacing is None or upper.gap is None or priors is None:
            continue
        mean, sd = priors.spacing(upper.level, lower.level)
        limits = (mean - SPACING_SDS * sd, mean + SPACING_SDS * sd)
        level, pair = upper.level, f"{upper.name} and {lower.name}"
        place = measured.lower_end(level)
        if _is_outside(upper.spacing, *limits):
            yield measured.flag(
                "spacing",
                upper.spacing,
                expected=limits,
                level=level,
                at=place,
                pair=pair,
                published=priors.spacing_source(level),
            )
        if upper.gap < -OVERLAP_MM:
            limit = (-OVERLAP_MM, None)
            yield measured.flag(
                "overlap",
                upper.gap,
                expected=limit,
                level=level,
                at=place,
                pair=pair,
                overlap=-upper.gap,
            )


def _check_view(measured: Measured) -> Iterator[Flag]:
    axis, upwards = slice_axis(measured.affine)
    last = measured.labels.shape[axis] - 1
    for summary in measured.summaries:
        mine = measured.bundles.values == summary.level
        slices = measured.bundles.voxels[:, axis]
        for edge in dict.fromkeys((0, last)):
            if (reached := mine & (slices == edge)).any():
                end = "upper" if (edge == last) == upwards else "lower"
                limits, place = (1.0, last - 1.0), measured.middle_of(reached)
                yield measured.flag(
                    "fov_cut", edge, expected=limits, level=summary.level, at=place, end=end
                )


def _check_landmarks(measured: Measured) -> Iterator[Flag]:
    for doubt in measured.doubts:
        code = LANDMARK if doubt.level is None else NOT_COVERED
        yield measured.flag(
            code,
            doubt.value,
            expected=doubt.expected,
            level=doubt.level,
            at=_place_of_doubt(measured, doubt),
            finding=doubt.text,
            measured_in=doubt.unit,
            reference=doubt.landmark,
        )


def _place_of_doubt(measured: Measured, doubt: Doubt) -> Place | None:
    if doubt.level is not None:
        return measured.of_level(doubt.level)
    if doubt.point is None:
        return None
    return at_point(np.array(doubt.point), measured.affine, measured.labels.shape)


def _check_shifts(measured: Measured) -> Iterator[Flag]:
    agree = len({shift.shift for shift in measured.shifts}) == 1
    for shift in measured.shifts:
        if shift.shift and shift.advantage >= SHIFT_ADVANTAGE:
            yield measured.flag(
                "shift",
                shift.offset,
                expected=(-0.5, 0.5),
                reference=shift.source,
                finding=too_far(shift.shift),
                advice=_advice(measured, shift.shift, agree=agree),
            )


def _advice(measured: Measured, shift: int, *, agree: bool) -> str:
    """Return what to do about a shift; a command only where its result can be right."""
    levels = measured.task.levels
    lost = [s.level for s in measured.summaries if s.level + shift not in levels]
    if lost:
        moved = f"{value_name(lost[0])} {value_name(lost[0] + shift)}"
        return (
            f"but that would make {moved}, which is none of {name_levels(levels)}. Look "
            "whether the reference is right."
        )
    if not agree:
        return "the other references say otherwise, so look before renumbering."
    command = relabel_command(measured.landmarks.files.get("labels"), shift)
    return f"this would correct them: {command}"


def _check_priors(measured: Measured) -> Iterator[Flag]:
    """Say what was not checked, as the task does not tell what is usual."""
    priors, known = measured.task.priors, measured.landmarks
    lacking = {}
    if priors is None:
        lacking["the task"] = "heights, spacing and order of the levels"
    if known.pmj is not None and not (priors and priors.midpoint_below_pmj_mm):
        lacking["PMJ"] = "distances of the levels from the PMJ"
    if known.discs is not None and not (priors and priors.disc_coordinates):
        lacking["discs"] = "places of the levels between the discs"
    for reference, what in lacking.items():
        yield measured.flag(NO_PRIORS, None, expected=(None, None), reference=reference, what=what)


CHECKS: tuple[Callable[[Measured], Iterator[Flag]], ...] = (
    _check_values,
    _check_purity,
    _check_reach,
    _check_small_pieces,
    _check_order,
    _check_missing,
    _check_levels,
    _check_neighbors,
    _check_view,
    _check_landmarks,
    _check_shifts,
    _check_priors,
)
"""All checks, in the order of their flags."""
