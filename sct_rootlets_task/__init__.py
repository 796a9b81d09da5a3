"""Spinal nerve rootlets on MRI: the rootlets task of ``sct_deepseg``.

In Python: ``import sct_rootlets_task as srt``, then ``srt.segment(…)``, ``srt.check(…)`` and so on;
:mod:`sct_rootlets_task.api` describes them.
"""

import sys

# Not from typing: this module is imported at each interpreter start once SCT has the plugin, and
# typing would take most of that time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from sct_rootlets_task.api import (
        check,
        evaluate,
        find_model,
        install_model,
        list_models,
        locate,
        picture,
        plan_study,
        qc,
        relabel,
        run_group,
        run_study,
        sample,
        segment,
        spinal_levels,
        split,
    )
    from sct_rootlets_task.errors import RootletsError
    from sct_rootlets_task.inference.loading import Options
    from sct_rootlets_task.segmentation.segmenter import Settings
    from sct_rootlets_task.study.options import Processing, Resources, Selection, Study

    __version__: str
else:
    ModuleType = type(sys)

__all__ = [
    "Options",
    "Processing",
    "Resources",
    "RootletsError",
    "Selection",
    "Settings",
    "Study",
    "check",
    "evaluate",
    "find_model",
    "install_model",
    "list_models",
    "locate",
    "picture",
    "plan_study",
    "qc",
    "relabel",
    "run_group",
    "run_study",
    "sample",
    "segment",
    "spinal_levels",
    "split",
]

_ELSEWHERE = {
    "Options": "inference.loading",
    "RootletsError": "errors",
    "Settings": "segmentation.segmenter",
    **dict.fromkeys(("Processing", "Resources", "Selection", "Study"), "study.options"),
}


def __getattr__(name: str) -> object:
    """Import the Python interface when one of its names is used, and not before."""
    if name == "__version__":
        from sct_rootlets_task.environment import VERSION

        return VERSION
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'api')}"), name)


def __dir__() -> list[str]:
    """Return the names of the Python interface, so that they are offered while one types."""
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])


class _Package(ModuleType):
    """The package, where a function keeps its name though a module inside has the same one."""

    def __setattr__(self, name: str, value: object) -> None:
        # An import of the module sets it as an attribute of the package.
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
