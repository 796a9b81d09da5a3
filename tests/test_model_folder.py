"""What plans.json and dataset.json may say, and what a checkpoint says about its training."""

from __future__ import annotations

import copy
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_model
import tiny_model
from rights import unprivileged
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference.loading import choose_engine
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.openvino_engine import read_weights

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


@pytest.mark.parametrize(
    ("place", "found", "path", "expected"),
    [
        (f"{FULL}patch_size", [24, "64", 16], f"{FULL}patch_size[1]", "a whole number"),
        (f"{FULL}patch_size", [24, 0, 16], f"{FULL}patch_size[1]", "a number of 1 or more"),
        (f"{FULL}spacing", [1, 1, None], f"{FULL}spacing[2]", "a number"),
        (f"{FULL}use_mask_for_norm", [1], f"{FULL}use_mask_for_norm[0]", "true or false"),
        (f"{ARGUMENTS}kernel_sizes", [[3] * 3, [3, 3.0, 3], [3] * 3],
         f"{ARGUMENTS}kernel_sizes[1][1]", "a whole number"),
        (f"{ARGUMENTS}features_per_stage", [4, 8], f"{ARGUMENTS}features_per_stage", "a list of 3"),
        (f"{ARGUMENTS}norm_op_kwargs", {"eps": 2}, f"{ARGUMENTS}norm_op_kwargs.eps", "1 at most"),
        (f"{ARGUMENTS}unknown", 1, f"{ARGUMENTS}unknown", "no such entry"),
        (f"{FULL}resampling_fn_seg_kwargs", {"order": "3"},
         f"{FULL}resampling_fn_seg_kwargs.order", "a whole number"),
        ("configurations", [], "configurations", "an object"),
        ("transpose_forward", [0, 1, 3], "transpose_forward[2]", "a number of 2 at most"),
    ],
)  # fmt: skip
def test_the_path_of_a_wrong_field_is_given_with_what_it_should_be(
    place: str, found: object, path: str, expected: str, tmp_path: Path
) -> None:
    plans = _set(small_model.plans(), place, found)
    with pytest.raises(ModelError) as raised:
        read_model_folder(_write(tmp_path, plans=plans))
    assert f"'{path}' of {tmp_path}" in str(raised.value)
    assert str(raised.value).startswith(f"Expected {expected}") or expected in str(raised.value)


@pytest.mark.parametrize("form", ["new", "old"])
@pytest.mark.parametrize("where", ["", "configurations.3d_fullres.", "dataset"])
@pytest.mark.parametrize("value", [None, 3, "x", [[]], {"a": {"b": [None]}}])
def test_entries_that_nothing_here_needs_may_be_anything(
    form: str, where: str, value: object, tmp_path: Path
) -> None:
    plans = tiny_model.plans(old_format=form == "old")
    dataset = small_model.dataset()
    if where == "dataset":
        dataset["license"] = value
    else:
        plans = _set(plans, f"{where}of_a_later_version", value)
        plans["configurations"]["of a later version"] = value
    folder = _write(tmp_path, plans=plans, dataset=dataset)
    assert read_model_folder(folder).configuration_name == "3d_fullres"


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


@pytest.mark.parametrize("engine", ["plain", "folds"])
def test_capitals_do_not_make_the_background_another_class(engine: str, tmp_path: Path) -> None:
    labels = {"Background" if engine == "plain" else "BACKGROUND": 0, "C2": 1, "C3": 2, "C4": 3}
    folder = read_model_folder(_write(tmp_path, dataset=small_model.dataset(labels)))
    assert folder.classes == labels
    expected = {"background": 0, "C2": 1, "C3": 2, "C4": 3}
    assert folder.dataset_for_nnunet["labels"] == expected


@pytest.mark.parametrize(
    "labels",
    [
        {"C2": 0, "Background": 1},
        {"Background": 0, "background": 1},
        {"Background": 0, "BACKGROUND": 1},
        {"C1": 0, "C2": 1},
    ],
)
def test_one_class_is_the_background_and_it_is_the_first(
    labels: dict[str, int], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="background"):
        read_model_folder(_write(tmp_path, dataset=small_model.dataset(labels)))


def _chain(length: int) -> dict[str, Any]:
    plans = small_model.plans()
    full = plans["configurations"].pop("3d_fullres")
    links = {f"a{i}": {"inherits_from": f"a{i + 1}"} for i in range(length - 1)}
    first = {"3d_fullres": {"inherits_from": "a0"}}
    plans["configurations"] = {**first, **links, f"a{length - 1}": full}
    return plans


def test_configurations_inherit_from_each_other_within_a_bound(tmp_path: Path) -> None:
    assert read_model_folder(_write(tmp_path / "a", plans=_chain(20))).classes
    with pytest.raises(ModelError, match="inherits from 20 at most"):
        read_model_folder(_write(tmp_path / "b", plans=_chain(21)))


@pytest.mark.parametrize("count", [101, 30_000])
def test_thousands_of_configurations_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="at most 100"):
        read_model_folder(_write(tmp_path, plans=_chain(count - 1)))


@pytest.mark.parametrize(
    "strides",
    [
        [[2, 2, 2], [2, 2, 2], [2, 2, 2]],
        [[1, 1, 2], [2, 2, 2], [2, 2, 2]],
        [[2, 1, 1], [2, 2, 2], [1, 1, 1]],
        2,
        [2, 2, 2],
    ],
)
@pytest.mark.parametrize("form", ["new", "old"])
def test_the_first_stage_has_the_size_of_the_input(
    form: str, strides: object, tmp_path: Path
) -> None:
    if form == "new":
        plans, place = small_model.plans(), f"{ARGUMENTS}strides"
    else:
        plans, place = tiny_model.plans(old_format=True), f"{FULL}pool_op_kernel_sizes"
    folder = _write(tmp_path, plans=plans)
    (folder / "plans.json").write_text(json.dumps(_set(plans, place, strides)))
    with pytest.raises(ModelError, match=place.rpartition(".")[2]):
        read_model_folder(folder)


@pytest.mark.parametrize("what", ["plans", "dataset"])
@pytest.mark.parametrize("first", [True, False])
def test_a_file_with_two_entries_of_one_name_is_refused(
    what: str, first: bool, tmp_path: Path
) -> None:
    folder = _write(tmp_path)
    path = folder / f"{what}.json"
    names = {"plans": '"transpose_forward"', "dataset": '"C2"'}
    given = path.read_text()
    second = f"{names[what]}: 1, "
    if first:
        given = given.replace(names[what], second + names[what])
    else:
        at = given.index(names[what])
        end = given.index("]" if what == "plans" else ",", at) + 1
        given = given[:end] + (", " if what == "plans" else "") + second + given[end:].lstrip(", ")
    path.write_text(given)
    with pytest.raises(ModelError, match=f"two entries '?.?{names[what][1:-1]}"):
        read_model_folder(folder)


LONG = "k" * 100_000
LONG_NAMES: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {
    "argument": (_set(small_model.plans(), f"{ARGUMENTS}{LONG}", 1), None),
    "parent": (_set(small_model.plans(), f"{FULL}inherits_from", LONG), None),
    "configurations": (
        {**small_model.plans(), "configurations": {f"{i}{LONG}": {} for i in range(8)}},
        None,
    ),
    "own parent": (
        {**small_model.plans(), "configurations": {LONG: {"inherits_from": LONG}}},
        None,
    ),
    "resampling": (_set(small_model.plans(), f"{FULL}resampling_fn_data_kwargs.{LONG}", 1), None),
    "function": (_set(small_model.plans(), f"{FULL}resampling_fn_data", LONG), None),
    "label": (None, small_model.dataset({**small_model.LABELS, LONG: 4})),
    "label's value": (None, small_model.dataset({**small_model.LABELS, LONG: LONG})),
    "orientation": (None, {**small_model.dataset(), "image_orientation": LONG}),
    "steering": (_set(small_model.plans(), f"{ARGUMENTS}\u202e\x1b[2J", 1), None),
    "steering label": (None, small_model.dataset({**small_model.LABELS, "\u202e\x1b[2J": "x"})),
}


@pytest.mark.parametrize(("plans", "dataset"), LONG_NAMES.values(), ids=LONG_NAMES)
def test_a_message_is_short_and_printable_whatever_the_files_say(
    plans: dict[str, Any] | None, dataset: dict[str, Any] | None, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as raised:
        read_weights(read_model_folder(_write(tmp_path, plans=plans, dataset=dataset)))
    assert len(str(raised.value)) < 2000
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("lost", ["plans.json", "fold_0/checkpoint_final.pth", "dataset.json"])
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_folder_s_name_cannot_steer_the_terminal(lost: str, damage: str, tmp_path: Path) -> None:
    folder = _write(tmp_path / "\u202egpj\x1b[2J")
    (folder / lost).unlink()
    if damage == "damaged":
        (folder / lost).write_bytes(b"{]")
    with pytest.raises(ModelError) as raised:
        read_weights(read_model_folder(folder))
    assert str(raised.value).isprintable()


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no closed mode")
@pytest.mark.parametrize(
    "closed", ["", "fold_0", "plans.json", "dataset.json", "fold_0/checkpoint_final.pth"]
)
def test_what_is_closed_to_the_user_is_one_error(closed: str) -> None:
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        folder = _write(Path(parent))
        mode = (folder / closed).stat().st_mode
        (folder / closed).chmod(0)
        try:
            with unprivileged(), pytest.raises(ModelError, match=r"(?i)permission denied"):
                read_weights(read_model_folder(folder))
        finally:
            (folder / closed).chmod(mode)


def _trained(**changes: Any) -> dict[str, Any]:
    """Return a checkpoint that holds the plans and the dataset of its training, as changed."""
    plans, dataset = small_model.plans(), small_model.dataset()
    for place, value in changes.pop("plans", {}).items():
        plans = _set(plans, place, value)
    for place, value in changes.pop("dataset", {}).items():
        dataset = _set(dataset, place, value)
    arguments = {"configuration": "3d_fullres", "plans": plans, "dataset_json": dataset}
    return small_model.checkpoint(init_args=arguments)


def _warnings(folder: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    read_weights(read_model_folder(folder))
    return [record.getMessage() for record in caplog.records]


CHANGED = {
    "spacing": {"plans": {f"{FULL}spacing": [1.0, 1.0, 1.0]}},
    "normalization_schemes": {"plans": {f"{FULL}normalization_schemes": ["NoNormalization"]}},
    "use_mask_for_norm": {"plans": {f"{FULL}use_mask_for_norm": [True]}},
    "resampling_fn_data_kwargs": {
        "plans": {f"{FULL}resampling_fn_data_kwargs": {"is_seg": False, "order": 1}}
    },
    "resampling_fn_probabilities": {
        "plans": {
            f"{FULL}resampling_fn_probabilities": "no_resampling_hack",
            f"{FULL}resampling_fn_probabilities_kwargs": {},
        }
    },
    "architecture": {
        "plans": {f"{ARGUMENTS}nonlin_kwargs": {"inplace": True, "negative_slope": 0.2}}
    },
    "transpose_forward": {"plans": {"transpose_forward": [2, 1, 0], "transpose_backward": None}},
    "labels": {"dataset": {"labels": {"background": 0, "C3": 1, "C2": 2, "C4": 3}}},
    "channel_names": {"dataset": {"channel_names": {"0": "CT"}}},
}


@pytest.mark.parametrize(("field", "changes"), CHANGED.items(), ids=CHANGED)
@pytest.mark.parametrize("fold", [0, 1])
def test_a_difference_from_the_training_is_warned_of_once_by_its_field(
    field: str,
    changes: dict[str, dict[str, Any]],
    fold: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folds = [_trained(), _trained()]
    folds[fold] = _trained(**copy.deepcopy(changes))
    (warning,) = _warnings(_write(tmp_path, folds=folds), caplog)
    assert field in warning
    others = set(CHANGED) - {field, "resampling_fn_probabilities"}
    assert not [name for name in others if f" {name}," in warning or f" {name}." in warning]


LIKE_THE_TRAINING: dict[str, dict[str, Any]] = {
    "same": {},
    "patch": {"plans": {f"{FULL}patch_size": [48, 32, 32]}},
    "other configuration": {"plans": {"configurations.3d_lowres.spacing": [3.0, 3.0, 3.0]}},
    "order of labels": {"dataset": {"labels": {"C4": 3, "C3": 2, "C2": 1, "background": 0}}},
    "what inference needs not": {"plans": {f"{FULL}batch_size": 7, "dataset_name": "Other"}},
    "not understood": {"plans": {"configurations": {"3d_fullres": 7}}},
    "no configurations": {"plans": {"configurations": None}},
    "old format": {
        "plans": {"configurations": tiny_model.plans(old_format=True)["configurations"]}
    },
}


@pytest.mark.parametrize("changes", LIKE_THE_TRAINING.values(), ids=LIKE_THE_TRAINING)
def test_a_model_like_its_training_runs_without_a_word(
    changes: dict[str, dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert _warnings(_write(tmp_path, folds=[_trained(**copy.deepcopy(changes))]), caplog) == []


ARRAY = np.arange(3, dtype=np.float32)


@pytest.mark.parametrize(
    "arguments",
    [
        {"plans": ARRAY, "dataset_json": ARRAY},
        {"plans": {"configurations": ARRAY}, "dataset_json": {"labels": ARRAY}},
        {"plans": {**small_model.plans(), "transpose_backward": ARRAY}},
        {"plans": _set(small_model.plans(), f"{FULL}spacing", ARRAY)},
        {"plans": _set(small_model.plans(), f"{FULL}spacing", [ARRAY, ARRAY, ARRAY])},
        {"plans": _set(small_model.plans(), f"{FULL}inherits_from", ARRAY)},
        {"dataset_json": {"labels": {"background": ARRAY}}},
        {"dataset_json": {"labels": {0: 1}, "channel_names": [ARRAY]}},
        {"plans": "x" * 1000, "dataset_json": [1]},
    ],
)
def test_whatever_a_checkpoint_holds_as_plans_is_no_error(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    fold = small_model.checkpoint(init_args={"configuration": "3d_fullres", **arguments})
    assert read_weights(read_model_folder(_write(tmp_path, folds=[fold])))
