"""The images of a BIDS data set: which there are, what belongs to each, and what is left out."""

from __future__ import annotations

import fnmatch
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from sct_rootlets_task.errors import MissingDependencyError, UsageError
from sct_rootlets_task.io.bids_names import parse_name, subject_and_session
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.untrusted import is_folder, open_regular, printable, reason_of
from sct_rootlets_task.study.contrasts import NOT_BIDS, NOT_MAGNITUDE, contrast_of, contrasts_of
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.landmarks import CorrectedMaps, LandmarkFiles
from sct_rootlets_task.study.naming import NameNotBidsError, level_map_name
from sct_rootlets_task.study.options import NAMINGS, Study
from sct_rootlets_task.study.selection import Candidate, read_list, select
from sct_rootlets_task.tasks import Task

logger = logging.getLogger(__name__)

DERIVATIVES = "derivatives"
_FOLDER = re.compile(
    rf"({DERIVATIVES}/[^/.][^/]*/)?sub-[^/]+(/ses-[^/]+)?(/anat)?|{DERIVATIVES}(/[^/.][^/]*)?"
)
"""Folders that may lead to images. All others are not looked into, however large they are."""
_LARGEST_BIDSIGNORE = 1 << 20
_AT_ONCE = 200
_SHOWN = 3


@dataclass(frozen=True)
class LeftOut:
    """An image that is wanted and cannot be worked on.

    Parameters
    ----------
    path : str
        The image as a path inside the data set.
    reason : str
        Why.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What a data set has of what is wanted.

    Parameters
    ----------
    items : tuple of Item
        In the order of subjects, sessions and file names.
    left_out : tuple of LeftOut
        Images of these subjects and contrasts that are not among them.
    """

    items: tuple[Item, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class DatasetFiles:
    """The NIfTI files in the ``anat`` folders of a data set, as paths inside it.

    Parameters
    ----------
    subjects : tuple of str
        All subjects, with or without images.
    images, derivatives : tuple of str
        Files of the data set itself, and in ``derivatives``.
    closed : tuple of LeftOut
        Folders that cannot be read.
    """

    subjects: tuple[str, ...]
    images: tuple[str, ...]
    derivatives: tuple[str, ...]
    closed: tuple[LeftOut, ...]

    @property
    def sessions(self) -> frozenset[str]:
        """All sessions with images, as ``ses-1``."""
        return frozenset(subject_and_session(Path(image))[1] for image in self.images) - {""}


def find_items(study: Study, task: Task) -> Found:
    """Return the images of a data set that are wanted, each with its results' names.

    Parameters
    ----------
    study : Study
        Data set, output folder and selection.
    task : Task
        Its contrasts are looked for.

    Returns
    -------
    Found
        The same for the same files, in the same order.

    Raises
    ------
    UsageError
        If the data set cannot be read, the selection cannot be understood, or two images would
        have one result.
    MissingDependencyError
        If ``ancpbids`` is not installed.
    """
    files = read_files(study.bids_dir, without=study.out_dir)
    contrasts = _wanted_contrasts(study, task)
    candidates = [c for c in map(_candidate, files.images) if c.contrast in contrasts]
    wanted = select(candidates, study.selection, subjects=files.subjects, sessions=files.sessions)
    reasons = dict(_left_out(wanted, _ignored(study.bids_dir)))
    landmarks = LandmarkFiles(study.bids_dir, files.derivatives)
    corrected = CorrectedMaps(_corrected_folder(study))
    items = []
    for candidate in wanted:
        if candidate.source in reasons:
            continue
        try:
            items.append(_item(candidate, study, task, landmarks, corrected))
        except NameNotBidsError as error:
            reasons[candidate.source] = str(error)
    items = _listed(items, study, task)
    _require_distinct(items)
    left_out = (LeftOut(path, reason) for path, reason in sorted(reasons.items()))
    return Found(tuple(items), (*files.closed, *left_out))


def read_files(bids_dir: Path, *, without: Path | None = None) -> DatasetFiles:
    """Return the images of a data set, its own and those in its derivatives.

    Parameters
    ----------
    bids_dir : Path
        The data set.
    without : Path, optional
        Folder of derivatives that is not looked into.

    Raises
    ------
    UsageError
        If it is no folder with subjects.
    MissingDependencyError
        If ``ancpbids`` is not installed.
    """
    if not is_folder(bids_dir):
        raise UsageError(f"There is no folder {printable(bids_dir)}. Give that of the data set.")
    try:
        from ancpbids import DatasetOptions, load_dataset
        from ancpbids.model_base import File
    except ImportError as error:
        raise MissingDependencyError(
            "Data sets are read with ancpbids, which is not installed. Install it with "
            "pip install 'sct-rootlets-task[study]'."
        ) from error
    view = _View(bids_dir, without)
    if not view.subjects:
        raise UsageError(
            f"{printable(bids_dir)} has no folders sub-…. Give the top folder of a BIDS data set."
        )
    # The pickle file that the reader would take in the data set's place runs what is in it.
    options = DatasetOptions(ignore_pickle_file=True)
    paths = []
    for _ in view.chunks():
        dataset: Any = load_dataset(str(bids_dir), options, vfs=cast(Any, view))
        paths += [file.get_relative_path() for file in dataset.select(File).objects()]
    derived = {path for path in paths if path.startswith(f"{DERIVATIVES}/")}
    return DatasetFiles(
        subjects=view.subjects,
        images=tuple(sorted(set(paths) - derived)),
        derivatives=tuple(sorted(derived)),
        closed=tuple(view.closed),
    )


class _View:
    """What the reader is to see of a data set: folders that lead to images, and NIfTI files.

    It shows no JSON, so that a broken one does no harm. It shows some subjects at a time, since the
    reader's time grows with the square of their number.
    """

    def __init__(self, root: Path, without: Path | None) -> None:
        self._root, self._folders, self._top = str(root), {str(root)}, [""]
        self._without = without.resolve() if without else None
        self.closed: list[LeftOut] = []
        self._all = sorted(self._scan(self._root))
        self.subjects = tuple(name for name in self._all if name != DERIVATIVES)

    def chunks(self) -> Iterator[Sequence[str]]:
        for start in range(0, len(self._all), _AT_ONCE):
            self._top = self._all[start : start + _AT_ONCE]
            yield self._top

    def exists(self, path: str) -> bool:
        return False

    def is_dir(self, path: str) -> bool:
        return path in self._folders

    def listdir(self, path: str) -> list[str]:
        return self._top if path == self._root else self._scan(path)

    def _scan(self, path: str) -> list[str]:
        inside = path.removeprefix(self._root).strip("/")
        try:
            with os.scandir(path) as entries:
                return [entry.name for entry in entries if self._is_seen(entry, path, inside)]
        except OSError as error:
            if not inside:
                raise UsageError(
                    f"{printable(path)} cannot be read ({reason_of(error)}). Check its permissions."
                ) from error
            self.closed.append(LeftOut(inside, f"the folder cannot be read ({reason_of(error)})"))
            return []

    def _is_seen(self, entry: os.DirEntry[str], path: str, inside: str) -> bool:
        name = f"{inside}/{entry.name}" if inside else entry.name
        if _FOLDER.fullmatch(name) and entry.is_dir():
            if inside == DERIVATIVES and Path(entry.path).resolve() == self._without:
                return False
            # The reader joins with a slash, whatever the system has.
            self._folders.add(f"{path.rstrip('/')}/{entry.name}")
            return True
        is_image = entry.name.endswith(EXTENSIONS) and not entry.name.startswith(".")
        return is_image and inside.endswith("/anat") and not entry.is_dir()


def _candidate(source: str) -> Candidate:
    name = parse_name(PurePosixPath(source).name)
    return Candidate(source, name, contrast_of(name), *subject_and_session(Path(source)))


def _wanted_contrasts(study: Study, task: Task) -> Sequence[str]:
    known, wanted = contrasts_of(task), study.selection.contrasts
    odd = sorted(set(wanted) - set(known))
    if odd:
        raise UsageError(
            f"--contrast: {' '.join(map(printable, odd))} is none of the task {task.name}. Choose "
            f"from {' '.join(known)}."
        )
    return wanted or known


def _left_out(
    candidates: Sequence[Candidate], is_ignored: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    """Yield the images that cannot be worked on, with the reason."""
    stems = Counter(_without_extension(candidate.source) for candidate in candidates)
    for candidate in candidates:
        source, has = candidate.source, candidate.name.entities
        part = has.get("part", "")
        named = tuple(f"{key}-{has[key]}" if key in has else "" for key in ("sub", "ses"))
        if part in NOT_MAGNITUDE:
            yield source, f"part-{part} is no magnitude image"
        elif named != (candidate.subject, candidate.session):
            yield source, "its name tells another subject or session than its folders"
        elif stems[_without_extension(source)] > 1:
            yield source, "it is there as .nii and as .nii.gz; remove one of them"
        elif is_ignored(source):
            yield source, "it is in .bidsignore"


def _without_extension(source: str) -> str:
    return f"{PurePosixPath(source).parent}/{stem(Path(source))}"


def _ignored(bids_dir: Path) -> Callable[[str], bool]:
    """Return a test for images that ``.bidsignore`` keeps from being used.

    An image that BIDS has no name for must be in it by its name, which then says nothing else.
    """
    try:
        with open_regular(bids_dir / ".bidsignore") as stream:
            text = stream.read(_LARGEST_BIDSIGNORE).decode("utf-8", "replace")
    except OSError:
        text = ""
    lines = (line.strip() for line in text.splitlines())
    patterns = [line for line in lines if line and line[0] not in "#!"]
    of_folders = [_matcher(line.rstrip("/")) for line in patterns]
    of_files = [_matcher(line) for line in patterns if not line.endswith("/")]

    def test(source: str) -> bool:
        path = PurePosixPath(source)
        is_bids = parse_name(path.name).suffix not in NOT_BIDS
        folders = [str(parent) for parent in path.parents][:-1]
        inside = any(match(folder) for match in of_folders for folder in folders)
        return inside or (is_bids and any(match(source) for match in of_files))

    return test


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of paths by a line of ``.bidsignore``; one without a slash fits anywhere."""
    plain = pattern.removeprefix("**/").lstrip("/")
    anywhere = "/" not in pattern.strip("/") or pattern.startswith("**/")
    forms = [plain, f"*/{plain}"] if anywhere and not pattern.startswith("/") else [plain]
    compiled = [re.compile(fnmatch.translate(form.replace("**", "*"))) for form in forms]
    return lambda path: any(form.match(path) for form in compiled)


def _corrected_folder(study: Study) -> Path:
    if study.corrected and not is_folder(study.corrected):
        raise UsageError(
            f"--corrected: there is no folder {printable(study.corrected)}. Make it, or leave the "
            "option out."
        )
    return study.corrected or study.out_dir / "corrected"


def _item(
    candidate: Candidate,
    study: Study,
    task: Task,
    landmarks: LandmarkFiles,
    corrected: CorrectedMaps,
) -> Item:
    image = study.bids_dir / candidate.source
    name = level_map_name(image, task, study.naming)
    folder = Path(candidate.subject, candidate.session)
    output = study.out_dir / folder / "anat" / name
    return Item(
        image=image,
        source=candidate.source,
        contrast=candidate.contrast,
        subject=candidate.subject,
        session=candidate.session,
        output=output,
        work=study.work_dir / folder / name.removesuffix("_dseg.nii.gz"),
        landmarks=landmarks.of(candidate.source),
        corrected=corrected.of(list(_result_names(image, task))),
    )


def _result_names(image: Path, task: Task) -> Iterator[str]:
    """Yield the names that the level map of an image has in either naming."""
    for naming in NAMINGS:
        try:
            yield level_map_name(image, task, naming)
        except NameNotBidsError:
            continue


def _listed(items: list[Item], study: Study, task: Task) -> list[Item]:
    """Return the items that a list names, all of them without a list."""
    if study.selection.only is None:
        return items
    listed = read_list(study.selection.only)
    chosen, known = [], set()
    for item in items:
        results = (stem(Path(name)) for name in _result_names(item.image, task))
        names = {stem(item.image), item.name, *results}
        if names & listed:
            chosen.append(item)
            known |= names
    unknown = sorted(listed - known)
    if unknown:
        logger.warning(
            "%s: %d names are of no image that is selected, such as %s.",
            printable(study.selection.only),
            len(unknown),
            ", ".join(map(printable, unknown[:_SHOWN])),
        )
    return chosen


def _require_distinct(items: Iterable[Item]) -> None:
    """Refuse two images that would have one result."""
    seen: dict[Path, Item] = {}
    for item in items:
        other = seen.setdefault(item.output, item)
        if other is not item:
            raise UsageError(
                f"{printable(other.source)} and {printable(item.source)} would both become "
                f"{printable(item.output.name)}. Choose one of them with --bids-filter-file, or "
                "use --naming neuropoly."
            )
