"""Translate dbt's generic tests and constraints into rules of a contract. One without a translation is an error.

Tests written as SQL files are not translated; only dbt runs them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict, cast

import polars as pl

from ml_assets.contracts.dbt_yaml import ErrorCollector, Table, TestMeta, YamlPlace, meta_of
from ml_assets.contracts.errors import near
from ml_assets.contracts.inherited_types import Node
from ml_assets.contracts.table import Relationship, Rule, Value
from ml_assets.contracts.words import quoted

TESTS: Mapping[str, frozenset[str]] = {
    "not_null": frozenset(),
    "unique": frozenset(),
    "accepted_values": frozenset({"values", "quote"}),
    "relationships": frozenset({"to", "field"}),
    "in_range": frozenset({"minimum", "maximum"}),
    "accepted_range": frozenset({"min_value", "max_value"}),
    "unique_combination": frozenset({"columns"}),
    "unique_combination_of_columns": frozenset({"combination_of_columns"}),
}
"""The generic tests that become rules, and their supported arguments."""

CONSTRAINTS = ("not_null", "unique", "primary_key", "foreign_key")
"""The constraints that become rules."""

PLAIN: Mapping[str, tuple[object, ...]] = {
    "where": (None,),
    "limit": (None,),
    "group": (None,),
    "fail_calc": (None, "count(*)"),
    "error_if": (None, "!= 0"),
    "warn_if": (None, "!= 0"),
}
"""The config of a test for which its translation is valid."""

_GENERAL = frozenset({"column_name", "model"})
_TABLE = re.compile(r"""\b(ref|source)\(\s*['"]([^'"]+)['"]\s*(?:,\s*['"]([^'"]+)['"]\s*)?\)""")
_FIX = "write it another way, or leave it to dbt alone with config: {meta: {enforced_by: dbt}}"


@dataclass(frozen=True)
class DeclaredRule:
    """A rule that a test or constraint declares.

    Attributes:
        rule: the rule, with dbt's name of its test or constraint.
        test: the test's unique id; None for a constraint.
    """

    rule: Rule
    place: YamlPlace
    test: str | None = None


def table_in(text: str) -> str | None:
    """Return the table that a `ref` or `source` in a text names, by its name in contracts."""
    found = _TABLE.search(text)
    if found is None:
        return None
    function, first, second = found.groups()
    if function == "source":
        return f"{first}/{second}"
    return str(second or first)


def tested_table(test: Node, names: Mapping[str, str]) -> str | None:
    """Return the table that a generic test is about; `names` has tables by their unique id."""
    attached = names.get(str(test.get("attached_node")))
    return attached or table_in(str((test.get("test_metadata") or {}).get("kwargs", {}).get("model", "")))


class _UntranslatableError(ValueError):
    """A test or constraint cannot be translated; the message continues after its name."""


def _unquoted(column: str | None) -> str | None:
    """Return a column's name as in its YAML; dbt adds quotes to the name of a column with `quote: true`."""
    return column[1:-1] if column is not None and column.startswith('"') and column.endswith('"') else column


def rule_of_test(test: Node, table: Table, errors: ErrorCollector) -> DeclaredRule | None:
    """Return the rule that a generic test declares; None if only dbt enforces it, or if it has an error."""
    name: str = test["test_metadata"]["name"]
    given: Mapping[str, Any] = test["test_metadata"]["kwargs"]
    config: Mapping[str, Any] = test.get("config") or {}
    on = _unquoted(test.get("column_name"))
    package = test["test_metadata"].get("namespace")
    written = f"{package}.{name}" if package else name
    loc = ("columns", on, "data_tests", written) if on else ("data_tests", written)
    subject = f"column '{on}' of table '{table.name}'" if on else f"table '{table.name}'"
    culprit = f"test '{name}' of {subject}"
    meta = errors.check_meta(TestMeta, meta_of(test), table, *loc, what=culprit)
    if meta.enforced_by == "dbt":
        return None
    place = table.place(*loc)
    try:
        _check_is_plain(name, given, config)
        rule = _rule_of_test(name, given, on, table)
    except _UntranslatableError as error:
        errors.add(place, f"{culprit} {error}.")
        return None
    is_blocking = str(config.get("severity") or "error").lower() == "error"
    return DeclaredRule(replace(rule, is_blocking=is_blocking), place, str(test["unique_id"]))


def rules_of_constraints(table: Table, errors: ErrorCollector) -> list[DeclaredRule]:
    """Return the rules that the constraints of a table and its columns declare."""
    given = [
        *(
            (constraint, (column,), ("columns", column))
            for column, node in table.columns.items()
            for constraint in node.get("constraints") or []
        ),
        *(
            (constraint, tuple(constraint.get("columns") or ()), ())
            for constraint in table.node.get("constraints") or []
        ),
    ]
    declared = []
    for constraint, columns, loc in given:
        kind = str(constraint["type"])
        place = table.place(*loc, "constraints", kind)
        try:
            declared += [DeclaredRule(rule, place) for rule in _rules_of_constraint(kind, constraint, columns)]
        except _UntranslatableError as error:
            errors.add(place, f"constraint '{kind}' of {quoted(columns)} of table '{table.name}' {error}.")
    return declared


def _check_is_plain(name: str, given: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise an error if a test has no translation, or has settings that its translation would lose."""
    if name not in TESTS:
        raise _UntranslatableError(
            f"cannot be translated into a rule; expected one of {', '.join(TESTS)}{near(name, [*TESTS])}; {_FIX}"
        )
    more = [
        *(
            f"config {key} {config[key]!r}"
            for key, plain in PLAIN.items()
            if key in config and config[key] not in plain
        ),
        *(f"argument {key} {value!r}" for key, value in given.items() if key not in TESTS[name] | _GENERAL),
    ]
    if more:
        raise _UntranslatableError(f"has {' and '.join(more)}, which a rule cannot express; {_FIX}")


def _rule_of_test(name: str, given: Mapping[str, Any], on: str | None, table: Table) -> Rule:
    column = (on or _unquoted(given.get("column_name")) or "",)
    match name:
        case "not_null":
            return Rule(name, "not_null", column)
        case "unique":
            return Rule(name, "unique", column)
        case "accepted_values":
            dtype = DTYPES.get(str(table.columns.get(column[0], {}).get("data_type") or "").lower())
            return Rule(name, "accepted_values", column, accepted_values=_values(given, dtype))
        case "relationships":
            to, field = table_in(str(given.get("to"))), given.get("field")
            if to is None or not isinstance(field, str):
                raise _UntranslatableError(
                    f"points to {given.get('to')!r}, {field!r}; expected to: ref('model') or source('name', 'table'), "
                    "and a field"
                )
            return Rule(name, "relationship", column, relationship=Relationship(to, field))
        case "in_range" | "accepted_range":
            low, high = given.get("minimum", given.get("min_value")), given.get("maximum", given.get("max_value"))
            return Rule(name, "range", column, **_ends(low, high))
        case _:
            columns = given.get("columns", given.get("combination_of_columns"))
            if not isinstance(columns, list) or not columns:
                raise _UntranslatableError(f"has columns {columns!r}; expected a list of names")
            return Rule(name, "unique", tuple(str(one) for one in columns))


def _rules_of_constraint(kind: str, constraint: Node, columns: tuple[str, ...]) -> list[Rule]:
    missing = [Rule(kind, "not_null", (column,)) for column in columns]
    match kind:
        case "not_null":
            return missing
        case "unique":
            return [Rule(kind, "unique", columns)]
        case "primary_key":
            return [Rule(kind, "unique", columns), *missing]
        case "foreign_key":
            to, fields = table_in(str(constraint.get("to") or "")), [*(constraint.get("to_columns") or [])]
            if to is None or len(columns) != 1 or len(fields) != 1:
                raise _UntranslatableError(
                    "cannot be translated into a rule; expected one column, to: ref(...) and one to_columns"
                )
            return [Rule(kind, "relationship", columns, relationship=Relationship(to, str(fields[0])))]
        case _:
            raise _UntranslatableError(
                f"cannot be translated into a rule; expected one of {', '.join(CONSTRAINTS)}; write it as a test in "
                "SQL under tests/, which blocks too"
            )


class _Ends(TypedDict):
    minimum: float | None
    maximum: float | None


def _ends(minimum: object, maximum: object) -> _Ends:
    ends = [end for end in (minimum, maximum) if end is not None]
    if not ends or not all(_is_number(end) for end in ends):
        raise _UntranslatableError(
            f"has minimum {minimum!r} and maximum {maximum!r}; expected a number for at least one; {_FIX}"
        )
    return {"minimum": cast("float | None", minimum), "maximum": cast("float | None", maximum)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _values(given: Mapping[str, Any], dtype: pl.DataType | None) -> tuple[Value, ...]:
    """Return accepted values in the type of their column, because dbt's SQL compares them so."""
    values = given.get("values")
    if not isinstance(values, list) or not values:
        raise _UntranslatableError(f"has values {values!r}; expected a list with at least one value")
    if dtype is None:  # no type or an unknown one, which is reported separately
        return tuple(values)
    if dtype == pl.String and given.get("quote") is False:
        raise _UntranslatableError("has quote: false, but the column is text; remove it")
    typed = [_typed(value, dtype) for value in values]
    wrong = [value for value, fit in zip(values, typed, strict=True) if fit is None]
    if wrong:
        fix = "; put it in quotes, otherwise YAML reads it as another type" if dtype == pl.String else ""
        raise _UntranslatableError(
            f"accepts {', '.join(map(repr, wrong))}; expected values of the column's type {dtype}{fix}"
        )
    return tuple(value for value in typed if value is not None)


def _typed(value: object, dtype: pl.DataType) -> Value | None:
    """Return a value in a column's type; None if it cannot be converted."""
    if isinstance(value, bool) or dtype == pl.Boolean:
        return value if isinstance(value, bool) and dtype == pl.Boolean else None
    if not isinstance(value, str | int | float) or not (dtype == pl.String or dtype.is_numeric()):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    try:
        found: Value = pl.Series([str(value)]).cast(dtype)[0]
    except pl.exceptions.InvalidOperationError:  # 'abc' or 1.5 as an integer, or 300 as a small one
        return None
    return found


DTYPES: Mapping[str, pl.DataType] = {
    "bigint": pl.Int64(), "int8": pl.Int64(), "integer": pl.Int32(), "int": pl.Int32(), "int4": pl.Int32(),
    "smallint": pl.Int16(), "tinyint": pl.Int8(), "double": pl.Float64(), "double precision": pl.Float64(),
    "float8": pl.Float64(), "float": pl.Float32(), "real": pl.Float32(), "varchar": pl.String(), "text": pl.String(),
    "character varying": pl.String(), "boolean": pl.Boolean(), "bool": pl.Boolean(), "date": pl.Date(),
    "timestamp": pl.Datetime("us"), "timestamp without time zone": pl.Datetime("us"),
}  # fmt: skip
"""The warehouse's types and their polars types."""


def names_of(tables: Sequence[Table]) -> dict[str, str]:
    """Return the names of tables by their unique id."""
    return {str(table.node["unique_id"]): table.name for table in tables}
