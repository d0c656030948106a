"""The service over ASGI: versions, authorization, limits, and what operators ask for."""

import asyncio
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import jsonschema
import pytest

from ml_assets.serving.app import Application
from ml_assets.serving.errors import RequestError
from ml_assets.serving.http import HttpAnswer, Limits, Request
from ml_assets.serving.served_model import ServedModel
from tests.own_estimators import Means
from tests.serving.asgi import get, post, sent_to
from tests.serving.test_protocols import FIELDS, records, shop_rows

PREDICT = "/v1/models/returns/predict"
ROW = {"shop": "a", "items": 3, "weight kg": 5.0}


def test_an_answer_names_its_version_and_the_entry_of_the_promotion_log(
    application: Application, served: ServedModel
) -> None:
    answer = post(application, PREDICT, {"rows": [ROW], "version": served.version[:8]})

    assert (200, "returns", served.version, 1) == (
        answer.status, answer.json["model"], answer.json["version"], answer.json["entry"]
    )  # fmt: skip
    assert (served.version, "1") == (answer.headers["model-version"], answer.headers["promotion-entry"])


@pytest.mark.parametrize(("path", "body"), [
    (PREDICT, {"rows": [ROW], "version": "0000"}), (PREDICT, {"rows": [ROW], "version": ""}),
    ("/v2/models/returns/versions/0000/infer", {"inputs": []}),
])  # fmt: skip
def test_another_version_than_the_expected_one_does_not_answer(
    application: Application, served: ServedModel, path: str, body: object
) -> None:
    answer = post(application, path, body)

    assert 409 == answer.status
    assert f"is not served; the served version is {served.version}" in answer.json["detail"]


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/returns/explain"])
def test_the_expected_version_is_that_of_the_arrival(
    application: Application, served: ServedModel, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    slot, body = application.registry.slots["returns"], Request.body
    slot.served = served

    async def swap_meanwhile(request: Request, limits: Limits) -> bytes:
        slot.served = replace(served, version="ffffffff")
        return await body(request, limits)

    monkeypatch.setattr(Request, "body", swap_meanwhile)

    answer = post(application, path, {"rows": [ROW], "version": served.version})

    assert (200, served.version) == (answer.status, answer.json["version"])


def test_an_error_that_repeats_no_unicode_is_answered() -> None:
    answer = HttpAnswer.of_error(RequestError(HTTPStatus.NOT_FOUND, "'\ud800' is not served"))

    assert b"'?' is not served" in answer.body


def test_unseen_categories_are_counted_or_refused_as_declared(application: Application, served: ServedModel) -> None:
    vocabulary = {**served.inputs.vocabularies, "shop": ("a", "b")}
    fields = tuple(replace(it, codes={"a": 0.0, "b": 1.0}) if it.name == "shop" else it for it in served.inputs.fields)
    rows = {"rows": [{**ROW, "shop": "c"}, ROW, {**ROW, "shop": "c"}]}
    slot = application.registry.slots["returns"]
    slot.served = replace(served, inputs=replace(served.inputs, fields=fields, vocabularies=vocabulary))

    assert {"shop": 2} == post(application, PREDICT, rows).json["unseen_categories"]
    metrics = get(application, "/metrics").body.decode()
    assert 'ml_assets_unseen_categories_total{model="returns",field="shop"} 2' in metrics

    strict = tuple(replace(it, is_unseen_error=True) for it in fields)
    slot.served = replace(slot.served, inputs=replace(slot.served.inputs, fields=strict))
    answer = post(application, PREDICT, rows)
    [error] = answer.json["errors"]
    expected = "is 'c'; expected a category that the model has seen in training"
    assert (422, "shop", expected, 0, 2) == (answer.status, *error.values())


def test_a_personal_value_is_not_repeated(application: Application, served: ServedModel) -> None:
    table = served.inputs.table
    columns = tuple(replace(it, is_pii=True) for it in table.columns)
    fields = tuple(replace(it, column=replace(it.column, is_pii=True)) for it in served.inputs.fields)
    inputs = replace(served.inputs, table=replace(table, columns=columns), fields=fields)
    application.registry.slots["returns"].served = replace(served, inputs=inputs)

    answer = post(application, PREDICT, {"rows": [{**ROW, "shop": "Jane Doe"}]})

    assert b"Jane" not in answer.body
    assert "is a personal value, which is not shown; expected one of a, b, c" == answer.json["errors"][0]["detail"]
    assert b"example" not in get(application, "/openapi.json").body


def test_an_estimator_of_a_person_scores_on_another_thread_and_has_no_contributions(
    application: Application, served: ServedModel
) -> None:
    spec = served.model.spec.model_copy(update={"estimator": f"{Means.__module__}.Means"})
    model = replace(served.model, spec=spec, booster=None, estimator="[0.25, 0.75, 1]")
    application.registry.slots["returns"].served = ServedModel(
        "returns", served.version, served.entry, model, served.inputs, served.golden
    )

    answer = post(application, PREDICT, {"rows": [{**ROW, "shop": "a"}, {**ROW, "shop": "b"}]})

    assert [0.25, 0.75] == [it["score"] for it in answer.json["predictions"]]
    refused = post(application, "/v1/models/returns/explain", {"rows": [ROW]})
    assert (409, True) == (refused.status, "contributions are not measured" in refused.json["detail"])


def test_what_fails_is_answered_without_its_text_and_logged(
    application: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("Jane Doe")

    monkeypatch.setattr(ServedModel, "score", fail)

    answer = post(application, PREDICT, {"rows": [ROW]})

    assert (500, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert b"Jane" not in answer.body
    assert "Jane Doe" in caplog.text


@pytest.mark.parametrize(("method", "path", "status", "detail"), [
    ("GET", "/nothing", 404, "there is nothing under this path"),
    ("GET", "/v1/models/delays", 404, "model 'delays' is not served; expected returns."),
    ("GET", "/v1/models/returns/other", 404, "there is nothing under this path"),
    ("GET", PREDICT, 405, "GET is not allowed here; expected POST."),
    ("POST", "/live", 405, "POST is not allowed here; expected GET."),
])  # fmt: skip
def test_an_unknown_path_and_another_method_are_reported(
    application: Application, method: str, path: str, status: int, detail: str
) -> None:
    answer = (get if method == "GET" else lambda it, where: post(it, where, {}))(application, path)

    assert status == answer.status
    assert detail in answer.json["detail"]


@pytest.mark.parametrize(("headers", "detail"), [
    ({"content_type": "text/csv"}, "the Content-Type is 'text/csv'; expected application/json or application/vnd"),
    ({"content_encoding": "gzip"}, "the body has the coding 'gzip'; send it as it is."),
])  # fmt: skip
def test_another_media_type_is_refused(application: Application, headers: dict[str, str], detail: str) -> None:
    answer = post(application, PREDICT, {"rows": []}, **headers)

    assert 415 == answer.status
    assert detail in answer.json["detail"]


def test_a_token_is_needed_where_one_is_set_but_not_for_probes(application: Application) -> None:
    application.token = "x" * 20
    body = {"rows": [ROW]}

    for scheme in ("Bearer", "bearer"):
        assert 200 == post(application, PREDICT, body, authorization=f"{scheme} xxxxxxxxxxxxxxxxxxxx").status
    for given in ({}, {"authorization": "Bearer xxxxxxxxxxxxxxxxxxx"}, {"authorization": "xxxxxxxxxxxxxxxxxxxx"}):
        answer = post(application, PREDICT, body, **given)
        assert (401, "Bearer") == (answer.status, answer.headers["www-authenticate"])
    assert {401} == {
        get(application, path).status
        for path in ("/metrics", "/nothing", "/v1/models/delays", "/v1/models/returns/form", PREDICT)
    }
    assert {200} == {get(application, path).status for path in ("/", "/live", "/ready", "/ping", "/v2/health/ready")}


def test_a_body_and_rows_have_limits(application: Application) -> None:
    application = Application(application.registry, Limits(body_bytes=1_000, rows=3))

    assert 200 == post(application, PREDICT, {"rows": [ROW] * 3}).status
    for body, headers in (({"rows": [ROW] * 4}, {}), ({"rows": [ROW] * 100}, {}), ({}, {"content_length": "5000"})):
        assert 413 == post(application, PREDICT, body, **headers).status


@pytest.mark.parametrize(("pause", "seconds", "is_cut", "status"), [(0.2, 0.05, False, 408), (0.0, 60, True, None)])
def test_a_slow_body_and_one_that_ends_early_are_not_scored(
    application: Application, pause: float, seconds: float, *, is_cut: bool, status: int | None
) -> None:
    application = Application(application.registry, Limits(seconds=seconds))
    given = {"content-type": "application/json"}

    answer = asyncio.run(sent_to(application, "POST", PREDICT, [b"{"], given, pause=pause, is_cut=is_cut))

    assert status == (None if answer is None else answer.status)
    assert 0 == application.metrics.in_progress


def test_more_requests_than_the_limit_are_asked_to_retry(application: Application) -> None:
    application = Application(application.registry, Limits(concurrent=1))
    body, given = b'{"rows": []}', {"content-type": "application/json"}

    async def both() -> list[Any]:
        slow = sent_to(application, "POST", PREDICT, [body], given, pause=0.05)
        return await asyncio.gather(slow, sent_to(application, "POST", PREDICT, [body], given))

    first, second = asyncio.run(both())

    assert (200, 503, "1") == (first.status, second.status, second.headers["retry-after"])


def test_it_is_ready_with_verified_golden_rows(application: Application) -> None:
    answer = get(application, "/ready")

    assert 200 == answer.status
    assert (
        "32 golden rows have the scores of the training, bit for bit"
        == (answer.json["models"]["returns"]["golden_rows"])
    )


def test_metrics_count_requests_and_rows(application: Application, served: ServedModel) -> None:
    post(application, PREDICT, {"rows": [ROW] * 3})
    post(application, PREDICT, {})

    lines = get(application, "/metrics").body.decode().splitlines()

    for expected in (
        'ml_assets_requests_total{route="/v1/models/{model}/predict",status="200"} 1',
        'ml_assets_requests_total{route="/v1/models/{model}/predict",status="400"} 1',
        'ml_assets_request_seconds_count{route="/v1/models/{model}/predict"} 2',
        'ml_assets_rows_total{model="returns"} 3',
        f'ml_assets_model_info{{model="returns",version="{served.version}"}} 1',
        'ml_assets_model_entry{model="returns"} 1',
        "ml_assets_requests_in_progress 1",
    ):
        assert expected in lines


def test_the_examples_of_the_openapi_document_are_answered_as_it_says(application: Application) -> None:
    document = get(application, "/openapi.json").json
    content = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]
    schema = {**content["schema"], "components": document["components"]}
    scores = {"$ref": "#/components/schemas/returns.Scores", "components": document["components"]}
    schema = jsonschema.Draft202012Validator(schema)

    schema.validate(content["example"])
    jsonschema.Draft202012Validator(scores).validate(post(application, PREDICT, content["example"]).json)
    assert not schema.is_valid({"rows": [{"shop": "a"}]})
    example = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert 1 == len(post(application, "/invocations", example).json["predictions"])


def test_several_models_are_served_under_their_names(application: Application) -> None:
    slots = application.registry.slots
    slots["delays"] = slots["returns"]

    assert ["returns", "delays"] == application.registry.names
    assert 200 == post(application, "/v1/models/delays/predict", {"rows": records(shop_rows(2))}).status
    answer = post(application, "/invocations", {"inputs": {name: [] for name in FIELDS}})
    assert (404, True) == (answer.status, "/v1/models/MODEL/predict of returns, delays" in answer.json["detail"])


def test_unknown_fields_are_not_listed_without_end(application: Application) -> None:
    answer = post(application, PREDICT, {"rows": [{**ROW, **{f"x{n}": 1 for n in range(500)}}]})

    assert 51 == len(answer.json["errors"])
    assert {"field": "x50", "detail": "unknown, as are 449 further fields"} == answer.json["errors"][-1]
