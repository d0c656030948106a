"""Shared by the tests of the alerts: assets that fail, a daemon that ticks, decisions and requests to alert.

Fixtures stay out; see `tests.automation.conftest`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from ml_assets.alerts.alert import KINDS, Alert
from ml_assets.alerts.resource import Alerts
from ml_assets.automation.alerts import alerts_sensor
from ml_assets.contracts.decisions import Promotion, Retraining
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.retraining_log import RetrainingLog
from ml_assets.lake.store import Lake
from ml_assets.names import MANAGED
from tests.builders import promotion

MODELS = ("flight_delay", "flight_minutes")
DECLARED = Declared(models=tuple(ModelDeclaration.model_construct(name=name) for name in MODELS))


@dataclass
class Heard:
    """What the log channel got, alert by alert; two daemons share it."""

    alerts: list[Alert] = field(default_factory=list)


@dg.asset(retry_policy=None, tags=dict([MANAGED]))
def orders() -> None:
    raise ValueError("the till is empty. Fill it.\nAt once.")


@dg.asset(
    key=["shop", "sales"],
    tags=dict([MANAGED]),
    check_specs=[dg.AssetCheckSpec("sold", asset=["shop", "sales"], blocking=True)],
)
def sales() -> Iterator[Any]:
    yield dg.AssetCheckResult(check_name="sold", passed=False, description="3 of 10 rows were not sold.")
    yield dg.Output(None)


@dg.asset(
    key=["shop", "stock"],
    tags=dict([MANAGED]),
    freshness_policy=dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1)),
)
def stock() -> None: ...


DEFS = dg.Definitions(assets=[orders, sales, stock])
NOTHING = dg.Definitions()


@dataclass
class Daemon:
    """What ticks the sensor, with a cursor and an instance."""

    instance: dg.DagsterInstance
    lake: Lake
    cursor: str | None = None
    defs: dg.Definitions = field(default_factory=lambda: DEFS)
    at: datetime | None = None

    def tick(self) -> str:
        resource = LakeResource(url=self.lake.url)
        clock = None if self.at is None else lambda: self.at
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.defs,
            resources={"ml_assets_alerts": Alerts(lake=resource, kinds={"log": [*KINDS]}), "ml_assets_lake": resource},
        ) as context:  # fmt: skip
            result = alerts_sensor(DECLARED, clock=clock).evaluate_tick(context)
        self.cursor = result.cursor
        assert result.skip_message is not None
        return result.skip_message

    def run(self, *assets: dg.AssetsDefinition, **tags: str) -> str:
        done = dg.materialize([*assets], instance=self.instance, raise_on_error=False, tags=tags)
        return done.run_id


def decide(lake: Lake, action: str, *, model: str = MODELS[0], at: datetime | None = None) -> Promotion:
    log = PromotionLog(lake, model)
    number = len(log.entries()) + 1
    entry = promotion(number, model=model).model_copy(
        update={"action": action, "decided_at": at or datetime.now(tz=UTC), "challenger": "c" * 32}
    )
    return log.append(entry, number=number)


def ask(lake: Lake, day: int, *, model: str = MODELS[0], number: int = 1, at: datetime | None = None) -> Retraining:
    """Record a requested retraining, as the sensors do."""
    record = Retraining(
        model=model, as_of=date(2013, 3, day), number=number, cause="drift", sentence="2 of 3 days are over.",
        figures={"days over": 2.0}, champion="a" * 32, requested_at=at or datetime.now(tz=UTC), requested_by="drift",
    )  # fmt: skip
    assert RetrainingLog(lake, model).claim(record)
    return record
