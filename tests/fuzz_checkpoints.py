"""Make damaged and hostile checkpoints from a seed, and see that each ends in a sentence.

The tests run a few hundred. For more::

    python tests/fuzz_checkpoints.py --count 20000 --seed 7
"""

from __future__ import annotations

import argparse
import contextlib
import pickletools
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import saved
import small_model
from fuzzing import run
from saved import EMPTY_ORDERED, call, dtype, integer, name, storage, tensor, text, tuple_of

NUMBERS = (
    0,
    1,
    2,
    -1,
    3,
    255,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32 + 1,
    2**62,
    2**63,
    -(2**63),
    2**100,
)
GLOBALS = (
    *(("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "getattr")),
    *(("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct"), ("numpy", "frombuffer")),
    *(("torch.hub", "load"), ("torch", "load"), ("torch._utils", "_rebuild_sparse_tensor")),
    *(("collections", "defaultdict"), ("copyreg", "_reconstructor"), ("torch", "UntypedStorage")),
    *(("numpy", "dtype"), ("_codecs", "encode"), ("torch", "Size"), ("torch", "device")),
    *(("collections", "OrderedDict"), ("builtins", "set"), ("torch", "LongStorage")),
)
_NUMPY_INTEGER = call(
    "numpy.core.multiarray", "scalar", dtype("i8"),
    call("_codecs", "encode", text("\0" * 7 + "\x10"), text("latin1")),
)  # fmt: skip
VALUES: tuple[bytes, ...] = (
    *(integer(number) for number in NUMBERS if abs(number) < 2**100),
    *(b"G" + struct.pack(">d", number) for number in (0.5, -1.0, float("nan"), float("inf"))),
    *(b"N", b"\x88", b"\x89", text(""), text("x" * 300), text("\u202e\x1b[2J"), b"]", b"}", b")"),
    *(b"\x85" * 3, b")" + b"\x85" * 300, b"]" + b"\x85" * 70, EMPTY_ORDERED, _NUMPY_INTEGER),
    *(dtype("f8"), dtype("O"), dtype("V8"), dtype("(1000000,)f8")),
    dtype("V8", b"(K\x03" + text("|") + b"N(" + text("a") + b"t}K\x08K\x01" + integer(63) + b"t"),
    *(name(*pair) for pair in GLOBALS),
    *(call(*pair) for pair in GLOBALS),
    *(call(*pair, text("x"), text("rot13")) for pair in GLOBALS),
    *(call(*pair, b"](K\x01K\x02e") for pair in GLOBALS),
    storage("FloatStorage", "0", integer(2**40)),
    storage("DoubleStorage", "0", integer(1)),
    tensor(storage("FloatStorage", "0", integer(8)), integer(-1), tuple_of(2), tuple_of(1)),
    tensor(storage("FloatStorage", "0", integer(8)), integer(0), tuple_of(2**40), tuple_of(0)),
    b"\x8b" + struct.pack("<i", 2**30), b"\x8a\xff", b"X" + b"\xff" * 4, b"\x8d" + b"\xff" * 8,
    b"h\xff", b"j\xff\xff\xff\x7f", b"q\x00", b"r\xff\xff\xff\xff", b"\x94", b"0", b"2", b"1", b"(",
    b"t", b"e", b"u", b"a", b"s", b"R", b"b", b"Q", b".", b"\x81", b"\x92", b"\x97", b"i", b"o",
)  # fmt: skip


def genuine() -> dict[str, bytes]:
    """Return the files of a small checkpoint with all that nnU-Net saves."""
    return saved.members(small_model.checkpoint())


def steps_of(pickled: bytes) -> list[bytes]:
    """Split a pickle into its steps."""
    places = [place for _, _, place in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(places, [*places[1:], len(pickled)], strict=True)]


def _pickle_case(rng: random.Random, files: dict[str, bytes], steps: list[bytes]) -> bytes:
    """Change a few steps of the pickle."""
    changed = list(steps)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(1, len(changed))
        kind = rng.randrange(6)
        if kind == 0:
            del changed[at]
        elif kind == 1:
            changed.insert(at, rng.choice(VALUES))
        elif kind == 2:
            changed[at] = rng.choice(VALUES)
        elif kind == 3:
            changed.insert(at, rng.choice(steps))
        elif kind == 4:
            other = rng.randrange(1, len(changed))
            changed[at], changed[other] = changed[other], changed[at]
        else:
            changed[at:at] = [rng.choice(VALUES)] * rng.choice((2, 100, 20_000))
    return saved.packed(files | {"archive/data.pkl": b"".join(changed)})


def _alike_case(rng: random.Random, files: dict[str, bytes], steps: list[bytes]) -> bytes:
    """Put another value in the place of one of its kind, so that more of the pickle is run."""
    changed = list(steps)
    numbers = [at for at, step in enumerate(steps) if step[:1] in b"KJM\x8a"]
    names = [at for at, step in enumerate(steps) if step[:1] == b"c"]
    for at in rng.sample(numbers, rng.randrange(1, 4)):
        changed[at] = rng.choice((integer(rng.choice(NUMBERS[:13])), rng.choice(VALUES)))
    if rng.random() < 0.3:
        changed[rng.choice(names)] = name(*rng.choice(GLOBALS))
    return saved.packed(files | {"archive/data.pkl": b"".join(changed)})


def _bytes_case(rng: random.Random, files: dict[str, bytes], steps: list[bytes]) -> bytes:
    """Change bytes of the pickle, the checksum being right."""
    changed = bytearray(files["archive/data.pkl"])
    for _ in range(rng.choice((1, 2, 10))):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return saved.packed(files | {"archive/data.pkl": bytes(changed)})


def _zip_case(rng: random.Random, files: dict[str, bytes], steps: list[bytes]) -> bytes:
    """Change bytes of the zip file, its directory above all, or cut it."""
    content = bytearray(saved.packed(files))
    if rng.random() < 0.2:
        return bytes(content[: rng.randrange(len(content))])
    start = content.find(b"PK\1\2") if rng.random() < 0.8 else 0
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(start, len(content))
        word = struct.pack("<Q", rng.choice((0, 1, 2**16 - 1, 2**32 - 1, 2**64 - 1, 2**40)))
        size = rng.choice((1, 2, 4, 8))
        content[at : at + size] = word[:size]
    return bytes(content)


def _member_case(rng: random.Random, files: dict[str, bytes], steps: list[bytes]) -> bytes:
    """Take members away, add, rename, or cut them, or write them in other ways."""
    buffer = BytesIO()
    chosen = rng.choice(list(files))
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in files.items():
            info = zipfile.ZipInfo(member)
            kind = rng.randrange(8) if member == chosen else -1
            if kind == 0:
                continue
            if kind == 1:
                content = content[: rng.randrange(len(content) + 1)]
            if kind == 2:
                content = content + bytes(rng.randrange(100))
            if kind == 3:
                info.filename = rng.choice(("x/data.pkl", "data.pkl", "\u202e", "a" * 60_000))
            if kind == 4:
                info.compress_type = rng.choice((8, 12, 14))
                content = content + bytes(2**20)
            if kind == 5:
                info.extra = struct.pack("<2H", 1, rng.choice((0, 8, 24))) + bytes(24)
            archive.writestr(info, content)
            if kind == 6:
                archive.comment = b"comment"
            if kind == 7:
                archive.writestr(zipfile.ZipInfo(f"{member}/"), b"")
    return buffer.getvalue()


_WAYS: tuple[Callable[[random.Random, dict[str, bytes], list[bytes]], bytes], ...]
_WAYS = (_pickle_case, _alike_case, _alike_case, _bytes_case, _zip_case, _member_case)


def cases(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Give names and bytes of damaged checkpoints, the same for the same seed."""
    files = genuine()
    steps = steps_of(files["archive/data.pkl"])
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        way = rng.choice(_WAYS)
        yield f"{way.__name__.strip('_')} {number}", way(rng, files, steps)


def load(content: bytes, folder: Path) -> None:
    """Load a checkpoint alone and as the first fold of a model."""
    from sct_rootlets_task.errors import ModelError
    from sct_rootlets_task.inference.checkpoint import Checkpoint
    from sct_rootlets_task.inference.model_folder import read_model_folder
    from sct_rootlets_task.inference.openvino_engine import read_weights

    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(content)
    try:
        Checkpoint(path).read()
    finally:
        with contextlib.suppress(ModelError):
            read_weights(read_model_folder(folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = small_model.write(Path(parent))
        load(saved.packed(genuine()), folder)
        made = cases(arguments.seed, arguments.count)
        return run(made, lambda content: load(content, folder))


if __name__ == "__main__":
    raise SystemExit(main())
