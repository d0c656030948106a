"""Reports the check of data age as days pass, without a run.

Not here: how old data may be (see `ml_assets.stages.checks.data_age`).
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, timedelta

import dagster as dg

from ml_assets.alerts.alert import Alert
from ml_assets.contracts.days import end_of
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.store import Lake
from ml_assets.stages.checks.data_age import AgeLimit, age_result, newest_day_of


@dataclass(frozen=True)
class Ages:
    """The state of each asset that declares a data age.

    Attributes:
        known: by asset, its newest day, then the number of days behind if that is too many.
        old: the assets whose data is too old.
        lines: a sentence for each of them.
        alerts: one for each asset whose data has become too old since the last tick.
    """

    known: dict[str, str]
    old: frozenset[dg.AssetKey]
    lines: tuple[str, ...]
    alerts: tuple[Alert, ...]


def look_at_ages(
    instance: dg.DagsterInstance,
    lake: Lake,
    limits: Mapping[dg.AssetKey, AgeLimit],
    *,
    changed: Mapping[dg.AssetKey, AbstractSet[str]],
    before: Mapping[str, str],
    yesterday: date,
    is_new_day: bool,
) -> Ages:
    """Compare the newest day of each asset with its limit, and report the check if its result has changed.

    Args:
        instance: receives the check results.
        lake: read for assets whose newest day is not known yet.
        limits: by asset, its limit.
        changed: what was materialized since the last tick.
        before: `Ages.known` of the last tick.
        yesterday: the newest possible day.
        is_new_day: whether the date has changed since the last tick. A promotion by a person causes no event.
    """
    known: dict[str, str] = {}
    old = {}
    alerts = []
    lines = []
    for key, limit in limits.items():
        name = key.to_user_string()
        newest, _, behind = before.get(name, "").partition(" ")
        champion = dg.AssetKey([limit.model, "champion"])
        if name not in before or (limit.model and (is_new_day or champion in changed)):
            try:
                newest = newest_day_of(lake, key, limit)
            except (CorruptArtifactError, MissingArtifactError) as error:
                lines.append(f"the data age of {name} cannot be checked: {error}")
                known |= {name: before[name]} if name in before else {}
                continue
        elif not limit.model:
            newest = max([newest, *changed.get(key, ())])
        found = age_result(key, limit, newest, yesterday)
        now = "" if found["passed"] else str(limit.behind(newest, yesterday))
        if name not in before or now != behind:
            instance.report_runless_asset_event(dg.AssetCheckEvaluation(**found))
        known[name] = f"{newest} {now}"
        if now:
            old[key] = f"the data of {name} is too old: {found['description']}."
            if not behind:
                alerts.append(data_is_old(key, limit, newest, old[key]))
    return Ages(known, frozenset(old), (*lines, *old.values()), tuple(alerts))


def data_is_old(key: dg.AssetKey, limit: AgeLimit, newest: str, description: str) -> Alert:
    """Return the alert for an asset whose data has become too old. Each newest day causes one alert."""
    name = key.to_user_string()
    # A period can be complete only after its end, so the limit is exceeded at the end of one.
    calendar = limit.days.calendar
    late = calendar.last_key(limit.since(newest) + timedelta(days=limit.most + 1))
    at = end_of(calendar.last_day(late), calendar.timezone).replace(tzinfo=UTC)
    description = f"{description[0].upper()}{description[1:]}"
    wait = "To see what retraining waits for" if limit.model else "To see what it waits for"
    return Alert(
        kind="freshness_missed",
        subject=name,
        title=description.removesuffix("."),
        body=f"{description} {wait}: ml-assets explain {limit.model or 'MODEL'}",
        key=f"age/{name}/{newest or 'none'}",
        occurred_at=at,
        facts={"newest day": newest or "none", "days allowed": limit.most},
        link=f"/assets/{'/'.join(key.path)}",
    )
