"""Read tables from dbt's manifest, with the place in the YAML where each field is written.

Not here: what tests and constraints mean (see `ml_assets.contracts.dbt_rules`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr, ValidationError

from ml_assets.contracts.errors import near
from ml_assets.contracts.inherited_types import Node, Offers
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.table import Role
from ml_assets.contracts.yaml_lines import compose, line_of_first

Read = Callable[[str], str | None]


M = TypeVar("M", bound=Record)


class TableMeta(Record):
    """The `meta` of a model or a source table."""

    key: tuple[StrictStr, ...] = ()
    owner: StrictStr | None = None
    partitioned: Literal["day"] | None = None
    look_back_days: dict[StrictStr, Annotated[StrictInt, Field(ge=0)]] = Field(default={})
    allow_gaps: StrictBool = False
    known_time: StrictStr | None = None


class ColumnMeta(Record):
    """The `meta` of a column."""

    role: Role | None = None
    categorical: StrictBool = False
    unit: StrictStr | None = None
    pii: StrictBool = False
    known_time: StrictStr | None = None
    expression: StrictStr | None = None
    nan: Literal["missing"] | None = None


class TestMeta(Record):
    """The `meta` of a test: with `enforced_by: dbt`, only dbt enforces it."""

    __test__ = False  # pytest must not collect this class

    enforced_by: Literal["dbt"] | None = None


@dataclass(frozen=True)
class YamlPlace:
    """A position in a YAML file. Of several paths, the one that is found deepest in the text is used."""

    path: str
    locs: tuple[tuple[str, ...], ...]


@dataclass
class ErrorCollector:
    """The errors found so far, each with its place."""

    found: list[tuple[YamlPlace, str]] = field(default_factory=list)

    def add(self, place: YamlPlace, sentence: str) -> None:
        """Add an error."""
        self.found.append((place, sentence))

    def check_meta(self, kind: type[M], given: Mapping[str, Any], table: Table, *loc: str, what: str) -> M:
        """Return a validated `meta`. Each error in it is added, and the default is used instead."""
        try:
            return kind.model_validate(given)
        except ValidationError as error:
            for problem in error.errors():
                name = str(problem["loc"][0])
                self.add(table.place(*loc, "meta", name), f"{what} has meta '{name}': {_meta_problem(problem, kind)}.")
            wrong = {str(problem["loc"][0]) for problem in error.errors()}
            return kind.model_validate({name: value for name, value in given.items() if name not in wrong})

    def sentences(self, read: Read) -> list[str]:
        """Return all errors with file and line, in the order of the files."""
        roots = {}
        for path in dict.fromkeys(place.path for place, _ in self.found):
            text = read(path)
            roots[path] = None if text is None else compose(text)
        errors = [
            (place.path, 0 if roots[place.path] is None else line_of_first(roots[place.path], place.locs), sentence)
            for place, sentence in self.found
        ]
        ordered = sorted(errors, key=lambda one: one[:2])
        return [f"{path}{f':{line}' if line else ''}: {sentence}" for path, line, sentence in ordered]


@dataclass(frozen=True)
class Table:
    """One model or source table of a manifest. In messages, the paths of files begin with `folder`."""

    node: Node
    folder: str = ""
    offers: Offers = field(default_factory=dict)

    @property
    def is_source(self) -> bool:
        """Whether it is a source table."""
        return bool(self.node["resource_type"] == "source")

    @property
    def name(self) -> str:
        """A model's name, or `source/table`."""
        return f"{self.node['source_name']}/{self.node['name']}" if self.is_source else str(self.node["name"])

    @property
    def is_by_day(self) -> bool:
        """Whether it has one file per day."""
        if self.is_source:
            return meta_of(self.node).get("partitioned") == "day"
        return (self.node.get("config") or {}).get("materialized") == "by_day"

    @property
    def parents(self) -> list[str]:
        """The unique ids of the tables that it reads directly."""
        return [*(self.node.get("depends_on") or {}).get("nodes", ())]

    @property
    def columns(self) -> Mapping[str, Node]:
        """The declared columns, by name."""
        columns: Mapping[str, Node] = self.node["columns"]
        return columns

    @property
    def path(self) -> str:
        """The YAML file in which it is declared."""
        path = str(self.node.get("patch_path") or self.node.get("original_file_path") or "").partition("://")
        inside = path[2] or path[0]
        return f"{self.folder}/{inside}" if self.folder else inside

    def place(self, *loc: str) -> YamlPlace:
        """Return the place of a field. `data_tests` may be written as `tests`, and `meta` may be under `config`."""
        start = (
            ("sources", self.node["source_name"], "tables", self.node["name"])
            if self.is_source
            else ("models", self.node["name"])
        )
        locs = [loc]
        if "data_tests" in loc:
            locs.append(tuple("tests" if part == "data_tests" else part for part in loc))
        if "meta" in loc:
            at = loc.index("meta")
            locs.append((*loc[:at], "config", *loc[at:]))
        return YamlPlace(self.path, tuple((*start, *one) for one in locs))


def meta_of(node: Node) -> dict[str, Any]:
    """Return the meta of a node or column, whichever field of the manifest has it."""
    return {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}


def _meta_problem(problem: Mapping[str, Any], kind: type[BaseModel]) -> str:
    if problem["type"] == "extra_forbidden":
        known = sorted(kind.model_fields)
        return f"there is no such meta; expected one of {', '.join(known)}{near(str(problem['loc'][0]), known)}"
    choices = re.findall(r"'([^']+)'", problem["msg"])
    return f"{problem['msg']}, got {problem['input']!r}{near(str(problem['input']), choices)}"
