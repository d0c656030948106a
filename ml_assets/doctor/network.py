"""Network policies: they keep everybody but the ingress from the UI, and do nothing where no plug-in enforces them.

Writing them stays out; see `deploy/network-policies.yaml`.
"""

import socket
from collections.abc import Iterator, Sequence
from typing import Final

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.pods import Pod, is_ready, with_role

SECONDS: Final = 2.0
"""How long a pod may take to answer; a policy either refuses or swallows what it does not allow."""
LISTENS: Final = {"webserver": 8080, "code": 4000}
"""Where pods listen that do not say so, by role; those of code do not. As `deploy/network-policies.yaml` has it."""


def network_policies(pods: Sequence[Pod]) -> Iterator[Finding]:
    """Yield whether a web server's pod answers this one, which only the ingress' pods may ask.

    Silence alone shows nothing, for a broken network is silent too: the code location's pod, which the daemon may ask,
    must answer. Nothing is said where this process runs in none of the pods, or no other one is a web server's and
    ready.

    Args:
        pods: the pods of the namespace, as the Kubernetes API gives them.
    """
    own = socket.gethostname()
    if own not in {pod["metadata"]["name"] for pod in pods}:
        return
    place = _place([pod for pod in pods if pod["metadata"]["name"] != own], "webserver")
    if place is None:
        return
    where = f"the web server's pod at {place[0]}:{place[1]}"
    allowed = _place(pods, "code")
    if _answers(place):
        yield Finding(
            "network policies", "warning",
            f"{where} answers {own}, which no policy allows: whatever runs in the cluster reaches the UI, which has no"
            " login.",
            "Apply deploy/network-policies.yaml, in a cluster whose network plug-in enforces policies.",
        )  # fmt: skip
    elif allowed is not None and _answers(allowed):
        yield Finding("network policies", "ok", f"they are enforced: {where} does not answer {own}.")
    else:
        yield Finding(
            "network policies", "warning",
            f"whether they are enforced cannot be told: {where} does not answer {own}, nor does the code location's.",
            "Ask from the daemon's pod, which may reach the code location, and when that is ready.",
        )  # fmt: skip


def _place(pods: Sequence[Pod], role: str) -> tuple[str, int] | None:
    """Return where the first pod of a role that is ready listens."""
    for pod in with_role(pods, role):
        if is_ready(pod):
            said = [port["containerPort"] for one in pod["spec"]["containers"] for port in one.get("ports") or ()]
            return pod["status"]["podIP"], said[0] if said else LISTENS[role]
    return None


def _answers(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=SECONDS).close()
    except OSError:
        return False
    return True
