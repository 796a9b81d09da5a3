"""The group level: table, statistics, figures, methods."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from cohort_case import MIDPOINTS, write_failed, write_results, write_study
from sct_rootlets_task.errors import DatasetError, OutputError, UsageError
from sct_rootlets_task.study.cohort import COLUMNS, read_cohort
from sct_rootlets_task.study.figures import draw_distribution
from sct_rootlets_task.study.group import GroupResult, run_group
from sct_rootlets_task.study.statistics import distributions, missing_levels, robust_z

SUBJECTS = 12


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("study")
    write_study(folder, SUBJECTS)
    return folder


@pytest.fixture(scope="module")
def result(study: Path) -> GroupResult:
    return run_group(study)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_the_table_has_a_row_for_each_level_of_each_image(study: Path, result: GroupResult) -> None:
    rows = read_table(study / "group_levels.tsv")
    assert list(rows[0]) == list(COLUMNS)
    third = SUBJECTS // 3
    assert len(rows) == (SUBJECTS + third) * len(MIDPOINTS) - 1 + 1  # one missing, one failed
    assert (result.images, result.failed) == (SUBJECTS + third + 1, 1)


def test_a_failed_image_has_a_row_and_says_why(study: Path, result: GroupResult) -> None:
    rows = [row for row in read_table(study / "group_levels.tsv") if row["status"] != "done"]
    assert [(row["subject"], row["error"], row["spinal_level"]) for row in rows] == [
        ("sub-13", "ImageError", "n/a")
    ]


def test_what_a_person_corrected_is_marked(study: Path, result: GroupResult) -> None:
    rows = read_table(study / "group_levels.tsv")
    assert {row["subject"] for row in rows if row["corrected"] == "yes"} == {"sub-07"}


def test_the_missing_level_is_named(study: Path, result: GroupResult) -> None:
    rows = read_table(study / "group_levels.tsv")
    assert {row["subject"] for row in rows if row["missing_levels"] == "C4"} == {"sub-05"}
    lacking = missing_levels(read_cohort(study))
    assert {level: [one.subject for one in some] for level, some in lacking.items()} == {
        4: ["sub-05"]
    }


def test_the_value_that_stands_out_is_named(study: Path, result: GroupResult) -> None:
    rows = [row for row in read_table(study / "group_outliers.tsv") if row["level_name"] == "C5"]
    far = [row for row in rows if row["measure"] == "distance_midpoint"]
    assert [(row["subject"], row["value"], row["distance_origin"]) for row in far] == [
        ("sub-03", "40.0", "pmj")
    ]
    assert float(far[0]["robust_z"]) < -3.5


def test_the_summary_has_the_figures_of_numpy(study: Path, result: GroupResult) -> None:
    values = np.array(
        [
            float(row["level_height"])
            for row in read_table(study / "group_levels.tsv")
            if (row["contrast"], row["level_name"]) == ("T2w", "C6")
        ]
    )
    (row,) = (
        row
        for row in read_table(study / "group_summary.tsv")
        if (row["contrast"], row["level_name"], row["measure"]) == ("T2w", "C6", "level_height")
    )
    assert int(row["n"]) == len(values) == SUBJECTS
    assert float(row["median"]) == pytest.approx(np.median(values), abs=1e-3)
    assert float(row["q3"]) == pytest.approx(np.quantile(values, 0.75), abs=1e-3)


def test_a_robust_z_is_that_of_the_formula() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 100])
    mad = np.median(np.abs(values - np.median(values)))
    assert robust_z(values) == pytest.approx((values - np.median(values)) / (1.4826 * mad))
    assert np.isnan(robust_z(values[:7])).all()
    assert np.isnan(robust_z(np.array([1.0] * 8 + [2]))).all()


def test_distances_of_several_origins_are_not_compared(tmp_path: Path) -> None:
    write_results(tmp_path, subject="sub-01")
    table = next(tmp_path.rglob("*_levels.tsv"))
    table.write_text(table.read_text().replace("\tpmj\t", "\tcord_mask_top\t"))
    write_results(tmp_path, subject="sub-02", seed=1)
    found = [one for one in distributions(read_cohort(tmp_path)) if one.measure.has_origin]
    assert [one.origin for one in found] == ["cord_mask_top", "pmj"]
    assert [len(one.by_level[5]) for one in found] == [1, 1]


def test_the_same_results_give_the_same_bytes(
    study: Path, result: GroupResult, tmp_path: Path
) -> None:
    write_study(tmp_path, SUBJECTS)
    again = run_group(tmp_path)
    ours = [path for path in result.paths if path.suffix != ".json"]
    theirs = [path for path in again.paths if path.suffix != ".json"]
    for one, other in zip(ours, theirs, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_figures_for_a_paper_have_text_and_no_links(study: Path, result: GroupResult) -> None:
    svg = (study / "figures" / "distance_midpoint_pmj_T2w.svg").read_text()
    assert ">C5<" in svg
    assert "(mm)" in svg
    assert 'href="dot' not in svg
    assert (study / "figures" / "distance_midpoint_pmj_T2w.png").read_bytes()[1:4] == b"PNG"


def test_each_dot_links_to_its_image(study: Path) -> None:
    found = next(one for one in distributions(read_cohort(study)) if one.contrast == "T2w")
    svg = draw_distribution(found).linked_svg(lambda value: f"index.html#{value.image.subject}")
    links = re.findall(r'<a href="index.html#(sub-\d+)"><title>(sub-\d+) T2w · (\w+) · ', svg)
    assert len(links) == len(found.values)
    assert all(there == said for there, said, _ in links)
    assert ("sub-03", "sub-03", "C5") in links


def test_the_page_escapes_what_it_is_given(tmp_path: Path) -> None:
    write_results(tmp_path, subject="sub-01", contrast="<b>x<b>")
    page = run_group(tmp_path).page.read_text()
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


def test_the_methods_say_what_was_run(study: Path, result: GroupResult) -> None:
    text = (study / "logs" / "CITATION.md").read_text()
    for words in ("16 images (12 T2w, 4 UNIT1) of 12 subjects", "The model starter [2]",
                  "openvino 2026.1 (f32)", "C2–T1", "(PMJ)", "1 level map.", "(C4)"):  # fmt: skip
        assert words in text
    marks = {int(mark) for mark in re.findall(r"\[(\d+)\]", text)}
    assert marks == {int(n) for n in re.findall(r"^(\d+)\. ", text, re.MULTILINE)} == {1, 2, 3, 4}


def test_the_latest_rating_counts_and_says_whose_it_is(study: Path, tmp_path: Path) -> None:
    ratings = tmp_path / "qc_ratings.csv"
    name = "sub-02_space-orig_seg-rootlets_dseg.nii.gz"
    ratings.write_text(
        "subject,session,segmentation,rating,rater,rated_at,segmentation_path\n"
        f"sub-02,,{name},fail,Ann,2026-02-01,\n"
        f"sub-02,,{name},pass,Bo,2026-01-01,\n"
        f"x,,{name},pass,Cy,2026-01-01,"
        f"{study.resolve() / 'sub-04/anat' / name.replace('02', '04')}\n"
    )
    found = {image.subject: image for image in read_cohort(study, [ratings])}
    assert (found["sub-02"].rating, found["sub-02"].rater) == ("fail", "Ann")
    assert (found["sub-04"].rating, found["sub-04"].rater) == ("pass", "Cy")
    assert not found["sub-01"].rating


def test_ratings_that_are_not_there_are_an_error_of_the_command(study: Path) -> None:
    with pytest.raises(UsageError, match="ratings cannot be read"):
        run_group(study, ratings=[study / "none.csv"])


def test_no_results_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="participant level first"):
        run_group(tmp_path)


def test_a_table_of_somebody_else_is_kept(tmp_path: Path) -> None:
    write_results(tmp_path, subject="sub-01")
    other = tmp_path / "group_levels.tsv"
    other.write_text("mine\n1\n")
    with pytest.raises(OutputError, match="kept"):
        run_group(tmp_path)
    assert other.read_text() == "mine\n1\n"


@pytest.mark.parametrize("ending", ["_levels.json", "_levels.tsv", "_record.json"])
def test_what_is_damaged_is_left_out_and_named(
    tmp_path: Path, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        write_results(tmp_path, subject=f"sub-0{number}")
    (broken,) = (tmp_path / "sub-01").rglob(f"*{ending}")
    broken.write_bytes(b"\xff\xfe{")
    assert [image.subject for image in read_cohort(tmp_path)] == ["sub-02"]
    assert "sub-01_space-orig_seg-rootlets" in caplog.text


def test_a_study_in_which_all_failed_has_tables_too(tmp_path: Path) -> None:
    write_failed(tmp_path, "sub-01", "OutOfMemoryError")
    result = run_group(tmp_path)
    assert (result.images, result.failed, result.outliers) == (1, 1, 0)
    assert "OutOfMemoryError" in result.page.read_text()
    content = json.loads((tmp_path / "group_levels.json").read_text())
    assert set(COLUMNS) < set(content)
