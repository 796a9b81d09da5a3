"""Compiled networks in the user's cache: recalled when whole, made anew when anything is wrong."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sct_rootlets_task.inference import openvino_cache, openvino_engine
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.openvino_cache import path_of
from sct_rootlets_task.inference.openvino_engine import OpenVINOEngine, Weights, read_weights
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.openvino_winograd import Volume
from sct_rootlets_task.io import untrusted
from sct_rootlets_task.tasks import BUNDLED


@pytest.fixture
def folder() -> ModelFolder:
    return read_model_folder(next((BUNDLED / "locator").glob("nnUNetTrainer*")))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache folder into which small networks go too."""
    monkeypatch.setattr(openvino_cache, "WORTHWHILE_S", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows whenever a graph is built."""
    built: list[str] = []
    build = openvino_engine.build_graph

    def recorded(*arguments: object, **options: object) -> object:
        built.append("built")
        return build(*arguments, **options)

    monkeypatch.setattr(openvino_engine, "build_graph", recorded)
    return built


def tile_of(folder: ModelFolder) -> np.ndarray:
    shape = folder.configuration["patch_size"]
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def logits(folder: ModelFolder, cache: Path | None, **options: object) -> np.ndarray:
    engine = OpenVINOEngine(folder, read_weights(folder)[0], cache=cache, threads=1, **options)
    return engine.predict(tile_of(folder)).copy()


def test_the_second_engine_takes_what_the_first_one_compiled(
    folder: ModelFolder, cache: Path, builds: list[str]
) -> None:
    first = logits(folder, cache)
    kept = list(cache.iterdir())
    assert [path.suffix for path in kept] == [".compiled"]
    second = logits(folder, cache)
    assert builds == ["built"]
    assert list(cache.iterdir()) == kept
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("damage", ["cut", "empty", "a bit", "checksum", "not OpenVINO's"])
def test_a_damaged_file_is_replaced(
    folder: ModelFolder, cache: Path, builds: list[str], damage: str
) -> None:
    wanted = logits(folder, cache)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({
        "cut": whole[:middle],
        "empty": b"",
        "a bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "checksum": whole[:-32] + bytes(32),
        "not OpenVINO's": b"other" + openvino_cache.hashlib.sha256(b"other").digest(),
    }[damage])  # fmt: skip
    np.testing.assert_array_equal(logits(folder, cache), wanted)
    assert len(builds) == 2
    logits(folder, cache)
    assert len(builds) == 2, "what was made anew is recalled"


def test_a_damaged_file_is_gone_even_where_the_network_is_ready_soon(
    folder: ModelFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits(folder, cache)
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[1:])
    monkeypatch.setattr(openvino_cache, "WORTHWHILE_S", math.inf)
    logits(folder, cache)
    assert not path.exists()


def test_everything_that_matters_is_in_the_name(tmp_path: Path) -> None:
    core, arrays = (
        import_openvino().Core(),
        {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float16)},
    )
    code = [tmp_path / "code.py"]
    code[0].write_text("1")

    def name(weights: dict[str, np.ndarray] = arrays, *described: object) -> Path:
        return path_of(tmp_path, weights, core, code, *described)

    names = [name(), name(arrays, "f32"), name(arrays, "bf16"), name({**arrays, "c": arrays["a"]})]
    names.append(name({"a": arrays["a"], "b": np.array([1, 2], np.float16)}))
    names.append(name({"a": arrays["a"].reshape(1, 3), "b": arrays["b"]}))
    assert name() == names[0]
    code[0].write_text("2")
    names.append(name())
    assert len(set(names)) == len(names)


def test_the_code_that_builds_the_graph_counts() -> None:
    assert {path.name for path in openvino_engine._CODE} == {
        "openvino_unet.py",
        "openvino_winograd.py",
    }


def test_the_name_does_not_tell_one_tensor_from_its_copy(tmp_path: Path) -> None:
    core, tensor = import_openvino().Core(), np.arange(6, dtype=np.float32)

    def name(**arrays: np.ndarray) -> Path:
        return path_of(tmp_path, arrays, core, ())

    assert name(a=tensor, b=tensor) == name(a=tensor, b=tensor.copy())
    assert name(a=tensor, b=tensor) != name(a=tensor, b=tensor[::-1])
    assert name(a=tensor[:3], b=tensor[3:]) != name(a=tensor[:3], b=tensor[:3])
    assert name(a=tensor[:3]) != name(a=tensor[::2])


def test_other_weights_and_threads_are_other_files(folder: ModelFolder, cache: Path) -> None:
    (weights,) = read_weights(folder)
    changed = {key: np.array(value) for key, value in weights.arrays.items()}
    changed["decoder.seg_layers.3.bias"] = changed["decoder.seg_layers.3.bias"] + 1
    for some in (weights, replace(weights, arrays=changed)):
        OpenVINOEngine(folder, some, cache=cache, threads=1)
    OpenVINOEngine(folder, weights, cache=cache, threads=2)
    assert len(list(cache.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_no_error(
    folder: ModelFolder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.INFO):
        logits(folder, cache)
    assert "not kept" in caplog.text


def test_a_network_that_is_ready_soon_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_cache, "WORTHWHILE_S", math.inf)
    path = tmp_path / "x.compiled"
    result = openvino_cache.compiled(_identity_graph, {}, core=_core(), path=path)
    assert result.network.create_infer_request() is not None
    assert not path.exists()


def test_what_another_process_has_kept_meanwhile_stays(cache: Path) -> None:
    path = cache / "x.compiled"
    openvino_cache.compiled(_identity_graph, {}, core=_core(), path=path)
    before = path.stat()
    path.rename(path.with_name("aside"))

    def graph_made_while_another_keeps_its_own() -> object:
        path.with_name("aside").rename(path)
        return _identity_graph()

    openvino_cache.compiled(graph_made_while_another_keeps_its_own, {}, core=_core(), path=path)
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_file_used_today_is_not_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cache, "KEPT", 1)
    for number in range(3):
        path = cache / f"{number}.compiled"
        openvino_cache.compiled(_identity_graph, {}, core=_core(), path=path)
    assert len(list(cache.iterdir())) == 3


def test_a_recalled_network_outlives_its_file(folder: ModelFolder, cache: Path) -> None:
    wanted = logits(folder, cache)
    engine = OpenVINOEngine(folder, read_weights(folder)[0], cache=cache, threads=1)
    (path,) = cache.iterdir()
    path.unlink()
    for _ in range(2):
        np.testing.assert_array_equal(engine.predict(tile_of(folder)), wanted)
    engine.close()


def test_only_the_last_used_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(openvino_cache, "KEPT", 2)
    for number in range(3):
        path = cache / f"{number}.compiled"
        openvino_cache.compiled(_identity_graph, {}, core=_core(), path=path)
        os.utime(path, (number + 1, number + 1))
    assert sorted(path.name for path in cache.iterdir()) == ["1.compiled", "2.compiled"]
    openvino_cache.compiled(
        _identity_graph, {}, core=_core(), path=cache / "1.compiled"
    )  # recalled
    openvino_cache.compiled(_identity_graph, {}, core=_core(), path=cache / "3.compiled")
    assert sorted(path.name for path in cache.iterdir()) == ["1.compiled", "3.compiled"]


def _core() -> object:
    return import_openvino().Core()


def _identity_graph() -> object:
    ov = import_openvino()
    ops = ov.opset13
    image = ops.parameter([1, 1, 4, 4, 4], ov.Type.f32)
    doubled = Volume(ops, image).map(lambda node: ops.multiply(node, ops.constant(np.float32(2))))
    return ov.Model([ops.result(doubled.ordered)], [image])


def _compile(arguments: tuple[ModelFolder, Weights, Path]) -> float:
    folder, weights, cache = arguments
    openvino_cache.WORTHWHILE_S = 0.0
    engine = OpenVINOEngine(folder, weights, cache=cache, threads=1)
    return float(engine.predict(tile_of(folder)).sum())


def test_parallel_jobs_share_the_folder(folder: ModelFolder, cache: Path) -> None:
    (weights,) = read_weights(folder)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        sums = pool.map(_compile, [(folder, weights, cache)] * 6)
    assert len(set(sums)) == 1
    assert [path.suffix for path in cache.iterdir()] == [".compiled"], "no temporary file is left"


def test_loading_uses_the_folder_of_the_environment(
    folder: ModelFolder, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_network(folder, Options(device="cpu", threads=1))
    assert not cache.exists(), "the tests' environment says off"
    monkeypatch.setenv("SCT_ROOTLETS_CACHE", str(cache))
    load_network(folder, Options(device="cpu", threads=1))
    assert len(list(cache.iterdir())) == 1


def file_mode(mode: int) -> Callable[[Path, Path, pytest.MonkeyPatch], None]:
    return lambda folder, file, monkeypatch: file.chmod(mode)


def folder_mode(mode: int) -> Callable[[Path, Path, pytest.MonkeyPatch], None]:
    return lambda folder, file, monkeypatch: folder.chmod(mode)


def parent_mode(mode: int) -> Callable[[Path, Path, pytest.MonkeyPatch], None]:
    return lambda folder, file, monkeypatch: folder.parent.chmod(mode)


def open_to_group(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untrusted, "_is_private_group", lambda info: False)
    folder.chmod(0o770)


def link(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = folder.parent / "elsewhere"
    file.rename(other)
    file.symlink_to(other)


def foreign(which: int) -> Callable[[Path, Path, pytest.MonkeyPatch], None]:
    """Give one of folder, file and parent to another user; without the right to, become another."""

    def give_away(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if os.geteuid() == 0:
            os.chown((folder, file, folder.parent)[which], 65534, -1)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: 54321)

    return give_away


SHARED = {
    "folder writable by all": folder_mode(0o777),
    "folder writable by all, sticky": folder_mode(0o1777),
    "folder writable by its group": open_to_group,
    "folder writable by others alone": folder_mode(0o702),
    "file writable by all": file_mode(0o666),
    "file writable by its group": file_mode(0o660),
    "file writable by others alone": file_mode(0o602),
    "parent writable by all": parent_mode(0o777),
    "parent writable by others alone": parent_mode(0o703),
    "file of another user": foreign(1),
    "folder of another user": foreign(0),
    "parent of another user": foreign(2),
    "file a link": link,
}


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
@pytest.mark.parametrize("share", SHARED.values(), ids=SHARED)
def test_a_network_that_others_could_have_put_there_is_not_used(
    share: Callable[[Path, Path, pytest.MonkeyPatch], None],
    folder: ModelFolder,
    cache: Path,
    builds: list[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planted network of other weights, with a right name and checksum, would change labels."""
    cache = cache.parent / "above" / "cache"
    wanted = logits(folder, cache)
    (path,) = cache.iterdir()
    share(cache, path, monkeypatch)
    builds.clear()
    for _ in range(2):
        np.testing.assert_array_equal(logits(folder, cache), wanted)
    assert builds
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1, "once"
    assert str(cache) in warnings[0]
    assert "SCT_ROOTLETS_CACHE" in warnings[0]
    assert "chmod" not in warnings[0], "the folder may be one that others need"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o770, 0o775])
def test_a_cache_folder_open_to_the_users_private_group_is_used(
    mode: int,
    folder: ModelFolder,
    cache: Path,
    builds: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(untrusted, "_is_private_group", lambda info: not info.st_mode & 0o002)
    cache.mkdir()
    cache.chmod(mode)
    logits(folder, cache)
    logits(folder, cache)
    assert builds == ["built"]
    (path,) = cache.iterdir()
    builds.clear()
    path.chmod(0o660)
    logits(folder, cache)
    assert builds == ["built"], "a file open to a group is not used"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_a_planted_network_is_not_run(folder: ModelFolder, cache: Path) -> None:
    (weights,) = read_weights(folder)
    wanted = logits(folder, None)
    changed = {key: np.array(value) for key, value in weights.arrays.items()}
    changed["decoder.seg_layers.3.bias"] = changed["decoder.seg_layers.3.bias"] + 1
    other = replace(weights, arrays=changed)
    OpenVINOEngine(folder, other, cache=cache / "other", threads=1)
    (planted,) = (cache / "other").iterdir()
    OpenVINOEngine(folder, weights, cache=cache / "mine", threads=1)
    (path,) = (cache / "mine").iterdir()
    path.write_bytes(planted.read_bytes())
    assert not np.array_equal(logits(folder, cache / "mine"), wanted), "it would be run"
    path.chmod(0o666)
    np.testing.assert_array_equal(logits(folder, cache / "mine"), wanted)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
def test_nothing_is_kept_in_a_folder_that_others_may_write(
    folder: ModelFolder, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    logits(folder, cache)
    assert list(cache.iterdir()) == []
    assert f"{cache} may be written by other users (mode 777)" in caplog.text


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_what_is_kept_is_the_users_alone_whatever_the_umask(
    umask: int, folder: ModelFolder, cache: Path, builds: list[str]
) -> None:
    before = os.umask(umask)
    try:
        logits(folder, cache / "a" / "b")
        logits(folder, cache / "a" / "b")
    finally:
        os.umask(before)
    assert builds == ["built"]
    (path,) = (cache / "a" / "b").iterdir()
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (cache, cache / "a", cache / "a" / "b", path)]
    assert modes == [0o700, 0o700, 0o700, 0o600]


def test_a_cache_folder_reached_by_a_link_is_used(
    folder: ModelFolder, cache: Path, builds: list[str]
) -> None:
    (cache.parent / "disk").mkdir(mode=0o700)
    cache.symlink_to(cache.parent / "disk")
    logits(folder, cache)
    logits(folder, cache)
    assert builds == ["built"]


@pytest.mark.parametrize("kind", ["loop", "dangling", "pipe", "folder"])
def test_what_is_no_cache_is_no_error(kind: str, folder: ModelFolder, cache: Path) -> None:
    logits(folder, cache)
    (path,) = cache.iterdir()
    path.unlink()
    if kind == "loop":
        cache.rmdir()
        cache.symlink_to(cache)
    elif kind == "dangling":
        cache.rmdir()
        cache.symlink_to(cache.parent / "no" / "where")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert logits(folder, cache).shape
