"""The comparison of two checkouts tells what differs, and nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tools import compare_outputs
from tools.compare_outputs import TEXTS, VARYING, commands, differences, main


def write(folder: Path, *, level: int = 2, text: str = "short", seconds: float = 1.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    flags = [{"code": "height", "level": level, "text": text}]
    (folder / "seg.json").write_text(json.dumps({"Seconds": seconds, "Flags": flags}))
    with gzip.GzipFile(folder / "seg.nii.gz", "wb", mtime=int(seconds)) as stream:
        stream.write(bytes([level]))
    (folder / "caudal.csv").write_text(f"level\n{level}\n")
    (folder / "page.html").write_text(text)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"caudal.csv": "", "seg.json": "", "seg.nii.gz": ""}),
        ({"seconds": 2.0}, {"caudal.csv": "", "seg.json": "", "seg.nii.gz": ""}),
        ({"text": "long"}, {"caudal.csv": "", "seg.json": "Flags[0].text", "seg.nii.gz": ""}),
        (
            {"level": 3},
            {"caudal.csv": "differs", "seg.json": "Flags[0].level", "seg.nii.gz": "differs"},
        ),
    ],
)
def test_only_results_that_differ_are_told(
    tmp_path: Path, changes: dict[str, object], expected: dict[str, str]
) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", **changes)  # type: ignore[arg-type]
    assert differences(tmp_path / "a", tmp_path / "b") == expected


def test_sentences_may_differ_where_one_says_so(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", text="long")
    assert not any(differences(tmp_path / "a", tmp_path / "b", VARYING | TEXTS).values())


def test_a_file_that_only_one_side_has_is_told(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    (tmp_path / "a" / "new.csv").touch()
    (tmp_path / "b" / "old.csv").touch()
    found = differences(tmp_path / "a", tmp_path / "b")
    assert (found["new.csv"], found["old.csv"]) == ("only here", "only there")


def test_split_and_the_map_of_the_cord_need_a_cord() -> None:
    words = [" ".join(line) for line in commands(cord=False)]
    assert not [line for line in words if "split" in line or "-s " in line]
    assert len(list(commands(cord=True))) == len(words) + 1


@pytest.mark.parametrize("level", [2, 3])
def test_the_exit_code_says_whether_something_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def run(checkout: Path, image: Path, folder: Path) -> None:
        write(folder, level=level if checkout.name == "other" else 2)

    monkeypatch.setattr(compare_outputs, "run_commands", run)
    assert main([str(tmp_path / "other"), "a.nii.gz", "--keep", str(tmp_path / "out")]) == level - 2
    assert f"{3 * (level - 2)} files differ." in capsys.readouterr().out
