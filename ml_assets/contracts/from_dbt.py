"""Contracts of tables as dbt's manifest states them: written once, in the YAML beside each model.

Reading the manifest file stays out: a parsed manifest comes in.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

import polars as pl

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, Role, TableContract

_TYPES: Mapping[str, pl.DataType] = {
    "bigint": pl.Int64(), "int8": pl.Int64(), "integer": pl.Int32(), "int": pl.Int32(), "int4": pl.Int32(),
    "smallint": pl.Int16(), "tinyint": pl.Int8(), "double": pl.Float64(), "double precision": pl.Float64(),
    "float8": pl.Float64(), "float": pl.Float32(), "real": pl.Float32(), "varchar": pl.String(), "text": pl.String(),
    "character varying": pl.String(), "boolean": pl.Boolean(), "bool": pl.Boolean(), "date": pl.Date(),
    "timestamp": pl.Datetime("us"), "timestamp without time zone": pl.Datetime("us"),
}  # fmt: skip
_ROLES: tuple[str, ...] = get_args(Role)


def contracts_from_dbt(manifest: Mapping[str, Any]) -> dict[str, TableContract]:
    """Return the contracts of all models (by name) and sources (as `source/table`).

    Raises:
        ContractError: a column has no type or one without a translation, or a role is unknown; all are listed.
    """
    mistakes: list[str] = []
    contracts = {}
    rules = _rules(manifest)
    for node in [*manifest["nodes"].values(), *manifest["sources"].values()]:
        if node["resource_type"] not in {"model", "source"}:
            continue
        name = node["name"] if node["resource_type"] == "model" else f"{node['source_name']}/{node['name']}"
        contracts[name] = _contract(name, node, rules.get(node["unique_id"], {}), mistakes)
    if mistakes:
        raise ContractError("\n".join(mistakes))
    return contracts


def meta_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's or column's meta, wherever dbt keeps it."""
    return {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}


def _contract(
    name: str, node: Mapping[str, Any], rules: Mapping[str, dict[str, Any]], mistakes: list[str]
) -> TableContract:
    where = str(node.get("patch_path") or node.get("original_file_path") or "").removeprefix("ml_assets://")
    columns = []
    for column in node["columns"].values():
        meta = meta_of(column)
        dtype = _TYPES.get(str(column.get("data_type") or "").lower())
        if dtype is None:
            given = column.get("data_type")
            mistakes.append(
                f"{where}: column '{column['name']}' of table '{name}' has "
                f"{'no data_type' if given is None else f'data_type {given!r}'}; expected one of {', '.join(_TYPES)}."
            )
            continue
        role = meta.get("role")
        if role is not None and role not in _ROLES:
            near = difflib.get_close_matches(str(role), _ROLES, n=1)
            mistakes.append(
                f"{where}: column '{column['name']}' of table '{name}' has role '{role}'; expected one of "
                f"{', '.join(_ROLES)}{f'; did you mean {near[0]!r}?' if near else '.'}"
            )
        rule = rules.get(column["name"], {})
        constrained = {constraint["type"] for constraint in column.get("constraints") or []}
        columns.append(
            Column(
                name=column["name"],
                dtype=dtype,
                description=" ".join(str(column.get("description") or "").split()),
                role=role,
                is_categorical=bool(meta.get("categorical", False)),
                unit=meta.get("unit"),
                is_nullable=not (rule.get("not_null") or "not_null" in constrained),
                is_unique=bool(rule.get("unique") or "unique" in constrained),
                accepted_values=rule.get("accepted_values"),
                minimum=rule.get("minimum"),
                maximum=rule.get("maximum"),
            )
        )
    meta = meta_of(node)
    mistakes += [
        f"{where}: table '{name}' has key '{key}', which is no column of it; "
        f"expected some of {', '.join(node['columns'])}."
        for key in meta.get("key", ())
        if key not in node["columns"]
    ]
    return TableContract(
        name=name,
        columns=tuple(columns),
        description=" ".join(str(node.get("description") or "").split()),
        key=tuple(meta.get("key", ())),
        owner=meta.get("owner"),
        where=where,
    )


def _rules(manifest: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return dbt's generic tests as rules: node, column, rule, value."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for test in manifest["nodes"].values():
        metadata = test.get("test_metadata")
        node = test.get("attached_node") or _tested_source(test)
        column = test.get("column_name")
        if not metadata or not node or not column:
            continue
        rule = found.setdefault(node, {}).setdefault(column, {})
        kwargs = metadata["kwargs"]
        match metadata["name"]:
            case "not_null" | "unique" as name:
                rule[name] = True
            case "accepted_values":
                rule["accepted_values"] = tuple(str(value) for value in kwargs["values"])
            case "in_range":
                rule.update({end: kwargs[key] for end, key in _RANGE_ENDS if kwargs.get(key) is not None})
    return found


_RANGE_ENDS = (("minimum", "minimum"), ("maximum", "maximum"), ("minimum", "min_value"), ("maximum", "max_value"))


def _tested_source(test: Mapping[str, Any]) -> str | None:
    nodes = [node for node in test.get("depends_on", {}).get("nodes", []) if node.startswith("source.")]
    return nodes[0] if len(nodes) == 1 else None
