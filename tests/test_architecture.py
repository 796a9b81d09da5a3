"""Dependencies inside the package point one way."""

from __future__ import annotations

from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tools.architecture import PACKAGE, ROOMS, imports, modules, room, to_markdown

MODULES = modules()
RANK = {name: rank for rank, name in enumerate(ROOMS)}


def test_every_module_is_in_a_room_and_every_room_is_there() -> None:
    assert {room(module) for module in MODULES if module} == set(ROOMS)


# The package itself only says for type checkers what it imports when it is used.
@pytest.mark.parametrize("module", [module for module in MODULES if module])
def test_a_room_imports_only_from_lower_rooms(module: str) -> None:
    others = {name for name in imports(MODULES[module]) if name and room(name) != room(module)}
    assert not {name for name in others if RANK[room(name)] > RANK[room(module)]}


@pytest.mark.parametrize("name", ROOMS)
def test_no_two_modules_of_a_room_import_each_other(name: str) -> None:
    inside = {module: path for module, path in MODULES.items() if room(module) == name}
    TopologicalSorter(
        {module: imports(path) & set(inside) - {module} for module, path in inside.items()}
    ).prepare()


def test_the_import_check_sees_imports() -> None:
    found = imports(MODULES["segmentation.segmenter"])
    assert {"errors", "inference.loading", "levels.corrections"} <= found


def test_the_registry_holds_entries_and_nothing_else() -> None:
    needed = {"levels.anatomical_priors", "levels.sources", "tasks"}
    assert imports(MODULES["registry"]) == needed
    text = MODULES["registry"].read_text()
    assert not {"def ", "class ", "if ", "for "} & {line[:4] for line in text.splitlines()}


def test_what_is_outside_the_package_is_not_imported_by_it() -> None:
    outside = {"training", "benchmarks", "tools", "tests"}
    for path in Path(PACKAGE).rglob("*.py"):
        words = {line.split()[1].partition(".")[0] for line in path.read_text().splitlines()
                 if line.lstrip().startswith(("from ", "import "))}  # fmt: skip
        assert not words & outside, path


def test_the_table_of_the_docs_names_every_module() -> None:
    table = to_markdown()
    for module in filter(None, MODULES):
        assert f"`{module.partition('.')[2] or module}`" in table
