"""Measure the levels of the PAM50 template against published ones.

    python -m benchmarks.levels_pam50 [--picture FILE]

The first table is about the rootlets of each level: height along the cord beside the published one,
gap to the next level, and distance below the pontomedullary junction (PMJ) beside Cadotte 2015.
The others are about the spinal levels of the cord, one for each method. They give the overlap with
``PAM50_spinal_levels`` (Frostell), and how far apart the borders are.

The PMJ is that of the small PAM50. It is moved to the template's frame by the disc labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from sct_rootlets_task.analysis.check import check
from sct_rootlets_task.analysis.spinal_levels import METHODS, SpinalLevels, spinal_levels
from sct_rootlets_task.level_names import value_name
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.landmarks import Landmarks, disc_points, pmj_arc, pmj_point
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.centerline import fit_centerline
from sct_rootlets_task.rootlets.geometry import to_world

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def read(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels and the affine of an image."""
    import nibabel as nib

    image = nib.load(DATA / name)
    return np.asarray(image.dataobj), image.affine


def template_pmj() -> np.ndarray:
    """Return the PMJ in the frame of PAM50, shape (3,), from that of the small PAM50."""
    large = disc_points(*read("pam50/PAM50_label_disc.nii.gz"))
    small = disc_points(*read("pam50_small/PAM50_small_label_disc.nii.gz"))
    common = sorted(set(large) & set(small) - {13, 14})
    apart = np.median([large[n] - small[n] for n in common], axis=0)
    # The two templates number the discs alike; their labels sit on different sides of the cord.
    cord = [_middle(*read(f"{name}.nii.gz")) for name in _CORDS]
    apart[:2] = (cord[0] - cord[1])[:2]
    return pmj_point(*read("pam50_small/PAM50_small_t2_pmj_manual.nii.gz")) + apart


_CORDS = ("pam50/PAM50_cord", "pam50_small/PAM50_small_cord")


def _middle(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return to_world(np.argwhere(mask > 0.5), affine).mean(axis=0)


def rootlet_table(labels: np.ndarray, affine: np.ndarray, references: Landmarks) -> None:
    assert references.pmj is not None
    report = check(labels, affine, landmarks=references, task=ROOTLETS)
    # Arc length 0 is the top of the cord mask; spinal_levels counts from the PMJ.
    zero = pmj_arc(fit_centerline(labels, affine, cord=references.cord), references.pmj)
    print("level  height  published  gap to next   below PMJ  Cadotte")
    for level in report.levels:
        gap = "" if level.gap is None else f"{level.gap:.1f}"
        mean, sd = CERVICAL.midpoint_below_pmj_mm.get(level.level, (float("nan"),) * 2)
        print(
            f"{level.name:5}{level.height:8.1f}{CERVICAL.template_height_mm[level.level]:11.1f}{gap:>13}"
            f"{level.midpoint - zero:12.1f}{mean:9.1f} ± {sd:.1f}"
        )
    print(f"flags: {[flag.text for flag in report.flags] or 'none'}")
    print(f"shifts: {[(s.source, s.shift, round(s.offset, 2)) for s in report.shifts]}\n")


def overlap_table(found: SpinalLevels, frostell: np.ndarray, cord: np.ndarray, size: float) -> None:
    assert found.labels is not None
    print(f"method {found.method}")
    print("level   height  cord_area   Dice with Frostell   upper border   lower border (mm below)")
    for row in found.rows:
        mine, other = found.labels == row["spinal_level"], (frostell == row["spinal_level"]) & cord
        dice = 2 * np.count_nonzero(mine & other) / (mine.sum() + other.sum())
        a, b = (np.flatnonzero(mask.any(axis=(0, 1))) for mask in (mine, _core(other)))
        upper, lower = (b.max() - a.max()) * size, (b.min() - a.min()) * size
        print(
            f"{value_name(row['spinal_level']):5}{row['height']:9.1f}{row['cord_area']:11}"
            f"{dice:21.2f}{upper:15.1f}{lower:15.1f}"
        )
    inside = np.asarray(found.labels.any(axis=(0, 1)))
    covered = np.flatnonzero(inside)
    gaps = np.count_nonzero(~inside[covered.min() : covered.max() + 1])
    print(f"slices without a level inside the covered range: {gaps}\n")


def _core(mask: np.ndarray) -> np.ndarray:
    """Leave out slices of which only the rim belongs to a level: Frostell's borders are slanted."""
    count = mask.sum(axis=(0, 1))
    return mask & (count > 0.5 * count.max())


def draw(path: Path, found: list[SpinalLevels], labels: np.ndarray, frostell: np.ndarray) -> None:
    """Draw the sagittal middle of each method beside Frostell's levels and the rootlets."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels = [("Frostell", frostell[70]), ("rootlets (projected)", labels.max(axis=0))]
    panels += [(f.method, f.labels[70]) for f in found if f.labels is not None]
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels), 9))
    for axis, (title, panel) in zip(axes, panels, strict=True):
        shown = np.where(panel[40:100, 680:] > 0, panel[40:100, 680:], np.nan)
        axis.imshow(shown.T, origin="lower", cmap="tab10", vmin=1, vmax=10)
        axis.set(title=title, xticks=[], yticks=[])
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args(arguments)
    labels, affine = read("pam50/PAM50_rootlets.nii.gz")
    labels = labels.astype(np.uint8)
    cord, _ = read("pam50/PAM50_cord.nii.gz")
    frostell, _ = read("pam50/PAM50_spinal_levels.nii.gz")
    discs = disc_points(*read("pam50/PAM50_label_disc.nii.gz"))
    pmj = template_pmj()
    rootlet_table(labels, affine, Landmarks(cord=cord, pmj=pmj, discs=discs))
    found = [
        spinal_levels(
            labels, affine, landmarks=Landmarks(cord=cord, pmj=pmj), method=m, task=ROOTLETS
        )
        for m in METHODS
    ]
    for levels in found:
        overlap_table(levels, frostell, cord > 0, abs(float(affine[2, 2])))
    if options.picture:
        draw(options.picture, found, labels, frostell)


if __name__ == "__main__":
    main()
