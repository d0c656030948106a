"""The OpenAPI document of the service: paths, headers and statuses, with the contract of each served version."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ml_assets.declaration.serving import ServingSettings
from ml_assets.serving.errors import PROBLEM
from ml_assets.serving.http import JSON, OPEN_PATHS
from ml_assets.serving.protocols.arrow_stream import ARROW
from ml_assets.serving.schemas import (
    body_schema,
    examples_of,
    infer_schema,
    invocation_content,
    row_schema,
    scores_schema,
    tensors_schema,
)
from ml_assets.serving.scoring import LONGEST_ID
from ml_assets.serving.served_model import SHORTEST_VERSION, ServedModel

_Json = dict[str, Any]
_ERRORS: Final = {
    "400": "The body is not of the form of its protocol.", "401": "The token is missing or wrong.",
    "404": "The model is not served, or the lake has no features of a key.", "408": "The body arrived too slowly.",
    "409": "Another version is served, the model cannot do this, or features are older than declared.",
    "413": "The body or its rows are too many.", "415": "The body has another media type.",
    "422": "Rows break the contract; all broken fields are listed.",
    "500": "The request failed; the log has the reason.",
    "503": "Too many requests are in progress, or the rows took too long.",
}  # fmt: skip
_BODY_ERRORS: Final = ("400", "408", "413", "415", "422", "503")
_ERROR_HEADERS: Final[dict[str, _Json]] = {
    "401": {"WWW-Authenticate": {"description": "The scheme.", "schema": {"type": "string", "const": "Bearer"}}},
    "503": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}
_REQUEST_HEADERS: Final[list[_Json]] = [
    {
        "name": "X-Request-ID", "in": "header", "schema": {"type": "string"},
        "description": "An id of the caller. The answer repeats it, and the request log stores it. An id that is not "
        f"printable ASCII, or longer than {LONGEST_ID} characters, is ignored.",
    },
    {
        "name": "traceparent", "in": "header", "schema": {"type": "string"},
        "description": "The trace of the caller (W3C Trace Context), which the request log stores. Another form is "
        "ignored.",
    },
]  # fmt: skip
_SCORED_HEADERS: Final[_Json] = {
    "Model-Version": {
        "description": "The version that scored the rows.", "required": True, "schema": {"type": "string"},
    },
    "Promotion-Entry": {
        "description": "Its entry in the promotion log.", "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-Request-ID": {
        "description": "The id of the caller; without one, that of the request log if there is one.",
        "schema": {"type": "string", "pattern": f"^[ -~]{{1,{LONGEST_ID}}}$"},
    },
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


def openapi(
    models: Sequence[ServedModel], settings: Mapping[str, ServingSettings], *, release: str, needs_token: bool
) -> _Json:
    """Return the document (OpenAPI 3.1). `settings` are declared for some of the models."""
    live, ready = (
        _get("Whether the process answers.", _object("live")),
        _get(
            "Whether each model is loaded and gives its golden rows the scores of its training.",
            _object("ready", "models"),
        ),
    )
    paths: _Json = {
        "/": _get("A page for people.", {"type": "string"}, media_type="text/html"),
        "/live": live,
        "/v2/health/live": live,
        "/ready": ready,
        "/v2/health/ready": ready,
        "/ping": ready,
        "/health": ready,
        "/metrics": _get("Metrics of Prometheus.", {"type": "string"}, media_type="text/plain"),
        "/openapi.json": _get("This document.", _object("openapi", "info", "paths")),
        "/v1/models": _get("The served models.", _object("models")),
        "/v2": _get("The server, by the Open Inference Protocol.", _object("name", "version", "extensions")),
        "/version": _get(
            "The release of the service, for clients of MLflow.", {"type": "string"}, media_type="text/plain"
        ),
    }
    for path, item in paths.items():
        if path in OPEN_PATHS:
            item["get"]["security"] = []
    schemas: _Json = {"Problem": _PROBLEM}
    for served in models:
        schemas |= {
            f"{served.name}.Row": row_schema(served),
            f"{served.name}.Scores": scores_schema(served, explained=False),
            f"{served.name}.Explanation": scores_schema(served, explained=True),
            f"{served.name}.Tensors": tensors_schema(served),
        }
        paths |= _paths_of(served, settings.get(served.name, ServingSettings()))
    if len(models) == 1:
        paths["/invocations"] = _post(
            "Score rows, by MLflow's protocol.",
            {JSON: invocation_content(models[0])},
            {JSON: {"schema": _object("predictions")}},
        )
    token = {"token": {"type": "http", "scheme": "bearer"}}
    for item in paths.values() if needs_token else ():
        for operation in item.values():
            if operation.get("security") != []:
                operation["responses"]["401"] = _problem("401")
    return {
        "openapi": "3.1.0",
        "info": {"title": "ml-assets prediction service", "version": release},
        "paths": paths,
        "components": {"schemas": schemas, **({"securitySchemes": token} if needs_token else {})},
        **({"security": [{"token": []}]} if needs_token else {}),
    }


def _paths_of(served: ServedModel, settings: ServingSettings) -> _Json:
    name = served.name
    rows = {"schema": body_schema(served, settings), **examples_of(served)}
    arrow = {"schema": {"type": "string", "contentMediaType": ARROW}}
    scores, tensors, explanation = (
        {"schema": {"$ref": f"#/components/schemas/{name}.{kind}"}} for kind in ("Scores", "Tensors", "Explanation")
    )
    metadata = _get(
        "Inputs and outputs, by the Open Inference Protocol.", _object("name", "versions", "inputs", "outputs")
    )
    is_ready = _get("Whether the model is served.", _object("name", "ready"))
    infer = _post(
        "Score rows, by the Open Inference Protocol.", {JSON: {"schema": infer_schema(served)}}, {JSON: tensors}
    )
    of_version = {
        "name": "version", "in": "path", "required": True, "schema": {"type": "string", "minLength": SHORTEST_VERSION},
        "description": "Refuse another version than this one, by its first characters.",
    }  # fmt: skip
    paths = {
        f"/v1/models/{name}": _get(f"The served version of {name}.", _object("name", "version", "entry")),
        f"/v1/models/{name}/form": _get(
            "The fields of a row and golden rows, for the page.", _object("name", "version", "fields", "rows")
        ),
        f"/v1/models/{name}/predict": _post(
            f"Score rows with {name}.", {JSON: rows, ARROW: arrow}, {JSON: scores, ARROW: arrow}, "404", "409"
        ),
        f"/v2/models/{name}": metadata,
        f"/v2/models/{name}/ready": is_ready,
        f"/v2/models/{name}/infer": infer,
        f"/v2/models/{name}/versions/{{version}}": _with(metadata, of_version),
        f"/v2/models/{name}/versions/{{version}}/ready": _with(is_ready, of_version),
        f"/v2/models/{name}/versions/{{version}}/infer": _with(infer, of_version),
    }
    if served.model.spec.estimator is None:
        paths[f"/v1/models/{name}/explain"] = _post(
            "Score rows, and return what each feature adds to each raw score (SHAP).", {JSON: rows},
            {JSON: explanation}, "404", "409",
        )  # fmt: skip
    return paths


def _object(*required: str) -> _Json:
    return {"type": "object", "required": [*required]}


def _get(summary: str, schema: _Json, *, media_type: str = JSON) -> _Json:
    return {"get": {"summary": summary, "responses": _answers({media_type: {"schema": schema}}, ["500"])}}


def _post(summary: str, bodies: _Json, answers: _Json, *errors: str) -> _Json:
    responses = _answers(answers, [*_BODY_ERRORS, *errors, "500"])
    responses["200"]["headers"] = _SCORED_HEADERS
    body = {"required": True, "content": bodies}
    return {
        "post": {"summary": summary, "parameters": _REQUEST_HEADERS, "requestBody": body, "responses": responses},
    }


def _with(item: _Json, version: _Json) -> _Json:
    """Return the operations of a path with a version in it, whose answer may be that another one is served."""
    return {
        method: {
            **operation,
            "parameters": [version, *operation.get("parameters", [])],
            "responses": {**operation["responses"], "409": _problem("409")},
        }
        for method, operation in item.items()
    }


def _answers(content: _Json, errors: Iterable[str]) -> _Json:
    return {
        "200": {"description": "The answer.", "content": content},
        **{code: _problem(code) for code in sorted(errors)},
    }


def _problem(code: str) -> _Json:
    headers = {"headers": _ERROR_HEADERS[code]} if code in _ERROR_HEADERS else {}
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": _ERRORS[code], **headers, "content": content}
