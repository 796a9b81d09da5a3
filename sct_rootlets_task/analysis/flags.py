"""The flags of the plausibility report: one table of codes, each with what it says of itself.

A check only names a code, what it found and where; :func:`flag` makes the sentence of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.levels.landmarks import world_point
from sct_rootlets_task.rootlets.geometry import to_world

WARNING, NOTE = "warning", "note"

LANDMARK, NOT_COVERED, DOUBT, NO_PRIORS = "landmark", "not_covered", "doubt", "no_priors"
"""Codes of flags on a landmark as a whole, on levels that the cord mask does not reach, on what the
run that made a map was not sure of, and on what the task does not tell."""

_FIT = "global fit of all bundles ({published})"


@dataclass(frozen=True)
class Place:
    """Where to look for what is flagged.

    Parameters
    ----------
    world_mm : tuple of (float, float, float)
        Right, anterior, superior in mm, as viewers show them.
    voxel : tuple of (int, int, int) or None
        Index (i, j, k) in the level map's own file, from 0; None outside the image.
    """

    world_mm: tuple[float, float, float]
    voxel: tuple[int, int, int] | None

    def __str__(self) -> str:
        right, anterior, superior = world_point(self.world_mm, digits=1)
        world = f"RAS {right}, {anterior}, {superior} mm"
        return f"voxel {list(self.voxel)}, {world}" if self.voxel else world


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
        The same in a sentence, and where to look.
    severity : {"warning", "note"}
        A note explains, a warning asks for a look.
    voxel : tuple of (int, int, int) or None
        Where to look: index (i, j, k) in the level map, from 0. None for what has no place, and
        outside the image.
    world_mm : tuple of (float, float, float) or None
        The same place in world mm: right, anterior, superior.
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
    voxel: tuple[int, int, int] | None = None
    world_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Kind:
    """What all flags of one code share.

    Parameters
    ----------
    meaning : str
        For the reference.
    text : str
        Template of the sentence. ``value``, ``low``, ``high``, ``name`` (of the level) and ``side``
        are known everywhere; the check gives further words.
    unit, source : str
        See :class:`Flag`; templates as well.
    severity : {"warning", "note"}
        See :class:`Flag`.
    """

    meaning: str
    text: str
    unit: str = ""
    source: str = "definition"
    severity: str = WARNING


_PIECE = "A piece of {value:.1f} mm³ labeled {bundle} "
_LIES = "{bundle}, {midpoint:.0f} mm along the cord, lies "

KINDS: Mapping[str, Kind] = {
    "empty": Kind(
        "no rootlets at all",
        "No rootlets were found: the map holds {found}. Look whether the image shows the levels "
        "{levels}.",
        "voxels",
    ),
    "unexpected_value": Kind(
        "a label that is none of the task's levels",
        "{holders} the value {value:.0f}{called}, which is none of the levels {levels}.",
        source="the task",
    ),
    "mixed_bundle": Kind(
        "one bundle carries several levels",
        "{percent:.0f} % of the bundle {bundle} is labeled {others}.",
    ),
    "speck": Kind(
        "a piece of less than the volume of a speck",
        _PIECE + "is a speck.",
        "mm³",
        severity=NOTE,
    ),
    "stray": Kind(
        "a small piece where no rootlets run",
        _PIECE + "lies where no roots run.",
        "mm³",
    ),
    "fragment": Kind(
        "a small piece beside a larger one of the same root",
        _PIECE + "lies beside a larger one.",
        "mm³",
        severity=NOTE,
    ),
    "far_from_cord": Kind(
        "rootlets farther from the cord than roots are long",
        "Rootlets labeled {bundle} reach {value:.0f} mm from the middle of the cord; up to "
        "{high:.0f} mm are expected.",
        "mm",
        "PAM50",
    ),
    "level_order": Kind(
        "a bundle whose level does not fit where it lies",
        _LIES + "where {fitting} is expected.",
        "level",
        _FIT,
    ),
    "ambiguous_level": Kind(
        "a bundle for which two levels fit about equally well",
        _LIES + "where a neighboring level would do as well.",
        "nats",
        _FIT,
    ),
    "beyond_last_level": Kind(
        "a bundle beyond the levels of the task",
        _LIES + "beyond the levels {levels}.",
        "nats",
        _FIT,
    ),
    "level_missing": Kind(
        "a level absent though its place is in the image",
        "{name} was not found; it is expected{where}.",
        "bundles",
        "{published}",
    ),
    "side_missing": Kind(
        "a level with rootlets on one side only",
        "{name} has {found} on the {side}, {other:.0f} mm³ on the other side.",
        "mm³",
        "the other side",
    ),
    "height": Kind(
        "rootlets of a level over an unusually long or short piece of the cord",
        "{name} is {value:.1f} mm long along the cord, by its rootlets; {low:.1f}–{high:.1f} mm "
        "are expected.",
        "mm",
        "{published}",
    ),
    "volume": Kind(
        "a level with hardly any voxels",
        "{name} has {value:.0f} mm³ of rootlets; the median level has {typical:.0f} mm³.",
        "mm³",
        "this scan",
    ),
    "spacing": Kind(
        "neighboring levels unusually far apart or close",
        "The midpoints of {pair} are {value:.1f} mm apart; {low:.1f}–{high:.1f} mm are expected.",
        "mm",
        "{published}",
    ),
    "overlap": Kind(
        "neighboring levels that overlap along the cord",
        "{pair} overlap by {overlap:.1f} mm along the cord.",
        "mm",
        "{published}",
    ),
    "fov_cut": Kind(
        "a level cut by the edge of the image",
        "{name} reaches the {end} edge of the image and may be cut by it.",
        "slice",
        "the image",
        severity=NOTE,
    ),
    "shift": Kind(
        "all levels off by the same number, by an independent landmark",
        "By the {reference} all level numbers are likely {finding}; {advice}",
        "levels",
        "{reference}",
    ),
    LANDMARK: Kind(
        "a PMJ, discs or a cord mask that may not be what they are called",
        "{finding}",
        "{measured_in}",
        "{reference}",
    ),
    NOT_COVERED: Kind(
        "a level that the cord mask does not reach",
        "{finding}",
        "{measured_in}",
        "{reference}",
    ),
    NO_PRIORS: Kind(
        "what was not checked, as the task does not tell what is usual for its levels",
        "Not checked, as the task {task} does not tell what is usual: {what}.",
        source="{reference}",
        severity=NOTE,
    ),
    DOUBT: Kind(
        "what the run that made the map was not sure of, from its sidecar",
        "{finding}",
        source="the run",
    ),
}
"""Every code with its meaning and its sentence."""

CODES: Mapping[str, str] = {code: kind.meaning for code, kind in KINDS.items()}
"""Every code a flag can have."""


COLUMNS: Mapping[str, str] = {
    "code": "What is wrong: one of the codes of the flags.",
    "severity": "warning, which asks for a look, or note.",
    "side": "left or right, where it matters.",
    "value": "What was found.",
    "expected_lowest": "Lowest expected value; empty where there is no limit.",
    "expected_highest": "Highest expected value, likewise.",
    "unit": "Unit of value and range.",
    "source": "Where the range comes from.",
    "voxel_i": "Where to look: index of the voxel in the level map, from 0.",
    "voxel_j": "Its second index.",
    "voxel_k": "Its third index.",
    "x_mm": "The same place in world mm, to the right.",
    "y_mm": "In world mm, to the front.",
    "z_mm": "In world mm, upwards.",
    "text": "The same in a sentence.",
}
"""Columns of the table of flags, after those that tell the image and the level."""


def table_row(one: Flag) -> dict[str, Any]:
    """Return a flag by the columns of :data:`COLUMNS`, with its ``level`` and ``level_name``."""
    low, high = one.expected
    voxel, place = one.voxel or (None,) * 3, one.world_mm or (None,) * 3
    row = {name: getattr(one, name, None) for name in ("level", *COLUMNS)}
    row |= {"level_name": None if one.level is None else value_name(one.level)}
    row |= {"expected_lowest": low, "expected_highest": high}
    row |= dict(zip(("voxel_i", "voxel_j", "voxel_k"), voxel, strict=True))
    return row | dict(zip(("x_mm", "y_mm", "z_mm"), place, strict=True))


def flag(
    code: str,
    value: float | None,
    *,
    expected: tuple[float | None, float | None],
    level: int | None = None,
    side: str | None = None,
    at: Place | None = None,
    **words: Any,
) -> Flag:
    """Return a flag with its sentence.

    Parameters
    ----------
    code : str
        One of :data:`KINDS`.
    value : float or None
        What was found.
    expected : tuple of (float or None, float or None)
        Lowest and highest expected value; None where there is no limit.
    level : int, optional
        Spinal level concerned.
    side : {"left", "right"}, optional
        Side concerned.
    at : Place, optional
        Where to look.
    **words : object
        Further words of the template.

    Examples
    --------
    >>> flag("height", 13.3, expected=(2.5, 10.9), level=2, published="PAM50").text
    'C2 is 13.3 mm long along the cord, by its rootlets; 2.5–10.9 mm are expected.'
    """
    kind = KINDS[code]
    low, high = expected
    name = "" if level is None else value_name(level)
    known = {"value": value, "low": low, "high": high, "name": name, "side": side, **words}
    found = Flag(
        code,
        level,
        side,
        None if value is None else float(value),
        expected,
        kind.unit.format(**known),
        kind.source.format(**known),
        kind.text.format(**known),
        kind.severity,
    )
    if at is None:
        return found
    text = f"{found.text} See {at}."
    return replace(found, text=text, voxel=at.voxel, world_mm=at.world_mm)


def at_voxel(voxel: np.ndarray, affine: np.ndarray) -> Place:
    """Return the place of a voxel, shape (3,), of the level map."""
    i, j, k = (int(index) for index in voxel)
    return Place(world_point(to_world(np.array([[i, j, k]]), affine)[0], digits=2), (i, j, k))


def at_point(point: np.ndarray, affine: np.ndarray, shape: tuple[int, ...]) -> Place:
    """Return the place of a world point, shape (3,), with the voxel it lies in, if it does.

    Parameters
    ----------
    point : ndarray of float, shape (3,)
        Right, anterior, superior in mm.
    affine : ndarray of float, shape (4, 4)
        Voxel index of the level map to world mm.
    shape : tuple of int
        Shape of the level map.
    """
    index = np.rint(np.linalg.solve(affine[:3, :3], point - affine[:3, 3])).astype(int)
    inside = bool(((index >= 0) & (index < shape)).all())
    i, j, k = (int(one) for one in index)
    return Place(world_point(point, digits=2), (i, j, k) if inside else None)


def middle_voxel(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the one of some voxels, shape (n, 3), that lies nearest to their middle."""
    points = to_world(voxels, affine)
    return np.asarray(voxels[((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin()])
