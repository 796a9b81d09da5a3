"""Where files lie on this machine; asking for a folder does not create it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from sct_rootlets_task import environment
from sct_rootlets_task.errors import InputTypeError, UsageError
from sct_rootlets_task.io.untrusted import closed_part, is_mine

_NOWHERE = Path(os.devnull, "models")
_APPLICATION = "sct_rootlets_task"


def expand_user(text: str | os.PathLike[str]) -> Path:
    """Return the path that a user means: a leading ``~`` stands for a home folder.

    A name that really begins so, or follows no user's, is left as it is, but made absolute, so that
    nothing else expands it.

    Parameters
    ----------
    text : str or path
        What the user wrote.

    Raises
    ------
    InputTypeError
        If it is no path at all.
    UsageError
        If it is empty or holds a zero byte, which no path can.
    """
    if not isinstance(text, str | os.PathLike):
        raise InputTypeError(f"Expected a path, found {type(text).__name__}.")
    name = os.fsdecode(text)
    if not name or "\0" in name:
        raise UsageError(f"Expected a path, found {name!r}. Give the name of a file or a folder.")
    if not name.startswith("~"):
        return Path(name)
    # Unlike pathlib's, it leaves the name of a user that there is not as it is.
    expanded = os.path.expanduser(name)  # noqa: PTH111
    return Path(name).absolute() if expanded == name or os.path.lexists(name) else Path(expanded)


def model_root(
    override: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """Return the folder that holds the installed models, one folder a release.

    Parameters
    ----------
    override : path, optional
        Folder given by the user (``-model-dir``) or by the host (SCT's own model folder).
    environ : mapping of str to str, optional
        Environment to read ``SCT_ROOTLETS_MODELS`` from; that of the process by default.

    Returns
    -------
    Path
        `override`, else ``SCT_ROOTLETS_MODELS``, else a folder among the user's data. Where the
        user has no home folder, it is one that cannot be.
    """
    named = override or environment.read(environment.MODELS, environ)
    if named:
        return expand_user(named).absolute()
    import platformdirs

    try:
        root = platformdirs.user_data_path(_APPLICATION, appauthor=False) / "models"
    except RuntimeError:  # a container without a home: nothing is installed, or can be
        return _NOWHERE
    # Containers name root's home for whoever runs them.
    return _NOWHERE if _is_closed_by_others(root) else root


def _is_closed_by_others(path: Path) -> bool:
    """Tell whether a folder on the way to a path belongs to somebody else, and may not be entered.

    Then it is in no home of this user.
    """
    closed = closed_part(path)
    try:
        return closed is not None and not is_mine(closed.stat())
    except OSError:
        return True


def cache_root(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder for what can be made again, None where the user wants none.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Environment to read ``SCT_ROOTLETS_CACHE`` from; that of the process by default.
    """
    if environment.denies(environment.CACHE, environ):
        return None
    named = environment.read(environment.CACHE, environ)
    if named:
        return expand_user(named).absolute()
    import platformdirs

    try:
        return platformdirs.user_cache_path(_APPLICATION, appauthor=False)
    except RuntimeError:  # a container without a home
        return None
