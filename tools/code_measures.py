"""Print how large the modules, functions, docstrings and sentences of a project are.

    python -m tools.code_measures [CHECKOUT …]

Modules
    All modules of the package, in brackets the modules and the packages at its top level.
Docstrings, comments
    Their share of all lines. A line counts as a comment where nothing else stands on it.
Body
    Lines of a function without its signature, docstring, comments and blank lines, nested functions
    included: median, nine tenths, longest, and the share of functions over 50 lines.
Words a sentence
    Of the Markdown in ``docs`` and in the README. Front matter, code blocks, tables, headings,
    pictures, comments and the terms of definitions are left out, and of a link its address.
    Inline code is one word. A sentence ends with a full stop, question or exclamation mark before
    a space or the end; so do a paragraph and a list item.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parents[1]
PACKAGE = "sct_rootlets_task"
LONG = 50
Function = ast.FunctionDef | ast.AsyncFunctionDef

_FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1[`~]*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_SKIPPED = re.compile(r"^ *(\||#|!\[|:::|:[\w-]+:|\([\w-]+\)=|[-=]{3,}$)")
_ITEM = re.compile(r"^ *([-*+]|\d+[.)]|:) +")
_CODE = re.compile(r"(`+).+?\1")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_END = re.compile(r"(?<=[.!?])[\"'*_)”]*\s+")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|et al|Fig|Dr|approx)\.")


@dataclass(frozen=True)
class CodeMeasures:
    """Measures of a package's code.

    Parameters
    ----------
    modules, top_modules, top_packages : int
        All modules, and the modules and packages at the top level.
    lines, docstring_lines, comment_lines : int
        All lines, and those that are docstrings or nothing but a comment.
    bodies : tuple of int
        Lines of each function's body.
    """

    modules: int
    top_modules: int
    top_packages: int
    lines: int
    docstring_lines: int
    comment_lines: int
    bodies: tuple[int, ...]


def measure_code(package: Path) -> CodeMeasures:
    """Return the measures of a package's folder."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(package.rglob("*.py"))]
    trees = [ast.parse(text) for text in texts]
    comments = [comment_lines(text) for text in texts]
    return CodeMeasures(
        modules=len(texts),
        top_modules=sum(path.stem != "__init__" for path in package.glob("*.py")),
        top_packages=len(list(package.glob("*/__init__.py"))),
        lines=sum(len(text.splitlines()) for text in texts),
        docstring_lines=sum(len(lines) for tree in trees for lines in docstrings(tree)),
        comment_lines=sum(map(len, comments)),
        bodies=tuple(
            body_lines(node, text, skipped)
            for tree, text, skipped in zip(trees, texts, comments, strict=True)
            for node in ast.walk(tree)
            if isinstance(node, Function)
        ),
    )


def comment_lines(text: str) -> set[int]:
    """Return the numbers of the lines that hold nothing but a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def docstrings(tree: ast.Module) -> Iterator[range]:
    """Yield the lines of each string that stands by itself: docstrings, also of constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and _is_text(node):
            yield range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _is_text(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def body_lines(function: Function, text: str, skipped: set[int]) -> int:
    """Return the lines of a function's body, see the module.

    Parameters
    ----------
    function : ast.FunctionDef or ast.AsyncFunctionDef
        The function.
    text : str
        Its module.
    skipped : set of int
        Lines of the module that are comments.
    """
    lines = text.splitlines()
    body = function.body[_is_text(function.body[0]) :]
    numbers = range(body[0].lineno, (body[-1].end_lineno or 0) + 1) if body else range(0)
    return sum(bool(lines[n - 1].strip()) and n not in skipped for n in numbers)


def sentences(markdown: str) -> list[list[str]]:
    """Return the words of each sentence of a page, see the module.

    Examples
    --------
    >>> [len(words) for words in sentences("One `a b` two. Three?")]
    [3, 1]
    """
    text = _FRONT_MATTER.sub("", _COMMENT.sub("", markdown))
    text = _FENCE.sub("", text)
    found = []
    for block in _blocks(text.splitlines()):
        plain = _LINK.sub(r"\1", _CODE.sub("code", block))
        plain = _ABBREVIATION.sub(r"\1", plain)
        found += [re.findall(r"[^\W_][^\s]*", part) for part in _END.split(plain)]
    return [words for words in found if words]


def _blocks(lines: Sequence[str]) -> Iterator[str]:
    """Yield paragraphs and list items, each on one line."""
    block: list[str] = []
    for line in [*lines, ""]:
        ends = not line.strip() or _SKIPPED.match(line)
        item = _ITEM.match(line)
        if block and (ends or item):
            if not item or item[1] != ":":  # the term that a definition explains is a heading
                yield " ".join(block)
            block = []
        if not ends:
            block.append(_ITEM.sub("", line).strip())


def words_a_sentence(pages: Sequence[Path]) -> float:
    """Return the mean number of words a sentence of some pages; NaN where they have none."""
    found = [words for page in pages for words in sentences(page.read_text(encoding="utf-8"))]
    return sum(map(len, found)) / len(found) if found else float("nan")


def row(checkout: Path) -> str:
    """Return the row of the table for a checkout."""
    code = measure_code(checkout / PACKAGE)
    bodies = np.array(code.bodies)
    median, most = np.percentile(bodies, (50, 90), method="nearest")
    shares = (100 * n / code.lines for n in (code.docstring_lines, code.comment_lines))
    pages = sorted((checkout / "docs").glob("*.md"))
    cells = (
        f"{code.modules} ({code.top_modules} + {code.top_packages})",
        f"{code.lines / 1000:.1f}k",
        "{:.0f} / {:.1f} %".format(*shares),
        f"{median} / {most} / {bodies.max()}",
        f"{100 * (bodies > LONG).mean():.1f} %",
        f"{words_a_sentence(pages):.1f}",
        f"{words_a_sentence([checkout / 'README.md']):.1f}",
    )
    return " | ".join(("", checkout.resolve().name, *cells, "")).strip()


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", type=Path, nargs="*", default=[HERE])
    print(
        "| | modules (top level + packages) | lines | docstrings / comments "
        "| body median / 90 % / longest | over 50 lines | words a sentence in docs | in README |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for checkout in parser.parse_args(words).checkouts:
        print(row(checkout))


if __name__ == "__main__":
    main()
