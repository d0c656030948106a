"""A shop's orders from CSV files to predictions, in a process whose settings are those of another machine.

    python -m tests.orders_of_a_shop FOLDER THREADS

prints the version of every artifact. FOLDER holds the CSV file and the parsed dbt project that `prepare` writes.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.lake.resource import LakeResource
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_manifest
from tests.builders import nothing_rendered, project
from tests.flights import DBT_PROJECT

DAYS, A_DAY = 30, 60
FIRST = datetime(2024, 2, 29, 23, tzinfo=UTC)  # midnight in Zurich
SPAN = {"first": "2024-03-01", "last": "2024-03-30", "timezone": "Europe/Zurich"}
FILES = {
    "models/_sources.yml": """
sources:
  - name: raw
    schema: raw
    tables:
      - name: orders
        config: {meta: {key: [order_id], partitioned: day, known_time: cast(to_timestamp(epoch) as timestamp)}}
        columns:
          - {name: order_id, data_type: bigint}
          - {name: epoch, data_type: bigint}
          - {name: place, data_type: varchar}
          - {name: weight, data_type: double}
          - {name: is_returned, data_type: boolean}
          - name: ordered_at
            data_type: timestamp
            config: {meta: {expression: cast(to_timestamp(epoch) as timestamp)}}
          - name: day
            data_type: date
            config: {meta: {expression: "cast(timezone('Europe/Zurich', to_timestamp(epoch)) as date)"}}
""",
    "models/_models.yml": """
models:
  - name: order_features
    config: {meta: {key: [order_id], partitioned: day, look_back_days: {orders: 3}}}
    columns:
      - {name: order_id, data_type: bigint, config: {meta: {role: entity}}, data_tests: [not_null, unique]}
      - {name: day, data_type: date, data_tests: [not_null]}
      - {name: ordered_at, data_type: timestamp, config: {meta: {role: event_time}}}
      - {name: prediction_at, data_type: timestamp, config: {meta: {role: prediction_time}}}
      - {name: place, data_type: varchar, config: {meta: {role: feature, categorical: true}}}
      - {name: weight, data_type: double, config: {meta: {role: feature}}}
      - {name: hour, data_type: bigint, config: {meta: {role: feature}}}
      - {name: mean_weight_before, data_type: double, config: {meta: {role: feature}}}
  - name: order_outcomes
    config: {meta: {key: [order_id], partitioned: day}}
    columns:
      - {name: order_id, data_type: bigint, config: {meta: {role: entity}}}
      - {name: day, data_type: date}
      - {name: known_at, data_type: timestamp, config: {meta: {role: known_time}}}
      - {name: is_returned, data_type: boolean, config: {meta: {role: label}}}
""",
    "models/order_features.sql": """
with orders as (
    select *, cast(to_timestamp(epoch) as timestamp) as moment from {{ source('raw', 'orders') }}
    where day between {{ ml_assets.look_back_first_day(3) }} and {{ ml_assets.last_day() }}
),
means as (select day, place, avg(weight) as mean_weight from orders group by day, place)
select
    order_id, orders.day, moment as ordered_at, moment - interval '1 hour' as prediction_at, orders.place, weight,
    hour(to_timestamp(epoch)) as hour, mean_weight as mean_weight_before
from orders left join means on means.day = orders.day - 1 and means.place = orders.place
where orders.day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
""",
    "models/order_outcomes.sql": """
select order_id, day, cast(to_timestamp(epoch + 3600) as timestamp) as known_at, is_returned
from {{ source('raw', 'orders') }} where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
""",
}


BY_HOUR = {
    "models/_sources.yml": {
        "          - name: day\n": """          - name: hour
            data_type: timestamp
            config: {meta: {expression: "date_trunc('hour', cast(to_timestamp(epoch) as timestamp))"}}
          - name: day
""",
    },
    "models/_models.yml": {
        "{name: hour, data_type: bigint": "{name: clock, data_type: bigint",
        "      - {name: day, data_type: date, data_tests: [not_null]}\n": """
      - {name: day, data_type: date, data_tests: [not_null]}
      - {name: hour, data_type: timestamp, data_tests: [not_null]}
""",
        "      - {name: day, data_type: date}\n": """
      - {name: day, data_type: date}
      - {name: hour, data_type: timestamp}
""",
    },
    "models/order_features.sql": {
        "orders.day, moment": "orders.day, orders.hour, moment",
        "as hour, mean": "as clock, mean",
        "where orders.day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}":
            "where {{ ml_assets.in_run('orders') }}",
    },
    "models/order_outcomes.sql": {
        "order_id, day": "order_id, day, hour",
        "where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}":
            "where {{ ml_assets.in_run() }}",
    },
}  # fmt: skip
"""What is different in the dbt project of a shop by the hour: texts and what stands in their place."""


def prepare(folder: Path, days: int = DAYS, *, is_by_hour: bool = False, first: datetime = FIRST) -> None:
    """Write the orders of so many days from a moment on and the shop's dbt project, and parse it."""
    lines = ["order_id,epoch,place,weight,is_returned"]
    for number in range(days * A_DAY):
        at = first + timedelta(days=number // A_DAY, minutes=24 * (number % A_DAY))
        place = ("Zürich", "Genève", "Łódź")[number * 7 % 3]
        weight = 5 + 3 * math.sin(number * 1.7) + number % 5 / 3
        risk = weight + 2 * (place == "Łódź") + 3 * math.sin(number % A_DAY / 8) + math.sin(number * 0.9) / 2
        lines.append(f"{number},{int(at.timestamp())},{place},{weight!r},{str(risk > 7).lower()}")
    (folder / "orders.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    dbt = folder / "dbt"
    dbt.mkdir()
    for name in ("dbt_project.yml", "profiles.yml"):
        shutil.copy(DBT_PROJECT / name, dbt)
    for name, text in FILES.items():
        written = text
        for old, new in BY_HOUR.get(name, {}).items() if is_by_hour else ():
            written = written.replace(old, new)
        (dbt / name).parent.mkdir(parents=True, exist_ok=True)
        (dbt / name).write_text(written, encoding="utf-8")
    prepare_manifest(dbt)


def declared(file: Path, threads: int, days: Mapping[str, str] = SPAN) -> Declared:
    """Return the shop's declarations."""
    model = {
        "name": "returns", "description": "Will this order come back?", "task": "binary", "days": days,
        "features": {
            "table": "order_features", "key": ["order_id"], "event_time": "ordered_at",
            "prediction_time": "prediction_at",
        },
        "labels": {"table": "order_outcomes", "target": "is_returned", "known_time": "known_at", "maturity_days": 1},
        "split": {"validation_days": 5, "test_days": 5},
        "importances": {"rows": 1000, "folds": 2},
        "tuning": {"trials": 2, "max_rounds": 100, "early_stopping_rounds": 5},
        "training": {"threads": threads},
        "gate": {"min_rows": 50},
        "drift": {"min_rows": 20},
        "leak_test": {"samples": 0},
    }  # fmt: skip
    raw = {"days": days, "tables": {"orders": {"file": str(file), "partition_by": {"column": "ordered_at"}}}}
    return Declared(
        models=(ModelDeclaration.model_validate(model),),
        raw=(RawDeclaration.model_validate(raw),),
        tables=(TablesDeclaration.model_validate({"days": days}),),
    )


def main(folder: Path, threads: int) -> None:
    """Run the whole flow and print what it made."""
    dbt = folder / "dbt"
    lake = LakeResource(url=str(folder / f"lake-{threads}"))
    whole = declared(folder / "orders.csv", threads)
    with nothing_rendered(), project(lake, whole, manifest=read_manifest(dbt), project_dir=dbt) as run:
        run.run()
        opened = lake.connect()
        assets = sorted(key.to_user_string() for key in run.defs.resolve_asset_graph().get_all_asset_keys())
        found = {str(ref.asset): {day: it.version for day, it in opened.newest(asset).items()}
                 for asset in assets for ref in [*opened.newest(asset).values()][:1]}  # fmt: skip
    print(json.dumps(found))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
