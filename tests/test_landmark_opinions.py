"""Rules of the independent references: PMJ, discs, locator."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.errors import ImageError
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.landmarks import (
    disc_coordinates,
    disc_points,
    landmarks_from_images,
    located_level,
    pmj_arc,
    pmj_point,
    shift_from_discs,
    shift_from_located,
    shift_from_pmj,
)
from sct_rootlets_task.rootlets.centerline import line_through_cord

LEVELS = tuple(range(2, 10))
GRID = np.indices((13, 9, 100)).reshape(3, -1).T.astype(float)
LINE = line_through_cord(GRID)


def test_the_pmj_is_the_middle_of_its_label_in_world_mm() -> None:
    label = np.zeros((4, 4, 4))
    label[1, 2, 3] = label[3, 2, 3] = 50
    assert pmj_point(label, np.diag([2.0, 1, 1, 1])) == pytest.approx([4, 2, 3])


def test_empty_discs_are_named_once() -> None:
    empty = nib.Nifti1Image(np.zeros((5, 5, 5), np.uint8), np.eye(4))
    with pytest.raises(ImageError, match="found none: the disc labels are empty"):
        landmarks_from_images(empty, discs=empty)


def test_an_empty_pmj_image_is_refused() -> None:
    with pytest.raises(ImageError, match="empty"):
        pmj_point(np.zeros((2, 2, 2)), np.eye(4))


def test_only_discs_count_as_discs() -> None:
    labels = np.zeros((3, 3, 30))
    labels[1, 1, [3, 10, 20]] = [4, 3, 50]
    found = disc_points(labels, np.eye(4))
    assert sorted(found) == [3, 4]
    assert found[4] == pytest.approx([1, 1, 3])


def test_discs_are_where_vertebral_levels_along_the_cord_meet() -> None:
    cord = np.zeros((13, 9, 100), np.uint8)
    for level in range(2, 8):
        cord[2:11, 2:7, 90 - 14 * (level - 1) : 90 - 14 * (level - 2)] = level
    found = disc_points(cord, np.eye(4))
    assert sorted(found) == [3, 4, 5, 6, 7]
    for disc, point in found.items():
        assert point == pytest.approx([6, 4, 90 - 14 * (disc - 2) - 0.5])


@pytest.mark.data
@pytest.mark.parametrize("name", ["pam50/PAM50", "pam50_small/PAM50_small"])
def test_vertebral_levels_of_the_template_give_its_discs(name: str, shared_data: Path) -> None:
    levels = nib.load(shared_data / f"{name}_levels.nii.gz")
    discs = nib.load(shared_data / f"{name}_label_disc.nii.gz")
    found = disc_points(np.asarray(levels.dataobj), levels.affine)
    wanted = disc_points(np.asarray(discs.dataobj), discs.affine)
    assert set(found) >= set(range(2, 12))
    for disc in set(found) & set(wanted):
        assert found[disc] == pytest.approx(wanted[disc], abs=1.01)


def test_one_disc_is_too_few() -> None:
    labels = np.zeros((3, 3, 3))
    labels[1, 1, 1] = 3
    with pytest.raises(ImageError, match="at least two"):
        disc_points(labels, np.eye(4))


def test_discs_below_the_thoracic_spine_are_named_but_do_not_count() -> None:
    labels = np.zeros((3, 3, 90))
    labels[1, 1, [80, 45, 10]] = 21, 22, 23
    with pytest.raises(ImageError, match=r"labels 1 to 20\) in disc labels, found \[21, 22, 23\]"):
        disc_points(labels, np.eye(4))


@pytest.mark.parametrize(("z", "arc"), [(99.0, 0.0), (60.0, 39.0), (119.0, -20.0)])
def test_the_pmj_counts_along_the_line_and_straight_above_it(z: float, arc: float) -> None:
    assert pmj_arc(LINE, np.array([6.0, 4.0, z])) == pytest.approx(arc, abs=0.1)


def test_places_between_discs_are_interpolated_and_go_on_beyond_them() -> None:
    discs = {n: np.array([6.0, 14.0, 99.0 - 20 * (n - 2)]) for n in (2, 3, 4)}
    arcs = np.array([-10.0, 0.0, 30.0, 60.0])
    assert disc_coordinates(LINE, discs, arcs=arcs) == pytest.approx([1.5, 2, 3.5, 5], abs=0.02)


def test_the_canal_far_away_tells_no_level() -> None:
    located = np.zeros((40, 5, 5), np.uint8)
    located[0:2] = 4
    points = np.array([[5.0, 2, 2], [38.0, 2, 2]])
    assert located_level(located, np.eye(4), points=points).tolist() == [4, 0]
    assert located_level(np.zeros_like(located), np.eye(4), points=points).tolist() == [0, 0]


@pytest.mark.parametrize("wrong", [-2, -1, 0, 1, 2])
@pytest.mark.parametrize("scale", [0.92, 1.0, 1.08])
def test_the_pmj_tells_how_far_labels_are_shifted_in_small_and_large_subjects(
    wrong: int, scale: float
) -> None:
    midpoints = {level + wrong: scale * CERVICAL.midpoint_below_pmj(level) + 7 for level in LEVELS}
    found = shift_from_pmj(midpoints, 7.0, priors=CERVICAL)
    assert found.shift == -wrong
    assert (found.advantage > 3) == (wrong != 0)
    assert np.sign(round(found.offset)) == np.sign(wrong)


@pytest.mark.parametrize("wrong", [-1, 0, 1])
@pytest.mark.parametrize("offset", [-0.2, 0.0, 0.2])
def test_the_discs_tell_how_far_labels_are_shifted(wrong: int, offset: float) -> None:
    discs = {n: np.array([6.0, 14.0, 99.0 - 10 * (n - 1)]) for n in range(1, 11)}
    midpoints = {
        level + wrong: 10 * (CERVICAL.disc_coordinate(level) + offset - 1) for level in LEVELS
    }
    found = shift_from_discs(midpoints, LINE, discs=discs, priors=CERVICAL)
    assert found is not None
    assert found.shift == -wrong
    assert (found.advantage > 3) == (wrong != 0)


def test_the_locator_tells_a_shift_and_says_nothing_where_it_sees_nothing() -> None:
    found = shift_from_located(np.array([1.0, 0.9, 1.1]))
    assert found is not None
    assert found.shift == 1
    assert found.offset == pytest.approx(-1.0)
    assert shift_from_located(np.array([])) is None


def test_images_of_the_cord_share_the_grid_and_landmarks_need_not() -> None:
    import nibabel as nib

    labels = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    mark = np.zeros((2, 2, 9), np.uint8)
    mark[1, 1, 8], mark[1, 1, 2] = 3, 4
    marks = nib.Nifti1Image(mark, np.diag([2.0, 2, 2, 1]))
    found = landmarks_from_images(labels, cord=labels, discs=marks)
    assert found.cord is not None
    assert found.located is None
    assert found.pmj is None
    assert found.discs is not None
    assert found.discs[3] == pytest.approx([2, 2, 16])
    moved = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([1.0, 1, 2, 1]))
    with pytest.raises(ImageError, match="locator's levels on the grid"):
        landmarks_from_images(labels, located=moved)
