"""Write a model as costly as a larger network that computes what a small one does.

    python -m benchmarks.wide OUT [--model FOLDER] [--features 32 64 128 256 320]
        [--patch 256 128 64]

The weights of the small network are put into a network of more features; the rest is zero. Padded
channels stay zero through convolution, instance norm and leaky ReLU, since the norm's scale and
shift are zero there. So the logits are those of the small network on the same patch. Speed can then
be measured at the cost of the published models, on predictions that look like theirs.

The published sibling has a sixth stage. It cannot be padded: a stage's instance norm would take the
mean out of what it should pass on. It holds about 0.1 % of the multiply-adds, printed at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED
from training.widen import widened

FEATURES, PATCH = (32, 64, 128, 256, 320), (256, 128, 64)
CHECKPOINT = Path("fold_all") / "checkpoint_final.pth"


def wide_plans(plans: dict[str, Any], features: list[int], patch: list[int]) -> dict[str, Any]:
    """Return plans with other features and another patch."""
    plans = copy.deepcopy(plans)
    configuration = plans["configurations"]["3d_fullres"]
    configuration["patch_size"] = patch
    configuration["architecture"]["arch_kwargs"]["features_per_stage"] = features
    return plans


def build(plans: dict[str, Any], n_classes: int) -> Any:
    """Return the untrained network of plans, in torch."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    described = plans["configurations"]["3d_fullres"]["architecture"]
    return get_network_from_plans(
        described["network_class_name"], described["arch_kwargs"], described["_kw_requires_import"],
        1, n_classes, deep_supervision=False,
    )  # fmt: skip


def write_wide(model: Path, out: Path, features: list[int], patch: list[int]) -> Path:
    """Write the model folder of a widened model and return it."""
    import torch

    folder = read_model_folder(model)
    plans = wide_plans(dict(folder.plans), features, patch)
    network = build(plans, len(folder.classes))
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights = widened(Checkpoint(folder.checkpoints[0]).read()["network_weights"], zeros)
    target = out / model.name
    (target / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    (target / "plans.json").write_text(json.dumps(plans, indent=1))
    (target / "dataset.json").write_text(json.dumps(dict(folder.dataset), indent=1))
    content = {
        "network_weights": {name: torch.from_numpy(value) for name, value in weights.items()},
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "fold": "all"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(content, target / CHECKPOINT)
    return target


def main() -> None:
    """Write the folder and print its cost."""
    from benchmarks.speed import multiply_adds
    from sct_rootlets_task.inference.openvino_unet import build_graph, unet_of

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    starter = next((BUNDLED / "starter").glob("nnUNetTrainer*"))
    parser.add_argument("--model", type=Path, default=starter)
    parser.add_argument("--features", type=int, nargs="+", default=list(FEATURES))
    parser.add_argument("--patch", type=int, nargs=3, default=list(PATCH))
    arguments = parser.parse_args()
    target = write_wide(arguments.model, arguments.out, arguments.features, arguments.patch)
    folder = read_model_folder(target)
    weights = Checkpoint(folder.checkpoints[0]).read()["network_weights"]
    graph = build_graph(unet_of(folder.architecture), weights, arguments.patch)
    cost = multiply_adds(graph)
    print(f"{target}: {cost / 1e9:.0f} billion multiply-adds a tile")


if __name__ == "__main__":
    main()
