"""The tiles of the card and the rows of its tables.

Not here: formatting figures and days (see `card_words`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Comparison, Evaluation, EvaluationSummary, Interval
from ml_assets.contracts.artifacts.training import Feature, Importances, ModelSpec
from ml_assets.logic.evaluation.metrics import named
from ml_assets.logic.pages.card_input import CardInput, ScoreLine
from ml_assets.logic.pages.card_words import days, signed, span, test_days, verdict
from ml_assets.logic.plots.drawing import metric_name, number


@dataclass(frozen=True)
class Tile:
    """One of the figures at the top."""

    name: str
    figure: str
    aside: str
    tone: str = ""


@dataclass(frozen=True)
class FeatureRow:
    """One row of the features table; None if importances are not measured."""

    name: str
    unit: str | None
    description: str
    is_categorical: bool
    shap_share: float | None
    permutation: float | None
    is_selected: bool | None
    reason: str
    width: int


@dataclass(frozen=True)
class MetricRow:
    """One row of the metrics table; the arrow shows which direction is better."""

    title: str
    direction: str
    own: Interval
    baselines: tuple[float | None, ...]


def tiles(card: CardInput) -> list[Tile]:
    """Return the deciding metric, and its differences from the champion and from the nearest baseline."""
    if card.evaluation is None:
        return [Tile("Measured so far", "nothing yet", "not measured yet")]
    summary = card.evaluation.summary
    own = summary.metrics[summary.metric]
    where = f"{summary.rows:,} rows{test_days(card.training_set, summary)}"
    shown = [Tile(metric_name(summary.metric), number(own.value), f"95 %: {span(own)}, {where}")]
    if (versus := summary.against_champion) is not None:
        shown.append(_difference_tile("the champion", versus))
    else:
        shown.append(Tile("Difference from the champion", "not measured", "see Against champion and anchor"))
    ahead = [item for item in summary.against_baselines if item.metric == summary.metric]
    if ahead:
        nearest = min(ahead, key=lambda item: item.difference.value)
        shown.append(_difference_tile(f"the nearest baseline, '{nearest.against}'", nearest))
    return shown


def _difference_tile(who: str, item: Comparison) -> Tile:
    aside = f"95 %: {span(item.difference)}, {metric_name(item.metric)}, {item.rows:,} rows: {verdict(item)}"
    return Tile(f"Difference from {who}", signed(item.difference.value), aside)


def about_rows(card: CardInput) -> list[tuple[str, str]]:
    """Return name and text of general facts about the model."""
    classes = card.model.classes if card.model else ()
    return [
        ("Model", card.name),
        ("Version", card.version or "not trained yet"),
        ("Task", card.task),
        *([("Objective", _objective(card.model))] if card.model and card.model.objective else []),
        ("Target", card.target),
        *([("Positive class", str(card.model.positive))] if card.model and card.model.positive is not None else []),
        *([("Row weights", _weights(card))] if card.model and card.model.weight is not None else []),
        *([("Classes", ", ".join(classes))] if classes else []),
        ("As of", str(card.as_of) if card.as_of else "not measured yet"),
        ("Trained on", _trained_on(card.model)),
    ]


def _weights(card: CardInput) -> str:
    """Return what is weighted; the test rows' weights if they are measured."""
    measured = None if card.evaluation is None else card.evaluation.summary.weight
    column = f"'{card.model.weight}'" if card.model else ""
    rows = column if measured is None else f"{measured.words}, on the test rows"
    return f"{rows}. Training, metrics, intervals and baselines are weighted; counts of rows and drift are not"


def _objective(model: ModelSpec) -> str:
    words = "" if model.objective is None else model.objective.words
    if model.smearing is None:
        return words
    return (
        f"{words}; 1 + prediction is multiplied by {number(model.smearing)}, because the mean of logarithms is not the "
        "logarithm of the mean (Duan 1983)"
    )


def _trained_on(model: ModelSpec | None) -> str:
    if model is None:
        return "not trained yet"
    rows = f"{model.training_rows:,} rows of {days((model.first_training_day, model.last_training_day))}"
    if not model.refit:
        return rows
    if model.split is not None and model.split.folds:
        return (
            f"{rows}: all rows. It is not tested itself. The figures are those of models that are selected, tuned and "
            "trained in the same way without a fold; importances are those of the model before, on the validation rows"
        )
    return (
        f"{rows}: train and validation rows together. The validation rows chose parameters and rounds; importances are "
        "those of the model before, and only the test rows measure this one"
    )


def feature_rows(card: CardInput) -> list[FeatureRow]:
    """Return declared features, the most important first if that is measured, then the injected noise."""
    if card.training_set is None and card.model is None:
        return []
    declared: tuple[Feature, ...] = card.training_set.features if card.training_set else ()
    if card.model:
        known = {feature.name for feature in declared}
        declared += tuple(feature for feature in card.model.features if feature.name not in known)
    own = {str(row["feature"]): row for row in card.model_importances.to_dicts()}
    selection = {str(row["feature"]): row for row in _importance_rows(card.importances)}
    most = max((_number(row["shap_share"]) or 0.0 for row in own.values()), default=0.0)
    trained = {feature.name for feature in card.model.features} if card.model else None

    def line(feature: Feature) -> FeatureRow:
        row, selected = own.get(feature.name, {}), selection.get(feature.name, {})
        part = _number(row.get("shap_share"))
        in_model = None if trained is None else feature.name in trained
        return FeatureRow(
            name=feature.name,
            unit=feature.unit,
            description=feature.description,
            is_categorical=feature.is_categorical,
            shap_share=part,
            permutation=_number(row.get("permutation")),
            is_selected=bool(selected["is_selected"]) if selected else in_model,
            reason=str(selected.get("reason") or ""),
            width=round(100 * part / most) if part and most else 0,
        )

    place = {name: index for index, name in enumerate([*own, *(name for name in selection if name not in own)])}
    return sorted((line(feature) for feature in declared), key=lambda row: place.get(row.name, len(place)))


def features_sentence(card: CardInput) -> str:
    """Return how many features were selected, and what the figures' columns are."""
    if card.importances is None:
        return "The features' selection is not recorded."
    summary = card.importances.summary
    sentence = f"Selected: {len(summary.selected)}; dropped: {len(summary.dropped)}."
    if card.model is not None and card.model.estimator is not None:
        sentence += (
            " Permutation importance is that of this model, on validation rows. SHAP is not measured: only LightGBM "
            f"has it, and {card.model.estimator} trained the model."
        )
    elif not card.model_importances.is_empty():
        sentence += " Shares of mean |SHAP| and permutation importance are those of this model, on validation rows."
    return sentence


def _importance_rows(importances: Importances | None) -> list[dict[str, object]]:
    if importances is None:
        return []
    return importances.table.sort("rank", "feature").to_dicts()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def metric_rows(evaluation: EvaluationSummary | None) -> list[MetricRow]:
    """Return the metrics with their intervals, and those of the baselines."""
    if evaluation is None:
        return []
    known = {name: named(name) for name in evaluation.metrics}
    return [
        MetricRow(
            title=name if (metric := known[name]) is None else metric.title,
            direction="" if metric is None else "↑" if metric.higher_is_better else "↓",
            own=own,
            baselines=tuple(baseline.metrics.get(name) for baseline in evaluation.baselines),
        )
        for name, own in evaluation.metrics.items()
    ]


@dataclass(frozen=True)
class FoldRow:
    """One row of the table of folds: the deciding metric of one model on those on which it is defined."""

    who: str
    folds: int
    mean: float
    lowest: float
    highest: float
    deviation: float


def fold_rows(evaluation: EvaluationSummary | None) -> list[FoldRow]:
    """Return how the deciding metric differs between the folds of a cross-validation."""
    if evaluation is None or evaluation.cross_validation is None:
        return []
    known = {who: [it for it in scores if it is not None] for who, scores in evaluation.cross_validation.scores.items()}
    return [
        FoldRow("this model" if who == "challenger" else who, len(it), fmean(it), min(it), max(it), stdev(it))
        for who, it in known.items()
        if len(it) > 1
    ]


def slice_rows(evaluation: Evaluation | None) -> list[tuple[str, list[dict[str, object]]]]:
    """Return the slices of the deciding metric by column, those with most rows first."""
    if evaluation is None or evaluation.slices.is_empty():
        return []
    table = evaluation.slices.filter(pl.col("metric") == evaluation.summary.metric).sort("rows", descending=True)
    rows = table.with_columns(
        tone=pl.when(pl.col("difference_low") > 0)
        .then(pl.lit("good-text"))
        .when(pl.col("difference_high") < 0)
        .then(pl.lit("bad-text"))
        .otherwise(pl.lit(""))
    )
    columns = evaluation.slices["column"].unique(maintain_order=True).to_list()
    return [(column, rows.filter(pl.col("column") == column).to_dicts()) for column in columns]


def calibration_rows(evaluation: Evaluation | None) -> list[dict[str, object]]:
    """Return the calibration bins from the lowest score on; only binary models have any."""
    if evaluation is None or evaluation.summary.task != "binary" or evaluation.calibration.is_empty():
        return []
    return evaluation.calibration.sort("bin").to_dicts()


def mean_score_excess(bins: Sequence[Mapping[str, object]], evaluation: EvaluationSummary | None) -> float | None:
    """Return the mean score less the share of positives, over all rows of the bins.

    None without bins, and if rows are weighted: a bin has the count of its rows, not their weight.
    """
    if not bins or evaluation is None or evaluation.weight is not None:
        return None
    table = pl.DataFrame(list(bins))
    excess = ((pl.col("score_mean") - pl.col("truth_mean")) * pl.col("rows")).sum() / pl.col("rows").sum()
    return float(table.select(excess).item())


def score_groups(lines: Sequence[ScoreLine]) -> list[tuple[str, float, list[ScoreLine]]]:
    """Return the groups of the ML Test Score: name, points, tests."""
    groups: dict[str, list[ScoreLine]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    return [(group, sum(line.points for line in members), members) for group, members in groups.items()]


def _trained_by(model: ModelSpec | None) -> list[tuple[str, str]]:
    """Return what trained the model, and for how many rounds."""
    if model is not None and model.estimator is not None:
        return [("Estimator", model.estimator), ("Rounds", "not measured: only LightGBM has them")]
    version, rounds = (None, None) if model is None else (model.lightgbm_version, model.rounds)
    return [("LightGBM", version or "not recorded"), ("Rounds", "not recorded" if rounds is None else f"{rounds:,}")]


def lineage_rows(card: CardInput) -> list[tuple[str, str]]:
    """Return name and text of how the model was trained; "not recorded" for what the manifest does not have."""
    made = card.making
    unknown = "not recorded"
    commit = made.commit or unknown
    if made.commit and made.is_dirty is not None:
        commit += ", with uncommitted changes" if made.is_dirty else ", clean tree"
    return [
        ("Model version", card.version or "not trained yet"),
        ("Code commit", commit),
        ("Code version", made.code_version or unknown),
        ("Environment digest", made.environment or unknown),
        ("Run", made.run_id or unknown),
        *_trained_by(card.model),
        ("Time", unknown if made.seconds is None else f"{made.seconds:,.1f} s"),
        ("Peak memory", unknown if made.peak_memory_bytes is None else f"{made.peak_memory_bytes / 2**20:,.0f} MiB"),
    ]
