"""What stands beside a level map: how it was made and how plausible it is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sct_rootlets_task import environment
from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.io.label_values import count_levels
from sct_rootlets_task.level_names import level_name

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.io.images import InputImage
    from sct_rootlets_task.levels.landmarks import Landmarks
    from sct_rootlets_task.models.resolve import InstalledModel
    from sct_rootlets_task.segmentation.assigned import Ran
    from sct_rootlets_task.segmentation.segmenter import Segmentation, Settings
    from sct_rootlets_task.tasks import Task


_SHAPING = (
    environment.RAW,
    environment.TILES,
    environment.ENGINE,
    environment.DEVICE,
    environment.PRECISION,
)
"""Variables that shape a result, which the command in the sidecar does not show."""


def check_run(
    segmentation: Segmentation,
    image: InputImage,
    task: Task,
    output: Path | None = None,
) -> Report:
    """Return how plausible the levels of a run are, with the doubts of the run itself.

    Parameters
    ----------
    segmentation, image : Segmentation, InputImage
        What came out, and what the model was run on.
    task, output : Task, Path
        Task that was run, and the file that commands in the texts of flags name, if any.
    """
    from sct_rootlets_task.analysis.check import check
    from sct_rootlets_task.levels.landmarks import Landmarks

    files = {"labels": str(output)} if output else {}
    landmarks = Landmarks(located=segmentation.located, files=files)
    report = check(segmentation.labels, image.affine, task=task, landmarks=landmarks)
    return report.with_doubts(w for w in segmentation.warnings if w not in image.warnings)


def check_map(
    path: Path | None, image: Any, *, task: Task, landmarks: Landmarks | None = None
) -> Report:
    """Return how plausible the levels of a file are, as ``check`` and the QC page show it.

    Parameters
    ----------
    path : Path, optional
        File of the level map. The sidecar beside it, if any, holds the doubts of the run.
    image : nibabel.Nifti1Image
        The same as an image in mm.
    task : Task
        Task of the map.
    landmarks : Landmarks, optional
        Cord mask, PMJ, discs, locator's levels, as far as there are any.

    Raises
    ------
    ImageError
        As :func:`sct_rootlets_task.analysis.check.check` does.
    """
    from sct_rootlets_task.analysis.check import check
    from sct_rootlets_task.levels.landmarks import landmarks_from_images
    from sct_rootlets_task.rootlets.geometry import level_map

    known = landmarks or landmarks_from_images(image)
    report = check(level_map(image), image.affine, task=task, landmarks=known)
    return report if path is None else report.with_doubts(doubts_beside(path))


def doubts_beside(path: Path) -> tuple[str, ...]:
    """Return the doubts of the run that made a level map, from the sidecar beside it.

    These are flags of its report. Without a report, all of its warnings are doubts.

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
    """Return a report with folders left out of the commands in it: folders may name people.

    Parameters
    ----------
    report : Report
        How plausible the levels are.
    output : Path
        File of the label map.
    """
    from sct_rootlets_task.analysis.numbering import relabel_command

    flags = report.flags
    for shift in report.shifts:
        full, short = (relabel_command(one, shift.shift) for one in (output, output.name))
        flags = tuple(replace(one, text=one.text.replace(full, short)) for one in flags)
    return replace(report, flags=flags)


class Runner(Protocol):
    """What a level map was made with: a segmenter, or what is known of one that is not loaded."""

    @property
    def task(self) -> Task:
        """Task that was run."""

    @property
    def model(self) -> InstalledModel:
        """Model that was run."""

    @property
    def settings(self) -> Settings:
        """How it was run."""

    @property
    def ran(self) -> Ran:
        """What ran its network."""

    @property
    def threads(self) -> int:
        """CPU threads that were used."""


def describe(
    runner: Runner,
    segmentation: Segmentation,
    sources: Sequence[str],
    *,
    report: Report,
    notice: str | None,
) -> dict[str, Any]:
    """Return the keys of the sidecar that stand after SCT's own.

    Parameters
    ----------
    runner, segmentation, sources : Runner, Segmentation, sequence of str
        What was run, what came out, and the names of the files that were read.
    report, notice : Report, str
        How plausible the levels are, and what must be known about the model, if anything.
    """
    model, ran, settings = runner.model, runner.ran, runner.settings
    counts = count_levels(segmentation.labels)
    variables = {name: value for name in _SHAPING if (value := environment.read(name))}
    return {
        **({"Notice": notice} if notice else {}),
        "Sources": list(sources),
        "Task": runner.task.name,
        "Model": {
            "Name": model.name,
            "BuiltIn": model.builtin,
            "Custom": model.custom,
            "SHA256": model.sha256,
        },
        "LevelVoxels": {level_name(level): n for level, n in counts.items()},
        "PostProcessing": [
            {"Name": step.name, "VoxelsChanged": step.voxels_changed} for step in segmentation.steps
        ],
        "Warnings": list(segmentation.warnings),
        "Engine": ran.engine,
        "Device": ran.device,
        "Precision": ran.precision,
        "Raw": settings.raw,
        "Tiles": {
            "Asked": settings.tiles,
            "Run": segmentation.tiles[0],
            "All": segmentation.tiles[1],
        },
        "TestTimeAugmentation": settings.network.test_time_aug,
        "Seconds": {stage: round(s, 2) for stage, s in segmentation.seconds.items()},
        "SoftwareVersions": {"sct_rootlets_task": VERSION, **_versions()},
        "Threads": runner.threads,
        **({"Variables": variables} if variables else {}),
        "Plausibility": report.to_dict(),
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that shape a result, those installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    packages = ("openvino", "nnunetv2", "nnunetv2-neuropoly", "torch", "numpy", "scipy", "nibabel")
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
