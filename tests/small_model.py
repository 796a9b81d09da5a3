"""Write small model folders with random weights, without torch; each part can be replaced."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import saved
import tiny_model
from sct_rootlets_task.inference.architecture import slots, with_trainer
from sct_rootlets_task.inference.plans import read_architecture

TRAINER = "nnUNetTrainer"
LABELS = {"background": 0, "C2": 1, "C3": 2, "C4": 3}


def plans() -> dict[str, Any]:
    """Return plans of three configurations as nnU-Net's planner makes them."""
    made = copy.deepcopy(tiny_model.plans())
    full = made["configurations"]["3d_fullres"]
    made["configurations"] = {
        "3d_fullres": full,
        "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [2.0, 2.0, 2.0]},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    return made


def dataset(labels: Mapping[str, Any] = LABELS) -> dict[str, Any]:
    return {"channel_names": {"0": "MRI"}, "labels": dict(labels), "file_ending": ".nii.gz"}


def weights(
    configuration: dict[str, Any], classes: int = 4, seed: int = 0, trainer: str = TRAINER
) -> OrderedDict[str, np.ndarray]:
    """Return random weights, by all names; names of one weight share an array, as torch does."""
    rng = np.random.default_rng(seed)
    network = with_trainer(read_architecture(configuration, Path("plans.json")), trainer)
    arrays: dict[str, np.ndarray] = {}
    found: OrderedDict[str, np.ndarray] = OrderedDict()
    for name, slot in slots(network, classes).items():
        if slot.name not in arrays:
            least = 0.5 if slot.name.endswith(("norm.weight", "running_var")) else -0.5
            arrays[slot.name] = rng.uniform(least, least + 1, slot.shape).astype(np.float32)
            if slot.name.endswith("num_batches_tracked"):
                arrays[slot.name] = np.array(3)
        found[name] = arrays[slot.name]
    return found


def checkpoint(**changes: Any) -> dict[str, Any]:
    """Return the content of a checkpoint; what is None is left out."""
    content: dict[str, Any] = {
        "network_weights": weights(tiny_model.plans()["configurations"]["3d_fullres"]),
        "optimizer_state": {"state": {0: {"momentum_buffer": np.zeros(3, np.float32)}}},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
        "_best_ema": float("nan"),
        "trainer_name": TRAINER,
        "init_args": {"configuration": "3d_fullres", "fold": "all", "plans": {"a": [[1], None]}},
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def write(
    parent: Path,
    folds: Sequence[Mapping[str, Any]] | None = None,
    *,
    name: str = f"{TRAINER}__nnUNetPlans__3d_fullres",
    plans: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
) -> Path:
    """Write a trainer folder with the content of each fold's checkpoint."""
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans or globals()["plans"]()))
    (folder / "dataset.json").write_text(json.dumps(dataset or globals()["dataset"]()))
    for number, content in enumerate([checkpoint()] if folds is None else folds):
        (folder / f"fold_{number}").mkdir()
        saved.save(content, folder / f"fold_{number}" / "checkpoint_final.pth")
    return folder
