"""Train the locator or the starter.

    python -m training.train {locator,starter} OUT --data ../shared/data [--start FOLDER]

OUT gets the state of the training, a log, and at the end an nnU-Net model folder; the same command
goes on after an interruption. `--start` begins from the weights of a model folder. `--leave-out`
trains without some subjects.
`--self-training` (starter only) adds the real images with the rootlets that the weights of
`--start` find in them, after the package's own anatomical filter.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import as_closest_canonical

from sct_rootlets_task.inference.loading import Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.levels.located_canal import fit_canal
from training.anatomies import (
    WITH_LANDMARKS,
    WITHOUT_LANDMARKS,
    Anatomy,
    CanalFinder,
    build_anatomies,
    coarser,
    negative_anatomy,
    segmented,
)
from training.samples import (
    LOCATOR,
    STARTER,
    SampleMaker,
    SampleSettings,
    locator_groups,
    starter_groups,
)
from training.template import to_zyx
from training.trainer import (
    Schedule,
    Training,
    batches,
    build_network,
    built_in,
    load_weights,
    locator_loss,
    starter_loss,
    write_folder,
)

SAMPLE_SEEDS = range(100, 104)
"""Of the synthetic samples in the training; the sample command and the evaluation use others."""


@dataclass(frozen=True)
class Plan:
    """How one of the built-in networks is trained.

    Parameters
    ----------
    settings : SampleSettings
    loss : callable
    groups : callable
        Share of the samples by anatomy.
    schedule : Schedule
    channels_last : bool
        Whether the network runs faster with this memory format (measured on a CPU with AMX).
    """

    settings: SampleSettings
    loss: Any
    groups: Any
    schedule: Schedule
    channels_last: bool


PLANS = {
    "locator": Plan(LOCATOR, locator_loss, locator_groups, Schedule(2500, 4, 3e-3), False),
    "starter": Plan(STARTER, starter_loss, starter_groups, Schedule(3500, 1, 1.5e-3), True),
}


def load_anatomies(data: Path, cache: Path, leave_out: Sequence[str]) -> list[Anatomy]:
    """Return the fine anatomies, from a file if they were built before."""
    import torch

    if not cache.is_file():
        subjects = WITH_LANDMARKS + WITHOUT_LANDMARKS
        anatomies = build_anatomies(data, subjects, sample_seeds=SAMPLE_SEEDS, canal=canal_finder())
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(anatomies, cache)
    anatomies = torch.load(cache, weights_only=False)
    if not leave_out:
        return anatomies
    return [one for one in anatomies if one.name not in leave_out]


def canal_finder() -> CanalFinder:
    """Return what finds the canal with the package's own locator, stray pieces left out."""
    folder = read_model_folder(built_in("locator"))
    network = load_network(folder, Options(device="cpu"))

    def find(image: np.ndarray) -> np.ndarray:
        classes = network.predict(image, (1.0, 1.0, 1.0)).transpose(2, 1, 0)
        return to_zyx(fit_canal(classes, np.eye(4), folder.classes).classes) > 0

    return find


def segmented_anatomies(anatomies: Sequence[Anatomy], data: Path, starter: Path) -> list[Anatomy]:
    """Return the real images among some anatomies, with the rootlets a starter finds in them."""
    from sct_rootlets_task.api import segment

    found = []
    for anatomy in anatomies:
        if anatomy.name in WITH_LANDMARKS + WITHOUT_LANDMARKS:
            path = data / "t2w" / f"sub-{anatomy.name}_T2w.nii.gz"
            labels, _ = segment(path, model=str(starter))
            found.append(
                segmented(anatomy, to_zyx(np.asarray(as_closest_canonical(labels).dataobj)))
            )
    return found


def read_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=PLANS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--anatomies", type=Path, help="file to keep the anatomies in (default: in OUT)"
    )
    parser.add_argument("--start", type=Path, help="model folder to begin from")
    parser.add_argument("--leave-out", choices=WITH_LANDMARKS, nargs="+", default=[])
    parser.add_argument("--self-training", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, help="samples a step")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--compile", action="store_true", help="compile the network (a minute)")
    arguments = parser.parse_args()
    if arguments.self_training and not (arguments.start and arguments.model == "starter"):
        parser.error("--self-training is for the starter and needs --start.")
    return arguments


def main() -> None:
    """Train and write."""
    arguments = read_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    import torch

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    plan = PLANS[arguments.model]
    schedule = Schedule(
        arguments.steps or plan.schedule.steps,
        arguments.batch or plan.schedule.batch,
        arguments.rate or plan.schedule.rate,
    )
    cache = arguments.anatomies or arguments.out / "anatomies.pt"
    anatomies = load_anatomies(arguments.data, cache, arguments.leave_out)
    if arguments.model == "locator":
        anatomies = [coarser(anatomy) for anatomy in anatomies]
        anatomies.append(negative_anatomy(arguments.data / "other" / "lumbar_T2w.nii.gz"))
    elif arguments.self_training:
        anatomies += segmented_anatomies(anatomies, arguments.data, arguments.start)
    network = build_network(arguments.model)
    if arguments.start:
        load_weights(network, arguments.start)
    if plan.channels_last:
        network = network.to(memory_format=torch.channels_last_3d)
    training = Training(
        network,
        plan.loss,
        schedule=schedule,
        out=arguments.out,
        device=arguments.device,
        precision=arguments.precision,
        compiled=arguments.compile,
    )
    maker = partial(_maker, plan.groups(anatomies), plan.settings, arguments.seed)
    trained = training.run(batches(maker, schedule, training.step))
    print(write_folder(trained, arguments.model, arguments.out))


def _maker(groups: Any, settings: SampleSettings, seed: int, step: int) -> SampleMaker:
    return SampleMaker(groups, settings, (seed, step))


if __name__ == "__main__":
    main()
