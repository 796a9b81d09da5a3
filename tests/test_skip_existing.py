"""``sct_deepseg -skip-existing``: what is left out, kept and made anew; results among images."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from test_sct_deepseg import image, levels_as_intensities, model, run
from volumes import write_image

__all__ = ["image", "model"]

FORMS = [("rootlets",), ("-task", "rootlets")]


class NoLoader(Loader):
    """Nothing may be loaded."""

    def __call__(self, *_: object) -> None:  # type: ignore[override]
        raise AssertionError("the model was loaded")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    data = levels_as_intensities()
    return [write_image(tmp_path / f"sub-0{n}_T2w.nii.gz", data) for n in (1, 2, 3)]


def result_of(image: Path) -> Path:
    return image.with_name(image.name.replace(".nii.gz", "_rootlets.nii.gz"))


def edit(path: Path) -> None:
    """Change a voxel, as a person would in a viewer."""
    loaded = nib.load(path)
    data = np.asarray(loaded.dataobj).copy()
    data[0, 0, 0] = 5
    nib.save(nib.Nifti1Image(data, loaded.affine), path)


@pytest.mark.parametrize("form", FORMS)
def test_only_what_is_missing_is_run(
    images: list[Path], model: Path, capsys: pytest.CaptureFixture[str], form: tuple[str, ...]
) -> None:
    assert run(*form, "-i", images[0], "-model", model) == 0
    before = result_of(images[0]).stat()
    words = (*form, "-i", *images, "-model", model, "-skip-existing", 1)
    assert run(*words) == 0
    assert "2 of 2 image(s) segmented" in (log := capsys.readouterr().err)
    assert ", 1 skipped" in log
    assert f"{images[0]}: the result {result_of(images[0])} is there; skipped." in log
    after = result_of(images[0]).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert all(result_of(one).exists() for one in images)


def test_where_nothing_is_to_be_done_no_model_is_looked_for(
    images: list[Path], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rootlets", "-i", *images, "-model", model) == 0
    words = ("rootlets", "-i", *images, "-model", tmp_path / "gone", "-skip-existing", 1)
    assert run(*words, "-qc", tmp_path / "qc", load=NoLoader()) == 0
    output = capsys.readouterr()
    assert "Nothing to do: all 3 image(s) have a result." in output.err
    assert "To see all images" not in output.out
    assert not (tmp_path / "qc").exists()


def test_without_it_results_are_made_anew(images: list[Path], model: Path) -> None:
    loads = Loader(), Loader()
    for load in loads:
        assert run("rootlets", "-i", images[0], "-model", model, load=load) == 0
    first, second = ([network.seen for network in load.networks] for load in loads)
    assert first == second
    assert any(first)


def test_a_result_that_a_person_edited_is_kept_and_named(
    images: list[Path], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rootlets", "-i", *images, "-model", model) == 0
    edit(result_of(images[1]))
    kept = result_of(images[1]).read_bytes()
    assert run("rootlets", "-i", *images, "-model", model, "-skip-existing", 1) == 0
    warning = f"WARNING: {images[1]}: the level map {result_of(images[1])} was edited"
    assert warning in capsys.readouterr().err
    assert result_of(images[1]).read_bytes() == kept


@pytest.mark.parametrize("left", [b"", b"half", "no map", "no sidecar and half"])
def test_what_a_killed_run_left_is_made_anew(
    images: list[Path], model: Path, left: bytes | str
) -> None:
    assert run("rootlets", "-i", *images, "-model", model) == 0
    label_map = result_of(images[0])
    whole, sidecar = label_map.read_bytes(), label_map.with_name("sub-01_T2w_rootlets.json")
    if left == "no map":
        label_map.unlink()
    else:
        label_map.write_bytes(whole[: len(whole) // 2] if left else b"")
    if left == "no sidecar and half":
        sidecar.unlink()
    assert run("rootlets", "-i", *images, "-model", model, "-skip-existing", 1) == 0
    assert np.array_equal(nib.load(label_map).dataobj, nib.load(result_of(images[1])).dataobj)
    assert json.loads(sidecar.read_text())["Output"]["Name"] == label_map.name


def test_a_damaged_result_is_not_replaced_where_that_is_forbidden(
    images: list[Path], model: Path
) -> None:
    result_of(images[0]).write_bytes(b"")
    words = ("rootlets", "-i", *images, "-model", model, "-skip-existing", 1, "-overwrite", 0)
    assert run(*words, load=NoLoader()) == 2
    assert result_of(images[0]).read_bytes() == b""


@pytest.mark.parametrize("content", [b"no image", None])
def test_what_others_made_is_kept(
    images: list[Path], model: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A manual level map has no sidecar; beside a damaged file stands somebody's own."""
    path = result_of(images[0])
    if content is None:
        write_image(path, levels_as_intensities())
        path.write_bytes(path.read_bytes()[:100])
        path.with_name("sub-01_T2w_rootlets.json").write_text('{"Author": "me"}')
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    assert run("rootlets", "-i", *images, "-model", model, "-skip-existing", 1) == 0
    assert path.read_bytes() == before
    assert "comes from another program" in capsys.readouterr().err


def test_the_result_of_another_image_is_no_reason_to_skip(
    images: list[Path], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.nii.gz"
    assert run("rootlets", "-i", images[0], "-o", out, "-model", model) == 0
    words = ("rootlets", "-i", images[1], "-o", out, "-model", model, "-skip-existing", 1)
    assert run(*words) == 0
    assert json.loads((tmp_path / "out.json").read_text())["Sources"] == [images[1].name]


def test_content_in_an_annex_that_was_not_fetched_is_kept(
    images: list[Path], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result_of(images[0]).symlink_to(".git/annex/objects/x/key.nii.gz")
    assert run("rootlets", "-i", *images, "-model", model, "-skip-existing", 1) == 0
    assert result_of(images[0]).is_symlink()
    assert "datalad get" in capsys.readouterr().err


# Results among the images


def test_level_maps_that_a_pattern_caught_are_left_out(
    images: list[Path], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rootlets", "-i", *images[:2], "-model", model) == 0
    edit(result_of(images[1]))
    caught = sorted(images[0].parent.glob("*.nii.gz"))
    assert len(caught) == 5
    assert run("rootlets", "-i", *caught, "-model", model, "-skip-existing", 1) == 0
    log = capsys.readouterr().err
    for one in images[:2]:
        assert f"{result_of(one)} is a result of segmentation, and no image" in log
    assert sorted(images[0].parent.glob("*_rootlets*.nii.gz")) == [result_of(x) for x in images]


def test_the_folder_of_results_is_one_though_a_single_image_is_left(
    images: list[Path], model: Path, tmp_path: Path
) -> None:
    assert run("rootlets", "-i", images[0], "-model", model) == 0
    words = ("rootlets", "-i", images[0], result_of(images[0]), "-o", tmp_path / "out")
    assert run(*words, "-model", model) == 0
    assert (tmp_path / "out" / result_of(images[0]).name).is_file()


def test_a_level_map_alone_is_no_image(
    images: list[Path], model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rootlets", "-i", images[0], "-model", model) == 0
    assert run("rootlets", "-i", result_of(images[0]), "-model", model, load=NoLoader()) == 2
    assert "which is a result of segmentation" in capsys.readouterr().err
