"""One image of a study: what is written, what is done again, and what is never replaced."""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import os
import pickle
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.io import atomic
from sct_rootlets_task.study import worker
from sct_rootlets_task.study.naming import spinal_levels_name
from sct_rootlets_task.study.plan import RAW_LABELS
from sct_rootlets_task.study.worker import make_worker
from study_case import NAME, Case, phantom, write_map, write_scan

ALL = ("network", "labels", "levels")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.fixture
def with_cord(tmp_path: Path) -> Case:
    cord = write_map(
        tmp_path / "raw" / "derivatives" / "labels" / "sub-01_T2w_label-SC_seg.nii.gz",
        phantom().cord,
    )
    return Case(tmp_path, {"cord": cord})


def map_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def table_of(case: Case) -> list[dict[str, str]]:
    with case.item.levels_table.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def levels_json(case: Case) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(case.item.beside("_levels.json").read_text())
    return content


def edit(path: Path) -> bytes:
    """Take the levels of a map two numbers higher, as a person would with an editor."""
    image = nib.load(path)
    labels = np.asarray(image.dataobj)
    moved = np.where(labels > 0, labels + 2, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(moved, image.affine, image.header), path)
    return path.read_bytes()


def test_an_image_becomes_a_level_map_a_table_and_a_map_of_the_cord(with_cord: Case) -> None:
    assert with_cord.ran() == ALL

    item = with_cord.item
    assert np.array_equal(map_of(item.output), phantom().labels)
    spinal = map_of(item.output.with_name("sub-01_space-orig_seg-spinallevels_dseg.nii.gz"))
    assert set(np.unique(spinal)) == {0, 3, 4, 5, 6}
    assert not spinal[phantom().cord == 0].any()
    rows = table_of(with_cord)
    assert [row["level_name"] for row in rows] == ["C3", "C4", "C5", "C6"]
    assert {(row["subject"], row["session"], row["contrast"]) for row in rows} == {
        ("sub-01", "n/a", "T2w")
    }
    assert rows[0]["distance_from_pmj_start"] == "n/a"
    assert rows[0]["distance_origin"] == "cord_mask_top"
    about = levels_json(with_cord)
    assert about["MissingLevels"] == [2, 7, 8, 9]
    assert set(about["Columns"]) == set(rows[0])
    assert about["Columns"]["level_height"]["Units"] == "mm"
    assert not about["Corrected"]


def test_results_name_what_they_were_made_from_by_bids_uris(with_cord: Case) -> None:
    with_cord.run()

    raw = "bids:raw:sub-01/anat/sub-01_T2w.nii.gz"
    cord = "bids:raw:derivatives/labels/sub-01_T2w_label-SC_seg.nii.gz"
    sidecar = json.loads(with_cord.item.beside("_dseg.json").read_text())
    assert sidecar["Sources"] == [raw, cord]
    assert sidecar["SpatialReference"] == raw
    assert levels_json(with_cord)["Sources"] == [
        raw,
        f"bids::sub-01/anat/{NAME}_dseg.nii.gz",
        cord,
    ]


def test_the_same_inputs_give_the_same_bytes_in_another_place(tmp_path: Path) -> None:
    found = []
    for place in ("a", "b"):
        one = Case(tmp_path / place)
        one.run()
        found.append(one.results())
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_an_image_without_rootlets_gets_a_table_of_no_rows(with_cord: Case) -> None:
    write_map(with_cord.image, np.random.default_rng(0).integers(100, 200, (9, 9, 20), np.int16))

    assert with_cord.ran() == ALL
    assert table_of(with_cord) == []
    assert levels_json(with_cord)["MissingLevels"] == [2, 3, 4, 5, 6, 7, 8, 9]


def test_nothing_is_done_again_when_nothing_has_changed(with_cord: Case) -> None:
    with_cord.run()
    files = [path for path in with_cord.out.rglob("*_*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    seen = with_cord.predictions

    outcome = with_cord.run()

    assert outcome.status == "unchanged"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(before) >= 7
    assert with_cord.predictions == seen


@pytest.mark.parametrize(
    ("option", "stages"),
    [
        ({"largest": True}, ("labels", "levels")),
        ({"fill_holes": True}, ("labels", "levels")),
        ({"remove_small": ("5vox",)}, ("labels", "levels")),
        ({"raw": True}, ("labels", "levels")),
        ({"method": "midpoint"}, ("levels",)),
        ({"tiles": "all"}, ALL),
        ({"test_time_aug": True}, ALL),
        ({"precision": "bf16"}, ALL),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_redoes_what_depends_on_it(
    case: Case, option: dict[str, Any], stages: tuple[str, ...]
) -> None:
    case.run()
    seen, loads = case.predictions, len(case.loader.networks)

    assert case.look(**option).stages == stages
    assert case.look(**option).reason == f"option changed: {next(iter(option))}"
    assert case.ran(**option) == stages
    if "network" not in stages:
        assert (case.predictions, len(case.loader.networks)) == (seen, loads)


def test_results_gone_on_with_are_those_of_a_run_at_once(tmp_path: Path) -> None:
    once, twice = Case(tmp_path / "a"), Case(tmp_path / "b")
    once.run(remove_small=("5vox",), method="midpoint")
    twice.run()
    twice.run(remove_small=("5vox",))
    twice.run(remove_small=("5vox",), method="midpoint")

    assert twice.results() == once.results()


def test_another_image_or_model_redoes_all(case: Case) -> None:
    case.run()
    write_scan(case.image, seed=1)
    assert case.look().stages == ALL
    assert case.ran() == ALL

    dataset = case.model / "dataset.json"
    dataset.write_text(f"{dataset.read_text()}\n")
    assert case.look().reason == "model changed"
    assert case.ran() == ALL


def test_an_image_that_was_only_touched_is_not_segmented_again(case: Case) -> None:
    case.run()
    seen = case.predictions
    os.utime(case.image, ns=(1, 1))

    assert case.look().stages == ALL  # nothing is read
    assert case.run().status == "unchanged"
    assert case.predictions == seen
    assert case.look().stages == ()  # its new time is recorded


def test_size_and_time_are_a_short_cut_for_the_content(case: Case) -> None:
    case.run()
    before = case.image.stat()
    content = bytearray(case.image.read_bytes())
    content[-1] ^= 1
    case.image.write_bytes(content)
    os.utime(case.image, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert case.look().stages == ()


@pytest.mark.parametrize("ending", ["_dseg.nii.gz", "_dseg.json", "_levels.tsv", "_levels.json"])
def test_a_result_that_is_missing_is_made_again(case: Case, ending: str) -> None:
    case.run()
    before, seen = case.results(), case.predictions
    case.item.beside(ending).unlink()

    assert case.look().reason == f"output missing: {NAME}{ending}"
    assert case.run().status == "done"
    assert case.results() == before
    assert case.predictions == seen


@pytest.mark.parametrize("damage", ["cut", "empty", "of another kind", "missing"])
@pytest.mark.parametrize("what", ["record", "labels kept"])
def test_what_is_damaged_is_made_again(case: Case, what: str, damage: str) -> None:
    case.run()
    before = case.results()
    path = case.item.record if what == "record" else case.item.work / RAW_LABELS
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        wrong = {"cut": content[: len(content) // 2], "empty": b"", "of another kind": b"[1, 2]"}
        path.write_bytes(wrong[damage])

    outcome = case.run(largest=True)

    assert outcome.status == "done", outcome
    case.run()
    assert case.results() == before


def test_damaged_levels_of_the_right_size_and_time_are_made_again(case: Case) -> None:
    case.run()
    path = case.item.work / RAW_LABELS
    info = path.stat()
    path.write_bytes(bytes(info.st_size))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))

    assert set(case.ran(largest=True)) == {"labels", "levels"}
    assert case.record["Stages"]["network"]["Files"][RAW_LABELS]["ModifiedNs"] != info.st_mtime_ns


def test_an_image_that_fails_says_why_and_is_left_alone_until_asked_for(case: Case) -> None:
    whole = case.image.read_bytes()
    case.image.write_bytes(whole[:300])

    outcome = case.run()

    assert (outcome.status, outcome.kind) == ("failed", "ImageError")
    assert (case.record["Status"], case.record["Kind"]) == ("failed", "ImageError")
    assert case.record["Error"] == outcome.error
    assert case.look().failed_before == "failed"
    assert case.look().stages == ()
    assert case.run().error == outcome.error
    case.study["retry_failed"] = True
    assert case.look().stages == ALL
    case.study["retry_failed"] = False

    case.image.write_bytes(whole)
    assert case.look().stages == ALL
    assert case.run().status == "done"
    assert (case.record["Status"], case.record["Error"]) == ("done", "")


def test_an_image_that_cannot_be_read_at_all_fails_once(case: Case) -> None:
    content = case.image.read_bytes()
    case.image.unlink()
    assert case.run().status == "failed"
    assert case.record["Image"]["SHA256"] is None
    assert case.look().failed_before == "failed"

    case.image.write_bytes(content)
    assert case.run().status == "done"


def test_a_fault_of_the_code_is_an_outcome_too(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(worker, "postprocess", fail)

    outcome = case.run()

    assert (outcome.status, outcome.kind) == ("failed", "ZeroDivisionError")
    assert outcome.details["stages"].keys() == {"network", "labels"}


def test_a_corrected_map_is_followed_and_nothing_is_replaced(with_cord: Case) -> None:
    with_cord.run()
    computed = with_cord.results()
    seen = with_cord.predictions
    corrected = with_cord.out / "corrected" / f"{NAME}_dseg.nii.gz"
    moved = np.where(phantom().labels > 0, phantom().labels + 2, 0).astype(np.uint8)
    content = write_map(corrected, moved).read_bytes()
    with_cord.corrected = corrected

    assert with_cord.look().stages == ("levels",)
    assert with_cord.look().reason == "corrected new"
    assert with_cord.ran() == ("levels",)

    assert corrected.read_bytes() == content
    now = with_cord.results()
    for ending in ("_dseg.nii.gz", "_dseg.json"):
        name = f"sub-01/anat/{NAME}{ending}"
        assert now[name] == computed[name]
    assert [row["level_name"] for row in table_of(with_cord)] == ["C5", "C6", "C7", "C8"]
    about = levels_json(with_cord)
    assert about["Corrected"]
    assert about["Sources"][1] == f"bids::corrected/{NAME}_dseg.nii.gz"
    assert with_cord.record["Corrected"] == f"corrected/{NAME}_dseg.nii.gz"
    assert with_cord.predictions == seen
    assert with_cord.run().status == "unchanged"

    with_cord.corrected = None
    assert with_cord.ran() == ("levels",)
    assert with_cord.results() == computed


def test_a_corrected_map_needs_no_network(case: Case) -> None:
    case.corrected = write_map(case.out / "corrected" / "map.nii.gz", phantom().labels)

    assert case.ran() == ("levels",)
    assert case.loader.networks == []
    assert not case.item.output.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: phantom().labels[:-1], "on the grid of the image"),
        (lambda: np.where(phantom().labels > 0, 40, 0).astype(np.uint8), "C2–T1"),
        (lambda: (phantom().labels / 2).astype(np.float32), "whole numbers"),
    ],
    ids=["grid", "levels", "numbers"],
)
def test_a_corrected_map_that_cannot_be_used_fails(
    case: Case, wrong: Callable[[], np.ndarray], message: str
) -> None:
    case.corrected = write_map(case.out / "corrected" / "map.nii.gz", wrong())

    outcome = case.run()

    assert outcome.status == "failed"
    assert message in outcome.error


def test_a_map_edited_in_its_place_is_kept_and_followed(case: Case) -> None:
    case.run()
    seen = case.predictions
    edited = edit(case.item.output)

    assert case.look().reason == f"output changed: {NAME}_dseg.nii.gz"
    outcome = case.run()

    assert outcome.status == "done"
    assert case.item.output.read_bytes() == edited
    assert [row["level_name"] for row in table_of(case)] == ["C5", "C6", "C7", "C8"]
    assert "corrected/" in levels_json(case)["Warnings"][0]
    assert levels_json(case)["Warnings"][0] in outcome.details["warnings"]
    assert levels_json(case)["Corrected"]
    assert case.run().status == "unchanged"
    assert case.run(largest=True).status == "unchanged"
    case.study["force"] = True
    assert case.ran() == ("levels",)
    assert case.item.output.read_bytes() == edited
    assert case.predictions == seen


@pytest.mark.parametrize("ending", ["_dseg.nii.gz", "_dseg.json", "_levels.tsv", "_levels.json"])
@pytest.mark.parametrize("force", [False, True])
def test_a_file_of_somebody_else_is_never_replaced(case: Case, ending: str, force: bool) -> None:
    path = case.item.beside(ending)
    path.parent.mkdir(parents=True)
    content = gzip.compress(b"mine") if ending.endswith("gz") else b"mine\n"
    path.write_bytes(content)
    case.study["force"] = force

    outcome = case.run()

    assert (outcome.status, outcome.kind) == ("failed", "OutputError")
    assert path.name in outcome.error
    assert path.read_bytes() == content
    assert case.loader.networks == []
    path.unlink()
    case.study["retry_failed"] = True
    assert case.run().status == "done"


@pytest.mark.parametrize("ending", ["_dseg.json", "_levels.tsv", "_levels.json"])
def test_what_was_edited_and_is_no_map_is_kept_too(case: Case, ending: str) -> None:
    case.run()
    path = case.item.beside(ending)
    content = path.read_bytes() + b"\n"
    path.write_bytes(content)

    outcome = case.run(method="midpoint", largest=True)

    assert outcome.status == "failed"
    assert path.read_bytes() == content


def test_the_record_of_another_program_is_kept(case: Case) -> None:
    case.item.record.parent.mkdir(parents=True)
    case.item.record.write_text('{"mine": 1}')

    assert case.run().status == "failed"
    assert case.item.record.read_text() == '{"mine": 1}'


@pytest.mark.parametrize(
    "wrong", ["broken", "another grid", "no label", "missing"], ids=lambda name: name
)
@pytest.mark.parametrize("part", ["cord", "pmj", "discs"])
def test_a_landmark_that_cannot_be_used_is_a_warning(case: Case, part: str, wrong: str) -> None:
    path = case.root / "raw" / "derivatives" / f"{part}.nii.gz"
    shape = (5, 6, 7) if wrong == "another grid" and part == "cord" else phantom().cord.shape
    if wrong == "broken":
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no image")
    elif wrong != "missing":
        write_map(path, np.zeros(shape, dtype=np.uint8))
    case.landmarks = {part: path}

    outcome = case.run()

    assert outcome.status == "done", outcome
    warnings = levels_json(case)["Warnings"]
    assert any(path.name in text and "not used" in text for text in warnings), warnings
    assert str(case.root) not in " ".join(warnings)
    assert len(levels_json(case)["Sources"]) == 2
    assert case.run().status == "unchanged"


def test_a_cord_mask_that_is_gone_takes_its_map_along(with_cord: Case) -> None:
    with_cord.run()
    spinal = with_cord.item.output.with_name(spinal_levels_name(with_cord.item.output.name))
    assert spinal.exists()
    with_cord.landmarks = {}

    assert with_cord.look().reason == "cord gone"
    assert with_cord.ran() == ("labels", "levels")
    assert not spinal.exists()
    assert not spinal.with_name("sub-01_space-orig_seg-spinallevels_dseg.json").exists()


def test_each_image_gets_an_entry_in_the_report(case: Case) -> None:
    assert case.ran(qc=True) == (*ALL, "qc")
    (entry,) = (case.out / "qc" / "entries").iterdir()
    assert case.run(qc=True).status == "unchanged"

    (entry / "entry.json").unlink()
    assert case.ran(qc=True) == ("qc",)
    assert (entry / "entry.json").exists()
    assert case.run().status == "unchanged"


def test_an_entry_that_cannot_be_made_leaves_complete_results(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(worker._Work, "_add_entry", fail)
        outcome = case.run(qc=True)
    assert (outcome.status, outcome.kind) == ("failed", "NotShownError")
    assert "No space left" in outcome.error
    assert len(case.results()) == 4

    assert case.look(qc=True).failed_before == "failed"
    case.study["retry_failed"] = True
    assert case.ran(qc=True) == ("qc",)


class Killed(BaseException):
    """Stands for a kill: nothing that follows is run."""


@contextlib.contextmanager
def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Stop before the file of this number, from 0, is moved into place."""
    moves: list[int] = []
    replace = Path.replace

    def move(self: Path, target: Path) -> Path:
        if len(moves) == number:
            raise Killed
        moves.append(1)
        return replace(self, target)

    def move_all(temporaries: list[Path], paths: list[Path]) -> None:
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", move)
        # A kill leaves no time to put files back.
        patch.setattr(atomic, "_move_all", move_all)
        with contextlib.suppress(Killed):
            yield moves


def test_a_run_that_was_killed_at_any_write_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cord = write_map(tmp_path / "cord.nii.gz", phantom().cord)
    options: list[dict[str, Any]] = [{}, {"largest": True, "method": "midpoint"}]
    expected = []
    for number, option in enumerate(options):
        whole = Case(tmp_path / f"whole{number}", {"cord": cord})
        with killed_at(999, monkeypatch) as moves:
            whole.run(**option)
        expected.append(whole.results())
    assert len(moves) >= 12
    for number in range(len(moves)):
        one = Case(tmp_path / f"killed{number}", {"cord": cord})
        with killed_at(number, monkeypatch):
            one.run()
        # Another option after the kill, killed as well: what is there is of two runs.
        with killed_at(number // 2, monkeypatch):
            one.run(**options[1])
        assert one.run(**options[1]).status in ("done", "unchanged"), number
        assert one.results() == expected[1], number
        assert not one.record["Corrected"], number
        one.run()
        assert one.results() == expected[0], number


def test_a_worker_pickles_and_loads_its_model_once(tmp_path: Path) -> None:
    case = Case(tmp_path)
    setup = pickle.loads(pickle.dumps(partial(make_worker, case.recipe())))
    work = setup()
    assert work(case.item).status == "done"
    case.study["force"] = True
    loads = len(work.recipe.load.networks)
    assert loads
    write_scan(case.image, seed=3)
    assert work(case.item).status == "done"
    assert len(work.recipe.load.networks) == loads
