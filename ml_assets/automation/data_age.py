"""Keeps the check of the age of the data up to date as days pass, outside of any run.

What counts as old stays out; see `ml_assets.stages.checks.data_age`.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, timedelta

import dagster as dg

from ml_assets.alerts.resource import Alert
from ml_assets.contracts.days import end_of
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.store import Lake
from ml_assets.stages.checks.data_age import AgeLimit, age_result, newest_day


@dataclass(frozen=True)
class Ages:
    """What was told of each asset whose data has a declared age.

    Attributes:
        known: by asset, its newest day, then how many days it lies behind where that is too many.
        old: the assets whose data is too old.
        lines: what to say of them.
        alerts: those of assets whose data has become too old since the last look.
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
    """Compare each asset's newest day with what is allowed, and report the check where its answer is another.

    Args:
        instance: where the check is reported.
        lake: where the newest day is looked up of what is not known yet.
        limits: by asset, what is allowed.
        changed: what was materialized since.
        before: what was known, as in `Ages.known`.
        yesterday: the newest day there can be.
        is_new_day: whether it was another at the last look: nothing else tells of a promotion by a person.
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
                newest = newest_day(lake, key, limit)
            except (CorruptArtifactError, MissingArtifactError) as error:
                lines.append(f"the age of {name} is not judged: {error}")
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
            old[key] = f"the data of {name} is old: {found['description']}."
            if not behind:
                alerts.append(data_is_old(key, limit, newest, old[key]))
    return Ages(known, frozenset(old), (*lines, *old.values()), tuple(alerts))


def data_is_old(key: dg.AssetKey, limit: AgeLimit, newest: str, said: str) -> Alert:
    """Return the alert of an asset whose data has become too old: one for each newest day that it stopped at."""
    name = key.to_user_string()
    since = date.fromisoformat(newest) if newest else limit.days.first - timedelta(days=1)
    # A day can be there when it is over: the newest that is allowed to lack counts from its end.
    at = end_of(since + timedelta(days=limit.most + 1), limit.days.timezone).replace(tzinfo=UTC)
    said = f"{said[0].upper()}{said[1:]}"
    wait = "What asks for a retraining and what holds it back" if limit.model else "What it waits for"
    return Alert(
        kind="freshness_missed",
        subject=name,
        title=said.removesuffix("."),
        body=f"{said} {wait}: ml-assets explain {limit.model or 'MODEL'}",
        key=f"age/{name}/{newest or 'none'}",
        at=at,
        facts={"newest day": newest or "none", "days allowed": limit.most},
        link=f"/assets/{'/'.join(key.path)}",
    )
