from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg")
PYTHONS = [
    words[-1]
    for line in SETUP["metadata"]["classifiers"].splitlines()
    if (words := line.split(" :: "))[:3] == ["Programming Language", "Python", words[-1]]
    and "." in words[-1]
]
EXTRAS = SETUP["options.extras_require"]
ASKED = [
    Requirement(line) for extra in ("test", "docs") for line in EXTRAS[extra].split("\n") if line
]
# These bring the types that mypy reads, docutils the warnings of the documentation.
CHECKS = {
    "docutils",
    "numpy",
    "platformdirs",
    "pydantic",
    *(r.name for r in ASKED if r.name in {"mypy", "ruff"} or r.name.startswith("types-")),
    *(Requirement(line).name for line in EXTRAS["docs"].split("\n") if line),
} - {"jsonschema"}


def pins(python: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (ROOT / "constraints-checks.txt").read_text().splitlines():
        if not line or line.startswith(("#", "-c")):
            continue
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            found.setdefault(pin.name, []).append(str(pin.specifier))
    return found


def test_the_pythons_that_are_promised_are_named() -> None:
    assert len(PYTHONS) >= 4
    assert SETUP["options"]["python_requires"] == f">={PYTHONS[0]}"
    assert SETUP["mypy"]["python_version"] == PYTHONS[0]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_each_check_uses_one_fixed_release_on_every_python(python: str, name: str) -> None:
    (only,) = pins(python)[name]
    assert only.startswith("==")
    assert all(only.removeprefix("==") in asked.specifier for asked in ASKED if asked.name == name)


def test_make_installs_the_checks_with_their_pins() -> None:
    assert (
        "$(PIP) constraints-checks.txt --editable '.[torch,qc,test,docs]'"
        in (ROOT / "Makefile").read_text()
    )
