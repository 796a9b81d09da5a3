"""Unpacking archives: good ones in every layout, and bad ones of every kind."""

from __future__ import annotations

import copy
import io
import os
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model_zips import LAYOUTS, TRAINER, model_files, model_zip, pack, write_zip
from sct_rootlets_task.errors import ArchiveError, ModelError
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.trainer_folder import find_trainer_folder
from sct_rootlets_task.models import archive as module
from sct_rootlets_task.models.archive import not_a_zip, trainer_name, unpack_model

MADE = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def _unpack(tmp_path: Path, data: bytes) -> Path:
    destination = tmp_path / "inside" / "destination"
    destination.mkdir(parents=True, exist_ok=True)
    zip_path = write_zip(tmp_path / "archive" / "m.zip", data)
    return unpack_model(zip_path, destination)


def _contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_unpacks_to_the_same_model(layout: str, tmp_path: Path) -> None:
    trainer = _unpack(tmp_path, model_zip(layout=layout))
    assert trainer.name == (MADE if "bare" in layout else TRAINER)
    assert trainer.parent == tmp_path / "inside" / "destination"
    assert _contents(trainer) == model_files()


@pytest.mark.parametrize(
    ("plans", "expected"),
    [
        ({}, MADE),
        (
            {"plans_name": "nnUNetResEncUNetLPlans"},
            "nnUNetTrainer__nnUNetResEncUNetLPlans__3d_fullres",
        ),
        ({"configurations": {"3d_lowres": {}}}, "nnUNetTrainer__nnUNetPlans__3d_lowres"),
        ({"plans_name": "../x", "configurations": {"a/b": {}}}, MADE),
        ({"plans_name": 7, "configurations": ["3d_fullres"]}, MADE),
    ],
)
def test_a_missing_trainer_folder_is_named_after_the_plans(
    plans: dict[str, object], expected: str
) -> None:
    assert trainer_name(plans) == expected


def test_several_folds_and_best_checkpoints_are_kept(tmp_path: Path) -> None:
    files = model_files(folds=["fold_0", "fold_3"])
    files["fold_3/checkpoint_best.pth"] = files.pop("fold_3/checkpoint_final.pth")
    trainer = _unpack(tmp_path, pack({f"{TRAINER}/{n}": data for n, data in files.items()}))
    assert _contents(trainer) == files


def test_other_files_are_kept_inert_and_litter_is_left_out(tmp_path: Path) -> None:
    prefix = LAYOUTS["wrapped"].split("/")[0]
    script = zipfile.ZipInfo(f"{prefix}/{TRAINER}/trainer_class.py")
    script.external_attr = (stat.S_IFREG | 0o777) << 16
    extra = [
        (script, b"raise SystemExit('executed')"),
        (f"{prefix}/README.md", b"read me"),
        (f"__MACOSX/{prefix}/._README.md", b"litter"),
        (f"__MACOSX/{prefix}/{TRAINER}/._plans.json", b"litter"),
        (f"{prefix}/.DS_Store", b"litter"),
        ("elsewhere/notes.txt", b"left out"),
    ]
    members = {f"{prefix}/{TRAINER}/{n}": data for n, data in model_files().items()}
    trainer = _unpack(tmp_path, pack([*members.items(), *extra]))
    assert _contents(trainer.parent).keys() == {
        f"{TRAINER}/{name}" for name in (*model_files(), "trainer_class.py")
    } | {"README.md"}
    assert not (trainer / "trainer_class.py").stat().st_mode & 0o111


def test_folders_as_entries_of_their_own_are_fine(tmp_path: Path) -> None:
    folders = [("./", b""), (f"{TRAINER}/", b""), (f"{TRAINER}/fold_all/", b"")]
    members = {f"./{TRAINER}/{n}": data for n, data in model_files().items()}
    trainer = _unpack(tmp_path, pack([*folders, *members.items()]))
    assert _contents(trainer) == model_files()


def _with(name: str | zipfile.ZipInfo, data: bytes = b"evil") -> bytes:
    members = {f"{TRAINER}/{n}": content for n, content in model_files().items()}
    return pack([*members.items(), (name, data)])


def _special(kind: int, name: str = "README.md") -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{TRAINER}/{name}")
    info.external_attr = (kind | 0o777) << 16
    return info


def _encrypted() -> bytes:
    data = bytearray(model_zip())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 1)
    return bytes(data)


def _other_compression() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_BZIP2) as archive:
        for name, data in model_files().items():
            archive.writestr(f"{TRAINER}/{name}", data)
    return buffer.getvalue()


def _rename(data: bytes, old: bytes, new: bytes) -> bytes:
    """Write a name into an archive that zipfile itself would not write."""
    assert len(old) == len(new)
    return data.replace(old, new)


UNSAFE = {
    "parent": _with("../evil"),
    "parent inside": _with(f"{TRAINER}/../../evil"),
    "parent as a folder": _with("../evil/", b""),
    "absolute": _with("/tmp/evil"),
    "absolute, two slashes": _with("//host/evil"),
    "drive": _with("C:/evil"),
    "drive-relative": _with("C:evil"),
    "other stream of a file": _with(f"{TRAINER}/plans.json:evil"),
    "backslash": _rename(_with("..xevil"), b"..xevil", b"..\\evil"),
    "backslash, absolute": _rename(_with("xevil.tx"), b"xevil.tx", b"\\evil.tx"),
    "zero byte": _rename(_with("evil.pngx../evil"), b"evil.pngx..", b"evil.png\0.."),
    "line break": _with("evil\nname"),
    "symbolic link": _with(_special(stat.S_IFLNK), b"/etc/passwd"),
    "link in the place of the plans": _with(_special(stat.S_IFLNK, "fold_0"), b"/etc"),
    "device": _with(_special(stat.S_IFCHR)),
    "pipe": _with(_special(stat.S_IFIFO)),
    "socket": _with(_special(stat.S_IFSOCK)),
    "the same but for case": _with(f"{TRAINER}/PLANS.json"),
    "the same but for dots": _with(f"{TRAINER}/./plans.json"),
    "a file used as a folder": _with(f"{TRAINER}/plans.json/evil"),
    "terminal escape": _with("\x1b[2Jx"),
    "deep": _with("a/" * 2000 + "x"),
    "deep folder": _with("a/" * 30_000, b""),
    "deep inside": _with(f"{TRAINER}/" + "a/" * 16 + "x"),
    "long part": _with("a" * 201),
    "long part in bytes": _with("\u00e9" * 101),
    "long path": _with("/".join(["a" * 100] * 9)),
    "encrypted": _encrypted(),
    "unusual compression": _other_compression(),
}


@pytest.mark.parametrize("data", UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_archive_is_refused_before_anything_is_written(
    data: bytes, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError):
        _unpack(tmp_path, data)
    assert list((tmp_path / "inside").rglob("*")) == [tmp_path / "inside" / "destination"]
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "inside"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="each file once"):
        _unpack(tmp_path, _with(f"{TRAINER}/plans.json"))


@pytest.mark.parametrize(
    "name", ["\x1b]0;x\x07", "\u202egnp", "\u2066x", "a\nb", "x" * 60_000, "\x1b" * 60_000]
)
@pytest.mark.parametrize("place", ["../", "", f"{TRAINER}/", f"{TRAINER}-"])
def test_a_name_never_steers_the_terminal(name: str, place: str, tmp_path: Path) -> None:
    data = _with(f"{place}{name}/plans.json", b"{}")
    text = ""
    try:
        _unpack(tmp_path, data)
    except ArchiveError as error:
        text = str(error)
    assert text.isprintable()
    assert len(text) < 1200


PLACES = [(layout, home) for layout, home in LAYOUTS.items()]
PLACES += [("trainer", ""), ("wrapped", "Dataset037_x/")]


@pytest.mark.parametrize("name", ["source.json", "SOURCE.JSON", "Source.json", "\u017fource.json"])
@pytest.mark.parametrize(("layout", "place"), PLACES)
def test_a_record_in_the_archive_is_left_out_and_said_so(
    layout: str, place: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        trainer = _unpack(tmp_path, model_zip(layout=layout, extra={f"{place}{name}": b"{}"}))
    assert _contents(trainer.parent).keys() == {f"{trainer.name}/{n}" for n in model_files()}
    assert "Left out" in caplog.text


def test_a_record_s_name_elsewhere_is_a_file_like_any(tmp_path: Path) -> None:
    trainer = _unpack(tmp_path, _with(f"{TRAINER}/fold_all/source.json"))
    assert (trainer / "fold_all" / "source.json").read_bytes() == b"evil"


def test_nineteen_thousand_empty_members_are_refused_before_one_is_written(tmp_path: Path) -> None:
    members = {f"{TRAINER}/{n}": data for n, data in model_files().items()}
    with pytest.raises(ArchiveError, match=r"at most 5000 files .* found 19903"):
        _unpack(tmp_path, pack(members | {f"{TRAINER}/{n}": b"" for n in range(19_900)}))
    assert list((tmp_path / "inside" / "destination").iterdir()) == []


def test_the_directory_of_an_archive_is_not_read_however_large(tmp_path: Path) -> None:
    data = bytearray(model_zip() + bytes(6 << 20))
    at = data.index(b"PK\5\6")
    end = data[at : at + 22]
    del data[at : at + 22]
    size = len(data) - struct.unpack_from("<I", end, 16)[0]
    struct.pack_into("<I", end, 12, size)
    with pytest.raises(ArchiveError, match=f"a directory of {size} bytes"):
        _unpack(tmp_path, bytes(data + end))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "missing"])
def test_what_is_no_ordinary_file_is_no_zip(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.zip"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    assert "cannot be read" in str(not_a_zip(path))


def _members(**changes: bytes | None) -> bytes:
    files: dict[str, bytes | None] = {**model_files(), **changes}
    return pack({f"{TRAINER}/{n}": data for n, data in files.items() if data is not None})


NO_MODEL = {
    "empty": (pack({}), "found none"),
    "no model": (pack({"README.md": b""}), "found none"),
    "two models": (
        pack({f"{t}/{n}": d for t in (TRAINER, MADE) for n, d in model_files().items()}),
        f"found {TRAINER}, {MADE}",
    ),
    "two bare models": (
        pack({f"{t}/{n}": d for t in ("a", "b") for n, d in model_files().items()}),
        "found a, b",
    ),
    "a second, incomplete model": (
        _with(f"{MADE}/fold_0/checkpoint_final.pth"),
        f"found {TRAINER}, {MADE}",
    ),
    "no plans": (_members(**{"plans.json": None}), "plans.json"),
    "no dataset": (_members(**{"dataset.json": None}), "dataset.json"),
    "no folds": (_members(**{"fold_all/checkpoint_final.pth": None}), "checkpoint_final.pth"),
    "empty checkpoint": (_members(**{"fold_all/checkpoint_final.pth": b""}), "checkpoint_final"),
    "fold of no number": (
        _members(**{"fold_all/checkpoint_final.pth": None, "fold_x/checkpoint_final.pth": b"w"}),
        "checkpoint_final",
    ),
    "plans no JSON": (_members(**{"plans.json": b"{"}), "JSON in .*plans.json"),
    "plans too deep": (_members(**{"plans.json": b"[" * 200_000}), "JSON in .*plans.json"),
    "plans no object": (_members(**{"plans.json": b"[]"}), r"plans\.json.*JSON object"),
    "dataset not UTF-8": (_members(**{"dataset.json": b"\xff\xfe{}"}), "JSON in .*dataset.json"),
}


@pytest.mark.parametrize(("data", "message"), NO_MODEL.values(), ids=NO_MODEL)
def test_an_archive_without_exactly_one_complete_model_is_refused(
    data: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match=message):
        _unpack(tmp_path, data)
    assert list((tmp_path / "inside" / "destination").iterdir()) == []


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    plans = b"\xef\xbb\xbf" + model_files()["plans.json"]
    assert _unpack(tmp_path, _members(**{"plans.json": plans})).name == TRAINER


def test_a_highly_compressed_bomb_is_refused(tmp_path: Path) -> None:
    data = _with(f"{TRAINER}/bomb", bytes(80 << 20))
    assert len(data) < 100_000
    with pytest.raises(ArchiveError, match="would expand to"):
        _unpack(tmp_path, data)


@pytest.mark.parametrize(
    ("limit", "most", "message"),
    [("MOST_FILES", 2, "at most 2 files"), ("MOST_BYTES", 100, "would expand to")],
)
def test_too_many_or_too_large_members_are_refused(
    limit: str, most: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, limit, most)
    with pytest.raises(ArchiveError, match=message):
        _unpack(tmp_path, model_zip())


def test_a_bomb_that_understates_its_size_writes_no_more_than_it_states(tmp_path: Path) -> None:
    data = bytearray(_with(f"{TRAINER}/bomb", bytes(2 << 20)))
    at = data.rfind(b"PK\x01\x02")
    assert struct.unpack_from("<I", data, at + 24) == (2 << 20,)
    struct.pack_into("<I", data, at + 24, 10)
    with pytest.raises(ArchiveError, match="damaged"):
        _unpack(tmp_path, bytes(data))
    written = sum(p.stat().st_size for p in (tmp_path / "inside").rglob("*") if p.is_file())
    assert written < 20_000


def test_entries_that_share_one_lump_of_data_are_counted_each(tmp_path: Path) -> None:
    """The files of a non-recursive zip bomb overlap, so that the archive stays small."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in model_files().items():
            archive.writestr(f"{TRAINER}/{name}", data)
        archive.writestr("lump", bytes(1 << 20))
        lump = archive.filelist[-1]
        for number in range(80):
            other = copy.copy(lump)
            other.filename = f"lump{number}"
            archive.filelist.append(other)
    with pytest.raises(ArchiveError, match="would expand to 84"):
        _unpack(tmp_path, buffer.getvalue())


@pytest.mark.parametrize("name", ["fold_all/checkpoint_final.pth", "plans.json"])
def test_a_flipped_bit_in_any_file_is_found(name: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for member, content in model_files().items():
            archive.writestr(f"{TRAINER}/{member}", content)
    data = buffer.getvalue()
    content = model_files()[name]
    damaged = data.replace(content, content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    assert damaged != data
    with pytest.raises(ArchiveError, match="damaged"):
        _unpack(tmp_path, damaged)


def test_a_flipped_bit_in_a_file_that_is_left_out_is_found_too(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for member, content in {**model_files(), "__MACOSX/x": b"litter!"}.items():
            archive.writestr(member if "/x" in member else f"{TRAINER}/{member}", content)
    with pytest.raises(ArchiveError, match="damaged"):
        _unpack(tmp_path, buffer.getvalue().replace(b"litter!", b"latter!"))


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_archive_is_no_zip(keep: float, tmp_path: Path) -> None:
    data = model_zip()
    cut = data[: int(len(data) * keep) if isinstance(keep, float) else keep]
    assert "no complete zip archive" in str(not_a_zip(write_zip(tmp_path / "m.zip", cut)))
    with pytest.raises(ArchiveError, match="damaged"):
        _unpack(tmp_path, cut)


def test_a_good_archive_is_a_zip(tmp_path: Path) -> None:
    assert not_a_zip(write_zip(tmp_path / "m.zip", model_zip())) is None


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(flips=[(815, 2)])  # a negative offset in the directory of the archive
@given(
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=4)
)
def test_random_damage_is_refused_or_harmless(
    flips: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = bytearray(model_zip())
    for position, mask in flips:
        data[position % len(data)] ^= mask
    tmp_path = tmp_path_factory.mktemp("damage")
    try:
        trainer = _unpack(tmp_path, bytes(data))
    except ArchiveError:
        return
    assert set(_contents(trainer).values()) <= set(model_files().values())
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "inside"}
    assert len(list((tmp_path / "inside").iterdir())) == 1


def test_nothing_is_unpickled_or_imported(tmp_path: Path) -> None:
    """Unpack, in a fresh process, an archive whose files shout when executed."""
    shout = b"import sys; sys.exit('executed')"
    pickle = b"cos\n_exit\n(I3\ntR."
    data = _members(**{"trainer_class.py": shout, "fold_all/checkpoint_final.pth": pickle})
    zip_path = write_zip(tmp_path / "m.zip", data)
    code = (
        "import sys; from pathlib import Path; "
        "from sct_rootlets_task.models.archive import unpack_model; "
        "unpack_model(Path(sys.argv[1]), Path(sys.argv[2]));"
        "assert not {'pickle', 'torch', 'trainer_class'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, zip_path, tmp_path], check=True)


@pytest.mark.parametrize(
    "record", ["source.json", "SOURCE.json", "Source.JSON", "\u017fource.json"]
)
@pytest.mark.parametrize("place", ["", f"{TRAINER}/"])
@pytest.mark.parametrize("rest", ["", "/x", "/x/y.json"])
def test_whatever_takes_the_place_of_the_record_is_left_out(
    record: str, place: str, rest: str, tmp_path: Path
) -> None:
    trainer = _unpack(tmp_path, model_zip(extra={f"{place}{record}{rest}": b"1"}))
    assert _contents(trainer.parent) == {f"{TRAINER}/{n}": d for n, d in model_files().items()}


@pytest.mark.parametrize(
    "fold",
    [
        "fold_00",
        "fold_01",
        "fold_\u0661",
        "fold_\uff11",
        "fold_10000",
        "fold_-1",
        "fold_",
        "fold_x",
    ],
)
def test_only_folds_as_nnunet_names_them_count(fold: str, tmp_path: Path) -> None:
    files = model_files(folds=[fold])
    with pytest.raises(ArchiveError, match="checkpoint_final"):
        _unpack(tmp_path, pack({f"{TRAINER}/{name}": data for name, data in files.items()}))
    for name, data in files.items():
        path = tmp_path / TRAINER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with pytest.raises(ModelError, match="complete"):
        find_trainer_folder(tmp_path)
    with pytest.raises(ModelError, match="in every fold"):
        read_model_folder(tmp_path / TRAINER)
