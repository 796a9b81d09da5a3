"""Configuration of the documentation; builds from a checkout without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent)]

import _generate  # noqa: E402

from sct_rootlets_task import __version__  # noqa: E402

project = "sct_rootlets_task"
author = "sct_rootlets_task developers"
copyright = author
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["generated/rooms.md", "_build"]
html_theme = "furo"
html_title = f"sct_rootlets_task {__version__}"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# A command line must show its hyphens and quotes as they are typed.
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
# A default such as TASKS is shown by its name, not by its value.
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
# Without a network there is nothing that these could link to.
nitpick_ignore = [("py:class", "numpy.ndarray"), ("py:class", "collections.abc.Callable")]


def skip_tuple_fields(_app: Any, _what: str, _name: str, value: Any, *_: Any) -> bool | None:
    """Leave out the fields of named tuples, which the docstring of the class describes."""
    text = str(getattr(value, "__doc__", ""))
    return True if text.startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Write the generated pages before Sphinx looks for its sources."""
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("builder-inited", lambda app: _generate.write_pages(Path(app.srcdir, "generated")))
