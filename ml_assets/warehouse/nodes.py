"""Models and sources in dbt's manifest: their names in the lake, their parents, and the days that they read."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from ml_assets.contracts.dbt_yaml import meta_of
from ml_assets.contracts.periods import Calendar
from ml_assets.lake.errors import WarehouseError

PREFIX = "tables"
Node = Mapping[str, Any]
Span = tuple[str, str]
"""The keys of the first and the last period."""


def table_name(node: Node) -> str:
    """Return the lake's name of a dbt source or model."""
    return f"{node['source_name']}/{node['name']}" if node["resource_type"] == "source" else f"{PREFIX}/{node['name']}"


def parents_of(nodes: Mapping[str, Node], node: str) -> list[str]:
    """Return which of dbt's nodes a node reads."""
    return [parent for parent in nodes[node].get("depends_on", {}).get("nodes", ()) if parent in nodes]


def has_personal(nodes: Mapping[str, Node]) -> bool:
    """Return whether a column of these nodes is personal."""
    return any(meta_of(column).get("pii") for node in nodes.values() for column in node.get("columns", {}).values())


def is_by_day(node: Node) -> bool:
    """Return whether a table has one file per day."""
    if node["resource_type"] == "model":
        return bool(node["config"]["materialized"] == "by_day")
    return meta_of(node).get("partitioned") == "day"


def column_types(node: Node) -> dict[str, JsonValue]:
    """Return the declared type of each column. If types change, built artifacts are stale."""
    return {name: column.get("data_type") for name, column in node["columns"].items()}


def look_back_days(node: Node, parent: Node) -> int:
    """Return how many earlier days of a parent a model reads."""
    declared = meta_of(node).get("look_back_days") or {}
    return int(declared.get(parent["name"], 0))


def is_gap_allowed(node: Node) -> bool:
    """Return whether a model may be built although days that it looks back to are missing."""
    return bool(meta_of(node).get("allow_gaps", False))


def periods_back(node: Node, parent: Node, calendar: Calendar) -> int:
    """Return how many earlier periods of a parent a model reads."""
    return calendar.look_back(look_back_days(node, parent))


def inputs_read(
    nodes: Mapping[str, Node], model: str, built: Span | None, calendar: Calendar
) -> dict[str, Span | None]:
    """Return what building a model for a range of periods reads of each parent; None for a whole table.

    Without a range, the model is a whole table.

    Raises:
        WarehouseError: a whole table reads a table by day.
    """
    reads: dict[str, Span | None] = {}
    for parent in parents_of(nodes, model):
        if not is_by_day(nodes[parent]):
            reads[parent] = None
        elif built is None:
            raise WarehouseError(
                f"{nodes[model]['name']} is a whole table, but reads {nodes[parent]['name']}, a table by day."
            )
        else:
            first = calendar.moved(built[0], -periods_back(nodes[model], nodes[parent], calendar))
            reads[parent] = (first, built[1])
    return reads


def joined(known: Span | None, other: Span | None) -> Span | None:
    """Return the range that covers two ranges of a table by day; None for a whole table."""
    if known is None or other is None:
        return other
    return min(known[0], other[0]), max(known[1], other[1])


def with_ancestors(nodes: Mapping[str, Node], models: Iterable[str]) -> list[str]:
    """Return models and all their ancestors including sources, each after its parents."""
    ordered: dict[str, None] = {}

    def visit(one: str) -> None:
        for parent in parents_of(nodes, one):
            if parent not in ordered:
                visit(parent)
        ordered[one] = None

    for model in sorted(models):
        if model not in ordered:
            visit(model)
    return [*ordered]
