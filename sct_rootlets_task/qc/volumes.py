"""The volume of the interactive viewer, as a script: a page on disk may load nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sct_rootlets_task.qc.scene import Scene

AROUND_MM = 45.0
"""What is kept on each side of the cord, and beyond the first and last level."""

MAX_VOXELS = 6_000_000

_COMPRESSION = 4


@dataclass(frozen=True)
class Extract:
    """The part of an image that the viewer holds.

    Parameters
    ----------
    script : str
        JavaScript that hands both volumes to the page.
    offset : tuple of int
        Index of its first voxel in the upright image.
    step : tuple of int
        Subsampling step along each axis, in voxels.
    whole : bool
        Whether nothing was left out.
    """

    script: str
    offset: tuple[int, ...]
    step: tuple[int, ...]
    whole: bool


def extract(scene: Scene, entry: str) -> Extract:
    """Cut the surroundings of the cord out of an image, in 8 bits, with the levels.

    Parameters
    ----------
    scene : Scene
        The image.
    entry : str
        Identity of the report's entry, which the script names.
    """
    import nibabel as nib

    box = _box(scene)
    shape = [part.stop - part.start for part in box]
    step = _steps(shape, scene.spacing)
    cut = tuple(slice(b.start, b.stop, s) for b, s in zip(box, step, strict=True))
    affine = scene.affine.copy()
    affine[:3, 3] = scene.affine[:3, :3] @ [b.start for b in box] + scene.affine[:3, 3]
    affine[:3, :3] = scene.affine[:3, :3] * step
    content = {
        "image": _encode(_image(scene.image[cut], affine, scene.window)),
        "labels": _encode(nib.Nifti1Image(np.ascontiguousarray(scene.labels[cut]), affine)),
    }
    return Extract(
        script=f"QC.volume({json.dumps(entry)}, {json.dumps(content)});\n",
        offset=tuple(b.start for b in box),
        step=step,
        whole=tuple(shape) == scene.image.shape and step == (1, 1, 1),
    )


def _box(scene: Scene) -> tuple[slice, ...]:
    """Return the voxels to keep: a tube's box around the cord, or all when it was not found."""
    shape = scene.image.shape
    if not scene.located:
        return tuple(slice(0, n) for n in shape)
    line = scene.center[scene.region]
    ends = [(line[:, 0].min(), line[:, 0].max()), (line[:, 1].min(), line[:, 1].max())]
    ends.append((scene.region.start, scene.region.stop - 1))
    box = []
    for (low, high), size, n in zip(ends, scene.spacing, shape, strict=True):
        reach = max(AROUND_MM, scene.reach) / size
        box.append(slice(max(0, math.floor(low - reach)), min(n, math.ceil(high + reach) + 1)))
    return tuple(box)


def _steps(shape: list[int], spacing: tuple[float, ...]) -> tuple[int, ...]:
    """Thin out the finest axis until the rest is small enough."""
    step = [1, 1, 1]
    while math.prod(math.ceil(n / s) for n, s in zip(shape, step, strict=True)) > MAX_VOXELS:
        finest = min(range(3), key=lambda axis: spacing[axis] * step[axis])
        step[finest] += 1
    return step[0], step[1], step[2]


def _image(voxels: np.ndarray, affine: np.ndarray, window: tuple[float, float]) -> Any:
    """Return an image of 8 bits a voxel that opens with the window of the pictures."""
    import nibabel as nib

    low = min(window[0], float(voxels.min()))
    voxels = voxels.astype(np.float64)
    high = max(window[1], float(np.percentile(voxels[::2, ::2, ::2], 99.9)))
    # The header holds float32: there a slope must not become 0, nor an intensity infinite.
    limits = np.finfo(np.float32)
    slope = max((high - low) / 255, float(limits.tiny))
    values = np.clip((voxels - low) / slope, 0, 255).round().astype(np.uint8)
    image = nib.Nifti1Image(values, affine)
    # A slope that is set already makes nibabel write the values as they are.
    image.header.set_slope_inter(slope, low)
    image.header["cal_min"], image.header["cal_max"] = np.clip(window, limits.min, limits.max)
    return image


def _encode(image: Any) -> str:
    data = gzip.compress(image.to_bytes(), _COMPRESSION, mtime=0)
    return base64.b64encode(data).decode()
