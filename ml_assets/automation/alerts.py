"""Tells people what failed, what is stale and what the gate decided: one sensor for all models.

What a channel is and how an alert is kept from going out twice stays out; see `ml_assets.alerts.resource`. The cursor
only saves work: without it the last day is looked at again, and what was sent is known by its key.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.events import DagsterEventType
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from ml_assets.alerts.outbox import Delivery
from ml_assets.alerts.resource import Alert, Alerts, Kind, Severity
from ml_assets.automation.failures import OwnRuns, alerts_of_run
from ml_assets.contracts.artifacts import Promotion, Retraining
from ml_assets.declaration.reading import Declared
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import record_name
from ml_assets.lake.store import Lake
from ml_assets.models.loop import ASKED_BEFORE, retraining_log
from ml_assets.names import prefixed

LOOK_BACK: Final = timedelta(days=1)
OVERLAP: Final = timedelta(minutes=5)
"""How far the clocks of pods, databases and stores may differ without an event between two ticks."""
MOST_RUNS: Final = 100
_IDS_OUT_OF_ORDER: Final = 1000
"""Postgres hands out ids before it commits: a smaller one may turn up later."""
_ENTRY = re.compile(r"([a-z0-9_]+)/(\d{6})\.json")
_ASKED = re.compile(r"([a-z0-9_]+)/(\d{4}-\d{2}-\d{2}\.\d{2}\.json)")

_DECIDED: Final[dict[str, tuple[Kind, Severity, str]]] = {
    "promote": ("challenger_promoted", "info", "{challenger} serves now"),
    "refuse": ("challenger_refused", "warning", "challenger {challenger} was refused"),
    "wait": ("challenger_waits", "warning", "challenger {challenger} waits for a person to let it in"),
    "rollback": ("rolled_back", "error", "rolled back to {champion}"),
}


class Cursor(BaseModel):
    """How far the last tick came.

    Attributes:
        at: everything before was looked at.
        runs_at: as `at`, for failed runs, of which only so many are looked at in one tick.
        runs: those after `runs_at`, or shortly before, that were looked at.
        entries: by model, the number of the last entry of its promotion log that was looked at.
        asked: by model, the name of the newest record of its retraining log that was looked at.
        freshness: the id of the last change of freshness that was looked at, in Dagster's event log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: AwareDatetime
    runs_at: AwareDatetime
    runs: tuple[str, ...] = ()
    entries: dict[str, int] | None = None
    asked: dict[str, str] = {}
    freshness: int | None = None


@dataclass
class _Seen:
    """What one tick looked at, and what of it a person should hear."""

    cursor: Cursor
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
    last_asked: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def next(self) -> Cursor:
        """Return how far this tick came."""
        return Cursor(
            at=self.now, runs_at=self.runs_at or self.now, runs=self.runs, entries=self.last_entries,
            asked=self.last_asked, freshness=self.freshness,
        )  # fmt: skip

    def sentence(self, delivery: Delivery) -> str:
        """Return what this tick did, with its figures."""
        more = f" ({self.more_runs} more at the next tick)" if self.more_runs else ""
        told = (
            f"{_counted(delivery.sent, 'alert')} sent, {delivery.new} new, {delivery.waiting} held or to be tried "
            f"again; {_counted(self.new_runs, 'failed run')}{more}, {_counted(self.changes, 'change')} of freshness, "
            f"{_counted(self.entries, 'promotion entry', 'promotion entries')} and "
            f"{_counted(self.retrainings, 'retraining')} looked at since {self.cursor.at:%Y-%m-%d %H:%M} UTC."
        )
        failed = [f"Channel {channel} failed: {reason}." for channel, reason in delivery.failures.items()]
        return " ".join([told, *failed, *self.problems])


def alerts_sensor(
    declared: Declared, *, clock: Callable[[], datetime] | None = None, interval_seconds: int = 30
) -> dg.SensorDefinition:
    """Return the sensor that alerts for all declared models.

    Args:
        declared: whose promotion logs are looked at.
        clock: tells the time, in UTC; the machine's if absent.
        interval_seconds: how often it is evaluated.
    """
    models = tuple(model.name for model in declared.models)

    @dg.sensor(
        name=prefixed("alerts"),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells of failed runs and checks, missed freshness, quarantines over their share, and what the "
        "gate decided, through the channels that are set up; each once.",
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


def _cursor(context: dg.SensorEvaluationContext, now: datetime) -> Cursor:
    lost = Cursor(at=now - LOOK_BACK, runs_at=now - LOOK_BACK)
    if not context.cursor:
        return lost
    try:
        return Cursor.model_validate_json(context.cursor)
    except ValidationError:
        context.log.warning("the cursor of the alerts is not one of this version; the last day is looked at again")
        return lost


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
    """Look at what changed: one query for all assets, however many there are."""
    since, last = seen.cursor.at - OVERLAP, seen.cursor.freshness
    found = instance.event_log_storage.get_event_records(
        dg.EventRecordsFilter(
            DagsterEventType.FRESHNESS_STATE_CHANGE,
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
    """Return the alert of an asset that became too old at a moment."""
    name = key.to_user_string()
    return Alert(
        kind="freshness_missed",
        subject=name,
        title=f"{name} is older than its freshness policy allows",
        body=f"{name} became stale at {at:%Y-%m-%d %H:%M} UTC. What it waits for is in the last tick of the "
        "sensor 'ml_assets_updates', on the Automation page, and in the output of: ml-assets explain MODEL",
        key=f"freshness/{name}/{at.isoformat()}",
        at=at,
        link=f"/assets/{'/'.join(key.path)}",
    )


# ---------------------------------------------------------------- promotions and retrainings


def _look_at_promotions(seen: _Seen, context: dg.SensorEvaluationContext, lake: Lake, models: Iterable[str]) -> None:
    """Look at what was decided since the last tick: one listing says whose logs have grown, and only those are read."""
    known, numbers = _known_entries(seen, lake)
    seen.last_entries = dict(known)
    for model in sorted(set(numbers) & set(models)):
        before = known.get(model, 0)
        if numbers[model] <= before:
            continue
        try:
            entries = PromotionLog(lake, model, Promotion).entries()
        except CorruptArtifactError as error:
            context.log.exception(f"the promotion log of {model} cannot be read")
            seen.problems.append(f"The promotion log of {model} cannot be read: {error}")
            seen.last_entries[model] = before
            continue
        # In a lake that was copied every object is new, but not what was decided in it.
        oldest = seen.cursor.at - LOOK_BACK if model not in known else datetime.min.replace(tzinfo=UTC)
        new = [entry for entry in entries if entry.number > before and entry.decided_at > oldest]
        seen.last_entries[model] = len(entries)
        seen.entries += len(new)
        seen.alerts += [alert_of_entry(entry) for entry in new]


def _look_at_retrainings(seen: _Seen, context: dg.SensorEvaluationContext, lake: Lake, models: Iterable[str]) -> None:
    """Look at what was asked for since the last tick: one listing says of which models there is anything new."""
    known = seen.cursor.asked
    newest: dict[str, str] = {}
    for found in filter(None, map(_ASKED.fullmatch, lake.tree(lake.path("retrainings")))):
        newest[found[1]] = max(found[2], newest.get(found[1], ""))
    seen.last_asked = dict(known)
    for model in sorted(set(newest) & set(models)):
        before = known.get(model, "")
        if newest[model] <= before:
            continue
        try:
            records = retraining_log(lake, model).newest(ASKED_BEFORE)
        except CorruptArtifactError as error:
            context.log.exception(f"the retraining log of {model} cannot be read")
            seen.problems.append(f"The retraining log of {model} cannot be read: {error}")
            seen.last_asked[model] = before
            continue
        # As with promotions: a lake that was copied tells nothing old.
        oldest = seen.cursor.at - LOOK_BACK if model not in known else datetime.min.replace(tzinfo=UTC)
        new = [it for it in records if record_name(it) > before and it.asked_at > oldest]
        seen.last_asked[model] = newest[model]
        seen.retrainings += len(new)
        seen.alerts += [alert_of_retraining(it) for it in new]


def alert_of_retraining(record: Retraining) -> Alert:
    """Return the alert of a retraining that was asked for."""
    return Alert(
        kind="retraining_asked",
        subject=record.model,
        title=f"{record.model} is trained again as of {record.as_of}: {record.cause}",
        body=record.sentence,
        key=f"retraining/{record.model}/{record.as_of}/{record.number}",
        at=record.asked_at,
        facts=record.figures,
        severity="info",
    )


def _known_entries(seen: _Seen, lake: Lake) -> tuple[dict[str, int], dict[str, int]]:
    """Return the last number of each log that was looked at, and that which it has now.

    Without a cursor, what was written before the last day counts as looked at.
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
    """Return the alert of an entry of a promotion log."""
    kind, severity, told = _DECIDED[entry.action]
    champion = (entry.champion or "nobody")[:12]
    return Alert(
        kind=kind,
        subject=entry.model,
        title=f"{entry.model}: {told.format(challenger=entry.challenger[:12], champion=champion)}",
        body="\n".join([*entry.reasons, f"Decided by {entry.decided_by}. {champion} serves."]),
        key=f"promotion/{entry.model}/{entry.number}/{entry.decided_at.isoformat()}",
        at=entry.decided_at,
        facts={"entry": entry.number, **entry.figures},
        severity=severity,
        link=f"/assets/{entry.model}/champion",
    )


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
