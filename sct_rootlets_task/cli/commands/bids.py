"""``sct_rootlets bids``: a whole BIDS data set, as a BIDS App."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task.cli.bids_options import GROUP, PARTICIPANT, add_options, study_of
from sct_rootlets_task.cli.config import read_config
from sct_rootlets_task.cli.console import flush_result
from sct_rootlets_task.errors import DONE, FAILED, UsageError
from sct_rootlets_task.io.untrusted import is_file, is_folder, printable
from sct_rootlets_task.registry import TASKS

if TYPE_CHECKING:
    from sct_rootlets_task.study.options import Study
    from sct_rootlets_task.study.run import Summary

NAME = "bids"
HELP = "Segment all images of a BIDS data set. Then write one table and figures of all."

_NOTES = (
    "What is done is not done again. Give the same command after a stop, or with other options: "
    "only what they change is done anew."
)
_LONGEST_PATH = 1000
_OF_PARTICIPANTS = ("part", "dry_run", "retry_failed", "force")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.usage = "sct_rootlets bids BIDS_DIR OUT_DIR {participant,group} [OPTION …]"
    parser.epilog = _NOTES
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Work on the data set; 1 where an image failed."""
    asked = _asked(arguments)
    _require_sense(asked)
    study = study_of(asked, ("sct_rootlets", *arguments.words))
    ratings = [Path(name) for name in asked.get("ratings", ())]
    code = DONE
    if PARTICIPANT in asked["levels"]:
        _check(study, validate=not asked.get("skip_bids_validation"))
        code = _print_plan(study) if asked.get("dry_run") else _run_participants(study)
    if GROUP in asked["levels"]:
        _run_group(study, ratings)
    flush_result()
    return code


def _asked(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Return what the command line asks for, or else the config file."""
    given = vars(arguments)
    if "config" not in given:
        return given
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    return {**read_config(Path(given["config"]), parser), **given}


def _require_sense(asked: Mapping[str, Any]) -> None:
    """Refuse options that do not go together, and files that are not there."""
    levels = asked["levels"]
    if GROUP not in levels and asked.get("ratings"):
        raise UsageError(f"--ratings belongs to the level {GROUP}. Give it there.")
    if GROUP in levels:
        never = ("part", "dry_run") if PARTICIPANT in levels else _OF_PARTICIPANTS
        for name in never:
            if asked.get(name):
                raise UsageError(
                    f"--{name.replace('_', '-')} belongs to the level {PARTICIPANT}. Run the level "
                    f"{GROUP} without it, when all images are done."
                )
    for path in asked.get("ratings", ()):
        if not is_file(Path(path)):
            raise UsageError(f"--ratings: there is no file {printable(path)}. Check the path.")


def _check(study: Study, *, validate: bool) -> None:
    """Check what can be checked before anything runs, the quickest first."""
    from sct_rootlets_task.rootlets.postprocess import parse_minimal_size
    from sct_rootlets_task.study.derivatives import check_output_dir
    from sct_rootlets_task.study.validation import validate_dataset

    asked = study.processing
    if asked.remove_small:
        parse_minimal_size(asked.remove_small, TASKS[asked.task].levels)
    if not is_folder(study.bids_dir):
        raise UsageError(
            f"BIDS_DIR: there is no folder {printable(study.bids_dir)}. Give that of the data set."
        )
    check_output_dir(study)
    if validate:
        validate_dataset(study.bids_dir)


def _print_plan(study: Study) -> int:
    """Print a line for each image: what would be done and why; then how many there are of each."""
    from sct_rootlets_task import api

    counts: Counter[str] = Counter()
    to_do = 0
    for item in api.plan_study(study):
        stages = ", ".join(item.stages) or "nothing"
        print(f"{printable(item.source)}: {stages} ({printable(item.reason)})")
        to_do += bool(item.stages)
        counts.update([] if item.stages else [item.reason])
    rest = "".join(f", {count} not ({printable(why)})" for why, count in counts.items())
    print(f"Images to work on: {to_do}{rest}. Nothing was written.")
    return DONE


def _run_participants(study: Study) -> int:
    from sct_rootlets_task import api

    summary = api.run_study(study)
    print(_sentence(summary))
    if summary.failures:
        print(f"Failures: {printable(summary.failures, _LONGEST_PATH)}")
        print("To try these images again, add --retry-failed.")
    print(f"Results: {printable(study.out_dir, _LONGEST_PATH)}")
    _print_page(study.out_dir / "qc" / "index.html")
    return FAILED if summary.failed or summary.set_aside else DONE


def _sentence(summary: Summary) -> str:
    """Return how many images came to what."""
    counts = {
        "done": summary.done,
        "unchanged": summary.unchanged,
        "failed": summary.failed,
        "set aside": summary.set_aside,
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"Images: {told or 'none to work on'}, in {summary.seconds:.0f} s."


def _run_group(study: Study, ratings: Sequence[Path]) -> None:
    from sct_rootlets_task import api

    found = api.run_group(study.out_dir, ratings=ratings)
    for path in found.paths:
        print(f"Created file: {printable(path, _LONGEST_PATH)}")
    failed = f", {found.failed} of them without a result" if found.failed else ""
    print(f"Images in the table: {found.images}{failed}.")
    if found.page:
        _print_page(found.page)


def _print_page(page: Path) -> None:
    if is_file(page):
        print(f"To see all images, open:\n{printable(page, _LONGEST_PATH)}")
