"""Checks the age of the data: how far the newest day of an asset, or the champion's as-of day, is behind.

Not here: the time of the last run (see Dagster's freshness policies).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import dagster as dg

from ml_assets.contracts.days import yesterday
from ml_assets.declaration.parts import Days
from ml_assets.declaration.reading import Declared
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.quarantine import QUARANTINE
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.models.plan import TABLES

CHECK: Final = "data_is_fresh"
_SERVING: Final = ("model", "champion")


@dataclass(frozen=True)
class AgeLimit:
    """The limit on the age of an asset's data.

    Attributes:
        days: the days it can have.
        most: how many days its newest day may be behind the newest possible day.
        model: the model whose as-of day counts instead; '' if the asset has days of its own.
    """

    days: Days
    most: int
    model: str = ""

    def behind(self, newest: str, over: date) -> int:
        """Return how many days the newest day is behind the newest possible one; for '', all days and one more.

        Of a period, the last day counts. `newest` is a partition key, or a model's as-of day.
        """
        possible = self.days.calendar.last_day(self.days.calendar.newest_until(over))
        last = possible if self.days.last is None else min(possible, self.days.last)
        return (last - self.since(newest)).days

    def since(self, newest: str) -> date:
        """Return the last day that the data contains; the day before the first one for ''."""
        if not newest:
            return self.days.first - timedelta(days=1)
        return date.fromisoformat(newest) if self.model else self.days.calendar.newest_day(newest)


def age_limits(declared: Declared, by_day: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, AgeLimit]:
    """Return the declared limits.

    Args:
        declared: the declarations.
        by_day: the assets that have days.
    """
    found: dict[dg.AssetKey, AgeLimit] = {}
    tables = [key for key in by_day if key.path[0] == TABLES and not key.path[-1].endswith(QUARANTINE)]
    for key in tables:
        project = declared.tables_with(key.path[-1])
        if project is not None and project.freshness is not None and project.freshness.data_lag_days is not None:
            found[key] = AgeLimit(project.days, project.freshness.data_lag_days)
    landed = {key for key in by_day if key.path[0] == "raw"}
    for raw in declared.raw:
        if raw.freshness is not None and raw.freshness.data_lag_days is not None:
            keys = [key for name in raw.tables if (key := dg.AssetKey(["raw", name])) in landed]
            found |= {key: AgeLimit(raw.days, raw.freshness.data_lag_days) for key in keys}
    has_days = set(by_day)
    for model in declared.models:
        for stage, freshness in model.freshness.items():
            key = dg.AssetKey([model.name, stage])
            if freshness.data_lag_days is not None and (key in has_days or stage in _SERVING):
                owner = "" if key in has_days else model.name
                found[key] = AgeLimit(model.days, freshness.data_lag_days, owner)
    return found


def newest_day_of(lake: Lake, key: dg.AssetKey, limit: AgeLimit) -> str:
    """Return the newest day of an asset, or the champion's as-of day; '' if there is none."""
    if not limit.model:
        return next(reversed(limit.days.calendar.current(lake.partitions(key.to_user_string()))), "")
    last = PromotionLog(lake, limit.model).last()
    return "" if last is None or last.champion is None else str(as_of(lake, limit.model, last.champion))


def as_of(lake: Lake, model: str, version: str) -> date:
    """Return the as-of day of a model."""
    manifest = lake.manifest(ArtifactRef(asset=f"{model}/model", version=version))
    trained_on = next(ref for ref in manifest.inputs if ref.asset == f"{model}/training_set")
    return date.fromisoformat(str(lake.manifest(trained_on).parameters["as_of"]))


def age_result(key: dg.AssetKey, limit: AgeLimit, newest: str, over: date) -> dict[str, Any]:
    """Return the fields that the check's results in a run and outside of one share."""
    behind = limit.behind(newest, over)
    metadata: Mapping[str, Any] = {"newest day": newest or "none", "days behind": behind, "days allowed": limit.most}
    what = f"as of {newest}" if limit.model and newest else f"newest day {newest}" if newest else "there is no data"
    return {
        "asset_key": key,
        "check_name": CHECK,
        "passed": behind <= limit.most,
        "severity": dg.AssetCheckSeverity.WARN,
        "metadata": metadata,
        "description": f"{what}, {behind} days behind; at most {limit.most} are allowed",
    }


def data_age_checks(declared: Declared, assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetChecksDefinition]:
    """Return the check of each asset with a declared data age; `ml_assets_updates` evaluates it as days pass."""
    by_day = [spec.key for it in assets for spec in it.specs if spec.partitions_def is not None]
    return [_check(key, limit) for key, limit in age_limits(declared, by_day).items()]


def _check(key: dg.AssetKey, limit: AgeLimit) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=key, name=CHECK, description=f"Its data is at most {limit.most} days behind the newest possible day."
    )
    def data_is_fresh(ml_assets_lake: LakeResource) -> dg.AssetCheckResult:
        newest = newest_day_of(ml_assets_lake.connect(), key, limit)
        return dg.AssetCheckResult(
            **age_result(key, limit, newest, yesterday(datetime.now(tz=UTC), limit.days.timezone))
        )

    return data_is_fresh
