"""Adds the columns of a declared feature function to the rows of the feature table.

The function is called for each period alone, so a value cannot depend on which periods are materialized together.
"""

import polars as pl

from ml_assets.contracts.checking import check_table
from ml_assets.contracts.days import DAY
from ml_assets.contracts.dotted_name import find_function
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.frames import check_frames
from ml_assets.contracts.from_pandera import find_schema
from ml_assets.contracts.words import quoted
from ml_assets.declaration.features import FeatureFunctionSettings
from ml_assets.logic.tables.added_features import added_columns
from ml_assets.models.plan import ModelPlan


def checked_with_own_features(plan: ModelPlan, rows: pl.DataFrame, own: FeatureFunctionSettings) -> pl.DataFrame:
    """Return rows of the feature table with the columns of the declared function.

    Rows that break their own contract are returned unchanged.

    Raises:
        DataError: the function failed.
        ContractError: its result breaks its contract.
    """
    contract = plan.features_contract
    before = contract.only([name for name in contract.names if name not in plan.own_columns])
    if check_table(rows, before).blocking:
        return rows
    schema, found = find_schema(own.contract), with_own_features(plan, rows, own)
    schema.name = f"the columns of feature function {own.name}"
    schema.columns = {name: it for name, it in schema.columns.items() if name in plan.own_columns}
    fix = f"Correct the function, or its contract {own.contract}."
    check_frames([found.select(plan.own_columns)], schema, personal=plan.personal, fix=fix)
    return found


def with_own_features(plan: ModelPlan, rows: pl.DataFrame, own: FeatureFunctionSettings) -> pl.DataFrame:
    """Return rows of the feature table with the columns of the declared function, whose values are not checked.

    Raises:
        DataError: the function failed.
        ContractError: its result is not a frame with each row's key once, or has other columns than its contract.
    """
    names = plan.own_columns
    inputs = rows.select(name for name in plan.features_columns if name not in names)
    if rows.is_empty():
        return inputs.with_columns(pl.lit(None, plan.features_table.column(name).dtype).alias(name) for name in names)
    inputs = inputs.sort(list(dict.fromkeys([DAY, plan.columns.event_time, *plan.key])))
    periods = inputs.select(plan.calendar.period_of_row()).to_series()
    function, expected, found = find_function(own.name), [*find_schema(own.contract).columns], []
    for period in periods.unique(maintain_order=True):
        part = inputs.filter(periods == period)
        added = added_columns(part, function, key=plan.key, name=own.name)
        new = [name for name in added.columns if name not in plan.key]
        if sorted(new) != sorted(expected):
            raise ContractError(
                f"feature function {own.name} returned the new columns {quoted(new)}; its contract {own.contract} has "
                f"{quoted(expected)}. Correct one of them."
            )
        found.append(part.with_columns(added.select(names)))
    return pl.concat(found)
