"""Rules of the gate that compare the challenger with another model: the baselines, the champion and the anchor.

Not here: the verdict (see `ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ml_assets.contracts.artifacts.evaluation import FOLDS, Comparison, EvaluationSummary
from ml_assets.contracts.decisions import RuleRecord
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import MOST_CORRELATED, confidence_words, lower_bound

ChampionRule = Literal["non_inferiority", "superiority"]
ERROR_RATE: Final = 0.05
"""The error rate of all attempts since the last promotion together; see `Attempt`."""


@dataclass(frozen=True)
class Attempt:
    """The number of the attempt on these rows since the last promotion, and the confidence that it requires.

    Of many challengers that are no better than the champion, one passes by chance sooner or later. The error rate of
    attempt k is therefore 5 % / (k (k + 1)): 2.5 %, 0.83 %, 0.42 %, and so on. The sum over any number of attempts is
    at most 5 %.

    Attributes:
        was_left: Whether this version was champion before and was rolled back from.
    """

    number: int = 1
    was_left: bool = False

    @property
    def confidence(self) -> float:
        """The confidence of every lower bound."""
        return 1 - ERROR_RATE / (self.number * (self.number + 1))

    def bound(self, comparison: Comparison) -> float | None:
        """Return the lower bound of the true difference at the attempt's confidence; None if there is none."""
        return lower_bound(comparison, self.confidence)

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
    figures: Mapping[str, float] = field(default_factory=dict)
    waits: bool = False

    @property
    def record(self) -> RuleRecord:
        """The rule as it is stored in the promotion log."""
        return RuleRecord(name=self.name, holds=self.holds, sentence=self.sentence)


def beats_baseline(comparison: Comparison, attempt: Attempt) -> GateRule:
    """Return the rule that the challenger beats a baseline: the lower bound is above zero."""
    name, bound = f"baseline {comparison.against}", attempt.bound(comparison)
    who, figures = f"the baseline '{comparison.against}'", _figures(comparison, name)
    if bound is None:
        return GateRule(name, holds=False, sentence=_undecided(comparison, who), figures=figures)
    verb = "Beats" if bound > 0 else "Is not shown to beat"
    sentence = f"{verb} {who}: {_comparison_words(comparison)}; lower bound {bound:+z.4f} {attempt.confidence_words}."
    figures |= {f"difference to {name}, bound": bound, **attempt.figures}
    return GateRule(name, holds=bound > 0, sentence=sentence + _beyond_allowance(comparison), figures=figures)


def champion_rules(
    evaluation: EvaluationSummary, attempt: Attempt, rule: ChampionRule, margin: float
) -> tuple[GateRule, ...]:
    """Return the rules about champion and anchor.

    Raises:
        DataError: The evaluation names a champion and does not compare with it.
    """
    comparison, version = evaluation.against_champion, evaluation.champion_version
    if version is None:
        sentence = (
            f"There is no champion yet: the baselines decide, {attempt.confidence_words} (attempt {attempt.number})."
        )
        return (GateRule("champion", holds=True, sentence=sentence),)
    if version == evaluation.model_version:
        return (GateRule("champion", holds=False, sentence=f"The challenger is the champion ({version})."),)
    if evaluation.seen_rows:
        return ()  # the rule "unseen" reports why nothing was compared
    anchor = _anchor_rules(evaluation, attempt, margin)
    if evaluation.champion_seen_rows:
        sentence = f"A person must decide about champion {version}, which is {evaluation.champion_cannot_score}"
        return (GateRule("champion", holds=False, sentence=sentence, waits=True), *anchor)
    if evaluation.champion_cannot_score is not None:
        deciding = "the baselines and the anchor decide" if evaluation.against_anchor else "the baselines decide"
        sentence = f"Champion {version} cannot score these rows, so {deciding}: {evaluation.champion_cannot_score}"
        return (GateRule("champion", holds=True, sentence=sentence), *anchor)
    if comparison is None:
        raise DataError(
            f"the evaluation of model '{evaluation.model}' names champion {version} but does not compare with it; "
            "expected both on the same rows. Evaluate again with the champion's scores."
        )
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
    bound = attempt.bound(evaluation.against_champion)
    is_better = bound is not None and bound > 0
    sentence = (
        f"Anchor {version} cannot score these rows, so the challenger must be better than the champion, and "
        f"{'it is' if is_better else 'that is not shown'} {attempt.words}: {evaluation.anchor_cannot_score}"
    )
    return (GateRule("anchor", holds=is_better, sentence=sentence, figures=attempt.figures),)


def _against(comparison: Comparison, who: str, attempt: Attempt, rule: ChampionRule, margin: float) -> GateRule:
    """Return the rule that the challenger is better than, or not worse than, the champion or the anchor."""
    difference, bound = comparison.difference, attempt.bound(comparison)
    role = who.partition(" ")[0]
    figures = {**_figures(comparison, f"the {role}"), "margin": margin}
    if bound is None:
        return GateRule(role, holds=False, sentence=_undecided(comparison, who), figures=figures)
    figures |= {f"difference to the {role}, bound": bound, **attempt.figures}
    if role == "champion" and difference.value == comparison.standard_error == 0:
        where = f"whichever of the {comparison.left_out} is left out"
        if comparison.unit == FOLDS:
            where = f"on each of the {comparison.clusters} folds"
        sentence = f"The challenger does not differ from {who}: {comparison.metric} is equal {where}."
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


def is_tested(evaluation: EvaluationSummary) -> bool:
    """Return whether any comparison could have led to a promotion."""
    compared = (evaluation.against_champion, evaluation.against_anchor, *evaluation.against_baselines)
    return not evaluation.seen_rows and any(it is not None and FIRST.bound(it) is not None for it in compared)


def is_anchor(evaluation: EvaluationSummary, attempt: Attempt) -> bool:
    """Return whether the challenger becomes the anchor when it is promoted; see `Verdict`."""
    compared = (evaluation.against_champion, evaluation.against_anchor)
    bounds = [attempt.bound(it) for it in compared if it is not None]
    return not evaluation.seen_rows and all(bound is not None and bound > 0 for bound in bounds)


def _figures(comparison: Comparison, against: str) -> dict[str, float]:
    difference = comparison.difference
    ends = {"low": difference.low, "high": difference.high}
    return {
        comparison.metric: comparison.challenger,
        f"{comparison.metric} of {against}": comparison.other,
        f"difference to {against}": difference.value,
        **{f"difference to {against}, {end}": value for end, value in ends.items() if value is not None},
    }


def _comparison_words(comparison: Comparison) -> str:
    difference = comparison.difference
    return (
        f"{comparison.metric} {comparison.challenger:z.4f} against {comparison.other:z.4f}, difference "
        f"{difference.value:+z.4f} {difference.ends('+z.4f')} (above zero is better)"
    )


def _undecided(comparison: Comparison, who: str) -> str:
    reason, is_by_time = comparison.difference.reason, comparison.unit.endswith("days")
    fix = "Use a longer test_days, or a later as-of day" if is_by_time else "Use a larger test_share, or more rows"
    if comparison.unit == FOLDS:
        fix = "Use more rows, or fewer folds"
    return f"Cannot be compared with {who}: {reason}. {fix}."


def _beyond_allowance(comparison: Comparison) -> str:
    """Return a warning if neighbouring days may be more alike than the interval allows for; otherwise nothing."""
    if comparison.correlation < MOST_CORRELATED:
        return ""
    return (
        f" Neighbouring {comparison.unit} may have a correlation above {MOST_CORRELATED:g}, which the interval does "
        "not allow for. It may be too narrow."
    )
