"""One image file segmented, and everything that belongs to the result written.

:func:`segment_to_files` is what each image of a command goes through.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task.errors import NotShownError
from sct_rootlets_task.io.images import labels_image, load_image
from sct_rootlets_task.segmentation.sidecar import check_run, describe, without_folders

if TYPE_CHECKING:
    import nibabel as nib

    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.io.outputs import Job
    from sct_rootlets_task.segmentation.segmenter import Segmentation, Segmenter

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a command asks for each of its images, besides the files that are planned.

    Parameters
    ----------
    arguments : sequence of str
        The words after ``sct_deepseg``, for the sidecar and the QC page.
    notice : str, optional
        What must be known about the model.
    qc : Path, optional
        Folder of the QC report.
    qc_dataset, qc_subject : str, optional
        As the report shows them; otherwise they are read from the image's path.
    qc_seg : Path, optional
        Mask that the views of the report are centered on.
    """

    arguments: Sequence[str] = ()
    notice: str | None = None
    qc: Path | None = None
    qc_dataset: str | None = None
    qc_subject: str | None = None
    qc_seg: Path | None = None

    def require_all(self, jobs: Sequence[Job]) -> None:
        """Find out before the first image whether the report and the pictures can be made.

        Raises
        ------
        MissingDependencyError, UsageError, OutputError, ImageError
            If Jinja2 or Pillow is missing, or the report's folder or the mask cannot be used.
        """
        from sct_rootlets_task.qc.folder import require_report_folder
        from sct_rootlets_task.qc.pages import require_jinja
        from sct_rootlets_task.qc.render import require_pillow
        from sct_rootlets_task.qc.scene import require_mask

        if self.qc:
            require_jinja()
            require_report_folder(self.qc)
        if self.qc or any(job.preview for job in jobs):
            require_pillow()
        if self.qc and self.qc_seg:
            require_mask(self.qc_seg, *(job.image for job in jobs))


@dataclass(frozen=True, eq=False)
class SegmentedFile:
    """What came of an image file.

    Parameters
    ----------
    segmentation : Segmentation
        The levels, and how they came about.
    labels : nibabel.Nifti1Image
        Level map (uint8) on the image's grid.
    report : Report
        How plausible the levels are.
    record : dict
        Keys of the sidecar that stand after SCT's own.
    """

    segmentation: Segmentation
    labels: nib.Nifti1Image
    report: Report
    record: dict[str, Any]

    @property
    def levels_found(self) -> str:
        """The levels and their voxels as text, for example ``C2 98, C3 120``."""
        voxels: dict[str, int] = self.record["LevelVoxels"]
        return ", ".join(f"{name} {count}" for name, count in voxels.items()) or "none"


def segment_file(
    path: Path, segmenter: Segmenter, *, notice: str | None = None, output: Path | None = None
) -> SegmentedFile:
    """Segment an image file, check the levels and describe how they were made; write nothing.

    Parameters
    ----------
    path : Path
        NIfTI image of one 3-D volume.
    segmenter, notice : Segmenter, str
        The model, and what must be known about it, if anything.
    output : Path, optional
        File of the level map, for the commands in the texts of flags.

    Raises
    ------
    ImageError
        If the image cannot be read or used.
    """
    image = load_image(path)
    segmentation = segmenter.segment(image)
    report = check_run(segmentation, image, segmenter.task, output)
    shown = without_folders(report, output) if output else report
    record = describe(segmenter, segmentation, [image.path.name], report=shown, notice=notice)
    levels = segmenter.task.level_names.replace("–", "-")
    text = f"{segmenter.task.name} {levels} by {segmenter.model.name}, value=level (C1=1)"
    labels = labels_image(segmentation.labels, image, text)
    return SegmentedFile(segmentation, labels, report, record)


def segment_to_files(job: Job, segmenter: Segmenter, request: Request) -> SegmentedFile:
    """Segment an image file and write what belongs to it.

    That is the level map with its sidecar and color tables, which are written together or not at
    all; then the picture and the entry in the QC report, where they are wanted.

    Parameters
    ----------
    job, segmenter, request : Job, Segmenter, Request
        The image and the files to write; the model; what else is wanted.

    Raises
    ------
    ImageError
        If the image cannot be read or used.
    OutputError
        If a file cannot be written.
    NotShownError
        If the level map is complete, but the picture or the entry could not be made.
    """
    result = segment_file(job.image, segmenter, notice=request.notice, output=job.output)
    for warning in result.segmentation.warnings:
        logger.warning("%s: %s", job.image, warning)
    _write(job, segmenter, result, request)
    try:
        _show(job, segmenter, result.report, request)
    except Exception as error:
        raise NotShownError(job.output) from error
    return result


def _write(job: Job, segmenter: Segmenter, result: SegmentedFile, request: Request) -> None:
    """Write the level map, its sidecar and its color tables."""
    from sct_rootlets_task.io.luts import lut_text
    from sct_rootlets_task.io.ownership import generated_by, shortened
    from sct_rootlets_task.io.results import write_results

    command = shortened("sct_deepseg", request.arguments)
    record = {"GeneratedBy": generated_by(command, segmenter.model.urls), **result.record}
    tables = {path: lut_text(name, segmenter.task.levels) for name, path in job.luts.items()}
    write_results({job.output: result.labels}, record, texts=tables)


def _show(job: Job, segmenter: Segmenter, report: Report, request: Request) -> None:
    """Draw the picture and add to the QC report, where they are wanted."""
    from sct_rootlets_task.qc.entry import Details
    from sct_rootlets_task.qc.preview import draw
    from sct_rootlets_task.qc.report import add_entry

    if job.preview:
        draw(job.image, job.output, job.preview)
    if request.qc:
        details = Details.of(
            report,
            dataset=request.qc_dataset,
            subject=request.qc_subject,
            command=shlex.join(["sct_deepseg", *request.arguments]),
            model=segmenter.model.name,
            around=request.qc_seg,
            expected=segmenter.task.levels,
        )
        add_entry(request.qc, job.image, job.output, details)
