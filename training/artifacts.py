"""What a scanner does to a case: contrast of the canal and its surroundings, artifacts, noise.

Tensors have the axes (z, y, x); intensities are about 0 (dark) to 1 (bright).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sct_rootlets_task.inference.resampling import Resize, coarse_axis, means_matrix, resize_image

FAMILIES = {"T2w": 0.16, "UNIT1": 0.18, "INV1": 0.2, "INV2": 0.24, "free": 0.22}
"""Kinds of contrast and how often each is drawn. UNIT1, INV1 and INV2 are those of MP2RAGE."""
SHORT_MM = (60.0, 130.0)
"""Lengths along the cord of a short field of view: two to six levels."""
VISIBLE = 0.2
"""Least difference of rootlets and CSF, so that rootlets can be seen."""


class ImageSynthesizer:
    """Paints and degrades one case.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : tuple of int
        Voxels of the case along (z, y, x).
    voxel_mm : float
    thickest_mm : float
        Largest voxel size along one axis that is simulated.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        voxel_mm: float,
        thickest_mm: float = 2.5,
    ) -> None:
        self.rng, self.shape, self.voxel_mm = rng, shape, voxel_mm
        self.thickest_mm = thickest_mm
        self.grain = min(1.0, 1.0 / voxel_mm)
        """What is left of blur and noise of 1 mm voxels: larger ones are their mean."""
        self.contrast = 0.0
        """Difference of rootlets and CSF in what was painted."""
        self.cord_contrast = 0.0
        """Difference of cord and CSF in what was painted."""
        self.noise_level = 0.0
        """Standard deviation of the noise that was added."""

    def draw_family(self) -> str:
        """Return a random kind of contrast."""
        return str(self.rng.choice(list(FAMILIES), p=list(FAMILIES.values())))

    def noise(self, lengths_mm: tuple[float, float, float], amount: float) -> Any:
        """Return smooth noise of a standard deviation, with lengths in mm along (z, y, x)."""
        import torch
        from torch.nn.functional import interpolate

        coarse = [
            max(2, round(n * self.voxel_mm / length) + 1)
            for n, length in zip(self.shape, lengths_mm, strict=True)
        ]
        drawn = torch.from_numpy(self.rng.standard_normal((1, 1, *coarse)).astype(np.float32))
        smooth = interpolate(drawn, size=self.shape, mode="trilinear", align_corners=True)
        return smooth[0, 0] * amount

    def recolored(self, image: Any, family: str) -> Any:
        """Return the surroundings in another contrast."""
        rng = self.rng
        if family == "T2w":
            if rng.random() < 0.3:
                image = 0.5 * (image + self._through_curve(image, rising=True))
            return image ** rng.uniform(0.55, 1.6) * rng.uniform(0.5, 1.1)
        air = image < rng.uniform(0.03, 0.08)
        if family == "UNIT1":
            image = self._through_curve(image, rising=rng.random() < 0.4)
            return image.where(~air, self._white().abs().clamp(max=1.5) * rng.uniform(0.2, 0.6))
        if family == "INV2":
            return self._through_curve(image, rising=True)
        return self._through_curve(image, rising=rng.random() < 0.3)

    def painted(self, image: Any, tissues: Any, moved_cord: Any, family: str) -> Any:
        """Return the image with a spinal canal painted into it.

        Parameters
        ----------
        image : tensor, shape (z, y, x)
        tissues : tensor, shape (4, z, y, x)
            Share of cord, CSF, gray matter and rootlets.
        moved_cord : tensor, shape (2, z, y, x)
            Share of cord and gray matter where they are to be painted.
        family : str
            Key of :data:`FAMILIES`.
        """
        csf, cord, gray, root = self._tones(family)
        self.contrast, self.cord_contrast = abs(root - csf), abs(cord - csf)
        canal = _closed((tissues[0] + tissues[1]).clamp(0, 1))
        fluid = csf * (1 + self.noise((6, 9, 9), 0.07) + self.noise((2.5, 4, 4), 0.04))
        fluid = self._with_flow(fluid, canal, cord)
        dura = 4 * canal * (1 - canal) * self.rng.uniform(0, 0.7)
        result = image * (1 - canal) * (1 - dura) + canal * fluid
        ink = self._rootlet_ink(tissues[3]) * canal.clamp(min=0.3)
        result = result * (1 - ink) + ink * root
        cord_share = moved_cord[0].clamp(0, 1) * canal
        texture = 1 + self.noise((4, 2, 2), 0.03)
        inner = cord * (1 - moved_cord[1]) + gray * moved_cord[1]
        return result * (1 - cord_share) + cord_share * inner * texture

    def hidden(self, image: Any) -> Any:
        """Return the image with what it shows beside and in front of the spine hidden in parts.

        Blocks take the tone of their middle. A saturation band darkens all in front of a plane.
        Tissues get brighter or darker from place to place. What is left must show the level.
        """
        import torch

        rng = self.rng
        image = image * self.noise((35, 25, 25), rng.uniform(0, 0.4)).exp()
        for _ in range(rng.integers(0, 5)):
            size = [
                min(max(2, round(rng.uniform(15, limit) / self.voxel_mm)), n)
                for limit, n in zip((60, 60, 50), self.shape, strict=True)
            ]
            start = [int(rng.integers(0, n - k + 1)) for n, k in zip(self.shape, size, strict=True)]
            part = tuple(slice(a, a + k) for a, k in zip(start, size, strict=True))
            block = image[part]
            image[part] = block.mean() * rng.uniform(0, 1.5) + (block - block.mean()) * 0.1
        if rng.random() < 0.3:
            rows = torch.arange(self.shape[1], dtype=torch.float32) * self.voxel_mm
            edge = rows[-1] * rng.uniform(0.55, 0.95)
            band = torch.sigmoid((rows - edge) / rng.uniform(3, 10))
            image = image * (1 - band * rng.uniform(0.5, 1.0))[None, :, None]
        return image

    def degraded(self, image: Any, family: str) -> Any:
        """Return the image with the resolution, artifacts and noise of an acquisition."""
        rng = self.rng
        image = self._blurred(image)
        if rng.random() < 0.12:
            image = self._rung(image)
        if rng.random() < 0.1:
            step, axis = int(rng.integers(8, 40)), int(rng.integers(0, 2))
            image = image + image.roll(step, axis) * rng.uniform(0.03, 0.12)
        image = image * self.noise((90, 60, 60), rng.uniform(0, 0.45)).exp()
        level = rng.uniform(0, 0.05 if family == "T2w" else 0.08) * self.grain
        self.noise_level = level
        if rng.random() < 0.5:  # magnitude images have Rician noise
            real, imaginary = image + self._white() * level, self._white() * level
            return (real**2 + imaginary**2).sqrt()
        return image + self._white() * level

    def acquired(self, image: Any, family: str, limits_mm: tuple[float, float]) -> Any:
        """Return the image as acquired with larger voxels and resampled as nnU-Net does.

        Noise and artifacts are those of the scanner's voxels. After resampling, noise is no longer
        independent from voxel to voxel, so a network that learns on one grid must have seen that.

        Parameters
        ----------
        image : tensor, shape (z, y, x)
        family : str
            Key of :data:`FAMILIES`.
        limits_mm : tuple of float
            Least and largest voxel size; a size below that of the case counts as that one.
        """
        import torch

        rng = self.rng
        sizes = np.full(3, rng.uniform(*limits_mm))
        if rng.random() < 0.3:
            axis = rng.choice(3, p=[0.55, 0.1, 0.35])
            sizes[axis] = rng.uniform(sizes[axis], max(self.thickest_mm, sizes[axis]))
        sizes = np.maximum(sizes, self.voxel_mm)
        small = tuple(round(n * self.voxel_mm / s) for n, s in zip(self.shape, sizes, strict=True))
        if small == self.shape:
            return self.degraded(image, family)
        voxel_mm = float(sizes.mean())
        scanner = ImageSynthesizer(rng, small, voxel_mm, max(self.thickest_mm, voxel_mm))
        for axis, n in enumerate(small):
            means = torch.from_numpy(means_matrix(self.shape[axis], n))
            image = torch.tensordot(means, image, ([1], [axis])).movedim(0, axis)
        seen = scanner.degraded(image, family).numpy()
        self.noise_level = scanner.noise_level
        resize = Resize(small, self.shape, 3, coarse_axis(sizes, [self.voxel_mm] * 3))
        return torch.from_numpy(resize_image(seen, resize))

    def field_of_view(self, lost: float, short: float = 0.0) -> Any:
        """Return which voxels are inside a field of view cut at some sides (bool tensor).

        Parameters
        ----------
        lost : float
            How often it is cut at each of the six sides.
        short : float
            How often only a window along the cord is in view, of a length within
            :data:`SHORT_MM` and somewhere about the middle.
        """
        import torch

        inside = torch.ones(self.shape, dtype=torch.bool)
        for axis, share in enumerate((0.5, 0.33, 0.2)):
            for first in (True, False):
                if self.rng.random() < lost:
                    n = self.shape[axis]
                    cut = int(self.rng.integers(0, round(share * n) + 1))
                    part = [slice(None)] * 3
                    part[axis] = slice(0, cut) if first else slice(n - cut, None)
                    inside[tuple(part)] = False
        if short and self.rng.random() < short:
            n = self.shape[0]
            size = min(max(1, round(self.rng.uniform(*SHORT_MM) / self.voxel_mm)), n)
            start = (n - size) / 2 + self.rng.normal(0, SHORT_MM[0] / 2 / self.voxel_mm)
            start = int(np.clip(start, 0, n - size))
            inside[:start], inside[start + size :] = False, False
        return inside

    def normalized(self, image: Any, inside: Any) -> Any:
        """Return the image as nnU-Net sees it: z-score of the field of view, 0 beyond it."""
        known = image[inside]
        if known.numel() < 2:
            return image * 0
        return (image - known.mean()) / (known.std() + 1e-6) * inside

    def _tones(self, family: str) -> tuple[float, float, float, float]:
        """Return intensities of CSF, cord, gray matter and rootlets that can be seen."""
        csf, cord, gray, root = self._drawn_tones(family)
        if root > csf or csf < VISIBLE:
            return csf, cord, gray, max(root, csf + VISIBLE)
        return csf, cord, gray, max(min(root, csf - VISIBLE), 0.0)

    def _drawn_tones(self, family: str) -> tuple[float, float, float, float]:
        rng = self.rng
        if family == "T2w":
            csf = rng.uniform(0.7, 1.2)
            cord = rng.uniform(0.2, 0.55) * csf
            return csf, cord, cord * rng.uniform(0.95, 1.25), cord + rng.uniform(-0.12, 0.25) * csf
        if family in ("UNIT1", "INV1"):
            csf = rng.uniform(0.0, 0.25)
            cord = rng.uniform(0.5, 1.05) if family == "UNIT1" else rng.uniform(0.35, 0.8)
            root = csf + (cord - csf) * rng.uniform(0.35, 1.0)
            return csf, cord, cord * rng.uniform(0.7, 1.0), root
        if family == "INV2":
            csf = rng.uniform(0.5, 1.0)
            cord = csf * rng.uniform(0.45, 0.9)
            return csf, cord, cord * rng.uniform(0.95, 1.15), cord * rng.uniform(0.85, 1.15)
        csf, cord = rng.uniform(0, 1.2, 2)
        return csf, cord, cord * rng.uniform(0.8, 1.2), csf + (cord - csf) * rng.uniform(0.4, 1.3)

    def _rootlet_ink(self, rootlets: Any) -> Any:
        """Return how much of each voxel is painted as rootlet: thin, faint, broken or missing."""
        from torch.nn.functional import avg_pool3d

        rng = self.rng
        soft = avg_pool3d(rootlets[None, None], 3, stride=1, padding=1)[0, 0]
        thin = rng.uniform(0, 0.25)
        body = ((rootlets * 0.6 + soft * 0.7 - thin) / (1 - thin)).clamp(0, 1)
        uneven = 1 + self.noise((2, 5, 5), rng.uniform(0.2, 0.6))
        gone = (self.noise((12, 12, 12), 1.0) - rng.uniform(0.9, 2.2)).clamp(0, 0.3) / 0.3
        return (body * rng.uniform(0.6, 1.2) * uneven * (1 - gone)).clamp(0, 1)

    def _with_flow(self, fluid: Any, canal: Any, dark: float) -> Any:
        """Return CSF with flow voids: soft spots of another tone, nothing a rootlet would be."""
        if self.rng.random() < 0.6:
            return fluid
        spots = (self.noise((9, 5, 5), 1.0) - self.rng.uniform(1.0, 2.0)).clamp(0, 1)
        return fluid * (1 - spots * canal) + spots * canal * dark

    def _blurred(self, image: Any) -> Any:
        """Return the image as acquired with larger voxels, of which some are anisotropic.

        Thick slices stay steps half of the time: that is how nnU-Net's recipe interpolates them.
        """
        from torch.nn.functional import interpolate

        rng = self.rng
        kind = rng.choice(3, p=[0.4, 0.25, 0.35])
        if kind == 0:
            return image
        factors = np.ones(3)
        if kind == 1:
            factors += rng.uniform(0, 0.6) * self.grain
        else:
            axis = rng.choice(3, p=[0.55, 0.1, 0.35])
            factors[axis] = max(1.0, rng.uniform(1.0, self.thickest_mm) / self.voxel_mm)
        small = [max(4, round(n / f)) for n, f in zip(self.shape, factors, strict=True)]
        coarse = interpolate(image[None, None], size=small, mode="area")
        if kind == 2 and rng.random() < 0.5:
            return interpolate(coarse, size=self.shape, mode="nearest-exact")[0, 0]
        return interpolate(coarse, size=self.shape, mode="trilinear", align_corners=False)[0, 0]

    def _rung(self, image: Any) -> Any:
        """Return the image with Gibbs ringing along one axis."""
        import torch

        axis = int(self.rng.integers(3))
        spectrum = torch.fft.rfft(image, dim=axis)
        keep = round(spectrum.shape[axis] * self.rng.uniform(0.55, 0.9))
        spectrum.narrow(axis, keep, spectrum.shape[axis] - keep).zero_()
        return torch.fft.irfft(spectrum, n=image.shape[axis], dim=axis)

    def _through_curve(self, image: Any, *, rising: bool) -> Any:
        """Return intensities through a random curve of six knots."""
        import torch

        heights = self.rng.uniform(0, 1, 6)
        heights = torch.from_numpy((np.sort(heights) if rising else heights).astype(np.float32))
        place = (image.clamp(0, 1.3) / 1.3 * 5).clamp(0, 4.999)
        left = place.floor().long()
        return heights[left] + (place - left) * (heights[left + 1] - heights[left])

    def _white(self) -> Any:
        import torch

        return torch.from_numpy(self.rng.standard_normal(self.shape, dtype=np.float32))


def _closed(field: Any) -> Any:
    """Return a field without the thin gap that the template leaves between cord and CSF."""
    from torch.nn.functional import max_pool3d

    size, pad = (1, 3, 3), (0, 1, 1)
    wide = max_pool3d(field[None, None], size, stride=1, padding=pad)
    return -max_pool3d(-wide, size, stride=1, padding=pad)[0, 0]
