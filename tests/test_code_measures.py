"""The measures of the code count what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.code_measures import main, measure_code, sentences

MODULE = '''"""A module."""

# Why it is so.
LIMIT = 3  # not a comment line
"""What it is."""


def short(value):
    """Return it."""
    return value


def longer(value):
    """Do more.

    In two parts.
    """
    total = 0

    # Why.
    for one in value:
        total += one
    return total


def nothing():
    """Do nothing."""
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    package = tmp_path / "sct_rootlets_task"
    (package / "io").mkdir(parents=True)
    (package / "__init__.py").write_text('"""The package."""\n')
    (package / "api.py").write_text(MODULE)
    (package / "io" / "__init__.py").touch()
    (package / "io" / "images.py").write_text("import os\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(
        "# A long title here\n\nOne two three four. Five six.\n"
    )
    (tmp_path / "README.md").write_text("One two.\n")
    return tmp_path


def test_code_is_counted(checkout: Path) -> None:
    found = measure_code(checkout / "sct_rootlets_task")
    assert (found.modules, found.top_modules, found.top_packages) == (4, 1, 1)
    assert found.lines == len(MODULE.splitlines()) + 2
    assert found.docstring_lines == 9
    assert found.comment_lines == 2
    assert found.bodies == (1, 4, 0)


def test_the_table_has_all_of_it(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(checkout)])
    *_, row = capsys.readouterr().out.splitlines()
    expected = ["4 (1 + 1)", "0.0k", "31 / 6.9 %", "1 / 4 / 4", "0.0 %", "3.0", "2.0"]
    assert row.strip("| ").split(" | ")[1:] == expected


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("One two. Three four five!", [2, 3]),
        ("One two\nthree four.", [4]),
        ("One, 2.5 mm (see e.g. that) and more.", [8]),
        ("# Title of it\n\nOne.", [1]),
        ("- one two\n- three\n  four\n\n1. five. Six", [2, 2, 1, 1]),
        ("A term\n: What it is.", [3]),
        ("| a | b |\n|---|---|\n| c | d |\n\nOne.", [1]),
        ("One:\n\n```shell\nsct_deepseg rootlets\n```\n\nTwo.", [1, 1]),
        (":::{note}\nOne two.\n:::", [2]),
        ("(target)=\n<!-- not run: it is. So. -->\n![A picture.](a.png)\n\nOne.", [1]),
        ("Run `sct_deepseg rootlets -i a.nii.gz` and [look at it](http://a.b/c.html).", [6]),
        ("He said “Two.” Then three.", [3, 2]),
    ],
)
def test_sentences_are_counted(page: str, words: list[int]) -> None:
    assert [len(found) for found in sentences(page)] == words
