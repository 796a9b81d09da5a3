"""The tools from Python do what the commands do, on files as on images in memory."""

from __future__ import annotations

import ast
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import sct_rootlets_task as srt
from sct_rootlets_task import (
    Options,
    Settings,
    api,
    check,
    registry,
    relabel,
    segment,
    spinal_levels,
    split,
)
from sct_rootlets_task.analysis.check import Report
from sct_rootlets_task.errors import (
    ImageError,
    InputTypeError,
    ModelNotInstalledError,
    RootletsError,
    UsageError,
)
from sct_rootlets_task.io.sample import Sample, write_sample
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.located_canal import LocatedLevel, LocatedLevels
from sct_rootlets_task.qc.stored import DATA
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.centerline import line_through_rootlets
from sct_rootlets_task.rootlets.geometry import to_world
from sct_rootlets_task.segmentation import locator, segmenter
from sct_rootlets_task.segmentation.segmenter import Segmentation
from sct_rootlets_task.tasks import TaskRegistry
from test_map_commands import disc_labels, point_image
from test_relabel import located, phantom
from tiny_model import write_model
from tools.phantom import make_phantom, typical_bundles
from volumes import write_image

FUNCTIONS = sorted(name for name in srt.__all__ if name[0].islower())

CALLS: dict[str, tuple[Callable[..., Any], dict[str, str], dict[str, Any]]] = {
    "segment": (srt.segment, {"image": "image"}, {"model": "starter"}),
    "check": (
        srt.check,
        {
            "segmentation": "seg",
            "cord": "cord",
            "pmj": "pmj",
            "discs": "discs",
            "locator": "image",
        },
        {},
    ),
    "relabel, shift": (srt.relabel, {"segmentation": "seg", "cord": "cord"}, {"shift": -1}),
    "relabel, discs": (
        srt.relabel,
        {"segmentation": "shifted", "discs": "discs", "cord": "cord"},
        {},
    ),
    "relabel, locator": (srt.relabel, {"segmentation": "shifted", "locator": "image"}, {}),
    "spinal_levels": (srt.spinal_levels, {"segmentation": "seg", "cord": "cord", "pmj": "pmj"}, {}),
    "split": (srt.split, {"segmentation": "seg", "cord": "cord"}, {}),
    "locate": (srt.locate, {"image": "image"}, {}),
    "evaluate": (srt.evaluate, {"segmentation": "shifted", "reference": "seg"}, {}),
    "picture": (srt.picture, {"image": "image", "segmentation": "seg"}, {"output": "new.png"}),
    "qc": (
        srt.qc,
        {"image": "image", "segmentation": "seg", "qc_seg": "cord"},
        {"output": "report", "subject": "sub-01", "dataset": "data"},
    ),
}
"""Calls by a name: function, image arguments with the file of each, other arguments."""


class OtherPath(os.PathLike[str]):
    """A path object of another library."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path


def in_memory(path: str) -> nib.Nifti1Image:
    image = nib.load(path)
    return nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)


FORMS: dict[str, Callable[[str], Any]] = {
    "absolute": os.path.abspath,
    "Path": Path,
    "path object": OtherPath,
    "home folder": lambda path: f"~/{path}",
    "loaded": nib.load,
    "in memory": in_memory,
}

WRONG: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "text file": (lambda: "text.nii.gz", ImageError),
    "folder": (lambda: Path(), ImageError),
    "folder with an ending": (lambda: "folder.nii.gz", ImageError),
    "missing file": (lambda: "missing.nii.gz", ImageError),
    "zero byte": (lambda: "a\0.nii.gz", UsageError),
    "no name": (lambda: "", UsageError),
    "series, file": (lambda: "series.nii.gz", ImageError),
    "series": (lambda: nib.load("series.nii.gz"), ImageError),
    "slice": (lambda: nib.Nifti1Image(np.ones((4, 4, 1)), np.eye(4)), ImageError),
    "no affine": (lambda: nib.Nifti1Image(np.ones((4, 4, 4)), None), ImageError),
    "complex": (lambda: nib.Nifti1Image(np.ones((4, 4, 4), complex), np.eye(4)), ImageError),
    "surface": (lambda: nib.GiftiImage(), InputTypeError),
    "array": (lambda: np.ones((4, 4, 4)), InputTypeError),
    "number": (lambda: 3, InputTypeError),
    "bytes": (lambda: b"seg.nii.gz", InputTypeError),
    "list": (lambda: ["seg.nii.gz"], InputTypeError),
    "open file": (lambda: sys.stdin, InputTypeError),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a level map with what belongs to it, and files that are no image."""
    folder = tmp_path_factory.mktemp("study")
    labels = phantom().labels
    arrays = {
        "image": (labels + 10.0).astype(np.float32),
        "seg": labels,
        "shifted": np.where(labels > 2, labels - 1, 0).astype(np.uint8),
        "cord": phantom().cord.astype(np.uint8),
        "discs": disc_labels(),
        "pmj": point_image(50),
        "series": np.stack([labels] * 2, axis=-1),
    }
    for name, array in arrays.items():
        nib.save(nib.Nifti1Image(array, phantom().affine), folder / f"{name}.nii.gz")
    (folder / "text.nii.gz").write_text("no image")
    (folder / "folder.nii.gz").mkdir()
    return folder


class NoNetwork:
    """A segmenter that takes what is bright."""

    def __init__(self, *_: Any) -> None:
        pass

    def segment(self, image: Any) -> Segmentation:
        return Segmentation(np.where(image.data > 11, 5, 0).astype(np.uint8), warnings=("doubt",))


@pytest.fixture
def here(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a copy of the study; the networks are left out."""
    folder = Path(shutil.copytree(study, tmp_path / "here"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(locator, "locate", lambda image: LocatedLevels(located()))
    monkeypatch.setattr(segmenter, "Segmenter", NoNetwork)
    return folder


def call(name: str, form: Callable[[str], Any]) -> Any:
    function, images, others = CALLS[name]
    given = {argument: form(f"{file}.nii.gz") for argument, file in images.items()}
    return function(**given, **others)


def plain(result: Any) -> Any:
    """Return a result as what can be compared; names of files are left out."""
    if isinstance(result, nib.Nifti1Image):
        values = np.asarray(result.dataobj)
        return (values.dtype.str, values.tobytes(), result.affine.tolist())
    if isinstance(result, Report):
        return result.to_dict()
    if isinstance(result, api.Evaluation):
        return result.rows
    if isinstance(result, dict):
        return {name: plain(value) for name, value in result.items()}
    if isinstance(result, api.ColoredCord):
        rows = [{**row, "fname": ""} for row in result.table.rows]
        return (rows, plain(result.labels))
    if isinstance(result, api.SegmentedImage | api.LocatedCanal):
        return plain(result.labels)
    if isinstance(result, api.RelabeledMap):
        return (plain(result.labels), result.changes)
    if isinstance(result, Path):
        return _content(result)
    return list(result)


def _content(file: Path) -> Any:
    if file.suffix == ".png":
        from PIL import Image

        with Image.open(file) as drawn:
            return np.asarray(drawn)[46:].tobytes()  # the title has the name of the file
    text = (file.parent / DATA).read_text()
    names = ("id", "report", "image", "segmentation", "made", "around", "notices", "command")
    return {
        key: value
        for key, value in json.loads(text).items()
        if key not in names and not key.endswith(("_path", "_place"))
    }


@pytest.mark.parametrize("name", CALLS)
def test_every_function_takes_files_and_images_alike(here: Path, name: str) -> None:
    expected = plain(call(name, str))
    others = {form: plain(call(name, make)) == expected for form, make in FORMS.items()}
    assert others == dict.fromkeys(FORMS, True)


def image_arguments(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if "ImageLike" in str(one.annotation)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_table_of_calls_has_every_image_argument(name: str) -> None:
    function = getattr(srt, name)
    tried = {argument for call in CALLS.values() if call[0] is function for argument in call[1]}
    assert image_arguments(function) == tried
    words = {"image", "segmentation", "reference", "cord", "pmj", "discs", "locator", "qc_seg"}
    assert tried <= words
    # A level map can be renumbered in five ways.
    assert len(inspect.signature(function).parameters) <= (8 if function is relabel else 7)
    assert "Any" not in str(inspect.signature(function))


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name, call in CALLS.items() for argument in call[1]]
)
def test_what_is_no_image_is_an_error_of_the_package(here: Path, name: str, argument: str) -> None:
    function, images, others = CALLS[name]
    given: dict[str, Any] = {one: f"{file}.nii.gz" for one, file in images.items()}
    for kind, (make, error) in WRONG.items():
        with pytest.raises(RootletsError) as caught:
            function(**{**given, argument: make()}, **others)
        assert isinstance(caught.value, error), kind
        if error is InputTypeError:
            assert argument in str(caught.value), kind
            assert isinstance(caught.value, TypeError)
    assert not (here / "new.png").exists()


@pytest.mark.parametrize("name", CALLS)
def test_an_image_that_is_needed_may_not_be_none(here: Path, name: str) -> None:
    function, images, others = CALLS[name]
    first, *more = images
    given = {one: f"{images[one]}.nii.gz" for one in more}
    with pytest.raises(InputTypeError, match=f"{first}, found None"):
        function(None, **given, **others)
    with pytest.raises(TypeError, match="unexpected keyword argument 'kord'"):
        function(f"{images[first]}.nii.gz", kord=None, **given, **others)


def test_an_array_is_told_how_to_become_an_image() -> None:
    with pytest.raises(InputTypeError, match=r"nibabel\.Nifti1Image\(array, affine\)"):
        check(np.zeros((4, 4, 4)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("picture", "qc")])
def test_nothing_is_written_that_was_not_asked_for(here: Path, name: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    call(name, in_memory)
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


@pytest.mark.parametrize("name", CALLS)
def test_what_is_returned_shows_itself_in_a_line(here: Path, name: str) -> None:
    result = call(name, str)
    shown = [result, *(result if isinstance(result, tuple) else ())]
    for one in shown:
        if not isinstance(one, nib.Nifti1Image):
            assert len(repr(one)) < 500
            assert "array(" not in repr(one)
            assert "\n" not in repr(one)


@pytest.mark.parametrize("form", [str, nib.load])
def test_tables_name_the_file_of_an_image(here: Path, form: Callable[[str], Any]) -> None:
    rows = spinal_levels(form("seg.nii.gz")).table.rows
    assert {row["fname"] for row in rows} == {"seg.nii.gz"}


def test_tables_name_no_file_of_an_image_that_has_none(here: Path) -> None:
    rows = spinal_levels(in_memory("seg.nii.gz")).table.rows
    assert {row["fname"] for row in rows} == {""}


def test_what_a_user_should_know_is_logged(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = nib.Nifti1Image(np.asarray(nib.load("image.nii.gz").dataobj), phantom().affine)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    srt.segment(image, model="starter")
    assert "neither sform nor qform" in caplog.text
    assert "doubt" in caplog.text


@pytest.mark.parametrize("output", ["image.nii.gz", "./seg.nii.gz"])
@pytest.mark.parametrize("form", [str, nib.load])
def test_a_picture_replaces_no_input(here: Path, output: str, form: Callable[[str], Any]) -> None:
    with pytest.raises(UsageError, match="replace an input"):
        srt.picture(form("image.nii.gz"), form("seg.nii.gz"), output=output, overwrite=1)


def test_a_picture_replaces_files_of_others_when_told_to_only(here: Path) -> None:
    (here / "new.png").write_text("mine")
    images = ("image.nii.gz", "seg.nii.gz")
    with pytest.raises(UsageError, match="overwrite=1 would replace it"):
        srt.picture(*images, output="new.png")
    assert (here / "new.png").read_text() == "mine"
    srt.picture(*images, output="new.png", overwrite=1)
    srt.picture(*images, output="new.png")
    with pytest.raises(UsageError, match="overwrite=0 was given"):
        srt.picture(*images, output="new.png", overwrite=0)


@pytest.mark.parametrize("output", [None, 3, b"new.png"])
def test_an_output_has_to_be_a_path(here: Path, output: Any) -> None:
    for function in (srt.picture, srt.qc):
        with pytest.raises(InputTypeError, match="path for output"):
            function("image.nii.gz", "seg.nii.gz", output=output)


def test_a_page_of_the_report_shows_the_flags_of_the_check(here: Path) -> None:
    gap = relabel("seg.nii.gz", {5: 0}).labels
    page = srt.qc("image.nii.gz", gap, output="r")
    shown = json.loads((page.parent / DATA).read_text())["flags"]
    assert [flag["text"] for flag in shown] == [flag.text for flag in check(gap).flags]
    assert "level_missing" in [flag["code"] for flag in shown]


@pytest.mark.parametrize("form", [str, Path, nib.load])
def test_the_check_and_the_page_show_what_the_run_doubted(
    here: Path, form: Callable[[str], Any]
) -> None:
    (here / "seg.json").write_text(json.dumps({"Warnings": ["Nothing was to be seen of C2."]}))
    (doubt,) = (flag for flag in check(form("seg.nii.gz")).flags if flag.code == "doubt")
    page = srt.qc("image.nii.gz", form("seg.nii.gz"), output="r")
    shown = json.loads((page.parent / DATA).read_text())["flags"]
    assert doubt.text in [flag["text"] for flag in shown]


def test_an_image_and_its_file_are_one_entry_of_a_report(here: Path) -> None:
    pages = {
        srt.qc(form("image.nii.gz"), form("seg.nii.gz"), output="r") for form in (str, nib.load)
    }
    assert len(pages) == 1


def test_an_image_without_a_file_needs_a_subject_in_a_report(here: Path) -> None:
    image = in_memory("image.nii.gz")
    with pytest.raises(UsageError, match="Give subject="):
        srt.qc(image, "seg.nii.gz", output="r")
    assert not (here / "r").exists()
    assert srt.qc(image, "seg.nii.gz", output="r", subject="a").is_file()


def test_an_image_that_was_changed_since_is_shown_as_it_is_now(here: Path) -> None:
    image, moved = (nib.load(f"{name}.nii.gz") for name in ("image", "seg"))
    for one in (image, moved):
        one.affine[:3, 3] += 1000
    pages = [srt.qc(image, moved, output="r"), srt.qc("image.nii.gz", "seg.nii.gz", output="r")]
    entries = [json.loads((page.parent / DATA).read_text()) for page in pages]
    assert entries[0]["subject"] == entries[1]["subject"]
    assert entries[0]["image_stamp"] != entries[1]["image_stamp"]
    with pytest.raises(ImageError, match="grid"):
        srt.qc(image, "seg.nii.gz", output="r")


@pytest.mark.parametrize(
    "wrong",
    [
        {"shift": "1"},
        {"shift": 1.5},
        {"mapping": "3:4"},
        {"mapping": [3, 4]},
        {"mapping": {"C3": 4}},
        {"anchor": 5},
        {"anchor": "C5:12"},
        {"anchor": (5,)},
        {"anchor": (5, "12")},
    ],
)
def test_ways_to_renumber_of_a_wrong_kind_are_an_error_of_the_package(
    here: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InputTypeError, match=next(iter(wrong))):
        relabel("seg.nii.gz", **wrong)


def test_what_was_located_once_serves_again(here: Path) -> None:
    canal = srt.locate("image.nii.gz")
    again, anew = (check("seg.nii.gz", locator=one) for one in (canal, "image.nii.gz"))
    assert again == anew
    assert [shift.source for shift in again.shifts] == ["locator"]


def test_the_sample_is_what_the_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = np.ones((3, 4, 5), np.int16)
    monkeypatch.setattr("sct_rootlets_task.io.sample.load_sample", lambda: Sample(ones, ones > 0))
    made = srt.sample()
    write_sample(tmp_path / "a.nii", cord=tmp_path / "c.nii")
    for image, name in zip(made, ("a.nii", "c.nii"), strict=True):
        assert image.to_bytes() == (tmp_path / name).read_bytes()


def test_models_are_listed_with_their_folders(tmp_path: Path) -> None:
    rows = srt.list_models(tmp_path)
    starters = [row for row in rows if row.model == "starter"]
    assert starters
    assert all(row.path is not None and row.path.is_dir() for row in starters)
    assert all(row.path is None for row in rows if row.default)


def test_the_package_offers_its_functions() -> None:
    assert set(srt.__all__) <= set(dir(srt))
    assert [name for name in dir(srt) if not name.startswith("_")] == sorted(srt.__all__)
    assert set(FUNCTIONS) == {name for name in api.__all__ if name[0].islower()}
    for name in FUNCTIONS:
        assert getattr(srt, name) is getattr(api, name)


def test_type_checkers_see_what_the_package_offers() -> None:
    tree = ast.parse(Path(srt.__file__).read_text())
    named = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(srt.__name__)
        for alias in node.names
    ]
    assert sorted(named) == sorted([*srt.__all__, "VERSION"])


def test_importing_the_package_loads_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import sct_rootlets_task as srt; dir(srt); "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["sct_rootlets_task"]


def test_looking_up_a_function_loads_nothing_heavy() -> None:
    heavy = ("torch", "nibabel", "openvino", "scipy", "PIL", "pandas", "jinja2")
    program = (
        "import sys, sct_rootlets_task as srt; [getattr(srt, name) for name in srt.__all__]; "
        f"print(*sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_function_keeps_its_name_when_the_package_of_that_name_is_imported() -> None:
    assert inspect.ismodule(import_module("sct_rootlets_task.qc"))
    assert srt.qc is api.qc


@pytest.fixture(scope="module")
def images() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return a phantom's level map and its cord mask."""
    phantom = make_phantom(typical_bundles())
    labels = nib.Nifti1Image(phantom.labels, phantom.affine)
    return labels, nib.Nifti1Image(phantom.cord.astype(np.uint8), phantom.affine)


@pytest.mark.network
def test_an_image_file_is_segmented(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.nii.gz", axcodes="PSR")
    folder = write_model(tmp_path / "model")
    settings = Settings(Options(engine="openvino", device="cpu"), tiles="all", raw=True)
    labels, found = segment(path, model=str(folder), settings=settings)
    assert np.array_equal(np.asarray(labels.dataobj), found.labels)
    assert np.array_equal(labels.affine, nib.load(path).affine)
    assert labels.header["sform_code"] == 1


def test_a_missing_level_is_warned_of_and_a_present_one_is_not(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    assert not any(flag.level == 5 for flag in check(labels, cord=cord).warnings)
    without_c5 = relabel(labels, {5: 0}).labels
    assert any(flag.level == 5 for flag in check(without_c5, cord=cord).warnings)


def test_relabeling_swaps_levels(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    labels, _ = images
    swapped = np.asarray(relabel(labels, {3: 4, 4: 3}).labels.dataobj)
    before = np.asarray(labels.dataobj)
    assert np.array_equal(swapped == 3, before == 4)
    assert np.array_equal(swapped == 4, before == 3)


def test_spinal_levels_color_the_cord(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    labels, cord = images
    found, colored = spinal_levels(labels, cord=cord)
    assert [row["spinal_level"] for row in found.rows] == list(range(2, 10))
    values = np.asarray(colored.dataobj)
    assert not values[np.asarray(cord.dataobj) == 0].any()


def test_the_parts_add_up(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    labels, cord = images
    parts = split(labels, cord)
    total = sum(np.asarray(part.dataobj).astype(int) for part in parts.values())
    assert np.array_equal(total, np.asarray(labels.dataobj))


@pytest.mark.parametrize("values", [0.5, 300, -1])
def test_what_is_no_level_map_is_refused_and_not_rounded(values: float) -> None:
    voxels = np.zeros((4, 4, 4))
    voxels[1:3] = values
    image = nib.Nifti1Image(voxels, np.eye(4))
    for tool in (check, lambda one: relabel(one, {2: 3}), spinal_levels):
        with pytest.raises(ImageError, match="whole numbers"):
            tool(image)


def test_levels_are_renumbered_in_each_of_the_five_ways(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    values = np.asarray(labels.dataobj)
    canal = spinal_levels(labels, cord=cord, method="midpoint").labels
    shifted = relabel(labels, shift=-1).labels
    back = np.where(np.asarray(shifted.dataobj) > 0, values, 0)
    slices = np.argwhere(np.asarray(shifted.dataobj) == 4)[:, 2]
    ways: list[dict[str, Any]] = [
        {"mapping": {level - 1: level for level in range(3, 10)}},
        {"shift": 1},
        {"anchor": (5, int(np.median(slices)))},
        {"locator": as_located(canal)},
    ]
    for way in ways:
        assert np.array_equal(relabel(shifted, **way).labels.dataobj, back)
    from_discs = relabel(shifted, discs=vertebrae(canal), cord=cord).labels
    assert np.array_equal(from_discs.dataobj, back)
    for wrong in ({}, {"shift": 1, "mapping": {2: 3}}):
        with pytest.raises(UsageError, match="Expected one of"):
            relabel(labels, **wrong)


def as_located(canal: nib.Nifti1Image) -> api.LocatedCanal:
    return api.LocatedCanal(canal, LocatedLevels(np.asarray(canal.dataobj)))


def vertebrae(canal: nib.Nifti1Image) -> nib.Nifti1Image:
    """Return vertebral levels along the cord that fit its spinal levels, of 15 mm each."""
    levels = np.asarray(canal.dataobj)
    voxels = np.argwhere(levels)
    height = (canal.affine @ [*np.argwhere(levels == 5).mean(axis=0), 1])[2]
    above = (to_world(voxels, canal.affine)[:, 2] - height) / 15
    coordinate = CERVICAL.disc_coordinate(5) - above
    found = np.zeros_like(levels)
    found[tuple(voxels.T)] = np.floor(coordinate)
    return nib.Nifti1Image(found, canal.affine)


def test_what_a_renumbering_changed_is_told(images: tuple[nib.Nifti1Image, Any]) -> None:
    labels, _ = images
    found, changes = relabel(labels, {3: 4, 9: 0})
    assert [str(one) for one in changes] == ["C3 becomes C4", "T1 is removed"]
    moved = np.asarray(found.dataobj) != np.asarray(labels.dataobj)
    assert sum(one.voxels for one in changes) == np.count_nonzero(moved)


def test_a_reference_that_agrees_is_told_and_is_no_flag(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    canal = as_located(spinal_levels(labels, cord=cord, method="midpoint").labels)
    report = check(labels, cord=cord, locator=canal)
    assert report.opinions == ("The locator agrees with the numbers of the levels.",)
    assert check(labels, cord=cord).opinions == ()


def test_an_image_of_another_grid_is_refused_before_it_is_located(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(locator, "locate")
    other = nib.Nifti1Image(np.asarray(nib.load("image.nii.gz").dataobj), np.eye(4))
    for function in (check, relabel):
        with pytest.raises(ImageError, match="on the grid of the level map"):
            function("seg.nii.gz", locator=other)


def test_rows_of_a_located_canal_are_those_of_its_tables() -> None:
    levels = (LocatedLevel(2, 0.0, 1.5, 0.91), LocatedLevel(3, 1.5, 3.0, 0.9))
    line = line_through_rootlets(np.array([[0.0, 0, z] for z in range(5)]))
    found = api.LocatedCanal(None, LocatedLevels(np.zeros((1, 1, 1)), levels, line))
    assert found.rows[0] == {"level": "C2", "start_mm": 1.5, "end_mm": 0.0, "confidence": 0.91}
    assert [row["level"] for row in found.line_rows][:4] == ["C2", "C2", "C3", ""]
    assert [row["arc_mm"] for row in found.line_rows] == list(range(len(found.line_rows)))
    assert api.LocatedCanal(None, LocatedLevels(np.zeros((1, 1, 1)))).line_rows == []


LUMBAR = replace(ROOTLETS, name="lumbar", levels=tuple(range(20, 28)), priors=None)


@pytest.fixture
def lumbar(monkeypatch: pytest.MonkeyPatch) -> nib.Nifti1Image:
    """Return a map of lumbar levels, of a task in the registry."""
    monkeypatch.setattr(registry, "TASKS", TaskRegistry([ROOTLETS, LUMBAR]))
    labels = phantom().labels
    values = np.where(labels > 0, labels + 18, 0).astype(np.uint8)
    return nib.Nifti1Image(values, phantom().affine)


def test_a_task_is_found_by_the_levels_of_a_map(lumbar: nib.Nifti1Image) -> None:
    before = np.asarray(lumbar.dataobj)
    after = np.asarray(relabel(lumbar, shift=-1).labels.dataobj)
    assert np.array_equal(after, np.where(before > 20, before - 1, 0))
    assert not [flag for flag in check(lumbar).flags if flag.code == "unexpected_value"]
    mixed = nib.Nifti1Image(np.where(before == 20, 3, before).astype(np.uint8), lumbar.affine)
    for function in (check, spinal_levels, lambda one: relabel(one, shift=1)):
        with pytest.raises(UsageError, match="lumbar") as caught:
            function(mixed)
        assert caught.value.exit_code == 2


def test_the_task_of_the_sidecar_and_the_one_that_is_named_come_first(
    here: Path, lumbar: nib.Nifti1Image
) -> None:
    nib.save(lumbar, "lumbar.nii.gz")
    (here / "lumbar.json").write_text('{"Task": "rootlets"}')
    unexpected = [flag.code for flag in check("lumbar.nii.gz").flags]
    assert "unexpected_value" in unexpected
    flags = check("lumbar.nii.gz", task="lumbar").flags
    assert "unexpected_value" not in [flag.code for flag in flags]


@pytest.mark.parametrize("function", ["split", "picture"])
def test_levels_of_another_task_are_named(
    here: Path, caplog: pytest.LogCaptureFixture, function: str
) -> None:
    task = "seg_spinal_rootlets_t2w"
    if function == "split":
        split("seg.nii.gz", "cord.nii.gz", task=task)
    else:
        srt.picture("image.nii.gz", "seg.nii.gz", output="new.png", task=task)
    assert f"seg.nii.gz: the levels of task {task} are C2–C8, not T1." in caplog.text


def test_a_page_names_the_command_that_makes_it(here: Path) -> None:
    def command_of(*images: Any, **others: Any) -> str:
        page = srt.qc(*images, output="r", **others)
        return json.loads((page.parent / DATA).read_text())["command"]

    words = "sct_rootlets qc -i image.nii.gz -s seg.nii.gz -o r -subject a -task rootlets"
    assert command_of("image.nii.gz", Path("seg.nii.gz"), subject="a", task="rootlets") == words
    assert command_of(in_memory("image.nii.gz"), "seg.nii.gz", subject="b") == ""


def test_a_model_is_found_and_verified() -> None:
    found = srt.find_model(model="starter")
    assert (found.path / "plans.json").is_file()
    assert found.verify() == []
    with pytest.raises(ModelNotInstalledError, match="sct_deepseg rootlets -install"):
        srt.find_model()


def test_a_shift_is_found_by_the_levels_of_the_canal(
    images: tuple[nib.Nifti1Image, nib.Nifti1Image],
) -> None:
    labels, cord = images
    _, canal = spinal_levels(labels, cord=cord, method="midpoint")
    report = check(relabel(labels, shift=1).labels, cord=cord, locator=as_located(canal))
    assert [(shift.source, shift.shift) for shift in report.shifts] == [("locator", -1)]


def test_tables_are_data_frames(images: tuple[nib.Nifti1Image, nib.Nifti1Image]) -> None:
    pytest.importorskip("pandas")
    labels, cord = images
    whole, part = check(labels, cord=cord), check(relabel(labels, {5: 0}).labels, cord=cord)
    assert whole.to_dataframe()["level"].tolist() == list(range(2, 10))
    none = Report((), (), (), "none").flags_dataframe()
    flags = part.flags_dataframe()
    assert len(none) == 0
    assert list(flags.columns) == list(none.columns)
    assert flags.set_index("code").loc["level_missing", "level"] == 5
    assert {"value", "expected", "source", "text"} <= set(flags.columns)


@pytest.mark.network
def test_an_image_in_memory_is_segmented_as_its_file_is(tmp_path: Path) -> None:
    path = write_image(tmp_path / "image.nii.gz", axcodes="PSR")
    folder = str(write_model(tmp_path / "model"))
    settings = Settings(Options(engine="openvino", device="cpu"), tiles="all", raw=True)
    wanted, _ = segment(path, model=folder, settings=settings)
    image = nib.load(path)
    found, _ = segment(image, model=folder, settings=settings)
    assert np.array_equal(found.dataobj, wanted.dataobj)
    assert np.array_equal(found.affine, image.affine)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = srt.nonsense


def _in_unit(image: Any, unit: str, factor: float) -> Any:
    affine = image.affine.copy()
    affine[:3] *= factor
    other = nib.Nifti1Image(np.asarray(image.dataobj), affine)
    other.set_qform(affine, 1)
    other.header.set_xyzt_units(unit)
    return other


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("meter", 1.0)])
def test_images_in_another_unit_give_the_same_and_come_back_in_their_unit(
    images: tuple[Any, Any], unit: str, factor: float
) -> None:
    labels, cord = (_in_unit(image, unit, factor) for image in images)
    plain, _ = spinal_levels(images[0], cord=images[1])
    found, colored = spinal_levels(labels, cord=cord)
    mixed, _ = spinal_levels(labels, cord=images[1])
    for spans in (found.spans, mixed.spans):
        for one, other in zip(spans, plain.spans, strict=True):
            assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=0.1)
    for made in (colored, relabel(labels, shift=0).labels, *split(labels, cord).values()):
        assert np.array_equal(made.affine, labels.affine)
        assert made.header.get_xyzt_units()[0] == unit
    report, expected = check(labels, cord=cord), check(images[0], cord=images[1])
    assert [flag.code for flag in report.flags] == [flag.code for flag in expected.flags]


@pytest.mark.parametrize("bad", [np.diag([0.0, 1, 1, 1]), np.full((4, 4), np.nan), np.eye(4) * 99])
def test_an_affine_that_makes_no_body_is_refused(images: tuple[Any, Any], bad: np.ndarray) -> None:
    voxels = np.asarray(images[0].dataobj)
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.affine[:] = bad
    for function in (check, segment):
        with pytest.raises(ImageError, match=r"voxels of|not usable"):
            function(image)


def test_a_nibabel_image_of_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match="cut short"):
        segment(nib.load(path), model="starter")
    with pytest.raises(ImageError, match="cut short"):
        check(nib.load(path))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: check("seg.nii.gz", task=3), "str or None for task"),
        (lambda: split("seg.nii.gz", "cord.nii.gz", task="nothing"), "found 'nothing'"),
        (lambda: srt.picture("image.nii.gz", "seg.nii.gz", output="p.png", overwrite=5), "0, 1"),
        (lambda: srt.picture("image.nii.gz", "seg.nii.gz", output="p.png", overwrite="1"), "whole"),
        (lambda: srt.list_models(3), "path, found int"),
        (lambda: srt.list_models(b"models"), "path, found bytes"),
        (lambda: srt.install_model(model_dir=3), "path, found int"),
        (lambda: segment("image.nii.gz", model=3), "path, found int"),
        (lambda: segment("image.nii.gz", settings={"raw": True}), "Settings or None"),
        (lambda: segment("image.nii.gz", settings=Options()), "Settings or None"),
        (lambda: srt.qc("image.nii.gz", "seg.nii.gz", output="qc", subject=3), "str or None"),
        (lambda: srt.qc("image.nii.gz", "seg.nii.gz", output="qc", dataset=Path()), "str or None"),
    ],
)
def test_other_arguments_of_a_wrong_kind_are_an_error_of_the_package_too(
    here: Path, call: Callable[[], object], match: str
) -> None:
    with pytest.raises((InputTypeError, UsageError), match=match):
        call()


def test_messages_name_an_image_in_memory_and_not_its_copy(here: Path) -> None:
    scan = nib.load("image.nii.gz")
    mask = nib.Nifti1Image(np.zeros(scan.shape, np.uint8), scan.affine)
    with pytest.raises(ImageError, match="<qc_seg in memory> has no voxel inside"):
        srt.qc(scan, "seg.nii.gz", output="qc", qc_seg=mask)
