"""What landmarks say of the numbers of the levels, and how to correct them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sct_rootlets_task.analysis.level_summary import LevelSummary
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.untrusted import file_argument
from sct_rootlets_task.levels.anatomical_priors import AnatomicalPriors
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
    shift_from_discs,
    shift_from_located,
    shift_from_pmj,
)
from sct_rootlets_task.rootlets.bundles import Bundles
from sct_rootlets_task.rootlets.centerline import Centerline
from sct_rootlets_task.rootlets.geometry import to_world

SHIFT_ADVANTAGE = 3.0
"""A shift is likely when it fits a reference this much better (nats): odds of 1 to 20."""

_BESIDE_CANAL = 0.5
_Opinion = tuple[Shift | None, tuple[Doubt, ...]]


def ask_landmarks(
    summaries: Sequence[LevelSummary],
    bundles: Bundles,
    *,
    landmarks: Landmarks,
    priors: AnatomicalPriors | None,
) -> tuple[tuple[Shift, ...], tuple[Doubt, ...]]:
    """Ask each landmark about the numbering of the levels; one in doubt has no say.

    Parameters
    ----------
    summaries : sequence of LevelSummary
        The levels found; at least one.
    bundles : Bundles
        All pieces of the map.
    landmarks : Landmarks
        What there is to ask.
    priors : AnatomicalPriors or None
        Those of the task. PMJ and discs need them to have a say.

    Returns
    -------
    tuple of Shift
        What each landmark says.
    tuple of Doubt
        What is doubtful about the landmarks.
    """
    midpoints = {summary.level: summary.midpoint for summary in summaries}
    opinions = []
    if landmarks.pmj is not None:
        opinions.append(_pmj_opinion(bundles.line, landmarks, midpoints, priors))
    if landmarks.discs is not None:
        ends = (min(s.end for s in summaries), max(s.start for s in summaries))
        opinions.append(_disc_opinion(bundles.line, landmarks, midpoints, priors, ends=ends))
    if landmarks.located is not None:
        opinions.append((_located_opinion(bundles, landmarks.located, list(midpoints)), ()))
    shifts = tuple(shift for shift, doubts in opinions if shift is not None and not doubts)
    return shifts, tuple(doubt for _, doubts in opinions for doubt in doubts)


def _pmj_opinion(
    line: Centerline,
    landmarks: Landmarks,
    midpoints: Mapping[int, float],
    priors: AnatomicalPriors | None,
) -> _Opinion:
    pmj, name = np.asarray(landmarks.pmj), landmarks.name("pmj")
    doubts = check_pmj(line, pmj, midpoints=midpoints, priors=priors, name=name)
    if not (priors and priors.midpoint_below_pmj_mm) or len(midpoints) < FEWEST_LEVELS:
        return None, doubts
    return shift_from_pmj(midpoints, pmj_arc(line, pmj), priors=priors), doubts


def _disc_opinion(
    line: Centerline,
    landmarks: Landmarks,
    midpoints: Mapping[int, float],
    priors: AnatomicalPriors | None,
    *,
    ends: tuple[float, float],
) -> _Opinion:
    discs = landmarks.discs or {}
    doubts = check_discs(line, discs, ends=ends, name=landmarks.name("discs"))
    if not (priors and priors.disc_coordinates):
        return None, doubts
    shift = shift_from_discs(midpoints, line, discs=discs, priors=priors)
    doubts = doubts or check_disc_fit(line, discs, midpoints=midpoints, priors=priors, shift=shift)
    if not doubts and shift is not None and shift.advantage < SHIFT_ADVANTAGE:
        doubts = check_disc_offset(-shift.offset)
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


def too_far(shift: int) -> str:
    """Return by how much numbers are wrong that a shift would correct, such as ``1 too large``."""
    return f"{abs(shift)} too {'small' if shift > 0 else 'large'}"


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
