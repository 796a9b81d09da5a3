"""What the name and the folders of a file in a BIDS data set say of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SUBJECT, _SESSION = (re.compile(rf"{entity}-[^_./\\]+") for entity in ("sub", "ses"))


@dataclass(frozen=True)
class BidsName:
    """Parts of a file name such as ``sub-01_acq-sag_T2w.nii.gz``.

    Parameters
    ----------
    entities : mapping of str to str
        Labels by their short keys (``sub``, ``acq``), in the order of the name.
    suffix : str
        Last word without a hyphen (``T2w``); empty where the name ends with an entity.
    extension : str
        All from the first dot behind the suffix (``.nii.gz``); empty where there is none.
    """

    entities: Mapping[str, str]
    suffix: str
    extension: str


def parse_name(name: str) -> BidsName:
    """Return the parts of a file name; words that are neither entity nor suffix are left out.

    Parameters
    ----------
    name : str
        File name without folders. It need not be valid.

    Examples
    --------
    >>> parse_name("sub-01_acq-sag_T2w.nii.gz")
    BidsName(entities={'sub': '01', 'acq': 'sag'}, suffix='T2w', extension='.nii.gz')
    """
    *words, last = name.split("_")
    last, dot, extension = last.partition(".")
    is_suffix = "-" not in last
    pairs = (word.partition("-") for word in (*words, *(() if is_suffix else (last,))))
    entities = {key: label for key, hyphen, label in pairs if hyphen}
    return BidsName(entities, last if is_suffix else "", f"{dot}{extension}")


def subject_and_session(path: Path) -> tuple[str, str]:
    """Return subject and session of a file, empty texts where there is none.

    The nearest folder that is called like one counts, then the beginning of the file name.

    Parameters
    ----------
    path : Path
        File of a data set.

    Returns
    -------
    tuple of str
        Such as ``sub-01`` and ``ses-1``.

    Examples
    --------
    >>> subject_and_session(Path("/data/sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz"))
    ('sub-01', 'ses-1')
    >>> subject_and_session(Path("sub-01_T2w.nii.gz"))
    ('sub-01', '')
    """
    return _find(_SUBJECT, path, path.name), _find(_SESSION, path, path.name.partition("_")[2])


def _find(label: re.Pattern[str], path: Path, name: str) -> str:
    folders = (folder for folder in reversed(path.parts[:-1]) if label.fullmatch(folder))
    found = label.match(name)
    return next(folders, found[0] if found else "")
