"""Write checkpoints in torch's format without torch, as they are or with faults."""

from __future__ import annotations

import io
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


@dataclass(frozen=True)
class Raw:
    """Steps of a pickle, in the place of a value."""

    steps: bytes


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def dtype(kind: str, state: bytes | None = None, flags: bytes = b"\x89\x88") -> bytes:
    """Give the steps for numpy's dtype, with its state."""
    plain = b"(K\x03" + text("<") + b"NNN" + integer(-1) * 2 + integer(0) + b"t"
    made = name("numpy", "dtype") + b"(" + text(kind) + flags + b"tR"
    return made + (plain if state is None else state) + b"b"


def scalar(value: Any, module: str = "numpy.core.multiarray") -> bytes:
    raw = call("_codecs", "encode", text(value.tobytes().decode("latin-1")), text("latin1"))
    return call(module, "scalar", dtype(value.dtype.str[1:]), raw)


def storage(kind: str, key: str, count: bytes) -> bytes:
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + count + b"tQ"


EMPTY_ORDERED = name("collections", "OrderedDict") + b")R"


def tensor(stored: bytes, offset: bytes, shape: bytes, strides: bytes, rest: bytes = b"") -> bytes:
    """Give the steps for a tensor; shape and strides with their tuple."""
    hooks = b"\x89" + EMPTY_ORDERED
    arguments = (stored, offset, shape, strides, hooks + rest)
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def tuple_of(*values: int) -> bytes:
    return b"(" + b"".join(map(integer, values)) + b"t"


class Saver:
    """Turns values into a pickle and its storages."""

    def __init__(self) -> None:
        self.storages: dict[str, bytes] = {}
        self._keys: dict[int, str] = {}

    def steps(self, value: Any) -> bytes:
        """Return the steps that make a value."""
        if isinstance(value, Raw):
            return value.steps
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, np.generic):
            return scalar(value)
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, int):
            return integer(value)
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return text(value)
        return self.container(value)

    def container(self, value: Any) -> bytes:
        if isinstance(value, (list, tuple)):
            inner = b"".join(map(self.steps, value))
            return b"](" + inner + b"e" if isinstance(value, list) else b"(" + inner + b"t"
        inner = b"".join(self.steps(key) + self.steps(item) for key, item in value.items())
        if isinstance(value, OrderedDict):
            state = b"}" + text("_metadata") + EMPTY_ORDERED + b"s"
            return EMPTY_ORDERED + b"(" + inner + b"u" + state + b"b"
        return b"}(" + inner + b"u"

    def array(self, value: np.ndarray) -> bytes:
        key = self._keys.setdefault(id(value), str(len(self._keys)))
        self.storages[key] = value.tobytes()
        stored = storage(_STORAGES[value.dtype.name], key, integer(value.size))
        strides = tuple_of(*(step // value.itemsize for step in value.strides))
        return tensor(stored, integer(0), tuple_of(*value.shape), strides)


def members(content: Any, root: str = "archive") -> dict[str, bytes]:
    """Return the files of a checkpoint."""
    saver = Saver()
    pickled = b"\x80\x02" + saver.steps(content) + b"."
    data = {f"{root}/data/{key}": raw for key, raw in saver.storages.items()}
    extra = {f"{root}/byteorder": b"little", f"{root}/version": b"3\n"}
    return {f"{root}/data.pkl": pickled} | extra | data


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of stored files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in files.items():
            archive.writestr(zipfile.ZipInfo(member), content)
    return buffer.getvalue()


def save(content: Any, path: Path) -> Path:
    """Write a checkpoint."""
    path.write_bytes(packed(members(content)))
    return path


def from_steps(steps: bytes, data: Mapping[str, bytes] | None = None) -> bytes:
    """Return a checkpoint whose one entry `x` is made by some steps of a pickle."""
    files = members({"x": Raw(steps)})
    return packed(files | {f"archive/data/{key}": raw for key, raw in (data or {}).items()})
