"""Whole runs: on processes, on a cluster, in parts, killed and gone on with."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dask_cluster import cluster_in
from fake_network import Loader
from sct_rootlets_task.api import run_group
from sct_rootlets_task.errors import ModelNotInstalledError
from sct_rootlets_task.study.attempt import Setup
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.options import Processing, Resources, Selection, Study
from sct_rootlets_task.study.outcome import Outcome
from sct_rootlets_task.study.run import Summary, plan_study, run_study
from study_case import write_levels_model
from study_dataset import make_dataset

COMMAND = [sys.executable, "-m", "sct_rootlets_task.cli.sct_rootlets", "bids"]
MARK = "SCT_ROOTLETS_TEST_OF_KILLS"


def here(items: Iterable[Item], setup: Setup) -> Generator[Outcome, None, None]:
    """Work on items in this process."""
    work = setup()
    for item in items:
        yield work(item)


def checksums(out_dir: Path) -> dict[str, str]:
    """Return the checksums of all results; a record has times."""
    return {
        path.relative_to(out_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out_dir.glob("sub-*/**/*"))
        if path.is_file() and not path.name.endswith("_record.json")
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def log_of(summary: Summary) -> list[dict[str, Any]]:
    assert summary.log
    return [json.loads(line) for line in summary.log.read_text().splitlines()]


# In this process, with a network that takes no time


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Tiny images of nine subjects, faults included."""
    out = tmp_path / "out"
    model = write_levels_model(tmp_path / "model")
    processing = Processing(model=str(model), qc=False)
    bids_dir = make_dataset(tmp_path / "raw", 9, tiny=True)
    return Study(bids_dir, out, out / "work", processing=processing, command=("bids", "raw"))


Run = Callable[[Study], Summary]


@pytest.fixture
def run() -> Run:
    return partial(run_study, load=Loader(), runner=here)


def test_what_cannot_be_done_fails_alone(study: Study, run: Run) -> None:
    summary = run(study)
    assert summary.failures == study.out_dir / "failures.tsv"
    failed = {row["subject"]: row for row in table(summary.failures)}
    assert set(failed) == {"sub-04", "sub-08"}  # broken, and not fetched
    assert failed["sub-04"]["kind"] == "ImageError"
    assert (summary.failed, summary.left_out) == (2, 1)
    assert summary.done == len(list(study.out_dir.rglob("*_levels.tsv")))
    assert not summary.is_complete


def test_a_second_run_has_nothing_to_do_and_names_the_same_failures(study: Study, run: Run) -> None:
    first = run(study)
    before = checksums(study.out_dir)
    again = run(study)
    assert (again.done, again.unchanged, again.failed) == (0, first.done, first.failed)
    assert checksums(study.out_dir) == before
    assert again.failures
    assert {row["subject"] for row in table(again.failures)} == {"sub-04", "sub-08"}


def test_failed_images_are_tried_again_when_asked_for_and_leave_the_table(
    study: Study, run: Run
) -> None:
    run(study)
    (good,) = (study.bids_dir / "sub-06").rglob("*run-1_T2w.nii.gz")
    (broken,) = (study.bids_dir / "sub-04").rglob("*_T2w.nii.gz")
    stat = broken.stat()
    broken.write_bytes(good.read_bytes())
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    summary = run(replace(study, retry_failed=True))
    assert (summary.done, summary.failed) == (1, 1)
    assert summary.failures
    assert {row["subject"] for row in table(summary.failures)} == {"sub-08"}


def test_the_log_has_a_line_for_each_image(study: Study, run: Run) -> None:
    summary = run(study)
    lines = log_of(summary)
    assert [lines[0]["event"], lines[-1]["event"]] == ["start", "end"]
    assert lines[0]["command"] == ["bids", "raw"]
    images = {line["name"]: line for line in lines if line["event"] == "image"}
    assert len(images) == summary.done + summary.failed
    assert lines[-1]["counts"] == {"done": summary.done, "failed": summary.failed}
    failed = [line for line in images.values() if line["status"] == "failed"]
    assert all(line["error"] for line in failed)


def test_parts_make_what_a_run_at_once_makes(study: Study, run: Run, tmp_path: Path) -> None:
    run(study)
    parts = replace(study, out_dir=tmp_path / "parts", work_dir=tmp_path / "parts" / "work")
    for part in ((1, 2), (2, 2)):
        summary = run(replace(parts, selection=Selection(part=part)))
        assert 0 < summary.done < 9
    assert checksums(parts.out_dir) == checksums(study.out_dir)
    both = {row["subject"] for row in table(parts.out_dir / "failures.tsv")}
    assert both == {"sub-04", "sub-08"}


def test_only_the_images_of_a_list_are_worked_on(study: Study, run: Run, tmp_path: Path) -> None:
    chosen = tmp_path / "qc_fail.yml"
    chosen.write_text('FILES_SEG:\n    - "/anywhere/sub-09_T2w.nii"\n')
    summary = run(replace(study, selection=Selection(only=chosen)))
    assert summary.done == 1
    assert {name.split("/")[0] for name in checksums(study.out_dir)} == {"sub-09"}


def test_a_corrected_map_is_followed_to_the_group_table(study: Study, run: Run) -> None:
    run(study)
    (made,) = (study.out_dir / "sub-09").rglob("*_dseg.nii.gz")
    corrected = study.out_dir / "corrected" / made.name
    corrected.parent.mkdir()
    image = nib.load(made)
    labels = np.asarray(image.dataobj).copy()
    labels[tuple(np.argwhere(labels == labels.max())[0])] = 0
    nib.save(nib.Nifti1Image(labels, image.affine), corrected)
    before = made.read_bytes(), corrected.read_bytes()
    assert run(study).done == 1
    assert (made.read_bytes(), corrected.read_bytes()) == before
    run_group(study.out_dir)
    rows = table(study.out_dir / "group_levels.tsv")
    assert {row["subject"] for row in rows if row["corrected"] == "yes"} == {"sub-09"}


def test_a_dry_run_says_why_and_writes_nothing(study: Study, run: Run) -> None:
    planned = list(plan_study(study))
    assert {item.reason for item in planned} == {"new"}
    assert not study.out_dir.exists()
    run(study)
    changed = replace(study, processing=replace(study.processing, largest=True))
    planned = [one for one in plan_study(changed) if one.reason != "failed before"]
    assert {one.reason for one in planned} >= {"option changed: largest"}
    assert {one.stages for one in planned if "largest" in one.reason} == {("labels", "levels")}


def test_names_of_laboratories(study: Study, run: Run) -> None:
    run(replace(study, naming="neuropoly"))
    maps = {path.name for path in study.out_dir.rglob("*_dseg.nii.gz")}
    assert "sub-09_T2w_label-rootlets_dseg.nii.gz" in maps


def test_a_study_does_not_fall_back_to_another_model(
    study: Study, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_OFFLINE", "1")
    processing = Processing(model_dir=str(tmp_path / "models"))
    with pytest.raises(ModelNotInstalledError, match="--model starter"):
        run(replace(study, processing=processing))
    assert not study.out_dir.exists()


# With the built-in starter, in processes


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Summary]:
    """Three subjects, worked on by two processes."""
    folder = tmp_path_factory.mktemp("real")
    bids_dir = make_dataset(folder / "raw", 3, faults=False)
    out = folder / "out"
    resources = Resources(workers=2, threads=1)
    study = Study(
        *(bids_dir, out, out / "work"),
        processing=Processing(model="starter"),
        selection=Selection(contrasts=("T2w",)),
        resources=resources,
    )
    return study, run_study(study)


@pytest.mark.network
def test_two_processes_load_the_model_once_each(real: tuple[Study, Summary]) -> None:
    study, summary = real
    assert summary.is_complete
    images = [line for line in log_of(summary) if line["event"] == "image"]
    assert len({line["process"] for line in images}) == 2
    assert os.getpid() not in {line["process"] for line in images}
    assert len(checksums(study.out_dir)) >= 4 * summary.done


@pytest.mark.network
def test_the_results_are_valid_bids(real: tuple[Study, Summary]) -> None:
    study, _ = real
    run_group(study.out_dir)
    found = subprocess.run(
        [Path(sys.executable).with_name("bids-validator-deno"), study.out_dir, "--format=json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    issues = json.loads(found.stdout)["issues"]["issues"]
    assert not [one for one in issues if one["severity"] == "error"]
    assert found.returncode == 0


@pytest.mark.network
def test_all_images_are_in_the_report(real: tuple[Study, Summary]) -> None:
    study, summary = real
    assert len(list((study.out_dir / "qc" / "entries").glob("[!.]*"))) == summary.done
    rows = (study.out_dir / "qc" / "list.js").read_text()
    assert rows.count("QC.row(") >= summary.done


@pytest.mark.network
def test_dots_of_the_cohort_page_lead_to_pages_of_images(real: tuple[Study, Summary]) -> None:
    study, summary = real
    page = run_group(study.out_dir).page.read_text()
    entries = {path.name for path in (study.out_dir / "qc" / "entries").glob("[!.]*")}
    assert len(entries) == summary.done
    assert set(re.findall(r'<a href="index.html#([^"]+)"><title>', page)) == entries


@pytest.mark.network
def test_a_dask_cluster_makes_the_same_bytes(real: tuple[Study, Summary], tmp_path: Path) -> None:
    study, _ = real
    out = tmp_path / "out"
    with cluster_in(tmp_path) as cluster:
        cluster.add_workers(2, 1)
        there = replace(
            study,
            out_dir=out,
            work_dir=out / "work",
            resources=Resources(scheduler=cluster.address),
        )
        summary = run_study(there)
    assert summary.is_complete
    assert checksums(out) == checksums(study.out_dir)


def processes(mark: str) -> Iterator[int]:
    """Yield the processes that have a mark in their environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                yield int(folder.name)
        except OSError:  # gone, or of another user
            continue


def gone(mark: str, seconds: float = 10) -> bool:
    """Wait until no process has a mark."""
    until = time.monotonic() + seconds
    while list(processes(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return not list(processes(mark))


@pytest.mark.network
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_killed_at_random_and_gone_on_with(real: tuple[Study, Summary], tmp_path: Path) -> None:
    study, _ = real
    chance, out = random.Random(7), tmp_path / "out"
    words = [*COMMAND, str(study.bids_dir), str(out), "participant", "--model=starter",
             "--contrast=T2w", "--n-procs=2", "--n-threads=1", "--skip-bids-validation",
             "-v", "0"]  # fmt: skip
    environment = {**os.environ, MARK: tmp_path.name}
    for victim in ("driver", "worker", "driver"):
        with subprocess.Popen(
            words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            time.sleep(chance.uniform(1.5, 5))
            others = [pid for pid in processes(tmp_path.name) if pid != process.pid]
            os.kill(process.pid if victim == "driver" else chance.choice(others or [process.pid]),
                    signal.SIGKILL)  # fmt: skip
            if victim == "driver":
                process.wait()
                assert gone(tmp_path.name), "a worker outlived its driver"
    last = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert checksums(out) == checksums(study.out_dir)
    assert not list(out.rglob(".sct_rootlets-*"))
    assert gone(tmp_path.name)
