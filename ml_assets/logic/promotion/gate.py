"""The gate decides whether a challenger is promoted, and reports each rule in a sentence.

Not here: measuring (see `ml_assets.logic.evaluation`), and writing the promotion log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import polars as pl

from ml_assets.contracts.artifacts import Comparison, EvaluationSummary, Interval
from ml_assets.contracts.decisions import RuleRecord
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import MOST_CORRELATED, confidence_words, lower_bound
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.evaluation.serving_cost import ServingCost
from ml_assets.logic.evaluation.slices import SLICE_ERROR_RATE, comparable, failing_slices, slice_level
from ml_assets.logic.point_in_time.suspects import LeakFindings

ChampionRule = Literal["non_inferiority", "superiority"]
NAMED_SLICES: Final = 10
ERROR_RATE: Final = 0.05
"""The error rate of all attempts since the last promotion together; see `Attempt`."""

_LEFT: Final = "This version was rolled back from before. Only a person can promote it: ml-assets promote."


@dataclass(frozen=True)
class Attempt:
    """The number of the attempt on these rows since the last promotion, and the confidence that it requires.

    Of many challengers that are no better than the champion, one passes by chance sooner or later. The error rate of
    attempt k is therefore 5 % / (k (k + 1)): 2.5 %, 0.83 %, 0.42 %, and so on. The sum over any number of attempts is
    at most 5 %.
    """

    number: int = 1

    @property
    def confidence(self) -> float:
        """The confidence of every lower bound."""
        return 1 - ERROR_RATE / (self.number * (self.number + 1))

    @property
    def confidence_words(self) -> str:
        """The confidence, as text."""
        return confidence_words(self.confidence)

    @property
    def words(self) -> str:
        """The confidence and the number of the attempt, as text."""
        return f"{self.confidence_words} (attempt {self.number} since the last promotion)"

    @property
    def figures(self) -> dict[str, float]:
        """The figures that are recorded."""
        return {"attempt": float(self.number), "confidence": self.confidence}


FIRST: Final = Attempt()


@dataclass(frozen=True)
class GateRule:
    """The result of one rule of the gate, with its figures."""

    name: str
    holds: bool
    sentence: str
    figures: Mapping[str, float]
    waits: bool = False

    @property
    def record(self) -> RuleRecord:
        """The rule as it is stored in the promotion log."""
        return RuleRecord(name=self.name, holds=self.holds, sentence=self.sentence)


@dataclass(frozen=True)
class Verdict:
    """Whether the challenger is promoted, and why.

    Attributes:
        promote: Whether every rule holds, except rules that wait for a person.
        reasons: The sentences of the failed rules. If none failed, the sentences of all rules.
        figures: The figures of all rules.
        rules: All rules, in the order of the check.
        is_anchor: Whether the challenger becomes the anchor when it is promoted. It does if there is no champion to
            compare with, or if it is better than champion and anchor: each lower bound is above zero.
        attempt: Number of the attempt since the last promotion; None if nothing could be tested.
    """

    promote: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]
    rules: tuple[GateRule, ...] = ()
    is_anchor: bool = False
    attempt: int | None = None

    @property
    def waits(self) -> bool:
        """Whether a person must decide, because a rule that waits for a person does not hold."""
        return self.promote and any(rule.waits and not rule.holds for rule in self.rules)


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
    was_left: bool = False,
    leaks: LeakFindings | None = None,
    attempt: Attempt = FIRST,
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
        was_left: Whether this version was champion before and was rolled back from.
        leaks: Findings about leaks in the features; None in a simulation.
        attempt: Number of the attempt on these rows since the last promotion.

    Raises:
        DataError: A margin is negative, or a bound names a metric that the evaluation does not have.
    """
    if limits.margin < 0 or limits.slice_margin < 0:
        message = (
            f"the margins of the gate of model '{evaluation.model}' are {limits.margin:g} and {limits.slice_margin:g}; "
            "expected numbers from 0: how much worse a challenger may be. Correct the declaration."
        )
        raise DataError(message)
    rules = [
        *_leak_rules(leaks),
        _enough_rows(evaluation, limits.min_rows),
        _unseen(evaluation),
        *_answers(cannot_answer),
        *(_beats_baseline(comparison, attempt) for comparison in evaluation.against_baselines),
        *(_within_bound(evaluation, name, limit) for name, limit in limits.bounds.items()),
        *_champion_rules(evaluation, attempt, limits.rule, limits.margin),
    ]
    if slices is not None and evaluation.against_champion is not None:
        rules.append(_slices_hold(slices, evaluation.metric, limits.slice_margin))
    rules += [_affordable(cost, cost.limit) for cost in costs if cost.limit is not None]
    if was_left:
        rules.append(GateRule("rollback", holds=False, sentence=_LEFT, figures={}))
    failed = [rule for rule in rules if not rule.holds and not rule.waits]
    open_questions = [rule for rule in rules if not rule.holds and rule.waits]
    return Verdict(
        promote=not failed,
        reasons=tuple(rule.sentence for rule in failed or open_questions or rules),
        figures={name: value for rule in rules for name, value in rule.figures.items()},
        rules=tuple(rules),
        is_anchor=_is_anchor(evaluation, attempt),
        attempt=attempt.number if _is_tested(evaluation) else None,
    )


def _is_tested(evaluation: EvaluationSummary) -> bool:
    """Return whether any comparison could have led to a promotion."""
    compared = (evaluation.against_champion, evaluation.against_anchor, *evaluation.against_baselines)
    return not evaluation.seen_rows and any(it is not None and _bound(it, FIRST) is not None for it in compared)


def _is_anchor(evaluation: EvaluationSummary, attempt: Attempt) -> bool:
    compared = (evaluation.against_champion, evaluation.against_anchor)
    bounds = [_bound(it, attempt) for it in compared if it is not None]
    return not evaluation.seen_rows and all(bound is not None and bound > 0 for bound in bounds)


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
        GateRule("suspects", holds=not leaks.suspects, sentence=suspicion, figures={}, waits=True),
    )


def _enough_rows(evaluation: EvaluationSummary, min_rows: int) -> GateRule:
    enough = evaluation.rows >= min_rows
    compared = "at least" if enough else "fewer than"
    return GateRule(
        name="rows",
        holds=enough,
        sentence=f"Measured on {evaluation.rows:,} rows, {compared} the {min_rows:,} required.",
        figures={"rows": float(evaluation.rows), "min_rows": float(min_rows)},
    )


def _unseen(evaluation: EvaluationSummary) -> GateRule:
    """Return the rule that the rows are new to all compared models."""
    until = evaluation.last_seen_day
    who = "the challenger"
    if evaluation.champion_version is not None:
        who = "the challenger, the champion or the anchor"
    figures = {"excluded rows": float(evaluation.excluded_rows), "rows seen before": float(evaluation.seen_rows)}
    if evaluation.seen_rows:
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


def _answers(cannot: Sequence[str] | None) -> tuple[GateRule, ...]:
    if cannot is None:
        return ()
    sentence = f"Does not match the declaration: {' '.join(cannot)}" if cannot else "Matches the declaration."
    return (GateRule("contract", holds=not cannot, sentence=sentence, figures={}),)


def _affordable(cost: ServingCost, limit: float) -> GateRule:
    holds = cost.value <= limit
    sentence = (
        f"{cost.measured} {cost.value:.3g} {cost.unit}, {'within' if holds else 'above'} the declared "
        f"{limit:g} {cost.unit}."
    )
    named = f"{cost.name}, {cost.unit}"
    return GateRule(cost.name, holds=holds, sentence=sentence, figures={named: cost.value, f"most {named}": limit})


def _figures(comparison: Comparison, against: str) -> dict[str, float]:
    return {
        f"{comparison.metric}": comparison.challenger,
        f"{comparison.metric} of {against}": comparison.other,
        f"difference to {against}": comparison.difference.value,
        **_ends(comparison.difference, against),
    }


def _ends(difference: Interval, against: str) -> dict[str, float]:
    if difference.low is None or difference.high is None:
        return {}
    return {f"difference to {against}, low": difference.low, f"difference to {against}, high": difference.high}


def _comparison_words(comparison: Comparison) -> str:
    difference = comparison.difference
    return (
        f"{comparison.metric} {comparison.challenger:z.4f} against {comparison.other:z.4f}, difference "
        f"{difference.value:+z.4f} {difference.ends('+z.4f')} (above zero is better)"
    )


def _bound(comparison: Comparison, attempt: Attempt) -> float | None:
    """Return the lower bound of the true difference at the attempt's confidence; None if there is none."""
    return lower_bound(comparison, attempt.confidence)


def _undecided(comparison: Comparison, who: str) -> str:
    reason = comparison.difference.reason
    return f"Cannot be compared with {who}: {reason}. Use a longer test_days, or a later as-of day."


def _beats_baseline(comparison: Comparison, attempt: Attempt) -> GateRule:
    name, bound = f"baseline {comparison.against}", _bound(comparison, attempt)
    who, figures = f"the baseline '{comparison.against}'", _figures(comparison, name)
    if bound is None:
        return GateRule(name, holds=False, sentence=_undecided(comparison, who), figures=figures)
    verb = "Beats" if bound > 0 else "Is not shown to beat"
    sentence = f"{verb} {who}: {_comparison_words(comparison)}; lower bound {bound:+z.4f} {attempt.confidence_words}."
    figures |= {f"difference to {name}, bound": bound, **attempt.figures}
    return GateRule(name, holds=bound > 0, sentence=sentence + _beyond_allowance(comparison), figures=figures)


def _within_bound(evaluation: EvaluationSummary, name: str, limit: float) -> GateRule:
    """Return whether a metric is within its limit. The more favourable end of its 95 % interval is compared.

    Sampling error alone can put a figure beyond its limit. On 5,000 rows, the calibration error of a perfectly
    calibrated model is about 0.014, and more if days differ. If the value itself were compared, a limit near that
    figure would reject good models at random. `min_rows` keeps the interval narrow.
    """
    metric = find_metric(name, evaluation.task)
    if name not in evaluation.metrics:
        message = (
            f"the gate of model '{evaluation.model}' has a limit for '{name}', which its evaluation does not have; it "
            "has "
            f"{', '.join(evaluation.metrics)}. Remove the limit, or evaluate on rows for which the metric is defined."
        )
        raise DataError(message)
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


def _champion_rules(
    evaluation: EvaluationSummary, attempt: Attempt, rule: ChampionRule, margin: float
) -> tuple[GateRule, ...]:
    comparison, version = evaluation.against_champion, evaluation.champion_version
    if version is None:
        sentence = (
            f"There is no champion yet: the baselines decide, {attempt.confidence_words} (attempt {attempt.number})."
        )
        return (GateRule("champion", holds=True, sentence=sentence, figures={}),)
    if version == evaluation.model_version:
        return (GateRule("champion", holds=False, sentence=f"The challenger is the champion ({version}).", figures={}),)
    if evaluation.seen_rows:
        return ()  # the rule "unseen" reports why nothing was compared
    anchor = _anchor_rules(evaluation, attempt, margin)
    if evaluation.champion_cannot_score is not None:
        deciding = "the baselines and the anchor decide" if evaluation.against_anchor else "the baselines decide"
        sentence = f"Champion {version} cannot score these rows, so {deciding}: {evaluation.champion_cannot_score}"
        return (GateRule("champion", holds=True, sentence=sentence, figures={}), *anchor)
    if comparison is None:
        message = (
            f"the evaluation of model '{evaluation.model}' names champion {version} but does not compare with it; "
            "expected both on the same rows. Evaluate again with the champion's scores."
        )
        raise DataError(message)
    return (_against(comparison, f"champion {version}", attempt, rule, margin), *anchor)


def _anchor_rules(evaluation: EvaluationSummary, attempt: Attempt, margin: float) -> tuple[GateRule, ...]:
    """Return the rule that the challenger is not worse than the anchor; no rule if the champion is the anchor."""
    version, comparison = evaluation.anchor_version, evaluation.against_anchor
    if version is None or version == evaluation.champion_version:
        return ()
    if comparison is not None:
        return (_against(comparison, f"anchor {version}", attempt, "non_inferiority", margin),)
    if evaluation.against_champion is None:
        return ()
    bound = _bound(evaluation.against_champion, attempt)
    is_better = bound is not None and bound > 0
    sentence = (
        f"Anchor {version} cannot score these rows, so the challenger must be better than the champion, and "
        f"{'it is' if is_better else 'that is not shown'} {attempt.words}: {evaluation.anchor_cannot_score}"
    )
    return (GateRule("anchor", holds=is_better, sentence=sentence, figures=attempt.figures),)


def _against(comparison: Comparison, who: str, attempt: Attempt, rule: ChampionRule, margin: float) -> GateRule:
    """Return the rule that the challenger is better than, or not worse than, the champion or the anchor."""
    difference, bound = comparison.difference, _bound(comparison, attempt)
    role = who.partition(" ")[0]
    figures = {**_figures(comparison, f"the {role}"), "margin": margin}
    if bound is None:
        return GateRule(role, holds=False, sentence=_undecided(comparison, who), figures=figures)
    figures |= {f"difference to the {role}, bound": bound, **attempt.figures}
    if role == "champion" and difference.value == comparison.standard_error == 0:
        sentence = (
            f"The challenger does not differ from {who}: {comparison.metric} is equal whichever of the "
            f"{comparison.clusters} {comparison.unit} is left out."
        )
        return GateRule(role, holds=False, sentence=sentence, figures=figures)
    holds = bound > 0 and difference.value >= margin if rule == "superiority" else bound >= -margin
    if rule == "superiority":
        verdict = f"Is better than {who} by the margin of {margin:g} or more"
        if not holds:
            sure = f"Is better than {who}, but not by the margin of {margin:g}"
            verdict = sure if bound > 0 else f"Is not shown to be better than {who}"
    else:
        is_worse = difference.high is not None and difference.high < -margin
        verdict = "Is not worse" if holds else "Is worse" if is_worse else "May be worse"
        verdict += f" than {who} by more than the margin of {margin:g}"
    sentence = f"{verdict}: {_comparison_words(comparison)}; lower bound {bound:+z.4f} {attempt.words}."
    return GateRule(role, holds=holds, sentence=sentence + _beyond_allowance(comparison), figures=figures)


def _beyond_allowance(comparison: Comparison) -> str:
    """Return a warning if neighbouring days may be more alike than the interval allows for; otherwise nothing."""
    if comparison.correlation < MOST_CORRELATED:
        return ""
    return (
        f" Neighbouring {comparison.unit} may have a correlation above {MOST_CORRELATED:g}, which the interval does "
        "not allow for. It may be too narrow."
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
        **{name: value for row in judged.iter_rows(named=True) for name, value in _slice_figures(row).items()},
    }
    if failing.is_empty():
        sentence = f"No slice of {judged.height} is shown to be worse than with the champion by more than {margin:g}"
        if judged.height:
            worst = judged.sort("difference").row(0, named=True)
            sentence += f"; the lowest difference is that of {_slice_words(worst, metric)}"
    else:
        listed = "; ".join(_slice_words(row, metric) for row in failing.iter_rows(named=True))
        sentence = f"Worse than the champion by more than {margin:g} on {listed}"
    if judged.height:
        sentence += (
            f". Slices are tested together by Holm's rule, the worst of {judged.height} {confidence_words(1 - level)}. "
            f"A challenger that is within the margin on all of them fails in at most {SLICE_ERROR_RATE:.0%} of cases"
        )
    sentence += f".{_unjudged(slices, metric)}"
    return GateRule("slices", holds=failing.is_empty(), sentence=sentence, figures=figures)


def _name(row: Mapping[str, object]) -> str:
    return f"{row['column']}={row['value']}"


def _slice_figures(row: Mapping[str, Any]) -> dict[str, float]:
    of = f"difference on {_name(row)}"
    return {
        of: row["difference"],
        f"{of}, low": row["difference_low"],
        f"{of}, high": row["difference_high"],
        f"{of}, rows": float(row["rows"]),
        f"{of}, {row['unit']}": float(row["clusters"]),
    }


def _slice_words(row: Mapping[str, Any], metric: str) -> str:
    return (
        f"{_name(row)} ({row['rows']:,} rows of {row['clusters']} {row['unit']}: {metric} {row['score']:z.4f} against "
        f"{row['champion_score']:z.4f}, {row['difference']:+z.4f} "
        f"[{row['difference_low']:+z.4f}, {row['difference_high']:+z.4f}])"
    )


def _unjudged(slices: pl.DataFrame, metric: str) -> str:
    """Return how many slices were not judged, and which; empty if all were."""
    left = slices.filter(pl.col("metric") == metric, ~pl.col("is_judged"))
    if left.is_empty():
        return ""
    named = [f"{_name(row)} ({row['reason']})" for row in left.head(NAMED_SLICES).iter_rows(named=True)]
    more = f" and {left.height - NAMED_SLICES} more" if left.height > NAMED_SLICES else ""
    return f" Not judged: {left.height}, {', '.join(named)}{more}."
