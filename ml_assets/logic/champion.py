"""The gate: whether a challenger takes over, by which rules, in sentences an operator can read.

Measuring stays out (see `evaluation`), and so does writing the promotion log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts import Comparison, EvaluationSummary
from ml_assets.contracts.errors import DataError
from ml_assets.logic.metrics import LEVEL, find_metric

SLICE_ERROR_RATE: Final = 0.05

_LEFT: Final = "It has served before and was rolled back from; only a person lets it in again (ml-assets promote)."


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: whether it held, and the figures that say so."""

    name: str
    holds: bool
    sentence: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger takes over, and why.

    Attributes:
        promote: The answer.
        reasons: The rules that failed, or when none did, all that held.
        figures: What the rules looked at, whichever way they went.
        rules: Every rule, in the order they were tried.
    """

    promote: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]
    rules: tuple[Rule, ...] = ()


def judge(
    evaluation: EvaluationSummary,
    *,
    margin: float,
    minimum_rows: int = 1,
    bounds: Mapping[str, float] | None = None,
    slices: pl.DataFrame | None = None,
    slice_margin: float = 0.0,
    was_left: bool = False,
) -> Verdict:
    """Judge a challenger by its evaluation; every rule is tried, so that all failures are told at once.

    Args:
        evaluation: The challenger's report on frozen rows.
        margin: By how much of the declared metric the challenger may be worse than the champion; the lower
            end of the paired difference must not lie below its negative (a test of non-inferiority).
        minimum_rows: On fewer rows nobody is promoted.
        bounds: Absolute limits by metric: a floor where higher is better, else a ceiling.
        slices: `Evaluation.slices`, if slices are to hold; see `failing_slices`.
        slice_margin: The same as `margin`, for a slice.
        was_left: Whether this very version has served, and was rolled back from.

    Raises:
        DataError: A margin is negative, or a bound names a metric that the evaluation does not have.
    """
    if margin < 0 or slice_margin < 0:
        message = (
            f"the margins of the gate of model '{evaluation.model}' are {margin:g} and {slice_margin:g}; expected "
            "0 or more: how much worse a challenger may be. Mend the declaration."
        )
        raise DataError(message)
    rules = [
        _enough_rows(evaluation, minimum_rows),
        *(_beats_baseline(comparison) for comparison in evaluation.against_baselines),
        *(_within_bound(evaluation, name, limit) for name, limit in (bounds or {}).items()),
        *_champion_rules(evaluation, margin),
    ]
    if slices is not None and evaluation.against_champion is not None:
        rules.append(_slices_hold(slices, evaluation.metric, slice_margin))
    if was_left:
        rules.append(Rule("rollback", holds=False, sentence=_LEFT, figures={}))
    failed = [rule for rule in rules if not rule.holds]
    return Verdict(
        promote=not failed,
        reasons=tuple(rule.sentence for rule in failed or rules),
        figures={name: value for rule in rules for name, value in rule.figures.items()},
        rules=tuple(rules),
    )


def failing_slices(slices: pl.DataFrame, *, metric: str, margin: float) -> pl.DataFrame:
    """Return the judged slices on which the challenger is surely worse than the champion beyond the margin.

    With twenty slices one would look worse at 95 % by chance alone. The p-values (one-sided, from the
    difference and the width of its 95 % interval as a normal's) are therefore held against Holm's
    corrected levels (1979), so that an equal challenger is refused on any slice at most 5 % of the time.

    Args:
        slices: `Evaluation.slices`.
        metric: The declared metric.
        margin: Zero or more, in units of the metric.

    Returns:
        Rows of `slices`, worst first, with `p_value` beside them.
    """
    width = 2 * NormalDist().inv_cdf((1 + LEVEL) / 2)
    error = (pl.col("difference_high") - pl.col("difference_low")) / width
    judged = _comparable(slices, metric).with_columns(error.alias("error"))
    p_values = [
        _p_value(difference + margin, error) for difference, error in judged.select("difference", "error").iter_rows()
    ]
    is_rejected = pl.col("p_value") <= SLICE_ERROR_RATE / (pl.len() - pl.int_range(pl.len()))
    return (
        judged.drop("error")
        .with_columns(pl.Series("p_value", p_values, dtype=pl.Float64))
        .sort("p_value", "column", "value")
        .filter(is_rejected.cast(pl.Int8).cum_min() == 1)
    )


def _p_value(difference: float, error: float) -> float:
    if error > 0:
        return NormalDist().cdf(difference / error)
    return 0.0 if difference < 0 else 1.0


def _enough_rows(evaluation: EvaluationSummary, minimum_rows: int) -> Rule:
    enough = evaluation.rows >= minimum_rows
    compared = "at least" if enough else "fewer than"
    return Rule(
        name="rows",
        holds=enough,
        sentence=f"Measured on {evaluation.rows:,} rows, {compared} the {minimum_rows:,} wanted.",
        figures={"rows": float(evaluation.rows), "minimum_rows": float(minimum_rows)},
    )


def _figures(comparison: Comparison, against: str) -> dict[str, float]:
    return {
        f"{comparison.metric}": comparison.challenger,
        f"{comparison.metric} of {against}": comparison.other,
        f"difference to {against}": comparison.difference.value,
        f"difference to {against}, low": comparison.difference.low,
        f"difference to {against}, high": comparison.difference.high,
    }


def _told(comparison: Comparison) -> str:
    difference = comparison.difference
    return (
        f"{comparison.metric} {comparison.challenger:.4f} against {comparison.other:.4f}, difference "
        f"{difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] (above zero is better)"
    )


def _beats_baseline(comparison: Comparison) -> Rule:
    beats = comparison.difference.low > 0
    verb = "Beats" if beats else "Does not surely beat"
    return Rule(
        name=f"baseline {comparison.against}",
        holds=beats,
        sentence=f"{verb} the baseline '{comparison.against}': {_told(comparison)}.",
        figures=_figures(comparison, f"baseline {comparison.against}"),
    )


def _within_bound(evaluation: EvaluationSummary, name: str, limit: float) -> Rule:
    metric = find_metric(name, evaluation.task)
    if name not in evaluation.metrics:
        message = (
            f"the gate of model '{evaluation.model}' bounds '{name}', which its evaluation does not have; it has "
            f"{', '.join(evaluation.metrics)}. Drop the bound, or evaluate on rows where the metric is defined."
        )
        raise DataError(message)
    value = evaluation.metrics[name].value
    holds = metric.gain(value, limit) >= 0
    side = "floor" if metric.higher_is_better else "ceiling"
    outside = "below" if metric.higher_is_better else "above"
    return Rule(
        name=f"bound {name}",
        holds=holds,
        sentence=f"{name} {value:.4f} is {'within' if holds else outside} the declared {side} of {limit:g}.",
        figures={name: value, f"{side} of {name}": limit},
    )


def _champion_rules(evaluation: EvaluationSummary, margin: float) -> tuple[Rule, ...]:
    comparison, version = evaluation.against_champion, evaluation.champion_version
    if version is None:
        return (Rule("champion", holds=True, sentence="There is no champion yet: the baselines decide.", figures={}),)
    if version == evaluation.model_version:
        return (Rule("champion", holds=False, sentence=f"The challenger is the champion ({version}).", figures={}),)
    if evaluation.champion_cannot_score is not None:
        sentence = (
            f"Champion {version} cannot score these rows, so the baselines decide: {evaluation.champion_cannot_score}"
        )
        return (Rule("champion", holds=True, sentence=sentence, figures={}),)
    if comparison is None:
        message = (
            f"the evaluation of model '{evaluation.model}' names champion {version} but does not compare with it; "
            "expected both on the same rows. Evaluate again with the champion's scores."
        )
        raise DataError(message)
    figures = {**_figures(comparison, "the champion"), "margin": margin}
    difference = comparison.difference
    if difference.low == difference.value == difference.high == 0:
        sentence = (
            f"The challenger does not differ from champion {version}: {comparison.metric} is equal on every resample "
            f"of the {comparison.rows:,} rows, so there is nothing to gain."
        )
        return (Rule("champion", holds=False, sentence=sentence, figures=figures),)
    holds = difference.low >= -margin
    verdict = "Is not worse" if holds else "May be worse"
    if difference.high < -margin:
        verdict = "Is worse"
    sentence = f"{verdict} than champion {version} by more than the margin of {margin:g}: {_told(comparison)}."
    return (Rule("champion", holds=holds, sentence=sentence, figures=figures),)


def _slices_hold(slices: pl.DataFrame, metric: str, margin: float) -> Rule:
    of_metric = slices.filter(pl.col("metric") == metric)
    judged = _comparable(slices, metric).height
    failing = failing_slices(slices, metric=metric, margin=margin)
    figures = {"slices judged": float(judged), "slices worse": float(failing.height), "slice margin": margin}
    if failing.is_empty():
        unjudged = of_metric.height - judged
        sentence = f"No slice of {judged} is surely worse than with the champion ({unjudged} too small to judge)."
        return Rule("slices", holds=True, sentence=sentence, figures=figures)
    told: list[str] = []
    for row in failing.iter_rows(named=True):
        name = f"{row['column']}={row['value']}"
        figures[f"difference on {name}"] = row["difference"]
        told.append(
            f"{name} ({row['rows']:,} rows: {metric} {row['score']:.4f} against {row['champion_score']:.4f}, "
            f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, {row['difference_high']:+.4f}])"
        )
    return Rule("slices", holds=False, sentence=f"Worse than the champion on {'; '.join(told)}.", figures=figures)


def _comparable(slices: pl.DataFrame, metric: str) -> pl.DataFrame:
    return slices.filter(pl.col("is_judged"), pl.col("metric") == metric, pl.col("difference_low").is_not_null())
