"""The folder of results as a BIDS data set: what it says of itself, and whether it may be used."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sct_rootlets_task import environment
from sct_rootlets_task.errors import OutputError, UsageError
from sct_rootlets_task.io.atomic import atomic_output, json_bytes
from sct_rootlets_task.io.ownership import generated_by, is_ours
from sct_rootlets_task.io.untrusted import open_regular, printable, reason_of
from sct_rootlets_task.level_names import LAST_LEVEL, level_color, level_name
from sct_rootlets_task.study.dataset import DERIVATIVES
from sct_rootlets_task.study.naming import SPINAL_LEVELS, segmented
from sct_rootlets_task.study.options import Study
from sct_rootlets_task.tasks import Task

logger = logging.getLogger(__name__)

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.10.0"
RAW = "raw"
"""Name of the data set in BIDS URIs: ``bids:raw:sub-01/anat/sub-01_T2w.nii.gz``."""

IGNORED = (
    "corrected",
    "figures",
    "logs",
    "qc",
    "work",
    "failures.tsv",
    "group_*",
    "*_levels.json",
    "*_levels.tsv",
    "*_record.json",
)
"""Results that BIDS has no names for, as patterns of ``.bidsignore``.

The validator takes no star inside a pattern, and no slash behind a folder.
"""

_README = """# {name}

Made by sct_rootlets_task with `sct_rootlets bids`.

- `sub-*/…/anat/*_seg-{word}_*dseg.nii.gz`: level map of the nerve rootlets. The value of a voxel is
  its spinal level; `seg-{word}_dseg.tsv` has their names and colors.
- `*_seg-{spinal}_*dseg.nii.gz`: spinal levels of the cord, where a mask of the cord was known.
- `*_levels.tsv`: the spinal levels of an image, one row for each.
- `*_record.json`: what was done, from which files. The next run skips what has not changed.
- `corrected/`: put level maps here that you have corrected, under their names. The next run uses
  them in the place of its own.
- `qc/index.html`: the QC report. `failures.tsv`: images that could not be worked on.
"""
_LARGEST_JSON = 1 << 22


def prepare_output_dir(study: Study, task: Task) -> None:
    """Make the folder of results, and write what a BIDS data set has at its top.

    Files that are there are left as they are: people may have edited them. Several jobs may do this
    at once.

    Parameters
    ----------
    study : Study
        Its ``out_dir`` is made.
    task : Task
        What is segmented.

    Raises
    ------
    UsageError
        If the folder is, or holds, another data set.
    OutputError
        If it cannot be written.
    """
    check_output_dir(study)
    try:
        study.out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"OUT_DIR {printable(study.out_dir)} cannot be made ({reason_of(error)}). Choose "
            "another folder, or check its permissions."
        ) from error
    for name, content in _files(study, task).items():
        path = study.out_dir / name
        if not os.path.lexists(path):
            with atomic_output(path) as temporary:
                temporary.write_bytes(content)


def check_output_dir(study: Study) -> None:
    """Refuse a folder of results that is no place for them; nothing is written.

    Parameters
    ----------
    study : Study
        Its data set and its folder of results.

    Raises
    ------
    UsageError
        If the folder is the data set or inside it, ``derivatives/…`` aside, or holds a data set
        that this package has not made.
    """
    bids_dir, out_dir = study.bids_dir.resolve(), study.out_dir.resolve()
    inside = out_dir.relative_to(bids_dir).parts if out_dir.is_relative_to(bids_dir) else None
    if inside is not None and not (len(inside) > 1 and inside[0] == DERIVATIVES):
        raise UsageError(
            f"OUT_DIR {printable(study.out_dir)} is the data set, or a folder of it. Choose a "
            f"folder outside, or one such as {printable(study.bids_dir / DERIVATIVES)}/rootlets."
        )
    description = study.out_dir / DESCRIPTION
    if os.path.lexists(description) and not is_ours(description):
        raise UsageError(
            f"OUT_DIR {printable(study.out_dir)} holds a data set that {_maker(description)} has "
            "made. Choose another folder."
        )


def description_of(study: Study, task: Task) -> dict[str, Any]:
    """Return the content of ``dataset_description.json`` of the results.

    Parameters
    ----------
    study : Study
        Data set and folder of results.
    task : Task
        What is segmented.
    """
    source = _read_json(study.bids_dir / DESCRIPTION)
    link = _link(study)
    name, doi = source.get("Name"), source.get("DatasetDOI")
    made_by: dict[str, Any] = {**generated_by(f"bids {task.name}", [task.url])[0], **_container()}
    origin = {"DOI": doi} if isinstance(doi, str) else {"URL": link}
    return {
        "Name": f"Spinal levels of nerve rootlets: {name if isinstance(name, str) else 'results'}",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [made_by],
        "SourceDatasets": [origin],
        "DatasetLinks": {RAW: link},
    }


def _files(study: Study, task: Task) -> dict[str, bytes]:
    """Return the files at the top; that by which a data set is known comes last."""
    description = description_of(study, task)
    word = segmented(task)
    of_lab = [
        f"*_label-{label}_dseg{extension}"
        for label in (word, SPINAL_LEVELS)
        for extension in (".json", ".nii.gz")
    ]
    readme = _README.format(name=printable(description["Name"]), word=word, spinal=SPINAL_LEVELS)
    return {
        ".bidsignore": "".join(f"{pattern}\n" for pattern in (*IGNORED, *of_lab)).encode(),
        "README.md": readme.encode("utf-8", "backslashreplace"),
        f"seg-{word}_dseg.tsv": _table().encode(),
        f"seg-{SPINAL_LEVELS}_dseg.tsv": _table().encode(),
        DESCRIPTION: json_bytes(description),
    }


def _table() -> str:
    """Return names and colors of all levels: a corrected map may hold others than the task's."""
    rows = ["index\tname\tcolor"]
    for level in range(1, LAST_LEVEL + 1):
        red, green, blue = level_color(level)
        rows.append(f"{level}\t{level_name(level)}\t#{red:02x}{green:02x}{blue:02x}")
    return "\n".join(rows) + "\n"


def _link(study: Study) -> str:
    """Return where the data set is from the folder of results, for BIDS URIs."""
    bids_dir, out_dir = study.bids_dir.resolve(), study.out_dir.resolve()
    try:
        return quote(os.fsencode(Path(os.path.relpath(bids_dir, out_dir)).as_posix()))
    except ValueError:  # on another drive
        return bids_dir.as_uri()


def _container() -> dict[str, Any]:
    """Return the entry ``Container`` of ``GeneratedBy``; nothing where this is no container."""
    image = environment.read(environment.APPTAINER) or environment.read(environment.SINGULARITY)
    tag = environment.read(environment.CONTAINER) or Path(image).name
    kind = "apptainer" if image else "docker"
    return {"Container": {"Type": kind, "Tag": tag}} if tag else {}


def _maker(description: Path) -> str:
    """Return who made a data set, for a message."""
    makers = _read_json(description).get("GeneratedBy")
    entries = makers if isinstance(makers, list) else []
    names = [str(entry["Name"]) for entry in entries if isinstance(entry, dict) and "Name" in entry]
    return printable(", ".join(names) or "another program")


def _read_json(path: Path) -> Mapping[str, Any]:
    """Return the content of a JSON file; nothing where there is none, or another kind of it."""
    content: Any = {}
    with contextlib.suppress(OSError, ValueError, RecursionError), open_regular(path) as stream:
        content = json.loads(stream.read(_LARGEST_JSON))
    return content if isinstance(content, dict) else {}
