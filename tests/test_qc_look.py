"""How the QC report looks in a real browser: wide and narrow, dark and light, with long names."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from sct_rootlets_task.qc.entry import Details
from sct_rootlets_task.qc.report import add_entry, rebuild
from test_qc import phantom, write_case
from test_qc_browser import browser, expect_text, opened, press

pytestmark = pytest.mark.browser

__all__ = ["browser"]

LONG = "sub-" + "ProspectiveMulticenterCervical" * 3
LONG_NAME = "sub-01_ses-baseline_acq-sagittalIsotropic_rec-normalized_run-03_T2w"
EMPTY = "sub-03_empty"
WIDTHS = (390, 1000, 1400, 1920)
THEMES = ("dark", "light")
SOURCE = "a study of twenty people, https://doi.org/10.1000/a.long.address.without.any.space.in.it"


def _flags() -> list[dict[str, Any]]:
    """Return flags of all forms, more than fit on a screen, one of them without a space."""
    texts = [
        {"text": "C4 is absent, although the image shows where it should be. " * 3},
        {"value": 22.4, "expected": (10.0, 18.8), "unit": "mm"},
        {"text": "x" * 300},
        {"value": 3.4, "expected": (None, 2.0)},
    ]
    rest = {"code": "spacing_between_levels", "side": "left", "source": SOURCE}
    return [{**rest, "level": 2 + n % 4, **texts[n % 4]} for n in range(12)]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with long names, many flags and levels, an empty map and odd values."""
    folder = tmp_path_factory.mktemp("crowded")
    lumbar = phantom((20, 21, 22, 23, 24, 25))[1]
    cases = (
        (LONG, phantom((2, 3, 4, 5))[1], tuple(range(2, 10)), _flags()),
        ("sub-02_Ångström_日本語", lumbar, tuple(range(1, 31)), _flags()[:2]),
        (EMPTY, np.zeros_like(lumbar), tuple(range(2, 10)), []),
    )
    for number, (subject, labels, expected, flags) in enumerate(cases):
        image, segmentation = write_case(folder / str(number), labels, name=LONG_NAME)
        command = f"sct_deepseg rootlets -i {'/a/very/long/path' * 9}/{LONG_NAME}.nii.gz"
        given = Details("a-data-set-of-many-centers", subject, command, "model-" * 12)
        details = Details(
            given.dataset,
            subject,
            command,
            given.model,
            expected=expected,
            flags=flags,
            corrected=subject == LONG,
        )
        add_entry(folder / "qc", image, segmentation, details)
    (folder / "qc" / "cohort.html").write_text("", encoding="utf-8")
    rebuild(folder / "qc")
    return folder / "qc"


@contextmanager
def shown(browser: Any, report: Path, width: int, theme: str, subject: str = "") -> Iterator[Any]:
    """Open the list, or the page of a subject, in a window of a width."""
    with opened(browser, report) as page:
        page.set_viewport_size({"width": width, "height": 844 if width < 500 else 800})
        page.emulate_media(color_scheme=theme)
        if subject:
            rows = page.locator("#entries tbody tr")
            known = dict(
                rows.evaluate_all("all => all.map((r) => [r.dataset.subject, r.dataset.id])")
            )
            page.goto(f"{page.url}#{known[subject]}")
            page.wait_for_selector("#sheet .pictures")
        yield page


# Nothing is cut

CUT = """(names) => {
  const wide = document.documentElement.clientWidth;
  const found = [];
  for (const part of document.querySelectorAll(names)) {
    if (!part.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const box = part.getBoundingClientRect();
    if (!box.width || part.matches(".hidden, .hidden *")) continue;
    const name = part.id || part.className || part.textContent;
    if (part.closest(".scroll")) continue;
    if (box.left < -0.5 || box.right > wide + 0.5) found.push(`${name} leaves the window`);
    const cut = part.scrollWidth > part.clientWidth + 1 && part.matches("button");
    if (cut) found.push(`${name} is cut`);
    for (let up = part.parentElement; up; up = up.parentElement) {
      if (getComputedStyle(up).overflow === "visible") continue;
      const outer = up.getBoundingClientRect();
      const beyond = box.left < outer.left - 1 || box.right > outer.right + 1;
      const scrolls = /auto|scroll/.test(getComputedStyle(up).overflowX);
      if (beyond && !scrolls) found.push(`${name} is cut`);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("subject", ["", LONG, EMPTY], ids=["list", "long", "empty"])
def test_nothing_leaves_the_window_or_is_cut(
    browser: Any, crowded: Path, width: int, subject: str
) -> None:
    with shown(browser, crowded, width, "dark", subject) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        controls = "button, .button, summary, input, .chip, .pip, .panel, .flag p, .bar"
        assert page.evaluate(CUT, controls) == []
        table = page.locator(".scroll")
        if width >= 1000 and table.count():
            assert table.evaluate("box => box.scrollWidth <= box.clientWidth")


OVERLAPS = """() => {
  const names = ".bar button, .bar .button, .bar summary, .bar input";
  const parts = [...document.querySelectorAll(names)]
    .filter((part) => part.checkVisibility() && !part.matches(".hidden, .menu-items *"))
    .map((part) => [part.id || part.className || part.textContent, part.getBoundingClientRect()]);
  return parts.flatMap(([name, a], place) => parts.slice(place + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                       && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
    .map(([other]) => `${name} and ${other}`));
}"""


@pytest.mark.parametrize("subject", ["", LONG], ids=["list", "long"])
def test_no_control_covers_another(browser: Any, crowded: Path, subject: str) -> None:
    with shown(browser, crowded, 1000, "dark", subject) as page:
        for width in (320, 390, 700, 800, 899, 901, 1000, 1180, 1370, 1381, 1400, 1440, 1600, 1920):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_timeout(50)
            assert page.evaluate(OVERLAPS) == [], width
            assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_the_subject_is_seen_while_it_is_rated(browser: Any, crowded: Path, width: int) -> None:
    with shown(browser, crowded, width, "dark", LONG) as page:
        box = page.locator("#title").bounding_box()
        assert box["width"] >= 160
        assert page.locator("#title").get_attribute("title") == LONG
        page.mouse.wheel(0, 600)
        page.wait_for_timeout(100)
        scrolled = page.locator("#title").bounding_box()
        seen = 0 <= scrolled["y"] < 100
        assert seen or width < 500, "the bar stays at the top, but on a phone"
        for name in ("pass", "artifact", "fail"):
            button = page.locator(f"[data-rate={name}]")
            assert button.bounding_box()["width"] >= 40


@pytest.mark.parametrize("width", WIDTHS)
def test_all_flags_are_shown_in_full(browser: Any, crowded: Path, width: int) -> None:
    with shown(browser, crowded, width, "dark", LONG) as page:
        flags = page.locator(".flags")
        assert flags.evaluate("box => box.scrollHeight <= box.clientHeight + 1")
        assert flags.evaluate("box => box.scrollWidth <= box.clientWidth + 1")
        assert page.locator(".flags .flag p").count() >= 12


def test_the_headings_of_the_list_stay_below_the_bar(browser: Any, crowded: Path) -> None:
    for width in (1000, 1400):
        with shown(browser, crowded, width, "dark") as page:
            page.set_viewport_size({"width": width, "height": 300})
            page.mouse.wheel(0, 150)
            page.wait_for_timeout(150)
            bar = page.locator("#list .bar").bounding_box()
            heading = page.locator("#entries thead th").nth(1).bounding_box()
            assert heading["y"] == pytest.approx(bar["y"] + bar["height"], abs=1)


# Light and dark

CONTRASTS = """() => {
  const numbers = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const parse = (text) => {
    const [r, g, b, a = 1] = numbers(text.replace(/^color\\(srgb/, ""));
    return text.startsWith("color(") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const light = ([r, g, b]) => {
    const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const ground = (part) => {
    const layers = [];
    for (let up = part; up; up = up.parentElement) {
      layers.push(parse(getComputedStyle(up).backgroundColor));
      if (layers[layers.length - 1][3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const found = [];
  const written = (part) => [...part.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  const parts = [...document.querySelectorAll("body *")]
    .filter((part) => part.matches("input[placeholder]") || written(part));
  for (const part of parts) {
    const pictured = part.matches("script, noscript, .hidden, .view *, .stage *, :disabled");
    if (pictured || !part.checkVisibility({ opacityProperty: true })) continue;
    const below = ground(part);
    const placeholder = part.matches("input") && !part.value ? "::placeholder" : null;
    const ink = over(parse(getComputedStyle(part, placeholder).color), below);
    const [low, high] = [light(ink), light(below)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    found.push([ratio, part.id || part.className || part.textContent]);
  }
  return found;
}"""


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("subject", ["", LONG, EMPTY], ids=["list", "long", "empty"])
def test_all_text_has_a_contrast_of_four_and_a_half(
    browser: Any, crowded: Path, theme: str, subject: str
) -> None:
    with shown(browser, crowded, 1400, theme, subject) as page:
        for keys in "paf" if subject else [""]:
            press(page, *keys)
            ratios = page.evaluate(CONTRASTS)
            assert len(ratios) > 30
            assert [name for ratio, name in ratios if ratio < 4.5] == []


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_rated_and_what_is_said_has_contrast_too(
    browser: Any, crowded: Path, theme: str
) -> None:
    with shown(browser, crowded, 1400, theme) as page:
        for key in "paf":
            press(page, "j", key)
        page.evaluate("for (const p of document.querySelectorAll('.notice')) p.hidden = false")
        page.click("#ratings-menu summary")
        assert [name for ratio, name in page.evaluate(CONTRASTS) if ratio < 4.5] == []
        page.keyboard.press("Escape")


def _brightness(page: Any) -> float:
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        return float(np.median(np.asarray(picture.convert("L"))))


def test_the_page_follows_the_browser_unless_somebody_chose(browser: Any, crowded: Path) -> None:
    with shown(browser, crowded, 1000, "dark") as page:
        assert _brightness(page) < 60
        page.emulate_media(color_scheme="light")
        assert _brightness(page) > 200
        label = "Theme: as the browser"
        assert page.locator("#list [data-next-theme]").get_attribute("aria-label") == label
        press(page, "t", "t")
        assert _brightness(page) < 60
        page.reload()
        page.wait_for_selector("body[data-ready]")
        assert _brightness(page) < 60, "the choice is kept"
        page.click("#list [data-next-theme]")
        assert _brightness(page) > 200
        page.emulate_media(color_scheme="dark")
        assert _brightness(page) < 60


def test_a_printed_page_is_light_and_has_no_controls(browser: Any, crowded: Path) -> None:
    with shown(browser, crowded, 1000, "dark", LONG) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert _brightness(page) > 200
        assert page.locator("#title").is_visible()
        assert not page.locator("[data-rate=pass]").is_visible()
        assert not page.locator("#viewer").is_visible()


# Keyboard


def test_the_part_that_has_the_focus_is_outlined(browser: Any, crowded: Path) -> None:
    with shown(browser, crowded, 1000, "light", LONG) as page:
        for _ in range(12):
            page.keyboard.press("Tab")
            style = (
                "part => [getComputedStyle(part).outlineStyle, getComputedStyle(part).outlineWidth]"
            )
            assert page.locator(":focus").evaluate(style) == ["solid", "2px"]


@pytest.mark.parametrize("subject", ["", LONG], ids=["list", "long"])
def test_every_control_has_a_name(browser: Any, crowded: Path, subject: str) -> None:
    unnamed = """() => [...document.querySelectorAll("button, input, summary, a, canvas")]
      .filter((part) => part.checkVisibility())
      .filter((part) => !(part.getAttribute("aria-label") || part.textContent.trim()
                          || part.labels?.[0]?.textContent.trim() || part.querySelector("img")))
      .map((part) => part.outerHTML)"""
    with shown(browser, crowded, 1400, "dark", subject) as page:
        assert page.evaluate(unnamed) == []


# The viewer


def write_turned(
    folder: Path, zooms: Sequence[float], degrees: float, axcodes: str
) -> tuple[Path, Path]:
    """Write the phantom on a grid that is turned, with axes in any order."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    upright = np.eye(4)
    upright[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) * zooms
    upright[:3, 3] = (-20, 30, -40)
    way = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes))
    paths = folder / "a.nii.gz", folder / "a_rootlets.nii.gz"
    for path, data in zip(paths, phantom(), strict=True):
        affine = upright @ inv_ornt_aff(way, data.shape)
        file = np.ascontiguousarray(apply_orientation(data, way))
        nib.save(nib.Nifti1Image(file, affine), path)
    return paths


GRIDS = (
    ((1.0, 1.0, 1.0), 0.0, "RAS"),
    ((0.5, 0.9, 2.0), 0.0, "PSR"),
    ((0.8, 0.6, 1.5), 20.0, "AIL"),
)


@contextmanager
def volume(browser: Any, folder: Path, grid: tuple[Any, ...], width: int = 1000) -> Iterator[Any]:
    """Open the viewer on an image of a grid, at a slice of C3; the images' paths come with it."""
    files = write_turned(folder, *grid)
    add_entry(folder / "qc", *files, Details("D", "S"))
    with shown(browser, folder / "qc", width, "dark", "S") as page:
        tile = page.locator(".tile-row").nth(1).locator(".tile").nth(3)
        number = tile.inner_text()
        tile.click()
        page.wait_for_selector("#canvas[data-shown]", timeout=60_000)
        expect_text(page, "place", f"slice {number} ")
        page.wait_for_timeout(300)
        yield page, files


def _boxes(page: Any, selector: str) -> list[tuple[str, Any]]:
    script = (
        "all => all.map((s) => [s.dataset.mm || s.textContent, s.getBoundingClientRect().toJSON()])"
    )
    return page.locator(selector).evaluate_all(script)


def _hover(page: Any, x: float, y: float) -> str:
    page.mouse.move(x, y)
    page.wait_for_timeout(60)
    return str(page.inner_text("#under"))


def _mm(text: str) -> np.ndarray:
    found = re.search(r"(-?[\d.]+), (-?[\d.]+), (-?[\d.]+) mm", text)
    assert found, text
    return np.array([float(part) for part in found.groups()])


def _voxel(text: str) -> tuple[int, ...]:
    found = re.search(r"voxel (\d+), (\d+), (\d+)", text)
    assert found, text
    return tuple(int(part) for part in found.groups())


@pytest.mark.parametrize("grid", GRIDS)
def test_letters_are_large_and_stand_on_the_sides_they_name(
    browser: Any, tmp_path: Path, grid: tuple[Any, ...]
) -> None:
    with volume(browser, tmp_path, grid) as (page, _):
        letters = _boxes(page, "#marks .letter")
        assert "".join(text for text, _ in letters) == "RLAPRLSIAPSI"
        sizes = page.locator("#marks .letter").evaluate_all(
            "all => all.map((s) => parseFloat(getComputedStyle(s).fontSize))"
        )
        assert min(sizes) >= 12
        places = [
            _mm(_hover(page, b["x"] + b["width"] / 2, b["y"] + b["height"] / 2)) for _, b in letters
        ]
        axes = {"R": (0, 1), "A": (1, 1), "S": (2, 1)}
        for first in range(0, 12, 2):
            (one, _), (other, _) = letters[first], letters[first + 1]
            axis, sign = next(
                (axes[c][0], 1 if c == one else -1) for c in (one, other) if c in axes
            )
            assert sign * (places[first] - places[first + 1])[axis] > 5, (one, other)


@pytest.mark.parametrize("grid", GRIDS)
def test_scale_bars_of_the_viewer_are_as_long_as_they_say(
    browser: Any, tmp_path: Path, grid: tuple[Any, ...]
) -> None:
    with volume(browser, tmp_path, grid) as (page, _):
        bars = _boxes(page, "#marks .scale")
        assert len(bars) == 3
        for mm, box in bars:
            left, right = box["x"], box["x"] + box["width"]
            middle = box["y"] - 40
            ends = [_mm(_hover(page, x, middle)) for x in (left + 0.5, right - 0.5)]
            # Places are those of voxels' middles, so each end may be off by half a voxel.
            assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(
                float(mm), abs=max(grid[0]) + 0.3
            )
        page.evaluate("document.getElementById('marks').hidden = true")
        with Image.open(io.BytesIO(page.locator("#canvas").screenshot())) as picture:
            canvas = np.asarray(picture.convert("L")).astype(int)
        # The image fills its slice: its first third is axial, 44 voxels wide, on a black ground.
        axial = canvas[:, : canvas.shape[1] // 3]
        columns = np.flatnonzero((axial > 8).mean(axis=0) > 0.2)
        pixels_a_mm = (columns[-1] - columns[0] + 1) / (44 * grid[0][0])
        assert bars[0][1]["width"] / pixels_a_mm == pytest.approx(float(bars[0][0]), rel=0.04)


@pytest.mark.parametrize("grid", GRIDS)
def test_the_level_under_the_cursor_is_shown_with_its_place_in_the_file(
    browser: Any, tmp_path: Path, grid: tuple[Any, ...]
) -> None:
    with volume(browser, tmp_path, grid) as (page, (_, segmentation)):
        labels = nib.load(segmentation)
        data = np.asarray(labels.dataobj)
        left, up = (min(b[key] for _, b in _boxes(page, "#marks .frame")[:1]) for key in ("x", "y"))
        box = _boxes(page, "#marks .frame")[0][1]
        met = set()
        for column in (27.5, 14.5, 21.0):
            x = left + box["width"] * (1 - (column + 0.5) / 44)
            text = _hover(page, x, up + box["height"] * (1 - 25.0 / 48))
            voxel, value = _voxel(text), re.search(r"\((\d+)\)", text)
            place = labels.affine @ (*voxel, 1)
            np.testing.assert_allclose(place[:3], _mm(text), atol=max(grid[0]) / 2 + 0.06)
            assert data[voxel] == (int(value[1]) if value else 0)
            assert ("no level" in text) == (data[voxel] == 0)
            met.add((int(data[voxel]), page.locator("#under .pip").all_inner_texts()[:1] == ["C3"]))
        assert met == {(3, True), (0, False)}
        assert _hover(page, 5, 400) == "", "beside the pictures nothing is claimed"


@pytest.mark.parametrize("width", [390, 1000, 1400])
def test_marks_follow_the_size_of_the_window_and_go_in_3d(
    browser: Any, tmp_path: Path, width: int
) -> None:
    with volume(browser, tmp_path, GRIDS[0]) as (page, _):
        page.set_viewport_size({"width": width, "height": 700})
        for _ in range(50):  # the page lays out anew when the browser has the time for it
            page.wait_for_timeout(200)
            stage = page.locator(".stage").bounding_box()
            left, right = stage["x"] - 1, stage["x"] + stage["width"] + 1
            marks = [box for _, box in _boxes(page, "#marks .letter, #marks .scale")]
            if all(left <= box["x"] and box["x"] + box["width"] <= right for box in marks):
                break
        else:
            pytest.fail(f"marks outside {stage}: {marks}")
        assert len(marks) == 15
        page.click("[data-view=solid]")
        page.wait_for_timeout(300)
        assert _boxes(page, "#marks .letter") == []
        page.click("[data-view=slices]")
        page.wait_for_timeout(300)
        assert len(_boxes(page, "#marks .letter")) == 12


def test_the_legend_names_the_levels_in_their_colors(browser: Any, tmp_path: Path) -> None:
    with volume(browser, tmp_path, GRIDS[0]) as (page, _):
        assert page.locator("#legend .pip").all_inner_texts() == ["C2", "C3", "C5"]
        expect_text(page, "place", "slice ")


@pytest.mark.parametrize("grid", GRIDS)
def test_scale_bars_of_the_pictures_are_as_long_as_they_say(
    browser: Any, tmp_path: Path, grid: tuple[Any, ...]
) -> None:
    files = write_turned(tmp_path, *grid)
    add_entry(tmp_path / "qc", *files, Details("D", "S"))
    with shown(browser, tmp_path / "qc", 1400, "dark", "S") as page:
        view = page.locator(".lengthwise .view").first
        ((mm, box),) = _boxes(page, ".lengthwise .panel:first-child .scale")
        page.evaluate("for (const s of document.querySelectorAll('.scale, .side')) s.hidden = true")
        with Image.open(io.BytesIO(view.screenshot())) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        # C2 has nine slices and is the uppermost color.
        rows = np.flatnonzero((np.ptp(pixels, axis=2) > 90).any(axis=1))
        first = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)[0]
        pixels_a_mm = len(first) / (9 * grid[0][2])
        assert box["width"] / pixels_a_mm == pytest.approx(float(mm), rel=0.06)
