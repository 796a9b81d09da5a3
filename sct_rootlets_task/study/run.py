"""A whole data set: find the images, work on those that need it, and count what came of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sct_rootlets_task.errors import ModelError, ModelNotInstalledError, RootletsError
from sct_rootlets_task.io.untrusted import printable, reason_of
from sct_rootlets_task.study.attempt import Setup
from sct_rootlets_task.study.dataset import find_items
from sct_rootlets_task.study.derivatives import prepare_output_dir
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.journal import Journal, write_failures
from sct_rootlets_task.study.options import Study
from sct_rootlets_task.study.outcome import DONE, FAILED, SET_ASIDE, UNCHANGED, Outcome
from sct_rootlets_task.study.plan import PlannedItem, assess, plan
from sct_rootlets_task.study.recipe import Recipe, recipe_of
from sct_rootlets_task.study.records import Record, read_record, write_record
from sct_rootlets_task.study.resources import choose_workers
from sct_rootlets_task.study.worker import make_worker
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.segmentation.locator import NetworkLoader

logger = logging.getLogger(__name__)

Runner = Callable[[Iterable[Item], Setup], Generator[Outcome, None, None]]
"""Has items worked on; yields what came of each, in any order."""


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Parameters
    ----------
    done : int
        Images that were worked on.
    unchanged : int
        Images for which nothing was to be done.
    failed : int
        Images that failed, in this run or before.
    set_aside : int
        Images whose worker died too often, in this run or before.
    left_out : int
        Images of the data set that cannot be worked on.
    failures : Path, optional
        Table of what failed, if anything did.
    log : Path, optional
        Log of the run, JSON lines.
    seconds : float
        Wall time.
    """

    done: int = 0
    unchanged: int = 0
    failed: int = 0
    set_aside: int = 0
    left_out: int = 0
    failures: Path | None = None
    log: Path | None = None
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all images that are wanted are done."""
        return not (self.failed or self.set_aside)


def run_study(
    study: Study, *, load: NetworkLoader | None = None, runner: Runner | None = None
) -> Summary:
    """Work on the images of a data set, those alone for which something is to be done.

    Parameters
    ----------
    study : Study
        Data set, results, and what is asked for.
    load : callable, optional
        Makes a network of a model folder; see
        :class:`~sct_rootlets_task.segmentation.segmenter.Segmenter`.
    runner : callable, optional
        Has the work done. By default processes of this machine do it, or the dask cluster that the
        study names.

    Raises
    ------
    RootletsError
        If the run as a whole cannot be done. An image that fails is counted, and its record says
        why.

    Notes
    -----
    Several runs may share a folder of results, each with a part of the data set.
    """
    from sct_rootlets_task.registry import TASKS

    start = time.perf_counter()
    task = TASKS.find(study.processing.task)
    _require_report(study)
    found = find_items(study, task)
    recipe = _recipe(study, task, load=load)
    prepare_output_dir(study, task)
    for one in found.left_out:
        logger.warning("%s is left out: %s", printable(one.path), one.reason)
    with Journal(study.out_dir, len(found.items)) as journal:
        journal.begin(study.command, model=recipe.model.name, images=len(found.items))
        failed = _work_through(found.items, recipe, journal, runner or _runner(study, found.items))
    if journal.counts[DONE] and study.processing.qc:
        _complete_report(recipe)
    return Summary(
        done=journal.counts[DONE],
        unchanged=journal.counts[UNCHANGED],
        failed=journal.counts[FAILED],
        set_aside=journal.counts[SET_ASIDE],
        left_out=len(found.left_out),
        failures=write_failures(study.out_dir, found.items, failed),
        log=journal.path,
        seconds=time.perf_counter() - start,
    )


def _work_through(
    items: Sequence[Item], recipe: Recipe, journal: Journal, runner: Runner
) -> list[Item]:
    """Work on the items that need it; returns those that failed, now or before."""
    begun: dict[str, Item] = {}
    failed: list[Item] = []

    def waiting() -> Iterator[Item]:
        for item, what in plan(items, recipe):
            if what.stages:
                begun[item.name] = item
                yield item
                continue
            journal.skip(what.failed_before or UNCHANGED)
            if what.failed_before:
                failed.append(item)

    with closing(runner(waiting(), partial(make_worker, recipe))) as outcomes:
        for outcome in outcomes:
            item = begun.pop(outcome.name)
            if outcome.status == SET_ASIDE:
                _set_aside(item, outcome, recipe)
            if outcome.error:
                failed.append(item)
            journal.add(item, outcome)
    return failed


def _runner(study: Study, items: Sequence[Item]) -> Runner:
    """Return what has the work done: processes of this machine, or a dask cluster."""
    from sct_rootlets_task.study.cluster import run_on_cluster
    from sct_rootlets_task.study.pool import run_in_pool

    resources = study.resources
    if resources.scheduler:
        seen = (study.bids_dir, study.out_dir)
        return partial(
            run_on_cluster, address=resources.scheduler, work_dir=study.work_dir, seen=seen
        )
    workers, threads = choose_workers(resources, items=len(items))
    logger.info("%d worker(s) with %d thread(s) each", workers, threads)
    return partial(run_in_pool, workers=workers, threads=threads)


def plan_study(study: Study) -> Iterator[PlannedItem]:
    """Yield what a run would do for each image; nothing is written, and no model is installed.

    Sizes and times of files are compared, not their contents. So an image that was only touched is
    named here, and found unchanged by the run.

    Parameters
    ----------
    study : Study
        Data set, results, and what is asked for.

    Raises
    ------
    RootletsError
        If a run could not be done.
    """
    from sct_rootlets_task.registry import TASKS

    task = TASKS.find(study.processing.task)
    found = find_items(study, task)
    recipe = _recipe(study, task, offline=True)
    for item, what in plan(found.items, recipe):
        yield PlannedItem(item.name, item.source, what.stages, what.reason)


def _recipe(
    study: Study, task: Task, *, load: NetworkLoader | None = None, offline: bool = False
) -> Recipe:
    """Return what all images share, with the model installed if it is missing."""
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import resolve

    asked = study.processing
    resolved = resolve(task, asked.model, model_root(asked.model_dir), offline=offline)
    if asked.model is None and resolved.model.builtin and resolved.model.name != task.default:
        raise ModelNotInstalledError(
            f"The published model {task.default} is not installed and could not be fetched, and a "
            f"study must not change its model on the way. Install it with 'sct_deepseg {task.name} "
            f"-install', or choose the built-in one with --model {resolved.model.name}."
        )
    if resolved.notice:
        logger.warning("%s", resolved.notice)
    try:
        return recipe_of(study, task, resolved.model, notice=resolved.notice, load=load)
    except OSError as error:
        raise ModelError(
            f"The model {printable(resolved.model.path)} cannot be read ({reason_of(error)}). "
            "Check its permissions, or install it anew."
        ) from error


def _require_report(study: Study) -> None:
    """Find out before the first image whether the QC report can be made."""
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.pages import require_jinja
    from sct_rootlets_task.qc.render import require_pillow

    if study.processing.qc:
        require_jinja()
        require_pillow()
        require_report_folder(study.out_dir / "qc")


def _complete_report(recipe: Recipe) -> None:
    """Make the list of the QC report anew; without it, the results are complete all the same."""
    from sct_rootlets_task.qc.report import rebuild

    try:
        rebuild(recipe.report)
    except RootletsError as error:
        logger.warning("The list of the QC report was not made anew: %s", error)


def _set_aside(item: Item, outcome: Outcome, recipe: Recipe) -> None:
    """Record an item whose worker died too often: it is left alone until asked for."""
    known = read_record(item.record)
    what = assess(item, recipe, known, exact=True)
    record = known or Record(item.name, item.subject, item.session, item.contrast, {})
    record = replace(
        record,
        inputs=what.inputs,
        attempt=what.attempt,
        status=SET_ASIDE,
        kind=outcome.kind,
        error=outcome.error,
        when=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    try:
        write_record(item.record, record)
    except RootletsError as error:
        logger.warning("%s: no record can be kept: %s", printable(item.name), error)
