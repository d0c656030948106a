"""The OpenAPI document of the service: paths, the contract of each served version, and examples from golden rows."""

import json
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import polars as pl

from ml_assets.logic.training.encoding import EXACT
from ml_assets.logic.training.golden_rows import golden_rows
from ml_assets.serving.errors import PROBLEM
from ml_assets.serving.fields import InputField
from ml_assets.serving.http import JSON
from ml_assets.serving.protocols.arrow_stream import ARROW
from ml_assets.serving.protocols.open_inference import datatype_of
from ml_assets.serving.served_model import ServedModel

_Json = dict[str, Any]
_ERRORS: Final = {
    "400": "The body is not of the form of its protocol.", "401": "The token is missing or wrong.",
    "404": "The model is not served.", "408": "The body arrived too slowly.",
    "409": "Another version is served, or the model cannot do this.", "413": "The body or its rows are too many.",
    "415": "The body has another media type.", "422": "Rows break the contract; all broken fields are listed.",
    "503": "Too many requests are in progress, or the rows took too long.",
}  # fmt: skip
_PROBLEM: Final[_Json] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "detail": {"type": "string"}, "error": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {
                    "field": {"type": "string"}, "detail": {"type": "string"},
                    "row": {"type": "integer", "description": "The first row with this problem, from 0."},
                    "rows": {"type": "integer", "description": "How many rows have it."},
                },
            },
        },
    },
}  # fmt: skip


def openapi(models: Sequence[ServedModel], *, release: str, needs_token: bool) -> _Json:
    """Return the document (OpenAPI 3.1)."""
    paths: _Json = {
        "/live": _get("Whether the process answers.", "503"),
        "/ready": _get("Whether each model is loaded and gives its golden rows the scores of its training.", "503"),
        "/v1/models": _get("The served models.", "401"),
        "/metrics": {"get": {"summary": "Metrics of Prometheus.", "responses": _answers("text/plain", {}, "401")}},
        "/v2": _get("The server, by the Open Inference Protocol.", "401"),
        "/ping": _get("As /ready, for clients of MLflow.", "503"),
    }
    schemas: _Json = {"Problem": _PROBLEM}
    for served in models:
        schemas |= {
            f"{served.name}.Row": _row_schema(served),
            f"{served.name}.Scores": _scores_schema(served),
        }
        paths |= _paths_of(served)
    if len(models) == 1:
        paths["/invocations"] = _post("Score rows, by MLflow's protocol.", {JSON: _invocation(models[0])}, {JSON: {}})
    token = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ml-assets prediction service", "version": release},
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": token} if needs_token else {})},
        **({"security": [{"token": []}]} if needs_token else {}),
    }


def _paths_of(served: ServedModel) -> _Json:
    name = served.name
    rows = {"schema": _request_schema(name), **_examples(served)}
    arrow = {"schema": {"type": "string", "contentMediaType": ARROW}}
    scores = {"schema": {"$ref": f"#/components/schemas/{name}.Scores"}}
    paths = {
        f"/v1/models/{name}": _get(f"The served version of {name}.", "401", "404"),
        f"/v1/models/{name}/predict": _post(f"Score rows with {name}.", {JSON: rows, ARROW: arrow}, {JSON: scores}),
        f"/v2/models/{name}": _get("Inputs and outputs, by the Open Inference Protocol.", "401", "404"),
        f"/v2/models/{name}/ready": _get("Whether the model is served.", "401", "404"),
        f"/v2/models/{name}/infer": _post(
            "Score rows, by the Open Inference Protocol.", {JSON: {"schema": _infer_schema(served)}}, {JSON: {}}
        ),
    }
    if served.model.spec.estimator is None:
        paths[f"/v1/models/{name}/explain"] = _post(
            "Score rows, and return what each feature adds to each raw score (SHAP).", {JSON: rows}, {JSON: {}}
        )
    return paths


def _get(summary: str, *errors: str) -> _Json:
    return {"get": {"summary": summary, "responses": _answers(JSON, {"schema": {"type": "object"}}, *errors)}}


def _post(summary: str, bodies: _Json, answers: _Json) -> _Json:
    responses = _answers(JSON, answers[JSON] or {"schema": {"type": "object"}}, *_ERRORS)
    return {"post": {"summary": summary, "requestBody": {"required": True, "content": bodies}, "responses": responses}}


def _answers(media_type: str, content: _Json, *errors: str) -> _Json:
    problem = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        "200": {"description": "The answer.", "content": {media_type: content}},
        **{code: {"description": _ERRORS[code], "content": problem} for code in errors},
    }


def _row_schema(served: ServedModel) -> _Json:
    """Return the schema of a row, which the model stores with its contract, with bounds of what a double represents."""
    schema: _Json = json.loads(served.model.request)
    for its in served.inputs.fields:
        kept = schema["properties"][its.name]
        low, high = kept.get("minimum"), kept.get("maximum")
        end = _largest(its)
        if end is not None:
            kept |= {
                "minimum": -end if low is None else max(low, -end), "maximum": end if high is None else min(high, end),
            }  # fmt: skip
    return {name: value for name, value in schema.items() if name != "$schema"}


def _largest(its: InputField) -> float | None:
    """Return the largest magnitude of a number that a field accepts; None without one."""
    if its.column.dtype.is_integer():
        return None if its.codes is not None else EXACT
    return float(np.finfo(np.float32).max) if its.column.dtype == pl.Float32 else None


def _request_schema(name: str) -> _Json:
    return {
        "type": "object",
        "required": ["rows"],
        "additionalProperties": False,
        "properties": {
            "rows": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}.Row"}},
            "version": {"type": "string", "minLength": 4, "description": "Refuse to score with another version."},
        },
    }


def _scores_schema(served: ServedModel) -> _Json:
    kinds: dict[pl.DataType, _Json] = {
        pl.Float64(): {"type": "number"}, pl.String(): {"type": "string", "enum": [*served.model.spec.classes]},
        pl.Boolean(): {"type": "boolean"},
    }  # fmt: skip
    properties = {name: kinds[dtype] for name, dtype in served.outputs.items()}
    return {
        "type": "object",
        "required": ["model", "version", "entry", "predictions"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "entry": {"type": "integer", "description": "The entry of the promotion log."},
            "predictions": {
                "type": "array",
                "items": {"type": "object", "required": [*properties], "properties": properties},
            },
            "unseen_categories": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    }


def _infer_schema(served: ServedModel) -> _Json:
    """Return the schema of a request of the Open Inference Protocol with one row."""
    row = f"#/components/schemas/{served.name}.Row/properties"
    tensors: list[_Json] = [
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


def example_rows(served: ServedModel, count: int = 1) -> list[_Json]:
    """Return golden rows as requests have them; none if a field is personal, or for a model without golden rows."""
    if served.inputs.table.personal:
        return []
    return golden_rows(served.model).head(count).to_dicts()


def _examples(served: ServedModel) -> _Json:
    rows = example_rows(served)
    return {"example": {"rows": rows}} if rows else {}


def _invocation(served: ServedModel) -> _Json:
    rows = example_rows(served)
    example = {"example": {"dataframe_records": rows}} if rows else {}
    records = {"type": "array", "items": {"$ref": f"#/components/schemas/{served.name}.Row"}}
    forms = [
        {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: records}}
        for name in ("dataframe_records", "instances")
    ]
    described = "Also `dataframe_split` with `columns` and `data`, and `inputs` with a list for each field."
    return {"schema": {"oneOf": forms, "description": described}, **example}
