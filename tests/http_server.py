"""Small HTTP servers of this machine: one whose requests a function answers, and the API of a Kubernetes cluster."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Api = Callable[[str, str, Mapping[str, str], Any], tuple[int, Any]]
"""Returns the status and the object, or text, that answer a method, path, query and body."""


def body_of(request: BaseHTTPRequestHandler) -> Any:
    """Return the JSON that a client sent; None if it sent nothing."""
    length = int(request.headers.get("Content-Length") or 0)
    return json.loads(request.rfile.read(length)) if length else None


def free_port() -> int:
    """Return a port of this machine that nothing uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """Yield the port of a server on which a function answers every request."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            answer(self)

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def kubernetes_api(api: Api, kubeconfig: Path, namespace: str) -> Iterator[str]:
    """Yield the address of a Kubernetes API, with the file that leads to one of its namespaces."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        status, found = api(request.command, url.path, dict(parse_qsl(url.query)), body_of(request))
        data = (found if isinstance(found, str) else json.dumps(found)).encode()
        request.send_response(status)
        request.send_header("Content-Type", "text/plain" if isinstance(found, str) else "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    with http_server(answer) as port:
        yield write_kubeconfig(kubeconfig, port, namespace)


def write_kubeconfig(path: Path, port: int, namespace: str = "default") -> str:
    """Write a file that leads to a namespace of the API at a port of this machine; return the API's address."""
    url = f"http://127.0.0.1:{port}"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
        "users": [{"name": "u", "user": {"token": "open-sesame"}}],
    }  # fmt: skip
    path.write_text(json.dumps(config), encoding="utf-8")
    return url
