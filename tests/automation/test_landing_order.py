"""Days that land late and in another order, through the sensor and dbt: a table that looks two days back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from ml_assets.adapters.dagster import RUN_KEY_TAG
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.updates import tick
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.stages.raw import raw_tables
from ml_assets.stages.tables import tables
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest
from ml_assets.warehouse.warehouse import Warehouse
from tests.builders import put
from tests.event_logs import ephemeral_instance
from tests.stages.shop_dbt import FILES, dbt_project, orders

FIRST = date(2024, 1, 1)
LANDED = tuple(f"2024-01-0{n}" for n in range(1, 5))
NAMES = ("orders", "totals", "recent")
RECENT = {
    "models/_recent.yml": """
models:
  - name: recent
    config: {meta: {key: [day], look_back_days: {orders: 2}}}
    columns:
      - {name: day, data_type: date}
      - {name: orders, data_type: bigint}
""",
    "models/recent.sql": """
select today.day, cast(count(*) as bigint) as orders
from (
    select distinct day from {{ ref('orders') }}
    where day between {{ ml_assets.first_day() }} and {{ ml_assets.last_day() }}
) as today
join {{ ref('orders') }} as past
    on past.day between today.day - 2 and today.day
    and past.day between {{ ml_assets.look_back_first_day(2) }} and {{ ml_assets.last_day() }}
group by today.day
""",
}


@dataclass
class Shop:
    """The shop's tables over a lake, and the sensor that keeps them up to date."""

    project: Path
    root: Path
    instance: dg.DagsterInstance
    cursor: str | None = None
    reason: str = ""
    runs: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        manifest, lake = read_manifest(self.project), LakeResource(url=str(self.root))
        contracts = read_contracts(manifest, self.project)
        sources = {"orders": {"files": f"{self.root}/{{day}}.csv"}, "shops": {"file": f"{self.root}/shops.csv"}}
        raw = RawDeclaration.model_validate({"days": {"first": FIRST, "last": "2030-12-31"}, "tables": sources})
        declared = TablesDeclaration(days=Days(first=FIRST, last=date(2030, 12, 31)))
        self.declared = Declared(raw=(raw,), tables=(declared,))
        self.defs = dg.Definitions(
            [*raw_tables(raw, contracts), *tables(declared, manifest, contracts)],
            resources={
                "ml_assets_warehouse": Warehouse(lake=lake, project_dir=str(self.project)),
                "ml_assets_io_manager": LakeIOManager(lake=lake),
                "ml_assets_lake": lake,
            },
            executor=dg.in_process_executor,
        )
        self.lake: Lake = lake.connect()
        self.alerts = Alerts(lake=lake)
        put(self.lake, pl.DataFrame({"shop": ["a"]}), asset="raw/shops")

    def land(self, day: str) -> None:
        """Put a day's orders into the lake: as many as the day's number."""
        number = int(day[-2:])
        rows = [(10 * number + place, "a", 1.0) for place in range(number)]
        put(self.lake, orders(*rows, day=day), asset="raw/orders", partition=day)
        self.instance.report_runless_asset_event(dg.AssetMaterialization(["raw", "orders"], partition=day))

    def settle(self, *, launches: bool = True) -> None:
        """Tick and run the requests until there are none; a crashing daemon stores its cursor and launches none."""
        for _ in range(8):
            context = dg.build_sensor_context(
                instance=self.instance, repository_def=self.defs.get_repository_def(), cursor=self.cursor
            )
            found = tick(context, self.declared, self.lake, self.alerts, over="2029-01-01")
            self.cursor = found.cursor
            self.reason = str(found.skip_reason.skip_message) if found.skip_reason else ""
            if not found.run_requests or not launches:
                return
            for request in found.run_requests:
                self.run(request)
        raise AssertionError(f"it never ends: {self.runs}")

    def run(self, request: dg.RunRequest) -> None:
        done = self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[*(request.asset_selection or ())],
            tags={**request.tags, RUN_KEY_TAG: str(request.run_key)},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert done.success
        self.runs.append(str(request.run_key))

    def versions(self) -> dict[str, dict[str, str]]:
        found = {name: self.lake.newest(f"tables/{name}", LANDED) for name in NAMES}
        return {name: {day: ref.version for day, ref in refs.items()} for name, refs in found.items()}

    def recent(self) -> dict[str, int]:
        """Return the orders of the three days up to each day, as the table has them."""
        refs = self.lake.newest("tables/recent", LANDED)
        return {day: self.lake.scan([ref]).collect()["orders"].item() for day, ref in refs.items()}


@pytest.fixture(scope="module")
def shop_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dbt_project(tmp_path_factory.mktemp("project"), {**FILES, **RECENT})


@pytest.fixture
def instances() -> Iterator[Sequence[dg.DagsterInstance]]:
    with ephemeral_instance() as one, ephemeral_instance() as other:
        yield one, other


def test_a_dbt_table_with_a_look_back_does_not_depend_on_the_order_in_which_days_land(
    shop_project: Path, tmp_path: Path, instances: Sequence[dg.DagsterInstance]
) -> None:
    """Cases 12 and 13: days 2 and 3 come after day 4, and the declared days go on for years."""
    in_order, late = (Shop(shop_project, tmp_path / str(n), one) for n, one in enumerate(instances))
    for day in LANDED:
        in_order.land(day)
        in_order.settle()

    late.land(LANDED[0])
    late.land(LANDED[3])
    late.settle()
    assert {LANDED[0]: 1} == late.recent()  # day 4 would be 4 alone over the gap
    missing = "raw/orders of 2024-01-02 to 2024-01-03, which is missing"
    assert f"tables (2024-01-02 to 2024-01-04): waits for {missing}" in late.reason
    late.land(LANDED[2])
    late.settle(launches=False)
    late.cursor = None
    late.settle()
    late.land(LANDED[1])
    late.settle(launches=False)
    late.settle()

    assert {LANDED[0]: 1, LANDED[1]: 3, LANDED[2]: 6, LANDED[3]: 9} == late.recent()  # 1, 1 + 2, 1 + 2 + 3, 2 + 3 + 4
    assert in_order.versions() == late.versions()
    assert len(LANDED) == len(late.versions()["recent"])
