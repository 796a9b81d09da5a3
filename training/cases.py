"""Training cases: a world bent, warped, repainted and degraded, with its labels.

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

from training.artefacts import ImageSynthesizer
from training.template import C1, FIRST_LEVEL
from training.worlds import World

SPINE_MM, SLIDE_MM = 15.0, 9.0
"""Half of what moves as one with the spine, and the spread of how far the rest slides along it."""

C1_SHARES = {"both": 0.3, "ventral": 0.3}
"""How often rootlets of C1 are painted: ventral and dorsal ones, or ventral ones alone."""


@dataclass(frozen=True)
class Recipe:
    """How cases of one kind are cut.

    Parameters
    ----------
    shape : tuple of int
        Voxels of a case along (z, y, x).
    voxel_mm : float
    wander_mm : tuple of float
        Spread of the case's middle about the canal's, along (y, x).
    away : float
        Share of cases whose middle is well beside the canal.
    painted : float
        Share of cases whose canal is repainted, where the world allows it.
    lost : float
        Share of cases cut at each of the six sides.
    short : float
        Share of cases with a short field of view, see :meth:`ImageSynthesizer.field_of_view`.
    hidden : float
        Share of cases of which parts are hidden.
    thickest_mm : float
        Largest voxel size along one axis.
    scales : tuple of float
        Least and largest size of a body against that of the world.
    stretched_mm : float
        Spread of slow shifts along the cord: vertebrae grow taller or flatter.
    acquired_mm : tuple of float, optional
        Least and largest voxel size of the scans that cases are resampled from, as what a network
        sees is; None if a case is the scan itself.
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


STARTER = Recipe(
    (96, 48, 48), 0.8, (5.0, 3.0), away=0.08, painted=1.0, lost=0.08, acquired_mm=(0.5, 1.3)
)
LOCATOR = Recipe(
    (80, 64, 24), 3.0, (15.0, 3.0), away=0.0, painted=0.55, lost=0.2,
    short=0.35, hidden=0.5, thickest_mm=8.0, scales=(0.78, 1.25), stretched_mm=6.0,
)  # fmt: skip
WHOLE = Recipe((232, 128, 60), 0.9, (3.0, 2.0), away=0.0, painted=1.0, lost=0.0)
"""Cases for the evaluation: the whole neck, enough for the locator to judge from."""


@dataclass(frozen=True, eq=False)
class Case:
    """A case; all tensors have the shape (z, y, x) of its recipe.

    Parameters
    ----------
    image : tensor of float32
        Mean 0 and standard deviation 1 inside the field of view, 0 outside.
    levels : tensor of uint8
        Level of the rootlets, 2 to 9, where a voxel is mostly rootlet.
    classes : tensor of uint8
        What a locator should say, see :class:`~training.worlds.World`.
    negative : bool
    family : str
        Kind of contrast.
    world : str
        Name of the world it was cut from.
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
    world: str
    contrast_to_noise: float
    cord_contrast: float


class CaseMaker:
    """Makes cases from worlds, always the same ones for the same seed.

    Parameters
    ----------
    groups : sequence of (float, sequence of World)
        Share of the cases → worlds they are cut from.
    recipe : Recipe
    seed : int or sequence of int
    artist : type of ImageSynthesizer, optional
        What paints and degrades them.
    """

    def __init__(
        self,
        groups: Sequence[tuple[float, Sequence[World]]],
        recipe: Recipe,
        seed: Any,
        *,
        artist: type[ImageSynthesizer] = ImageSynthesizer,
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.recipe = recipe
        self.artist = artist
        self.groups = [(share, worlds) for share, worlds in groups if worlds]

    def make(self, family: str | None = None) -> Case:
        """Return the next case, of a given or a random kind of contrast."""
        shares = np.array([share for share, _ in self.groups])
        worlds = self.groups[int(self.rng.choice(len(shares), p=shares / shares.sum()))][1]
        world = worlds[int(self.rng.integers(len(worlds)))]
        recipe = self.recipe
        artist = self.artist(self.rng, recipe.shape, recipe.voxel_mm, recipe.thickest_mm)
        places = self._places(world, artist)
        surroundings, canal = self._moved_canal(world, places, artist)
        image = _sample(world.image[None], surroundings, "bilinear")[0].clamp(min=0)
        inside = _inside(world.image.shape, surroundings)
        levels = _sample(world.levels[None], canal, "nearest")[0].byte()
        classes = _sample(world.classes[None], canal, "nearest")[0].byte()
        family = family or artist.draw_family()
        image = artist.recolored(image, family)
        if world.tissues is not None and self.rng.random() < self.recipe.painted:
            cord = self._moved_cord(world, canal, artist)
            tissues = _sample(world.tissues, canal, "bilinear")
            tissues[3] *= self._shown(world, canal, levels)
            image = artist.painted(image, tissues, cord, family)
            levels = _visible(levels, tissues[3], cord[0])
        levels = levels * (levels >= FIRST_LEVEL)
        if self.rng.random() < self.recipe.hidden:
            image = artist.hidden(image)
        if self.recipe.acquired_mm is None:
            image = artist.degraded(image, family)
        else:
            image = artist.acquired(image, family, self.recipe.acquired_mm)
        inside &= artist.field_of_view(self.recipe.lost, self.recipe.short)
        levels, classes = levels * inside, classes * inside
        clear = artist.contrast / max(artist.noise_level, 1e-6)
        image, cord = artist.normalized(image, inside), artist.cord_contrast
        return Case(image, levels, classes, world.negative, family, world.name, clear, cord)

    def _places(self, world: World, artist: ImageSynthesizer) -> list[Any]:
        """Return where each voxel of a case lies in the world: three tensors, in voxels."""
        import torch

        rng, shape = self.rng, self.recipe.shape
        scale = (
            self.recipe.voxel_mm
            / world.voxel_mm
            / (rng.uniform(*self.recipe.scales) * _near_one(rng))
        )
        axes = [
            (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * float(s)
            for n, s in zip(shape, scale, strict=True)
        ]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        x, y = _turned(x, y, rng.normal(0, 4))
        y, z = _turned(y, z, rng.normal(0, 7))
        x, z = _turned(x, z, rng.normal(0, 3))
        z, y, x = self._bent(world, z, y, x, axes)
        middle = self._middle(world)
        mm = 1 / world.voxel_mm
        places = [
            part + c + artist.noise(lengths, amount * mm)
            for part, c, lengths, amount in zip(
                (z, y, x),
                middle,
                ((14, 25, 25), (14, 18, 18), (14, 18, 18)),
                (1.5, 0.8, 0.7),
                strict=True,
            )
        ]
        if self.recipe.stretched_mm:
            places[0] = places[0] + self._slid(world, places, artist)
            places[0] = places[0] + artist.noise((60, 300, 300), self.recipe.stretched_mm * mm)
            places[0] = places[0] + artist.noise((28, 300, 300), self.recipe.stretched_mm / 3 * mm)
            places[1] = places[1] + artist.noise((50, 50, 300), 2.0 * mm)
        if rng.random() < 0.5:
            places[2] = 2 * world.line[:, 1].mean() - places[2]
        return places

    def _slid(self, world: World, places: Any, artist: ImageSynthesizer) -> Any:
        """Return how far what lies in front of the spine, or behind it, slides along it.

        Chin, throat and shoulders stand at other heights in everyone, so they must not tell levels.
        """
        ahead = (places[1] - _line_at(world, places[0])[0]) * world.voxel_mm
        slides = [artist.noise((150, 300, 300), SLIDE_MM / world.voxel_mm) for _ in range(2)]
        share = [((side - SPINE_MM) / SPINE_MM / 3).clamp(0, 1.5) for side in (ahead, -ahead)]
        return slides[0] * share[0] + slides[1] * share[1]

    def _bent(self, world: World, z: Any, y: Any, x: Any, axes: Any) -> tuple[Any, Any, Any]:
        """Return places of a spine with another curvature; slices stay at right angles to it."""
        import torch

        rng, mm = self.rng, 1 / world.voxel_mm
        half = float(axes[0][-1]) + 1e-6
        unit = axes[0] / half
        long = (half / mm / 40) ** 1.5
        straight = 1.6 if world.name == "template" else 1.0
        curve = straight * long * mm * (
            rng.normal(0, 2.2) * (unit**2 - 1 / 3) + rng.normal(0, 1.2) * (unit**3 - 0.6 * unit)
        )  # fmt: skip
        sideways = long * mm * rng.normal(0, 0.7) * (unit**2 - 1 / 3)
        slope = torch.gradient(curve, spacing=float(axes[0][1] - axes[0][0]))[0]
        z = z - slope[:, None, None] * axes[1][None, :, None]
        return z, y + curve[:, None, None], x + sideways[:, None, None]

    def _middle(self, world: World) -> np.ndarray:
        """Return the middle of a case: on the canal, near it, or well beside it."""
        rng, mm = self.rng, 1 / world.voxel_mm
        reach = 0.25 * self.recipe.shape[0] * self.recipe.voxel_mm * mm
        low, high = world.span
        z = rng.uniform(min(low + reach, high), max(high - 0.4 * reach, low))
        if self.recipe is WHOLE:  # the neck, whatever else the world shows
            present = np.flatnonzero((world.levels >= FIRST_LEVEL).any(2).any(1).numpy())
            z = (present[0] + present[-1]) / 2 + rng.normal(0, 8 * mm)
        elif world.name == "template" and rng.random() < 0.6:
            z = rng.uniform(320, 490) * mm
        window = np.abs(np.arange(len(world.line)) - z) < 2 * reach
        along = (
            world.line[window].mean(axis=0) + world.line[int(np.clip(z, 0, len(window) - 1))]
        ) / 2
        beside = rng.normal(0, self.recipe.wander_mm) * mm
        if rng.random() < self.recipe.away:
            beside[0] += rng.choice([-1, 1]) * rng.uniform(25, 40) * mm
        return np.array([z, *(along + beside)])

    def _moved_canal(self, world: World, places: Any, artist: ImageSynthesizer) -> tuple[Any, Any]:
        """Return the places for the surroundings, and those for what is inside the canal.

        The levels shift against the vertebrae, and the canal is wider or narrower.
        """
        if world.tissues is None:
            return places, places
        rng, mm = self.rng, 1 / world.voxel_mm
        if self.recipe is LOCATOR:
            return places, places
        shift = self._level_shift(artist, mm)
        center = _line_at(world, places[0])
        width = rng.uniform(0.85, 1.2)
        canal = [places[0] + shift]
        for part, middle in zip(places[1:], center, strict=True):
            canal.append(middle + (part - middle) / (width * rng.uniform(0.93, 1.07)))
        return places, canal

    def _shown(self, world: World, canal: Any, levels: Any) -> Any:
        """Return which voxels may be painted as rootlet (bool, shape (z, y, x)): not all of C1's.

        The rootlets of C1 are thin, its dorsal ones are often missing, and no reference labels
        them. The draws are from a stream of their own, so all else in a case stays as it is.
        """
        from torch.nn.functional import max_pool3d

        kind = self.rng.spawn(1)[0].random()
        if kind < C1_SHARES["both"]:
            return levels >= 0
        near = max_pool3d((levels == C1).float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
        first = near & (levels < FIRST_LEVEL)
        if kind < C1_SHARES["both"] + C1_SHARES["ventral"]:
            first &= canal[1] < _line_at(world, canal[0])[0]
        return ~first

    def _level_shift(self, artist: ImageSynthesizer, mm: float) -> Any:
        """Return how far levels lie from where the vertebrae have them, in voxels of `mm` a mm."""
        return self.rng.normal(0, 2.5) * mm + artist.noise((18, 40, 40), 0.7 * mm)

    def _moved_cord(self, world: World, canal: Any, artist: ImageSynthesizer) -> Any:
        """Return cord and gray matter, the cord being thicker, thinner or somewhere else."""
        rng, mm = self.rng, 1 / world.voxel_mm
        places = [canal[0]]
        for part, middle, spread in zip(
            canal[1:], _line_at(world, canal[0]), (0.8, 0.4), strict=True
        ):
            moved = part - rng.normal(0, spread) * mm - artist.noise((18, 99, 99), 0.3 * mm)
            places.append(middle + (moved - middle) / rng.uniform(0.85, 1.12))
        return _sample(world.tissues[::2], places, "bilinear")


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


def _line_at(world: World, z: Any) -> list[Any]:
    """Return the canal's middle (y, x) at slices (tensor of any shape)."""
    import torch

    rows = z[:, z.shape[1] // 2, z.shape[2] // 2].numpy()
    known = np.arange(len(world.line))
    return [
        torch.from_numpy(np.interp(rows, known, c).astype(np.float32))[:, None, None]
        for c in world.line.T
    ]


def _inside(shape: Sequence[int], places: Any) -> Any:
    """Return which places lie inside a volume."""
    result = None
    for part, size in zip(places, shape, strict=True):
        within = (part >= 0) & (part <= size - 1)
        result = within if result is None else result & within
    return result


def _sample(fields: Any, places: Any, mode: str) -> Any:
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


def starter_groups(worlds: Sequence[World]) -> list[tuple[float, Sequence[World]]]:
    """Return how often the starter's cases come from which worlds."""
    return [
        (0.3, [w for w in worlds if w.name == "template"]),
        (0.6, [w for w in worlds if w.name.startswith("errsm")]),
        (0.1, [w for w in worlds if w.name.startswith("sample")]),
        (0.25, [w for w in worlds if w.name.startswith("segmented")]),
    ]


def locator_groups(worlds: Sequence[World]) -> list[tuple[float, Sequence[World]]]:
    """Return how often the locator's cases come from which worlds."""
    return [
        (0.17, [w for w in worlds if w.name == "template"]),
        (0.6, [w for w in worlds if w.name.startswith("errsm")]),
        (0.08, [w for w in worlds if w.name.startswith("sample")]),
        (0.15, [w for w in worlds if w.negative]),
    ]
