"""What all images of a study share: task, model and options, and what shapes each stage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sct_rootlets_task import environment
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings, settings_of_command
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.options import Study
from sct_rootlets_task.study.records import IMAGE, key_of
from sct_rootlets_task.tasks import BUNDLED, Task

if TYPE_CHECKING:
    from sct_rootlets_task.models.resolve import InstalledModel
    from sct_rootlets_task.segmentation.locator import NetworkLoader

NETWORK, LABELS, LEVELS, QC = "network", "labels", "levels", "qc"
STAGES = (NETWORK, LABELS, LEVELS, QC)
"""Stages of the work on an image, in order. What a stage gives shapes those behind it."""

VERSIONS: Mapping[str, int] = {NETWORK: 1, LABELS: 1, LEVELS: 1, QC: 1}
"""To be raised with every change of the code that changes what a stage writes."""

CORRECTED = "corrected"
LANDMARKS = ("cord", "pmj", "discs")
INPUTS = (IMAGE, *LANDMARKS, CORRECTED)
"""Names of the files that an item is made from."""

_ENGINE = {
    "engine": environment.ENGINE,
    "device": environment.DEVICE,
    "precision": environment.PRECISION,
}


@dataclass(frozen=True)
class Recipe:
    """What all images of a study share; it pickles.

    Parameters
    ----------
    study, task, model : Study, Task, InstalledModel
        What is asked for, the task, and the model that runs.
    settings : Settings
        How it runs, and which post-processing is wanted.
    fingerprint : str
        Checksum of the model's files, see :func:`fingerprint_of`.
    variables : mapping of str to str
        Engine, device and precision that variables ask for.
    notice : str, optional
        What must be known about the model.
    load : callable, optional
        Makes a network of a model folder, as :class:`Segmenter` takes it.
    """

    study: Study
    task: Task
    model: InstalledModel
    settings: Settings
    fingerprint: str
    variables: Mapping[str, str]
    notice: str | None = None
    load: NetworkLoader | None = None

    def segmenter(self) -> Segmenter:
        """Load the model."""
        return Segmenter(self.task, self.model, self.settings, load=self.load)

    @cached_property
    def report(self) -> Path:
        """Folder of the QC report."""
        return self.study.out_dir / "qc"

    def wanted(self, *, corrected: bool) -> tuple[str, ...]:
        """Return the stages that an image goes through.

        Parameters
        ----------
        corrected : bool
            Whether a map by a person is followed, which needs no network.
        """
        stages = STAGES[2:] if corrected else STAGES
        return tuple(stage for stage in stages if stage != QC or self.study.processing.qc)

    def origins(
        self, item: Item, sums: Mapping[str, str], *, corrected: bool
    ) -> dict[str, dict[str, Any]]:
        """Return all that shapes each stage, by its name.

        Parameters
        ----------
        item : Item
            The image.
        sums : mapping of str to str
            Checksums of its inputs.
        corrected : bool
            Whether the map by a person is followed.
        """
        landmarks = {
            name: [self.uri(item.landmarks[name]), sums[name]] for name in LANDMARKS if name in sums
        }
        network = {IMAGE: sums[IMAGE], **self._of_network}
        labels = {
            NETWORK: key_of(network),
            "source": item.source,
            **landmarks,
            **self._of_labels,
        }
        origin = {CORRECTED: sums[CORRECTED]} if corrected else {LABELS: key_of(labels)}
        levels = {
            IMAGE: sums[IMAGE],
            **origin,
            **landmarks,
            "model": self.fingerprint,
            "method": self.study.processing.method,
            "version": VERSIONS[LEVELS],
        }
        qc = {LEVELS: key_of(levels), "version": VERSIONS[QC]}
        every = {NETWORK: network, LABELS: labels, LEVELS: levels, QC: qc}
        return {stage: every[stage] for stage in self.wanted(corrected=corrected)}

    @cached_property
    def _of_network(self) -> dict[str, Any]:
        options = self.settings.network
        return {
            "model": self.fingerprint,
            **{
                name: _asked(getattr(options, name), self.variables.get(name, ""))
                for name in _ENGINE
            },
            "tiles": self.settings.tiles,
            "test_time_aug": options.test_time_aug,
            "version": VERSIONS[NETWORK],
        }

    @cached_property
    def _of_labels(self) -> dict[str, Any]:
        settings = self.settings
        smallest = settings.minimal_size
        return {
            "notice": self.notice,
            "raw": settings.raw,
            "largest": settings.largest,
            "fill_holes": settings.fill_holes,
            "remove_small": [list(smallest.values), smallest.unit] if smallest else None,
            "version": VERSIONS[LABELS],
        }

    def uri(self, path: Path) -> str:
        """Return the BIDS URI of a file; its name alone where it lies in none of the two data sets.

        Parameters
        ----------
        path : Path
            A file of the data set, or of the results.
        """
        for prefix, folder in (("bids::", self.study.out_dir), ("bids:raw:", self.study.bids_dir)):
            inside = Path(os.path.relpath(path, folder))
            if ".." not in inside.parts:
                return prefix + quote(os.fsencode(inside.as_posix()))
        return quote(os.fsencode(path.name))


def _asked(option: str, variable: str) -> str:
    """Return what an option asks for, or else the variable."""
    return variable or option if option == "auto" else option


def recipe_of(
    study: Study,
    task: Task,
    model: InstalledModel,
    *,
    notice: str | None = None,
    load: NetworkLoader | None = None,
) -> Recipe:
    """Return what all images of a study share.

    Parameters
    ----------
    study, task, model : Study, Task, InstalledModel
        What is asked for, the task, and the model that runs.
    notice : str, optional
        What must be known about the model.
    load : callable, optional
        Makes a network of a model folder.

    Raises
    ------
    UsageError
        If an option does not apply.
    OSError
        If a file of the model cannot be read.
    """
    asked = study.processing
    variables = {name: environment.read(variable) for name, variable in _ENGINE.items()}
    network = Options(
        asked.engine or "auto",
        asked.device or "auto",
        asked.precision or "auto",
        study.resources.threads,
        asked.test_time_aug,
    )
    settings = settings_of_command(
        task,
        network,
        remove_small=asked.remove_small,
        raw=asked.raw,
        tiles=asked.tiles,
        largest=asked.largest,
        fill_holes=asked.fill_holes,
    )
    return Recipe(
        study,
        task,
        model,
        settings,
        fingerprint_of(model, task),
        variables,
        notice=notice,
        load=load,
    )


def fingerprint_of(model: InstalledModel, task: Task) -> str:
    """Return a checksum of all weights that shape a result, and of the levels that are expected.

    Parameters
    ----------
    model, task : InstalledModel, Task
        The model, and the task that runs it.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    from sct_rootlets_task.models.installed import hash_files

    return key_of(
        {
            "name": model.name,
            "files": hash_files(model.path),
            "locator": hash_files(BUNDLED / "locator"),
            "task": task.name,
            "levels": list(task.levels),
        }
    )
