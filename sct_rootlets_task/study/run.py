"""A whole data set: find the images, work on those that need it, and count what came of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task.errors import ModelError, RootletsError
from sct_rootlets_task.io.untrusted import printable, reason_of
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.options import Study
from sct_rootlets_task.study.outcome import DONE, FAILED, SET_ASIDE, UNCHANGED, Outcome
from sct_rootlets_task.study.plan import PlannedItem, assess, plan
from sct_rootlets_task.study.recipe import Recipe, recipe_of
from sct_rootlets_task.study.records import Record, read_record, write_record
from sct_rootlets_task.study.worker import make_worker
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.segmentation.locator import NetworkLoader

logger = logging.getLogger(__name__)


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
    seconds : float
        Wall time.
    """

    done: int = 0
    unchanged: int = 0
    failed: int = 0
    set_aside: int = 0
    left_out: int = 0
    failures: Path | None = None
    seconds: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all images that are wanted are done."""
        return not (self.failed or self.set_aside)


def run_study(study: Study, *, load: NetworkLoader | None = None) -> Summary:
    """Work on the images of a data set, those alone for which something is to be done.

    Parameters
    ----------
    study : Study
        Data set, results, and what is asked for.
    load : callable, optional
        Makes a network of a model folder; see
        :class:`~sct_rootlets_task.segmentation.segmenter.Segmenter`.

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
    found = _find_items(study, task)
    recipe = _recipe(study, task, load=load)
    _prepare(study, task)
    counts: Counter[str] = Counter()
    begun: dict[str, Item] = {}
    waiting = _to_do(found.items, recipe, counts, begun)
    with closing(_work_through(waiting, recipe)) as outcomes:
        for outcome in outcomes:
            counts[outcome.status] += 1
            _tell(begun.pop(outcome.name), outcome, recipe)
    if counts[DONE] and study.processing.qc:
        _complete_report(recipe)
    return Summary(
        done=counts[DONE],
        unchanged=counts[UNCHANGED],
        failed=counts[FAILED],
        set_aside=counts[SET_ASIDE],
        left_out=len(found.left_out),
        seconds=time.perf_counter() - start,
    )


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
    found = _find_items(study, task)
    recipe = _recipe(study, task, offline=True)
    for item, what in plan(found.items, recipe):
        yield PlannedItem(item.name, item.source, what.stages, what.reason)


def _find_items(study: Study, task: Task) -> Any:
    from sct_rootlets_task.study.dataset import find_items  # type: ignore[import-not-found]

    return find_items(study, task)


def _prepare(study: Study, task: Task) -> None:
    from sct_rootlets_task.study.derivatives import prepare_output_dir  # type: ignore[import-not-found]

    prepare_output_dir(study, task)


def _work_through(items: Iterable[Item], recipe: Recipe) -> Generator[Outcome, None, None]:
    """Yield the outcome of each item."""
    work = partial(make_worker, recipe)()
    for item in items:
        yield work(item)


def _recipe(
    study: Study, task: Task, *, load: NetworkLoader | None = None, offline: bool = False
) -> Recipe:
    """Return what all images share, with the model installed if it is missing."""
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import resolve

    asked = study.processing
    resolved = resolve(task, asked.model, model_root(asked.model_dir), offline=offline)
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


def _to_do(
    items: Iterable[Item], recipe: Recipe, counts: Counter[str], begun: dict[str, Item]
) -> Iterator[Item]:
    """Yield the items that need work, and count the others."""
    for item, what in plan(items, recipe):
        if what.stages:
            begun[item.name] = item
            yield item
        else:
            counts[what.failed_before or UNCHANGED] += 1


def _tell(item: Item, outcome: Outcome, recipe: Recipe) -> None:
    """Log what came of an item, and record what its worker could not."""
    if outcome.error:
        logger.error("%s: %s", printable(item.source), outcome.error)
    if outcome.status == SET_ASIDE:
        _set_aside(item, outcome, recipe)


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
