"""Reading images with their faults found early, and writing label maps on the same grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.label_values import step_of, tolerance
from sct_rootlets_task.io.nifti import (
    folder_for_image,
    is_missing,
    mend_qform,
    mend_shape,
    open_nifti,
    reading,
)
from sct_rootlets_task.io.physical_size import mm_per_unit, to_mm, unit_of
from sct_rootlets_task.io.short_repr import short_repr
from sct_rootlets_task.io.untrusted import is_folder

EXTENSIONS = (".nii.gz", ".nii")
_WHOLE_DIFFERENCE_MM = 0.5
_LARGEST_VALUE = 1e12
_FEW = 1e-3
"""Share of voxels that may be left out as far beyond all others."""
_FAR_BEYOND = 10
"""So many times the range of the others; in real images no voxel is even one range away."""
_MOST_OF_IT = 0.5
_SMALLEST_RANGE = 1e-6
_ALIKE = 0.01
_GRID_FIELDS = ("dim_info", "xyzt_units", "sform_code", "qform_code")
_SFORM_FIELDS = ("srow_x", "srow_y", "srow_z")
_QFORM_FIELDS = (
    *("quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z"),
)
_CONVERTERS = {
    (".hdr", ".img", ".hdr.gz", ".img.gz"): "fslchfiletype NIFTI_GZ (FSL) or nib-convert (nibabel)",
    (".mgh", ".mgz", ".mgh.gz"): "mri_convert (FreeSurfer) or nib-convert (nibabel)",
    (".nrrd", ".nhdr", ".mha", ".mhd"): "3D Slicer or ITK-SNAP",
    (".mnc",): "mnc2nii",
}


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
        Header of the file, in the unit of the file.
    warnings : tuple of str
        What a user should know about the file.
    unit_mm : float
        Millimeters that the unit of the header has.
    step : float
        Distance of two neighboring values in the file; 0 where it is not known.
    """

    path: Path
    data: np.ndarray
    affine: np.ndarray
    header: Any
    warnings: tuple[str, ...] = ()
    unit_mm: float = 1.0
    step: float = 0.0

    __repr__ = short_repr

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel sizes in mm along (i, j, k)."""
        from nibabel.affines import voxel_sizes

        sizes = voxel_sizes(self.affine)
        zooms = [float(str(np.float32(zoom))) for zoom in self.header.get_zooms()[:3]]
        if self.unit_mm != 1:
            zooms = [round(zoom * self.unit_mm, 7) for zoom in zooms]
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
        If the file is missing, damaged, no NIfTI image, not 3-D, of a complex or color type, of a
        size that no body has, or without any signal.
    """
    return _with_intensities(_of_file(path), constant=constant)


def check_image(image: Any, path: Path, *, constant: bool = False) -> InputImage:
    """Check that a nibabel image can be segmented, see :func:`load_image`.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        One 3-D volume.
    path : Path
        Its file, for messages; of an image in memory any name.
    constant : bool
        Whether an image without contrast is taken too.
    """
    return _with_intensities(_of_image(image, path), constant=constant)


def load_labels(path: Path) -> InputImage:
    """Read a level map; it may be empty.

    Values within a step of the file's scale, or within 0.009, of a whole number are that number.
    Not-a-number is taken as background.

    Parameters
    ----------
    path : Path
        NIfTI file of one 3-D volume of whole numbers from 0 to 255.

    Raises
    ------
    ImageError
        If the file is no such label map.
    """
    return _with_labels(_of_file(path))


def check_labels(image: Any, path: Path) -> InputImage:
    """Check that a nibabel image is a level map, see :func:`load_labels`.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        One 3-D volume.
    path : Path
        Its file, for messages; of an image in memory any name.
    """
    return _with_labels(_of_image(image, path))


def _of_file(path: Path) -> InputImage:
    """Read a file, its voxels as they are; what lies where is checked before they are read."""
    _require_extension(path)
    with open_nifti(path) as file:
        header = file.header
        with reading(path):
            shape, affine = header.get_data_shape(), header.get_best_affine()
        shape, affine, unit_mm, doubts = _checked_grid(
            path, shape, header.get_data_dtype(), affine, unit_of(header)
        )
        values, warnings = file.read_values()
    remarks = (*file.warnings, *warnings, *doubts)
    return InputImage(path, values.reshape(shape), affine, header, remarks, unit_mm, file.step)


def _of_image(image: Any, path: Path) -> InputImage:
    """Return an image in memory, its voxels as they are, and a repaired copy of its header."""
    header = _nifti_header(image.header).copy()
    mended = mend_shape(header) if all(image.shape) else []
    shape, affine, unit_mm, doubts = _checked_grid(
        path,
        header.get_data_shape(),
        image.get_data_dtype(),
        image.affine,
        unit_of(image.header),
    )
    with reading(path):
        values = np.asarray(image.dataobj).astype(np.float32).reshape(shape)
    remarks = (*mended, *mend_qform(path, header), *doubts)
    return InputImage(path, values, affine, header, remarks, unit_mm, step_of(image))


def _checked_grid(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], affine: np.ndarray, unit: int
) -> tuple[tuple[int, ...], np.ndarray, float, tuple[str, ...]]:
    """Return the shape along three axes, the affine in mm, the unit's mm, and warnings."""
    shape = _check_shape(path, shape)
    _check_dtype(path, dtype)
    unit_mm, warnings = mm_per_unit(affine, shape, unit, path)
    return shape, to_mm(affine, unit_mm), unit_mm, warnings


def _with_intensities(image: InputImage, *, constant: bool) -> InputImage:
    data, doubts = _intensities(image.path, image.data, constant=constant)
    warnings = (*image.warnings, *_geometry_warnings(image.header), *doubts)
    return replace(image, data=data, warnings=warnings)


def _with_labels(image: InputImage) -> InputImage:
    data = whole_numbers(image.data, f"the level map {image.path}", step=image.step)
    return replace(image, data=data, warnings=(*image.warnings, *_not_numbers(image.data)))


def _not_numbers(labels: np.ndarray) -> list[str]:
    lost = int(np.count_nonzero(np.isnan(labels)))
    return [f"{lost} voxels are not a number (NaN); they are taken as background."] if lost else []


def in_memory(
    values: np.ndarray, affine: np.ndarray, *, file: str | None, step: float = 0.0
) -> Any:
    """Return a nibabel.Nifti1Image with what is to be known about its file.

    Parameters
    ----------
    values, affine : ndarray, shape (i, j, k), and of float, shape (4, 4)
        Voxels, and voxel index to world mm.
    file : str or None
        Its file, for messages.
    step : float
        Distance of two neighboring values in the file; 0 where it is not known.
    """
    import nibabel as nib

    image = nib.Nifti1Image(values, affine, extra={"step": step})
    image.file_map["image"].filename = file
    return image


def whole_numbers(values: np.ndarray, name: str, *, step: float = 0.0) -> np.ndarray:
    """Return labels, rounded to the whole numbers they stand for.

    Parameters
    ----------
    values : ndarray of float
        Labels as read.
    name : str
        What they are, for the message.
    step : float
        Distance of two neighboring values in the file, 0 where it is not known.

    Returns
    -------
    ndarray of float32, same shape
        Whole numbers from 0 to 255.

    Raises
    ------
    ImageError
        If a value is no such number, or all are not-a-number.
    """
    away = tolerance(step)
    unknown = bool(np.isnan(values).all())
    labels = np.empty_like(values, dtype=np.float32)
    # Slice by slice: copies of a whole map in double precision would take the most memory of all.
    for place in range(values.shape[-1]):
        here = values[..., place]
        whole = np.round(here) if unknown else np.round(np.where(np.isnan(here), 0, here))
        with np.errstate(invalid="ignore"):
            fine = (whole >= 0) & (whole <= 255) & ~(np.abs(whole - here) > away)
        if not fine.all():
            raise ImageError(
                f"Expected whole numbers from 0 to 255 in {name}, found {here[~fine][0]:g}. "
                "Give a segmentation, not an image or a probability map."
            )
        labels[..., place] = whole
    labels += 0  # rounding makes −0 of values just below 0
    return labels


def _require_extension(path: Path) -> None:
    name = path.name.lower()
    if name.endswith(EXTENSIONS):
        return
    if is_folder(path):
        raise ImageError(folder_for_image(path))
    if is_missing(path):
        raise ImageError(f"There is no image {path}. Check the path and its extension.")
    tools = [tool for extensions, tool in _CONVERTERS.items() if name.endswith(extensions)]
    tool = tools[0] if tools else "dcm2niix (DICOM)"
    raise ImageError(
        f"Expected a NIfTI image (.nii or .nii.gz), found {path}. Convert it first, for example "
        f"with {tool}."
    )


def _check_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(n < 1 for n in shape):
        raise ImageError(f"Expected an image with voxels, found the shape {shape} in {path}.")
    trimmed = shape[:3] if all(n == 1 for n in shape[3:]) else shape
    if len(trimmed) > 3 and shape[0] == 1:
        raise ImageError(
            f"Expected one 3-D volume, found the shape {shape} in {path}: single slices over time, "
            "or a volume behind an axis of one. If it is one volume, remove its first axis."
        )
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
        kind = "color (RGB)" if dtype.fields else "complex" if dtype.kind == "c" else str(dtype)
        raise ImageError(
            f"Expected one real intensity a voxel, found {kind} data in {path}. Save the magnitude "
            "as an integer or float image."
        )


def _intensities(path: Path, values: np.ndarray, *, constant: bool) -> tuple[np.ndarray, list[str]]:
    """Return intensities that can be reckoned with, and what was wrong with them."""
    usable = (values >= -_LARGEST_VALUE) & (values <= _LARGEST_VALUE)
    if not constant:
        _check_signal(path, values, usable)
    lost, doubts = int(values.size - np.count_nonzero(usable)), []
    if lost:
        values = np.where(usable, values, np.float32(0))
        doubts = [
            f"{lost} voxels are not finite (NaN or Inf) or beyond {_LARGEST_VALUE:g}; they are "
            "taken as 0."
        ]
    if constant:
        return values, doubts
    values, hidden = _with_contrast(values)
    return values, [*doubts, *hidden]


def _with_contrast(values: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return intensities without the few that would hide all others, and what was found.

    Networks see an image in standard deviations from its mean. Where at most a thousandth of the
    voxels lies far beyond all others and makes most of the variance, these are taken as the
    brightest or darkest of the others.

    Parameters
    ----------
    values : ndarray of float32, shape (i, j, k)
        Finite intensities.
    """
    least, most = float(values.min()), float(values.max())
    if most - least < _SMALLEST_RANGE:
        return values, [
            f"all intensities lie within {most - least:.2g} of each other, which a network may not "
            "see. Multiply them by a constant."
        ]
    mean = float(values.mean(dtype=np.float64))
    apart = values.ravel(order="K") - np.float32(mean)
    most_of_it = _MOST_OF_IT * float(apart @ apart)
    # Nearly all images end here: even the few farthest voxels could not make that much.
    if _FEW * values.size * max(most - mean, mean - least) ** 2 < most_of_it:
        return values, []
    low = float(np.quantile(values, _FEW, method="higher"))
    high = float(np.quantile(values, 1 - _FEW, method="lower"))
    reach = _FAR_BEYOND * (high - low)
    far = (values < low - reach) | (values > high + reach)
    count = np.count_nonzero(far)
    beyond = float(np.square(values[far] - mean, dtype=np.float64).sum())
    if high == low or count > _FEW * values.size or beyond < most_of_it:
        return values, []
    return np.where(far, np.clip(values, low, high), values), [
        f"{count} voxels lie far beyond all others, up to {values[far].max():.3g}, and would hide "
        f"their contrast; they are taken as the nearest of the others ({low:.4g} to {high:.4g})."
    ]


def _check_signal(path: Path, data: np.ndarray, usable: np.ndarray) -> None:
    if not usable.any():
        raise ImageError(
            f"Expected intensities, found only NaN, Inf or values beyond {_LARGEST_VALUE:g} in "
            f"{path}. Scale the image, or make it anew."
        )
    low, high = data.min(where=usable, initial=np.inf), data.max(where=usable, initial=-np.inf)
    if low == high and not usable.all():
        raise ImageError(
            f"Expected intensities within {_LARGEST_VALUE:g}, found one value ({low:g}) and "
            f"{np.count_nonzero(~usable)} voxels of NaN, Inf or beyond in {path}. Scale the image, "
            "or make it anew."
        )
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

    Affine, sform, qform, their codes, and units are those of the image, bit for bit. None of the
    texts that the image's header holds is kept.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Level of each voxel.
    image : InputImage
        The image the labels belong to.
    description : str
        Text for the header's ``descrip`` (79 ASCII characters are kept).
    """
    affine = image.affine if image.unit_mm == 1 else image.header.get_best_affine()
    return labels_like(labels, affine, image.header, description)


def labels_like(labels: np.ndarray, affine: Any, header: Any, description: str = "") -> Any:
    """Return a label map with the grid of a header, and nothing else of it.

    Parameters
    ----------
    labels : ndarray of uint8, shape (i, j, k)
        Label of each voxel.
    affine : ndarray of float, shape (4, 4)
        Voxel index to world, in the unit of the header.
    header : nibabel header
        Header of an image of that shape.
    description : str
        Text for ``descrip``.

    Returns
    -------
    nibabel.Nifti1Image or nibabel.Nifti2Image
    """
    import nibabel as nib

    source = _nifti_header(header)
    two = isinstance(source, nib.Nifti2Header)
    clean = (nib.Nifti2Header if two else nib.Nifti1Header)(endianness=source.endianness)
    clean.set_data_dtype(np.uint8)
    clean.set_data_shape(labels.shape)
    _copy_grid(source, clean)
    clean.set_slope_inter(1, 0)
    clean["cal_min"], clean["cal_max"] = 0, max(1, int(labels.max(initial=0)))
    clean["descrip"] = description.encode("ascii", "replace")[:79]
    kind = nib.Nifti2Image if two else nib.Nifti1Image
    return kind(labels.astype(np.uint8), affine, clean)


def _nifti_header(header: Any) -> Any:
    """Return the header of an image of any format as one of NIfTI."""
    import nibabel as nib

    if isinstance(header, nib.Nifti1Header):  # NIfTI-2 and pairs too
        return header
    return nib.Nifti1Header.from_header(header, check=False)


def _copy_grid(source: Any, target: Any) -> None:
    """Copy where voxels lie; leave all that could be a text, also in numbers that nothing uses."""
    for name in _GRID_FIELDS:
        target[name] = source[name]
    target["pixdim"] = source["pixdim"]
    steps = target["pixdim"][5:]  # the first is of time
    steps[(steps != 0) & (steps != 1)] = 1
    used = source.get_best_affine()
    if source["sform_code"] or _alike(source.get_sform(), used):
        for name in _SFORM_FIELDS:
            target[name] = source[name]
    if source["qform_code"] or _qform_is(source, used):
        for name in _QFORM_FIELDS:
            target[name] = source[name]


def _qform_is(header: Any, affine: np.ndarray) -> bool:
    from nibabel.spatialimages import HeaderDataError

    try:
        return _alike(header.get_qform(), affine)
    except (ValueError, HeaderDataError):  # a quaternion that is none
        return False


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        size = float(np.linalg.norm(other[:3, :3], axis=0).min())
        return bool((np.abs(one - other) <= _ALIKE * size).all())
