"""Level maps in folders, and the files that go with a level map, found by their names."""

from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.io.bids_names import subject_and_session
from sct_rootlets_task.io.images import stem

logger = logging.getLogger(__name__)

LEVEL_MAPS: Mapping[str, str] = {
    "*_seg-rootlets*_dseg.nii.gz": "BIDS derivatives",
    "*_label-rootlets_dseg.nii.gz": "labels of neuropoly's data sets",
    "*_rootlets.nii.gz": "results of sct_deepseg",
}
"""Names by which level maps are found in a folder, and whose names they are."""

CORRECTED = "corrected"
"""Folder of a data set with level maps that people have corrected."""

PLACEHOLDERS: Mapping[str, str] = {
    "folder": "folder of the level map",
    "image": "name of the level map up to its ending, such as sub-01_T2w of "
    "sub-01_T2w_rootlets.nii.gz",
    "subject": "subject, such as sub-01, from the level map's folder or name",
    "session": "session likewise; where there is none, it is left out with its _ or /",
}
"""What may stand in braces in the pattern of a file name."""

_LEFT_OUT = ("work", "qc")
_PLACEHOLDER = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")
_MAP_ENDING = re.compile(r"(_space-[A-Za-z0-9]+)?_(seg-|label-)?rootlets.*")


def find_level_maps(folder: Path) -> list[Path]:
    """Return the level maps of rootlets in a folder and the folders in it, in a fixed order.

    Names tell, see :data:`LEVEL_MAPS`. Hidden folders and those called ``work`` or ``qc`` are left
    out, and so are links to folders. A map in the folder ``corrected`` stands in the place of those
    of the same name and subject elsewhere.

    Parameters
    ----------
    folder : Path
        A data set, or any folder.

    Raises
    ------
    UsageError
        If there are none.
    """
    found = sorted(_level_maps(folder))
    corrected = folder / CORRECTED
    instead = {_identity(path) for path in found if corrected in path.parents}
    kept = [p for p in found if corrected in p.parents or _identity(p) not in instead]
    if not kept:
        raise UsageError(
            f"Expected level maps in the folder {folder} ({', '.join(LEVEL_MAPS)}), found none. "
            "Give the files themselves."
        )
    return kept


def _level_maps(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder, onerror=_warn):
        folders[:] = [name for name in folders if name[0] != "." and name not in _LEFT_OUT]
        for name in files:
            if name[0] != "." and any(fnmatchcase(name, form) for form in LEVEL_MAPS):
                yield Path(place, name)


def _warn(error: OSError) -> None:
    logger.warning("%s: this folder was left out (%s).", error.filename, error.strerror)


def _identity(path: Path) -> tuple[str, str, str]:
    return (path.name, *subject_and_session(path))


def is_pattern(text: str) -> bool:
    """Tell whether a text is the pattern of a file name, with a placeholder, and not a file's.

    Examples
    --------
    >>> is_pattern("masks/{subject}_cord.nii.gz"), is_pattern("masks/{x}.nii.gz")
    (True, False)
    """
    return bool(_PLACEHOLDER.search(text)) and not os.path.lexists(text)


def file_by_pattern(pattern: str, level_map: Path) -> Path:
    """Return the one file that a pattern stands for.

    Parameters
    ----------
    pattern : str
        Name of a file with :data:`PLACEHOLDERS` in braces. A ``*`` stands for any letters.
    level_map : Path
        The level map that the file goes with.

    Raises
    ------
    ImageError
        If there is no such file, or more than one, or the map's name tells no subject.
    """
    subject, session = subject_and_session(level_map)
    if "{subject}" in pattern and not subject:
        raise ImageError(
            f"Expected a subject (sub-…) in the name or the folder of {level_map}, which "
            f"{pattern} needs, found none. Use {{image}} or give the files one by one."
        )
    if not session:
        pattern = pattern.replace("_{session}", "").replace("{session}/", "")
    image = _MAP_ENDING.split(stem(level_map))[0]
    folder = str(level_map.parent)
    values = {"folder": folder, "image": image, "subject": subject, "session": session}
    # Only a * of the pattern stands for any letters: what is put in may hold one too.
    parts = [_PLACEHOLDER.sub(lambda m: values[m[1]], one) for one in pattern.split("*")]
    # Unlike Path.glob, it takes absolute patterns.
    matches = sorted(glob.glob("*".join(map(glob.escape, parts))))  # noqa: PTH207
    if len(matches) != 1:
        named = f"{len(matches)}: {', '.join(matches[:3])}" if matches else "none"
        raise ImageError(
            f"Expected one file {'*'.join(parts)} for the level map {level_map}, found {named}. "
            "Correct the pattern, or give the files one by one."
        )
    return Path(matches[0])
