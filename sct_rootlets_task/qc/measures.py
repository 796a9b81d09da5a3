"""The level table of a report: what is measured when nobody hands in anything better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from sct_rootlets_task.qc.scene import Scene, label_name

COLUMNS: Mapping[str, str] = {
    "slices": "Slices",
    "voxels": "Voxels",
    "volume": "Volume (mm³)",
    "height": "Rootlets’ height (mm)",
    "spacing": "To next (mm)",
    "gap": "Gap (mm)",
    "left_volume": "Left (mm³)",
    "right_volume": "Right (mm³)",
    "bundles": "Bundles",
}
"""Columns of the level table that are shown, in this order, where a row has them."""


def level_rows(scene: Scene, given: Iterable[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return the rows of the level table.

    Parameters
    ----------
    scene : Scene
        The image.
    given : iterable of mapping
        Rows measured elsewhere, each with its ``level``; they win over what is measured here, and
        a row of a level that the label map lacks is left out.

    Returns
    -------
    list of dict
        By level: ``level``, ``name``, ``voxels``, ``volume`` (mm³), ``slices`` (first and last,
        counted from the inferior end, as SCT does), ``height`` (of the rootlets, mm along the cord)
        and ``spacing`` (mm along the cord between the middle of this level and of the next lower
        one; None when that one is absent).
    """
    arc = _arc(scene)
    rows = [_row(scene, level, arc) for level in scene.levels]
    for row, after in pairwise(rows):
        if after["level"] == row["level"] + 1:
            row["spacing"] = round(abs(after["middle"] - row["middle"]), 1)
    better = {int(row["level"]): dict(row) for row in given}
    merged = [{**row, **better.get(row["level"], {})} for row in rows]
    return [{key: _plain(value) for key, value in row.items()} for row in merged]


def missing_levels(levels: Sequence[int], expected: Sequence[int]) -> list[int]:
    """Return the expected levels that were not found.

    Without expectations, those between the first and the last level found are returned.

    Examples
    --------
    >>> missing_levels([3, 4, 6], [])
    [5]
    """
    wanted = expected or (range(min(levels), max(levels)) if levels else ())
    return [level for level in wanted if level not in levels]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return key and heading of the columns that at least one row has a value for."""
    return [(key, text) for key, text in COLUMNS.items() if any(row.get(key) for row in rows)]


def _row(scene: Scene, level: int, arc: np.ndarray) -> dict[str, Any]:
    slices = scene.slices_of(level)
    per_slice = scene.counts[level, slices]
    voxels = int(per_slice.sum())
    first, last = int(slices[0]), int(slices[-1])
    step = float(np.gradient(arc)[slices].mean())
    return {
        "level": level,
        "name": label_name(level),
        "voxels": voxels,
        "volume": round(voxels * float(np.prod(scene.spacing)), 1),
        "slices": [first, last],
        "height": round(float(arc[last] - arc[first]) + step, 1),
        "middle": float(np.average(arc[slices], weights=per_slice)),
        "spacing": None,
    }


def _arc(scene: Scene) -> np.ndarray:
    """Return the length of the cord's line from the inferior end to each slice, in mm."""
    steps = np.diff(scene.center * scene.spacing[:2], axis=0)
    lengths = np.sqrt((steps**2).sum(axis=1) + scene.spacing[2] ** 2)
    return np.concatenate([[0.0], np.cumsum(lengths)])


def _plain(value: Any) -> Any:
    """Return a value as JSON takes it, with few enough digits for a table."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value
    return round(value, 2) if math.isfinite(value) else None
