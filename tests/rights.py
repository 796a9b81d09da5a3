"""Run a part of a test without the rights of root."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Drop the rights of root, who can write everywhere, for a while."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    import filelock  # noqa: F401  (the other user may not be able to read these modules)
    import requests  # noqa: F401
    import tqdm  # noqa: F401

    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
