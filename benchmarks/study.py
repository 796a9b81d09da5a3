"""Measure whole studies: images an hour, memory, and what 10,000 subjects cost.

    python -m benchmarks.study [--images 16] [--subjects 60 10000] [--kills 20]

The first part segments synthetic necks (``tests/study_dataset.py``) with the built-in starter, by
one worker and by two of one thread each. The second simulates large studies: planner, records,
journal and table of failures are the real ones, the work is writing small files. The third kills
a worker or the driver at random moments, goes on each time, and compares all bytes at the end.
``python -m benchmarks.qc_report`` prints what long lists of the QC report cost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "SCT_ROOTLETS_BENCHMARK"
_COMMAND = [sys.executable, "-m", "sct_rootlets_task.cli.sct_rootlets", "bids"]
_POLL_S = 0.05


def write_dataset(folder: Path, subjects: int) -> Path:
    """Write a data set of synthetic necks."""
    script = ROOT / "tests" / "study_dataset.py"
    words = [sys.executable, str(script), str(folder), "--subjects", str(subjects)]
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": path})
    return folder


def participant(bids_dir: Path, out: Path, *options: str) -> list[str]:
    """Return the words of a run on T2w images with the starter."""
    fixed = ("--model=starter", "--contrast=T2w", "--skip-bids-validation", "--n-threads=1")
    return [*_COMMAND, str(bids_dir), str(out), "participant", *fixed, *options]


def marked(mark: str) -> dict[int, float]:
    """Return the processes that have a mark in their environment, with their peak memory in MB."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                status = (folder / "status").read_text()
                words = status.split()
                peak = int(words[words.index("VmHWM:") + 1]) if "VmHWM:" in words else 0
                found[int(folder.name)] = peak / 1024
        except OSError:  # gone meanwhile
            continue
    return found


@dataclass(frozen=True)
class Timed:
    """A run of the command: its wall time, model loads, images, and peak memory in MB."""

    seconds: float
    loads: int
    images: int
    driver_mb: float
    worker_mb: float


def timed_run(bids_dir: Path, out: Path, workers: int) -> Timed:
    """Run the command and watch its processes."""
    words, mark = participant(bids_dir, out, f"--n-procs={workers}", "-v", "1"), out.name
    start = time.perf_counter()
    peaks: dict[int, float] = {}
    said = out.with_suffix(".log")
    with (
        said.open("wb") as stream,
        subprocess.Popen(
            words, env={**os.environ, MARK: mark}, stdout=subprocess.DEVNULL, stderr=stream
        ) as process,
    ):
        while process.poll() is None:
            for pid, peak in marked(mark).items():
                peaks[pid] = max(peak, peaks.get(pid, 0))
            time.sleep(_POLL_S)
    seconds = time.perf_counter() - start
    lines = [json.loads(line) for log in (out / "logs").iterdir() for line in log.open()]
    images = [line for line in lines if line["event"] == "image"]
    theirs = {line["process"] for line in images}
    return Timed(
        seconds,
        said.read_text().count("Model starter, engine"),
        sum(line["status"] == "done" for line in images),
        peaks.get(process.pid, 0),
        max((peak for pid, peak in peaks.items() if pid in theirs), default=0),
    )


def measure_throughput(folder: Path, subjects: int) -> None:
    """Print images an hour with one worker and with two, in turns."""
    bids_dir = write_dataset(folder / "raw", subjects)
    first = None
    for workers in (1, 2):
        run = timed_run(bids_dir, folder / f"workers{workers}", workers)
        first = first or run
        print(
            f"{workers} worker(s): {3600 * run.images / run.seconds:.0f} images an hour "
            f"({run.images} in {run.seconds:.1f} s, {first.seconds / run.seconds:.2f} times), "
            f"model loaded {run.loads} times, peak {run.worker_mb:.0f} MB a worker, "
            f"{run.driver_mb:.0f} MB the driver"
        )


def write_tiny(folder: Path, subjects: int) -> None:
    """Write a data set of images that nobody reads, each a link to one file."""
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    (folder / "image.nii.gz").write_bytes(b"image")
    for number in range(subjects):
        anat = folder / f"sub-{number:05d}" / "anat"
        anat.mkdir(parents=True)
        os.link(folder / "image.nii.gz", anat / f"sub-{number:05d}_T2w.nii.gz")


def simulate(folder: Path, subjects: int) -> None:
    """Run a study whose work takes no time, twice; print costs. For a process of its own."""
    from sct_rootlets_task.study.attempt import Setup
    from sct_rootlets_task.study.dataset import find_items
    from sct_rootlets_task.study.item import Item
    from sct_rootlets_task.study.keeper import Keeper
    from sct_rootlets_task.study.options import Processing, Study
    from sct_rootlets_task.study.outcome import DONE, Outcome
    from sct_rootlets_task.study.plan import stage_folder
    from sct_rootlets_task.study.run import run_study

    write_tiny(folder / "raw", subjects)

    def no_network(items: Iterable[Item], setup: Setup) -> Generator[Outcome, None, None]:
        recipe = setup().recipe  # type: ignore[attr-defined]
        for item in items:
            keeper = Keeper(item, recipe)
            keeper.begin()
            for stage in keeper.todo.stages:
                path = stage_folder(stage, item, recipe) / f"{item.name}_{stage}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(stage)
                keeper.done(stage, [path])
            keeper.finish()
            yield Outcome(item.name, DONE)

    out = folder / "out"
    processing = Processing(model="starter", qc=False)
    study = Study(folder / "raw", out, out / "work", processing=processing)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    work = run_study(study, runner=no_network)
    idle = run_study(study, runner=no_network)
    from sct_rootlets_task.registry import ROOTLETS

    start = time.perf_counter()
    find_items(study, ROOTLETS)
    finding = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    parts = {"finding images": finding, "planning": idle.seconds - finding}
    slowest = max(parts, key=lambda name: parts[name])
    print(
        f"{subjects} subjects: nothing to do {1e3 * idle.seconds / subjects:.2f} ms a subject "
        f"({idle.seconds:.1f} s; {', '.join(f'{n} {s:.1f} s' for n, s in parts.items())}; most: "
        f"{slowest}), records and log {1e3 * work.seconds / subjects:.1f} ms a subject, driver "
        f"{after:.0f} MB ({before:.0f} MB before)"
    )
    assert (work.done, idle.unchanged) == (subjects, subjects)


def checksums(out: Path) -> dict[str, str]:
    """Return the checksums of all results; a record has times."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.glob("sub-*/**/*"))
        if path.is_file() and not path.name.endswith("_record.json")
    }


def measure_kills(folder: Path, kills: int, seed: int) -> None:
    """Kill a worker or the driver at random moments, go on, compare with an undisturbed run."""
    chance = random.Random(seed)
    bids_dir = write_dataset(folder / "raw", 3)
    whole, out = folder / "whole", folder / "killed"
    subprocess.run(participant(bids_dir, whole, "--n-procs=2"), check=True, capture_output=True)
    environment = {**os.environ, MARK: "kills"}
    survived: dict[str, int] = {"driver": 0, "worker": 0}
    orphans = 0
    for _ in range(kills):
        victim = chance.choice(list(survived))
        options = ["--n-procs=2", *(["--force"] if chance.random() < 0.5 else [])]
        with subprocess.Popen(
            participant(bids_dir, out, *options),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(chance.uniform(0.2, 6))
            others = [pid for pid in marked("kills") if pid != process.pid]
            target = chance.choice(others) if victim == "worker" and others else process.pid
            try:
                os.kill(target, signal.SIGKILL)
            except ProcessLookupError:  # the run had just ended
                continue
            survived["driver" if target == process.pid else "worker"] += 1
            if target == process.pid:
                process.wait()
                time.sleep(1)
                orphans += len(marked("kills"))
    words = participant(bids_dir, out, "--n-procs=2", "--retry-failed")
    code = subprocess.run(words, check=False, env=environment, capture_output=True).returncode
    one, other = checksums(whole), checksums(out)
    differing = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    strays = [path for path in out.rglob(".sct_rootlets-*") if path.is_file()]
    print(
        f"seed {seed}: killed {survived['driver']} times the driver, {survived['worker']} times a "
        f"worker; last run ended with {code}; {len(differing)} of {len(one)} files differ, "
        f"{orphans} orphans, {len(strays)} temporary files"
    )


def _in_own_process(folder: Path, subjects: int) -> None:
    """Simulate in a new process, whose memory is that of one study."""
    code = (
        "from pathlib import Path; from benchmarks.study import simulate; "
        f"simulate(Path({str(folder)!r}), {subjects})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def _folders(scratch: Path) -> Iterator[Path]:
    number = 0
    while True:
        number += 1
        folder = scratch / str(number)
        folder.mkdir()
        yield folder


def main(argv: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="subjects to segment; 0: none")
    parser.add_argument("--subjects", type=int, nargs="*", default=[60, 10_000])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        folders = _folders(Path(scratch))
        if arguments.images:
            measure_throughput(next(folders), arguments.images)
        for subjects in arguments.subjects:
            _in_own_process(next(folders), subjects)
        if arguments.kills:
            measure_kills(next(folders), arguments.kills, arguments.seed)


if __name__ == "__main__":
    main()
