"""A reader of pickles that can make data and nothing else.

A pickle is a program. This module runs the small part of that language that checkpoints of nnU-Net
use, on its own stack. A name of a class or function becomes a :class:`_Maker` of the table
:data:`_MAKERS`, never an object of Python; a call is checked against it before anything is made.
Everything else is refused.

Containers are filled before they are put into another one, as pickles written by Python do. So
there are no cycles, and the depth of each is known.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 2**24
MOST_STEPS = 4_000_000
MOST_CONTAINERS = 600_000
MOST_DEPTH = 60
MOST_KEYS = 20_000
"""Entries of one dictionary, or members of one set."""
MOST_KEYS_IN_ALL = 200_000
MOST_MADE = 2**22
"""Characters, bytes and items that all calls together are given."""
_MOST_INTEGER_BYTES = 16
_MOST_AXES = 8
_MOST_NAME = 300
_MOST_KEY = 2**31
"""Bound of keys that are numbers. Python's hashes of small numbers differ from each other."""
_MOST_DEVICE = 100
_MOST_ENCODED = 2**16
_DAMAGED = "its description is damaged"

_ITEM_BYTES = {"f8": 8, "f4": 4, "f2": 2, "bf2": 2, "i8": 8, "i4": 4, "i2": 2, "i1": 1, "u1": 1}
_STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "bf2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
_SCALARS = {
    **{"f8": "d", "f4": "f", "f2": "e", "b1": "?"},
    **{"i8": "q", "i4": "i", "i2": "h", "i1": "b", "u8": "Q", "u4": "I", "u2": "H", "u1": "B"},
}
"""numpy's names of plain number types, and those of :mod:`struct`."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers in a file of its own.

    Parameters
    ----------
    key : str
        Name of the file.
    kind : str
        ``f8`` to ``f2``, ``bf2`` (bfloat16), ``i8`` to ``i1``, ``u1`` or ``?`` (bool).
    count : int
        How many numbers; the file holds exactly as many.
    """

    key: str
    kind: str
    count: int


@dataclass(frozen=True)
class StoredTensor:
    """An array whose numbers are still in the file; it lies inside its storage.

    Parameters
    ----------
    storage : Storage
        Where the numbers are.
    offset : int
        Place of the first one.
    shape, strides : tuple of int
        Size and step along each axis, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Node:
    """A container under construction; once it is inside another one, it cannot change."""

    __slots__ = ("depth", "items", "kind", "sealed")

    def __init__(self, kind: str, items: Any) -> None:
        self.kind = kind
        self.items = items
        self.depth = 1
        self.sealed = False

    def adopt(self, children: Sequence[Any]) -> None:
        for child in children:
            if type(child) is _Node:
                child.sealed = True
                self.depth = max(self.depth, child.depth + 1)
        if self.sealed:
            raise ValueError("a container in it changes after it was used")
        if self.depth > MOST_DEPTH:
            raise ValueError("it is nested too deep")


class _DType:
    """numpy's name of a number type, and its byte order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.order = "<"


@dataclass(frozen=True)
class _Maker:
    """Stands for a class or function: its name, and what a call of it gives."""

    name: str
    make: Callable[[list[Any]], Any]


class PickleReader:
    """Runs a pickle.

    Parameters
    ----------
    data : bytes
        The pickle.
    sizes : mapping of str to int
        Size in bytes of each storage's file.
    """

    def __init__(self, data: bytes, sizes: Mapping[str, int]) -> None:
        if len(data) > MOST_BYTES:
            raise ValueError("its description is far too large")
        self._data = data
        self._sizes = sizes
        self._at = 0
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: list[Any] = []
        self._containers = 0
        self._keys = 0
        self._made = 0
        self._storages: dict[str, Storage] = {}

    def load(self) -> Any:
        """Return what the pickle describes, for :func:`plain`.

        Raises
        ------
        ValueError
            If it holds anything but data, or is damaged.
        """
        data, size, steps = self._data, len(self._data), self._steps()
        for _ in range(MOST_STEPS):
            start = self._at + 1
            code = data[self._at : start]
            if code == b".":
                return self._result(start)
            if code not in steps:
                raise ValueError(f"its description has the unknown step {code!r}")
            step, length, argument = steps[code]
            if length:
                argument = int.from_bytes(data[start : start + length], "little")
            self._at = start + length
            if self._at > size:
                raise ValueError("its description ends too early")
            step(argument)
        raise ValueError("its description is far too long")

    def _steps(self) -> dict[bytes, tuple[Callable[[Any], None], int, Any]]:
        return {
            code: (getattr(self, name), length, constant)
            for code, (name, length, constant) in _STEPS.items()
        }

    def _result(self, end: int) -> Any:
        if len(self._stack) != 1 or self._marks or end != len(self._data):
            raise ValueError(_DAMAGED)
        return self._stack[0]

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ValueError("its description ends too early")
        part = self._data[self._at : end]
        self._at = end
        return part

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at, self._at + _MOST_NAME)
        if end < 0:
            raise ValueError(_DAMAGED)
        line = self._data[self._at : end]
        self._at = end + 1
        return line.decode()

    def _pop(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < (self._marks[-1] if self._marks else 0):
            raise ValueError(_DAMAGED)
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop_marked(self) -> list[Any]:
        if not self._marks:
            raise ValueError(_DAMAGED)
        items = self._pop(len(self._stack) - self._marks[-1])
        self._marks.pop()
        return items

    def _top(self, kinds: Sequence[str]) -> _Node:
        (top,) = self._pop(1)
        if type(top) is not _Node or top.kind not in kinds:
            raise ValueError(_DAMAGED)
        self._stack.append(top)
        return top

    def _push_node(self, kind: str, items: Any) -> _Node:
        self._containers += 1
        if self._containers > MOST_CONTAINERS:
            raise ValueError("it holds far too many objects")
        node = _Node(kind, items)
        self._stack.append(node)
        return node

    def _protocol(self, version: int) -> None:
        if version > 5 or self._at != 2:
            raise ValueError("its description is of an unknown version")

    def _skip(self, _: int) -> None:
        """Pass over the length of what follows, which comes out anyway."""

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _signed(self, value: int) -> None:
        self._stack.append(value - 2**32 if value >= 2**31 else value)

    def _long(self, length: int) -> None:
        if length > _MOST_INTEGER_BYTES:
            raise ValueError("it holds a number of too many digits")
        self._stack.append(int.from_bytes(self._take(length), "little", signed=True))

    def _real(self, bits: int) -> None:
        self._stack.append(struct.unpack(">d", bits.to_bytes(8, "little"))[0])

    def _text(self, length: int) -> None:
        self._stack.append(self._take(length).decode())

    def _bytes(self, length: int) -> None:
        self._stack.append(self._take(length))

    def _empty(self, kind: str) -> None:
        self._push_node(kind, {} if kind == "dict" else [])

    def _tuple(self, count: int | None) -> None:
        items = self._pop_marked() if count is None else self._pop(count)
        self._push_node("tuple", items).adopt(items)

    def _append(self, _: None) -> None:
        self._extend(self._pop(1), "list")

    def _append_marked(self, kind: str) -> None:
        items = self._pop_marked()
        if kind == "set":
            self._count_keys(items)
        self._extend(items, kind)
        if kind == "set":
            _check_count(self._top((kind,)))

    def _extend(self, items: list[Any], kind: str) -> None:
        node = self._top((kind,))
        node.adopt(items)
        node.items.extend(items)

    def _set(self, _: None) -> None:
        self._update(self._pop(2))

    def _set_marked(self, _: None) -> None:
        self._update(self._pop_marked())

    def _update(self, items: list[Any]) -> None:
        node, keys, values = self._top(("dict", "ordered")), items[::2], items[1::2]
        self._count_keys(keys)
        node.adopt(values)
        before = len(node.items)
        node.items.update(zip(keys, values, strict=True))
        if len(node.items) != before + len(keys):
            raise ValueError("a dictionary in it has a key twice")
        _check_count(node)

    def _count_keys(self, keys: Sequence[Any]) -> None:
        """Check keys, and bound their number: who knows the hash could let all of them collide."""
        _check_keys(keys)
        self._keys += len(keys)
        if len(keys) > MOST_KEYS or self._keys > MOST_KEYS_IN_ALL:
            raise ValueError("it holds far too many keys")

    def _put(self, place: int | None) -> None:
        empty = len(self._stack) <= (self._marks[-1] if self._marks else 0)
        if empty or place not in (None, len(self._memo)):
            raise ValueError(_DAMAGED)
        self._memo.append(self._stack[-1])

    def _get(self, place: int) -> None:
        if place >= len(self._memo):
            raise ValueError(_DAMAGED)
        self._stack.append(self._memo[place])

    def _name(self, _: None) -> None:
        module = self._line()
        self._stack.append(_maker(module, self._line()))

    def _name_of_stack(self, _: None) -> None:
        self._stack.append(_maker(*self._pop(2)))

    def _call(self, _: None) -> None:
        maker, arguments = self._pop(2)
        if type(maker) is not _Maker or type(arguments) is not _Node or arguments.kind != "tuple":
            raise ValueError("it calls something that is no maker of data and could run code")
        self._made += sum(map(_size_of, arguments.items))
        if self._made > MOST_MADE:
            raise ValueError("it makes far too many objects")
        made = maker.make(arguments.items)
        if made is _WRONG:
            raise ValueError(f"it calls {maker.name} with arguments of a wrong kind")
        self._stack.append(made)

    def _build(self, _: None) -> None:
        """Set an object's state: a number type's byte order; that of OrderedDict is not kept."""
        target, state = self._pop(2)
        if type(target) is _DType and _is_plain_state(state):
            target.order = state.items[1]
        elif not (_is_node(target, "ordered") and _is_node(state, "dict")):
            raise ValueError("it sets the state of an object that is not plain data")
        self._stack.append(target)

    def _persistent(self, _: None) -> None:
        (pid,) = self._pop(1)
        kinds = [_Maker, str, str, int]
        items = pid.items if _is_node(pid, "tuple") else []
        if items[:1] != ["storage"] or [type(item) for item in items[1:]] != kinds:
            raise ValueError("it holds an unknown object in place of a tensor's data")
        kind, key, count = items[1].name, items[2], items[4]
        if kind not in _STORAGES:
            raise ValueError("it holds an unknown object in place of a tensor's data")
        storage = Storage(key, _STORAGES[kind], count)
        size = self._sizes.get(key)
        if count < 0 or size != count * _ITEM_BYTES.get(storage.kind, 1):
            raise ValueError(
                f"a tensor of {count:.3g} numbers reaches beyond its data of {size} bytes"
                if size is not None
                else "a tensor's data is missing"
            )
        if self._storages.setdefault(key, storage) != storage:
            raise ValueError("tensors of two kinds share their data")
        self._stack.append(storage)


_STEPS: dict[bytes, tuple[str, int, Any]] = {
    b"\x80": ("_protocol", 1, None),
    b"\x95": ("_skip", 8, None),
    b"(": ("_mark", 0, None),
    b"N": ("_push", 0, None),
    b"\x88": ("_push", 0, True),
    b"\x89": ("_push", 0, False),
    b"K": ("_push", 1, None),
    b"M": ("_push", 2, None),
    b"J": ("_signed", 4, None),
    b"\x8a": ("_long", 1, None),
    b"G": ("_real", 8, None),
    b"\x8c": ("_text", 1, None),
    b"X": ("_text", 4, None),
    b"\x8d": ("_text", 8, None),
    b"C": ("_bytes", 1, None),
    b"B": ("_bytes", 4, None),
    b"]": ("_empty", 0, "list"),
    b"}": ("_empty", 0, "dict"),
    b"\x8f": ("_empty", 0, "set"),
    b")": ("_tuple", 0, 0),
    b"\x85": ("_tuple", 0, 1),
    b"\x86": ("_tuple", 0, 2),
    b"\x87": ("_tuple", 0, 3),
    b"t": ("_tuple", 0, None),
    b"a": ("_append", 0, None),
    b"e": ("_append_marked", 0, "list"),
    b"\x90": ("_append_marked", 0, "set"),
    b"s": ("_set", 0, None),
    b"u": ("_set_marked", 0, None),
    b"q": ("_put", 1, None),
    b"r": ("_put", 4, None),
    b"\x94": ("_put", 0, None),
    b"h": ("_get", 1, None),
    b"j": ("_get", 4, None),
    b"c": ("_name", 0, None),
    b"\x93": ("_name_of_stack", 0, None),
    b"R": ("_call", 0, None),
    b"b": ("_build", 0, None),
    b"Q": ("_persistent", 0, None),
}
"""The steps that checkpoints need, by code: method, bytes of its argument, or the argument."""

_WRONG = object()
"""What a maker gives for arguments that it does not take."""


def plain(
    value: Any, array_of: Callable[[StoredTensor], Any], parts: Collection[str] | None = None
) -> Any:
    """Return a loaded value made of Python's own types.

    Parameters
    ----------
    value : object
        What :meth:`PickleReader.load` gives.
    array_of : callable
        Gives the array of a tensor.
    parts : collection of str, optional
        Entries to convert, if the value is a dictionary; all by default.

    Raises
    ------
    ValueError
        If something that is no data is part of it.
    """
    made: dict[int, Any] = {}

    def convert(value: Any) -> Any:
        if isinstance(value, (_Maker, _DType, Storage)):
            raise ValueError("it holds the name of a class in place of data")
        if type(value) not in (_Node, StoredTensor):
            return value
        if id(value) not in made:
            made[id(value)] = filled(value) if type(value) is _Node else array_of(value)
        return made[id(value)]

    def filled(node: _Node) -> Any:
        if node.kind in ("dict", "ordered"):
            return {key: convert(item) for key, item in node.items.items()}
        items = [convert(item) for item in node.items]
        return items if node.kind == "list" else {"tuple": tuple, "set": set}[node.kind](items)

    if parts is not None and (_is_node(value, "dict") or _is_node(value, "ordered")):
        return {key: convert(item) for key, item in value.items.items() if key in parts}
    return convert(value)


def _check_keys(keys: Sequence[Any]) -> None:
    if not all(
        type(key) is str or (type(key) is int and -_MOST_KEY <= key < _MOST_KEY) for key in keys
    ):
        raise ValueError("it has a key that is neither a text nor a whole number of 32 bits")


def _check_count(node: _Node) -> None:
    if len(node.items) > MOST_KEYS:
        raise ValueError("it holds far too many keys")


def _size_of(value: Any) -> int:
    items = value.items if type(value) is _Node else value
    return 1 + (len(items) if isinstance(items, str | bytes | list | dict) else 0)


def _is_node(value: Any, kind: str) -> bool:
    return type(value) is _Node and value.kind == kind


def _is_plain_state(state: Any) -> bool:
    """Tell whether this is the state of a plain number type of numpy."""
    if not _is_node(state, "tuple") or len(state.items) != 8:
        return False
    order = state.items[1]
    rest = [3, None, None, None, -1, -1, 0]
    found = [state.items[0], *state.items[2:]]
    same_types = [type(item) for item in found] == [type(item) for item in rest]
    return type(order) is str and order in ("<", ">", "|", "=") and same_types and found == rest


def _maker(module: Any, name: Any) -> _Maker:
    if type(module) is not str or type(name) is not str:
        raise ValueError(_DAMAGED)
    module = _RENAMED.get(module, module)
    if module in ("torch", "torch.storage") and name in _STORAGES:
        return _Maker(name, lambda _: _WRONG)
    make = _MAKERS.get((module, name))
    if make is None:
        raise ValueError(
            f"it refers to {f'{module}.{name}'[:120]!r}, which is not plain data and could run code"
        )
    return _Maker(f"{module}.{name}", make)


def _types(arguments: Sequence[Any]) -> list[Any]:
    """Return the types of some arguments, those of containers by their kind."""
    return [item.kind if type(item) is _Node else type(item) for item in arguments]


def _sizes_of(node: _Node) -> tuple[int, ...] | None:
    if len(node.items) > _MOST_AXES:
        return None
    fits = all(type(item) is int and 0 <= item < 2**62 for item in node.items)
    return tuple(node.items) if fits else None


def _tensor(arguments: list[Any]) -> Any:
    """Stand in for ``torch._utils._rebuild_tensor_v2``; steps count numbers, not bytes."""
    kinds = [Storage, int, "tuple", "tuple", bool, "ordered"]
    extra = arguments[6:]
    if _types(arguments[:6]) != kinds or arguments[5].items or len(extra) > 1:
        return _WRONG
    if extra and extra[0] is not None and not (_is_node(extra[0], "dict") and not extra[0].items):
        return _WRONG
    storage, offset = arguments[:2]
    shape, strides = (_sizes_of(node) for node in arguments[2:4])
    if shape is None or strides is None or len(shape) != len(strides) or offset < 0:
        return _WRONG
    count, last = 1, offset
    for size, step in zip(shape, strides, strict=True):
        count *= size
        last += (size - 1) * step
    if count and (last >= storage.count or count > storage.count):
        raise ValueError("a tensor reaches beyond its data")
    steps = tuple(step if size > 1 else 0 for size, step in zip(shape, strides, strict=True))
    return StoredTensor(storage, offset, shape, steps)


def _parameter(arguments: list[Any]) -> Any:
    fits = _types(arguments) == [StoredTensor, bool, "ordered"] and not arguments[2].items
    return arguments[0] if fits else _WRONG


def _ordered(arguments: list[Any]) -> Any:
    return _WRONG if arguments else _Node("ordered", {})


def _size(arguments: list[Any]) -> Any:
    fits = _types(arguments) == ["tuple"] and _sizes_of(arguments[0]) is not None
    return _Node("tuple", list(arguments[0].items)) if fits else _WRONG


def _device(arguments: list[Any]) -> Any:
    if _types(arguments) not in ([str], [str, int]) or len(arguments[0]) > _MOST_DEVICE:
        return _WRONG
    return ":".join(map(str, arguments))


def _dtype(arguments: list[Any]) -> Any:
    fits = len(arguments) == 3 and type(arguments[0]) is str and arguments[0] in _SCALARS
    flags = {type(item) for item in arguments[1:]} <= {bool, int}
    return _DType(arguments[0]) if fits and flags and arguments[1:] == [0, 1] else _WRONG


def _scalar(arguments: list[Any]) -> Any:
    if _types(arguments) != [_DType, bytes]:
        return _WRONG
    dtype, raw = arguments
    layout = struct.Struct({"|": "<"}.get(dtype.order, dtype.order) + _SCALARS[dtype.name])
    return layout.unpack(raw)[0] if len(raw) == layout.size else _WRONG


def _encode(arguments: list[Any]) -> Any:
    if _types(arguments) != [str, str] or len(arguments[0]) > _MOST_ENCODED:
        return _WRONG
    return arguments[0].encode("latin-1") if arguments[1] == "latin1" else _WRONG


def _no_bytes(arguments: list[Any]) -> Any:
    return _WRONG if arguments else b""


def _make_set(arguments: list[Any]) -> Any:
    if _types(arguments) != ["list"] or len(arguments[0].items) > MOST_KEYS:
        return _WRONG
    _check_keys(arguments[0].items)
    return _Node("set", list(arguments[0].items))


_RENAMED = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}
_MAKERS: dict[tuple[str, str], Callable[[list[Any]], Any]] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): _size,
    ("torch", "device"): _device,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "set"): _make_set,
}
"""All names that a pickle may use, and what a call of each gives."""
