"""One image in a report: its pictures, its volume and everything the pages say about it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.io.atomic import write_json
from sct_rootlets_task.io.bids_names import subject_and_session
from sct_rootlets_task.io.images import InputImage
from sct_rootlets_task.qc import render
from sct_rootlets_task.qc.measures import level_rows, missing_levels
from sct_rootlets_task.qc.scene import Scene, label_name, load_scene
from sct_rootlets_task.qc.stored import (
    DATA,
    SCHEMA,
    check_entry,
    model_of,
    place_of,
    plain,
    read_sidecar,
    short,
)
from sct_rootlets_task.qc.volumes import extract

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.check import Report

VOLUME = "volume.js"
_THUMBNAIL_HEIGHT, _THUMBNAIL_WIDTH = 168, 1200
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Details:
    """What is known of a segmentation besides its two files; all of it is optional.

    Parameters
    ----------
    dataset, subject : str, optional
        As the report shows them; otherwise they are read from the image's path.
    command : str
        Command that made the segmentation.
    model : str
        Name of the model that made it; by default that in the sidecar beside the segmentation.
    around : Path, optional
        Mask on the image's grid that the views are centered on (``-qc-seg``).
    expected : tuple of int
        Levels there should be.
    flags : sequence of mapping
        All that the check of the segmentation flags: ``code``, ``level``, ``side``, ``value``,
        ``expected`` (lowest and highest), ``unit``, ``source``, ``text`` and ``severity``
        (``warning`` or ``note``); what is absent or None is not shown.
    levels : sequence of mapping
        Rows of the level table measured elsewhere, each with its ``level``; see
        :func:`~sct_rootlets_task.qc.measures.level_rows`.
    session : str, optional
        As the report shows it; otherwise it is read from the image's path.
    corrected : bool
        Whether a person has corrected the segmentation; the list and the page say so.
    """

    dataset: str | None = None
    subject: str | None = None
    command: str = ""
    model: str = ""
    around: Path | None = None
    expected: tuple[int, ...] = ()
    flags: Sequence[Mapping[str, Any]] = ()
    levels: Sequence[Mapping[str, Any]] = ()
    session: str | None = None
    corrected: bool = False

    @classmethod
    def of(cls, report: Report, **known: Any) -> Details:
        """Return details with the flags and levels of a report of the check.

        Parameters
        ----------
        report : Report
            What the check of the segmentation gives.
        **known
            Any other field.
        """
        flags = [asdict(flag) for flag in report.flags]
        return cls(flags=flags, levels=[asdict(level) for level in report.levels], **known)


def identity(image: Path, segmentation: Path, details: Details) -> str:
    """Return the name of an entry's folder, which is the same when a subject is run again.

    It is made from dataset, subject and file names where a subject is given, else from the files'
    paths. Where two images have one name, the report gives the second a longer one.

    Parameters
    ----------
    image, segmentation : Path
        The two files.
    details : Details
        Dataset and subject.

    Returns
    -------
    str
        Lower-case ASCII letters, digits and hyphens: safe as a file name and in an address.
    """
    if details.subject:
        parts = [details.dataset or "", details.subject, image.name, segmentation.name]
    else:
        parts = [str(image.resolve()), str(segmentation.resolve())]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
    _, subject = names_of(image, details)
    readable = re.sub(r"[^a-z0-9]+", "-", subject.lower())[:40].strip("-")
    return f"{readable}-{digest}" if readable else digest


def names_of(image: Path, details: Details) -> tuple[str, str]:
    """Return dataset and subject: as given, else from a BIDS path, else from SCT's folder rule.

    SCT takes a path as ``dataset/subject/contrast/image``.

    Examples
    --------
    >>> names_of(Path("/data/ds1/sub-01/anat/sub-01_T2w.nii.gz"), Details())
    ('ds1', 'sub-01')
    """
    folder = image.resolve().parent
    subject, _ = subject_and_session(folder / image.name)
    above = next((parent for parent in (folder, *folder.parents) if parent.name == subject), None)
    if not subject:
        subject, dataset = folder.parent.name or image.name, folder.parent.parent.name
    elif above:
        dataset = above.parent.name
    else:
        dataset = folder.name
    return details.dataset or dataset.strip("/"), details.subject or subject


def write_entry(folder: Path, image: Path, segmentation: Path, details: Details) -> dict[str, Any]:
    """Write pictures and volume of one image into a folder.

    Parameters
    ----------
    folder : Path
        Existing, empty folder.
    image, segmentation : Path
        NIfTI image and the level map on its grid.
    details : Details
        What else is known.

    Returns
    -------
    dict
        The entry's data, for :func:`write_data`.

    Raises
    ------
    ImageError
        If a file cannot be read or the grids differ.
    UnreadableEntry
        If what was given cannot be shown.
    MissingDependencyError
        If Pillow is not installed.
    """
    scene = load_scene(image, segmentation, details.around)
    name = identity(image, segmentation, details)
    found = _found_levels(scene, details)
    between = range(found[0], found[-1]) if found else range(0)
    rows = render.axial_rows(scene, details.expected or between)
    data = _data(scene, name, segmentation, details)
    data["rows"] = [_row(scene, row) for row in rows]
    views = _views(scene, rows)
    data["pictures"] = _write_pictures(folder, views)
    data["pixel_mm"] = {name: round(view.pixel_mm, 4) for name, view in views.items()}
    volume = extract(scene, name)
    (folder / VOLUME).write_text(volume.script, encoding="ascii")
    data["volume"] = {
        "offset": list(volume.offset),
        "step": list(volume.step),
        "whole": volume.whole,
    }
    data = {str(key): value for key, value in plain(data).items()}
    check_entry(data)
    return data


def write_data(folder: Path, entry: Mapping[str, Any], *, name: str, report: str) -> dict[str, Any]:
    """Write the data file of an entry, under the name that it has in the report.

    Parameters
    ----------
    folder : Path
        Folder that :func:`write_entry` filled.
    entry : mapping
        What it returned.
    name : str
        Name of the entry's folder in the report.
    report : str
        Identity of the report.

    Returns
    -------
    dict
        Content of the file.
    """
    if name != entry["id"]:
        volume = (folder / VOLUME).read_text(encoding="ascii")
        renamed = volume.replace(json.dumps(entry["id"]), json.dumps(name), 1)
        (folder / VOLUME).write_text(renamed, encoding="ascii")
    data = {**entry, "id": name, "report": report}
    write_json(folder / DATA, data)
    return data


def _found_levels(scene: Scene, details: Details) -> list[int]:
    """Return the levels found: a value that the flags call none of the task's is no level.

    In a map of another task all values are such; they are its levels.
    """
    odd = {flag.get("level") for flag in details.flags if flag.get("code") == "unexpected_value"}
    return [level for level in scene.levels if level not in odd] or list(scene.levels)


def _data(scene: Scene, name: str, segmentation: Path, details: Details) -> dict[str, Any]:
    source = scene.source
    dataset, subject = names_of(source.path, details)
    session = details.session
    if session is None:
        _, session = subject_and_session(source.path.resolve())
    found = _found_levels(scene, details)
    missing = missing_levels(found, details.expected)
    sidecar = read_sidecar(segmentation)
    notice = sidecar.get("Notice")
    return {
        "schema": SCHEMA,
        "id": name,
        "stamp": _stamp(scene),
        "dataset": short(dataset),
        "subject": short(subject),
        "session": short(session),
        "image": source.path.name,
        "segmentation": segmentation.name,
        "image_path": str(source.path.resolve()),
        "segmentation_path": str(segmentation.resolve()),
        "image_place": place_of(source.path),
        "segmentation_place": place_of(segmentation),
        "image_stamp": _image_stamp(source),
        "around": str(details.around.resolve()) if details.around else "",
        "command": details.command,
        "model": short(details.model or model_of(sidecar)),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": VERSION,
        "orientation": source.orientation,
        "shape": list(source.data.shape),
        "voxel_mm": [round(float(size), 4) for size in source.spacing],
        "notices": [*source.warnings, *([notice] if isinstance(notice, str) else [])],
        "found": [{"level": v, "name": label_name(v)} for v in found],
        "missing": [{"level": v, "name": label_name(v)} for v in missing],
        "levels": level_rows(scene, details.levels),
        "flags": [flag_of(flag) for flag in details.flags],
        "corrected": details.corrected,
    }


def _stamp(scene: Scene) -> str:
    """Return a checksum of the segmentation, by which a rating knows what it was given to."""
    digest = hashlib.sha256(np.ascontiguousarray(scene.labels).tobytes())
    digest.update(np.round(scene.affine, 3).tobytes())
    return digest.hexdigest()[:16]


def _image_stamp(image: InputImage) -> str:
    """Return a checksum of the image, by which it is known again in another place."""
    # Images lie in memory with their first axis fastest; in that order nothing is copied.
    digest = hashlib.sha256(np.ascontiguousarray(image.data.T).data)
    digest.update((np.round(image.affine, 3) + 0.0).tobytes())
    return digest.hexdigest()[:16]


def flag_of(flag: Mapping[str, Any]) -> dict[str, str]:
    """Return a flag as the pages show it, every part as text.

    Examples
    --------
    >>> flag = flag_of({"code": "spacing", "level": 5, "value": 8.24, "expected": (10, None)})
    >>> flag["level"], flag["value"], flag["expected"]
    ('C5', '8.24', '≥ 10')
    """
    unit = f" {flag['unit']}" if flag.get("unit") else ""
    value, level = flag.get("value"), flag.get("level")
    text = next((flag[key] for key in ("text", "message", "line") if flag.get(key)), "")
    return {
        "code": short(str(flag.get("code") or "")),
        "level": "" if level is None else label_name(int(level)),
        "side": short(str(flag.get("side") or "")),
        "value": short("" if value is None else f"{_number(value)}{unit}"),
        "expected": short(_range(flag.get("expected"), unit)),
        "source": str(flag.get("source") or ""),
        "text": str(text),
        "severity": "note" if flag.get("severity") == "note" else "warning",
    }


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _range(expected: Any, unit: str) -> str:
    if expected is None or isinstance(expected, str):
        return expected or ""
    low, high = expected
    if low is None or high is None:
        sign, limit = ("≥", low) if high is None else ("≤", high)
        return "" if limit is None else f"{sign} {_number(limit)}{unit}"
    return f"{_number(low)}–{_number(high)}{unit}"


def _row(scene: Scene, row: render.Row) -> dict[str, Any]:
    """Return a row of the mosaic with the place in world mm that each tile shows."""
    tiles = []
    for z in row.slices:
        x, y = scene.center[z]
        place = scene.affine[:3, :3] @ (x, y, z) + scene.affine[:3, 3]
        tiles.append({"slice": z, "mm": [round(float(part), 2) for part in place]})
    return {"levels": list(row.levels), "name": row.name, "found": row.found, "tiles": tiles}


def _views(scene: Scene, rows: Sequence[render.Row]) -> dict[str, render.Layers]:
    return {
        "axial": render.mosaic(scene, rows),
        "coronal": render.coronal(scene),
        "sagittal": render.sagittal(scene),
    }


def _write_pictures(folder: Path, views: Mapping[str, render.Layers]) -> dict[str, list[int]]:
    """Write the views and return their sizes (width, height) in pixels."""
    for name, layers in views.items():
        picture = render.gray_picture(layers)
        picture.save(folder / f"{name}.jpg", quality=_JPEG_QUALITY)
        render.label_picture(layers).save(folder / f"{name}.png", optimize=True)
    _write_thumbnail(folder / "thumbnail.jpg", views["coronal"], views["sagittal"])
    return {name: list(layers.gray.shape[::-1]) for name, layers in views.items()}


def _write_thumbnail(path: Path, *views: render.Layers) -> None:
    pillow = render.require_pillow()
    pictures = [pillow.fromarray(render.blend(view)) for view in views]
    scale = min(
        _THUMBNAIL_HEIGHT / max(picture.height for picture in pictures),
        _THUMBNAIL_WIDTH / sum(picture.width for picture in pictures),
    )
    sizes = [(max(1, round(p.width * scale)), max(1, round(p.height * scale))) for p in pictures]
    sheet = pillow.new("RGB", (sum(width for width, _ in sizes), _THUMBNAIL_HEIGHT))
    left = 0
    for picture, size in zip(pictures, sizes, strict=True):
        sheet.paste(picture.resize(size, pillow.Resampling.LANCZOS), (left, 0))
        left += size[0]
    sheet.save(path, quality=82)
