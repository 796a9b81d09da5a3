"""A widened network computes what the small one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.wide import write_wide
from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from tiny_model import FEATURES, write_model

pytestmark = pytest.mark.network


def test_labels_are_those_of_the_small_network(tmp_path: Path) -> None:
    small = write_model(tmp_path / "small")
    patch = list(read_model_folder(small).configuration["patch_size"])
    wide = write_wide(small, tmp_path / "wide", [2 * n + 3 for n in FEATURES], patch)
    rng = np.random.default_rng(0)
    volume = rng.standard_normal((40, 30, 30)).astype(np.float32)
    found = [
        load_network(read_model_folder(path), Options(engine="openvino", device="cpu")).predict(
            volume, (1.0, 1.0, 1.0), None
        )
        for path in (small, wide)
    ]
    assert len(np.unique(found[0])) > 2
    assert np.mean(found[0] == found[1]) > 0.999
