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
        from sct_rootlets_task.images import stem

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
        """Return the page of the report, with all images and a labelled template in it."""
        for subject in SUBJECTS:
            self.real(subject)
        template = self.data / "pam50_small"
        names = ("PAM50_small_t2.nii.gz", "PAM50_small_rootlets.nii.gz")
        words = ("-o", self.report, "-dataset", "templates", "-subject", "PAM50_small")
        tool("qc", "-i", template / names[0], "-s", template / names[1], *words)
        return self.report / "index.html"


def tool(*words: object) -> None:
    """Run ``sct_rootlets``."""
    from sct_rootlets_task.cli import main

    _expect_success(main([str(word) for word in words]), words)


def segmenter(*words: object) -> None:
    """Run ``sct_deepseg rootlets``."""
    from sct_rootlets_task.hosts.standalone import main

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


def draw_list(studio: Studio, output: Path) -> None:
    """List of the QC report."""
    with page_of(studio.filled_report()) as page:
        page.click("tr[data-subject=PAM50_small] .col-made")
        page.keyboard.press("p")
        page.mouse.wheel(0, -5000)
        page.wait_for_timeout(500)
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
        page.keyboard.press("v")
        page.wait_for_selector("#canvas[data-shown]", timeout=60_000)
        page.wait_for_timeout(1500)
        page.screenshot(path=output)


def open_image(page: Any, subject: str) -> None:
    """Open the page of a subject and wait for its pictures."""
    page.click(f"tr[data-subject={subject}] a.subject")
    page.wait_for_selector("#review:not([hidden]) .tile")
    page.wait_for_timeout(700)


@contextmanager
def page_of(report: Path) -> Any:
    """Open a report in a headless browser."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise Absent("no Python package playwright") from error
    if program is None:
        raise Absent("no Chromium (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_BROWSER))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(report.as_uri())
        page.wait_for_selector("body[data-ready]")
        yield page
        browser.close()


PICTURES: Mapping[str, Callable[[Studio, Path], None]] = {
    "rootlets": draw_subject(SUBJECTS[0]),
    **{subject.removeprefix("sub-"): draw_subject(subject) for subject in SUBJECTS[1:]},
    "sample": draw_sample,
    "levels": draw_levels,
    "shifted": draw_shifted,
    "qc_list": draw_list,
    "qc_page": draw_page,
    "qc_volume": draw_volume,
}
"""Name of each picture in ``images/``, and what draws it."""


def reduce(source: Path, target: Path) -> None:
    """Write a picture smaller and with rounder colours, moved into place when complete.

    Not with a palette: one made for all the grey loses the few voxels of a level's colour.
    """
    from PIL import Image, ImageOps

    from sct_rootlets_task.files import atomic_output

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
