"""The plugin in the real Spinal Cord Toolbox, where one can be imported.

Run these with the Python of an environment that has SCT, this package and pytest::

    python -m pytest -m sct tests/test_sct_real.py

They install the built-in model into that SCT's model folder, and nothing else there.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.sct_plugin import activation
from sct_rootlets_task.sct_plugin.compatibility import check_seams, find_toolbox
from volumes import write_image

pytestmark = [
    pytest.mark.sct,
    pytest.mark.skipif(
        importlib.util.find_spec("spinalcordtoolbox") is None, reason="SCT is not installed here"
    ),
]

START = """
import runpy, sys
exec({line!r})
sys.argv = ["sct_deepseg.py", *{words!r}]
runpy.run_module("spinalcordtoolbox.scripts.sct_deepseg", run_name="__main__")
"""


def deepseg(*words: object, plugin: bool = True) -> subprocess.CompletedProcess[str]:
    """Run SCT's own command in a process of its own, with the plugin's line or without."""
    line = activation.line() if plugin else "pass"
    program = START.format(line=line, words=[str(word) for word in words])
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=900
    )


@pytest.fixture(scope="module")
def is_modern() -> bool:
    toolbox = find_toolbox()
    assert toolbox is not None
    return not toolbox.version.startswith("6.")


def task_words(is_modern: bool, task: str) -> list[str]:
    return [task] if is_modern else ["-task", task]


def test_this_sct_looks_as_expected() -> None:
    toolbox = find_toolbox()
    assert toolbox is not None
    assert check_seams(toolbox.package) == ()


@pytest.mark.skipif(
    bool(activation.enabled_in()), reason="the plugin is enabled in this environment"
)
def test_help_of_another_task_is_the_same_with_the_plugin(is_modern: bool) -> None:
    words = ["spinalcord", "-h"] if is_modern else ["-i", "none.nii.gz", "-task", "seg_sc_t2star"]
    ours, theirs = deepseg(*words), deepseg(*words, plugin=False)
    assert ours.returncode == theirs.returncode
    if is_modern:
        assert ours.stdout == theirs.stdout


def test_the_list_of_tasks_has_ours(is_modern: bool) -> None:
    done = deepseg("-h" if is_modern else "-list-tasks")
    for name in (*TASKS, "rootlets_starter"):
        assert name in done.stdout


def test_the_labels_are_those_of_the_python_interface(tmp_path: Path, is_modern: bool) -> None:
    from sct_rootlets_task.api import segment

    image = write_image(tmp_path / "a_T2w.nii.gz", axcodes="PSR")
    output = tmp_path / "out.nii.gz"
    words = [*task_words(is_modern, "rootlets_starter"), "-i", image, "-o", output]
    done = deepseg(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    expected, _ = segment(image, model="starter")
    found = nib.load(output)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
    np.testing.assert_array_equal(found.affine, expected.affine)
    assert '"BuiltIn": true' in (tmp_path / "out.json").read_text()
