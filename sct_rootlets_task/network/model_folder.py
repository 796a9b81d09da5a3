"""What a folder of a trained nnU-Net model says about itself.

Everything is read from the folder: patch, spacing, normalisation, classes, orientation, folds. The
weights are read by :mod:`sct_rootlets_task.network.checkpoint`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import ModelError

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """The content of a trainer folder (``nnUNetTrainer…``), weights aside.

    Parameters
    ----------
    path : Path
        The trainer folder.
    plans, dataset : dict
        ``plans.json`` and ``dataset.json``.
    configuration_name : str
        Name of the plans' configuration the weights belong to, for example ``3d_fullres``.
    checkpoints : tuple of Path
        One file a fold, in the order of the folds.
    """

    path: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration_name: str
    checkpoints: tuple[Path, ...]

    @property
    def classes(self) -> dict[str, int]:
        """Class names and their index in the network's output."""
        return dict(self.dataset["labels"])

    @property
    def orientation(self) -> str | None:
        """Orientation the model wants, in SCT's letters, or None if it does not say."""
        return self.dataset.get("image_orientation")

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The plans' configuration, with what it inherits from others filled in."""
        return _inherited(self.plans["configurations"], self.configuration_name)


def read_model_folder(path: Path) -> ModelFolder:
    """Read the description of a trained nnU-Net model.

    Parameters
    ----------
    path : Path
        Trainer folder with ``plans.json``, ``dataset.json`` and ``fold_*``.

    Raises
    ------
    ModelError
        If the folder is incomplete or not of a kind that this package can run.
    """
    plans, dataset = (_read_json(path / name) for name in ("plans.json", "dataset.json"))
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or not all(isinstance(v, int) for v in labels.values()):
        raise ModelError(
            f"Expected one number a class in 'labels' of {path / 'dataset.json'}, found "
            f"{labels!r}. Region-based models cannot be run here."
        )
    if len(dataset.get("channel_names", {})) != 1:
        raise ModelError(
            f"Expected a model of one input channel, found {dataset.get('channel_names')!r} in "
            f"{path / 'dataset.json'}. Models of several contrasts cannot be run here."
        )
    return ModelFolder(path, plans, dataset, _configuration_name(path, plans), _checkpoints(path))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The model folder {path.parent} has no readable {path.name} ({error}). Install "
            "the model again."
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"Expected a JSON object in {path}, found {type(content).__name__}.")
    return content


def _configuration_name(path: Path, plans: dict[str, Any]) -> str:
    """Return the configuration of the folder's name (trainer__plans__configuration)."""
    known = list(plans.get("configurations", {}))
    named = path.name.rsplit("__", 1)[-1]
    for candidate in (named, "3d_fullres", *known[: len(known) == 1]):
        if candidate in known:
            return candidate
    raise ModelError(
        f"Expected a configuration named like the end of {path.name!r} in {path / 'plans.json'}, "
        f"found {known}. Install the model again."
    )


def _inherited(configurations: Mapping[str, Any], name: str) -> dict[str, Any]:
    own = dict(configurations[name])
    parent = own.pop("inherits_from", None)
    return own if parent is None else {**_inherited(configurations, parent), **own}


def _checkpoints(path: Path) -> tuple[Path, ...]:
    """Return one checkpoint a fold: fold_all alone, or all numbered folds."""
    folds = sorted(
        (fold for fold in path.glob("fold_*") if fold.name[5:].isdigit()),
        key=lambda fold: int(fold.name[5:]),
    )
    if (path / "fold_all").is_dir():
        folds = [path / "fold_all"]
    for name in CHECKPOINTS:
        present = tuple(fold / name for fold in folds if (fold / name).is_file())
        if present and len(present) == len(folds):
            return present
    raise ModelError(
        f"Expected {' or '.join(CHECKPOINTS)} in every fold_* of {path}, found "
        f"{sorted(p.name for p in path.glob('fold_*/*.pth')) or 'none'}. Install the model again."
    )
