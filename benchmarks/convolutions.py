"""Time one tile of a model with all multiplications and with fewer, in turns, in one process.

    python -m benchmarks.convolutions MODEL_FOLDER [--repeats 5] [--threads N]

Printed are the median wall time of a tile, the time to build and compile the network, the
multiply-adds, and how far the logits of random input are apart.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from sct_rootlets_task.network.engines import import_openvino, read_weights
from sct_rootlets_task.network.model_folder import read_model_folder
from sct_rootlets_task.network.unet import build_graph, multiply_adds, read_unet
from sct_rootlets_task.runtime import default_threads


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    folder = read_model_folder(arguments.model)
    weights, patch = read_weights(folder)[0].arrays, folder.configuration["patch_size"]
    x = np.random.default_rng(0).standard_normal((1, 1, *patch)).astype(np.float32)
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": arguments.threads,
    }  # fmt: skip
    requests, counts, built = [], [], []
    walls: tuple[list[float], list[float]] = ([], [])
    for fast in (False, True):
        start = time.perf_counter()
        graph = build_graph(read_unet(folder.configuration), weights, patch, fast=fast)
        compiled = import_openvino().Core().compile_model(graph, "CPU", options)
        built.append(time.perf_counter() - start)
        counts.append(multiply_adds(graph))
        requests.append(compiled.create_infer_request())
    for repeat in range(arguments.repeats + 1):
        for request, wall in zip(requests, walls, strict=True):
            start = time.perf_counter()
            request.infer({0: x})
            if repeat:  # the first run of each allocates
                wall.append(time.perf_counter() - start)
    logits = [request.get_output_tensor(0).data for request in requests]
    times = [statistics.median(wall) for wall in walls]
    print("| multiplications | billions a tile | s a tile | × | s to build and compile |")
    print("|---|---|---|---|---|")
    for name, count, seconds, once in zip(("all", "fewer"), counts, times, built, strict=True):
        gain = times[0] / seconds
        print(f"| {name} | {count / 1e9:.0f} | {seconds:.2f} | {gain:.2f} | {once:.1f} |")
    low, high = logits[0].min(), logits[0].max()
    apart = np.abs(logits[0] - logits[1]).max()
    print(f"\nLogits between {low:.1f} and {high:.1f} differ by up to {apart:.1e}")


if __name__ == "__main__":
    main()
