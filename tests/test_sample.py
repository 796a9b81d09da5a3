"""The synthetic sample has a known anatomy and a coherent header."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt

from sct_rootlets_task.errors import OutputError
from sct_rootlets_task.io import sample as stored
from sct_rootlets_task.io.sample import AFFINE, SHAPE, load_sample, write_sample
from training import make_sample as generator
from training.make_sample import (
    DISCS,
    SPINAL_LEVELS,
    PaintedSample,
    Space,
    SpinalLevel,
    cord_axis,
    make_filaments,
    make_sample,
    make_space,
    pack,
)

LEVELS = list(range(2, 10))


@pytest.fixture(scope="module")
def sample() -> PaintedSample:
    return make_sample(0)


@pytest.fixture(scope="module")
def space() -> Space:
    return make_space()


@pytest.fixture(scope="module")
def along_cord(sample: PaintedSample, space: Space) -> dict[int, np.ndarray]:
    """Distance from the PMJ of every rootlet voxel, by level, in mm."""
    s = np.broadcast_to(space.s, SHAPE)
    return {level: s[sample.levels == level] for level in LEVELS}


def test_the_package_holds_the_very_sample_that_is_painted(sample: PaintedSample) -> None:
    """Versions of numpy and scipy round a few voxels of what is painted to the next value."""
    loaded = load_sample()
    assert (loaded.data.dtype, loaded.cord.dtype) == (np.int16, bool)
    apart = np.abs(loaded.data - sample.data)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= 30
    np.testing.assert_array_equal(loaded.cord, sample.cord)


def test_the_file_of_the_package_is_that_of_the_generator_and_at_most_a_megabyte(
    sample: PaintedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sample.xz").write_bytes(pack(sample))
    assert stored.FILE.stat().st_size <= 1_000_000
    assert (tmp_path / "sample.xz").stat().st_size <= 1_000_000
    monkeypatch.setattr(stored, "FILE", tmp_path / "sample.xz")
    np.testing.assert_array_equal(load_sample().data, sample.data)


def test_another_seed_is_another_volume_of_the_same_anatomy(sample: PaintedSample) -> None:
    other = make_sample(1)
    assert (sample.data != other.data).mean() > 0.5
    np.testing.assert_array_equal(sample.cord, other.cord)
    with pytest.raises(ValueError, match="seed 0"):
        pack(other)


def test_a_last_digit_of_the_arithmetic_changes_no_voxel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of numpy and scipy differ by that much."""
    expected, texture = load_sample().data, stored.texture
    monkeypatch.setattr(stored, "texture", lambda *given: np.nextafter(texture(*given), 9))
    np.testing.assert_array_equal(load_sample().data, expected)


def test_the_generator_writes_a_variant_and_its_truth(
    sample: PaintedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nibabel as nib

    monkeypatch.setattr(generator, "make_sample", {3: sample}.__getitem__)
    monkeypatch.chdir(tmp_path)
    more = ["--cord", "c.nii.gz", "--levels", "l.nii.gz", "--pack", "p.xz"]
    generator.main(["a.nii.gz", "--seed", "3", *more])
    for name, array in (("a", sample.data), ("c", sample.cord), ("l", sample.levels)):
        written = nib.load(f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(written.dataobj), array)
        np.testing.assert_array_equal(written.affine, AFFINE)
    assert Path("p.xz").read_bytes() == pack(sample)


def test_header_is_coherent(tmp_path: Path) -> None:
    import nibabel as nib

    path = tmp_path / "new" / "sample.nii.gz"
    write_sample(path)
    image = nib.load(path)
    sform, s_code = image.header.get_sform(coded=True)
    qform, q_code = image.header.get_qform(coded=True)
    assert (s_code, q_code) == (1, 1)
    np.testing.assert_allclose(sform, qform, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header.get_zooms() == (1.0, 1.0, 1.0)
    assert image.get_data_dtype() == np.int16
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_file_holds_the_sample_and_is_a_few_megabytes(tmp_path: Path) -> None:
    import nibabel as nib

    path = tmp_path / "sample.nii.gz"
    write_sample(path)
    np.testing.assert_array_equal(np.asanyarray(nib.load(path).dataobj), load_sample().data)
    assert path.stat().st_size < 5e6


def test_the_cord_mask_lies_on_the_grid_of_the_volume(
    tmp_path: Path, sample: PaintedSample
) -> None:
    import nibabel as nib

    write_sample(tmp_path / "a.nii.gz", cord=tmp_path / "cord.nii.gz")
    image = nib.load(tmp_path / "a.nii.gz")
    cord = nib.load(tmp_path / "cord.nii.gz")
    np.testing.assert_array_equal(cord.affine, image.affine)
    np.testing.assert_array_equal(np.asanyarray(cord.dataobj) == 1, sample.cord)


def test_unwritable_target_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="Cannot write"):
        write_sample(tmp_path / "file" / "sample.nii.gz")


def test_all_levels_are_there_and_no_other_value(sample: PaintedSample) -> None:
    assert np.unique(sample.levels).tolist() == [0, *LEVELS]


def test_levels_follow_each_other_from_head_to_foot(sample: PaintedSample) -> None:
    heights = [np.argwhere(sample.levels == level)[:, 2].mean() for level in LEVELS]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("level", SPINAL_LEVELS, ids=lambda level: f"level {level.level}")
def test_rootlets_lie_where_the_table_says(
    level: SpinalLevel, along_cord: dict[int, np.ndarray]
) -> None:
    s = along_cord[level.level]
    assert s.mean() == pytest.approx(level.midpoint, abs=2)
    assert np.ptp(s) == pytest.approx(level.height, abs=2.5)


def test_spacing_and_gaps_are_within_those_seen_in_people(
    along_cord: dict[int, np.ndarray],
) -> None:
    """Ranges of Cadotte et al. 2015: midpoints 10.0–18.8 mm apart, gaps of 1.5–10.0 mm."""
    for upper, lower in pairwise(LEVELS):
        assert 10.0 < along_cord[lower].mean() - along_cord[upper].mean() < 18.8
        assert 1.5 < along_cord[lower].min() - along_cord[upper].max() < 10.0


@pytest.mark.parametrize("level", LEVELS)
def test_each_level_has_four_bundles(level: int, sample: PaintedSample, space: Space) -> None:
    mine = sample.levels == level
    right, front = np.broadcast_to(space.w > 0, SHAPE), np.broadcast_to(space.v > 0, SHAPE)
    for side in (right, ~right):
        for part in (front, ~front):
            assert np.count_nonzero(mine & side & part) >= 10


def test_rootlets_lie_in_the_csf_outside_the_cord(sample: PaintedSample) -> None:
    rootlets = sample.levels > 0
    from_cord = distance_transform_edt(~sample.cord)[rootlets]
    assert from_cord.min() >= 1
    assert from_cord.max() < 10


@pytest.mark.parametrize("level", LEVELS)
def test_rootlets_and_cord_are_darker_than_the_csf_around(
    level: int, sample: PaintedSample
) -> None:
    slices = np.unique(np.argwhere(sample.levels == level)[:, 2])
    data, rootlets, cord = (a[..., slices] for a in (sample.data, sample.levels > 0, sample.cord))
    near = binary_dilation(cord, iterations=4) & ~binary_dilation(cord)
    csf = np.median(data[near & ~binary_dilation(rootlets)])
    assert np.median(data[rootlets]) < 0.8 * csf
    assert np.median(data[binary_dilation(~cord) & cord]) < csf
    assert np.median(data[cord]) < 0.5 * csf


def test_air_is_dark_and_noisy_and_nothing_overflows(sample: PaintedSample) -> None:
    air = sample.data[:, -20:, :20]
    assert 0 < air.std() < 20
    assert np.median(air) < 0.1 * np.median(sample.data[sample.cord])
    assert sample.data.min() >= 0
    assert sample.data.max() < 5000


def test_cord_is_widest_at_the_cervical_enlargement(sample: PaintedSample, space: Space) -> None:
    s, w = np.broadcast_to(space.s, SHAPE), np.abs(np.broadcast_to(space.w, SHAPE))
    widths = {
        name: np.ptp(w[sample.cord & (np.abs(s - at) < 2)])
        for name, at in (("C2", 38.0), ("C5", 86.5), ("T2", 160.0))
    }
    assert widths["C5"] > widths["C2"] > widths["T2"]


def test_axis_starts_at_the_pmj_and_s_is_its_length() -> None:
    s, points, forwards = cord_axis()
    np.testing.assert_allclose(points[np.abs(s).argmin()], 0, atol=1e-9)
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    np.testing.assert_allclose(lengths, np.diff(s), rtol=1e-3)
    across = np.sum(np.diff(points, axis=0) * forwards[1:], axis=1)
    np.testing.assert_allclose(across, 0, atol=1e-6)


@pytest.mark.parametrize("level", SPINAL_LEVELS, ids=lambda level: f"level {level.level}")
def test_filaments_run_from_cord_to_dura_and_downwards(level: SpinalLevel) -> None:
    filaments = make_filaments(level, np.random.default_rng(0))
    assert len(filaments) == 22
    for number, points in filaments:
        assert number == level.level
        assert points[-1, 0] > points[0, 0]
        assert abs(points[-1, 2]) > abs(points[0, 2])
        assert abs(points[0, 0] - level.midpoint) < level.height


def test_nerves_leave_below_their_rootlets_between_two_vertebrae() -> None:
    for level in SPINAL_LEVELS:
        assert level.exit > level.midpoint
        assert level.level == 2 or level.exit in DISCS
