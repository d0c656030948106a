"""Checks the cluster of the Kubernetes launcher: its API, permissions, jobs, GPUs, images and policies."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.images import images
from ml_assets.doctor.network import network_policies
from ml_assets.extras import ExtraMissingError, as_extra_error

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

NEEDED: Final = (
    ("batch", "jobs", ("create", "get", "list", "delete")),
    ("", "pods", ("get", "list", "delete")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
"""What the launcher and its runs do in their namespace."""
_PRODUCT: Final = "nvidia.com/gpu.product"
_TIMEOUT: Final = (2.0, 4.0)


@dataclass(frozen=True)
class GpuNeed:
    """What a stage requests of a node."""

    stage: str
    count: int
    resource: str = "nvidia.com/gpu"
    product: str | None = None


def launches_pods(home: str) -> bool:
    """Return whether runs get pods of their own, so that no training needs the memory of this process."""
    try:
        return _launcher(Path(home) / "dagster.yaml") is not None
    except yaml.YAMLError:  # reported by the check of the cluster
        return False


def cluster(home: str, gpus: Sequence[GpuNeed]) -> Iterator[Finding]:
    """Yield whether the cluster of the launcher in `dagster.yaml` can run this project; nothing if it has none.

    Args:
        home: Dagster's home.
        gpus: the GPUs that the declared stages request.
    """
    try:
        launcher = _launcher(Path(home) / "dagster.yaml")
    except yaml.YAMLError:
        yield Finding("cluster", "not checked", f"{home}/dagster.yaml is not YAML.", "Fix it.")
        return
    if launcher is None:
        return
    try:
        import dagster_k8s  # noqa: F401 - the launcher needs it
        import kubernetes
        import urllib3
    except ImportError as error:
        known = as_extra_error(error, needed_by="the launcher in dagster.yaml")
        if not isinstance(known, ExtraMissingError):
            raise
        yield Finding("cluster", "wrong", known.reason, known.command)
        return
    try:
        yield from _look(launcher, gpus)
    except kubernetes.client.ApiException as error:
        yield Finding(
            "cluster", "wrong", f"the Kubernetes API refused a request: {error.status} {error.reason}.",
            "401: the credentials are wrong or have expired. 403: this account may not query its own permissions.",
        )  # fmt: skip
    except (urllib3.exceptions.HTTPError, kubernetes.config.ConfigException, OSError, yaml.YAMLError) as error:
        yield Finding(
            "cluster", "wrong", f"the Kubernetes API cannot be reached: {type(error).__name__}: {error}",
            "Check the launcher's kubeconfig_file, and that this machine may reach the API server; in a pod, that its "
            "service account's token is mounted. During an outage runs go on, and none starts.",
        )  # fmt: skip


def _launcher(settings: Path) -> Mapping[str, Any] | None:
    """Return the settings of the launcher if it is a Kubernetes launcher."""
    if not settings.is_file():
        return None
    content = yaml.safe_load(settings.read_text(encoding="utf-8"))
    launcher = content.get("run_launcher") if isinstance(content, Mapping) else None
    module = str(launcher.get("module")) if isinstance(launcher, Mapping) else ""
    config = launcher.get("config", {}) if isinstance(launcher, Mapping) else None
    if {"dagster_k8s", "kubernetes"}.isdisjoint(module.split(".")) or not isinstance(config, Mapping):
        return None  # other problems of the file are found by the check of the instance
    return {
        name: os.environ.get(it["env"]) if isinstance(it, Mapping) and "env" in it else it
        for name, it in config.items()
    }


def _look(launcher: Mapping[str, Any], gpus: Sequence[GpuNeed]) -> Iterator[Finding]:
    import kubernetes

    settings = kubernetes.client.Configuration()
    settings.retries = False
    if launcher.get("load_incluster_config", True):
        kubernetes.config.load_incluster_config(client_configuration=settings)
    else:
        kubernetes.config.load_kube_config(launcher.get("kubeconfig_file"), client_configuration=settings)
    client, namespace = kubernetes.client.ApiClient(settings), launcher.get("job_namespace") or "default"
    version = _json(kubernetes.client.VersionApi(client).get_code)["gitVersion"]
    yield Finding("cluster", "ok", f"{settings.host} answers; version {version}, namespace {namespace}.")
    yield from _permissions(client, namespace)
    core, batch = kubernetes.client.CoreV1Api(client), kubernetes.client.BatchV1Api(client)
    yield from _suspended(_listed(batch.list_namespaced_job, namespace))
    if gpus:
        yield from _gpus(gpus, _listed(core.list_node))
    pods = _listed(core.list_namespaced_pod, namespace)
    yield from images(pods)
    yield from network_policies(pods)


def _json(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the response of an API call as it is, within bounded time."""
    return json.loads(call(*arguments, _preload_content=False, _request_timeout=_TIMEOUT).data)


def _listed(call: Callable[..., Any], *arguments: Any) -> list[Mapping[str, Any]] | None:
    """Return the listed objects; None if this account may not list them, as is usual for nodes."""
    import kubernetes

    try:
        return list(_json(call, *arguments)["items"])
    except kubernetes.client.ApiException as error:
        if error.status != 403:
            raise
        return None


def _permissions(client: "ApiClient", namespace: str) -> Iterator[Finding]:
    import kubernetes

    ask = kubernetes.client.AuthorizationV1Api(client).create_self_subject_access_review
    missing = []
    for group, resource, verbs in NEEDED:
        name, _, sub = resource.partition("/")
        for verb in verbs:
            wanted = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": sub}
            if not _json(ask, {"spec": {"resourceAttributes": wanted}})["status"].get("allowed"):
                missing.append(f"{verb} {resource}")
    if missing:
        yield Finding(
            "permissions", "wrong", f"this account may not {', '.join(missing)} in namespace {namespace}.",
            "Give the service account a Role with these permissions, and a RoleBinding.",
        )  # fmt: skip
    else:
        yield Finding("permissions", "ok", f"this account has the launcher's permissions in {namespace}.")


def _suspended(jobs: Sequence[Mapping[str, Any]] | None) -> Iterator[Finding]:
    if jobs is None:
        yield Finding("jobs", "not checked", "this account may not list jobs.", "See the missing permissions.")
    elif names := [job["metadata"]["name"] for job in jobs if job["spec"].get("suspend")]:
        yield Finding(
            "jobs", "warning", f"{len(names)} jobs are suspended and do not start, such as {names[0]}.",
            "A queue releases them when it has room. If there is none, find out who suspended them.",
        )  # fmt: skip
    else:
        yield Finding("jobs", "ok", "no job is suspended.")


def _gpus(needs: Sequence[GpuNeed], nodes: Sequence[Mapping[str, Any]] | None) -> Iterator[Finding]:
    if nodes is None:
        yield Finding(
            "gpu", "not checked", f"{len(needs)} stages request a GPU, but this account may not list nodes.",
            "To check: kubectl get nodes -o custom-columns=NAME:.metadata.name,GPU:.status.allocatable",
        )  # fmt: skip
        return
    for need in needs:
        fit = [node for node in nodes if _fits(node, need)]
        what = f"{need.count} {need.resource}" + (f" ({need.product})" if need.product else "")
        if fit:
            yield Finding("gpu", "ok", f"{need.stage} requests {what}; {len(fit)} nodes have that many.")
        else:
            yield Finding(
                "gpu", "wrong", f"{need.stage} requests {what}, and no node has that many.",
                "Add such a node with the vendor's device plugin, uncordon one, or request less.",
            )  # fmt: skip


def _fits(node: Mapping[str, Any], need: GpuNeed) -> bool:
    given = node["status"].get("allocatable", {}).get(need.resource, "0")
    product = node["metadata"].get("labels", {}).get(_PRODUCT)
    is_open = not node.get("spec", {}).get("unschedulable", False)
    return is_open and int(given) >= need.count and need.product in {None, product}
