"""Checks that the web server, the daemon and the code location run one image: another one is another project."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ml_assets.doctor.checks import Finding

ROLES: Final = ("webserver", "daemon", "code")
"""The values of the label `ml-assets/role` of pods that are always there."""
_ROLE: Final = "ml-assets/role"
_DIGEST: Final = "@sha256:"


def images(pods: Sequence[Mapping[str, Any]] | None) -> Iterator[Finding]:
    """Yield whether the pods of the release have one image, and whether a digest names it.

    Pods are told by their label `ml-assets/role`, as in `deploy/values.yaml`. Pods of runs and steps are left out: they
    finish in the image that they began with. There is no finding outside a release.

    Args:
        pods: the pods of the namespace, as the Kubernetes API returns them; None if they may not be listed.
    """
    found = {} if pods is None else _images(pods)
    if not found:
        return
    named = {image for its in found.values() for image, _ in its}
    contents = {content for its in found.values() for _, content in its if content}
    listed = "; ".join(f"{role}: {', '.join(sorted(_words(*it) for it in its))}" for role, its in found.items())
    if len(named) > 1:
        yield Finding(
            "images", "wrong", f"the pods of the release have different images. {listed}.",
            "Set the same image in the three places of the chart's values, and upgrade the release.",
        )  # fmt: skip
    elif len(contents) > 1:
        yield Finding(
            "images", "wrong", f"pods have one tag and different contents, because the tag was moved. {listed}.",
            "Name the image by digest: tag: VERSION@sha256:DIGEST; and upgrade the release.",
        )  # fmt: skip
    elif not all(_DIGEST in image for image in named):
        yield Finding(
            "images", "ok",
            f"all pods of the release have {', '.join(named)}. It is named by tag: if the tag is moved, nodes that "
            "have the former image go on with it.",
        )  # fmt: skip
    else:
        yield Finding("images", "ok", f"all pods of the release have {', '.join(named)}.")


def _images(pods: Sequence[Mapping[str, Any]]) -> dict[str, set[tuple[str, str]]]:
    """Return the image of each role as it is named, and the digest of what runs; '' while it is not known."""
    found: dict[str, set[tuple[str, str]]] = {}
    for pod in pods:
        role = (pod["metadata"].get("labels") or {}).get(_ROLE)
        is_over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or pod["metadata"].get(
            "deletionTimestamp"
        )
        if role not in ROLES or is_over:
            continue
        container = pod["spec"]["containers"][0]
        statuses = pod.get("status", {}).get("containerStatuses") or ()
        running = [str(it.get("imageID", "")) for it in statuses if it["name"] == container.get("name")]
        content = next((it.rpartition(_DIGEST)[2] for it in running if _DIGEST in it), "")
        found.setdefault(role, set()).add((container["image"], content))
    return {role: found[role] for role in ROLES if role in found}


def _words(image: str, content: str) -> str:
    return f"{image} ({content[:12]})" if content else image
