"""Compiled networks, kept in the user's cache folder so that the next process starts sooner.

Compiling a network of the published size takes seconds, reading it back compiled half of that. A
file holds the checksum of what follows, and its name everything that the compiled network depends
on: weights, plans, options, OpenVINO, processor and the code that builds the graph. Whatever is
wrong with it, the network is compiled anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.files import atomic_output

logger = logging.getLogger(__name__)

WORTHWHILE_S = 0.5
"""A network that is built and compiled in less time is not kept."""
KEPT = 4
"""Files in the folder, those used last; one takes about 1.5 times the network's weights."""
_SUFFIX = ".compiled"
_DIGEST_BYTES = hashlib.sha256().digest_size


def compiled(
    make_graph: Callable[[], Any],
    options: Mapping[str, str | int],
    *,
    core: Any,
    path: Path | None,
) -> Any:
    """Return a compiled network, from the cache where it is there.

    Parameters
    ----------
    make_graph : callable
        Returns the OpenVINO model; called only when it has to be compiled.
    options : mapping
        Properties for OpenVINO's CPU plugin.
    core : openvino.Core
        OpenVINO.
    path : path or None
        Where the compiled network is kept, see :func:`path_of`; None keeps nothing. A folder that
        cannot be written to is no error.

    Returns
    -------
    openvino.CompiledModel
    """
    if path is not None and (known := _recalled(path, options, core)) is not None:
        return known
    start = time.perf_counter()
    result = core.compile_model(make_graph(), "CPU", dict(options))
    if path is not None and time.perf_counter() - start >= WORTHWHILE_S:
        _keep(result, path)
    return result


def path_of(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    core: Any,
    code: Sequence[Path],
    *described: object,
) -> Path:
    """Return a file whose name changes with everything that a compiled network depends on.

    Parameters
    ----------
    folder : path
        Where compiled networks are kept.
    arrays : mapping of str to ndarray
        Weights of the network.
    core : openvino.Core
        OpenVINO; its version and what it finds in the processor count.
    code : sequence of Path
        Source files of what builds the graph.
    *described : object
        Whatever else counts, by its ``repr``.
    """
    from openvino import get_version

    digest = hashlib.sha256()
    abilities = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    processor = core.get_property("CPU", "FULL_DEVICE_NAME")
    digest.update(repr((get_version(), processor, abilities, described)).encode())
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


def _recalled(path: Path, options: Mapping[str, str | int], core: Any) -> Any | None:
    """Return a kept network, None where there is none, or none that is whole."""
    from openvino import Tensor

    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError):  # not there, not to be read, or empty
        return None
    blob = content[_DIGEST_BYTES:]
    if hashlib.sha256(blob.data).digest() != content[:_DIGEST_BYTES].tobytes():
        logger.info("%s is damaged; the network is compiled anew.", path)
        return None
    try:
        result = core.import_model(Tensor(blob), "CPU", dict(options))
    except RuntimeError as error:
        logger.info("OpenVINO does not take %s (%s); the network is compiled anew.", path, error)
        return None
    with contextlib.suppress(OSError):
        path.touch()  # used last
    return result


def _keep(network: Any, path: Path) -> None:
    """Write a compiled network, and remove those not used for the longest time."""
    blob = network.export_model().getbuffer()
    try:
        with atomic_output(path) as temporary, temporary.open("wb") as stream:
            stream.write(hashlib.sha256(blob).digest())
            stream.write(blob)
    except OutputError as error:
        logger.info("The compiled network is not kept: %s", error)
        return
    for old in sorted(path.parent.glob(f"*{_SUFFIX}"), key=_last_used)[:-KEPT]:
        with contextlib.suppress(OSError):
            old.unlink()


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process was faster
        return 0.0
