"""Planted leaks: which the leak test proves, which are suspected, which nothing sees, and what is accused wrongly.

    python -m benchmarks.leaks [--cuts 50] [--seed 1] [demand orders flights]

Three tables: hourly demand with lags of at least 25 hours, orders that may be returned, and the example's own flights.
The planted columns are in `benchmarks/leak_corpus/<table>/planted.yml`, a column for each kind; every other
column is honest. Ends with 1 if a leak is missed that can be found, or an honest column is accused.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import yaml

from benchmarks.choices import one_of
from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.periods import DAILY
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import read_all
from ml_assets.lake.store import Lake, Origin
from ml_assets.landing.row_sql import with_columns
from ml_assets.landing.sources import Source
from ml_assets.logic.inspection.lone_columns import lone_predictors
from ml_assets.logic.point_in_time.suspects import suspects
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.leak_test.leaktest import Sampling, leak_test
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.rebuild import Rebuilds, reach_of
from tests.flights import DBT_PROJECT, DEFS

CORPUS: Final = Path(__file__).parent / "leak_corpus"
FIRST: Final = date(2024, 1, 1)
Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class Table:
    """One table of the corpus.

    Attributes:
        model: its declaration.
        sources: makes its raw tables; those with a column `day` are stored by day.
        first: the first day whose features are built; what it looks back on lies before.
        last: the last one.
    """

    model: ModelDeclaration
    sources: Callable[[np.random.Generator], Frames]
    first: date
    last: date


@dataclass(frozen=True)
class Outcome:
    """What became of one planted leak."""

    column: str
    kind: str
    expected: str
    found: str

    @property
    def is_as_expected(self) -> bool:
        """Whether it was found at least as surely as it can be."""
        order = ("unseen", "suspected", "proven")
        return order.index(self.found) >= order.index(self.expected)


@dataclass(frozen=True)
class Corpus:
    """A dbt project over a lake of raw tables."""

    project: Path
    manifest: Mapping[str, Any]
    lake: Lake
    folder: Path

    def built(self, name: str, table: Table) -> pl.DataFrame:
        """Return a model's rows of all days, built at once from all that there is."""
        reach = reach_of(self.manifest, name, DAILY.first_key(table.first), DAILY.last_key(table.last))
        rows = {}
        for uid, span in reach.sources.items():
            keys = [""] if span is None else DAILY.between(*span)
            found = self.lake.newest(f"raw/{self.manifest['sources'][uid]['name']}", keys)
            rows[uid] = pl.concat(self.lake.get_each([*found.values()], pl.DataFrame))
        scratch = self.folder / name
        scratch.mkdir()
        with Rebuilds(self.project, self.manifest, scratch, workers=1) as rebuilds:
            return rebuilds.build(reach, rows)


def main() -> int:
    """Test the tables, print what was found, and return 1 if something is missed or accused wrongly."""
    arguments = _arguments()
    is_right = True
    for name in arguments.tables:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="leaks-") as folder:
            outcomes, accused, honest = examine(name, Path(folder), arguments.cuts, arguments.seed)
        print(f"\n{name}: {arguments.cuts} prediction times, {time.perf_counter() - begun:.0f} s")
        for it in outcomes:
            mark = "" if it.is_as_expected else f"   MISSED: expected {it.expected}"
            print(f"  {it.kind:<36} {it.found}{mark}")
        missed = [it.column for it in outcomes if not it.is_as_expected]
        counts = {verdict: sum(it.found == verdict for it in outcomes) for verdict in ("proven", "suspected", "unseen")}
        print(f"  planted {len(outcomes)}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}; missed: "
              f"{len(missed)}; honest columns: {honest}, accused: {', '.join(accused) or 'none'}")  # fmt: skip
        is_right = is_right and not missed and not accused
    return 0 if is_right else 1


def examine(name: str, folder: Path, cuts: int, seed: int) -> tuple[list[Outcome], list[str], int]:
    """Return what became of each leak planted into a table, the honest columns accused, and how many there are."""
    table, planted = TABLES[name](), yaml.safe_load((CORPUS / name / "planted.yml").read_text(encoding="utf-8"))
    project = _project(name, planted, folder / "dbt_project")
    manifest = json.loads((project / "target" / "manifest.json").read_text(encoding="utf-8"))
    contracts = contracts_from_dbt(manifest)
    plan = ModelPlan.of(table.model, contracts)
    raw = table.sources(np.random.default_rng(seed))
    lake = Lake(str(folder / "lake"))
    for source, rows in raw.items():
        _land(lake, source, rows.select(*contracts[f"raw/{source}"].names, *([_DAY] if _DAY in rows.columns else [])))
    corpus = Corpus(project, manifest, lake, folder)
    rows, labels = (corpus.built(it, table) for it in (table.model.features.table, table.model.labels.table))
    report = leak_test(plan, lake, project, Sampling(cuts, seed), rows=rows, log=lambda it: print(it, file=sys.stderr))
    proven = {leak.column or "(row)" for leak in report.leaks}

    target = table.model.labels.target
    known = labels.unique(list(plan.key), keep="last").select(*plan.key, pl.col(target).alias("__target"))
    frame = rows.join(known, on=list(plan.key), how="left", maintain_order="left").sort(
        plan.declaration.features.event_time
    )
    honest = [feature.name for feature in plan.features if feature.name not in planted["columns"]]

    def suspected(columns: list[str]) -> set[str]:
        lone = lone_predictors(
            frame, columns, "__target", table.model.task, event_time=plan.declaration.features.event_time
        )
        return {it.column for it in suspects(lone, cuts=cuts, history=report.history, acknowledged=())}

    outcomes = [
        Outcome(column, it["kind"], it["expected"],
                "proven" if column in proven else "suspected" if column in suspected([*honest, column]) else "unseen")
        for column, it in planted["columns"].items()
    ]  # fmt: skip
    return outcomes, sorted((proven | suspected(honest)) - planted["columns"].keys()), len(honest)


def _project(name: str, planted: Mapping[str, Any], folder: Path) -> Path:
    """Return a dbt project with the table, and the planted columns in it, parsed."""
    if name == "flights":
        shutil.copytree(DBT_PROJECT, folder, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"))
    else:
        folder.mkdir()
        for part in ("dbt_project.yml", "profiles.yml"):
            shutil.copy(DBT_PROJECT / part, folder)
        shutil.copytree(CORPUS / name / "models", folder / "models")
    (path,) = (folder / "models").rglob(f"{planted['model']}.sql")
    sql = path.read_text(encoding="utf-8")
    head, before, tail = sql.rpartition(planted["before"])
    added = "".join(f",\n    cast({it['sql']} as double) as {column}" for column, it in planted["columns"].items())
    path.write_text(f"{head.rstrip()}{added}\n{before}{tail}", encoding="utf-8")
    (schema,) = (it for it in path.parent.glob("_*.yml") if f"- name: {planted['model']}\n" in it.read_text())
    content = yaml.safe_load(schema.read_text(encoding="utf-8"))
    (model,) = (it for it in content["models"] if it["name"] == planted["model"])
    model["columns"] += [
        {"name": column, "data_type": "double", "config": {"meta": {"role": "feature"}}}
        for column in planted["columns"]
    ]
    model["config"]["meta"].setdefault("look_back_days", {}).update(planted.get("look_back_days", {}))
    schema.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    prepare_manifest(folder)
    return folder


_DAY: Final = "__day"


def _land(lake: Lake, source: str, rows: pl.DataFrame) -> None:
    if _DAY not in rows.columns:
        lake.put(f"raw/{source}", None, rows, Origin())
        return
    parts = rows.partition_by(_DAY, as_dict=True, include_key=False, maintain_order=True)
    lake.put_each(f"raw/{source}", {str(day): (part, Origin()) for (day,), part in parts.items()})


# ---------------------------------------------------------------- the tables


def _declared(name: str, task: Task, last: date, **table: str) -> ModelDeclaration:
    key, asked = table["key"], table["asked"]
    return ModelDeclaration.model_validate({
        "name": name, "description": "A table of the corpus.", "task": task, "days": {"first": FIRST, "last": last},
        "features": {"table": f"{name}_features", "key": [key], "event_time": asked, "prediction_time": asked},
        "labels": {"table": f"{name}_outcomes", "target": table["target"], "known_time": "known_at"},
    })  # fmt: skip


def demand() -> Table:
    """Return hourly demand: a strong daily and weekly course, and noise that lasts for hours."""
    first, last = FIRST + timedelta(days=20), FIRST + timedelta(days=69)
    model = _declared("demand", "regression", last, key="hour", asked="asked_at", target="megawatts")
    return Table(model, _demand, first, last)


def _demand(random: np.random.Generator) -> Frames:
    count = 70 * 24
    hours = [datetime.combine(FIRST, datetime.min.time()) + timedelta(hours=n) for n in range(count)]
    noise = np.zeros(count)
    for n in range(1, count):
        noise[n] = 0.8 * noise[n - 1] + random.normal(0, 30)
    clock, weekday = np.arange(count) % 24, np.arange(count) // 24 % 7
    megawatts = np.round(1000 + 200 * np.sin((clock - 8) / 24 * 2 * np.pi) - 80 * (weekday > 4) + noise, 2)
    at = pl.Series("hour", hours, pl.Datetime("us"))
    measured = at + pl.Series([timedelta(minutes=60 + int(m)) for m in random.integers(0, 180, count)])
    is_corrected = pl.Series(random.random(count) < 0.15)
    rows = pl.DataFrame({
        _DAY: at.dt.date(), "day": at.dt.date(), "hour": at, "megawatts": megawatts, "measured_at": measured,
        "corrected_megawatts": np.round(megawatts * random.uniform(0.9, 1.1, count), 2),
        "corrected_at": measured + pl.Series([timedelta(hours=int(h)) for h in random.integers(24, 96, count)]),
        "plan_megawatts": np.round(megawatts + random.normal(0, 5, count), 2),
        "reading_number": np.argsort(np.argsort(megawatts)) + 10_000,
    })  # fmt: skip
    rows = rows.with_columns(
        pl.when(is_corrected).then(name).alias(name) for name in ("corrected_megawatts", "corrected_at")
    )
    usual = rows.group_by(weekday=at.dt.weekday().cast(pl.Int64), hour_of_day=at.dt.hour().cast(pl.Int64)).agg(
        usual_megawatts=pl.col("megawatts").mean().round(2)
    )
    return {"demand": rows, "weekdays": usual.sort("weekday", "hour_of_day")}


def orders() -> Table:
    """Return orders of a shop, of which one in five is returned, more often by some customers."""
    first, last = FIRST + timedelta(days=16), FIRST + timedelta(days=59)
    model = _declared("order", "binary", last, key="order_id", asked="ordered_at", target="is_returned")
    return Table(model, _orders, first, last)


def _orders(random: np.random.Generator) -> Frames:
    count = 60 * 50
    minutes = np.sort(random.integers(0, 60 * 1440, count))
    start = datetime.combine(FIRST, datetime.min.time())
    at = pl.Series("ordered_at", [start + timedelta(minutes=int(m)) for m in minutes], pl.Datetime("us"))
    customer = random.integers(0, 300, count)
    amount = np.round(random.gamma(2, 40, count), 2)
    likely = 0.05 + 0.25 * (customer % 5 == 0) + 0.1 * (amount > 120)
    returned = random.random(count) < likely
    delivered = at + pl.Series([timedelta(hours=int(h)) for h in random.integers(20, 120, count)])
    settled = delivered + pl.Series([timedelta(hours=int(h)) for h in random.integers(6, 200, count)])
    rows = pl.DataFrame({
        _DAY: at.dt.date(), "day": at.dt.date(), "order_id": np.arange(count), "customer": customer, "ordered_at": at,
        "amount": amount, "category": random.choice(["shoes", "books", "toys"], count), "delivered_at": delivered,
        "is_returned": returned, "refund": np.where(returned, amount, 0.0), "settled_at": settled,
        "final_amount": np.where(returned, 0.0, amount), "risk": np.round(returned + random.normal(0, 0.25, count), 3),
        "file_number": np.argsort(np.argsort(returned + random.random(count) / 2)) + 1,
    })  # fmt: skip
    shares = rows.group_by("customer").agg(return_share=pl.col("is_returned").mean())
    return {"orders": rows, "customers": shares.sort("customer")}


def flights() -> Table:
    """Return the example's flights of two carriers from one airport, some of them corrected days later."""
    declared = read_all(DEFS)
    first, last = date(2013, 1, 20), date(2013, 2, 10)
    return Table(declared.model("flight_delay"), _flights, first, last)


def _flights(random: np.random.Generator) -> Frames:
    contracts = contracts_from_dbt(json.loads((DBT_PROJECT / "target" / "manifest.json").read_text(encoding="utf-8")))
    found: dict[str, pl.DataFrame] = {}
    for name, table in read_all(DEFS).raw[0].tables.items():
        contract = contracts[f"raw/{name}"]
        added = [column for column in (RECEIVED_AT, GONE_AT) if column in contract.names]
        asked = {c.name: c.dtype for c in contract.columns if not c.expression and c.name not in added}
        source = Source(str(table.file), asked, table.null_values)
        rows = source.frame(source.content())
        if table.partition_by is None:
            found[name] = rows
            continue
        on = pl.date("year", "month", "day")
        rows = rows.filter(pl.col("origin") == "JFK", on <= date(2013, 2, 10)).with_columns(
            pl.lit(None, pl.Datetime("us")).alias(column) for column in added
        )
        if name == "flights":
            rows = rows.filter(pl.col("carrier").is_in(["AA", "DL"]))
            hit = rows.filter(pl.Series(random.random(rows.height) < 0.05), pl.col("dep_delay").is_not_null())
            waited = pl.lit(pl.Series(random.integers(40, 140, hit.height)))
            late = on.cast(pl.Datetime("us")) + pl.duration(hours=waited)
            rows = pl.concat([rows, hit.with_columns(pl.col("dep_delay") + 45, late.alias(RECEIVED_AT))])
        computed = {c.name: c.expression for c in contract.columns if c.expression}
        found[name] = with_columns(rows, computed, where=name).with_columns(on.alias(_DAY))
    return found


TABLES: Final[Mapping[str, Callable[[], Table]]] = {"demand": demand, "orders": orders, "flights": flights}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=[*TABLES], type=one_of([*TABLES]), help="which (default: all)")
    parser.add_argument("--cuts", type=int, default=50, help="prediction times (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="makes the tables and chooses times (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
