"""A network without weights: classes from the intensity, by a rule a test can foresee."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.inference.model_folder import ModelFolder


class FakeNetwork:
    """Give each voxel the class that its (whole) intensity names, if the model has it."""

    engine, device, precision, tiles_run = "fake", "cpu", "f32", (1, 1)
    tile_seconds = 0.5

    def __init__(self, folder: ModelFolder) -> None:
        self.folder = folder
        self.known = set(folder.classes.values())
        self.seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        self.seen.append((volume.shape, tuple(spacing)))
        return np.where(np.isin(volume, list(self.known)), volume, 0).astype(np.uint8)


class Loader:
    """Stand in for ``load_network`` and remember what was loaded."""

    def __init__(self) -> None:
        self.networks: list[FakeNetwork] = []
        self.options: list[Options] = []

    def __call__(self, folder: ModelFolder, options: Options) -> FakeNetwork:
        self.options.append(options)
        self.networks.append(FakeNetwork(folder))
        return self.networks[-1]
