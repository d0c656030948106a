"""Combine a model's scores with the feature rows that they were computed from, and check that a model may score.

Not here: scoring (see `ml_assets.logic.training.booster`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.training import INTERVAL, Model, ModelSpec, Task
from ml_assets.contracts.changes import ContractChange
from ml_assets.contracts.checking import check_table
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.table import TableContract
from ml_assets.logic.training.encoding import check_columns

FEATURES: Final = "features"
PREDICTION_ID: Final = "prediction_id"
OWN_COLUMNS: Final = frozenset(
    {PREDICTION_ID, "model_version", "features_version", FEATURES, "score", "predicted", *INTERVAL}
)
"""Columns that every prediction adds; a multiclass model also adds `score_<class>`."""
MODEL_NAME: Final = "model_name"
"""A column that combined predictions add."""


def score_rows(
    features: pl.DataFrame,
    scores: pl.DataFrame,
    spec: ModelSpec,
    columns: ModelColumns,
    *,
    model_version: str,
    features_version: str,
) -> pl.DataFrame:
    """Combine scores with their keys and feature rows. `columns` are those of the feature rows.

    Returns:
        `prediction_id`, key, day, prediction time, group and query if there are any, the columns of the scores,
        `model_version`, `features_version` and `features`, a struct of the model's own features in the model's order.
        The id consists of the model's version and the key, so scoring a row again with the same model gives the same
        id.

    Raises:
        ContractError: Columns are missing or have the wrong type, or a column has a reserved name; all are listed.
        DataError: The number of scores differs from the number of rows, scores are missing, or keys are null or
            repeated.
    """
    key = columns.key
    identified = list(dict.fromkeys([*key, DAY, columns.prediction_time, *columns.together]))
    problems = _problems(features, spec, scores, identified)
    if problems:
        raise ContractError("\n".join(problems))
    if scores.height != features.height:
        raise DataError(
            f"model '{spec.model}' gave {scores.height} scores for {features.height} rows; expected one per row. "
            "Score the same rows."
        )
    check_scores(scores, spec)
    named = features.select(
        prediction_id(key, model_version),
        *identified,
        pl.struct(feature.name for feature in spec.features).alias(FEATURES),
    )
    if named[PREDICTION_ID].null_count() or named[PREDICTION_ID].n_unique() < named.height:
        raise DataError(
            f"the key ({', '.join(key)}) of the rows to score has {named[PREDICTION_ID].null_count()} nulls and "
            f"{named[PREDICTION_ID].drop_nulls().n_unique()} distinct values in {named.height} rows; expected one per "
            "row. Remove the duplicates in the feature table."
        )
    return pl.concat([named, scores], how="horizontal").select(
        PREDICTION_ID,
        *identified,
        *scores.columns,
        pl.lit(model_version).alias("model_version"),
        pl.lit(features_version).alias("features_version"),
        FEATURES,
    )


def in_shadow(rows: pl.DataFrame, scored: Sequence[pl.DataFrame], columns: ModelColumns) -> pl.DataFrame:
    """Return the predictions of challengers as one table, with the same columns whichever challengers there are.

    Args:
        rows: the feature rows that were scored.
        scored: (rows of `score_rows`) the predictions of each challenger; none if there is no challenger.
        columns: those of the feature rows.
    """
    identified = dict.fromkeys([*columns.key, DAY, columns.prediction_time, *columns.together])
    empty = rows.clear().select(
        prediction_id(columns.key, ""),
        *identified,
        pl.lit(None, pl.Float64).alias("score"),
        pl.lit(None, pl.String).alias("model_version"),
        pl.lit(None, pl.String).alias("features_version"),
        *([pl.lit(None, pl.String).alias("predicted")] if columns.task == "multiclass" else []),
    )
    return pl.concat([empty, *(it.select(empty.columns) for it in scored)])


@dataclass(frozen=True)
class ScoredRows:
    """Rows with the predictions of the model that scored them, in the same order."""

    model: str
    rows: pl.DataFrame
    predictions: pl.DataFrame


def rows_by_model(
    rows: pl.DataFrame, column: str, values: Mapping[str, bool | int | str], *, others: str
) -> dict[str, pl.DataFrame]:
    """Return the rows of each model: those with its value in a column, and the remaining ones for another model."""
    found = {name: rows.filter(pl.col(column) == value) for name, value in values.items()}
    is_taken = pl.lit(value=False)
    for value in values.values():
        is_taken |= pl.col(column).eq_missing(value)
    return {**found, others: rows.filter(~is_taken)}


def undeclared(rows: pl.DataFrame, column: str, values: Sequence[bool | int | str]) -> pl.DataFrame:
    """Return the values of a column that are not among some values, with their rows, the most frequent first."""
    counts = rows.group_by(pl.col(column).alias("value")).agg(rows=pl.len())
    return counts.remove(pl.col("value").is_in([*values])).sort("rows", "value", descending=[True, False])


def combine(scored: Sequence[ScoredRows], *, column: str) -> pl.DataFrame:
    """Return the predictions of several models as one table, with the model's name and the column that assigns rows.

    A class that a model does not know has the score 0. Prediction intervals are left out unless all models have them.
    `features` is left out, because the features of models differ; `features_version` has the rows.
    """
    also = [] if column in scored[0].predictions.columns else [column]
    together = pl.concat(
        [
            it.predictions.drop(FEATURES).with_columns(*it.rows.select(also), pl.lit(it.model).alias(MODEL_NAME))
            for it in scored
        ],
        how="diagonal",
    )
    partial = [name for name in INTERVAL if any(name not in it.predictions.columns for it in scored)]
    classes = [name for name, dtype in together.schema.items() if name.startswith("score_") and dtype == pl.Float64]
    last = [MODEL_NAME, "model_version", "features_version", *also]
    return together.select(
        pl.exclude(*last, *partial, *classes), pl.col(classes).fill_null(0.0), *last
    ).sort(PREDICTION_ID)  # fmt: skip


def check_question(
    spec: ModelSpec, *, version: str, task: Task, target: str, positive: bool | int | str | None = None
) -> None:
    """Raise an error if the model does not predict the declared target, its positive class and the task.

    That happens if the target of a model is changed, or if a new model gets the name of a removed one.

    Raises:
        ContractError: Task, target or positive class differ.
    """
    if (spec.task, spec.target, spec.positive) != (task, target, positive):
        was, now = (named_target(*it) for it in ((spec.target, spec.positive), (target, positive)))
        raise ContractError(
            f"the champion {version[:12]} of model '{spec.model}' predicts {was} ({spec.task}), but the "
            f"declaration has {now} ({task}). Train and promote a model for it: ml-assets run {spec.model}. "
            "If it is another model, give it another name."
        )


def named_target(target: str, positive: bool | int | str | None) -> str:  # noqa: FBT001 - a label may be Boolean
    """Return a target with its positive class, as text."""
    return f"'{target}'" if positive is None else f"'{target}' = {positive!r}"


def check_inputs(changes: Sequence[ContractChange], spec: ModelSpec, *, version: str, where: str) -> None:
    """Raise an error if rows have another meaning than those that the model was trained on.

    Raises:
        ContractError: Changes are incompatible; all are listed.
    """
    broken = [change.sentence for change in changes if not change.is_compatible]
    if broken:
        listed = "\n".join(f"- {sentence}" for sentence in broken)
        raise ContractError(
            f"model '{spec.model}' ({version[:12]}) was trained under another contract and cannot score these rows:\n"
            f"{listed}\nTrain it again and let the gate judge it, or revert the change in {where}."
        )


def prediction_id(key: Sequence[str], model_version: str) -> pl.Expr:
    """Return the expression of a prediction's id: `<model version>/<key>/<key>…`; a `/` in a key becomes `%2F`."""
    parts = [
        pl.col(name).cast(pl.String).str.replace_all("%", "%25", literal=True).str.replace_all("/", "%2F", literal=True)
        for name in key
    ]
    return pl.concat_str(pl.lit(model_version), *parts, separator="/").alias(PREDICTION_ID)


def _problems(features: pl.DataFrame, spec: ModelSpec, scores: pl.DataFrame, identified: Sequence[str]) -> list[str]:
    problems = [
        f"column '{name}' is missing; it identifies predictions of model '{spec.model}'. "
        "Rebuild the feature table, or correct the declaration."
        for name in dict.fromkeys(identified)
        if name not in features.columns
    ]
    own = OWN_COLUMNS | {*scores.columns}
    problems += [
        f"column '{name}' has a reserved name, which predictions use. Rename it in its table."
        for name in dict.fromkeys(identified)
        if name in own
    ]
    try:
        check_columns(features, spec.features, model=spec.model)
    except ContractError as error:
        problems.append(str(error))
    if "score" not in scores.columns:
        problems.append(f"the scores of model '{spec.model}' have no column 'score'; they have {scores.columns}.")
    return problems


def contract_of(model: Model) -> TableContract:
    """Return the contract of the features that a model reads, as it was trained with them."""
    trained = model.contract.contract()
    read = {feature.name for feature in model.spec.features}
    return trained.only([name for name in trained.names if name in read])


def check_rows(rows: pl.DataFrame, model: Model) -> pl.DataFrame:
    """Return the features that a model reads, after checking them against the contract that it was trained with.

    Raises:
        ContractError: columns are missing or have the wrong type, or rows break a rule; all are listed.
    """
    contract = contract_of(model)
    inputs = rows.select(name for name in rows.columns if name in contract.names)
    report = check_table(inputs, contract)
    if report.blocking:
        listed = "\n".join(f"- {report.sentence(finding)}" for finding in report.blocking)
        raise ContractError(f"model '{model.spec.model}' cannot score these rows:\n{listed}")
    return inputs


def check_scores(scores: pl.DataFrame, spec: ModelSpec) -> None:
    """Raise an error if a row has no score.

    Raises:
        DataError: scores are missing or not finite.
    """
    is_number = pl.col("score").cast(pl.Float64).is_finite()
    lost = int(scores.select((~is_number.fill_null(value=False)).sum()).item())
    if lost:
        raise DataError(
            f"model '{spec.model}' gave no score for {lost} of {scores.height} rows; expected numbers. "
            "Train the model again."
        )
