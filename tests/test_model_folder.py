"""What plans.json and dataset.json may say, and what a checkpoint says about its training."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import small_model
import tiny_model
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.network.engines import read_weights
from sct_rootlets_task.network.loading import choose_engine
from sct_rootlets_task.network.model_folder import ModelFolder, read_model_folder

SYSTEM = "torch.nn.modules.module.torch.os.system"
HOME = "dynamic_network_architectures"


def _set(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return an object with the value at a dotted path replaced."""
    changed = copy.deepcopy(content)
    *parents, last = path.split(".")
    inner = changed
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return changed


def _write(folder: Path, *, plans: dict[str, Any] | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return small_model.write(folder, plans=plans, **changes)


FULL = "configurations.3d_fullres."
ARCHITECTURE = f"{FULL}architecture."
ARGUMENTS = f"{ARCHITECTURE}arch_kwargs."


@pytest.fixture
def _nnunet_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import pydoc

    def fail(name: str, *_: object) -> None:
        raise AssertionError(f"{name} was looked up")

    monkeypatch.setattr(pydoc, "locate", fail)


@pytest.mark.usefixtures("_nnunet_is_not_asked")
@pytest.mark.parametrize("place", ["conv_op", "norm_op", "dropout_op", "nonlin", "block"])
@pytest.mark.parametrize(
    "found",
    [
        *(
            SYSTEM,
            "os.system",
            "torch.hub.load",
            "torch.nn.modules",
            "torch.nn.Module",
            "torch.nn.",
        ),
        *(
            "torch.nn.Sequential",
            "torch.nn.LeakyReLU.__init__",
            "torch.nn.leakyrelu",
            "builtins.id",
        ),
        *(f"{HOME}.architectures.unet.PlainConvUNet", "", 3, ["os.system"], {"a": 1}, True),
    ],
)
def test_parts_that_nnunet_does_not_write_are_refused(
    tmp_path: Path, place: str, found: object
) -> None:
    plans = _set(small_model.plans(), ARGUMENTS + place, found)
    with pytest.raises(ModelError, match=rf"{place}.* of .*plans\.json"):
        read_model_folder(_write(tmp_path, plans=plans))


@pytest.mark.usefixtures("_nnunet_is_not_asked")
@pytest.mark.parametrize(
    ("place", "found"),
    [
        (f"{ARCHITECTURE}network_class_name", "torch.hub.load"),
        (f"{ARCHITECTURE}network_class_name", f"{HOME}.architectures.unet.torch.hub.load"),
        (f"{ARCHITECTURE}network_class_name", f"{HOME}.architectures.unet.UNetDecoder"),
        (f"{ARCHITECTURE}network_class_name", f"{HOME}.architectures.primus.Primus"),
        (f"{ARCHITECTURE}network_class_name", "PlainConvUNet"),
        (f"{ARCHITECTURE}network_class_name", None),
        (f"{ARCHITECTURE}_kw_requires_import", ["conv_op", "features_per_stage"]),
        (f"{ARCHITECTURE}_kw_requires_import", "conv_op"),
        (f"{ARGUMENTS}activation", SYSTEM),
        (f"{ARGUMENTS}nonlin_kwargs", {"command": "id"}),
        (f"{ARGUMENTS}nonlin_kwargs", {"inplace": "id"}),
        (f"{ARGUMENTS}norm_op_kwargs", {"eps": "1e-5"}),
        (f"{ARGUMENTS}norm_op_kwargs", {"eps": 1e-5, "device": "meta"}),
        (f"{ARGUMENTS}dropout_op_kwargs", {"p": 2}),
        (f"{FULL}preprocessor_name", "shutil"),
        (f"{FULL}preprocessor_name", "DefaultPreprocessor.run_case"),
        (f"{FULL}normalization_schemes", ["ABC"]),
        (f"{FULL}normalization_schemes", ["os.system"]),
        (f"{FULL}normalization_schemes", "ZScoreNormalization"),
        (f"{FULL}resampling_fn_data", "np"),
        (f"{FULL}resampling_fn_seg", "torch"),
        (f"{FULL}resampling_fn_probabilities", "get_do_separate_z"),
        (f"{FULL}resampling_fn_data_kwargs", {"is_seg": False, "dtype_out": "O"}),
        (f"{FULL}resampling_fn_probabilities_kwargs", {"order": 99}),
        ("label_manager", "torch"),
        ("label_manager", ["LabelManager"]),
    ],
)
def test_names_and_arguments_that_nnunet_does_not_write_are_refused(
    tmp_path: Path, place: str, found: object
) -> None:
    plans = _set(small_model.plans(), place, found)
    with pytest.raises(ModelError, match=place.rsplit(".", 1)[-1]):
        read_model_folder(_write(tmp_path, plans=plans))


@pytest.mark.usefixtures("_nnunet_is_not_asked")
@pytest.mark.parametrize("name", ["Transformer", SYSTEM, None, 3, "torch.hub.load"])
def test_plans_of_the_old_format_name_two_networks_only(tmp_path: Path, name: object) -> None:
    plans = _set(tiny_model.plans(old_format=True), f"{FULL}UNet_class_name", name)
    with pytest.raises(ModelError, match="UNet_class_name"):
        read_model_folder(_write(tmp_path, plans=plans))


WRONG_PLANS: list[tuple[str, object]] = [
    ("configurations", []),
    ("configurations", "3d_fullres"),
    ("configurations", {}),
    ("configurations.3d_fullres", []),
    ("configurations.3d_fullres", None),
    ("configurations.3d_fullres", "3d_lowres"),
    ("transpose_forward", [0, 1, 1]),
    ("transpose_forward", [0, 1]),
    ("transpose_forward", [0, 1, 3]),
    ("transpose_forward", [0.0, 1.0, 2.0]),
    ("transpose_forward", [False, True, 2]),
    ("transpose_forward", "012"),
    ("transpose_backward", [1, 0, 2]),
    ("foreground_intensity_properties_per_channel", [1]),
    *((f"{FULL}{name}", None) for name in ("patch_size", "spacing", "use_mask_for_norm")),
    *((f"{FULL}patch_size", v) for v in ("24", [24, 16], [0, 16, 16], [-24, 16, 16])),
    *((f"{FULL}patch_size", v) for v in ([24.0, 16, 16], [25, 16, 16], [True, 16, 16])),
    *((f"{FULL}patch_size", v) for v in ([2**20, 16, 16], [4096, 4096, 4096], [[24], 16, 16])),
    *((f"{FULL}spacing", v) for v in ([1, 1], [0, 1, 1], [-1, 1, 1], ["1", 1, 1], [1e9, 1, 1])),
    *((f"{FULL}spacing", v) for v in ([None, 1, 1], [True, 1, 1], {"a": 1}, [1e-9, 1, 1])),
    *((f"{FULL}use_mask_for_norm", v) for v in ([], [0], ["false"], [False, False], True)),
    (f"{FULL}resampling_fn_data_kwargs", []),
    (f"{FULL}resampling_fn_data_kwargs", {"order": 3.5}),
    (f"{FULL}previous_stage", "3d_lowres"),
    *((f"{FULL}inherits_from", v) for v in ("3d_fullres", "no_such", 3, ["3d_lowres"], {})),
    *((f"{ARGUMENTS}n_stages", v) for v in (0, 1, -3, "3", 3.0, None, 10**9, True)),
    *((f"{ARGUMENTS}features_per_stage", v) for v in ([4, 8], [4, 8, 0], [4, 8, -8], "488", None)),
    *((f"{ARGUMENTS}features_per_stage", v) for v in ([4, 8, 10**9], [4, 8, 8.0], [4, 8, True])),
    *((f"{ARGUMENTS}kernel_sizes", v) for v in ([[3] * 3] * 2, [[3] * 2] * 3, [3, 3, "3"], 4)),
    *((f"{ARGUMENTS}kernel_sizes", v) for v in ([[3, 3, 2]] * 3, [[3, 3, 10**6]] * 3, None)),
    *((f"{ARGUMENTS}strides", v) for v in ([[1] * 3] * 4, [[0] * 3] * 3, [[2, 2, -2]] * 3, {})),
    *((f"{ARGUMENTS}n_conv_per_stage", v) for v in ([1, 1], [1, 1, 0], [1, 1, 10**6], 0, None)),
    *((f"{ARGUMENTS}n_conv_per_stage_decoder", v) for v in ([1], [1, 1, 1], ["1", 1], 10**9)),
    *((f"{ARGUMENTS}conv_bias", v) for v in ("true", 1)),
    (f"{ARGUMENTS}conv_op", "torch.nn.Conv2d"),
    (f"{ARGUMENTS}norm_op", "torch.nn.InstanceNorm2d"),
    *((f"{FULL}architecture", v) for v in ([], "PlainConvUNet", {}, 3)),
]


@pytest.mark.parametrize(("place", "found"), WRONG_PLANS, ids=str)
def test_a_wrong_field_of_the_plans_is_named(tmp_path: Path, place: str, found: object) -> None:
    plans = _set(small_model.plans(), place, found)
    with pytest.raises(ModelError, match=r"plans\.json") as raised:
        read_model_folder(_write(tmp_path, plans=plans))
    assert place.rsplit(".", 1)[-1] in str(raised.value)
    assert str(raised.value).count(". ") <= 3


BACKGROUND = {"background": 0}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("labels", None),
        ("labels", []),
        ("labels", BACKGROUND),
        ("labels", {"0": "background", "1": "C2"}),
        ("labels", {**BACKGROUND, "C2": "1"}),
        ("labels", {**BACKGROUND, "C2": 1.0}),
        ("labels", {**BACKGROUND, "C2": True}),
        ("labels", {**BACKGROUND, "C2": -1}),
        ("labels", {**BACKGROUND, "C2": 2}),
        ("labels", {**BACKGROUND, "C2": 1, "C3": 1}),
        ("labels", {**BACKGROUND, "C2": 1, "C3": 3}),
        ("labels", {**BACKGROUND, **{f"c{n}": n for n in range(1, 300)}}),
        ("labels", {**BACKGROUND, "C2": [1]}),
        ("labels", {**BACKGROUND, "C2": 1, "C3": [1, 2]}),
        ("labels", {"C2": 0, "C3": 1}),
        ("labels", {"C2": 0, "background": 1}),
        ("labels", {**BACKGROUND, "C2": 1, "ignore": 1}),
        ("labels", {**BACKGROUND, "C2": 1, "ignore": 3}),
        ("labels", {**BACKGROUND, "": 1}),
        ("labels", {**BACKGROUND, "\x1b[2J": 1}),
        ("labels", {**BACKGROUND, "\ud800": 1}),
        ("channel_names", {}),
        ("channel_names", ["MRI"]),
        ("channel_names", {"0": "T1", "1": "T2"}),
        ("image_orientation", "XYZ"),
        ("image_orientation", "LP"),
        ("image_orientation", 3),
        ("image_orientation", ["L", "P", "I"]),
    ],
    ids=str,
)
def test_a_wrong_field_of_the_dataset_is_named(tmp_path: Path, name: str, found: object) -> None:
    dataset = {**small_model.dataset(), name: found}
    with pytest.raises(ModelError, match=rf"(?s){name}.*dataset\.json"):
        read_model_folder(_write(tmp_path, dataset=dataset))


@pytest.mark.parametrize("file", ["plans.json", "dataset.json"])
@pytest.mark.parametrize(
    "text",
    [
        *(
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"[]",
            b"null",
            b"",
            b"\xff\xfe{}",
            b"{" + b" " * 2**23,
        ),
        *(b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": 1e999}', b'{"a": ' + b"9" * 5000 + b"}"),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_json_without_end_or_of_no_numbers_is_refused(
    tmp_path: Path, file: str, text: bytes
) -> None:
    folder = _write(tmp_path)
    (folder / file).write_bytes(text)
    with pytest.raises(ModelError, match=file.replace(".", r"\.")):
        read_model_folder(folder)


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    folder = _write(tmp_path)
    for file in ("plans.json", "dataset.json"):
        (folder / file).write_bytes(b"\xef\xbb\xbf" + (folder / file).read_bytes())
    assert read_model_folder(folder).configuration_name == "3d_fullres"


@pytest.mark.parametrize("scheme", ["CTNormalization", "ZScoreNormalization"])
@pytest.mark.parametrize("std", [None, -1.0, "1", {}, 30.0])
def test_intensities_are_checked_where_they_are_needed(
    tmp_path: Path, scheme: str, std: object
) -> None:
    known = {"mean": 1.0, "percentile_00_5": 0.0, "percentile_99_5": 2.0, "std": std}
    plans = _set(small_model.plans(), f"{FULL}normalization_schemes", [scheme])
    plans["foreground_intensity_properties_per_channel"] = {"0": known}
    folder = _write(tmp_path, plans=plans)
    if scheme == "CTNormalization" and std != 30.0:
        with pytest.raises(ModelError, match=r"std.*plans\.json"):
            read_model_folder(folder)
    else:
        assert choose_engine(read_model_folder(folder), "auto", "cpu") == "openvino"


@pytest.mark.parametrize("turned", [{"order": 3}, {"order_z": 1}, {"is_seg": True}, {}])
def test_other_ways_to_resample_are_left_to_nnunet(tmp_path: Path, turned: dict[str, Any]) -> None:
    plans = small_model.plans()
    plans["configurations"]["3d_fullres"]["resampling_fn_probabilities_kwargs"].update(turned)
    expected = "nnunet" if turned else "openvino"
    assert (
        choose_engine(read_model_folder(_write(tmp_path, plans=plans)), "auto", "cpu") == expected
    )


def test_the_label_to_ignore_is_no_class(tmp_path: Path) -> None:
    dataset = small_model.dataset({**small_model.LABELS, "ignore": 4})
    folder = read_model_folder(_write(tmp_path, dataset=dataset))
    assert folder.classes == small_model.LABELS
    assert read_weights(folder)


def _named(name: str) -> str:
    return f"nnUNetTrainer__nnUNetPlans__{name}"


def _origin(**arguments: object) -> dict[str, Any]:
    return small_model.checkpoint(init_args=arguments)


@pytest.mark.parametrize("name", [_named("3d_fullres"), _named("3d_lowres"), "model", "a__b"])
@pytest.mark.parametrize("trained", ["3d_fullres", "3d_lowres"])
def test_the_checkpoint_says_which_configuration_it_is(
    tmp_path: Path, name: str, trained: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = _write(tmp_path, name=name, folds=[_origin(configuration=trained)])
    with caplog.at_level(logging.WARNING):
        folder = read_model_folder(path)
    assert folder.configuration_name == trained
    assert folder.configuration["spacing"] == ([2.0] * 3 if "low" in trained else [0.9, 1.0, 1.1])
    assert bool(caplog.records) == (name.startswith("nnU") and not name.endswith(trained))
    assert read_weights(folder)


@pytest.mark.parametrize("name", ["3d_fullres", "3d_lowres"])
def test_the_name_of_the_folder_says_it_else(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path, name=_named(name), folds=[_origin(fold=0)])
    assert read_model_folder(path).configuration_name == name


def test_where_nothing_says_it_the_user_is_asked(tmp_path: Path) -> None:
    path = _write(tmp_path, name="model", folds=[_origin(fold=0)])
    with pytest.raises(ModelError, match=r"'3d_fullres', '3d_lowres'.* nnUNetTrainer__"):
        read_model_folder(path)


def test_a_single_configuration_needs_no_name(tmp_path: Path) -> None:
    folder = read_model_folder(
        _write(tmp_path, name="model", plans=tiny_model.plans(), folds=[_origin(fold=0)])
    )
    assert folder.configuration_name == "3d_fullres"


@pytest.mark.parametrize("plans", [small_model.plans(), tiny_model.plans()])
def test_a_configuration_that_the_plans_lack_is_refused(
    tmp_path: Path, plans: dict[str, Any]
) -> None:
    path = _write(tmp_path, plans=plans, folds=[_origin(configuration="3d_huge")])
    with pytest.raises(ModelError, match="3d_huge"):
        read_weights(read_model_folder(path))


def test_the_second_stage_of_a_cascade_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, folds=[_origin(configuration="3d_cascade_fullres")])
    with pytest.raises(ModelError, match="cascade"):
        read_model_folder(path)


def _load(path: Path) -> ModelFolder:
    folder = read_model_folder(path)
    choose_engine(folder, "auto", "cpu")
    read_weights(folder)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer_name": 3},
        {"trainer_name": ["nnUNetTrainer"]},
        {"trainer_name": "\x1b[2J"},
        {"init_args": []},
        {"init_args": "3d_fullres"},
        {"init_args": {"configuration": 3}},
        {"init_args": {"configuration": ["3d_fullres"]}},
        {"init_args": {"configuration": ""}},
        {"inference_allowed_mirroring_axes": (3,)},
        {"inference_allowed_mirroring_axes": (-1,)},
        {"inference_allowed_mirroring_axes": (0.0,)},
        {"inference_allowed_mirroring_axes": (True,)},
        {"inference_allowed_mirroring_axes": ("0",)},
        {"inference_allowed_mirroring_axes": 2},
        {"inference_allowed_mirroring_axes": {"a": 0}},
    ],
    ids=str,
)
def test_what_a_checkpoint_says_about_itself_is_checked(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = _write(tmp_path, folds=[small_model.checkpoint(**changes)])
    with pytest.raises(ModelError, match=f"{next(iter(changes))}.*checkpoint_final"):
        _load(path)


@pytest.mark.parametrize("axes", [None, (), [], (2, 0), [1]])
def test_axes_to_mirror_may_be_none_or_some(tmp_path: Path, axes: Any) -> None:
    content = small_model.checkpoint(inference_allowed_mirroring_axes=axes)
    (fold,) = read_weights(_load(_write(tmp_path, folds=[content])))
    assert fold.mirror_axes == tuple(sorted(axes or ()))


@pytest.mark.parametrize(
    "change",
    [
        {"trainer_name": "nnUNetTrainerBN"},
        {"trainer_name": "nnUNetTrainerNoMirroring"},
        {"init_args": {"configuration": "3d_lowres"}},
        {"inference_allowed_mirroring_axes": (0,)},
    ],
    ids=str,
)
def test_folds_of_different_trainings_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = _write(tmp_path, folds=[small_model.checkpoint(), small_model.checkpoint(**change)])
    with pytest.raises(ModelError, match="fold_1"):
        _load(path)


@pytest.mark.parametrize("name", ["fold_²", "fold_" + "9" * 200, "fold_-1", "fold_x", "fold_"])
def test_folders_that_are_no_fold_are_passed_over(tmp_path: Path, name: str) -> None:
    path = _write(tmp_path)
    (path / name).mkdir()
    assert len(read_model_folder(path).checkpoints) == 1


def test_inheritance_goes_over_several_steps(tmp_path: Path) -> None:
    plans = small_model.plans()
    plans["configurations"]["3d_small"] = {"inherits_from": "3d_lowres", "patch_size": [16, 16, 16]}
    path = _write(tmp_path, plans=plans, folds=[_origin(configuration="3d_small")])
    configuration = read_model_folder(path).configuration
    assert (configuration["patch_size"], configuration["spacing"]) == ([16] * 3, [2.0] * 3)


@pytest.mark.parametrize(
    "names", [("a", "b"), ("a", "b", "c", "a"), ("a",)], ids=lambda names: " ".join(names)
)
def test_inheritance_in_a_circle_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    plans = small_model.plans()
    for one, other in zip(names, (*names[1:], names[0]), strict=True):
        plans["configurations"][one] = {"inherits_from": other}
    path = _write(tmp_path, plans=plans, folds=[_origin(configuration="a")])
    with pytest.raises(ModelError, match="inherits_from"):
        read_model_folder(path)


def test_plans_are_never_changed_by_reading(tmp_path: Path) -> None:
    path = _write(tmp_path)
    folder = read_model_folder(path)
    assert folder.plans == json.loads((path / "plans.json").read_text())
    assert folder.dataset == json.loads((path / "dataset.json").read_text())
