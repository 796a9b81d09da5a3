"""Rules of the hooks that make levels consistent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sct_rootlets_task.levels.anatomical_priors import CERVICAL
from sct_rootlets_task.levels.corrections import (
    decide_levels,
    follow_bundles,
    order_levels,
    remove_strays,
    sound_bundles,
    unify_bundles,
)
from sct_rootlets_task.rootlets.bundles import find_bundles
from sct_rootlets_task.rootlets.components import connected
from sct_rootlets_task.rootlets.postprocess import HookContext, remove_specks
from tools.phantom import Phantom, PhantomBundle, make_phantom, typical_bundles

LEVELS = tuple(range(2, 10))
HOOKS = (remove_specks, remove_strays, unify_bundles, order_levels)
Corruption = Callable[[np.ndarray, np.random.Generator], None]


@functools.cache
def phantom() -> Phantom:
    return make_phantom(voxel_mm=(1, 1, 1), bend_per_mm=1 / 150)


@functools.cache
def pieces() -> tuple[np.ndarray, ...]:
    voxels = np.argwhere(phantom().labels)
    number = connected(voxels)
    return tuple(voxels[number == n] for n in range(number.max() + 1))


def context() -> HookContext:
    return HookContext(phantom().affine, LEVELS, priors=CERVICAL)


def hooked(labels: np.ndarray) -> np.ndarray:
    for hook in HOOKS:
        labels = hook(labels, context())
    return labels


def change_bundles(labels: np.ndarray, generator: np.random.Generator) -> None:
    for number in generator.choice(len(pieces()), 3, replace=False):
        labels[tuple(pieces()[number].T)] = generator.choice(LEVELS)


def mix_bundle(labels: np.ndarray, generator: np.random.Generator) -> None:
    voxels = pieces()[generator.integers(len(pieces()))]
    chosen = generator.permutation(len(voxels))[: len(voxels) // 3]
    labels[tuple(voxels[chosen].T)] = generator.choice(LEVELS)


def mix_end_of_bundle(labels: np.ndarray, generator: np.random.Generator) -> None:
    voxels = pieces()[generator.integers(len(pieces()))]
    low = voxels[:, 2] < np.quantile(voxels[:, 2], 0.4)
    level = int(labels[tuple(voxels[0])])
    labels[tuple(voxels[low].T)] = level + 1 if level < 9 else 8


def swap_levels(labels: np.ndarray, generator: np.random.Generator) -> None:
    upper = generator.choice(LEVELS[:-1])
    at_upper, at_lower = labels == upper, labels == upper + 1
    labels[at_upper], labels[at_lower] = upper + 1, upper


def rename_level(labels: np.ndarray, generator: np.random.Generator) -> None:
    level = generator.choice(LEVELS[:-1])
    labels[labels == level] = level + 1


def add_specks(labels: np.ndarray, generator: np.random.Generator) -> None:
    k = generator.integers(3, labels.shape[2] - 3)
    labels[0, 0:2, k] = generator.choice(LEVELS)
    labels[-1, -2:, k] = generator.choice(LEVELS)


CORRUPTIONS: tuple[Corruption, ...] = (
    change_bundles,
    mix_bundle,
    mix_end_of_bundle,
    swap_levels,
    rename_level,
    add_specks,
)


def corrupted(corruption: Corruption, seed: int) -> np.ndarray:
    labels = phantom().labels.copy()
    corruption(labels, np.random.default_rng(seed))
    return labels


@pytest.mark.parametrize("hook", HOOKS)
def test_intact_labels_stay_as_they_are(hook: Callable[..., np.ndarray]) -> None:
    assert (hook(phantom().labels, context()) == phantom().labels).all()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_hooks_together_restore_the_levels_and_remove_specks(
    corruption: Corruption, seed: int
) -> None:
    assert (hooked(corrupted(corruption, seed)) == phantom().labels).all()


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("corruption", CORRUPTIONS[:-1])
def test_each_hook_never_invents_a_rootlet_or_a_level_and_makes_nothing_worse(
    hook: Callable[..., np.ndarray], corruption: Corruption
) -> None:
    labels = corrupted(corruption, 11)
    before = labels.copy()
    result = hook(labels, context())
    assert (labels == before).all()
    assert result.dtype == np.uint8
    assert not (result[labels == 0]).any()
    assert set(np.unique(result)) <= set(LEVELS) | {0}
    assert mean_dice(result) >= mean_dice(labels) - 1e-6


def mean_dice(labels: np.ndarray) -> float:
    truth = phantom().labels
    scores = []
    for level in LEVELS:
        both = np.count_nonzero((labels == level) & (truth == level))
        scores.append(2 * both / (np.count_nonzero(labels == level) + (truth == level).sum()))
    return float(np.mean(scores))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_hooks_are_idempotent_on_any_mixture_of_corruptions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = phantom().labels.copy()
    for number in generator.integers(0, len(CORRUPTIONS), 3):
        CORRUPTIONS[number](labels, generator)
    for hook in HOOKS:
        labels = hook(labels, context())
        assert (hook(labels, context()) == labels).all()
    assert (hooked(labels) == labels).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_random_blocks_are_never_added_to_and_are_left_alone_the_second_time(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.zeros((30, 20, 120), np.uint8)
    for _ in range(25):
        i, j, k = generator.integers(0, (27, 17, 112))
        labels[i : i + 2, j : j + 2, k : k + generator.integers(2, 8)] = generator.integers(2, 10)
    once = hooked_on(labels)
    assert not once[labels == 0].any()
    assert (hooked_on(once) == once).all()


def hooked_on(labels: np.ndarray) -> np.ndarray:
    for hook in HOOKS:
        labels = hook(labels, HookContext(np.eye(4), LEVELS, priors=CERVICAL))
    return labels


def test_touching_bundles_of_two_levels_keep_both() -> None:
    bundles = [b for b in typical_bundles() if b.level not in (5, 6)]
    bundles += [
        PhantomBundle(level, side, "dorsal", start, end)
        for level, start, end in ((5, 55.0, 68.0), (6, 68.0, 80.0))
        for side in ("left", "right")
    ]
    touching = make_phantom(bundles, voxel_mm=(1, 1, 1))
    result = touching.labels
    for hook in HOOKS:
        result = hook(result, HookContext(touching.affine, LEVELS, priors=CERVICAL))
    assert (result == touching.labels).all()


def test_a_small_piece_in_line_with_the_rootlets_is_no_stray() -> None:
    labels = phantom().labels.copy()
    voxels = pieces()[0]
    middle = int(np.median(voxels[:, 2]))
    cut = voxels[np.abs(voxels[:, 2] - middle) <= 1]
    low = voxels[voxels[:, 2] < middle - 2]
    labels[tuple(cut.T)] = 0
    labels[tuple(low.T)] = 0
    assert (remove_strays(labels, context()) == labels).all()


def test_strays_are_measured_in_mm3_not_voxels() -> None:
    fine = make_phantom(voxel_mm=(0.5, 0.5, 0.5))
    labels = fine.labels.copy()
    labels[0:3, 0:3, 100:103] = 5
    cleaned = remove_strays(labels, HookContext(fine.affine, LEVELS, priors=CERVICAL))
    assert (cleaned == fine.labels).all()
    labels[0:5, 0:5, 100:104] = 5
    assert (
        remove_strays(labels, HookContext(fine.affine, LEVELS, priors=CERVICAL)) == labels
    ).all()


def test_bundles_beyond_the_last_level_are_removed() -> None:
    bundles = [
        *typical_bundles(),
        *(PhantomBundle(9, side, "dorsal", 131.0, 140.0) for side in ("left", "right")),
    ]
    extended = make_phantom(bundles, voxel_mm=(1, 1, 1))
    result = order_levels(extended.labels, HookContext(extended.affine, LEVELS, priors=CERVICAL))
    found = find_bundles(result, extended.affine, cord=extended.cord)
    assert sum(b.level == 9 for b in found.items) == 4


def test_sides_that_contradict_each_other_are_not_guessed() -> None:
    labels = phantom().labels.copy()
    bundles = find_bundles(labels, phantom().affine, cord=phantom().cord)
    moved = [b.level + 1 if b.side == "left" and b.level < 9 else b.level for b in bundles.items]
    labels = bundles.paint(moved)
    result = order_levels(labels, context())
    right = bundles.paint(b.level if b.side == "right" else 0 for b in bundles.items) > 0
    inner = right & (labels > 2)
    assert (result[inner] == labels[inner]).mean() > 0.7


def test_levels_that_count_more_are_changed_for_stronger_reasons_only() -> None:
    truth = find_bundles(phantom().labels, phantom().affine, cord=phantom().cord)
    lowest = max((b for b in truth.items if b.level == 5), key=lambda b: b.midpoint)
    moved = truth.paint(b.level + (b is lowest) for b in truth.items)
    usual, firm = (
        order_levels(moved, replace(context(), level_weight=weight)) for weight in (1.0, 1000.0)
    )
    assert (usual == truth.paint(b.level for b in truth.items)).all()
    assert (firm == moved).all()


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_voxels_are_no_error(hook: Callable[..., np.ndarray], count: int) -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[2, 2, :count] = 4
    result = hook(labels, HookContext(np.diag([2.0, 2, 2, 1]), LEVELS, priors=CERVICAL))
    assert (result == labels).all()


def test_tasks_outside_the_priors_are_not_reordered() -> None:
    labels = corrupted(swap_levels, 0)
    lumbar = HookContext(phantom().affine, tuple(range(20, 28)))
    assert (order_levels(labels, lumbar) == labels).all()


def test_sound_bundles_leave_out_specks_and_strays() -> None:
    labels = phantom().labels.copy()
    labels[0, 0, 50] = 4
    labels[0, 0:2, 60:62] = 4
    bundles = find_bundles(labels, phantom().affine)
    counted, strays = sound_bundles(bundles, labels)
    assert len(counted) == len(phantom().bundles)
    assert sorted(b.volume for b in strays) == pytest.approx([1.0, 4.0])


def between_two_bundles(high: slice, low: slice | None = slice(30, 42)) -> np.ndarray:
    """Return C3 at z = 60 to 71, C4 further down, and a piece of C4 between them on one side."""
    labels = np.zeros((40, 40, 90), np.uint8)
    for x in (10, 29):
        labels[x : x + 2, 18:21, 60:72] = 3
        labels[x : x + 2, 18:21, 30:42] = 4
    if low is None:
        labels[10:12, 18:21, 30:42] = 0
    labels[12, 18:21, high] = 4
    return labels


@pytest.mark.parametrize(
    ("piece", "level"), [(slice(53, 58), 3), (slice(54, 56), 4), (slice(45, 50), 4)]
)
def test_a_piece_follows_the_nearer_bundle(piece: slice, level: int) -> None:
    labels = between_two_bundles(piece)
    expected = labels.copy()
    expected[12, 18:21, piece] = level
    assert np.array_equal(follow_bundles(labels, np.eye(4)), expected)


def test_a_piece_that_is_all_there_is_of_its_level_on_a_side_stays() -> None:
    labels = between_two_bundles(slice(53, 58), low=None)
    assert np.array_equal(follow_bundles(labels, np.eye(4)), labels)


@pytest.mark.parametrize("seed", range(5))
def test_following_bundles_changes_no_intact_labels(seed: int) -> None:
    made = make_phantom(typical_bundles(seed=seed))
    assert np.array_equal(follow_bundles(made.labels, made.affine), made.labels)


def test_decisions_are_one_level_a_bundle() -> None:
    bundles = find_bundles(phantom().labels, phantom().affine)
    assert decide_levels(bundles, LEVELS, priors=CERVICAL) == tuple(b.level for b in bundles.items)


@pytest.mark.data
def test_pam50_is_left_alone(shared_data: Path) -> None:
    import nibabel as nib

    image = nib.load(shared_data / "pam50" / "PAM50_rootlets.nii.gz")
    labels = np.asarray(image.dataobj).astype(np.uint8)
    result = labels
    for hook in HOOKS:
        result = hook(result, HookContext(image.affine, LEVELS, priors=CERVICAL))
    assert (result == labels).all()
