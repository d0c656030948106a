"""Build contracts of tables from dbt's manifest. They are written once, in the YAML beside each model.

Not here: reading the manifest file (see `ml_assets.warehouse.dbt_manifest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from ml_assets.contracts.dbt_names import check_names
from ml_assets.contracts.dbt_rules import (
    DTYPES,
    DeclaredRule,
    names_of,
    rule_of_test,
    rules_of_constraints,
    tested_table,
)
from ml_assets.contracts.dbt_yaml import (
    ColumnMeta,
    ErrorCollector,
    Read,
    Table,
    TableMeta,
    YamlPlace,
    meta_of,
)
from ml_assets.contracts.errors import ContractError, near
from ml_assets.contracts.inherited_types import Node, offered
from ml_assets.contracts.look_back import check_look_back
from ml_assets.contracts.row_sql import SqlProblems, check_row_sql
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, Column, Role, Rule, TableContract
from ml_assets.contracts.words import quoted

TIMES: tuple[Role, ...] = ("event_time", "prediction_time", "known_time")
_NO_DECIMAL = (
    "decimals are not supported. Write double. If amounts must be exact, count in the smallest unit in the staging "
    "model, cast(round(price * 100) as bigint), and declare bigint"
)
_MOMENTS = {
    RECEIVED_AT: ("when a later version was landed", "it is null for the first version"),
    GONE_AT: ("when the source no longer had the row", "it is null while the source has the row"),
}


def contracts_from_dbt(
    manifest: Mapping[str, Any],
    *,
    read: Read = lambda _: None,
    sql_problems: SqlProblems = lambda declared: [None] * len(declared),
    folder: str = "",
) -> dict[str, TableContract]:
    """Return the contracts of all models (by name) and sources (as `source/table`).

    `read` returns the text of a YAML file, for the lines in messages, and is called only if there are errors.
    `sql_problems` returns what is wrong with each expression over the rows of a source. Paths begin with `folder`, that
    of the dbt project.

    Raises:
        ContractError: the contracts have errors (an unknown type or role, a rule on a missing column, a test that has
            no translation, ...); all are listed, with file and line.
    """
    errors = ErrorCollector()
    tables = _tables(manifest, folder)
    declared = _declared_rules(manifest, tables, errors)
    check_names(tables, errors)
    by_id = {str(table.node["unique_id"]): table for table in tables}
    sources = _sources(by_id)
    contracts = {
        table.name: replace(_contract(table, declared[table.name], errors), sources=sources[uid])
        for uid, table in by_id.items()
    }
    nodes = {**manifest["nodes"], **manifest["sources"]}
    for table in tables:
        check_look_back(table, [str(nodes[uid]["name"]) for uid in table.parents if uid in nodes], errors)
        _check_relationships(table, declared[table.name], contracts, errors)
    check_row_sql(tables, contracts, sql_problems, errors)
    if errors.found:
        raise ContractError("\n".join(errors.sentences(read)))
    return contracts


def rules_by_test(manifest: Mapping[str, Any], contracts: Mapping[str, TableContract]) -> dict[str, tuple[str, str]]:
    """Return table and rule of each translated dbt test, by the test's unique id.

    Other tests (in SQL files, or enforced only by dbt) are reported by dbt.
    """
    tables = _tables(manifest, "")
    found = {}
    for name, declared in _declared_rules(manifest, tables, ErrorCollector()).items():
        rules = {_subject(rule): rule.name for rule in contracts[name].rules}
        found.update({one.test: (name, rules[_subject(one.rule)]) for one in declared if one.test is not None})
    return found


def _tables(manifest: Mapping[str, Any], folder: str) -> list[Table]:
    nodes = {**manifest["nodes"], **manifest["sources"]}
    tables = [node for node in nodes.values() if node["resource_type"] in {"model", "source"}]
    return [Table(node, folder, offered(node, nodes)) for node in tables]


def _sources(by_id: Mapping[str, Table]) -> dict[str, tuple[str, ...]]:
    """Return the names of the sources that each table reads, directly or indirectly, by unique id."""
    found: dict[str, tuple[str, ...]] = {}

    def visit(uid: str) -> tuple[str, ...]:
        if uid not in found:
            names: set[str] = set()
            for parent in (it for it in by_id[uid].parents if it in by_id):
                names.update([by_id[parent].name] if by_id[parent].is_source else visit(parent))
            found[uid] = tuple(sorted(names))
        return found[uid]

    return {uid: visit(uid) for uid in by_id}


def _declared_rules(
    manifest: Mapping[str, Any], tables: list[Table], errors: ErrorCollector
) -> dict[str, list[DeclaredRule]]:
    """Return the rules that tests and constraints declare, by table."""
    by_name = {table.name: table for table in tables}
    declared = {table.name: rules_of_constraints(table, errors) for table in tables}
    names = names_of(tables)
    for test in manifest["nodes"].values():
        if test["resource_type"] != "test" or not test.get("test_metadata"):
            continue
        name = tested_table(test, names)
        if name is None or name not in by_name:  # a seed or snapshot, which has no contract
            continue
        one = rule_of_test(test, by_name[name], errors)
        if one is not None:
            declared[name].append(one)
    return declared


_Subject = tuple[str, frozenset[str]]


def _subject(rule: Rule) -> _Subject:
    """Return the kind and columns of a rule; a contract has one rule of a kind on the same columns."""
    return rule.kind, frozenset(rule.columns)


def _contract(table: Table, declared: list[DeclaredRule], errors: ErrorCollector) -> TableContract:
    meta = errors.check_meta(TableMeta, meta_of(table.node), table, what=f"table '{table.name}'")
    _check_columns_are_there(table, meta.key, declared, errors)
    rules = _one_a_subject(table, declared, errors)
    groups = [one.rule.columns for (kind, columns), one in rules.items() if kind == "unique" and len(columns) > 1]
    contract = TableContract(
        name=table.name,
        columns=tuple(_column(table, node, rules, errors) for node in table.columns.values()),
        description=_one_line(table.node.get("description")),
        key=meta.key,
        unique_together=tuple(group for group in groups if {*group} != {*meta.key}),
        known_time=meta.known_time,
        is_by_day=table.is_by_day,
        owner=meta.owner,
        where=table.path,
    )
    _check_times(table, contract, errors)
    warning = {subject for subject, one in rules.items() if not one.rule.is_blocking}
    return replace(contract, warnings=frozenset(rule.name for rule in contract.rules if _subject(rule) in warning))


def _one_a_subject(table: Table, declared: list[DeclaredRule], errors: ErrorCollector) -> dict[_Subject, DeclaredRule]:
    """Return the declared rules, one for each subject. A rule blocks unless all its declarations warn."""
    found: dict[_Subject, DeclaredRule] = {}
    for one in declared:
        subject = _subject(one.rule)
        before = found.setdefault(subject, one)
        if before is one:
            continue
        if (before.test and one.test) or before.rule.relationship != one.rule.relationship:
            errors.add(
                one.place,
                f"{quoted(one.rule.columns)} of table '{table.name}' has '{before.rule.name}' and '{one.rule.name}', "
                "which are the same rule; remove one.",
            )
        blocks = before.rule.is_blocking or one.rule.is_blocking
        found[subject] = replace(before, test=before.test or one.test, rule=replace(before.rule, is_blocking=blocks))
    return found


def _column(table: Table, node: Node, rules: Mapping[_Subject, DeclaredRule], errors: ErrorCollector) -> Column:
    name = str(node["name"])
    what = f"column '{name}' of table '{table.name}'"
    loc = ("columns", name)
    meta = errors.check_meta(ColumnMeta, meta_of(node), table, *loc, what=what)
    given = node.get("data_type")
    dtype = DTYPES.get(str(given or "").lower())
    if dtype is None:
        has = _without_type(table, name) if given is None else f"data_type {given!r}"
        is_decimal = str(given or "").lower().startswith(("decimal", "numeric"))
        hint = f"; {_NO_DECIMAL}" if is_decimal else near(str(given or ""), [*DTYPES])
        errors.add(table.place(*loc, "data_type"), f"{what} has {has}; expected one of {', '.join(DTYPES)}{hint}.")
    its = {kind: one for (kind, columns), one in rules.items() if columns == {name}}
    values, bounds, points = (
        its[kind].rule if kind in its else None for kind in ("accepted_values", "range", "relationship")
    )
    column = Column(
        name=name,
        dtype=dtype or pl.Null(),
        description=_one_line(node.get("description")),
        role=meta.role,
        is_categorical=meta.categorical,
        is_pii=meta.pii,
        unit=meta.unit,
        is_nullable="not_null" not in its,
        is_unique="unique" in its,
        accepted_values=values.accepted_values if values else None,
        minimum=bounds.minimum if bounds else None,
        maximum=bounds.maximum if bounds else None,
        relationship=points.relationship if points else None,
        # before that moment nobody could know that the row would be removed
        known_time=GONE_AT if name == GONE_AT and table.is_source else meta.known_time,
        expression=meta.expression,
        is_nan_missing=meta.nan == "missing",
    )
    for sentence, place in _column_errors(table, column, its, is_typed=dtype is not None):
        errors.add(place, f"{what} {sentence}.")
    return column


def _without_type(table: Table, name: str) -> str:
    """Return that a column has no type, and why it gets none from the tables that its model reads."""
    if table.is_source:
        return "no data_type"
    offers = [f"{dtype} in '{other}'" for dtype, other in table.offers[name].items()]
    why = f"it is {' and '.join(offers)}" if offers else "no table that the model reads has a column of this name"
    return f"no data_type, and {why}"


def _column_errors(
    table: Table, column: Column, declared: Mapping[str, DeclaredRule], *, is_typed: bool
) -> Iterator[tuple[str, YamlPlace]]:
    """Yield what is wrong with one column, and where it is written."""
    low, high = column.minimum, column.maximum
    if low is not None and high is not None and low > high:
        yield f"has a reversed range: minimum {low} is above maximum {high}; swap them", declared["range"].place
    if "range" in declared and is_typed and not column.dtype.is_numeric():
        yield f"has a range, but is {column.dtype}; expected a number", declared["range"].place

    def at(*loc: str) -> YamlPlace:
        return table.place("columns", column.name, *loc)

    if column.role in TIMES and is_typed and not column.dtype.is_temporal():
        yield f"has role '{column.role}', but is {column.dtype}; expected a timestamp or date", at("meta", "role")
    given = {
        "known_time": column.known_time is not None,
        "expression": column.expression is not None,
        "nan": column.is_nan_missing,
    }
    for name in (name for name, is_given in given.items() if is_given and not table.is_source):
        yield f"has meta '{name}', which is only for columns of sources; remove it", at("meta", name)
    if column.is_nan_missing and is_typed and not column.dtype.is_float():
        yield f"has meta 'nan', but is {column.dtype}, which has no NaN; remove it", at("meta", "nan")
    if column.name in _MOMENTS and table.is_source and table.is_by_day:
        what, none = _MOMENTS[column.name]
        if is_typed and column.dtype != pl.Datetime("us"):
            yield f"is {column.dtype}; expected a timestamp: {what}", at("data_type")
        if "not_null" in declared:
            yield f"is never missing; expected a nullable column: {none}", declared["not_null"].place


def _check_columns_are_there(
    table: Table, key: tuple[str, ...], declared: list[DeclaredRule], errors: ErrorCollector
) -> None:
    there = [*table.columns]
    for name in key:
        if name not in there:
            errors.add(
                table.place("meta", "key"),
                f"table '{table.name}' has key '{name}', which is not one of its columns; expected some of "
                f"{', '.join(there)}{near(name, there)}.",
            )
    for one in declared:
        for name in one.rule.columns:
            if name not in there:
                errors.add(
                    one.place,
                    f"'{one.rule.name}' of table '{table.name}' names column '{name}', which is not one of its "
                    f"columns; expected some of {', '.join(there)}{near(name, there)}.",
                )


def _check_times(table: Table, contract: TableContract, errors: ErrorCollector) -> None:
    for role in TIMES:
        names = [column.name for column in contract.with_role(role)]
        for name in names[1:]:
            errors.add(
                table.place("columns", name, "meta", "role"),
                f"column '{name}' of table '{table.name}' has role '{role}', and so has column '{names[0]}'; "
                "expected one; give the others the role context.",
            )
    if not table.is_source and contract.known_time is not None:
        errors.add(
            table.place("meta", "known_time"),
            f"table '{table.name}' has meta 'known_time', which is only for sources; give a column the role "
            "known_time.",
        )
    if table.is_source and contract.known_time is None:
        errors.add(
            table.place(),
            f"table '{table.name}' does not declare when its rows could first be known; expected meta known_time: SQL "
            "over the row (a UTC timestamp), or always for reference data.",
        )
    if table.is_source and table.is_by_day and RECEIVED_AT in contract.names and RECEIVED_AT not in contract.key:
        errors.add(
            table.place("meta", "key"),
            f"table '{table.name}' stores later versions of a row (it has column '{RECEIVED_AT}'), but its key is "
            f"{quoted(contract.key)}; add '{RECEIVED_AT}' to it.",
        )
    if table.is_source and table.is_by_day and (RECEIVED_AT in contract.names) != (GONE_AT in contract.names):
        there, lacking = (RECEIVED_AT, GONE_AT) if RECEIVED_AT in contract.names else (GONE_AT, RECEIVED_AT)
        errors.add(
            table.place("columns", there),
            f"table '{table.name}' has column '{there}', but no '{lacking}'; a table that stores later versions of a "
            f"row has both, so that readers can see what the source no longer has. Add {lacking} (timestamp).",
        )


def _check_relationships(
    table: Table, declared: list[DeclaredRule], contracts: Mapping[str, TableContract], errors: ErrorCollector
) -> None:
    for one in declared:
        other = one.rule.relationship
        if other is None or one.rule.columns[0] not in table.columns:
            continue
        what = f"column '{one.rule.columns[0]}' of table '{table.name}'"
        if other.table not in contracts:
            known = [*contracts]
            errors.add(
                one.place,
                f"{what} points to table '{other.table}', which has no contract; expected one of "
                f"{', '.join(known)}{near(other.table, known)}.",
            )
            continue
        there = contracts[other.table]
        if other.column not in there.names:
            errors.add(
                one.place,
                f"{what} points to column '{other.column}' of table '{other.table}', which does not exist; "
                f"expected one of {', '.join(there.names)}{near(other.column, there.names)}.",
            )
            continue
        mine, its = contracts[table.name].column(one.rule.columns[0]).dtype, there.column(other.column).dtype
        if mine != its and pl.Null() not in (mine, its):
            errors.add(
                one.place,
                f"{what} is {mine}, but points to '{other.column}' of table '{other.table}', which is {its}; "
                "expected the same type; cast one of them.",
            )


def _one_line(text: object) -> str:
    return " ".join(str(text or "").split())
