"""The asset graph and the automation of a code location as plain values, for the golden files."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from ml_assets.adapters.dagster import AssetGraph, AssetNode

Facts = dict[str, Any]


def assets_in(graph: AssetGraph) -> dict[str, Facts]:
    """Return every asset by its name: what it reads, its checks, and how it is stored, grouped and run."""
    return {key.to_user_string(): _asset(graph, graph.get(key)) for key in graph.toposorted_asset_keys}


def code_versions_in(graph: AssetGraph) -> dict[str, str]:
    """Return the code version of every asset that is materialized."""
    keys = sorted(graph.materializable_asset_keys)
    return {key.to_user_string(): str(graph.get(key).code_version) for key in keys}


def automation_in(defs: dg.Definitions) -> dict[str, Facts]:
    """Return the jobs, sensors, schedules, resources and the executor of a code location."""
    repository = defs.get_repository_def()
    declared = {job.name: job for job in defs.jobs or ()}
    return {
        "executor": {"name": defs.executor.name if defs.executor else None},
        "jobs": {name: _job(repository.get_job(name)) for name in sorted(declared)},
        "resources": {"keys": sorted(defs.resources or {})},
        "schedules": {it.name: _schedule(it) for it in repository.schedule_defs},
        "sensors": {it.name: _sensor(it) for it in repository.sensor_defs},
    }


def _asset(graph: AssetGraph, node: AssetNode) -> Facts:
    made = node.assets_def
    return _told(
        {
            "backfill": None if node.backfill_policy is None else repr(node.backfill_policy),
            "checks": {key.name: _check(graph, key) for key in sorted(graph.get_check_keys_for_assets({node.key}))},
            "freshness": _plain(node.freshness_policy),
            "group": node.group_name,
            "io_manager": made.get_io_manager_key_for_asset_key(node.key) if node.is_materializable else None,
            "kinds": sorted(node.kinds),
            "metadata": {
                name: _value(value)
                for name, value in sorted(node.metadata.items())
                if name.startswith("ml_assets/") and name != "ml_assets/yaml"
            },
            "other metadata": sorted(name for name in node.metadata if not name.startswith("ml_assets/")),
            "owners": sorted(node.owners),
            "parents": {key.to_user_string(): _mapping(graph, node.key, key) for key in sorted(node.parent_keys)},
            "partitions": None if node.partitions_def is None else str(node.partitions_def),
            "pools": sorted(node.pools or ()),
            "resources": sorted(made.required_resource_keys),
            "step": made.node_def.name if made.is_executable else None,
            "step tags": dict(sorted(made.op.tags.items())) if made.is_executable else None,
        }
    )


def _check(graph: AssetGraph, key: dg.AssetCheckKey) -> str:
    spec = graph.get_check_spec(key)
    reads = sorted(it.asset_key.to_user_string() for it in spec.additional_deps)
    return " ".join(["blocks" if spec.blocking else "does not block", *(["and reads", *reads] if reads else [])])


def _mapping(graph: AssetGraph, key: dg.AssetKey, parent: dg.AssetKey) -> str:
    if not (graph.get(key).is_partitioned and graph.get(parent).is_partitioned):
        return ""
    return str(graph.get_partition_mapping(key, parent))


def _job(job: dg.JobDefinition) -> Facts:
    return _told(
        {
            "ops": sorted(node.name for node in job.nodes),
            "resources": sorted(job.required_resource_keys),
            "tags": dict(sorted(job.tags.items())),
        }
    )


def _sensor(sensor: dg.SensorDefinition) -> Facts:
    return _told(
        {
            "default": sensor.default_status.name,
            "every seconds": sensor.minimum_interval_seconds,
            "resources": sorted(sensor.required_resource_keys),
            "targets": _targets(sensor.targets),
        }
    )


def _schedule(schedule: dg.ScheduleDefinition) -> Facts:
    return _told(
        {
            "cron": schedule.cron_schedule,
            "default": schedule.default_status.name,
            "resources": sorted(schedule.required_resource_keys),
            "target": schedule.job_name,
            "timezone": schedule.execution_timezone,
        }
    )


def _targets(targets: Iterable[Any]) -> list[str]:
    return sorted(str(getattr(it, "job_name", it)) for it in targets)


def _plain(value: object) -> Any:
    return None if value is None else str(value)


def _value(value: Any) -> Any:
    return getattr(value, "value", value)


def _told(facts: Mapping[str, Any]) -> Facts:
    """Return the facts that say something."""
    return {name: value for name, value in facts.items() if value not in (None, [], {}, "")}
