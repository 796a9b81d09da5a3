"""The networks that nnU-Net's plans describe: their parts by name, and the weights they have.

The tables list what nnU-Net writes. Other names are refused, since nnU-Net would look them up among
everything that can be imported, and call what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.io.untrusted import printable

BACKGROUND = "background"
"""nnU-Net's name of class 0; in capitals, too, it is taken for the same."""
IGNORED = "ignore"
"""The label that nnU-Net does not train; it is no class of the network."""
MOST_STAGES = 12
MOST_LAYERS = 64
MOST_FEATURES = 2**14
MOST_STRIDE = 16
MOST_KERNEL = 31

_HOME = "dynamic_network_architectures"
NETWORKS = {
    f"{_HOME}.architectures.{module}.{name}": name
    for name in ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
    for module in ("unet", "residual_unet")
}
"""Names of networks in plans, and their class."""


def _parts(module: str, *names: str) -> dict[str, str]:
    """Return both names of each class of torch.nn, and the class."""
    places = (f"torch.nn.modules.{module}", "torch.nn")
    return {f"{place}.{name}": name for place in places for name in names}


CONVOLUTIONS = _parts("conv", "Conv2d", "Conv3d")
NORMS = _parts("instancenorm", "InstanceNorm2d", "InstanceNorm3d") | _parts(
    "batchnorm", "BatchNorm2d", "BatchNorm3d"
)
DROPOUTS = _parts("dropout", "Dropout", "Dropout2d", "Dropout3d")
ACTIVATIONS = _parts("activation", "LeakyReLU", "ReLU")
BLOCKS = {
    f"{_HOME}.building_blocks.residual.{name}": name for name in ("BasicBlockD", "BottleneckD")
}
CLASSES = ("conv_op", "norm_op", "dropout_op", "nonlin", "block")
OLD_NETWORKS = {name: name for name in ("PlainConvUNet", "ResidualEncoderUNet")}
BATCH_NORM_TRAINERS = ("nnUNetTrainerBN",)
"""Trainers that take batch normalization, whatever the plans say."""


@dataclass(frozen=True)
class Architecture:
    """A U-Net of nnU-Net's dynamic architectures.

    Parameters
    ----------
    network : {"PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"}
        Its class.
    features : tuple of int
        Channels of each encoder stage.
    kernels, strides : tuple of tuple of int
        Kernel and stride (z, y, x) of each encoder stage; (y, x) of a 2-D network.
    blocks : tuple of int
        Convolutions (plain) or residual blocks of each encoder stage.
    decoder : tuple of int
        Convolutions or blocks of each decoder stage, lowest resolution first.
    biased : bool
        Whether convolutions have a bias.
    norm, dropout, activation : str, optional
        Classes of torch.nn.
    norm_options, dropout_options, activation_options : mapping
        Their arguments.
    activation_first : bool
        Whether the activation comes before the normalization.
    bottleneck : tuple of int, optional
        Inner channels of each stage's blocks, if these are of three convolutions.
    stem : int, optional
        Channels of a residual network's first convolution, if not those of the first stage.
    """

    network: str
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder: tuple[int, ...]
    biased: bool
    norm: str | None
    norm_options: Mapping[str, Any]
    dropout: str | None
    dropout_options: Mapping[str, Any]
    activation: str | None
    activation_options: Mapping[str, Any]
    activation_first: bool = False
    bottleneck: tuple[int, ...] | None = None
    stem: int | None = None

    @property
    def axes(self) -> int:
        """Number of axes of the images."""
        return len(self.kernels[0])

    @property
    def residual(self) -> bool:
        """Whether the encoder is made of residual blocks."""
        return self.network != "PlainConvUNet"


def with_trainer(architecture: Architecture, trainer: str | None) -> Architecture:
    """Return the network that a trainer makes of the plans' one."""
    if trainer not in BATCH_NORM_TRAINERS:
        return architecture
    options = {"eps": 1e-5, "affine": True}
    return replace(architecture, norm=f"BatchNorm{architecture.axes}d", norm_options=options)


def described(architecture: Architecture) -> dict[str, Any]:
    """Return a network as plans of the new format describe it, for nnU-Net."""
    axes = architecture.axes
    arguments: dict[str, Any] = {
        "n_stages": len(architecture.features),
        "features_per_stage": list(architecture.features),
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": [list(kernel) for kernel in architecture.kernels],
        "strides": [list(stride) for stride in architecture.strides],
        "n_conv_per_stage_decoder": list(architecture.decoder),
        "conv_bias": architecture.biased,
        "norm_op": _full(NORMS, architecture.norm),
        "norm_op_kwargs": dict(architecture.norm_options),
        "dropout_op": _full(DROPOUTS, architecture.dropout),
        "dropout_op_kwargs": dict(architecture.dropout_options),
        "nonlin": _full(ACTIVATIONS, architecture.activation),
        "nonlin_kwargs": dict(architecture.activation_options),
    }
    if not architecture.residual:
        arguments["n_conv_per_stage"] = list(architecture.blocks)
        arguments["nonlin_first"] = architecture.activation_first
    else:
        arguments["n_blocks_per_stage"] = list(architecture.blocks)
        arguments["stem_channels"] = architecture.stem
        if architecture.bottleneck:
            arguments["block"] = _full(BLOCKS, "BottleneckD")
            arguments["bottleneck_channels"] = list(architecture.bottleneck)
    return {
        "network_class_name": f"{_HOME}.architectures.unet.{architecture.network}",
        "arch_kwargs": arguments,
        "_kw_requires_import": [name for name in CLASSES if name in arguments],
    }


def _full(known: Mapping[str, str], part: str | None) -> str | None:
    return next((name for name, found in known.items() if found == part), None)


@dataclass(frozen=True)
class Slot:
    """A weight: its shape, and the first of the names under which nnU-Net stores it."""

    shape: tuple[int, ...]
    name: str


def slots(architecture: Architecture, classes: int) -> dict[str, Slot]:
    """Return all weights of a network of one input and `classes` output channels, by all names."""
    found: dict[str, Slot] = {}
    for name, shape, alias in _encoder(architecture):
        for other in (name, alias, f"decoder.{name}", f"decoder.{alias}"):
            found[other] = Slot(shape, name)
    for name, shape, alias in _decoder(architecture, classes):
        found[name] = found[alias] = Slot(shape, name)
    return found


_Named = Iterator[tuple[str, tuple[int, ...], str]]
"""Name of a weight, its shape, and its other name."""


def _encoder(net: Architecture) -> _Named:
    inputs = 1
    if net.residual:
        outputs = net.stem or net.features[0]
        yield from _layer(net, "encoder.stem.convs.0", (inputs, outputs), net.kernels[0])
        inputs = outputs
    for stage, outputs in enumerate(net.features):
        if net.residual:
            name, stride = f"encoder.stages.{stage}", net.strides[stage]
            yield from _blocks(net, name, stage, (inputs, outputs), stride)
        else:
            name = f"encoder.stages.{stage}.0.convs"
            yield from _layers(net, name, net.blocks[stage], (inputs, outputs), net.kernels[stage])
        inputs = outputs


def _decoder(net: Architecture, classes: int) -> _Named:
    for stage, count in enumerate(net.decoder):
        below, skip = net.features[-1 - stage], net.features[-2 - stage]
        kernel, stride = net.kernels[-2 - stage], net.strides[-1 - stage]
        name, ones = f"decoder.stages.{stage}", (1,) * net.axes
        yield from _weights(f"decoder.transpconvs.{stage}", (below, skip), stride, net.biased)
        if net.network == "ResidualUNet":
            sizes = (2 * skip, *(skip,) * count)
            for number in range(count):
                channels = sizes[number], skip
                yield from _block(net, f"{name}.blocks.{number}", channels, kernel, ones)
        else:
            yield from _layers(net, f"{name}.convs", count, (2 * skip, skip), kernel)
        yield from _weights(f"decoder.seg_layers.{stage}", (classes, skip), ones, True, classes)


def _weights(
    name: str,
    channels: tuple[int, int],
    kernel: Sequence[int],
    biased: bool,
    outputs: int | None = None,
) -> _Named:
    """Give the weights of a single convolution, which have one name."""
    yield f"{name}.weight", (*channels, *kernel), f"{name}.weight"
    if biased:
        yield f"{name}.bias", (outputs or channels[1],), f"{name}.bias"


def _layers(
    net: Architecture, name: str, count: int, channels: tuple[int, int], kernel: Sequence[int]
) -> _Named:
    inputs, outputs = channels
    for number in range(count):
        yield from _layer(net, f"{name}.{number}", (inputs, outputs), kernel)
        inputs = outputs


def _layer(
    net: Architecture,
    name: str,
    channels: tuple[int, int],
    kernel: Sequence[int],
    *,
    whole: bool = True,
    biased: bool = True,
) -> _Named:
    """Give the weights of a convolution with its normalization.

    `whole` layers have dropout and activation, too. These have no weights, but they count in the
    second name.
    """
    inputs, outputs = channels
    parts = ["conv", *(["dropout"] if net.dropout and whole else [])]
    parts += ["norm"] if net.norm else []
    if whole and net.activation and net.activation_first and net.norm:
        parts.insert(-1, "activation")
    shapes = {"conv": {"weight": (outputs, inputs, *kernel)}, "norm": _norm_shapes(net, outputs)}
    if net.biased and biased:
        shapes["conv"]["bias"] = (outputs,)
    for number, part in enumerate(parts):
        for kind, shape in shapes.get(part, {}).items():
            yield f"{name}.{part}.{kind}", shape, f"{name}.all_modules.{number}.{kind}"


def _norm_shapes(net: Architecture, channels: int) -> dict[str, tuple[int, ...]]:
    """Return the weights of a normalization, with torch's defaults."""
    batch = str(net.norm).startswith("Batch")
    affine = ("weight", "bias") if net.norm_options.get("affine", batch) else ()
    tracked = net.norm_options.get("track_running_stats", batch)
    running = ("running_mean", "running_var") if tracked else ()
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys((*affine, *running), (channels,))
    return shapes | ({"num_batches_tracked": ()} if tracked else {})


def _blocks(
    net: Architecture, name: str, stage: int, channels: tuple[int, int], stride: Sequence[int]
) -> _Named:
    inputs, outputs = channels
    inner = net.bottleneck[stage] if net.bottleneck else None
    for number in range(net.blocks[stage]):
        block = f"{name}.blocks.{number}"
        step = stride if number == 0 else (1,) * net.axes
        yield from _block(net, block, (inputs, outputs), net.kernels[stage], step, inner)
        inputs = outputs


def _block(
    net: Architecture,
    name: str,
    channels: tuple[int, int],
    kernel: Sequence[int],
    stride: Sequence[int],
    inner: int | None = None,
) -> _Named:
    """Give the weights of a residual block: of two convolutions, or of three with a waist."""
    (inputs, outputs), ones = channels, (1,) * net.axes
    if inner is None:
        yield from _layer(net, f"{name}.conv1", channels, kernel)
        yield from _layer(net, f"{name}.conv2", (outputs, outputs), kernel, whole=False)
    else:
        bare = replace(net, dropout=None)
        yield from _layer(bare, f"{name}.conv1", (inputs, inner), ones)
        yield from _layer(net, f"{name}.conv2", (inner, inner), kernel)
        yield from _layer(net, f"{name}.conv3", (inner, outputs), ones, whole=False)
    if inputs != outputs:
        projection = f"{name}.skip.{int(max(stride) > 1)}"
        yield from _layer(net, projection, channels, ones, whole=False, biased=False)


def fitted(weights: Mapping[str, Any], wanted: Mapping[str, Slot], path: Path) -> dict[str, Any]:
    """Return the weights of a network, each once, if they are exactly those that it has.

    Parameters
    ----------
    weights : mapping of str to ndarray
        ``network_weights`` of a checkpoint.
    wanted : mapping of str to Slot
        The network's weights, from :func:`slots`.
    path : Path
        The checkpoint, for messages.

    Raises
    ------
    ModelError
        If one is missing, left over, of another shape, no finite number, or differs between its
        names.
    """
    found: dict[str, np.ndarray] = {}
    for name, array in weights.items():
        slot = wanted.get(name)
        if slot is None:
            _refuse(path, f"the network has no {str(name)[:120]!r}")
        if not isinstance(array, np.ndarray) or array.shape != slot.shape:
            shape = array.shape if isinstance(array, np.ndarray) else type(array).__name__
            _refuse(path, f"{name!r} is {shape}, but {slot.shape} in the network")
        if slot.name not in found:
            _check_numbers(array, name, path)
            found[slot.name] = array
        elif not _is_same(array, found[slot.name]):
            _refuse(path, f"{name!r} and {slot.name!r} should be the same, but differ")
    missing = sorted({slot.name for slot in wanted.values()} - set(found))
    if missing:
        _refuse(path, f"{missing[0]!r} is missing")
    if sum(array.nbytes for array in found.values()) > 2 * path.stat().st_size:
        _refuse(path, "its weights share their numbers")
    return found


def _check_numbers(array: np.ndarray, name: str, path: Path) -> None:
    counter = name.endswith("num_batches_tracked")
    if array.dtype.kind != ("i" if counter else "f"):
        _refuse(path, f"{name!r} is of the type {array.dtype}")
    most = np.finfo(np.float32).max
    if not (-most <= array.min() and array.max() <= most):
        raise ModelError(
            f"The weights {name!r} in {printable(path)} are not all finite numbers: the model is "
            "broken. Train it again, or install another one."
        )


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    same_place = one.__array_interface__["data"] == other.__array_interface__["data"]
    return (same_place and one.strides == other.strides) or np.array_equal(one, other)


def _refuse(path: Path, reason: str) -> NoReturn:
    raise ModelError(
        f"The weights in {printable(path)} do not fit the network of its plans.json and "
        f"dataset.json: {reason}. Install the model again, with the files it was trained with."
    )
