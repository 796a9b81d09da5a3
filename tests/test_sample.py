"""The synthetic sample is anatomy, not noise: levels in order, rootlets dark in bright CSF."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.images import load_image
from sct_rootlets_task.sample import Sample, make_sample, write_sample


@pytest.fixture(scope="module")
def sample() -> Sample:
    return make_sample(0)


def test_a_seed_always_gives_the_same_volume(sample: Sample) -> None:
    again = make_sample(0)
    assert np.array_equal(sample.data, again.data)
    assert np.array_equal(sample.levels, again.levels)
    assert not np.array_equal(sample.data, make_sample(1).data)


def test_the_levels_follow_each_other_at_the_published_distances(sample: Sample) -> None:
    middles = [np.argwhere(sample.levels == level)[:, 2].mean() for level in range(2, 10)]
    # Cadotte 2015 saw 10.0 to 18.8 mm between the midpoints of neighbouring levels.
    assert all(10.0 <= upper - lower <= 18.8 for upper, lower in pairwise(middles))


def test_every_level_has_rootlets_on_both_sides_in_front_and_behind(sample: Sample) -> None:
    for level in range(2, 10):
        places = np.argwhere(sample.levels == level)
        low, high = places[:, 2].min(), places[:, 2].max()
        middle = np.argwhere(sample.cord[:, :, low : high + 1]).mean(axis=0)
        assert 0.3 < np.mean(places[:, 0] > middle[0]) < 0.7
        assert 0.1 < np.mean(places[:, 1] > middle[1]) < 0.9


def test_rootlets_lie_outside_the_cord_and_are_darker_than_the_csf(sample: Sample) -> None:
    rootlets = sample.levels > 0
    assert not np.any(rootlets & sample.cord)
    slices = np.flatnonzero(rootlets.any(axis=(0, 1)))
    around = sample.data[:, :, slices[0] : slices[-1]]
    csf = np.percentile(around, 99)
    assert sample.data[rootlets].mean() < 0.85 * csf
    assert sample.data[sample.cord].mean() < 0.6 * csf


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_the_file_is_a_coherent_image_of_one_millimetre(tmp_path: Path, name: str) -> None:
    path = write_sample(tmp_path / name)
    image = load_image(path)
    assert image.warnings == ()
    assert image.spacing == (1.0, 1.0, 1.0)
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header.get_data_dtype() == np.int16
    if name.endswith(".gz"):
        assert path.stat().st_size < 8 * 2**20
