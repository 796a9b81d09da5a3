"""The model card: reading it, checking it against the registry, rendering it as a page.

``model_card.json`` lies at the top level of the repository, its JSON Schema beside this module.
Everything here but :func:`schema_errors` expects a card that satisfies the schema.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import MissingDependencyError, RootletsError
from sct_rootlets_task.level_names import level_name
from sct_rootlets_task.levels.sources import ByLocator
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.tasks import BUNDLED, Release, Task

Card = dict[str, Any]

_SCHEMA = Path(__file__).with_name("model_card.schema.json")
_CARD = Path(__file__).parents[1] / "model_card.json"
_UNIT = re.compile(r"_(mm|voxels|millions)$")
_BLOCK_START = re.compile(r"^(?:(?=[-+=%(:])|[0-9]+(?=[.)](?: |$)))")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~&$#^@])")


class CardError(RootletsError, ValueError):
    """A model card cannot be read."""


class CardNotFoundError(CardError, FileNotFoundError):
    """There is no model card where one was expected."""


def load_card(path: str | os.PathLike[str] | None = None) -> Card:
    """Read a model card.

    Parameters
    ----------
    path : path, optional
        JSON file; by default the one of this checkout.

    Returns
    -------
    dict
        The card, not checked; see :func:`schema_errors` and :func:`check_card`.

    Raises
    ------
    CardNotFoundError
        If the file does not exist.
    CardError
        If the file holds no JSON object.
    """
    file = _CARD if path is None else Path(path)
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CardNotFoundError(
            f"Expected a model card at {file}, found no file. Give the path of model_card.json; "
            "it lies at the top level of the source repository."
        ) from None
    except ValueError as error:
        raise CardError(f"Expected JSON in {file}: {error}. Correct the file.") from error
    if not isinstance(card, dict):
        raise CardError(
            f"Expected a JSON object in {file}, found {type(card).__name__}. Correct the file."
        )
    return card


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a model card."""
    schema: dict[str, Any] = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    return schema


def schema_errors(card: Any) -> list[str]:
    """Return what in a card breaks the schema, one message each, with the place in the card.

    Parameters
    ----------
    card : object
        Content of a ``model_card.json``.

    Raises
    ------
    MissingDependencyError
        If jsonschema is not installed; only tests and the documentation need it.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise MissingDependencyError(
            "Checking a model card against its schema needs jsonschema. Install it with "
            "'pip install jsonschema'."
        ) from error
    found = Draft202012Validator(load_schema()).iter_errors(card)
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'card'}: {error.message}"
        for error in sorted(found, key=lambda error: list(map(str, error.absolute_path)))
    ]


def check_card(card: Card, tasks: Mapping[str, Task] = TASKS) -> list[str]:
    """Return where a card disagrees with the registry, or with itself.

    Parameters
    ----------
    card : dict
        A card that satisfies the schema.
    tasks : mapping of str to Task
        Registry to compare with.

    Returns
    -------
    list of str
        One message for each disagreement; empty when card and registry agree.
    """
    uses = [(release, task) for task in tasks.values() for release in task.releases]
    releases = {release.tag: release for release, _ in uses}
    problems = [
        *_names("task", [entry["name"] for entry in card["tasks"]], tasks),
        *_names("model", [entry["tag"] for entry in card["models"]], releases),
        *_check_common(card, tasks),
    ]
    for entry in card["tasks"]:
        if entry["name"] in tasks:
            problems += _check_task(entry, tasks[entry["name"]])
    for entry in card["models"]:
        if entry["tag"] in releases:
            users = [task for release, task in uses if release.tag == entry["tag"]]
            problems += _check_model(entry, releases[entry["tag"]], users)
        problems += _check_sources(entry, card["sources"])
    return problems


def _names(kind: str, found: Sequence[str], expected: Iterable[str]) -> Iterator[str]:
    """Compare the names of the card's entries with those of the registry."""
    expected = set(expected)
    for name, count in Counter(found).items():
        if count > 1:
            yield f"{kind} {name!r}: the card has {count} entries. Keep one."
        if name not in expected:
            yield f"{kind} {name!r}: the card has an entry, the registry has not. Remove it."
    for name in sorted(expected - set(found)):
        yield f"{kind} {name!r}: the registry has an entry, the card has not. Add it."


def _differences(where: str, card: Mapping[str, Any], registry: Mapping[str, Any]) -> Iterator[str]:
    """Compare fields; those of the registry's side are the ones looked at."""
    for field, expected in registry.items():
        if card[field] != expected:
            yield f"{where}: {field} is {card[field]!r} in the card, expected {expected!r}."


def _level_names(levels: Iterable[int]) -> dict[str, str]:
    return {str(level): level_name(level) for level in levels}


def _check_common(card: Card, tasks: Mapping[str, Task]) -> Iterator[str]:
    from sct_rootlets_task import __version__

    levels = sorted({level for task in tasks.values() for level in task.levels})
    expected = {
        "version": __version__,
        "label_classes": {"0": "background", **_level_names(levels)},
    }
    yield from _differences("card", card, expected)
    if __version__ not in card["changelog"]:
        yield f"card: changelog has no entry for version {__version__}. Add one."


def _check_task(entry: Card, task: Task) -> Iterator[str]:
    expected = {
        "description": task.description,
        "default": task.default,
        "fallback": task.fallback,
        "models": list(task.tags),
        "contrasts": list(task.contrasts),
        "label_classes": _level_names(task.levels),
        "assumed_orientation": task.orientation,
        "hooks": [hook_name(hook) for hook in task.hooks],
        "replaced_by": task.legacy_of,
    }
    yield from _differences(f"task {task.name!r}", entry, expected)


def _check_model(entry: Card, release: Release, users: Sequence[Task]) -> Iterator[str]:
    levels = sorted({level for task in users for level in task.levels})
    where = f"model {release.tag!r}"
    expected = {
        "description": release.description,
        "urls": list(release.urls),
        "kind": "built-in" if release.bundled else "published",
        "citation": release.citation,
        "label_classes": _level_names(levels),
    }
    for task in users:
        if task.default == release.tag:
            expected["contrasts"] = list(task.contrasts)
    yield from _differences(where, entry, expected)
    archive = {"archive_sha256": entry["archive_sha256"]["value"]}
    yield from _differences(where, archive, {"archive_sha256": release.sha256})
    if release.bundled:
        source = users[0].levels_of(release)
        names = {release.bundled} | ({source.locator} if isinstance(source, ByLocator) else set())
        networks = {network["name"]: network for network in entry["networks"]}
        yield from _names(f"{where}, network", [n["name"] for n in entry["networks"]], names)
        for name in sorted(names & set(networks)):
            yield from _check_network(f"{where}, network {name!r}", networks[name], release)


def _check_network(where: str, entry: Card, release: Release) -> Iterator[str]:
    """Compare a built-in network with its folder, so that new weights need new figures."""
    folders = sorted((BUNDLED / entry["name"]).glob(release.trainer_folder))
    if len(folders) != 1:
        yield f"{where}: expected one folder {release.trainer_folder}, found {len(folders)}."
        return
    trainer, _, configuration = folders[0].name.split("__")
    plans = _read_json(folders[0] / "plans.json")["configurations"][configuration]
    dataset = _read_json(folders[0] / "dataset.json")
    fold, checkpoint = entry["folds"]["value"], entry["checkpoint"]["value"]
    weights = folders[0] / str(fold) / str(checkpoint)
    if not weights.is_file():
        yield f"{where}: folds and checkpoint name {fold}/{checkpoint}, which does not exist."
        return
    plain = {"trainer": trainer, "configuration": configuration}
    yield from _differences(where, entry, plain | {"orientation": dataset.get("image_orientation")})
    values = {
        "spacing_mm": plans["spacing"],
        "patch_size_voxels": plans["patch_size"],
        "normalization": plans["normalization_schemes"],
        "classes": dataset["labels"],
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    yield from _differences(where, {field: entry[field]["value"] for field in values}, values)


def _check_sources(entry: Card, sources: Mapping[str, Any]) -> Iterator[str]:
    for figure in entry["evaluation"]:
        if figure["source"] not in sources:
            yield (
                f"model {entry['tag']!r}: the figure {figure['metric']!r} names the source "
                f"{figure['source']!r}, which the card does not list."
            )


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def hook_name(hook: object) -> str:
    """Return the name under which a post-processing hook is shown."""
    return str(getattr(hook, "__name__", repr(hook)))


def escape(text: str) -> str:
    r"""Return text as Markdown (MyST) that shows exactly this text, on one line.

    Parameters
    ----------
    text : str
        Plain text; runs of white space become one space.

    Examples
    --------
    >>> print(escape("a_b | <c>"))
    a\_b \| \<c\>
    """
    line = _MARKUP.sub(r"\\\1", " ".join(text.split()))
    return _BLOCK_START.sub(r"\g<0>\\", line)


def render_card(card: Card) -> str:
    """Return a card as a page of Markdown (MyST).

    Parameters
    ----------
    card : dict
        A card that satisfies the schema.
    """
    sections = [
        f"# Model card: {escape(card['name'])}",
        f"Version {escape(card['version'])}. {escape(card['description'])}",
        *_listing("## Intended use", card["intended_use"]),
        *_listing("## Out of scope", card["out_of_scope_use"]),
        *_render_input(card),
        *_listing("## Limitations", card["limitations"]),
        *_listing("## Ethical considerations", card["ethical_considerations"]),
        "## Tasks",
        *(part for task in card["tasks"] for part in _render_task(task)),
        "## Models",
        *(part for model in card["models"] for part in _render_model(model, card["sources"])),
        "## Sources of the figures",
        bullets(f"{escape(key)}: {_source(source)}" for key, source in card["sources"].items()),
        *_listing("## Citation", card["citation"]),
        "## Authors and license",
        f"{escape(card['authors'])}\n\nLicense: {_known(card['license'])}",
        "## Changes of this card",
        bullets(f"{escape(v)}: {escape(text)}" for v, text in card["changelog"].items()),
    ]
    return "\n\n".join(sections) + "\n"


def bullets(items: Iterable[str]) -> str:
    """Return a Markdown list; the items are Markdown already."""
    return "\n".join(f"- {item}" for item in items)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; header and cells are Markdown already, ``|`` escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _listing(heading: str, items: Iterable[str]) -> tuple[str, str]:
    return heading, bullets(escape(item) for item in items)


def _render_input(card: Card) -> tuple[str, ...]:
    form = card["data_format"]
    return (
        "## Input and output",
        bullets(
            [
                f"Modality: {escape(form['modality'])}, {form['dimensions']}-D, "
                f"channels: {form['channels']}, files: {escape(', '.join(form['file_formats']))}",
                f"Input: {escape(form['input'])}",
                f"Output: {escape(form['output'])}",
            ]
        ),
        table(["Value", "Meaning"], [(k, escape(v)) for k, v in card["label_classes"].items()]),
        *_listing("### Preprocessing", card["preprocessing"]),
        *_listing("### Post-processing", card["postprocessing"]),
    )


def _render_task(task: Card) -> tuple[str, ...]:
    rows = {
        "Models": ", ".join(task["models"]),
        "Default model": task["default"],
        "Stand-in without a network": task["fallback"] or "none",
        "Contrasts": ", ".join(task["contrasts"]),
        "Levels": _levels(task["label_classes"]),
        "Orientation where the model names none": task["assumed_orientation"],
        "Hooks": ", ".join(task["hooks"]) or "none",
        "Replaced by": task["replaced_by"] or "nothing",
    }
    return (
        f"### Task {escape(task['name'])}",
        escape(task["description"]),
        table(["Field", "Value"], [(field, escape(value)) for field, value in rows.items()]),
    )


def _render_model(model: Card, sources: Mapping[str, Any]) -> tuple[str, ...]:
    rows = {
        "Kind": escape(model["kind"]),
        "Segments": escape(model["structures"]),
        "Levels": escape(_levels(model["label_classes"])),
        "Contrasts": escape(", ".join(model["contrasts"])),
        "Archive": ", ".join(link(u.rsplit("/", 1)[-1], u) for u in model["urls"]) or "none",
        "SHA-256 of the archive": _known(model["archive_sha256"]),
        "License of the weights": _known(model["license"]),
        "Citation": escape(model["citation"]),
    }
    return (
        f"### Model {escape(model['tag'])}: {escape(model['title'])}",
        escape(model["description"]),
        table(["Field", "Value"], rows.items()),
        *_render_training(model["training_data"]),
        *(part for network in model["networks"] for part in _render_network(network)),
        "#### Evaluation",
        table(
            ["Metric", "Value", "Of", "Data", "Source"],
            [_figure(figure, sources) for figure in model["evaluation"]],
        ),
        *_listing("#### Limitations", model["limitations"]),
    )


def _render_training(data: Card) -> tuple[str, ...]:
    sets = [
        f"{escape(part['name'])}: {escape(part['size'])}; {escape(part['contrasts'])}; "
        f"{escape(part['access'])}"
        for part in data["datasets"]
    ]
    facts = [
        f"Scans: {_known(data['scans'])}",
        f"Population: {escape(data['population'])}",
        *sets,
        *(escape(gap) for gap in data["unknown"]),
    ]
    return "#### Training data", escape(data["summary"]), bullets(facts)


def _render_network(network: Card) -> tuple[str, ...]:
    rows = []
    for field, value in network.items():
        if field != "name":
            label = _UNIT.sub(r" (\1)", field).replace("_", " ").replace("sha256", "SHA-256")
            shown = _known(value) if isinstance(value, dict) else escape(value)
            rows.append((label[0].upper() + label[1:], shown))
    return f"#### Network {escape(network['name'])}", table(["Field", "Value"], rows)


def _known(entry: Card) -> str:
    """Return a value that may be unknown, with its note."""
    value, note = entry["value"], entry.get("note", "")
    if value is None:
        return escape(note)
    if isinstance(value, dict):
        value = ", ".join(f"{index}: {name}" for name, index in value.items())
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    return escape(f"{value} ({note})" if note else str(value))


def _figure(figure: Card, sources: Mapping[str, Any]) -> tuple[str, ...]:
    value = figure["value"]
    numbers = [_number(n, figure) for n in (value if isinstance(value, list) else [value])]
    words = [figure.get("statistic", ""), figure.get("qualifier", ""), ", ".join(numbers)]
    words += [f"± {_number(figure['sd'], figure)}" if "sd" in figure else "", figure["unit"]]
    source = sources.get(figure["source"], {"kind": "unknown source", "reference": ""})
    return (
        escape(figure["metric"]),
        escape(" ".join(word for word in words if word)),
        escape(figure["group"]),
        escape(figure["data"]),
        _short_source(figure["source"], source),
    )


def _number(value: float, figure: Card) -> str:
    return f"{value:.{figure['decimals']}f}" if "decimals" in figure else str(value)


def _short_source(key: str, source: Card) -> str:
    kind = f"{source['kind']}, provisional" if source.get("provisional") else source["kind"]
    return f"{link(key, source['url']) if 'url' in source else escape(key)} ({escape(kind)})"


def _source(source: Card) -> str:
    reference = source["reference"]
    shown = link(reference, source["url"]) if "url" in source else escape(reference)
    method = f". Method: {escape(source['method'])}" if "method" in source else ""
    return shown + method


def _levels(classes: Mapping[str, str]) -> str:
    return ", ".join(f"{value} = {name}" for value, name in classes.items())


def link(text: str, url: str) -> str:
    """Return a Markdown link; `url` holds no white space and no angle brackets."""
    return f"[{escape(text)}](<{url}>)"
