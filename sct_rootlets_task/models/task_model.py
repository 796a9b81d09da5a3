"""How a task reads a model, and whether it can run it: found out by building, running nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sct_rootlets_task.inference import loading
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.levels.sources import ByLocator, LevelSource, class_levels
from sct_rootlets_task.tasks import Release, Task


@dataclass(frozen=True, eq=False)
class TaskModel:
    """What a model's folder says, how it tells levels, and the level of each class.

    `levels` is empty where the locator gives the levels.
    """

    folder: ModelFolder
    source: LevelSource
    levels: Mapping[int, int]


def read_task_model(task: Task, release: Release | None, path: Path) -> TaskModel:
    """Read the description of a model, and how it tells the levels of a task.

    Parameters
    ----------
    task, release : Task, Release or None
        The task that runs it, and the release it is, or whose place it takes.
    path : Path
        The trainer folder.

    Raises
    ------
    ModelError, LevelSourceError
        If the model cannot be run, or does not belong to the task.
    """
    folder = read_model_folder(path)
    source = task.levels_of(release, folder.classes)
    if isinstance(source, ByLocator):
        return TaskModel(folder, source, {})
    return TaskModel(folder, source, class_levels(source, folder.classes, task.levels))


def dry_build(task: Task, release: Release | None, path: Path) -> None:
    """Do all that a run does before it sees an image, but compile nothing.

    Parameters are those of :func:`read_task_model`.

    Raises
    ------
    ModelError, LevelSourceError
        If the model cannot be run, or does not belong to the task.
    MissingDependencyError
        If it can only be run where torch and nnunetv2 are installed.
    """
    loading.dry_build(read_task_model(task, release, path).folder)
