import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ml_assets.declaration.reading import KINDS
from ml_assets.declaration.reference import reference
from ml_assets.declaration.schema import PATH, schema, schema_text
from tests.flights import DEFS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"
DECLARATIONS = sorted(DEFS.glob("*/defs.yaml"))
MODEL: Mapping[str, Any] = {
    "type": "ml_assets.Model",
    "attributes": {
        "name": "returns",
        "description": "Will this order come back?",
        "task": "binary",
        "days": {"first": "2024-01-01"},
        "features": {
            "table": "order_features", "key": ["order_id"], "event_time": "ordered_at", "prediction_time": "asked_at",
        },
        "labels": {"table": "order_outcomes", "target": "is_returned", "known_time": "known_at"},
    },
}  # fmt: skip


def errors(content: object) -> list[str]:
    """Return where an editor would show an error."""
    found = Draft202012Validator(schema()).iter_errors(content)
    return sorted(f"{'.'.join(map(str, it.absolute_path))}: {it.message}" for it in found)


def with_value(path: str, value: object) -> dict[str, Any]:
    content = copy.deepcopy(dict(MODEL))
    *parents, last = path.split(".")
    node = content
    for name in parents:
        node = node.setdefault(name, {})
    node[last] = value
    return content


def fields() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, definition in schema()["$defs"].items():
        yield from ((f"{name}.{field}", found) for field, found in definition["properties"].items())


@pytest.mark.parametrize(("path", "text"), [(PATH, schema_text), (REFERENCE, reference)])
def test_the_schema_and_the_reference_are_those_of_the_types(path: Path, text: Any) -> None:
    assert text() == path.read_text(encoding="utf-8"), (
        f"{path.name} is out of date; write it again with: make reference"
    )


@pytest.mark.parametrize("path", DECLARATIONS, ids=lambda path: path.parent.name)
def test_each_declaration_of_the_project_names_the_schema_and_conforms_to_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)

    assert named is not None
    assert PATH == (path.parent / named[1]).resolve()
    assert [] == errors(json.loads(json.dumps(yaml.safe_load(text), default=str)))  # YAML 1.2 has no dates


def test_each_field_has_a_description_that_is_a_sentence() -> None:
    definitions = schema()["$defs"]

    def meaning(node: Mapping[str, Any]) -> str:
        return str(node.get("description") or definitions[node["$ref"].rpartition("/")[2]]["description"])

    odd = [name for name, node in fields() if not re.fullmatch(r"[A-Z`'0-9].+\.", meaning(node), re.DOTALL)]

    assert [] == odd


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("attributes.version", 1),
        ("attributes.compute.model", {"cpu": 1.5, "memory": "2Gi", "node_selector": {"disk": "ssd", "zone": "3"}}),
        ("attributes.retraining.floor_days", None),
        ("attributes.tuning.fixed", {"max_depth": 6, "boosting": "dart"}),
        ("attributes.evaluation.baselines", [["shop"], ["shop", "weekday"]]),
    ],
)
def test_valid_declarations_conform_to_the_schema(path: str, value: object) -> None:
    assert [] == errors(with_value(path, value))


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("type", "ml_assets.Modell", "type: 'ml_assets.Modell' is not one of"),
        ("atributes", {}, ": Additional properties are not allowed ('atributes' was unexpected)"),
        ("attributes.version", 2, "attributes.version: 2 is greater than the maximum of 1"),
        ("attributes.sead", 1, "attributes: Additional properties are not allowed ('sead' was unexpected)"),
        ("attributes.split.test_days", 0, "attributes.split.test_days: 0 is less than or equal to the minimum of 0"),
        ("attributes.gate.approval", "nobody", "attributes.gate.approval: 'nobody' is not one of ['gate', 'person']"),
        ("attributes.compute.modell", {}, "attributes.compute: 'modell' is not one of"),
    ],
)
def test_an_error_is_found_where_it_is(path: str, value: object, expected: str) -> None:
    (error,) = errors(with_value(path, value))

    assert expected == error[: len(expected)]


def test_the_attributes_are_checked_by_the_type() -> None:
    assert [] == errors({"type": "ml_assets.Automation", "attributes": {}})
    assert [] != errors({"type": "ml_assets.RawTables", "attributes": {}})
    assert {*KINDS} == {*schema()["properties"]["type"]["enum"]}
