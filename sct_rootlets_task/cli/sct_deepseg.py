"""The ``sct_deepseg`` command of this package, for computers with or without SCT.

A command that names none of our tasks is handed to SCT's own launcher when SCT can be imported.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sct_rootlets_task.cli import console, grammar
from sct_rootlets_task.cli.arguments import start_logging
from sct_rootlets_task.cli.console import explain, run_command, show
from sct_rootlets_task.cli.many import each, show_failed
from sct_rootlets_task.errors import FAILED, NotShownError, UsageError
from sct_rootlets_task.io.untrusted import is_file, is_folder, missing_content
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.io.outputs import Job
    from sct_rootlets_task.segmentation.files import Request, SegmentedFile
    from sct_rootlets_task.segmentation.locator import NetworkLoader
    from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings

logger = logging.getLogger("sct_rootlets_task")

_OF_MODELS = ("plans.json", "dataset*.json", "source.json", "fold_*/*")


def main(
    argv: Sequence[str] | None = None,
    *,
    tasks: Mapping[str, Task] = TASKS,
    load: NetworkLoader | None = None,
) -> int:
    """Run ``sct_deepseg``.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    tasks : mapping of str to Task
        The registry.
    load : callable, optional
        Loader of networks, see :class:`~sct_rootlets_task.segmentation.segmenter.Segmenter`.

    Returns
    -------
    int
        0 when all went well, 1 when a run failed, 2 for a wrong command.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not _is_ours(arguments, tasks) and _sct_is_there():
        return _hand_to_sct(arguments)
    return run_command("sct_deepseg", arguments, partial(_run, arguments, tasks, load))


def is_legacy(arguments: Sequence[str]) -> bool:
    """Return whether a command is written in the form of SCT 6."""
    return bool(arguments) and arguments[0].startswith("-") and not _is_top_level(arguments)


def _is_top_level(arguments: Sequence[str]) -> bool:
    return bool(set(arguments) & {"-h", "--help", "-task-details"})


def _is_ours(arguments: Sequence[str], tasks: Mapping[str, Task]) -> bool:
    """Return whether a command names one of our tasks."""
    if not arguments:
        return False
    if not arguments[0].startswith("-"):
        return arguments[0] in tasks
    named = {
        following
        for word, following in itertools.pairwise(arguments)
        if word in ("-task", "-install-task", "-install")
    }
    return bool(named & set(tasks))


def _sct_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("spinalcordtoolbox") is not None


def _hand_to_sct(arguments: Sequence[str]) -> int:
    try:
        from spinalcordtoolbox.compat.launcher import main as launch
    except ImportError as error:
        show(
            "sct_deepseg: error: this command is one of Spinal Cord Toolbox's, which is installed "
            f"here but cannot be loaded ({error}). Repair its installation."
        )
        return FAILED
    before = sys.argv
    sys.argv = ["sct_deepseg", *arguments]
    try:
        return int(launch() or 0)
    finally:
        sys.argv = before


def _run(arguments: Sequence[str], tasks: Mapping[str, Task], load: NetworkLoader | None) -> int:
    if is_legacy(arguments):
        return _run_legacy(arguments, tasks, load)
    parser = grammar.modern_parser(tasks)
    first = arguments[0] if arguments else "-"
    if not first.startswith("-") and first not in tasks:
        parser.error(_foreign(first, tasks))
    parsed = parser.parse_args(arguments)
    if parsed.task_details:
        print(grammar.task_details(tasks))
        return 0
    if parsed.task is None or not (parsed.install or parsed.i):
        parser.error(grammar.NOTHING_ASKED[grammar.MODERN])
    task = tasks[parsed.task]
    if parsed.install:
        return _install([task], parsed)
    return _segment(task, parsed, arguments, load)


def _run_legacy(
    arguments: Sequence[str], tasks: Mapping[str, Task], load: NetworkLoader | None
) -> int:
    parser = grammar.legacy_parser(tasks)
    parsed = parser.parse_args(arguments)
    if parsed.list_tasks:
        print(grammar.list_tasks(tasks))
        return 0
    for name in [*(parsed.install_task or []), *([parsed.task] if parsed.task else [])]:
        if name not in tasks:
            parser.error(_foreign(name, tasks))
    if parsed.install_task:
        return _install([tasks[name] for name in parsed.install_task], parsed)
    if not (parsed.i and parsed.task):
        parser.error(grammar.NOTHING_ASKED[grammar.LEGACY])
    task = tasks[parsed.task]
    unknown = [contrast for contrast in parsed.c or () if contrast not in task.contrasts]
    if unknown:
        known = ", ".join(task.contrasts)
        parser.error(f"-c: task {task.name!r} takes the contrasts {known}, not {unknown[0]!r}.")
    parsed.test_time_aug, parsed.qc_seg = False, None
    return _segment(task, parsed, arguments, load)


def _foreign(name: str, tasks: Mapping[str, Task]) -> str:
    return (
        f"there is no task {name!r} here, and Spinal Cord Toolbox, which may have it, is not "
        f"installed in this environment. The tasks are: {', '.join(tasks)}."
    )


def _install(tasks: Sequence[Task], parsed: argparse.Namespace) -> int:
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.install import install

    start_logging(parsed.v)
    root = model_root(parsed.model_dir)
    for task in tasks:
        release = task.release(parsed.model)
        model = install(task, release, root, urls=parsed.custom_url, progress=parsed.v > 0)
        print(f"Model {model.name} of task {task.name} is installed: {model.path}")
    return 0


def _segment(
    task: Task,
    parsed: argparse.Namespace,
    arguments: Sequence[str],
    load: NetworkLoader | None,
) -> int:
    from sct_rootlets_task.runtime import announced_threads, chosen_threads

    start_logging(parsed.v)
    parsed.threads = chosen_threads(parsed.threads)
    with announced_threads(parsed.threads):
        return _segment_images(task, parsed, arguments, load)


def _segment_images(
    task: Task,
    parsed: argparse.Namespace,
    arguments: Sequence[str],
    load: NetworkLoader | None,
) -> int:
    """Check everything that can be checked before the model is loaded, then run."""
    from sct_rootlets_task.segmentation.files import Request

    settings = _settings(task, parsed)
    jobs, done = _plan(task, parsed)
    request = Request(
        arguments,
        qc=Path(parsed.qc) if parsed.qc else None,
        qc_dataset=parsed.qc_dataset,
        qc_subject=parsed.qc_subject,
        qc_seg=Path(parsed.qc_seg) if parsed.qc_seg else None,
    )
    request.require_all(jobs)
    if not jobs:
        logger.info("Nothing to do: all %d image(s) have a result.", done)
        return 0
    start = time.perf_counter()
    segmenter, notice = _load(task, parsed, settings, load)
    failures = _segment_all(jobs, segmenter, replace(request, notice=notice))
    seconds, there = time.perf_counter() - start, f", {done} skipped" if done else ""
    segmented = len(jobs) - len(failures)
    logger.info("%d of %d image(s) segmented in %.1f s%s", segmented, len(jobs), seconds, there)
    show_failed([job.image for job in failures], len(jobs))
    if request.qc and segmented:
        from sct_rootlets_task.qc.report import INDEX
        from sct_rootlets_task.qc.stored import shown

        print(f"To see all images of the report, open:\n{shown(request.qc / INDEX)}")
    return 1 if failures else 0


def _plan(task: Task, parsed: argparse.Namespace) -> tuple[Sequence[Job], int]:
    """Return the files to write for each image, and how many are skipped, as their result is there.

    Every image and the mask must be there.
    """
    from sct_rootlets_task.io.outputs import check_outputs, name_outputs
    from sct_rootlets_task.segmentation.existing import sort_by_result

    images, masks = _given(parsed)
    viewers = parsed.lut or ()
    named = name_outputs(images, parsed.o, task.suffix, preview=parsed.preview, viewers=viewers)
    results = _results_among(images)
    jobs = [job for job in named if job.image not in results]
    leftovers, done = set[Path](), set[Path]()
    if parsed.skip_existing:
        leftovers, done = sort_by_result(jobs, task.name)
    kept = [*(job.image for job in jobs), *masks, *_files_of_model(parsed.model)]
    jobs = [job for job in jobs if job.output not in done]
    outputs = [one for job in jobs for one in job.outputs]
    check_outputs((o for o in outputs if o.path not in leftovers), kept, overwrite=parsed.overwrite)
    # A level map that was cut short is nobody's work; it may be replaced like one of ours.
    forced = 0 if parsed.overwrite == 0 else 1
    check_outputs((o for o in outputs if o.path in leftovers), kept, overwrite=forced)
    return jobs, len(done)


def _given(parsed: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Return the images, each once, and the mask; all must be there."""
    from sct_rootlets_task.io.nifti import folder_for_image
    from sct_rootlets_task.io.outputs import each_once

    images, again = each_once([Path(name) for name in parsed.i])
    for image in again:
        logger.warning("%s was given more than once; it is segmented once.", image)
    masks = [Path(parsed.qc_seg)] if parsed.qc_seg else []
    for image in [*images, *masks]:
        if is_folder(image):
            raise UsageError(folder_for_image(image))
        if not (_may_be_file(image) or missing_content(image)):
            raise UsageError(f"This file does not exist: {image}. Check the path.")
    return images, masks


def _results_among(images: Sequence[Path]) -> set[Path]:
    """Return the level maps among images, which a pattern of names may have caught.

    Raises
    ------
    UsageError
        If no image is left.
    """
    from sct_rootlets_task.io.ownership import is_result

    results = [image for image in images if is_result(image)]
    if results and len(results) == len(images):
        raise UsageError(
            f"Expected an image to segment, found {results[0]}, which is a result of "
            "segmentation. Give the image that it was made of."
        )
    for result in results:
        logger.warning("%s is a result of segmentation, and no image: it is left out.", result)
    return set(results)


def _files_of_model(model: str | None) -> list[Path]:
    """Return the files of a model that was given as a folder or an archive; no result is one.

    Only names of a model's files are looked at: its folder may be the study's own, however large.
    """
    from sct_rootlets_task.io.paths import expand_user

    path = expand_user(model) if model else None
    if path is None or not is_folder(path):
        return [path] if path is not None and is_file(path) else []
    folders = [path, *path.glob("nnUNetTrainer*")]
    found = (one for folder in folders for name in _OF_MODELS for one in folder.glob(name))
    return [one for one in found if is_file(one)]


def _may_be_file(path: Path) -> bool:
    """Return whether a name may be that of a file: one in a closed folder fails when it is read."""
    try:
        return path.is_file()
    except OSError as error:
        return isinstance(error, PermissionError)


def _settings(task: Task, parsed: argparse.Namespace) -> Settings:
    from sct_rootlets_task.inference.loading import Options
    from sct_rootlets_task.segmentation.segmenter import settings_of_command

    network = Options(
        engine=parsed.engine,
        device=parsed.device,
        precision=parsed.precision,
        threads=parsed.threads,
        test_time_aug=parsed.test_time_aug,
        progress=parsed.v > 0,
    )
    return settings_of_command(
        task,
        network,
        thresholded=parsed.thr is not None,
        remove_small=parsed.remove_small,
        raw=parsed.raw,
        tiles=parsed.tiles,
        largest=bool(parsed.largest),
        fill_holes=bool(parsed.fill_holes),
    )


def _load(
    task: Task, parsed: argparse.Namespace, settings: Settings, load: NetworkLoader | None
) -> tuple[Segmenter, str | None]:
    """Return the loaded model and what the user must know about it."""
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import resolve
    from sct_rootlets_task.segmentation.segmenter import Segmenter

    resolved = resolve(task, parsed.model, model_root(parsed.model_dir), progress=parsed.v > 0)
    if resolved.notice:
        show(f"\n{resolved.notice}\n")
    return Segmenter(task, resolved.model, settings, load=load), resolved.notice


def _segment_all(jobs: Sequence[Job], segmenter: Segmenter, request: Request) -> list[Job]:
    """Segment each image and return those that failed."""
    from sct_rootlets_task.segmentation.files import segment_to_files

    def segment(job: Job) -> None:
        result = segment_to_files(job, segmenter, request)
        if logger.isEnabledFor(logging.INFO):
            _report(job, result)

    failed: list[Job] = []
    for _ in each(jobs, segment, failed, file=lambda job: job.image, reason=_reason):
        pass
    return failed


def _reason(job: Job, error: Exception) -> str:
    """Return the line of an error, with the image's name where its text lacks it."""
    text = explain(error, f"segmenting {job.image}")
    if isinstance(error, NotShownError) and isinstance(error.__cause__, Exception):
        text = f"{explain(error.__cause__, f'drawing {job.output}')} {text}"
    return f"sct_deepseg: error: {text if str(job.image) in text else f'{job.image}: {text}'}"


def _report(job: Job, result: SegmentedFile) -> None:
    """Print what was found and how to look at it; the check that is named says all of the rest."""
    from sct_rootlets_task.io.luts import viewer_commands
    from sct_rootlets_task.io.untrusted import file_argument

    print(f"\nLevels found (voxels): {result.levels_found}")
    if result.report.flags:
        words = ["sct_rootlets", "check", "-i", file_argument(job.output)]
        if result.segmentation.located is not None:
            words += ["-locator", file_argument(job.image)]
        print(f"{result.report.summary} To list them, type:\n{shlex.join(words)}")
    for path in filter(None, (job.output, job.preview, *job.luts.values())):
        print(f"Created file: {path}")
    print("Done! To view results, type:")
    for command in viewer_commands(job.image, job.output, tuple(job.luts)):
        print(command)


if __name__ == "__main__":
    sys.exit(console.sct_deepseg())
