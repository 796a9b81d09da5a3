"""The same voxels in another order of axes are the same image; other grids are refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import inv_ornt_aff

import sct_rootlets_task
from sct_rootlets_task.api import LocatedCanal
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.io.orientation import Reorientation, on_grid
from sct_rootlets_task.qc.scene import require_mask
from sct_rootlets_task.segmentation import locator
from test_map_commands import disc_labels, point_image
from test_relabel import located, phantom

MAIN, OTHER = "as_is", "turned"
COMMANDS = (
    "check -i as_is/seg.nii.gz -s {}/cord.nii.gz -o {}.json",
    "check -i as_is/seg.nii.gz -pmj {}/pmj.nii.gz -discs {}/discs.nii.gz -o {}.json",
    "check -i as_is/seg.nii.gz -locator {}/image.nii.gz -o {}.json",
    "levels -i as_is/seg.nii.gz -s {}/cord.nii.gz -csv {}.csv -o {}.nii.gz",
    "split -i as_is/seg.nii.gz -s {}/cord.nii.gz -o {}",
    "evaluate -i as_is/shifted.nii.gz -gt {}/seg.nii.gz -csv {}.csv",
    "relabel -i as_is/shifted.nii.gz -discs as_is/discs.nii.gz -s {}/cord.nii.gz -o {}.nii.gz",
    "relabel -i as_is/shifted.nii.gz -locator {}/image.nii.gz -o {}.nii.gz",
    "picture -i as_is/image.nii.gz -s {}/seg.nii.gz -o {}.png",
)


def turned(image: nib.Nifti1Image, seed: int) -> nib.Nifti1Image:
    """Return an image with its axes in another order and direction, drawn at random."""
    chance = np.random.default_rng(seed)
    axes = np.roll(np.arange(3), 1 + seed % 2) if seed % 3 else np.array([2, 1, 0])
    way = np.stack((axes, chance.choice((-1, 1), 3)), axis=1)
    return image.as_reoriented(way)


def arrays() -> dict[str, np.ndarray]:
    labels = phantom().labels
    return {
        "seg": labels,
        "shifted": np.where(labels > 2, labels - 1, 0).astype(np.uint8),
        "cord": phantom().cord,
        "discs": disc_labels(),
        "pmj": point_image(1),
        "image": (labels + phantom().cord * 40.0 + 10).astype(np.float32),
    }


def locate_on(image: InputImage) -> SimpleNamespace:
    """Return the true levels of the canal, on the grid of an image."""
    found = on_grid(
        located(),
        phantom().affine,
        shape=image.data.shape,
        target=image.affine,
        expected="",
        advice="",
    )
    return SimpleNamespace(labels=np.asarray(found), warnings=("the canal is short",))


def write(folder: Path, seed: int) -> None:
    for place in (MAIN, OTHER):
        (folder / place).mkdir()
    for name, array in arrays().items():
        image = nib.Nifti1Image(array, phantom().affine)
        nib.save(image, folder / MAIN / f"{name}.nii.gz")
        nib.save(turned(image, seed), folder / OTHER / f"{name}.nii.gz")


def outcome(path: Path) -> object:
    """Return what a result says, without how it was made."""
    if path.name.endswith(".nii.gz"):
        image = nib.load(path)
        return image.affine.tolist(), image.shape, np.asarray(image.dataobj).tobytes()
    if path.suffix == ".json":
        content = json.loads(path.read_text(), parse_float=lambda text: round(float(text), 3))
        return {key: content[key] for key in content.keys() - {"GeneratedBy", "Output"}}
    return path.read_bytes()


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("command", COMMANDS)
def test_a_second_file_in_another_orientation_gives_the_same_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    seed: int,
) -> None:
    write(tmp_path, seed + COMMANDS.index(command))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locator, "locate", locate_on)
    results = []
    for place in (MAIN, OTHER):
        code = main(shlex.split(command.replace("{}", place)))
        files = sorted(path for path in tmp_path.glob(f"{place}*") if path.is_file())
        names = [path.name.removeprefix(place) for path in files]
        text = capsys.readouterr()
        said = (text.out + text.err).replace(OTHER, MAIN)
        results.append((code, said, names, [outcome(path) for path in files]))
    assert results[0] == results[1]
    assert results[0][2]


@pytest.mark.parametrize("seed", range(3))
def test_a_report_takes_levels_and_mask_in_another_orientation(tmp_path: Path, seed: int) -> None:
    write(tmp_path, seed)
    image, cord = tmp_path / MAIN / "image.nii.gz", tmp_path / OTHER / "cord.nii.gz"
    words = ["qc", "-i", str(image), "-s", f"{tmp_path / OTHER}/seg.nii.gz"]
    assert main([*words, "-qc-seg", str(cord), "-o", str(tmp_path / "qc")]) == 0
    require_mask(cord, image)


@pytest.mark.parametrize("seed", range(3))
def test_the_functions_take_images_in_another_orientation(seed: int) -> None:
    labels = nib.Nifti1Image(phantom().labels, phantom().affine)
    cord = nib.Nifti1Image(phantom().cord, phantom().affine)
    other = turned(cord, seed)
    for part, same in zip(
        sct_rootlets_task.split(labels, other).values(),
        sct_rootlets_task.split(labels, cord).values(),
        strict=True,
    ):
        assert np.array_equal(part.dataobj, same.dataobj)
        assert np.array_equal(part.affine, labels.affine)
    canal = nib.Nifti1Image(located(), phantom().affine)
    reports = [
        sct_rootlets_task.check(labels, cord=mask, locator=LocatedCanal(levels, details=None))
        for mask, levels in ((cord, canal), (other, turned(canal, seed)))
    ]
    assert reports[0].to_dict() == reports[1].to_dict()
    figures = sct_rootlets_task.evaluate(labels, turned(labels, seed))
    assert {figure.dice for figure in figures} == {1.0}


def any_affine(chance: np.random.Generator) -> np.ndarray:
    """Return voxels of any size and direction, often halfway between the world's axes."""
    from scipy.spatial.transform import Rotation

    angles = chance.choice((0, 45, 90, 180, 44.999, chance.uniform(0, 360)), 3)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] *= chance.uniform(0.3, 3, 3)
    affine[:3, 3] = chance.uniform(-200, 200, 3)
    return affine


@pytest.mark.parametrize("seed", range(40))
def test_values_stay_in_their_places_whatever_the_directions_and_the_rounding(seed: int) -> None:
    chance = np.random.default_rng(seed)
    target, shape = any_affine(chance), tuple(int(n) for n in chance.integers(2, 40, 3))
    values = chance.random(shape)
    way = np.stack((chance.permutation(3), chance.choice((-1, 1), 3)), axis=1)
    stored = Reorientation(way).forward(values)
    rounded = (target @ inv_ornt_aff(way, shape)).astype(np.float32)
    rounded[:3] += chance.uniform(-1e-4, 1e-4, (3, 4))
    found = on_grid(stored, rounded, shape=shape, target=target, expected="x", advice="y")
    assert np.array_equal(found, values)


def changed(
    affine: np.ndarray, *, shift: float = 0, size: float = 1, turn: float = 0
) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    result = affine.copy()
    rotation = Rotation.from_euler("x", turn, degrees=True).as_matrix()
    result[:3, :3] = rotation @ affine[:3, :3] * (1, size, 1)
    result[0, 3] += shift
    return result


DIFFERENT = {
    "a fifth of a mm": ({"shift": 0.2}, r"voxels up to 0\.2 mm apart"),
    "half a voxel": ({"shift": -0.5}, r"voxels up to 0\.5 mm apart"),
    "far away": ({"shift": 300}, r"up to 300\.0 mm apart"),
    "spacing": ({"size": 1.05}, r"voxels of 1 × 1\.05 × 1 mm instead of 1 × 1 × 1 mm"),
    "twice the spacing": ({"size": 2}, r"voxels of 1 × 2 × 1 mm instead"),
    "a slight angle": ({"turn": 2}, r"axes at an angle of 2\.0°"),
    "an angle": ({"turn": 40}, r"axes at an angle of 40\.0°"),
    "half a right angle": ({"turn": 45}, r"axes at an angle of 45\.0°"),
}


@pytest.mark.parametrize("what", DIFFERENT)
@pytest.mark.parametrize("seed", range(2))
def test_a_grid_that_differs_is_refused_with_the_difference(what: str, seed: int) -> None:
    change, message = DIFFERENT[what]
    labels = nib.Nifti1Image(phantom().labels, phantom().affine)
    moved = nib.Nifti1Image(phantom().cord, changed(phantom().affine, **change))
    for other in (moved, turned(moved, seed)) if "size" not in change else (moved,):
        with pytest.raises(ImageError, match=message):
            sct_rootlets_task.split(labels, other)


@pytest.mark.parametrize("seed", range(4))
def test_another_shape_is_refused_with_both(seed: int) -> None:
    labels = nib.Nifti1Image(phantom().labels, phantom().affine)
    cord = turned(nib.Nifti1Image(phantom().cord[1:], phantom().affine), seed)
    shape = phantom().labels.shape
    found = (shape[0] - 1, *shape[1:])
    with pytest.raises(ImageError) as refused:
        sct_rootlets_task.split(labels, cord)
    assert f"the shape {found} instead of {shape}" in str(refused.value)


@pytest.mark.parametrize("verb", ["check -o new.json", "relabel -o new.nii.gz"])
@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_the_locators_image_may_have_another_unit_and_its_doubts_are_told(
    verb: str,
    unit: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    write(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locator, "locate", locate_on)
    affine = phantom().affine.copy()
    affine[:3] *= {"meter": 1e-3, "micron": 1e3}[unit]
    image = nib.Nifti1Image(arrays()["image"], affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, "other.nii.gz")
    assert main(shlex.split(f"{verb} -i as_is/shifted.nii.gz -locator other.nii.gz")) == 0
    told = capsys.readouterr().err
    assert "other.nii.gz: the canal is short" in told
    assert f"other.nii.gz: the header is in {unit}s" in told
    report = sct_rootlets_task.check("as_is/shifted.nii.gz", locator="other.nii.gz")
    assert [one.shift for one in report.shifts] == [1]
    assert "the canal is short" in caplog.text


def test_an_image_that_the_locator_cannot_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    long = (phantom().cord * 5).astype(np.uint8)
    monkeypatch.setattr(locator, "locate", lambda image: SimpleNamespace(labels=long, warnings=()))
    assert main(shlex.split("check -i as_is/seg.nii.gz -locator as_is/image.nii.gz")) == 1
    assert "go on without it" in capsys.readouterr().err
