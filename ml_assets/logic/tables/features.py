"""Select the declared columns of a feature table: one row per prediction, in a fixed order.

Not here: computing features and their rules, which are in the table's dbt model and contract.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl

from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.table import redacted
from ml_assets.logic.tables.keys import key_words, repeated_keys
from ml_assets.logic.training.encoding import inexact_words, is_exact, type_problem

_FIX: Final = (
    "If such a value is wrong, give the source's column a range in its contract (in_range), name the value in "
    "null_values, or make it null in the table's SQL. If it is an identifier, mark the column categorical. If all "
    "values are large, subtract a constant in the SQL."
)


def select_features(frame: pl.DataFrame, model: ModelColumns) -> pl.DataFrame:
    """Return only the declared columns, sorted by day, event time and key.

    Returns:
        Key, day, times, group if there is one, features. Missing features stay missing.

    Raises:
        ContractError: Columns are missing or have the wrong type, keys are null or repeated, days or times are null, or
            a double cannot represent an integer; all are listed.
    """
    key, times, personal = model.key, (model.event_time, model.prediction_time), model.personal
    schema = frame.schema
    firm = model.identified
    columns = list(dict.fromkeys([*firm, *(feature.name for feature in model.features)]))
    problems = [
        f"column '{name}' is missing. Rebuild the feature table, or remove the column from the declaration."
        for name in columns
        if name not in schema
    ]
    if DAY in schema and schema[DAY] != pl.Date:
        problems.append(f"column '{DAY}' is {schema[DAY]}; expected Date. Cast it in the feature table.")
    problems += [
        f"time '{name}' is {schema[name]}; expected a Datetime in UTC without a zone. Cast it in the feature table."
        for name in dict.fromkeys(times)
        if name in schema and not is_naive(schema[name])
    ]
    mistyped = (type_problem(feature, schema[feature.name]) for feature in model.features if feature.name in schema)
    problems += [problem for problem in mistyped if problem]
    there = [name for name in firm if name in schema]
    problems += [
        f"column '{name}' is null in {count} of {frame.height} rows; expected no null. Fix the feature table."
        for name, count in frame.select(pl.col(there).null_count()).to_dicts()[0].items()
        if count
    ]
    if set(key) <= set(schema):
        fix = "Remove the duplicates in the feature table, or declare a key with more columns."
        problems += repeated_keys(frame, key, fix=fix, personal=personal)
        problems += _inexact_values(frame, model)
    if len(problems) == 1:
        raise ContractError(f"the feature rows: {problems[0]}")
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ContractError(f"the feature rows have {len(problems)} problems:\n{listed}")
    return frame.select(columns).sort(list(dict.fromkeys([DAY, model.event_time, *key])))


def _inexact_values(frame: pl.DataFrame, model: ModelColumns) -> Iterator[str]:
    numeric = [it.name for it in model.features if not it.is_categorical and it.name in frame.columns]
    for name in numeric:
        if (beyond := frame.filter(~is_exact(frame[name]))).height:
            row = beyond.row(0, named=True)
            value = redacted(name, row[name], model.personal)
            yield (
                f"feature '{name}' {inexact_words(beyond.height, frame.height)}, such as {value} where "
                f"{key_words(row, model.key, model.personal)}. {_FIX}"
            )


def is_naive(dtype: pl.DataType) -> bool:
    """Return whether a column has times without a zone, as all times in the lake."""
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is None
