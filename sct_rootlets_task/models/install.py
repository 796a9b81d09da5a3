"""Installing a model: decide, fetch, unpack aside, and move into place by rename.

At every instant a reader finds a complete model, whatever happens to the installing process: the
old one, the old one moved aside (between two renames, or until the next installation repairs a swap
that was killed), or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import stat
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from sct_rootlets_task import environment
from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import (
    ArchiveError,
    ClosedModelError,
    DownloadError,
    InstallError,
    LevelSourceError,
    MissingDependencyError,
    ModelError,
    RootletsError,
    UsageError,
)
from sct_rootlets_task.inference.trainer_folder import find_trainer_folder
from sct_rootlets_task.io.atomic import hash_file
from sct_rootlets_task.io.locks import held
from sct_rootlets_task.io.untrusted import printable
from sct_rootlets_task.models.archive import SOURCE, not_a_zip, unpack_model
from sct_rootlets_task.models.download import Fetched, RetryPolicy, fetch, refuse_if_offline
from sct_rootlets_task.models.installed import (
    PREVIOUS,
    WORK,
    InstalledModel,
    damage,
    find_in_slot,
    find_installed,
    hash_files,
    load,
    read_source,
    slot_name,
)
from sct_rootlets_task.models.task_model import dry_build
from sct_rootlets_task.tasks import Release, Task

logger = logging.getLogger(__name__)

Action = Literal["keep", "install", "update"]

_INCOMING = "incoming-"
_TRASH = "trash-"
_ADVICE = re.compile(r" (Correct it, or i|I)nstall the (model|package) again\b.*$", re.DOTALL)
"""How most errors of a model end; who installs it needs no advice to."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM, errno.EROFS)


def decide(
    installed: InstalledModel | None, release: Release, *, anew: bool, intact: bool
) -> Action:
    """Return what to do about a release; nothing is touched here.

    Parameters
    ----------
    installed : InstalledModel, optional
        What is in the release's place now.
    release : Release
        What is wanted there.
    anew : bool
        Whether to install whatever is there: a custom archive, or by force.
    intact : bool
        Whether the files of `installed` are those that were installed.
    """
    if installed is None:
        return "install"
    same_source = not installed.custom and bool(set(installed.urls) & set(release.urls))
    other_archive = bool(release.sha256 and installed.sha256 not in (None, release.sha256))
    if installed.builtin or (same_source and intact and not other_archive and not anew):
        return "keep"
    return "update"


def install(
    task: Task,
    release: Release,
    root: Path,
    *,
    urls: Sequence[str] | None = None,
    force: bool = False,
    progress: bool = False,
    retry: RetryPolicy | None = None,
) -> InstalledModel:
    """Install a release, or a custom archive in its place.

    A model that is there already from the release's own mirrors, and intact, is kept. Processes
    that install the same release at once take turns, and all but the first find it there.

    Parameters
    ----------
    task : Task
        The task that runs the release.
    release : Release
        One of the task's releases.
    root : Path
        The model root; made when missing.
    urls : sequence of str, optional
        Mirrors of a custom archive, or paths to it, instead of the release's own; installed anew
        in any case, and recorded as custom.
    force : bool
        Install anew even if the release is there.
    progress : bool
        Show how far it is.
    retry : RetryPolicy, optional
        Time-outs, attempts, and how long to wait for another process.

    Raises
    ------
    DownloadError
        If no mirror delivered.
    ArchiveError
        If what was delivered is unsafe or holds no model.
    InstallError
        If it cannot be written here. After any error the model that was there is untouched.
    UsageError
        If a custom archive is to replace a built-in release.
    """
    if urls is not None and (release.bundled or not urls):
        raise UsageError(
            "Expected a URL or path to install in place of a published release, found "
            f"{printable(list(urls))} for {release.tag!r}. Built-in releases cannot be replaced."
        )
    anew = force or urls is not None
    kept = _kept(task, release, root, anew=anew)
    if kept:
        _tidy(root, slot_name(task, release))
        return kept
    retry = retry or RetryPolicy()
    try:
        refuse_if_offline(urls or release.urls)
        with workspace(root, slot_name(task, release), retry) as work:
            # Another process may have installed it while this one waited.
            kept = _kept(task, release, root, anew=anew)
            if not kept:
                _install(task, release, work, urls=urls, progress=progress, retry=retry)
    except DownloadError as error:
        text = f"{error}\n{_without_network(task, release)}"
        raise DownloadError(text, error.reasons) from error
    return kept or _installed(root, slot_name(task, release), release)


def _kept(task: Task, release: Release, root: Path, *, anew: bool) -> InstalledModel | None:
    """Return the model that is there if it is to stay."""
    try:
        found = find_installed(task, release, root)
    except ClosedModelError:
        if not anew:
            raise
        found = None
    intact = found is None or anew or found.builtin or _is_intact(found)
    action = decide(found, release, anew=anew, intact=intact)
    logger.debug("%s %s: %s", task.name, release.tag, action)
    return found if action == "keep" else None


def _is_intact(model: InstalledModel) -> bool:
    """Return whether nothing speaks against the files (SCT records no checksums)."""
    source = read_source(model.path.parent)
    problems = damage(model.path.parent, source) if source and source.files else []
    for problem in problems:
        logger.warning("%s", problem)
    return not problems


def install_zip(task: Task, zip_path: Path, root: Path) -> InstalledModel:
    """Unpack an archive of the user's own, once, into a folder named by its checksum.

    Parameters
    ----------
    task : Task
        The task that is to run it.
    zip_path : Path
        The archive.
    root : Path
        The model root; made when missing.

    Raises
    ------
    ArchiveError
        If the archive is damaged, unsafe or holds no model.
    InstallError
        If it cannot be read or unpacked.
    """
    try:
        fetched = Fetched(str(zip_path.absolute()), hash_file(zip_path), zip_path.stat().st_size)
    except OSError as error:
        raise InstallError(
            f"Cannot read the archive {printable(zip_path)}: {error.strerror}."
        ) from error
    slot = f"{task.model_name}_zip-{fetched.sha256[:16]}"
    found = find_in_slot(root, slot)
    if found:
        return found
    with workspace(root, slot, RetryPolicy()) as work:
        if load(root / slot) is None:
            _place(zip_path, work, task, None, _record(task, None, fetched, custom=True))
    return _installed(root, slot, None)


def _installed(root: Path, slot: str, release: Release | None) -> InstalledModel:
    found = find_in_slot(root, slot, release)
    if found is None:
        raise InstallError(
            f"The model was installed in {printable(root / slot)} but is not there any more. "
            "Make sure that nothing else clears this folder, and install it again."
        )
    return found


def _install(
    task: Task,
    release: Release,
    work: Path,
    *,
    urls: Sequence[str] | None,
    progress: bool,
    retry: RetryPolicy,
) -> None:
    archive = work / f"{_INCOMING}{uuid.uuid4().hex}.zip"
    fetched = fetch(
        urls or release.urls,
        archive,
        sha256=None if urls else release.sha256,
        accept=not_a_zip,
        progress=progress,
        retry=retry,
    )
    _place(archive, work, task, release, _record(task, release, fetched, custom=urls is not None))
    logger.info("Installed %s from %s", work.name, printable(fetched.url))


def _record(
    task: Task, release: Release | None, fetched: Fetched, *, custom: bool
) -> dict[str, Any]:
    """Return the content of ``source.json``: the three keys that SCT reads, then ours."""
    return {
        "model_name": task.model_name,
        "model_urls": fetched.url,
        "custom": custom,
        "release": release.tag if release else None,
        "sha256": fetched.sha256,
        "installed": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "installed_by": f"sct-rootlets-task {VERSION}",
    }


def _place(
    archive: Path, work: Path, task: Task, release: Release | None, record: dict[str, Any]
) -> None:
    """Unpack an archive aside, write its record, and put the complete folder in its place."""
    # Not tempfile: its folders are closed to other users, who are to read the model.
    incoming, final = work / f"{_INCOMING}{uuid.uuid4().hex}", work.parent.parent / work.name
    incoming.mkdir()
    unpack_model(archive, incoming)
    with (incoming / SOURCE).open("x", encoding="utf-8") as out:
        json.dump({**record, "files": hash_files(incoming)}, out, indent=4)
        out.flush()
        os.fsync(out.fileno())
    if load(incoming, release) is None:
        raise ArchiveError(
            f"Expected a model that can be found again, found {printable(record['model_urls'])} "
            "unpacked to none. Pack the model again, in a folder nnUNetTrainer…"
        )
    refuse_useless(task, release, incoming, final)
    open_to_readers(incoming)
    with set_aside(final, work):
        incoming.rename(final)


def refuse_useless(task: Task, release: Release | None, incoming: Path, previous: Path) -> None:
    """Refuse a model that this package cannot run, before it takes the place of another.

    Where torch and nnunetv2 are missing, a model that needs them does not replace one that runs
    without them. Else it is warned of.

    Parameters
    ----------
    task, release : Task, Release or None
        The task that is to run it, and the release in whose place it is to be.
    incoming, previous : Path
        Folder with the trainer folder, not in its place yet, and the folder that it is to replace.

    Raises
    ------
    ArchiveError
        If it cannot be run.
    """
    error = _why_not_run(task, release, incoming)
    missing = isinstance(error, MissingDependencyError)
    if missing and _why_not_run(task, release, previous):
        logger.warning("The model that is being installed cannot be run yet: %s", error)
    elif error:
        raise _useless(error, incoming) from error


def _why_not_run(task: Task, release: Release | None, folder: Path) -> RootletsError | None:
    """Return why the model of a folder cannot be run; None where it can."""
    try:
        dry_build(task, release, find_trainer_folder(folder))
    except (ModelError, LevelSourceError, MissingDependencyError) as error:
        return error
    return None


def _useless(error: Exception, incoming: Path) -> ArchiveError:
    """Return the error for a model that cannot be run, without the folder that is gone then."""
    reason = str(error)
    for path in sorted(incoming.rglob("*"), reverse=True):
        reason = reason.replace(printable(path), printable(path.relative_to(incoming)))
    reason = re.sub(_ADVICE, "", reason).rstrip(".")
    return ArchiveError(
        f"The model was not installed, because it cannot be run here: {reason}. What was "
        "installed before is untouched."
    )


def open_to_readers(folder: Path) -> None:
    """Let all users of the computer read a model's folder, and its owner alone change it.

    With ``SCT_ROOTLETS_SHARED`` set to 0 it is left as the umask made it.
    """
    if environment.denies(environment.SHARED):
        return
    for path in (folder, *folder.rglob("*")):
        with contextlib.suppress(OSError):  # a disk that knows no modes
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                path.chmod(mode & stat.S_ISGID | 0o755)
            elif stat.S_ISREG(mode):
                path.chmod(0o644)


@contextlib.contextmanager
def workspace(root: Path, slot: str, retry: RetryPolicy) -> Iterator[Path]:
    """Give the installer's own folder for a model, alone, after the leftovers of killed runs.

    Parameters
    ----------
    root, slot : Path, str
        The model root, made when missing, and the name of the model's folder in it.
    retry : RetryPolicy
        How long to wait for another process.

    Raises
    ------
    InstallError
        If another process does not end, or the disk refuses.
    """
    work = root / WORK / slot
    try:
        _refuse_links(root / WORK, work, work / "lock")
        _make_folders(root, work)
        with _lock(work / "lock", slot, retry.lock):
            _repair(root / slot, work)
            try:
                yield work
            finally:
                _clear(work)
    except RootletsError:
        raise
    except (OSError, ValueError) as error:  # a name that the disk cannot write is a ValueError
        raise InstallError(_what_to_do(root, error)) from error


def _make_folders(root: Path, work: Path) -> None:
    """Make the model root and the installer's folders in it, readable by others.

    Missing folders above the root may be entered by others. What is there stays as it is.
    """
    missing = [path for path in (work, *work.parents) if not os.path.lexists(path)]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            path.mkdir()
            if not environment.denies(environment.SHARED):
                more = 0o055 if path.is_relative_to(root) else 0o011
                with contextlib.suppress(OSError):
                    path.chmod(stat.S_IMODE(path.stat().st_mode) | more)
    work.mkdir(parents=True, exist_ok=True)


def _refuse_links(*paths: Path) -> None:
    """Refuse to work through links, which somebody else has put into a shared model root."""
    for path in paths:
        if path.is_symlink():
            raise InstallError(
                f"Expected a folder or file of the installer at {printable(path)}, found a link. "
                "Remove it, and find out who made it."
            )


@contextlib.contextmanager
def set_aside(final: Path, work: Path) -> Iterator[Path]:
    """Clear the place of a model for another installer; if that fails, what was there comes back.

    Parameters
    ----------
    final : Path
        Folder of the model.
    work : Path
        What :func:`workspace` gave for it.

    Yields
    ------
    Path
        Where the model is meanwhile, if there is one.
    """
    previous = work / f"{PREVIOUS}{uuid.uuid4().hex}"
    replaced = os.path.lexists(final)
    if replaced:
        final.rename(previous)
    try:
        yield previous
    except BaseException:
        if os.path.lexists(final):
            _discard(final, work)
        if replaced:
            previous.rename(final)
        raise
    if replaced:
        _discard(previous, work)


def _repair(final: Path, work: Path) -> None:
    """Finish or undo the swap of a killed process, and remove what it left."""
    for previous in sorted(work.glob(f"{PREVIOUS}*")):
        if not _is_model(final) and _is_model(previous):
            logger.warning("Putting back %s, which a killed installation had moved.", final.name)
            if os.path.lexists(final):
                _discard(final, work)
            previous.rename(final)
        else:
            _discard(previous, work)
    _clear(work)


def _is_model(folder: Path) -> bool:
    try:
        return load(folder) is not None
    except ClosedModelError:
        return True


def _tidy(root: Path, slot: str) -> None:
    """Remove what a killed run has left, unless another process is at work or nothing may be."""
    leftovers = (_INCOMING, _TRASH, PREVIOUS, f".{_INCOMING}")
    work = root / WORK / slot
    with contextlib.suppress(OSError):  # an InstallError is one, too
        if work.is_dir() and any(path.name.startswith(leftovers) for path in work.iterdir()):
            with workspace(root, slot, RetryPolicy(lock=0)):
                pass


def _discard(path: Path, work: Path) -> None:
    # Renamed first: whatever has its name is complete, also for a reader in the midst of this.
    trash = work / f"{_TRASH}{uuid.uuid4().hex}"
    path.rename(trash)
    _remove(trash)


def _clear(work: Path) -> None:
    for path in work.iterdir():
        if path.name.startswith((_INCOMING, _TRASH, f".{_INCOMING}")):
            _remove(path)


def _remove(path: Path) -> None:
    """Remove what lies in the installer's folder, however deep and whatever its modes.

    Folders inside are moved up beside `path` first, so that depth and length of paths do not
    matter. What cannot be removed now (open files on some systems) goes with the next installation.
    """
    pending = [path]
    while pending:
        top = pending.pop()
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(top.lstat().st_mode):
                pending += _emptied(top)
            else:
                top.unlink()


def _emptied(folder: Path) -> Iterator[Path]:
    """Remove a folder and its files; yield where the folders in it have been moved."""
    _allow(folder)
    for path in list(folder.iterdir()):
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(path.lstat().st_mode):
                _allow(path)  # who moves a folder writes into it
                yield path.rename(folder.with_name(f"{_TRASH}{uuid.uuid4().hex}"))
            else:
                path.unlink()
    folder.rmdir()


def _allow(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's, which may be open to the group
        folder.chmod(stat.S_IMODE(folder.lstat().st_mode) | stat.S_IRWXU)


@contextlib.contextmanager
def _lock(path: Path, slot: str, wait_s: float) -> Iterator[None]:
    waiting = f"Another process is installing {slot}; waiting for it."
    with contextlib.ExitStack() as stack:
        try:
            # Group-writable: in a shared model root another member of the group takes it next.
            stack.enter_context(held(path, wait_s=wait_s, mode=0o664, meanwhile=waiting))
        except TimeoutError:
            raise InstallError(
                f"Another process has been installing {slot} for more than {wait_s:g} s (lock "
                f"{printable(path)}). Try again when it is done or has been ended."
            ) from None
        yield


def _what_to_do(root: Path, error: OSError | ValueError) -> str:
    """Return the message for an error of the operating system while a model is installed."""
    where, number = printable(root), getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or printable(error)
    if root.is_relative_to(os.devnull):
        text = "There is no home folder to install models in. Name a folder"
    elif number in _NO_SPACE:
        text = f"The disk of {where} has no room for the model ({reason}). Make room, or choose "
        text += "another folder"
    elif number in _NO_PERMISSION:
        text = f"Cannot write to the model folder {where} ({reason}). Choose a folder of your own"
    else:
        name = getattr(error, "filename", None)
        text = f"The model could not be installed in {where}: {reason}"
        text += f" at {printable(name)}" if name else ""
        text += ". Try again, or choose another folder"
    return f"{text} with -model-dir FOLDER or the variable {environment.MODELS}."


def _without_network(task: Task, release: Release) -> str:
    command = f"sct_deepseg {task.name}"
    which = "" if release.tag == task.default else f" -model {release.tag}"
    text = (
        "Without a network, bring the zip to this machine and install it with "
        f"'{command} -install{which} -custom-url /path/to.zip'."
    )
    if task.fallback:
        text += (
            f" Meanwhile '{command} -model {task.fallback} -i IMAGE' runs the built-in model, "
            "which is not the published one."
        )
    return text
