"""A model runs only if its checkpoint holds exactly the weights of the network in its plans."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from sct_rootlets_task.network.architecture import described, read_architecture, slots
from sct_rootlets_task.network.fields import Fields

HOME = "dynamic_network_architectures"
NORM = {"eps": 1e-5, "affine": True}


def network(kind: str, axes: int = 3, **changes: Any) -> dict[str, Any]:
    """Return a configuration of the plans with a small network."""
    count = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    arguments = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 6],
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": [[1] * (axes - 1) + [3], [3] * axes, [3] * axes],
        "strides": [[1] * axes, [2] * (axes - 1) + [1], [2] * axes],
        count: [1, 2, 2],
        "n_conv_per_stage_decoder": [2, 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": NORM,
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "architecture": {
            "network_class_name": f"{HOME}.architectures.unet.{kind}",
            "arch_kwargs": {**arguments, **changes},
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "patch_size": [8] * axes,
    }


BATCH = {"norm_op": "torch.nn.modules.batchnorm.BatchNorm{}d", "norm_op_kwargs": NORM}
DROPOUT = {"dropout_op": "torch.nn.Dropout{}d", "dropout_op_kwargs": {"p": 0.1}}
WAIST = {"block": f"{HOME}.building_blocks.residual.BottleneckD", "bottleneck_channels": [2, 3, 4]}
CHANGES: dict[str, dict[str, Any]] = {
    "as planned": {},
    "no bias": {"conv_bias": False},
    "batch norm": BATCH,
    "no affine norm": {"norm_op_kwargs": None},
    "tracked norm": {"norm_op_kwargs": {**NORM, "track_running_stats": True}},
    "no norm": {"norm_op": None, "norm_op_kwargs": None},
    "dropout": DROPOUT,
    "ReLU": {"nonlin": "torch.nn.modules.activation.ReLU", "nonlin_kwargs": None},
    "no activation": {"nonlin": None, "nonlin_kwargs": None},
}
OF_PLAIN = {
    "activation first": {"nonlin_first": True},
    "activation first, dropout": {"nonlin_first": True, **DROPOUT},
    "activation first, no norm": {"nonlin_first": True, "norm_op": None},
}
OF_RESIDUAL = {
    "other stem": {"stem_channels": 3},
    "waist": WAIST,
    "waist, dropout": {**WAIST, **DROPOUT},
}


def _variants() -> list[Any]:
    kinds = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
    return [
        pytest.param(kind, axes, changes, id=f"{kind}, {axes} axes, {name}")
        for kind, axes in itertools.product(kinds, (3, 2))
        for name, changes in {
            **CHANGES,
            **(OF_PLAIN if kind == "PlainConvUNet" else OF_RESIDUAL),
        }.items()
    ]


def _for_axes(changes: dict[str, Any], axes: int) -> dict[str, Any]:
    return {
        name: value.format(axes) if isinstance(value, str) else value
        for name, value in changes.items()
    }


def _torch_network(configuration: dict[str, Any], classes: int) -> Any:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = configuration["architecture"]
    imports = [
        name
        for name in architecture["arch_kwargs"]
        if name in ("conv_op", "norm_op", "dropout_op", "nonlin", "block")
    ]
    return get_network_from_plans(
        architecture["network_class_name"], architecture["arch_kwargs"], imports, 1, classes,
        allow_init=False, deep_supervision=True,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "axes", "changes"), _variants())
def test_the_weights_expected_are_those_of_the_torch_network(
    kind: str, axes: int, changes: dict[str, Any]
) -> None:
    configuration = network(kind, axes, **_for_axes(changes, axes))
    state = _torch_network(configuration, 5).state_dict()
    architecture = read_architecture(Fields(configuration, Path("plans.json")))
    expected = slots(architecture, 5)
    assert {name: slot.shape for name, slot in expected.items()} == {
        name: tuple(value.shape) for name, value in state.items()
    }
    for name, slot in expected.items():
        assert state[name].data_ptr() == state[slot.name].data_ptr(), name


@pytest.mark.parametrize(("kind", "axes", "changes"), _variants())
def test_nnunet_is_given_the_same_network_in_names_of_our_own(
    kind: str, axes: int, changes: dict[str, Any]
) -> None:
    configuration = network(kind, axes, **_for_axes(changes, axes))
    read = read_architecture(Fields(configuration, Path("plans.json")))
    again = {"architecture": described(read), "patch_size": configuration["patch_size"]}
    assert read_architecture(Fields(again, Path("plans.json"))) == read
    assert str(_torch_network(again, 5)) == str(_torch_network(configuration, 5))
