"""No command replaces a file that it reads, or one that is somebody else's."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from model_zips import write_model as write_model_folder
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.io.ownership import generated_by, is_ours
from sct_rootlets_task.io.sample import Sample
from sct_rootlets_task.levels.located_canal import LocatedLevels
from sct_rootlets_task.segmentation import locator
from test_map_commands import point_image
from test_relabel import located, phantom
from volumes import write_image

COMMANDS = {
    "check -o": ("check -i seg.nii.gz -s cord.nii.gz -pmj pmj.nii.gz -o OUT", ".json"),
    "levels -o": ("levels -i seg.nii.gz -s cord.nii.gz -pmj pmj.nii.gz -o OUT", ".nii.gz"),
    "levels -csv": ("levels -i seg.nii.gz -s cord.nii.gz -pmj pmj.nii.gz -csv OUT", ".csv"),
    "relabel -o": ("relabel -i seg.nii.gz -shift 0 -o OUT", ".nii.gz"),
    "evaluate -o": ("evaluate -i seg.nii.gz -gt ref.nii.gz -o OUT", ".json"),
    "evaluate -csv": ("evaluate -i seg.nii.gz -gt ref.nii.gz -csv OUT", ".csv"),
    "locate -o": ("locate -i image.nii.gz -o OUT", ".nii.gz"),
    "locate -csv": ("locate -i image.nii.gz -o new.nii.gz -csv OUT", ".csv"),
    "locate -line": ("locate -i image.nii.gz -o new.nii.gz -line OUT", ".csv"),
    "picture -o": ("picture -i image.nii.gz -s seg.nii.gz -o OUT", ".png"),
    "sample": ("sample OUT", ".nii.gz"),
    "sample -cord": ("sample new.nii.gz -cord OUT", ".nii.gz"),
}
"""A command for each way to name an output, and the ending of that output."""

INPUTS = {
    name: [
        word for word in shlex.split(command) if word.endswith(".nii.gz") and word != "new.nii.gz"
    ]
    for name, (command, _) in COMMANDS.items()
}
PAIRS = [(name, given) for name, inputs in INPUTS.items() for given in inputs]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with every kind of input, each with a sidecar."""
    folder = tmp_path_factory.mktemp("study")
    labels, affine = phantom().labels, phantom().affine
    pmj = point_image(50)
    arrays = {
        "seg": labels,
        "ref": labels,
        "cord": phantom().cord.astype(np.uint8),
        "pmj": pmj,
        "image": (labels + 10.0).astype(np.float32),
    }
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
        (folder / f"{name}.json").write_text('{"RepetitionTime": 1.5}')
    return folder


@pytest.fixture(autouse=True)
def _study(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in a copy of the study, and look at the end that nothing was changed in it."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(locator, "locate", lambda image: LocatedLevels(located()))
    tiny = Sample(np.ones((3, 3, 3), np.int16), np.ones((3, 3, 3), bool))
    monkeypatch.setattr("sct_rootlets_task.io.sample.load_sample", lambda: tiny)
    before = snapshot(tmp_path)
    yield
    after = snapshot(tmp_path)
    assert {path: after.get(path) for path in before} == before, "an input was changed"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def run(command: str, output: str | Path, *more: str) -> int:
    words = [str(output) if word == "OUT" else word for word in shlex.split(command)]
    return main([*words, *more])


def as_it_is(given: str) -> str:
    return given


def by_detour(given: str) -> str:
    Path("inner").mkdir()
    return f"inner/../{given}"


def by_link(given: str) -> str:
    Path("link.nii.gz").symlink_to(given)
    return "link.nii.gz"


def by_hard_link(given: str) -> str:
    os.link(given, "hard.nii.gz")
    return "hard.nii.gz"


def absolute(given: str) -> str:
    return str(Path(given).absolute())


SPELLINGS = (as_it_is, by_detour, by_link, by_hard_link, absolute)


@pytest.mark.parametrize(("name", "given"), PAIRS)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("more", [(), ("-overwrite", "1")])
def test_an_output_never_replaces_an_input_by_whatever_name(
    capsys: pytest.CaptureFixture[str],
    name: str,
    given: str,
    spelling: Callable[[str], str],
    more: tuple[str, ...],
) -> None:
    output = spelling(given)
    before = snapshot(Path())
    assert run(COMMANDS[name][0], output, *more) == 2
    assert "would replace an input" in capsys.readouterr().err
    assert snapshot(Path()) == before


@pytest.mark.parametrize(("name", "given"), [p for p in PAIRS if "-csv" not in p[0]])
def test_the_sidecar_of_an_input_is_kept_too(name: str, given: str) -> None:
    output = given.replace(".nii.gz", COMMANDS[name][1].replace(".nii.gz", ".nii"))
    if COMMANDS[name][1] in (".json", ".nii.gz"):
        assert run(COMMANDS[name][0], output, "-overwrite", "1") == 2


def write_foreign(path: Path) -> None:
    """Write a file of somebody else that has the right format."""
    if path.suffix == ".gz":
        write_image(path, np.zeros((3, 3, 3), np.uint8))
    elif path.suffix == ".json":
        path.write_text(json.dumps({"GeneratedBy": [{"Name": "fMRIPrep"}], "EchoTime": 0.1}))
    else:
        path.write_text("subject,age\nsub-01,33\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_foreign_file_is_replaced_only_when_asked(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    command, ending = COMMANDS[name]
    output = Path(f"other{ending}")
    write_foreign(output)
    before = snapshot(Path())
    assert run(command, output) == 2
    assert "comes from another program" in capsys.readouterr().err
    assert snapshot(Path()) == before
    assert run(command, output, "-overwrite", "1") == 0
    assert output.read_bytes() != before[str(output)]
    assert is_ours_for(name, output)


def is_ours_for(name: str, output: Path) -> bool:
    """Tell ownership by running the command again: what is its own it replaces without a word."""
    return run(COMMANDS[name][0], output) == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_an_own_result_is_replaced_unless_that_is_forbidden(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    command, ending = COMMANDS[name]
    output = Path(f"result{ending}")
    assert run(command, output) == 0
    assert run(command, output) == 0
    before = snapshot(Path())
    capsys.readouterr()
    assert run(command, output, "-overwrite", "0") == 2
    assert "-overwrite 0 was given" in capsys.readouterr().err
    assert snapshot(Path()) == before


def a_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def under_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


OBSTACLES = [
    (name, obstacle)
    for name, obstacle in product(COMMANDS, (a_folder, a_pipe, under_a_file))
    if (name, obstacle) != ("locate -o", a_folder)  # an existing folder takes the result
]


@pytest.mark.parametrize(("name", "obstacle"), OBSTACLES)
def test_what_is_no_place_for_a_file_is_found_out_first(
    name: str, obstacle: Callable[[Path], None]
) -> None:
    command, ending = COMMANDS[name]
    output = Path("place") / f"out{ending}"
    output.parent.mkdir()
    obstacle(output)
    before = sorted(Path().rglob("*"))
    assert run(command, output, "-overwrite", "1") == 2
    assert sorted(Path().rglob("*")) == before


def test_a_device_is_no_place_for_a_result() -> None:
    assert run(COMMANDS["levels -csv"][0], "/dev/null", "-overwrite", "1") == 2
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("given", ["seg.nii.gz", "cord.nii.gz"])
def test_the_parts_of_a_split_replace_no_input(given: str) -> None:
    Path(given).rename("out_left_dorsal.nii.gz")
    files = {"seg.nii.gz": "seg.nii.gz", "cord.nii.gz": "cord.nii.gz"}
    files[given] = "out_left_dorsal.nii.gz"
    before = snapshot(Path())
    words = ["split", "-i", files["seg.nii.gz"], "-s", files["cord.nii.gz"], "-o", "out"]
    assert main([*words, "-overwrite", "1"]) == 2
    assert snapshot(Path()) == before
    Path("out_left_dorsal.nii.gz").rename(given)


def test_two_outputs_of_one_command_are_two_files() -> None:
    words = "evaluate -i seg.nii.gz -gt ref.nii.gz -o same.json -csv ./same.json"
    assert main(shlex.split(words)) == 2
    assert not Path("same.json").exists()


# The command sct_deepseg.


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = write_model_folder(tmp_path / "model")
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    content = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "RPI"}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def segment(model: Path, *words: object) -> int:
    command = ["rootlets", "-model", model, "-v", "0", *words]
    return sct_deepseg.main([str(word) for word in command], load=Loader())


OURS = {
    "out.nii.gz": ("-o", "out.nii.gz"),
    "out.json": ("-o", "out.nii.gz"),
    "out.lut": ("-o", "out.nii.gz", "-lut", "fsleyes"),
    "out_itksnap.txt": ("-o", "out.nii.gz", "-lut", "itksnap"),
    "out.ctbl": ("-o", "out.nii.gz", "-lut", "slicer"),
    "p.png": ("-o", "out.nii.gz", "-preview", "p.png"),
}


@pytest.mark.parametrize("name", OURS)
def test_a_segmentation_replaces_no_foreign_file_of_any_kind(model: Path, name: str) -> None:
    write_foreign(Path(name))
    before = snapshot(Path())
    assert segment(model, "-i", "image.nii.gz", *OURS[name]) == 2
    assert snapshot(Path()) == before
    assert segment(model, "-i", "image.nii.gz", *OURS[name], "-overwrite", "1") == 0
    assert segment(model, "-i", "image.nii.gz", *OURS[name]) == 0, "now it is our own"
    before = snapshot(Path())
    Path("out.nii.gz").unlink()
    if name != "out.nii.gz":
        assert segment(model, "-i", "image.nii.gz", *OURS[name], "-overwrite", "0") == 2


def test_the_bids_sidecar_of_another_image_is_kept(model: Path) -> None:
    for name in ("b.nii.gz", "b.json"):
        write_foreign(Path(name))
    before = snapshot(Path())
    assert segment(model, "-i", "image.nii.gz", "-o", "b.nii") == 2
    assert snapshot(Path()) == before


def test_every_output_that_stands_in_the_way_of_a_batch_is_named(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        shutil.copy("image.nii.gz", f"{name}.nii.gz")
        write_foreign(Path(f"{name}_rootlets.nii.gz"))
    assert segment(model, "-i", "a.nii.gz", "b.nii.gz", "c.nii.gz") == 2
    error = capsys.readouterr().err
    assert all(f"{name}_rootlets.nii.gz" in error for name in "abc")
    assert "-overwrite 1 would replace them" in error


@pytest.mark.parametrize("more", [(), ("-overwrite", "1")])
def test_the_mask_for_the_report_is_no_output(model: Path, more: tuple[str, ...]) -> None:
    words = ("-i", "image.nii.gz", "-qc", "qc", "-qc-seg", "cord.nii.gz", "-o", "cord.nii.gz")
    assert segment(model, *words, *more) == 2


@pytest.mark.parametrize(
    ("maker", "ours"),
    [
        (generated_by("sct_deepseg rootlets -i a.nii.gz"), False),  # the checksum is missing
        ([{"Name": "spinalcordtoolbox: sct_deepseg rootlets -i a.nii.gz"}], True),
        ([{"Name": "spinalcordtoolbox: sct_deepseg -task seg_spinal_rootlets_t2w -i a"}], True),
        ([{"Name": "spinalcordtoolbox: sct_deepseg spinalcord -i a_rootlets.nii.gz"}], False),
        ([{"Name": "fMRIPrep"}], False),
        ([], False),
        ("sct_rootlets_task: x", False),
        ([{"Name": ["sct_rootlets_task:"]}], False),
    ],
)
def test_a_label_map_is_ours_if_its_sidecar_says_so(maker: object, ours: bool) -> None:
    write_image(Path("x.nii.gz"), np.zeros((3, 3, 3), np.uint8))
    Path("x.json").write_text(json.dumps({"GeneratedBy": maker}))
    assert is_ours(Path("x.nii.gz")) == ours


def a_report_of_a_check() -> None:
    assert run("check -i seg.nii.gz -o OUT", "real.json") == 0


def the_sidecar_of_another_map() -> None:
    assert run("relabel -i seg.nii.gz -shift 0 -o OUT", "other.nii.gz") == 0
    shutil.copy("other.json", "real.json")


@pytest.mark.parametrize("put", [a_report_of_a_check, the_sidecar_of_another_map])
def test_a_file_of_ours_beside_an_image_does_not_make_the_image_ours(
    put: Callable[[], None],
) -> None:
    shutil.copy("image.nii.gz", "real.nii.gz")
    put()
    before = snapshot(Path())
    assert run("relabel -i seg.nii.gz -shift 0 -o OUT", "real.nii.gz") == 2
    assert run("sample OUT", "real.nii.gz") == 2
    assert snapshot(Path()) == before


@pytest.mark.parametrize("without_sidecar", [False, True])
def test_a_label_map_that_was_corrected_by_hand_is_kept(
    capsys: pytest.CaptureFixture[str], without_sidecar: bool
) -> None:
    assert run("relabel -i seg.nii.gz -shift 0 -o OUT", "mine.nii.gz") == 0
    corrected = nib.load("mine.nii.gz")
    labels = np.asarray(corrected.dataobj)
    nib.save(
        nib.Nifti1Image(np.where(labels == 4, 5, labels), None, corrected.header), "mine.nii.gz"
    )
    if without_sidecar:
        Path("mine.json").unlink()
    before = snapshot(Path())
    assert run("relabel -i seg.nii.gz -shift 0 -o OUT", "mine.nii.gz") == 2
    assert "was edited since" in capsys.readouterr().err
    assert snapshot(Path()) == before
    assert run("relabel -i seg.nii.gz -shift 0 -o OUT", "mine.nii.gz", "-overwrite", "1") == 0


@pytest.mark.parametrize("output", ["dataset.nii.gz", "plans.nii", "fold_all/x.nii.gz"])
def test_a_result_never_replaces_a_file_of_its_model(model: Path, output: str) -> None:
    before = snapshot(model)
    code = segment(model, "-i", "image.nii.gz", "-o", model / output, "-overwrite", "1")
    assert code == (0 if output == "fold_all/x.nii.gz" else 2)
    assert {name: snapshot(model).get(name) for name in before} == before


def test_the_sidecar_of_an_image_behind_a_link_is_kept(model: Path) -> None:
    Path("linked.nii.gz").symlink_to("image.nii.gz")
    assert segment(model, "-i", "linked.nii.gz", "-o", "image.nii", "-overwrite", "1") == 2


@pytest.mark.parametrize(
    "text", ["2 C2 is thick in sub-03\n", "2 C2\n", "2 0.4 0.5 0.6 C3\n", "0 0 0 0 0 0 0\n", "C2\n"]
)
def test_notes_about_levels_are_no_color_table_of_ours(text: str) -> None:
    Path("x.lut").write_text(text)
    assert not is_ours(Path("x.lut"))


def test_a_file_that_others_keep_in_a_sticky_folder_is_found_out_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "out.csv").write_text("x")
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    words = shlex.split("evaluate -i seg.nii.gz -gt ref.nii.gz -overwrite 1 -csv")
    assert main([*words, str(folder / "out.csv")]) == 1
    assert (folder / "out.csv").read_text() == "x"


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"{", b"[" * 100_000, b"\xff" * 600])
@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.json", "x.png", "x.csv", "x.lut"])
def test_a_damaged_file_is_nobody_elses_loss(content: bytes, name: str) -> None:
    Path(name).write_bytes(content)
    assert not is_ours(Path(name))
    assert not is_ours(Path(name), ["level"])


def test_a_name_that_no_disk_takes_is_found_out_first(model: Path) -> None:
    assert segment(model, "-i", "image.nii.gz", "-o", "a" * 250) == 2
    assert not list(Path().glob("a*"))


def test_a_tilde_means_a_home_folder_or_itself(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("home").mkdir()
    Path("image.nii.gz").rename("~tmp_T2w.nii.gz")
    assert segment(model, "-i", "~tmp_T2w.nii.gz", "-o", "~/x.nii.gz") == 0
    assert segment(model, "-i", "~tmp_T2w.nii.gz", "-o", "~nobody_at_all/y.nii.gz") == 0
    assert {path.name for path in Path("home").iterdir()} == {"x.nii.gz", "x.json"}
    assert Path("~nobody_at_all", "y.nii.gz").is_file()
    assert not Path("~").exists()
    Path("~tmp_T2w.nii.gz").rename("image.nii.gz")
