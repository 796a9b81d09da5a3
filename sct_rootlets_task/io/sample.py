"""The synthetic T2w volume of the neck that comes with the package.

The file holds the volume without its noise, which would not fit. The noise is drawn anew from a
fixed seed, so every machine gets the same bytes. ``training/sample.py`` paints the volume.
"""

from __future__ import annotations

import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.io.atomic import atomic_output
from sct_rootlets_task.io.ownership import SAMPLE_MARK

SHAPE = (56, 256, 224)
PMJ_VOXEL = (27.5, 112.0, 240.0)
"""Where the pontomedullary junction is, in voxels: the origin of the volume's millimeters."""
AFFINE = np.block([[np.eye(3), -np.array([PMJ_VOXEL]).T], [np.zeros(3), np.ones(1)]])
"""Voxel index to RAS+ mm, shape (4, 4)."""
NOISE = 9.0
"""Standard deviation of the noise of both channels, in units of the signal."""
SIGNAL_STEP = 0.9
"""Signal of one unit on file. A larger step leaves voxels that no multiple of it explains."""
STEP_OFFSET = 128
"""Added to the steps of the signal on file, so that small ones of either sign need one byte."""
MEND_OFFSET = 2
"""Added to what mends a voxel on file."""
FILE = Path(__file__).parents[1] / "data" / "sample.xz"
FILE_AXES = (1, 0, 2)
"""Order in which the file stores the volume's axes. It is the smallest one."""
_NOISE_STATE: Any = {
    "state": 21619378153012547473535588061620290027,
    "inc": 87136372517582989555478159403783844777,
}
"""State of numpy's generator of seed 0 (PCG64) once all tissues are painted."""


@dataclass(frozen=True, eq=False)
class Sample:
    """The synthetic volume and its cord.

    Parameters
    ----------
    data : ndarray of int16, shape (i, j, k)
        Signal. The axes point right, forwards and up, 1 mm a voxel.
    cord : ndarray of bool, shape (i, j, k)
        Spinal cord below the foramen magnum.
    """

    data: np.ndarray
    cord: np.ndarray


def load_sample() -> Sample:
    """Return the sample of the package."""
    size = tuple(SHAPE[axis] for axis in FILE_AXES)
    planes = np.frombuffer(lzma.decompress(FILE.read_bytes()), np.uint8).reshape(4, *size)
    low, high, mended, cord = planes.transpose(0, *(1 + np.argsort(FILE_AXES)))
    steps = low + (high.view(np.int8) * np.int32(256)) - STEP_OFFSET
    signal = steps.cumsum(axis=2) * np.float32(SIGNAL_STEP)
    data = np.rint(with_noise(signal.astype(np.float32), noise_generator()))
    return Sample(data.astype(np.int16) + mended.astype(np.int16) - MEND_OFFSET, cord.astype(bool))


def noise_generator() -> np.random.Generator:
    """Return the random numbers of the sample's noise, from their beginning."""
    bits = np.random.PCG64()
    bits.state = {"bit_generator": "PCG64", "state": _NOISE_STATE, "has_uint32": 0, "uinteger": 0}
    return np.random.Generator(bits)


def with_noise(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a receiver makes of a signal: grain, then Rician noise.

    Parameters
    ----------
    signal : ndarray of float32, shape (i, j, k)
        Signal without noise.
    rng : numpy.random.Generator
        Drawn from as :func:`draw_noise` does.

    Returns
    -------
    ndarray of float32, shape (i, j, k)
        Magnitude (Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618).
    """
    grain, real, imaginary = draw_noise(rng)
    return np.hypot(signal * grain + real, imaginary)


def draw_noise(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the signal is multiplied by, and the noise of both channels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Drawn from three times for each voxel.

    Returns
    -------
    grain, real, imaginary : ndarray of float32, shape (i, j, k)
    """
    grain = 1 + 0.06 * texture(rng, (1, 1, 1))
    real, imaginary = rng.standard_normal((2, *SHAPE), dtype=np.float32) * NOISE
    return grain, real, imaginary


def texture(rng: np.random.Generator, size: tuple[float, float, float]) -> np.ndarray:
    """Return smooth noise of mean 0 and SD 1.

    Parameters
    ----------
    rng : numpy.random.Generator
        Drawn from once for each voxel.
    size : tuple of float
        Grain along (i, j, k), in voxels.

    Returns
    -------
    ndarray of float32, shape (i, j, k)
    """
    from scipy.ndimage import uniform_filter

    noise = rng.standard_normal(SHAPE, dtype=np.float32)
    width = [max(1, round(2.4 * axis)) for axis in size]
    for _ in range(2):
        noise = uniform_filter(noise, width, mode="wrap")
    return noise / noise.std()


def to_nifti(array: np.ndarray) -> Any:
    """Return an array on the sample's grid as an image that is known as synthetic.

    Parameters
    ----------
    array : ndarray, shape (i, j, k)
        Voxels.

    Returns
    -------
    nibabel.Nifti1Image
        In mm; sform and qform are equal, both "scanner".
    """
    import nibabel as nib

    image = nib.Nifti1Image(array, AFFINE)
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE, code=1)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = SAMPLE_MARK + b", no real scan"
    return image


def write_sample(path: Path, cord: Path | None = None) -> None:
    """Write the sample; a file is replaced only when the new one is complete.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz`` for the volume.
    cord : Path, optional
        The same for its cord mask.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    sample = load_sample()
    save(sample.data, path)
    if cord is not None:
        save(sample.cord.astype(np.uint8), cord)


def save(array: np.ndarray, path: Path) -> None:
    """Write an array of shape (i, j, k) on the sample's grid as NIfTI, see :func:`to_nifti`."""
    import nibabel as nib

    with atomic_output(path) as temporary:
        nib.save(to_nifti(array), temporary)
