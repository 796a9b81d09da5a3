"""Read JSON files of a model with the type and range of each field.

What is wrong ends in one :class:`~sct_rootlets_task.errors.ModelError` that names file and field.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.untrusted import open_regular, printable, reason_of

MOST_BYTES = 2**23
T = TypeVar("T")

_MOST_DIGITS = 18
_MOST_NAME = 200


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises
    ------
    ModelError
        If the file cannot be read, is not JSON of plain numbers, or holds no object.
    """
    try:
        content = json.loads(
            _text(path),
            parse_constant=_number,
            parse_int=_number,
            parse_float=_number,
            object_pairs_hook=_object,
        )
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"The model folder {printable(path.parent)} has no readable {path.name} "
            f"({reason_of(error)}). Install the model again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(
            f"Expected a JSON object in {printable(path)}, found {type(content).__name__}."
        )
    return content


def _text(path: Path) -> str:
    with open_regular(path) as stream:
        content = stream.read(MOST_BYTES + 1) or b""  # None: a file that has nothing to give now
    if len(content) > MOST_BYTES:
        raise ValueError("it is far too large")
    return content.decode("utf-8-sig")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; of two entries of one name, readers would take different ones."""
    content = dict(pairs)
    if len(content) != len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"it has two entries {printable(names.most_common(1)[0][0])!r}")
    return content


def _number(word: str) -> int | float:
    """Read a number, but not NaN, an infinity, or one with digits without end."""
    whole = word.lstrip("-").isdigit()
    if whole and len(word) <= _MOST_DIGITS:
        return int(word)
    value = float(word)
    if whole or not math.isfinite(value):
        raise ValueError(f"{word[:20]} is no finite number of at most {_MOST_DIGITS} digits")
    return value


class Fields:
    """The entries of a JSON object.

    Parameters
    ----------
    content : mapping
        The object.
    file : Path
        Where it is from.
    place : str
        Where it is in the file, empty for the whole.
    """

    def __init__(self, content: Mapping[str, Any], file: Path, place: str = "") -> None:
        self.content = content
        self.file = file
        self._place = place

    def __contains__(self, name: str) -> bool:
        """Tell whether there is such an entry, other than null."""
        return self.content.get(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.content)

    def fail(self, name: str, expected: str) -> NoReturn:
        """Raise the error for an entry that is not as expected."""
        found = reprlib.repr(self.content[name]) if name in self.content else "nothing"
        raise ModelError(
            f"Expected {expected} in '{printable(self._name(name))}' of {printable(self.file)}, "
            f"found {found}. Correct it, or install the model again."
        )

    def _name(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name

    def object(self, name: str) -> Fields:
        """Return an object; an empty one for null."""
        value: Any = self.content.get(name)
        if not isinstance(value, dict | None):
            self.fail(name, "an object")
        return Fields(value or {}, self.file, self._name(name))

    def length(self, name: str, least: int, most: int) -> int:
        """Return the length of a list, which is within bounds."""
        value: Any = self.content.get(name)
        if not isinstance(value, list | tuple) or not least <= len(value) <= most:
            self.fail(name, f"a list of {least} to {most}")
        return len(value)

    def get(self, name: str) -> Any:
        """Return an entry as it is, None if it is not there."""
        return self.content.get(name)

    def is_null(self, name: str) -> bool:
        """Tell whether there is such an entry, and it is null."""
        return name in self.content and self.content[name] is None

    def only(self, known: Collection[str]) -> None:
        """Refuse entries of other names."""
        for name in self:
            if name not in known:
                self.fail(name, f"one of {', '.join(sorted(known))} only, no other entry")

    def text(self, name: str) -> str:
        """Return a text of printable characters."""
        value: Any = self.content.get(name)
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) < _MOST_NAME:
            self.fail(name, "a text")
        return value

    def one_of(self, name: str, known: Mapping[str, T]) -> T:
        """Return what a name stands for; others than the known ones are refused.

        The names are those of classes and functions, which nnU-Net would look up.
        """
        value: Any = self.content.get(name)
        if not isinstance(value, str) or value not in known:
            found = sorted({str(item) for item in known.values()})
            self.fail(name, f"{' or '.join(found)} by nnU-Net's name (others could run code)")
        return known[value]

    def names(self, name: str, count: int, known: Mapping[str, T]) -> list[T]:
        """Return what so many names stand for, see :meth:`one_of`."""
        values = dict(zip(map(str, range(count)), self.items(name, count), strict=True))
        inner = Fields(values, self.file, self._name(name))
        return [inner.one_of(place, known) for place in values]

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return true or false."""
        value: Any = self.content.get(name, default)
        if not isinstance(value, bool):
            self.fail(name, "true or false")
        return value

    def integer(self, name: str, least: int, most: int) -> int:
        """Return a whole number within bounds."""
        value: Any = self.content.get(name)
        if not is_integer(value, least, most):
            self.fail(name, f"a whole number from {least} to {most}")
        return int(value)

    def number(self, name: str, least: float, most: float) -> float:
        """Return a number within bounds."""
        value: Any = self.content.get(name)
        if not is_number(value, least, most):
            self.fail(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def integers(self, name: str, count: int, least: int, most: int) -> tuple[int, ...]:
        """Return so many whole numbers within bounds."""
        values: Any = self.content.get(name)
        if not is_list_of(values, count) or not all(is_integer(v, least, most) for v in values):
            self.fail(name, f"{count} whole numbers from {least} to {most}")
        return tuple(values)

    def numbers(self, name: str, count: int, least: float, most: float) -> tuple[float, ...]:
        """Return so many numbers within bounds."""
        values: Any = self.content.get(name)
        if not is_list_of(values, count) or not all(is_number(v, least, most) for v in values):
            self.fail(name, f"{count} numbers from {least:g} to {most:g}")
        return tuple(values)

    def items(self, name: str, count: int) -> list[Any]:
        """Return a list of so many entries of any kind."""
        values: Any = self.content.get(name)
        if not is_list_of(values, count):
            self.fail(name, f"a list of {count}")
        return list(values)

    def each(self, name: str, count: int, most: int) -> tuple[int, ...]:
        """Return so many whole numbers from 1 on, given as a list, or as one for all."""
        value: Any = self.content.get(name)
        if is_integer(value, 1, most):
            return (int(value),) * count
        return self.integers(name, count, 1, most)

    def each_size(self, name: str, count: int, axes: int, most: int) -> tuple[tuple[int, ...], ...]:
        """Return so many sizes along axes, each given as a list, or as one for all axes."""
        value: Any = self.content.get(name)
        values: Any = [value] * count if is_integer(value, 1, most) else self.items(name, count)
        sizes = [(item,) * axes if is_integer(item, 1, most) else item for item in values]
        for size in sizes:
            if not is_list_of(size, axes) or not all(is_integer(n, 1, most) for n in size):
                self.fail(name, f"{count} sizes of {axes} whole numbers from 1 to {most}")
        return tuple(tuple(size) for size in sizes)


def is_integer(value: Any, least: int, most: int) -> bool:
    """Tell whether a value is a whole number within bounds (true and false are none)."""
    return type(value) is int and least <= value <= most


def is_number(value: Any, least: float, most: float) -> bool:
    """Tell whether a value is a number within bounds (true and false are none)."""
    return type(value) in (int, float) and least <= value <= most


def is_list_of(value: Any, count: int) -> bool:
    """Tell whether a value is a list of so many entries."""
    return isinstance(value, list | tuple) and len(value) == count
