"""Colour tables list every level with a colour of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.luts import VIEWERS, level_colour, lut_path, lut_text

LEVELS = range(2, 10)


def test_the_levels_of_the_task_have_distinct_colours() -> None:
    assert len({level_colour(level) for level in LEVELS}) == len(LEVELS)


@pytest.mark.parametrize("viewer", VIEWERS)
def test_each_level_has_a_row_with_its_value_and_name(viewer: str) -> None:
    rows = [line.split() for line in lut_text(viewer, LEVELS).splitlines()]
    rows = [row for row in rows if row[0] != "0"]
    assert [int(row[0]) for row in rows] == list(LEVELS)
    assert all("T1" not in " ".join(row) for row in rows[:-1])
    assert "T1" in " ".join(rows[-1])


def test_fsleyes_colours_are_fractions() -> None:
    for line in lut_text("fsleyes", LEVELS).splitlines():
        assert all(0 <= float(value) <= 1 for value in line.split()[1:4])


def test_an_unknown_viewer_is_refused() -> None:
    with pytest.raises(UsageError, match="itksnap"):
        lut_path(Path("seg.nii.gz"), "paint")
