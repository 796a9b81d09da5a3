"""What a network is shown of an image, and how its classes come back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.orientation import obliqueness
from sct_rootlets_task.segmentation import view as module
from sct_rootlets_task.segmentation.padding import find_padding
from sct_rootlets_task.segmentation.view import View, along_world_axes, view_of
from test_orientation import ORIENTATIONS
from volumes import affine_of

SHAPE = (20, 18, 22)


def turned(axis: int, degrees: float) -> np.ndarray:
    """Return the rotation (3, 3) about a world axis: 0 is pitch, 1 roll, 2 yaw."""
    angle = np.deg2rad(degrees)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    result = np.eye(3)
    result[a, a] = result[b, b] = np.cos(angle)
    result[a, b], result[b, a] = -np.sin(angle), np.sin(angle)
    return result


def grid(
    rotation: np.ndarray, zooms: tuple[float, ...] = (2.0, 2.0, 2.0), axcodes: str = "RAS"
) -> np.ndarray:
    """Return the affine of a turned grid, with world 0 in the middle of `SHAPE`."""
    affine = np.eye(4)
    affine[:3, :3] = rotation @ affine_of(axcodes, zooms)[:3, :3]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    return affine


def world(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the world point of each voxel, shape (3, i, j, k)."""
    return np.tensordot(affine[:3, :3], np.indices(shape), 1) + affine[:3, 3, None, None, None]


def brightness(points: np.ndarray) -> np.ndarray:
    """Return intensities of world points: a ramp, with waves."""
    x, y, z = points
    return (500 + 5 * z + 3 * x - 2 * y + 50 * np.sin(y / 7)).astype(np.float32)


def classes_at(points: np.ndarray) -> np.ndarray:
    """Return classes of world points: blocks of 16 mm."""
    x, y, z = np.floor((points + 80) / 16).astype(int)
    return ((x + 3 * y + 7 * z) % 11).astype(np.uint8)


def image_of(affine: np.ndarray, data: np.ndarray | None = None) -> InputImage:
    data = brightness(world(affine, SHAPE)) if data is None else data
    nifti = nib.Nifti1Image(data, affine)
    return InputImage(Path("x.nii.gz"), data, affine, nifti.header)


def viewed(image: InputImage) -> View:
    return view_of(image, find_padding(image.data))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0, 7, 15, 30, 45, 60, 88, 90, -20, 140, 181])
def test_a_grid_is_oblique_by_the_angle_to_the_nearest_axis(axis: int, degrees: float) -> None:
    wanted = min(degrees % 90, 90 - degrees % 90)
    affine = grid(turned(axis, degrees), (0.5, 1.0, 3.0))
    assert obliqueness(affine) == pytest.approx(wanted, abs=1e-4)


@given(axcodes=ORIENTATIONS, degrees=st.floats(0, 44), axis=st.integers(0, 2))
def test_the_angle_does_not_depend_on_the_order_of_axes(
    axcodes: str, degrees: float, axis: int
) -> None:
    affine = grid(turned(axis, degrees), (0.7, 1.0, 4.0), axcodes)
    assert obliqueness(affine) == pytest.approx(degrees, abs=1e-4)


def test_the_angle_of_a_sheared_grid_is_that_of_its_most_slanting_axis() -> None:
    sheared = np.eye(4)
    sheared[2, 1] = np.tan(np.deg2rad(25))
    assert obliqueness(sheared) == pytest.approx(25)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [0, 5, -10, 14.9])
def test_a_grid_that_slants_little_is_shown_as_it_is(axis: int, degrees: float) -> None:
    image = image_of(grid(turned(axis, degrees)))
    view = viewed(image)
    assert view.image is image
    classes = classes_at(world(image.affine, SHAPE))
    assert view.to_source(classes) is classes


def steep(axis: int, degrees: float, other: float) -> np.ndarray:
    return turned(axis, degrees) @ turned((axis + 1) % 3, other)


@settings(max_examples=20, deadline=None)
@given(
    axis=st.integers(0, 2),
    degrees=st.sampled_from([16.0, 20.0, 30.0, 40.0, 45.0, 50.0, -25.0, -45.0]),
    other=st.floats(-15, 15),
    zooms=st.sampled_from([(2.0, 2.0, 2.0), (1.6, 2.4, 2.0), (2.0, 2.0, 5.0)]),
    axcodes=ORIENTATIONS,
    shear=st.floats(-0.2, 0.2),
)
def test_an_oblique_grid_is_shown_along_world_axes(
    axis: int, degrees: float, other: float, zooms: tuple[float, ...], axcodes: str, shear: float
) -> None:
    affine = grid(steep(axis, degrees, other), zooms, axcodes)
    affine[0, :3] += shear * affine[2, :3]
    image = image_of(affine)
    view = along_world_axes(image, None)
    assert obliqueness(view.image.affine) == 0
    seen, points = view.image.data, world(view.image.affine, view.image.data.shape)
    assert seen.dtype == np.float32
    inside = view.from_source(np.ones(SHAPE, bool))
    deep = view.from_source(interior(2))
    assert np.abs(seen - brightness(points))[deep].max() < 4, "what linear interpolation costs"
    assert (seen[~inside] <= np.percentile(image.data, 1)).mean() > 0.7, "but next to the image"
    assert inside.sum() * np.prod(view.image.spacing) == pytest.approx(
        np.prod(SHAPE) * abs(np.linalg.det(affine[:3, :3])), rel=0.04
    )


def interior(margin: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[(slice(margin, -margin),) * 3] = True
    return mask


@settings(max_examples=20, deadline=None)
@given(
    axis=st.integers(0, 2),
    degrees=st.sampled_from([16.0, 30.0, 45.0, -40.0]),
    other=st.floats(-45, 45),
    zooms=st.sampled_from([(2.0, 2.0, 2.0), (2.4, 2.0, 1.6), (2.0, 2.0, 5.0)]),
    axcodes=ORIENTATIONS,
)
def test_classes_come_back_to_an_oblique_grid_where_they_belong(
    axis: int, degrees: float, other: float, zooms: tuple[float, ...], axcodes: str
) -> None:
    image = image_of(grid(steep(axis, degrees, other), zooms, axcodes))
    view = along_world_axes(image, None)
    points = world(view.image.affine, view.image.data.shape)
    back = view.to_source(classes_at(points))
    assert (back.shape, back.dtype) == (SHAPE, np.uint8)
    assert (back == classes_at(world(image.affine, SHAPE))).mean() > 0.8, "but next to borders"
    assert view.to_source(np.ones(points.shape[1:], np.uint8)).all(), "every voxel is in view"
    assert set(np.unique(back)) <= set(range(11)), "no class is invented"


def test_thick_slices_are_in_view_to_their_edges() -> None:
    image = image_of(grid(turned(0, 30), (2.0, 2.0, 8.0)))
    view = along_world_axes(image, None)
    bright = view.from_source(np.ones(SHAPE, bool))
    assert bright.sum() * np.prod(view.image.spacing) == pytest.approx(
        32 * np.prod(SHAPE), rel=0.03
    )


@pytest.mark.parametrize("zoom", [0.2, 0.5, 1.0, 4.0])
def test_a_resampled_image_has_a_bounded_number_of_voxels(
    zoom: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VOXELS", 8_000)
    image = image_of(grid(turned(1, 40), (zoom, zoom, zoom)))
    view = along_world_axes(image, None)
    assert view.image.data.size < 1.2 * 8_000
    assert min(view.image.spacing) >= module.MIN_VOXEL_MM * 0.999
    assert view.to_source(np.ones(view.image.data.shape, np.uint8)).all()


@pytest.mark.parametrize("value", [-1000.0, 4095.0, 2.0])
@pytest.mark.parametrize("degrees", [0, 10])
def test_padding_is_not_shown(value: float, degrees: float) -> None:
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 900, SHAPE).astype(np.float32)
    widths = ((3, 5), (4, 4), (0, 7))
    affine = grid(turned(2, degrees), (0.9, 1.1, 2.0))
    view = viewed(image_of(affine, np.pad(small, widths, constant_values=value)))
    assert np.array_equal(view.image.data, small)
    assert np.allclose(view.image.affine[:3, 3], affine[:3, :3] @ [3, 4, 0] + affine[:3, 3])
    assert view.image.spacing == pytest.approx((0.9, 1.1, 2.0))
    back = view.to_source(np.ones(SHAPE, np.uint8))
    assert np.array_equal(back, np.pad(np.ones(SHAPE, np.uint8), widths))
    assert np.array_equal(view.from_source(back > 0), np.ones(SHAPE, bool))


@pytest.mark.parametrize("value", [-1000.0, 4095.0, 450.0])
@pytest.mark.parametrize("degrees", [0, 35])
def test_padding_that_cannot_be_cut_off_is_as_dark_as_tissue(value: float, degrees: float) -> None:
    rng = np.random.default_rng(0)
    data = rng.uniform(10, 900, SHAPE).astype(np.float32)
    j, k = np.indices(SHAPE)[1:]
    corner = j + k < 14
    data[corner] = value
    view = viewed(image_of(grid(turned(0, degrees)), data))
    assert 10 <= view.image.data.min() <= view.image.data.max() <= 900
    assert view.image.data[view.from_source(corner)].mean() < (20 if degrees == 0 else 100)
