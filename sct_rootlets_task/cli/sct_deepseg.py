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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sct_rootlets_task.cli import console, grammar
from sct_rootlets_task.cli.arguments import start_logging
from sct_rootlets_task.cli.console import explain, is_foreseen, run_command, show
from sct_rootlets_task.errors import FAILED, OutputError, UsageError
from sct_rootlets_task.io.progress import remaining
from sct_rootlets_task.io.untrusted import is_file, is_folder, missing_content
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.analysis.check import Report
    from sct_rootlets_task.io.images import InputImage
    from sct_rootlets_task.io.outputs import Job
    from sct_rootlets_task.segmentation.segmenter import (
        NetworkLoader,
        Segmentation,
        Segmenter,
        Settings,
    )

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
    """Tell whether a command is written in the form of SCT 6."""
    return bool(arguments) and arguments[0].startswith("-") and not _is_top_level(arguments)


def _is_top_level(arguments: Sequence[str]) -> bool:
    return bool(set(arguments) & {"-h", "--help", "-task-details"})


def _is_ours(arguments: Sequence[str], tasks: Mapping[str, Task]) -> bool:
    """Tell whether a command names one of our tasks."""
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


@dataclass(frozen=True, eq=False)
class _Run:
    """What all images of one command share."""

    segmenter: Segmenter
    notice: str | None
    parsed: argparse.Namespace
    arguments: Sequence[str]


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
    from sct_rootlets_task.io.nifti import folder_for_image
    from sct_rootlets_task.io.outputs import each_once, plan_outputs

    settings = _settings(task, parsed)
    images, again = each_once([Path(name) for name in parsed.i])
    for image in again:
        logger.warning("%s was given more than once; it is segmented once.", image)
    masks = [Path(parsed.qc_seg)] if parsed.qc_seg else []
    for image in [*images, *masks]:
        if is_folder(image):
            raise UsageError(folder_for_image(image))
        if not (_may_be_file(image) or missing_content(image)):
            raise UsageError(f"This file does not exist: {image}. Check the path.")
    jobs = plan_outputs(
        images,
        parsed.o,
        task.suffix,
        overwrite=parsed.overwrite,
        preview=parsed.preview,
        viewers=parsed.lut or (),
        inputs=[*masks, *_files_of_model(parsed.model)],
    )
    _require_report(parsed, images)
    start = time.perf_counter()
    segmenter, notice = _load(task, parsed, settings, load)
    failures = _segment_all(_Run(segmenter, notice, parsed, arguments), jobs)
    _summarize(jobs, failures, time.perf_counter() - start)
    if parsed.qc and len(failures) < len(jobs):
        from sct_rootlets_task.qc.report import INDEX
        from sct_rootlets_task.qc.stored import shown

        print(f"To see all images of the report, open:\n{shown(Path(parsed.qc) / INDEX)}")
    return 1 if failures else 0


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
    """Tell whether a name may be that of a file: one in a closed folder fails when it is read."""
    try:
        return path.is_file()
    except OSError as error:
        return isinstance(error, PermissionError)


def _require_report(parsed: argparse.Namespace, images: Sequence[Path]) -> None:
    """Find out now, not after the first image, that the report or a picture cannot be made."""
    from sct_rootlets_task.qc.folder import require_report_folder
    from sct_rootlets_task.qc.pages import require_jinja
    from sct_rootlets_task.qc.render import require_pillow
    from sct_rootlets_task.qc.scene import require_mask

    if parsed.qc:
        require_jinja()
        require_report_folder(Path(parsed.qc))
    if parsed.qc or parsed.preview:
        require_pillow()
    if parsed.qc and parsed.qc_seg:
        require_mask(Path(parsed.qc_seg), *images)


def _settings(task: Task, parsed: argparse.Namespace) -> Settings:
    from sct_rootlets_task.inference.loading import Options
    from sct_rootlets_task.rootlets.postprocess import parse_minimal_size
    from sct_rootlets_task.segmentation.segmenter import Settings
    from sct_rootlets_task.segmentation.sidecar import what_to_run

    if parsed.thr is not None:
        raise UsageError(
            "-thr does not apply: the result is a map of levels, not of probabilities, and a "
            "threshold would turn every level into 1. Leave it out."
        )
    return Settings(
        network=Options(
            engine=parsed.engine,
            device=parsed.device,
            precision=parsed.precision,
            threads=parsed.threads,
            test_time_aug=parsed.test_time_aug,
            progress=parsed.v > 0,
        ),
        **what_to_run(raw=parsed.raw, tiles=parsed.tiles),
        largest=bool(parsed.largest),
        fill_holes=bool(parsed.fill_holes),
        minimal_size=(
            parse_minimal_size(parsed.remove_small, task.levels) if parsed.remove_small else None
        ),
    )


def _load(
    task: Task, parsed: argparse.Namespace, settings: Settings, load: NetworkLoader | None
) -> tuple[Segmenter, str | None]:
    """Return the loaded model and what the user must know about it."""
    from sct_rootlets_task.inference.loading import load_network
    from sct_rootlets_task.io.paths import model_root
    from sct_rootlets_task.models.resolve import resolve
    from sct_rootlets_task.segmentation.segmenter import Segmenter

    resolved = resolve(task, parsed.model, model_root(parsed.model_dir), progress=parsed.v > 0)
    if resolved.notice:
        show(f"\n{resolved.notice}\n")
    segmenter = Segmenter(task, resolved.model, settings, load=load or load_network)
    network = segmenter.network
    logger.info(
        "Model %s, engine %s on %s (%s)",
        resolved.model.name,
        network.engine,
        network.device,
        network.precision,
    )
    return segmenter, resolved.notice


def _segment_all(run: _Run, jobs: Sequence[Job]) -> list[Job]:
    """Segment each image; one that fails is remembered and does not stop the others."""
    failures, start = [], time.perf_counter()
    for number, job in enumerate(jobs):
        if len(jobs) > 1:
            left = remaining(time.perf_counter() - start, number, len(jobs))
            rest = f", about {left} left" if left else ""
            logger.info("Image %d of %d%s: %s", number + 1, len(jobs), rest, job.image)
        try:
            _segment_one(run, job)
        except Exception as error:  # whatever is wrong with one image, the others go on
            logger.debug("While segmenting %s:", job.image, exc_info=not is_foreseen(error))
            failures.append(job)
            show(f"sct_deepseg: error: {_reason(job, error)}")
    return failures


def _reason(job: Job, error: Exception) -> str:
    """Return the error's text, with the image's name where it lacks it."""
    text = explain(error, f"segmenting {job.image}")
    return text if str(job.image) in text else f"{job.image}: {text}"


def _segment_one(run: _Run, job: Job) -> None:
    from sct_rootlets_task.io.images import load_image
    from sct_rootlets_task.segmentation.sidecar import check_plausibility

    image = load_image(job.image)
    segmentation = run.segmenter.segment(image)
    for warning in segmentation.warnings:
        logger.warning("%s: %s", job.image, warning)
    report = check_plausibility(segmentation, image, run.segmenter.task, job.output)
    level_voxels = _write(run, job, image, segmentation, report)
    try:
        _show_elsewhere(run, job, report)
    except Exception as error:
        raise OutputError(
            f"{explain(error, f'drawing {job.output}')} The label map {job.output} is complete; "
            "what shows it is not."
        ) from error
    if run.parsed.v:
        _report(run, job, level_voxels, report, located=segmentation.located is not None)


def _write(
    run: _Run, job: Job, image: InputImage, segmentation: Segmentation, report: Report
) -> Mapping[str, int]:
    """Write the label map with what belongs to it, and return the voxels of each level."""
    from sct_rootlets_task.io.images import labels_image
    from sct_rootlets_task.io.luts import lut_text
    from sct_rootlets_task.io.ownership import generated_by, shortened
    from sct_rootlets_task.io.results import write_results
    from sct_rootlets_task.segmentation.sidecar import describe, without_folders

    task, model = run.segmenter.task, run.segmenter.model
    details = describe(
        run.segmenter,
        segmentation,
        image,
        report=without_folders(report, job.output),
        notice=run.notice,
    )
    record = {
        "GeneratedBy": generated_by(shortened("sct_deepseg", run.arguments), model.urls),
        **details,
    }
    text = f"{task.name} {task.level_names.replace('–', '-')} by {model.name}"
    labels = labels_image(segmentation.labels, image, f"{text}, value=level (C1=1)")
    viewers = dict.fromkeys(run.parsed.lut or ())
    tables = (lut_text(viewer, task.levels) for viewer in viewers)
    write_results({job.output: labels}, record, texts=dict(zip(job.luts, tables, strict=True)))
    voxels: Mapping[str, int] = details["LevelVoxels"]
    return voxels


def _show_elsewhere(run: _Run, job: Job, report: Report) -> None:
    """Draw the picture and add to the report, where they are wanted."""
    from sct_rootlets_task.qc.preview import draw

    if job.preview:
        draw(job.image, job.output, job.preview)
    if run.parsed.qc:
        _add_to_report(run, job, report)


def _add_to_report(run: _Run, job: Job, report: Report) -> None:
    from dataclasses import asdict

    from sct_rootlets_task.qc.entry import Details
    from sct_rootlets_task.qc.report import add_entry

    parsed = run.parsed
    details = Details(
        dataset=parsed.qc_dataset,
        subject=parsed.qc_subject,
        command=shlex.join(["sct_deepseg", *run.arguments]),
        model=run.segmenter.model.name,
        around=Path(parsed.qc_seg) if parsed.qc_seg else None,
        expected=run.segmenter.task.levels,
        flags=[asdict(flag) for flag in report.flags],
        levels=[asdict(level) for level in report.levels],
    )
    add_entry(Path(parsed.qc), job.image, job.output, details)


def _report(
    run: _Run, job: Job, level_voxels: Mapping[str, int], report: Report, *, located: bool
) -> None:
    """Say what was found and how to look at it; the check that is named says all of the report."""
    from sct_rootlets_task.io.luts import viewer_commands
    from sct_rootlets_task.io.untrusted import file_argument

    found = ", ".join(f"{name} {count}" for name, count in level_voxels.items()) or "none"
    print(f"\nLevels found (voxels): {found}")
    if report.flags:
        words = ["sct_rootlets", "check", "-i", file_argument(job.output)]
        words += ["-locator", file_argument(job.image)] if located else []
        print(f"{report.summary} To list them, type:\n{shlex.join(words)}")
    for path in filter(None, (job.output, job.preview, *job.luts)):
        print(f"Created file: {path}")
    print("Done! To view results, type:")
    for command in viewer_commands(job.image, job.output, run.parsed.lut or ()):
        print(command)


def _summarize(jobs: Sequence[Job], failures: Sequence[Job], seconds: float) -> None:
    done = len(jobs) - len(failures)
    logger.info("%d of %d image(s) segmented in %.1f s", done, len(jobs), seconds)
    if failures and len(jobs) > 1:
        failed = "\n".join(f"  {job.image}" for job in failures)
        show(f"\nFailed: {len(failures)} of {len(jobs)} images:\n{failed}")


if __name__ == "__main__":
    sys.exit(console.sct_deepseg())
