"""Every command that the documentation shows is run, or says why it is not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from filelock import FileLock

from sct_rootlets_task.cli.grammar import modern_parser
from sct_rootlets_task.cli.sct_rootlets import build_parser
from sct_rootlets_task.io.outputs import FILES
from sct_rootlets_task.io.sample import AFFINE, load_sample
from study_dataset import make_dataset
from training.make_sample import DISCS, cord_axis

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
KINDS = {
    "network": "it fetches something",
    "SCT": "it is a command of Spinal Cord Toolbox",
    "scheduler": "it needs a cluster's scheduler",
    "weights": "it needs a model that is not in the package",
    "set-up": "it changes the environment the tests run in",
}
"""Why a block may be left out; a mark says which, and what exactly is missing."""

DATA_SETS = {"docs/study.md", "docs/cluster.md"}
"""Pages that work on a whole data set of three synthetic subjects."""

MARK = r"<!-- not run: (?P<kind>[^:\n]*):(?P<reason>[^\n]*)-->\n"
BLOCK = re.compile(
    rf"(?:{MARK})?^```(?:\{{code-block\}} )?(?P<language>shell|python)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of commands in a page; `kind` is empty for one that is run."""

    page: str
    language: str
    text: str
    kind: str
    reason: str


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page, m["language"], m["text"], (m["kind"] or "").strip(), (m["reason"] or "").strip()
        )
        for m in BLOCK.finditer(text)
    ]


ALL = [block for page in PAGES for block in blocks_of(page)]
MARKED = [block for block in ALL if block.kind]
RUN = sorted({block.page for block in ALL if not block.kind})


def commands_of(block: Block) -> Iterator[list[str]]:
    """Yield the words of each of our commands that stands at the beginning of a line."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.strip().startswith(("sct_deepseg", "sct_rootlets")):
            yield shlex.split(line, comments=True)


def test_pages_use_no_other_way_to_show_a_command() -> None:
    assert {block.language for block in ALL} == {"shell", "python"}
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count("\n<!-- not run:") == sum(block.page == page for block in MARKED), page
        fences = re.findall(r"^ *(?:`{3,}|~{3,}|:{3,})(.*)$", text, re.MULTILINE)
        shown = {fence for fence in fences if fence} - {"{toctree}", "{eval-rst}", "{glossary}"}
        shown -= {"{code-block} text", "{code-block} diff"}  # a transcript, a patch: no commands
        shown -= {"{include} generated/rooms.md"}
        assert shown <= {"shell", "{code-block} shell", "{code-block} python"}, page


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block.page}: {block.text[:40]}")
def test_a_block_that_is_not_run_says_why(block: Block) -> None:
    assert block.kind in KINDS
    assert len(block.reason.split()) >= 3, block.reason


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block.page}: {block.text[:40]}")
def test_a_command_that_is_not_run_is_one_that_could_be(block: Block) -> None:
    if block.kind == "SCT":
        return
    for name, *words in commands_of(block):
        parser = modern_parser() if name == "sct_deepseg" else build_parser()
        parser.parse_args(words)  # ends the test with an error if it could not be


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that all workers share, with our commands and a study of one sample."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder) / "commands"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):
        if not (folder / "study").exists():
            write_commands(folder / "bin")
            (folder / "cache").mkdir()
            write_study(folder)
    return folder


def write_commands(folder: Path) -> None:
    folder.mkdir()
    program = Path(__file__).with_name("shown_command.py")
    # A link to the interpreter would not find the packages of its environment.
    commands = {name: [str(program), name] for name in ("sct_deepseg", "sct_rootlets")}
    for name, arguments in {**commands, "python": list[str]()}.items():
        words = shlex.join([sys.executable, *arguments])
        (folder / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (folder / name).chmod(0o755)


def write_study(shared: Path) -> None:
    """Write what pages take for granted: an image, rootlets, cord, lesion, discs and PMJ."""
    made = shared / "made"
    made.mkdir()
    sample = load_sample()
    s, axis, forwards = cord_axis()
    discs = np.zeros(sample.data.shape, np.uint8)
    inverse = np.linalg.inv(AFFINE)
    for number, at in enumerate(DISCS, start=3):
        # SCT's label stands at the posterior end of a disc, some 9 mm in front of the cord's axis.
        nearest = int(np.abs(s - at).argmin())
        point = (0.0, *(axis[nearest] + 9 * forwards[nearest]), 1.0)
        voxel = tuple(np.round(inverse @ point)[:3].astype(int))
        if all(0 <= v < n for v, n in zip(voxel, discs.shape, strict=True)):
            discs[voxel] = number
    cord = sample.cord.astype(np.uint8)
    lesion = np.zeros_like(cord)
    lesion[tuple(np.argwhere(cord)[:50].T)] = 1
    arrays = {"T2w": sample.data, "cord": cord, "discs": discs, "lesion": lesion}
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, AFFINE), made / f"sub-01_{name}.nii.gz")
    pmj = np.zeros((3, 3, 3), np.uint8)
    pmj[1, 1, 1] = 50
    centered = np.eye(4)
    centered[:3, 3] = -1
    nib.save(nib.Nifti1Image(pmj, centered), made / "sub-01_pmj.nii.gz")
    run("sct_deepseg rootlets -i sub-01_T2w.nii.gz -v 0", made, shared)
    made.rename(shared / "study")


def furnish(folder: Path, study: Path) -> None:
    """Put the study into a folder: beside each other, and as a data set of two subjects."""
    for file in study.iterdir():
        (folder / file.name).symlink_to(file)
    for subject in ("sub-01", "sub-02"):
        anat = folder / "study" / subject / "anat"
        anat.mkdir(parents=True)
        (anat / f"{subject}_T2w.nii.gz").symlink_to(study / "sub-01_T2w.nii.gz")


def run(text: str, folder: Path, shared: Path, *, shell: str = "bash") -> None:
    """Run a block of a page and stop at the first command that fails."""
    environment = {
        **os.environ,
        "PATH": f"{shared / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "SCT_ROOTLETS_OFFLINE": "1",
        "SCT_ROOTLETS_MODELS": str(shared / "models"),
        "SHOWN_COMMANDS_CACHE": str(shared / "cache"),
        "SLURM_ARRAY_TASK_ID": "1",
    }
    command = (
        ["bash", "-euo", "pipefail", "-c", text] if shell == "bash" else ["python", "-c", text]
    )
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def is_described(path: str) -> bool:
    """Tell whether the reference lists a file that was not named by a command."""
    patterns = [re.escape(name).replace(">", "<") for name in FILES]
    tails = [re.sub(r"<[^<]*<", r"[^/]+", pattern) for pattern in patterns]
    return any(re.search(rf"(^|/){tail}$", path) for tail in tails)


@pytest.mark.parametrize("text", ["false\ntrue", "echo $no_such_variable", "sct_rootlets nonsense"])
def test_a_command_that_fails_is_noticed(text: str, tmp_path: Path, shared: Path) -> None:
    with pytest.raises(AssertionError):
        run(text, tmp_path, shared)


@pytest.mark.parametrize(
    ("path", "described"),
    [
        ("sub-01_T2w_rootlets.json", True),
        ("qc/entries/sub-01-0f/axial.jpg", True),
        ("out_left_dorsal.nii.gz", True),
        (".123.sub-01_T2w_rootlets.json.tmp", False),
        ("notes.txt", False),
    ],
)
def test_only_files_of_the_reference_are_described(path: str, described: bool) -> None:
    assert is_described(path) == described


@pytest.mark.network
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_in_their_order(page: str, tmp_path: Path, shared: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    if page in DATA_SETS:
        make_dataset(folder / "study", 3, faults=False)
    elif page != "docs/tutorial.md":
        furnish(folder, shared / "study")
    blocks = [block for block in blocks_of(page) if not block.kind]
    before = set(folder.rglob("*"))
    text = "\n".join(block.text for block in blocks)
    for language in ("shell", "python"):
        together = "\n".join(block.text for block in blocks if block.language == language)
        run(together, folder, shared, shell="bash" if language == "shell" else "python")
    for path in set(folder.rglob("*")) - before:
        named = path.is_dir() or path.name in text or path.parent.name == "results"
        assert named or is_described(path.relative_to(folder).as_posix()), path
