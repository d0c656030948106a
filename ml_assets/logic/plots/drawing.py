"""Shared parts of all plots: colours, formatting of figures, axes, and reproducible SVG text.

Not here: the plots (see the other modules of this package).
"""

from __future__ import annotations

import base64
import html
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.evaluation.metrics import METRICS, metric_among

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Item = TypeVar("Item")
# Okabe and Ito, "Color Universal Design" (2008): distinguishable with every common colour blindness.
BLUE = "#0072b2"
SKY = "#56b4e9"
GREEN = "#009e73"
VERMILLION = "#d55e00"
ORANGE = "#e69f00"
PURPLE = "#cc79a7"
INK = "#24292f"
MUTED = "#656d76"
FAINT = "#b6bdc5"
GRID = "#e7eaee"
PAPER = "#ffffff"
# Names by which a page can change the colours of an inlined plot, for instance in dark mode.
COLOURS: Mapping[str, str] = {
    "plot-blue": BLUE, "plot-sky": SKY, "plot-green": GREEN, "plot-vermillion": VERMILLION, "plot-orange": ORANGE,
    "plot-purple": PURPLE, "plot-ink": INK, "plot-muted": MUTED, "plot-faint": FAINT, "plot-grid": GRID,
    "plot-paper": PAPER,
}  # fmt: skip
_WIDTH_INCHES = 640 / 96
FEATURES = 25
_FONTS = "system-ui,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif"


def number(value: float | None) -> str:
    """Format a figure with its significant digits: `0.731`, `12,345`, `0.00042`; a missing one is `–`."""
    if value is None or math.isnan(value):
        return "–"
    if isinstance(value, int):
        text = f"{value:,d}"
    elif 0 < abs(value) < 0.01:
        text = f"{value:.2g}"
    else:
        text = f"{value:z,.{_decimals(value)}f}"
    return text.replace("-", "−")


def interval(figure: Interval) -> str:
    """Format a figure with its interval, all with the same digits: `0.731 [0.724, 0.738]`."""
    if figure.low is None or figure.high is None:
        return f"{number(figure.value)} (no interval)"
    decimals = _decimals(figure.value)
    # With fewer digits, a narrow interval would look like a point.
    while decimals < 6 and 0 < figure.high - figure.low < 3 * 10**-decimals:
        decimals += 1
    value, low, high = (
        "–" if math.isnan(part) else f"{part:z,.{decimals}f}".replace("-", "−")
        for part in (figure.value, figure.low, figure.high)
    )
    return f"{value} [{low}, {high}]"


def _decimals(value: float) -> int:
    """Return the number of decimals for a figure of this size."""
    size = abs(value)
    if size == 0:
        return 3
    return next((decimals for least, decimals in ((1000, 0), (100, 1), (10, 2), (0.01, 3)) if size >= least), 4)


def metric_name(metric: str) -> str:
    """Return the title of a metric; an unknown metric keeps its name."""
    known = metric_among(metric, METRICS)
    return known.title if known is not None else metric


def share(value: float | None) -> str:
    """Format a share as a percentage: `17.3 %`; a missing one is `–`."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:z.1f} %".replace("-", "−")


def as_markdown_image(svg: str, alt: str) -> str:
    """Return a plot as a Markdown image with a data URI, which Dagster's UI shows in Markdown metadata.

    Its renderer allows `data:` sources (ui-core/src/ui/MarkdownWithPlugins.tsx of dagster-webserver 1.13).
    """
    words = re.sub(r"([\\\[\]])", r"\\\1", " ".join(alt.split()))
    return f"![{words}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')})"


def legend(figure: Figure, keys: Sequence[tuple[str, str]], note: str = "") -> None:
    """Draw the legend below the plot: a dot and a word per colour."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", linestyle="", color=colour, markersize=6) for _, colour in keys]
    words = [word for word, _ in keys]
    if note:
        handles.append(Line2D([], [], linestyle="", color=PAPER))
        words.append(note.strip())
    figure.legend(
        handles,
        words,
        loc="outside lower left",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        labelcolor=MUTED,
        handletextpad=0.2,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def light_grid(axes: Axes, axis: str) -> None:
    """Draw light grid lines behind the data."""
    for which in ("x", "y"):
        if axis in (which, "both"):
            (axes.xaxis if which == "x" else axes.yaxis).grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def shorten(text: str, most: int = 34) -> str:
    """Shorten a long name in its middle, where names differ least."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def as_floats(values: pl.Series) -> list[float]:
    """Return plain floats. A missing value is nan, which matplotlib ignores."""
    return [math.nan if value is None else float(value) for value in values]


def edge(values: pl.Series, which: str) -> float:
    """Return the least or greatest value; 0 if all are missing."""
    found = [value for value in as_floats(values) if not math.isnan(value)]
    if not found:
        return 0.0
    return min(found) if which == "min" else max(found)


def rows_with(frame: pl.DataFrame, wanted: Sequence[str], artifact: str) -> pl.DataFrame:
    """Return the frame if it can be plotted.

    Raises:
        ContractError: Columns are missing; all of them are named.
        DataError: There are no rows.
    """
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise ContractError(
            f"columns {', '.join(map(repr, missing))} of artifact '{artifact}' are missing; the plot needs "
            f"{', '.join(wanted)}, got {', '.join(frame.columns) or 'none'}. Materialize the artifact again."
        )
    if frame.is_empty():
        raise DataError(
            f"artifact '{artifact}' has no rows; the plot needs at least one. Materialize the artifact again."
        )
    return frame


def draw_svg(name: str, title: str, draw: Callable[[Figure], None], *, height: float) -> str:
    """Draw on a new figure of 640 px and return its SVG. `draw` adds the axes; the height is in inches of 96 px.

    The title is the fact that the plot shows. Ids in the text begin with `name`, so that a page can have several plots.
    """
    import io

    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    lines = textwrap.wrap(" ".join(title.split()), 74)
    with mpl.rc_context():
        _style(name)
        figure = Canvas(figsize=(_WIDTH_INCHES, height + 0.17 * (len(lines) - 1)), layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle("\n".join(lines), x=0.008, ha="left", fontsize=10.5, weight="bold", color=INK)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _compact(buffer.getvalue(), name, title)


def _style(name: str) -> None:
    """Set all of matplotlib's settings, so that a matplotlibrc has no effect; the caller restores them."""
    import matplotlib as mpl

    mpl.rcdefaults()
    # This font comes with matplotlib, so the layout does not depend on the machine. Most replacements are narrower.
    mpl.rc("font", family="DejaVu Sans", size=8.5)
    mpl.rc("text", color=INK, parse_math=False)
    mpl.rc("axes", edgecolor=FAINT, facecolor="none", labelcolor=MUTED, labelsize=8.5)
    mpl.rc("axes.spines", right=False, top=False)
    mpl.rc("xtick", color=FAINT, labelcolor=MUTED, labelsize=8)
    mpl.rc("ytick", color=FAINT, labelcolor=INK, labelsize=8)
    mpl.rc("figure", dpi=72, facecolor=PAPER)
    mpl.rc("figure.constrained_layout", h_pad=0.06)
    mpl.rc("savefig", dpi=72)
    mpl.rc("svg", fonttype="none", hashsalt=name)


def _compact(svg: str, name: str, title: str) -> str:
    """Prepare matplotlib's SVG for inlining: no prolog, no ids that clash, short numbers, colours by name."""
    head = re.search(r'<svg[^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg)
    if head is None:  # pragma: no cover - every figure of matplotlib has one
        raise RuntimeError(f"matplotlib wrote plot '{name}' without a viewBox")
    width, height = (float(size) for size in head.groups())
    body = svg[head.end() :]
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', body))
    body = re.sub(r' id="([\w.-]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    # matplotlib's only style rule selects every element of a page, so it is moved to the root element.
    body = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", body)
    body = re.sub(r">\s+<", "><", body).strip()
    body = re.sub(
        r' (d|x|y|width|height|transform)="([^"]*)"',
        lambda found: f' {found[1]}="{_numbers(" ".join(found[2].split()))}"',
        body,
    )
    body = body.replace("; font-family: 'DejaVu Sans'", "")
    for colour, value in COLOURS.items():
        body = re.sub(rf"(?<=: ){value}\b", f"var(--{colour},{value})", body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" role="img" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}" font-family="{_FONTS}" '
        'stroke-linejoin="round" stroke-linecap="butt">'
        f"<title>{html.escape(' '.join(title.split()))}</title>{body}"
    )


def _numbers(text: str) -> str:
    """Round to a hundredth of a point, which is not visible."""
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), text)
