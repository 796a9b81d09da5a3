"""The tools from Python, on nibabel images or on arrays with their affine.

The names are also those of the package itself: ``from sct_rootlets_task import segment, check``.

Where an image is asked for, a nibabel image or an array of shape (i, j, k) will do; an array needs
the keyword ``affine`` (ndarray of float, shape (4, 4), voxel index to world mm). Further arrays of
the same call, such as a cord mask, lie on the grid of the first. Label maps come back as nibabel
images, tables as pandas data frames from the results' ``to_dataframe()``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.agreement import Agreement
    from sct_rootlets_task.analysis.plausibility import Report
    from sct_rootlets_task.analysis.spinal_levels import SpinalLevels
    from sct_rootlets_task.images import InputImage
    from sct_rootlets_task.locator import LocatedLevels
    from sct_rootlets_task.pipeline import Segmentation, Settings

logger = logging.getLogger(__name__)

__all__ = ["check", "evaluate", "locate", "relabel", "segment", "spinal_levels", "split"]


def segment(
    image: Any,
    task: str = "rootlets",
    *,
    affine: np.ndarray | None = None,
    model: str | None = None,
    settings: Settings | None = None,
    model_dir: Path | None = None,
) -> tuple[Any, Segmentation]:
    """Segment an image.

    Parameters
    ----------
    image : Path, str, nibabel.Nifti1Image or ndarray
        NIfTI file of one 3-D volume, or its voxels.
    task : str
        Task of the registry.
    affine : ndarray of float, shape (4, 4), optional
        For an array.
    model : str, optional
        Release tag, ``starter``, folder or zip file, as for ``-model``.
    settings : Settings, optional
        How to run it.
    model_dir : Path, optional
        Folder of the models.

    Returns
    -------
    nibabel.Nifti1Image
        Level map (uint8) on the image's grid.
    Segmentation
        How it came about.

    Raises
    ------
    RootletsError
        If the image, the model or a setting cannot be used.
    """
    from sct_rootlets_task.images import labels_image
    from sct_rootlets_task.models import resolve
    from sct_rootlets_task.paths import model_root
    from sct_rootlets_task.pipeline import Segmenter
    from sct_rootlets_task.tasks import find_task

    entry = find_task(task)
    resolved = resolve(entry, model, model_root(model_dir))
    loaded = _input(image, affine)
    found = Segmenter(entry, resolved.model, settings).segment(loaded)
    return labels_image(found.labels, loaded, f"{task} by {resolved.model.name}"), found


def check(
    image: Any,
    *,
    affine: np.ndarray | None = None,
    cord: Any = None,
    pmj: Any = None,
    discs: Any = None,
    located: Any = None,
) -> Report:
    """Check how plausible the levels of a segmentation are.

    Parameters
    ----------
    image : nibabel.Nifti1Image or ndarray
        Level map.
    affine : ndarray of float, shape (4, 4), optional
        For arrays.
    cord, located : nibabel.Nifti1Image or ndarray, optional
        Cord mask, and levels of the canal as ``locate(…).labels`` gives them, on the same grid.
    pmj, discs : nibabel.Nifti1Image or ndarray, optional
        Labels of the pontomedullary junction and of the discs; images on any grid.

    Returns
    -------
    Report
        ``to_dataframe()`` has a row a level, ``flags_dataframe()`` a row a flag.

    Raises
    ------
    ImageError
        If an image lies on another grid, or a landmark cannot be what it is called.
    """
    from sct_rootlets_task.analysis.plausibility import check_image
    from sct_rootlets_task.analysis.references import references_from_images

    labels = _image(image, affine)
    others = {"cord": cord, "pmj": pmj, "discs": discs, "located": located}
    given = {name: _beside(other, labels) for name, other in others.items()}
    return check_image(labels, references=references_from_images(labels, **given))


def relabel(
    image: Any,
    mapping: Mapping[int, int] | None = None,
    *,
    affine: np.ndarray | None = None,
    shift: int | None = None,
    anchor: tuple[int, int] | None = None,
    discs: Any = None,
    located: Any = None,
    cord: Any = None,
) -> Any:
    """Renumber the levels of a segmentation, in one of five ways.

    Parameters
    ----------
    image : nibabel.Nifti1Image or ndarray
        Level map.
    mapping : mapping of int to int, optional
        Old level → new one; 0 removes a level, what is not named stays.
    affine : ndarray of float, shape (4, 4), optional
        For arrays.
    shift : int, optional
        Number to add to every level.
    anchor : tuple of (int, int), optional
        A level and a slice, counted from the inferior end, that ought to be of that level.
    discs : nibabel.Nifti1Image or ndarray, optional
        Disc labels to take the levels from; an image on any grid.
    located : nibabel.Nifti1Image or ndarray, optional
        Levels of the canal to take the levels from, as ``locate(…).labels`` gives them.
    cord : nibabel.Nifti1Image or ndarray, optional
        Cord mask on the same grid, a help to `discs`.

    Returns
    -------
    nibabel.Nifti1Image

    Raises
    ------
    UsageError
        If not exactly one way is asked for.
    ImageError
        If an image lies on another grid, holds no label, or discs cannot be what they are called
        or reach too few levels.
    """
    from sct_rootlets_task.analysis import shifting
    from sct_rootlets_task.analysis.geometry import level_map, like
    from sct_rootlets_task.analysis.references import references_from_images
    from sct_rootlets_task.errors import UsageError

    ways = {
        "mapping": mapping,
        "shift": shift,
        "anchor": anchor,
        "discs": discs,
        "located": located,
    }
    asked = [name for name, way in ways.items() if way is not None]
    if len(asked) != 1:
        raise UsageError(
            f"Expected one of {', '.join(ways)}, found {' and '.join(asked) or 'none'}. Give "
            "exactly one of them."
        )
    source = _image(image, affine)
    labels, grid = level_map(source), source.affine
    others = {"cord": cord, "discs": discs, "located": located}
    given = {name: _beside(other, source) for name, other in others.items()}
    known = references_from_images(source, **given)
    if mapping is not None:
        renumbered = shifting.map_levels(labels, mapping)
    elif shift is not None:
        renumbered = shifting.shift_levels(labels, shift)
    elif anchor is not None:
        level, number = anchor
        renumbered = shifting.anchor_levels(labels, grid, level=level, slice_number=number)
    elif known.discs is not None:
        renumbered = shifting.levels_from_discs(
            labels, grid, discs=known.discs, cord=known.cord, files=known.files
        )
    elif known.located is not None:
        renumbered = shifting.levels_from_located(labels, grid, located=known.located)
    return _as_given(image, like(source, renumbered))


def spinal_levels(
    image: Any,
    *,
    affine: np.ndarray | None = None,
    cord: Any = None,
    pmj: Any = None,
    method: str = "caudal",
) -> tuple[SpinalLevels, Any]:
    """Find the spinal levels along the cord.

    Parameters
    ----------
    image : nibabel.Nifti1Image or ndarray
        Level map of the rootlets.
    affine : ndarray of float, shape (4, 4), optional
        For arrays.
    cord : nibabel.Nifti1Image or ndarray, optional
        Cord mask on the same grid.
    pmj : nibabel.Nifti1Image or ndarray, optional
        Label of the pontomedullary junction; an image on any grid.
    method : {"caudal", "midpoint", "rootlets"}
        As for the verb ``levels``.

    Returns
    -------
    SpinalLevels
        ``to_dataframe()`` has a row a level, with the columns of the CSV file; ``warnings`` says
        what is doubtful, as the log does.
    nibabel.Nifti1Image or None
        The cord coloured by level; None without a cord mask.
    """
    from sct_rootlets_task.analysis.spinal_levels import spinal_levels_image

    labels = _image(image, affine)
    mask, mark = _beside(cord, labels), _beside(pmj, labels)
    found, colored = spinal_levels_image(labels, cord=mask, pmj=mark, method=method)
    for warning in found.warnings:
        logger.warning(warning)
    return found, None if colored is None else _as_given(image, colored)


def split(image: Any, cord: Any, *, affine: np.ndarray | None = None) -> dict[str, Any]:
    """Split a segmentation into left and right, dorsal and ventral rootlets.

    Parameters
    ----------
    image, cord : nibabel.Nifti1Image or ndarray
        Level map, and cord mask on the same grid.
    affine : ndarray of float, shape (4, 4), optional
        For arrays.

    Returns
    -------
    dict of str to nibabel.Nifti1Image
        ``left_dorsal``, ``left_ventral``, ``right_dorsal``, ``right_ventral``: they add up to the
        level map.
    """
    from sct_rootlets_task.analysis.split import split_image

    labels = _image(image, affine)
    parts = split_image(labels, _beside(cord, labels))
    return {name: _as_given(image, part) for name, part in parts.items()}


def locate(image: Any, *, affine: np.ndarray | None = None) -> LocatedLevels:
    """Find the spinal canal and its levels in an image with the built-in locator.

    Parameters
    ----------
    image : Path, str, nibabel.Nifti1Image or ndarray
        NIfTI file of one 3-D volume, or its voxels.
    affine : ndarray of float, shape (4, 4), optional
        For an array.
    """
    from sct_rootlets_task.pipeline import locate as locate_levels

    return locate_levels(_input(image, affine))


def evaluate(
    image: Any, reference: Any, *, affine: np.ndarray | None = None
) -> tuple[Agreement, ...]:
    """Compare a segmentation with a reference.

    Parameters
    ----------
    image, reference : nibabel.Nifti1Image or ndarray
        Level maps on the same grid.
    affine : ndarray of float, shape (4, 4), optional
        For arrays.
    """
    from sct_rootlets_task.analysis.agreement import compare_images

    labels = _image(image, affine)
    return compare_images(labels, _beside(reference, labels))


def _image(data: Any, affine: np.ndarray | None) -> Any:
    from sct_rootlets_task.analysis.geometry import as_image

    return as_image(data, affine)


def _beside(other: Any, image: Any) -> Any:
    """Return a further image of a call; an array lies on the grid of the first image."""
    return None if other is None else _image(other, image.affine)


def _as_given(image: Any, result: Any) -> Any:
    """Return a label map in the unit of the image as it was given."""
    from sct_rootlets_task.analysis.geometry import like

    return like(image, np.asarray(result.dataobj)) if hasattr(image, "dataobj") else result


def _input(image: Any, affine: np.ndarray | None) -> InputImage:
    """Return a checked image, from its file or from memory."""
    from sct_rootlets_task.images import check_image, load_image

    if isinstance(image, str | Path):
        return load_image(Path(image))
    given = image if hasattr(image, "dataobj") else _image(image, affine)
    return check_image(given, Path("image.nii.gz"))
