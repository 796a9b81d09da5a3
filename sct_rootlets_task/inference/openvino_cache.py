"""Compiled networks, kept in the user's cache folder so that the next process starts sooner.

A file's name is the checksum of all that the compiled network depends on, and the file ends with
its own. Whatever is wrong with it, the network is compiled anew. A compiled network is code, so it
lies in a folder that nobody else can write to. A file is mapped, not read: OpenVINO copies the
weights, so its pages can leave the memory.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import mmap
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.environment import CACHE
from sct_rootlets_task.inference.failures import short_reason
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.io.atomic import atomic_output
from sct_rootlets_task.io.untrusted import (
    open_regular,
    printable,
    why_folder_not_ours,
    why_not_ours,
)

logger = logging.getLogger(__name__)

WORTHWHILE_S = 0.5
"""A network that is built and compiled in less time is not kept."""
KEPT = 4
"""Files that stay in the folder, those used last; one takes 1.5 times the network's weights."""
IN_USE_S = 24 * 60 * 60.0
"""A file used within this time may still be mapped by another process, and is not removed."""
_SUFFIX = ".compiled"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Compiled:
    """A compiled network (openvino.CompiledModel), and memory that has to live as long."""

    network: Any
    memory: object = None


def compiled(
    make_graph: Callable[[], Any],
    options: Mapping[str, str | int],
    *,
    core: Any,
    path: Path | None,
) -> Compiled:
    """Return a compiled network, from the cache where it is there.

    Parameters
    ----------
    make_graph : callable
        Returns the OpenVINO model. Called only when it has to be compiled.
    options : mapping
        Properties for OpenVINO's CPU plugin.
    core : openvino.Core
        OpenVINO.
    path : Path or None
        File from :func:`path_of`; None keeps nothing. A folder that cannot be written to is no
        error. One that others can write to is warned of and not used.
    """
    # Without links, so that it is looked at and used under one name.
    path = path and Path(os.path.realpath(path.parent)) / path.name
    if path is not None and (known := _recalled(path, options, core)) is not None:
        return known
    start = time.perf_counter()
    result = core.compile_model(make_graph(), "CPU", dict(options))
    if path is not None and time.perf_counter() - start >= WORTHWHILE_S:
        _keep(result, path)
    return Compiled(result)


def path_of(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    core: Any,
    code: Sequence[Path],
    *described: object,
) -> Path:
    """Return a file in a folder whose name changes with all that a compiled network depends on.

    Parameters
    ----------
    folder : Path
        Where compiled networks are kept.
    arrays : mapping of str to ndarray
        Weights of the network.
    core : openvino.Core
        OpenVINO. Its version and what it finds in the processor count.
    code : sequence of Path
        Source files of what builds the graph.
    *described : object
        Whatever else counts, by its ``repr``.
    """
    digest = hashlib.sha256()
    abilities = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    processor = core.get_property("CPU", "FULL_DEVICE_NAME")
    digest.update(repr((import_openvino().get_version(), processor, abilities, described)).encode())
    for path in code:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    known: dict[tuple[object, ...], bytes] = {}  # nnU-Net names most tensors twice
    for name in sorted(arrays):
        array = arrays[name]
        place = (array.__array_interface__["data"], array.strides, array.shape, array.dtype.str)
        if place not in known:
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            known[place] = hashlib.sha256(content.data).digest()
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(known[place])
    return folder / (digest.hexdigest()[:32] + _SUFFIX)


def _recalled(path: Path, options: Mapping[str, str | int], core: Any) -> Compiled | None:
    """Return a kept network, None where there is none, or none that is whole."""
    if (content := _mapped(path)) is None:
        return None
    if not _is_whole(content):
        content.close()
        _give_up(path, "is damaged")
        return None
    blob = np.frombuffer(content, dtype=np.uint8)[:-_DIGEST_BYTES]
    tensor = import_openvino().Tensor(blob, shared_memory=True)
    try:
        network = core.import_model(tensor, "CPU", dict(options))
    except RuntimeError as error:
        _give_up(path, f"is not taken by OpenVINO ({short_reason(error)})")
        return None
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        content.madvise(mmap.MADV_DONTNEED)
    with contextlib.suppress(OSError):
        path.touch()  # used last
    return Compiled(network, blob)


def _give_up(path: Path, why: str) -> None:
    """Remove a file that no process can use."""
    logger.info("%s %s; the network is compiled anew.", path, why)
    with contextlib.suppress(OSError):
        path.unlink()


def _mapped(path: Path) -> mmap.mmap | None:
    """Map a file that only the user can have written; None where there is none."""
    try:
        with open_regular(path, follow=False) as stream:
            reason = why_folder_not_ours(path.parent)
            if reason is None and (reason := why_not_ours(os.fstat(stream.fileno()))):
                reason = f"{printable(path)} {reason}"
            # OpenVINO takes no memory that it may not write to, though it does not.
            if reason is None:
                return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as error:  # not there, not to be read, or empty
        is_link = getattr(error, "errno", 0) == errno.ELOOP
        reason = f"{printable(path)} is a link" if is_link else None
    if reason:
        _warn(path.parent, reason)
    return None


@functools.cache
def _warn(folder: Path, reason: str) -> None:
    """Say once that the folder, or a file in it, is open to others."""
    logger.warning(
        "A compiled network in %s is not used, because others could have put it there: %s. Name a "
        "new folder in your home folder with %s.",
        printable(folder),
        reason,
        CACHE,
    )


def _make_private(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for the user alone."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            path.mkdir(mode=0o700)


def _is_whole(content: mmap.mmap) -> bool:
    with memoryview(content) as view:
        digest = hashlib.sha256(view[:-_DIGEST_BYTES]).digest()
        return digest == view[-_DIGEST_BYTES:]


def _keep(network: Any, path: Path) -> None:
    """Write a compiled network, and remove those not used for a long time."""
    if (content := _mapped(path)) is not None:
        with content:
            if _is_whole(content):
                return  # another process was faster, and a third one may have mapped it
    try:
        _make_private(path.parent)
        if reason := why_folder_not_ours(path.parent):
            _warn(path.parent, reason)
            return
        blob = network.export_model().getbuffer()
        with atomic_output(path) as temporary, temporary.open("wb") as stream:
            temporary.chmod(0o600)  # where the umask leaves it open to a group, it is not used
            stream.write(blob)
            stream.write(hashlib.sha256(blob).digest())
    except (OSError, RuntimeError, MemoryError) as error:
        logger.info("The compiled network is not kept: %s", short_reason(error))
        return
    for old in sorted(path.parent.glob(f"*{_SUFFIX}"), key=_last_used)[:-KEPT]:
        if time.time() - _last_used(old) > IN_USE_S:
            with contextlib.suppress(OSError):
                old.unlink()


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process was faster
        return 0.0
