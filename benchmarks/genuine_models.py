"""Make models with nnU-Net itself, and compare our raw labels with its own predictor's.

    python -m benchmarks.genuine_models [--out FOLDER] [--model NAME …] [--engine ENGINE …]

nnU-Net takes the fingerprint of a synthetic data set, plans, preprocesses, trains for one short
epoch on the CPU and saves its checkpoints. Its own predictor then loads the folder and labels a
test image. The table shows how many voxels of ours differ, all tiles run. The exit code is 1 if a
plain, five-fold or ResEnc model is refused, or differs in more than 10 of 500,000 voxels. Other
models are run by the default engine only, and the table shows what became of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from sct_rootlets_task.errors import RootletsError
from sct_rootlets_task.inference.loading import ENGINES, Options
from sct_rootlets_task.io.images import load_image
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.segmentation.segmenter import Segmenter, Settings

ALLOWED_OF_500_000 = 10
FEWEST_LABELS = 3
"""Labels that the reference has at least, so that equal labels mean something."""
LEVELS = range(1, 7)
FIRST_LEVEL = 2
"""The task's first level: what a model finds of C1 becomes background."""
DATASET, DATASET_ID = "Dataset901_Levels", 901
TRAINING_MM, TRAINING_SHAPE = (1.1, 0.9, 1.0), (36, 44, 52)
IMAGE_MM, IMAGE_SHAPE = (0.5, 0.5, 0.5), (60, 72, 76)
MEMORY_TARGET_GB = 0.02
"""The planner's bound on GPU memory: patches of some 20 voxels along each axis."""
LEARNING_RATE = 0.03
"""Three times that of nnU-Net: labels appear after few iterations."""


@dataclass(frozen=True)
class ModelVariant:
    """How nnU-Net makes one model.

    Parameters
    ----------
    name : str
        Name in the table.
    folds : tuple of str or int
        ``all``, or numbers of the cross-validation.
    planner : str
        Module and class, below ``nnunetv2.experiment_planning.experiment_planners``.
    trainer : str
        Module and class, below ``nnunetv2.training.nnUNetTrainer``.
    configurations : tuple of str
        Configurations of the plans, trained one after the other.
    orientation : str, optional
        ``image_orientation`` of ``dataset.json``, in SCT's letters; left out if None.
    mirroring : bool
        Average over mirrored inputs, as far as the model allows it.
    required : bool
        Whether the model has to run with equal labels.
    """

    name: str
    folds: tuple[str | int, ...] = ("all",)
    planner: str = "default_experiment_planner.ExperimentPlanner"
    trainer: str = "nnUNetTrainer.nnUNetTrainer"
    configurations: tuple[str, ...] = ("3d_fullres",)
    orientation: str | None = "RPI"
    mirroring: bool = False
    required: bool = False


VARIANTS = (
    ModelVariant("plain", required=True),
    ModelVariant("five folds", folds=(0, 1, 2, 3, 4), orientation=None, required=True),
    ModelVariant(
        "ResEnc",
        planner="residual_unets.residual_encoder_unet_planners.nnUNetPlannerResEncM",
        required=True,
    ),
    ModelVariant(
        "no mirroring",
        trainer="variants.data_augmentation.nnUNetTrainerNoMirroring.nnUNetTrainerNoMirroring",
        mirroring=True,
    ),
    ModelVariant(
        "batch norm", trainer="variants.network_architecture.nnUNetTrainerBN.nnUNetTrainerBN"
    ),
    ModelVariant("cascade", configurations=("3d_lowres", "3d_cascade_fullres")),
)


@dataclass(frozen=True)
class Row:
    """What came of one engine on one model.

    Parameters
    ----------
    engine : str
        Engine that ran, or that was asked for.
    voxels, labels, differing : int
        Voxels compared, labels of the reference, and voxels that differ from it.
    refusal : str, optional
        Why there was nothing to compare.
    """

    engine: str
    voxels: int = 0
    labels: int = 0
    differing: int = 0
    refusal: str | None = None

    @property
    def of_500_000(self) -> float:
        """Voxels that differ, in 500,000."""
        return self.differing * 500_000 / self.voxels if self.voxels else 0.0

    @property
    def equal(self) -> bool:
        """Whether the labels were compared, and hardly any differ."""
        return self.refusal is None and self.of_500_000 <= ALLOWED_OF_500_000


def synthetic_case(
    shape: Sequence[int], spacing: Sequence[float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and its labels: each level is some balls of a brightness of its own.

    Parameters
    ----------
    shape : sequence of int
        Voxels along x, y, z.
    spacing : sequence of float
        Voxel sizes in mm.
    seed : int
        Seed of the places and of the noise.

    Returns
    -------
    tuple of ndarray
        Intensities (float32) and labels (uint8), both of the shape.
    """
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(seed)
    places = np.moveaxis(np.indices(tuple(shape)), 0, -1) * np.asarray(spacing)
    labels = np.zeros(shape, np.uint8)
    balls = max(2, round(np.prod(shape) * np.prod(spacing) / 10_000))
    for level in [level for level in LEVELS for _ in range(balls)]:
        middle = generator.uniform(0, 1, 3) * shape * spacing
        radius = generator.uniform(4, 7)
        labels[((places - middle) ** 2).sum(axis=-1) < radius**2] = level
    noise = gaussian_filter(generator.standard_normal(tuple(shape)), 1)
    image = 100 + 60 * labels + 15 * noise / noise.std()
    return image.astype(np.float32), labels


def write_image(path: Path, data: np.ndarray, spacing: Sequence[float], orientation: str) -> None:
    """Write a NIfTI image whose axes lie as an orientation in SCT's letters says."""
    import nibabel as nib

    signs = [1 if letter in "LPI" else -1 for letter in orientation]
    image = nib.Nifti1Image(data, np.diag([*np.multiply(signs, spacing), 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def write_dataset(folder: Path, orientation: str | None, cases: int = 6) -> None:
    """Write a data set in nnU-Net's raw format, with or without ``image_orientation``."""
    raw = folder / DATASET
    for name in ("imagesTr", "labelsTr"):
        (raw / name).mkdir(parents=True)
    for case in range(cases):
        image, labels = synthetic_case(TRAINING_SHAPE, TRAINING_MM, seed=case)
        where = orientation or "LPI"
        write_image(raw / "imagesTr" / f"case{case}_0000.nii.gz", image, TRAINING_MM, where)
        write_image(raw / "labelsTr" / f"case{case}.nii.gz", labels, TRAINING_MM, where)
    content: dict[str, Any] = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, **{f"lvl{level}": level for level in LEVELS}},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    if orientation:
        content["image_orientation"] = orientation
    (raw / "dataset.json").write_text(json.dumps(content))


@contextlib.contextmanager
def nnunet_in(folder: Path, variant: ModelVariant) -> Iterator[None]:
    """Let nnU-Net work in a folder and in this process, in silence.

    A trainer is imported from its module. nnU-Net's own search imports the modules before it as
    well, one of which needs a torchvision that fits torch exactly.
    """
    from nnunetv2.inference import predict_from_raw_data
    from nnunetv2.run import run_training
    from nnunetv2.utilities import utils

    names = ("raw", "preprocessed", "results")
    variables = {f"nnUNet_{name}": str(folder / name) for name in names}
    trainer = _imported(f"nnunetv2.training.nnUNetTrainer.{variant.trainer}")
    # Threads instead of processes: starting one for each pool takes longer than its work.
    context = SimpleNamespace(Pool=ThreadPool)
    with contextlib.ExitStack() as stack:
        for module in (predict_from_raw_data, run_training):
            name = "recursive_find_trainer_class_by_name"
            stack.enter_context(mock.patch.object(module, name, return_value=trainer))
        stack.enter_context(mock.patch.dict(os.environ, variables))
        stack.enter_context(mock.patch.object(multiprocessing, "get_context", return_value=context))
        stack.enter_context(mock.patch.object(utils, "Pool", ThreadPool))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        yield


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def make_models(variant: ModelVariant, folder: Path, *, iterations: int = 40) -> list[Path]:
    """Let nnU-Net make a model from data to checkpoints.

    Parameters
    ----------
    variant : ModelVariant
        What to make.
    folder : Path
        Where nnU-Net's folders go; an empty or missing one.
    iterations : int
        Iterations of the one epoch of each fold.

    Returns
    -------
    list of Path
        A trainer folder for each configuration.
    """
    write_dataset(folder / "raw", variant.orientation)
    with nnunet_in(folder, variant):
        plans = _planned(variant)
        for configuration in variant.configurations:
            for fold in variant.folds:
                trainer = _trained(variant, plans, configuration, fold, iterations=iterations)
            if configuration != variant.configurations[-1]:
                trainer.perform_actual_validation()  # writes what the next stage is trained on
    results = folder / "results" / DATASET
    return [next(results.glob(f"*__{configuration}")) for configuration in variant.configurations]


def _planned(variant: ModelVariant) -> str:
    """Take the fingerprint, plan and preprocess; return the name of the plans."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
        DatasetFingerprintExtractor,
    )

    planner = _imported(f"nnunetv2.experiment_planning.experiment_planners.{variant.planner}")
    with mock.patch.dict(os.environ, {"nnUNet_n_proc_DA": "1"}):
        extractor = DatasetFingerprintExtractor(DATASET_ID, num_processes=1)
        extractor.show_progress_bar = False
        extractor.num_foreground_voxels_for_intensitystats = 1e5
        extractor.run()
        _, plans = api.plan_experiment_dataset(
            DATASET_ID, planner, gpu_memory_target_in_gb=MEMORY_TARGET_GB
        )
        stages = sorted({"3d_fullres", *variant.configurations} - {"3d_cascade_fullres"})
        api.preprocess_dataset(
            DATASET_ID, plans, stages, num_processes=(1,), show_progress_bar=False
        )
    return str(plans)


def _trained(
    variant: ModelVariant, plans: str, configuration: str, fold: str | int, *, iterations: int
) -> Any:
    """Return nnU-Net's trainer of a fold after its only epoch; its checkpoints are written."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    seed = 0 if fold == "all" else int(fold)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 – nnU-Net draws from numpy's global generator
    with mock.patch.dict(os.environ, {"nnUNet_n_proc_DA": "0"}):
        trainer = get_trainer_from_args(
            DATASET, configuration, fold, plans_identifier=plans, device=torch.device("cpu")
        )
        trainer.num_epochs, trainer.initial_lr = 1, LEARNING_RATE
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = iterations, 2
        trainer.run_training()
    return trainer


def their_labels(variant: ModelVariant, model: Path, image: Path) -> np.ndarray:
    """Return the labels of nnU-Net's own predictor, which loads folder and image by itself.

    Returns
    -------
    ndarray of int, shape (x, y, z)
        Levels of the task; other classes are background.
    """
    with nnunet_in(model.parents[2], variant):
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(
            use_mirroring=variant.mirroring, device=torch.device("cpu"), allow_tqdm=False
        )
        predictor.initialize_from_trained_model_folder(str(model), variant.folds)
        reader = predictor.plans_manager.image_reader_writer_class()
        data, properties = reader.read_images([str(image)])
        classes = predictor.predict_single_npy_array(data, properties)
    return np.where(classes >= FIRST_LEVEL, classes, 0).T


def our_labels(
    model: Path, image: Path, engine: str, *, mirroring: bool = False
) -> tuple[np.ndarray, str]:
    """Return our raw labels, shape (x, y, z), with all tiles run, and the engine that ran."""
    options = Options(engine=engine, device="cpu", test_time_aug=mirroring)
    installed = InstalledModel(path=model, release=None, name=model.name)
    segmenter = Segmenter(TASKS["rootlets"], installed, Settings(options, tiles="all", raw=True))
    return segmenter.segment(load_image(image)).labels, segmenter.network.engine


def compare(
    variant: ModelVariant, model: Path, image: Path, engines: Sequence[str]
) -> Iterator[Row]:
    """Yield a row for each engine."""
    theirs: np.ndarray | None = None
    # The table also has a model that is not refused in a sentence, but breaks the engine.
    failure = RootletsError if variant.required else Exception
    for wanted in engines:
        try:
            ours, engine = our_labels(model, image, wanted, mirroring=variant.mirroring)
        except failure as error:
            how = "refused" if isinstance(error, RootletsError) else type(error).__name__
            yield Row(wanted, refusal=f"{how}: {str(error).splitlines()[0]}")
            continue
        theirs = their_labels(variant, model, image) if theirs is None else theirs
        labels = np.unique(theirs[theirs > 0]).size
        few = f"the reference has {labels} labels, too few to compare"
        yield Row(
            engine, ours.size, labels, int(np.count_nonzero(ours != theirs)),
            refusal=few if labels < FEWEST_LABELS else None,
        )  # fmt: skip


def write_test_image(path: Path, variant: ModelVariant, shape: Sequence[int] = IMAGE_SHAPE) -> Path:
    """Write an image that no model was trained on, in the model's orientation."""
    data, _ = synthetic_case(shape, IMAGE_MM, seed=99)
    write_image(path, data, IMAGE_MM, variant.orientation or "LPI")
    return path


def rows_of(
    variant: ModelVariant, folder: Path, engines: Sequence[str], *, iterations: int
) -> Iterator[tuple[str, Row]]:
    """Make the models of a variant and yield the rows of the table, with a name each."""
    models = make_models(variant, folder, iterations=iterations)
    image = write_test_image(folder / "image.nii.gz", variant)
    for model in models:
        stage = "" if len(models) == 1 else f", {model.name.rsplit('__', 1)[-1]}"
        for row in compare(variant, model, image, engines if variant.required else ("auto",)):
            yield variant.name + stage, row


def main() -> int:
    """Print the table and return the exit code."""
    names = [variant.name for variant in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="new folder in which the models stay")
    parser.add_argument("--model", nargs="+", choices=names, default=names)
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=list(ENGINES[1:]))
    parser.add_argument("--iterations", type=int, default=40)
    arguments = parser.parse_args()
    print("| model | nnunetv2 | trainer | folds | engine | voxels | labels | voxels that differ "
          "| in 500,000 |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for variant in [variant for variant in VARIANTS if variant.name in arguments.model]:
            folder = (arguments.out or Path(scratch)) / variant.name.replace(" ", "_")
            options = {"iterations": arguments.iterations}
            for name, row in rows_of(variant, folder, arguments.engine, **options):
                _print_row(name, variant, row)
                failed |= variant.required and not row.equal
    return int(failed)


def _print_row(name: str, variant: ModelVariant, row: Row) -> None:
    trainer = variant.trainer.rsplit(".", 1)[-1]
    folds = ", ".join(map(str, variant.folds))
    found = f"{row.voxels} | {row.labels} | {row.differing} | {row.of_500_000:.1f}"
    if row.refusal is not None:
        found = "| | " + row.refusal.replace("|", "/") + " |"
    print(f"| {name} | {version('nnunetv2')} | {trainer} | {folds} | {row.engine} | {found} |",
          flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
