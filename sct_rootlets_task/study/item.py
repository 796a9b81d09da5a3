"""One image of a study: where it lies, what belongs to it, and where its results go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One image to segment.

    Parameters
    ----------
    image : Path
        NIfTI image inside the data set.
    source : str
        The image as a path inside the data set, with ``/``: for BIDS URIs and tables.
    contrast : str
        ``T2w``, ``UNIT1``, ``INV1`` or ``INV2``, or whatever the task's contrasts are in BIDS.
    subject, session : str
        ``sub-01`` and ``ses-1``; the session is empty where the data set has none.
    output : Path
        Level map to write, ``….nii.gz``. All other results of the image stand beside it.
    work : Path
        Folder of what only the next run needs, such as the labels before post-processing.
    landmarks : mapping of str to Path
        Files of others about this image, by ``cord``, ``pmj`` and ``discs``, where there are any.
    corrected : Path, optional
        Level map that a person has corrected; it takes the place of the one that is computed.
    """

    image: Path
    source: str
    contrast: str
    subject: str
    session: str
    output: Path
    work: Path
    landmarks: Mapping[str, Path] = field(default_factory=dict)
    corrected: Path | None = None

    @property
    def name(self) -> str:
        """Name of the item in messages, logs and tables: that of its level map, no ending."""
        return self.output.name.removesuffix("_dseg.nii.gz")

    def beside(self, ending: str) -> Path:
        """Return a file beside the level map: its name with ``_dseg.nii.gz`` replaced."""
        return self.output.with_name(f"{self.name}{ending}")

    @property
    def record(self) -> Path:
        """JSON file that says what was done, from which inputs and with which options."""
        return self.beside("_record.json")

    @property
    def levels_table(self) -> Path:
        """Table of the spinal levels (TSV), one row for each; its JSON holds the flags."""
        return self.beside("_levels.tsv")
