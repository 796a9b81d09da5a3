"""The log, the table of failures, and what is told of progress."""

from __future__ import annotations

import csv
import json
import logging
import time
from pathlib import Path

import pytest

from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.study import journal as journals
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.journal import COLUMNS, Journal, write_failures
from sct_rootlets_task.study.outcome import DONE, FAILED, SET_ASIDE, UNCHANGED, Outcome
from sct_rootlets_task.study.records import IMAGE, Input, Record, write_record


def item_of(out_dir: Path, subject: str) -> Item:
    output = out_dir / subject / "anat" / f"{subject}_space-orig_seg-rootlets_dseg.nii.gz"
    source = f"{subject}/anat/{subject}_T2w.nii.gz"
    return Item(Path("/raw") / source, source, "T2w", subject, "", output, out_dir / "work")


def recorded(out_dir: Path, subject: str, status: str, error: str = "") -> Item:
    item = item_of(out_dir, subject)
    item.record.parent.mkdir(parents=True, exist_ok=True)
    names = (item.name, item.subject, item.session, item.contrast)
    inputs = {IMAGE: Input(item.source, None)}
    kind = "ImageError" if error else ""
    record = Record(*names, inputs, status=status, kind=kind, error=error)
    write_record(item.record, record)
    return item


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_each_event_is_a_line_of_json(tmp_path: Path) -> None:
    item = item_of(tmp_path, "sub-01")
    with Journal(tmp_path, 2) as journal:
        journal.begin(["bids", "a b"], model="starter")
        journal.skip(UNCHANGED)
        journal.add(item, Outcome(item.name, DONE, seconds=1.5, details={"stages": {"qc": 1}}))
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "image", "end"]
    assert lines[0]["command"] == ["bids", "a b"]
    assert (lines[1]["image"], lines[1]["seconds"]) == (item.source, 1.5)
    assert lines[1]["stages"] == {"qc": 1}
    assert lines[2]["counts"] == {"unchanged": 1, "done": 1}


def test_a_run_that_is_stopped_says_so(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Journal(tmp_path, 1) as journal:
        raise KeyboardInterrupt
    assert json.loads(journal.path.read_text())["stopped"] == "KeyboardInterrupt"


def test_a_name_that_is_no_text_stays_one_line(tmp_path: Path) -> None:
    with Journal(tmp_path, 1) as journal:
        journal.write("image", name="a\nb\udce9", place=Path("x"))
    assert len(journal.path.read_bytes().splitlines()) == 2


def test_progress_is_told_now_and_then_with_the_time_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "sct_rootlets_task")
    with Journal(tmp_path, 10) as journal:
        for number in range(10):
            now[0] += 20
            item = item_of(tmp_path, f"sub-{number}")
            outcome = Outcome(item.name, FAILED if number == 0 else DONE, error="x" * (number == 0))
            journal.add(item, outcome)
    told = [record.getMessage() for record in caplog.records if "of 10 images" in record.message]
    assert told[0].startswith("2 of 10 images, 1 failed, about")
    assert told[-1] == "10 of 10 images, 1 failed"
    assert len(told) == 5


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(OutputError, match="permissions of OUT_DIR"):
        Journal(tmp_path, 1)


def test_without_failures_there_is_no_table(tmp_path: Path) -> None:
    item = recorded(tmp_path, "sub-01", DONE)
    assert write_failures(tmp_path, [item], []) is None
    assert not (tmp_path / "failures.tsv").exists()


def test_failures_of_this_run_and_of_others_are_in_the_table(tmp_path: Path) -> None:
    one = recorded(tmp_path, "sub-01", FAILED, "broken\tfile\nsecond line")
    two = recorded(tmp_path, "sub-02", SET_ASIDE, "died")
    write_failures(tmp_path, [one], [one])
    table = write_failures(tmp_path, [two], [two])
    assert table
    rows = rows_of(table)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["subject"] for row in rows] == ["sub-01", "sub-02"]
    assert rows[0]["error"] == r"broken\tfile\nsecond line"
    assert rows[1]["status"] == "set aside"


def test_what_is_done_since_leaves_the_table(tmp_path: Path) -> None:
    one = recorded(tmp_path, "sub-01", FAILED, "x")
    two = recorded(tmp_path, "sub-02", FAILED, "y")
    write_failures(tmp_path, [one, two], [one, two])
    recorded(tmp_path, "sub-01", DONE)
    assert write_failures(tmp_path, [one], [])
    assert [row["subject"] for row in rows_of(tmp_path / "failures.tsv")] == ["sub-02"]
    two.record.unlink()
    assert write_failures(tmp_path, [one], []) is None
    assert rows_of(tmp_path / "failures.tsv") == []


def test_a_damaged_table_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "failures.tsv").write_bytes(b"\xff\x00nothing\n")
    one = recorded(tmp_path, "sub-01", FAILED, "x")
    assert write_failures(tmp_path, [one], [one])
    assert len(rows_of(tmp_path / "failures.tsv")) == 1


def test_a_table_that_is_locked_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sct_rootlets_task.io.locks import held

    one = recorded(tmp_path, "sub-01", FAILED, "x")
    monkeypatch.setattr(journals, "_WAIT_S", 0.1)
    with held(tmp_path / ".failures.lock", wait_s=1, mode=0o666), pytest.raises(OutputError):
        write_failures(tmp_path, [one], [one])
