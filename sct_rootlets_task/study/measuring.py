"""What is measured of a level map with the landmarks of its subject, as far as these can be used.

A landmark that cannot be used is left out, with a warning: the levels can be had without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sct_rootlets_task.analysis.check import Report, check
from sct_rootlets_task.analysis.spinal_levels import COLUMNS, SpinalLevels, spinal_levels
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import InputImage, in_memory, load_image
from sct_rootlets_task.io.inputs import in_mm
from sct_rootlets_task.io.untrusted import reason_of
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.levels.landmarks import Landmarks, landmarks_from_images
from sct_rootlets_task.tasks import Task

LEADING: Mapping[str, str] = {
    "subject": "Subject, such as sub-01.",
    "session": "Session, such as ses-1.",
    "contrast": "Contrast of the image: T2w, UNIT1, INV1 or INV2.",
    "level_name": "Name of the spinal level, such as C5.",
}
"""Columns of the table of an image that stand before those of ``sct_rootlets levels``."""

TABLE: Mapping[str, str] = {
    **LEADING,
    **{name: text for name, text in COLUMNS.items() if name != "fname"},
}
"""All columns of the table of an image, with their meaning."""

_PARTS = ("cord", "pmj", "discs")
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Usable:
    """Something found with landmarks.

    Parameters
    ----------
    landmarks : Landmarks
        Those that were used.
    warnings : tuple of str
        Why others were not.
    """

    landmarks: Landmarks
    warnings: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the landmarks that were used."""
        return tuple(part for part in _PARTS if getattr(self.landmarks, part) is not None)

    def without(self, part: str, reason: object) -> Usable:
        """Return the same without one landmark.

        Parameters
        ----------
        part, reason : str, object
            Its name, and why it cannot be used.
        """
        file = self.landmarks.name(part)
        text = f"The {file} is not used: {reason}"
        return Usable(_with(self.landmarks, **{part: None}), (*self.warnings, text))


def read_landmarks(
    files: Mapping[str, Path], labels: np.ndarray, image: InputImage, *, name: str
) -> Usable:
    """Read the landmarks of a subject.

    Parameters
    ----------
    files : mapping of str to Path
        Files by ``cord``, ``pmj`` and ``discs``.
    labels : ndarray of uint8, shape (i, j, k)
        Level map.
    image : InputImage
        The image of the level map.
    name : str
        File name of the level map, for messages.
    """
    grid = in_memory(labels, image.affine, file=name)
    found = Usable(landmarks_from_images(grid))
    for part in _PARTS:
        if part not in files:
            continue
        path = files[part]
        named = {**found.landmarks.files, part: path.name}
        found = replace(found, landmarks=replace(found.landmarks, files=named))
        try:
            # Messages name the file only: folders may name people.
            read = in_mm(load_image(path, constant=True), Path(path.name))
            one = landmarks_from_images(grid, **{part: read})
        except (ImageError, OSError) as error:
            reason = reason_of(error).replace(str(path), path.name)
            found = found.without(part, reason)
            continue
        landmarks = _with(found.landmarks, **{part: getattr(one, part)})
        found = replace(found, landmarks=landmarks)
    return found


def with_usable(known: Usable, run: Callable[[Landmarks], _Found]) -> tuple[_Found, Usable]:
    """Return what a function finds with the landmarks that it can use, and these.

    Parameters
    ----------
    known : Usable
        Landmarks that could be read.
    run : callable
        The function. It raises ``ImageError`` for a landmark that it cannot use.

    Raises
    ------
    ImageError
        If it raises one without any landmark, too.
    """
    try:
        return run(known.landmarks), known
    except ImageError:
        none = _with(known.landmarks, **dict.fromkeys(_PARTS))
        for part in known.parts:
            try:
                run(_with(none, **{part: getattr(known.landmarks, part)}))
            except ImageError as error:
                known = known.without(part, error)
        return run(known.landmarks), known


def _with(landmarks: Landmarks, **parts: Any) -> Landmarks:
    return replace(landmarks, **parts)


def plausibility(
    labels: np.ndarray, image: InputImage, *, task: Task, known: Usable
) -> tuple[Report, Usable]:
    """Check a level map, see :func:`sct_rootlets_task.analysis.check.check`.

    Parameters
    ----------
    labels, image : ndarray of uint8, shape (i, j, k), and InputImage
        Level map and its image.
    task : Task
        Task of the map.
    known : Usable
        Landmarks that could be read.

    Returns
    -------
    report : Report
        How plausible the levels are.
    usable : Usable
        The landmarks that were used.
    """
    return with_usable(
        known, lambda landmarks: check(labels, image.affine, task=task, landmarks=landmarks)
    )


def measured_levels(
    labels: np.ndarray, image: InputImage, *, task: Task, known: Usable, method: str
) -> tuple[SpinalLevels, Usable]:
    """Find the spinal levels of an image; none where there are no rootlets.

    Parameters
    ----------
    labels, image : ndarray of uint8, shape (i, j, k), and InputImage
        Level map and its image.
    task : Task
        Task of the map.
    known : Usable
        Landmarks that could be read.
    method : {"caudal", "midpoint", "rootlets"}
        How the levels are divided.

    Returns
    -------
    levels : SpinalLevels
        Rows and, where a cord mask is known, the colored cord.
    usable : Usable
        The landmarks that were used.
    """
    if not labels.any():
        cord = known.landmarks.cord
        empty = None if cord is None else np.zeros(labels.shape, dtype=np.uint8)
        return SpinalLevels((), empty, (), "", method), known
    return with_usable(
        known,
        lambda landmarks: spinal_levels(
            labels, image.affine, task=task, landmarks=landmarks, method=method
        ),
    )


def table_rows(
    rows: Sequence[Mapping[str, Any]], of_image: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the rows of the table of an image.

    Parameters
    ----------
    rows : sequence of mapping
        Rows of :class:`~sct_rootlets_task.analysis.spinal_levels.SpinalLevels`.
    of_image : mapping of str to str
        Subject, session and contrast.
    """
    return [{**row, **of_image, "level_name": value_name(row["spinal_level"])} for row in rows]
