"""The OpenVINO graph computes what the torch network computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_model
from benchmarks.speed import multiply_adds
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference import openvino_unet, openvino_winograd
from sct_rootlets_task.inference.openvino_engine import Mirrored
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.openvino_unet import (
    UNet,
    UnsupportedNetworkError,
    build_graph,
    unet_of,
)
from sct_rootlets_task.inference.plans import read_architecture

pytestmark = pytest.mark.network
PATCH = (16, 16, 8)
COMMON = {
    "n_stages": 3,
    "features_per_stage": [4, 6, 8],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
    "n_conv_per_stage_decoder": [2, 1],
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
PREFIX = "dynamic_network_architectures.architectures.unet."
KINDS: dict[str, dict[str, Any]] = {
    "PlainConvUNet": {"n_conv_per_stage": [1, 2, 2]},
    "ResidualEncoderUNet": {"n_blocks_per_stage": [1, 2, 2]},
}


def configuration(kind: str, **changes: Any) -> dict[str, Any]:
    arguments = {**COMMON, **KINDS[kind], **changes}
    described = {
        "network_class_name": f"{PREFIX}{kind}",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    return {"architecture": described, "patch_size": list(PATCH)}


def read_unet(described: dict[str, Any]) -> UNet:
    return unet_of(read_architecture(described, Path("plans.json")))


def torch_network(described: dict[str, Any]) -> Any:
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    torch.manual_seed(0)
    architecture = described["architecture"]
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        3,
        deep_supervision=False,
    )
    for parameter in network.parameters():  # affine parameters other than 1 and 0
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval()


def openvino_logits(
    described: dict[str, Any],
    weights: dict[str, Any],
    x: np.ndarray,
    *,
    fast: bool = False,
) -> Any:
    graph = build_graph(read_unet(described), weights, x.shape[2:], fast=fast)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return import_openvino().Core().compile_model(graph, "CPU", options)({0: x})[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bias", "least"), [(True, 0), (False, 0), (True, 2**15)])
def test_the_graph_equals_the_torch_network(
    kind: str, bias: bool, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(openvino_unet, "LEAST_VOXELS", least)
    described = configuration(kind, conv_bias=bias)
    network = torch_network(described)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((1, 1, *PATCH)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    assert openvino_logits(described, weights, x) == pytest.approx(expected, abs=1e-4)


def test_a_million_voxels_are_normalized_as_exactly_as_few() -> None:
    import torch

    described = configuration("PlainConvUNet")
    network = torch_network(described)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    x = np.random.default_rng(0).exponential(size=(1, 1, 128, 96, 96)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    assert openvino_logits(described, weights, x) == pytest.approx(expected, abs=1e-4)


def count_operations(described: dict[str, Any], weights: dict[str, Any], name: str) -> int:
    graph = build_graph(read_unet(described), weights, PATCH, fast=True)
    return sum(node.get_type_name() == name for node in graph.get_ops())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("bias", "planes", "chunk"), [(True, 48, 2**10), (False, 16, 1), (True, 8, 2**18)]
)
def test_fewer_multiplications_give_the_same_logits(
    kind: str, bias: bool, planes: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(openvino_unet, "LEAST_MULTIPLY_ADDS", 0)
    monkeypatch.setattr(openvino_unet, "LEAST_VOXELS", 0)
    monkeypatch.setattr(openvino_winograd, "CHUNK_VOXELS", chunk)
    kernels = [[3, 3, 3], [3, 3, 3], [3, 3, 1]]
    described = configuration(kind, conv_bias=bias, kernel_sizes=kernels)
    network = torch_network(described)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((1, 1, planes, 16, 8)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    found = openvino_logits(described, weights, x, fast=True)
    assert found == pytest.approx(expected, abs=3e-4)


def test_small_convolutions_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    described = configuration("PlainConvUNet", kernel_sizes=[[3, 3, 3]] * 3)
    state = torch_network(described).state_dict()
    weights = {name: value.numpy() for name, value in state.items()}
    assert count_operations(described, weights, "Slice") == 0
    monkeypatch.setattr(openvino_unet, "LEAST_MULTIPLY_ADDS", 0)
    assert count_operations(described, weights, "Slice") > 0


def test_what_is_upsampled_can_be_treated_like_any_volume() -> None:
    ops = import_openvino().opset13

    lower = ops.parameter([1, 2, 4, 4, 4], np.float32)
    larger = openvino_winograd.Upsampled(ops, lower, np.ones((2, 3, 2, 2, 2), np.float32), None)
    assert larger.map(ops.relu).shape == larger.shape == (1, 3, 8, 8, 8)


@pytest.mark.parametrize("fourth", [0, 1, 2, 3])
def test_the_transforms_are_those_of_a_filter_of_three_taps(fourth: int) -> None:
    rng = np.random.default_rng(fourth)
    signal, taps = rng.standard_normal(6), rng.standard_normal(3)
    products = (openvino_winograd.INPUTS @ signal) * (openvino_winograd.FILTERS @ taps)
    assert openvino_winograd.OUTPUTS[fourth] @ products == pytest.approx(
        signal[fourth : fourth + 3] @ taps
    )


def test_plans_of_the_old_format_describe_the_same_network() -> None:
    new = tiny_model.plans()["configurations"]["3d_fullres"]
    old = tiny_model.plans(old_format=True)["configurations"]["3d_fullres"]
    assert read_unet(old) == read_unet(new)


@pytest.mark.parametrize(
    "change",
    [
        {"nonlin": "torch.nn.ReLU"},
        {"norm_op": "torch.nn.BatchNorm3d"},
        {"norm_op_kwargs": {"affine": False}},
        {"norm_op_kwargs": {"affine": True, "track_running_stats": True}},
        {"nonlin_first": True},
        {"dropout_op": "torch.nn.Dropout3d"},
    ],
)
def test_other_networks_are_left_to_another_engine(change: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedNetworkError):
        read_unet(configuration("PlainConvUNet", **change))


def test_another_class_of_network_is_refused() -> None:
    described = configuration("PlainConvUNet")
    described["architecture"]["network_class_name"] = "some.Transformer"
    with pytest.raises(ModelError, match=r"could run code.*Transformer"):
        read_unet(described)
    with pytest.raises(ModelError, match=r"could run code.*Transformer"):
        read_unet({"UNet_class_name": "Transformer"})


@pytest.mark.parametrize("change", [{"stem_channels": 3}, {"block": tiny_model.BASIC_BLOCK}])
def test_residual_networks_are_built_by_their_weights(change: dict[str, Any]) -> None:
    import torch

    described = configuration("ResidualEncoderUNet", **change)
    described["architecture"]["_kw_requires_import"].extend(set(change) & {"block"})
    network = torch_network(described)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((1, 1, *PATCH)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    assert openvino_logits(described, weights, x) == pytest.approx(expected, abs=1e-4)


def test_a_missing_weight_is_named() -> None:
    described = configuration("PlainConvUNet")
    state = torch_network(described).state_dict()
    weights = {name: value.numpy() for name, value in state.items()}
    del weights["decoder.transpconvs.1.weight"]
    with pytest.raises(ModelError, match=r"decoder\.transpconvs\.1\.weight"):
        build_graph(read_unet(described), weights, PATCH)


@pytest.mark.parametrize("kind", ["PlainConvUNet"])
def test_multiply_adds_agree_with_counting_the_torch_layers(kind: str) -> None:
    import torch

    described = configuration(kind)
    network = torch_network(described)
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    counted = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        per_output = module.weight[0].numel()
        if isinstance(module, torch.nn.ConvTranspose3d):
            counted.append(inputs[0][0, 0].numel() * module.weight.numel())
        else:
            counted.append(output.numel() * per_output)

    for module in set(network.modules()):
        if isinstance(module, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros(1, 1, *PATCH))
    assert multiply_adds(build_graph(read_unet(described), weights, PATCH)) == sum(counted)


def test_half_of_the_multiplications_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_unet, "LEAST_MULTIPLY_ADDS", 0)
    kernels = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    described = configuration("PlainConvUNet", n_conv_per_stage=[1, 20, 1], kernel_sizes=kernels)
    state = torch_network(described).state_dict()
    weights = {name: value.numpy() for name, value in state.items()}
    shape = read_unet(described)
    counts = [multiply_adds(build_graph(shape, weights, PATCH, fast=fast)) for fast in (0, 1)]
    one = weights["encoder.stages.1.0.convs.1.conv.weight"].size * np.prod(PATCH) // 4
    below = weights["decoder.stages.0.convs.0.conv.weight"].size * np.prod(PATCH) // 4
    assert counts[0] - counts[1] == (19 * one + below + one) / 2


class _Ramp:
    """An engine whose logits depend on the place, so that mirroring shows."""

    name, device, precision = "ramp", "cpu", "f32"

    def predict(self, patch: np.ndarray) -> np.ndarray:
        return np.stack([patch * np.arange(patch.shape[0])[:, None, None]])

    def close(self) -> None:
        self.closed = True


def test_mirroring_averages_all_combinations_of_axes() -> None:
    engine = _Ramp()
    mirrored = Mirrored(engine, (0, 1, 2))
    patch = np.ones((5, 4, 3), np.float32)
    assert mirrored.predict(patch) == pytest.approx(np.full((1, 5, 4, 3), 2.0))
    mirrored.close()
    assert engine.closed
