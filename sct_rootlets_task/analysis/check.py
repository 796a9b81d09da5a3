"""Check how plausible a level map is.

:func:`check` measures the levels of a segmentation along the cord, compares them with the anatomy
and with whatever else is known of the subject, and returns flags that a program can read and a
person can understand. It changes nothing and guesses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.flags import (
    DOUBT,
    LANDMARK,
    NO_PRIORS,
    WARNING,
    Flag,
    at_voxel,
    flag,
)
from sct_rootlets_task.analysis.level_summary import LevelSummary
from sct_rootlets_task.analysis.measured import measure
from sct_rootlets_task.analysis.numbering import SHIFT_ADVANTAGE, too_far
from sct_rootlets_task.analysis.single_checks import CHECKS
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.level_names import name_levels
from sct_rootlets_task.levels.landmarks import Landmarks, Shift, require_levels
from sct_rootlets_task.rootlets.bundles import table
from sct_rootlets_task.rootlets.components import voxels_of
from sct_rootlets_task.rootlets.geometry import require_same_grid
from sct_rootlets_task.tasks import Task


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
        What each landmark says about the numbering.
    line : str
        What the centerline was fitted to: ``cord``, ``rootlets`` or ``none``.
    opinions : tuple of str
        What landmarks say of the numbering where it is no flag, a sentence each.
    """

    flags: tuple[Flag, ...]
    levels: tuple[LevelSummary, ...]
    shifts: tuple[Shift, ...]
    line: str
    opinions: tuple[str, ...] = ()

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


def check(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    task: Task,
    landmarks: Landmarks | None = None,
) -> Report:
    """Check how plausible the levels of a segmentation are.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    task : Task
        Task of the map, which tells its levels and what is usual for them.
    landmarks : Landmarks, optional
        Cord mask, PMJ, discs, locator's levels, as far as there are any.

    Raises
    ------
    ImageError
        If an array lies on another grid than the labels, or a landmark cannot be what it is called.
    """
    landmarks = landmarks or Landmarks()
    if landmarks.located is not None:
        name = landmarks.name("located")
        require_same_grid(labels, affine, other=landmarks.located, name=name)
        require_levels(landmarks.located, affine, f"the {name}")
    if np.count_nonzero(labels) < 2:
        return Report((_nothing(labels, affine, task),), (), (), "none")
    measured = measure(labels, affine, task, landmarks)
    flags = (found for one in CHECKS for found in one(measured))
    return Report(_sorted(flags), measured.summaries, measured.shifts, measured.line.source)


def _nothing(labels: np.ndarray, affine: np.ndarray, task: Task) -> Flag:
    voxels = voxels_of(labels)
    found = "a single labeled voxel" if len(voxels) else "no labeled voxel"
    place = at_voxel(voxels[0], affine) if len(voxels) else None
    levels = name_levels(task.levels)
    return flag("empty", len(voxels), expected=(2.0, None), at=place, found=found, levels=levels)


def _sorted(flags: Iterable[Flag]) -> tuple[Flag, ...]:
    return tuple(sorted(flags, key=lambda one: (one.severity != WARNING, one.level or 0)))


def opinions(report: Report, landmarks: Landmarks) -> tuple[str, ...]:
    """Return what landmarks say of the numbering where it is no flag, a sentence each.

    Parameters
    ----------
    report : Report
        Result of :func:`check`.
    landmarks : Landmarks
        What it was given.
    """
    if not report.levels:
        return ()
    given = {"PMJ": landmarks.pmj, "discs": landmarks.discs, "locator": landmarks.located}
    told = {shift.source: shift for shift in report.shifts}
    doubted = {one.source for one in report.flags if one.code in (LANDMARK, NO_PRIORS)}
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
                f"By the {source} the numbers of the levels may be right; {too_far(one.shift)} "
                "would fit about as well."
            )
    return tuple(texts)
