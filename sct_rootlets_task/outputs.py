"""Which file each image's result goes to, settled before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.images import EXTENSIONS, stem


@dataclass(frozen=True)
class Job:
    """One image, the file its segmentation is written to, and that of a picture if one is wanted."""

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
    jobs = tuple(_job(image, output, preview, suffix=suffix, alone=alone) for image in images)
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


def _job(image: Path, output: str | None, preview: str | None, *, suffix: str, alone: bool) -> Job:
    name = f"{stem(image)}{suffix}"
    segmentation = image.parent / f"{name}{EXTENSIONS[0]}"
    if output is not None:
        segmentation = _place("-o", output, name, endings=EXTENSIONS, alone=alone)
    if preview is None:
        return Job(image, segmentation)
    return Job(
        image, segmentation, _place("-preview", preview, name, endings=(".png",), alone=alone)
    )


def _place(option: str, wanted: str, name: str, *, endings: tuple[str, ...], alone: bool) -> Path:
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
