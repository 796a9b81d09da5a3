"""Which file each image's result goes to, settled before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.images import EXTENSIONS, stem


@dataclass(frozen=True)
class Job:
    """One image and the file its segmentation is written to."""

    image: Path
    output: Path

    @property
    def sidecar(self) -> Path:
        """JSON file beside the segmentation."""
        return self.output.with_name(f"{stem(self.output)}.json")


def plan_outputs(
    images: Sequence[Path], output: str | None, suffix: str, *, overwrite: bool = True
) -> tuple[Job, ...]:
    """Give each image its own output.

    Without `output`, a result goes beside its image as ``<image><suffix>.nii.gz``. With several
    images, or when `output` is an existing folder or ends in a slash, `output` is a folder for
    such names. Otherwise it is the file; ``.nii.gz`` is added when it has neither extension.

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

    Raises
    ------
    UsageError
        If two images would share an output, an output or its sidecar would replace an image or its
        sidecar, or it exists and must not be overwritten.
    """
    jobs = tuple(Job(image, _output_of(image, output, suffix, len(images))) for image in images)
    _refuse_shared(jobs)
    inputs = {_same(image) for image in images}
    records = {_same(image.with_name(f"{stem(image)}.json")) for image in images}
    for job in jobs:
        if _same(job.output) in inputs or _same(job.sidecar) in records:
            raise UsageError(
                f"The output {job.output}, or its JSON sidecar, would replace an input image or "
                "its sidecar. Choose another name with -o."
            )
        if not overwrite and job.output.exists():
            raise UsageError(
                f"The output {job.output} exists and -overwrite 0 was given. Move it, choose "
                "another name with -o, or give -overwrite 1."
            )
    return jobs


def _output_of(image: Path, output: str | None, suffix: str, n_images: int) -> Path:
    default = f"{stem(image)}{suffix}.nii.gz"
    if output is None:
        return image.parent / default
    has_extension = output.lower().endswith(EXTENSIONS)
    if n_images > 1 and has_extension:
        raise UsageError(
            f"With {n_images} images -o names a folder for the results, but {output} is an image "
            "name. Give a folder, or leave -o out to write beside each image."
        )
    if n_images > 1 or output.endswith(("/", "\\")) or Path(output).is_dir():
        return Path(output) / default
    return Path(output if has_extension else f"{output}.nii.gz")


def _refuse_shared(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Job] = {}
    for job in jobs:
        for path in {_same(job.output), _same(job.sidecar)}:
            other = taken.setdefault(path, job)
            if other is not job:
                raise UsageError(
                    f"{other.image} and {job.image} would both be written to {job.output}. Run "
                    "them apart, or leave -o out to write beside each image."
                )


def _same(path: Path) -> Path:
    """Return a form of a path that two names of one file share."""
    return path.resolve()
