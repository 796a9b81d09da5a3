"""Commands in the folders of an SCT: ``sct_deepseg`` stays SCT's, ``sct_rootlets`` is added.

Both packages install a script ``sct_deepseg``. The later one replaces the earlier one, and when
either package is uninstalled, the script is gone. All scripts of SCT have the same content, so
SCT's ``sct_deepseg`` can be restored from any of them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import secrets
import shutil
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from sct_rootlets_task.sct_plugin.compatibility import Toolbox

DISTRIBUTION = "sct-rootlets-task"
_OURS, _SCTS = b"sct_rootlets_task", b"spinalcordtoolbox.compat.launcher"
_LARGEST_SCRIPT = 1 << 20
_ENDING = ".exe" if os.name == "nt" else ""
_LAUNCHER = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
# Launcher of sct_rootlets_task; 'sct_rootlets sct disable' removes it.
import sys

try:
    from sct_rootlets_task.cli.console import sct_rootlets
except ModuleNotFoundError as error:
    if not str(error.name).startswith("sct_rootlets_task"):
        raise
    sys.exit(
        "sct_rootlets: the package sct_rootlets_task is not in the environment of SCT any more. It "
        "goes when SCT's installer runs again.\\n"
        "To have it again: '{python}' -m pip install /path/to/sct_rootlets_task\\n"
        "             then: '{python}' -m sct_rootlets_task.cli.sct_rootlets sct enable\\n"
        "To be rid of it:  rm '" + __file__ + "'"
    )
if __name__ == "__main__":
    sys.exit(sct_rootlets())
"""


def launcher_folder(toolbox: Toolbox) -> Path | None:
    """Return the folder ``bin`` that SCT's installer fills, None for an SCT installed by pip."""
    folder = toolbox.package.parent / "bin"
    return folder if (folder / f"sct_deepseg{_ENDING}").is_file() else None


def put_launcher(toolbox: Toolbox) -> Path | None:
    """Put ``sct_rootlets`` beside SCT's launchers.

    Parameters
    ----------
    toolbox : Toolbox
        The SCT of this environment.

    Returns
    -------
    Path or None
        The file; None where there is no such folder, it cannot be written, or a file of somebody
        else has the name.
    """
    folder = launcher_folder(toolbox)
    # The two lines for the shell cannot quote these.
    if folder is None or os.name == "nt" or set(sys.executable) & set("\"'$`\\"):
        return None
    path = folder / "sct_rootlets"
    if os.path.lexists(path) and not is_ours(path):
        return None
    try:
        _write(path, _LAUNCHER.format(python=sys.executable).encode(), 0o755)
    except OSError:
        return None
    return path


def remove_launcher(toolbox: Toolbox) -> Path | None:
    """Take ``sct_rootlets`` away again; return the file removed, if there was one of ours."""
    folder = launcher_folder(toolbox)
    path = folder / "sct_rootlets" if folder else None
    if path is None or not is_ours(path):
        return None
    try:
        path.unlink()
    except OSError:
        return None
    return path


def give_back(toolbox: Toolbox) -> tuple[Path, ...]:
    """Give the name ``sct_deepseg`` back to SCT, and let uninstalling us leave it alone.

    Parameters
    ----------
    toolbox : Toolbox
        The SCT of this environment.

    Returns
    -------
    tuple of Path
        The scripts that were ours and are SCT's now.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    folders = dict.fromkeys([scripts, launcher_folder(toolbox) or scripts])
    given = tuple(path for folder in folders if (path := _restored(folder)))
    own = scripts / f"sct_deepseg{_ENDING}"
    if own.is_file() and not is_ours(own):
        with contextlib.suppress(OSError):
            _forget(own)
    return given


def is_ours(path: Path) -> bool:
    """Return whether a script starts this package."""
    return _holds(path, _OURS)


def _holds(path: Path, text: bytes) -> bool:
    try:
        is_script = path.is_file() and path.stat().st_size < _LARGEST_SCRIPT
        return is_script and text in path.read_bytes()
    except OSError:
        return False


def _restored(folder: Path) -> Path | None:
    """Return the script of ours in a folder that is SCT's now, None where there was none."""
    path = folder / f"sct_deepseg{_ENDING}"
    if not is_ours(path):
        return None
    siblings = (one for one in sorted(folder.glob(f"sct_*{_ENDING}")) if _holds(one, _SCTS))
    sibling = next(siblings, None)
    if sibling is None:
        return None
    try:
        _write(path, sibling.read_bytes(), sibling.stat().st_mode & 0o777)
    except OSError:
        return None
    return path


def _forget(script: Path) -> None:
    """Take a script out of what goes when this package is uninstalled."""
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        return
    # pip goes by the list of files and, whatever that says, by the entry points.
    rewritten = {"RECORD": _without_file, "entry_points.txt": _without_entry_point}
    for path in (Path(str(file.locate())) for file in files if file.name in rewritten):
        text = path.read_text(encoding="utf-8")
        kept = rewritten[path.name](text, path.parent.parent, script)
        if kept != text:
            _write(path, kept.encode(), path.stat().st_mode & 0o777)


def _without_file(record: str, root: Path, script: Path) -> str:
    """Return a list of installed files (CSV; their paths count from `root`) without a script."""
    rows = [row for row in csv.reader(io.StringIO(record)) if row]
    kept = [row for row in rows if os.path.normpath(root / row[0]) != str(script)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(kept)
    return text.getvalue()


def _without_entry_point(points: str, root: Path, script: Path) -> str:
    """Return entry points, a line each, without that of a script."""
    lines = points.splitlines(keepends=True)
    return "".join(line for line in lines if line.partition("=")[0].strip() != script.stem)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file so that nobody ever starts half of it."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(mode)
        if path.exists():
            with contextlib.suppress(OSError, AttributeError):
                shutil.chown(temporary, path.stat().st_uid, path.stat().st_gid)
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
