"""The models on this machine: how they lie in the model root, and what is known of each.

Everything here only reads, also while another process installs. A release has one folder,
``<root>/<model name>_<tag>/``, with the trainer folder and ``source.json``. The installer works in
``<root>/.installing/<folder>/`` and moves complete models by rename.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sct_rootlets_task import tasks
from sct_rootlets_task.errors import ClosedModelError, ModelError
from sct_rootlets_task.inference.fields import json_object
from sct_rootlets_task.inference.trainer_folder import (
    DESCRIPTIONS,
    FOLDS,
    TRAINERS,
    closed_model,
    find_trainer_folder,
    is_there,
)
from sct_rootlets_task.io.atomic import hash_file
from sct_rootlets_task.io.untrusted import (
    is_file,
    is_world_writable,
    open_regular,
    printable,
    reason_of,
)
from sct_rootlets_task.models.archive import SOURCE, leads_out
from sct_rootlets_task.tasks import Release, Task

logger = logging.getLogger(__name__)

WORK = ".installing"
PREVIOUS = "previous-"
_SWAP_CHECKS = 5
_SWAP_PAUSE_S = 0.05
_MOST_FILES = 100_000
_URLS_DEPTH = 4


@dataclass(frozen=True)
class InstalledModel:
    """A complete model on this machine.

    Parameters
    ----------
    path : Path
        The trainer folder, with ``plans.json``, ``dataset.json`` and the folds.
    release : Release, optional
        The release it is, or whose place it takes; None for a folder or archive of the user's own.
    name : str
        The release's tag, ``custom``, or the name of the user's folder.
    urls : tuple of str
        Where it came from; empty when unknown.
    sha256 : str, optional
        Checksum of the archive it was unpacked from.
    custom : bool
        Whether it came from somewhere else than its release's own mirrors.
    builtin : bool
        Whether it ships inside this package.
    """

    path: Path
    release: Release | None
    name: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    custom: bool = False
    builtin: bool = False


@dataclass(frozen=True)
class Source:
    """What ``source.json`` records of a model.

    Parameters
    ----------
    urls : tuple of str
        Where it came from.
    custom : bool
        Whether that was the user's choice.
    release : str, optional
        Tag of the release.
    sha256 : str, optional
        Checksum of the archive.
    files : mapping of str to str
        SHA-256 of each file, by path relative to the folder of ``source.json``; empty in folders
        that SCT has installed.
    """

    urls: tuple[str, ...] = ()
    custom: bool = False
    release: str | None = None
    sha256: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


def slot_name(task: Task, release: Release) -> str:
    """Return the name of a release's folder in the model root."""
    return f"{task.model_name}_{release.tag}"


def read_source(folder: Path) -> Source | None:
    """Return the record of a model folder; None when there is none or it cannot be read."""
    path = folder / SOURCE
    try:
        with open_regular(path) as stream:
            return _parse_source(json_object(stream))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        _tell_of_record(str(path), reason_of(error).rstrip("."))
    return None


@functools.cache
def _tell_of_record(path: str, reason: str) -> None:
    """Say once what is wrong with a record, which is read several times."""
    logger.warning(
        "Cannot read %s (%s): where the model came from is unknown.", printable(path), reason
    )


def _parse_source(content: Mapping[str, Any]) -> Source:
    """Check every field of a record; one that is not what it should be makes it no record."""
    custom, files = content.get("custom") or False, content.get("files") or {}
    if not isinstance(custom, bool):
        raise ValueError(f"expected true or false in 'custom', found {custom!r}")
    if not isinstance(files, dict) or len(files) > _MOST_FILES:
        raise ValueError("expected a table of checksums in 'files'")
    for name, digest in files.items():
        if leads_out(name):
            raise ValueError(f"expected files inside the folder in 'files', found {name!r}")
        if not isinstance(digest, str):
            raise ValueError(f"expected a SHA-256 for {name!r} in 'files', found {digest!r}")
    return Source(
        urls=tuple(_flat(content.get("model_urls"))),
        custom=custom,
        release=_text(content, "release"),
        sha256=_text(content, "sha256"),
        files=files,
    )


def _text(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    if not isinstance(value, str | None):
        raise ValueError(f"expected a text in {key!r}, found {value!r}")
    return value


def _flat(urls: Any, depth: int = 0) -> Iterator[str]:
    """Yield the URLs of SCT's record: one string, a list, or a table of them."""
    if isinstance(urls, str):
        yield urls
    elif isinstance(urls, list | dict) and depth < _URLS_DEPTH:
        for item in urls.values() if isinstance(urls, dict) else urls:
            yield from _flat(item, depth + 1)
    elif urls is not None:
        raise ValueError(f"expected addresses in 'model_urls', found {urls!r}")


def record_folder(trainer: Path) -> Path:
    """Return the folder of the record that speaks of a trainer folder: the parent, or itself.

    Our own records lie in the parent. SCT's lies beside the folds where the archive has no trainer
    folder.
    """
    if not is_file(trainer / SOURCE):
        return trainer.parent
    above = read_source(trainer.parent)
    ours = above is not None and any(n.startswith(f"{trainer.name}/") for n in above.files)
    return trainer.parent if ours else trainer


def load(folder: Path, release: Release | None = None) -> InstalledModel | None:
    """Return the model in a folder of the model root; None when it is missing or incomplete.

    Raises
    ------
    ClosedModelError
        If it may not be read.
    """
    try:
        path = find_trainer_folder(folder, release.trainer_folder if release else TRAINERS)
    except ClosedModelError:
        raise
    except ModelError as error:
        logger.debug("%s", error)
        return None
    source = read_source(folder) or Source()
    if not all(_has(folder, name) for name in source.files):
        logger.warning("The model in %s has lost files and is not used.", printable(folder))
        return None
    name = release.tag if release and not source.custom else "custom"
    return InstalledModel(path, release, name, source.urls, source.sha256, custom=source.custom)


def why_incomplete(task: Task, release: Release, root: Path) -> str | None:
    """Return why a model that lies where a release is looked for is none; None if there is none.

    Parameters are those of :func:`find_installed`.
    """
    for folder in (root / slot_name(task, release), root / task.model_name):
        with contextlib.suppress(OSError):
            if not any(folder.iterdir()):
                continue
            try:
                find_trainer_folder(folder, release.trainer_folder)
            except ModelError as error:
                return str(error)
    return None


def _has(folder: Path, name: str) -> bool:
    """Tell whether a model has a file; a name that is too long is none."""
    try:
        return is_there(folder / name)
    except PermissionError as error:
        raise closed_model(folder, error) from error
    except (OSError, ValueError):
        return False


def find_in_slot(root: Path, slot: str, release: Release | None = None) -> InstalledModel | None:
    """Return the model of a folder of the model root, also while it is being replaced.

    Parameters
    ----------
    root, slot : Path, str
        The model root, and the name of the folder in it.
    release : Release, optional
        The release the folder belongs to.

    Raises
    ------
    ClosedModelError
        If there is one that may not be read.
    """
    for _ in range(_SWAP_CHECKS):
        found = load(root / slot, release)
        if found:
            return found
        previous = _previous(root, slot, release)
        if previous is None:
            # A swap may have ended since the first look.
            return load(root / slot, release)
        # A swap takes an instant; if it outlasts these looks, whoever did it is dead.
        time.sleep(_SWAP_PAUSE_S)
    return previous


def _previous(root: Path, slot: str, release: Release | None) -> InstalledModel | None:
    """Return the model that a swap has moved aside."""
    try:
        found = sorted((root / WORK / slot).glob(f"{PREVIOUS}*"))
    except OSError:  # a shared root whose installer's folder is closed to this user
        return None
    for path in found:
        with contextlib.suppress(ClosedModelError):
            if model := load(path, release):
                return model
    return None


def find_installed(task: Task, release: Release, root: Path) -> InstalledModel | None:
    """Return a release's model if it is on this machine, without taking a lock.

    Parameters
    ----------
    task : Task
        The task that runs it.
    release : Release
        One of the task's releases.
    root : Path
        The model root; it need not exist.

    Returns
    -------
    InstalledModel or None
        Built-in releases are always there. In the model root, the release's own folder comes
        before a model that SCT itself has installed from one of the release's URLs.

    Raises
    ------
    ClosedModelError
        If it is there and may not be read, or nobody can tell because the root may not be.
    """
    if release.bundled:
        path = find_trainer_folder(tasks.BUNDLED / release.bundled, release.trainer_folder)
        return InstalledModel(path, release, release.tag, builtin=True)
    try:
        found = find_in_slot(root, slot_name(task, release), release)
    except ClosedModelError as error:
        with contextlib.suppress(ClosedModelError):
            if other := _installed_by_sct(task, release, root):
                return other
        raise error
    return found or _installed_by_sct(task, release, root)


def _installed_by_sct(task: Task, release: Release, root: Path) -> InstalledModel | None:
    folder = root / task.model_name
    try:
        open_regular(folder / SOURCE).close()
    except PermissionError as error:
        raise closed_model(folder, error) from error
    except OSError:
        return None
    source = read_source(folder)
    if source is None or not set(source.urls) & set(release.urls):
        return None
    found = load(folder, release)
    return found and InstalledModel(found.path, release, release.tag, source.urls)


def find_unidentified(task: Task, root: Path) -> InstalledModel | None:
    """Return a complete model in SCT's folder without a record of where it came from.

    Which release it is, nobody knows: it is used only where nothing else can be had. Parameters are
    those of :func:`find_installed`.
    """
    found = load(root / task.model_name)
    if found is None or read_source(record_folder(found.path)) is not None:
        return None
    return replace(found, name=task.model_name)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by relative path, without the record."""
    return {name: hash_file(folder / name) for name in sorted(_files(folder))}


def _files(folder: Path) -> Iterator[str]:
    """Yield the ordinary files below a folder; without recursion, however deep it is."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with contextlib.suppress(OSError), os.scandir(folder / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                elif entry.is_file() and name != SOURCE and not entry.name.startswith("."):
                    yield name


def verify(folder: Path) -> list[str]:
    """Compare every file of a model with the checksums recorded when it was installed.

    Parameters
    ----------
    folder : Path
        The model's folder, or the trainer folder in it.

    Returns
    -------
    list of str
        One sentence a problem; empty when all is as installed. A folder without recorded
        checksums (installed by SCT, by hand, or built in) is a problem of its own: it cannot be
        verified.
    """
    home = record_folder(folder)
    source = read_source(home)
    if source is None or not source.files:
        return [
            f"{printable(folder)}: no checksums are recorded for this model; it cannot be verified."
        ]
    extra = sorted(set(_files(home)) - set(source.files))
    return [
        *damage(home, source),
        *(f"{printable(home / name)}: this file was not in the archive." for name in extra),
    ]


def damage(folder: Path, source: Source) -> list[str]:
    """Return which recorded files are missing or altered, one sentence each."""
    problems = []
    for name, expected in source.files.items():
        problem = _difference(folder / name, expected)
        if problem:
            problems.append(f"{printable(folder / name)}: {problem}")
    return problems


def _difference(path: Path, expected: str) -> str | None:
    try:
        if not is_there(path):
            return "the file is missing."
        found = hash_file(path)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})."
    return None if found == expected else f"expected SHA-256 {printable(expected)}, found {found}."


def warn_of_open_folder(model: InstalledModel, root: Path) -> None:
    """Warn once of a model that every user of this machine may change.

    Parameters
    ----------
    model : InstalledModel
        The model that is to run.
    root : Path
        The model root; looked at if the model lies in it.
    """
    if model.builtin:
        return
    folders = [(root, False)] if model.path.is_relative_to(root) else []
    folders += [(model.path.parent, True), (model.path, True)]
    read = [model.path / name for name in DESCRIPTIONS]
    with contextlib.suppress(OSError):  # closed to this user; reading the model will say so
        read += [path for fold in model.path.glob(FOLDS) for path in (fold, *fold.glob("*.pth"))]
    open_ones = [path for path, sticky in folders if is_world_writable(path, sticky_is_safe=sticky)]
    open_ones += [path for path in read if is_world_writable(path)]
    if open_ones:
        top = open_ones[0] if open_ones[0] not in read else model.path
        logger.warning(
            "Every user of this machine may change the model: %s can be written by all. Close it "
            "with 'chmod -R o-w %s'.",
            printable(open_ones[0]),
            printable(top),
        )


@dataclass(frozen=True)
class Listed:
    """One line of the list of models: a release, and what is on this machine.

    `closed` says why a model that is there may not be read.
    """

    task: Task
    release: Release
    model: InstalledModel | None
    closed: str | None = None


def list_models(registry: Mapping[str, Task], root: Path) -> list[Listed]:
    """Return all releases of all tasks, each with its model if it is on this machine."""
    return [
        _listing(task, release, root) for task in registry.values() for release in task.releases
    ]


def _listing(task: Task, release: Release, root: Path) -> Listed:
    try:
        return Listed(task, release, find_complete(task, release, root))
    except ClosedModelError as error:
        return Listed(task, release, None, str(error))


def find_complete(task: Task, release: Release, root: Path) -> InstalledModel | None:
    """Return a release's model, for the default release also one of unknown origin.

    Parameters are those of :func:`find_installed`.
    """
    found = find_installed(task, release, root)
    is_default = release.tag == task.default
    return found or (find_unidentified(task, root) if is_default else None)
