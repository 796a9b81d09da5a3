"""Installing our models into SCT's folder without losing the one that is there.

SCT deletes a model before it downloads the next one, and accepts addresses only. For our models:

- the old folder is moved aside and comes back when the download fails;
- jobs that start together take turns;
- a zip file on this machine is accepted;
- a built-in model is copied.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import DownloadError, InstallError, RootletsError, UsageError
from sct_rootlets_task.io.atomic import hash_file
from sct_rootlets_task.io.untrusted import missing_content, printable
from sct_rootlets_task.models.archive import SOURCE, unpack_model
from sct_rootlets_task.models.download import (
    RetryPolicy,
    is_remote,
    local_path,
    refuse_if_offline,
)
from sct_rootlets_task.models.install import (
    open_to_readers,
    refuse_useless,
    set_aside,
    workspace,
)
from sct_rootlets_task.models.installed import load, read_source
from sct_rootlets_task.sct_plugin.task_tables import BUILT_IN_URL, Entry
from sct_rootlets_task.tasks import BUNDLED

logger = logging.getLogger(__name__)


def install(entry: Entry, folder: Path, custom: Sequence[str], by_sct: Callable[[], Any]) -> Any:
    """Install the model of one of our entries where SCT looks for it.

    Parameters
    ----------
    entry : Entry
        Task and model.
    folder : Path
        SCT's folder for the model.
    custom : sequence of str
        Arguments of ``-custom-url``; empty for the model's own address.
    by_sct : callable
        SCT's own installation of this model.

    Raises
    ------
    UsageError
        If a built-in model is to come from somewhere else.
    DownloadError
        If SCT could not fetch it.
    ArchiveError
        If a zip file holds no model, or what was installed cannot be run.
    InstallError
        If SCT's folder cannot be written. After any error the model that was there is untouched,
        and a run (not ``-install``) goes on with it where only its record is missing.
    """
    if entry.release.bundled and custom:
        raise UsageError(
            f"-custom-url cannot replace the built-in model {entry.release.tag!r}. Install "
            f"another one for the task {entry.task.name!r}."
        )
    before = _stamp(folder)
    try:
        with workspace(folder.parent, folder.name, RetryPolicy()) as work:
            if not custom and _stamp(folder) not in (None, before):
                logger.info("Another process has just installed %s.", entry.model)
                return None
            with set_aside(folder, work) as previous:
                result = _fill(entry, folder, custom, by_sct)
                refuse_useless(entry.task, entry.release, folder, previous)
                open_to_readers(folder)
                return result
    except InstallError as error:
        if not custom and not _is_asked_for() and _is_unidentified(folder):
            logger.warning(
                "Where the model in %s came from is unknown: it has no source.json, and the "
                "published one cannot be installed now. It is used as it is.",
                printable(folder),
            )
            return None
        if type(error) is not InstallError or not isinstance(error.__cause__, OSError):
            raise
        raise InstallError(
            f"Cannot install into SCT's model folder {folder.parent} ({error.__cause__}). Let "
            f"someone who may write there install the task {entry.name!r} once."
        ) from error


def _fill(entry: Entry, folder: Path, custom: Sequence[str], by_sct: Callable[[], Any]) -> Any:
    if entry.release.bundled:
        shutil.copytree(BUNDLED / entry.release.bundled, folder)
        url = f"{BUILT_IN_URL}#{entry.release.bundled}"
        return _write_source(entry, folder, url)
    if len(custom) == 1 and not is_remote(custom[0]):
        archive = _path_of(custom[0])
        folder.mkdir()
        unpack_model(archive, folder)
        logger.info("Installed %s from %s", entry.model, printable(archive))
        url = os.path.abspath(archive)  # noqa: PTH100 – takes ".." out, follows no link
        return _write_source(entry, folder, url, archive)
    try:
        refuse_if_offline(custom or entry.release.urls)
        return by_sct()
    except Exception as error:
        # SCT has logged why the download failed; its exception adds nothing.
        reason = f"{error}\n" if isinstance(error, RootletsError) else ""
        raise DownloadError(f"{reason}{_without_network(entry)}") from error


def _is_asked_for() -> bool:
    """Return whether the user wants an installation, not a run that needs one."""
    return any(word.startswith("-install") for word in sys.argv[1:])


def _is_unidentified(folder: Path) -> bool:
    """Return whether a folder holds a complete model without a record of its origin."""
    return read_source(folder) is None and load(folder) is not None


def _path_of(url: str) -> Path:
    reason = f"there is no file {printable(url)}"
    with contextlib.suppress(OSError, RuntimeError):  # a name too long, no such user
        try:
            path = local_path(url)
        except ValueError as error:
            reason = printable(error)
        else:
            if path.is_file():
                return path
            reason = missing_content(path) or reason
    raise UsageError(f"-custom-url: {reason}. Check the path.")


def _write_source(entry: Entry, folder: Path, url: str, archive: Path | None = None) -> None:
    """Write the record by which SCT knows whether a model is up to date."""
    record = {"model_name": entry.model, "model_urls": url, "custom": archive is not None}
    if archive is not None:
        record["sha256"] = hash_file(archive)
    (folder / SOURCE).write_text(json.dumps(record, indent=4), encoding="utf-8")


def _stamp(folder: Path) -> int | None:
    """Return when a model was installed, None for no model."""
    try:
        return (folder / SOURCE).stat().st_mtime_ns
    except OSError:
        return None


def _without_network(entry: Entry) -> str:
    task = entry.task
    text = (
        f"The model of the task {entry.name!r} could not be fetched. Without a network, bring its "
        f"zip file to this machine and run 'sct_deepseg {entry.name} -install -custom-url "
        "/path/to.zip'."
    )
    if task.fallback and task.legacy_of is None:
        text += (
            f" Meanwhile 'sct_deepseg {task.name}_{task.fallback} -i IMAGE' runs the built-in "
            "model, which is not the published one."
        )
    return text
