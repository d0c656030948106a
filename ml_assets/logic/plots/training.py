"""Plots of what training looked at: importances and the trials of a study.

Measuring stays out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

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

    from ml_assets.contracts.artifacts import (
        Importances,
        Tuning,
    )


def importance_plot(importances: Importances) -> str:
    """Draw each feature's share of mean |SHAP| and its permutation importance, beside the injected noise.

    The 25 first by rank are shown. Noise is what the table holds and the summary neither keeps nor drops.
    """
    summary = importances.summary
    wanted = ("feature", "shap_share", "gain_share", "permutation", "permutation_std", "kept", "rank")
    table = rows_with(importances.table, wanted, "importances").sort("rank", "feature")
    decided = (*summary.kept, *summary.dropped)
    is_noise = ~pl.col("feature").is_in(decided)
    noise = table.filter(is_noise)
    shown = pl.concat([table.filter(~is_noise).head(FEATURES), noise])
    left_out = table.height - shown.height
    first = table.filter(~is_noise).sort("shap_share", descending=True, nulls_last=True).head(1)
    title = f"{len(summary.kept)} of {len(decided)} features stay"
    if first.height:
        title += f"; {first['feature'][0]} carries {share(first['shap_share'][0])} of |SHAP|"
    note = "lines: ± 1 sd" + (f"; {left_out} less important features are not shown" if left_out else "")

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        at = list(range(shown.height))
        noisy = shown.select(is_noise).to_series().to_list()
        colours = [
            FAINT if is_it else (BLUE if kept else ORANGE) for is_it, kept in zip(noisy, shown["kept"], strict=True)
        ]
        left.barh(at, _percent(shown["shap_share"]), color=colours, height=0.66)
        left.plot(_percent(shown["gain_share"]), at, "|", color=INK, markersize=7, markeredgewidth=1.2)
        left.set_xlabel("share of mean |SHAP|, % (tick: of gain)")
        left.set_yticks(at, [shorten(name) for name in shown["feature"]])
        left.set_ylim(shown.height - 0.4, -0.6)
        left.set_xlim(left=0)
        right.barh(
            at,
            as_floats(shown["permutation"]),
            xerr=as_floats(shown["permutation_std"]),
            color=colours,
            height=0.66,
            error_kw={"ecolor": MUTED, "elinewidth": 0.8},
        )
        right.axvline(0, color=FAINT, linewidth=0.8)
        for value in noise["permutation"].drop_nulls():
            right.axvline(value, color=MUTED, linewidth=0.9, linestyle=(0, (3, 3)))
        right.set_xlabel(f"harm to {metric_name(summary.metric)} when permuted")
        right.tick_params(axis="y", length=0)
        for axes in (left, right):
            light_grid(axes, "x")
        keys = [("kept", BLUE), ("dropped", ORANGE)] + ([("injected noise", FAINT)] if noise.height else [])
        legend(figure, keys, note)

    return draw_svg("importances", title, draw, height=1.35 + 0.2 * shown.height)


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
    title = f"Best {name} {number(best.value)}{number_of_best}, of {best.trials} trials ({best.pruned} pruned)"

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
        axes.set_xlabel("trial")
        axes.set_ylabel(f"{name} on validation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        light_grid(axes, "both")
        keys = [("trial", BLUE), ("best so far", SKY), ("the best", VERMILLION)]
        legend(figure, [*keys, ("pruned (×)", ORANGE)] if pruned.height else keys)

    return draw_svg("tuning", title, draw, height=3.4)


def _percent(values: pl.Series) -> list[float]:
    return [100 * value for value in as_floats(values)]
