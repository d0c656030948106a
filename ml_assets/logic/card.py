"""The model card: everything known about one version of a model, as one self-contained HTML page.

Nothing is measured here and no clock is read: what has not been measured is said to be missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from ml_assets.contracts.artifacts import DriftSummary, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.card_template import STYLE, TEMPLATE
from ml_assets.logic.metrics import METRICS
from ml_assets.logic.plots.drawing import interval, metric_name, number, share
from ml_assets.logic.plots.evaluation import evaluation_plots
from ml_assets.logic.plots.monitoring import drift_history_plot, drift_plot, performance_plot
from ml_assets.logic.plots.training import importance_plot, tuning_plot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from jinja2 import Environment

    from ml_assets.contracts.artifacts import (
        Comparison,
        Drift,
        Evaluation,
        EvaluationSummary,
        Feature,
        Importances,
        ModelSpec,
        PerformanceSummary,
        Promotion,
        Task,
        TrainingSetSummary,
        Tuning,
    )

Tone = Literal["", "good", "bad"]

SECTIONS: tuple[tuple[str, str], ...] = (
    ("about", "What it is and who owns it"),
    ("use", "Intended use and limits of use"),
    ("data", "Data"),
    ("features", "Features"),
    ("metrics", "Metrics beside baselines"),
    ("champion", "Against the champion"),
    ("gate", "The gate's verdict"),
    ("slices", "Slices"),
    ("calibration", "Calibration"),
    ("importances", "Importances"),
    ("tuning", "Tuning"),
    ("drift", "Drift since"),
    ("performance", "Performance since"),
    ("test-score", "ML Test Score"),
    ("versions", "Versions and lineage"),
)

_PERFORMANCE_DAYS = 14


@dataclass(frozen=True)
class CardTable:
    """One table that the model was made from."""

    name: str
    role: str
    description: str = ""
    rows: int | None = None
    first_day: date | None = None
    last_day: date | None = None


@dataclass(frozen=True)
class LeakTests:
    """What the leak tests of the features behind the training set came to, over all runs that made them."""

    samples: int
    rows: int
    leaks: int


@dataclass(frozen=True)
class ScoreLine:
    """One test of the ML Test Score with what proves it."""

    group: str
    test: str
    points: float
    evidence: str


@dataclass(frozen=True)
class Making:
    """How the model was made, from its manifest; what a manifest does not say is None."""

    code_version: str | None = None
    commit: str | None = None
    is_dirty: bool | None = None
    environment: str | None = None
    run_id: str | None = None
    seconds: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class CardInput:
    """All that the card may show; what is None or empty is shown as not measured yet.

    Attributes:
        version: The model artifact's version that the card is about.
        leak_tests: None where none was run on these features.
        promotion: The entry of the promotion log that decided about this version.
        serving: The version that serves when the card is made, if it is known.
        drift_history: Days since promotion, in any order.
        performance: Days since promotion, in any order.
        performance_metric: The metric to plot over days; the evaluation's metric where None.
        versions: Artifact name to version.
        written_at: When the card is made; naive UTC.
    """

    name: str
    task: Task
    target: str
    version: str | None = None
    description: str = ""
    owner: str = ""
    intended_use: str = ""
    limits: Sequence[str] = ()
    as_of: date | None = None
    tables: Sequence[CardTable] = ()
    leak_tests: LeakTests | None = None
    training_set: TrainingSetSummary | None = None
    model: ModelSpec | None = None
    importances: Importances | None = None
    tuning: Tuning | None = None
    evaluation: Evaluation | None = None
    promotion: Promotion | None = None
    serving: str | None = None
    drift: Drift | None = None
    drift_history: Sequence[DriftSummary] = ()
    performance: Sequence[PerformanceSummary] = ()
    performance_metric: str | None = None
    test_score: Sequence[ScoreLine] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    making: Making = field(default_factory=Making)
    written_at: datetime | None = None


@dataclass(frozen=True)
class _Tile:
    """One of the figures at the top."""

    name: str
    figure: str
    aside: str
    tone: str = ""


@dataclass(frozen=True)
class _Status:
    words: str
    tone: Tone


@dataclass(frozen=True)
class _FeatureRow:
    """One line of the features table; None where importances are not measured."""

    name: str
    unit: str | None
    description: str
    is_categorical: bool
    shap_share: float | None
    permutation: float | None
    kept: bool | None
    reason: str
    width: int


@dataclass(frozen=True)
class _MetricRow:
    title: str
    direction: str
    own: Interval
    baselines: tuple[float | None, ...]


def render_card(card: CardInput) -> str:
    """Return the card as one HTML page with style and plots inline, no script and no reference to elsewhere.

    Every text is escaped by Jinja; only the plots, whose texts matplotlib escapes, go in as markup.

    Raises:
        DataError: The evaluation is of another model or version than the card.
        ContractError: An artifact's frame lacks a column.
    """
    from markupsafe import Markup

    _agree(card)
    evaluation = card.evaluation.summary if card.evaluation else None
    drift_summary = _newest_drift(card)
    performance = sorted(card.performance, key=lambda day: day.day)
    performance_metric = card.performance_metric or (evaluation.metric if evaluation else _first_metric(performance))
    # Before the tables: the plots check the frames and say which column is missing.
    plots = _plots(card, performance_metric)
    slices = _slices(card.evaluation)
    status = _status(card)
    page = (
        _environment(card.task)
        .from_string(TEMPLATE)
        .render(
            card=card,
            style=Markup(STYLE),  # noqa: S704 - our own constant
            sections=SECTIONS,
            status=status,
            verdict=_verdict(card.promotion),
            tiles=_tiles(card, drift_summary, performance, performance_metric),
            about=_about(card),
            target_words=_target_words(card.task),
            features=_features(card),
            features_sentence=_features_sentence(card),
            encoding=_encoding(card.model),
            evaluation=evaluation,
            test_days=_test_days(card.training_set),
            metric_rows=_metric_rows(evaluation),
            champion_sentence=_champion_sentence(evaluation),
            slices=slices,
            slices_have_champion=any(row["champion_score"] is not None for _, rows in slices for row in rows),
            calibration=_calibration(card.evaluation),
            drift_summary=drift_summary,
            performance=performance[-_PERFORMANCE_DAYS:],
            performance_metric=performance_metric,
            score_groups=(groups := _score_groups(card.test_score)),
            score_total=min((points for _, points, _ in groups), default=None),
            lineage=_lineage(card),
            parameters=card.model.parameters if card.model else {},
            plots={
                name: Markup(svg)  # noqa: S704 - the XML writer of matplotlib escapes the texts in it
                for name, svg in plots.items()
            },
            footer=_footer(card),
        )
    )
    return f"{page.strip()}\n"


def _agree(card: CardInput) -> None:
    """Refuse an evaluation that is not of the card's model and version."""
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
                "Give the evaluation of the same version."
            )


def _plots(card: CardInput, performance_metric: str | None) -> dict[str, str]:
    plots: dict[str, str] = {}
    if card.evaluation:
        classes = card.model.classes if card.model else (card.training_set.classes if card.training_set else ())
        plots |= evaluation_plots(card.evaluation, classes=classes)
    if card.importances:
        plots["importances"] = importance_plot(card.importances)
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
    """Say in a few words whether this version serves."""
    entry = card.promotion
    if entry is None:
        return _Status("Not judged yet", "")
    if entry.action == "wait" and card.serving != entry.challenger:
        return _Status("Passed the gate, waits for a person", "")
    if card.serving is not None and card.version is not None:
        if card.serving == card.version:
            return _Status(f"Champion since entry {entry.number}, {entry.decided_at:%Y-%m-%d}", "good")
        if entry.action != "refuse":
            return _Status("A former champion", "")
    if entry.action == "refuse":
        return _Status("Refused: the champion stays", "bad")
    return _Status(f"Champion since entry {entry.number}, {entry.decided_at:%Y-%m-%d}", "good")


def _verdict(entry: Promotion | None) -> str:
    if entry is None:
        return ""
    return {"promote": "Promoted", "refuse": "Refused", "rollback": "Rolled back to", "wait": "Waits"}[entry.action]


def _tiles(
    card: CardInput,
    drift: DriftSummary | None,
    performance: Sequence[PerformanceSummary],
    performance_metric: str | None,
) -> list[_Tile]:
    """Return the figures at the top; a part that is not measured has none."""
    tiles: list[_Tile] = []
    if card.evaluation:
        summary = card.evaluation.summary
        if (own := summary.metrics.get(summary.metric)) is not None:
            tiles.append(_Tile(metric_name(summary.metric), number(own.value), f"95 %: {_span(own)}"))
        ahead = [item for item in summary.against_baselines if item.metric == summary.metric]
        if ahead:
            nearest = min(ahead, key=lambda item: item.difference.value)
            tiles.append(
                _Tile("Ahead of baselines by", _signed(nearest.difference.value), f"nearest: {nearest.against}")
            )
        if (versus := summary.against_champion) is not None:
            tiles.append(_Tile("Ahead of the champion by", _signed(versus.difference.value), _span(versus.difference)))
        error = summary.metrics.get("calibration_error")
        if error is not None:
            tiles.append(_Tile("Calibration error", number(error.value), f"95 %: {_span(error)}"))
    if drift is not None:
        said = (
            "not measured"
            if drift.weighted_psi is None
            else "over its limits"
            if drift.is_over
            else "within its limits"
        )
        tone = "bad-text" if drift.is_over else ""
        tiles.append(_Tile("Weighted PSI", number(drift.weighted_psi), f"{drift.day}, {said}", tone))
    measured = [day for day in performance if performance_metric in day.metrics]
    if measured and performance_metric:
        last = measured[-1]
        tiles.append(
            _Tile(
                f"{metric_name(performance_metric)} since", number(last.metrics[performance_metric]), f"on {last.day}"
            )
        )
    return tiles or [_Tile("Measured so far", "nothing yet", "not measured yet")]


def _about(card: CardInput) -> list[tuple[str, str]]:
    classes = card.model.classes if card.model else ()
    return [
        ("Model", card.name),
        ("Version", card.version or "not trained yet"),
        ("Owner", card.owner or "No owner is declared."),
        ("Task", card.task),
        ("Target", card.target),
        *([("Classes", ", ".join(classes))] if classes else []),
        ("As of", str(card.as_of) if card.as_of else "not measured yet"),
        ("Trained on", _trained_on(card.model)),
    ]


def _trained_on(model: ModelSpec | None) -> str:
    if model is None:
        return "not trained yet"
    return f"{model.training_rows:,} rows of {_days((model.trained_first_day, model.trained_last_day))}"


def _features(card: CardInput) -> list[_FeatureRow]:
    """Return declared features, most important first where that is measured, and the injected noise last."""
    if card.training_set is None and card.model is None:
        return []
    declared: tuple[Feature, ...] = card.training_set.features if card.training_set else ()
    if card.model:
        known = {feature.name for feature in declared}
        declared += tuple(feature for feature in card.model.features if feature.name not in known)
    measured = {str(row["feature"]): row for row in _importance_rows(card.importances)}
    shares = {name: _number(row["shap_share"]) for name, row in measured.items()}
    most = max((part or 0.0 for part in shares.values()), default=0.0)
    trained = {feature.name for feature in card.model.features} if card.model else None

    def line(feature: Feature) -> _FeatureRow:
        row = measured.get(feature.name, {})
        part = shares.get(feature.name)
        in_model = None if trained is None else feature.name in trained
        return _FeatureRow(
            name=feature.name,
            unit=feature.unit,
            description=feature.description,
            is_categorical=feature.is_categorical,
            shap_share=part,
            permutation=_number(row.get("permutation")),
            kept=bool(row["kept"]) if row else in_model,
            reason=str(row.get("reason") or ""),
            width=round(100 * part / most) if part and most else 0,
        )

    place = {name: index for index, name in enumerate(measured)}
    return sorted((line(feature) for feature in declared), key=lambda row: place.get(row.name, len(place)))


def _importance_rows(importances: Importances | None) -> list[dict[str, object]]:
    if importances is None:
        return []
    return importances.table.sort("rank", "feature").to_dicts()


def _features_sentence(card: CardInput) -> str:
    if card.importances is None:
        return "Importances are not measured yet."
    summary = card.importances.summary
    noise = [
        row for row in _importance_rows(card.importances) if row["feature"] not in (*summary.kept, *summary.dropped)
    ]
    sentence = f"Kept: {len(summary.kept)}; dropped: {len(summary.dropped)}."
    if noise:
        figures = ", ".join(f"{row['feature']} {number(_number(row['permutation']))}" for row in noise)
        sentence += f" Permutation importance of the injected noise, for comparison: {figures}."
    return sentence


def _encoding(model: ModelSpec | None) -> str:
    """Say how categories and missing values are handled."""
    if model is None:
        return ""
    words = "Missing values stay missing."
    if model.vocabularies:
        sizes = ", ".join(f"{name} ({len(values)})" for name, values in sorted(model.vocabularies.items()))
        handled = "is treated as missing" if model.unseen == "missing" else "is an error"
        words += f" Categories known from training: {sizes}; an unseen one {handled}."
    return words


def _test_days(training_set: TrainingSetSummary | None) -> str:
    for window in training_set.windows if training_set else ():
        if window.split == "test":
            return f" of {_days((window.first_day, window.last_day))}"
    return ""


def _metric_rows(evaluation: EvaluationSummary | None) -> list[_MetricRow]:
    if evaluation is None:
        return []
    return [
        _MetricRow(
            title=metric_name(name),
            direction="" if name not in METRICS else ("↑" if METRICS[name].higher_is_better else "↓"),
            own=own,
            baselines=tuple(baseline.metrics.get(name) for baseline in evaluation.baselines),
        )
        for name, own in evaluation.metrics.items()
    ]


def _champion_sentence(evaluation: EvaluationSummary | None) -> str:
    """Say what the paired bootstrap shows, and no more."""
    if evaluation is None or evaluation.against_champion is None:
        return ""
    item = evaluation.against_champion
    shown = {
        "good-text": "this model is better",
        "bad-text": "this model is worse",
        "": "neither is shown to be better",
    }[_tone(item)]
    version = f" (version {evaluation.champion_version})" if evaluation.champion_version else ""
    return (
        f"On the same {item.rows:,} test rows as the champion{version}, {shown} in {metric_name(item.metric)}: "
        f"the difference is {_signed_interval(item.difference)}, where above 0 means that this model is better."
    )


def _slices(evaluation: Evaluation | None) -> list[tuple[str, list[dict[str, object]]]]:
    """Return the slices of the declared metric by column, those with most rows first."""
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


def _calibration(evaluation: Evaluation | None) -> list[dict[str, object]]:
    if evaluation is None or evaluation.summary.task != "binary" or evaluation.calibration.is_empty():
        return []
    return evaluation.calibration.sort("bin").to_dicts()


def _newest_drift(card: CardInput) -> DriftSummary | None:
    known = [*card.drift_history, *([card.drift.summary] if card.drift else [])]
    return max(known, key=lambda summary: summary.day, default=None)


def _first_metric(performance: Sequence[PerformanceSummary]) -> str | None:
    return next((name for day in performance for name in day.metrics), None)


def _score_groups(lines: Sequence[ScoreLine]) -> list[tuple[str, float, list[ScoreLine]]]:
    groups: dict[str, list[ScoreLine]] = {}
    for line in lines:
        groups.setdefault(line.group, []).append(line)
    return [(group, sum(line.points for line in members), members) for group, members in groups.items()]


def _lineage(card: CardInput) -> list[tuple[str, str]]:
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
        ("LightGBM", card.model.lightgbm_version if card.model else unknown),
        ("Rounds", f"{card.model.rounds:,}" if card.model else unknown),
        ("Time", unknown if made.seconds is None else f"{made.seconds:,.1f} s"),
        ("Peak memory", unknown if made.peak_memory_bytes is None else f"{made.peak_memory_bytes / 2**20:,.0f} MiB"),
    ]


def _footer(card: CardInput) -> str:
    version = f", version {card.version}" if card.version else ""
    when = f" Made {_time(card.written_at)}." if card.written_at else ""
    return f"Model card of {card.name}{version}.{when} Every figure comes from an artifact named under Versions."


# ---------------------------------------------------------------------------------------------------------------------
# Filters: from a value to its words


def _environment(task: Task) -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": number,
        "share": share,
        "interval": interval,
        "metric": metric_name,
        "target": share if task == "binary" else number,
        "fixed": _fixed,
        "days": _days,
        "time": _time,
        "short": _short,
        "codes": ", ".join,
        "plain": _plain,
        "bounds": _bounds,
        "signed": _signed_interval,
        "signed_bounds": _signed_bounds,
        "tone": _tone,
    }
    return environment


def _target_words(task: Task) -> str:
    return "Positive" if task == "binary" else "Target mean"


def _days(days: tuple[date | None, date | None]) -> str:
    first, last = days
    if first is None or last is None:
        return "–"
    return str(first) if first == last else f"{first} to {last}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _short(version: str) -> str:
    return version[:12]


def _plain(value: float | str | bool | None) -> str:  # noqa: FBT001 - a parameter may be a Boolean
    """Write a parameter as it is: six significant digits, no separators."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _fixed(value: float | None) -> str:
    """Write small figures of one column with the same four decimals, so that they can be compared by eye."""
    return "–" if value is None else f"{value:.4f}".replace("-", "−")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _span(figure: Interval) -> str:
    """Write only the interval of a figure."""
    return interval(figure).split(" ", 1)[1]


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)


def _signed_interval(figure: Interval) -> str:
    return f"+{interval(figure)}" if figure.value > 0 else interval(figure)


def _bounds(parts: tuple[float | None, float | None, float | None]) -> str:
    value, low, high = parts
    if value is None or low is None or high is None:
        return number(value)
    return interval(Interval(value=value, low=low, high=high))


def _signed_bounds(parts: tuple[float | None, float | None, float | None]) -> str:
    words = _bounds(parts)
    return f"+{words}" if parts[0] is not None and parts[0] > 0 else words


def _tone(item: Comparison) -> Literal["good-text", "bad-text", ""]:
    if item.difference.low > 0:
        return "good-text"
    if item.difference.high < 0:
        return "bad-text"
    return ""
