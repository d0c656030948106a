"""Plots of what came after promotion: drift and performance, by feature and by day.

Measuring stays out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.logic.plots.drawing import (
    BLUE,
    FAINT,
    FEATURES,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILLION,
    Item,
    as_floats,
    draw_svg,
    edge,
    legend,
    light_grid,
    metric_name,
    number,
    rows_with,
    share,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ml_assets.contracts.artifacts import (
        Drift,
        DriftSummary,
        PerformanceSummary,
    )


def drift_plot(drift: Drift) -> str:
    """Draw the day's PSI of each feature and of the score; what is over its limit is marked.

    The 25 with the most weighted PSI are shown, and all that are over.
    """
    wanted = ("feature", "kind", "psi", "weight", "weighted_psi", "is_over")
    table = rows_with(drift.table, wanted, "drift").sort(
        pl.col("kind") != "score", -pl.col("is_over").cast(pl.Int8), -pl.col("weighted_psi").fill_null(-1.0), "feature"
    )
    shown = table.head(max(FEATURES, table.filter("is_over").height + 1))
    left_out = table.height - shown.height
    note = f"{left_out} features with less weighted PSI are not shown" if left_out else ""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        at = list(range(shown.height))
        colours = [
            VERMILLION if over else (PURPLE if kind == "score" else BLUE)
            for over, kind in zip(shown["is_over"], shown["kind"], strict=True)
        ]
        axes.barh(at, as_floats(shown["psi"].fill_null(0)), color=colours, height=0.66)
        for place, psi, weight in zip(at, shown["psi"], shown["weight"], strict=True):
            words = "not measured" if psi is None else number(psi)
            if weight is not None:
                words += f"  (weight {share(weight)})"
            axes.annotate(
                words,
                (psi or 0.0, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=MUTED,
            )
        axes.set_yticks(at, [shorten(name) for name in shown["feature"]])
        axes.set_ylim(shown.height - 0.4, -0.6)
        axes.set_xlim(min(0.0, edge(shown["psi"], "min")), 1.35 * max(edge(shown["psi"], "max"), 0.05))
        axes.set_xlabel(f"PSI against the champion's reference ({drift.summary.rows:,} rows of {drift.summary.day})")
        light_grid(axes, "x")
        score = [("score", PURPLE)] if "score" in shown["kind"] else []
        legend(figure, [("feature", BLUE), *score, ("over its limit", VERMILLION)], note)

    sentence = drift.summary.sentence
    return draw_svg("drift", sentence[:1].upper() + sentence[1:], draw, height=1.4 + 0.2 * shown.height)


def drift_history_plot(summaries: Sequence[DriftSummary]) -> str:
    """Draw weighted PSI and the score's PSI day by day; days over the limits are marked, unmeasured ones are gaps."""
    days = sorted(_some(summaries, "drift"), key=lambda summary: summary.day)
    over = sum(summary.is_over for summary in days)
    measured = [summary for summary in days if summary.weighted_psi is not None]
    title = f"{over} of {len(days)} days are over the limits"
    if measured:
        title += f"; weighted PSI {number(measured[-1].weighted_psi)} on {measured[-1].day}"
    if len(measured) < len(days):
        title += f"; {len(days) - len(measured)} not measured, for too few rows"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        x = _dates(axes, [summary.day for summary in days])
        marker = "o" if len(days) == 1 else ""
        score, weighted = (
            [math.nan if psi is None else psi for psi in series]
            for series in ([day.score_psi for day in days], [day.weighted_psi for day in days])
        )
        axes.plot(x, score, marker=marker, color=PURPLE, linewidth=1.2, markersize=4)
        axes.plot(x, weighted, marker=marker, color=BLUE, linewidth=1.6, markersize=4)
        marked = [(at, psi) for at, psi, day in zip(x, weighted, days, strict=True) if day.is_over]
        axes.plot([at for at, _ in marked], [psi for _, psi in marked], "o", color=VERMILLION, markersize=4.5)
        axes.set_ylabel("PSI")
        light_grid(axes, "both")
        legend(figure, [("weighted by importance", BLUE), ("score", PURPLE), ("over the limits", VERMILLION)])

    return draw_svg("drift_history", title, draw, height=2.9)


def performance_plot(summaries: Sequence[PerformanceSummary], metric: str) -> str:
    """Draw a metric on matured labels day by day beside what was expected, over the share of labels known.

    A day without the figure is a gap.
    """
    days = sorted(_some(summaries, "performance"), key=lambda summary: summary.day)
    name = metric_name(metric)
    measured = [summary for summary in days if metric in summary.metrics]
    if measured:
        last = measured[-1]
        title = f"{name} {number(last.metrics[metric])} on {last.day}"
        if metric in last.expected:
            title += f", {number(last.expected[metric])} was expected"
        title += f"; measured on {len(measured)} of {len(days)} days"
    else:
        title = f"{name} could not be measured yet on any of {len(days)} days"

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.4, 1]})
        x = _dates(bottom, [summary.day for summary in days])
        expected = [summary.expected.get(metric, math.nan) for summary in days]
        actual = [summary.metrics.get(metric, math.nan) for summary in days]
        top.plot(x, expected, color=ORANGE, linewidth=1.3, linestyle=(0, (4, 2)))
        top.plot(x, actual, "o-", color=BLUE, linewidth=1.4, markersize=3)
        top.set_ylabel(name)
        light_grid(top, "both")
        known = [100 * summary.labelled / summary.predictions if summary.predictions else 0.0 for summary in days]
        bottom.bar(x, known, color=FAINT, width=0.8)
        bottom.set_ylim(0, 100)
        bottom.set_ylabel("labels\nknown, %")
        legend(figure, [("measured on labels", BLUE), ("expected before labels", ORANGE)])

    return draw_svg(f"performance_{metric}", title, draw, height=3.6)


def _dates(axes: Axes, days: Sequence[date]) -> list[int]:
    """Put days, in order, on the x axis and return their places on it."""
    from datetime import date as day_of

    places = [day.toordinal() for day in days]
    first, last = places[0], places[-1]
    # Steps in whole weeks and months; matplotlib's own date ticks fall to hours on short spans.
    step = next((step for step in (1, 2, 7, 14, 28) if (last - first) / step <= 8), (last - first) // 8)
    ticks = list(range(first, last + 1, step))
    pattern = "%Y-%m-%d" if len(ticks) <= 4 else "%m-%d" if days[0].year == days[-1].year else "%y-%m-%d"
    axes.set_xticks(ticks, [day_of.fromordinal(tick).strftime(pattern) for tick in ticks])
    axes.set_xlim(first - 0.8, last + 0.8)
    axes.set_xlabel(f"day, {days[0]} to {days[-1]}")
    return places


def _some(items: Sequence[Item], artifact: str) -> Sequence[Item]:
    if not items:
        raise DataError(f"artifact '{artifact}' has no days; the plot wants at least one. Materialize a day first.")
    return items
