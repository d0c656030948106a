"""What a pod asks for and may use: each resource as its stage declares it, else as the run's pod has it."""

from collections.abc import Mapping

from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import get_user_defined_k8s_config


def with_declared_resources(
    context: K8sContainerContext, tags: Mapping[str, str], *, memory: str | None = None
) -> K8sContainerContext:
    """Return a pod with the resources of its stage.

    dagster-k8s merges requests and limits one by one, so that a request would come to lie above a limit.

    Args:
        context: the pod as dagster-k8s merged it, what the stage declares included.
        tags: of the step; see `ml_assets.models.pod_tags`.
        memory: what it gets in place of what is declared, after it ran out of that.
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
