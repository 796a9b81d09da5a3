"""How a model's classes become spinal levels: from the classes' names, or from the canal.

A model that names its classes after levels is shown the image as it is, so that its labels are
those that SCT gives. A model that knows rootlets only is shown a view made for it, and its
rootlets take the levels of the canal beside them. Each way is one class here; a
:class:`~sct_rootlets_task.segmentation.segmenter.Segmenter` chooses once, when it is made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.label_values import count_levels, relabel
from sct_rootlets_task.io.orientation import obliqueness
from sct_rootlets_task.level_names import name_levels
from sct_rootlets_task.levels.assignment import AssignedLevels, assign_levels
from sct_rootlets_task.levels.located_canal import Canal, canal_levels
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.models.task_model import TaskModel
from sct_rootlets_task.segmentation.locator import (
    NetworkLoader,
    find_canal,
    load_locator,
    locator_folder,
)
from sct_rootlets_task.segmentation.padding import Padding, find_padding
from sct_rootlets_task.segmentation.reoriented_network import ReorientedNetwork
from sct_rootlets_task.segmentation.search_region import search_region
from sct_rootlets_task.segmentation.view import OBLIQUE_DEGREES, view_of
from sct_rootlets_task.tasks import Task

logger = logging.getLogger(__name__)

_REACH_MM = 20.0
"""How far from the canal a model that names levels is run."""
_SURE_LEVELS = 3
"""Fewer located levels do not limit where a model that names levels is run."""
_SURE_MM3 = 500.0
"""Volume of canal from which a level counts as located."""


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
    located : ndarray of uint8, shape (i, j, k), optional
        Level of each voxel of the canal, where the labels do not come from it.
    """

    classes: np.ndarray
    canal: Canal | None
    tiles: tuple[int, int]
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    located: np.ndarray | None = None


class LevelStrategy(Protocol):
    """From an image to the levels of its rootlets, before any post-processing."""

    @property
    def network(self) -> ReorientedNetwork:
        """The model."""

    @property
    def level_weight(self) -> float:
        """See :class:`~sct_rootlets_task.rootlets.postprocess.HookContext`."""

    def find(self, image: InputImage) -> Found:
        """Run the networks on a checked 3-D image of any orientation."""

    def assign(self, found: Found) -> AssignedLevels:
        """Return the level of each voxel that the model found."""


@dataclass(frozen=True, eq=False)
class LevelsFromNames:
    """Levels of a model whose classes are named after them, or matched to them by a table.

    Parameters
    ----------
    network : ReorientedNetwork
        The model.
    levels : mapping of int to int
        Level of each class, 0 for classes without an expected level.
    expected : tuple of int
        Levels of the task.
    locator : ReorientedNetwork, optional
        Says where to run the model; without it, all tiles are run.
    """

    network: ReorientedNetwork
    levels: Mapping[int, int]
    expected: tuple[int, ...]
    locator: ReorientedNetwork | None = None
    level_weight: float = 1.0

    def find(self, image: InputImage) -> Found:
        """Run the model near the located canal, and everywhere if it finds little there."""
        seconds: dict[str, float] = {}
        with timed(seconds, "locator"):
            padding = find_padding(image.data)
            canal = None
            if self.locator is not None:
                canal = find_canal(self.locator, image, view_of(image, padding))
            located = canal.levels_in_view(self.expected, _SURE_MM3) if canal else []
            roi_mask = None
            if canal is not None and len(located) >= _SURE_LEVELS:
                roi_mask = search_region(canal, self.expected, reach_mm=_REACH_MM)
        with timed(seconds, "network"):
            classes = self.network.classes(image, roi_mask)
            if roi_mask is not None and self._found_few_of(located, classes):
                logger.info("Few of the located levels were found there; all tiles are run.")
                classes = self.network.classes(image)
        network, doubts = self.network.network, _doubts(image, padding)
        seconds["tiles"] = network.tile_seconds
        opinion = canal.labels if canal else None
        return Found(classes, canal, network.tiles_run, seconds, doubts, opinion)

    def _found_few_of(self, located: Sequence[int], classes: np.ndarray) -> bool:
        """Return whether less than half of the located levels were found.

        Then the locator may have misled the model.
        """
        return len(count_levels(relabel(classes, self.levels))) < len(located) / 2

    def assign(self, found: Found) -> AssignedLevels:
        """Return the levels that the classes stand for."""
        return AssignedLevels(relabel(found.classes, self.levels))


@dataclass(frozen=True, eq=False)
class LevelsFromCanal:
    """Levels of a model that knows rootlets only: each bundle takes that of the canal beside it.

    Parameters
    ----------
    network : ReorientedNetwork
        The model.
    source : ByLocator
        How levels are assigned.
    expected : tuple of int
        Levels of the task.
    locator : ReorientedNetwork
        Finds the canal and its levels.
    everywhere : bool
        Run all tiles, also those far from the canal.
    """

    network: ReorientedNetwork
    source: ByLocator
    expected: tuple[int, ...]
    locator: ReorientedNetwork
    everywhere: bool = False

    @property
    def level_weight(self) -> float:
        """How sure the levels are, see ``ByLocator``."""
        return self.source.level_weight

    def find(self, image: InputImage) -> Found:
        """Run both networks on the view that is made for them."""
        seconds: dict[str, float] = {}
        with timed(seconds, "locator"):
            padding = find_padding(image.data)
            view = view_of(image, padding)
            canal = find_canal(self.locator, image, view)
            region = search_region(canal, self.expected, reach_mm=self.source.reach_mm)
            roi_mask = view.from_source(region)
        with timed(seconds, "network"):
            classes, tiles = np.zeros(image.data.shape, dtype=np.uint8), (0, 0)
            if roi_mask.any():
                shown = self.network.classes(view.image, roi_mask, everywhere=self.everywhere)
                classes, tiles = view.to_source(shown), self.network.network.tiles_run
        seconds["tiles"] = self.network.network.tile_seconds
        return Found(classes, canal, tiles, seconds, padding.doubts if padding else ())

    def assign(self, found: Found) -> AssignedLevels:
        """Return the levels of the canal beside the rootlets; none where there is no canal."""
        if found.canal is None:
            return AssignedLevels(np.zeros_like(found.classes))
        return assign_levels(
            found.classes > 0, found.canal, source=self.source, expected=self.expected
        )


def load_strategy(
    task: Task, model: TaskModel, load: NetworkLoader, options: Options, *, tiles: str
) -> LevelStrategy:
    """Choose the way to get levels, and load the model and, if it is of use, the locator.

    Parameters
    ----------
    task, model, load : Task, TaskModel, callable
        The task, its model's description, and what makes a network of a model folder.
    options, tiles : Options, {"auto", "all"}
        How to run the networks, and whether only tiles near the canal are run.

    Raises
    ------
    ModelError
        If a network cannot be run.
    LevelSourceError
        If the model takes its levels from a locator that knows none of the task's.
    """
    orientation = model.folder.orientation or task.orientation
    network = ReorientedNetwork(model.folder, load(model.folder, options), orientation)
    if isinstance(model.source, ByLocator):
        source = model.source
        network = replace(network, edge_padding_mm=source.edge_padding_mm)
        folder = locator_folder(source)
        _require_levels_of(task, folder)
        locator = load_locator(folder, source, load, options)
        return LevelsFromCanal(network, source, task.levels, locator, tiles == "all")
    guide = None
    if tiles == "auto" and network.network.engine != "nnunet":
        source = ByLocator()
        folder = locator_folder(source)
        # A locator that lacks a level of the task would leave out where its rootlets are.
        if set(canal_levels(folder.classes).values()) >= set(task.levels):
            guide = load_locator(folder, source, load, options)
    return LevelsFromNames(network, model.levels, task.levels, guide)


def _require_levels_of(task: Task, locator: ModelFolder) -> None:
    """Refuse a locator that would leave every rootlet of a task without a level."""
    known = set(canal_levels(locator.classes).values()) - {0}
    if known.isdisjoint(task.levels):
        raise LevelSourceError(
            f"Expected a model that names the levels {task.level_names}: this one knows rootlets "
            f"only, and the built-in locator knows {name_levels(known)}. Use a model whose classes "
            "are levels of this task."
        )


def _doubts(image: InputImage, padding: Padding | None) -> tuple[str, ...]:
    """Return what may mislead a model that is shown the image as it is."""
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


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note the wall time of what is done meanwhile."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = time.perf_counter() - start
