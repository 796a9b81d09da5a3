"""Loading a model folder for inference: which engine, which device, which precision."""

from __future__ import annotations

import importlib.util
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from sct_rootlets_task import environment
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.inference.failures import fitting
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.inference.openvino_engine import (
    Engine,
    Mirrored,
    OpenVINOEngine,
    Weights,
    each_fold,
    graph_of,
    has_native_bf16,
    read_weights,
)
from sct_rootlets_task.inference.openvino_unet import UnsupportedNetworkError, unet_of
from sct_rootlets_task.inference.preprocessing import UnsupportedPlansError, read_preprocessing
from sct_rootlets_task.inference.sliding_window import TiledNetwork
from sct_rootlets_task.inference.torch_engine import (
    DEVICES,
    NNUNetNetwork,
    TorchEngine,
    choose_device,
)
from sct_rootlets_task.io.paths import cache_root
from sct_rootlets_task.runtime import chosen_threads, give_back_memory

logger = logging.getLogger(__name__)

ENGINES = ("auto", "openvino", "torch", "nnunet")
PRECISIONS = ("auto", "f32", "bf16")


class Network(Protocol):
    """A loaded model that segments volumes."""

    engine: str
    device: str
    precision: str
    tiles_run: tuple[int, int]
    tile_seconds: float

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the class of each voxel of a volume.

        Parameters
        ----------
        volume : ndarray of float32, shape (z, y, x)
            Intensities in the model's orientation.
        spacing : sequence of float
            Voxel sizes (z, y, x) in mm.
        roi_mask : ndarray of bool, shape (z, y, x), optional
            Voxels that can get a label. Without it, or by stock nnU-Net, all tiles are run.

        Returns
        -------
        ndarray of uint8, shape (z, y, x)
            Index of the class with the highest mean logit.

        Raises
        ------
        ModelError
            If the network's logits are too large for half precision, or no numbers.
        """
        ...


@dataclass(frozen=True)
class Options:
    """How to run a network.

    Parameters
    ----------
    engine : {"auto", "openvino", "torch", "nnunet"}
        ``auto`` takes ``SCT_ROOTLETS_ENGINE`` if it is set, OpenVINO on a CPU, torch elsewhere.
    device : {"auto", "cpu", "cuda", "mps"}
        ``auto`` takes ``SCT_ROOTLETS_DEVICE`` if it is set, else a GPU when torch is installed and
        finds one.
    precision : {"auto", "f32", "bf16"}
        Arithmetic of the convolutions; ``auto`` takes ``SCT_ROOTLETS_PRECISION`` if it is set, else
        f32.
    threads : int, optional
        CPU threads; by default as many as :func:`~sct_rootlets_task.runtime.chosen_threads` says.
    test_time_aug : bool
        Average over mirrored inputs.
    progress : bool
        Show how many of the tiles are run.
    """

    engine: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    test_time_aug: bool = False
    progress: bool = False


def load_network(folder: ModelFolder, options: Options) -> Network:
    """Load a model folder for inference.

    Raises
    ------
    UsageError
        If the options do not go together or ask for something that is not there.
    ModelError
        If the model cannot be run.
    """
    options = replace(with_environment(options), threads=chosen_threads(options.threads))
    device = _device(options)
    engine = choose_engine(folder, options.engine, device)
    precision = _precision(options.precision, engine)
    logger.debug("Engine %s on %s in %s", engine, device, precision)
    if engine == "nnunet":
        return NNUNetNetwork(
            folder,
            device,
            threads=options.threads,
            test_time_aug=options.test_time_aug,
            progress=options.progress,
        )
    engines = [
        _engine(engine, folder, weights, device, options, precision)
        for weights in read_weights(folder)
    ]
    give_back_memory()
    return TiledNetwork(folder, engines, progress=options.progress)


def dry_build(folder: ModelFolder) -> None:
    """Build a model's network as a run on the CPU does, without compiling or running it.

    The weights of one fold at a time are in memory.

    Raises
    ------
    ModelError
        If the model cannot be run.
    MissingDependencyError
        If it needs torch and nnunetv2, which are not installed. All else has been checked then.
    """
    engine = choose_engine(folder, "auto", "cpu")
    for number, weights in enumerate(each_fold(folder)):
        if engine == "openvino" and number == 0:  # the other folds have the same shapes
            with fitting(folder.path):
                graph_of(folder, weights, "f32")
    if engine == "nnunet":
        NNUNetNetwork(folder, "cpu")
    give_back_memory()


def with_environment(options: Options, environ: Mapping[str, str] | None = None) -> Options:
    """Return the options, each ``auto`` replaced by what the environment asks for, if it does."""

    def settle(value: str, variable: str) -> str:
        return value if value != "auto" else environment.read(variable, environ) or value

    return replace(
        options,
        engine=settle(options.engine, environment.ENGINE),
        device=settle(options.device, environment.DEVICE),
        precision=settle(options.precision, environment.PRECISION),
    )


def choose_engine(folder: ModelFolder, wanted: str, device: str) -> str:
    """Return the engine for a model on a device: `wanted`, one of :data:`ENGINES`, if not ``auto``.

    A model of an unusual kind is left to stock nnU-Net.
    """
    _require_known("engine", wanted, ENGINES, environment.ENGINE)
    if wanted == "openvino" and device != "cpu":
        raise UsageError(
            f"The engine openvino runs on the CPU, not on {device}. Use -device cpu or -engine "
            "torch."
        )
    if wanted != "auto":
        return wanted
    if device == "cpu" and importlib.util.find_spec("openvino") is None:
        return "nnunet"
    try:
        read_preprocessing(folder)
        unet_of(folder.architecture)
    except (UnsupportedNetworkError, UnsupportedPlansError) as error:
        logger.info("Stock nnU-Net runs this model: %s", error)
        return "nnunet"
    return "openvino" if device == "cpu" else "torch"


def _require_known(what: str, wanted: str, known: Sequence[str], variable: str) -> None:
    if wanted not in known:
        raise UsageError(
            f"The {what} is one of {', '.join(known)}, not {wanted!r}. Correct -{what} or "
            f"{variable}."
        )


def _device(options: Options) -> str:
    """Return the device; torch is imported only when it may matter."""
    _require_known("device", options.device, DEVICES, environment.DEVICE)
    if options.device == "cpu" or options.engine == "openvino":
        return "cpu" if options.device == "auto" else options.device
    if options.device == "auto" and not _a_gpu_may_be_there():
        return "cpu"
    return choose_device(options.device)


def _a_gpu_may_be_there() -> bool:
    """Tell, without the seconds that importing torch takes, whether it could find a GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return platform.system() == "Windows" or any(Path("/dev").glob("nvidia[0-9]*"))


def _precision(wanted: str, engine: str) -> str:
    _require_known("precision", wanted, PRECISIONS, environment.PRECISION)
    if wanted != "bf16":
        return "f32"
    if engine != "openvino":
        raise UsageError(f"-precision bf16 is for the engine openvino, not {engine}.")
    if not has_native_bf16():
        raise UsageError(
            "-precision bf16 needs a CPU with native bfloat16 (AMX or AVX-512 BF16), and this one "
            "has none. Use -precision f32."
        )
    return wanted


def _engine(
    name: str,
    folder: ModelFolder,
    weights: Weights,
    device: str,
    options: Options,
    precision: str,
) -> Engine:
    engine: Engine
    if name == "openvino":
        engine = OpenVINOEngine(
            folder, weights, precision=precision, threads=options.threads, cache=cache_root()
        )
    else:
        engine = TorchEngine(folder, weights.arrays, device, threads=options.threads)
    return Mirrored(engine, weights.mirror_axes) if options.test_time_aug else engine
