"""Our tasks in the form of SCT's two tables, and which of SCT's models we run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sct_rootlets_task.environment import VERSION
from sct_rootlets_task.models.installed import slot_name
from sct_rootlets_task.tasks import Release, Task

BUILT_IN_URL = f"pkg:pypi/sct-rootlets-task@{VERSION}"
"""Stands for the address of a built-in model; with a new version SCT sees the model as outdated."""

Table = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """One of SCT's tasks that we run.

    Parameters
    ----------
    name : str
        Name of the task in SCT.
    model : str
        Name of its model in SCT, which is also the name of the model's folder.
    task : Task
        Entry of our registry.
    release : Release
        What SCT installs for it, unless SCT has another address for the model.
    """

    name: str
    model: str
    task: Task
    release: Release


def make_entries(
    tasks: Mapping[str, Task], sct_tasks: Table, sct_models: Table
) -> tuple[Entry, ...]:
    """Return what to run and what to add to SCT's tables; nothing is changed.

    A task that SCT has keeps SCT's model. Any other task gets a model folder of its own. So does
    the built-in model of a task, as the task ``<task>_<tag>``, because SCT has no ``-model``.

    Parameters
    ----------
    tasks : mapping of str to Task
        Our registry.
    sct_tasks, sct_models : dict
        ``TASKS`` and ``MODELS`` of SCT.
    """
    return tuple(_entries(tasks, sct_tasks, set(sct_models)))


def _entries(tasks: Mapping[str, Task], sct_tasks: Table, taken: set[str]) -> Iterator[Entry]:
    for task in tasks.values():
        release = task.release()
        known = sct_tasks.get(task.name)
        if known is not None and len(known["models"]) == 1:
            yield Entry(task.name, known["models"][0], task, release)
        elif known is None:
            model = slot_name(task, release) if task.model_name in taken else task.model_name
            taken.add(model)
            yield Entry(task.name, model, task, release)
        if task.fallback and task.legacy_of is None:
            built_in = task.release(task.fallback)
            name = f"{task.name}_{built_in.tag}"
            if name not in sct_tasks:
                yield Entry(name, slot_name(task, built_in), task, built_in)


def merge(entries: tuple[Entry, ...], sct_tasks: Table, sct_models: Table) -> None:
    """Add the entries to SCT's tables: all of them or, after an error, none.

    SCT's own descriptions stay; a sentence is added to them.
    """
    models = {e.model: model_in_sct_form(e) for e in entries if e.model not in sct_models}
    tasks = {e.name: task_in_sct_form(e, sct_tasks.get(e.name)) for e in entries}
    sct_models.update(models)
    sct_tasks.update(tasks)


def model_in_sct_form(entry: Entry) -> dict[str, Any]:
    """Return an entry's row of SCT's ``MODELS``."""
    release = entry.release
    return {
        "url": list(release.urls) or [f"{BUILT_IN_URL}#{release.bundled}"],
        "description": release.description,
        # One text, since SCT 6.2 and 6.3 want as many images as a model has contrasts.
        "contrasts": [", ".join(entry.task.contrasts)],
        "framework": "nnunetv2",
        "thr": None,
        "default": False,
    }


def task_in_sct_form(entry: Entry, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return an entry's row of SCT's ``TASKS``; SCT's own words where it has them."""
    if known is not None:
        return {**known, "long_description": f"{known['long_description']} {_run_by()}"}
    task, release = entry.task, entry.release
    description, long_description = task.description, task.long_description
    if release.bundled:
        description = f"{task.description} (built-in {release.tag} model, works offline)"
        long_description = (
            f"{release.description} Levels: {task.level_names}. It is not the published model "
            f"{task.default}, which the task '{task.name}' runs, and its results differ."
        )
    return {
        "description": description,
        "long_description": f"{long_description} {_run_by()}",
        "url": task.url,
        "models": [entry.model],
        "citation": release.citation or None,
    }


def _run_by() -> str:
    return (
        f"Run by sct_rootlets_task {VERSION}. SCT_ROOTLETS_RAW=1 writes the network's own "
        "labels, SCT_ROOTLETS_TILES=all runs it on the whole image."
    )
