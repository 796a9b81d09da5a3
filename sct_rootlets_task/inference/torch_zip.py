"""The members of a checkpoint's zip file, read within the bounds of the file.

``torch.save`` does not compress, so no member is larger than the file. Whatever is compressed,
encrypted, named twice or out of bounds is refused.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MOST_MEMBERS = 100_000
MOST_DIRECTORY_BYTES = 2**24
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN_EXTRA = 2**32 - 1
"""Stands for a number that is kept in the entry's zip64 field."""
_ENCRYPTED = 0x2041
"""Flags of members that are encrypted in one way or another."""


@dataclass(frozen=True)
class _Member:
    name: bytes
    offset: int
    size: int
    checksum: int


class TorchZip:
    """A zip file of stored members.

    Parameters
    ----------
    stream : binary file
        Open for reading, seekable.

    Attributes
    ----------
    sizes : dict of str to int
        Size in bytes of each member.

    Raises
    ------
    ValueError
        If it is no zip file, is damaged, or holds members that ``torch.save`` does not write.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end, directory = _directory(stream)
        self._members: dict[str, _Member] = {}
        for member in _members(directory):
            name = member.name.decode()
            if name in self._members:
                raise ValueError(f"its member {name[:80]!r} is there twice")
            self._members[name] = member
        self.sizes = {name: member.size for name, member in self._members.items()}
        if sum(self.sizes.values()) > self._end:
            raise ValueError("its members are larger than the file")

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises
        ------
        ValueError
            If it is damaged.
        """
        member = self._members[name]
        header = _read(self._stream, member.offset, _LOCAL.size, self._end)
        signature, *_, name_size, extra_size = _LOCAL.unpack(header)
        start = member.offset + _LOCAL.size
        if signature != b"PK\3\4" or name_size != len(member.name):
            raise ValueError(f"its member {name[:80]!r} is damaged")
        same = _read(self._stream, start, name_size, self._end) == member.name
        content = _read(self._stream, start + name_size + extra_size, member.size, self._end)
        if not same or zlib.crc32(content) != member.checksum:
            raise ValueError(f"its member {name[:80]!r} is damaged")
        return content


def _directory(stream: BinaryIO) -> tuple[int, bytes]:
    """Return where the directory of members begins, and its bytes."""
    size = stream.seek(0, os.SEEK_END)
    at = size - _END.size
    if at < 0:
        raise ValueError("it is no zip file, as torch.save writes them since version 1.6")
    signature, *disks, count, length, start, comment = _END.unpack(
        _read(stream, at, _END.size, size)
    )
    if signature != b"PK\5\6" or comment:
        raise ValueError("it is no zip file, as torch.save writes them since version 1.6")
    locator = at - _LOCATOR64.size
    if locator >= 0 and _read(stream, locator, 4, size) == b"PK\6\7":
        at = locator - _END64.size
        if at < 0:
            raise ValueError("its directory is damaged")
        signature, *disks, count, length, start = _END64.unpack(
            _read(stream, at, _END64.size, size)
        )
        disks = disks[3:]
    if start + length != at or count > MOST_MEMBERS or length > MOST_DIRECTORY_BYTES:
        raise ValueError("its directory is damaged or far too large")
    if any(disks[:2]) or disks[2] != count or signature not in (b"PK\5\6", b"PK\6\6"):
        raise ValueError("its directory is damaged")
    return start, _read(stream, start, length, size)


def _members(directory: bytes) -> Iterator[_Member]:
    at = 0
    while at < len(directory):
        if len(directory) - at < _ENTRY.size:
            raise ValueError("its directory is damaged")
        entry = _ENTRY.unpack_from(directory, at)
        signature, flags, method, checksum = entry[0], entry[3], entry[4], entry[7]
        sizes, lengths, offset = entry[8:10], entry[10:13], entry[16]
        at += _ENTRY.size
        name = directory[at : at + lengths[0]]
        extra = directory[at + lengths[0] : at + lengths[0] + lengths[1]]
        at += sum(lengths)
        if signature != b"PK\1\2" or at > len(directory):
            raise ValueError("its directory is damaged")
        plain, stored, offset = _wide((sizes[1], sizes[0], offset), extra)
        if method != 0 or plain != stored or flags & _ENCRYPTED:
            raise ValueError("it is compressed or encrypted, which torch.save does not do")
        yield _Member(name, offset, plain, checksum)


def _wide(numbers: tuple[int, ...], extra: bytes) -> list[int]:
    """Fill in the numbers that are kept in the zip64 field."""
    missing = sum(number == _IN_EXTRA for number in numbers)
    if not missing:
        return list(numbers)
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == 1 and length >= 8 * missing and at + length <= len(extra):
            found = iter(struct.unpack_from(f"<{missing}Q", extra, at))
            return [next(found) if number == _IN_EXTRA else number for number in numbers]
        at += length
    raise ValueError("its directory is damaged")


def _read(stream: BinaryIO, start: int, length: int, end: int) -> bytes:
    """Return `length` bytes from `start` on, all of them before `end`."""
    if start + length > end:
        raise ValueError("it ends too early")
    stream.seek(start)
    content = stream.read(length)
    if len(content) != length:
        raise ValueError("it ends too early")
    return content
