"""Reads facts from the pods of a namespace, for accounts that may list pods but not secrets or nodes.

Not here: the checks (see `ml_assets.doctor.cluster`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Pod = Mapping[str, Any]
_ROLE: Final = "ml-assets/role"
_REFERENCES: Final = (
    ("secrets", "secret", "secretName"), ("configmaps", "configMap", "name"),
    ("secrets", "secretRef", "name"), ("configmaps", "configMapRef", "name"),
    ("secrets", "secretKeyRef", "name"), ("configmaps", "configMapKeyRef", "name"),
)  # fmt: skip
_NOT_PULLED: Final = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull")


def with_role(pods: Sequence[Pod], role: str) -> list[Pod]:
    """Return the pods with a role of `deploy/values.yaml`: webserver, daemon, code or run."""
    return [pod for pod in pods if (pod["metadata"].get("labels") or {}).get(_ROLE) == role]


def is_ready(pod: Pod) -> bool:
    """Return whether a pod's probes report it as ready."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def in_use(pods: Sequence[Pod]) -> dict[str, set[str]]:
    """Return the secrets, config maps and service accounts of running pods, by kind. So these objects exist."""
    used: dict[str, set[str]] = {"secrets": set(), "configmaps": set(), "serviceaccounts": set()}
    for pod in pods:
        if pod.get("status", {}).get("phase") == "Running":
            for kind, name in _named_by(pod.get("spec", {})):
                used[kind].add(name)
    return used


def _named_by(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the objects that a pod cannot start without."""
    if spec.get("serviceAccountName"):
        yield "serviceaccounts", spec["serviceAccountName"]
    holders = [*(spec.get("volumes") or ())]
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        holders += container.get("envFrom") or ()
        holders += [variable["valueFrom"] for variable in container.get("env") or () if variable.get("valueFrom")]
    for holder in holders:
        for kind, field, key in _REFERENCES:
            if holder.get(field) and not holder[field].get("optional"):
                yield kind, holder[field][key]


def image_of_code(pods: Sequence[Pod]) -> str | None:
    """Return the image of the code location, which its runs use too."""
    return next((one["image"] for pod in with_role(pods, "code") for one in pod["spec"]["containers"]), None)


def why_not_pulled(pods: Sequence[Pod], image: str) -> str | None:
    """Return why an image cannot be pulled, if a pod waits for it."""
    for status in _containers(pods, image):
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _NOT_PULLED:
            return f"{waiting['reason']} {waiting.get('message', '')}".strip()
    return None


def has_run(pods: Sequence[Pod], image: str) -> bool:
    """Return whether a container of an image runs or has run."""
    return any(set(status.get("state", {})) & {"running", "terminated"} for status in _containers(pods, image))


def plain(image: str) -> str:
    """Return an image's name without the prefix of Docker Hub."""
    return re.sub(r"^(docker\.io/)?(library/)?", "", image)


def _containers(pods: Sequence[Pod], image: str) -> Iterator[Mapping[str, Any]]:
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses") or ():
            if plain(status.get("image", "")) == plain(image):
                yield status
