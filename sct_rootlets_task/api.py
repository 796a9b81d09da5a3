"""The tools from Python, on files or on images in memory. Every command calls these functions.

The names are also those of the package itself: ``import sct_rootlets_task as srt``, then
``srt.segment(…)``.

Each image argument takes a path (str or path object, ``~`` for the home folder) or a nibabel image.
All images of a call lie on one grid, except for PMJ and discs. A level map holds whole numbers; 0
is background. Where a level map's `task` is not named, its sidecar tells, else the levels in it.

Results stay in memory; only `picture`, `qc`, `run_study`, `run_group` and `install_model` write
files. What a user should know is logged as a warning. Errors are those of
:mod:`sct_rootlets_task.errors`. Any function may raise ``InputTypeError`` for an argument of a
wrong kind, ``ImageError`` for an image that cannot be used, and ``UsageError`` for a call that
was put together wrongly, such as one of an unknown task.
"""

from __future__ import annotations

import contextlib
import logging
import operator
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sct_rootlets_task.errors import InputTypeError, ModelNotInstalledError, UsageError
from sct_rootlets_task.io.inputs import ImageLike, as_file, file_of, in_mm, read_image, read_labels
from sct_rootlets_task.io.paths import expand_user
from sct_rootlets_task.io.short_repr import short_repr

if TYPE_CHECKING:
    import nibabel as nib

    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.analysis.evaluate import Agreement
    from sct_rootlets_task.analysis.relabel import Change
    from sct_rootlets_task.analysis.spinal_levels import SpinalLevels
    from sct_rootlets_task.io.images import InputImage
    from sct_rootlets_task.levels.landmarks import Landmarks
    from sct_rootlets_task.levels.located_canal import LocatedLevels
    from sct_rootlets_task.models.resolve import Listed
    from sct_rootlets_task.segmentation.segmenter import Segmentation, Settings
    from sct_rootlets_task.study.group import GroupResult
    from sct_rootlets_task.study.options import Study
    from sct_rootlets_task.study.plan import PlannedItem
    from sct_rootlets_task.study.run import Summary
    from sct_rootlets_task.tasks import Task

logger = logging.getLogger(__name__)

__all__ = [
    "ColoredCord",
    "Evaluation",
    "ImageLike",
    "InstalledRelease",
    "LocatedCanal",
    "RelabeledMap",
    "SampleImages",
    "SegmentedImage",
    "check",
    "evaluate",
    "find_model",
    "install_model",
    "list_models",
    "locate",
    "picture",
    "plan_study",
    "qc",
    "relabel",
    "run_group",
    "run_study",
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
        Level map (uint8) on the image's grid; values are spinal levels, 0 is background.
    details : Segmentation
        How it came about, with its ``warnings``.
    """

    labels: nib.Nifti1Image
    details: Segmentation

    def __repr__(self) -> str:
        return short_repr(self)


class RelabeledMap(NamedTuple):
    """Result of `relabel`; it can be unpacked.

    Parameters
    ----------
    labels : nibabel.Nifti1Image
        Level map (uint8) with the new numbers.
    changes : tuple of Change
        What became of each level that changed: ``before``, ``after``, ``voxels``.
    """

    labels: nib.Nifti1Image
    changes: tuple[Change, ...]

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

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a level, from head to tail, by the columns of ``locate -csv``."""
        from sct_rootlets_task.level_names import level_name

        return [
            {
                "level": level_name(level.level),
                "start_mm": round(level.end, 1),
                "end_mm": round(level.start, 1),
                "confidence": round(level.confidence, 2),
            }
            for level in self.details.levels
        ]

    @property
    def line_rows(self) -> list[dict[str, Any]]:
        """One dict a mm of the centerline, from the head on, by the columns of ``locate -line``."""
        from sct_rootlets_task.level_names import level_name

        line, rows = self.details.line, []
        if line is None:
            return []
        for arc in np.arange(0, line.length + 1):
            here = (one.level for one in self.details.levels if one.start <= arc < one.end)
            x, y, z = (round(float(mm), 2) for mm in line.at(float(arc))[0])
            place = {"x_mm": x, "y_mm": y, "z_mm": z, "arc_mm": float(arc)}
            rows.append({**place, "level": next(map(level_name, here), "")})
        return rows


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
    state : str
        Whether it is built in or installed and where it came from, in a few words.
    """

    task: str
    model: str
    default: bool
    path: Path | None
    state: str

    def verify(self) -> list[str]:
        """Return what is wrong with an installed model, a text each; empty when all is well.

        Its files are compared with their checksums, and it is built once. A built-in model is part
        of the package, whose files pip knows.
        """
        from sct_rootlets_task.models.resolve import InstalledModel, verify_model
        from sct_rootlets_task.registry import TASKS

        task = TASKS.find(self.task)
        release = task.release(self.model)
        if self.path is None or release.bundled:
            return []
        return verify_model(task, InstalledModel(self.path, release, self.model))


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
    task: str | None = None,
) -> Report:
    """Check how plausible a level map is.

    Doubts of the run that made a level map are read from its sidecar.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map.
    cord : path or nibabel image, optional
        Cord mask on the same grid; above 0.5 is cord.
    pmj, discs : path or nibabel image, optional
        Labels of the pontomedullary junction and of the discs, on any grid.
    locator : path, nibabel image or LocatedCanal, optional
        The image, for the built-in locator to compare; or what `locate` returned for it.
    task : str, optional
        Task of the level map.

    Returns
    -------
    Report
        ``to_dataframe()`` has a row a level, ``flags_dataframe()`` a row a flag.

    Raises
    ------
    ImageError
        If an image lies on another grid, or a landmark cannot be what it is called.
    """
    from sct_rootlets_task.analysis.check import opinions
    from sct_rootlets_task.segmentation.sidecar import check_map

    source, labels = _level_map(segmentation)
    entry = _task_of(task, source)
    known = _landmarks(labels, cord=cord, pmj=pmj, discs=discs, locator=locator)
    report = check_map(file_of(segmentation), labels, task=entry, landmarks=known)
    return replace(report, opinions=opinions(report, known))


def relabel(
    segmentation: ImageLike,
    mapping: Mapping[int, int] | None = None,
    *,
    shift: int | None = None,
    anchor: tuple[int, int] | None = None,
    discs: ImageLike | None = None,
    locator: ImageLike | LocatedCanal | None = None,
    cord: ImageLike | None = None,
    task: str | None = None,
) -> RelabeledMap:
    """Renumber the levels of a level map, in one of five ways.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map.
    mapping : mapping of int to int, optional
        Old level → new one; 0 removes a level, what is not named stays.
    shift : int, optional
        Number to add to every level.
    anchor : tuple of (int, int), optional
        A level, and a slice (counted from the inferior end) that should be of that level.
    discs : path or nibabel image, optional
        Disc labels to take the levels from, on any grid.
    locator : path, nibabel image or LocatedCanal, optional
        The image, to take the levels from the locator's view of it; or what `locate` returned.
    cord : path or nibabel image, optional
        Cord mask on the same grid, a help to `discs`.
    task : str, optional
        Task of the level map.

    Returns
    -------
    RelabeledMap
        ``labels`` (nibabel.Nifti1Image, uint8, on the same grid) and ``changes``.

    Raises
    ------
    UsageError
        If not exactly one way is asked for.
    ImageError
        If an image lies on another grid or holds no label, or discs cannot be what they are called
        or reach too few levels.
    """
    from sct_rootlets_task.analysis.relabel import changes, require_priors
    from sct_rootlets_task.rootlets.geometry import require_labels

    way, by = _one_way(mapping=mapping, shift=shift, anchor=anchor, discs=discs, locator=locator)
    source, image = _level_map(segmentation)
    before = np.asarray(image.dataobj)
    least = 2 if way == "locator" else 1
    require_labels(before, f"the level map {source.path}", least=least)
    entry = _task_of(task, source)
    if way in ("discs", "locator"):
        require_priors(entry, way)
    known = _landmarks(image, cord=cord, discs=discs, locator=locator)
    after = _renumbered(image, way, by, known=known, task=entry)
    labels = _labels(after, source, "relabeled by sct_rootlets")
    return RelabeledMap(labels, tuple(changes(before, after)))


def spinal_levels(
    segmentation: ImageLike,
    *,
    cord: ImageLike | None = None,
    pmj: ImageLike | None = None,
    method: str = "caudal",
    task: str | None = None,
) -> ColoredCord:
    """Find the spinal levels along the cord.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map of the rootlets.
    cord : path or nibabel image, optional
        Cord mask on the same grid; above 0.5 is cord.
    pmj : path or nibabel image, optional
        Label of the pontomedullary junction, on any grid.
    method : {"caudal", "midpoint", "rootlets"}
        Where levels begin and end, as for the command ``levels``.
    task : str, optional
        Task of the level map.

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

    source, image = _level_map(segmentation)
    entry = _task_of(task, source)
    file = file_of(segmentation)
    found, _ = spinal_levels_image(
        image,
        task=entry,
        cord=_landmark(cord, "cord"),
        pmj=_landmark(pmj, "pmj"),
        method=method,
        fname=file.name if file else "",
    )
    _log(found.warnings)
    if found.labels is None:
        return ColoredCord(found, None)
    text = f"spinal levels ({found.method}) by sct_rootlets"
    return ColoredCord(found, _labels(found.labels, source, text))


def split(
    segmentation: ImageLike, cord: ImageLike, *, task: str | None = None
) -> dict[str, nib.Nifti1Image]:
    """Split a level map into left and right, dorsal and ventral rootlets.

    Parameters
    ----------
    segmentation : path or nibabel image
        Level map.
    cord : path or nibabel image
        Cord mask on the same grid; above 0.5 is cord.
    task : str, optional
        Task of the level map. A warning names the levels that it does not have.

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
    _warn_of_other_levels(_named_task(task), source)
    parts = split_image(labels, _landmark(cord, "cord", required=True))
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
    """
    loaded = read_image(image, "image")
    found = _located_in(loaded)
    text = "spinal levels of the canal by sct_rootlets"
    return LocatedCanal(_labels(found.labels, loaded, text), found)


def evaluate(segmentation: ImageLike, reference: ImageLike) -> Evaluation:
    """Compare a level map with a reference.

    Parameters
    ----------
    segmentation, reference : path or nibabel image
        Level maps on the same grid.

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

    source, labels = _level_map(segmentation)
    _, other = _level_map(reference, "reference")
    _warn_if_empty(source, "every level of the reference counts as missed.")
    return Evaluation(compare_images(labels, other))


def picture(
    image: ImageLike,
    segmentation: ImageLike,
    *,
    output: str | os.PathLike[str],
    overwrite: int | None = None,
    task: str | None = None,
) -> Path:
    """Draw a level map over its image into one PNG.

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
    task : str, optional
        Task of the level map. A warning names the levels that it does not have.

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
    from sct_rootlets_task.io.images import load_labels
    from sct_rootlets_task.io.outputs import Output, check_outputs
    from sct_rootlets_task.qc.preview import draw
    from sct_rootlets_task.qc.render import require_pillow

    require_pillow()
    entry, target = _named_task(task), _place(output)
    if overwrite is not None and _whole(overwrite, "overwrite") not in (0, 1):
        raise UsageError(f"Expected 0, 1 or None for overwrite, found {overwrite}.")
    inputs = [path for one in (image, segmentation) if (path := file_of(one))]
    check_outputs([Output(target, "output")], inputs, overwrite=overwrite)
    with _files(image=image, segmentation=segmentation) as files:
        drawn = draw(files["image"], files["segmentation"], target)
        labels = load_labels(files["segmentation"])
    labels = replace(labels, path=file_of(segmentation) or Path("<segmentation in memory>"))
    _warn_if_empty(labels, "the picture shows the image alone.")
    _warn_of_other_levels(entry, labels)
    return drawn


def qc(
    image: ImageLike,
    segmentation: ImageLike,
    *,
    output: str | os.PathLike[str],
    dataset: str | None = None,
    subject: str | None = None,
    qc_seg: ImageLike | None = None,
    task: str | None = None,
) -> Path:
    """Add a level map to a quality-control report, with the flags of `check`.

    Where all images are files, the page names the command that makes it.

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
    task : str, optional
        Task of the level map.

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
    from sct_rootlets_task.qc.pages import require_jinja
    from sct_rootlets_task.qc.render import require_pillow
    from sct_rootlets_task.qc.report import add_entry
    from sct_rootlets_task.segmentation.sidecar import check_map

    require_pillow()
    require_jinja()
    report = _place(output)
    for name, text in (("dataset", dataset), ("subject", subject)):
        _require_kind(text, str, name)
    require_report_folder(report)
    file = file_of(image)
    if file is None and not subject:
        read_image(image, "image", constant=True)
        raise UsageError("Expected a subject for an image without a file. Give subject=….")
    mask = {} if qc_seg is None else {"qc_seg": qc_seg}
    options = {"dataset": dataset, "subject": subject, "qc-seg": qc_seg, "task": task}
    command = _qc_command(i=image, s=segmentation, o=output, **options)
    with _files(image=image, segmentation=segmentation, **mask) as files:
        scan, labels = files["image"], files["segmentation"]
        if file is not None and scan != file:
            dataset, subject = names_of(file, Details(dataset, subject))
        source, level_map = _level_map(segmentation)
        entry = _task_of(task, source)
        _warn_if_empty(source, "its page shows the image alone.")
        found = check_map(file_of(segmentation), level_map, task=entry)
        details = Details.of(
            found,
            dataset=dataset,
            subject=subject,
            command=command,
            expected=entry.levels,
            around=files.get("qc_seg"),
        )
        return add_entry(report, scan, labels, details)


def run_study(study: Study) -> Summary:
    """Segment the images of a BIDS data set, as ``sct_rootlets bids`` does.

    What is done already is left as it is. A record beside each result has the checksums of all that
    it was made from. So after a change of an image, an option or the model, only what depends on it
    is done again.

    Parameters
    ----------
    study : Study
        Data set, folder of results, and what is asked for.

    Returns
    -------
    Summary
        How many images were ``done``, ``unchanged``, ``failed`` and ``set_aside``.

    Raises
    ------
    UsageError
        If the data set, the folder of results or an option cannot be used.
    ModelError, InstallError
        If the model cannot be run, or is missing and cannot be installed.
    MissingDependencyError
        If an optional package is missing.

    Examples
    --------
    >>> from pathlib import Path
    >>> import sct_rootlets_task as srt
    >>> study = srt.Study(
    ...     Path("data"), Path("results"), Path("results/work"),
    ...     processing=srt.Processing(largest=True),
    ... )
    >>> summary = srt.run_study(study)  # doctest: +SKIP
    """
    from sct_rootlets_task.study.run import run_study as run

    return run(study)


def plan_study(study: Study) -> Iterator[PlannedItem]:
    """Yield what `run_study` would do for each image, and why; nothing is written.

    Parameters
    ----------
    study : Study
        Data set, folder of results, and what is asked for.

    Yields
    ------
    PlannedItem
        ``name``, ``source``, ``stages`` (none where nothing would be done) and ``reason``.

    Raises
    ------
    UsageError, ModelError, MissingDependencyError
        As `run_study` does.
    """
    from sct_rootlets_task.study.run import plan_study as plan

    return plan(study)


def run_group(
    out_dir: str | os.PathLike[str], *, ratings: Sequence[str | os.PathLike[str]] = ()
) -> GroupResult:
    """Put the results of all images of a study together: tables, figures, a page, the methods.

    Parameters
    ----------
    out_dir : path
        Folder of results that `run_study` has written.
    ratings : sequence of path
        CSV files of ratings that the QC report has saved.

    Returns
    -------
    GroupResult
        Files that were written, in ``paths``, and counts.

    Raises
    ------
    DatasetError
        If there are no results.
    UsageError
        If a file of ratings cannot be read.
    OutputError
        If a file cannot be written.
    MissingDependencyError
        If matplotlib or Jinja2 is not installed.
    """
    from sct_rootlets_task.study.group import run_group as run

    return run(_place(out_dir), ratings=[_place(path) for path in ratings])


def sample() -> SampleImages:
    """Return the synthetic T2w-like cervical volume to try the tools on.

    Returns
    -------
    SampleImages
        ``image`` and ``cord`` (nibabel.Nifti1Image), 1 mm.
    """
    from sct_rootlets_task.io.sample import load_sample, to_nifti

    loaded = load_sample()
    return SampleImages(to_nifti(loaded.data), to_nifti(loaded.cord.astype(np.uint8)))


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

    return [_installed_release(row) for row in listed(TASKS, model_root(model_dir))]


def find_model(
    task: str = "rootlets",
    model: str | None = None,
    *,
    model_dir: str | os.PathLike[str] | None = None,
) -> InstalledRelease:
    """Return an installed model; nothing is fetched.

    Parameters
    ----------
    task : str
        Task of the registry.
    model : str, optional
        Release tag; by default the one that the task runs.
    model_dir : path, optional
        Folder of the models.

    Raises
    ------
    ModelNotInstalledError
        If it is not on this computer.
    """
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import Listed, find_complete
    from sct_rootlets_task.registry import TASKS

    entry, root = TASKS.find(task), model_root(model_dir)
    release = entry.release(model)
    found = find_complete(entry, release, root)
    if found is None:
        raise ModelNotInstalledError(
            f"Model {release.tag} is not installed in {root}. Install it with: "
            f"sct_deepseg {task} -install"
        )
    return _installed_release(Listed(entry, release, found))


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
    InstallError
        If it cannot be fetched or installed; a model that was there is untouched.
    """
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.install import install
    from sct_rootlets_task.registry import TASKS

    entry = TASKS.find(task)
    return install(entry, entry.release(model), model_root(model_dir)).path


def _installed_release(row: Listed) -> InstalledRelease:
    path = row.model.path if row.model else None
    default = row.release.tag == row.task.default
    return InstalledRelease(row.task.name, row.release.tag, default, path, _state(row))


def _state(row: Listed) -> str:
    from sct_rootlets_task.io.untrusted import printable

    model = row.model
    if model is None:
        return f"closed. {row.closed}" if row.closed else "not installed"
    if model.builtin:
        return "built in"
    if not model.urls:
        return f"installed, of unknown origin (no source.json): {printable(model.path)}"
    origin = f", custom, from {' '.join(map(printable, model.urls))}" if model.custom else ""
    return f"installed{origin}"


def _level_map(given: ImageLike, name: str = "segmentation") -> tuple[InputImage, nib.Nifti1Image]:
    """Return a level map as read, and as a nibabel image in mm."""
    source = read_labels(given, name)
    return source, in_mm(source, file_of(given), np.uint8)


def _landmark(given: ImageLike | None, name: str, *, required: bool = False) -> Any:
    """Return a mask or a label image of points as a nibabel image in mm, None for none."""
    if given is None and not required:
        return None
    return in_mm(read_image(given, name, constant=True), file_of(given))


def _landmarks(
    labels: nib.Nifti1Image,
    *,
    locator: ImageLike | LocatedCanal | None = None,
    **others: ImageLike | None,
) -> Landmarks:
    """Return what is known of a level map besides it."""
    from sct_rootlets_task.levels.landmarks import landmarks_from_images

    located = _located(locator, labels)
    images = {name: _landmark(given, name) for name, given in others.items()}
    return landmarks_from_images(labels, located=located, **images)


def _located(locator: ImageLike | LocatedCanal | None, labels: nib.Nifti1Image) -> Any:
    """Return the locator's levels of an image as a nibabel image in mm, None for no image."""
    from sct_rootlets_task.io.images import in_memory
    from sct_rootlets_task.rootlets.geometry import require_same_grid

    if locator is None:
        return None
    if isinstance(locator, LocatedCanal):
        return _landmark(locator.labels, "locator")
    image = read_image(locator, "locator")
    # Looked at first, as locating takes long.
    require_same_grid(
        np.asarray(labels.dataobj),
        labels.affine,
        other=image.data,
        other_affine=image.affine,
        name=f"image {image.path}",
    )
    file = file_of(locator)
    found = _located_in(image)
    return in_memory(found.labels, image.affine, file=str(file) if file else None)


def _located_in(image: InputImage) -> LocatedLevels:
    from sct_rootlets_task.segmentation.locator import locate as locate_levels

    found = locate_levels(image)
    _log(f"{image.path}: {warning}" for warning in found.warnings)
    return found


def _renumbered(
    image: nib.Nifti1Image, way: str, by: Any, *, known: Landmarks, task: Task
) -> np.ndarray:
    """Return the voxels of a level map, renumbered in one of the five ways."""
    from sct_rootlets_task.analysis import relabel

    labels, grid = np.asarray(image.dataobj), image.affine
    if way == "mapping":
        return relabel.map_levels(labels, _table(by), task=task)
    if way == "shift":
        return relabel.shift_levels(labels, _whole(by, way), task=task)
    if way == "anchor":
        level, number = _pair(by)
        return relabel.anchor_levels(labels, grid, level=level, slice_number=number, task=task)
    if way == "discs":
        discs, cord, files = known.discs or {}, known.cord, known.files
        return relabel.levels_from_discs(
            labels, grid, discs=discs, cord=cord, task=task, files=files
        )
    located = np.asarray(known.located)
    return relabel.levels_from_located(labels, grid, located=located, task=task)


def _task_of(task: str | None, labels: InputImage) -> Task:
    """Return the task that is named, else that of the sidecar, else the one with these levels."""
    from sct_rootlets_task.qc.stored import read_sidecar
    from sct_rootlets_task.registry import TASKS

    if entry := _named_task(task):
        return entry
    recorded = read_sidecar(labels.path).get("Task")
    return TASKS.of_map(
        _values(labels),
        recorded=recorded if isinstance(recorded, str) else None,
        where=f"level map {labels.path}",
    )


def _named_task(task: str | None) -> Task | None:
    from sct_rootlets_task.registry import TASKS

    _require_kind(task, str, "task")
    return None if task is None else TASKS.find(task)


def _values(labels: InputImage) -> list[int]:
    return [int(value) for value in np.unique(labels.data) if value]


def _warn_of_other_levels(task: Task | None, labels: InputImage) -> None:
    """Log which levels of a map a task, if one was named, does not have."""
    from sct_rootlets_task.level_names import value_name

    others = [value_name(one) for one in _values(labels) if task and one not in task.levels]
    if task and others:
        names = f"{task.level_names}, not {', '.join(others)}"
        _log([f"{labels.path}: the levels of task {task.name} are {names}."])


def _warn_if_empty(labels: InputImage, outcome: str) -> None:
    """Log that a level map is empty, and what comes of it."""
    if not labels.data.any():
        _log([f"{labels.path}: the level map holds no labeled voxel; {outcome}"])


def _qc_command(**options: Any) -> str:
    """Return the command that makes a page, as it could be typed; empty without files for it."""
    words = ["sct_rootlets", "qc"]
    for name, given in options.items():
        if given is None or (isinstance(given, str) and not given):
            continue
        text = given if isinstance(given, str) else file_of(given)
        if text is None:
            return ""
        words += [f"-{name}", str(text)]
    return shlex.join(words)


def _labels(labels: np.ndarray, image: InputImage, description: str) -> nib.Nifti1Image:
    from sct_rootlets_task.io.images import labels_image

    return labels_image(labels, image, description)


def _one_way(**ways: Any) -> tuple[str, Any]:
    """Return the one argument that is not None, after its name."""
    asked = [name for name, way in ways.items() if way is not None]
    if len(asked) != 1:
        raise UsageError(
            f"Expected one of {', '.join(ways)}, found {' and '.join(asked) or 'none'}. Give "
            "exactly one of them."
        )
    return asked[0], ways[asked[0]]


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
