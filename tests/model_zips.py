"""Tiny zip archives that look like released nnU-Net models, and a task that runs them.

The weights are random ones of a network of two stages: enough to be built, which an installation
does. A text beside them tells models apart.
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import saved
import small_model
import tiny_model
from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.levels.sources import ByName
from sct_rootlets_task.tasks import Release, Task

TRAINER = "nnUNetTrainer_2000epochs__nnUNetPlans__3d_fullres"
LAYOUTS = {"trainer": f"{TRAINER}/", "wrapped": f"Dataset037_x/{TRAINER}/", "bare": ""}
LAYOUTS["bare in a wrapper"] = "model_M5/"


LABELS = {"background": 0, "lvl2": 1}


def small_plans() -> dict[str, Any]:
    """Return plans of the smallest network that is built here."""
    plans = tiny_model.plans(patch=(4, 4, 4))
    network = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network |= {"n_stages": 2, "features_per_stage": [2, 2], "kernel_sizes": [[3, 3, 3]] * 2}
    network |= {"strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1]}
    network["n_conv_per_stage_decoder"] = [1]
    return {**plans, "dataset_name": "Dataset037_x"}


@cache
def checkpoint(text: str, classes: int) -> bytes:
    """Return a checkpoint of the network of :func:`small_plans`, with a text of one's own."""
    configuration = small_plans()["configurations"]["3d_fullres"]
    content = small_model.checkpoint(
        network_weights=small_model.weights(configuration, classes),
        trainer_name=TRAINER.split("__")[0],
        init_args={"configuration": "3d_fullres"},
        told_apart=text,
    )
    return saved.packed(saved.members(content))


def model_files(
    weights: str = "weights",
    folds: Sequence[str] = ("fold_all",),
    labels: Mapping[str, int] = LABELS,
    **plans: object,
) -> dict[str, bytes]:
    """Return the files of a trainer folder by relative path; `weights` tells models apart."""
    dataset = {"channel_names": {"0": "MRI"}, "labels": dict(labels)}
    files = {
        "plans.json": json.dumps({**small_plans(), **plans}).encode(),
        "dataset.json": json.dumps(dataset).encode(),
    }
    classes = len(labels) - ("ignore" in labels)
    return files | {
        f"{fold}/checkpoint_final.pth": checkpoint(f"{weights} {fold}", classes) for fold in folds
    }


def pack(members: Mapping[str, bytes] | Iterable[tuple[str | zipfile.ZipInfo, bytes]]) -> bytes:
    """Return a zip archive of the given members, which may be as wicked as you like."""
    buffer = io.BytesIO()
    pairs = members.items() if isinstance(members, Mapping) else members
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in pairs:
            # A ZipInfo has a fixed date, so that equal members make equal archives.
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def model_zip(
    weights: str = "weights",
    layout: str = "trainer",
    extra: Mapping[str, bytes] | None = None,
    labels: Mapping[str, int] = LABELS,
) -> bytes:
    """Return a good archive in one of the layouts, with further members beside the model."""
    prefix, files = LAYOUTS[layout], model_files(weights, labels=labels)
    members = {f"{prefix}{name}": data for name, data in files.items()}
    return pack(members | dict(extra or {}))


def write_zip(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_model(folder: Path, weights: str = "weights") -> Path:
    """Write a model folder as if by hand and return its trainer folder."""
    for name, data in model_files(weights).items():
        target = folder / TRAINER / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder / TRAINER


@contextlib.contextmanager
def deep_folder(parent: Path, depth: int) -> Iterator[Path]:
    """Make folders in folders, too deep for one path, and remove them if nobody else has."""
    top, spare = parent / "deep", parent / "spare"
    top.mkdir(parents=True)
    for _ in range(depth):
        spare.mkdir()
        top.rename(spare / "d")
        spare.rename(top)
    try:
        yield top
    finally:
        while top.exists():
            if (top / "d").exists():
                (top / "d").rename(spare)
            top.rmdir()
            if spare.exists():
                spare.rename(top)


def make_release(tag: str, *urls: str, sha256: str | None = None) -> Release:
    """Return a release whose mirrors may be anything, a loopback server's http:// included."""
    release = Release(tag, f"Test release {tag}.", ("https://models.invalid/m.zip",), sha256=sha256)
    if urls:
        # The registry admits https:// only, and the test server has no certificate.
        object.__setattr__(release, "urls", urls)
    return release


def make_task(*releases: Release, fallback: Release | None = None) -> Task:
    """Return a task of the given releases, the first being its default."""
    return Task(
        name="fake",
        description="A task for tests",
        long_description="A task for tests.",
        url="https://models.invalid",
        model_name="model_fake",
        releases=releases + ((fallback,) if fallback else ()),
        default=releases[0].tag,
        contrasts=("t2",),
        level_source=ByName(),
        levels=tuple(range(2, 10)),
        fallback=fallback.tag if fallback else None,
    )


def weights_of(trainer: Path) -> str:
    """Return what :func:`model_files` was told to write as weights."""
    content = Checkpoint(trainer / "fold_all" / "checkpoint_final.pth").read(("told_apart",))
    return str(content["told_apart"]).rsplit(" ", 1)[0]
