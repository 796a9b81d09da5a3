"""A model runs only if its checkpoint holds exactly the weights of the network in its plans."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_model
import tiny_model
from sct_rootlets_task.errors import ImageError, ModelError
from sct_rootlets_task.inference.architecture import described, slots
from sct_rootlets_task.inference.loading import Options, choose_engine, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.openvino_engine import OpenVINOEngine, read_weights
from sct_rootlets_task.inference.openvino_unet import UnsupportedNetworkError
from sct_rootlets_task.inference.plans import read_architecture

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
    architecture = read_architecture(configuration, Path("plans.json"))
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
    read = read_architecture(configuration, Path("plans.json"))
    again = {"architecture": described(read), "patch_size": configuration["patch_size"]}
    assert read_architecture(again, Path("plans.json")) == read
    assert str(_torch_network(again, 5)) == str(_torch_network(configuration, 5))


Weights = dict[str, Any]
FIRST = "encoder.stages.0.0.convs.0"
HEAD = "decoder.seg_layers.1.weight"


def _rename(weights: Weights, old: str, new: str) -> None:
    weights[new] = weights.pop(old)


def _replace(weights: Weights, name: str, change: Callable[[np.ndarray], Any]) -> None:
    """Replace a weight under all names that share its array."""
    old = weights[name]
    new = change(old)
    weights.update({other: new for other, value in weights.items() if value is old})


def _spoilt(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def spoil(array: np.ndarray) -> np.ndarray:
        changed = array.astype(np.float64)
        changed.flat[changed.size // 2] = value
        return changed

    return spoil


SPOILT: dict[str, tuple[Callable[[Weights], Any], str]] = {
    "one is missing": (lambda w: w.pop("decoder.transpconvs.1.bias"), "transpconvs.*missing"),
    "one is missing under all names": (
        lambda w: [w.pop(n) for n in list(w) if n.endswith("stages.2.0.convs.0.norm.bias")
                   or n.endswith("stages.2.0.convs.0.all_modules.1.bias")],
        "norm.bias.*missing",
    ),
    "one more": (lambda w: w.update({"extra": np.zeros(3, np.float32)}), "no 'extra'"),
    "one more of a layer": (
        lambda w: w.update({f"{FIRST}.norm.running_mean": np.zeros(4, np.float32)}),
        "running_mean",
    ),
    "another convolution": (
        lambda w: w.update({"encoder.stages.0.0.convs.1.conv.bias": np.zeros(4, np.float32)}),
        "convs.1.conv.bias",
    ),
    "another name": (lambda w: _rename(w, HEAD, "decoder.seg_layers.2.weight"), "seg_layers.2"),
    "a prefix": (lambda w: [_rename(w, n, f"module.{n}") for n in list(w)], "module."),
    "a name that is a number": (lambda w: w.update({3: np.zeros(3, np.float32)}), "no '3'"),
    "another shape": (lambda w: _replace(w, f"{FIRST}.conv.bias", lambda a: a[:3]), "conv.bias"),
    "a shape turned": (lambda w: _replace(w, HEAD, np.transpose), "seg_layers"),
    "a number": (lambda w: w.update({HEAD: 3.0}), "is float"),
    "a list": (lambda w: w.update({HEAD: [3.0]}), "is list"),
    "whole numbers": (lambda w: _replace(w, HEAD, lambda a: a.astype(np.int32)), "int32"),
    "true and false": (lambda w: _replace(w, HEAD, lambda a: a > 0), "bool"),
    "NaN": (lambda w: _replace(w, f"{FIRST}.conv.weight", _spoilt(np.nan)), "finite"),
    "infinity": (lambda w: _replace(w, HEAD, _spoilt(np.inf)), "finite"),
    "minus infinity": (lambda w: _replace(w, HEAD, _spoilt(-np.inf)), "finite"),
    "more than single precision holds": (lambda w: _replace(w, HEAD, _spoilt(1e300)), "finite"),
    "another content under another name": (
        lambda w: w.update({f"{FIRST}.all_modules.0.bias": w[f"{FIRST}.conv.bias"] + 1}), "differ"
    ),
    "another content in the decoder": (
        lambda w: w.update({f"decoder.{FIRST}.conv.bias": w[f"{FIRST}.conv.bias"] * 2}), "differ"
    ),
    "two classes less in an upper head": (
        lambda w: w.update({"decoder.seg_layers.0.weight": w["decoder.seg_layers.0.weight"][:2]}),
        "seg_layers.0",
    ),
}  # fmt: skip


def _read(tmp_path: Path, content: dict[str, Any], **changes: Any) -> Any:
    return read_weights(read_model_folder(small_model.write(tmp_path, [content], **changes)))


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_weights_that_are_not_those_of_the_network_are_refused(
    tmp_path: Path, spoil: Callable[[Weights], Any], words: str
) -> None:
    content = small_model.checkpoint()
    spoil(content["network_weights"])
    with pytest.raises(ModelError, match=words):
        _read(tmp_path, content)


@pytest.mark.parametrize("found", [None, [], 3, "weights", np.zeros(3, np.float32), {}])
def test_weights_are_a_dictionary(tmp_path: Path, found: Any) -> None:
    with pytest.raises(ModelError, match="checkpoint_final"):
        _read(tmp_path, small_model.checkpoint(network_weights=found))


def test_each_weight_is_given_once_and_unchanged(tmp_path: Path) -> None:
    content = small_model.checkpoint()
    (fold,) = _read(tmp_path, content)
    saved = content["network_weights"]
    assert len(fold.arrays) == len({id(array) for array in saved.values()}) == 28
    for name, array in fold.arrays.items():
        assert np.array_equal(array, saved[name])


def test_names_of_one_weight_may_be_left_out(tmp_path: Path) -> None:
    content = small_model.checkpoint()
    weights = content["network_weights"]
    for name in [name for name in weights if "all_modules" in name or "decoder.encoder" in name]:
        del weights[name]
    assert len(_read(tmp_path, content)[0].arrays) == 28


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_weights_of_other_precisions_are_read(tmp_path: Path, kind: str) -> None:
    content = small_model.checkpoint()
    weights = content["network_weights"]
    for name in list(weights):
        if weights[name].dtype == np.float32:
            _replace(weights, name, lambda array: array.astype(kind))
    (fold,) = _read(tmp_path, content)
    assert {array.dtype.name for array in fold.arrays.values()} == {kind}


def test_weights_that_share_their_numbers_are_refused(tmp_path: Path) -> None:
    """A few numbers in the file could fill any memory."""
    plans = tiny_model.plans()
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments.update(n_conv_per_stage=[1, 1, 60], features_per_stage=[4, 8, 32])
    weights = small_model.weights(plans["configurations"]["3d_fullres"])
    shared = weights["encoder.stages.2.0.convs.1.conv.weight"]
    for name, array in weights.items():
        if array.shape == shared.shape:
            weights[name] = shared
    with pytest.raises(ModelError, match="share their numbers"):
        _read(tmp_path, small_model.checkpoint(network_weights=weights), plans=plans)


LEVELS = {"background": 0, **{f"C{n + 1}": n for n in range(1, 7)}}


@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_classes_and_heads_agree(tmp_path: Path, count: int) -> None:
    """The checkpoint has four heads."""
    dataset = small_model.dataset(dict(list(LEVELS.items())[:count]))
    with pytest.raises(ModelError, match=r"seg_layers.*\(4, 8, 1, 1, 1\)"):
        _read(tmp_path, small_model.checkpoint(), dataset=dataset)


@pytest.mark.parametrize(
    "change",
    [
        {"n_conv_per_stage": [1, 1, 2]},
        {"n_conv_per_stage": 2},
        {"n_conv_per_stage_decoder": [1, 2]},
        {"n_stages": 2, "kernel_sizes": [3, 3], "strides": [1, 2], "features_per_stage": [4, 8],
         "n_conv_per_stage": 1, "n_conv_per_stage_decoder": [1]},
        {"features_per_stage": [4, 8, 16]},
        {"features_per_stage": [2**14, 2**14, 2**14]},
        {"features_per_stage": 8},
        {"kernel_sizes": [[3, 3, 3], [3, 3, 3], [1, 3, 3]]},
        {"kernel_sizes": [[31, 31, 31]] * 3},
        {"strides": [[1, 1, 1], [2, 2, 2], [2, 2, 1]]},
        {"conv_bias": False},
        {"norm_op": None},
        {"norm_op_kwargs": {"eps": 1e-5, "affine": False}},
        {"norm_op_kwargs": {"eps": 1e-5, "affine": True, "track_running_stats": True}},
        {"norm_op": "torch.nn.BatchNorm3d"},
        {"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.1}},
        {"nonlin_first": True},
    ],
    ids=str,
)  # fmt: skip
def test_plans_of_another_network_are_refused_before_it_is_built(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    plans = tiny_model.plans()
    described = plans["configurations"]["3d_fullres"]["architecture"]
    described["arch_kwargs"] = {**copy.deepcopy(described["arch_kwargs"]), **change}
    with pytest.raises(ModelError, match="do not fit the network"):
        _read(tmp_path, small_model.checkpoint(), plans=plans)


def test_folds_of_different_networks_are_refused(tmp_path: Path) -> None:
    other = small_model.weights(tiny_model.plans()["configurations"]["3d_fullres"], classes=5)
    folds = [small_model.checkpoint(), small_model.checkpoint(network_weights=other)]
    with pytest.raises(ModelError, match=r"fold_1.*seg_layers"):
        read_weights(read_model_folder(small_model.write(tmp_path, folds)))


BATCH_NORM = "nnUNetTrainerBN"


def _batch_norm(trainer: str | None) -> dict[str, Any]:
    """Return a checkpoint of nnU-Net's trainer with batch norm, under the name of a trainer."""
    configuration = tiny_model.plans()["configurations"]["3d_fullres"]
    weights = small_model.weights(configuration, trainer=BATCH_NORM)
    return small_model.checkpoint(network_weights=weights, trainer_name=trainer)


def test_a_model_with_batch_norm_is_left_to_nnunet(tmp_path: Path) -> None:
    folder = read_model_folder(small_model.write(tmp_path, [_batch_norm(BATCH_NORM)]))
    assert choose_engine(folder, "auto", "cpu") == "nnunet"
    (fold,) = read_weights(folder)
    assert f"{FIRST}.norm.running_mean" in fold.arrays
    with pytest.raises(UnsupportedNetworkError, match="BatchNorm3d"):
        OpenVINOEngine(folder, fold)


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerBN_100epochs", None])
def test_batch_norm_under_the_name_of_another_trainer_is_refused(
    tmp_path: Path, trainer: str | None
) -> None:
    with pytest.raises(ModelError, match="running_mean"):
        _read(tmp_path, _batch_norm(trainer))


def test_the_trainer_with_batch_norm_needs_its_statistics(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"norm.*missing"):
        _read(tmp_path, small_model.checkpoint(trainer_name=BATCH_NORM))


@pytest.mark.network
@pytest.mark.parametrize("engine", ["nnunet", "torch"])
def test_a_model_with_batch_norm_runs_as_it_was_trained(tmp_path: Path, engine: str) -> None:
    """The labels are those of the same network whose plans say batch norm themselves."""
    one = small_model.write(tmp_path / "trainer", [_batch_norm(BATCH_NORM)])
    plans = tiny_model.plans()
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["norm_op"] = "torch.nn.modules.batchnorm.BatchNorm3d"
    other = small_model.write(tmp_path / "plans", [_batch_norm("nnUNetTrainer")], plans=plans)
    volume = np.random.default_rng(0).random((26, 18, 17)).astype(np.float32)
    labels = [
        load_network(read_model_folder(path), Options(engine=engine, device="cpu")).predict(
            volume, (1.0, 1.0, 1.0)
        )
        for path in (one, other)
    ]
    assert len(np.unique(labels[0])) > 1
    assert np.array_equal(*labels)


@pytest.mark.network
@pytest.mark.parametrize("engine", ["openvino", "torch", "nnunet"])
def test_all_engines_run_a_model_with_a_label_to_ignore(tmp_path: Path, engine: str) -> None:
    dataset = small_model.dataset({**small_model.LABELS, "ignore": 4})
    folder = read_model_folder(small_model.write(tmp_path, dataset=dataset))
    network = load_network(folder, Options(engine=engine, device="cpu"))
    volume = np.random.default_rng(0).random((26, 18, 17)).astype(np.float32)
    assert set(np.unique(network.predict(volume, (1.0, 1.0, 1.0)))) <= {0, 1, 2, 3}


@pytest.mark.network
@pytest.mark.parametrize("engine", ["openvino", "torch", "nnunet"])
@pytest.mark.parametrize("factor", [1e4, 1e30])
@pytest.mark.parametrize("roi_mask", [True, False])
def test_logits_beyond_half_precision_are_no_labels(
    tmp_path: Path, engine: str, factor: float, roi_mask: bool
) -> None:
    content = small_model.checkpoint()
    _replace(content["network_weights"], HEAD, lambda array: array * np.float32(factor))
    folder = read_model_folder(small_model.write(tmp_path, [content]))
    network = load_network(folder, Options(engine=engine, device="cpu"))
    volume = np.random.default_rng(0).random((26, 18, 17)).astype(np.float32)
    mask = np.ones(volume.shape, bool) if roi_mask else None
    with pytest.raises(ModelError, match="the model is broken"):
        network.predict(volume, (1.0, 1.0, 1.0), mask)


def _flat(tmp_path: Path, **changes: Any) -> Path:
    """Write a 2-D model."""
    plans = tiny_model.plans()
    configuration = plans["configurations"].pop("3d_fullres")
    configuration.update(network("PlainConvUNet", 2), spacing=[1.0, 1.1])
    plans["configurations"]["2d"] = configuration
    origin = {"init_args": {"configuration": "2d"}, "inference_allowed_mirroring_axes": (0, 1)}
    content = small_model.checkpoint(
        network_weights=small_model.weights(configuration), **{**origin, **changes}
    )
    return small_model.write(tmp_path, [content], plans=plans)


@pytest.mark.network
def test_a_model_of_two_axes_is_run_by_nnunet(tmp_path: Path) -> None:
    folder = read_model_folder(_flat(tmp_path))
    assert choose_engine(folder, "auto", "cpu") == "nnunet"
    network = load_network(folder, Options(device="cpu", test_time_aug=True))
    volume = np.random.default_rng(0).random((9, 18, 17)).astype(np.float32)
    assert network.predict(volume, (1.0, 1.0, 1.0)).shape == volume.shape


def test_a_model_of_two_axes_is_not_mirrored_along_a_third(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="axes below 2"):
        read_weights(read_model_folder(_flat(tmp_path, inference_allowed_mirroring_axes=(0, 2))))


@pytest.mark.network
@pytest.mark.parametrize("engine", ["openvino", "torch", "nnunet"])
def test_voxels_that_would_fill_the_memory_are_refused(tmp_path: Path, engine: str) -> None:
    plans = tiny_model.plans(spacing=(0.01, 0.01, 0.01))
    folder = read_model_folder(small_model.write(tmp_path, plans=plans))
    network = load_network(folder, Options(engine=engine, device="cpu"))
    volume = np.random.default_rng(0).random((30, 30, 30)).astype(np.float32)
    with pytest.raises(ImageError, match=r"0\.01.*Crop the image"):
        network.predict(volume, (1.0, 1.0, 1.0))
