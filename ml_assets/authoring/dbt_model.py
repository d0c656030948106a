"""Reads a dbt model of the project as the table of a new model: its rows in the lake, and its contract."""

from collections.abc import Mapping
from datetime import date

import polars as pl

from ml_assets.authoring.source import FoundTable
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.table import TableContract
from ml_assets.lake.store import Lake


def read_dbt_model(name: str, contracts: Mapping[str, TableContract], lake: Lake) -> FoundTable:
    """Return the rows of a dbt model that are in the lake.

    The partition `day` is a column of the table only if no other column has a date or a time in every row.

    Raises:
        DataError: the model is not by day, has no `day`, or is not in the lake.
    """
    contract = contracts[name]
    if not contract.is_by_day or contract.schema.get(DAY) != pl.Date:
        raise DataError(
            f"dbt model '{name}' ({contract.where}) has no partitions; expected 'materialized: by_day' and a column "
            f"'{DAY}' of type date, because features are stored by day."
        )
    refs = lake.newest(f"tables/{name}")
    rows = lake.scan([*refs.values()]).collect() if refs else pl.DataFrame()
    if not rows.height:
        raise DataError(
            f"tables/{name} has no rows in the lake {lake.url}; expected some to inspect. Materialize it first, in the "
            "UI (ml-assets ui), or by a run of a model that reads it (ml-assets run MODEL)."
        )
    rows = rows.select(contract.names)
    times = [it for it in contract.names if it != DAY and rows.schema[it].is_temporal() and not rows[it].null_count()]
    newest = rows[DAY].max()
    return FoundTable(
        name,
        rows.drop(DAY) if times and DAY not in contract.key else rows,
        written=newest if isinstance(newest, date) else None,
        kind="dbt model",
        dbt_model=name,
        key=contract.key,
        days=rows[DAY],
        personal=contract.personal,
    )
