"""What OpenVINO, torch and the system say of a failure becomes one sentence with a way out."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny_model
from sct_rootlets_task.cli.console import explain, is_foreseen
from sct_rootlets_task.errors import (
    EngineError,
    MissingDependencyError,
    ModelError,
    OutOfMemoryError,
    RootletsError,
)
from sct_rootlets_task.inference import openvino_engine
from sct_rootlets_task.inference.failures import fitting, short_reason
from sct_rootlets_task.inference.loading import choose_engine
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.openvino_engine import (
    OpenVINOEngine,
    Weights,
    has_native_bf16,
    read_weights,
)
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.torch_engine import import_torch

DEEP = (
    "Exception from src/inference/src/cpp/core.cpp:117:\n"
    "Exception from src/inference/src/dev/plugin.cpp:54:\n"
    "Exception from src/plugins/{place}:505:\n{text}\n\n\n"
)
CHECK = (
    "Check 'data_shape[1].compatible(filters_shape[1])' failed at src/core/x.hpp:307:\n"
    "While validating node 'opset1::Convolution Convolution_4' with friendly_name 'C':\n{text}\n"
)
MEMORY = (
    *("std::bad_alloc", "Not enough memory", "failed to allocate 4096 bytes", "out of memory"),
    *("Can not allocate 10 bytes of memory", "[CPU] could not allocate memory for a primitive"),
)
MACHINE = (
    "CPU plugin is not supported on this machine: AVX2 is missing",
    'Device with "CPU" name is not registered in the OpenVINO Runtime',
    'Cannot load library "libopenvino_intel_cpu_plugin.so": no such file',
    "[CPU] SSE4.2 is required",
)
SHAPES = (
    "Data batch channel count (1) does not match filter input channel count (2).",
    "Argument shapes are inconsistent",
    "The input tensor size is not equal to the model input type: got [1] expecting [2].",
)
GPU = (
    "CUDA error: no kernel image is available for execution on the device\nCompile with `X`",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if",
    "MPS backend: operator is not implemented",
)


def wrapped(text: str) -> list[str]:
    return [text, DEEP.format(place="a.cpp", text=text), CHECK.format(text=text)]


KINDS = [
    *((OutOfMemoryError, "-threads 1", one) for text in MEMORY for one in wrapped(text)),
    *((EngineError, "-engine torch", one) for text in MACHINE for one in wrapped(text)),
    *((ModelError, "Install the model again", one) for text in SHAPES for one in wrapped(text)),
    *((EngineError, "-device cpu", text) for text in GPU),
    (OutOfMemoryError, "-device cpu", "CUDA out of memory. Tried to allocate 20 GiB\nSee docs"),
    (OutOfMemoryError, "-device cpu", "MPS backend out of memory (MPS allocated: 9 GB)"),
]


@pytest.mark.parametrize(("kind", "way", "text"), KINDS)
def test_an_error_of_an_engine_is_one_sentence_with_a_way_out(
    kind: type[RootletsError], way: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(kind) as raised, fitting(tmp_path):
        raise RuntimeError(text)
    message = str(raised.value)
    assert type(raised.value) is kind
    assert way in message
    assert "Exception from" not in message
    assert "Check '" not in message
    assert message.isprintable()
    assert len(message) < 600


@pytest.mark.parametrize("error", [ModelError("mine"), OutOfMemoryError(), KeyError("a fault")])
def test_errors_that_speak_for_themselves_and_faults_are_left_as_they_are(
    error: Exception, tmp_path: Path
) -> None:
    with pytest.raises(type(error)) as raised, fitting(tmp_path):
        raise error
    assert raised.value is error


def test_an_error_without_a_text_has_a_name() -> None:
    assert short_reason(RuntimeError()) == "RuntimeError"
    assert short_reason(RuntimeError("\n \n")) != ""


def test_real_errors_of_openvino_are_told_by_their_last_line(tmp_path: Path) -> None:
    openvino = import_openvino()
    ops = openvino.opset13
    image = ops.parameter([1, 1, 4, 4, 4], openvino.Type.f32)
    kernel = ops.constant(np.ones((4, 2, 3, 3, 3), np.float32))
    steps = [1, 1, 1]
    with pytest.raises(ModelError, match="channel count"), fitting(tmp_path):
        ops.convolution(image, kernel, steps, steps, steps, steps)
    with pytest.raises(OutOfMemoryError), fitting(tmp_path):
        openvino.Tensor(openvino.Type.f32, [10**6, 10**6, 10])


class _Core:
    """A core of OpenVINO that fails at one of its uses."""

    def __init__(self, real: Any, use: str, text: str) -> None:
        self._real, self._use, self._text = real, use, text
        if use == "Core":
            raise RuntimeError(text)

    def __getattr__(self, name: str) -> Any:
        if name != self._use:
            return getattr(self._real, name)

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError(self._text)

        return fail


@pytest.mark.parametrize("use", ["Core", "get_property", "compile_model"])
@pytest.mark.parametrize(
    ("text", "kind"),
    [("std::bad_alloc", OutOfMemoryError), (MACHINE[1], EngineError), (SHAPES[1], ModelError)],
)
def test_each_use_of_openvino_is_translated(
    use: str,
    text: str,
    kind: type[RootletsError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = import_openvino()
    core = SimpleNamespace(
        Core=lambda: _Core(real.Core(), use, DEEP.format(place="b.cpp", text=text))
    )
    monkeypatch.setattr(openvino_engine, "import_openvino", lambda: core)
    folder = read_model_folder(tiny_model.write_model(tmp_path))
    (weights,) = read_weights(folder)
    with pytest.raises(kind):
        OpenVINOEngine(folder, weights, cache=tmp_path / "cache")
    if use != "compile_model":
        with pytest.raises(EngineError if kind is ModelError else kind):
            has_native_bf16()


def test_an_engine_asked_for_in_vain_says_which_one_does_it(tmp_path: Path) -> None:
    folder = read_model_folder(tiny_model.write_model(tmp_path))
    unusual = replace(folder, planned=replace(folder.planned, dropout="Dropout3d"))
    with pytest.raises(ModelError, match="-engine nnunet"):
        OpenVINOEngine(unusual, Weights({}))
    assert choose_engine(unusual, "auto", "cpu") == "nnunet"


BROKEN = (
    ImportError("libx.so: cannot open shared object file"),
    OSError("[WinError 126] The specified module could not be found"),
    AttributeError("module 'numpy' has no attribute 'bool8'"),
    RuntimeError("module compiled against ABI version\nmore\nlines"),
)


@pytest.mark.parametrize("error", BROKEN, ids=repr)
@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_library_that_cannot_be_loaded_is_one_sentence(
    name: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ModuleType):
        @staticmethod
        def find_spec(wanted: str, *_: object) -> None:
            if wanted == name:
                raise error

    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "nnunetv2", ModuleType("nnunetv2"))
    monkeypatch.setattr(sys, "meta_path", [Broken("x"), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match="pip install") as raised:
        import_openvino() if name == "openvino" else import_torch()
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        ImportError("libquadmath.so.0: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
    ],
    ids=repr,
)
def test_too_little_memory_is_said_in_one_sentence_by_both_commands(error: Exception) -> None:
    assert is_foreseen(error)
    assert "not enough memory" in explain(error, "x")


@pytest.mark.parametrize(
    "error",
    [ValueError("out of memory"), RuntimeError("it remembers"), OSError(errno.ENOENT, "memory")],
    ids=repr,
)
def test_other_errors_are_not_taken_for_too_little_memory(error: Exception) -> None:
    assert "not enough memory" not in explain(error, "x")


@pytest.mark.parametrize("found", ["missing", "old"])
def test_without_a_pydantic_that_will_do_one_sentence_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    """What an upgrade with ``pip install --no-deps`` leaves."""
    name = "sct_rootlets_task.inference.plans"
    monkeypatch.setitem(sys.modules, "pydantic", None if found == "missing" else ModuleType("old"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pydantic>=2\.6'$"):
        importlib.import_module(name)
