"""From an image to a level map: reorientation, network, levels, post-processing.

This is the one path that every host takes. It reads no file and writes none; the hosts do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task import levels as lv
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.images import InputImage
from sct_rootlets_task.locator import levels_beside_canal
from sct_rootlets_task.nnunet import ModelFolder, Network, load_network, read_model_folder
from sct_rootlets_task.orientation import Reorientation
from sct_rootlets_task.postprocess import (
    HookContext,
    MinimalSize,
    fill_holes,
    keep_largest,
    remove_small,
)
from sct_rootlets_task.tasks import BUNDLED, Task

if TYPE_CHECKING:
    from sct_rootlets_task.models import InstalledModel

logger = logging.getLogger(__name__)

NetworkLoader = Callable[..., Network]


@dataclass(frozen=True)
class Settings:
    """How to run a task.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"}
        Where the network runs.
    test_time_aug : bool
        Average over mirrored inputs.
    raw : bool
        Leave the task's hooks out; the levels are still assigned.
    largest, fill_holes : bool
        Post-processing options, see :mod:`sct_rootlets_task.postprocess`.
    minimal_size : MinimalSize, optional
        Remove smaller components.
    progress : bool
        Show a progress bar over the tiles.
    """

    device: str = "auto"
    test_time_aug: bool = False
    raw: bool = False
    largest: bool = False
    fill_holes: bool = False
    minimal_size: MinimalSize | None = None
    progress: bool = False


@dataclass(frozen=True)
class Step:
    """What one step of the post-processing changed."""

    name: str
    voxels_changed: int


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A level map and how it came about.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Spinal level of each voxel on the input's grid; 0 is background.
    steps : tuple of Step
        Post-processing in the order it was done.
    seconds : dict of str to float
        Wall time of each stage.
    warnings : tuple of str
        What a user should look at.
    """

    labels: np.ndarray
    steps: tuple[Step, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A network with what is needed to feed it."""

    folder: ModelFolder
    network: Network
    orientation: str

    def classes(self, image: InputImage) -> np.ndarray:
        """Return the class of each voxel (uint8) on the image's own grid."""
        way = Reorientation.to_sct(image.affine, self.orientation)
        volume = np.ascontiguousarray(way.forward(image.data).transpose(2, 1, 0))
        spacing = way.forward_spacing(image.spacing)[::-1]
        predicted = self.network.predict(volume, spacing)
        if predicted.shape != volume.shape:
            raise ModelError(
                f"Expected a prediction of shape {volume.shape}, found {predicted.shape}. Report "
                "this with the model's name."
            )
        return np.ascontiguousarray(way.backward(predicted.transpose(2, 1, 0)))


class Segmenter:
    """A task's model, loaded once, for any number of images.

    Parameters
    ----------
    task : Task
        Entry of the registry.
    model : InstalledModel
        Weights to run.
    settings : Settings
        How to run them.
    load : callable
        Makes a :class:`~sct_rootlets_task.nnunet.Network` of a model folder; for tests and engines.

    Raises
    ------
    ModelError, LevelSourceError
        If the model cannot be run, or does not belong to the task.
    """

    def __init__(
        self,
        task: Task,
        model: InstalledModel,
        settings: Settings | None = None,
        *,
        load: NetworkLoader = load_network,
    ) -> None:
        self.task = task
        self.model = model
        self.settings = settings or Settings()
        self._source = task.levels_of(model.release)
        folder = read_model_folder(model.path)
        self._locator: _Loaded | None = None
        if isinstance(self._source, lv.ByLocator):
            locator = BUNDLED / self._source.locator
            self._locator = self._load(read_model_folder(_trainer_folder(locator)), load)
        else:
            self._levels = lv.class_levels(self._source, folder.classes, task.levels)
        self._main = self._load(folder, load)

    def _load(self, folder: ModelFolder, load: NetworkLoader) -> _Loaded:
        settings = self.settings
        network = load(
            folder,
            settings.device,
            test_time_aug=settings.test_time_aug,
            progress=settings.progress,
        )
        return _Loaded(folder, network, folder.orientation or self.task.orientation)

    @property
    def device(self) -> str:
        """Device the network runs on."""
        return self._main.network.device

    def segment(self, image: InputImage) -> Segmentation:
        """Segment one image.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.

        Returns
        -------
        Segmentation
            Every value of its labels is 0 or one of the task's levels.
        """
        seconds: dict[str, float] = {}
        with _timed(seconds, "network"):
            classes = self._main.classes(image)
        with _timed(seconds, "levels"):
            labels = self._levels_of(classes, image)
        with _timed(seconds, "post-processing"):
            steps = [Step("classes without an expected level", _changed(classes > 0, labels > 0))]
            for name, step in self._steps():
                before, labels = labels, step(labels, HookContext(image.affine, self.task.levels))
                steps.append(Step(name, _changed(before, labels)))
        warnings = list(image.warnings)
        if not labels.any():
            warnings.append(
                f"no rootlets of the levels {self.task.level_names} were found in this image."
            )
        return Segmentation(labels, tuple(steps), seconds, tuple(warnings))

    def _levels_of(self, classes: np.ndarray, image: InputImage) -> np.ndarray:
        if self._locator is None or not isinstance(self._source, lv.ByLocator):
            return lv.relabel(classes, self._levels)
        return levels_beside_canal(
            classes > 0,
            self._locator.classes(image),
            image.affine,
            classes=self._locator.folder.classes,
            source=self._source,
            expected=self.task.levels,
        )

    def _steps(self) -> Iterator[tuple[str, Callable[[np.ndarray, HookContext], np.ndarray]]]:
        """Yield the post-processing in order: hooks of the task, then options of the user."""
        settings = self.settings
        if not settings.raw:
            for hook in self.task.hooks:
                yield getattr(hook, "__name__", repr(hook)), hook
        if settings.largest:
            yield "largest", keep_largest
        if settings.fill_holes:
            yield "fill-holes", fill_holes
        if settings.minimal_size:
            size = settings.minimal_size
            yield "remove-small", lambda labels, context: remove_small(labels, context, size)


def provenance(segmenter: Segmenter, segmentation: Segmentation) -> dict[str, Any]:
    """Return what a sidecar says about a run beyond the keys that SCT writes.

    Parameters
    ----------
    segmenter : Segmenter
        What was run.
    segmentation : Segmentation
        What came out.
    """
    from sct_rootlets_task import __version__

    model, counts = segmenter.model, lv.count_levels(segmentation.labels)
    return {
        "Task": segmenter.task.name,
        "Model": {
            "Name": model.name,
            "BuiltIn": model.builtin,
            "Custom": model.custom,
            "SHA256": model.sha256,
        },
        "LevelVoxels": {lv.level_name(level): n for level, n in counts.items()},
        "PostProcessing": [
            {"Name": step.name, "VoxelsChanged": step.voxels_changed} for step in segmentation.steps
        ],
        "Warnings": list(segmentation.warnings),
        "Device": segmenter.device,
        "TestTimeAugmentation": segmenter.settings.test_time_aug,
        "Seconds": {stage: round(s, 2) for stage, s in segmentation.seconds.items()},
        "SoftwareVersions": {"sct_rootlets_task": __version__, **_versions()},
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that shape a result, those installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("nnunetv2", "nnunetv2-neuropoly", "torch", "numpy", "scipy", "nibabel"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _trainer_folder(parent: Path) -> Path:
    folders = sorted(parent.glob("nnUNetTrainer*"))
    if len(folders) != 1:
        raise ModelError(
            f"Expected one nnUNetTrainer* folder in {parent}, found {len(folders)}. Install the "
            "package again."
        )
    return folders[0]


def _changed(before: np.ndarray, after: np.ndarray) -> int:
    return int(np.count_nonzero(before != after))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start
