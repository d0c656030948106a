"""Traces of requests by OpenTelemetry."""

import asyncio
import sys
from http.server import BaseHTTPRequestHandler

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ml_assets.serving.app import Application
from ml_assets.serving.tracing import ENDPOINTS, Spans, spans_from_environment
from tests.http_server import http_server
from tests.serving.asgi import get, post
from tests.serving.test_app import PREDICT, ROW

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
STAGES = ["read", "parse", "validate", "score", "answer"]


@pytest.fixture
def exporter(application: Application) -> InMemorySpanExporter:
    found, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(found))
    application.spans = Spans(provider)
    return found


def test_a_request_has_a_span_under_the_one_of_its_caller_and_a_span_for_each_stage(
    application: Application, exporter: InMemorySpanExporter
) -> None:
    post(application, PREDICT, {"rows": [ROW]}, traceparent=f"00-{TRACE}-{PARENT}-01")

    *stages, request = exporter.get_finished_spans()
    assert f"POST {PREDICT.replace('returns', '{model}')}" == request.name
    assert {"http.route": "/v1/models/{model}/predict", "ml_assets.model": "returns", "http.response.status_code": 200,
            "http.request.method": "POST"} == dict(request.attributes or {})  # fmt: skip
    assert (int(TRACE, 16), int(PARENT, 16)) == (ids(request)[0], request.parent and request.parent.span_id)
    assert STAGES == [it.name for it in stages]
    assert {ids(request)} == {it.parent and (it.parent.trace_id, it.parent.span_id) for it in stages}
    times = [time for it in stages for time in (it.start_time or 0, it.end_time or 0)]
    assert times == sorted(times)
    assert (request.start_time or 0) <= times[0]
    assert times[-1] <= (request.end_time or 0)


def ids(span: ReadableSpan) -> tuple[int, int]:
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def test_a_refused_request_ends_at_the_stage_that_refused_it_and_a_probe_has_no_span(
    application: Application, exporter: InMemorySpanExporter
) -> None:
    get(application, "/ready")
    post(application, PREDICT, {"rows": [{}]})

    *stages, request = exporter.get_finished_spans()
    assert ["read", "parse"] == [it.name for it in stages]
    assert 422 == (request.attributes or {})["http.response.status_code"]


def test_the_collector_that_the_environment_names_gets_all_spans_at_the_end(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies: list[bytes] = []

    def collect(request: BaseHTTPRequestHandler) -> None:
        bodies.append(request.rfile.read(int(request.headers["content-length"])))
        request.send_response(200)
        request.end_headers()

    with http_server(collect) as port:
        monkeypatch.setenv(ENDPOINTS[0], f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "scores")
        application.spans = spans_from_environment("1.2.3")

        async def lifespan() -> None:
            messages: list[str] = []
            steps = iter(["lifespan.startup", "lifespan.shutdown"])

            async def receive() -> dict[str, str]:
                return {"type": next(steps)}

            async def send(message: dict[str, str]) -> None:
                messages.append(message["type"])

            await application({"type": "lifespan"}, receive, send)
            assert ["lifespan.startup.complete", "lifespan.shutdown.complete"] == messages

        post(application, PREDICT, {"rows": [ROW]})
        asyncio.run(lifespan())

    [exported] = ExportTraceServiceRequest.FromString(b"".join(bodies)).resource_spans
    named = {it.key: it.value.string_value for it in exported.resource.attributes}
    assert ("scores", "1.2.3") == (named["service.name"], named["service.version"])
    assert {*STAGES, "POST /v1/models/{model}/predict"} == {it.name for it in exported.scope_spans[0].spans}


def test_without_a_collector_or_the_extra_nothing_is_traced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    assert spans_from_environment("1.2.3") is None
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with caplog.at_level("INFO", logger="ml_assets.serving"):
        assert spans_from_environment("1.2.3") is None

    assert ["no traces are exported: the extra otel is not installed"] == caplog.messages
