"""Paint the synthetic T2w volume of the neck that comes with the package, and variants of it.

    python -m training.make_sample OUT.nii.gz [--seed N] [--cord CORD] [--levels LEVELS]
    python -m training.make_sample --pack FILE.xz

The volume is painted from published dimensions and outlines drawn for it; no part of it comes from
an image. What belongs to the spine has *cord coordinates* in mm: ``s`` along the curved axis of the
cord, down from the pontomedullary junction (PMJ), ``v`` in front of that axis, ``w`` to the right.
The face, the throat and the skin are drawn in the mid-sagittal plane. There ``y`` is forwards and
``z`` upwards, in mm from the PMJ.
"""

from __future__ import annotations

import argparse
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from sct_rootlets_task.io.sample import (
    FILE_AXES,
    MEND_OFFSET,
    PMJ_VOXEL,
    SHAPE,
    SIGNAL_STEP,
    STEP_OFFSET,
    Sample,
    draw_noise,
    noise_generator,
    save,
    texture,
    with_noise,
)

Table = tuple[tuple[float, ...], ...]
Outline = tuple[tuple[float, float], ...]

TIE_MARGIN = 1e-3
"""Least distance of what is packed from a rounding tie, so that no machine's last digit matters."""


@dataclass(frozen=True)
class SpinalLevel:
    """Where the rootlets of a spinal level leave the cord.

    Parameters
    ----------
    level : int
        2 (C2) to 9 (T1).
    midpoint : float
        Distance from the PMJ along the cord, in mm.
    height : float
        Extent along the cord, in mm.
    exit : float
        Distance from the PMJ of the intervertebral foramen the nerve leaves by, in mm.
    """

    level: int
    midpoint: float
    height: float
    exit: float


SPINAL_LEVELS = (
    SpinalLevel(2, 38.0, 8.0, 42.0),
    SpinalLevel(3, 54.1, 11.7, 61.5),
    SpinalLevel(4, 70.0, 9.7, 79.0),
    SpinalLevel(5, 86.5, 9.7, 96.0),
    SpinalLevel(6, 101.0, 9.2, 112.0),
    SpinalLevel(7, 115.5, 8.8, 127.5),
    SpinalLevel(8, 129.2, 9.0, 143.5),
    SpinalLevel(9, 143.7, 9.2, 162.0),
)
"""Midpoints and heights are the means of Cadotte et al. 2015 (doi:10.3174/ajnr.A4192). They leave
out C2, which stands 16 mm above C3, as C3 does above C4, and has the 8 mm of the PAM50 template."""

DISCS = (61.5, 79.0, 96.0, 112.0, 127.5, 143.5, 162.0, 182.0, 203.0, 225.0, 248.0, 271.0, 295.0)
"""Middle of the discs C2/C3, C3/C4 … in mm from the PMJ: 15 to 18 mm apart in the neck, a body of
11 mm (posterior height 11.1 ± 1.4 mm on 100 dry vertebrae, J Hum Anat artId 13943) and a disc of
4 mm (4.1 ± 1.2 mm on 1000 CTs, PMC11225399), and more in the chest."""

CORD = (
    (-4.0, 15.0, 22.0),
    (8.0, 13.0, 17.5),
    (18.0, 11.5, 14.0),
    (30.0, 9.0, 12.0),
    (40.0, 8.6, 12.2),
    (70.0, 8.2, 13.0),
    (86.5, 7.8, 13.3),
    (115.5, 7.4, 12.0),
    (143.7, 6.9, 10.0),
    (180.0, 6.6, 9.2),
    (260.0, 6.3, 8.4),
)
"""s, sagittal and transverse diameter of medulla and cord, in mm: between Frostell et al. 2016
(doi:10.3389/fneur.2016.00238; C5 7.4 by 13.3, T8 6.3 by 8.3) and Sherman et al. 1990 (AJNR 11:369;
C2 8.8 by 12.4, C4 8.7 by 14.0, C7 7.4 by 11.4)."""

SAC = (
    (14.0, 27.0, 34.0, -3.0),
    (24.0, 24.0, 29.0, -2.0),
    (38.0, 19.5, 24.5, -0.8),
    (54.0, 17.0, 22.6, 0.0),
    (70.0, 15.6, 21.6, 0.0),
    (86.5, 14.8, 21.0, 0.0),
    (110.0, 14.4, 20.8, -0.2),
    (130.0, 15.0, 21.6, -0.5),
    (150.0, 15.6, 21.2, -0.8),
    (175.0, 15.0, 18.4, -1.4),
    (260.0, 14.0, 16.0, -2.2),
)
"""s, sagittal and transverse diameter of the dural sac and v of its middle, in mm: some 3.4 mm of
CSF around the cord (Khanapurkar et al. 2014, IJMRHS 3:610), more at the foramen magnum."""

BODIES = ((45.0, 15.9, 9.0), (90.0, 16.4, 11.1), (140.0, 18.0, 13.8), (240.0, 21.2, 15.4))
"""s, depth and half width of the vertebral bodies (14.6 ± 2.1 mm deep, J Hum Anat artId 13943)."""

SPINOUS = (
    (45.0, 30.4, 0.25),
    (62.0, 24.8, 0.3),
    (105.0, 29.4, 0.45),
    (135.0, 41.4, 0.8),
    (170.0, 42.3, 1.1),
    (240.0, 38.6, 1.3),
)
"""s, v of the tip behind the cord, and caudal slope of the spinous processes."""

TILT = (
    (-60.0, 7.0),
    (50.0, 8.0),
    (90.0, 5.0),
    (120.0, 1.0),
    (147.0, -5.0),
    (170.0, -8.0),
    (205.0, -8.0),
    (245.0, -5.0),
    (320.0, 0.0),
)
"""s and the angle of the cord axis to the vertical in degrees: cervical lordosis, then kyphosis."""

SKIN = (
    (-82, 40),
    (-84, 5),
    (-71, -22),
    (-56, -46),
    (-44, -66),
    (-38, -86),
    (-38, -100),
    (-48, -116),
    (-58, -140),
    (-64, -175),
    (-64, -210),
    (-59, -250),
    (-50, -290),
    (152, -290),
    (130, -230),
    (105, -192),
    (79, -164),
    (78, -150),
    (82, -138),
    (84, -126),
    (76, -112),
    (83, -102),
    (105, -101),
    (108, -94),
    (113, -82),
    (108, -68),
    (114, -60),
    (112, -53),
    (119, -45),
    (115, -37),
    (132, -22),
    (122, 0),
    (118, 40),
    (20, 60),
)
FAT_OF_BACK = (
    (-290.0, 6.4),
    (-210.0, 8.0),
    (-160.0, 11.2),
    (-118.0, 10.4),
    (-100.0, 4.8),
    (-70.0, 3.2),
    (40.0, 4.8),
)
TONGUE = (
    (47, -52),
    (52, -36),
    (68, -29),
    (88, -33),
    (99, -46),
    (94, -62),
    (84, -78),
    (66, -92),
    (52, -84),
)
JAW = ((98, -60), (106, -64), (108, -84), (99, -94), (92, -86), (94, -70))
PALATE = (
    (52, -16),
    (98, -18),
    (108, -36),
    (101, -40),
    (94, -26),
    (60, -23),
    (50, -32),
    (46, -38),
    (44, -32),
)
NOSE_AIRWAY = ((40, -8), (52, -11), (75, -10), (112, -16), (118, -14), (96, 6), (60, 8), (44, 2))
THROAT = (
    (37, 0),
    (45, -6),
    (46, -30),
    (49, -50),
    (53, -70),
    (59, -88),
    (65, -100),
    (69, -115),
    (69, -132),
    (67, -155),
    (63, -182),
    (58, -212),
    (53, -250),
    (39, -250),
    (44, -212),
    (49, -182),
    (53, -155),
    (57, -132),
    (57, -115),
    (54, -100),
    (49, -86),
    (44, -66),
    (39, -24),
)
OESOPHAGUS = (
    (52, -98),
    (52, -120),
    (50, -150),
    (47, -182),
    (42, -212),
    (37, -250),
    (30, -250),
    (35, -212),
    (40, -182),
    (43, -150),
    (45, -120),
    (47, -98),
)
STERNUM = ((70, -162), (77, -160), (97, -190), (123, -250), (111, -250), (88, -195))
LUNG = (
    (25, -165),
    (37, -152),
    (53, -158),
    (76, -185),
    (105, -250),
    (91, -300),
    (1, -300),
    (15, -215),
)

CRANIUM = (
    *((25, 11), (12, 15), (0, 20), (-14, 26), (-60, 38), (-60, -95), (-22, -80), (-2, -62)),
    *((13, -42), (21, -25), (27, -12)),
)
CLIVUS = ((23, 12), (10, 17), (-14, 28), (-60, 40), (-60, 62), (-16, 46), (6, 29), (21, 18))
CEREBELLUM = (
    *((-60, -8), (-24, -14), (-8, -17), (4, -13), (13, -13), (18, -16), (17, -25), (10, -40)),
    *((-5, -58), (-24, -76), (-60, -90)),
)
FOURTH_VENTRICLE = ((-26, -8), (-10, -17), (3, -11), (8, -8), (-4, -7.5))

SIGNAL = {
    "air": 0.0,
    "cortical bone": 45.0,
    "ligament": 60.0,
    "muscle": 80.0,
    "skin": 110.0,
    "marrow": 205.0,
    "tongue": 170.0,
    "fat": 270.0,
    "disc": 250.0,
    "white matter": 275.0,
    "gray matter": 315.0,
    "rootlet": 380.0,
    "nerve": 240.0,
    "csf": 1150.0,
}
"""Signal of each tissue on a T2w turbo spin echo, in arbitrary units: fluid bright, air and compact
bone without signal."""

RECEPTION = (
    (-275.0, 0.22),
    (-225.0, 0.32),
    (-190.0, 0.55),
    (-170.0, 0.85),
    (-150.0, 1.02),
    (-135.0, 1.05),
    (-115.0, 0.95),
    (-90.0, 0.8),
    (-40.0, 0.72),
    (20.0, 0.6),
)
"""z and the sensitivity of a coil that lies behind the lower neck."""

EDGE = 1.8
"""Width of an edge in mm: a voxel and the blur of the long echo train."""
ROOTLET_RADIUS = ((38.0, 0.4), (86.0, 0.45), (110.0, 0.5), (130.0, 0.55), (150.0, 0.5))
"""s and radius of a filament in mm; those of the arm are thicker."""
_EDGE_OF_TRUTH = 0.4


@dataclass(frozen=True, eq=False)
class PaintedSample(Sample):
    """A synthetic volume and all that is known about it.

    Parameters
    ----------
    levels : ndarray of uint8, shape (i, j, k)
        Rootlets between cord and dura: 2 (C2) to 9 (T1), 0 elsewhere.
    signal : ndarray of float32, shape (i, j, k)
        The volume without noise.
    """

    levels: np.ndarray
    signal: np.ndarray


@dataclass(frozen=True, eq=False)
class Space:
    """Coordinates of the voxels in mm, in shapes that broadcast to (i, j, k).

    Parameters
    ----------
    w, y, z : ndarray of float32, shapes (i, 1, 1), (1, j, 1), (1, 1, k)
        To the right, forwards and upwards from the PMJ.
    s, v : ndarray of float32, shape (1, j, k)
        Down the cord axis, and in front of it.
    """

    w: np.ndarray
    y: np.ndarray
    z: np.ndarray
    s: np.ndarray
    v: np.ndarray


def make_sample(seed: int = 0) -> PaintedSample:
    """Paint the volume.

    Parameters
    ----------
    seed : int
        Fixes the texture, the course of each rootlet filament and the noise.

    Returns
    -------
    PaintedSample
    """
    rng = np.random.default_rng(seed)
    space = make_space()
    image = np.full(SHAPE, SIGNAL["air"], dtype=np.float32)
    paint_soft_tissue(image, space, rng)
    paint_throat_and_face(image, space)
    paint_head(image, space, rng)
    bent = ruffle(space, rng, size=0.7)
    paint_arches(image, bent)
    paint_bodies_and_discs(image, bent)
    paint_upper_neck(image, bent)
    paint_canal(image, space, rng)
    paint_nerves(image, space)
    levels = paint_rootlets(image, space, rng)
    cord = paint_cord(image, space)
    signal = receive(image, space)
    data = np.rint(with_noise(signal, rng)).astype(np.int16)
    return PaintedSample(data, cord, np.where(cord, 0, levels).astype(np.uint8), signal)


def pack(sample: PaintedSample) -> bytes:
    """Return the sample of seed 0 as the package stores it.

    Noise does not compress, so the signal is stored, as steps along the last axis. Where several
    signals give the same rounded voxel, the nearest to the one before is taken: few steps are left.
    What no multiple of :data:`SIGNAL_STEP` gives is mended by adding -2 to 2.

    Raises
    ------
    ValueError
        If the sample has another seed's noise.
    """
    noise = draw_noise(noise_generator())
    low, high = _signal_bounds(sample, *noise)
    low, high = np.ceil(low / SIGNAL_STEP), np.floor(high / SIGNAL_STEP)
    firm = _far_from_ties(sample.signal, *noise)
    low, high = np.where(low > high, firm, low), np.where(low > high, firm, high)
    units = np.zeros(SHAPE, dtype=np.int16)
    for k in range(SHAPE[2]):
        units[..., k] = np.clip(units[..., k - 1] if k else 0, low[..., k], high[..., k])
    signal = units * np.float32(SIGNAL_STEP)
    mended = (
        sample.data - np.rint(with_noise(signal, noise_generator())).astype(np.int16) + MEND_OFFSET
    )
    if mended.min() < 0 or mended.max() > 2 * MEND_OFFSET:
        raise ValueError("Expected the sample of seed 0, found one of other noise.")
    steps = np.diff(units, axis=2, prepend=np.int16(0)) + STEP_OFFSET
    planes = np.stack([steps & 255, steps >> 8, mended, sample.cord]).astype(np.uint8)
    return lzma.compress(planes.transpose(0, *(1 + axis for axis in FILE_AXES)).tobytes())


def _signal_bounds(
    sample: PaintedSample, grain: np.ndarray, real: np.ndarray, imaginary: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return between which signals a voxel stays the rounded magnitude that it is."""
    outer, inner = (
        np.sqrt(np.maximum((sample.data + away) ** 2 - imaginary.astype(float) ** 2, 0))
        for away in (0.5 - TIE_MARGIN, -0.5 + TIE_MARGIN)
    )
    inner = np.where(sample.data > 0, inner, 0)
    negative = sample.signal * grain + real < 0
    low = np.where(negative | (inner == 0), -outer, inner)
    high = np.where(negative & (inner > 0), -inner, outer)
    return (low - real) / grain, (high - real) / grain


def _far_from_ties(
    signal: np.ndarray, grain: np.ndarray, real: np.ndarray, imaginary: np.ndarray
) -> np.ndarray:
    """Return the signal in steps, rounded to where the magnitude is further from a tie."""
    steps = np.floor(signal / SIGNAL_STEP) + np.arange(2)[:, None, None, None]
    magnitude = np.hypot(steps * SIGNAL_STEP * grain + real, imaginary)
    choice = np.abs(magnitude % 1 - 0.5).argmax(axis=0)
    return np.take_along_axis(steps, choice[None], axis=0)[0]


def make_space() -> Space:
    """Return the coordinates of all voxels."""
    from scipy.spatial import cKDTree

    w, y, z = (
        np.arange(n, dtype=np.float32) - origin for n, origin in zip(SHAPE, PMJ_VOXEL, strict=True)
    )
    plane = np.stack(np.meshgrid(y, z, indexing="ij"), axis=-1)
    s, axis, forwards = cord_axis()
    _, nearest = cKDTree(axis).query(plane.reshape(-1, 2))
    nearest = nearest.reshape(plane.shape[:2])
    offset, front = plane - axis[nearest], forwards[nearest]
    down = np.stack([front[..., 1], -front[..., 0]], axis=-1)
    along = s[nearest] + (offset * down).sum(axis=-1)
    ahead = (offset * front).sum(axis=-1)
    return Space(
        w[:, None, None],
        y[None, :, None],
        z[None, None, :],
        along[None].astype(np.float32),
        ahead[None].astype(np.float32),
    )


def cord_axis() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the axis of the cord in the mid-sagittal plane.

    Returns
    -------
    s : ndarray of float, shape (n,)
        Distance from the PMJ in mm, 0.25 mm apart.
    points : ndarray of float, shape (n, 2)
        y and z of the axis in mm.
    forwards : ndarray of float, shape (n, 2)
        Unit vector (y, z) at a right angle to the axis.
    """
    from scipy.interpolate import PchipInterpolator

    step = 0.25
    s = np.arange(TILT[0][0], TILT[-1][0], step)
    tilt = np.deg2rad(PchipInterpolator(*zip(*TILT, strict=True))(s))
    points = np.stack([np.sin(tilt), -np.cos(tilt)], axis=1).cumsum(axis=0) * step
    return s, points - points[np.abs(s).argmin()], np.stack([np.cos(tilt), np.sin(tilt)], axis=1)


def paint_soft_tissue(image: np.ndarray, space: Space, rng: np.random.Generator) -> None:
    """Paint muscle with its fat, the fat under the skin, and the skin."""
    depth = -_outline_distance(SKIN, space.y, space.z) - space.w**2 / 130
    grain, strands = texture(rng, (1, 1, 4)), texture(rng, (1.5, 1.5, 7))
    sheets, patches = texture(rng, (5, 5, 14)), texture(rng, (9, 9, 20))
    muscle = SIGNAL["muscle"] * (1 + 0.2 * grain)
    behind = np.clip(-space.v / 12 - 0.8, 0, 1)
    fatty = np.clip(strands + 0.5 * patches - 1.3, 0, 1) + np.clip(1 - 7 * np.abs(sheets), 0, 1) / 2
    _paint(image, -depth, muscle + behind * fatty * (SIGNAL["fat"] - muscle))
    fat = np.where(space.v < 0, _column(FAT_OF_BACK, space.z), 3.0) + patches
    _paint(image, np.maximum(depth - fat, -depth), SIGNAL["fat"] * (1 + 0.12 * strands))
    _paint(image, np.abs(depth - 0.7) - 0.8, SIGNAL["skin"])


def paint_throat_and_face(image: np.ndarray, space: Space) -> None:
    """Paint tongue, jaw, palate, airway, oesophagus and breastbone."""
    for outline, roundness, tissue in (
        (TONGUE, 0.05, "tongue"),
        (PALATE, 0.01, "marrow"),
        (JAW, 0.01, "cortical bone"),
        (STERNUM, 0.01, "cortical bone"),
        (NOSE_AIRWAY, 0.05, "air"),
        (THROAT, 0.08, "air"),
    ):
        distance = _outline_distance(outline, space.y, space.z) + roundness * space.w**2
        if tissue == "air":
            _paint(image, distance - 2.0, SIGNAL["nerve"])
        _paint(image, distance, SIGNAL[tissue])
        if tissue == "cortical bone":
            _paint(image, distance + 1.8, SIGNAL["marrow"])
    w = np.abs(space.w)
    lung = _common(_outline_distance(LUNG, space.y, space.z), 15 - w) + (w - 30) ** 2 / 60
    _paint(image, lung, SIGNAL["air"])
    gullet = _outline_distance(OESOPHAGUS, space.y, space.z) + space.w**2 / 30
    _paint(image, gullet, SIGNAL["nerve"])
    _paint(image, gullet + 1.7, SIGNAL["ligament"])


def paint_head(image: np.ndarray, space: Space, rng: np.random.Generator) -> None:
    """Paint the skull base, the cerebellum, the pons and the CSF around them."""
    s, v, w = space.s, space.v, space.w
    skull = _outline_distance(CRANIUM, s, v) + w**2 / 120
    _paint(image, skull - 7, SIGNAL["cortical bone"])
    _paint(image, np.abs(skull - 3.7) - 1.6, SIGNAL["marrow"])
    clivus = np.maximum(_outline_distance(CLIVUS, s, v), np.abs(w) - 14)
    _paint(image, clivus, SIGNAL["cortical bone"])
    _paint(image, clivus + 1.5, SIGNAL["marrow"])
    _paint(image, skull, SIGNAL["csf"])
    wander = texture(rng, (4, 4, 4))
    folia = 1 + 0.3 * np.clip(np.sin(np.hypot(s + 12, v + 20) * 1.5 + 2 * wander), 0, 1)
    cerebellum = _outline_distance(CEREBELLUM, s, v) + 0.6 * wander + w**2 / 500
    _paint(image, cerebellum, SIGNAL["gray matter"] * folia)
    brainstem = np.maximum(_ellipse(v, w, 9.0, 15.0), s + 2)
    pons = np.hypot(_ellipse(s + 14, v - 7, 13.5, 14.0).clip(-9) + 9, 0.5 * w) - 9
    _paint(image, np.minimum(brainstem, pons), SIGNAL["white matter"])
    ventricle = np.maximum(_outline_distance(FOURTH_VENTRICLE, s, v), np.abs(w) - 6)
    _paint(image, ventricle, SIGNAL["csf"])
    _paint(image, np.hypot(v - 23.5, w - 1) + np.maximum(0, s + 2) - 1.8, SIGNAL["air"])


def ruffle(space: Space, rng: np.random.Generator, *, size: float) -> Space:
    """Return cord coordinates bent at random by `size` mm (SD), for shapes less than perfect."""
    bent = (space.s, space.v, space.w)
    s, v, w = (axis + size * texture(rng, (4, 4, 4)) for axis in bent)
    return Space(w, space.y, space.z, s, v)


def paint_arches(image: np.ndarray, space: Space) -> None:
    """Paint laminae, spinous processes, articular pillars and the ligaments between them."""
    s, v, w = space.s, space.v, np.abs(space.w)
    behind_canal = np.maximum(_sac_distance(space) - 2, v + 1)
    neck = 44 - s
    between = _distance_to(s + 0.4 * v, np.add(DISCS, -4.0))
    _paint(image, _common(np.abs(behind_canal - 1.5) - 1.7, neck), SIGNAL["ligament"])
    _paint_bone(image, _common(np.abs(behind_canal - 3) - 2.6, 4 - between, neck))
    pillar = np.hypot((w - 18) / 1.2, (v + 5) / 0.9) - 5.5
    facet = _distance_to(s + 0.7 * (v + 4), DISCS)
    _paint_bone(image, _common(pillar, 1.2 - facet, neck))
    tip, slope = _column(SPINOUS, s, 1), _column(SPINOUS, s, 2)
    beside = _distance_to(s + slope * (v + 12), (52.0, *np.add(DISCS, 10.5)))
    reach = _common(v + 10, -tip - v)
    spinous = _common(np.hypot(beside / 4, w / 3.5) * 3.5 - 3.5, reach, neck + 3)
    _paint(image, _common(spinous - 1.5, w - 2), SIGNAL["nerve"])
    _paint_bone(image, spinous)


def paint_bodies_and_discs(image: np.ndarray, space: Space) -> None:
    """Paint vertebral bodies, discs, the ligaments along them, pedicles and vertebral arteries."""
    s, v, w = space.s, space.v, np.abs(space.w)
    back = _sac_front(s) + 1.6
    half_depth, half_width = _column(BODIES, s, 1) / 2, _column(BODIES, s, 2)
    middle = back + half_depth
    q = (((v - middle) / half_depth) ** 4 + (w / half_width) ** 4) ** 0.25
    column = np.maximum((q - 1) * half_depth, 40 - s)
    from_disc = _distance_to(s, DISCS)
    arteries = np.maximum(np.hypot(w - half_width - 6, v - back - 1) - 2, np.abs(s - 80) - 48)
    beside = np.maximum(np.hypot((w - half_width - 4) / 1.3, v - back) - 6, 44 - s)
    _paint(image, beside, SIGNAL["fat"] * 0.85)
    pedicle = _common(
        np.abs(v - back + 1) - 3.5, w - 18, half_width - 2 - w, 4.5 - from_disc, 48 - s
    )
    _paint_bone(image, pedicle)
    _paint(image, arteries - 1, SIGNAL["fat"])
    _paint(image, arteries, SIGNAL["air"])
    _paint(image, column - 1.2, SIGNAL["ligament"])
    _paint_bone(image, np.maximum(column, 2.2 - from_disc))
    disc = np.maximum(column, from_disc - 1.7)
    nucleus = np.hypot((from_disc / 1.5), q * 1.45) * 1.2 - 1.2
    _paint(image, np.maximum(disc, 57 - s), SIGNAL["ligament"] * 1.6)
    _paint(image, np.maximum(nucleus, 57 - s), SIGNAL["disc"])


def paint_upper_neck(image: np.ndarray, space: Space) -> None:
    """Paint the dens of C2 and the atlas."""
    s, v, w = space.s, space.v, np.abs(space.w)
    dens_v = _sac_front(s) + 7.0
    dens = np.hypot(v - dens_v, w) - 5 + np.maximum(0, 22 - s) ** 2 / 8
    _paint(image, np.maximum(dens - 1.5, s - 42), SIGNAL["ligament"])
    _paint_bone(image, np.maximum(dens, s - 44))
    curve = w**2 / 45
    front = np.hypot((s - 27) / 1.5, v - dens_v - 9.5 + curve) - 3
    rear = np.hypot((s - 31) / 1.3, v + 0.5 * _column(SAC, s, 1) + 4.5 - curve) - 3
    masses = np.hypot(np.hypot((s - 28) / 1.3, (v - 5) / 1.2), w - 18) - 6
    axis_masses = np.hypot(np.hypot((s - 45) / 1.2, (v - 4) / 1.2), w - 17) - 6
    for bone in (np.maximum(front, w - 15), np.maximum(rear, w - 20), masses, axis_masses):
        _paint_bone(image, bone)


def paint_canal(image: np.ndarray, space: Space, rng: np.random.Generator) -> None:
    """Paint epidural fat, dura and CSF, which is uneven and darker in the chest from its flow."""
    below_skull = 17 - space.s
    sac = np.maximum(_sac_distance(space), below_skull)
    fat = np.where(space.v < 0, SIGNAL["fat"], SIGNAL["ligament"])
    _paint(image, np.maximum(sac - 2, below_skull + 8), fat)
    _paint(image, np.maximum(sac - 0.7, below_skull + 4), SIGNAL["ligament"])
    flow = 1 + 0.05 * texture(rng, (2.0, 2.0, 6.0))
    pulsation = 1 - 0.35 * np.clip((space.s - 140) / 50, 0, 1)
    _paint(image, sac, SIGNAL["csf"] * flow * pulsation)


def paint_nerves(image: np.ndarray, space: Space) -> None:
    """Paint the nerves and their ganglia outside the dura, on the way to the foramina."""
    for spinal_level in SPINAL_LEVELS:
        start = spinal_level.midpoint + spinal_level.height / 2
        half_width = float(_column(SAC, np.array(start), 2)) / 2
        out = np.abs(space.w) - half_width
        target = np.minimum(
            start + (spinal_level.exit - start) * out / 6, spinal_level.exit + out / 4
        )
        across = np.hypot(space.s - target, space.v - 1 - 0.15 * out)
        nerve = np.maximum(across - 1.3 - 1.4 * np.exp(-(((out - 8) / 3) ** 2)), -out)
        _paint(image, nerve, SIGNAL["nerve"])


def paint_rootlets(image: np.ndarray, space: Space, rng: np.random.Generator) -> np.ndarray:
    """Paint the rootlets between cord and dura.

    Returns
    -------
    ndarray of uint8, shape (i, j, k)
        Level of each rootlet voxel within the dura.
    """
    from scipy.spatial import cKDTree

    filaments = [filament for level in SPINAL_LEVELS for filament in make_filaments(level, rng)]
    points = np.concatenate([_to_voxels(points) for _, points in filaments])
    radii = np.concatenate([_column(ROOTLET_RADIUS, points[:, 0]) for _, points in filaments])
    levels = np.concatenate([np.full(len(points), level) for level, points in filaments])
    sac = _sac_distance(space)
    voxels = np.argwhere((sac < 1) & (space.s > 25) & (space.s < 175))
    distance, nearest = cKDTree(points).query(voxels, distance_upper_bound=2.0)
    share = _inside(distance - radii[np.minimum(nearest, len(radii) - 1)])
    index = tuple(voxels.T)
    image[index] += share * _inside(sac[index]) * (SIGNAL["rootlet"] - image[index])
    is_rootlet = (share >= _EDGE_OF_TRUTH) & (sac[index] < 0)
    truth = np.zeros(SHAPE, dtype=np.uint8)
    truth[tuple(voxels[is_rootlet].T)] = levels[nearest[is_rootlet]]
    return truth


def make_filaments(level: SpinalLevel, rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """Return the filaments of a level's four bundles.

    The filaments leave the cord along the upper part of the level's height. They fan in toward its
    lower end, where they reach the dura: steeply at T1, nearly level at C2. Rootlets make 45° to
    89° with the cord at C5, 23° to 41° at T1 (Clin Orthop Relat Res 2003;409:131).

    Returns
    -------
    list of (int, ndarray of float, shape (n, 3))
        Level, and points (s, v, w) in mm from cord to dura.
    """
    descent = 1.5 + 0.5 * (level.level - 2)
    top, bottom = level.midpoint - level.height / 2, level.midpoint + level.height / 2
    filaments = []
    for side in (-1, 1):
        for at_cord, at_dura, count in ((-46.0, -4.0, 6), (44.0, 24.0, 5)):
            for rank in np.linspace(0, 1, count):
                start = top + rank * (bottom - descent - top) + rng.normal(0, 0.2)
                end = bottom - (1 - rank) * 0.45 * (level.height - descent)
                path = _filament((start, end), np.deg2rad((at_cord, at_dura)), side)
                filaments.append((level.level, path))
    return filaments


def _filament(ends: tuple[float, float], angles: np.ndarray, side: int) -> np.ndarray:
    """Return points (s, v, w) from the cord's surface to the dura, half a mm apart or less."""
    start, end = ends
    cord_v, cord_w = (float(_column(CORD, np.array(start), c)) / 2 for c in (1, 2))
    sac_v, sac_w = (float(_column(SAC, np.array(end), c)) / 2 for c in (1, 2))
    middle = float(_column(SAC, np.array(end), 3))
    at_cord = np.array([cord_v * np.sin(angles[0]), side * cord_w * np.cos(angles[0])])
    at_dura = np.array([middle + sac_v * np.sin(angles[1]), side * sac_w * np.cos(angles[1])])
    way = np.linspace(0, 1, 60)[:, None]
    # They stand off the cord at once, then run down beside it.
    return np.hstack([start + (end - start) * way, at_cord + (at_dura - at_cord) * way**0.6])


def paint_cord(image: np.ndarray, space: Space) -> np.ndarray:
    """Paint medulla and cord with the butterfly of gray matter.

    Returns
    -------
    ndarray of bool, shape (i, j, k)
        The cord below the foramen magnum.
    """
    distance = np.maximum(_cord_distance(space), -2 - space.s)
    _paint(image, distance, SIGNAL["white matter"])
    v, w = space.v / _column(CORD, space.s, 1), np.abs(space.w) / _column(CORD, space.s, 2)
    ventral = np.hypot((v - 0.1) / 0.14, (w - 0.14) / 0.11)
    dorsal = np.hypot((v + 0.16) / 0.2, (w - 0.13 + 0.25 * (v + 0.16)) / 0.06)
    bridge = np.maximum(np.abs(v) / 0.06, w / 0.14)
    butterfly = np.minimum(np.minimum(ventral, dorsal), bridge) * 1.5 - 1.5
    _paint(image, np.maximum(butterfly, 24 - space.s), SIGNAL["gray matter"])
    return (distance < 0) & (space.s > 27)


def receive(image: np.ndarray, space: Space) -> np.ndarray:
    """Return the signal of the tissue that a spine coil receives, without noise.

    The coil lies behind the neck, so the signal falls off toward the face and at both ends.
    """
    depth = np.maximum(space.y + 70, 0) / 110
    return image * _column(RECEPTION, space.z) / (0.75 + depth**3) * (1 + space.w / 400)


def _paint(image: np.ndarray, distance: np.ndarray, signal: float | np.ndarray) -> None:
    """Mix a tissue in; a voxel cut by its surface takes its share (partial volume)."""
    image += _inside(distance) * (signal - image)


def _paint_bone(image: np.ndarray, distance: np.ndarray) -> None:
    _paint(image, distance, SIGNAL["cortical bone"])
    _paint(image, distance + 1.2, SIGNAL["marrow"])


def _inside(distance: np.ndarray) -> np.ndarray:
    """Return the share of a voxel inside a surface (distance in mm, negative inside)."""
    return np.clip(0.5 - distance / EDGE, 0, 1).astype(np.float32)


def _column(table: Table, at: np.ndarray, column: int = 1) -> np.ndarray:
    """Interpolate a column of a table whose first column is a position."""
    values = np.array(table)
    return np.interp(at, values[:, 0], values[:, column]).astype(np.float32)


def _distance_to(values: np.ndarray, centers: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the distance of each value to the nearest of some centers in ascending order."""
    centers = np.asarray(centers, dtype=np.float32)
    bounds = (centers[1:] + centers[:-1]) / 2
    return np.abs(values - centers[np.searchsorted(bounds, values)])


def _common(*distances: np.ndarray | float) -> np.ndarray:
    """Return the distance to what several shapes have in common."""
    return np.asarray(reduce(np.maximum, distances))


def _ellipse(
    a: np.ndarray, b: np.ndarray, half_a: np.ndarray | float, half_b: np.ndarray | float
) -> np.ndarray:
    """Return about the distance to an ellipse, measured toward its center; negative inside."""
    q = np.hypot(a / half_a, b / half_b) + 1e-6
    return np.hypot(a, b) * (1 - 1 / q)


def _cord_distance(space: Space) -> np.ndarray:
    half_v, half_w = (_column(CORD, space.s, column) / 2 for column in (1, 2))
    return _ellipse(space.v, space.w, half_v, half_w)


def _sac_distance(space: Space) -> np.ndarray:
    half_v, half_w = (_column(SAC, space.s, column) / 2 for column in (1, 2))
    return _ellipse(space.v - _column(SAC, space.s, 3), space.w, half_v, half_w)


def _sac_front(s: np.ndarray) -> np.ndarray:
    return _column(SAC, s, 1) / 2 + _column(SAC, s, 3)


def _outline_distance(outline: Outline, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distance to a closed outline with its corners cut, negative inside."""
    corners = np.array(outline, dtype=np.float32)
    for _ in range(2):
        after = np.roll(corners, -1, axis=0)
        corners = np.stack([0.75 * corners + 0.25 * after, 0.25 * corners + 0.75 * after], 1)
        corners = corners.reshape(-1, 2)
    shape = np.broadcast_shapes(a.shape, b.shape)
    squared, inside = np.full(shape, np.inf, dtype=np.float32), np.zeros(shape, dtype=bool)
    for (a0, b0), (a1, b1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        da, db = a1 - a0, b1 - b0
        t = np.clip(((a - a0) * da + (b - b0) * db) / (da**2 + db**2 + 1e-9), 0, 1)
        squared = np.minimum(squared, (a - a0 - t * da) ** 2 + (b - b0 - t * db) ** 2)
        crosses = ((b0 > b) != (b1 > b)) & (a < a0 + (b - b0) * da / (db if db else 1e-9))
        inside ^= crosses
    return np.where(inside, -1, 1) * np.sqrt(squared)


def _to_voxels(points: np.ndarray) -> np.ndarray:
    """Return the voxel coordinates, shape (n, 3), of points (s, v, w)."""
    s, axis, forwards = cord_axis()
    y, z = (
        np.interp(points[:, 0], s, axis[:, i])
        + points[:, 1] * np.interp(points[:, 0], s, forwards[:, i])
        for i in (0, 1)
    )
    return np.stack([points[:, 2], y, z], axis=1) + PMJ_VOXEL


def main(words: Sequence[str] | None = None) -> None:
    """Write a sample, or the file of the package."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, nargs="?", help="File for the volume.")
    parser.add_argument("--seed", type=int, default=0, help="Variant to make.")
    parser.add_argument("--cord", type=Path, help="File for the cord mask.")
    parser.add_argument("--levels", type=Path, help="File for the true rootlets.")
    parser.add_argument("--pack", type=Path, help="File for the packed volume.")
    arguments = parser.parse_args(words)
    sample = make_sample(arguments.seed)
    files = {"output": sample.data, "cord": sample.cord.astype(np.uint8), "levels": sample.levels}
    for name, array in files.items():
        if path := getattr(arguments, name):
            save(array, path)
    if arguments.pack:
        arguments.pack.write_bytes(pack(sample))


if __name__ == "__main__":
    main()
