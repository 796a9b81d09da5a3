"""The tools from Python: what the commands do, on files or on images in memory.

The names are also those of the package itself: ``import sct_rootlets_task as srt``, then
``srt.segment(…)``.

Each image argument takes a path (str or path object, ``~`` for the home folder) or a nibabel image,
and goes through the checks of the commands. All images of a call but PMJ and discs lie on one
grid. Results are in memory; only `picture` and `qc` write files. What a user should know is logged
as a warning. What cannot be used ends in an error of :mod:`sct_rootlets_task.errors`:
``InputTypeError`` for an argument of a wrong kind, ``ImageError`` for an image that cannot be read
or used, ``UsageError`` for a call that was put together wrongly.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sct_rootlets_task.errors import InputTypeError, UsageError
from sct_rootlets_task.io.inputs import ImageLike, as_file, file_of, in_mm, read_image, read_labels
from sct_rootlets_task.io.paths import expand_user
from sct_rootlets_task.io.short_repr import short_repr

if TYPE_CHECKING:
    import nibabel as nib

    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.analysis.evaluate import Agreement
    from sct_rootlets_task.analysis.spinal_levels import SpinalLevels
    from sct_rootlets_task.io.images import InputImage
    from sct_rootlets_task.levels.assignment import LocatedLevels
    from sct_rootlets_task.levels.landmarks import Landmarks
    from sct_rootlets_task.segmentation.segmenter import Segmentation, Settings

logger = logging.getLogger(__name__)

__all__ = [
    "ColoredCord",
    "Evaluation",
    "ImageLike",
    "InstalledRelease",
    "LocatedCanal",
    "SampleImages",
    "SegmentedImage",
    "check",
    "evaluate",
    "install_model",
    "list_models",
    "locate",
    "picture",
    "qc",
    "relabel",
    "sample",
    "segment",
    "spinal_levels",
    "split",
]


class SegmentedImage(NamedTuple):
    """Result of `segment`; it can be unpacked.

    Parameters
    ----------
    labels : nibabel.Nifti1Image
        Level map (uint8) on the image's grid; 2 is C2, 9 is T1, 0 is background.
    details : Segmentation
        How it came about, with its ``warnings``.
    """

    labels: nib.Nifti1Image
    details: Segmentation

    def __repr__(self) -> str:
        return short_repr(self)


class ColoredCord(NamedTuple):
    """Result of `spinal_levels`; it can be unpacked.

    Parameters
    ----------
    table : SpinalLevels
        ``rows`` has a dict a level, by the columns of the CSV file; also ``to_dataframe()``,
        ``write_csv(path)``, ``warnings``.
    labels : nibabel.Nifti1Image or None
        The cord colored by level (uint8); None without a cord mask.
    """

    table: SpinalLevels
    labels: nib.Nifti1Image | None

    def __repr__(self) -> str:
        return short_repr(self)


class LocatedCanal(NamedTuple):
    """Result of `locate`; it can be unpacked.

    Parameters
    ----------
    labels : nibabel.Nifti1Image
        Spinal level of each voxel of the canal (uint8), 0 elsewhere.
    details : LocatedLevels
        The levels along the canal, its centerline, and ``warnings``.
    """

    labels: nib.Nifti1Image
    details: LocatedLevels

    def __repr__(self) -> str:
        return short_repr(self)


class SampleImages(NamedTuple):
    """Result of `sample`; it can be unpacked.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Synthetic T2w neck (int16), 1 mm.
    cord : nibabel.Nifti1Image
        Mask of its spinal cord (uint8).
    """

    image: nib.Nifti1Image
    cord: nib.Nifti1Image

    def __repr__(self) -> str:
        return short_repr(self)


class InstalledRelease(NamedTuple):
    """A release of a model, and whether it is on this computer.

    Parameters
    ----------
    task : str
        Name of the task.
    model : str
        Tag of the release, as `segment` takes it.
    default : bool
        Whether the task runs it unless told otherwise.
    path : Path or None
        Its folder; None where it is not installed.
    """

    task: str
    model: str
    default: bool
    path: Path | None


class Evaluation(tuple["Agreement", ...]):
    """Result of `evaluate`: agreement of each level, then of ``all``, then their ``mean``."""

    __slots__ = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a level, by the columns of the CSV file; figures that do not exist are None."""
        return [item.to_dict() for item in self]

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas data frame.

        Raises
        ------
        MissingDependencyError
            If pandas is not installed.
        """
        from sct_rootlets_task.rootlets.bundles import table

        return table(self.rows)

    def __repr__(self) -> str:
        dice = ", ".join(f"{item.level} {item.dice:.2f}" for item in self)
        return f"{type(self).__name__}(Dice: {dice})"


def segment(
    image: ImageLike,
    task: str = "rootlets",
    *,
    model: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    model_dir: str | os.PathLike[str] | None = None,
) -> SegmentedImage:
    """Segment an image.

    Parameters
    ----------
    image : path or nibabel image
        One 3-D volume of any orientation.
    task : str
        Task of the registry.
    model : str or path, optional
        Release tag, ``starter``, folder or zip file, as for ``-model``.
    settings : Settings, optional
        How to run it.
    model_dir : path, optional
        Folder of the models.

    Returns
    -------
    SegmentedImage
        ``labels`` (nibabel.Nifti1Image, uint8, on the image's grid) and ``details``.

    Raises
    ------
    RootletsError
        If the image, the model or a setting cannot be used.
    """
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import resolve
    from sct_rootlets_task.registry import TASKS
    from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings

    entry = TASKS.find(task)
    _require_kind(settings, Settings, "settings")
    loaded = read_image(image, "image")
    resolved = resolve(entry, model, model_root(model_dir))
    if resolved.notice:
        logger.warning(resolved.notice)
    found = Segmenter(entry, resolved.model, settings).segment(loaded)
    _log([text for text in found.warnings if text not in loaded.warnings])
    return SegmentedImage(_labels(found.labels, loaded, f"{task} by {resolved.model.name}"), found)


def check(
    segmentation: ImageLike,
    *,
    cord: ImageLike | None = None,
    pmj: ImageLike | None = None,
    discs: ImageLike | None = None,
    locator: ImageLike | LocatedCanal | None = None,
    task: str = "rootlets",
) -> Report:
    """Check how plausible the levels of a segmentation are.

    The sidecar beside the file of a level map tells what the run that made it was not sure of.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map: whole numbers, 0 is background.
    cord : path or nibabel image, optional
        Cord mask on the same grid; above 0.5 is cord.
    pmj, discs : path or nibabel image, optional
        Labels of the pontomedullary junction and of the discs, on any grid.
    locator : path, nibabel image or LocatedCanal, optional
        The image, for the locator's independent opinion; or what `locate` returned for it.
    task : str
        Task whose levels are expected.

    Returns
    -------
    Report
        ``to_dataframe()`` has a row a level, ``flags_dataframe()`` a row a flag.

    Raises
    ------
    ImageError
        If an image lies on another grid, or a landmark cannot be what it is called.
    """
    from sct_rootlets_task.registry import TASKS
    from sct_rootlets_task.segmentation.sidecar import check_map

    labels = _level_map(segmentation)[1]
    known = _references(labels, cord=cord, pmj=pmj, discs=discs, locator=locator)
    return check_map(file_of(segmentation), labels, task=TASKS.find(task), references=known)


def relabel(
    segmentation: ImageLike,
    mapping: Mapping[int, int] | None = None,
    *,
    shift: int | None = None,
    anchor: tuple[int, int] | None = None,
    discs: ImageLike | None = None,
    locator: ImageLike | LocatedCanal | None = None,
    cord: ImageLike | None = None,
) -> nib.Nifti1Image:
    """Renumber the levels of a segmentation, in one of five ways.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map: whole numbers, 0 is background.
    mapping : mapping of int to int, optional
        Old level → new one; 0 removes a level, what is not named stays.
    shift : int, optional
        Number to add to every level.
    anchor : tuple of (int, int), optional
        A level and a slice, counted from the inferior end, that ought to be of that level.
    discs : path or nibabel image, optional
        Disc labels to take the levels from, on any grid.
    locator : path, nibabel image or LocatedCanal, optional
        The image, to take the levels from the locator's view of it; or what `locate` returned.
    cord : path or nibabel image, optional
        Cord mask on the same grid, a help to `discs`.

    Returns
    -------
    nibabel.Nifti1Image
        Level map (uint8) on the same grid.

    Raises
    ------
    UsageError
        If not exactly one way is asked for.
    ImageError
        If an image lies on another grid, holds no label, or discs cannot be what they are called
        or reach too few levels.
    """
    from sct_rootlets_task.analysis import relabel
    from sct_rootlets_task.registry import TASKS

    way = _one_way(mapping=mapping, shift=shift, anchor=anchor, discs=discs, locator=locator)
    source, image = _level_map(segmentation)
    labels, grid = np.asarray(image.dataobj), image.affine
    known = _references(image, cord=cord, discs=discs, locator=locator)
    task = TASKS.of_map(np.unique(labels))
    if way == "mapping":
        renumbered = relabel.map_levels(labels, _table(mapping), task=task)
    elif way == "shift":
        renumbered = relabel.shift_levels(labels, _whole(shift, way), task=task)
    elif way == "anchor":
        level, number = _pair(anchor)
        renumbered = relabel.anchor_levels(
            labels, grid, level=level, slice_number=number, task=task
        )
    elif way == "discs":
        renumbered = relabel.levels_from_discs(
            labels, grid, discs=known.discs or {}, task=task, cord=known.cord, files=known.files
        )
    else:
        located = np.asarray(known.located)
        renumbered = relabel.levels_from_located(labels, grid, located=located, task=task)
    return _labels(renumbered, source, "relabeled by sct_rootlets")


def spinal_levels(
    segmentation: ImageLike,
    *,
    cord: ImageLike | None = None,
    pmj: ImageLike | None = None,
    method: str = "caudal",
) -> ColoredCord:
    """Find the spinal levels along the cord.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map of the rootlets: whole numbers, 0 is background.
    cord : path or nibabel image, optional
        Cord mask on the same grid; above 0.5 is cord.
    pmj : path or nibabel image, optional
        Label of the pontomedullary junction, on any grid.
    method : {"caudal", "midpoint", "rootlets"}
        As for the verb ``levels``.

    Returns
    -------
    ColoredCord
        ``table``, a row a level in mm along the cord, and ``labels`` (nibabel.Nifti1Image, uint8),
        the cord colored by level, None without a cord mask.

    Raises
    ------
    UsageError
        If there is no such method.
    ImageError
        If an image lies on another grid or is empty, or a landmark cannot be what it is called.
    """
    from sct_rootlets_task.analysis.spinal_levels import spinal_levels_image
    from sct_rootlets_task.registry import TASKS

    source, labels = _level_map(segmentation)
    mask, mark = _landmark_or_none(cord, "cord"), _landmark_or_none(pmj, "pmj")
    file = file_of(segmentation)
    name = file.name if file else ""
    task = TASKS.of_map(np.unique(labels.dataobj))
    found, _ = spinal_levels_image(
        labels, task=task, cord=mask, pmj=mark, method=method, fname=name
    )
    _log(found.warnings)
    if found.labels is None:
        return ColoredCord(found, None)
    text = f"spinal levels ({found.method}) by sct_rootlets"
    return ColoredCord(found, _labels(found.labels, source, text))


def split(segmentation: ImageLike, cord: ImageLike) -> dict[str, nib.Nifti1Image]:
    """Split a segmentation into left and right, dorsal and ventral rootlets.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map: whole numbers, 0 is background.
    cord : path or nibabel image
        Cord mask on the same grid; above 0.5 is cord.

    Returns
    -------
    dict of str to nibabel.Nifti1Image
        ``left_dorsal``, ``left_ventral``, ``right_dorsal``, ``right_ventral`` (uint8): they add up
        to the level map.

    Raises
    ------
    ImageError
        If the cord mask is none, lies on another grid, or does not reach all levels.
    """
    from sct_rootlets_task.analysis.split import split_image

    source, labels = _level_map(segmentation)
    parts = split_image(labels, _landmark(cord, "cord"))
    text = "rootlets of one side and root by sct_rootlets"
    return {name: _labels(np.asarray(one.dataobj), source, text) for name, one in parts.items()}


def locate(image: ImageLike) -> LocatedCanal:
    """Find the spinal canal and its levels in an image with the built-in locator.

    Parameters
    ----------
    image : path or nibabel image
        One 3-D volume of any orientation.

    Returns
    -------
    LocatedCanal
        ``labels`` (nibabel.Nifti1Image, uint8, on the image's grid) and ``details``.

    Raises
    ------
    ImageError
        If the image cannot be read or used.
    """
    from sct_rootlets_task.segmentation.segmenter import locate as locate_levels

    loaded = read_image(image, "image")
    found = locate_levels(loaded)
    return LocatedCanal(_labels(found.labels, loaded, "levels of the canal"), found)


def evaluate(segmentation: ImageLike, reference: ImageLike) -> Evaluation:
    """Compare a segmentation with a reference.

    Parameters
    ----------
    segmentation, reference : path or nibabel image
        Level maps on the same grid: whole numbers, 0 is background.

    Returns
    -------
    Evaluation
        One :class:`~sct_rootlets_task.analysis.evaluate.Agreement` a level, then ``all`` and
        ``mean``.

    Raises
    ------
    ImageError
        If the grids differ, or the reference is empty.
    """
    from sct_rootlets_task.analysis.evaluate import compare_images

    labels = _level_map(segmentation)[1]
    other = in_mm(read_labels(reference, "reference"), file_of(reference), np.uint8)
    return Evaluation(compare_images(labels, other))


def picture(
    image: ImageLike,
    segmentation: ImageLike,
    *,
    output: str | os.PathLike[str],
    overwrite: int | None = None,
) -> Path:
    """Draw a segmentation over its image into one PNG.

    Parameters
    ----------
    image : path or nibabel image
        One 3-D volume.
    segmentation : path or nibabel image
        Level map on the image's grid; it may be empty.
    output : path
        PNG to write.
    overwrite : {0, 1}, optional
        1 replaces any file but an input, 0 none; by default what this package has written.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    UsageError
        If an input, or a file of others, would be replaced.
    ImageError
        If an image cannot be read, or the two are not on one grid.
    OutputError
        If the picture cannot be written.
    MissingDependencyError
        If Pillow is not installed.
    """
    from sct_rootlets_task.io.outputs import Output, check_outputs
    from sct_rootlets_task.qc.preview import draw

    target = _place(output)
    inputs = [path for one in (image, segmentation) if (path := file_of(one))]
    check_outputs([Output(target, "output")], inputs, overwrite=overwrite)
    with _files(image=image, segmentation=segmentation) as files:
        return draw(files["image"], files["segmentation"], target)


def qc(
    image: ImageLike,
    segmentation: ImageLike,
    *,
    output: str | os.PathLike[str],
    dataset: str | None = None,
    subject: str | None = None,
    qc_seg: ImageLike | None = None,
    task: str = "rootlets",
) -> Path:
    """Add a segmentation to a quality-control report, with the flags of `check`.

    Parameters
    ----------
    image : path or nibabel image
        One 3-D volume.
    segmentation : path or nibabel image
        Level map on the image's grid.
    output : path
        Folder of the report; it may hold other images. Its list of images is ``index.html``.
    dataset, subject : str, optional
        What the report shows; by default the image's path tells. An image without a file needs a
        subject.
    qc_seg : path or nibabel image, optional
        Mask on the image's grid, such as the cord, that the views are centered on.
    task : str
        Task whose levels are expected.

    Returns
    -------
    Path
        Page of the image.

    Raises
    ------
    UsageError
        If an image without a file comes without a subject, or the folder is another program's.
    ImageError
        If an image cannot be read, or not all are on one grid.
    OutputError
        If the report cannot be written.
    MissingDependencyError
        If Jinja2 or Pillow is not installed.
    """
    from sct_rootlets_task.qc.entry import Details, names_of
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.report import add_entry
    from sct_rootlets_task.registry import TASKS

    report = _place(output)
    for name, text in (("dataset", dataset), ("subject", subject)):
        _require_kind(text, str, name)
    require_report_folder(report)
    file = file_of(image)
    if file is None and not subject:
        read_image(image, "image", constant=True)
        raise UsageError("Expected a subject for an image without a file. Give subject=….")
    mask = {} if qc_seg is None else {"qc_seg": qc_seg}
    with _files(image=image, segmentation=segmentation, **mask) as files:
        scan, labels = files["image"], files["segmentation"]
        if file is not None and scan != file:
            dataset, subject = names_of(file, Details(dataset, subject))
        found = check(segmentation, task=task)
        details = Details(
            dataset,
            subject,
            expected=TASKS.find(task).levels,
            around=files.get("qc_seg"),
            flags=[asdict(flag) for flag in found.flags],
            levels=[asdict(level) for level in found.levels],
        )
        return add_entry(report, scan, labels, details)


def sample(seed: int = 0) -> SampleImages:
    """Make a synthetic T2w-like cervical volume to try the tools on.

    Parameters
    ----------
    seed : int
        Variant to make.

    Returns
    -------
    SampleImages
        ``image`` and ``cord`` (nibabel.Nifti1Image), 1 mm.

    Raises
    ------
    UsageError
        If the seed is negative.
    """
    from sct_rootlets_task.sample import make_sample, nifti_of

    number = _whole(seed, "seed")
    if number < 0:
        raise UsageError(f"Expected a seed of 0 or more, found {number}.")
    made = make_sample(number)
    return SampleImages(
        nifti_of(made.data, made.affine), nifti_of(made.cord.astype(np.uint8), made.affine)
    )


def list_models(model_dir: str | os.PathLike[str] | None = None) -> list[InstalledRelease]:
    """List every model of every task.

    Parameters
    ----------
    model_dir : path, optional
        Folder of the models.
    """
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import list_models as listed
    from sct_rootlets_task.registry import TASKS

    return [
        InstalledRelease(
            row.task.name,
            row.release.tag,
            row.release.tag == row.task.default,
            row.model.path if row.model else None,
        )
        for row in listed(TASKS, model_root(model_dir))
    ]


def install_model(
    task: str = "rootlets",
    model: str | None = None,
    *,
    model_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Install a model, as ``sct_deepseg TASK -install`` does.

    Parameters
    ----------
    task : str
        Task of the registry.
    model : str, optional
        Release tag; by default the one that the task runs.
    model_dir : path, optional
        Folder of the models.

    Returns
    -------
    Path
        Folder of the model.

    Raises
    ------
    UsageError
        If there is no such task or release.
    InstallError
        If it cannot be fetched or installed; a model that was there is untouched.
    """
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.install import install
    from sct_rootlets_task.registry import TASKS

    entry = TASKS.find(task)
    return install(entry, entry.release(model), model_root(model_dir)).path


def _level_map(segmentation: ImageLike) -> tuple[InputImage, nib.Nifti1Image]:
    """Return a level map as read, and as a nibabel image in mm."""
    source = read_labels(segmentation, "segmentation")
    return source, in_mm(source, file_of(segmentation), np.uint8)


def _landmark(given: ImageLike, name: str) -> nib.Nifti1Image:
    """Return a mask or a label image of points as a nibabel image in mm."""
    return in_mm(read_image(given, name, constant=True), file_of(given))


def _landmark_or_none(given: ImageLike | None, name: str) -> nib.Nifti1Image | None:
    return None if given is None else _landmark(given, name)


def _references(
    labels: nib.Nifti1Image,
    *,
    cord: ImageLike | None = None,
    pmj: ImageLike | None = None,
    discs: ImageLike | None = None,
    locator: ImageLike | LocatedCanal | None = None,
) -> Landmarks:
    from sct_rootlets_task.levels.landmarks import references_from_images

    return references_from_images(
        labels,
        cord=_landmark_or_none(cord, "cord"),
        pmj=_landmark_or_none(pmj, "pmj"),
        discs=_landmark_or_none(discs, "discs"),
        located=_located(locator),
    )


def _located(locator: ImageLike | LocatedCanal | None) -> nib.Nifti1Image | None:
    """Return the locator's levels of an image as a nibabel image in mm."""
    if locator is None:
        return None
    if isinstance(locator, LocatedCanal):
        return _landmark(locator.labels, "locator")
    from sct_rootlets_task.segmentation.segmenter import locate as locate_levels

    loaded = read_image(locator, "locator")
    found = locate_levels(loaded)
    _log(found.warnings)
    return in_mm(replace(loaded, data=found.labels), None, np.uint8)


def _labels(labels: np.ndarray, image: InputImage, description: str) -> nib.Nifti1Image:
    from sct_rootlets_task.io.images import labels_image

    return labels_image(labels, image, description)


def _one_way(**ways: object) -> str:
    """Return the name of the one argument that is not None."""
    asked = [name for name, way in ways.items() if way is not None]
    if len(asked) != 1:
        raise UsageError(
            f"Expected one of {', '.join(ways)}, found {' and '.join(asked) or 'none'}. Give "
            "exactly one of them."
        )
    return asked[0]


def _whole(value: Any, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise InputTypeError(f"Expected a whole number for {name}, found {value!r}.") from error


def _table(mapping: Any) -> dict[int, int]:
    if not isinstance(mapping, Mapping):
        raise InputTypeError(
            f"Expected old and new levels for mapping, such as {{3: 4}}, found {mapping!r}."
        )
    return {_whole(old, "mapping"): _whole(new, "mapping") for old, new in mapping.items()}


def _pair(anchor: Any) -> tuple[int, int]:
    if not isinstance(anchor, Sequence) or isinstance(anchor, str) or len(anchor) != 2:
        raise InputTypeError(f"Expected (level, slice) for anchor, found {anchor!r}.")
    return _whole(anchor[0], "anchor"), _whole(anchor[1], "anchor")


def _require_kind(given: object, kind: type, name: str) -> None:
    """Refuse an optional argument of another kind."""
    if given is not None and not isinstance(given, kind):
        raise InputTypeError(
            f"Expected {kind.__name__} or None for {name}, found {type(given).__name__}."
        )


def _place(output: Any) -> Path:
    """Return where something is to be written."""
    if not isinstance(output, str | os.PathLike):
        raise InputTypeError(f"Expected a path for output, found {type(output).__name__}.")
    return expand_user(os.fsdecode(output))


@contextlib.contextmanager
def _files(**images: ImageLike) -> Iterator[dict[str, Path]]:
    """Give the files of some images, of those too that are in memory only."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(as_file(given, name)) for name, given in images.items()}


def _log(warnings: Iterable[str]) -> None:
    for warning in warnings:
        logger.warning(warning)
