"""Write a model folder whose weights are the mean of those of others.

    python -m training.average {locator,starter} OUT FOLDER FOLDER …

Weights before and after a further training lie close together. On images unlike those of the
training, their mean is often better than either (Wortsman et al. 2022, arXiv:2203.05482).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.trainer import build_network, load_weights, write_folder


def average(model: str, folders: Sequence[Path], out: Path) -> Path:
    """Write the mean of the weights of model folders and return its folder."""
    import torch

    networks = [build_network(model) for _ in folders]
    for network, folder in zip(networks, folders, strict=True):
        load_weights(network, folder)
    states = [network.state_dict() for network in networks]
    mean = {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}
    networks[0].load_state_dict(mean)
    return write_folder(networks[0], model, out)


def main() -> None:
    """Average and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("locator", "starter"))
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    print(average(arguments.model, arguments.folders, arguments.out))


if __name__ == "__main__":
    main()
