"""Our raw labels equal those of SCT's recipe on stock nnU-Net."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from benchmarks.reference import reference_classes, stock_predictor
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.io.images import load_image
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings
from tiny_model import write_model
from volumes import smooth_noise, write_image

pytestmark = pytest.mark.network

ENGINES = ("openvino", "torch", "nnunet")
GRIDS = {
    "RAS": ("RAS", (1.0, 1.0, 1.0)),
    "PSR": ("PSR", (1.0, 1.0, 1.0)),
    "LAI": ("LAI", (0.9, 1.0, 1.1)),
    "thick": ("RAS", (0.7, 0.8, 3.9)),
}
MODELS = {
    "one fold, RPI": {},
    "three folds, LPI": {"folds": ("0", "1", "2"), "orientation": "LPI"},
    "no orientation, old plans": {"orientation": None, "old_format": True},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.filterwarnings("ignore:Detected old nnU-Net plans")
def test_raw_labels_equal_the_recipe_on_stock_nnunet(
    tmp_path: Path, grid: str, model: str, engine: str
) -> None:
    axcodes, zooms = GRIDS[grid]
    shape = (30, 26, 34) if grid != "thick" else (40, 36, 9)
    path = write_image(tmp_path / "image.nii.gz", smooth_noise(shape), axcodes=axcodes, zooms=zooms)
    folder = write_model(tmp_path / "model", **MODELS[model])
    labels = _our_labels(folder, path, engine)
    classes = reference_classes(stock_predictor(folder), nib.load(path))
    expected = np.where(classes >= 2, classes, 0)
    assert len(np.unique(expected)) > 3, "the comparison needs several levels"
    assert np.mean(labels == expected) >= 0.9999


@pytest.mark.parametrize("engine", ENGINES)
def test_test_time_augmentation_equals_stock_mirroring(tmp_path: Path, engine: str) -> None:
    path = write_image(tmp_path / "image.nii.gz")
    folder = write_model(tmp_path / "model")
    plain = _our_labels(folder, path, engine)
    mirrored = _our_labels(folder, path, engine, test_time_aug=True)
    classes = reference_classes(stock_predictor(folder, mirroring=True), nib.load(path))
    assert np.mean(mirrored == np.where(classes >= 2, classes, 0)) >= 0.9999
    assert not np.array_equal(plain, mirrored)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("axes", [None, ()])
def test_a_model_trained_without_mirroring_is_run_without_it(
    tmp_path: Path, axes: tuple[int, ...] | None, engine: str
) -> None:
    import torch

    path = write_image(tmp_path / "image.nii.gz", smooth_noise((20, 22, 24)))
    folder = write_model(tmp_path / "model")
    checkpoint = folder / "fold_all" / "checkpoint_final.pth"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "inference_allowed_mirroring_axes": axes}, checkpoint)
    plain = _our_labels(folder, path, engine)
    assert np.array_equal(_our_labels(folder, path, engine, test_time_aug=True), plain)


def _our_labels(
    folder: Path, image: Path, engine: str, *, test_time_aug: bool = False
) -> np.ndarray:
    model = InstalledModel(
        path=folder, release=None, name="tiny", urls=(), sha256=None, custom=True, builtin=False
    )
    options = Options(engine=engine, device="cpu", test_time_aug=test_time_aug)
    settings = Settings(options, tiles="all", raw=True)
    segmenter = Segmenter(TASKS["rootlets"], model, settings)
    assert segmenter.network.engine == engine
    return segmenter.segment(load_image(image)).labels
