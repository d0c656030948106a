"""The JSON Schemas of requests and answers of a served version, and examples of requests from its golden rows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import polars as pl

from ml_assets.contracts.table import TableContract
from ml_assets.declaration.serving import ServingSettings
from ml_assets.logic.training.encoding import EXACT, request_schema
from ml_assets.logic.training.golden_rows import golden_rows
from ml_assets.serving.fields import InputField
from ml_assets.serving.protocols.open_inference import datatype_of
from ml_assets.serving.served_model import SHORTEST_VERSION, ServedModel

JOINED: Final[dict[str, dict[str, Any]]] = {
    "prediction_time": {"type": "string", "format": "date-time", "description": "Of the feature row of the key."},
    "age_seconds": {"type": "number"},
    "features_version": {"type": "string"},
    "is_stale": {"type": "boolean", "description": "Whether the feature row is older than declared."},
}
"""What an answer says of a row that was joined by its key."""


def row_schema(served: ServedModel) -> dict[str, Any]:
    """Return the schema of a row, which the model stores with its contract, with bounds of what a double represents."""
    schema: dict[str, Any] = json.loads(served.model.request)
    for its in served.inputs.fields:
        kept = schema["properties"][its.name]
        low, high = kept.get("minimum"), kept.get("maximum")
        end = _largest(its)
        if end is not None:
            kept |= {
                "minimum": -end if low is None else max(low, -end), "maximum": end if high is None else min(high, end),
            }  # fmt: skip
    key = key_schema(served.inputs.key_only)
    schema["properties"] |= key
    if len(key) > 1:
        schema["dependentRequired"] = {name: [it for it in key if it != name] for name in key}
    return {name: value for name, value in schema.items() if name != "$schema"}


def key_schema(fields: Sequence[InputField]) -> dict[str, Any]:
    """Return the schema of each of some columns of a key."""
    columns = tuple(replace(it.column, description="A column of the key, which is logged.") for it in fields)
    names = [it.name for it in columns]
    found: dict[str, Any] = request_schema(TableContract("key", columns), names)["properties"]  # type: ignore[assignment]
    return found


def _largest(its: InputField) -> float | None:
    """Return the largest magnitude of a number that a field accepts; None without one."""
    if its.column.dtype.is_integer():
        return None if its.codes is not None else EXACT
    return float(np.finfo(np.float32).max) if its.column.dtype == pl.Float32 else None


def body_schema(served: ServedModel, settings: ServingSettings) -> dict[str, Any]:
    """Return the schema of a request of own JSON: rows, or keys if the service has features."""
    version = {
        "type": "string", "minLength": SHORTEST_VERSION, "description": "Refuse to score with another version.",
    }  # fmt: skip
    row = f"#/components/schemas/{served.name}.Row"
    items: dict[str, dict[str, Any]] = {"rows": {"$ref": row}}
    if served.features is not None and served.inputs.key is not None:
        key = key_schema(served.inputs.key.fields)
        used = [it for it in settings.overridable if it in served.inputs.names and it not in key]
        replaced = {name: {"$ref": f"{row}/properties/{_pointer(name)}"} for name in used}
        whole: dict[str, Any] = {
            "type": "object", "required": [*key], "additionalProperties": False, "properties": {**key, **replaced},
            "description": "The key of a row whose features are in the lake, and values that replace features.",
        }  # fmt: skip
        items["keys"] = {"anyOf": [whole, *key.values()]} if len(key) == 1 else whole
    forms = [
        {
            "type": "object", "required": [name], "additionalProperties": False,
            "properties": {name: {"type": "array", "items": schema}, "version": version},
        }
        for name, schema in items.items()
    ]  # fmt: skip
    return forms[0] if len(forms) == 1 else {"oneOf": forms}


def scores_schema(served: ServedModel, *, explained: bool) -> dict[str, Any]:
    """Return the schema of an answer of own JSON, with or without what each feature adds to each raw score."""
    kinds: dict[pl.DataType, dict[str, Any]] = {
        pl.Float64(): {"type": "number"}, pl.String(): {"type": "string", "enum": [*served.model.spec.classes]},
        pl.Boolean(): {"type": "boolean"},
    }  # fmt: skip
    properties = {name: kinds[dtype] for name, dtype in served.outputs.items()}
    required = [*properties]
    if served.features is not None:
        properties |= JOINED
    if explained:
        names = [its.name for its in served.inputs.fields]
        added = {"type": "object", "required": names, "additionalProperties": {"type": "number"}}
        properties |= {"base": {"type": "number"}, "contributions": added}
        required += ["base", "contributions"]
    return {
        "type": "object",
        "required": ["model", "version", "entry", "predictions"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "entry": {"type": "integer", "description": "The entry of the promotion log."},
            "predictions": {
                "type": "array",
                "items": {"type": "object", "required": required, "properties": properties},
            },
            "unseen_categories": {"type": "object", "additionalProperties": {"type": "integer"}},
            "canary": {"type": "boolean", "description": "Whether a challenger answers; absent if the champion does."},
        },
    }


def tensors_schema(served: ServedModel) -> dict[str, Any]:
    """Return the schema of an answer of the Open Inference Protocol."""
    tensor = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {
            "name": {"enum": [*served.outputs]},
            "datatype": {"enum": sorted({datatype_of(dtype) for dtype in served.outputs.values()})},
            "shape": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 1},
            "data": {"type": "array"},
        },
    }
    return {
        "type": "object",
        "required": ["model_name", "model_version", "outputs"],
        "properties": {
            "model_name": {"const": served.name}, "model_version": {"type": "string"}, "id": {"type": "string"},
            "outputs": {"type": "array", "items": tensor},
        },
    }  # fmt: skip


def infer_schema(served: ServedModel) -> dict[str, Any]:
    """Return the schema of a request of the Open Inference Protocol with one row."""
    row = f"#/components/schemas/{served.name}.Row/properties"
    tensors: list[dict[str, Any]] = [
        {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "additionalProperties": False,
            "properties": {
                "name": {"const": its.name},
                "datatype": {"const": datatype_of(its.column.dtype)},
                "shape": {"const": [1]},
                "data": {
                    "type": "array", "minItems": 1, "maxItems": 1, "items": {"$ref": f"{row}/{_pointer(its.name)}"},
                },
            },
        }
        for its in served.inputs.fields
    ]  # fmt: skip
    count = len(tensors)
    inputs = {"type": "array", "prefixItems": tensors, "items": False, "minItems": count, "maxItems": count}
    return {
        "type": "object",
        "description": "One row; further rows are further values of each tensor.",
        "required": ["inputs"],
        "additionalProperties": False,
        "properties": {"id": {"type": "string"}, "inputs": inputs},
    }


def _pointer(name: str) -> str:
    """Return a name as a part of a JSON pointer in a URI."""
    return quote(name.replace("~", "~0").replace("/", "~1"), safe="~")


def example_rows(served: ServedModel, count: int = 1) -> list[dict[str, Any]]:
    """Return golden rows as requests have them; none if a field is personal, or for a model without golden rows."""
    if served.inputs.table.personal:
        return []
    return golden_rows(served.model).head(count).to_dicts()


def examples_of(served: ServedModel) -> dict[str, Any]:
    """Return an example of a request of own JSON; empty without rows that may be shown."""
    rows = example_rows(served)
    return {"example": {"rows": rows}} if rows else {}


def invocation_content(served: ServedModel) -> dict[str, Any]:
    """Return the schema of a request of MLflow's protocol, with an example."""
    rows = example_rows(served)
    example = {"example": {"dataframe_records": rows}} if rows else {}
    records = {"type": "array", "items": {"$ref": f"#/components/schemas/{served.name}.Row"}}
    forms = [
        {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: records}}
        for name in ("dataframe_records", "instances")
    ]
    described = "Also `dataframe_split` with `columns` and `data`, and `inputs` with a list for each field."
    return {"schema": {"oneOf": forms, "description": described}, **example}
