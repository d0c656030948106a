"""The pods of steps and workers: their command, and the resource requests and limits of a stage.

Undeclared resources come from the run's pod.
"""

from collections.abc import Mapping
from typing import Final

from ml_assets.adapters.dagster_k8s import (
    K8sContainerContext,
    UserDefinedDagsterK8sConfig,
    get_user_defined_k8s_config,
)

STEP_POD: Final = UserDefinedDagsterK8sConfig(
    container_config={"command": ["python", "-m", "ml_assets.kubernetes.step"]},  # SIGTERM ends it at once
    pod_spec_config={"automount_service_account_token": False},  # a step does not call the Kubernetes API
)

_AMOUNTS: Final = ("requests", "limits")


def with_declared_resources(
    context: K8sContainerContext, tags: Mapping[str, str], *, memory: str | None = None
) -> K8sContainerContext:
    """Return a pod with the resources that its stage declares.

    dagster-k8s merges requests and limits separately, so a request could exceed a limit. After a step ran out of
    memory, `memory` replaces what is declared.
    """
    own = get_user_defined_k8s_config(tags).container_config.get("resources", {})
    declared = {name for which in _AMOUNTS for name in own.get(which, {})}
    container = dict(context.run_k8s_config.container_config)
    resources = container.get("resources") or {}
    amounts = {
        which: {
            **{name: amount for name, amount in given.items() if name not in declared},
            **own.get(which, {}),
            **({"memory": memory} if memory else {}),
        }
        for which, given in resources.items()
        if which in _AMOUNTS
    }
    container["resources"] = {**resources, **amounts}
    return context._replace(run_k8s_config=context.run_k8s_config._replace(container_config=container))
