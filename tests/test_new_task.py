"""A new task is one entry of the registry: everything else follows from it.

The entry below is all that the tests add. Each command, the QC page, the color tables, the help and
the model card have to make sense of its levels, T12 to S2, of which no priors are known.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from fake_network import Loader
from model_zips import TRAINER, model_zip
from sct_rootlets_task import api, registry
from sct_rootlets_task.analysis.relabel import levels_from_discs, levels_from_located, shift_levels
from sct_rootlets_task.analysis.spinal_levels import spinal_levels
from sct_rootlets_task.cli import sct_deepseg, sct_rootlets
from sct_rootlets_task.errors import ImageError, UsageError
from sct_rootlets_task.io.luts import VIEWERS, lut_path
from sct_rootlets_task.level_names import level_color, level_name
from sct_rootlets_task.levels.sources import ByMap
from sct_rootlets_task.rootlets.postprocess import HookContext
from sct_rootlets_task.sct_plugin.task_tables import make_entries, merge
from sct_rootlets_task.tasks import Release, Task, TaskRegistry
from tools.model_card import check_card, load_card, render_card
from tools.phantom import Phantom, make_phantom, typical_bundles
from volumes import write_image

LEVELS = tuple(range(20, 28))
NAMES = [level_name(level) for level in LEVELS]

LUMBAR = Task(
    name="lumbar_rootlets",
    description="Lumbar rootlets of a test",
    long_description="Segments the lumbar rootlets of a test.",
    url="https://example.org/lumbar",
    model_name="model_lumbar",
    releases=(Release("r1", "First lumbar model.", ("https://example.invalid/lumbar.zip",)),),
    default="r1",
    contrasts=("t2",),
    level_source=ByMap(tuple((i, 19 + i) for i in range(1, 9))),
    levels=LEVELS,
    suffix="_lumbar",
    group="Lumbar",
)
REGISTRY = TaskRegistry([*registry.TASKS.values(), LUMBAR])


def drop_the_last_level(labels: np.ndarray, context: HookContext) -> np.ndarray:
    return np.where(labels == context.levels[-1], 0, labels).astype(np.uint8)


@pytest.fixture(autouse=True)
def _with_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "TASKS", REGISTRY)


def deepseg(*words: object, tasks: TaskRegistry = REGISTRY) -> int:
    return sct_deepseg.main([str(word) for word in words], tasks=tasks, load=Loader())


def rootlets(*words: object) -> int:
    return sct_rootlets.main([str(word) for word in words])


LABELS = {"background": 0, **{f"root{i}": i for i in range(1, 9)}}


def archive(folder: Path, labels: dict[str, int] = LABELS) -> Path:
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}}
    extra = {f"{TRAINER}/dataset.json": json.dumps(dataset).encode()}
    path = folder / "lumbar.zip"
    path.write_bytes(model_zip(extra=extra, labels=labels))
    return path


def phantom(levels: tuple[int, ...] = LEVELS) -> Phantom:
    bundles = typical_bundles(levels, spacing_mm=11, height_mm=7, first_mm=12)
    return make_phantom(bundles, voxel_mm=(1, 1, 1))


def write(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, phantom().affine), path)
    return path


def values(path: Path) -> set[int]:
    return set(np.unique(np.asarray(nib.load(path).dataobj)).tolist())


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Path]:
    """Write an image, whose classes the stand-in network reads, its level map and its cord."""
    one = phantom()
    tissue = np.random.default_rng(0).integers(50, 200, one.labels.shape)
    image = np.where(one.labels > 0, one.labels - 19, tissue).astype(np.int16)
    return {
        "image": write(tmp_path / "t2.nii.gz", image),
        "map": write(tmp_path / "map.nii.gz", one.labels),
        "cord": write(tmp_path / "cord.nii.gz", one.cord),
    }


# Help, installation, segmentation


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-h",), "lumbar_rootlets"),
        (("-list-tasks",), "Lumbar rootlets of a test"),
        (("-task-details",), "First lumbar model."),
        (("lumbar_rootlets", "-h"), "T12–S2"),
    ],
)
def test_help_shows_it(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    assert deepseg(*words) == 0
    assert text in capsys.readouterr().out


def test_it_installs_and_runs_and_writes_its_own_levels(tmp_path: Path) -> None:
    with_hook = TaskRegistry([replace(LUMBAR, hooks=(drop_the_last_level,))])
    words = ("lumbar_rootlets", "-install", "-custom-url", archive(tmp_path))
    assert deepseg(*words, tasks=with_hook) == 0
    data = np.full((9, 8, 24), 100, np.int16)
    for level in range(1, 9):
        data[2:4, 2:4, 2 * level : 2 * level + 2] = level
    image = write_image(tmp_path / "a.nii.gz", data)
    assert deepseg("lumbar_rootlets", "-i", image, tasks=with_hook) == 0
    assert values(tmp_path / "a_lumbar.nii.gz") == {0, *LEVELS[:-1]}, "the hook drops S2"
    sidecar = json.loads((tmp_path / "a_lumbar.json").read_text())
    assert sidecar["Task"] == "lumbar_rootlets"
    assert sidecar["Model"]["Custom"] is True
    assert sidecar["PostProcessing"][-1] == {"Name": "drop_the_last_level", "VoxelsChanged": 8}
    assert list(sidecar["LevelVoxels"])[:2] == ["T12", "L1"]


def test_a_model_of_rootlets_only_needs_a_locator_that_knows_the_levels(
    tmp_path: Path, study: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = archive(tmp_path, {"background": 0, "rootlets": 1})
    assert deepseg("lumbar_rootlets", "-i", study["image"], "-model", model) == 1
    assert (
        "names the levels T12–S2: this one knows rootlets only, and the built-in locator knows"
        in (capsys.readouterr().err)
    )


def test_the_legacy_form_knows_it_too(tmp_path: Path) -> None:
    assert deepseg("-install-task", "lumbar_rootlets", "-custom-url", archive(tmp_path)) == 0
    data = np.full((9, 8, 24), 100, np.int16)
    data[2:4, 2:4, 4:6] = 3
    image = write_image(tmp_path / "a.nii.gz", data)
    assert deepseg("-task", "lumbar_rootlets", "-i", image, "-o", tmp_path / "o.nii.gz") == 0
    assert values(tmp_path / "o.nii.gz") == {0, 22}


def test_a_run_checks_draws_and_colors_its_own_levels(
    tmp_path: Path, study: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert deepseg("lumbar_rootlets", "-install", "-custom-url", archive(tmp_path)) == 0
    words = ("-qc", tmp_path / "qc", "-lut", *VIEWERS)
    for _ in range(2):
        assert deepseg("lumbar_rootlets", "-i", study["image"], *words) == 0
    segmentation = tmp_path / "t2_lumbar.nii.gz"
    assert values(segmentation) == {0, *LEVELS}
    plausibility = json.loads((tmp_path / "t2_lumbar.json").read_text())["Plausibility"]
    assert [level["name"] for level in plausibility["Levels"]] == NAMES
    assert [flag["code"] for flag in plausibility["Flags"]] == ["no_priors"]
    for viewer in VIEWERS:
        table = lut_path(segmentation, viewer).read_text()
        assert all(name in table for name in NAMES), viewer
    assert_page_shows_all_levels(tmp_path / "qc")
    capsys.readouterr()
    assert rootlets("models", "list") == 0
    assert "lumbar_rootlets  r1 (default): installed, custom" in capsys.readouterr().out
    for command in ("path", "verify"):
        assert rootlets("models", command, "-task", "lumbar_rootlets") == 0
    assert api.check(segmentation).levels[0].name == "T12"


def assert_page_shows_all_levels(report: Path) -> None:
    (entry,) = report.glob("entries/*/entry.json")
    content = json.loads(entry.read_text())
    assert [level["level"] for level in content["found"]] == list(LEVELS)
    assert content["missing"] == []
    assert {flag["code"] for flag in content["flags"]} == {"no_priors"}
    page = entry.with_suffix(".js").read_text()
    assert all(f"lv-{level}" in page and f">{level_name(level)}<" in page for level in LEVELS)


# Commands; without -task they find the task by the map's values


def test_check_measures_its_levels_and_says_what_was_not_checked(
    tmp_path: Path, study: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-i", study["map"], "-s", study["cord"], "-o", tmp_path / "report.json", "-strict")
    assert rootlets("check", *words) == 0
    out = capsys.readouterr().out
    assert "Not checked, as the task lumbar_rootlets does not tell what is usual" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [level["name"] for level in report["Levels"]] == NAMES


def test_check_misses_a_level_between_others(
    tmp_path: Path, study: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.where(phantom().labels == 22, 0, phantom().labels).astype(np.uint8)
    assert rootlets("check", "-i", write(tmp_path / "gap.nii.gz", labels)) == 0
    missing = "warning: L2 was not found; it is expected between L1 and L3.\n"
    assert missing in capsys.readouterr().out


def test_levels_with_gaps_are_listed_and_do_not_pass_for_a_range(study: dict[str, Path]) -> None:
    some = replace(LUMBAR, name="some", levels=(20, 22, 24))
    assert some.level_names == "T12, L2, L4"
    with pytest.raises(ImageError, match="Expected levels within T12, L2, L4 after"):
        shift_levels(np.where(phantom().labels == 22, 22, 0), 1, task=some)


@pytest.mark.parametrize(
    ("way", "left"),
    [
        (("-shift", 1), {0, *LEVELS[1:]}),
        (("-shift", -1), {0, *LEVELS[:-1]}),
        (("-map", "T12:0,L1:T12"), {0, 20, *LEVELS[2:]}),
        (("-anchor", "L1:{middle_of_t12}"), {0, *LEVELS[1:]}),
    ],
)
def test_relabel_keeps_its_levels(
    tmp_path: Path, study: dict[str, Path], way: tuple[str, object], left: set[int]
) -> None:
    middle = int(np.median(np.argwhere(phantom().labels == 20)[:, 2]))
    out = tmp_path / "out.nii.gz"
    option, value = way
    value = str(value).format(middle_of_t12=middle)
    assert rootlets("relabel", "-i", study["map"], "-o", out, option, value) == 0
    assert values(out) == left


def test_levels_are_those_of_the_rootlets(tmp_path: Path, study: dict[str, Path]) -> None:
    table, cord = tmp_path / "levels.csv", tmp_path / "levels.nii.gz"
    words = ("-i", study["map"], "-s", study["cord"], "-csv", table, "-o", cord)
    assert rootlets("levels", *words) == 0
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["spinal_level"]) for row in rows] == list(LEVELS)
    assert {row["flags"] for row in rows} == {""}
    assert values(cord) == {0, *LEVELS}


def test_split_evaluate_picture_and_qc_take_its_levels(
    tmp_path: Path, study: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert rootlets("split", "-i", study["map"], "-s", study["cord"], "-o", tmp_path / "p") == 0
    assert values(tmp_path / "p_left_dorsal.nii.gz") == {0, *LEVELS}
    figures = tmp_path / "figures.csv"
    assert rootlets("evaluate", "-i", study["map"], "-gt", study["map"], "-csv", figures) == 0
    with figures.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["level"], float(row["dice"])) for row in rows[:8]] == [(n, 1.0) for n in NAMES]
    pair = ("-i", study["image"], "-s", study["map"])
    assert rootlets("picture", *pair, "-o", tmp_path / "p.png") == 0
    assert {level_color(level) for level in LEVELS} <= colors(tmp_path / "p.png")
    assert rootlets("qc", *pair, "-o", tmp_path / "qc") == 0
    assert_page_shows_all_levels(tmp_path / "qc")


def colors(path: Path) -> set[Any]:
    image = pytest.importorskip("PIL.Image")
    picture = image.open(path).convert("RGB")
    return {color for _, color in picture.getcolors(picture.width * picture.height)}


def test_what_needs_priors_says_so(study: dict[str, Path]) -> None:
    one = phantom()
    discs = {number: one.curve[0] - [0, 0, 20.0 * (number - 19)] for number in (19, 20)}
    with pytest.raises(UsageError, match="lumbar_rootlets does not tell where its levels lie"):
        levels_from_discs(one.labels, one.affine, discs=discs, task=LUMBAR)
    with pytest.raises(UsageError, match="-shift, -anchor or -map"):
        levels_from_located(one.labels, one.affine, located=one.labels, task=LUMBAR)


@pytest.mark.parametrize("way", ["discs", "locator"])
def test_relabel_says_so_before_it_reads_or_locates_anything(
    study: dict[str, Path], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("needless work")

    monkeypatch.setattr(api, "_landmarks", never)
    with pytest.raises(UsageError, match="lumbar_rootlets does not tell"):
        api.relabel(study["map"], **{way: study["image"]})


def test_a_gap_is_filled_as_if_its_levels_were_equally_far_apart() -> None:
    labels = np.where(phantom().labels == 22, 0, phantom().labels).astype(np.uint8)
    spans = {
        span.level: span for span in spinal_levels(labels, phantom().affine, task=LUMBAR).spans
    }
    assert spans[22].flags == ("interpolated",)
    assert spans[22].height == pytest.approx(spans[23].height, abs=2)


# Maps of no task, or of several


@pytest.mark.parametrize("command", [api.relabel, api.spinal_levels])
def test_without_the_entry_a_lumbar_map_is_a_question(
    monkeypatch: pytest.MonkeyPatch, study: dict[str, Path], command: Callable[..., Any]
) -> None:
    monkeypatch.setattr(registry, "TASKS", TaskRegistry([registry.ROOTLETS]))
    words = {"shift": 1} if command is api.relabel else {}
    with pytest.raises(UsageError, match=r"Which task .* 20–27, .* rootlets \(C2–T1\)"):
        command(study["map"], **words)


def test_a_lumbar_map_has_no_levels_of_another_task(study: dict[str, Path]) -> None:
    with pytest.raises(ImageError, match="within C2–T1"):
        shift_levels(phantom().labels, 1, task=registry.ROOTLETS)


# Model card, SCT


def test_the_card_asks_for_its_entries_and_renders_them() -> None:
    card = json.loads(json.dumps(load_card()))
    assert {problem.partition(": ")[0] for problem in check_card(card, REGISTRY)} == {
        "task 'lumbar_rootlets'",
        "model 'r1'",
        "card",
    }
    classes = {str(level): level_name(level) for level in LEVELS}
    of_rootlets = next(entry for entry in card["tasks"] if entry["name"] == "rootlets")
    published = next(entry for entry in card["models"] if entry["archive_sha256"]["value"] is None)
    card["label_classes"] |= classes
    card["tasks"].append(
        of_rootlets
        | {
            "name": LUMBAR.name,
            "description": LUMBAR.description,
            "default": "r1",
            "fallback": None,
            "models": ["r1"],
            "contrasts": ["t2"],
            "label_classes": classes,
        }
    )
    (release,) = LUMBAR.releases
    card["models"].append(
        published
        | {
            "tag": "r1",
            "description": release.description,
            "urls": list(release.urls),
            "citation": "",
            "label_classes": classes,
            "contrasts": ["t2"],
        }
    )
    assert check_card(card, REGISTRY) == []
    page = render_card(card)
    assert all(text in page for text in (r"### Task lumbar\_rootlets", "First lumbar", "27 = S2"))


def test_inside_sct_it_is_a_task_with_a_model_of_its_own() -> None:
    tasks: dict[str, Any] = {}
    models: dict[str, Any] = {}
    merge(make_entries(REGISTRY, tasks, models), tasks, models)
    assert tasks["lumbar_rootlets"]["models"] == ["model_lumbar"]
    assert models["model_lumbar"]["url"] == ["https://example.invalid/lumbar.zip"]
