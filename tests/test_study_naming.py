"""Names of results: valid, one to one, and kept as they are in the lab's naming."""

from __future__ import annotations

from pathlib import Path

import pytest

from sct_rootlets_task.io.bids_names import parse_name
from sct_rootlets_task.registry import ROOTLETS, SEG_SPINAL_ROOTLETS_T2W
from sct_rootlets_task.study.contrasts import contrast_of, contrasts_of
from sct_rootlets_task.study.naming import (
    NameNotBidsError,
    level_map_name,
    spinal_levels_name,
)

NAMES = {
    "sub-01_T2w.nii.gz": "sub-01_space-orig_seg-rootlets",
    "sub-01_ses-a_acq-sag_run-02_T2w.nii": "sub-01_ses-a_acq-sag_run-02_space-orig_seg-rootlets",
    "sub-01_UNIT1.nii.gz": "sub-01_space-orig_seg-rootlets_desc-UNIT1",
    "sub-01_inv-1_MP2RAGE.nii.gz": "sub-01_space-orig_seg-rootlets_desc-INV1",
    "sub-01_inv-02_part-mag_MP2RAGE.nii.gz": "sub-01_part-mag_space-orig_seg-rootlets_desc-INV2",
    "sub-01_acq-x_INV2.nii.gz": "sub-01_acq-x_space-orig_seg-rootlets_desc-INV2",
    "sub-01_task-rest_ce-gd_rec-a_run-1_echo-2_T2w.nii.gz": (
        "sub-01_task-rest_ce-gd_rec-a_run-1_echo-2_space-orig_seg-rootlets"
    ),
    "sub-01_flip-1_mt-on_UNIT1.nii.gz": "sub-01_space-orig_seg-rootlets_desc-UNIT1flip1mton",
    "sub-01_chunk-2_T2w.nii.gz": "sub-01_space-orig_chunk-2_seg-rootlets",
    "sub-01_space-other_desc-preproc_T2w.nii.gz": ("sub-01_space-other_seg-rootlets_desc-preproc"),
    "sub-a+b_T2w.nii.gz": "sub-a+b_space-orig_seg-rootlets",
}
"""Image → stem of the level map in BIDS."""


@pytest.mark.parametrize(("image", "expected"), NAMES.items())
def test_a_result_keeps_the_entities_that_bids_allows(image: str, expected: str) -> None:
    assert level_map_name(Path(image), ROOTLETS, "bids") == f"{expected}_dseg.nii.gz"


def test_no_two_images_share_a_name() -> None:
    assert len(set(NAMES.values())) == len(NAMES)


def test_the_old_task_writes_the_same_names() -> None:
    names = {
        level_map_name(Path("sub-01_T2w.nii"), task, "bids")
        for task in (ROOTLETS, SEG_SPINAL_ROOTLETS_T2W)
    }
    assert names == {"sub-01_space-orig_seg-rootlets_dseg.nii.gz"}


@pytest.mark.parametrize(
    "image",
    [
        "sub-Zoë_T2w.nii.gz",
        "sub-amu-01_T2w.nii.gz",
        "sub-01_acq-a b_T2w.nii.gz",
        "sub-01_acq-0.5_T2w.nii.gz",
        "sub-01_run-a_T2w.nii.gz",
        "sub-01_acq-a_acq-b_T2w.nii.gz",
        "sub-01_acq-_T2w.nii.gz",
        "sub-01_mid_T2w.nii.gz",
        "sub-_T2w.nii.gz",
        "sub-01_acq-x\n_T2w.nii.gz",
        "T2w.nii.gz",
    ],
)
def test_no_valid_name_is_made_of_one_that_is_not(image: str) -> None:
    with pytest.raises(NameNotBidsError, match="--naming neuropoly"):
        level_map_name(Path(image), ROOTLETS, "bids")
    kept = level_map_name(Path(image), ROOTLETS, "neuropoly")
    assert kept == f"{image.removesuffix('.nii.gz')}_label-rootlets_dseg.nii.gz"


@pytest.mark.parametrize(
    ("image", "naming"),
    [
        *((image, naming) for image in NAMES for naming in ("bids", "neuropoly")),
        ("sub-01_acq-seg_T2w.nii", "bids"),
        ("a_label-x_seg-rootlets_T2w.nii", "neuropoly"),
    ],
)
def test_the_map_of_spinal_levels_differs_in_one_word(image: str, naming: str) -> None:
    name = level_map_name(Path(image), ROOTLETS, naming)
    head, _, tail = name.rpartition("-rootlets")
    assert spinal_levels_name(name) == f"{head}-spinallevels{tail}"


@pytest.mark.parametrize(
    ("image", "contrast"),
    [
        ("sub-01_T2w.nii.gz", "T2w"),
        ("sub-01_inv-1_MP2RAGE.nii.gz", "INV1"),
        ("sub-01_inv-002_part-mag_MP2RAGE.nii.gz", "INV2"),
        ("sub-01_inv-3_MP2RAGE.nii.gz", "MP2RAGE"),
        ("sub-01_inv-1_T1w.nii.gz", "T1w"),
        ("sub-01_INV1.nii.gz", "INV1"),
        ("sub-01_T2starw.nii.gz", "T2starw"),
    ],
)
def test_the_contrast_is_told_by_suffix_and_inversion(image: str, contrast: str) -> None:
    assert contrast_of(parse_name(image)) == contrast


def test_contrasts_of_a_task_are_those_of_bids() -> None:
    assert contrasts_of(SEG_SPINAL_ROOTLETS_T2W) == ("T2w",)
