"""The images of a data set: which are found, selected and left out, and what belongs to each."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import study_dataset
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.registry import ROOTLETS, SEG_SPINAL_ROOTLETS_T2W
from sct_rootlets_task.study.dataset import Found, find_items
from sct_rootlets_task.study.options import Selection, Study
from sct_rootlets_task.study.selection import read_filters, read_list
from sct_rootlets_task.study.validation import validate_dataset


def touch(folder: Path, *files: str) -> Path:
    """Make empty files in a folder, with the folders they lie in."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def study_of(bids_dir: Path, **selection: Any) -> Study:
    out = bids_dir.parent / "out"
    return Study(bids_dir, out, out / "work", Selection(**selection))


def sources(found: Found) -> list[str]:
    return [Path(item.source).name for item in found.items]


def find(bids_dir: Path, **selection: Any) -> list[str]:
    return sources(find_items(study_of(bids_dir, **selection), ROOTLETS))


@pytest.fixture(scope="module")
def necks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data set, its folder with a space and an umlaut."""
    folder = tmp_path_factory.mktemp("necks") / "Größe 1"
    return study_dataset.make_dataset(folder, 24, tiny=True)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A data set of empty files."""
    return touch(
        tmp_path / "small",
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz",
        "sub-02/anat/sub-02_acq-sag_run-1_T2w.nii.gz",
        "sub-02/anat/sub-02_acq-ax_run-2_T2w.nii.gz",
        "sub-02/anat/sub-02_UNIT1.nii.gz",
        "sub-03/func/sub-03_task-rest_bold.nii.gz",
    )


def test_the_generated_data_set_is_found_in_order(necks: Path) -> None:
    found = find_items(study_of(necks), ROOTLETS)
    assert sources(found)[:7] == [
        "sub-01_ses-1_T2w.nii.gz",
        "sub-01_ses-2_T2w.nii.gz",
        "sub-02_T2w.nii.gz",
        "sub-02_UNIT1.nii.gz",
        "sub-02_inv-1_MP2RAGE.nii.gz",
        "sub-02_inv-2_MP2RAGE.nii.gz",
        "sub-03_T2w.nii.gz",
    ]
    assert [(left.path, left.reason) for left in found.left_out] == [
        ("sub-07/anat/sub-07_T2w.nii.gz", "it is in .bidsignore")
    ]
    absent = next(item for item in found.items if item.subject == "sub-08")
    assert not absent.image.exists()
    assert len({item.name for item in found.items}) == len(found.items)


def test_the_generated_data_set_is_valid(necks: Path) -> None:
    pytest.importorskip("bids_validator_deno")
    validate_dataset(necks)


def test_an_item_knows_where_its_results_go(necks: Path) -> None:
    item = find_items(study_of(necks), ROOTLETS).items[1]
    assert (item.subject, item.session, item.contrast) == ("sub-01", "ses-2", "T2w")
    assert item.source == "sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz"
    assert item.image == necks / item.source
    name = "sub-01_ses-2_space-orig_seg-rootlets"
    out = necks.parent / "out"
    assert item.output == out / f"sub-01/ses-2/anat/{name}_dseg.nii.gz"
    assert item.work == out / f"work/sub-01/ses-2/{name}"


def test_three_ways_to_name_mp2rage_are_one(necks: Path) -> None:
    found = find_items(study_of(necks, subjects=("02", "12", "22")), ROOTLETS)
    contrasts = [(item.subject, item.contrast) for item in found.items]
    expected = [
        (f"sub-{n}", c) for n in ("02", "12", "22") for c in ("INV1", "INV2", "T2w", "UNIT1")
    ]
    assert sorted(contrasts) == expected
    assert sorted({item.name.partition("rootlets")[2] for item in found.items}) == [
        "",
        "_desc-INV1",
        "_desc-INV2",
        "_desc-UNIT1",
    ]


def test_three_ways_to_name_derivatives_are_found(necks: Path) -> None:
    found = find_items(study_of(necks, subjects=("03", "13", "23")), ROOTLETS)
    assert [sorted(item.landmarks) for item in found.items] == [
        ["cord", "discs", "pmj"],
        ["cord", "discs"],
        ["cord", "pmj"],
    ]
    assert all(path.is_file() for item in found.items for path in item.landmarks.values())


def test_a_task_takes_its_own_contrasts(necks: Path) -> None:
    found = find_items(study_of(necks, subjects=("02",)), SEG_SPINAL_ROOTLETS_T2W)
    assert sources(found) == ["sub-02_T2w.nii.gz"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"subjects": ("01",)}, ["sub-01_ses-1_T2w.nii.gz", "sub-01_ses-2_T2w.nii.gz"]),
        ({"subjects": ("sub-01",), "sessions": ("ses-2",)}, ["sub-01_ses-2_T2w.nii.gz"]),
        ({"sessions": ("1",)}, ["sub-01_ses-1_T2w.nii.gz"]),
        ({"contrasts": ("UNIT1",)}, ["sub-02_UNIT1.nii.gz"]),
        ({"subjects": ("03",)}, []),
    ],
)
def test_subjects_sessions_and_contrasts_are_chosen(
    small: Path, selection: dict[str, Any], expected: list[str]
) -> None:
    assert find(small, **selection) == expected


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"subjects": ("1", "02")}, "sub-1 is not in the data set. It has: 01 02 03"),
        ({"sessions": ("3",)}, "ses-3 is not in the data set. It has: 1 2"),
        ({"contrasts": ("T1w",)}, "T1w is none of the task rootlets. Choose from T2w UNIT1"),
        ({"part": (3, 2)}, "K/N with K from 1 to N, found 3/2"),
        ({"part": (0, 0)}, "found 0/0"),
        ({"filters": {"t2w": {"sesion": "1"}}}, "'sesion' is no entity of BIDS"),
    ],
)
def test_what_cannot_be_chosen_is_named(
    small: Path, selection: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message.replace(".", r"\.")):
        find(small, **selection)


SAGITTAL, AXIAL = "sub-02_acq-sag_run-1_T2w.nii.gz", "sub-02_acq-ax_run-2_T2w.nii.gz"
SESSIONS = ["sub-01_ses-1_T2w.nii.gz", "sub-01_ses-2_T2w.nii.gz"]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"acquisition": "sag"}, [SAGITTAL]),
        ({"acq": ["sag", "ax"]}, [AXIAL, SAGITTAL]),
        ({"acquisition": None}, SESSIONS),
        ({"acquisition": "*"}, [AXIAL, SAGITTAL]),
        ({"acquisition": "Query.ANY"}, [AXIAL, SAGITTAL]),
        ({"acquisition": "Query.NONE"}, SESSIONS),
        ({"acquisition": "Query.OPTIONAL", "session": [None, "2"]}, [SESSIONS[1], AXIAL, SAGITTAL]),
        ({"session": "ses-1"}, [SESSIONS[0]]),
        ({"run": 2}, [AXIAL]),
        ({"run": "2", "datatype": "anat", "suffix": "T2w", "extension": "nii.gz"}, [AXIAL]),
        ({"datatype": "func"}, []),
        ({}, [*SESSIONS, AXIAL, SAGITTAL]),
    ],
)
@pytest.mark.parametrize("contrast", ["T2w", "t2w", "t2"])
def test_filters_are_those_of_fmriprep(
    small: Path, contrast: str, rules: Mapping[str, Any], expected: list[str]
) -> None:
    found = find(small, filters={contrast: rules, "bold": {"task": "rest"}})
    assert sorted(found) == sorted([*expected, "sub-02_UNIT1.nii.gz"])


@pytest.mark.parametrize("text", ["{", "[]", '{"T2w": "sag"}'])
def test_a_filter_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "filter.json").write_text(text)
    with pytest.raises(UsageError, match="--bids-filter-file"):
        read_filters(tmp_path / "filter.json")


def test_a_filter_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "filter.json").write_text('{"t2w": {"run": 1}}')
    assert read_filters(tmp_path / "filter.json") == {"t2w": {"run": 1}}
    with pytest.raises(UsageError, match="cannot be read"):
        read_filters(tmp_path / "none.json")


def test_parts_hold_each_subject_once_and_whole(necks: Path) -> None:
    everything = find(necks)
    parts = [find_items(study_of(necks, part=(k, 3)), ROOTLETS) for k in (1, 2, 3)]
    subjects = [{item.subject for item in part.items} for part in parts]
    assert sorted(name for part in parts for name in sources(part)) == sorted(everything)
    assert sum(map(len, subjects)) == len(set.union(*subjects))
    assert max(map(len, subjects)) - min(map(len, subjects)) <= 1


def test_a_part_has_the_same_subjects_whatever_else_is_chosen(necks: Path) -> None:
    whole = find_items(study_of(necks, part=(2, 3)), ROOTLETS).items
    chosen = find_items(study_of(necks, part=(2, 3), contrasts=("UNIT1",)), ROOTLETS).items
    assert {item.subject for item in chosen} <= {item.subject for item in whole}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "qc_fail.yml",
            'FILES_SEG:\n    - "ds/sub-02_UNIT1.nii.gz"  # note - here\n'
            "- sub-01_ses-1_space-orig_seg-rootlets_dseg.nii.gz\n",
            ["sub-01_ses-1_T2w.nii.gz", "sub-02_UNIT1.nii.gz"],
        ),
        (
            "qc_artifact.yml",
            "# SCT's\nFILES_SEG:\n- 'a/sub-02_UNIT1_label-rootlets_dseg.nii'\n",
            ["sub-02_UNIT1.nii.gz"],
        ),
        ("qc_fail.yml", '# No image is rated "fail".\n', []),
        ("qc_fail.yml", "FILES_SEG: []\n", []),
        (
            "qc_ratings.csv",
            "\ufeffid,image,segmentation,rating,path\r\n"
            '1,sub-02_UNIT1.nii.gz,x.nii.gz,fail,"a, b/x"\r\n'
            "2,sub-01_ses-1_T2w.nii.gz,,pass,\r\n3,'sub-01_ses-2_T2w.nii.gz,,artefact\r\n",
            ["sub-01_ses-2_T2w.nii.gz", "sub-02_UNIT1.nii.gz"],
        ),
        (
            "failures.tsv",
            "subject\timage\terror\nsub-02\tsub-02/anat/sub-02_UNIT1.nii.gz\tbroken\n",
            ["sub-02_UNIT1.nii.gz"],
        ),
        ("failures.tsv", "subject\tsession\tcontrast\timage\n", []),
    ],
)
def test_only_what_a_list_names(small: Path, name: str, text: str, expected: list[str]) -> None:
    path = small.parent / name
    path.write_text(text, encoding="utf-8")
    assert find(small, only=path) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [("notes.txt", "some words\n"), ("table.csv", "a,b\n1,2\n"), ("x.yml", "key: value\n")],
)
def test_what_is_no_list_of_images_is_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="names no images"):
        read_list(tmp_path / name)


def test_names_of_no_image_are_told(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    (small.parent / "qc_fail.yml").write_text("- sub-99_T2w.nii.gz\n- sub-02_UNIT1.nii.gz\n")
    assert find(small, only=small.parent / "qc_fail.yml") == ["sub-02_UNIT1.nii.gz"]
    assert "1 names are of no image that is selected, such as sub-99_T2w" in caplog.text


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["sub-01_part-phase_T2w.nii.gz"], "part-phase is no magnitude image"),
        (["sub-02_T2w.nii.gz"], "another subject or session"),
        (["T2w.nii.gz", "_T2w.nii.gz"], "another subject or session"),
        (["../ses-1/anat/sub-01_T2w.nii.gz"], "another subject or session"),
        (["sub-01_T2w.nii", "sub-01_T2w.nii.gz"], "as .nii and as .nii.gz"),
        (["sub-01_acq-ä_T2w.nii.gz"], "use --naming neuropoly"),
        (["sub-01_acq-\x1b[2J\n_T2w.nii.gz"], r"\x1b[2J\n"),
    ],
)
def test_what_is_left_out_has_a_reason(tmp_path: Path, files: list[str], reason: str) -> None:
    touch(tmp_path / "ds", "sub-01/anat/sub-01_UNIT1.nii.gz", *(f"sub-01/anat/{f}" for f in files))
    found = find_items(study_of(tmp_path / "ds"), ROOTLETS)
    assert sources(found) == ["sub-01_UNIT1.nii.gz"]
    names = sorted(Path(file).name for file in files)
    assert [Path(left.path).name for left in found.left_out] == names
    assert all(reason in left.reason for left in found.left_out)


def test_odd_names_are_kept_in_the_naming_of_laboratories(tmp_path: Path) -> None:
    touch(tmp_path / "ds", "sub-Zoë 1/anat/sub-Zoë 1_acq-\n_T2w.nii.gz")
    study = replace(study_of(tmp_path / "ds"), naming="neuropoly")
    (item,) = find_items(study, ROOTLETS).items
    assert item.output.name == "sub-Zoë 1_acq-\n_T2w_label-rootlets_dseg.nii.gz"
    assert item.output.parent == study.out_dir / "sub-Zoë 1" / "anat"


@pytest.mark.parametrize(
    "file",
    [
        "sub-01/anat/sub-01_T2w.nii.gz.part",
        "sub-01/anat/._sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_T2w.json",
        "sub-01/dwi/sub-01_T2w.nii.gz",
        "sub-01/anat/old/sub-01_T2w.nii.gz",
        "sub-01/anat/sub-01_T2starw.nii.gz",
        "sub-01/anat/sub-01_inv-3_MP2RAGE.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T2w.nii.gz",
        "derivatives/labels/sub-01/anat/sub-01_T2w.nii.gz",
        ".git/sub-01/anat/sub-01_T2w.nii.gz",
        "anat/sub-01_T2w.nii.gz",
    ],
)
def test_other_files_are_no_images(tmp_path: Path, file: str) -> None:
    touch(tmp_path / "ds", "sub-02/anat/sub-02_T2w.nii.gz", "sub-01/x", file)
    found = find_items(study_of(tmp_path / "ds"), ROOTLETS)
    assert sources(found) == ["sub-02_T2w.nii.gz"]
    assert not found.left_out


@pytest.mark.parametrize(
    ("line", "ignored"),
    [
        ("sub-01/", ["sub-01_INV1", "sub-01_T2w"]),
        ("/sub-01", ["sub-01_INV1", "sub-01_T2w"]),
        ("**/sub-01/anat", ["sub-01_INV1", "sub-01_T2w"]),
        ("sub-01_*", ["sub-01_T2w"]),
        ("*_T2w.nii.gz", ["sub-01_T2w", "sub-02_T2w"]),
        ("sub-*/anat/*_T2w.*", ["sub-01_T2w", "sub-02_T2w"]),
        ("**/*_INV1.nii.gz", []),
        ("# sub-01", []),
        ("!sub-01", []),
        ("", []),
    ],
)
def test_bidsignore_keeps_images_out(tmp_path: Path, line: str, ignored: list[str]) -> None:
    names = ("sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/sub-01_INV1.nii.gz")
    touch(tmp_path / "ds", *names, "sub-02/anat/sub-02_T2w.nii.gz")
    (tmp_path / "ds/.bidsignore").write_text(f"code\n{line}\n")
    found = find_items(study_of(tmp_path / "ds"), ROOTLETS)
    assert [Path(left.path).name.partition(".")[0] for left in found.left_out] == ignored


def test_two_images_with_one_result_are_named(tmp_path: Path) -> None:
    names = ("sub-01_INV1.nii.gz", "sub-01_inv-1_MP2RAGE.nii.gz")
    touch(tmp_path / "ds", *(f"sub-01/anat/{name}" for name in names))
    with pytest.raises(UsageError, match=r"sub-01_INV1.* and .*MP2RAGE.* would both become"):
        find(tmp_path / "ds")
    lab = replace(study_of(tmp_path / "ds"), naming="neuropoly")
    assert sources(find_items(lab, ROOTLETS)) == list(names)
    suffix = {"INV1": {"suffix": "MP2RAGE"}}
    assert find(tmp_path / "ds", filters=suffix) == ["sub-01_inv-1_MP2RAGE.nii.gz"]


@pytest.mark.parametrize(
    ("files", "kind", "expected"),
    [
        (["labels|_T2w_label-SC_seg", "labels|_T2w_seg"], "cord", "labels|_T2w_label-SC_seg"),
        (["a|_T2w_label-SC_mask", "labels|_T2w_seg"], "cord", "labels|_T2w_seg"),
        (["b|_T2w_seg", "a|_T2w_seg"], "cord", "a|_T2w_seg"),
        (["a|_label-cord_mask"], "cord", "a|_label-cord_mask"),
        (["a|_space-orig_label-cord_dseg"], "cord", "a|_space-orig_label-cord_dseg"),
        (["a|_space-orig_label-SC_desc-UNIT1_mask"], "cord", None),
        (["a|_acq-x_T2w_seg"], "cord", None),
        (["a|_T1w_seg", "a|_T2w_gmseg", "a|_T2w_label-GM_seg"], "cord", None),
        (["labels|_T2w_labels-disc"], "discs", "labels|_T2w_labels-disc"),
        (["labels|_T2w_label-disc_dlabel"], "discs", "labels|_T2w_label-disc_dlabel"),
        (["labels|_T2w_labels-pmj-manual"], "pmj", "labels|_T2w_labels-pmj-manual"),
        (["x|_space-orig_label-PMJ_dlabel"], "pmj", "x|_space-orig_label-PMJ_dlabel"),
    ],
)
def test_derivatives_are_taken_by_the_best_name(
    tmp_path: Path, files: list[str], kind: str, expected: str | None
) -> None:
    def place(file: str) -> str:
        folder, _, ending = file.partition("|")
        return f"derivatives/{folder}/sub-01/anat/sub-01{ending}.nii.gz"

    touch(tmp_path / "ds", "sub-01/anat/sub-01_T2w.nii.gz", *map(place, files))
    (item,) = find_items(study_of(tmp_path / "ds"), ROOTLETS).items
    assert item.landmarks == ({kind: tmp_path / "ds" / place(expected)} if expected else {})


def test_the_choice_between_two_derivatives_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = "derivatives/labels/sub-01/anat"
    names = (f"{folder}/sub-01_T2w_seg.nii.gz", f"{folder}/sub-01_T2w_label-SC_seg.nii")
    touch(tmp_path / "ds", "sub-01/anat/sub-01_T2w.nii.gz", *names)
    with caplog.at_level("INFO"):
        find(tmp_path / "ds")
    assert f"{names[1]} is used, not {names[0]}" in caplog.text


def test_a_mask_of_a_contrast_belongs_to_it(tmp_path: Path) -> None:
    images = ("sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/sub-01_inv-1_MP2RAGE.nii.gz")
    masks = [
        f"derivatives/x/sub-01/anat/sub-01_space-orig_label-SC{desc}_mask.nii.gz"
        for desc in ("", "_desc-INV1")
    ]
    touch(tmp_path / "ds", *images, *masks)
    items = find_items(study_of(tmp_path / "ds"), ROOTLETS).items
    assert [item.landmarks for item in items] == [{"cord": tmp_path / "ds" / m} for m in masks]


def test_a_derivative_without_content_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = "derivatives/labels/sub-01/anat"
    touch(tmp_path / "ds", "sub-01/anat/sub-01_T2w.nii.gz", f"{folder}/other")
    mask = tmp_path / "ds" / folder / "sub-01_T2w_seg.nii.gz"
    mask.symlink_to("../../../../.git/annex/objects/a/b/KEY/KEY")
    (item,) = find_items(study_of(tmp_path / "ds"), ROOTLETS).items
    assert item.landmarks == {}
    assert "datalad get" in caplog.text


def test_results_in_the_data_set_are_no_derivatives_of_others(tmp_path: Path) -> None:
    mask = "derivatives/rootlets/sub-01/anat/sub-01_T2w_seg.nii.gz"
    bids_dir = touch(tmp_path / "ds", "sub-01/anat/sub-01_T2w.nii.gz", mask)
    out = bids_dir / "derivatives/rootlets"
    (item,) = find_items(Study(bids_dir, out, out / "work"), ROOTLETS).items
    assert item.landmarks == {}


@pytest.mark.parametrize(
    "name",
    [
        "sub-02_space-orig_seg-rootlets_desc-UNIT1_dseg.nii.gz",
        "deep/er/sub-02_space-orig_seg-rootlets_desc-UNIT1_dseg.nii",
        "sub-02/anat/sub-02_UNIT1_label-rootlets_dseg.nii.gz",
    ],
)
@pytest.mark.parametrize("naming", ["bids", "neuropoly"])
def test_corrected_maps_are_found_by_either_name(small: Path, name: str, naming: str) -> None:
    study = replace(study_of(small), naming=naming)
    touch(study.out_dir / "corrected", name, "sub-02_UNIT1.nii.gz")
    items = find_items(study, ROOTLETS).items
    corrected = {item.contrast: item.corrected for item in items if item.corrected}
    assert corrected == {"UNIT1": study.out_dir / "corrected" / name}


def test_corrected_maps_may_lie_elsewhere(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ("b/sub-02_UNIT1_label-rootlets_dseg.nii", "a/sub-02_UNIT1_label-rootlets_dseg.nii.gz")
    mine = touch(small.parent / "mine", *names)
    study = replace(study_of(small), corrected=mine)
    item = next(i for i in find_items(study, ROOTLETS).items if i.contrast == "UNIT1")
    assert item.corrected == mine / names[1]
    assert "is used as corrected, not" in caplog.text
    with pytest.raises(UsageError, match="--corrected: there is no folder"):
        find_items(replace(study, corrected=small / "none"), ROOTLETS)


def test_a_data_set_without_a_valid_description_is_read(small: Path) -> None:
    expected = find(small)
    for text in ("{broken", '{"BIDSVersion": 1.8}', "[]"):
        (small / "dataset_description.json").write_text(text)
        (small / "sub-01/ses-1/anat/sub-01_ses-1_T2w.json").write_text(text)
        assert find(small) == expected


def test_a_prepared_data_set_of_the_reader_is_not_run(small: Path) -> None:
    expected = find(small)
    (small / ".ancpbids-dataset.pickle").write_bytes(b"cos\n_exit\n(I3\ntR.")
    assert find(small) == expected


def test_links_are_followed_and_end(small: Path) -> None:
    (small / "sub-04").symlink_to("sub-03")
    (small / "sub-05").symlink_to(".")
    (small / "sub-02/ses-x").symlink_to("..")
    (small / "derivatives").symlink_to(".")
    elsewhere = touch(small.parent / "disk", "sub-06/anat/sub-06_T2w.nii.gz")
    (small / "sub-06").symlink_to(elsewhere / "sub-06")
    (small.parent / "link").symlink_to(small)
    assert "sub-06_T2w.nii.gz" in find(small)
    assert find(small.parent / "link") == find(small)


def test_a_closed_folder_is_left_out(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> Any:
        if path.endswith(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path)

    closed, real = "sub-01/ses-1/anat", os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    found = find_items(study_of(small), ROOTLETS)
    assert [(left.path, left.reason) for left in found.left_out] == [
        (closed, "the folder cannot be read (Permission denied)")
    ]
    assert len(found.items) == 4
    closed = "small"
    with pytest.raises(UsageError, match="Check its permissions"):
        find(small)


@pytest.mark.parametrize("name", ["-o", "a b", "new\nline", "back\\slash", "[x]*", "ends.with/"])
def test_the_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    bids_dir = touch(tmp_path / name, "sub-01/anat/sub-01_T2w.nii.gz")
    assert find(bids_dir) == ["sub-01_T2w.nii.gz"]


def test_a_relative_folder_is_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = find(small)
    monkeypatch.chdir(small)
    assert find(Path()) == expected
    monkeypatch.chdir(small.parent)
    assert find(Path("small")) == expected


def test_more_subjects_than_the_reader_sees_at_once(tmp_path: Path) -> None:
    names = [f"sub-{number:03d}" for number in range(450)]
    touch(tmp_path / "ds", *(f"{name}/anat/{name}_T2w.nii.gz" for name in names))
    assert find(tmp_path / "ds") == [f"{name}_T2w.nii.gz" for name in names]


def test_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        find(tmp_path / "none")
    with pytest.raises(UsageError, match="has no folders sub-"):
        find(touch(tmp_path, "anat/T2w.nii.gz"))


def test_reading_says_nothing(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (small / "dataset_description.json").write_text(json.dumps({"BIDSVersion": "9.9"}))
    find(small)
    assert capfd.readouterr() == ("", "")
