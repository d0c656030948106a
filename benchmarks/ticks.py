"""How long one tick of each sensor takes with 500 declared models and 100,000 materializations in the instance.

Not here: what follows from a tick. Nothing has changed, or the cursor is lost and a tick checks as much as it may.

    python -m benchmarks.ticks

The instance has its history in SQLite in a temporary folder. The lake contains manifests as runs write them, and the
data that sensors read: the promotion logs, and the drift and performance of each day.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

import dagster as dg
from pydantic import BaseModel

from ml_assets.automation.updates import updates_sensor
from ml_assets.contracts.artifacts.monitoring import (
    DriftSummaries,
    DriftSummary,
    PerformanceSummaries,
    PerformanceSummary,
)
from ml_assets.contracts.artifacts.training import ModelSpec
from ml_assets.contracts.decisions import Promotion
from ml_assets.dagster_storage.event_log import BatchingSqliteEventLogStorage
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.lake.content import bytes_digest
from ml_assets.lake.manifest import ArtifactRef, FileEntry, Manifest
from ml_assets.lake.order import OrderRecord, manifest_name
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.sealing import seal
from ml_assets.lake.store import Lake
from ml_assets.models.plan import TABLES
from ml_assets.names import ALERTS, LAKE, prefixed
from ml_assets.orchestration.groups import update_groups
from ml_assets.orchestration.staleness import LakeView, Wanted
from tests.adapters.dagster import SensorExecutionData, StepMaterializationData
from tests.flights import DEFS, build

SENSORS: Final = ("updates", "arrivals", "alerts", "drift", "performance", "watch")
VERSION: Final = "a" * 32
AS_OF: Final = "2013-10-31"
LOOK_BACK: Final = 40
"""Days of raw tables and tables before those of the models: further than any table looks back."""


def main() -> None:
    """Build the instance and the lake, and time each sensor."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="ticks-") as folder:
        root = Path(folder)
        declared = copies(read_all(DEFS), arguments.models)
        lake = LakeResource(url=str(root / "lake"))
        defs = build(lake=lake, declared=declared)
        repository = defs.get_repository_def()
        days = [str(date(2013, 12, 31) - timedelta(days=n)) for n in reversed(range(arguments.days))]
        with instance_in(root / "home") as instance:
            made = fill(repository, declared, instance, Lake(lake.url), days=days, events=arguments.materializations)
            print(f"{arguments.models} models, {made['events']:,} materializations, {made['artifacts']:,} artifacts")
            print("seconds            steady state (slowest)    cursor lost, first tick")
            for sensor in _sensors(repository, declared):
                resources = {name: it for name, it in (defs.resources or {}).items() if name in {LAKE, ALERTS}}
                print(_timed(sensor, repository, instance, resources, ticks=arguments.ticks), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", type=int, default=500, help="declared models (default: %(default)s)")
    parser.add_argument("--materializations", type=int, default=100_000, help="in the instance (default: %(default)s)")
    parser.add_argument("--days", type=int, default=35, help="days of each asset in the lake (default: %(default)s)")
    parser.add_argument("--ticks", type=int, default=5, help="of each sensor in steady state (default: %(default)s)")
    return parser.parse_args()


def copies(declared: Declared, count: int) -> Declared:
    """Return a project with the first model declared so many times under other names."""
    models = tuple(declared.models[0].model_copy(update={"name": f"model_{n:03}"}) for n in range(count))
    return Declared(models=models, raw=declared.raw, tables=declared.tables, automation=declared.automation)


def instance_in(home: Path) -> dg.DagsterInstance:
    """Return an instance as `ml-assets` sets it up."""
    home.mkdir()
    settings = (
        "telemetry: {enabled: false}\n"
        f"event_log_storage: {{module: {BatchingSqliteEventLogStorage.__module__}, "
        f"class: {BatchingSqliteEventLogStorage.__name__}, config: {{base_dir: {home / 'history'}}}}}\n"
    )
    (home / "dagster.yaml").write_text(settings, encoding="utf-8")
    return dg.DagsterInstance.from_config(str(home))


def fill(
    repository: dg.RepositoryDefinition,
    declared: Declared,
    instance: dg.DagsterInstance,
    lake: Lake,
    *,
    days: list[str],
    events: int,
) -> dict[str, int]:
    """Write an artifact of each day of each asset, all up to date, with their events in the instance."""
    graph = repository.asset_graph
    monitored = update_groups(graph, [model.name for model in declared.models])
    keys = [
        key
        for key in graph.toposorted_asset_keys
        if key in monitored or key.path[0] == "raw" or key.path[-1] == "champion"
    ]
    first = date.fromisoformat(days[0])
    before = [str(first - timedelta(days=n)) for n in reversed(range(1, LOOK_BACK + 1))]
    in_days = {key: [*before, *days] if key.path[0] in {"raw", TABLES} else days for key in keys}
    wanted = {key: in_days[key] if graph.get(key).is_partitioned else [""] for key in keys}
    look = LakeView(graph, lake, Wanted(wanted, {}))
    there = {(key, day) for key, days_of_it in wanted.items() for day in days_of_it}
    for key, day in sorted(there):
        inputs = tuple(_ref(parent, name) for parent, name in _reads(look, key, day) if (parent, name) in there)
        parameters = look.parameters(key) | ({"champion": VERSION, "shown": VERSION} if key.path[-1] == "card" else {})
        if key.path[-1] == "card":
            inputs = tuple(_ref(dg.AssetKey([key.path[0], it]), d) for it in ("drift", "performance") for d in days)
        write(
            lake,
            _ref(key, day),
            records=_records(key, day),
            inputs=inputs,
            parameters=parameters,
            code_version=graph.get(key).code_version,
        )
    for model in declared.models:
        training_set = _ref(dg.AssetKey([model.name, "training_set"]), "")
        write(lake, training_set, parameters={"as_of": AS_OF})
        champion = _ref(dg.AssetKey([model.name, "model"]), "")
        write(lake, champion, records={"spec.json": _spec(model.name)}, inputs=(training_set,))
        PromotionLog(lake, model.name).append(_promotion(model.name), number=1)
    pairs = [*sorted(there)]
    pairs = (pairs * (events // len(pairs) + 1))[:events]
    for start in range(0, len(pairs), 5_000):
        instance.event_log_storage.store_event_batch([_event(key, day) for key, day in pairs[start : start + 5_000]])
    return {"events": len(pairs), "artifacts": len(there) + 2 * len(declared.models)}


def _reads(look: LakeView, key: dg.AssetKey, day: str) -> Iterator[tuple[dg.AssetKey, str]]:
    return look.reads(key, day)


def _ref(key: dg.AssetKey, day: str) -> ArtifactRef:
    return ArtifactRef(asset=key.to_user_string(), partition=day or None, version=VERSION)


def _records(key: dg.AssetKey, day: str) -> dict[str, BaseModel]:
    """Return the report of a day on which nothing happened; nothing for other assets."""
    of = {"model": key.path[0], "model_version": VERSION, "day": day, "sentence": "as ever"}
    if key.path[-1] == "drift":
        quiet = {
            "rows": 900,
            "weighted_excess_psi": 0.02,
            "score_excess_psi": 0.01,
            "is_over": False,
            "drifted_features": (),
        }
        summary = DriftSummary.model_validate({**of, **quiet, "first_day": day})
        return {"summaries.json": DriftSummaries(day=summary.day, versions=(summary,))}
    if key.path[-1] == "performance":
        promised = {"roc_auc": 0.75}
        found = PerformanceSummary.model_validate(
            {
                **of, "predictions": 900, "labelled": 880, "expected": promised, "expected_labelled": promised,
                "measured": {"roc_auc": {"value": 0.75, "low": 0.7, "high": 0.8}},
            }
        )  # fmt: skip
        return {"summaries.json": PerformanceSummaries(day=found.day, versions=(found,))}
    return {}


def _spec(model: str) -> ModelSpec:
    as_of = date.fromisoformat(AS_OF)
    return ModelSpec(
        model=model, task="binary", target="is_late", features=(), vocabularies={}, parameters={}, rounds=100,
        as_of=as_of, first_training_day=date(2013, 1, 1), last_training_day=as_of, last_tuning_day=as_of,
        training_rows=200_000,
        lightgbm_version="4.7.0",
    )  # fmt: skip


def write(lake: Lake, ref: ArtifactRef, *, records: Mapping[str, BaseModel] | None = None, **made: Any) -> None:  # noqa: ANN401 - as `Manifest` takes it
    """Write a manifest, and records beside it."""
    texts = {name: record.model_dump_json().encode() for name, record in (records or {}).items()}
    manifest = Manifest(
        asset=ref.asset,
        partition=ref.partition,
        version=ref.version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        files=tuple(FileEntry(name=it, bytes=len(text), digest=bytes_digest(text)) for it, text in texts.items()),
        input_numbers=(1,) * len(made.get("inputs", ())),
        **made,
    )
    folder = Path(lake.directory(ref))
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text)
    name = manifest_name(manifest)
    (folder / name).write_bytes(manifest.text())
    record = OrderRecord.of(manifest, name)
    lake.write(lake.path(record.path), lambda file: file.write(seal(record)) and None)


def _promotion(model: str) -> Promotion:
    return Promotion(
        number=1, model=model, action="promote", champion=VERSION, challenger=VERSION, reasons=("it is better",),
        decided_at=datetime(2026, 1, 1, tzinfo=UTC), decided_by="gate",
    )  # fmt: skip


def _event(key: dg.AssetKey, day: str) -> dg.EventLogEntry:
    made = dg.AssetMaterialization(key, partition=day or None)
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name="run",
        event_specific_data=StepMaterializationData(made),
    )
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=20,
        user_message="",
        run_id="0" * 8,
        timestamp=time.time(),
        job_name="run",
        dagster_event=event,
    )


def _sensors(repository: dg.RepositoryDefinition, declared: Declared) -> list[dg.SensorDefinition]:
    there = {sensor.name: sensor for sensor in repository.sensor_defs}
    there.setdefault(prefixed("updates"), updates_sensor(declared))
    return [there[name] for name in map(prefixed, SENSORS) if name in there]


def _timed(
    sensor: dg.SensorDefinition,
    repository: dg.RepositoryDefinition,
    instance: dg.DagsterInstance,
    resources: Mapping[str, object],
    *,
    ticks: int,
) -> str:
    def tick(cursor: str | None) -> tuple[float, str | None, SensorExecutionData]:
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository, resources=resources, sensor_name=sensor.name
        ) as context:
            since = time.perf_counter()
            found = sensor.evaluate_tick(context)
            return time.perf_counter() - since, found.cursor, found

    lost, cursor, found = tick(None)
    for _ in range(60):  # after a lost cursor, several ticks may be needed
        if not _goes_on(found):
            break
        _, cursor, found = tick(cursor)
    steady = []
    for _ in range(ticks):
        seconds, cursor, found = tick(cursor)
        steady.append(seconds)
    answer = found.skip_message or len(found.run_requests or ())
    return f"{sensor.name:26}{median(steady):12.2f} ({max(steady):.2f}){lost:20.2f}   {answer}"


def _goes_on(found: SensorExecutionData) -> bool:
    return "at the next ticks" in (found.skip_message or "") or bool(found.run_requests)


if __name__ == "__main__":
    main()
