"""What is measured of a level map, for the checks to look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.flags import Flag, Place, at_point, at_voxel, flag, middle_voxel
from sct_rootlets_task.analysis.level_summary import LevelSummary, summarize
from sct_rootlets_task.analysis.numbering import ask_landmarks
from sct_rootlets_task.level_names import name_levels
from sct_rootlets_task.levels.cord_mask import line_for
from sct_rootlets_task.levels.corrections import sound_bundles, stray_voxels
from sct_rootlets_task.levels.landmarks import Doubt, Landmarks, Shift
from sct_rootlets_task.levels.level_fit import LevelFit, fit_levels
from sct_rootlets_task.rootlets.bundles import Bundle, Bundles, find_bundles
from sct_rootlets_task.rootlets.centerline import Centerline
from sct_rootlets_task.tasks import Task


@dataclass(frozen=True, eq=False)
class Measured:
    """A level map, what else is known of the subject, and what was measured.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world mm.
    task : Task
        Task of the map.
    landmarks : Landmarks
        What else is known of the subject.
    bundles : Bundles
        All pieces of the map along the centerline.
    counted : tuple of Bundle
        Those of the task's levels that are neither specks nor strays.
    strays : tuple of Bundle
        Small pieces where no rootlets run.
    fit : LevelFit or None
        Global fit of the counted bundles; None without priors, and for fewer than two bundles.
    summaries : tuple of LevelSummary
        The levels that the counted bundles make up.
    shifts, doubts : tuple of Shift, tuple of Doubt
        What the landmarks say of the numbering, and what is doubtful about them.
    """

    labels: np.ndarray
    affine: np.ndarray
    task: Task
    landmarks: Landmarks
    bundles: Bundles
    counted: tuple[Bundle, ...]
    strays: tuple[Bundle, ...]
    fit: LevelFit | None
    summaries: tuple[LevelSummary, ...]
    shifts: tuple[Shift, ...]
    doubts: tuple[Doubt, ...]

    @property
    def line(self) -> Centerline:
        """Centerline of the cord."""
        return self.bundles.line

    def middle_of(self, members: np.ndarray) -> Place:
        """Return the place of the labeled voxel in the middle of some, given as a mask."""
        return at_voxel(middle_voxel(self.bundles.voxels[members], self.affine), self.affine)

    def of_bundle(self, bundle: Bundle) -> Place:
        """Return the place of a bundle's middle."""
        return self.middle_of(self.bundles.owner == bundle.number)

    def of_level(self, level: int) -> Place:
        """Return the place of a level's middle."""
        return self.middle_of(self.bundles.values == level)

    def lower_end(self, level: int) -> Place:
        """Return the place of a level's lowest voxel, where the next level begins."""
        arcs = np.where(self.bundles.values == level, self.bundles.where[:, 0], -np.inf)
        return at_voxel(self.bundles.voxels[arcs.argmax()], self.affine)

    def along(self, arc: float) -> Place:
        """Return the place on the centerline at an arc length in mm."""
        return at_point(self.line.at(arc)[0], self.affine, self.labels.shape)

    def flag(
        self,
        code: str,
        value: float | None,
        *,
        expected: tuple[float | None, float | None],
        **details: Any,
    ) -> Flag:
        """Return a flag in the task's words; see `sct_rootlets_task.analysis.flags.flag`."""
        task = self.task
        words = {
            "task": task.name,
            "levels": name_levels(task.levels),
            "published": task.priors.source if task.priors else "the task",
        }
        return flag(code, value, expected=expected, **{**words, **details})

    def bundle_flag(
        self,
        code: str,
        bundle: Bundle,
        *,
        value: float,
        expected: tuple[float | None, float | None],
        **details: Any,
    ) -> Flag:
        """Return a flag on a bundle, placed in its middle unless ``at`` says otherwise."""
        known = {
            "level": bundle.level,
            "side": bundle.side,
            "at": details.get("at") or self.of_bundle(bundle),
            "bundle": bundle.name,
            "midpoint": bundle.midpoint,
        }
        return self.flag(code, value, expected=expected, **{**details, **known})


def measure(labels: np.ndarray, affine: np.ndarray, task: Task, landmarks: Landmarks) -> Measured:
    """Measure a level map; see :func:`sct_rootlets_task.analysis.check.check`.

    Raises
    ------
    ImageError
        If a landmark cannot be what it is called.
    """
    cleaned = _without_strays(labels, affine)
    line, doubts = line_for(cleaned, affine, cord=landmarks.cord, name=landmarks.name("cord"))
    bundles = find_bundles(labels, affine, line=line)
    sound, strays = sound_bundles(bundles, labels)
    counted = tuple(bundle for bundle in sound if bundle.level in task.levels)
    summaries, priors = summarize(counted), task.priors
    shifts: tuple[Shift, ...] = ()
    fit = None
    if len(counted) >= 2:
        shifts, others = ask_landmarks(summaries, bundles, landmarks=landmarks, priors=priors)
        doubts = (*doubts, *others)
        fit = fit_levels(counted, task.levels, priors=priors) if priors else None
    return Measured(
        labels=labels,
        affine=affine,
        task=task,
        landmarks=landmarks,
        bundles=bundles,
        counted=counted,
        strays=strays,
        fit=fit,
        summaries=summaries,
        shifts=shifts,
        doubts=doubts,
    )


def _without_strays(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    cleaned = labels.copy()
    cleaned[stray_voxels(labels, affine)] = 0
    return cleaned if np.count_nonzero(cleaned) > 1 else labels
