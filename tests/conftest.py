"""Fixtures shared by all tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sct_rootlets_task import environment

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real images; they are required in CI and optional elsewhere."""
    if not SHARED_DATA.is_dir():
        message = f"the real images are expected in {SHARED_DATA}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's own models and from the network."""
    monkeypatch.setenv("SCT_ROOTLETS_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("SCT_ROOTLETS_CACHE", "off")
    for name in (*environment.VARIABLES, "SCT_USE_GPU"):
        if name not in (environment.MODELS, environment.CACHE):
            monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Take back what a command line sets up: its handler writes to this test's stderr."""
    logger = logging.getLogger("sct_rootlets_task")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers = handlers
    logger.setLevel(level)
