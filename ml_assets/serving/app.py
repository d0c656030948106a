"""The ASGI application: routes, authorization, limits, and one way from a body to scores for all protocols.

It is plain ASGI, because a router and a request object of a framework take a third of the time of a small request.
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from ml_assets.serving.errors import RequestError
from ml_assets.serving.http import (
    OPEN_PATHS,
    ClientGoneError,
    Handler,
    HttpAnswer,
    Limits,
    Receive,
    Request,
    Route,
    Send,
)
from ml_assets.serving.logs import LOGGER
from ml_assets.serving.metrics import TEXT_FORMAT, Metrics
from ml_assets.serving.openapi import openapi
from ml_assets.serving.output_watch import OutputWatch
from ml_assets.serving.page import form_of, page
from ml_assets.serving.polling import Poller
from ml_assets.serving.protocols.open_inference import model_metadata
from ml_assets.serving.registry import POLL_SECONDS, Registry, Swap
from ml_assets.serving.request_log import RequestLog
from ml_assets.serving.scoring import ScoringRoutes
from ml_assets.serving.served_model import ServedModel
from ml_assets.serving.tracing import Spans, Stages, TracedRequest


@dataclass
class Application:
    """The service as an ASGI application.

    Attributes:
        token: the bearer token that requests need; None for none.
        log: where scored rows are stored; None for nowhere.
        watch: what looks for degenerate output.
        spans: what traces requests; None for nothing.
        on_swap: is called, by a thread, with each change of a served version.
    """

    registry: Registry
    limits: Limits = field(default_factory=Limits)
    token: str | None = None
    on_swap: Callable[[Swap], None] = lambda _: None
    metrics: Metrics = field(default_factory=Metrics)
    log: RequestLog | None = None
    watch: OutputWatch = field(default_factory=OutputWatch)
    spans: Spans | None = None
    release: str = ""
    poll_seconds: float = POLL_SECONDS

    def __post_init__(self) -> None:
        scoring = self._scoring = ScoringRoutes(self.registry, self.limits, self.metrics, self.log, self.watch)
        get, post = "GET", "POST"
        fixed: dict[str, dict[str, Handler]] = {
                "/": {get: self._page}, "/live": {get: self._live}, "/ready": {get: self._ready},
                "/metrics": {get: self._metrics},
                "/openapi.json": {get: self._openapi}, "/v1/models": {get: self._models}, "/v2": {get: self._server},
                "/v2/health/live": {get: self._live}, "/v2/health/ready": {get: self._ready},
                "/ping": {get: self._ready},
                "/health": {get: self._ready}, "/version": {get: self._mlflow_version},
                "/invocations": {post: scoring.invocations},
        }  # fmt: skip
        self._routes = {path: Route(path, methods) for path, methods in fixed.items()}
        self._of_model: dict[str, dict[str, Handler]] = {
            "/v1/models/{model}": {get: self._model}, "/v1/models/{model}/form": {get: self._form},
            "/v1/models/{model}/predict": {post: scoring.predict},
            "/v1/models/{model}/explain": {post: scoring.explain}, "/v2/models/{model}": {get: self._metadata},
            "/v2/models/{model}/ready": {get: self._model_ready}, "/v2/models/{model}/infer": {post: scoring.infer},
        }  # fmt: skip
        for template, methods in self._of_model.items():
            for model in self.registry.names:
                self._routes[template.replace("{model}", model)] = Route(template, methods, model)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or start and end with the server (ASGI 3)."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            is_traced = self.spans is not None and scope["method"] == "POST"
            await self._answer(Request.of(scope, receive, Stages() if is_traced else None), send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.log is not None:
            self.log.start()
        poller = Poller(self.registry, self.metrics, self.on_swap, self.poll_seconds)
        tasks = [asyncio.create_task(it) for it in (poller.run(), self.watch.run())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._scoring.pool.shutdown)
        if self.log is not None:
            await asyncio.to_thread(self.log.close)
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, request: Request, send: Send) -> None:
        begun = time.perf_counter()
        route, answer = None, None
        self.metrics.in_progress += 1
        try:
            self._authorize(request)
            route = self._route(request)
            answer = await self._handle(request, route)
        except RequestError as error:
            answer = HttpAnswer.of_error(error)
        except ClientGoneError:
            return
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer and the log the traceback
            LOGGER.exception("a request failed", extra={"fields": {"path": request.path}})
            failed = RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "the request failed; the log has the reason.")
            answer = HttpAnswer.of_error(failed)
        finally:
            self.metrics.in_progress -= 1
            name = "unknown" if route is None else route.name
            if answer is not None:
                self.metrics.count_request(name, int(answer.status), time.perf_counter() - begun)
            if self.spans is not None and request.stages is not None:
                self.spans.add(_traced(request, route, answer, request.stages))
        await answer.send(send)

    def _authorize(self, request: Request) -> None:
        """Check the token, before the answer tells which paths and models there are.

        Raises:
            RequestError: it is missing or wrong.
        """
        if self.token is None or request.path in OPEN_PATHS:
            return
        scheme, _, given = (request.header(b"authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise RequestError(
                HTTPStatus.UNAUTHORIZED, "the request has no valid token; expected 'Authorization: Bearer TOKEN'.",
                headers={"www-authenticate": "Bearer"},
            )  # fmt: skip

    def _route(self, request: Request) -> Route:
        """Return the route of a path.

        Raises:
            RequestError: there is none, or the model is not served.
        """
        if (fixed := self._routes.get(request.path)) is not None:
            return fixed
        parts = request.path.split("/")
        if len(parts) >= 4 and parts[2] == "models":
            name, version = parts[3], None
            if len(parts) >= 6 and parts[1] == "v2" and parts[4] == "versions":
                version, parts = parts[5], [*parts[:4], *parts[6:]]
            template = "/".join([*parts[:3], "{model}", *parts[4:]])
            if (methods := self._of_model.get(template)) is not None:
                if name not in self.registry:
                    served = ", ".join(self.registry.names)
                    raise RequestError(HTTPStatus.NOT_FOUND, f"model '{name:.80}' is not served; expected {served}.")
                return Route(template, methods, name, version)
        raise RequestError(HTTPStatus.NOT_FOUND, "there is nothing under this path; GET /openapi.json has all paths.")

    async def _handle(self, request: Request, route: Route) -> HttpAnswer:
        """Return the answer of a route.

        Raises:
            RequestError: the method is wrong, or the service has no capacity.
        """
        handler = route.methods.get(request.method)
        if handler is None:
            allowed = ", ".join(route.methods)
            raise RequestError(
                HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method:.20} is not allowed here; expected {allowed}.",
                headers={"allow": allowed},
            )  # fmt: skip
        if request.method == "POST" and self.metrics.in_progress > self.limits.concurrent:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"more than {self.limits.concurrent} requests are in progress; retry.",
                headers={"retry-after": "1"},
            )  # fmt: skip
        return await handler(request, route)

    async def _live(self, *_: object) -> HttpAnswer:
        return HttpAnswer.of({"live": True})

    async def _ready(self, *_: object) -> HttpAnswer:
        models = {it: _summary(self.registry[it]) for it in self.registry.names}
        return HttpAnswer.of({"ready": True, "models": models})

    async def _metrics(self, *_: object) -> HttpAnswer:
        models = [self.registry[name] for name in self.registry.names]
        online = [found for it in models if (found := self.registry.challenger(it)) is not None]
        return HttpAnswer(self.metrics.text(models, self.watch, online).encode(), TEXT_FORMAT)

    async def _openapi(self, *_: object) -> HttpAnswer:
        models = [self.registry[name] for name in self.registry.names]
        declared, needs_token = self.registry.settings, self.token is not None
        return HttpAnswer.of(openapi(models, declared, release=self.release, needs_token=needs_token))

    async def _models(self, *_: object) -> HttpAnswer:
        return HttpAnswer.of({"models": [_summary(self.registry[name]) for name in self.registry.names]})

    async def _model(self, _: Request, route: Route) -> HttpAnswer:
        return HttpAnswer.of(_summary(self.registry[route.model]))

    async def _page(self, *_: object) -> HttpAnswer:
        return page(self.release)

    async def _form(self, _: Request, route: Route) -> HttpAnswer:
        return HttpAnswer.of(form_of(self.registry[route.model]))

    async def _server(self, *_: object) -> HttpAnswer:
        return HttpAnswer.of({"name": "ml-assets", "version": self.release, "extensions": ["binary_tensor_data"]})

    async def _mlflow_version(self, *_: object) -> HttpAnswer:
        return HttpAnswer(self.release.encode(), "text/plain")

    async def _metadata(self, _: Request, route: Route) -> HttpAnswer:
        return HttpAnswer.of(model_metadata(self._scoring.served(route.model, route.version)))

    async def _model_ready(self, _: Request, route: Route) -> HttpAnswer:
        self._scoring.served(route.model, route.version)
        return HttpAnswer.of({"name": route.model, "ready": True})


def _traced(request: Request, route: Route | None, answer: HttpAnswer | None, stages: Stages) -> TracedRequest:
    """Return what the trace of a request needs."""
    given = {name: request.header(name.encode()) for name in ("traceparent", "tracestate")}
    parent = {name: text for name, text in given.items() if text is not None}
    status = None if answer is None else int(answer.status)
    if route is None:
        return TracedRequest(request.method, "unknown", "", parent, status, stages)
    return TracedRequest(request.method, route.name, route.model, parent, status, stages)


def _summary(served: ServedModel) -> dict[str, Any]:
    """Return which version of a model is served, and since when it is champion."""
    spec = served.model.spec
    return {
        "name": served.name,
        "version": served.version,
        "entry": served.entry.number,
        "promoted_at": served.entry.decided_at.isoformat(),
        "task": spec.task,
        "target": spec.target,
        "trained_as_of": str(spec.as_of),
        "golden_rows": served.golden.words,
        "unseen_categories": spec.unseen_categories,
        **({} if served.threshold is None else {"threshold": served.threshold}),
        **({} if served.features is None else {"features": served.features.summary}),
    }
