"""Corrections of levels are made where most of the map supports them, and left out elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fake_network import Loader
from model_zips import write_model as write_model_folder
from sct_rootlets_task.cli import sct_deepseg
from sct_rootlets_task.io.images import load_image
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.corrections import (
    LARGEST_BUNDLE_MM3,
    is_sure,
    order_levels,
    undecided,
    unify_bundles,
)
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.rootlets.bundles import find_bundles
from sct_rootlets_task.rootlets.postprocess import HookContext
from sct_rootlets_task.segmentation.segmenter import MOST_RELABELED, Segmenter, Settings
from volumes import write_image

LEVELS = tuple(range(2, 10))
CONTEXT = HookContext(np.eye(4), LEVELS, priors=CERVICAL)


def blobs(seed: int, smooth: float, share: float) -> np.ndarray:
    """Return what a network of random weights says: smooth fields, the strongest one wins."""
    random = np.random.default_rng(seed)
    fields = np.stack(
        [gaussian_filter(random.normal(size=(24, 24, 60)), smooth) for _ in range(1 + len(LEVELS))]
    )
    fields[0] += np.quantile(fields[1:].max(axis=0) - fields[0], 1 - share)
    return np.append(0, LEVELS)[fields.argmax(axis=0)].astype(np.uint8)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("smooth", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_labels_of_a_random_model_stay_as_they_are(seed: int, smooth: float, share: float) -> None:
    labels = blobs(seed, smooth, share)
    for hook in (unify_bundles, order_levels):
        changed = np.count_nonzero(hook(labels, CONTEXT) != labels)
        assert changed <= 0.02 * np.count_nonzero(labels)
    pieces, voxels = undecided(labels, np.eye(4))
    assert pieces > 0
    assert voxels > 0.9 * np.count_nonzero(labels)


def rods(votes: dict[int, int], width: int = 2) -> np.ndarray:
    """Return a bundle on either side, along z, in which levels have so many voxels, strewn."""
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in votes.values()])
    values = np.repeat(list(votes), list(votes.values()))[np.argsort(places, kind="stable")]
    labels = np.zeros((40, 20, len(values) // width**2 + 5), np.uint8)
    for number, value in enumerate(values):
        across, along = number % width**2, 2 + number // width**2
        for x in (4, 30):
            labels[x + across % width, 4 + across // width, along] = value
    return labels


@pytest.mark.parametrize(
    ("votes", "is_unified"),
    [
        ({5: 40}, True),
        ({5: 30, 6: 10}, True),
        ({5: 21, 6: 19}, True),
        ({5: 20, 6: 20}, False),
        ({5: 18, 6: 12, 7: 10}, False),
        ({5: 10, 6: 10, 7: 10, 8: 10}, False),
    ],
)
def test_a_bundle_gets_one_level_where_more_than_half_of_it_agrees(
    votes: dict[int, int], is_unified: bool
) -> None:
    labels = rods(votes)
    unified = unify_bundles(labels, CONTEXT)
    bundles = find_bundles(labels, np.eye(4)).items
    assert [is_sure(bundle) for bundle in bundles] == [is_unified] * 2
    np.testing.assert_array_equal(unified, np.where(labels > 0, 5, 0) if is_unified else labels)
    assert undecided(unified, np.eye(4)) == ((0, 0) if is_unified else (2, 80))


@pytest.mark.parametrize("size", [2.0, 1.0, 0.5])
def test_what_is_larger_than_a_bundle_can_be_is_left_whatever_the_grid(size: float) -> None:
    affine = np.diag([size, size, size, 1.0])
    context = HookContext(affine, LEVELS, priors=CERVICAL)
    for volume, is_unified in ((0.9, True), (1.1, False)):
        count = int(volume * LARGEST_BUNDLE_MM3 / size**3)
        labels = rods({5: count - count // 4, 6: count // 4}, width=5)
        assert (len(np.unique(unify_bundles(labels, context))) == 2) is is_unified


def test_the_bound_lies_between_real_bundles_and_those_of_random_models(shared_data: Path) -> None:
    image = load_image(shared_data / "pam50" / "PAM50_rootlets.nii.gz")
    labels = np.round(image.data).astype(np.uint8)
    bundles = find_bundles(labels, image.affine).items
    assert 10 * max(bundle.volume for bundle in bundles) <= LARGEST_BUNDLE_MM3
    assert all(is_sure(bundle) for bundle in bundles)


def write_levels_model(folder: Path) -> InstalledModel:
    write_model_folder(folder)
    (trainer,) = folder.glob("nnUNetTrainer*")
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "RPI"}
    (trainer / "dataset.json").write_text(json.dumps(dataset))
    return InstalledModel(trainer, None, "custom", custom=True)


def relabel_share(share: float) -> Callable[[np.ndarray, HookContext], np.ndarray]:
    """Return a hook that gives a share of the labeled voxels another level."""

    def hook(labels: np.ndarray, context: HookContext) -> np.ndarray:
        changed = labels.copy()
        voxels = np.flatnonzero(labels)
        changed.ravel()[voxels[: round(share * len(voxels))]] = 9
        return changed

    return hook


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.55, 0.8, 1.0])
def test_a_hook_that_would_relabel_most_of_the_map_stands_back(
    tmp_path: Path, share: float
) -> None:
    data = np.full((9, 9, 44), 100, np.int16)
    data[2:4, 2:4, 2:42] = 5
    image = load_image(write_image(tmp_path / "a.nii.gz", data))
    task = replace(TASKS["rootlets"], hooks=(relabel_share(share),))
    segmenter = Segmenter(
        task, write_levels_model(tmp_path / "m"), Settings(tiles="all"), load=Loader()
    )
    result = segmenter.segment(image)
    changed = np.count_nonzero(result.labels == 9) / np.count_nonzero(result.labels)
    is_left_out = share > MOST_RELABELED
    assert changed == pytest.approx(0.0 if is_left_out else share, abs=0.01)
    assert any("too many to be sure of" in warning for warning in result.warnings) is is_left_out
    assert result.steps[-1].voxels_changed == np.count_nonzero(result.labels == 9)


def test_what_is_left_undecided_is_a_warning_in_the_sidecar_and_in_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = blobs(1, 2.0, 0.9).astype(np.int16)
    data[0, 0, :9] = 100
    image = write_image(tmp_path / "a.nii.gz", data)
    model = write_levels_model(tmp_path / "m")
    words = ["rootlets", "-i", str(image), "-model", str(model.path), "-tiles", "all", "-v", "0"]
    assert sct_deepseg.main(words, load=Loader()) == 0
    sidecar = json.loads((tmp_path / "a_rootlets.json").read_text())
    (warning,) = [one for one in sidecar["Warnings"] if "left as the network said" in one]
    assert "larger than a bundle" in warning
    assert warning in capsys.readouterr().err
    assert sct_deepseg.main([*words, "-raw", "-o", str(tmp_path / "raw")], load=Loader()) == 0
    raw = json.loads((tmp_path / "raw.json").read_text())
    assert not [one for one in raw["Warnings"] if "left as the network said" in one]
    assert (raw["Raw"], raw["Tiles"]["Asked"]) == (True, "all")


@pytest.mark.parametrize(
    ("raw", "tiles", "words", "expected"),
    [
        ("", "", (), (False, "auto")),
        ("1", "all", (), (True, "all")),
        ("on", "auto", (), (True, "auto")),
        ("0", "all", ("-raw",), (True, "all")),
        ("no", "all", ("-tiles", "auto"), (False, "auto")),
        ("1", "nonsense", ("-tiles", "all"), (True, "all")),
    ],
)
def test_options_win_over_variables(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raw: str,
    tiles: str,
    words: tuple[str, ...],
    expected: tuple[bool, str],
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_RAW", raw)
    monkeypatch.setenv("SCT_ROOTLETS_TILES", tiles)
    data = np.full((9, 9, 44), 100, np.int16)
    data[2:4, 2:4, 2:42] = 5
    image = write_image(tmp_path / "a.nii.gz", data)
    model = write_levels_model(tmp_path / "m")
    given = ["rootlets", "-i", str(image), "-model", str(model.path), "-v", "0", *words]
    assert sct_deepseg.main(given, load=Loader()) == 0
    sidecar = json.loads((tmp_path / "a_rootlets.json").read_text())
    assert (sidecar["Raw"], sidecar["Tiles"]["Asked"]) == expected


def test_a_wrong_variable_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCT_ROOTLETS_TILES", "some")
    image = write_image(tmp_path / "a.nii.gz", blobs(1, 2.0, 0.9).astype(np.int16))
    load = Loader()
    assert sct_deepseg.main(["rootlets", "-i", str(image)], load=load) == 2
    assert "SCT_ROOTLETS_TILES expects auto or all, found 'some'" in capsys.readouterr().err
    assert load.networks == []


def test_the_help_names_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert sct_deepseg.main(["rootlets", "-h"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "SCT_ROOTLETS_RAW=1" in said
    assert "$SCT_ROOTLETS_TILES" in said
