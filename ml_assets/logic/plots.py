"""Plots of a model's artifacts as small SVG text: the same artifact gives the same text.

What is plotted is computed elsewhere, and nothing is written here: a plot is a string in metadata or in the card.
"""

from __future__ import annotations

import base64
import html
import math
import re
import textwrap
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.metrics import METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from numpy.typing import NDArray

    from ml_assets.contracts.artifacts import (
        Drift,
        DriftSummary,
        Evaluation,
        EvaluationSummary,
        Importances,
        Interval,
        PerformanceSummary,
        Tuning,
    )

Item = TypeVar("Item")

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common colour blindness.
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

# The names under which a page may recolour an inlined plot, for instance in the dark.
COLOURS: Mapping[str, str] = {
    "plot-blue": BLUE,
    "plot-sky": SKY,
    "plot-green": GREEN,
    "plot-vermillion": VERMILLION,
    "plot-orange": ORANGE,
    "plot-purple": PURPLE,
    "plot-ink": INK,
    "plot-muted": MUTED,
    "plot-faint": FAINT,
    "plot-grid": GRID,
    "plot-paper": PAPER,
}

_WIDTH_INCHES = 640 / 96
_POINTS = 200
_FEATURES = 25
_SLICES = 32
_CLASSES = 12
_FONTS = "system-ui,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif"


# ---------------------------------------------------------------------------------------------------------------------
# Figures in words


def number(value: float | None) -> str:
    """Write a figure with the digits that matter: `0.731`, `12,345`, `0.00042`; a missing one is `–`."""
    if value is None or math.isnan(value):
        return "–"
    if isinstance(value, int):
        text = f"{value:,d}"
    elif 0 < abs(value) < 0.01:
        text = f"{value:.2g}"
    else:
        text = f"{value:,.{_decimals(value)}f}"
    return text.replace("-", "−")


def interval(figure: Interval) -> str:
    """Write a figure with its interval, all with the same digits: `0.731 [0.724, 0.738]`."""
    decimals = _decimals(figure.value)
    # An interval narrower than the last digit would look like a point.
    while decimals < 6 and 0 < figure.high - figure.low < 3 * 10**-decimals:
        decimals += 1
    value, low, high = (
        "–" if math.isnan(part) else f"{part:,.{decimals}f}".replace("-", "−")
        for part in (figure.value, figure.low, figure.high)
    )
    return f"{value} [{low}, {high}]"


def _decimals(value: float) -> int:
    """Return how many decimals a figure of this size needs."""
    size = abs(value)
    if size == 0:
        return 3
    return next((decimals for least, decimals in ((1000, 0), (100, 1), (10, 2), (0.01, 3)) if size >= least), 4)


def metric_name(metric: str) -> str:
    """Return a metric's name for people; an unknown one keeps its own."""
    known = METRICS.get(metric)
    return known.title if known is not None else metric


def share(value: float | None) -> str:
    """Write a share as a percentage: `17.3 %`; a missing one is `–`."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:.1f} %".replace("-", "−")


def as_markdown_image(svg: str, alt: str) -> str:
    """Return a plot as a Markdown image with a data URI, which Dagster's UI shows in Markdown metadata.

    Its renderer lets `data:` sources through (ui-core/src/ui/MarkdownWithPlugins.tsx of dagster-webserver 1.13).
    """
    words = re.sub(r"([\\\[\]])", r"\\\1", " ".join(alt.split()))
    return f"![{words}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode('ascii')})"


# ---------------------------------------------------------------------------------------------------------------------
# Importances and tuning


def importance_plot(importances: Importances) -> str:
    """Draw each feature's share of mean |SHAP| and its permutation importance, beside the injected noise.

    The 25 first by rank are shown. Noise is what the table holds and the summary neither keeps nor drops.
    """
    summary = importances.summary
    wanted = ("feature", "shap_share", "gain_share", "permutation", "permutation_std", "kept", "rank")
    table = _rows(importances.table, wanted, "importances").sort("rank", "feature")
    decided = (*summary.kept, *summary.dropped)
    is_noise = ~pl.col("feature").is_in(decided)
    noise = table.filter(is_noise)
    shown = pl.concat([table.filter(~is_noise).head(_FEATURES), noise])
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
        left.set_yticks(at, [_short(name) for name in shown["feature"]])
        left.set_ylim(shown.height - 0.4, -0.6)
        left.set_xlim(left=0)
        right.barh(
            at,
            _floats(shown["permutation"]),
            xerr=_floats(shown["permutation_std"]),
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
            _grid(axes, "x")
        keys = [("kept", BLUE), ("dropped", ORANGE)] + ([("injected noise", FAINT)] if noise.height else [])
        _keys(figure, keys, note)

    return _svg("importances", title, draw, height=1.35 + 0.2 * shown.height)


def tuning_plot(tuning: Tuning) -> str:
    """Draw every trial's validation value and the best so far; pruned trials are crosses."""
    best = tuning.best
    trials = _rows(tuning.trials, ("trial", "state", "value", "is_best"), "tuning").sort("trial")
    complete = trials.filter((pl.col("state") == "complete") & pl.col("value").is_not_null())
    pruned = trials.filter(pl.col("state") == "pruned")
    if complete.is_empty():
        raise DataError(
            f"no trial of the {trials.height} in artifact 'tuning' is complete; the plot wants at least one. "
            "Raise the tuning budget, or loosen the pruner."
        )
    values = complete["value"]
    # The direction is read off the study itself: its best trial is at one end of the complete ones.
    is_upward = abs(best.value - _end(values, "max")) <= abs(best.value - _end(values, "min"))
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
        low, high = _end(values, "min"), _end(values, "max")
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
        _grid(axes, "both")
        keys = [("trial", BLUE), ("best so far", SKY), ("the best", VERMILLION)]
        _keys(figure, [*keys, ("pruned (×)", ORANGE)] if pruned.height else keys)

    return _svg("tuning", title, draw, height=3.4)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation


def evaluation_plots(evaluation: Evaluation, *, classes: Sequence[str] = ()) -> dict[str, str]:
    """Draw all plots that the evaluation's task and content allow, by name, in reading order.

    Args:
        evaluation: The challenger's report.
        classes: The classes in the order of the confusion's indices; without them the indices are shown.
    """
    have = set(evaluation.curves["curve"].unique()) if evaluation.curves.height else set()
    plots: dict[str, str] = {}
    if "roc" in have:
        plots["roc"] = roc_plot(evaluation)
    if "precision_recall" in have:
        plots["precision_recall"] = precision_recall_plot(evaluation)
    if evaluation.summary.task == "binary" and evaluation.calibration.height:
        plots["calibration"] = calibration_plot(evaluation)
    if "predicted_actual" in have:
        plots["predicted_actual"] = predicted_actual_plot(evaluation)
    if "residual_quantiles" in have:
        plots["residuals"] = residual_plot(evaluation)
    if "confusion" in have:
        plots["confusion"] = confusion_plot(evaluation, classes=classes)
    if "score_histogram" in have:
        plots["score_histogram"] = score_histogram(evaluation)
    if evaluation.slices.height:
        plots["slices"] = slice_plot(evaluation)
    return plots


def roc_plot(evaluation: Evaluation) -> str:
    """Draw the ROC curve, and ROC AUC with its interval beside the baselines'."""
    curve = _curve(evaluation, "roc")

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        axes.text(0.62, 0.54, "chance", color=MUTED, fontsize=8)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")

    return _curve_with_baselines(evaluation.summary, "roc", "roc_auc", curve, draw)


def precision_recall_plot(evaluation: Evaluation) -> str:
    """Draw precision against recall, and average precision with its interval beside the baselines'."""
    curve = _curve(evaluation, "precision_recall")
    rate = evaluation.summary.target_mean

    def draw(axes: Axes) -> None:
        if rate is not None:
            axes.axhline(rate, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
            axes.text(0.02, rate + 0.015, f"share of positives {share(rate)}", color=MUTED, fontsize=8)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")

    return _curve_with_baselines(evaluation.summary, "precision_recall", "average_precision", curve, draw)


def calibration_plot(evaluation: Evaluation) -> str:
    """Draw what came true against what was said, with Wilson 95 % intervals, over the scores' distribution.

    For a regression this is `predicted_actual_plot`.
    """
    summary = evaluation.summary
    if summary.task == "regression":
        return predicted_actual_plot(evaluation)
    wanted = ("score_mean", "truth_mean", "low", "high", "rows")
    bins = _rows(evaluation.calibration, wanted, "evaluation (calibration)").sort("score_mean")
    have_scores = evaluation.curves.filter(pl.col("curve") == "score_histogram").sort("x")
    inside = bins.filter(pl.col("score_mean").is_between(pl.col("low"), pl.col("high"))).height
    measured = summary.metrics.get("calibration_error")
    if measured is not None:
        title = f"Calibration error {interval(measured)}"
    elif summary.calibration_error is not None:
        title = f"Calibration error {number(summary.calibration_error)}"
    else:
        title = "Calibration"
    title += f"; in {inside} of {bins.height} bins the score is within the interval of the truth"

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1]})
        said, true = _floats(bins["score_mean"]), _floats(bins["truth_mean"])
        reach = min(1.0, 1.06 * max(*said, *_floats(bins["high"].fill_null(0)), 0.05))
        top.plot([0, reach], [0, reach], color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        down = (bins["truth_mean"] - bins["low"]).clip(lower_bound=0)
        up = (bins["high"] - bins["truth_mean"]).clip(lower_bound=0)
        top.errorbar(said, true, yerr=[_floats(down), _floats(up)], fmt="none", ecolor=SKY, elinewidth=1.4)
        top.plot(said, true, "o-", color=BLUE, markersize=4, linewidth=1)
        top.text(0.98 * reach, 0.04 * reach, "dashed: as often as said", color=MUTED, fontsize=8, ha="right")
        top.set_ylabel("share that came true")
        top.set_xlim(0, reach)
        top.set_ylim(0, reach)
        _grid(top, "both")
        if have_scores.height:
            _histogram(bottom, have_scores)
        else:
            bottom.bar(said, bins["rows"].to_list(), width=0.6 * reach / bins.height, color=FAINT)
        bottom.set_ylabel("rows")
        bottom.set_xlabel("score (probability said)")
        _grid(bottom, "y")

    return _svg("calibration", title, draw, height=4.4)


def score_histogram(evaluation: Evaluation) -> str:
    """Draw how many test rows got which score."""
    bins = _curve(evaluation, "score_histogram")
    summary = evaluation.summary
    title = f"Scores of {summary.rows:,} test rows"
    is_binary = summary.task == "binary" and summary.target_mean is not None
    if is_binary:
        title += f", of which {share(summary.target_mean)} are positive"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        _histogram(axes, bins)
        if is_binary and summary.target_mean is not None:
            axes.axvline(summary.target_mean, color=VERMILLION, linewidth=1.2)
            axes.annotate(
                "share of positives",
                (summary.target_mean, 0.97),
                xycoords=axes.get_xaxis_transform(),
                xytext=(4, 0),
                textcoords="offset points",
                color=VERMILLION,
                fontsize=8,
                va="top",
            )
        axes.set_xlabel("predicted value" if summary.task == "regression" else "score")
        axes.set_ylabel("rows")
        _grid(axes, "y")

    return _svg("score_histogram", title, draw, height=2.8)


def predicted_actual_plot(evaluation: Evaluation) -> str:
    """Draw the mean actual value against the mean predicted one, bin by bin (regression)."""
    bins = _curve(evaluation, "predicted_actual")
    metrics = evaluation.summary.metrics
    headline = "r2" if "r2" in metrics else evaluation.summary.metric
    title = f"{_headline(evaluation.summary, headline)}; predicted against actual in {bins.height} bins"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        said, true = _floats(bins["x"]), _floats(bins["y"])
        ends = [min(*said, *true), max(*said, *true)]
        axes.plot(ends, ends, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot(said, true, "o-", color=BLUE, markersize=4, linewidth=1)
        axes.set_xlabel("mean predicted value in the bin")
        axes.set_ylabel("mean actual value in the bin")
        _grid(axes, "both")

    return _svg("predicted_actual", title, draw, height=3.6)


def residual_plot(evaluation: Evaluation) -> str:
    """Draw the residuals' quantiles (regression)."""
    quantiles = _curve(evaluation, "residual_quantiles")
    metrics = evaluation.summary.metrics
    headline = "mae" if "mae" in metrics else evaluation.summary.metric
    middle = quantiles.sort((pl.col("x") - 0.5).abs())["y"][0]
    title = f"{_headline(evaluation.summary, headline)}; half of the residuals lie under {number(middle)}"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=FAINT, linewidth=1)
        x, y = _thin(quantiles)
        axes.plot(100 * x, y, color=BLUE, linewidth=1.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of test rows, %")
        axes.set_ylabel("residual is at most (target's unit)")
        _grid(axes, "both")

    return _svg("residuals", title, draw, height=3.2)


def confusion_plot(evaluation: Evaluation, *, classes: Sequence[str] = ()) -> str:
    """Draw, for each true class, the share of its rows predicted as each class (multiclass).

    Above 12 classes the smallest are left out, and the plot says so.
    """
    counts = _curve(evaluation, "confusion").with_columns(pl.col("x", "y").cast(pl.Int64))
    rows = int(counts["threshold"].fill_null(0).sum())
    right = int(counts.filter(pl.col("x") == pl.col("y"))["threshold"].fill_null(0).sum())
    by_class = counts.group_by("x").agg(pl.col("threshold").sum()).sort("threshold", "x", descending=[True, False])
    every = sorted({*counts["x"], *counts["y"]})
    kept = sorted(by_class["x"].head(_CLASSES)) if len(every) > _CLASSES else every
    names = [_short(classes[at] if at < len(classes) else str(at), 18) for at in kept]
    place = {at: index for index, at in enumerate(kept)}
    title = f"{right:,} of {rows:,} test rows ({share(right / rows if rows else None)}) are on the diagonal"
    grid = np.zeros((len(kept), len(kept)))
    for true, said, count in counts.select("x", "y", "threshold").drop_nulls().iter_rows():
        if true in place and said in place:
            grid[place[true], place[said]] += count
    of_class = dict(by_class.select("x", "threshold").iter_rows())

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        step = 1.0
        for (row, column), count in np.ndenumerate(grid):
            total = of_class.get(kept[row]) or 0
            part = count / total if total else 0.0
            colour = BLUE if row == column else VERMILLION
            axes.add_patch(_patch(column, row, step, colour, 0.08 + 0.8 * part if count else 0.0))
            if count:
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{100 * part:.0f} %\n{count:,.0f}" if len(kept) <= 8 else f"{100 * part:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=INK,
                )
        at = [index + 0.5 for index in range(len(kept))]
        axes.set_xticks(at, names, rotation=30 if max(map(len, names)) > 6 else 0)
        axes.set_yticks(at, names)
        axes.set_xlim(0, len(kept))
        axes.set_ylim(len(kept), 0)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.tick_params(length=0)
        note = f"; {len(every) - len(kept)} smaller classes are not shown" if len(every) > len(kept) else ""
        _keys(figure, [("right", BLUE), ("wrong", VERMILLION)], f"% of the true class's rows{note}")

    return _svg("confusion", title, draw, height=min(6.4, 1.7 + 0.45 * len(kept)))


def slice_plot(evaluation: Evaluation) -> str:
    """Draw the metric of each slice with its interval, beside the whole and, where there is one, the champion.

    The 32 slices with most rows are shown, in their columns.
    """
    summary = evaluation.summary
    wanted = (
        *("column", "value", "rows", "target_mean", "metric", "score", "low", "high"),
        *("champion_score", "difference", "difference_low", "difference_high", "is_judged", "reason"),
    )
    every = _rows(evaluation.slices, wanted, "evaluation (slices)").filter(pl.col("metric") == summary.metric)
    every = _rows(every, (), f"evaluation (slices, metric '{summary.metric}')")
    order = every["column"].unique(maintain_order=True).to_list()
    shown = every.sort("rows", descending=True).head(_SLICES)
    drawn = [
        (column, list(shown.filter(pl.col("column") == column).sort("rows", descending=True).iter_rows(named=True)))
        for column in order
    ]
    drawn = [(column, rows) for column, rows in drawn if rows]
    name = metric_name(summary.metric)
    judged = every.filter(pl.col("is_judged") & pl.col("score").is_not_null())
    title = f"{name} by slice: {judged.height} of {every.height} slices have enough rows to judge"
    if judged.height:
        low, high = _end(judged["score"], "min"), _end(judged["score"], "max")
        title = f"{name} by slice: {number(low)} to {number(high)} over {judged.height} slices with enough rows"
    whole = summary.metrics.get(summary.metric)
    has_champion = every["champion_score"].drop_nulls().len() > 0

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        if whole is not None:
            axes.axvspan(whole.low, whole.high, color=SKY, alpha=0.25, linewidth=0)
            axes.axvline(whole.value, color=BLUE, linewidth=0.9)
        at = 0.0
        ticks: list[float] = []
        labels: list[str] = []
        for column, rows in drawn:
            axes.text(
                0, at, column, transform=axes.get_yaxis_transform(), ha="left", va="center", weight="bold", fontsize=8.5
            )
            at += 1
            for row in rows:
                _slice_row(axes, at, row)
                ticks.append(at)
                labels.append(f"{_short(str(row['value']), 26)}  ({row['rows']:,})")
                at += 1
        axes.set_yticks(ticks, labels)
        axes.set_ylim(at - 0.4, -0.8)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{name}, 95 % interval (rows of the slice in brackets)")
        _grid(axes, "x")
        keys = [("better than the champion", GREEN), ("worse", VERMILLION), ("no clear difference", BLUE)]
        keys = keys if has_champion else [("enough rows", BLUE)]
        left_out = every.height - shown.height
        note = f"{left_out} smaller slices are not shown" if left_out else ""
        _keys(figure, [*keys, ("too few rows", FAINT)], note + ("  ◇ champion" if has_champion else ""))

    lines = shown.height + len(drawn)
    return _svg("slices", title, draw, height=1.35 + 0.185 * lines)


# ---------------------------------------------------------------------------------------------------------------------
# After promotion


def drift_plot(drift: Drift) -> str:
    """Draw the day's PSI of each feature and of the score; what is over its limit is marked.

    The 25 with the most weighted PSI are shown, and all that are over.
    """
    wanted = ("feature", "kind", "psi", "weight", "weighted_psi", "is_over")
    table = _rows(drift.table, wanted, "drift").sort(
        pl.col("kind") != "score", -pl.col("is_over").cast(pl.Int8), -pl.col("weighted_psi").fill_null(-1.0), "feature"
    )
    shown = table.head(max(_FEATURES, table.filter("is_over").height + 1))
    left_out = table.height - shown.height
    note = f"{left_out} features with less weighted PSI are not shown" if left_out else ""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        at = list(range(shown.height))
        colours = [
            VERMILLION if over else (PURPLE if kind == "score" else BLUE)
            for over, kind in zip(shown["is_over"], shown["kind"], strict=True)
        ]
        axes.barh(at, _floats(shown["psi"].fill_null(0)), color=colours, height=0.66)
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
        axes.set_yticks(at, [_short(name) for name in shown["feature"]])
        axes.set_ylim(shown.height - 0.4, -0.6)
        axes.set_xlim(min(0.0, _end(shown["psi"], "min")), 1.35 * max(_end(shown["psi"], "max"), 0.05))
        axes.set_xlabel(f"PSI against the champion's reference ({drift.summary.rows:,} rows of {drift.summary.day})")
        _grid(axes, "x")
        score = [("score", PURPLE)] if "score" in shown["kind"] else []
        _keys(figure, [("feature", BLUE), *score, ("over its limit", VERMILLION)], note)

    sentence = drift.summary.sentence
    return _svg("drift", sentence[:1].upper() + sentence[1:], draw, height=1.4 + 0.2 * shown.height)


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
        _grid(axes, "both")
        _keys(figure, [("weighted by importance", BLUE), ("score", PURPLE), ("over the limits", VERMILLION)])

    return _svg("drift_history", title, draw, height=2.9)


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
        _grid(top, "both")
        known = [100 * summary.labelled / summary.predictions if summary.predictions else 0.0 for summary in days]
        bottom.bar(x, known, color=FAINT, width=0.8)
        bottom.set_ylim(0, 100)
        bottom.set_ylabel("labels\nknown, %")
        _keys(figure, [("measured on labels", BLUE), ("expected before labels", ORANGE)])

    return _svg(f"performance_{metric}", title, draw, height=3.6)


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def _curve_with_baselines(
    summary: EvaluationSummary, name: str, metric: str, curve: pl.DataFrame, decorate: Callable[[Axes], None]
) -> str:
    """Draw a curve in the unit square, and its metric beside the baselines' on the right."""
    others = [(baseline.name, baseline.metrics[metric]) for baseline in summary.baselines if metric in baseline.metrics]
    own = summary.metrics.get(metric)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.15, 1]})
        decorate(left)
        x, y = _thin(curve)
        left.plot(x, y, color=BLUE, linewidth=1.8)
        left.set_xlim(0, 1)
        left.set_ylim(0, 1)
        left.set_aspect("equal")
        _grid(left, "both")
        _beside_baselines(right, own, others)
        right.set_xlabel(f"{metric_name(metric)} on the same {summary.rows:,} test rows")

    return _svg(name, _headline(summary, metric), draw, height=3.7)


def _beside_baselines(axes: Axes, own: Interval | None, others: Sequence[tuple[str, float]]) -> None:
    """Draw a dot a predictor, the best on top: the model with its interval, the baselines plain."""
    lines: list[tuple[str, float, Interval | None]] = [(name, value, None) for name, value in others]
    if own is not None:
        lines.append(("this model", own.value, own))
    lines.sort(key=lambda line: -line[1])
    for at, (name, value, bounds) in enumerate(lines):
        colour = BLUE if bounds else MUTED
        if bounds:
            axes.plot([bounds.low, bounds.high], [at, at], color=SKY, linewidth=4, solid_capstyle="butt")
        axes.plot([value], [at], "o", color=colour, markersize=6)
        axes.annotate(
            f"{_short(name, 36)}  {number(value)}",
            (0.02, at),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 7),
            textcoords="offset points",
            fontsize=8.5,
            color=INK,
            weight="bold" if bounds else "normal",
        )
    axes.set_ylim(len(lines) - 0.5, -0.8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    _grid(axes, "x")


def _slice_row(axes: Axes, at: float, row: Mapping[str, object]) -> None:
    """Draw one slice: interval, score, and the champion's score as a hollow diamond."""
    score, low, high, champion = (row[name] for name in ("score", "low", "high", "champion_score"))
    colour = BLUE
    if isinstance(lowest := row.get("difference_low"), float) and lowest > 0:
        colour = GREEN
    if isinstance(highest := row.get("difference_high"), float) and highest < 0:
        colour = VERMILLION
    if not row["is_judged"]:
        colour = FAINT
    if isinstance(low, float) and isinstance(high, float):
        axes.plot([low, high], [at, at], color=colour, linewidth=1.6)
    if isinstance(champion, float):
        axes.plot([champion], [at], "D", markersize=4.5, markerfacecolor=PAPER, markeredgecolor=MUTED)
    if isinstance(score, float):
        axes.plot([score], [at], "o", color=colour, markersize=4.5)


def _histogram(axes: Axes, bins: pl.DataFrame) -> None:
    x = _floats(bins["x"])
    gaps = np.diff(np.asarray(x))
    width = float(gaps.min()) if gaps.size else 1.0
    axes.bar(x, _floats(bins["y"]), width=width, color=SKY, edgecolor=PAPER, linewidth=0.4)


def _patch(x: float, y: float, step: float, colour: str, alpha: float) -> Rectangle:
    from matplotlib.patches import Rectangle as Shape

    return Shape((x + 0.02, y + 0.02), step - 0.04, step - 0.04, facecolor=colour, alpha=alpha, linewidth=0)


def _keys(figure: Figure, keys: Sequence[tuple[str, str]], note: str = "") -> None:
    """Write the key under the plot: a dot and a word per colour."""
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


def _grid(axes: Axes, axis: str) -> None:
    """Draw quiet lines behind the data."""
    for which in ("x", "y"):
        if axis in (which, "both"):
            (axes.xaxis if which == "x" else axes.yaxis).grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _headline(summary: EvaluationSummary, metric: str) -> str:
    figure = summary.metrics.get(metric)
    return f"{metric_name(metric)} {interval(figure)}" if figure is not None else metric_name(metric)


def _short(text: str, most: int = 34) -> str:
    """Cut a long name in its middle, where names differ least."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _floats(values: pl.Series) -> list[float]:
    """Return plain floats; a missing value is nan, which matplotlib leaves out."""
    return [math.nan if value is None else float(value) for value in values]


def _percent(values: pl.Series) -> list[float]:
    return [100 * value for value in _floats(values)]


def _end(values: pl.Series, which: str) -> float:
    """Return the least or greatest value; 0 where all are missing."""
    found = [value for value in _floats(values) if not math.isnan(value)]
    if not found:
        return 0.0
    return min(found) if which == "min" else max(found)


def _thin(curve: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keep at most 200 points of a curve, evenly spaced along its length; both ends stay."""
    x, y = (curve[name].cast(pl.Float64).to_numpy() for name in ("x", "y"))
    if len(x) <= _POINTS:
        return x, y
    spans = np.array([np.ptp(x) or 1.0, np.ptp(y) or 1.0])
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / spans[0], np.diff(y) / spans[1]))])
    chosen = np.unique(np.searchsorted(walked, np.linspace(0.0, walked[-1], _POINTS)).clip(0, len(x) - 1))
    chosen = np.unique(np.concatenate([[0], chosen, [len(x) - 1]]))
    return x[chosen], y[chosen]


def _curve(evaluation: Evaluation, name: str) -> pl.DataFrame:
    """Return one curve of an evaluation, in its own order for lines.

    Raises:
        DataError: The evaluation holds no such curve; the task decides which ones it has.
    """
    curves = _rows(evaluation.curves, ("curve", "x", "y", "threshold"), "evaluation (curves)")
    curve = curves.filter(pl.col("curve") == name)
    if curve.is_empty():
        have = ", ".join(sorted(curves["curve"].unique()))
        raise DataError(
            f"curve '{name}' is missing in the evaluation of model '{evaluation.summary.model}', "
            f"whose task is {evaluation.summary.task}; it holds {have}. Plot one of these."
        )
    curve = curve.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
    if name in {"score_histogram", "residual_quantiles", "predicted_actual"}:
        curve = curve.sort("x")
    return curve


def _rows(frame: pl.DataFrame, wanted: Sequence[str], artifact: str) -> pl.DataFrame:
    """Return the frame if it can be plotted.

    Raises:
        ContractError: Columns are missing; all of them are named.
        DataError: There are no rows.
    """
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise ContractError(
            f"columns {', '.join(map(repr, missing))} of artifact '{artifact}' are missing; the plot wants "
            f"{', '.join(wanted)}, got {', '.join(frame.columns) or 'none'}. Materialize the artifact again."
        )
    if frame.is_empty():
        raise DataError(
            f"artifact '{artifact}' has no rows; the plot wants at least one. Materialize the artifact again."
        )
    return frame


def _some(items: Sequence[Item], artifact: str) -> Sequence[Item]:
    if not items:
        raise DataError(f"artifact '{artifact}' has no days; the plot wants at least one. Materialize a day first.")
    return items


# ---------------------------------------------------------------------------------------------------------------------
# SVG


def _svg(name: str, title: str, draw: Callable[[Figure], None], *, height: float) -> str:
    """Draw on a fresh figure of 640 px and return its SVG.

    Args:
        name: Salts the ids in the text, so that several plots can stand on one page.
        title: The fact that the plot shows; also its text for screen readers.
        draw: Puts the axes on the figure.
        height: Inches of 96 px.
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
    """Set all of matplotlib's settings, so that a matplotlibrc on the machine changes nothing; the caller restores."""
    import matplotlib as mpl

    mpl.rcdefaults()
    # This font comes with matplotlib: the layout is the same everywhere, and most fonts that replace it are narrower.
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
    """Make matplotlib's SVG fit for inlining: no prolog, no ids that clash, short numbers, colours by name."""
    head = re.search(r'<svg[^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>', svg)
    if head is None:  # pragma: no cover - every figure of matplotlib has one
        raise RuntimeError(f"matplotlib wrote plot '{name}' without a viewBox")
    width, height = (float(size) for size in head.groups())
    body = svg[head.end() :]
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', body))
    body = re.sub(r' id="([\w.-]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    # matplotlib's only rule is for every element: on a page it would reach beyond the plot, so the root says it.
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
    """Round to a hundredth of a point, which nobody sees."""
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), text)
