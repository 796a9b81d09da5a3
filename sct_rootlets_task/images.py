"""Reading images with their faults found early, and writing label maps on the same grid."""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.files import atomic_output

logger = logging.getLogger(__name__)

EXTENSIONS = (".nii.gz", ".nii")
_WHOLE_DIFFERENCE_MM = 0.5


@dataclass(frozen=True, eq=False)
class InputImage:
    """A 3-D image that passed every check.

    Parameters
    ----------
    path : Path
        File it was read from.
    data : ndarray of float32, shape (i, j, k)
        Intensities, scaled as the header says; non-finite voxels are 0.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world (RAS+) mm: the sform if there is one, else the qform.
    header : nibabel.Nifti1Header
        Header of the file.
    warnings : tuple of str
        What a user should know about the file.
    """

    path: Path
    data: np.ndarray
    affine: np.ndarray
    header: Any
    warnings: tuple[str, ...] = ()

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel sizes in mm along (i, j, k)."""
        from nibabel.affines import voxel_sizes

        sizes = voxel_sizes(self.affine)
        zooms = [float(str(np.float32(zoom))) for zoom in self.header.get_zooms()[:3]]
        return tuple(zooms if np.allclose(zooms, sizes, rtol=1e-3) else sizes.tolist())

    @property
    def orientation(self) -> str:
        """Orientation of the voxel axes in SCT's letters, for example ``RPI``."""
        from nibabel.orientations import aff2axcodes

        opposite = dict(zip("LRPAIS", "RLAPSI", strict=True))
        return "".join(opposite[code] for code in aff2axcodes(self.affine))


def stem(path: Path) -> str:
    """Return the name of an image without ``.nii`` or ``.nii.gz``.

    Examples
    --------
    >>> stem(Path("data/sub-01_T2w.nii.gz"))
    'sub-01_T2w'
    """
    for extension in EXTENSIONS:
        if path.name.lower().endswith(extension):
            return path.name[: -len(extension)]
    return path.name


def load_image(path: Path, *, constant: bool = False) -> InputImage:
    """Read an image and check that it can be segmented.

    Parameters
    ----------
    path : Path
        NIfTI file, ``.nii`` or ``.nii.gz``, of one 3-D volume.
    constant : bool
        Whether one value everywhere is taken too: a mask, or an image that is only looked at.

    Raises
    ------
    ImageError
        If the file is missing, damaged, no NIfTI image, not 3-D, of a complex or colour type, or
        without any signal.
    """
    return check_image(_open(path), path, constant=constant)


def check_image(image: Any, path: Path, *, constant: bool = False) -> InputImage:
    """Check that a nibabel image can be segmented.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        One 3-D volume.
    path : Path
        Its file, for messages; of an image in memory any name.
    constant : bool
        Whether an image without contrast is taken too.

    Raises
    ------
    ImageError
        As :func:`load_image` does.
    """
    shape = _check_shape(path, image.shape)
    _check_dtype(path, image.get_data_dtype())
    _check_affine(path, image.affine)
    data = _read_voxels(path, image).reshape(shape)
    finite = np.isfinite(data)
    if not constant:
        _check_signal(path, data, finite)
    warnings = [*_geometry_warnings(image.header)]
    if not finite.all():
        lost = int(data.size - np.count_nonzero(finite))
        warnings.append(f"{lost} voxels are not finite (NaN or Inf); they are taken as 0.")
        data = np.where(finite, data, np.float32(0))
    header = image.header.copy()
    return InputImage(path, data, np.asarray(image.affine), header, tuple(warnings))


def load_labels(path: Path) -> InputImage:
    """Read a level map; it may be empty.

    Parameters
    ----------
    path : Path
        NIfTI file of one 3-D volume of whole numbers from 0 to 255.

    Raises
    ------
    ImageError
        If the file is no such label map.
    """
    image = _open(path)
    shape = _check_shape(path, image.shape)
    _check_dtype(path, image.get_data_dtype())
    _check_affine(path, image.affine)
    data = _read_voxels(path, image).reshape(shape)
    wrong = data[~((data >= 0) & (data <= 255) & (data == np.round(data)))]
    if wrong.size:
        raise ImageError(
            f"Expected whole numbers from 0 to 255 in the label map {path}, found {wrong[0]:g}. "
            "Give a segmentation, not an image or a probability map."
        )
    header = image.header.copy()
    return InputImage(path, data, np.asarray(image.affine), header)


def _open(path: Path) -> Any:
    import nibabel as nib
    from nibabel.filebasedimages import ImageFileError

    if not path.name.lower().endswith(EXTENSIONS):
        raise ImageError(
            f"Expected a NIfTI image (.nii or .nii.gz), found {path}. Convert it first, for "
            "example with dcm2niix."
        )
    try:
        image = nib.load(path)
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {path}. Check the path.") from error
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error) as error:
        raise _damaged(path, error) from error
    if not isinstance(image, nib.Nifti1Image):
        raise ImageError(f"Expected a NIfTI image, found {type(image).__name__} in {path}.")
    return image


def _damaged(path: Path, error: Exception) -> ImageError:
    return ImageError(
        f"{path} cannot be read as a NIfTI image: it is damaged, cut short or of another format "
        f"({error}). Copy or convert it again."
    )


def _check_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    trimmed = shape[:3] if all(n == 1 for n in shape[3:]) else shape
    if 0 in shape:
        raise ImageError(f"Expected an image with voxels, found the shape {shape} in {path}.")
    if len(trimmed) > 3:
        raise ImageError(
            f"Expected one 3-D volume, found {shape[3:]} volumes in {path}. Take their mean "
            "(sct_maths -mean t, fslmaths -Tmean) or split them (sct_image -split t, fslsplit)."
        )
    if len(trimmed) < 3 or 1 in trimmed:
        raise ImageError(
            f"Expected a 3-D volume, found a single slice of shape {shape} in {path}. Rootlets "
            "cannot be told from one slice; give the whole volume."
        )
    return trimmed


def _check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iuf":
        kind = "colour (RGB)" if dtype.fields else "complex" if dtype.kind == "c" else str(dtype)
        raise ImageError(
            f"Expected one real intensity a voxel, found {kind} data in {path}. Save the magnitude "
            "as an integer or float image."
        )


def _check_affine(path: Path, affine: np.ndarray) -> None:
    ok = np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-9
    if not ok:
        raise ImageError(
            f"The orientation matrix of {path} is not usable ({affine[:3].tolist()}). Repair its "
            "sform or qform first."
        )


def _read_voxels(path: Path, image: Any) -> np.ndarray:
    try:
        return np.asarray(image.dataobj).astype(np.float32)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _damaged(path, error) from error


def _check_signal(path: Path, data: np.ndarray, finite: np.ndarray) -> None:
    if not finite.any():
        raise ImageError(f"Expected intensities, found only NaN or Inf in {path}.")
    low, high = data.min(where=finite, initial=np.inf), data.max(where=finite, initial=-np.inf)
    if low == high:
        raise ImageError(
            f"Expected an image with contrast, found the one value {low:g} everywhere in {path}."
        )


def _geometry_warnings(header: Any) -> list[str]:
    """Say when the two orientation matrices of a NIfTI header leave doubt."""
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    if not s_code and not q_code:
        return [
            "neither sform nor qform is set, so left and right, up and down are assumed, not known."
        ]
    if s_code and q_code and sform is not None and qform is not None:
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in header.get_data_shape()[:3]]))
        corners = corners.reshape(3, -1).T
        apart = corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3]
        worst = float(np.linalg.norm(apart, axis=1).max())
        if worst > _WHOLE_DIFFERENCE_MM:
            return [
                f"sform and qform disagree by up to {worst:.1f} mm; the sform is used (as nibabel "
                "and SCT do), and both are copied to the output."
            ]
    return []


def labels_image(labels: np.ndarray, image: InputImage, description: str) -> Any:
    """Return a label map on the grid of the image it was made from, as a nibabel image.

    Affine, sform, qform, their codes, and units are those of the image, bit for bit.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel.
    image : InputImage
        The image the labels belong to.
    description : str
        Text for the header's ``descrip`` (79 ASCII characters are kept).
    """
    import nibabel as nib

    header = image.header.copy()
    header.extensions.clear()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(labels.shape)
    header.set_slope_inter(1, 0)
    header.set_intent("none")
    header["cal_min"], header["cal_max"] = 0, max(1, int(labels.max(initial=0)))
    header["descrip"] = description.encode("ascii", "replace")[:79]
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    return kind(labels.astype(np.uint8), image.affine, header)


def save_labels(labels: np.ndarray, image: InputImage, path: Path, description: str) -> None:
    """Write a label map on the grid of the image it was made from.

    The file holds what :func:`~sct_rootlets_task.images.labels_image` returns.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel.
    image : InputImage
        The image the labels belong to.
    path : Path
        ``.nii`` or ``.nii.gz``; replaced only when the new file is complete.
    description : str
        Text for the header's ``descrip``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    import nibabel as nib

    with atomic_output(path) as temporary:
        nib.save(labels_image(labels, image, description), temporary)
