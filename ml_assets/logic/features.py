"""The features artifact: the declared columns of a feature table, one row a prediction, in a fixed order.

Computing features stays out, and so do the rules on their values: see the table's dbt model and its contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts import Feature
from ml_assets.contracts.errors import ContractError
from ml_assets.logic.encoding import type_problem

DAY: Final = "day"


def select_features(
    frame: pl.DataFrame,
    *,
    key: Sequence[str],
    times: Sequence[str],
    feature_list: Sequence[Feature],
    day: str = DAY,
) -> pl.DataFrame:
    """Return the declared columns and no others, sorted by day, event time and key.

    Args:
        frame: The feature table's rows.
        key: What identifies a prediction.
        times: The event time first, then the prediction time: UTC without a zone.
        feature_list: The features, in the order of the result.
        day: The column with the day a row belongs to.

    Returns:
        Key, day, times, features. Missing features stay missing.

    Raises:
        ContractError: Missing or mistyped columns, null or repeated keys, null days or times; all are listed.
    """
    schema = frame.schema
    firm = list(dict.fromkeys([*key, day, *times]))
    columns = list(dict.fromkeys([*firm, *(feature.name for feature in feature_list)]))
    problems = [
        f"column '{name}' is missing. Rebuild the feature table, or drop the column from the declaration."
        for name in columns
        if name not in schema
    ]
    if day in schema and schema[day] != pl.Date:
        problems.append(f"column '{day}' is {schema[day]}; expected Date. Cast it in the feature table.")
    problems += [
        f"time '{name}' is {schema[name]}; expected a Datetime in UTC without a zone. Cast it in the feature table."
        for name in dict.fromkeys(times)
        if name in schema and not is_naive(schema[name])
    ]
    mistyped = (type_problem(feature, schema[feature.name]) for feature in feature_list if feature.name in schema)
    problems += [problem for problem in mistyped if problem]
    there = [name for name in firm if name in schema]
    problems += [
        f"column '{name}' is null in {count} of {frame.height} rows; expected none. Mend the feature table."
        for name, count in frame.select(pl.col(there).null_count()).to_dicts()[0].items()
        if count
    ]
    if set(key) <= set(schema):
        problems += repeated_keys(
            frame, key, mend="Remove the duplicates in the feature table, or declare a finer key."
        )
    if len(problems) == 1:
        raise ContractError(f"the feature rows: {problems[0]}")
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise ContractError(f"the feature rows have {len(problems)} problems:\n{listed}")
    return frame.select(columns).sort(list(dict.fromkeys([day, *times[:1], *key])))


def is_naive(dtype: pl.DataType) -> bool:
    """Return whether a column holds times without a zone, as all times of the project."""
    return isinstance(dtype, pl.Datetime) and dtype.time_zone is None


def repeated_keys(frame: pl.DataFrame, key: Sequence[str], *, mend: str) -> list[str]:
    """Return what is wrong where rows share a key, with examples; empty where none do."""
    twice = frame.group_by(list(key)).len("__rows").filter(pl.col("__rows") > 1).sort(["__rows", *key], nulls_last=True)
    if twice.height == 0:
        return []
    sample = "; ".join(", ".join(f"{name}={row[name]}" for name in key) for row in twice.head(3).to_dicts())
    extra = int(twice["__rows"].sum()) - twice.height
    return [f"the key ({', '.join(key)}) repeats: {twice.height} keys, {extra} rows too many, such as {sample}. {mend}"]
