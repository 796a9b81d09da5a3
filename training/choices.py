"""What each choice in assigning levels is worth, on the synthetic cases that it was made on.

    python -m training.choices --data ../shared/data [--cases 350] [--short] [--processes 2]

The networks look at each case once; then its levels are assigned in several ways. The evaluation
(:mod:`training.evaluate`) uses other cases.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.levels import boundary_refinement
from sct_rootlets_task.levels.assignment import AssignedLevels, assign_levels
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.rootlets.postprocess import HookContext
from sct_rootlets_task.tasks import BUNDLED
from training.evaluate import (
    LEVELS,
    MOSTLY,
    Judge,
    anatomies_of,
    as_table,
    family_of,
    in_memory,
    short_window,
    use_one_thread,
)
from training.samples import WHOLE, SampleMaker, starter_groups

SEEDS = {9500: 60, 9600: 90, 9700: 200}
"""First numbers of the seeds of the cases, and how many there are of each."""
SOURCE = {"shift_mm", "level_weight", "first_share", "majority"}
"""Choices that are fields of the level source; the others are constants of
:mod:`.boundary_refinement`."""
CHOICES: dict[str, dict[str, float]] = {
    "as it is": {},
    "borders as located": {"shift_mm": 0.0},
    "borders move by 10 mm at most": {"shift_mm": 10.0},
    "a level may be empty, and rootlets below T1": {
        "_EMPTY_COST": 0.0,
        "_LAST_EMPTY_COST": 0.0,
        "_BEYOND_COST": 0.0,
    },
    "these three costs a fourth lower": {
        "_EMPTY_COST": 1.8,
        "_LAST_EMPTY_COST": 0.6,
        "_BEYOND_COST": 1.8,
    },
    "these three costs a fourth higher": {
        "_EMPTY_COST": 3.0,
        "_LAST_EMPTY_COST": 1.0,
        "_BEYOND_COST": 3.0,
    },
    "a level may be of any length": {"_LONG_COST": 0.0},
    "levels of up to 15 mm": {"LONGEST_MM": 15.0},
    "levels of up to 19 mm": {"LONGEST_MM": 19.0},
    "gaps count a fourth less": {"_GAP_WEIGHT": 1.5},
    "gaps count a fourth more": {"_GAP_WEIGHT": 2.5},
    "all of what is called C2": {"first_share": 1.0},
    "the global fit as for a network's levels": {"level_weight": 1.0},
    "no global fit": {"level_weight": float("inf")},
}
"""What is changed, by its name in the table."""
Row = dict[str, Any]


@contextmanager
def _constants(changes: Mapping[str, float]) -> Iterator[None]:
    """Give constants of :mod:`.boundary_refinement` other values for a while."""
    before = {name: getattr(boundary_refinement, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(boundary_refinement, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(boundary_refinement, name, value)


@cache
def _judge(data: Path) -> Judge:
    locator = str((BUNDLED / "locator").resolve())
    return Judge(data, BUNDLED / "starter", ByLocator(locator))


def seeds(n: int) -> list[tuple[int, int]]:
    """Return the seeds of the first cases."""
    return [(seed, number) for seed, count in SEEDS.items() for number in range(count)][:n]


def judge_choices(data: Path, short: bool, seed: tuple[int, int]) -> list[Row]:
    """Return what each choice makes of a case.

    Parameters
    ----------
    data : path
        Folder of the real images and the template.
    short : bool
        Show 75 to 120 mm of the case instead of all of it.
    seed : tuple of int
        Of the case.
    """
    judge, number = _judge(data), seed[1]
    case = SampleMaker(starter_groups(anatomies_of(data)), WHOLE, seed).make(family_of(number))
    truth = case.levels.numpy().transpose(2, 1, 0)
    voxels = case.image.numpy().transpose(2, 1, 0)
    if short:
        window = short_window(case.classes.numpy().T, number)
        truth, voxels = truth[:, :, window], voxels[:, :, window]
    image = in_memory(voxels, WHOLE.voxel_mm)
    found = judge.segmenter.find(image)
    rows = []
    for name, changes in CHOICES.items():
        fields: dict[str, Any] = {k: v for k, v in changes.items() if k in SOURCE}
        source = replace(judge.source, **fields)
        with _constants({k: v for k, v in changes.items() if k not in SOURCE}):
            assigned = AssignedLevels(np.zeros(truth.shape, np.uint8))
            if found.canal is not None:
                assigned = assign_levels(
                    found.classes > 0, found.canal, source=source, expected=LEVELS
                )
        labels = _after_hooks(assigned.labels, image.affine, source.level_weight)
        both = labels * truth > 0
        right = float((labels[both] == truth[both]).mean()) if both.any() else None
        rows.append({"choice": name, "right": right, "warned": bool(assigned.warnings)})
    return rows


def _after_hooks(labels: np.ndarray, affine: np.ndarray, level_weight: float) -> np.ndarray:
    task = TASKS.find("rootlets")
    hooks = task.hooks if np.isfinite(level_weight) else task.hooks[:-1]
    for hook in hooks:
        labels = hook(labels, HookContext(affine, task.levels, level_weight, task.priors))
    return labels


def summary(cases: list[list[Row]]) -> Iterator[Row]:
    """Yield the figures of each choice over all cases in which a rootlet was found."""
    for rows in zip(*cases, strict=True):
        seen = [row for row in rows if row["right"] is not None]
        wrong = [row for row in seen if row["right"] < MOSTLY]
        yield {
            "levels are assigned": rows[0]["choice"],
            "cases": len(seen),
            "right level, %": 100 * float(np.mean([row["right"] for row in seen])),
            "cases with wrong levels": len(wrong),
            "of these without a warning": sum(not row["warned"] for row in wrong),
            "cases with a warning": sum(row["warned"] for row in seen),
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=sum(SEEDS.values()))
    parser.add_argument("--short", action="store_true", help="75 to 120 mm of each case in view")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    one = partial(judge_choices, arguments.data, arguments.short)
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), use_one_thread) as pool:
        print(as_table(list(summary(list(pool.map(one, seeds(arguments.cases)))))))


if __name__ == "__main__":
    main()
