"""Figures of agreement with a reference."""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sct_rootlets_task.analysis.evaluate import ALL, COLUMNS, MEAN, Agreement, compare
from sct_rootlets_task.cli.sct_rootlets import main
from sct_rootlets_task.errors import ImageError

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def reference() -> np.ndarray:
    """Return C2 above C3 on both sides, 10 slices (20 mm) high each."""
    labels = np.zeros((20, 12, 40), np.uint8)
    for x in (4, 14):
        labels[x : x + 2, 5:7, 25:35] = 2
        labels[x : x + 2, 5:7, 5:15] = 3
    return labels


def by_level(labels: np.ndarray, wanted: np.ndarray | None = None) -> dict[str, Agreement]:
    found = compare(labels, reference() if wanted is None else wanted, AFFINE)
    return {item.level: item for item in found}


def test_a_map_agrees_with_itself() -> None:
    found = by_level(reference())
    assert list(found) == ["C2", "C3", ALL, MEAN]
    for item in found.values():
        assert (item.dice, item.hd95_mm, item.surface_distance_mm) == (1, 0, 0)
        assert item.volume_difference_percent == 0
        assert item.detection == "both"
    assert found["C2"].midpoint_error_mm == found[MEAN].midpoint_error_mm == 0


def test_a_shift_is_told_in_mm_along_the_cord_and_positive_downwards() -> None:
    found = by_level(np.roll(reference(), -2, axis=2))
    assert found["C2"].midpoint_error_mm == pytest.approx(4, abs=0.5)
    assert found["C2"].dice == pytest.approx(0.8)
    assert found["C2"].hd95_mm == pytest.approx(4)


def test_volumes_are_mm3_and_their_difference_is_relative_to_the_reference() -> None:
    half = reference()
    half[14:16] = 0
    found = by_level(half)["C2"]
    assert (found.volume_mm3, found.reference_mm3) == (80, 160)
    assert found.volume_difference_percent == -50
    assert found.dice == pytest.approx(2 / 3)


def test_a_missed_level_counts_as_dice_zero_and_an_extra_one_does_not_change_the_mean() -> None:
    missed, extra = reference(), reference()
    missed[missed == 3] = 0
    extra[10, 2, 20:24] = 9
    assert by_level(missed)["C3"].detection == "missed"
    assert by_level(missed)[MEAN].dice == pytest.approx(0.5)
    assert by_level(extra)["T1"].detection == "extra"
    assert by_level(extra)[MEAN].dice == 1
    assert by_level(extra)[ALL].dice < 1


def test_swapped_levels_leave_the_whole_unchanged() -> None:
    labels = reference()
    swapped = np.choose(labels, [0, 0, 3, 2]).astype(np.uint8)
    assert by_level(swapped)[ALL].dice == 1
    assert by_level(swapped)[MEAN].dice == 0


def test_an_empty_reference_and_another_grid_are_refused() -> None:
    with pytest.raises(ImageError, match="no labeled voxel"):
        compare(reference(), np.zeros_like(reference()), AFFINE)
    with pytest.raises(ImageError, match="one grid"):
        compare(reference(), reference()[:-1], AFFINE)


def boxes(seed: int, shape: tuple[int, int, int] = (9, 8, 12)) -> np.ndarray:
    """Return a mask of four boxes, which may touch the edge of the array."""
    random = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    for _ in range(4):
        x, y, z = random.integers(0, np.array(shape) - 3)
        size = random.integers(1, 5, 3)
        mask[x : x + size[0], y : y + size[1], z : z + size[2]] = True
    return mask


MEDPY = [
    ((1, 1, 1), 0.090395, 4.0, 2.070117),
    ((1, 0.5, 2), 0.190476, 4.307765, 1.37226),
    ((0.4, 0.8, 1.2), 0.0, 4.345112, 3.188675),
    ((3, 1, 1), 0.0, 6.78233, 4.039934),
    ((0.5, 0.5, 0.5), 0.190476, 1.614384, 0.782622),
    ((1, 1, 5), 0.074074, 10.488088, 4.669454),
]
"""Voxel size, and what MedPy 0.5 gives for boxes 2n and 2n + 1: dc, hd95 and assd."""


@pytest.mark.parametrize("number", range(len(MEDPY)))
def test_overlap_and_surface_distances_are_those_of_medpy(number: int) -> None:
    voxel_mm, dice, hd95, surface = MEDPY[number]
    first, second = (boxes(2 * number + n).astype(np.uint8) * 5 for n in (0, 1))
    found = {i.level: i for i in compare(first, second, np.diag([*voxel_mm, 1.0]))}[ALL]
    assert (found.dice, found.hd95_mm, found.surface_distance_mm) == pytest.approx(
        (dice, hd95, surface), abs=1e-5
    )


def test_no_metric_needs_a_further_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medpy", None)
    monkeypatch.setitem(sys.modules, "medpy.metric", None)
    assert by_level(reference())[ALL].hd95_mm == 0


def test_the_verb_prints_and_writes_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in (("seg", np.roll(reference(), 1, axis=2)), ("gt", reference())):
        nib.save(nib.Nifti1Image(data, AFFINE), tmp_path / f"{name}.nii.gz")
    code = main(["evaluate", "-i", f"{tmp_path}/seg.nii.gz", "-gt", f"{tmp_path}/gt.nii.gz",
                 "-o", f"{tmp_path}/out.json", "-csv", f"{tmp_path}/out.csv"])  # fmt: skip
    assert code == 0
    assert "0.90" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out.json").read_text())["levels"]
    assert [row["level"] for row in rows] == ["C2", "C3", ALL, MEAN]
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("C2,0.9")


def test_the_verb_refuses_another_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.Nifti1Image(reference(), AFFINE), tmp_path / "seg.nii.gz")
    nib.save(nib.Nifti1Image(reference(), 2 * AFFINE), tmp_path / "gt.nii.gz")
    code = main(["evaluate", "-i", f"{tmp_path}/seg.nii.gz", "-gt", f"{tmp_path}/gt.nii.gz"])
    assert code != 0
    assert "reference on the grid" in capsys.readouterr().err


def test_the_columns_are_the_fields() -> None:
    assert list(COLUMNS) == [field.name for field in fields(Agreement)]


@pytest.mark.parametrize("value", [31, 99, 200, 255])
@pytest.mark.parametrize("in_reference", [True, False])
def test_a_stray_value_that_is_no_level_is_a_row_and_not_the_end(
    value: int, in_reference: bool
) -> None:
    one = reference()
    one[0, 0, 0] = value
    found = by_level(reference(), one) if in_reference else by_level(one)
    assert list(found) == ["C2", "C3", f"value {value}", ALL, MEAN]
    assert found[f"value {value}"].detection == ("missed" if in_reference else "extra")
    assert found["C2"].dice == 1
