"""Levels as the networks give them, before post-processing: in memory, and kept in a file.

All that takes long is behind them, so that another post-processing needs no network.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.io.atomic import json_bytes
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.io.untrusted import open_regular, printable

logger = logging.getLogger(__name__)

_FORMAT = 1
_LABELS, _LOCATED, _KNOWN = "labels", "located", "known"


@dataclass(frozen=True)
class Step:
    """What one step of the post-processing changed."""

    name: str
    voxels_changed: int


@dataclass(frozen=True)
class Ran:
    """What ran a network: engine, device and precision, as the sidecar names them."""

    engine: str
    device: str
    precision: str


@dataclass(frozen=True, eq=False)
class Assigned:
    """Levels of an image before hooks and options.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel that the model found, on the input's grid; 0 is background.
    ran : Ran
        What ran the network.
    level_weight : float
        See :class:`~sct_rootlets_task.rootlets.postprocess.HookContext`.
    steps : tuple of Step
        What was done so far.
    seconds : dict of str to float
        Wall time of each stage; not kept in the file.
    tiles : tuple of (int, int)
        Tiles of the network that were run, and tiles there are.
    warnings : tuple of str
        What may have misled the networks.
    level_warnings : tuple of str
        Why the levels may be wrong, if there are any.
    located : ndarray of uint8, shape (i, j, k), optional
        Level of each voxel of the canal, where the labels do not come from it.
    """

    labels: np.ndarray
    ran: Ran
    level_weight: float = 1.0
    steps: tuple[Step, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    tiles: tuple[int, int] = (0, 0)
    warnings: tuple[str, ...] = ()
    level_warnings: tuple[str, ...] = ()
    located: np.ndarray | None = None

    __repr__ = short_repr


def assigned_bytes(assigned: Assigned) -> bytes:
    """Return what :func:`read_assigned` reads: the same bytes for the same levels.

    Parameters
    ----------
    assigned : Assigned
        Levels of an image.
    """
    ran = assigned.ran
    known = {
        "format": _FORMAT,
        "ran": [ran.engine, ran.device, ran.precision],
        "level_weight": assigned.level_weight,
        "steps": [[step.name, step.voxels_changed] for step in assigned.steps],
        "tiles": list(assigned.tiles),
        "warnings": list(assigned.warnings),
        "level_warnings": list(assigned.level_warnings),
    }
    arrays = {_LABELS: assigned.labels, _KNOWN: np.frombuffer(json_bytes(known), dtype=np.uint8)}
    if assigned.located is not None:
        arrays[_LOCATED] = assigned.located
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def read_assigned(path: Path) -> Assigned | None:
    """Read levels that were kept; None where the file is missing, damaged or of another version.

    Parameters
    ----------
    path : Path
        File of the bytes that :func:`assigned_bytes` gave.
    """
    try:
        with open_regular(path) as stream, np.load(stream, allow_pickle=False) as arrays:
            return _assigned(arrays)
    except (
        *(OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError),
        *(MemoryError, zipfile.BadZipFile, zlib.error),
    ) as error:
        logger.debug("No levels can be read from %s (%s).", printable(path), error)
        return None


def _assigned(arrays: Mapping[str, np.ndarray]) -> Assigned:
    """Return levels from what a file holds; an error where a part is not what it has to be."""
    known: dict[str, Any] = json.loads(arrays[_KNOWN].tobytes())
    if known["format"] != _FORMAT:
        raise ValueError(f"format {known['format']}")
    labels = _levels(arrays[_LABELS])
    located = _levels(arrays[_LOCATED]) if _LOCATED in arrays else None
    if located is not None and located.shape != labels.shape:
        raise ValueError(f"shapes {labels.shape} and {located.shape}")
    run, there = known["tiles"]
    return Assigned(
        labels,
        Ran(*map(str, known["ran"])),
        float(known["level_weight"]),
        tuple(Step(str(name), int(changed)) for name, changed in known["steps"]),
        tiles=(int(run), int(there)),
        warnings=tuple(map(str, known["warnings"])),
        level_warnings=tuple(map(str, known["level_warnings"])),
        located=located,
    )


def _levels(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3:
        raise ValueError(f"levels of type {array.dtype} and shape {array.shape}")
    return array
