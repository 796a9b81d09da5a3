"""Read the weights of a PyTorch checkpoint without running any code from it.

``torch.load(weights_only=False)``, which nnU-Net uses, executes whatever a checkpoint names, and
``weights_only=True`` takes no allow-list before torch 2.4. This reader is stricter than either and
needs no torch: it understands the zip format that ``torch.save`` writes since torch 1.6, makes
numpy arrays of the tensors, and refuses every global that is not on a short list of data
constructors.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from sct_rootlets_task.errors import ModelError

_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, its tensors as numpy arrays.

    Parameters
    ----------
    path : Path
        File written by ``torch.save`` (zip format).

    Returns
    -------
    dict
        The saved dictionary. Tensors are read-only ndarrays of the stored dtype and shape;
        bfloat16 ones are widened to float32, exactly.

    Raises
    ------
    ModelError
        If the file is no such checkpoint, is damaged, or names anything but data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(pickled) != 1:
                raise ModelError(
                    f"Expected a checkpoint in torch's zip format, found a zip with other content: "
                    f"{path}. Install the model again."
                )
            root = pickled[0].removesuffix("data.pkl")
            with archive.open(pickled[0]) as stream:
                content = _CheckpointReader(stream, archive, root, path).load()
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"The checkpoint {path} cannot be read ({error}). Install the model again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"Expected a dictionary in {path}, found {type(content).__name__}.")
    return content


class _CheckpointReader(pickle.Unpickler):
    """Unpickler that can make arrays, containers and plain values, and nothing else."""

    def __init__(self, stream: IO[bytes], archive: zipfile.ZipFile, root: str, path: Path) -> None:
        super().__init__(stream)
        self._archive = archive
        self._root = root
        self._path = path
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name in _STORAGES:
            return _STORAGES[name]
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise ModelError(
                f"The checkpoint {self._path} refers to {module}.{name}, which is not plain data "
                "and could run code; it was not loaded. Use a model from a source you trust, "
                "saved by nnU-Net."
            ) from None

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _location, size = pid
        if kind != "storage" or not isinstance(dtype, str):
            raise ModelError(f"The checkpoint {self._path} holds an unknown object: {pid!r}.")
        if key not in self._storages:
            raw = self._archive.read(f"{self._root}data/{key}")
            self._storages[key] = _decode(raw, dtype)[: int(size)]
        return self._storages[key]


def _decode(raw: bytes, dtype: str) -> np.ndarray:
    if dtype == "bfloat16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, dtype)


def _rebuild_tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """Stand in for ``torch._utils._rebuild_tensor_v2``; strides count elements."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    if min(offset, *stride, 0) < 0 or last >= storage.size:
        raise ModelError("A tensor of the checkpoint reaches beyond its data. Install it again.")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides, writeable=False)


def _rebuild_parameter(data: np.ndarray, *_: Any) -> np.ndarray:
    return data


def _numpy_scalar(dtype: np.dtype[Any], raw: bytes) -> Any:
    if dtype.hasobject:
        raise ModelError("The checkpoint holds a numpy object, which is not plain data.")
    return np.frombuffer(raw, dtype, count=1)[0]


def _numpy_dtype(name: str, *_: Any) -> np.dtype[Any]:
    return np.dtype(name)


def _encode(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *words: ":".join(map(str, words)),
    ("numpy", "dtype"): _numpy_dtype,
    ("numpy.core.multiarray", "scalar"): _numpy_scalar,
    ("numpy._core.multiarray", "scalar"): _numpy_scalar,
    ("_codecs", "encode"): _encode,
}
