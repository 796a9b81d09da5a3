"""Reorientation goes to the model's axes and comes back without loss."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.io.orientation import Reorientation, axcodes_from_sct
from volumes import affine_of

ALL_48 = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*axes)
]
ORIENTATIONS = st.sampled_from(ALL_48)


def test_there_are_48_orientations() -> None:
    assert len(set(ALL_48)) == 48


@given(source=ORIENTATIONS, target=ORIENTATIONS)
def test_forward_then_backward_is_the_identity(source: str, target: str) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    way = Reorientation.to_sct(affine_of(source), target)
    assert np.array_equal(way.backward(way.forward(array)), array)


@given(source=ORIENTATIONS, target=ORIENTATIONS)
def test_forward_agrees_with_nibabel(source: str, target: str) -> None:
    array, zooms = np.arange(2 * 3 * 4).reshape(2, 3, 4), (0.5, 0.75, 2.0)
    image = nib.Nifti1Image(array.astype(np.int16), affine_of(source, zooms))
    codes = axcodes_from_sct(target)
    turned = image.as_reoriented(
        nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
    )
    way = Reorientation.to_sct(image.affine, target)
    assert np.array_equal(way.forward(array), np.asarray(turned.dataobj))
    assert way.forward_spacing(zooms) == pytest.approx(turned.header.get_zooms())
    assert nib.aff2axcodes(turned.affine) == codes


def test_oblique_axes_are_assigned_to_the_nearest_world_axis() -> None:
    angle = np.deg2rad(25)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    way = Reorientation.to_sct(turn @ affine_of("PSR"), "LPI")
    assert way.forward(np.zeros((2, 3, 4))).shape == (4, 2, 3)


@pytest.mark.parametrize("letters", ["", "LP", "LPIS", "LLI", "lpi", "XYZ", "RAA"])
def test_letters_that_are_no_orientation_are_refused(letters: str) -> None:
    with pytest.raises(ModelError, match="image_orientation"):
        axcodes_from_sct(letters)
