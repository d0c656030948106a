"""The input contract of a served model: checks the values of rows, whichever protocol they came by.

Values come as columns of Python objects, or as a polars frame for large batches. Both give the same encoded rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Feature, Model
from ml_assets.contracts.checking import check_table
from ml_assets.contracts.errors import near
from ml_assets.contracts.table import TableContract
from ml_assets.logic.monitoring.predictions import contract_of
from ml_assets.logic.training.encoding import EXACT, Matrix, encode, is_unseen, to_matrix
from ml_assets.serving.errors import FieldProblem
from ml_assets.serving.fields import ABSENT, SHOWN, BrokenValueError, InputField, Problems, UnseenCategoryError, Values
from ml_assets.serving.keys import RowKey, check_values

_LISTED: Final = 50
"""Unknown fields that an answer lists."""


@dataclass(frozen=True)
class Columns:
    """Values as a protocol gave them, by field. Each field has one value for each row."""

    values: Mapping[str, Values]
    rows: int

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]]) -> "Columns":
        """Return rows as columns. A field that a row lacks is absent in that row."""
        return cls(_ByField(records), len(records))

    def only(self, names: Sequence[str]) -> "Columns":
        """Return the same rows with these fields only, which all of them have."""
        return Columns.of_records([{name: row[name] for name in names} for row in self.records(names)])

    def records(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Yield the rows, each of which has these fields."""
        if isinstance(self.values, _ByField):
            yield from self.values.records
        else:
            for row in zip(*(self.values[name] for name in names), strict=True):
                yield dict(zip(names, row, strict=True))


@dataclass(frozen=True)
class _ByField(Mapping[str, Values]):
    """The values of records by field. A list is built when it is read: few rows may have many unknown fields."""

    records: Sequence[Mapping[str, Any]]

    @cached_property
    def _names(self) -> Mapping[str, None]:
        return dict.fromkeys(name for record in self.records for name in record)

    def __getitem__(self, name: str) -> Values:
        if name not in self._names:
            raise KeyError(name)
        return [record.get(name, ABSENT) for record in self.records]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class EncodedInputs:
    """Rows that fulfil the contract, encoded as the model reads them, and how many unseen categories each field has."""

    matrix: Matrix
    unseen: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class InputContract:
    """The inputs of a model, in its order, with the contract that it was trained with.

    Attributes:
        key: the key of its rows, which a request may name beside the inputs; None if it is not known.
    """

    model: str
    table: TableContract
    features: tuple[Feature, ...]
    fields: tuple[InputField, ...]
    vocabularies: Mapping[str, Sequence[str]]
    key: RowKey | None = None

    @classmethod
    def of(cls, model: Model, key: RowKey | None = None) -> "InputContract":
        """Return the input contract of a trained model. Rules over several rows do not apply to single predictions."""
        spec, trained = model.spec, contract_of(model)
        columns = tuple(replace(column, is_unique=False, relationship=None) for column in trained.columns)
        table = replace(trained, columns=columns, key=(), unique_together=())
        fields = []
        for feature in spec.features:
            rules = [it for it in table.rules if it.columns == (feature.name,) and it.is_blocking]
            words = spec.vocabularies[feature.name] if feature.is_categorical else None
            codes = None if words is None else {word: float(code) for code, word in enumerate(words)}
            fields.append(
                InputField(
                    table.column(feature.name),
                    codes,
                    spec.unseen_categories == "error",
                    frozenset(it.kind for it in rules),
                )
            )
        return cls(spec.model, table, spec.features, tuple(fields), spec.vocabularies, key)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all fields."""
        return frozenset(it.name for it in self.fields)

    @cached_property
    def key_only(self) -> tuple[InputField, ...]:
        """The columns of the key that are no inputs."""
        return () if self.key is None else tuple(it for it in self.key.fields if it.name not in self.names)

    @cached_property
    def known(self) -> frozenset[str]:
        """The names of all fields and of the columns of the key."""
        return self.names | {it.name for it in self.key_only}

    def encode_columns(self, columns: Columns) -> EncodedInputs:
        """Check columns of Python values, and encode them.

        Raises:
            RequestError: values break the contract; all broken fields are listed.
        """
        if isinstance(columns.values, _ByField) and (found := self._encoded(columns.values.records)) is not None:
            return EncodedInputs(found)
        problems, unseen = Problems(), {}
        matrix = np.full((columns.rows, len(self.fields)), np.nan)
        for position, its in enumerate(self.fields):
            values = columns.values.get(its.name)
            if values is None:
                if columns.rows:
                    self._add_absent(its, problems)
                continue
            if count := its.encode(values, matrix, position, problems):
                unseen[its.name] = count
        self._check_key(columns.values, problems)
        self._refuse(columns.values, problems)
        return EncodedInputs(matrix, unseen)

    @cached_property
    def _encoders(self) -> tuple[tuple[str, Callable[[Any], float]], ...]:
        return tuple((its.name, its.encoded) for its in self.fields)

    def _encoded(self, records: Sequence[Mapping[str, Any]]) -> Matrix | None:
        """Return the encoded rows; None if there is anything to report about them."""
        encoders, width = self._encoders, len(self.fields)
        if any(len(record) != width for record in records):
            return None
        try:
            rows = [[encoded(record[name]) for name, encoded in encoders] for record in records]
        except (KeyError, BrokenValueError, UnseenCategoryError):
            return None
        return np.array(rows, dtype=np.float64).reshape(len(rows), width)

    def encode_frame(self, frame: pl.DataFrame) -> EncodedInputs:
        """Check a frame, whose types may be others as long as no value changes, and encode it.

        Raises:
            RequestError: values break the contract; all broken fields are listed.
        """
        if (found := self._encoded_frame(frame)) is not None:
            return found
        problems = Problems()
        typed: dict[str, pl.Series] = {}
        for its in self.fields:
            if its.name not in frame.columns:
                self._add_absent(its, problems)
            elif (column := _typed_column(frame[its.name], its, problems)) is not None:
                typed[its.name] = column
        rows = pl.DataFrame(typed or None, height=frame.height)
        report = check_table(rows, self.table.only([*typed]))
        for finding in report.blocking:
            name, expected = finding.rule.columns[0], finding.rule.name
            problems.found[name, expected] = FieldProblem(name, f"breaks the rule '{expected}'", rows=finding.broken)
        if not problems.found and any(its.is_unseen_error for its in self.fields):
            self._add_unseen(rows, problems)
        self._check_key({it.name: frame[it.name].to_list() for it in self.key_only if it.name in frame}, problems)
        self._refuse(frame.columns, problems)
        encoded = encode(rows, self.features, self.vocabularies, "missing", model=self.model)
        unseen = {
            its.name: count
            for its in self.fields
            if its.codes is not None and (count := int(is_unseen(rows[its.name], encoded[its.name]).sum()))
        }
        return EncodedInputs(to_matrix(encoded), unseen)

    def _encoded_frame(self, frame: pl.DataFrame) -> EncodedInputs | None:
        """Return the encoded rows; None if there is anything to report about them, or a type is a rare one."""
        if {*frame.columns} != self.names:
            return None
        matrix, unseen = np.empty((frame.height, len(self.fields))), {}
        for position, its in enumerate(self.fields):
            found = its.encoded_column(frame[its.name])
            if found is None:
                return None
            matrix[:, position], count = found
            if count:
                unseen[its.name] = count
        return EncodedInputs(matrix, unseen)

    def _add_unseen(self, rows: pl.DataFrame, problems: Problems) -> None:
        encoded = encode(rows, self.features, self.vocabularies, "missing", model=self.model)
        for its in self.fields:
            if its.codes is None:
                continue
            lost = is_unseen(rows[its.name], encoded[its.name])
            for row in lost.arg_true():
                problems.add(its, row, rows[its.name][row], "a category that the model has seen in training")

    def _add_absent(self, its: InputField, problems: Problems) -> None:
        problems.add_column(its.name, "absent; expected a value" + (" or null" if its.column.is_nullable else ""))

    def _check_key(self, given: Mapping[str, Values], problems: Problems) -> None:
        """Check the columns of the key: a row names all of them, or none."""
        there = [(its, values) for its in self.key_only if (values := given.get(its.name)) is not None]
        names = [its.name for its, _ in there]
        for its in self.key_only if there else ():
            if its.name not in names:
                problems.add_column(its.name, f"absent; expected the whole key, because {', '.join(names)} is there")
        check_values(there, problems)

    def _refuse(self, given: Iterable[str], problems: Problems) -> None:
        """Raise if there are problems or unknown fields.

        Raises:
            RequestError: there are.
        """
        unknown = [name if len(name) <= SHOWN else f"{name[:SHOWN]}…" for name in given if name not in self.known]
        for name in unknown[:_LISTED]:
            problems.add_column(name, f"unknown; expected the inputs of the model{near(name, [*self.names])}")
        if more := unknown[_LISTED:]:
            problems.add_column(more[0], f"unknown, as are {len(more) - 1} further fields")
        problems.refuse(self.model)


def _typed_column(column: pl.Series, its: InputField, problems: Problems) -> pl.Series | None:
    """Return a column in the type of the contract; None after adding a problem if values would change."""
    dtype = its.column.dtype
    if column.dtype == dtype:
        return column if its.codes is not None or not dtype.is_integer() else _exact(column, its, problems)
    if column.dtype == pl.Null:
        return column.cast(dtype)
    if isinstance(column.dtype, pl.Categorical | pl.Enum) and dtype == pl.String:
        return column.cast(dtype)
    if not (column.dtype.is_numeric() and dtype.is_numeric()):
        problems.add_column(its.name, f"is {column.dtype}; expected {dtype}")
        return None
    cast = column.cast(dtype, strict=False)
    is_lost = cast.is_null() & column.is_not_null()
    if dtype.is_integer() and column.dtype.is_float():
        is_lost |= (column != column.round(0)).fill_null(value=False)
    if dtype.is_float() and column.dtype.is_integer():
        is_lost |= (~column.cast(pl.Int128).is_between(-EXACT, EXACT)).fill_null(value=False)
    if dtype == pl.Float32:
        is_lost |= (cast.is_infinite() & ~column.cast(pl.Float64).is_infinite()).fill_null(value=False)
    for row in is_lost.arg_true():
        problems.add(its, row, column[row], "a whole number" if dtype.is_integer() else f"a number that {dtype} holds")
    return None if is_lost.any() else _exact(cast, its, problems)


def _exact(column: pl.Series, its: InputField, problems: Problems) -> pl.Series | None:
    """Return whole numbers that doubles represent; None after adding a problem."""
    if not column.dtype.is_integer() or its.codes is not None:
        return column
    low, high = column.min(), column.max()
    if low is None or (low >= -EXACT and high <= EXACT):  # type: ignore[operator]
        return column
    is_lost = (~column.cast(pl.Int128).is_between(-EXACT, EXACT)).fill_null(value=False)
    for row in is_lost.arg_true():
        problems.add(its, row, column[row], f"a whole number from {-EXACT} to {EXACT}")
    return None if is_lost.any() else column
