"""Network policies: they keep everybody but the ingress from the UI, and do nothing where no plug-in enforces them.

Writing them stays out; see `deploy/network-policies.yaml`.
"""

import socket
from collections.abc import Iterator, Sequence
from typing import Final

from resources.doctor.checks import Finding
from resources.doctor.pods import Pod, is_ready, with_role

SECONDS: Final = 2.0
"""How long a web server may take to answer; a policy either refuses or swallows what it does not allow."""


def network_policies(pods: Sequence[Pod]) -> Iterator[Finding]:
    """Yield whether a web server's pod answers this one, which only the ingress' pods may ask.

    Nothing is said where this process runs in none of the pods, or there is no other one of a web server that is ready.

    Args:
        pods: the pods of the namespace, as the Kubernetes API gives them.
    """
    own = socket.gethostname()
    if own not in {pod["metadata"]["name"] for pod in pods}:
        return
    others = [pod for pod in with_role(pods, "webserver") if is_ready(pod) and pod["metadata"]["name"] != own]
    open_ones = [place for pod in others for place in _places(pod) if _answers(*place)]
    if open_ones:
        host, port = open_ones[0]
        yield Finding(
            "network policies", "warning",
            f"the web server's pod at {host}:{port} answers {own}, which no policy allows: whatever runs in the cluster"
            " reaches the UI, which has no login.",
            "Apply deploy/network-policies.yaml, in a cluster whose network plug-in enforces policies.",
        )  # fmt: skip
    elif others:
        yield Finding("network policies", "ok", f"they are enforced: the web server's pod does not answer {own}.")


def _places(pod: Pod) -> Iterator[tuple[str, int]]:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            yield pod["status"]["podIP"], port["containerPort"]


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True
