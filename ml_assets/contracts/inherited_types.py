"""Types of columns that pass through dbt models unchanged: each is written once, where the column first appears."""

from collections.abc import Mapping
from typing import Any

Node = Mapping[str, Any]
Offers = Mapping[str, Mapping[str, str]]
"""The types of each column in the tables that a table reads, with one table that has it."""


def with_inherited_types(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return dbt's manifest with a type for each column of a model whose parents agree on it.

    A column without `data_type` has the type of the columns of the same name in the tables that its model reads. If no
    table has such a column, or their types differ, it stays without a type.
    """
    known = {**manifest["nodes"], **manifest["sources"]}
    typed: dict[str, Node] = {}

    def visit(uid: str) -> Node:
        if uid not in typed:
            node = known[uid]
            typed[uid] = node  # what reads itself gets no type
            if node["resource_type"] == "model" and not all(it.get("data_type") for it in node["columns"].values()):
                read = {parent: visit(parent) for parent in node["depends_on"]["nodes"] if parent in known}
                typed[uid] = {**node, "columns": _filled(node, offered(node, read))}
        return typed[uid]

    return {**manifest, "nodes": {uid: visit(uid) for uid in manifest["nodes"]}}


def offered(node: Node, nodes: Mapping[str, Node]) -> Offers:
    """Return the types that the tables that a model reads have for each of its columns."""
    parents = [nodes[uid] for uid in (node.get("depends_on") or {}).get("nodes", ()) if uid in nodes]
    found: dict[str, dict[str, str]] = {name: {} for name in node["columns"]}
    for parent in parents:
        table = "/".join(filter(None, (parent.get("source_name"), parent["name"])))
        for name, types in found.items():
            declared = parent.get("columns", {}).get(name, {}).get("data_type")
            if declared:
                types.setdefault(str(declared).lower(), table)
    return found


def _filled(node: Node, offers: Offers) -> dict[str, Node]:
    columns: dict[str, Node] = {}
    for name, column in node["columns"].items():
        given = column.get("data_type") or (next(iter(offers[name])) if len(offers[name]) == 1 else None)
        columns[name] = {**column, "data_type": given}
    return columns
