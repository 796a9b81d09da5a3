"""``sct_rootlets``: its commands and exit codes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from model_zips import model_zip
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.sct_rootlets import main
from volumes import smooth_noise, write_image


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Install a custom model in the default release's place and return the archive."""
    archive = tmp_path / "model.zip"
    archive.write_bytes(model_zip())
    assert sct_deepseg.main(["rootlets", "-install", "-custom-url", str(archive)]) == 0
    return archive


def test_the_list_names_every_release_and_its_state(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("rootlets  r20250318 (default): installed, custom, from" in line for line in lines)
    assert "rootlets  starter: built in" in lines
    assert "seg_spinal_rootlets_t2w  r20240730 (default): not installed" in lines


def test_the_path_is_that_of_the_trainer_folder(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["models", "path"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "plans.json").is_file()


def test_an_intact_model_verifies_and_a_changed_one_does_not(
    installed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "verify"]) == 0
    capsys.readouterr()
    main(["models", "path"])
    checkpoint = next(Path(capsys.readouterr().out.strip()).glob("fold_*/*.pth"))
    checkpoint.write_bytes(checkpoint.read_bytes() + b"!")
    assert main(["models", "verify"]) == 1
    assert checkpoint.name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["models", "path"], 1, "sct_deepseg rootlets -install"),
        (["models", "verify", "-task", "nothing"], 2, "rootlets, seg_spinal_rootlets_t2w"),
        (["models", "path", "-model", "r1"], 2, "r20250318, starter"),
        (["sample", "out.txt"], 2, ".nii.gz or .nii"),
        (["nonsense"], 2, "invalid choice"),
        ([], 2, "COMMAND"),
        (["picture", "-i", "a.nii", "-s", "b.nii", "-o", "c.png"], 1, "no image a.nii"),
    ],
)
def test_errors_have_their_code_and_say_what_to_do(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    assert message in capsys.readouterr().err


def _segmentation(folder: Path, *, axcodes: str = "PSR") -> tuple[Path, Path]:
    labels = np.zeros((30, 40, 20), np.uint8)
    labels[14:17, 8:14, 5:8], labels[14:17, 20:26, 12:15] = 3, 2
    image = write_image(folder / "a.nii.gz", smooth_noise(labels.shape), axcodes="PSR")
    return image, write_image(folder / "a_seg.nii.gz", labels, axcodes=axcodes)


@pytest.mark.parametrize("empty", [False, True])
def test_a_picture_is_drawn_of_any_level_map(tmp_path: Path, empty: bool) -> None:
    from PIL import Image

    image, segmentation = _segmentation(tmp_path)
    if empty:
        seg = nib.load(segmentation)
        nib.save(nib.Nifti1Image(np.zeros(seg.shape, np.uint8), seg.affine), segmentation)
    words = ["picture", "-i", str(image), "-s", str(segmentation), "-o", str(tmp_path / "p.png")]
    assert main(words) == 0
    with Image.open(tmp_path / "p.png") as picture:
        colors = {color[:3] for _, color in picture.convert("RGB").getcolors(1 << 24)}
    is_blue = any(b > r + 40 and b > 120 for r, g, b in colors)
    assert is_blue != empty, "the blue of C2 shows where there is C2"


def test_a_picture_of_another_grid_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, segmentation = _segmentation(tmp_path, axcodes="RAS")
    words = ["picture", "-i", str(image), "-s", str(segmentation), "-o", str(tmp_path / "p.png")]
    assert main(words) == 1
    assert "one grid" in capsys.readouterr().err
    assert not (tmp_path / "p.png").exists()
