"""The results of all images of a study, read from the tables beside their level maps."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of
from sct_rootlets_task.study.measuring import LEADING, TABLE
from sct_rootlets_task.study.outcome import DONE

logger = logging.getLogger(__name__)

NOT_KNOWN = "n/a"
"""What tables of BIDS have where something is not known."""

_RECORD, _TABLE = "_record.json", "_levels.tsv"
_LARGEST = 1 << 24
_OF_LEVEL = tuple(name for name in TABLE if name not in LEADING)

COLUMNS: Mapping[str, str] = {
    "subject": LEADING["subject"],
    "session": LEADING["session"],
    "contrast": LEADING["contrast"],
    "image": "The image, as a path inside the data set.",
    "level_map": "The level map, as a path inside the folder of results.",
    "status": "done, failed, or set aside (its worker died too often).",
    "error": "Kind of the error of an image that failed.",
    "model": "Model that made the level map.",
    "corrected": "yes where a person has corrected the level map, else no.",
    "rating": "Rating in the QC report: pass, artifact or fail. Of several, the latest.",
    "rater": "Who gave this rating.",
    "image_warnings": "Number of warnings of the check about the image, all levels together.",
    "missing_levels": "Levels of the task that were not found in the image.",
    "level_name": LEADING["level_name"],
    **{name: TABLE[name] for name in _OF_LEVEL},
}
"""Columns of ``group_levels.tsv``: one row for each level of each image."""


@dataclass(frozen=True)
class Image:
    """What came of one image.

    Parameters
    ----------
    subject, session, contrast, source, level_map : str
        As in :data:`COLUMNS`; the source is the image.
    status, error : str
        What came of it, and the kind of its error.
    about : mapping
        Content of the JSON beside its table; empty where there is none.
    rows : tuple of mapping
        Rows of its table: texts, ``n/a`` for what is not known.
    rating, rater : str
        Latest rating.
    """

    subject: str
    session: str
    contrast: str
    source: str
    level_map: str
    status: str = DONE
    error: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    rows: tuple[Mapping[str, str], ...] = ()
    rating: str = ""
    rater: str = ""

    @property
    def label(self) -> str:
        """Subject, session and contrast in a few words."""
        return " ".join(filter(None, (self.subject, self.session, self.contrast)))

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return self.status == DONE

    @property
    def is_corrected(self) -> bool:
        """Whether a person has corrected the level map."""
        return self.about.get("Corrected") is True

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.about.get("Model") or "")

    @property
    def missing(self) -> tuple[int, ...]:
        """Levels of the task that were not found."""
        found = self.about.get("MissingLevels")
        numbers = found if isinstance(found, list) else []
        return tuple(one for one in numbers if isinstance(one, int))

    @property
    def flags(self) -> tuple[Mapping[str, Any], ...]:
        """Flags of the check."""
        found = self.about.get("Flags")
        flags = found if isinstance(found, list) else []
        return tuple(one for one in flags if isinstance(one, dict))

    @property
    def warnings(self) -> int:
        """Number of warnings among the flags."""
        return sum(flag.get("severity") == "warning" for flag in self.flags)


def read_cohort(out_dir: Path, ratings: Sequence[Path] = ()) -> tuple[Image, ...]:
    """Read what came of each image of a study, in the order of their names.

    What is damaged is left out, and a warning names it.

    Parameters
    ----------
    out_dir : Path
        Folder of results.
    ratings : sequence of Path
        CSV files saved by the QC report.

    Raises
    ------
    OSError
        If a file of ratings cannot be read.
    """
    rated = _Ratings.read(ratings)
    names = {
        path.with_name(path.name.removesuffix(ending))
        for ending in (_RECORD, _TABLE)
        for path in out_dir.glob(f"sub-*/**/*{ending}")
    }
    images = (_read_image(out_dir, name) for name in sorted(names))
    return tuple(rated.add(out_dir, image) for image in images if image is not None)


def table_rows(images: Iterable[Image]) -> Iterator[dict[str, Any]]:
    """Yield the rows of ``group_levels.tsv``; an image without levels has one row.

    Parameters
    ----------
    images : iterable of Image
        What came of each image.
    """
    from sct_rootlets_task.level_names import value_name

    for image in images:
        of_image = {
            "subject": image.subject,
            "session": image.session,
            "contrast": image.contrast,
            "image": image.source,
            "level_map": image.level_map if image.is_done else "",
            "status": image.status,
            "error": image.error,
            "model": image.model,
            "corrected": ("yes" if image.is_corrected else "no") if image.is_done else "",
            "rating": image.rating,
            "rater": image.rater,
            "image_warnings": image.warnings if image.is_done else "",
            "missing_levels": " ".join(map(value_name, image.missing)),
        }
        for row in image.rows or ({},):
            yield {**of_image, **{name: row.get(name) for name in ("level_name", *_OF_LEVEL)}}


def _read_image(out_dir: Path, name: Path) -> Image | None:
    """Return what came of one image; None where its files are damaged."""
    record, table = name.with_name(name.name + _RECORD), name.with_name(name.name + _TABLE)
    try:
        known = _read_json(record) if record.exists() else {}
        status = str(known.get("Status") or DONE)
        if status != DONE:
            return _failed(known, status)
        about = _read_json(table.with_suffix(".json"))
        rows = tuple(_read_rows(table, "\t"))
        level_map = name.parent.relative_to(out_dir) / str(about["LevelMap"])
        names, source = _names(about), str(about["Image"])
    except (OSError, ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        logger.warning(
            "%s: its results are left out, since a file of them is missing or damaged (%s). Run "
            "the participant level again.",
            printable(name.name),
            reason_of(error),
        )
        return None
    return Image(*names, source, str(level_map), about=about, rows=rows)


def _failed(known: Mapping[str, Any], status: str) -> Image:
    source = str(known["Image"]["Path"])
    return Image(*_names(known), source, "", status=status, error=str(known["Kind"]))


def _names(content: Mapping[str, Any]) -> tuple[str, str, str]:
    return str(content["Subject"]), str(content["Session"]), str(content["Contrast"])


def _read_json(path: Path) -> dict[str, Any]:
    with open_regular(path) as stream:
        content = json.loads(stream.read(_LARGEST))
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} holds no object")
    return content


def _read_rows(path: Path, delimiter: str) -> Iterator[dict[str, str]]:
    with open_regular(path) as stream:
        lines = stream.read(_LARGEST).decode("utf-8-sig").splitlines()
    yield from csv.DictReader(lines, delimiter=delimiter, restval="")


@dataclass(frozen=True)
class _Ratings:
    """Latest rating of each image, by path of the image and by its names."""

    rows: Mapping[tuple[str, ...], Mapping[str, str]]

    @classmethod
    def read(cls, files: Iterable[Path]) -> _Ratings:
        found: dict[tuple[str, ...], Mapping[str, str]] = {}
        rows = [row for file in files for row in _read_rows(file, ",") if row.get("rating")]
        for row in sorted(rows, key=lambda row: row.get("rated_at", "")):
            if row.get("segmentation_path"):
                found[row["segmentation_path"],] = row
            names = ("subject", "session", "segmentation")
            found[tuple(row.get(name, "") for name in names)] = row
        return cls(found)

    def add(self, out_dir: Path, image: Image) -> Image:
        """Return an image with its rating, where there is one."""
        path = out_dir.resolve() / image.level_map
        names = (image.subject, image.session, path.name)
        row = self.rows.get((str(path),)) or self.rows.get(names)
        if row is None or not image.is_done:
            return image
        rating = row["rating"].replace("artefact", "artifact")
        return replace(image, rating=rating, rater=row.get("rater", "").removeprefix("'"))
