"""Which entry of a report a new one stands for: its own earlier one, or none."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sct_rootlets_task.qc.stored import (
    DATA,
    NAME,
    UnreadableEntry,
    check_entry,
    path_of,
    read_record,
    shown,
)

logger = logging.getLogger(__name__)

_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")
_FACTS = ("shape", "voxel_mm", "orientation")
_HERE, _GONE, _ELSEWHERE = "here", "gone", "elsewhere"

ALIKE = ".alike"
"""Folder of a report with the names of entries that share dataset, subject and file names."""

_LONGER = re.compile(r"(.+)-[0-9a-f]{8}(-\d+)?")


def entry_name(entries: Path, entry: Mapping[str, Any]) -> str:
    """Return the name of the folder that a new entry is to have.

    The entry replaces one of the same two files. It also replaces one whose files have moved: they
    are gone from where they were, and the image is the same voxel by voxel. Two images that only
    share their name and subject become two entries. Only those are looked at, however many entries
    there are.

    Parameters
    ----------
    entries : Path
        Folder of the report's entries.
    entry : mapping
        Data of the new entry, with the ``id`` that its names ask for.

    Returns
    -------
    str
        That ``id``, or one that begins with it. Another job may take it at any moment, unless the
        caller holds the report's lock.
    """
    wanted = str(entry["id"])
    own, longer = itertools.islice(_names(wanted, entry), 2)
    claims = {name: _claim(entries / name) for name in (own, longer, *_alike(entries, wanted))}
    for test in (_is_same, _has_moved):
        for name, old in claims.items():
            if test(old, entry):
                return name
    return next(name for name in _names(wanted, entry) if not _claim(entries / name))


def tell_of(entries: Path, entry: Mapping[str, Any], name: str) -> None:
    """Log what a user may not expect of an entry's name; call it before the entry is in place."""
    old = _claim(entries / name)
    _warn_of_other_voxels(old, entry)
    if not old and name != entry["id"]:
        _log_new_name(name, _claim(entries / entry["id"]), entry)


def keep_alike(entries: Path, name: str) -> None:
    """Note the longer name of an entry, so that a new one of the same names finds it."""
    longer = _LONGER.fullmatch(name)
    if not longer:
        return
    folder = entries.parent / ALIKE
    if folder.is_symlink():
        folder.unlink()
    (folder / longer[1]).mkdir(parents=True, exist_ok=True)
    (folder / longer[1] / name).touch()


def _alike(entries: Path, wanted: str) -> list[str]:
    try:
        names = sorted(path.name for path in (entries.parent / ALIKE / wanted).iterdir())
    except OSError:
        return []
    return [name for name in names if name.startswith(wanted) and NAME.fullmatch(name)]


def _names(wanted: str, entry: Mapping[str, Any]) -> Iterator[str]:
    places = f"{entry['image_place']}\n{entry['segmentation_place']}"
    longer = f"{wanted}-{hashlib.sha256(places.encode('ascii')).hexdigest()[:8]}"
    return itertools.chain((wanted, longer), (f"{longer}-{n}" for n in itertools.count(2)))


def _claim(folder: Path) -> Mapping[str, Any]:
    """Return what an entry says of its files; nothing for a damaged one, which may be replaced."""
    content: Any = {}
    try:
        if not folder.is_symlink():
            content = read_record(folder / DATA)
        check_entry(content)
    except UnreadableEntry as error:
        if error.newer:
            return {"newer": True}
    known = content if isinstance(content, dict) else {}
    paths = (known.get("image_path"), known.get("segmentation_path"))
    return known if all(isinstance(path, str) for path in paths) else {}


def _is_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(_whereabouts(old, new, kind) == _HERE for kind in ("image", "segmentation"))


def _has_moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether nothing is left where the files of an entry were, and the image is the same."""
    image, segmentation = (_whereabouts(old, new, kind) for kind in ("image", "segmentation"))
    if _ELSEWHERE in (image, segmentation):
        return False
    return image == _HERE or _is_same_image(old, new)


def _whereabouts(old: Mapping[str, Any], new: Mapping[str, Any], kind: str) -> str:
    """Tell whether a file of an entry is that of the new one, is gone, or is another file."""
    before, now = path_of(old, kind), path_of(new, kind)
    if before is None or now is None:
        return _ELSEWHERE
    if before == now or _is_one_file(before, now):
        return _HERE
    return _ELSEWHERE if os.path.lexists(before) else _GONE


def _is_one_file(before: str, now: str) -> bool:
    """Compare name and folder: links of several names to one file are several images."""
    before_path, now_path = Path(before), Path(now)
    try:
        return before_path.name == now_path.name and before_path.parent.samefile(now_path.parent)
    except (OSError, ValueError):
        return False


def _is_same_image(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Compare the voxels; of an earlier version's entry, the grid and the place in the study."""
    if "image_stamp" in old:
        return bool(old["image_stamp"] == new["image_stamp"])
    before, now = (_place_in_study(str(path_of(entry, "image"))) for entry in (old, new))
    return before == now and all(old.get(fact) == new[fact] for fact in _FACTS)


def _place_in_study(path: str) -> tuple[str, ...]:
    """Return the part of a path from the subject's folder on; of no BIDS data set, nothing."""
    parts = Path(path).parts
    first = next((n for n, part in enumerate(parts[:-1]) if _SUBJECT.fullmatch(part)), len(parts))
    return parts[first:]


def _warn_of_other_voxels(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    if old.get("image_stamp", new["image_stamp"]) != new["image_stamp"]:
        logger.warning(
            "%s: the image in this place was another one when its entry of the QC report was made, "
            "which is replaced. Give two images of one path two subjects (-qc-subject).",
            shown(new["image_path"]),
        )


def _log_new_name(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    logger.info(
        "%s: subject, image and segmentation are called like those of %s, which stays in the QC "
        "report. This image gets the entry %s.",
        shown(new["image_path"]),
        shown(old.get("image_path", "another entry")),
        name,
    )
