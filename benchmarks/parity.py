"""Compare our raw labels with SCT's recipe on stock nnU-Net.

    python -m benchmarks.parity IMAGE [IMAGE …] [--model FOLDER …] [--engine ENGINE …] [--crop]

Each image is tried as it is, in two other orientations, and with its slices merged three by three
(anisotropic). The models are the built-in starter (its one class, before levels are assigned) and
any nnU-Net model folders given. `--crop` keeps the middle 96 voxels of each axis, to be quick.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from benchmarks.reference import reference_classes, stock_predictor
from sct_rootlets_task.inference.loading import ENGINES, Options, load_network
from sct_rootlets_task.inference.model_folder import read_model_folder
from sct_rootlets_task.io.images import load_image
from sct_rootlets_task.io.orientation import Reorientation
from sct_rootlets_task.tasks import BUNDLED


def variants(image: Any, *, crop: bool) -> Iterator[tuple[str, Any]]:
    """Yield the image in several orientations and one anisotropic grid, with a name each."""
    if crop:
        starts = [max(0, (size - 96) // 2) for size in image.shape[:3]]
        image = image.slicer[tuple(slice(start, start + 96) for start in starts)]
    yield "as it is", image
    for codes in ("RAS", "LSP"):
        there = nib.orientations.ornt_transform(
            nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
        )
        yield f"axes to {codes}", image.as_reoriented(there)
    data = np.asarray(image.dataobj, dtype=np.float32)
    thick = data[: len(data) // 3 * 3].reshape(-1, 3, *data.shape[1:]).mean(axis=1)
    affine = image.affine @ np.diag([3, 1, 1, 1])
    affine[:3, 3] += image.affine[:3, 0]
    yield "every 3 slices merged", nib.Nifti1Image(thick, affine)


def our_classes(folder: Path, path: Path, engine: str) -> np.ndarray:
    """Return our class of each voxel on the image's grid, all tiles run."""
    image, model = load_image(path), read_model_folder(folder)
    way = Reorientation.to_sct(image.affine, model.orientation or "LPI")
    volume = np.ascontiguousarray(way.forward(image.data).transpose(2, 1, 0))
    network = load_network(model, Options(engine=engine, device="cpu"))
    classes = network.predict(volume, way.forward_spacing(image.spacing)[::-1])
    return way.backward(classes.transpose(2, 1, 0))


def lowest_dice(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Return the Dice coefficient of the class that agrees least (1 when there is none)."""
    labels = [label for label in np.union1d(ours, theirs) if label]
    both = [2 * np.sum((ours == k) & (theirs == k)) for k in labels]
    sizes = [np.sum(ours == k) + np.sum(theirs == k) for k in labels]
    return min((b / s for b, s in zip(both, sizes, strict=True)), default=1.0)


def compare(folder: Path, image: Any, engines: list[str]) -> Iterator[tuple[str, float, float]]:
    """Yield each engine's share of equal voxels and lowest Dice on one image."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "image.nii"
        nib.save(image, path)
        reference = reference_classes(stock_predictor(folder), nib.load(path))
        for engine in engines:
            labels = our_classes(folder, path, engine)
            yield engine, float(np.mean(labels == reference)), lowest_dice(labels, reference)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", nargs="*", type=Path, default=[])
    parser.add_argument("--engine", nargs="+", choices=ENGINES[1:], default=["openvino", "nnunet"])
    parser.add_argument("--crop", action="store_true")
    arguments = parser.parse_args()
    starter = next((BUNDLED / "starter").glob("nnUNetTrainer*"))
    folders = [starter, *(next(f.glob("nnUNetTrainer*"), f) for f in arguments.model)]
    print("| model | folds | image | grid | engine | equal voxels | lowest Dice | s |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in folders:
        folds = len(list(folder.glob("fold_*")))
        for path in arguments.images:
            for name, image in variants(nib.load(path), crop=arguments.crop):
                start = time.perf_counter()
                for engine, equal, dice in compare(folder, image, arguments.engine):
                    seconds = time.perf_counter() - start
                    print(
                        f"| {folder.parent.name} | {folds} | {path.name} | {name} | {engine} "
                        f"| {equal:.4%} | {dice:.5f} | {seconds:.0f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
