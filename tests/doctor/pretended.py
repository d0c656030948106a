"""A test double of the Kubernetes API: a small HTTP server with the requests of the doctor."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.http_server import kubernetes_api


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

    def answer(self, _: str, path: str, __: Mapping[str, str], body: Any) -> tuple[int, Mapping[str, Any]]:
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
    with kubernetes_api(cluster.answer, kubeconfig, "ml"):
        yield


def node(*, gpus: int = 0, product: str = "", closed: bool = False) -> Any:
    return {
        "metadata": {"name": "n1", "labels": {"nvidia.com/gpu.product": product} if product else {}},
        "spec": {"unschedulable": True} if closed else {},
        "status": {"allocatable": {"cpu": "4", **({"nvidia.com/gpu": str(gpus)} if gpus else {})}},
    }


def pod(name: str) -> Any:
    return {"metadata": {"name": name}, "status": {}}


def listening(role: str, port: int | None, *, name: str = "other", is_ready: bool = True) -> Any:
    """Return a pod of a role that listens on this machine, with its declared port if there is one."""
    return {
        "metadata": {"name": name, "labels": {"ml-assets/role": role}},
        "spec": {"containers": [{"image": "ml:1", "ports": [{"containerPort": port}] if port else None}]},
        "status": {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": str(is_ready)}]},
    }
