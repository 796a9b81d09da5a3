"""What a task and a release are, and what has to hold of an entry of the registry."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sct_rootlets_task.errors import TaskDefinitionError, UsageError
from sct_rootlets_task.level_names import LAST_LEVEL, name_levels
from sct_rootlets_task.levels.anatomical_priors import AnatomicalPriors
from sct_rootlets_task.levels.corrections import order_levels, remove_strays, unify_bundles
from sct_rootlets_task.levels.sources import ByLocator, ByMap, ByName, LevelSource
from sct_rootlets_task.rootlets.postprocess import Hook, remove_specks

BUNDLED = Path(__file__).parent / "data"
"""Folder of the networks that ship inside the package."""

QC_STYLES = ("rootlets",)
_HOOK_PARAMETERS = ("labels", "context")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Release:
    """One published or built-in set of weights.

    Parameters
    ----------
    tag : str
        Name by which ``-model`` chooses the release.
    description : str
        One sentence: what it segments, on what it was trained.
    urls : tuple of str
        Mirrors of the zip archive, tried in order; empty for a built-in release.
    bundled : str, optional
        Name of the folder inside the package, for a built-in release.
    sha256 : str, optional
        Checksum of the archive, where its publisher or we have recorded one.
    trainer_folder : str
        Pattern of the one folder that holds ``plans.json`` and the folds.
    level_source : LevelSource, optional
        How the release tells levels, when it differs from its task's.
    citation : str
        Reference to give when the release was used.
    """

    tag: str
    description: str
    urls: tuple[str, ...] = ()
    bundled: str | None = None
    sha256: str | None = None
    trainer_folder: str = "nnUNetTrainer*"
    level_source: LevelSource | None = None
    citation: str = ""

    def __post_init__(self) -> None:
        """Refuse an entry that could not work.

        Raises
        ------
        TaskDefinitionError
            If a field is not what it has to be.
        """
        where = f"release {self.tag!r}"
        _expect(bool(_NAME.fullmatch(self.tag)), where, "a tag usable as a file name", self.tag)
        _expect(
            bool(self.urls) != bool(self.bundled),
            where,
            "either urls or the name of a built-in folder",
            (self.urls, self.bundled),
        )
        _expect(isinstance(self.urls, tuple), where, "urls as a tuple of mirrors", self.urls)
        for url in self.urls:
            _expect(url.startswith("https://"), where, "mirrors that start with https://", url)
        if self.sha256 is not None:
            ok = bool(_SHA256.fullmatch(self.sha256))
            _expect(ok, where, "a SHA-256 of 64 lower-case hexadecimal digits", self.sha256)


@dataclass(frozen=True)
class Task:
    """One segmentation task of the command line.

    Parameters
    ----------
    name : str
        Sub-command of ``sct_deepseg``.
    description, long_description : str
        One line for the list of tasks; a paragraph for ``-h`` and ``-task-details``.
    url : str
        Home of the model.
    model_name : str
        Name of the model in SCT; release folders are named after it.
    releases : tuple of Release
        All sets of weights the task can run.
    default : str
        Tag of the release that is used, and installed, when none is named.
    fallback : str, optional
        Tag of the built-in release that stands in when the default one cannot be had.
    contrasts : tuple of str
        Contrasts the default release was trained on, in SCT's words.
    orientation : str
        Orientation assumed when a model's ``dataset.json`` names none, in SCT's letters.
    level_source : LevelSource
        How the releases tell levels, unless they say otherwise themselves.
    levels : tuple of int
        Spinal levels the task may put out, ascending.
    priors : AnatomicalPriors, optional
        Where these levels usually lie. Without priors, what needs them is left out.
    hooks : tuple of Hook
        Post-processing applied by default, in this order.
    suffix : str
        Appended to the input's name to make the default output name.
    qc_style : str
        Layout of the quality-control page.
    group : str
        Heading under which the list of tasks shows it.
    legacy_of : str, optional
        Name of the task that replaces this one, for names kept for old scripts.
    """

    name: str
    description: str
    long_description: str
    url: str
    model_name: str
    releases: tuple[Release, ...]
    default: str
    contrasts: tuple[str, ...]
    level_source: LevelSource
    levels: tuple[int, ...]
    priors: AnatomicalPriors | None = None
    hooks: tuple[Hook, ...] = field(
        default=(remove_specks, remove_strays, unify_bundles, order_levels)
    )
    fallback: str | None = None
    orientation: str = "LPI"
    suffix: str = "_rootlets"
    qc_style: str = "rootlets"
    group: str = "Spinal nerve rootlets"
    legacy_of: str | None = None

    def __post_init__(self) -> None:
        """Refuse an entry that could not work.

        Raises
        ------
        TaskDefinitionError
            If a field is not what it has to be, or a hook has another signature.
        """
        where = f"task {self.name!r}"
        _expect(bool(_NAME.fullmatch(self.name)), where, "a name without spaces", self.name)
        _expect(
            len(set(self.tags)) == len(self.tags), where, "releases with distinct tags", self.tags
        )
        _expect(self.default in self.tags, where, f"a default among {self.tags}", self.default)
        if self.fallback is not None:
            built_in = [r.tag for r in self.releases if r.bundled]
            _expect(self.fallback in built_in, where, f"a fallback among {built_in}", self.fallback)
        _expect(
            sorted(self.orientation)
            in (sorted(w) for w in ("LPI", "RPI", "LAI", "LPS", "RAI", "RPS", "LAS", "RAS")),
            where,
            "an orientation of three letters such as 'LPI'",
            self.orientation,
        )
        ascending = bool(self.levels) and list(self.levels) == sorted(set(self.levels))
        in_range = ascending and self.levels[0] >= 1 and self.levels[-1] <= LAST_LEVEL
        _expect(in_range, where, f"ascending levels from 1 to {LAST_LEVEL}", self.levels)
        covered = self.priors is None or self.priors.cover(*self.levels)
        _expect(covered, where, "priors with a height for every level", self.levels)
        _expect(bool(self.contrasts), where, "at least one contrast", self.contrasts)
        _expect(self.suffix.startswith("_"), where, "a suffix that starts with '_'", self.suffix)
        _expect(self.qc_style in QC_STYLES, where, f"a QC style of {QC_STYLES}", self.qc_style)
        for source in (self.level_source, *(r.level_source or ByName() for r in self.releases)):
            ok = isinstance(source, ByName | ByMap | ByLocator)
            _expect(ok, where, "a level source ByName, ByMap or ByLocator", source)
        for hook in self.hooks:
            _check_hook(hook, where)

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of all releases, in order."""
        return tuple(release.tag for release in self.releases)

    @property
    def level_names(self) -> str:
        """Levels of the task as text, for example ``T12–S2``."""
        return name_levels(self.levels)

    def release(self, tag: str | None = None) -> Release:
        """Return a release by its tag, the default one without.

        Raises
        ------
        UsageError
            If the task has no such release.
        """
        wanted = tag or self.default
        for release in self.releases:
            if release.tag == wanted:
                return release
        raise UsageError(
            f"Task {self.name!r} has the releases {', '.join(self.tags)}, not {wanted!r}."
        )

    def levels_of(self, release: Release | None, classes: Collection[str] = ()) -> LevelSource:
        """Return how a model tells its levels.

        Parameters
        ----------
        release : Release or None
            None for a model folder of the user's own.
        classes : collection of str
            Names of its classes. A model whose only class is ``rootlets``, installed in the place
            of a release or not, takes its levels from the locator unless the release says
            otherwise.
        """
        own = release.level_source if release else None
        if own is None and set(classes) - {"background"} == {"rootlets"}:
            return ByLocator()
        return own or self.level_source


def _expect(ok: bool, where: str, expected: str, found: object) -> None:
    if not ok:
        raise TaskDefinitionError(f"{where}: expected {expected}, found {found!r}.")


def _check_hook(hook: object, where: str) -> None:
    expected = f"a hook of the signature ({', '.join(_HOOK_PARAMETERS)})"
    if not callable(hook):
        raise TaskDefinitionError(f"{where}: expected {expected}, found {hook!r}.")
    name = getattr(hook, "__qualname__", repr(hook))
    found = inspect.signature(hook)
    positional = [
        p.name
        for p in found.parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    required = [p for p in found.parameters.values() if p.default is p.empty]
    ok = tuple(positional[:2]) == _HOOK_PARAMETERS and len(required) == 2
    _expect(ok, where, expected, f"{name}{found}")


class TaskRegistry(Mapping[str, Task]):
    """Tasks by name, read-only, in the order in which they were given.

    Parameters
    ----------
    tasks : iterable of Task
        All tasks.

    Raises
    ------
    TaskDefinitionError
        If two tasks share a name or a legacy name points nowhere.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks: dict[str, Task] = {}
        for task in tasks:
            _expect(task.name not in self._tasks, "registry", "distinct task names", task.name)
            self._tasks[task.name] = task
        for task in self._tasks.values():
            ok = task.legacy_of is None or task.legacy_of in self._tasks
            names = sorted(self._tasks)
            _expect(ok, f"task {task.name!r}", f"legacy_of among {names}", task.legacy_of)

    def __getitem__(self, name: str) -> Task:
        return self._tasks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def find(self, name: str) -> Task:
        """Return a task by its name.

        Raises
        ------
        UsageError
            If there is no such task.
        """
        if name not in self._tasks:
            raise UsageError(f"-task expects one of {', '.join(self._tasks)}, found {name!r}.")
        return self._tasks[name]

    def of_map(
        self, values: Collection[int], *, recorded: str | None = None, where: str = ""
    ) -> Task:
        """Return the task that a level map belongs to.

        It is the task that the map's sidecar names. Without a sidecar it is the one task whose
        levels hold all values, else the one that shares some with the map. Names kept for old
        scripts stand for the task that replaces them.

        Parameters
        ----------
        values : collection of int
            Values in the map; 0 does not count.
        recorded : str, optional
            Task that the map's sidecar names; a name that is none of these tasks' does not count.
        where : str
            What messages call the map, such as ``level map t2_rootlets.nii.gz``.

        Raises
        ------
        UsageError
            If no task, or more than one, is as likely; it asks for ``-task``.
        """
        if recorded in self._tasks:
            task = self._tasks[recorded]
            return self._tasks[task.legacy_of] if task.legacy_of else task
        found = {int(value) for value in values} - {0}
        tasks = [task for task in self._tasks.values() if task.legacy_of is None]
        holding = [task for task in tasks if found <= set(task.levels)]
        likely = holding or [task for task in tasks if found & set(task.levels)]
        if len(likely) == 1:
            return likely[0]
        raise UsageError(_question(found, likely, tasks, where or "level map"))


def _question(
    values: Collection[int], likely: Sequence[Task], tasks: Sequence[Task], where: str
) -> str:
    """Return the question which task a map is of, with what speaks for each."""
    known = ", ".join(f"{task.name} ({task.level_names})" for task in likely or tasks)
    if not values:
        found = "It holds no labels, so it may be of"
    elif likely:
        found = f"Its values are {name_levels(values, str)}, which may be of"
    else:
        found = f"Its values are {name_levels(values, str)}, which are levels of none of"
    return (
        f"Which task is the {where} of? {found} {known}. Name the task with -task, or look whether "
        "this is the right file."
    )
