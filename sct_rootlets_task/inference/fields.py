"""Reading plans and datasets: strict JSON, and fields checked by pydantic, see :mod:`.plans`.

What is wrong ends in a :class:`~sct_rootlets_task.errors.ModelError` that names file and field.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of

if TYPE_CHECKING:
    from pydantic import BaseModel

MOST_BYTES = 2**23
Place = Sequence[str | int]
"""Path of a field: names of objects, and numbers in lists."""
M = TypeVar("M", bound="BaseModel")

_MOST_DIGITS = 18
_EXPECTED = {
    "missing": "an entry",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "extra_forbidden": "no such entry",
    "greater_than_equal": "a number of {ge:g} or more",
    "less_than_equal": "a number of {le:g} at most",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}
"""What pydantic's errors say in our words; those of our own rules say it themselves."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a JSON file.

    Raises
    ------
    ModelError
        If the file cannot be read, is not JSON of plain numbers, or holds no object.
    """
    try:
        with open_regular(path) as stream:
            return json_object(stream)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model folder {printable(path.parent)} has no readable {path.name} "
            f"({reason_of(error)}). Install the model again."
        ) from error


def json_object(stream: IO[bytes]) -> dict[str, Any]:
    """Return the object of JSON, in which each number is plain and each name stands once.

    Raises
    ------
    ValueError
        If it is too large, no such JSON, or not an object.
    """
    data = stream.read(MOST_BYTES + 1) or b""  # None: a file that has nothing to give now
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is far too large, more than {MOST_BYTES} bytes")
    try:
        content = json.loads(
            data.decode("utf-8-sig"),
            parse_constant=_number,
            parse_int=_number,
            parse_float=_number,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise ValueError(reason_of(error)) from error
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    return content


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


def parse(
    model: type[M], content: object, file: Path, place: Place = (), context: object = None
) -> M:
    """Return what JSON says, with the types and ranges of a model of pydantic.

    Parameters
    ----------
    model : type of pydantic.BaseModel
        What is expected.
    content : object
        Part of a file.
    file, place : Path, sequence of str or int
        The file, and where in it the part is, for messages.
    context : object, optional
        What the model's rules need to know.

    Raises
    ------
    ModelError
        If a field is missing or not as expected.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(content, context=context)
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        expected = _EXPECTED.get(first["type"], first["msg"]).format_map(first.get("ctx", {}))
        found = "nothing" if first["type"] == "missing" else reprlib.repr(first["input"])
        error = wrong(file, (*place, *first["loc"]), expected, found)
    raise error


def wrong(file: Path, place: Place, expected: str, found: str) -> ModelError:
    """Return the error for a field that is not as expected.

    Examples
    --------
    >>> print(wrong(Path("plans.json"), ("patch_size", 1), "a whole number", "'64'"))
    Expected a whole number in 'patch_size[1]' of plans.json, found '64'. Correct it, or install \
the model again.
    """
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return ModelError(
        f"Expected {expected} in '{printable(path.removeprefix('.'))}' of {printable(file)}, found "
        f"{printable(found)}. Correct it, or install the model again."
    )
