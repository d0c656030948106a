"""Checks the cluster: the launcher's permissions, and whether everything that its pods need exists.

Not here: the requests to the API (see `ml_assets.doctor.kubernetes_api`).
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dagster._core.instance.ref import InstanceRef

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.instance import SettingsOfInstanceError, class_and_config, read_instance
from ml_assets.doctor.kubernetes_api import Api, RefusedError, UnreachableError, is_configured, unreachable
from ml_assets.doctor.network import network_policies
from ml_assets.doctor.pods import Pod, has_run, image_of_code, in_use, plain, why_not_pulled
from ml_assets.extras import ExtraMissingError

NEEDED: Final = (
    ("batch", "jobs", ("create", "get", "list", "delete")),
    ("", "pods", ("get", "list", "delete")),
    ("", "pods/log", ("get",)),
    ("", "events", ("list",)),
)
"""What the launcher and its runs do in their namespace."""
_PRODUCT: Final = "nvidia.com/gpu.product"


@dataclass(frozen=True)
class GpuNeed:
    """What a stage requests of a node."""

    stage: str
    count: int
    resource: str = "nvidia.com/gpu"
    product: str | None = None


def cluster(home: str, gpus: Sequence[GpuNeed]) -> Iterator[Finding]:
    """Yield whether the configured cluster can run this project; nothing if none is configured.

    Args:
        home: Dagster's home.
        gpus: the GPUs that the declared stages request.
    """
    try:
        launcher = _launcher(read_instance(home))
    except SettingsOfInstanceError as error:
        yield Finding(
            "cluster", "wrong", str(error), "Fix dagster.yaml, or set the environment variables that it reads."
        )
        return
    except ExtraMissingError as error:
        yield Finding("cluster", "wrong", error.reason, error.command)
        return
    if not is_configured(launcher):
        return
    try:
        api = Api(launcher or {})
        version = api.get("/version").get("gitVersion", "unknown")
        yield Finding("cluster", "ok", f"{api.host} answers; version {version}, namespace {api.namespace}.")
        yield from _permissions(api)
        nodes = _listed(api, "/api/v1/nodes")
        pods = _listed(api, f"/api/v1/namespaces/{api.namespace}/pods") or []
        yield from _named(api, launcher or {}, pods)
        yield from _image(api, launcher or {}, nodes, pods)
        yield from _gpus(gpus, nodes)
        yield from network_policies(pods)
    except ExtraMissingError as error:  # no launcher needs it: a kubeconfig alone may have another purpose
        yield Finding("cluster", "warning", error.reason, f"If runs start in that cluster: {error.command}")
    except UnreachableError as error:
        yield unreachable(error)
    except RefusedError as error:
        yield Finding(
            "cluster", "wrong", f"the Kubernetes API refused a request: {error}.",
            "401: the credentials are wrong or have expired. 403: this account may not query its own permissions.",
        )  # fmt: skip


def _launcher(ref: InstanceRef | None) -> Mapping[str, Any] | None:
    """Return the settings of the launcher if it is a Kubernetes launcher."""
    data = None if ref is None else ref.run_launcher_data
    if data is None or data.module_name == "dagster":
        return None
    found, config = class_and_config(data)
    return config if any(one.__module__.startswith("dagster_k8s") for one in found.__mro__) else None


def _permissions(api: Api) -> Iterator[Finding]:
    missing = []
    for group, resource, verbs in NEEDED:
        name, _, sub = resource.partition("/")
        for verb in verbs:
            attributes = {
                "namespace": api.namespace, "verb": verb, "group": group, "resource": name, "subresource": sub,
            }  # fmt: skip
            review = {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }  # fmt: skip
            answer = api.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
            if not answer["status"].get("allowed"):
                missing.append(f"{verb} {resource}")
    if missing:
        yield Finding(
            "permissions", "wrong", f"this account may not {', '.join(missing)} in namespace {api.namespace}.",
            "Give the service account a Role with these permissions, and a RoleBinding.",
        )  # fmt: skip
    else:
        yield Finding("permissions", "ok", f"this account has the launcher's permissions in {api.namespace}.")


def _named(api: Api, launcher: Mapping[str, Any], pods: Sequence[Pod]) -> Iterator[Finding]:
    """Yield whether the objects that the launcher's settings name exist."""
    named = {
        "secrets": [
            *_texts(launcher.get("env_secrets")), *_texts([launcher.get("postgres_password_secret")]),
            *_texts(one.get("name") for one in launcher.get("image_pull_secrets") or ()),
            *_of_volumes(launcher, "secret", "secretName", "secret_name"),
        ],
        "configmaps": [
            *_texts(launcher.get("env_config_maps")), *_texts([launcher.get("instance_config_map")]),
            *_of_volumes(launcher, "configMap", "name"), *_of_volumes(launcher, "config_map", "name"),
        ],
        "serviceaccounts": _texts([launcher.get("service_account_name")]),
    }  # fmt: skip
    used = in_use(pods)
    for kind, names in named.items():
        if names:
            yield _of_kind(api, kind, sorted({*names}), used[kind])


def _of_kind(api: Api, kind: str, names: Sequence[str], used: Collection[str]) -> Finding:
    words = {"secrets": "secrets", "configmaps": "config maps", "serviceaccounts": "service accounts"}[kind]
    try:
        missing = [name for name in names if not api.exists(kind, name)]
    except RefusedError as error:
        if error.status != 403:
            raise
        unknown = [name for name in names if name not in used]
        if not unknown:
            return Finding(words, "ok", f"{', '.join(names)}: exist, because running pods use them.")
        return Finding(
            words, "warning", f"whether {', '.join(unknown)} exist is unknown: this account may not read them.",
            f"That may be intended. To check: kubectl -n {api.namespace} get {kind}",
        )  # fmt: skip
    if missing:
        return Finding(
            words, "wrong", f"dagster.yaml's launcher names {', '.join(missing)}, missing in {api.namespace}.",
            f"Create them in {api.namespace}, or name existing ones.",
        )  # fmt: skip
    return Finding(words, "ok", f"{', '.join(names)}: exist.")


def _texts(values: Iterable[Any] | None) -> list[str]:
    return [str(value) for value in values or () if value]


def _of_volumes(launcher: Mapping[str, Any], kind: str, *names: str) -> list[str]:
    found = [volume[kind] for volume in launcher.get("volumes") or () if isinstance(volume.get(kind), Mapping)]
    return _texts(one.get(name) for one in found if not one.get("optional") for name in names)


def _listed(api: Api, path: str) -> list[Mapping[str, Any]] | None:
    """Return the objects of a kind; None if this account may not list them, as is usual for nodes."""
    try:
        return list(api.get(path)["items"])
    except RefusedError as error:
        if error.status != 403:
            raise
        return None


def _image(
    api: Api, launcher: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]] | None, pods: Sequence[Pod]
) -> Iterator[Finding]:
    image = os.environ.get("DAGSTER_CURRENT_IMAGE") or launcher.get("job_image") or image_of_code(pods)
    if not image:
        yield Finding(
            "image", "warning", "the code location's image is unknown: no setting names it, and it has no pod.",
            "In the code location's pod, DAGSTER_CURRENT_IMAGE names it; elsewhere set the launcher's job_image.",
        )  # fmt: skip
        return
    why = why_not_pulled(pods, image)
    known = [one for node in nodes or () for it in node["status"].get("images", ()) for one in it.get("names") or ()]
    if why:
        yield Finding(
            "image", "wrong", f"{image} cannot be pulled: {why}.",
            "Check its name and tag, that the registry can be reached from the nodes, and image_pull_secrets.",
        )  # fmt: skip
    elif has_run(pods, image) or plain(image) in {plain(one) for one in known}:
        yield Finding("image", "ok", f"{image} is on a node.")
    elif nodes is not None and launcher.get("image_pull_policy") == "Never":
        yield Finding(
            "image", "wrong", f"{image} is on no visible node, and image_pull_policy is Never.",
            "Import it on the nodes, or allow pulling it (IfNotPresent).",
        )  # fmt: skip
    else:
        yield Finding(
            "image", "warning", f"{image} is on no visible node yet; whether it can be pulled is unknown.",
            f"To try: kubectl -n {api.namespace} run try --rm -it --restart=Never --image={image} --command -- true",
        )  # fmt: skip


def _gpus(needs: Sequence[GpuNeed], nodes: Sequence[Mapping[str, Any]] | None) -> Iterator[Finding]:
    if not needs:
        return
    if nodes is None:
        yield Finding(
            "gpu", "warning", f"{len(needs)} stages request a GPU, but this account may not list nodes.",
            "To check: kubectl get nodes -o custom-columns=NAME:.metadata.name,GPU:.status.allocatable",
        )  # fmt: skip
        return
    for need in needs:
        fit = [node["metadata"]["name"] for node in nodes if _fits(node, need)]
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
