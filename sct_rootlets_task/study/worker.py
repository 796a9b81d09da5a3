"""From an image of a study to its results, stage by stage, each going on from what is there.

The stages are ``network`` (levels before post-processing, kept in the work folder), ``labels``
(level map and sidecar), ``levels`` (table of the spinal levels, and their map where a cord mask is
known) and ``qc`` (entry in the QC report). After each the record is written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task.analysis.spinal_levels import UNITS
from sct_rootlets_task.errors import (
    ImageError,
    NotShownError,
    OutOfMemoryError,
    OutputError,
    RootletsError,
    is_out_of_memory,
)
from sct_rootlets_task.io.atomic import atomic_output, json_bytes
from sct_rootlets_task.io.images import InputImage, labels_image, load_image, load_labels
from sct_rootlets_task.io.locks import held
from sct_rootlets_task.io.orientation import on_grid
from sct_rootlets_task.io.ownership import generated_by
from sct_rootlets_task.io.tables import describe_columns, tsv_text
from sct_rootlets_task.io.untrusted import printable, reason_of
from sct_rootlets_task.level_names import name_levels, value_name
from sct_rootlets_task.qc.measures import missing_levels
from sct_rootlets_task.qc.stored import DATA, read_sidecar
from sct_rootlets_task.runtime import chosen_threads, limited_threads
from sct_rootlets_task.segmentation.assigned import Assigned, Ran, assigned_bytes, read_assigned
from sct_rootlets_task.segmentation.level_strategy import timed
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings, postprocess
from sct_rootlets_task.segmentation.sidecar import describe
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.keeper import Keeper
from sct_rootlets_task.study.measuring import (
    TABLE,
    Usable,
    measured_levels,
    plausibility,
    read_landmarks,
    table_rows,
)
from sct_rootlets_task.study.outcome import DONE, FAILED, UNCHANGED, Outcome
from sct_rootlets_task.study.plan import RAW_LABELS
from sct_rootlets_task.study.recipe import LABELS, LEVELS, NETWORK, QC, Recipe
from sct_rootlets_task.study.records import COMMAND
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.models.resolve import InstalledModel

logger = logging.getLogger(__name__)

LOCK = ".lock"
"""File in the work folder of an image that keeps two jobs from working on it at once."""

_PATIENCE_S = 6 * 3600.0
_NOT_KEPT = ("Seconds", "Threads")
"""Keys of a sidecar that would differ from worker to worker."""


def make_worker(recipe: Recipe) -> Callable[[Item], Outcome]:
    """Return what works on an item; ``partial(make_worker, recipe)`` is the `setup` of a runner.

    Parameters
    ----------
    recipe : Recipe
        What all items share.

    Notes
    -----
    The model is loaded at the first item that needs it, once. Several threads may use one worker.
    """
    return Worker(recipe)


class Worker:
    """Works on items; whatever is wrong with one becomes its outcome.

    Parameters
    ----------
    recipe : Recipe
        What all items share.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._lock = threading.Lock()
        self._segmenter: Segmenter | None = None

    def __call__(self, item: Item) -> Outcome:
        """Work on an item: run the stages that are to be done.

        Parameters
        ----------
        item : Item
            The image.
        """
        start = time.perf_counter()
        place = {"process": os.getpid(), "host": socket.gethostname()}
        try:
            with limited_threads(self._threads), _alone(item.work):
                outcome = self._work_on(Keeper(item, self.recipe))
        except Exception as error:  # of what was not even begun there can be no record
            outcome = _failed(item, error)
        details = {**outcome.details, **place}
        return replace(outcome, seconds=round(time.perf_counter() - start, 2), details=details)

    @property
    def _threads(self) -> int:
        return chosen_threads(self.recipe.study.resources.threads)

    def _work_on(self, keeper: Keeper) -> Outcome:
        item, todo, record = keeper.item, keeper.todo, keeper.record
        if todo.failed_before:
            return Outcome(item.name, record.status, record.kind, record.error)
        work = _Work(keeper, self.segmenter)
        try:
            work.run()
            outcome = Outcome(item.name, DONE if todo.stages else UNCHANGED)
        except Exception as error:
            outcome = _failed(item, error)
            keeper.fail(outcome.kind, outcome.error)
        stages = {stage: round(seconds, 2) for stage, seconds in work.seconds.items()}
        details = {"reason": todo.reason, "stages": stages, "warnings": work.warnings}
        return replace(outcome, details=details)

    def segmenter(self) -> Segmenter:
        """Return the model, loaded when it is first needed."""
        with self._lock:
            if self._segmenter is None:
                self._segmenter = self.recipe.segmenter()
            return self._segmenter


def _failed(item: Item, error: Exception) -> Outcome:
    """Return an error as an outcome."""
    logger.debug("While working on %s:", printable(item.name), exc_info=True)
    shown = OutOfMemoryError() if is_out_of_memory(error) else error
    return Outcome(item.name, FAILED, type(shown).__name__, _words(shown))


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Keep other jobs away from an image while this one works on it."""
    meanwhile = f"Another job works on {printable(work.name)}; this one waits for it."
    with contextlib.ExitStack() as stack:
        try:
            work.mkdir(parents=True, exist_ok=True)
            lock = held(work / LOCK, wait_s=_PATIENCE_S, mode=0o666, meanwhile=meanwhile)
            stack.enter_context(lock)
        except OSError as error:  # a timeout, too
            raise OutputError(
                f"The work folder {printable(work)} cannot be used ({reason_of(error)}). Choose "
                "another one with -w, or check its permissions."
            ) from error
        yield


@dataclass(frozen=True)
class _Made:
    """What a level map was made with, for its sidecar: no model is loaded for this."""

    task: Task
    model: InstalledModel
    settings: Settings
    ran: Ran
    threads: int = 0


@dataclass(frozen=True, eq=False)
class _LevelMap:
    """The level map that is followed, and what was found of it."""

    path: Path
    labels: np.ndarray
    report: Report
    known: Usable


class _Work:
    """One item being worked on."""

    def __init__(self, keeper: Keeper, segmenter: Callable[[], Segmenter]) -> None:
        self.keeper, self.item, self.recipe = keeper, keeper.item, keeper.recipe
        self.warnings: list[str] = []
        self.seconds: dict[str, float] = {}
        self._load = segmenter
        self._assigned: Assigned | None = None
        self._level_map: _LevelMap | None = None

    def run(self) -> None:
        """Run what is to be done, and keep the record."""
        steps = {
            NETWORK: self._run_network,
            LABELS: self._run_labels,
            LEVELS: self._run_levels,
            QC: self._run_qc,
        }
        self.keeper.begin()
        for stage in self.keeper.todo.stages:
            with timed(self.seconds, stage):
                steps[stage]()
        self.keeper.finish()

    def _warn(self, *texts: str) -> None:
        for text in texts:
            if text not in self.warnings:
                self.warnings.append(text)
                logger.warning("%s: %s", printable(self.item.name), text)

    @cached_property
    def _image(self) -> InputImage:
        return load_image(self.item.image)

    def _run_network(self) -> Assigned:
        """Run the networks, and keep what they give."""
        self._assigned = self._load().assign(self._image)
        path = self.item.work / RAW_LABELS
        with atomic_output(path) as temporary:
            temporary.write_bytes(assigned_bytes(self._assigned))
        self.keeper.done(NETWORK, [path])
        return self._assigned

    def _run_labels(self) -> None:
        """Post-process the levels, check them, and write level map and sidecar."""
        recipe, image, output = self.recipe, self._image, self.item.output
        # A file whose size and time are right may be damaged all the same.
        kept = self._assigned or read_assigned(self.item.work / RAW_LABELS)
        assigned = kept or self._run_network()
        result = postprocess(assigned, recipe.task, recipe.settings, image=image)
        known = self._landmarks(result.labels, output)
        seen = replace(known, landmarks=replace(known.landmarks, located=result.located))
        report, seen = plausibility(result.labels, image, task=recipe.task, known=seen)
        report = report.with_doubts(w for w in result.warnings if w not in image.warnings)
        result = replace(result, warnings=(*result.warnings, *seen.warnings))
        self._warn(*result.warnings)
        made = _Made(recipe.task, recipe.model, recipe.settings, assigned.ran)
        sources = self._sources(seen)
        record = describe(made, result, sources, report=report, notice=recipe.notice)
        versions = "; ".join(f"{name} {v}" for name, v in record["SoftwareVersions"].items())
        record = {key: value for key, value in record.items() if key not in _NOT_KEPT}
        record |= {"SoftwareVersions": versions}  # BIDS wants a text
        images = {output: self._map(result.labels)}
        self.keeper.write(LABELS, images, self._signed(record), texts={})
        known = replace(seen, landmarks=replace(seen.landmarks, located=None))
        self._level_map = _LevelMap(output, result.labels, report, known)

    def _map(self, labels: np.ndarray) -> Any:
        """Return labels as a nibabel image on the grid of the item's image."""
        levels = self.recipe.task.level_names.replace("–", "-")
        text = f"{self.recipe.task.name} {levels} by {self.recipe.model.name}, value=level (C1=1)"
        return labels_image(labels, self._image, text)

    def _landmarks(self, labels: np.ndarray, path: Path) -> Usable:
        return read_landmarks(self.item.landmarks, labels, self._image, name=path.name)

    def _sources(self, known: Usable, *others: Path) -> list[str]:
        """Return the BIDS URIs of what a result was made from."""
        used = (self.item.landmarks[part] for part in known.parts)
        return [self.recipe.uri(path) for path in (self.item.image, *others, *used)]

    def _signed(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a sidecar with what BIDS and this package want to know of its making."""
        made = generated_by(COMMAND, self.recipe.model.urls)
        space = self.recipe.uri(self.item.image)
        return {"GeneratedBy": made, "SpatialReference": space, **record}

    def _followed(self) -> _LevelMap:
        """Return the level map that everything after it follows, with its check."""
        if self._level_map is None:
            corrected = self.keeper.todo.corrected
            path = corrected or self.item.output
            labels = self._read_corrected(path) if corrected else _read_labels(path)
            known = self._landmarks(labels, path)
            report, known = plausibility(labels, self._image, task=self.recipe.task, known=known)
            self._level_map = _LevelMap(path, labels, report, known)
        return self._level_map

    def _read_corrected(self, path: Path) -> np.ndarray:
        """Read a level map by a person, and check it."""
        image, task = self._image, self.recipe.task
        read = load_labels(path)
        labels: np.ndarray = on_grid(
            read.data,
            read.affine,
            shape=image.data.shape,
            target=image.affine,
            expected=f"the corrected map {printable(path)} on the grid of the image",
            advice="Draw it on the image, or resample it with nearest-neighbor interpolation.",
        ).astype(np.uint8)
        others = sorted({int(value) for value in np.unique(labels)} - {0, *task.levels})
        if others:
            found = ", ".join(map(value_name, others))
            raise ImageError(
                f"Expected the levels {name_levels(task.levels)} in the corrected map "
                f"{printable(path)}, found {found}. Correct these values."
            )
        return labels

    def _run_levels(self) -> None:
        """Write the spinal levels: a table with its JSON, and the map on the cord."""
        recipe, item, followed = self.recipe, self.item, self._followed()
        found, known = measured_levels(
            followed.labels,
            self._image,
            task=recipe.task,
            known=followed.known,
            method=recipe.study.processing.method,
        )
        warnings = [*self._edits(), *found.warnings, *known.warnings]
        self._warn(*warnings)
        sources = self._sources(known, followed.path)
        about = {"Method": found.method, "DistanceOrigin": found.origin, "Warnings": warnings}
        of_image = {"Subject": item.subject, "Session": item.session, "Contrast": item.contrast}
        content = {
            "GeneratedBy": generated_by(COMMAND, recipe.model.urls),
            "Sources": sources,
            "Image": item.source,
            "LevelMap": followed.path.name,
            **of_image,
            "Corrected": self.keeper.todo.corrected is not None,
            "Model": recipe.model.name,
            **about,
            "Flags": self._flags(followed),
            "MissingLevels": missing_levels(
                np.unique(followed.labels).tolist(), recipe.task.levels
            ),
            "Columns": describe_columns(TABLE, UNITS),
        }
        columns = {name.lower(): text for name, text in of_image.items()}
        texts = {
            item.levels_table: tsv_text(table_rows(found.rows, columns), list(TABLE)),
            item.levels_table.with_suffix(".json"): json_bytes(content).decode(),
        }
        cord = found.labels
        maps = {} if cord is None else {self.keeper.spinal_levels: self._map(cord)}
        sidecar = self._signed({"Sources": sources, "Task": recipe.task.name, **about})
        self.keeper.write(LEVELS, maps, sidecar, texts=texts)

    def _edits(self) -> Iterator[str]:
        """Warn of a level map that somebody has edited where it lies."""
        if self.keeper.todo.corrected == self.item.output:
            place = self.recipe.study.corrected or self.recipe.study.out_dir / "corrected"
            yield (
                f"{printable(self.item.output.name)} was edited since it was written. It is kept "
                f"and followed as a correction; put corrected maps into {printable(place.name)}/ "
                "instead."
            )

    def _flags(self, followed: _LevelMap) -> list[dict[str, Any]]:
        """Return the flags of the level map: of one that was computed, those of its sidecar."""
        if self.keeper.todo.corrected is None:
            report = read_sidecar(self.item.output).get("Plausibility")
            if isinstance(report, dict) and isinstance(report.get("Flags"), list):
                return list(report["Flags"])
        return [asdict(flag) for flag in followed.report.flags]

    def _run_qc(self) -> None:
        """Add the image to the QC report."""
        followed = self._followed()
        try:
            page = self._add_entry(followed)
        except Exception as error:
            raise NotShownError(followed.path) from error
        self.keeper.done(QC, [page.parent / DATA])

    def _add_entry(self, followed: _LevelMap) -> Path:
        from sct_rootlets_task.qc.entry import Details
        from sct_rootlets_task.qc.report import add_entry

        details = Details(
            dataset=self.recipe.study.bids_dir.resolve().name,
            subject=self.item.subject,
            session=self.item.session,
            corrected=self.keeper.todo.corrected is not None,
            command=shlex.join(self.recipe.study.command),
            model=self.recipe.model.name,
            around=self.item.landmarks["cord"] if "cord" in followed.known.parts else None,
            expected=self.recipe.task.levels,
            flags=self._flags(followed),
            levels=[asdict(level) for level in followed.report.levels],
        )
        return add_entry(self.recipe.report, self.item.image, followed.path, details)


def _read_labels(path: Path) -> np.ndarray:
    labels: np.ndarray = load_labels(path).data.astype(np.uint8)
    return labels


def _words(error: Exception) -> str:
    """Return an error in words, with its cause where another one only says what it led to."""
    if isinstance(error, NotShownError) and isinstance(error.__cause__, Exception):
        return f"{_words(error.__cause__)} {error}"
    if isinstance(error, RootletsError):
        return str(error)
    return f"{type(error).__name__}: {reason_of(error)}"
