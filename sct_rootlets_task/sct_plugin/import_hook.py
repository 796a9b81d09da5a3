"""The import hook that activates the plugin in SCT's processes.

A ``.pth`` line imports this module at every start of the interpreter. So it imports nothing itself,
and does nothing until SCT imports its table of tasks. Any error here becomes one warning: Python
starts, and SCT runs without us.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    Action = Callable[[ModuleType], object]

MODELS = "spinalcordtoolbox.deepseg.models"
"""SCT's module of tasks and models: whatever knows a task has imported it."""

INFERENCE = "spinalcordtoolbox.deepseg.inference"
"""SCT's module that runs models. It imports the tables, so it may be half loaded when they are."""


_LONGEST = 160
"""Characters of a reason that are shown."""


class Watcher:
    """Finder on ``sys.meta_path`` that finds nothing itself but acts after certain imports."""

    def __init__(self) -> None:
        self.actions: dict[str, list[Action]] = {}
        self.warned = False

    def find_spec(
        self, name: str, path: "Any" = None, target: "Any" = None, /
    ) -> "ModuleSpec | None":
        """Return what the other finders find, made to act once the module is complete."""
        if name not in self.actions:
            return None
        spec = None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
        if spec is not None and spec.loader is not None:
            self._act_after(spec.loader, name)
        return spec

    def _act_after(self, loader: "Any", name: str) -> None:
        run = loader.exec_module

        def exec_module(module: "ModuleType") -> None:
            run(module)
            for action in self.actions.pop(name, ()):
                self.act(action, module)

        try:
            loader.exec_module = exec_module
        except Exception as error:
            self.warn(error)

    def act(self, action: "Action", module: "ModuleType") -> None:
        """Run an action; an error of ours is never an error of the module's."""
        try:
            action(module)
        except Exception as error:
            self.warn(error)

    def warn(self, error: object) -> None:
        """Say once a day, in one line, that the plugin has stepped aside, and why."""
        if self.warned or sys.stderr is None:
            return
        self.warned = True
        text = " ".join(str(error).split())
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}..."
        try:
            from sct_rootlets_task.sct_plugin.advice import command_line
            from sct_rootlets_task.sct_plugin.notices import is_due

            if not is_due(text):
                return
            text = f"{text.removesuffix('.')}. See: {command_line('sct_rootlets')} sct status"
        except Exception:
            pass  # what is said matters more than how often
        sys.stderr.write(
            f"sct_rootlets_task: WARNING: not active inside SCT, which runs as it is: {text}\n"
        )


def watcher() -> Watcher:
    """Return the one watcher of this process, put in place when it is not there yet."""
    for finder in sys.meta_path:
        if isinstance(finder, Watcher):
            return finder
    new = Watcher()
    sys.meta_path.insert(0, new)
    return new


def is_half_loaded(name: str) -> bool:
    """Return whether a module is being imported right now, and nobody waits for its end."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False)) and name not in watcher().actions


def when_imported(name: str, action: "Action") -> None:
    """Run an action on a module: now if it is there, else as soon as it is complete.

    Parameters
    ----------
    name : str
        Full name of the module.
    action : callable
        Takes the module.
    """
    module = sys.modules.get(name)
    if module is None or name in watcher().actions:
        watcher().actions.setdefault(name, []).append(action)
    else:
        watcher().act(action, module)


def install(
    enabled: "str | None" = None, entry: str = "sct_rootlets_task.sct_plugin.plugin:register"
) -> None:
    """Make SCT's table of tasks get our tasks when it is imported.

    Parameters
    ----------
    enabled : str, optional
        Identity of the installation that was switched on, see
        :func:`~sct_rootlets_task.sct_plugin.activation.identity`. Another one stays out: the line
        of a package that was uninstalled does not switch on what is installed later.
    entry : str
        Module and function that does it, as an entry point names them.
    """

    def act(models: "ModuleType") -> None:
        from importlib import import_module

        pth = import_module("sct_rootlets_task.sct_plugin.activation")
        if enabled != pth.identity():
            watcher().warn("this installation of it was not enabled, an earlier one was")
            return
        module, _, function = entry.partition(":")
        getattr(import_module(module), function)(models)

    when_imported(MODELS, act)
    if INFERENCE not in sys.modules:
        watcher().actions.setdefault(INFERENCE, [])
