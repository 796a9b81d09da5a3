"""Commands end in order: whatever happens to their streams, and whatever goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.cli.commands import check
from sct_rootlets_task.cli.console import explain, harmless, run_command
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.errors import ImageError, UsageError
from volumes import write_image

START = "import sys; from sct_rootlets_task.cli.console import {0}; sys.exit({0}())"


def command(program: str, *words: str, code: str = "") -> list[str]:
    return [sys.executable, "-c", f"{code}\n{START.format(program)}", *words]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    data = np.zeros((6, 6, 24), np.uint8)
    data[2:4, 2:4, 4:8] = 3
    return write_image(tmp_path / "seg.nii.gz", data)


def broken_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def closed(number: int) -> Callable[[], None]:
    def close() -> None:
        os.close(number)

    return close


STREAMS: dict[str, dict[str, Any]] = {
    "stdout a broken pipe": {"stdout": broken_pipe},
    "stdout a full disk": {"stdout": full_disk},
    "stderr a full disk": {"stderr": full_disk},
    "stderr a broken pipe": {"stderr": broken_pipe},
    "stdout closed": {"preexec_fn": lambda: closed(1)},
    "stderr closed": {"preexec_fn": lambda: closed(2)},
    "stdin closed": {"preexec_fn": lambda: closed(0)},
}


@pytest.mark.parametrize("streams", STREAMS)
def test_a_result_is_written_and_counts_whatever_becomes_of_the_messages(
    labels: Path, streams: str
) -> None:
    out = labels.with_name("out.nii.gz")
    words = command("sct_rootlets", "relabel", "-i", str(labels), "-shift", "1", "-o", str(out))
    options = {name: make() for name, make in STREAMS[streams].items()}
    done = subprocess.run(words, check=False, timeout=60, **options)
    for value in options.values():
        if isinstance(value, int):
            os.close(value)
    assert done.returncode == 0
    assert set(np.unique(nib.load(out).dataobj)) == {0, 4}
    assert out.with_name("out.json").read_text().startswith("{")


@pytest.mark.parametrize(("stream", "code"), [(full_disk, 1), (broken_pipe, 0)])
def test_a_report_that_was_lost_on_a_full_disk_is_a_failure(
    labels: Path, stream: Callable[[], int], code: int
) -> None:
    number = stream()
    words = command("sct_rootlets", "check", "-i", str(labels))
    done = subprocess.run(
        words, check=False, stdout=number, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(number)
    assert done.returncode == code
    assert ("could not be written" in done.stderr) == (code == 1)
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "words", [("sct_deepseg", "rootlets", "-h"), ("sct_rootlets", "check", "-h")]
)
def test_help_can_be_read_in_any_encoding(words: tuple[str, ...]) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    done = subprocess.run(command(*words), capture_output=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (0, b"")


STOPPED = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {0!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("program", "module"),
    [
        ("sct_deepseg", "sct_rootlets_task.cli.sct_deepseg"),
        ("sct_deepseg", "sct_rootlets_task.cli.grammar"),
        ("sct_rootlets", "sct_rootlets_task.cli.sct_rootlets"),
        ("sct_rootlets", "sct_rootlets_task.cli.commands.check"),
    ],
)
def test_ctrl_c_while_modules_load_is_no_traceback(program: str, module: str) -> None:
    words = command(program, "-h", code=STOPPED.format(module))
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (130, f"{program}: interrupted\n")


def test_a_working_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})"
    words = command("sct_rootlets", "relabel", "-i", "a.nii.gz", "-shift", "1", "-o", "b.nii.gz")
    words[2] = f"{code}\n{words[2]}"
    done = subprocess.run(words, capture_output=True, check=False, text=True)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def raises(error: BaseException) -> Callable[[], NoReturn]:
    def body() -> NoReturn:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("Expected x."), 2, "error: Expected x."),
        (ImageError("Bad image."), 1, "error: Bad image."),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "not enough memory"),
        (FileNotFoundError(2, "No such file or directory", "a"), 1, "directory: a. Check the path"),
        (OSError(36, "File name too long", "a" * 9), 1, "File name too long: aaaaaaaaa."),
        (PermissionError(13, "Permission denied", "a", None, "b"), 1, "denied: a → b."),
        (ValueError("odd"), 1, "ValueError: odd (while running: tool -i 'a b')"),
        (RecursionError("deep"), 1, "please report it"),
        (FileNotFoundError(2, "No such file or directory"), 1, "working folder is not there"),
        (OSError("no number"), 1, "OSError: no number"),
        (SystemExit("text"), 1, "text"),
        (SystemExit(7), 7, ""),
        (SystemExit(None), 0, ""),
    ],
)
def test_every_error_has_a_code_and_one_sentence(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, words: str
) -> None:
    assert run_command("tool", ["-i", "a b"], raises(error)) == code
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


def test_ctrl_c_that_a_library_turned_into_an_error_of_its_own_is_ctrl_c(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def body() -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise ImportError("initialization failed") from error

    assert run_command("tool", [], body) == 130
    assert capsys.readouterr().err == "tool: interrupted\n"


@pytest.mark.parametrize(
    "words", [["-v", "2"], ["-v=2"], ["-v2"], ["-v", " 02"], ["-v", "0", "x", "-v", "2"], ["-v=02"]]
)
def test_the_traceback_of_a_fault_is_shown_to_those_who_ask(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("tool", words, raises(ValueError("odd"))) == 1
    message = capsys.readouterr().err
    assert message.startswith("Traceback")
    assert "tool: error: ValueError: odd" in message


@pytest.mark.parametrize(
    "words",
    [[], ["-v", "1"], ["-v"], ["-v", "2", "-v", "0"], ["-v=2", "-v1"], ["2"], ["-version", "2"]],
)
def test_the_traceback_of_a_fault_is_not_shown_to_others(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("tool", words, raises(ValueError("odd"))) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("value", ["3", "-1", "²", "٢", "", "1.0", "yes", "0x1", "1_0", "9" * 5000])
@pytest.mark.parametrize(
    "command", [["sct_rootlets", "models", "list"], ["sct_deepseg", "rootlets", "-install"]]
)
def test_a_verbosity_that_there_is_not_is_refused_in_one_sentence(
    command: list[str], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    mains = {"sct_rootlets": main, "sct_deepseg": sct_deepseg.main}
    assert mains[command[0]]([*command[1:], "-v", value]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "argument -v: expected a whole number from 0 to 2, found " in message
    assert len(message) < 200


@pytest.mark.parametrize("error", [ValueError("odd"), AttributeError("x"), AssertionError()])
def test_a_fault_of_a_verb_ends_with_code_1_and_how_to_report_it(
    labels: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    monkeypatch.setattr(check, "run", lambda arguments: raises(error)())
    assert main(["check", "-i", str(labels)]) == 1
    message = capsys.readouterr().err
    assert type(error).__name__ in message
    assert f"check -i {labels}" in message
    assert "with -v 2" in message
    assert "Traceback" not in message


@given(st.text(st.characters(), max_size=300))
def test_what_is_shown_does_nothing_to_a_terminal(text: str) -> None:
    shown = harmless(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("\n") == text.count("\n")


def test_a_very_long_line_is_cut_in_the_middle() -> None:
    assert len(harmless("9" * 100_000)) < 2_100


def test_a_message_of_the_system_without_a_name_is_a_sentence_too() -> None:
    assert explain(OSError(28, "No space left on device"), "x").startswith("No space left on dev")


HUGE = "9" * 5000
NUMBERS = [
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-threads", HUGE]),
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-threads", "²"]),
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-threads", "1e3"]),
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-largest", HUGE]),
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-v", HUGE]),
    ("sct_deepseg", ["rootlets", "-i", "a\0.nii.gz"]),
    ("sct_deepseg", ["rootlets", "-i", ""]),
    ("sct_deepseg", ["rootlets", "-i", "a" * 5000]),
    ("sct_deepseg", ["rootlets", "-i", "loop.nii.gz"]),
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-o", "a\0"]),
    ("sct_deepseg", ["rootlets", "-i", "a.nii.gz", "-o", "x/" * 3000]),
    ("sct_deepseg", ["-task", HUGE, "-i", "a.nii.gz"]),
    ("sct_rootlets", ["relabel", "-i", "a.nii.gz", "-o", "b.nii.gz", "-shift", HUGE]),
    ("sct_rootlets", ["relabel", "-i", "a.nii.gz", "-o", "b.nii.gz", "-anchor", f"C5:{HUGE}"]),
    ("sct_rootlets", ["relabel", "-i", "a.nii.gz", "-o", "b.nii.gz", "-anchor", f"C{HUGE}:1"]),
    ("sct_rootlets", ["relabel", "-i", "a.nii.gz", "-o", "b.nii.gz", "-map", f"{HUGE}:3"]),
    ("sct_rootlets", ["relabel", "-i", "a.nii.gz", "-o", "b.nii.gz", "-map", f"lvl{HUGE}:3"]),
    ("sct_rootlets", ["relabel", "-i", "a.nii.gz", "-o", "b.nii.gz", "-map", "²:³"]),
    ("sct_rootlets", ["sample", "x.nii.gz", "-seed", "0"]),
    ("sct_rootlets", ["check", "-i", "loop.nii.gz"]),
    ("sct_rootlets", ["check", "-i", "a" * 5000 + ".nii.gz"]),
]


@pytest.mark.parametrize(("program", "words"), NUMBERS)
def test_odd_arguments_are_refused_in_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = np.zeros((6, 6, 24), np.uint8)
    data[2:4, 2:4, 4:8] = 3
    write_image(Path("a.nii.gz"), data)
    Path("loop.nii.gz").symlink_to("loop.nii.gz")
    code = {"sct_deepseg": sct_deepseg.main, "sct_rootlets": main}[program](words)
    message = capsys.readouterr().err
    assert code in (1, 2)
    assert "Traceback" not in message
    assert "please report it" not in message
    assert len(message) < 5_000


def test_sigterm_is_left_alone_by_the_python_functions() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--help"]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("unbuffered", "order"), [("1", "12"), ("", "21")])
def test_output_is_written_at_once_where_python_is_told_to(unbuffered: str, order: str) -> None:
    program = (
        "import os\n"
        "from sct_rootlets_task.cli.console import forgiving_streams\n"
        "with forgiving_streams():\n"
        "    print('1', end='')\n"
        "    os.write(1, b'2')\n"
    )
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout == order
