"""The folder of results: valid BIDS, never another's data set, never over what people edited."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from sct_rootlets_task.errors import DatasetError, OutputError, UsageError
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.study import validation
from sct_rootlets_task.study.derivatives import check_output_dir, prepare_output_dir
from sct_rootlets_task.study.naming import level_map_name, spinal_levels_name
from sct_rootlets_task.study.options import Study
from sct_rootlets_task.study.validation import validate_dataset
from test_study_naming import NAMES
from volumes import write_image

FILES = {
    ".bidsignore",
    "README.md",
    "dataset_description.json",
    "seg-rootlets_dseg.tsv",
    "seg-spinallevels_dseg.tsv",
}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    bids_dir = tmp_path / "Größe 1" / "bids"
    bids_dir.mkdir(parents=True)
    description = {"Name": "Necks", "BIDSVersion": "1.9.0", "DatasetDOI": "doi:10.0/x"}
    (bids_dir / "dataset_description.json").write_text(json.dumps(description))
    return Study(bids_dir, tmp_path / "out", tmp_path / "out/work")


def replaced(study: Study, out_dir: Path) -> Study:
    return Study(study.bids_dir, out_dir, out_dir / "work")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_folder_says_what_it_is(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_CONTAINER", "sct-rootlets:1.0")
    prepare_output_dir(study, ROOTLETS)
    assert set(contents(study.out_dir)) == FILES
    description = json.loads((study.out_dir / "dataset_description.json").read_bytes())
    assert description["DatasetType"] == "derivative"
    assert description["Name"].endswith("Necks")
    assert description["SourceDatasets"] == [{"DOI": "doi:10.0/x"}]
    assert description["DatasetLinks"] == {"raw": "../Gr%C3%B6%C3%9Fe%201/bids"}
    made_by = description["GeneratedBy"][0]
    assert made_by["Container"] == {"Type": "docker", "Tag": "sct-rootlets:1.0"}


def test_an_apptainer_image_is_named_without_its_folder(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPTAINER_CONTAINER", "/home/someone/rootlets.sif")
    prepare_output_dir(study, ROOTLETS)
    description = json.loads((study.out_dir / "dataset_description.json").read_bytes())
    container = {"Type": "apptainer", "Tag": "rootlets.sif"}
    assert description["GeneratedBy"][0]["Container"] == container


def test_levels_have_names_and_colors(study: Study) -> None:
    prepare_output_dir(study, ROOTLETS)
    rows = (study.out_dir / "seg-rootlets_dseg.tsv").read_text().splitlines()
    assert rows[0] == "index\tname\tcolor"
    assert "2\tC2\t#00bfff" in rows
    assert len(rows) == 31


@pytest.mark.parametrize("text", ["not json", "[]", '{"Name": 3, "DatasetDOI": []}', None])
def test_a_broken_description_of_the_data_set_is_no_obstacle(
    study: Study, text: str | None
) -> None:
    source = study.bids_dir / "dataset_description.json"
    source.unlink() if text is None else source.write_text(text)
    prepare_output_dir(study, ROOTLETS)
    description = json.loads((study.out_dir / "dataset_description.json").read_bytes())
    assert description["SourceDatasets"] == [{"URL": "../Gr%C3%B6%C3%9Fe%201/bids"}]


@pytest.mark.parametrize("name", sorted(FILES - {"dataset_description.json"}))
def test_what_people_edited_stays(study: Study, name: str) -> None:
    prepare_output_dir(study, ROOTLETS)
    (study.out_dir / name).write_text("edited")
    edited = contents(study.out_dir)
    prepare_output_dir(study, ROOTLETS)
    assert contents(study.out_dir) == edited


def test_an_edited_description_stays(study: Study) -> None:
    prepare_output_dir(study, ROOTLETS)
    path = study.out_dir / "dataset_description.json"
    description = {**json.loads(path.read_bytes()), "Authors": ["A. Author"]}
    path.write_text(json.dumps(description))
    prepare_output_dir(study, ROOTLETS)
    assert json.loads(path.read_bytes()) == description


@pytest.mark.parametrize("place", [".", "derivatives", "sub-01", "sub-01/derivatives/x", "code"])
def test_results_do_not_go_into_the_data_set(study: Study, place: str) -> None:
    inside = replaced(study, study.bids_dir / place)
    with pytest.raises(UsageError, match="is the data set, or a folder of it"):
        prepare_output_dir(inside, ROOTLETS)
    assert [path.name for path in study.bids_dir.iterdir()] == ["dataset_description.json"]


def test_a_link_to_the_data_set_is_the_data_set(study: Study, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(study.bids_dir)
    with pytest.raises(UsageError, match="is the data set"):
        check_output_dir(replaced(study, tmp_path / "link"))


def test_results_may_be_derivatives_of_the_data_set(study: Study) -> None:
    prepare_output_dir(replaced(study, study.bids_dir / "derivatives/rootlets"), ROOTLETS)
    path = study.bids_dir / "derivatives/rootlets/dataset_description.json"
    assert json.loads(path.read_bytes())["DatasetLinks"] == {"raw": "../.."}


@pytest.mark.parametrize(
    ("text", "maker"),
    [
        ('{"GeneratedBy": [{"Name": "fMRIPrep"}]}', "fMRIPrep"),
        ('{"Name": "raw"}', "another program"),
        ("{broken", "another program"),
        ('{"GeneratedBy": ["x", {"Name": "\\u001b[2J"}]}', r"\\x1b\[2J"),
    ],
)
def test_a_data_set_of_another_program_is_left_alone(study: Study, text: str, maker: str) -> None:
    study.out_dir.mkdir()
    (study.out_dir / "dataset_description.json").write_text(text)
    with pytest.raises(UsageError, match=f"holds a data set that {maker} has made"):
        prepare_output_dir(study, ROOTLETS)
    assert set(contents(study.out_dir)) == {"dataset_description.json"}


def test_a_folder_that_cannot_be_made_is_named(study: Study) -> None:
    study.out_dir.write_text("a file")
    with pytest.raises(OutputError, match=r"OUT_DIR .* cannot be made"):
        prepare_output_dir(study, ROOTLETS)


def test_jobs_prepare_one_folder_at_once(study: Study) -> None:
    fork = multiprocessing.get_context("fork")
    jobs = [fork.Process(target=prepare_output_dir, args=(study, ROOTLETS)) for _ in range(6)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 6
    assert {path.name for path in study.out_dir.iterdir()} == FILES


def test_the_validator_accepts_results_of_all_names(study: Study) -> None:
    pytest.importorskip("bids_validator_deno")
    prepare_output_dir(study, ROOTLETS)
    space = {"SpatialReference": {"REF": "bids:raw:sub-01/anat/sub-01_T2w.nii.gz"}}
    for image in NAMES:
        for naming in ("bids", "neuropoly"):
            name = level_map_name(Path(image), ROOTLETS, naming)
            parts = (part for part in image.split("_")[:2] if part.startswith(("sub", "ses")))
            folder = study.out_dir.joinpath(*parts, "anat")
            folder.mkdir(parents=True, exist_ok=True)
            for result in (name, spinal_levels_name(name)):
                write_image(folder / result, np.ones((4, 4, 4), np.uint8))
                sidecar = folder / result.replace(".nii.gz", ".json")
                sidecar.write_text(json.dumps(space))
            for ending in ("levels.tsv", "levels.json", "record.json"):
                (folder / name.replace("dseg.nii.gz", ending)).write_text("{}")
    for other in ("qc/index.html", "logs/a.jsonl", "corrected/a.nii.gz", "work/a", "figures/a.svg"):
        (study.out_dir / other).parent.mkdir()
        (study.out_dir / other).write_text("x")
    for other in ("failures.tsv", "group_levels.tsv", "group_levels.json"):
        (study.out_dir / other).write_text("x")
    validate_dataset(study.out_dir)
    # So that the test would notice a validator that accepts everything.
    (study.out_dir / "sub-01/anat/sub-01_label-x_T2w_dseg.nii").touch()
    with pytest.raises(DatasetError, match=r"sub-01_label-x_T2w_dseg\.nii") as caught:
        validate_dataset(study.out_dir)
    assert "--skip-bids-validation" in str(caught.value)


@pytest.mark.parametrize(
    ("script", "logged"),
    [("exit 1", "could not be validated"), ("echo '[]'", "could not be validated")],
)
def test_a_validator_that_fails_is_no_obstacle(
    *,
    script: str,
    logged: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = tmp_path / validation.COMMAND
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    validate_dataset(tmp_path)
    assert logged in caplog.text


def test_without_a_validator_nothing_is_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validation.shutil, "which", lambda *_, **__: None)
    with caplog.at_level("INFO"):
        validate_dataset(tmp_path)
    assert "is not installed" in caplog.text
