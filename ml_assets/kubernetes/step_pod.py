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


def with_declared_resources(
    context: K8sContainerContext, tags: Mapping[str, str], *, memory: str | None = None
) -> K8sContainerContext:
    """Return a pod with the resources that its stage declares.

    dagster-k8s merges requests and limits separately, so a request could exceed a limit. After a step ran out of
    memory, `memory` replaces what is declared.
    """
    own = get_user_defined_k8s_config(tags).container_config.get("resources", {})
    declared = {name for amounts in own.values() for name in amounts}
    container = dict(context.run_k8s_config.container_config)
    container["resources"] = {
        which: {
            **{name: amount for name, amount in amounts.items() if name not in declared},
            **own.get(which, {}),
            **({"memory": memory} if memory else {}),
        }
        for which, amounts in (container.get("resources") or {}).items()
    }
    return context._replace(run_k8s_config=context.run_k8s_config._replace(container_config=container))
