"""Faults to test with: a proxy before a pretended S3 that fails as networks do, and a disk that stops at the n-th step.

Expectations stay out; they stand in the tests.
"""

import collections
import functools
import http.client
import http.server
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Final, Self
from urllib.parse import urlsplit

from ml_assets.lake import disk

FAULTS: Final = ("500", "503", "slow_down", "reset", "lost", "truncated")
"""Error answers; a reset before the request is carried out, and after; half of an answer's body."""

_ERRORS: Final = {
    "500": (500, "InternalError"),
    "503": (503, "ServiceUnavailable"),
    "slow_down": (503, "SlowDown"),
    "403": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),
    "elsewhere": (400, "AuthorizationHeaderMalformed"),
}
_HOPS: Final = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


class FaultyS3:
    """A proxy before an S3 server.

    `share` of the requests, chosen by a seed, meets one of `kinds`. What `plan` says comes before that.
    """

    def __init__(self, endpoint: str, *, share: float = 0.0, seed: int = 0, kinds: tuple[str, ...] = FAULTS) -> None:
        self.upstream = urlsplit(endpoint).netloc
        self.share, self.kinds = share, kinds
        self.injected: collections.Counter[str] = collections.Counter()
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.open: set[socket.socket] = set()
        self.is_over = threading.Event()
        self._random = random.Random(seed)  # noqa: S311 - a seeded choice of faults
        self._plan: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def endpoint(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def host(self) -> str:
        """The same as errors name it."""
        return self.endpoint.removeprefix("http://")

    def plan(self, method: str, *kinds: str) -> None:
        """Let the next requests whose line begins with `method` meet faults, in this order."""
        self._plan += [(method, kind) for kind in kinds]

    def forget(self) -> None:
        """Drop what is left of the plan."""
        self._plan.clear()

    def fault(self, line: str, headers: Mapping[str, str]) -> str | None:
        """Return what a request meets."""
        with self._lock:
            self.requests.append(line)
            self.headers.append(headers)
            planned = next((one for one in self._plan if line.startswith(one[0])), None)
            if planned:
                self._plan.remove(planned)
                kind: str | None = planned[1]
            else:
                kind = self._random.choice(self.kinds) if self._random.random() < self.share else None
            if kind:
                self.injected[kind] += 1
            return kind

    def gone(self) -> None:
        """Close the port and break every connection."""
        self.is_over.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        for connection in [*self.open]:
            _reset(connection)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.gone()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    proxy: FaultyS3

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is what happens here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    verbs: ClassVar = ("GET", "HEAD", "PUT", "POST", "DELETE")

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.proxy.open.add(self.connection)

    def finish(self) -> None:
        self.server.proxy.open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""

    def _any(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = proxy.fault(f"{self.command} {self.path}", {name.lower(): value for name, value in self.headers.items()})
        if kind in _ERRORS:
            self._answer(*_error(kind))
        elif kind == "reset":
            self._break_off()
        elif kind == "silence":
            proxy.is_over.wait(30)
            self._break_off()
        else:
            answer = self._ask(body)
            if kind == "lost" or (kind == "truncated" and len(answer[2]) < 2):
                self._break_off()
            else:
                self._answer(*answer, cut=kind == "truncated")

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        asked = http.client.HTTPConnection(self.server.proxy.upstream, timeout=30)
        try:
            asked.request(self.command, self.path, body=body, headers=dict(self.headers))
            answer = asked.getresponse()
            content = answer.read()
            headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOPS]
            if self.command == "HEAD":
                headers.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return answer.status, headers, content
        finally:
            asked.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    def _break_off(self) -> None:
        self.close_connection = True
        self.server.proxy.open.discard(self.connection)
        _reset(self.connection)


for _verb in _Handler.verbs:
    setattr(_Handler, f"do_{_verb}", _Handler._any)


def _error(kind: str) -> tuple[int, list[tuple[str, str]], bytes]:
    status, code = _ERRORS[kind]
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>"
    return status, [("Content-Type", "application/xml")], text.encode()


def _reset(connection: socket.socket) -> None:
    """Close a connection so that the other side meets a reset, not an end."""
    handle = connection.detach()
    if handle >= 0:
        again = socket.socket(fileno=handle)
        again.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        again.close()


OPERATIONS: Final = ("make_folder", "open_new", "fill", "sync", "replace", "link", "unlink", "sync_folder")
"""The functions of `ml_assets.lake.disk` through which a lake changes a folder."""


class Stopped(BaseException):
    """The process has crashed; nothing that it would do afterwards happens."""


class WatchedDisk:
    """A disk each of whose changes goes through `_watched`, while it is open."""

    def __init__(self) -> None:
        self._real = {name: getattr(disk, name) for name in OPERATIONS}

    def __enter__(self) -> Self:
        for name in OPERATIONS:
            setattr(disk, name, functools.partial(self._through, name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, real in self._real.items():
            setattr(disk, name, real)

    def _through(self, name: str, *args: Any) -> Any:
        return self._watched(name, args)

    def _watched(self, name: str, args: tuple[Any, ...]) -> Any:
        """Do a change, or what the test wants instead."""
        return self._real[name](*args)

    def _half(self, name: str, args: tuple[Any, ...]) -> None:
        """Fill a file with half of its bytes; any other change is done whole or not at all, here not at all."""
        if name == "fill":
            file: BinaryIO = args[0]
            self._real[name](*args)
            os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size // 2)


class FaultyDisk(WatchedDisk):
    """A disk that counts its changes, and at the n-th one calls a function; by default the process crashes.

    A process that dies while it fills a file leaves half of it.

        with FaultyDisk(at=3) as seen, pytest.raises(Stopped):
            lake.create(path, b"...")
    """

    def __init__(self, at: int | None = None, then: Callable[[str], None] | None = None) -> None:
        """Prepare it.

        Args:
            at: the change, from 1; None only counts.
            then: what is called instead of dying, with the change's name, before it happens; it may raise.
        """
        super().__init__()
        self.at, self.then = at, then
        self.seen: list[str] = []
        self._lock = threading.Lock()

    def _watched(self, name: str, args: tuple[Any, ...]) -> Any:
        with self._lock:
            self.seen.append(name)
            number = len(self.seen)
        if self.at is not None and number >= self.at:
            if self.then is None:
                if number == self.at:
                    self._half(name, args)
                raise Stopped(f"{name}, the change number {number}")
            if number == self.at:
                self.then(name)
        return super()._watched(name, args)
