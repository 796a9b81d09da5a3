"""Names of results: valid BIDS derivatives, or the habit of SCT's laboratories."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.bids_names import BidsName, parse_name
from sct_rootlets_task.io.images import stem
from sct_rootlets_task.io.untrusted import printable
from sct_rootlets_task.study.contrasts import contrast_of
from sct_rootlets_task.study.options import BIDS
from sct_rootlets_task.tasks import Task

DEFAULT_CONTRAST = "T2w"
"""The contrast that a name without ``desc`` stands for."""

SPINAL_LEVELS = "spinallevels"
"""Word for the map of spinal levels, as ``seg-rootlets`` has one for the level map."""

_BEFORE_SPACE = ("sub", "ses", "task", "acq", "ce", "rec", "run", "echo", "part")
_KEPT = (*_BEFORE_SPACE, "chunk", "space", "desc")
"""Entities of an image that BIDS 1.10 allows in the name of its ``dseg``, in their order."""
_NUMBERS = frozenset({"run", "echo", "inv", "chunk", "flip", "split"})
_LABEL, _NUMBER = re.compile(r"[0-9A-Za-z+]+"), re.compile(r"[0-9]+")
_SEG = re.compile(r"_(?:seg-[^_]+(?=_)|label-[^_]+(?=_dseg\.))")


class NameNotBidsError(UsageError):
    """The name of an image is not valid in BIDS, so that no valid name can be made of it."""


@dataclass(frozen=True)
class ResultName:
    """Parts of the name that BIDS gives a result.

    Parameters
    ----------
    entities : str
        All before ``space``, such as ``sub-01_acq-sag``.
    space : str
        Space of the image, and its ``chunk`` if it is one of several.
    desc : str
        What tells the image from others and is no entity of results: ``_desc-UNIT1``, or nothing.
    """

    entities: str
    space: str
    desc: str


def segmented(task: Task) -> str:
    """Return the word for what a task segments: one for tasks whose results are of one kind.

    Examples
    --------
    >>> from sct_rootlets_task.registry import TASKS
    >>> [segmented(task) for task in TASKS.values()]
    ['rootlets', 'rootlets']
    """
    return "".join(filter(str.isalnum, task.legacy_of or task.name))


def level_map_name(image: Path, task: Task, naming: str) -> str:
    """Return the file name of the level map of an image.

    Parameters
    ----------
    image : Path
        Image of a data set.
    task : Task
        What is segmented.
    naming : {"bids", "neuropoly"}
        How results are called.

    Raises
    ------
    NameNotBidsError
        If a valid name is wanted and the image's is none.

    Examples
    --------
    >>> from sct_rootlets_task.registry import ROOTLETS
    >>> level_map_name(Path("sub-01_inv-1_MP2RAGE.nii.gz"), ROOTLETS, "bids")
    'sub-01_space-orig_seg-rootlets_desc-INV1_dseg.nii.gz'
    >>> level_map_name(Path("sub-01_T2w.nii"), ROOTLETS, "neuropoly")
    'sub-01_T2w_label-rootlets_dseg.nii.gz'
    """
    if naming != BIDS:
        return f"{stem(image)}_label-{segmented(task)}_dseg.nii.gz"
    name = result_name(image.name)
    return f"{name.entities}_{name.space}_seg-{segmented(task)}{name.desc}_dseg.nii.gz"


def spinal_levels_name(level_map: str) -> str:
    """Return the file name of the map of spinal levels that belongs to a level map.

    Examples
    --------
    >>> spinal_levels_name("sub-01_space-orig_seg-rootlets_desc-UNIT1_dseg.nii.gz")
    'sub-01_space-orig_seg-spinallevels_desc-UNIT1_dseg.nii.gz'
    >>> spinal_levels_name("sub-01_T2w_label-rootlets_dseg.nii.gz")
    'sub-01_T2w_label-spinallevels_dseg.nii.gz'
    """
    found = _SEG.findall(level_map)[-1]
    head, _, tail = level_map.rpartition(found)
    return f"{head}{found.partition('-')[0]}-{SPINAL_LEVELS}{tail}"


def result_name(image: str) -> ResultName:
    """Return the parts of the names of results of an image.

    Parameters
    ----------
    image : str
        File name.

    Raises
    ------
    NameNotBidsError
        If the name is not valid in BIDS.

    Notes
    -----
    Contrast and entities that results cannot have go into ``desc``, in the order of the name.
    """
    name = parse_name(image)
    _check_name(image, name)
    has = name.entities
    before = "_".join(f"{key}-{has[key]}" for key in _BEFORE_SPACE if key in has)
    chunk = f"_chunk-{has['chunk']}" if "chunk" in has else ""
    return ResultName(before, f"space-{has.get('space', 'orig')}{chunk}", _desc(name))


def _desc(name: BidsName) -> str:
    contrast = contrast_of(name)
    told = {*_KEPT, *(("inv",) if contrast != name.suffix else ())}
    words = (
        "" if contrast == DEFAULT_CONTRAST else contrast,
        *(f"{key}{label}" for key, label in name.entities.items() if key not in told),
        name.entities.get("desc", ""),
    )
    text = "".join(words)
    return f"_desc-{text}" if text else ""


def _check_name(image: str, name: BidsName) -> None:
    words = image.split("_")
    keys = [word.partition("-")[0] for word in words[:-1]]
    odd = next((word for word in words[:-1] if not _is_entity(word)), None)
    if keys[:1] != ["sub"] or len(set(keys)) < len(keys) or not _LABEL.fullmatch(name.suffix):
        odd = image
    if odd is not None:
        raise NameNotBidsError(
            f"{printable(odd)} is no name that BIDS allows, so that results cannot have a valid "
            "one. Rename the image, or use --naming neuropoly, which keeps names as they are."
        )


def _is_entity(word: str) -> bool:
    key, _, label = word.partition("-")
    form = _NUMBER if key in _NUMBERS else _LABEL
    return bool(_LABEL.fullmatch(key) and form.fullmatch(label))
