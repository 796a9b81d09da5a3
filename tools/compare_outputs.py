"""Compare what this checkout and another one write for the same images.

    python -m tools.compare_outputs OTHER_CHECKOUT IMAGE [IMAGE …] [--without-texts] [--keep FOLDER]

Both segment each image with the starter and make its QC page. Then they check the levels, measure
them by each method, renumber and split them. A mask IMAGE_label-SC_mask.nii.gz beside an image is
used as its cord; without one nothing is split. Files are compared byte by byte, images unpacked.
Times and versions in JSON files do not count. The exit code is 1 where something differs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
START = """
import sys
try:
    from sct_rootlets_task.cli import console
except ImportError:
    from sct_rootlets_task import console
sys.argv = sys.argv[1:]
sys.exit(getattr(console, sys.argv[0])())
"""
"""Runs a command by its name; earlier checkouts have the entry points in another module."""
ENVIRONMENT = {"SCT_ROOTLETS_OFFLINE": "1", "SCT_ROOTLETS_CACHE": "off"}
SUBJECT = ("-qc-dataset", "images", "-qc-subject", "image")
METHODS = ("caudal", "midpoint", "rootlets")
VARYING = frozenset({"Seconds", "SoftwareVersions", "Version", "CodeURL", "made", "report"})
"""Keys of JSON files that are left out: times, versions, and the random name of a QC report."""
TEXTS = frozenset({"text", "Notice", "Warnings", "warnings", "notice"})
"""Keys that hold sentences for people."""
COMPARED = (".nii.gz", ".csv", ".json", ".png", ".jpg", ".txt")
"""Endings of the files that are looked at: pages and scripts are not results."""
NOT_COMPARED = frozenset({"image.nii.gz", "cord.nii.gz", "report.json", "niivue.LICENSE.txt"})
"""Inputs, the identity of a QC report, and what comes with its viewer."""


def commands(cord: bool) -> Iterator[list[str]]:
    """Yield the commands for ``image.nii.gz``, in their order.

    Parameters
    ----------
    cord : bool
        Whether there is a ``cord.nii.gz``.
    """
    mask = ["-s", "cord.nii.gz"] if cord else []
    segment = ["sct_deepseg", "rootlets", "-model", "starter", "-i", "image.nii.gz", "-v", "0"]
    yield [*segment, "-o", "seg.nii.gz", "-qc", "qc", *SUBJECT]
    tool = ["sct_rootlets"]
    yield [*tool, "check", "-i", "seg.nii.gz", *mask, "-o", "check.json"]
    for method in METHODS:
        out = ["-csv", f"{method}.csv", *(["-o", f"{method}.nii.gz"] if cord else [])]
        yield [*tool, "levels", "-i", "seg.nii.gz", *mask, "-method", method, *out]
    yield [*tool, "relabel", "-i", "seg.nii.gz", "-shift", "1", "-o", "shifted.nii.gz"]
    if cord:
        yield [*tool, "split", "-i", "seg.nii.gz", *mask, "-o", "split"]


def run_commands(checkout: Path, image: Path, folder: Path) -> None:
    """Run all commands of a checkout on an image, in a new folder.

    Raises
    ------
    SystemExit
        If a command fails.
    """
    folder.mkdir()
    shutil.copy(image, folder / "image.nii.gz")
    cord = image.with_name(image.name.replace(".nii.gz", "_label-SC_mask.nii.gz"))
    if cord.is_file():
        shutil.copy(cord, folder / "cord.nii.gz")
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(checkout.resolve())}
    for words in commands(cord.is_file()):
        done = subprocess.run(
            [sys.executable, "-c", START, *words],
            cwd=folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"failed in {checkout}: {' '.join(words)}\n{done.stderr}")


def written(folder: Path) -> dict[str, Path]:
    """Return the files of a folder that are compared, by their names in it."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {
        name: path
        for name, path in files.items()
        if name.endswith(COMPARED) and path.name not in NOT_COMPARED
    }


def content(path: Path, left_out: frozenset[str] = VARYING) -> object:
    """Return what is compared of a file: parsed JSON, an unpacked image, or its bytes.

    Parameters
    ----------
    path : Path
        The file.
    left_out : frozenset of str
        Keys of JSON that do not count.
    """
    data = path.read_bytes()
    if path.suffix == ".json":
        return _without(json.loads(data), left_out)
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _without(value: Any, left_out: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, left_out) for k, v in value.items() if k not in left_out}
    return [_without(item, left_out) for item in value] if isinstance(value, list) else value


def differences(ours: Path, theirs: Path, left_out: frozenset[str] = VARYING) -> dict[str, str]:
    """Return each compared file of two folders, and how it differs: empty where it does not.

    Parameters
    ----------
    ours, theirs : Path
        Folders.
    left_out : frozenset of str
        Keys of JSON that do not count.
    """
    mine, other = written(ours), written(theirs)
    found = dict.fromkeys(mine, "only here") | dict.fromkeys(other, "only there")
    for name in mine.keys() & other.keys():
        here, there = (content(files[name], left_out) for files in (mine, other))
        found[name] = "" if here == there else _where(here, there) or "differs"
    return dict(sorted(found.items()))


def _where(first: object, second: object, place: str = "") -> str:
    """Return the places at which two parsed JSON files differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = dict.fromkeys([*first, *second])
        parts = [(f"{place}.{key}", first.get(key), second.get(key)) for key in keys]
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = zip(first, second, strict=True)
        parts = [(f"{place}[{number}]", *pair) for number, pair in enumerate(pairs)]
    else:
        return place.lstrip(".")
    return ", ".join(_where(a, b, name) for name, a, b in parts if a != b)


def compare_image(
    image: Path, checkouts: Sequence[Path], folder: Path, left_out: frozenset[str] = VARYING
) -> dict[str, str]:
    """Run both checkouts on an image and return the :func:`differences`.

    They work at the same place, one after the other, so that paths are the same as well.
    """
    results = []
    for number, checkout in enumerate(checkouts):
        run_commands(checkout, image, folder / "work")
        results.append((folder / "work").rename(folder / f"{image.name}-{number}"))
    return differences(results[0], results[1], left_out)


def main(words: Sequence[str] | None = None) -> int:
    """Print a table of all files and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="The other checkout.")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--without-texts", action="store_true", help="Let sentences differ.")
    parser.add_argument("--keep", type=Path, help="New folder in which the outputs stay.")
    arguments = parser.parse_args(words)
    left_out = VARYING | TEXTS if arguments.without_texts else VARYING
    differing = 0
    print("| image | file | |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        for image in arguments.images:
            found = compare_image(image, (HERE, arguments.other), folder, left_out)
            for name, how in found.items():
                print(f"| {image.name} | {name} | {how or 'same'} |", flush=True)
            differing += sum(map(bool, found.values()))
    print(f"\n{differing} files differ.")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
