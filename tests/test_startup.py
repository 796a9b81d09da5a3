"""Help is instant: what a command does not need is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "nnunetv2",
    "nibabel",
    "matplotlib",
    "scipy",
    "requests",
    "openvino",
    "pandas",
    "PIL",
    "jinja2",
    "pydantic",
    "tqdm",
)
PROBE = """
import contextlib, io, sys
from {module} import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main({words!r})
print(code, *sorted(set({heavy!r}) & set(sys.modules)))
"""


def probe(module: str, words: list[str]) -> list[str]:
    """Return the exit code and the heavy modules loaded, of a command in a fresh interpreter."""
    program = PROBE.format(module=module, words=words, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "words",
    [["-h"], ["rootlets", "-h"], ["-task-details"], ["-list-tasks"], ["rootlets"], ["-task", "x"]],
)
def test_help_and_usage_errors_load_nothing_heavy(words: list[str]) -> None:
    code, *loaded = probe("sct_rootlets_task.cli.sct_deepseg", words)
    assert loaded == []
    assert code == ("2" if words[0] == "-task" or words == ["rootlets"] else "0")


@pytest.mark.parametrize("words", [["--help"], ["models", "list"], ["sample", "-h"]])
def test_the_second_command_loads_nothing_heavy_for_help(words: list[str]) -> None:
    assert probe("sct_rootlets_task.cli.sct_rootlets", words) == ["0"]


def test_the_probe_sees_heavy_modules() -> None:
    program = PROBE.replace("from {module} import main", "import scipy\nmain = lambda words: 0")
    done = subprocess.run(
        [sys.executable, "-c", program.format(words=[], heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["0", "scipy"]


@pytest.mark.parametrize(
    "module", ["sct_rootlets_task.segmentation.segmenter", "sct_rootlets_task.models.resolve"]
)
def test_importing_the_library_loads_no_network_code(module: str) -> None:
    program = f"import {module}, sys; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
