"""Time a model with and without Winograd convolutions: one tile, or the whole process.

    python -m benchmarks.convolutions MODEL_FOLDER [--image IMAGE] [--repeats 5] [--threads N]
    python -m benchmarks.convolutions MODEL_FOLDER --process IMAGE [--repeats 5] [--threads N]

The first form runs the middle tile of an image, or random input, in turns in one process. Printed
are the median wall time of a tile, the time to build and compile the network, the multiply-adds,
and how far the logits are from torch's: at most, and in the mean where the two highest logits are
less than one apart (where a label is in doubt; a dash where that is nowhere).

The second form runs ``sct_deepseg rootlets`` with and without, in turns, and prints the medians. A
first round of each, which compiles the network and keeps it, is left out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import as_closest_canonical, load

from benchmarks.speed import Runs, measure, multiply_adds
from sct_rootlets_task.environment import CACHE
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.openvino_engine import read_weights
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.openvino_unet import build_graph, unet_of
from sct_rootlets_task.inference.preprocessing import prepare, read_preprocessing
from sct_rootlets_task.inference.sliding_window import _margins, _padded, _slices
from sct_rootlets_task.inference.torch_engine import TorchEngine
from sct_rootlets_task.runtime import default_threads

PROCESS = """
import sys
from sct_rootlets_task.cli.sct_deepseg import main
from sct_rootlets_task.inference import openvino_engine
if sys.argv.pop(1) == "without":
    openvino_engine.saves_products = lambda precision: False
sys.exit(main())
"""
WAYS = {
    "all multiplications": {"fast": False},
    "fewer multiplications": {"fast": True},
    "fewer multiplications, OpenVINO's normalization": {"fast": True, "precise": False},
}


def middle_tile(folder: ModelFolder, image: Path | None) -> np.ndarray:
    """Return the middle tile (float32, shape of the patch) of an image, or random input."""
    patch = folder.configuration["patch_size"]
    if image is None:
        return np.random.default_rng(0).standard_normal(patch).astype(np.float32)
    volume = as_closest_canonical(load(image))
    sizes = [float(size) for size in volume.header.get_zooms()[::-1]]
    prepared = prepare(volume.get_fdata(dtype=np.float32).T, sizes, read_preprocessing(folder))
    data, _ = _padded(prepared.data, patch)
    start = [(size - wanted) // 2 for size, wanted in zip(data.shape, patch, strict=True)]
    return np.ascontiguousarray(data[_slices(start, patch)])


def differences(logits: np.ndarray, reference: np.ndarray) -> tuple[float, float | None]:
    """Return how far logits (class, z, y, x) are off at most, and in the mean where in doubt."""
    apart = np.abs(logits - reference)
    doubt = _margins(reference.reshape(len(reference), -1)) < 1
    some = apart.reshape(len(apart), -1)[:, doubt]
    return float(apart.max()), float(some.mean()) if some.size else None


def compare_processes(model: Path, image: Path, repeats: int, threads: int) -> dict[str, Runs]:
    """Return what was measured of whole processes, without and with Winograd convolutions."""
    runs = {"without": Runs(), "with": Runs()}
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, CACHE: f"{scratch}/cache"}
        words = ["rootlets", "-model", str(model), "-i", str(image), "-threads", str(threads)]
        words += ["-o", f"{scratch}/labels.nii.gz", "-v", "0"]
        for _ in range(repeats + 1):
            for way, one in runs.items():
                measure([sys.executable, "-c", PROCESS, way, *words], one, environment)
    return runs


def print_processes(runs: dict[str, Runs]) -> None:
    """Print the table of whole processes."""
    print("| Winograd convolutions | wall s | × | CPU s | × |\n|---|---|---|---|---|")
    for way, one in runs.items():
        wall, cpu = one.median("wall"), one.median("cpu")
        faster = runs["without"].median("wall") / wall, runs["without"].median("cpu") / cpu
        print(f"| {way} | {wall:.1f} | {faster[0]:.2f} | {cpu:.1f} | {faster[1]:.2f} |")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--process", type=Path, metavar="IMAGE")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    if arguments.process:
        model, image = arguments.model, arguments.process
        print_processes(compare_processes(model, image, arguments.repeats, arguments.threads))
    else:
        _compare_tiles(arguments)


def _compare_tiles(arguments: argparse.Namespace) -> None:
    folder = read_model_folder(arguments.model)
    weights = read_weights(folder)[0].arrays
    tile = middle_tile(folder, arguments.image)
    requests = [_built(folder, weights, way, arguments.threads) for way in WAYS.values()]
    walls: list[list[float]] = [[] for _ in WAYS]
    for repeat in range(arguments.repeats + 1):
        for (request, _, _), wall in zip(requests, walls, strict=True):
            start = time.perf_counter()
            request.infer({0: tile[None, None]})
            if repeat:  # the first run of each allocates
                wall.append(time.perf_counter() - start)
    reference = TorchEngine(folder, weights, "cpu").predict(tile)
    print("| convolutions and normalization | billions a tile | s a tile | × "
          "| s to build and compile | off at most | off in the mean, in doubt |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    times = [statistics.median(wall) for wall in walls]
    for name, (request, built, count), seconds in zip(WAYS, requests, times, strict=True):
        most, mean = differences(request.get_output_tensor(0).data[0], np.asarray(reference))
        text = "–" if mean is None else f"{mean:.1e}"
        print(f"| {name} | {count / 1e9:.0f} | {seconds:.2f} | {times[0] / seconds:.2f} "
              f"| {built:.1f} | {most:.1e} | {text} |")  # fmt: skip
    print(f"\nLogits between {reference.min():.1f} and {reference.max():.1f}.")


def _built(folder: ModelFolder, weights: Any, way: Any, threads: int) -> tuple[Any, float, int]:
    """Return an infer request, the seconds to get it, and the multiply-adds of a tile."""
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }  # fmt: skip
    start = time.perf_counter()
    patch = folder.configuration["patch_size"]
    graph = build_graph(unet_of(folder.architecture), weights, patch, **way)
    compiled = import_openvino().Core().compile_model(graph, "CPU", options)
    return compiled.create_infer_request(), time.perf_counter() - start, multiply_adds(graph)


if __name__ == "__main__":
    main()
