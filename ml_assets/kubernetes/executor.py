"""The executor of the code location: steps share the run's process, and in a cluster some get their own pod.

A declaration's `compute` defines the resources of a pod. Kubernetes is imported only where it is the launcher.
"""

import sys
from collections.abc import Mapping
from typing import Any

import dagster as dg

from ml_assets.adapters.dagster import IN_PROC_CONFIG, InProcessExecutor, RetryMode, StepDependencyConfig


def _create(init_context: dg.InitExecutorContext) -> dg.Executor:
    config: Mapping[str, Any] = init_context.executor_config
    retries = RetryMode(next(iter(config["retries"])))
    dependency = StepDependencyConfig.from_config(config.get("step_dependency_config"))
    launcher: Any = init_context.instance.run_launcher
    if not is_kubernetes(launcher):
        return InProcessExecutor(retries=retries, step_dependency_config=dependency)
    from ml_assets.kubernetes.fused import FusedExecutor
    from ml_assets.kubernetes.handler import PodStepHandler

    return FusedExecutor(PodStepHandler(launcher), retries=retries, step_dependency_config=dependency)


def is_kubernetes(launcher: object) -> bool:
    """Return whether a launcher is dagster-k8s's.

    If it is, the module is already imported. Importing it here would take 0.7 s.
    """
    module = sys.modules.get("dagster_k8s")
    return module is not None and isinstance(launcher, module.K8sRunLauncher)


run_or_pod = dg.ExecutorDefinition(
    "run_or_pod",
    config_schema=IN_PROC_CONFIG,
    executor_creation_fn=_create,
    description="Steps share the run's process. In a cluster, steps that declare compute get their own pod.",
)
