"""The raw table `orders` of a shop, landed again and again into one lake: from one file, or from files by day.

Not here: expectations, which are in the tests.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.periods import Grain
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.stages.raw import raw_tables

FIRST, SECOND, LAST = "2024-01-01", "2024-01-02", "2024-01-03"
SHOPS = TableContract("raw/shops", (Column("shop", pl.String()),), "Shops.", where="shops.yml")
RECEIVED, GONE = Column("received_at", pl.Datetime("us")), Column("gone_at", pl.Datetime("us"))


def orders_of(*columns: Column, **fields: Any) -> TableContract:
    """Return a contract of the table."""
    return TableContract("raw/orders", columns, where="_sources.yml", **fields)


ORDERS = replace(
    orders_of(Column("day", pl.Date(), "When."), Column("n", pl.Int64(), "How many.", minimum=0)), description="Orders."
)
VERSIONED = orders_of(
    Column("day", pl.Date(), is_nullable=False),
    Column("order", pl.Int64(), is_nullable=False),
    Column("n", pl.Int64(), minimum=0),
    Column("ready_at", pl.Datetime("us"), expression="cast(day as timestamp) + n * interval '1 hour'"),
    RECEIVED,
    GONE,
    key=("order", "received_at"),
)
ROWS = "day,n\n2024-01-02,1\n2024-01-01,2\n2024-01-02,3\n2023-12-31,4\n"


class Landings:
    """The table, by default from one file, with some fields of it declared."""

    def __init__(
        self, folder: Path, instance: dg.DagsterInstance, contract: TableContract, *, timezone: str = "UTC",
        grain: Grain = "day", **table: Any,
    ) -> None:  # fmt: skip
        self.folder = folder / "in"
        self.folder.mkdir(exist_ok=True)
        self.file = self.folder / "orders.csv"
        source = {} if "files" in table else {"file": str(self.file), "partition_by": {"column": "day"}}
        declared = {
            "owner": "team:shop",
            "days": {
                "first": FIRST,
                "last": "2024-01-31" if grain == "day" else "2024-12-31",
                "timezone": timezone,
                "grain": grain,
            },
            "tables": {"orders": {**source, **table}},
        }
        self.assets = raw_tables(RawDeclaration.model_validate(declared), {"raw/orders": contract, "raw/shops": SHOPS})
        self.lake = Lake(str(folder / "lake"))
        self.instance = instance

    @property
    def resources(self) -> Mapping[str, Any]:
        lake = LakeResource(url=self.lake.url)
        return {"ml_assets_lake": lake, "ml_assets_io_manager": LakeIOManager(lake=lake)}

    def write(self, name: str, *numbers: int, text: str = "") -> Path:
        """Write a file of a name that begins with its day: numbers of that day, or a text."""
        path = self.folder / name
        path.write_text(text or "day,n\n" + "".join(f"{name[:10]},{n}\n" for n in numbers))
        return path

    def land_days(self, first: str, last: str = "", **config: Any) -> dg.ExecuteInProcessResult:
        """Land the days of a range, or one day; the whole table where both are empty."""
        days = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last or first}
        return dg.materialize(
            self.assets,
            instance=self.instance,
            resources=self.resources,
            tags=days if first else {},
            run_config={
                "ops": {"raw__orders": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )

    def land(self, text: str, *, first: str = FIRST, at: str = "", **config: Any) -> dg.ExecuteInProcessResult:
        """Land the one file with this text, from a day to the last, as received at a moment."""
        self.file.write_text(text)
        return self.land_days(first, first and LAST, **config, **({"received_at": at} if at else {}))

    def frame(self, day: str, asset: str = "raw/orders") -> pl.DataFrame:
        """Return what a reader of the lake sees of a day."""
        found: pl.DataFrame = self.lake.get(self.lake.find(asset, day or None), pl.DataFrame)
        return found

    def rows(self, day: str, *columns: str, asset: str = "raw/orders") -> list[Any]:
        """Return some columns of a day: tuples, or the values of a single column."""
        found = self.frame(day, asset).select(columns or "n")
        return found.to_series().to_list() if found.width == 1 else found.rows()

    def quarantined(self, day: str, *columns: str) -> list[Any]:
        return self.rows(day, *columns, asset="raw/orders__quarantine")

    def manifest(self, day: str) -> Any:
        return self.lake.manifest(self.lake.find("raw/orders", day))

    def warnings(self, result: dg.ExecuteInProcessResult) -> list[str]:
        """Return the warnings that a run logged."""
        return [event.message for event in self.instance.all_logs(result.run_id) if event.level == 30]
