"""The levels of a map in figures: where each lies along the cord, and how large it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.rootlets.bundles import DORSAL, LEFT, RIGHT, VENTRAL, Bundle


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
