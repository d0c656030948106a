"""Every number that a declaration may give has a range: nothing absurd is read, and no limit is switched off by it."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ml_assets.declaration.automation import AutomationDeclaration
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import KINDS, DeclarationError, read_declaration
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration

DAYS = {"first": "2024-01-01"}
BASES: Mapping[type[BaseModel], dict[str, Any]] = {
    ModelDeclaration: {
        "name": "returns", "description": "Will it come back?", "task": "binary", "days": DAYS,
        "features": {"table": "a", "key": ["id"], "event_time": "at", "prediction_time": "at"},
        "labels": {"table": "b", "target": "y", "known_time": "at"},
    },
    RawDeclaration: {"days": DAYS, "tables": {"orders": {"file": "a.csv"}}},
    TablesDeclaration: {"days": DAYS},
    AutomationDeclaration: {},
}  # fmt: skip
KEYS = {"tables": "orders", "quarantine": "orders"}
OF_THE_DATA = {("labels", "positive"), ("for_each", "names", "features")}
Path = tuple[str, ...]


def numbers(
    schema: Mapping[str, Any], whole: Mapping[str, Any], path: Path = ()
) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each number that a JSON schema allows, with where it stands."""
    if "$ref" in schema:
        yield from numbers(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, path)
    for one in schema.get("anyOf", ()):
        yield from numbers(one, whole, path)
    if schema.get("type") in {"number", "integer"} and path not in OF_THE_DATA:
        yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from numbers(one, whole, (*path, name))
    values = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")]
    for inside in values:
        if isinstance(inside, dict) and path[-1] != "fixed":
            yield from numbers(inside, whole, (*path, KEYS.get(path[-1], "features")))


CASES = [
    (kind, path, schema)
    for kind in BASES
    for path, schema in numbers(kind.model_json_schema(), kind.model_json_schema())
]
"""`fixed`, LightGBM's parameters, are looked at by name: `tests.logic.training.test_parameters`."""


def test_the_numbers_of_all_declarations_are_found() -> None:
    assert {*BASES} == {*KINDS.values()}
    found = {(kind, ".".join(path)) for kind, path, _ in CASES}
    assert len(found) > 60
    assert (ModelDeclaration, "drift.weighted_excess_psi") in found
    assert (ModelDeclaration, "freshness.features.fail_hours") in found
    assert (RawDeclaration, "tables.orders.max_row_loss") in found


@pytest.mark.parametrize(
    ("kind", "path", "schema"), CASES, ids=lambda it: ".".join(it) if isinstance(it, tuple) else ""
)
def test_a_number_outside_its_range_is_refused_with_its_line(
    kind: type[BaseModel], path: Path, schema: Mapping[str, Any]
) -> None:
    assert schema.keys() & {"minimum", "exclusiveMinimum"}
    assert schema.keys() & {"maximum", "exclusiveMaximum"}

    name = next(name for name, it in KINDS.items() if it is kind)
    for absurd in (".inf", "-.inf", ".nan", "1.0e+308", "-1", "-1.0e-3", "9" * 40):
        content: dict[str, Any] = yaml.safe_load(yaml.safe_dump({"type": name, "attributes": BASES[kind]}))
        inner = content["attributes"]
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = "ABSURD"
        text = yaml.safe_dump(content, sort_keys=False).replace("ABSURD", absurd)
        line = next(n for n, it in enumerate(text.split("\n"), start=1) if it.endswith(f"{path[-1]}: {absurd}"))

        with pytest.raises(DeclarationError) as error:
            read_declaration(text, where="defs.yaml")

        assert any(it.startswith(f"defs.yaml:{line}: {'.'.join(path)}: ") for it in str(error.value).split("\n")), (
            absurd
        )


@pytest.mark.parametrize("quantity", ["0", "-1", "1e9", "99999", "nan", ".inf", "9" * 200])
def test_cores_and_bytes_have_a_range(quantity: str) -> None:
    for field in ("cpu", "memory", "ephemeral_storage"):
        content = {**BASES[ModelDeclaration], "compute": {"model": {field: "QUANTITY"}}}
        text = yaml.safe_dump({"type": "ml_assets.Model", "attributes": content})

        with pytest.raises(DeclarationError, match=f"compute.model.{field}: "):
            read_declaration(text.replace("QUANTITY", quantity), where="defs.yaml")


@pytest.mark.parametrize("loc", [("gate", "margin"), ("gate", "slice_margin"), ("watch", "margin")])
def test_a_margin_above_1_of_a_metric_that_is_a_share_is_refused(loc: tuple[str, str]) -> None:
    part, field = loc
    content = {**BASES[ModelDeclaration], part: {field: 1.5}}
    money = {**content, "task": "regression"}  # the root of the mean squared error is in units of the target

    with pytest.raises(DeclarationError, match=rf"{part}.{field}: roc_auc lies between 0 and 1"):
        read_declaration(yaml.safe_dump({"type": "ml_assets.Model", "attributes": content}), where="defs.yaml")
    assert read_declaration(yaml.safe_dump({"type": "ml_assets.Model", "attributes": money}), where="defs.yaml")
