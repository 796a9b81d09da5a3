"""Checkpoints are read exactly, and none can run code."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import saved
import small_model
from saved import EMPTY_ORDERED, call, dtype, from_steps, integer, name, scalar, storage, text
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference import pickled, torch_zip
from sct_rootlets_task.inference.checkpoint import Checkpoint

torch = pytest.importorskip("torch")


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]
)
def test_tensors_of_every_stored_type_are_read_exactly(tmp_path: Path, dtype: str) -> None:
    tensor = (torch.arange(24).reshape(2, 3, 4) * 1.25).to(getattr(torch, dtype))
    read = Checkpoint(_save(tmp_path / "a.pth", {"x": tensor})).read()["x"]
    exact = tensor.float() if dtype == "bfloat16" else tensor
    assert np.array_equal(read, exact.numpy())
    assert read.dtype == exact.numpy().dtype


def test_views_keep_their_offset_and_strides(tmp_path: Path) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    views = {"t": base.permute(2, 0, 1), "part": base[1:, ::2], "scalar": base[2, 3, 4]}
    read = Checkpoint(_save(tmp_path / "a.pth", views)).read()
    for part, view in views.items():
        assert np.array_equal(read[part], view.numpy()), part


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_checkpoint_as_nnunet_saves_it_is_read_whole(tmp_path: Path, protocol: int) -> None:
    content = {
        "network_weights": OrderedDict(a=torch.nn.Parameter(torch.ones(2, 3))),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": []},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": np.float64(0.75),
        "init_args": {"device": torch.device("cuda", 0), "fold": "all", "plans": {"a": [1, 2]}},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "shape": torch.Size([1, 2]),
        "nothing": None,
        "numbers": [np.int64(-3), np.bool_(True), np.float16(0.5), 2**40, -1, 70_000, 1e300, ""],
        "names": {"a", "b"},
    }
    torch.save(content, tmp_path / "a.pth", pickle_protocol=protocol)
    read = Checkpoint(tmp_path / "a.pth").read()
    assert read["network_weights"]["a"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert read["logging"]["mean_fg_dice"] == [0.5, 0.25]
    assert read["_best_ema"] == 0.75
    assert read["init_args"]["fold"] == "all"
    assert read["shape"] == (1, 2)
    assert read["init_args"]["device"] == "cuda:0"
    assert read["numbers"] == content["numbers"]
    assert read["names"] == {"a", "b"}
    assert list(read) == list(content)
    assert type(read["network_weights"]) is dict
    assert {type(number) for number in read["numbers"]} == {int, bool, float, str}


class _Command:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


class _Evaluated(_Command):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.marker)!r}, 'w')",)


@pytest.mark.parametrize("kind", [_Command, _Evaluated])
def test_a_checkpoint_that_names_code_is_refused_before_it_runs(
    tmp_path: Path, kind: type[_Command]
) -> None:
    marker = tmp_path / "ran"
    path = _save(tmp_path / "evil.pth", {"network_weights": kind(marker)})
    with pytest.raises(ModelError, match="could run code"):
        Checkpoint(path).read()
    assert not marker.exists()


def test_a_tensor_that_reaches_beyond_its_data_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pth", {"x": torch.arange(4.0)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:4] if name.endswith("data/0") else content)
    with pytest.raises(ModelError, match="beyond its data"):
        Checkpoint(tmp_path / "b.pth").read()


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", pickle.dumps({"a": 1})], ids=["empty", "text", "plain pickle"]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        Checkpoint(tmp_path / "a.pth").read()


def test_a_zip_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="other content"):
        Checkpoint(tmp_path / "a.pth").read()


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pth", {"x": torch.arange(4000.0)})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be read"):
        Checkpoint(path).read()


def test_only_a_dictionary_is_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dictionary"):
        Checkpoint(_save(tmp_path / "a.pth", [1, 2])).read()


def _refused(tmp_path: Path, content: bytes, words: str = "cannot be read") -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as raised:
        Checkpoint(path).read()
    assert len(str(raised.value)) < 700


def _tensor(
    count: bytes = integer(8),
    offset: bytes = integer(0),
    shape: bytes = saved.tuple_of(2, 4),
    strides: bytes = saved.tuple_of(4, 1),
    rest: bytes = b"",
) -> bytes:
    """Return a checkpoint with one tensor of 8 numbers, as changed."""
    steps = saved.tensor(storage("FloatStorage", "0", count), offset, shape, strides, rest)
    return from_steps(steps, {"0": np.arange(8, dtype="<f4").tobytes()})


def test_the_tensor_that_the_next_tests_change_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(_tensor())
    assert Checkpoint(tmp_path / "a.pth").read()["x"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


FOREIGN_NUMBERS: dict[str, bytes] = {
    "true": b"\x88",
    "real": b"G" + struct.pack(">d", 8.0),
    "NaN": b"G" + struct.pack(">d", float("nan")),
    "infinite": b"G" + struct.pack(">d", float("inf")),
    "none": b"N",
    "text": text("8"),
    "a tensor": saved.tensor(
        storage("LongStorage", "0", integer(4)), integer(0), saved.tuple_of(), saved.tuple_of()
    ),
    "negative": integer(-8),
    "2**63": integer(2**63),
    "2**64 + 8": integer(2**64 + 8),
    "2**100": integer(2**100),
}


@pytest.mark.parametrize("number", FOREIGN_NUMBERS.values(), ids=FOREIGN_NUMBERS)
@pytest.mark.parametrize("place", ["count", "offset", "shape", "strides"])
def test_sizes_are_whole_numbers_inside_the_data(tmp_path: Path, place: str, number: bytes) -> None:
    pair = b"(" + integer(2) + number + b"t"
    _refused(tmp_path, _tensor(**{place: pair if place in ("shape", "strides") else number}))


@pytest.mark.parametrize(
    "change",
    [
        {"count": integer(7)},
        {"count": integer(9)},
        {"count": integer(2**62)},
        {"offset": integer(1)},
        {"shape": saved.tuple_of(2, 5)},
        {"shape": saved.tuple_of(2**31, 2**31), "strides": saved.tuple_of(2**33, 2**33)},
        {"shape": saved.tuple_of(2**61, 8), "strides": saved.tuple_of(0, 1)},
        {"shape": saved.tuple_of(2, 5), "strides": saved.tuple_of(1, 1)},
        {"strides": saved.tuple_of(4, 2)},
        {"strides": saved.tuple_of(1)},
        {"shape": saved.tuple_of(*[1] * 40), "strides": saved.tuple_of(*[1] * 40)},
        {"shape": b"](K\x02K\x04e"},
        {"rest": b"}" + text("neg") + b"\x88s"},
        {"rest": EMPTY_ORDERED + EMPTY_ORDERED},
    ],
)
def test_a_tensor_that_is_not_plain_data_inside_its_own_is_refused(
    tmp_path: Path, change: dict[str, bytes]
) -> None:
    _refused(tmp_path, _tensor(**change))


def test_sizes_that_are_numpy_numbers_in_the_file_wrap_around_nowhere(tmp_path: Path) -> None:
    """They become Python's own numbers, to which all bounds apply."""
    for far in (2**62, -(2**62), 2**63 - 1):
        huge = scalar(np.int64(far))
        _refused(tmp_path, _tensor(offset=huge))
        _refused(tmp_path, _tensor(strides=b"(" + huge + integer(1) + b"t"))


_FIELDS = b"(" + text("a") + b"t}" + text("a") + b"(" + dtype("f8") + integer(0) + b"ts"
STATES = {
    "fields": b"(K\x03" + text("|") + b"N" + _FIELDS + integer(8) + integer(1) + integer(0) + b"t",
    "shape": b"(K\x03" + text("|") + b"((" + b"tt" + b"NN" + integer(8) * 2 + integer(0) + b"t",
    "flags": b"(K\x03" + text("|") + b"NNN" + integer(8) + integer(1) + integer(63) + b"t",
    "size": b"(K\x03" + text("<") + b"NNN" + integer(16) + integer(-1) + integer(0) + b"t",
    "version": b"(K\x04" + text("<") + b"NNN" + integer(-1) * 2 + integer(0) + b"}t",
    "order": b"(K\x03" + text("!") + b"NNN" + integer(-1) * 2 + integer(0) + b"t",
    "bool": b"(K\x03" + text("<") + b"NNN" + integer(-1) * 2 + b"\x89t",
    "dict": b"}",
    "none": b"N",
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_numpy_types_take_no_state_but_their_byte_order(tmp_path: Path, state: bytes) -> None:
    raw = call("_codecs", "encode", text("\0" * 8), text("latin1"))
    made = call("numpy.core.multiarray", "scalar", dtype("f8", state), raw)
    _refused(tmp_path, from_steps(made))


@pytest.mark.parametrize("kind", ["O", "O8", "V8", "S8", "U8", "M8", "c16", "g", "(9,)f8", "f8,i4"])
def test_only_plain_numbers_of_numpy_are_read(tmp_path: Path, kind: str) -> None:
    raw = call("_codecs", "encode", text("\0" * 8), text("latin1"))
    _refused(tmp_path, from_steps(call("numpy.core.multiarray", "scalar", dtype(kind), raw)))


def _deep(opening: bytes, closing: bytes, depth: int = 300) -> bytes:
    return opening * depth + b"N" + closing * depth


CONSTRUCTS: dict[str, bytes] = {
    "another codec": call("_codecs", "encode", text("x"), text("rot13")),
    "a codec as bytes": call("_codecs", "encode", text("x"), b"B\6\0\0\0latin1"),
    "a tuple as a key": b"}" + b"N" + b"\x85" * 300 + b"Ns",
    "none as a key": b"}NNs",
    "a number that is no key": b"}G" + bytes(8) + b"Ns",
    "a key twice": b"}(" + (text("a") + b"N") * 2 + b"u",
    "deep tuples": b"N" + b"\x85" * 300,
    "deep lists": _deep(b"](", b"e"),
    "deep dictionaries": b"}" * 300 + (text("a") + b"N" + b"s") + b"",
    "a list in itself": b"]q\x00h\x00a",
    "a list in its own tuple": b"]q\x00h\x00\x85a",
    "two lists in each other": b"]q\x00]q\x01h\x00aa" + b"0",
    "a long number": b"\x8b" + struct.pack("<i", 1000) + bytes(1000),
    "a number of many digits": b"\x8a\xff" + b"\x7f" * 255,
    "a text without end": b"X\xff\xff\xff\x7fabc",
    "a text that is none": b"X\1\0\0\0\xff",
    "a place that is not there": b"h\x07",
    "a place far away": b"Nr\xff\xff\xff\x7f",
    "a class as a value": name("collections", "OrderedDict"),
    "a storage as a value": storage("FloatStorage", "0", integer(8)),
    "a type as a value": dtype("f8"),
    "a call of a value": text("x") + b")R",
    "a call with a list": name("collections", "OrderedDict") + b"]R",
    "a call of a storage": name("torch", "FloatStorage") + b")R",
    "an ordered dict of pairs": call("collections", "OrderedDict", b"](](K\x01K\x02ee"),
    "a state of a list": b"]}b",
    "a state of a tensor": b"",
    "another object in place of data": b"(" + text("storage") * 5 + b"tQ",
    "data under another name": storage("FloatStorage", "../data.pkl", integer(8)),
    "an instance": b"(cos\nsystem\no",
    "an old instance": b"(ios\nsystem\n",
    "a new object": name("collections", "OrderedDict") + b")\x81",
    "an extension": b"\x82\1",
    "no value": b"(",
    "a name in pieces": text("os") + text("system") + b"\x93",
    "a name with a dot": name("collections", "OrderedDict.fromkeys"),
    "a module with a dot": name("torch._utils.os", "system"),
    "numpy's array": call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray")),
}
CONSTRUCTS["a state of a tensor"] = (
    saved.tensor(
        storage("FloatStorage", "0", integer(8)), integer(0), saved.tuple_of(8), saved.tuple_of(1)
    )
    + b"}b"
)


@pytest.mark.parametrize("steps", CONSTRUCTS.values(), ids=CONSTRUCTS)
def test_a_pickle_that_holds_more_than_data_is_refused(tmp_path: Path, steps: bytes) -> None:
    _refused(tmp_path, from_steps(steps, {"0": bytes(32)}))


def test_a_name_is_never_imported(tmp_path: Path) -> None:
    _refused(tmp_path, from_steps(name("this", "s")), "could run code")
    assert "this" not in sys.modules


def test_data_that_is_shared_is_not_multiplied(tmp_path: Path) -> None:
    """A list of lists of lists, each ten times the one before, is small in the file."""
    steps = b"](" + b"K\1" * 10 + b"eq\0"
    for place in range(20):
        steps += b"](" + b"h" + bytes([place]) + (b"h" + bytes([place])) * 9
        steps += b"eq" + bytes([place + 1])
    (tmp_path / "a.pth").write_bytes(from_steps(b"".join([b"(", steps, b"t"])))
    value = Checkpoint(tmp_path / "a.pth").read()["x"][-1]
    for _ in range(20):
        assert len(value) in (10, 11)
        value = value[0]


@pytest.mark.parametrize(
    "steps",
    [b"]" * 3_000_000, b"(" + b"}" * 700_000 + b"t", b"N" + b"\x94" * 5_000_000, b"N" * 2**24],
    ids=["lists", "dictionaries", "places", "nothing"],
)
def test_a_description_without_end_is_refused(tmp_path: Path, steps: bytes) -> None:
    _refused(tmp_path, from_steps(steps), "far too|nested|damaged")


@pytest.mark.parametrize(("order", "sign"), [(b"little", "<"), (b"big", ">")])
def test_both_byte_orders_are_read(tmp_path: Path, order: bytes, sign: str) -> None:
    files = saved.members({"x": np.arange(4, dtype=np.float32), "n": np.float64(0.5)})
    files["archive/data/0"] = np.arange(4, dtype=f"{sign}f4").tobytes()
    path = tmp_path / "a.pth"
    path.write_bytes(saved.packed(files | {"archive/byteorder": order}))
    read = Checkpoint(path).read()
    assert read["x"].tolist() == [0, 1, 2, 3]
    assert read["x"].dtype == np.dtype(np.float32)
    assert read["n"] == 0.5


def test_another_byte_order_is_refused(tmp_path: Path) -> None:
    files = saved.members({"x": 1}) | {"archive/byteorder": b"middle"}
    _refused(tmp_path, saved.packed(files), "byte order")


def test_tensors_that_nobody_wants_are_not_read(tmp_path: Path) -> None:
    one, other = np.zeros(4, np.float32), np.ones(4, np.float32)
    files = saved.members({"a": one, "b": other})
    content = saved.packed(files).replace(other.tobytes(), bytes(16))
    (tmp_path / "a.pth").write_bytes(content)
    assert list(Checkpoint(tmp_path / "a.pth").read(("a", "z"))) == ["a"]
    _refused(tmp_path, content, "damaged")


def test_zip_files_with_large_sizes_in_extra_fields_are_read(tmp_path: Path) -> None:
    """torch.save writes them so; Python's own zip files are read as well."""
    torch.save({"x": torch.arange(4.0)}, tmp_path / "a.pth")
    assert b"PK\6\6" in (tmp_path / "a.pth").read_bytes()
    assert Checkpoint(tmp_path / "a.pth").read()["x"].tolist() == [0, 1, 2, 3]
    saved.save({"x": np.arange(4.0)}, tmp_path / "b.pth")
    assert Checkpoint(tmp_path / "b.pth").read()["x"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("where", ["archive/data/0", "archive/data.pkl"])
def test_compressed_members_are_refused_unread(tmp_path: Path, where: str, method: int) -> None:
    files = saved.members({"x": np.zeros(2**20, np.float32)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in files.items():
            archive.writestr(member, content, method if member == where else zipfile.ZIP_STORED)
    _refused(tmp_path, buffer.getvalue(), "compressed")


def _entry_changed(at: int, value: bytes) -> bytes:
    """Return a checkpoint with a field of the last member's entry changed."""
    content = bytearray(saved.packed(saved.members({"x": np.zeros(4, np.float32)})))
    start = content.rfind(b"PK\1\2") + at
    content[start : start + len(value)] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (8, b"\1\0"),  # encrypted
        (8, b"\x40\0"),  # strongly encrypted
        (16, b"\1\2\3\4"),  # checksum
        (20, b"\xf0\xff\xff\x7f"),  # stored bytes
        (24, b"\xf0\xff\xff\x7f"),  # plain bytes
        (20, b"\xf0\xff\xff\x7f" * 2),
        (20, b"\xff\xff\xff\xff" * 2),  # larger ones in a field that is not there
        (28, b"\xff\xff"),  # length of the name
        (30, b"\xff\xff"),  # length of the extra field
        (42, b"\0\0\0\x7f"),  # place of the member
        (42, b"\5\0\0\0"),
        (46, b"\xff\xfe"),  # name
    ],
)
def test_a_member_that_is_not_as_its_entry_says_is_refused(
    tmp_path: Path, at: int, value: bytes
) -> None:
    _refused(tmp_path, _entry_changed(at, value))


def test_members_of_one_name_are_refused(tmp_path: Path) -> None:
    files = saved.members({"x": np.zeros(4, np.float32)})
    content = saved.packed(files | {"archive/data/1": bytes(16)})
    _refused(tmp_path, content.replace(b"data/1", b"data/0"), "twice")


def test_members_that_lie_on_each_other_are_refused(tmp_path: Path) -> None:
    """A hundred entries of one large member would be read a hundred times."""
    raw, names = bytes(2**20), [f"archive/data/{number:03}".encode() for number in range(100)]
    local = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 10, 0, 0, 0, 0, zlib.crc32(raw), *[2**20] * 2, 16, 0
    )
    head = local + names[0] + raw
    entries = b"".join(
        struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 10, 10, 0, 0, 0, 0, zlib.crc32(raw), 2**20, 2**20, 16, 0, 0,
            0, 0, 0, 0,
        ) + name
        for name in names
    )  # fmt: skip
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 100, 100, len(entries), len(head), 0)
    _refused(tmp_path, head + entries + end, "larger than the file")


def test_a_directory_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_zip, "MOST_MEMBERS", 50)
    files = {f"archive/{number}": b"" for number in range(60)}
    _refused(tmp_path, saved.packed(saved.members({"x": 1}) | files), "far too large")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_checkpoint_cut_anywhere_is_refused(tmp_path: Path, kept: float) -> None:
    content = saved.packed(saved.members(small_model.checkpoint()))
    _refused(tmp_path, content[: int(kept * len(content))])


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(ModelError, match="found no file"):
            Checkpoint(path).read()


@pytest.mark.parametrize("script", ["fuzz_checkpoints.py", "fuzz_plans.py"])
def test_damaged_models_load_or_end_in_a_sentence(script: str) -> None:
    """In a process of their own, since they could crash the interpreter."""
    times, seed = (os.environ.get(f"SCT_ROOTLETS_{name}", "1") for name in ("FUZZ", "TEST_SEED"))
    command = [sys.executable, str(Path(__file__).with_name(script)), "--seed", seed]
    command += ["--count", str(500 * int(times))]
    limit = 300 * int(times)
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-500:]}"


MERSENNE = 2**61 - 1


def _with_keys(keys: list[bytes], kind: str) -> bytes:
    """Give the steps for keys of a dictionary, one by one or at once, or members of a set."""
    if kind == "one by one":
        return b"}" + b"".join(key + b"Ns" for key in keys)
    if kind == "dictionary":
        return b"}(" + b"".join(key + b"N" for key in keys) + b"u"
    if kind == "set":
        return b"\x8f(" + b"".join(keys) + b"\x90"
    return name("builtins", "set") + b"](" + b"".join(keys) + b"e\x85R"


KINDS = ("dictionary", "one by one", "set", "set of a list")
REAL = b"G" + struct.pack(">d", 1.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "key",
    [*map(integer, (MERSENNE, -MERSENNE, 2 * MERSENNE, 2**31, -(2**31) - 1, 2**64, 2**126)), REAL],
)
def test_keys_whose_hashes_can_be_made_to_collide_are_refused(
    kind: str, key: bytes, tmp_path: Path
) -> None:
    _refused(tmp_path, from_steps(_with_keys([key], kind)), "key|wrong kind")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keys", [(0, 1, -1, -2, 1000, 2**31 - 1, -(2**31)), ("a", "", "é")])
def test_keys_as_nnunet_writes_them_are_read(
    kind: str, keys: tuple[int | str, ...], tmp_path: Path
) -> None:
    made = [integer(key) if isinstance(key, int) else text(key) for key in keys]
    (tmp_path / "a.pth").write_bytes(from_steps(_with_keys(made, kind)))
    assert set(Checkpoint(tmp_path / "a.pth").read()["x"]) == set(keys)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", [integer, lambda number: text(str(number))])
def test_the_keys_of_one_container_have_a_bound(
    kind: str, key: Callable[[int], bytes], tmp_path: Path
) -> None:
    keys = [key(1000 + number) for number in range(pickled.MOST_KEYS + 1)]
    _refused(tmp_path, from_steps(_with_keys(keys, kind)), "too many keys|wrong kind")


def test_the_keys_of_all_containers_together_have_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickled, "MOST_KEYS_IN_ALL", 100)
    some = _with_keys([integer(number) for number in range(60)], "dictionary")
    (tmp_path / "a.pth").write_bytes(from_steps(b"](" + some + b"e"))
    Checkpoint(tmp_path / "a.pth").read()
    _refused(tmp_path, from_steps(b"](" + some * 2 + b"e"), "too many keys")


LONG = {
    "text to encode": (("_codecs", "encode"), text("x" * 70_000) + text("latin1") + b"\x86"),
    "device": (("torch", "device"), text("x" * 101) + integer(1) + b"\x86"),
    "device alone": (("torch", "device"), text("x" * 101) + b"\x85"),
    "size": (("torch", "Size"), b"(" + integer(1) * 9 + b"t\x85"),
}


@pytest.mark.parametrize(("maker", "arguments"), LONG.values(), ids=LONG)
def test_calls_with_arguments_of_absurd_length_are_refused(
    maker: tuple[str, str], arguments: bytes, tmp_path: Path
) -> None:
    _refused(tmp_path, from_steps(name(*maker) + arguments + b"R"), "wrong kind")


REPEATED = {
    "encode": (("_codecs", "encode"), text("x" * 60_000), text("latin1") + b"\x86"),
    "device": (("torch", "device"), text("x" * 90), integer(1) + b"\x86"),
    "set": (("builtins", "set"), b"](" + integer(1) * 19_000 + b"e", b"\x85"),
    "size": (("torch", "Size"), b"(" + integer(1) * 8 + b"t", b"\x85"),
}


@pytest.mark.parametrize(("maker", "first", "rest"), REPEATED.values(), ids=REPEATED)
def test_what_repeated_calls_copy_of_one_object_has_a_bound(
    maker: tuple[str, str],
    first: bytes,
    rest: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pickled, "MOST_MADE", 200_000)
    once = name(*maker) + b"q\x00" + first + b"q\x01" + rest + b"R"
    again = b"h\x00h\x01" + rest + b"R"
    (tmp_path / "a.pth").write_bytes(from_steps(b"](" + once + again + b"e"))
    assert len(Checkpoint(tmp_path / "a.pth").read()["x"]) == 2
    _refused(tmp_path, from_steps(b"](" + once + again * 30_000 + b"e"), "too many objects")


def test_a_tensor_named_often_is_one_array(tmp_path: Path) -> None:
    one = saved.tensor(
        storage("FloatStorage", "0", integer(1)),
        integer(0),
        saved.tuple_of(1),
        saved.tuple_of(1),
    )
    steps = b"](" + one + b"q\x00" + b"h\x00" * 1000 + b"e"
    (tmp_path / "a.pth").write_bytes(from_steps(steps, {"0": bytes(4)}))
    read = Checkpoint(tmp_path / "a.pth").read()["x"]
    assert len({id(array) for array in read}) == 1


def test_too_little_memory_is_given_as_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    path = saved.save({"x": 1}, tmp_path / "a.pth")
    monkeypatch.setattr(pickled.PickleReader, "load", fail)
    with pytest.raises(ModelError, match="cannot be read: it is too large for the memory"):
        Checkpoint(path).read()
