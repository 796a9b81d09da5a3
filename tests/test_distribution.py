"""What is installed is what runs; what is not, stays in the source distribution."""

from __future__ import annotations

import ast
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tools.architecture import PACKAGE, imports, modules

ROOT = PACKAGE.parent
OUTSIDE = ("benchmarks", "tools", "training")
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
DATA = SETUP["options.package_data"][PACKAGE.name].split()


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def entry_points() -> set[str]:
    lines = "\n".join(SETUP["options.entry_points"].values()).splitlines()
    return {line.split("=")[1].split(":")[0].strip() for line in lines if "=" in line}


def named(path: Path) -> set[str]:
    """Modules that a file names in a string, to import them when they are needed."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and text.startswith(PACKAGE.name)}


def test_every_module_is_used_by_another_one_or_by_an_entry_point() -> None:
    used = {name.partition(".")[2] for name in entry_points()}
    for module, path in modules().items():
        used |= imports(path) - {module}
        used |= {name.partition(".")[2] for name in named(path)}
    used |= {name.rpartition(".")[0] for name in used}
    assert not set(modules()) - used - {""}


def test_the_check_of_modules_sees_the_entry_points_and_what_they_name() -> None:
    assert f"{PACKAGE.name}.cli.console" in entry_points()
    assert f"{PACKAGE.name}.cli.sct_deepseg" in named(PACKAGE / "cli" / "console.py")


def test_package_data_is_every_file_that_is_no_module() -> None:
    found = {name for name in files(PACKAGE) if not name.endswith(".py")}
    assert found == {name for name in found if any(fnmatch(name, one) for one in DATA)}


@pytest.mark.parametrize("pattern", DATA)
def test_a_pattern_of_package_data_matches_a_file(pattern: str) -> None:
    assert list(PACKAGE.glob(pattern))


def test_only_the_package_is_installed() -> None:
    assert SETUP["options.packages.find"]["include"].split() == [PACKAGE.name, f"{PACKAGE.name}.*"]


@pytest.mark.parametrize("folder", OUTSIDE)
def test_what_is_not_installed_is_in_the_source_distribution(folder: str) -> None:
    start = f"recursive-include {folder} "
    lines = (ROOT / "MANIFEST.in").read_text().splitlines()
    (patterns,) = (line.removeprefix(start).split() for line in lines if line.startswith(start))
    names = files(ROOT / folder)
    assert names == {name for name in names if any(fnmatch(name, one) for one in patterns)}


def test_what_the_makefile_installs_from_is_in_the_source_distribution() -> None:
    included = (ROOT / "MANIFEST.in").read_text().split()
    assert {path.name for path in ROOT.glob("constraints*.txt")} <= set(included)


@pytest.mark.parametrize("folder", ["benchmarks", "training"])
def test_the_readme_of_a_folder_names_each_script(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    scripts = {path.stem for path in (ROOT / folder).glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {name for name in scripts if f"python -m {folder}.{name}" in text}
