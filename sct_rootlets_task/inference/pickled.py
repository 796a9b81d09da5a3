"""A reader of pickles that can make data and nothing else.

A pickle is a program. This module runs the few steps of it that checkpoints of nnU-Net use, on its
own stack, and refuses all others. The name of a class or function becomes a :class:`_Maker` of the
table :data:`_MAKERS`, never an object of Python. A call is checked before anything is made.

Containers are filled before they are put into another one, as Python's own pickles do it. So there
are no cycles, and the depth of each is known.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
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
_MOST_INTEGER_BITS = 128
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
    """The numbers of one file: its name, their type and how many it holds.

    The type is ``f8`` to ``f2``, ``bf2`` (bfloat16), ``i8`` to ``i1``, ``u1`` or ``?`` (bool).
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
    """Stands for a class or function: its name, types of arguments, and what a call gives."""

    name: str
    signatures: Collection[tuple[Any, ...]]
    make: Callable[..., Any]


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
        self._stream = BytesIO(data)
        self._sizes = sizes
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
        for _ in range(MOST_STEPS):
            code = self._stream.read(1)
            if code == b".":
                return self._result()
            if code not in _STEPS:
                wrong = f"has the unknown step {code!r}" if code else "ends too early"
                raise ValueError(f"its description {wrong}")
            name, argument = _STEPS[code]
            getattr(self, name)(_READERS[code](self._stream) if argument is _READ else argument)
        raise ValueError("its description is far too long")

    def _result(self) -> Any:
        if len(self._stack) != 1 or self._marks or self._stream.read(1):
            raise ValueError(_DAMAGED)
        return self._stack[0]

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
        if version > 5 or self._stream.tell() != 2:
            raise ValueError("its description is of an unknown version")

    def _skip(self, _: int) -> None:
        """Pass over the length of what follows, which comes out anyway."""

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _integer(self, value: int) -> None:
        if value.bit_length() > _MOST_INTEGER_BITS:
            raise ValueError("it holds a number of too many digits")
        self._stack.append(value)

    def _text(self, value: str) -> None:
        value.encode()  # fails for half of a character
        self._stack.append(value)

    def _empty(self, kind: str) -> None:
        self._push_node(kind, {} if kind == "dict" else [])

    def _tuple(self, count: int | None) -> None:
        items = self._pop_marked() if count is None else self._pop(count)
        self._push_node("tuple", items).adopt(items)

    def _append(self, _: None) -> None:
        self._extend(self._pop(1), "list")

    def _append_marked(self, _: None) -> None:
        self._extend(self._pop_marked(), "list")

    def _add_marked(self, _: None) -> None:
        items = self._pop_marked()
        self._count_keys(items)
        _check_count(self._extend(items, "set"))

    def _extend(self, items: list[Any], kind: str) -> _Node:
        node = self._top((kind,))
        node.adopt(items)
        node.items.extend(items)
        return node

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
        lines = [self._stream.readline(_MOST_NAME) for _ in range(2)]
        if not all(line.endswith(b"\n") for line in lines):
            raise ValueError(_DAMAGED)
        self._stack.append(_maker(*(line[:-1].decode() for line in lines)))

    def _name_of_stack(self, _: None) -> None:
        self._stack.append(_maker(*self._pop(2)))

    def _call(self, _: None) -> None:
        maker, arguments = self._pop(2)
        if type(maker) is not _Maker or type(arguments) is not _Node or arguments.kind != "tuple":
            raise ValueError("it calls something that is no maker of data and could run code")
        self._made += sum(map(_size_of, arguments.items))
        if self._made > MOST_MADE:
            raise ValueError("it makes far too many objects")
        fits = _types(arguments.items) in maker.signatures
        made = maker.make(*arguments.items) if fits else _WRONG
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
        items = pid.items if _is_node(pid, "tuple") else []
        known = _types(items) == (str, _Maker, str, str, int) and items[0] == "storage"
        if not known or items[1].name not in _STORAGES:
            raise ValueError("it holds an unknown object in place of a tensor's data")
        kind, key, count = items[1].name, items[2], items[4]
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


_READERS = {op.code.encode("latin-1"): op.arg.reader for op in pickletools.opcodes if op.arg}
_READ = object()
"""Stands for an argument that the pickle holds; any other value is the argument itself."""
_STEPS: dict[bytes, tuple[str, Any]] = {
    b"\x80": ("_protocol", _READ),
    b"\x95": ("_skip", _READ),
    b"(": ("_mark", None),
    b"N": ("_push", None),
    b"\x88": ("_push", True),
    b"\x89": ("_push", False),
    **dict.fromkeys((b"K", b"M", b"J", b"\x8a"), ("_integer", _READ)),
    **dict.fromkeys((b"G", b"C", b"B"), ("_push", _READ)),
    **dict.fromkeys((b"\x8c", b"X", b"\x8d"), ("_text", _READ)),
    b"]": ("_empty", "list"),
    b"}": ("_empty", "dict"),
    b"\x8f": ("_empty", "set"),
    b")": ("_tuple", 0),
    b"\x85": ("_tuple", 1),
    b"\x86": ("_tuple", 2),
    b"\x87": ("_tuple", 3),
    b"t": ("_tuple", None),
    b"a": ("_append", None),
    b"e": ("_append_marked", None),
    b"\x90": ("_add_marked", None),
    b"s": ("_set", None),
    b"u": ("_set_marked", None),
    **dict.fromkeys((b"q", b"r"), ("_put", _READ)),
    b"\x94": ("_put", None),
    **dict.fromkeys((b"h", b"j"), ("_get", _READ)),
    b"c": ("_name", None),
    b"\x93": ("_name_of_stack", None),
    b"R": ("_call", None),
    b"b": ("_build", None),
    b"Q": ("_persistent", None),
}
"""Method and argument of each step that checkpoints need."""

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
        return _Maker(name, (), lambda: _WRONG)
    if (module, name) not in _MAKERS:
        raise ValueError(
            f"it refers to {f'{module}.{name}'[:120]!r}, which is not plain data and could run code"
        )
    return _Maker(f"{module}.{name}", *_MAKERS[module, name])


def _types(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Return the types of some arguments, those of containers by their kind."""
    return tuple(item.kind if type(item) is _Node else type(item) for item in arguments)


def _sizes_of(node: _Node) -> tuple[int, ...] | None:
    if len(node.items) > _MOST_AXES:
        return None
    fits = all(type(item) is int and 0 <= item < 2**62 for item in node.items)
    return tuple(node.items) if fits else None


def _tensor(storage: Storage, offset: int, *rest: Any) -> Any:
    """Stand in for ``torch._utils._rebuild_tensor_v2``; steps count numbers, not bytes."""
    shape, strides = (_sizes_of(node) for node in rest[:2])
    if any(node is not None and node.items for node in rest[3:]):  # hooks and metadata
        return _WRONG
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


def _parameter(tensor: StoredTensor, _: bool, hooks: _Node) -> Any:
    return _WRONG if hooks.items else tensor


def _size(shape: _Node) -> Any:
    return _WRONG if _sizes_of(shape) is None else _Node("tuple", list(shape.items))


def _device(*parts: str | int) -> Any:
    return ":".join(map(str, parts)) if len(str(parts[0])) <= _MOST_DEVICE else _WRONG


def _dtype(name: str, *flags: int) -> Any:
    return _DType(name) if name in _SCALARS and flags == (0, 1) else _WRONG


def _scalar(dtype: _DType, raw: bytes) -> Any:
    layout = struct.Struct({"|": "<"}.get(dtype.order, dtype.order) + _SCALARS[dtype.name])
    return layout.unpack(raw)[0] if len(raw) == layout.size else _WRONG


def _encode(text: str, codec: str) -> Any:
    fits = codec == "latin1" and len(text) <= _MOST_ENCODED
    return text.encode("latin-1") if fits else _WRONG


def _set_of(keys: _Node) -> Any:
    if len(keys.items) > MOST_KEYS:
        return _WRONG
    _check_keys(keys.items)
    return _Node("set", list(keys.items))


_RENAMED = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}
_TENSOR = (Storage, int, "tuple", "tuple", bool, "ordered")
_MAKERS: dict[tuple[str, str], tuple[Collection[tuple[Any, ...]], Callable[..., Any]]] = {
    ("collections", "OrderedDict"): ([()], lambda: _Node("ordered", {})),
    ("torch._utils", "_rebuild_tensor_v2"): (
        [_TENSOR, (*_TENSOR, type(None)), (*_TENSOR, "dict")],
        _tensor,
    ),
    ("torch._utils", "_rebuild_parameter"): ([(StoredTensor, bool, "ordered")], _parameter),
    ("torch", "Size"): ([("tuple",)], _size),
    ("torch", "device"): ([(str,), (str, int)], _device),
    ("numpy", "dtype"): ([(str, *flags) for flags in product((bool, int), repeat=2)], _dtype),
    ("numpy.core.multiarray", "scalar"): ([(_DType, bytes)], _scalar),
    ("_codecs", "encode"): ([(str, str)], _encode),
    ("builtins", "bytes"): ([()], bytes),
    ("builtins", "set"): ([("list",)], _set_of),
}
"""All names that a pickle may use, with types of arguments, and what a call of each gives."""
