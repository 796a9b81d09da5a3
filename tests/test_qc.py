"""The QC report: what its pictures show, and that its folder stays whole under many jobs."""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from PIL import Image

from benchmarks.qc_report import add_from_many, add_ready
from sct_rootlets_task.cli.commands import qc as command
from sct_rootlets_task.errors import ImageError, MissingDependencyError, OutputError, UsageError
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc import render
from sct_rootlets_task.qc.entry import Details, flag_of, identity, names_of
from sct_rootlets_task.qc.listing import ROWS, read_rows, row_of, write_rows
from sct_rootlets_task.qc.measures import level_rows, missing_levels
from sct_rootlets_task.qc.report import add_entry, rebuild
from sct_rootlets_task.qc.scene import Scene, label_name, load_scene
from sct_rootlets_task.qc.volumes import MAX_VOXELS, extract

SHAPE = (44, 48, 90)
CORD = (21.0, 26.0)
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>/../../etc"


def phantom(levels: Sequence[int] = (2, 3, 5), *, sides: str = "RL") -> tuple[np.ndarray, ...]:
    """Return an image with a cord in bright fluid, and rootlets beside it, axes RAS, head up."""
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij", sparse=True)
    distance = np.hypot(x - CORD[0], y - CORD[1]) + 0 * z
    noise = np.random.default_rng(0).normal(0, 20, SHAPE)
    image = np.select([distance < 4, distance < 9], [300.0, 900.0], 120.0) + noise
    labels = np.zeros(SHAPE, np.uint8)
    for number, level in enumerate(levels):
        top = 82 - 14 * number
        for side in sides:
            column = 27 if side == "R" else 14
            labels[column : column + 2, 24:26, top - 9 : top] = level
    return image.astype(np.float32), labels


def write_case(
    folder: Path,
    labels: np.ndarray | None = None,
    *,
    name: str = "sub-01_T2w",
    axcodes: str = "RAS",
    zooms: Sequence[float] = (1.0, 1.0, 1.0),
) -> tuple[Path, Path]:
    """Write an image and its level map, in any orientation, and return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    image, usual = phantom()
    paths = []
    for kind, data in (("", image), ("_rootlets", usual if labels is None else labels)):
        upright = np.diag([*zooms, 1.0])
        way = ornt_transform(io_orientation(upright), axcodes2ornt(axcodes))
        affine = upright @ inv_ornt_aff(way, data.shape)
        turned = nib.orientations.apply_orientation(data, way)
        paths.append(folder / f"{name}{kind}.nii.gz")
        nib.save(nib.Nifti1Image(np.ascontiguousarray(turned), affine), paths[-1])
    return paths[0], paths[1]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return load_scene(*write_case(tmp_path))


class Tags(HTMLParser):
    """Collects the tags and attributes of a page as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def index_of(report: Path) -> Tags:
    return Tags((report / "index.html").read_text(encoding="utf-8"))


def rows_of(report: Path) -> list[dict[str, Any]]:
    """Return the rows that the page makes of the list, in its order, with levels by name."""
    rows = []
    for row in read_rows(report / ROWS).values():
        found, missing = (" ".join(map(label_name, row[key])) for key in ("found", "missing"))
        counted = {"levels": found, "missing": missing, "found": len(row["found"])}
        codes = " ".join(code for code, _, _ in row["flags"])
        warnings = sum(is_warning for _, _, is_warning in row["flags"])
        rows.append({**row, **counted, "flags": codes, "warnings": warnings})
    keys = ("dataset", "subject", "image", "image_path")
    return sorted(rows, key=lambda row: [row[key] for key in keys])


def unreadable_in(report: Path) -> dict[str, str]:
    """Return the folders that the list names as no entries, with the reason."""
    head = (report / ROWS).read_text(encoding="ascii").partition(");\n")[0]
    named = json.loads(head.partition(", ")[2])
    return {name: reason for name, reason in named.items() if name not in read_rows(report / ROWS)}


def sheet_of(page: Path) -> str:
    """Return the markup of an image's page, out of the script that brings it."""
    text = (page.parent / "entry.js").read_text(encoding="utf-8")
    found = re.fullmatch(r"QC\.entry\((.*)\);\n", text, re.DOTALL)
    assert found
    name, markup = json.loads(f"[{found[1]}]")
    assert name == page.parent.name
    return str(markup)


# What the pictures show


@pytest.mark.parametrize("axcodes", ["RAS", "PSR", "LPI", "AIL", "SRP"])
def test_a_scene_is_the_same_whatever_the_orientation_of_the_file(
    tmp_path: Path, scene: Scene, axcodes: str
) -> None:
    turned = load_scene(*write_case(tmp_path / axcodes, axcodes=axcodes))
    np.testing.assert_array_equal(turned.labels, scene.labels)
    np.testing.assert_allclose(turned.center, scene.center)
    np.testing.assert_allclose(turned.affine, scene.affine)


@pytest.mark.parametrize("sides", ["RL", "R"])
@pytest.mark.parametrize("stray", [False, True])
def test_the_center_is_found_between_the_rootlets(tmp_path: Path, sides: str, stray: bool) -> None:
    _, labels = phantom(sides="RL")
    if sides == "R":
        labels[:20, :, 40:60] = 0
    if stray:
        labels[2, 2, 50] = 3
    scene = load_scene(*write_case(tmp_path, labels))
    middle = scene.center[scene.region] - CORD
    assert np.abs(middle).max() < 3, "of the cord, with a radius of 4 voxels"


@pytest.mark.parametrize("axcodes", ["RAS", "PSR"])
def test_one_level_is_enough_to_find_the_center_around_it(tmp_path: Path, axcodes: str) -> None:
    scene = load_scene(*write_case(tmp_path, phantom((4,))[1], axcodes=axcodes))
    assert np.abs(scene.center[scene.region] - CORD).max() < 3


def test_a_mask_tells_the_center_and_how_far_to_look(tmp_path: Path) -> None:
    image, segmentation = write_case(tmp_path)
    mask = np.zeros(SHAPE, np.uint8)
    mask[5:40, 8:13, 10:80] = 1
    _, around = write_case(tmp_path, mask, name="mask")
    scene = load_scene(image, segmentation, around)
    np.testing.assert_allclose(scene.center[40], (22, 10))
    assert scene.reach > 17
    assert scene.labels.max() == 5


def test_without_any_level_the_middle_of_the_image_is_shown(tmp_path: Path) -> None:
    scene = load_scene(*write_case(tmp_path, np.zeros(SHAPE, np.uint8)))
    assert not scene.located
    assert scene.region == slice(0, SHAPE[2])
    rows = render.axial_rows(scene, range(2, 10))
    assert [row.found for row in rows] == [False] * len(rows)
    assert {0, SHAPE[2] - 1} <= {z for row in rows for z in row.slices}


def test_each_level_has_a_row_of_its_own_slices_from_top_to_bottom(scene: Scene) -> None:
    rows = {row.name: row for row in render.axial_rows(scene, range(2, 10))}
    assert list(rows) == ["C2", "C3", "C4", "C5"]
    assert not rows["C4"].found
    for level in scene.levels:
        present = scene.slices_of(level)
        slices = rows[f"C{level}"].slices
        assert {present[0], present[-1], int(np.median(present))} <= set(slices)
        assert list(slices) == sorted(slices, reverse=True)


def test_levels_missing_side_by_side_share_a_row(tmp_path: Path) -> None:
    _, labels = phantom((2, 7))
    scene = load_scene(*write_case(tmp_path, labels))
    assert [row.name for row in render.axial_rows(scene, range(2, 10))] == ["C2", "C3–C6", "C7"]


@pytest.mark.parametrize("view", [render.coronal, render.sagittal])
def test_superior_is_up_and_right_or_anterior_is_left(tmp_path: Path, view: Any) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[26:29, 30:33, 60:66] = 2
    labels[14:17, 20:23, 30:36] = 3
    layers = view(load_scene(*write_case(tmp_path, labels)))
    rows, columns = zip(*(np.nonzero(layers.labels == level) for level in (2, 3)), strict=True)
    assert rows[0].max() < rows[1].min(), "C2 lies above C3"
    assert columns[0].max() < columns[1].min(), "C2 lies on the right, and in front"


def test_in_an_axial_view_anterior_is_up_and_right_is_left(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[26:29, 30:33, 40] = 2
    labels[14:17, 20:23, 40] = 3
    tile = render.axial(load_scene(*write_case(tmp_path, labels)), 40, 100)
    (up, left), (down, right) = (np.argwhere(tile.labels == v).mean(axis=0) for v in (2, 3))
    assert up < down
    assert left < right


def test_all_levels_are_projected(scene: Scene) -> None:
    for view in (render.coronal(scene), render.sagittal(scene)):
        assert view.gray.shape == view.labels.shape
        assert set(np.unique(view.labels)) == {0, *scene.levels}


@settings(max_examples=25, deadline=None)
@given(
    spacing=st.tuples(*[st.sampled_from([0.5, 0.8, 1.0, 3.3, 7.5])] * 3),
    seed=st.integers(0, 1000),
    size=st.integers(8, 90),
)
def test_a_view_shows_no_level_that_is_not_there(
    spacing: tuple[float, ...], seed: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 0, 0, 0, 3, 7], (9, 8, 7)).astype(np.uint8)
    scene = Scene(
        image=rng.random((9, 8, 7), np.float32),
        labels=labels,
        affine=np.diag([*spacing, 1]),
        spacing=spacing,
        center=np.tile((4.2, 3.9), (7, 1)),
        located=True,
        region=slice(1, 6),
        reach=16.0,
        window=(0.0, 1.0),
        source=InputImage(Path("image.nii.gz"), labels, np.eye(4), None),
    )
    for view in (render.axial(scene, 3, size), render.coronal(scene), render.sagittal(scene)):
        assert set(np.unique(view.labels)) <= {0, 3, 7}
        assert view.gray.shape == view.labels.shape


def test_thick_slices_keep_their_edges(tmp_path: Path) -> None:
    scene = load_scene(*write_case(tmp_path, zooms=(1, 1, 7.5)))
    rows = render.coronal(scene).gray.astype(int)
    changes = (np.abs(np.diff(rows, axis=0)).max(axis=1) > 8).mean()
    assert changes < 0.3, "between the edges of the slices nothing changes"


def test_levels_are_drawn_in_their_own_colors(scene: Scene) -> None:
    layers = render.coronal(scene)
    picture = render.label_picture(layers).convert("RGBA")
    colors = {color[:3] for _, color in picture.getcolors(1 << 20) if color[3]}
    assert colors == {level_color(level) for level in scene.levels}
    at = np.argwhere(layers.labels == 5)[0]
    assert tuple(render.blend(layers, 1.0)[tuple(at)]) == level_color(5)
    assert (render.blend(layers, 0.0)[tuple(at)] == layers.gray[tuple(at)]).all()


# Measures


def test_the_level_table_counts_voxels_and_measures_along_the_cord(scene: Scene) -> None:
    first, second, last = level_rows(scene)
    assert [row["name"] for row in (first, second, last)] == ["C2", "C3", "C5"]
    assert first["voxels"] == 2 * 2 * 2 * 9
    assert first["volume"] == pytest.approx(72)
    assert first["slices"] == [73, 81]
    assert first["height"] == pytest.approx(9, abs=0.1)
    assert first["spacing"] == pytest.approx(14, abs=0.1)
    assert second["spacing"] is None, "C4 is absent"


def test_measures_handed_in_win_and_levels_that_are_absent_stay_out(scene: Scene) -> None:
    given = [{"level": 2, "height": np.float32(9.4567), "gap": 3.0}, {"level": 8, "height": 1.0}]
    rows = level_rows(scene, given)
    assert [row["level"] for row in rows] == [2, 3, 5]
    assert (rows[0]["height"], rows[0]["gap"], rows[0]["voxels"]) == (9.46, 3.0, 72)
    json.dumps(rows)


@pytest.mark.parametrize(
    ("found", "expected", "missing"),
    [([2, 3, 5], [], [4]), ([3, 4], range(2, 6), [2, 5]), ([], range(2, 4), [2, 3]), ([], [], [])],
)
def test_missing_levels(found: list[int], expected: Sequence[int], missing: list[int]) -> None:
    assert missing_levels(found, expected) == missing


# The volume of the viewer


def volumes_of(script: str) -> dict[str, Any]:
    """Return the images that a script hands to the viewer."""
    found = re.fullmatch(r'QC\.volume\("x", (.*)\);\n', script)
    assert found
    content = json.loads(found[1])
    raw = {key: gzip.decompress(base64.b64decode(text)) for key, text in content.items()}
    return {key: nib.Nifti1Image.from_bytes(data) for key, data in raw.items()}


@pytest.mark.parametrize("axcodes", ["RAS", "PSR"])
def test_the_viewer_gets_every_level_in_its_place(tmp_path: Path, axcodes: str) -> None:
    labels = np.zeros((60, 160, 260), np.uint8)
    labels[25:27, 70:73, 120:140] = 4
    image = np.random.default_rng(0).random(labels.shape, np.float32) * 500
    for name, data in (("a", image), ("b", labels)):
        nib.save(nib.Nifti1Image(data, np.diag([0.5, 1, 1, 1])), tmp_path / f"{name}.nii.gz")
    scene = load_scene(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    out = extract(scene, "x")
    volumes = volumes_of(out.script)
    assert not out.whole
    assert volumes["image"].shape == volumes["labels"].shape < labels.shape
    np.testing.assert_allclose(volumes["image"].affine, volumes["labels"].affine)
    seen = np.asarray(volumes["labels"].dataobj)
    assert (seen == 4).sum() == (labels == 4).sum()
    here = np.argwhere(seen == 4)[0]
    there = np.argwhere(scene.labels == 4)[0]
    world = nib.affines.apply_affine(volumes["labels"].affine, here)
    np.testing.assert_allclose(world, nib.affines.apply_affine(scene.affine, there), atol=1e-4)
    np.testing.assert_array_equal(here + out.offset, there)
    shown = volumes["image"].get_fdata()[tuple(here)]
    assert shown == pytest.approx(scene.image[tuple(there)], abs=500 / 255)


def test_a_huge_volume_is_thinned_out_and_says_so(tmp_path: Path) -> None:
    shape = (200, 200, 180)
    for name, value in (("a", 1), ("b", 0)):
        data = np.full(shape, value, np.uint8)
        data[0, 0, 0] = 0
        nib.save(nib.Nifti1Image(data, np.diag([0.5, 0.7, 1, 1])), tmp_path / f"{name}.nii.gz")
    out = extract(load_scene(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"), "x")
    assert np.prod(volumes_of(out.script)["image"].shape) <= MAX_VOXELS
    assert out.step == (2, 1, 1)
    assert not out.whole


# Entries and their names


@pytest.mark.parametrize(
    ("path", "details", "names"),
    [
        ("/data/ds1/sub-01/ses-2/anat/sub-01_ses-2_T2w.nii.gz", {}, ("ds1", "sub-01")),
        ("/data/flat/sub-02_T2w.nii.gz", {}, ("flat", "sub-02")),
        ("/data/study/patient_7/t2/t2.nii.gz", {}, ("study", "patient_7")),
        ("/data/ds1/sub-01/anat/x.nii.gz", {"subject": "S"}, ("ds1", "S")),
        ("/data/ds1/sub-01/anat/x.nii.gz", {"dataset": "D"}, ("D", "sub-01")),
        ("/x.nii.gz", {}, ("", "x.nii.gz")),
    ],
)
def test_dataset_and_subject_are_read_from_the_path_unless_given(
    path: str, details: Mapping[str, str], names: tuple[str, str]
) -> None:
    assert names_of(Path(path), Details(**details)) == names


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_folder_of_an_entry_has_a_safe_name_of_its_own(subject: str, other: str) -> None:
    def name(subject: str) -> str:
        return identity(Path("/a.nii.gz"), Path("/b.nii.gz"), Details(subject=subject or "-"))

    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,60}", name(subject))
    assert (name(subject) == name(other)) == ((subject or "-") == (other or "-"))


def test_a_named_subject_is_the_same_wherever_its_files_lie() -> None:
    named = Details(dataset="D", subject="S")
    places = [(Path(f"/{run}/a.nii.gz"), Path(f"/{run}/a_seg.nii.gz")) for run in ("one", "two")]
    assert len({identity(*place, named) for place in places}) == 1
    assert len({identity(*place, Details()) for place in places}) == 2
    assert identity(*places[0], named) != identity(Path("/b.nii.gz"), places[0][1], named)


@pytest.mark.parametrize(
    ("flag", "shown"),
    [
        ({"expected": (10, 18.84)}, "10–18.8"),
        ({"expected": [None, 4.0], "unit": "mm"}, "≤ 4 mm"),
        ({"expected": (10, None), "unit": "mm"}, "≥ 10 mm"),
        ({"expected": (None, None)}, ""),
        ({"expected": "both sides"}, "both sides"),
        ({}, ""),
    ],
)
def test_the_expected_range_of_a_flag_is_readable(flag: Mapping[str, Any], shown: str) -> None:
    assert flag_of(flag)["expected"] == shown


def test_a_flag_never_brings_a_severity_of_its_own() -> None:
    assert flag_of({"severity": "note"})["severity"] == "note"
    assert flag_of({"severity": '"><script>'})["severity"] == "warning"


# The report


def test_an_entry_brings_its_pictures_volume_and_table(tmp_path: Path) -> None:
    image, segmentation = write_case(tmp_path)
    flag = {"code": "level_missing", "level": 4, "text": "C4 is absent.", "source": "PAM50"}
    details = Details("D", "S", "sct_deepseg x", "starter", expected=(2, 3, 4, 5, 6), flags=[flag])
    page = add_entry(tmp_path / "qc", image, segmentation, details)
    names = {path.name for path in page.parent.iterdir()}
    views = {
        f"{view}.{kind}" for view in ("axial", "coronal", "sagittal") for kind in ("jpg", "png")
    }
    assert names == views | {
        "thumbnail.jpg",
        "volume.js",
        "entry.js",
        "entry.json",
        "index.html",
    }
    for view in ("axial", "coronal", "sagittal"):
        with Image.open(page.parent / f"{view}.jpg") as gray:
            size = gray.size
        with Image.open(page.parent / f"{view}.png") as levels:
            assert levels.size == size
    (row,) = rows_of(tmp_path / "qc")
    assert (row["subject"], row["dataset"], row["model"]) == ("S", "D", "starter")
    assert (row["levels"], row["missing"]) == ("C2 C3 C5", "C4 C6")
    assert (row["flags"], row["warnings"]) == ("level_missing", 1)
    sheet = sheet_of(page)
    assert "C4 is absent." in sheet
    assert "sct_deepseg x" in sheet
    assert "#" + page.parent.name in page.read_text()


def test_running_a_subject_again_replaces_its_entry(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    pages_made, stamps = set(), []
    for levels in ((2, 3), (2, 3, 4), (2, 3, 4)):
        image, segmentation = write_case(tmp_path, phantom(levels)[1])
        pages_made.add(add_entry(report, image, segmentation))
        (row,) = rows_of(report)
        stamps.append(row["stamp"])
    assert len(pages_made) == 1
    assert row["found"] == 3
    assert stamps[0] != stamps[1] == stamps[2], "a rating belongs to what was looked at"
    assert [path.name for path in (report / "entries").iterdir()] == [row["id"]]


def test_the_list_is_sorted_and_its_identity_is_kept(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    identities = set()
    for subject in ("c", "a", "b"):
        add_entry(report, *write_case(tmp_path), Details("D", subject))
        identities.add(index_of(report).of("body")[0]["data-report"])
    assert [row["subject"] for row in rows_of(report)] == ["a", "b", "c"]
    assert len(identities) == 1


def _one_voxel() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[20, 20, 40] = 4
    return labels


def _corners() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0], labels[-1, -1, -1] = 2, 9
    return labels


def _odd_values() -> np.ndarray:
    labels = phantom()[1]
    labels[20, 20, 40], labels[20, 20, 41] = 50, 255
    return labels


@pytest.mark.parametrize(
    ("labels", "zooms", "levels"),
    [
        (np.zeros(SHAPE, np.uint8), (1, 1, 1), ""),
        (_one_voxel(), (1, 1, 1), "C4"),
        (_corners(), (1, 1, 1), "C2 T1"),
        (_odd_values(), (1, 1, 1), "C2 C3 C5 50 255"),
        (phantom(sides="L")[1], (1, 1, 1), "C2 C3 C5"),
        (phantom()[1], (0.5, 0.5, 0.5), "C2 C3 C5"),
        (phantom()[1], (0.7, 0.7, 7.5), "C2 C3 C5"),
        (phantom(range(1, 7))[1], (1, 5, 1), "C1 C2 C3 C4 C5 C6"),
    ],
    ids=[
        "empty",
        "voxel",
        "corners",
        "odd values",
        "one side",
        "0.5 mm",
        "7.5 mm",
        "5 mm sagittal",
    ],
)
def test_every_level_map_makes_a_page(
    tmp_path: Path, labels: np.ndarray, zooms: tuple[float, ...], levels: str
) -> None:
    image, segmentation = write_case(tmp_path, labels, zooms=zooms)
    page = add_entry(tmp_path / "qc", image, segmentation, Details(expected=tuple(range(2, 10))))
    (row,) = rows_of(tmp_path / "qc")
    assert row["levels"] == levels
    assert ("The segmentation is empty." in sheet_of(page)) == (not levels)


@pytest.mark.parametrize("zooms", [(1, 1, 1), (0.5, 0.5, 0.5), (0.7, 0.7, 7.5)])
def test_a_badly_cropped_image_makes_a_page(tmp_path: Path, zooms: tuple[float, ...]) -> None:
    image, labels = phantom()
    for name, data in (("a", image[18:30, 24:30, 60:]), ("b", labels[18:30, 24:30, 60:])):
        nib.save(nib.Nifti1Image(data, np.diag([*zooms, 1])), tmp_path / f"{name}.nii.gz")
    add_entry(tmp_path / "qc", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert rows_of(tmp_path / "qc")[0]["levels"] == "C2 C3"


def test_a_sidecar_tells_the_model_and_that_it_stood_in_for_another(tmp_path: Path) -> None:
    image, segmentation = write_case(tmp_path)
    sidecar = {"Model": {"Name": "starter"}, "Notice": "This is not the published model."}
    (tmp_path / "sub-01_T2w_rootlets.json").write_text(json.dumps(sidecar))
    page = add_entry(tmp_path / "qc", image, segmentation)
    assert rows_of(tmp_path / "qc")[0]["model"] == "starter"
    assert sidecar["Notice"] in sheet_of(page)


def test_what_the_run_doubted_stands_among_the_flags(tmp_path: Path) -> None:
    image, segmentation = write_case(tmp_path)
    doubt = "levels one higher or lower may be right as well."
    (tmp_path / "sub-01_T2w_rootlets.json").write_text(json.dumps({"Warnings": [doubt, 7]}))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["-i", str(image), "-s", str(segmentation), "-o", str(tmp_path / "qc")]
    assert command.run(parser.parse_args(words)) == 0
    (row,) = rows_of(tmp_path / "qc")
    assert "doubt" in str(row["flags"]).split()
    assert row["warnings"] >= 1, "'Flagged only' shows it"
    (page,) = tmp_path.glob("qc/entries/*/index.html")
    assert sheet_of(page).count(doubt) == 1


@pytest.mark.parametrize("texts", [None, "words", {"a": 1}])
def test_a_sidecar_of_another_program_is_no_doubt(tmp_path: Path, texts: object) -> None:
    image, segmentation = write_case(tmp_path)
    (tmp_path / "sub-01_T2w_rootlets.json").write_text(json.dumps({"Warnings": texts}))
    add_entry(tmp_path / "qc", image, segmentation)
    assert rows_of(tmp_path / "qc")[0]["flags"] == ""


def test_names_are_data_and_never_markup(tmp_path: Path) -> None:
    image, segmentation = write_case(tmp_path)
    flag = {"code": HOSTILE, "text": HOSTILE, "source": HOSTILE, "value": HOSTILE, "level": 3}
    plain, hostile = (
        Details(name, name, name, name, flags=[{**flag, "code": name}]) for name in ("x", HOSTILE)
    )
    pages_made = [
        add_entry(tmp_path / folder, image, segmentation, details)
        for folder, details in (("plain", plain), ("hostile", hostile))
    ]
    usual, tags = (index_of(tmp_path / folder) for folder in ("plain", "hostile"))
    assert [tag for tag, _ in tags.tags] == [tag for tag, _ in usual.tags]
    (row,) = rows_of(tmp_path / "hostile")
    assert row["subject"] == HOSTILE
    usual, tags = (Tags(sheet_of(page).replace(HOSTILE, "")) for page in pages_made)
    assert "img src=x" in sheet_of(pages_made[1])
    assert {tag for tag, _ in tags.tags} == {tag for tag, _ in usual.tags}
    assert not [attributes for _, attributes in tags.tags if "onerror" in attributes]
    forward = Tags(pages_made[1].read_text())
    assert {tag for tag, _ in forward.tags} == {"html", "head", "meta", "title", "body", "p", "a"}
    assert pages_made[1].resolve().is_relative_to((tmp_path / "hostile" / "entries").resolve())


def test_the_pages_load_nothing_from_elsewhere_and_run_nothing_inline(tmp_path: Path) -> None:
    page = add_entry(tmp_path / "qc", *write_case(tmp_path))
    index = index_of(tmp_path / "qc")
    policy = index.of("meta")[1]["content"] or ""
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?:", policy)
    for tags in (index, Tags(sheet_of(page))):
        for tag, attributes in tags.tags:
            assert tag != "script" or attributes.get("src")
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            for name in ("src", "href"):
                target = attributes.get(name) or ""
                assert not re.match(r"[a-z]+:|//|/", target) or target == "data:,"
                if target and not target.startswith(("#", "data:")):
                    assert (tmp_path / "qc" / target).is_file()


def test_the_viewer_comes_with_its_license(tmp_path: Path) -> None:
    add_entry(tmp_path / "qc", *write_case(tmp_path))
    license = (tmp_path / "qc" / "static" / "niivue.LICENSE.txt").read_text(encoding="utf-8")
    assert "BSD 2-Clause License" in license
    assert "MIT" in license


def _add(report: Path, folder: Path, number: int) -> None:
    """Add two subjects of its own, one that all jobs share, and one of the others' names."""
    shared = folder / "sub-01_T2w.nii.gz", folder / "sub-01_T2w_rootlets.nii.gz"
    add_entry(report, *shared, Details("D", "shared"))
    for subject in (f"own-{number}", "clash", f"other-{number}"):
        add_entry(report, *write_case(folder / subject / str(number)), Details("D", subject))


def test_many_jobs_write_into_one_report(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    write_case(tmp_path / "in")
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:
        jobs = [pool.submit(_add, report, tmp_path / "in", number) for number in range(4)]
        for job in jobs:
            job.result(timeout=300)
    expected = [f"{kind}-{number}" for kind in ("own", "other") for number in range(4)]
    rows = rows_of(report)
    assert sorted(str(row["subject"]) for row in rows) == sorted(
        [*expected, "shared", *["clash"] * 4]
    )
    assert {path.name for path in (report / "entries").iterdir()} == {r["id"] for r in rows}


def test_entries_of_many_writers_are_all_listed(tmp_path: Path) -> None:
    report, ready = tmp_path / "qc", tmp_path / "ready"
    page = add_entry(ready, *write_case(tmp_path / "in"))
    add_ready(report, page.parent, ["first"])
    _, lost = add_from_many(report, page.parent, 4, 50)
    assert lost == 0
    assert len(rows_of(report)) == 201
    assert {path.name for path in (report / "entries").iterdir()} == {
        row["id"] for row in rows_of(report)
    }


def test_what_a_job_that_died_left_behind_is_put_right(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = tmp_path / "qc"
    page = add_entry(report, *write_case(tmp_path), Details("D", "a"))
    entries = page.parent.parent
    page.parent.rename(entries / f".old-{page.parent.name}.0123")
    (entries / ".new-b.0123").mkdir()
    (entries / "c").mkdir()
    (entries / "c" / "entry.json").write_text("{", encoding="utf-8")
    rebuild(report)
    assert [row["subject"] for row in rows_of(report)] == ["a"]
    assert page.is_file()
    assert "is no entry" in caplog.text


def test_an_entry_removed_by_hand_is_gone_after_a_rebuild(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    made = [add_entry(report, *write_case(tmp_path), Details("D", name)) for name in "ab"]
    shutil.rmtree(made[0].parent)
    assert rebuild(report) == report / "index.html"
    assert [row["subject"] for row in rows_of(report)] == ["b"]


def test_pages_of_another_version_are_made_anew(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    page = add_entry(report, *write_case(tmp_path))
    before = (page.parent / "entry.js").read_text()
    identity_before = index_of(report).of("body")[0]["data-report"]
    (page.parent / "entry.js").write_text("old")
    (report / "static" / "report.js").write_text("old")
    record = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps({**record, "pages": "old"}))
    rebuild(report)
    assert (page.parent / "entry.js").read_text() == before
    assert (report / "static" / "report.js").read_text() != "old"
    assert index_of(report).of("body")[0]["data-report"] == identity_before


@pytest.mark.parametrize(
    ("pixel_mm", "listed", "bars"),
    [(None, 1, 0), ({"axial": 0.2, "coronal": 0.3, "sagittal": 0.3}, 1, 2), ({"axial": "x"}, 0, 0)],
)
def test_entries_without_sizes_of_pixels_have_no_scale_bars(
    tmp_path: Path, pixel_mm: object, listed: int, bars: int
) -> None:
    report = tmp_path / "qc"
    page = add_entry(report, *write_case(tmp_path))
    data = json.loads((page.parent / "entry.json").read_text())
    del data["pixel_mm"]
    if pixel_mm is not None:
        data["pixel_mm"] = pixel_mm
    (page.parent / "entry.json").write_text(json.dumps(data))
    record = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps({**record, "pages": "old"}))
    rebuild(report)
    assert len(rows_of(report)) == listed
    if listed:
        assert sheet_of(page).count('class="scale"') == bars


def test_a_failed_entry_leaves_the_report_as_it_was(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    image, segmentation = write_case(tmp_path)
    add_entry(report, image, segmentation)
    before = (report / ROWS).read_bytes()
    _, other = write_case(tmp_path, name="other", zooms=(1, 1, 2))
    with pytest.raises(ImageError, match="one grid"):
        add_entry(report, image, other)
    assert (report / ROWS).read_bytes() == before
    assert len(list((report / "entries").iterdir())) == 1


def test_a_report_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "qc").write_text("a file")
    with pytest.raises(OutputError, match="Choose another folder"):
        add_entry(tmp_path / "qc", *write_case(tmp_path))


@pytest.mark.parametrize(("module", "name"), [("jinja2", "Jinja2"), ("PIL", "Pillow")])
def test_a_missing_dependency_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"{name}.*pip install"):
        add_entry(tmp_path / "qc", *write_case(tmp_path))
    assert not (tmp_path / "qc").exists()


def test_three_hundred_images_stay_under_five_megabytes(tmp_path: Path) -> None:
    report = tmp_path / "qc"
    flags = [{"code": "spacing", "level": 3}, {"code": "fov_cut", "level": 5}]
    page = add_entry(report, *write_case(tmp_path), Details("D", "S", flags=flags))
    entry = json.loads((page.parent / "entry.json").read_text())
    entries = [{**entry, "id": f"{entry['id']}-{number}"} for number in range(300)]
    write_rows(report / ROWS, map(row_of, entries), {})
    static = ("report.css", "levels.css", "report.js", "levels.js", "viewer.js")
    names = ("index.html", ROWS, *(f"static/{name}" for name in static))
    size = sum((report / name).stat().st_size for name in names)
    assert size + 300 * (page.parent / "thumbnail.jpg").stat().st_size < 5e6


@pytest.mark.data
def test_real_images_make_pages_with_their_levels(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "pam50_small"
    image, segmentation = folder / "PAM50_small_t2.nii.gz", folder / "PAM50_small_rootlets.nii.gz"
    around = folder / "PAM50_small_cord.nii.gz"
    page = add_entry(tmp_path / "qc", image, segmentation, Details("templates", around=around))
    (row,) = rows_of(tmp_path / "qc")
    assert row["levels"] == "C2 C3 C4 C5 C6 C7 C8"
    entry = json.loads((page.parent / "entry.json").read_text())
    heights = [level["height"] for level in entry["levels"]]
    assert all(6 <= height <= 18 for height in heights), "template: 8 to 15.5 mm, slices of 2 mm"


@pytest.mark.data
@pytest.mark.parametrize("name", ["lumbar_T2w", "axial_T2w", "crop_T1w"])
def test_real_images_without_levels_make_pages(
    tmp_path: Path, shared_data: Path, name: str
) -> None:
    path = shared_data / "other" / f"{name}.nii.gz"
    image = nib.load(path)
    empty = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine)
    nib.save(empty, tmp_path / "seg.nii.gz")
    page = add_entry(tmp_path / "qc", path, tmp_path / "seg.nii.gz")
    assert "No level was found" in sheet_of(page)


# The command


def test_the_command_adds_an_entry_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, segmentation = write_case(tmp_path)
    _, around = write_case(tmp_path, (phantom()[1] > 0).astype(np.uint8), name="mask")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["-i", image, "-s", segmentation, "-o", tmp_path / "qc", "-dataset", "D"]
    words += ["-subject", "a b", "-qc-seg", around]
    assert command.run(parser.parse_args(list(map(str, words)))) == 0
    printed = capsys.readouterr().out
    (row,) = rows_of(tmp_path / "qc")
    assert (row["dataset"], row["subject"]) == ("D", "a b")
    assert str(tmp_path / "qc" / "index.html") in printed
    entry = next((tmp_path / "qc" / "entries").glob("*/entry.json"))
    assert (
        f"-o {tmp_path / 'qc'} -dataset D -subject 'a b'"
        in json.loads(entry.read_text())["command"]
    )
    assert str(entry.with_name("index.html")) in printed


def test_the_command_makes_the_list_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "qc"
    made = [add_entry(report, *write_case(tmp_path), Details("D", name)) for name in "ab"]
    shutil.rmtree(made[0].parent)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["-o", str(report), "-rebuild"])) == 0
    assert [row["subject"] for row in rows_of(report)] == ["b"]
    assert str(report / "index.html") in capsys.readouterr().out
    for words in (["-o", str(tmp_path), "-rebuild"], ["-o", str(report)]):
        with pytest.raises(UsageError, match="Expected"):
            command.run(parser.parse_args(words))


@pytest.mark.parametrize(("labels", "flagged"), [(None, True), ("other", False), ("empty", False)])
def test_the_command_checks_a_segmentation_whose_levels_it_knows(
    tmp_path: Path, labels: str | None, flagged: bool
) -> None:
    arrays = {None: None, "other": phantom((20, 21, 23))[1], "empty": np.zeros(SHAPE, np.uint8)}
    image, segmentation = write_case(tmp_path, arrays[labels])
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    words = ["-i", str(image), "-s", str(segmentation), "-o", str(tmp_path / "qc")]
    if labels == "other":
        with pytest.raises(UsageError, match="Its values are 20, 21, 23, which are levels of none"):
            command.run(parser.parse_args(words))
        words += ["-task", "rootlets"]
    assert command.run(parser.parse_args(words)) == 0
    (row,) = rows_of(tmp_path / "qc")
    assert ("level_missing" in str(row["flags"])) == flagged
