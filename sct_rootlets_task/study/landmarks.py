"""What others know about an image: masks and points among derivatives, and corrected level maps."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.untrusted import missing_content, printable
from sct_rootlets_task.study.naming import NameNotBidsError, result_name

logger = logging.getLogger(__name__)

OF_LABORATORIES: Mapping[str, tuple[str, ...]] = {
    "cord": ("_label-SC_mask", "_label-SC_seg", "_seg-manual", "_seg"),
    "discs": ("_label-discs_dlabel", "_label-disc_dlabel", "_labels-disc-manual", "_labels-disc"),
    "pmj": ("_label-PMJ_dlabel", "_labels-pmj-manual", "_pmj-manual", "_pmj"),
}
"""Landmark → what follows the image's name, the best first.

The data sets of spine-generic and SCT's ``manual_correction.py`` have such names.
"""

OF_BIDS: Mapping[str, tuple[str, ...]] = {
    "cord": ("label-SC{}_mask", "label-cord{}_mask", "label-SC{}_dseg", "label-cord{}_dseg"),
    "discs": ("label-discs{}_dlabel", "label-disc{}_dlabel", "label-discs{}_dseg"),
    "pmj": ("label-PMJ{}_dlabel", "label-PMJ{}_mask", "label-PMJ{}_dseg"),
}
"""Landmark → what follows the image's entities and ``_space-orig_``, or ``_``.

The place held free has ``_desc-UNIT1`` and the like. Without one, the image is a T2w.
"""

FOLDERS = ("labels", "manual_masks")
"""Folders in ``derivatives`` that come before others: what is there was looked at by a person."""


class LandmarkFiles:
    """Derivatives of a data set, by name.

    Parameters
    ----------
    bids_dir : Path
        The data set.
    files : iterable of str
        Files in ``derivatives/<folder>/…``, as paths inside the data set.
    """

    def __init__(self, bids_dir: Path, files: Iterable[str]) -> None:
        self._bids_dir = bids_dir
        self._by_name: dict[str, list[str]] = {}
        for file in sorted(files, key=_rank):
            self._by_name.setdefault(stem(Path(file)), []).append(file)

    def of(self, image: str) -> dict[str, Path]:
        """Return the files about an image by ``cord``, ``discs`` and ``pmj``.

        Parameters
        ----------
        image : str
            Image as a path inside the data set.
        """
        chosen = {kind: self._choose(image, kind) for kind in OF_LABORATORIES}
        return {kind: path for kind, path in chosen.items() if path is not None}

    def _choose(self, image: str, kind: str) -> Path | None:
        names = _names(Path(image), kind)
        found = [file for name in names for file in self._by_name.get(name, ())]
        if not found:
            return None
        best, *others = sorted(found, key=_rank)
        if others:
            logger.info(
                "%s: %s is used, not %s.",
                *map(printable, (image, best, ", ".join(others))),
            )
        path = self._bids_dir / best
        reason = missing_content(path)
        if reason:
            logger.warning("%s is not used: %s.", printable(best), reason)
        return None if reason else path


def _names(image: Path, kind: str) -> Iterator[str]:
    """Yield the names that a landmark of an image may have, the best first, without extension."""
    yield from (f"{stem(image)}{ending}" for ending in OF_LABORATORIES[kind])
    try:
        name = result_name(image.name)
    except NameNotBidsError:
        return
    for space in (f"_{name.space}", ""):
        for ending in OF_BIDS[kind]:
            yield f"{name.entities}{space}_{ending.format(name.desc)}"


def _rank(file: str) -> tuple[int, str]:
    folder = PurePosixPath(file).parts[1]
    return (FOLDERS.index(folder) if folder in FOLDERS else len(FOLDERS), folder)


class CorrectedMaps:
    """Level maps that people have corrected, by name.

    Parameters
    ----------
    folder : Path
        Folder with the maps, at any depth; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self._by_name: dict[str, list[Path]] = {}
        walked = ((Path(top), names) for top, _, names in os.walk(folder))
        files = (top / name for top, names in walked for name in names)
        for file in sorted(files, key=lambda file: (len(file.parts), file)):
            if file.name.endswith(EXTENSIONS) and not file.name.startswith("."):
                self._by_name.setdefault(stem(file), []).append(file)

    def of(self, names: Sequence[str]) -> Path | None:
        """Return the corrected map with the first of these names, None if there is none.

        Parameters
        ----------
        names : sequence of str
            File names that the level map of an image may have.
        """
        found = [file for name in names for file in self._by_name.get(stem(Path(name)), ())]
        if len(found) > 1:
            logger.warning(
                "%s is used as corrected, not %s. Keep one corrected level map for each image.",
                printable(found[0]),
                ", ".join(map(printable, found[1:])),
            )
        return found[0] if found else None
