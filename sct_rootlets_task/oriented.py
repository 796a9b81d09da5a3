"""A network that is fed with images of any orientation, on their own grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.images import InputImage
from sct_rootlets_task.network.loading import Network
from sct_rootlets_task.network.model_folder import ModelFolder
from sct_rootlets_task.network.resampling import averaged, spread
from sct_rootlets_task.orientation import Reorientation


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
    grain_mm : float, optional
        Smaller voxels are averaged to this size first. A network of coarse voxels, to which
        nnU-Net's recipe interpolates without smoothing, then sees the same image whatever the
        resolution of the scan.
    """

    folder: ModelFolder
    network: Network
    orientation: str
    grain_mm: float | None = None

    def classes(self, image: InputImage, near: np.ndarray | None = None) -> np.ndarray:
        """Return the class of each voxel of an image.

        Parameters
        ----------
        image : InputImage
            A checked 3-D image of any orientation.
        near : ndarray of bool, shape (i, j, k), optional
            Voxels that cover all there is to find; not together with `grain_mm`.

        Returns
        -------
        ndarray of uint8, shape (i, j, k)

        Raises
        ------
        ModelError
            If the network returns something of another shape.
        """
        way = Reorientation.to_sct(image.affine, self.orientation)
        volume = np.ascontiguousarray(way.forward(image.data).transpose(2, 1, 0))
        spacing = way.forward_spacing(image.spacing)[::-1]
        if near is not None:
            near = way.forward(near).transpose(2, 1, 0)
        if self.grain_mm is None:
            predicted = self.network.predict(volume, spacing, near)
        else:
            coarse, sizes = averaged(volume, spacing, self.grain_mm)
            predicted = spread(self.network.predict(coarse, sizes), volume.shape)
        if predicted.shape != volume.shape:
            raise ModelError(
                f"Expected a prediction of shape {volume.shape}, found {predicted.shape}. Report "
                "this with the model's name."
            )
        return np.ascontiguousarray(way.backward(predicted.transpose(2, 1, 0)))
