"""Results are complete or not there, and writing them touches nothing else."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.io.atomic import (
    atomic_output,
    atomic_outputs,
    clear_abandoned,
    csv_text,
    json_bytes,
    write_csv,
    write_json,
)

LEFT_BEHIND = ".sct_rootlets-0123456789abcdef.nii.gz"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(path: Path, seconds: float = 60.0) -> None:
    os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)


def test_processes_of_one_number_never_share_a_temporary_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    final = tmp_path / "seg.nii.gz"
    with atomic_output(final) as first, atomic_output(final) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert final.read_bytes() == b"first"
    assert names(tmp_path) == ["seg.nii.gz"]


def test_a_link_planted_under_a_foreseeable_name_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (f".{os.getpid()}.out.json", ".out.json", "out.json.tmp"):
        (tmp_path / name).symlink_to(victim)
    write_json(tmp_path / "out.json", {"a": 1})
    assert victim.read_text() == "precious"
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": 1}


@pytest.mark.parametrize("length", [247, 250, 255])
def test_the_longest_names_of_a_disk_can_be_written(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("x" * (length - 7) + ".nii.gz")
    with atomic_output(path) as temporary:
        temporary.write_bytes(b"data")
    assert path.read_bytes() == b"data"


def test_the_temporary_name_has_the_extensions_by_which_writers_know_the_format(
    tmp_path: Path,
) -> None:
    for name, ending in (("a.nii.gz", ".nii.gz"), ("a.b.nii", ".nii"), ("a.PNG", ".PNG")):
        with atomic_output(tmp_path / name) as temporary:
            assert temporary.name.endswith(ending)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_nothing_is_moved_until_everything_is_written(tmp_path: Path, failing: int) -> None:
    paths = [tmp_path / name for name in ("t.lut", "m.json", "m.nii.gz")]
    for path in paths:
        path.write_text("old")

    def write_some() -> None:
        with atomic_outputs(*paths) as temporaries:
            for number, temporary in enumerate(temporaries):
                if number == failing:
                    raise OSError(28, "No space left on device")
                temporary.write_text("new")

    with pytest.raises(OutputError, match="No space left"):
        write_some()
    assert {path.read_text() for path in paths} == {"old"}
    assert names(tmp_path) == sorted(path.name for path in paths)


@pytest.mark.parametrize("before", [True, False])
def test_if_one_file_cannot_be_moved_the_others_are_as_they_were(
    tmp_path: Path, before: bool
) -> None:
    sidecar, image = tmp_path / "m.json", tmp_path / "m.nii.gz"
    (image / "inner").mkdir(parents=True)
    if before:
        sidecar.write_text("old")

    def write_both() -> None:
        with atomic_outputs(sidecar, image) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")

    with pytest.raises(OutputError):
        write_both()
    assert (sidecar.read_text() if sidecar.exists() else None) == ("old" if before else None)
    assert names(tmp_path) == (["m.json", "m.nii.gz"] if before else ["m.nii.gz"])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("number", [1, 2])
def test_a_stop_between_two_moves_brings_the_old_files_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], number: int
) -> None:
    paths = (tmp_path / "m.json", tmp_path / "m.nii.gz")
    for path in paths:
        path.write_text("old")
    moves: list[Path] = []
    move = Path.replace

    def moved_then_stopped(self: Path, target: Path) -> Path:
        moves.append(target)
        result = move(self, target)
        if len(moves) == number:
            raise stop
        return result

    monkeypatch.setattr(Path, "replace", moved_then_stopped)

    def write_both() -> None:
        with atomic_outputs(*paths) as temporaries:
            for temporary in temporaries:
                temporary.write_text("new")

    with pytest.raises(stop):
        write_both()
    assert {path.read_text() for path in paths} == {"old"}
    assert names(tmp_path) == ["m.json", "m.nii.gz"]


def test_two_jobs_on_one_output_do_not_mix_what_belongs_together(tmp_path: Path) -> None:
    paths = (tmp_path / "m.json", tmp_path / "m.nii.gz")
    mixed = []

    def job(text: str, start: threading.Barrier) -> None:
        with atomic_outputs(*paths) as temporaries:
            for temporary in temporaries:
                temporary.write_text(text)
            start.wait()

    for number in range(60):
        start = threading.Barrier(2)
        jobs = [threading.Thread(target=job, args=(f"{number} {n}", start)) for n in "ab"]
        for one in jobs:
            one.start()
        for one in jobs:
            one.join()
        if len({path.read_text() for path in paths}) > 1:
            mixed.append(number)
    assert mixed == []


def test_what_a_killed_run_has_left_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / LEFT_BEHIND).write_bytes(b"half")
    age(tmp_path / LEFT_BEHIND)
    write_json(tmp_path / "out.json", {})
    assert names(tmp_path) == ["out.json"]


def test_nothing_is_cleared_that_is_not_an_abandoned_file_of_ours(tmp_path: Path) -> None:
    kept = [
        ".sct_rootlets-notes.txt",
        "sct_rootlets-0123456789abcdef.nii.gz",
        ".sct_rootlets-0123456789ABCDEF.nii.gz",
        ".sct_rootlets-0123456789abcdef0.nii.gz",
        "sub-01_T2w.nii.gz",
    ]
    for name in kept:
        (tmp_path / name).write_text("mine")
        age(tmp_path / name)
    link = tmp_path / LEFT_BEHIND
    link.symlink_to(tmp_path / kept[-1])
    (tmp_path / LEFT_BEHIND.replace("0", "f")).mkdir()
    clear_abandoned(tmp_path)
    assert set(kept) <= set(names(tmp_path))
    assert link.is_symlink()


def test_a_temporary_file_in_use_is_not_cleared_however_old(tmp_path: Path) -> None:
    with atomic_output(tmp_path / "a.nii.gz") as temporary:
        temporary.write_bytes(b"half")
        age(temporary, 10 * 24 * 3600)
        clear_abandoned(tmp_path)
        assert temporary.exists()


WRITER = """
import os, signal, sys
from pathlib import Path
from sct_rootlets_task.cli.console import run_command, forgiving_streams
from sct_rootlets_task.io.atomic import atomic_output
def body():
    with atomic_output(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(b"half")
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
        signal.pause()
with forgiving_streams():
    code = run_command("writer", [], body)
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("signal", "code", "left"), [("SIGTERM", 143, 0), ("SIGINT", 130, 0), ("SIGKILL", -9, 1)]
)
def test_a_run_that_is_stopped_leaves_what_was_there(
    tmp_path: Path, signal: str, code: int, left: int
) -> None:
    final = tmp_path / "seg.nii.gz"
    final.write_bytes(b"old")
    command = [sys.executable, "-c", WRITER, str(final), signal]
    assert subprocess.run(command, capture_output=True, check=False).returncode == code
    assert final.read_bytes() == b"old"
    assert len(names(tmp_path)) == 1 + left
    for path in tmp_path.glob(".*"):
        age(path)
    write_json(tmp_path / "next.json", {})
    assert names(tmp_path) == ["next.json", "seg.nii.gz"]


@pytest.mark.parametrize("name", ["Andr\udce9", "\udcff\udcfe", "plain", "Zürich–≥", "a\nb"])
def test_json_holds_any_name_of_a_file(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "a.json", {"Sources": [name]})
    content = (tmp_path / "a.json").read_bytes()
    assert json.loads(content.decode("utf-8")) == {"Sources": [name]}
    assert json_bytes({"Sources": [name]}) == content


FORMULAS = [
    " =1",
    "＝1",
    "=1+1",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    '=cmd|" /C calc"!A0',
    "-",
]
HARMLESS = ["sub-01", "", "C5 height", "1=2", "'quoted", "Ä=", "2.5"]


@pytest.mark.parametrize("text", FORMULAS + HARMLESS)
def test_no_cell_of_a_table_is_run_as_a_formula(tmp_path: Path, text: str) -> None:
    write_csv(tmp_path / "t.csv", [{"fname": text, "mm": -2.5}], ["fname", "mm"])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        [row] = csv.DictReader(stream)
    assert row["fname"] == (f"'{text}" if text in FORMULAS else text)
    assert row["mm"] == "-2.5", "numbers stay numbers"


def test_missing_values_of_a_table_are_empty() -> None:
    rows = list(csv.reader(io.StringIO(csv_text([{"a": None}, {"b": 1}], ["a", "b"]))))
    assert rows == [["a", "b"], ["", ""], ["", "1"]]
