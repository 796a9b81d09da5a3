"""Look-up tables of viewers: the color and the name of each level."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.images import stem
from sct_rootlets_task.io.untrusted import file_argument
from sct_rootlets_task.level_names import level_color, level_name

VIEWERS = ("fsleyes", "itksnap", "slicer")


def lut_path(segmentation: Path, viewer: str) -> Path:
    """Return the name of the color table beside a segmentation.

    Parameters
    ----------
    segmentation : Path
        The label map; the table takes its name.
    viewer : {"fsleyes", "itksnap", "slicer"}
        Whose table it is.

    Raises
    ------
    UsageError
        If there is no such viewer.
    """
    if viewer not in _FORMATS:
        raise UsageError(f"-lut expects one of {', '.join(VIEWERS)}, found {viewer!r}.")
    return segmentation.with_name(f"{stem(segmentation)}{_FORMATS[viewer][0]}")


def viewer_commands(
    image: Path, segmentation: Path, viewers: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the commands that show a segmentation over its image, for a POSIX shell.

    Parameters
    ----------
    image, segmentation : Path
        The two files.
    viewers : collection of {"fsleyes", "itksnap", "slicer"}
        Viewers that there are color tables for, see :func:`lut_path`. Slicer takes no table from a
        command line. Without FSLeyes and ITK-SNAP the command is the one that SCT prints.

    Examples
    --------
    >>> viewer_commands(Path("t2.nii.gz"), Path("a b.nii.gz"), ["fsleyes"])
    ("fsleyes t2.nii.gz -cm greyscale 'a b.nii.gz' -ot label -l 'a b.lut' -a 70.0 &",)
    """
    first, second = file_argument(image), file_argument(segmentation)
    tables = {viewer: file_argument(lut_path(segmentation, viewer)) for viewer in viewers}
    shown = ["fsleyes", first, "-cm", "greyscale", second]
    commands = []
    if "fsleyes" in tables:
        commands.append([*shown, "-ot", "label", "-l", tables["fsleyes"], "-a", "70.0"])
    if "itksnap" in tables:
        commands.append(["itksnap", "-g", first, "-s", second, "-l", tables["itksnap"]])
    commands = commands or [[*shown, "-cm", "subcortical", "-a", "70.0"]]
    return tuple(f"{shlex.join(words)} &" for words in commands)


def lut_text(viewer: str, levels: Iterable[int]) -> str:
    """Return a color table in a viewer's format (ASCII).

    Parameters
    ----------
    viewer : {"fsleyes", "itksnap", "slicer"}
        Whose format it is.
    levels : iterable of int
        Levels to list.
    """
    return _FORMATS[viewer][1](list(levels))


def _fsleyes(levels: list[int]) -> str:
    def row(level: int) -> str:
        red, green, blue = (value / 255 for value in level_color(level))
        return f"{level} {red:.5f} {green:.5f} {blue:.5f} {level_name(level)}\n"

    return "".join(map(row, levels))


def _itksnap(levels: list[int]) -> str:
    def row(level: int) -> str:
        red, green, blue = level_color(level)
        return f'{level:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{level_name(level)}"\n'

    return '    0     0    0    0        0  0  0    "Clear Label"\n' + "".join(map(row, levels))


def _slicer(levels: list[int]) -> str:
    def row(level: int) -> str:
        return f"{level} {level_name(level)} {' '.join(map(str, level_color(level)))} 255\n"

    return "0 background 0 0 0 0\n" + "".join(map(row, levels))


_FORMATS: Mapping[str, tuple[str, Callable[[list[int]], str]]] = {
    "fsleyes": (".lut", _fsleyes),
    "itksnap": ("_itksnap.txt", _itksnap),
    "slicer": (".ctbl", _slicer),
}
"""Ending of the file, and what makes its text."""
