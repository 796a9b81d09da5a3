"""Make a BIDS data set of synthetic necks, as studies have them: sessions, contrasts, faults.

    python tests/study_dataset.py FOLDER [--subjects N] [--tiny]

The built-in networks find the levels C2 to T1 on most T2w images, in some 2 s on one core. Tiny
volumes are for :class:`fake_network.FakeNetwork`: the intensity of a voxel is its level.

| subject | what is special, of every ten |
| --- | --- |
| 01 | two sessions |
| 02 | also ``UNIT1`` and both inversions, in one of three ways to name them |
| 03 | cord mask, discs and PMJ in ``derivatives``, in one of three ways to name them |
| 04 | broken: half of a file (only the first ten) |
| 05 | lumbar: no rootlets (only the first ten) |
| 06 | ``acq`` and ``run`` |
| 07 | in ``.bidsignore`` (only the first ten) |
| 08 | annexed, content not fetched (only the first ten) |
| 09 | ``.nii`` |
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sct_rootlets_task.io.sample import AFFINE, PMJ_VOXEL, load_sample

BROKEN, LUMBAR, IGNORED, ABSENT = "04", "05", "07", "08"
"""Subjects of which nothing can be had, or no level."""

LEVELS = {2: 38.0, 3: 54.1, 4: 70.0, 5: 86.5, 6: 101.0, 7: 115.5, 8: 129.2, 9: 143.7}
"""Level → distance of its middle from the PMJ, in mm (see ``training/make_sample.py``)."""
DISCS = {3: 61.5, 4: 79.0, 5: 96.0, 6: 112.0, 7: 127.5, 8: 143.5}
"""SCT's number of a disc → its distance from the PMJ, in mm."""

_CROP = (14, 96, 90), (42, 144, 244)
"""First and last corner in voxels of the sample, which ends below the PMJ; points do not."""
_LUMBAR_CROP = (14, 96, 0), (42, 144, 60)
_TINY = (20, 20, 154)
_MP2RAGE = (
    {"UNIT1": "UNIT1", "INV1": "inv-1_MP2RAGE", "INV2": "inv-2_MP2RAGE"},
    {"UNIT1": "UNIT1", "INV1": "inv-1_part-mag_MP2RAGE", "INV2": "inv-2_part-mag_MP2RAGE"},
    {"UNIT1": "acq-uni_UNIT1", "INV1": "INV1", "INV2": "INV2"},
)
_DERIVATIVES = (
    ("labels", {"cord": "T2w_label-SC_seg", "discs": "T2w_label-discs_dlabel", "pmj": "T2w_pmj"}),
    ("labels", {"cord": "T2w_seg-manual", "discs": "T2w_labels-disc-manual"}),
    ("cord", {"cord": "space-orig_label-SC_mask", "pmj": "space-orig_label-PMJ_mask"}),
)


def _inversion(time: float, angle: int) -> str:
    """Return the sidecar of an inversion, with what BIDS requires."""
    sequence = {"MagneticFieldStrength": 7, "NumberShots": 100, "RepetitionTimeExcitation": 0.007}
    of_this = {"RepetitionTimePreparation": 5, "InversionTime": time, "FlipAngle": angle}
    return json.dumps({**sequence, **of_this})


_TEXTS: Mapping[str, str] = {
    "README.md": "Synthetic necks. No part of them comes from a person.\n",
    ".bidsignore": f"# not for analysis\nsub-{IGNORED}/\n*_INV1.nii.gz\n*_INV2.nii.gz\n",
    "T2w.json": '{"MagneticFieldStrength": 3}\n',
    "UNIT1.json": '{"MagneticFieldStrength": 7}\n',
    "inv-1_MP2RAGE.json": _inversion(0.9, 5),
    "inv-2_MP2RAGE.json": _inversion(2.75, 3),
}


@dataclass(frozen=True)
class Volume:
    """One synthetic image and what is known of it.

    Parameters
    ----------
    data : ndarray of int16, shape (i, j, k)
    affine : ndarray of float, shape (4, 4)
    landmarks : mapping of str to ndarray of uint8, shape (i, j, k)
        Cord mask, discs and PMJ.
    """

    data: np.ndarray
    affine: np.ndarray
    landmarks: Mapping[str, np.ndarray]


def make_dataset(
    folder: Path, subjects: int = 60, *, tiny: bool = False, faults: bool = True
) -> Path:
    """Write the data set and return its folder.

    Parameters
    ----------
    folder : Path
        Folder to make.
    subjects : int
        How many.
    tiny : bool
        Whether the intensities are levels, for the fake network.
    faults : bool
        Whether there are subjects that cannot be worked on.
    """
    folder.mkdir(parents=True)
    description = {"Name": "Synthetic necks", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    _write(folder / "dataset_description.json", json.dumps(description))
    for name, text in _TEXTS.items():
        _write(folder / name, text)
    painter = _TinyPainter() if tiny else _Painter()
    labels = [f"{number:02d}" for number in range(1, subjects + 1)]
    _write(
        folder / "participants.tsv",
        "\n".join(["participant_id", *(f"sub-{x}" for x in labels), ""]),
    )
    for number, label in enumerate(labels, 1):
        special = f"{number % 10:02d}"
        is_fault = special in (BROKEN, LUMBAR, IGNORED, ABSENT)
        _make_subject(
            folder, label, painter, "" if is_fault and (number > 10 or not faults) else special
        )
    return folder


def _make_subject(folder: Path, label: str, painter: _Painter, special: str) -> None:
    subject, number = f"sub-{label}", int(label)
    if special == "01":
        for session in ("ses-1", "ses-2"):
            anat = folder / subject / session / "anat"
            save(
                anat / f"{subject}_{session}_T2w.nii.gz",
                painter.paint(number + 1000 * int(session[-1])),
            )
        return
    anat = folder / subject / "anat"
    if special == "06":
        for run in (1, 2):
            save(
                anat / f"{subject}_acq-sag_run-{run}_T2w.nii.gz", painter.paint(number + 1000 * run)
            )
        return
    if special == ABSENT:
        anat.mkdir(parents=True)
        key = "MD5E-s1234--0123456789abcdef0123456789abcdef.nii.gz"
        (anat / f"{subject}_T2w.nii.gz").symlink_to(f"../../.git/annex/objects/aa/bb/{key}/{key}")
        return
    volume = painter.paint(number, lumbar=special == LUMBAR)
    image = save(anat / f"{subject}_T2w.{'nii' if special == '09' else 'nii.gz'}", volume)
    if special == BROKEN:
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    if special == "02":
        for contrast, ending in _MP2RAGE[number // 10 % 3].items():
            save(anat / f"{subject}_{ending}.nii.gz", painter.paint(number, contrast))
    if special == "03":
        pipeline, names = _DERIVATIVES[number // 10 % 3]
        for kind, ending in names.items():
            target = (
                folder / "derivatives" / pipeline / subject / "anat" / f"{subject}_{ending}.nii.gz"
            )
            save(target, Volume(volume.landmarks[kind], volume.affine, {}))


class _Painter:
    """Crops of the package's sample: other noise, brightness and size for each subject."""

    def __init__(self) -> None:
        sample = load_sample()
        self.data, self.cord = sample.data, sample.cord

    def paint(self, seed: int, contrast: str = "T2w", *, lumbar: bool = False) -> Volume:
        """Return the volume of a seed; contrasts of one seed show one anatomy."""
        rng = np.random.default_rng(seed)
        size, gain = rng.uniform(0.94, 1.06), rng.uniform(0.6, 1.6)
        low, high = (np.array(corner) for corner in (_LUMBAR_CROP if lumbar else _CROP))
        place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        data = self._tissue(place, contrast, lumbar=lumbar)
        data = data + rng.normal(0, 6, data.shape).astype(np.float32)
        affine = np.diag([size, size, size, 1]) @ AFFINE
        affine[:3, 3] = affine[:3, :3] @ (low - PMJ_VOXEL)
        landmarks = {
            "cord": self.cord[place].astype(np.uint8),
            **points(tuple(high - low), np.array(PMJ_VOXEL) - low),
        }
        return Volume(np.clip(data * gain, 0, 4000).astype(np.int16), affine, landmarks)

    def _tissue(self, place: tuple[slice, ...], contrast: str, *, lumbar: bool) -> np.ndarray:
        data = self.data[place].astype(np.float32)
        if lumbar:  # a bright sac without a cord
            return np.where(self.cord[place], data.max() / 2, data.mean()).astype(np.float32)
        if contrast in ("UNIT1", "INV1"):
            return data.max() - data
        return np.sqrt(data.clip(0) * data.max()) if contrast == "INV2" else data


class _TinyPainter(_Painter):
    """A straight cord along k, 1 mm a voxel; four bars of rootlets for each level."""

    def __init__(self) -> None:
        pass

    def paint(self, seed: int, contrast: str = "T2w", *, lumbar: bool = False) -> Volume:
        """Return the volume of a seed: each has a cord of another length."""
        rng = np.random.default_rng(seed)
        size, shift = rng.uniform(0.94, 1.06), int(rng.integers(-2, 3))
        data = rng.integers(95, 106, _TINY, np.int16)
        cord = np.zeros(_TINY, np.uint8)
        cord[7:13, 7:13] = 1
        data[cord > 0] += 20 if contrast == "T2w" else 40
        pmj = np.array([9, 10, 151 + shift])
        for level, distance in () if lumbar else LEVELS.items():
            along = slice(int(pmj[2] - distance) - 4, int(pmj[2] - distance) + 4)
            for side in (slice(4, 7), slice(13, 16)):
                for root in (slice(6, 8), slice(12, 14)):
                    data[side, root, along] = level
        affine = np.diag([1, 1, size, 1]).astype(float)
        return Volume(data, affine, {"cord": cord, **points(_TINY, pmj)})


def points(shape: tuple[int, ...], pmj: np.ndarray) -> dict[str, np.ndarray]:
    """Return discs and PMJ as single voxels, with SCT's numbers."""
    discs, junction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    i, j, k = (int(part) for part in pmj)
    if 0 <= k < shape[2]:
        junction[i, j, k] = 50
    for number, distance in DISCS.items():
        if 0 <= k - distance < shape[2]:
            discs[i, min(j + 8, shape[1] - 1), int(k - distance)] = number
    return {"discs": discs, "pmj": junction}


def save(path: Path, volume: Volume) -> Path:
    """Write a volume with equal sform and qform, its folders too, and return its path."""
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(volume.data, volume.affine)
    image.set_sform(volume.affine, 1)
    image.set_qform(volume.affine, 1)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--subjects", type=int, default=60)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    print(make_dataset(arguments.folder, arguments.subjects, tiny=arguments.tiny))
