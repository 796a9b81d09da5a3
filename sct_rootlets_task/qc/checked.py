"""An entry of a report with what the check says about its levels."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sct_rootlets_task.analysis.plausibility import check
from sct_rootlets_task.analysis.shifting import CERVICAL
from sct_rootlets_task.images import load_labels
from sct_rootlets_task.qc.entry import Details
from sct_rootlets_task.qc.report import add_entry

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.plausibility import Report


def add_checked_entry(report: Path, image: Path, segmentation: Path, details: Details) -> Path:
    """Check a level map, and put it with its image into a report.

    Parameters
    ----------
    report : Path
        Folder of the report; made if it does not exist.
    image : Path
        NIfTI image.
    segmentation : Path
        Level map on the grid of the image; it may be empty.
    details : Details
        What else is known; flags and levels are those of the check.

    Returns
    -------
    Path
        Page of the image.

    Raises
    ------
    RootletsError
        As :func:`~sct_rootlets_task.qc.report.add_entry` does.
    """
    found = _check(segmentation)
    if found is not None:
        flags = [asdict(flag) for flag in found.flags]
        details = replace(details, flags=flags, levels=[asdict(one) for one in found.levels])
    return add_entry(report, image, segmentation, details)


def _check(segmentation: Path) -> Report | None:
    """Return how plausible the levels are, where all of them are known to the check."""
    labels = load_labels(segmentation)
    values = labels.data.astype(np.uint8)
    present = set(np.unique(values).tolist()) - {0}
    return check(values, labels.affine) if present and present <= set(CERVICAL) else None
