"""Runs the service: the address, the token, and uvicorn."""

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ml_assets.contracts.errors import DataError
from ml_assets.extras import as_extra_error
from ml_assets.serving.app import Application
from ml_assets.serving.logs import log_event, log_to_stderr

if TYPE_CHECKING:
    import uvicorn

TOKEN: Final = "ML_ASSETS_SERVE_TOKEN"  # noqa: S105 - the name of the variable
SHORTEST_TOKEN: Final = 16
BACKLOG: Final = 2048
GRACE_SECONDS: Final = 15
"""How long requests in progress may take once the process is asked to end; Kubernetes kills a pod after 30
seconds, and the request log has its own `LAST_SECONDS` after these."""


@dataclass(frozen=True)
class Address:
    """Where the service listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def serving_token(address: Address) -> str | None:
    """Return the token that requests need, from the environment; None if there is none.

    Raises:
        DataError: it is too short or not ASCII, or there is none and the service can be reached from other machines.
    """
    token = os.environ.get(TOKEN, "").strip() or None
    if token is None and not address.is_loopback:
        raise DataError(
            f"--host {address.host} lets other machines send requests, and {TOKEN} is not set; expected a token of "
            f"{SHORTEST_TOKEN} letters or more in it. Set it, or listen on 127.0.0.1."
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise DataError(f"{TOKEN} has {len(token)} letters; expected {SHORTEST_TOKEN} or more.")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise DataError(
            f"{TOKEN} has a blank or a letter that is not ASCII, which a header cannot hold; expected others."
        )
    return token


def bound_socket(address: Address) -> socket.socket:
    """Return a socket that listens on an address.

    Raises:
        DataError: the port is taken, or the host is not one of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise DataError(
            f"the service cannot listen on {address.host}, port {address.port}: {os.strerror(error.errno or 0)}. Name "
            "another --port or --host."
        ) from error


def http_server(application: Application) -> "uvicorn.Server":
    """Return the HTTP server of an application.

    Raises:
        ExtraMissingError: the extra `serve` is not installed.
    """
    try:
        import uvicorn

        from ml_assets.serving.one_write import OneWriteProtocol
    except ModuleNotFoundError as error:
        raise as_extra_error(error, needed_by="ml-assets serve") from error
    config = uvicorn.Config(
        application, log_config=None, access_log=False, server_header=False, date_header=False, lifespan="on",
        backlog=BACKLOG, timeout_graceful_shutdown=GRACE_SECONDS, ws="none", http=OneWriteProtocol,
    )  # fmt: skip
    return uvicorn.Server(config)


def serve_until_stopped(application: Application, listening: socket.socket) -> None:
    """Answer requests until the process is asked to end; requests in progress are answered first."""
    log_to_stderr()
    server = http_server(application)
    host, port, *_ = listening.getsockname()
    for name in application.registry.names:
        served = application.registry[name]
        facts = {"model": name, "version": served.version, "entry": served.entry.number}
        url = f"http://{host}:{port}/v1/models/{name}"
        log_event("a model is served", {**facts, "golden_rows": served.golden.words, "url": url})
    with _no_signal_after_the_end():
        server.run(sockets=[listening])
    log_event("the service has ended")


@contextmanager
def _no_signal_after_the_end() -> Iterator[None]:
    """Ignore the signal that has ended the service: uvicorn raises it once more when all requests are answered."""
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
