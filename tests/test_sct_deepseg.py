"""``sct_deepseg`` of this package: both forms, every exit code, what it writes."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import types
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fake_network import FakeNetwork, Loader
from model_zips import write_model as write_model_folder
from rights import unprivileged
from sct_rootlets_task.cli import grammar, sct_deepseg
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.io.outputs import SIDECAR
from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc.listing import ROWS, read_rows
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.rootlets.postprocess import remove_specks
from sct_rootlets_task.tasks import TaskRegistry
from volumes import write_image

SHAPE = (9, 8, 24)


def levels_as_intensities() -> np.ndarray:
    """Return an image whose intensities are levels, in bars of 2×2×2, for the fake network."""
    data = np.full(SHAPE, 100, np.int16)
    for number, level in enumerate(range(1, 10)):
        data[2:4, 2:4, 2 * number + 2 : 2 * number + 4] = level
    return data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model folder of the classes lvl1 … lvl9."""
    folder = write_model_folder(tmp_path / "model")
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "RPI"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "sub-01_T2w.nii.gz", levels_as_intensities(), axcodes="PSR")


# The bars of the test image are no anatomy, which the hooks on the order of levels would mend.
PLAIN = TaskRegistry(replace(task, hooks=(remove_specks,)) for task in TASKS.values())


def run(*words: object, load: Loader | None = None) -> int:
    return sct_deepseg.main([str(word) for word in words], tasks=PLAIN, load=load or Loader())


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_an_image_becomes_a_level_map_beside_it(image: Path, model: Path) -> None:
    assert run("rootlets", "-i", image, "-model", model) == 0
    written = image.with_name("sub-01_T2w_rootlets.nii.gz")
    expected = np.where((levels_as_intensities() >= 2) & (levels_as_intensities() < 10), 1, 0)
    assert np.array_equal(labels_of(written), expected * levels_as_intensities())
    assert nib.load(written).header["descrip"].item().startswith(b"rootlets C2-T1 by")


def test_the_legacy_form_does_the_same(image: Path, model: Path, tmp_path: Path) -> None:
    new, old = tmp_path / "new.nii.gz", tmp_path / "old.nii.gz"
    assert run("rootlets", "-i", image, "-o", new, "-model", model) == 0
    words = ("-i", image, "-task", "rootlets", "-c", "t2", "-o", old, "-model", model)
    assert run(*words) == 0
    assert np.array_equal(labels_of(new), labels_of(old))


def test_the_legacy_task_never_writes_a_level_it_does_not_have(
    image: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.nii.gz"
    words = ("-task", "seg_spinal_rootlets_t2w", "-i", image, "-o", out, "-model", model)
    assert run(*words) == 0
    assert set(np.unique(labels_of(out))) == {0, *range(2, 9)}


def test_the_sidecar_says_what_was_done(image: Path, model: Path) -> None:
    assert run("rootlets", "-i", image, "-model", model, "-threads", 1) == 0
    sidecar = json.loads(image.with_name("sub-01_T2w_rootlets.json").read_text())
    (generated,) = sidecar["GeneratedBy"]
    assert set(generated) == {"Name", "Version", "CodeURL", "ModelURL"}
    assert "sct_deepseg rootlets -i sub-01_T2w.nii.gz" in generated["Name"]
    assert str(image.parent) not in generated["Name"], "paths may name people"
    assert sidecar["Task"] == "rootlets"
    assert sidecar["Model"]["BuiltIn"] is False
    assert sidecar["LevelVoxels"] == dict.fromkeys(
        ("C2", "C3", "C4", "C5", "C6", "C7", "C8", "T1"), 8
    )
    assert sidecar["PostProcessing"][0]["VoxelsChanged"] == 8, "class lvl1 is dropped"
    assert sidecar["Threads"] == 1


def keys_of(content: object, prefix: str = "") -> set[str]:
    """Return the keys of a sidecar as the documentation names them."""
    if isinstance(content, dict) and not prefix.endswith(FREE):
        return set().union(*(keys_of(v, f"{prefix}.{key}") for key, v in content.items()))
    return {prefix.lstrip(".")}


FREE = (".LevelVoxels", ".Seconds", ".SoftwareVersions", ".Variables")


def test_every_key_of_the_sidecar_is_declared_and_every_declared_key_is_written(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    monkeypatch.setenv("SCT_ROOTLETS_TILES", "auto")

    class Everything(FakeNetwork):
        def predict(
            self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
        ) -> np.ndarray:
            return np.full(volume.shape, min(4, max(self.known)), np.uint8)

    words = ["rootlets", "-i", str(image)]
    load = lambda folder, options: Everything(folder)  # noqa: E731
    assert sct_deepseg.main(words, tasks=PLAIN, load=load) == 0
    sidecar = json.loads(image.with_name("sub-01_T2w_rootlets.json").read_text())
    assert keys_of(sidecar) == set(SIDECAR)


def test_the_viewer_line_closes_the_output(
    image: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("rootlets", "-i", image, "-model", model)
    last = capsys.readouterr().out.strip().splitlines()[-1]
    out = image.with_name("sub-01_T2w_rootlets.nii.gz")
    assert last == f"fsleyes {image} -cm greyscale {out} -cm subcortical -a 70.0 &"


def test_silence_when_asked(image: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("rootlets", "-i", image, "-model", model, "-v", 0) == 0
    assert capfd.readouterr() == ("", "")


def test_several_images_share_one_model_and_keep_their_results(tmp_path: Path, model: Path) -> None:
    images = [
        write_image(
            tmp_path / f"{n}.nii", np.where(levels_as_intensities() == n, n, 100).astype("i2")
        )
        for n in (3, 5)
    ]
    load = Loader()
    assert run("rootlets", "-i", *images, "-o", tmp_path / "out", "-model", model, load=load) == 0
    folders = [network.folder.path for network in load.networks]
    assert len(folders) == len(set(folders))
    for n in (3, 5):
        written = labels_of(tmp_path / "out" / f"{n}_rootlets.nii.gz")
        assert set(np.unique(written)) == {0, n}


def test_one_bad_image_does_not_stop_the_others(
    tmp_path: Path, image: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = write_image(tmp_path / "flat.nii.gz", np.zeros(SHAPE, np.int16))
    assert run("rootlets", "-i", flat, image, "-model", model) == 1
    assert image.with_name("sub-01_T2w_rootlets.nii.gz").exists()
    assert not (tmp_path / "flat_rootlets.nii.gz").exists()
    error = capsys.readouterr().err
    assert "Failed: 1 of 2 images" in error
    assert str(flat) in error


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no closed mode")
def test_an_image_in_a_folder_that_may_not_be_read_does_not_stop_the_others(
    image: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("rootlets", "-i", image, "-model", model) == 0  # loads what others may not read
    with tempfile.TemporaryDirectory() as name:
        study = Path(name)
        study.chmod(0o777)
        shutil.copytree(model, study / model.name)
        closed = study / "closed"
        closed.mkdir()
        for path in (closed / "a.nii.gz", study / "b.nii.gz"):
            shutil.copy(image, path)
        closed.chmod(0)
        capsys.readouterr()
        with unprivileged():
            words = ("-i", closed / "a.nii.gz", study / "b.nii.gz", "-model", study / model.name)
            assert run("rootlets", *words, "-o", f"{study}/out/") == 1
        closed.chmod(0o755)
        assert (study / "out" / "b_rootlets.nii.gz").is_file()
        assert "a.nii.gz" in capsys.readouterr().err.partition("Failed: 1 of 2 images")[2]


def test_a_crash_on_one_image_names_it_and_does_not_stop_the_others(
    tmp_path: Path, image: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_image(tmp_path / "small.nii.gz", levels_as_intensities()[:, :, :9])

    class Fragile(FakeNetwork):
        def predict(
            self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
        ) -> np.ndarray:
            is_locator = "above" in self.folder.classes  # it sees a coarser image
            if volume.size < np.prod(SHAPE) and not is_locator:
                raise IndexError("a fault nobody foresaw")
            return super().predict(volume, spacing, roi_mask)

    def load(folder: ModelFolder, options: Options) -> FakeNetwork:
        return Fragile(folder)

    words = ["rootlets", "-i", str(small), str(image), "-model", str(model)]
    assert sct_deepseg.main(words, tasks=PLAIN, load=load) == 1
    error = capsys.readouterr().err
    assert f"IndexError: a fault nobody foresaw (while running: segmenting {small})" in error
    assert "please report it" in error
    assert "Traceback" not in error
    assert image.with_name("sub-01_T2w_rootlets.nii.gz").exists()


def test_an_image_without_rootlets_gives_an_empty_map_and_a_warning(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = np.full(SHAPE, 100, np.int16)
    data[0, 0, 0] = 50
    image = write_image(tmp_path / "lumbar.nii.gz", data)
    assert run("rootlets", "-i", image, "-model", model) == 0
    assert not labels_of(tmp_path / "lumbar_rootlets.nii.gz").any()
    sidecar = json.loads((tmp_path / "lumbar_rootlets.json").read_text())
    assert "no rootlets of the levels C2–T1" in sidecar["Warnings"][0]


@pytest.mark.parametrize(
    ("options", "voxels"), [((), 8 * 8 + 8), (("-raw",), 8 * 8 + 9), (("-remove-small", "9vox"), 0)]
)
def test_hooks_run_unless_the_raw_labels_are_wanted(
    tmp_path: Path, model: Path, options: tuple[str, ...], voxels: int
) -> None:
    data = levels_as_intensities()
    data[7, 7, 1] = 4  # one voxel: a speck
    data[6:8, 5:7, 20:22] = 9  # a bundle of its own
    image = write_image(tmp_path / "a.nii.gz", data)
    assert run("rootlets", "-i", image, "-model", model, *options) == 0
    assert np.count_nonzero(labels_of(tmp_path / "a_rootlets.nii.gz")) == voxels


def test_options_reach_the_network(image: Path, model: Path) -> None:
    load = Loader()
    words = ("rootlets", "-i", image, "-model", model, "-test-time-aug")
    run(*words, "-device", "cpu", "-threads", 3, "-v", 0, load=load)
    model_options, locator_options = load.options
    assert model_options == Options(device="cpu", threads=3, test_time_aug=True, progress=False)
    assert not locator_options.test_time_aug


def test_color_tables_are_written_on_request(image: Path, model: Path) -> None:
    run("rootlets", "-i", image, "-model", model, "-lut", "fsleyes", "itksnap", "slicer")
    stem = "sub-01_T2w_rootlets"
    for ending in (".lut", "_itksnap.txt", ".ctbl"):
        assert "T1" in image.with_name(stem + ending).read_text()


NO_TASK = "there is no task 'spinalcord' here"
WRONG: list[tuple[Sequence[str], str]] = [
    ((), grammar.NOTHING_ASKED["modern"]),
    (("rootlets",), grammar.NOTHING_ASKED["modern"]),
    (("-i", "IMAGE"), grammar.NOTHING_ASKED["legacy"]),
    (("-task", "rootlets"), grammar.NOTHING_ASKED["legacy"]),
    (("spinalcord", "-i", "IMAGE"), NO_TASK),
    (("-task", "spinalcord", "-i", "IMAGE"), NO_TASK),
    (("-install-task", "spinalcord"), NO_TASK),
    (("rootlets", "-i", "missing.nii.gz"), "does not exist: missing.nii.gz"),
    (("rootlets", "-i", "IMAGE", "-c", "t2"), "-c belongs to the form 'sct_deepseg -task TASK"),
    (("rootlets", "-list-tasks"), "-list-tasks belongs to the form 'sct_deepseg -task TASK"),
    (("rootlets", "-install-task", "rootlets"), "-install-task belongs to"),
    (("-task", "rootlets", "-i", "IMAGE", "-test-time-aug"), "'sct_deepseg TASK …' (SCT 7)"),
    (("-task", "rootlets", "-i", "IMAGE", "-qc-seg", "IMAGE"), "'sct_deepseg TASK …' (SCT 7)"),
    (("rootlets", "-i", "IMAGE", "-bogus"), "unrecognized arguments: -bogus"),
    (("rootlets", "-i", "IMAGE", "-larg", "1"), "unrecognized arguments: -larg"),
    (("rootlets", "-i", "IMAGE", "-largest", "2"), "invalid choice: 2"),
    (("rootlets", "-i", "IMAGE", "-thr", "0.5"), "-thr does not apply"),
    (("rootlets", "-i", "IMAGE", "-threads", "0"), "whole number from 1 to 1024"),
    (("rootlets", "-i", "IMAGE", "-remove-small", "5foo"), "'5foo'"),
    (("rootlets", "-i", "IMAGE", "IMAGE2", "-preview", "p.png"), "-preview names a folder"),
    (("rootlets", "-i", "IMAGE", "-o", "IMAGE"), "would replace an input image"),
    (("rootlets", "-i", "IMAGE", "-model", "r1999"), "r20250318"),
    (("-task", "rootlets", "-i", "IMAGE", "-c", "t1"), "'t1'"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_command_ends_with_code_2_and_says_why(
    image: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], message: str
) -> None:
    second = image.with_name("second.nii.gz")
    second.write_bytes(image.read_bytes())
    files = {"IMAGE": image, "IMAGE2": second}
    assert run(*[files.get(word, word) for word in words]) == 2
    output = capsys.readouterr()
    assert message in output.err.replace("\n", " ")
    assert output.out == ""
    assert sorted(image.parent.glob("*rootlets*")) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-h",), "seg_spinal_rootlets_t2w"),
        (("-task-details",), "r20240730"),
        (("-list-tasks",), "seg_spinal_rootlets_t2w"),
        (("rootlets", "-h"), "-custom-url"),
    ],
)
def test_help_ends_with_code_0(
    capsys: pytest.CaptureFixture[str], words: Sequence[str], message: str
) -> None:
    assert run(*words) == 0
    output = capsys.readouterr()
    assert message in output.out
    assert output.err == ""


def test_help_hides_what_does_not_apply(capsys: pytest.CaptureFixture[str]) -> None:
    run("rootlets", "-h")
    text = capsys.readouterr().out
    assert "-thr" not in text.replace("-threads", "")
    assert "-qc-plane" not in text


def test_offline_the_starter_stands_in_loudly(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    load = Loader()
    assert run("rootlets", "-i", image, load=load) == 0
    assert "NOT the published model" in capsys.readouterr().err
    sidecar = json.loads(image.with_name("sub-01_T2w_rootlets.json").read_text())
    assert sidecar["Model"]["Name"] == "starter"
    assert "NOT the published model" in sidecar["Notice"]
    assert len(load.networks) == 2, "the starter takes its levels from the locator"


def test_offline_a_release_asked_for_by_name_is_an_error(
    image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    assert run("rootlets", "-i", image, "-model", "r20250318") == 1
    error = capsys.readouterr().err
    assert "-custom-url" in error
    assert "-model starter" in error
    assert not image.with_name("sub-01_T2w_rootlets.nii.gz").exists()


def fake_sct(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Put a package in SCT's place and return the commands its launcher was given."""
    commands: list[list[str]] = []
    package = types.ModuleType("spinalcordtoolbox")
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    package.__path__ = []
    compat = types.ModuleType("spinalcordtoolbox.compat")
    launcher = types.ModuleType("spinalcordtoolbox.compat.launcher")
    launcher.main = lambda: commands.append(list(sys.argv)) or 7  # type: ignore[attr-defined]
    for module in (package, compat, launcher):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return commands


@pytest.mark.parametrize(
    "words",
    [
        ("spinalcord", "-i", "x.nii.gz"),
        ("-task", "spinalcord", "-i", "x"),
        ("-install-task", "spinalcord"),
        ("-h",),
        ("-task-details",),
        (),
    ],
)
def test_beside_sct_whatever_is_not_ours_goes_to_sct_unchanged(
    monkeypatch: pytest.MonkeyPatch, words: Sequence[str]
) -> None:
    commands = fake_sct(monkeypatch)
    before = list(sys.argv)
    assert run(*words) == 7, "the exit code is SCT's"
    assert commands == [["sct_deepseg", *words]]
    assert sys.argv == before


def test_beside_sct_our_tasks_stay_ours(
    monkeypatch: pytest.MonkeyPatch, image: Path, model: Path
) -> None:
    commands = fake_sct(monkeypatch)
    assert run("rootlets", "-i", image, "-model", model) == 0
    assert run("-task", "rootlets", "-i", image, "-model", model) == 0
    assert commands == []


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_own_help(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "-h") == 0
    assert TASKS[task].description in capsys.readouterr().out


def test_a_quality_report_is_added_to_on_request(image: Path, model: Path, tmp_path: Path) -> None:
    report = tmp_path / "qc"
    words = ("rootlets", "-i", image, "-model", model, "-qc", report, "-qc-subject", "sub-<01>")
    assert run(*words) == 0
    (row,) = read_rows(report / ROWS).values()
    assert row["subject"] == "sub-<01>"


def test_a_picture_of_the_result_is_drawn_on_request(
    image: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    picture = tmp_path / "pictures" / "sub-01.png"
    assert run("rootlets", "-i", image, "-model", model, "-preview", picture) == 0
    assert f"Created file: {picture}" in capsys.readouterr().out
    assert (
        "T1" in json.loads(image.with_name("sub-01_T2w_rootlets.json").read_text())["LevelVoxels"]
    )
    with Image.open(picture) as drawn:
        colors = {color[:3] for _, color in drawn.convert("RGB").getcolors(1 << 24)}
    assert {level_color(level) for level in range(2, 10)} <= colors, "the levels' own captions"


def test_the_legacy_form_draws_a_picture_too(image: Path, model: Path, tmp_path: Path) -> None:
    words = ("-task", "rootlets", "-i", image, "-model", model, "-preview", tmp_path / "p.png")
    assert run(*words) == 0
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_missing_mask_for_the_report_is_found_out_before_anything_runs(
    image: Path, model: Path
) -> None:
    load = Loader()
    words = ("rootlets", "-i", image, "-model", model, "-qc", "qc", "-qc-seg", "missing.nii.gz")
    assert run(*words, load=load) == 2
    assert load.networks == []


@pytest.mark.parametrize(
    ("package", "option"), [("jinja2", "-qc"), ("PIL", "-qc"), ("PIL", "-preview")]
)
def test_what_cannot_be_drawn_is_found_out_before_anything_runs(
    image: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    package: str,
    option: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    load = Loader()
    assert run("rootlets", "-i", image, "-model", model, option, "qc", load=load) == 1
    assert "pip install 'sct-rootlets-task[" in capsys.readouterr().err
    assert load.networks == []


@pytest.mark.parametrize("inside", [False, True])
def test_a_result_may_be_replaced_beside_the_model_that_it_was_made_with(
    inside: bool, image: Path, model: Path
) -> None:
    folder = model if inside else model.parent
    image = image.rename(folder / image.name)
    words = ("rootlets", "-i", image, "-model", folder, "-o", folder / "r.nii.gz")
    assert [run(*words), run(*words)] == [0, 0]


@pytest.mark.parametrize("name", ["plans.json", "dataset.json", "fold_all/debug.json"])
@pytest.mark.parametrize("given", [".", ".."])
def test_a_result_never_replaces_a_file_of_its_model(
    given: str, name: str, image: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "fold_all" / "debug.json").write_text("{}")
    before = (model / name).read_bytes()
    out = (model / name).with_suffix(".nii.gz")
    words = ("rootlets", "-i", image, "-model", model / given, "-o", out, "-overwrite", 1)
    assert run(*words) == 2
    assert (model / name).read_bytes() == before
    assert "would replace" in capsys.readouterr().err
