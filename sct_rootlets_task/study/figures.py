"""Figures of a cohort, drawn with matplotlib: for the cohort page, and for a paper."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from sct_rootlets_task.errors import MissingDependencyError
from sct_rootlets_task.level_names import level_color, value_name
from sct_rootlets_task.study.statistics import Distribution, Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORIGINS: Mapping[str, str] = {"pmj": "PMJ", "cord_mask_top": "top of the cord mask"}
"""What distances are counted from, in words; others are names of levels."""

_WIDTH_IN = 3.5
_HEIGHT_IN = 2.6
_BAR_IN = 0.22
_DPI = 300
_MOST_LINKED = 3000
"""A figure of more dots is drawn as one picture, but for its outliers: browsers get slow."""
_JITTER = 0.32
_GOLDEN = 0.618034
_STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "sct_rootlets_task",
}
_ADDRESS = re.compile(r'<a xlink:href="dot-(\d+)"([^>]*)>')


@dataclass(frozen=True)
class Drawing:
    """A figure, and what its dots stand for.

    Parameters
    ----------
    name : str
        Name of its files, without ending.
    title : str
        What it shows.
    figure : Figure
        As matplotlib has it.
    dots : tuple of Value
        Values whose dots have an address: ``dot-0`` and so on.
    is_dense : bool
        Whether only outliers have one, since there are too many dots.
    """

    name: str
    title: str
    figure: Figure
    dots: tuple[Value, ...] = ()
    is_dense: bool = False

    def png(self) -> bytes:
        """Return the figure as a PNG file of 300 dots per inch."""
        return self._saved("png", dpi=_DPI, metadata={"Software": "sct_rootlets_task"})

    def svg(self) -> str:
        """Return the figure as an SVG file without links."""
        return _ADDRESS.sub("<a>", self._svg())

    def linked_svg(self, address: Callable[[Value], str]) -> str:
        """Return the figure for a page: each dot links to an image and says which.

        Parameters
        ----------
        address : callable
            Returns where the image of a value is shown; empty where it is not.
        """

        def link(match: re.Match[str]) -> str:
            value = self.dots[int(match[1])]
            there = address(value)
            target = f' href="{escape(there)}"' if there else ""
            text = f"{value.image.label} · {value_name(value.level)} · {value.value:g}"
            return f"<a{target}><title>{escape(text)}</title>"

        text = _ADDRESS.sub(link, self._svg())
        return text[text.index("<svg") :]

    def _svg(self) -> str:
        return self._saved("svg", metadata={"Date": None}).decode("utf-8")

    def _saved(self, form: str, **options: Any) -> bytes:
        from matplotlib import rc_context

        stream = io.BytesIO()
        with rc_context(_STYLE):
            self.figure.savefig(stream, format=form, **options)
        return stream.getvalue()


def require_matplotlib() -> None:
    """Find out whether figures can be drawn.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            "The group level needs matplotlib, which is not installed. Install it with: "
            "pip install 'sct-rootlets-task[study]'"
        ) from error


def draw_distribution(one: Distribution) -> Drawing:
    """Draw a measure by level: a dot for each image, outliers as diamonds, medians as lines.

    Parameters
    ----------
    one : Distribution
        Values of one contrast.
    """
    origin = ORIGINS.get(one.origin, one.origin)
    title = f"{one.measure.title} from the {origin}" if one.origin in ORIGINS else one.measure.title
    if one.origin and one.origin not in ORIGINS:
        title = f"{one.measure.title} from the cranial end of {one.origin}"
    figure, axes = _new_figure(_WIDTH_IN, _HEIGHT_IN)
    dense = len(one.values) > _MOST_LINKED
    levels = one.by_level
    dots: list[Value] = []
    for place, (level, values) in enumerate(levels.items()):
        _draw_level(axes, place, level=level, values=values, dots=dots, dense=dense)
    axes.set_xticks(range(len(levels)), [value_name(level) for level in levels])
    axes.set_xlim(-0.6, len(levels) - 0.4)
    axes.set_xlabel("Spinal level")
    axes.set_ylabel(_wrapped(f"{title} ({one.measure.unit})"))
    if one.measure.has_origin:
        axes.invert_yaxis()  # further down is lower in the body
    else:
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    name = "_".join(filter(None, (one.measure.column, one.origin, one.contrast)))
    return Drawing(name, f"{title}, {one.contrast}", figure, tuple(dots), dense)


def draw_counts(
    name: str, title: str, counts: Mapping[str, int], *, color: str = "#5b7083"
) -> Drawing:
    """Draw how many images there are of each kind.

    Parameters
    ----------
    name, title : str
        Name of the files, and what is counted.
    counts : mapping of str to int
        Images by kind, in the order from top to bottom.
    color : str
        Color of the bars.
    """
    figure, axes = _new_figure(_WIDTH_IN, 0.7 + _BAR_IN * max(len(counts), 2))
    places = range(len(counts))
    bars = axes.barh(places, list(counts.values()), height=0.7, color=color)
    axes.bar_label(bars, padding=2)
    axes.set_yticks(places, list(counts))
    axes.set_ylim(max(len(counts), 2) - 0.4, -0.6)
    axes.set_xlim(0, max(counts.values(), default=1) * 1.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("Images")
    return Drawing(name, title, figure)


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.add_subplot()


def _draw_level(
    axes: Any,
    place: int,
    *,
    level: int,
    values: Sequence[Value],
    dots: list[Value],
    dense: bool,
) -> None:
    """Draw the dots of one level, and note those that have an address."""
    numbers = np.array([one.value for one in values])
    around = place + _JITTER * (2 * ((np.arange(len(values)) * _GOLDEN) % 1) - 1)
    odd = np.array([one.is_outlier for one in values], dtype=bool)
    color = tuple(part / 255 for part in level_color(level))
    for chosen, marker, size, edge in ((~odd, "o", 7.0, 0.25), (odd, "D", 13.0, 0.9)):
        if not chosen.any():
            continue
        linked = marker == "D" or not dense
        points = axes.scatter(
            *(around[chosen], numbers[chosen]),
            **{"s": size, "marker": marker, "color": [color], "zorder": 2},
            **{"edgecolors": "black", "linewidths": edge, "rasterized": not linked},
        )
        if linked:
            new = [one for one, is_one in zip(values, chosen, strict=True) if is_one]
            points.set_urls([f"dot-{len(dots) + n}" for n in range(len(new))])
            dots += new
    median = float(np.median(numbers))
    axes.hlines(median, place - 0.42, place + 0.42, color="black", linewidth=1.2, zorder=3)


def _wrapped(text: str, width: int = 34) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, width))
