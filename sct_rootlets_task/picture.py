"""One picture of a level map over its image, for a quick look."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.files import atomic_output
from sct_rootlets_task.luts import level_colour
from sct_rootlets_task.ownership import NAME
from sct_rootlets_task.qc import render
from sct_rootlets_task.qc.scene import Scene, label_name, load_scene
from sct_rootlets_task.qc.stored import shown

_HEIGHT, _GAP, _HEAD, _CAPTION = 560, 18, 46, 30
_WIDEST = 1400
_PAPER, _INK, _DIM = (13, 16, 20), (221, 227, 234), (139, 149, 163)


def draw(image: Path, segmentation: Path, output: Path) -> Path:
    """Draw a level map over its image: coronal, sagittal, and one axial slice a level.

    Parameters
    ----------
    image : Path
        NIfTI image.
    segmentation : Path
        Level map on the same grid; it may be empty.
    output : Path
        PNG to write.

    Returns
    -------
    Path
        The picture.

    Raises
    ------
    ImageError
        If a file cannot be read or the two are not on one grid.
    MissingDependencyError
        If Pillow is not installed.
    """
    pillow = render.require_pillow()
    scene = load_scene(image, segmentation)
    views = [
        _lengthwise(render.coronal(scene), "coronal", "RL"),
        _lengthwise(render.sagittal(scene), "sagittal", "AP"),
        *_axials(scene),
    ]
    width = sum(view.width + _GAP for view in views) + _GAP
    sheet = pillow.new("RGB", (width, _HEAD + _HEIGHT + _CAPTION + _GAP), _PAPER)
    _write(sheet, (width / 2, _HEAD / 2), shown(segmentation.name), _INK, 17)
    left = _GAP
    for view in views:
        sheet.paste(view, (left, _HEAD))
        left += view.width + _GAP
    with atomic_output(output) as temporary:
        sheet.save(temporary, format="PNG", optimize=True, pnginfo=_mark())
    return output


def _mark() -> Any:
    """Return the text by which a picture is known as one of this package."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text("Software", NAME)
    return mark


def _lengthwise(layers: render.Layers, title: str, sides: str) -> Any:
    """Return a view of the whole cord with its title and the two sides."""
    pillow = render.require_pillow()
    picture = pillow.fromarray(render.blend(layers))
    scale = min(_HEIGHT / picture.height, _WIDEST / picture.width)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    panel = pillow.new("RGB", (width, _HEIGHT + _CAPTION), _PAPER)
    picture = picture.resize((width, height), pillow.Resampling.LANCZOS)
    panel.paste(picture, (0, _CAPTION + (_HEIGHT - height) // 2))
    _write(panel, (width / 2, _CAPTION / 2), title, _DIM, 14)
    for letter, x in zip(sides, (12, width - 12), strict=True):
        _write(panel, (x, _CAPTION + _HEIGHT - 14), letter, _INK, 13)
    return panel


def _axials(scene: Scene) -> list[Any]:
    """Return one panel with the slice of each level that has most of its voxels."""
    levels = scene.levels
    if not levels:
        return []
    pillow = render.require_pillow()
    rows = max(2, math.ceil(math.sqrt(len(levels) / 2)))
    columns = math.ceil(len(levels) / rows)
    side = (_HEIGHT + _CAPTION) // rows - _CAPTION
    panel = pillow.new("RGB", (columns * (side + 8) - 8, _HEIGHT + _CAPTION), _PAPER)
    for number, level in enumerate(levels):
        x, y = number % columns * (side + 8), number // columns * (side + _CAPTION)
        tile = render.axial(scene, int(np.argmax(scene.counts[level])), side)
        panel.paste(pillow.fromarray(render.blend(tile)), (x, y + _CAPTION))
        where = (x + side / 2, y + _CAPTION / 2)
        _write(panel, where, label_name(level), level_colour(level), 16)
    return [panel]


def _write(
    picture: Any, centre: tuple[float, float], text: str, colour: tuple[int, ...], size: int
) -> None:
    """Write one line around a point, with the font that comes with Pillow."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text(centre, text, fill=colour, font=font, anchor="mm")
