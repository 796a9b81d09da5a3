"""Checkpoints are read exactly, and none can run code."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.network.checkpoint import read_checkpoint

torch = pytest.importorskip("torch")


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool"]
)
def test_tensors_of_every_stored_type_are_read_exactly(tmp_path: Path, dtype: str) -> None:
    tensor = (torch.arange(24).reshape(2, 3, 4) * 1.25).to(getattr(torch, dtype))
    read = read_checkpoint(_save(tmp_path / "a.pth", {"x": tensor}))["x"]
    exact = tensor.float() if dtype == "bfloat16" else tensor
    assert np.array_equal(read, exact.numpy())
    assert read.dtype == exact.numpy().dtype


def test_views_keep_their_offset_and_strides(tmp_path: Path) -> None:
    base = torch.arange(60.0).reshape(3, 4, 5)
    views = {"t": base.permute(2, 0, 1), "part": base[1:, ::2], "scalar": base[2, 3, 4]}
    read = read_checkpoint(_save(tmp_path / "a.pth", views))
    for name, view in views.items():
        assert np.array_equal(read[name], view.numpy()), name


def test_a_checkpoint_as_nnunet_saves_it_is_read_whole(tmp_path: Path) -> None:
    content = {
        "network_weights": OrderedDict(a=torch.nn.Parameter(torch.ones(2, 3))),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": []},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": np.float64(0.75),
        "init_args": {"device": torch.device("cuda", 0), "fold": "all", "plans": {"a": [1, 2]}},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "shape": torch.Size([1, 2]),
        "nothing": None,
    }
    read = read_checkpoint(_save(tmp_path / "a.pth", content))
    assert read["network_weights"]["a"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert read["logging"]["mean_fg_dice"] == [0.5, 0.25]
    assert read["_best_ema"] == 0.75
    assert read["init_args"]["fold"] == "all"
    assert read["shape"] == (1, 2)


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
        read_checkpoint(path)
    assert not marker.exists()


def test_a_tensor_that_reaches_beyond_its_data_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pth", {"x": torch.arange(4.0)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:4] if name.endswith("data/0") else content)
    with pytest.raises(ModelError, match="beyond its data"):
        read_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", pickle.dumps({"a": 1})], ids=["empty", "text", "plain pickle"]
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_zip_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    (tmp_path / "a.pth").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="other content"):
        read_checkpoint(tmp_path / "a.pth")


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pth", {"x": torch.arange(4000.0)})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot be read"):
        read_checkpoint(path)


def test_only_a_dictionary_is_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="dictionary"):
        read_checkpoint(_save(tmp_path / "a.pth", [1, 2]))
