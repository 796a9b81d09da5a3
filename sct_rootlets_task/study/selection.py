"""Which images of a data set a user wants: labels, filters, lists of images, parts."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.bids_names import BidsName
from sct_rootlets_task.io.images import stem
from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of
from sct_rootlets_task.study.contrasts import OF_SCT
from sct_rootlets_task.study.options import Selection

_ANY, _ANY_OR_NONE = "*", "Query.OPTIONAL"
_QUERIES: Mapping[str, Any] = {"Query.ANY": _ANY, "Query.NONE": None}
"""Words of fMRIPrep's filter files for what JSON cannot say."""
_RATINGS = ("fail", "artifact", "artefact")
_COLUMNS = ("path", "image", "segmentation", "image_path", "segmentation_path", "name")
"""Columns of lists that may name an image or its level map."""
_YAML_ITEM = re.compile(r"""\s*-\s+(?:("(?:[^"\\]|\\.)*")|'((?:[^']|'')*)'|(.*?))\s*(?:\s\#.*)?""")
_YAML_OTHER = re.compile(r"\s*(?:[A-Z_]+:\s*(?:\[\s*\])?\s*)?(?:#.*)?|---")
_LARGEST_LIST = 1 << 26


@dataclass(frozen=True)
class Candidate:
    """An image of a contrast of the task.

    Parameters
    ----------
    source : str
        The image as a path inside the data set.
    name : BidsName
        Parts of its file name.
    contrast : str
        As :func:`~sct_rootlets_task.study.contrasts.contrast_of` tells it.
    subject, session : str
        ``sub-01``, ``ses-1``; the session may be empty.
    """

    source: str
    name: BidsName
    contrast: str
    subject: str
    session: str


def select(
    candidates: Sequence[Candidate],
    selection: Selection,
    *,
    subjects: Collection[str],
    sessions: Collection[str],
) -> list[Candidate]:
    """Return the candidates that are wanted; lists of images aside, see :func:`read_list`.

    Parameters
    ----------
    candidates : sequence of Candidate
        All of the data set.
    selection : Selection
        What is wanted.
    subjects, sessions : collection of str
        All of the data set, with or without such images, as ``sub-01`` and ``ses-1``.

    Raises
    ------
    UsageError
        If a label is not in the data set, or a filter cannot be understood.
    """
    wanted_subjects = _labels(selection.subjects, "sub", subjects, "--participant-label")
    wanted_sessions = _labels(selection.sessions, "ses", sessions, "--session-label")
    part = set(subjects_of_part(subjects, selection.part))
    passes = _filters(selection.filters)
    return [
        candidate
        for candidate in candidates
        if candidate.subject in part
        and (not wanted_subjects or candidate.subject in wanted_subjects)
        and (not wanted_sessions or candidate.session in wanted_sessions)
        and passes.get(candidate.contrast.lower(), _anything)(candidate)
    ]


def subjects_of_part(subjects: Iterable[str], part: tuple[int, int] | None) -> list[str]:
    """Return the subjects of a part: every N-th of all, whatever else is selected.

    Parameters
    ----------
    subjects : iterable of str
        All subjects of the data set.
    part : tuple of (int, int), optional
        Number of the part from 1, and how many parts there are.

    Raises
    ------
    UsageError
        If there is no such part.

    Examples
    --------
    >>> subjects_of_part(["sub-03", "sub-01", "sub-02"], (1, 2))
    ['sub-01', 'sub-03']
    """
    number, count = part or (1, 1)
    if not 1 <= number <= count:
        raise UsageError(
            f"--part expects K/N with K from 1 to N, found {number}/{count}. In a Slurm array, set "
            "--array=1-N and give --part $SLURM_ARRAY_TASK_ID/N."
        )
    return sorted(subjects)[number - 1 :: count]


def _labels(wanted: Sequence[str], key: str, known: Collection[str], option: str) -> set[str]:
    """Return labels with their key; all of them are in the data set."""
    labels = {f"{key}-{label.removeprefix(f'{key}-')}" for label in wanted}
    absent = sorted(labels - set(known))
    if absent:
        shown = " ".join(printable(label.removeprefix(f"{key}-")) for label in sorted(known))
        raise UsageError(
            f"{option}: {' '.join(map(printable, absent))} is not in the data set. It has: "
            f"{printable(shown, 600) or 'none'}."
        )
    return labels


def read_filters(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the content of a ``--bids-filter-file``.

    Parameters
    ----------
    path : Path
        JSON file: by contrast, the values that an entity may have.

    Raises
    ------
    UsageError
        If it cannot be read, or is of another form.
    """
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise UsageError(
            f"--bids-filter-file {printable(path)} is not JSON ({reason_of(error)}). Correct it."
        ) from None
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise UsageError(
            f'--bids-filter-file {printable(path)} expects {{"T2w": {{"acquisition": "sag"}}}} and '
            "the like: contrast, entity, value. Write it so."
        )
    return content


def _filters(
    filters: Mapping[str, Mapping[str, Any]],
) -> dict[str, Callable[[Candidate], bool]]:
    """Return a test for each contrast, by its name in lower case: fMRIPrep writes ``t2w``."""
    keys = _entity_keys() if filters else {}
    tests = {}
    for contrast, wanted in filters.items():
        rules = [(_key(entity, keys), value) for entity, value in wanted.items()]
        tests[OF_SCT.get(contrast, contrast).lower()] = _all_hold(rules)
    return tests


def _anything(_: Candidate) -> bool:
    return True


def _all_hold(rules: Sequence[tuple[str, Any]]) -> Callable[[Candidate], bool]:
    def test(candidate: Candidate) -> bool:
        name = candidate.name
        has = {
            **name.entities,
            "datatype": "anat",
            "suffix": name.suffix,
            "extension": name.extension,
        }
        return all(_holds(key, has.get(key), value) for key, value in rules)

    return test


def _entity_keys() -> dict[str, str]:
    """Return the short key of each entity of BIDS by its long and by its short name."""
    import ancpbids

    schema: Any = ancpbids
    known = schema.model_latest.EntityEnum
    entities = {entity.name: str(entity.value["name"]) for entity in known}
    of_file = {key: key for key in ("datatype", "suffix", "extension")}
    return {**entities, **{short: short for short in entities.values()}, **of_file}


def _key(entity: str, keys: Mapping[str, str]) -> str:
    if entity not in keys:
        raise UsageError(
            f"--bids-filter-file: {printable(entity)!r} is no entity of BIDS. Use one of "
            f"{', '.join(sorted(set(keys.values())))}, or its long name, such as acquisition."
        )
    return keys[entity]


def _holds(key: str, label: str | None, wanted: Any) -> bool:
    """Tell whether a label, None where the entity is absent, is one that is wanted."""
    if isinstance(wanted, list):
        return any(_holds(key, label, value) for value in wanted)
    if isinstance(wanted, str):
        wanted = _QUERIES.get(wanted, wanted)
    if wanted == _ANY_OR_NONE:
        return True
    if wanted is None or label is None:
        return wanted is None and label is None
    if isinstance(wanted, int) and label.isdecimal():
        return int(label) == wanted
    text = str(wanted).removeprefix(f"{key}-")
    return text in (_ANY, label) or f".{text}" == label


def read_list(path: Path) -> frozenset[str]:
    """Return the file names in a list of images.

    Parameters
    ----------
    path : Path
        ``qc_fail.yml`` and the like; ratings of a report (CSV), of which those count that are rated
        fail or artifact; or ``failures.tsv``.

    Returns
    -------
    frozenset of str
        Names of images or of their level maps, without folders and extensions.

    Raises
    ------
    UsageError
        If the file cannot be read, or is no such list.
    """
    text = _read(path).removeprefix("\ufeff")
    names = _in_table(text, path) if path.suffix.lower() in (".csv", ".tsv") else _in_yaml(text)
    if names is None:
        raise UsageError(
            f"{printable(path)} names no images. Expected qc_fail.yml, the ratings (CSV) of a QC "
            "report, or failures.tsv."
        )
    return frozenset(stem(Path(name)) for name in names if name)


def _read(path: Path) -> str:
    try:
        with open_regular(path) as stream:
            return stream.read(_LARGEST_LIST).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"{printable(path)} cannot be read ({reason_of(error)}).") from None


def _in_yaml(text: str) -> list[str] | None:
    lines = [line for line in text.splitlines() if not _YAML_OTHER.fullmatch(line)]
    items = [_YAML_ITEM.fullmatch(line) for line in lines]
    return None if None in items else [_unquoted(*item.groups()) for item in items if item]


def _unquoted(double: str | None, single: str | None, plain: str | None) -> str:
    if double is None:
        return (single or "").replace("''", "'") or plain or ""
    try:
        return str(json.loads(double))
    except ValueError:
        return double[1:-1]


def _in_table(text: str, path: Path) -> list[str] | None:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = [column for column in rows.fieldnames or () if column in _COLUMNS]
    is_rated = "rating" in (rows.fieldnames or ())
    if not columns:
        return None
    return [
        (row[column] or "").removeprefix("'")
        for row in rows
        if not is_rated or row["rating"] in _RATINGS
        for column in columns
    ]
