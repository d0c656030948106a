"""A minimal code location, some of whose steps request a pod; pods start it as processes.

Each step notes the process that it ran in; files in its folder decide what else it does.
"""

import os
import time
from pathlib import Path

import dagster as dg

from ml_assets.declaration.compute import Compute
from ml_assets.kubernetes.executor import run_or_pod
from ml_assets.models.pod_tags import pod_tags

TUNING = Compute.model_validate(
    {
        "cpu": "1500m", "memory": "1Gi", "memory_ceiling": "3Gi", "gpu": 1, "gpu_type": "NVIDIA-H100-80GB-HBM3",
        "ephemeral_storage": "2Gi", "image": "shop:gpu", "node_selector": {"pool": "heavy"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priority_class": "training", "deadline_minutes": 90, "start_timeout_minutes": 5, "retries": 1,
        "pod": {
            "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "night"}, "annotations": {"team": "a shop's"}},
            "spec": {
                "serviceAccountName": "trainer", "runtimeClassName": "nvidia", "schedulerName": "volcano",
                "imagePullSecrets": [{"name": "registry"}], "resourceClaims": [{"name": "h100"}],
                "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
                ],
                "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}],
            },
            "container": {
                "resources": {"limits": {"cpu": "4"}, "claims": [{"name": "h100"}]},
                "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
            },
        },
    }
)  # fmt: skip


def note(name: str) -> None:
    """Record that a step runs, and do what its file requests."""
    folder = Path(os.environ["SHOP"])
    with (folder / "done").open("a", encoding="utf-8") as done:
        done.write(f"{name} {os.getpid()}\n")
    file = folder / name
    if not file.exists():
        return
    if file.read_text() == "fail":
        raise ValueError(f"{name} has a fault")
    if file.read_text() == "crash":
        os._exit(3)
    while file.exists():
        time.sleep(0.01)


@dg.asset
def features() -> None:
    note("features")


@dg.asset(deps=[features], op_tags=pod_tags(TUNING))
def tuning() -> None:
    note("tuning")


@dg.asset(deps=[tuning])
def model() -> None:
    note("model")


DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-03")


@dg.asset(
    op_tags=pod_tags(TUNING), partitions_def=DAYS, automation_condition=dg.AutomationCondition.missing(),
    backfill_policy=dg.BackfillPolicy.single_run(),
)  # fmt: skip
def scores() -> None:
    note("scores")


@dg.sensor(target=[scores])
def asks() -> dg.RunRequest:
    return dg.RunRequest(run_key="once", partition_key="2026-01-01")


automation = dg.AutomationConditionSensorDefinition("automation", target=[scores], use_user_code_server=True)
whole = dg.define_asset_job("whole", [scores])


@dg.schedule(job=whole, cron_schedule="0 0 * * *")
def midnight() -> dg.RunRequest:
    return dg.RunRequest(partition_key="2026-01-01")


defs = dg.Definitions(
    assets=[features, tuning, model, scores],
    jobs=[whole],
    sensors=[asks, automation],
    schedules=[midnight],
    executor=run_or_pod,
)
