"""Reading one NIfTI file: the header first, the voxels once what it declares is believable.

Every fault ends in an :class:`~sct_rootlets_task.errors.ImageError`. No more memory is taken than
the file can fill. Compressed files are read to their end, where the checksum is.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.untrusted import missing_content

MAX_VOXELS = 2**29
"""Most voxels an image may have: 2 GiB as float32, which is about what a laptop can work on."""

_DEFLATE_RATIO = 1032
_SURPLUS = 2**24
_FARTHEST_OFFSET = 2**28
_SKIPPED_AT_ONCE = 2**20
# Each member copies the rest of its chunk, so that small chunks keep many members quick.
_COMPRESSED_CHUNK = 2**14
_VOXELS_AT_ONCE = 2**18
_LONGEST_QUATERNION = 1.01
_GZIP_MAGIC = b"\x1f\x8b"
_REFUSED_LEVEL = 40
_NOTED_LEVEL = 30
_TIME_BITS = 0x38


class Stream:
    """The content of an uncompressed file, from its start to its end.

    Parameters
    ----------
    file : binary file
        Open at its start.
    most : int
        Bytes that it can hold at most.
    """

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self.most = most
        self.position = 0

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""
        parts = []
        while size > 0 and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
            self.position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes.

        Raises
        ------
        EOFError
            If there are fewer.
        """
        content = self.read(size)
        if len(content) < size:
            raise EOFError(f"the content ends after {self.position} bytes")
        return content

    def skip_to(self, position: int) -> None:
        """Go on to a place further on."""
        while self.position < position:
            self.read_exactly(min(position - self.position, _SKIPPED_AT_ONCE))

    def finish(self) -> tuple[str, ...]:
        """Check what lies behind the part that was read; return what a user should know."""
        return ()

    def _some(self, size: int) -> bytes:
        return self._file.read(size)


class GzipStream(Stream):
    """The content of a compressed file: of all its members, as ``gzip -t`` checks them.

    Zlib compares the checksum and the length at the end of each member.
    """

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file, size * _DEFLATE_RATIO)
        self._member = zlib.decompressobj(wbits=31)
        self._waiting = b""
        self._padded = False

    def _some(self, size: int) -> bytes:
        while not self._member.eof or self._next_member():
            waiting = self._waiting or self._file.read(_COMPRESSED_CHUNK)
            part = self._member.decompress(waiting, size)
            self._waiting = self._member.unconsumed_tail
            if part:
                return part
            if not waiting and not self._member.eof:
                raise EOFError("the compressed data end early")
        return b""

    def _next_member(self) -> bool:
        """Go on to the next member; return False at the end of the file."""
        rest = self._member.unused_data
        if len(rest) < len(_GZIP_MAGIC):
            rest += self._file.read(_COMPRESSED_CHUNK)
        if rest.startswith(_GZIP_MAGIC):
            self._member, self._waiting = zlib.decompressobj(wbits=31), rest
            return True
        self._padded |= bool(rest)
        while rest:
            if rest.strip(b"\0"):
                raise ValueError("something else follows the compressed data")
            rest = self._file.read(_COMPRESSED_CHUNK)
        return False

    def finish(self) -> tuple[str, ...]:
        """Read to the end, where the checksum is."""
        end = self.position + _SURPLUS
        while self.read(_COMPRESSED_CHUNK):
            if self.position > end:
                raise ValueError("the file holds much more than its header declares")
        return ("zeros follow the compressed data.",) if self._padded else ()


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """An open NIfTI file of which the header was read and repaired.

    Parameters
    ----------
    path : Path
        The file.
    header : nibabel.Nifti1Header or nibabel.Nifti2Header
        Header without extensions. Fields that nothing needs were repaired where they were broken.
    stream : Stream
        Its content, from behind the header on.
    warnings : tuple of str
        What was repaired.
    """

    path: Path
    header: Any
    stream: Stream
    warnings: tuple[str, ...] = ()

    @property
    def step(self) -> float:
        """Distance of two neighboring values of scaled integers; 0 for all others."""
        slope, _ = self.header.get_slope_inter()
        return abs(slope or 0.0) if self.header.get_data_dtype().kind in "iu" else 0.0

    def read_values(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the scaled values of all voxels, and what a user should know about the content.

        Returns
        -------
        values : ndarray of float32, shape of the header, Fortran order
            What nibabel reads, bit for bit; values beyond float32 are infinite.
        warnings : tuple of str

        Raises
        ------
        ImageError
            If the file is damaged, or declares more than it holds or than fits.
        """
        shape, dtype = self.header.get_data_shape(), self.header.get_data_dtype()
        count = math.prod(shape)
        self._check_declared(count, dtype)
        with reading(self.path):
            self.stream.skip_to(self.header.get_data_offset())
            values = np.empty(count, dtype=np.float32)
            for start in range(0, count, _VOXELS_AT_ONCE):
                stop = min(start + _VOXELS_AT_ONCE, count)
                raw = self.stream.read_exactly((stop - start) * dtype.itemsize)
                values[start:stop] = self._scaled(np.frombuffer(raw, dtype))
            return values.reshape(shape, order="F"), self.stream.finish()

    def _scaled(self, stored: np.ndarray) -> np.ndarray:
        from nibabel.volumeutils import apply_read_scaling

        return apply_read_scaling(stored, *self.header.get_slope_inter())

    def _check_declared(self, count: int, dtype: np.dtype[Any]) -> None:
        if count > MAX_VOXELS:
            raise ImageError(
                f"Expected at most {MAX_VOXELS / 1e6:.0f} million voxels, found "
                f"{count / 1e6:.0f} million in {self.path}. Crop it to the neck, or resample it."
            )
        declared = self.header.get_data_offset() + count * dtype.itemsize
        if declared > self.stream.most:
            raise damaged(
                self.path, f"{declared} bytes are declared, {self.stream.most} at most are there"
            )


@contextlib.contextmanager
def open_nifti(path: Path) -> Iterator[NiftiFile]:
    """Open a NIfTI file, compressed or not whatever its name says, and read its header.

    Parameters
    ----------
    path : Path
        A regular file with header and voxels.

    Yields
    ------
    NiftiFile

    Raises
    ------
    ImageError
        If there is no such file, it may not be read, or its header makes no image.
    """
    _require_file(path)
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(path.open("rb"))
            size = os.fstat(file.fileno()).st_size
            compressed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            stream = GzipStream(file, size) if compressed else Stream(file, size)
            header, warnings = _read_header(path, stream)
        if compressed != path.name.lower().endswith(".gz"):
            found = "compressed" if compressed else "not compressed"
            warnings.append(f"the file is {found}, against its name; it is read as it is.")
        yield NiftiFile(path, header, stream, tuple(warnings))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into an ImageError.

    Also keeps numpy from warning of values that overflow: they become infinite.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError, ImageDataError
    from nibabel.wrapstruct import WrapStructError

    faults = (
        *(OSError, EOFError, ValueError, ArithmeticError, LookupError, TypeError),
        *(struct.error, zlib.error),
        *(ImageFileError, HeaderDataError, HeaderTypeError, ImageDataError, WrapStructError),
    )
    try:
        with np.errstate(all="ignore"):
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"There is not enough memory to read {path}. Close other programs, or crop the image."
        ) from error
    except faults as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> ImageError:
    """Return the error for a file that cannot be read."""
    return ImageError(
        f"{path} cannot be read as a NIfTI image: it is damaged, cut short or of another format "
        f"({why}). Copy or convert it again."
    )


def _require_file(path: Path) -> None:
    if why := missing_content(path):
        raise ImageError(f"{path} cannot be read: {why}.")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ImageError(f"There is no image {path}. Check the path.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"There is no image {path!s} ({reason}). Check the path.") from error
    if stat.S_ISDIR(mode):
        raise ImageError(folder_for_image(path))
    if not stat.S_ISREG(mode):
        raise ImageError(
            f"Expected an image file, found a pipe or a device: {path}. Save it first."
        )
    if not os.access(path, os.R_OK):
        raise ImageError(f"{path} may not be read. Ask its owner for the permission.")


class _Notes:
    """What nibabel's checks of a header have to say."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def log(self, level: int, message: str) -> None:
        """Take a remark, as a logger does."""
        if level >= _NOTED_LEVEL and "SPM" not in message:
            self.texts.append(f"header: {message}.")


def _read_header(path: Path, stream: Stream) -> tuple[Any, list[str]]:
    """Return the header, and what was repaired in it."""
    import nibabel as nib

    kind, block = nib.Nifti1Header, stream.read(nib.Nifti1Header.sizeof_hdr)
    if not kind.may_contain_header(block):
        kind = nib.Nifti2Header
        block += stream.read(kind.sizeof_hdr - len(block))
        if not kind.may_contain_header(block):
            raise damaged(path, "it has no NIfTI header")
    header = kind(block, check=False)
    _check_layout(path, header, stream)
    warnings = [*mend_shape(header), *_mend_voxel_sizes(header)]
    notes = _Notes()
    header.check_fix(notes, error_level=_REFUSED_LEVEL)
    header.get_slope_inter()
    return header, [*warnings, *notes.texts, *mend_qform(path, header)]


def _check_layout(path: Path, header: Any, stream: Stream) -> None:
    """Refuse dimensions and a place of the voxels that no file has."""
    dimensions = header["dim"][0]
    if header["sizeof_hdr"] != header.sizeof_hdr:  # nibabel tells the byte order by the dimensions
        dimensions = dimensions.byteswap()
    if not 1 <= header["dim"][0] <= 7:
        raise damaged(path, f"expected 1 to 7 dimensions, found {dimensions}")
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    most = min(stream.most, _FARTHEST_OFFSET)
    if not least <= offset <= most:
        raise damaged(path, f"expected a vox_offset between {least} and {most}, found {offset:g}")


def _mend_voxel_sizes(header: Any) -> list[str]:
    """Take the voxel sizes of the sform where those of ``pixdim`` are none; nothing needs them."""
    sizes = np.asarray(header["pixdim"][1:4], dtype=float)
    norms = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    fine = np.isfinite(sizes) & (sizes > 0)
    if fine.all() or int(header["sform_code"]) not in range(1, 6) or not np.isfinite(norms).all():
        return []
    header["pixdim"][1:4] = norms
    return [f"header: pixdim {sizes.tolist()} is no voxel size; that of the sform is used."]


def one_volume(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of one voxel behind, or in front of, three others.

    Examples
    --------
    >>> one_volume((30, 20, 10, 1)), one_volume((1, 30, 20, 10)), one_volume((30, 20, 10, 5))
    ((30, 20, 10), (30, 20, 10), (30, 20, 10, 5))
    """
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    ahead = len(shape) - 3
    return shape[ahead:] if ahead > 0 and set(shape[:ahead]) == {1} else shape


def mend_shape(header: Any) -> list[str]:
    """Take a header of no volume as one of one volume, and leave out first axes of one voxel.

    Programs for batches of images leave such axes; matrix and voxel sizes are then those of the
    other axes. Single slices over time look alike but for their time step, and are left alone.

    Parameters
    ----------
    header : nibabel.Nifti1Header
        Changed in place.

    Returns
    -------
    list of str
        What was done.
    """
    sizes = [int(n) for n in header["dim"][1 : int(header["dim"][0]) + 1]]
    used = len(sizes)
    while used > 3 and sizes[used - 1] in (0, 1):
        used -= 1
    warnings = []
    if 0 in sizes[used:]:
        sizes[used:] = [1] * (len(sizes) - used)
        header["dim"][1 : len(sizes) + 1] = sizes
        warnings.append("header: dim declares no volume; the file is taken as one volume.")
    shape = one_volume(tuple(sizes))
    is_series = int(header["xyzt_units"]) & _TIME_BITS and float(header["pixdim"][4]) not in (0, 1)
    if sizes[0] == 1 and len(shape) == 3 and used > 3 and not (used == 4 and is_series):
        header.set_data_shape(shape)
        warnings.append(
            "the first axis has one voxel and is left out; the header's matrix and voxel sizes are "
            "taken for the axes that follow."
        )
    return warnings


def is_missing(path: Path) -> bool:
    """Tell whether nothing has this name, not even a link; False where one may not look."""
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        return isinstance(error, FileNotFoundError)
    return False


def folder_for_image(path: Path) -> str:
    """Return the message for a folder that was given as an image."""
    return (
        f"Expected an image file, found a folder: {path}. Give the NIfTI file in it; if it holds "
        "DICOM files, convert them first, for example with dcm2niix."
    )


def mend_qform(path: Path, header: Any) -> list[str]:
    """Shorten a quaternion that is too long by rounding; leave out a qform that is none.

    Parameters and result are those of :func:`mend_shape`; `path` is for messages.

    Raises
    ------
    ImageError
        If the qform is not usable and there is no sform.
    """
    if not int(header["qform_code"]):
        return []
    names = ("quatern_b", "quatern_c", "quatern_d")
    quaternion = np.array([float(header[name]) for name in names])
    length = float(np.linalg.norm(quaternion))
    offsets = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    is_placed = bool(np.isfinite(offsets).all())
    if is_placed and length**2 - 1 < float(header.quaternion_threshold):
        return []
    if is_placed and length <= _LONGEST_QUATERNION:
        for name, value in zip(names, quaternion / length, strict=True):
            header[name] = value
        return [
            f"header: the quaternion of the qform is longer than 1 ({length:.9g}); it is shortened."
        ]
    if not int(header["sform_code"]):
        raise ImageError(
            f"The qform of {path} is not usable (a quaternion {quaternion.tolist()} of length "
            f"{length:.4g}, offsets {offsets}). Repair it, or set the sform, first."
        )
    for name in (*names, "qoffset_x", "qoffset_y", "qoffset_z", "qform_code"):
        header[name] = 0
    return [f"header: the qform has a quaternion of length {length:.4g} and is left out."]
