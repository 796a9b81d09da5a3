"""Write a starter or locator of more features that computes what a narrower one does.

    python -m training.widen {starter,locator} OUT FOLDER [--seed N]

The features are those of the built-in plans; FOLDER holds weights of fewer. New features begin with
the random weights of a new network. The layers that follow have zero weights for them, so the
logits stay the same, and a training can go on from there (Net2Net, Chen et al. 2016,
arXiv:1511.05641).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sct_rootlets_task.inference.checkpoint import Checkpoint
from training.trainer import CHECKPOINT, build_network, write_folder


def widened(narrow: Mapping[str, np.ndarray], wide: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the weights of a wide network with those of a narrow one in it.

    Parameters
    ----------
    narrow : mapping of str to ndarray of float32
        Weights by their names in a checkpoint.
    wide : mapping of str to ndarray of float32
        Weights of an untrained network of the same shape but with more features.

    Returns
    -------
    dict of str to ndarray of float32

    Raises
    ------
    ValueError
        If the other network is narrower somewhere.
    """
    result = {}
    for name, untrained in wide.items():
        old, new = np.asarray(narrow[name], np.float32), np.array(untrained, np.float32)
        if any(have > room for have, room in zip(old.shape, new.shape, strict=True)):
            raise ValueError(
                f"Expected {name} to be at most of the shape {new.shape}, found {old.shape}. Give "
                "the wide network at least as many features in each stage."
            )
        if old.ndim == 1:  # bias, or scale and shift of a normalization
            new[: len(old)] = old
            result[name] = new
            continue
        # Transposed convolutions have the inputs first.
        swapped = "transpconvs" in name
        if swapped:
            old, new = old.swapaxes(0, 1), new.swapaxes(0, 1)
        rows = slice(0, len(old))
        new[rows] = 0
        for there, here in _inputs(name, old.shape[1], new.shape[1]):
            new[rows, here] = old[:, there]
        result[name] = new.swapaxes(0, 1) if swapped else new
    return result


def _inputs(name: str, old: int, new: int) -> Sequence[tuple[slice, slice]]:
    """Return where the inputs of a convolution lie, in the narrow and in the wide network.

    The first one of a decoder stage has two halves, what comes from below and what is skipped over.
    """
    if "decoder.stages" in name and ".convs.0." in name:
        return [
            (slice(0, old // 2), slice(0, old // 2)),
            (slice(old // 2, old), slice(new // 2, new // 2 + old // 2)),
        ]
    return [(slice(0, old), slice(0, old))]


def widen(model: str, folder: Path, out: Path, seed: int = 0) -> Path:
    """Write the folder of a wide model with the weights of a narrow one, and return it.

    Parameters
    ----------
    model : {"locator", "starter"}
        Its built-in plans name the features.
    folder : Path
        Model folder of the narrow network.
    out : Path
    seed : int, default 0
        Of the new features.
    """
    import torch

    torch.manual_seed(seed)
    network = build_network(model)
    narrow = Checkpoint(next(folder.glob(f"**/{CHECKPOINT}"))).read()["network_weights"]
    wide = {name: value.numpy() for name, value in network.state_dict().items()}
    weights = {name: torch.from_numpy(v) for name, v in widened(narrow, wide).items()}
    network.load_state_dict(weights)
    return write_folder(network, model, out)


def main() -> None:
    """Widen and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("locator", "starter"))
    parser.add_argument("out", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(widen(arguments.model, arguments.folder, arguments.out, arguments.seed))


if __name__ == "__main__":
    main()
