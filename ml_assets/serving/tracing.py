"""Traces of OpenTelemetry: a span for each request for scores, and one for each of its stages.

They are exported if the environment names a collector and the extra `otel` is installed. Otherwise no span exists.
"""

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_assets.serving.logs import log_event

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
SERVICE: Final = "OTEL_SERVICE_NAME"
_FAILED: Final = 500


class Stages:
    """The stages of a traced request, one after the other, with the nanoseconds since 1970 of their begin and end."""

    def __init__(self) -> None:
        self.began = self._last = time.time_ns()
        self.found: list[tuple[str, int, int]] = []

    def end(self, name: str) -> None:
        """Note that a stage ends now. It began with the end of the stage before."""
        now = time.time_ns()
        self.found.append((name, self._last, now))
        self._last = now


@dataclass(frozen=True)
class TracedRequest:
    """A request that was answered, or given up by its client.

    Attributes:
        parent: the headers `traceparent` and `tracestate` of the caller.
        status: of the answer; None if there is none.
    """

    method: str
    route: str
    model: str
    parent: dict[str, str]
    status: int | None
    stages: Stages


@dataclass(frozen=True)
class Spans:
    """Creates the spans of requests, which a thread of the provider exports."""

    provider: "TracerProvider"

    def add(self, request: TracedRequest) -> None:
        """Add the spans of a request."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        tracer = self.provider.get_tracer("ml_assets.serving")
        attributes: dict[str, str | int] = {
            "http.request.method": request.method, "http.route": request.route, "ml_assets.model": request.model,
        }  # fmt: skip
        if request.status is not None:
            attributes["http.response.status_code"] = request.status
        span = tracer.start_span(
            f"{request.method} {request.route}", TraceContextTextMapPropagator().extract(request.parent),
            SpanKind.SERVER, attributes, start_time=request.stages.began,
        )  # fmt: skip
        inside = set_span_in_context(span)
        for name, began, ended in request.stages.found:
            tracer.start_span(name, inside, start_time=began).end(ended)
        if request.status is not None and request.status >= _FAILED:
            span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Export what is left."""
        self.provider.shutdown()


def spans_from_environment(release: str) -> Spans | None:
    """Return what creates spans; None if the environment names no collector, or the extra is not installed."""
    named = [name for name in ENDPOINTS if os.environ.get(name, "").strip()]
    if not named or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        facts = {"setting": named[0], "missing": error.name, "fix": "pip install 'ml-assets[otel]'"}
        log_event("no traces are exported: the extra otel is not installed", facts, level=logging.WARNING)
        return None
    service = os.environ.get(SERVICE) or "ml-assets"
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.version": release}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)
