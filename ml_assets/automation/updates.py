"""The sensor that requests runs for all tables and models that are out of date, upstream first and each once.

Not here: landing of raw tables (see `ml_assets.automation.arrivals`), and training (see
`ml_assets.automation.retraining`). New days are predicted by the current champion. After a failed run, the same update
is requested again only when its inputs or code have changed.

The lake shows what is out of date, and the runs show what was requested. The cursor only saves work. An update that
waits for a missing day is checked when the lake has that day, with or without an event. Every tick also checks some
assets in turn. Without a cursor, everything is checked.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from ml_assets.adapters.dagster import AssetGraph, FreshnessState
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.actions import alert_of_blocked, blocked_actions, report_new
from ml_assets.automation.data_age import look_at_ages
from ml_assets.automation.history import (
    ReadPosition,
    failed_runs,
    in_progress,
    materialized_since,
    newest_number,
    runs_by_key,
    targets_of,
)
from ml_assets.automation.ticks import read_cursor, report_tick
from ml_assets.automation.waits import FAILED_RUN, WaitReason, Waits, as_ranges, days_in
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.periods import Calendar, Grain
from ml_assets.declaration.reading import Declared
from ml_assets.lake.days import in_rows, span_of
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.run_tags import range_tags
from ml_assets.lake.store import Lake
from ml_assets.names import CAUSE, MANAGED, MODEL, prefixed
from ml_assets.orchestration.groups import (
    CARD,
    COMBINED,
    MONITORING,
    SERVED,
    SHADOW,
    stage_of,
    update_groups,
    wanted_of,
    with_quarantines,
)
from ml_assets.orchestration.left_runs import end_left_runs
from ml_assets.orchestration.planner import Facts, Planner, Update, Waiting, parameters_digest
from ml_assets.orchestration.scope import Partitions, Scope, day_names, horizon, newest_days, sources_of
from ml_assets.orchestration.staleness import LakeView, Wanted, declared_keys
from ml_assets.stages.checks.action import Action, action_result
from ml_assets.stages.checks.data_age import CHECK, age_limits, as_of

NAME: Final = "updates"
GROUP_TAG: Final = "ml_assets/group"
CODE_TAG: Final = "ml_assets/code"
MOST_REQUESTS: Final = 20
MOST_LOOKS: Final = 3_000
"""The most partitions that one tick checks, at a millisecond each."""
IN_TURN: Final = 100
"""The number of partitions that one tick checks in turn."""
_LINES_SHOWN: Final = 8


class UpdatesCursor(Record):
    """What was checked, and what the next tick checks.

    Attributes:
        last: the number of the newest materialization that was read.
        recent: the numbers shortly before it.
        code: the digest of all code. If it changes, everything is checked.
        open: by asset, the days to check, as ranges.
        failing: assets whose freshness fails and which were checked for that reason.
        waits: by group, what it waits for.
        since: by model, the day after the as-of day of its first champion.
        day: the newest possible day or period at the last tick.
        days: how many of the newest days were kept up to date at the last tick.
        newest: by source, its newest day at the last tick.
        turn: the asset at which the next check in turn begins.
        ages: by asset with a declared data age, its state as in `Ages.known`.
        grain: of the days in this cursor; None in one of an earlier release.
    """

    last: int
    recent: tuple[int, ...] = ()
    code: str = ""
    open: dict[str, str] = Field(default={})
    failing: tuple[str, ...] = ()
    waits: dict[str, tuple[WaitReason, ...]] = Field(default={})
    since: dict[str, str] = Field(default={})
    day: str = ""
    days: int = 0
    newest: dict[str, str] = Field(default={})
    turn: str = ""
    ages: dict[str, str] = Field(default={})
    grain: Grain | None = None


def updates_sensor(declared: Declared, *, interval_seconds: int = 30) -> dg.SensorDefinition:
    """Return the sensor for all declared tables and models."""

    @dg.sensor(
        name=prefixed(NAME),
        asset_selection=dg.AssetSelection.tag(*MANAGED),
        minimum_interval_seconds=interval_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Materializes what is out of date, upstream first: tables, features and labels, predictions with "
        "their drift and performance, cards.",
    )
    def updates(
        context: dg.SensorEvaluationContext, ml_assets_lake: LakeResource, ml_assets_alerts: Alerts
    ) -> dg.SensorResult:
        over = declared.calendar.newest_over(datetime.now(tz=UTC))
        return tick(context, declared, ml_assets_lake.connect(), ml_assets_alerts, over=over)

    return updates


def tick(
    context: dg.SensorEvaluationContext, declared: Declared, lake: Lake, alerts: Alerts, *, over: str
) -> dg.SensorResult:
    """Evaluate the sensor once, and send alerts about old data (see `ml_assets.automation.alerts` for freshness)."""
    repository = context.repository_def
    if repository is None:
        raise dg.DagsterInvariantViolationError(
            "the sensor 'ml_assets_updates' needs the repository whose assets it requests."
        )
    end_left_runs(context.instance)  # for which the queue and this tick would wait
    look = _Tick(context, repository.asset_graph, declared, lake, over)
    look.open_what_changed()
    requests = look.requests()
    now = datetime.now(tz=UTC)
    blocked = look.blocked()
    report_new(context.instance, [action_result(name, "features", actions) for name, actions in blocked.items()])
    sent = [*look.ages.alerts]
    for name in look.newly(blocked):
        sent += alert_of_blocked(name, blocked[name], now=now)
    if sent:
        alerts.send(*sent, log=context.log)
    lines = look.sentences()
    report_tick(context.log, requests, lines)
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "\n".join(lines) or "nothing has changed.",
        cursor=look.cursor().model_dump_json(),
    )


@dataclass
class _Tick:
    """One tick: what has changed, what is out of date because of it, and what to request."""

    context: dg.SensorEvaluationContext
    graph: AssetGraph
    declared: Declared
    lake: Lake
    over: str
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.groups = update_groups(self.graph, [model.name for model in self.declared.models])
        self.code = parameters_digest(self.graph, self.groups)
        self.opened: Partitions = {}
        self.before = self._cursor()
        self.waits = Waits(self.before.waits, self.declared.calendar)
        self.since = dict(self.before.since)
        self.turn = self.before.turn
        self.left: Partitions = {}
        self.count = self.declared.automation.updates.days
        self.newest = newest_days(self.graph, self.lake)

    @functools.cached_property
    def scope(self) -> Scope:
        """The assets and days that this sensor may request."""
        within = horizon(self.graph, self.groups, self.newest, over=self.over, count=self.count)
        return Scope(self.graph, self.groups, within)

    @property
    def within(self) -> Mapping[dg.AssetKey, set[str]]:
        """The days that this sensor may request."""
        return self.scope.within

    # ------------------------------------------------------------ what changed

    def open_what_changed(self) -> None:
        """Open the readers of what was materialized since the last tick, and of assets that are newly not fresh."""
        changed, self.seen, has_more = materialized_since(
            self.context.instance, ReadPosition(self.before.last, self.before.recent)
        )
        if has_more:
            self.lines.append("one tick cannot read all new materializations; the next tick continues.")
        for key, days in self.before.open.items():
            asset = dg.AssetKey.from_user_string(key)
            if asset in self.groups:
                self._open({asset: days_in(days, self.declared.calendar) & self.within[asset]})
        if self.before.code != self.code:
            self.lines.append("the code has changed since the last tick, so everything is checked.")
            self._open(self.within)
        known = {
            key: current
            for key, days in changed.items()
            if self.graph.has(key) and (current := {it for it in days if not it or self.declared.calendar.has_form(it)})
        }
        self._open(self.scope.readers(known) if known else {})
        self._report_late_changes(known)
        self._open_what_is_new_within()
        self._open_what_waited_for_what_is_there()
        self._open_in_turn()
        self._open_what_is_not_fresh()
        self._open_what_is_old(known)

    def _open(self, partitions: Mapping[dg.AssetKey, Iterable[str]]) -> None:
        for key, days in partitions.items():
            self.opened.setdefault(key, set()).update(days)

    def _open_what_is_new_within(self) -> None:
        """Open the days that have entered the look-back since the last tick."""
        newest = {key.to_user_string(): day for key, day in self.newest.items()}
        before = self.before
        if not before.day or (newest, self.over, self.count) == (before.newest, before.day, before.days):
            return
        there = {dg.AssetKey.from_user_string(key): day for key, day in before.newest.items()}
        known = horizon(
            self.graph, self.groups, {key: day for key, day in there.items() if self.graph.has(key)},
            over=before.day, count=before.days,
        )  # fmt: skip
        self._open({key: days - known[key] for key, days in self.within.items()})

    def _open_what_waited_for_what_is_there(self) -> None:
        for group, days in self.waits.now_available(self.lake).items():
            self._open({key: days & self.within[key] for key, its in self.groups.items() if str(its) == group})

    def _open_in_turn(self) -> None:
        """Open the partitions of some assets in turn that are out of date. An artifact may change without an event."""
        keys = [key for key in self.graph.toposorted_asset_keys if key in self.groups]
        start = next((n for n, key in enumerate(keys) if key.to_user_string() == self.turn), 0)
        chosen: Partitions = {}
        for key in [*keys[start:], *keys[:start]]:
            self.turn = key.to_user_string()
            if sum(map(len, chosen.values())) >= IN_TURN:
                break
            chosen[key] = self.within[key]
        found = LakeView(self.graph, self.lake, self._wanted(self._served(chosen))).out_of_date()
        self._open(found)

    def _report_late_changes(self, changed: Mapping[dg.AssetKey, set[str]]) -> None:
        """Report changed days that are older than the look-back, so that nothing reads them."""
        for key, days in changed.items():
            if key in self.groups or not (self.graph.get(key).child_keys & self.groups.keys()):
                continue
            left = sorted(day for day in days if day and not self.scope.readers({key: {day}}))
            for row in in_rows(left, calendar=self.declared.calendar):
                self.lines.append(
                    f"{key.to_user_string()} changed for {span_of(row)}, which is before the newest "
                    f"{self.declared.automation.updates.days} days; "
                    "to update what reads it: ml-assets run MODEL --rebuild --from DAY."
                )

    def _open_what_is_not_fresh(self) -> None:
        keys = [key for key in self.graph.toposorted_asset_keys if self.graph.get(key).freshness_policy is not None]
        states = self.context.instance.get_freshness_state_records(keys) if keys else {}
        self.failing = {key for key, state in states.items() if state.freshness_state == FreshnessState.FAIL}
        known = {dg.AssetKey.from_user_string(key) for key in self.before.failing}
        for key in self.failing - known:
            self._open({key: self.within[key]} if key in self.groups else {})
        for key in sorted(self.failing)[:_LINES_SHOWN]:
            self.lines.append(f"the freshness of {key.to_user_string()} fails.")

    def _open_what_is_old(self, changed: Mapping[dg.AssetKey, set[str]]) -> None:
        by_day = [key for key in self.graph.toposorted_asset_keys if self.graph.get(key).is_partitioned]
        limits = {
            key: limit
            for key, limit in age_limits(self.declared, by_day).items()
            if self.graph.has(dg.AssetCheckKey(key, CHECK))
        }
        self.ages = look_at_ages(
            self.context.instance, self.lake, limits, changed=changed, before=self.before.ages,
            yesterday=self.declared.calendar.newest_day(self.over), is_new_day=self.before.day != self.over,
        )  # fmt: skip
        for key in self.ages.old & self.groups.keys():
            if " " not in self.before.ages.get(key.to_user_string(), "").rstrip():
                self._open({key: self.within[key]})
        self.lines += self.ages.lines[:_LINES_SHOWN]

    # ------------------------------------------------------------ what follows

    def requests(self) -> list[dg.RunRequest]:
        """Return the run requests. What is open beyond the limit stays open."""
        opened = self.scope.with_the_rest_of_their_groups(self.opened) if self.opened else {}
        if not opened:
            return []
        for group in {self.groups[key] for key in opened}:
            mine = [key for key, its in self.groups.items() if its == group]
            looked_at = set().union(*(opened.get(key, ()) for key in mine))
            self.waits.retain(group, set().union(*(self.within[key] for key in mine)) - looked_at)
        running = in_progress(self.context.instance, self.context.repository_def, self.declared.calendar)
        look = LakeView(self.graph, self.lake, self._wanted(self._bounded(self._served(opened))))
        planner = Planner(self.scope, look, running=running)
        plan = planner.plan()
        for key, days in plan.still_open.items():
            self.left.setdefault(key, set()).update(days)
        self.waits.add(plan.waiting)
        return [self._request(update, facts) for update, facts in self._new(planner, plan.updates)]

    def _wanted(self, partitions: Partitions) -> Wanted:
        """Return what should be up to date of some partitions, and the required contents of their manifests."""
        wanted = {key: sorted(days) for key, days in partitions.items() if days}
        return wanted_of(self.graph, self.lake, wanted, keeps_champion=True)

    def _served(self, opened: Partitions) -> Partitions:
        """Return the open partitions without models that have no champion and days before the first predicted day."""
        found = dict(opened)
        for model in {group.model for key, group in self.groups.items() if key in opened and group.model}:
            mine = [dg.AssetKey([model, stage]) for stage in (*MONITORING, *SHADOW, *CARD, COMBINED)]
            if not any(key in opened for key in mine):
                continue
            why, first = self._predicted_since(model)
            if why:
                self.waits.add([Waiting(self.groups[key], (), why) for key in mine[:1]])
                self.left |= {key: found.pop(key) for key in mine if key in found}
                continue
            for key in mine:
                if key in found:
                    found[key] = {day for day in found[key] if not day or day >= first}
        return found

    def _predicted_since(self, model: str) -> tuple[str, str]:
        """Return why a model cannot predict ('' if it can), and the first predicted day."""
        try:
            last = PromotionLog(self.lake, model).last()
            if last is None or last.champion is None:
                return "waits for a champion", ""
            return "", self._first_day(model)
        except (CorruptArtifactError, MissingArtifactError) as error:
            return f"waits: {error}", ""

    def _first_day(self, model: str) -> str:
        """Return the first predicted day: the day after the first champion's as-of day, or an earlier predicted day."""
        if model not in self.since:
            self.since[model] = self.declared.calendar.first_key(_first_as_of(self.lake, model) + timedelta(days=1))
        predicted = day_names(self.lake, dg.AssetKey([model, "predictions"]), self.declared.calendar)
        return min([self.since[model], *predicted])

    def _bounded(self, opened: Partitions) -> Partitions:
        """Return the partitions that one tick checks, upstream first. The rest stays open."""
        found: Partitions = {}
        room = MOST_LOOKS
        for key in [key for key in self.graph.toposorted_asset_keys if key in opened]:
            if room > 0:
                found[key] = opened[key]
            else:
                self.left.setdefault(key, set()).update(opened[key])
            room -= len(opened[key])
        if room < 0:
            self.lines.append(f"{len(opened) - len(found)} assets are checked at the next ticks.")
        return found

    def _new(self, planner: Planner, updates: Sequence[Update]) -> list[tuple[Update, Facts]]:
        """Return the first updates that were not requested on the same facts before."""
        facts_of = {update: planner.facts_of(update) for update in updates}
        runs = runs_by_key(self.context.instance, [facts.run_key(update) for update, facts in facts_of.items()])
        failed = failed_runs(self.context.instance, GROUP_TAG, sorted({str(update.group) for update in updates}))
        new = []
        for update, facts in facts_of.items():
            calendar = self.declared.calendar
            failure = next((it.dagster_run for it in failed if _covers(it, update, facts, calendar)), None)
            run = runs.get(facts.run_key(update)) or failure
            if run is None:
                new.append((update, facts))
            else:
                why = (
                    f"{FAILED_RUN}{run.run_id[:8]} was requested on the same facts and its status is "
                    f"{run.status.value}; a new run is requested when they or its code change; or run it again"
                )
                self.waits.add([Waiting(update.group, update.days, why)])
        if len(new) > MOST_REQUESTS:
            self.lines.append(
                f"{len(new) - MOST_REQUESTS} more runs are requested at the next ticks, after {MOST_REQUESTS}."
            )
        return new[:MOST_REQUESTS]

    def _request(self, update: Update, facts: Facts) -> dg.RunRequest:
        over = f" over {update.span}" if update.days else ""
        names = ", ".join(key.path[-1] for key in update.assets)
        self.lines.append(f"{update.group}: requested {names}{over} ({', '.join(update.reasons)}).")
        return dg.RunRequest(
            run_key=facts.run_key(update),
            asset_selection=with_quarantines(self.graph, update.assets),
            tags={
                CAUSE: "freshness" if (self.failing | self.ages.old).intersection(update.assets) else NAME,
                GROUP_TAG: str(update.group),
                CODE_TAG: facts.code,
                **({MODEL: update.group.model} if update.group.model else {}),
                **range_tags(update.days),
            },
        )

    # ------------------------------------------------------------ reports and cursor

    def sentences(self) -> list[str]:
        """Return what this tick requested and what waits, with figures."""
        waiting = [*self.waits.lines(), *self._what_has_not_come()]
        more = [f"{len(waiting) - _LINES_SHOWN} more wait."] if len(waiting) > _LINES_SHOWN else []
        return [*self.lines, *waiting[:_LINES_SHOWN], *more]

    def blocked(self) -> dict[str, list[Action]]:
        """Return what a person must act on, by model."""
        newest = {key.to_user_string(): day for key, day in self.newest.items()}
        return {it.name: blocked_actions(it.name, self.waits, newest) for it in self.declared.models}

    def newly(self, blocked: Mapping[str, Sequence[Action]]) -> list[str]:
        """Return the models for which that has changed since the last tick."""
        before, day = Waits(self.before.waits, self.declared.calendar), self.before.day
        return [
            name for name, it in blocked.items() if not day or it != blocked_actions(name, before, self.before.newest)
        ]

    def _what_has_not_come(self) -> Iterator[str]:
        """Yield the sources that have no newer day although one is over."""
        ended: dict[str, list[str]] = {}
        for key in (it for it in sources_of(self.graph) if stage_of(it) not in SERVED):
            declared, newest = declared_keys(self.graph, key), self.newest.get(key, "")
            if declared is not None and newest < min(self.over, declared[1]):
                ended.setdefault(newest, []).append(key.to_user_string())
        grain = self.declared.calendar.grain
        for newest, names in sorted(ended.items()):
            yield f"{', '.join(names)}: {f'no {grain} after {newest}' if newest else f'no {grain}'} has landed."

    def cursor(self) -> UpdatesCursor:
        """Return the cursor for the next tick."""
        return UpdatesCursor(
            last=self.seen.last,
            recent=self.seen.recent,
            code=self.code,
            open={
                key.to_user_string(): as_ranges(days, self.declared.calendar)
                for key, days in sorted(self.left.items())
                if days
            },
            failing=tuple(sorted(key.to_user_string() for key in self.failing)),
            waits=self.waits.stored(),
            since=self.since,
            day=self.over,
            days=self.count,
            newest={key.to_user_string(): day for key, day in self.newest.items()},
            turn=self.turn,
            ages=self.ages.known,
            grain=self.declared.calendar.grain,
        )

    def _cursor(self) -> UpdatesCursor:
        text, problem = self.context.cursor, "the cursor cannot be read, so everything is checked."
        if not text:
            self.lines.append("there is no cursor, so everything is checked.")
        found, grain = read_cursor(UpdatesCursor, text, self.lines.append, problem), self.declared.calendar.grain
        if found is not None and found.grain not in {grain, None}:
            self.lines.append(
                f"the grain of the declared days has changed from '{found.grain}' to '{grain}', so everything is "
                "checked. Data of the former grain stays in the lake and is not read."
            )
            found = None
        # An empty code digest never matches, so everything is opened.
        return found or UpdatesCursor(last=newest_number(self.context.instance))


def _first_as_of(lake: Lake, model: str) -> date:
    """Return the as-of day of the oldest champion of a model that garbage collection has not removed.

    Raises:
        MissingArtifactError: the current champion does not exist.
    """
    versions = [*dict.fromkeys(entry.champion for entry in PromotionLog(lake, model).entries() if entry.champion)]
    for version in versions[:-1]:
        try:
            return as_of(lake, model, version)
        except MissingArtifactError:
            continue
    return as_of(lake, model, versions[-1])


def _covers(record: dg.RunRecord, update: Update, facts: Facts, calendar: Calendar) -> bool:
    """Return whether a failed run included all of an update, with the same code and no older inputs."""
    assets, days = targets_of(record.dagster_run, calendar)
    return (
        record.dagster_run.tags.get(GROUP_TAG) == str(update.group)
        and record.dagster_run.tags.get(CODE_TAG) == facts.code
        and assets.issuperset(update.assets)
        and days.issuperset(update.days)
        and (record.end_time or 0.0) > facts.made_from_at.timestamp()
    )
