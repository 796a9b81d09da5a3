"""A network without weights: classes from the intensity, by a rule a test can foresee."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sct_rootlets_task.nnunet import ModelFolder


class FakeNetwork:
    """Give each voxel the class that its (whole) intensity names, if the model has it."""

    device = "cpu"

    def __init__(self, folder: ModelFolder) -> None:
        self.known = set(folder.classes.values())
        self.seen: list[tuple[tuple[int, ...], tuple[float, ...]]] = []

    def predict(self, volume: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
        self.seen.append((volume.shape, tuple(spacing)))
        return np.where(np.isin(volume, list(self.known)), volume, 0).astype(np.uint8)


class Loader:
    """Stand in for ``load_network`` and remember what was loaded."""

    def __init__(self) -> None:
        self.networks: list[FakeNetwork] = []
        self.options: list[dict[str, Any]] = []

    def __call__(self, folder: ModelFolder, device: str = "auto", **options: Any) -> FakeNetwork:
        self.options.append({"device": device, **options})
        self.networks.append(FakeNetwork(folder))
        return self.networks[-1]
