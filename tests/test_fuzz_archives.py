"""Generated archives: installed or refused in one error, with nothing left behind or outside.

``SCT_ROOTLETS_FUZZ=50 pytest tests/test_fuzz_archives.py`` tries fifty times as many, and
``SCT_ROOTLETS_TEST_SEED`` begins elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz_archives import archive, archives, build, good
from model_zips import LAYOUTS, make_release, make_task, model_zip, weights_of, write_zip
from sct_rootlets_task.errors import InstallError
from sct_rootlets_task.models.install import install
from sct_rootlets_task.models.installed import find_installed, read_source, verify

SLOT = "model_fake_r1"
GROUPS = 4
TASK = make_task(make_release("r1", "https://models.invalid/m.zip"))
RELEASE = TASK.release()
FACTOR = int(os.environ.get("SCT_ROOTLETS_FUZZ", "1"))
SEED = int(os.environ.get("SCT_ROOTLETS_TEST_SEED", "0"))


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check(name: str, data: bytes, tmp_path: Path) -> bool:
    """Install one archive; return whether it was taken."""
    zip_path, root = write_zip(tmp_path / "in" / "m.zip", data), tmp_path / "root"
    try:
        model = install(TASK, RELEASE, root, urls=[str(zip_path)])
    except InstallError as error:
        text, taken = str(error), False
    else:
        text, taken = "", True
        assert verify(model.path) == verify(model.path.parent) == [], name
        source = read_source(model.path.parent)
        assert source is not None, name
        assert (source.urls, source.custom) == ((str(zip_path),), True), name
        assert find_installed(TASK, RELEASE, root) == model, name
    assert all(line.isprintable() and len(line) < 1000 for line in text.split("\n")), name
    assert names(tmp_path) == ["in", "root"], name
    assert set(names(root)) <= {SLOT, ".installing"}, name
    assert names(root / ".installing") == [SLOT], name
    assert names(root / ".installing" / SLOT) == ["lock"], name
    return taken


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_archive_harms_what_is_there_or_leaves_anything(group: int, tmp_path: Path) -> None:
    count = 50 * FACTOR
    before = write_zip(tmp_path / "in" / "good.zip", model_zip("good"))
    install(TASK, RELEASE, tmp_path / "root", urls=[str(before)])
    known = files(tmp_path / "root" / SLOT)
    for name, data in archives(SEED + group * count, count):
        if check(name, data, tmp_path):
            model = install(TASK, RELEASE, tmp_path / "root", urls=[str(before)])
            assert weights_of(model.path) == "good", name
        assert files(tmp_path / "root" / SLOT) == known, name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_generator_starts_from_is_a_good_model(layout: str, tmp_path: Path) -> None:
    assert check(layout, build(good(layout)), tmp_path)


def test_the_generator_makes_the_same_archives_again_and_both_kinds(tmp_path: Path) -> None:
    assert list(archives(3, 20)) == [archive(seed) for seed in range(3, 23)]
    taken = {check(name, data, tmp_path) for name, data in archives(0, 60)}
    assert taken == {True, False}
