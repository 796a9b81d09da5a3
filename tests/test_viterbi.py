"""The Viterbi algorithm against all paths there are."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task.rootlets.viterbi import cheapest_path

# Few numbers make many ties; infinity forbids a step.
LINK = st.sampled_from([0.0, 1.0, 2.0, np.inf])


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    steps, states = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    costs = draw(st.lists(st.integers(0, 3), min_size=steps * states, max_size=steps * states))
    size = states * states
    links = draw(st.lists(st.lists(LINK, min_size=size, max_size=size), min_size=4, max_size=4))
    tables = [np.reshape(link, (states, states)) for link in links]
    for table in tables:  # staying is always possible
        np.fill_diagonal(table, np.minimum(table.diagonal(), 2))
    return np.reshape(costs, (steps, states)).astype(float), tables


@pytest.mark.parametrize("late", [False, True])
@given(problems())
def test_no_path_is_cheaper_and_of_equals_the_one_described_is_taken(
    late: bool, problem: tuple[np.ndarray, list[np.ndarray]]
) -> None:
    costs, links = problem
    steps, states = costs.shape

    def price(path: tuple[int, ...]) -> float:
        ways = zip(links, pairwise(path), strict=False)
        return float(costs[range(steps), path].sum() + sum(link[way] for link, way in ways))

    def order(path: tuple[int, ...]) -> tuple[int, ...]:
        last, *before = path[::-1]
        return (last, *(-state if late else state for state in before))

    paths = list(product(range(states), repeat=steps))
    least = min(map(price, paths))
    best = min((path for path in paths if price(path) == least), key=order)
    cost, found = cheapest_path(costs, links, late=late)
    assert (cost, tuple(found)) == (least, best)
