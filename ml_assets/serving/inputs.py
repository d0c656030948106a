"""The input contract of a served model: checks the values of rows, whichever protocol they came by.

Values come as columns of Python objects, or as a polars frame for large batches. Both give the same encoded rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import Feature, Model
from ml_assets.contracts.checking import check_table
from ml_assets.contracts.errors import near
from ml_assets.contracts.table import Column, TableContract, bounds
from ml_assets.logic.monitoring.predictions import contract_of
from ml_assets.logic.training.encoding import EXACT, Matrix, encode, is_unseen, to_matrix
from ml_assets.serving.errors import FieldProblem, broken_fields

ABSENT: Final = object()
"""The value of a field that a row does not have. It is never imputed."""
_SHOWN: Final = 80
"""Letters of a value that an answer repeats."""
_LISTED: Final = 50
"""Unknown fields that an answer lists."""
_Scalar = float | int | str | bool
Values = Sequence[Any]


@dataclass(frozen=True)
class Columns:
    """Values as a protocol gave them, by field. Each field has one value for each row."""

    values: Mapping[str, Values]
    rows: int

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]]) -> "Columns":
        """Return rows as columns. A field that a row lacks is absent in that row."""
        return cls(_ByField(records), len(records))


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


class _BrokenError(Exception):
    """A value breaks the contract; the message has what is expected."""


@dataclass(frozen=True)
class InputField:
    """One input of a model: its column in the contract, and how the model reads it.

    Attributes:
        codes: the code of each category as text; None for a number.
        blocks: whether a broken rule of each kind is an error, not a warning.
    """

    column: Column
    codes: Mapping[str, float] | None
    is_unseen_error: bool
    blocks: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.column.name

    @cached_property
    def typed(self) -> Callable[[Any], _Scalar]:
        """Return a value in the type of the contract, or raise that it breaks a rule."""
        return self._with_rules(_reader(self.column.dtype, is_category=self.codes is not None))

    def _with_rules(self, read: Callable[[Any], _Scalar]) -> Callable[[Any], _Scalar]:
        column = self.column
        accepted = column.accepted_values if "accepted_values" in self.blocks else None
        low, high = (column.minimum, column.maximum) if "range" in self.blocks else (None, None)
        if column.dtype == pl.Float32:
            low, high = (None if it is None else float(np.float32(it)) for it in (low, high))
        if accepted is None and low is None and high is None:
            return read
        known = None if accepted is None else frozenset(accepted)

        def checked(value: Any) -> _Scalar:
            found = read(value)
            if known is not None and found not in known:
                raise _BrokenError(f"one of {', '.join(map(str, accepted or ()))}")
            if (low is not None and found < low) or (high is not None and found > high):  # type: ignore[operator]
                raise _BrokenError(f"a value {bounds(column.minimum, column.maximum)}")
            return found

        return checked

    def encode(self, values: Values, into: Matrix, position: int, problems: "_Problems") -> int:
        """Write the values of the field to a column of a matrix; return how many are unseen categories."""
        typed, codes, unseen = self.typed, self.codes, 0
        for row, value in enumerate(values):
            if value is None:
                if "not_null" in self.blocks:
                    problems.add(self, row, value, "a value, not null")
                continue
            if value is ABSENT:
                problems.add(self, row, value, "a value or null" if self.column.is_nullable else "a value")
                continue
            try:
                found = typed(value)
            except _BrokenError as error:
                problems.add(self, row, value, str(error))
                continue
            if codes is None:
                into[row, position] = found
                continue
            code = codes.get(_text(found))
            if code is not None:
                into[row, position] = code
                continue
            unseen += 1
            if self.is_unseen_error:
                problems.add(self, row, value, "a category that the model has seen in training")
        return unseen


def _text(value: _Scalar) -> str:
    """Return a category as polars casts it to text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _reader(dtype: pl.DataType, *, is_category: bool) -> Callable[[Any], _Scalar]:
    """Return a function that gives a value of JSON in a type of contracts, or raises that it is of another type."""
    if dtype == pl.Boolean:
        return _boolean
    if dtype == pl.String:
        return _string
    if dtype.is_integer():
        low, high = (int(pl.select(end).item()) for end in (dtype.min(), dtype.max()))  # type: ignore[attr-defined]
        if not is_category:
            low, high = max(low, -EXACT), min(high, EXACT)
        return lambda value: _integer(value, low, high)
    return _single if dtype == pl.Float32 else _number


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _BrokenError("true or false")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise _BrokenError("text")
    return value


def _integer(value: Any, low: int, high: int) -> int:
    if type(value) is not int:
        if type(value) is not float or not value.is_integer():
            raise _BrokenError("a whole number")
        value = int(value)
    if not low <= value <= high:
        raise _BrokenError(f"a whole number from {low} to {high}")
    found: int = value
    return found


def _number(value: Any) -> float:
    if type(value) is float:
        if value - value == 0.0:  # neither NaN nor infinite
            return value
        raise _BrokenError("a finite number; send null for a missing value")
    if type(value) is not int:
        raise _BrokenError("a number")
    if not -EXACT <= value <= EXACT:
        raise _BrokenError("a number that a double represents exactly")
    return float(value)


def _single(value: Any) -> float:
    with np.errstate(over="ignore"):
        found = float(np.float32(_number(value)))
    if not np.isfinite(found):
        raise _BrokenError("a number within the range of float32")
    return found


class _Problems:
    """Collects what is wrong, each kind of a problem once for each field."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], FieldProblem] = {}

    def add(self, broken: InputField, row: int, value: Any, expected: str) -> None:
        """Add a value that breaks the contract."""
        key = (broken.name, expected)
        if (before := self.found.get(key)) is not None:
            self.found[key] = replace(before, rows=before.rows + 1)
            return
        got = "absent" if value is ABSENT else f"is {_shown(value, is_personal=broken.column.is_pii)}"
        self.found[key] = FieldProblem(broken.name, f"{got}; expected {expected}", row)

    def add_column(self, name: str, detail: str) -> None:
        """Add a problem of a whole column."""
        self.found[name, detail] = FieldProblem(name, detail)


def _shown(value: Any, *, is_personal: bool) -> str:
    if value is None:
        return "null"
    if is_personal:
        return "a personal value, which is not shown"
    text = repr(value) if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


@dataclass(frozen=True)
class InputContract:
    """The inputs of a model, in its order, with the contract that it was trained with."""

    model: str
    table: TableContract
    features: tuple[Feature, ...]
    fields: tuple[InputField, ...]
    vocabularies: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, model: Model) -> "InputContract":
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
        return cls(spec.model, table, spec.features, tuple(fields), spec.vocabularies)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all fields."""
        return frozenset(it.name for it in self.fields)

    def encode_columns(self, columns: Columns) -> EncodedInputs:
        """Check columns of Python values, and encode them.

        Raises:
            RequestError: values break the contract; all broken fields are listed.
        """
        problems, unseen = _Problems(), {}
        matrix = np.full((columns.rows, len(self.fields)), np.nan)
        for position, its in enumerate(self.fields):
            values = columns.values.get(its.name)
            if values is None:
                if columns.rows:
                    self._add_absent(its, problems)
                continue
            if count := its.encode(values, matrix, position, problems):
                unseen[its.name] = count
        self._refuse(columns.values, problems)
        return EncodedInputs(matrix, unseen)

    def encode_frame(self, frame: pl.DataFrame) -> EncodedInputs:
        """Check a frame, whose types may be others as long as no value changes, and encode it.

        Raises:
            RequestError: values break the contract; all broken fields are listed.
        """
        problems = _Problems()
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
        self._refuse(frame.columns, problems)
        encoded = encode(rows, self.features, self.vocabularies, "missing", model=self.model)
        unseen = {
            its.name: count
            for its in self.fields
            if its.codes is not None and (count := int(is_unseen(rows[its.name], encoded[its.name]).sum()))
        }
        return EncodedInputs(to_matrix(encoded), unseen)

    def _add_unseen(self, rows: pl.DataFrame, problems: _Problems) -> None:
        encoded = encode(rows, self.features, self.vocabularies, "missing", model=self.model)
        for its in self.fields:
            if its.codes is None:
                continue
            lost = is_unseen(rows[its.name], encoded[its.name])
            for row in lost.arg_true():
                problems.add(its, row, rows[its.name][row], "a category that the model has seen in training")

    def _add_absent(self, its: InputField, problems: _Problems) -> None:
        problems.add_column(its.name, "absent; expected a value" + (" or null" if its.column.is_nullable else ""))

    def _refuse(self, given: Iterable[str], problems: _Problems) -> None:
        """Raise if there are problems or unknown fields.

        Raises:
            RequestError: there are.
        """
        unknown = [name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…" for name in given if name not in self.names]
        for name in unknown[:_LISTED]:
            problems.add_column(name, f"unknown; expected the inputs of the model{near(name, [*self.names])}")
        if more := unknown[_LISTED:]:
            problems.add_column(more[0], f"unknown, as are {len(more) - 1} further fields")
        if problems.found:
            raise broken_fields(self.model, [*problems.found.values()])


def _typed_column(column: pl.Series, its: InputField, problems: _Problems) -> pl.Series | None:
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


def _exact(column: pl.Series, its: InputField, problems: _Problems) -> pl.Series | None:
    """Return whole numbers that doubles represent; None after adding a problem."""
    if not column.dtype.is_integer() or its.codes is not None:
        return column
    is_lost = (~column.cast(pl.Int128).is_between(-EXACT, EXACT)).fill_null(value=False)
    for row in is_lost.arg_true():
        problems.add(its, row, column[row], f"a whole number from {-EXACT} to {EXACT}")
    return None if is_lost.any() else column
