"""Leaving out tiles changes no label as long as tiles contradict each other less than allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the tiny model is written with torch")

from sct_rootlets_task.inference import sliding_window
from sct_rootlets_task.inference.model_folder import ModelFolder, read_model_folder
from sct_rootlets_task.inference.sliding_window import CLEAR, TiledNetwork, _Seen, _TileLogits
from tiny_model import write_model

pytestmark = pytest.mark.network

SPACING = (0.9, 1.0, 1.1)
SHAPE = (90, 60, 50)


class Quarrelsome:
    """An engine whose tiles see the same edges, but disagree about how clear they are.

    Parameters
    ----------
    quarrel : float
        Most that two tiles differ by.
    strength : float
        How clear the edges are, as a logit.
    """

    name, device, precision = "quarrelsome", "cpu", "f32"

    def __init__(self, quarrel: float, strength: float = 4.0) -> None:
        self.quarrel, self.strength, self.calls = quarrel, strength, 0

    def predict(self, patch: np.ndarray) -> np.ndarray:
        self.calls += 1
        # The same tile is seen alike, whenever it is asked for.
        rng = np.random.default_rng(int(np.abs(patch).sum() * 1000) % 2**32)
        margin = self.strength * np.sign(patch)
        other = margin + rng.uniform(-self.quarrel / 2, self.quarrel / 2, patch.shape)
        return np.stack([-other / 2, other / 2, np.full_like(other, -20.0)]).astype(np.float32)

    def close(self) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return read_model_folder(write_model(tmp_path / "model"))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a volume with a bright thread, and where to look for it."""
    volume = -np.ones(SHAPE, np.float32)
    roi_mask = np.zeros(SHAPE, bool)
    for z in range(20, 70):
        y, x = 25 + z // 6, 20 + z // 9
        volume[z, y : y + 3, x : x + 3] = 9
        roi_mask[z, y - 6 : y + 9, x - 6 : x + 9] = True
    return volume, roi_mask


@pytest.mark.parametrize("held", [0, sliding_window.HELD_BYTES])
@pytest.mark.parametrize("quarrel", [0.0, 3.0, 7.0])
@pytest.mark.parametrize("folds", [1, 2])
def test_the_labels_are_those_of_all_tiles(
    folder: ModelFolder, quarrel: float, folds: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding_window, "HELD_BYTES", held)
    volume, roi_mask = scene()
    engines = [Quarrelsome(quarrel, 4.0 + fold) for fold in range(folds)]
    network = TiledNetwork(folder, engines)
    expected = network.predict(volume, SPACING)
    everything = network.tiles_run
    labels = network.predict(volume, SPACING, roi_mask)
    assert (expected[roi_mask] == (volume[roi_mask] > 0)).all()
    assert np.array_equal(labels[roi_mask], expected[roi_mask])
    assert not labels[~roi_mask].any()
    assert everything[0] == everything[1] == network.tiles_run[1]
    assert network.tiles_run[0] < everything[0] / 2


def test_a_label_ends_where_it_does_with_the_logits_of_everything(folder: ModelFolder) -> None:
    volume, roi_mask = scene()
    network = TiledNetwork(folder, [Quarrelsome(1.0, 5 * CLEAR)])
    spacing = (1.3, 1.5, 0.8)
    assert spacing != SPACING  # so the logits are interpolated
    expected = network.predict(volume, spacing)
    assert np.count_nonzero(expected) > 100
    assert np.array_equal(network.predict(volume, spacing, roi_mask)[roi_mask], expected[roi_mask])


def test_doubt_asks_for_more_tiles(folder: ModelFolder) -> None:
    volume, roi_mask = scene()
    counts = []
    for strength in (8.0, 3.0, 0.1):
        network = TiledNetwork(folder, [Quarrelsome(0.0, strength)])
        network.predict(volume, SPACING, roi_mask)
        counts.append(network.tiles_run[0])
    assert counts[0] < counts[1] < counts[2]


def test_nowhere_to_look_means_no_tile(folder: ModelFolder) -> None:
    volume, roi_mask = scene()
    engine = Quarrelsome(0.0)
    network = TiledNetwork(folder, [engine])
    assert not network.predict(volume, SPACING, np.zeros_like(roi_mask)).any()
    assert engine.calls == network.tiles_run[0] == 0


def line_of_voxels(count: int) -> _Seen:
    return _Seen(np.stack([np.arange(count), *np.zeros((2, count), int)], axis=1))


def whole_run(seen: _Seen, ahead: np.ndarray, weight: float) -> _TileLogits:
    """Return a tile of all voxels that says by how much the background is ahead of one label."""
    weights = np.full(len(ahead), weight, np.float16)
    logits = np.stack([ahead / 2, -ahead / 2]) * np.float32(weight)
    return _TileLogits(np.arange(len(ahead), dtype=np.int32), weights, [logits.astype(np.float32)])


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what can be forgotten, however little it is."""
    monkeypatch.setattr(sliding_window, "HELD_BYTES", 0)


def test_nothing_is_forgotten_while_it_is_little() -> None:
    seen = line_of_voxels(9)
    seen.add(0, whole_run(seen, np.full(9, 2 * CLEAR), 1.0))
    seen.forget(np.zeros(9))
    assert len(seen.tiles[0].rows) == 9


@pytest.mark.usefixtures("little_memory")
def test_logits_are_kept_where_they_can_still_matter() -> None:
    seen, doubt = line_of_voxels(9), np.full(9, 2.0)
    ahead = np.full(9, CLEAR + 2.5)
    ahead[4] = CLEAR + 1.5
    seen.add(0, whole_run(seen, ahead, 1.0))
    seen.forget(doubt)
    assert seen.tiles[0].rows.tolist() == [3, 4, 5]
    assert seen.tiles[0].weights.shape == (3,)
    assert seen.tiles[0].folds[0].shape == (2, 3)
    seen.forget(np.zeros(9))
    assert not len(seen.tiles[0].rows)


@pytest.mark.usefixtures("little_memory")
def test_a_label_where_logits_were_forgotten_is_told_all_the_same() -> None:
    seen = line_of_voxels(5)
    seen.add(0, whole_run(seen, np.full(5, 2 * CLEAR), 1.0))
    seen.forget(np.zeros(5))
    contrary = np.full(5, 2 * CLEAR)
    contrary[2] = -10 * CLEAR
    seen.add(1, whole_run(seen, contrary, 1.0))
    seen.forget(np.zeros(5))
    rows = seen.beside_labels()
    assert rows.tolist() == [1, 2, 3]
    ahead = np.subtract(*seen.mean(rows))
    np.testing.assert_allclose(ahead, [2 * CLEAR, -4 * CLEAR, 2 * CLEAR], rtol=1e-3)
