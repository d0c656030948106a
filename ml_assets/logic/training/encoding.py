"""The rows that a model takes, and their encoding as numbers: the only one, in training and prediction.

Not here: training (see `ml_assets.logic.training.model`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Feature, PredictionInterval, Task, TrainingSetSummary, Unseen
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.table import Column, TableContract

if TYPE_CHECKING:
    from pydantic import JsonValue

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]

EXACT: Final = 2**53
"""Integers up to this one are exact as doubles, which LightGBM reads."""


_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_WIDE: Final = frozenset({pl.Int64, pl.UInt64, pl.Int128})


def type_problem(feature: Feature, dtype: pl.DataType) -> str | None:
    """Return why a column cannot be this feature, or None.

    LightGBM's Arrow reader aborts the whole process on text, dates and decimals, so this check runs first.
    """
    if dtype == pl.Null:
        return None
    if feature.is_categorical:
        if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean) or dtype.is_integer():
            return None
        return (
            f"feature '{feature.name}' is {dtype}; expected text, whole numbers or Boolean for a categorical feature. "
            "Cast it in its table."
        )
    if dtype == pl.Boolean or dtype.is_numeric():
        return None
    hint = (
        "Mark it categorical in its table's contract"
        if dtype in (pl.String, pl.Categorical, pl.Enum)
        else "Cast it in its table"
    )
    return f"feature '{feature.name}' is {dtype}; expected a number or Boolean. {hint}, or remove it."


def check_columns(frame: pl.DataFrame | pl.LazyFrame, features: Sequence[Feature], *, model: str) -> None:
    """Check that a frame has every feature of a model, in a supported type.

    Raises:
        ContractError: Columns are missing or have the wrong type; all are listed.
    """
    schema = frame.collect_schema()
    problems = [
        f"column '{feature.name}' is missing; the contract of model '{model}' requires it. "
        "Rebuild the feature table, or train a model without it."
        for feature in features
        if feature.name not in schema
    ]
    mistyped = (type_problem(feature, schema[feature.name]) for feature in features if feature.name in schema)
    problems += [problem for problem in mistyped if problem]
    if len(problems) == 1:
        raise ContractError(problems[0])
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ContractError(f"the rows break the contract of model '{model}' in {len(problems)} columns:\n{listed}")


def request_schema(contract: TableContract, features: Sequence[str]) -> dict[str, JsonValue]:
    """Return the JSON Schema (draft 2020-12) of one row to be scored: these features, in this order.

    Every feature must be given. A feature that may be missing is given as null, so that a forgotten field is an error.
    JSON has no NaN and no infinity; if a parser accepts them, `encode` rejects them.
    Units and personal data are in `x-unit` and `x-pii`.

    Raises:
        ContractError: the contract has no such column.
    """
    columns = [contract.column(name) for name in features]
    return {
        "$schema": _DRAFT,
        "title": contract.name,
        **({"description": contract.description} if contract.description else {}),
        "type": "object",
        "properties": {column.name: _property(column) for column in columns},
        "required": [column.name for column in columns],
        "additionalProperties": False,
    }


def _property(column: Column) -> dict[str, JsonValue]:
    kinds: list[JsonValue] = [_json_type(column.dtype)]
    values: list[JsonValue] | None = None if column.accepted_values is None else [*column.accepted_values]
    if column.is_nullable:
        kinds.append("null")
        values = None if values is None else [*values, None]
    low, high = _ends(column)
    facets: Mapping[str, JsonValue] = {
        "description": column.description or None,
        "format": {pl.Date: "date", pl.Datetime: "date-time"}.get(column.dtype.base_type()),
        "enum": values,
        "minimum": low,
        "maximum": high,
        "x-unit": column.unit,
        "x-pii": True if column.is_pii else None,
    }
    return {"type": kinds if len(kinds) > 1 else kinds[0], **{k: v for k, v in facets.items() if v is not None}}


def _json_type(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    return "number" if dtype.is_float() else "string"


def _ends(column: Column) -> tuple[float | None, float | None]:
    """Return the narrowest bounds: the contract's, and for integers those of the type."""
    low, high = column.minimum, column.maximum
    if not column.dtype.is_integer():
        return low, high
    least, most = (int(pl.select(end).item()) for end in (column.dtype.min(), column.dtype.max()))  # type: ignore[attr-defined]
    return (least if low is None else max(low, least)), (most if high is None else min(high, most))


def fit_vocabularies(train: pl.DataFrame, features: Sequence[Feature]) -> dict[str, tuple[str, ...]]:
    """Return the sorted categories of each categorical feature in these rows."""
    names = [feature.name for feature in features if feature.is_categorical]
    if not names:
        return {}
    seen = train.select(pl.col(name).cast(pl.String).drop_nulls().unique().sort().implode() for name in names)
    return {name: tuple(seen.get_column(name)[0]) for name in names}


def encode(
    frame: pl.DataFrame,
    features: Sequence[Feature],
    vocabularies: Mapping[str, Sequence[str]],
    unseen_categories: Unseen,
    *,
    model: str = "",
) -> pl.DataFrame:
    """Encode rows as numbers, with the same function for training, batch and online predictions.

    A category's code is its position in the vocabulary.

    Returns:
        Float64 (numbers, Booleans) and Int32 (category codes) columns; missing values stay null.

    Raises:
        ContractError: Columns are missing or have the wrong type.
        DataError: Values are NaN, infinite, or integers that no double represents; or a category is unseen, if that is
            an error.
    """
    check_columns(frame, features, model=model)
    problems = [
        f"feature '{feature.name}' {problem}"
        for feature in features
        if not feature.is_categorical and (problem := number_problem(frame.get_column(feature.name)))
    ]
    if problems:
        raise DataError(f"rows of model '{model}' cannot be encoded: {'; '.join(problems)}.")
    encoded = frame.select(
        pl.col(feature.name)
        .cast(pl.String)
        .cast(pl.Enum(vocabularies[feature.name]), strict=False)
        .to_physical()
        .cast(pl.Int32)
        if feature.is_categorical
        else pl.col(feature.name).cast(pl.Float64)
        for feature in features
    )
    if unseen_categories == "error":
        _raise_unseen(frame, encoded, features, model)
    return encoded


def number_problem(column: pl.Series) -> str | None:
    """Return why numbers cannot be converted to doubles without loss, or None. Missing values can."""
    if column.dtype.is_float():
        # numpy takes 0.1 ms for one row of sixty columns, polars expressions take 0.4 ms
        lost = column.len() - int(np.isfinite(column.to_numpy()).sum()) - column.null_count()
        if lost:
            return f"is NaN or infinite in {lost} of {column.len()} rows; make them null or numbers in its table"
    elif column.dtype in _WIDE:
        lost = int((~is_exact(column)).sum())
        if lost:
            return (
                f"{inexact_words(lost, column.len())}; make wrong values null in its table, mark it categorical if it "
                "is an identifier, or subtract a constant"
            )
    return None


def is_exact(column: pl.Series) -> pl.Series:
    """Return for each value whether a double represents it exactly; True for missing values."""
    if column.dtype not in _WIDE:
        return pl.repeat(value=True, n=column.len(), dtype=pl.Boolean, eager=True)
    return column.cast(pl.Int128).is_between(-EXACT, EXACT).fill_null(value=True)


def inexact_words(lost: int, rows: int) -> str:
    """Return a clause about a column with inexact values."""
    return f"has whole numbers beyond 2^53 in {lost} of {rows} rows, which doubles cannot represent exactly"


def is_unseen(given: pl.Series, encoded: pl.Series) -> pl.Series:
    """Return for each value of a categorical feature whether it is a category that the vocabulary lacks."""
    return encoded.is_null() & given.is_not_null()


def _raise_unseen(frame: pl.DataFrame, encoded: pl.DataFrame, features: Sequence[Feature], model: str) -> None:
    problems = []
    for name in (feature.name for feature in features if feature.is_categorical):
        lost = frame.get_column(name).filter(is_unseen(frame.get_column(name), encoded.get_column(name)))
        if lost.len():
            sample = ", ".join(f"'{value}'" for value in lost.cast(pl.String).unique().sort().head(5))
            problems.append(f"'{name}' has {lost.len()} rows with {sample}")
    if problems:
        raise DataError(
            f"categories that model '{model}' has not seen in training: {'; '.join(problems)}. "
            "Train again on rows that have them, or declare training.unseen_categories: missing."
        )


def to_matrix(encoded: pl.DataFrame) -> Matrix:
    """Return encoded columns as a row-major matrix of doubles; null becomes NaN, LightGBM's missing value."""
    if encoded.width == 0:
        return np.empty((encoded.height, 0), dtype=np.float64)
    return encoded.select(pl.all().cast(pl.Float64)).to_numpy(order="c")


def target_vector(frame: pl.DataFrame, *, target: str, task: Task, classes: Sequence[str]) -> Vector:
    """Return the target as numbers: 0/1, the value, or the index of the class in `classes`.

    Raises:
        DataError: A target is missing, NaN, infinite or beyond 2^53. LightGBM would silently accept it.
    """
    column = frame.get_column(target)
    if task != "multiclass" and (problem := number_problem(column)):
        raise DataError(f"target '{target}' {problem}.")
    if task == "multiclass":
        numbers = column.cast(pl.String).cast(pl.Enum(classes), strict=False).to_physical().cast(pl.Float64)
    else:
        numbers = column.cast(pl.Float64)
    lost = numbers.null_count()
    if lost:
        expected = f"one of {', '.join(classes)}" if task == "multiclass" else "a number"
        raise DataError(
            f"target '{target}' is not {expected} in {lost} of {frame.height} rows. Assemble the training set again."
        )
    return numbers.to_numpy()


def weight_vector(frame: pl.DataFrame, weight: str | None) -> Vector | None:
    """Return the (rows,) declared weights; None if no column is declared."""
    return None if weight is None else frame.get_column(weight).cast(pl.Float64).to_numpy()


def relative_weights(frame: pl.DataFrame, weight: str | None) -> Vector | None:
    """Return the (rows,) declared weights, divided by their mean; None if no column is declared.

    What is fitted must not depend on the unit of the weights. LightGBM's regularization and minimum leaf sizes are in
    units of it, so weights that sum to 1 would allow no split.
    """
    given = weight_vector(frame, weight)
    return None if given is None else given / given.mean()


def mean_of(values: Vector, weights: Vector | None) -> float:
    """Return the mean of (rows,) values, by their weights if there are any."""
    return float(values.mean()) if weights is None else float((weights * values).sum() / weights.sum())


def to_scale(target: Vector, objective: Objective | None) -> Vector:
    """Return the target as it is trained on."""
    return target if objective is None or objective.transform is None else np.log1p(target)


def from_scale(raw: Vector, objective: Objective | None, smearing: float | None = None) -> Vector:
    """Return predictions on the original scale. A transformed target is never negative, so neither are they."""
    if objective is None or objective.transform is None:
        return raw
    values = np.expm1(raw) if smearing is None else np.exp(raw) * smearing - 1
    return np.maximum(values, 0.0)


def smearing_factor(
    raw: Vector, target: Vector, objective: Objective | None, weights: Vector | None = None
) -> float | None:
    """Return the mean of exp(residual) of rows that the model was not trained on; None if no factor is needed.

    The mean of logarithms is not the logarithm of the mean: exp(E[log(1 + y)]) - 1 is below E[y], unless y is constant
    (Jensen's inequality). Predictions with the loss `mse` are therefore multiplied, on the scale of 1 + y, by this
    factor (Duan 1983, «Smearing estimate: A nonparametric retransformation method»). It assumes that residuals on the
    logarithmic scale have the same distribution on all rows. A median or another quantile needs no factor, because the
    logarithm keeps the order of values.

    Args:
        raw: (rows,) predictions on the scale of the training.
        target: (rows,) labels on the original scale.
        objective: The objective.
        weights: (rows,) the declared weights.
    """
    if objective is None or objective.transform is None or objective.loss != "mse":
        return None
    return mean_of(np.exp(np.log1p(target) - raw), weights)


def chosen_features(summary: TrainingSetSummary, names: Sequence[str]) -> tuple[Feature, ...]:
    """Return the named features in the training set's order, so that the model does not depend on the order of names.

    Raises:
        DataError: The training set does not have a name, or there is no name.
    """
    known = [feature.name for feature in summary.features]
    unknown = sorted(set(names) - set(known))
    if unknown or not names:
        got = ", ".join(f"'{name}'" for name in unknown) or "none"
        raise DataError(
            f"requested features of model '{summary.model}': {got}; its training set has {', '.join(known)}. "
            "Materialize importances again on this training set."
        )
    return tuple(feature for feature in summary.features if feature.name in set(names))


def random_rows(
    rows: int | NDArray[np.int64], size: int, draw: np.random.Generator, queries: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return at most `size` row numbers, drawn without replacement, in ascending order; equal seeds give equal rows.

    Taking every n-th row instead would follow patterns in the order of the rows: of pairs, it could take only one side.
    The generator is not advanced if all rows are taken. With the number of the query of every row, of which `rows` may
    be a part, whole queries are drawn: at least one, and no further one that would exceed `size`.
    """
    index = np.arange(rows) if isinstance(rows, int) else rows
    if len(index) <= size:
        return index
    if queries is None:
        return np.sort(draw.choice(index, size, replace=False))
    names, own, counts = np.unique(queries[index], return_inverse=True, return_counts=True)
    order = draw.permutation(len(names))
    chosen = order[: max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))]
    return index[np.isin(own, chosen)]


def query_numbers(rows: pl.DataFrame, objective: Objective | None) -> NDArray[np.int64] | None:
    """Return the number of the query of each row, from 0 in the order of the rows; None if the model ranks nothing.

    In a training set, the rows of a query follow each other.
    """
    if objective is None or objective.query is None:
        return None
    return rows[objective.query].rle_id().cast(pl.Int64).to_numpy()


def query_sizes(queries: NDArray[np.int64] | None) -> NDArray[np.int64] | None:
    """Return the number of rows of each query, in their order, from the number of the query of each row."""
    if queries is None:
        return None
    return np.diff(np.flatnonzero(np.diff(queries, prepend=-1)), append=len(queries))


def conformal_interval(
    truth: Vector,
    scores: Vector,
    coverage: float,
    objective: Objective | None,
    *,
    model: str,
    weights: Vector | None = None,
) -> PredictionInterval:
    """Return what is added to a prediction for its interval, from (rows,) labels and predictions of validation rows.

    Split conformal prediction: each end is the prediction plus a quantile of the residuals of rows that the model was
    not trained on (Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, «Distribution-free predictive inference for
    regression»), one for each tail (Linusson, Johansson and Löfström 2014, «Signed-error conformal regression»). If
    these rows and a new one are exchangeable, each end is exceeded with a probability of at most half of 1 - coverage.
    Two things weaken that here: the validation rows also chose parameters and rounds, and rows may change over time.
    The coverage on the test rows is therefore measured.

    Of n residuals, the upper end is the k-th smallest with k = ceil((n + 1) (1 + coverage) / 2), and the lower end the
    k-th largest. If labels cannot be negative, residuals are those of log(1 + y), so the interval widens with the
    prediction.

    With (rows,) weights, a residual counts by its weight, and the new row, whose weight is unknown, by their mean: the
    weighted quantile of Tibshirani, Barber, Candès and Ramdas 2019, «Conformal prediction under covariate shift».
    Equal weights give the k-th residuals.

    Raises:
        DataError: There are too few rows for this coverage.
    """
    is_log = objective is not None and objective.lowest_label is not None
    rows = len(truth)
    residuals = np.log1p(truth) - np.log1p(scores) if is_log else truth - scores
    own = np.ones(rows) if weights is None else weights / weights.mean()
    low, high = -_upper_end(-residuals, own, coverage), _upper_end(residuals, own, coverage)
    if not math.isfinite(high - low):
        needed = math.ceil(2 / (1 - coverage) - 1 - 1e-9)
        raise DataError(
            f"prediction intervals of model '{model}' with a coverage of {coverage:g} need at least {needed} "
            f"validation rows{'' if weights is None else ' of equal weight'}; there are {rows}. Use a longer "
            "validation window, or a lower coverage."
        )
    return PredictionInterval(coverage=coverage, low=low, high=high, is_log=is_log, rows=rows)


def _upper_end(residuals: Vector, weights: Vector, coverage: float) -> float:
    """Return the smallest residual with enough weight up to it; infinity if there is none. The weights' mean is 1."""
    order = np.argsort(residuals, kind="stable")
    place = int(np.searchsorted(np.cumsum(weights[order]), (len(residuals) + 1) * (1 + coverage) / 2 - 1e-9))
    return float(residuals[order][place]) if place < len(residuals) else math.inf


def interval_ends(scores: Vector, interval: PredictionInterval) -> tuple[Vector, Vector]:
    """Return the lower and the upper end of the interval of each prediction."""
    if not interval.is_log:
        return scores + interval.low, scores + interval.high
    low, high = (np.maximum(np.expm1(np.log1p(scores) + moved), 0.0) for moved in (interval.low, interval.high))
    return low, high
