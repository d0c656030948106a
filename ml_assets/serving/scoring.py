"""One way from a body to scores for all protocols, within the limits."""

import asyncio
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.serving.by_key import JoinedRequest, join
from ml_assets.serving.challenger import encoded_by
from ml_assets.serving.errors import RequestError
from ml_assets.serving.http import JSON, Headers, HttpAnswer, Limits, Request, Route, header_bytes
from ml_assets.serving.inputs import Columns, EncodedInputs
from ml_assets.serving.logged_rows import JoinedRows, LoggedRequest
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.output_watch import OutputWatch
from ml_assets.serving.protocols.arrow_stream import ARROW, arrow_answer, read_arrow_rows
from ml_assets.serving.protocols.mlflow_scoring import invocation_answer, read_invocation
from ml_assets.serving.protocols.open_inference import HEADER_LENGTH, infer_answer, read_infer_request
from ml_assets.serving.protocols.own_json import own_answer, own_explanation, read_own_request
from ml_assets.serving.registry import Registry
from ml_assets.serving.request_log import RequestLog
from ml_assets.serving.served_model import SHORTEST_VERSION, Served, ServedModel
from ml_assets.serving.tracing import Stages

QUICK_BYTES: Final = 2**14
"""Bodies up to this size are answered by the thread of the event loop, because a change of threads takes longer."""
QUICK_KEY_BYTES: Final = 2**10
"""The same of bodies with keys, which are many rows in few bytes."""
_KEYS: Final = b'"keys"'
THREADS: Final = 2
LONGEST_ID: Final = 128
"""Letters of the id of a request that is stored and repeated."""
_TRACE: Final = re.compile(r"[0-9a-f]{32}")
_Work = Callable[[bytes], HttpAnswer]


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="scoring")


@lru_cache(maxsize=64)
def _headers(version: str, entry: int) -> Headers:
    """Return the headers of answers of a version."""
    return header_bytes({"Model-Version": version, "Promotion-Entry": str(entry)})


def _check_version(served: ServedModel, version: str | None) -> None:
    """Raise an error if the caller expects another version than the one that answers.

    Raises:
        RequestError: it does.
    """
    if version is not None and (len(version) < SHORTEST_VERSION or not served.version.startswith(version)):
        raise RequestError(
            HTTPStatus.CONFLICT, f"version '{version:.80}' of model '{served.name}' is not served; the served version "
            f"is {served.version}. A process that pins a version: ml-assets serve {served.name} --pin VERSION.",
        )  # fmt: skip


def _trace_id(request: Request) -> str | None:
    """Return the trace of a request, by the header of W3C Trace Context."""
    parts = (request.header(b"traceparent") or "").split("-")
    return parts[1] if len(parts) >= 4 and _TRACE.fullmatch(parts[1]) else None


@dataclass(frozen=True)
class _Call:
    """A request for scores: the version that answers it, how it came, and its ids.

    Attributes:
        is_pinned: whether the caller names the version, so that no other one answers.
        beside: a version that scores the rows and does not answer.
        champion: the champion, if the challenger answers; '' otherwise.
    """

    served: ServedModel
    protocol: str
    request_id: str
    trace_id: str | None
    stages: Stages | None = None
    is_pinned: bool = False
    beside: ServedModel | None = None
    champion: str = ""

    def end_stage(self, name: str) -> None:
        """Note the end of a stage, if the request is traced."""
        if self.stages is not None:
            self.stages.end(name)

    @property
    def is_canary(self) -> bool:
        """Whether the challenger answers."""
        return bool(self.champion)

    @property
    def headers(self) -> Headers:
        """The headers of the answer."""
        found = _headers(self.served.version, self.served.entry.number)
        return [*found, (b"x-request-id", self.request_id.encode())] if self.request_id else found


@dataclass
class ScoringRoutes:
    """Scores the rows of requests.

    Attributes:
        log: where scored rows are stored; None for nowhere.
        watch: what looks for degenerate output.
        pool: the threads that score many rows.
    """

    registry: Registry
    limits: Limits
    metrics: Metrics
    log: RequestLog | None = None
    watch: OutputWatch = field(default_factory=OutputWatch)
    pool: ThreadPoolExecutor = field(default_factory=_pool)

    async def _work(self, request: Request, work: _Work, *, is_quick: bool) -> HttpAnswer:
        """Read the body and answer it, within the limit of time.

        Raises:
            RequestError: the body or its rows are wrong, or it took too long.
            ClientGoneError: the client has closed the connection.
        """
        body = await request.body(self.limits)
        if request.stages is not None:
            request.stages.end("read")
        if is_quick and len(body) <= (QUICK_KEY_BYTES if _KEYS in body else QUICK_BYTES):
            return work(body)
        running = asyncio.get_running_loop().run_in_executor(self.pool, work, body)
        try:
            return await asyncio.wait_for(running, self.limits.seconds)
        except TimeoutError as error:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"the rows were not scored after {self.limits.seconds:g} seconds; send "
                "fewer rows, or retry later.", headers={"retry-after": "5"},
            ) from error  # fmt: skip

    def served(self, name: str, version: str | None) -> ServedModel:
        """Return the current version of a model.

        Raises:
            RequestError: the caller expects another version.
        """
        served = self.registry[name]
        _check_version(served, version)
        return served

    def _columns(self, call: _Call, columns: Columns) -> EncodedInputs:
        call.end_stage("parse")
        self._check_rows(columns.rows)
        inputs = call.served.inputs.encode_columns(columns)
        call.end_stage("validate")
        return inputs

    def _check_rows(self, rows: int) -> None:
        if rows > self.limits.rows:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the request has {rows:,} rows; expected at most "
                f"{self.limits.rows:,}. Send several requests.",
            )  # fmt: skip

    def _decided(
        self, call: _Call, given: Columns, inputs: EncodedInputs, joined: JoinedRows | None = None
    ) -> tuple[_Call, EncodedInputs]:
        """Return who answers valid rows, with the rows as it reads them: the champion, or the challenger of their keys.

        What is not stored is not compared, so without a log there is no challenger.
        """
        champion = call.served
        challenger = self.registry.challenger(champion)
        if challenger is None or self.log is None or champion.name not in self.log.policies:
            return call, inputs
        if (
            not call.is_pinned
            and challenger.answers(given, joined)
            and (own := encoded_by(challenger.served, given)) is not None
        ):
            return replace(call, served=challenger.served, beside=champion, champion=champion.version), own
        return replace(call, beside=challenger.served), inputs

    def _own_rows(self, call: _Call, body: bytes) -> tuple[_Call, Columns, JoinedRequest | None]:
        """Return the request with its rows of own JSON, and how they were joined if it has keys."""
        served, request = call.served, read_own_request(body)
        _check_version(served, request.version)
        call = call if request.version is None else replace(call, is_pinned=True)
        if request.rows is not None:
            return call, request.rows, None
        self._check_rows(len(request.keys))
        now = self.registry.now().replace(tzinfo=None)
        joined = join(served, self.registry.declared(served.name), request.keys, now)
        return call, joined.columns, joined

    def _answered(
        self,
        call: _Call,
        given: Columns | pl.DataFrame,
        inputs: EncodedInputs,
        answer: Callable[[Served], HttpAnswer],
        joined: JoinedRequest | None = None,
    ) -> HttpAnswer:
        """Score rows, count them, and store them in the request log unless no answer can be made of them."""
        try:
            scores = call.served.score(inputs)
        except DataError as error:
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from error
        call.end_stage("score")
        found = answer(scores)
        call.end_stage("answer")
        self.metrics.count_rows(call.served.name, scores)
        if call.champion:
            self.metrics.count_canary(call.served.name, scores.rows)
        else:
            self.watch.add(call.served, inputs, scores)
        if self.log is not None:
            rows = None if joined is None else joined.joined
            at, ids = time.time(), (call.request_id, call.trace_id)
            beside, champion = call.beside, call.champion
            self.log.add(LoggedRequest(call.served, call.protocol, *ids, at, given, scores, rows, beside, champion))
        return found

    def _call(self, served: ServedModel, protocol: str, request: Request) -> _Call:
        """Return what a request is for."""
        given = request.header(b"x-request-id")
        request_id = given if given and len(given) <= LONGEST_ID and given.isprintable() and given.isascii() else None
        if request_id is None and self.log is not None:
            request_id = self.log.request_id()
        return _Call(served, protocol, request_id or "", _trace_id(request), request.stages)

    async def predict(self, request: Request, route: Route) -> HttpAnswer:
        """Score rows of own JSON or of Arrow."""
        request.check_media_type(JSON, ARROW)
        served = self.registry[route.model]
        if request.media_type == ARROW:
            arrow = self._call(served, "arrow", request)
            return await self._work(request, lambda body: self._arrow(arrow, body), is_quick=False)
        call = self._call(served, "json", request)

        def work(body: bytes) -> HttpAnswer:
            given, columns, joined = self._own_rows(call, body)
            inputs, beside = self._columns(call, columns), () if joined is None else joined.records()
            by, inputs = self._decided(given, columns, inputs, None if joined is None else joined.joined)

            def answer(scores: Served) -> HttpAnswer:
                return HttpAnswer.of(own_answer(served.name, scores, beside, is_canary=by.is_canary), by.headers)

            return self._answered(by, columns, inputs, answer, joined)

        return await self._work(request, work, is_quick=served.is_quick(1))

    def _arrow(self, call: _Call, body: bytes) -> HttpAnswer:
        served = call.served
        frame = read_arrow_rows(body, self._check_rows, served.inputs.known)
        call.end_stage("parse")
        inputs = served.inputs.encode_frame(frame)
        call.end_stage("validate")
        if self.log is not None and (challenger := self.registry.challenger(served)) is not None:
            call = replace(call, beside=challenger.served)
        return self._answered(
            call, frame, inputs, lambda scores: HttpAnswer(arrow_answer(served, scores), ARROW, headers=call.headers)
        )

    async def explain(self, request: Request, route: Route) -> HttpAnswer:
        """Score rows of own JSON, and return what each feature adds."""
        request.check_media_type(JSON)
        served = self.registry[route.model]
        if served.model.spec.estimator is not None:
            raise RequestError(
                HTTPStatus.CONFLICT, f"model '{route.model}' is trained by {served.model.spec.estimator}, for which "
                "contributions are not measured; expected a model of LightGBM.",
            )  # fmt: skip
        call = self._call(served, "explain", request)

        def work(body: bytes) -> HttpAnswer:
            given, columns, joined = self._own_rows(call, body)
            inputs, beside = self._columns(call, columns), () if joined is None else joined.records()
            by, inputs = self._decided(given, columns, inputs, None if joined is None else joined.joined)
            features = by.served.model.spec.features

            def answer(scores: Served) -> HttpAnswer:
                added = by.served.explain(inputs)
                found = own_explanation(served.name, scores, added, features, beside, is_canary=by.is_canary)
                return HttpAnswer.of(found, by.headers)

            return self._answered(by, columns, inputs, answer, joined)

        return await self._work(request, work, is_quick=False)

    async def infer(self, request: Request, route: Route) -> HttpAnswer:
        """Score rows of the Open Inference Protocol."""
        request.check_media_type(JSON, "application/octet-stream", "")
        served, length = self.served(route.model, route.version), request.header(HEADER_LENGTH.encode())
        call = replace(self._call(served, "open_inference", request), is_pinned=route.version is not None)

        def work(body: bytes) -> HttpAnswer:
            columns, rest = read_infer_request(body, length, served.inputs)
            by, inputs = self._decided(call, columns, self._columns(call, columns))
            return self._answered(
                by, columns, inputs, lambda scores: HttpAnswer.of(infer_answer(by.served, rest, scores), by.headers)
            )

        return await self._work(request, work, is_quick=served.is_quick(1))

    async def invocations(self, request: Request, _: Route) -> HttpAnswer:
        """Score rows of MLflow's protocol."""
        request.check_media_type(JSON)
        if len(self.registry.names) > 1:
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"the service has several models, and /invocations names none; use "
                f"/v1/models/MODEL/predict of {', '.join(self.registry.names)}.",
            )  # fmt: skip
        served = self.registry[self.registry.names[0]]
        call = self._call(served, "mlflow", request)

        def work(body: bytes) -> HttpAnswer:
            columns = read_invocation(body)
            by, inputs = self._decided(call, columns, self._columns(call, columns))
            return self._answered(
                by, columns, inputs, lambda scores: HttpAnswer.of(invocation_answer(scores), by.headers)
            )

        return await self._work(request, work, is_quick=served.is_quick(1))
