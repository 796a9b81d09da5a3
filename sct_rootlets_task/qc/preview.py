"""The preview: one PNG of a level map over its image, for a quick look."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.io.atomic import atomic_output
from sct_rootlets_task.io.ownership import NAME
from sct_rootlets_task.level_names import level_color
from sct_rootlets_task.qc import render
from sct_rootlets_task.qc.scene import Scene, label_name, load_scene
from sct_rootlets_task.qc.stored import model_of, read_sidecar, shown

WIDTH = 1100
"""Width of a preview in pixels, at most."""

_HEIGHT, _LENGTHWISE, _NARROWEST = 570, 540, 560
_MARGIN, _GAP, _CAPTION = 16, 14, 26
_LARGEST_TILE, _SMALLEST_MARKED = 230, 80
_CHIP = (40, 22)
_PAPER, _INK, _DIM, _BLACK = (13, 16, 20), (221, 227, 234), (154, 164, 178), (0, 0, 0)
_TITLE_PX, _TEXT_PX = 20, 15
# Fonts of usual systems that have more letters than Pillow's own, which is for English.
_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "msyh.ttc",
)

Point = tuple[float, float]


@dataclass(frozen=True)
class _Canvas:
    """A Pillow image that is drawn on."""

    image: Any

    def write(
        self, place: Point, text: str, *, anchor: str, ink: Sequence[int] = _INK, font: Any = None
    ) -> None:
        """Write one line with a dark edge, so that it can be read on an image too."""
        draw = _draw(self.image)
        words = {"font": font or _font(_TEXT_PX), "anchor": anchor, "fill": tuple(ink)}
        draw.text(place, text, **words, stroke_width=2, stroke_fill=_BLACK)

    def chip(self, corner: Point, value: int) -> None:
        """Draw the name of a level on its color."""
        x, y = corner
        draw = _draw(self.image)
        box = (x, y, x + _CHIP[0], y + _CHIP[1])
        draw.rounded_rectangle(box, radius=5, fill=level_color(value))
        middle = (x + _CHIP[0] / 2, y + _CHIP[1] / 2)
        words = {"font": _font(_TEXT_PX), "anchor": "mm", "fill": _PAPER}
        draw.text(middle, label_name(value), **words)

    def sides(self, letters: str, size: Point, top: float) -> None:
        """Write the two sides into the upper corners of an image that begins at `top`."""
        self.write((7, top + 5), letters[0], anchor="la")
        self.write((size[0] - 7, top + 5), letters[1], anchor="ra")

    def scale(self, middle: Point, width: int, mm: float) -> None:
        """Draw a scale bar.

        Parameters
        ----------
        middle : tuple of float
            Middle of the bar.
        width : int
            Width of the image in pixels.
        mm : float
            Size of a pixel in mm.
        """
        length = render.scale_mm(width * mm)
        if length:
            half = length / mm / 2
            ends = (middle[0] - half, middle[1]), (middle[0] + half, middle[1])
            draw = _draw(self.image)
            draw.line(ends, fill=_BLACK, width=5)
            draw.line(ends, fill=_INK, width=3)
            self.write((middle[0], middle[1] - 5), f"{length} mm", anchor="mb")


def draw(image: Path, segmentation: Path, output: Path) -> Path:
    """Draw a level map over its image: coronal, sagittal, and one axial slice a level.

    Parameters
    ----------
    image : Path
        NIfTI image.
    segmentation : Path
        Level map on the same grid; it may be empty. The model's name is read from its sidecar.
    output : Path
        PNG to write.

    Returns
    -------
    Path
        The preview.

    Raises
    ------
    ImageError
        If a file cannot be read or the two are not on one grid.
    MissingDependencyError
        If Pillow is not installed.
    """
    pillow = render.require_pillow()
    scene = load_scene(image, segmentation)
    panels = _lengthwise(scene, _LENGTHWISE if scene.levels else WIDTH - 2 * _MARGIN)
    left = sum(panel.width + _GAP for panel in panels)
    panels += _axials(scene, WIDTH - 2 * _MARGIN - left)
    width = 2 * _MARGIN - _GAP + sum(panel.width + _GAP for panel in panels)
    width = max(width, _NARROWEST)
    head = _head(scene, width, segmentation)
    height = head.height + max(panel.height for panel in panels) + _MARGIN
    sheet = pillow.new("RGB", (width, height), _PAPER)
    sheet.paste(head, (0, 0))
    left = _MARGIN
    for panel in panels:
        sheet.paste(panel, (left, head.height))
        left += panel.width + _GAP
    with atomic_output(output) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=_mark())
    return output


def _mark() -> Any:
    """Return the text by which a preview is known as one of this package."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", NAME)
    return mark


def _head(scene: Scene, width: int, segmentation: Path) -> Any:
    """Return the lines above the views: file, model, and the levels with their colors."""
    model = shown(model_of(read_sidecar(segmentation)))
    room = width - 2 * _MARGIN
    text, font = fitted(f"Model: {model}" if model else "", _TEXT_PX, room * 0.35)
    title, title_font = fitted(
        shown(segmentation.name), _TITLE_PX, room - font.getlength(text) - 24
    )
    step = _CHIP[0] + 4
    in_row = max(1, (room + 4) // step)
    rows = max(1, -(-len(scene.levels) // in_row))
    height = 52 + rows * (_CHIP[1] + 4) + 8
    head = _Canvas(render.require_pillow().new("RGB", (width, height), _PAPER))
    head.write((_MARGIN, 28), title, anchor="lm", font=title_font)
    head.write((width - _MARGIN, 28), text, anchor="rm", ink=_DIM, font=font)
    for number, level in enumerate(scene.levels):
        row, column = divmod(number, in_row)
        head.chip((_MARGIN + column * step, 50 + row * (_CHIP[1] + 4)), level)
    note = "Axial: slice number from below, z in mm" if scene.levels else ""
    if in_row - len(scene.levels) > _font(_TEXT_PX).getlength(note) / step:
        head.write((width - _MARGIN, 62), note, anchor="rm", ink=_DIM)
    if not scene.levels:
        head.write((_MARGIN, 62), "No level was found.", anchor="lm", ink=_DIM)
    return head.image


def _lengthwise(scene: Scene, room: int) -> list[Any]:
    """Return the two views of the whole cord, in one scale."""
    views = [render.coronal(scene), render.sagittal(scene)]
    sizes = [np.array(view.gray.shape[::-1]) * view.pixel_mm for view in views]
    mm = max(max(size[1] for size in sizes) / _HEIGHT, sum(s[0] for s in sizes) / (room - _GAP))
    return [
        _view(layers, (size / mm).round().astype(int).clip(1), words)
        for layers, size, words in zip(
            views, sizes, (("Coronal", "RL"), ("Sagittal", "AP")), strict=True
        )
    ]


def _view(layers: render.Layers, size: np.ndarray, words: tuple[str, str]) -> Any:
    """Return a view of the whole cord with its title, the two sides and a scale bar."""
    pillow = render.require_pillow()
    width, height = map(int, size)
    view = pillow.fromarray(render.blend(layers)).resize((width, height), pillow.LANCZOS)
    panel = _Canvas(pillow.new("RGB", (max(width, 70), height + _CAPTION), _PAPER))
    panel.image.paste(view, (0, _CAPTION))
    panel.write((0, _CAPTION / 2), words[0], anchor="lm", ink=_DIM)
    panel.sides(words[1], (width, height), _CAPTION)
    mm = layers.pixel_mm * layers.gray.shape[1] / width
    panel.scale((width / 2, height + _CAPTION - 12), width, mm)
    return panel.image


def _axials(scene: Scene, room: int) -> list[Any]:
    """Return one panel with the slice of each level that has most of its voxels."""
    if not scene.levels:
        return []
    columns, side = _grid(len(scene.levels), room)
    rows = -(-len(scene.levels) // columns)
    size = columns * (side + _GAP) - _GAP, rows * (side + _CAPTION + 4) - 4
    panel = render.require_pillow().new("RGB", size, _PAPER)
    slices = [int(np.argmax(scene.counts[level])) for level in scene.levels]
    captions = _captions(scene, slices, side - _CHIP[0] - 8)
    for number, (z, caption) in enumerate(zip(slices, captions, strict=True)):
        row, column = divmod(number, columns)
        tile = _tile(render.axial(scene, z, side), scene.levels[number], caption)
        panel.paste(tile, (column * (side + _GAP), row * (side + _CAPTION + 4)))
    return [panel]


def _grid(count: int, room: int) -> tuple[int, int]:
    """Return the number of columns that makes tiles largest, and their side in pixels."""

    def side(columns: int) -> int:
        across = (room + _GAP) // columns - _GAP
        down = (_HEIGHT + _CAPTION + 4) // -(-count // columns) - _CAPTION - 4
        return max(24, min(across, down, _LARGEST_TILE))

    return max(((columns, side(columns)) for columns in range(1, count + 1)), key=lambda g: g[1])


def _captions(scene: Scene, slices: Sequence[int], room: float) -> list[str]:
    """Return the number and height of each slice, in the longest form for which all have room."""
    heights = [float(scene.affine[2] @ (*scene.center[z], z, 1)) for z in slices]
    for form in ("slice {0}, {1:.1f} mm", "{0}, {1:.1f} mm", "{0}"):
        texts = [form.format(*place) for place in zip(slices, heights, strict=True)]
        if all(_font(_TEXT_PX).getlength(text) <= room for text in texts):
            return texts
    return [""] * len(slices)


def _tile(layers: render.Layers, level: int, caption: str) -> Any:
    """Return an axial slice below its level and its place."""
    pillow = render.require_pillow()
    side = layers.gray.shape[0]
    tile = _Canvas(pillow.new("RGB", (side, side + _CAPTION), _PAPER))
    tile.image.paste(pillow.fromarray(render.blend(layers)), (0, _CAPTION))
    tile.chip((0, 1), level)
    tile.write((_CHIP[0] + 8, _CAPTION / 2), caption, anchor="lm", ink=_DIM)
    if side >= _SMALLEST_MARKED:
        tile.sides("RL", (side, side), _CAPTION)
        tile.scale((side / 2, side + _CAPTION - 9), side, layers.pixel_mm)
    return tile.image


def _draw(image: Any) -> Any:
    from PIL import ImageDraw

    return ImageDraw.Draw(image)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def fitted(text: str, size: int, room: float) -> tuple[str, Any]:
    """Return a text that fits into a width, and a font that has its letters.

    Parameters
    ----------
    text : str
        One line. What no font of this machine has is replaced by its number.
    size : int
        Size of the font.
    room : float
        Width in pixels; of a longer text the middle is left out.
    """
    text = unicodedata.normalize("NFC", text)
    font = _font_for(text, size)
    text = "".join(letter if _has(font, letter) else _number(letter) for letter in text)
    kept = len(text)
    short = text
    while kept > 2 and font.getlength(short) > room:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}...{text[-(kept // 2) :]}"
    return short, font


def _number(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def _font_for(text: str, size: int) -> Any:
    """Return Pillow's own font, or the one found on this machine that lacks fewest letters."""
    from PIL import ImageFont

    own = _font(size)
    if all(_has(own, letter) for letter in text):
        return own
    fonts = [own]
    for name in _FONTS:
        try:
            fonts.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return min(fonts, key=lambda font: sum(not _has(font, letter) for letter in text))


def _has(font: Any, letter: str) -> bool:
    """Tell whether a font has a letter, and not the box that stands for those it lacks."""
    return letter.isspace() or _shape(font, letter) != _shape(font, "\uffff")


def _shape(font: Any, letter: str) -> tuple[object, bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
