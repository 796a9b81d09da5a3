"""Levels before post-processing: kept in a file, and gone on with as if nothing had happened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sct_rootlets_task.segmentation.assigned import (
    Assigned,
    Ran,
    Step,
    assigned_bytes,
    read_assigned,
)


def _assigned(**changes: object) -> Assigned:
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[1, 2, 3] = 7
    known = Assigned(
        labels,
        Ran("openvino", "cpu", "f32"),
        level_weight=3.0,
        steps=(Step("classes without an expected level", 2),),
        seconds={"network": 1.5},
        tiles=(2, 9),
        warnings=("a border – of 0",),
        level_warnings=("a rib",),
        located=np.asfortranarray(labels),
    )
    return replace(known, **changes)


@pytest.mark.parametrize("changes", [{}, {"located": None}], ids=["located", "not located"])
def test_what_is_kept_comes_back(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "levels.npz"
    kept = _assigned(**changes)
    path.write_bytes(assigned_bytes(kept))

    found = read_assigned(path)

    assert found is not None
    assert np.array_equal(found.labels, kept.labels)
    assert (found.located is None) == (kept.located is None)
    for name in ("ran", "level_weight", "steps", "tiles", "warnings", "level_warnings"):
        assert getattr(found, name) == getattr(kept, name), name


def test_the_same_levels_are_the_same_bytes_however_long_they_took() -> None:
    assert assigned_bytes(_assigned()) == assigned_bytes(_assigned(seconds={"network": 99.0}))


def test_a_damaged_file_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "levels.npz"
    whole = assigned_bytes(_assigned())
    assert read_assigned(path) is None
    for length in range(0, len(whole), 40):
        path.write_bytes(whole[:length])
        assert read_assigned(path) is None, length
    wrong = {
        "type": {"labels": np.zeros((4, 5, 6), dtype=np.float32)},
        "shape": {"located": np.zeros((4, 5, 7), dtype=np.uint8)},
    }
    for name, changes in wrong.items():
        path.write_bytes(assigned_bytes(_assigned(**changes)))
        assert read_assigned(path) is None, name


def test_an_object_in_the_file_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "levels.npz"
    np.savez(path, labels=np.array([{}], dtype=object), known=np.zeros(1, dtype=np.uint8))

    assert read_assigned(path) is None
