"""The tools from Python, on nibabel images.

The names are also those of the package itself: ``from sct_rootlets_task import segment, check``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.agreement import Agreement
    from sct_rootlets_task.analysis.plausibility import Report
    from sct_rootlets_task.analysis.spinal_levels import SpinalLevels
    from sct_rootlets_task.locator import LocatedLevels
    from sct_rootlets_task.pipeline import Segmentation, Settings

__all__ = ["check", "evaluate", "locate", "relabel", "segment", "spinal_levels", "split"]


def segment(
    image: Path | str,
    task: str = "rootlets",
    *,
    model: str | None = None,
    settings: Settings | None = None,
    model_dir: Path | None = None,
) -> tuple[Any, Segmentation]:
    """Segment an image file.

    Parameters
    ----------
    image : Path or str
        NIfTI file of one 3-D volume.
    task : str
        Task of the registry.
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
    from sct_rootlets_task.images import labels_image, load_image
    from sct_rootlets_task.models import resolve
    from sct_rootlets_task.paths import model_root
    from sct_rootlets_task.pipeline import Segmenter
    from sct_rootlets_task.tasks import find_task

    entry = find_task(task)
    resolved = resolve(entry, model, model_root(model_dir))
    loaded = load_image(Path(image))
    found = Segmenter(entry, resolved.model, settings).segment(loaded)
    return labels_image(found.labels, loaded, f"{task} by {resolved.model.name}"), found


def check(image: Any, *, cord: Any = None, pmj: Any = None, discs: Any = None) -> Report:
    """Check how plausible the levels of a segmentation are.

    Parameters
    ----------
    image, cord, pmj, discs : nibabel.Nifti1Image
        Level map, and optionally cord mask (same grid), label of the pontomedullary junction and
        disc labels (any grid).
    """
    from sct_rootlets_task.analysis.plausibility import check_image
    from sct_rootlets_task.analysis.references import references_from_images

    references = references_from_images(image, cord=cord, pmj=pmj, discs=discs)
    return check_image(image, references=references)


def relabel(image: Any, mapping: Mapping[int, int]) -> Any:
    """Renumber the levels of a segmentation.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Level map.
    mapping : mapping of int to int
        Old level → new one; 0 removes a level, what is not named stays.

    Returns
    -------
    nibabel.Nifti1Image
    """
    from sct_rootlets_task.analysis.geometry import like
    from sct_rootlets_task.analysis.shifting import map_levels

    return like(image, map_levels(np.asarray(image.dataobj).astype(np.uint8), mapping))


def spinal_levels(
    image: Any, *, cord: Any = None, pmj: Any = None, method: str = "caudal"
) -> tuple[SpinalLevels, Any]:
    """Find the spinal levels along the cord.

    See :func:`sct_rootlets_task.analysis.spinal_levels.spinal_levels_image`.
    """
    from sct_rootlets_task.analysis.spinal_levels import spinal_levels_image

    return spinal_levels_image(image, cord=cord, pmj=pmj, method=method)


def split(image: Any, cord: Any) -> dict[str, Any]:
    """Split a segmentation into left and right, dorsal and ventral rootlets.

    See :func:`sct_rootlets_task.analysis.split.split_image`.
    """
    from sct_rootlets_task.analysis.split import split_image

    return split_image(image, cord)


def locate(image: Path | str) -> LocatedLevels:
    """Find the spinal canal and its levels in an image file with the built-in locator.

    See :func:`sct_rootlets_task.pipeline.locate`.
    """
    from sct_rootlets_task.images import load_image
    from sct_rootlets_task.pipeline import locate as locate_levels

    return locate_levels(load_image(Path(image)))


def evaluate(image: Any, reference: Any) -> tuple[Agreement, ...]:
    """Compare a segmentation with a reference.

    See :func:`sct_rootlets_task.analysis.agreement.compare_images`.
    """
    from sct_rootlets_task.analysis.agreement import compare_images

    return compare_images(image, reference)
