"""nnU-Net's default preprocessing of one channel: crop to non-zero, normalize, resample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError, ModelError
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.inference.resampling import (
    ANISOTROPY,
    Resize,
    coarse_axis,
    new_shape,
    resize_image,
)

_RESAMPLING = "resample_data_or_seg_to_shape"
_DEFAULTS = {
    **{"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": False},
    "separate_z_anisotropy_threshold": ANISOTROPY,
}
"""nnU-Net's arguments of its resampling, where the plans give none."""
_ORDERS = {"data": (1, 3), "probabilities": (1,)}
"""Orders of the splines that are built here."""
_EPS = 1e-8
_BY_NNUNET = "run by stock nnU-Net alone. Use -engine nnunet, which needs torch."
MOST_GRID_VOXELS = 2**30
"""Far more than any image of a spine has at the resolution of a network."""


class UnsupportedPlansError(ModelError):
    """The plans ask for something that is not built here; the reference engine may do it."""


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What the plans say about preparing an image and exporting a prediction.

    Parameters
    ----------
    spacing : tuple of float
        Voxel sizes (z, y, x) in mm the network wants.
    patch : tuple of int
        Size (z, y, x) of the network's input in voxels.
    transpose : tuple of int
        Order of axes the network wants, of the axes (z, y, x).
    normalize : str
        Name of the normalization scheme.
    masked : bool
        Whether only non-zero voxels are normalized.
    intensities : mapping
        The plans' intensity statistics of the training data.
    data_resampling, logit_resampling : mapping
        Arguments of nnU-Net's resampling.
    """

    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    transpose: tuple[int, ...]
    normalize: str
    masked: bool
    intensities: Mapping[str, float]
    data_resampling: Mapping[str, Any]
    logit_resampling: Mapping[str, Any]


def read_preprocessing(folder: ModelFolder) -> Preprocessing:
    """Read the preprocessing that a model was trained with.

    Raises
    ------
    UnsupportedPlansError
        If the plans ask for steps that are not built here.
    """
    configuration = folder.configuration
    (scheme,) = configuration["normalization_schemes"]
    if len(configuration["patch_size"]) != 3 or scheme not in _SCHEMES:
        raise UnsupportedPlansError(
            f"The normalization {scheme!r} or a 2-D configuration is {_BY_NNUNET}"
        )
    resampling = {}
    for what, orders in _ORDERS.items():
        named = configuration[f"resampling_fn_{what}"]
        resampling[what] = arguments = {
            **_DEFAULTS,
            **configuration[f"resampling_fn_{what}_kwargs"],
        }
        known = {**_DEFAULTS, "force_separate_z": arguments["force_separate_z"]}
        known["order"] = arguments["order"]
        if named != _RESAMPLING or arguments != known or arguments["order"] not in orders:
            raise UnsupportedPlansError(f"The resampling {named!r} of the plans is {_BY_NNUNET}")
    return Preprocessing(
        tuple(configuration["spacing"]),
        tuple(configuration["patch_size"]),
        folder.transpose,
        scheme,
        configuration["use_mask_for_norm"][0],
        folder.intensities,
        resampling["data"],
        resampling["probabilities"],
    )


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready for the network, and the way back.

    Parameters
    ----------
    data : ndarray of float32, shape (z, y, x)
        Normalized intensities on the network's grid (axes as the network wants them).
    shape : tuple of int
        Shape of the transposed image before cropping.
    box : tuple of slice
        Where the cropped image was in it.
    export : Resize
        From the network's grid to that of the cropped image.
    """

    data: np.ndarray
    shape: tuple[int, ...]
    box: tuple[slice, ...]
    export: Resize


def prepare(volume: np.ndarray, spacing: Sequence[float], wanted: Preprocessing) -> Prepared:
    """Prepare a volume for the network.

    Parameters
    ----------
    volume : ndarray of float32, shape (z, y, x)
        Intensities; not modified.
    spacing : sequence of float
        Voxel sizes (z, y, x) in mm.
    wanted : Preprocessing
        What the model was trained with.

    Raises
    ------
    ImageError
        If the image would be too large at the network's voxel size.
    """
    turned = volume.transpose(wanted.transpose)
    sizes = [float(spacing[axis]) for axis in wanted.transpose]
    box = non_zero_box(turned)
    cropped = turned[box].astype(np.float32)
    normalized = _SCHEMES[wanted.normalize](cropped, wanted)
    target = grid_shape(cropped.shape, sizes, wanted.spacing)
    resize = _resize(cropped.shape, target, sizes, wanted.spacing, wanted.data_resampling)
    export = _resize(target, cropped.shape, wanted.spacing, sizes, wanted.logit_resampling)
    return Prepared(resize_image(normalized, resize), turned.shape, box, export)


def grid_shape(
    shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]
) -> tuple[int, ...]:
    """Return the size of an image on the network's grid.

    Parameters
    ----------
    shape, spacing : sequence of number
        Size of the image, and its voxel sizes in mm, along the axes of the network.
    wanted : sequence of float
        Voxel sizes of the network in mm; the last axes if they are fewer.

    Raises
    ------
    ImageError
        If it has more than :data:`MOST_GRID_VOXELS`.
    """
    kept = tuple(spacing)[: len(spacing) - len(wanted)]
    target = new_shape(shape, spacing, (*kept, *wanted))
    voxels = math.prod(target)
    if voxels > MOST_GRID_VOXELS:
        raise ImageError(
            f"Expected at most {MOST_GRID_VOXELS / 1e6:.0f} million voxels at the model's voxel "
            f"size of {' × '.join(f'{size:g}' for size in wanted)} mm, found {voxels / 1e6:.0f} "
            "million. Crop the image to the neck, or use another model."
        )
    return target


def non_zero_box(volume: np.ndarray) -> tuple[slice, ...]:
    """Return the bounding box of the non-zero voxels, the whole volume if there are none."""
    mask = volume != 0
    box = []
    for axis in range(volume.ndim):
        others = tuple(other for other in range(volume.ndim) if other != axis)
        present = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(present[0]), int(present[-1]) + 1) if len(present) else slice(None))
    return tuple(box)


def _resize(
    old: Sequence[int],
    new: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    arguments: Mapping[str, Any],
) -> Resize:
    axis = coarse_axis(spacing, new_spacing, arguments.get("force_separate_z"))
    return Resize(tuple(old), tuple(new), int(arguments["order"]), axis)


def _z_score(image: np.ndarray, wanted: Preprocessing) -> np.ndarray:
    if not wanted.masked:
        return (image - image.mean()) / max(image.std(), _EPS)
    from scipy.ndimage import binary_fill_holes

    inside = binary_fill_holes(image != 0)
    values = image[inside]
    result = image.copy()
    result[inside] = (values - values.mean()) / max(values.std(), _EPS)
    return result


def _ct(image: np.ndarray, wanted: Preprocessing) -> np.ndarray:
    known = wanted.intensities
    clipped = np.clip(image, known["percentile_00_5"], known["percentile_99_5"])
    return (clipped - np.float32(known["mean"])) / np.float32(max(known["std"], _EPS))


def _to_01(image: np.ndarray, wanted: Preprocessing) -> np.ndarray:
    shifted = image - image.min()
    return shifted / max(shifted.max(), np.float32(_EPS))


_SCHEMES: dict[str, Callable[[np.ndarray, Preprocessing], np.ndarray]] = {
    "ZScoreNormalization": _z_score,
    "CTNormalization": _ct,
    "NoNormalization": lambda image, wanted: image,
    "RescaleTo01Normalization": _to_01,
}
