"""Plots of a backtest: the metric by week, the gain over never retraining, and the number of trained models.

Not here: measuring (see `ml_assets.logic.backtest.simulation_report`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.plots.drawing import (
    BLUE,
    FAINT,
    GREEN,
    MUTED,
    ORANGE,
    PAPER,
    VERMILLION,
    draw_svg,
    legend,
    light_grid,
    number,
    rows_with,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = {"never": MUTED, "monthly": ORANGE, "weekly": GREEN, "triggered": BLUE}
_STRONG: Final = "triggered"
_MONTHS: Final = 70
"""From this number of days on, months are marked instead of weeks."""


def weeks_plot(weeks: pl.DataFrame, events: pl.DataFrame, metric: Metric) -> str:
    """Draw the metric of each policy by week, and below it when triggered retraining trained."""
    frame = rows_with(weeks, ["policy", "first_day", "value"], "simulation")
    policies = frame["policy"].unique(maintain_order=True).to_list()
    own = events.filter(pl.col("policy") == _STRONG) if _STRONG in policies else events.clear()
    title = f"{metric.title} by week of {number(frame['first_day'].n_unique())} weeks"
    if _STRONG in policies:
        title += f"; triggered retraining trained {own.filter(pl.col('cause') != 'watch').height} times"

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [7, 1]})
        for policy in policies:
            _line(top, frame.filter(pl.col("policy") == policy), policy, "value")
        top.set_ylabel(metric.title)
        light_grid(top, "both")
        for outcome, colour, filled in (
            ("promoted", BLUE, True),
            ("rejected", BLUE, False),
            ("rolled back", VERMILLION, True),
        ):
            days = own.filter(pl.col("outcome") == outcome)["day"].to_list()
            bottom.plot(
                [day.toordinal() for day in days], [0] * len(days), "o", color=colour, markersize=5,
                markerfacecolor=colour if filled else PAPER,
            )  # fmt: skip
        bottom.set_ylim(-1, 1)
        bottom.set_yticks([0], ["triggered"])
        bottom.tick_params(length=0)
        bottom.spines["left"].set_visible(False)
        _days_axis(bottom, frame)
        note = "below: filled is promoted, hollow rejected" if own.height else ""
        legend(figure, [(policy, COLOURS[policy]) for policy in policies], note)

    return draw_svg("simulation_weeks", title, draw, height=3.7)


def gains_plot(weeks: pl.DataFrame, metric: Metric) -> str:
    """Draw the gain of each policy over never retraining: the sum of the weeks' gains, weighted by rows."""
    frame = rows_with(weeks, ["policy", "first_day", "value", "rows"], "simulation")
    base = frame.filter(pl.col("policy") == "never").select("first_day", base="value")
    sign = 1 if metric.higher_is_better else -1
    gained = (
        frame.filter(pl.col("policy") != "never")
        .join(base, on="first_day", how="left", maintain_order="left")
        .with_columns(gain=((pl.col("value") - pl.col("base")) * sign * pl.col("rows")).fill_null(0.0))
        .with_columns(gained=pl.col("gain").cum_sum().over("policy") / pl.col("rows").sum().over("policy"))
    )
    policies = gained["policy"].unique(maintain_order=True).to_list()
    ends = [f"{policy} {number(gained.filter(pl.col('policy') == policy)['gained'][-1])}" for policy in policies]
    title = f"Cumulative gain over never retraining: {', '.join(ends)}"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=FAINT, linewidth=0.8)
        for policy in policies:
            _line(axes, gained.filter(pl.col("policy") == policy), policy, "gained")
        axes.set_ylabel(f"gain in {metric.title},\ncumulative")
        light_grid(axes, "both")
        _days_axis(axes, frame)
        legend(figure, [(policy, COLOURS[policy]) for policy in policies], "above zero is better")

    return draw_svg("simulation_gains", title, draw, height=2.8)


def fits_plot(weeks: pl.DataFrame, events: pl.DataFrame) -> str:
    """Draw how many models each policy has trained by each day."""
    frame = rows_with(weeks, ["policy", "first_day", "last_day"], "simulation")
    policies = frame["policy"].unique(maintain_order=True).to_list()
    trained = {
        policy: events.filter(pl.col("policy") == policy, pl.col("cause") != "watch")["day"].to_list()
        for policy in policies
    }
    title = "Models trained: " + ", ".join(f"{policy} {len(days)}" for policy, days in trained.items())

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        first, last = _ends(frame)
        for policy, days in trained.items():
            x = [first.toordinal(), *(day.toordinal() for day in days), last.toordinal()]
            y = [0, *range(1, len(days) + 1), len(days)]
            axes.step(x, y, where="post", color=COLOURS[policy], linewidth=2.0 if policy == _STRONG else 1.3)
        axes.set_ylabel("fits so far")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        light_grid(axes, "both")
        _days_axis(axes, frame)
        legend(figure, [(policy, COLOURS[policy]) for policy in policies])

    return draw_svg("simulation_fits", title, draw, height=2.4)


def _line(axes: Axes, rows: pl.DataFrame, policy: str, column: str) -> None:
    """Draw one policy; the highlighted one is on top."""
    is_strong = policy == _STRONG
    x = [day.toordinal() for day in rows["first_day"]]
    y = [math.nan if value is None else value for value in rows[column]]
    axes.plot(
        x, y, color=COLOURS[policy], linewidth=2.0 if is_strong else 1.2, zorder=3 if is_strong else 2,
        marker="o" if len(x) == 1 else "", markersize=4, linestyle=(0, (3, 2)) if policy == "never" else "-",
    )  # fmt: skip


def _ends(frame: pl.DataFrame) -> tuple[date, date]:
    days: Sequence[date] = frame.sort("first_day")["first_day"].to_list()
    ends: Sequence[date] = frame.sort("last_day")["last_day"].to_list()
    return days[0], ends[-1]


def _days_axis(axes: Axes, frame: pl.DataFrame) -> None:
    """Mark months, or every other week where there are few."""
    first, last = _ends(frame)
    days = pl.date_range(first, last, "1d", eager=True)
    if days.len() > _MONTHS:
        ticks = days.filter(days.dt.day() == 1).to_list()
        words = [tick.strftime("%b") if tick.month > 1 else tick.strftime("%b\n%Y") for tick in ticks]
    else:
        ticks = days.gather_every(7 if days.len() <= _MONTHS // 2 else 14).to_list()
        words = [tick.strftime("%m-%d") for tick in ticks]
    axes.set_xticks([tick.toordinal() for tick in ticks], words)
    axes.set(xlim=(first.toordinal() - 1, last.toordinal() + 1), xlabel=f"day, {first} to {last}")
