"""Our results inside SCT: their files, their sidecars, their QC pages.

SCT names all results of one command after the first image, so they would overwrite each other. It
does not know how a result was made. It chooses the QC page of rootlets by the task's name, and
cannot draw it without rootlets. All three are mended here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sct_rootlets_task.errors import UsageError
from sct_rootlets_task.io.atomic import hash_file, write_json
from sct_rootlets_task.io.images import EXTENSIONS, stem
from sct_rootlets_task.io.outputs import would_replace
from sct_rootlets_task.io.ownership import sidecar_of
from sct_rootlets_task.io.untrusted import is_annexed

logger = logging.getLogger(__name__)

_LAYOUTS = ("rootlets", "seg_spinal_rootlets_t2w")
_DRAWN_PER_LABEL: Mapping[str, Callable[..., object]] = {
    "assign_label_colors_by_groups": lambda *_a, **_k: ["#000000"],
    "add_segmentation_labels": lambda *_a, **_k: None,
    "plot_outlines": lambda *_a, **_k: None,
}


class Names:
    """Names of the results of one command: none replaces another's.

    Parameters
    ----------
    images : sequence of Path
        Images of the command.
    suffix : str
        The task's suffix.
    folder : Path, optional
        Folder that ``-o`` named for several images.
    """

    def __init__(self, images: Sequence[Path], suffix: str, *, folder: Path | None = None) -> None:
        self._images = tuple(images)
        self._folder = folder
        self._default = f"{stem(images[0])}{suffix}.nii.gz"
        self._suffix = suffix
        self._owners: dict[Path, Path] = {}

    def place(self, wanted: Path, image: Path) -> Path:
        """Return the file for the result of an image.

        If ``-o`` names a folder, the file is in it. Otherwise it is the one SCT wants. If that
        belongs to another image already, the file is beside its own image; where ``-o`` named a
        file, the image's name is added to that name.

        Raises
        ------
        UsageError
            If it, or its sidecar, would replace an image of the command or its sidecar.
        """
        if self._folder is not None:
            return self._folder / f"{stem(image)}{self._suffix}{EXTENSIONS[0]}"
        path = wanted
        if any(_would_replace(wanted, image) for image in self._images):
            raise UsageError(
                f"The output {wanted} would replace an input image or its sidecar. Choose another "
                "name with -o."
            )
        if self._owners.get(path, image) != image and wanted.name == self._default:
            path = image.parent / f"{stem(image)}{self._suffix}.nii.gz"
        number = 1
        while self._owners.get(path, image) != image:
            count = f"-{number}" if number > 1 else ""
            name = f"{stem(wanted)}_{stem(image)}{count}"
            ending = wanted.name[len(stem(wanted)) :] or EXTENSIONS[0]
            path = wanted.with_name(f"{name}{ending}")
            number += 1
        self._owners[path] = image
        return path


@dataclass(frozen=True, eq=False)
class Saved:
    """A result that SCT has saved.

    Parameters
    ----------
    image : Path
        The image it belongs to.
    wanted, path : Path
        File that SCT believes it to be in, and the one it is in.
    details : mapping
        What the sidecar says beyond SCT's own keys.
    """

    image: Path
    wanted: Path
    path: Path
    details: Mapping[str, Any]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not self.details.get("LevelVoxels")


class Results:
    """Everything this process has segmented for SCT."""

    def __init__(self) -> None:
        self.saved: list[Saved] = []
        self.folder: Path | None = None
        """Folder that ``-o`` of the command named for several images."""
        self.is_named = False
        """Whether the command has ``-o``."""

    def keep(self, sct_image: Any, image: Path, names: Names, details: Mapping[str, Any]) -> Any:
        """Make an SCT ``Image`` save under its own name, and remember that it was saved."""
        save = sct_image.save

        @functools.wraps(save)
        def save_under_its_own_name(path: Any = None, *args: Any, **kwargs: Any) -> Any:
            if path is None:
                return save(path, *args, **kwargs)
            [wanted] = absolute([path])
            own = names.place(wanted, image)
            moved = own != wanted
            _detach(own, sidecar_of(own), sidecar_of(wanted))
            done = save(str(own) if moved else path, *args, **kwargs)
            if moved:
                logger.info("Created file: %s", own)
            if not self.saved:
                atexit.register(self.complete_sidecars)
            self.saved.append(Saved(image, wanted, own, details))
            return done

        sct_image.save = save_under_its_own_name
        return sct_image

    def find(self, image: Path, wanted: Path) -> Saved | None:
        """Return the result of an image that SCT believes to be in a file."""
        latest = reversed(self.saved)
        return next((one for one in latest if (one.image, one.wanted) == (image, wanted)), None)

    def complete_sidecars(self) -> None:
        """Add our keys to the sidecars that SCT wrote, and write one for each further image."""
        # All are read first: a sidecar that SCT wrote may stand for several results.
        for saved, record in [(one, _written_by_sct(one)) for one in self.saved]:
            if record is not None:
                output = {"Name": saved.path.name, "SHA256": hash_file(saved.path)}
                content = {**record, **saved.details, "Output": output}
                write_json(sidecar_of(saved.path), content)
        self.saved.clear()


def _detach(*paths: Path) -> None:
    """Remove links into git-annex's store, since SCT would write through them."""
    for path in paths:
        if is_annexed(path):
            path.unlink()


def _would_replace(output: Path, image: Path) -> bool:
    pairs = ((output, image), (sidecar_of(output), sidecar_of(image)))
    return any(would_replace(*pair) for pair in pairs)


def _written_by_sct(saved: Saved) -> dict[str, Any] | None:
    """Return the sidecar that SCT wrote of a result, None if there is none of this run."""
    sidecar = sidecar_of(saved.wanted)
    try:
        if sidecar.stat().st_mtime_ns < saved.wanted.stat().st_mtime_ns:
            return None
        record = json.loads(sidecar.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


class _RootletsCommand(list[str]):
    """Words of a command in which SCT finds the task's name that selects the rootlets page."""

    def __contains__(self, word: object) -> bool:
        return word in _LAYOUTS or super().__contains__(word)


def wrap_report(qc2: Any, results: Results) -> None:
    """Make SCT's QC show each result from its own file, on the rootlets page, even an empty one."""
    original = qc2.sct_deepseg
    signature = inspect.signature(original)

    @functools.wraps(original)
    def sct_deepseg(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        words = call.arguments
        files = (words["fname_input"], words["fname_seg"])
        image, wanted = absolute(files)
        saved = results.find(image, wanted)
        if saved is None:
            return original(*args, **kwargs)
        words["fname_seg"] = str(saved.path)
        words["argv"] = _RootletsCommand(words["argv"])
        with _without_labels(qc2) if saved.is_empty else contextlib.nullcontext():
            return original(*call.args, **call.kwargs)

    qc2.sct_deepseg = sct_deepseg


@contextlib.contextmanager
def _without_labels(qc2: ModuleType) -> Iterator[None]:
    """Switch off the parts of SCT's page that need at least one label."""
    before = {name: getattr(qc2, name) for name in _DRAWN_PER_LABEL if hasattr(qc2, name)}
    for name in before:
        setattr(qc2, name, _DRAWN_PER_LABEL[name])
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(qc2, name, function)


def absolute(names: Sequence[str]) -> list[Path]:
    """Return absolute paths.

    Unlike ``Path.absolute`` this resolves ``..``, so that two spellings of one file are equal.
    Unlike ``Path.resolve`` it keeps links, because SCT saves under their names.
    """
    return [Path(os.path.abspath(name)) for name in names]  # noqa: PTH100
