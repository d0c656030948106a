"""The lake as a Dagster resource, and the record of each step that opens it.

Not here: what the lake stores (see `ml_assets.lake.store`).
"""

import functools
import json
from collections.abc import Mapping
from typing import Any, Final

import dagster as dg

from ml_assets.lake.origin import git_state
from ml_assets.lake.run_tags import range_of
from ml_assets.lake.steps import StepRecord, store_step
from ml_assets.lake.store import Lake, Step
from ml_assets.lake.usage import pod_resources
from ml_assets.names import CAUSE, MODEL
from ml_assets.settings import lake_url

_TAGS: Final = (CAUSE, MODEL, "dagster/backfill", "dagster/schedule_name", "dagster/sensor_name")


class LakeResource(dg.ConfigurableResource):
    """The lake's location: a URL, or else `ML_ASSETS_LAKE`, or else the folder `.lake` of the project.

    Unset options come from the usual AWS chain (environment, profile, web identity, role). Dagster's UI shows a
    resource's configuration, so set secrets as `dg.EnvVar`, of which it shows only the name. Nothing is looked up or
    connected to before the first read or write.
    """

    url: str = ""
    endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies defaults

    def open(self) -> Lake:
        """Return the lake.

        There is one object per location and process, so that all reads of a step are recorded together.
        """
        lake = self.connect()
        step = _running_step()
        if step is not None:
            record_step(lake, step)
        return lake

    def connect(self) -> Lake:
        """Return the lake without recording a step."""
        named = ("endpoint_url", "region", "access_key_id", "secret_access_key", "session_token")
        given = {name: value for name in named if (value := getattr(self, name))}
        return _open(lake_url(self.url), json.dumps({**self.options, **given}, sort_keys=True))


@functools.cache
def _open(url: str, options: str) -> Lake:
    return Lake(url, json.loads(options))


def step_of(context: dg.StepExecutionContext) -> Step:
    """Return the identity of one attempt at a step."""
    return Step(context.run_id, context.step.key, context.previous_attempt_count)


def _running_step() -> dg.StepExecutionContext | None:
    """Return the step whose body is running; None outside of a step."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
    return context.get_step_execution_context()


def run_and_ancestors(context: dg.StepExecutionContext) -> tuple[str, ...]:
    """Return the run and the runs that it continues after a failure, newest first."""
    found = [context.run_id]
    parent = context.dagster_run.parent_run_id
    while parent is not None and parent not in found:
        found.append(parent)
        record = context.instance.get_run_by_id(parent)
        parent = None if record is None else record.parent_run_id
    return tuple(found)


def begin_step(lake: Lake, context: dg.StepExecutionContext) -> None:
    """Start recording what a step reads and uses, unless it was started already."""
    step = step_of(context)
    if lake.step != step:
        lake.meter.restart(pod_resources(context.step.tags))
        lake.begin(step, runs=run_and_ancestors(context))


def record_step(lake: Lake, context: dg.StepExecutionContext) -> None:
    """Store the record of a step, once per attempt.

    Called when the last of its inputs has been loaded, and when its body first opens the lake.

    Raises:
        LakeError: the lake cannot be written.
    """
    begin_step(lake, context)
    step = step_of(context)
    if lake.recorded == step:
        return
    git, since = git_state(), lake.now()
    run, layer = context.dagster_run, context.job_def.asset_layer
    assets = sorted(
        key for key in layer.get_selected_entity_keys_for_node(context.node_handle) if isinstance(key, dg.AssetKey)
    )
    store_step(
        lake,
        StepRecord(
            run_id=step.run_id,
            continues=lake.runs[1:],
            step=step.name,
            retry_number=step.retry_number,
            assets=tuple(key.to_user_string() for key in assets),
            partitions=range_of(run.tags) if any(layer.get(key).is_partitioned for key in assets) else None,
            config=dict(context.op_config) if isinstance(context.op_config, Mapping) else {},
            inputs=lake.reads,
            code_versions={key.to_user_string(): layer.get(key).code_version for key in assets},
            git_commit=git.commit,
            git_is_dirty=git.is_dirty,
            environment=lake.environment(),
            started_at=since,
            tags={name: run.tags[name] for name in _TAGS if name in run.tags},
        ),
    )
    lake.recorded, lake.since = step, since
