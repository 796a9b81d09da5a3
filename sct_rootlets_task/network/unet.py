"""nnU-Net's U-Nets as OpenVINO graphs, built from plans and weights without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ModelError

_KINDS = {
    "dynamic_network_architectures.architectures.unet.PlainConvUNet": "plain",
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet": "residual",
    "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet": "residual",
}
_FIXED = {
    "conv_op": ("torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"),
    "norm_op": ("torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.InstanceNorm3d"),
    "dropout_op": (None,),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
}
_LEAKY_SLOPE = 0.01
_NORM_EPS = 1e-5


class UnsupportedNetworkError(ModelError):
    """The network is of a kind that is not built here; another engine may run it."""


@dataclass(frozen=True)
class UNet:
    """Shape of a U-Net of nnU-Net's dynamic architectures.

    Parameters
    ----------
    kind : {"plain", "residual"}
        ``PlainConvUNet`` or ``ResidualEncoderUNet``.
    kernels, strides : tuple of tuple of int
        Kernel and stride (z, y, x) of each encoder stage.
    blocks : tuple of int
        Convolutions (plain) or residual blocks of each encoder stage.
    decoder_convs : tuple of int
        Convolutions of each decoder stage, lowest resolution first.
    eps, slope : float
        Of the instance normalisation and the leaky ReLU.
    """

    kind: str
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    eps: float = _NORM_EPS
    slope: float = _LEAKY_SLOPE


def read_unet(configuration: Mapping[str, Any]) -> UNet:
    """Read the network's shape from a configuration of the plans, in the new or the old format.

    Parameters
    ----------
    configuration : mapping
        Entry of ``plans["configurations"]``.

    Raises
    ------
    UnsupportedNetworkError
        If it is another kind of network.
    """
    if "architecture" not in configuration:
        return _read_old_format(configuration)
    described = configuration["architecture"]
    arguments = described["arch_kwargs"]
    kind = _KINDS.get(described["network_class_name"])
    if kind is None:
        raise UnsupportedNetworkError(f"No U-Net: {described['network_class_name']}.")
    for name, known in _FIXED.items():
        if arguments.get(name) not in known:
            raise UnsupportedNetworkError(f"Unknown {name}: {arguments.get(name)!r}.")
    if arguments.get("nonlin_first"):
        raise UnsupportedNetworkError("Networks with the non-linearity first are not built here.")
    stages = int(arguments["n_stages"])
    blocks = arguments["n_conv_per_stage" if kind == "plain" else "n_blocks_per_stage"]
    return UNet(
        kind,
        tuple(tuple(kernel) for kernel in arguments["kernel_sizes"]),
        tuple(tuple(stride) for stride in arguments["strides"]),
        _per_stage(blocks, stages),
        _per_stage(arguments["n_conv_per_stage_decoder"], stages - 1),
        float((arguments.get("norm_op_kwargs") or {}).get("eps", _NORM_EPS)),
        float((arguments.get("nonlin_kwargs") or {}).get("negative_slope", _LEAKY_SLOPE)),
    )


def _read_old_format(configuration: Mapping[str, Any]) -> UNet:
    """Read plans as written before nnunetv2 2.3."""
    kinds = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
    name = configuration.get("UNet_class_name")
    if name not in kinds:
        raise UnsupportedNetworkError(f"No U-Net: {name!r}.")
    kernels = tuple(tuple(kernel) for kernel in configuration["conv_kernel_sizes"])
    return UNet(
        kinds[name],
        kernels,
        tuple(tuple(stride) for stride in configuration["pool_op_kernel_sizes"]),
        _per_stage(configuration["n_conv_per_stage_encoder"], len(kernels)),
        _per_stage(configuration["n_conv_per_stage_decoder"], len(kernels) - 1),
    )


def _per_stage(value: int | Sequence[int], stages: int) -> tuple[int, ...]:
    return (value,) * stages if isinstance(value, int) else tuple(value)


def build_graph(unet: UNet, weights: Mapping[str, np.ndarray], patch: Sequence[int]) -> Any:
    """Return the network as an OpenVINO model.

    Parameters
    ----------
    unet : UNet
        Shape of the network.
    weights : mapping of str to ndarray
        ``network_weights`` of an nnU-Net checkpoint.
    patch : sequence of int
        Size (z, y, x) of the input in voxels.

    Returns
    -------
    openvino.Model
        float32 (1, 1, z, y, x) → logits (1, classes, z, y, x).

    Raises
    ------
    ModelError
        If a weight is missing.
    """
    import openvino as ov
    from openvino import opset13 as ops

    builder = _Builder(unet, weights)
    image = ops.parameter([1, 1, *patch], ov.Type.f32, name="image")
    skips = builder.encode(image)
    logits = builder.decode(skips)
    return ov.Model([ops.result(logits, name="logits")], [image], "unet")


class _Builder:
    """Adds the layers of a network, by the names their weights have in nnU-Net's checkpoints."""

    def __init__(self, unet: UNet, weights: Mapping[str, np.ndarray]) -> None:
        from openvino import opset13

        self.unet = unet
        self.weights = weights
        self.ops = opset13

    def encode(self, x: Any) -> list[Any]:
        """Return the output of each encoder stage, highest resolution first."""
        unet, skips = self.unet, []
        if unet.kind == "residual":
            x = self.stack("encoder.stem.convs", x, 1, unet.kernels[0], (1, 1, 1))
        for stage, kernel in enumerate(unet.kernels):
            count, stride = unet.blocks[stage], unet.strides[stage]
            if unet.kind == "plain":
                x = self.stack(f"encoder.stages.{stage}.0.convs", x, count, kernel, stride)
            else:
                for block in range(count):
                    name = f"encoder.stages.{stage}.blocks.{block}"
                    x = self.residual(name, x, kernel, stride if block == 0 else (1, 1, 1))
            skips.append(x)
        return skips

    def decode(self, skips: list[Any]) -> Any:
        """Return the logits at the highest resolution."""
        unet, x = self.unet, skips[-1]
        strides = unet.strides[:0:-1]
        for stage, (skip, stride) in enumerate(zip(skips[-2::-1], strides, strict=True)):
            x = self.upsample(f"decoder.transpconvs.{stage}", x, stride)
            kernel, count = unet.kernels[-(stage + 2)], unet.decoder_convs[stage]
            name = f"decoder.stages.{stage}.convs"
            x = self.convolve_both(f"{name}.0.conv", x, skip, kernel)
            x = self.activate(self.normalise(f"{name}.0.norm", x))
            for number in range(1, count):
                x = self.activate(self.conv_norm(f"{name}.{number}", x, kernel, (1, 1, 1)))
        return self.convolve(f"decoder.seg_layers.{len(skips) - 2}", x, (1, 1, 1), (1, 1, 1))

    def stack(
        self, name: str, x: Any, count: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> Any:
        """Add convolution, normalisation and leaky ReLU, `count` times; the first one strides."""
        for number in range(count):
            step = stride if number == 0 else (1, 1, 1)
            x = self.activate(self.conv_norm(f"{name}.{number}", x, kernel, step))
        return x

    def residual(self, name: str, x: Any, kernel: Sequence[int], stride: Sequence[int]) -> Any:
        """Add a residual block: two convolutions beside a (pooled, projected) identity."""
        y = self.activate(self.conv_norm(f"{name}.conv1", x, kernel, stride))
        y = self.conv_norm(f"{name}.conv2", y, kernel, (1, 1, 1))
        if max(stride) > 1:
            zeros = [0, 0, 0]
            x = self.ops.avg_pool(x, list(stride), zeros, zeros, list(stride), False)
        # The pooling, where there is one, takes the first place in the checkpoint's sequence.
        projection = f"{name}.skip.{int(max(stride) > 1)}"
        if f"{projection}.conv.weight" in self.weights:
            x = self.conv_norm(projection, x, (1, 1, 1), (1, 1, 1))
        return self.activate(self.ops.add(y, x))

    def conv_norm(self, name: str, x: Any, kernel: Sequence[int], stride: Sequence[int]) -> Any:
        # A convolution's bias has no effect before an instance normalisation, but is cheap to keep.
        return self.normalise(f"{name}.norm", self.convolve(f"{name}.conv", x, kernel, stride))

    def convolve(self, name: str, x: Any, kernel: Sequence[int], stride: Sequence[int]) -> Any:
        pads = [(size - 1) // 2 for size in kernel]
        filters = self.weight(f"{name}.weight")
        x = self.ops.convolution(x, filters, list(stride), pads, pads, [1, 1, 1])
        return self.add_bias(name, x)

    def convolve_both(self, name: str, below: Any, skip: Any, kernel: Sequence[int]) -> Any:
        """Add the convolution of two inputs, one above the other.

        The sum of two convolutions is the same, and needs no copy of both inputs: a sixth less
        memory for the published networks.
        """
        pads, filters = [(size - 1) // 2 for size in kernel], self.array(f"{name}.weight")
        parts = [
            self.ops.convolution(
                x, self.ops.constant(np.ascontiguousarray(part)), [1, 1, 1], pads, pads, [1, 1, 1]
            )
            for x, part in zip((below, skip), np.split(filters, 2, axis=1), strict=True)
        ]
        return self.add_bias(name, self.ops.add(*parts))

    def upsample(self, name: str, x: Any, stride: Sequence[int]) -> Any:
        filters = self.weight(f"{name}.weight")
        return self.add_bias(name, self.ops.convolution_backprop_data(x, filters, list(stride)))

    def normalise(self, name: str, x: Any) -> Any:
        axes = self.ops.constant(np.array([2, 3, 4], dtype=np.int64))
        x = self.ops.mvn(x, axes, True, self.unet.eps, "inside_sqrt")
        x = self.ops.multiply(x, self.channels(f"{name}.weight"))
        return self.ops.add(x, self.channels(f"{name}.bias"))

    def activate(self, x: Any) -> Any:
        return self.ops.prelu(x, self.ops.constant(np.array([self.unet.slope], dtype=np.float32)))

    def add_bias(self, name: str, x: Any) -> Any:
        if f"{name}.bias" not in self.weights:
            return x
        return self.ops.add(x, self.channels(f"{name}.bias"))

    def channels(self, name: str) -> Any:
        return self.ops.constant(self.array(name).reshape(1, -1, 1, 1, 1))

    def weight(self, name: str) -> Any:
        return self.ops.constant(self.array(name))

    def array(self, name: str) -> np.ndarray:
        try:
            return np.ascontiguousarray(self.weights[name], dtype=np.float32)
        except KeyError:
            raise ModelError(
                f"The checkpoint lacks {name!r}, which the network of its plans needs. Install the "
                "model again."
            ) from None


def multiply_adds(unet: UNet, weights: Mapping[str, np.ndarray], patch: Sequence[int]) -> int:
    """Return the multiply-adds of one run of the network on a patch (convolutions only)."""
    sizes = [np.array(patch, dtype=np.int64)]
    for stride in unet.strides[1:]:
        sizes.append(sizes[-1] // np.array(stride))
    total = 0
    for stage, size in enumerate(sizes):
        part = [f"encoder.stages.{stage}."]
        if stage < len(sizes) - 1:
            part.append(f"decoder.stages.{len(sizes) - 2 - stage}.")
        names = [n for n in weights if n.endswith(".conv.weight") and n.startswith(tuple(part))]
        total += sum(weights[name].size for name in names) * int(size.prod())
    for number, (_, lower) in enumerate(reversed(list(pairwise(sizes)))):
        total += weights[f"decoder.transpconvs.{number}.weight"].size * int(lower.prod())
    last = weights[f"decoder.seg_layers.{len(sizes) - 2}.weight"].size
    return total + last * int(sizes[0].prod())
