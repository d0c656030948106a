"""Plots of training: importances and the trials of a study. Not here: how they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from ml_assets.contracts.artifacts.training import Importances, Tuning
from ml_assets.contracts.errors import DataError
from ml_assets.logic.plots.drawing import (
    BLUE,
    FAINT,
    FEATURES,
    INK,
    MUTED,
    ORANGE,
    SKY,
    VERMILLION,
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
    from matplotlib.figure import Figure


_BARS = ("feature", "shap_share", "gain_share", "permutation", "permutation_std", "rank")


def importance_plot(importances: pl.DataFrame, metric: str) -> str:
    """Draw each feature's share of a model's mean |SHAP| and its permutation importance; the 25 first by rank.

    Without SHAP, only the permutation importance is drawn.
    """
    table = rows_with(importances, _BARS, "importances").sort("rank", "feature")
    first = table.head(1)
    title = f"{first['feature'][0]} carries {share(first['shap_share'][0])} of mean |SHAP|" if first.height else ""
    if first.height and first["shap_share"][0] is None:
        title = f"{first['feature'][0]} has the largest permutation importance"
    shown = table.head(FEATURES)
    return _Bars(shown, [BLUE] * shown.height, metric).svg("importances", title, more=table.height - shown.height)


def selection_plot(importances: Importances) -> str:
    """Draw the figures by which features were selected, with the injected noise; the first 25 by rank.

    Noise is the columns of the table that the summary lists neither as selected nor as dropped.
    """
    summary = importances.summary
    table = rows_with(importances.table, (*_BARS, "is_selected"), "importances").sort("rank", "feature")
    decided = (*summary.selected, *summary.dropped)
    is_noise = ~pl.col("feature").is_in(decided)
    noise = table.filter(is_noise)
    shown = pl.concat([table.filter(~is_noise).head(FEATURES), noise])
    colours = [
        FAINT if name not in decided else BLUE if is_selected else ORANGE
        for name, is_selected in shown.select("feature", "is_selected").iter_rows()
    ]
    keys = [("selected", BLUE), ("dropped", ORANGE)] + ([("injected noise", FAINT)] if noise.height else [])
    title = f"{len(summary.selected)} of {len(decided)} features are selected"
    lines = noise["permutation"].drop_nulls().to_list()
    bars = _Bars(shown, colours, summary.metric, keys, lines)
    return bars.svg("selection", title, more=table.height - shown.height)


@dataclass(frozen=True)
class _Bars:
    """Two panels of bars: shares of mean |SHAP| and gain, and permutation importance with dashed `lines`."""

    shown: pl.DataFrame
    colours: Sequence[str]
    metric: str
    keys: Sequence[tuple[str, str]] = ()
    lines: Sequence[float] = ()

    def svg(self, name: str, title: str, *, more: int) -> str:
        """Draw the panels; `more` features are not shown."""
        note = f"{more} less important features are not shown" if more else ""

        def draw(figure: Figure) -> None:
            self._draw(figure)
            if self.keys or note:
                legend(figure, self.keys, note)

        return draw_svg(name, title, draw, height=1.35 + 0.2 * self.shown.height)

    def _draw(self, figure: Figure) -> None:
        shown = self.shown
        is_explained = shown["shap_share"].null_count() < shown.height
        *shares, right = figure.subplots(1, 2 if is_explained else 1, sharey=True, squeeze=False)[0]
        at = list(range(shown.height))
        for left in shares:
            left.barh(at, _percent(shown["shap_share"]), color=self.colours, height=0.66)
            left.plot(_percent(shown["gain_share"]), at, "|", color=INK, markersize=7, markeredgewidth=1.2)
            left.set_xlabel("share of mean |SHAP|, % (tick: of gain)")
            left.set_xlim(left=0)
        first = shares[0] if shares else right
        first.set_yticks(at, [shorten(feature) for feature in shown["feature"]])
        first.set_ylim(shown.height - 0.4, -0.6)
        right.barh(
            at,
            as_floats(shown["permutation"]),
            xerr=as_floats(shown["permutation_std"]),
            color=self.colours,
            height=0.66,
            error_kw={"ecolor": MUTED, "elinewidth": 0.8},
        )
        right.axvline(0, color=FAINT, linewidth=0.8)
        for value in self.lines:
            right.axvline(value, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        right.set_xlabel(f"harm to {metric_name(self.metric)} when permuted\nlines: ± 1 sd of the shuffles alone")
        right.tick_params(axis="y", length=0)
        for axes in (*shares, right):
            light_grid(axes, "x")


def tuning_plot(tuning: Tuning) -> str:
    """Draw every trial's validation value and the best so far; pruned trials are crosses."""
    best = tuning.best
    trials = rows_with(tuning.trials, ("trial", "state", "value", "is_best"), "tuning").sort("trial")
    complete = trials.filter((pl.col("state") == "complete") & pl.col("value").is_not_null())
    pruned = trials.filter(pl.col("state") == "pruned")
    if complete.is_empty():
        raise DataError(
            f"no trial of the {trials.height} in artifact 'tuning' is complete; the plot wants at least one. "
            "Raise the tuning budget, or loosen the pruner."
        )
    values = complete["value"]
    # The direction is read off the study itself: its best trial is at one end of the complete ones.
    is_upward = abs(best.value - edge(values, "max")) <= abs(best.value - edge(values, "min"))
    running = values.cum_max() if is_upward else values.cum_min()
    chosen = trials.filter(pl.col("is_best"))
    name = metric_name(best.metric)
    number_of_best = f" in trial {chosen['trial'][0]}" if chosen.height else ""
    title = f"Best validation {name} {number(best.value)} (no interval){number_of_best}"
    title += f", of {best.trials} trials ({best.pruned} pruned)"

    def draw(figure: Figure) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = figure.subplots()
        axes.step(complete["trial"].to_list(), running.to_list(), where="post", color=SKY, linewidth=1.6)
        axes.plot(complete["trial"].to_list(), values.to_list(), "o", color=BLUE, markersize=4)
        with_value = pruned.filter(pl.col("value").is_not_null())
        axes.plot(with_value["trial"].to_list(), with_value["value"].to_list(), "x", color=ORANGE, markersize=5)
        # A pruned trial far off would squeeze the rest into a line: the complete ones set the scale.
        low, high = edge(values, "min"), edge(values, "max")
        pad = (high - low) * 0.15 or abs(high) * 0.01 or 0.01
        axes.set_ylim(low - pad, high + pad)
        for trial in pruned.filter(~pl.col("value").is_between(low - pad, high + pad) | pl.col("value").is_null())[
            "trial"
        ]:
            axes.plot(
                [trial], [0.02], "x", color=ORANGE, markersize=5, transform=axes.get_xaxis_transform(), clip_on=False
            )
        for trial, value in chosen.filter(pl.col("value").is_not_null()).select("trial", "value").iter_rows():
            axes.plot([trial], [value], "o", markersize=9, markerfacecolor="none", markeredgecolor=VERMILLION)
        axes.set(xlabel="trial", ylabel=f"{name} on validation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        light_grid(axes, "both")
        keys = [("trial", BLUE), ("best so far", SKY), ("the best", VERMILLION)]
        legend(figure, [*keys, ("pruned (×)", ORANGE)] if pruned.height else keys)

    return draw_svg("tuning", title, draw, height=3.4)


def _percent(values: pl.Series) -> list[float]:
    return [100 * value for value in as_floats(values)]
