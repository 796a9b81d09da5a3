"""The reference: SCT's recipe, driven by stock nnU-Net, sharing no code with the package."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

for _name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(_name, "unused")


def stock_predictor(trainer_folder: Path, *, mirroring: bool = False) -> Any:
    """Return stock nnU-Net's predictor for a trainer folder, all folds loaded."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(json.loads((trainer_folder / "plans.json").read_text()))
    dataset = json.loads((trainer_folder / "dataset.json").read_text())
    configuration = plans.get_configuration("3d_fullres")
    saved = [
        torch.load(path, map_location="cpu", weights_only=True)
        for path in sorted(trainer_folder.glob("fold_*/checkpoint_final.pth"))
    ]
    weights = [{k: v.float() for k, v in one["network_weights"].items()} for one in saved]
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(dataset["labels"]),
        deep_supervision=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=mirroring,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
    predictor.manual_initialization(
        network,
        plans,
        configuration,
        weights,
        dataset,
        saved[0]["trainer_name"],
        saved[0].get("inference_allowed_mirroring_axes"),
    )
    return predictor


def reference_classes(predictor: Any, image: Any, default_orientation: str = "LPI") -> np.ndarray:
    """Return the class of each voxel on the grid of a nibabel image, by SCT's recipe."""
    import nibabel as nib

    wanted = predictor.dataset_json.get("image_orientation", default_orientation)
    nibabel_codes = wanted.translate(str.maketrans("LRPAIS", "RLAPSI"))
    there = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(nibabel_codes)
    )
    turned = image.as_reoriented(there)
    data = np.asarray(turned.dataobj).transpose(2, 1, 0)[None].astype(np.float32)
    spacing = [float(str(zoom)) for zoom in turned.header.get_zooms()[2::-1]]
    classes = predictor.predict_single_npy_array(data, {"spacing": spacing})
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(nibabel_codes), nib.io_orientation(image.affine)
    )
    result = nib.Nifti1Image(classes.transpose(2, 1, 0).astype(np.uint8), turned.affine)
    return np.asarray(result.as_reoriented(back).dataobj)
