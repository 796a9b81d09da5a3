"""What stands beside a level map: how it was made and how plausible it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.io.images import InputImage
    from sct_rootlets_task.levels.landmarks import Landmarks
    from sct_rootlets_task.segmentation.segmenter import Segmentation, Segmenter
    from sct_rootlets_task.tasks import Task


_SHAPING = (
    environment.RAW,
    environment.TILES,
    environment.ENGINE,
    environment.DEVICE,
    environment.PRECISION,
)
"""Variables that shape a result, which the command in the sidecar does not show."""


def what_to_run(*, raw: bool = False, tiles: str | None = None) -> dict[str, Any]:
    """Return the settings ``raw`` and ``tiles``: of the options, else of the variables.

    Parameters
    ----------
    raw : bool
        Whether ``-raw`` was given.
    tiles : {"auto", "all"}, optional
        Argument of ``-tiles``.

    Raises
    ------
    UsageError
        If a variable that counts has a wrong value.
    """
    from sct_rootlets_task.segmentation.segmenter import TILES

    asked = tiles or environment.read(environment.TILES) or TILES[0]
    if asked not in TILES:
        raise UsageError(
            f"{environment.TILES} expects {' or '.join(TILES)}, found {asked[:40]!r}. Correct the "
            "variable."
        )
    return {"raw": raw or environment.is_on(environment.RAW), "tiles": asked}


def check_plausibility(
    segmentation: Segmentation, image: InputImage, task: Task, output: Path | None = None
) -> Report:
    """Return how plausible the levels of a run are, with what the run itself was not sure of.

    Parameters
    ----------
    segmentation : Segmentation
        What came out.
    image : InputImage
        What the model was run on.
    task : Task
        The task.
    output : Path, optional
        File of the label map, for the commands that flags advise.
    """
    from sct_rootlets_task.analysis.check import check
    from sct_rootlets_task.levels.landmarks import Landmarks

    files = {"labels": str(output)} if output else {}
    references = Landmarks(located=segmentation.located, files=files)
    report = check(segmentation.labels, image.affine, task=task, references=references)
    return report.with_doubts(w for w in segmentation.warnings if w not in image.warnings)


def check_map(
    path: Path | None, image: Any, *, task: Task, references: Landmarks | None = None
) -> Report:
    """Return how plausible the levels of a file are: what ``check`` lists and the QC page shows.

    Parameters
    ----------
    path : Path, optional
        File of the level map; a sidecar beside it tells what the run that made it was not sure of.
    image : nibabel.Nifti1Image
        The same as an image in mm.
    task : Task
        Task of the map.
    references : Landmarks, optional
        Cord mask, PMJ, discs, locator's levels, as far as there are any.

    Raises
    ------
    ImageError
        As :func:`sct_rootlets_task.analysis.check.check` does.
    """
    from sct_rootlets_task.analysis.check import check
    from sct_rootlets_task.levels.landmarks import references_from_images
    from sct_rootlets_task.rootlets.geometry import level_map

    known = references or references_from_images(image)
    report = check(level_map(image), image.affine, task=task, references=known)
    return report if path is None else report.with_doubts(doubts_beside(path))


def doubts_beside(path: Path) -> tuple[str, ...]:
    """Return what the run that made a level map was not sure of, by the sidecar beside it.

    Where the sidecar holds a report, its flags tell; else all of its warnings are doubts.

    Parameters
    ----------
    path : Path
        The level map.
    """
    from sct_rootlets_task.analysis.flags import DOUBT
    from sct_rootlets_task.qc.stored import read_sidecar

    record = read_sidecar(path)
    report, texts = record.get("Plausibility"), record.get("Warnings")
    if isinstance(report, dict) and isinstance(report.get("Flags"), list):
        flags = (one for one in report["Flags"] if isinstance(one, dict))
        texts = [one.get("text") for one in flags if one.get("code") == DOUBT]
    return tuple(one for one in texts if isinstance(one, str)) if isinstance(texts, list) else ()


def without_folders(report: Report, output: Path) -> Report:
    """Return a report whose commands name files only, as folders may name people.

    Parameters
    ----------
    report : Report
        Result of :func:`check_plausibility`.
    output : Path
        File of the label map.
    """
    from sct_rootlets_task.analysis.numbering import relabel_command

    flags = report.flags
    for shift in report.shifts:
        full, short = (relabel_command(one, shift.shift) for one in (output, output.name))
        flags = tuple(replace(one, text=one.text.replace(full, short)) for one in flags)
    return replace(report, flags=flags)


def describe(
    segmenter: Segmenter,
    segmentation: Segmentation,
    image: InputImage,
    *,
    report: Report,
    notice: str | None,
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
    report : Report
        Its plausibility.
    notice : str, optional
        What must be known about the model.
    """
    from sct_rootlets_task.segmentation.segmenter import provenance

    variables = {name: value for name in _SHAPING if (value := environment.read(name))}
    return {
        **({"Notice": notice} if notice else {}),
        "Sources": [image.path.name],
        **provenance(segmenter, segmentation),
        "Threads": segmenter.threads,
        **({"Variables": variables} if variables else {}),
        "Plausibility": report.to_dict(),
    }
