"""Print how many tiles keep the labels of all tiles.

    python -m benchmarks.tiles IMAGE … [--model starter …] [--contradiction 30 11 10 5]

A tile is left out if only an unlikely result of it could change a label: one that contradicts the
average of the others by so many logits (``CONTRADICTION`` in :mod:`.tile_schedule`). Each image is
segmented with all tiles, then with each of these numbers. The voxels that differ, and the lowest
Dice coefficient of a level, are what the saving costs.

The last column is for ``ROUNDING`` there. It is the largest error of nnU-Net's sums in half
precision where a voxel is in doubt: where the two highest logits are less than one apart.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.parity import lowest_dice
from sct_rootlets_task.inference import tile_schedule
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.inference.openvino_engine import Engine, OpenVINOEngine, read_weights
from sct_rootlets_task.inference.sliding_window import TiledNetwork, _margins, _slices
from sct_rootlets_task.io.images import load_image
from sct_rootlets_task.io.paths import model_root
from sct_rootlets_task.models.resolve import resolve
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings


class Remembered:
    """An engine that computes no tile twice.

    Parameters
    ----------
    engine : Engine
    known : dict
        Logits by the bytes of a tile.
    """

    def __init__(self, engine: Engine, known: dict[bytes, np.ndarray]) -> None:
        self.name, self.device, self.precision = engine.name, engine.device, engine.precision
        self.engine, self.known = engine, known

    def predict(self, patch: np.ndarray) -> np.ndarray:
        """Return the logits of a tile."""
        key = patch.tobytes()
        if key not in self.known:
            self.known[key] = self.engine.predict(patch).copy()
        return self.known[key]

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()


class Measured(TiledNetwork):
    """A network that also adds all tiles up in single precision, and keeps how far half is off."""

    rounding = 0.0

    def _average(self, data: np.ndarray, grid: tile_schedule.TileGrid) -> np.ndarray:
        half = super()._average(data, grid)
        patch = self._preprocessing.patch
        total, weight = np.zeros(half.shape, np.float32), np.zeros(data.shape, np.float32)
        weights = self._weights.astype(np.float32)
        for tile in grid.tiles():
            here = _slices(tile, patch)
            weight[here] += weights * len(self.engines)
            for engine in self.engines:
                logits = engine.predict(np.ascontiguousarray(data[here]))
                total[:, here[0], here[1], here[2]] += logits * weights
        exact = _margins((total / weight).reshape(len(total), -1))
        doubt = exact < 1
        off = np.abs(_margins(half.astype(np.float32).reshape(len(half), -1)) - exact)[doubt]
        self.rounding = float(off.max(initial=0.0))
        return half


def load(known: dict[bytes, np.ndarray], folder: ModelFolder, options: Options) -> Measured:
    """Load a model whose logits are remembered."""
    engines = [OpenVINOEngine(folder, weights) for weights in read_weights(folder)]
    return Measured(folder, [Remembered(engine, known) for engine in engines])


def compare(model: str, path: Path, numbers: list[float]) -> Iterator[tuple[Any, ...]]:
    """Yield number, tiles run, differing voxels, lowest Dice and rounding; all tiles first."""
    task = TASKS.find("rootlets")
    resolved = resolve(task, model, model_root(None))
    image, known = load_image(path), dict[bytes, np.ndarray]()
    loader = partial(load, known)
    every = Segmenter(task, resolved.model, Settings(tiles="all"), load=loader)
    whole = every.segment(image)
    measured = every.network
    assert isinstance(measured, Measured)
    yield "all tiles", whole.tiles[0], 0, 1.0, f"{measured.rounding:.4f}"
    for number in numbers:
        with mock.patch.object(tile_schedule, "CONTRADICTION", number):
            fewer = Segmenter(task, resolved.model, load=loader).segment(image)
        differing = int(np.count_nonzero(fewer.labels != whole.labels))
        yield f"{number:g}", fewer.tiles[0], differing, lowest_dice(fewer.labels, whole.labels), ""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", nargs="+", default=["starter"])
    parser.add_argument("--contradiction", nargs="+", type=float, default=[30, 11, 10, 5])
    arguments = parser.parse_args()
    print("| model | image | contradiction | tiles | voxels that differ | lowest Dice | rounding |")
    print("|---|---|---|---|---|---|---|")
    for model in arguments.model:
        for path in arguments.images:
            for row in compare(model, path, arguments.contradiction):
                number, count, differing, dice, rounding = row
                name = path.name.removesuffix(".gz").removesuffix(".nii")
                print(
                    f"| {Path(model).name} | {name} | {number} | {count} | {differing} "
                    f"| {dice:.4f} | {rounding} |", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
