"""Checks declared fields of a pod by the client of Kubernetes, which knows the names and types."""

import importlib.util
from collections.abc import Mapping
from typing import Any


def pod_problem(spec: Mapping[str, Any], container: Mapping[str, Any]) -> str | None:
    """Return what is wrong with declared fields of a pod and its container.

    None if nothing is, or if the extra `k8s` is not installed: the image that runs pods has it.
    """
    if not (spec or container) or importlib.util.find_spec("dagster_k8s") is None:
        return None
    import kubernetes

    from ml_assets.adapters.dagster_k8s import k8s_model_from_dict, k8s_snake_case_dict

    kinds = {
        "spec": (kubernetes.client.V1PodSpec, {**spec, "containers": [{"name": "step"}]}),
        "container": (kubernetes.client.V1Container, {**container, "name": "step"}),
    }
    for where, (kind, fields) in kinds.items():
        unknown = fields.keys() - kind.attribute_map.values()
        if unknown:
            listed = ", ".join(f"'{name}'" for name in sorted(unknown))
            return f"'{where}' has {listed}, which is no field of Kubernetes' {kind.__name__[2:]}"
        try:
            k8s_model_from_dict(kind, k8s_snake_case_dict(kind, fields))
        except Exception as error:  # noqa: BLE001 - dagster-k8s raises no narrower one
            return f"'{where}' is not a part of a pod: {error}"
    return None
