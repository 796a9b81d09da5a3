"""A report's folder among people: clashes, damage, foreign files, links, locks and odd images."""

from __future__ import annotations

import argparse
import copy
import errno
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.cli.commands import qc as command
from sct_rootlets_task.errors import ImageError, OutputError, UsageError
from sct_rootlets_task.io import locks
from sct_rootlets_task.qc import listing, pages, render
from sct_rootlets_task.qc.entry import Details, identity
from sct_rootlets_task.qc.folder import require_report_folder
from sct_rootlets_task.qc.listing import ROWS, places_of, read_rows, row_of, write_rows
from sct_rootlets_task.qc.preview import draw
from sct_rootlets_task.qc.report import add_entry, address_key, entry_addresses, rebuild
from sct_rootlets_task.qc.scene import load_scene, require_mask
from sct_rootlets_task.qc.stored import NAME, UnreadableEntry, check_entry, load_entry
from test_qc import HOSTILE, index_of, rows_of, sheet_of, unreadable_in

S = Details("D", "S")
SIZE = (20, 22, 30)


def case(folder: Path, seed: int = 0, *, labels: str = "x_seg.nii.gz") -> tuple[Path, Path]:
    """Write a small image, other voxels for another seed, and a level map."""
    folder.mkdir(parents=True, exist_ok=True)
    image, levels = folder / "x.nii.gz", folder / labels
    noise = np.random.default_rng(seed).random(SIZE, np.float32)
    map_ = np.zeros(SIZE, np.uint8)
    map_[6:8, 10, 5:11], map_[13:15, 10, 5:11], map_[6:8, 10, 16:21] = 3, 3, 2
    for path, data in ((image, noise), (levels, map_)):
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return image, levels


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a report of one entry, and the files it was made from beside it."""
    folder = tmp_path_factory.mktemp("made")
    flag = {"code": "spacing", "level": 3, "value": 8.2, "expected": (10, None), "text": "Close."}
    add_entry(folder / "qc", *case(folder / "in"), Details("D", "S", "run", "m", flags=[flag]))
    return folder


@pytest.fixture
def report(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "qc", tmp_path / "qc"))


@pytest.fixture(scope="module")
def content(made: Path) -> dict[str, Any]:
    (path,) = (made / "qc" / "entries").glob("*/entry.json")
    return dict(json.loads(path.read_text()))


def ids(report: Path) -> list[str]:
    return [str(row["id"]) for row in rows_of(report)]


def identity_in(report: Path) -> str:
    return str(index_of(report).of("body")[0]["data-report"])


def tree(folder: Path) -> dict[str, bytes | str]:
    """Return all that lies in a folder, links unfollowed."""
    return {
        str(path.relative_to(folder)): (
            str(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else ""
        )
        for path in sorted(folder.rglob("*"))
    }


# Two images of one name


def _other_voxels(first: Path, second: Path) -> None:
    case(first), case(second, 1)


def _copies(first: Path, second: Path) -> None:
    case(first), case(second)


def _hard_links(first: Path, second: Path) -> None:
    second.mkdir(parents=True)
    for path in case(first):
        os.link(path, second / path.name)


def _links_to_one_object(first: Path, second: Path) -> None:
    for path in case(first.parents[1] / "annex"):
        for folder in (first, second):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / path.name).symlink_to(path)


_SESSIONS = "sub-01/ses-1/anat", "sub-01/ses-2/anat"


@pytest.mark.parametrize(
    ("fill", "first", "second"),
    [
        *((fill, *_SESSIONS) for fill in (_other_voxels, _copies, _hard_links)),
        (_links_to_one_object, *_SESSIONS),
        (_copies, "run-1", "run-2"),
        (_copies, "site-a/sub-01/anat", "site-b/sub-01/anat"),
        (_copies, "a \udce9", "a \udcea"),
    ],
)
def test_two_images_of_one_name_and_one_subject_are_two_entries(
    tmp_path: Path, fill: Callable[[Path, Path], None], first: str, second: str
) -> None:
    fill(tmp_path / first, tmp_path / second)
    report, kept = tmp_path / "qc", []
    for _ in range(2):
        for folder in (first, second):
            files = tmp_path / folder / "x.nii.gz", tmp_path / folder / "x_seg.nii.gz"
            kept.append(add_entry(report, *files, S).parent.name)
    assert kept[:2] == kept[2:], "a second run replaces the entry of the first"
    assert sorted(ids(report)) == sorted(set(kept))
    assert len(set(kept)) == 2
    assert kept[0] == identity(Path("x.nii.gz"), Path("x_seg.nii.gz"), S), "as it always was"
    assert len({places_of(row) for row in rows_of(report)}) == 2 or "\udce9" in first


def test_a_second_image_of_one_name_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for folder in ("run-1", "run-2"):
        page = add_entry(tmp_path / "qc", *case(tmp_path / folder), S)
    assert page.parent.name in caplog.text
    assert str(tmp_path / "run-1" / "x.nii.gz") in caplog.text


def test_maps_of_two_raters_are_two_entries(tmp_path: Path) -> None:
    image, first = case(tmp_path / "a")
    _, second = case(tmp_path / "b")
    for _ in range(2):
        for levels in (first, second):
            add_entry(tmp_path / "qc", image, levels, S)
    assert len(ids(tmp_path / "qc")) == 2
    assert len({places_of(row) for row in rows_of(tmp_path / "qc")}) == 2


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_study_that_moved_keeps_its_entries(tmp_path: Path, order: tuple[int, int]) -> None:
    report = tmp_path / "qc"
    for session in (1, 2):
        add_entry(report, *case(tmp_path / f"old/sub-1/ses-{session}", session), S)
    before = ids(report)
    (tmp_path / "old").rename(tmp_path / "new")
    for session in order:
        add_entry(report, *case(tmp_path / f"new/sub-1/ses-{session}", session), S)
    assert sorted(ids(report)) == sorted(before)


def test_another_image_where_one_is_gone_is_another_entry(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    for seed in (0, 1):
        add_entry(report, *case(tmp_path / f"job-{seed}", seed), S)
        shutil.rmtree(tmp_path / f"job-{seed}")
    assert len(ids(report)) == 2


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ("a", "a", 1),
        ("a", "b", 1),
        ("old/sub-1/ses-1", "new/sub-1/ses-1", 1),
        ("old/sub-1/ses-1", "old/sub-1/ses-2", 2),
    ],
)
def test_an_entry_of_an_earlier_version_is_known_again(
    tmp_path: Path, before: str, after: str, count: int
) -> None:
    report = tmp_path / "qc"
    page = add_entry(report, *case(tmp_path / before), S)
    data = json.loads((page.parent / "entry.json").read_text())
    for field in ("image_place", "segmentation_place", "image_stamp", "report"):
        del data[field]
    (page.parent / "entry.json").write_text(json.dumps(data))
    if before != after:
        shutil.rmtree(tmp_path / before)
    add_entry(report, *case(tmp_path / after), S)
    assert len(ids(report)) == count
    assert page.parent.name in ids(report)


def test_another_image_in_the_same_place_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (0, 0, 1):
        assert "another one" not in caplog.text
        add_entry(tmp_path / "qc", *case(tmp_path / "data", seed), S)
    assert len(ids(tmp_path / "qc")) == 1
    assert "another one" in caplog.text


# The identity of a report


_RECORDS = (
    None,
    b"",
    b"{",
    b'{"report": "ab',
    b"[]",
    b"5",
    b"null",
    b"\xff\xfe\x00",
    b"[" * 200_000,
    b"9" * 5000,
    b'{"report": 5, "pages": "x"}',
    b'{"report": "", "pages": ""}',
    b'{"pages": "x"}',
    b'{"report": "\\"><script>", "pages": "x"}',
)


@pytest.mark.parametrize("damaged", _RECORDS)
@pytest.mark.parametrize("index", [True, False])
def test_a_report_keeps_its_identity_when_its_record_is_damaged(
    report: Path, tmp_path: Path, damaged: bytes | None, index: bool
) -> None:
    before = identity_in(report)
    record = report / "report.json"
    record.unlink() if damaged is None else record.write_bytes(damaged)
    if not index:
        (report / "index.html").unlink()
    add_entry(report, *case(tmp_path / "more"), Details("D", "T"))
    assert identity_in(report) == before
    assert json.loads(record.read_text())["report"] == before
    assert len(ids(report)) == 2


def test_an_identity_that_cannot_be_found_again_is_told_of(
    report: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = identity_in(report)
    for name in ("report.json", "index.html"):
        (report / name).unlink()
    (path,) = (report / "entries").glob("*/entry.json")
    data = json.loads(path.read_text())
    del data["report"]
    path.write_text(json.dumps(data))
    rebuild(report)
    assert identity_in(report) != before
    assert "identity is lost" in caplog.text


def test_a_new_report_is_made_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_entry(tmp_path / "qc", *case(tmp_path / "in"), S)
    assert caplog.text == ""


# Damaged entries


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every field and item of a JSON content."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield (*path, key)
        if isinstance(item, (dict, list)):
            yield from _paths(item, (*path, key))


def _replaced(content: Any, path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is _ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return dict(changed)


_ABSENT = object()
_WRONG = (
    _ABSENT,
    None,
    True,
    -1,
    0,
    1.5,
    2**70,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "</script><script>alert(1)</script>",
    "\ud800",
    "x" * 1_000_000,
    "%d %s {{ 7 * 7 }}",
    [],
    [[]],
    {},
    {"level": "x"},
    [None] * 20_000,
)


def _damaged(content: dict[str, Any], count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield entries with one field, and now and then a second one, damaged."""
    rng = random.Random(seed)
    cases = [(path, value) for path in _paths(content) for value in _WRONG]
    for path, value in rng.sample(cases, min(count, len(cases))):
        changed = _replaced(content, path, value)
        if rng.random() < 0.2:
            second = rng.choice(list(content))
            changed = _replaced({second: 0, **changed}, (second,), rng.choice(_WRONG))
        yield changed


def _reason(entry: dict[str, Any]) -> str | None:
    try:
        check_entry(entry)
    except UnreadableEntry as error:
        return str(error)
    return None


def test_a_damaged_entry_is_refused_or_makes_a_page(
    content: dict[str, Any], tmp_path: Path
) -> None:
    refused = 0
    for changed in _damaged(content, 3000):
        reason = _reason(changed)
        if reason is not None:
            refused += 1
            assert 0 < len(reason) <= 300
            continue
        pages.write_entry_pages(tmp_path, changed)
        row = row_of(changed)
        write_rows(tmp_path / ROWS, [row], {})
        assert list(read_rows(tmp_path / ROWS).values()) == [json.loads(json.dumps(row))] * (
            NAME.fullmatch(row["id"]) is not None
        )
    assert 2000 < refused < 3000


def test_damaged_entries_stop_nobody(
    report: Path, content: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (good,) = ids(report)
    for number, changed in enumerate(_damaged({**content, "id": "?"}, 80, seed=1)):
        folder = report / "entries" / f"bad-{number}"
        folder.mkdir()
        (folder / "entry.json").write_text(json.dumps({**changed, "id": folder.name}))
    before = tree(report / "entries")
    page = add_entry(report, *case(tmp_path / "more"), Details("D", "T"))
    assert caplog.text == ""
    rebuild(report)
    listed = ids(report)
    assert {good, page.parent.name} <= set(listed)
    assert 2 <= len(listed) < 40
    assert {f"bad-{number}" for number in range(80)} - set(listed) == set(unreadable_in(report))
    assert "is no entry" in caplog.text
    assert "Run these images again" in caplog.text
    assert len(caplog.records) == 1, "one line, however many"
    after = tree(report / "entries")
    assert {name: after[name] for name in before} == before, "nothing is changed or removed"


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 34)


def _text(text: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text) and None


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        _fifo,
        _folder,
        _device,
        _huge,
        *map(_text, (b"", b"{", b"[]", b"null", b"\xff", b"[" * 200_000, b"9" * 5000)),
        *map(_text, (b'{"schema": 0}', b'{"schema": true}', b'{"schema": "1"}', b'{"schema": 1}')),
        lambda path: path.write_bytes(path.read_bytes()[:700]) and None,
        lambda path: path.write_text(path.read_text().replace('"id": "', '"id": "y')) and None,
    ],
)
def test_a_damaged_file_is_set_aside_and_a_new_run_mends_it(
    report: Path, made: Path, damage: Callable[[Path], None]
) -> None:
    (name,) = ids(report)
    damage(report / "entries" / name / "entry.json")
    with pytest.raises(UnreadableEntry):
        load_entry(report / "entries" / name)
    rebuild(report)
    assert ids(report) == []
    assert name in unreadable_in(report)
    page = add_entry(report, made / "in" / "x.nii.gz", made / "in" / "x_seg.nii.gz", S)
    assert ids(report) == [name] == [page.parent.name], "ratings are kept under this name"
    assert unreadable_in(report) == {}


def test_an_entry_of_a_newer_version_is_never_replaced(
    report: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (name,) = ids(report)
    path = report / "entries" / name / "entry.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    before = tree(path.parent)
    for _ in range(2):
        add_entry(report, *case(tmp_path / "again"), S)
        rebuild(report)
        assert len(ids(report)) == 1
        assert name not in ids(report)
    assert tree(path.parent) == before
    assert "newer version" in caplog.text


def test_pages_of_another_version_are_made_anew_around_a_damaged_entry(
    report: Path, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = ids(report)
    (report / "report.json").write_text(json.dumps({"report": "abc", "pages": "old"}))
    monkeypatch.setattr(pages, "columns_of", lambda rows: 1 / 0)
    assert rebuild(report).is_file()
    assert "no page can be made" in unreadable_in(report)[name]
    assert (ids(report), identity_in(report)) == ([], "abc")
    assert (report / "entries" / name / "entry.json").is_file()


# Foreign folders

SCT_INDEX = "<html><head><title>SCT - Quality Control</title></head><body></body></html>"


@pytest.mark.parametrize(
    "files",
    [
        {"index.html": "<h1>My page</h1>"},
        {"index.html": ""},
        {"index.html": SCT_INDEX, "_assets/js/main.js": "", "_json/qc_2024.json": "{}"},
        {"index.html": SCT_INDEX, "_assets/css/x.css": "", "datasets_1.json": "{}"},
        {"_assets/css/x.css": ""},
        {"_json/qc_2024_01_01.json": "{}"},
        {"qc_results.json": "[]"},
        {"report.json": '{"results": []}'},
        {"report.json": "broken"},
        {"report.json/x": ""},
        {"index.html/x": ""},
        {"static/site.css": "body {}"},
        {"static/report.js": "alert(1)"},
        {"static": "a file"},
        {"entries/2024-01/post.md": "x"},
        {"entries/notes.txt": "x"},
        {"entries": "a file"},
        {".lock": "123"},
        {".lock/x": ""},
    ],
    ids=lambda files: ",".join(files),
)
def test_a_folder_of_another_program_is_refused_and_kept(
    tmp_path: Path, files: dict[str, str]
) -> None:
    report = tmp_path / "qc"
    for name, text in files.items():
        path = report / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    before = tree(report)
    image, levels = case(tmp_path / "in")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["-i", str(image), "-s", str(levels), "-o", str(report)]
    for attempt in (
        lambda: require_report_folder(report),
        lambda: add_entry(report, image, levels, S),
        lambda: rebuild(report),
        lambda: command.run(parser.parse_args(words)),
    ):
        with pytest.raises(UsageError, match="another folder"):
            attempt()
    assert tree(report) == before


def test_a_list_that_another_program_put_over_ours_is_kept(report: Path, tmp_path: Path) -> None:
    (report / "index.html").write_text(SCT_INDEX)
    with pytest.raises(UsageError, match=r"index\.html.*move it away"):
        add_entry(report, *case(tmp_path / "in"), S)
    assert (report / "index.html").read_text() == SCT_INDEX


def _as_first_version(report: Path) -> None:
    index = report / "index.html"
    index.write_text(index.read_text().replace(' data-columns="', ' data-x="'))
    shutil.rmtree(report / "static")


def _without_list(report: Path) -> None:
    (report / "index.html").unlink()


def _only_entries(report: Path) -> None:
    for name in ("index.html", "report.json", ".lock"):
        (report / name).unlink()


def _killed_at_first(report: Path) -> None:
    _only_entries(report)
    shutil.rmtree(report / "entries")
    (report / "entries" / ".new-x.0").mkdir(parents=True)
    (report / ".lock").touch()


def _with_other_files(report: Path) -> None:
    (report / "notes.txt").write_text("mine")
    (report / "results").mkdir()


def _under_annex(report: Path) -> None:
    for path in [p for p in report.rglob("*") if p.is_file() and p.name != ".lock"]:
        store = report.parent / "annex" / path.relative_to(report)
        store.parent.mkdir(parents=True, exist_ok=True)
        path.rename(store)
        store.chmod(0o444)
        path.symlink_to(store)


def _with_empty_list(report: Path) -> None:
    (report / "index.html").write_text("")


_STATES = (
    _as_first_version,
    _without_list,
    _with_empty_list,
    _only_entries,
    _killed_at_first,
    _with_other_files,
    _under_annex,
    shutil.rmtree,
)


@pytest.mark.parametrize("change", _STATES)
def test_a_report_of_ours_is_known_in_every_state(
    report: Path, tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    change(report)
    annex = tree(tmp_path / "annex")
    require_report_folder(report)
    page = add_entry(report, *case(tmp_path / "in"), S)
    assert page.parent.name in ids(report)
    assert tree(tmp_path / "annex") == annex
    if change is _with_other_files:
        assert (report / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "loop/qc", "file", "file/qc", "dangling"])
def test_a_folder_that_cannot_be_made_is_found_out_before_anything_runs(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere/at/all")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="Choose another folder"):
        require_report_folder(tmp_path / name)


# Links, locks and rights


def test_links_planted_in_a_report_are_never_written_through(report: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(report / "entries" / ids(report)[0], outside)
    (report / "entries" / "planted").symlink_to(outside)
    for name in ("index.html", "report.json", "static/report.js"):
        shutil.copy(report / name, outside / name.replace("/", "-"))
        (report / name).unlink()
        (report / name).symlink_to(outside / name.replace("/", "-"))
    (report / "entries" / ".old-planted.0").symlink_to(outside)
    (report / "entries" / ".new-planted.0").symlink_to(outside)
    before = tree(outside)
    add_entry(report, *case(tmp_path / "in"), Details("D", "T"))
    (report / "report.json").unlink()
    rebuild(report)
    assert tree(outside) == before
    assert "planted" not in ids(report)
    assert len(ids(report)) == 2


@pytest.mark.parametrize("name", ["static", "entries", ".lock"])
def test_a_link_in_place_of_what_is_written_into_is_refused(report: Path, name: str) -> None:
    (report / name).rename(report.parent / "outside")
    (report / name).symlink_to(report.parent / "outside")
    with pytest.raises(UsageError, match="another folder"):
        rebuild(report)


def test_a_link_in_place_of_an_entry_is_replaced_not_followed(report: Path, tmp_path: Path) -> None:
    (name,) = ids(report)
    (report / "entries" / name).rename(tmp_path / "outside")
    (report / "entries" / name).symlink_to(tmp_path / "outside")
    before = tree(tmp_path / "outside")
    add_entry(report, *case(tmp_path / "in"), S)
    assert ids(report) == [name]
    assert tree(tmp_path / "outside") == before


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, "No locks available"),
        PermissionError(errno.EACCES, "Permission denied"),
        NotImplementedError("no flock here"),
    ],
)
def test_a_lock_that_cannot_be_had_is_one_sentence(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    import filelock

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", fail)
    before = tree(report)
    with pytest.raises(OutputError, match=r"cannot be locked with .*\.lock"):
        add_entry(report, *case(tmp_path / "in"), S)
    assert tree(report) == before


@pytest.mark.parametrize(("umask", "bits"), [(0o002, 0o660), (0o022, 0o640), (0o077, 0o600)])
def test_what_is_made_has_the_rights_that_the_umask_leaves(
    tmp_path: Path, umask: int, bits: int
) -> None:
    before = os.umask(umask)
    try:
        add_entry(tmp_path / "qc", *case(tmp_path / "in"), S)
    finally:
        os.umask(before)
    for path in (tmp_path / "qc").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o660 == bits, path
    assert (tmp_path / "qc" / "entries").stat().st_mode & 0o770 == (bits | 0o110) & ~umask | 0o100


@pytest.mark.parametrize("name", ["", "entries", ".lock"])
def test_a_folder_without_the_right_to_write_is_found_out_before_anything_runs(
    report: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != report / name)
    with pytest.raises(OutputError, match=r"may not .*nother folder"):
        require_report_folder(report)


def test_what_killed_runs_left_is_removed_after_a_day(report: Path) -> None:
    old, new = (report / "entries" / f".new-x.{n}" for n in (0, 1))
    for folder in (old, new):
        folder.mkdir()
        (folder / "volume.js").write_text("half")
    day = time.time() - 25 * 3600
    os.utime(old, (day, day))
    rebuild(report)
    assert (old.exists(), new.exists()) == (False, True)


def _uncounted(report: Path) -> str:
    """Make the last row of the list what it is before its entry is in place; return its entry."""
    path = report / ROWS
    head, comment, row = path.read_bytes().rpartition(b"//\n")
    path.write_bytes(head + b"// " + row)
    assert comment
    return str(json.loads(row.removeprefix(b"QC.row(").removesuffix(b");\n"))["id"])


def _killed_within_the_move(report: Path, name: str) -> None:
    (report / "entries" / name).rename(report / "entries" / f".old-{name}.0")


def _killed_after_the_move(report: Path, name: str) -> None:
    copy = report / "entries" / name
    shutil.copytree(copy, report / "entries" / f".old-{name}.0")


@pytest.mark.parametrize("kill", [_killed_within_the_move, _killed_after_the_move])
def test_a_job_killed_while_it_replaces_an_entry_loses_nothing(
    report: Path, tmp_path: Path, kill: Callable[[Path, str], None]
) -> None:
    add_entry(report, *case(tmp_path / "in"), Details("D", "T"))
    name = _uncounted(report)
    assert name not in ids(report)
    kill(report, name)
    page = add_entry(report, *case(tmp_path / "other", 1), Details("D", "T"))
    assert page.parent.name != name, "it is another image"
    assert name in ids(report)
    assert len(ids(report)) == 3
    assert not list((report / "entries").glob(".old-*"))


def test_half_a_row_of_a_killed_job_is_cut_off(report: Path, tmp_path: Path) -> None:
    before = ids(report)
    with (report / ROWS).open("ab") as stream:
        stream.write(b'// QC.row({"id":"torn-0123456789ab","stamp"')
    assert ids(report) == before
    page = add_entry(report, *case(tmp_path / "in"), Details("D", "T"))
    assert sorted(ids(report)) == sorted([*before, page.parent.name])
    assert b"torn-0" not in (report / ROWS).read_bytes()


def test_a_row_whose_entry_never_came_is_not_listed(report: Path, tmp_path: Path) -> None:
    add_entry(report, *case(tmp_path / "in"), Details("D", "T"))
    name = _uncounted(report)
    shutil.rmtree(report / "entries" / name)
    add_entry(report, *case(tmp_path / "in"), Details("D", "U"))
    assert name not in ids(report)
    assert len(ids(report)) == 2


def test_adding_an_entry_looks_at_no_other_one(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []

    def noting(look: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path=".", *rest: looked.append(Path(str(path))) or look(path, *rest)

    for name in ("listdir", "scandir", "open"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    (other,) = ids(report)
    for _ in range(2):
        add_entry(report, *case(tmp_path / "in"), Details("D", "T"))
    monkeypatch.undo()
    assert looked
    assert report / "entries" not in looked
    assert not [path for path in looked if report / "entries" / other in (path, *path.parents)]
    assert len(ids(report)) == 2


def test_entries_are_added_on_a_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "knows_locks", lambda path: False)
    for subject in "ab":
        add_entry(tmp_path / "qc", *case(tmp_path / "in"), Details("D", subject))
    assert [row["subject"] for row in rows_of(tmp_path / "qc")] == ["a", "b"]


def test_a_list_is_written_anew_when_most_of_it_is_old(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_SLACK", 0)
    files = case(tmp_path / "in")
    sizes = set()
    for _ in range(5):
        add_entry(report, *files, Details("D", "T"))
        sizes.add((report / ROWS).stat().st_size)
        assert len(ids(report)) == 2
    assert max(sizes) < 6_000


def test_the_addresses_of_pages_are_found_by_image_and_level_map(
    report: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a \udce9")
    files = case(tmp_path / "a \udce9")
    page = add_entry(report, *files, Details("D", "T"))
    linked = [tmp_path / "link" / path.name for path in files]
    for image, levels in (files, linked):
        known = entry_addresses(report)
        assert known[address_key(image, levels)] == f"index.html#{page.parent.name}"
    assert len(known) == 2
    assert entry_addresses(tmp_path / "nowhere") == {}


def test_session_and_correction_are_listed_and_older_entries_have_none(
    report: Path, tmp_path: Path
) -> None:
    files = case(tmp_path / "sub-1/ses-2/anat")
    page = add_entry(report, *files, Details(corrected=True))
    (row,) = (row for row in rows_of(report) if row["id"] == page.parent.name)
    assert (row["session"], row["corrected"]) == ("ses-2", True)
    assert "corrected" in sheet_of(page)
    data = json.loads((page.parent / "entry.json").read_text())
    del data["session"], data["corrected"]
    (page.parent / "entry.json").write_text(json.dumps(data))
    (report / "report.json").write_text(json.dumps({"report": "abc", "pages": "old"}))
    rebuild(report)
    assert not [row for row in rows_of(report) if {"session", "corrected"} & row.keys()]
    assert len(ids(report)) == 2


def _as_the_version_before(report: Path) -> None:
    """Give a report its old form, in which the index held the rows."""
    (report / ROWS).unlink()
    record = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps({"report": record["report"], "pages": "old"}))


def test_a_report_of_the_version_before_is_taken_over_by_the_first_new_entry(
    report: Path, tmp_path: Path
) -> None:
    twins = [
        add_entry(report, *case(tmp_path / f"old/sub-1/ses-{session}", session), S).parent.name
        for session in (1, 2)
    ]
    before, identity_before = ids(report), identity_in(report)
    _as_the_version_before(report)
    shutil.rmtree(report / ".alike")
    (tmp_path / "old").rename(tmp_path / "new")
    for session, name in ((2, twins[1]), (1, twins[0])):
        page = add_entry(report, *case(tmp_path / f"new/sub-1/ses-{session}", session), S)
        assert page.parent.name == name, "found again by its voxels"
    assert sorted(ids(report)) == sorted(before)
    assert identity_in(report) == identity_before


def test_a_cohort_page_is_linked_when_the_list_is_made_anew(report: Path) -> None:
    def links() -> list[str | None]:
        return [link["href"] for link in index_of(report).of("a") if link.get("href")]

    assert "cohort.html" not in links()
    (report / "cohort.html").write_text("<p>All of them")
    rebuild(report)
    assert "cohort.html" in links()
    (report / "cohort.html").unlink()
    rebuild(report)
    assert "cohort.html" not in links()


# Masks


def mask(folder: Path, values: Any, *, shape: tuple[int, ...] = SIZE, shift: float = 0.0) -> Path:
    """Write a mask: a block of the first value in the second one."""
    data = np.full(shape, values[1], np.float32)
    data[5:9, 6:9, 3:20] = values[0]
    affine = np.eye(4)
    affine[0, 3] = shift
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), folder / "mask.nii.gz")
    return folder / "mask.nii.gz"


@pytest.mark.parametrize(
    "values", [(1, 0), (0.9, 0.4), (1.0000002, 0.3), (255, 0), (7, 0), (120.5, 0), (1, -1)]
)
def test_soft_and_scaled_masks_are_taken(tmp_path: Path, values: tuple[float, float]) -> None:
    image, levels = case(tmp_path)
    around = mask(tmp_path, values)
    require_mask(around, image)
    scene = load_scene(image, levels, around)
    np.testing.assert_allclose(scene.center[10], (6.5, 7))
    add_entry(tmp_path / "qc", image, levels, Details(around=around))


def test_a_mask_of_everything_is_taken(tmp_path: Path) -> None:
    image, _ = case(tmp_path)
    require_mask(mask(tmp_path, (1, 1)), image)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ((0, 0), {}, "no voxel inside"),
        ((0.4, 0), {}, "no voxel inside.*0.4"),
        ((-1, -1), {}, "no voxel inside"),
        ((np.nan, np.nan), {}, "no voxel inside"),
        ((1, 0), {"shape": (20, 22, 29)}, "one grid"),
        ((1, 0), {"shift": 3.0}, "one grid"),
    ],
)
def test_a_mask_that_cannot_be_used_is_found_out(
    tmp_path: Path, values: tuple[float, float], options: dict[str, Any], message: str
) -> None:
    image, levels = case(tmp_path)
    around = mask(tmp_path, values, **options)
    with pytest.raises(ImageError, match=message):
        require_mask(around, image)
    with pytest.raises(ImageError, match=message):
        add_entry(tmp_path / "qc", image, levels, Details(around=around))


@pytest.mark.parametrize("text", [b"", b"no image", b"\x1f\x8b\x08broken"])
def test_a_mask_that_cannot_be_read_is_found_out(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(text)
    with pytest.raises(ImageError):
        require_mask(tmp_path / "mask.nii.gz", case(tmp_path)[0])


def test_an_image_that_cannot_be_read_is_left_to_its_own_run(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    image, _ = case(tmp_path)
    require_mask(mask(tmp_path, (1, 0)), tmp_path / "bad.nii.gz", image)
    with pytest.raises(ImageError, match="one grid"):
        require_mask(mask(tmp_path, (1, 0), shift=9), tmp_path / "bad.nii.gz", image)


def test_a_mask_far_from_the_levels_makes_a_page(tmp_path: Path) -> None:
    image, levels = case(tmp_path)
    data = np.zeros(SIZE, np.uint8)
    data[0, 0, -1] = 1
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "mask.nii.gz")
    add_entry(tmp_path / "qc", image, levels, Details(around=tmp_path / "mask.nii.gz"))
    assert rows_of(tmp_path / "qc")[0]["levels"] == "C2 C3"


# Odd images and names

_RANDOM = np.random.default_rng(0)


_IMAGES = {
    "one": np.full(SIZE, 7.0),
    "negative": np.full(SIZE, -7.0),
    "zero": np.zeros(SIZE),
    "nan": np.full(SIZE, np.nan),
    "huge": np.full(SIZE, 3e38),
    "wide": _RANDOM.choice([-3e38, 3e38, 0.0], SIZE),
    "tiny": _RANDOM.random(SIZE) * 1e-40,
    "inf": _RANDOM.choice([np.inf, -np.inf, 1.0, 2.0], SIZE),
}
_SHAPES = (2, 2, 2), (150, 300, 2), (2, 150, 200), (3, 2, 200)


@pytest.mark.parametrize(
    ("image", "levels"),
    [
        *((image, number % 3) for number, image in enumerate(_IMAGES.values())),
        *((_RANDOM.random(shape), levels) for shape in _SHAPES for levels in (0, 1, 2)),
    ],
    ids=[*_IMAGES, *(f"{shape} {levels}" for shape in _SHAPES for levels in (0, 1, 2))],
)
def test_every_image_makes_a_page_and_a_picture(
    tmp_path: Path, image: np.ndarray, levels: int
) -> None:
    labels = np.zeros(image.shape, np.uint8)
    labels[-1, -1, -1] = 9 * (levels > 0)
    labels[0, 0, 0] = 2 * (levels > 1)
    for name, data in (("a", image.astype(np.float32)), ("b", labels)):
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / f"{name}.nii.gz")
    files = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    page = add_entry(tmp_path / "qc", *files)
    assert rows_of(tmp_path / "qc")[0]["found"] == levels
    json.loads((page.parent / "entry.json").read_text(), parse_constant=pytest.fail)
    with render.require_pillow().open(draw(*files, tmp_path / "p.png")) as picture:
        assert picture.width < 4000


@pytest.mark.parametrize(
    "name",
    ["sub-Andr\udce9", "a\nb\tc", "\x1b[2J\x07", "\u202egnp", "</script><script>x", "%s{{7*7}}"],
)
def test_every_name_makes_a_page(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name.replace("/", "_")
    image, levels = case(folder)
    named = image.rename(folder / f"{name.replace('/', '_')}.nii.gz")
    for details in (Details(), Details(name, name, name, name)):
        page = add_entry(tmp_path / "qc", named, levels, details)
        assert "</script" not in (page.parent / "entry.js").read_text(encoding="utf-8")
    assert len(rows_of(tmp_path / "qc")) == 2
    assert rebuild(tmp_path / "qc").is_file()
    draw(named, levels, tmp_path / "p.png")


def test_measures_that_are_no_numbers_and_endless_names_make_a_page(tmp_path: Path) -> None:
    image, levels = case(tmp_path)
    rows = [{"level": 2, "height": float("nan"), "gap": np.float32("inf")}]
    details = Details("D" * 10_000, HOSTILE * 500, "x" * 900_000, levels=rows)
    page = add_entry(tmp_path / "qc", image, levels, details)
    assert len(sheet_of(page)) < 1_000_000
    assert len(str(rows_of(tmp_path / "qc")[0]["subject"])) == 2000


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), KeyError("x"), OSError("x")])
@pytest.mark.parametrize("place", [(render, "coronal"), (pages, "columns_of")])
def test_whatever_goes_wrong_is_one_sentence_and_leaves_the_report_as_it_was(
    report: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(*place, fail)
    before = tree(report)
    with pytest.raises(OutputError):
        add_entry(report, *case(tmp_path / "in"), Details("D", "T"))
    assert tree(report) == before


def test_values_that_cannot_be_shown_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing"):
        add_entry(tmp_path / "qc", *case(tmp_path), Details(expected=(2, 3, 4, 999)))


def test_a_report_in_a_folder_that_is_no_utf8_is_added_to_by_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "Andr\udce9"
    image, levels = case(folder)
    words = ["qc", "-i", image, "-s", levels, "-o", folder / "qc"]
    done = subprocess.run(
        [sys.executable, "-m", "sct_rootlets_task.cli.sct_rootlets", *map(str, words)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows_of(folder / "qc")) == 1
