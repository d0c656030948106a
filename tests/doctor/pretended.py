"""A test double of the Kubernetes API: a small HTTP server with the requests of the doctor."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Pretended:
    """What the pretended cluster holds and allows.

    Attributes:
        denied: what the account may not do, as `verb resource`.
        forbidden: paths whose beginning is answered with 403.
    """

    denied: set[str] = field(default_factory=set)
    forbidden: tuple[str, ...] = ()
    nodes: list[Mapping[str, Any]] = field(default_factory=list)
    pods: list[Mapping[str, Any]] = field(default_factory=list)
    jobs: list[Mapping[str, Any]] = field(default_factory=list)

    def answer(self, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if path.startswith(self.forbidden):
            return 403, {}
        if path == "/version/":
            return 200, {"gitVersion": "v1.36.2"}
        if path.endswith("selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            name = "/".join(part for part in (asked["resource"], asked["subresource"]) if part)
            return 201, {"status": {"allowed": f"{asked['verb']} {name}" not in self.denied}}
        lists = {
            "/api/v1/nodes": self.nodes,
            "/api/v1/namespaces/ml/pods": self.pods,
            "/apis/batch/v1/namespaces/ml/jobs": self.jobs,
        }
        return (200, {"items": lists[path]}) if path in lists else (404, {})


@contextmanager
def serving(cluster: Pretended, kubeconfig: Path) -> Iterator[None]:
    """Serve a pretended cluster, and write the file that leads there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Mapping[str, Any]) -> None:
            status, said = cluster.answer(self.path, body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    write_kubeconfig(kubeconfig, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def write_kubeconfig(path: Path, port: int) -> None:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "u", "user": {"token": "open-sesame"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
            }
        )
    )  # fmt: skip


def node(name: str = "n1", *, gpus: int = 0, product: str = "", closed: bool = False) -> Any:
    return {
        "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.product": product} if product else {}},
        "spec": {"unschedulable": True} if closed else {},
        "status": {
            "allocatable": {"cpu": "4", **({"nvidia.com/gpu": str(gpus)} if gpus else {})},
        },
    }  # fmt: skip


def pod(name: str) -> Any:
    return {"metadata": {"name": name}, "status": {}}


def listening(role: str, port: int | None, *, name: str = "other", is_ready: bool = True) -> Any:
    """Return a pod of a role that listens on this machine, with its declared port if there is one."""
    return {
        "metadata": {"name": name, "labels": {"ml-assets/role": role}},
        "spec": {"containers": [{"image": "ml:1", "ports": [{"containerPort": port}] if port else None}]},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": str(is_ready)}]},
    }
