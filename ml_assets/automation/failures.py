"""Builds the alerts for a failed run: one for each failed step, or one for the run if no step failed.

Not here: which runs are alerted (see `ml_assets.automation.alerts`).
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

import dagster as dg

from ml_assets.adapters.dagster import RETRY_NUMBER_TAG, WILL_RETRY_TAG, AssetGraph, SerializableErrorInfo
from ml_assets.alerts.alert import Alert, Kind
from ml_assets.contracts.quarantine import TOO_MANY_BROKEN
from ml_assets.names import CAUSE, MODEL, PREFIX
from ml_assets.orchestration.groups import is_managed
from ml_assets.orchestration.messages import own_error

_MOST_EVENTS: Final = 1000
_TAGS: Final = (MODEL, CAUSE, "dagster/partition", "dagster/schedule_name", "dagster/sensor_name")


@dataclass(frozen=True)
class OwnRuns:
    """Distinguishes the engine's runs from those of a host project in the same Dagster instance.

    Attributes:
        graph: the assets of the sensor's code location, which may hold a host's too.
        assets: the engine's assets in it.
    """

    graph: AssetGraph
    assets: frozenset[dg.AssetKey]

    @classmethod
    def of(cls, repository: dg.RepositoryDefinition | None) -> Self:
        """Return what a sensor knows of its code location.

        Raises:
            DagsterInvariantViolationError: the sensor is evaluated without one.
        """
        if repository is None:
            raise dg.DagsterInvariantViolationError(
                "the sensor 'ml_assets_alerts' needs the repository whose assets it alerts for."
            )
        graph = repository.asset_graph
        return cls(graph, frozenset(key for key in graph.toposorted_asset_keys if is_managed(graph, key)))

    def includes(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
        """Return whether a run is of a job of the engine, or materializes one of its assets."""
        return run.job_name.startswith(PREFIX) or not self.assets.isdisjoint(_assets_of(instance, run))

    def other_steps(self, instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str]:
        """Return the steps of a run that materialize a host's assets."""
        others = [it for it in _assets_of(instance, run) - self.assets if self.graph.has(it)]
        return frozenset(node.assets_def.node_def.name for key in others if (node := self.graph.get(key)).is_executable)


def _assets_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> AbstractSet[dg.AssetKey]:
    """Return what a run was to materialize; a run of a whole job has no selection, but events of what is planned."""
    if run.asset_selection:
        return run.asset_selection
    planned = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    return {it.asset_key for it in planned.records if it.asset_key is not None}


def alerts_of_run(instance: dg.DagsterInstance, record: dg.RunRecord, own: OwnRuns) -> list[Alert]:
    """Return an alert for each step of a run that failed, or one for the run where none did.

    A failed step of a host's asset in the same run is the host's to alert about.
    """
    run = record.dagster_run
    found = instance.get_records_for_run(
        run.run_id,
        of_type={
            dg.DagsterEventType.STEP_FAILURE,
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            dg.DagsterEventType.RUN_FAILURE,
        },
        limit=_MOST_EVENTS,
        ascending=False,
    )
    events = [it.event_log_entry for it in reversed(found.records)]
    failures = [it for it in events if it.dagster_event_type is dg.DagsterEventType.STEP_FAILURE]
    checks = [
        (it.step_key, it.get_dagster_event().asset_check_evaluation_data)
        for it in events
        if it.dagster_event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    ended = [it for it in events if it.dagster_event_type is dg.DagsterEventType.RUN_FAILURE]
    others = own.other_steps(instance, run)
    why: list[dg.EventLogEntry | None] = [*(failures or ended[-1:])]
    return [
        _of_failure(
            record,
            event,
            [] if event is None else [it for step, it in checks if step == event.step_key and _blocks(it)],
        )
        for event in why or [None]
        if event is None or event.step_key not in others
    ]


def _of_failure(
    record: dg.RunRecord, event: dg.EventLogEntry | None, checks: Sequence[dg.AssetCheckEvaluation]
) -> Alert:
    run = record.dagster_run
    step = None if event is None else event.step_key
    subject = step.replace("__", "/") if step else run.tags.get(MODEL, run.job_name)
    message = _error_message(event)
    kind: Kind = "check_failed" if checks else "run_failed"
    title = f"{subject} failed: {_first_sentence(message)}"
    if over := TOO_MANY_BROKEN.search(message):
        kind, title = "quarantine_over_limit", f"{subject}: {over[0]}"
    elif checks:
        names = [check.check_name for check in checks]
        title = f"{subject}: {len(names)} blocking check{'s' * (len(names) > 1)} failed ({', '.join(names[:3])})"
    will_retry = run.tags.get(WILL_RETRY_TAG, "").lower() == "true"
    checks_failed = [
        f"{it.asset_key.to_user_string()}: {it.check_name}. {it.description or ''}".strip() for it in checks
    ]
    retry = "Dagster will retry this run automatically." if will_retry else ""
    facts = {"run": run.run_id, "job": run.job_name, "step": step or "none"}
    facts |= {name.rpartition("/")[2]: run.tags[name] for name in _TAGS if name in run.tags}
    facts |= {"retries so far": run.tags[RETRY_NUMBER_TAG]} if RETRY_NUMBER_TAG in run.tags else {}
    return Alert(
        kind=kind,
        subject=subject,
        title=f"{title}{' (will be retried)' if will_retry else ''}",
        body="\n".join(part for part in (retry, *checks_failed[:20], message) if part),
        key=f"run/{run.run_id}/{step or ''}",
        occurred_at=_ended(record),
        facts=facts,
        severity="warning" if will_retry else "error",
        link=f"/runs/{run.run_id}",
    )


def _blocks(check: dg.AssetCheckEvaluation) -> bool:
    is_blocking = check.blocking is None or check.blocking
    return not check.passed and is_blocking and check.severity is dg.AssetCheckSeverity.ERROR


def _ended(record: dg.RunRecord) -> datetime:
    """Return when a run ended. The time of its last update can be later."""
    if record.end_time is None:
        return record.create_timestamp
    return datetime.fromtimestamp(record.end_time, tz=UTC)


def _error_message(event: dg.EventLogEntry | None) -> str:
    """Return the message of the error that the code raised, without Dagster's wrapping."""
    if event is None or event.dagster_event is None:
        return "The run failed, and its event log contains no error."
    ended = event.dagster_event
    if ended.event_type is dg.DagsterEventType.STEP_FAILURE:
        error: SerializableErrorInfo | None = ended.step_failure_data.error
    else:  # a run that failed before its first step has no such data
        error = None if ended.event_specific_data is None else ended.job_failure_data.error
    if error is None:
        return ended.message or "The run failed, and its event log contains no error."
    # `ContractError: why` for `ml_assets.contracts.errors.ContractError: why`
    return re.sub(r"^(?:\w+\.)+(\w+)(?=:|$)", r"\1", own_error(error).message.strip())


def _first_sentence(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return re.split(r"(?<=[.!?])\s", line, maxsplit=1)[0].rstrip(".:")
