"""The columns of a person's pandera model, as columns of a table's contract."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from ml_assets.contracts.dotted_name import find_function
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, ColumnRecord

if TYPE_CHECKING:
    import pandera.polars as pa

_METADATA: Final = {"categorical": "is_categorical", "pii": "is_pii", "unit": "unit"}
"""What `pa.Field(metadata=...)` may state, and the field of a column that it sets."""


def find_schema(name: str) -> pa.DataFrameSchema:
    """Return the schema of the pandera model with a dotted name.

    Raises:
        ContractError: there is no such name, or it is no pandera model for polars.
    """
    import pandera.polars as pa

    found = find_function(name)
    if not (isinstance(found, type) and issubclass(found, pa.DataFrameModel)):
        raise ContractError(f"{name} is no pandera model; expected a subclass of pandera.polars.DataFrameModel.")
    return deepcopy(found.to_schema())  # pandera keeps one for each model


def columns_from_pandera(name: str) -> tuple[Column, ...]:
    """Return the columns of a pandera model: type, description, accepted values and range; each is a feature.

    A column is nullable if its field is. Text is categorical; whole numbers are if the field's metadata contain
    `{"categorical": True}`. Other keys of the metadata are `unit` and `pii`. Checks without an equivalent, such as a
    function of your own, are made by pandera alone.

    Raises:
        ContractError: it is no pandera model, has no column, or a column has an unsuitable type or metadata.
    """
    columns = tuple(_column(name, it) for it in find_schema(name).columns.values())
    if not columns:
        raise ContractError(f"{name} has no columns; declare each new feature as a field, such as `ratio: float`.")
    return columns


def _column(model: str, field: Any) -> Column:  # noqa: ANN401 - pandera has no types for these
    metadata = dict(field.metadata or {})
    unknown = sorted(set(metadata) - set(_METADATA))
    if unknown:
        known = ", ".join(_METADATA)
        raise ContractError(f"{model}: column '{field.name}' has the metadata {', '.join(unknown)}; expected {known}.")
    found = {check.name: check.statistics for check in field.checks}
    dtype = field.dtype.type
    dtype = dtype() if isinstance(dtype, type) else dtype
    accepted = found.get("isin", {}).get("allowed_values")
    column = Column(
        name=field.name,
        dtype=dtype,
        description=field.description or "",
        role="feature",
        is_nullable=field.nullable,
        accepted_values=None if accepted is None else tuple(accepted),
        minimum=found.get("greater_than_or_equal_to", {}).get("min_value"),
        maximum=found.get("less_than_or_equal_to", {}).get("max_value"),
        **{"is_categorical": dtype == pl.String, **{_METADATA[key]: value for key, value in metadata.items()}},
    )
    try:
        ColumnRecord.of(column)
    except ContractError as error:
        raise ContractError(f"{model}: {error}") from error
    return column
