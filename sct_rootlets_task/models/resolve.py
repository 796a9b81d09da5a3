"""From what the user asked for to a complete model on this machine, installed if need be."""

from __future__ import annotations

import logging
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from sct_rootlets_task import environment
from sct_rootlets_task.errors import (
    DownloadError,
    InstallError,
    LevelSourceError,
    MissingDependencyError,
    ModelError,
    ModelNotInstalledError,
    UsageError,
)
from sct_rootlets_task.inference.trainer_folder import closed_model, find_trainer_folder
from sct_rootlets_task.io.paths import expand_user
from sct_rootlets_task.io.untrusted import missing_content, printable
from sct_rootlets_task.models.archive import not_a_zip
from sct_rootlets_task.models.install import install, install_zip
from sct_rootlets_task.models.installed import (
    WORK,
    InstalledModel,
    Listed,
    find_complete,
    find_installed,
    find_unidentified,
    list_models,
    read_source,
    record_folder,
    slot_name,
    verify,
    warn_of_open_folder,
    why_incomplete,
)
from sct_rootlets_task.models.task_model import dry_build
from sct_rootlets_task.models.unreachable import recall, remember
from sct_rootlets_task.tasks import Release, Task

__all__ = [
    "InstalledModel",
    "Listed",
    "Resolved",
    "find_complete",
    "list_models",
    "resolve",
    "verify_model",
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
    progress: bool = False,
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
    progress : bool
        Show how far fetching is.

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
    ClosedModelError
        If the model is there and may not be read; nothing stands in for it then.
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


def verify_model(task: Task, model: InstalledModel) -> list[str]:
    """Return what is wrong with a model: altered files, and why it cannot be run; one text each."""
    problems = verify(model.path)
    try:
        dry_build(task, model.release, model.path)
    except (ModelError, LevelSourceError, MissingDependencyError) as error:
        problems.append(f"{printable(model.path)}: the model cannot be run. {error}")
    return problems


def _default(task: Task, root: Path, *, offline: bool, progress: bool) -> Resolved:
    release = task.release()
    try:
        return _told(task, _automatic(task, release, root, offline=offline, progress=progress))
    except (InstallError, ModelNotInstalledError) as error:
        stand_in = _stand_in(task, root, error)
        if stand_in is None:
            raise
        reasons = error.reasons if isinstance(error, DownloadError) else ()
        if why := why_incomplete(task, release, root):
            logger.warning("A model is there, but it is not used: %s", why)
        logger.warning("The model %s cannot be had: %s", release.tag, "; ".join(reasons) or error)
        return Resolved(stand_in, _fallback_notice(task, release, stand_in))


def _stand_in(task: Task, root: Path, error: Exception) -> InstalledModel | None:
    """Return what runs where the default release cannot be had."""
    unidentified = find_unidentified(task, root)
    is_missing = isinstance(error, DownloadError | ModelNotInstalledError)
    if unidentified or task.fallback is None or not is_missing:
        return unidentified
    return find_installed(task, task.release(task.fallback), root)


def _automatic(
    task: Task, release: Release, root: Path, *, offline: bool, progress: bool
) -> InstalledModel:
    """Return a release, fetched if it is missing and no other job has just failed to."""
    work = root / WORK / slot_name(task, release)
    if (
        not environment.is_on(environment.OFFLINE)
        and (reason := recall(work))
        and not find_installed(task, release, root)
    ):
        raise DownloadError(f"The model {release.tag} could not be fetched: {reason}.", [reason])
    try:
        return _release(task, release, root, offline=offline, progress=progress)
    except DownloadError as error:
        if not environment.is_on(environment.OFFLINE):
            remember(work, "; ".join(error.reasons))
        raise


def _release(
    task: Task, release: Release, root: Path, *, offline: bool, progress: bool
) -> InstalledModel:
    found = find_installed(task, release, root)
    if found is None and offline:
        raise ModelNotInstalledError(
            f"Expected the model {release.tag!r} in {printable(root)}, found none, and fetching "
            f"is off. Install it with 'sct_deepseg {task.name} -install'."
        )
    if found is None:
        logger.info("Model %s is not installed. Installing it now...", release.tag)
        return install(task, release, root, progress=progress)
    if found.custom:
        origin = ", ".join(map(printable, found.urls)) or printable(found.path)
        logger.warning("Using a custom model from %s.", origin)
    elif not found.urls and not found.builtin:
        logger.warning(
            "Where the model in %s came from is unknown: it has no readable source.json. Install "
            "it anew with 'sct_deepseg %s -install' to be sure.",
            printable(found.path),
            task.name,
        )
    return found


def _told(task: Task, model: InstalledModel) -> Resolved:
    """Add a notice to a built-in model that is not what the task runs by default."""
    if not model.builtin or model.name == task.default:
        return Resolved(model)
    return Resolved(model, f"The built-in model '{model.name}' is used. {_not_published(task)}")


def _fallback_notice(task: Task, release: Release, stand_in: InstalledModel) -> str:
    if not stand_in.builtin:
        return (
            f"The published model {release.tag} could not be fetched: the model in "
            f"{printable(stand_in.path)} is used, whose origin is unknown (it has no source.json). "
            f"It may be another release. Install the published one with 'sct_deepseg {task.name} "
            "-install'."
        )
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
    reason = not_a_zip(path) if path is not None and path.is_file() else "no folder and no file"
    if path is not None and reason is None:
        return install_zip(task, path, root)
    if why := missing_content(expand_user(choice)):
        raise ModelError(f"The model {printable(choice)} cannot be used: {why}.")
    raise UsageError(
        f"Expected a model of the task {task.name!r} ({', '.join(task.tags)}), a model folder or "
        f"a zip archive, found '{printable(choice)}' ({reason})."
    )


def _existing(choice: str | os.PathLike[str]) -> Path | None:
    """Return the file or folder that a choice names; one that may not be read is an error."""
    try:
        path = expand_user(choice)
        if stat.S_ISREG(path.stat().st_mode):
            path.open("rb").close()
    except PermissionError as error:
        raise closed_model(Path(choice), error) from error
    except (OSError, ValueError):  # none, or a name that is too long
        return None
    return path


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
