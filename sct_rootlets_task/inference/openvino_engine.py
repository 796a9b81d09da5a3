"""Engines that run a network on one tile; :mod:`.sliding_window` does the rest for all of them."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference import openvino_unet, openvino_winograd
from sct_rootlets_task.inference.architecture import Slot, fitted
from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.inference.failures import fitting
from sct_rootlets_task.inference.model_folder import ModelFolder, check_training, read_origin
from sct_rootlets_task.inference.openvino_cache import compiled, path_of
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.openvino_unet import build_graph, unet_of
from sct_rootlets_task.io.untrusted import printable
from sct_rootlets_task.runtime import chosen_threads

_SOURCES = map(Path, (openvino_unet.__file__, openvino_winograd.__file__))
_CODE = tuple(path for path in _SOURCES if path.is_file())
"""What builds the graph; the package may be imported from an archive."""
_MEASURED = ("x86_64", "amd64")
"""Processors on which Winograd's method was found to be faster."""


class Engine(Protocol):
    """Runs one set of weights on tiles of one size."""

    name: str
    device: str
    precision: str

    def predict(self, patch: np.ndarray) -> np.ndarray:
        """Return the logits of a tile.

        Parameters
        ----------
        patch : ndarray of float32, shape (z, y, x)
            Normalized intensities.

        Returns
        -------
        ndarray of float32, shape (classes, z, y, x)
            Valid until the next call.
        """
        ...

    def close(self) -> None:
        """Give memory and threads back."""
        ...


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of one fold, each once, by nnU-Net's names.

    The model was trained to be mirrored along `mirror_axes` (0=z, 1=y, 2=x).
    """

    arrays: Mapping[str, np.ndarray]
    mirror_axes: tuple[int, ...] = ()


def read_weights(folder: ModelFolder) -> list[Weights]:
    """Read the weights of all folds of a model.

    Raises
    ------
    ModelError
        If a checkpoint is no nnU-Net checkpoint, its weights are not exactly those of the network
        in the plans, or the folds disagree.
    """
    checkpoints = [folder.first, *map(Checkpoint, folder.checkpoints[1:])]
    folds = list(each_fold(folder, checkpoints))
    check_training(folder, checkpoints)
    return folds


def each_fold(
    folder: ModelFolder, checkpoints: Iterable[Checkpoint] | None = None
) -> Iterator[Weights]:
    """Yield the weights of one fold after the other, see :func:`read_weights`."""
    wanted, first = folder.slots, None
    for checkpoint in map(Checkpoint, folder.checkpoints) if checkpoints is None else checkpoints:
        fold = _read_fold(folder, checkpoint, wanted)
        first = fold.mirror_axes if first is None else first
        if fold.mirror_axes != first:
            raise ModelError(
                f"The folds of {printable(folder.path)} disagree: {checkpoint.path.parent.name} "
                f"allows mirroring along {fold.mirror_axes}, the first one along {first}. Install "
                "the model again."
            )
        yield fold


def _read_fold(folder: ModelFolder, fold: Checkpoint, wanted: Mapping[str, Slot]) -> Weights:
    path = fold.path
    arrays = fold.read(("network_weights",)).get("network_weights")
    if not isinstance(arrays, dict):
        raise ModelError(
            f"Expected a dictionary 'network_weights' in {printable(path)}, found "
            f"{type(arrays).__name__}. This is no nnU-Net checkpoint."
        )
    origin = read_origin(fold)
    for what, found, expected in (
        ("configuration", origin.configuration, folder.configuration_name),
        ("trainer", origin.trainer, folder.trainer),
    ):
        if found not in (None, expected):
            raise ModelError(
                f"The weights in {printable(path)} were trained with the {what} {found!r}, but the "
                f"model {printable(folder.path)} is run with {expected!r}. Install the model "
                "again, with folds and plans of one training."
            )
    if max(origin.mirror_axes, default=0) >= folder.architecture.axes:
        raise ModelError(
            f"Expected axes below {folder.architecture.axes} in 'inference_allowed_mirroring_axes' "
            f"of {printable(path)}, found {origin.mirror_axes}. Install the model again."
        )
    return Weights(fitted(arrays, wanted, path), origin.mirror_axes)


class OpenVINOEngine:
    """Runs the network with OpenVINO on the CPU; needs no torch.

    Parameters
    ----------
    folder : ModelFolder
        Plans of the network.
    weights : Weights
        One fold.
    precision : {"f32", "bf16"}
        Arithmetic of the convolutions.
    threads : int, optional
        CPU threads; by default as many as :func:`~sct_rootlets_task.runtime.chosen_threads` says.
    cache : path, optional
        Folder to keep the compiled network in, if it is a large one.

    Raises
    ------
    UnsupportedNetworkError
        If the network is of a kind that cannot be built without torch.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        folder: ModelFolder,
        weights: Weights,
        *,
        precision: str = "f32",
        threads: int | None = None,
        cache: Path | None = None,
    ) -> None:
        unet = unet_of(folder.architecture)
        openvino = import_openvino()
        patch = folder.configuration["patch_size"]
        options: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": chosen_threads(threads),
            # Pinned threads of several processes would share the same first cores.
            "ENABLE_CPU_PINNING": "NO",
        }
        self.precision = precision
        self._model = folder.path
        make_graph = partial(graph_of, folder, weights, precision)
        with fitting(folder.path):
            core = openvino.Core()
            path = cache and path_of(
                *(cache, weights.arrays, core, _CODE, VERSION, unet, list(patch)),
                *(saves_products(precision), options),
            )
            self._compiled = compiled(make_graph, options, core=core, path=path)
            self._request = self._compiled.network.create_infer_request()

    def predict(self, patch: np.ndarray) -> np.ndarray:
        """Return the logits of a tile, see :class:`Engine`."""
        tensor = np.ascontiguousarray(patch, dtype=np.float32)[np.newaxis, np.newaxis]
        with fitting(self._model):
            outputs = self._request.infer({0: tensor}, share_inputs=True, share_outputs=True)
        return np.asarray(outputs[0][0])

    def close(self) -> None:
        """Give memory and threads back."""
        del self._request, self._compiled


def graph_of(folder: ModelFolder, weights: Weights, precision: str) -> Any:
    """Return the network with the weights of one fold as an OpenVINO model.

    Parameters and errors are those of :class:`OpenVINOEngine`.
    """
    return build_graph(
        unet_of(folder.architecture),
        weights.arrays,
        folder.configuration["patch_size"],
        fast=saves_products(precision),
        precise=precision == "f32",
    )


def saves_products(precision: str) -> bool:
    """Tell whether large convolutions use Winograd's method; in bfloat16 it costs accuracy."""
    return precision == "f32" and platform.machine().lower() in _MEASURED


def has_native_bf16() -> bool:
    """Tell whether OpenVINO finds native bfloat16 arithmetic in this CPU."""
    with fitting():
        capabilities = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


class Mirrored:
    """Averages an engine's logits over copies of the tile, mirrored along all sets of axes."""

    def __init__(self, engine: Engine, axes: Sequence[int]) -> None:
        self.engine = engine
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self._flips = [
            chosen for count in range(1, len(axes) + 1) for chosen in combinations(axes, count)
        ]

    def predict(self, patch: np.ndarray) -> np.ndarray:
        """Return the mean logits of a tile, see :class:`Engine`."""
        total = self.engine.predict(patch).copy()
        for axes in self._flips:
            logits = self.engine.predict(np.flip(patch, axes))
            total += np.flip(logits, tuple(axis + 1 for axis in axes))
        return total / (len(self._flips) + 1)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
