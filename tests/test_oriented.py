"""A network gets an image in its own axes and resolution, and answers on the image's grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.images import InputImage
from sct_rootlets_task.oriented import OrientedNetwork


@dataclass
class Brightness:
    """A network whose class is the rounded intensity."""

    seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=list)
    missing: int = 0

    def predict(self, volume: np.ndarray, spacing: Any, near: Any = None) -> np.ndarray:
        self.seen.append((volume.shape, tuple(np.round(spacing, 3))))
        return np.round(volume).astype(np.uint8)[self.missing :]


def image(axcodes: str, sizes: tuple[float, float, float]) -> InputImage:
    canonical = np.diag([*sizes, 1.0])
    blocks = np.kron(np.arange(120).reshape(4, 5, 6), np.ones((3, 3, 3)))[:12, :15, :18]
    whole = nib.Nifti1Image(blocks.astype(np.float32), canonical)
    there = nib.orientations.ornt_transform(
        nib.io_orientation(canonical), nib.orientations.axcodes2ornt(axcodes)
    )
    turned = whole.as_reoriented(there)
    return InputImage("x.nii.gz", np.asarray(turned.dataobj), turned.affine, turned.header)


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "PSR", "SAL"])
@pytest.mark.parametrize("grain", [None, 1.5])
def test_classes_come_back_on_the_grid_of_the_image(axcodes: str, grain: float | None) -> None:
    given = image(axcodes, (0.5, 0.5, 0.5))
    network = Brightness()
    result = OrientedNetwork(None, network, "LPI", grain).classes(given)
    assert (result == given.data).all()
    shape, spacing = network.seen[0]
    assert shape == ((18, 15, 12) if grain is None else (6, 5, 4))
    assert spacing == ((0.5,) * 3 if grain is None else (1.5,) * 3)


def test_a_prediction_of_another_shape_is_refused() -> None:
    network = OrientedNetwork(None, Brightness(missing=1), "LPI")
    with pytest.raises(ModelError, match="shape"):
        network.classes(image("RAS", (1, 1, 1)))
