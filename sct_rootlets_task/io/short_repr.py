"""The one line that a result shows in a notebook, whatever arrays it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

_LONGEST = 60


def short_repr(result: object) -> str:
    """Return the class of a result and its fields, each in a few words.

    Parameters
    ----------
    result : dataclass or named tuple
        Arrays and images are shown by type and shape, longer sequences by their length.

    Examples
    --------
    >>> from typing import NamedTuple
    >>> class Pair(NamedTuple):
    ...     name: str
    ...     rows: list[int]
    >>> short_repr(Pair("C5", [1] * 100))
    "Pair(name='C5', rows=<100 × int>)"
    """
    shown = ", ".join(f"{name}={_in_short(value)}" for name, value in _fields_of(result))
    return f"{type(result).__name__}({shown})"


def _fields_of(result: Any) -> Iterator[tuple[str, object]]:
    names = [one.name for one in fields(result)] if is_dataclass(result) else result._fields
    for name in names:
        yield name, getattr(result, name)


def _in_short(value: Any) -> str:
    kind = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"<{value.dtype} array of {_by(value.shape)}>"
    if hasattr(value, "shape") and hasattr(value, "affine"):
        return f"<{kind} of {_by(value.shape)}>"
    if is_dataclass(value) or hasattr(value, "_fields"):
        return f"<{kind}>"
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str) and value:
        return _of_many(value)
    text = f"{value:.4g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _of_many(values: Mapping[Any, Any] | Sequence[Any]) -> str:
    """Return a sequence itself where it is a few plain values, else how many it has."""
    plain = all(isinstance(value, str | int | float | None) for value in values)
    if plain and not isinstance(values, Mapping) and len(text := repr(values)) <= _LONGEST:
        return text
    kinds = {type(value).__name__ for value in values}
    return f"<{len(values)} × {kinds.pop() if len(kinds) == 1 else 'item'}>"


def _by(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape)) or "one value"
