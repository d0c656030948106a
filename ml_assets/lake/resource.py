"""The lake as a Dagster resource, the ledger of the running step, and the record of each step that uses the lake.

Not here: what the lake stores (see `ml_assets.lake.store`), and what a ledger holds (see `ml_assets.lake.ledger`).
"""

import functools
import json
import threading
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import dagster as dg

from ml_assets.contracts.periods import BY_DAY
from ml_assets.lake.ledger import Step, StepLedger
from ml_assets.lake.origin import git_state
from ml_assets.lake.partitions import calendar_of
from ml_assets.lake.run_tags import range_of
from ml_assets.lake.steps import StepRecord, store_step
from ml_assets.lake.store import Lake
from ml_assets.lake.usage import Meter, pod_resources
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

    def connect(self) -> Lake:
        """Return the lake. There is one object, and so one connection, per location and process."""
        named = ("endpoint_url", "region", "access_key_id", "secret_access_key", "session_token")
        given = {name: value for name in named if (value := getattr(self, name))}
        return _open(lake_url(self.url), json.dumps({**self.options, **given}, sort_keys=True))

    def ledger(self) -> StepLedger:
        """Return the ledger of the running step over this lake; a new one outside of a step.

        The first call of a step without inputs stores the record of the step.
        """
        step = _running_step()
        if step is None:
            return StepLedger(self.connect())
        ledger = ledger_of(self.connect(), step)
        record_step(ledger, step)
        return ledger


@functools.cache
def _open(url: str, options: str) -> Lake:
    return Lake(url, json.loads(options))


_LEDGERS: WeakKeyDictionary[dg.StepExecutionContext, StepLedger] = WeakKeyDictionary()
"""The ledger of each attempt that runs in this process. It disappears with Dagster's context of the attempt."""

_TURN: Final = threading.Lock()


def ledger_of(lake: Lake, context: dg.StepExecutionContext, *, meter: Meter | None = None) -> StepLedger:
    """Return the ledger of an attempt at a step.

    Args:
        lake: the lake that it uses.
        context: Dagster's context of the attempt, which its inputs, body, outputs and hooks share.
        meter: what measures it if its ledger is new, because it has used the lake for the first time.
    """
    with _TURN:
        found = _LEDGERS.get(context)
    if found is None:
        step = Step(context.run_id, context.step.key, context.previous_attempt_count)
        runs = (*run_and_ancestors(context), *lake.continues)
        found = StepLedger(lake, step, runs=runs, meter=meter or Meter(pod_resources(context.step.tags)))
        with _TURN:
            _LEDGERS[context] = found
    return found


def last_ledger(run_id: str, step: str) -> StepLedger | None:
    """Return the ledger of the last attempt at a step in this process; None if it has not used the lake."""
    with _TURN:
        found = [it for it in _LEDGERS.values() if it.step is not None and (run_id, step) == it.step[:2]]
    return max(found, key=lambda it: it.step or (), default=None)


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


def record_step(ledger: StepLedger, context: dg.StepExecutionContext) -> None:
    """Store the record of a step, once per attempt.

    Called when the last of its inputs has been loaded, and when its body first requests its ledger.

    Raises:
        LakeError: the lake cannot be written.
    """
    if ledger.recorded_at is not None or ledger.step is None:
        return
    git, since = git_state(), ledger.lake.now()
    run, layer = context.dagster_run, context.job_def.asset_layer
    assets = sorted(
        key for key in layer.get_selected_entity_keys_for_node(context.node_handle) if isinstance(key, dg.AssetKey)
    )
    store_step(
        ledger.lake,
        StepRecord(
            run_id=ledger.step.run_id,
            continues=ledger.runs[1:],
            step=ledger.step.name,
            retry_number=ledger.step.retry_number,
            assets=tuple(key.to_user_string() for key in assets),
            partitions=range_of(run.tags) if any(layer.get(key).is_partitioned for key in assets) else None,
            config=dict(context.op_config) if isinstance(context.op_config, Mapping) else {},
            inputs=ledger.refs,
            code_versions={key.to_user_string(): layer.get(key).code_version for key in assets},
            git_commit=git.commit,
            git_is_dirty=git.is_dirty,
            environment=ledger.lake.environment(),
            started_at=since,
            tags={name: run.tags[name] for name in _TAGS if name in run.tags},
            grain=next((calendar_of(layer.get(key).partitions_def).grain for key in assets), BY_DAY),
        ),
    )
    ledger.recorded_at = since
