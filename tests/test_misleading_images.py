"""Padding and slanting grids do not move levels; where a model sees them, a warning says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from fake_network import FakeNetwork
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.io.images import InputImage, check_image, load_image
from sct_rootlets_task.io.sample import write_sample
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.segmentation.locator import locate
from sct_rootlets_task.segmentation.segmenter import Segmentation, Segmenter, Settings
from test_level_strategy import _custom, _starter
from test_view import turned

TASK = TASKS["rootlets"]
CANAL, ROOTLET = 500.0, 250.0
LEVEL_MM, VOXEL_MM = 12.0, 2.0
Widths = tuple[tuple[int, int], ...]


class HeightLocator(FakeNetwork):
    """A locator that counts levels from the top of the canal, along the axis it is shown."""

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        super().predict(volume, spacing, roi_mask)
        canal = np.abs(volume - CANAL) < 100
        heights = np.arange(len(volume)) * spacing[0]
        top = heights[canal.any(axis=(1, 2))].max(initial=0.0)
        level = 2 + np.clip((top - heights) // LEVEL_MM, 0, 8).astype(np.uint8)
        return np.where(canal, level[:, None, None], 0).astype(np.uint8)


class Rootlets(FakeNetwork):
    """A model that finds rootlets by their intensity and remembers the range of what it saw."""

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        super().predict(volume, spacing, roi_mask)
        self.range = (float(volume.min()), float(volume.max()))
        return (np.abs(volume - ROOTLET) < 60).astype(np.uint8) * max(self.known - {8, 9})


def segment(image: InputImage, model: InstalledModel) -> tuple[Segmentation, dict[str, Any]]:
    networks: dict[str, Any] = {}

    def load(folder: ModelFolder, options: Options) -> FakeNetwork:
        name = "locator" if "above" in folder.classes else "main"
        networks[name] = (HeightLocator if name == "locator" else Rootlets)(folder)
        return networks[name]  # type: ignore[no-any-return]

    return Segmenter(TASK, model, Settings(), load=load).segment(image), networks


def scene(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return intensities at world points (3, …), and levels of the rootlets there.

    An upright canal of 16 × 16 mm, 96 mm high, with a level every 12 mm from C2 down, and rootlets
    beside it in the middle of each level, in a noisy background.
    """
    x, y, z = points
    noise = np.random.default_rng(0).uniform(0, 100, x.shape)
    canal = (abs(x) < 8) & (abs(y) < 8) & (abs(z) < 48)
    level = np.clip(2 + (48 - z) // LEVEL_MM, 0, 99)
    middle = abs((48 - z) % LEVEL_MM - LEVEL_MM / 2) < 3.5
    rootlet = (abs(abs(x) - 14) < 3) & (abs(y) < 5) & (abs(z) < 48) & middle
    data = np.where(canal, CANAL, np.where(rootlet, ROOTLET, noise))
    return data.astype(np.float32), np.where(rootlet, level, 0).astype(np.uint8)


def on_grid(rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scene on a turned grid: intensities, levels and affine."""
    affine = np.eye(4)
    affine[:3, :3] = rotation * VOXEL_MM
    shape = np.array([44, 44, 60])
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    points = np.tensordot(affine[:3, :3], np.indices(shape), 1) + affine[:3, 3, None, None, None]
    return (*scene(points), affine)


def image_of(data: np.ndarray, affine: np.ndarray) -> InputImage:
    return check_image(nib.Nifti1Image(data, affine), Path("x.nii.gz"))


ROTATIONS = {
    "pitch 20": turned(0, 20),
    "pitch -40": turned(0, -40),
    "roll 30": turned(1, 30),
    "roll 45": turned(1, 45),
    "yaw 40 and pitch 25": turned(2, 40) @ turned(0, 25),
    "all three": turned(2, -20) @ turned(0, 20) @ turned(1, 30),
}


@pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS)
def test_levels_on_an_oblique_grid_are_those_along_the_body(rotation: np.ndarray) -> None:
    data, levels, affine = on_grid(rotation)
    found, _ = segment(image_of(data, affine), _starter())
    assert found.labels.shape == data.shape
    inner = (levels > 0) & (found.labels > 0)
    assert inner.sum() > 0.5 * (levels > 0).sum()
    assert (found.labels == levels)[inner].mean() > 0.97
    assert not any("oblique" in text for text in found.warnings), "it was seen to"


@pytest.mark.parametrize("degrees", [0, 8, 14])
def test_a_grid_that_slants_little_is_given_to_the_networks_as_it_is(degrees: float) -> None:
    data, _, affine = on_grid(turned(0, degrees))
    _, networks = segment(image_of(data, affine), _starter())
    assert networks["locator"].seen[0][0] == data.shape[::-1]


def padded(data: np.ndarray, affine: np.ndarray, widths: Widths, value: object) -> InputImage:
    corner = affine.copy()
    corner[:3, 3] -= affine[:3, :3] @ [before for before, _ in widths]
    return image_of(np.pad(data, widths, constant_values=value), corner)


WIDTHS: Widths = ((4, 6), (5, 5), (8, 9))
BORDERS: list[tuple[Widths, object]] = [
    *[(WIDTHS, value) for value in (-1000, 4095, 250, (0, -1000), (-32768, 4095))],
    (((0, 0), (0, 0), (30, 0)), -1000),
    (((0, 0), (0, 1), (0, 0)), 4095),
]


@pytest.mark.parametrize("rotation", [np.eye(3), turned(1, 40)], ids=["upright", "oblique"])
@pytest.mark.parametrize(("widths", "value"), BORDERS)
def test_the_built_in_networks_see_an_image_without_its_padding(
    widths: Widths, value: object, rotation: np.ndarray
) -> None:
    data, _, affine = on_grid(rotation)
    found, networks = segment(padded(data, affine, widths, value), _starter())
    assert networks["main"].range[0] >= -1
    assert networks["main"].range[1] <= CANAL + 1
    plain, before = segment(image_of(data, affine), _starter())
    assert networks["locator"].seen == before["locator"].seen
    assert np.array_equal(found.labels, np.pad(plain.labels, widths))
    assert found.warnings == plain.warnings


@pytest.mark.parametrize("value", [-1000, 4095])
@pytest.mark.parametrize("rotation", [np.eye(3), turned(1, 40)], ids=["upright", "oblique"])
def test_a_published_model_sees_padding_and_a_warning_says_so(
    value: int, rotation: np.ndarray, tmp_path: Path
) -> None:
    data, _, affine = on_grid(rotation)
    image = padded(data, affine, WIDTHS, value)
    found, networks = segment(image, _custom(tmp_path))
    assert networks["main"].seen[0][0] == image.data.shape[::-1]
    assert value in networks["main"].range, "it is shown what SCT would show it"
    assert networks["locator"].seen[0][0] != image.data.shape[::-1]
    assert [f"value {value}," in text for text in found.warnings if "border" in text] == [True]


@pytest.mark.parametrize("tiles", ["auto", "all"])
@pytest.mark.parametrize("rotation", ROTATIONS.values(), ids=ROTATIONS)
def test_a_published_model_sees_a_slanting_grid_and_a_warning_says_so(
    rotation: np.ndarray, tiles: str, tmp_path: Path
) -> None:
    data, _, affine = on_grid(rotation)
    segmenter = Segmenter(
        TASK, _custom(tmp_path), Settings(tiles=tiles), load=lambda folder, _: Rootlets(folder)
    )
    found = segmenter.segment(image_of(data, affine))
    assert segmenter.network.seen[0][0] == data.shape[::-1]  # type: ignore[attr-defined]
    said = [text for text in found.warnings if "oblique by" in text]
    assert len(said) == 1
    assert "Look at the levels" in said[0]


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("border", [False, True])
def test_an_upright_image_on_zeros_comes_without_a_warning(
    by_name: bool, border: bool, tmp_path: Path
) -> None:
    data, _, affine = on_grid(np.eye(3))
    image = padded(data, affine, WIDTHS, 0) if border else image_of(data, affine)
    found, _ = segment(image, _custom(tmp_path) if by_name else _starter())
    assert not [text for text in found.warnings if "border" in text or "oblique" in text]


def with_bright_corner(image: InputImage, value: float) -> InputImage:
    i, j, _ = np.indices(image.data.shape)
    corner = i / image.data.shape[0] + j / image.data.shape[1] < 0.3
    return image_of(np.where(corner, np.float32(value), image.data), image.affine)


def test_a_border_as_bright_as_tissue_comes_with_a_warning() -> None:
    data, _, affine = on_grid(np.eye(3))
    found, _ = segment(with_bright_corner(image_of(data, affine), CANAL), _starter())
    assert any("of one bright value" in text for text in found.warnings)


@pytest.fixture(scope="module")
def neck(tmp_path_factory: pytest.TempPathFactory) -> InputImage:
    """The package's sample, every second voxel along each axis."""
    path = tmp_path_factory.mktemp("sample") / "neck.nii.gz"
    write_sample(path)
    image = load_image(path)
    affine = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    return image_of(np.ascontiguousarray(image.data[::2, ::2, ::2]), affine)


@pytest.fixture(scope="module")
def heights(neck: InputImage) -> dict[int, float]:
    return heights_of(neck)


def heights_of(image: InputImage) -> dict[int, float]:
    """Return the mean height in world mm of each level that is located."""
    labels = locate(image, Options(device="cpu", threads=1)).labels
    indices = np.argwhere(labels)
    z = indices @ image.affine[2, :3] + image.affine[2, 3]
    levels = labels[labels > 0]
    return {int(level): float(z[levels == level].mean()) for level in np.unique(levels)}


def resliced(image: InputImage, rotation: np.ndarray, fill: float) -> InputImage:
    """Return an image on a turned grid of 1.5 mm that holds all of it, as a tool writes it."""
    size, shape = 1.5, np.array(image.data.shape)
    center = image.affine[:3, :3] @ ((shape - 1) / 2) + image.affine[:3, 3]
    ends = np.array(np.meshgrid(*[(-n / 2, n / 2) for n in shape])).reshape(3, -1)
    span = np.ptp(rotation.T @ image.affine[:3, :3] @ ends, axis=1)
    wanted = np.ceil(span / size).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = rotation * size
    affine[:3, 3] = center - affine[:3, :3] @ ((wanted - 1) / 2)
    way = np.linalg.inv(image.affine) @ affine
    moved = affine_transform(
        image.data, way[:3, :3], way[:3, 3], output_shape=tuple(wanted), order=1, cval=fill
    )
    return image_of(moved, affine)


@pytest.mark.parametrize("value", [-1000, 4095])
def test_located_levels_stay_where_they_are_with_a_border(
    value: int, neck: InputImage, heights: dict[int, float]
) -> None:
    found = heights_of(padded(neck.data, neck.affine, ((20, 5), (15, 15), (0, 20)), value))
    assert found == pytest.approx(heights, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "fill"), [("pitch -40", 0), ("roll 45", -1000), ("yaw 40 and pitch 25", 4095)]
)
def test_located_levels_stay_where_they_are_on_a_turned_grid(
    name: str, fill: float, neck: InputImage, heights: dict[int, float]
) -> None:
    found = heights_of(resliced(neck, ROTATIONS[name], fill))
    assert found == pytest.approx(heights, abs=3.0)


def test_located_levels_beside_a_bright_border_come_with_a_warning(neck: InputImage) -> None:
    image = with_bright_corner(neck, float(np.percentile(neck.data, 99.5)))
    found = locate(image, Options(device="cpu", threads=1))
    assert found.levels
    assert any("of one bright value" in text for text in found.warnings)


@pytest.mark.data
@pytest.mark.parametrize(("name", "fill"), [("roll 30", -1000)])
def test_located_levels_of_a_real_neck_stay_where_they_are(
    name: str, fill: float, shared_data: Path
) -> None:
    whole = load_image(shared_data / "t2w" / "sub-errsm20_T2w.nii.gz")
    corner = whole.affine.copy()
    corner[:3, 3] += whole.affine[:3, 0] * 110
    image = image_of(np.ascontiguousarray(whole.data[110:290]), corner)
    found = heights_of(resliced(image, ROTATIONS[name], fill))
    assert found == pytest.approx(heights_of(image), abs=3.0)
