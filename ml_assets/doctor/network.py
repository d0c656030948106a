"""Checks network policies: only the ingress may reach the web UI, if the network plug-in enforces policies.

Not here: the policies themselves (see `deploy/network-policies.yaml`).
"""

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ml_assets.doctor.checks import Finding

SECONDS: Final = 2.0
"""How long a pod may take to accept a connection. A policy either rejects or drops forbidden ones."""
LISTENS: Final = {"webserver": 8080, "code": 4000}
"""The default ports of pods by role, as in `deploy/network-policies.yaml`. Pods of code declare no port."""
_ROLE: Final = "ml-assets/role"


def network_policies(pods: Sequence[Mapping[str, Any]] | None) -> Iterator[Finding]:
    """Yield whether the webserver's pod accepts a connection from this pod, which only the ingress may open.

    No response alone proves nothing: a broken network does not respond either. So the code location's pod, which the
    daemon may reach, must respond. There is no finding if no other pod is a ready webserver.

    Args:
        pods: the pods of the namespace, as the Kubernetes API returns them; None if they may not be listed.
    """
    own = socket.gethostname()
    if pods is None or own not in {pod["metadata"]["name"] for pod in pods}:
        yield Finding(
            "network policies", "not checked", f"this process ({own}) is in none of the pods that it may list.",
            "Run the doctor in the daemon's pod.",
        )  # fmt: skip
        return
    place = _place([pod for pod in pods if pod["metadata"]["name"] != own], "webserver")
    if place is None:
        return
    where = f"the web server's pod at {place[0]}:{place[1]}"
    allowed = _place(pods, "code")
    if _answers(place):
        yield Finding(
            "network policies", "warning",
            f"{where} answers {own}, which no policy allows: any pod in the cluster can reach the UI, which has no"
            " login.",
            "Apply deploy/network-policies.yaml, in a cluster whose network plug-in enforces policies.",
        )  # fmt: skip
    elif allowed is not None and _answers(allowed):
        yield Finding("network policies", "ok", f"they are enforced: {where} does not answer {own}.")
    else:
        yield Finding(
            "network policies", "not checked",
            f"{where} does not answer {own}, nor does the code location's, so the network may be broken.",
            "Run the doctor in the daemon's pod, which may reach the code location, once that is ready.",
        )  # fmt: skip


def _place(pods: Sequence[Mapping[str, Any]], role: str) -> tuple[str, int] | None:
    """Return where the first ready pod of a role listens."""
    for pod in pods:
        conditions = pod.get("status", {}).get("conditions") or ()
        is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        if is_ready and (pod["metadata"].get("labels") or {}).get(_ROLE) == role:
            ports = [port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
            return pod["status"]["podIP"], ports[0] if ports else LISTENS[role]
    return None


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=SECONDS).close()
    except OSError:
        return False
    return True
