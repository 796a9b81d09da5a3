"""Progress is a bar on a terminal, a line now and then elsewhere, and ends at 100 %."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import small_model
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.io import progress
from sct_rootlets_task.io.progress import Progress, remaining
from volumes import smooth_noise, write_image


class Terminal(io.StringIO):
    """A terminal that says nothing about its width."""

    encoding = "ascii"

    def isatty(self) -> bool:
        return True

    def frames(self) -> list[str]:
        """Return what was drawn, one after the other, without the blanks that erase."""
        return [frame.rstrip() for frame in re.split(r"[\r\n]", self.getvalue()) if frame.strip()]


class Clock:
    """A clock that goes on by so many seconds each time it is asked."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr("tqdm.std.time", Clock(1.0))
    return stream


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    return stream


def run(totals: Sequence[float | None], first: float | None = None, **options: Any) -> None:
    with Progress("Tiles", first, **options) as shown:
        for number, total in enumerate(totals, 1):
            shown.update(number, total)


@pytest.mark.parametrize("seed", range(10))
def test_the_bar_ends_at_100_percent_however_the_total_shrinks(
    terminal: Terminal, seed: int
) -> None:
    done = int(np.random.default_rng(seed).integers(1, 30))
    totals = [max(number, 100 - 3 * number) for number in range(1, done)] + [done]
    run(totals, first=100)
    frames = terminal.frames()
    assert frames[0].startswith("Tiles:   0%")
    assert re.fullmatch(rf"Tiles: 100%\|#+\| {done}/{done} \[.*<00:00\]", frames[-1])
    assert terminal.getvalue().endswith("\n")
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize("columns", [1, 2, 5, 20, 40, 60, 79, 200])
def test_no_line_is_wider_than_the_terminal(
    terminal: Terminal, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with Progress("x" * 100, 1000) as shown:
        for number in range(1000):
            shown.update(number)
    assert max(map(len, re.split(r"[\r\n]", terminal.getvalue()))) < max(columns, 2)


@pytest.mark.parametrize("columns", ["", "0", "-3", "wide", "²"])
def test_a_width_that_is_none_is_80(
    terminal: Terminal, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    run([5] * 5, first=5)
    assert {len(frame) for frame in terminal.frames()} == {79}


def test_a_shorter_text_leaves_nothing_of_a_longer_one(terminal: Terminal) -> None:
    with Progress("Tiles", 10_000) as shown:
        shown.update(9_000)
        shown.update(1, 1)
    long, short = terminal.getvalue().split("\r")[2:4]
    assert len(short) >= len(long)


def test_what_is_drawn_is_ascii_without_escape_sequences(terminal: Terminal) -> None:
    with Progress("m\x1b[31m.zip\n", 10, unit="B") as shown:
        shown.update(3)
    text = terminal.getvalue()
    assert text.isascii()
    assert "\x1b" not in text
    assert text.count("\n") == 1


def test_two_bars_at_once_do_not_move_the_cursor(terminal: Terminal) -> None:
    with Progress("First", 5) as first, Progress("Second", 5) as second:
        for number in range(5):
            first.update(number)
            second.update(number)
    assert "\x1b" not in terminal.getvalue()
    assert terminal.getvalue().count("\n") == 2


@pytest.mark.parametrize("seconds", [0.0, 1.0, 10.0, 29.0])
def test_a_quick_step_leaves_nothing_in_a_log(
    log: io.StringIO, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.time, "monotonic", Clock(seconds / 150))
    run([50] * 50)
    assert log.getvalue() == ""


@pytest.mark.parametrize("step", [0.7, 5.0, 31.0, 100.0])
def test_a_log_gets_a_line_at_most_each_30_seconds(
    log: io.StringIO, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(step)
    monkeypatch.setattr(progress.time, "monotonic", clock)
    run([100] * 100)
    lines = log.getvalue().splitlines()
    assert 2 <= len(lines) <= clock.now / 30 + 2
    assert "\r" not in log.getvalue()
    assert all(
        re.fullmatch(r"Tiles: +\d+% \d+/100 \[[\d:]+<[\d:]+, .*tile.*\]", line) for line in lines
    )
    assert lines[-1].startswith("Tiles: 100% 100/100 [")


def test_a_dumb_terminal_is_treated_as_a_log(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(progress.time, "monotonic", Clock(31.0))
    run([3] * 3)
    assert "\r" not in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) >= 3


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_what_is_not_to_be_shown_is_not(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(progress.time, "monotonic", Clock(100.0))
    run([5] * 5, first=5, shown=False)
    assert stream.getvalue() == ""


def test_without_stderr_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=None))
    run([5] * 5)


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_closed_stream_stops_nothing(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = kind()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(progress.time, "monotonic", Clock(100.0))
    with Progress("Tiles", 2) as shown:
        stream.close()
        shown.update(1)
    run([1])


def test_an_error_begins_on_a_line_of_its_own_and_is_not_called_complete(
    terminal: Terminal,
) -> None:
    def fail() -> None:
        with Progress("Tiles", 4) as shown:
            shown.update(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert terminal.getvalue().endswith("\n")
    assert "100%" not in terminal.getvalue()


def test_an_unknown_total_shows_what_is_done(terminal: Terminal) -> None:
    with Progress("m.zip", unit="B") as shown:
        shown.update(12_340_000)
    assert terminal.frames()[-1].startswith("m.zip: 12.3MB [")


def test_nothing_is_said_of_what_is_left_before_anything_is_done() -> None:
    assert remaining(10, 0, 5) == ""


ENGINES = ["openvino", pytest.param("nnunet", marks=pytest.mark.network)]


@pytest.mark.parametrize("roi_mask", [True, False])
@pytest.mark.parametrize("folds", [1, 2])
@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_the_bar_of_a_network_counts_what_is_run(
    terminal: Terminal, tmp_path: Path, engine: str, *, mirrored: bool, folds: int, roi_mask: bool
) -> None:
    folder = small_model.write(tmp_path, [small_model.checkpoint() for _ in range(folds)])
    options = Options(engine=engine, device="cpu", threads=1, test_time_aug=mirrored, progress=True)
    network: Any = load_network(read_model_folder(folder), options)
    volume = smooth_noise((60, 20, 20))
    region = np.zeros(volume.shape, dtype=bool)
    region[5:15, 8:12, 8:12] = True
    network.predict(volume, (1, 1, 1), region if roi_mask else None)
    last = re.fullmatch(r"Tiles: 100%\|#+\| (\d+)/(\d+) \[.*\]", terminal.frames()[-1])
    assert last is not None
    assert last[1] == last[2]
    if engine == "openvino":
        assert int(last[2]) == network.tiles_run[0]
        assert (network.tiles_run[0] < network.tiles_run[1]) is roi_mask


def in_terminal(words: Sequence[str], environ: dict[str, str], columns: int) -> str:
    """Run a command in a pseudo-terminal and return all that it wrote there."""
    main, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(words, stdin=end, stdout=end, stderr=end, env=environ)
    os.close(end)
    pieces = []
    try:
        while piece := os.read(main, 65536):
            pieces.append(piece)
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(main)
    assert process.wait(60) == 0
    return b"".join(pieces).decode().replace("\r\n", "\n")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    image = write_image(tmp_path / "image.nii.gz", smooth_noise((20, 20, 60)))
    model = small_model.write(tmp_path / "model")
    words = ["rootlets", "-i", image, "-model", model, "-tiles", "all", "-threads", "1"]
    return [sys.executable, "-m", "sct_rootlets_task.cli.sct_deepseg", *map(str, words)]


@pytest.mark.parametrize(
    ("environ", "columns", "width"),
    [
        ({"TERM": "xterm"}, 80, 79),
        ({"TERM": "xterm"}, 40, 39),
        ({"TERM": "xterm", "COLUMNS": "40"}, 120, 39),
        ({"TERM": "xterm", "NO_COLOR": "1"}, 0, 79),
        ({"TERM": "dumb"}, 80, None),
    ],
)
def test_a_person_sees_a_bar_that_is_complete(
    command: list[str], environ: dict[str, str], columns: int, width: int | None
) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    text = in_terminal(command, {**inherited, **environ}, columns)
    complete = re.findall(r"\r(Tiles: 100%\|#+\| (\d+)/\2 \[\d+:\d+<00:00\])\n", text)
    assert [len(bar) for bar, _ in complete] == ([width] if width else [])
    assert ("\r" in text) is bool(width)
    assert "\x1b" not in text


@pytest.mark.parametrize("verbosity", ["0", "1", "2"])
def test_a_log_file_holds_no_bar(command: list[str], verbosity: str) -> None:
    done = subprocess.run([*command, "-v", verbosity], capture_output=True, check=True, timeout=120)
    told = done.stdout + done.stderr
    assert b"\r" not in told
    assert (b"INFO" in told) is (verbosity != "0")
    assert (b"DEBUG" in told) is (verbosity == "2")


def test_verbosity_0_says_nothing_on_a_terminal(command: list[str]) -> None:
    # The labels of a model of random weights are warned of, but not its own.
    words = [*command, "-raw", "-v", "0"]
    assert in_terminal(words, {**os.environ, "TERM": "xterm"}, 80) == ""


def test_verbosity_2_lists_the_tiles_instead_of_drawing_a_bar(command: list[str]) -> None:
    text = in_terminal([*command, "-v", "2"], {**os.environ, "TERM": "xterm"}, 80)
    assert "\r" not in text


def test_several_images_are_counted(command: list[str], tmp_path: Path) -> None:
    other = write_image(tmp_path / "other.nii.gz", smooth_noise((20, 20, 30)))
    where = command.index("-i") + 2
    words = [*command[:where], str(other), *command[where:]]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    lines = [line for line in done.stderr.splitlines() if line.startswith("INFO: Image ")]
    assert lines[0] == f"INFO: Image 1 of 2: {tmp_path / 'image.nii.gz'}"
    assert re.fullmatch(rf"INFO: Image 2 of 2, about .* left: {re.escape(str(other))}", lines[1])
