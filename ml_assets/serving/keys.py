"""The key of a model's rows: its columns as the model was trained with them, and values of requests in their types.

Whether a column of the key is personal is known from the contract of its table in the project. Where the project does
not say so, it is taken as personal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from ml_assets.contracts.artifacts.training import TrainingSetSummary
from ml_assets.contracts.table import ColumnRecord
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.serving.fields import ABSENT, BrokenValueError, InputField, Problems, Values

_NO_CATEGORIES: Final[Mapping[str, float]] = {}
"""A key is no number: whole numbers that no double represents are accepted."""


@dataclass(frozen=True)
class RowKey:
    """The columns that identify a row of a model.

    Attributes:
        fields: one for each column of the key.
        prediction_time: the column of the features with the prediction time.
    """

    fields: tuple[InputField, ...]
    prediction_time: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(it.name for it in self.fields)


@dataclass(frozen=True)
class _FrozenSummary:
    """The part of a training set that is read: without its rows."""

    summary: TrainingSetSummary


def load_key(lake: Lake, model: ArtifactRef, public: frozenset[str]) -> RowKey | None:
    """Return the key of the rows that a model was trained on; None if its training set is not in the lake.

    Args:
        lake: the lake.
        model: the version of the model.
        public: the columns of the key that are not personal.

    Raises:
        ContractError: a column of the key has a type that contracts do not support.
        CorruptArtifactError: the model or its training set is damaged.
    """
    name, _, _ = model.asset.partition("/")
    frozen = next((it for it in lake.manifest(model).inputs if it.asset == f"{name}/training_set"), None)
    if frozen is None:
        return None
    try:
        summary = lake.get(frozen, _FrozenSummary).summary
        types = lake.manifest(frozen).columns or {}
    except MissingArtifactError:
        return None
    columns = [
        ColumnRecord(name=it, dtype=types.get(it, ""), is_nullable=False, is_pii=it not in public).column()
        for it in summary.key
    ]
    fields = tuple(InputField(column, _NO_CATEGORIES, False, frozenset({"not_null"})) for column in columns)
    return RowKey(fields, summary.prediction_time)


def check_values(columns: Sequence[tuple[InputField, Values]], problems: Problems, *, may_lack: bool = True) -> None:
    """Check the values of the columns of a key; what is wrong is added to the problems.

    Args:
        columns: with their values.
        problems: to which is added.
        may_lack: whether a row may have no key.
    """
    for row, values in enumerate(zip(*(values for _, values in columns), strict=True)):
        if may_lack and all(value is ABSENT for value in values):
            continue
        for (its, _), value in zip(columns, values, strict=True):
            if value is None or value is ABSENT:
                problems.add(its, row, value, "a value")
                continue
            try:
                its.typed(value)
            except BrokenValueError as error:
                problems.add(its, row, value, str(error))


def typed_values(its: InputField, values: Values) -> pl.Series:
    """Return values of a column of a key, which fulfil the contract; null for rows without a key."""
    found = [None if value is None or value is ABSENT else its.typed(value) for value in values]
    return pl.Series(its.name, found, dtype=its.column.dtype)
