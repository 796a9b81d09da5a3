"""What is written: which file each image's result goes to, and what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.images import EXTENSIONS, stem

FILES: Mapping[str, str] = {
    "<image>_rootlets.nii.gz": (
        "Level map of an image; the ending _rootlets is that of the task. -o gives another name."
    ),
    "<image>_rootlets.json": "Sidecar: how the level map was made.",
    "<image>_rootlets.lut": "Colour table for FSLeyes (-lut fsleyes).",
    "<image>_rootlets_itksnap.txt": "Colour table for ITK-SNAP (-lut itksnap).",
    "<image>_rootlets.ctbl": "Colour table for 3D Slicer (-lut slicer).",
    "<image>_rootlets.png": "Picture of the result, where -preview names a folder.",
    "<image>_levels.nii.gz": "Levels of the spinal canal, by sct_rootlets locate.",
    "<prefix>_<side>_<root>.nii.gz": (
        "The four level maps of sct_rootlets split; side is left or right, root dorsal or ventral."
    ),
    "<report>/index.html": "The QC report: open it in a browser.",
    "<report>/report.json": "Identity of the report, under which the browser keeps ratings.",
    "<report>/.lock": "Empty; by it, jobs take turns.",
    "<report>/static/<file>": "Styles, scripts and the viewer of the report.",
    "<report>/entries/<id>/index.html": "Leads to the page of one image.",
    "<report>/entries/<id>/<file>": "What that page shows: data, pictures and the volume.",
    "qc_ratings.csv": "Ratings and notes, saved by the browser from the menu Ratings.",
    "qc_fail.yml": "Images rated fail, as SCT's own report lists them; saved by the browser.",
    "qc_artifact.yml": "Images rated artefact, likewise.",
    "<models>/<model>_<tag>/source.json": (
        "Where an installed model came from, its checksum, and those of its files."
    ),
    "<models>/<model>_<tag>/<trainer folder>/<file>": "The model as nnU-Net reads it.",
}
"""Every file that is written under a name the user did not choose."""

SIDECAR: Mapping[str, str] = {
    "GeneratedBy": (
        "As SCT writes it, one entry: Name is the command (folders left out), then Version, "
        "CodeURL and ModelURL."
    ),
    "Notice": "Only when the model is not the task's published one: what was used instead.",
    "Sources": "Name of the image.",
    "Task": "Task of the registry.",
    "Model.Name": "Release tag, custom, or the name of the folder.",
    "Model.BuiltIn": "Whether it is a network that ships with the package.",
    "Model.Custom": "Whether it came from a place of the user's own.",
    "Model.SHA256": "Checksum of the archive it was installed from, where it is known.",
    "LevelVoxels": "Voxels of each level found.",
    "PostProcessing": (
        "Name and VoxelsChanged of each step, in order. The first counts voxels that the network "
        "found but that have no level of the task."
    ),
    "Warnings": (
        "What a person should look at: nothing found, a doubtful orientation, voxels that were not "
        "finite."
    ),
    "Engine": "What ran the network.",
    "Device": "Where it ran: cpu, cuda or mps.",
    "Precision": "Arithmetic of the network.",
    "Tiles.Run": "Tiles of the network that were run; 0 when the engine does not say.",
    "Tiles.All": "Tiles there are.",
    "TestTimeAugmentation": "Whether the predictions of mirrored copies were averaged.",
    "Seconds": "Wall time of each stage; `tiles` is the part of `network` that the tiles took.",
    "SoftwareVersions": "Versions of the packages that shape a result.",
    "Threads": "CPU threads used.",
    "Plausibility.CentreLineFrom": "What the centre line was fitted to: cord, rootlets or none.",
    "Plausibility.Flags": (
        "What is out of the ordinary: code, level, side, value, expected (lowest and highest), "
        "unit, source, text and severity (warning or note)."
    ),
    "Plausibility.Levels": (
        "The levels found: level, name, start, end, midpoint and height (mm along the cord), "
        "volume, left_volume, right_volume, dorsal_volume and ventral_volume (mm³), bundles, and "
        "spacing and gap to the next lower level (mm)."
    ),
    "Plausibility.Shifts": (
        "What each independent reference (PMJ, discs, locator) says about the numbering."
    ),
}
"""Keys of the sidecar; a dot leads into a key's own keys."""


@dataclass(frozen=True)
class Job:
    """One image and the files its segmentation, and a picture if wanted, are written to."""

    image: Path
    output: Path
    preview: Path | None = None

    @property
    def sidecar(self) -> Path:
        """JSON file beside the segmentation."""
        return self.output.with_name(f"{stem(self.output)}.json")


def plan_outputs(
    images: Sequence[Path],
    output: str | None,
    suffix: str,
    *,
    overwrite: bool = True,
    preview: str | None = None,
) -> tuple[Job, ...]:
    """Give each image its own output.

    Without `output`, a result goes beside its image as ``<image><suffix>.nii.gz``. With several
    images, or when `output` is an existing folder or ends in a slash, `output` is a folder for
    such names. Otherwise it is the file; ``.nii.gz`` is added when it has neither extension. A
    picture is named by `preview` in the same way, with ``.png``.

    Parameters
    ----------
    images : sequence of Path
        Input images.
    output : str or None
        Argument of ``-o``.
    suffix : str
        The task's suffix, for example ``_rootlets``.
    overwrite : bool
        Whether a file may be there already.
    preview : str, optional
        Argument of ``-preview``.

    Raises
    ------
    UsageError
        If two images would share an output, an output or its sidecar would replace an image or its
        sidecar, or it exists and must not be overwritten.
    """
    alone = len(images) == 1
    jobs = tuple(
        _job(image, output=output, preview=preview, suffix=suffix, alone=alone) for image in images
    )
    _refuse_shared(jobs)
    inputs = {_same(image) for image in images}
    records = {_same(image.with_name(f"{stem(image)}.json")) for image in images}
    for job in jobs:
        if _same(job.output) in inputs or _same(job.sidecar) in records:
            raise UsageError(
                f"The output {job.output}, or its JSON sidecar, would replace an input image or "
                "its sidecar. Choose another name with -o."
            )
        if not overwrite:
            _refuse_existing(job)
    return jobs


def _job(image: Path, *, output: str | None, preview: str | None, suffix: str, alone: bool) -> Job:
    name = f"{stem(image)}{suffix}"
    segmentation = image.parent / f"{name}{EXTENSIONS[0]}"
    if output is not None:
        segmentation = _place("-o", output, name=name, endings=EXTENSIONS, alone=alone)
    if preview is None:
        return Job(image, segmentation)
    picture = _place("-preview", preview, name=name, endings=(".png",), alone=alone)
    return Job(image, segmentation, picture)


def _place(option: str, wanted: str, *, name: str, endings: tuple[str, ...], alone: bool) -> Path:
    """Return the file that the argument of an option stands for.

    `name` is that of the file in a folder, without the first of the `endings` it may have.
    """
    has_ending = wanted.lower().endswith(endings)
    if not alone and has_ending:
        raise UsageError(
            f"With several images {option} names a folder for the results, but {wanted} is the "
            "name of one file. Give a folder."
        )
    if not alone or wanted.endswith(("/", "\\")) or Path(wanted).is_dir():
        return Path(wanted) / f"{name}{endings[0]}"
    return Path(wanted if has_ending else f"{wanted}{endings[0]}")


def _refuse_existing(job: Job) -> None:
    for path, option in ((job.output, "-o"), (job.preview, "-preview")):
        if path is not None and path.exists():
            raise UsageError(
                f"The output {path} exists and -overwrite 0 was given. Move it, choose another "
                f"name with {option}, or give -overwrite 1."
            )


def _refuse_shared(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Job] = {}
    for job in jobs:
        for path in filter(None, (job.output, job.sidecar, job.preview)):
            other = taken.setdefault(_same(path), job)
            if other is not job:
                raise UsageError(
                    f"{other.image} and {job.image} would both be written to {path}. Run them "
                    "apart, or leave -o out to write beside each image."
                )


def _same(path: Path) -> Path:
    """Return a form of a path that two names of one file share."""
    return path.resolve()
