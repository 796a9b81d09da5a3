"""What nnU-Net writes into plans.json, dataset.json and checkpoints, as models of pydantic.

Names of classes and functions are looked up in our own tables, here and in :mod:`.architecture`.
Entries that nothing needs may be anything.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.inference import architecture as tables
from sct_rootlets_task.inference.architecture import BACKGROUND, IGNORED, Architecture
from sct_rootlets_task.inference.failures import short_reason
from sct_rootlets_task.inference.fields import Place, parse

try:
    from pydantic import (
        AfterValidator,
        AliasChoices,
        BaseModel,
        BeforeValidator,
        ConfigDict,
        Field,
        Strict,
        ValidationInfo,
    )
    from pydantic_core import PydanticCustomError
except ImportError as error:  # one that is too old lacks names
    raise MissingDependencyError(
        f"A model's plans are read with pydantic 2.6 or newer ({short_reason(error)}). Install it "
        "with: pip install 'pydantic>=2.6'"
    ) from error

MOST_CLASSES = 256
"""Labels are bytes."""
MOST_PATCH_VOXELS = 2**25
MOST_CONFIGURATIONS = 100
_SCHEMES = tuple(
    f"{name}Normalization" for name in ("ZScore", "CT", "No", "RescaleTo01", "RGBTo01")
)
_SEPARATE = {"is_seg", "force_separate_z", "separate_z_anisotropy_threshold"}
_RESAMPLINGS = {
    "resample_data_or_seg_to_shape": _SEPARATE | {"order", "order_z"},
    "resample_torch_fornnunet": _SEPARATE | {"memefficient_seg_resampling"},
    "no_resampling_hack": set[str](),
}
"""Functions that resample, and their arguments."""


def _fail(expected: str) -> NoReturn:
    raise PydanticCustomError("expected", "{expected}", {"expected": expected})


def _check(holds: Callable[[Any], bool], expected: str) -> AfterValidator:
    """Take values of which something holds."""

    def check(value: Any) -> Any:
        return value if holds(value) else _fail(expected)

    return AfterValidator(check)


def _one_of(known: Mapping[str, str] | Collection[str]) -> BeforeValidator:
    """Take the names of a table only: nnU-Net would look others up, and call what it finds."""
    table = known if isinstance(known, Mapping) else {name: name for name in known}

    def look_up(name: object) -> str:
        if not isinstance(name, str) or name not in table:
            found = " or ".join(sorted(set(table.values())))
            _fail(f"{found} by nnU-Net's name (others could run code)")
        return table[name]

    return BeforeValidator(look_up)


def _axes(info: ValidationInfo) -> int:
    patch = info.data.get("patch_size", ())
    return int(info.data["conv_op"][-2]) if "conv_op" in info.data else len(patch)


def _for_axes(part: str, info: ValidationInfo) -> str:
    if part.endswith("d") and not part.endswith(f"{_axes(info)}d"):
        _fail(f"a class for {_axes(info)} axes, as conv_op is")
    return part


def _for_each_stage(value: Any, info: ValidationInfo) -> Any:
    """Repeat a number that stands for all stages; the decoder has one less."""
    stages = info.data.get("n_stages") or len(info.data.get("kernels", ()))
    count = stages - (info.field_name == "decoder")
    values = [value] * count if type(value) is int else value
    if stages and isinstance(values, list | tuple) and len(values) != count:
        _fail(f"a list of {count}, one for each stage")
    return values


def _for_each_axis(value: Any, info: ValidationInfo) -> Any:
    """Repeat numbers that stand for all axes."""
    values, axes = _for_each_stage(value, info), _axes(info)
    if not isinstance(values, list | tuple):
        return values
    sizes = [[item] * axes if type(item) is int else item for item in values]
    if any(isinstance(size, list | tuple) and len(size) != axes for size in sizes):
        _fail(f"sizes of {axes} numbers")
    return sizes


_odd = _check(lambda kernels: all(n % 2 for kernel in kernels for n in kernel), "odd sizes")


def _from_full_size(strides: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Refuse a first stride: the decoder ends at the first stage, which has the input's size."""
    if set(strides[0]) != {1}:
        _fail(f"{[1] * len(strides[0])} for the first stage")
    return strides


class _Strict(BaseModel):
    """Numbers are no texts, and true is no number; further entries may be anything."""

    model_config = ConfigDict(strict=True, frozen=True, validate_default=True)


def _named(names: Mapping[str, str]) -> ConfigDict:
    """Give fields the names that they have in the files."""
    return ConfigDict(alias_generator=lambda field: names.get(field, field))


class _Closed(_Strict):
    """There are no further entries: nnU-Net would hand them to a function."""

    model_config = ConfigDict(extra="forbid")


_AnyList = Strict(False)
"""Lists may be tuples, as in checkpoints; what is in them stays strict."""
_Share = Annotated[float, Field(ge=0, le=1)]
_Feature = Annotated[int, Field(ge=1, le=tables.MOST_FEATURES)]
_Layer = Annotated[int, Field(ge=1, le=tables.MOST_LAYERS)]
_Kernel = Annotated[int, Field(ge=1, le=tables.MOST_KERNEL)]
_Stride = Annotated[int, Field(ge=1, le=tables.MOST_STRIDE)]
_Features = Annotated[tuple[_Feature, ...], _AnyList, BeforeValidator(_for_each_stage)]
_Layers = Annotated[tuple[_Layer, ...], _AnyList, BeforeValidator(_for_each_stage)]
_KernelList = Annotated[tuple[Annotated[tuple[_Kernel, ...], _AnyList], ...], _AnyList]
_StrideList = Annotated[tuple[Annotated[tuple[_Stride, ...], _AnyList], ...], _AnyList]
_Kernels = Annotated[_KernelList, BeforeValidator(_for_each_axis), _odd]
_Strides = Annotated[_StrideList, BeforeValidator(_for_each_axis), AfterValidator(_from_full_size)]
_Names = Annotated[tuple[str, ...], _AnyList]


_NEW_NAMES = {
    "norm": "norm_op", "norm_options": "norm_op_kwargs", "dropout": "dropout_op",
    "dropout_options": "dropout_op_kwargs", "activation": "nonlin", "stem": "stem_channels",
    "activation_options": "nonlin_kwargs", "activation_first": "nonlin_first",
    "features": "features_per_stage", "kernels": "kernel_sizes", "biased": "conv_bias",
    "decoder": "n_conv_per_stage_decoder", "bottleneck": "bottleneck_channels",
}  # fmt: skip
_OLD_NAMES = {
    "network": "UNet_class_name", "kernels": "conv_kernel_sizes",
    "least": "UNet_base_num_features", "most": "unet_max_num_features",
    "strides": "pool_op_kernel_sizes", "blocks": "n_conv_per_stage_encoder",
    "decoder": "n_conv_per_stage_decoder",
}  # fmt: skip


class _NormOptions(_Closed):
    eps: _Share | None = None
    momentum: _Share | None = None
    affine: bool | None = None
    track_running_stats: bool | None = None


class _DropoutOptions(_Closed):
    p: _Share | None = None
    inplace: bool | None = None


class _ActivationOptions(_Closed):
    negative_slope: Annotated[float, Field(ge=-10, le=10)] | None = None
    inplace: bool | None = None


def _given(options: _Closed | None) -> dict[str, Any]:
    return {name: value for name, value in options or () if value is not None}


def _of_activation(options: _ActivationOptions | None, info: ValidationInfo) -> dict[str, Any]:
    leaky = info.data.get("activation") == "LeakyReLU"
    if options and "negative_slope" in options.model_fields_set and not leaky:
        _fail("no negative_slope without LeakyReLU")
    return _given(options)


def _of_block(channels: Any, info: ValidationInfo) -> Any:
    if (channels is None) == (info.data.get("block") == "BottleneckD"):
        _fail("numbers with a block BottleneckD, and null without")
    return channels


class _Arguments(_Closed):
    """Arguments of a network; those that :class:`Architecture` has bear its names."""

    model_config = _named(_NEW_NAMES)
    conv_op: Annotated[str, _one_of(tables.CONVOLUTIONS)]
    n_stages: Annotated[int, Field(ge=2, le=tables.MOST_STAGES)]
    norm: Annotated[str, _one_of(tables.NORMS), AfterValidator(_for_axes)] | None = None
    norm_options: Annotated[_NormOptions | None, AfterValidator(_given)] = None
    dropout: Annotated[str, _one_of(tables.DROPOUTS), AfterValidator(_for_axes)] | None = None
    dropout_options: Annotated[_DropoutOptions | None, AfterValidator(_given)] = None
    activation: Annotated[str, _one_of(tables.ACTIVATIONS)] | None = None
    activation_options: Annotated[_ActivationOptions | None, AfterValidator(_of_activation)] = None
    features: _Features
    kernels: _Kernels
    strides: _Strides
    decoder: _Layers
    biased: bool = False
    deep_supervision: Any = None


class _PlainArguments(_Arguments):
    blocks: _Layers = Field(alias="n_conv_per_stage")
    activation_first: bool = False


class _ResidualArguments(_Arguments):
    blocks: _Layers = Field(alias="n_blocks_per_stage")
    block: Annotated[str, _one_of(tables.BLOCKS)] | None = None
    bottleneck: Annotated[_Features | None, BeforeValidator(_of_block)] = None
    stem: _Feature | None = None


_are_parts = _check(
    lambda names: len(names or ()) <= len(tables.CLASSES) and {*(names or ())} <= {*tables.CLASSES},
    f"a list of some of {', '.join(tables.CLASSES)}",
)


class _Described(_Strict):
    model_config = _named({"parts": "_kw_requires_import"})
    network_class_name: Annotated[str, _one_of(tables.NETWORKS)]
    arch_kwargs: dict[str, Any]
    parts: Annotated[_Names | None, _are_parts] = None


class _OldNetwork(_Strict):
    """A network in plans as written before nnunetv2 2.3, which name neither parts nor features."""

    model_config = _named(_OLD_NAMES)
    network: Annotated[str, _one_of(tables.OLD_NETWORKS)]
    patch_size: Annotated[tuple[Any, ...], _AnyList, Field(min_length=2, max_length=3)]
    kernels: Annotated[_Kernels, Field(min_length=2, max_length=tables.MOST_STAGES)]
    least: _Feature
    most: _Feature
    strides: _Strides
    blocks: _Layers
    decoder: _Layers


def read_architecture(
    configuration: Mapping[str, Any], file: Path, place: Place = ()
) -> Architecture:
    """Read the network of a configuration of the plans, in the new or the old format.

    Parameters
    ----------
    configuration : mapping
        Entry of ``plans["configurations"]``.
    file : Path
        The plans, for messages.
    place : sequence of str
        Where in the plans the configuration is.

    Raises
    ------
    ModelError
        If it is not described as nnU-Net does.
    """
    if configuration.get("architecture") is None:
        return _of_old_format(parse(_OldNetwork, dict(configuration), file, place))
    place = (*place, "architecture")
    described = parse(_Described, configuration["architecture"], file, place)
    network = described.network_class_name
    kind = _PlainArguments if network == "PlainConvUNet" else _ResidualArguments
    given = parse(kind, described.arch_kwargs, file, (*place, "arch_kwargs"))
    return _architecture(given, network=network)


def _architecture(read: BaseModel, **more: Any) -> Architecture:
    names = {field.name for field in dataclasses.fields(Architecture)}
    return Architecture(**{name: value for name, value in read if name in names}, **more)


def _of_old_format(read: _OldNetwork) -> Architecture:
    return _architecture(
        read,
        features=tuple(min(read.least * 2**n, read.most) for n in range(len(read.kernels))),
        biased=True,
        norm=f"InstanceNorm{len(read.patch_size)}d",
        norm_options={"eps": 1e-5, "affine": True},
        dropout=None,
        dropout_options={},
        activation="LeakyReLU",
        activation_options={"inplace": True},
    )


class _ResamplingOptions(_Closed):
    is_seg: bool | None = None
    force_separate_z: bool | None = None
    memefficient_seg_resampling: bool | None = None
    order: Annotated[int, Field(ge=0, le=5)] | None = None
    order_z: Annotated[int, Field(ge=0, le=5)] | None = None
    separate_z_anisotropy_threshold: Annotated[float, Field(ge=1, le=1e6)] | None = None


def _for_function(options: _ResamplingOptions | None, info: ValidationInfo) -> dict[str, Any]:
    """Return the arguments; null is kept in the one place where nnU-Net tells it from nothing."""
    given = options.model_fields_set if options else set()
    function = info.data.get(str(info.field_name).removesuffix("_kwargs"), "")
    if not given <= _RESAMPLINGS.get(function, given):
        _fail(f"arguments of {function} alone")
    null = {"force_separate_z": None} if "force_separate_z" in given else {}
    return null | _given(options)


def _for_patch(patch: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
    """Refuse a patch that the network cannot halve as often as it does, or that is huge."""
    network: Any = info.context
    if len(patch) != network.axes:
        _fail(f"{network.axes} numbers")
    steps = [math.prod(stride[axis] for stride in network.strides) for axis in range(network.axes)]
    fits = all(size % step == 0 for size, step in zip(patch, steps, strict=True))
    if not fits or math.prod(patch) > MOST_PATCH_VOXELS:
        _fail(f"multiples of {steps}, the product of the strides, and {MOST_PATCH_VOXELS} at most,")
    return patch


def _for_voxel(sizes: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    network: Any = info.context
    if len(sizes) != network.axes:
        _fail(f"{network.axes} numbers")
    return sizes


_Length = Annotated[int, Field(ge=1, le=4096)]
_Size = Annotated[float, Field(ge=0.01, le=100)]
_Function = Annotated[str, _one_of(_RESAMPLINGS.keys())]
_Options = Annotated[_ResamplingOptions | None, AfterValidator(_for_function)]


class Configuration(_Strict):
    """The entries of a configuration that inference needs; the context is its network."""

    preprocessor_name: Annotated[str, _one_of(("DefaultPreprocessor",))]
    patch_size: Annotated[tuple[_Length, ...], _AnyList, AfterValidator(_for_patch)]
    spacing: Annotated[tuple[_Size, ...], _AnyList, AfterValidator(_for_voxel)]
    normalization_schemes: Annotated[tuple[Annotated[str, _one_of(_SCHEMES)]], _AnyList]
    use_mask_for_norm: Annotated[tuple[bool], _AnyList]
    resampling_fn_data: _Function
    resampling_fn_data_kwargs: _Options = None
    resampling_fn_seg: _Function
    resampling_fn_seg_kwargs: _Options = None
    resampling_fn_probabilities: _Function
    resampling_fn_probabilities_kwargs: _Options = None


def _above(value: float, info: ValidationInfo) -> float:
    if value < info.data.get("percentile_00_5", value):
        _fail("a number above percentile_00_5")
    return value


_Intensity = Annotated[float, Field(ge=-1e12, le=1e12)]


class Intensities(_Strict):
    """Statistics of the training data, which CTNormalization needs."""

    mean: _Intensity
    std: Annotated[float, Field(ge=0, le=1e12)]
    percentile_00_5: _Intensity
    percentile_99_5: Annotated[_Intensity, AfterValidator(_above)]


_are_few = _check(
    lambda configurations: 1 <= len(configurations) <= MOST_CONFIGURATIONS,
    f"at least one configuration, at most {MOST_CONFIGURATIONS},",
)
_is_order = _check(lambda axes: len(set(axes)) == 3, "an order of the axes 0, 1 and 2")


def _is_way_back(axes: Any, info: ValidationInfo) -> Any:
    forward = info.data.get("transpose_forward", ())
    if axes is not None and axes != tuple(forward.index(axis) for axis in range(len(forward))):
        _fail("the way back of transpose_forward")
    return axes


_Axis = Annotated[int, Field(ge=0, le=2)]
_Order = Annotated[tuple[_Axis, _Axis, _Axis], _AnyList]


class Plans(_Strict):
    """What all configurations share."""

    configurations: Annotated[dict[str, Any], _are_few]
    transpose_forward: Annotated[_Order, _is_order]
    transpose_backward: Annotated[_Order | None, AfterValidator(_is_way_back)] = None
    label_manager: Annotated[str, _one_of(("LabelManager",))] | None = None
    foreground_intensity_properties_per_channel: dict[str, Any] | None = None
    foreground_intensity_properties_by_modality: dict[str, Any] | None = None


_is_one = _check(
    lambda channels: len(channels) == 1,
    "one input channel, since several contrasts cannot be run here,",
)


def _is_class(value: Any) -> Any:
    if isinstance(value, list):
        _fail("one number a class (Region-based models cannot be run here)")
    return value


def _are_classes(labels: dict[str, int]) -> dict[str, int]:
    numbers = {name: number for name, number in labels.items() if name != IGNORED}
    count, ignored = len(numbers), labels.get(IGNORED)
    if not all(name.isprintable() and 0 < len(name) <= 100 for name in labels):
        _fail("names of printable characters")
    if sorted(numbers.values()) != list(range(count)) or not 2 <= count <= MOST_CLASSES:
        _fail("a number for each class, from 0 on without gaps,")
    background = [number for name, number in numbers.items() if name.casefold() == BACKGROUND]
    if background != [0] or ignored not in (None, count):
        _fail("0 for 'background' and the largest number for 'ignore'")
    return numbers


_is_text = _check(lambda text: text.isprintable() and 0 < len(text) < 200, "a text")
_Class = Annotated[int, BeforeValidator(_is_class), Field(ge=0, le=MOST_CLASSES)]
_Text = Annotated[str, _is_text]


class Dataset(_Strict):
    """Channel, orientation and classes of a model."""

    channels: Annotated[dict[str, Any], _is_one] = Field(
        validation_alias=AliasChoices("channel_names", "modality")
    )
    image_orientation: _Text | None = None
    labels: Annotated[dict[str, _Class], AfterValidator(_are_classes)]


class _InitArguments(_Strict):
    configuration: _Text | None = None


_Axes = Annotated[tuple[_Axis, ...], _AnyList]


class Origin(_Strict):
    """What a checkpoint says about its training.

    `trainer` is nnU-Net's trainer class. The model was trained to be mirrored along `mirror_axes`
    (0=z, 1=y, 2=x).
    """

    model_config = _named(
        {"trainer": "trainer_name", "mirror_axes": "inference_allowed_mirroring_axes"}
    )
    trainer: _Text | None = None
    init_args: _InitArguments | None = None
    mirror_axes: Annotated[
        _Axes,
        BeforeValidator(lambda axes: () if axes is None else axes),
        AfterValidator(lambda axes: tuple(sorted(set(axes)))),
    ] = ()

    @property
    def configuration(self) -> str | None:
        """Name of the plans' configuration."""
        return self.init_args.configuration if self.init_args else None
