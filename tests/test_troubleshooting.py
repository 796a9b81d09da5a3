"""Each message that the troubleshooting page quotes stands in the code."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OMITTED = "…"


def quoted() -> list[str]:
    """Return the messages in the first columns of the page's tables."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = page.split("| Message | Why | What to do |")[1:]
    return [text for table in tables for text in re.findall(r"^\| `([^`]+)` \|", table, re.M)]


def plain(node: ast.expr) -> str:
    """Return a text of the code with a mark for each value that is put in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(plain, node.values))
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return node.value if is_text else OMITTED


@cache
def texts_in_code() -> tuple[str, ...]:
    """Return every text of the package but docstrings; one that values are put into is one."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for path in (ROOT / "sct_rootlets_task").rglob("*.py")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    return tuple(plain(node) for node in texts if id(node) not in docstrings)


def pattern_of(message: str) -> str:
    """Return what finds a message, with anything in the place of what it leaves out."""
    return r".*".join(re.escape(part.strip()) for part in message.split(OMITTED))


def test_the_page_quotes_messages() -> None:
    assert len(quoted()) > 200
    assert len(set(quoted())) == len(quoted()), "a message stands there twice"


def is_in_code(message: str) -> bool:
    pattern = re.compile(pattern_of(message), re.DOTALL)
    return any(pattern.search(text) for text in texts_in_code())


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_stands_in_the_code(message: str) -> None:
    assert is_in_code(message)


def test_a_message_that_is_in_no_code_is_noticed() -> None:
    assert not is_in_code("There is no picture … . Check the sky.")
