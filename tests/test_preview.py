"""The preview says what it shows: sides, places, sizes, levels, file and model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from sct_rootlets_task.qc import preview
from sct_rootlets_task.qc.preview import WIDTH, draw, fitted
from sct_rootlets_task.qc.render import scale_mm
from test_qc import phantom, write_case

INK = (221, 227, 234)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of all that is written into previews, in order."""
    texts: list[str] = []
    usual = preview._Canvas.write

    def write(ground: Any, place: Any, text: str, **words: Any) -> None:
        texts.append(text)
        usual(ground, place, text, **words)

    monkeypatch.setattr(preview._Canvas, "write", write)
    return texts


def turned(
    folder: Path, zooms: Sequence[float], degrees: float, levels: Sequence[int] = (2, 3, 5)
) -> tuple[Path, Path]:
    """Write the phantom with an affine that is turned about the right–left axis."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) * zooms
    affine[:3, 3] = (-20, 30, -40)
    paths = folder / "a.nii.gz", folder / "a_rootlets.nii.gz"
    for path, data in zip(paths, phantom(levels), strict=True):
        nib.save(nib.Nifti1Image(data, affine), path)
    return paths


def test_sides_scale_slices_levels_and_file_are_written(tmp_path: Path, written: list[str]) -> None:
    draw(*write_case(tmp_path), tmp_path / "p.png")
    assert written.count("R") == written.count("L") == 1 + 3, "coronal and three axial slices"
    assert written.count("A") == written.count("P") == 1
    assert sum(text.endswith("0 mm") for text in written) >= 2 + 3, "a scale bar in each view"
    assert "sub-01_T2w_rootlets.nii.gz" in written
    assert not [text for text in written if text.startswith("Model")]


@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("zooms", [(1, 1, 1), (0.6, 0.8, 2.5)])
def test_an_axial_slice_says_its_number_and_its_height_in_the_world(
    tmp_path: Path, written: list[str], zooms: Sequence[float], degrees: float
) -> None:
    image, segmentation = turned(tmp_path, zooms, degrees)
    draw(image, segmentation, tmp_path / "p.png")
    labels = nib.load(segmentation)
    data = np.asarray(labels.dataobj)
    for level in (2, 3, 5):
        z = int(np.argmax((data == level).sum(axis=(0, 1))))
        (text,) = [t for t in written if t.startswith(f"slice {z},")]
        x, y = (np.argwhere(data[:, :, z] == level).mean(axis=0)).tolist()
        height = float((labels.affine @ (x, y, z, 1))[2])
        assert float(text.split(",")[1].removesuffix(" mm")) == pytest.approx(height, abs=0.15)


@pytest.mark.parametrize("shift", [0, 30])
def test_all_axial_slices_are_named_in_one_way(
    tmp_path: Path, written: list[str], shift: int
) -> None:
    _, labels = phantom(range(2, 8))
    labels = np.roll(labels, shift, axis=2)
    draw(*write_case(tmp_path, labels, zooms=(1, 1, 1.5)), tmp_path / "p.png")
    assert len({text.startswith("slice ") for text in written if "." in text and "," in text}) == 1


@pytest.mark.parametrize(("content", "model"), [({"Name": "r20250318"}, "r20250318"), ("x", "")])
def test_the_model_is_named_where_the_sidecar_names_it(
    tmp_path: Path, written: list[str], content: object, model: str
) -> None:
    image, segmentation = write_case(tmp_path)
    segmentation.with_name("sub-01_T2w_rootlets.json").write_text(json.dumps({"Model": content}))
    draw(image, segmentation, tmp_path / "p.png")
    assert [t for t in written if t.startswith("Model")] == ([f"Model: {model}"] if model else [])


def _longest_line(view: np.ndarray) -> int:
    """Return the length of the longest run of ink in the rows of a picture."""
    ink = (view == INK).all(axis=2)
    return max(len(run) for row in ink for run in "".join(".#"[int(v)] for v in row).split("."))


@pytest.mark.parametrize("degrees", [0, 25])
@pytest.mark.parametrize("zooms", [(1, 1, 1), (0.6, 0.8, 2.5), (0.5, 2, 1)])
def test_the_scale_bar_is_as_long_as_it_says(
    tmp_path: Path, written: list[str], zooms: Sequence[float], degrees: float
) -> None:
    path = draw(*turned(tmp_path, zooms, degrees, (2,)), tmp_path / "p.png")
    with Image.open(path) as opened:
        sheet = np.asarray(opened.convert("RGB"))
    # The coronal view is the leftmost one; its level of nine slices tells how many pixels a mm has.
    below = sheet[100:, : sheet.shape[1] // 4]
    rows = np.flatnonzero((np.ptp(below, axis=2) > 90).any(axis=1))
    pixels_a_mm = (rows[-1] - rows[0] + 1) / (9 * zooms[2])
    of_coronal = written[written.index("Coronal") : written.index("Sagittal")]
    (said,) = (int(text.split()[0]) for text in of_coronal if text.endswith(" mm"))
    bar = _longest_line(below)
    assert bar / pixels_a_mm == pytest.approx(said, rel=0.06)


@pytest.mark.parametrize("levels", [(), (5,), (2, 3, 5), (20, 21, 22, 23, 24, 25)])
def test_a_preview_fits_a_page_and_its_letters_are_large(
    tmp_path: Path, written: list[str], levels: tuple[int, ...]
) -> None:
    path = draw(*write_case(tmp_path, phantom(levels)[1]), tmp_path / "p.png")
    with Image.open(path) as opened:
        assert opened.width <= WIDTH == 1100
        assert opened.height < 900
    assert ("No level was found." in written) == (not levels)


@pytest.mark.parametrize("count", [1, 2, 8, 16, 30])
def test_tiles_fit_into_their_place(count: int) -> None:
    for room in (300, 540, 900):
        columns, side = preview._grid(count, room)
        assert columns * (side + preview._GAP) - preview._GAP <= room
        assert side >= 24


NAMES = (
    "sub-01_T2w_rootlets.nii.gz",
    "sub-Ångström_T2w_rootlets.nii.gz",
    "sub-A\u030angstro\u0308m_T2w.nii.gz",
    "日本語_한국어_T2w.nii.gz",
    "абв_Ω_T2w.nii.gz",
    "😀.nii.gz",
    "x" * 240 + ".nii.gz",
    "名" * 80 + "_T2w.nii.gz",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fonts", [True, False], ids=["fonts", "no fonts"])
def test_a_name_is_shortened_and_shows_no_boxes(
    monkeypatch: pytest.MonkeyPatch, name: str, fonts: bool
) -> None:
    if not fonts:
        monkeypatch.setattr(preview, "_FONTS", ("no such font.ttf",))
    text, font = fitted(name, 20, 600)
    assert font.getlength(text) <= 600
    assert text.endswith("nii.gz")
    assert all(preview._has(font, letter) for letter in text)
    if not fonts:
        assert text.isascii()


def test_a_name_in_letters_the_font_has_is_left_as_it_is() -> None:
    assert fitted("sub-01_T2w.nii.gz", 20, 600)[0] == "sub-01_T2w.nii.gz"


def test_two_names_in_letters_no_font_has_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "_FONTS", ())
    assert fitted("日本", 20, 600)[0] != fitted("日木", 20, 600)[0]


def test_a_preview_of_a_strange_name_is_drawn(tmp_path: Path) -> None:
    image, segmentation = write_case(tmp_path, name="sub-Å_日本語_" + "long_" * 30)
    assert draw(image, segmentation, tmp_path / "p.png").stat().st_size > 5000


@pytest.mark.parametrize("width", [0.5, 3, 9, 32, 57.2, 143, 600, 9000])
def test_a_scale_bar_fits_into_its_picture(width: float) -> None:
    length = scale_mm(width)
    assert length <= width * 0.35
    assert length or width < 3
