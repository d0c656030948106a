"""The tags of a step that request its pod, from the declared compute of its stage.

Not here: dagster-k8s, which reads the pod's spec, and `ml_assets.kubernetes`, which handles pods that die.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

from ml_assets.declaration.compute import Compute
from ml_assets.kubernetes.policy import POD, POLICY, PodPolicy

GPU_TYPE = "nvidia.com/gpu.product"
"""The label by which NVIDIA's operator distinguishes the GPUs of nodes."""


def pod_tags(compute: Compute | None) -> Mapping[str, str]:
    """Return the tags that give a step its own pod; none for a step that runs in the run's pod."""
    return {} if compute is None else _tags(compute.model_dump_json())


@functools.cache
def _tags(text: str) -> Mapping[str, str]:
    """Return the tags of one declared compute, cached because many models declare the same."""
    compute = Compute.model_validate_json(text)
    policy = PodPolicy(
        memory=compute.memory,
        memory_ceiling=compute.memory_ceiling,
        retries=compute.retries,
        start_timeout_minutes=compute.start_timeout_minutes,
        queue_timeout_minutes=compute.queue_timeout_minutes,
    )
    return {POD: json.dumps(_config(compute)), POLICY: policy.text()}


def _config(compute: Compute) -> dict[str, Any]:
    limits = {
        "memory": compute.memory,
        "ephemeral-storage": compute.ephemeral_storage,
        compute.gpu_resource: str(compute.gpu) if compute.gpu else None,
    }
    resources = {
        **compute.pod.container.get("resources", {}),
        "requests": {**compute.pod.amounts("requests"), **_given({"cpu": compute.cpu, **limits})},
        "limits": {**compute.pod.amounts("limits"), **_given(limits)},
    }
    metadata = _given(compute.pod.metadata.model_dump())
    selector = _given({**compute.node_selector, GPU_TYPE: compute.gpu_type})
    tolerations = [_given(it.model_dump()) for it in compute.tolerations]
    named = {"node_selector": selector, "tolerations": tolerations, "priority_class_name": compute.priority_class}
    return {
        "container_config": _given({**compute.pod.container, "resources": _given(resources), "image": compute.image}),
        "pod_spec_config": {**compute.pod.spec, **_given(named)},
        "job_spec_config": _given(
            {"active_deadline_seconds": compute.deadline_minutes and 60 * compute.deadline_minutes}
        ),
        **_given({"pod_template_spec_metadata": metadata, "job_metadata": metadata}),
    }


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the declared values only."""
    return {name: value for name, value in values.items() if value not in (None, {}, [])}
