"""Read the weights of a PyTorch checkpoint as data.

``torch.load``, as nnU-Net calls it, executes whatever a checkpoint names. This reader needs no
torch and calls nothing that a checkpoint names, see :mod:`.pickled`. It reads the zip format that
``torch.save`` writes since torch 1.6, and makes numpy arrays of the tensors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference.pickled import PickleReader, StoredTensor, plain
from sct_rootlets_task.inference.torch_zip import TorchZip
from sct_rootlets_task.io.untrusted import missing_content, open_regular, printable, reason_of

_BYTE_ORDERS = {b"little": "<", b"big": ">"}


class Checkpoint:
    """A checkpoint that is read as far as it is needed, its description once.

    Parameters
    ----------
    path : Path
        File written by ``torch.save`` (zip format).
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, parts: Collection[str] | None = None) -> dict[str, Any]:
        """Return the content, its tensors as numpy arrays.

        Parameters
        ----------
        parts : collection of str, optional
            Entries to return if present; tensors of others are not read. All by default.

        Returns
        -------
        dict
            The saved dictionary, made of Python's own types. Tensors have the stored dtype and
            shape; bfloat16 ones are widened to float32, exactly.

        Raises
        ------
        ModelError
            If the file is no such checkpoint, is damaged, or names anything but data.
        """
        description = self._description
        with self._opened() as archive:
            if archive.sizes != description.sizes:
                raise ValueError("it has changed while it was read")
            storages = _Storages(archive, f"{description.root}data/", description.order)
            content = plain(description.loaded, storages.array, parts)
        if not isinstance(content, dict):
            raise ModelError(
                f"Expected a dictionary in {printable(self.path)}, found "
                f"{type(content).__name__}. Install the model again."
            )
        return content

    @cached_property
    def _description(self) -> _Description:
        with self._opened() as archive:
            return _described(archive)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[TorchZip]:
        try:
            if not (self.path.is_file() or missing_content(self.path)):
                raise ModelError(
                    f"Expected a checkpoint, found no file {printable(self.path)}. Install the "
                    "model again."
                )
            with open_regular(self.path) as stream:
                yield TorchZip(stream)
        except ModelError:
            raise
        except (ValueError, OSError, MemoryError) as error:
            reason = reason_of(error, "it is too large for the memory")
            raise ModelError(
                f"The checkpoint {printable(self.path)} cannot be read: {reason}. Install the "
                "model again, from a source you trust."
            ) from error


@dataclass(frozen=True)
class _Description:
    """What a checkpoint holds: members and their bytes, folder, byte order, and the pickle's."""

    sizes: Mapping[str, int]
    root: str
    order: str
    loaded: Any


def _described(archive: TorchZip) -> _Description:
    names = [name for name in archive.sizes if name.endswith("/data.pkl")]
    if len(names) != 1:
        raise ValueError("it is a zip file with other content than torch.save writes")
    root = names[0].removesuffix("data.pkl")
    data = f"{root}data/"
    sizes = {
        name.removeprefix(data): size
        for name, size in archive.sizes.items()
        if name.startswith(data)
    }
    loaded = PickleReader(archive.read(names[0]), sizes).load()
    return _Description(archive.sizes, root, _byte_order(archive, f"{root}byteorder"), loaded)


def _byte_order(archive: TorchZip, name: str) -> str:
    order = archive.read(name) if name in archive.sizes else b"little"
    if order not in _BYTE_ORDERS:
        raise ValueError("its byte order is neither 'little' nor 'big'")
    return _BYTE_ORDERS[order]


class _Storages:
    """The numbers of a checkpoint's tensors; each storage is read once, when it is needed."""

    def __init__(self, archive: TorchZip, folder: str, order: str) -> None:
        self._archive = archive
        self._folder = folder
        self._order = order
        self._read: dict[str, np.ndarray] = {}

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
