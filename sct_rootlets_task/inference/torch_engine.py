"""The engines that need torch and nnunetv2; every call into those packages is in this module.

The reference engine is stock nnU-Net as SCT runs it: preprocessing from the plans, half-overlapping
tiles with Gaussian weights, mean of the folds' logits, resampling to the image's grid, argmax.
It runs on stock nnunetv2 and on SCT's fork of it. Axes are (z, y, x), as nnU-Net has them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.errors import (
    MissingDependencyError,
    ModelError,
    OutOfMemoryError,
    UsageError,
    is_out_of_memory,
)
from sct_rootlets_task.inference.architecture import described
from sct_rootlets_task.inference.failures import broken_logits, fitting, short_reason
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.inference.openvino_engine import read_weights
from sct_rootlets_task.inference.preprocessing import grid_shape, non_zero_box
from sct_rootlets_task.inference.tile_schedule import STEP, TileGrid
from sct_rootlets_task.io.progress import Progress
from sct_rootlets_task.io.untrusted import printable
from sct_rootlets_task.runtime import chosen_threads, limited_torch

logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda", "mps")
_QUIET = threading.Lock()


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
    except Exception as error:  # libraries that are missing or do not fit bring many kinds
        if is_out_of_memory(error):
            raise OutOfMemoryError from error
        raise MissingDependencyError(
            f"A GPU, the engines torch and nnunet, and unusual models need torch and nnunetv2 "
            f"({short_reason(error)}). Install them with: pip install 'sct-rootlets-task[torch]'"
        ) from error
    return torch


class NNUNetNetwork:
    """A model folder loaded into stock nnU-Net's predictor: the reference engine.

    Parameters
    ----------
    folder : ModelFolder
        What to load.
    device : str
        ``cpu``, ``cuda`` or ``mps``, as returned by :func:`choose_device`.
    threads : int, optional
        CPU threads; by default as many as :func:`~sct_rootlets_task.runtime.chosen_threads` says.
    test_time_aug : bool
        Average over mirrored inputs along the axes the model was trained with.
    progress : bool
        Show how far it is.

    Raises
    ------
    ModelError
        If the weights do not fit the plans, or the plans name foreign code.
    """

    engine = "nnunet"

    def __init__(
        self,
        folder: ModelFolder,
        device: str = "cpu",
        *,
        threads: int | None = None,
        test_time_aug: bool = False,
        progress: bool = False,
    ) -> None:
        torch = import_torch()
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        self.folder = folder
        self.device = device
        self.precision = "f16" if device == "cuda" else "f32"
        self.tiles_run = (0, 0)
        self.tile_seconds = 0.0
        self._torch = torch
        self._threads = chosen_threads(threads)
        self._progress = progress
        # It prints a remark on every CPU run. Of two threads that redirect at once, the second
        # would restore what the first has put in the stream's place.
        with _QUIET, contextlib.redirect_stdout(io.StringIO()):
            self._predictor = nnUNetPredictor(
                tile_step_size=STEP,
                use_mirroring=test_time_aug,
                perform_everything_on_device=False,
                device=torch.device(device),
                allow_tqdm=False,
            )
        weights = read_weights(folder)
        plans, configuration = _plans(folder)
        self._folds = [_tensors(torch, folder, fold.arrays) for fold in weights]
        self._predictor.manual_initialization(
            _build_network(folder),
            plans,
            configuration,
            self._folds,
            folder.dataset_for_nnunet,
            "nnUNetTrainer",
            weights[0].mirror_axes or None,
        )
        self._loaded: int | None = None
        for fold in reversed(range(len(self._folds))):
            self._load(fold)

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the class of each voxel, as :class:`.loading.Network` says.

        All tiles are run, whatever `roi_mask` says.
        """
        with limited_torch(self._torch, self._threads):
            return self._predict(volume, spacing)

    def _predict(self, volume: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        from nnunetv2.inference.export_prediction import (
            convert_predicted_logits_to_segmentation_with_correct_shape as export,
        )

        predictor, order = self._predictor, self.folder.transpose
        wanted = self.folder.configuration["spacing"]
        axes = order[len(order) - len(wanted) :]
        grid_shape(
            [volume.shape[axis] for axis in order],
            [float(spacing[axis]) for axis in order],
            wanted,
        )
        sizes = _spacing_of_a_voxel(volume, spacing, dict(zip(axes, wanted, strict=True)))
        with fitting(self.folder.path):
            preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
            data, _, properties = preprocessor.run_case_npy(
                volume[np.newaxis].astype(np.float32),
                None,
                {"spacing": sizes},
                predictor.plans_manager,
                predictor.configuration_manager,
                self.folder.dataset_for_nnunet,
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
        with self._torch.inference_mode(), self._shown(data.shape[1:]):
            for fold in range(len(self._folds)):
                self._load(fold)
                logits = self._fold_logits(tensor)
                total = logits if total is None else total.add_(logits)
            return total if len(self._folds) == 1 else total.div_(len(self._folds))

    @contextlib.contextmanager
    def _shown(self, shape: Sequence[int]) -> Iterator[None]:
        """Show how many of the network's calls are done that a volume needs."""
        patch = self._predictor.configuration_manager.patch_size
        planes, size = shape[: len(shape) - len(patch)], shape[len(shape) - len(patch) :]
        grid = TileGrid(tuple(map(max, size, patch)), tuple(patch))
        tiles = prod([*planes, *(len(grid.starts(axis)) for axis in range(len(patch)))])
        mirrored = self._predictor.allowed_mirroring_axes if self._predictor.use_mirroring else ()
        calls, done = tiles * len(self._folds) * 2 ** len(mirrored or ()), count(1)
        with Progress("Tiles", calls, shown=self._progress) as progress:
            hook = self._predictor.network.register_forward_hook(
                lambda *_: progress.update(next(done))
            )
            try:
                yield
            finally:
                hook.remove()

    def _fold_logits(self, tensor: Any) -> Any:
        with fitting(self.folder.path):
            try:
                logits = self._predictor.predict_sliding_window_return_logits(tensor).to("cpu")
            except RuntimeError as error:
                if "Encountered inf" not in str(error):
                    raise
                logits = None
        if logits is None or not self._torch.isfinite(logits.sum(dtype=self._torch.float64)):
            raise broken_logits(self.folder.path)
        return logits

    def _load(self, fold: int) -> None:
        if self._loaded == fold:
            return
        _load_weights(self._predictor.network, self._folds[fold], self.folder.path)
        self._loaded = fold


def _spacing_of_a_voxel(
    volume: np.ndarray, spacing: Sequence[float], wanted: Mapping[int, float]
) -> list[float]:
    """Return voxel sizes (mm) by which nnU-Net's grid has at least a voxel along each axis.

    nnU-Net crops the volume to what is not zero. `wanted` are the network's voxel sizes in mm, by
    axis of the volume.
    """
    sizes = [float(size) for size in spacing]
    box = non_zero_box(volume)
    for axis, size in wanted.items():
        voxels = len(range(*box[axis].indices(volume.shape[axis])))
        if round(sizes[axis] / size * voxels) < 1:
            sizes[axis] = size / voxels
    return sizes


def _tensors(torch: Any, folder: ModelFolder, weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return weights as float32 tensors, by all names that the network has for them."""
    tensors = {
        name: torch.from_numpy(np.array(value, dtype=np.float32)) for name, value in weights.items()
    }
    return {name: tensors[slot.name] for name, slot in folder.slots.items()}


def _load_weights(network: Any, tensors: Mapping[str, Any], path: Path) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(
            f"The weights in {printable(path)} do not fit the network of its plans.json "
            f"({printable(first_line)}). "
            "Install the model again."
        ) from error


def _plans(folder: ModelFolder) -> tuple[Any, Any]:
    """Return nnU-Net's managers of the plans and of their configuration."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(folder.plans_for_nnunet)
    return plans, plans.get_configuration(folder.configuration_name)


def _build_network(folder: ModelFolder) -> Any:
    """Build the network from the plans, by class names of our own table, not the file's.

    nnU-Net's trainer classes are left out: to find one, nnU-Net imports all of their modules, one
    of which needs a torchvision that fits torch exactly.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    network = described(folder.architecture)
    with fitting(folder.path):
        return get_network_from_plans(
            network["network_class_name"],
            network["arch_kwargs"],
            network["_kw_requires_import"],
            1,
            len(folder.classes),
            allow_init=False,
            deep_supervision=False,
        )


class TorchEngine:
    """Runs the network with torch, on a GPU above all.

    See :class:`~sct_rootlets_task.inference.openvino_engine.Engine`.

    Parameters
    ----------
    folder : ModelFolder
        Plans of the network.
    weights : mapping of str to ndarray
        One fold, each weight once.
    device : {"cpu", "cuda", "mps"}
        On CUDA the convolutions use half precision where nnU-Net does.
    threads : int, optional
        CPU threads; by default as many as :func:`~sct_rootlets_task.runtime.chosen_threads` says.
    """

    name = "torch"

    def __init__(
        self,
        folder: ModelFolder,
        weights: Mapping[str, np.ndarray],
        device: str,
        *,
        threads: int | None = None,
    ) -> None:
        self._threads = chosen_threads(threads)
        self._torch = torch = import_torch()
        self.device = device
        self.precision = "f16" if device == "cuda" else "f32"
        network = _build_network(folder)
        _load_weights(network, _tensors(torch, folder, weights), folder.path)
        self._model = folder.path
        with fitting(folder.path):
            self._network = network.to(device).eval()

    def predict(self, patch: np.ndarray) -> np.ndarray:
        """Return the logits of a tile."""
        torch = self._torch
        tensor = torch.from_numpy(np.ascontiguousarray(patch, dtype=np.float32))
        half = torch.autocast("cuda") if self.device == "cuda" else contextlib.nullcontext()
        limited = limited_torch(torch, self._threads)
        with limited, torch.inference_mode(), half, fitting(self._model):
            logits = self._network(tensor.to(self.device)[None, None])[0]
            return np.asarray(logits.float().cpu().numpy())

    def close(self) -> None:
        """Give memory back."""
        del self._network
