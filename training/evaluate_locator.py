"""Print how well a locator places the levels.

    python -m training.evaluate_locator --data ../shared/data [--model FOLDER …]

For every world of known levels: the mean and the 95th percentile of the level error over the voxels
of the canal C2–T1 that were found, and the share found. The synthetic worlds have seeds that
training never uses; the real subjects are those of the training, so their figures prove no more
than fitting. For the real images: the distances between the middles of neighbouring levels. For
other images: voxels given a level.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np

from sct_rootlets_task.network.loading import Network, Options, load_network
from sct_rootlets_task.network.model_folder import read_model_folder
from sct_rootlets_task.tasks import BUNDLED
from training.worlds import VOXEL_MM, World, pam50, real, synthetic

LEVELS = range(2, 10)


def level_errors(network: Network, world: World) -> tuple[np.ndarray, float]:
    """Return the level errors of the canal voxels found, and the share found."""
    classes = network.predict(world.image, (VOXEL_MM,) * 3)
    canal = np.isin(world.classes, LEVELS)
    found = canal & (classes > 0)
    errors = np.abs(classes[found].astype(int) - world.classes[found].astype(int))
    return errors, float(found.sum() / canal.sum())


def predict(network: Network, path: Path) -> tuple[np.ndarray, float]:
    """Return the classes (z, y, x) of an image file, and its voxel size along z in mm."""
    image = nib.as_closest_canonical(nib.load(path))
    volume = np.asarray(image.dataobj).transpose(2, 1, 0).astype(np.float32)
    zooms = image.header.get_zooms()[2::-1]
    return network.predict(volume, [float(zoom) for zoom in zooms]), float(zooms[0])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, nargs="*", default=[BUNDLED / "locator"])
    arguments = parser.parse_args()
    worlds = {"PAM50": pam50(arguments.data)}
    worlds |= {s: real(arguments.data, s) for s in ("errsm11", "errsm18", "errsm24")}
    worlds |= {f"synthetic {seed}": synthetic(seed) for seed in range(3)}
    for model in arguments.model:
        folder = read_model_folder(next(model.glob("nnUNetTrainer*")))
        network = load_network(folder, Options(engine="openvino", device="cpu"))
        print(f"\n{model}\n| image | level error: mean | 95 % | canal found |\n|---|---|---|---|")
        for name, world in worlds.items():
            errors, found = level_errors(network, world)
            figures = "– | –"
            if errors.size:
                figures = f"{errors.mean():.2f} | {np.percentile(errors, 95):.0f}"
            print(f"| {name} | {figures} | {found:.0%} |")
        for path in sorted(arguments.data.glob("t2w/*_T2w.nii.gz")):
            classes, size = predict(network, path)
            middles = {
                level: float(np.median(np.argwhere(classes == level)[:, 0]) * size)
                for level in LEVELS
                if (classes == level).any()
            }
            gaps = [round(upper - lower) for upper, lower in pairwise(middles.values())]
            print(f"{path.name}: levels {list(middles)}, middles apart by {gaps} mm")
        for path in sorted(arguments.data.glob("other/*.nii.gz")):
            classes, _ = predict(network, path)
            print(f"{path.name}: {int(np.isin(classes, LEVELS).sum())} voxels with a level")


if __name__ == "__main__":
    main()
