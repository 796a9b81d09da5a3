"""The rootlets tasks inside a real Spinal Cord Toolbox.

:func:`register` adds our tasks to SCT's tables. For our models alone it replaces SCT's inference.
SCT still parses the command, installs, saves and shows results. Its other tasks are not touched.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from sct_rootlets_task import environment
from sct_rootlets_task.errors import OutOfMemoryError, RootletsError, UsageError, is_out_of_memory
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.sct_plugin import import_hook
from sct_rootlets_task.sct_plugin.advice import as_in_sct
from sct_rootlets_task.sct_plugin.command import take_arguments
from sct_rootlets_task.sct_plugin.compatibility import check_seams
from sct_rootlets_task.sct_plugin.installation import install
from sct_rootlets_task.sct_plugin.results import Names, Results, absolute, wrap_report
from sct_rootlets_task.sct_plugin.task_tables import Entry, make_entries, merge
from sct_rootlets_task.tasks import Task

if TYPE_CHECKING:
    from sct_rootlets_task.segmentation.locator import NetworkLoader
    from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings

logger = logging.getLogger(__name__)

_MARK = "_sct_rootlets_task"
_REPORTS = "spinalcordtoolbox.reports.qc2"
_SHELL = "spinalcordtoolbox.utils.shell"


def register(
    models: ModuleType | None = None,
    *,
    tasks: Mapping[str, Task] = TASKS,
    load: NetworkLoader | None = None,
) -> bool:
    """Add our tasks and our inference to SCT; a second call changes nothing.

    Parameters
    ----------
    models : module, optional
        ``spinalcordtoolbox.deepseg.models``; imported when not given.
    tasks : mapping of str to Task
        Our registry.
    load : callable, optional
        Loader of networks, see :class:`~sct_rootlets_task.segmentation.segmenter.Segmenter`.

    Returns
    -------
    bool
        Whether our tasks are active. They are not in an SCT that differs from what is expected:
        then nothing is changed, and one warning gives the reason.
    """
    if models is None:
        from importlib import import_module

        models = import_module(import_hook.MODELS)
    if hasattr(models, _MARK):
        return True
    problems = check_seams(Path(str(models.__file__)).parents[1])
    if problems:
        import_hook.watcher().warn(f"this SCT differs from what is expected: {problems[0]}")
        return False
    if import_hook.is_half_loaded(import_hook.INFERENCE):
        import_hook.watcher().warn(
            f"{import_hook.INFERENCE} was imported before {import_hook.MODELS}."
        )
        return False
    plugin = Plugin(models, tasks, load)
    setattr(models, _MARK, plugin)
    import_hook.when_imported(import_hook.INFERENCE, plugin.take_inference)
    import_hook.when_imported(_REPORTS, plugin.take_reports)
    import_hook.when_imported(_SHELL, plugin.take_arguments)
    return True


class Plugin:
    """Our part of one SCT.

    Parameters
    ----------
    models : module
        ``spinalcordtoolbox.deepseg.models``; its tables and its installation are extended.
    tasks : mapping of str to Task
        Our registry.
    load : callable, optional
        Loader of networks.
    """

    def __init__(
        self, models: Any, tasks: Mapping[str, Task], load: NetworkLoader | None = None
    ) -> None:
        self.entries = make_entries(tasks, models.TASKS, models.MODELS)
        self.results = Results()
        self._load = load
        self._folder = models.folder
        merge(self.entries, models.TASKS, models.MODELS)
        models.install_model = self._wrap_install(models.install_model)

    def _wrap_install(self, by_sct: Callable[..., Any]) -> Callable[..., Any]:
        entries = {entry.model: entry for entry in self.entries}

        @functools.wraps(by_sct)
        def install_model(name_model: str, custom_url: Any = None) -> Any:
            arguments = (name_model,) if custom_url is None else (name_model, custom_url)
            entry = entries.get(name_model)
            if entry is None:
                return by_sct(*arguments)
            _show_our_errors_plainly()
            custom = [custom_url] if isinstance(custom_url, str) else list(custom_url or ())
            folder = Path(self._folder(name_model))
            return install(entry, folder, custom, functools.partial(by_sct, *arguments))

        return install_model

    def take_inference(self, inference: Any) -> None:
        """Replace SCT's inference by ours, for our models alone."""
        by_sct = inference.segment_non_ivadomed
        signature = inspect.signature(by_sct)

        @functools.wraps(by_sct)
        def segment_non_ivadomed(*args: Any, **kwargs: Any) -> Any:
            wanted = signature.bind(*args, **kwargs).arguments
            entry = self._entry_of(wanted["path_model"])
            if entry is None:
                return by_sct(*args, **kwargs)
            _show_our_errors_plainly()
            return self._segment(entry, wanted)

        inference.segment_non_ivadomed = segment_non_ivadomed

    def take_reports(self, qc2: Any) -> None:
        """Make SCT's QC show our results, if this SCT has such a QC."""
        if hasattr(qc2, "sct_deepseg"):
            wrap_report(qc2, self.results)

    def take_arguments(self, shell: Any) -> None:
        """Make SCT's parser accept both forms of a command and check outputs before the run."""
        take_arguments(shell, self.entries, self.results)

    def _entry_of(self, path_model: str) -> Entry | None:
        path = Path(path_model)
        return next((one for one in self.entries if path == Path(self._folder(one.model))), None)

    def _segment(self, entry: Entry, wanted: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
        """Return SCT images of the levels and their suffixes, as SCT's own function does."""
        from sct_rootlets_task.models.resolve import resolve
        from sct_rootlets_task.segmentation.segmenter import Segmenter

        task = entry.task
        settings = _settings(task, wanted)
        images = absolute(wanted["input_filenames"])
        _refuse_bad_images(images)
        path = Path(wanted["path_model"])
        choice = entry.release.tag if entry.release.bundled else path
        resolved = resolve(task, choice, path.parent)
        if resolved.notice:
            logger.warning("%s", as_in_sct(resolved.notice))
        segmenter = Segmenter(task, resolved.model, settings, load=self._load)
        names = Names(images, task.suffix, folder=self.results.folder)
        found = [self._one(image, segmenter, resolved.notice, names) for image in images]
        # What -o became is complete.
        suffix = "" if self.results.is_named else task.suffix
        return found, [suffix] * len(found)

    def _one(self, path: Path, segmenter: Segmenter, notice: str | None, names: Names) -> Any:
        """Return the SCT image of one image's levels."""
        from spinalcordtoolbox.image import Image

        from sct_rootlets_task.segmentation.files import segment_file

        found = segment_file(path, segmenter, notice=notice)
        for warning in found.segmentation.warnings:
            logger.warning("%s: %s", path, as_in_sct(warning))
        logger.info("%s: levels found (voxels): %s", path.name, found.levels_found)
        if found.report.flags:
            logger.info("%s They stand in the sidecar.", found.report.summary)
        sct_image = Image(found.segmentation.labels, hdr=found.labels.header)
        return self.results.keep(sct_image, path, names, found.record)


def _settings(task: Task, wanted: Mapping[str, Any]) -> Settings:
    """Return the settings that SCT's arguments and the environment ask for."""
    from sct_rootlets_task.inference.loading import Options
    from sct_rootlets_task.segmentation.segmenter import settings_of_command

    extra = {
        **(wanted.get("extra_network_kwargs") or {}),
        **(wanted.get("extra_inference_kwargs") or {}),
    }
    unknown = [name for name, value in extra.items() if value and name != "test_time_aug"]
    if unknown:
        raise UsageError(f"The task {task.name!r} knows no {', '.join(unknown)}. Leave it out.")
    # Inside SCT a GPU is used on request only, as SCT's users expect.
    on_gpu = bool(wanted.get("use_gpu"))
    network = Options(
        device="cuda" if on_gpu else environment.read(environment.DEVICE) or "cpu",
        test_time_aug=bool(extra.get("test_time_aug")),
        progress=logger.isEnabledFor(logging.INFO),
    )
    smallest = wanted.get("remove_small")
    return settings_of_command(
        task,
        network,
        thresholded=bool(wanted.get("threshold")),
        remove_small=[smallest] if isinstance(smallest, str) else smallest,
        largest=bool(wanted.get("keep_largest")),
        fill_holes=bool(wanted.get("fill_holes_in_pred")),
    )


def _refuse_bad_images(images: Sequence[Path]) -> None:
    """Find a bad image before the others are done: SCT saves nothing until all of them are."""
    from sct_rootlets_task.io.images import load_image

    for path in images if len(images) > 1 else ():
        load_image(path)


def _show_our_errors_plainly() -> None:
    """Make an error of ours end SCT's command as a sentence instead of a traceback."""
    before = sys.excepthook
    if getattr(before, _MARK, False):
        return

    def show(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        if isinstance(error, RootletsError) or is_out_of_memory(error):
            logger.debug("", exc_info=(kind, error, where))
            text = OutOfMemoryError() if is_out_of_memory(error) else error
            print(f"sct_deepseg: error: {as_in_sct(str(text))}", file=sys.stderr)
        else:
            before(kind, error, where)

    setattr(show, _MARK, True)
    sys.excepthook = show
