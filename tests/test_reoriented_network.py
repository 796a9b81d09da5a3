"""A network gets an image in its own axes and resolution, and answers on the image's grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.segmentation.reoriented_network import ReorientedNetwork


@dataclass
class Brightness:
    """A network whose class is the rounded intensity."""

    seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = field(default_factory=list)
    missing: int = 0

    def predict(self, volume: np.ndarray, spacing: Any, roi_mask: Any = None) -> np.ndarray:
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
@pytest.mark.parametrize("min_voxel_mm", [None, 1.5])
def test_classes_come_back_on_the_grid_of_the_image(
    axcodes: str, min_voxel_mm: float | None
) -> None:
    given = image(axcodes, (0.5, 0.5, 0.5))
    network = Brightness()
    result = ReorientedNetwork(None, network, "LPI", min_voxel_mm).classes(given)
    assert (result == given.data).all()
    shape, spacing = network.seen[0]
    assert shape == ((18, 15, 12) if min_voxel_mm is None else (6, 5, 4))
    assert spacing == ((0.5,) * 3 if min_voxel_mm is None else (1.5,) * 3)


def test_a_prediction_of_another_shape_is_refused() -> None:
    network = ReorientedNetwork(None, Brightness(missing=1), "LPI")
    with pytest.raises(ModelError, match="shape"):
        network.classes(image("RAS", (1, 1, 1)))


def slices(axcodes: str, along: list[float]) -> InputImage:
    """An image of 2 × 2 voxels of 1 mm in cross-section, its slices so bright from foot to head."""
    canonical = np.ones((2, 2, 1), np.float32) * np.array(along, np.float32)
    whole = nib.Nifti1Image(canonical, np.eye(4))
    there = nib.orientations.ornt_transform(
        nib.io_orientation(np.eye(4)), nib.orientations.axcodes2ornt(axcodes)
    )
    turned = whole.as_reoriented(there)
    return InputImage("x.nii.gz", np.asarray(turned.dataobj), turned.affine, turned.header)


@dataclass
class Witness:
    """A network that finds everything, and remembers the slices and the mask it was given."""

    orientation: str
    along: list[float] = field(default_factory=list)
    near: list[bool] | None = None

    def predict(self, volume: np.ndarray, spacing: Any, roi_mask: Any = None) -> np.ndarray:
        axis = 2 - next(i for i, letter in enumerate(self.orientation) if letter in "IS")
        others = tuple(a for a in range(3) if a != axis)
        self.along = volume.max(axis=others).tolist()
        self.near = None if roi_mask is None else roi_mask.any(axis=others).tolist()
        return np.ones(volume.shape, np.uint8)


@pytest.mark.parametrize("orientation", ["LPI", "IRP", "RPS"])
@pytest.mark.parametrize("axcodes", ["RAS", "PIR"])
def test_the_network_sees_the_first_and_last_slice_again(axcodes: str, orientation: str) -> None:
    witness = Witness(orientation)
    network = ReorientedNetwork(None, witness, orientation, edge_padding_mm=2.0)
    given = slices(axcodes, [5, 6, 7])
    assert network.classes(given).tolist() == np.ones(given.data.shape).tolist()
    seen = [5, 5, 5, 6, 7, 7, 7]
    assert witness.along == (seen if "I" in orientation else seen[::-1])


def test_slices_of_zeros_are_no_end_and_hold_nothing() -> None:
    witness = Witness("LPI")
    given = slices("RAS", [0, 0, 5, 6, 0])
    result = ReorientedNetwork(None, witness, "LPI", edge_padding_mm=1.0).classes(given)
    assert witness.along == [5, 5, 6, 6]
    assert result[0, 0].tolist() == [0, 0, 1, 1, 0]


def test_only_the_end_near_which_something_may_be_is_continued() -> None:
    witness = Witness("LPI")
    network = ReorientedNetwork(None, witness, "LPI", edge_padding_mm=2.0)
    given = slices("RAS", [1, 2, 3, 4, 5, 6])
    near = np.zeros(given.data.shape, bool)
    near[..., 1:4] = True
    network.classes(given, near)
    assert witness.along == [1, 1, 1, 2, 3, 4, 5, 6]
    assert witness.near == [False, False, False, True, True, True, False, False]
    network.classes(given, near, everywhere=True)
    assert (len(witness.along), witness.near) == (8, None)


def test_without_a_word_the_image_is_given_as_it_is() -> None:
    witness = Witness("LPI")
    ReorientedNetwork(None, witness, "LPI").classes(slices("RAS", [0, 2, 3]))
    assert witness.along == [0, 2, 3]
