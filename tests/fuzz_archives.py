"""Archives nobody should send: good models, damaged or made wicked where it may hurt.

A zip archive is put together from its parts here, so that every field can lie. Each archive comes
from its own seed: ``archive(seed)`` makes one again.
"""

from __future__ import annotations

import random
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache

from model_zips import LAYOUTS, model_files

STORED, DEFLATED = 0, 8
HUGE = (0, 1, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFE, 0xFFFF_FFFF)
HUGER = (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)


@dataclass
class Member:
    """One member; `fields` and `local` replace what its two headers would say."""

    name: bytes
    data: bytes
    method: int = DEFLATED
    flags: int = 0x800
    mode: int = 0
    extra: bytes = b""
    fields: dict[str, int] = field(default_factory=dict)
    local: dict[str, int] = field(default_factory=dict)
    local_name: bytes | None = None


@dataclass
class Draft:
    """An archive before it is put together; `end` replaces what the end record would say."""

    members: list[Member]
    end: dict[str, int] = field(default_factory=dict)
    zip64: dict[str, int] | None = None
    before: bytes = b""
    after: bytes = b""

    @property
    def prefix(self) -> bytes:
        return next(m.name for m in self.members if m.name.endswith(b"plans.json"))[:-10]

    def add(self, name: bytes, data: bytes = b"x", **options: object) -> None:
        self.members.append(Member(name, data, **options))  # type: ignore[arg-type]


def good(layout: str = "trainer") -> Draft:
    files = {LAYOUTS[layout] + name: data for name, data in model_files().items()}
    return Draft([Member(name.encode(), data) for name, data in files.items()])


def build(draft: Draft) -> bytes:
    """Put an archive together, lies and all."""
    out, directory = bytearray(draft.before), bytearray()
    for member in draft.members:
        offset = len(out)
        packed = pack(member.data, member.method)
        said = {
            "version": 20, "flags": member.flags, "method": member.method,
            "crc": zlib.crc32(member.data), "packed": len(packed), "size": len(member.data),
            "offset": offset, "mode": member.mode << 16,
        }  # fmt: skip
        here, there = {**said, **member.local}, {**said, **member.fields}
        name = member.name if member.local_name is None else member.local_name
        out += _local(here, name) + packed
        directory += _central(there, member.name, member.extra)
    said = {"count": len(draft.members), "size": len(directory), "offset": len(out), "comment": 0}
    out += directory
    if draft.zip64 is not None:
        out += _zip64(said | draft.zip64, len(out))
    end = {**said, **draft.end}
    count = end["count"] & 0xFFFF
    out += struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, end["size"] & 0xFFFF_FFFF,
        end["offset"] & 0xFFFF_FFFF, end["comment"] & 0xFFFF,
    )  # fmt: skip
    return bytes(out + draft.after)


@cache
def pack(data: bytes, method: int) -> bytes:
    if method != DEFLATED:
        return data
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _local(said: dict[str, int], name: bytes) -> bytes:
    return struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", said["version"], said["flags"], said["method"], 0, 0x21,
        said["crc"], said["packed"] & 0xFFFF_FFFF, said["size"] & 0xFFFF_FFFF, len(name), 0,
    ) + name  # fmt: skip


def _central(said: dict[str, int], name: bytes, extra: bytes) -> bytes:
    return struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 3 << 8 | 20, said["version"], said["flags"],
        said["method"], 0, 0x21, said["crc"], said["packed"] & 0xFFFF_FFFF,
        said["size"] & 0xFFFF_FFFF, len(name), len(extra), 0, 0, 0, said["mode"] & 0xFFFF_FFFF,
        said["offset"] & 0xFFFF_FFFF,
    ) + name + extra  # fmt: skip


def _zip64(said: dict[str, int], at: int) -> bytes:
    count = said["count"]
    record = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, said["size"], said["offset"]
    )
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, said.get("at", at), 1)


Change = Callable[[Draft, random.Random], None]
NAMES: tuple[bytes, ...] = (
    b"../evil", b"a/../../evil", b"/tmp/evil", b"//host/evil", b"C:/evil", b"C:evil", b"..\\evil",
    b"evil\0.png", b"\0", b"", b".", b"./", b"/", b"//", b"..", b"../", b"a//b", b"./a/./b",
    b"\x1b]0;owned\x07\x1b[2Jclean", b"line\nbreak", b"\r\n- /etc/passwd: fine", b"\x7f\x80\xff",
    "\u202egnp.sj".encode(), "\u2066a\u2069".encode(), "e\u0301".encode(), "\u00e9".encode(),
    "\ufeff".encode(), "\U000e0041".encode(), b"\xed\xa0\x80", b"\xff\xfe", "ſource.json".encode(),
    b"source.json", b"SOURCE.JSON", b"Source.Json", b"source.json/", b"source.json/x", b"lock",
    b".installing/lock", b"previous-x/plans.json", b".hidden", b".", b"trainer_class.py", b"CON",
    b"NUL.txt", b"a.", b"a ", b"plans.json.", b"PLANS.JSON", b"plans.json/x", b"plans.json/",
    b"fold_all", b"fold_all/", b"fold_all/checkpoint_final.pth/", b"fold_0/checkpoint_final.pth",
    b"nnUNetTrainer__other/plans.json", b"nnUNetTrainer", b"nnUNetTrainer/", b"__MACOSX/x",
    b"%s%n{0}{name}", b"~/x", b"$HOME/x", b"-rf", b"Icon\r", b".DS_Store", b".git\\..\\..\\x",
    b"fold_1/", b"fold_1\\", b"fold_2/checkpoint_latest.pth", b"desktop.ini", b"C:\\a",
)  # fmt: skip
RECORDS: tuple[bytes, ...] = (
    b"", b"{}", b"[]", b"null", b"{", b'{"custom": "false", "files": []}', b"\xff",
    b'{"files": {"../../x": "0"}, "release": [1], "sha256": 7}', b'{"model_urls": ' + b"[" * 5000,
    b'{"files": {"nnUNetTrainer/plans.json": "' + b"0" * 64 + b'"}, "model_urls": "https://x"}',
)  # fmt: skip
JSONS: tuple[bytes, ...] = (
    *RECORDS, b"[" * 100_000, b'{"a":' * 50_000, b"1" * 10_000, b"NaN", b"\xef\xbb\xbf{}",
    '{"plans_name": "x"}'.encode("utf-16"), b'{"configurations": 3, "plans_name": []}',
    b'{"configurations": {"../../x": {}}, "plans_name": "../../../x"}', b" " * 100_000 + b"{}",
    b'{"configurations": {"\\ud800": {}}, "plans_name": "\\u0000"}', b'{"a": 1e999999}',
)  # fmt: skip


def _name(draft: Draft, dice: random.Random) -> None:
    name = dice.choice(NAMES)
    place = dice.choice([b"", draft.prefix, draft.prefix + b"fold_all/"])
    if dice.random() < 0.7:
        draft.add(place + name, dice.choice([b"", b"x"]))
    else:
        member = dice.choice(draft.members)
        member.name = place + name


def _depth(draft: Draft, dice: random.Random) -> None:
    part = dice.choice([b"a/", b"bb/", b"../", b"./", b"nnUNetTrainer/", "é/".encode()])
    depth = dice.choice([10, 15, 17, 100, 900, 1100, 3000, 30_000])
    name = (dice.choice([b"", draft.prefix]) + part * depth)[: 65_000 // len(part) * len(part)]
    draft.add(name + dice.choice([b"", b"x", b"plans.json"]), b"")


def _length(draft: Draft, dice: random.Random) -> None:
    part = dice.choice([b"a", "é".encode(), b"\x1b", "\u202e".encode()])
    size = dice.choice([199, 201, 255, 256, 800, 5000, 30_000])
    draft.add(dice.choice([b"", draft.prefix]) + part * (size // len(part)), b"x")


def _many(draft: Draft, dice: random.Random) -> None:
    count = dice.choice([10, 300, 5001])
    shape = dice.choice([b"%d", b"d%d/plans.json", b"a/%d/b", b"nnUNetTrainer%d/x"])
    for number in range(count):
        draft.add(shape % number, b"", method=STORED)


def _twice(draft: Draft, dice: random.Random) -> None:
    member = dice.choice(draft.members)
    name = dice.choice([member.name, member.name.upper(), b"./" + member.name, member.name + b"/"])
    draft.add(name, b"other")


def _header(draft: Draft, dice: random.Random) -> None:
    member = dice.choice(draft.members)
    side = dice.choice([member.fields, member.local])
    key = dice.choice(["flags", "method", "crc", "packed", "size", "offset", "version"])
    most = 0xFFFF if key in ("flags", "method", "version") else 0xFFFF_FFFF
    side[key] = dice.choice([*HUGE, dice.randrange(most), dice.randrange(300)]) & most


def _kind(draft: Draft, dice: random.Random) -> None:
    kinds = (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFDIR, stat.S_IFREG)
    member = dice.choice(draft.members)
    member.mode = dice.choice(kinds) | dice.choice([0, 0o777, 0o4755, 0o000])
    member.data = dice.choice([member.data, b"/etc/passwd", b"../../.."])


def _extra(draft: Draft, dice: random.Random) -> None:
    member = dice.choice(draft.members)
    numbers = [dice.choice(HUGER) for _ in range(dice.randrange(5))]
    body = struct.pack(f"<{len(numbers)}Q", *numbers) + dice.randbytes(dice.randrange(3))
    head = struct.pack("<HH", dice.choice([1, 1, 1, 0x7075]), dice.choice([len(body), 0, 0xFFFF]))
    member.extra = head + body
    for key in dice.sample(["packed", "size", "offset"], dice.randrange(4)):
        member.fields[key] = 0xFFFF_FFFF


def _end(draft: Draft, dice: random.Random) -> None:
    key = dice.choice(["count", "size", "offset", "comment"])
    draft.end[key] = dice.choice([*HUGE, dice.randrange(2000)])


def _end64(draft: Draft, dice: random.Random) -> None:
    keys = dice.sample(["count", "size", "offset", "at"], dice.randrange(5))
    draft.zip64 = {key: dice.choice([*HUGER, dice.randrange(2000)]) for key in keys}
    for key in dice.sample(["count", "size", "offset"], dice.randrange(4)):
        draft.end[key] = 0xFFFF_FFFF


def _overlap(draft: Draft, dice: random.Random) -> None:
    lump = Member(draft.prefix + b"lump", bytes(dice.choice([1 << 10, 1 << 20])))
    draft.members.insert(0, lump)
    for number in range(dice.choice([2, 20, 100])):
        offset = dice.choice([len(draft.before), 0, dice.randrange(2000)])
        said = {"offset": offset, "packed": len(pack(lump.data, DEFLATED)), "size": len(lump.data)}
        said["crc"] = zlib.crc32(lump.data)
        draft.add(draft.prefix + b"lump%d" % number, b"", fields=said)


def _bomb(draft: Draft, dice: random.Random) -> None:
    size = dice.choice([1 << 20, 8 << 20, 65 << 20])
    member = Member(draft.prefix + dice.choice([b"bomb", b"plans.json"]), bytes(size))
    member.fields["size"] = dice.choice([size, 10, 1 << 20])
    draft.members = [m for m in draft.members if m.name != member.name] + [member]


def _json(draft: Draft, dice: random.Random) -> None:
    name = dice.choice([b"plans.json", b"dataset.json"])
    for member in draft.members:
        if member.name == draft.prefix + name:
            member.data = dice.choice(JSONS)
            return


def _record(draft: Draft, dice: random.Random) -> None:
    above = draft.prefix.rstrip(b"/").rpartition(b"/")[0]
    places = [b"", draft.prefix, above + b"/" if above else b"", draft.prefix + b"fold_all/"]
    name = dice.choice([b"source.json", b"source.json", b"SOURCE.json"])
    draft.add(dice.choice(places) + name, dice.choice(RECORDS))


def _weights(draft: Draft, dice: random.Random) -> None:
    for member in draft.members:
        if member.name.endswith(b".pth"):
            member.data = dice.choice([b"", b"\0", b"cos\nsystem\n(S'id'\ntR.", dice.randbytes(99)])
            return


def _lose(draft: Draft, dice: random.Random) -> None:
    if len(draft.members) > 1 and not draft.members[-1].name.endswith(b"plans.json"):
        draft.members.pop()


def _around(draft: Draft, dice: random.Random) -> None:
    draft.before = dice.choice([b"", b"#!/bin/sh\n", dice.randbytes(300)])
    draft.after = dice.choice([b"", b"\0" * 70_000, b"<html>", dice.randbytes(30)])


CHANGES: tuple[Change, ...] = (
    _name, _name, _depth, _length, _many, _twice, _header, _header, _header, _kind, _extra, _extra,
    _end, _end64, _overlap, _bomb, _json, _json, _record, _record, _weights, _lose, _around,
)  # fmt: skip


def archive(seed: int) -> tuple[str, bytes]:
    """Return one archive and what was done to it."""
    dice = random.Random(seed)
    draft, done = good(dice.choice(list(LAYOUTS))), []
    for change in dice.choices(CHANGES, k=dice.choice([1, 1, 1, 2, 3])):
        if not any(member.name.endswith(b"plans.json") for member in draft.members):
            break
        change(draft, dice)
        done.append(change.__name__.lstrip("_"))
    data = bytearray(build(draft))
    if dice.random() < 0.15:
        for _ in range(dice.randrange(1, 8)):
            data[dice.randrange(len(data))] ^= dice.randrange(1, 256)
        done.append("flipped")
    if dice.random() < 0.05:
        del data[dice.randrange(len(data)) :]
        done.append("cut")
    return f"{seed}: {', '.join(done)}", bytes(data)


def archives(first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield archives of consecutive seeds, each with a name that says how to make it again."""
    return map(archive, range(first, first + count))
