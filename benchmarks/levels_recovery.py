"""Count how many corrupted levels of the PAM50 rootlets are restored, or flagged.

    python -m benchmarks.levels_recovery [--cases 500]

Each case corrupts the 32 bundles of the template in one way. The task's hooks see the labels and
nothing else. The check sees their result and the template's cord. Where all levels are shifted,
which labels alone cannot show, it sees the discs as well. Counted are:

restored
    Corrupted bundles of which 95 % of the voxels have their true level again, and strewn or extra
    pieces of which 95 % are gone. "With -discs" adds what ``sct_rootlets relabel -discs`` restores
    where all levels are shifted.
untouched
    Cases in which every voxel of every other bundle kept its level.
flagged
    Cases not restored in full in which a flag of the check names a level concerned. Where all
    levels are shifted, the shift that undoes it must be named.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from sct_rootlets_task.analysis.check import Report, check
from sct_rootlets_task.analysis.relabel import levels_from_discs
from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.corrections import order_levels, remove_strays, unify_bundles
from sct_rootlets_task.levels.landmarks import Landmarks, disc_points
from sct_rootlets_task.registry import ROOTLETS
from sct_rootlets_task.rootlets.components import connected
from sct_rootlets_task.rootlets.postprocess import HookContext, remove_specks

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "pam50"
LEVELS = tuple(range(2, 10))
HOOKS = (remove_specks, remove_strays, unify_bundles, order_levels)
_ENOUGH = 0.95
_MARGIN_MM = 40.0


@dataclass(frozen=True, eq=False)
class Template:
    """The intact labels, cut down to the rootlets and 40 mm around them."""

    labels: np.ndarray
    affine: np.ndarray
    cord: np.ndarray
    discs: dict[int, np.ndarray]
    bundles: tuple[np.ndarray, ...]
    """Voxel indices, shape (n, 3), of each bundle."""


@dataclass(frozen=True, eq=False)
class Case:
    """One corruption: the labels, and which voxels are to be what."""

    labels: np.ndarray
    truth: np.ndarray
    pieces: tuple[np.ndarray, ...]
    """Voxel indices of each corrupted bundle or extra piece."""
    shifted: bool = False


def load_template(folder: Path = DATA) -> Template:
    """Read PAM50's rootlets, cord and discs."""
    import nibabel as nib

    image = nib.load(folder / "PAM50_rootlets.nii.gz")
    whole = np.asarray(image.dataobj).astype(np.uint8)
    voxels = np.argwhere(whole)
    margin = round(_MARGIN_MM / 0.5)
    low = np.maximum(voxels.min(axis=0) - margin, 0)
    high = np.minimum(voxels.max(axis=0) + margin + 1, whole.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    affine = image.affine.copy()
    affine[:3, 3] = affine[:3, :3] @ low + affine[:3, 3]
    discs = nib.load(folder / "PAM50_label_disc.nii.gz")
    cord = np.asarray(nib.load(folder / "PAM50_cord.nii.gz").dataobj)[box]
    voxels = np.argwhere(whole[box])
    piece = connected(voxels)
    return Template(
        whole[box],
        affine,
        cord,
        disc_points(np.asarray(discs.dataobj), discs.affine),
        tuple(voxels[piece == n] for n in range(piece.max() + 1)),
    )


def _at(labels: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    return labels[tuple(voxels.T)]


def _other(generator: np.random.Generator, level: int) -> int:
    return int(generator.choice([other for other in LEVELS if other != level]))


def _neighbor(generator: np.random.Generator, level: int) -> int:
    return int(generator.choice([n for n in (level - 1, level + 1) if n in LEVELS]))


def _some(template: Template, generator: np.random.Generator) -> list[np.ndarray]:
    chosen = generator.choice(len(template.bundles), generator.integers(1, 5), replace=False)
    return [template.bundles[n] for n in chosen]


def wrong_bundles(template: Template, generator: np.random.Generator) -> Case:
    """One to four bundles get another level."""
    labels = template.labels.copy()
    pieces = _some(template, generator)
    for voxels in pieces:
        labels[tuple(voxels.T)] = _other(generator, int(_at(template.labels, voxels)[0]))
    return Case(labels, template.labels, tuple(pieces))


def wrong_level(template: Template, generator: np.random.Generator) -> Case:
    """All bundles of a level get the number of a neighbor."""
    level = int(generator.choice(LEVELS))
    labels = template.labels.copy()
    labels[template.labels == level] = _neighbor(generator, level)
    pieces = [v for v in template.bundles if _at(template.labels, v)[0] == level]
    return Case(labels, template.labels, tuple(pieces))


def mixed_bundles(template: Template, generator: np.random.Generator) -> Case:
    """One to four bundles get another level in 10–60 % of their voxels, strewn or from one end."""
    labels = template.labels.copy()
    pieces = _some(template, generator)
    for voxels in pieces:
        level = int(_at(template.labels, voxels)[0])
        other = (_neighbor if generator.random() < 0.5 else _other)(generator, level)
        count = int(np.ceil(generator.uniform(0.1, 0.6) * len(voxels)))
        along = voxels[:, 2] * generator.choice([-1, 1])
        key = along if generator.random() < 0.5 else generator.random(len(voxels))
        labels[tuple(voxels[np.argsort(key, kind="stable")[:count]].T)] = other
    return Case(labels, template.labels, tuple(pieces))


def swapped_levels(template: Template, generator: np.random.Generator) -> Case:
    """Two neighboring levels are swapped."""
    upper = int(generator.choice(LEVELS[:-1]))
    labels = template.labels.copy()
    labels[template.labels == upper] = upper + 1
    labels[template.labels == upper + 1] = upper
    pieces = [v for v in template.bundles if _at(template.labels, v)[0] in (upper, upper + 1)]
    return Case(labels, template.labels, tuple(pieces))


def missing_level(template: Template, generator: np.random.Generator) -> Case:
    """A level is not there; nothing can be restored, nothing else may change."""
    labels = template.labels.copy()
    labels[labels == generator.choice(LEVELS)] = 0
    return Case(labels, labels, ())


def specks(template: Template, generator: np.random.Generator) -> Case:
    """One to five specks of 1–40 voxels of any level, up to 30 mm from the rootlets."""
    labels = template.labels.copy()
    rootlets = np.argwhere(template.labels)
    pieces: list[np.ndarray] = []
    wanted = generator.integers(1, 6)
    while len(pieces) < wanted:
        direction = generator.normal(size=3)
        away = generator.uniform(2, 30) / 0.5 * direction / np.linalg.norm(direction)
        start = np.round(generator.choice(rootlets) + away).astype(int)
        voxels = _speck(start, int(generator.integers(1, 41)), generator)
        near = np.clip(voxels[:, None] + np.arange(-2, 3)[None, :, None], 0, None).reshape(-1, 3)
        inside = (voxels >= 3).all() and (voxels < np.array(labels.shape) - 3).all()
        if inside and not _box_any(labels, near):
            labels[tuple(voxels.T)] = generator.choice(LEVELS)
            pieces.append(voxels)
    return Case(labels, template.labels, tuple(pieces))


def _box_any(labels: np.ndarray, voxels: np.ndarray) -> bool:
    low, high = voxels.min(axis=0), voxels.max(axis=0) + 1
    return bool(labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]].any())


def _speck(start: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """Return a connected blob grown from a voxel."""
    grown = [tuple(start)]
    while len(grown) < size:
        step = np.zeros(3, dtype=int)
        step[generator.integers(3)] = generator.choice([-1, 1])
        voxel = tuple(np.array(grown[generator.integers(len(grown))]) + step)
        if voxel not in grown:
            grown.append(voxel)
    return np.array(grown)


def shifted_levels(template: Template, generator: np.random.Generator) -> Case:
    """All levels are one too high or too low; the one that has no number any more is lost."""
    shift = int(generator.choice([-1, 1]))
    moved = template.labels.astype(int) + shift
    kept = (template.labels > 0) & (moved >= LEVELS[0]) & (moved <= LEVELS[-1])
    labels = np.where(kept, moved, 0).astype(np.uint8)
    truth = np.where(kept, template.labels, 0).astype(np.uint8)
    pieces = [v for v in template.bundles if _at(labels, v).any()]
    return Case(labels, truth, tuple(pieces), shifted=True)


def extra_bundles(template: Template, generator: np.random.Generator) -> Case:
    """One to four bundles of T2 are there, labeled T1, 12–18 mm below those of T1."""
    labels = template.labels.copy()
    last = [v for v in template.bundles if _at(template.labels, v)[0] == LEVELS[-1]]
    chosen = generator.choice(len(last), generator.integers(1, 5), replace=False)
    down = np.array([0, 0, round(generator.uniform(12, 18) / 0.5)])
    pieces = [last[n] - down for n in chosen]
    for voxels in pieces:
        labels[tuple(voxels.T)] = LEVELS[-1]
    return Case(labels, template.labels, tuple(pieces))


CORRUPTIONS: tuple[Callable[[Template, np.random.Generator], Case], ...] = (
    wrong_bundles,
    wrong_level,
    mixed_bundles,
    swapped_levels,
    missing_level,
    specks,
    shifted_levels,
    extra_bundles,
)


@dataclass
class Tally:
    """Counts of one kind of corruption."""

    cases: int = 0
    pieces: int = 0
    restored: int = 0
    by_discs: int = 0
    untouched: int = 0
    unrepaired: int = 0
    flagged: int = 0


def relabeled(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Apply the hooks in the task's order."""
    context = HookContext(affine, LEVELS, priors=CERVICAL)
    for hook in HOOKS:
        labels = hook(labels, context)
    return labels


def restored_pieces(case: Case, result: np.ndarray) -> list[bool]:
    """Say of each corrupted piece whether it is as it should be."""
    return [(_at(result, v) == _at(case.truth, v)).mean() >= _ENOUGH for v in case.pieces]


def is_flagged(case: Case, result: np.ndarray, report: Report) -> bool:
    """Say whether the report warns of what is still wrong."""
    if case.shifted:
        back = {
            int(t) - int(r) for t, r in zip(case.truth[result > 0], result[result > 0], strict=True)
        }
        return len(back) == 1 and any(s.shift in back and s.advantage >= 3 for s in report.shifts)
    wrong = result != case.truth
    named = {int(v) for v in np.unique(np.r_[result[wrong], case.truth[wrong]]) if v}
    return any(flag.level in named for flag in report.flags)


def run_case(template: Template, case: Case, tally: Tally) -> None:
    """Relabel and check one case, and count."""
    result = relabeled(case.labels, template.affine)
    restored = restored_pieces(case, result)
    tally.cases += 1
    tally.pieces += len(restored)
    tally.restored += sum(restored)
    spared = (case.truth > 0) & (case.labels == case.truth)
    for voxels in case.pieces:
        spared[tuple(voxels.T)] = False
    tally.untouched += bool((result[spared] == case.labels[spared]).all())
    missing = not case.pieces
    if case.shifted:
        again = levels_from_discs(
            result, template.affine, discs=template.discs, cord=template.cord, task=ROOTLETS
        )
        tally.by_discs += sum(restored_pieces(case, again))
    if missing or not all(restored):
        references = Landmarks(cord=template.cord, discs=template.discs if case.shifted else None)
        report = check(result, template.affine, landmarks=references, task=ROOTLETS)
        tally.unrepaired += 1
        if missing:
            gone = set(LEVELS) - {int(v) for v in np.unique(result)}
            found = {f.level for f in report.warnings if f.code == "level_missing"}
            tally.flagged += gone <= found
        else:
            tally.flagged += is_flagged(case, result, report)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2025)
    options = parser.parse_args(arguments)
    template = load_template()
    intact = relabeled(template.labels, template.affine)
    warnings = check(
        template.labels,
        template.affine,
        landmarks=Landmarks(cord=template.cord, discs=template.discs),
        task=ROOTLETS,
    ).warnings
    print(
        f"intact labels: {np.count_nonzero(intact != template.labels)} voxels changed, "
        f"{len(warnings)} warnings"
    )
    tallies = [Tally() for _ in CORRUPTIONS]
    for number in range(options.cases):
        kind = number % len(CORRUPTIONS)
        generator = np.random.default_rng((options.seed, number))
        run_case(template, CORRUPTIONS[kind](template, generator), tallies[kind])
    _print_table(tallies)


def _print_table(tallies: list[Tally]) -> None:
    titles = (
        "cases",
        "pieces",
        "restored",
        "with -discs",
        "untouched",
        "unrepaired",
        "flagged",
    )
    print(("{:18}" + "{:>13}" * 7).format("corruption", *titles))
    names = [corruption.__name__ for corruption in CORRUPTIONS]
    rest = [t for t, n in zip(tallies, names, strict=True) if n != shifted_levels.__name__]
    rows = [*zip(names, tallies, strict=True), ("all but shifted", _sum(rest))]
    for name, tally in [*rows, ("all", _sum(tallies))]:
        cells = (
            tally.cases,
            tally.pieces,
            _percent(tally.restored, tally.pieces),
            _percent(tally.restored + tally.by_discs, tally.pieces),
            _percent(tally.untouched, tally.cases),
            tally.unrepaired,
            _percent(tally.flagged, tally.unrepaired),
        )
        print(("{:18}" + "{:>13}" * 7).format(name, *cells))


def _sum(tallies: list[Tally]) -> Tally:
    return Tally(*(sum(getattr(t, f.name) for t in tallies) for f in fields(Tally)))


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


if __name__ == "__main__":
    main()
