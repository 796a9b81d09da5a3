"""The rooms of the package, from the ground up: the one table of what may import what.

``tests/test_architecture.py`` holds the code against it, and ``docs/architecture.md`` shows it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "sct_rootlets_task"

ROOMS: Mapping[str, str] = {
    "errors": "Every error raised on purpose, with its exit code.",
    "environment": "The environment variables that are read.",
    "runtime": "Threads and memory.",
    "level_names": "Numbers, names and colors of spinal levels.",
    "io": "Reading and checking images, orientation, safe writing, names, paths, viewer tables.",
    "rootlets": "What a level map is made of, and its post-processing level by level.",
    "inference": "From a model folder and a volume to a class for each voxel.",
    "levels": "How levels are decided: sources, canal, landmarks, corrections, anatomical priors.",
    "tasks": "What a task and a release are, and their checks.",
    "registry": "The entries. A new task adds one here, and touches nothing else.",
    "models": "The life of a model on this machine.",
    "analysis": "One module for each thing one can ask of a level map.",
    "qc": "Pages and pictures.",
    "segmentation": "From an image to a level map and what is written beside it.",
    "study": "From one image to a data set: plan, records, workers, cohort.",
    "api": "The functions for Python. Every command calls them.",
    "sct_plugin": "The tasks inside a real SCT.",
    "cli": "The two command lines.",
}
"""Rooms of the package, from the lowest to the highest, with what is in each.

A room is a package or a module. It imports from lower rooms only.
"""


def modules() -> dict[str, Path]:
    """Return the package's modules (dotted names below the package) and their files."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return dict(sorted(names.items()))


def room(module: str) -> str:
    """Return the room of a module."""
    return module.partition(".")[0]


def imports(path: Path) -> set[str]:
    """Return the package's modules that a file imports, wherever in it."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in inside if name.partition(".")[2] in known} or {node.module}
    own = {name for name in found if name.partition(".")[0] == PACKAGE.name}
    return {name.partition(".")[2] for name in own}


def to_markdown() -> str:
    """Return the rooms as a table, the highest first, each module with what its docstring says."""
    rows = ["| Room | What is in it | Modules |", "| --- | --- | --- |"]
    for name, says in reversed(list(ROOMS.items())):
        inside = ", ".join(f"`{module}`" for module in _inside(name))
        rows.append(f"| `{name}` | {says} | {inside} |")
    return "\n".join(rows) + "\n"


def _inside(name: str) -> Iterator[str]:
    return (
        module.removeprefix(f"{name}.") for module in modules() if module.startswith(f"{name}.")
    )
