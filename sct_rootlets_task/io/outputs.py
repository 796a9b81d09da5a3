"""Output files: what is in them, which one each image gets, and whether one may be replaced."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sct_rootlets_task.errors import OutputError, UsageError
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.luts import lut_path
from sct_rootlets_task.io.ownership import is_ours, sidecar_of
from sct_rootlets_task.io.untrusted import is_annexed, is_folder, missing_content, printable

FILES: Mapping[str, str] = {
    "<image>_rootlets.nii.gz": (
        "Level map of an image; the ending _rootlets is that of the task. -o gives another name."
    ),
    "<image>_rootlets.json": "Sidecar: how the level map was made.",
    "<image>_rootlets.lut": "Color table for FSLeyes (-lut fsleyes).",
    "<image>_rootlets_itksnap.txt": "Color table for ITK-SNAP (-lut itksnap).",
    "<image>_rootlets.ctbl": "Color table for 3D Slicer (-lut slicer).",
    "<image>_rootlets.png": "Picture of the result, where -preview names a folder.",
    "<image>_levels.nii.gz": "Levels of the spinal canal, by sct_rootlets locate.",
    "<level map>_levels.nii.gz": (
        "Spinal levels of the cord, by sct_rootlets levels, for several level maps."
    ),
    "<table>.json": "What the columns of a table of several level maps mean, and their units.",
    "<level map>.json": "Sidecar of a level map that sct_rootlets writes.",
    "<prefix>_<side>_<root>.nii.gz": (
        "The four level maps of sct_rootlets split; side is left or right, root dorsal or ventral. "
        "For several level maps, the prefix is the name of each."
    ),
    "<report>/index.html": "The QC report: open it in a browser.",
    "<report>/list.js": "Rows of its list. Each new entry appends one.",
    "<report>/report.json": "Identity of the report, under which the browser keeps ratings.",
    "<report>/.lock": "Empty. Jobs lock it while they write, so that they take turns.",
    "<report>/.alike/<id>/<id>": "Empty. Names entries of images that are called alike.",
    "<report>/static/<file>": "Styles, scripts and the viewer of the report.",
    "<report>/entries/<id>/index.html": "Opens the page of one image.",
    "<report>/entries/<id>/<file>": "What that page shows: data, pictures and the volume.",
    "<report>/cohort.html": "Page about all images of a study together, by the level group.",
    "<subject>_space-orig_seg-rootlets_dseg.nii.gz": (
        "Level map of an image of a BIDS data set. Other contrasts than T2w add desc-."
    ),
    "<subject>_space-orig_seg-rootlets_desc-<contrast>_dseg.nii.gz": "Likewise.",
    "<subject>_space-orig_seg-rootlets_dseg.json": "Its sidecar.",
    "<subject>_space-orig_seg-rootlets_desc-<contrast>_dseg.json": "Likewise.",
    "<subject>_space-orig_seg-spinallevels_dseg.nii.gz": (
        "Spinal levels of the cord, where a cord mask is known."
    ),
    "<subject>_space-orig_seg-spinallevels_dseg.json": "Its sidecar.",
    "<name>_levels.tsv": "Table of the spinal levels of an image.",
    "<name>_levels.json": "Meaning of its columns, and the flags of the check.",
    "<name>_record.json": "What was done with an image, and from what.",
    "<results>/dataset_description.json": "Makes the results a BIDS data set.",
    "<results>/.bidsignore": "Names the results that BIDS has no names for.",
    "<results>/README.md": "What is in the folder.",
    "<results>/seg-<structure>_dseg.tsv": "Names and colors of the levels.",
    "<results>/failures.tsv": "Images that failed, and why.",
    "<results>/.failures.lock": "Empty. Jobs lock it while they write the table of failures.",
    "<results>/logs/<time>_<id>.jsonl": "What a run has done, one JSON object a line.",
    "<results>/logs/CITATION.md": "Text for the methods section, with references.",
    "<results>/group_levels.tsv": "One row for each level of each image.",
    "<results>/group_summary.tsv": "Each measure by level.",
    "<results>/group_outliers.tsv": "Values that stand out.",
    "<results>/group_<table>.json": "Meaning of the table's columns.",
    "<results>/figures/<measure>.png": "Figure for a paper, 300 dots per inch.",
    "<results>/figures/<measure>.svg": "The same, to be scaled.",
    "<work>/<image>/levels.npz": "Levels before post-processing.",
    "<work>/<image>/.lock": "Empty. Keeps two jobs from one image.",
    "qc_ratings.csv": "Ratings and notes, saved by the browser from the menu Ratings.",
    "qc_fail.yml": "Images rated fail, as SCT's own report lists them; saved by the browser.",
    "qc_artifact.yml": "Images rated artifact, likewise.",
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
    "Output.Name": "Name of the level map.",
    "Output.SHA256": (
        "Checksum of its file. If it does not match, the level map was changed since, or a run was "
        "stopped before the level map was written."
    ),
    "Task": "Task of the registry.",
    "Model.Name": "Release tag, custom, or the name of the folder.",
    "Model.BuiltIn": "Whether it is a network that ships with the package.",
    "Model.Custom": "Whether it came from a place of the user's own.",
    "Model.SHA256": "Checksum of the archive it was installed from, where it is known.",
    "LevelVoxels": "Voxels of each level found.",
    "PostProcessing": (
        "Name and VoxelsChanged of each step, in order. The first counts voxels that the network "
        "found but that have no level of the task. Of sct_rootlets relabel: what became of each "
        "level."
    ),
    "Warnings": (
        "What a person should look at: nothing found, a doubtful orientation, voxels that were not "
        "finite."
    ),
    "Engine": "What ran the network.",
    "Device": "Where it ran: cpu, cuda or mps.",
    "Precision": "Arithmetic of the network.",
    "Raw": "Whether the network's own labels were asked for (-raw, SCT_ROOTLETS_RAW).",
    "Tiles.Asked": "auto or all, see -tiles and SCT_ROOTLETS_TILES.",
    "Tiles.Run": "Tiles of the network that were run; 0 when the engine does not say.",
    "Tiles.All": "Tiles there are.",
    "TestTimeAugmentation": "Whether the predictions of mirrored copies were averaged.",
    "Seconds": "Wall time of each stage. The stage tiles is a part of the stage network.",
    "SoftwareVersions": "Versions of the packages that shape a result.",
    "Threads": "CPU threads used.",
    "Variables": (
        "Only when one is set: the variables SCT_ROOTLETS_RAW, _TILES, _ENGINE, _DEVICE and "
        "_PRECISION. Options of the command win over them."
    ),
    "Plausibility.CentreLineFrom": "What the centerline was fitted to: cord, rootlets or none.",
    "Plausibility.Flags": (
        "What is out of the ordinary: code, level, side, value, expected (lowest and highest), "
        "unit, source, text, severity (warning or note), and the place to look at: voxel (index "
        "i, j, k from 0) and world_mm (right, anterior, superior)."
    ),
    "Plausibility.Levels": (
        "The levels found: level, name, start (caudal end of the rootlets), end (cranial end), "
        "midpoint and height (mm along the cord, from the cranial end of the centerline), "
        "volume, left_volume, right_volume, dorsal_volume and ventral_volume (mm³), bundles, and "
        "spacing and gap to the next lower level (mm)."
    ),
    "Plausibility.Shifts": ("What each landmark (PMJ, discs, locator) says about the numbering."),
}
"""Keys of the sidecar; a dot leads into a key's own keys."""

_LONGEST_NAME, _LONGEST_PATH = 255, 4000
_NAMED = 5


@dataclass(frozen=True)
class Output:
    """A file that a command is about to write.

    Parameters
    ----------
    path : Path
        The file.
    option : str
        Option that chooses its name, for messages.
    columns : collection of str
        Of a table, its columns: by them an older one is known.
    """

    path: Path
    option: str = "-o"
    columns: Collection[str] = ()


@dataclass(frozen=True)
class Job:
    """One image and the files its segmentation, and what else is wanted, are written to."""

    image: Path
    output: Path
    preview: Path | None = None
    luts: Mapping[str, Path] = field(default_factory=dict)
    """Color tables by the viewer they are for."""

    @property
    def sidecar(self) -> Path:
        """JSON file beside the segmentation."""
        return sidecar_of(self.output)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every file that is written."""
        previews = (Output(self.preview, "-preview"),) if self.preview else ()
        tables = map(Output, self.luts.values())
        return (Output(self.output), Output(self.sidecar), *tables, *previews)


def plan_outputs(
    images: Sequence[Path],
    output: str | None,
    suffix: str,
    *,
    overwrite: int | None = None,
    preview: str | None = None,
    viewers: Sequence[str] = (),
) -> tuple[Job, ...]:
    """Give each image its own output, and make sure that it may be written.

    Parameters
    ----------
    images, output, suffix, preview, viewers
        As for :func:`name_outputs`.
    overwrite : {0, 1}, optional
        What may be replaced, see :func:`check_outputs`.

    Raises
    ------
    UsageError, OutputError
        As :func:`name_outputs` and :func:`check_outputs` do.
    """
    jobs = name_outputs(images, output, suffix, preview=preview, viewers=viewers)
    check_outputs([one for job in jobs for one in job.outputs], images, overwrite=overwrite)
    return jobs


def name_outputs(
    images: Sequence[Path],
    output: str | None,
    suffix: str,
    *,
    preview: str | None = None,
    viewers: Sequence[str] = (),
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
    preview : str, optional
        Argument of ``-preview``.
    viewers : sequence of str
        Viewers a color table is written for.

    Raises
    ------
    UsageError
        If two images would share an output, or several images one file.
    """
    alone = len(images) == 1
    jobs = tuple(
        _job(image, output=output, preview=preview, suffix=suffix, alone=alone, viewers=viewers)
        for image in images
    )
    _refuse_shared(jobs)
    return jobs


def check_outputs(
    outputs: Iterable[Output], inputs: Iterable[Path], *, overwrite: int | None = None
) -> None:
    """Make sure, before anything is run, that writing some files loses nothing.

    Parameters
    ----------
    outputs : iterable of Output
        Files that are about to be written.
    inputs : iterable of Path
        Files that are read. Neither they nor their JSON sidecars are ever replaced.
    overwrite : {0, 1}, optional
        1 replaces any other file that is in the way, 0 none; by default those are replaced that
        this package has written.

    Raises
    ------
    UsageError
        If a file would be lost, two outputs are one file, or a name cannot be that of a file.
    OutputError
        If a folder cannot be written to.
    """
    real = [(given, Path(_real(given))) for given in inputs]
    kept = {path for names in real for name in names for path in (name, sidecar_of(name))}
    kept_places = {_real(path) for path in kept}
    kept_files = {_identity(path) for path in kept} - {None}
    kept_names = {_place_of(path) for path in kept}
    taken: dict[tuple[str, str], Output] = {}
    existing = []
    for output in outputs:
        _require_file(output)
        if is_annexed(output.path):  # two files of one content share it; each name is its own
            replaces = _place_of(output.path) in kept_names
        else:
            replaces = _real(output.path) in kept_places or _identity(output.path) in kept_files
        if replaces:
            raise UsageError(
                f"The output {output.path} would replace an input image or its sidecar. Choose "
                f"another name with {output.option}."
            )
        other = taken.setdefault(_place_of(output.path), output)
        if other is not output:
            raise UsageError(
                f"{other.option} and {output.option} would both be written to {output.path}. Give "
                "each a name of its own."
            )
        if overwrite != 1 and os.path.lexists(output.path):
            existing.append(output)
    _require_free(existing, forbidden=overwrite == 0)


def _require_file(output: Output) -> None:
    """Refuse what cannot become a file: folders, devices, names too long, closed folders."""
    path = output.path
    longest = max(path.parts, key=lambda part: len(os.fsencode(part)), default="")
    if len(os.fsencode(longest)) > _LONGEST_NAME:
        raise UsageError(
            f"The name {longest!r} is longer than {_LONGEST_NAME} bytes, which disks do not take. "
            f"Choose a shorter one with {output.option}."
        )
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UsageError(
            f"The output {printable(path)} is longer than {_LONGEST_PATH} bytes, which disks do "
            f"not take. Choose a shorter one with {output.option}."
        )
    if os.path.lexists(path) and not path.is_symlink() and not path.is_file():
        raise UsageError(
            f"Expected the name of a file to write, found {path}, which is a folder or a device. "
            f"Choose another name with {output.option}."
        )
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise UsageError(
            f"The output {path} would lie in {folder}, which is no folder. Choose another name "
            f"with {output.option}."
        )
    if not os.access(folder, os.W_OK | os.X_OK) or _is_kept_by_others(path, folder):
        raise OutputError(
            f"Cannot write {path} into the folder {folder}. Choose another place with "
            f"{output.option}, or ask for the right to write there."
        )


def _is_kept_by_others(path: Path, folder: Path) -> bool:
    """Tell whether a file belongs to somebody else in a folder where all keep their own."""
    if not hasattr(os, "geteuid") or os.geteuid() == 0 or not os.path.lexists(path):
        return False
    is_sticky = bool(folder.stat().st_mode & stat.S_ISVTX)
    return is_sticky and os.geteuid() not in (folder.stat().st_uid, path.lstat().st_uid)


def _require_free(existing: Sequence[Output], *, forbidden: bool) -> None:
    """Refuse to replace files; without `forbidden` those only that are not of this package."""
    kept = [one for one in existing if forbidden or not is_ours(one.path, one.columns)]
    if not kept:
        return
    first, several = kept[0], len(kept) > 1
    named = ", ".join(str(one.path) for one in kept[:_NAMED])
    named += f" and {len(kept) - _NAMED} more" if len(kept) > _NAMED else ""
    subject = f"The outputs {named}" if several else f"The output {named}"
    it = "them" if several else "it"
    # In Python it is an argument that names the output.
    option = "overwrite=" if first.option.isidentifier() else "-overwrite "
    if forbidden:
        raise UsageError(
            f"{subject} {'exist' if several else 'exists'} and {option}0 was given. Move {it}, "
            f"choose another name with {first.option}, or give {option}1."
        )
    if why := missing_content(first.path):
        raise UsageError(
            f"Whether the output {first.path} is of this package cannot be seen: {why}. Choose "
            f"another name with {first.option}; -overwrite 1 would replace it."
        )
    state = "exist and were edited" if several else "exists and was edited"
    raise UsageError(
        f"{subject} {state} since, or {'come' if several else 'comes'} from another program. "
        f"Choose another name with {first.option}; {option}1 would replace {it}."
    )


def _job(
    image: Path,
    *,
    output: str | None,
    preview: str | None,
    suffix: str,
    alone: bool,
    viewers: Sequence[str],
) -> Job:
    name = f"{stem(image)}{suffix}"
    segmentation = image.parent / f"{name}{EXTENSIONS[0]}"
    if output is not None:
        segmentation = place("-o", output, name=name, endings=EXTENSIONS, alone=alone)
    luts = {viewer: lut_path(segmentation, viewer) for viewer in viewers}
    if preview is None:
        return Job(image, segmentation, luts=luts)
    picture = place("-preview", preview, name=name, endings=(".png",), alone=alone)
    return Job(image, segmentation, picture, luts)


def place(option: str, wanted: str, *, name: str, endings: tuple[str, ...], alone: bool) -> Path:
    """Return the file that the argument of an option stands for.

    Parameters
    ----------
    option : str
        The option, for messages.
    wanted : str
        Its argument.
    name : str
        Name of the file where the argument is a folder, without ending.
    endings : tuple of str
        Endings that the file may have; the first one is added where it has none.
    alone : bool
        Whether there is one image; several need a folder.

    Raises
    ------
    UsageError
        If several images are to go to one file.
    """
    has_ending = wanted.lower().endswith(endings)
    if not alone and has_ending:
        raise UsageError(
            f"With several images {option} names a folder for the results, but {wanted} is the "
            "name of one file. Give a folder."
        )
    if not alone or wanted.endswith(("/", "\\")) or is_folder(Path(wanted)):
        return Path(wanted) / f"{name}{endings[0]}"
    return Path(wanted if has_ending else f"{wanted}{endings[0]}")


def _refuse_shared(jobs: Sequence[Job]) -> None:
    taken: dict[tuple[str, str], Job] = {}
    for job in jobs:
        for output in job.outputs:
            other = taken.setdefault(_place_of(output.path), job)
            if other is not job:
                raise UsageError(
                    f"{other.image} and {job.image} would both be written to {output.path}. Run "
                    "them apart, each with an -o of its own."
                )


def _place_of(path: Path) -> tuple[str, str]:
    """Return what two names of one place share; a link is a place of its own."""
    return _real(path.parent), path.name


def _real(path: Path) -> str:
    """Return a path without links, also where these run in a circle."""
    return os.path.realpath(path)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what all names of one existing file share, hard links included."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def would_replace(output: Path, kept: Path) -> bool:
    """Tell whether writing a file would change another one, which exists; links included.

    A link into git-annex's store is replaced by itself: what it leads to stays.
    """
    if is_annexed(output):
        return _place_of(output) == _place_of(kept)
    return _identity(output) is not None and _identity(output) == _identity(kept)


def each_once(images: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return images without those that were given before, and these.

    Two names of one file are two images, unless they are spellings of one name.
    """
    seen: set[tuple[str, str]] = set()
    once: list[Path] = []
    again: list[Path] = []
    for image in images:
        place = _place_of(image)
        (again if place in seen else once).append(image)
        seen.add(place)
    return once, again
