"""Level names and numbers, and classes turned into levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sct_rootlets_task.errors import LevelSourceError
from sct_rootlets_task.io.label_values import count_levels, relabel
from sct_rootlets_task.level_names import level_from_class_name, level_name, name_levels
from sct_rootlets_task.levels.sources import ByMap, ByName, class_levels

LABELS = arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 30))
MAPPINGS = st.dictionaries(st.integers(1, 30), st.integers(0, 30))


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("lvl1", 1),
        ("lvl9", 9),
        ("LVL_3", 3),
        ("level 4", 4),
        ("C2", 2),
        ("c8", 8),
        ("T1", 9),
        ("T12", 20),
        ("L1", 21),
        ("L5", 25),
        ("S1", 26),
        ("S5", 30),
    ],
)
def test_class_names_tell_levels(name: str, level: int) -> None:
    assert level_from_class_name(name) == level


@pytest.mark.parametrize("name", ["C9", "C0", "T13", "S6", "lvl0", "lvl31", "rootlets", "", "lvl"])
def test_other_class_names_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(LevelSourceError, match="Use a model of this task"):
        level_from_class_name(name)


@given(st.integers(1, 30))
def test_every_level_has_a_name_that_leads_back(level: int) -> None:
    assert level_from_class_name(level_name(level)) == level


@pytest.mark.parametrize("level", [0, 31, -1])
def test_numbers_that_are_no_level_are_refused(level: int) -> None:
    with pytest.raises(LevelSourceError, match=str(level)):
        level_name(level)


@pytest.mark.parametrize(
    ("levels", "text"),
    [((2,), "C2"), (range(2, 10), "C2–T1"), ((9, 8), "C8–T1"), ((9, 7), "C7, T1")],
)
def test_a_run_of_levels_is_named_by_its_ends_and_others_one_by_one(
    levels: range, text: str
) -> None:
    assert name_levels(levels) == text


CLASSES = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}


def test_a_class_whose_level_is_not_expected_becomes_background() -> None:
    mapping = class_levels(ByName(), CLASSES, range(2, 10))
    assert mapping == {1: 0, **{i: i for i in range(2, 10)}}


def test_a_map_gives_lumbar_classes_their_levels() -> None:
    source = ByMap(tuple((i, i + 19) for i in range(1, 9)))
    classes = {"background": 0, **{f"root{i}": i for i in range(1, 9)}}
    assert class_levels(source, classes, range(20, 28))[1] == 20


@pytest.mark.parametrize(
    ("source", "classes", "words"),
    [
        (ByMap(((1, 2),)), {"background": 0, "a": 1, "b": 2}, "Extend the map"),
        (ByMap(((1, 2), (2, 2))), {"background": 0, "a": 1, "b": 2}, "one class a level"),
        (ByName(), {"background": 0, "lvl2": 1, "C2": 2}, "one class a level"),
        (ByName(), {"background": 0, "rootlets": 1}, "named after a spinal level"),
        (ByName(), {"background": 0, "L1": 1}, "another task"),
    ],
)
def test_a_model_that_does_not_fit_the_task_is_refused(
    source: ByName | ByMap, classes: dict[str, int], words: str
) -> None:
    with pytest.raises(LevelSourceError, match=words):
        class_levels(source, classes, range(2, 10))


@given(LABELS, MAPPINGS)
def test_relabeling_reads_everything_before_it_writes(
    labels: np.ndarray, mapping: dict[int, int]
) -> None:
    result = relabel(labels, mapping)
    expected = [mapping.get(int(value), 0) for value in labels.ravel()]
    assert result.ravel().tolist() == expected
    assert result.shape == labels.shape
    assert result.dtype == np.uint8


@given(LABELS)
def test_relabeling_with_the_identity_changes_nothing(labels: np.ndarray) -> None:
    assert np.array_equal(relabel(labels, {i: i for i in range(31)}), labels)


@given(LABELS, MAPPINGS)
def test_relabeling_never_invents_a_level(labels: np.ndarray, mapping: dict[int, int]) -> None:
    assert set(np.unique(relabel(labels, mapping))) <= set(mapping.values()) | {0}


@given(LABELS)
def test_level_counts_add_up_to_the_labeled_voxels(labels: np.ndarray) -> None:
    counts = count_levels(labels)
    assert sum(counts.values()) == np.count_nonzero(labels)
    assert 0 not in counts
