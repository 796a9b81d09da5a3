"""Where the files of a trained nnU-Net model lie: names, and the look-up of its trainer folder."""

from __future__ import annotations

import os
import re
import shlex
import stat
from fnmatch import fnmatchcase
from pathlib import Path

from sct_rootlets_task import environment
from sct_rootlets_task.errors import ClosedModelError, ModelError
from sct_rootlets_task.io.untrusted import (
    closed_part,
    is_mine,
    missing_content,
    open_regular,
    owner_of,
    printable,
    reason_of,
)

PLANS, DATASET = DESCRIPTIONS = ("plans.json", "dataset.json")
TRAINERS, FOLDS = "nnUNetTrainer*", "fold_*"
FOLD = re.compile("fold_(all|0|[1-9][0-9]{0,3})")
"""Names of folders of folds, as nnU-Net writes them."""
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""Names of a fold's weights, in nnU-Net's order of preference."""


def find_trainer_folder(folder: Path, pattern: str = TRAINERS) -> Path:
    """Return the trainer folder that a folder is or holds, once it is known to be complete.

    Parameters
    ----------
    folder : Path
        The trainer folder itself or its parent.
    pattern : str
        How the trainer folder may be called.

    Raises
    ------
    ModelError
        If there is not exactly one, it lacks plans, dataset or weights, or cannot be read.
    ClosedModelError
        If it cannot be read because this user has no right to.
    """
    try:
        found = _the_one(folder, pattern)
        _require_complete(found)
    except PermissionError as error:
        raise closed_model(folder, error) from error
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(
            f"Cannot read the model in {printable(folder)}: {reason_of(error)}."
        ) from error
    return found


def closed_model(folder: Path, error: PermissionError) -> ClosedModelError:
    """Return the error for a model that may not be read: what is closed, whose it is, what to do.

    Parameters
    ----------
    folder : Path
        The model's folder.
    error : PermissionError
        What the system says.
    """
    failed = Path(os.path.realpath(os.fsdecode(error.filename or folder)))
    closed = closed_part(failed) or failed
    is_inside = closed.is_relative_to(os.path.realpath(folder))
    try:
        info = closed.stat()
    except OSError:
        return ClosedModelError(f"The model in {printable(folder)} may not be read: {error}.")
    what = "is there, but may not be read" if is_inside else "cannot be looked for"
    which = "it" if closed == folder else printable(closed)
    advice = "Open it" if is_mine(info) else "Ask the owner to open it"
    opened = f"-R a+rX {shown(folder)}" if is_inside else f"a+x {shown(closed)}"
    return ClosedModelError(
        f"The model in {printable(folder)} {what}: {which} belongs to {owner_of(info)} and has the "
        f"mode {stat.S_IMODE(info.st_mode):03o}. {advice} with 'chmod {opened}', or name another "
        f"folder of models with -model-dir or {environment.MODELS}."
    )


def shown(path: Path) -> str:
    """Return a path as a word of a command."""
    return shlex.quote(printable(path, 1000))


def is_there(path: Path) -> bool:
    """Tell whether there is a file; unlike pathlib's, it fails where one may not look."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _the_one(folder: Path, pattern: str) -> Path:
    # A link to a content that was not fetched is no file yet. A closed folder is an error here.
    if os.path.lexists(folder / PLANS) or is_there(folder / PLANS):
        return folder
    inside = (path for path in _listed(folder) if fnmatchcase(path.name, pattern))
    found = sorted(path for path in inside if path.is_dir())
    if len(found) != 1:
        names = printable(", ".join(path.name for path in found) or "none")
        raise ModelError(
            f"Expected exactly one folder {pattern} in {printable(folder)}, found {names}. "
            f"Name the folder that holds {PLANS}, {DATASET} and {FOLDS}."
        )
    return found[0]


def _require_complete(trainer: Path) -> None:
    """Refuse a trainer folder that lacks a file, or has one that cannot be opened."""
    descriptions = [trainer / name for name in DESCRIPTIONS]
    folds = [path for path in _listed(trainer) if FOLD.fullmatch(path.name)]
    weights = [path for fold in folds for path in _listed(fold) if path.name in CHECKPOINTS]
    missing = [path.name for path in descriptions if not is_there(path)]
    if not any(map(is_there, weights)):
        missing.append(f"{FOLDS}/{CHECKPOINTS[0]}")
    if missing:
        files = (*descriptions, *trainer.glob(f"{FOLDS}/*.pth"))
        if why := next(filter(None, map(missing_content, files)), None):
            raise ModelError(f"The model in {printable(trainer)} is not complete: {why}.")
        raise ModelError(
            f"Expected a complete nnU-Net model in {printable(trainer)}, found no "
            f"{' and no '.join(missing)}."
        )
    for path in (*descriptions, *weights):
        open_regular(path).close()


def _listed(folder: Path) -> list[Path]:
    """Return what a folder holds, nothing where there is none; one that is closed is an error."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
