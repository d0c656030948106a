"""The sensor that alerts people about failed runs, late data and decisions of the gate, for all models.

Not here: channels, and how each alert is sent only once (see `ml_assets.alerts.outbox`). The cursor only saves work.
Without it, the sensor looks at the last day again and skips alerts that were sent, which it recognizes by their keys.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import AwareDatetime, Field

from ml_assets.adapters.dagster import FreshnessState, FreshnessStateChange
from ml_assets.alerts.alert import Alert, Kind, Severity
from ml_assets.alerts.outbox import Delivery
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.failures import OwnRuns, alerts_of_run
from ml_assets.automation.ticks import read_cursor
from ml_assets.contracts.decisions import Promotion, Retraining
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.words import counted
from ml_assets.declaration.reading import Declared
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import RetrainingLog, record_name
from ml_assets.lake.store import Lake
from ml_assets.models.monitoring import RECORDS_READ
from ml_assets.names import prefixed

LOOK_BACK: Final = timedelta(days=1)
OVERLAP: Final = timedelta(minutes=5)
"""How much the clocks of pods, databases and stores may differ without an event being missed between two ticks."""
MOST_RUNS: Final = 100
_IDS_OUT_OF_ORDER: Final = 1000
"""Postgres assigns ids before it commits, so a smaller id may appear later."""
_ENTRY = re.compile(r"([a-z0-9_]+)/(\d{6})\.json")
_RETRAINING_RECORD = re.compile(r"([a-z0-9_]+)/(\d{4}-\d{2}-\d{2}\.\d{2}\.json)")

_DECIDED: Final[dict[str, tuple[Kind, Severity, str]]] = {
    "promote": ("challenger_promoted", "info", "{challenger} is the champion now"),
    "reject": ("challenger_rejected", "warning", "challenger {challenger} was rejected"),
    "request_approval": ("challenger_pending", "warning", "challenger {challenger} waits for approval"),
    "rollback": ("rolled_back", "error", "rolled back to {champion}"),
    "online": ("challenger_online", "info", "challenger {challenger} is online"),
    "withdraw": ("challenger_withdrawn", "warning", "challenger {challenger} was withdrawn"),
}


class AlertsCursor(Record):
    """How far the last tick has read.

    Attributes:
        at: everything before this moment has been read.
        runs_at: the same for failed runs. One tick reads a limited number of them.
        runs: the runs after `runs_at`, or shortly before it, that have been read.
        entries: by model, the number of the last entry of its promotion log that has been read.
        retrainings: by model, the name of the newest record of its retraining log that has been read.
        freshness: the id of the last change of freshness that has been read, in Dagster's event log.
    """

    at: AwareDatetime
    runs_at: AwareDatetime
    runs: tuple[str, ...] = ()
    entries: dict[str, int] | None = None
    retrainings: dict[str, str] = Field(default={})
    freshness: int | None = None


@dataclass
class _Seen:
    """What one tick has read, and the alerts that follow from it."""

    cursor: AlertsCursor
    now: datetime
    alerts: list[Alert] = field(default_factory=list)
    new_runs: int = 0
    runs: tuple[str, ...] = ()
    runs_at: datetime | None = None
    more_runs: int = 0
    changes: int = 0
    freshness: int | None = None
    entries: int = 0
    last_entries: dict[str, int] = field(default_factory=dict)
    retrainings: int = 0
    newest_records: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def next(self) -> AlertsCursor:
        """Return the cursor after this tick."""
        return AlertsCursor(
            at=self.now, runs_at=self.runs_at or self.now, runs=self.runs, entries=self.last_entries,
            retrainings=self.newest_records, freshness=self.freshness,
        )  # fmt: skip

    def sentence(self, delivery: Delivery) -> str:
        """Return a summary of this tick, with figures."""
        more = f" ({self.more_runs} more at the next tick)" if self.more_runs else ""
        summary = (
            f"{counted(delivery.sent, 'alert')} sent, {delivery.new} new, {delivery.waiting} held or to be sent "
            f"again; {counted(self.new_runs, 'failed run')}{more}, {counted(self.changes, 'change')} of freshness, "
            f"{counted(self.entries, 'promotion entry', 'promotion entries')} and "
            f"{counted(self.retrainings, 'retraining')} read since {self.cursor.at:%Y-%m-%d %H:%M} UTC."
        )
        failed = [f"Channel {channel} failed: {reason}." for channel, reason in delivery.failures.items()]
        return " ".join([summary, *failed, *self.problems])


def alerts_sensor(
    declared: Declared, *, clock: Callable[[], datetime] | None = None, interval_seconds: int = 30
) -> dg.SensorDefinition:
    """Return the sensor that sends the alerts of all declared models.

    Args:
        declared: the models whose promotion logs are read.
        clock: returns the time in UTC; the machine's clock if absent.
        interval_seconds: the seconds between two ticks.
    """
    models = tuple(model.name for model in declared.models)

    @dg.sensor(
        name=prefixed("alerts"),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends one alert for each failed run or check, missed freshness, quarantine over its limit and "
        "decision of the gate, through the configured channels.",
    )
    def alerts(
        context: dg.SensorEvaluationContext, ml_assets_alerts: Alerts, ml_assets_lake: LakeResource
    ) -> dg.SkipReason:
        now = clock() if clock is not None else datetime.now(tz=UTC)
        seen = _Seen(_cursor(context, now), now)
        own = OwnRuns.of(context.repository_def)
        _look_at_runs(seen, context.instance, own)
        _look_at_freshness(seen, context.instance, own)
        opened = ml_assets_lake.connect()
        _look_at_promotions(seen, context, opened, models)
        _look_at_retrainings(seen, context, opened, models)
        delivery = ml_assets_alerts.send(*seen.alerts, log=context.log)
        context.update_cursor(seen.next().model_dump_json())
        return dg.SkipReason(seen.sentence(delivery))

    return alerts


def _cursor(context: dg.SensorEvaluationContext, now: datetime) -> AlertsCursor:
    problem = "the cursor of the sensor 'alerts' cannot be read; the events of the last day are read again"
    since = now - LOOK_BACK
    return read_cursor(AlertsCursor, context.cursor, context.log.warning, problem) or AlertsCursor(
        at=since, runs_at=since
    )


# ---------------------------------------------------------------- runs


def _look_at_runs(seen: _Seen, instance: dg.DagsterInstance, own: OwnRuns) -> None:
    since = seen.cursor.runs_at - OVERLAP
    failed = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=since),
        order_by="update_timestamp",
        ascending=True,
    )
    known = set(seen.cursor.runs)
    new = [it for it in failed if it.dagster_run.run_id not in known and own.includes(instance, it.dagster_run)]
    for record in new[:MOST_RUNS]:
        seen.alerts += alerts_of_run(instance, record, own)
    seen.new_runs = len(new[:MOST_RUNS])
    if len(new) > MOST_RUNS:
        seen.more_runs, seen.runs_at = len(new) - MOST_RUNS, new[MOST_RUNS - 1].update_timestamp
    still = (seen.runs_at or seen.now) - OVERLAP
    left = {record.dagster_run.run_id for record in new[MOST_RUNS:]}
    seen.runs = tuple(
        run for record in failed if (run := record.dagster_run.run_id) not in left and record.update_timestamp > still
    )


# ---------------------------------------------------------------- freshness


def _look_at_freshness(seen: _Seen, instance: dg.DagsterInstance, own: OwnRuns) -> None:
    """Read the changes of freshness of all assets, with one query."""
    since, last = seen.cursor.at - OVERLAP, seen.cursor.freshness
    found = instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(
            dg.DagsterEventType.FRESHNESS_STATE_CHANGE,
            after_cursor=None if last is None else max(0, last - _IDS_OUT_OF_ORDER),
            after_timestamp=since.timestamp(),
        ),
        ascending=True,
    )
    seen.freshness = max((record.storage_id for record in found), default=last)
    for record in found:
        change = record.event_log_entry.get_dagster_event().event_specific_data
        if not isinstance(change, FreshnessStateChange) or change.key not in own.assets:
            continue
        seen.changes += 1
        if change.new_state is not FreshnessState.FAIL:
            continue
        at = datetime.fromtimestamp(change.state_change_timestamp, tz=UTC)
        if at > since:
            seen.alerts.append(freshness_missed(change.key, at))


def freshness_missed(key: dg.AssetKey, at: datetime) -> Alert:
    """Return the alert for an asset that became older than its freshness policy allows."""
    name = key.to_user_string()
    return Alert(
        kind="freshness_missed",
        subject=name,
        title=f"{name} is older than its freshness policy allows",
        body=f"{name} became stale at {at:%Y-%m-%d %H:%M} UTC. What it waits for is in the last tick of the "
        "sensor 'ml_assets_updates', on the Automation page, and in the output of: ml-assets explain MODEL",
        key=f"freshness/{name}/{at.isoformat()}",
        occurred_at=at,
        link=f"/assets/{'/'.join(key.path)}",
    )


# ---------------------------------------------------------------- promotions and retrainings


def _look_at_promotions(seen: _Seen, context: dg.SensorEvaluationContext, lake: Lake, models: Iterable[str]) -> None:
    """Read the decisions since the last tick. One listing shows which logs have grown, and only those are read."""
    known, numbers = _known_entries(seen, lake)
    seen.last_entries = dict(known)
    for model in sorted(set(numbers) & set(models)):
        before = known.get(model, 0)
        if numbers[model] <= before:
            continue
        try:
            entries = PromotionLog(lake, model).entries()
        except CorruptArtifactError as error:
            context.log.exception(f"the promotion log of {model} cannot be read")
            seen.problems.append(f"The promotion log of {model} cannot be read: {error}")
            seen.last_entries[model] = before
            continue
        # In a copied lake every object is new, but its decisions are not.
        oldest = seen.cursor.at - LOOK_BACK if model not in known else datetime.min.replace(tzinfo=UTC)
        new = [entry for entry in entries if entry.number > before and entry.decided_at > oldest]
        seen.last_entries[model] = len(entries)
        seen.entries += len(new)
        seen.alerts += [alert_of_entry(entry) for entry in new]


def _look_at_retrainings(seen: _Seen, context: dg.SensorEvaluationContext, lake: Lake, models: Iterable[str]) -> None:
    """Read the retrainings requested since the last tick. One listing shows which models have new records."""
    known = seen.cursor.retrainings
    newest: dict[str, str] = {}
    for found in filter(None, map(_RETRAINING_RECORD.fullmatch, lake.tree(lake.path("retrainings")))):
        newest[found[1]] = max(found[2], newest.get(found[1], ""))
    seen.newest_records = dict(known)
    for model in sorted(set(newest) & set(models)):
        before = known.get(model, "")
        if newest[model] <= before:
            continue
        try:
            records = RetrainingLog(lake, model).newest(RECORDS_READ)
        except CorruptArtifactError as error:
            context.log.exception(f"the retraining log of {model} cannot be read")
            seen.problems.append(f"The retraining log of {model} cannot be read: {error}")
            seen.newest_records[model] = before
            continue
        # As with promotions: old records of a copied lake cause no alerts.
        oldest = seen.cursor.at - LOOK_BACK if model not in known else datetime.min.replace(tzinfo=UTC)
        new = [it for it in records if record_name(it) > before and it.requested_at > oldest]
        seen.newest_records[model] = newest[model]
        seen.retrainings += len(new)
        seen.alerts += [alert_of_retraining(it) for it in new]


def alert_of_retraining(record: Retraining) -> Alert:
    """Return the alert for a requested retraining."""
    return Alert(
        kind="retraining_requested",
        subject=record.model,
        title=f"{record.model} is trained again as of {record.as_of}: {record.cause}",
        body=record.sentence,
        key=f"retraining/{record.model}/{record.as_of}/{record.number}",
        occurred_at=record.requested_at,
        facts=record.figures,
        severity="info",
    )


def _known_entries(seen: _Seen, lake: Lake) -> tuple[dict[str, int], dict[str, int]]:
    """Return the last number that was read of each log, and its newest number now.

    Without a cursor, entries older than a day count as read.
    """
    root = lake.path("promotions")
    if seen.cursor.entries is not None:
        return seen.cursor.entries, _last_numbers(lake.tree(root))
    objects = lake.tree_with_sizes(root)
    old = [name for name, stat in objects.items() if stat.modified_at <= seen.cursor.at - OVERLAP]
    return _last_numbers(old), _last_numbers(objects)


def _last_numbers(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in filter(None, map(_ENTRY.fullmatch, names)):
        found[entry[1]] = max(found.get(entry[1], 0), int(entry[2]))
    return found


def alert_of_entry(entry: Promotion) -> Alert:
    """Return the alert for an entry of a promotion log."""
    kind, severity, outcome = _DECIDED[entry.action]
    champion = (entry.champion or "none")[:12]
    return Alert(
        kind=kind,
        subject=entry.model,
        title=f"{entry.model}: {outcome.format(challenger=entry.challenger[:12], champion=champion)}",
        body="\n".join([*entry.reasons, f"Decided by {entry.decided_by}. The champion is {champion}."]),
        key=f"promotion/{entry.model}/{entry.number}/{entry.decided_at.isoformat()}",
        occurred_at=entry.decided_at,
        facts={"entry": entry.number, **entry.figures},
        severity=severity,
        link=f"/assets/{entry.model}/champion",
    )
