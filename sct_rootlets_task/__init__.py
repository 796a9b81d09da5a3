"""Spinal nerve rootlets on MRI: the rootlets task of ``sct_deepseg``."""

from typing import Any

__version__ = "0.1.0"

_API = ("check", "evaluate", "locate", "relabel", "segment", "spinal_levels", "split")


def __getattr__(name: str) -> Any:
    """Import the Python interface when one of its names is used, and not before."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.api"), name)
