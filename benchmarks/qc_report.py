"""Time the QC report: one image's page, adding to long lists, many writers, and opening a list.

    python -m benchmarks.qc_report [IMAGE SEG] [--entries 10 1000 10000] [--writers 16] [--each 300]

Without an image the synthetic sample with its true rootlets is used. Lists are filled with copies
of the one entry and opened in a headless Chromium from disk. Only the first figure has the time
that pictures take: else entries are copies of ready ones, so that what is left is the report's own
work. Sizes leave out the volumes and the viewer, which are read only when a volume is looked at.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

from sct_rootlets_task.qc import report as qc_report
from sct_rootlets_task.qc.entry import VOLUME, Details, identity
from sct_rootlets_task.qc.folder import ENTRIES
from sct_rootlets_task.qc.listing import ROWS, read_rows
from sct_rootlets_task.qc.report import INDEX, add_entry, rebuild
from sct_rootlets_task.qc.stored import DATA, place_of

_BROWSER = ("--no-sandbox", "--disable-background-networking")
_FLAGS = tuple({"code": code, "level": 4} for code in ("height", "overlap", "fov_cut"))


def write_sample_case(folder: Path) -> tuple[Path, Path]:
    """Write the sample and its true rootlets."""
    from sct_rootlets_task.io.sample import save
    from training.make_sample import make_sample

    sample = make_sample()
    paths = folder / "sample.nii.gz", folder / "sample_rootlets.nii.gz"
    for path, array in zip(paths, (sample.data, sample.levels), strict=True):
        save(array, path)
    return paths


def multiply(entry: Path, number: int) -> None:
    """Put copies of an entry beside it until there are `number`; all but the data are links."""
    content = json.loads((entry / DATA).read_text(encoding="utf-8"))
    for copy in range(1, number):
        name = f"{entry.name}-{copy}"
        folder = entry.with_name(name)
        folder.mkdir(exist_ok=True)
        for path in entry.iterdir():
            if path.name != DATA and not (folder / path.name).exists():
                os.link(path, folder / path.name)
        changed = {**content, "id": name, "subject": f"sub-{copy:05d}"}
        (folder / DATA).write_text(json.dumps(changed), encoding="utf-8")


def _ready_entry(
    ready: Path, folder: Path, image: Path, segmentation: Path, details: Details
) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ready / DATA).read_text(encoding="utf-8"))
    shutil.copyfile(ready / VOLUME, folder / VOLUME)
    places = {"image_place": place_of(image), "segmentation_place": place_of(segmentation)}
    name = identity(image, segmentation, details)
    return {**content, **places, "id": name, "subject": details.subject}


def add_ready(report: Path, ready: Path, subjects: list[str]) -> list[float]:
    """Add entries without drawing pictures.

    Parameters
    ----------
    report : Path
        Folder of the report.
    ready : Path
        Folder of an entry whose data are used again.
    subjects : list of str
        A subject for each new entry.

    Returns
    -------
    list of float
        Seconds that each took.
    """
    seconds = []
    fake = functools.partial(_ready_entry, ready)
    with mock.patch.object(qc_report, "write_entry", fake):
        for subject in subjects:
            start = time.perf_counter()
            image, segmentation = Path(f"/{subject}/t2.nii.gz"), Path(f"/{subject}/levels.nii.gz")
            add_entry(report, image, segmentation, Details("D", subject))
            seconds.append(time.perf_counter() - start)
    return seconds


def add_from_many(report: Path, ready: Path, writers: int, each: int) -> tuple[float, int]:
    """Add entries from many processes at once; return seconds and how many were lost."""
    before, start = len(read_rows(report / ROWS)), time.perf_counter()
    with ProcessPoolExecutor(writers, get_context("spawn")) as pool:
        names = [[f"writer-{w}-{n}" for n in range(each)] for w in range(writers)]
        jobs = [pool.submit(add_ready, report, ready, own) for own in names]
        for job in jobs:
            job.result()
    seconds = time.perf_counter() - start
    return seconds, before + writers * each - len(read_rows(report / ROWS))


def sizes(report: Path) -> Iterator[tuple[str, float]]:
    """Yield what the list needs when it opens, and the whole report, in MB without volumes."""
    files = [path for path in report.rglob("*") if path.is_file()]
    files = [path for path in files if path.name != VOLUME and "niivue" not in path.name]
    listed = [path for path in files if ENTRIES not in path.parts or path.stem == "thumbnail"]
    for name, chosen in (("list with thumbnails", listed), ("all pages and pictures", files)):
        yield name, sum(path.stat().st_size for path in chosen) / 1e6


def load_times(report: Path, repeats: int) -> list[float]:
    """Return seconds from the address to a list that can be used, each time in a new context."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_BROWSER))
        for _ in range(repeats):
            page = browser.new_context().new_page()
            start = time.perf_counter()
            page.goto((report / INDEX).as_uri())
            page.wait_for_selector("body[data-ready]")
            seconds.append(time.perf_counter() - start)
        browser.close()
    return seconds


def _measure(report: Path, page: Path, number: int, repeats: int) -> None:
    """Print what a list of a length costs: to make anew, to add to, and to open."""
    multiply(page.parent, number)
    start = time.perf_counter()
    rebuild(report)
    rebuilt = time.perf_counter() - start
    added = add_ready(report, page.parent, [f"new-{number}-{n}" for n in range(20)])
    opened = statistics.median(load_times(report, repeats))
    print(
        f"{number} images: one more {1e3 * statistics.median(added):.1f} ms, list made anew "
        f"{rebuilt:.2f} s, ready in the browser {opened:.2f} s"
    )
    if number <= 1000:
        for name, megabytes in sizes(report):
            print(f"{number} images, {name}: {megabytes:.2f} MB")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="IMAGE SEG")
    parser.add_argument("--entries", type=int, nargs="+", default=[10, 300, 1000, 2000, 10000])
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--each", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if len(arguments.files) not in (0, 2):
        parser.error("give an image and its segmentation, or neither")
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "qc"
        image, segmentation = arguments.files or write_sample_case(Path(scratch))
        made = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            page = add_entry(report, image, segmentation, Details(flags=_FLAGS))
            made.append(time.perf_counter() - start)
        print(f"page of one image: {statistics.median(made):.2f} s (median of {len(made)})")
        for number in sorted(arguments.entries):
            _measure(report, page, number, arguments.repeats)
        count = arguments.writers * arguments.each
        fresh = Path(scratch) / "fresh"
        add_ready(fresh, page.parent, ["first"])
        seconds, lost = add_from_many(fresh, page.parent, arguments.writers, arguments.each)
        print(f"{arguments.writers} writers, {count} entries: {lost} lost, {seconds:.1f} s")


if __name__ == "__main__":
    main()
