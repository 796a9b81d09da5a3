"""A network that takes images of any orientation and answers on their own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference.loading import Network
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.inference.resampling import averaged, resample_nearest
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.orientation import Reorientation


@dataclass(frozen=True, eq=False)
class ReorientedNetwork:
    """A network, and how images are prepared for it.

    Parameters
    ----------
    folder : ModelFolder
        The model.
    network : Network
        What runs it.
    orientation : str
        Axes that it wants, in SCT's letters.
    min_voxel_mm : float, optional
        Smaller voxels are averaged to this size first. nnU-Net's recipe does not smooth when it
        resamples to coarse voxels; averaging shows the network the same image at any resolution.
    edge_padding_mm : float
        How far the first and last slice along the body are repeated beyond the image. A network
        misses rootlets in the last slices, where it sees only half of the surroundings. What it
        finds in the padding is dropped.
    """

    folder: ModelFolder
    network: Network
    orientation: str
    min_voxel_mm: float | None = None
    edge_padding_mm: float = 0.0

    def classes(
        self, image: InputImage, roi_mask: np.ndarray | None = None, *, everywhere: bool = False
    ) -> np.ndarray:
        """Return the class of each voxel of an image.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.
        roi_mask : ndarray of bool, shape (i, j, k), optional
            Voxels that cover all there is to find; not together with `min_voxel_mm`.
        everywhere : bool
            Run all tiles, also those that `roi_mask` does not need.

        Returns
        -------
        ndarray of uint8, shape (i, j, k)

        Raises
        ------
        ModelError
            If the network returns something of another shape.
        """
        way = Reorientation.to_sct(image.affine, self.orientation)
        volume = way.forward(image.data).transpose(2, 1, 0)
        spacing = way.forward_spacing(image.spacing)[::-1]
        if roi_mask is not None:
            roi_mask = way.forward(roi_mask).transpose(2, 1, 0)
        along = 2 - next(i for i, letter in enumerate(self.orientation) if letter in "IS")
        slices = round(self.edge_padding_mm / spacing[along])
        edges = _EdgePadding.of(volume, along, slices, roi_mask)
        asked = None if everywhere or roi_mask is None else edges.padded_mask(roi_mask)
        predicted = self._predict(edges.padded(volume), spacing, asked)
        return np.ascontiguousarray(way.backward(edges.cropped(predicted).transpose(2, 1, 0)))

    def _predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None
    ) -> np.ndarray:
        """Return the class of each voxel (z, y, x) of a volume."""
        if self.min_voxel_mm is None:
            predicted = self.network.predict(volume, spacing, roi_mask)
        else:
            coarse, sizes = averaged(volume, spacing, self.min_voxel_mm)
            predicted = resample_nearest(self.network.predict(coarse, sizes), volume.shape)
        if predicted.shape != volume.shape:
            raise ModelError(
                f"Expected a prediction of shape {volume.shape}, found {predicted.shape}. Report "
                "this with the model's name."
            )
        return predicted


@dataclass(frozen=True, eq=False)
class _EdgePadding:
    """How a volume is padded at both ends of an axis.

    Parameters
    ----------
    axis : int
        The axis.
    shape : tuple of int
        Shape of the volume.
    shown : slice
        Slices that are kept, from the first to the last that is not empty.
    slices : tuple of (int, int)
        Copies of the first and of the last of them that are added.
    """

    axis: int
    shape: tuple[int, ...]
    shown: slice
    slices: tuple[int, int]

    @classmethod
    def of(
        cls, volume: np.ndarray, axis: int, slices: int, roi_mask: np.ndarray | None
    ) -> _EdgePadding:
        """Return the padding of a volume.

        Slices of zeros at an end are left out. An end is padded by `slices` if `roi_mask`, by
        default all of the volume, has a voxel within as many slices of it.
        """
        whole = slice(0, volume.shape[axis])
        shown = _extent(volume, axis) or whole
        wanted = shown if roi_mask is None else _extent(roi_mask, axis)
        if not slices or wanted is None:
            return cls(axis, volume.shape, whole, (0, 0))
        before = slices if wanted.start < shown.start + slices else 0
        after = slices if wanted.stop > shown.stop - slices else 0
        return cls(axis, volume.shape, shown, (before, after))

    def padded(self, volume: np.ndarray) -> np.ndarray:
        """Return the volume with its first and last slice repeated."""
        return np.ascontiguousarray(np.pad(volume[self._part(self.shown)], self._pads(), "edge"))

    def padded_mask(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of the volume as one of the padded volume, False in the padding."""
        return np.pad(mask[self._part(self.shown)], self._pads())

    def cropped(self, predicted: np.ndarray) -> np.ndarray:
        """Return classes of the padded volume as classes of the volume."""
        result = np.zeros(self.shape, dtype=predicted.dtype)
        before, count = self.slices[0], self.shown.stop - self.shown.start
        result[self._part(self.shown)] = predicted[self._part(slice(before, before + count))]
        return result

    def _part(self, slices: slice) -> tuple[slice, ...]:
        return tuple(slices if axis == self.axis else slice(None) for axis in range(3))

    def _pads(self) -> list[tuple[int, int]]:
        return [self.slices if axis == self.axis else (0, 0) for axis in range(3)]


def _extent(array: np.ndarray, axis: int) -> slice | None:
    """Return the slices along an axis from the first to the last that are not zero throughout."""
    present = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))
    return slice(int(present[0]), int(present[-1]) + 1) if len(present) else None
