"""Render the model card: everything known about one version of a model, as one self-contained HTML page.

It measures nothing and reads no clock. What was not measured is shown as missing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from ml_assets.contracts.artifacts.evaluation import Comparison, Evaluation, EvaluationSummary
from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary, describe_states
from ml_assets.contracts.artifacts.training import ModelSpec
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import WITHIN
from ml_assets.logic.evaluation.slices import SLICE_ERROR_RATE, comparable, slice_level
from ml_assets.logic.pages.card_counts import confusion_counts
from ml_assets.logic.pages.card_input import CardInput
from ml_assets.logic.pages.card_rows import (
    about_rows,
    calibration_rows,
    feature_rows,
    features_sentence,
    fold_rows,
    lineage_rows,
    mean_score_excess,
    metric_rows,
    score_groups,
    slice_rows,
    tiles,
)
from ml_assets.logic.pages.card_words import (
    environment,
    left_out,
    read_script,
    signed_interval,
    target_words,
    test_days,
    time,
    verdict,
)
from ml_assets.logic.plots.drawing import metric_name
from ml_assets.logic.plots.evaluation import evaluation_plots
from ml_assets.logic.plots.monitoring import drift_history_plot, drift_plot, performance_plot
from ml_assets.logic.plots.training import importance_plot, selection_plot, tuning_plot
from ml_assets.logic.training.booster_importances import PERMUTED_ROWS, SHUFFLES

Tone = Literal["", "good", "bad"]

SECTIONS: tuple[tuple[str, str], ...] = (
    ("gate", "The gate's verdict"),
    ("champion", "Against champion and anchor"),
    ("slices", "Slices"),
    ("calibration", "Calibration"),
    ("operating", "At the operating point"),
    ("metrics", "Metrics beside baselines"),
    ("history", "History of champions"),
    ("call", "How to call the model"),
    ("data", "Data"),
    ("importances", "Importances"),
    ("tuning", "Tuning"),
    ("drift", "Drift after training"),
    ("performance", "Performance on new days"),
    ("test-score", "ML Test Score"),
    ("about", "What it is"),
    ("versions", "Versions and lineage"),
    ("features", "Features"),
)

_SHADOW = ("shadow", "Challengers in shadow")
"""A section only of models that declare it; it follows the gate's verdict."""
_PERFORMANCE_DAYS = 14


@dataclass(frozen=True)
class _Status:
    words: str
    tone: Tone


def render_card(card: CardInput) -> str:
    """Return the card as one HTML page with inline style and plots, without external references.

    Jinja escapes every text. Only plots are inserted as markup (matplotlib escapes their texts), and the script that
    sorts the features. The page's policy lets a browser run no other script.

    Raises:
        DataError: The evaluation belongs to another model or version than the card.
        ContractError: An artifact's frame lacks a column.
    """
    from markupsafe import Markup

    _agree(card)
    evaluation = card.evaluation.summary if card.evaluation else None
    drift_summary = _newest_drift(card)
    performance = sorted(card.performance, key=lambda day: day.at)
    performance_metric = card.performance_metric or (evaluation.metric if evaluation else _first_metric(performance))
    # Before the tables: the plots check the frames and name missing columns.
    plots = _plots(card, performance_metric)
    slices = slice_rows(card.evaluation)
    status = _status(card)
    script = read_script()
    page = (
        environment(card.task)
        .get_template("card.html.jinja")
        .render(
            card=card,
            sections=_sections(card),
            status=status,
            verdict=_verdict(card.promotion),
            cause=_cause(card.promotion),
            tiles=tiles(card),
            about=about_rows(card),
            target_words=target_words(card.task),
            features=feature_rows(card),
            features_sentence=features_sentence(card),
            estimator=None if card.model is None else card.model.estimator,
            encoding=_encoding(card.model),
            evaluation=evaluation,
            test_days=test_days(card.training_set, evaluation),
            left_out=left_out(evaluation),
            metric_rows=metric_rows(evaluation),
            fold_rows=fold_rows(evaluation),
            opponent_sentences=_opponent_sentences(evaluation),
            opponents=[it for it in (evaluation.against_champion, evaluation.against_anchor) if it is not None]
            if evaluation
            else [],
            slices=slices,
            slices_sentence=_slices_sentence(card.evaluation, card.promotion),
            slices_have_champion=any(row["champion_score"] is not None for _, rows in slices for row in rows),
            calibration=(bins := calibration_rows(card.evaluation)),
            mean_score_excess=mean_score_excess(bins, evaluation),
            confusion=confusion_counts(evaluation),
            validation_rows=_validation_rows(card),
            permuted=f"at most {PERMUTED_ROWS:,}",
            shuffles=SHUFFLES,
            drift_summary=drift_summary,
            drift_states=describe_states(
                it.state for it in card.drift_history or ([drift_summary] if drift_summary else [])
            ),
            performance=performance[-_PERFORMANCE_DAYS:],
            performance_metric=performance_metric,
            score_groups=(groups := score_groups(card.test_score)),
            score_total=min((points for _, points, _ in groups), default=None),
            lineage=lineage_rows(card),
            parameters=card.model.parameters if card.model else {},
            plots={
                name: Markup(svg)  # noqa: S704 - the XML writer of matplotlib escapes the texts in it
                for name, svg in plots.items()
            },
            script=Markup(script),  # noqa: S704 - a file of this package
            script_digest=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
            footer=_footer(card),
        )
    )
    return f"{page.strip()}\n"


def _sections(card: CardInput) -> list[tuple[str, str]]:
    """Return the sections of the page."""
    place = [name for name, _ in SECTIONS].index("gate") + 1
    return [*SECTIONS[:place], *([] if card.shadow is None else [_SHADOW]), *SECTIONS[place:]]


def _agree(card: CardInput) -> None:
    """Raise an error if the evaluation does not belong to the card's model and version."""
    if card.evaluation is None:
        return
    summary = card.evaluation.summary
    for what, expected, got in (
        ("model", card.name, summary.model),
        ("model version", card.version or summary.model_version, summary.model_version),
        ("task", card.task, summary.task),
    ):
        if expected != got:
            raise DataError(
                f"the evaluation given to the card of model '{card.name}' has {what} '{got}'; expected '{expected}'. "
                "Pass the evaluation of the same version."
            )


def _plots(card: CardInput, performance_metric: str | None) -> dict[str, str]:
    plots: dict[str, str] = {}
    if card.evaluation:
        classes = card.model.classes if card.model else (card.training_set.classes if card.training_set else ())
        plots |= evaluation_plots(card.evaluation, classes=classes)
    if (metric := _deciding_metric(card)) and not card.model_importances.is_empty():
        plots["importances"] = importance_plot(card.model_importances, metric.partition(WITHIN)[0])
    if card.importances:
        plots["selection"] = selection_plot(card.importances)
    if card.tuning:
        plots["tuning"] = tuning_plot(card.tuning)
    if card.drift:
        plots["drift"] = drift_plot(card.drift)
    if card.drift_history:
        plots["drift_history"] = drift_history_plot(card.drift_history)
    if card.performance and performance_metric:
        plots["performance"] = performance_plot(card.performance, performance_metric)
    return plots


def _status(card: CardInput) -> _Status:
    """Return in a few words whether this version is the champion."""
    entry = card.promotion
    if entry is None:
        return _Status("Not judged yet", "")
    if entry.action == "request_approval" and card.serving != entry.challenger:
        return _Status("Waits for approval", "")
    if card.serving is not None and card.version is not None:
        if card.serving == card.version:
            return _Status(f"Champion since entry {entry.number}, {entry.decided_at:%Y-%m-%d}", "good")
        if entry.action != "reject":
            return _Status("A former champion", "")
    if entry.action == "reject":
        return _Status("Rejected" if entry.champion is None else "Rejected: the champion does not change", "bad")
    return _Status(f"Champion since entry {entry.number}, {entry.decided_at:%Y-%m-%d}", "good")


def _verdict(entry: Promotion | None) -> str:
    if entry is None:
        return ""
    return {
        "promote": "Promoted",
        "reject": "Rejected",
        "rollback": "Rolled back to",
        "request_approval": "Waits for approval",
        "online": "Online",
        "withdraw": "Withdrawn",
    }[entry.action]


def _encoding(model: ModelSpec | None) -> str:
    """Return a sentence about categories and missing values."""
    if model is None:
        return ""
    words = "Missing values stay missing."
    if model.vocabularies:
        sizes = ", ".join(f"{name} ({len(values)})" for name, values in sorted(model.vocabularies.items()))
        handled = "is treated as missing" if model.unseen_categories == "missing" else "is an error"
        words += f" Categories known from training: {sizes}; an unseen one {handled}."
    return words


def _opponent_sentences(evaluation: EvaluationSummary | None) -> tuple[str, ...]:
    """Return sentences about the comparisons with the champion and the anchor."""
    if evaluation is None:
        return ()
    if evaluation.champion_version is None:
        return ("There was no champion to compare with when this model was evaluated.",)
    champion = f"the champion (version {evaluation.champion_version})"
    sentences = [_opponent_sentence(champion, evaluation.against_champion, evaluation.champion_cannot_score)]
    if evaluation.anchor_version == evaluation.champion_version:
        sentences.append(
            "The champion is also the anchor: no later champion may be worse than it by more than the margin."
        )
    elif evaluation.anchor_version is not None:
        anchor = (
            f"the anchor (version {evaluation.anchor_version}: the last champion shown to be better than those before)"
        )
        sentences.append(_opponent_sentence(anchor, evaluation.against_anchor, evaluation.anchor_cannot_score))
    return tuple(sentences)


def _opponent_sentence(who: str, item: Comparison | None, cannot_score: str | None) -> str:
    if item is None:
        return f"Not compared with {who}: {cannot_score or 'too few test rows are new to all models.'}"
    return (
        f"On the same {item.rows:,} test rows as {who}, {verdict(item)} in {metric_name(item.metric)}: "
        f"the difference is {signed_interval(item.difference)}, where above 0 means that this model is better."
    )


def _cause(entry: Promotion | None) -> str:
    """Return what the entry of the log follows from, as a sentence after another; '' if nothing is recorded."""
    if entry is None or entry.cause is None:
        return ""
    if entry.was_in_shadow:
        return " It was judged again by its comparison in shadow."
    what = "rollback" if entry.action == "rollback" else "training"
    return f" The {what} was requested by {entry.cause}."


def _slices_sentence(evaluation: Evaluation | None, promotion: Promotion | None) -> str:
    """Return a sentence about the error rate of the slices' comparison; empty if there is no comparison."""
    judged = 0 if evaluation is None else comparable(evaluation.slices, evaluation.summary.metric).height
    if not judged:
        return ""
    margin = None if promotion is None else promotion.figures.get("slice margin")
    return (
        f"A slice fails if it is shown to be worse than the champion by more than the slice margin"
        f"{'' if margin is None else f' of {margin:g}'}. {judged} slices are judged together by Holm's rule: the worst "
        f"one is tested at a level of {slice_level(judged):.2%}. A model that is within the margin on every slice "
        f"fails in at most {SLICE_ERROR_RATE:.0%} of cases. Brackets and colours show the 95 % interval of each slice "
        "alone."
    )


def _newest_drift(card: CardInput) -> DriftSummary | None:
    known = [*card.drift_history, *([card.drift.summary] if card.drift else [])]
    return max(known, key=lambda summary: summary.at, default=None)


def _deciding_metric(card: CardInput) -> str | None:
    return card.performance_metric or (card.evaluation.summary.metric if card.evaluation else None)


def _validation_rows(card: CardInput) -> str:
    """Return the count of validation rows as words, or that it is unknown."""
    windows = card.training_set.windows if card.training_set else ()
    return next((f"{it.rows:,}" for it in windows if it.split == "validation"), "an unknown number of")


def _first_metric(performance: Sequence[PerformanceSummary]) -> str | None:
    return next((name for day in performance for name in day.metrics), None)


def _footer(card: CardInput) -> str:
    version = f", version {card.version}" if card.version else ""
    when = f" Made {time(card.written_at)}." if card.written_at else ""
    return (
        f"Model card of {card.name}{version}.{when} Figures of the model are those of the "
        "artifacts listed under Versions; drift and performance are those of the newest days."
    )
