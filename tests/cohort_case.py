"""Results of a made-up study, in the form in which the participant level writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.study.measuring import TABLE

# Distance of each level from the PMJ and its height in mm, about as in healthy adults.
MIDPOINTS = {2: 34.0, 3: 46.5, 4: 60.5, 5: 75.0, 6: 89.0, 7: 103.0, 8: 117.0, 9: 131.0}
HEIGHTS = {2: 11.0, 3: 13.5, 4: 14.0, 5: 14.0, 6: 13.5, 7: 13.0, 8: 12.5, 9: 14.0}
AREAS = {2: 72.0, 3: 74.0, 4: 78.0, 5: 80.0, 6: 78.0, 7: 70.0, 8: 58.0, 9: 48.0}


def write_results(
    folder: Path,
    *,
    subject: str,
    session: str = "",
    contrast: str = "T2w",
    change: dict[tuple[int, str], float] | None = None,
    missing: tuple[int, ...] = (),
    corrected: bool = False,
    flags: tuple[dict[str, object], ...] = (),
    seed: int = 0,
) -> Path:
    """Write table, JSON, record and sidecar of one image; returns its level map, which is empty.

    Parameters
    ----------
    change : dict of (int, str) to float, optional
        Values of a level and column that are other than usual.
    """
    random = np.random.default_rng(seed)
    parts = [part for part in (subject, session) if part]
    desc = "" if contrast == "T2w" else f"_desc-{contrast}"
    name = f"{'_'.join(parts)}_space-orig_seg-rootlets{desc}"
    place = folder.joinpath(*parts, "anat")
    place.mkdir(parents=True, exist_ok=True)
    shift, scale = random.normal(0, 2.5), random.normal(1, 0.04)
    rows = []
    for level in MIDPOINTS:
        if level in missing:
            continue
        values = {
            "distance_midpoint": MIDPOINTS[level] * scale + shift,
            "level_height": HEIGHTS[level] * random.normal(scale, 0.05),
            "rootlets_height": HEIGHTS[level] * random.normal(0.8, 0.05),
            "area_perpendicular_to_cord": AREAS[level] * random.normal(1, 0.08),
            "volume": random.normal(120, 15),
            "left_volume": random.normal(60, 9),
            "right_volume": random.normal(60, 9),
            "dorsal_volume": random.normal(70, 9),
            "ventral_volume": random.normal(50, 9),
        }
        values |= {column: v for (at, column), v in (change or {}).items() if at == level}
        texts = {
            "subject": subject,
            "session": session or "n/a",
            "contrast": contrast,
            "level_name": value_name(level),
            "spinal_level": str(level),
            "distance_origin": "pmj",
            "method": "caudal",
            **{column: f"{value:.3f}" for column, value in values.items()},
        }
        rows.append("\t".join(texts.get(column, "n/a") for column in TABLE))
    text = "\n".join(["\t".join(TABLE), *rows]) + "\n"
    (place / f"{name}_levels.tsv").write_text(text)
    stem = "_".join(parts)
    source = "/".join([*parts, "anat", f"{stem}_{contrast}.nii.gz"])
    about = {
        "Image": source,
        "LevelMap": f"{name}_dseg.nii.gz",
        "Subject": subject,
        "Session": session,
        "Contrast": contrast,
        "Corrected": corrected,
        "Model": "starter",
        "DistanceOrigin": "pmj",
        "Method": "caudal",
        "Flags": list(flags),
        "Warnings": [],
        "MissingLevels": list(missing),
    }
    (place / f"{name}_levels.json").write_text(json.dumps(about))
    sidecar = {"Task": "rootlets", "Engine": "openvino", "Precision": "f32"}
    sidecar |= {"SoftwareVersions": "numpy 2.4.6; openvino 2026.1", "Raw": False}
    (place / f"{name}_dseg.json").write_text(json.dumps(sidecar))
    write_record(place / f"{name}_record.json", about)
    return place / f"{name}_dseg.nii.gz"


def write_record(
    path: Path, about: dict[str, object], status: str = "done", kind: str = ""
) -> None:
    """Write the part of a record that the group level reads."""
    names = {key: about[key] for key in ("Subject", "Session", "Contrast")}
    record = {**names, "Image": {"Path": about["Image"]}, "Status": status, "Kind": kind}
    path.write_text(json.dumps(record))


def write_failed(folder: Path, subject: str, kind: str = "ImageError") -> None:
    """Write the record of an image that failed."""
    place = folder / subject / "anat"
    place.mkdir(parents=True)
    about = {"Image": f"{subject}/anat/{subject}_T2w.nii.gz", "Subject": subject}
    record = place / f"{subject}_space-orig_seg-rootlets_record.json"
    write_record(record, {**about, "Session": "", "Contrast": "T2w"}, "failed", kind)


def write_study(folder: Path, subjects: int = 12) -> None:
    """Write a study with one outlier, a missing level, a corrected map and a failed image."""
    flag = {"code": "missing", "level": 4, "severity": "warning"}
    for number in range(1, subjects + 1):
        subject = f"sub-{number:02d}"
        far = {(5, "distance_midpoint"): 40.0} if number == 3 else None
        missing, flags = ((4,), (flag,)) if number == 5 else ((), ())
        write_results(folder, subject=subject, change=far, missing=missing, flags=flags,
                      corrected=number == 7, seed=number)  # fmt: skip
        if number % 3 == 0:
            write_results(folder, subject=subject, contrast="UNIT1", seed=1000 + number)
    write_failed(folder, f"sub-{subjects + 1:02d}")
