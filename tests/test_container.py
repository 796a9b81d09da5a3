"""The container's files agree with the package."""

from __future__ import annotations

import argparse
import configparser
import json
import re
from pathlib import Path

import pytest

from sct_rootlets_task import environment
from sct_rootlets_task.cli.bids_options import add_options
from tools import boutiques

ROOT = Path(__file__).parents[1]
RECIPES = ("Dockerfile", "apptainer.def")


def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg")
    return found


def test_the_descriptor_is_that_of_the_options() -> None:
    message = "run python -m tools.boutiques"
    assert boutiques.FILE.read_text(encoding="utf-8") == boutiques.text(), message


def test_every_option_is_in_the_descriptor() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    shown = {
        name
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and "_" not in name and action.help != argparse.SUPPRESS
    }
    inputs = json.loads(boutiques.FILE.read_text())["inputs"]
    flags = {one["command-line-flag"] for one in inputs if "command-line-flag" in one}
    assert flags == shown - {"--version"}


def test_the_descriptor_is_complete() -> None:
    content = json.loads(boutiques.FILE.read_text())
    keys = re.findall(r"\[[A-Z_]+\]", content["command-line"])
    assert keys == [one["value-key"] for one in content["inputs"]]
    assert len({one["id"] for one in content["inputs"]}) == len(keys) == len(set(keys))
    assert all(one["description"] for one in content["inputs"])
    assert [one["id"] for one in content["inputs"] if not one["optional"]] == [
        *("bids_dir", "out_dir", "levels")
    ]
    assert content["tool-version"] == environment.VERSION


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_installs_extras_that_exist_and_copies_what_exists(recipe: str) -> None:
    text = (ROOT / "container" / recipe).read_text()
    (extras,) = re.findall(r"/src\[([^\]]+)\]", text)
    assert set(extras.split(",")) <= set(setup()["options.extras_require"])
    copied = re.findall(r"(?:^COPY |^    )((?:[\w./]+ )+)/src", text, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert "setup.cfg" in names
    assert all((ROOT / name).exists() for name in names)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_variables_that_are_read(recipe: str) -> None:
    text = (ROOT / "container" / recipe).read_text()
    found = set(re.findall(r"SCT_ROOTLETS_\w+", text))
    assert {environment.MODELS, environment.OFFLINE} <= found <= set(environment.VARIABLES)


def test_the_builder_is_given_all_that_the_recipe_copies() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    text = (ROOT / "container" / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*) /src", text, re.M) for name in line.split()}
    assert copied == kept
