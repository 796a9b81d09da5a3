"""Care with what comes from outside: texts to show, files to open, folders to believe.

Texts may hold control characters. A path may name a device or an endless pipe. In an open folder
others put what they like.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_OPEN_TO_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_NOBODY = 65534
_ALL_USERS = "4294967295"
_STORE = "annex/objects/"
_DATALAD, _LFS = "datalad get {}", "git lfs pull"
_POINTERS = (
    (re.compile(rb"(\S*[/\\])?annex[/\\]objects[/\\]"), _DATALAD),
    (re.compile(rb"version https?://[^\s/]{1,40}/(spec/)?v/?[0-9]"), _LFS),
)
"""What stands in a file in the place of a content that was not fetched, and what fetches it.

git-annex writes a key; git without links writes the target of a link; git LFS the version of its
format.
"""
_LARGEST_POINTER = 32 << 10
_POINTER_START = 1000


def printable(text: object, longest: int = 200) -> str:
    r"""Return a foreign text fit for a message: one line, nothing that steers a terminal.

    Parameters
    ----------
    text : object
        Name, address or message from outside.
    longest : int
        Characters to keep; of longer texts the middle is left out.

    Examples
    --------
    >>> print(printable("plans\x1b[2J.json\n"), printable("\u202egpj.exe"))
    plans\x1b[2J.json\n \u202egpj.exe
    """
    whole = str(text)
    if len(whole) > longest:
        head = longest * 2 // 3
        whole = f"{whole[:head]}…{whole[head + 1 - longest :]}"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in whole
    )


def reason_of(error: BaseException, otherwise: str = "") -> str:
    """Return what an error says, for a message, in one short line without paths.

    An error without a text gives `otherwise`, by default the name of its class.
    """
    return printable(
        getattr(error, "strerror", None) or str(error) or otherwise or type(error).__name__
    )


def is_annexed(path: Path) -> bool:
    """Tell whether a path is a link into git-annex's store, whose files are never changed."""
    # Unlike pathlib's, islink takes names that no disk takes.
    return os.path.islink(path) and _STORE in Path(os.path.realpath(path)).as_posix()  # noqa: PTH114


def missing_content(path: Path) -> str | None:
    """Return that the content of a file was not fetched, and what fetches it; None if it was.

    Studies in datalad, git-annex or git LFS hold large files by name alone until they are asked
    for: as a link that leads to nothing, or as a small text in the place of the content.

    Parameters
    ----------
    path : Path
        The file; it need not exist.
    """
    try:
        open_regular(path).close()
    except ContentMissingError as error:
        return error.strerror
    except (OSError, ValueError):
        pass
    return None


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder of this name; where one may not look, there is none."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def is_file(path: Path) -> bool:
    """Tell whether there is a file of this name; where one may not look, there is none."""
    with contextlib.suppress(OSError, ValueError):
        return path.is_file()
    return False


def file_argument(path: str | os.PathLike[str]) -> str:
    """Return a path as the argument of a command, which no program takes for an option.

    Examples
    --------
    >>> file_argument("a.nii.gz"), file_argument("-a.nii.gz")
    ('a.nii.gz', './-a.nii.gz')
    """
    text = os.fspath(path)
    return f".{os.sep}{text}" if text.startswith("-") else text


class ContentMissingError(OSError):
    """The content of a file was not fetched from where its study keeps it."""

    def __init__(self, path: Path, command: str) -> None:
        way = command.format(printable(shlex.quote(file_argument(path))))
        super().__init__(errno.ENODATA, f"its content is not here; get it with '{way}'", str(path))


def _refuse_pointer(descriptor: int, path: Path) -> None:
    """Refuse a text that stands in the place of the content, and go back to the start."""
    if not 0 < os.fstat(descriptor).st_size <= _LARGEST_POINTER:
        return
    start = os.read(descriptor, _POINTER_START)
    os.lseek(descriptor, 0, os.SEEK_SET)
    for form, command in _POINTERS:
        if form.match(start):
            raise ContentMissingError(path, command)


def open_regular(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open an ordinary file for reading; never wait for a pipe, never start on a device.

    Parameters
    ----------
    path : Path
        The file.
    follow : bool
        Whether a link in the file's place is followed.

    Raises
    ------
    ContentMissingError
        If its content was not fetched, see :func:`missing_content`.
    OSError
        If it cannot be opened, or is a folder, a pipe, a socket or a device.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", *(() if follow else ("O_NOFOLLOW",))):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        if is_annexed(path):
            raise ContentMissingError(path, _DATALAD) from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "this is a folder, not a file", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "this is no ordinary file (a device or a pipe)", str(path))
        _refuse_pointer(descriptor, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def owner_of(info: os.stat_result) -> str:
    """Return who owns a file or folder, for a message: the name, and the number."""
    if not hasattr(os, "geteuid"):
        return "another user"
    import pwd

    try:
        return f"{printable(pwd.getpwuid(info.st_uid).pw_name)} (user {info.st_uid})"
    except KeyError:
        return f"user {info.st_uid}"


def is_mine(info: os.stat_result) -> bool:
    """Tell whether a file or folder belongs to this user; it does where users have no numbers."""
    return not hasattr(os, "geteuid") or info.st_uid == os.geteuid()


def closed_part(path: Path) -> Path | None:
    """Return the first folder on the way to a file, or the file, that this user may not read.

    Parameters
    ----------
    path : Path
        An absolute path. Folders on the way need only be entered.

    Returns
    -------
    Path or None
        None where nothing is closed.
    """
    wanted = dict.fromkeys(reversed(path.parents), os.X_OK)
    wanted[path] = os.R_OK | os.X_OK if is_folder(path) else os.R_OK
    effective = os.access in os.supports_effective_ids
    for part, mode in wanted.items():
        if not os.path.lexists(part):
            return None
        if not os.access(part, mode, effective_ids=effective):
            return part
    return None


def why_not_ours(info: os.stat_result) -> str | None:
    """Return why others may have a hand in a file or folder; None where nobody else may.

    A folder may be open to a group that is the user's alone. Systems without user numbers
    (Windows) are not looked at.
    """
    if not hasattr(os, "geteuid"):
        return None
    if info.st_uid not in (os.geteuid(), 0):
        return f"belongs to another user (number {info.st_uid})"
    if _is_open(info):
        return f"may be written by other users (mode {stat.S_IMODE(info.st_mode):o})"
    return None


def why_folder_not_ours(folder: Path) -> str | None:
    """Return why others can change what is in a folder, or put another one in its place.

    Parameters
    ----------
    folder : Path
        An existing folder without links in its path, see :meth:`pathlib.Path.resolve`.

    Returns
    -------
    str or None
        What is wrong and with which folder; None where nobody else can.
    """
    if not hasattr(os, "geteuid"):
        return None
    reason = why_not_ours(folder.stat())
    if reason:
        return f"{printable(folder)} {reason}"
    trusted = {os.geteuid(), 0, *_unmapped_root()}
    for parent in folder.parents:
        info = parent.stat()
        if info.st_uid not in trusted:
            return f"{printable(parent)} belongs to another user (number {info.st_uid})"
        # In a sticky folder (/tmp) others can add entries, and neither remove nor rename ours.
        if not info.st_mode & stat.S_ISVTX and _is_open(info):
            return f"{printable(parent)} {why_not_ours(info)}"
    return None


def _is_open(info: os.stat_result) -> bool:
    private = stat.S_ISDIR(info.st_mode) and _is_private_group(info)
    return bool(info.st_mode & _OPEN_TO_OTHERS) and not private


def _unmapped_root() -> Iterator[int]:
    """Yield the number that stands for root in containers started without root's rights."""
    try:
        mapped = Path("/proc/self/uid_map").read_text()
    except OSError:
        return
    if _ALL_USERS not in mapped:
        yield _NOBODY


def _is_private_group(info: os.stat_result) -> bool:
    """Tell whether the group of a folder is the user's alone, as many systems give one to each."""
    import grp
    import pwd

    if info.st_mode & stat.S_IWOTH or os.geteuid() == 0:
        return False
    try:
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(info.st_gid)
    except KeyError:
        return False
    return group.gr_name == user and not set(group.gr_mem) - {user}


def is_world_writable(path: Path, *, sticky_is_safe: bool = True) -> bool:
    """Tell whether every user of this machine may change a file or folder.

    With `sticky_is_safe`, a folder in which all may add entries, but not remove others', is none.
    """
    if not hasattr(os, "geteuid"):
        return False
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    sticky = stat.S_ISDIR(mode) and bool(mode & stat.S_ISVTX) and sticky_is_safe
    return bool(mode & stat.S_IWOTH) and not sticky
