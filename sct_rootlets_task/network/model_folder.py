"""What a folder of a trained nnU-Net model says about itself.

Everything is read from the folder: patch, spacing, normalisation, classes, orientation, folds. Both
JSON files are checked here, once, and what is handed on has the types and ranges that nnU-Net
writes. The weights are read by :mod:`sct_rootlets_task.network.engines`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import ModelError
from sct_rootlets_task.network.architecture import (
    Architecture,
    Slot,
    described,
    read_architecture,
    slots,
    with_trainer,
)
from sct_rootlets_task.network.checkpoint import Checkpoint
from sct_rootlets_task.network.fields import Fields, is_integer, read_json
from sct_rootlets_task.orientation import axcodes_from_sct
from sct_rootlets_task.paths import CHECKPOINTS, FOLD
from sct_rootlets_task.untrusted import missing_content, printable, reason_of

logger = logging.getLogger(__name__)

MOST_CLASSES = 256
"""Labels are bytes."""
MOST_PATCH_VOXELS = 2**25
VOXEL_MM = (0.01, 100.0)
MOST_CONFIGURATIONS = 100
MOST_PARENTS = 20
"""Configurations that one inherits from, one after the other; nnU-Net writes one."""
BACKGROUND = "background"
"""nnU-Net's name of class 0; in capitals, too, it is taken for the same."""
IGNORED = "ignore"
"""The label that nnU-Net does not train; it is no class of the network."""
_LABEL_MANAGER = "LabelManager"
_PREPROCESSORS = {"DefaultPreprocessor": "DefaultPreprocessor"}
_NORMALIZATIONS = {
    f"{name}Normalization": f"{name}Normalization"
    for name in ("ZScore", "CT", "No", "RescaleTo01", "RGBTo01")
}
_RESAMPLINGS = {
    name: name
    for name in ("resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack")
}
_STATISTICS = tuple(
    f"foreground_intensity_properties_{ending}" for ending in ("per_channel", "by_modality")
)
_INTENSITIES = ("mean", "std", "percentile_00_5", "percentile_99_5")


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
        backward = [self.transpose.index(axis) for axis in range(3)]
        network = {"architecture": described(self.architecture)}
        return {
            "dataset_name": "model",
            "plans_name": "nnUNetPlans",
            "transpose_forward": list(self.transpose),
            "transpose_backward": backward,
            "configurations": {self.configuration_name: {**self.configuration, **network}},
            "label_manager": _LABEL_MANAGER,
            "foreground_intensity_properties_per_channel": {"0": dict(self.intensities)},
        }

    @property
    def dataset_for_nnunet(self) -> dict[str, Any]:
        """What stock nnU-Net needs of ``dataset.json``."""
        channels = {"channel_names": {"0": "MRI"}}
        labels = {name if index else BACKGROUND: index for name, index in self.classes.items()}
        return {**channels, "labels": labels, "file_ending": ".nii.gz"}


@dataclass(frozen=True)
class Origin:
    """What a checkpoint says about its training.

    Parameters
    ----------
    trainer, configuration : str, optional
        Names of nnU-Net's trainer class and of the plans' configuration.
    mirror_axes : tuple of int
        Axes (0=z, 1=y, 2=x) along which the model was trained to be mirrored.
    """

    trainer: str | None
    configuration: str | None
    mirror_axes: tuple[int, ...]


def read_origin(checkpoint: Checkpoint) -> Origin:
    """Read what a checkpoint says about its training.

    Raises
    ------
    ModelError
        If it says it in another way than nnU-Net.
    """
    parts = ("trainer_name", "init_args", "inference_allowed_mirroring_axes")
    fields = Fields(checkpoint.read(parts), checkpoint.path)
    arguments = fields.object("init_args")
    axes = fields.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, tuple | list) or not all(is_integer(axis, 0, 2) for axis in axes):
        fields.fail("inference_allowed_mirroring_axes", "some of the axes 0, 1 and 2")
    return Origin(
        fields.text("trainer_name") if "trainer_name" in fields else None,
        arguments.text("configuration") if "configuration" in arguments else None,
        tuple(sorted(set(axes))),
    )


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
    plans, dataset = (
        Fields(read_json(path / name), path / name) for name in ("plans.json", "dataset.json")
    )
    classes = _read_dataset(dataset)
    checkpoints = _checkpoints(path)
    first = Checkpoint(checkpoints[0])
    name = _configuration_name(path, plans, first)
    configuration = _inherited(plans, name)
    planned = read_architecture(configuration)
    checked = _read_configuration(configuration, planned)
    scheme = checked["normalization_schemes"][0]
    if "label_manager" in plans:
        plans.one_of("label_manager", {_LABEL_MANAGER: _LABEL_MANAGER})
    return ModelFolder(
        path=path,
        plans=dict(plans.content),
        dataset=dict(dataset.content),
        configuration_name=name,
        configuration={**checked, "architecture": described(planned)},
        transpose=_transpose(plans),
        intensities=_intensities(plans, needed=scheme == "CTNormalization"),
        classes=classes,
        planned=planned,
        checkpoints=checkpoints,
        first=first,
    )


def _read_dataset(dataset: Fields) -> dict[str, int]:
    """Check ``dataset.json`` and return the classes."""
    channels = "channel_names" if "channel_names" in dataset else "modality"
    if len(list(dataset.object(channels))) != 1:
        dataset.fail(channels, "one input channel, since several contrasts cannot be run here,")
    if "image_orientation" in dataset:
        axcodes_from_sct(dataset.text("image_orientation"))
    labels = dataset.object("labels")
    if any(isinstance(labels.get(name), list) for name in labels):
        dataset.fail("labels", "one number a class (Region-based models cannot be run here)")
    for name in labels:
        labels.integer(name, 0, MOST_CLASSES)
        if not name.isprintable() or not 0 < len(name) <= 100:
            dataset.fail("labels", "names of printable characters")
    numbers = {name: labels.get(name) for name in labels if name != IGNORED}
    count, ignored = len(numbers), labels.get(IGNORED)
    if sorted(numbers.values()) != list(range(count)) or not 2 <= count <= MOST_CLASSES:
        dataset.fail("labels", "a number for each class, from 0 on without gaps,")
    background = [number for name, number in numbers.items() if name.casefold() == BACKGROUND]
    if background != [0] or ignored not in (None, count):
        dataset.fail("labels", "0 for 'background' and the largest number for 'ignore'")
    return numbers


def _configuration_name(path: Path, plans: Fields, first: Checkpoint) -> str:
    """Return the configuration that the weights were trained with.

    The first checkpoint knows it; the folder's name (trainer__plans__configuration) is asked if
    that does not say. Where there is one configuration, there is nothing to ask.
    """
    known = list(plans.object("configurations"))
    if not 1 <= len(known) <= MOST_CONFIGURATIONS:
        plans.fail("configurations", f"at least one configuration, at most {MOST_CONFIGURATIONS},")
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
            f"{printable(path / 'plans.json')}, found {listed}. Install the plans it was trained "
            "with."
        )
    raise ModelError(
        f"Neither {printable(first.path)} nor the folder's name says which configuration of its "
        f"plans the model was trained with. Let the name end in __ and one of {listed}, for "
        f"example nnUNetTrainer__nnUNetPlans__{printable(known[0], 60)}."
    )


def _inherited(plans: Fields, name: str) -> Fields:
    """Return a configuration with what it inherits from others filled in."""
    configurations = plans.object("configurations")
    merged: dict[str, Any] = {}
    seen: list[str] = []
    parent: Any = name
    if name not in configurations:
        configurations.fail(name, "an object")
    while parent is not None:
        if not isinstance(parent, str) or parent not in configurations or parent in seen:
            configurations.object(seen[-1]).fail("inherits_from", "another configuration's name")
        if len(seen) > MOST_PARENTS:
            configurations.fail(name, f"a configuration that inherits from {MOST_PARENTS} at most")
        seen.append(parent)
        own = configurations.object(parent)
        merged = {**own.content, **merged}
        parent = own.get("inherits_from")
    return Fields(merged, plans.file, f"configurations.{name}")


def _read_configuration(given: Fields, network: Architecture) -> dict[str, Any]:
    """Return the entries of a configuration that inference needs, checked."""
    if "previous_stage" in given:
        raise ModelError(
            "The model is the second stage of a cascade ('previous_stage' in "
            f"{printable(given.file)}), which cannot be run here. Use the model of its "
            "first stage, or one of a single stage."
        )
    axes = network.axes
    patch = given.integers("patch_size", axes, 1, 4096)
    steps = [math.prod(stride[axis] for stride in network.strides) for axis in range(axes)]
    if math.prod(patch) > MOST_PATCH_VOXELS or any(
        size % step for size, step in zip(patch, steps, strict=True)
    ):
        given.fail(
            "patch_size",
            f"multiples of {steps}, the product of the strides, and {MOST_PATCH_VOXELS} voxels at "
            "most,",
        )
    (scheme,) = given.names("normalization_schemes", 1, _NORMALIZATIONS)
    masked = given.items("use_mask_for_norm", 1)[0]
    if not isinstance(masked, bool):
        given.fail("use_mask_for_norm", "true or false for the one channel")
    checked: dict[str, Any] = {
        "preprocessor_name": given.one_of("preprocessor_name", _PREPROCESSORS),
        "patch_size": list(patch),
        "spacing": list(given.numbers("spacing", axes, *VOXEL_MM)),
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [masked],
    }
    for what in ("data", "seg", "probabilities"):
        name = f"resampling_fn_{what}"
        checked[name] = given.one_of(name, _RESAMPLINGS)
        checked[f"{name}_kwargs"] = _resampling(given.object(f"{name}_kwargs"), checked[name])
    return checked


def _resampling(given: Fields, function: str) -> dict[str, Any]:
    """Return the arguments of a resampling function of nnU-Net."""
    flags = {"is_seg", "force_separate_z"}
    orders = {"order", "order_z"} if function == "resample_data_or_seg_to_shape" else set()
    threshold = {"separate_z_anisotropy_threshold"}
    if function == "resample_torch_fornnunet":
        flags.add("memefficient_seg_resampling")
    given.only(set() if function == "no_resampling_hack" else flags | orders | threshold)
    found: dict[str, Any] = {name: given.integer(name, 0, 5) for name in orders if name in given}
    found |= {name: given.flag(name) for name in flags if name in given}
    found |= {name: given.number(name, 1, 1e6) for name in threshold if name in given}
    return found | ({"force_separate_z": None} if given.is_null("force_separate_z") else {})


def _transpose(plans: Fields) -> tuple[int, ...]:
    forward = plans.integers("transpose_forward", 3, 0, 2)
    backward = [forward.index(axis) for axis in range(3) if axis in forward]
    if len(backward) != 3:
        plans.fail("transpose_forward", "an order of the axes 0, 1 and 2")
    if "transpose_backward" in plans and plans.get("transpose_backward") != backward:
        plans.fail("transpose_backward", f"{backward}, the way back of transpose_forward,")
    return forward


def _intensities(plans: Fields, *, needed: bool) -> dict[str, float]:
    """Return the statistics of the one channel; only CTNormalization needs them."""
    found_in = next((name for name in _STATISTICS if name in plans), _STATISTICS[0])
    given = plans.object(found_in).object("0")
    if not needed:
        return {}
    found = {name: given.number(name, -1e12, 1e12) for name in _INTENSITIES}
    if found["percentile_00_5"] > found["percentile_99_5"] or found["std"] < 0:
        given.fail("percentile_99_5", "a number above percentile_00_5, and a std of 0 or more,")
    return found


def _checkpoints(path: Path) -> tuple[Path, ...]:
    """Return one checkpoint a fold: fold_all alone, or all numbered folds."""
    try:
        found = _complete_folds(path)
        weights = sorted(path.glob("fold_*/*.pth"))
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
            f"Expected {' or '.join(CHECKPOINTS)} in every fold_* of {printable(path)}, found "
            f"{printable(others or 'none')}. Install the model again."
        )
    return found


def _complete_folds(path: Path) -> tuple[Path, ...]:
    """Return the checkpoints of one name that all folds have; none if there is no such name."""
    folds = [fold for fold in path.glob("fold_*") if FOLD.fullmatch(fold.name)]
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
    """Warn of a model whose files differ from what its weights were trained with.

    A checkpoint holds the plans and the dataset of its training. The size of the patch is left
    out, since it may be changed by hand.

    Parameters
    ----------
    folder : ModelFolder
        The model.
    checkpoints : sequence of Checkpoint
        Those of all folds.
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
        trained = _training(Fields(plans, checkpoint.path), folder.configuration_name)
        used = _training(Fields(folder.plans, folder.path), folder.configuration_name)
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


def _training(plans: Fields, name: str) -> dict[str, Any]:
    """Return what a configuration says about the training; nothing where it is not understood."""
    try:
        configuration = _inherited(plans, name)
        network = read_architecture(configuration)
        checked = _read_configuration(configuration, network)
        checked["transpose_forward"] = _transpose(plans)
        if checked["normalization_schemes"] == ["CTNormalization"]:
            checked["intensities"] = _intensities(plans, needed=True)
    except (ValueError, TypeError):  # a checkpoint may hold arrays, which compare in their own way
        return {}
    del checked["patch_size"]
    # Defaults of the two formats of plans differ, so that networks of one format are compared.
    form = "architecture" if "architecture" in configuration else "architecture (old format)"
    return {**checked, form: network}
