"""``sct_rootlets bids``: its options, its config file, its exit codes."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sct_rootlets_task import api
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.study.options import Study
from sct_rootlets_task.study.plan import PlannedItem
from sct_rootlets_task.study.run import Summary
from study_dataset import make_dataset


@pytest.fixture(scope="module")
def bids_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("data") / "raw", 2, tiny=True, faults=False)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Study]:
    """Studies that were run, in the place of running them."""
    studies: list[Study] = []

    def run(study: Study) -> Summary:
        studies.append(study)
        return Summary(done=3, seconds=1.0)

    monkeypatch.setattr(api, "run_study", run)
    return studies


def bids(bids_dir: Path, out: Path, *options: str, level: str = "participant") -> int:
    words = ["bids", str(bids_dir), str(out), level, "--skip-bids-validation", *options]
    return main(words if level == "participant" else [w for w in words if "skip" not in w])


@pytest.mark.parametrize(
    ("words", "part", "field", "expected"),
    [
        ("--participant-label 01 sub-02", "selection", "subjects", ("01", "02")),
        ("--participant_label 01", "selection", "subjects", ("01",)),
        ("--session-label ses-1", "selection", "sessions", ("1",)),
        ("--contrast T2w UNIT1", "selection", "contrasts", ("T2w", "UNIT1")),
        ("--part 2/3", "selection", "part", (2, 3)),
        ("--model starter", "processing", "model", "starter"),
        ("--largest", "processing", "largest", True),
        ("--fill-holes", "processing", "fill_holes", True),
        ("--raw", "processing", "raw", True),
        ("--remove-small 5vox", "processing", "remove_small", ("5vox",)),
        ("--method midpoint", "processing", "method", "midpoint"),
        ("--tiles all", "processing", "tiles", "all"),
        ("--engine openvino", "processing", "engine", "openvino"),
        ("--no-qc", "processing", "qc", False),
        ("--n-procs 3", "resources", "workers", 3),
        ("--n_procs 3", "resources", "workers", 3),
        ("--n-threads 2", "resources", "threads", 2),
        ("--mem-mb 9000", "resources", "memory_mb", 9000),
        ("--scheduler tcp://x:1", "resources", "scheduler", "tcp://x:1"),
        ("--naming neuropoly", None, "naming", "neuropoly"),
        ("--retry-failed", None, "retry_failed", True),
        ("--force", None, "force", True),
    ],
)
def test_an_option_reaches_the_study(
    bids_dir: Path, tmp_path: Path, asked: list[Study], words: str, part: str | None,
    field: str, expected: Any,
) -> None:  # fmt: skip
    assert bids(bids_dir, tmp_path / "out", *words.split()) == 0
    (study,) = asked
    holder = getattr(study, part) if part else study
    assert getattr(holder, field) == expected
    untouched = Study(study.bids_dir, study.out_dir, study.work_dir)
    plain = getattr(untouched, part) if part else untouched
    assert getattr(plain, field) != expected


def test_nothing_asked_for_is_the_default(
    bids_dir: Path, tmp_path: Path, asked: list[Study]
) -> None:
    assert bids(bids_dir, tmp_path / "out") == 0
    (study,) = asked
    plain = Study(bids_dir, tmp_path / "out", tmp_path / "out" / "work")
    assert dataclasses.replace(study, command=()) == plain


def test_paths_do_not_depend_on_the_folder_of_the_shell(
    bids_dir: Path, tmp_path: Path, asked: list[Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bids(bids_dir, Path("out"), "-w", "scratch", "--corrected", "mine") == 0
    (study,) = asked
    places = (study.out_dir, study.work_dir, study.corrected)
    assert places == (tmp_path / "out", tmp_path / "scratch", tmp_path / "mine")


def test_a_filter_file_is_read(bids_dir: Path, tmp_path: Path, asked: list[Study]) -> None:
    file = tmp_path / "filter.json"
    file.write_text(json.dumps({"T2w": {"session": "1"}}))
    assert bids(bids_dir, tmp_path / "out", "--bids-filter-file", str(file)) == 0
    assert dict(asked[0].selection.filters["T2w"]) == {"session": "1"}


def test_options_may_stand_in_a_file_and_the_command_line_wins(
    bids_dir: Path, tmp_path: Path, asked: list[Study]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('n-procs = 2\nmem_mb = 5000\ncontrast = "T2w"\nlargest = true\nqc = false\n')
    out = tmp_path / "out"
    assert bids(bids_dir, out, "--config", str(config), "--n-procs", "7", "--no-largest") == 0
    (study,) = asked
    assert (study.resources.workers, study.resources.memory_mb) == (7, 5000)
    assert study.selection.contrasts == ("T2w",)
    assert (study.processing.largest, study.processing.qc) == (False, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n-prox = 2", "is no option"),
        ("n-procs = 'many'", "n-procs"),
        ("n-procs = 0", "n-procs"),
        ("largest = 1", "true or false"),
        ("naming = 'mine'", "expected one of"),
        ("part = '3/2'", "K/N"),
        ("n-procs = ", "TOML"),
        ("n-procs = 1\nn_procs = 2", "says again"),
        ("contrast = []", "at least one"),
    ],
)
def test_a_file_that_cannot_be_meant_is_an_error(
    bids_dir: Path, tmp_path: Path, asked: list[Study], capsys: pytest.CaptureFixture[str],
    text: str, said: str,
) -> None:  # fmt: skip
    config = tmp_path / "c.toml"
    config.write_text(text)
    assert bids(bids_dir, tmp_path / "out", "--config", str(config)) == 2
    assert said in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize(
    "words",
    [
        "--part 0/3",
        "--part 4/3",
        "--part one",
        "--n-procs 0",
        "--contrast",
        "--naming mine",
        "--nonsense",
        "--remove-small 5",
        "--config /no/such/file",
        "--bids-filter-file /no/such/file",
        "--ratings x.csv",
        "--task nothing",
    ],
)
def test_a_wrong_option_ends_with_2_before_anything_runs(
    bids_dir: Path, tmp_path: Path, asked: list[Study], words: str
) -> None:
    try:
        code = bids(bids_dir, tmp_path / "out", *words.split())
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == 2
    assert not asked
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_is_not_there_is_an_error(
    tmp_path: Path, asked: list[Study], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bids(tmp_path / "none", tmp_path / "out") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_results_may_not_lie_in_the_data_set(
    bids_dir: Path, asked: list[Study], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bids(bids_dir, bids_dir / "results") == 2
    assert "OUT_DIR" in capsys.readouterr().err


@pytest.mark.parametrize(("failed", "aside", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_the_exit_code_says_whether_all_are_done(
    bids_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], failed: int, aside: int, code: int,
) -> None:  # fmt: skip
    failures = tmp_path / "failures.tsv" if code else None
    summary = Summary(done=2, failed=failed, set_aside=aside, failures=failures, seconds=3)
    monkeypatch.setattr(api, "run_study", lambda study: summary)
    assert bids(bids_dir, tmp_path / "out") == code
    said = capsys.readouterr().out
    assert "2 done" in said
    assert ("--retry-failed" in said) == bool(code)


def test_a_dry_run_prints_a_line_for_each_image_and_writes_nothing(
    bids_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], asked: list[Study],
) -> None:  # fmt: skip
    def plan(study: Study) -> Iterator[PlannedItem]:
        yield PlannedItem("a", "sub-01/anat/a.nii.gz", ("labels",), "option changed: largest")
        yield PlannedItem("b", "sub-02/anat/b.nii.gz", (), "nothing has changed")

    monkeypatch.setattr(api, "plan_study", plan)
    assert bids(bids_dir, tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "sub-01/anat/a.nii.gz: labels (option changed: largest)",
        "sub-02/anat/b.nii.gz: nothing (nothing has changed)",
        "Images to work on: 1, 1 not (nothing has changed). Nothing was written.",
    ]
    assert not (tmp_path / "out").exists()
    assert not asked


def test_group_without_results_says_what_to_do(
    bids_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bids", str(bids_dir), str(tmp_path / "out"), "group"]) == 1
    assert "participant level first" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--part", "1/2"], ["--dry-run"], ["--force"]])
def test_options_of_participants_do_not_go_with_group(
    bids_dir: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bids", str(bids_dir), str(tmp_path / "out"), "group", *words]) == 2
    assert "belongs to the level participant" in capsys.readouterr().err


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from sct_rootlets_task.environment import VERSION

    assert main(["bids", "--version"]) == 0
    assert VERSION in capsys.readouterr().out


def test_the_help_loads_nothing_heavy() -> None:
    import subprocess

    code = (
        "import sys\nfrom sct_rootlets_task.cli.sct_rootlets import main\n"
        "try: main(['bids', '-h'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'openvino', 'scipy', 'nibabel', 'matplotlib', 'distributed'}\n"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0
