"""What is to be done for each image, and why: from its record and the files that are there.

The driver looks quickly: it compares sizes and times, and reads no image. A worker looks again, by
content, before it does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sct_rootlets_task.io.untrusted import printable
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.outcome import FAILED, SET_ASIDE
from sct_rootlets_task.study.recipe import (
    CORRECTED,
    LABELS,
    LANDMARKS,
    LEVELS,
    NETWORK,
    QC,
    Recipe,
)
from sct_rootlets_task.study.records import (
    IMAGE,
    FileState,
    Input,
    Record,
    checksum_of,
    key_of,
    read_record,
    state_of,
)

RAW_LABELS = "levels.npz"
"""File in the work folder of an image: its levels before post-processing."""

_UNKNOWN, _UNREADABLE = "unknown", "unreadable"
_UPSTREAM = (NETWORK, LABELS, LEVELS)


@dataclass(frozen=True)
class Assessment:
    """What is to be done for an image.

    Parameters
    ----------
    stages : tuple of str
        Stages to run, in order; none where all is done.
    reason : str
        Why, in a few words.
    inputs : mapping of str to Input
        The files that results are made from.
    origins : mapping of str to mapping
        All that shapes each stage that is wanted.
    corrected : Path, optional
        Level map by a person that is followed.
    failed_before : str
        What came of the same when it was tried before: ``failed`` or ``set aside``. Then it is not
        tried again unless asked for.
    """

    stages: tuple[str, ...]
    reason: str
    inputs: Mapping[str, Input]
    origins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    corrected: Path | None = None
    failed_before: str = ""

    @property
    def attempt(self) -> str:
        """Key of all that shapes the results."""
        return key_of(self.origins)


@dataclass(frozen=True)
class PlannedItem:
    """What a run would do for an image.

    Parameters
    ----------
    name, source : str
        Name of the item, and the image as a path inside the data set.
    stages : tuple of str
        Stages that would be run; none where nothing would be done.
    reason : str
        Why, in a few words: ``new``, ``option changed: largest``, ``failed before``.
    """

    name: str
    source: str
    stages: tuple[str, ...]
    reason: str


def look(item: Item, recipe: Recipe) -> Assessment:
    """Return what is likely to be done for an image; no image is read.

    Parameters
    ----------
    item, recipe : Item, Recipe
        The image, and what it shares with the others.
    """
    return assess(item, recipe, read_record(item.record), exact=False)


def plan(items: Iterable[Item], recipe: Recipe) -> Iterator[tuple[Item, Assessment]]:
    """Yield images with what is likely to be done for each, one by one.

    Parameters
    ----------
    items, recipe : iterable of Item, Recipe
        Images, and what they share.
    """
    return ((item, look(item, recipe)) for item in items)


def assess(item: Item, recipe: Recipe, record: Record | None, *, exact: bool) -> Assessment:
    """Return what is to be done for an image.

    Parameters
    ----------
    item, recipe : Item, Recipe
        The image, and what it shares with the others.
    record : Record, optional
        What is recorded of it.
    exact : bool
        Whether files whose size or time have changed are read. Without, they count as changed.
    """
    known = record or Record(item.name, item.subject, item.session, item.contrast, {})
    files = {IMAGE: item.image, **{name: item.landmarks.get(name) for name in LANDMARKS}}
    files[CORRECTED] = item.corrected or _edited(item, known, exact=exact)
    paths = {role: path for role, path in files.items() if path}
    inputs = {}
    for role, path in paths.items():
        name = item.source if role == IMAGE else recipe.uri(path)
        inputs[role] = Input(name, _state(path, known.state(role, name), exact=exact))
    sums = {role: one.state.sha256 if one.state else _UNREADABLE for role, one in inputs.items()}
    corrected = paths.get(CORRECTED)
    origins = recipe.origins(item, sums, corrected=corrected is not None)
    reasons = {
        stage: reason
        for stage, origin in origins.items()
        if (reason := _why(stage, origin, known, stage_folder(stage, item, recipe), exact=exact))
    }
    stages = _to_do(reasons, origins, force=recipe.study.force)
    reason = _reason(stages, reasons, record, force=recipe.study.force)
    found = Assessment(stages, reason, inputs, origins, corrected)
    return _after_failure(found, known, recipe) if known.status in (FAILED, SET_ASIDE) else found


def _after_failure(found: Assessment, record: Record, recipe: Recipe) -> Assessment:
    """Return what is to be done for an image that failed: nothing, unless something is new."""
    same = record.attempt == found.attempt
    if same and not (recipe.study.retry_failed or recipe.study.force):
        reason = f"{record.status} before"
        return replace(found, stages=(), reason=reason, failed_before=record.status)
    if same or not found.stages:
        stages = found.stages or tuple(found.origins)[-1:]
        return replace(found, stages=stages, reason=f"{record.status} before")
    return found


def _state(path: Path, known: FileState | None, *, exact: bool) -> FileState | None:
    """Return the state of an input; None for one that cannot be read."""
    if known is not None and known.fits(path):
        return known
    try:
        if exact:
            return state_of(path)
        info = path.stat()
    except (OSError, ValueError):
        return None
    return FileState(_UNKNOWN, info.st_size, info.st_mtime_ns)


def _edited(item: Item, known: Record, *, exact: bool) -> Path | None:
    """Return the level map if somebody has edited it in its place, so that it is a correction."""
    stage, name = known.stages.get(LABELS), item.output.name
    if not os.path.lexists(item.output):
        return None
    if stage is None or not stage.checksums(name):
        return None
    state = stage.files.get(name)
    if state is not None and state.fits(item.output):
        return None
    followed = known.state(CORRECTED)
    if followed is not None and followed.fits(item.output):
        return item.output
    if not exact:
        return None
    return None if checksum_of(item.output) in (None, *stage.checksums(name)) else item.output


def _why(stage: str, origin: Mapping[str, Any], known: Record, folder: Path, *, exact: bool) -> str:
    """Return why a stage is to be done; nothing where it is done."""
    done = known.stages.get(stage)
    if done is None:
        return "not yet done"
    if not done.key:
        return "interrupted"
    if done.key != key_of(origin):
        return _difference(done.origin, origin)
    for name, state in done.files.items():
        if (folder / name).is_file():
            if not _is_unchanged(folder / name, state, exact=exact):
                return f"output changed: {printable(name)}"
        else:
            return f"output missing: {printable(name)}"
    return ""


def _is_unchanged(path: Path, state: FileState, *, exact: bool) -> bool:
    if state.fits(path) or not exact:
        return state.fits(path)
    try:
        return state_of(path).sha256 == state.sha256
    except OSError:
        return False


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what is another than it was, in a few words; nothing of what earlier stages tell."""
    names = {**now, **before}
    changed = [name for name in names if before.get(name) != now.get(name)]
    own = [name for name in changed if name not in _UPSTREAM]
    first = next(iter(own or changed))
    if first in (IMAGE, *LANDMARKS, CORRECTED):
        return f"{first} {'gone' if first not in now else 'changed' if first in before else 'new'}"
    if first in (*_UPSTREAM, "model", "version", "source"):
        return "software changed" if first == "version" else f"{first} changed"
    return f"option changed: {first}"


def _to_do(reasons: Mapping[str, str], wanted: Iterable[str], *, force: bool) -> tuple[str, ...]:
    """Return the stages to run. The networks are needed only where their result is."""
    if force:
        return tuple(wanted)
    return tuple(stage for stage in reasons if stage != NETWORK or LABELS in reasons)


def stage_folder(stage: str, item: Item, recipe: Recipe) -> Path:
    """Return the folder that the files of a stage are in.

    Parameters
    ----------
    stage : str
        Name of the stage.
    item, recipe : Item, Recipe
        The image, and what it shares with the others.
    """
    return {NETWORK: item.work, QC: recipe.report}.get(stage, item.output.parent)


def _reason(
    stages: Iterable[str], reasons: Mapping[str, str], record: Record | None, *, force: bool
) -> str:
    if record is None or not record.stages:
        return "new"
    if force:
        return "asked for"
    return next((reasons[stage] for stage in stages), "nothing has changed")
