"""Dependencies inside the package point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sct_rootlets_task

PACKAGE = Path(sct_rootlets_task.__file__).parent
LAYERS: tuple[tuple[str, ...], ...] = (
    ("", "errors", "environment", "short_repr", "untrusted"),
    ("locks",),
    (
        "console",
        "progress",
        "runtime",
        "levels",
        "files",
        "label_values",
        "orientation",
        "paths",
        "voxels",
        "network",
        "qc",
    ),
    ("network.failures",),
    ("network.fields", "network.openvino_import", "network.pickled", "network.torch_zip"),
    (
        "network.architecture",
        "network.checkpoint",
        "network.compiled",
        "network.resampling",
        "network.tiles",
        "network.winograd",
    ),
    ("nifti", "physical_size", "network.plans"),
    ("images", "padding", "postprocess"),
    ("arguments", "inputs", "luts", "ownership"),
    ("outputs", "results", "view", "analysis", "analysis.geometry", "analysis.anatomy"),
    ("analysis.centreline", "analysis.flags", "analysis.label_points", "analysis.phantom"),
    ("analysis.agreement", "analysis.bundles", "analysis.canal"),
    ("analysis.borders", "analysis.level_fit", "analysis.references"),
    ("analysis.consistency", "analysis.cord_mask", "analysis.landmark_checks"),
    ("analysis.shifting", "analysis.split"),
    ("locator",),
    ("analysis.plausibility",),
    ("analysis.spinal_levels",),
    ("tasks", "download"),
    ("network.model_folder",),
    ("network.preprocessing", "network.unet"),
    ("network.engines",),
    ("network.tiled", "network.nnunet"),
    ("network.loading",),
    ("oriented",),
    ("archive", "card", "sample", "task_model", "qc.scene", "qc.stored"),
    ("store", "unreachable", "qc.measures", "qc.render", "qc.volumes"),
    ("install", "picture", "qc.entry", "qc.naming", "qc.pages"),
    ("models", "qc.folder"),
    ("pipeline", "qc.report"),
    ("sidecar",),
    ("api",),
    ("hosts", "verbs"),
    ("hosts.sct_advice", "hosts.sct_notice"),
    ("hosts.grammar", "hosts.sct_hook", "hosts.sct_seams", "hosts.sct_pth"),
    ("hosts.sct_entries", "hosts.sct_results", "hosts.sct_launchers", "verbs.files"),
    ("hosts.sct_install", "hosts.sct_command"),
    ("hosts.sct",),
    (
        "verbs.check",
        "verbs.evaluate",
        "verbs.levels",
        "verbs.locate",
        "verbs.models",
        "verbs.picture",
        "verbs.qc",
        "verbs.relabel",
        "verbs.sample",
        "verbs.sct",
        "verbs.split",
    ),
    ("hosts.standalone", "cli"),
)
"""Modules of the package from the lowest layer to the highest; a module imports lower ones only."""

RANK = {module: rank for rank, layer in enumerate(LAYERS) for module in layer}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    for path in PACKAGE.rglob("*.py")
)


def imports_of(module: str) -> set[str]:
    """Return the package's modules that a module imports, wherever in its file."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            known = [name for name in inside if name.partition(".")[2] in RANK]
            found |= set(known) or {node.module}
    prefix = "sct_rootlets_task"
    return {
        name.removeprefix(prefix).lstrip(".")
        for name in found
        if name == prefix or name.startswith(f"{prefix}.")
    }


def test_every_module_has_its_layer() -> None:
    assert set(MODULES) == set(RANK)


# The package itself only says for type checkers what it imports when it is used.
@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_a_module_imports_only_from_lower_layers(module: str) -> None:
    upward = {name for name in imports_of(module) if RANK[name] >= RANK[module]}
    assert not upward - {module}


def test_the_import_check_sees_imports() -> None:
    assert {"tasks", "locator", "network.loading"} <= imports_of("pipeline")
