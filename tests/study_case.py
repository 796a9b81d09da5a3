"""One small image of a study, its files, and a model that needs no time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fake_network import Loader
from model_zips import write_model
from sct_rootlets_task.models.resolve import InstalledModel
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.study.item import Item
from sct_rootlets_task.study.options import Processing, Study
from sct_rootlets_task.study.outcome import Outcome
from sct_rootlets_task.study.plan import Assessment, look
from sct_rootlets_task.study.recipe import Recipe, recipe_of
from sct_rootlets_task.study.worker import Worker
from tools.phantom import Phantom, make_phantom, typical_bundles

NAME = "sub-01_space-orig_seg-rootlets"
BACKGROUND = 100


@cache
def phantom() -> Phantom:
    """Return levels C3 to C6 around a cord, in voxels of 1.5 mm."""
    return make_phantom(typical_bundles(range(3, 7)), voxel_mm=(1.5, 1.5, 1.5))


def write_map(path: Path, data: np.ndarray) -> Path:
    """Write an array on the grid of the phantom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, phantom().affine), path)
    return path


def write_scan(path: Path, seed: int = 0) -> Path:
    """Write an image whose intensities are levels, as :class:`FakeNetwork` takes them."""
    noise = np.random.default_rng(seed).integers(0, 50, phantom().labels.shape)
    labels = phantom().labels
    return write_map(path, np.where(labels > 0, labels, BACKGROUND + noise).astype(np.int16))


def write_levels_model(folder: Path) -> Path:
    """Write a model folder of the classes lvl1 … lvl9."""
    folder = write_model(folder)
    labels = {"background": 0, **{f"lvl{i}": i for i in range(1, 10)}}
    dataset = {"labels": labels, "channel_names": {"0": "MRI"}, "image_orientation": "RPI"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def checksums(folder: Path, *patterns: str) -> dict[str, str]:
    """Return the checksums of the files below a folder, without records, QC and work."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in patterns or ("sub-*/**/*",)
        for path in sorted(folder.glob(pattern))
        if path.is_file() and not path.name.endswith("_record.json")
    }


@dataclass
class Case:
    """A study of one image, worked on by workers that start anew each time."""

    root: Path
    landmarks: Mapping[str, Path] = field(default_factory=dict)
    corrected: Path | None = None
    study: dict[str, Any] = field(default_factory=dict)
    loader: Loader = field(default_factory=Loader)
    model: Path = Path()

    def __post_init__(self) -> None:
        write_scan(self.image)
        self.model = write_levels_model(self.root / "model")

    @property
    def image(self) -> Path:
        return self.root / "raw" / "sub-01" / "anat" / "sub-01_T2w.nii.gz"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def item(self) -> Item:
        output = self.out / "sub-01" / "anat" / f"{NAME}_dseg.nii.gz"
        work = self.out / "work" / "sub-01" / NAME
        source = self.image.relative_to(self.root / "raw").as_posix()
        return Item(
            *(self.image, source, "T2w", "sub-01", "", output, work),
            landmarks=self.landmarks,
            corrected=self.corrected,
        )

    def recipe(self, **processing: Any) -> Recipe:
        asked = Processing(**{"qc": False, **processing})
        study = Study(self.root / "raw", self.out, self.out / "work", processing=asked)
        model = InstalledModel(self.model, None, "own", custom=True)
        study = replace(study, **self.study)
        return recipe_of(study, TASKS["rootlets"], model, load=self.loader)

    def look(self, **processing: Any) -> Assessment:
        """Return what a driver would see."""
        return look(self.item, self.recipe(**processing))

    def run(self, **processing: Any) -> Outcome:
        """Let a new worker work on the image."""
        return Worker(self.recipe(**processing))(self.item)

    def ran(self, **processing: Any) -> tuple[str, ...]:
        """Return the stages that a run had to do; all has to go well."""
        outcome = self.run(**processing)
        assert outcome.status in ("done", "unchanged"), outcome
        return tuple(outcome.details["stages"])

    @property
    def predictions(self) -> int:
        """How often a network was run."""
        return sum(len(network.seen) for network in self.loader.networks)

    @property
    def record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.item.record.read_text())
        return content

    def results(self) -> dict[str, str]:
        return checksums(self.out)
