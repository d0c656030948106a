"""Measure a day's predictions on the labels known so far, and compute the metrics that the scores lead to expect.

Not here: what follows from it (see `ml_assets.logic.monitoring.retraining`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import (
    DailyPerformance,
    Performance,
    PerformanceSummaries,
    PerformanceSummary,
    PreviousChampionPerformance,
)
from ml_assets.contracts.artifacts.training import ModelSpec, Task
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.periods import period_words
from ml_assets.logic.evaluation.jackknife import Clusters, interval_of, leave_one_out
from ml_assets.logic.evaluation.metrics import (
    Metric,
    expected_metric,
    find_metric,
    group_numbers,
    groups_of,
    metrics_of,
)
from ml_assets.logic.tables.keys import newest_known, repeated_keys
from ml_assets.logic.tables.split import was_seen
from ml_assets.logic.training.encoding import mean_of, number_problem, weight_vector

Vector = NDArray[np.float64]

_FORMER: Final = "former_"
TABLE_SCHEMA: Final = pl.Schema(
    {
        "metric": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "expected": pl.Float64,
        "expected_labelled": pl.Float64, "rows": pl.Int64, "reason": pl.String,
    }
)  # fmt: skip

DAILY_SCHEMA: Final = pl.Schema([("model_version", pl.String()), *TABLE_SCHEMA.items()])


def daily_performance(
    day: date, versions: Sequence[Performance], whole_day: Sequence[Performance] = ()
) -> DailyPerformance:
    """Return the performance of a day from that of each model version that made predictions of it.

    `whole_day` is that of the day that ends with this hour.
    """
    tables = [
        it.table.select(pl.lit(it.summary.model_version).alias("model_version"), *TABLE_SCHEMA) for it in versions
    ]
    return DailyPerformance(
        table=pl.concat([DAILY_SCHEMA.to_frame(), *tables]),
        summaries=PerformanceSummaries(
            day=day,
            versions=tuple(it.summary for it in versions),
            whole_day=tuple(it.summary for it in whole_day),
        ),
    )


def measure_performance(
    predictions: pl.DataFrame,
    labels: pl.DataFrame,
    model: ModelColumns,
    *,
    day: date,
    hour: datetime | None = None,
    metrics: Sequence[str] | None = None,
    former: tuple[str, pl.DataFrame] | None = None,
    champion: ModelSpec | None = None,
    seed: int = 0,
) -> Performance:
    """Join a day's predictions with the labels known so far, and measure them.

    `labels` has one row per version of a label known so far: the newest version of a key is used, and a null target has
    no label. `former` is the version of the previous champion with one score for each prediction. Without `metrics`,
    all of the task are measured. If the training set of the `champion` that made the predictions is not split by time,
    rows that it was trained or tuned on are not measured; without it, all rows are. Intervals leave out folds of rows,
    so they ignore what all rows of the day have in common. With a declared group they leave out groups, if there are
    several. For a ranking they leave out queries, and a query is measured once the labels of all its rows are known. If
    labels have weights, every metric is weighted, and rows with weight 0 are not measured.

    Returns:
        One row per metric. `value` is measured on the labelled rows, with its 95 % interval; it is null, with a reason,
        if the metric is not defined on them. `expected` is over all predictions of the day, and `expected_labelled`
        over the labelled ones, with which `value` is compared. Both are null for metrics without an expectation (see
        `expected_metric`). `expected` is null for weighted labels, because other predictions have no weight yet.

    Raises:
        ContractError: Columns are missing, keys have different types, or the target does not match the task.
        DataError: The day has more than one model version, keys repeat, two versions of a label have the same known
            time, or a metric is unknown.
    """
    key, task = model.key, model.task
    chosen = tuple(find_metric(name, task) for name in metrics) if metrics else metrics_of(task, model.objective)
    _check_columns(predictions, labels, model)
    known = labels.join(predictions.select(key), on=list(key), how="semi")
    _check_rows(predictions, known, model)
    newest = newest_known(known, key, model.known_time)
    if former is not None:
        predictions = _with_former(predictions, former[1], model=model.name)
    all_rows, versions = predictions.height, predictions["model_version"].unique().to_list()
    if champion is not None and champion.split is not None:
        predictions = _held_out(predictions, newest, champion, model)
    seen, weight = all_rows - predictions.height, None if model.weight is None else "__weight"
    if model.weight is not None:
        weightless = newest.filter(pl.col(model.target).is_not_null(), pl.col(model.weight) == 0)
        predictions = predictions.join(weightless, on=list(key), how="anti", maintain_order="left")
    weightless_rows = all_rows - seen - predictions.height
    own = [] if model.weight is None else [pl.col(model.weight).alias("__weight")]
    joined = predictions.join(
        newest.select(*key, pl.col(model.target).alias("__truth"), *own, pl.lit(True).alias("__is_known")),
        on=list(key),
        how="left",
        maintain_order="left",
    )
    is_measured = pl.col("__truth").is_not_null()
    if model.query is not None:
        is_measured &= pl.col("__is_known").is_not_null().all().over(model.query)
    labelled = joined.filter(is_measured)
    classes = tuple(name.removeprefix("score_") for name in predictions.columns if name.startswith("score_"))
    truth, weights = _truth(labelled, task=task, classes=classes, target=model.target), weight_vector(labelled, weight)
    scores = _scores(predictions, task, classes)
    labelled_scores = _scores(labelled, task, classes)
    rows = [
        {
            "metric": metric.name,
            "rows": labelled.height,
            "expected": None if weight else expected_metric(metric, scores, groups_of(metric, predictions)),
            "expected_labelled": expected_metric(metric, labelled_scores, groups_of(metric, labelled), weights),
            **_measure(metric, labelled, truth, labelled_scores, weights, group=model.group, seed=seed),
        }
        for metric in chosen
    ]
    table = pl.DataFrame(rows, schema=TABLE_SCHEMA)
    without_label = joined.filter(pl.col("__is_known") & pl.col("__truth").is_null()).height
    measured = {
        it["metric"]: Interval(value=it["value"], low=it["low"], high=it["high"], reason=it["reason"] or "")
        for it in table.drop_nulls("value").iter_rows(named=True)
    }
    expected, expected_labelled = (
        dict(table.drop_nulls(name).select("metric", name).iter_rows()) for name in ("expected", "expected_labelled")
    )
    return Performance(
        table=table,
        summary=PerformanceSummary(
            model=model.name,
            model_version=versions[0] if versions else "",
            day=day,
            hour=hour,
            predictions=predictions.height,
            labelled=labelled.height,
            without_label=without_label,
            seen_rows=seen,
            weightless_rows=weightless_rows,
            measured=measured,
            expected=expected,
            expected_labelled=expected_labelled,
            target_mean=None if task == "multiclass" else _mean(truth, weights),
            expected_target_mean=_mean(scores) if _predicts_mean(task, model.objective) and weight is None else None,
            previous_champion=None
            if former is None
            else PreviousChampionPerformance(
                version=former[0],
                metrics=_defined(chosen, labelled, truth, _scores(labelled, task, classes, prefix=_FORMER), weights),
            ),
            unmeasured=dict(table.filter(pl.col("value").is_null()).select("metric", "reason").iter_rows()),
            sentence=_sentence(
                period_words(day, hour),
                chosen[0].name,
                predictions=predictions.height,
                labelled=labelled.height,
                without_label=without_label,
                seen=seen,
                weightless=weightless_rows,
                measured=measured.get(chosen[0].name),
                expected=(expected_labelled if chosen[0].name in measured else expected).get(chosen[0].name),
            ),
        ),
    )


def _held_out(
    predictions: pl.DataFrame, newest: pl.DataFrame, champion: ModelSpec, model: ModelColumns
) -> pl.DataFrame:
    """Return the predictions of rows that the champion was neither trained nor tuned on."""
    labelled = newest.select(*model.key, model.known_time, pl.col(model.target).alias(champion.target))
    rows = predictions.select(name for name in predictions.columns if name not in labelled.columns or name in model.key)
    rows = rows.join(labelled, on=list(model.key), how="left", maintain_order="left")
    return predictions.filter(~was_seen(champion, rows, known_time=model.known_time, timezone=model.timezone))


def _with_former(predictions: pl.DataFrame, scores: pl.DataFrame, *, model: str) -> pl.DataFrame:
    if scores.height != predictions.height:
        raise DataError(
            f"the previous champion of model '{model}' gave {scores.height} scores for {predictions.height} "
            "predictions; expected one each. Score the same rows with both."
        )
    named = scores.select(pl.selectors.starts_with("score")).rename(lambda name: f"{_FORMER}{name}")
    return predictions.hstack(named.get_columns())


def _defined(
    metrics: Sequence[Metric], labelled: pl.DataFrame, truth: Vector, scores: Vector, weights: Vector | None
) -> dict[str, float]:
    """Return the metrics that are defined on these rows."""
    found = {}
    for metric in metrics if len(truth) else ():
        try:
            found[metric.name] = metric.function(truth, scores, weights, groups=groups_of(metric, labelled))
        except DataError:
            continue  # the champion's row of the table has the reason
    return found


def _measure(
    metric: Metric,
    labelled: pl.DataFrame,
    truth: Vector,
    scores: Vector,
    weights: Vector | None,
    *,
    group: str | None,
    seed: int,
) -> dict[str, float | str | None]:
    """Return the metric with its interval, or the reason why it has none."""
    if len(truth) == 0:
        return {"reason": "no label is known yet"}
    try:
        groups = groups_of(metric, labelled)
        measure = metric.measure(truth, scores, groups, weights)
        value = measure(np.ones(len(truth)))
    except DataError as error:
        return {"reason": str(error)}
    folds = Clusters.of_rows(len(truth), seed=seed)
    if "ranking" in metric.tasks and groups is not None:
        folds = Clusters.of_groups(groups, column=str(metric.within))
    # Predictions from before the group was declared lack it, and a single group cannot be left out.
    elif group is not None and group in labelled.columns and labelled[group].n_unique() > 1:
        folds = Clusters.of_groups(group_numbers(labelled[group]), column=group)
    left_out = leave_one_out({metric.name: measure}, folds)[metric.name]
    evidence = folds.evidence(metric, truth, scores, groups, weights)
    found = interval_of(metric, truth, scores, value=value, left_out=left_out, evidence=evidence, weights=weights)
    return {"value": value, "low": found.low, "high": found.high, "reason": found.reason}


def _check_columns(predictions: pl.DataFrame, labels: pl.DataFrame, model: ModelColumns) -> None:
    problems = [
        f"column '{name}' of the {where} of model '{model.name}' is missing. Materialize the {where} again."
        for where, frame, names in (
            ("predictions", predictions, [*model.key, "score", "model_version"]),
            ("labels", labels, dict.fromkeys([*model.label_key, *model.label_values])),
        )
        for name in names
        if name not in frame.columns
    ]
    problems += [
        f"key '{name}' is {predictions.schema[name]} in the predictions and {labels.schema[name]} in the labels of "
        f"model '{model.name}'. Cast one in its table."
        for name in model.key
        if name in predictions.schema and name in labels.schema and predictions.schema[name] != labels.schema[name]
    ]
    if model.task == "multiclass" and not any(name.startswith("score_") for name in predictions.columns):
        problems.append(
            f"the predictions of model '{model.name}' have no column 'score_<class>'; task 'multiclass' needs one per "
            "class. Materialize the predictions again."
        )
    if problems:
        raise ContractError("\n".join(problems))


def _check_rows(predictions: pl.DataFrame, labels: pl.DataFrame, model: ModelColumns) -> None:
    versions = predictions["model_version"].unique().sort().to_list()
    if len(versions) > 1:
        raise DataError(
            f"the day's predictions come from {len(versions)} versions of model '{model.name}': {', '.join(versions)}; "
            "expected one. Materialize the day's predictions again."
        )
    repeated = [
        f"the {where} of model '{model.name}': {problem}"
        for where, frame, names, fix in (
            ("predictions", predictions, list(model.key), "Keep one row per key."),
            ("labels", labels, model.label_key, "Keep one row per key and known time."),
        )
        for problem in repeated_keys(frame, names, fix=fix, personal=model.personal)
    ]
    if repeated:
        raise DataError("\n".join(repeated))


def _truth(labelled: pl.DataFrame, *, task: Task, classes: Sequence[str], target: str) -> Vector:
    column = labelled["__truth"]
    if task != "multiclass":
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            raise ContractError(f"target '{target}' is {column.dtype}; task '{task}' expects numbers. Cast it.")
        if problem := number_problem(column):
            raise DataError(f"target '{target}' {problem}.")
        values = column.cast(pl.Float64)
        wrong = values.filter(~values.is_in([0.0, 1.0])).unique().sort().head(5).to_list() if task == "binary" else []
        if wrong:
            got = ", ".join(f"{value:g}" for value in wrong)
            raise DataError(f"target '{target}' has {got}; task 'binary' expects 0 and 1. Fix the label table.")
        return values.to_numpy()
    index = column.cast(pl.String).replace_strict(
        list(classes), range(len(classes)), default=None, return_dtype=pl.Int64
    )
    if index.null_count():
        unknown = ", ".join(column.cast(pl.String).filter(index.is_null()).unique().sort().head(5))
        raise DataError(
            f"target '{target}' has {index.null_count()} labels of classes that the model does not have: {unknown}; it "
            f"has {', '.join(classes)}. Train again on rows that have them."
        )
    return index.cast(pl.Float64).to_numpy()


def _scores(frame: pl.DataFrame, task: Task, classes: Sequence[str], *, prefix: str = "") -> Vector:
    names = [f"{prefix}score_{name}" for name in classes] if task == "multiclass" else [f"{prefix}score"]
    scores = frame.select(pl.col(names).cast(pl.Float64)).to_numpy()
    lost = int((~np.isfinite(scores)).any(axis=1).sum())
    if lost:
        raise DataError(
            f"{lost} of {frame.height} predictions have no finite score; expected numbers. "
            "Materialize the predictions again."
        )
    return scores if task == "multiclass" else scores[:, 0]


def _predicts_mean(task: Task, objective: Objective | None) -> bool:
    return task != "multiclass" and (objective is None or objective.loss in ("mse", "poisson", "tweedie"))


def _mean(values: Vector, weights: Vector | None = None) -> float | None:
    return mean_of(values, weights) if len(values) else None


def _sentence(
    period: str,
    metric: str,
    *,
    predictions: int,
    labelled: int,
    without_label: int,
    seen: int,
    weightless: int,
    measured: Interval | None,
    expected: float | None,
) -> str:
    sentence = f"{labelled} of {predictions} predictions of {period} have a label"
    if seen:
        sentence += f"; {seen} others, of rows that the model was trained or tuned on, are not measured"
    if weightless:
        sentence += f"; {weightless} of weight 0 {'is' if weightless == 1 else 'are'} not measured"
    if without_label:
        sentence += f", {without_label} will never have one"
    if measured is not None:
        sentence += f"; {metric} {measured.value:z.3f} {measured.ends('z.3f')}"
        sentence += f", {expected:z.3f} was expected of the same rows" if expected is not None else ""
    elif expected is not None:
        sentence += f"; {metric} {expected:z.3f} is expected"
    return f"{sentence}."
