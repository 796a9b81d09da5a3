"""Images as callers in Python give them: by a path, or as a nibabel image in memory."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sct_rootlets_task.errors import ImageError, InputTypeError, OutputError
from sct_rootlets_task.io.images import (
    EXTENSIONS,
    InputImage,
    check_image,
    check_labels,
    in_memory,
    load_image,
    load_labels,
)
from sct_rootlets_task.io.nifti import reading
from sct_rootlets_task.io.paths import expand_user

if TYPE_CHECKING:
    import nibabel as nib
    from nibabel.spatialimages import SpatialImage

logger = logging.getLogger(__name__)

# A text, so that nibabel need not be loaded.
ImageLike: TypeAlias = "str | os.PathLike[str] | SpatialImage"
"""An image argument: the path of a NIfTI file, or a nibabel image."""


def read_image(given: ImageLike, name: str, *, constant: bool = False) -> InputImage:
    """Return an image that passed every check; what is odd about it is logged.

    Parameters
    ----------
    given : path or nibabel image
        One 3-D volume.
    name : str
        Name of the argument, for messages.
    constant : bool
        Whether one value everywhere is taken too.

    Raises
    ------
    InputTypeError
        If it is neither a path nor a nibabel image.
    ImageError
        If it cannot be read or used.
    """
    load, check = partial(load_image, constant=constant), partial(check_image, constant=constant)
    return _read(given, name, load, check)


def read_labels(given: ImageLike, name: str) -> InputImage:
    """Return a level map that passed every check; what is odd about it is logged.

    Parameters
    ----------
    given : path or nibabel image
        One 3-D volume of whole numbers from 0 to 255.
    name : str
        Name of the argument, for messages.

    Raises
    ------
    InputTypeError
        If it is neither a path nor a nibabel image.
    ImageError
        If it cannot be read or is no level map.
    """
    return _read(given, name, load_labels, check_labels)


def _read(
    given: ImageLike,
    name: str,
    load: Callable[[Path], InputImage],
    check: Callable[[Any, Path], InputImage],
) -> InputImage:
    """Load a file, or check an image in memory; log what is odd about it."""
    path = _path_of(given)
    if path is not None:
        image = load(path)
    else:
        held = _in_memory(given, name)
        place = file_of(held) or Path(f"<{name} in memory>")
        with reading(place):
            image = check(held, place)
    for warning in image.warnings:
        logger.warning("%s: %s", image.path, warning)
    return image


def file_of(given: ImageLike) -> Path | None:
    """Return the file that an image was given by or loaded from; None if there is none."""
    path = _path_of(given)
    if path is not None:
        return path
    named = getattr(given, "get_filename", lambda: None)()
    return Path(named) if named else None


def in_mm(image: InputImage, file: Path | None, dtype: type[np.generic] = np.float32) -> Any:
    """Return a checked image as a nibabel image whose affine is in mm.

    Parameters
    ----------
    image : InputImage
        What :func:`read_image` or :func:`read_labels` returned.
    file : Path, optional
        Its file, which messages name.
    dtype : numpy type
        Of the voxels.

    Returns
    -------
    nibabel.Nifti1Image
    """
    values = image.data.astype(dtype, copy=False)
    return in_memory(
        values, image.affine, file=None if file is None else str(file), step=image.step
    )


@contextlib.contextmanager
def as_file(given: ImageLike, name: str) -> Iterator[Path]:
    """Give a file that holds an image: its own, or else one that is there for as long.

    Parameters
    ----------
    given : path or nibabel image
        One 3-D volume.
    name : str
        Name of the argument, for messages.

    Yields
    ------
    Path

    Raises
    ------
    InputTypeError
        If it is neither a path nor a nibabel image.
    ImageError
        If an image in memory cannot be used.
    OutputError
        If there is no room for a copy of it.
    """
    path = _path_of(given)
    if path is not None:
        yield path
        return
    image = read_image(given, name, constant=True)
    file = file_of(given)
    if file is not None and not file.name.lower().endswith(EXTENSIONS):
        file = None
    if file is not None and _still_holds(file, given):
        yield file
        return
    with contextlib.ExitStack() as stack:
        copy = _copy(image, file.name if file else f"{name}.nii.gz", stack)
        try:
            yield copy
        except ImageError as error:  # nobody knows the copy
            raise ImageError(str(error).replace(str(copy), str(image.path))) from error


def _copy(image: InputImage, name: str, stack: contextlib.ExitStack) -> Path:
    """Write an image into a temporary folder, which the stack removes."""
    import nibabel as nib

    try:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sct_rootlets-"))
        nib.save(in_mm(image, None), Path(folder, name))
    except OSError as error:
        raise OutputError(
            f"A copy of {image.path} could not be written ({error.strerror or error}). Free space, "
            "or name another folder in the variable TMPDIR."
        ) from error
    return Path(folder, name)


def _path_of(given: object) -> Path | None:
    """Return the path that was given, a leading ``~`` for a home folder; None for no path."""
    if not isinstance(given, str | os.PathLike):
        return None
    return expand_user(os.fsdecode(given))


def _in_memory(given: object, name: str) -> nib.spatialimages.SpatialImage:
    from nibabel.spatialimages import SpatialImage

    if isinstance(given, SpatialImage):
        return given
    kind = type(given)
    found = "None" if given is None else f"{kind.__module__}.{kind.__qualname__}"
    way = "Load it with nibabel.load, or give its path."
    if hasattr(given, "__array__"):
        way = "Make an image of an array first: nibabel.Nifti1Image(array, affine)."
    raise InputTypeError(
        f"Expected a path or a nibabel image for {name}, found {found.removeprefix('builtins.')}. "
        f"{way}"
    )


def _still_holds(file: Path, image: Any) -> bool:
    """Tell whether an image was loaded from a file and not changed since."""
    import nibabel as nib

    if not nib.is_proxy(image.dataobj):
        return False
    with reading(file):
        affine = nib.load(file).affine
    return np.array_equal(affine, image.affine)
