"""Requests and answers of HTTP over ASGI, with limits on the body."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from ml_assets.serving.errors import PROBLEM, RequestError
from ml_assets.serving.protocols.json_text import json_bytes, whole_number
from ml_assets.serving.tracing import Stages

JSON: Final = "application/json"
OPEN_PATHS: Final = frozenset({"/", "/live", "/ready", "/ping", "/health", "/v2/health/live", "/v2/health/ready"})
"""Paths that need no token: a probe of Kubernetes has none, and the page asks for it."""
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


class ClientGoneError(Exception):
    """The client has closed the connection before its request was complete."""


@dataclass(frozen=True)
class Limits:
    """What a request may take.

    Attributes:
        body_bytes: the size of a body.
        rows: rows of a request.
        concurrent: requests that are in progress at once.
        seconds: how long a body may take to arrive, and its rows to be scored.
    """

    body_bytes: int = 16 * 2**20
    rows: int = 10_000
    concurrent: int = 64
    seconds: float = 10.0


@dataclass(frozen=True)
class HttpAnswer:
    """An answer to a request."""

    body: bytes
    media_type: str = JSON
    status: HTTPStatus = HTTPStatus.OK
    headers: Headers = ()

    @classmethod
    def of(cls, content: Mapping[str, Any], headers: Headers = ()) -> "HttpAnswer":
        """Return an answer of JSON."""
        return cls(json_bytes(content), headers=headers)

    @classmethod
    def of_error(cls, error: RequestError) -> "HttpAnswer":
        """Return the problem details of an error. What it repeats of a request may be no Unicode."""
        headers = header_bytes(error.headers)
        return cls(json_bytes(error.problem, errors="replace"), PROBLEM, error.status, headers)

    async def send(self, send: Send) -> None:
        """Send the answer."""
        headers = [
            (b"content-type", self.media_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": int(self.status), "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def header_bytes(headers: Mapping[str, str]) -> Headers:
    """Return headers as ASGI sends them."""
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


@dataclass(frozen=True)
class Request:
    """A request without its body.

    Attributes:
        headers: by name in lower case; of a name that is given twice, the last one.
        stages: its stages, if it is traced.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive
    stages: Stages | None = None

    @classmethod
    def of(cls, scope: Mapping[str, Any], receive: Receive, stages: Stages | None = None) -> "Request":
        """Return the request of an ASGI scope."""
        return cls(scope["method"], scope["path"], dict(scope["headers"]), receive, stages)

    def header(self, name: bytes) -> str | None:
        """Return a header; None if it is not given."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def media_type(self) -> str:
        """The media type of the body, without parameters; empty if none is given."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    def check_media_type(self, *allowed: str) -> None:
        """Raise an error if the body has another media type, or is compressed.

        Raises:
            RequestError: it has.
        """
        coding = self.header(b"content-encoding")
        if coding not in {None, "identity"}:
            raise RequestError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body has the coding '{coding:.40}'; send it as it is."
            )
        if (media_type := self.media_type) not in allowed:
            got = f"'{media_type:.80}'" if media_type else "not given"
            expected = " or ".join(it or "none" for it in allowed)
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the Content-Type is {got}; expected {expected}.")

    async def body(self, limits: Limits) -> bytes:
        """Return the body.

        Raises:
            RequestError: it is too large or arrives too slowly.
            ClientGoneError: it is not complete.
        """
        length = self.header(b"content-length") or "0"
        if (found := whole_number(length)) is not None and found > limits.body_bytes:
            raise _too_large(limits)
        started = _Started(self._whole(limits))
        if started.result is not None:
            return started.result
        try:
            async with asyncio.timeout(limits.seconds):
                return await started
        except TimeoutError as error:
            raise RequestError(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body was not complete after {limits.seconds:g} seconds; send it faster, or fewer rows.",
                headers={"connection": "close"},
            ) from error

    async def _whole(self, limits: Limits) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limits.body_bytes:
                raise _too_large(limits)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)


class _Started:
    """A coroutine that has run up to its first wait: one that never waits needs no timer, which takes 5 µs.

    Attributes:
        result: what it has returned; None if it waits.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, bytes]) -> None:
        self.result: bytes | None = None
        self._steps = coroutine.__await__()
        try:
            self._awaited = self._steps.send(None)
        except StopIteration as done:
            self.result = done.value

    def __await__(self) -> Generator[Any, Any, bytes]:
        yield self._awaited
        return (yield from self._steps)


@dataclass(frozen=True)
class Route:
    """What answers a path.

    Attributes:
        name: the path with placeholders, as metrics name it.
        methods: the handler of each method.
        model: the name of the model in the path.
        version: the version in the path.
    """

    name: str
    methods: Mapping[str, "Handler"]
    model: str = ""
    version: str | None = None


Handler = Callable[[Request, Route], Awaitable[HttpAnswer]]


def _too_large(limits: Limits) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than {limits.body_bytes:,} bytes; send fewer rows in a request.",
        headers={"connection": "close"},
    )
