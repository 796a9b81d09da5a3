"""The documentation: what is generated, and that it builds without a warning."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sct_rootlets_task import __version__
from sct_rootlets_task.analysis import evaluate
from sct_rootlets_task.analysis.flags import CODES
from sct_rootlets_task.analysis.spinal_levels import COLUMNS
from sct_rootlets_task.cli.grammar import legacy_parser, modern_parser
from sct_rootlets_task.cli.sct_rootlets import build_parser
from sct_rootlets_task.environment import VARIABLES
from sct_rootlets_task.errors import EXIT_CODES
from sct_rootlets_task.io.outputs import FILES, SIDECAR
from sct_rootlets_task.level_names import level_name
from sct_rootlets_task.levels import located_canal
from sct_rootlets_task.levels.sources import ByMap
from sct_rootlets_task.qc.pages import RATINGS
from sct_rootlets_task.registry import TASKS
from sct_rootlets_task.rootlets.postprocess import HookContext
from sct_rootlets_task.tasks import Release, Task, TaskRegistry
from tools.model_card import escape

if not os.environ.get("CI"):
    for package in ("sphinx", "myst_parser", "furo", "numpydoc"):
        pytest.importorskip(package, reason="needs the extra 'docs'")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The module that makes the pages; it is no part of the package."""
    return load_module("_generate")


def reference_of(generate: ModuleType, *names: str, **arguments: Any) -> str:
    """Return the reference of one argument."""
    parser = argparse.ArgumentParser(prog="tool", add_help=False)
    parser.add_argument(*names, **arguments)
    lines = generate.parser_to_markdown(parser).splitlines()
    return "\n".join(line for line in lines if line.startswith("- "))


@pytest.mark.parametrize(
    ("names", "arguments", "expected"),
    [
        (["image"], {}, "- `image`:"),
        (["-o"], {"metavar": "PATH", "help": "File."}, "- `-o PATH`: File."),
        (["-o", "--out"], {}, "- `-o OUT`, `--out OUT`:"),
        (["-i"], {"nargs": "+", "metavar": "FILE"}, "- `-i FILE [FILE …]`:"),
        (["-i"], {"nargs": "*", "metavar": "FILE"}, "- `-i [FILE …]`:"),
        (["-i"], {"nargs": "?", "metavar": "FILE"}, "- `-i [FILE]`:"),
        (["-i"], {"nargs": 2, "metavar": "X"}, "- `-i X X`:"),
        (["-i"], {"nargs": 2, "metavar": ("X", "Y")}, "- `-i X Y`:"),
        (["rest"], {"nargs": argparse.REMAINDER}, "- `…`:"),
        (["-q"], {"action": "store_true", "help": "Quiet."}, "- `-q`: Quiet."),
        (["-r"], {"choices": (0, 1), "default": 1}, "- `-r {0,1}`: Default: `1`."),
        (["-d"], {"choices": ("a", "b"), "metavar": "D"}, "- `-d D`: One of `a`, `b`."),
        (["-m"], {"required": True}, "- `-m M`: Required."),
        (
            ["-n"],
            {"default": 3, "help": "%(default)s of %(prog)s"},
            "- `-n N`: 3 of tool Default: `3`.",
        ),
        (["-n"], {"choices": (1, 2), "help": "%(choices)s"}, "- `-n {1,2}`: 1, 2"),
        (["-p"], {"help": "100%% of a_b *c* | <d>"}, r"- `-p P`: 100% of a\_b \*c\* \| \<d\>"),
        (["-d"], {"default": argparse.SUPPRESS}, "- `-d D`:"),
        (["-s"], {"default": "a`b"}, "- `-s S`: Default: `` a`b ``."),
        (["-x"], {"help": argparse.SUPPRESS}, ""),
    ],
)
def test_an_argument_is_shown_with_its_values_and_its_default(
    generate: ModuleType, names: list[str], arguments: dict[str, Any], expected: str
) -> None:
    assert reference_of(generate, *names, **arguments) == expected


def nested_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tool", description="Does <things>.", epilog="The end.")
    commands = parser.add_subparsers()
    outer = commands.add_parser("outer", aliases=["out"], description="Outer command.")
    inner = outer.add_subparsers().add_parser("inner")
    inner.add_argument_group("Inner group", "Of the inner one.").add_argument("-deep", help="Deep.")
    return parser


def test_sub_commands_follow_one_heading_level_down_and_aliases_once(generate: ModuleType) -> None:
    page = generate.parser_to_markdown(nested_parser())
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert headings == ["## tool", "### tool outer", "#### tool outer inner"]
    for text in (r"Does \<things\>.", "Outer command.", "**Inner group**", "Of the inner one."):
        assert text in page
    assert "- `-deep DEEP`: Deep." in page
    assert page.index("The end.") < page.index("### tool outer")


def test_text_that_was_laid_out_keeps_its_lines(generate: ModuleType) -> None:
    parser = argparse.ArgumentParser(
        prog="tool",
        description="Examples:\n  %(prog)s -a\n  ```",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    assert "````text\nExamples:\n  tool -a\n  ```\n````" in generate.parser_to_markdown(parser)


def all_options(parser: argparse.ArgumentParser) -> set[str]:
    """Return every option of a parser and its sub-commands that its help shows."""
    found: set[str] = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(*(all_options(command) for command in action.choices.values()))
        elif action.help is not argparse.SUPPRESS:
            found.update(action.option_strings)
    return found


def test_every_option_of_our_commands_is_in_the_reference(generate: ModuleType) -> None:
    page = generate.command_line_to_markdown(TASKS)
    parsers = (modern_parser(TASKS), legacy_parser(TASKS), build_parser())
    options = set().union(*(all_options(parser) for parser in parsers))
    assert {"-i", "-install-task", "-model-dir"} <= options
    shown = re.findall(r"`(-[\w-]+)", page)
    assert options - set(shown) == set()
    assert "-thr" not in shown


def unexplained(parser: argparse.ArgumentParser) -> list[str]:
    """Return the arguments of a parser and its sub-commands that have no help."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            commands = action.choices.values()
            found += [name for command in commands for name in unexplained(command)]
        elif not action.help:
            found.append(f"{parser.prog} {'/'.join(action.option_strings) or action.dest}")
    return found


def test_every_argument_says_what_it_does() -> None:
    parsers = (modern_parser(TASKS), legacy_parser(TASKS), build_parser())
    assert [name for parser in parsers for name in unexplained(parser)] == []


DECLARED: list[tuple[str, Mapping[Any, str]]] = [
    ("files_to_markdown", FILES),
    ("files_to_markdown", SIDECAR),
    ("files_to_markdown", COLUMNS),
    ("files_to_markdown", evaluate.COLUMNS),
    ("files_to_markdown", located_canal.COLUMNS),
    ("files_to_markdown", located_canal.LINE_COLUMNS),
    ("files_to_markdown", RATINGS),
    ("flags_to_markdown", CODES),
    ("environment_to_markdown", EXIT_CODES),
    ("environment_to_markdown", VARIABLES),
]


@pytest.mark.parametrize(("page", "declared"), DECLARED)
def test_whatever_is_declared_is_in_the_reference_with_its_meaning(
    generate: ModuleType, page: str, declared: Mapping[Any, str]
) -> None:
    rows = getattr(generate, page)().splitlines()
    assert {f"| `{name}` | {escape(text)} |" for name, text in declared.items()} <= set(rows)


def sources() -> dict[str, str]:
    """Return the text of each module of the package."""
    package = ROOT / "sct_rootlets_task"
    return {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in package.rglob("*.py")
    }


def test_no_variable_is_read_that_is_not_declared() -> None:
    texts = sources()
    own = {name for text in texts.values() for name in re.findall(r"SCT_ROOTLETS_[A-Z]+", text)}
    assert own <= set(VARIABLES)
    reads = re.compile(r"getenv|environ\b[^\n]*\.get\(|environ\[[^\]]+\](?! = )")
    assert {name for name, text in texts.items() if reads.search(text)} == {"environment.py"}


def test_no_code_is_ended_with_that_is_not_declared() -> None:
    ends = re.compile(r"return (\d+)\b|return (\d+) if|else (\d+)$|\.exit\((\d+)", re.MULTILINE)
    outermost = ("cli/", "sct_plugin/")
    codes = {
        int(code)
        for name, text in sources().items()
        if name.startswith(outermost)
        for found in ends.findall(text)
        for code in found
        if code
    }
    assert {0, 1, 2} <= codes <= set(EXIT_CODES)


def test_every_flag_that_the_check_raises_is_declared() -> None:
    modules = ("analysis/check.py", "analysis/single_checks.py")
    text = "\n".join(sources()[name] for name in modules)
    raised = re.findall(r"flag\(\s*\"(\w+)\"", text) + re.findall(
        r"^        \(\"(\w+)\", ", text, re.MULTILINE
    )
    assert {"empty", "height", "speck", "fragment"} <= set(raised) <= set(CODES)
    assert set(CODES) - set(raised) == {"landmark", "not_covered", "doubt", "no_priors"}


def double(labels: np.ndarray, context: HookContext) -> np.ndarray:
    """Double every | value."""
    return labels * 2


FAKE = Task(
    name="fake_task",
    description="A fake | task",
    long_description="Nothing *real*.",
    url="https://example.org/fake",
    model_name="model_fake",
    releases=(
        Release("one", "First.", urls=("https://example.org/1.zip",), sha256="0" * 64),
        Release("two", "Second.", bundled="starter", citation="Someone (1999)."),
    ),
    default="one",
    fallback="two",
    contrasts=("t1",),
    level_source=ByMap(((1, 20), (2, 21))),
    levels=(20, 21),
    hooks=(double,),
    suffix="_fake",
    group="Fakes",
)


def test_the_tasks_page_shows_what_a_further_task_says(generate: ModuleType) -> None:
    page = generate.tasks_to_markdown(TaskRegistry([FAKE]))
    texts = [FAKE.name, FAKE.description, FAKE.long_description, FAKE.url, FAKE.model_name]
    texts += [FAKE.suffix, FAKE.group, *FAKE.contrasts, *map(level_name, FAKE.levels)]
    texts += ["double: Double every | value.", "1 → T12, 2 → L1", "0" * 64, "Someone (1999)."]
    for text in texts:
        assert escape(text) in page or text in page
    for release in FAKE.releases:
        assert f"### Model {release.tag}\n\n{release.description}" in page


def test_the_picture_of_the_rooms_shows_each_of_them_and_no_arrow_upwards(
    generate: ModuleType,
) -> None:
    from xml.etree import ElementTree

    from tools.architecture import ROOMS

    picture = ElementTree.fromstring(generate.rooms_to_svg())
    name = "{http://www.w3.org/2000/svg}%s"
    assert sorted(text.text or "" for text in picture.iter(name % "text")) == sorted(ROOMS)
    arrows = list(picture.iter(name % "line"))
    assert arrows
    assert all(float(arrow.attrib["y1"]) < float(arrow.attrib["y2"]) for arrow in arrows)


def test_a_task_without_hooks_says_so(generate: ModuleType) -> None:
    plain = dataclasses.replace(FAKE, hooks=())
    page = generate.tasks_to_markdown(TaskRegistry([plain]))
    assert "### Post-processing done by default\n\nNone." in page


@pytest.fixture(scope="module")
def parse() -> Callable[[str], list[Any]]:
    from markdown_it.renderer import RendererHTML
    from myst_parser.config.main import MdParserConfig
    from myst_parser.parsers.mdit import create_md_parser

    parser = create_md_parser(
        MdParserConfig(enable_extensions={"colon_fence", "deflist"}), RendererHTML
    )
    return lambda text: list(parser.parse(text))


def assert_shows(tokens: list[Any], text: str) -> None:
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in tokens[1].children} <= {"text"}
    assert "".join(child.content for child in tokens[1].children) == text


MARKUP = "ab1 .()[]{}<>*_`~|\\&;#!+-=%:$^@/\n\"'"


@given(
    st.one_of(
        st.text(MARKUP, min_size=1),
        st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1),
    ).filter(str.strip)
)
def test_escaped_text_is_shown_as_it_is(parse: Callable[[str], list[Any]], text: str) -> None:
    assert_shows(parse(escape(text)), " ".join(text.split()))


@pytest.mark.parametrize(
    "text",
    ["1. a", "2) a", "- a", "% a", "(a)=", "::: a", "+++", "a_b_c", "*a*", "<b>", "&lt;", "{a}`b`"],
)
def test_text_that_looks_like_markup_is_shown_as_it_is(
    parse: Callable[[str], list[Any]], text: str
) -> None:
    assert_shows(parse(escape(text)), text)


def load_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_picture_is_drawn_by_the_script_shown_and_small() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    shown = {name for text in texts for name in re.findall(r"\(\S*images/(\w+)\.png\)", text)}
    pictures = {path.stem: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert set(pictures) == shown == set(load_module("make_pictures").PICTURES)
    assert max(pictures.values()) < 400_000, "clones should stay small"


def build(folder: Path, *, builder: str = "dummy") -> subprocess.CompletedProcess[str]:
    """Build a copy of the documentation as strictly as CI does."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-b", builder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, str(folder), str(folder.parent / "built")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of the documentation's sources, without anything built or generated."""
    ignore = shutil.ignore_patterns("_build", "generated", "__pycache__")
    return Path(shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=ignore))


def test_the_documentation_builds_without_a_warning(docs: Path) -> None:
    result = build(docs, builder="html")
    assert (result.returncode, result.stderr) == (0, "")
    pages = {page.stem: page.read_text(encoding="utf-8") for page in docs.parent.rglob("*.html")}
    assert "Built-in starter" in pages["model_card"]
    assert "seg_spinal_rootlets_t2w" in pages["tasks"]
    assert "-install-task" in pages["command_line"]
    assert "keep_largest" in pages["api"]
    assert "SCT_ROOTLETS_OFFLINE" in pages["environment"]
    assert str(ROOT) not in "".join(pages.values())


@pytest.mark.parametrize(
    "text",
    ["[](nowhere.md)", "{func}`~sct_rootlets_task.levels.sources.no_such_function`"],
)
def test_a_broken_reference_fails_the_build(docs: Path, text: str) -> None:
    with (docs / "levels.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{text}\n")
    result = build(docs)
    assert result.returncode != 0
    assert "WARNING" in result.stderr


def test_version_and_title_agree_in_every_file_that_states_them() -> None:
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert citation["version"] == __version__
    assert citation["title"] == "sct_rootlets_task"
    assert re.findall(r"^## \[([\d.]+)\]", changelog, re.MULTILINE)[0] == __version__


def test_the_citation_file_names_every_published_model() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    published = {r.tag for task in TASKS.values() for r in task.releases if not r.bundled}
    assert {tag for tag in published if tag not in citation} == set()
