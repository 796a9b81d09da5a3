"""A network that is fed with images of any orientation, on their own grid."""

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
class OrientedNetwork:
    """A network with what is needed to feed it.

    Parameters
    ----------
    folder : ModelFolder
        The model.
    network : Network
        What runs it.
    orientation : str
        Axes that it wants, in SCT's letters.
    min_voxel_mm : float, optional
        Smaller voxels are averaged to this size first. A network of coarse voxels, to which
        nnU-Net's recipe interpolates without smoothing, then sees the same image whatever the
        resolution of the scan.
    edge_padding_mm : float
        How far the image is continued past its first and last slice along the body, by repeating
        them, for the network to see. What it finds there is dropped. A network that judges the
        last slices from half of the surroundings it is used to misses some of what they show.
    """

    folder: ModelFolder
    network: Network
    orientation: str
    min_voxel_mm: float | None = None
    edge_padding_mm: float = 0.0

    def classes(
        self, image: InputImage, near: np.ndarray | None = None, *, everywhere: bool = False
    ) -> np.ndarray:
        """Return the class of each voxel of an image.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.
        near : ndarray of bool, shape (i, j, k), optional
            Voxels that cover all there is to find; not together with `min_voxel_mm`.
        everywhere : bool
            Whether the network runs all of its tiles, also those that `near` does not need.

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
        if near is not None:
            near = way.forward(near).transpose(2, 1, 0)
        along = 2 - next(i for i, letter in enumerate(self.orientation) if letter in "IS")
        ends = _Ends.of(volume, along, round(self.edge_padding_mm / spacing[along]), near)
        asked = None if everywhere or near is None else ends.padded(near)
        predicted = self._predict(ends.continued(volume), spacing, asked)
        return np.ascontiguousarray(way.backward(ends.cropped(predicted).transpose(2, 1, 0)))

    def _predict(
        self, volume: np.ndarray, spacing: Sequence[float], near: np.ndarray | None
    ) -> np.ndarray:
        """Return the class of each voxel (z, y, x) of a volume."""
        if self.min_voxel_mm is None:
            predicted = self.network.predict(volume, spacing, near)
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
class _Ends:
    """The ends of a volume along an axis, and how far it is continued past them.

    Parameters
    ----------
    axis : int
        The axis.
    shape : tuple of int
        Shape of the volume.
    shown : slice
        From the first to the last slice that is continued.
    more : tuple of (int, int)
        Slices that are added before and after them.
    """

    axis: int
    shape: tuple[int, ...]
    shown: slice
    more: tuple[int, int]

    @classmethod
    def of(cls, volume: np.ndarray, axis: int, more: int, near: np.ndarray | None) -> _Ends:
        """Return the ends of what a volume shows, continued where something is to be found.

        Slices of zeros at an end show nothing. An end is continued by `more` slices if `near`, by
        default all of the volume, has a voxel within as many of it.
        """
        whole = slice(0, volume.shape[axis])
        shown = _extent(volume, axis) or whole
        wanted = shown if near is None else _extent(near, axis)
        if not more or wanted is None:
            return cls(axis, volume.shape, whole, (0, 0))
        before = more if wanted.start < shown.start + more else 0
        after = more if wanted.stop > shown.stop - more else 0
        return cls(axis, volume.shape, shown, (before, after))

    def continued(self, volume: np.ndarray) -> np.ndarray:
        """Return what a volume shows, with its first and last slice repeated."""
        grown = np.pad(volume[self._part(self.shown)], self._pads(), mode="edge")
        return np.ascontiguousarray(grown)

    def padded(self, mask: np.ndarray) -> np.ndarray:
        """Return a mask of the volume as one of the continued volume."""
        return np.pad(mask[self._part(self.shown)], self._pads())

    def cropped(self, predicted: np.ndarray) -> np.ndarray:
        """Return classes of the continued volume as ones of the volume."""
        result = np.zeros(self.shape, dtype=predicted.dtype)
        before, count = self.more[0], self.shown.stop - self.shown.start
        result[self._part(self.shown)] = predicted[self._part(slice(before, before + count))]
        return result

    def _part(self, slices: slice) -> tuple[slice, ...]:
        return tuple(slices if axis == self.axis else slice(None) for axis in range(3))

    def _pads(self) -> list[tuple[int, int]]:
        return [self.more if axis == self.axis else (0, 0) for axis in range(3)]


def _extent(array: np.ndarray, axis: int) -> slice | None:
    """Return the slices along an axis from the first to the last that are not zero throughout."""
    present = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))
    return slice(int(present[0]), int(present[-1]) + 1) if len(present) else None
