"""Rules of the split into left and right, dorsal and ventral."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sct_rootlets_task.analysis.split import PARTS, split, split_image
from sct_rootlets_task.errors import ImageError
from tools.phantom import make_phantom, typical_bundles

LEVELS = tuple(range(4, 8))


@pytest.mark.parametrize("turn", [-20.0, 0.0, 20.0])
@pytest.mark.parametrize("bend", [0.0, 1 / 80])
@pytest.mark.parametrize("orientation", ["LPI", "RAS", "PSR", "IRA"])
def test_each_part_holds_its_own_bundles(turn: float, bend: float, orientation: str) -> None:
    bundles = typical_bundles(LEVELS)
    phantom = make_phantom(bundles, bend_per_mm=bend, turn_degrees=turn).oriented(orientation)
    parts = split(phantom.labels, phantom.affine, cord=phantom.cord)
    for name in PARTS:
        side, part = name.split("_")
        mine = [b for b in bundles if (b.side, b.part) == (side, part)]
        alone = make_phantom(mine, bend_per_mm=bend, turn_degrees=turn)
        assert np.count_nonzero(parts[name]) > 0
        assert set(np.unique(parts[name])) == {0, *LEVELS}
        # Another set of bundles makes another grid: volumes, not voxels, are compared.
        assert np.count_nonzero(parts[name]) == pytest.approx(
            np.count_nonzero(alone.labels), rel=0.1
        )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_the_parts_add_up_to_the_input_whatever_it_is(seed: int) -> None:
    generator = np.random.default_rng(seed)
    cord = np.zeros((20, 16, 60), np.uint8)
    cord[7:13, 6:10] = 1
    labels = np.where(generator.random(cord.shape) < 0.02, generator.integers(2, 10), 0)
    labels = labels.astype(np.uint8)
    parts = split(labels, np.eye(4), cord=cord)
    assert tuple(parts) == PARTS
    assert (sum(part.astype(int) for part in parts.values()) == labels).all()


def test_roots_that_run_into_each_other_are_cut() -> None:
    phantom = make_phantom(typical_bundles((5, 6)))
    labels, affine = phantom.labels.copy(), phantom.affine
    separate = split(labels, affine, cord=phantom.cord)
    k = int(np.argwhere(labels == 5)[:, 2].mean())
    right = np.argwhere(separate["right_dorsal"][:, :, k])
    forward = np.argwhere(separate["right_ventral"][:, :, k])
    labels[right[:, 0].min() : right[:, 0].min() + 2, right[0, 1] : forward[0, 1], k] = 5
    parts = split(labels, affine, cord=phantom.cord)
    for name in ("right_dorsal", "right_ventral"):
        kept = separate[name] == 5
        assert (parts[name][kept] == 5).mean() > 0.9


def test_a_cord_mask_on_another_grid_is_refused() -> None:
    import nibabel as nib

    labels = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4))
    moved = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.diag([1.0, 1, 2, 1]))
    with pytest.raises(ImageError, match="apart"):
        split_image(labels, moved)


def test_images_keep_their_grid() -> None:
    import nibabel as nib

    phantom = make_phantom(typical_bundles((5, 6))).oriented("PSR")
    image = nib.Nifti1Image(phantom.labels, phantom.affine)
    parts = split_image(image, nib.Nifti1Image(phantom.cord, phantom.affine))
    for part in parts.values():
        assert part.get_data_dtype() == np.uint8
        assert part.affine == pytest.approx(phantom.affine)
    total = sum(np.asarray(part.dataobj).astype(int) for part in parts.values())
    assert (total == phantom.labels).all()


@pytest.mark.data
def test_pam50_has_four_bundles_a_level(shared_data: Path) -> None:
    import nibabel as nib

    from sct_rootlets_task.rootlets.components import connected

    image = nib.load(shared_data / "pam50" / "PAM50_rootlets.nii.gz")
    parts = split_image(image, nib.load(shared_data / "pam50" / "PAM50_cord.nii.gz"))
    for part in parts.values():
        labels = np.asarray(part.dataobj)
        assert set(np.unique(labels)) == {0, *range(2, 10)}
        assert connected(np.argwhere(labels)).max() + 1 == 8
