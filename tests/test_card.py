"""The model card: schema, agreement with the registry, rendering."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sct_rootlets_task import __version__
from sct_rootlets_task.errors import MissingDependencyError, RootletsError
from sct_rootlets_task.registry import ROOTLETS, TASKS
from sct_rootlets_task.tasks import Release, TaskRegistry
from tools.model_card import (
    CardError,
    CardNotFoundError,
    check_card,
    escape,
    load_card,
    load_schema,
    render_card,
    schema_errors,
)

CARD = load_card()
DELETE = object()


def model(tag: str) -> str:
    """Return the path of a model's entry, so that a test does not depend on their order."""
    return f"models.{[entry['tag'] for entry in CARD['models']].index(tag)}"


def task(name: str) -> str:
    return f"tasks.{[entry['name'] for entry in CARD['tasks']].index(name)}"


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the card with one place changed, or deleted."""
    card = copy.deepcopy(CARD)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place: Any = card
    for key in parents:
        place = place[key if isinstance(place, list) else str(key)]
    last = last if isinstance(place, list) else str(last)
    if value is DELETE:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return card


def problems(card: Any, **kwargs: Any) -> list[str]:
    return schema_errors(card) or check_card(card, **kwargs)


def test_the_schema_is_a_valid_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(load_schema())


def test_the_card_satisfies_the_schema() -> None:
    assert schema_errors(CARD) == []


def test_the_card_and_the_registry_agree() -> None:
    assert check_card(CARD, TASKS) == []


MUTATIONS = [
    ("name", DELETE, r"'name' is a required property"),
    ("name", "", r"^name: .*(too short|non-empty)"),
    ("color", "blue", r"'color' was unexpected"),
    ("version", "1", r"^version: '1' does not match"),
    ("version", "9.9.9", r"card: version is '9\.9\.9' in the card, expected"),
    ("changelog", {"0.0.1": "x"}, rf"changelog has no entry for version {__version__}"),
    ("license", {"value": None}, r"^license: 'note' is a required property"),
    ("intended_use", [], r"^intended_use: \[\].*(too short|non-empty)"),
    ("out_of_scope_use", DELETE, r"'out_of_scope_use' is a required property"),
    ("ethical_considerations", DELETE, r"'ethical_considerations' is a required property"),
    ("label_classes.0", "C1", r"^label_classes\.0: 'background' was expected"),
    ("label_classes.9", "T2", r"card: label_classes is .*'9': 'T2'.*expected"),
    ("label_classes.9", DELETE, r"card: label_classes is"),
    ("label_classes.x", "C2", r"^label_classes: 'x' does not match"),
    ("tasks.0.name", "rootlet", r"task 'rootlet': the card has an entry, the registry has not"),
    ("tasks.0.name", "rootlet", r"task 'rootlets': the registry has an entry, the card has not"),
    ("tasks.2", CARD["tasks"][0], r"task 'rootlets': the card has 2 entries"),
    (f"{task('rootlets')}.default", "r20240730", r"task 'rootlets': default is 'r20240730'"),
    (f"{task('rootlets')}.fallback", None, r"task 'rootlets': fallback is None .*'starter'"),
    (f"{task('rootlets')}.models", ["r20250318"], r"models is \['r20250318'\]"),
    (f"{task('rootlets')}.contrasts", ["t2"], r"task 'rootlets': contrasts is \['t2'\]"),
    (f"{task('rootlets')}.contrasts", "t2", r"contrasts: 't2' is not of type 'array'"),
    (f"{task('rootlets')}.label_classes.9", DELETE, r"task 'rootlets': label_classes is"),
    (f"{task('rootlets')}.label_classes.9", "C9", r"task 'rootlets': label_classes is"),
    (f"{task('rootlets')}.assumed_orientation", "RPI", r"assumed_orientation is 'RPI'"),
    (f"{task('rootlets')}.assumed_orientation", "LRI", r"'LRI' does not match"),
    (f"{task('rootlets')}.hooks", [], r"task 'rootlets': hooks is \[\]"),
    (f"{task('rootlets')}.description", "x", r"task 'rootlets': description is 'x'"),
    (f"{task('rootlets')}.replaced_by", "rootlets", r"replaced_by is 'rootlets'"),
    (f"{model('r20250318')}.tag", "r2", r"model 'r20250318': the registry has an entry"),
    (f"{model('r20250318')}.urls.0", "https://example.org/x.zip", r"urls is .*example\.org"),
    (f"{model('r20250318')}.urls.0", "http://example.org/x.zip", r"does not match"),
    (f"{model('r20250318')}.urls", [], r"model 'r20250318': urls is \[\]"),
    (f"{model('r20250318')}.contrasts", ["t2"], r"model 'r20250318': contrasts is"),
    (f"{model('r20250318')}.citation", "Someone (1999).", r"citation is 'Someone"),
    (f"{model('r20250318')}.kind", "built-in", r"kind is 'built-in'"),
    (f"{model('r20250318')}.archive_sha256", {"value": "0" * 64}, r"archive_sha256 is '0000"),
    (f"{model('r20250318')}.archive_sha256", {"value": "abc"}, r"'abc' does not match"),
    (f"{model('r20240129')}.label_classes.9", "T1", r"'r20240129': label_classes is"),
    (f"{model('starter')}", DELETE, r"model 'starter': the registry has an entry"),
    (f"{model('starter')}.networks.0", DELETE, r"network 'locator': the registry has an entry"),
    (f"{model('starter')}.networks.0.orientation", "RPI", r"'locator': orientation is 'RPI'"),
    (f"{model('starter')}.networks.0.trainer", "x", r"network 'locator': trainer is 'x'"),
    (f"{model('starter')}.networks.1.spacing_mm.value", [1, 1, 1], r"'starter': spacing_mm is"),
    (f"{model('starter')}.networks.1.classes.value.rootlets", 2, r"'starter': classes is"),
    (f"{model('starter')}.networks.1.patch_size_voxels.value.0", 32, r"patch_size_voxels is"),
    (f"{model('starter')}.networks.1.normalization.value", ["CT"], r"normalization is"),
    (f"{model('starter')}.networks.1.weights_sha256.value", "0" * 64, r"weights_sha256 is '000"),
    (f"{model('starter')}.networks.1.folds.value", "fold_0", r"fold_0/.*, which does not exist"),
    (f"{model('starter')}.evaluation.0.source", "rumour", r"names the source 'rumour'"),
    (f"{model('starter')}.evaluation.0.source", DELETE, r"'source' is a required property"),
    (f"{model('starter')}.evaluation.0.value", "good", r"'good' is not of type 'number', 'array'"),
    (
        "sources.own_evaluation.method",
        DELETE,
        r"^sources\.own_evaluation: 'method' is a required property",
    ),
    ("sources.krejci2025.url", DELETE, r"^sources\.krejci2025: 'url' is a required property"),
]


@pytest.mark.parametrize(("path", "value", "message"), MUTATIONS)
def test_a_wrong_card_is_caught_with_a_message_that_names_the_place(
    path: str, value: Any, message: str
) -> None:
    found = problems(changed(path, value))
    assert any(re.search(message, problem) for problem in found), found


LEAF_FIELDS = [
    (path, field)
    for path, definition in (
        (task("rootlets"), "task"),
        (model("r20250318"), "model"),
        (f"{model('r20250318')}.training_data", "training_data"),
        (f"{model('starter')}.networks.0", "network"),
    )
    for field in load_schema()["$defs"][definition]["properties"]
]


@pytest.mark.parametrize(("path", "field"), LEAF_FIELDS)
def test_no_field_may_be_left_out(path: str, field: str) -> None:
    found = schema_errors(changed(f"{path}.{field}", DELETE))
    assert found == [f"{path}: {field!r} is a required property"]


def unknown_values(place: Any, path: str = "") -> list[str]:
    """Return the paths of all values that the card gives as null with a note."""
    if isinstance(place, list):
        return [p for i, part in enumerate(place) for p in unknown_values(part, f"{path}.{i}")]
    if not isinstance(place, dict):
        return []
    if place.get("value", 0) is None:
        return [path.lstrip(".")]
    return [p for key, part in place.items() for p in unknown_values(part, f"{path}.{key}")]


def test_some_values_are_unknown_and_none_is_without_a_note() -> None:
    paths = unknown_values(CARD)
    assert paths
    for path in paths:
        found = schema_errors(changed(f"{path}.note", DELETE))
        assert found == [f"{path}: 'note' is a required property"]


def fake_task_entry(name: str) -> dict[str, Any]:
    return {**CARD["tasks"][0], "name": name, "description": "A fake task.", "models": ["fake"]}


def test_a_further_task_is_checked_with_no_change_to_the_code() -> None:
    release = Release(tag="fake", description="Fake.", urls=("https://example.org/fake.zip",))
    fake = dataclasses.replace(
        ROOTLETS,
        name="fake_task",
        description="A fake task.",
        releases=(release,),
        default="fake",
        fallback=None,
    )
    registry = TaskRegistry([*TASKS.values(), fake])
    assert check_card(CARD, registry) == [
        "task 'fake_task': the registry has an entry, the card has not. Add it.",
        "model 'fake': the registry has an entry, the card has not. Add it.",
    ]
    card = copy.deepcopy(CARD)
    card["tasks"].append({**fake_task_entry("fake_task"), "default": "fake", "fallback": None})
    published = copy.deepcopy(next(m for m in card["models"] if m["tag"] == "r20250318"))
    published |= {"tag": "fake", "description": "Fake.", "urls": list(release.urls)}
    card["models"].append(published | {"citation": "Someone."})
    assert schema_errors(card) == []
    assert check_card(card, registry) == [
        "model 'fake': citation is 'Someone.' in the card, expected ''."
    ]


def test_the_default_card_is_the_one_at_the_top_level() -> None:
    assert load_card() == load_card(Path(__file__).parents[1] / "model_card.json")


def test_a_missing_card_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(CardNotFoundError, match=r"none\.json, found no file\. Give the path"):
        load_card(tmp_path / "none.json")
    assert issubclass(CardNotFoundError, FileNotFoundError)
    assert issubclass(CardNotFoundError, RootletsError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expected JSON in .*card.json"),
        (b"[]", "Expected a JSON object in .*card.json, found list"),
        (b"\xff\xfe", "Expected JSON in .*card.json"),
    ],
)
def test_a_file_that_is_no_card_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "card.json"
    file.write_bytes(content)
    with pytest.raises(CardError, match=message):
        load_card(file)


@pytest.mark.parametrize("card", [None, [], "card", {}, {"models": None}])
def test_the_schema_refuses_what_is_no_card_at_all(card: Any) -> None:
    assert schema_errors(card)


def test_the_schema_check_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(MissingDependencyError, match="pip install jsonschema"):
        schema_errors(CARD)


def test_importing_the_card_module_loads_no_jsonschema() -> None:
    code = "import sys, tools.model_card; sys.exit('jsonschema' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PAGE = render_card(CARD)


def texts(place: Any) -> list[str]:
    """Return every text of the card that a reader is to see."""
    if isinstance(place, str):
        return [place]
    parts = place.values() if isinstance(place, dict) else place if isinstance(place, list) else []
    return [text for part in parts for text in texts(part)]


@pytest.mark.parametrize(
    "section",
    [key for key in CARD if key not in ("$schema", "models", "sources")],
)
def test_the_page_shows_every_text_of_a_section(section: str) -> None:
    for text in texts(CARD[section]):
        assert escape(text) in PAGE


@pytest.mark.parametrize("entry", CARD["models"], ids=lambda entry: entry["tag"])
def test_the_page_shows_every_text_of_a_model(entry: dict[str, Any]) -> None:
    shown = {text for text in texts(entry) if text not in CARD["sources"]}
    assert {text for text in shown if escape(text) not in PAGE and text not in PAGE} == set()


def test_the_page_shows_each_figure_with_a_link_to_its_source() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| Dice |")]
    expected = "| Dice | 0.67 ± 0.09 | T1w-INV2 | 17 held-out scans | "
    url = CARD["sources"]["krejci2025"]["url"]
    assert [row for row in rows if row.startswith(expected) and url in row]
    assert "at most 1.30 %" in PAGE
    assert "(own measurement, provisional)" in PAGE


def test_a_cell_cannot_break_its_table() -> None:
    page = render_card(changed(f"{task('rootlets')}.description", "a | b\n# c"))
    assert r"a \| b \# c" in page


def test_the_card_is_plain_json_that_other_programs_read() -> None:
    file = Path(__file__).parents[1] / "model_card.json"
    content = json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["$schema"] == "tools/model_card.schema.json"
    assert (file.parent / content["$schema"]).is_file()
