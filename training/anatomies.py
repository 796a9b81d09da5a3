"""Volumes with known levels and tissues, from which training samples are cut.

An *anatomy* is one of these:

- the template itself;
- a *hybrid*: a real image with the template's tissues, rootlets and levels in its spinal canal,
  carried there along the centerline;
- a real image with rootlets that a network found in it;
- the package's synthetic sample;
- a *negative*, of which is only known that it shows no cervical level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.levels.sources import LOCATOR_MIN_VOXEL_MM
from training.template import (
    ABOVE,
    DISCS,
    UNKNOWN,
    VERTEBRA_C2,
    VERTEBRA_T2,
    VOXEL_MM,
    Template,
    canonical,
    classes_of_slices,
    load_template,
    middles,
    scaled,
    to_zyx,
)

FINE_MM, COARSE_MM = 0.6, LOCATOR_MIN_VOXEL_MM
WITH_LANDMARKS = ("errsm11", "errsm18", "errsm24")
"""Real images with a mask of the cord and the points of the vertebrae C2 and T2."""
DISCS_BY_EYE = {
    "errsm11": "178,200 161,200 144,199 128,196 113,191 98,182 81,169 65,151",
    "errsm18": "179,192 159,186 141,181 124,177 107,174 89,171 70,162 50,154",
    "errsm20": "158,201 140,202 122,205 105,206 90,206 75,197 59,183 43,166",
    "errsm22": "195,157 177,152 161,151 144,150 128,151 111,150 94,143 76,136",
    "errsm24": "195,191 178,188 159,188 144,187 127,187 110,183 94,173 79,158",
}
"""Voxels z,y at the posterior edges of the discs C2/C3 to T2/T3, marked by eye in the midsagittal
plane of the real images."""
WITHOUT_LANDMARKS = tuple(name for name in DISCS_BY_EYE if name not in WITH_LANDMARKS)
REACH_MM = 30.0
"""How far from the centerline the template's tissues are carried."""
FRONT_MM, BACK_MM = 100.0, 80.0

CanalFinder = Callable[[np.ndarray], np.ndarray]
"""From intensities (z, y, x) of 1 mm voxels to which of them are in the spinal canal (bool)."""


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A volume and what is known of it; axes (z, y, x): upwards, forwards, to the right.

    Parameters
    ----------
    name : str
    voxel_mm : float
    image : tensor of float16, shape (z, y, x)
        1 is bright.
    tissues : tensor of float16, shape (4, z, y, x), or None
        Share of cord, CSF, gray matter and rootlets; None if the canal cannot be repainted.
    levels : tensor of uint8, shape (z, y, x)
        Level of the rootlets: 1 (C1, which is painted but not to be found) to 9 (T1).
    classes : tensor of uint8, shape (z, y, x)
        What a locator should find: 0 outside the canal, 1 above C2, 2 to 9 for C2 to T1, 10 below.
        Where that is not known, ``UNKNOWN``.
    line : ndarray of float, shape (z, 2)
        Middle (y, x) of the canal in each slice, in voxels.
    span : (float, float)
        Slices between which the canal is known.
    negative : bool
        Whether no cervical level is in the image; then only that is known.
    origin : (float, float, float)
        Where the first voxel lies in the image it was made of, in its voxels along (z, y, x).
    """

    name: str
    voxel_mm: float
    image: Any
    tissues: Any
    levels: Any
    classes: Any
    line: np.ndarray
    span: tuple[float, float]
    negative: bool = False
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)


def template_anatomy(template: Template) -> Anatomy:
    """Return the template as an anatomy, from its top down to the end of the spine."""
    slices = np.arange(template.image.shape[0], dtype=float)
    canal = template.tissues[:2].sum(axis=0) > 0.5
    classes = classes_of_slices(slices)[:, None, None] * canal
    return _anatomy(
        "template", VOXEL_MM, template.image, template.tissues, template.levels, classes,
        line=template.line("cord", "csf"), span=(40.0, len(slices) - 1.0),
    )  # fmt: skip


def hybrid(
    template: Template,
    data: Path,
    subject: str,
    *,
    by_points: bool = False,
    canal: CanalFinder | None = None,
) -> Anatomy:
    """Return a real image with the template in its canal.

    Along the centerline the template is tied to the discs, which were marked by eye. It can also be
    tied to the points of the vertebrae C2 and T2, which come with the images.

    Parameters
    ----------
    template : Template
    data : path
        Folder of the real images.
    subject : str
        Key of :data:`DISCS_BY_EYE`.
    by_points : bool
        Fix arc length by the points, which only :data:`WITH_LANDMARKS` have.
    canal : callable, optional
        Gives the outline of the canal where there is no mask of the cord.
    """
    stem = f"t2w/sub-{subject}_T2w"
    image = to_zyx(canonical(data / f"{stem}.nii.gz").get_fdata(dtype=np.float32))
    if subject in WITH_LANDMARKS:
        mask = to_zyx(np.asarray(canonical(data / f"{stem}_label-SC_mask.nii.gz").dataobj)) > 0
        template_line = template.line("cord")
    else:
        assert canal is not None
        mask, template_line = canal(image), template.line("cord", "csf")
    line = extended_line(mask)
    if by_points:
        marks = to_zyx(np.asarray(canonical(data / f"{stem}_landmarks-C2T2.nii.gz").dataobj))
        places = np.array([np.argwhere(marks == value)[0] for value in (2, 9)])
        known = np.array([VERTEBRA_C2, VERTEBRA_T2])
    else:
        places = np.array([mark.split(",") for mark in DISCS_BY_EYE[subject].split()], float)
        known = np.array(DISCS, float)
    slices = _slices_along(line, places[:, :2], known)
    return _carried(subject, image, line, slices, template, template_line)


def _slices_along(line: np.ndarray, places: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the template's slice at each point (z, y, x) of a line.

    Parameters
    ----------
    line : ndarray of float, shape (n, 3)
    places : ndarray of float, shape (m, 2)
        Places (z, y) in the sagittal plane, from head to tail.
    known : ndarray of float, shape (m,)
        The template's slices there. Between them arc length is interpolated monotonically
        (PCHIP), beyond the first and the last with the robust mean slope (Theil–Sen).
    """
    from scipy.interpolate import PchipInterpolator
    from scipy.stats import theilslopes

    arc = _arc(line)
    arcs = np.array([arc[np.linalg.norm(line[:, :2] - place, axis=1).argmin()] for place in places])
    slope = theilslopes(known, arcs)[0]
    below, above = arc[0] - 1, arc[-1] + 1
    x = np.array([below, *arcs[::-1], above])
    y = np.array([
        known[-1] + slope * (below - arcs[-1]), *known[::-1], known[0] + slope * (above - arcs[0])
    ])  # fmt: skip
    return PchipInterpolator(x, y)(arc)


def sample_anatomy(seed: int) -> Anatomy:
    """Return the package's synthetic sample; borders halfway between neighboring rootlets."""
    from scipy.ndimage import distance_transform_edt

    from training.make_sample import make_sample

    sample = make_sample(seed)
    levels, cord = to_zyx(sample.levels), to_zyx(sample.cord)
    ends = [np.flatnonzero((levels == level).any(axis=(1, 2))) for level in range(2, 10)]
    between = [(upper[0] + lower[-1]) / 2 for upper, lower in pairwise(ends)]
    borders = np.array([ends[0][-1] + 2, *between, ends[-1][0] - 2])
    classes = ABOVE + np.sum(np.arange(len(levels))[:, None] < borders, axis=1)
    canal = distance_transform_edt(~cord) < 4.5
    image = scaled(to_zyx(sample.data.astype(np.float32)))
    return _anatomy(
        f"sample{seed}", 1.0, image, None, levels, classes[:, None, None] * canal,
        line=middles(cord.astype(np.float32)), span=(10.0, len(levels) - 10.0),
    )  # fmt: skip


def segmented(anatomy: Anatomy, labels: np.ndarray) -> Anatomy:
    """Return a hybrid whose canal is the scan's own, with rootlets that a network found in it.

    Parameters
    ----------
    anatomy : Anatomy
        Hybrid of a real image of 1 mm voxels.
    labels : ndarray of uint8, shape (z, y, x)
        Level map on the grid of that image, 2 to 9.
    """
    import torch
    from scipy.ndimage import distance_transform_edt, map_coordinates

    axes = [
        first + FINE_MM * np.arange(n)
        for first, n in zip(anatomy.origin, anatomy.image.shape, strict=True)
    ]
    places = np.broadcast_arrays(*np.meshgrid(*axes, indexing="ij", sparse=True))
    share = map_coordinates((labels > 0).astype(np.float32), places, order=1)
    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    levels = map_coordinates(labels[tuple(nearest)], places, order=0, mode="nearest")
    levels = torch.from_numpy((levels * (share >= 0.5)).astype(np.uint8))
    return replace(anatomy, name=f"segmented {anatomy.name}", tissues=None, levels=levels)


def negative_anatomy(path: Path) -> Anatomy:
    """Return an image of another part of the spine."""
    from nibabel.processing import resample_to_output

    small = resample_to_output(canonical(path), (COARSE_MM,) * 3, order=1)
    image = scaled(to_zyx(small.get_fdata(dtype=np.float32)))
    middle = np.tile(np.array(image.shape[1:]) / 2, (len(image), 1))
    nothing = np.zeros(image.shape, np.uint8)
    return _anatomy(
        path.name, COARSE_MM, image, None, nothing, np.full(image.shape, UNKNOWN),
        line=middle, span=(0.0, len(image) - 1.0), negative=True,
    )  # fmt: skip


def coarser(anatomy: Anatomy, voxel_mm: float = COARSE_MM) -> Anatomy:
    """Return an anatomy of larger voxels."""
    import torch
    from torch.nn.functional import interpolate

    shape = [round(n * anatomy.voxel_mm / voxel_mm) for n in anatomy.image.shape]
    rows = np.linspace(0, len(anatomy.line) - 1, shape[0])
    ratio = np.array(anatomy.image.shape) / shape

    def shrink(fields: Any, mode: str) -> Any:
        return interpolate(fields[None].float(), size=shape, mode=mode)[0]

    line = np.stack(
        [np.interp(rows, np.arange(len(anatomy.line)), c) for c in anatomy.line.T], axis=1
    )
    return replace(
        anatomy,
        voxel_mm=anatomy.voxel_mm * float(ratio[0]),
        image=shrink(anatomy.image[None], "area")[0].half(),
        tissues=None if anatomy.tissues is None else shrink(anatomy.tissues, "area").half(),
        levels=shrink(anatomy.levels[None], "nearest-exact")[0].to(torch.uint8),
        classes=shrink(anatomy.classes[None], "nearest-exact")[0].to(torch.uint8),
        line=line / ratio[1:],
        span=(anatomy.span[0] / ratio[0], anatomy.span[1] / ratio[0]),
    )


def extended_line(mask: np.ndarray, beyond: float = 15.0) -> np.ndarray:
    """Return points (z, y, x) every quarter voxel along a mask, straight on beyond its ends."""
    from scipy.ndimage import gaussian_filter1d

    present = np.flatnonzero(mask.any(axis=(1, 2)))
    middle = np.array([np.argwhere(mask[z]).mean(axis=0) for z in present])
    middle = gaussian_filter1d(middle, 4, axis=0)
    z = np.arange(max(present[0] - beyond, 0), min(present[-1] + beyond, len(mask) - 1), 0.25)
    return np.stack([z, *(_extended(z, present, column) for column in middle.T)], axis=1)


def build_anatomies(
    data: Path,
    subjects: Sequence[str],
    *,
    sample_seeds: Sequence[int] = (),
    canal: CanalFinder | None = None,
) -> list[Anatomy]:
    """Return the fine anatomies: template, hybrids, samples.

    Subjects without a mask of the cord need a finder of the canal.
    """
    template = load_template(data)
    anatomies = [template_anatomy(template)]
    anatomies += [hybrid(template, data, subject, canal=canal) for subject in subjects]
    return anatomies + [sample_anatomy(seed) for seed in sample_seeds]


def _extended(z: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    first, last = (
        np.polyfit(known[part], values[part], 1) for part in (slice(12), slice(-12, None))
    )
    inside = np.interp(z, known, values)
    below, above = z < known[0], z > known[-1]
    return np.where(below, np.polyval(first, z), np.where(above, np.polyval(last, z), inside))


def _arc(line: np.ndarray) -> np.ndarray:
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    return np.concatenate([[0], np.cumsum(steps)])


def _carried(
    name: str,
    image: np.ndarray,
    line: np.ndarray,
    slices: np.ndarray,
    template: Template,
    template_line: np.ndarray,
) -> Anatomy:
    """Carry the template along a line of points (z, y, x) in an image of 1 mm voxels."""
    from scipy.ndimage import map_coordinates

    low = np.array([0, max(line[:, 1].min() - BACK_MM, 0), 0])
    high = np.array(image.shape) - 1.0
    high[1] = min(line[:, 1].max() + FRONT_MM, high[1])
    axes = [np.arange(a, b, FINE_MM) for a, b in zip(low, high, strict=True)]
    shape = tuple(len(axis) for axis in axes)
    center = [np.interp(axes[0], line[:, 0], column) for column in line[:, 1:].T]
    near = np.abs(axes[1][None] - center[0][:, None]) < REACH_MM
    near &= ((axes[0] >= line[0, 0]) & (axes[0] <= line[-1, 0]))[:, None]
    points = [np.repeat(axes[a][index], shape[2]) for a, index in enumerate(np.nonzero(near))]
    points.append(np.tile(axes[2], near.sum()))
    places = _in_template(np.stack(points, axis=1), line, slices, template_line)
    outside = (places[0] < 0) | (places[0] > len(template.image) - 1)
    tissues = np.zeros((4, *shape), np.float16)
    for field, source in zip(tissues, template.tissues, strict=True):
        field[near] = map_coordinates(source, places, order=1, prefilter=False).reshape(
            -1, shape[2]
        )
    levels = np.zeros(shape, np.uint8)
    levels[near] = map_coordinates(template.levels, places, order=0).reshape(-1, shape[2])
    classes = np.zeros(shape, np.uint8)
    classes[near] = np.where(outside, UNKNOWN, classes_of_slices(places[0])).reshape(-1, shape[2])
    classes[(classes != UNKNOWN) & (tissues[:2].sum(axis=0) <= 0.5)] = 0
    classes[(axes[0] < line[0, 0]) | (axes[0] > line[-1, 0])] = UNKNOWN
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    fine = map_coordinates(image, np.broadcast_arrays(*grid), order=1, mode="nearest")
    middle = np.stack([(c - low[a + 1]) / FINE_MM for a, c in enumerate(center)], axis=1)
    inside = np.flatnonzero((axes[0] >= line[0, 0]) & (axes[0] <= line[-1, 0]))
    return _anatomy(
        name, FINE_MM, scaled(fine), tissues, levels, classes,
        line=middle, span=(float(inside[0]), float(inside[-1])),
        origin=tuple(low.tolist()),
    )  # fmt: skip


def _in_template(
    points: np.ndarray, line: np.ndarray, slices: np.ndarray, template_line: np.ndarray
) -> np.ndarray:
    """Return the places (3, n) in the template of points (n, 3) near a line.

    The nearest point on the line (in the sagittal plane) gives the slice; the offset in mm in the
    frame of the line goes over unchanged.
    """
    from scipy.spatial import cKDTree

    _, nearest = cKDTree(line[:, :2]).query(points[:, :2], workers=-1)
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent[:, :2], axis=1, keepdims=True)
    offset = points - line[nearest]
    forwards = offset[:, 1] * tangent[nearest, 0] - offset[:, 0] * tangent[nearest, 1]
    z = slices[nearest]
    rows = np.arange(len(template_line))
    y = np.interp(z, rows, template_line[:, 0]) + forwards / VOXEL_MM
    x = np.interp(z, rows, template_line[:, 1]) + offset[:, 2] / VOXEL_MM
    return np.stack([z, y, x])


def _anatomy(
    name: str,
    voxel_mm: float,
    image: np.ndarray,
    tissues: np.ndarray | None,
    levels: np.ndarray,
    classes: np.ndarray,
    **more: Any,
) -> Anatomy:
    import torch

    return Anatomy(
        name, voxel_mm, torch.from_numpy(image.astype(np.float16)),
        None if tissues is None else torch.from_numpy(tissues.astype(np.float16)),
        torch.from_numpy(levels.astype(np.uint8)), torch.from_numpy(classes.astype(np.uint8)),
        **more,
    )  # fmt: skip
