"""The locator saves work and gives levels, and is not trusted blindly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fake_network import FakeNetwork
from model_zips import write_model
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.io.images import InputImage, load_image
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.segmentation.level_strategy import LevelsFromCanal, LevelsFromNames
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings
from sct_rootlets_task.tasks import BUNDLED
from volumes import write_image

SHAPE = (40, 40, 90)
TASK = TASKS["rootlets"]


class Scripted(FakeNetwork):
    """A network that answers with a prepared array, given in the image's own (RAS) axes."""

    def __init__(self, folder: ModelFolder, answer: np.ndarray) -> None:
        super().__init__(folder)
        self.answer = answer
        self.asked: list[np.ndarray | None] = []
        self.continued: list[tuple[int, int]] = []

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        self.asked.append(roi_mask)
        answer = self.answer.transpose(2, 1, 0)
        more = max(len(volume) - len(answer), 0)  # none where the image was averaged before
        before = _repeated(volume) if more else 0
        after = more - before
        self.continued.append((before, after))
        return np.pad(answer, ((before, after), (0, 0), (0, 0)))


def _repeated(volume: np.ndarray) -> int:
    """Return how many times the first slice comes again."""
    return int(np.argmin((volume == volume[:1]).all(axis=(1, 2)))) - 1


class Scene:
    """A canal with levels along z, and a model's answer beside it."""

    def __init__(self, folder: Path, *, by_name: bool, located: Sequence[int] = range(2, 10)):
        self.canal = np.zeros(SHAPE, np.uint8)
        for number, code in enumerate(reversed(located)):
            self.canal[15:25, 15:25, 10 * number : 10 * (number + 1)] = code
        self.answer = np.zeros(SHAPE, np.uint8)
        self.answer[11:13, 18:22, 23:27] = 7 if by_name else 1
        self.networks: dict[str, Scripted] = {}
        self.model = _custom(folder) if by_name else _starter()

    def load(self, folder: ModelFolder, options: Options) -> Scripted:
        is_locator = "above" in folder.classes
        network = Scripted(folder, self.canal if is_locator else self.answer)
        self.networks["locator" if is_locator else "main"] = network
        return network

    def segmenter(self, **settings: str) -> Segmenter:
        return Segmenter(TASK, self.model, replace(Settings(), **settings), load=self.load)

    def image(self, folder: Path, slices_mm: float = 1.0) -> InputImage:
        data = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
        zooms = (1.0, 1.0, slices_mm)
        return load_image(write_image(folder / "image.nii", data, axcodes="RAS", zooms=zooms))


def _custom(folder: Path) -> InstalledModel:
    trainer = write_model(folder / "model")
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "LPI"}
    (trainer / "dataset.json").write_text(json.dumps(dataset))
    return InstalledModel(trainer, None, "custom", custom=True)


def _starter() -> InstalledModel:
    release = TASK.release("starter")
    trainer = next((BUNDLED / "starter").glob("nnUNetTrainer*"))
    return InstalledModel(trainer, release, "starter", builtin=True)


@pytest.mark.parametrize(("by_name", "way"), [(True, LevelsFromNames), (False, LevelsFromCanal)])
def test_a_segmenter_chooses_the_way_once(by_name: bool, way: type, tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=by_name)
    one = scene.segmenter()
    assert type(one._strategy) is way
    located = one.segment(scene.image(tmp_path)).located
    assert (located is not None) is by_name, "an opinion is independent of the labels only then"


def test_the_starter_takes_its_levels_from_the_locator(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=False)
    labels = scene.segmenter().segment(scene.image(tmp_path)).labels
    assert set(np.unique(labels)) == {0, 7}, "C7 is the canal's level from z = 20 to 30"
    assert np.array_equal(labels > 0, scene.answer > 0)


@pytest.mark.parametrize(
    ("by_name", "slices_mm", "length"), [(False, 1.0, 80), (False, 2.0, None), (True, 1.0, None)]
)
def test_levels_told_from_a_short_canal_come_with_a_warning(
    by_name: bool, slices_mm: float, length: int | None, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, by_name=by_name)
    found = scene.segmenter().segment(scene.image(tmp_path, slices_mm)).warnings
    short = [text for text in found if "of the spinal canal are in view" in text]
    assert [abs(int(text.split()[1]) - (length or 0)) <= 2 for text in short] == [True] * bool(
        length
    )


@pytest.mark.parametrize("lower", [False, True])
def test_levels_that_rootlets_tell_otherwise_than_the_canal_come_with_a_warning(
    lower: bool, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, by_name=False, located=(1, 2, 3, 4, 5, 6, 10, 10))
    scene.answer[:] = 0
    for number in range(5):  # from z = 65 downwards, beside C2 to C6; or one level lower
        middle = 65 - 10 * (number + lower)
        scene.answer[11:13, 18:22, middle - 3 : middle + 3] = 1
    segmentation = scene.segmenter().segment(scene.image(tmp_path, 2.0))
    assert list(np.unique(segmentation.labels)) == [0, 2, 3, 4, 5, 6]
    assert any("by the rootlets" in text for text in segmentation.warnings) is lower


@pytest.mark.parametrize("tiles", ["auto", "all"])
def test_the_starter_sees_more_than_the_image_where_levels_reach_its_end(
    tiles: str, tmp_path: Path
) -> None:
    scene = Scene(tmp_path, by_name=False, located=(2, 3, 4))  # from z = 30 down to 0, of 90
    labels = scene.segmenter(tiles=tiles).segment(scene.image(tmp_path)).labels
    assert scene.networks["main"].continued == [(16, 0)]
    assert scene.networks["locator"].continued == [(0, 0)]
    assert np.array_equal(labels > 0, scene.answer > 0)


def test_a_published_model_sees_the_image_as_it_is(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=True)
    scene.segmenter().segment(scene.image(tmp_path))
    assert set(scene.networks["main"].continued) == {(0, 0)}


def test_the_network_is_told_where_the_canal_is(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=True, located=(2, 3, 4))
    scene.segmenter().segment(scene.image(tmp_path))
    near = scene.networks["main"].asked[0]
    assert near is not None
    z, y, x = np.nonzero(near)
    assert z.max() <= 30 + 25, "the margin above the located levels is kept"
    assert abs(y.mean() - 20) < 3
    assert abs(x.mean() - 20) < 3


def test_all_tiles_are_run_when_asked(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=True)
    scene.segmenter(tiles="all").segment(scene.image(tmp_path))
    assert scene.networks["main"].asked == [None]
    assert "locator" not in scene.networks, "it is not even loaded"


def test_all_tiles_are_run_when_the_locator_finds_too_little(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=True, located=(2, 3))
    scene.segmenter().segment(scene.image(tmp_path))
    assert scene.networks["main"].asked == [None]


def test_all_tiles_are_run_when_the_network_finds_little_where_it_was_sent(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, by_name=True)
    scene.segmenter().segment(scene.image(tmp_path))
    first, second = scene.networks["main"].asked
    assert first is not None
    assert second is None


def test_the_network_is_asked_once_when_it_finds_the_located_levels(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=True)
    for level in range(2, 10):
        scene.answer[11:13, 18:22, 10 * (9 - level) : 10 * (9 - level) + 4] = level
    scene.segmenter().segment(scene.image(tmp_path))
    assert len(scene.networks["main"].asked) == 1


def test_the_starter_is_not_run_where_no_level_is_located(tmp_path: Path) -> None:
    scene = Scene(tmp_path, by_name=False, located=(10,))
    segmentation = scene.segmenter().segment(scene.image(tmp_path))
    assert scene.networks["main"].asked == []
    assert not segmentation.labels.any()
    assert "no rootlets" in segmentation.warnings[0]


@pytest.mark.parametrize("by_name", [True, False])
def test_no_value_outside_the_task_is_ever_put_out(tmp_path: Path, by_name: bool) -> None:
    scene = Scene(tmp_path, by_name=by_name)
    scene.answer[11:13, 18:22, 40:44] = 1
    labels = scene.segmenter().segment(scene.image(tmp_path)).labels
    assert set(np.unique(labels)) <= {0, *TASK.levels}
