"""From what the user asked for to a complete model on this machine.

This is the module to import: it brings together finding (``store``) and installing (``install``).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from sct_rootlets_task.archive import not_a_zip
from sct_rootlets_task.errors import DownloadError, ModelNotInstalledError, UsageError
from sct_rootlets_task.install import decide, install, install_zip
from sct_rootlets_task.paths import expand_user
from sct_rootlets_task.store import (
    InstalledModel,
    Listed,
    find_installed,
    find_trainer_folder,
    list_models,
    read_source,
    record_folder,
    verify,
    warn_of_open_folder,
)
from sct_rootlets_task.tasks import Release, Task
from sct_rootlets_task.untrusted import printable

__all__ = [
    "InstalledModel",
    "Listed",
    "Resolved",
    "decide",
    "find_installed",
    "find_trainer_folder",
    "install",
    "install_zip",
    "list_models",
    "resolve",
    "verify",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resolved:
    """The model to run, and what the user must be told about it.

    Parameters
    ----------
    model : InstalledModel
        A complete model.
    notice : str, optional
        Text to show prominently: this is not the model that the task is known for.
    """

    model: InstalledModel
    notice: str | None = None


def resolve(
    task: Task,
    choice: str | os.PathLike[str] | None,
    root: Path,
    *,
    offline: bool = False,
    progress: bool | None = False,
) -> Resolved:
    """Return the model that a user's choice means, installed first if it is missing.

    Parameters
    ----------
    task : Task
        The task to run.
    choice : str or path, optional
        Tag of a release, a model folder (the trainer folder or its parent), or a zip archive.
        None stands for the task's default release, in whose stead the built-in fallback is
        taken when it can neither be found nor fetched.
    root : Path
        The model root.
    offline : bool
        Do not try to fetch; ``SCT_ROOTLETS_OFFLINE`` has the same effect.
    progress : bool, optional
        Show a progress bar while fetching; None: only when stderr is a terminal.

    Raises
    ------
    UsageError
        If `choice` is neither a tag nor a folder nor an archive.
    DownloadError, ArchiveError, InstallError
        If a release that is missing cannot be installed (the default one: for another reason
        than that it cannot be fetched).
    ModelNotInstalledError
        If it is missing and `offline` is set.
    ModelError
        If a folder holds no complete model.
    """
    if choice is None:
        resolved = _default(task, root, offline=offline, progress=progress)
    elif str(choice) in task.tags:
        release = task.release(str(choice))
        resolved = _told(task, _release(task, release, root, offline=offline, progress=progress))
    else:
        resolved = Resolved(_from_path(task, choice, root))
    warn_of_open_folder(resolved.model, root)
    return resolved


def _default(task: Task, root: Path, *, offline: bool, progress: bool | None) -> Resolved:
    release = task.release()
    try:
        return _told(task, _release(task, release, root, offline=offline, progress=progress))
    except (DownloadError, ModelNotInstalledError) as error:
        if task.fallback is None:
            raise
        logger.warning("%s", error)
        stand_in = find_installed(task, task.release(task.fallback), root)
        if stand_in is None:
            raise
        return Resolved(stand_in, _fallback_notice(task, release, stand_in))


def _release(
    task: Task, release: Release, root: Path, *, offline: bool, progress: bool | None
) -> InstalledModel:
    found = find_installed(task, release, root)
    if found is None and offline:
        raise ModelNotInstalledError(
            f"Expected the model {release.tag!r} in {printable(root)}, found none, and fetching "
            f"is off. Install it with 'sct_deepseg {task.name} -install'."
        )
    if found is None:
        logger.warning("Model %s is not installed. Installing it now...", release.tag)
        return install(task, release, root, progress=progress)
    if found.custom:
        origin = ", ".join(map(printable, found.urls)) or printable(found.path)
        logger.warning("Using a custom model from %s.", origin)
    return found


def _told(task: Task, model: InstalledModel) -> Resolved:
    """Add a notice to a built-in model that is not what the task runs by default."""
    if not model.builtin or model.name == task.default:
        return Resolved(model)
    return Resolved(model, f"The built-in model '{model.name}' is used. {_not_published(task)}")


def _fallback_notice(task: Task, release: Release, stand_in: InstalledModel) -> str:
    return (
        f"The published model {release.tag} is not installed and could not be fetched: the "
        f"built-in model '{stand_in.name}' is used instead. {_not_published(task)}"
    )


def _not_published(task: Task) -> str:
    command = f"sct_deepseg {task.name} -install"
    return (
        f"It is NOT the published model {task.default}, and its results differ. Install that one "
        f"with '{command}', without a network with '{command} -custom-url /path/to.zip'."
    )


def _from_path(task: Task, choice: str | os.PathLike[str], root: Path) -> InstalledModel:
    path = _existing(choice)
    if path is not None and path.is_dir():
        return _from_folder(task, path)
    if path is not None and path.is_file() and not_a_zip(path) is None:
        return install_zip(task, path, root)
    raise UsageError(
        f"Expected a model of the task {task.name!r} ({', '.join(task.tags)}), a model folder or "
        f"a zip archive, found '{printable(choice)}'."
    )


def _existing(choice: str | os.PathLike[str]) -> Path | None:
    try:
        path = expand_user(choice)
        return path if path.exists() else None
    except (OSError, ValueError):  # closed to the user, too long
        return None


def _from_folder(task: Task, folder: Path) -> InstalledModel:
    trainer = find_trainer_folder(folder.absolute())
    source = read_source(record_folder(trainer))
    name = (trainer.parent if folder.name.startswith("nnUNetTrainer") else folder.absolute()).name
    model = InstalledModel(trainer, None, name)
    if source is None:
        return model
    model = replace(model, urls=source.urls, sha256=source.sha256, custom=source.custom)
    for release in task.releases:
        if not source.custom and set(source.urls) & set(release.urls):
            return replace(model, release=release, name=release.tag)
    return model
