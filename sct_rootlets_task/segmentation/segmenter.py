"""From an image to a level map: reorientation, network, levels, post-processing.

This is the one path that every host takes. It reads no file and writes none; the hosts do.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.inference.loading import Network, Options, load_network
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.trainer_folder import find_trainer_folder
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.label_values import count_levels, relabel
from sct_rootlets_task.io.orientation import obliqueness
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.level_names import level_name
from sct_rootlets_task.levels.assignment import (
    AssignedLevels,
    Canal,
    LocatedLevels,
    canal_levels,
    fit_canal,
    levels_beside_canal,
    located_levels,
    search_region,
)
from sct_rootlets_task.levels.corrections import (
    LARGEST_BUNDLE_MM3,
    UNIFYING,
    keep_largest,
    undecided,
)
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.models.task_model import read_task_model
from sct_rootlets_task.rootlets.postprocess import (
    HookContext,
    MinimalSize,
    fill_holes,
    remove_small,
)
from sct_rootlets_task.runtime import chosen_threads, limited_threads
from sct_rootlets_task.segmentation.padding import Padding, find_padding
from sct_rootlets_task.segmentation.reoriented_network import OrientedNetwork
from sct_rootlets_task.segmentation.view import OBLIQUE_DEGREES, View, view_of
from sct_rootlets_task.tasks import BUNDLED, Task

if TYPE_CHECKING:
    from sct_rootlets_task.models.resolve import InstalledModel

logger = logging.getLogger(__name__)

NetworkLoader = Callable[[ModelFolder, Options], Network]
TILES = ("auto", "all")
_REACH_MM = 20.0
_MARGIN_MM = 25.0
_SURE_LEVELS = 3
_SURE_MM3 = 500.0
MOST_RELABELED = 0.5
"""Largest share of a level map to which a hook may give other levels. Hooks correct exceptions by
what the rest of the map says; where most of it would change there is no such rest. The starter's
results on five real images change by 0 %, those of models of random weights by 40 to 64 %."""


@dataclass(frozen=True)
class Settings:
    """How to run a task.

    Parameters
    ----------
    network : Options
        Engine, device, precision, threads and the like.
    tiles : {"auto", "all"}
        Whether only the tiles near the part of the spinal canal that the locator finds are run.
    raw : bool
        Leave the task's hooks out; the levels are still assigned.
    largest, fill_holes : bool
        Post-processing options, see :mod:`sct_rootlets_task.rootlets.postprocess`.
    minimal_size : MinimalSize, optional
        Remove smaller components.
    """

    network: Options = field(default_factory=Options)
    tiles: str = "auto"
    raw: bool = False
    largest: bool = False
    fill_holes: bool = False
    minimal_size: MinimalSize | None = None


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
        Wall time of each stage; ``tiles`` is the part of ``network`` that the tiles took.
    tiles : tuple of (int, int)
        Tiles of the network that were run, and tiles there are; zeros when the engine does not say.
    warnings : tuple of str
        What a user should look at.
    located : ndarray of uint8, shape (i, j, k), optional
        Level of each voxel of the canal as the locator sees it, where it was run and the labels
        do not come from it: an independent opinion.
    """

    labels: np.ndarray
    steps: tuple[Step, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    tiles: tuple[int, int] = (0, 0)
    warnings: tuple[str, ...] = ()
    located: np.ndarray | None = None

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class Found:
    """What the networks find in an image.

    Parameters
    ----------
    classes : ndarray of uint8, shape (i, j, k)
        Class of the model at each voxel of the input's grid.
    canal : Canal or None
        The spinal canal; None where no locator is run.
    tiles : tuple of (int, int)
        Tiles of the network that were run, and tiles there are.
    seconds : dict of str to float
        Wall time of each stage.
    warnings : tuple of str
        What about the image may mislead the networks.
    """

    classes: np.ndarray
    canal: Canal | None
    tiles: tuple[int, int]
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()


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
        Makes a :class:`~sct_rootlets_task.inference.loading.Network` of a model folder.

    Raises
    ------
    ModelError, LevelSourceError
        If the model cannot be run, or does not belong to the task.

    Notes
    -----
    Several threads may use one segmenter. The networks run for one image at a time, with all of the
    threads that they are given; the rest is done side by side. A copy or a pickled segmenter loads
    its model anew. A process that is forked may go on with the segmenter of its parent.
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
        self.threads = chosen_threads(self.settings.network.threads)
        self._load = load
        self._locks: dict[int, threading.Lock] = {}
        with limited_threads(self.threads):
            self._load_networks()

    def _load_networks(self) -> None:
        """Read the model folder and load the model, and the locator if it is of use."""
        task, model = self.task, self.model
        options = replace(self.settings.network, threads=self.threads)
        read = read_task_model(task, model.release, model.path)
        folder, self._source, self._levels = read.folder, read.source, read.levels
        self._main = OrientedNetwork(
            folder,
            self._load(folder, options),
            folder.orientation or task.orientation,
            edge_padding_mm=(
                self._source.edge_padding_mm if isinstance(self._source, ByLocator) else 0.0
            ),
        )
        self._locator = self._load_locator(options)

    def _load_locator(self, options: Options) -> OrientedNetwork | None:
        """Load the locator if it gives the levels, or can say which tiles matter."""
        by_locator = isinstance(self._source, ByLocator)
        source = self._source if isinstance(self._source, ByLocator) else ByLocator()
        folder = read_model_folder(find_trainer_folder(BUNDLED / source.locator))
        known = set(canal_levels(folder.classes).values())
        guides = self.settings.tiles == "auto" and self.network.engine != "nnunet"
        if not by_locator and not (guides and known >= set(self.task.levels)):
            return None
        plain = replace(options, test_time_aug=False, progress=False)
        return _locator(folder, self._load(folder, plain), source)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to load the same model again; the networks themselves cannot be copied."""
        return partial(Segmenter, load=self._load), (self.task, self.model, self.settings)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other thread runs the networks.

        A fork copies locks as they are, so that each process has one of its own.

        Raises
        ------
        UsageError
            If this process was forked while another thread ran the networks: what it was doing will
            never be finished here.
        """
        if any(lock.locked() for process, lock in self._locks.items() if process != os.getpid()):
            raise UsageError(
                "This Segmenter was running in another thread when the process was forked. Make a "
                "Segmenter in the new process, or start it with the method 'spawn'."
            )
        with self._locks.setdefault(os.getpid(), threading.Lock()):
            yield

    @property
    def network(self) -> Network:
        """The network of the model, the locator aside."""
        return self._main.network

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
        with limited_threads(self.threads):
            return self._segment(image)

    def _segment(self, image: InputImage) -> Segmentation:
        found = self.find(image)
        seconds = found.seconds
        with _timed(seconds, "levels"):
            told = self._levels_of(found, image)
            labels = told.labels
        with _timed(seconds, "post-processing"):
            lost = _changed(found.classes > 0, labels > 0)
            steps = [Step("classes without an expected level", lost)]
            context = self._context(image)
            labels, further, doubts = self._corrected(labels, context)
            steps += further
            for name, step in self._options():
                before, labels = labels, step(labels, context)
                steps.append(Step(name, _changed(before, labels)))
        warnings = [*image.warnings, *found.warnings, *doubts]
        if labels.any():
            warnings += told.warnings
        else:
            warnings.append(
                f"no rootlets of the levels {self.task.level_names} were found in this image."
            )
        located = self._independent_levels(found.canal)
        return Segmentation(labels, tuple(steps), seconds, found.tiles, tuple(warnings), located)

    def find(self, image: InputImage) -> Found:
        """Run the networks on an image, without telling levels.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.
        """
        with self._alone():
            return self._find(image)

    def _find(self, image: InputImage) -> Found:
        seconds: dict[str, float] = {}
        with _timed(seconds, "locator"):
            padding = find_padding(image.data)
            view = view_of(image, padding) if self._locator else None
            canal = self._canal(image, view)
            near = self._search_region(canal, image)
        with _timed(seconds, "network"):
            classes, tiles = self._classes(image, view, canal, near)
        seconds["tiles"] = self.network.tile_seconds
        return Found(classes, canal, tiles, seconds, self._doubts(image, padding))

    def _doubts(self, image: InputImage, padding: Padding | None) -> tuple[str, ...]:
        """Return what about an image may mislead the model, which may see it as it is or not."""
        if isinstance(self._source, ByLocator):
            return _padding_doubts(padding) if padding else ()
        return _doubts_as_it_is(image, padding)

    def _canal(self, image: InputImage, view: View | None) -> Canal | None:
        """Return the canal as the locator sees it, in order from head to tail."""
        if self._locator is None or view is None:
            return None
        found = view.to_source(self._locator.classes(view.image))
        return fit_canal(found, image.affine, self._locator.folder.classes)

    def _independent_levels(self, canal: Canal | None) -> np.ndarray | None:
        if canal is None or self._locator is None or isinstance(self._source, ByLocator):
            return None
        return relabel(canal.classes, canal_levels(self._locator.folder.classes))

    def _classes(
        self, image: InputImage, view: View | None, canal: Canal | None, near: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the class of each voxel, and how many tiles were run of how many.

        A model that tells levels itself sees the image as it is, since its labels shall be SCT's.
        """
        if isinstance(self._source, ByLocator) and view is not None:
            return self._classes_of_view(view, near)
        classes = self._main.classes(image, near, everywhere=self.settings.tiles == "all")
        if near is not None and canal is not None and self._found_too_little(classes, canal, image):
            logger.info("Few of the located levels were found there; all tiles are run.")
            classes = self._main.classes(image)
        return classes, self.network.tiles_run

    def _classes_of_view(
        self, view: View, near: np.ndarray | None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Return what :meth:`_classes` does, of a model that has no levels of its own."""
        shown = None if near is None else view.from_source(near)
        if shown is not None and not shown.any():
            nothing = np.zeros(view.image.data.shape, dtype=np.uint8)
            return view.to_source(nothing), (0, 0)
        classes = self._main.classes(view.image, shown, everywhere=self.settings.tiles == "all")
        return view.to_source(classes), self.network.tiles_run

    def _found_too_little(self, classes: np.ndarray, canal: Canal, image: InputImage) -> bool:
        """Tell whether the network found less than half of the levels that the locator did.

        Then the locator may have misled it.
        """
        found = count_levels(relabel(classes, self._levels))
        return len(found) < len(self._located(canal, image)) / 2

    def _search_region(self, canal: Canal | None, image: InputImage) -> np.ndarray | None:
        """Return a mask that covers the rootlets; None where they may be anywhere."""
        if canal is None or self._locator is None:
            return None
        by_locator = isinstance(self._source, ByLocator)
        if not by_locator and len(self._located(canal, image)) < _SURE_LEVELS:
            return None
        return search_region(
            canal.classes,
            image.affine,
            classes=self._locator.folder.classes,
            expected=self.task.levels,
            reach_mm=self._source.reach_mm if isinstance(self._source, ByLocator) else _REACH_MM,
            margin_mm=_MARGIN_MM,
        )

    def _located(self, canal: Canal, image: InputImage) -> list[int]:
        """Return the task's levels of which the locator found a piece of canal worth the name."""
        if self._locator is None:
            return []
        voxel_mm3 = abs(np.linalg.det(image.affine[:3, :3]))
        volumes = np.bincount(canal.classes.ravel(), minlength=256) * voxel_mm3
        of_class = canal_levels(self._locator.folder.classes)
        return [
            level
            for index, level in of_class.items()
            if level in self.task.levels and volumes[index] >= _SURE_MM3
        ]

    def _levels_of(self, found: Found, image: InputImage) -> AssignedLevels:
        source, canal = self._source, found.canal
        if self._locator is None or canal is None or not isinstance(source, ByLocator):
            return AssignedLevels(relabel(found.classes, self._levels))
        return levels_beside_canal(
            found.classes > 0,
            canal,
            image.affine,
            classes=self._locator.folder.classes,
            source=source,
            expected=self.task.levels,
        )

    def _context(self, image: InputImage) -> HookContext:
        """Return what the post-processing may know besides the labels."""
        source = self._source
        weight = source.level_weight if isinstance(source, ByLocator) else 1.0
        return HookContext(image.affine, self.task.levels, weight, self.task.priors)

    def _corrected(
        self, labels: np.ndarray, context: HookContext
    ) -> tuple[np.ndarray, list[Step], list[str]]:
        """Return the labels after the task's hooks, the steps, and what was left undecided."""
        steps: list[Step] = []
        doubts: list[str] = []
        for hook in () if self.settings.raw else self.task.hooks:
            name = getattr(hook, "__name__", repr(hook))
            after = hook(labels, context)
            relabeled = np.count_nonzero((after != labels) & (after > 0))
            if relabeled > MOST_RELABELED * np.count_nonzero(labels):
                doubts.append(
                    f"{name} would give {relabeled} of {np.count_nonzero(labels)} voxels another "
                    "level, too many to be sure of, and was left out. Look at the levels, or use "
                    f"-raw ({environment.RAW}=1) for the network's own labels."
                )
                after = labels
            steps.append(Step(name, _changed(labels, after)))
            labels = after
        if steps and not UNIFYING.isdisjoint(self.task.hooks):
            doubts += _left_as_they_are(labels, context)
        return labels, steps, doubts

    def _options(self) -> Iterator[tuple[str, Callable[[np.ndarray, HookContext], np.ndarray]]]:
        """Yield the post-processing that the user asks for."""
        settings = self.settings
        if settings.largest:
            yield "largest", keep_largest
        if settings.fill_holes:
            yield "fill-holes", fill_holes
        if settings.minimal_size:
            size = settings.minimal_size
            yield "remove-small", lambda labels, context: remove_small(labels, context, size)


def locate(
    image: InputImage, options: Options | None = None, *, locator: Path | None = None
) -> LocatedLevels:
    """Return the spinal levels of the spinal canal, as a locator sees them.

    Parameters
    ----------
    image : InputImage
        A checked 3-D image of any orientation.
    options : Options, optional
        How to run the network.
    locator : path, optional
        Folder that holds the locator's model folder; that of the built-in one by default.
    """
    options = options or Options(device="cpu")
    with limited_threads(chosen_threads(options.threads)):
        return _locate(image, options, locator)


def _locate(image: InputImage, options: Options, locator: Path | None) -> LocatedLevels:
    source = ByLocator()
    folder = read_model_folder(find_trainer_folder(locator or BUNDLED / source.locator))
    network = load_network(folder, options)
    padding = find_padding(image.data)
    view = view_of(image, padding)
    classes = view.to_source(_locator(folder, network, source).classes(view.image))
    levels = located_levels(classes, image.affine, folder.classes)
    doubts = _padding_doubts(padding) if padding and levels.levels else ()
    return replace(levels, warnings=(*levels.warnings, *doubts))


def _left_as_they_are(labels: np.ndarray, context: HookContext) -> list[str]:
    """Say what is too large, or too mixed, to be given one level."""
    pieces, voxels = undecided(labels, context.affine)
    if not pieces:
        return []
    return [
        f"{pieces} piece(s) of {voxels} voxels with several levels were left as the network said: "
        f"each is larger than a bundle can be ({LARGEST_BUNDLE_MM3:g} mm³) or has no level that "
        "most of it carries. Look at the levels; the model may not suit this image."
    ]


def _padding_doubts(padding: Padding) -> tuple[str, ...]:
    """Say so where padding may be taken for tissue by a network that is not shown padding."""
    if not padding.bright:
        return ()
    return (
        "a border of the image is of one bright value; it may be padding or a background, and was "
        "left. Look at the levels, or set it to 0.",
    )


def _doubts_as_it_is(image: InputImage, padding: Padding | None) -> tuple[str, ...]:
    """Say what may mislead a model that sees the image as it is."""
    doubts = []
    if padding:
        values = " and ".join(f"{value:g}" for value in padding.values)
        doubts.append(
            f"a border of the image has the constant value {values}, and the model is shown it, as "
            "SCT does. Look at the levels, or crop the border or set it to 0 first."
        )
    degrees = obliqueness(image.affine)
    if degrees > OBLIQUE_DEGREES:
        doubts.append(
            f"the image's grid is oblique by {degrees:.0f}°, and the model is shown it as it is, "
            "as SCT does. Look at the levels, or resample the image to world axes first."
        )
    return tuple(doubts)


def _locator(folder: ModelFolder, network: Network, source: ByLocator) -> OrientedNetwork:
    return OrientedNetwork(folder, network, folder.orientation or "LPI", source.min_voxel_mm)


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

    model, counts = segmenter.model, count_levels(segmentation.labels)
    return {
        "Task": segmenter.task.name,
        "Model": {
            "Name": model.name,
            "BuiltIn": model.builtin,
            "Custom": model.custom,
            "SHA256": model.sha256,
        },
        "LevelVoxels": {level_name(level): n for level, n in counts.items()},
        "PostProcessing": [
            {"Name": step.name, "VoxelsChanged": step.voxels_changed} for step in segmentation.steps
        ],
        "Warnings": list(segmentation.warnings),
        "Engine": segmenter.network.engine,
        "Device": segmenter.network.device,
        "Precision": segmenter.network.precision,
        "Raw": segmenter.settings.raw,
        "Tiles": {
            "Asked": segmenter.settings.tiles,
            "Run": segmentation.tiles[0],
            "All": segmentation.tiles[1],
        },
        "TestTimeAugmentation": segmenter.settings.network.test_time_aug,
        "Seconds": {stage: round(s, 2) for stage, s in segmentation.seconds.items()},
        "SoftwareVersions": {"sct_rootlets_task": __version__, **_versions()},
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that shape a result, those installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    packages = ("openvino", "nnunetv2", "nnunetv2-neuropoly", "torch", "numpy", "scipy", "nibabel")
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _changed(before: np.ndarray, after: np.ndarray) -> int:
    return int(np.count_nonzero(before != after))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start
