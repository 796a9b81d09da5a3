"""The Viterbi algorithm: the sequence of states of least cost."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def cheapest_path(
    costs: np.ndarray, links: Iterable[np.ndarray], *, late: bool = False
) -> tuple[float, np.ndarray]:
    """Return the least total cost of one state a step, and these states.

    Parameters
    ----------
    costs : ndarray of float, shape (steps, states)
        Cost of each state at each step.
    links : iterable of ndarray of float, shape (states, states)
        Cost of each state (row) being followed by each (column), for each step but the last;
        infinite where it may not be. Those beyond are not read, so ``itertools.repeat`` will do.
    late : bool
        Which of equally good ways to a state is taken: from the last state, not from the first.
        The path ends in the first of equally good states.

    Returns
    -------
    cost : float
        Total of costs and links.
    path : ndarray of int, shape (steps,)
        State of each step.

    Examples
    --------
    >>> forwards = np.array([[0, 0], [np.inf, 0]])
    >>> cheapest_path(np.array([[0, 1], [3, 0], [1, 2]]), [forwards] * 2)
    (2.0, array([0, 1, 1]))
    """
    total, came_from = costs[0], []
    for cost, link in zip(costs[1:], links, strict=False):
        ways = total[:, None] + link
        came_from.append(len(ways) - 1 - ways[::-1].argmin(axis=0) if late else ways.argmin(axis=0))
        total = ways.min(axis=0) + cost
    path = [int(total.argmin())]
    for table in reversed(came_from):
        path.append(int(table[path[-1]]))
    return float(total.min()), np.array(path[::-1])
