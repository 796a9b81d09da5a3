"""The Boutiques descriptor of the BIDS App, made from the options of the command.

python -m tools.boutiques          # writes container/boutiques.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sct_rootlets_task.cli.arguments import path_argument
from sct_rootlets_task.cli.bids_options import add_options
from sct_rootlets_task.environment import VERSION

FILE = Path(__file__).parents[1] / "container" / "boutiques.json"
IMAGE = "sct_rootlets"
"""Name of the container image that ``container/Dockerfile`` is built as."""

_LEFT_OUT = ("help", "version")
_FOLDERS = ("bids_dir",)
_NEW = ("out_dir", "work_dir")
"""Paths that the command makes: to Boutiques they are names, since they need not exist."""


def descriptor() -> dict[str, Any]:
    """Return the descriptor as plain values."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    inputs = list(_inputs(parser))
    keys = " ".join(one["value-key"] for one in inputs)
    return {
        "name": "sct_rootlets bids",
        "description": (
            "Segments spinal nerve rootlets on T2w and MP2RAGE images of a BIDS data set, and "
            "measures spinal levels."
        ),
        "author": "The sct-rootlets-task developers",
        "tool-version": VERSION,
        "schema-version": "0.5",
        "command-line": f"sct_rootlets bids {keys}",
        "container-image": {"type": "docker", "image": IMAGE, "entrypoint": False},
        "inputs": inputs,
        "output-files": [
            {
                "id": "results",
                "name": "Folder of the results",
                "path-template": "[OUT_DIR]",
                "optional": False,
            },
            {
                "id": "failures",
                "name": "Images that failed",
                "path-template": "[OUT_DIR]/failures.tsv",
                "optional": True,
            },
        ],
        "error-codes": [
            {"code": 1, "description": "An image failed; failures.tsv in OUT_DIR says why."},
            {"code": 2, "description": "The command was put together wrongly; nothing was run."},
        ],
        "tags": {"domain": ["neuroinformatics", "mri"], "standard": ["bids"]},
    }


def _inputs(parser: argparse.ArgumentParser) -> Iterator[dict[str, Any]]:
    for action in parser._actions:
        if action.dest in _LEFT_OUT or action.help == argparse.SUPPRESS:
            continue
        yield _input(action)


def _input(action: argparse.Action) -> dict[str, Any]:
    """Return one argument as Boutiques has it."""
    flag = next((name for name in action.option_strings if name.startswith("--")), None)
    is_switch = action.nargs == 0
    found: dict[str, Any] = {
        "id": (flag or action.dest).strip("-").replace("-", "_"),
        "name": (flag or action.dest).strip("-").replace("-", " ").replace("_", " "),
        "description": action.help or "",
        "value-key": f"[{(flag or action.dest).strip('-').replace('-', '_').upper()}]",
        "type": "Flag" if is_switch else _type(action),
        "optional": bool(flag),
    }
    if flag:
        found["command-line-flag"] = flag
    if action.nargs == "+":
        found["list"] = True
        found["min-list-entries"] = 1
    if action.choices is not None and not is_switch:
        found["value-choices"] = list(map(str, action.choices))
    return found


def _type(action: argparse.Action) -> str:
    """Return the kind of a value; the number of a part, ``K/N``, is a text."""
    if action.dest in _FOLDERS:
        return "File"
    if action.type is path_argument and action.dest not in _NEW:
        return "File"
    is_number = callable(action.type) and "whole_number" in getattr(action.type, "__qualname__", "")
    return "Number" if is_number else "String"


def text() -> str:
    """Return the descriptor as the text of its file."""
    return json.dumps(descriptor(), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the descriptor."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
