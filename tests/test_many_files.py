"""The single commands on many level maps: which files belong together, one table, failures."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.cli.many import LEADING
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.io.atomic import csv_text
from sct_rootlets_task.io.level_maps import file_by_pattern, find_level_maps
from sct_rootlets_task.io.ownership import is_ours
from sct_rootlets_task.io.tables import table_text, tsv_text
from test_relabel import phantom

LEVELS = range(2, 10)
SUBJECTS = ("sub-01", "sub-02", "sub-03")
FIRST = ["subject", "session", "file", "level", "level_name"]


def save(array: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, phantom().affine), path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a data set of three subjects; the second lacks C5."""
    folder = tmp_path_factory.mktemp("made")
    labels, cord = phantom().labels, phantom().cord.astype(np.uint8)
    for subject in SUBJECTS:
        name = f"ds/{subject}/ses-1/anat/{subject}_ses-1_T2w"
        own = np.where(labels == 5, 0, labels) if subject == "sub-02" else labels
        save(own, folder / f"{name}_rootlets.nii.gz")
        save(cord, folder / f"{name}_seg.nii.gz")
        save((labels + 10).astype(np.float32), folder / f"{name}.nii.gz")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with links to the files, which a test may change."""
    for path in made.rglob("*.nii.gz"):
        link = tmp_path / path.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(subject: str, ending: str = "_rootlets") -> str:
    return f"ds/{subject}/ses-1/anat/{subject}_ses-1_T2w{ending}.nii.gz"


def run(command: str) -> int:
    return main(shlex.split(command))


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.endswith("tsv") else ","))


# One table


def test_levels_of_a_data_set_are_one_table_with_a_description(folder: Path) -> None:
    words = "-s '{folder}/{image}_seg.nii.gz' -o maps -csv levels.tsv"
    assert run(f"levels -i ds {words}") == 0
    rows = rows_of("levels.tsv")
    assert list(rows[0])[:5] == FIRST == list(LEADING)
    assert [(row["subject"], int(row["level"])) for row in rows] == [
        (subject, level) for subject in SUBJECTS for level in LEVELS
    ]
    assert {row["session"] for row in rows} == {"ses-1"}
    assert rows[3]["file"] == of("sub-01")
    assert rows[3]["level_name"] == "C5"
    assert {row["distance_origin"] for row in rows} == {"cord_mask_top"}
    assert rows[0]["distance_from_pmj_start"] == "n/a"
    about = json.loads(Path("levels.json").read_text())
    assert list(about["Columns"]) == list(rows[0])
    assert about["Columns"]["level_height"]["Units"] == "mm"
    assert "Units" not in about["Columns"]["distance_origin"]
    assert about["Sources"] == [of(subject) for subject in SUBJECTS]
    name = "sub-03_ses-1_T2w_rootlets_levels"
    assert Path(f"maps/{name}.nii.gz").is_file()
    sidecar = json.loads(Path(f"maps/{name}.json").read_text())
    assert sidecar["Sources"] == ["sub-03_ses-1_T2w_rootlets.nii.gz"]
    command = sidecar["GeneratedBy"][0]["Name"]
    assert "sub-03_ses-1_T2w_seg.nii.gz" in command
    assert "sub-01" not in command


def test_the_figures_are_those_of_each_image_alone(folder: Path) -> None:
    assert run(f"levels -i {of('sub-01')} {of('sub-02')} -csv all.csv") == 0
    assert run(f"levels -i {of('sub-02')} -csv one.csv") == 0
    alone = rows_of("one.csv")
    together = [row for row in rows_of("all.csv") if row["subject"] == "sub-02"]
    for mine, other in zip(alone, together, strict=True):
        assert mine.pop("spinal_level") == other["level"]
        assert mine.pop("fname") == Path(other["file"]).name
        assert mine == {name: other[name] for name in mine}


def test_flags_are_a_row_each_and_a_line_an_image(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check -i ds -csv flags.csv -o report.json -strict") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{of('sub-01')}: The check found 0 warning(s) and 0 note(s)."
    assert "1 of 3 level map(s) have warnings." in lines
    (row,) = rows_of("flags.csv")
    assert list(row)[:5] == FIRST
    known = [row[name] for name in ("subject", "level", "level_name", "code", "severity")]
    assert known == ["sub-02", "5", "C5", "level_missing", "warning"]
    assert row["x_mm"] in row["text"] or row["voxel_i"] in row["text"]
    report = json.loads(Path("report.json").read_text())
    assert [len(one["Flags"]) for one in report["LevelMaps"]] == [0, 1, 0]
    assert run(f"check -i {of('sub-01')} {of('sub-03')} -strict") == 0


def test_parts_are_four_maps_each_and_a_row_a_level_and_bundle(folder: Path) -> None:
    words = "-s 'ds/{subject}/{session}/anat/*_seg.nii.gz' -o parts -csv parts.tsv"
    assert run(f"split -i ds {words}") == 0
    rows = rows_of("parts.tsv")
    assert len(rows) == (8 + 7 + 8) * 4
    whole = np.asarray(nib.load(of("sub-02")).dataobj)
    sides = [f"{side}_{root}" for side in ("left", "right") for root in ("dorsal", "ventral")]
    names = [f"parts/sub-02_ses-1_T2w_rootlets_{side}.nii.gz" for side in sides]
    assert np.array_equal(sum(np.asarray(nib.load(name).dataobj) for name in names), whole)
    of_c3 = [row for row in rows if (row["subject"], row["level"]) == ("sub-02", "3")]
    assert [f"{row['side']}_{row['root']}" for row in of_c3] == sides
    assert sum(int(row["voxels"]) for row in of_c3) == np.count_nonzero(whole == 3)
    volume = abs(np.linalg.det(phantom().affine[:3, :3]))
    assert float(of_c3[0]["volume_mm3"]) == pytest.approx(int(of_c3[0]["voxels"]) * volume)


def test_agreement_is_a_row_an_image_and_level(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = " ".join(of(subject) for subject in SUBJECTS)
    assert run(f"evaluate -i {maps} -gt {maps} -csv all.csv -o figures.json") == 0
    assert f"{of('sub-02')}: mean Dice 1.00" in capsys.readouterr().out
    rows = rows_of("all.csv")
    assert list(rows[0])[:5] == FIRST
    assert [row["level_name"] for row in rows[:10]] == [*rows_of_levels(), "all", "mean"]
    assert [row["level"] for row in rows[7:10]] == ["9", "", ""]
    assert json.loads(Path("figures.json").read_text())["LevelMaps"][1]["subject"] == "sub-02"


def rows_of_levels() -> list[str]:
    return ["C2", "C3", "C4", "C5", "C6", "C7", "C8", "T1"]


def test_one_report_takes_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("qc -s ds -i '{folder}/{image}.nii.gz' -o qc") == 0
    assert len(list((folder / "qc" / "entries").iterdir())) == 3
    assert capsys.readouterr().out.count("To see all images") == 1
    assert run("qc -s ds -i '{folder}/{image}.nii.gz' -o qc -subject one") == 2


# One input is as it was


def test_the_table_of_one_file_has_no_leading_columns(folder: Path) -> None:
    assert run(f"evaluate -i {of('sub-01')} -gt {of('sub-01')} -csv one.csv") == 0
    assert Path("one.csv").read_text().startswith("level,dice,")
    assert not Path("one.json").exists()
    assert run(f"levels -i {of('sub-01')} -csv levels.csv") == 0
    assert Path("levels.csv").read_text().startswith("spinal_level,fname,")


def test_a_folder_with_one_map_gives_the_table_of_many(folder: Path) -> None:
    assert run("levels -i ds/sub-01 -csv levels.csv") == 0
    assert Path("levels.csv").read_text().startswith(",".join(FIRST))


# Failures


def test_one_that_fails_is_named_and_the_others_are_in_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(of("sub-02", "_seg")).unlink()
    broken = folder / of("sub-01")
    broken.unlink()
    broken.write_text("no image")
    words = "-s '{folder}/{image}_seg.nii.gz' -o maps -csv levels.csv"
    assert run(f"levels -i ds {words}") == 1
    output = capsys.readouterr()
    assert re.search(f"sct_rootlets: error: .*{of('sub-01')} cannot be read", output.err)
    assert "Image 2 of 3" in output.err
    assert f"Expected one file {of('sub-02', '_seg')} for the level map" in output.err
    summary = f"Failed: 2 of 3 images:\n  {of('sub-01')}\n  {of('sub-02')}\n"
    assert output.err.endswith(summary)
    assert {row["subject"] for row in rows_of("levels.csv")} == {"sub-03"}
    assert json.loads(Path("levels.json").read_text())["Failed"] == [of("sub-01"), of("sub-02")]
    assert len(list(Path("maps").glob("*.nii.gz"))) == 1


def test_where_all_fail_the_table_is_a_header(folder: Path) -> None:
    for subject in SUBJECTS[:2]:
        (folder / of(subject)).unlink()
        (folder / of(subject)).write_text("no image")
    assert run(f"check -i {of('sub-01')} {of('sub-02')} -csv flags.tsv") == 1
    assert len(Path("flags.tsv").read_text().splitlines()) == 1


ONE, TWO, THREE = map(of, SUBJECTS)
MASKS = " ".join(of(subject, "_seg") for subject in SUBJECTS)
WRONG = [
    (f"levels -i ds -s {of('sub-01', '_seg')} {of('sub-02', '_seg')} -csv new.csv",
     f"found 2 and 3: {of('sub-01', '_seg')} with {ONE}; "),
    (f"split -i {TWO} {ONE} {THREE} -s {MASKS} -o new", "Expected files of one subject"),
    ("check -i ds -s '{folder}/nothing.nii.gz' -csv new.csv", "Expected one file ds/sub-01"),
    ("check -i ds -task nothing -csv new.csv", "rootlets"),
    ("levels -i ds -s '{folder}/{image}_seg.nii.gz' -o new.nii.gz", "Give a folder"),
    (f"levels -i ds -csv {ONE}", "would replace an input"),
    (f"check -i ds -s '{{folder}}/{{image}}_seg.nii.gz' -o {of('sub-03', '_seg')}",
     "would replace an input"),
    ("check -i ds -csv new.csv -o new.json", "-o and -csv would both be written to new.json"),
    ("check -i empty -csv new.csv", "Expected level maps in the folder empty"),
    (f"evaluate -i ds -gt {ONE} -csv new.csv", "found 1 and 3"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), WRONG)
def test_a_wrong_command_ends_before_anything_is_run(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    Path("empty").mkdir()
    before = sorted(folder.rglob("*"))
    assert run(command) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert "Image 1" not in output.err
    assert sorted(folder.rglob("*")) == before


def test_maps_of_one_name_are_not_written_over_each_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subject in SUBJECTS[:2]:
        save(phantom().labels, folder / subject / "t2_rootlets.nii.gz")
    words = f"-s {of('sub-01', '_seg')} {of('sub-02', '_seg')} -o parts"
    assert run(f"split -i sub-01/t2_rootlets.nii.gz sub-02/t2_rootlets.nii.gz {words}") == 2
    assert "would both be written to parts/t2_rootlets_left_dorsal" in capsys.readouterr().err


def test_one_given_twice_is_used_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"levels -i ds {ONE} ./{TWO} -csv levels.csv") == 0
    assert len(rows_of("levels.csv")) == 3 * len(LEVELS)
    assert f"{ONE} was given more than once" in capsys.readouterr().err


def test_a_table_is_known_again_and_another_is_kept(folder: Path) -> None:
    for name in ("levels.tsv", "levels.csv"):
        assert run(f"levels -i ds -csv {name}") == 0
        assert run(f"levels -i ds -csv {name}") == 0
        Path(name).write_text("mine\n")
        assert run(f"levels -i ds -csv {name}") == 2
        assert Path(name).read_text() == "mine\n"
        Path(name).unlink()
    Path("levels.json").write_text('{"mine": 1}')
    assert run("levels -i ds -csv levels.tsv") == 2
    assert not is_ours(Path("levels.json"))


# Level maps in a folder


def test_only_level_maps_of_rootlets_are_found(tmp_path: Path) -> None:
    wanted = [
        "derivatives/sub-02/anat/sub-02_T2w_label-rootlets_dseg.nii.gz",
        "sub-01/anat/sub-01_space-orig_seg-rootlets_desc-UNIT1_dseg.nii.gz",
        "sub-01/anat/sub-01_space-orig_seg-rootlets_dseg.nii.gz",
        "sub-03_rootlets.nii.gz",
    ]
    others = [
        "work/sub-01_rootlets.nii.gz",
        "sub-01/qc/sub-01_rootlets.nii.gz",
        ".git/annex/sub-01_rootlets.nii.gz",
        "sub-01/.sct_rootlets-00_rootlets.nii.gz",
        "sub-01/sub-01_T2w.nii.gz",
        "sub-01/sub-01_T2w_rootlets_left_dorsal.nii.gz",
        "sub-01/sub-01_space-orig_seg-spinallevels_dseg.nii.gz",
        "sub-01/sub-01_rootlets.json",
    ]
    for name in (*wanted, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_level_maps(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == wanted
    assert len(find_level_maps(tmp_path / "work")) == 1, "the folder itself may be called anything"
    with pytest.raises(UsageError, match="Expected level maps"):
        find_level_maps(tmp_path / "sub-01" / "qc" / "nothing")


def test_a_corrected_map_stands_for_the_one_of_its_name_and_subject(tmp_path: Path) -> None:
    names = [
        "corrected/sub-01/t2_rootlets.nii.gz",
        "sub-01/t2_rootlets.nii.gz",
        "sub-02/t2_rootlets.nii.gz",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_level_maps(tmp_path)]
    assert found == [names[0], names[2]]


# Patterns


@pytest.mark.parametrize(
    ("level_map", "pattern", "expected"),
    [
        ("d/sub-1_T2w_rootlets.nii.gz", "{folder}/{image}_seg.nii.gz", "d/sub-1_T2w_seg.nii.gz"),
        ("d/sub-1_T2w_label-rootlets_dseg.nii.gz", "d/{image}.nii.gz", "d/sub-1_T2w.nii.gz"),
        ("sub-1_space-orig_seg-rootlets_dseg.nii.gz", "{image}_T2w.nii.gz", "sub-1_T2w.nii.gz"),
        ("x/sub-1_rootlets.nii.gz", "m/{subject}_{session}_cord.nii", "m/sub-1_cord.nii"),
        ("x/sub-1_rootlets.nii.gz", "m/{subject}/{session}/c.nii", "m/sub-1/c.nii"),
        ("sub-1/ses-a/r_rootlets.nii.gz", "{subject}_{session}.nii", "sub-1_ses-a.nii"),
        ("a [b]*/t_rootlets.nii.gz", "{folder}/*_seg.nii", "a [b]*/t_seg.nii"),
        ("d/t_rootlets.nii.gz", "{folder}/{t}{image}.nii", "d/{t}t.nii"),
    ],
)
def test_a_pattern_names_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level_map: str, pattern: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (level_map, expected, "a [b]x/other_seg.nii"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert file_by_pattern(pattern, Path(level_map)) == Path(expected)


def test_a_pattern_that_fits_two_files_or_needs_an_unknown_subject_is_refused(
    tmp_path: Path,
) -> None:
    for name in ("a_seg.nii", "b_seg.nii"):
        (tmp_path / name).touch()
    with pytest.raises(ImageError, match="found 2: "):
        file_by_pattern("{folder}/*_seg.nii", tmp_path / "x_rootlets.nii.gz")
    with pytest.raises(ImageError, match="Expected a subject"):
        file_by_pattern("{subject}.nii", Path("x_rootlets.nii.gz"))


def test_a_tsv_cell_is_one_cell() -> None:
    row = {"a": "x\ty\nz", "b": None, "c": "", "d": 0, "e": 1.5}
    assert tsv_text([row], list(row)) == "a\tb\tc\td\te\nx\\ty\\nz\tn/a\tn/a\t0\t1.5\n"
    path = Path("t.csv")
    assert table_text(path, [row], ["b", "d"]) == csv_text([{"b": None, "d": 0}], ["b", "d"])
