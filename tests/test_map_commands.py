"""``check``, ``levels``, ``relabel`` and ``split``: exit codes, files and messages."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task import registry
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.io.outputs import SIDECAR
from sct_rootlets_task.levels.located_canal import LocatedLevel, LocatedLevels
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.geometry import slice_axis
from sct_rootlets_task.segmentation import locator
from sct_rootlets_task.tasks import TaskRegistry
from test_relabel import discs, located, phantom

LEVELS = list(range(2, 10))
OLD = b"an older result"


def disc_labels() -> np.ndarray:
    labels = np.zeros(phantom().labels.shape, np.uint8)
    inverse = np.linalg.inv(phantom().affine)
    for number, point in discs().items():
        voxel = np.round(inverse @ [*point, 1])[:3].astype(int)
        labels[tuple(np.clip(voxel, 0, np.array(labels.shape) - 1))] = number
    return labels


def lower_cord() -> np.ndarray:
    cord = phantom().cord.astype(np.uint8)
    cord[:, :, cord.shape[2] // 2 :] = 0
    return cord


def point_image(value: int) -> np.ndarray:
    """Return a label some mm below the top of the cord, closer above C2 than any PMJ."""
    labels = np.zeros(phantom().labels.shape, np.uint8)
    voxels = np.argwhere(phantom().cord)
    x, y, z = voxels[voxels[:, 2] == voxels[:, 2].max()].mean(axis=0).astype(int)
    labels[x, y, z - 6] = value
    return labels


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with a level map, what goes with it, and files that do not fit."""
    labels, affine = phantom().labels, phantom().affine
    arrays = {
        "seg": labels,
        "shifted": np.where(labels > 2, labels - 1, 0).astype(np.uint8),
        "part": np.where(labels == 5, 0, labels),
        "empty": np.zeros_like(labels),
        "cord": phantom().cord.astype(np.uint8),
        "discs": disc_labels(),
        "image": (labels + 10.0).astype(np.float32),
        "halves": (labels / 2).astype(np.float32),
        "elsewhere": phantom().cord[2:].astype(np.uint8),
        "lower": lower_cord(),
        "pmj": point_image(50),
        "groove": point_image(49),
        "swapped_discs": np.array([0, 1, 2, 4, 3, 5, 6, 7, 8, 9], np.uint8)[disc_labels()],
        "lower_discs": np.where(disc_labels() > 6, disc_labels(), 0),
    }
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image")
    (tmp_path / "old.nii.gz").write_bytes(OLD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the true levels of the canal in the locator's place."""
    monkeypatch.setattr(
        locator, "locate", lambda image: SimpleNamespace(labels=located(), warnings=())
    )


def run(command: str) -> int:
    return main(shlex.split(command))


def labels_of(name: str) -> np.ndarray:
    return np.asarray(nib.load(name).dataobj)


WRONG = [
    ("check", "the following arguments are required: -i"),
    ("check -i seg.nii.gz -task nothing", "rootlets, seg_spinal_rootlets_t2w"),
    ("check -i seg.nii.gz -bogus", "unrecognized arguments"),
    ("levels -i seg.nii.gz", "Give -o OUT, -csv CSV or both"),
    ("levels -i seg.nii.gz -o new.nii.gz", "Give -s CORD too"),
    ("levels -i seg.nii.gz -csv new.csv -method guess", "invalid choice: 'guess'"),
    ("relabel -i seg.nii.gz -o new.nii.gz", "one of the arguments -shift -anchor -map"),
    ("relabel -i seg.nii.gz -o new.nii.gz -shift 1 -map 2:3", "not allowed with argument"),
    ("relabel -i seg.nii.gz -o new.nii.gz -shift up", "expected a whole number from -30 to 30"),
    ("relabel -i seg.nii.gz -o new.nii.gz -anchor C5", "Expected LEVEL:Z"),
    ("relabel -i seg.nii.gz -o new.nii.gz -anchor Q5:3", "Expected a level such as 5, C5"),
    ("relabel -i seg.nii.gz -o new.nii.gz -map 3-4", "Expected OLD:NEW"),
    ("relabel -i seg.nii.gz -o new.nii.gz -map 3:4,C3:5", "twice"),
    ("relabel -i seg.nii.gz -shift 1", "the following arguments are required: -o"),
    ("split -i seg.nii.gz -o new", "the following arguments are required: -s"),
    ("levels -i cord.nii.gz -s seg.nii.gz -csv new.csv", "Which task is the level map cord.nii.gz"),
    ("relabel -i seg.nii.gz -o new.nii.gz -shift 1 -task nothing", "rootlets, seg_spinal"),
    ("relabel -i seg.nii.gz -o text.nii.gz/new.nii.gz -shift 1", "which is no folder"),
    ("check -i seg.nii.gz -o text.nii.gz/new.json", "which is no folder"),
    ("levels -i seg.nii.gz -csv text.nii.gz/new.csv", "which is no folder"),
    ("split -i seg.nii.gz -s cord.nii.gz -o text.nii.gz/new", "which is no folder"),
]


@pytest.mark.parametrize(("command", "message"), WRONG)
def test_a_wrong_command_ends_with_code_2_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    before = sorted(folder.iterdir())
    assert run(command) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.out == ""
    assert sorted(folder.iterdir()) == before


FAILING = [
    ("check -i missing.nii.gz -o old.nii.gz", "There is no image missing.nii.gz"),
    ("check -i text.nii.gz -o old.nii.gz", "cannot be read as a NIfTI image"),
    ("check -i halves.nii.gz -o old.nii.gz", "Expected whole numbers"),
    ("check -i seg.nii.gz -s elsewhere.nii.gz -o old.nii.gz", "grid"),
    ("check -i seg.nii.gz -s missing.nii.gz -o old.nii.gz", "There is no image"),
    ("levels -i seg.nii.gz -s empty.nii.gz -o old.nii.gz", "empty.nii.gz"),
    ("levels -i seg.nii.gz -s elsewhere.nii.gz -o old.nii.gz", "grid"),
    ("levels -i seg.nii.gz -s cord.nii.gz -pmj empty.nii.gz -o old.nii.gz", "empty.nii.gz"),
    ("check -i seg.nii.gz -pmj groove.nii.gz", "groove.nii.gz, found 49"),
    ("levels -i seg.nii.gz -pmj groove.nii.gz -csv new.csv", "groove.nii.gz, found 49"),
    ("check -i seg.nii.gz -pmj discs.nii.gz", "the value 50 at the PMJ in the PMJ label discs"),
    ("check -i seg.nii.gz -s seg.nii.gz", "cord mask seg.nii.gz"),
    ("levels -i seg.nii.gz -s seg.nii.gz -csv new.csv", "cord mask seg.nii.gz"),
    ("split -i seg.nii.gz -s lower.nii.gz -o new", "lower.nii.gz beside all rootlets"),
    ("check -i seg.nii.gz -discs swapped_discs.nii.gz", "swapped_discs.nii.gz"),
    ("relabel -i seg.nii.gz -o old.nii.gz -discs swapped_discs.nii.gz", "swapped_discs.nii.gz"),
    ("relabel -i missing.nii.gz -o old.nii.gz -shift 1", "There is no image"),
    ("relabel -i halves.nii.gz -o old.nii.gz -shift 1", "Expected whole numbers"),
    ("relabel -i seg.nii.gz -o old.nii.gz -anchor C5:4000", "4000"),
    ("relabel -i seg.nii.gz -o old.nii.gz -discs empty.nii.gz", "empty.nii.gz"),
    ("relabel -i seg.nii.gz -o old.nii.gz -locator elsewhere.nii.gz", "grid"),
    ("split -i seg.nii.gz -s elsewhere.nii.gz -o old", "grid"),
    ("split -i seg.nii.gz -s empty.nii.gz -o old", "empty.nii.gz"),
]


@pytest.mark.parametrize(("command", "message"), FAILING)
def test_a_failing_run_ends_with_code_1_and_keeps_what_was_there(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    before = sorted(folder.iterdir())
    assert run(f"{command} -overwrite 1") == 1
    error = capsys.readouterr().err
    assert error.startswith("sct_rootlets: error: ")
    assert message in error
    assert sorted(folder.iterdir()) == before
    assert (folder / "old.nii.gz").read_bytes() == OLD


def cut_short(image: Any, path: Path) -> NoReturn:
    """Write half a file, as on a full disk."""
    Path(path).write_bytes(b"half")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "command",
    [
        "levels -i seg.nii.gz -s cord.nii.gz -o old.nii.gz",
        "relabel -i seg.nii.gz -o old.nii.gz -shift 1",
        "split -i seg.nii.gz -s cord.nii.gz -o new",
    ],
)
def test_an_output_is_replaced_only_by_a_complete_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(nib, "save", cut_short)
    assert run(f"{command} -overwrite 1") == 1
    assert "No space left" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("check -i part.nii.gz", 0),
        ("check -i part.nii.gz -strict", 1),
        ("check -i empty.nii.gz", 0),
        ("check -i empty.nii.gz -strict", 1),
        ("check -i seg.nii.gz -s cord.nii.gz -strict", 0),
    ],
)
def test_only_strict_makes_a_warning_a_failure(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    assert run(command) == code
    output = capsys.readouterr()
    assert ("warning: " in output.out) == ("seg" not in command)
    assert output.err == ""


def test_the_check_names_a_missing_level_and_writes_what_the_sidecar_holds(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check -i part.nii.gz -s cord.nii.gz -o new/report.json") == 0
    assert "C5 was not found" in capsys.readouterr().out
    report = json.loads((folder / "new" / "report.json").read_text())
    assert {f"Plausibility.{key}" for key in report} - set(SIDECAR) == {"Plausibility.GeneratedBy"}
    assert "level_missing" in {flag["code"] for flag in report["Flags"]}


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("reference", ["-locator image.nii.gz", "-discs discs.nii.gz"])
def test_a_shift_is_found_and_the_command_it_names_corrects_it(
    folder: Path, capsys: pytest.CaptureFixture[str], reference: str
) -> None:
    assert run(f"check -i shifted.nii.gz -s cord.nii.gz {reference}") == 0
    command = capsys.readouterr().out.splitlines()[0].partition("this would correct them: ")[2]
    assert run(command.removeprefix("sct_rootlets ")) == 0
    expected = np.where(labels_of("shifted.nii.gz") > 0, phantom().labels, 0)
    assert np.array_equal(labels_of("shifted_relabeled.nii.gz"), expected)


def test_levels_are_written_as_map_and_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "-s cord.nii.gz -o new.nii.gz -csv new.csv -method midpoint"
    assert run(f"levels -i seg.nii.gz {words}") == 0
    assert "Distances are counted from the top of the cord mask." in capsys.readouterr().out
    with (folder / "new.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["spinal_level"]) for row in rows] == LEVELS
    assert {(row["fname"], row["method"]) for row in rows} == {("seg.nii.gz", "midpoint")}
    written = labels_of("new.nii.gz")
    assert np.unique(written).tolist() == [0, *LEVELS]
    assert not written[labels_of("cord.nii.gz") == 0].any()


def test_doubts_about_landmarks_are_seen_on_the_terminal_in_the_table_and_in_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "-i seg.nii.gz -s lower.nii.gz -pmj pmj.nii.gz"
    assert run(f"levels {words} -csv new.csv -o new.nii.gz") == 0
    errors = capsys.readouterr().err.splitlines()
    assert [line for line in errors if line.startswith("WARNING: The PMJ lies")]
    assert [line for line in errors if "does not reach C2–C" in line]
    with (folder / "new.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all("landmark" in row["flags"].split() for row in rows)
    assert {row["slice_start"] for row in rows if "not_covered" in row["flags"].split()} == {""}
    assert not labels_of("new.nii.gz")[labels_of("lower.nii.gz") == 0].any()
    assert run(f"check {words} -o new.json") == 0
    assert "warning: The PMJ lies" in capsys.readouterr().out
    flags = json.loads((folder / "new.json").read_text())["Flags"]
    assert {"landmark", "not_covered"} <= {flag["code"] for flag in flags}


def test_what_was_odd_about_a_file_is_no_doubt_about_what_was_made_of_it(folder: Path) -> None:
    labels = labels_of("seg.nii.gz").astype(np.float32)
    labels[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(labels, nib.load("seg.nii.gz").affine), "odd.nii.gz")
    assert run("relabel -i odd.nii.gz -o new.nii.gz -shift 0") == 0
    assert run("check -i new.nii.gz -o report.json") == 0
    flags = json.loads((folder / "report.json").read_text())["Flags"]
    assert "doubt" not in {flag["code"] for flag in flags}


def test_right_landmarks_make_no_noise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("levels -i seg.nii.gz -s cord.nii.gz -csv new.csv") == 0
    assert run("check -i seg.nii.gz -s cord.nii.gz -discs discs.nii.gz") == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert "Nothing out of the ordinary." in output.out


@pytest.mark.parametrize("cord", ["", "-s cord.nii.gz"])
def test_discs_of_the_lower_levels_leave_right_levels_alone_and_say_what_was_counted(
    folder: Path, caplog: pytest.LogCaptureFixture, cord: str
) -> None:
    assert run(f"relabel -i seg.nii.gz -o new.nii.gz -discs lower_discs.nii.gz {cord}") == 0
    assert np.array_equal(labels_of("new.nii.gz"), phantom().labels)
    assert "numbered by counting: C2–C" in caplog.text


def test_without_a_cord_mask_the_table_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("levels -i seg.nii.gz -csv new.csv") == 0
    output = capsys.readouterr().out
    assert "No cord mask was given" in output
    assert "counted from the cranial end of the rootlets of C2." in output
    with (folder / "new.csv").open(newline="") as file:
        assert {row["distance_origin"] for row in csv.DictReader(file)} == {"C2"}


EMPTY = [
    "levels -i {} -s cord.nii.gz -o old.nii.gz",
    "levels -i {} -csv new.csv",
    "split -i {} -s cord.nii.gz -o new",
    "relabel -i {} -o old.nii.gz -discs discs.nii.gz",
    "relabel -i {} -o old.nii.gz -locator image.nii.gz",
    "evaluate -i seg.nii.gz -gt {}",
]
NOTHING_TO_SHIFT = ["-shift 1", "-anchor C5:10", "-map 3:4"]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("command", EMPTY)
def test_a_map_without_rootlets_is_called_so_by_its_name(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, count: int
) -> None:
    write_few(folder, count)
    assert run(f"{command.format('few.nii.gz')} -overwrite 1") == 1
    error = capsys.readouterr().err
    what = ("no labeled voxel", "a single labeled voxel")[count]
    assert f"few.nii.gz, found {what}. Look whether" in error
    assert (folder / "old.nii.gz").read_bytes() == OLD


@pytest.mark.parametrize("how", NOTHING_TO_SHIFT)
def test_a_map_without_rootlets_is_not_renumbered(
    folder: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    assert run(f"relabel -i empty.nii.gz -o new.nii.gz {how}") == 1
    assert "empty.nii.gz, found no labeled voxel. Look whether" in capsys.readouterr().err
    assert not (folder / "new.nii.gz").exists()
    write_few(folder, 1)
    assert run("relabel -i few.nii.gz -o new.nii.gz -shift 1") == 0
    assert "C4 becomes C5: 1 voxel(s)" in capsys.readouterr().out


def write_few(folder: Path, count: int) -> None:
    labels = np.zeros_like(phantom().labels)
    labels[3, 3, 3] = 4 * count
    nib.save(nib.Nifti1Image(labels, phantom().affine), folder / "few.nii.gz")


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("qc -i image.nii.gz -s empty.nii.gz -o qc", "its page shows the image alone."),
        ("picture -i image.nii.gz -s empty.nii.gz -o new.png", "the picture shows the image alone"),
        ("evaluate -i empty.nii.gz -gt seg.nii.gz", "every level of the reference counts as"),
    ],
)
def test_what_can_show_an_empty_map_says_that_it_is_empty(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, outcome: str
) -> None:
    assert run(command) == 0
    error = capsys.readouterr().err
    assert f"WARNING: empty.nii.gz: the level map holds no labeled voxel; {outcome}" in error


def test_the_check_says_of_an_empty_map_what_is_in_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check -i empty.nii.gz") == 0
    assert "the map holds no labeled voxel." in capsys.readouterr().out
    write_few(folder, 1)
    assert run("check -i few.nii.gz") == 0
    text = capsys.readouterr().out
    assert "the map holds a single labeled voxel." in text
    assert "See voxel [3, 3, 3], RAS" in text


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("-shift 1", ["C3 becomes C4", "T1 is removed"]),
        ("-map 3:4,C4:C3,T1:0", ["C3 becomes C4", "C4 becomes C3", "T1 is removed"]),
        ("-map 3:3", []),
        ("-shift 0", []),
    ],
)
def test_a_renumbering_says_what_it_changed_on_the_terminal_and_in_its_sidecar(
    folder: Path, capsys: pytest.CaptureFixture[str], how: str, said: list[str]
) -> None:
    assert run(f"relabel -i seg.nii.gz -o new.nii.gz {how}") == 0
    lines = capsys.readouterr().out.splitlines()
    counts = {level: int(np.count_nonzero(phantom().labels == level)) for level in LEVELS}
    for text in said:
        level = {"C3": 3, "C4": 4, "T1": 9}[text[:2]]
        assert f"{text}: {counts[level]} voxel(s)" in lines
    assert ("No level changed." in lines) == (not said)
    steps = json.loads((folder / "new.json").read_text())["PostProcessing"]
    moved = np.count_nonzero(labels_of("new.nii.gz") != phantom().labels)
    assert sum(step["VoxelsChanged"] for step in steps) == moved
    assert set(said) <= {step["Name"] for step in steps}


def shift_down(labels: np.ndarray) -> np.ndarray:
    return np.where((labels > 0) & (labels < 9), labels + 1, 0)


RENUMBERED: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
    ("-shift 1", shift_down),
    ("-anchor C6:Z5", shift_down),
    ("-anchor 5:Z5", lambda labels: labels),
    ("-map 3:4,C4:C3,T1:0", lambda labels: np.array([0, 0, 2, 4, 3, 5, 6, 7, 8, 0])[labels]),
    ("-discs discs.nii.gz -s cord.nii.gz", lambda labels: labels),
    ("-locator image.nii.gz", lambda labels: labels),
]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("how", "expected"), RENUMBERED)
def test_levels_are_renumbered_as_asked(
    folder: Path, how: str, expected: Callable[[np.ndarray], np.ndarray]
) -> None:
    labels, (axis, upwards) = phantom().labels, slice_axis(phantom().affine)
    middle = round(float(np.argwhere(labels == 5)[:, axis].mean()))
    slice_of_c5 = middle if upwards else labels.shape[axis] - 1 - middle
    how = how.replace("Z5", str(slice_of_c5))
    assert run(f"relabel -i seg.nii.gz -o new.nii.gz {how}") == 0
    assert np.array_equal(labels_of("new.nii.gz"), expected(labels))
    assert np.array_equal(nib.load("new.nii.gz").affine, nib.load("seg.nii.gz").affine)


@pytest.mark.parametrize("how", ["-shift 1", "-shift 1 -task lumbar", "-map L3:L4,L4:L3"])
def test_a_lumbar_map_is_renumbered_within_the_levels_of_its_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    lumbar = replace(ROOTLETS, name="lumbar", levels=tuple(range(20, 28)), priors=None)
    monkeypatch.setattr(registry, "TASKS", TaskRegistry([ROOTLETS, lumbar]))
    labels = phantom().labels
    values = np.where(labels > 0, labels + 18, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(values, phantom().affine), "lumbar.nii.gz")
    assert run(f"relabel -i lumbar.nii.gz -o new.nii.gz {how}") == 0
    swapped = np.array([*range(23), 24, 23, *range(25, 28)])[values]
    shifted = np.where((values > 0) & (values < 27), values + 1, 0)
    assert np.array_equal(labels_of("new.nii.gz"), shifted if "shift" in how else swapped)


def test_the_four_parts_are_written_and_add_up(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("split -i seg.nii.gz -s cord.nii.gz -o new/sub-01") == 0
    names = [f"sub-01_{s}_{r}.nii.gz" for s in ("left", "right") for r in ("dorsal", "ventral")]
    records = [name.replace(".nii.gz", ".json") for name in names]
    assert {path.name for path in (folder / "new").iterdir()} == {*names, *records}
    parts = [labels_of(f"new/{name}").astype(int) for name in names]
    assert np.array_equal(sum(parts), phantom().labels)
    assert all(part.any() for part in parts)
    assert [f"new/{name}" in capsys.readouterr().out for name in names[:1]] == [True]


def test_start_is_caudal_in_every_table_and_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = (LocatedLevel(2, 3.0, 18.0, 0.9), LocatedLevel(3, 18.0, 33.0, 0.9))
    found = LocatedLevels(located(), levels, None, ())
    monkeypatch.setattr(locator, "locate", lambda image: found)
    assert run("locate -i seg.nii.gz -o located.nii.gz -csv located.csv") == 0
    assert run("levels -i seg.nii.gz -s cord.nii.gz -csv levels.csv") == 0
    assert run("check -i seg.nii.gz -s cord.nii.gz -o report.json") == 0
    tables = {}
    for name in ("located", "levels"):
        with (folder / f"{name}.csv").open(newline="") as file:
            tables[name] = list(csv.DictReader(file))
    reported = json.loads((folder / "report.json").read_text())["Levels"]
    pairs = [(row["start_mm"], row["end_mm"]) for row in tables["located"]]
    pairs += [(row["distance_start"], row["distance_end"]) for row in tables["levels"]]
    pairs += [(row["start"], row["end"]) for row in reported]
    assert len(pairs) == 2 + 8 + 8
    assert all(float(start) > float(end) for start, end in pairs)


@pytest.mark.parametrize("doubts", [(), ("only 61 mm of the spinal canal are in view",)])
def test_locate_tells_its_doubts_apart_from_its_table(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    doubts: tuple[str, ...],
) -> None:
    levels = (LocatedLevel(5, 0.0, 12.0, 0.9),)
    found = LocatedLevels(located(), levels, None, doubts)
    monkeypatch.setattr(locator, "locate", lambda image: found)
    assert run("locate -i seg.nii.gz -o levels.nii.gz") == 0
    out, err = capsys.readouterr()
    assert "C5: 0.0 to 12.0 mm from the top of the canal, confidence 0.9" in out
    assert err == "".join(f"WARNING: seg.nii.gz: {text}\n" for text in doubts)
    assert np.array_equal(labels_of("levels.nii.gz"), located())
