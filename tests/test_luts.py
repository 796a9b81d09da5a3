"""Color tables list every level with a color of its own, and colors can be told apart."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmarks.color_distances import (
    LONGEST,
    VISIONS,
    ciede2000,
    contrast,
    distance,
    from_gray,
    report,
    smallest,
)
from sct_rootlets_task.analysis.numbering import relabel_command
from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.luts import VIEWERS, lut_path, lut_text, viewer_commands
from sct_rootlets_task.io.untrusted import ContentMissingError
from sct_rootlets_task.level_names import level_color, level_name
from sct_rootlets_task.qc.pages import write_static

LEVELS = range(2, 10)
DEFICIENT = [vision for vision in VISIONS if vision != "normal"]


def test_levels_less_than_sixteen_apart_have_different_colors() -> None:
    for first in LONGEST:
        others = {level_color(level) for level in range(first + 1, min(first + 16, 31))}
        assert level_color(first) not in others


# The colors before these reached 9.3 with normal vision and 7.5 with a deficiency.
@pytest.mark.parametrize(("vision", "least"), [("normal", 24), *((v, 11.9) for v in DEFICIENT)])
def test_any_two_levels_of_the_task_are_told_apart_at_a_glance(vision: str, least: float) -> None:
    assert smallest(LEVELS, vision) >= least


@pytest.mark.parametrize(("vision", "least"), [("normal", 39), *((v, 22.5) for v in DEFICIENT)])
def test_neighbors_are_farthest_apart(vision: str, least: float) -> None:
    assert smallest(LEVELS, vision, window=2) >= least


@pytest.mark.parametrize(("vision", "least"), [("normal", 16), *((v, 7.7) for v in DEFICIENT)])
def test_any_eight_levels_in_a_row_are_told_apart(vision: str, least: float) -> None:
    assert smallest(LONGEST, vision, window=8) >= least


@pytest.mark.parametrize(("vision", "least"), [("normal", 22), *((v, 11) for v in DEFICIENT)])
def test_no_level_of_the_task_looks_gray(vision: str, least: float) -> None:
    assert from_gray(LEVELS, vision) >= least


@pytest.mark.parametrize("vision", VISIONS)
def test_no_level_at_all_looks_gray(vision: str) -> None:
    assert from_gray(LONGEST, vision) >= 8


@pytest.mark.parametrize("level", LONGEST)
def test_the_name_of_a_level_can_be_read_on_its_color(level: int) -> None:
    assert contrast(level_color(level), (13, 16, 20)) >= 4.5


# Pairs of Sharma et al. 2005, table 1, among them those where the hue wraps around.
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, -1, 2), (50, 0, 0), 2.3669),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_distance_is_that_of_the_publication(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=5e-5)
    assert ciede2000(np.array(second), np.array(first)) == pytest.approx(expected, abs=5e-5)


def test_red_and_green_come_close_to_those_who_confuse_them() -> None:
    red, green = (200, 80, 60), (120, 120, 50)
    assert distance(red, green) > 2 * distance(red, green, "protanopia")
    assert distance(red, green) > 2 * distance(red, green, "deuteranopia")
    assert distance(red, red, "tritanopia") == 0


def test_the_command_prints_the_smallest_distances() -> None:
    text = report()
    for vision in VISIONS:
        (row,) = re.findall(rf"^{vision} +([\d. ]+)$", text, re.MULTILINE)
        assert float(row.split()[0]) == pytest.approx(smallest(LEVELS, vision), abs=0.051)
    assert "C5/C6" in text


def _colors_of(viewer: str) -> dict[int, tuple[int, ...]]:
    scale = 255 if viewer == "fsleyes" else 1
    first = 2 if viewer == "slicer" else 1
    rows = [line.split() for line in lut_text(viewer, LONGEST).splitlines()]
    return {
        int(row[0]): tuple(round(float(part) * scale) for part in row[first : first + 3])
        for row in rows
        if row[0] != "0"
    }


@pytest.mark.parametrize("viewer", VIEWERS)
def test_every_viewer_gets_the_same_colors(viewer: str) -> None:
    assert _colors_of(viewer) == {level: level_color(level) for level in LONGEST}


def test_the_pages_get_the_same_colors(tmp_path: Path) -> None:
    write_static(tmp_path)
    rules = re.findall(r"\.lv-(\d+) \{ --level: rgb\((\d+) (\d+) (\d+)\)", _text(tmp_path, "css"))
    assert {int(v): (int(r), int(g), int(b)) for v, r, g, b in rules}.items() >= {
        level: level_color(level) for level in LONGEST
    }.items()
    table = json.loads(_text(tmp_path, "js").removeprefix("QC.levels(").removesuffix(");\n"))
    for level in LONGEST:
        assert table[str(level)] == {
            "name": level_name(level),
            "color": list(level_color(level)),
        }


def _text(folder: Path, ending: str) -> str:
    return (folder / f"levels.{ending}").read_text(encoding="ascii")


@pytest.mark.parametrize("viewer", VIEWERS)
def test_each_level_has_a_row_with_its_value_and_name(viewer: str) -> None:
    rows = [line.split() for line in lut_text(viewer, LEVELS).splitlines()]
    rows = [row for row in rows if row[0] != "0"]
    assert [int(row[0]) for row in rows] == list(LEVELS)
    assert all("T1" not in " ".join(row) for row in rows[:-1])
    assert "T1" in " ".join(rows[-1])


def test_fsleyes_colors_are_fractions() -> None:
    for line in lut_text("fsleyes", LEVELS).splitlines():
        assert all(0 <= float(value) <= 1 for value in line.split()[1:4])


def test_an_unknown_viewer_is_refused() -> None:
    with pytest.raises(UsageError, match="itksnap"):
        lut_path(Path("seg.nii.gz"), "paint")


@pytest.mark.parametrize("viewers", [(), ("fsleyes",), ("itksnap",), VIEWERS])
@pytest.mark.parametrize("name", ["-i.nii.gz", "--help.nii.gz", "-a 'b' $c.nii.gz"])
def test_viewers_and_commands_take_no_name_for_an_option(
    name: str, viewers: tuple[str, ...]
) -> None:
    options = {"-cm", "-ot", "-l", "-a", "-g", "-s"}
    for command in viewer_commands(Path(name), Path(name), viewers):
        words = shlex.split(command)
        assert {word for word in words if word.startswith("-")} <= options
        assert f"./{name}" in words
    advised = shlex.split(relabel_command(name, -1))
    assert advised[3] == f"./{name}"
    assert advised[5].startswith("./-")
    assert shlex.quote(f"./{name}") in str(ContentMissingError(Path(name), "datalad get {}"))
