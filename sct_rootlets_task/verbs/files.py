"""Reading and writing the images of the verbs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def read_labels(path: str) -> Any:
    """Return a level map as a nibabel image.

    Raises
    ------
    ImageError
        If it cannot be read or is no label map.
    """
    import nibabel as nib

    from sct_rootlets_task.images import load_labels

    image = load_labels(Path(path))
    return nib.Nifti1Image(image.data.astype(np.uint8), image.affine, image.header)


def read_image(path: str | None) -> Any:
    """Return a mask or a label image of points as a nibabel image, None for no path.

    Raises
    ------
    ImageError
        If it cannot be read.
    """
    import nibabel as nib

    from sct_rootlets_task.images import load_image

    if path is None:
        return None
    image = load_image(Path(path))
    return nib.Nifti1Image(image.data, image.affine, image.header)


def write_labels(labels: np.ndarray, like: str, path: Path, description: str) -> None:
    """Write a level map on the grid of the image `like` and say so."""
    from sct_rootlets_task.images import load_labels, save_labels

    save_labels(labels, load_labels(Path(like)), path, description)
    print(f"Created file: {path}")
