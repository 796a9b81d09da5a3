"""Read the weights of a PyTorch checkpoint as data.

``torch.load(weights_only=False)``, which nnU-Net uses, executes whatever a checkpoint names, and
``weights_only=True`` takes no allow-list before torch 2.4. This reader needs no torch and calls
nothing that a checkpoint names, see :mod:`.pickled`. It understands the zip format that
``torch.save`` writes since torch 1.6, and makes numpy arrays of the tensors.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.network.pickled import PickleReader, StoredTensor, plain
from sct_rootlets_task.network.torch_zip import TorchZip

_BYTE_ORDERS = {b"little": "<", b"big": ">"}


def read_checkpoint(path: Path, parts: Collection[str] | None = None) -> dict[str, Any]:
    """Return the content of a checkpoint, its tensors as numpy arrays.

    Parameters
    ----------
    path : Path
        File written by ``torch.save`` (zip format).
    parts : collection of str, optional
        Entries to return, where they are there; tensors of others are not read. All by default.

    Returns
    -------
    dict
        The saved dictionary, made of Python's own types. Tensors are ndarrays of the stored dtype
        and shape; bfloat16 ones are widened to float32, exactly.

    Raises
    ------
    ModelError
        If the file is no such checkpoint, is damaged, or names anything but data.
    """
    if not path.is_file():
        raise ModelError(f"Expected a checkpoint, found no file {path}. Install the model again.")
    try:
        with path.open("rb") as stream:
            return _content(TorchZip(stream), path, parts)
    except (ValueError, OSError, MemoryError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(
            f"The checkpoint {path} cannot be read: {error or 'it is too large for the memory'}. "
            "Install the model again, from a source you trust."
        ) from error


def _content(archive: TorchZip, path: Path, parts: Collection[str] | None) -> dict[str, Any]:
    described = [name for name in archive.sizes if name.endswith("/data.pkl")]
    if len(described) != 1:
        raise ValueError("it is a zip file with other content than torch.save writes")
    storages = _Storages(archive, described[0].removesuffix("data.pkl"))
    loaded = PickleReader(archive.read(described[0]), storages.sizes).load()
    content = plain(loaded, storages.array, parts)
    if not isinstance(content, dict):
        raise ModelError(
            f"Expected a dictionary in {path}, found {type(content).__name__}. Install the model "
            "again."
        )
    return content


class _Storages:
    """The numbers of a checkpoint's tensors; each storage is read once, when it is needed."""

    def __init__(self, archive: TorchZip, root: str) -> None:
        self._archive = archive
        self._folder = f"{root}data/"
        order = archive.read(f"{root}byteorder") if f"{root}byteorder" in archive.sizes else None
        if order not in (None, *_BYTE_ORDERS):
            raise ValueError("its byte order is neither 'little' nor 'big'")
        self._order = _BYTE_ORDERS[order or b"little"]
        self._read: dict[str, np.ndarray] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each storage."""
        return {
            name.removeprefix(self._folder): size
            for name, size in self._archive.sizes.items()
            if name.startswith(self._folder)
        }

    def array(self, tensor: StoredTensor) -> np.ndarray:
        """Return a tensor as a view of its storage."""
        storage = tensor.storage
        if storage.key not in self._read:
            raw = self._archive.read(self._folder + storage.key)
            self._read[storage.key] = _decode(raw, storage.kind, self._order)
        numbers = self._read[storage.key]
        if 0 in tensor.shape:
            return np.empty(tensor.shape, numbers.dtype)
        strides = tuple(step * numbers.itemsize for step in tensor.strides)
        return np.lib.stride_tricks.as_strided(
            numbers[tensor.offset :], tensor.shape, strides, writeable=False
        )


def _decode(raw: bytes, kind: str, order: str) -> np.ndarray:
    """Return numbers in this machine's byte order."""
    if kind == "bf2":
        return (np.frombuffer(raw, f"{order}u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(raw, f"{order}{kind}").astype(np.dtype(kind), copy=False)
