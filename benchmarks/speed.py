"""Time ``sct_deepseg rootlets`` as a whole process, engine against engine.

    python -m benchmarks.speed IMAGE … [--case whole crop 0.8 0.6] [--model starter FOLDER]
        [--command nnunet openvino …] [--copies 10] [--repeats 3] [--peer NAME=COMMAND]

The first command is the reference: stock nnU-Net on all tiles. The commands take turns, so that a
busy machine slows all of them alike; medians and ratios to the reference are printed, with the
agreement of the labels beside each time. Peak memory is that of the process. "In tiles" is the
share of the wall time that the network itself takes; "limit" is the time that the multiply-adds of
the tiles run would take at the rate that a large matrix product reaches on this machine in the same
precision, measured first; "stages" are the seconds of all stages in the last run. "Cold" is the
wall time of a process before the others, which finds no compiled network in the cache folder and
leaves it there; nothing else is kept between processes but the operating system's cache of files.
The first round is left out of the medians when there are several.

A case is the image as it is, a crop of 96 voxels an axis, or the image resampled to so many mm.
`--copies` adds a row: so many copies of the image by one process. `--peer` adds a command of
another program, in which ``{image}`` and ``{output}`` stand for the files, for example that of an
SCT with the same model installed. ``nnunet-avx2`` is stock nnU-Net again, confined to instructions
without AVX-512: how far its labels differ from its own is what that other rounding does.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.parity import lowest_dice
from sct_rootlets_task.environment import CACHE
from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.inference.openvino_engine import has_native_bf16, saves_products
from sct_rootlets_task.inference.openvino_import import import_openvino
from sct_rootlets_task.inference.openvino_unet import build_graph, unet_of
from sct_rootlets_task.io.paths import model_root
from sct_rootlets_task.models.resolve import resolve
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.runtime import default_threads

COMMANDS = {
    "nnunet": ("-engine", "nnunet", "-tiles", "all"),
    "nnunet-avx2": ("-engine", "nnunet", "-tiles", "all"),
    "torch-all": ("-engine", "torch", "-tiles", "all"),
    "openvino-all": ("-engine", "openvino", "-tiles", "all"),
    "openvino": ("-engine", "openvino"),
    "openvino-bf16": ("-engine", "openvino", "-precision", "bf16"),
}
CONFINED = {"nnunet-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}}
"""Environment of the commands that leave out some of the processor's instructions."""
MAIN = "import sys; from sct_rootlets_task.cli.sct_deepseg import main; sys.exit(main())"
CROP = 96


@dataclass
class Runs:
    """What was measured of one command."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    cold: float | None = None
    labels: np.ndarray | None = None
    sidecar: dict[str, Any] = field(default_factory=dict)
    images: int = 1

    def median(self, name: str) -> float:
        """Return the median of a list, the warming round left out."""
        values: list[float] = getattr(self, name)
        return statistics.median(values[1:] or values)


def measure(words: Sequence[str], runs: Runs, environment: Mapping[str, str] | None = None) -> None:
    """Run one process and add its figures."""
    start = time.perf_counter()
    process = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {shlex.join(words)}")
    runs.wall.append(time.perf_counter() - start)
    runs.cpu.append(usage.ru_utime + usage.ru_stime)
    runs.memory.append(usage.ru_maxrss / 2**20)


def run_ours(
    images: Sequence[Path],
    out: Path,
    options: Sequence[str],
    runs: Runs,
    confined: Mapping[str, str] | None = None,
) -> None:
    """Run our command on images and keep the first one's labels."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    words = ["rootlets", "-i", *map(str, images), "-o", f"{out}/", "-raw", "-v", "0", *options]
    cache = str(out.with_name("cache"))
    environment = {**os.environ, CACHE: cache, **(confined or {})}
    measure([sys.executable, "-c", MAIN, *words], runs, environment)
    first = min(out.glob("*.nii.gz"))
    runs.labels = np.asarray(nib.load(first).dataobj)
    runs.sidecar = json.loads((out / first.name.replace(".nii.gz", ".json")).read_text())


def run_peer(command: str, image: Path, output: Path, runs: Runs) -> None:
    """Run another program's command."""
    places = {"image": str(image), "output": str(output)}
    measure([word.format(**places) for word in shlex.split(command)], runs)
    runs.labels = np.asarray(nib.load(output).dataobj)


def make_case(image: Path, case: str, folder: Path) -> Path:
    """Write a case and return its path."""
    loaded = nib.load(image)
    if case == "crop":
        starts = [max(0, (size - CROP) // 2) for size in loaded.shape]
        loaded = loaded.slicer[tuple(slice(start, start + CROP) for start in starts)]
    elif case != "whole":
        from nibabel.processing import resample_to_output

        canonical = resample_to_output(loaded, [float(case)] * 3, order=1)
        loaded = nib.Nifti1Image(canonical.get_fdata().astype(np.int16), canonical.affine)
    path = folder / f"{case}.nii.gz"
    nib.save(loaded, path)
    return path


def matrix_rate(precision: str, threads: int, size: int = 4096) -> float:
    """Return the multiply-adds a second of a large matrix product in OpenVINO."""
    openvino = import_openvino()
    ops = openvino.opset13
    inputs = [ops.parameter([size, size], np.float32) for _ in range(2)]
    model = openvino.Model([ops.matmul(*inputs, False, False)], inputs)
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    rng = np.random.default_rng(0)
    arrays = {i: rng.standard_normal((size, size)).astype(np.float32) for i in range(2)}
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        request.infer(arrays, share_inputs=True, share_outputs=True)
        seconds.append(time.perf_counter() - start)
    return float(size**3 / min(seconds))


def multiply_adds(graph: Any) -> int:
    """Return the multiply-adds of the convolutions in one run of a graph.

    Parameters
    ----------
    graph : openvino.Model
        What ``build_graph`` gives.
    """
    total = 0
    for node in graph.get_ops():
        if node.get_type_name() == "Convolution":
            outputs, filters = node.output(0).get_shape(), node.input(1).get_shape()
            total += int(np.prod(outputs)) * int(np.prod(filters[1:]))
        elif node.get_type_name() == "ConvolutionBackpropData":
            inputs, filters = node.input(0).get_shape(), node.input(1).get_shape()
            total += int(np.prod(inputs)) * int(np.prod(filters[1:]))
    return total


def tile_cost(model: str) -> dict[str, int]:
    """Return the multiply-adds of one tile of a model in each precision."""
    folder = read_model_folder(resolve(TASKS.find("rootlets"), model, model_root(None)).model.path)
    weights = Checkpoint(folder.checkpoints[0]).read()["network_weights"]
    unet, patch = unet_of(folder.architecture), folder.configuration["patch_size"]
    return {
        precision: multiply_adds(build_graph(unet, weights, patch, fast=saves_products(precision)))
        for precision in ("f32", "bf16")
    }


def rows(
    measured: dict[str, Runs], cost: dict[str, int], rates: dict[str, float]
) -> Iterator[tuple[str, ...]]:
    """Yield the rows of one model and case; the first command is the reference."""
    reference = next(iter(measured.values()))
    assert reference.labels is not None
    for name, runs in measured.items():
        assert runs.labels is not None
        differing = int(np.count_nonzero(runs.labels != reference.labels))
        one_image = runs.images == 1
        tiles = runs.sidecar.get("Tiles", {})
        network = runs.sidecar.get("Seconds", {}).get("tiles")
        precision = runs.sidecar.get("Precision", "")
        known = one_image and bool(tiles.get("All")) and network is not None and precision in rates
        yield (
            name,
            f"{tiles['Run']} of {tiles['All']}" if tiles.get("All") else "",
            *(
                text
                for what, digits in (("wall", 1), ("cpu", 1), ("memory", 2))
                for text in (
                    f"{runs.median(what):.{digits}f}",
                    f"{reference.median(what) / runs.median(what):.1f}",
                )
            ),
            f"{runs.cold:.1f}" if runs.cold else "",
            f"{differing} of {np.count_nonzero(reference.labels)}",
            f"{lowest_dice(runs.labels, reference.labels):.4f}",
            f"{100 * network / runs.median('wall'):.0f} %" if known else "",
            f"{cost[precision] * tiles['Run'] / rates[precision]:.1f}" if known else "",
            stages(runs) if one_image else "",
        )


def stages(runs: Runs) -> str:
    """Return the seconds of each stage of the last run; the rest is start-up, loading, saving."""
    seconds = dict(runs.sidecar.get("Seconds", {}))
    if not seconds:
        return ""
    seconds["rest of the network"] = seconds.pop("network") - seconds["tiles"]
    seconds["elsewhere"] = runs.wall[-1] - sum(seconds.values())
    return ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path, nargs="+")
    parser.add_argument("--case", nargs="+", default=["whole"])
    parser.add_argument("--model", nargs="+", default=["starter"])
    parser.add_argument("--command", nargs="+", choices=COMMANDS, default=["nnunet", "openvino"])
    parser.add_argument("--copies", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer", nargs="+", default=[])
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    precisions = ["f32", "bf16"] if has_native_bf16() else ["f32"]
    rates = {name: matrix_rate(name, arguments.threads) for name in precisions}
    for name, rate in rates.items():
        print(f"{name}: {rate / 1e9:.0f} billion multiply-adds a second in a matrix product\n")
    print(
        "| model | image | case | command | tiles | wall s | × | CPU s | × | peak GiB | × | cold s "
        "| voxels that differ | lowest Dice | in tiles | limit s | stages s |\n" + 17 * "|---" + "|"
    )
    with tempfile.TemporaryDirectory() as scratch:
        for model in arguments.model:
            cost = tile_cost(model)
            for path, case in product(arguments.image, arguments.case):
                image = make_case(path, case, Path(scratch))
                measured = time_case(image, model, arguments)
                names = (model_name(model), path.name.removesuffix(".nii.gz"), case)
                for row in rows(measured, cost, rates):
                    print("| " + " | ".join((*names, *row)) + " |", flush=True)


def model_name(model: str) -> str:
    """Return what a model is called in the tables: its tag, or the name of its folder."""
    path = Path(model)
    return path.parent.name if path.name.startswith("nnUNetTrainer") else path.name


def time_case(image: Path, model: str, arguments: argparse.Namespace) -> dict[str, Runs]:
    """Return what was measured of each command on one image."""
    common = ("-model", model, "-threads", str(arguments.threads))
    peers = dict(peer.split("=", 1) for peer in arguments.peer)
    several = f"openvino, {arguments.copies} copies"
    names = [*arguments.command, *peers, *([several] if arguments.copies else [])]
    measured = {name: Runs(images=arguments.copies if name == several else 1) for name in names}
    out = image.parent / "out"
    copies = [image.with_name(f"copy{number}.nii.gz") for number in range(arguments.copies)]
    for copy in copies:
        shutil.copy(image, copy)
    shutil.rmtree(out.with_name("cache"), ignore_errors=True)
    for name, runs in measured.items():
        if COMMANDS.get(name, ("", "nnunet"))[1] == "openvino":
            first = Runs()
            run_ours([image], out, (*common, *COMMANDS[name]), first)
            runs.cold = first.wall[0]
    for _ in range(arguments.repeats):
        for name, runs in measured.items():
            if name in peers:
                run_peer(peers[name], image, out.with_suffix(".nii.gz"), runs)
            elif name == several:
                run_ours(copies, out, (*common, *COMMANDS["openvino"]), runs)
            else:
                run_ours([image], out, (*common, *COMMANDS[name]), runs, CONFINED.get(name))
    return measured


if __name__ == "__main__":
    main()
