"""Keeping the record of an image while it is worked on, and writing only what may be written.

Before files are moved into place the record says which checksums they may have from then on. So a
run that is killed at any moment is told from a file that somebody has edited.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sct_rootlets_task.io.atomic import hash_file
from sct_rootlets_task.io.outputs import Output, check_outputs
from sct_rootlets_task.io.ownership import is_ours, sidecar_of
from sct_rootlets_task.io.results import write_results
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.measuring import TABLE
from sct_rootlets_task.study.naming import spinal_levels_name
from sct_rootlets_task.study.outcome import DONE, FAILED
from sct_rootlets_task.study.plan import Assessment, assess, stage_folder
from sct_rootlets_task.study.recipe import LABELS, LEVELS, QC, Recipe
from sct_rootlets_task.study.records import (
    Record,
    Stage,
    checksum_of,
    foreign,
    read_record,
    require_record,
    state_of,
    write_record,
)


class Keeper:
    """The record of an image, and what is to be done for it.

    Parameters
    ----------
    item, recipe : Item, Recipe
        The image, and what it shares with the others.

    Attributes
    ----------
    record : Record
        What is known by now.
    todo : Assessment
        What is to be done.

    Raises
    ------
    OutputError
        If a file of another program lies in the place of the record.
    """

    def __init__(self, item: Item, recipe: Recipe) -> None:
        self.item, self.recipe = item, recipe
        require_record(item.record)
        self._known = read_record(item.record)
        self.todo: Assessment = assess(item, recipe, self._known, exact=True)
        empty = Record(item.name, item.subject, item.session, item.contrast, {})
        self.record = self._known or empty

    @property
    def spinal_levels(self) -> Path:
        """Map of the spinal levels of the cord."""
        return self.item.output.with_name(spinal_levels_name(self.item.output.name))

    def begin(self) -> None:
        """Find out before anything is run whether a file of somebody else is in the way.

        Raises
        ------
        OutputError, UsageError
            If one is, or a file cannot be written.
        """
        self._note(status="", kind="", error="")
        item, written = self.item, self._outputs()
        outputs = [Output(path, "OUT_DIR") for paths in written.values() for path in paths]
        inputs = [item.image, *item.landmarks.values()]
        check_outputs(outputs, [*inputs, item.corrected or item.image], overwrite=1)
        for stage, paths in written.items():
            for path in paths:
                self._accepted(stage, path)

    def write(
        self, stage: str, images: Mapping[Path, Any], sidecar: Mapping[str, Any], **texts: Any
    ) -> None:
        """Write the files of a stage, and record them.

        Parameters
        ----------
        stage : str
            Name of the stage.
        images, sidecar, texts : mapping
            As :func:`~sct_rootlets_task.io.results.write_results` takes them.

        Raises
        ------
        OutputError
            If a file cannot be written, or is not ours.
        """
        written: list[Path] = []

        def announce(temporaries: Mapping[Path, Path]) -> None:
            written.extend(temporaries)
            self._announce(stage, temporaries)

        write_results(images, sidecar, before=announce, **texts)
        self.done(stage, written)

    def done(self, stage: str, paths: Iterable[Path]) -> None:
        """Record a finished stage; files that it no longer has are removed first.

        Parameters
        ----------
        stage, paths : str, iterable of Path
            Name of the stage, and its files.
        """
        folder = stage_folder(stage, self.item, self.recipe)
        files = {path.relative_to(folder).as_posix(): state_of(path) for path in paths}
        before = self.record.stages.get(stage)
        if before:
            self._remove(stage, before, set(before.files) - set(files))
        self._set(stage, Stage(self.todo.origins[stage], files))

    def finish(self) -> None:
        """Write the record of an image of which all is done, if it says anything new."""
        done = {stage: self._refreshed(stage) for stage in self.record.stages}
        self._note(status=DONE, stages=done)
        if self._known is None or replace(self.record, when=self._known.when) != self._known:
            write_record(self.item.record, self.record)

    def fail(self, kind: str, error: str) -> None:
        """Record an error.

        Parameters
        ----------
        kind, error : str
            Name of the error's class, and the error in words.
        """
        self._note(status=FAILED, kind=kind, error=error)
        write_record(self.item.record, self.record)

    def _note(self, **changes: Any) -> None:
        """Note what is known by now; nothing is written."""
        todo = self.todo
        out_dir, corrected = self.recipe.study.out_dir, todo.corrected
        self.record = replace(
            self.record,
            inputs=todo.inputs,
            attempt=todo.attempt,
            corrected=os.path.relpath(corrected, out_dir) if corrected else None,
            when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            **changes,
        )

    def _outputs(self) -> dict[str, Sequence[Path]]:
        """Return the files that are about to be written, by their stage."""
        item, spinal = self.item, self.spinal_levels
        tables = (item.levels_table, item.levels_table.with_suffix(".json"))
        every = {
            LABELS: (sidecar_of(item.output), item.output),
            LEVELS: (*tables, sidecar_of(spinal), spinal),
        }
        return {stage: paths for stage, paths in every.items() if stage in self.todo.stages}

    def _accepted(self, stage: str, path: Path) -> tuple[str, ...]:
        """Return the checksum of an output that is there; refuse one that is not ours."""
        if not os.path.lexists(path):
            return ()
        known = self.record.stages.get(stage)
        sums = known.checksums(path.name) if known else ()
        columns = list(TABLE) if path == self.item.levels_table else ()
        found = checksum_of(path)
        if found is None or (found not in sums if sums else not is_ours(path, columns)):
            raise foreign(path)
        return (found,)

    def _announce(self, stage: str, temporaries: Mapping[Path, Path]) -> None:
        """Record which checksums files may have from now on."""
        before = self.record.stages.get(stage)
        writing = {
            path.name: (*self._accepted(stage, path), hash_file(temporary))
            for path, temporary in temporaries.items()
        }
        files = before.files if before else {}
        self._set(stage, Stage(self.todo.origins[stage], files, writing))

    def _set(self, stage: str, content: Stage) -> None:
        self.record = replace(self.record, stages={**self.record.stages, stage: content})
        write_record(self.item.record, self.record)

    def _refreshed(self, stage: str) -> Stage:
        """Return a stage with the sizes and times that its files have now."""
        content = self.record.stages[stage]
        if stage not in self.todo.origins:
            return content
        folder = stage_folder(stage, self.item, self.recipe)
        files = {
            name: state_of(folder / name, state) if (folder / name).is_file() else state
            for name, state in content.files.items()
        }
        return replace(content, files=files)

    def _remove(self, stage: str, before: Stage, names: Iterable[str]) -> None:
        """Remove files that a stage has made and no longer makes, and nothing else."""
        from sct_rootlets_task.qc.folder import ENTRIES
        from sct_rootlets_task.qc.stored import DATA, NAME

        spinal = self.spinal_levels
        for path in (sidecar_of(spinal), spinal):
            ours = stage == LEVELS and path.name in names
            if ours and checksum_of(path) in before.checksums(path.name):
                path.unlink()
        for name in names if stage == QC else ():
            folder, _, entry = name.removesuffix(f"/{DATA}").partition("/")
            if folder == ENTRIES and NAME.fullmatch(entry):
                shutil.rmtree(self.recipe.report / ENTRIES / entry, ignore_errors=True)
