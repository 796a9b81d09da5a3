"""Importing OpenVINO without its telemetry.

OpenVINO's import sends an event to an analytics host and leaves a client number in the home folder,
unless the telemetry's package is missing. Here it seems to be. A program that wants these events
imports OpenVINO itself, first.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sct_rootlets_task.errors import MissingDependencyError, OutOfMemoryError, is_out_of_memory
from sct_rootlets_task.inference.failures import short_reason

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, or say how to get it.

    Returns
    -------
    module
        The package ``openvino``. Where it was imported before, it stays as it is.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        with _silence():
            import openvino
    except Exception as error:  # libraries that are missing or do not fit bring many kinds
        if is_out_of_memory(error):
            raise OutOfMemoryError from error
        raise MissingDependencyError(
            f"Fast inference on a CPU needs OpenVINO ({short_reason(error)}). Install it "
            "with 'pip install openvino', or use -engine nnunet."
        ) from error
    return openvino


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Put silent modules in the place of the telemetry's while OpenVINO is imported."""
    if "openvino" in sys.modules:
        yield
        return
    finder, before = _Silence(), _telemetry_modules()
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in _telemetry_modules():
            del sys.modules[name]
        sys.modules.update(before)


def _telemetry_modules() -> dict[str, ModuleType]:
    known = list(sys.modules.items())
    return {name: module for name, module in known if name.partition(".")[0] == _TELEMETRY}


class _Silence(MetaPathFinder, Loader):
    """Finds a silent module for every name of the telemetry's package.

    OpenVINO does without the package, but how it asks for it differs between versions.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        silent = name.partition(".")[0] == _TELEMETRY
        return ModuleSpec(name, self, is_package=True) if silent else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _SilentModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""


class _SilentModule(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


class _Nothing:
    """Takes every call and attribute, and does nothing."""

    def __call__(self, *_: object, **__: object) -> _Nothing:
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self
