"""Train the locator and write it as an nnU-Net folder.

    python -m training.train_locator OUT --data ../shared/data --minutes 25 [--start FOLDER]

Patches of 3 mm voxels are cut from worlds of known levels (see :mod:`training.worlds`), bent,
scaled and warped, and given another contrast, a bias field, noise and a smaller field of view.
`--start` goes on from the weights of a model folder. The result has the plans of the built-in
locator.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.network.checkpoint import read_checkpoint
from sct_rootlets_task.tasks import BUNDLED
from training.worlds import BELOW, UNKNOWN, VOXEL_MM, World, all_worlds

logger = logging.getLogger(__name__)

PATCH = (64, 48, 24)
SPACING_MM = 3.0
SUBJECTS = ("errsm11", "errsm18", "errsm24")
SYNTHETIC_SEEDS = range(100, 106)
SHARES = {"template": 0.15, "real": 0.4, "synthetic": 0.35, "negative": 0.1}
BATCH = 6


class PatchMaker:
    """Cuts random patches from worlds.

    Parameters
    ----------
    worlds : list of World
        The template, the real images, the synthetic ones and the negative, in this order.
    n_real : int
        How many real images there are.
    seed : int
        Of the random numbers.
    """

    def __init__(self, worlds: list[World], n_real: int, seed: int) -> None:
        import torch

        self.rng = np.random.default_rng(seed)
        self.torch = torch
        groups = [worlds[:1], worlds[1 : 1 + n_real], worlds[1 + n_real : -1], worlds[-1:]]
        self.groups = [
            [(torch.from_numpy(w.image), torch.from_numpy(w.classes).float(), w) for w in group]
            for group in groups
        ]

    def patch(self) -> tuple[Any, Any, bool]:
        """Return an image (1, z, y, x), its classes (z, y, x), and whether it is a negative."""
        group = self.groups[self.rng.choice(4, p=list(SHARES.values()))]
        image, classes, world = group[self.rng.integers(len(group))]
        grid = self.sampling_grid(world)
        x = self.sample(image, grid, "bilinear", "zeros")
        inside = self.sample(self.torch.ones_like(image), grid, "nearest", "zeros")
        y = self.sample(classes, grid, "nearest", "zeros").round().long()
        x = self.degraded(self.recoloured(x.clamp(min=0)))
        x, y = self.cropped(x * (inside > 0), y)
        return ((x - x.mean()) / (x.std() + 1e-6))[None], y, world.negative

    def sampling_grid(self, world: World) -> Any:
        """Return where each voxel of a patch lies in the world, for ``grid_sample``."""
        torch, rng, shape = self.torch, self.rng, np.array(world.image.shape)
        scale = SPACING_MM / VOXEL_MM / (rng.uniform(0.85, 1.18) * rng.uniform(0.93, 1.07, 3))
        axes = [
            (torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * float(s)
            for n, s in zip(PATCH, scale, strict=True)
        ]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        for (a, b), spread in zip(((1, 2), (0, 1), (0, 2)), (4, 9, 4), strict=True):
            parts, angle = [z, y, x], np.deg2rad(rng.normal(0, spread))
            parts[a], parts[b] = (
                parts[a] * np.cos(angle) - parts[b] * np.sin(angle),
                parts[a] * np.sin(angle) + parts[b] * np.cos(angle),
            )
            z, y, x = parts
        centre = self.centre(world)
        places = [
            part + c + self.noise((6, 4, 3), amount)
            for part, c, amount in zip((z, y, x), centre, (1.3, 1.5, 0.8), strict=True)
        ]
        if rng.random() < 0.5:
            places[2] = shape[2] - 1 - places[2]
        unit = [2 * p / (n - 1) - 1 for p, n in zip(places, shape, strict=True)]
        return torch.stack(unit[::-1], dim=-1)[None]

    def centre(self, world: World) -> np.ndarray:
        """Return the middle of a patch: somewhere along the canal, not always on it."""
        shape = np.array(world.image.shape)
        z = self.rng.uniform(15, shape[0] - 10)
        known = np.argwhere((world.classes[int(z)] > 0) & (world.classes[int(z)] <= BELOW))
        middle = known.mean(axis=0) if len(known) else shape[1:] / 2
        return np.array([z, *middle]) + self.rng.normal(0, (0, 12, 2.5))

    def sample(self, volume: Any, grid: Any, mode: str, padding: str) -> Any:
        """Return a volume's values at the places of a grid."""
        return self.torch.nn.functional.grid_sample(
            volume[None, None], grid, mode=mode, padding_mode=padding, align_corners=True
        )[0, 0]

    def noise(self, coarse: tuple[int, ...], amount: float) -> Any:
        """Return smooth noise of the patch's shape."""
        drawn = self.rng.standard_normal((1, 1, *coarse)).astype(np.float32) * amount
        return self.torch.nn.functional.interpolate(
            self.torch.from_numpy(drawn), size=PATCH, mode="trilinear", align_corners=True
        )[0, 0]

    def recoloured(self, x: Any) -> Any:
        """Return the patch in another contrast."""
        x = x ** self.rng.uniform(0.5, 1.6)
        kind = self.rng.random()
        if kind < 0.2:
            return (1 - x).clamp(min=0)
        if kind < 0.35:  # the brightest turns dark, as CSF does between T2w and T1w
            turn = self.rng.uniform(0.3, 0.8)
            return self.torch.where(
                x < turn, x / turn, (1 - (x - turn) / (1.3 - turn)).clamp(min=0)
            )
        return x

    def degraded(self, x: Any) -> Any:
        """Return the patch with a bias field and noise."""
        x = x * self.torch.exp(self.noise((3, 3, 2), 0.35))
        drawn = self.rng.standard_normal(PATCH).astype(np.float32)
        return x + self.torch.from_numpy(drawn) * self.rng.uniform(0, 0.06)

    def cropped(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return the patch with a smaller field of view."""
        limits = (PATCH[0] // 2, PATCH[1] // 3, 2)
        for axis, limit in enumerate(limits):
            for side in (0, 1):
                if self.rng.random() < 0.35:
                    cut = int(self.rng.integers(0, limit + 1))
                    part = [slice(None)] * 3
                    part[axis] = slice(0, cut) if side == 0 else slice(PATCH[axis] - cut, None)
                    x[tuple(part)], y[tuple(part)] = 0, 0
        return x, y


def loss_of(logits: Any, classes: Any, negative: Any) -> Any:
    """Return canal against rest, plus level within the canal, plus silence on negatives.

    Parameters
    ----------
    logits : tensor, shape (batch, 11, z, y, x)
    classes : tensor of int, shape (batch, z, y, x)
    negative : tensor of bool, shape (batch,)
    """
    import torch
    from torch.nn.functional import cross_entropy

    known = (classes != UNKNOWN) & ~negative[:, None, None, None]
    canal = torch.stack([logits[:, 0], logits[:, 1:].logsumexp(1)], 1)
    total = cross_entropy(
        canal.movedim(1, -1)[known], (classes[known] > 0).long(), torch.tensor([0.3, 1.0])
    )
    inside = known & (classes > 0)
    if inside.any():
        total = total + cross_entropy(logits[:, 1:].movedim(1, -1)[inside], classes[inside] - 1)
    if negative.any():
        quiet = torch.logsumexp(logits[negative][:, [0, BELOW]], 1)
        total = total + (logits[negative].logsumexp(1) - quiet).mean()
    return total


def build_network() -> Any:
    """Return the locator's network as its plans describe it."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    return PlainConvUNet(
        1, 4, [16, 32, 64, 128], nn.Conv3d, 3, [[1] * 3, [2] * 3, [2] * 3, [2, 2, 1]], 2, 11, 2,
        True, nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}, None, None, nn.LeakyReLU,
        {"inplace": True},
    )  # fmt: skip


def train(network: Any, makers: list[PatchMaker], minutes: float, rate: float) -> None:
    """Train for some minutes with a cosine schedule, in bfloat16 where the CPU has it."""
    import torch

    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    start, step, recent = time.monotonic(), 0, []
    while (done := (time.monotonic() - start) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        patches = [makers[step % len(makers)].patch() for _ in range(BATCH)]
        x, y = (torch.stack(part) for part in list(zip(*patches, strict=True))[:2])
        negative = torch.tensor([patch[2] for patch in patches])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(x)
        loss = loss_of(logits.float(), y, negative)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        recent.append(float(loss.detach()))
        step += 1
        if step % 100 == 0:
            logger.info("step %d, %.0f %%: loss %.3f", step, 100 * done, np.mean(recent[-100:]))


def write_folder(network: Any, out: Path) -> Path:
    """Write the weights in half precision with the built-in locator's plans and classes."""
    import torch

    built_in = next((BUNDLED / "locator").glob("nnUNetTrainer*"))
    folder = out / built_in.name
    (folder / "fold_all").mkdir(parents=True, exist_ok=True)
    shutil.copy(built_in / "plans.json", folder)
    shutil.copy(built_in / "dataset.json", folder)
    # nnU-Net's state dictionaries name most tensors several times; each is stored once.
    halves: dict[int, Any] = {}
    weights = {
        name: halves.setdefault(value.data_ptr(), value.half())
        for name, value in network.state_dict().items()
    }
    content = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "fold": "all"},
        "inference_allowed_mirroring_axes": (2,),
    }
    torch.save(content, folder / "fold_all" / "checkpoint_final.pth")
    return folder


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--start", type=Path, help="model folder to go on from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    import torch

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    worlds = all_worlds(arguments.data, SUBJECTS, SYNTHETIC_SEEDS)
    logger.info("%d worlds", len(worlds))
    network = build_network()
    if arguments.start:
        path = next(arguments.start.glob("**/fold_all/checkpoint_final.pth"))
        weights = read_checkpoint(path)["network_weights"]
        tensors = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in weights.items()}
        network.load_state_dict(tensors)
    maker = PatchMaker(worlds, len(SUBJECTS), arguments.seed)
    train(network, [maker], arguments.minutes, arguments.rate)
    logger.info("%s", json.dumps({"written": str(write_folder(network, arguments.out))}))


if __name__ == "__main__":
    main()
