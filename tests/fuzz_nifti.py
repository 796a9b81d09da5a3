"""Generated NIfTI files: sound ones, and ones with a fault in the header, the content or the gzip.

Print the names of the generated files, or write them into a folder:
``python tests/fuzz_nifti.py [FOLDER]``.
"""

from __future__ import annotations

import gzip
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8", "c8")
WHOLE = (0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 348, 352, 540, 1000, -32768, 32767, 2**31 - 1)
REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 1e3, 20.0, 348.0, 352.0, 353.5, 1e-30, 1e30, 3e38)
SPECIAL = (float("nan"), float("inf"), float("-inf"))


def cases(seed: int = 0, rounds: int = 1) -> Iterator[tuple[str, bytes]]:
    """Yield file names and contents.

    Parameters
    ----------
    seed : int
        The same files for the same seed.
    rounds : int
        How often each kind of fault is made.
    """
    chance = random.Random(seed)
    for number in range(rounds):
        for version in (1, 2):
            for name, content in _plain_faults(chance, version):
                yield f"{number}-v{version}-{name}.nii", content
                if chance.random() < 0.3:
                    yield f"{number}-v{version}-{name}.nii.gz", _gzip(chance, content)
        for name, content in _gzip_faults(chance):
            yield f"{number}-gzip-{name}.nii.gz", content


def sound(chance: random.Random, version: int = 1) -> bytes:
    """Return a sound file of a few voxels: any type, byte order, orientation and scale."""
    shape = tuple(chance.choice((2, 3, 5, 6)) for _ in range(3))
    shape += chance.choice(((), (), (), (1,), (1, 1)))
    kind, header_kind = (
        (nib.Nifti1Image, nib.Nifti1Header) if version == 1 else (nib.Nifti2Image, nib.Nifti2Header)
    )
    header = header_kind(endianness=chance.choice("<>"))
    dtype = np.dtype(chance.choice(DTYPES))
    header.set_data_dtype(dtype)
    numbers = np.random.default_rng(chance.getrandbits(32))
    values = numbers.integers(0, 9, shape).astype(dtype)
    affine = _affine(chance)
    image = kind(values, affine, header)
    image.set_sform(affine, chance.choice((0, 1, 2, 4)))
    image.set_qform(affine, chance.choice((0, 1, 2)))
    image.header.set_xyzt_units(chance.choice(("mm", "unknown")), "sec")
    if dtype.kind in "iu" and chance.random() < 0.3:
        image.header.set_slope_inter(chance.choice((1, 2, 0.5)), chance.choice((0, 3)))
    if chance.random() < 0.3:
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"a comment"))
    return image.to_bytes()


def _affine(chance: random.Random) -> np.ndarray:
    affine = np.eye(4)
    angle = chance.choice((0.0, 0.2, np.pi / 2, np.pi))
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    sizes = [chance.choice((0.5, 1.0, 0.8, 3.0)) for _ in range(3)]
    affine[:3, :3] = affine[:3, [0, 1, 2]] * sizes * chance.choice((1, -1))
    affine[:3, 3] = [chance.uniform(-90, 90) for _ in range(3)]
    return affine


def fields(version: int) -> list[tuple[str, str, int]]:
    """Return name, form and place of each number in a header; texts are bytes."""
    template = (nib.Nifti1Header if version == 1 else nib.Nifti2Header).template_dtype
    found = []
    for name in template.names:
        dtype, place = template.fields[name][:2]
        base, repeats = dtype.base, int(np.prod(dtype.shape, dtype=int))
        size = base.itemsize
        for index in range(repeats):
            form = f"{size}s" if base.kind == "S" else base.char
            found.append((f"{name}-{index}", form, place + index * size))
    return found


def _order(content: bytes) -> str:
    return "<" if content[:4] in (struct.pack("<i", 348), struct.pack("<i", 540)) else ">"


def _put(content: bytes, form: str, place: int, value: Any) -> bytes:
    changed = bytearray(content)
    # A number too large for the field wraps around.
    if form in "bBhHiIqQlL":
        size = np.dtype(form).itemsize
        order = "little" if _order(content) == "<" else "big"
        changed[place : place + size] = (int(value) % 256**size).to_bytes(size, order)
    elif form.endswith("s"):
        changed[place : place + int(form[:-1])] = value
    else:
        with np.errstate(over="ignore"):
            number = np.asarray(value).astype(np.dtype(form).newbyteorder(_order(content)))
        changed[place : place + number.nbytes] = number.tobytes()
    return bytes(changed)


def _wrong_value(chance: random.Random, form: str) -> Any:
    if form.endswith("s"):
        return chance.randbytes(int(form[:-1]))
    if form in "fdg":
        return chance.choice((*REAL, *SPECIAL, chance.uniform(-1e4, 1e4)))
    return chance.choice((*WHOLE, chance.getrandbits(64)))


def _plain_faults(chance: random.Random, version: int) -> Iterator[tuple[str, bytes]]:
    yield "sound", sound(chance, version)
    for name, form, place in fields(version):
        yield name, _put(sound(chance, version), form, place, _wrong_value(chance, form))
        if form in "fdg":
            special = chance.choice(SPECIAL)
            yield f"{name}-{special}", _put(sound(chance, version), form, place, special)
    for count in (2, 3, 5, 10):
        content = sound(chance, version)
        for _, form, place in chance.sample(fields(version), count):
            content = _put(content, form, place, _wrong_value(chance, form))
        yield f"{count}-fields", content
    for name, fault in _WHOLE_FILE.items():
        yield name, fault(chance, sound(chance, version))
    yield "huge", _huge(sound(chance, version), version)
    yield "unit", _in_another_unit(chance, version)


def _huge(content: bytes, version: int) -> bytes:
    for name, form, place in fields(version):
        if name in ("dim-1", "dim-2", "dim-3"):
            content = _put(content, form, place, 1000)
    return content


def _in_another_unit(chance: random.Random, version: int) -> bytes:
    content = sound(chance, version)
    for name, form, place in fields(version):
        if name == "xyzt_units-0":
            return _put(content, form, place, chance.choice((0, 1, 3, 5, 9, 255)))
    raise AssertionError("a header has a unit")


def _cut(chance: random.Random, content: bytes) -> bytes:
    return content[: chance.choice((0, 1, 347, 348, 351, 352, chance.randrange(len(content))))]


def _cut_end(chance: random.Random, content: bytes) -> bytes:
    return content[: -chance.randint(1, 9)]


def _grown(chance: random.Random, content: bytes) -> bytes:
    return content + chance.randbytes(chance.randint(1, 999))


def _flipped(chance: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _flipped_header(chance: random.Random, content: bytes) -> bytes:
    return _flipped(chance, content[:348]) + content[348:]


def _extended(chance: random.Random, content: bytes) -> bytes:
    end = 348 if content[:4] in (struct.pack("<i", 348), struct.pack(">i", 348)) else 540
    size = chance.choice((0, 7, 8, 16, -16, 10**6, 2**31 - 1))
    extension = b"\1\0\0\0" + struct.pack(_order(content) + "2i", size, 6) + chance.randbytes(20)
    return content[:end] + extension + content[end:]


def _noise(chance: random.Random, content: bytes) -> bytes:
    return content[:4] + chance.randbytes(len(content))


_WHOLE_FILE: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "cut": _cut,
    "cut-end": _cut_end,
    "grown": _grown,
    "flipped": _flipped,
    "flipped-header": _flipped_header,
    "extended": _extended,
    "noise": _noise,
}


def _gzip(chance: random.Random, content: bytes) -> bytes:
    return gzip.compress(content, chance.choice((0, 1, 6, 9)), mtime=0)


def _gzip_faults(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    for name, fault in _IN_GZIP.items():
        content = sound(chance, chance.choice((1, 2)))
        yield name, fault(chance, _gzip(chance, content), content)


def _members(chance: random.Random, _: bytes, content: bytes) -> bytes:
    places = sorted(chance.sample(range(len(content)), 3))
    parts = [content[a:b] for a, b in zip([0, *places], [*places, None], strict=True)]
    return b"".join(_gzip(chance, part) for part in (*parts, b""))


def _with_header(flags: int, fields_: bytes) -> Callable[[random.Random, bytes, bytes], bytes]:
    def change(_chance: random.Random, packed: bytes, _content: bytes) -> bytes:
        return packed[:3] + bytes([flags]) + packed[4:10] + fields_ + packed[10:]

    return change


def _late(chance: random.Random, packed: bytes, content: bytes) -> bytes:
    """Return other voxels under the old checksum."""
    rotten = content[:-1] + bytes([content[-1] ^ 1])
    return _gzip(chance, rotten)[:-8] + packed[-8:]


_IN_GZIP: dict[str, Callable[[random.Random, bytes, bytes], bytes]] = {
    "sound": lambda chance, packed, content: packed,
    "members": _members,
    "members-cut": lambda chance, packed, content: _members(chance, packed, content)[:-3],
    "member-damaged": lambda chance, packed, content: (
        _members(chance, packed, content)[:-8] + b"12345678"
    ),
    "zeros": lambda chance, packed, content: packed + bytes(chance.randint(1, 40000)),
    "garbage": lambda chance, packed, content: packed + chance.randbytes(chance.randint(1, 99)),
    "zeros-garbage": lambda chance, packed, content: packed + bytes(9) + b"x",
    "magic": lambda chance, packed, content: packed + b"\x1f\x8b",
    "checksum": lambda chance, packed, content: packed[:-8] + b"abcd" + packed[-4:],
    "length": lambda chance, packed, content: packed[:-4] + b"abcd",
    "late": _late,
    "cut": lambda chance, packed, content: packed[: chance.randrange(len(packed))],
    "cut-end": lambda chance, packed, content: packed[: -chance.randint(1, 12)],
    "flipped": lambda chance, packed, content: _flipped(chance, packed),
    "plain": lambda chance, packed, content: content,
    "named": _with_header(8, b"a name\0"),
    "header-checksum": _with_header(2, b"\0\0"),
    "reserved": _with_header(0xE0, b""),
    "bomb": lambda chance, packed, content: gzip.compress(content + bytes(20_000_000), 9),
    "bomb-huge": lambda chance, packed, content: gzip.compress(
        _huge(content, 1 if content[0] == 92 or content[3] == 92 else 2) + bytes(20_000_000), 9
    ),
    "twice": lambda chance, packed, content: gzip.compress(packed),
    "no-gzip": lambda chance, packed, content: zlib.compress(content),
}


def main(folder: str | None = None) -> None:
    """Print the names of the files, or write them."""
    for name, content in cases():
        if folder is None:
            print(name, len(content))
        else:
            Path(folder, name).write_bytes(content)


if __name__ == "__main__":
    main(*sys.argv[1:])
