"""One rule for the values of all label files and masks."""

from __future__ import annotations

import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task
from sct_rootlets_task.api import LocatedCanal
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.io.images import load_labels
from sct_rootlets_task.io.label_values import WHOLE_TOLERANCE, inside_mask, step_of, tolerance
from sct_rootlets_task.levels.cord_mask import read_cord
from sct_rootlets_task.levels.landmarks import (
    disc_points,
    landmarks_from_images,
    pmj_point,
)
from sct_rootlets_task.qc.scene import load_mask, require_mask
from test_map_commands import disc_labels, point_image
from test_relabel import located, phantom


def save_scaled(path: Path, labels: np.ndarray, dtype: str) -> Path:
    """Write labels as floats into integers, of which nibabel chooses the scale."""
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(labels.astype(float), phantom().affine, header), path)
    return path


def save_copied(path: Path, labels: np.ndarray, dtype: str) -> Path:
    """Write what a scaled file holds as floats, without the scale."""
    image = nib.load(save_scaled(path, labels, dtype))
    values = np.asarray(image.dataobj).astype(np.float32)
    nib.save(nib.Nifti1Image(values, image.affine), path)
    return path


def save_on_nan(path: Path, labels: np.ndarray, dtype: str) -> Path:
    """Write labels as floats on a background that is not a number."""
    values = np.where(labels == 0, np.nan, labels).astype(dtype)
    nib.save(nib.Nifti1Image(values, phantom().affine), path)
    return path


WAYS = {
    "scaled u1": (save_scaled, "u1"),
    "scaled i1": (save_scaled, "i1"),
    "scaled i2": (save_scaled, "i2"),
    "scaled u2": (save_scaled, "u2"),
    "scaled i4": (save_scaled, "i4"),
    "a copy of scaled i2": (save_copied, "i2"),
    "a copy of scaled u2": (save_copied, "u2"),
    "NaN f4": (save_on_nan, "f4"),
    "NaN f8": (save_on_nan, "f8"),
}
FILES = {
    "seg": lambda: phantom().labels,
    "cord": lambda: phantom().cord,
    "discs": lambda: np.where(disc_labels() == 0, point_image(50), disc_labels()),
    "pmj": lambda: np.where(point_image(50) == 0, disc_labels(), point_image(50)),
}
COMMANDS = (
    "check -i {seg} -s {cord} -discs {discs} -o out.json",
    "check -i {seg} -pmj {pmj} -o out.json",
    "levels -i {seg} -s {cord} -pmj {pmj} -csv out.csv",
    "relabel -i {seg} -discs {discs} -s {cord} -o out.nii.gz",
    "split -i {seg} -s {cord} -o out",
    "evaluate -i {seg} -gt {seg} -csv out.csv",
    "picture -i plain/cord.nii.gz -s {seg} -o out.png",
)


def results(folder: Path) -> dict[str, bytes]:
    """Return what a command wrote, and remove it."""
    found = {}
    for path in sorted(folder.glob("out*")):
        if path.name.endswith(".nii.gz"):
            found[path.name] = np.asarray(nib.load(path).dataobj).tobytes()
        elif path.suffix != ".json":
            found[path.name] = path.read_bytes()
        path.unlink()
    return found


@pytest.mark.parametrize("way", WAYS)
def test_each_command_takes_label_files_of_any_storage_as_the_whole_numbers_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    save, dtype = WAYS[way]
    monkeypatch.chdir(tmp_path)
    for place in ("plain", "stored"):
        Path(place).mkdir()
    for name, labels in FILES.items():
        nib.save(nib.Nifti1Image(labels(), phantom().affine), f"plain/{name}.nii.gz")
        save(tmp_path / "stored" / f"{name}.nii.gz", labels(), dtype)
    for command in COMMANDS:
        found = []
        for place in ("plain", "stored"):
            names = {name: f"{place}/{name}.nii.gz" for name in FILES}
            assert main(shlex.split(command.format(**names))) == 0, command
            found.append(results(tmp_path))
        assert found[0] == found[1], command


@pytest.mark.parametrize("way", WAYS)
def test_the_functions_take_images_that_nibabel_has_yet_to_scale(tmp_path: Path, way: str) -> None:
    save, dtype = WAYS[way]
    names = {**FILES, "located": located}
    stored = {n: nib.load(save(tmp_path / f"{n}.nii.gz", f(), dtype)) for n, f in names.items()}
    plain = {n: nib.Nifti1Image(f(), phantom().affine) for n, f in names.items()}
    flags = []
    for some in (stored, plain):
        given = {n: i for n, i in some.items() if n not in ("cord", "located")}
        given["locator"] = LocatedCanal(some["located"], details=None)
        found = sct_rootlets_task.check(given.pop("seg"), **given).flags
        flags.append([(flag.code, flag.voxel, flag.level) for flag in found])
    assert flags[0] == flags[1]
    known = landmarks_from_images(stored["seg"], located=stored["located"])
    assert np.array_equal(known.located, located())


def save_raw(path: Path, raw: np.ndarray, slope: float) -> Path:
    image = nib.Nifti1Image(raw.astype(np.int16), np.eye(4))
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("slope", [0.003, 0.03, 0.1, 0.2, 0.25, 0.388, 0.43])
@pytest.mark.parametrize("seed", range(3))
def test_what_lies_within_a_step_of_the_file_is_whole(
    tmp_path: Path, slope: float, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    wanted = chance.integers(0, 30, (4, 5, 6))
    raw = np.floor(wanted / slope) + chance.integers(0, 2, wanted.shape)
    assert np.array_equal(load_labels(save_raw(tmp_path / "a.nii.gz", raw, slope)).data, wanted)


@pytest.mark.parametrize("slope", [0.003, 0.03, 0.1, 0.2, 0.25, 0.6, 0.8])
@pytest.mark.parametrize("above", [3.5, 17.5, 0.5])
def test_what_lies_farther_from_whole_numbers_is_refused(
    tmp_path: Path, slope: float, above: float
) -> None:
    raw = np.zeros((4, 5, 6))
    raw[1, 2, 3] = np.ceil(above / slope)
    found = raw.max() * slope
    if abs(found - round(found)) <= tolerance(slope):
        raw[1, 2, 3] = round(2 / slope)
        assert load_labels(save_raw(tmp_path / "a.nii.gz", raw, slope)).data.max() == 2
        return
    with pytest.raises(ImageError, match="whole numbers"):
        load_labels(save_raw(tmp_path / "a.nii.gz", raw, slope))


@pytest.mark.parametrize("step", [*np.linspace(0, 0.999, 25), 1 - 1e-9])
def test_a_value_in_the_middle_of_two_numbers_is_neither(step: float) -> None:
    assert WHOLE_TOLERANCE <= tolerance(step) < 0.5
    assert tolerance(step) >= min(step, 0.98) / 2


@pytest.mark.parametrize("value", [0.5, 2.5, 3.02, 49.9])
def test_a_value_that_is_no_label_is_refused_in_each_kind_of_file(value: float) -> None:
    labels = np.zeros((5, 5, 9), np.float32)
    labels[2, 2, 2], labels[2, 2, 6] = 4, value
    grid = nib.Nifti1Image(np.ones((5, 5, 9), np.uint8), np.eye(4))
    image = nib.Nifti1Image(labels, np.eye(4))
    for read in (
        lambda: sct_rootlets_task.check(image),
        lambda: sct_rootlets_task.evaluate(grid, image),
        lambda: landmarks_from_images(grid, discs=image),
        lambda: landmarks_from_images(grid, pmj=image),
        lambda: landmarks_from_images(grid, located=image),
    ):
        with pytest.raises(ImageError, match="whole numbers"):
            read()


def test_the_step_is_that_of_scaled_integers_alone(tmp_path: Path) -> None:
    scaled = nib.load(save_scaled(tmp_path / "a.nii.gz", phantom().labels, "u1"))
    assert step_of(scaled) == pytest.approx(9 / 255)
    assert step_of(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))) == 0
    assert load_labels(tmp_path / "a.nii.gz").step == pytest.approx(9 / 255)


SOFT = {
    "f4": lambda mask: mask.astype("f4"),
    "scaled to 8 bits": lambda mask: np.round(mask * 255) / 255,
    "NaN outside": lambda mask: np.where(mask < 0.01, np.nan, mask),
    "levels along the cord": lambda mask: np.where(mask > 0.5, 7.0, 0.0),
}


@pytest.mark.parametrize("kind", SOFT)
def test_what_is_inside_a_mask_is_the_same_for_all_commands(tmp_path: Path, kind: str) -> None:
    from scipy.ndimage import gaussian_filter

    mask = SOFT[kind](gaussian_filter(phantom().cord.astype(float), 1))
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(mask.astype(np.float32), phantom().affine), path)
    labels = phantom().labels
    nib.save(nib.Nifti1Image(labels, phantom().affine), tmp_path / "seg.nii.gz")
    require_mask(path, tmp_path / "seg.nii.gz")
    assert np.array_equal(load_mask(path).data, inside_mask(np.nan_to_num(mask)))
    cord = read_cord(mask, labels, phantom().affine, name="cord mask")
    assert len(cord.arcs) == np.count_nonzero(mask > 0.5)
    for word in ("-s", "-qc-seg"):
        command = "levels -i seg.nii.gz -csv o.csv" if word == "-s" else QC
        words = [str(tmp_path / part) if "." in part else part for part in shlex.split(command)]
        assert main([*words, word, str(path)]) == 0


QC = "qc -i seg.nii.gz -s seg.nii.gz -o report.d"


@pytest.mark.parametrize("value", [0, np.nan, 0.4])
def test_an_empty_mask_is_called_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    labels, empty = tmp_path / "seg.nii.gz", tmp_path / "none.nii.gz"
    nib.save(nib.Nifti1Image(phantom().labels, phantom().affine), labels)
    mask = np.full(phantom().labels.shape, value, np.float32)
    nib.save(nib.Nifti1Image(mask, phantom().affine), empty)
    output = ["-csv", str(tmp_path / "o.csv")]
    for verb, option in (
        ("check", "-s"),
        ("levels", "-s"),
        ("split", "-s"),
        *([] if value == 0.4 else [("check", "-pmj"), ("check", "-discs"), ("levels", "-pmj")]),
    ):
        more = {"levels": output, "split": ["-o", str(tmp_path / "o")]}.get(verb, [])
        assert main([verb, "-i", str(labels), option, str(empty), *more]) == 1
        said = capsys.readouterr().err
        assert "empty" in said, (verb, option)
        assert "none.nii.gz" in said
        assert "contrast" not in said
    assert not list(tmp_path.glob("o*"))


def test_one_label_on_a_background_of_nan_is_a_label() -> None:
    label = np.full((4, 4, 4), np.nan)
    label[1, 2, 3] = 50
    assert pmj_point(label, np.eye(4)) == pytest.approx([1, 2, 3])
    label[1, 2, 1], label[1, 2, 3] = 3, 4
    assert sorted(disc_points(label, np.eye(4))) == [3, 4]
