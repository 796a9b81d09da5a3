"""nnU-Net's U-Nets as OpenVINO graphs, built from plans and weights without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference.architecture import Architecture
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.openvino_winograd import (
    PHASES,
    TAPS,
    Upsampled,
    Volume,
    add_bias,
    along_channels,
    convolve,
)

_ONES = (1, 1, 1)
_LEAKY_SLOPE = 0.01
_NORM_EPS = 1e-5
LEAST_MULTIPLY_ADDS = 10**10
"""Smaller convolutions gain less from Winograd's method than it takes to compile them."""
LEAST_VOXELS = 2**15
"""OpenVINO's own operation normalizes smaller volumes exactly enough, and compiles faster."""


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
        Of the instance normalization and the leaky ReLU.
    """

    kind: str
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    eps: float = _NORM_EPS
    slope: float = _LEAKY_SLOPE


def unet_of(network: Architecture) -> UNet:
    """Return the shape of a network.

    Raises
    ------
    UnsupportedNetworkError
        If it is of a kind that is not built here.
    """
    norm = {"affine": False, "track_running_stats": False, **network.norm_options}
    reasons = {
        "a residual decoder": network.network == "ResidualUNet",
        "bottleneck blocks": network.bottleneck is not None,
        "images of two axes": network.axes != 3,
        f"the normalization {network.norm}": network.norm != "InstanceNorm3d",
        "no affine normalization": not norm["affine"],
        "running statistics": norm["track_running_stats"],
        "dropout": network.dropout is not None,
        f"the activation {network.activation}": network.activation != "LeakyReLU",
        "the activation first": network.activation_first,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    if found:
        raise UnsupportedNetworkError(
            f"A network with {found[0]} is run by stock nnU-Net alone. Use -engine nnunet, which "
            "needs torch."
        )
    return UNet(
        "residual" if network.residual else "plain",
        network.kernels,
        network.strides,
        network.blocks,
        network.decoder,
        float(norm.get("eps", _NORM_EPS)),
        float(network.activation_options.get("negative_slope", _LEAKY_SLOPE)),
    )


def build_graph(
    unet: UNet,
    weights: Mapping[str, np.ndarray],
    patch: Sequence[int],
    *,
    fast: bool = False,
    precise: bool = True,
) -> Any:
    """Return the network as an OpenVINO model.

    Parameters
    ----------
    unet : UNet
        Shape of the network.
    weights : mapping of str to ndarray
        ``network_weights`` of an nnU-Net checkpoint.
    patch : sequence of int
        Size (z, y, x) of the input in voxels.
    fast : bool
        Winograd's method for the large convolutions, see :mod:`.openvino_winograd`; for f32.
    precise : bool
        Normalize large volumes by sums of planes, for f32; in bfloat16 these would lose digits.

    Returns
    -------
    openvino.Model
        float32 (1, 1, z, y, x) → logits (1, classes, z, y, x).

    Raises
    ------
    ModelError
        If a weight is missing.
    """
    ov = import_openvino()
    ops = ov.opset13
    builder = _Builder(unet, weights, fast, precise)
    image = ops.parameter([1, 1, *patch], ov.Type.f32, name="image")
    skips = builder.encode(Volume(ops, image))
    logits = builder.decode(skips).ordered
    return ov.Model([ops.result(logits, name="logits")], [image], "unet")


class _Builder:
    """Adds the layers of a network, by the names their weights have in nnU-Net's checkpoints."""

    def __init__(
        self, unet: UNet, weights: Mapping[str, np.ndarray], fast: bool, precise: bool
    ) -> None:
        self.unet = unet
        self.weights = weights
        self.ops = import_openvino().opset13
        self.fast = fast
        self.precise = precise

    def encode(self, x: Volume) -> list[Volume]:
        """Return the output of each encoder stage, highest resolution first."""
        unet, skips = self.unet, []
        if unet.kind == "residual":
            x = self.stack("encoder.stem.convs", [x], 1, unet.kernels[0])
        for stage, kernel in enumerate(unet.kernels):
            count, stride = unet.blocks[stage], unet.strides[stage]
            if unet.kind == "plain":
                x = self.stack(f"encoder.stages.{stage}.0.convs", [x], count, kernel, stride)
            else:
                for block in range(count):
                    name = f"encoder.stages.{stage}.blocks.{block}"
                    x = self.residual(name, x, kernel, stride if block == 0 else _ONES)
            skips.append(x)
        return skips

    def decode(self, skips: list[Volume]) -> Volume:
        """Return the logits at the highest resolution."""
        unet, x = self.unet, skips[-1]
        strides = unet.strides[:0:-1]
        for stage, (skip, stride) in enumerate(zip(skips[-2::-1], strides, strict=True)):
            x = self.upsample(f"decoder.transpconvs.{stage}", x, stride)
            kernel, count = unet.kernels[-(stage + 2)], unet.decoder_convs[stage]
            x = self.stack(f"decoder.stages.{stage}.convs", [x, skip], count, kernel)
        return self.convolve(f"decoder.seg_layers.{len(skips) - 2}", [x], _ONES)

    def stack(
        self,
        name: str,
        inputs: Sequence[Volume],
        count: int,
        kernel: Sequence[int],
        stride: Sequence[int] = _ONES,
    ) -> Volume:
        """Add convolution, normalization and leaky ReLU, `count` times; the first one strides."""
        for number in range(count):
            x = self.activate(self.conv_norm(f"{name}.{number}", inputs, kernel, stride))
            inputs, stride = [x], _ONES
        return inputs[0]

    def residual(
        self, name: str, x: Volume, kernel: Sequence[int], stride: Sequence[int]
    ) -> Volume:
        """Add a residual block: two convolutions beside a (pooled, projected) identity."""
        y = self.activate(self.conv_norm(f"{name}.conv1", [x], kernel, stride))
        y = self.conv_norm(f"{name}.conv2", [y], kernel)
        if max(stride) > 1:
            zeros = [0, 0, 0]
            pooled = self.ops.avg_pool(x.ordered, list(stride), zeros, zeros, list(stride), False)
            x = Volume(self.ops, pooled)
        # The pooling, where there is one, takes the first place in the checkpoint's sequence.
        projection = f"{name}.skip.{int(max(stride) > 1)}"
        if f"{projection}.conv.weight" in self.weights:
            x = self.conv_norm(projection, [x], _ONES)
        if type(x) is not type(y):
            x, y = Volume(self.ops, x.ordered), Volume(self.ops, y.ordered)
        return self.activate(y.map(lambda node: self.ops.add(node, x.node)))

    def conv_norm(
        self,
        name: str,
        inputs: Sequence[Volume],
        kernel: Sequence[int],
        stride: Sequence[int] = _ONES,
    ) -> Volume:
        # A convolution's bias has no effect before an instance normalization.
        x = self.convolve(f"{name}.conv", inputs, kernel, stride, biased=False)
        return self.normalize(f"{name}.norm", x)

    def convolve(
        self,
        name: str,
        inputs: Sequence[Volume],
        kernel: Sequence[int],
        stride: Sequence[int] = _ONES,
        *,
        biased: bool = True,
    ) -> Volume:
        """Add the convolution of one input, or of two whose channels belong one after the other.

        The sum of two convolutions is the same as that of both inputs put together, and needs no
        copy of them: a sixth less memory for the published networks.
        """
        filters = [
            np.ascontiguousarray(part)
            for part in np.split(self.array(f"{name}.weight"), len(inputs), axis=1)
        ]
        bias = self.bias(name) if biased else None
        if self.fast and all(map(partial(_is_worth_it, kernel, stride), inputs, filters)):
            return convolve(self.ops, inputs, filters, bias)
        pads = [(size - 1) // 2 for size in kernel]

        def convolved(part: np.ndarray, node: Any) -> Any:
            ones = [1, 1, 1]
            return self.ops.convolution(
                node, self.ops.constant(part), list(stride), pads, pads, ones
            )

        if len(inputs) == 1 and max(*kernel, *stride) == 1:  # the order of planes does not matter
            return inputs[0].map(lambda node: add_bias(self.ops, convolved(filters[0], node), bias))
        parts = [convolved(part, x.ordered) for part, x in zip(filters, inputs, strict=True)]
        return Volume(self.ops, add_bias(self.ops, reduce(self.ops.add, parts), bias))

    def upsample(self, name: str, x: Volume, stride: Sequence[int]) -> Volume:
        filters = self.array(f"{name}.weight")
        if filters.shape[2:] != tuple(stride):
            raise ModelError(
                f"Expected weights {name!r} of size {tuple(stride)} by the plans, found "
                f"{filters.shape[2:]}. Install the model again."
            )
        return Upsampled(self.ops, x.ordered, filters, self.bias(name))

    def normalize(self, name: str, x: Volume) -> Volume:
        large = np.prod(x.shape[2:]) >= LEAST_VOXELS
        return x.map(partial(self._normalized if large and self.precise else self._mvn, name))

    def _mvn(self, name: str, node: Any) -> Any:
        node = self.ops.mvn(node, self.axes(2, 3, 4), True, self.unet.eps, "inside_sqrt")
        node = self.ops.multiply(node, self.channels(f"{name}.weight"))
        return self.ops.add(node, self.channels(f"{name}.bias"))

    def _normalized(self, name: str, node: Any) -> Any:
        """Return a normalized tensor, from the sums of its planes.

        OpenVINO's own operation adds up one voxel after the other; of a million of them that leaves
        three digits of the variance. Little cancels in the difference of squares: without a bias
        the mean is at most about twice the standard deviation in the built-in networks.
        """
        ops, planes = self.ops, self.axes(3, 4)
        share = self.number(1 / np.prod(node.output(0).get_shape()[3:]))
        norms = ops.reduce_l2(node, planes, True)
        mean, square = (
            ops.multiply(ops.reduce_mean(sums, self.axes(2), True), share)
            for sums in (ops.reduce_sum(node, planes, True), ops.multiply(norms, norms))
        )
        variance = ops.relu(ops.subtract(square, ops.multiply(mean, mean)))
        deviation = ops.sqrt(ops.add(variance, self.number(self.unet.eps)))
        scale = ops.divide(self.channels(f"{name}.weight"), deviation)
        shift = ops.subtract(self.channels(f"{name}.bias"), ops.multiply(mean, scale))
        return ops.add(ops.multiply(node, scale), shift)

    def activate(self, x: Volume) -> Volume:
        slope = self.ops.constant(np.array([self.unet.slope], dtype=np.float32))
        return x.map(lambda node: self.ops.prelu(node, slope))

    def bias(self, name: str) -> np.ndarray | None:
        return self.array(f"{name}.bias") if f"{name}.bias" in self.weights else None

    def channels(self, name: str) -> Any:
        return self.ops.constant(along_channels(self.array(name)))

    def axes(self, *numbers: int) -> Any:
        return self.ops.constant(np.array(numbers, dtype=np.int64))

    def number(self, value: float) -> Any:
        return self.ops.constant(np.array([value], dtype=np.float32))

    def array(self, name: str) -> np.ndarray:
        try:
            return np.ascontiguousarray(self.weights[name], dtype=np.float32)
        except KeyError:
            raise ModelError(
                f"The checkpoint lacks {name!r}, which the network of its plans needs. Install the "
                "model again."
            ) from None


def _is_worth_it(
    kernel: Sequence[int], stride: Sequence[int], x: Volume, filters: np.ndarray
) -> bool:
    """Tell whether Winograd's method is for a convolution, which is large enough to gain."""
    fits = kernel[0] == TAPS and max(stride) == 1 and x.shape[2] % PHASES == 0
    return fits and filters.size * int(np.prod(x.shape[2:])) >= LEAST_MULTIPLY_ADDS
