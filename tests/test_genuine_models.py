"""Models that nnU-Net itself made, from data to checkpoints, run as nnU-Net runs them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.genuine_models import (
    ALLOWED_OF_500_000,
    FEWEST_LABELS,
    VARIANTS,
    Row,
    compare,
    make_models,
    write_test_image,
)
from sct_rootlets_task.inference.model_folder import read_model_folder

BY_NAME = {variant.name: variant for variant in VARIANTS}
MADE = {
    "plain": BY_NAME["plain"],
    "two of five folds": replace(BY_NAME["five folds"], folds=(0, 1)),
    "ResEnc": BY_NAME["ResEnc"],
}


@pytest.mark.network
@pytest.mark.parametrize("name", MADE)
def test_a_model_that_nnunet_made_gives_the_labels_of_its_own_predictor(
    tmp_path: Path, name: str
) -> None:
    variant = MADE[name]
    (model,) = make_models(variant, tmp_path / "nnunet", iterations=30)
    folds = [path.parent.name for path in read_model_folder(model).checkpoints]
    assert folds == [f"fold_{fold}" for fold in variant.folds]
    image = write_test_image(tmp_path / "image.nii.gz", variant, (44, 52, 56))
    (row,) = compare(variant, model, image, ["openvino"])
    assert row.refusal is None
    assert row.labels >= FEWEST_LABELS
    assert row.of_500_000 <= ALLOWED_OF_500_000


@pytest.mark.parametrize(
    ("row", "equal"),
    [
        (Row("openvino", voxels=500_000, labels=3, differing=10), True),
        (Row("openvino", voxels=500_000, labels=3, differing=11), False),
        (Row("openvino", voxels=100_000, labels=3, differing=3), False),
        (Row("openvino", refusal="refused: no such network"), False),
        (Row("openvino", voxels=500_000, labels=2, refusal="too few labels"), False),
    ],
)
def test_labels_count_as_equal_only_where_they_were_compared(row: Row, equal: bool) -> None:
    assert row.equal == equal
