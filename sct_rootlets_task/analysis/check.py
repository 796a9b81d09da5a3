"""The plausibility report: what about a segmentation does not look like a cervical spine.

:func:`check` measures the levels of a segmentation along the cord, compares them with the anatomy
and with whatever else is known of the subject, and returns flags that a program can read and a
person can understand. It changes nothing and guesses nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.flags import CODES as CODES
from sct_rootlets_task.analysis.flags import (
    DOUBT,
    LANDMARK,
    NOT_COVERED,
    Place,
    at_point,
    at_voxel,
    flag,
    middle_voxel,
)
from sct_rootlets_task.analysis.flags import WARNING as WARNING
from sct_rootlets_task.analysis.flags import Flag as Flag
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.io.untrusted import file_argument
from sct_rootlets_task.level_names import level_range, value_name
from sct_rootlets_task.levels.anatomical_priors import has_priors, height_range, spacing
from sct_rootlets_task.levels.cord_mask import line_for
from sct_rootlets_task.levels.corrections import STRAY_MM3, sound_bundles, stray_voxels
from sct_rootlets_task.levels.landmark_checks import (
    check_disc_fit,
    check_disc_offset,
    check_discs,
    check_pmj,
)
from sct_rootlets_task.levels.landmarks import (
    FEWEST_LEVELS,
    Doubt,
    Landmarks,
    Shift,
    located_level,
    pmj_arc,
    require_levels,
    shift_from_discs,
    shift_from_located,
    shift_from_pmj,
)
from sct_rootlets_task.levels.level_fit import MARGIN, LevelFit, fit_levels
from sct_rootlets_task.rootlets.bundles import (
    DORSAL,
    LEFT,
    RIGHT,
    VENTRAL,
    Bundle,
    Bundles,
    find_bundles,
    table,
)
from sct_rootlets_task.rootlets.centerline import Centerline
from sct_rootlets_task.rootlets.components import connected, voxels_of
from sct_rootlets_task.rootlets.geometry import level_map, require_same_grid, slice_axis, to_world
from sct_rootlets_task.rootlets.postprocess import SPECK_MM3

REACH_MM = 16.0
"""Rootlets farther than this from the centerline are far from the cord. PAM50's reach 12.9 mm."""

SHIFT_ADVANTAGE = 3.0
"""A shift is likely when it fits a reference this much better (nats): odds of 1 to 20."""

SMALL_SHARE = 0.1
"""A level, or one side of it, is small below this share of the median level (the other side)."""

OVERLAP_MM = 0.5
"""Neighboring levels overlap when their extents do by more than this. Cadotte 2015 saw gaps of
1.5–10 mm."""

IMPURE_SHARE = 0.02
"""A bundle is mixed when more than this share of it carries another level."""

SPACING_SDS = 3.0
"""Spacings within this many SD of the mean are expected."""

_HALFWAY = 0.5
_FOV_MM = 8.0
_BESIDE_CANAL = 0.5
_CADOTTE, _PAM50 = "Cadotte 2015", "PAM50"


@dataclass(frozen=True)
class LevelSummary:
    """One level as found; lengths and positions in mm along the cord, volumes in mm³.

    Positions are counted from the cranial end of what the centerline was fitted to. ``start`` is
    the caudal end of the level's rootlets and ``end`` the cranial one, as in the table of levels;
    ``height`` is the length between them. ``spacing`` and ``gap`` reach to the next lower level and
    are None when it is absent.
    """

    level: int
    name: str
    start: float
    end: float
    midpoint: float
    height: float
    volume: float
    left_volume: float
    right_volume: float
    dorsal_volume: float
    ventral_volume: float
    bundles: int
    spacing: float | None = None
    gap: float | None = None


@dataclass(frozen=True)
class Report:
    """Result of ``check``.

    Parameters
    ----------
    flags : tuple of Flag
        Everything out of the ordinary, warnings first.
    levels : tuple of LevelSummary
        The levels found, from top to bottom.
    shifts : tuple of Shift
        What each independent reference says about the numbering.
    line : str
        What the centerline was fitted to: ``cord``, ``rootlets`` or ``none``.
    """

    flags: tuple[Flag, ...]
    levels: tuple[LevelSummary, ...]
    shifts: tuple[Shift, ...]
    line: str

    __repr__ = short_repr

    @property
    def warnings(self) -> tuple[Flag, ...]:
        """Flags that ask for a look; with ``-strict`` any of them makes the exit code 1."""
        return tuple(one for one in self.flags if one.severity == WARNING)

    @property
    def summary(self) -> str:
        """How many flags there are, in a sentence."""
        warnings = len(self.warnings)
        return f"The check found {warnings} warning(s) and {len(self.flags) - warnings} note(s)."

    def with_doubts(self, texts: Iterable[str]) -> Report:
        """Return the report with what the run that made the map was not sure of among its flags."""
        doubts = [flag(DOUBT, None, expected=(None, None), finding=text) for text in texts]
        return replace(self, flags=_sorted([*doubts, *self.flags]))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain types, as the sidecar takes it."""
        return {
            "CentreLineFrom": self.line,
            "Flags": [asdict(one) for one in self.flags],
            "Levels": [asdict(level) for level in self.levels],
            "Shifts": [asdict(shift) for shift in self.shifts],
        }

    def flags_dataframe(self) -> Any:
        """Return a pandas data frame: one row a flag, by the fields of :class:`Flag`.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        return table([asdict(one) for one in self.flags], list(Flag.__dataclass_fields__))

    def to_dataframe(self) -> Any:
        """Return a pandas data frame: one row a level, with the codes of its flags.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        rows = []
        for summary in self.levels:
            codes = sorted({one.code for one in self.flags if one.level == summary.level})
            rows.append({**asdict(summary), "flags": " ".join(codes)})
        return table(rows)


@dataclass(frozen=True, eq=False)
class _Scene:
    """Everything the single checks look at."""

    labels: np.ndarray
    affine: np.ndarray
    expected: tuple[int, ...]
    references: Landmarks
    bundles: Bundles
    counted: tuple[Bundle, ...]
    strays: tuple[Bundle, ...]
    fit: LevelFit | None
    summaries: tuple[LevelSummary, ...]
    shifts: tuple[Shift, ...]
    doubts: tuple[Doubt, ...]

    @property
    def line(self) -> Centerline:
        return self.bundles.line

    def middle_of(self, members: np.ndarray) -> Place:
        """Return the place of the labeled voxel in the middle of some, given as a mask."""
        return at_voxel(middle_voxel(self.bundles.voxels[members], self.affine), self.affine)

    def of_bundle(self, bundle: Bundle) -> Place:
        return self.middle_of(self.bundles.owner == bundle.number)

    def of_level(self, level: int) -> Place:
        return self.middle_of(self.bundles.values == level)

    def lower_end(self, level: int) -> Place:
        """Return the place of a level's lowest voxel, where the next level begins."""
        arcs = np.where(self.bundles.values == level, self.bundles.where[:, 0], -np.inf)
        return at_voxel(self.bundles.voxels[arcs.argmax()], self.affine)

    def along(self, arc: float) -> Place:
        """Return the place on the centerline at an arc length in mm."""
        return at_point(self.line.at(arc)[0], self.affine, self.labels.shape)


def check(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    levels: tuple[int, ...] = tuple(range(2, 10)),
    references: Landmarks | None = None,
) -> Report:
    """Check how plausible the levels of a segmentation are.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    levels : tuple of int
        Levels the segmentation may hold, ascending.
    references : Landmarks, optional
        Cord mask, PMJ, discs, locator's levels, as far as there are any.

    Raises
    ------
    ImageError
        If an array lies on another grid than the labels, or a landmark cannot be what it is called.
    """
    references = references or Landmarks()
    if references.located is not None:
        name = references.name("located")
        require_same_grid(labels, affine, other=references.located, name=name)
        require_levels(references.located, affine, f"the {name}")
    if np.count_nonzero(labels) < 2:
        return Report((_nothing(labels, affine),), (), (), "none")
    scene = _scene(labels, affine, levels, references)
    flags = (found for one in _CHECKS for found in one(scene))
    return Report(_sorted(flags), scene.summaries, scene.shifts, scene.line.source)


def _nothing(labels: np.ndarray, affine: np.ndarray) -> Flag:
    voxels = voxels_of(labels)
    found = "a single labeled voxel" if len(voxels) else "no labeled voxel"
    place = at_voxel(voxels[0], affine) if len(voxels) else None
    return flag("empty", len(voxels), expected=(2.0, None), at=place, found=found)


def _sorted(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    return tuple(sorted(flags, key=lambda one: (one.severity != WARNING, one.level or 0)))


def check_image(
    image: Any,
    *,
    levels: tuple[int, ...] = tuple(range(2, 10)),
    references: Landmarks | None = None,
) -> Report:
    """Check a nibabel image; see :func:`check`."""
    return check(level_map(image), image.affine, levels=levels, references=references)


def summarize(bundles: Sequence[Bundle]) -> tuple[LevelSummary, ...]:
    """Return the levels that bundles make up, from top to bottom."""
    found = [
        _summary(level, [bundle for bundle in bundles if bundle.level == level])
        for level in sorted({bundle.level for bundle in bundles})
    ]
    for number, (upper, lower) in enumerate(pairwise(found)):
        if lower.level == upper.level + 1:
            found[number] = replace(
                upper, spacing=lower.midpoint - upper.midpoint, gap=lower.end - upper.start
            )
    return tuple(found)


def _summary(level: int, bundles: Sequence[Bundle]) -> LevelSummary:
    top, bottom = min(b.start for b in bundles), max(b.end for b in bundles)
    return LevelSummary(
        level=level,
        name=value_name(level),
        start=bottom,
        end=top,
        midpoint=(top + bottom) / 2,
        height=bottom - top,
        volume=sum(b.volume for b in bundles),
        left_volume=sum(b.volume for b in bundles if b.side == LEFT),
        right_volume=sum(b.volume for b in bundles if b.side == RIGHT),
        dorsal_volume=sum(b.volume for b in bundles if b.part == DORSAL),
        ventral_volume=sum(b.volume for b in bundles if b.part == VENTRAL),
        bundles=len(bundles),
    )


def _scene(
    labels: np.ndarray, affine: np.ndarray, levels: tuple[int, ...], references: Landmarks
) -> _Scene:
    cleaned = _without_strays(labels, affine)
    line, doubts = line_for(cleaned, affine, cord=references.cord, name=references.name("cord"))
    bundles = find_bundles(labels, affine, line=line)
    counted, strays = sound_bundles(bundles, labels)
    counted = tuple(bundle for bundle in counted if bundle.level in levels)
    fits = has_priors(levels) and len(counted) >= 2
    summaries = summarize(counted)
    shifts, others = _opinions(summaries, bundles, references) if fits else ((), ())
    return _Scene(
        labels=labels,
        affine=affine,
        expected=levels,
        references=references,
        bundles=bundles,
        counted=counted,
        strays=strays,
        fit=fit_levels(counted, levels) if fits else None,
        summaries=summaries,
        shifts=shifts,
        doubts=(*doubts, *others),
    )


def _without_strays(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    cleaned = labels.copy()
    cleaned[stray_voxels(labels, affine)] = 0
    return cleaned if np.count_nonzero(cleaned) > 1 else labels


def _opinions(
    summaries: Sequence[LevelSummary], bundles: Bundles, references: Landmarks
) -> tuple[tuple[Shift, ...], tuple[Doubt, ...]]:
    """Ask each reference about the numbering of the levels; one in doubt has no say."""
    midpoints = {summary.level: summary.midpoint for summary in summaries}
    ends = (min(s.end for s in summaries), max(s.start for s in summaries))
    found: list[Shift | None] = []
    doubts: list[Doubt] = []
    if references.pmj is not None:
        name = references.name("pmj")
        doubts += check_pmj(bundles.line, references.pmj, midpoints=midpoints, name=name)
        if not doubts and len(midpoints) >= FEWEST_LEVELS:
            found.append(shift_from_pmj(midpoints, pmj_arc(bundles.line, references.pmj)))
    if references.discs is not None:
        shift, others = _disc_opinion(bundles.line, references, midpoints, ends)
        found.append(None if others else shift)
        doubts += others
    if references.located is not None:
        found.append(_located_opinion(bundles, references.located, list(midpoints)))
    return tuple(shift for shift in found if shift is not None), tuple(doubts)


def _disc_opinion(
    line: Centerline,
    references: Landmarks,
    midpoints: Mapping[int, float],
    ends: tuple[float, float],
) -> tuple[Shift | None, tuple[Doubt, ...]]:
    discs = references.discs or {}
    doubts = check_discs(line, discs, ends=ends, name=references.name("discs"))
    shift = shift_from_discs(midpoints, line, discs=discs)
    doubts = doubts or check_disc_fit(line, discs, midpoints=midpoints, shift=shift)
    if not doubts and shift is not None and shift.advantage < SHIFT_ADVANTAGE:
        doubts = check_disc_offset(-shift.offset, least=_HALFWAY)
    return shift, doubts


def _located_opinion(bundles: Bundles, located: np.ndarray, levels: Sequence[int]) -> Shift | None:
    """Compare the levels with those of the canal, which most of a level's rootlets lie beside."""
    beside = located_level(located, bundles.affine, points=to_world(bundles.voxels, bundles.affine))
    differences = {}
    for level in levels:
        found = beside[bundles.values == level]
        if (found > 0).mean() >= _BESIDE_CANAL:
            differences[level] = found[found > 0].mean() - level
    first = min(differences, default=1)
    return shift_from_located(np.array(list(differences.values())), first=first)


def opinions(report: Report, references: Landmarks) -> tuple[str, ...]:
    """Return what references say of the numbering where it is no flag, a sentence each.

    Parameters
    ----------
    report : Report
        Result of :func:`check`.
    references : Landmarks
        What it was given.
    """
    if not report.levels:
        return ()
    given = {"PMJ": references.pmj, "discs": references.discs, "locator": references.located}
    told = {shift.source: shift for shift in report.shifts}
    doubted = {one.source for one in report.flags if one.code == LANDMARK}
    texts = []
    for source, what in given.items():
        one = told.get(source)
        if what is None or (one is None and source in doubted):
            continue
        if one is None:
            texts.append(f"The {source}: too few of the levels are within reach to compare.")
        elif one.shift == 0:
            agree = "agree" if source == "discs" else "agrees"
            texts.append(f"The {source} {agree} with the numbers of the levels.")
        elif one.advantage < SHIFT_ADVANTAGE:
            texts.append(
                f"By the {source} the numbers of the levels may be right; {_too_far(one.shift)} "
                "would fit about as well."
            )
    return tuple(texts)


def _check_values(scene: _Scene) -> Iterator[Flag]:
    limits = (float(scene.expected[0]), float(scene.expected[-1]))
    for value, count in zip(*np.unique(scene.bundles.values, return_counts=True), strict=True):
        if value not in scene.expected:
            yield flag(
                "unexpected_value",
                float(value),
                expected=limits,
                level=int(value),
                at=_largest_piece(scene, int(value)),
                holders="1 voxel has" if count == 1 else f"{count} voxels have",
                levels=level_range(scene.expected),
            )


def _largest_piece(scene: _Scene, value: int) -> Place:
    """Return the middle of the largest piece of a value that may be strewn."""
    voxels = scene.bundles.voxels[scene.bundles.values == value]
    piece = connected(voxels)
    largest = voxels[piece == np.bincount(piece).argmax()]
    return at_voxel(middle_voxel(largest, scene.affine), scene.affine)


def _check_purity(scene: _Scene) -> Iterator[Flag]:
    for bundle in scene.bundles.items:
        minority = 1 - bundle.purity
        if minority > IMPURE_SHARE:
            mine = scene.bundles.owner == bundle.number
            yield _bundle_flag(
                "mixed_bundle",
                bundle,
                value=minority,
                expected=(0, IMPURE_SHARE),
                at=scene.middle_of(mine & (scene.bundles.values != bundle.level)),
                percent=100 * minority,
                others=", ".join(value_name(level) for level, _ in bundle.votes[1:]),
            )


def _check_reach(scene: _Scene) -> Iterator[Flag]:
    for bundle in scene.bundles.items:
        if bundle.reach > REACH_MM:
            mine = np.flatnonzero(scene.bundles.owner == bundle.number)
            farthest = mine[np.hypot(*scene.bundles.where[mine, 1:].T).argmax()]
            place = at_voxel(scene.bundles.voxels[farthest], scene.affine)
            yield _bundle_flag(
                "far_from_cord", bundle, value=bundle.reach, expected=(0, REACH_MM), at=place
            )


def _check_small_pieces(scene: _Scene) -> Iterator[Flag]:
    """Name what is too small to be a bundle: specks, strays and fragments."""
    specks = (b for b in scene.bundles.items if b.volume < SPECK_MM3)
    kinds: tuple[tuple[str, Iterable[Bundle], float], ...] = (
        ("speck", specks, SPECK_MM3),
        ("stray", scene.strays, STRAY_MM3),
        ("fragment", _fragments(scene.counted), STRAY_MM3),
    )
    for code, bundles, least in kinds:
        for bundle in bundles:
            yield _bundle_flag(
                code,
                bundle,
                value=bundle.volume,
                expected=(least, None),
                at=scene.of_bundle(bundle),
            )


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


def _bundle_flag(
    code: str,
    bundle: Bundle,
    *,
    value: float,
    expected: tuple[float | None, float | None],
    at: Place,
    **words: Any,
) -> Flag:
    return flag(
        code,
        value,
        expected=expected,
        level=bundle.level,
        side=bundle.side,
        at=at,
        bundle=bundle.name,
        midpoint=bundle.midpoint,
        **words,
    )


def _check_order(scene: _Scene) -> Iterator[Flag]:
    """Compare the level of each bundle with that of the global fit."""
    if scene.fit is None:
        return
    for number, bundle in enumerate(scene.counted):
        costs, level = scene.fit.costs[number], scene.fit.levels[number]
        if not np.isfinite(costs).any():
            continue
        column = scene.expected.index(bundle.level)
        rival = float(np.delete(costs, column).min())
        if level == bundle.level and rival >= MARGIN * scene.fit.weights[number]:
            continue
        cost = rival if level == bundle.level else float(costs[column])
        yield _order_flag(bundle, level, cost, scene)


def _order_flag(bundle: Bundle, level: int, cost: float, scene: _Scene) -> Flag:
    place = scene.of_bundle(bundle)
    if level == bundle.level:
        return _bundle_flag(
            "ambiguous_level", bundle, value=cost, expected=(MARGIN, None), at=place
        )
    if level == 0:
        levels = level_range(scene.expected)
        return _bundle_flag(
            "beyond_last_level",
            bundle,
            value=cost,
            expected=(None, MARGIN),
            at=place,
            levels=levels,
        )
    limits = (float(level), float(level))
    return _bundle_flag(
        "level_order",
        bundle,
        value=bundle.level,
        expected=limits,
        at=place,
        fitting=value_name(level),
    )


def _check_missing(scene: _Scene) -> Iterator[Flag]:
    present = {summary.level: summary for summary in scene.summaries}
    if not present:
        return
    for level in scene.expected:
        if level in present:
            continue
        between = min(present) < level < max(present)
        arc = _expected_midpoint(level, present)
        if between or (arc is not None and _in_view(scene, arc)):
            place = None if arc is None else scene.along(arc)
            yield flag(
                "level_missing", 0.0, expected=(1.0, None), level=level, at=place, where=_near(arc)
            )


def _near(place: float | None) -> str:
    """Say where an arc length is, which is negative above what the line was fitted to."""
    if place is None:
        return ""
    where = "along the cord" if place >= 0 else "above the first rootlets"
    return f" about {abs(place):.0f} mm {where}"


def _expected_midpoint(level: int, present: Mapping[int, LevelSummary]) -> float | None:
    """Return where a missing level is expected, from the levels around it."""
    if not has_priors((level,)):
        return None
    above = max((other for other in present if other < level), default=None)
    below = min((other for other in present if other > level), default=None)
    if above is not None and below is not None:
        share = spacing(above, level)[0] / spacing(above, below)[0]
        return present[above].midpoint + share * (present[below].midpoint - present[above].midpoint)
    if above is not None:
        return present[above].midpoint + spacing(above, level)[0]
    return present[below].midpoint - spacing(level, below)[0] if below is not None else None


def _in_view(scene: _Scene, place: float) -> bool:
    """Say whether a whole level around an arc length lies in the image (and beside the cord)."""
    if scene.line.source == "cord" and not 0 <= place <= scene.line.length:
        return False
    ends = scene.line.at(np.array([place - _FOV_MM, place + _FOV_MM]))
    voxels = (ends - scene.affine[:3, 3]) @ np.linalg.inv(scene.affine[:3, :3]).T
    return bool(((voxels >= 0) & (voxels <= np.array(scene.labels.shape) - 1)).all())


def _check_levels(scene: _Scene) -> Iterator[Flag]:
    if not scene.summaries:
        return
    typical = float(np.median([summary.volume for summary in scene.summaries]))
    for summary in scene.summaries:
        yield from _check_sides(scene, summary)
        level, volume, least = summary.level, summary.volume, SMALL_SHARE * typical
        if volume < least:
            place = scene.of_level(level)
            yield flag(
                "volume", volume, expected=(least, None), level=level, at=place, typical=typical
            )
        if has_priors((level,)):
            yield from _check_height(summary, scene.of_level(level))


def _check_sides(scene: _Scene, summary: LevelSummary) -> Iterator[Flag]:
    volumes = {LEFT: summary.left_volume, RIGHT: summary.right_volume}
    side = min(volumes, key=lambda one: volumes[one])
    other = max(volumes.values())
    if volumes[side] < SMALL_SHARE * other:
        yield flag(
            "side_missing",
            volumes[side],
            expected=(SMALL_SHARE * other, None),
            level=summary.level,
            side=side,
            at=_place_of_side(scene, summary, side),
            found="no rootlets" if volumes[side] == 0 else f"only {volumes[side]:.0f} mm³",
            other=other,
        )


def _place_of_side(scene: _Scene, summary: LevelSummary, side: str) -> Place:
    """Return where the few rootlets of a side are, or the cord where there are none."""
    mine = [b.number for b in scene.counted if (b.level, b.side) == (summary.level, side)]
    if not mine:
        return scene.along(summary.midpoint)
    return scene.middle_of(np.isin(scene.bundles.owner, mine))


def _check_height(summary: LevelSummary, at: Place | None = None) -> Iterator[Flag]:
    limits = height_range(summary.level)
    if _is_outside(summary.height, *limits):
        yield flag("height", summary.height, expected=limits, level=summary.level, at=at)


def _is_outside(value: float, low: float, high: float) -> bool:
    """Tell whether a length lies outside a range, all to the tenth of a mm that texts show."""
    return not round(low, 1) <= round(value, 1) <= round(high, 1)


def _check_neighbors(scene: _Scene) -> Iterator[Flag]:
    for upper, lower in pairwise(scene.summaries):
        if upper.spacing is None or upper.gap is None or not has_priors((upper.level, lower.level)):
            continue
        mean, sd = spacing(upper.level, lower.level)
        limits = (mean - SPACING_SDS * sd, mean + SPACING_SDS * sd)
        level, pair = upper.level, f"{upper.name} and {lower.name}"
        place = scene.lower_end(level)
        if _is_outside(upper.spacing, *limits):
            source = _CADOTTE if level > 2 else _PAM50
            yield flag(
                "spacing",
                upper.spacing,
                expected=limits,
                level=level,
                at=place,
                pair=pair,
                published=source,
            )
        if upper.gap < -OVERLAP_MM:
            limit = (-OVERLAP_MM, None)
            yield flag(
                "overlap",
                upper.gap,
                expected=limit,
                level=level,
                at=place,
                pair=pair,
                overlap=-upper.gap,
            )


def _check_view(scene: _Scene) -> Iterator[Flag]:
    axis, upwards = slice_axis(scene.affine)
    last = scene.labels.shape[axis] - 1
    for summary in scene.summaries:
        mine = scene.bundles.values == summary.level
        slices = scene.bundles.voxels[:, axis]
        for edge in dict.fromkeys((0, last)):
            if (reached := mine & (slices == edge)).any():
                end = "upper" if (edge == last) == upwards else "lower"
                limits, place = (1.0, last - 1.0), scene.middle_of(reached)
                yield flag("fov_cut", edge, expected=limits, level=summary.level, at=place, end=end)


def _check_landmarks(scene: _Scene) -> Iterator[Flag]:
    for doubt in scene.doubts:
        code = LANDMARK if doubt.level is None else NOT_COVERED
        yield flag(
            code,
            doubt.value,
            expected=doubt.expected,
            level=doubt.level,
            at=_place_of_doubt(scene, doubt),
            finding=doubt.text,
            measured_in=doubt.unit,
            reference=doubt.landmark,
        )


def _place_of_doubt(scene: _Scene, doubt: Doubt) -> Place | None:
    if doubt.level is not None:
        return scene.of_level(doubt.level)
    if doubt.point is None:
        return None
    return at_point(np.array(doubt.point), scene.affine, scene.labels.shape)


def _check_shifts(scene: _Scene) -> Iterator[Flag]:
    agree = len({shift.shift for shift in scene.shifts}) == 1
    for shift in scene.shifts:
        if shift.shift and shift.advantage >= SHIFT_ADVANTAGE:
            yield flag(
                "shift",
                shift.offset,
                expected=(-0.5, 0.5),
                reference=shift.source,
                finding=_too_far(shift.shift),
                advice=_way_out(scene, shift.shift, agree=agree),
            )


def _too_far(shift: int) -> str:
    return f"{abs(shift)} too {'small' if shift > 0 else 'large'}"


def _way_out(scene: _Scene, shift: int, *, agree: bool) -> str:
    """Return what to do about a shift; a command only where its result can be right."""
    lost = [s.level for s in scene.summaries if s.level + shift not in scene.expected]
    if lost:
        moved = f"{value_name(lost[0])} {value_name(lost[0] + shift)}"
        return (
            f"but that would make {moved}, which is none of {level_range(scene.expected)}. Look "
            "whether the reference is right."
        )
    if not agree:
        return "the other references say otherwise, so look before renumbering."
    command = relabel_command(scene.references.files.get("labels"), shift)
    return f"this would correct them: {command}"


def relabel_command(labels: str | Path | None, shift: int) -> str:
    """Return the command that shifts all levels of a map.

    Parameters
    ----------
    labels : str or Path, optional
        File of the map; without one, words stand for the two files.
    shift : int
        Number to add to every level.

    Examples
    --------
    >>> relabel_command("a b/seg.nii.gz", -1)
    "sct_rootlets relabel -i 'a b/seg.nii.gz' -o 'a b/seg_relabeled.nii.gz' -shift -1"
    """
    source, target = "SEG", "OUT"
    if labels:
        path = Path(labels)
        beside = path.with_name(f"{stem(path)}_relabeled{EXTENSIONS[0]}")
        source, target = file_argument(path), file_argument(beside)
    return shlex.join(["sct_rootlets", "relabel", "-i", source, "-o", target, "-shift", str(shift)])


_CHECKS: tuple[Callable[[_Scene], Iterator[Flag]], ...] = (
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
)
