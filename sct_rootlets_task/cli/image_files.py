"""Reading and writing the images of the verbs."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task.cli.console import show

if TYPE_CHECKING:
    from sct_rootlets_task.io.images import InputImage

_INPUTS = ("i", "s", "gt", "pmj", "discs", "locator", "qc_seg")
"""Options of all verbs that name a file to read."""


def read_labels(path: str) -> Any:
    """Return a level map as a nibabel image in mm, and print what is odd about its file.

    Raises
    ------
    ImageError
        If it cannot be read or is no label map.
    """
    from sct_rootlets_task.io.images import load_labels
    from sct_rootlets_task.io.inputs import in_mm

    image = load_labels(Path(path))
    _warn(image)
    return in_mm(image, Path(path), np.uint8)


def read_image(path: str | None) -> Any:
    """Return a mask or a label image of points as a nibabel image in mm, None for no path.

    It may be empty. What is odd about its file is printed.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    from sct_rootlets_task.io.images import load_image
    from sct_rootlets_task.io.inputs import in_mm

    if path is None:
        return None
    image = load_image(Path(path), constant=True)
    _warn(image)
    return in_mm(image, Path(path))


def read_located(path: str, *, onto: Any = None) -> Any:
    """Return the locator's levels of an image as a nibabel image in mm.

    What is odd about its file, and what the locator was not sure of, is printed.

    Parameters
    ----------
    path : str
        The image.
    onto : nibabel.Nifti1Image, optional
        Level map in mm whose grid the image has to have; looked at first, as locating takes long.

    Raises
    ------
    ImageError
        If the image cannot be read or used, or has another grid.
    """
    from sct_rootlets_task.io.images import in_memory, load_image
    from sct_rootlets_task.rootlets.geometry import require_same_grid
    from sct_rootlets_task.segmentation.segmenter import locate

    image = load_image(Path(path))
    _warn(image)
    if onto is not None:
        labels, name = np.asarray(onto.dataobj), f"image {path}"
        require_same_grid(
            labels, onto.affine, other=image.data, other_affine=image.affine, name=name
        )
    found = locate(image)
    for warning in found.warnings:
        show(f"WARNING: {path}: {warning}")
    return in_memory(found.labels, image.affine, file=path)


def check_outputs(
    arguments: argparse.Namespace,
    names: Sequence[str],
    columns: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Make sure, before anything is read, that what a verb writes loses nothing.

    Parameters
    ----------
    arguments : Namespace
        Arguments of the verb.
    names : sequence of str
        Options that name a file to write.
    columns : mapping of str to collection of str, optional
        Columns of those that are tables.

    Raises
    ------
    UsageError, OutputError
        As :func:`sct_rootlets_task.io.outputs.check_outputs` does.
    """
    from sct_rootlets_task.io import outputs
    from sct_rootlets_task.io.images import EXTENSIONS
    from sct_rootlets_task.io.ownership import sidecar_of

    found = []
    for name in names:
        if (path := getattr(arguments, name)) is not None:
            option = f"-{name}"
            found.append(outputs.Output(Path(path), option, (columns or {}).get(name, ())))
            if path.lower().endswith(EXTENSIONS):
                found.append(outputs.Output(sidecar_of(Path(path)), option))
    inputs = [Path(path) for name in _INPUTS if (path := getattr(arguments, name, None))]
    outputs.check_outputs(found, inputs, overwrite=arguments.overwrite)


def write_labels(
    labels: Mapping[Path, np.ndarray],
    image: InputImage,
    *,
    description: str,
    arguments: argparse.Namespace,
    warnings: Sequence[str] = (),
    tables: Mapping[Path, str] | None = None,
    steps: Mapping[str, int] | None = None,
) -> None:
    """Write label maps with their sidecars, and tables: all or nothing; and say so.

    Parameters
    ----------
    labels : mapping of Path to ndarray of uint8, shape (i, j, k)
        Label maps by the files to write.
    image : InputImage
        Image whose grid they have.
    description : str
        What they are; it names the package.
    arguments : Namespace
        The command, for the sidecars.
    warnings : sequence of str
        What a user should look at, for the sidecars.
    tables : mapping of Path to str, optional
        Texts of further files.
    steps : mapping of str to int, optional
        What was done and how many voxels it changed, for the sidecars.
    """
    from sct_rootlets_task.io.images import labels_image
    from sct_rootlets_task.io.results import write_results

    record = {
        "GeneratedBy": made_by(arguments),
        "Sources": [image.path.name],
        "Warnings": list(warnings),
    }
    if steps is not None:
        record["PostProcessing"] = [
            {"Name": name, "VoxelsChanged": voxels} for name, voxels in steps.items()
        ]
    images = {path: labels_image(one, image, description) for path, one in labels.items()}
    write_results(images, record, texts=tables or {})
    for path in (*(tables or {}), *labels):
        print(f"Created file: {path}")


def tell_if_empty(path: str, labels: np.ndarray, outcome: str) -> None:
    """Print a warning about a level map without a label, and what comes of it.

    Parameters
    ----------
    path : str
        The level map.
    labels : ndarray, shape (i, j, k)
        Its voxels.
    outcome : str
        What that means for the command.
    """
    if not labels.any():
        show(f"WARNING: {path}: the level map holds no labeled voxel; {outcome}")


def made_by(arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Return what the JSON files of a verb say about their making."""
    from sct_rootlets_task.io.ownership import generated_by, shortened

    return generated_by(shortened("sct_rootlets", arguments.words))


def _warn(image: InputImage) -> None:
    for warning in image.warnings:
        show(f"WARNING: {image.path}: {warning}")
