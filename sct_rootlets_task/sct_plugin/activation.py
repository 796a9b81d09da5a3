"""The line in an environment's site-packages that activates the plugin in SCT's processes."""

from __future__ import annotations

import contextlib
import os
import site
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from sct_rootlets_task.errors import OutputError

FILE = "sct_rootlets_task.pth"
_PROGRAM = """\
try:
 import sct_rootlets_task.sct_plugin.import_hook as hook
 hook.install({identity!r})
except Exception as e:
 gone = isinstance(e, ModuleNotFoundError) and str(e.name).startswith('sct_rootlets_task')
 if not gone and not hasattr(sys, '_sct_rootlets_task'):
  sys._sct_rootlets_task = e
  print('sct_rootlets_task: WARNING: not active inside SCT:', e, file=sys.stderr)
"""
# Python runs the line twice in a virtual environment: what it says must be said once.
_PROBE = (
    "import sys; "
    "hook = 'sct_rootlets_task.sct_plugin.import_hook'; "
    "print(any(type(f).__module__ == hook for f in sys.meta_path))"
)


def identity() -> str:
    """Return what names this installation of the package: one made later has another name.

    That is its version and the time at which it was installed; for a package that was not installed
    but is run from its folder, the folder.
    """
    with contextlib.suppress(metadata.PackageNotFoundError, OSError):
        own = metadata.distribution("sct-rootlets-task")
        for file in own.files or ():
            if file.name == "METADATA":
                installed = int(Path(str(file.locate())).stat().st_mtime)
                return f"{own.version} of {installed}"
    return str(Path(__file__).resolve().parents[1])


def line() -> str:
    """Return the content of the file that switches this installation on.

    Once the package is gone the line does nothing and says nothing.
    """
    return f"import sys; exec({_PROGRAM.format(identity=identity())!a})\n"


def is_current(path: Path) -> bool:
    """Return whether a file that is in place switches this installation on, not an earlier one."""
    try:
        return path.read_text(encoding="utf-8") == line()
    except (OSError, ValueError):
        return False


def site_folders() -> tuple[Path, ...]:
    """Return the folders of this environment whose ``.pth`` files Python reads, ours first."""
    folders = [Path(sysconfig.get_path("purelib"))]
    folders += [Path(folder) for folder in getattr(site, "getsitepackages", list)()]
    if site.ENABLE_USER_SITE:
        folders.append(Path(site.getusersitepackages()))
    return tuple(dict.fromkeys(folders))


def enabled_in() -> tuple[Path, ...]:
    """Return the files that are in place."""
    return tuple(folder / FILE for folder in site_folders() if (folder / FILE).is_file())


def enable() -> Path:
    """Write the line into the first folder of the environment that can be written.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        If there is none.
    """
    refused = []
    for folder in site_folders():
        path = folder / FILE
        try:
            _write(path)
        except OSError as error:
            refused.append(f"{folder} ({error.strerror})")
            continue
        return path
    raise OutputError(
        f"Expected a folder of this environment that can be written, found {', '.join(refused)}. "
        "Run this as whoever installed the environment."
    )


def _write(path: Path) -> None:
    # Python must never start on half a line: another process may be starting right now.
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        temporary.write_text(line(), encoding="ascii")
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def disable() -> tuple[Path, ...]:
    """Remove the line wherever it is, and return the files removed.

    Raises
    ------
    OutputError
        If one cannot be removed.
    """
    removed = enabled_in()
    for path in removed:
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(
                f"Cannot remove {path} ({error.strerror}). Run this as whoever installed the "
                "environment."
            ) from error
    return removed


def works() -> bool:
    """Return whether a new interpreter of this environment has the hook."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip() == "True"
