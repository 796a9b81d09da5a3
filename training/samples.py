"""Training samples: an anatomy bent, warped, repainted and degraded, with its labels.

The idea is SynthSeg's (Billot et al. 2023, doi:10.1016/j.media.2023.102789): labels are known
exactly because the image is made from them, and what a scanner may change is drawn at random. The
surroundings come from the template or a real image, so they look like a neck; only the spinal canal
is painted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.anatomies import Anatomy
from training.artifacts import ImageSynthesizer
from training.template import C1, FIRST_LEVEL

SPINE_MM, SLIDE_MM = 15.0, 9.0
"""Half of what moves as one with the spine, and the spread of how far the rest slides along it."""

C1_SHARES = {"both": 0.3, "ventral": 0.3}
"""How often rootlets of C1 are painted: ventral and dorsal ones, or ventral ones alone."""


@dataclass(frozen=True)
class SampleSettings:
    """How samples of one kind are cut.

    Parameters
    ----------
    shape : tuple of int
        Voxels of a sample along (z, y, x).
    voxel_mm : float
    wander_mm : tuple of float
        Spread of the sample's middle about the canal's, along (y, x).
    away : float
        Share of samples whose middle is well beside the canal.
    painted : float
        Share of samples whose canal is repainted, where the anatomy allows it.
    lost : float
        Share of samples cut at each of the six sides.
    short : float
        Share of samples with a short field of view, see :meth:`ImageSynthesizer.field_of_view`.
    hidden : float
        Share of samples of which parts are hidden.
    thickest_mm : float
        Largest voxel size along one axis.
    scales : tuple of float
        Least and largest size of a body against that of the anatomy.
    stretched_mm : float
        Spread of slow shifts along the cord: vertebrae grow taller or flatter.
    acquired_mm : tuple of float, optional
        Least and largest voxel size of the scans that samples are resampled from, as nnU-Net does
        with what a network sees. None if a sample is the scan itself.
    """

    shape: tuple[int, int, int]
    voxel_mm: float
    wander_mm: tuple[float, float]
    away: float
    painted: float
    lost: float
    short: float = 0.0
    hidden: float = 0.0
    thickest_mm: float = 2.5
    scales: tuple[float, float] = (0.88, 1.15)
    stretched_mm: float = 0.0
    acquired_mm: tuple[float, float] | None = None


STARTER = SampleSettings(
    (96, 48, 48), 0.8, (5.0, 3.0), away=0.08, painted=1.0, lost=0.08, acquired_mm=(0.5, 1.3)
)
LOCATOR = SampleSettings(
    (80, 64, 24), 3.0, (15.0, 3.0), away=0.0, painted=0.55, lost=0.2,
    short=0.35, hidden=0.5, thickest_mm=8.0, scales=(0.78, 1.25), stretched_mm=6.0,
)  # fmt: skip
WHOLE = SampleSettings((232, 128, 60), 0.9, (3.0, 2.0), away=0.0, painted=1.0, lost=0.0)
"""Cases for the evaluation: the whole neck, enough for the locator to judge from."""


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """A sample; all tensors have the shape (z, y, x) of its settings.

    Parameters
    ----------
    image : tensor of float32
        Mean 0 and standard deviation 1 inside the field of view, 0 outside.
    levels : tensor of uint8
        Level of the rootlets, 2 to 9, where a voxel is mostly rootlet.
    classes : tensor of uint8
        What a locator should say, see :class:`~training.anatomies.Anatomy`.
    negative : bool
    family : str
        Kind of contrast.
    anatomy : str
        Name of the anatomy it was cut from.
    contrast_to_noise : float
        Difference of rootlets and CSF over the standard deviation of the noise; 0 if no rootlets
        were painted.
    cord_contrast : float
        Difference of cord and CSF, where the brightest tissues are about 1; 0 likewise.
    """

    image: Any
    levels: Any
    classes: Any
    negative: bool
    family: str
    anatomy: str
    contrast_to_noise: float
    cord_contrast: float


class SampleMaker:
    """Makes samples from anatomies, always the same ones for the same seed.

    Parameters
    ----------
    groups : sequence of (float, sequence of Anatomy)
        Share of the samples → anatomies they are cut from.
    settings : SampleSettings
    seed : int or sequence of int
    synthesizer : type of ImageSynthesizer, optional
        What paints and degrades them.
    """

    def __init__(
        self,
        groups: Sequence[tuple[float, Sequence[Anatomy]]],
        settings: SampleSettings,
        seed: Any,
        *,
        synthesizer: type[ImageSynthesizer] = ImageSynthesizer,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.settings = settings
        self.synthesizer = synthesizer
        self.groups = [(share, anatomies) for share, anatomies in groups if anatomies]

    def make(self, family: str | None = None) -> TrainingSample:
        """Return the next sample, of a given or a random kind of contrast."""
        shares = np.array([share for share, _ in self.groups])
        anatomies = self.groups[int(self.rng.choice(len(shares), p=shares / shares.sum()))][1]
        anatomy = anatomies[int(self.rng.integers(len(anatomies)))]
        settings = self.settings
        synthesizer = self.synthesizer(
            self.rng, settings.shape, settings.voxel_mm, settings.thickest_mm
        )
        places = self._places(anatomy, synthesizer)
        surroundings, canal = self._moved_canal(anatomy, places, synthesizer)
        image = _interpolated(anatomy.image[None], surroundings, "bilinear")[0].clamp(min=0)
        inside = _inside(anatomy.image.shape, surroundings)
        levels = _interpolated(anatomy.levels[None], canal, "nearest")[0].byte()
        classes = _interpolated(anatomy.classes[None], canal, "nearest")[0].byte()
        family = family or synthesizer.draw_family()
        image = synthesizer.recolored(image, family)
        if anatomy.tissues is not None and self.rng.random() < self.settings.painted:
            cord = self._moved_cord(anatomy, canal, synthesizer)
            tissues = _interpolated(anatomy.tissues, canal, "bilinear")
            tissues[3] *= self._shown(anatomy, canal, levels)
            image = synthesizer.painted(image, tissues, cord, family)
            levels = _visible(levels, tissues[3], cord[0])
        levels = levels * (levels >= FIRST_LEVEL)
        if self.rng.random() < self.settings.hidden:
            image = synthesizer.hidden(image)
        if self.settings.acquired_mm is None:
            image = synthesizer.degraded(image, family)
        else:
            image = synthesizer.acquired(image, family, self.settings.acquired_mm)
        inside &= synthesizer.field_of_view(self.settings.lost, self.settings.short)
        levels, classes = levels * inside, classes * inside
        clear = synthesizer.contrast / max(synthesizer.noise_level, 1e-6)
        image, cord = synthesizer.normalized(image, inside), synthesizer.cord_contrast
        return TrainingSample(
            image, levels, classes, anatomy.negative, family, anatomy.name, clear, cord
        )

    def _places(self, anatomy: Anatomy, synthesizer: ImageSynthesizer) -> list[Any]:
        """Return where each voxel of a sample lies in the anatomy: three tensors, in voxels."""
        import torch

        rng, shape = self.rng, self.settings.shape
        scale = (
            self.settings.voxel_mm
            / anatomy.voxel_mm
            / (rng.uniform(*self.settings.scales) * _near_one(rng))
        )
        axes = [
            (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * float(s)
            for n, s in zip(shape, scale, strict=True)
        ]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        x, y = _turned(x, y, rng.normal(0, 4))
        y, z = _turned(y, z, rng.normal(0, 7))
        x, z = _turned(x, z, rng.normal(0, 3))
        z, y, x = self._bent(anatomy, z, y, x, axes)
        middle = self._middle(anatomy)
        mm = 1 / anatomy.voxel_mm
        places = [
            part + c + synthesizer.noise(lengths, amount * mm)
            for part, c, lengths, amount in zip(
                (z, y, x),
                middle,
                ((14, 25, 25), (14, 18, 18), (14, 18, 18)),
                (1.5, 0.8, 0.7),
                strict=True,
            )
        ]
        if self.settings.stretched_mm:
            places[0] = places[0] + self._slid(anatomy, places, synthesizer)
            places[0] = places[0] + synthesizer.noise(
                (60, 300, 300), self.settings.stretched_mm * mm
            )
            places[0] = places[0] + synthesizer.noise(
                (28, 300, 300), self.settings.stretched_mm / 3 * mm
            )
            places[1] = places[1] + synthesizer.noise((50, 50, 300), 2.0 * mm)
        if rng.random() < 0.5:
            places[2] = 2 * anatomy.line[:, 1].mean() - places[2]
        return places

    def _slid(self, anatomy: Anatomy, places: Any, synthesizer: ImageSynthesizer) -> Any:
        """Return how far what lies in front of the spine, or behind it, slides along it.

        Chin, throat and shoulders stand at other heights in everyone, so they must not show levels.
        """
        ahead = (places[1] - _line_at(anatomy, places[0])[0]) * anatomy.voxel_mm
        slides = [synthesizer.noise((150, 300, 300), SLIDE_MM / anatomy.voxel_mm) for _ in range(2)]
        share = [((side - SPINE_MM) / SPINE_MM / 3).clamp(0, 1.5) for side in (ahead, -ahead)]
        return slides[0] * share[0] + slides[1] * share[1]

    def _bent(self, anatomy: Anatomy, z: Any, y: Any, x: Any, axes: Any) -> tuple[Any, Any, Any]:
        """Return places of a spine with another curvature; slices stay at right angles to it."""
        import torch

        rng, mm = self.rng, 1 / anatomy.voxel_mm
        half = float(axes[0][-1]) + 1e-6
        unit = axes[0] / half
        long = (half / mm / 40) ** 1.5
        straight = 1.6 if anatomy.name == "template" else 1.0
        curve = straight * long * mm * (
            rng.normal(0, 2.2) * (unit**2 - 1 / 3) + rng.normal(0, 1.2) * (unit**3 - 0.6 * unit)
        )  # fmt: skip
        sideways = long * mm * rng.normal(0, 0.7) * (unit**2 - 1 / 3)
        slope = torch.gradient(curve, spacing=float(axes[0][1] - axes[0][0]))[0]
        z = z - slope[:, None, None] * axes[1][None, :, None]
        return z, y + curve[:, None, None], x + sideways[:, None, None]

    def _middle(self, anatomy: Anatomy) -> np.ndarray:
        """Return the middle of a sample: on the canal, near it, or well beside it."""
        rng, mm = self.rng, 1 / anatomy.voxel_mm
        reach = 0.25 * self.settings.shape[0] * self.settings.voxel_mm * mm
        low, high = anatomy.span
        z = rng.uniform(min(low + reach, high), max(high - 0.4 * reach, low))
        if self.settings is WHOLE:  # the neck, whatever else the anatomy shows
            present = np.flatnonzero((anatomy.levels >= FIRST_LEVEL).any(2).any(1).numpy())
            z = (present[0] + present[-1]) / 2 + rng.normal(0, 8 * mm)
        elif anatomy.name == "template" and rng.random() < 0.6:
            z = rng.uniform(320, 490) * mm
        window = np.abs(np.arange(len(anatomy.line)) - z) < 2 * reach
        along = (
            anatomy.line[window].mean(axis=0) + anatomy.line[int(np.clip(z, 0, len(window) - 1))]
        ) / 2
        beside = rng.normal(0, self.settings.wander_mm) * mm
        if rng.random() < self.settings.away:
            beside[0] += rng.choice([-1, 1]) * rng.uniform(25, 40) * mm
        return np.array([z, *(along + beside)])

    def _moved_canal(
        self, anatomy: Anatomy, places: Any, synthesizer: ImageSynthesizer
    ) -> tuple[Any, Any]:
        """Return the places for the surroundings, and those for what is inside the canal.

        The levels shift against the vertebrae, and the canal is wider or narrower.
        """
        if anatomy.tissues is None:
            return places, places
        rng, mm = self.rng, 1 / anatomy.voxel_mm
        if self.settings is LOCATOR:
            return places, places
        shift = self._level_shift(synthesizer, mm)
        center = _line_at(anatomy, places[0])
        width = rng.uniform(0.85, 1.2)
        canal = [places[0] + shift]
        for part, middle in zip(places[1:], center, strict=True):
            canal.append(middle + (part - middle) / (width * rng.uniform(0.93, 1.07)))
        return places, canal

    def _shown(self, anatomy: Anatomy, canal: Any, levels: Any) -> Any:
        """Return which voxels may be painted as rootlet (bool, shape (z, y, x)): not all of C1's.

        The rootlets of C1 are thin, its dorsal ones are often missing, and no reference labels
        them. The draws are from a stream of their own, so all else in a sample stays as it is.
        """
        from torch.nn.functional import max_pool3d

        kind = self.rng.spawn(1)[0].random()
        if kind < C1_SHARES["both"]:
            return levels >= 0
        near = max_pool3d((levels == C1).float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
        first = near & (levels < FIRST_LEVEL)
        if kind < C1_SHARES["both"] + C1_SHARES["ventral"]:
            first &= canal[1] < _line_at(anatomy, canal[0])[0]
        return ~first

    def _level_shift(self, synthesizer: ImageSynthesizer, mm: float) -> Any:
        """Return how far levels lie from where the vertebrae have them, in voxels of `mm` a mm."""
        return self.rng.normal(0, 2.5) * mm + synthesizer.noise((18, 40, 40), 0.7 * mm)

    def _moved_cord(self, anatomy: Anatomy, canal: Any, synthesizer: ImageSynthesizer) -> Any:
        """Return cord and gray matter, the cord being thicker, thinner or somewhere else."""
        rng, mm = self.rng, 1 / anatomy.voxel_mm
        places = [canal[0]]
        for part, middle, spread in zip(
            canal[1:], _line_at(anatomy, canal[0]), (0.8, 0.4), strict=True
        ):
            moved = part - rng.normal(0, spread) * mm - synthesizer.noise((18, 99, 99), 0.3 * mm)
            places.append(middle + (moved - middle) / rng.uniform(0.85, 1.12))
        return _interpolated(anatomy.tissues[::2], places, "bilinear")


def _visible(levels: Any, rootlets: Any, cord: Any) -> Any:
    """Return levels where at least half a voxel is rootlet, and none under a thicker cord.

    A rootlet is about a voxel thin: whether it holds a voxel's middle is chance, its share is not.

    Parameters
    ----------
    levels : tensor of uint8, shape (z, y, x)
        Level of the rootlet at the middle of each voxel.
    rootlets, cord : tensor, shape (z, y, x)
        Share of each voxel, 0 to 1.
    """
    from torch.nn.functional import max_pool3d

    near = max_pool3d(levels.float()[None, None], 3, stride=1, padding=1)[0, 0].byte()
    return levels.where(levels > 0, near) * ((rootlets >= 0.5) & (cord < 0.5))


def _near_one(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(0.94, 1.06, 3)


def _turned(a: Any, b: Any, degrees: float) -> tuple[Any, Any]:
    cosine, sine = float(np.cos(np.deg2rad(degrees))), float(np.sin(np.deg2rad(degrees)))
    return a * cosine - b * sine, a * sine + b * cosine


def _line_at(anatomy: Anatomy, z: Any) -> list[Any]:
    """Return the canal's middle (y, x) at slices (tensor of any shape)."""
    import torch

    rows = z[:, z.shape[1] // 2, z.shape[2] // 2].numpy()
    known = np.arange(len(anatomy.line))
    return [
        torch.from_numpy(np.interp(rows, known, c).astype(np.float32))[:, None, None]
        for c in anatomy.line.T
    ]


def _inside(shape: Sequence[int], places: Any) -> Any:
    """Return which places lie inside a volume."""
    result = None
    for part, size in zip(places, shape, strict=True):
        within = (part >= 0) & (part <= size - 1)
        result = within if result is None else result & within
    return result


def _interpolated(fields: Any, places: Any, mode: str) -> Any:
    """Return values (channel, z, y, x) of fields at places; zero outside the fields.

    Only the part of the fields that the places cover is converted to single precision.
    """
    import torch
    from torch.nn.functional import grid_sample

    low = [max(int(part.min()) - 1, 0) for part in places]
    high = [min(int(part.max()) + 3, n) for part, n in zip(places, fields.shape[1:], strict=True)]
    if any(b - a < 2 for a, b in zip(low, high, strict=True)):
        return torch.zeros((len(fields), *places[0].shape))
    window = (slice(None), *map(slice, low, high))
    cut = fields[window].float()
    unit = [2 * (part - a) / (b - a - 1) - 1 for part, a, b in zip(places, low, high, strict=True)]
    grid = torch.stack(unit[::-1], dim=-1)[None].float()
    return grid_sample(cut[None], grid, mode=mode, padding_mode="zeros", align_corners=True)[0]


def starter_groups(anatomies: Sequence[Anatomy]) -> list[tuple[float, Sequence[Anatomy]]]:
    """Return how often the starter's samples come from which anatomies."""
    return [
        (0.3, [one for one in anatomies if one.name == "template"]),
        (0.6, [one for one in anatomies if one.name.startswith("errsm")]),
        (0.1, [one for one in anatomies if one.name.startswith("sample")]),
        (0.25, [one for one in anatomies if one.name.startswith("segmented")]),
    ]


def locator_groups(anatomies: Sequence[Anatomy]) -> list[tuple[float, Sequence[Anatomy]]]:
    """Return how often the locator's samples come from which anatomies."""
    return [
        (0.17, [one for one in anatomies if one.name == "template"]),
        (0.6, [one for one in anatomies if one.name.startswith("errsm")]),
        (0.08, [one for one in anatomies if one.name.startswith("sample")]),
        (0.15, [one for one in anatomies if one.negative]),
    ]
