"""The registry refuses wrong entries with what it expected."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sct_rootlets_task.errors import TaskDefinitionError, UsageError
from sct_rootlets_task.levels.sources import ByLocator, ByMap, ByName
from sct_rootlets_task.registry import ROOTLETS, TASKS
from sct_rootlets_task.rootlets.postprocess import HookContext
from sct_rootlets_task.tasks import BUNDLED, Release, TaskRegistry

PUBLISHED = ROOTLETS.release()


def hook_with_other_names(image: np.ndarray, context: HookContext) -> np.ndarray:
    return image


def hook_with_too_many(labels: np.ndarray, context: HookContext, radius: int) -> np.ndarray:
    return labels


def hook_with_default(labels: np.ndarray, context: HookContext, radius: int = 3) -> np.ndarray:
    return labels


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "two words"}, "name without spaces"),
        ({"default": "r1999"}, "default among"),
        ({"fallback": "r20250318"}, "fallback among ['starter']"),
        ({"releases": (PUBLISHED, PUBLISHED)}, "distinct tags"),
        ({"orientation": "RAX"}, "orientation of three letters"),
        ({"levels": ()}, "ascending levels"),
        ({"levels": (3, 2)}, "ascending levels"),
        ({"levels": (2, 31)}, "ascending levels"),
        ({"levels": (2, 10)}, "priors with a height for every level"),
        ({"contrasts": ()}, "at least one contrast"),
        ({"suffix": "rootlets"}, "starts with '_'"),
        ({"qc_style": "fancy"}, "QC style"),
        ({"level_source": "by name"}, "level source"),
        ({"hooks": (hook_with_other_names,)}, "signature (labels, context)"),
        ({"hooks": (hook_with_too_many,)}, "signature (labels, context)"),
        ({"hooks": ("remove_specks",)}, "signature (labels, context)"),
    ],
)
def test_a_wrong_task_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(TaskDefinitionError, match=re.escape(expected)):
        replace(ROOTLETS, **change)


def test_the_error_for_a_hook_shows_both_signatures() -> None:
    with pytest.raises(TaskDefinitionError) as caught:
        replace(ROOTLETS, hooks=(hook_with_too_many,))
    assert "(labels, context)" in str(caught.value)
    assert "radius" in str(caught.value)


def test_a_hook_may_have_parameters_of_its_own_with_defaults() -> None:
    assert replace(ROOTLETS, hooks=(hook_with_default,)).hooks == (hook_with_default,)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"tag": "../up"}, "usable as a file name"),
        ({"urls": ()}, "either urls or"),
        ({"bundled": "starter"}, "either urls or"),
        ({"urls": "https://one"}, "tuple of mirrors"),
        ({"urls": ("http://plain",)}, "start with https://"),
        ({"sha256": "ABC"}, "64 lower-case"),
    ],
)
def test_a_wrong_release_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(TaskDefinitionError, match=re.escape(expected)):
        replace(PUBLISHED, **change)


def test_task_names_are_distinct() -> None:
    with pytest.raises(TaskDefinitionError, match="distinct task names"):
        TaskRegistry([ROOTLETS, ROOTLETS])


def test_a_legacy_name_leads_to_a_task() -> None:
    with pytest.raises(TaskDefinitionError, match="legacy_of"):
        TaskRegistry([replace(ROOTLETS, legacy_of="nowhere")])


def test_the_registry_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TASKS["other"] = ROOTLETS  # type: ignore[index]


def test_the_registry_holds_the_published_tasks() -> None:
    rootlets, legacy = TASKS["rootlets"], TASKS["seg_spinal_rootlets_t2w"]
    assert (rootlets.default, rootlets.level_names) == ("r20250318", "C2–T1")
    assert rootlets.contrasts == ("t2", "UNIT1", "T1w-INV1", "T1w-INV2")
    assert (legacy.default, legacy.level_names) == ("r20240730", "C2–C8")
    assert legacy.contrasts == ("t2",)


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_every_task_runs_offline_with_a_built_in_model(task: Any) -> None:
    built_in = task.release(task.fallback)
    assert list((BUNDLED / built_in.bundled).glob("nnUNetTrainer*/plans.json"))


def test_a_release_says_how_it_tells_levels_or_its_task_does() -> None:
    assert ROOTLETS.levels_of(ROOTLETS.release("starter")) == ByLocator()
    assert ROOTLETS.levels_of(PUBLISHED) == ByName()
    assert ROOTLETS.levels_of(None) == ByName()


def test_a_model_of_ones_own_without_levels_takes_them_from_the_locator() -> None:
    assert ROOTLETS.levels_of(None, {"background": 0, "rootlets": 1}) == ByLocator()
    assert ROOTLETS.levels_of(None, {"background": 0, "lvl1": 1}) == ByName()


def test_an_unknown_release_is_a_usage_error_that_names_the_known() -> None:
    with pytest.raises(UsageError, match="r20250318, starter"):
        ROOTLETS.release("r1999")


def test_a_release_needs_no_more_than_tag_text_and_mirror() -> None:
    release = Release("r1", "A model.", ("https://example.org/r1.zip",))
    assert replace(ROOTLETS, releases=(release,), default="r1", fallback=None).release() is release


def test_a_model_that_knows_only_rootlets_takes_its_levels_from_the_locator() -> None:
    binary = ("background", "rootlets")
    for release in (None, PUBLISHED):
        assert isinstance(ROOTLETS.levels_of(release, binary), ByLocator)
        named = ROOTLETS.levels_of(release, ("background", "lvl2", "lvl3"))
        assert named == ROOTLETS.level_source
    told = replace(PUBLISHED, level_source=ByMap(((1, 5),)))
    assert ROOTLETS.levels_of(told, binary) == told.level_source


LUMBAR = replace(ROOTLETS, name="lumbar", levels=tuple(range(20, 28)), priors=None)
THORACIC = replace(ROOTLETS, name="thoracic", levels=tuple(range(9, 21)), priors=None)
SEVERAL = TaskRegistry([*TASKS.values(), LUMBAR, THORACIC])


@pytest.mark.parametrize(
    ("tasks", "values", "recorded", "task"),
    [
        (TASKS, range(10), None, "rootlets"),
        (TASKS, (3, 77), None, "rootlets"),
        (TASKS, (), None, "rootlets"),
        (TASKS, (3, 4), "seg_spinal_rootlets_t2w", "rootlets"),
        (TASKS, (3, 4), "of another package", "rootlets"),
        (SEVERAL, (0, 2, 9), None, "rootlets"),
        (SEVERAL, (8, 9, 10), "thoracic", "thoracic"),
        (SEVERAL, (10, 11), None, "thoracic"),
        (SEVERAL, (21, 99), None, "lumbar"),
        (SEVERAL, (), "lumbar", "lumbar"),
        (SEVERAL, (3, 4), "lumbar", "lumbar"),
    ],
)
def test_a_map_is_of_the_task_of_its_sidecar_or_of_its_values(
    tasks: TaskRegistry, values: Any, recorded: str | None, task: str
) -> None:
    assert tasks.of_map(values, recorded=recorded).name == task


@pytest.mark.parametrize(
    ("tasks", "values", "question"),
    [
        (TASKS, range(20, 28), "Its values are 20–27, which are levels of none of rootlets"),
        (SEVERAL, (9,), "Its values are 9, which may be of rootlets (C2–T1), thoracic (T1–T12)."),
        (SEVERAL, (3, 22), "Its values are 3, 22, which may be of rootlets (C2–T1), lumbar"),
        (SEVERAL, (), "It holds no labels, so it may be of rootlets (C2–T1), lumbar (T12–S2)"),
        (SEVERAL, (77,), "which are levels of none of rootlets (C2–T1), lumbar (T12–S2), thor"),
    ],
)
def test_a_map_that_may_be_of_several_tasks_or_of_none_is_a_question(
    tasks: TaskRegistry, values: Any, question: str
) -> None:
    with pytest.raises(UsageError, match="-task") as caught:
        tasks.of_map(values, where="level map a.nii.gz")
    assert question in str(caught.value)
    assert "Which task is the level map a.nii.gz of?" in str(caught.value)
