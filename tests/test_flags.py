"""Every view of a map shows the same flags, and each flag says where to look."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from sct_rootlets_task.analysis.check import Report, check, opinions
from sct_rootlets_task.analysis.flags import CODES, KINDS, Flag, at_point, flag
from sct_rootlets_task.analysis.relabel import shift_levels
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.io.luts import VIEWERS, viewer_commands
from sct_rootlets_task.levels.landmarks import Landmarks, Shift
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.segmentation.sidecar import doubts_beside, without_folders
from test_check import phantom, pmj
from test_relabel import discs, located
from test_relabel import phantom as with_discs
from test_sct_deepseg import PLAIN, SHAPE, image, levels_as_intensities, model  # noqa: F401
from tools.phantom import Phantom
from volumes import write_image

ON_THE_LABEL = set(CODES) - {"level_missing", "side_missing", "shift", "landmark", "doubt"}
"""Codes of flags whose place is a voxel of the level that they name."""
PLACELESS = {"shift", "doubt"}


def damaged(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels with a few faults of every kind, in some orientation, and their affine."""
    random = np.random.default_rng(seed)
    letters = [random.choice(list(pair)) for pair in ("LR", "AP", "IS")]
    one = phantom().oriented("".join(random.permutation(letters)))
    labels = one.labels.copy()
    for value in random.choice([2, 5, 9, 10, 14, 30, 77], random.integers(0, 4)):
        labels[tuple(random.integers(0, labels.shape))] = value
    if random.random() < 0.5:
        labels[labels == random.integers(2, 10)] = 0
    if random.random() < 0.5:
        half = np.indices(labels.shape)[random.integers(3)] < labels.shape[0] // 2
        labels[(labels == random.integers(2, 10)) & half] = random.choice([0, 3, 7])
    if random.random() < 0.3:
        voxels = np.argwhere(labels == random.integers(2, 10))
        labels[tuple(voxels[:: random.integers(2, 6)].T)] = 6
    if random.random() < 0.3:
        labels = shift_levels(labels, 1, task=ROOTLETS)
    return labels, one.affine


def report_of(labels: np.ndarray, affine: np.ndarray, **known: Any) -> Report:
    return check(labels, affine, landmarks=Landmarks(**known), task=ROOTLETS)


@pytest.mark.parametrize("seed", range(12))
def test_every_flag_with_a_place_names_a_voxel_of_the_map_and_the_same_point_in_mm(
    seed: int,
) -> None:
    labels, affine = damaged(seed)
    for one in report_of(labels, affine).flags:
        if one.code in PLACELESS:
            continue
        assert one.world_mm is not None
        if one.voxel is None:
            continue
        assert str(list(one.voxel)) in one.text
        point = affine[:3, :3] @ one.voxel + affine[:3, 3]
        half = np.abs(affine[:3, :3]).sum(axis=1) / 2
        assert (np.abs(point - one.world_mm) <= half + 0.01).all()
        if one.code in ON_THE_LABEL:
            assert point == pytest.approx(one.world_mm, abs=0.01)
            assert labels[one.voxel] > 0
        if one.code in ON_THE_LABEL - {"mixed_bundle", "far_from_cord", "level_order"}:
            assert labels[one.voxel] == one.level


@pytest.mark.parametrize("seed", range(6))
def test_a_stray_voxel_is_found_where_it_was_put(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = phantom().labels.copy()
    voxel = tuple(int(i) for i in random.integers(0, labels.shape))
    while labels[voxel]:
        voxel = tuple(int(i) for i in random.integers(0, labels.shape))
    labels[voxel] = 14
    (one,) = [f for f in report_of(labels, phantom().affine).flags if f.code == "unexpected_value"]
    assert (one.voxel, one.level) == (voxel, 14)
    assert one.text.startswith("1 voxel has the value 14 (T6), which is none of the levels C2–T1.")
    world = phantom().affine @ [*voxel, 1]
    assert one.world_mm == pytest.approx(world[:3], abs=0.01)


def test_a_place_outside_the_image_has_a_point_and_no_voxel() -> None:
    shape, affine = (4, 5, 6), np.diag([2.0, 2, 2, 1])
    assert at_point(np.array([2.0, 4, 6]), affine, shape).voxel == (1, 2, 3)
    outside = at_point(np.array([2.0, 4, -6]), affine, shape)
    assert (outside.voxel, str(outside)) == (None, "RAS 2.0, 4.0, -6.0 mm")


def test_doubts_about_landmarks_say_where_the_landmark_is() -> None:
    point = pmj() + np.array([18.0, 0, 0])
    flags = report_of(phantom().labels, phantom().affine, cord=phantom().cord, pmj=point).flags
    (aside,) = [f for f in flags if f.code == "landmark"]
    assert aside.world_mm == pytest.approx(point, abs=0.01)
    moved = dict(discs())
    moved[5] = moved[5] + np.array([22.0, 0, 0])
    one = with_discs()
    flags = report_of(one.labels, one.affine, cord=one.cord, discs=moved).flags
    assert any(f.world_mm == pytest.approx(moved[5], abs=0.01) for f in flags if f.world_mm)


def test_every_code_makes_a_sentence_of_its_words() -> None:
    words = {
        "found": "x", "holders": "x", "levels": "x", "percent": 1.0, "bundle": "x", "others": "x",
        "midpoint": 1.0, "fitting": "x", "where": "x", "other": 1.0, "typical": 1.0, "pair": "x",
        "published": "x", "overlap": 1.0, "end": "x", "reference": "x", "finding": "x",
        "advice": "x", "measured_in": "mm", "called": "", "task": "x", "what": "x",
    }  # fmt: skip
    for code, kind in KINDS.items():
        one = flag(code, 1.0, expected=(0.0, 2.0), level=2, side="left", **words)
        assert (one.code, one.severity) == (code, kind.severity)
        assert one.text
        assert not re.search(r"[{}]", one.text + one.source + one.unit)


# What references say


REFERENCES: dict[str, Callable[[], tuple[Phantom, Landmarks]]] = {
    "The PMJ agrees": lambda: (phantom(), Landmarks(cord=phantom().cord, pmj=pmj())),
    "The discs agree": lambda: (
        with_discs(),
        Landmarks(cord=with_discs().cord, discs=discs()),
    ),
    "The locator agrees": lambda: (
        with_discs(),
        Landmarks(cord=with_discs().cord, located=located()),
    ),
}


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("said", REFERENCES)
def test_a_reference_that_agrees_is_said_to(said: str, shift: int) -> None:
    one, references = REFERENCES[said]()
    report = check(
        shift_levels(one.labels, shift, task=ROOTLETS),
        one.affine,
        landmarks=references,
        task=ROOTLETS,
    )
    found = opinions(report, references)
    assert found == (() if shift else (f"{said} with the numbers of the levels.",))
    assert ("shift" in {f.code for f in report.flags}) == bool(shift)


def test_a_reference_that_cannot_tell_is_said_not_to() -> None:
    nothing_seen = Landmarks(located=np.zeros_like(phantom().labels))
    report = check(phantom().labels, phantom().affine, landmarks=nothing_seen, task=ROOTLETS)
    (text,) = opinions(report, nothing_seen)
    assert text.startswith("The locator: too few of the levels")
    torn = replace(report, shifts=(Shift("PMJ", 1, 1.0, -0.4),))
    (text,) = opinions(torn, Landmarks(pmj=pmj()))
    assert "would fit about as well" in text


@pytest.mark.parametrize("name", ["seg.nii.gz", "a b/it's.nii.gz", "ü/$(x).nii"])
def test_the_command_that_corrects_a_shift_is_complete_and_can_be_pasted(name: str) -> None:
    references = Landmarks(cord=phantom().cord, pmj=pmj(), files={"labels": name})
    labels = shift_levels(phantom().labels, -1, task=ROOTLETS)
    report = check(labels, phantom().affine, landmarks=references, task=ROOTLETS)
    (one,) = [f for f in report.flags if f.code == "shift"]
    words = shlex.split(one.text.partition("them: ")[2])
    stem = name.removesuffix(".gz").removesuffix(".nii")
    out = f"{stem}_relabeled.nii.gz"
    assert words == ["sct_rootlets", "relabel", "-i", name, "-o", out, "-shift", "1"]
    (short,) = [f for f in without_folders(report, Path(name)).flags if f.code == "shift"]
    assert "/" not in short.text
    assert Path(name).name in shlex.split(short.text.partition("them: ")[2])


# One set of flags


def keys(flags: list[dict[str, Any]] | tuple[Flag, ...]) -> list[tuple[str, str, str]]:
    found = [f if isinstance(f, dict) else vars(f) for f in flags]
    return sorted((f["code"], f["severity"], f["text"]) for f in found)


def checked(path: Path, *more: str) -> list[dict[str, Any]]:
    report = path.with_name("report.json")
    assert main(["check", "-i", str(path), "-o", str(report), "-overwrite", "1", *more]) == 0
    return list(json.loads(report.read_text())["Flags"])


def entry_of(report: Path) -> dict[str, Any]:
    (path,) = report.glob("entries/*/entry.json")
    return dict(json.loads(path.read_text()))


def write_map(folder: Path, labels: np.ndarray, affine: np.ndarray) -> tuple[Path, Path]:
    paths = folder / "t2.nii.gz", folder / "t2_rootlets.nii.gz"
    nib.save(nib.Nifti1Image((labels * 7 + 20).astype(np.int16), affine), paths[0])
    nib.save(nib.Nifti1Image(labels, affine), paths[1])
    return paths


def nothing(count: int) -> np.ndarray:
    labels = np.zeros((12, 11, 30), np.uint8)
    labels[4, 5, : 6 * count : 6] = 5
    return labels


MAPS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    **{f"seed {seed}": lambda seed=seed: damaged(seed) for seed in range(6)},
    "intact": lambda: (phantom().labels, phantom().affine),
    "empty": lambda: (nothing(0), np.eye(4)),
    "one voxel": lambda: (nothing(1), np.eye(4)),
    "two voxels": lambda: (nothing(2), np.eye(4)),
    "a lumbar map": lambda: (
        np.where(phantom().labels > 0, phantom().labels + 18, 0).astype(np.uint8),
        phantom().affine,
    ),
    "a mask": lambda: (phantom().cord.astype(np.uint8), phantom().affine),
}


@pytest.mark.parametrize(
    ("what", "doubts"),
    [(what, []) for what in MAPS]
    + [(what, ["the numbers may be off by one."]) for what in ("seed 0", "intact", "empty")],
)
def test_the_page_shows_all_that_the_check_lists_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, doubts: list[str]
) -> None:
    picture, segmentation = write_map(tmp_path, *MAPS[what]())
    record = {"Warnings": doubts}
    (tmp_path / "t2_rootlets.json").write_text(json.dumps(record))
    words = ["qc", "-i", str(picture), "-s", str(segmentation), "-o", f"{tmp_path}/qc"]
    task = ["-task", "rootlets"] if what in ("a lumbar map", "a mask") else []
    assert main(words) == (2 if task else 0)
    assert main([*words, *task]) == 0
    capsys.readouterr()
    flags = checked(segmentation, *task)
    assert keys(entry_of(tmp_path / "qc")["flags"]) == keys(flags)
    lines = capsys.readouterr().out.splitlines()
    listed = [line for line in lines if line.startswith(("warning: ", "note: "))]
    assert sorted(listed) == sorted(f"{f['severity']}: {f['text']}" for f in flags)
    assert [f["text"] for f in flags if f["code"] == "doubt"] == doubts


@pytest.mark.parametrize("gone", [2, 5, 9])
def test_every_level_that_the_check_misses_is_struck_out_on_the_page(
    tmp_path: Path, gone: int
) -> None:
    labels = np.where(phantom().labels == gone, 0, phantom().labels)
    picture, segmentation = write_map(tmp_path, labels, phantom().affine)
    words = ["qc", "-i", str(picture), "-s", str(segmentation), "-o", str(tmp_path / "qc")]
    assert main(words) == 0
    assert [one["level"] for one in entry_of(tmp_path / "qc")["missing"]] == [gone]


def test_a_value_that_is_no_level_of_the_task_is_flagged_and_not_called_found(
    tmp_path: Path,
) -> None:
    labels = phantom().labels.copy()
    labels[2, 2, 70] = 14
    picture, segmentation = write_map(tmp_path, labels, phantom().affine)
    assert main(["qc", "-i", str(picture), "-s", str(segmentation), "-o", f"{tmp_path}/qc"]) == 0
    entry = entry_of(tmp_path / "qc")
    assert [level["level"] for level in entry["found"]] == list(range(2, 10))
    assert entry["missing"] == []
    assert "unexpected_value" in {one["code"] for one in entry["flags"]}


@pytest.mark.parametrize("seed", range(4))
def test_a_run_says_the_same_on_its_page_in_its_sidecar_and_when_checked(
    tmp_path: Path,
    model: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    data = levels_as_intensities()
    for value in random.integers(2, 10, 4 * seed):
        data[tuple(random.integers(0, SHAPE))] = value
    if seed == 3:
        data[:] = 100
        data[0, 0, 0] = 50
    path = write_image(tmp_path / "a b's.nii.gz", data)
    words = ["rootlets", "-i", str(path), "-model", str(model), "-qc", f"{tmp_path}/qc"]
    assert sct_deepseg.main(words, tasks=PLAIN, load=Loader()) == 0
    out = capsys.readouterr().out
    segmentation = tmp_path / "a b's_rootlets.nii.gz"
    flags = json.loads(segmentation.with_name("a b's_rootlets.json").read_text())
    flags = flags["Plausibility"]["Flags"]
    assert keys(entry_of(tmp_path / "qc")["flags"]) == keys(flags)
    (command,) = [line for line in out.splitlines() if line.startswith("sct_rootlets check")]
    warnings = sum(flag["severity"] == "warning" for flag in flags)
    assert f"The check found {warnings} warning(s) and {len(flags) - warnings} note(s)." in out
    assert out.endswith(f"open:\n{tmp_path}/qc/index.html\n")
    assert shlex.split(command)[:4] == ["sct_rootlets", "check", "-i", str(segmentation)]
    assert keys(checked(segmentation)) == keys(flags)


@pytest.mark.parametrize(
    ("content", "doubts"),
    [
        ({"Warnings": ["a", 7, "b"]}, ("a", "b")),
        ({"Warnings": "words"}, ()),
        ({"Warnings": ["a"], "Plausibility": {"Flags": [{"code": "doubt", "text": "b"}]}}, ("b",)),
        ({"Warnings": ["a"], "Plausibility": {"Flags": [{"code": "speck", "text": "b"}, 3]}}, ()),
        ({"Warnings": ["a"], "Plausibility": 3}, ("a",)),
        ([1, 2], ()),
    ],
)
def test_doubts_are_read_from_a_sidecar_of_any_content(
    tmp_path: Path, content: object, doubts: tuple[str, ...]
) -> None:
    (tmp_path / "seg.json").write_text(json.dumps(content))
    assert doubts_beside(tmp_path / "seg.nii.gz") == doubts


# Commands for viewers


NAMES = ["a.nii.gz", "a b/it's.nii.gz", 'say "x" `y` $(z).nii', "ü;&|.nii.gz"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("viewers", [(), *[(viewer,) for viewer in VIEWERS], VIEWERS])
def test_viewer_commands_can_be_pasted_and_name_the_tables_that_were_written(
    name: str, viewers: tuple[str, ...]
) -> None:
    segmentation = Path(name).with_name("seg " + Path(name).name)
    commands = viewer_commands(Path(name), segmentation, viewers)
    assert commands
    tables = []
    for command in commands:
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0
        words = shlex.split(command.removesuffix(" &"))
        assert {name, str(segmentation)} <= set(words)
        tables += [words[n + 1] for n, word in enumerate(words) if word == "-l"]
        assert ("subcortical" in words) == (not {"fsleyes", "itksnap"} & set(viewers))
    endings = [table.removeprefix(str(segmentation).split(".nii")[0]) for table in tables]
    wanted = {"fsleyes": ".lut", "itksnap": "_itksnap.txt"}
    assert endings == [wanted[viewer] for viewer in wanted if viewer in viewers]


def test_the_printed_table_is_the_one_on_disk(
    image: Path,  # noqa: F811
    model: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["rootlets", "-i", str(image), "-model", str(model), "-lut", "fsleyes", "itksnap"]
    assert sct_deepseg.main(words, tasks=PLAIN, load=Loader()) == 0
    lines = capsys.readouterr().out.splitlines()
    tables = [
        word for line in lines for word in shlex.split(line) if word.endswith((".lut", ".txt"))
    ]
    assert len([line for line in lines if line.startswith("Created file")]) == 3
    assert tables
    assert all(Path(table).is_file() for table in tables)
