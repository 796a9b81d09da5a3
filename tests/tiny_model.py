"""Write a tiny nnU-Net model folder with random weights, for tests of the real loading code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TRAINER = "nnUNetTrainer_2000epochs__nnUNetPlans__3d_fullres"
BASIC_BLOCK = "dynamic_network_architectures.building_blocks.residual.BasicBlockD"
FEATURES = (4, 8, 8)
STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2))


def architecture() -> dict[str, Any]:
    n = len(FEATURES)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": n,
            "features_per_stage": list(FEATURES),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * n,
            "strides": [list(stride) for stride in STRIDES],
            "n_conv_per_stage": [1] * n,
            "n_conv_per_stage_decoder": [1] * (n - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _old_format_architecture() -> dict[str, Any]:
    """Describe the same network as nnunetv2 2.2 did."""
    n = len(FEATURES)
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": FEATURES[0],
        "unet_max_num_features": FEATURES[-1],
        "n_conv_per_stage_encoder": [1] * n,
        "n_conv_per_stage_decoder": [1] * (n - 1),
        "num_pool_per_axis": [2, 2, 2],
        "pool_op_kernel_sizes": [list(stride) for stride in STRIDES],
        "conv_kernel_sizes": [[3, 3, 3]] * n,
    }


def plans(
    patch: Sequence[int] = (24, 16, 16),
    spacing: Sequence[float] = (0.9, 1.0, 1.1),
    *,
    old_format: bool = False,
) -> dict[str, Any]:
    resample = "resample_data_or_seg_to_shape"
    orders = {"order_z": 0, "force_separate_z": None}
    network = _old_format_architecture() if old_format else {"architecture": architecture()}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "median_image_size_in_voxels": [30.0, 30.0, 30.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": resample,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **orders},
        "resampling_fn_seg": resample,
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **orders},
        "resampling_fn_probabilities": resample,
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **orders},
        "batch_dice": False,
        **network,
    }
    return {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": list(spacing),
        "original_median_shape_after_transp": [30, 30, 30],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


def dataset(orientation: str | None = "RPI", n_levels: int = 9) -> dict[str, Any]:
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, n_levels + 1)}}
    content: dict[str, Any] = {
        "channel_names": {"0": "MRI"},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    if orientation:
        content["image_orientation"] = orientation
    return content


def write_model(
    parent: Path,
    *,
    folds: Sequence[str] = ("all",),
    orientation: str | None = "RPI",
    old_format: bool = False,
    seed: int = 0,
) -> Path:
    """Write a trainer folder with random weights and return it."""
    import os

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, "unused")
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    folder = parent / TRAINER
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans(old_format=old_format)))
    (folder / "dataset.json").write_text(json.dumps(dataset(orientation)))
    described = architecture()
    for number, fold in enumerate(folds):
        torch.manual_seed(seed + number)
        network = get_network_from_plans(
            described["network_class_name"],
            described["arch_kwargs"],
            described["_kw_requires_import"],
            1,
            10,
            deep_supervision=False,
        )
        (folder / f"fold_{fold}").mkdir()
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": "nnUNetTrainer_2000epochs",
                "init_args": {"configuration": "3d_fullres", "fold": fold},
                "inference_allowed_mirroring_axes": (0, 1, 2),
            },
            folder / f"fold_{fold}" / "checkpoint_final.pth",
        )
    return folder
