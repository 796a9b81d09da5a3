"""Draw every picture of the documentation anew, with the package as it is.

    python docs/make_pictures.py [NAME …] [--data ../shared/data] [--model starter] [--work FOLDER]

The pictures are made by the tool itself, from its synthetic sample and from real T2w images, and
reduced. Those of the QC report are taken in a headless Chromium. What cannot be drawn, because
images or browser are missing, is left as it is, and the exit code is 1. What is segmented stays in
the working folder, if one is given, and is used again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SUBJECTS = ("sub-errsm11", "sub-errsm18", "sub-errsm20", "sub-errsm22", "sub-errsm24")
_WIDTH, _BITS = 1100, 6
_BROWSER = (
    "--no-sandbox",
    "--enable-unsafe-swiftshader",
    "--use-angle=swiftshader",
    "--disable-background-networking",
)


class Absent(Exception):
    """What a picture is made of is not on this machine."""


class Studio:
    """Everything the pictures are made of, each made when first asked for.

    Parameters
    ----------
    folder : Path
        Where to work.
    data : Path
        Folder of the real images.
    model : str
        Argument of ``-model``.
    """

    def __init__(self, folder: Path, data: Path, model: str) -> None:
        self.folder, self.data, self.model = folder, data, model

    def sample(self) -> tuple[Path, Path]:
        """Return the sample and its rootlets."""
        image, cord = self.folder / "sample_T2w.nii.gz", self.folder / "sample_cord.nii.gz"
        if not image.exists():
            tool("sample", image, "-cord", cord)
        return image, self.segment(image)

    def real(self, subject: str) -> tuple[Path, Path]:
        """Return a real image and its rootlets."""
        image = self.data / "t2w" / f"{subject}_T2w.nii.gz"
        if not image.exists():
            raise Absent(f"no image {image}")
        return image, self.segment(image)

    def segment(self, image: Path) -> Path:
        """Return the rootlets of an image; those of a real one are put into the report, too."""
        from sct_rootlets_task.io.images import stem

        output = self.folder / f"{stem(image)}_rootlets.nii.gz"
        report = ("-qc", self.report, "-qc-dataset", "errsm") if "sub-" in image.name else ()
        if not output.exists():
            segmenter("-i", image, "-o", output, "-model", self.model, *report)
        return output

    @property
    def report(self) -> Path:
        """Folder of the QC report of the real images."""
        return self.folder / "qc"

    def filled_report(self) -> Path:
        """Return the page of the report, with all images and a labeled template in it."""
        for subject in SUBJECTS:
            self.real(subject)
        template = self.data / "pam50_small"
        names = ("PAM50_small_t2.nii.gz", "PAM50_small_rootlets.nii.gz")
        words = ("-o", self.report, "-dataset", "templates", "-subject", "PAM50_small")
        tool("qc", "-i", template / names[0], "-s", template / names[1], *words)
        return self.report / "index.html"


def tool(*words: object) -> None:
    """Run ``sct_rootlets``."""
    from sct_rootlets_task.cli.sct_rootlets import main

    _expect_success(main([str(word) for word in words]), words)


def segmenter(*words: object) -> None:
    """Run ``sct_deepseg rootlets``."""
    from sct_rootlets_task.cli.sct_deepseg import main

    _expect_success(main(["rootlets", *(str(word) for word in words)]), words)


def _expect_success(code: int, words: Sequence[object]) -> None:
    if code:
        raise SystemExit(f"failed with code {code}: {' '.join(map(str, words))}")


def draw_subject(subject: str) -> Callable[[Studio, Path], None]:
    """Return what draws the rootlets of a real T2w image."""

    def draw_it(studio: Studio, output: Path) -> None:
        image, segmentation = studio.real(subject)
        tool("picture", "-i", image, "-s", segmentation, "-o", output)

    return draw_it


def draw_sample(studio: Studio, output: Path) -> None:
    """Rootlets of the sample."""
    image, segmentation = studio.sample()
    tool("picture", "-i", image, "-s", segmentation, "-o", output)


def draw_levels(studio: Studio, output: Path) -> None:
    """Spinal levels of the sample's cord."""
    image, segmentation = studio.sample()
    levels = studio.folder / "sample_levels.nii.gz"
    tool("levels", "-i", segmentation, "-s", studio.folder / "sample_cord.nii.gz", "-o", levels)
    tool("picture", "-i", image, "-s", levels, "-o", output)


def draw_shifted(studio: Studio, output: Path) -> None:
    """Rootlets of the sample, every level one too high."""
    image, segmentation = studio.sample()
    shifted = studio.folder / "sample_shifted.nii.gz"
    tool("relabel", "-i", segmentation, "-o", shifted, "-shift", 1)
    tool("picture", "-i", image, "-s", shifted, "-o", output)


def draw_methods(studio: Studio, output: Path) -> None:
    """How the three methods draw levels from rootlets, and what the table of levels measures."""
    from PIL import Image, ImageDraw

    from sct_rootlets_task.analysis.spinal_levels import METHODS, Span, spans_of

    del studio
    rootlets = [Span(4, 12.0, 22.0), Span(5, 29.0, 38.0), Span(6, 48.0, 56.0)]
    sheet = Image.new("RGB", (2200, 1330), "white")
    pen = ImageDraw.Draw(sheet)
    pen.line((150, row_of(0), 1590, row_of(0)), fill=_INK, width=4)
    write(pen, (1600, row_of(0)), "distance_origin", "lm")
    for number, method in enumerate(METHODS):
        middle = 400 + 420 * number
        write(pen, (middle, 40), method, size=44)
        draw_cord(pen, middle, rootlets, spans_of(rootlets, method))
    draw_lengths(pen, rootlets[1], spans_of(rootlets, METHODS[0])[1])
    draw_section(pen)
    sheet.save(output)


_INK, _PALE, _CORD = (40, 44, 52), (120, 126, 138), (214, 217, 222)
_WIDE = 124


def row_of(arc: float) -> float:
    """Return the row of the drawing at an arc length in mm."""
    return 110 + 18.5 * arc


def write(pen: Any, where: tuple[float, float], words: str, anchor: str = "mm", *, size=30) -> None:
    """Write words at a place."""
    from PIL import ImageFont

    pen.text(where, words, fill=_INK, font=ImageFont.load_default(size), anchor=anchor)


def draw_cord(pen: Any, middle: int, rootlets: Sequence[Any], spans: Sequence[Any]) -> None:
    """Draw a cord colored by level, with the rootlets on its two sides."""
    from sct_rootlets_task.level_names import level_color, level_name

    left, right = middle - _WIDE / 2, middle + _WIDE / 2
    pen.rectangle((left, row_of(0), right, row_of(64)), fill=_CORD)
    for span in spans:
        box = (left, row_of(span.start), right, row_of(span.end))
        pen.rectangle(box, fill=level_color(span.level), outline=_INK, width=3)
        write(pen, (middle, row_of((span.start + span.end) / 2)), level_name(span.level), size=40)
    for root in rootlets:
        for arc in (root.start + (root.end - root.start) * (n + 0.5) / 5 for n in range(5)):
            for edge, way in ((left, -1), (right, 1)):
                ends = (edge, row_of(arc), edge + way * 66, row_of(arc) + 24)
                pen.line(ends, fill=level_color(root.level), width=11)


def draw_lengths(pen: Any, root: Any, level: Any) -> None:
    """Draw what the columns of heights and distances measure, for the middle level."""
    draw_length(pen, 235, level.start, level.end)
    write(pen, (220, row_of(level.start + 6)), "level_height", "rm")
    write(pen, (220, row_of(level.start + 8)), "(height)", "rm")
    draw_length(pen, 560, root.start, root.end)
    write(pen, (575, row_of(root.end) + 30), "rootlets_height", "mm")
    for x, arc, name in ((1540, root.start, "distance_end"), (1420, root.end, "distance_start")):
        draw_length(pen, x, 0, arc)
        write(pen, (x + 22, row_of(arc) - 4), name, "lm")


def draw_length(pen: Any, x: float, first: float, last: float) -> None:
    """Draw a line with two ends between two arc lengths."""
    pen.line((x, row_of(first), x, row_of(last)), fill=_INK, width=4)
    for arc in (first, last):
        pen.line((x - 14, row_of(arc), x + 14, row_of(arc)), fill=_INK, width=4)


def draw_section(pen: Any) -> None:
    """Draw the plane in which the area of an oblique cord is measured, beside that of a slice."""
    x, lean = 1900, 0.4
    top, bottom = row_of(38), row_of(64)
    shift = lean * (bottom - top) / 2
    corners = ((x + shift, top), (x + shift + _WIDE, top))
    corners += ((x - shift + _WIDE, bottom), (x - shift, bottom))
    pen.polygon(corners, fill=_CORD)
    middle = (x + _WIDE / 2, (top + bottom) / 2)
    half = _WIDE / 2 / (1 + lean**2)
    cut = (middle[0] - half, middle[1] - lean * half, middle[0] + half, middle[1] + lean * half)
    pen.line(cut, fill=_INK, width=9)
    low = middle[1] + 130
    left = x - lean * 130
    pen.line((left, low, left + _WIDE, low), fill=_PALE, width=6)
    write(pen, (1830, cut[1] - 16), "area_perpendicular", "rm")
    write(pen, (1830, cut[1] + 22), "_to_cord", "rm")
    write(pen, (1790, low), "not: an axial slice", "rm")


def draw_list(studio: Studio, output: Path) -> None:
    """List of the QC report."""
    with page_of(studio.filled_report(), "light") as page:
        page.click("tr[data-subject=PAM50_small] .col-made")
        page.keyboard.press("p")
        page.click("#nobody")
        page.mouse.wheel(0, -5000)
        page.wait_for_timeout(500)
        page.screenshot(path=output)


def draw_cohort(studio: Studio, output: Path) -> None:
    """Cohort page of a study of 60 subjects that were made up."""
    sys.path.append(str(HERE.parent / "tests"))
    from cohort_case import write_study
    from sct_rootlets_task.study.group import run_group

    folder = studio.folder / "cohort"
    if not folder.exists():
        write_study(folder, 60)
    with page_of(run_group(folder).page, "light") as page:
        heading = page.locator("h2", has_text="T2w").first
        heading.evaluate("heading => window.scrollTo(0, heading.offsetTop - 70)")
        page.screenshot(path=output)


def draw_page(studio: Studio, output: Path) -> None:
    """Page of one image in the QC report."""
    with page_of(studio.filled_report()) as page:
        open_image(page, SUBJECTS[0])
        page.screenshot(path=output)


def draw_volume(studio: Studio, output: Path) -> None:
    """Viewer of the volume in the QC report."""
    with page_of(studio.filled_report()) as page:
        open_image(page, SUBJECTS[0])
        page.locator(".tile-row").nth(5).locator(".tile").nth(3).click()
        page.wait_for_selector("#canvas[data-shown]", timeout=60_000)
        page.wait_for_timeout(1500)
        point_at_a_level(page)
        page.screenshot(path=output)


def point_at_a_level(page: Any) -> None:
    """Move the cursor over the axial slice until it meets a level."""
    box = page.locator("#marks .frame").first.bounding_box()
    for down in range(25, 65, 2):
        for across in range(20, 80, 2):
            at = (box["x"] + box["width"] * across / 100, box["y"] + box["height"] * down / 100)
            page.mouse.move(*at)
            if page.locator("#under .pip").count():
                return


def open_image(page: Any, subject: str) -> None:
    """Open the page of a subject and wait for its pictures."""
    page.click(f"tr[data-subject={subject}] a.subject")
    page.wait_for_selector("#review:not([hidden]) .tile")
    page.wait_for_timeout(700)


@contextmanager
def page_of(report: Path, theme: str = "dark") -> Any:
    """Open a report in a headless browser, dark or light."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise Absent("no Python package playwright") from error
    if program is None:
        raise Absent("no Chromium (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_BROWSER))
        size = {"width": 1440, "height": 900}
        page = browser.new_page(viewport=size, color_scheme=theme)
        page.goto(report.as_uri())
        page.wait_for_selector("body[data-ready]")
        yield page
        browser.close()


PICTURES: Mapping[str, Callable[[Studio, Path], None]] = {
    "rootlets": draw_subject(SUBJECTS[0]),
    **{subject.removeprefix("sub-"): draw_subject(subject) for subject in SUBJECTS[1:]},
    "sample": draw_sample,
    "levels": draw_levels,
    "methods": draw_methods,
    "shifted": draw_shifted,
    "qc_list": draw_list,
    "cohort": draw_cohort,
    "qc_page": draw_page,
    "qc_volume": draw_volume,
}
"""Name of each picture in ``images/``, and what draws it."""


def reduce(source: Path, target: Path) -> None:
    """Write a picture smaller and with rounder colors, moved into place when complete.

    Not with a palette: one made for all the gray loses the few voxels of a level's color.
    """
    from PIL import Image, ImageOps

    from sct_rootlets_task.io.atomic import atomic_output

    with Image.open(source) as picture, atomic_output(target) as temporary:
        size = (min(_WIDTH, picture.width), 10 * picture.height)
        full = picture.convert("RGB")
        full.thumbnail(size, Image.Resampling.LANCZOS)
        ImageOps.posterize(full, _BITS).save(temporary, format="PNG", optimize=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the pictures; see the module's description."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--work", type=Path, help="folder to work in; a temporary one by default")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.names) - set(PICTURES)
    if unknown:
        parser.error(f"there is no picture {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        studio = Studio(folder, arguments.data, arguments.model)
        drawn = [draw(name, studio) for name in arguments.names or PICTURES]
    return 0 if all(drawn) else 1


def draw(name: str, studio: Studio) -> bool:
    """Draw one picture and put it into its place, if what it is made of is there."""
    raw = studio.folder / f"{name}.png"
    try:
        PICTURES[name](studio, raw)
    except Absent as error:
        print(f"{name}: left as it is, {error}", file=sys.stderr)
        return False
    reduce(raw, HERE / "images" / f"{name}.png")
    return True


if __name__ == "__main__":
    sys.exit(main())
