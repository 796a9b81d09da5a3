"""Entities, suffix and extension of names; subject and session of paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from sct_rootlets_task.io.bids_names import parse_name, subject_and_session


@pytest.mark.parametrize(
    ("name", "entities", "suffix", "extension"),
    [
        ("sub-01_ses-1_T2w.nii.gz", {"sub": "01", "ses": "1"}, "T2w", ".nii.gz"),
        (
            "sub-01_inv-1_part-mag_MP2RAGE.json",
            {"sub": "01", "inv": "1", "part": "mag"},
            "MP2RAGE",
            ".json",
        ),
        ("sub-01_T2w_label-SC_mask.nii.gz", {"sub": "01", "label": "SC"}, "mask", ".nii.gz"),
        ("sub-Zoë_acq-0.5_UNIT1.nii", {"sub": "Zoë", "acq": "0.5"}, "UNIT1", ".nii"),
        ("sub-amu-01_T2w", {"sub": "amu-01"}, "T2w", ""),
        ("sub-01.nii.gz", {"sub": "01"}, "", ".nii.gz"),
        ("T2w.nii", {}, "T2w", ".nii"),
        ("_-_.", {"": ""}, "", "."),
        ("", {}, "", ""),
    ],
)
def test_a_name_is_taken_apart(
    name: str, entities: dict[str, str], suffix: str, extension: str
) -> None:
    found = parse_name(name)
    assert (found.entities, found.suffix, found.extension) == (entities, suffix, extension)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ds/sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz", ("sub-01", "ses-1")),
        ("ds/sub-01/anat/sub-01_T2w.nii.gz", ("sub-01", "")),
        ("sub-9/ds/sub-01/anat/other.nii.gz", ("sub-01", "")),
        ("flat/sub-02_ses-b_T2w.nii.gz", ("sub-02", "ses-b")),
        ("flat/image.nii.gz", ("", "")),
        ("sub-01_copy/image.nii.gz", ("", "")),
        ("ds/sub-01/sub-02_T2w.nii.gz", ("sub-01", "")),
        ("ds/sub-a b/anat/x.nii", ("sub-a b", "")),
    ],
)
def test_folders_come_before_the_name(path: str, expected: tuple[str, str]) -> None:
    assert subject_and_session(Path(path)) == expected
