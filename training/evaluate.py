"""Print every figure of the built-in models' card.

    python -m training.evaluate --data ../shared/data [--part PART …] [--cases 200] [--out FILE]
        [--processes 2]
        [--starter FOLDER] [--locator FOLDER] [--left-out SUBJECT=FOLDER …]
        [--variant NAME=STARTER,LOCATOR …]

The parts are:

synthetic
    Cases of seeds that training never uses.
template
    The PAM50 average.
real
    Levels on the five shared images. With ``--left-out``, also the level error of locators that
    never saw a subject.
elsewhere
    Images with no, or few, of the levels.
robustness
    One image reoriented, resampled, inverted, biased, cropped.
ends
    Rootlets beside the cut where scans are cut off.
ablation
    Each ``--variant``, as it is and with parts of the pipeline switched off.
cost
    Seconds of locator and starter.

Without ``--starter`` and ``--locator`` the weights in the package are judged. Results also go to a
JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from sct_rootlets_task import environment
from sct_rootlets_task.analysis.check import check
from sct_rootlets_task.analysis.evaluate import ALL, MEAN, compare
from sct_rootlets_task.analysis.flags import WARNING, Flag
from sct_rootlets_task.analysis.level_summary import LevelSummary, summarize
from sct_rootlets_task.inference.loading import Options
from sct_rootlets_task.io.images import InputImage, load_image
from sct_rootlets_task.io.paths import model_root
from sct_rootlets_task.level_names import level_name
from sct_rootlets_task.levels.located_canal import LocatedLevels
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.models.resolve import resolve
from sct_rootlets_task.registry import ROOTLETS, TASKS
from sct_rootlets_task.rootlets.bundles import find_bundles
from sct_rootlets_task.rootlets.centerline import line_through_rootlets
from sct_rootlets_task.rootlets.geometry import to_world
from sct_rootlets_task.runtime import default_threads
from sct_rootlets_task.segmentation.locator import locate
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings
from sct_rootlets_task.tasks import BUNDLED
from training.anatomies import WITH_LANDMARKS, WITHOUT_LANDMARKS, Anatomy, build_anatomies, hybrid
from training.artifacts import FAMILIES, VISIBLE
from training.samples import WHOLE, SampleMaker, starter_groups
from training.template import UNKNOWN, load_template

SEED = 9000
"""First of the seeds of the synthetic cases; training draws from other streams."""
CLEAR = 5.0
"""Least contrast of rootlets and CSF, in standard deviations of the noise, to be seen well."""
CORD_SEEN = "free, cord seen"
"""Cases of free contrast with a cord at least as unlike the CSF as every rootlet is."""
MOSTLY = 0.9
"""Share of the rootlets found that must have the right level for a case to count as right."""
SHORT_MM = (75.0, 120.0)
"""Lengths along the body of the parts of synthetic cases that the locator is shown as well."""
LEVELS = tuple(range(2, 10))
SUBJECTS = WITH_LANDMARKS + WITHOUT_LANDMARKS
Row = dict[str, Any]


class Judge:
    """The networks under test.

    Parameters
    ----------
    data : path
        Folder of the real images and the template.
    starter : path
        Folder that holds a model folder of the starter.
    source : ByLocator
        Where it takes its levels from.
    """

    def __init__(self, data: Path, starter: Path, source: ByLocator) -> None:
        self.data, self.starter, self.source = data, starter, source

    @cached_property
    def segmenter(self) -> Segmenter:
        """The rootlets task with the starter."""
        task = TASKS.find("rootlets")
        folder = next(self.starter.glob("nnUNetTrainer*"))
        model = resolve(task, "starter", model_root(None)).model
        release = replace(task.release("starter"), level_source=self.source)
        settings = Settings(Options(threads=default_threads()))
        return Segmenter(task, replace(model, path=folder, release=release), settings)

    @cached_property
    def template(self) -> Any:
        """The PAM50 template."""
        return load_template(self.data)

    def segment(self, image: InputImage) -> np.ndarray:
        """Return the level map of an image."""
        return self.segmenter.segment(image).labels

    def locate(self, image: InputImage, folder: Path | None = None) -> LocatedLevels:
        """Return the levels of the canal, by the locator under test or another one."""
        options = Options(device="cpu", threads=default_threads())
        return locate(image, options, locator=folder or Path(self.source.locator))

    def real(self, subject: str) -> InputImage:
        """Return one of the shared T2w images."""
        return load_image(self.data / "t2w" / f"sub-{subject}_T2w.nii.gz")


def synthetic(judge: Judge, n: int, processes: int = 1) -> Iterator[Row]:
    """Yield the mean figures of fresh cases by family of contrast, of all, and of the clear ones.

    Of the last rows, two leave out cases whose rootlets differ from the CSF by less than
    :data:`CLEAR` times the noise, and one the free cases whose cord differs from the CSF by less
    than every rootlet does.
    """
    if processes == 1:
        rows = [_synthetic_case(judge, number) for number in range(n)]
    else:
        one = partial(_case_in_worker, judge.data, judge.starter, judge.source)
        with ProcessPoolExecutor(processes, get_context("spawn"), use_one_thread) as pool:
            rows = list(pool.map(one, range(n)))
    clear = [row for row in rows if row["contrast to noise"] >= CLEAR]
    groups = {family: [row for row in rows if row["family"] == family] for family in FAMILIES}
    groups["all"] = rows
    groups["free, clear"] = [row for row in clear if row["family"] == "free"]
    groups["all, clear"] = clear
    groups[CORD_SEEN] = [row for row in groups["free"] if row["cord contrast"] >= VISIBLE]
    for family, chosen in groups.items():
        errors = [row["errors"] for row in chosen]
        steps = np.concatenate([np.zeros(0), *(e.steps for e in errors)])
        along = np.concatenate([np.zeros(0), *(e.along for e in errors)])
        parts = [row["errors of a part"] for row in chosen]
        yield {
            "family": family,
            "cases": len(chosen),
            **{
                name: _mean(row[name] for row in chosen)
                for name in (
                    "binary Dice",
                    "found within a voxel",
                    "true within a voxel",
                    "macro Dice",
                    "right level",
                    "midpoint error mm",
                )
            },
            "cases with wrong levels": sum(row["wrong"] for row in chosen),
            "of these without a warning": sum(row["wrong"] > row["warned"] for row in chosen),
            "cases with a warning": sum(row["warned"] for row in chosen),
            "level error, mean": _mean(steps),
            "along the cord, mean": _mean(along),
            "along the cord, 95 %": float(np.percentile(along, 95)) if along.size else None,
            "canal found": _mean(e.found for e in errors),
            "level error of a part, mean": _mean(np.concatenate([[], *(e.steps for e in parts)])),
            "canal of a part found": _mean(e.found for e in parts),
        }


def use_one_thread() -> None:
    """Keep a process to one thread."""
    import torch

    os.environ[environment.THREADS] = "1"
    torch.set_num_threads(1)


_judge = cache(Judge)


def _case_in_worker(data: Path, starter: Path, source: ByLocator, number: int) -> Row:
    return _synthetic_case(_judge(data, starter, source), number)


def family_of(number: int) -> str:
    """Return the kind of contrast of a case."""
    return list(FAMILIES)[number % len(FAMILIES)]


def _synthetic_case(judge: Judge, number: int) -> Row:
    """Return the figures of one fresh case."""
    family = family_of(number)
    case = SampleMaker(starter_groups(anatomies_of(judge.data)), WHOLE, (SEED, number)).make(family)
    levels = case.levels.numpy().transpose(2, 1, 0)
    image = in_memory(case.image.numpy().transpose(2, 1, 0), WHOLE.voxel_mm)
    segmentation = judge.segmenter.segment(image)
    labels = segmentation.labels
    right = _mean(labels[levels * labels > 0] == levels[levels * labels > 0])
    found = {a.level: a for a in compare(labels, levels, image.affine)}
    classes = case.classes.numpy().T
    window = short_window(classes, number)
    part = in_memory(image.data[:, :, window], WHOLE.voxel_mm)
    return {
        "family": family, "contrast to noise": case.contrast_to_noise,
        "cord contrast": case.cord_contrast,
        "binary Dice": found[ALL].dice, "macro Dice": found[MEAN].dice,
        "midpoint error mm": found[MEAN].midpoint_error_mm,
        "errors": level_errors(judge.locate(image), classes, image.affine),
        "errors of a part": level_errors(judge.locate(part), classes[:, :, window], part.affine),
        "right level": right, "wrong": right is not None and right < MOSTLY,
        "warned": bool(segmentation.warnings),
        "found within a voxel": _near_share(levels > 0, labels > 0),
        "true within a voxel": _near_share(labels > 0, levels > 0),
    }  # fmt: skip


def short_window(classes: np.ndarray, number: int) -> slice:
    """Return slices of a short field of view within the levels' canal, give or take 10 slices.

    Parameters
    ----------
    classes : ndarray of uint8, shape (x, y, z)
        True classes of a case of :data:`WHOLE`.
    number : int
        Of the case; the same one always gives the same slices.
    """
    rng, n = np.random.default_rng((SEED, number)), classes.shape[2]
    seen = np.flatnonzero(np.isin(classes, LEVELS).any(axis=(0, 1)))
    size = min(round(rng.uniform(*SHORT_MM) / WHOLE.voxel_mm), n)
    low = max(int(seen[0]) - 10, 0)
    high = max(int(seen[-1]) + 11 - size, low)
    start = min(int(rng.integers(low, high + 1)), n - size)
    return slice(start, start + size)


def _near_share(some: np.ndarray, others: np.ndarray) -> float | None:
    """Return the share of some voxels with one of the others among their 26 neighbors or there."""
    return float(_grown(others)[some].mean()) if some.any() else None


def _grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask with the 26 neighbors of its voxels."""
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask, np.ones((3, 3, 3))))


@cache
def anatomies_of(data: Path) -> list[Anatomy]:
    """Return the anatomies that synthetic cases are cut from."""
    return build_anatomies(data, WITH_LANDMARKS)


def template(judge: Judge) -> Iterator[Row]:
    """Yield the agreement with the rootlets of the PAM50 average, level by level."""
    folder = judge.data / "pam50_small"
    image = load_image(folder / "PAM50_small_t2.nii.gz")
    wanted = load_image(folder / "PAM50_small_rootlets.nii.gz").data.astype(np.uint8)
    labels = judge.segment(image)
    labels = np.where(np.isin(labels, np.unique(wanted)), labels, 0)  # it has no T1
    for item in compare(labels, wanted, image.affine):
        yield {
            "level": item.level, "Dice": item.dice, "found": item.detection,
            "midpoint error mm": item.midpoint_error_mm,
        }  # fmt: skip


def real(judge: Judge, left_out: dict[str, Path]) -> Iterator[Row]:
    """Yield the levels found on the real images, and errors of locators that never saw them."""
    for subject in SUBJECTS:
        image = judge.real(subject)
        labels = judge.segment(image)
        found = _summaries(labels, image.affine)
        gaps = [lower.midpoint - upper.midpoint for upper, lower in pairwise(found)]
        lame = [item for item in found if not (item.left_volume and item.right_volume)]
        report = check(labels, image.affine, task=ROOTLETS)
        row: Row = {
            "image": subject,
            "levels": " ".join(level_name(item.level) for item in found),
            "in order": all(gap > 0 for gap in gaps),
            "one side only": " ".join(level_name(item.level) for item in lame),
            "midpoints apart mm": " ".join(f"{gap:.0f}" for gap in gaps),
            "heights mm": " ".join(f"{item.height:.0f}" for item in found),
            "farthest from line mm": _farthest(labels, image.affine),
            "warnings": ", ".join(
                _short(flag) for flag in report.flags if flag.severity == WARNING
            ),
        }
        if subject in left_out:
            located = judge.locate(image, left_out[subject])
            for tie in ("points", "discs"):
                anatomy = hybrid(judge.template, judge.data, subject, by_points=tie == "points")
                errors = level_errors(located, _truth(anatomy, image), image.affine)
                row |= {
                    f"left-out level error, by {tie}": _mean(errors.steps),
                    f"along the cord, by {tie}": _mean(errors.along),
                }
            row["canal found"] = errors.found
        yield row


def elsewhere(judge: Judge) -> Iterator[Row]:
    """Yield voxels and levels on images that show none, or few, of the levels."""
    for name in ("lumbar_T2w", "axial_T2w", "crop_T1w"):
        labels = judge.segment(load_image(judge.data / "other" / f"{name}.nii.gz"))
        yield {"image": name, **_census(labels)}
    for subject in WITH_LANDMARKS:
        image = judge.real(subject)
        line_z = _height_of_t2(judge, subject)
        labels = judge.segment(_cropped(image, above=line_z))
        yield {"image": f"{subject}, below vertebra T2", **_census(labels)}


def robustness(judge: Judge, subject: str = "errsm24", *, only: str = "") -> Iterator[Row]:
    """Yield how far the midpoints move when one image is changed in ways that should not matter.

    Only changes whose name ends in `only` are tried. Where a part is cut off, the levels before are
    those of what is left, of which at least half of the level's rootlets are.
    """
    image = judge.real(subject)
    whole = judge.segment(image)
    for name, changed in _variants(image):
        if not name.endswith(only):
            continue
        before = _centers(_still_in_view(whole, image, changed), image.affine)
        after = _centers(judge.segment(changed), changed.affine)
        moved = {v: float(np.linalg.norm(after[v] - before[v])) for v in before if v in after}
        yield {
            "change": name, "levels lost": len(before) - len(moved),
            "midpoints move, mean mm": _mean(moved.values()),
            "most mm": max(moved.values(), default=None),
        }  # fmt: skip


CONTINUED: dict[str, dict[str, Any]] = {"goes on": {}, "ends there": {"edge_padding_mm": 0.0}}
"""What the network is shown past the end of an image, by fields of the level source."""
END_MM, KEPT_MM, CUT_EVERY_MM = 4, 70, 16
"""For :func:`ends`; the scans have slices of 1 mm."""


def ends(judge: Judge) -> Iterator[Row]:
    """Yield which rootlets are found beside the ends of scans that are cut off there.

    The scans are cut through the part with rootlets, every few mm, and what lies on one side is
    kept. What the whole scan shows beside the cut is what should be found.
    """
    whole = [_cropped(judge.real(subject)) for subject in WITH_LANDMARKS]
    expected = [judge.segmenter.find(image).classes > 0 for image in whole]
    for shown, changes in CONTINUED.items():
        segmenter = Judge(judge.data, judge.starter, replace(judge.source, **changes)).segmenter
        for kept in ("below", "above"):
            counts = np.array(
                [
                    (truth.sum(), found.sum(), (truth & found).sum(), (truth & _grown(found)).sum())
                    for image, rootlets in zip(whole, expected, strict=True)
                    for truth, found in _beside_cuts(image, rootlets, segmenter, kept)
                ]
            )
            truth, found, both, near = (int(n) for n in counts.sum(axis=0))
            yield {
                "past the end the image": shown, "kept": f"what is {kept} the cut",
                "cuts": len(counts), "Dice with the whole scan": 2 * both / (truth + found),
                "found within a voxel": near / truth,
            }  # fmt: skip


def _beside_cuts(
    image: InputImage, rootlets: np.ndarray, segmenter: Segmenter, kept: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rootlets beside each cut, as given and as found in what is kept."""
    heights = np.flatnonzero(rootlets.any(axis=(0, 1)))
    for cut in range(int(heights[0]) + 16, int(heights[-1]) - 15, CUT_EVERY_MM):
        if kept == "below":
            low, high, beside = max(cut - KEPT_MM, 0), cut, slice(-END_MM, None)
        else:
            low, high, beside = cut, cut + KEPT_MM, slice(END_MM)
        found = segmenter.find(_cropped(image, below=low, above=high)).classes > 0
        yield rootlets[:, :, low:high][:, :, beside], found[:, :, beside]


SWITCHES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "borders as located": {"shift_mm": 0.0},
    "no averaging for the locator": {"min_voxel_mm": None},
}
"""What an ablation switches off, by fields of the level source."""


def ablation(
    data: Path, variants: dict[str, tuple[Path, Path]], n: int, processes: int = 1
) -> Iterator[Row]:
    """Yield what other weights, and the pipeline with parts switched off, would give."""
    for name, (starter, locator) in variants.items():
        for switch, changes in SWITCHES.items():
            judge = Judge(data, starter, ByLocator(str(locator), **changes))
            cases = next(r for r in synthetic(judge, n, processes) if r["family"] == "all")
            average = list(template(judge))[-1]
            resampled = [r for r in robustness(judge, only="mm") if r["most mm"]]
            yield {
                "networks": name, "pipeline": switch, "synthetic cases": cases["cases"],
                "binary Dice": cases["binary Dice"], "macro Dice": cases["macro Dice"],
                "PAM50 macro Dice": average["Dice"],
                "PAM50 midpoint error mm": average["midpoint error mm"],
                "resampled, midpoints move, most mm": max(r["most mm"] for r in resampled),
            }  # fmt: skip


def cost(judge: Judge) -> Iterator[Row]:
    """Yield the seconds of locator and starter on a large image, the second time in a process."""
    image = judge.real("errsm11")
    judge.segment(image)
    found = judge.segmenter.segment(image)
    yield {"image": "errsm11, 384×216×52", **{k: round(v, 2) for k, v in found.seconds.items()}}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["synthetic", "template", "real", "elsewhere", "robustness", "ends", "ablation", "cost"]
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", nargs="*", choices=parts, default=parts)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--processes", type=int, default=1, help="for the synthetic cases")
    parser.add_argument("--starter", type=Path, default=BUNDLED / "starter")
    parser.add_argument("--locator", type=Path, default=BUNDLED / "locator")
    parser.add_argument("--left-out", nargs="*", default=[], metavar="SUBJECT=FOLDER")
    parser.add_argument("--variant", nargs="*", default=[], metavar="NAME=STARTER,LOCATOR")
    parser.add_argument("--ablation-cases", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    left_out = {s: Path(f) for s, f in (pair.split("=") for pair in arguments.left_out)}
    variants = {}
    for text in arguments.variant:
        name, starter, locator = text.replace("=", ",").split(",")
        variants[name] = (Path(starter).resolve(), Path(locator).resolve())
    judge = Judge(arguments.data, arguments.starter, ByLocator(str(arguments.locator.resolve())))
    several = arguments.processes
    makers = {
        "synthetic": lambda: synthetic(judge, arguments.cases, several),
        "template": lambda: template(judge),
        "real": lambda: real(judge, left_out),
        "elsewhere": lambda: elsewhere(judge),
        "robustness": lambda: robustness(judge),
        "ends": lambda: ends(judge),
        "ablation": lambda: ablation(judge.data, variants, arguments.ablation_cases, several),
        "cost": lambda: cost(judge),
    }
    results = {}
    for part in arguments.part:
        start = time.monotonic()
        results[part] = list(makers[part]())
        print(f"\n## {part}\n\n{as_table(results[part])}", flush=True)
        print(f"\n({time.monotonic() - start:.0f} s)", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def in_memory(data: np.ndarray, voxel_mm: float) -> InputImage:
    """Return intensities (shape (x, y, z)) as an image with cubic voxels."""
    affine = np.diag([voxel_mm] * 3 + [1.0])
    header = nib.Nifti1Image(data, affine).header
    return InputImage(Path("case.nii.gz"), data.astype(np.float32), affine, header)


def _with(image: InputImage, data: np.ndarray, affine: np.ndarray) -> InputImage:
    header = nib.Nifti1Image(data, affine).header
    return InputImage(image.path, data.astype(np.float32), affine, header)


@dataclass(frozen=True)
class LevelErrors:
    """How far a locator is off, over the voxels of the true canal that it found.

    Parameters
    ----------
    steps : ndarray of int
        Difference between the level given and the true one.
    along : ndarray of float
        The same for levels that grow continuously along the cord, from each level's start to the
        next one's. A border that is off by a third of a level gives a third, not 0 and 1.
    found : float
        Share of the true canal's voxels that were found.
    """

    steps: np.ndarray
    along: np.ndarray
    found: float


def level_errors(located: LocatedLevels, truth: np.ndarray, affine: np.ndarray) -> LevelErrors:
    """Compare located levels with true ones, of which only the values 2 to 9 count."""
    canal = np.isin(truth, LEVELS)
    both = canal & (located.labels > 0)
    steps = np.abs(located.labels[both].astype(int) - truth[both].astype(int))
    share = float(both.sum() / max(canal.sum(), 1))
    if located.line is None or not both.any():
        return LevelErrors(steps, np.zeros(0), share)
    arcs = located.line.project(to_world(np.argwhere(both), affine))[:, 0]
    given = [
        (arc, number)
        for level in located.levels
        for arc, number in ((level.start, level.level), (level.end, level.level + 1))
    ]
    true_arcs = located.line.project(to_world(np.argwhere(canal), affine))[:, 0]
    along = np.abs(_continuous(given, arcs) - _continuous(_ends(true_arcs, truth[canal]), arcs))
    return LevelErrors(steps, along, share)


def _ends(arcs: np.ndarray, levels: np.ndarray) -> list[tuple[float, int]]:
    """Return (arc, level) where levels begin and, one higher, end, but for stray voxels."""
    ends = []
    for level in np.unique(levels):
        start, end = np.percentile(arcs[levels == level], [1, 99])
        ends += [(float(start), int(level)), (float(end), int(level) + 1)]
    return ends


def _continuous(ends: list[tuple[float, int]], arcs: np.ndarray) -> np.ndarray:
    """Return the level, between whole numbers too, at arcs; a border's two ends are averaged."""
    numbers = sorted({number for _, number in ends})
    places = [np.mean([arc for arc, n in ends if n == number]) for number in numbers]
    return np.interp(arcs, places, numbers)


def _truth(anatomy: Anatomy, image: InputImage) -> np.ndarray:
    """Return the classes of a hybrid on the grid of its image (1 mm, any orientation)."""
    from nibabel.processing import resample_from_to

    affine = nib.as_closest_canonical(nib.Nifti1Image(image.data, image.affine)).affine.copy()
    affine[:3, 3] = affine[:3] @ [*anatomy.origin[::-1], 1]
    affine[:3, :3] *= anatomy.voxel_mm
    classes = anatomy.classes.numpy()
    classes = np.where(classes == UNKNOWN, 0, classes).T
    source = nib.Nifti1Image(np.ascontiguousarray(classes), affine)
    target = (image.data.shape, image.affine)
    return np.asarray(resample_from_to(source, target, order=0).dataobj).astype(np.uint8)


def _summaries(labels: np.ndarray, affine: np.ndarray) -> tuple[LevelSummary, ...]:
    """Return the levels found, from head to tail."""
    return summarize(find_bundles(labels, affine).items) if labels.any() else ()


def _short(flag: Flag) -> str:
    """Return a flag in a few words."""
    return flag.code if flag.level is None else f"{flag.code} {level_name(flag.level)}"


def _farthest(labels: np.ndarray, affine: np.ndarray) -> float | None:
    """Return the largest distance of a component's middle from the line between the rootlets."""
    from scipy.ndimage import center_of_mass, label

    if not labels.any():
        return None
    line = line_through_rootlets(to_world(np.argwhere(labels), affine))
    components, n = label(labels > 0, structure=np.ones((3, 3, 3)))
    middles = np.array(center_of_mass(labels > 0, components, range(1, n + 1)))
    across = line.project(to_world(middles, affine))[:, 1:]
    return round(float(np.linalg.norm(across, axis=1).max()), 1)


def _centers(labels: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Return the middle of each level in world mm: of its two sides' ends along the body."""
    result = {}
    for level in LEVELS:
        voxels = np.argwhere(labels == level)
        if len(voxels):
            points = to_world(voxels, affine)
            result[level] = np.percentile(points, (5, 95), axis=0).mean(axis=0)[1:]
    return result


def _still_in_view(labels: np.ndarray, image: InputImage, changed: InputImage) -> np.ndarray:
    """Return the labels of an image that lie in a changed one, of levels half of which do."""
    voxels = np.argwhere(labels)
    places = nib.affines.apply_affine(np.linalg.inv(changed.affine), to_world(voxels, image.affine))
    inside = ((places > -0.5) & (places < np.array(changed.data.shape) - 0.5)).all(axis=1)
    result = np.zeros_like(labels)
    result[tuple(voxels[inside].T)] = labels[tuple(voxels[inside].T)]
    for level in LEVELS:
        if (result == level).sum() < (labels == level).sum() / 2:
            result[result == level] = 0
    return result


def _census(labels: np.ndarray) -> Row:
    found = [level for level in LEVELS if (labels == level).any()]
    return {
        "rootlet voxels": int((labels > 0).sum()),
        "levels": " ".join(level_name(level) for level in found),
    }


def _height_of_t2(judge: Judge, subject: str) -> int:
    """Return the slice, counted from below, of the landmark of vertebra T2."""
    path = judge.data / f"t2w/sub-{subject}_T2w_landmarks-C2T2.nii.gz"
    marks = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    return int(np.argwhere(marks == 9)[0][2])


def _cropped(image: InputImage, *, above: int | None = None, below: int = 0) -> InputImage:
    """Return the image between two slices counted from below, in the canonical orientation."""
    whole = nib.as_closest_canonical(nib.Nifti1Image(image.data, image.affine))
    part = whole.slicer[:, :, below:above]
    return _with(image, np.asarray(part.dataobj), part.affine)


def _variants(image: InputImage) -> Iterator[tuple[str, InputImage]]:
    """Yield the image changed in ways that should move no level."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
    from nibabel.processing import resample_to_output
    from scipy.ndimage import gaussian_filter

    source = nib.Nifti1Image(image.data, image.affine)
    for axcodes in ("RAS", "LPS", "PIR", "ASL", "SLA", "IPL"):
        wanted = ornt_transform(io_orientation(image.affine), axcodes2ornt(axcodes))
        turned = source.as_reoriented(wanted)
        yield axcodes, _with(image, np.asarray(turned.dataobj), turned.affine)
    for size in (0.7, 1.3):
        small = resample_to_output(source, (size,) * 3, order=3)
        yield f"{size} mm", _with(image, np.asarray(small.dataobj).clip(0), small.affine)
    inverted = np.percentile(image.data, 99.9) - image.data
    yield "contrast inverted", _with(image, inverted, image.affine)
    drawn = np.random.default_rng(0).standard_normal(image.data.shape)
    field = gaussian_filter(drawn, 40)
    yield "bias field", _with(image, image.data * np.exp(0.4 * field / field.std()), image.affine)
    n = nib.as_closest_canonical(source).shape[2]
    yield "20 mm cut off above", _cropped(image, above=n - 20)
    yield "20 mm cut off below", _cropped(image, below=20)


def _mean(values: Any) -> float | None:
    known = [v for v in values if v is not None and np.isfinite(v)]
    return float(np.mean(known)) if known else None


def as_table(rows: list[Row]) -> str:
    """Return rows as a table in Markdown."""
    columns = list(dict.fromkeys(name for row in rows for name in row))

    def text(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(text(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
