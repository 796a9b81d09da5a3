"""Train a network of a built-in model's plans and write it as an nnU-Net folder."""

from __future__ import annotations

import copy
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np

from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED
from training.samples import SampleMaker, TrainingSample
from training.template import BELOW, UNKNOWN

logger = logging.getLogger(__name__)

CHECKPOINT = Path("fold_all") / "checkpoint_final.pth"
STATE, LOG = "training_state.pt", "log.jsonl"
SAVE_EVERY = 200
BELOW_SHARE = 0.35
"""Weight of the canal below T1, of which there is as much as of three or four levels: in doubt,
its prior would move all levels upwards."""
AVERAGING = 0.998
"""Share of the running average of the weights that a step leaves as it is."""


@dataclass(frozen=True)
class Schedule:
    """Length and pace of a training.

    Parameters
    ----------
    steps : int
    batch : int
        Cases a step.
    rate : float
        Highest learning rate; it falls along a cosine to 1 % of it.
    """

    steps: int
    batch: int
    rate: float


def locator_loss(logits: Any, samples: list[TrainingSample]) -> Any:
    """Return canal against rest, plus level within the canal, plus silence on negatives.

    The level counts twice: as a class, and as the number of levels by which the mean is off.

    Parameters
    ----------
    logits : tensor, shape (batch, 11, z, y, x)
    samples : list of TrainingSample
    """
    import torch
    from torch.nn.functional import cross_entropy, smooth_l1_loss

    classes = torch.stack([sample.classes for sample in samples]).long().to(logits.device)
    negative = torch.tensor([sample.negative for sample in samples], device=logits.device)
    known = (classes != UNKNOWN) & ~negative[:, None, None, None]
    total = logits.sum() * 0
    if known.any():
        canal = torch.stack([logits[:, 0], logits[:, 1:].logsumexp(1)], 1)
        weights = torch.tensor([0.3, 1.0], device=logits.device)
        total = cross_entropy(canal.movedim(1, -1)[known], (classes[known] > 0).long(), weights)
    inside = known & (classes > 0)
    if inside.any():
        chosen, wanted = logits[:, 1:].movedim(1, -1)[inside], classes[inside] - 1
        ranks = torch.arange(chosen.shape[1], dtype=chosen.dtype, device=chosen.device)
        shares = torch.ones_like(ranks)
        shares[BELOW - 1] = BELOW_SHARE
        total = total + cross_entropy(chosen, wanted, shares)
        off = smooth_l1_loss(chosen.softmax(1) @ ranks, wanted.to(chosen.dtype), reduction="none")
        total = total + 0.5 * (off * shares[wanted]).sum() / shares[wanted].sum()
    if negative.any():
        quiet = logits[negative][:, [0, BELOW]].logsumexp(1)
        total = total + (logits[negative].logsumexp(1) - quiet).mean()
    return total


def starter_loss(logits: Any, samples: list[TrainingSample]) -> Any:
    """Return cross-entropy plus 1 − soft Dice of rootlets against the rest.

    Parameters
    ----------
    logits : tensor, shape (batch, 2, z, y, x)
    samples : list of TrainingSample
    """
    import torch
    from torch.nn.functional import cross_entropy

    truth = torch.stack([sample.levels for sample in samples]).to(logits.device) > 0
    weights = torch.tensor([0.3, 1.0], device=logits.device)
    entropy = cross_entropy(logits, truth.long(), weights)
    found, wanted = logits.softmax(1)[:, 1], truth.float()
    dice = (2 * (found * wanted).sum() + 1) / (found.sum() + wanted.sum() + 1)
    return entropy + 1 - dice


def build_network(model: str) -> Any:
    """Return the untrained network of a built-in model's plans, in torch."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from torch import nn

    folder = read_model_folder(built_in(model))
    plan = folder.configuration["architecture"]["arch_kwargs"]
    return PlainConvUNet(
        1, plan["n_stages"], plan["features_per_stage"], nn.Conv3d, plan["kernel_sizes"],
        plan["strides"], plan["n_conv_per_stage"], len(folder.classes),
        plan["n_conv_per_stage_decoder"], True, nn.InstanceNorm3d, {"eps": 1e-5, "affine": True},
        None, None, nn.LeakyReLU, {"inplace": True},
    )  # fmt: skip


def built_in(model: str) -> Path:
    """Return the folder of a built-in model that holds its plans."""
    return next((BUNDLED / model).glob("nnUNetTrainer*"))


def load_weights(network: Any, path: Path) -> None:
    """Put the weights of a model folder into a network."""
    import torch

    weights = Checkpoint(next(path.glob(f"**/{CHECKPOINT}"))).read()["network_weights"]
    network.load_state_dict(
        {name: torch.from_numpy(np.array(value, np.float32)) for name, value in weights.items()}
    )


class Training:
    """A training that can be cut off and goes on where it was.

    Parameters
    ----------
    network : torch.nn.Module
    loss : callable
        Of the logits and the samples.
    schedule : Schedule
    out : path
        Folder of the state and the log.
    device : str
    precision : {"bf16", "f32"}
        Arithmetic of the network; which is faster depends on the processor.
    compiled : bool
        Whether torch compiles the network, which takes a minute and a C++ compiler.
    """

    def __init__(
        self,
        network: Any,
        loss: Callable[[Any, list[TrainingSample]], Any],
        *,
        schedule: Schedule,
        out: Path,
        device: str = "cpu",
        precision: str = "bf16",
        compiled: bool = False,
    ) -> None:
        import torch

        self.network = network.to(device)
        self._forward = torch.compile(self.network) if compiled else self.network
        self._rounded = precision == "bf16"
        self.averaged = copy.deepcopy(self.network)
        self.loss, self.schedule, self.out, self.device = loss, schedule, out, device
        self.optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
        self.step = 0
        out.mkdir(parents=True, exist_ok=True)
        if (out / STATE).is_file():
            self._restore(torch.load(out / STATE, map_location=device, weights_only=True))

    def run(self, samples: Iterator[list[TrainingSample]]) -> Any:
        """Train to the end of the schedule and return the network of averaged weights."""
        recent, start = [], time.monotonic()
        while self.step < self.schedule.steps:
            recent.append(self._one_step(next(samples)))
            self.step += 1
            if self.step % SAVE_EVERY == 0 or self.step == self.schedule.steps:
                self._report({
                    "step": self.step, "loss": round(float(np.mean(recent)), 4),
                    "seconds_per_step": round((time.monotonic() - start) / len(recent), 3),
                })  # fmt: skip
                recent, start = [], time.monotonic()
        return self.averaged

    def _one_step(self, samples: list[TrainingSample]) -> float:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        x = torch.stack([sample.image for sample in samples])[:, None].to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        kind = self.device.split(":")[0]
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self._rounded):
            logits = self._forward(x)
        loss = self.loss(logits.float(), samples)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        kept = min(AVERAGING, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
            for slow, fast in pairs:
                slow.lerp_(fast, 1 - kept)
        return float(loss.detach())

    def _rate(self) -> float:
        done = self.step / self.schedule.steps
        warm = min(1.0, (self.step + 1) / 50)
        return self.schedule.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))

    def _report(self, line: dict[str, Any]) -> None:
        import torch

        logger.info("%s", json.dumps(line))
        with (self.out / LOG).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        state = {
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(), "step": self.step,
        }  # fmt: skip
        torch.save(state, self.out / f"{STATE}.part")
        (self.out / f"{STATE}.part").replace(self.out / STATE)

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        logger.info("going on from step %d", self.step)


def batches(
    make: Callable[[int], SampleMaker], schedule: Schedule, first: int
) -> Iterator[list[TrainingSample]]:
    """Yield the batches from a step on; a thread makes them while the network is at work.

    Each step has a sample maker of its own (`make(step)`), so a training that was cut off goes on
    with the samples it would have seen.
    """
    ready: Queue[list[TrainingSample]] = Queue(maxsize=4)

    def produce() -> None:
        for step in range(first, schedule.steps):
            maker = make(step)
            ready.put([maker.make() for _ in range(schedule.batch)])

    Thread(target=produce, daemon=True).start()
    while True:
        yield ready.get()


def write_folder(network: Any, model: str, out: Path) -> Path:
    """Write weights in half precision with the plans and classes of a built-in model."""
    import torch

    source = built_in(model)
    folder = out / source.name
    (folder / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "plans.json", folder)
    shutil.copy(source / "dataset.json", folder)
    # nnU-Net's state dictionaries name most tensors several times; each is stored once.
    halves: dict[int, Any] = {}
    weights = {
        name: halves.setdefault(value.data_ptr(), value.cpu().contiguous().half())
        for name, value in network.state_dict().items()
    }
    content = {
        "network_weights": weights,
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres", "fold": "all"},
        "inference_allowed_mirroring_axes": (2,),
    }
    torch.save(content, folder / CHECKPOINT)
    return folder
