"""Time the QC report: making one image's page, and loading a list of many images.

    python -m benchmarks.qc_report [IMAGE SEG] [--entries 300] [--repeats 3]

Without an image the synthetic sample with its true rootlets is used. The list is filled with copies
of the one entry and loaded in a headless Chromium from disk. Sizes leave out the volumes and the
viewer, which are read only when a volume is looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sct_rootlets_task.qc.entry import VOLUME, Details
from sct_rootlets_task.qc.pages import write_entry_pages
from sct_rootlets_task.qc.report import INDEX, add_entry, rebuild
from sct_rootlets_task.qc.stored import DATA

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
    """Put copies of an entry beside it until there are `number`; volumes are linked, not copied."""
    content = json.loads((entry / DATA).read_text(encoding="utf-8"))
    for copy in range(1, number):
        name = f"{entry.name}-{copy}"
        folder = entry.with_name(name)
        shutil.copytree(entry, folder, ignore=shutil.ignore_patterns(VOLUME))
        os.link(entry / VOLUME, folder / VOLUME)
        changed = {**content, "id": name, "subject": f"sub-{copy:03d}"}
        (folder / DATA).write_text(json.dumps(changed), encoding="utf-8")
        write_entry_pages(folder, changed)


def sizes(report: Path) -> Iterator[tuple[str, float]]:
    """Yield what the list needs when it opens, and the whole report, in MB without volumes."""
    files = [path for path in report.rglob("*") if path.is_file()]
    files = [path for path in files if path.name != VOLUME and "niivue" not in path.name]
    listed = [path for path in files if "entries" not in path.parts or path.stem == "thumbnail"]
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


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="IMAGE SEG")
    parser.add_argument("--entries", type=int, default=300)
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
        multiply(page.parent, arguments.entries)
        rebuild(report)
        for name, megabytes in sizes(report):
            print(f"{arguments.entries} images, {name}: {megabytes:.2f} MB")
        seconds = statistics.median(load_times(report, arguments.repeats))
        print(f"{arguments.entries} images, until the list is ready: {seconds:.2f} s")


if __name__ == "__main__":
    main()
