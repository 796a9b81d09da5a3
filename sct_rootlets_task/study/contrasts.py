"""Names of contrasts: what SCT's tasks call them, and the names of images in a BIDS data set."""

from __future__ import annotations

from collections.abc import Mapping

from sct_rootlets_task.io.bids_names import BidsName
from sct_rootlets_task.tasks import Task

OF_SCT: Mapping[str, str] = {"t2": "T2w", "t1": "T1w", "T1w-INV1": "INV1", "T1w-INV2": "INV2"}
"""SCT's word for a contrast → ours; all others are called alike."""

OF_INVERSION: Mapping[tuple[str, str], str] = {
    ("MP2RAGE", "1"): "INV1",
    ("MP2RAGE", "2"): "INV2",
}
"""BIDS suffix and number of the inversion → contrast; all other suffixes are the contrast's name.

Laboratories write the suffixes ``INV1`` and ``INV2``, which BIDS does not know.
"""

NOT_BIDS = frozenset({"INV1", "INV2"})
"""Suffixes of these laboratories. Their files must be in ``.bidsignore``, and are still images."""

NOT_MAGNITUDE = frozenset({"phase", "real", "imag"})
"""Labels of ``part`` that no task can use."""


def contrasts_of(task: Task) -> tuple[str, ...]:
    """Return a task's contrasts as a data set calls them.

    Examples
    --------
    >>> from sct_rootlets_task.registry import ROOTLETS
    >>> contrasts_of(ROOTLETS)
    ('T2w', 'UNIT1', 'INV1', 'INV2')
    """
    return tuple(OF_SCT.get(word, word) for word in task.contrasts)


def contrast_of(name: BidsName) -> str:
    """Return the contrast of an image from its name, by the suffix and the inversion.

    Examples
    --------
    >>> from sct_rootlets_task.io.bids_names import parse_name
    >>> contrast_of(parse_name("sub-01_inv-2_part-mag_MP2RAGE.nii.gz"))
    'INV2'
    """
    inversion = name.entities.get("inv", "").lstrip("0")
    return OF_INVERSION.get((name.suffix, inversion), name.suffix)
