"""From an image to a level map: networks, levels, post-processing.

Nothing here reads or writes a file; :mod:`~sct_rootlets_task.segmentation.files` does.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.inference.loading import Network, Options, load_network
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.levels.corrections import (
    LARGEST_BUNDLE_MM3,
    UNIFYING,
    keep_largest,
    undecided,
)
from sct_rootlets_task.models.task_model import read_task_model
from sct_rootlets_task.rootlets.postprocess import (
    Hook,
    HookContext,
    MinimalSize,
    fill_holes,
    parse_minimal_size,
    remove_small,
)
from sct_rootlets_task.runtime import chosen_threads, limited_threads
from sct_rootlets_task.segmentation.assigned import Assigned, Ran, Step
from sct_rootlets_task.segmentation.level_strategy import Found, load_strategy, timed
from sct_rootlets_task.segmentation.locator import NetworkLoader
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.models.resolve import InstalledModel

logger = logging.getLogger(__name__)

TILES = ("auto", "all")
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


def settings_of_command(
    task: Task,
    network: Options,
    *,
    thresholded: bool = False,
    remove_small: Sequence[str] | None = None,
    raw: bool = False,
    tiles: str | None = None,
    **options: bool,
) -> Settings:
    """Return the settings that the options of a command ask for, or else the variables.

    Parameters
    ----------
    task : Task
        The task to run.
    network : Options
        How to run the networks.
    thresholded : bool
        Whether ``-thr`` was given, which does not apply.
    remove_small : sequence of str, optional
        Words of ``-remove-small``.
    raw : bool
        Whether ``-raw`` was given.
    tiles : {"auto", "all"}, optional
        Argument of ``-tiles``.
    **options : bool
        `largest` and `fill_holes` of :class:`Settings`.

    Raises
    ------
    UsageError
        If an option does not apply, or a variable that counts has a wrong value.
    """
    if thresholded:
        raise UsageError(
            "-thr does not apply: the result is a map of levels, not of probabilities, and a "
            "threshold would turn every level into 1. Leave it out."
        )
    asked = tiles or environment.read(environment.TILES) or TILES[0]
    if asked not in TILES:
        raise UsageError(
            f"{environment.TILES} expects {' or '.join(TILES)}, found {asked[:40]!r}. Correct the "
            "variable."
        )
    smallest = parse_minimal_size(remove_small, task.levels) if remove_small else None
    raw = raw or environment.is_on(environment.RAW)
    return Settings(network, tiles=asked, raw=raw, minimal_size=smallest, **options)


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
    load : callable, optional
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
        load: NetworkLoader | None = None,
    ) -> None:
        self.task = task
        self.model = model
        self.settings = settings or Settings()
        self.threads = chosen_threads(self.settings.network.threads)
        self._load = load or load_network
        self._locks: dict[int, threading.Lock] = {}
        read = read_task_model(task, model.release, model.path)
        options = replace(self.settings.network, threads=self.threads)
        with limited_threads(self.threads):
            self._strategy = load_strategy(
                task, read, self._load, options, tiles=self.settings.tiles
            )
        network = self.network
        logger.info(
            "Model %s, engine %s on %s (%s), %d threads",
            model.name,
            network.engine,
            network.device,
            network.precision,
            self.threads,
        )

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
    def ran(self) -> Ran:
        """What runs the network of the model."""
        return Ran(self.network.engine, self.network.device, self.network.precision)

    @property
    def network(self) -> Network:
        """The network of the model, the locator aside."""
        return self._strategy.network.network

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
            return postprocess(self._assign(image), self.task, self.settings, image=image)

    def assign(self, image: InputImage) -> Assigned:
        """Run the networks on one image and assign levels, without any post-processing.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.

        Returns
        -------
        Assigned
            What ``postprocess`` makes a level map of.
        """
        with limited_threads(self.threads):
            return self._assign(image)

    def _assign(self, image: InputImage) -> Assigned:
        found = self.find(image)
        with timed(found.seconds, "levels"):
            assigned = self._strategy.assign(found)
            lost = _changed(found.classes > 0, assigned.labels > 0)
        return Assigned(
            assigned.labels,
            self.ran,
            self._strategy.level_weight,
            (Step("classes without an expected level", lost),),
            found.seconds,
            tiles=found.tiles,
            warnings=found.warnings,
            level_warnings=assigned.warnings,
            located=found.located,
        )

    def find(self, image: InputImage) -> Found:
        """Run the networks on an image, without assigning levels.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.
        """
        with self._alone():
            return self._strategy.find(image)


def postprocess(
    assigned: Assigned, task: Task, settings: Settings, *, image: InputImage
) -> Segmentation:
    """Return a level map: what the networks gave, after the task's hooks and the options.

    Parameters
    ----------
    assigned : Assigned
        Levels as the networks give them.
    task : Task
        The task that was run.
    settings : Settings
        Which post-processing is wanted.
    image : InputImage
        The image that the networks saw.

    Returns
    -------
    Segmentation
        Every value of its labels is 0 or one of the task's levels.
    """
    seconds = dict(assigned.seconds)
    with timed(seconds, "post-processing"):
        context = HookContext(image.affine, task.levels, assigned.level_weight, task.priors)
        hooks = () if settings.raw else task.hooks
        labels, steps, doubts = _corrected(assigned.labels, hooks, context)
        for name, step in _options(settings):
            before, labels = labels, step(labels, context)
            steps.append(Step(name, _changed(before, labels)))
    warnings = [*image.warnings, *assigned.warnings, *doubts]
    if labels.any():
        warnings += assigned.level_warnings
    else:
        warnings.append(f"no rootlets of the levels {task.level_names} were found in this image.")
    steps = [*assigned.steps, *steps]
    return Segmentation(
        labels, tuple(steps), seconds, assigned.tiles, tuple(warnings), assigned.located
    )


def _corrected(
    labels: np.ndarray, hooks: Sequence[Hook], context: HookContext
) -> tuple[np.ndarray, list[Step], list[str]]:
    """Return the labels after the task's hooks, the steps, and what was left undecided."""
    steps: list[Step] = []
    doubts: list[str] = []
    for hook in hooks:
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
    if steps and not UNIFYING.isdisjoint(hooks):
        doubts += _left_as_they_are(labels, context)
    return labels, steps, doubts


def _options(
    settings: Settings,
) -> Iterator[tuple[str, Callable[[np.ndarray, HookContext], np.ndarray]]]:
    """Yield the post-processing that the user asks for."""
    if settings.largest:
        yield "largest", keep_largest
    if settings.fill_holes:
        yield "fill-holes", fill_holes
    if settings.minimal_size:
        size = settings.minimal_size
        yield "remove-small", lambda labels, context: remove_small(labels, context, size)


def _left_as_they_are(labels: np.ndarray, context: HookContext) -> list[str]:
    """Return a warning where pieces are too large, or too mixed, to be given one level."""
    pieces, voxels = undecided(labels, context.affine)
    if not pieces:
        return []
    return [
        f"{pieces} piece(s) of {voxels} voxels with several levels were left as the network said: "
        f"each is larger than a bundle can be ({LARGEST_BUNDLE_MM3:g} mm³) or has no level that "
        "most of it carries. Look at the levels; the model may not suit this image."
    ]


def _changed(before: np.ndarray, after: np.ndarray) -> int:
    return int(np.count_nonzero(before != after))
