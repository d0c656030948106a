"""Plots of monitoring: drift and performance, by feature and by day.

Not here: measuring (see `ml_assets.logic.monitoring`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import Drift, DriftSummary, PerformanceSummary, describe_states
from ml_assets.contracts.errors import DataError
from ml_assets.logic.plots.drawing import (
    BLUE,
    FAINT,
    FEATURES,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Item,
    as_floats,
    draw_svg,
    edge,
    interval,
    legend,
    light_grid,
    metric_name,
    number,
    rows_with,
    share,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def drift_plot(drift: Drift) -> str:
    """Draw the day's excess PSI of each feature and of the score; figures above a limit are marked.

    The 25 with the most weighted excess PSI are shown, and all that are above a limit.
    """
    wanted = ("feature", "kind", "excess_psi", "weight", "weighted_excess_psi", "is_over")
    weighted = pl.col("weighted_excess_psi").fill_null(-1.0)
    table = rows_with(drift.table, wanted, "drift").sort(
        pl.col("kind") != "score", -pl.col("is_over").cast(pl.Int8), -weighted, "feature"
    )
    shown = table.head(max(FEATURES, table.filter("is_over").height + 1))
    left_out = table.height - shown.height
    note = f"{left_out} features with less weighted excess PSI are not shown" if left_out else ""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        at = list(range(shown.height))
        colours = [
            VERMILLION if over else (PURPLE if kind == "score" else BLUE)
            for over, kind in zip(shown["is_over"], shown["kind"], strict=True)
        ]
        axes.barh(at, as_floats(shown["excess_psi"].fill_null(0)), color=colours, height=0.66)
        for place, psi, weight in zip(at, shown["excess_psi"], shown["weight"], strict=True):
            words = "not judged" if psi is None else number(psi)
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
        least, most = edge(shown["excess_psi"], "min"), edge(shown["excess_psi"], "max")
        axes.set_xlim(min(0.0, least), 1.35 * max(most, 0.05))
        of = drift.summary
        period = str(of.day) if of.first_day == of.day else f"{of.first_day} to {of.day}"
        axes.set_xlabel(f"excess PSI against the training data of the model ({of.rows:,} rows of {period})")
        light_grid(axes, "x")
        score = [("score", PURPLE)] if "score" in shown["kind"] else []
        legend(figure, [("feature", BLUE), *score, ("over its limit", VERMILLION)], note)

    sentence = drift.summary.sentence
    return draw_svg("drift", sentence[:1].upper() + sentence[1:], draw, height=1.4 + 0.2 * shown.height)


def drift_history_plot(summaries: Sequence[DriftSummary]) -> str:
    """Draw weighted excess PSI and the score's excess PSI by day.

    Days above a limit are marked, and days that are not judged are gaps. A dashed line marks where another model
    version begins to predict.
    """
    days = sorted(_some(summaries, "drift"), key=lambda summary: summary.at)
    measured = [summary for summary in days if summary.state != "not judged"]
    title = describe_states(summary.state for summary in days)
    title = title[:1].upper() + title[1:]
    if measured:
        title += f"; weighted excess PSI of {measured[-1].day}: {number(measured[-1].weighted_excess_psi)}"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        x = _dates(axes, days)
        marker = "o" if len(days) == 1 else ""
        score, weighted = (
            [math.nan if psi is None else psi for psi in series]
            for series in ([day.score_excess_psi for day in days], [day.weighted_excess_psi for day in days])
        )
        axes.plot(x, score, marker=marker, color=PURPLE, linewidth=1.2, markersize=4)
        axes.plot(x, weighted, marker=marker, color=BLUE, linewidth=1.6, markersize=4)
        marked = [(at, psi) for at, psi, day in zip(x, weighted, days, strict=True) if day.is_over]
        axes.plot([at for at, _ in marked], [psi for _, psi in marked], "o", color=VERMILLION, markersize=4.5)
        _mark_versions(axes, x, days)
        axes.set_ylabel("excess PSI")
        light_grid(axes, "both")
        legend(figure, [("weighted by importance", BLUE), ("score", PURPLE), ("over the limits", VERMILLION)])

    return draw_svg("drift_history", title, draw, height=2.9)


def performance_plot(summaries: Sequence[PerformanceSummary], metric: str) -> str:
    """Draw a metric of the labelled rows by day with its expected value, above the share of labels known.

    The expected value of a day without the metric is that of all its predictions. Such a day is a gap in the metric. A
    dashed line marks where another model version begins to predict.
    """
    days = sorted(_some(summaries, "performance"), key=lambda summary: summary.at)
    name = metric_name(metric)
    measured = [summary for summary in days if metric in summary.metrics]
    if measured:
        last = measured[-1]
        title = f"{name} {interval(last.measured[metric])} on {last.labelled:,} labelled rows of {last.day}"
        if metric in last.expected_labelled:
            title += f", {number(last.expected_labelled[metric])} was expected of them"
        title += f"; measured on {len(measured)} of {len(days)} days"
    else:
        title = f"{name} could not be measured yet on any of {len(days)} days"

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.4, 1]})
        x = _dates(bottom, days)
        expected = [
            (summary.expected_labelled if metric in summary.measured else summary.expected).get(metric, math.nan)
            for summary in days
        ]
        unknown = Interval(value=math.nan, low=None, high=None)
        actual = [summary.measured.get(metric, unknown) for summary in days]
        for at, figure_of_day in zip(x, actual, strict=True):
            if figure_of_day.low is not None and figure_of_day.high is not None:
                top.vlines(at, figure_of_day.low, figure_of_day.high, color=SKY, linewidth=1.2)
        top.plot(x, expected, color=ORANGE, linewidth=1.3, linestyle=(0, (4, 2)))
        top.plot(x, [it.value for it in actual], "o-", color=BLUE, linewidth=1.4, markersize=3)
        _mark_versions(top, x, days)
        top.set_ylabel(name)
        light_grid(top, "both")
        known = [100 * summary.labelled / summary.predictions if summary.predictions else 0.0 for summary in days]
        bottom.bar(x, known, color=FAINT, width=0.8 * _length(days))
        bottom.set(ylim=(0, 100), ylabel="labels\nknown, %")
        legend(figure, [("measured on labelled rows", BLUE), ("95 % interval", SKY), ("expected of them", ORANGE)])

    return draw_svg(f"performance_{metric}", title, draw, height=3.6)


def _mark_versions(axes: Axes, places: Sequence[float], days: Sequence[DriftSummary | PerformanceSummary]) -> None:
    """Draw a line before each day, or hour, that has another model version than the one before."""
    for place, day, before in zip(places[1:], days[1:], days[:-1], strict=True):
        if day.model_version != before.model_version:
            axes.axvline(place - 0.5 * _length(days), color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))


def _length(days: Sequence[DriftSummary | PerformanceSummary]) -> float:
    """Return how much of the x axis a period has: a day 1, an hour less."""
    return 1 if days[0].hour is None else 1 / 24


def _dates(axes: Axes, days: Sequence[DriftSummary | PerformanceSummary]) -> list[float]:
    """Put days, or hours, in order, on the x axis and return their positions in days."""
    from datetime import date as day_of

    begins = [summary.hour or summary.day for summary in days]
    places = [begin.toordinal() + (begin.hour / 24 if isinstance(begin, datetime) else 0) for begin in begins]
    first, last = begins[0].toordinal(), begins[-1].toordinal()
    # Steps are whole weeks and months; matplotlib's own date ticks are hours on short spans.
    step = next((step for step in (1, 2, 7, 14, 28) if (last - first) / step <= 8), (last - first) // 8)
    ticks = list(range(first, last + 1, step))
    is_one_year = begins[0].year == begins[-1].year
    pattern = "%Y-%m-%d" if len(ticks) <= 4 else "%m-%d" if is_one_year else "%y-%m-%d"
    axes.set_xticks(ticks, [day_of.fromordinal(tick).strftime(pattern) for tick in ticks])
    what, form = ("day", "%Y-%m-%d") if days[0].hour is None else ("hour (UTC)", "%Y-%m-%d %H:00")
    axes.set(xlim=(places[0] - 0.8, places[-1] + 0.8), xlabel=f"{what}, {begins[0]:{form}} to {begins[-1]:{form}}")
    return places


def _some(items: Sequence[Item], artifact: str) -> Sequence[Item]:
    if not items:
        raise DataError(f"artifact '{artifact}' has no days; the plot needs at least one. Materialize a day first.")
    return items
