"""A small world for the sensor that makes what is out of date again: a lake, an instance, and runs that take no time.

Expectations stay out; they stand in `tests.automation.test_updates`.
"""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg

from ml_assets.adapters.dagster import RUN_KEY_TAG
from ml_assets.alerts.alert import KINDS
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.history import targets_of
from ml_assets.automation.updates import tick
from ml_assets.contracts.periods import Grain
from ml_assets.declaration.automation import AutomationDeclaration, UpdatesSettings
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import TablesDeclaration
from ml_assets.lake.days import ALLOW_GAPS, merge_days
from ml_assets.lake.grains import grain_parameter
from ml_assets.lake.manifest import FILES, ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.request_files import file_name
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.models.plan import partitions_over
from ml_assets.names import MANAGED
from ml_assets.orchestration.groups import update_groups, wanted_of
from ml_assets.orchestration.staleness import LOOK_BACK, loaded_parents, out_of_date, reads_of, required_of
from ml_assets.stages.checks.data_age import data_age_checks
from tests.builders import Note, flights_declared, promotion, put
from tests.event_logs import ephemeral_instance

MODEL: Final = "m"
DAYS: Final = tuple(f"2013-01-{n:02}" for n in range(1, 9))
BY_DAY: Final = dg.DailyPartitionsDefinition(DAYS[0], end_date="2013-01-09")
YESTERDAY: Final = date(2013, 1, 8)
FIRST_PREDICTED: Final = DAYS[2]


def asset(
    name: str, *reads: str, after: Sequence[str] = (), by_day: bool = True, **options: Any
) -> dg.AssetsDefinition:
    """Return an asset of a name that reads others and does nothing by itself."""
    ins = {it.split("/")[-1]: dg.AssetIn(it.split("/"), **options.get(it, {})) for it in reads}
    metadata: dict[str, Any] = {ALLOW_GAPS: options.get("allow_gaps", False)}
    metadata |= {LOOK_BACK: dg.MetadataValue.json(options["look_back"])} if "look_back" in options else {}
    return dg.asset(
        key=name.split("/"),
        ins=ins,
        deps=[it.split("/") for it in after],
        partitions_def=options["partitions"] if by_day else None,
        metadata=metadata,
        code_version=options.get("code", "1"),
        freshness_policy=options.get("freshness"),
        tags=dict([MANAGED]),
    )(_taking([*ins]))


def _taking(names: Sequence[str]) -> Callable[..., None]:
    """Return a function of these parameters, which Dagster reads off its signature."""

    def made(**_: object) -> None:
        """Nothing is made by calling it."""

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    made.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return made


def assets(
    *,
    code: str = "1",
    allow_gaps: bool = False,
    partitions: Any = BY_DAY,
    in_shadow: bool = False,
    is_served: bool = False,
) -> list[dg.AssetsDefinition]:
    """Return a graph like a project's: two sources, three tables one of which looks back, and a model's stages."""
    wait = dg.TimeWindowPartitionMapping(start_offset=0, end_offset=1, allow_nonexistent_upstream_partitions=True)
    one = functools.partial(asset, partitions=partitions)
    shadow = (
        one("m/shadow_predictions", "m/features", after=["m/champion"]),
        one("m/shadow", after=["m/shadow_predictions", "m/performance"], by_day=False),
    )
    served = (
        one("m/requests", code=code),
        one("m/served_drift", "m/requests"),
        one("m/served_performance", "m/requests", "m/labels", **{"m/labels": {"partition_mapping": wait}}),
    )
    return [
        one("raw/a"),
        one("raw/b"),
        one("tables/x", "raw/a"),
        one("tables/y", "raw/b", code=code),
        one("tables/z", "tables/x", "tables/y", look_back={"tables/x": 1, "tables/y": 0}, allow_gaps=allow_gaps),
        one("m/features", "tables/z"),
        one("m/labels", "tables/x", freshness=dg.FreshnessPolicy.time_window(fail_window=timedelta(days=1))),
        one("m/training_set", "m/features", by_day=False),
        one("m/champion", "m/training_set", by_day=False),
        one("m/predictions", "m/features", after=["m/champion"]),
        one("m/drift", "m/predictions"),
        one("m/performance", "m/predictions", "m/labels", **{"m/labels": {"partition_mapping": wait}}),
        one(
            "m/card",
            after=["m/champion", "m/drift", "m/performance", *(["m/shadow"] if in_shadow else [])],
            by_day=False,
        ),
        *(shadow if in_shadow else ()),
        *(served if is_served else ()),
    ]


class World:
    """A lake and an instance; time passes between calls alone."""

    def __init__(
        self, root: Path, instance: dg.DagsterInstance, *, days: int = 35, data_lag_days: int = 9, digits: int = 1,
        allow_gaps: bool = False, in_shadow: bool = False, is_served: bool = False,
    ) -> None:  # fmt: skip
        self.lake = Lake(str(root))
        self.instance = instance
        self.alerts = Alerts(lake=LakeResource(url=self.lake.url), kinds={"log": [*KINDS]})
        whole = flights_declared()
        model = whole.models[0].model_copy(update={"name": MODEL})
        automation = AutomationDeclaration(updates=UpdatesSettings(days=days))
        tables = TablesDeclaration(
            days=Days(first=date(2013, 1, 1), last=YESTERDAY), freshness=Freshness(data_lag_days=data_lag_days)
        )
        self.declared = Declared(models=(model,), tables=(tables,), automation=automation)
        self.digits = digits
        self.allow_gaps, self.in_shadow, self.is_served = allow_gaps, in_shadow, is_served
        self.cursor: str | None = None
        self.reason = ""
        self.queue: list[dg.DagsterRun] = []
        self.deploy()

    def deploy(self, *, code: str = "1", grain: Grain = "day") -> None:
        """Load a code location, in which all days have a grain."""
        days = Days(first=date(2013, 1, 1), last=YESTERDAY, grain=grain)
        [model], [tables] = self.declared.models, self.declared.tables
        model, tables = (it.model_copy(update={"days": days}) for it in (model, tables))
        self.declared = dataclasses.replace(self.declared, models=(model,), tables=(tables,))
        made = assets(
            code=code, allow_gaps=self.allow_gaps, partitions=partitions_over(days), in_shadow=self.in_shadow,
            is_served=self.is_served,
        )  # fmt: skip
        self.repository = dg.Definitions(
            made,
            asset_checks=data_age_checks(self.declared, made),
            resources={"ml_assets_lake": LakeResource(url=self.lake.url)},
        ).get_repository_def()
        self.graph = self.repository.asset_graph

    def serve(self) -> None:
        """Let a champion serve that was trained up to the day before the first that is predicted."""
        made = put(self.lake, Note(text="rows"), asset="m/training_set", parameters={"as_of": DAYS[1]})
        model = put(self.lake, Note(text="trees"), asset="m/model", inputs=(made.ref,))
        entry = promotion(1, champion=model.version, model=MODEL)
        PromotionLog(self.lake, MODEL).append(entry, number=1)
        self._told("m/champion", "")

    def land(self, name: str, day: str, text: str, *, is_told: bool = True) -> None:
        """Land a day of a source, with or without its event."""
        put(self.lake, Note(text=text), asset=f"raw/{name}", partition=day, code_version="1")
        if is_told:
            self._told(f"raw/{name}", day)

    def arrive(self, *days: str, is_told: bool = True) -> None:
        """Land days of both sources."""
        for day in days:
            for name in "ab":
                self.land(name, day, "one", is_told=is_told)

    def answer(self, day: str, number: int = 1) -> Path:
        """Log a file of requests, which no event tells of."""
        begin = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        name = file_name(round(begin.timestamp() * 1000), "0" * 32, "0" * 8, number)
        path = Path(self.lake.url, "requests", MODEL, day, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def versions(self) -> dict[str, dict[str, str]]:
        """Return the current version of each partition of all assets that are kept up to date."""
        names = [key.to_user_string() for key in update_groups(self.graph, [MODEL])]
        return {name: {day: ref.version for day, ref in self.lake.newest(name).items()} for name in names}

    def look(self, *, lost: bool = False) -> list[dg.RunRequest]:
        """Evaluate the sensor, and store its cursor; requested runs are not launched."""
        context = dg.build_sensor_context(
            instance=self.instance, repository_def=self.repository, cursor=None if lost else self.cursor
        )
        found = tick(
            context, self.declared, self.lake, self.alerts, over=self.declared.calendar.newest_until(YESTERDAY)
        )
        self.cursor = found.cursor
        self.reason = found.skip_reason.skip_message if found.skip_reason else ""
        return [*(found.run_requests or ())]

    def launch(self, requests: Sequence[dg.RunRequest]) -> None:
        """Queue runs, as the daemon does."""
        for request in requests:
            run = dg.DagsterRun(
                "__ASSET_JOB", status=dg.DagsterRunStatus.STARTED,
                asset_selection=frozenset(request.asset_selection or ()),
                tags={**request.tags, RUN_KEY_TAG: str(request.run_key)},
            )  # fmt: skip
            self.instance.add_run(run)
            self.queue.append(run)

    def end(self, run: dg.DagsterRun, *, made: int | None = None) -> None:
        """End a run: well, or as a failure after it has made some of its assets."""
        keys, days = targets_of(run, self.declared.calendar)
        order = [key for key in self.graph.toposorted_asset_keys if key in keys]
        for key in order[: len(order) if made is None else made]:
            for day in sorted(days - {""}) if self.graph.get(key).is_partitioned else [""]:
                self._make(key, day)
        event = dg.DagsterEventType.PIPELINE_SUCCESS if made is None else dg.DagsterEventType.PIPELINE_FAILURE
        self.instance.report_dagster_event(
            dg.DagsterEvent(event_type_value=event.value, job_name=run.job_name), run_id=run.run_id
        )
        self.queue = [it for it in self.queue if it.run_id != run.run_id]

    def settle(self) -> list[str]:
        """Tick and run all requests until there are none; return them."""
        requested: list[str] = []
        for _ in range(40):
            for run in [*self.queue]:
                self.end(run)
            requests = self.look()
            if not requests and "checked at the next ticks" not in self.reason:
                return requested
            requested += [str(request.run_key).rsplit("/", 1)[0] for request in requests]
            self.launch(requests)
        raise AssertionError(f"it never ends: {requested}")

    def stale(self) -> dict[dg.AssetKey, dict[str, Any]]:
        """Return all that is out of date, by an own look at everything."""
        groups = update_groups(self.graph, [MODEL])
        wanted = {key: [*DAYS] if self.graph.get(key).is_partitioned else [""] for key in groups}
        for stage in ("predictions", "drift", "performance", "shadow_predictions"):
            if (key := dg.AssetKey([MODEL, stage])) in groups:
                wanted[key] = [day for day in DAYS if day >= FIRST_PREDICTED]
        return {**out_of_date(self.graph, self.lake, wanted_of(self.graph, self.lake, wanted))}

    def _make(self, key: dg.AssetKey, day: str) -> None:
        """Make an artifact whose content depends on all that it reads, and often is what it was."""
        refs: list[ArtifactRef] = []
        missing: list[Mapping[str, Sequence[str]]] = []
        for parent in loaded_parents(self.graph, key):
            keys = reads_of(self.graph, key, parent, day)
            newest = self.lake.newest(parent.to_user_string(), keys)
            refs += [newest[name] for name in newest if keys is None or name in keys]
            required = required_of(self.graph, key, parent, day)
            missing.append({parent.to_user_string(): [name for name in required if name not in newest]})
        missing += [self.lake.manifest(ref).missing_days for ref in refs if day]
        name = key.to_user_string()
        wanted = wanted_of(self.graph, self.lake, {key: [day]})
        refs += wanted.beside.get(key, {}).get(day, ())
        text = hashlib.sha256("".join(ref.version for ref in refs).encode()).hexdigest()[: self.digits]
        grain = self.declared.calendar.grain if day else "day"
        parameters = {**wanted.parameters.get(key, {}), **grain_parameter(grain)}
        if (files := wanted.files.get(key, {}).get(day)) is not None:
            parameters[FILES] = {day: [{"name": file} for file in files]}
        code = self.graph.get(key).code_version
        put(
            self.lake, Note(text=f"{name} {text}"), asset=name, partition=day or None, inputs=tuple(refs),
            parameters=parameters, code_version=code, missing_days=merge_days(missing),
        )  # fmt: skip
        self._told(name, day)

    def _told(self, name: str, day: str) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(name.split("/"), partition=day or None))


@contextmanager
def world(root: Path, **options: Any) -> Iterator[World]:
    """Give a world whose instance is forgotten afterwards."""
    with ephemeral_instance() as instance:
        yield World(root, instance, **options)
