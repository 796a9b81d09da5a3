"""What the plugin relies on in SCT is checked before SCT is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_sct import VERSION, write_sct
from sct_rootlets_task.sct_plugin.compatibility import SEAMS, check_seams, find_toolbox


@pytest.mark.parametrize("form", ["7", "6"])
def test_an_sct_as_expected_has_no_problems(tmp_path: Path, form: str) -> None:
    assert check_seams(write_sct(tmp_path, form)) == ()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("deepseg/models.py", "TASKS = {", "TASKLIST = {", "models.py: TASKS is missing"),
        ("deepseg/models.py", "MODELS = {", "def MODELS(): return {", "another kind"),
        ("deepseg/models.py", "def folder(name_model)", "def folder(name, root)", "folder("),
        ("deepseg/models.py", "def install_model(", "def install(", "install_model is missing"),
        ("deepseg/models.py", "def folder(", "folder = 1\ndef _folder(", "another kind"),
        (
            "deepseg/inference.py",
            "path_model, model_type, input_filenames",
            "path_model, input_filenames, model_type",
            "expected segment_non_ivadomed(path_model, model_type, input_filenames, threshold",
        ),
        ("deepseg/inference.py", "remove_small", "smallest", "found (path_model, "),
        ("deepseg/inference.py", "use_gpu=False", "use_gpu=False, soft=False", "soft"),
        ("deepseg/inference.py", "extra_inference_kwargs=None", "**kwargs", "*kwargs"),
        ("utils/shell.py", "class SCTArgumentParser", "class P", "SCTArgumentParser is missing"),
        ("image.py", "param=None, hdr=None", "param=None, header=None", "Image.__init__"),
        ("image.py", "def save(", "def write(", "Image.save is missing"),
        ("reports/qc2.py", "fname_seg,", "fname_labels,", "qc2.py: sct_deepseg"),
    ],
)
def test_a_changed_seam_is_named(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    path = write_sct(tmp_path) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    problems = check_seams(path.parents[1] if "/" in file else path.parent)
    assert len(problems) == 1
    assert said in problems[0]


def test_a_missing_file_is_named_unless_the_oldest_sct_lacks_it_too(tmp_path: Path) -> None:
    package = write_sct(tmp_path)
    (package / "reports" / "qc2.py").unlink()
    assert check_seams(package) == ()
    (package / "image.py").unlink()
    assert [problem for problem in check_seams(package) if "image.py" in problem]


def test_a_variable_with_a_type_is_a_variable(tmp_path: Path) -> None:
    package = write_sct(tmp_path)
    path = package / "deepseg" / "models.py"
    path.write_text(path.read_text().replace("TASKS = {", "TASKS: dict[str, dict] = {"))
    assert check_seams(package) == ()


def test_every_seam_is_in_a_file_that_is_looked_at() -> None:
    assert {seam.file for seam in SEAMS} == {
        "deepseg/models.py",
        "deepseg/inference.py",
        "utils/shell.py",
        "image.py",
        "reports/qc2.py",
    }


def test_an_sct_is_found_with_its_version_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_sct(tmp_path)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    toolbox = find_toolbox()
    assert toolbox is not None
    assert (toolbox.package, toolbox.version) == (package, VERSION["7"])
    (package / "version.txt").unlink()
    assert getattr(find_toolbox(), "version", "") == "unknown"
