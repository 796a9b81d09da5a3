"""Unpacking a model's zip archive, taking nothing in it on trust.

Nothing from an archive is executed or unpickled here; its files are written as plain data.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from sct_rootlets_task.errors import ArchiveError
from sct_rootlets_task.inference.fields import json_object
from sct_rootlets_task.inference.trainer_folder import CHECKPOINTS, DESCRIPTIONS, FOLD, FOLDS, PLANS
from sct_rootlets_task.io.untrusted import open_regular, printable

logger = logging.getLogger(__name__)

SOURCE = "source.json"
"""Name of the record that the installer writes beside the trainer folder."""

_DEFAULT_TRAINER = "nnUNetTrainer"
_DEFAULT_PLANS = "nnUNetPlans"
_DEFAULT_CONFIGURATION = "3d_fullres"
_NAME_PART = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_LITTER = re.compile(
    r"""
    # macOS
    __macosx | \._.* | \.ds_store | icon[\r\uf00d] | \.appledouble | \.appledb | \.appledesktop
    | \.lsoverride | \.spotlight-v100 | \.trash | \.trashes | \.fseventsd | \.temporaryitems
    | \.documentrevisions-v100 | \.mobilebackups | \.volumeicon\.icns | \.apdisk | \.localized
    | \.com\.apple\..* | \.metadata_never_index | \.pkinstallsandboxmanager.*
    | network[ ]trash[ ]folder | temporary[ ]items
    # Windows
    | thumbs\.db(:encryptable)? | ehthumbs(_vista)?\.db | desktop\.ini | \$recycle\.bin
    | recycler | recycled | system[ ]volume[ ]information | found\.[0-9]{3}
    # its second contents of files, which WSL, Samba and Dropbox give names of their own
    | .+[:\uf03a](zone\.identifier|smartscreen|afp_\w+|com\.dropbox\.\w+)(:\$data)?
    # Linux, servers and services that keep folders alike
    | \.directory | \.trash-[0-9]+ | lost\+found | \.fuse_hidden.* | \.nfs[0-9a-f]{8,}
    | @eadir | \#recycle | @recycle | \.@__thumb
    | \.dropbox(\.attr|\.cache)? | \.~lock\..*\# | \.syncthing\..* | \.stfolder
    # version control and Python
    | \.git | \.svn | \.hg | \.bzr | cvs | \.datalad | __pycache__ | \.ipynb_checkpoints
    | \.idea | \.vscode
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""Names of what systems and programs leave in folders; what lies below such a folder is litter."""
_FORBIDDEN = re.compile(r"[\\:\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_DRIVE = re.compile("[A-Za-z]:")
_UTF8 = 0x800
_OTHER_ARCHIVES = {
    b"\x1f\x8b": "a gzip file, such as .tar.gz",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file, such as .tar.bz2",
    b"\xfd7zXZ": "an xz file, such as .tar.xz",
}
_TAR_MARK = (257, b"ustar")
# Published models are some hundred megabytes in some tens of files, and hardly compress.
MOST_FILES = 5_000
MOST_BYTES = 32 << 30
"""Size of everything unpacked."""
_MOST_FOLDERS = 16
_MOST_NAME_BYTES, _MOST_PATH_BYTES = 200, 800
_MOST_RATIO, _RATIO_FROM_BYTES = 100, 64 << 20
"""Size unpacked over size packed, and the unpacked size from which on it is looked at."""
_DIRECTORY_LIMIT = 4 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
)
"""What zipfile lets out for damaged archives; NotImplementedError is a RuntimeError."""
_CHUNK = 1 << 20
_SYNCED_BYTES = 1 << 16
_ENCRYPTED = 0x1
_DOS_FOLDER = 0x10


@dataclass(frozen=True)
class _Members:
    """The checked entries: files to read, folders of their own, and files that are litter."""

    files: Mapping[PurePosixPath, zipfile.ZipInfo]
    folders: frozenset[PurePosixPath]
    litter: tuple[zipfile.ZipInfo, ...]


@dataclass(frozen=True)
class _Layout:
    """Where the model lies in the archive and what its folder is to be called."""

    home: PurePosixPath
    trainer: str
    wrapper: PurePosixPath

    def target(self, path: PurePosixPath) -> PurePosixPath | None:
        """Return where a member goes below the destination; None leaves it out."""
        if path.is_relative_to(self.home):
            target = self.trainer / path.relative_to(self.home)
        elif path.is_relative_to(self.wrapper):
            target = path.relative_to(self.wrapper)
        else:
            return None
        if _is_record(target):
            logger.info("Left out %s, whose place our own record takes.", printable(path))
            return None
        return target


def not_a_zip(path: Path) -> str | None:
    """Return why a file cannot be a complete zip archive, None if it looks like one.

    Tells a login page, an error page or a truncated file from an archive by the end record.
    """
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            other = _other_archive(stream)
            whole = zipfile.is_zipfile(stream)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except _DAMAGE as error:  # is_zipfile expects errors of the disk alone
        return f"this is no intact zip archive ({printable(error)})"
    if other:
        return f"this is {other}, no zip archive; pack the model's folder as .zip"
    return None if whole else f"this is no complete zip archive ({size} bytes)"


def _other_archive(stream: BinaryIO) -> str | None:
    """Return what kind of archive a file is, if it is one of another kind than zip.

    Checkpoints are zip files themselves, so that the end of a tar archive may look like one.
    """
    start = stream.read(512) or b""
    at, mark = _TAR_MARK
    if start[at:].startswith(mark):
        return "a tar archive"
    return next((kind for m, kind in _OTHER_ARCHIVES.items() if start.startswith(m)), None)


def unpack_model(zip_path: Path, destination: Path) -> Path:
    """Unpack the one nnU-Net model of a zip archive.

    The trainer folder may lie at the top or inside other folders. Where the folds lie beside
    ``plans.json`` without one, it is made. Litter such as ``.DS_Store`` is left out. Backslashes in
    names are taken for slashes.

    Parameters
    ----------
    zip_path : Path
        The archive.
    destination : Path
        Existing folder to write to. After an error it holds an unknown part of the archive, so it
        should be a temporary one.

    Returns
    -------
    Path
        The trainer folder, ``<destination>/nnUNetTrainer…``, with ``plans.json``,
        ``dataset.json`` and ``fold_*/checkpoint_*.pth``.

    Raises
    ------
    ArchiveError
        If the archive is damaged, unsafe, or does not hold exactly one model.
    OSError
        If the files cannot be written.
    """
    try:
        with open_regular(zip_path) as stream, zipfile.ZipFile(_Bounded(stream)) as archive:
            packed = os.fstat(stream.fileno()).st_size
            members = _safe_members(archive, packed)
            layout = _find_layout(archive, members.files)
            _write_members(archive, members, layout, destination)
    except _DAMAGE as error:
        raise ArchiveError(
            f"Expected an intact zip archive, found {printable(zip_path)} damaged "
            f"({printable(error)}). Fetch it again."
        ) from error
    return destination / layout.trainer


class _Bounded:
    """A file that is never read in one piece where the archive says so.

    zipfile reads the whole directory of an archive, however large it says that it is, before its
    entries can be counted.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if size > _DIRECTORY_LIMIT:
            raise zipfile.BadZipFile(f"a directory of {size} bytes")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def leads_out(name: str) -> bool:
    r"""Tell whether a relative path of an archive or a record could lead out of its folder.

    Parameters
    ----------
    name : str
        Path with slashes. Backslashes and colons mean something on Windows alone, and are refused
        everywhere, as control characters are.

    Examples
    --------
    >>> [leads_out(name) for name in ("a/b.json", "../b", "/b", "C:b", "a\\b", ".")]
    [False, True, True, True, True, True]
    """
    path = PurePosixPath(name)
    forbidden = bool(_FORBIDDEN.search(name))
    return forbidden or not path.parts or path.is_absolute() or ".." in path.parts


def _safe_members(archive: zipfile.ZipFile, packed: int) -> _Members:
    """Return what to read, after every entry of the archive has been checked."""
    entries = [(_name_of(entry), entry) for entry in archive.infolist()]
    litter = tuple(entry for name, entry in entries if _is_litter(name))
    _check_size(archive.infolist(), len(litter), packed)
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    folders = set()
    for name, entry in entries:
        if entry.header_offset < 0:  # zipfile would fail on it with an error of the disk
            raise zipfile.BadZipFile(f"no data for {name!r}")
        _check_packing(name, entry)
        if _is_litter(name):
            _check_inside(name)
            continue
        path = _safe_path(name)
        _check_kind(name, entry)
        if _is_folder(name, entry):
            folders.add(path)
        elif path in files:
            raise _several(path)
        else:
            files[path] = entry
    _check_distinct(files, folders)
    return _Members(files, frozenset(folders), tuple(e for e in litter if not e.is_dir()))


def _name_of(entry: zipfile.ZipInfo) -> str:
    """Return the path that an entry means.

    Some programs of Windows (Compress-Archive of PowerShell 5) write backslashes. Some of macOS
    write UTF-8 without saying so, which zipfile then takes for the code page of old PCs.
    """
    # orig_filename: zipfile has already replaced separators and cut at a zero byte in filename.
    name = entry.orig_filename
    if not entry.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _is_folder(name: str, entry: zipfile.ZipInfo) -> bool:
    """Tell whether an entry is a folder; some programs say so by its mode alone."""
    by_mode = stat.S_ISDIR(entry.external_attr >> 16) or entry.external_attr & _DOS_FOLDER
    return name.endswith("/") or bool(by_mode and not entry.file_size)


def _is_litter(name: str) -> bool:
    return any(_LITTER.fullmatch(part) for part in name.split("/"))


def _is_record(target: PurePosixPath) -> bool:
    """Tell whether a file, or a folder above it, takes the place of the installer's record.

    People pack installed models, and some disks ignore case.
    """
    return any(_folded(PurePosixPath(part)) == SOURCE for part in target.parts[:2])


def _check_size(entries: Sequence[zipfile.ZipInfo], litter: int, packed: int) -> None:
    """Refuse what would expand beyond measure. The number of litter is bounded by its directory."""
    total, count = sum(entry.file_size for entry in entries), len(entries) - litter
    if count > MOST_FILES:
        raise ArchiveError(
            f"Expected at most {MOST_FILES} files in the archive, found {count}. Pack "
            "plans.json, dataset.json and the checkpoints of the folds."
        )
    bomb = total > _RATIO_FROM_BYTES and total > _MOST_RATIO * max(packed, 1)
    if total > MOST_BYTES or bomb:
        raise ArchiveError(
            f"The archive of {packed} bytes would expand to {total} bytes, which no model does. "
            "Do not trust its source."
        )


def _check_inside(name: str) -> None:
    """Refuse the name of an entry that is not written either, but that only an attack has."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or _DRIVE.match(name):
        raise _leads_out(name)


def _leads_out(name: str) -> ArchiveError:
    return ArchiveError(
        f"Expected relative paths in the archive, found '{printable(name)}', which could be "
        "written outside the model's folder. Do not trust its source."
    )


def _safe_path(name: str) -> PurePosixPath:
    """Return the relative path of an entry; refuse whatever could lead out of the folder."""
    path = PurePosixPath(name)
    own_folder = name.endswith("/") and not path.parts  # "./"
    if own_folder and not path.is_absolute():
        return path
    _check_inside(name)
    if leads_out(name):
        raise ArchiveError(
            f"Expected names of printable characters without colons in the archive, found "
            f"'{printable(name)}'. Rename it, and pack the model again."
        )
    folders, length = len(path.parts), len(name.encode())
    longest = max(len(part.encode()) for part in path.parts)
    if folders > _MOST_FOLDERS or longest > _MOST_NAME_BYTES or length > _MOST_PATH_BYTES:
        raise ArchiveError(
            f"Expected at most {_MOST_FOLDERS} folders in each other, names of {_MOST_NAME_BYTES} "
            f"bytes and paths of {_MOST_PATH_BYTES} bytes in the archive, found "
            f"'{printable(name, 60)}' ({folders} folders, {longest} and {length} bytes). Pack the "
            "model's own folder alone."
        )
    return path


def _check_kind(name: str, entry: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(
            f"Expected plain files in the archive, found '{printable(name)}', which is a "
            "link or a special file. Do not trust its source."
        )


def _check_packing(name: str, entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise ArchiveError(
            f"Expected an archive without a password, found '{printable(name)}' encrypted. Pack "
            "the model again, without one."
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(
            f"Expected ordinary zip compression (deflate), found method {entry.compress_type} for "
            f"'{printable(name)}'. Pack the model again, with another program or its default "
            "settings."
        )


def _check_distinct(files: Iterable[PurePosixPath], own: Iterable[PurePosixPath]) -> None:
    """Refuse two files that would be one on a disk that ignores case, or a file used as folder."""
    folded = Counter(_folded(path) for path in files)
    folders = {
        _folded(parent)
        for folder in {*own, *(path.parent for path in files)}
        for parent in (folder, *folder.parents)
    }
    for path in files:
        name = _folded(path)
        if folded[name] > 1 or name in folders:
            raise _several(path)


def _several(path: PurePosixPath) -> ArchiveError:
    return ArchiveError(
        f"Expected each file once in the archive, found '{printable(path)}' several times (upper "
        "and lower case are the same on some disks). Pack the model's own folder again."
    )


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


def _find_layout(
    archive: zipfile.ZipFile, members: Mapping[PurePosixPath, zipfile.ZipInfo]
) -> _Layout:
    """Return where the one model lies, after a look at its two JSON files."""
    home = _find_home(members)
    contents = {}
    for name in DESCRIPTIONS:
        if home / name not in members:
            raise ArchiveError(
                f"Expected {printable(home / name)} in the archive, found none. This is no "
                "nnU-Net model."
            )
        with archive.open(members[home / name]) as stream:
            contents[name] = _read_json(stream, home / name)
    if not any(_is_checkpoint(path, home) and e.file_size for path, e in members.items()):
        raise ArchiveError(
            f"Expected {CHECKPOINTS[0]} or {CHECKPOINTS[1]} in a folder "
            f"{printable(home / FOLDS)} of the "
            "archive, found none. This is no trained nnU-Net model."
        )
    if home.name.startswith(_DEFAULT_TRAINER):
        return _Layout(home, home.name, wrapper=home.parent)
    return _Layout(home, trainer_name(contents[PLANS]), wrapper=home)


def _read_json(stream: IO[bytes], path: PurePosixPath) -> dict[str, Any]:
    try:
        return json_object(stream)
    except ValueError as error:
        raise ArchiveError(
            f"Expected JSON in {printable(path)} of the archive, found a damaged file "
            f"({printable(error)})."
        ) from error


def _is_checkpoint(path: PurePosixPath, home: PurePosixPath) -> bool:
    fold = path.parent
    return path.name in CHECKPOINTS and fold.parent == home and bool(FOLD.fullmatch(fold.name))


def _find_home(members: Iterable[PurePosixPath]) -> PurePosixPath:
    """Return the folder of the archive that is, or stands for, the trainer folder."""
    homes = set()
    for path in members:
        if path.name == PLANS:
            homes.add(path.parent)
        homes.update(p for p in path.parents if p.name.startswith(_DEFAULT_TRAINER))
    outermost = sorted(h for h in homes if not homes.intersection(h.parents))
    if len(outermost) != 1:
        found = printable(", ".join(map(str, outermost)) or "none")
        raise ArchiveError(
            f"Expected exactly one folder nnUNetTrainer… in the archive, found {found}. "
            "Pack one model with its plans.json, dataset.json and folds."
        )
    return outermost[0]


def trainer_name(plans: Mapping[str, Any]) -> str:
    """Return a name for a trainer folder whose archive has dropped it.

    The trainer's own name stands only in the checkpoint, which is not opened here.

    Examples
    --------
    >>> trainer_name({"plans_name": "nnUNetPlans", "configurations": {"3d_fullres": {}}})
    'nnUNetTrainer__nnUNetPlans__3d_fullres'
    """
    named = plans.get("plans_name")
    configurations = plans.get("configurations")
    available = list(configurations) if isinstance(configurations, dict) else []
    configuration = _DEFAULT_CONFIGURATION
    if available and configuration not in available:
        configuration = available[0]
    parts = (
        _DEFAULT_TRAINER,
        named if isinstance(named, str) and _NAME_PART.fullmatch(named) else _DEFAULT_PLANS,
        configuration if _NAME_PART.fullmatch(configuration) else _DEFAULT_CONFIGURATION,
    )
    return "__".join(parts)


def _write_members(
    archive: zipfile.ZipFile, members: _Members, layout: _Layout, destination: Path
) -> None:
    """Read every file to its end, which checks its CRC, and write those that are wanted.

    Weights and the two JSON files are synced: after a power cut none of them may be empty. A sync
    of each of thousands of small files would take minutes; the record holds their checksums.
    """
    for path in members.folders:
        # A fold without a file is one that was not trained; the model's reader has to see it.
        if path.parent == layout.home and FOLD.fullmatch(path.name):
            (destination / layout.trainer / path.name).mkdir(parents=True, exist_ok=True)
    wanted = [(entry, layout.target(path)) for path, entry in members.files.items()]
    for entry, target in [*wanted, *((entry, None) for entry in members.litter)]:
        with archive.open(entry) as stream:
            if target is None:
                while stream.read(_CHUNK):
                    pass
            else:
                _write(stream, destination / target)
    for name in DESCRIPTIONS:
        with (destination / layout.trainer / name).open("rb+") as description:
            os.fsync(description.fileno())


def _write(stream: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        shutil.copyfileobj(stream, out, _CHUNK)
        out.flush()
        if out.tell() >= _SYNCED_BYTES:
            os.fsync(out.fileno())
