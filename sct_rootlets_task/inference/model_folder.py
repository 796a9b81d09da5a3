"""What a folder of a trained nnU-Net model says about itself: all but the weights.

Both JSON files are checked here, once. What is handed on has the types and ranges of nnU-Net.
"""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.inference.architecture import (
    BACKGROUND,
    Architecture,
    Slot,
    described,
    slots,
    with_trainer,
)
from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.inference.fields import parse, read_json, wrong
from sct_rootlets_task.inference.trainer_folder import CHECKPOINTS, DESCRIPTIONS, FOLD, FOLDS, PLANS
from sct_rootlets_task.io.orientation import axcodes_from_sct
from sct_rootlets_task.io.untrusted import missing_content, printable, reason_of

if TYPE_CHECKING:
    from sct_rootlets_task.inference.plans import Origin, Plans

logger = logging.getLogger(__name__)

MOST_PARENTS = 20
"""Configurations that one inherits from, one after the other; nnU-Net writes one."""


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """The content of a trainer folder (``nnUNetTrainer…``), weights aside.

    Parameters
    ----------
    path : Path
        The trainer folder.
    plans, dataset : dict
        ``plans.json`` and ``dataset.json`` as they are.
    configuration_name : str
        Name of the plans' configuration the weights belong to, for example ``3d_fullres``.
    configuration : mapping
        This configuration, checked, in the new format, with what it inherits filled in.
    transpose : tuple of int
        Order of axes the network wants, of the axes (z, y, x).
    intensities : mapping
        The plans' statistics of the training data, of the one input channel.
    classes : dict
        Class names and their index in the network's output.
    planned : Architecture
        The network of the plans.
    checkpoints : tuple of Path
        One file a fold, in the order of the folds.
    first : Checkpoint
        That of the first fold.
    """

    path: Path
    plans: dict[str, Any]
    dataset: dict[str, Any]
    configuration_name: str
    configuration: Mapping[str, Any]
    transpose: tuple[int, ...]
    intensities: Mapping[str, float]
    classes: dict[str, int]
    planned: Architecture
    checkpoints: tuple[Path, ...]
    first: Checkpoint

    @property
    def orientation(self) -> str | None:
        """Orientation the model wants, in SCT's letters, or None if it does not say."""
        return self.dataset.get("image_orientation")

    @cached_property
    def trainer(self) -> str | None:
        """Name of the trainer in the first checkpoint."""
        return read_origin(self.first).trainer

    @cached_property
    def architecture(self) -> Architecture:
        """The network of the weights: that of the plans, as the trainer changed it."""
        return with_trainer(self.planned, self.trainer)

    @property
    def slots(self) -> dict[str, Slot]:
        """The weights of the network, by all of their names."""
        return slots(self.architecture, len(self.classes))

    @property
    def plans_for_nnunet(self) -> dict[str, Any]:
        """What stock nnU-Net needs of the plans, made of what was checked."""
        network = {"architecture": described(self.architecture)}
        return {
            "dataset_name": "model",
            "plans_name": "nnUNetPlans",
            "transpose_forward": list(self.transpose),
            "transpose_backward": [self.transpose.index(axis) for axis in range(3)],
            "configurations": {self.configuration_name: {**self.configuration, **network}},
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {"0": dict(self.intensities)},
        }

    @property
    def dataset_for_nnunet(self) -> dict[str, Any]:
        """What stock nnU-Net needs of ``dataset.json``."""
        channels = {"channel_names": {"0": "MRI"}}
        labels = {name if index else BACKGROUND: index for name, index in self.classes.items()}
        return {**channels, "labels": labels, "file_ending": ".nii.gz"}


def read_origin(checkpoint: Checkpoint) -> Origin:
    """Read what a checkpoint says about its training.

    Raises
    ------
    ModelError
        If it says it in another way than nnU-Net.
    """
    from sct_rootlets_task.inference.plans import Origin

    parts = ("trainer_name", "init_args", "inference_allowed_mirroring_axes")
    return parse(Origin, checkpoint.read(parts), checkpoint.path)


def read_model_folder(path: Path) -> ModelFolder:
    """Read the description of a trained nnU-Net model.

    Parameters
    ----------
    path : Path
        Trainer folder with ``plans.json``, ``dataset.json`` and ``fold_*``.

    Raises
    ------
    ModelError
        If the folder is incomplete or not of a kind that this package can run.
    """
    from sct_rootlets_task.inference.plans import Dataset, Plans

    files = [path / name for name in DESCRIPTIONS]
    plans, dataset = map(read_json, files)
    described = parse(Dataset, dataset, files[1])
    if described.image_orientation is not None:
        axcodes_from_sct(described.image_orientation)
    checked = parse(Plans, plans, files[0])
    checkpoints = _checkpoints(path)
    first = Checkpoint(checkpoints[0])
    name = _configuration_name(path, checked, first)
    used = _used(checked, name, files[0])
    return ModelFolder(
        path=path,
        plans=plans,
        dataset=dataset,
        configuration_name=name,
        configuration=used.configuration,
        transpose=checked.transpose_forward,
        intensities=used.intensities,
        classes=described.labels,
        planned=used.network,
        checkpoints=checkpoints,
        first=first,
    )


@dataclass(frozen=True)
class _Used:
    """What plans say about one of their configurations."""

    network: Architecture
    configuration: Mapping[str, Any]
    intensities: Mapping[str, float]


def _used(plans: Plans, name: str, file: Path) -> _Used:
    """Check a configuration of the plans, and what it needs of the rest of them."""
    from sct_rootlets_task.inference.plans import Configuration, Intensities, read_architecture

    place = ("configurations", name)
    given = _inherited(plans.configurations, name, file)
    if given.get("previous_stage") is not None:
        raise ModelError(
            "The model is the second stage of a cascade ('previous_stage' in "
            f"{printable(file)}), which cannot be run here. Use the model of its "
            "first stage, or one of a single stage."
        )
    network = read_architecture(given, file, place)
    read = parse(Configuration, given, file, place, context=network)
    statistics: Mapping[str, float] = {}
    if read.normalization_schemes == ("CTNormalization",):
        old = plans.foreground_intensity_properties_per_channel is None
        where = f"foreground_intensity_properties_{'by_modality' if old else 'per_channel'}"
        channels = getattr(plans, where) or {}
        statistics = parse(Intensities, channels.get("0"), file, (where, "0")).model_dump()
    entries = {name: list(v) if isinstance(v, tuple) else v for name, v in read}
    return _Used(network, {**entries, "architecture": described(network)}, statistics)


def _configuration_name(path: Path, plans: Plans, first: Checkpoint) -> str:
    """Return the configuration that the weights were trained with.

    The first checkpoint knows it; the folder's name (trainer__plans__configuration) is asked if
    that does not say. Where there is one configuration, there is nothing to ask.
    """
    known = list(plans.configurations)
    if len(known) == 1:
        return known[0]
    named = path.name.rsplit("__", 1)[-1]
    saved = read_origin(first).configuration
    if saved is not None and saved != named and named in known:
        logger.warning(
            "The folder %s is named after the configuration %s, but its weights were trained "
            "with %s. They are run with %s.", printable(path), printable(named), saved, saved,
        )  # fmt: skip
    chosen = saved if saved is not None else named
    if chosen in known:
        return chosen
    listed = ", ".join(repr(printable(name, 60)) for name in known[:8])
    if saved is not None:
        raise ModelError(
            f"Expected the configuration {saved!r} of {printable(first.path)} in "
            f"{printable(path / PLANS)}, found {listed}. Install the plans it was trained "
            "with."
        )
    raise ModelError(
        f"Neither {printable(first.path)} nor the folder's name says which configuration of its "
        f"plans the model was trained with. Let the name end in __ and one of {listed}, for "
        f"example nnUNetTrainer__nnUNetPlans__{printable(known[0], 60)}."
    )


def _inherited(configurations: Mapping[str, Any], name: str, file: Path) -> dict[str, Any]:
    """Return a configuration with what it inherits from others filled in."""
    merged: dict[str, Any] = {}
    seen: list[str] = []
    parent: Any = name
    while parent is not None:
        if not isinstance(parent, str) or parent not in configurations or parent in seen:
            place = ("configurations", *seen[-1:], "inherits_from")
            raise wrong(file, place, "another configuration's name", reprlib.repr(parent))
        if len(seen) > MOST_PARENTS:
            limit = f"a configuration that inherits from {MOST_PARENTS} at most"
            raise wrong(file, ("configurations", name), limit, "more")
        seen.append(parent)
        own = configurations[parent]
        if not isinstance(own, dict):
            raise wrong(file, ("configurations", parent), "an object", reprlib.repr(own))
        merged = {**own, **merged}
        parent = own.get("inherits_from")
    return merged


def _checkpoints(path: Path) -> tuple[Path, ...]:
    """Return one checkpoint a fold: fold_all alone, or all numbered folds."""
    try:
        found = _complete_folds(path)
        weights = sorted(path.glob(f"{FOLDS}/*.pth"))
    except OSError as error:
        raise ModelError(
            f"The model in {printable(path)} cannot be read: {reason_of(error)}. Ask its owner to "
            "open it, or install it again."
        ) from error
    if not found and (why := next(filter(None, map(missing_content, weights)), None)):
        raise ModelError(f"The model in {printable(path)} is not complete: {why}.")
    if not found:
        others = [checkpoint.name for checkpoint in weights]
        raise ModelError(
            f"Expected {' or '.join(CHECKPOINTS)} in every {FOLDS} of {printable(path)}, found "
            f"{printable(others or 'none')}. Install the model again."
        )
    return found


def _complete_folds(path: Path) -> tuple[Path, ...]:
    """Return the checkpoints of one name that all folds have; none if there is no such name."""
    folds = [fold for fold in path.glob(FOLDS) if FOLD.fullmatch(fold.name)]
    numbered = [fold for fold in folds if fold.name != "fold_all"]
    folds = sorted(numbered, key=lambda fold: int(fold.name[5:]))
    if (path / "fold_all").is_dir():
        folds = [path / "fold_all"]
    for name in CHECKPOINTS:
        present = tuple(fold / name for fold in folds if (fold / name).is_file())
        if present and len(present) == len(folds):
            return present
    return ()


def check_training(folder: ModelFolder, checkpoints: Sequence[Checkpoint]) -> None:
    """Warn of a model whose files differ from what its weights (of all folds) were trained with.

    A checkpoint holds the plans and the dataset of its training. The patch may be changed by hand.
    """
    differing = sorted({name for one in checkpoints for name in _differing(folder, one)})
    if differing:
        logger.warning(
            "The weights in %s were trained with other settings than those of its plans.json and "
            "dataset.json: %s. The results may be wrong; install the files it was trained with.",
            printable(folder.path),
            ", ".join(differing),
        )


def _differing(folder: ModelFolder, checkpoint: Checkpoint) -> Iterator[str]:
    """Yield the fields that the files and a checkpoint give differently."""
    arguments = checkpoint.read(("init_args",)).get("init_args")
    if not isinstance(arguments, dict):
        return
    plans, dataset = arguments.get("plans"), arguments.get("dataset_json")
    if isinstance(plans, dict):
        trained = _training(plans, folder.configuration_name, checkpoint.path)
        used = _training(folder.plans, folder.configuration_name, folder.path)
        yield from (name for name in trained if name in used and trained[name] != used[name])
    if isinstance(dataset, dict):
        for names in (("labels",), ("channel_names", "modality")):
            was, now = (
                next((known[name] for name in names if known.get(name) is not None), None)
                for known in (dataset, folder.dataset)
            )
            if isinstance(was, dict) and not _is_same(was, now):
                yield names[0]


def _is_same(saved: dict[Any, Any], given: Any) -> bool:
    """Tell whether two tables are the same; the saved one may hold anything, arrays too."""
    plain = all(type(item) in (str, int, float) for item in saved.values())
    return plain and saved == given


def _training(plans: dict[str, Any], name: str, file: Path) -> dict[str, Any]:
    """Return what a configuration says about the training; nothing where it is not understood."""
    from sct_rootlets_task.inference.plans import Plans

    try:
        checked = parse(Plans, plans, file)
        used = _used(checked, name, file)
        old = _inherited(checked.configurations, name, file).get("architecture") is None
    except ModelError:
        return {}
    trained = {**used.configuration, "transpose_forward": checked.transpose_forward}
    if used.intensities:
        trained["intensities"] = used.intensities
    del trained["patch_size"], trained["architecture"]
    # Defaults of the two formats of plans differ, so that networks of one format are compared.
    return {**trained, "architecture (old format)" if old else "architecture": used.network}
