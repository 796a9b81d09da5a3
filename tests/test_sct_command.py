"""Inside SCT both forms of a command work, and what cannot be saved is found out before the run."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fake_sct import TASK
from sct_rootlets_task.sct_plugin.command import as_legacy, as_modern
from test_sct_deepseg import levels_as_intensities
from test_sct_plugin import FakeSCT, Start, image, labels_of, start, zipped  # noqa: F401 (fixtures)
from volumes import write_image

NAMES = {"rootlets", "rootlets_starter", "seg_spinal_rootlets_t2w"}
LEGACY_TASK = "seg_spinal_rootlets_t2w"


def run(fake: FakeSCT, *words: object) -> None:
    """Run SCT's command with words in any form."""
    fake.part("scripts.sct_deepseg").main(list(map(str, words)))


def code_of(fake: FakeSCT, *words: object) -> int | str | None:
    with pytest.raises(SystemExit) as stop:
        run(fake, *words)
    return stop.value.code


PARTS = (("-i", "a.nii.gz"), ("-task", LEGACY_TASK), ("-o", "o.nii.gz"), ("-c", "t2"))


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)))
def test_the_old_form_is_understood_in_any_order(order: Sequence[tuple[str, str]]) -> None:
    words = as_modern([word for part in order for word in part], NAMES)
    assert words[0] == LEGACY_TASK
    pairs = set(zip(words[1::2], words[2::2], strict=True))
    assert pairs == {("-i", "a.nii.gz"), ("-o", "o.nii.gz")}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("-install-task rootlets", "rootlets -install"),
        ("-install rootlets -custom-url u", "rootlets -install -custom-url u"),
        ("-custom-url u -install-task rootlets", "rootlets -install -custom-url u"),
        ("-list-tasks", "-task-details"),
        ("-list-tasks -v 1", "-task-details"),
        ("-task=rootlets -i a b -c t2 t2", "rootlets -i a b"),
        ("-task rootlets -i a -remove-small 10 20 10vox -v 2", None),
        ("-task other -i a", "-task other -i a"),
        ("-install-task other", "-install-task other"),
        ("-task rootlets -h", "-task rootlets -h"),
        ("rootlets -i a", "rootlets -i a"),
        ("-h", "-h"),
        ("", ""),
    ],
)
def test_what_the_old_form_becomes(given: str, expected: str | None) -> None:
    wanted = "rootlets -i a -remove-small 10 20 10vox -v 2" if expected is None else expected
    assert as_modern(given.split(), NAMES) == wanted.split()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("rootlets -i a -o b", "-task rootlets -i a -o b"),
        ("rootlets -install", "-install-task rootlets"),
        ("rootlets -install -custom-url u", "-install-task rootlets -custom-url u"),
        ("other -i a", "other -i a"),
        ("-task rootlets -i a", "-task rootlets -i a"),
        ("", ""),
    ],
)
def test_what_the_new_form_becomes_in_an_old_sct(given: str, expected: str) -> None:
    assert as_legacy(given.split(), NAMES) == expected.split()


def test_several_tasks_in_one_command_are_refused_and_not_half_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        as_modern(["-install-task", "rootlets", LEGACY_TASK], NAMES)
    assert stop.value.code == 2
    assert "one task" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["7", "6"])
@pytest.mark.parametrize("old", [True, False])
def test_both_forms_give_a_result_in_both_scts(
    start: Start,  # noqa: F811
    image: Path,  # noqa: F811
    zipped: Path,  # noqa: F811
    form: str,
    old: bool,
) -> None:
    fake, task = start(form), TASK[form]
    install = ["-install-task", task] if old else [task, "-install"]
    assert code_of(fake, *install, "-custom-url", zipped) == 0
    output = image.parent / "o.nii.gz"
    run(fake, *(["-task", task] if old else [task]), "-i", image, "-o", output)
    assert labels_of(output).any()
    assert (Path(fake.models.folder("model_seg_spinal_rootlets_nnunet")) / "source.json").exists()


def test_a_task_of_sct_s_own_keeps_sct_s_note(
    start: Start,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = start("7")
    assert code_of(fake, "-task", "other", "-i", "none.nii.gz") == 0
    assert "deprecated" in capsys.readouterr().out


def test_an_old_command_without_an_image_is_an_error_and_not_silent(start: Start) -> None:  # noqa: F811
    fake = start("7")
    assert code_of(fake, "-task", LEGACY_TASK) == 2


@pytest.mark.parametrize("form", ["7", "6"])
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("folder/", "folder/sub-01_T2w_rootlets.nii.gz"),
        ("there", "there/sub-01_T2w_rootlets.nii.gz"),
        ("there.nii.gz", "there.nii.gz/sub-01_T2w_rootlets.nii.gz"),
        ("new/deep/out.nii.gz", "new/deep/out.nii.gz"),
        ("out", "out.nii.gz"),
        ("out.img", "out.img.nii.gz"),
        ("out.v1", "out.v1.nii.gz"),
        ("out.nii", "out.nii"),
        ("OUT.NII.GZ", "OUT.nii.gz"),
        ("a.nii.gz.b/out", "a.nii.gz.b/out.nii.gz"),
        ("sp ace/", "sp ace/sub-01_T2w_rootlets.nii.gz"),
    ],
)
def test_every_kind_of_output_gets_its_result_and_sidecar(
    start: Start,  # noqa: F811
    image: Path,  # noqa: F811
    zipped: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    wanted: str,
    expected: str,
) -> None:
    monkeypatch.chdir(image.parent)
    Path("there").mkdir()
    Path("there.nii.gz").mkdir()
    fake = start(form)
    fake.install(TASK[form], "-custom-url", zipped)
    fake.run(TASK[form], "-i", image.name, "-o", wanted)
    fake.plugin.results.complete_sidecars()
    assert labels_of(Path(expected)).any()
    name = expected.removesuffix(".gz").removesuffix(".nii")
    assert "Engine" in json.loads(Path(f"{name}.json").read_text())


@pytest.mark.parametrize("form", ["7", "6"])
def test_a_folder_for_several_images_holds_one_result_each(
    start: Start,  # noqa: F811
    zipped: Path,  # noqa: F811
    tmp_path: Path,
    form: str,
) -> None:
    paths = [write_image(tmp_path / f"{n}_T2w.nii.gz", levels_as_intensities()) for n in "ab"]
    fake = start(form)
    fake.install(TASK[form], "-custom-url", zipped)
    fake.run(TASK[form], "-i", *paths, "-o", tmp_path / "results", "-qc", tmp_path / "qc")
    fake.plugin.results.complete_sidecars()
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "a_T2w_rootlets.json",
        "a_T2w_rootlets.nii.gz",
        "b_T2w_rootlets.json",
        "b_T2w_rootlets.nii.gz",
    ]
    lines = (tmp_path / "qc" / "pages.jsonl").read_text().splitlines()
    pages = [json.loads(line) for line in lines]
    assert [Path(page["seg"]).name for page in pages] == [
        "a_T2w_rootlets.nii.gz",
        "b_T2w_rootlets.nii.gz",
    ]


@pytest.mark.parametrize("form", ["7", "6"])
@pytest.mark.parametrize(
    ("wanted", "first", "second"),
    [
        ("out.nii.gz", "out_rootlets.nii.gz", "out_rootlets_b_T2w.nii.gz"),
        (
            "d.nii.gz.x/o.nii.gz",
            "d.nii.gz.x/o_rootlets.nii.gz",
            "d.nii.gz.x/o_rootlets_b_T2w.nii.gz",
        ),
        ("d.nii.gz.x/o.nii", "d.nii.gz.x/o_rootlets.nii", "d.nii.gz.x/o_rootlets_b_T2w.nii"),
        ("d.nii/o.nii.gz", "d.nii/o_rootlets.nii.gz", "d.nii/o_rootlets_b_T2w.nii.gz"),
        ("o.nii.v2.nii", "o.nii.v2_rootlets.nii", "o.nii.v2_rootlets_b_T2w.nii"),
    ],
)
def test_a_name_for_several_images_stays_in_its_folder_whatever_that_is_called(
    start: Start,  # noqa: F811
    zipped: Path,  # noqa: F811
    tmp_path: Path,
    form: str,
    wanted: str,
    first: str,
    second: str,
) -> None:
    paths = [write_image(tmp_path / f"{n}_T2w.nii.gz", levels_as_intensities()) for n in "ab"]
    fake, folder = start(form), tmp_path / "results"
    fake.install(TASK[form], "-custom-url", zipped)
    fake.run(TASK[form], "-i", *paths, "-o", folder / wanted)
    fake.plugin.results.complete_sidecars()
    found = {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix in (".gz", ".nii") and path.is_file()
    }
    assert found == {first, second}


def prepare(folder: Path) -> None:
    """Make what the commands of the next test stumble over."""
    (folder / "file").write_text("")
    (folder / "closed").mkdir()
    (folder / "other").mkdir()
    write_image(folder / "other" / "sub-01_T2w.nii.gz", levels_as_intensities())


@pytest.mark.parametrize("form", ["7", "6"])
@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ("-i sub-01_T2w.nii.gz -o file/out.nii.gz", "no folder", 2),
        ("-i sub-01_T2w.nii.gz -o file/", "no folder", 2),
        ("-i sub-01_T2w.nii.gz -o sub-01_T2w.nii.gz", "replace an input", 2),
        ("-i sub-01_T2w.nii.gz -o sub-01_T2w", "replace an input", 2),
        (f"-i sub-01_T2w.nii.gz -o {'x' * 300}", "longer than", 2),
        (f"-i sub-01_T2w.nii.gz -o {'x' * 300}.nii.gz", "longer than", 2),
        (f"-i sub-01_T2w.nii.gz -o {'x' * 300}/o.nii", "longer than", 2),
        (f"-i sub-01_T2w.nii.gz -o {'x/' * 2500}o.nii", "longer than", 2),
        ("-i sub-01_T2w.nii.gz -o closed/out.nii.gz", "closed", 1),
        ("-i sub-01_T2w.nii.gz -o closed/new/", "closed", 1),
        ("-i sub-01_T2w.nii.gz -qc file", "-qc", 1),
        ("-i sub-01_T2w.nii.gz -qc file/qc", "-qc", 1),
        ("-i sub-01_T2w.nii.gz -qc closed", "-qc", 1),
        ("-i sub-01_T2w.nii.gz other/sub-01_T2w.nii.gz -o out/", "both", 2),
    ],
)
def test_what_cannot_be_saved_is_one_sentence_before_the_model_is_even_looked_for(
    start: Start,  # noqa: F811
    image: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    words: str,
    said: str,
    code: int,
) -> None:
    monkeypatch.chdir(image.parent)
    prepare(image.parent)
    monkeypatch.setattr(os, "access", lambda path, _mode: "closed" not in str(path))
    fake = start(form)
    first = ["-task", TASK[form]] if form == "6" else [TASK[form]]
    assert code_of(fake, *first, *words.split()) == code
    error = capsys.readouterr().err
    assert error.startswith("sct_deepseg: error: ")
    assert said in error
    assert error.count("\n") == 1
    assert fake.models.CALLS == []
    assert fake.load.networks == []


@pytest.mark.parametrize(
    ("mask", "said", "code"),
    [
        ("no.nii.gz", "-qc-seg", 2),
        (f"{'x' * 300}.nii.gz", "-qc-seg", 2),
        ("other", "-qc-seg", 2),
        ("file", "cannot be read", 1),
    ],
)
def test_a_mask_for_the_page_that_cannot_be_read_is_found_out_first(
    start: Start,  # noqa: F811
    image: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mask: str,
    said: str,
    code: int,
) -> None:
    monkeypatch.chdir(image.parent)
    prepare(image.parent)
    fake = start("7")
    assert code_of(fake, "rootlets", "-i", image, "-qc", "qc", "-qc-seg", mask) == code
    error = capsys.readouterr().err
    assert error.startswith("sct_deepseg: error: ")
    assert said in error
    assert fake.load.networks == []


def test_outputs_of_sct_s_own_tasks_are_sct_s_own_matter(
    start: Start,  # noqa: F811
    image: Path,  # noqa: F811
) -> None:
    fake = start("7")
    fake.models.FETCHES = True
    run(fake, "other", "-i", image, "-o", image.parent / "named.nii.gz")
    (call,) = FakeSCT.part("deepseg.inference").CALLS
    assert call["input_filenames"] == [str(image)]
    assert (image.parent / "named.nii.gz").exists()


@pytest.mark.parametrize(
    ("raw", "tiles", "expected"),
    [
        ("1", "all", (True, "all")),
        ("yes", "", (True, "auto")),
        ("0", "auto", (False, "auto")),
        ("off", "", (False, "auto")),
        ("", "", (False, "auto")),
    ],
)
def test_plain_labels_are_asked_for_by_variables(
    start: Start,  # noqa: F811
    image: Path,  # noqa: F811
    zipped: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    raw: str,
    tiles: str,
    expected: tuple[bool, str],
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_RAW", raw)
    monkeypatch.setenv("SCT_ROOTLETS_TILES", tiles)
    fake = start("7")
    fake.install("rootlets", "-custom-url", zipped)
    run(fake, "rootlets", "-i", image)
    fake.plugin.results.complete_sidecars()
    sidecar = json.loads((image.parent / "sub-01_T2w_rootlets.json").read_text())
    assert (sidecar["Raw"], sidecar["Tiles"]["Asked"]) == expected
    steps = [step["Name"] for step in sidecar["PostProcessing"]]
    assert ("remove_specks" in steps) is not expected[0]
    given = {"SCT_ROOTLETS_RAW": raw, "SCT_ROOTLETS_TILES": tiles}
    assert sidecar.get("Variables", {}) == {name: value for name, value in given.items() if value}
    assert np.any(labels_of(image.parent / "sub-01_T2w_rootlets.nii.gz"))


def test_the_help_of_our_tasks_names_the_variables(start: Start) -> None:  # noqa: F811
    models = start("7").models
    for task in ("rootlets", "rootlets_starter", LEGACY_TASK):
        assert "SCT_ROOTLETS_RAW=1" in models.TASKS[task]["long_description"]
        assert "SCT_ROOTLETS_TILES=all" in models.TASKS[task]["long_description"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("words", ["rootlets_starter -h", "rootlets -h", "rootlets –"])
def test_help_and_messages_need_no_letter_that_the_locale_lacks(
    start: Start,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    words: str,
) -> None:
    fake = start("7")
    fake.models.TASKS["rootlets"]["description"] += " – C2–T1 …"
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, name, stream)
    assert code_of(fake, *words.split()) == (0 if "-h" in words else 2)


def test_streams_of_sct_s_own_tasks_stay_as_they_are(
    start: Start,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = start("7")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert code_of(fake, "other", "-h") == 0
    assert sys.stdout.errors == "strict"
