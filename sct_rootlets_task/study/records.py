"""What was done with an image: a JSON file beside its results, by which the next run goes on.

A record has the checksums of all that a result was made from, and of the files that were written.
Size and time of change of a file are a short cut: where both are as recorded, the file is not read
again. So whoever changes the content of a file, and sets its old size and time, is not noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.io.atomic import hash_file, write_json
from sct_rootlets_task.io.ownership import generated_by, is_ours
from sct_rootlets_task.io.untrusted import open_regular, printable

SCHEMA = 1
"""Number of the layout of a record."""

COMMAND = "sct_rootlets bids"
"""What the JSON of a study names as the command. Its options would differ from worker to worker."""

IMAGE = "image"
"""The one input that every item has."""

_LARGEST = 1 << 22


@dataclass(frozen=True)
class FileState:
    """Content of a file, and by what a change of it is noticed.

    Parameters
    ----------
    sha256 : str
        Checksum of the content.
    size, modified_ns : int
        Bytes, and time of the last change in nanoseconds.
    """

    sha256: str
    size: int
    modified_ns: int

    def fits(self, path: Path) -> bool:
        """Tell whether a file is there with this size and time."""
        try:
            info = path.stat()
        except (OSError, ValueError):
            return False
        return (info.st_size, info.st_mtime_ns) == (self.size, self.modified_ns)


def state_of(path: Path, known: FileState | None = None) -> FileState:
    """Return the state of a file, which is read unless it is known.

    Parameters
    ----------
    path : Path
        An ordinary file.
    known : FileState, optional
        What is recorded of it.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if known is not None and known.fits(path):
        return known
    info = path.stat()
    return FileState(hash_file(path), info.st_size, info.st_mtime_ns)


@dataclass(frozen=True)
class Input:
    """A file that results were made from.

    Parameters
    ----------
    path : str
        Where it lies in the data set, or its BIDS URI.
    state : FileState, optional
        None for a file that could not be read.
    """

    path: str
    state: FileState | None


@dataclass(frozen=True)
class Stage:
    """One stage of the work on an image, finished or begun.

    Parameters
    ----------
    origin : mapping of str to object
        All that shapes the result, by its name: checksums, options, the version of the stage.
    files : mapping of str to FileState
        Files that were written.
    writing : mapping of str to tuple of str
        Checksums that a file may have, too, if the run was killed while it wrote.
    """

    origin: Mapping[str, Any]
    files: Mapping[str, FileState] = field(default_factory=dict)
    writing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Checksum of all that shapes the result; empty for a stage that was not finished."""
        return "" if self.writing else key_of(self.origin)

    def checksums(self, name: str) -> tuple[str, ...]:
        """Return the checksums that a file has if nobody else has changed it."""
        states = (self.files[name].sha256,) if name in self.files else ()
        return (*states, *self.writing.get(name, ()))


@dataclass(frozen=True)
class Record:
    """What was done with an image.

    Parameters
    ----------
    name, subject, session, contrast : str
        As of the item.
    inputs : mapping of str to Input
        Files by ``image``, ``cord``, ``pmj``, ``discs`` and ``corrected``.
    stages : mapping of str to Stage
        Finished or begun stages by name.
    status, kind, error : str
        As of an outcome.
    when : str
        ISO time of the last change.
    attempt : str
        Key of what was tried last.
    corrected : str, optional
        The level map by a person that was followed.
    """

    name: str
    subject: str
    session: str
    contrast: str
    inputs: Mapping[str, Input]
    stages: Mapping[str, Stage] = field(default_factory=dict)
    status: str = ""
    kind: str = ""
    error: str = ""
    when: str = ""
    attempt: str = ""
    corrected: str | None = None

    def state(self, role: str, path: str | None = None) -> FileState | None:
        """Return the recorded state of an input, if it lay at this path."""
        known = self.inputs.get(role)
        return known.state if known and path in (None, known.path) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        others = {role: _input(one) for role, one in self.inputs.items() if role != IMAGE}
        return {
            "GeneratedBy": generated_by(COMMAND),
            "Schema": SCHEMA,
            "Name": self.name,
            "Image": _input(self.inputs[IMAGE]),
            "Subject": self.subject,
            "Session": self.session,
            "Contrast": self.contrast,
            "Status": self.status,
            "Kind": self.kind,
            "Error": self.error,
            "When": self.when,
            "Attempt": self.attempt,
            "Corrected": self.corrected,
            "Inputs": others,
            "Stages": {name: _stage(one) for name, one in self.stages.items()},
        }


def read_record(path: Path) -> Record | None:
    """Read a record; None where there is none, or it is damaged or of another version.

    Parameters
    ----------
    path : Path
        The file.
    """
    try:
        with open_regular(path) as stream:
            content = json.loads(stream.read(_LARGEST))
        return _record(content) if content["Schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_record(path: Path, record: Record) -> None:
    """Write a record atomically.

    Parameters
    ----------
    path, record : Path, Record
        The file, and what it is to hold.

    Raises
    ------
    OutputError
        If it cannot be written, or a file of another program lies there.
    """
    require_record(path)
    write_json(path, record.to_dict())


def require_record(path: Path) -> None:
    """Refuse to replace a file of another program by a record; a damaged one is nobody's.

    Parameters
    ----------
    path : Path
        The record; it need not exist.

    Raises
    ------
    OutputError
        If it is of another program.
    """
    if os.path.lexists(path) and not is_ours(path) and _is_json(path):
        raise foreign(path)


def checksum_of(path: Path) -> str | None:
    """Return the checksum of a file; None where there is none that can be read.

    Parameters
    ----------
    path : Path
        The file.
    """
    try:
        return hash_file(path)
    except (OSError, ValueError):
        return None


def foreign(path: Path) -> OutputError:
    """Return the error about a file that is in the way and must not be replaced."""
    return OutputError(
        f"The output {printable(path)} was edited since, or comes from another program, and is "
        "kept. Move it away, then run with --retry-failed."
    )


def key_of(origin: Mapping[str, Any]) -> str:
    """Return a checksum of plain values by their names, whatever their order.

    Examples
    --------
    >>> key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()


def _is_json(path: Path) -> bool:
    """Tell whether a file holds an object of JSON: what is damaged is nobody's."""
    try:
        with open_regular(path) as stream:
            return isinstance(json.loads(stream.read(_LARGEST)), dict)
    except (OSError, ValueError, RecursionError):
        return False


def _input(one: Input) -> dict[str, Any]:
    state = one.state
    if state is None:
        return {"Path": one.path, "SHA256": None, "Size": None, "ModifiedNs": None}
    return {"Path": one.path, **_state(state)}


def _state(state: FileState) -> dict[str, Any]:
    return {"SHA256": state.sha256, "Size": state.size, "ModifiedNs": state.modified_ns}


def _stage(stage: Stage) -> dict[str, Any]:
    files = {name: _state(state) for name, state in stage.files.items()}
    writing = {"Writing": stage.writing} if stage.writing else {}
    return {"Key": stage.key, "Origin": stage.origin, "Files": files, **writing}


def _record(content: Mapping[str, Any]) -> Record:
    """Return a record from JSON; any fault is an error."""
    inputs = {IMAGE: content["Image"], **content["Inputs"]}
    texts = {name: content[name.capitalize()] for name in _TEXTS}
    corrected = content["Corrected"]
    if not all(isinstance(text, str) for text in (*texts.values(), corrected or "")):
        raise TypeError("texts")
    return Record(
        **texts,
        inputs={role: Input(str(one["Path"]), _read_state(one)) for role, one in inputs.items()},
        stages={name: _read_stage(one) for name, one in content["Stages"].items()},
        corrected=corrected,
    )


_TEXTS = (
    *("name", "subject", "session", "contrast"),
    *("status", "kind", "error", "when", "attempt"),
)


def _read_state(content: Mapping[str, Any]) -> FileState | None:
    if content["SHA256"] is None:
        return None
    return FileState(str(content["SHA256"]), int(content["Size"]), int(content["ModifiedNs"]))


def _read_stage(content: Mapping[str, Any]) -> Stage:
    states = {name: _read_state(one) for name, one in content["Files"].items()}
    writing = {name: tuple(sums) for name, sums in content.get("Writing", {}).items()}
    stage = Stage(
        dict(content["Origin"]),
        {name: state for name, state in states.items() if state is not None},
        writing,
    )
    if stage.key != content["Key"]:
        raise ValueError("key")
    return stage
