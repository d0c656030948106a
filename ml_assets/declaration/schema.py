"""The JSON Schema of declarations, with which editors complete, explain and check a `defs.yaml` while it is written.

`make reference` writes it to `schema.json` beside this module.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from ml_assets.declaration.reading import KINDS

PATH: Final = Path(__file__).with_name("schema.json")
_REFS: Final = "#/$defs/"


class _WithoutTitles(GenerateJsonSchema):
    """Pydantic's schema, in which only types that declare a title have one."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's signature
        return False


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a `defs.yaml`; what `attributes` may contain depends on `type`."""
    _, types = models_json_schema(
        [(kind, "validation") for kind in KINDS.values()],
        schema_generator=_WithoutTitles,
        ref_template=_REFS + "{model}",
    )
    definitions = {name: _tidied(found) for name, found in types["$defs"].items()}
    for found in definitions.values():
        found.pop("title", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Declaration of ml-assets",
        "type": "object",
        "required": ["type", "attributes"],
        "additionalProperties": False,
        "properties": {
            "type": {"enum": [*KINDS], "description": "What is declared."},
            "attributes": {"type": "object", "description": "The declaration; its fields depend on `type`."},
        },
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"properties": {"attributes": {"$ref": _REFS + kind.__name__}}},
            }
            for name, kind in KINDS.items()
        ],
        "$defs": definitions,
    }


def schema_text() -> str:
    """Return the text of `schema.json`."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _tidied(node: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a schema with closed maps, one line per text, and no defaults of sections, which repeat their fields'."""
    if isinstance(node, list):
        return [_tidied(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    found = {name: _tidied(value) for name, value in node.items()}
    if isinstance(found.get("default"), dict) and found["default"]:
        del found["default"]
    if "patternProperties" in found:
        found["additionalProperties"] = False
    if isinstance(found.get("description"), str):
        found["description"] = "\n\n".join(" ".join(part.split()) for part in found["description"].split("\n\n"))
    return found
