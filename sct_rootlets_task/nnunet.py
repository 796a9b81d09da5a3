"""nnU-Net v2 models: reading a model folder, and inference by SCT's recipe.

The recipe: nnU-Net's own preprocessing from the plans, sliding window with half-overlapping tiles
and Gaussian weighting, mean of the folds' logits (each fold runs once), resampling of the logits to
the original grid, argmax. It runs on stock nnunetv2 and on SCT's fork of it; every call into that
package is in this module.

Arrays are in nnU-Net's axis order (z, y, x) of the model's orientation.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sct_rootlets_task.checkpoint import read_checkpoint
from sct_rootlets_task.errors import MissingDependencyError, ModelError, UsageError

logger = logging.getLogger(__name__)

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
DEVICES = ("auto", "cpu", "cuda", "mps")
TILE_STEP = 0.5
_NETWORKS = "dynamic_network_architectures."


class Network(Protocol):
    """A loaded model that segments volumes."""

    device: str

    def predict(self, volume: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Return the class of each voxel of a volume."""
        ...


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """The content of a trainer folder (``nnUNetTrainer…``), weights aside.

    Parameters
    ----------
    path : Path
        The trainer folder.
    plans, dataset : dict
        ``plans.json`` and ``dataset.json``.
    configuration : str
        Name of the plans' configuration the weights belong to, for example ``3d_fullres``.
    checkpoints : tuple of Path
        One file a fold, in the order of the folds.
    """

    path: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration: str
    checkpoints: tuple[Path, ...]

    @property
    def classes(self) -> dict[str, int]:
        """Class names and their index in the network's output."""
        return dict(self.dataset["labels"])

    @property
    def orientation(self) -> str | None:
        """Orientation the model wants, in SCT's letters, or None if it does not say."""
        return self.dataset.get("image_orientation")


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
    configuration = _configuration(path, plans)
    return ModelFolder(path, plans, dataset, configuration, _checkpoints(path))


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


def _configuration(path: Path, plans: dict[str, Any]) -> str:
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


def choose_device(wanted: str = "auto") -> str:
    """Return the device to run on.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda", "mps"}
        ``auto`` takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    UsageError
        If the device named is not there.
    """
    torch = import_torch()
    has = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(device for device, there in has.items() if there)
    if wanted not in has:
        raise UsageError(f"-device expects one of {', '.join(DEVICES)}, found {wanted!r}.")
    if not has[wanted]:
        built = torch.version.cuda if wanted == "cuda" else torch.backends.mps.is_built()
        reason = "no such device is visible" if built else f"torch {torch.__version__} lacks it"
        raise UsageError(f"-device {wanted}: {reason}. Use -device auto, or cpu.")
    return wanted


def import_torch() -> Any:
    """Import torch, or say how to get it.

    Raises
    ------
    MissingDependencyError
        If torch or nnunetv2 is not installed.
    """
    # nnU-Net complains about these three when they are not set; inference never uses them.
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, "unused")
    try:
        import nnunetv2  # noqa: F401
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            f"Inference needs torch and nnunetv2 ({error}). Install them with: "
            "pip install 'sct-rootlets-task[standalone]'"
        ) from error
    return torch


class NNUNetNetwork:
    """A model folder loaded into stock nnU-Net's predictor.

    Parameters
    ----------
    folder : ModelFolder
        What to load.
    device : str
        ``cpu``, ``cuda`` or ``mps``, as returned by :func:`choose_device`.
    test_time_aug : bool
        Average over mirrored inputs along the axes the model was trained with.
    progress : bool
        Show a progress bar over the tiles.

    Raises
    ------
    ModelError
        If the weights do not fit the plans, or the plans name foreign code.
    """

    def __init__(
        self,
        folder: ModelFolder,
        device: str = "cpu",
        *,
        test_time_aug: bool = False,
        progress: bool = False,
    ) -> None:
        torch = import_torch()
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        self.folder = folder
        self.device = device
        self._torch = torch
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a remark on every CPU run
            self._predictor = nnUNetPredictor(
                tile_step_size=TILE_STEP,
                use_mirroring=test_time_aug,
                perform_everything_on_device=False,
                device=torch.device(device),
                allow_tqdm=progress,
            )
        checkpoints = [read_checkpoint(path) for path in folder.checkpoints]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected old nnU-Net plans format")
            plans = PlansManager(folder.plans)
            configuration = plans.get_configuration(folder.configuration)
        self._folds = [_tensors(torch, c, folder.path) for c in checkpoints]
        self._predictor.manual_initialization(
            _build_network(folder, plans, configuration),
            plans,
            configuration,
            self._folds,
            folder.dataset,
            str(checkpoints[0].get("trainer_name")),
            checkpoints[0].get("inference_allowed_mirroring_axes"),
        )
        self._loaded: int | None = None
        for fold in reversed(range(len(self._folds))):
            self._load(fold)

    def predict(self, volume: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        """Return the class of each voxel of a volume.

        Parameters
        ----------
        volume : ndarray of float32, shape (z, y, x)
            Intensities in the model's orientation.
        spacing : sequence of float
            Voxel sizes in mm, in the order (z, y, x).

        Returns
        -------
        ndarray of uint8, shape (z, y, x)
            Index of the class with the highest mean logit.
        """
        from nnunetv2.inference.export_prediction import (
            convert_predicted_logits_to_segmentation_with_correct_shape as export,
        )

        predictor = self._predictor
        preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            volume[np.newaxis].astype(np.float32),
            None,
            {"spacing": list(spacing)},
            predictor.plans_manager,
            predictor.configuration_manager,
            self.folder.dataset,
        )
        classes = export(
            self._logits(data),
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.label_manager,
            properties,
            num_threads_torch=self._torch.get_num_threads(),
        )
        return np.asarray(classes)

    def _logits(self, data: np.ndarray) -> Any:
        """Return the folds' mean logits, shape (class, z, y, x) on the plans' grid."""
        tensor = self._torch.as_tensor(data)
        total: Any = None
        with self._torch.inference_mode():
            for fold in range(len(self._folds)):
                self._load(fold)
                logits = self._predictor.predict_sliding_window_return_logits(tensor).to("cpu")
                total = logits if total is None else total.add_(logits)
            return total if len(self._folds) == 1 else total.div_(len(self._folds))

    def _load(self, fold: int) -> None:
        if self._loaded == fold:
            return
        try:
            self._predictor.network.load_state_dict(self._folds[fold])
        except RuntimeError as error:
            first_line = str(error).splitlines()[0]
            raise ModelError(
                f"The weights in {self.folder.checkpoints[fold]} do not fit the network of "
                f"{self.folder.path / 'plans.json'} ({first_line}). Install the model again."
            ) from error
        self._loaded = fold


def _tensors(torch: Any, checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the weights of a checkpoint as float32 tensors."""
    weights = checkpoint.get("network_weights")
    if not isinstance(weights, dict):
        raise ModelError(
            f"Expected 'network_weights' in the checkpoint of {path}, found {sorted(checkpoint)}. "
            "This is no nnU-Net checkpoint."
        )
    return {
        name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in weights.items()
    }


def _build_network(folder: ModelFolder, plans: Any, configuration: Any) -> Any:
    """Build the network from the plans, without nnU-Net's trainer classes.

    nnU-Net finds the trainer by importing every module of its trainers, one of which needs a
    torchvision that fits torch exactly; the network itself needs none of that.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    network = configuration.network_arch_class_name
    arguments = configuration.network_arch_init_kwargs
    imports = configuration.network_arch_init_kwargs_req_import
    named = [str(arguments[key]) for key in imports if arguments.get(key) is not None]
    foreign = [name for name in named if not name.startswith("torch.nn.")]
    if not network.startswith(_NETWORKS) or foreign:
        raise ModelError(
            f"Expected a network of {_NETWORKS[:-1]} made of torch.nn parts, found {network!r} "
            f"{foreign or ''} in {folder.path / 'plans.json'}. It was not loaded, since it could "
            "run code."
        )
    heads = plans.get_label_manager(folder.dataset).num_segmentation_heads
    return get_network_from_plans(
        network, arguments, imports, 1, heads, allow_init=False, deep_supervision=False
    )


def load_network(
    folder: ModelFolder,
    device: str = "auto",
    *,
    test_time_aug: bool = False,
    progress: bool = False,
) -> Network:
    """Load a model folder for inference; see :class:`NNUNetNetwork`."""
    return NNUNetNetwork(
        folder, choose_device(device), test_time_aug=test_time_aug, progress=progress
    )
