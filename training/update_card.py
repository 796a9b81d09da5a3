"""Put the figures of an evaluation, and the checksums of the built-in weights, into the card.

    python -m training.update_card RESULTS.json [--card model_card.json]

RESULTS is what ``python -m training.evaluate --out`` wrote for the weights in the package. Only the
starter's figures and its networks' sizes and checksums change; its texts are written by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sct_rootlets_task.inference.checkpoint import Checkpoint
from sct_rootlets_task.tasks import BUNDLED

SOURCE = "own_evaluation"
SYNTHETIC = (
    "synthetic images made around PAM50 and three real necks, of seeds that training never used; "
    "the anatomies are those of the training"
)
REAL = "T2w scan, 1 mm isotropic, of a healthy adult; used for training, its rootlets never labeled"
TIES = {
    "points": "true levels by the given points of the vertebrae C2 and T2",
    "discs": "true levels by the discs, marked by eye",
}
LEFT_OUT = {
    "left-out level error": "level error of the locator, mean",
    "along the cord": "level error along the cord, mean",
}
OF_CASES = (
    "binary Dice",
    "found within a voxel",
    "true within a voxel",
    "macro Dice",
    "right level",
    "cases with wrong levels",
    "of these without a warning",
    "cases with a warning",
    "level error, mean",
    "along the cord, mean",
    "along the cord, 95 %",
    "canal found",
    "level error of a part, mean",
    "canal of a part found",
)
"""Columns of the synthetic cases' table that the card has."""
Entry = dict[str, Any]


def figures(results: dict[str, list[Entry]]) -> Iterator[Entry]:
    """Yield the card's entries of an evaluation."""
    for row in results.get("synthetic", ()):
        group = f"{row['family']}, {row['cases']} cases"
        for name in OF_CASES:
            unit = "level" if "error" in name or "along" in name else ""
            metric = name.replace("along the cord", "level error along the cord")
            yield _figure(metric, row[name], unit, group, SYNTHETIC)
    for row in results.get("template", ()):
        data = "PAM50 T2 average at 1 × 1 × 2 mm, whose full-size labels were used for training"
        yield _figure("Dice", row["Dice"], "", row["level"], data)
        if row["level"] == "mean":
            yield _figure("midpoint error", row["midpoint error mm"], "mm", "mean", data)
    for row in results.get("real", ()):
        group = f"sub-{row['image']}, levels {row['levels']}"
        gaps = [float(gap) for gap in row["midpoints apart mm"].split()]
        yield _figure("distances of neighboring midpoints", gaps, "mm", group, REAL)
        for tie, how in TIES.items():
            if f"left-out level error, by {tie}" not in row:
                continue
            data = f"T2w scan of a healthy adult, by a locator trained without this subject; {how}"
            for name in ("left-out level error", "along the cord"):
                metric = LEFT_OUT[name]
                yield _figure(metric, row[f"{name}, by {tie}"], "level", group, data)
            yield _figure("canal found", row["canal found"], "", group, data)
    for row in results.get("elsewhere", ()):
        data = "image without, or with few, of the levels"
        yield _figure("rootlet voxels", row["rootlet voxels"], "voxels", row["image"], data)
    for row in results.get("robustness", ()):
        data = f"{REAL} (sub-errsm24)"
        yield _figure("midpoints move, at most", row["most mm"], "mm", row["change"], data)
    for row in results.get("ends", ()):
        if row["past the end the image"] == "goes on":
            data = f"{REAL} (three), within 4 mm of where they are cut off, against the whole scans"
            yield _figure("Dice", row["Dice with the whole scan"], "", row["kept"], data)


def _figure(metric: str, value: Any, unit: str, group: str, data: str) -> Entry:
    rounded = value if isinstance(value, list) or value is None else round(value, 3)
    return {
        "metric": metric,
        "value": rounded,
        "unit": unit,
        "group": group,
        "data": data,
        "source": SOURCE,
    }


def weights_of(model: str) -> Entry:
    """Return the number and the SHA-256 of a built-in network's weights."""
    path = next((BUNDLED / model).glob("nnUNetTrainer*/fold_all/checkpoint_final.pth"))
    weights = Checkpoint(path).read()["network_weights"]
    # nnU-Net's networks hold the same layers under several names.
    own = [n for n in weights if "all_modules" not in n and not n.startswith("decoder.encoder")]
    millions = sum(weights[name].size for name in own) / 1e6
    return {
        "parameters_millions": {"value": round(millions, 1)},
        "weights_sha256": {"value": hashlib.sha256(path.read_bytes()).hexdigest()},
    }


def main() -> None:
    """Rewrite the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--card", type=Path, default=Path("model_card.json"))
    arguments = parser.parse_args()
    card = json.loads(arguments.card.read_text(encoding="utf-8"))
    model = next(model for model in card["models"] if model["tag"] == "starter")
    found = [
        f for f in figures(json.loads(arguments.results.read_text())) if f["value"] is not None
    ]
    model["evaluation"] = [figure for figure in found if figure["value"] != []]
    for network in model["networks"]:
        network.update(weights_of(network["name"]))
    text = json.dumps(card, indent=2, ensure_ascii=False)
    arguments.card.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
