"""Print what limits the networks, on the first of the cases of :mod:`training.evaluate`.

    python -m training.limits {starter,locator} --data ../shared/data [--cases 60] [--family free]

**starter**: its agreement on the same cases with less and less in the way. Each is made again
without noise, then also without blur and thick slices. At last every rootlet is painted in full.
Anatomy, tones and all else stay the same. Two more rows judge no network. One is the truth
resampled to the starter's grid and back, the other the truth moved by half a voxel along each axis.
Cases of free contrast are shown again without those whose cord has nearly the tone of the CSF.

**locator**: its level errors, and its errors against levels that lie where the vertebrae have them.
In the cases, as in people, levels do not lie quite there. At 3 mm little else shows the level. The
last rows judge no network: levels exactly where the vertebrae have them, against the true ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.analysis.evaluate import ALL, MEAN, compare
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.levels.located_canal import fit_canal, located_levels
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.tasks import BUNDLED
from training.artifacts import FAMILIES, VISIBLE, ImageSynthesizer
from training.evaluate import (
    CORD_SEEN,
    SEED,
    Judge,
    Row,
    anatomies_of,
    as_table,
    family_of,
    in_memory,
    level_errors,
    use_one_thread,
)
from training.samples import STARTER, WHOLE, SampleMaker, starter_groups


class Quiet(ImageSynthesizer):
    """Adds no noise, and draws as many random numbers as if it did."""

    def _white(self) -> Any:
        return super()._white() * 0


class Sharp(Quiet):
    """Does not blur either, nor acquire thick slices."""

    def _blurred(self, image: Any) -> Any:
        super()._blurred(image)
        return image


class Full(Sharp):
    """Paints every rootlet in full: none is thin, faint, broken or missing."""

    def _rootlet_ink(self, rootlets: Any) -> Any:
        super()._rootlet_ink(rootlets)
        return rootlets


AS_EVALUATED = "as evaluated"
SYNTHESIZERS: dict[str, type[ImageSynthesizer]] = {
    AS_EVALUATED: ImageSynthesizer, "no noise": Quiet, "nor blur": Sharp, "rootlets in full": Full,
}  # fmt: skip
RESAMPLED, MOVED = "truth on the starter's grid", "truth moved by half a voxel"
BY_VERTEBRAE, EXACT = "against the vertebrae", "no network: exactly the vertebrae"


class Unshifted(SampleMaker):
    """Puts levels where the vertebrae have them, and draws as many random numbers as if not."""

    def _level_shift(self, synthesizer: ImageSynthesizer, mm: float) -> Any:
        return super()._level_shift(synthesizer, mm) * 0


def judged(judge: Judge, number: int) -> list[Row]:
    """Return the agreement on one case with everything in the way, with less, and of the truth.

    Parameters
    ----------
    judge : Judge
    number : int
        Of the case; the same one always gives the same case.
    """
    family = family_of(number)
    groups = starter_groups(anatomies_of(judge.data))
    rows = []
    for name, synthesizer in SYNTHESIZERS.items():
        case = SampleMaker(groups, WHOLE, (SEED, number), synthesizer=synthesizer).make(family)
        truth = case.levels.numpy().T
        image = in_memory(case.image.numpy().T, WHOLE.voxel_mm)
        rows.append(_row(name, family, judge.segment(image), truth, image.affine))
    rows.append(_row(RESAMPLED, family, _there_and_back(truth), truth, image.affine))
    rows.append(_row(MOVED, family, _moved(truth), truth, image.affine))
    if family == "free" and case.cord_contrast >= VISIBLE:
        rows += [{**row, "family": CORD_SEEN} for row in rows]
    return rows


def located(judge: Judge, number: int) -> list[Row]:
    """Return the level errors of the locator on one case, and those of what the vertebrae show.

    Parameters are those of :func:`judged`.
    """
    family = family_of(number)
    groups = starter_groups(anatomies_of(judge.data))
    case, unshifted = (
        maker(groups, WHOLE, (SEED, number)).make(family) for maker in (SampleMaker, Unshifted)
    )
    truth, vertebrae = case.classes.numpy().T, unshifted.classes.numpy().T
    image = in_memory(case.image.numpy().T, WHOLE.voxel_mm)
    folder = read_model_folder(next(Path(judge.source.locator).glob("nnUNetTrainer*")))
    found = judge.locate(image)
    exact = located_levels(fit_canal(vertebrae, image.affine, folder.classes))
    errors = {
        AS_EVALUATED: level_errors(found, truth, image.affine),
        BY_VERTEBRAE: level_errors(found, vertebrae, image.affine),
        EXACT: level_errors(exact, truth, image.affine),
    }
    return [{"family": family, "errors": errors}]


def _row(name: str, family: str, found: np.ndarray, truth: np.ndarray, affine: np.ndarray) -> Row:
    by_level = {item.level: item for item in compare(found, truth, affine)}
    return {
        "what": name, "family": family,
        "binary Dice": by_level[ALL].dice, "macro Dice": by_level[MEAN].dice,
    }  # fmt: skip


def _there_and_back(levels: np.ndarray) -> np.ndarray:
    """Return levels (uint8, any shape) interpolated to the starter's grid and back."""
    fine = [round(n * WHOLE.voxel_mm / STARTER.voxel_mm) for n in levels.shape]
    return _resampled(_resampled(levels, fine), levels.shape)


def _resampled(levels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    from scipy.ndimage import zoom

    factors = [new / old for new, old in zip(shape, levels.shape, strict=True)]
    return _of_shares(levels, partial(zoom, zoom=factors, order=1, mode="nearest", grid_mode=True))


def _moved(levels: np.ndarray) -> np.ndarray:
    """Return levels (uint8, any shape) moved by half a voxel along each axis."""
    from scipy.ndimage import shift

    return _of_shares(levels, partial(shift, shift=0.5, order=1))


def _of_shares(levels: np.ndarray, interpolate: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the level of each voxel at least half of which it is, of interpolated masks."""
    result: np.ndarray | None = None
    for level in np.unique(levels[levels > 0]):
        share = interpolate((levels == level).astype(np.float32))
        result = np.zeros(share.shape, np.uint8) if result is None else result
        result[share >= 0.5] = level
    return levels if result is None else result


def table(rows: list[Row]) -> Iterator[Row]:
    """Yield the mean Dice coefficients, a row for what is judged and a column for each family."""
    names = [name for name in (*FAMILIES, CORD_SEEN) if any(row["family"] == name for row in rows)]
    for what in (*SYNTHESIZERS, RESAMPLED, MOVED):
        mine = {
            name: [r for r in rows if (r["what"], r["family"]) == (what, name)] for name in names
        }
        if what == AS_EVALUATED:
            yield {"what": "cases", "Dice": "", **{name: len(some) for name, some in mine.items()}}
        for measure in ("binary", "macro"):
            known = {
                name: [row[f"{measure} Dice"] for row in some if row[f"{measure} Dice"] is not None]
                for name, some in mine.items()
            }
            means = {name: float(np.mean(some)) if some else None for name, some in known.items()}
            yield {"what": what, "Dice": measure, **means}


def locator_table(rows: list[Row]) -> Iterator[Row]:
    """Yield the level errors over all voxels, as :func:`training.evaluate.synthetic` has them."""
    groups = {name: [row for row in rows if row["family"] == name] for name in FAMILIES}
    groups = {name: some for name, some in groups.items() if some} | {"all": rows}
    yield {"what": "cases", "levels": "", **{name: len(some) for name, some in groups.items()}}
    for what in (AS_EVALUATED, BY_VERTEBRAE, EXACT):
        errors = {name: [row["errors"][what] for row in some] for name, some in groups.items()}
        steps = {name: np.concatenate([e.steps for e in some]) for name, some in errors.items()}
        along = {name: np.concatenate([e.along for e in some]) for name, some in errors.items()}
        means = {name: float(np.mean(some)) if some.size else None for name, some in steps.items()}
        most = {
            name: float(np.percentile(some, 95)) if some.size else None
            for name, some in along.items()
        }
        yield {"what": what, "levels": "mean", **means}
        yield {"what": what, "levels": "along the cord, 95 %", **most}


NETWORKS = {"starter": (judged, table), "locator": (located, locator_table)}
"""What is done with each case, and how the rows are shown."""
_judge = cache(Judge)


def _in_worker(
    network: str, data: Path, starter: Path, source: ByLocator, number: int
) -> list[Row]:
    return NETWORKS[network][0](_judge(data, starter, source), number)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=tuple(NETWORKS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--family", nargs="*", choices=tuple(FAMILIES), default=tuple(FAMILIES))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--starter", type=Path, default=BUNDLED / "starter")
    parser.add_argument("--locator", type=Path, default=BUNDLED / "locator")
    arguments = parser.parse_args()
    source = ByLocator(str(arguments.locator.resolve()))
    one = partial(_in_worker, arguments.network, arguments.data, arguments.starter, source)
    numbers = [n for n in range(arguments.cases) if family_of(n) in arguments.family]
    with ProcessPoolExecutor(arguments.processes, get_context("spawn"), use_one_thread) as pool:
        rows = [row for some in pool.map(one, numbers) for row in some]
    print(as_table(list(NETWORKS[arguments.network][1](rows))))


if __name__ == "__main__":
    main()
