"""Writing results so that nothing is ever half written."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import OutputError


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, and move the file into place when all went well.

    Parameters
    ----------
    path : Path
        Final name; its folder is made if needed. An existing file stays as it is until the new one
        is complete.

    Yields
    ------
    Path
        Name in the same folder with the same extensions.

    Raises
    ------
    OutputError
        If the folder or the file cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}. Choose another output with -o, or "
            "free space and check permissions."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically, readable by people."""
    with atomic_output(path) as temporary:
        text = json.dumps(content, indent=4, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
