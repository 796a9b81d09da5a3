"""The plugin inside a small SCT: what it takes over, what it leaves alone, what comes out."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from fake_sct import OTHER_URL, PUBLISHED, TASK, write_sct
from model_zips import TRAINER, model_zip, write_zip
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.errors import (
    ArchiveError,
    DownloadError,
    ImageError,
    InstallError,
    RootletsError,
    UsageError,
)
from sct_rootlets_task.io.atomic import hash_file
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.rootlets.postprocess import remove_specks
from sct_rootlets_task.sct_plugin import import_hook, installation, plugin
from sct_rootlets_task.sct_plugin.task_tables import Entry, make_entries, merge
from sct_rootlets_task.tasks import Task, TaskRegistry
from test_sct_deepseg import levels_as_intensities
from volumes import write_image

# The bars of the test image are no anatomy, which the hooks on the order of levels would mend.
PLAIN = TaskRegistry(replace(task, hooks=(remove_specks,)) for task in TASKS.values())
MODEL = "model_seg_spinal_rootlets_nnunet"


def forget_sct() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "spinalcordtoolbox"]:
        del sys.modules[name]


class FakeSCT:
    """A small SCT in this process, with the plugin in it."""

    def __init__(self, form: str, load: Loader) -> None:
        self.form, self.load = form, load
        self.models = self.part("deepseg.models")
        self.active = plugin.register(self.models, tasks=PLAIN, load=load)

    @staticmethod
    def part(name: str) -> Any:
        return importlib.import_module(f"spinalcordtoolbox.{name}")

    @property
    def plugin(self) -> plugin.Plugin:
        registered = self.models._sct_rootlets_task
        assert isinstance(registered, plugin.Plugin)
        return registered

    def run(self, task: str, *words: object) -> None:
        """Run SCT's command in the form this SCT has."""
        main = self.part("scripts.sct_deepseg").main
        first = ["-task", task] if self.form == "6" else [task]
        main([*first, *map(str, words)])

    def install(self, task: str, *words: object) -> None:
        first = ["-install-task", task] if self.form == "6" else [task, "-install"]
        with pytest.raises(SystemExit) as stop:
            self.part("scripts.sct_deepseg").main([*first, *map(str, words)])
        assert stop.value.code == 0


Start = Callable[..., FakeSCT]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return a function that starts a small SCT with the plugin."""
    finders = [f for f in sys.meta_path if not isinstance(f, import_hook.Watcher)]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.syspath_prepend(str(tmp_path / "sct"))
    forget_sct()

    def start_sct(form: str = "7", load: Loader | None = None) -> FakeSCT:
        write_sct(tmp_path / "sct", form)
        importlib.invalidate_caches()
        return FakeSCT(form, load or Loader())

    yield start_sct
    forget_sct()


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    """Return the zip of a model of the classes lvl1 … lvl9."""
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "RPI"}
    extra = {f"{TRAINER}/dataset.json": json.dumps(dataset).encode()}
    return write_zip(tmp_path / "model.zip", model_zip(extra=extra, labels=labels))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "sub-01_T2w.nii.gz", levels_as_intensities(), axcodes="PSR")


def labels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def entries_by_name(models: ModuleType, tasks: Any = TASKS) -> dict[str, Entry]:
    return {entry.name: entry for entry in make_entries(tasks, models.TASKS, models.MODELS)}


@pytest.mark.parametrize("form", ["7", "6"])
def test_our_tasks_are_added_and_sct_s_own_words_stay(start: Start, form: str) -> None:
    models = start(form).models
    assert set(models.TASKS) == {*TASKS, "rootlets_starter", "other"}
    known = models.TASKS[TASK[form]]
    assert known["description"] == "SCT's rootlets"
    assert known["models"] == [MODEL]
    assert known["long_description"].startswith("SCT's long words. Run by sct_rootlets_task")
    assert models.MODELS[MODEL]["url"] == [PUBLISHED[form]]
    assert models.TASKS["other"]["long_description"] == "Another."


@pytest.mark.parametrize("form", ["7", "6"])
def test_every_task_has_a_model_folder_of_its_own(start: Start, form: str) -> None:
    models = start(form).models
    names = [task["models"][0] for task in models.TASKS.values()]
    assert len(names) == len(set(names))
    assert set(names) == set(models.MODELS)
    for name in names:
        assert models.MODELS[name]["framework"] == "nnunetv2"
        assert models.MODELS[name]["thr"] is None or name == "model_other"
        assert isinstance(models.MODELS[name]["url"], list)
        assert len(models.MODELS[name]["contrasts"]) == 1, "SCT 6.2 wants an image for each"


def test_a_newer_release_in_sct_is_not_replaced_by_ours() -> None:
    newer = {"url": ["https://example.invalid/newer.zip"]}
    tables = ({"rootlets": {"models": ["model_newer"]}}, {"model_newer": newer})
    entries = {entry.name: entry for entry in make_entries(TASKS, *tables)}
    assert entries["rootlets"].model == "model_newer"


def test_a_task_that_sct_runs_with_several_models_is_left_to_sct() -> None:
    tables = ({"rootlets": {"models": ["a", "b"]}}, {"a": {}, "b": {}})
    assert "rootlets" not in {entry.name for entry in make_entries(TASKS, *tables)}


def test_a_new_task_of_the_registry_needs_nothing_here(start: Start) -> None:
    models = start().models
    lumbar = replace(TASKS["rootlets"], name="lumbar", model_name="model_lumbar", fallback=None)
    entries = entries_by_name(models, {**TASKS, "lumbar": lumbar})
    assert entries["lumbar"].model == "model_lumbar"
    assert "lumbar_starter" not in entries


def test_tables_we_cannot_extend_stay_as_they_are() -> None:
    tasks: Any = {"rootlets": {"models": ["m"]}}  # no long_description
    models: Any = {"m": {}}
    entries = make_entries(TASKS, tasks, models)
    with pytest.raises(KeyError):
        merge(entries, tasks, models)
    assert (list(tasks), list(models)) == (["rootlets"], ["m"])


def test_a_second_registration_changes_nothing(start: Start) -> None:
    fake = start()
    before = {name: dict(task) for name, task in fake.models.TASKS.items()}
    install = fake.models.install_model
    assert plugin.register(fake.models)
    assert plugin.register(), "as an entry point calls it"
    assert before == fake.models.TASKS
    assert fake.models.install_model is install


@pytest.mark.usefixtures("start")
def test_an_sct_that_differs_is_left_as_it_is_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sct(tmp_path / "sct") / "deepseg" / "inference.py"
    path.write_text(path.read_text().replace("remove_small", "smallest"))
    models = FakeSCT.part("deepseg.models")
    before = (set(models.TASKS), models.install_model)
    assert plugin.register(models) is False
    assert (set(models.TASKS), models.install_model) == before
    assert "expected segment_non_ivadomed" in capsys.readouterr().err


@pytest.mark.parametrize("early", [True, False])
def test_inference_is_taken_over_whenever_it_is_imported(start: Start, early: bool) -> None:
    start()
    if early:
        forget_sct()
        FakeSCT.part("deepseg.inference")
        assert plugin.register(FakeSCT.part("deepseg.models"))
    assert hasattr(FakeSCT.part("deepseg.inference").segment_non_ivadomed, "__wrapped__")


@pytest.mark.parametrize("form", ["7", "6"])
def test_another_task_takes_its_old_way_untouched(
    start: Start, image: Path, form: str, tmp_path: Path
) -> None:
    fake = start(form)
    fake.models.FETCHES = True
    fake.run("other", "-i", image, "-thr", "0.5", "-largest", 1, "-qc", tmp_path / "qc")
    assert fake.models.CALLS == [("model_other", None)]
    (call,) = FakeSCT.part("deepseg.inference").CALLS
    assert call["path_model"] == fake.models.folder("model_other")
    assert (call["threshold"], call["keep_largest"], call["remove_small"]) == (0.5, 1, None)
    assert (image.parent / "sub-01_T2w_own.nii.gz").exists()
    page = json.loads((tmp_path / "qc" / "pages.jsonl").read_text())
    assert page["layout"] == "cord"
    assert fake.load.networks == []


@pytest.mark.parametrize("form", ["7", "6"])
def test_the_labels_are_those_of_the_standalone_command(
    start: Start, image: Path, zipped: Path, tmp_path: Path, form: str
) -> None:
    fake = start(form)
    task = TASK[form]
    fake.install(task, "-custom-url", zipped)
    fake.run(task, "-i", image)
    words = [task, "-i", image, "-o", tmp_path / "alone.nii.gz", "-model", zipped, "-v", 0]
    assert sct_deepseg.main(list(map(str, words)), tasks=PLAIN, load=Loader()) == 0
    ours, alone = nib.load(tmp_path / "sub-01_T2w_rootlets.nii.gz"), nib.load(words[4])
    np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(alone.dataobj))
    assert ours.get_data_dtype() == np.uint8
    for matrix in ("get_sform", "get_qform"):
        found, code = getattr(ours.header, matrix)(coded=True)
        expected, expected_code = getattr(nib.load(image).header, matrix)(coded=True)
        np.testing.assert_array_equal(found, expected)
        assert code == expected_code
    assert FakeSCT.part("deepseg.inference").CALLS == []


def test_the_built_in_model_is_a_task_of_its_own_and_says_what_it_is(
    start: Start, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = start()
    fake.run("rootlets_starter", "-i", image)
    assert "NOT the published model" in caplog.text
    folder = Path(fake.models.folder(f"{MODEL}_starter"))
    record = json.loads((folder / "source.json").read_text())
    assert record["model_urls"] in fake.models.MODELS[folder.name]["url"]
    assert record["model_name"] == folder.name
    assert record["custom"] is False
    assert fake.models.CALLS == []
    fake.plugin.results.complete_sidecars()
    sidecar = json.loads((image.parent / "sub-01_T2w_rootlets.json").read_text())
    assert sidecar["Model"]["Name"] == "starter"
    assert "NOT the published model" in sidecar["Notice"]


@pytest.mark.parametrize("form", ["7", "6"])
def test_several_images_each_keep_their_result_sidecar_and_page(
    start: Start, zipped: Path, tmp_path: Path, form: str
) -> None:
    paths = []
    for number in (1, 2, 3):
        folder = tmp_path / f"sub-{number}"
        folder.mkdir()
        data = np.where(levels_as_intensities() <= 9, number + 1, 100)
        paths.append(write_image(folder / f"sub-{number}_T2w.nii.gz", data.astype(np.int16)))
    fake = start(form)
    fake.install(TASK[form], "-custom-url", zipped)
    fake.run(TASK[form], "-i", *paths, "-qc", tmp_path / "qc")
    assert len(fake.load.networks) == 2, "the model and the locator, loaded once"
    fake.plugin.results.complete_sidecars()
    for number, path in enumerate(paths, start=1):
        result = path.with_name(f"sub-{number}_T2w_rootlets.nii.gz")
        assert set(np.unique(labels_of(result))) == {0, number + 1}
        sidecar = json.loads(path.with_name(f"sub-{number}_T2w_rootlets.json").read_text())
        assert sidecar["Sources"] == [path.name]
        assert next(iter(sidecar)) == "GeneratedBy"
        assert list(sidecar["LevelVoxels"]) == [f"C{number + 1}"]
    lines = (tmp_path / "qc" / "pages.jsonl").read_text().splitlines()
    pages = [json.loads(line) for line in lines]
    assert [page["labels"] for page in pages] == [[2], [3], [4]]
    assert {page["layout"] for page in pages} == {"rootlets"}


def test_with_a_name_of_the_user_s_several_results_still_keep_apart(
    start: Start, zipped: Path, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    names = ("a/T2w", "b/T2w", "c/x")
    paths = [write_image(tmp_path / f"{n}.nii.gz", levels_as_intensities()) for n in names]
    paths.append(paths[0])
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    fake.run("rootlets", "-i", *paths, "-o", tmp_path / "out.nii.gz")
    assert sorted(path.name for path in tmp_path.glob("out*.nii.gz")) == [
        "out_rootlets.nii.gz",
        "out_rootlets_T2w.nii.gz",
        "out_rootlets_x.nii.gz",
    ]


@pytest.mark.parametrize("task", ["rootlets", "rootlets_starter"])
def test_a_page_of_an_empty_result_can_be_drawn(
    start: Start, zipped: Path, tmp_path: Path, task: str
) -> None:
    data = np.full((9, 8, 24), 100, np.int16)
    data[0] = 101
    image = write_image(tmp_path / "empty.nii.gz", data)
    fake = start()
    if task == "rootlets":
        fake.install(task, "-custom-url", zipped)
    fake.run(task, "-i", image, "-qc", tmp_path / "qc")
    page = json.loads((tmp_path / "qc" / "pages.jsonl").read_text())
    assert (page["labels"], page["layout"]) == ([], "rootlets")
    assert page["command"].startswith(f"{task} -i ")
    qc2 = FakeSCT.part("reports.qc2")
    with pytest.raises(ValueError, match="empty"):
        qc2.add_segmentation_labels([])


def test_options_mean_what_they_mean_in_the_standalone_command(
    start: Start, image: Path, zipped: Path
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    words = ("-largest", 1, "-fill-holes", 1, "-remove-small", *range(1, 8), "8vox")
    fake.run("rootlets", "-i", image, "-test-time-aug", *words)
    fake.plugin.results.complete_sidecars()
    sidecar = json.loads((image.parent / "sub-01_T2w_rootlets.json").read_text())
    steps = [step["Name"] for step in sidecar["PostProcessing"]]
    assert steps[-3:] == ["largest", "fill-holes", "remove-small"]
    assert sidecar["TestTimeAugmentation"] is True
    assert fake.load.options[0].test_time_aug is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-thr", "0.5"), "-thr does not apply"),
        (("-remove-small", "5foo"), "'5foo'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    start: Start, image: Path, zipped: Path, words: Sequence[str], said: str
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    with pytest.raises(UsageError, match=said):
        fake.run("rootlets", "-i", image, *words)
    assert fake.load.networks == []


def test_a_threshold_of_zero_means_none(start: Start, image: Path, zipped: Path) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    fake.run("rootlets", "-i", image, "-thr", "0")


def test_an_option_we_do_not_know_is_refused_and_not_ignored(start: Start, image: Path) -> None:
    fake = start()
    inference = FakeSCT.part("deepseg.inference")
    path = fake.models.folder(MODEL)
    arguments = (path, "nnunet", [str(image)], None, 0, 0, None)
    with pytest.raises(UsageError, match="crop"):
        inference.segment_non_ivadomed(*arguments, extra_inference_kwargs={"crop": True})


@pytest.mark.parametrize(
    ("environ", "device", "threads"),
    [
        ({}, "cpu", None),
        ({"SCT_USE_GPU": "1"}, "cuda", None),
        ({"SCT_ROOTLETS_DEVICE": "mps", "SCT_ROOTLETS_THREADS": "3"}, "mps", 3),
        ({"SCT_ROOTLETS_DEVICE": "cpu", "SCT_USE_GPU": "1"}, "cuda", None),
    ],
)
def test_device_and_threads_come_from_the_environment(
    start: Start,
    image: Path,
    zipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    device: str,
    threads: int | None,
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    fake.run("rootlets", "-i", image)
    assert {options.device for options in fake.load.options} == {device}
    if threads:
        assert {options.threads for options in fake.load.options} == {threads}


def test_one_bad_image_of_several_is_found_out_before_any_is_segmented(
    start: Start, image: Path, zipped: Path, tmp_path: Path
) -> None:
    bad = write_image(tmp_path / "flat.nii.gz", np.full((9, 8, 24), 7, np.int16))
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    with pytest.raises(ImageError, match=r"flat\.nii\.gz"):
        fake.run("rootlets", "-i", image, bad)
    assert fake.load.networks == []


def test_relative_names_are_those_of_the_moment_of_the_call(
    start: Start, image: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    fake.run("rootlets", "-i", image.name, "-o", "here.nii.gz")
    monkeypatch.chdir("/")
    fake.plugin.results.complete_sidecars()
    assert "Engine" in json.loads((tmp_path / "here.json").read_text())


def test_a_sidecar_of_another_run_is_left_alone(
    start: Start, image: Path, zipped: Path, tmp_path: Path
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    fake.run("rootlets", "-i", image)
    sidecar = image.parent / "sub-01_T2w_rootlets.json"
    sidecar.write_text("{}")
    os.utime(sidecar, (1, 1))
    fake.plugin.results.complete_sidecars()
    assert sidecar.read_text() == "{}"
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("what", ["sub-01_T2w_rootlets.nii.gz", "sub-01_T2w_rootlets.json"])
def test_a_result_in_git_annex_is_replaced_and_never_written_through(
    start: Start, image: Path, zipped: Path, tmp_path: Path, what: str
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    kept = tmp_path / ".git" / "annex" / "objects" / "key"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept")
    (tmp_path / what).symlink_to(kept)
    fake.run("rootlets", "-i", image)
    assert kept.read_bytes() == b"kept"
    assert labels_of(tmp_path / "sub-01_T2w_rootlets.nii.gz").any()
    assert not (tmp_path / what).is_symlink()


def test_a_failed_download_keeps_the_model_that_was_there(
    start: Start, image: Path, zipped: Path
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    with pytest.raises(DownloadError, match="rootlets_starter") as error:
        fake.models.install_model(MODEL)
    assert "-custom-url /path/to.zip" in str(error.value)
    assert fake.models.CALLS == [(MODEL, None)], "SCT itself was asked"
    fake.run("rootlets", "-i", image)


def test_a_download_that_works_is_sct_s_own(start: Start, zipped: Path) -> None:
    fake = start()
    fake.models.FETCHES = str(zipped)
    fake.install("rootlets", "-custom-url", "https://example.invalid/mine.zip")
    assert fake.models.CALLS == [(MODEL, ["https://example.invalid/mine.zip"])]
    folder = Path(fake.models.folder(MODEL))
    assert sorted(path.name for path in folder.iterdir()) == [TRAINER, "source.json"]
    assert list((folder.parent / ".installing").rglob("previous-*")) == []


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_a_zip_on_this_machine_will_do(
    start: Start, zipped: Path, form: Callable[[Path], str]
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", form(zipped))
    folder = Path(fake.models.folder(MODEL))
    assert (folder / TRAINER / "plans.json").is_file()
    record = json.loads((folder / "source.json").read_text())
    assert record == {
        "model_name": MODEL,
        "model_urls": str(zipped),
        "custom": True,
        "sha256": hash_file(zipped),
    }
    assert fake.models.CALLS == []


def test_sct_6_gives_one_address_as_a_text(start: Start, zipped: Path) -> None:
    fake = start("6")
    fake.models.install_model(MODEL, str(zipped))
    assert (Path(fake.models.folder(MODEL)) / TRAINER).is_dir()


def test_a_file_that_is_no_model_changes_nothing(
    start: Start, zipped: Path, tmp_path: Path
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    with pytest.raises(ArchiveError):
        fake.models.install_model(MODEL, [str(bad)])
    with pytest.raises(UsageError, match="there is no file"):
        fake.models.install_model(MODEL, [str(tmp_path / "missing.zip")])
    assert (Path(fake.models.folder(MODEL)) / TRAINER).is_dir()


def test_a_built_in_model_has_no_address(start: Start, zipped: Path) -> None:
    fake = start()
    with pytest.raises(UsageError, match="built-in"):
        fake.models.install_model(f"{MODEL}_starter", [str(zipped)])


def test_without_the_network_sct_is_not_even_asked(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    fake = start()
    with pytest.raises(DownloadError, match="SCT_ROOTLETS_OFFLINE"):
        fake.models.install_model(MODEL)
    assert fake.models.CALLS == []


@pytest.mark.parametrize("why", ["offline", "no answer", "closed"])
@pytest.mark.parametrize("asked", [False, True])
def test_a_run_goes_on_with_a_complete_model_that_lost_its_record(
    why: str,
    asked: bool,
    start: Start,
    zipped: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    folder = Path(fake.models.folder(MODEL))
    (folder / "source.json").unlink()
    if why == "offline":
        monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    if why == "closed":
        shutil.rmtree(folder.parent / ".installing")
        (folder.parent / ".installing").touch()
    words = ["sct_deepseg", "rootlets", *(["-install"] if asked else ["-i", "x.nii.gz"])]
    monkeypatch.setattr(sys, "argv", words)
    if asked:
        with pytest.raises(InstallError):
            fake.models.install_model(MODEL)
    else:
        fake.models.install_model(MODEL)
        assert "no source.json" in caplog.text
    assert (folder / TRAINER / "plans.json").is_file()


def test_models_of_others_are_installed_as_ever(start: Start) -> None:
    fake = start()
    fake.models.FETCHES = True
    fake.install("other", "-custom-url", "/no/such/file.zip")
    assert fake.models.CALLS == [("model_other", ["/no/such/file.zip"])]
    fake.models.install_model("model_other")
    record = json.loads((Path(fake.models.folder("model_other")) / "source.json").read_text())
    assert record["model_urls"] == OTHER_URL


def test_a_model_that_another_process_has_just_installed_is_taken(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sct_rootlets_task.sct_plugin import installation

    stamps = iter([None, 1])
    monkeypatch.setattr(installation, "_stamp", lambda _folder: next(stamps))
    fake = start()
    fake.models.install_model(MODEL)
    assert fake.models.CALLS == []


def test_a_folder_that_cannot_be_written_is_named(
    start: Start,
) -> None:
    fake = start()
    folder = Path(fake.models.ROOT)
    folder.write_text("a file where the folder should be")
    with pytest.raises(InstallError, match="Let someone who may write there") as error:
        fake.models.install_model(MODEL)
    assert "SCT_ROOTLETS_MODELS" not in str(error.value)


def test_our_errors_end_sct_s_command_as_a_sentence_and_others_as_ever(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[object] = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: others.append(error))
    fake = start()
    with pytest.raises(RootletsError):
        fake.models.install_model(MODEL, ["/no/such/file.zip"])
    with pytest.raises(RootletsError):
        fake.models.install_model(MODEL, ["/no/such/file.zip"])
    error = UsageError("Expected this, found that.")
    sys.excepthook(UsageError, error, None)
    assert capsys.readouterr().err == "sct_deepseg: error: Expected this, found that.\n"
    assert others == []
    sys.excepthook(KeyError, KeyError("x"), None)
    assert len(others) == 1


def test_the_levels_are_told(
    start: Start, image: Path, zipped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fake = start()
    fake.install("rootlets", "-custom-url", zipped)
    fake.run("rootlets", "-i", image)
    assert "levels found (voxels): C2 8, C3 8" in caplog.text
    assert "engine fake on cpu" in caplog.text


def test_the_entry_point_names_the_registration() -> None:
    from importlib.metadata import entry_points

    found = entry_points(group="spinalcordtoolbox.deepseg_tasks")
    loaded = {point.name: point.load() for point in found}
    if loaded:
        assert loaded == {"rootlets": plugin.register}
    text = (Path(__file__).parents[1] / "setup.cfg").read_text()
    assert "rootlets = sct_rootlets_task.sct_plugin.plugin:register" in text


def test_a_task_keeps_its_own_levels_inside_sct(start: Start, image: Path, zipped: Path) -> None:
    fake = start("6")
    fake.install("seg_spinal_rootlets_t2w", "-custom-url", zipped)
    fake.run("seg_spinal_rootlets_t2w", "-i", image)
    found = labels_of(image.parent / "sub-01_T2w_rootlets.nii.gz")
    task: Task = TASKS["seg_spinal_rootlets_t2w"]
    assert set(np.unique(found)) == {0, *task.levels}


@pytest.mark.parametrize(
    "url",
    [
        "/dev/zero",
        "PIPE",
        "file://otherhost/m.zip",
        "file://[::1/m.zip",
        "file:///%00",
        "~nobody-of-this-name/m.zip",
        "a\0b",
        "x" * 5000,
        "\x1b[2J.zip",
    ],
)
def test_a_path_that_is_no_file_is_a_usage_error_in_one_line(url: str, tmp_path: Path) -> None:
    if url == "PIPE":
        url = str(tmp_path / "m.zip")
        os.mkfifo(url)
    with pytest.raises(UsageError, match="-custom-url: ") as caught:
        installation._path_of(url)
    assert str(caught.value).isprintable()
