"""Archives that people make: litter is left out, backslashes are folders, escapes are refused."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest

from fuzz_archives import Draft, Member, build
from model_zips import TRAINER, model_files, pack, write_model, write_zip
from sct_rootlets_task.errors import ArchiveError
from sct_rootlets_task.models.archive import not_a_zip, unpack_model

MODEL = {f"{TRAINER}/{name}": data for name, data in model_files().items()}
PLACES = ("", f"{TRAINER}/", f"{TRAINER}/fold_all/", "__MACOSX/", "study/")
LITTER = (
    "Icon\r", "._Icon\r", "__MACOSX/._Icon\r", ".DS_Store", "._.DS_Store", "._plans.json",
    ".Trashes/501/old:name.nii", ".Spotlight-V100/Store-V2/x\ty", ".fseventsd/0000000001",
    ".AppleDouble/plans.json", ".TemporaryItems/x", ".localized", "Thumbs.db", "THUMBS.DB",
    "Thumbs.db:encryptable", "desktop.ini", "Desktop.ini", "$RECYCLE.BIN/S-1-5-21/$RAB12",
    "System Volume Information/IndexerVolumeGuid", "@eaDir/plans.json/SYNO@.fileindexdb",
    ".directory", ".Trash-1000/info/x.trashinfo", "lost+found/#12", ".nfs000000000001abcd",
    ".git/HEAD", ".git/objects/ab/" + "c" * 230, ".svn/wc.db", "__pycache__/t.cpython-311.pyc",
    ".ipynb_checkpoints/a.ipynb", ".~lock.notes.odt#", "plans.json:Zone.Identifier",
    "plans.json\uf03aZone.Identifier", "my notes.txt:zone.identifier:$DATA", "a.json:AFP_AfpInfo",
    "a.json:com.dropbox.attributes",
)  # fmt: skip


def _unpack(tmp_path: Path, data: bytes) -> Path:
    destination = tmp_path / "inside"
    destination.mkdir()
    return unpack_model(write_zip(tmp_path / "m.zip", data), destination)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", LITTER)
def test_litter_is_left_out_wherever_it_lies(name: str, place: str, tmp_path: Path) -> None:
    trainer = _unpack(tmp_path, pack({**MODEL, f"{place}{name}": b"litter"}))
    assert _contents(trainer.parent) == MODEL


@pytest.mark.parametrize("attributes", [0o040755 << 16, 0x10, 0o040755 << 16 | 0x10])
@pytest.mark.parametrize(
    "place", [TRAINER, f"{TRAINER}/fold_all", f"{TRAINER}/fold_all/validation"]
)
def test_a_folder_may_be_one_by_its_mode_alone(place: str, attributes: int, tmp_path: Path) -> None:
    entry = zipfile.ZipInfo(place)
    entry.external_attr = attributes
    trainer = _unpack(tmp_path, pack([(entry, b""), *MODEL.items()]))
    assert _contents(trainer.parent) == MODEL


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_litter_may_be_there_twice_deep_a_link_and_in_thousands(tmp_path: Path) -> None:
    link = zipfile.ZipInfo(f"{TRAINER}/.git/annex")
    link.external_attr = 0o120777 << 16
    odd = [(".DS_Store", b"1"), (".DS_Store", b"2"), (".ds_store", b"3"), (link, b"/etc")]
    odd += [(f".git/{'a/' * 300}x", b""), (f"{TRAINER}/.DS_Store/", b"")]
    many = [(f"__MACOSX/{TRAINER}/._{number}", b"") for number in range(6000)]
    trainer = _unpack(tmp_path, pack([*MODEL.items(), *odd, *many]))
    assert _contents(trainer.parent) == MODEL


@pytest.mark.parametrize(
    "name",
    [
        "../.DS_Store", "/__MACOSX/x", "//host/Thumbs.db", "C:/Thumbs.db", "c:desktop.ini",
        "__MACOSX/../../x", ".git/../../x", "..\\.DS_Store", "\\\\host\\c\\.DS_Store",
        ".git\\..\\..\\x", "C:\\$RECYCLE.BIN\\x", f"{TRAINER}\\..\\..\\x", "\\x", "a\\..\\..\\x",
        "C:\\x", "C:x", "..\\", "\\\\?\\C:\\x", ".DS_Store/..\\../x",
    ],
)  # fmt: skip
def test_what_leads_out_is_refused_in_litter_and_with_backslashes_too(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match="outside the model's folder"):
        _unpack(tmp_path, pack({**MODEL, name: b"evil"}))
    assert _contents(tmp_path / "inside") == {}


def test_a_zero_byte_in_litter_is_refused(tmp_path: Path) -> None:
    draft = Draft([Member(name.encode(), data) for name, data in MODEL.items()])
    draft.add(b".DS_Store\0/../../evil")
    with pytest.raises(ArchiveError, match="outside the model's folder"):
        _unpack(tmp_path, build(draft))


def test_damage_in_litter_is_found(tmp_path: Path) -> None:
    draft = Draft([Member(name.encode(), data) for name, data in MODEL.items()])
    draft.add(b".DS_Store", fields={"crc": 7})
    with pytest.raises(ArchiveError, match="damaged"):
        _unpack(tmp_path, build(draft))


def _as_powershell(top: str) -> bytes:
    folders = {f"{top}\\": b"", f"{top}\\fold_all\\": b""}
    return pack({**folders, **{name.replace("/", "\\"): data for name, data in MODEL.items()}})


@pytest.mark.parametrize("wrapper", ["", "Study 1\\", "a\\b/c\\"])
def test_backslashes_are_folders(wrapper: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_zip(tmp_path / "ps.zip", _as_powershell(TRAINER))) as archive:
        members = {f"{wrapper}{i.orig_filename}": archive.read(i) for i in archive.infolist()}
    trainer = _unpack(tmp_path, pack(members))
    assert _contents(trainer.parent) == MODEL


def test_one_file_with_both_kinds_of_slashes_is_there_twice(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="each file once"):
        _unpack(tmp_path, pack({**MODEL, f"{TRAINER}\\plans.json": b"{}"}))


@pytest.mark.parametrize("seed", range(30))
def test_generated_archives_of_a_model_give_that_model(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    wrapper = dice.choice(["", "model/", "Étude/", "脊髄/モデル/", "a b/c/", "./"])
    members = [(f"{wrapper}{name}", data) for name, data in MODEL.items()]
    for name in dice.sample(LITTER, 8):
        place = dice.choice(["", wrapper, f"{wrapper}{TRAINER}/", "x/"])
        members.insert(dice.randrange(len(members) + 1), (f"{place}{name}", b"litter"))
    utf8 = dice.choice([0, 0x800])
    draft = Draft([])
    for name, data in members:
        written = name.replace("/", dice.choice("/\\")) if dice.random() < 0.5 else name
        draft.add(written.encode(), data, flags=utf8)
    trainer = _unpack(tmp_path, build(draft))
    assert _contents(trainer.parent) == MODEL


@pytest.mark.parametrize(
    "wrapper",
    ["脊髄神経根" * 12, "é" * 99, b"Mod\x8ale", b"caf\x82 \xff", "m\u0301odel".encode()],
)
def test_names_in_old_code_pages_and_unmarked_utf_8_are_taken(
    wrapper: str | bytes, tmp_path: Path
) -> None:
    raw = wrapper.encode() if isinstance(wrapper, str) else wrapper
    draft = Draft([Member(raw + b"/" + n.encode(), d, flags=0) for n, d in MODEL.items()])
    assert _contents(_unpack(tmp_path, build(draft)).parent) == MODEL


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"a" * 256, "names of 200 bytes"),
        (b"x/" + "é".encode() * 140, "names of 200 bytes"),
        (b"a" * 65_000, "names of 200 bytes"),
        (b"a/" * 10_000 + b"x", "16 folders"),
        (b"a/" * 10_000, "16 folders"),
        (b"a\\" * 10_000 + b"x", "16 folders"),
        (b"/".join([b"a" * 150] * 9), "paths of 800 bytes"),
        (b"a\0b", "outside"),
        (b"\0", "outside"),
        (b"a\rb", "printable"),
        (b"a\x1bb", "printable"),
        (b"\x7f", "printable"),
        (b"notes 12:30.txt", "colons"),
    ],
)
@pytest.mark.parametrize("place", [b"", f"{TRAINER}/".encode()])
def test_a_name_that_cannot_be_written_is_refused_in_one_line(
    name: bytes, reason: str, place: bytes, tmp_path: Path
) -> None:
    draft = Draft([Member(n.encode(), data) for n, data in MODEL.items()])
    draft.add((place + name)[:65_535])
    with pytest.raises(ArchiveError, match=reason) as error:
        _unpack(tmp_path, build(draft))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
    assert _contents(tmp_path / "inside") == {}


@pytest.mark.parametrize("other", ["PLANS.JSON", "Dataset.json", "Fold_All/checkpoint_final.pth"])
def test_names_that_differ_in_case_alone_are_refused_without_suspicion(
    other: str, tmp_path: Path
) -> None:
    with pytest.raises(ArchiveError, match="upper and lower case") as error:
        _unpack(tmp_path, pack({**MODEL, f"{TRAINER}/{other}": b"x"}))
    assert "trust" not in str(error.value)


def test_python_s_own_archiver_makes_a_model(tmp_path: Path) -> None:
    write_model(tmp_path / "made" / "study")
    made = shutil.make_archive(str(tmp_path / "shutil"), "zip", tmp_path / "made")
    assert _contents(_unpack(tmp_path, Path(made).read_bytes()).parent) == MODEL


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("tar", "a tar archive"), ("gztar", "gzip"), ("bztar", "bzip2"), ("xztar", "an xz file")],
)
def test_another_kind_of_archive_is_named(kind: str, expected: str, tmp_path: Path) -> None:
    write_model(tmp_path / "made")
    other = shutil.make_archive(str(tmp_path / "m"), kind, tmp_path / "made")
    assert expected in str(not_a_zip(Path(other)))
    assert "as .zip" in str(not_a_zip(Path(other)))


def test_an_empty_fold_stays_to_be_seen(tmp_path: Path) -> None:
    trainer = _unpack(tmp_path, pack({**MODEL, f"{TRAINER}\\fold_3\\": b""}))
    assert (trainer / "fold_3").is_dir()


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    files = {**MODEL, f"{TRAINER}/fold_0": json.dumps({}).encode(), f"{TRAINER}/fold_0/": b""}
    with pytest.raises(ArchiveError, match="each file once"):
        _unpack(tmp_path, pack(files))
