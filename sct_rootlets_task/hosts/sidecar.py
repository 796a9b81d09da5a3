"""What every host writes beside a level map: how it was made and how plausible it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.plausibility import Report
    from sct_rootlets_task.images import InputImage
    from sct_rootlets_task.pipeline import Segmentation, Segmenter
    from sct_rootlets_task.tasks import Task


def check_plausibility(segmentation: Segmentation, image: InputImage, task: Task) -> Report | None:
    """Return how plausible the levels are, where there is knowledge to hold them against."""
    from sct_rootlets_task.analysis.plausibility import check
    from sct_rootlets_task.analysis.references import References
    from sct_rootlets_task.analysis.shifting import CERVICAL

    if not segmentation.labels.any() or not set(task.levels) <= set(CERVICAL):
        return None
    references = References(located=segmentation.located)
    return check(segmentation.labels, image.affine, levels=task.levels, references=references)


def describe(
    segmenter: Segmenter,
    segmentation: Segmentation,
    image: InputImage,
    *,
    report: Report | None,
    notice: str | None,
    threads: int,
) -> dict[str, Any]:
    """Return the keys of the sidecar that stand after SCT's own.

    Parameters
    ----------
    segmenter : Segmenter
        What was run.
    segmentation : Segmentation
        What came out.
    image : InputImage
        What it was run on.
    report : Report, optional
        Its plausibility.
    notice : str, optional
        What must be known about the model.
    threads : int
        CPU threads used.
    """
    from sct_rootlets_task.pipeline import provenance

    return {
        **({"Notice": notice} if notice else {}),
        "Sources": [image.path.name],
        **provenance(segmenter, segmentation),
        "Threads": threads,
        **({"Plausibility": report.to_dict()} if report else {}),
    }
