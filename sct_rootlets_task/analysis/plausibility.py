"""The plausibility report: what about a segmentation does not look like a cervical spine.

:func:`check` measures the levels of a segmentation along the cord, compares them with the anatomy
and with whatever else is known of the subject, and returns flags that a program can read and a
person can understand. It changes nothing and guesses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.anatomy import describe, has_priors, height_range, spacing
from sct_rootlets_task.analysis.bundles import (
    DORSAL,
    LEFT,
    RIGHT,
    VENTRAL,
    Bundle,
    Bundles,
    find_bundles,
    table,
)
from sct_rootlets_task.analysis.centreline import CentreLine
from sct_rootlets_task.analysis.consistency import STRAY_MM3, sound_bundles, stray_voxels
from sct_rootlets_task.analysis.cord_mask import line_for
from sct_rootlets_task.analysis.geometry import (
    level_map,
    require_same_grid,
    slice_axis,
    to_world,
)
from sct_rootlets_task.analysis.landmark_checks import (
    check_disc_fit,
    check_disc_offset,
    check_discs,
    check_pmj,
)
from sct_rootlets_task.analysis.level_fit import MARGIN, LevelFit, fit_levels
from sct_rootlets_task.analysis.references import (
    FEWEST_LEVELS,
    Doubt,
    References,
    Shift,
    located_level,
    pmj_arc,
    require_levels,
    shift_from_discs,
    shift_from_located,
    shift_from_pmj,
)
from sct_rootlets_task.levels import level_range
from sct_rootlets_task.postprocess import SPECK_MM3
from sct_rootlets_task.short_repr import short_repr

WARNING, NOTE = "warning", "note"

REACH_MM = 16.0
"""Rootlets farther than this from the centre line are far from the cord. PAM50's reach 12.9 mm."""

SHIFT_ADVANTAGE = 3.0
"""A shift is likely when it fits a reference this much better (nats): odds of 1 to 20."""

SMALL_SHARE = 0.1
"""A level, or one side of it, is small below this share of the median level (the other side)."""

OVERLAP_MM = 0.5
"""Neighbouring levels overlap when their extents do by more than this. Cadotte 2015 saw gaps of
1.5–10 mm."""

IMPURE_SHARE = 0.02
"""A bundle is mixed when more than this share of it carries another level."""

LANDMARK, NOT_COVERED = "landmark", "not_covered"
"""Codes of flags on a landmark as a whole, and on levels that the cord mask does not reach."""

SPACING_SDS = 3.0
"""Spacings within this many SD of the mean are expected."""

_HALFWAY = 0.5
_FOV_MM = 8.0
_BESIDE_CANAL = 0.5
_CADOTTE, _PAM50 = "Cadotte 2015", "PAM50"
_FIT = "global fit of all bundles (Cadotte 2015)"


@dataclass(frozen=True)
class Flag:
    """One thing that is out of the ordinary.

    Parameters
    ----------
    code : str
        What is wrong, from a fixed list: see :data:`CODES`.
    level : int or None
        Spinal level concerned.
    side : str or None
        ``left`` or ``right``, where it matters.
    value : float or None
        What was found.
    expected : tuple of (float or None, float or None)
        Lowest and highest expected value; None where there is no limit.
    unit : str
        Of value and range.
    source : str
        Where the range comes from.
    text : str
        The same in a sentence.
    severity : {"warning", "note"}
        A note explains, a warning asks for a look.
    """

    code: str
    level: int | None
    side: str | None
    value: float | None
    expected: tuple[float | None, float | None]
    unit: str
    source: str
    text: str
    severity: str = WARNING


CODES: Mapping[str, str] = {
    "empty": "no rootlets at all",
    "unexpected_value": "a label that is none of the task's levels",
    "mixed_bundle": "one bundle carries several levels",
    "speck": "a piece of less than the volume of a speck",
    "stray": "a small piece where no rootlets run",
    "fragment": "a small piece beside a larger one of the same root",
    "far_from_cord": "rootlets farther from the cord than roots are long",
    "level_order": "a bundle whose level does not fit where it lies",
    "ambiguous_level": "a bundle for which two levels fit about equally well",
    "beyond_last_level": "a bundle beyond the levels of the task",
    "level_missing": "a level absent though its place is in the image",
    "side_missing": "a level with rootlets on one side only",
    "height": "a level unusually long or short along the cord",
    "volume": "a level with hardly any voxels",
    "spacing": "neighbouring levels unusually far apart or close",
    "overlap": "neighbouring levels that overlap along the cord",
    "fov_cut": "a level cut by the edge of the image",
    "shift": "all levels off by the same number, by an independent reference",
    LANDMARK: "a PMJ, discs or a cord mask that may not be what they are called",
    NOT_COVERED: "a level that the cord mask does not reach",
}
"""Every code a flag can have."""


@dataclass(frozen=True)
class LevelSummary:
    """One level as found; lengths and positions in mm along the cord, volumes in mm³.

    ``start`` is the cranial end, ``end`` the caudal one; ``spacing`` and ``gap`` reach to the next
    lower level and are None when it is absent.
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
        What the centre line was fitted to: ``cord``, ``rootlets`` or ``none``.
    """

    flags: tuple[Flag, ...]
    levels: tuple[LevelSummary, ...]
    shifts: tuple[Shift, ...]
    line: str

    __repr__ = short_repr

    @property
    def warnings(self) -> tuple[Flag, ...]:
        """Flags that ask for a look; with ``-strict`` any of them makes the exit code 1."""
        return tuple(flag for flag in self.flags if flag.severity == WARNING)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain types, as the sidecar takes it."""
        return {
            "CentreLineFrom": self.line,
            "Flags": [asdict(flag) for flag in self.flags],
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
        return table([asdict(flag) for flag in self.flags], list(Flag.__dataclass_fields__))

    def to_dataframe(self) -> Any:
        """Return a pandas data frame: one row a level, with the codes of its flags.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        rows = []
        for summary in self.levels:
            codes = sorted({flag.code for flag in self.flags if flag.level == summary.level})
            rows.append({**asdict(summary), "flags": " ".join(codes)})
        return table(rows)


@dataclass(frozen=True, eq=False)
class _Scene:
    """Everything the single checks look at."""

    labels: np.ndarray
    affine: np.ndarray
    expected: tuple[int, ...]
    references: References
    bundles: Bundles
    counted: tuple[Bundle, ...]
    strays: tuple[Bundle, ...]
    fit: LevelFit | None
    summaries: tuple[LevelSummary, ...]
    shifts: tuple[Shift, ...]
    doubts: tuple[Doubt, ...]

    @property
    def line(self) -> CentreLine:
        return self.bundles.line


def check(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    levels: tuple[int, ...] = tuple(range(2, 10)),
    references: References | None = None,
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
    references : References, optional
        Cord mask, PMJ, discs, locator's levels, as far as there are any.

    Raises
    ------
    ImageError
        If an array lies on another grid than the labels, or a landmark cannot be what it is called.
    """
    references = references or References()
    if references.located is not None:
        name = references.name("located")
        require_same_grid(labels, affine, other=references.located, name=name)
        require_levels(references.located, affine, f"the {name}")
    if np.count_nonzero(labels) < 2:
        text = "No rootlets were found; look whether the image shows the cervical spine."
        flag = Flag("empty", None, None, 0.0, (2.0, None), "voxels", "definition", text)
        return Report((flag,), (), (), "none")
    scene = _scene(labels, affine, levels, references)
    flags = [flag for one in _CHECKS for flag in one(scene)]
    flags.sort(key=lambda flag: (flag.severity != WARNING, flag.level or 0))
    return Report(tuple(flags), scene.summaries, scene.shifts, scene.line.source)


def check_image(
    image: Any,
    *,
    levels: tuple[int, ...] = tuple(range(2, 10)),
    references: References | None = None,
) -> Report:
    """Check a nibabel image; see :func:`check`."""
    return check(level_map(image), image.affine, levels=levels, references=references)


def summarise(bundles: Sequence[Bundle]) -> tuple[LevelSummary, ...]:
    """Return the levels that bundles make up, from top to bottom."""
    found = [
        _summary(level, [bundle for bundle in bundles if bundle.level == level])
        for level in sorted({bundle.level for bundle in bundles})
    ]
    for number, (upper, lower) in enumerate(pairwise(found)):
        if lower.level == upper.level + 1:
            found[number] = replace(
                upper, spacing=lower.midpoint - upper.midpoint, gap=lower.start - upper.end
            )
    return tuple(found)


def _summary(level: int, bundles: Sequence[Bundle]) -> LevelSummary:
    start, end = min(b.start for b in bundles), max(b.end for b in bundles)
    return LevelSummary(
        level=level,
        name=describe(level),
        start=start,
        end=end,
        midpoint=(start + end) / 2,
        height=end - start,
        volume=sum(b.volume for b in bundles),
        left_volume=sum(b.volume for b in bundles if b.side == LEFT),
        right_volume=sum(b.volume for b in bundles if b.side == RIGHT),
        dorsal_volume=sum(b.volume for b in bundles if b.part == DORSAL),
        ventral_volume=sum(b.volume for b in bundles if b.part == VENTRAL),
        bundles=len(bundles),
    )


def _scene(
    labels: np.ndarray, affine: np.ndarray, levels: tuple[int, ...], references: References
) -> _Scene:
    cleaned = _without_strays(labels, affine)
    line, doubts = line_for(cleaned, affine, cord=references.cord, name=references.name("cord"))
    bundles = find_bundles(labels, affine, line=line)
    counted, strays = sound_bundles(bundles, labels)
    counted = tuple(bundle for bundle in counted if bundle.level in levels)
    fits = has_priors(levels) and len(counted) >= 2
    summaries = summarise(counted)
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
    summaries: Sequence[LevelSummary], bundles: Bundles, references: References
) -> tuple[tuple[Shift, ...], tuple[Doubt, ...]]:
    """Ask each reference about the numbering of the levels; one in doubt has no say."""
    midpoints = {summary.level: summary.midpoint for summary in summaries}
    ends = (min(s.start for s in summaries), max(s.end for s in summaries))
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
    line: CentreLine,
    references: References,
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


def _check_values(scene: _Scene) -> Iterator[Flag]:
    values, counts = np.unique(scene.bundles.values, return_counts=True)
    for value, count in zip(values, counts, strict=True):
        if value not in scene.expected:
            text = (
                f"{count} voxels have the value {value}, which is none of the levels "
                f"{level_range(scene.expected)}."
            )
            limits = (float(scene.expected[0]), float(scene.expected[-1]))
            yield Flag(
                "unexpected_value", int(value), None, float(value), limits, "", "the task", text
            )


def _check_purity(scene: _Scene) -> Iterator[Flag]:
    for bundle in scene.bundles.items:
        minority = 1 - bundle.purity
        if minority > IMPURE_SHARE:
            others = ", ".join(describe(level) for level, _ in bundle.votes[1:])
            yield _bundle_flag(
                "mixed_bundle",
                bundle,
                value=minority,
                expected=(0, IMPURE_SHARE),
                unit="",
                source="definition",
                text=f"{100 * minority:.0f} % of the bundle {bundle.name} is labelled {others}.",
            )


def _check_reach(scene: _Scene) -> Iterator[Flag]:
    for bundle in scene.bundles.items:
        if bundle.reach > REACH_MM:
            yield _bundle_flag(
                "far_from_cord",
                bundle,
                value=bundle.reach,
                expected=(0, REACH_MM),
                unit="mm",
                source=_PAM50,
                text=(
                    f"Rootlets labelled {bundle.name} reach {bundle.reach:.0f} mm from the middle "
                    f"of the cord; up to {REACH_MM:.0f} mm are expected."
                ),
            )


def _check_small_pieces(scene: _Scene) -> Iterator[Flag]:
    """Name what is too small to be a bundle: specks, strays and fragments."""
    specks = (b for b in scene.bundles.items if b.volume < SPECK_MM3)
    kinds: tuple[tuple[str, Iterable[Bundle], float, str], ...] = (
        ("speck", specks, SPECK_MM3, "is a speck"),
        ("stray", scene.strays, STRAY_MM3, "lies where no roots run"),
        ("fragment", _fragments(scene.counted), STRAY_MM3, "lies beside a larger one"),
    )
    for code, bundles, least, finding in kinds:
        for bundle in bundles:
            yield _bundle_flag(
                code,
                bundle,
                value=bundle.volume,
                expected=(least, None),
                unit="mm³",
                source="definition",
                text=f"A piece of {bundle.volume:.1f} mm³ labelled {bundle.name} {finding}.",
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
    unit: str,
    source: str,
    text: str,
) -> Flag:
    severity = NOTE if code in ("speck", "fragment") else WARNING
    return Flag(
        code, bundle.level, bundle.side, float(value), expected, unit, source, text, severity
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
    where = f"{bundle.name}, {bundle.midpoint:.0f} mm along the cord,"
    if level not in (0, bundle.level):
        return Flag(
            "level_order",
            bundle.level,
            bundle.side,
            float(bundle.level),
            (float(level), float(level)),
            "level",
            _FIT,
            f"{where} lies where {describe(level)} is expected.",
        )
    code, expected, finding = (
        ("beyond_last_level", (None, MARGIN), f"beyond the levels {level_range(scene.expected)}")
        if level == 0
        else ("ambiguous_level", (MARGIN, None), "where a neighbouring level would do as well")
    )
    return _bundle_flag(
        code,
        bundle,
        value=cost,
        expected=expected,
        unit="nats",
        source=_FIT,
        text=f"{where} lies {finding}.",
    )


def _check_missing(scene: _Scene) -> Iterator[Flag]:
    present = {summary.level: summary for summary in scene.summaries}
    if not present:
        return
    for level in scene.expected:
        if level in present:
            continue
        between = min(present) < level < max(present)
        place = _expected_midpoint(level, present)
        if between or (place is not None and _in_view(scene, place)):
            text = f"{describe(level)} was not found; it is expected{_near(place)}."
            yield Flag("level_missing", level, None, 0.0, (1.0, None), "bundles", _CADOTTE, text)


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
        yield from _check_sides(summary)
        if summary.volume < SMALL_SHARE * typical:
            text = (
                f"{summary.name} has {summary.volume:.0f} mm³ of rootlets; the median level has "
                f"{typical:.0f} mm³."
            )
            limits = (SMALL_SHARE * typical, None)
            yield _level_flag(
                "volume",
                summary,
                value=summary.volume,
                expected=limits,
                unit="mm³",
                source="this scan",
                text=text,
            )
        if has_priors((summary.level,)):
            yield from _check_height(summary)


def _check_sides(summary: LevelSummary) -> Iterator[Flag]:
    volumes = {LEFT: summary.left_volume, RIGHT: summary.right_volume}
    side = min(volumes, key=lambda one: volumes[one])
    other = max(volumes.values())
    if volumes[side] < SMALL_SHARE * other:
        found = "no rootlets" if volumes[side] == 0 else f"only {volumes[side]:.0f} mm³"
        text = f"{summary.name} has {found} on the {side}, {other:.0f} mm³ on the other side."
        yield Flag(
            "side_missing",
            summary.level,
            side,
            volumes[side],
            (SMALL_SHARE * other, None),
            "mm³",
            "the other side",
            text,
        )


def _check_height(summary: LevelSummary) -> Iterator[Flag]:
    low, high = height_range(summary.level)
    if _is_outside(summary.height, low, high):
        text = (
            f"{summary.name} is {summary.height:.1f} mm high; {low:.1f}–{high:.1f} mm are expected."
        )
        source = "267 scans, Cadotte 2015, PAM50"
        yield _level_flag(
            "height",
            summary,
            value=summary.height,
            expected=(low, high),
            unit="mm",
            source=source,
            text=text,
        )


def _is_outside(value: float, low: float, high: float) -> bool:
    """Tell whether a length lies outside a range, all to the tenth of a mm that texts show."""
    return not round(low, 1) <= round(value, 1) <= round(high, 1)


def _check_neighbours(scene: _Scene) -> Iterator[Flag]:
    for upper, lower in pairwise(scene.summaries):
        if upper.spacing is None or upper.gap is None or not has_priors((upper.level, lower.level)):
            continue
        mean, sd = spacing(upper.level, lower.level)
        low, high = mean - SPACING_SDS * sd, mean + SPACING_SDS * sd
        pair = f"{upper.name} and {lower.name}"
        if _is_outside(upper.spacing, low, high):
            text = (
                f"The midpoints of {pair} are {upper.spacing:.1f} mm apart; {low:.1f}–{high:.1f} "
                "mm are expected."
            )
            source = _CADOTTE if upper.level > 2 else _PAM50
            yield _level_flag(
                "spacing",
                upper,
                value=upper.spacing,
                expected=(low, high),
                unit="mm",
                source=source,
                text=text,
            )
        if upper.gap < -OVERLAP_MM:
            text = f"{pair} overlap by {-upper.gap:.1f} mm along the cord."
            yield _level_flag(
                "overlap",
                upper,
                value=upper.gap,
                expected=(-OVERLAP_MM, None),
                unit="mm",
                source=_CADOTTE,
                text=text,
            )


def _level_flag(
    code: str,
    summary: LevelSummary,
    *,
    value: float,
    expected: tuple[float | None, float | None],
    unit: str,
    source: str,
    text: str,
) -> Flag:
    return Flag(code, summary.level, None, float(value), expected, unit, source, text)


def _check_view(scene: _Scene) -> Iterator[Flag]:
    axis, upwards = slice_axis(scene.affine)
    last = scene.labels.shape[axis] - 1
    for summary in scene.summaries:
        slices = scene.bundles.voxels[scene.bundles.values == summary.level][:, axis]
        for edge, reached in ((0, slices.min() == 0), (last, slices.max() == last)):
            if reached:
                end = "upper" if (edge == last) == upwards else "lower"
                text = f"{summary.name} reaches the {end} edge of the image and may be cut by it."
                yield Flag(
                    "fov_cut",
                    summary.level,
                    None,
                    float(edge),
                    (1.0, last - 1.0),
                    "slice",
                    "the image",
                    text,
                    NOTE,
                )


def _check_landmarks(scene: _Scene) -> Iterator[Flag]:
    for doubt in scene.doubts:
        code = LANDMARK if doubt.level is None else NOT_COVERED
        yield Flag(
            code,
            doubt.level,
            None,
            doubt.value,
            doubt.expected,
            doubt.unit,
            doubt.landmark,
            doubt.text,
        )


def _check_shifts(scene: _Scene) -> Iterator[Flag]:
    agree = len({shift.shift for shift in scene.shifts}) == 1
    for shift in scene.shifts:
        if shift.shift and shift.advantage >= SHIFT_ADVANTAGE:
            text = f"By the {shift.source} all level numbers are likely {_too_far(shift.shift)}; "
            text += _way_out(scene, shift.shift, agree=agree)
            yield Flag("shift", None, None, shift.offset, (-0.5, 0.5), "levels", shift.source, text)


def _too_far(shift: int) -> str:
    return f"{abs(shift)} too {'small' if shift > 0 else 'large'}"


def _way_out(scene: _Scene, shift: int, *, agree: bool) -> str:
    """Return what to do about a shift; a command only where its result can be right."""
    lost = [s.level for s in scene.summaries if s.level + shift not in scene.expected]
    if lost:
        moved = f"{describe(lost[0])} {describe(lost[0] + shift)}"
        return (
            f"but that would make {moved}, which is none of {level_range(scene.expected)}. Look "
            "whether the reference is right."
        )
    if not agree:
        return "the other references say otherwise, so look before renumbering."
    return f"'sct_rootlets relabel -shift {shift}' would correct them."


_CHECKS: tuple[Callable[[_Scene], Iterator[Flag]], ...] = (
    _check_values,
    _check_purity,
    _check_reach,
    _check_small_pieces,
    _check_order,
    _check_missing,
    _check_levels,
    _check_neighbours,
    _check_view,
    _check_landmarks,
    _check_shifts,
)
