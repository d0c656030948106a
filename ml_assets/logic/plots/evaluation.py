"""Plots of an evaluation: curves, calibration, slices, residuals, confusion.

Not here: measuring (see `ml_assets.logic.evaluation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import Evaluation, EvaluationSummary, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.plots.drawing import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    MUTED,
    PAPER,
    SKY,
    VERMILLION,
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
    from matplotlib.patches import Rectangle


_POINTS = 200
_SLICES = 32
_CLASSES = 12


def evaluation_plots(evaluation: Evaluation, *, classes: Sequence[str] = ()) -> dict[str, str]:
    """Draw all plots that the evaluation's task and content allow, by name, in reading order.

    Without `classes`, the confusion shows their indices.
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
    """Draw the ROC curve, and ROC AUC with its interval next to the baselines'."""
    curve = _curve(evaluation, "roc")

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        axes.text(0.62, 0.54, "chance", color=MUTED, fontsize=8)
        axes.set(xlabel="false positive rate", ylabel="true positive rate")

    return _curve_with_baselines(evaluation.summary, "roc", "roc_auc", curve, draw)


def precision_recall_plot(evaluation: Evaluation) -> str:
    """Draw precision against recall, and average precision with its interval next to the baselines'."""
    curve = _curve(evaluation, "precision_recall")
    rate = evaluation.summary.target_mean

    def draw(axes: Axes) -> None:
        if rate is not None:
            axes.axhline(rate, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
            axes.text(0.02, rate + 0.015, f"share of positives {share(rate)}", color=MUTED, fontsize=8)
        axes.set(xlabel="recall", ylabel="precision")

    return _curve_with_baselines(evaluation.summary, "precision_recall", "average_precision", curve, draw)


def calibration_plot(evaluation: Evaluation) -> str:
    """Draw actual shares against scores, with 95 % intervals, above the distribution of the scores.

    For a regression this is `predicted_actual_plot`.
    """
    summary = evaluation.summary
    if summary.task == "regression":
        return predicted_actual_plot(evaluation)
    wanted = ("score_mean", "truth_mean", "low", "high", "rows")
    bins = rows_with(evaluation.calibration, wanted, "evaluation (calibration)").sort("score_mean")
    have_scores = evaluation.curves.filter(pl.col("curve") == "score_histogram").sort("x")
    with_interval = bins.drop_nulls(["low", "high"])
    inside = with_interval.filter(pl.col("score_mean").is_between(pl.col("low"), pl.col("high"))).height
    measured = summary.metrics.get("calibration_error")
    if measured is not None:
        title = f"Calibration error {interval(measured)}"
    elif summary.calibration_error is not None:
        title = f"Calibration error {number(summary.calibration_error)}"
    else:
        title = "Calibration"
    title += f"; in {inside} of {with_interval.height} bins the score is within the 95 % interval of the truth"
    if without := bins.height - with_interval.height:
        title += f"; {without} without an interval"

    def draw(figure: Figure) -> None:
        top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1]})
        predicted, true = as_floats(bins["score_mean"]), as_floats(bins["truth_mean"])
        reach = min(1.0, 1.06 * max(*predicted, *as_floats(bins["high"].fill_null(0)), 0.05))
        top.plot([0, reach], [0, reach], color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        down = (bins["truth_mean"] - bins["low"]).clip(lower_bound=0)
        up = (bins["high"] - bins["truth_mean"]).clip(lower_bound=0)
        top.errorbar(predicted, true, yerr=[as_floats(down), as_floats(up)], fmt="none", ecolor=SKY, elinewidth=1.4)
        top.plot(predicted, true, "o-", color=BLUE, markersize=4, linewidth=1)
        top.text(0.98 * reach, 0.04 * reach, "dashed: perfect calibration", color=MUTED, fontsize=8, ha="right")
        top.set(ylabel="actual share", xlim=(0, reach), ylim=(0, reach))
        light_grid(top, "both")
        if have_scores.height:
            _histogram(bottom, have_scores)
        else:
            bottom.bar(predicted, bins["rows"].to_list(), width=0.6 * reach / bins.height, color=FAINT)
        bottom.set(ylabel="rows", xlabel="score (predicted probability)")
        light_grid(bottom, "y")

    return draw_svg("calibration", title, draw, height=4.4)


def score_histogram(evaluation: Evaluation) -> str:
    """Draw the number of test rows by score."""
    bins = _curve(evaluation, "score_histogram")
    summary = evaluation.summary
    title = f"Scores of {summary.rows:,} test rows"
    is_binary = summary.task == "binary" and summary.target_mean is not None
    if is_binary:
        title += (
            f", of which {share(summary.target_mean)} {'are' if summary.weight is None else 'by weight are'} positive"
        )

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
        axes.set(xlabel="predicted value" if summary.task == "regression" else "score", ylabel="rows")
        light_grid(axes, "y")

    return draw_svg("score_histogram", title, draw, height=2.8)


def predicted_actual_plot(evaluation: Evaluation) -> str:
    """Draw the mean actual value against the mean predicted one, bin by bin (regression).

    For a model of a quantile it is the same quantile of the actual values.
    """
    bins = _curve(evaluation, "predicted_actual")
    metrics = evaluation.summary.metrics
    headline = "r2" if "r2" in metrics else evaluation.summary.metric
    title = f"{_headline(evaluation.summary, headline)}; predicted against actual in {bins.height} bins"
    objective = evaluation.summary.objective
    level = None if objective is None else objective.level
    figure_of = "mean" if level is None else "median" if level == 0.5 else f"{level:g} quantile of the"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        predicted, true = as_floats(bins["x"]), as_floats(bins["y"])
        ends = [min(*predicted, *true), max(*predicted, *true)]
        axes.plot(ends, ends, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot(predicted, true, "o-", color=BLUE, markersize=4, linewidth=1)
        axes.set(xlabel="mean predicted value in the bin", ylabel=f"{figure_of} actual value in the bin")
        light_grid(axes, "both")

    return draw_svg("predicted_actual", title, draw, height=3.6)


def residual_plot(evaluation: Evaluation) -> str:
    """Draw the residuals' quantiles (regression)."""
    quantiles = _curve(evaluation, "residual_quantiles")
    metrics = evaluation.summary.metrics
    headline = "mae" if "mae" in metrics else evaluation.summary.metric
    middle = quantiles.sort((pl.col("x") - 0.5).abs())["y"][0]
    measured = "test rows" if evaluation.summary.weight is None else "the test rows' weight"
    title = f"{_headline(evaluation.summary, headline)}; half of the residuals are below {number(middle)}"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=FAINT, linewidth=1)
        x, y = _thin(quantiles)
        axes.plot(100 * x, y, color=BLUE, linewidth=1.6)
        axes.set(xlim=(0, 100), xlabel=f"share of {measured}, %", ylabel="residual is at most (target's unit)")
        light_grid(axes, "both")

    return draw_svg("residuals", title, draw, height=3.2)


def confusion_plot(evaluation: Evaluation, *, classes: Sequence[str] = ()) -> str:
    """Draw, for each true class, the share of its rows predicted as each class (multiclass).

    With more than 12 classes, the smallest are omitted, and the plot states how many.
    """
    counts = _curve(evaluation, "confusion").with_columns(pl.col("x", "y").cast(pl.Int64))
    rows = int(counts["threshold"].fill_null(0).sum())
    right = int(counts.filter(pl.col("x") == pl.col("y"))["threshold"].fill_null(0).sum())
    by_class = counts.group_by("x").agg(pl.col("threshold").sum()).sort("threshold", "x", descending=[True, False])
    every = sorted({*counts["x"], *counts["y"]})
    shown = sorted(by_class["x"].head(_CLASSES)) if len(every) > _CLASSES else every
    names = [shorten(classes[at] if at < len(classes) else str(at), 18) for at in shown]
    place = {at: index for index, at in enumerate(shown)}
    title = f"{right:,} of {rows:,} test rows ({share(right / rows if rows else None)}) are on the diagonal"
    title += "" if evaluation.summary.weight is None else "; counts of rows, not weighted"
    grid = np.zeros((len(shown), len(shown)))
    for true, predicted, count in counts.select("x", "y", "threshold").drop_nulls().iter_rows():
        if true in place and predicted in place:
            grid[place[true], place[predicted]] += count
    of_class = dict(by_class.select("x", "threshold").iter_rows())

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        step = 1.0
        for (row, column), count in np.ndenumerate(grid):
            total = of_class.get(shown[row]) or 0
            part = count / total if total else 0.0
            colour = BLUE if row == column else VERMILLION
            axes.add_patch(_patch(column, row, step, colour, 0.08 + 0.8 * part if count else 0.0))
            if count:
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{100 * part:.0f} %\n{count:,.0f}" if len(shown) <= 8 else f"{100 * part:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=INK,
                )
        at = [index + 0.5 for index in range(len(shown))]
        axes.set_xticks(at, names, rotation=30 if max(map(len, names)) > 6 else 0)
        axes.set_yticks(at, names)
        axes.set(xlim=(0, len(shown)), ylim=(len(shown), 0), xlabel="predicted class", ylabel="true class")
        axes.tick_params(length=0)
        note = f"; {len(every) - len(shown)} smaller classes are not shown" if len(every) > len(shown) else ""
        legend(figure, [("right", BLUE), ("wrong", VERMILLION)], f"% of the true class's rows{note}")

    return draw_svg("confusion", title, draw, height=min(6.4, 1.7 + 0.45 * len(shown)))


def slice_plot(evaluation: Evaluation) -> str:
    """Draw the metric of each slice with its interval, over all rows, and if possible the champion's.

    The 32 slices with most rows are shown, grouped by column. The axis spans those with enough rows to judge: the
    interval of a small slice can be so wide that the others cannot be compared, and leaves the plot.
    """
    summary = evaluation.summary
    wanted = (
        *("column", "value", "rows", "target_mean", "metric", "score", "low", "high"),
        *("champion_score", "difference", "difference_low", "difference_high"),
        *("clusters", "unit", "is_judged", "reason"),
    )
    every = rows_with(evaluation.slices, wanted, "evaluation (slices)").filter(pl.col("metric") == summary.metric)
    every = rows_with(every, (), f"evaluation (slices, metric '{summary.metric}')")
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
        low, high = edge(judged["score"], "min"), edge(judged["score"], "max")
        title = f"{name} by slice: {number(low)} to {number(high)} over {judged.height} slices with enough rows"
    whole = summary.metrics.get(summary.metric)
    limits = _slice_limits(judged, whole)
    has_champion = every["champion_score"].drop_nulls().len() > 0

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        if whole is not None:
            if whole.low is not None and whole.high is not None:
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
                labels.append(f"{shorten(str(row['value']), 26)}  ({row['rows']:,})")
                at += 1
        axes.set_yticks(ticks, labels)
        axes.set_ylim(at - 0.4, -0.8)
        axes.tick_params(axis="y", length=0)
        axis = f"{name}, 95 % interval (rows of the slice in brackets)"
        if has_champion:
            axis += (
                "\n◇ champion; colour: the slice's own 95 % interval of the difference, not Holm's rule with the margin"
            )
        axes.set_xlabel(axis)
        if limits is not None:
            axes.set_xlim(*limits)
        light_grid(axes, "x")
        keys = [("above the champion", GREEN), ("below", VERMILLION), ("undecided", BLUE)]
        keys = keys if has_champion else [("enough rows", BLUE)]
        left_out = every.height - shown.height
        note = f"{left_out} smaller slices are not shown" if left_out else ""
        legend(figure, [*keys, ("too few rows", FAINT)], note)

    lines = shown.height + len(drawn)
    return draw_svg("slices", title, draw, height=1.35 + 0.185 * lines)


def _curve_with_baselines(
    summary: EvaluationSummary, name: str, metric: str, curve: pl.DataFrame, decorate: Callable[[Axes], None]
) -> str:
    """Draw a curve in the unit square, and on the right its metric with the baselines'."""
    others = [(baseline.name, baseline.metrics[metric]) for baseline in summary.baselines if metric in baseline.metrics]
    own = summary.metrics.get(metric)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.15, 1]})
        decorate(left)
        x, y = _thin(curve)
        left.plot(x, y, color=BLUE, linewidth=1.8)
        left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        light_grid(left, "both")
        _beside_baselines(right, own, others)
        right.set_xlabel(f"{metric_name(metric)} on the same {summary.rows:,} test rows")

    return draw_svg(name, _headline(summary, metric), draw, height=3.7)


def _beside_baselines(axes: Axes, own: Interval | None, others: Sequence[tuple[str, float]]) -> None:
    """Draw one dot per predictor, the best on top: the model with its interval, the baselines without."""
    lines: list[tuple[str, float, Interval | None]] = [(name, value, None) for name, value in others]
    if own is not None:
        lines.append(("this model", own.value, own))
    lines.sort(key=lambda line: -line[1])
    for at, (name, value, bounds) in enumerate(lines):
        colour = BLUE if bounds else MUTED
        if bounds and bounds.low is not None and bounds.high is not None:
            axes.plot([bounds.low, bounds.high], [at, at], color=SKY, linewidth=4, solid_capstyle="butt")
        axes.plot([value], [at], "o", color=colour, markersize=6)
        axes.annotate(
            f"{shorten(name, 36)}  {number(value)}",
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
    light_grid(axes, "x")


def _slice_limits(judged: pl.DataFrame, whole: Interval | None) -> tuple[float, float] | None:
    """Return the ends of the axis: those of the judged slices and of all rows; None if there is no span."""
    seen = [value for name in ("score", "low", "high", "champion_score") for value in judged[name].drop_nulls()]
    if not seen:
        return None
    seen += [] if whole is None else [it for it in (whole.value, whole.low, whole.high) if it is not None]
    low, high = min(seen), max(seen)
    margin = 0.04 * (high - low)
    return (low - margin, high + margin) if margin > 0 else None


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
    x = as_floats(bins["x"])
    gaps = np.diff(np.asarray(x))
    width = float(gaps.min()) if gaps.size else 1.0
    axes.bar(x, as_floats(bins["y"]), width=width, color=SKY, edgecolor=PAPER, linewidth=0.4)


def _patch(x: float, y: float, step: float, colour: str, alpha: float) -> Rectangle:
    from matplotlib.patches import Rectangle as Shape

    return Shape((x + 0.02, y + 0.02), step - 0.04, step - 0.04, facecolor=colour, alpha=alpha, linewidth=0)


def _headline(summary: EvaluationSummary, metric: str) -> str:
    figure = summary.metrics.get(metric)
    return f"{metric_name(metric)} {interval(figure)}" if figure is not None else metric_name(metric)


def _thin(curve: pl.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most 200 points of a curve, evenly spaced along its length, including both ends."""
    x, y = (curve[name].cast(pl.Float64).to_numpy() for name in ("x", "y"))
    if len(x) <= _POINTS:
        return x, y
    spans = np.array([np.ptp(x) or 1.0, np.ptp(y) or 1.0])
    walked = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x) / spans[0], np.diff(y) / spans[1]))])
    chosen = np.unique(np.searchsorted(walked, np.linspace(0.0, walked[-1], _POINTS)).clip(0, len(x) - 1))
    chosen = np.unique(np.concatenate([[0], chosen, [len(x) - 1]]))
    return x[chosen], y[chosen]


def _curve(evaluation: Evaluation, name: str) -> pl.DataFrame:
    """Return one curve of an evaluation, sorted for drawing lines."""
    curves = rows_with(evaluation.curves, ("curve", "x", "y", "threshold"), "evaluation (curves)")
    curve = curves.filter(pl.col("curve") == name)
    if curve.is_empty():
        have = ", ".join(sorted(curves["curve"].unique()))
        raise DataError(
            f"curve '{name}' is missing in the evaluation of model '{evaluation.summary.model}', "
            f"whose task is {evaluation.summary.task}; it has {have}. Plot one of these."
        )
    curve = curve.filter(pl.col("x").is_finite() & pl.col("y").is_finite())
    if name in {"score_histogram", "residual_quantiles", "predicted_actual"}:
        curve = curve.sort("x")
    return curve
