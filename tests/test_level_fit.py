"""Rules of the global fit, on bundles written down by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.level_fit import MARGIN, fit_levels, vote_costs
from sct_rootlets_task.rootlets.bundles import Bundle, find_bundles
from tools.phantom import make_phantom

LEVELS = tuple(range(2, 10))


def bundle(
    number: int, level: int, midpoint: float, *, height: float = 9, volume: float = 40
) -> Bundle:
    return Bundle(
        number=number,
        level=level,
        votes=((level, 100),),
        side="left" if number % 2 else "right",
        part="dorsal",
        start=midpoint - height / 2,
        end=midpoint + height / 2,
        volume=volume,
        anterior=0.0,
        reach=10.0,
    )


def spine(levels: tuple[int, ...] = LEVELS, *, apart: float = 15.0) -> list[Bundle]:
    return [
        bundle(2 * n + side, level, apart * (level - 2) + 0.5 * side)
        for n, level in enumerate(levels)
        for side in (0, 1)
    ]


@pytest.mark.parametrize("apart", [11.0, 15.0, 18.0])
def test_a_regular_spine_keeps_its_levels_with_certainty(apart: float) -> None:
    bundles = spine(apart=apart)
    fit = fit_levels(bundles, LEVELS, priors=CERVICAL)
    assert fit.levels == tuple(b.level for b in bundles)
    others = np.where(fit.costs < 1e-9, np.inf, fit.costs)
    assert others.min() > MARGIN


@pytest.mark.parametrize("levels", [(5, 6, 7), (2, 3, 4, 6, 7, 8, 9), (4, 6, 8)])
def test_missing_levels_do_not_renumber_the_others(levels: tuple[int, ...]) -> None:
    bundles = spine(levels)
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels == tuple(b.level for b in bundles)


@pytest.mark.parametrize("number", range(16))
@pytest.mark.parametrize("wrong", [2, 5, 9])
def test_one_wrong_bundle_takes_the_level_of_those_beside_it(number: int, wrong: int) -> None:
    bundles = spine()
    truth = tuple(b.level for b in bundles)
    bundles[number] = bundle(number, wrong, bundles[number].midpoint)
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels == truth


@pytest.mark.parametrize("upper", LEVELS[:-1])
def test_two_swapped_levels_are_swapped_back(upper: int) -> None:
    swapped = {upper: upper + 1, upper + 1: upper}
    bundles = [bundle(b.number, swapped.get(b.level, b.level), b.midpoint) for b in spine()]
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels == tuple(b.level for b in spine())


def test_a_pair_one_spacing_below_the_last_level_is_none_of_the_levels() -> None:
    bundles = [*spine(), bundle(16, 9, 120.0), bundle(17, 9, 120.5)]
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels[-4:] == (9, 9, 0, 0)


def test_a_pair_far_below_with_the_last_level_absent_keeps_its_level() -> None:
    bundles = [b for b in spine() if b.level < 9]
    bundles += [bundle(14, 9, 120.0), bundle(15, 9, 120.5)]
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels[-2:] == (9, 9)


def test_fragments_of_one_bundle_keep_its_level() -> None:
    bundles = [b for b in spine() if b.level != 5]
    bundles += [
        bundle(20, 5, 41.0, height=3, volume=8),
        bundle(21, 5, 45.0, height=4, volume=12),
        bundle(22, 5, 49.0, height=3, volume=8),
    ]
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels[-3:] == (5, 5, 5)


def test_all_levels_shifted_cannot_be_told_from_the_labels_and_stay() -> None:
    bundles = [bundle(b.number, b.level + 1, b.midpoint) for b in spine(LEVELS[:-1])]
    assert fit_levels(bundles, LEVELS, priors=CERVICAL).levels == tuple(b.level for b in bundles)


def test_sides_that_contradict_each_other_leave_doubt() -> None:
    bundles = [bundle(b.number, b.level + (b.number % 2), b.midpoint) for b in spine(LEVELS[:-1])]
    fit = fit_levels(bundles, LEVELS, priors=CERVICAL)
    own = [fit.costs[b.number, LEVELS.index(b.level)] for b in bundles]
    assert max(own) < MARGIN + 1


def test_very_many_fragments_are_left_as_they_are() -> None:
    dust = [bundle(100 + n, 2, 15.0 * n / 10, height=1, volume=0.5) for n in range(80)]
    fit = fit_levels([*spine(), *dust], LEVELS, priors=CERVICAL)
    assert fit.levels[:16] == tuple(b.level for b in spine())
    assert (fit.weights == 0).sum() == 32
    assert np.isinf(fit.costs[fit.weights == 0]).all()


def test_evidence_takes_the_place_of_the_votes() -> None:
    bundles = [bundle(b.number, 2, b.midpoint) for b in spine()]
    evidence = vote_costs(spine(), LEVELS)
    assert fit_levels(bundles, LEVELS, evidence=evidence, priors=CERVICAL).levels == tuple(
        b.level for b in spine()
    )


def test_minority_votes_make_a_change_cheaper() -> None:
    pure = bundle(0, 5, 10.0)
    mixed = replace(pure, votes=((5, 55), (6, 45)))
    costs = vote_costs([pure, mixed], LEVELS)
    assert costs[1, LEVELS.index(6)] < costs[0, LEVELS.index(6)]
    assert (costs[:, LEVELS.index(5)] == 0).all()


def test_no_bundles_need_no_levels() -> None:
    assert fit_levels([], LEVELS, priors=CERVICAL).levels == ()


def test_priors_are_ordered_and_additive() -> None:
    assert CERVICAL.spacing(3, 5)[0] == pytest.approx(
        CERVICAL.spacing(3, 4)[0] + CERVICAL.spacing(4, 5)[0]
    )
    assert CERVICAL.spacing(3, 5)[1] == pytest.approx(2.2 * 2**0.5, abs=1e-3)
    places = [CERVICAL.midpoint_below_pmj(level) for level in range(1, 12)]
    assert places == sorted(places)
    assert all(0 < low < high for low, high in map(CERVICAL.height_range, LEVELS))


def test_levels_that_no_numbering_makes_possible_cost_infinitely_much() -> None:
    labels = make_phantom(voxel_mm=(1, 1, 1)).labels
    bundles = find_bundles(labels, np.diag([8.0, 8.0, 8.0, 1.0])).items
    costs = fit_levels(bundles, range(2, 10), priors=CERVICAL).costs
    assert not np.isnan(costs).any()
