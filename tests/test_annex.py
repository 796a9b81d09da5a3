"""Studies in datalad, git-annex or git LFS: what was not fetched is named, the store is kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import small_model
from fake_network import Loader
from model_zips import make_release, make_task, write_model
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.sct_rootlets import main as sct_rootlets
from sct_rootlets_task.errors import ModelError, RootletsError
from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.inference.fields import read_json
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.openvino_engine import read_weights
from sct_rootlets_task.inference.trainer_folder import find_trainer_folder
from sct_rootlets_task.io.images import load_image, load_labels
from sct_rootlets_task.io.untrusted import is_annexed, missing_content
from sct_rootlets_task.models.resolve import resolve
from sct_rootlets_task.qc.scene import require_mask
from test_sct_deepseg import PLAIN, levels_as_intensities
from volumes import write_image

KEY = "MD5E-s3799768--0f2e1d00"
OBJECTS = Path(".git/annex/objects")


def dangling(path: Path) -> None:
    path.symlink_to(Path("..") / OBJECTS / "a1" / KEY / KEY)


def dangling_chain(path: Path) -> None:
    dangling(path.with_name("first"))
    path.symlink_to("first")


def in_a_submodule(path: Path) -> None:
    path.symlink_to(f"../.git/modules/sub/annex/objects/a1/{KEY}/{KEY}")


def pointer(path: Path) -> None:
    path.write_text(f"/annex/objects/{KEY}\n")


def link_as_text(path: Path) -> None:
    path.write_text(f"../{OBJECTS}/a1/{KEY}/{KEY}")


def windows_link_as_text(path: Path) -> None:
    path.write_text(f"..\\.git\\annex\\objects\\a1\\{KEY}")


def lfs(path: Path) -> None:
    oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n"
    path.write_text(text)


def old_lfs(path: Path) -> None:
    path.write_text(f"version https://hawser.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n")


ABSENT: tuple[Callable[[Path], None], ...] = (
    *(dangling, dangling_chain, in_a_submodule, pointer, link_as_text, windows_link_as_text),
    *(lfs, old_lfs),
)
READERS: dict[str, Callable[[Path], object]] = {
    "image.nii.gz": load_image,
    "labels.nii": load_labels,
    "mask.nii.gz": require_mask,
    "plans.json": read_json,
    "checkpoint_final.pth": lambda path: Checkpoint(path).read(),
    "model.zip": lambda path: resolve(make_task(make_release("r1", "/none.zip")), path, path),
    "mirror.zip": lambda path: resolve(make_task(make_release("r1", str(path))), "r1", path.parent),
}


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("name", READERS)
def test_what_was_not_fetched_is_said_so_with_the_command_that_fetches_it(
    absent: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    path = tmp_path / "it's here" / name
    path.parent.mkdir()
    absent(path)
    with pytest.raises(RootletsError) as raised:
        READERS[name](path)
    assert "its content is not here" in str(raised.value)
    assert ("git lfs pull" if "lfs" in absent.__name__ else "datalad get '") in str(raised.value)


@pytest.mark.parametrize("lost", ["plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
@pytest.mark.parametrize("absent", [dangling, pointer])
def test_a_model_folder_that_was_not_fetched_is_said_so(
    lost: str, absent: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = small_model.write(tmp_path)
    (folder / lost).unlink()
    absent(folder / lost)
    with pytest.raises(ModelError, match="its content is not here"):
        read_weights(read_model_folder(find_trainer_folder(folder)))


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"annexed", b"see /annex/objects/x", b"version 1", b"/annex/objects/" * 10_000],
)
def test_what_is_no_pointer_is_read_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert missing_content(path) is None
    for other in ("no", "\0", "n" * 300, "x.json/x"):
        assert missing_content(tmp_path / other) is None
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    assert missing_content(tmp_path / "broken") is None
    assert missing_content(tmp_path / "circle") is None


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_model(tmp_path / "model")
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "RPI"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a study whose images are links into a store that nobody may write to."""
    folder = tmp_path / "study"
    (folder / OBJECTS).mkdir(parents=True)
    monkeypatch.chdir(folder)
    for subject in ("sub-01", "sub-02"):
        Path(subject).mkdir()
        keep(write_image(Path(subject) / f"{subject}_T2w.nii.gz", levels_as_intensities()))
    return folder


def keep(path: Path) -> None:
    """Move a file into the store, under the checksum of its content, as git-annex does."""
    key = OBJECTS / str(hash(nib.load(path).get_fdata().tobytes()))
    if key.exists():
        path.unlink()
    else:
        shutil.move(path, key)
        key.chmod(0o444)
    path.symlink_to(os.path.relpath(key, path.parent))


def store() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in OBJECTS.iterdir()}


def segment(model: Path, *words: object) -> int:
    command = ["rootlets", "-model", model, "-v", "0", *words]
    return sct_deepseg.main([str(word) for word in command], tasks=PLAIN, load=Loader())


def images() -> list[str]:
    return [f"sub-0{n}/sub-0{n}_T2w.nii.gz" for n in (1, 2)]


@pytest.mark.parametrize("absent", ABSENT)
@pytest.mark.parametrize("output", [(), ("-o", "results/")])
def test_an_image_that_was_not_fetched_fails_alone(
    absent: Callable[[Path], None],
    output: tuple[str, ...],
    study: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("sub-03").mkdir()
    absent(Path("sub-03/sub-03_T2w.nii.gz"))
    given = [images()[0], "sub-03/sub-03_T2w.nii.gz", images()[1]]
    assert segment(model, "-i", *given, *output) == 1
    assert len(list(study.rglob("*_rootlets.nii.gz"))) == 2
    assert "its content is not here" in capsys.readouterr().err


def test_a_link_to_nothing_at_all_is_still_refused_first(study: Path, model: Path) -> None:
    Path("x.nii.gz").symlink_to("nothing.nii.gz")
    assert segment(model, "-i", images()[0], "x.nii.gz") == 2
    assert not list(study.rglob("*_rootlets.nii.gz"))


@pytest.mark.parametrize("overwrite", [(), ("-overwrite", "1")])
def test_results_of_one_content_are_two_outputs_and_the_store_is_kept(
    study: Path, model: Path, overwrite: tuple[str, ...]
) -> None:
    assert segment(model, "-i", *images()) == 0
    results = [Path(name.replace("T2w", "T2w_rootlets")) for name in images()]
    for result in results:
        keep(result)
    assert results[0].samefile(results[1])
    before = store()
    assert segment(model, "-i", *images(), *overwrite) == 0
    assert store() == before
    assert not any(result.is_symlink() for result in results)
    assert study.is_dir()


@pytest.mark.usefixtures("study")
def test_an_annexed_output_of_the_content_of_an_input_is_no_input(model: Path) -> None:
    Path("old.nii.gz").symlink_to(str(Path(images()[0]).readlink())[len("../") :])
    before = store()
    assert segment(model, "-i", images()[0], "-o", "old.nii.gz", "-overwrite", "1") == 0
    assert store() == before
    assert not Path("old.nii.gz").is_symlink()
    assert segment(model, "-i", images()[0], "-o", images()[0], "-overwrite", "1") == 2
    assert is_annexed(Path(images()[0]))


@pytest.mark.usefixtures("study")
def test_an_output_whose_content_is_not_here_is_replaced_on_request_only(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dangling(Path("sub-01/out.nii.gz"))
    assert segment(model, "-i", images()[0], "-o", "sub-01/out.nii.gz") == 2
    assert "its content is not here" in capsys.readouterr().err
    words = ("-o", "sub-01/out.nii.gz", "-overwrite", "1")
    assert segment(model, "-i", images()[0], *words) == 0
    assert not (OBJECTS / "a1").exists()


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("option", ["-i", "-s", "-pmj", "-discs"])
def test_each_input_of_a_verb_that_was_not_fetched_is_said_so(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((9, 8, 24), np.uint8)
    labels[2:4, 2:4, 4:8] = 5
    given = {name: str(tmp_path / f"{name[1:]}.nii.gz") for name in ("-i", "-s", "-pmj", "-discs")}
    write_image(Path(given["-i"]), labels)
    write_image(Path(given["-s"]), labels)
    Path(given[option]).unlink(missing_ok=True)
    pointer(Path(given[option]))
    words = ["check", "-i", given["-i"], "-s", given["-s"], "-o", "out.json"]
    words += [option, given[option]] if option in ("-pmj", "-discs") else []
    assert sct_rootlets(words) == 1
    assert "its content is not here" in capsys.readouterr().err


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("spelling", ["{0}", "./{0}", "sub-02/../{0}", "{1}/{0}"])
def test_an_image_given_twice_is_segmented_once_and_said_so(
    spelling: str, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = spelling.format(images()[0], Path.cwd())
    assert segment(model, "-i", images()[0], images()[1], again) == 0
    assert [record.getMessage() for record in caplog.records if "once" in record.getMessage()] == [
        f"{Path(again)} was given more than once; it is segmented once."
    ]
    loader = Loader()
    words = ["rootlets", "-model", str(model), "-i", images()[0], again]
    assert sct_deepseg.main(words, tasks=PLAIN, load=loader) == 0
    assert len(loader.networks[0].seen) == 1


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("hard", [False, True])
def test_two_names_of_one_file_are_two_images(hard: bool, model: Path) -> None:
    write_image(Path("first.nii.gz"), levels_as_intensities())
    if hard:
        os.link("first.nii.gz", "second.nii.gz")
    else:
        Path("second.nii.gz").symlink_to("first.nii.gz")
    assert segment(model, "-i", "first.nii.gz", "second.nii.gz") == 0
    assert Path("first_rootlets.nii.gz").is_file()
    assert Path("second_rootlets.nii.gz").is_file()
