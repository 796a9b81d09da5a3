"""Make damaged and hostile plans and dataset files from a seed; each ends in a sentence.

The tests run a few hundred. For more::

    python tests/fuzz_plans.py --count 20000 --seed 7
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import saved
import small_model
import tiny_model
from fuzzing import run

NAMES = (
    *("torch.nn.modules.module.torch.os.system", "torch.hub.load", "os.system", "builtins.eval"),
    *("torch.nn.Sequential", "torch.nn.modules.linear.Linear", "torch.nn.BatchNorm3d", "shutil"),
    *("dynamic_network_architectures.architectures.unet.torch.hub.load", "torch.nn.LeakyReLU"),
    *("dynamic_network_architectures.architectures.unet.ResidualEncoderUNet", "LabelManager"),
    *("resample_torch_simple", "no_resampling_hack", "CTNormalization", "3d_lowres", "2d"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 255, 256, 10**9, 10**17, 0.5, -0.0, 1e308, 1e-300),
    *("", "x", "3", "\u202e", "\x1b[2J", "\ud800", "x" * 10_000, "../../etc/passwd"),
    *([], {}, [[]], [None], [[1, 1, 1]], [1, 2, 3], [3, 3, 3, 3], [[3] * 3] * 1000, {"a": {}}),
    *([0, 0, 0], [1, 1, 1], [2, 1, 0], [0, 1, 1], [1e9] * 3, [10**6] * 3, [True, True, True]),
    *({"background": 0, "a": 1, "b": 1}, {"background": 0, "a": 300}, {"background": 0.0}),
    *NAMES,
)
TEXTS = (
    b"[" * 100_000, b'{"a":' * 100_000, b"", b"\0", b"null", b"[]", b"\xff\xfe", b"NaN",
    b'{"labels": NaN}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 1e999}', b"{" * 10, b'{"a": 1}' * 2,
    b" " * (2**23 + 1), b'{"a": "\\ud800"}', b'{"a": -Infinity}', b'{"a": 0x10}',
)  # fmt: skip

Files = dict[str, bytes]


def genuine() -> list[dict[str, Any]]:
    """Return the content of the files of models, in the new and the old format."""
    old = small_model.plans()
    old["configurations"] = tiny_model.plans(old_format=True)["configurations"]
    scaled = small_model.plans()
    scaled["configurations"]["3d_fullres"]["normalization_schemes"] = ["CTNormalization"]
    names = ("mean", "std", "percentile_00_5", "percentile_99_5")
    scaled["foreground_intensity_properties_per_channel"] = {"0": dict.fromkeys(names, 1.0)}
    extra = {"image_orientation": "RPI", "overwrite_image_reader_writer": "SimpleITKIO"}
    described = {**small_model.dataset({**small_model.LABELS, "ignore": 4}), **extra}
    return [
        {"plans.json": plans, "dataset.json": described}
        for plans in (small_model.plans(), old, scaled)
    ]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of each value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*path, key))


def _changed(rng: random.Random, content: dict[str, Any]) -> dict[str, Any]:
    """Change some values."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        *parents, key = rng.choice(list(_places(content)))
        inner: Any = content
        for parent in parents:
            inner = inner[parent]
        kind = rng.randrange(8)
        if kind == 0:
            del inner[key]
        elif kind == 1 and isinstance(inner[key], int | float):
            inner[key] = inner[key] * rng.choice((-1, 2, 0.5, 1000, 10**12))
        elif kind == 2 and isinstance(inner[key], list):
            inner[key] = inner[key][1:] if rng.random() < 0.5 else inner[key] + inner[key]
        elif kind == 3 and isinstance(inner, dict):
            inner[rng.choice((*NAMES, "extra", "ignore"))] = rng.choice(VALUES)
        else:
            inner[key] = copy.deepcopy(rng.choice(VALUES))
    return content


def _text(rng: random.Random, content: Any) -> bytes:
    """Change the text of a file."""
    if rng.random() < 0.3:
        return rng.choice(TEXTS)
    text = bytearray(json.dumps(content).encode())
    for _ in range(rng.choice((1, 3))):
        at = rng.randrange(len(text))
        text[at : at + rng.randrange(3)] = rng.choice(
            (b"[", b"}", b'"', b"-", b"9", b"\xff", b"e9")
        )
    return bytes(text)


def cases(seed: int, count: int) -> Iterator[tuple[str, Files]]:
    """Give names and files of damaged models, the same for the same seed."""
    models = genuine()
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        content = copy.deepcopy(rng.choice(models))
        file = rng.choice(("plans.json", "plans.json", "dataset.json"))
        by_text = rng.random() < 0.15
        if not by_text:
            content[file] = _changed(rng, content[file])
        files = {name: json.dumps(value).encode() for name, value in content.items()}
        if by_text:
            files[file] = _text(rng, content[file])
        yield f"{file} {number}", files


def load(files: Files, folder: Path) -> None:
    """Load a model as far as that goes without torch."""
    from sct_rootlets_task.inference.loading import choose_engine
    from sct_rootlets_task.inference.model_folder import read_model_folder
    from sct_rootlets_task.inference.openvino_engine import read_weights

    for name, content in files.items():
        (folder / name).write_bytes(content)
    model = read_model_folder(folder)
    choose_engine(model, "auto", "cpu")
    assert len(read_weights(model)[0].arrays) == 28, "weights are lost"
    assert sorted(model.classes.values()) == list(range(4)), "classes do not fit"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as parent:
        folder = small_model.write(Path(parent))
        saved.save(small_model.checkpoint(), folder / "fold_0" / "checkpoint_final.pth")
        for content in genuine():
            load({name: json.dumps(value).encode() for name, value in content.items()}, folder)
        made = cases(arguments.seed, arguments.count)
        return run(made, lambda files: load(files, folder))


if __name__ == "__main__":
    raise SystemExit(main())
