"""Whatever is typed ends with a known code and a sentence, and loses nothing."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from unittest import mock

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from fuzz_commands import FILES, INPUTS, commands
from model_zips import write_model
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.io.sample import Sample
from sct_rootlets_task.levels.located_canal import LocatedLevels
from sct_rootlets_task.segmentation import locator

COUNT = 60 * int(os.environ.get("SCT_ROOTLETS_FUZZ", "1"))
SEED = int(os.environ.get("SCT_ROOTLETS_TEST_SEED", "0"))
LONGEST_S = 10


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `fault` says what must not be."""

    kind: str
    fault: str
    message: str


def prepare(folder: Path) -> None:
    """Make a small study with good files, and things that are none."""
    labels = np.zeros((12, 12, 40), np.uint8)
    for number, level in enumerate((3, 4, 5)):
        labels[3:5, 5:7, 4 + 12 * number : 9 + 12 * number] = 8 - level
        labels[8:10, 5:7, 4 + 12 * number : 9 + 12 * number] = 8 - level
    points = {"pmj": np.zeros_like(labels), "discs": np.zeros_like(labels)}
    points["pmj"][6, 6, 39] = 50
    for number in range(3):
        points["discs"][6, 2, 34 - 12 * number] = number + 4
    cord = np.zeros_like(labels)
    cord[5:8, 5:8] = 1
    arrays = {"image": labels + 10.0, "seg": labels, "cord": cord, **points}
    for name, array in arrays.items():
        image = nib.Nifti1Image(array.astype(np.float32), np.eye(4))
        nib.save(image, folder / f"{name}.nii.gz")
    (folder / "text.nii.gz").write_text("no image")
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "folder").mkdir()
    (folder / "folder.nii.gz").mkdir()
    (folder / "loop.nii.gz").symlink_to("loop.nii.gz")
    (folder / "dangling.nii.gz").symlink_to("nothing.nii.gz")
    write_model(folder / "model")


@contextlib.contextmanager
def _tame(folder: Path) -> Iterator[None]:
    """Work in a folder, without the network, the real networks, and the user's own folders."""
    tiny = Sample(np.ones((3, 3, 3), np.int16), np.ones((3, 3, 3), bool))
    environ = {
        "HOME": str(folder / "home"),
        "SCT_ROOTLETS_OFFLINE": "1",
        "SCT_ROOTLETS_CACHE": "off",
        "SCT_ROOTLETS_MODELS": str(folder / "models"),
    }
    located = lambda image, *_, **__: LocatedLevels(np.zeros(image.data.shape, np.uint8))  # noqa: E731
    with (
        _chdir(folder),
        mock.patch.dict(os.environ, environ),
        mock.patch.object(locator, "locate", located),
        mock.patch("sct_rootlets_task.io.sample.load_sample", return_value=tiny),
    ):
        yield


@contextlib.contextmanager
def _chdir(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _too_long(*_: object) -> None:
    raise SystemError(f"longer than {LONGEST_S} s")


def outcome(program: str, words: list[str], folder: Path) -> Outcome:
    """Run a command in a prepared folder and look at what it says and leaves."""
    before = {name: (folder / name).read_bytes() for name in FILES}
    out, err = io.StringIO(), io.StringIO()
    with _tame(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(LONGEST_S)
        try:
            if program == "sct_deepseg":
                code = sct_deepseg.main(words, load=Loader())
            else:
                code = main(words)
        except BaseException as error:
            return Outcome("raised", f"{type(error).__name__}: {error}", err.getvalue())
        finally:
            signal.alarm(0)
    message = err.getvalue()
    faults = [
        text
        for text, there in (
            (f"exit code {code}", code not in (0, 1, 2)),
            ("a traceback", "Traceback" in message + out.getvalue()),
            ("a fault nobody foresaw", "please report it" in message),
            ("an error without a sentence", code and not (message + out.getvalue()).strip()),
            ("a control character", "\x1b" in message),
            ("too long a message", len(message) > 20_000),
            ("a file left behind", any(folder.rglob(".sct_rootlets-*"))),
            ("a file lost", _is_lost(before, words, folder)),
        )
        if there
    ]
    return Outcome(f"{program} {code}", ", ".join(faults), message)


def _is_lost(before: dict[str, bytes], words: list[str], folder: Path) -> bool:
    """Tell whether an input was changed, or any file without leave; put back what was changed."""
    changed = {name for name, content in before.items() if (folder / name).read_bytes() != content}
    for name in changed:
        (folder / name).write_bytes(before[name])
    pairs = list(pairwise(words))
    inputs = {value for option, value in pairs if option in INPUTS}
    return bool(changed) and (("-overwrite", "1") not in pairs or bool(changed & inputs))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_no_command_ends_in_a_traceback_or_loses_a_file(tmp_path: Path, seed: int) -> None:
    prepare(tmp_path)
    ends = set()
    for program, words in islice(commands(seed), COUNT):
        found = outcome(program, words, tmp_path)
        assert not found.fault, f"{found.fault}: {program} {words!r}\n{found.message[-800:]}"
        ends.add(found.kind)
    assert {"sct_rootlets 0", "sct_rootlets 2", "sct_deepseg 2"} <= ends, "it reaches the work"
