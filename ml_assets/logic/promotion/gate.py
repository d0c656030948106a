"""The gate decides whether a challenger is promoted, and reports each rule in a sentence.

Not here: rules that compare with other models (see `ml_assets.logic.promotion.comparisons`), measuring (see
`ml_assets.logic.evaluation`), and writing the promotion log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.evaluation import EvaluationSummary
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import confidence_words
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.evaluation.slices import (
    SLICE_ERROR_RATE,
    comparable,
    failing_slices,
    slice_figures,
    slice_level,
    slice_words,
    unjudged_words,
)
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.logic.promotion.comparisons import (
    FIRST,
    Attempt,
    ChampionRule,
    GateRule,
    beats_baseline,
    champion_rules,
    is_anchor,
    is_tested,
)

_LEFT: Final = "This version was rolled back from before. Only a person can promote it: ml-assets promote."


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger is promoted, and why.

    Attributes:
        promote: Whether every rule holds, except rules that wait for a person.
        reasons: The sentences of the failed rules. If none failed, the sentences of all rules.
        rules: All rules, in the order of the check.
        is_anchor: Whether the challenger becomes the anchor when it is promoted. It does if there is no champion to
            compare with, or if it is better than champion and anchor: each lower bound is above zero.
        attempt: Number of the attempt since the last promotion; None if nothing could be tested.
        test_days: The first and the last day of the rows.
    """

    promote: bool
    reasons: tuple[str, ...]
    rules: tuple[GateRule, ...] = ()
    is_anchor: bool = False
    attempt: int | None = None
    test_days: tuple[date, date] | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The figures of all rules."""
        return {name: value for rule in self.rules for name, value in rule.figures.items()}

    @property
    def waits(self) -> bool:
        """Whether a person must decide, because a rule that waits for a person does not hold."""
        return self.promote and any(rule.waits and not rule.holds for rule in self.rules)


@dataclass(frozen=True)
class ServingCost:
    """A measured cost of serving the challenger, and its declared limit.

    Attributes:
        measured: The beginning of a sentence about it.
        limit: The declared limit; None if there is none, and no rule checks it.
    """

    name: str
    measured: str
    value: float
    limit: float | None
    unit: str


@dataclass(frozen=True)
class GateLimits:
    """What a challenger must reach.

    Attributes:
        margin: How much worse than the champion it may be, or how much better it must be, in units of the deciding
            metric.
        rule: Which of the two.
        min_rows: With fewer rows, no challenger is promoted.
        bounds: Absolute limits by metric: a lower limit if higher is better, otherwise an upper limit.
        slice_margin: How much worse than the champion it may be on a slice.
    """

    margin: float = 0.0
    rule: ChampionRule = "non_inferiority"
    min_rows: int = 1
    bounds: Mapping[str, float] = field(default_factory=dict)
    slice_margin: float = 0.0


def judge(
    evaluation: EvaluationSummary,
    limits: GateLimits,
    *,
    slices: pl.DataFrame | None = None,
    costs: Sequence[ServingCost] = (),
    cannot_answer: Sequence[str] | None = None,
    leaks: LeakFindings | None = None,
    attempt: Attempt = FIRST,
    own: Sequence[GateRule] = (),
) -> Verdict:
    """Judge a challenger by its evaluation. Every rule is checked, so all failures are reported at once.

    Each difference to a baseline, the champion and the anchor on the same rows has a one-sided lower bound. Its
    confidence depends on the attempt (see `Attempt`).

    - The challenger beats a baseline if the lower bound is above zero.
    - Non-inferiority holds if the lower bounds to champion and anchor are not below minus the margin. Of challengers
      that are worse by the margin, at most 5 % are promoted, whatever the number of attempts.
    - Superiority holds if the lower bound to the champion is above zero and the difference is at least the margin. The
      anchor is compared by non-inferiority.

    `benchmarks/gate` measures the error rates and the power.

    Args:
        evaluation: The challenger's evaluation on frozen rows.
        limits: What it must reach.
        slices: `Evaluation.slices`, if slices are checked; see `slices.failing_slices`.
        costs: Measured costs of serving. A cost without a limit is not a rule.
        cannot_answer: Why the challenger does not match the current declaration; empty if it does, None if that was not
            checked.
        leaks: Findings about leaks in the features; None in a simulation.
        attempt: Number of the attempt on these rows since the last promotion.
        own: The results of a person's rules.

    Raises:
        DataError: A margin is negative, or a bound names a metric that the evaluation does not have.
    """
    if limits.margin < 0 or limits.slice_margin < 0:
        raise DataError(
            f"the margins of the gate of model '{evaluation.model}' are {limits.margin:g} and {limits.slice_margin:g}; "
            "expected numbers from 0: how much worse a challenger may be. Correct the declaration."
        )
    rules = [
        *_leak_rules(leaks),
        _enough_rows(evaluation, limits.min_rows),
        _unseen(evaluation),
        *_answers(cannot_answer),
        *(beats_baseline(comparison, attempt) for comparison in evaluation.against_baselines),
        *(_within_bound(evaluation, name, limit) for name, limit in limits.bounds.items()),
        *champion_rules(evaluation, attempt, limits.rule, limits.margin),
    ]
    if slices is not None and evaluation.against_champion is not None:
        rules.append(_slices_hold(slices, evaluation.metric, limits.slice_margin))
    rules += [_affordable(cost, cost.limit) for cost in costs if cost.limit is not None]
    rules += own
    if attempt.was_left:
        rules.append(GateRule("rollback", holds=False, sentence=_LEFT))
    failed = [rule for rule in rules if not rule.holds and not rule.waits]
    open_questions = [rule for rule in rules if not rule.holds and rule.waits]
    return Verdict(
        promote=not failed,
        reasons=tuple(rule.sentence for rule in failed or open_questions or rules),
        rules=tuple(rules),
        is_anchor=is_anchor(evaluation, attempt),
        attempt=attempt.number if is_tested(evaluation) else None,
        test_days=evaluation.test_days,
    )


def _leak_rules(leaks: LeakFindings | None) -> tuple[GateRule, ...]:
    """Return the rules about leaks. A feature that only looks like a leak waits for a person."""
    if leaks is None:
        return ()
    is_proven = bool(leaks.proven) or (leaks.is_tested and leaks.untested > 0)
    suspicion = (
        f"A person must decide on features that predict the target almost alone: "
        f"{' '.join(it.sentence for it in leaks.suspects)}"
        if leaks.suspects
        else "No feature predicts the target almost alone, except those that the leak test cleared or the declaration "
        "acknowledges."
    )
    return (
        GateRule("leaks", holds=not is_proven, sentence=leaks.sentence, figures={"leak test cuts": float(leaks.cuts)}),
        GateRule("suspects", holds=not leaks.suspects, sentence=suspicion, waits=True),
    )


def _enough_rows(evaluation: EvaluationSummary, min_rows: int) -> GateRule:
    enough = evaluation.rows >= min_rows
    compared = "at least" if enough else "fewer than"
    by = f", resampled by {evaluation.resampled_by}" if evaluation.resampled_by else ""
    if evaluation.cross_validation is not None:
        by = f" in {evaluation.cross_validation.words}"
    return GateRule(
        name="rows",
        holds=enough,
        sentence=f"Measured on {evaluation.rows:,} rows{by}, {compared} the {min_rows:,} required.",
        figures={"rows": float(evaluation.rows), "min_rows": float(min_rows)},
    )


def _unseen(evaluation: EvaluationSummary) -> GateRule:
    """Return the rule that the rows are new to all compared models."""
    until = evaluation.last_seen_day
    who = "the challenger"
    if evaluation.champion_version is not None and not evaluation.champion_seen_rows:
        who = "the challenger, the champion or the anchor"
    if evaluation.pooled_version is not None:
        who = f"{who.replace(' or', ',')} or the pooled model"
    figures = {"excluded rows": float(evaluation.excluded_rows), "rows seen before": float(evaluation.seen_rows)}
    if evaluation.split is not None:
        sentence = _unseen_by_hash(evaluation, who)
    elif evaluation.seen_rows:
        sentence = (
            f"{evaluation.seen_rows:,} of the {evaluation.rows:,} test rows are from days up to {until}, which were "
            f"used to train or tune {who}, and the other rows are too few. Use a later as-of day, or a longer "
            "test_days."
        )
    elif evaluation.excluded_rows:
        sentence = (
            f"{evaluation.excluded_rows:,} test rows from days up to {until} are excluded, because they were used to "
            f"train or tune {who}; {evaluation.rows:,} rows remain."
        )
    else:
        sentence = f"None of these rows was used to train or tune {who}; the last day that was used is {until}."
    return GateRule("unseen", holds=not evaluation.seen_rows, sentence=sentence, figures=figures)


def _unseen_by_hash(evaluation: EvaluationSummary, who: str) -> str:
    """Return the sentence of the rule for a split that is not by time."""
    if evaluation.cross_validation is not None:
        return "Each row was scored by models that were selected, tuned and trained without its fold."
    if evaluation.seen_rows:
        return (
            f"{evaluation.seen_rows:,} of the {evaluation.rows:,} test rows were used to train or tune {who}, and the "
            "other rows are too few. Train again with the current split, or use more rows."
        )
    if evaluation.excluded_rows:
        return (
            f"{evaluation.excluded_rows:,} test rows are excluded, because they were used to train or tune {who}; "
            f"{evaluation.rows:,} rows remain."
        )
    return f"None of these rows was used to train or tune {who}."


def _answers(cannot: Sequence[str] | None) -> tuple[GateRule, ...]:
    if cannot is None:
        return ()
    sentence = f"Does not match the declaration: {' '.join(cannot)}" if cannot else "Matches the declaration."
    return (GateRule("contract", holds=not cannot, sentence=sentence),)


def _affordable(cost: ServingCost, limit: float) -> GateRule:
    holds = cost.value <= limit
    sentence = (
        f"{cost.measured} {cost.value:.3g} {cost.unit}, {'within' if holds else 'above'} the declared "
        f"{limit:g} {cost.unit}."
    )
    named = f"{cost.name}, {cost.unit}"
    return GateRule(cost.name, holds=holds, sentence=sentence, figures={named: cost.value, f"most {named}": limit})


def _within_bound(evaluation: EvaluationSummary, name: str, limit: float) -> GateRule:
    """Return whether a metric is within its limit. The more favourable end of its 95 % interval is compared.

    Sampling error alone can put a figure beyond its limit. On 5,000 rows, the calibration error of a perfectly
    calibrated model is about 0.014, and more if days differ. If the value itself were compared, a limit near that
    figure would reject good models at random. `min_rows` keeps the interval narrow.
    """
    metric = find_metric(name, evaluation.task)
    if name not in evaluation.metrics:
        raise DataError(
            f"the gate of model '{evaluation.model}' has a limit for '{name}', which its evaluation does not have; it "
            f"has {', '.join(evaluation.metrics)}. Remove the limit, or evaluate on rows for which the metric is "
            "defined."
        )
    found = evaluation.metrics[name]
    side, outside = ("floor", "below") if metric.higher_is_better else ("ceiling", "above")
    best = found.high if metric.higher_is_better else found.low
    if best is None:
        return GateRule(
            name=f"bound {name}",
            holds=False,
            sentence=f"{name} {found.value:z.4f} {found.ends('z.4f')} cannot be compared with the declared {side} of "
            f"{limit:g}.",
            figures={name: found.value, f"{side} of {name}": limit},
        )
    holds = metric.gain(best, limit) >= 0
    place = "within" if metric.gain(found.value, limit) >= 0 else f"not significantly {outside}"
    return GateRule(
        name=f"bound {name}",
        holds=holds,
        sentence=(
            f"{name} {found.value:z.4f} {found.ends('z.4f')} is "
            f"{place if holds else f'significantly {outside}'} the declared {side} of {limit:g}."
        ),
        figures={name: found.value, f"best {name}": best, f"{side} of {name}": limit},
    )


def _slices_hold(slices: pl.DataFrame, metric: str, margin: float) -> GateRule:
    judged = comparable(slices, metric)
    failing = failing_slices(slices, metric=metric, margin=margin)
    level = slice_level(judged.height)
    figures = {
        "slices judged": float(judged.height),
        "slice level": level,
        "slices worse": float(failing.height),
        "slice margin": margin,
        **{name: value for row in judged.iter_rows(named=True) for name, value in slice_figures(row).items()},
    }
    if failing.is_empty():
        sentence = f"No slice of {judged.height} is shown to be worse than with the champion by more than {margin:g}"
        if judged.height:
            worst = judged.sort("difference").row(0, named=True)
            sentence += f"; the lowest difference is that of {slice_words(worst, metric)}"
    else:
        listed = "; ".join(slice_words(row, metric) for row in failing.iter_rows(named=True))
        sentence = f"Worse than the champion by more than {margin:g} on {listed}"
    if judged.height:
        sentence += (
            f". Slices are tested together by Holm's rule, the worst of {judged.height} {confidence_words(1 - level)}. "
            f"A challenger that is within the margin on all of them fails in at most {SLICE_ERROR_RATE:.0%} of cases"
        )
    sentence += f".{unjudged_words(slices, metric)}"
    return GateRule("slices", holds=failing.is_empty(), sentence=sentence, figures=figures)
